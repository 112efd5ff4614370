# SPDX-License-Identifier: Apache-2.0
"""Plain clients of what the server streams: events and WebSockets, down to the single frame."""
import base64
import hashlib
import http.client
import json
import os
import socket
import struct
import urllib.parse

from conftest import TIMEOUT

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def path_of(name, what, **query):
    text = urllib.parse.urlencode(query)
    return f"/api/v1/sandboxes/{name}/{what}" + ("?" + text if text else "")


def headers_of(server, headers=None):
    key = {"Authorization": f"Bearer {server.key}"} if server.key else {}
    return {**key, **(headers or {})}


class Events:
    """The answer to a POST, event by event. Iterating gives (event, data)."""

    def __init__(self, server, path, request, connection=None):
        self.connection = connection or http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)
        body = request if isinstance(request, (bytes, str)) else json.dumps(request)
        self.connection.request("POST", path, body, headers_of(server, {"Content-Type": "application/json"}))
        self.response = self.connection.getresponse()
        self.status = self.response.status
        self.type = self.response.getheader("Content-Type")

    def error(self):
        assert self.type == "application/json"
        return json.loads(self.response.read())

    def __iter__(self):
        assert self.status == 200 and self.type == "text/event-stream", (self.status, self.response.read())
        event = None
        for line in self.response:
            line = line.decode().removesuffix("\n")
            if line.startswith("event: "):
                event = line[7:]
            elif line.startswith("data: "):
                yield event, json.loads(line[6:])
            else:
                assert not line or line.startswith(":"), line

    def close(self):
        # The response has a descriptor of its own for the socket.
        self.response.close()
        self.connection.close()


def bytes_of(events, stream):
    """All that was printed to a stream."""
    return b"".join(d["text"].encode() if "text" in d else base64.b64decode(d["base64"])
                    for e, d in events if e == stream)


class Closed(Exception):
    def __init__(self, code, reason=""):
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason


class WebSocket:
    """RFC 6455 from the client's side, with every liberty that a test wants to take."""

    def __init__(self, server, path, headers=None, key=None):
        key = key or base64.b64encode(os.urandom(16)).decode()
        lines = {"Host": f"127.0.0.1:{server.port}", "Upgrade": "websocket", "Connection": "keep-alive, Upgrade",
                 "Sec-WebSocket-Key": key, "Sec-WebSocket-Version": "13", **headers_of(server, headers)}
        self.socket = server.connect()
        self.rest = b""
        head = f"GET {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items() if v is not None)
        self.socket.sendall(head.encode() + b"\r\n")
        while b"\r\n\r\n" not in self.rest:
            self.rest += self._recv()
        answer, self.rest = self.rest.split(b"\r\n\r\n", 1)
        self.status = int(answer.split()[1])
        self.answer = answer.decode().lower()
        if self.status == 101:
            want = base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()
            assert f"sec-websocket-accept: {want}\r\n".lower() in self.answer + "\r\n"

    def _recv(self):
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionResetError
        return data

    def _take(self, n):
        while len(self.rest) < n:
            self.rest += self._recv()
        got, self.rest = self.rest[:n], self.rest[n:]
        return got

    def raw(self, data):
        self.socket.sendall(data)

    @staticmethod
    def frame(opcode, payload=b"", fin=True, mask=b"\x12\x34\x56\x78"):
        n = len(payload)
        size = struct.pack("!B", 0x80 | n) if n < 126 else struct.pack("!BH", 0xfe, n) if n < 65536 else \
            struct.pack("!BQ", 0xff, n)
        whole = (n + 3) // 4
        masked = (int.from_bytes(payload, "big") ^
                  int.from_bytes((mask * whole)[:n], "big")).to_bytes(n, "big")
        return bytes([(0x80 if fin else 0) | opcode]) + size + mask + masked

    def send(self, opcode, payload=b"", **kwargs):
        self.raw(self.frame(opcode, payload, **kwargs))

    def send_json(self, message):
        self.send(TEXT, json.dumps(message).encode())

    def stdin(self, data):
        self.send(BINARY, b"\0" + data)

    def recv(self):
        """The next frame, (opcode, payload); raises Closed at a close frame."""
        head = self._take(2)
        assert head[0] & 0x70 == 0 and head[0] & 0x80 and not head[1] & 0x80, head
        n = head[1]
        if n == 126:
            n = struct.unpack("!H", self._take(2))[0]
        elif n == 127:
            n = struct.unpack("!Q", self._take(8))[0]
        payload = self._take(n)
        if head[0] & 15 == CLOSE:
            raise Closed(struct.unpack("!H", payload[:2])[0] if payload else 1005, payload[2:].decode())
        return head[0] & 15, payload

    def message(self):
        """The next text message."""
        while True:
            opcode, payload = self.recv()
            if opcode == TEXT:
                return json.loads(payload)

    def run(self):
        """Up to the end. Returns (stdout, stderr, last message, close code)."""
        out = {1: b"", 2: b""}
        last = None
        try:
            while True:
                opcode, payload = self.recv()
                if opcode == BINARY:
                    out[payload[0]] += payload[1:]
                elif opcode == TEXT:
                    last = json.loads(payload)
        except Closed as c:
            self.send(CLOSE, struct.pack("!H", c.code))
            return out[1], out[2], last, c.code

    def at_end(self):
        """Is there nothing after the close frame but the end of the connection?"""
        try:
            return not self.rest and not self.socket.recv(1)
        except ConnectionResetError:
            return True

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
