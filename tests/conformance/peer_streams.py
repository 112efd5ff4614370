# SPDX-License-Identifier: Apache-2.0
"""The part of the misbehaving server that is no JSON-RPC: files, events, WebSockets.

`command` (or `code`) names the fault of a program, `path` that of a file.
"""
import asyncio
import base64
import hashlib
import json
import struct
import urllib.parse

from peer_http import http

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def info(path, size):
    return {"name": path.rsplit("/", 1)[-1], "path": path, "type": "file", "mode": 420, "uid": 0, "gid": 0,
            "size": size, "mtime": 1.5}


def refusal(message, status, code, **more):
    return http(json.dumps({"error": message, "code": code, **more}).encode(), status)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data):
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


# ---- events ------------------------------------------------------------------------------------

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def event(name, data):
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


STARTED = event("started", {"pid": 7})
HELLO = event("stdout", {"text": "hello\n"})
EXIT = event("exit", {"exit_code": 0, "success": True, "reason": "exited", "duration_ms": 1.5})
DONE = event("done", {"status": "success", "language": "x", "duration_ms": 1.5})
PLAIN = (STARTED + HELLO + event("stderr", {"base64": base64.b64encode(b"a\xffb").decode()})
         + event("exit", {"exit_code": 143, "success": False, "signal": 15, "reason": "signal", "duration_ms": 2}))
EVENTS = {
    "plain": PLAIN,
    "carriage returns": b": hi\r\nid: 4\r\nretry: 10\r\n\r\n" + PLAIN.replace(b"\n", b"\r\n")
    + b"event: later\r\ndata: {}\r\n\r\n",
    "more lines": STARTED + b'event: stdout\ndata: {"text":\ndata:"hello\\n"}\nnothing\n\n' + EXIT,
    "newer": STARTED + event("news", {"x": 1}) + event("stdout", {"text": "a", "more": 1}) + EXIT,
    "cut characters": STARTED + b"".join(event("stdout", {"base64": base64.b64encode(bytes([b])).decode()})
                                         for b in "é🐍\n".encode()) + event("stderr", {"base64": "ww=="}) + EXIT,
    "half a character": STARTED + event("stdout", {"base64": "8J+Q"}) + EXIT,
    "lines": STARTED + b"".join(event(s, {"text": t}) for s, t in (
        ("stdout", "a"), ("stderr", "x\ny"), ("stdout", "b\n\nc\n"), ("stderr", "z"), ("stdout", "d"))) + EXIT,
    "much": STARTED + event("stdout", {"text": "x" * 99 + "\n"}) * 90000 + EXIT,
    "nonsense": STARTED + b"event: stdout\ndata: {hello\n\n" + EXIT,
    "no object": STARTED + b"event: stdout\ndata: []\n\n" + EXIT,
    "not utf-8": STARTED + b'event: stdout\ndata: {"text":"\xff"}\n\n' + EXIT,
    "bad base64": STARTED + event("stdout", {"base64": "$$$$"}) + EXIT,
    "no text": STARTED + event("stdout", {"text": 5}) + EXIT,
    "no exit code": STARTED + event("exit", {"success": True, "reason": "exited"}),
    "no end": STARTED + HELLO,
    "half an event": STARTED + HELLO + b"event: exit\ndata: {}",
    "not run": event("error", {"code": -32003, "message": "Command execution failed: nope"}),
    "error later": STARTED + HELLO + event("error", {"code": -32002, "message": "Sandbox x ended: out of memory"}),
    "time is up": STARTED + HELLO + event(
        "exit", {"exit_code": 137, "success": False, "signal": 9, "reason": "timeout", "duration_ms": 2}),
}
CODE = {
    "plain": HELLO + event("stderr", {"text": "oops\n"}) + event(
        "done", {"status": "error", "language": "x", "reason": "exception", "duration_ms": 2}),
    "no status": HELLO + event("done", {"language": "x"}),
    "no end": HELLO,
    "error later": HELLO + event("error", {"code": -32002, "message": "Sandbox x ended: out of memory"}),
}
NO_EVENTS = {
    "not events": http(b'{"jsonrpc":"2.0","result":{},"id":1}'),
    "refused": refusal("command must not be empty", "400 Bad Request", 2001),
    "no sandbox": refusal("Sandbox x is not running", "404 Not Found", 4001),
    "too many": refusal("too many requests", "429 Too Many Requests", 5003),
    "html": http(b"<h1>Bad gateway</h1>", "502 Bad Gateway", "text/html"),
}


class Stream:
    """One request of this kind."""

    def __init__(self, peer, method, target, headers, reader, writer):
        self.peer = peer
        self.method = method
        self.target = target
        self.headers = headers
        self.reader = reader
        self.writer = writer
        parts = urllib.parse.urlsplit(target)
        self.sandbox, self.what = map(urllib.parse.unquote, parts.path.split("/")[4:6])
        self.query = dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))

    async def send(self, data):
        self.writer.write(data)
        await self.writer.drain()

    async def body(self):
        """Piece by piece."""
        if "content-length" in self.headers:
            yield await self.reader.readexactly(int(self.headers["content-length"]))
            return
        while True:
            n = int(await self.reader.readuntil(b"\n"), 16)
            data = await self.reader.readexactly(n + 2)
            assert data[n:] == b"\r\n"
            if not n:
                return
            yield data[:n]

    async def answer(self):
        """Return: is the connection closed then?"""
        if self.what == "files":
            return await (self.put() if self.method == "PUT" else self.get())
        if self.method == "GET":
            await self.socket()
            return True
        request = json.loads(b"".join([piece async for piece in self.body()]))
        return await self.events(request)

    # ---- events

    async def events(self, request):
        name = request.get("command", request.get("code"))
        if name in NO_EVENTS:
            await self.send(NO_EVENTS[name])
            return False
        if name == "request":
            text = json.dumps({"request": request, "target": self.target}, sort_keys=True)
            data = STARTED + event("stdout", {"text": text}) + (EXIT if self.what == "exec" else DONE)
        else:
            data = (EVENTS if self.what == "exec" else CODE).get(name, STARTED + HELLO)
        await self.send(HEAD)
        if name == "never":
            await self.send(chunk(STARTED + HELLO))
            await self.peer.never(self.sandbox, self.reader)
            return True
        if name == "cut":
            await self.send(chunk(STARTED + HELLO) + b"40\r\nevent: ex")
            return True
        if name == "drip":
            for byte in PLAIN:
                await self.send(chunk(bytes([byte])))
        else:
            await self.send(chunk(data))
        await self.send(b"0\r\n\r\n")
        return False

    # ---- files

    async def get(self):
        path = self.query["path"]
        if path == "/plain":
            await self.send(http(b"hello", kind="application/octet-stream"))
        elif path == "/chunked":
            await self.send(CHUNKED + chunk(b"hel") + chunk(b"lo") + b"0\r\n\r\n")
        elif path == "/binary":
            await self.send(http(bytes(range(256)), kind="application/octet-stream"))
        elif path == "/target":
            await self.send(http(self.target.encode(), kind="application/octet-stream"))
        elif path == "/half":
            await self.send(CHUNKED + chunk(b"hel") + b"40\r\nlo")
            return True
        elif path == "/never":
            await self.send(CHUNKED + chunk(b"hel"))
            await self.peer.never(self.sandbox, self.reader)
            return True
        elif path == "/no-sandbox":
            await self.send(refusal("Sandbox x is not running", "404 Not Found", 4001))
        elif path == "/denied":
            await self.send(refusal("read /denied: Permission denied", "400 Bad Request", 2001, errno="EACCES",
                                    path=path))
        else:
            await self.send(refusal(f"read {path}: No such file or directory", "404 Not Found", 4001, errno="ENOENT",
                                    path=path))
        return False

    async def put(self):
        path = self.query["path"]
        if path == "/early":  # the body is not looked at
            body = {"error": "write /early: No space left on device", "code": 2001, "errno": "ENOSPC", "path": path}
            await self.send(http(json.dumps(body).encode(), "400 Bad Request", extra="Connection: close\r\n"))
            self.writer.write_eof()
            while await self.reader.read(1 << 16):
                pass
            return True
        size = 0
        try:
            async for piece in self.body():
                size += len(piece)
                if path == "/cut":
                    return True
        except asyncio.IncompleteReadError:
            await self.peer.count(self.peer.vanished, self.sandbox, 1)
            raise
        if path == "/nonsense":
            await self.send(http(b"{}"))
        elif path == "/target":
            await self.send(http(json.dumps(info(self.target, size)).encode()))
        else:
            await self.send(http(json.dumps(info(path, size)).encode()))
        return False

    # ---- WebSockets

    @staticmethod
    def frame(opcode, payload=b"", first=0x80, mask=b""):
        n = len(payload)
        masked = 0x80 if mask else 0
        size = struct.pack("!B", masked | n) if n < 126 else struct.pack("!BH", masked | 126, n) if n < 65536 else \
            struct.pack("!BQ", masked | 127, n)
        return bytes([first | opcode]) + size + mask + payload

    def message(self, kind, **members):
        return self.frame(TEXT, json.dumps({"type": kind, **members}).encode())

    async def receive(self):
        """Return: opcode and payload. A frame without a mask ends it all."""
        first, n = await self.reader.readexactly(2)
        assert n & 0x80 and first & 0x80, "a frame without a mask, or in parts"
        n &= 0x7f
        if n >= 126:
            n = int.from_bytes(await self.reader.readexactly(2 if n == 126 else 8), "big")
        mask = await self.reader.readexactly(4)
        data = await self.reader.readexactly(n)
        return first & 15, bytes(b ^ mask[i % 4] for i, b in enumerate(data))

    async def socket(self):
        h = self.headers
        assert h["upgrade"].lower() == "websocket" and "upgrade" in h["connection"].lower()
        assert h["sec-websocket-version"] == "13" and len(base64.b64decode(h["sec-websocket-key"])) == 16
        handshake = self.sandbox.split("-ws-")[0]
        accept = base64.b64encode(hashlib.sha1((h["sec-websocket-key"] + GUID).encode()).digest()).decode()
        if handshake == "refuse":
            await self.send(refusal("Sandbox x is not running", "404 Not Found", 4001))
            return
        if handshake == "plain":
            await self.send(http(b"{}"))
            return
        if handshake == "accept":
            accept = base64.b64encode(bytes(20)).decode()
        more = "Sec-WebSocket-Extensions: permessage-deflate\r\n" if handshake == "extension" else ""
        await self.send(f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                        f"Sec-WebSocket-Accept: {accept}\r\n{more}\r\n".encode())
        opcode, first = await self.receive()
        assert opcode == TEXT
        request = json.loads(first)
        await getattr(self, "ws_" + request["command"].replace(" ", "_").replace("-", ""), self.ws_raw)(request)

    def out(self, text, stream=1):
        return self.frame(BINARY, bytes([stream]) + (text if isinstance(text, bytes) else text.encode()))

    @property
    def begun(self):
        return self.message("started", pid=9)

    @property
    def end(self):
        return self.message("exit", exit_code=0, success=True, reason="exited", duration_ms=1) + self.frame(
            CLOSE, b"\x03\xe8")

    async def ws_raw(self, request):
        """Frames, and then the connection ends."""
        begun, end = self.begun, self.end
        frames = {
            "plain": begun + self.out("hello\n") + self.out("oops", 2) + self.out("") + end,
            "fragments": begun + self.frame(BINARY, b"\1hel", 0) + self.frame(PING, b"x") + self.frame(0, b"lo", 0)
            + self.frame(0, b"\n") + end,
            "cut characters": begun + b"".join(self.out(bytes([b])) for b in "é🐍\n".encode()) + end,
            "large": begun + self.out(b"y" * 300000) + end,
            "masked": begun + self.frame(BINARY, b"\1x", mask=bytes(4)) + end,
            "reserved": begun + self.frame(BINARY, b"\1x", 0xc0) + end,
            "bad opcode": begun + self.frame(3, b"\1x") + end,
            "long ping": begun + self.frame(PING, bytes(126)) + end,
            "ping in parts": begun + self.frame(PING, b"x", 0) + end,
            "continues nothing": begun + self.frame(0, b"x") + end,
            "message in a message": begun + self.frame(BINARY, b"\1x", 0) + self.frame(BINARY, b"\1y") + end,
            "too long": begun + b"\x82\x7f\x3f" + bytes(7),
            "stream 7": begun + self.out("x", 7) + end,
            "no stream": begun + self.frame(BINARY, b"") + end,
            "nonsense": begun + self.frame(TEXT, b"{hello") + end,
            "no object": begun + self.frame(TEXT, b"[]") + end,
            "no exit code": begun + self.message("exit", success=True, reason="exited"),
            "newer": begun + self.message("news", x=1) + self.out("a") + end,
            "not run": self.message("error", code=-32003, message="Command execution failed: nope")
            + self.frame(CLOSE, b"\x03\xe8"),
            "error later": begun + self.out("hello\n") + self.message("error", code=-32002, message="Sandbox x ended"),
            "closes": begun + self.out("hello\n") + self.frame(CLOSE, b"\x03\xf5" + b"busy"),
            "cut": begun + self.out("hello\n") + b"\x82\x05\1h",
        }
        if request["command"] == "drip":
            for byte in frames["plain"]:
                await self.send(bytes([byte]))
        else:
            await self.send(frames[request["command"]])

    async def ws_echo(self, request):
        """Says what comes, until the input ends."""
        await self.send(self.begun + self.out(json.dumps(request, sort_keys=True) + "\n"))
        while True:
            opcode, payload = await self.receive()
            if opcode == BINARY:
                assert payload[0] == 0
                await self.send(self.out(payload[1:]))
            elif opcode == TEXT:
                o = json.loads(payload)
                await self.send(self.out(json.dumps(o, sort_keys=True) + "\n", 2))
                if o["type"] == "eof":
                    break
        await self.send(self.end)
        await self.reader.read()

    async def ws_ping(self, request):
        await self.send(self.begun + self.frame(PING, b"are you there"))
        opcode, payload = await self.receive()
        await self.send(self.out(f"{opcode} {payload.decode()}\n") + self.end)
        opcode, payload = await self.receive()
        if opcode == CLOSE:
            await self.peer.count(self.peer.stopped, "closed " + self.sandbox, 1)

    async def ws_beat(self, request):
        await self.send(self.begun)
        opcode, _ = await self.receive()
        await self.peer.count(self.peer.stopped, "beat " + self.sandbox, 1)
        await self.send(self.out(f"{opcode}\n") + self.end)
        await self.reader.read()

    async def ws_never(self, request):
        await self.send(self.begun + self.out("hello\n"))
        try:
            while True:
                await self.receive()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        await self.peer.count(self.peer.vanished, self.sandbox, 1)
