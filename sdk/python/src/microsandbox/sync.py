# SPDX-License-Identifier: Apache-2.0
"""The same as the package itself, for programs without asyncio:

    from microsandbox.sync import PythonSandbox

    with PythonSandbox.create(name="x") as sandbox:
        print(sandbox.run("print(6 * 7)").output())

A sandbox may be used by several threads at once.
"""
from __future__ import annotations

from types import TracebackType
from typing import Any, Dict, List, Mapping, Optional, Sequence, Type, TypeVar

from . import _protocol as p
from . import _requests as r
from ._events import ExitStatus, Output
from ._protocol import RichResult
from ._settings import Endpoint
from ._sync_exec import CodeStream, CommandStream, Listener, Process, gather, open_events
from ._sync_files import Files, FileStream
from ._sync_http import Transport
from ._wire import CommandResult, FileInfo, Line, NetworkInfo, ReplResult, SandboxInfo, SandboxMetrics
from .errors import MicrosandboxError, RequestTimeoutError, SandboxNotFoundError

__all__ = [
    "BaseSandbox",
    "CodeStream",
    "Command",
    "CommandExecution",
    "CommandStream",
    "Execution",
    "ExitStatus",
    "FileInfo",
    "FileStream",
    "Files",
    "Line",
    "Metrics",
    "NodeSandbox",
    "Output",
    "Process",
    "PythonSandbox",
    "RichResult",
    "NetworkInfo",
    "SandboxInfo",
    "SandboxMetrics",
    "list_sandboxes",
]

_Sandbox = TypeVar("_Sandbox", bound="BaseSandbox")
GIVEN_UP_STOP_LIMIT = 5.0


class Execution(p.ExecutionBase):
    """The outcome of run(): microsandbox.Execution, without await."""

    def output(self) -> str:
        """Standard output without the white space at its end."""
        return self._stripped("stdout")

    def error(self) -> str:
        """Standard error without the white space at its end."""
        return self._stripped("stderr")


class CommandExecution(p.CommandExecutionBase):
    """The outcome of command.run(): microsandbox.CommandExecution, without await."""

    def output(self) -> str:
        """Standard output without the white space at its end."""
        return self._stripped("stdout")

    def error(self) -> str:
        """Standard error without the white space at its end."""
        return self._stripped("stderr")


class Command:
    """Runs programs in a sandbox."""

    def __init__(self, sandbox: BaseSandbox) -> None:
        self._sandbox = sandbox

    def run(
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
        """See microsandbox.Command.run()."""
        if all(v is None for v in (env, cwd, user, stdin, on_stdout, on_stderr)):
            call = self._sandbox._command_call(command, args, timeout)
            return CommandExecution(CommandResult.from_wire(self._sandbox._http.call(call)))
        o = r.exec_object(command, args, env, cwd, user, timeout, stdin)
        stream = self._stream(o)
        lines = gather(stream, {"stdout": on_stdout, "stderr": on_stderr})
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
    ) -> CommandStream:
        """See microsandbox.Command.stream()."""
        return self._stream(r.exec_object(command, args, env, cwd, user, timeout, stdin))

    def _stream(self, o: Dict[str, Any]) -> CommandStream:
        http = self._sandbox._http
        return CommandStream(http.url, *open_events(http, self._sandbox._exec_request(o), "exit"))._begin()

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
    ) -> Process:
        """See microsandbox.Command.start()."""
        more = {"tty": tty or None, "rows": rows, "cols": cols}
        o = r.exec_object(command, args, env, cwd, user, p.check_timeout(timeout), stdin, **more)
        http = self._sandbox._http
        return Process(http.url, http.open_websocket(self._sandbox._exec_target()))._begin(o)


class Metrics:
    """What a sandbox uses: see microsandbox.Metrics."""

    def __init__(self, sandbox: BaseSandbox) -> None:
        self._sandbox = sandbox

    def get(self) -> SandboxMetrics:
        return self._sandbox._metrics(self._sandbox._http.call(self._sandbox._metrics_call()))

    def all(self) -> Dict[str, Any]:
        return vars(self.get()).copy()

    def cpu(self) -> Optional[float]:
        return self.get().cpu_usage

    def memory(self) -> Optional[int]:
        return self.get().memory_usage

    def disk(self) -> Optional[int]:
        return self.get().disk_usage

    def is_running(self) -> bool:
        return self.get().running


class BaseSandbox(p.SandboxState):
    """A sandbox; see microsandbox.BaseSandbox."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._http = Transport(self._endpoint)
        self._command = Command(self)
        self._files = Files(self)
        self._metrics_face = Metrics(self)

    @classmethod
    def create(cls: Type[_Sandbox], *args: Any, **kwargs: Any) -> _Sandbox:
        """Starts a sandbox, with the arguments of the class and of start(); `with` stops it."""
        sandbox = cls(*args, **kwargs)
        sandbox._start_or_give_up()
        return sandbox

    @classmethod
    def attach(
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
            sandbox._is_ready = sandbox.info().state == "running"
        except BaseException:
            sandbox._is_started = False
            sandbox._http.close()
            raise
        return sandbox

    def get_default_image(self) -> str:
        return self.default_image

    def start(
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
        """See microsandbox.BaseSandbox.start()."""
        if self._is_started:
            return
        given = {k: v for k, v in locals().items() if k != "self"}
        given["image"] = image or self._options["image"] or self.get_default_image()
        self._started(self._http.call(self._start_call(given)))

    def stop(self) -> None:
        """Stops the sandbox and waits until it is gone; does nothing if it was not started."""
        try:
            if self._is_started:
                self._http.call(self._stop_call())
        except SandboxNotFoundError:
            pass  # it ended before
        finally:
            self._http.close()
        self._stopped()

    def _start_or_give_up(self) -> None:
        try:
            self.start()
        except (KeyboardInterrupt, RequestTimeoutError):
            try:
                self._http.call(self._stop_call()._replace(limit=GIVEN_UP_STOP_LIMIT))
            except MicrosandboxError:
                pass
            finally:
                self._http.close()
            raise
        except BaseException:
            self._http.close()
            raise

    def restart(self, timeout: Optional[float] = None) -> None:
        """See microsandbox.BaseSandbox.restart()."""
        self._started(self._http.call(self._restart_call(timeout)))

    def info(self) -> SandboxInfo:
        """What the server knows of the sandbox."""
        return SandboxInfo.from_wire(self._http.call(self._info_call()))

    def keep_alive(self, idle_timeout: Optional[float] = p.AS_IT_IS) -> SandboxInfo:
        """See microsandbox.BaseSandbox.keep_alive()."""
        return SandboxInfo.from_wire(self._http.call(self._keep_alive_call(idle_timeout)))

    def network(self) -> NetworkInfo:
        """See microsandbox.BaseSandbox.network()."""
        return NetworkInfo.from_wire(self._http.call(self._network_call(None)))

    def set_network(self, rules: Sequence[str]) -> NetworkInfo:
        """See microsandbox.BaseSandbox.set_network()."""
        return NetworkInfo.from_wire(self._http.call(self._network_call(rules)))

    def logs(self, source: Optional[str] = None, tail: Optional[int] = None) -> List[str]:
        """See microsandbox.BaseSandbox.logs()."""
        return self._log_lines(self._http.call(self._logs_call(source, tail)))

    def run(
        self,
        code: str,
        timeout: Optional[float] = None,
        *,
        on_stdout: Optional[Listener] = None,
        on_stderr: Optional[Listener] = None,
    ) -> Execution:
        """See microsandbox.BaseSandbox.run()."""
        if on_stdout is None and on_stderr is None:
            return Execution(ReplResult.from_wire(self._http.call(self._repl_call(code, timeout))))
        stream = self.stream(code, timeout)
        lines = gather(stream, {"stdout": on_stdout, "stderr": on_stderr})
        return Execution(p.repl_result(stream._events.end, lines.end(), lines.truncated))

    def stream(self, code: str, timeout: Optional[float] = None) -> CodeStream:
        """See microsandbox.BaseSandbox.stream()."""
        request = self._repl_request(code, timeout)
        return CodeStream(self._http.url, *open_events(self._http, request, "done"))

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

    def __enter__(self: _Sandbox) -> _Sandbox:
        self._start_or_give_up()
        return self

    def __exit__(
        self, t: Optional[Type[BaseException]], e: Optional[BaseException], tb: Optional[TracebackType]
    ) -> None:
        self.stop()


class PythonSandbox(BaseSandbox):
    """A sandbox that runs Python."""

    language = "python"
    default_image = "microsandbox/python"


class NodeSandbox(BaseSandbox):
    """A sandbox that runs JavaScript with Node.js."""

    language = "nodejs"
    default_image = "microsandbox/node"


def list_sandboxes(
    server_url: Optional[str] = None, namespace: Optional[str] = None, api_key: Optional[str] = None
) -> List[SandboxInfo]:
    """The sandboxes of a namespace; "*" means every namespace that the key may see."""
    http = Transport(Endpoint(server_url, api_key))
    try:
        return p.infos(http.call(p.list_call(namespace)))
    finally:
        http.close()
