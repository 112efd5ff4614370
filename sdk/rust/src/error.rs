// SPDX-License-Identifier: Apache-2.0
use crate::types::code;
use serde_json::Value;
use std::fmt;
use std::io;
use std::sync::Arc;

/// What can go wrong.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SandboxError {
    /// The sandbox was not started, or was stopped.
    NotStarted,
    /// There is no connection to the server, or it broke; in that case it is not known whether
    /// the call took place.
    RequestFailed(String),
    /// The server did not answer in time.
    Timeout(String),
    /// The answer is not what a microsandbox server says.
    InvalidResponse(String),
    /// An argument that cannot be sent: an address or a time limit that is none.
    InvalidArgument(String),
    /// What is uploaded could not be read, or what is downloaded not be written.
    Io(Arc<io::Error>),
    /// The server refused the call, or it failed.
    ServerError(ApiError),
}

/// What the server said.
#[derive(Clone, Debug)]
pub struct ApiError {
    pub(crate) kind: ErrorKind,
    pub(crate) message: String,
    pub(crate) code: Option<i64>,
    pub(crate) http_status: u16,
    pub(crate) data: Value,
}

/// What kind of error the server answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The API key is missing, wrong or expired.
    Authentication,
    /// The API key is not for this namespace.
    AccessDenied,
    /// The server does not accept a parameter; the message names it.
    InvalidParams,
    /// No such sandbox is running.
    SandboxNotFound,
    /// The sandbox did not start, or it ended during the call.
    SandboxFailed,
    /// The program could not be started: it is not there, or not executable.
    CommandNotRun,
    /// The program reached its time limit and was killed.
    CommandTimeout,
    /// A file operation failed in the sandbox: see [`ApiError::errno`] and [`ApiError::path`].
    File,
    /// The server, or the key, has as many sandboxes as it may have, or sends too many requests.
    Limit,
    /// Any other.
    Other,
}

impl ErrorKind {
    pub(crate) fn of_code(code: i64) -> Self {
        match code {
            code::INVALID_PARAMS => Self::InvalidParams,
            code::NOT_FOUND => Self::SandboxNotFound,
            code::SANDBOX_FAILED => Self::SandboxFailed,
            code::NOT_RUN => Self::CommandNotRun,
            code::TIMED_OUT => Self::CommandTimeout,
            code::LIMIT => Self::Limit,
            code::DENIED => Self::AccessDenied,
            code::FILE_FAILED => Self::File,
            _ => Self::Other,
        }
    }

    /// Of an answer that is not JSON-RPC.
    pub(crate) fn of_status(status: u16) -> Self {
        match status {
            400 => Self::InvalidParams,
            401 => Self::Authentication,
            403 => Self::AccessDenied,
            404 => Self::SandboxNotFound,
            429 => Self::Limit,
            _ => Self::Other,
        }
    }
}

impl ApiError {
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    pub fn message(&self) -> &str {
        &self.message
    }

    /// The JSON-RPC code, or the server's own code where it has no JSON-RPC answer.
    pub fn code(&self) -> Option<i64> {
        self.code
    }

    pub fn http_status(&self) -> u16 {
        self.http_status
    }

    /// Of [`ErrorKind::File`]: `ENOENT` and the like.
    pub fn errno(&self) -> Option<&str> {
        self.data["errno"].as_str()
    }

    /// Of [`ErrorKind::File`]: the path in the sandbox.
    pub fn path(&self) -> Option<&str> {
        self.data["path"].as_str()
    }

    /// Of [`ErrorKind::CommandTimeout`]: what the program had printed until then.
    pub fn stdout(&self) -> String {
        self.text("stdout")
    }

    /// As [`stdout`](Self::stdout), of standard error.
    pub fn stderr(&self) -> String {
        self.text("stderr")
    }

    fn text(&self, stream: &str) -> String {
        let lines: Vec<&str> = self.data["output"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default()
            .iter()
            .filter(|o| o["stream"] == stream)
            .filter_map(|o| o["text"].as_str())
            .collect();
        lines.join("\n")
    }
}

impl SandboxError {
    pub(crate) fn io(e: io::Error) -> Self {
        Self::Io(Arc::new(e))
    }

    /// What the server answered; `None` if it did not.
    pub fn server_error(&self) -> Option<&ApiError> {
        match self {
            Self::ServerError(e) => Some(e),
            _ => None,
        }
    }

    /// The kind of a server's answer; `None` if it is something else.
    pub fn kind(&self) -> Option<ErrorKind> {
        self.server_error().map(ApiError::kind)
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Display for SandboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStarted => f.write_str("Sandbox is not started. Call start() first."),
            Self::RequestFailed(m) | Self::Timeout(m) | Self::InvalidResponse(m) | Self::InvalidArgument(m) => {
                f.write_str(m)
            }
            Self::Io(e) => e.fmt(f),
            Self::ServerError(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for ApiError {}
impl std::error::Error for SandboxError {}
