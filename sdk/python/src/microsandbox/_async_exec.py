# SPDX-License-Identifier: Apache-2.0
"""Programs and code whose output is told as it comes, the asyncio face."""
from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections import deque
from types import TracebackType
from typing import (
    Any,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Deque,
    Dict,
    Generator,
    Generic,
    List,
    Optional,
    Type,
    TypeVar,
    Union,
)

from . import _process as processes
from . import _protocol as p
from . import _requests as r
from ._async_http import Answer, Transport
from ._events import Events, ExitStatus, Lines, Output
from .errors import RequestTimeoutError, UnreachableError

#: is called with each piece of text; what it returns is awaited if it can be
Listener = Callable[[str], Union[None, Awaitable[None]]]
_T = TypeVar("_T")
_Self = TypeVar("_Self", bound="_OutputStream")


class _OutputStream:
    """`async with` it, and `async for output in` it.  Leaving it early kills what runs."""

    def __init__(self) -> None:
        self._found: Deque[Output] = deque()

    def __aiter__(self: _Self) -> _Self:
        return self

    async def __anext__(self) -> Output:
        while not self._found:
            if not await self._more():
                raise StopAsyncIteration
        return self._found.popleft()

    async def _more(self) -> bool:
        """Return: False: it has ended."""
        raise NotImplementedError

    async def _drain(self) -> None:
        while await self._more():
            self._found.clear()
        self._found.clear()

    async def aclose(self) -> None:
        """Kills what runs, if it has not ended."""
        raise NotImplementedError

    async def __aenter__(self: _Self) -> _Self:
        return self

    async def __aexit__(
        self, t: Optional[Type[BaseException]], e: Optional[BaseException], tb: Optional[TracebackType]
    ) -> None:
        await self.aclose()


_Stream = TypeVar("_Stream", bound=_OutputStream)


class Opening(Generic[_Stream]):
    """What stream() and start() return.

    `async with` it to have it closed at the end, `async for` over it if only the output is of
    interest, or `await` it, and close it yourself.
    """

    def __init__(self, make: Callable[[], Coroutine[Any, Any, _Stream]]) -> None:
        self._make = make
        self._made: Optional[_Stream] = None

    def __await__(self) -> Generator[Any, None, _Stream]:
        return self._make().__await__()

    async def __aenter__(self) -> _Stream:
        self._made = await self._make()
        return self._made

    async def __aexit__(
        self, t: Optional[Type[BaseException]], e: Optional[BaseException], tb: Optional[TracebackType]
    ) -> None:
        if self._made is not None:
            await self._made.aclose()

    async def __aiter__(self) -> AsyncIterator[Output]:
        async with self as stream:
            async for output in stream:
                yield output


class _EventStream(_OutputStream):
    def __init__(self, url: str, answer: Answer, events: Events) -> None:
        super().__init__()
        self._url = url
        self._answer = answer
        self._events = events

    async def _more(self) -> bool:
        if self._events.ended:
            p.call_ended(self._events.error)
            return False
        try:
            found = self._events.next()
            while found is None:
                self._events.feed(await within(self._url, self._answer.read()))
                found = self._events.next()
        except BaseException:
            self._answer.close()
            raise
        self._found += found
        if self._events.ended and not self._answer.http.done:
            # Its last chunk; then the connection can be used again.
            with contextlib.suppress(UnreachableError, RequestTimeoutError):
                await within(self._url, self._answer.read())
            self._answer.close()
        return True

    async def aclose(self) -> None:
        self._answer.close()


class CommandStream(_EventStream):
    """A program that runs: the output as it comes.

    Attributes:
        pid: in the sandbox
        exit: how it ended; None while it runs
    """

    async def _begin(self) -> CommandStream:
        try:
            while self._events.pid is None and not self._events.ended:
                await self._more()
            p.call_ended(self._events.error)
        except BaseException:
            self._answer.close()
            raise
        return self

    @property
    def pid(self) -> Optional[int]:
        return self._events.pid

    @property
    def exit(self) -> Optional[ExitStatus]:
        return None if self._events.end is None else ExitStatus.from_wire(self._events.end)

    async def wait(self) -> ExitStatus:
        """Waits for the end; output that was not read until then is dropped."""
        await self._drain()
        return ExitStatus.from_wire(self._events.end)


class CodeStream(_EventStream):
    """Code that runs: the output as it comes."""

    async def wait(self) -> Any:
        """Waits for the end.  Returns an Execution; output that was not read until then is dropped, and
        the Execution has none."""
        from ._async import Execution

        await self._drain()
        return Execution(p.repl_result(self._events.end, [], False))


class Process(_OutputStream):
    """A program with input: write to it while the output comes.

    Attributes:
        pid: in the sandbox
        exit: how it ended; None while it runs
    """

    def __init__(self, url: str, answer: Answer) -> None:
        super().__init__()
        self._url = url
        self._answer = answer
        self._state = processes.ProcessState()
        self._state.feed(answer.http.rest)
        self._closed = False
        self._heart = asyncio.ensure_future(_beat(answer.writer))

    @property
    def pid(self) -> Optional[int]:
        return self._state.pid

    @property
    def exit(self) -> Optional[ExitStatus]:
        return self._state.exit

    async def _begin(self, request: Dict[str, Any]) -> Process:
        try:
            self._send(processes.request_frame(request))
            while self._state.pid is None and await self._more():
                pass
        except BaseException:
            self._close()
            raise
        return self

    def _next(self) -> Optional[List[Output]]:
        found = self._state.next()
        if self._state.replies:
            self._answer.writer.write(bytes(self._state.replies))
            self._state.replies.clear()
        return found

    async def _more(self) -> bool:
        if self._state.ended:
            p.call_ended(self._state.error)
            return False
        if self._closed:
            raise UnreachableError("the process was closed")
        try:
            found = self._next()
            while found is None:
                data = await within(self._url, self._answer.reader.read(1 << 16))
                if not data:
                    raise UnreachableError(f"the connection to {self._url} ended before the program did")
                self._state.feed(data)
                found = self._next()
        except OSError as e:
            self._close()
            if isinstance(e, (UnreachableError, RequestTimeoutError)):
                raise
            raise UnreachableError(f"the connection to {self._url} broke: {e}") from e
        except BaseException:
            self._close()
            raise
        self._found += found
        if self._state.ended:
            self._answer.writer.close()
            self._stop_heart()
            p.call_ended(self._state.error)
        return True

    def _send(self, frame: bytes) -> None:
        # What a program that has ended is sent is dropped: the output says that it has.
        if not self._closed and not self._state.ended and not self._answer.writer.transport.is_closing():
            self._answer.writer.write(frame)

    async def write(self, data: r.Data) -> None:
        """Input; text is sent as UTF-8.  Waits while the program takes none."""
        for frame in processes.input_frames(r.bytes_of(data)):
            self._send(frame)
            with contextlib.suppress(ConnectionError):
                await self._answer.writer.drain()

    async def close_stdin(self) -> None:
        """Ends the input."""
        self._send(processes.control_frame("eof"))

    async def resize(self, rows: int, cols: int) -> None:
        """Of the terminal."""
        self._send(processes.resize_frame(rows, cols))

    async def signal(self, signal: Union[str, int]) -> None:
        """ "SIGINT" or a number: to the foreground of the terminal, else to the program and what it started."""
        self._send(processes.signal_frame(signal))

    async def wait(self) -> ExitStatus:
        """Waits for the end; output that was not read until then is dropped."""
        await self._drain()
        assert self._state.exit is not None
        return self._state.exit

    async def aclose(self) -> None:
        self._close()

    def _stop_heart(self) -> None:
        self._heart.cancel()

    def _close(self) -> None:
        self._stop_heart()
        self._closed = True
        if not self._answer.writer.transport.is_closing():
            self._answer.writer.transport.abort()


async def _beat(writer: asyncio.StreamWriter) -> None:
    while not writer.transport.is_closing():
        await asyncio.sleep(processes.HEARTBEAT)
        writer.write(processes.HEARTBEAT_FRAME)


async def within(url: str, work: Awaitable[_T]) -> _T:
    try:
        return await asyncio.wait_for(work, p.SILENCE_LIMIT)
    except asyncio.TimeoutError as e:
        if isinstance(e, RequestTimeoutError):
            raise
        raise RequestTimeoutError(f"the server at {url} said nothing for {p.SILENCE_LIMIT:g} seconds") from None


async def open_events(http: Transport, request: r.Request, end_event: str) -> Any:
    """Return: Answer and Events."""
    answer = await within(http.url, http.open(request))
    if not p.check_events(answer.status, answer.headers):
        p.refused(answer.status, await answer.body())
    return answer, Events(end_event)


async def gather(stream: _EventStream, listeners: Dict[str, Optional[Listener]]) -> Lines:
    """Reads a stream to its end, and tells what comes."""
    lines = Lines()
    async with stream:
        async for output in stream:
            lines.add(output)
            listener = listeners[output.stream]
            if listener is not None and output.text:
                told = listener(output.text)
                if inspect.isawaitable(told):
                    await told
    return lines
