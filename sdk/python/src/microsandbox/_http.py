# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 without a socket: the bytes of a request, and a reader of answers.

Both faces of the package, asyncio and sync, use this; neither goes through a proxy, since
the server is on this machine or in one's own network.  Reading follows RFC 9112.
"""
from __future__ import annotations

from typing import Dict, Optional

from ._requests import Request
from ._settings import Endpoint
from .errors import InvalidResponseError, UnreachableError

HEAD_MAX = 64 * 1024
BODY_MAX = 512 << 20
USER_AGENT = "microsandbox-python/1"


def build_request(endpoint: Endpoint, r: Request, streamed: bool = False, websocket_key: Optional[str] = None) -> bytes:
    """`streamed`: the body follows, in chunks."""
    head = [
        f"{r.method} {endpoint.prefix}{r.target} HTTP/1.1",
        f"Host: {endpoint.authority}",
        f"User-Agent: {USER_AGENT}",
        f"Accept: {r.accept}",
    ]
    if r.content_type is not None:
        head.append(f"Content-Type: {r.content_type}")
    if streamed:
        head.append("Transfer-Encoding: chunked")
    elif r.body is not None:
        head.append(f"Content-Length: {len(r.body)}")
    if websocket_key is not None:
        head += ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
        head.append(f"Sec-WebSocket-Key: {websocket_key}")
    if endpoint.api_key:
        head.append(f"Authorization: Bearer {endpoint.api_key}")
    return "\r\n".join(head).encode("ascii") + b"\r\n\r\n" + (r.body or b"")


def chunk(data: bytes) -> bytes:
    """Of a streamed body; empty: its end."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class ResponseReader:
    """Takes the bytes of one answer as they come; `done` says when it is whole.

    `upgrade`: 101 is an answer, and what follows it is left in `rest`.
    """

    def __init__(self, upgrade: bool = False) -> None:
        self._upgrade = upgrade
        self.done = False
        self.status = 0
        self.keep_alive = False
        self._raw = bytearray()
        self._body = bytearray()
        self._headers: Optional[Dict[str, str]] = None
        self._left: Optional[int] = None  # of the body or the chunk; None: until the end
        self._chunked = False
        self._in_trailer = False

    @property
    def headers(self) -> Optional[Dict[str, str]]:
        """None: the head has not come yet."""
        return self._headers

    @property
    def rest(self) -> bytes:
        return bytes(self._raw)

    def take(self) -> bytes:
        """What has come of the body since it was asked last."""
        data = bytes(self._body)
        self._body.clear()
        return data

    def feed(self, data: bytes) -> None:
        """`data` empty: the connection ended."""
        if not data:
            self._ended()
            return
        self._raw += data
        while not self.done and self._step():
            pass
        if self.done and self._raw:
            self.keep_alive = False  # more than was asked for

    def _ended(self) -> None:
        self.keep_alive = False
        if self._headers is not None and not self._chunked and self._left is None:
            self.done = True
            return
        raise UnreachableError("the server closed the connection before it had answered")

    def _line(self, limit: int = HEAD_MAX) -> Optional[str]:
        end = self._raw.find(b"\n")
        if end < 0:
            if len(self._raw) > limit:
                raise InvalidResponseError("the answer is no HTTP: a line of it is too long")
            return None
        line = bytes(self._raw[:end]).rstrip(b"\r").decode("latin-1")
        del self._raw[: end + 1]
        return line

    def _step(self) -> bool:
        """Return: is there perhaps more to take?"""
        if self._headers is None:
            return self._step_head()
        if self._in_trailer:
            line = self._line()
            self.done = line == ""
            return bool(line)
        if self._chunked and not self._left:
            return self._step_chunk_size()
        n = len(self._raw) if self._left is None else min(self._left, len(self._raw))
        if len(self._body) + n > BODY_MAX:
            raise InvalidResponseError("the answer is too long")
        self._body += self._raw[:n]
        del self._raw[:n]
        if self._left is None:
            return False
        self._left -= n
        self.done = not self._left and not self._chunked
        return n > 0 and bool(self._raw)

    def _step_chunk_size(self) -> bool:
        # The end of the chunk before is an empty line.
        if self._left == 0:
            line = self._line()
            if line is None:
                return False
            if line:
                raise InvalidResponseError("the answer is no HTTP: a chunk is longer than it says")
            self._left = None
            return True
        line = self._line()
        if line is None:
            return False
        digits = line.split(";", 1)[0].strip()
        try:
            size = int(digits, 16) if digits.isalnum() and len(digits) <= 8 else -1
        except ValueError:
            size = -1
        if size < 0:
            raise InvalidResponseError("the answer is no HTTP: bad chunk size")
        if size == 0:
            self._in_trailer = True
        else:
            self._left = size
        return True

    def _step_head(self) -> bool:
        end = self._raw.find(b"\r\n\r\n")
        if end < 0:
            if len(self._raw) > HEAD_MAX or not self._raw.startswith(b"HTTP/"[: len(self._raw)]):
                raise InvalidResponseError("the answer is no HTTP: is this the address of a microsandbox server?")
            return False
        lines = bytes(self._raw[:end]).decode("latin-1").split("\r\n")
        del self._raw[: end + 4]
        version, _, rest = lines[0].partition(" ")
        if version not in ("HTTP/1.1", "HTTP/1.0") or not rest[:3].isdigit():
            raise InvalidResponseError(f"the answer is no HTTP/1.1: {lines[0][:80]!r}")
        self.status = int(rest[:3])
        headers: Dict[str, str] = {}
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon or name != name.strip():
                raise InvalidResponseError(f"the answer is no HTTP: bad header {line[:80]!r}")
            headers[name.lower()] = value.strip()
        if self.status == 101 and self._upgrade:
            self._headers, self.done = headers, True
            return False
        if 100 <= self.status < 200:
            return True  # "100 Continue" and the like: the answer is still to come
        self._headers = headers
        self._begin_body(version, headers)
        return True

    def _begin_body(self, version: str, headers: Dict[str, str]) -> None:
        self.keep_alive = version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
        coding = headers.get("transfer-encoding", "").lower()
        length = headers.get("content-length")
        if coding:
            if coding != "chunked":
                raise InvalidResponseError(f"the answer has an unknown transfer coding: {coding[:80]!r}")
            self._chunked = True
        elif length is not None:
            if not (length.isascii() and length.isdigit()) or len(length) > 12:
                raise InvalidResponseError("the answer is no HTTP: bad Content-Length")
            self._left = int(length)
            self.done = self._left == 0
        elif self.status in (204, 304):
            self.done = True
        else:
            self.keep_alive = False
