// SPDX-License-Identifier: Apache-2.0
//! What tests/conformance asks of the Rust SDK: a JSON request a line in, an answer a line out.
//! tests/conformance/README.md has the requests.
mod stream_ops;

use microsandbox::{
    list_sandboxes, CommandExecution, ErrorKind, Execution, Language, Line, Node, Python, RichResult, Sandbox,
    SandboxError, SandboxInfo, SandboxMetrics, SandboxOptions, Secret, StartOptions,
};
use serde_json::{json, Map, Value};
use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;
use stream_ops::{exec_options, is_stream_op, on_sandbox, on_stream, AnyStream, Listening};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::{Mutex, RwLock};

enum Any {
    Python(Sandbox<Python>),
    Node(Sandbox<Node>),
}

macro_rules! either {
    ($any:expr, $sb:ident => $do:expr) => {
        match $any {
            Any::Python($sb) => $do,
            Any::Node($sb) => $do,
        }
    };
}

/// What requests name.
#[derive(Default)]
struct World {
    boxes: Mutex<HashMap<String, Arc<RwLock<Any>>>>,
    streams: Mutex<HashMap<String, Arc<AnyStream>>>,
}

fn describe(e: &SandboxError) -> Value {
    if let SandboxError::Io(_) = e {
        return json!({"kind": "source"});
    }
    let kind = match e {
        SandboxError::NotStarted => "not_started",
        SandboxError::RequestFailed(_) => "unreachable",
        SandboxError::Timeout(_) => "timeout",
        SandboxError::InvalidResponse(_) => "invalid_response",
        SandboxError::InvalidArgument(_) => "bad_argument",
        SandboxError::ServerError(e) => match e.kind() {
            ErrorKind::Authentication => "unauthorized",
            ErrorKind::AccessDenied => "denied",
            ErrorKind::InvalidParams => "invalid",
            ErrorKind::SandboxNotFound => "not_found",
            ErrorKind::SandboxFailed => "sandbox_failed",
            ErrorKind::CommandNotRun => "not_run",
            ErrorKind::CommandTimeout => "command_timeout",
            ErrorKind::Limit => "limit",
            ErrorKind::File => "file",
            _ => "server",
        },
        _ => "unknown",
    };
    let mut o = json!({"kind": kind, "message": e.to_string()});
    if let Some(api) = e.server_error() {
        o["code"] = json!(api.code());
        o["http_status"] = json!(api.http_status());
        if api.kind() == ErrorKind::CommandTimeout {
            o["stdout"] = json!(api.stdout());
            o["stderr"] = json!(api.stderr());
        }
        if api.kind() == ErrorKind::File {
            o["errno"] = json!(api.errno());
            o["path"] = json!(api.path());
        }
    }
    o
}

pub(crate) fn texts(v: &Value) -> Vec<String> {
    v.as_array().into_iter().flatten().map(|s| s.as_str().unwrap().to_owned()).collect()
}

fn text(v: &Value) -> Option<String> {
    v.as_str().map(str::to_owned)
}

fn secret(o: &Value) -> Secret {
    Secret::new(text(&o["name"]).unwrap(), text(&o["value"]).unwrap(), texts(&o["hosts"]))
}

fn start_options(o: &Value) -> StartOptions {
    let mut s = StartOptions::default();
    s.image = text(&o["image"]);
    s.memory = o["memory"].as_u64().map_or(s.memory, |n| n as u32);
    s.cpus = o["cpus"].as_f64().map_or(s.cpus, |n| n as f32);
    s.timeout = o["timeout"].as_f64().map_or(s.timeout, |n| n as f32);
    s.idle_timeout = o["idle_timeout"].as_f64().map(|n| n as f32);
    s.envs = texts(&o["envs"]);
    s.network = texts(&o["network"]);
    s.secrets = o["secrets"].as_array().into_iter().flatten().map(secret).collect();
    s.volumes = texts(&o["volumes"]);
    s.ports = texts(&o["ports"]);
    s.depends_on = texts(&o["depends_on"]);
    s.workdir = text(&o["workdir"]);
    s.scope = text(&o["scope"]);
    s.group = text(&o["group"]);
    s.shell = text(&o["shell"]);
    s.exec = text(&o["exec"]);
    for (k, v) in o["scripts"].as_object().into_iter().flatten() {
        s.scripts.insert(k.clone(), text(v).unwrap());
    }
    s
}

fn options(o: &Value) -> SandboxOptions {
    SandboxOptions {
        name: text(&o["name"]),
        server_url: text(&o["server_url"]),
        api_key: text(&o["api_key"]),
        namespace: text(&o["namespace"]),
        start: start_options(o),
    }
}

fn state<L: Language>(sb: &Sandbox<L>) -> Value {
    json!({
        "name": sb.name(),
        "namespace": sb.namespace(),
        "server_url": sb.server_url(),
        "is_started": sb.is_started(),
        "is_ready": sb.is_ready(),
    })
}

macro_rules! printed {
    ($x:expr) => {
        json!({
            "output": $x.output().await?,
            "error": $x.error().await?,
            "stdout": $x.stdout(),
            "stderr": $x.stderr(),
            "lines": lines($x.lines()),
            "truncated": $x.truncated(),
            "timed": $x.duration_ms().is_some(),
        })
    };
}

fn lines(lines: &[Line]) -> Vec<Value> {
    lines.iter().map(|l| json!([l.stream, l.text])).collect()
}

fn joined(mut a: Value, b: Value) -> Value {
    if let (Some(a), Value::Object(b)) = (a.as_object_mut(), b) {
        a.extend(b);
    }
    a
}

fn result(r: &RichResult) -> Value {
    let hex: String = r.data().iter().map(|b| format!("{b:02x}")).collect();
    json!([r.mime(), r.text(), hex, r.note()])
}

async fn execution(x: Execution) -> Result<Value, SandboxError> {
    let more = json!({
        "status": x.status(),
        "language": x.language(),
        "has_error": x.has_error(),
        "reason": x.reason(),
        "exit_code": x.exit_code(),
        "state_lost": x.state_lost(),
        "timed_out": x.timed_out(),
        "results": x.results().iter().map(result).collect::<Vec<_>>(),
    });
    Ok(joined(printed!(x), more))
}

async fn command_execution(x: CommandExecution) -> Result<Value, SandboxError> {
    let more = json!({
        "command": x.command(),
        "args": x.args(),
        "exit_code": x.exit_code(),
        "success": x.is_success(),
    });
    Ok(joined(printed!(x), more))
}

fn metrics_json(m: &SandboxMetrics) -> Value {
    json!({
        "name": m.name,
        "namespace": m.namespace,
        "running": m.running,
        "cpu_usage": m.cpu_usage,
        "memory_usage": m.memory_usage,
        "disk_usage": m.disk_usage,
    })
}

fn info_json(i: &SandboxInfo) -> Value {
    json!({
        "name": i.name,
        "namespace": i.namespace,
        "image": i.image,
        "state": i.state,
        "engine": i.engine,
        "isolation": i.isolation,
        "started_at": i.started_at,
        "memory": i.memory,
        "cpus": i.cpus,
        "scope": i.scope,
        "idle_timeout": i.idle_timeout,
        "ports": i.ports.iter().map(|p| json!({
            "host_ip": p.host_ip, "host_port": p.host_port, "guest_port": p.guest_port, "protocol": p.protocol,
        })).collect::<Vec<_>>(),
    })
}

async fn run<L: Language>(sb: &Sandbox<L>, q: &Value) -> Result<Value, SandboxError> {
    let code = q["code"].as_str().unwrap();
    if q["listen"] == true {
        let mut heard = Listening::default();
        let timeout = q["timeout"].as_f64().map(duration);
        let x = sb.run_with_listener(code, timeout, |stream, text| heard.add(stream, text)).await?;
        return Ok(joined(execution(x).await?, json!({ "heard": heard.value() })));
    }
    let x = match q["timeout"].as_f64() {
        None => sb.run(code).await?,
        Some(s) => sb.run_with_timeout(code, duration(s)).await?,
    };
    execution(x).await
}

/// There is no negative Duration.
fn duration(s: f64) -> Duration {
    Duration::from_secs_f64(s.max(0.0))
}

async fn command<L: Language>(sb: &Sandbox<L>, q: &Value) -> Result<Value, SandboxError> {
    let program = q["command"].as_str().unwrap();
    let args = texts(&q["args"]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let command = sb.command().await?;
    if ["env", "cwd", "user", "stdin", "stdin_base64", "listen"].iter().any(|&k| q.get(k).is_some()) {
        let options = exec_options(q);
        if q["listen"] != true {
            return command_execution(command.run_with(program, &options).await?).await;
        }
        let mut heard = Listening::default();
        let x = command.run_with_listener(program, &options, |stream, text| heard.add(stream, text)).await?;
        return Ok(joined(command_execution(x).await?, json!({ "heard": heard.value() })));
    }
    let x = match q["timeout"].as_f64() {
        None => command.run(program, Some(args), None).await?,
        Some(s) if s.fract() == 0.0 => command.run(program, Some(args), Some(s as i32)).await?,
        Some(s) => command.run_with_timeout(program, &args, duration(s)).await?,
    };
    command_execution(x).await
}

async fn metrics<L: Language>(sb: &Sandbox<L>, what: &str) -> Result<Value, SandboxError> {
    let metrics = sb.metrics().await?;
    Ok(match what {
        "cpu" => json!(metrics.cpu().await?),
        "memory" => json!(metrics.memory().await?),
        "disk" => json!(metrics.disk().await?),
        "is_running" => json!(metrics.is_running().await?),
        _ => metrics_json(&metrics.all().await?),
    })
}

async fn make(world: &World, q: &Value) -> Result<Value, SandboxError> {
    let python = q["language"] == "python";
    let options = options(&q["options"]);
    let sb = match (q["op"].as_str().unwrap(), python) {
        ("new", true) => Any::Python(Sandbox::new(options)?),
        ("new", false) => Any::Node(Sandbox::new(options)?),
        ("attach", true) => Any::Python(Sandbox::attach(options).await?),
        ("attach", false) => Any::Node(Sandbox::attach(options).await?),
        (_, true) => Any::Python(Sandbox::create(options).await?),
        (_, false) => Any::Node(Sandbox::create(options).await?),
    };
    let mut answer = either!(&sb, sb => state(sb));
    if q["op"] == "new" {
        answer["default_image"] = json!(either!(&sb, sb => sb.get_default_image()));
    }
    world.boxes.lock().await.insert(text(&q["box"]).unwrap(), Arc::new(RwLock::new(sb)));
    Ok(answer)
}

async fn perform(world: &World, q: &Value) -> Result<Value, SandboxError> {
    let op = q["op"].as_str().unwrap();
    match op {
        "new" | "create" | "attach" => return make(world, q).await,
        "list" => {
            let mut found = list_sandboxes(&options(&q["options"])).await?;
            found.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
            return Ok(found.iter().map(info_json).collect());
        }
        _ if is_stream_op(op) => {
            let name = q["stream"].as_str().unwrap();
            if op == "close" {
                world.streams.lock().await.remove(name);
                return Ok(Value::Null);
            }
            let stream = world.streams.lock().await.get(name).cloned();
            let stream = stream.ok_or_else(|| SandboxError::InvalidArgument(format!("no stream {name}")))?;
            return on_stream(&stream, q).await;
        }
        _ => {}
    }
    let one = world.boxes.lock().await[q["box"].as_str().unwrap()].clone();
    match op {
        "start" => {
            let given = q.get("options").map(start_options);
            let mut guard = one.write().await;
            either!(&mut *guard, sb => sb.start(given).await.map(|_| state(sb)))
        }
        "stop" => {
            let mut guard = one.write().await;
            either!(&mut *guard, sb => sb.stop().await.map(|_| state(sb)))
        }
        "restart" => {
            let mut guard = one.write().await;
            either!(&mut *guard, sb => match q["timeout"].as_f64() {
                None => sb.restart().await,
                Some(s) => sb.restart_with_timeout(duration(s)).await,
            }.map(|_| state(sb)))
        }
        "open" => {
            let stream = either!(&*one.read().await, sb => stream_ops::open(sb, q).await)?;
            let pid = stream.pid();
            world.streams.lock().await.insert(text(&q["stream"]).unwrap(), Arc::new(stream));
            Ok(json!({ "pid": pid }))
        }
        "run" => either!(&*one.read().await, sb => run(sb, q).await),
        "command" => either!(&*one.read().await, sb => command(sb, q).await),
        "metrics" => either!(&*one.read().await, sb => metrics(sb, q["what"].as_str().unwrap()).await),
        _ => either!(&*one.read().await, sb => on_sandbox(sb, q).await),
    }
}

fn say(id: &Value, key: &str, value: Value) {
    let mut o = Map::new();
    o.insert("id".to_owned(), id.clone());
    o.insert(key.to_owned(), value);
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", Value::Object(o)).and_then(|_| out.flush()).expect("the runner reads");
}

#[tokio::main]
async fn main() {
    let world = Arc::new(World::default());
    let mut tasks = HashMap::new();
    let mut input = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = input.next_line().await.expect("the runner writes lines") {
        let q: Value = serde_json::from_str(&line).expect("a request is JSON");
        let id = q["id"].clone();
        if q["op"] == "cancel" {
            let task: &tokio::task::JoinHandle<()> = &tasks[&q["target"].as_u64()];
            task.abort();
            say(&id, "ok", Value::Null);
            say(&q["target"], "error", json!({"kind": "cancelled"}));
            continue;
        }
        let world = world.clone();
        let task = tokio::spawn(async move {
            match perform(&world, &q).await {
                Ok(value) => say(&q["id"], "ok", value),
                Err(e) => say(&q["id"], "error", describe(&e)),
            }
        });
        tasks.insert(id.as_u64(), task);
    }
    std::process::exit(0);
}
