// SPDX-License-Identifier: Apache-2.0
use crate::error::{ApiError, ErrorKind};
use crate::execution::{CommandExecution, Execution};
use crate::http::Transport;
use crate::options::{SandboxOptions, StartOptions};
use crate::settings::{random_name, Endpoint};
use crate::types::{code, method, SandboxInfo, SandboxMetrics};
use crate::{wire, SandboxError};
use serde_json::{json, Map, Value};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// What an answer may take beyond the call's own time limit.
const GRACE: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(60);
const QUERY_LIMIT: Duration = Duration::from_secs(30);
/// After a start that was given up, the sandbox is asked to stop, and waited for that long.
const GIVEN_UP_STOP_LIMIT: Duration = Duration::from_secs(5);
const STILL_STARTING: &str = "timed out waiting";

/// A language of sandboxes: what [`Python`] and [`Node`] are, and what a type of your own may be.
pub trait Language {
    /// As the server knows it: `python`, `nodejs`, `sh`.
    const NAME: &'static str;
    const DEFAULT_IMAGE: &'static str;
}

#[derive(Clone, Copy, Debug)]
pub struct Python;
#[derive(Clone, Copy, Debug)]
pub struct Node;

impl Language for Python {
    const NAME: &'static str = "python";
    const DEFAULT_IMAGE: &'static str = "microsandbox/python";
}

impl Language for Node {
    const NAME: &'static str = "nodejs";
    const DEFAULT_IMAGE: &'static str = "microsandbox/node";
}

/// A sandbox that runs Python.
pub type PythonSandbox = Sandbox<Python>;
/// A sandbox that runs JavaScript with Node.js.
pub type NodeSandbox = Sandbox<Node>;

/// A sandbox.  It goes on running when this value is dropped: [`stop`](Self::stop) ends it.
///
/// Calls may run at the same time; one whose future is dropped is given up, and the server kills
/// what it had started.
pub struct Sandbox<L> {
    inner: Arc<Inner>,
    start: StartOptions,
    is_started: bool,
    is_ready: bool,
    language: PhantomData<fn() -> L>,
}

#[derive(Debug)]
struct Inner {
    http: Transport,
    name: String,
    namespace: Option<String>,
}

impl Inner {
    async fn call(&self, method: &str, mut params: Value, limit: Option<Duration>) -> Result<Value, SandboxError> {
        params["sandbox"] = json!(self.name);
        if let Some(namespace) = &self.namespace {
            params["namespace"] = json!(namespace);
        }
        self.http.call(method, params, limit).await
    }

    async fn stop(&self, limit: Duration) -> Result<(), SandboxError> {
        let stopped = self.call(method::STOP, json!({}), Some(limit)).await;
        self.http.close();
        match stopped {
            Err(e) if e.kind() != Some(ErrorKind::SandboxNotFound) => Err(e),
            _ => Ok(()), // or it ended before
        }
    }
}

/// A start of which nobody knows how far it got, if this is dropped while armed.
struct GiveUp(Option<Arc<Inner>>);

impl Drop for GiveUp {
    fn drop(&mut self) {
        if let (Some(inner), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                let _ = inner.stop(GIVEN_UP_STOP_LIMIT).await;
            });
        }
    }
}

impl<L: Language> Sandbox<L> {
    /// A sandbox that is not started yet.  `options` may be just a name.
    pub fn new(options: impl Into<SandboxOptions>) -> Result<Self, SandboxError> {
        let options = options.into();
        let endpoint = Endpoint::new(options.server_url, options.api_key)?;
        let inner = Inner {
            http: Transport::new(endpoint),
            name: options.name.filter(|n| !n.is_empty()).unwrap_or_else(random_name),
            namespace: options.namespace,
        };
        Ok(Self {
            inner: Arc::new(inner),
            start: options.start,
            is_started: false,
            is_ready: false,
            language: PhantomData,
        })
    }

    /// Makes a sandbox and starts it.  `options` may be just a name.
    pub async fn create(options: impl Into<SandboxOptions>) -> Result<Self, SandboxError> {
        let mut sandbox = Self::new(options)?;
        let mut give_up = GiveUp(Some(sandbox.inner.clone()));
        let started = sandbox.start(None).await;
        if matches!(started, Err(SandboxError::Timeout(_))) {
            let _ = sandbox.inner.stop(GIVEN_UP_STOP_LIMIT).await;
        }
        give_up.0 = None;
        started.map(|_| sandbox)
    }

    /// The same as [`create`](Self::create).
    pub async fn create_with_options(options: SandboxOptions) -> Result<Self, SandboxError> {
        Self::create(options).await
    }

    /// A sandbox that somebody else started; an error of kind
    /// [`SandboxNotFound`](ErrorKind::SandboxNotFound) if it is not running.
    pub async fn attach(options: impl Into<SandboxOptions>) -> Result<Self, SandboxError> {
        let mut sandbox = Self::new(options)?;
        sandbox.is_started = true;
        sandbox.is_ready = sandbox.metrics().await?.is_running().await?;
        Ok(sandbox)
    }

    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The one asked for; `None`: the key's own, or `default`.
    pub fn namespace(&self) -> Option<&str> {
        self.inner.namespace.as_deref()
    }

    pub fn server_url(&self) -> &str {
        &self.inner.http.endpoint.url
    }

    /// Was it started here, and not stopped since?
    pub fn is_started(&self) -> bool {
        self.is_started
    }

    /// Did it answer when it was started?  False also after a start that took too long.
    pub fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// The image of a sandbox of this language for which none was asked.
    pub fn get_default_image(&self) -> &'static str {
        L::DEFAULT_IMAGE
    }

    /// Starts the sandbox and waits until it answers; does nothing if it was started already.
    /// `None`: as it was made.
    pub async fn start(&mut self, options: Option<StartOptions>) -> Result<(), SandboxError> {
        if self.is_started {
            return Ok(());
        }
        let options = options.as_ref().unwrap_or(&self.start);
        let timeout = seconds(f64::from(options.timeout))?;
        let params = json!({"config": config::<L>(options), "timeout": plain(f64::from(options.timeout))});
        let result = self.inner.call(method::START, params, Some(timeout + GRACE)).await?;
        let text = result.as_str().ok_or_else(|| {
            SandboxError::InvalidResponse("the server's answer to sandbox.start is no text".to_owned())
        })?;
        self.is_started = true;
        self.is_ready = !text.contains(STILL_STARTING);
        Ok(())
    }

    /// Stops the sandbox and waits until it is gone; does nothing if it was not started.
    pub async fn stop(&mut self) -> Result<(), SandboxError> {
        if self.is_started {
            self.inner.stop(STOP_LIMIT).await?;
        }
        self.is_started = false;
        self.is_ready = false;
        Ok(())
    }

    /// Runs code in the sandbox's interpreter, which keeps its state from call to call.
    pub async fn run(&self, code: &str) -> Result<Execution, SandboxError> {
        self.run_code(code, None).await
    }

    /// As [`run`](Self::run); when the time is over the code is interrupted, and the result says so:
    /// [`Execution::timed_out`].
    pub async fn run_with_timeout(&self, code: &str, timeout: Duration) -> Result<Execution, SandboxError> {
        self.run_code(code, Some(timeout)).await
    }

    /// Starts the sandbox if it is not started, and runs code.
    pub async fn run_or_start(&mut self, code: &str) -> Result<Execution, SandboxError> {
        self.start(None).await?;
        self.run(code).await
    }

    async fn run_code(&self, code: &str, timeout: Option<Duration>) -> Result<Execution, SandboxError> {
        self.check_started()?;
        let params = json!({"language": L::NAME, "code": code});
        Execution::new(&self.timed_call(method::REPL_RUN, params, timeout).await?)
    }

    /// Runs programs.
    pub async fn command(&self) -> Result<Command<'_, L>, SandboxError> {
        self.check_started()?;
        Ok(Command { sandbox: self })
    }

    /// What the sandbox uses.
    pub async fn metrics(&self) -> Result<Metrics<'_>, SandboxError> {
        self.check_started()?;
        Ok(Metrics { inner: &self.inner })
    }

    fn check_started(&self) -> Result<(), SandboxError> {
        if self.is_started {
            Ok(())
        } else {
            Err(SandboxError::NotStarted)
        }
    }

    async fn timed_call(
        &self,
        method: &str,
        mut params: Value,
        timeout: Option<Duration>,
    ) -> Result<Value, SandboxError> {
        if let Some(timeout) = timeout {
            seconds(timeout.as_secs_f64())?;
            params["timeout"] = plain(timeout.as_secs_f64());
        }
        self.inner.call(method, params, timeout.map(|t| t + GRACE)).await
    }
}

impl<L> fmt::Debug for Sandbox<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sandbox")
            .field("name", &self.inner.name)
            .field("is_started", &self.is_started)
            .finish_non_exhaustive()
    }
}

fn seconds(s: f64) -> Result<Duration, SandboxError> {
    if s > 0.0 && s < 1e15 {
        return Ok(Duration::from_secs_f64(s));
    }
    Err(SandboxError::InvalidArgument(format!("timeout must be a number of seconds above 0, not {s}")))
}

/// A number as JSON, without a fraction if it has none.
fn plain(n: f64) -> Value {
    if n.fract() == 0.0 && n.abs() < 1e15 {
        json!(n as i64)
    } else {
        json!(n)
    }
}

fn config<L: Language>(o: &StartOptions) -> Value {
    let mut config = Map::new();
    let mut add = |key: &str, value: Value| config.insert(key.to_owned(), value);
    add("image", json!(o.image.as_deref().unwrap_or(L::DEFAULT_IMAGE)));
    add("memory", json!(o.memory));
    add("cpus", json!((o.cpus + 0.5).floor().max(1.0) as u32));
    for (key, list) in [("envs", &o.envs), ("volumes", &o.volumes), ("ports", &o.ports), ("depends_on", &o.depends_on)]
    {
        if !list.is_empty() {
            add(key, json!(list));
        }
    }
    for (key, text) in [("workdir", &o.workdir), ("scope", &o.scope), ("shell", &o.shell), ("exec", &o.exec)] {
        if let Some(text) = text {
            add(key, json!(text));
        }
    }
    if !o.scripts.is_empty() {
        add("scripts", json!(o.scripts));
    }
    Value::Object(config)
}

/// Runs programs in a sandbox.
#[derive(Debug)]
pub struct Command<'a, L> {
    sandbox: &'a Sandbox<L>,
}

impl<L: Language> Command<'_, L> {
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
        CommandExecution::new(&self.sandbox.timed_call(method::COMMAND_RUN, params, timeout).await?)
    }
}

/// What a sandbox uses.
#[derive(Debug)]
pub struct Metrics<'a> {
    inner: &'a Inner,
}

impl Metrics<'_> {
    pub async fn all(&self) -> Result<SandboxMetrics, SandboxError> {
        let inner = self.inner;
        let result = inner.call(method::METRICS_GET, json!({}), Some(QUERY_LIMIT)).await?;
        let all = wire::objects(&result, "sandboxes", SandboxMetrics::from_wire)?;
        all.into_iter().find(|m| m.name == inner.name).ok_or_else(|| {
            SandboxError::ServerError(ApiError {
                kind: ErrorKind::SandboxNotFound,
                message: format!("Sandbox {} is not running", inner.name),
                code: Some(code::NOT_FOUND),
                http_status: 404,
                data: Value::Null,
            })
        })
    }

    /// Percent of one CPU, since the last call; `None` if it is not known.
    pub async fn cpu(&self) -> Result<Option<f64>, SandboxError> {
        Ok(self.all().await?.cpu_usage)
    }

    /// MiB in use inside the sandbox.
    pub async fn memory(&self) -> Result<Option<i64>, SandboxError> {
        Ok(self.all().await?.memory_usage)
    }

    /// Bytes in use on the sandbox's disk.
    pub async fn disk(&self) -> Result<Option<i64>, SandboxError> {
        Ok(self.all().await?.disk_usage)
    }

    pub async fn is_running(&self) -> Result<bool, SandboxError> {
        Ok(self.all().await?.running)
    }
}

/// The sandboxes of a namespace; `*` means every namespace that the key may see.  Of the options
/// only the server, the key and the namespace count.
pub async fn list_sandboxes(options: &SandboxOptions) -> Result<Vec<SandboxInfo>, SandboxError> {
    let http = Transport::new(Endpoint::new(options.server_url.clone(), options.api_key.clone())?);
    let params = options.namespace.as_ref().map_or_else(|| json!({}), |n| json!({"namespace": n}));
    let result = http.call(method::LIST, params, Some(QUERY_LIMIT)).await?;
    wire::objects(&result, "sandboxes", SandboxInfo::from_wire)
}
