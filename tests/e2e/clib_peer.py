# SPDX-License-Identifier: Apache-2.0
"""A server for the C library: files and streams as a real one has them, and what no server should do.

The path of a file, or the command, names what is answered.
"""
import asyncio
import base64
import hashlib
import json
import re
import struct
import threading
import urllib.parse

INFO = {"name": "f", "path": "/f", "type": "file", "mode": 0o644, "uid": 0, "gid": 0, "size": 3, "mtime": 1.5}
CHUNK = 1 << 16
# Whoever reads an endless answer to here reads without a limit.
ENDLESS = 256 << 20


def pattern(n):
    return bytes(range(251)) * (n // 251) + bytes(range(n % 251))


def event(name, data):
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


EXIT = {"exit_code": 3, "success": False, "reason": "exited", "duration_ms": 1.25}
DONE = {"status": "success", "language": "python", "duration_ms": 2}
STREAMS = {
    "plain": [event("started", {"pid": 7}), event("stdout", {"text": "a\n"}), event("stderr", {"text": "e"}),
              event("stdout", {"base64": "/w=="}), event("exit", EXIT)],
    "comments": [b": hello\n\n", event("stdout", {"text": "a"}), b":\n\n", event("newer", {"x": 1}), event("exit", EXIT)],
    "crlf": [b"event: stdout\r\ndata: {\"text\":\r\ndata:  \"a\"}\r\n\r\n", event("exit", EXIT)],
    "nul": [event("stdout", {"text": "a\0b"}), event("exit", EXIT)],
    "killed": [event("exit", {"exit_code": 137, "success": False, "reason": "signal", "signal": 9})],
    "late": [event("exit", {"exit_code": 137, "success": False, "reason": "timeout", "signal": 9, "duration_ms": 1000})],
    "not run": [event("error", {"code": -32003, "message": "Command execution failed: no"})],
    "cut off": [event("stdout", {"text": "a"})],
    "half an event": [event("exit", EXIT)[:-1]],
    "no json": [b"event: stdout\ndata: hello\n\n"],
    "an array": [b"event: stdout\ndata: []\n\n"],
    "no text": [event("stdout", {"x": 1})],
    "bad base64": [event("stdout", {"base64": "!"})],
    "no exit code": [event("exit", {"success": True})],
    "wrong exit code": [event("exit", {"exit_code": "0", "success": True})],
    "huge exit code": [event("exit", {"exit_code": 1 << 40, "success": True})],
    "wrong pid": [event("started", {"pid": "x"})],
    "wrong error": [event("error", {"code": -32003})],
    "long event": [b"data: " + b"x" * (5 << 20) + b"\n\n"],
    "many newlines": [event("stdout", {"text": "\n" * 100000})] * 11 + [event("exit", EXIT)],
    "many lines": [b"data: xxxx\n" * (1 << 20)],
    "deep": [b"event: exit\ndata: " + b"[" * 100000 + b"\n\n"],
}


class Peer:
    """Serves in a thread of its own until close()."""

    def __init__(self):
        self.requests = []  # (method, path, query, headers, body), of those that came whole
        self.sent = 0  # of endless answers
        self.gone = threading.Event()  # a client went away during one
        self.waiting = threading.Event()  # a call that is never answered has come
        self.released = threading.Event()  # whoever reads nothing may do so again
        self.loop = asyncio.new_event_loop()
        ready = threading.Event()
        self.thread = threading.Thread(target=self.main, args=(ready,))
        self.thread.start()
        ready.wait()

    def main(self, ready):
        async def start():
            self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0, limit=1 << 20)
            self.url = "http://127.0.0.1:%d" % self.server.sockets[0].getsockname()[1]
            self.ended = asyncio.Event()
            ready.set()
            await self.ended.wait()
            self.server.close()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

        self.loop.run_until_complete(start())
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    def close(self):
        self.released.set()
        self.loop.call_soon_threadsafe(self.ended.set)
        self.thread.join()

    # ---- HTTP ----

    async def body(self, headers, reader):
        if headers.get("transfer-encoding") != "chunked":
            return await reader.readexactly(int(headers.get("content-length", 0)))
        whole = b""
        while size := int(await reader.readline(), 16):
            whole += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
        return whole

    async def serve(self, reader, writer):
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = {k.lower(): v.strip() for k, _, v in (h.partition(":") for h in head[1:])}
                method, target, _ = head[0].split(" ")
                path, _, query = target.partition("?")
                query = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
                body = await self.body(headers, reader)
                self.requests.append((method, path, query, headers, body))
                if not await self.answer(method, path, query, body, reader, writer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def send(self, writer, body, status="200 OK", kind="application/json"):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        writer.write(f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        return True

    async def endless(self, writer, head, piece):
        """Sends until nobody listens, and no more than ENDLESS."""
        writer.write(head)
        try:
            while self.sent < ENDLESS:
                writer.write(piece)
                self.sent += len(piece)
                await writer.drain()
        except ConnectionError:
            self.gone.set()
        return False

    async def never(self, reader):
        self.waiting.set()
        try:
            await reader.read(1)
        finally:
            self.gone.set()
        return False

    async def answer(self, method, path, query, body, reader, writer):
        """Return: may the connection be used again?"""
        path = path.removeprefix("/prefix")
        if path == "/api/v1/rpc":
            return await self.rpc(json.loads(body), reader, writer)
        name = re.fullmatch("/api/v1/sandboxes/([^/]+)/(files|exec|repl)", path)
        assert name, path
        if method == "GET" and name[2] == "exec":
            return await self.socket(urllib.parse.unquote(name[1]), self.requests[-1][3], reader, writer)
        if name[2] == "files":
            return await getattr(self, method.lower())(query, body, reader, writer)
        return await self.stream(json.loads(body), reader, writer)

    # ---- JSON-RPC: the name of the sandbox, or the path, says what is answered ----

    async def rpc(self, q, reader, writer):
        p, method = q["params"], q["method"]
        path = p.get("path")
        if method == "sandbox.start" or method == "sandbox.restart":
            return await self.send(writer, {"result": "started successfully"})
        if method == "sandbox.stop":
            return await self.send(writer, {"result": "stopped successfully"})
        if method == "sandbox.repl.run":
            return await self.hostile(p["code"], writer)
        if method == "sandbox.logs":
            return await self.send(writer, {"result": {"source": p.get("source", "console"), "lines": ["a", "b"]}})
        if method in ("sandbox.get", "sandbox.keep_alive"):
            return await self.send(writer, {"result": {
                "name": p["sandbox"], "namespace": "default", "image": "i", "state": "running", "started_at": "t",
                "memory": 512, "idle_timeout": p.get("idle_timeout", 5)}})
        if path == "/missing":
            return await self.send(writer, {"error": {"code": -32007, "message": "no such file", "data": {
                "errno": "ENOENT", "path": path, "code": 4001}}}, "404 Not Found")
        if path == "/never":
            return await self.never(reader)
        if method == "sandbox.fs.read":
            content = {"/bytes": "AP8=", "/wrong": "A", "/number": 5}[path]
            return await self.send(writer, {"result": {"content": content, "encoding": "base64", "size": 2}})
        if method == "sandbox.fs.list":
            wrong = {"/list": {}, "/mode": {"mode": 0o10000}, "/uid": {"uid": -1}, "/size": {"size": "3"},
                     "/name": {"name": None}, "/time": {"mtime": None}, "/target": {"target": 1}}[path]
            link = dict(INFO, name="l", type="symlink", target="f")
            return await self.send(writer, {"result": {"entries": [dict(INFO, **wrong), link]}})
        return await self.send(writer, {"result": INFO})

    async def hostile(self, what, writer):
        head = b"HTTP/1.1 200 OK\r\n"
        if what == "endless body":
            return await self.endless(writer, head + b"Transfer-Encoding: chunked\r\n\r\n", b"%x\r\n" % CHUNK + b" " * CHUNK + b"\r\n")
        if what == "endless head":
            return await self.endless(writer, head, b"X: " + b"y" * 1000 + b"\r\n")
        if what == "endless header":
            return await self.endless(writer, head + b"X: ", b"y" * CHUNK)
        if what == "endless trailer":
            return await self.endless(writer, head + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: " + b"y" * 1000 + b"\r\n")
        if what == "endless interim":
            return await self.endless(writer, b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)
        if what == "endless chunk size":
            return await self.endless(writer, head + b"Transfer-Encoding: chunked\r\n\r\n", b"0" * CHUNK)
        body = {
            "deep": b'{"result":' + b"[" * 100000 + b"]" * 100000 + b"}",
            "infinite": b'{"result":{"status":"success","language":"x","output":[],"duration_ms":1e999}}',
            "big integer": b'{"result":{"status":"success","language":"x","output":[],"exit_code":99999999999999999999}}',
            "exit code": b'{"result":{"status":"success","language":"x","output":[],"exit_code":99999999999}}',
            "lone surrogate": b'{"result":"\\ud800"}',
            "not a line": b'{"result":{"status":"success","language":"x","output":[5]}}',
            "wrong stream": b'{"result":{"status":"success","language":"x","output":[{"stream":1,"text":"a"}]}}',
            "nothing": b"",
            "many lines": json.dumps({"result": {"status": "success", "language": "x", "output": [
                {"stream": "stdout", "text": ""}] * 300000}}).encode(),
        }[what]
        if what == "nothing":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n")
            await writer.drain()
            return False
        return await self.send(writer, body)

    # ---- files ----

    async def get(self, query, body, reader, writer):
        path = query["path"]
        if path.startswith("/bytes/"):
            data = pattern(int(path[7:]))
            start = int(query.get("offset", 0))
            end = start + int(query["length"]) if "length" in query else len(data)
            return await self.send(writer, data[start:end], kind="application/octet-stream")
        if path == "/cut":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nabc")
            await writer.drain()
            return False
        if path == "/endless":
            return await self.endless(writer, b"HTTP/1.1 200 OK\r\n\r\n", b"x" * CHUNK)
        if path == "/endless error":
            return await self.endless(writer, b"HTTP/1.1 500 No\r\n\r\n", b"x" * CHUNK)
        if path == "/never":
            return await self.never(reader)
        if path == "/plain":
            return await self.send(writer, {"error": "Access denied", "code": 3001}, "403 Forbidden")
        return await self.send(writer, {"error": {"code": -32007, "message": "no such file", "data": {
            "errno": "ENOENT", "path": path, "code": 4001}}}, "404 Not Found")

    async def put(self, query, body, reader, writer):
        if query["path"] == "/no json":
            return await self.send(writer, b"thanks")
        if query["path"] == "/full":
            return await self.send(writer, {"error": {"code": -32007, "message": "no space", "data": {
                "errno": "ENOSPC", "path": "/full", "code": 2001}}}, "400 Bad Request")
        return await self.send(writer, dict(INFO, size=len(body), mode=int(query.get("mode", "0644"), 8)))

    # ---- streams ----

    async def stream(self, q, reader, writer):
        what = q.get("command", q.get("code"))
        if what == "refused":
            return await self.send(writer, {"error": {"code": -32001, "message": "not running"}}, "404 Not Found")
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        if what == "endless":
            piece = event("stdout", {"text": "y" * 1000})
            return await self.endless(writer, head, b"%x\r\n%s\r\n" % (len(piece), piece))
        writer.write(head)
        if what == "never":
            piece = event("started", {"pid": 1})
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            return await self.never(reader)
        if what == "echo":
            seen = {"body": q}
            pieces = [event("stdout", {"text": json.dumps(seen)}), event("exit", EXIT)]
        elif what == "repl":
            pieces = [event("stdout", {"text": "hi\n"}), event("done", DONE)]
        elif what == "bytes":  # each in a chunk of its own
            pieces = [bytes([b]) for b in b"".join(STREAMS["plain"])]
        else:
            pieces = STREAMS[what]
        for piece in pieces:
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True

    # ---- WebSockets: the name of the sandbox says how the handshake is answered, the command what follows ----

    @staticmethod
    def frame(opcode, payload=b""):
        n = len(payload)
        size = bytes([n]) if n < 126 else struct.pack("!BH", 126, n) if n < 65536 else struct.pack("!BQ", 127, n)
        return bytes([0x80 | opcode]) + size + payload

    def said(self, kind, **members):
        return self.frame(1, json.dumps({"type": kind, **members}).encode())

    async def receive(self, reader):
        """Return: opcode and payload of a frame, which is masked and whole."""
        first, n = await reader.readexactly(2)
        assert first & 0x80 and n & 0x80
        n &= 0x7F
        if n > 125:
            n = int.from_bytes(await reader.readexactly(2 if n == 126 else 8), "big")
        mask = await reader.readexactly(4)
        data = await reader.readexactly(n)
        return first & 15, bytes(b ^ mask[i % 4] for i, b in enumerate(data))

    async def socket(self, sandbox, headers, reader, writer):
        if sandbox == "endless head":
            return await self.endless(writer, b"HTTP/1.1 101 x\r\n", b"X: " + b"y" * 1000 + b"\r\n")
        if sandbox == "endless header":
            return await self.endless(writer, b"HTTP/1.1 101 x\r\nX: ", b"y" * CHUNK)
        if sandbox == "endless interim":
            return await self.endless(writer, b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)
        if sandbox == "endless body":
            return await self.endless(writer, b"HTTP/1.1 500 x\r\n\r\n", b"y" * CHUNK)
        if sandbox == "silent":
            return await self.never(reader)
        if sandbox == "gone":
            return False
        if sandbox == "chunks":
            body = json.dumps({"error": "too many", "code": 5003}).encode()
            writer.write(b"HTTP/1.1 429 x\r\nTransfer-Encoding: chunked\r\n\r\n")
            for byte in body:
                writer.write(b"1\r\n%c\r\n" % byte)
            writer.write(b"0\r\n\r\n")
            await writer.drain()
            return True
        key = headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                     b"Sec-WebSocket-Accept: %s\r\n\r\n" % accept.encode())
        await self.process(json.loads((await self.receive(reader))[1]), reader, writer)
        return False

    async def process(self, q, reader, writer):
        what = q["command"]
        begun, end = self.said("started", pid=7), self.said("exit", **EXIT)
        out = b"\1" + b"out"
        if what == "never":
            writer.write(begun)
            await self.never(reader)
        elif what == "silent":
            await self.never(reader)
        elif what == "endless":
            await self.endless(writer, begun, self.frame(2, b"\1" + b"y" * CHUNK))
        elif what == "deaf":
            writer.write(begun + self.frame(2, out))
            self.waiting.set()
            while not self.released.is_set():
                await asyncio.sleep(0.01)
            await self.hear(q, reader, writer)
        elif what == "echo":
            writer.write(begun + self.frame(2, b"\1" + json.dumps(q).encode() + b"\n"))
            await self.hear(q, reader, writer)
        else:
            writer.write({
                "plain": begun + self.frame(2, out) + self.frame(2, b"\2err") + end,
                "output first": self.frame(2, out) + begun + end,
                "exit first": end,
                "long output": begun + b"\x82\x7f" + struct.pack("!Q", (1 << 20) + 1) + b"\1",
                "long text": begun + b"\x81\x7f" + struct.pack("!Q", (1 << 20) + 1) + b"{",
                "deep": begun + self.frame(1, b"[" * 100000),
                "wrong pid": self.said("started", pid="x"),
                "huge exit code": begun + self.said("exit", exit_code=1 << 40, success=False, reason="exited"),
                "wrong error": begun + self.said("error", code=-32003),
                "huge code": begun + self.said("error", code=1 << 40, message="m"),
                "bad close": begun + self.frame(8, b"\x03"),
                "no reason": begun + self.frame(8),
            }[what])
            await writer.drain()
            await reader.read()

    async def hear(self, q, reader, writer):
        """Says on standard error what is said here, until the input ends."""
        size = 0
        try:
            while True:
                opcode, payload = await self.receive(reader)
                if opcode == 2:
                    assert payload[0] == 0
                    size += len(payload) - 1
                elif opcode == 1:
                    o = json.loads(payload)
                    if o["type"] == "eof":
                        break
                    writer.write(self.frame(2, b"\2" + json.dumps(o, sort_keys=True).encode() + b"\n"))
        except asyncio.IncompleteReadError:
            self.gone.set()
            raise
        writer.write(self.frame(2, b"\1%d bytes\n" % size) + self.said("exit", **EXIT))
        await writer.drain()
        await reader.read()
