// SPDX-License-Identifier: Apache-2.0
use crate::bytes::base64_encode;
use crate::error::{ApiError, ErrorKind};
use crate::events::Stream;
use crate::execution::CommandExecution;
use crate::process::Process;
use crate::sandbox::{plain, seconds, Inner};
use crate::stream::{gather, open_events, CommandStream};
use crate::types::{code, method};
use crate::SandboxError;
use serde_json::{json, Value};
use std::collections::BTreeMap;
use std::time::Duration;

/// How a program is run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExecOptions {
    pub args: Vec<String>,
    /// Added to the sandbox's environment.
    pub env: BTreeMap<String, String>,
    /// Where it starts; `None`: as the sandbox was started.
    pub cwd: Option<String>,
    /// `name`, `uid`, `name:group`; `None`: the image's.
    pub user: Option<String>,
    /// `None`: no limit.
    pub timeout: Option<Duration>,
    /// Its input; `None`: empty, or of a [`Process`] what is written to it.
    pub stdin: Option<Vec<u8>>,
}

/// How a program is run whose input is written while it runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProcessOptions {
    pub exec: ExecOptions,
    /// A terminal: all output is standard output.
    pub tty: bool,
    /// Of the terminal; `None`: 24.
    pub rows: Option<u16>,
    /// Of the terminal; `None`: 80.
    pub cols: Option<u16>,
}

impl ExecOptions {
    fn request(&self, command: &str) -> Result<Value, SandboxError> {
        let mut o = json!({"command": command, "args": self.args});
        let mut add = |key: &str, value: Value| o[key] = value;
        if !self.env.is_empty() {
            add("env", json!(self.env));
        }
        if let Some(cwd) = &self.cwd {
            add("cwd", json!(cwd));
        }
        if let Some(user) = &self.user {
            add("user", json!(user));
        }
        if let Some(timeout) = self.timeout {
            seconds(timeout.as_secs_f64())?;
            add("timeout", plain(timeout.as_secs_f64()));
        }
        match self.stdin.as_deref().map(|bytes| (bytes, std::str::from_utf8(bytes))) {
            None => {}
            Some((_, Ok(text))) => add("stdin", json!(text)),
            Some((bytes, Err(_))) => add("stdin_base64", json!(base64_encode(bytes))),
        }
        Ok(o)
    }
}

/// Runs programs in a sandbox.
#[derive(Debug)]
pub struct Command<'a> {
    inner: &'a Inner,
}

impl<'a> Command<'a> {
    pub(crate) fn new(inner: &'a Inner) -> Self {
        Self { inner }
    }

    /// Runs a program, found in PATH, with these arguments; no shell is involved.  `timeout` is in
    /// seconds.  When it is over, the program and all that it started are killed: an error of kind
    /// [`CommandTimeout`](ErrorKind::CommandTimeout).
    pub async fn run(
        &self,
        command: &str,
        args: Option<Vec<&str>>,
        timeout: Option<i32>,
    ) -> Result<CommandExecution, SandboxError> {
        let timeout = timeout.map(|s| seconds(f64::from(s))).transpose()?;
        self.run_command(command, args.as_deref().unwrap_or_default(), timeout).await
    }

    /// As [`run`](Self::run), with any time limit.
    pub async fn run_with_timeout(
        &self,
        command: &str,
        args: &[&str],
        timeout: Duration,
    ) -> Result<CommandExecution, SandboxError> {
        self.run_command(command, args, Some(timeout)).await
    }

    async fn run_command(
        &self,
        command: &str,
        args: &[&str],
        timeout: Option<Duration>,
    ) -> Result<CommandExecution, SandboxError> {
        let params = json!({"command": command, "args": args});
        CommandExecution::new(&self.inner.timed_call(method::COMMAND_RUN, params, timeout).await?)
    }

    /// As [`run`](Self::run), with an environment, a user, an input and the like.
    pub async fn run_with(&self, command: &str, options: &ExecOptions) -> Result<CommandExecution, SandboxError> {
        self.run_with_listener(command, options, |_, _| {}).await
    }

    /// As [`run_with`](Self::run_with), and calls `listener` with each piece of text as it comes.
    pub async fn run_with_listener<F>(
        &self,
        command: &str,
        options: &ExecOptions,
        listener: F,
    ) -> Result<CommandExecution, SandboxError>
    where
        F: FnMut(Stream, &str),
    {
        let mut stream = self.stream(command, options).await?;
        let events = stream.events_mut();
        let lines = gather(events, listener).await?;
        let mut o = events.ended().clone();
        if lines.truncated {
            o["truncated"] = json!(true);
        }
        let output = json!(lines.end());
        if o["reason"] == "timeout" {
            let limit = options.timeout.unwrap_or_default().as_secs_f64();
            return Err(SandboxError::ServerError(ApiError {
                kind: ErrorKind::CommandTimeout,
                message: format!("Command timeout after {limit} seconds"),
                code: Some(code::TIMED_OUT),
                http_status: 200,
                data: json!({ "output": output }),
            }));
        }
        o["output"] = output;
        o["command"] = json!(command);
        o["args"] = json!(options.args);
        CommandExecution::new(&o)
    }

    /// As [`run_with`](Self::run_with), with the output as it comes.  A time limit that is reached is
    /// no error: [`ExitStatus::timed_out`](crate::ExitStatus::timed_out).
    pub async fn stream(&self, command: &str, options: &ExecOptions) -> Result<CommandStream, SandboxError> {
        let request = options.request(command)?;
        let target = self.inner.target("exec", &[]);
        CommandStream::begin(open_events(&self.inner.http, target, &request, "exit").await?).await
    }

    /// Starts a program whose input is written while it runs.
    pub async fn start(&self, command: &str, options: &ProcessOptions) -> Result<Process, SandboxError> {
        let mut request = options.exec.request(command)?;
        if options.tty {
            request["tty"] = json!(true);
        }
        for (key, n) in [("rows", options.rows), ("cols", options.cols)] {
            if let Some(n) = n {
                request[key] = json!(n);
            }
        }
        Process::start(&self.inner.http, self.inner.target("exec", &[]), &request).await
    }
}
