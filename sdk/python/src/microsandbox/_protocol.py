# SPDX-License-Identifier: Apache-2.0
"""Calls and their answers, without a connection: what both faces of the package share."""
from __future__ import annotations

import base64
import json
import warnings
from typing import Any, Dict, List, Mapping, NamedTuple, NoReturn, Optional, Sequence

from . import _requests as r
from . import _wire
from ._requests import Envs, Request
from ._settings import Endpoint, random_name
from ._wire import CommandResult, FileInfo, Line, ReplResult, SandboxInfo, SandboxMetrics, WireResult
from .errors import (
    BY_NAME,
    BY_STATUS,
    ApiError,
    CommandTimeoutError,
    FileError,
    InvalidResponseError,
    NotStartedError,
    SandboxNotFoundError,
    api_error,
)

RPC_PATH = "/api/v1/rpc"
JSON = "application/json"
EVENTS = "text/event-stream"
BYTES = "application/octet-stream"
# What an answer may take beyond the call's own time limit, seconds.
GRACE = 30.0
STOP_LIMIT = 60.0
# The server gives a sign of life more often than that while a call's output is streamed.
SILENCE_LIMIT = 60.0
QUERY_LIMIT = 30.0
DEFAULT_MEMORY = 512
DEFAULT_CPUS = 1.0
DEFAULT_START_TIMEOUT = 180.0
#: of keep_alive(): the idle time-out stays
AS_IT_IS: Any = object()
STILL_STARTING = "timed out waiting"
# What is taken off the end of output() and error(); the same in all SDKs.
WHITE_SPACE = " \t\r\n\v\f"


class Call(NamedTuple):
    method: str
    params: Dict[str, Any]
    limit: Optional[float]  # seconds until the answer must be there; None: no limit


def encode(call: Call) -> bytes:
    return r.json_bytes({"jsonrpc": "2.0", "id": 1, "method": call.method, "params": call.params})


def error_of(o: Any, status: int) -> ApiError:
    """`o`: the member "error" of an answer."""
    if isinstance(o, dict) and isinstance(o.get("message"), str):
        code = o.get("code")
        code = code if isinstance(code, int) else None
        cls = BY_NAME.get(_wire.ERRORS.get(code or 0, ""), ApiError)
        return api_error(cls, o["message"], code, status, o.get("data"))
    raise InvalidResponseError(f"the server's answer (HTTP {status}) has an error without a message")


def decode(status: int, body: bytes) -> Any:
    """The result of a call, or its error raised."""
    try:
        o = json.loads(body.decode("utf-8"))
    except ValueError:
        text = body[:200].decode("utf-8", "replace").strip()
        if status == 200:
            raise InvalidResponseError(f"the server's answer is no JSON: {text!r}") from None
        raise _plain_error(text or f"HTTP status {status}", None, status) from None
    if not isinstance(o, dict):
        raise InvalidResponseError(f"the server's answer (HTTP {status}) is no object")
    error = o.get("error")
    if isinstance(error, str):
        if isinstance(o.get("errno"), str):
            data = {"errno": o["errno"], "path": o.get("path")}
            raise api_error(FileError, error, o["code"] if isinstance(o.get("code"), int) else None, status, data)
        raise _plain_error(error, o.get("code"), status)
    if error is not None:
        raise error_of(error, status)
    if status != 200 or "result" not in o:
        raise InvalidResponseError(f"the server's answer (HTTP {status}) has neither result nor error")
    return o["result"]


def _plain_error(message: str, code: Any, status: int) -> ApiError:
    cls = BY_STATUS.get(status, ApiError)
    return cls(message, code if isinstance(code, int) else None, status)


def refused(status: int, body: bytes) -> NoReturn:
    """Raises what an answer says that is not what was asked for."""
    decode(status, body)
    raise InvalidResponseError(f"the server's answer (HTTP {status}) is not what was asked for")


def check_upgrade(headers: Mapping[str, str], accept: str) -> None:
    """Is the answer to a WebSocket's handshake one to ours?"""
    upgrade = headers.get("upgrade", "").lower() == "websocket"
    if not upgrade or headers.get("sec-websocket-accept") != accept or "sec-websocket-extensions" in headers:
        raise InvalidResponseError("the server's answer to the WebSocket's handshake is not one to ours")


def check_timeout(timeout: Optional[float], name: str = "timeout") -> Optional[float]:
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout < float("inf"):
        raise ValueError(f"{name} must be a number of seconds above 0, not {timeout!r}")
    return timeout


def _limit(timeout: Optional[float]) -> Optional[float]:
    return None if timeout is None else timeout + GRACE


def infos(result: Any) -> List[SandboxInfo]:
    return [SandboxInfo.from_wire(o) for o in _sandboxes(result)]


def _sandboxes(result: Any) -> List[Any]:
    found = result.get("sandboxes") if isinstance(result, dict) else None
    if not isinstance(found, list):
        raise InvalidResponseError("the server's answer has no proper 'sandboxes'")
    return found


def list_call(namespace: Optional[str]) -> Call:
    return Call(_wire.LIST, {} if namespace is None else {"namespace": namespace}, QUERY_LIMIT)


class RichResult:
    """A value or a picture that code showed beside what it printed.

    Attributes:
        mime: its type: "text/plain", "image/png"
        data: bytes
        text: the data of a type of text as str, else None
        note: why the data is missing (it was too large, or making it failed), else None
    """

    __slots__ = ("mime", "data", "text", "note")

    def __init__(self, r: WireResult) -> None:
        self.mime = r.mime
        self.note = r.note
        self.text = r.data if r.encoding == "utf-8" else None
        try:
            self.data = r.data.encode() if r.encoding == "utf-8" else base64.b64decode(r.data, validate=True)
        except ValueError as e:
            raise InvalidResponseError(f"the server's answer has a result that is no base64: {e}") from e

    def __repr__(self) -> str:
        return f"<RichResult {self.mime} {self.note or f'{len(self.data)} bytes'}>"


class _Output:
    """What a call printed."""

    def __init__(self, lines: Sequence[Line], truncated: Optional[bool], duration_ms: Optional[float]) -> None:
        self.lines = tuple(lines)
        self.truncated = bool(truncated)
        self.duration_ms = duration_ms

    @property
    def stdout(self) -> str:
        """All lines of standard output, joined by newlines, otherwise as they were printed."""
        return self._text("stdout")

    @property
    def stderr(self) -> str:
        """All lines of standard error, joined by newlines, otherwise as they were printed."""
        return self._text("stderr")

    def _text(self, stream: str) -> str:
        return "\n".join(line.text for line in self.lines if line.stream == stream)

    def _stripped(self, stream: str) -> str:
        return self._text(stream).rstrip(WHITE_SPACE)


class ExecutionBase(_Output):
    """The outcome of run(): see Execution."""

    def __init__(self, r: ReplResult) -> None:
        super().__init__(r.output, r.truncated, r.duration_ms)
        self.status = r.status
        self.language = r.language
        self.reason = r.reason
        self.exit_code = r.exit_code
        self.state_lost = bool(r.state_lost)
        self.results = tuple(RichResult(x) for x in r.results)

    @property
    def timed_out(self) -> bool:
        return self.reason == "timeout"

    def has_error(self) -> bool:
        """Did the code fail, or print anything but blank lines on standard error?"""
        return self.status in ("error", "exception") or any(
            line.stream == "stderr" and line.text for line in self.lines
        )

    def __repr__(self) -> str:
        return f"<Execution {self.language} {self.status}{f' ({self.reason})' if self.reason else ''}>"


class CommandExecutionBase(_Output):
    """The outcome of command.run(): see CommandExecution."""

    def __init__(self, r: CommandResult) -> None:
        super().__init__(r.output, r.truncated, r.duration_ms)
        self.command = r.command
        self.args = list(r.args)
        self.exit_code = r.exit_code
        self.success = r.success

    def __repr__(self) -> str:
        return f"<CommandExecution {self.command!r} exit code {self.exit_code}>"


class SandboxState:
    """What a sandbox object knows, and the calls it makes."""

    #: as the server knows it: "python", "nodejs", "sh"
    language = ""
    #: of a sandbox for which none was asked
    default_image = ""

    def __init__(
        self,
        server_url: Optional[str] = None,
        namespace: Optional[str] = None,
        name: Optional[str] = None,
        api_key: Optional[str] = None,
        *,
        image: Optional[str] = None,
        memory: Optional[int] = None,
        cpus: Optional[float] = None,
        volumes: Optional[Sequence[str]] = None,
        ports: Optional[Sequence[str]] = None,
        envs: Optional[Envs] = None,
        depends_on: Optional[Sequence[str]] = None,
        workdir: Optional[str] = None,
        shell: Optional[str] = None,
        scripts: Optional[Mapping[str, str]] = None,
        exec: Optional[str] = None,
        scope: Optional[str] = None,
        network: Optional[Sequence[str]] = None,
        group: Optional[str] = None,
        secrets: Optional[Sequence[Mapping[str, Any]]] = None,
        idle_timeout: Optional[float] = None,
        timeout: Optional[float] = None,
    ) -> None:
        self._endpoint = Endpoint(server_url, api_key)
        self._name = name or random_name()
        self._namespace = namespace
        self._is_started = False
        self._is_ready = False
        self._options: Dict[str, Any] = {
            "image": image,
            "memory": memory,
            "cpus": cpus,
            "volumes": volumes,
            "ports": ports,
            "envs": envs,
            "depends_on": depends_on,
            "workdir": workdir,
            "shell": shell,
            "scripts": scripts,
            "exec": exec,
            "scope": scope,
            "network": network,
            "group": group,
            "secrets": secrets,
            "idle_timeout": idle_timeout,
            "timeout": timeout,
        }

    @property
    def name(self) -> str:
        """The sandbox's name."""
        return self._name

    @property
    def namespace(self) -> Optional[str]:
        """The namespace asked for; None: the key's own, or "default"."""
        return self._namespace

    @property
    def server_url(self) -> str:
        return self._endpoint.url

    @property
    def is_started(self) -> bool:
        """Was it started here, and not stopped since?"""
        return self._is_started

    @property
    def is_ready(self) -> bool:
        """Did it answer when it was started?  False also after a start that took too long."""
        return self._is_ready

    def _params(self, **more: Any) -> Dict[str, Any]:
        params = {"sandbox": self._name, **more}
        if self._namespace is not None:
            params["namespace"] = self._namespace
        return params

    def _check_started(self) -> None:
        if not self._is_started:
            raise NotStartedError()

    def _start_call(self, given: Mapping[str, Any]) -> Call:
        o = {k: v if v is not None else self._options[k] for k, v in given.items()}
        check_timeout(o["idle_timeout"], "idle_timeout")
        timeout = check_timeout(DEFAULT_START_TIMEOUT if o["timeout"] is None else o["timeout"])
        assert timeout is not None
        envs = o["envs"]
        config = {
            "image": o["image"],
            "memory": DEFAULT_MEMORY if o["memory"] is None else o["memory"],
            "cpus": max(1, int((DEFAULT_CPUS if o["cpus"] is None else o["cpus"]) + 0.5)),
            "envs": [f"{k}={v}" for k, v in envs.items()] if isinstance(envs, Mapping) else envs,
        }
        for key in ("volumes", "ports", "depends_on", "workdir", "shell", "scripts", "exec", "scope", "idle_timeout", "network",
                    "group", "secrets"):
            config[key] = o[key]
        config = {k: _plain(v) for k, v in config.items() if v is not None}
        return Call(_wire.START, self._params(config=config, timeout=timeout), timeout + GRACE)

    def _started(self, result: Any) -> None:
        if not isinstance(result, str):
            raise InvalidResponseError("the server's answer to sandbox.start is no text")
        self._is_started = True
        self._is_ready = STILL_STARTING not in result
        if not self._is_ready:
            warnings.warn(result, RuntimeWarning, stacklevel=4)

    def _stop_call(self) -> Call:
        return Call(_wire.STOP, self._params(), STOP_LIMIT)

    def _stopped(self) -> None:
        self._is_started = self._is_ready = False

    def _repl_call(self, code: str, timeout: Optional[float]) -> Call:
        self._check_started()
        params = self._params(language=self.language, code=code)
        if check_timeout(timeout) is not None:
            params["timeout"] = timeout
        return Call(_wire.REPL_RUN, params, _limit(timeout))

    def _command_call(self, command: str, args: Optional[Sequence[str]], timeout: Optional[float]) -> Call:
        self._check_started()
        if isinstance(args, (str, bytes)):
            raise TypeError("args must be a list of texts, not one text")
        params = self._params(command=command, args=list(args or ()))
        if check_timeout(timeout) is not None:
            params["timeout"] = timeout
        return Call(_wire.COMMAND_RUN, params, _limit(timeout))

    def _metrics_call(self) -> Call:
        self._check_started()
        return Call(_wire.METRICS_GET, self._params(), QUERY_LIMIT)

    def _metrics(self, result: Any) -> SandboxMetrics:
        for o in _sandboxes(result):
            m = SandboxMetrics.from_wire(o)
            if m.name == self._name:
                return m
        raise SandboxNotFoundError(f"Sandbox {self._name} is not running", -32001, 404)

    def _info_call(self) -> Call:
        self._check_started()
        return Call(_wire.GET, self._params(), QUERY_LIMIT)

    def _logs_call(self, source: Optional[str], tail: Optional[int]) -> Call:
        self._check_started()
        given = {"source": source, "tail": tail}
        params = self._params(**{k: v for k, v in given.items() if v is not None})
        return Call(_wire.LOGS, params, QUERY_LIMIT)

    @staticmethod
    def _log_lines(result: Any) -> List[str]:
        lines = result.get("lines") if isinstance(result, dict) else None
        if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
            raise InvalidResponseError("the server's answer has no proper 'lines'")
        return lines

    def _network_call(self, rules: Optional[Sequence[str]]) -> Call:
        self._check_started()
        if rules is None:
            return Call(_wire.NETWORK_GET, self._params(), QUERY_LIMIT)
        return Call(_wire.NETWORK_SET, self._params(rules=list(rules)), QUERY_LIMIT)

    def _restart_call(self, timeout: Optional[float]) -> Call:
        self._check_started()
        limit = check_timeout(DEFAULT_START_TIMEOUT if timeout is None else timeout)
        assert limit is not None
        return Call(_wire.RESTART, self._params(timeout=limit), limit + STOP_LIMIT + GRACE)

    def _restarted(self, result: Any) -> None:
        self._started(result)

    def _keep_alive_call(self, idle_timeout: Optional[float]) -> Call:
        self._check_started()
        params = self._params()
        if idle_timeout is not AS_IT_IS:
            params["idle_timeout"] = check_timeout(idle_timeout, "idle_timeout")
        return Call(_wire.KEEP_ALIVE, params, QUERY_LIMIT)

    def _file_call(self, method: str, path: str, user: Optional[str], **more: Any) -> Call:
        self._check_started()
        given = {"path": path, "user": user, **more}
        return Call(method, self._params(**{k: v for k, v in given.items() if v is not None and v is not False}), None)

    def _files_target(self, path: str, **query: Any) -> str:
        self._check_started()
        return r.target(self._name, self._namespace, "files", path=path, **query)

    def _exec_target(self) -> str:
        self._check_started()
        return r.target(self._name, self._namespace, "exec")

    def _exec_request(self, o: Dict[str, Any]) -> Request:
        check_timeout(o.get("timeout"))
        return Request("POST", self._exec_target(), EVENTS, r.json_bytes(o), JSON)

    def _repl_request(self, code: str, timeout: Optional[float]) -> Request:
        self._check_started()
        o: Dict[str, Any] = {"language": self.language, "code": code}
        if check_timeout(timeout) is not None:
            o["timeout"] = timeout
        target = r.target(self._name, self._namespace, "repl")
        return Request("POST", target, EVENTS, r.json_bytes(o), JSON)

    def __repr__(self) -> str:
        state = "started" if self._is_started else "not started"
        return f"<{type(self).__name__} {self._name!r} {state}>"


def entries(result: Any) -> List[FileInfo]:
    found = result.get("entries") if isinstance(result, dict) else None
    if not isinstance(found, list):
        raise InvalidResponseError("the server's answer has no proper 'entries'")
    return [FileInfo.from_wire(o) for o in found]


def file_info(status: int, body: bytes) -> FileInfo:
    """Of the answer to a PUT."""
    try:
        o = json.loads(body.decode("utf-8")) if status == 200 else None
    except ValueError:
        o = None
    return FileInfo.from_wire(o) if isinstance(o, dict) and "error" not in o else refused(status, body)


def text_of(data: bytes, path: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as e:
        raise ValueError(f"{path} is no text in UTF-8: {e}") from None


def check_events(status: int, headers: Mapping[str, str]) -> bool:
    """Is the answer a stream of events?  If not, its body says why."""
    return status == 200 and headers.get("content-type", "").split(";")[0].strip().lower() == EVENTS


def call_ended(error: Optional[Dict[str, Any]]) -> None:
    if error is not None:
        raise error_of(error, 200)


def repl_result(end: Any, lines: List[Dict[str, str]], truncated: bool) -> ReplResult:
    return ReplResult.from_wire({**end, "output": lines, "truncated": end.get("truncated") or truncated})


def command_result(end: Any, o: Mapping[str, Any], lines: List[Dict[str, str]], truncated: bool) -> CommandResult:
    """`o`: the request.  Raises CommandTimeoutError as command.run() does."""
    if end.get("reason") == "timeout":
        message = f"Command timeout after {o['timeout']:g} seconds"
        raise CommandTimeoutError(message, -32004, 200, {"output": lines})
    more = {"command": o["command"], "args": o["args"], "output": lines, "truncated": truncated}
    return CommandResult.from_wire({**end, **more})


def _plain(v: Any) -> Any:
    """Sequences and mappings of any kind, as JSON has them."""
    if isinstance(v, Mapping):
        return dict(v)
    if isinstance(v, Sequence) and not isinstance(v, (str, bytes)):
        return list(v)
    return v
