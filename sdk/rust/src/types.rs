// SPDX-License-Identifier: Apache-2.0
// Made from api/openrpc.json by tools/gen-sdk-types: change the schema, not this file.

#![allow(dead_code)] // the schema has more than the crate uses

use crate::{wire, SandboxError};
use serde_json::Value;

pub(crate) mod method {
    pub const START: &str = "sandbox.start";
    pub const STOP: &str = "sandbox.stop";
    pub const RESTART: &str = "sandbox.restart";
    pub const GET: &str = "sandbox.get";
    pub const KEEP_ALIVE: &str = "sandbox.keep_alive";
    pub const LOGS: &str = "sandbox.logs";
    pub const LIST: &str = "sandbox.list";
    pub const NETWORK_GET: &str = "sandbox.network.get";
    pub const NETWORK_SET: &str = "sandbox.network.set";
    pub const METRICS_GET: &str = "sandbox.metrics.get";
    pub const REPL_RUN: &str = "sandbox.repl.run";
    pub const COMMAND_RUN: &str = "sandbox.command.run";
    pub const FS_READ: &str = "sandbox.fs.read";
    pub const FS_WRITE: &str = "sandbox.fs.write";
    pub const FS_LIST: &str = "sandbox.fs.list";
    pub const FS_STAT: &str = "sandbox.fs.stat";
    pub const FS_MKDIR: &str = "sandbox.fs.mkdir";
    pub const FS_REMOVE: &str = "sandbox.fs.remove";
    pub const FS_RENAME: &str = "sandbox.fs.rename";
    pub const VOLUME_CREATE: &str = "volume.create";
    pub const VOLUME_LIST: &str = "volume.list";
    pub const VOLUME_GET: &str = "volume.get";
    pub const VOLUME_REMOVE: &str = "volume.remove";
}

/// The JSON-RPC codes of the server's errors.
pub mod code {
    pub const PARSE_ERROR: i64 = -32700;
    pub const INVALID_REQUEST: i64 = -32600;
    pub const METHOD_NOT_FOUND: i64 = -32601;
    pub const INVALID_PARAMS: i64 = -32602;
    pub const INTERNAL: i64 = -32603;
    pub const NOT_FOUND: i64 = -32001;
    pub const SANDBOX_FAILED: i64 = -32002;
    pub const NOT_RUN: i64 = -32003;
    pub const TIMED_OUT: i64 = -32004;
    pub const LIMIT: i64 = -32005;
    pub const DENIED: i64 = -32006;
    pub const FILE_FAILED: i64 = -32007;
}

#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Line {
    pub stream: String,
    /// one line without its newline; bytes that are no UTF-8 are U+FFFD
    pub text: String,
}

impl Line {
    pub(crate) fn from_wire(o: &Value) -> Result<Self, SandboxError> {
        Ok(Self {
            stream: wire::required(o, "stream", wire::string)?,
            text: wire::required(o, "text", wire::string)?,
        })
    }
}

#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct WireResult {
    /// of the data: text/plain, image/png; without parameters
    pub mime: String,
    /// utf-8: the data is text (text/*, */json, */xml, */javascript, *+json, *+xml; bytes that are no UTF-8 are U+FFFD); base64: it is bytes, in base64 with padding
    pub encoding: String,
    /// empty if there is a note
    pub data: String,
    /// only if the data is missing: why, one line
    pub note: Option<String>,
}

impl WireResult {
    pub(crate) fn from_wire(o: &Value) -> Result<Self, SandboxError> {
        Ok(Self {
            mime: wire::required(o, "mime", wire::string)?,
            encoding: wire::required(o, "encoding", wire::string)?,
            data: wire::required(o, "data", wire::string)?,
            note: wire::optional(o, "note", wire::string)?,
        })
    }
}

#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PortInfo {
    /// address of the server's machine that the port is bound to
    pub host_ip: String,
    pub host_port: i64,
    pub guest_port: i64,
    pub protocol: String,
}

impl PortInfo {
    pub(crate) fn from_wire(o: &Value) -> Result<Self, SandboxError> {
        Ok(Self {
            host_ip: wire::required(o, "host_ip", wire::string)?,
            host_port: wire::required(o, "host_port", wire::integer)?,
            guest_port: wire::required(o, "guest_port", wire::integer)?,
            protocol: wire::required(o, "protocol", wire::string)?,
        })
    }
}

#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SandboxInfo {
    pub name: String,
    pub namespace: String,
    pub image: String,
    pub state: String,
    /// kvm or tcg
    pub engine: Option<String>,
    /// hardware or emulated
    pub isolation: Option<String>,
    /// RFC 3339
    pub started_at: String,
    /// MiB
    pub memory: Option<i64>,
    pub cpus: Option<i64>,
    /// what its network reaches: none, group, public or any
    pub scope: Option<String>,
    /// seconds without use after which it is stopped; null: never
    pub idle_timeout: Option<f64>,
    /// published ports; empty while it is prepared
    pub ports: Vec<PortInfo>,
}

impl SandboxInfo {
    pub(crate) fn from_wire(o: &Value) -> Result<Self, SandboxError> {
        Ok(Self {
            name: wire::required(o, "name", wire::string)?,
            namespace: wire::required(o, "namespace", wire::string)?,
            image: wire::required(o, "image", wire::string)?,
            state: wire::required(o, "state", wire::string)?,
            engine: wire::optional(o, "engine", wire::string)?,
            isolation: wire::optional(o, "isolation", wire::string)?,
            started_at: wire::required(o, "started_at", wire::string)?,
            memory: wire::optional(o, "memory", wire::integer)?,
            cpus: wire::optional(o, "cpus", wire::integer)?,
            scope: wire::optional(o, "scope", wire::string)?,
            idle_timeout: wire::optional(o, "idle_timeout", wire::number)?,
            ports: wire::added_objects(o, "ports", PortInfo::from_wire)?,
        })
    }
}

#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SandboxMetrics {
    pub name: String,
    pub namespace: String,
    pub running: bool,
    /// percent of one CPU, since the last call for this sandbox
    pub cpu_usage: Option<f64>,
    /// MiB, inside the guest
    pub memory_usage: Option<i64>,
    /// bytes of the writable disk
    pub disk_usage: Option<i64>,
}

impl SandboxMetrics {
    pub(crate) fn from_wire(o: &Value) -> Result<Self, SandboxError> {
        Ok(Self {
            name: wire::required(o, "name", wire::string)?,
            namespace: wire::required(o, "namespace", wire::string)?,
            running: wire::required(o, "running", wire::boolean)?,
            cpu_usage: wire::optional(o, "cpu_usage", wire::number)?,
            memory_usage: wire::optional(o, "memory_usage", wire::integer)?,
            disk_usage: wire::optional(o, "disk_usage", wire::integer)?,
        })
    }
}

#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct NetworkCounter {
    /// passed and lost (frames), or the reason for which something was denied or dropped; docs/network.md lists them
    pub name: String,
    /// since the sandbox started
    pub count: i64,
}

impl NetworkCounter {
    pub(crate) fn from_wire(o: &Value) -> Result<Self, SandboxError> {
        Ok(Self {
            name: wire::required(o, "name", wire::string)?,
            count: wire::required(o, "count", wire::integer)?,
        })
    }
}

#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct NetworkMember {
    /// of the sandbox, in small letters: as the others of the group reach it
    pub name: String,
    /// in the group's network
    pub address: String,
}

impl NetworkMember {
    pub(crate) fn from_wire(o: &Value) -> Result<Self, SandboxError> {
        Ok(Self {
            name: wire::required(o, "name", wire::string)?,
            address: wire::required(o, "address", wire::string)?,
        })
    }
}

#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct NetworkInfo {
    pub scope: String,
    /// the group it is in; null: none
    pub group: Option<String>,
    /// it was started with nothing open to the outside, and no rule can open anything
    pub closed: bool,
    /// in their order
    pub rules: Vec<String>,
    pub counters: Vec<NetworkCounter>,
    /// the others of its group
    pub members: Vec<NetworkMember>,
}

impl NetworkInfo {
    pub(crate) fn from_wire(o: &Value) -> Result<Self, SandboxError> {
        Ok(Self {
            scope: wire::required(o, "scope", wire::string)?,
            group: wire::optional(o, "group", wire::string)?,
            closed: wire::required(o, "closed", wire::boolean)?,
            rules: wire::list(o, "rules", wire::string)?,
            counters: wire::objects(o, "counters", NetworkCounter::from_wire)?,
            members: wire::objects(o, "members", NetworkMember::from_wire)?,
        })
    }
}

#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FileInfo {
    /// the last part of the path; bytes that are no UTF-8 are U+FFFD
    pub name: String,
    pub path: String,
    pub r#type: String,
    /// permission bits
    pub mode: i64,
    pub uid: i64,
    pub gid: i64,
    /// bytes
    pub size: i64,
    /// seconds since 1970
    pub mtime: f64,
    /// only of a symlink that was asked for itself: where it points
    pub target: Option<String>,
}

impl FileInfo {
    pub(crate) fn from_wire(o: &Value) -> Result<Self, SandboxError> {
        Ok(Self {
            name: wire::required(o, "name", wire::string)?,
            path: wire::required(o, "path", wire::string)?,
            r#type: wire::required(o, "type", wire::string)?,
            mode: wire::required(o, "mode", wire::integer)?,
            uid: wire::required(o, "uid", wire::integer)?,
            gid: wire::required(o, "gid", wire::integer)?,
            size: wire::required(o, "size", wire::integer)?,
            mtime: wire::required(o, "mtime", wire::number)?,
            target: wire::optional(o, "target", wire::string)?,
        })
    }
}

#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ReplResult {
    /// error: the code raised, ran out of time or ended its interpreter
    pub status: String,
    /// as it was given
    pub language: String,
    pub output: Vec<Line>,
    /// what the code showed beside its output: the value of its last expression, pictures, what it gave to display(); at most 64, with 8 MiB of data together. text/plain is the first entry of each value, those after it show the same value
    pub results: Vec<WireResult>,
    /// only with status error
    pub reason: Option<String>,
    /// only if the interpreter ended
    pub exit_code: Option<i64>,
    /// true: the next call starts with a fresh interpreter
    pub state_lost: Option<bool>,
    /// true: it printed more than is kept of a call
    pub truncated: Option<bool>,
    pub duration_ms: Option<f64>,
}

impl ReplResult {
    pub(crate) fn from_wire(o: &Value) -> Result<Self, SandboxError> {
        Ok(Self {
            status: wire::required(o, "status", wire::string)?,
            language: wire::required(o, "language", wire::string)?,
            output: wire::objects(o, "output", Line::from_wire)?,
            results: wire::added_objects(o, "results", WireResult::from_wire)?,
            reason: wire::optional(o, "reason", wire::string)?,
            exit_code: wire::optional(o, "exit_code", wire::integer)?,
            state_lost: wire::optional(o, "state_lost", wire::boolean)?,
            truncated: wire::optional(o, "truncated", wire::boolean)?,
            duration_ms: wire::optional(o, "duration_ms", wire::number)?,
        })
    }
}

#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct CommandResult {
    pub command: String,
    pub args: Vec<String>,
    /// 128 + n after signal n
    pub exit_code: i64,
    /// is exit_code 0?
    pub success: bool,
    pub output: Vec<Line>,
    /// true: it printed more than is kept of a call
    pub truncated: Option<bool>,
    pub duration_ms: Option<f64>,
}

impl CommandResult {
    pub(crate) fn from_wire(o: &Value) -> Result<Self, SandboxError> {
        Ok(Self {
            command: wire::required(o, "command", wire::string)?,
            args: wire::list(o, "args", wire::string)?,
            exit_code: wire::required(o, "exit_code", wire::integer)?,
            success: wire::required(o, "success", wire::boolean)?,
            output: wire::objects(o, "output", Line::from_wire)?,
            truncated: wire::optional(o, "truncated", wire::boolean)?,
            duration_ms: wire::optional(o, "duration_ms", wire::number)?,
        })
    }
}

#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FileContent {
    pub content: String,
    pub encoding: String,
    /// bytes of the whole file
    pub size: i64,
}

impl FileContent {
    pub(crate) fn from_wire(o: &Value) -> Result<Self, SandboxError> {
        Ok(Self {
            content: wire::required(o, "content", wire::string)?,
            encoding: wire::required(o, "encoding", wire::string)?,
            size: wire::required(o, "size", wire::integer)?,
        })
    }
}
