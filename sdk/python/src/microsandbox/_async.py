# SPDX-License-Identifier: Apache-2.0
"""The asyncio face."""
from __future__ import annotations

import asyncio
import ssl
from types import TracebackType
from typing import Any, Dict, Generator, Generic, List, Mapping, Optional, Sequence, Tuple, Type, TypeVar

from . import _protocol as p
from ._http import ResponseReader, build_request
from ._settings import Endpoint
from ._wire import CommandResult, ReplResult, SandboxInfo, SandboxMetrics
from .errors import MicrosandboxError, RequestTimeoutError, SandboxNotFoundError, UnreachableError

_Streams = Tuple[asyncio.StreamReader, asyncio.StreamWriter]
_Sandbox = TypeVar("_Sandbox", bound="BaseSandbox")

# After a start that was given up, the sandbox is asked to stop, and waited for that long.
GIVEN_UP_STOP_LIMIT = 5.0


class _Transport:
    """Connections to one server, kept open from call to call.

    A call has a connection of its own while it lasts.  One that is cancelled, or whose time
    is up, closes it: the server then kills what the call had started.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._idle: List[_Streams] = []

    async def call(self, call: p.Call) -> Any:
        request = build_request(self._endpoint, p.RPC_PATH, p.encode(call))
        try:
            status, body = await asyncio.wait_for(self._round_trip(request), call.limit)
        except asyncio.TimeoutError:
            raise RequestTimeoutError(
                f"the server at {self._endpoint.url} did not answer {call.method} within {call.limit:g} seconds"
            ) from None
        return p.decode(status, body)

    async def _round_trip(self, request: bytes) -> Tuple[int, bytes]:
        reader, writer = self._take_idle() or await self._connect()
        answer = ResponseReader()
        try:
            writer.write(request)
            # The answer may come, and be an error, before all of a request is written.
            sent = asyncio.ensure_future(writer.drain())
            try:
                while not answer.done:
                    answer.feed(await reader.read(1 << 16))
            finally:
                whole = sent.done() and not sent.cancelled() and sent.exception() is None
                sent.cancel()
        except OSError as e:
            writer.transport.abort()
            raise UnreachableError(f"the connection to {self._endpoint.url} broke: {e}") from e
        except BaseException:
            writer.transport.abort()
            raise
        if answer.keep_alive and whole:
            self._idle.append((reader, writer))
        else:
            writer.transport.abort()  # close() would wait until the rest of the request is sent
        return answer.status, answer.body

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


class Execution(p.ExecutionBase):
    """The outcome of run().

    Attributes:
        status: "success", or "error": the code raised, ran out of time or ended its interpreter
        reason: of an error: "exception", "timeout" or "exited"
        exit_code: if the interpreter ended
        state_lost: does the next call start with a fresh interpreter?
        language: of the code
        lines: what was printed, as it came: tuple of Line(stream, text)
        results: what the code showed beside that, the value of its last expression and
            pictures: tuple of RichResult(mime, data, text, note)
        stdout, stderr: the lines of one stream, joined
        truncated: did it print more than the server keeps of a call?
        duration_ms: how long it took in the sandbox
    """

    async def output(self) -> str:
        """Standard output without the white space at its end."""
        return self._stripped("stdout")

    async def error(self) -> str:
        """Standard error without the white space at its end."""
        return self._stripped("stderr")


class CommandExecution(p.CommandExecutionBase):
    """The outcome of command.run().

    Attributes:
        exit_code: as the program ended; 128 + n after signal n
        success: is exit_code 0?
        command, args: what was run
        lines, stdout, stderr, truncated, duration_ms: as in Execution
    """

    async def output(self) -> str:
        """Standard output without the white space at its end."""
        return self._stripped("stdout")

    async def error(self) -> str:
        """Standard error without the white space at its end."""
        return self._stripped("stderr")


class Command:
    """Runs programs in a sandbox."""

    def __init__(self, sandbox: BaseSandbox) -> None:
        self._sandbox = sandbox

    async def run(
        self, command: str, args: Optional[Sequence[str]] = None, timeout: Optional[float] = None
    ) -> CommandExecution:
        """Runs a program, found in PATH, with these arguments; no shell is involved.

        `timeout` is in seconds; None means none.  When it is over, the program and all that
        it started are killed and CommandTimeoutError is raised.
        """
        call = self._sandbox._command_call(command, args, timeout)
        return CommandExecution(CommandResult.from_wire(await self._sandbox._http.call(call)))


class Metrics:
    """What a sandbox uses."""

    def __init__(self, sandbox: BaseSandbox) -> None:
        self._sandbox = sandbox

    async def get(self) -> SandboxMetrics:
        """All metrics, as an object."""
        return self._sandbox._metrics(await self._sandbox._http.call(self._sandbox._metrics_call()))

    async def all(self) -> Dict[str, Any]:
        """All metrics: name, namespace, running, cpu_usage, memory_usage, disk_usage."""
        return vars(await self.get()).copy()

    async def cpu(self) -> Optional[float]:
        """Percent of one CPU, since the last call; None if it is not known."""
        return (await self.get()).cpu_usage

    async def memory(self) -> Optional[int]:
        """MiB in use inside the sandbox."""
        return (await self.get()).memory_usage

    async def disk(self) -> Optional[int]:
        """Bytes in use on the sandbox's disk."""
        return (await self.get()).disk_usage

    async def is_running(self) -> bool:
        return (await self.get()).running


class _Creating(Generic[_Sandbox]):
    """What create() returns: `async with` starts and stops the sandbox, `await` starts it."""

    def __init__(self, sandbox: _Sandbox) -> None:
        self._sandbox = sandbox

    async def _start(self) -> _Sandbox:
        try:
            await self._sandbox.start()
        except (asyncio.CancelledError, RequestTimeoutError):
            await self._sandbox._give_up()
            raise
        except BaseException:
            self._sandbox._http.close()
            raise
        return self._sandbox

    def __await__(self) -> Generator[Any, None, _Sandbox]:
        return self._start().__await__()

    async def __aenter__(self) -> _Sandbox:
        return await self._start()

    async def __aexit__(
        self, t: Optional[Type[BaseException]], e: Optional[BaseException], tb: Optional[TracebackType]
    ) -> None:
        await self._sandbox.stop()


class BaseSandbox(p.SandboxState):
    """A sandbox.  Use PythonSandbox or NodeSandbox, or a class of your own with `language` and
    `get_default_image`.

    Without `server_url` and `api_key` the environment says (MSB_SERVER_URL, MSB_API_KEY), else
    a file .env in the current directory.  The other arguments are those of start().
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._http = _Transport(self._endpoint)
        self._command = Command(self)
        self._metrics_face = Metrics(self)

    @classmethod
    def create(cls: Type[_Sandbox], *args: Any, **kwargs: Any) -> _Creating[_Sandbox]:
        """Starts a sandbox, with the arguments of the class and of start():

        `async with PythonSandbox.create(name="x") as sandbox:` also stops it at the end;
        `sandbox = await PythonSandbox.create(name="x")` leaves that to stop().
        """
        return _Creating(cls(*args, **kwargs))

    @classmethod
    async def attach(
        cls: Type[_Sandbox],
        name: str,
        *,
        server_url: Optional[str] = None,
        namespace: Optional[str] = None,
        api_key: Optional[str] = None,
    ) -> _Sandbox:
        """A sandbox that somebody else started; SandboxNotFoundError if it is not running."""
        sandbox = cls(server_url, namespace, name, api_key)
        sandbox._is_started = True
        try:
            sandbox._is_ready = (await sandbox.metrics.get()).running
        except BaseException:
            sandbox._is_started = False
            sandbox._http.close()
            raise
        return sandbox

    async def get_default_image(self) -> str:
        """The image of a sandbox of this class for which none was asked."""
        return self.default_image

    async def start(
        self,
        image: Optional[str] = None,
        memory: Optional[int] = None,
        cpus: Optional[float] = None,
        volumes: Optional[Sequence[str]] = None,
        ports: Optional[Sequence[str]] = None,
        envs: Optional[p.Envs] = None,
        depends_on: Optional[Sequence[str]] = None,
        workdir: Optional[str] = None,
        shell: Optional[str] = None,
        scripts: Optional[Mapping[str, str]] = None,
        exec: Optional[str] = None,
        timeout: Optional[float] = None,
        *,
        scope: Optional[str] = None,
    ) -> None:
        """Starts the sandbox and waits until it answers; does nothing if it was started already.

        Args: (None: as the object was made, else the default)
            image: default: that of the language
            memory: MiB, default 512
            cpus: default 1; rounded
            envs: ["KEY=VALUE", ...] or a mapping
            workdir: where code and programs start
            scope: what the network reaches: "none", "public" (default), "any"
            timeout: seconds, default 180
            volumes, ports, depends_on, scripts: the server refuses them so far
            shell, exec: have no effect so far
        """
        if self._is_started:
            return
        given = {k: v for k, v in locals().items() if k != "self"}
        given["image"] = image or self._options["image"] or await self.get_default_image()
        self._started(await self._http.call(self._start_call(given)))

    async def stop(self) -> None:
        """Stops the sandbox and waits until it is gone; does nothing if it was not started."""
        try:
            if self._is_started:
                await self._http.call(self._stop_call())
        except SandboxNotFoundError:
            pass  # it ended before
        finally:
            self._http.close()
        self._stopped()

    async def _give_up(self) -> None:
        """After a start of which nobody knows how far it got."""
        try:
            await self._http.call(self._stop_call()._replace(limit=GIVEN_UP_STOP_LIMIT))
        except MicrosandboxError:
            pass
        finally:
            self._http.close()

    async def run(self, code: str, timeout: Optional[float] = None) -> Execution:
        """Runs code in the sandbox's interpreter, which keeps its state from call to call.

        After `timeout` seconds the code is interrupted: the Execution then has `timed_out`.
        """
        return Execution(ReplResult.from_wire(await self._http.call(self._repl_call(code, timeout))))

    @property
    def command(self) -> Command:
        return self._command

    @property
    def metrics(self) -> Metrics:
        return self._metrics_face

    async def __aenter__(self: _Sandbox) -> _Sandbox:
        return await _Creating(self)._start()

    async def __aexit__(
        self, t: Optional[Type[BaseException]], e: Optional[BaseException], tb: Optional[TracebackType]
    ) -> None:
        await self.stop()


class PythonSandbox(BaseSandbox):
    """A sandbox that runs Python."""

    language = "python"
    default_image = "microsandbox/python"


class NodeSandbox(BaseSandbox):
    """A sandbox that runs JavaScript with Node.js."""

    language = "nodejs"
    default_image = "microsandbox/node"


async def list_sandboxes(
    server_url: Optional[str] = None, namespace: Optional[str] = None, api_key: Optional[str] = None
) -> List[SandboxInfo]:
    """The sandboxes of a namespace; "*" means every namespace that the key may see."""
    http = _Transport(Endpoint(server_url, api_key))
    try:
        return p.infos(await http.call(p.list_call(namespace)))
    finally:
        http.close()
