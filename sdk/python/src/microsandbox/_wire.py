# SPDX-License-Identifier: Apache-2.0
"""Made from api/openrpc.json by tools/gen-sdk-types: change the schema, not this file."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional, Tuple

from .errors import InvalidResponseError

START = "sandbox.start"
STOP = "sandbox.stop"
RESTART = "sandbox.restart"
GET = "sandbox.get"
KEEP_ALIVE = "sandbox.keep_alive"
LOGS = "sandbox.logs"
LIST = "sandbox.list"
NETWORK_GET = "sandbox.network.get"
NETWORK_SET = "sandbox.network.set"
METRICS_GET = "sandbox.metrics.get"
REPL_RUN = "sandbox.repl.run"
COMMAND_RUN = "sandbox.command.run"
FS_READ = "sandbox.fs.read"
FS_WRITE = "sandbox.fs.write"
FS_LIST = "sandbox.fs.list"
FS_STAT = "sandbox.fs.stat"
FS_MKDIR = "sandbox.fs.mkdir"
FS_REMOVE = "sandbox.fs.remove"
FS_RENAME = "sandbox.fs.rename"
VOLUME_CREATE = "volume.create"
VOLUME_LIST = "volume.list"
VOLUME_GET = "volume.get"
VOLUME_REMOVE = "volume.remove"

# JSON-RPC codes and their names in the schema.
ERRORS = {
    -32700: "ParseError",
    -32600: "InvalidRequest",
    -32601: "MethodNotFound",
    -32602: "InvalidParams",
    -32603: "Internal",
    -32001: "NotFound",
    -32002: "SandboxFailed",
    -32003: "NotRun",
    -32004: "TimedOut",
    -32005: "Limit",
    -32006: "Denied",
    -32007: "FileFailed",
}


def _checked(v: Any, kind: type, what: str) -> Any:
    if kind is float and isinstance(v, int) and not isinstance(v, bool):
        return float(v)
    if not isinstance(v, kind) or (kind is int and isinstance(v, bool)):
        raise InvalidResponseError(f"the server's answer has no proper {what!r}")
    return v


def _required(o: Any, key: str, kind: type) -> Any:
    if not isinstance(o, dict):
        raise InvalidResponseError("the server's answer is no object")
    return _checked(o.get(key), kind, key)


def _optional(o: Any, key: str, kind: type) -> Any:
    if isinstance(o, dict) and o.get(key) is None:
        return None
    return _required(o, key, kind)


@dataclass(frozen=True)
class Line:
    stream: str
    #: one line without its newline; bytes that are no UTF-8 are U+FFFD
    text: str

    @classmethod
    def from_wire(cls, o: Any) -> Line:
        return cls(
            stream=_required(o, "stream", str),
            text=_required(o, "text", str),
        )


@dataclass(frozen=True)
class WireResult:
    #: of the data: text/plain, image/png; without parameters
    mime: str
    #: utf-8: the data is text (text/*, */json, */xml, */javascript, *+json, *+xml; bytes that are no UTF-8 are U+FFFD); base64: it is bytes, in base64 with padding
    encoding: str
    #: empty if there is a note
    data: str
    #: only if the data is missing: why, one line
    note: Optional[str]

    @classmethod
    def from_wire(cls, o: Any) -> WireResult:
        return cls(
            mime=_required(o, "mime", str),
            encoding=_required(o, "encoding", str),
            data=_required(o, "data", str),
            note=_optional(o, "note", str),
        )


@dataclass(frozen=True)
class PortInfo:
    #: address of the server's machine that the port is bound to
    host_ip: str
    host_port: int
    guest_port: int
    protocol: str

    @classmethod
    def from_wire(cls, o: Any) -> PortInfo:
        return cls(
            host_ip=_required(o, "host_ip", str),
            host_port=_required(o, "host_port", int),
            guest_port=_required(o, "guest_port", int),
            protocol=_required(o, "protocol", str),
        )


@dataclass(frozen=True)
class SandboxInfo:
    name: str
    namespace: str
    image: str
    state: str
    #: kvm or tcg
    engine: Optional[str]
    #: hardware or emulated
    isolation: Optional[str]
    #: RFC 3339
    started_at: str
    #: MiB
    memory: Optional[int]
    cpus: Optional[int]
    #: what its network reaches: none, group, public or any
    scope: Optional[str]
    #: seconds without use after which it is stopped; null: never
    idle_timeout: Optional[float]
    #: published ports; empty while it is prepared
    ports: Tuple[PortInfo, ...]

    @classmethod
    def from_wire(cls, o: Any) -> SandboxInfo:
        return cls(
            name=_required(o, "name", str),
            namespace=_required(o, "namespace", str),
            image=_required(o, "image", str),
            state=_required(o, "state", str),
            engine=_optional(o, "engine", str),
            isolation=_optional(o, "isolation", str),
            started_at=_required(o, "started_at", str),
            memory=_optional(o, "memory", int),
            cpus=_optional(o, "cpus", int),
            scope=_optional(o, "scope", str),
            idle_timeout=_optional(o, "idle_timeout", float),
            ports=tuple(PortInfo.from_wire(x) for x in _optional(o, "ports", list) or ()),
        )


@dataclass(frozen=True)
class SandboxMetrics:
    name: str
    namespace: str
    running: bool
    #: percent of one CPU, since the last call for this sandbox
    cpu_usage: Optional[float]
    #: MiB, inside the guest
    memory_usage: Optional[int]
    #: bytes of the writable disk
    disk_usage: Optional[int]

    @classmethod
    def from_wire(cls, o: Any) -> SandboxMetrics:
        return cls(
            name=_required(o, "name", str),
            namespace=_required(o, "namespace", str),
            running=_required(o, "running", bool),
            cpu_usage=_optional(o, "cpu_usage", float),
            memory_usage=_optional(o, "memory_usage", int),
            disk_usage=_optional(o, "disk_usage", int),
        )


@dataclass(frozen=True)
class NetworkCounter:
    #: passed and lost (frames), or the reason for which something was denied or dropped; docs/network.md lists them
    name: str
    #: since the sandbox started
    count: int

    @classmethod
    def from_wire(cls, o: Any) -> NetworkCounter:
        return cls(
            name=_required(o, "name", str),
            count=_required(o, "count", int),
        )


@dataclass(frozen=True)
class NetworkMember:
    #: of the sandbox, in small letters: as the others of the group reach it
    name: str
    #: in the group's network
    address: str

    @classmethod
    def from_wire(cls, o: Any) -> NetworkMember:
        return cls(
            name=_required(o, "name", str),
            address=_required(o, "address", str),
        )


@dataclass(frozen=True)
class NetworkInfo:
    scope: str
    #: the group it is in; null: none
    group: Optional[str]
    #: it was started with nothing open to the outside, and no rule can open anything
    closed: bool
    #: in their order
    rules: Tuple[str, ...]
    counters: Tuple[NetworkCounter, ...]
    #: the others of its group
    members: Tuple[NetworkMember, ...]

    @classmethod
    def from_wire(cls, o: Any) -> NetworkInfo:
        return cls(
            scope=_required(o, "scope", str),
            group=_optional(o, "group", str),
            closed=_required(o, "closed", bool),
            rules=tuple(_checked(x, str, "rules") for x in _required(o, "rules", list)),
            counters=tuple(NetworkCounter.from_wire(x) for x in _required(o, "counters", list)),
            members=tuple(NetworkMember.from_wire(x) for x in _required(o, "members", list)),
        )


@dataclass(frozen=True)
class FileInfo:
    #: the last part of the path; bytes that are no UTF-8 are U+FFFD
    name: str
    path: str
    type: str
    #: permission bits
    mode: int
    uid: int
    gid: int
    #: bytes
    size: int
    #: seconds since 1970
    mtime: float
    #: only of a symlink that was asked for itself: where it points
    target: Optional[str]

    @classmethod
    def from_wire(cls, o: Any) -> FileInfo:
        return cls(
            name=_required(o, "name", str),
            path=_required(o, "path", str),
            type=_required(o, "type", str),
            mode=_required(o, "mode", int),
            uid=_required(o, "uid", int),
            gid=_required(o, "gid", int),
            size=_required(o, "size", int),
            mtime=_required(o, "mtime", float),
            target=_optional(o, "target", str),
        )


@dataclass(frozen=True)
class ReplResult:
    #: error: the code raised, ran out of time or ended its interpreter
    status: str
    #: as it was given
    language: str
    output: Tuple[Line, ...]
    #: what the code showed beside its output: the value of its last expression, pictures, what it gave to display(); at most 64, with 8 MiB of data together. text/plain is the first entry of each value, those after it show the same value
    results: Tuple[WireResult, ...]
    #: only with status error
    reason: Optional[str]
    #: only if the interpreter ended
    exit_code: Optional[int]
    #: true: the next call starts with a fresh interpreter
    state_lost: Optional[bool]
    #: true: it printed more than is kept of a call
    truncated: Optional[bool]
    duration_ms: Optional[float]

    @classmethod
    def from_wire(cls, o: Any) -> ReplResult:
        return cls(
            status=_required(o, "status", str),
            language=_required(o, "language", str),
            output=tuple(Line.from_wire(x) for x in _required(o, "output", list)),
            results=tuple(WireResult.from_wire(x) for x in _optional(o, "results", list) or ()),
            reason=_optional(o, "reason", str),
            exit_code=_optional(o, "exit_code", int),
            state_lost=_optional(o, "state_lost", bool),
            truncated=_optional(o, "truncated", bool),
            duration_ms=_optional(o, "duration_ms", float),
        )


@dataclass(frozen=True)
class CommandResult:
    command: str
    args: Tuple[str, ...]
    #: 128 + n after signal n
    exit_code: int
    #: is exit_code 0?
    success: bool
    output: Tuple[Line, ...]
    #: true: it printed more than is kept of a call
    truncated: Optional[bool]
    duration_ms: Optional[float]

    @classmethod
    def from_wire(cls, o: Any) -> CommandResult:
        return cls(
            command=_required(o, "command", str),
            args=tuple(_checked(x, str, "args") for x in _required(o, "args", list)),
            exit_code=_required(o, "exit_code", int),
            success=_required(o, "success", bool),
            output=tuple(Line.from_wire(x) for x in _required(o, "output", list)),
            truncated=_optional(o, "truncated", bool),
            duration_ms=_optional(o, "duration_ms", float),
        )


@dataclass(frozen=True)
class FileContent:
    content: str
    encoding: str
    #: bytes of the whole file
    size: int

    @classmethod
    def from_wire(cls, o: Any) -> FileContent:
        return cls(
            content=_required(o, "content", str),
            encoding=_required(o, "encoding", str),
            size=_required(o, "size", int),
        )
