# SPDX-License-Identifier: Apache-2.0
"""Programs and code whose output is told as it comes, the face without asyncio."""
from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
from collections import deque
from types import TracebackType
from typing import Any, Callable, Deque, Dict, Iterator, List, Optional, Type, TypeVar, Union

from . import _process as processes
from . import _protocol as p
from . import _requests as r
from ._events import Events, ExitStatus, Lines, Output
from ._sync_http import Answer, Transport
from .errors import MicrosandboxError, RequestTimeoutError, UnreachableError

NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
#: is called with each piece of text
Listener = Callable[[str], Any]
_Self = TypeVar("_Self", bound="_OutputStream")


class _OutputStream:
    """`with` it, and `for output in` it.  Leaving it early kills what runs."""

    def __init__(self) -> None:
        self._found: Deque[Output] = deque()

    def __iter__(self: _Self) -> _Self:
        return self

    def __next__(self) -> Output:
        while not self._found:
            if not self._more():
                raise StopIteration
        return self._found.popleft()

    def _more(self) -> bool:
        """Return: False: it has ended."""
        raise NotImplementedError

    def _drain(self) -> None:
        while self._more():
            self._found.clear()
        self._found.clear()

    def close(self) -> None:
        """Kills what runs, if it has not ended."""
        raise NotImplementedError

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self, t: Optional[Type[BaseException]], e: Optional[BaseException], tb: Optional[TracebackType]
    ) -> None:
        self.close()


class _EventStream(_OutputStream):
    def __init__(self, url: str, answer: Answer, events: Events) -> None:
        super().__init__()
        self._url = url
        self._answer = answer
        self._events = events

    def _more(self) -> bool:
        if self._events.ended:
            p.call_ended(self._events.error)
            return False
        try:
            found = self._events.next()
            while found is None:
                with saying_why(self._url):
                    self._events.feed(self._answer.read())
                found = self._events.next()
        except BaseException:
            self._answer.close()
            raise
        self._found += found
        if self._events.ended and not self._answer.http.done:
            # Its last chunk; then the connection can be used again.
            with contextlib.suppress(UnreachableError, socket.timeout):
                self._answer.read()
            self._answer.close()
        return True

    def close(self) -> None:
        self._answer.close()


class CommandStream(_EventStream):
    """A program that runs: see microsandbox.CommandStream."""

    def _begin(self) -> CommandStream:
        try:
            while self._events.pid is None and not self._events.ended:
                self._more()
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

    def wait(self) -> ExitStatus:
        """Waits for the end; output that was not read until then is dropped."""
        self._drain()
        return ExitStatus.from_wire(self._events.end)


class CodeStream(_EventStream):
    """Code that runs: see microsandbox.CodeStream."""

    def wait(self) -> Any:
        """Waits for the end.  Returns an Execution; output that was not read until then is dropped, and
        the Execution has none."""
        from .sync import Execution

        self._drain()
        return Execution(p.repl_result(self._events.end, [], False))


class Process(_OutputStream):
    """A program with input: see microsandbox.Process.

    One thread may read while others write.
    """

    def __init__(self, url: str, answer: Answer) -> None:
        super().__init__()
        self._url = url
        self._socket = answer.socket
        self._state = processes.ProcessState()
        self._lock = threading.Lock()  # of the socket: TLS has one state for both directions
        self._closed = threading.Event()
        self._frames = threading.Lock()  # one at a time
        self._state.feed(answer.http.rest)
        self._socket.settimeout(0)
        threading.Thread(target=self._beat, name="microsandbox-heartbeat", daemon=True).start()

    @property
    def pid(self) -> Optional[int]:
        return self._state.pid

    @property
    def exit(self) -> Optional[ExitStatus]:
        return self._state.exit

    def _begin(self, request: Dict[str, Any]) -> Process:
        try:
            self._send(processes.request_frame(request))
            while self._state.pid is None and self._more():
                pass
        except BaseException:
            self.close()
            raise
        return self

    def _next(self) -> Optional[List[Output]]:
        found = self._state.next()
        if self._state.replies:
            self._push(bytes(self._state.replies), wait=False)
            self._state.replies.clear()
        return found

    def _more(self) -> bool:
        if self._state.ended:
            p.call_ended(self._state.error)
            return False
        if self._closed.is_set():
            raise UnreachableError("the process was closed")
        try:
            found = self._next()
            while found is None:
                with saying_why(self._url):
                    data = self._receive()
                if not data:
                    raise UnreachableError(f"the connection to {self._url} ended before the program did")
                self._state.feed(data)
                found = self._next()
        except BaseException as e:
            self.close()
            if isinstance(e, OSError) and not isinstance(e, MicrosandboxError):
                raise UnreachableError(f"the connection to {self._url} broke: {e}") from e
            raise
        self._found += found
        if self._state.ended:
            self.close()
            p.call_ended(self._state.error)
        return True

    def _send(self, frame: bytes) -> None:
        # What a program that has ended is sent is dropped: the output says that it has.
        if not self._closed.is_set() and not self._state.ended:
            self._push(frame)

    def _push(self, frame: bytes, wait: bool = True) -> None:
        # Who reads must not wait for who writes, or a program that does both would hang: then an
        # answer to a ping is left out, which the server does not mind while it does not listen.
        if not self._frames.acquire(blocking=wait):
            return
        try:
            left = memoryview(frame)
            while left and not self._closed.is_set():
                with self._lock:
                    try:
                        left = left[self._socket.send(left) :]
                        continue
                    except NOT_NOW:
                        pass
                wait_for(self._socket, select.POLLOUT, 1)
        except (OSError, ValueError):
            pass  # whoever reads is told
        finally:
            self._frames.release()

    def _receive(self) -> bytes:
        while True:
            with self._lock:
                with contextlib.suppress(*NOT_NOW):
                    return self._socket.recv(1 << 16)
            if not wait_for(self._socket, select.POLLIN, p.SILENCE_LIMIT):
                raise socket.timeout()

    def write(self, data: r.Data) -> None:
        """Input; text is sent as UTF-8.  Waits while the program takes none."""
        for frame in processes.input_frames(r.bytes_of(data)):
            self._send(frame)

    def close_stdin(self) -> None:
        """Ends the input."""
        self._send(processes.control_frame("eof"))

    def resize(self, rows: int, cols: int) -> None:
        """Of the terminal."""
        self._send(processes.resize_frame(rows, cols))

    def signal(self, signal: Union[str, int]) -> None:
        """ "SIGINT" or a number: to the foreground of the terminal, else to the program and what it started."""
        self._send(processes.signal_frame(signal))

    def wait(self) -> ExitStatus:
        """Waits for the end; output that was not read until then is dropped."""
        self._drain()
        assert self._state.exit is not None
        return self._state.exit

    def close(self) -> None:
        if not self._closed.is_set():
            self._closed.set()
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)  # wakes a thread that reads
            self._socket.close()

    def _beat(self) -> None:
        while not self._closed.wait(processes.HEARTBEAT):
            self._send(processes.HEARTBEAT_FRAME)


def wait_for(s: socket.socket, what: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(s, what)
    return bool(poll.poll(seconds * 1000))


@contextlib.contextmanager
def saying_why(url: str) -> Iterator[None]:
    try:
        yield
    except socket.timeout as e:
        if isinstance(e, RequestTimeoutError):
            raise
        raise RequestTimeoutError(f"the server at {url} said nothing for {p.SILENCE_LIMIT:g} seconds") from None


def open_events(http: Transport, request: r.Request, end_event: str) -> Any:
    """Return: Answer and Events."""
    with saying_why(http.url):
        answer = http.open(request, silence=p.SILENCE_LIMIT)
    if not p.check_events(answer.status, answer.headers):
        p.refused(answer.status, answer.body())
    return answer, Events(end_event)


def gather(stream: _EventStream, listeners: Dict[str, Optional[Listener]]) -> Lines:
    """Reads a stream to its end, and tells what comes."""
    lines = Lines()
    with stream:
        for output in stream:
            lines.add(output)
            listener = listeners[output.stream]
            if listener is not None and output.text:
                listener(output.text)
    return lines
