# SPDX-License-Identifier: Apache-2.0
"""The same as the package itself, for programs without asyncio:

    from microsandbox.sync import PythonSandbox

    with PythonSandbox.create(name="x") as sandbox:
        print(sandbox.run("print(6 * 7)").output())

A sandbox may be used by several threads at once.
"""
from __future__ import annotations

import socket
import ssl
import threading
import time
from types import TracebackType
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Type, TypeVar

from . import _protocol as p
from ._protocol import RichResult
from ._http import ResponseReader, build_request
from ._settings import Endpoint
from ._wire import CommandResult, Line, ReplResult, SandboxInfo, SandboxMetrics
from .errors import MicrosandboxError, RequestTimeoutError, SandboxNotFoundError, UnreachableError

__all__ = [
    "BaseSandbox",
    "Command",
    "CommandExecution",
    "Execution",
    "Line",
    "Metrics",
    "NodeSandbox",
    "PythonSandbox",
    "RichResult",
    "SandboxInfo",
    "SandboxMetrics",
    "list_sandboxes",
]

_Sandbox = TypeVar("_Sandbox", bound="BaseSandbox")
GIVEN_UP_STOP_LIMIT = 5.0


class _Transport:
    """Connections to one server, kept open from call to call; a call has its own while it lasts."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._lock = threading.Lock()
        self._idle: List[socket.socket] = []

    def call(self, call: p.Call) -> Any:
        request = build_request(self._endpoint, p.RPC_PATH, p.encode(call))
        end = None if call.limit is None else time.monotonic() + call.limit
        try:
            status, body = self._round_trip(request, end)
        except (socket.timeout, TimeoutError) as e:
            if isinstance(e, MicrosandboxError):
                raise
            raise RequestTimeoutError(
                f"the server at {self._endpoint.url} did not answer {call.method} within {call.limit:g} seconds"
            ) from None
        return p.decode(status, body)

    def _round_trip(self, request: bytes, end: Optional[float]) -> Tuple[int, bytes]:
        s = self._take_idle() or self._connect(end)
        answer = ResponseReader()
        try:
            self._set_time(s, end)
            whole = self._send(s, request)
            while not answer.done:
                self._set_time(s, end)
                answer.feed(s.recv(1 << 16))
        except socket.timeout:
            s.close()
            raise
        except OSError as e:
            s.close()
            if isinstance(e, MicrosandboxError):
                raise
            raise UnreachableError(f"the connection to {self._endpoint.url} broke: {e}") from e
        except BaseException:
            s.close()
            raise
        if answer.keep_alive and whole:
            with self._lock:
                self._idle.append(s)
        else:
            s.close()
        return answer.status, answer.body

    @staticmethod
    def _send(s: socket.socket, request: bytes) -> bool:
        """Return: was all sent?  If not, the server may still have said why."""
        try:
            s.sendall(request)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    @staticmethod
    def _set_time(s: socket.socket, end: Optional[float]) -> None:
        left = None if end is None else end - time.monotonic()
        if left is not None and left <= 0:
            raise socket.timeout()
        s.settimeout(left)

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
        self, command: str, args: Optional[Sequence[str]] = None, timeout: Optional[float] = None
    ) -> CommandExecution:
        """See microsandbox.Command.run()."""
        call = self._sandbox._command_call(command, args, timeout)
        return CommandExecution(CommandResult.from_wire(self._sandbox._http.call(call)))


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
        self._http = _Transport(self._endpoint)
        self._command = Command(self)
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
            sandbox._is_ready = sandbox.metrics.get().running
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

    def run(self, code: str, timeout: Optional[float] = None) -> Execution:
        """See microsandbox.BaseSandbox.run()."""
        return Execution(ReplResult.from_wire(self._http.call(self._repl_call(code, timeout))))

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
    http = _Transport(Endpoint(server_url, api_key))
    try:
        return p.infos(http.call(p.list_call(namespace)))
    finally:
        http.close()
