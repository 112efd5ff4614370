# SPDX-License-Identifier: Apache-2.0
"""A server that misbehaves on request, to see what the SDKs make of it.

`code` of sandbox.repl.run names the fault.  It also answers what is correct but seldom seen
(chunks, an interim response, an answer that ends with the connection).
"""
import asyncio
import json
import re
import sys

from peer_http import http
from peer_streams import Stream, info


def reply(result):
    return http(json.dumps({"jsonrpc": "2.0", "result": result, "id": 1}).encode())


def printed(*lines, **more):
    return {"status": "success", "language": "x", "output": [{"stream": s, "text": t} for s, t in lines], **more}


def failed(code, message, status, data=None):
    error = {"code": code, "message": message, **({"data": data} if data is not None else {})}
    return http(json.dumps({"jsonrpc": "2.0", "error": error, "id": 1}).encode(), status)


HELLO = json.dumps({"jsonrpc": "2.0", "result": printed(("stdout", "hello")), "id": 1}).encode()
CHUNKED = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
# What is sent before the connection is closed.
THEN_CLOSE = {
    "disconnect": b"",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "half a body": b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + HELLO[:20],
    "half a chunk": CHUNKED.encode() + b"40\r\nabc",
    "no last chunk": CHUNKED.encode() + f"{len(HELLO):x}\r\n".encode() + HELLO + b"\r\n",
    "until the end": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + HELLO,
    "old http": b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + HELLO,
    "not http": b"SSH-2.0-OpenSSH_9.2\r\n",
    "bad chunk size": CHUNKED.encode() + b"xyz\r\n",
    "bad length": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
}
# What is sent, and the connection stays.
THEN_STAY = {
    "hello": http(HELLO),
    "interim": b"HTTP/1.1 100 Continue\r\n\r\n" + http(HELLO),
    "says close": http(HELLO, extra="Connection: close\r\n"),
    "html": http(b"<h1>Bad gateway</h1>", "502 Bad Gateway", "text/html"),
    "no json": http(b"hello"),
    "not utf-8": http(b'{"jsonrpc":"2.0","result":"\xff","id":1}'),
    "no result": http(b'{"jsonrpc":"2.0","id":1}'),
    "an array": http(b"[]"),
    "wrong type": reply({"status": 5, "language": "x", "output": []}),
    "no output": reply({"status": "success", "language": "x"}),
    "newer": reply(printed(("stdout", "a"), unknown={"x": 1})),
    "results": reply(printed(results=[
        {"mime": "text/plain", "encoding": "utf-8", "data": "\u00fc\n"},
        {"mime": "image/png", "encoding": "base64", "data": "iVBO"},
        {"mime": "a/b", "encoding": "base64", "data": "", "note": "left out"}])),
    "bad base64": reply(printed(results=[{"mime": "a/b", "encoding": "base64", "data": "e A="}])),
    "bad results": reply(printed(results=[{"mime": "a/b"}])),
    "white space": reply(printed(("stdout", "  a "), ("stdout", " \t"), ("stderr", ""), ("stdout", ""))),
    "blank stderr": reply(printed(("stderr", ""))),
    "other spaces": reply(printed(("stdout", "a\u00a0\u2003\ufeff\u0085\u001f"))),
    "astral": reply(printed(("stdout", "\U0001f40d \u0000 \u2028 e\u0301"))),
    "plain error": http(b'{"error":"Internal server error","code":5002}', "500 Internal Server Error"),
    "plain 401": http(b'{"error":"Invalid or expired token","code":1004}', "401 Unauthorized"),
    "too large": http(b'{"error":"the body is too large","code":null}', "413 Content Too Large"),
    "internal": failed(-32603, "Internal server error: out of memory", "500 Internal Server Error", {"code": 5002}),
    "limit": failed(-32005, "too many sandboxes (limit 3): stop some", "503 Service Unavailable"),
    "failed": failed(-32002, "Sandbox x ended: out of memory", "500 Internal Server Error"),
    "unknown code": failed(-32999, "something new", "500 Internal Server Error"),
    "error in 200": failed(-32603, "strange", "200 OK"),
}


class Peer:
    def __init__(self):
        self.pending = {}  # calls that are never answered, by sandbox
        self.vanished = {}
        self.changed = asyncio.Condition()
        self.stopped = {}
        self.started = {}  # parameters
        self.once = set()  # sandboxes that a connection was closed on
        self.connections = 0

    async def count(self, table, sandbox, n):
        async with self.changed:
            table[sandbox] = table.get(sandbox, 0) + n
            self.changed.notify_all()

    async def at_least_one(self, table, sandbox):
        async with self.changed:
            await self.changed.wait_for(lambda: table.get(sandbox, 0) > 0)

    async def never(self, sandbox, reader):
        await self.count(self.pending, sandbox, 1)
        try:
            await reader.read(1)
        except ConnectionError:
            pass
        await self.count(self.vanished, sandbox, 1)
        return None, True

    async def repl(self, p, headers, reader, writer, connection):
        """Return: bytes to send, and whether to close then."""
        code = p["code"]
        if code in THEN_CLOSE:
            return THEN_CLOSE[code], True
        if code in THEN_STAY:
            return THEN_STAY[code], False
        if code == "closes after":  # without saying so
            return http(HELLO), True
        if code == "once" and p["sandbox"] not in self.once:
            self.once.add(p["sandbox"])  # whoever sends it again gets an answer
            return b"", True
        if code == "chunked":
            chunks = b"".join(b"1;x=y\r\n%c\r\n" % c for c in HELLO)
            return CHUNKED.encode() + chunks + b"0\r\nX-Trailer: 1\r\n\r\n", False
        if code == "drip":
            for byte in http(HELLO):
                writer.write(bytes([byte]))
                await writer.drain()
            return b"", False
        if code == "never":
            return await self.never(p["sandbox"], reader)
        waits = re.fullmatch("(pending|vanished|stopped)( .*)?", code)
        if waits:
            await self.at_least_one(getattr(self, waits[1]), (waits[2] or p["sandbox"]).strip())
            return http(HELLO), False
        if code == "connection":
            return reply(printed(("stdout", str(connection)))), False
        if code == "authorization":
            return reply(printed(("stdout", headers.get("authorization", "none")))), False
        if code == "params":
            return reply(printed(("stdout", json.dumps(self.started[p["sandbox"]], sort_keys=True)))), False
        return reply(printed(("stdout", f"{len(code)} {sum(code.encode())}"))), False

    async def answer(self, q, headers, reader, writer, connection):
        p, method = q["params"], q["method"]
        name = p.get("sandbox", "")
        if method == "sandbox.start":
            self.started[name] = p
            if name.startswith("never-"):
                return await self.never(name, reader)
            if name.startswith("late-"):
                return reply(f"Sandbox {name} was started, but timed out waiting for it to be fully running. "
                             "It may still be initializing."), False
            return reply(f"Sandbox {name} started successfully"), False
        if method == "sandbox.stop":
            await self.count(self.stopped, name, 1)
            if name.startswith("gone-"):
                return failed(-32001, f"Sandbox {name} is not running", "404 Not Found"), False
            return reply(f"Sandbox {name} stopped successfully"), False
        if method == "sandbox.repl.run":
            return await self.repl(p, headers, reader, writer, connection)
        if method == "sandbox.metrics.get":
            return reply({"sandboxes": [] if name.startswith("empty-") else [{
                "name": name, "namespace": "default", "running": True,
                "cpu_usage": None, "memory_usage": 40, "disk_usage": None}]}), False
        if method == "sandbox.list":
            return reply({"sandboxes": [{"name": "b", "namespace": p.get("namespace", "default"), "image": "i",
                                         "state": "running", "engine": None, "isolation": "emulated",
                                         "started_at": "2026-01-02T03:04:05Z"}]}), False
        if method == "sandbox.restart":
            late = "was restarted, but timed out waiting for it to be fully running. It may still be initializing."
            return reply(f"Sandbox {name} {late if name.startswith('slow-') else 'restarted successfully'}"), False
        if method in ("sandbox.get", "sandbox.keep_alive"):
            return self.get(name, p), False
        if method in ("sandbox.network.get", "sandbox.network.set"):
            if p.get("rules") == ["bad"]:
                return failed(-32602, "Invalid params: rules[0]: no", "400 Bad Request"), False
            return reply({"scope": "group", "group": None if name.startswith("alone-") else "shop", "closed": True,
                          "rules": p.get("rules", ["deny any:25"]),
                          "counters": [{"name": "passed", "count": 1 << 40}, {"name": "link-local", "count": 0}],
                          "members": [] if name.startswith("alone-") else [{"name": "db", "address": "10.0.2.129"}]}), False
        if method == "sandbox.logs":
            return reply({"source": p.get("source", "console"), "lines": [json.dumps(p, sort_keys=True), "é"]}), False
        if method.startswith("sandbox.fs."):
            return self.file(method, p), False
        return failed(-32601, f"Method not found: {method}", "404 Not Found"), False

    @staticmethod
    def get(name, p):
        if name.startswith("nobody-"):
            return failed(-32001, f"Sandbox {name} is not running: start it with sandbox.start", "404 Not Found")
        # Servers before published ports do not have the member.
        ports = {} if name.startswith("slow-") else {"ports": [
            {"host_ip": "127.0.0.1", "host_port": 40001, "guest_port": 80, "protocol": "tcp"},
            {"host_ip": "::1", "host_port": 65535, "guest_port": 53, "protocol": "udp"}]}
        return reply({"name": name, "namespace": "default", "image": "i", "engine": "tcg", "isolation": "emulated",
                      "state": "booting" if name.startswith("slow-") else "running",
                      "started_at": "2026-01-02T03:04:05Z", "memory": 512, "cpus": 1, "scope": "public",
                      "idle_timeout": p.get("idle_timeout", 7.5), **ports})

    @staticmethod
    def file(method, p):
        path = p["path"]
        if path == "/gone":
            return failed(-32007, "stat /gone: No such file or directory", "404 Not Found",
                          {"errno": "ENOENT", "path": path, "code": 4001})
        if path == "/odd":
            return failed(-32007, "stat /odd: strange", "400 Bad Request",
                          {"errno": "ENEWERROR", "path": path, "code": 2001})
        if path == "/nonsense":
            return reply({"entries": [{}]} if method.endswith("list") else {})
        link = {"type": "symlink", "target": "x"} if path == "/link" else {}
        told = {**info(path, 3), **link, "name": json.dumps({"method": method, **p}, sort_keys=True)}
        return reply({"entries": [told]} if method.endswith("list") else told)

    async def serve(self, reader, writer):
        self.connections += 1
        connection = self.connections
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = {k.lower(): v.strip() for k, _, v in (h.partition(":") for h in head[1:])}
                method, target, version = head[0].split(" ")
                assert version == "HTTP/1.1", head[0]
                if target.startswith("/api/v1/sandboxes/"):
                    if await Stream(self, method, target, headers, reader, writer).answer():
                        break
                    continue
                assert head[0] == "POST /api/v1/rpc HTTP/1.1", head[0]
                body = await reader.readexactly(int(headers["content-length"]))
                data, close = await self.answer(json.loads(body), headers, reader, writer, connection)
                if data:
                    writer.write(data)
                    await writer.drain()
                if close:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def start():
    """Return: the server, and its URL."""
    peer = Peer()
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0, limit=1 << 20)
    return server, "http://127.0.0.1:%d" % server.sockets[0].getsockname()[1]


async def main():
    """Prints the URL and serves until standard input ends: for the tests of one SDK alone."""
    server, url = await start()
    print(url, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
