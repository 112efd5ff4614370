// SPDX-License-Identifier: Apache-2.0
use crate::command::Command;
use crate::error::{ApiError, ErrorKind};
use crate::execution::Execution;
use crate::files::Files;
use crate::http::Transport;
use crate::options::{SandboxOptions, Secret, StartOptions};
use crate::settings::{random_name, Endpoint};
use crate::stream::{gather, open_events, CodeStream};
use crate::types::{code, method, NetworkInfo, SandboxInfo, SandboxMetrics};
use crate::{bytes, wire, SandboxError, Stream};
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
pub(crate) struct Inner {
    pub http: Arc<Transport>,
    name: String,
    namespace: Option<String>,
}

impl Inner {
    /// Path and query of what is no JSON-RPC.
    pub fn target(&self, what: &str, query: &[(&str, Option<String>)]) -> String {
        let mut target = format!("/api/v1/sandboxes/{}/{what}", bytes::percent_encode(&self.name));
        let namespace = ("namespace", self.namespace.clone());
        let given = query.iter().chain([&namespace]).filter_map(|(k, v)| v.as_ref().map(|v| (k, v)));
        for (i, (key, value)) in given.enumerate() {
            target.push(if i == 0 { '?' } else { '&' });
            target.push_str(&format!("{key}={}", bytes::percent_encode(value)));
        }
        target
    }

    pub async fn call(&self, method: &str, mut params: Value, limit: Option<Duration>) -> Result<Value, SandboxError> {
        params["sandbox"] = json!(self.name);
        if let Some(namespace) = &self.namespace {
            params["namespace"] = json!(namespace);
        }
        self.http.call(method, params, limit).await
    }

    /// A call with a time limit of the server's.
    pub async fn timed_call(
        &self,
        method: &str,
        mut params: Value,
        timeout: Option<Duration>,
    ) -> Result<Value, SandboxError> {
        if let Some(timeout) = timeout {
            seconds(timeout.as_secs_f64())?;
            params["timeout"] = plain(timeout.as_secs_f64());
        }
        self.call(method, params, timeout.map(|t| t + GRACE)).await
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
            http: Arc::new(Transport::new(endpoint)),
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
        sandbox.is_ready = sandbox.info().await?.state == "running";
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
        if let Some(idle) = options.idle_timeout {
            seconds(f64::from(idle))?;
        }
        let params = json!({"config": config::<L>(options), "timeout": plain(f64::from(options.timeout))});
        let result = self.inner.call(method::START, params, Some(timeout + GRACE)).await?;
        self.started(&result)
    }

    fn started(&mut self, result: &Value) -> Result<(), SandboxError> {
        let text = result.as_str().ok_or_else(|| {
            SandboxError::InvalidResponse("the server's answer to sandbox.start is no text".to_owned())
        })?;
        self.is_started = true;
        self.is_ready = !text.contains(STILL_STARTING);
        Ok(())
    }

    /// Stops the sandbox and starts it again, configured as it was, with a fresh disk.
    pub async fn restart(&mut self) -> Result<(), SandboxError> {
        self.restart_with_timeout(Duration::from_secs(180)).await
    }

    /// As [`restart`](Self::restart), with a time limit for the start.
    pub async fn restart_with_timeout(&mut self, timeout: Duration) -> Result<(), SandboxError> {
        self.check_started()?;
        let s = timeout.as_secs_f64();
        let limit = seconds(s)? + STOP_LIMIT + GRACE;
        let result = self.inner.call(method::RESTART, json!({"timeout": plain(s)}), Some(limit)).await?;
        self.started(&result)
    }

    /// What the server knows of the sandbox.
    pub async fn info(&self) -> Result<SandboxInfo, SandboxError> {
        self.check_started()?;
        SandboxInfo::from_wire(&self.inner.call(method::GET, json!({}), Some(QUERY_LIMIT)).await?)
    }

    /// Counts as use, so that the sandbox is not stopped as idle.
    pub async fn keep_alive(&self) -> Result<SandboxInfo, SandboxError> {
        self.stay(json!({})).await
    }

    /// As [`keep_alive`](Self::keep_alive), and from now on the sandbox is stopped after that time
    /// without use; `None`: it is never stopped as idle.
    pub async fn set_idle_timeout(&self, idle_timeout: Option<Duration>) -> Result<SandboxInfo, SandboxError> {
        let idle_timeout = idle_timeout.map(|d| d.as_secs_f64());
        idle_timeout.map(seconds).transpose()?;
        self.stay(json!({"idle_timeout": idle_timeout.map(plain)})).await
    }

    async fn stay(&self, params: Value) -> Result<SandboxInfo, SandboxError> {
        self.check_started()?;
        SandboxInfo::from_wire(&self.inner.call(method::KEEP_ALIVE, params, Some(QUERY_LIMIT)).await?)
    }

    /// What the network may reach now, who is in its group, and how often it was denied what.
    pub async fn network(&self) -> Result<NetworkInfo, SandboxError> {
        self.check_started()?;
        NetworkInfo::from_wire(&self.inner.call(method::NETWORK_GET, json!({}), Some(QUERY_LIMIT)).await?)
    }

    /// Gives the network other rules in place of all that it has, at once: what they do not allow is
    /// cut.  `rules`: as `network` of the options; none leave the scope alone.
    pub async fn set_network<S: AsRef<str>>(&self, rules: &[S]) -> Result<NetworkInfo, SandboxError> {
        self.check_started()?;
        let rules: Vec<&str> = rules.iter().map(AsRef::as_ref).collect();
        let params = json!({"rules": rules});
        NetworkInfo::from_wire(&self.inner.call(method::NETWORK_SET, params, Some(QUERY_LIMIT)).await?)
    }

    /// The last lines (at most `tail`, default 200) of a log: `console` (default; what the sandbox's
    /// kernel and first process print), `vm`, `supervisor` or `net` (what the network was denied).
    pub async fn logs(&self, source: Option<&str>, tail: Option<u32>) -> Result<Vec<String>, SandboxError> {
        self.check_started()?;
        let params = json!({"source": source, "tail": tail});
        let result = self.inner.call(method::LOGS, params, Some(QUERY_LIMIT)).await?;
        wire::list(&result, "lines", wire::string)
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
        Execution::new(&self.inner.timed_call(method::REPL_RUN, params, timeout).await?)
    }

    /// As [`run`](Self::run), and calls `listener` with each piece of text as it comes.
    pub async fn run_with_listener<F>(
        &self,
        code: &str,
        timeout: Option<Duration>,
        listener: F,
    ) -> Result<Execution, SandboxError>
    where
        F: FnMut(Stream, &str),
    {
        let mut stream = self.stream(code, timeout).await?;
        let lines = gather(stream.events_mut(), listener).await?;
        stream.execution(lines)
    }

    /// As [`run`](Self::run), with the output as it comes.
    pub async fn stream(&self, code: &str, timeout: Option<Duration>) -> Result<CodeStream, SandboxError> {
        self.check_started()?;
        let mut request = json!({"language": L::NAME, "code": code});
        if let Some(timeout) = timeout {
            seconds(timeout.as_secs_f64())?;
            request["timeout"] = plain(timeout.as_secs_f64());
        }
        let target = self.inner.target("repl", &[]);
        Ok(CodeStream::new(open_events(&self.inner.http, target, &request, "done").await?))
    }

    /// Files of the sandbox.
    pub async fn files(&self) -> Result<Files<'_>, SandboxError> {
        self.check_started()?;
        Ok(Files::new(&self.inner))
    }

    /// The same as [`files`](Self::files).
    pub async fn fs(&self) -> Result<Files<'_>, SandboxError> {
        self.files().await
    }

    /// Runs programs.
    pub async fn command(&self) -> Result<Command<'_>, SandboxError> {
        self.check_started()?;
        Ok(Command::new(&self.inner))
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
}

impl<L> fmt::Debug for Sandbox<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sandbox")
            .field("name", &self.inner.name)
            .field("is_started", &self.is_started)
            .finish_non_exhaustive()
    }
}

pub(crate) fn seconds(s: f64) -> Result<Duration, SandboxError> {
    if s > 0.0 && s < 1e15 {
        return Ok(Duration::from_secs_f64(s));
    }
    Err(SandboxError::InvalidArgument(format!("timeout must be a number of seconds above 0, not {s}")))
}

/// A number as JSON, without a fraction if it has none.
pub(crate) fn plain(n: f64) -> Value {
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
    for (key, list) in [
        ("envs", &o.envs),
        ("network", &o.network),
        ("volumes", &o.volumes),
        ("ports", &o.ports),
        ("depends_on", &o.depends_on),
    ] {
        if !list.is_empty() {
            add(key, json!(list));
        }
    }
    for (key, text) in [
        ("workdir", &o.workdir),
        ("scope", &o.scope),
        ("group", &o.group),
        ("shell", &o.shell),
        ("exec", &o.exec),
    ] {
        if let Some(text) = text {
            add(key, json!(text));
        }
    }
    if !o.secrets.is_empty() {
        let secret = |s: &Secret| json!({"name": s.name, "value": s.value, "hosts": s.hosts});
        add("secrets", o.secrets.iter().map(secret).collect());
    }
    if let Some(idle) = o.idle_timeout {
        add("idle_timeout", plain(f64::from(idle)));
    }
    if !o.scripts.is_empty() {
        add("scripts", json!(o.scripts));
    }
    Value::Object(config)
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
    let http = Arc::new(Transport::new(Endpoint::new(options.server_url.clone(), options.api_key.clone())?));
    let params = options.namespace.as_ref().map_or_else(|| json!({}), |n| json!({"namespace": n}));
    let result = http.call(method::LIST, params, Some(QUERY_LIMIT)).await?;
    wire::objects(&result, "sandboxes", SandboxInfo::from_wire)
}
