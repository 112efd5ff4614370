# SPDX-License-Identifier: Apache-2.0
"""Connections of the asyncio face."""
from __future__ import annotations

import asyncio
import ssl
from typing import Any, AsyncIterator, Dict, List, Optional, Tuple

from . import _protocol as p
from . import _websocket as ws
from ._http import BODY_MAX, ResponseReader, build_request, chunk
from ._requests import Request
from ._settings import Endpoint
from .errors import InvalidResponseError, RequestTimeoutError, UnreachableError

_Streams = Tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Answer:
    """The answer to one request, piece by piece.  Whoever does not read it to its end closes it."""

    def __init__(self, transport: Transport, streams: _Streams, upgrade: bool = False) -> None:
        self._transport = transport
        self.reader, self.writer = streams
        self.http = ResponseReader(upgrade)
        self._sending: Optional[asyncio.Task[bool]] = None
        self._source_error: Optional[BaseException] = None
        self._open = True

    @property
    def status(self) -> int:
        return self.http.status

    @property
    def headers(self) -> Dict[str, str]:
        return self.http.headers or {}

    async def start(self, request: bytes, source: Optional[AsyncIterator[bytes]]) -> None:
        """Sends the request, and waits for the answer's head."""
        self.writer.write(request)
        # The answer may come, and be an error, before all of a request is written.
        self._sending = asyncio.ensure_future(self._send(source))
        while self.http.headers is None:
            await self._feed()

    async def _send(self, source: Optional[AsyncIterator[bytes]]) -> bool:
        """Return: was all of it sent?"""
        try:
            await self.writer.drain()
            if source is None:
                return True
            async for data in source:
                if data:
                    self.writer.write(chunk(data))
                    await self.writer.drain()
            self.writer.write(chunk(b""))
            await self.writer.drain()
            return True
        except Exception as e:
            # A connection that broke is told by who reads it: the server may have said why.
            if not (isinstance(e, OSError) and self.writer.transport.is_closing()):
                self._source_failed(e)
            return False

    def _source_failed(self, e: Exception) -> None:
        """What was to be sent cannot be had: what came of it must not pass for the whole."""
        self._source_error = e
        self.writer.transport.abort()

    async def _feed(self) -> None:
        try:
            data = await self.reader.read(1 << 16)
            if self._source_error is not None:
                raise self._source_error
            self.http.feed(data)
        except OSError as e:
            self.close()
            if e is self._source_error:
                raise
            if self._source_error is not None:
                raise self._source_error from None
            if isinstance(e, UnreachableError):
                raise
            raise UnreachableError(f"the connection to {self._transport.url} broke: {e}") from e
        except BaseException:
            self.close()
            raise
        if self.http.done:
            self._whole()

    def _whole(self) -> None:
        sending = self._sending
        sent = sending is not None and sending.done() and not sending.cancelled() and sending.result()
        if self.http.keep_alive and sent:
            self._open = False
            self._transport.put_back((self.reader, self.writer))
        elif self.status != 101:
            self.close()

    async def read(self) -> bytes:
        """The next piece; empty: the answer is whole."""
        while True:
            data = self.http.take()
            if data or self.http.done:
                return data
            if not self._open:
                raise UnreachableError("the answer was closed")
            await self._feed()

    async def body(self) -> bytes:
        pieces: List[bytes] = []
        size = 0
        while True:
            piece = await self.read()
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
            if self._sending is not None:
                self._sending.cancel()
            self.writer.transport.abort()  # close() would wait until the rest of the request is sent


class Transport:
    """Connections to one server, kept open from call to call.

    A call has a connection of its own while it lasts.  One that is cancelled, or whose time
    is up, closes it: the server then kills what the call had started.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self.url = endpoint.url
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._idle: List[_Streams] = []

    async def call(self, call: p.Call) -> Any:
        request = Request("POST", p.RPC_PATH, p.JSON, p.encode(call), p.JSON)
        try:
            status, body = await asyncio.wait_for(self._round_trip(request), call.limit)
        except asyncio.TimeoutError:
            raise RequestTimeoutError(
                f"the server at {self.url} did not answer {call.method} within {call.limit:g} seconds"
            ) from None
        return p.decode(status, body)

    async def _round_trip(self, request: Request) -> Tuple[int, bytes]:
        answer = await self.open(request)
        return answer.status, await answer.body()

    async def open(self, request: Request, source: Optional[AsyncIterator[bytes]] = None) -> Answer:
        """Return: an answer whose head has come.  `source`: the body, piece by piece."""
        data = build_request(self._endpoint, request, streamed=source is not None)
        answer = Answer(self, self._take_idle() or await self._connect())
        try:
            await answer.start(data, source)
        except BaseException:
            answer.close()
            raise
        return answer

    async def open_websocket(self, target: str) -> Answer:
        """Return: an answer of which reader, writer and http.rest are used from now on."""
        key = ws.make_key()
        data = build_request(self._endpoint, Request("GET", target, p.JSON), websocket_key=key)
        answer = Answer(self, await self._connect(), upgrade=True)
        try:
            await answer.start(data, None)
            if answer.status == 101:
                p.check_upgrade(answer.headers, ws.accept_of(key))
            else:
                p.refused(answer.status, await answer.body())
        except BaseException:
            answer.close()
            raise
        return answer

    def put_back(self, streams: _Streams) -> None:
        self._idle.append(streams)

    def _take_idle(self) -> Optional[_Streams]:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            # Connections of another loop cannot be used; that loop's end closes them.
            self._idle, self._loop = [], loop
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof() and not writer.transport.is_closing():
                return reader, writer
            writer.close()
        return None

    async def _connect(self) -> _Streams:
        e = self._endpoint
        try:
            if e.unix_path is not None:
                return await asyncio.open_unix_connection(e.unix_path)
            context = ssl.create_default_context() if e.tls else None
            return await asyncio.open_connection(e.host, e.port, ssl=context)
        except OSError as error:
            raise UnreachableError(
                f"cannot reach the server at {e.url}: {error}; is it running (msb server start)?"
            ) from error

    def close(self) -> None:
        for _, writer in self._idle:
            if not writer.transport.is_closing():
                writer.close()
        self._idle = []
