# SPDX-License-Identifier: Apache-2.0
"""Connections of the face without asyncio."""
from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from typing import Any, Dict, Iterator, List, Optional, Tuple

from . import _protocol as p
from . import _websocket as ws
from ._http import BODY_MAX, ResponseReader, build_request, chunk
from ._requests import Request
from ._settings import Endpoint
from .errors import InvalidResponseError, MicrosandboxError, RequestTimeoutError, UnreachableError


def _readable(s: socket.socket) -> bool:
    if isinstance(s, ssl.SSLSocket) and s.pending():
        return True
    poll = select.poll()
    poll.register(s, select.POLLIN)
    return bool(poll.poll(0))


class Answer:
    """The answer to one request, piece by piece.  Whoever does not read it to its end closes it.

    `end`: until when, by time.monotonic(), it must have come; None: no limit.  `silence`: for how
    long nothing may come.
    """

    def __init__(self, transport: Transport, s: socket.socket, end: Optional[float], upgrade: bool = False) -> None:
        self._transport = transport
        self.socket = s
        self.http = ResponseReader(upgrade)
        self.silence: Optional[float] = None
        self._end = end
        self._sent = False
        self._open = True

    @property
    def status(self) -> int:
        return self.http.status

    @property
    def headers(self) -> Dict[str, str]:
        return self.http.headers or {}

    def start(self, request: bytes, source: Optional[Iterator[bytes]]) -> None:
        """Sends the request, and waits for the answer's head."""
        self._set_time()
        self._sent = self._send(request) and (source is None or self._send_source(source))
        while self.http.headers is None:
            self._feed()

    def _send(self, data: bytes) -> bool:
        """Return: was all sent?  If not, the server may still have said why."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def _send_source(self, source: Iterator[bytes]) -> bool:
        for data in source:
            # An answer that comes now is an error: the rest is of no use.
            if _readable(self.socket) or (data and not self._send(chunk(data))):
                return False
        return self._send(chunk(b""))

    def _set_time(self) -> None:
        left = None if self._end is None else self._end - time.monotonic()
        if left is not None and left <= 0:
            raise socket.timeout()
        if self.silence is not None:
            left = self.silence if left is None else min(left, self.silence)
        self.socket.settimeout(left)

    def _feed(self) -> None:
        try:
            self._set_time()
            self.http.feed(self.socket.recv(1 << 16))
        except socket.timeout:
            self.close()
            raise
        except OSError as e:
            self.close()
            if isinstance(e, MicrosandboxError):
                raise
            raise UnreachableError(f"the connection to {self._transport.url} broke: {e}") from e
        except BaseException:
            self.close()
            raise
        if self.http.done and self.http.keep_alive and self._sent:
            self._open = False
            self._transport.put_back(self.socket)
        elif self.http.done and self.status != 101:
            self.close()

    def read(self) -> bytes:
        """The next piece; empty: the answer is whole."""
        while True:
            data = self.http.take()
            if data or self.http.done:
                return data
            if not self._open:
                raise UnreachableError("the answer was closed")
            self._feed()

    def body(self) -> bytes:
        pieces: List[bytes] = []
        size = 0
        while True:
            piece = self.read()
            if not piece:
                return b"".join(pieces)
            size += len(piece)
            if size > BODY_MAX:
                self.close()
                raise InvalidResponseError("the answer is too long")
            pieces.append(piece)

    def close(self) -> None:
        if self._open:
            self._open = False
            self.socket.close()


class Transport:
    """Connections to one server, kept open from call to call; a call has its own while it lasts."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self.url = endpoint.url
        self._lock = threading.Lock()
        self._idle: List[socket.socket] = []

    def call(self, call: p.Call) -> Any:
        request = Request("POST", p.RPC_PATH, p.JSON, p.encode(call), p.JSON)
        end = None if call.limit is None else time.monotonic() + call.limit
        try:
            status, body = self._round_trip(request, end)
        except (socket.timeout, TimeoutError) as e:
            if isinstance(e, MicrosandboxError):
                raise
            raise RequestTimeoutError(
                f"the server at {self.url} did not answer {call.method} within {call.limit:g} seconds"
            ) from None
        return p.decode(status, body)

    def _round_trip(self, request: Request, end: Optional[float]) -> Tuple[int, bytes]:
        answer = self.open(request, end=end)
        return answer.status, answer.body()

    def open(
        self,
        request: Request,
        source: Optional[Iterator[bytes]] = None,
        end: Optional[float] = None,
        silence: Optional[float] = None,
    ) -> Answer:
        """Return: an answer whose head has come.  `source`: the body, piece by piece."""
        data = build_request(self._endpoint, request, streamed=source is not None)
        answer = Answer(self, self._take_idle() or self._connect(end), end)
        answer.silence = silence
        try:
            answer.start(data, source)
        except BaseException:
            answer.close()
            raise
        return answer

    def open_websocket(self, target: str) -> Answer:
        """Return: an answer of which socket and http.rest are used from now on."""
        key = ws.make_key()
        data = build_request(self._endpoint, Request("GET", target, p.JSON), websocket_key=key)
        answer = Answer(self, self._connect(None), None, upgrade=True)
        try:
            answer.start(data, None)
            if answer.status == 101:
                p.check_upgrade(answer.headers, ws.accept_of(key))
            else:
                p.refused(answer.status, answer.body())
        except BaseException:
            answer.close()
            raise
        return answer

    def put_back(self, s: socket.socket) -> None:
        with self._lock:
            self._idle.append(s)

    def _take_idle(self) -> Optional[socket.socket]:
        while True:
            with self._lock:
                if not self._idle:
                    return None
                s = self._idle.pop()
            # Silent and open is what an idle connection is; a byte or an end makes it useless.
            try:
                s.settimeout(0)
                s.recv(1)
            except (BlockingIOError, ssl.SSLWantReadError):
                return s
            except OSError:
                pass
            s.close()

    def _connect(self, end: Optional[float]) -> socket.socket:
        e = self._endpoint
        left = None if end is None else max(0.001, end - time.monotonic())
        try:
            if e.unix_path is not None:
                s = socket.socket(socket.AF_UNIX)
                s.settimeout(left)
                s.connect(e.unix_path)
                return s
            s = socket.create_connection((e.host, e.port), left)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return ssl.create_default_context().wrap_socket(s, server_hostname=e.host) if e.tls else s
        except socket.timeout:
            raise
        except OSError as error:
            raise UnreachableError(
                f"cannot reach the server at {e.url}: {error}; is it running (msb server start)?"
            ) from error

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for s in idle:
            s.close()


