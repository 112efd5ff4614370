# SPDX-License-Identifier: Apache-2.0
"""The asyncio face."""
from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Dict, Generator, Generic, List, Mapping, Optional, Sequence, Type, TypeVar

from . import _protocol as p
from . import _requests as r
from ._async_exec import CodeStream, CommandStream, Listener, Opening, Process, gather, open_events
from ._async_files import Files
from ._async_http import Transport
from ._settings import Endpoint
from ._wire import CommandResult, NetworkInfo, ReplResult, SandboxInfo, SandboxMetrics
from .errors import MicrosandboxError, RequestTimeoutError, SandboxNotFoundError

_Sandbox = TypeVar("_Sandbox", bound="BaseSandbox")

# After a start that was given up, the sandbox is asked to stop, and waited for that long.
GIVEN_UP_STOP_LIMIT = 5.0


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
        self,
        command: str,
        args: Optional[Sequence[str]] = None,
        timeout: Optional[float] = None,
        *,
        env: Optional[r.Envs] = None,
        cwd: Optional[str] = None,
        user: Optional[str] = None,
        stdin: Optional[r.Data] = None,
        on_stdout: Optional[Listener] = None,
        on_stderr: Optional[Listener] = None,
    ) -> CommandExecution:
        """Runs a program, found in PATH, with these arguments; no shell is involved.

        `timeout` is in seconds; None means none.  When it is over, the program and all that
        it started are killed and CommandTimeoutError is raised.

        Args:
            env: added to the sandbox's environment: a mapping, or ["KEY=VALUE", ...]
            cwd: where it starts
            user: "name", "uid", "name:group"; default: the image's
            stdin: its input, text or bytes
            on_stdout, on_stderr: called with each piece of text as it comes
        """
        if all(v is None for v in (env, cwd, user, stdin, on_stdout, on_stderr)):
            call = self._sandbox._command_call(command, args, timeout)
            return CommandExecution(CommandResult.from_wire(await self._sandbox._http.call(call)))
        o = r.exec_object(command, args, env, cwd, user, timeout, stdin)
        stream = await self._stream(o)
        lines = await gather(stream, {"stdout": on_stdout, "stderr": on_stderr})
        return CommandExecution(p.command_result(stream._events.end, o, lines.end(), lines.truncated))

    def stream(
        self,
        command: str,
        args: Optional[Sequence[str]] = None,
        timeout: Optional[float] = None,
        *,
        env: Optional[r.Envs] = None,
        cwd: Optional[str] = None,
        user: Optional[str] = None,
        stdin: Optional[r.Data] = None,
    ) -> Opening[CommandStream]:
        """As run(), with the output as it comes:

            async with sandbox.command.stream("make") as stream:
                async for output in stream:
                    print(output.text, end="")
            print(stream.exit.exit_code)

        A time limit that is reached is no error: `exit.timed_out`.
        """
        o = r.exec_object(command, args, env, cwd, user, timeout, stdin)
        return Opening(lambda: self._stream(o))

    async def _stream(self, o: Dict[str, Any]) -> CommandStream:
        http = self._sandbox._http
        stream = CommandStream(http.url, *await open_events(http, self._sandbox._exec_request(o), "exit"))
        return await stream._begin()

    def start(
        self,
        command: str,
        args: Optional[Sequence[str]] = None,
        timeout: Optional[float] = None,
        *,
        env: Optional[r.Envs] = None,
        cwd: Optional[str] = None,
        user: Optional[str] = None,
        stdin: Optional[r.Data] = None,
        tty: bool = False,
        rows: Optional[int] = None,
        cols: Optional[int] = None,
    ) -> Opening[Process]:
        """Starts a program whose input is written while it runs; with `tty` on a terminal of `rows` and
        `cols` (24, 80), where all output is "stdout".  The other arguments are those of run()."""
        more = {"tty": tty or None, "rows": rows, "cols": cols}
        o = r.exec_object(command, args, env, cwd, user, p.check_timeout(timeout), stdin, **more)
        return Opening(lambda: self._start(o))

    async def _start(self, o: Dict[str, Any]) -> Process:
        http = self._sandbox._http
        return await Process(http.url, await http.open_websocket(self._sandbox._exec_target()))._begin(o)


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
        self._http = Transport(self._endpoint)
        self._command = Command(self)
        self._files = Files(self)
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
            sandbox._is_ready = (await sandbox.info()).state == "running"
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
        envs: Optional[r.Envs] = None,
        depends_on: Optional[Sequence[str]] = None,
        workdir: Optional[str] = None,
        shell: Optional[str] = None,
        scripts: Optional[Mapping[str, str]] = None,
        exec: Optional[str] = None,
        timeout: Optional[float] = None,
        *,
        scope: Optional[str] = None,
        network: Optional[Sequence[str]] = None,
        group: Optional[str] = None,
        secrets: Optional[Sequence[Mapping[str, Any]]] = None,
        idle_timeout: Optional[float] = None,
    ) -> None:
        """Starts the sandbox and waits until it answers; does nothing if it was started already.

        Args: (None: as the object was made, else the default)
            image: default: that of the language
            memory: MiB, default 512
            cpus: default 1; rounded
            envs: ["KEY=VALUE", ...] or a mapping
            workdir: where code and programs start
            scope: what the network reaches: "none", "group", "public" (default), "any"
            group: of scope "group": the sandboxes of the same group reach each other by name
            network: rules on top of it: ["allow tcp example.org:443", "default deny", "limit connects 50"]
            secrets: [{"name": "API_KEY", "value": "...", "hosts": ["api.example.org"]}]: the sandbox has a
                placeholder, plain HTTP requests to the hosts get the value
            timeout: seconds, default 180
            idle_timeout: seconds without a call after which it is stopped; default: never
            ports: to publish on the server's machine: ["8000:80", "0:8000", "5353:53/udp"]; info() tells
                which port a 0 became
            volumes: ["NAME:PATH[:ro]", ...]: named volumes, or paths of the host that the server allows
            depends_on, scripts: the server refuses them so far
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

    async def restart(self, timeout: Optional[float] = None) -> None:
        """Stops the sandbox and starts it again, configured as it was, with a fresh disk.

        `timeout`: of the start, seconds; default 180.
        """
        self._started(await self._http.call(self._restart_call(timeout)))

    async def info(self) -> SandboxInfo:
        """What the server knows of the sandbox."""
        return SandboxInfo.from_wire(await self._http.call(self._info_call()))

    async def keep_alive(self, idle_timeout: Optional[float] = p.AS_IT_IS) -> SandboxInfo:
        """Counts as use, so that the sandbox is not stopped as idle.

        `idle_timeout`: from now on that one, seconds; None: it is never stopped as idle.
        """
        return SandboxInfo.from_wire(await self._http.call(self._keep_alive_call(idle_timeout)))

    async def network(self) -> NetworkInfo:
        """What the sandbox's network may reach now, who is in its group, and how often it was denied what."""
        return NetworkInfo.from_wire(await self._http.call(self._network_call(None)))

    async def set_network(self, rules: Sequence[str]) -> NetworkInfo:
        """Gives the network other rules in place of all that it has, at once: what they do not allow is cut.

        `rules`: as `network` of start(); an empty list leaves the scope alone.
        """
        return NetworkInfo.from_wire(await self._http.call(self._network_call(rules)))

    async def logs(self, source: Optional[str] = None, tail: Optional[int] = None) -> List[str]:
        """The last lines (`tail`, default 200) of a log.

        `source`: "console" (default; what the sandbox's kernel and programs say), "vm", "supervisor" or "net"
        (what the network was denied).
        """
        return self._log_lines(await self._http.call(self._logs_call(source, tail)))

    async def run(
        self,
        code: str,
        timeout: Optional[float] = None,
        *,
        on_stdout: Optional[Listener] = None,
        on_stderr: Optional[Listener] = None,
    ) -> Execution:
        """Runs code in the sandbox's interpreter, which keeps its state from call to call.

        After `timeout` seconds the code is interrupted: the Execution then has `timed_out`.
        on_stdout, on_stderr are called with each piece of text as it comes.
        """
        if on_stdout is None and on_stderr is None:
            return Execution(ReplResult.from_wire(await self._http.call(self._repl_call(code, timeout))))
        stream = await self._stream(code, timeout)
        lines = await gather(stream, {"stdout": on_stdout, "stderr": on_stderr})
        return Execution(p.repl_result(stream._events.end, lines.end(), lines.truncated))

    def stream(self, code: str, timeout: Optional[float] = None) -> Opening[CodeStream]:
        """As run(), with the output as it comes:

            async with sandbox.stream("for i in range(3): print(i)") as stream:
                async for output in stream:
                    print(output.text, end="")
                execution = await stream.wait()
        """
        return Opening(lambda: self._stream(code, timeout))

    async def _stream(self, code: str, timeout: Optional[float]) -> CodeStream:
        request = self._repl_request(code, timeout)
        return CodeStream(self._http.url, *await open_events(self._http, request, "done"))

    @property
    def files(self) -> Files:
        return self._files

    @property
    def fs(self) -> Files:
        """The same as `files`."""
        return self._files

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
    http = Transport(Endpoint(server_url, api_key))
    try:
        return p.infos(await http.call(p.list_call(namespace)))
    finally:
        http.close()
