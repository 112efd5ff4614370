// SPDX-License-Identifier: Apache-2.0
//! Files, streams and the life of a sandbox: what the driver does beyond calls.
use crate::{duration, info_json, joined, text, texts};
use microsandbox::{
    CodeStream, CommandStream, ExecOptions, FileInfo, Files, Language, MkdirOptions, Output, Process, ProcessOptions,
    ReadOptions, Sandbox, SandboxError, Stream, WriteOptions,
};
use serde_json::{json, Value};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Mutex;

pub enum AnyStream {
    Command(Option<i64>, Mutex<(CommandStream, Read)>),
    Code(Mutex<(CodeStream, Read)>),
    Process(Process, Mutex<Read>),
}

impl AnyStream {
    pub fn pid(&self) -> Option<i64> {
        match self {
            Self::Command(pid, _) => *pid,
            Self::Code(_) => None,
            Self::Process(process, _) => process.pid(),
        }
    }
}

/// Of a stream: what came since it was last said.
#[derive(Default)]
pub struct Read {
    text: [String; 2],
    size: [usize; 2],
}

impl Read {
    fn add(&mut self, output: &Output) {
        self.text[output.stream as usize].push_str(&output.text);
        self.size[output.stream as usize] += output.data.len();
    }

    fn take(&mut self) -> Value {
        let Read { text: [stdout, stderr], size: [stdout_size, stderr_size] } = std::mem::take(self);
        json!({"stdout": stdout, "stderr": stderr, "stdout_size": stdout_size, "stderr_size": stderr_size})
    }
}

#[derive(Default)]
pub struct Listening([String; 2]);

impl Listening {
    pub fn add(&mut self, stream: Stream, text: &str) {
        self.0[stream as usize].push_str(text);
    }

    pub fn value(&self) -> Value {
        json!({"stdout": self.0[0], "stderr": self.0[1]})
    }
}

fn bad(what: &str) -> SandboxError {
    SandboxError::InvalidArgument(format!("{what}: Rust's types do not have it"))
}

fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut n, mut bytes) = (0u32, 0, Vec::new());
    for c in text.chars().filter(|&c| c != '=') {
        bits = bits << 6 | DIGITS.find(c).unwrap() as u32;
        n += 6;
        if n >= 8 {
            n -= 8;
            bytes.push((bits >> n) as u8);
        }
    }
    bytes
}

fn to_base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits, i| bits << 8 | u32::from(group.get(i).copied().unwrap_or(0)));
        for i in 0..4 {
            let digit = char::from(DIGITS[(bits >> (18 - 6 * i)) as usize & 63]);
            text.push(if i <= group.len() { digit } else { '=' });
        }
    }
    text
}

fn data_of(q: &Value, plain: &str, binary: &str) -> Option<Vec<u8>> {
    match q[binary].as_str() {
        Some(encoded) => Some(base64(encoded)),
        None => q[plain].as_str().map(|t| t.as_bytes().to_vec()),
    }
}

pub fn exec_options(q: &Value) -> ExecOptions {
    let env = q["env"].as_object().into_iter().flatten();
    ExecOptions {
        args: texts(&q["args"]),
        env: env.map(|(k, v)| (k.clone(), text(v).unwrap())).collect(),
        cwd: text(&q["cwd"]),
        user: text(&q["user"]),
        timeout: q["timeout"].as_f64().map(duration),
        stdin: data_of(q, "stdin", "stdin_base64"),
    }
}

fn size_of_terminal(v: &Value) -> Result<Option<u16>, SandboxError> {
    v.as_u64().map(|n| u16::try_from(n).map_err(|_| bad("a size over 65535"))).transpose()
}

pub async fn open<L: Language>(sb: &Sandbox<L>, q: &Value) -> Result<AnyStream, SandboxError> {
    if q["how"] == "code" {
        let timeout = q["timeout"].as_f64().map(duration);
        let stream = sb.stream(q["code"].as_str().unwrap(), timeout).await?;
        return Ok(AnyStream::Code(Mutex::new((stream, Read::default()))));
    }
    let command = sb.command().await?;
    let program = q["command"].as_str().unwrap();
    if q["how"] == "command" {
        let stream = command.stream(program, &exec_options(q)).await?;
        return Ok(AnyStream::Command(stream.pid(), Mutex::new((stream, Read::default()))));
    }
    let options = ProcessOptions {
        exec: exec_options(q),
        tty: q["tty"] == true,
        rows: size_of_terminal(&q["rows"])?,
        cols: size_of_terminal(&q["cols"])?,
    };
    Ok(AnyStream::Process(command.start(program, &options).await?, Mutex::default()))
}

pub fn is_stream_op(op: &str) -> bool {
    ["until", "finish", "input", "close_input", "resize", "signal", "close"].contains(&op)
}

macro_rules! read_until {
    ($stream:expr, $read:expr, $text:expr) => {{
        while $text.map_or(true, |t: &str| !$read.text[0].contains(t)) {
            match $stream.next().await? {
                Some(output) => $read.add(&output),
                None => break,
            }
        }
        $read.take()
    }};
}

fn exit_json(e: &microsandbox::ExitStatus) -> Value {
    json!({"exit_code": e.exit_code, "success": e.success, "reason": e.reason, "signal": e.signal,
           "timed_out": e.timed_out(), "timed": e.duration_ms.is_some()})
}

pub async fn on_stream(stream: &AnyStream, q: &Value) -> Result<Value, SandboxError> {
    let op = q["op"].as_str().unwrap();
    let text = q["text"].as_str();
    let text = if op == "finish" { None } else { text };
    match stream {
        AnyStream::Process(process, _) if op == "input" => {
            process.write(data_of(q, "text", "base64").unwrap()).await?;
        }
        AnyStream::Process(process, _) if op == "close_input" => process.close_stdin().await?,
        AnyStream::Process(process, _) if op == "resize" => {
            let size = |k: &str| size_of_terminal(&q[k]).map(Option::unwrap);
            process.resize(size("rows")?, size("cols")?).await?;
        }
        AnyStream::Process(process, _) if op == "signal" => match q["signal"].as_str() {
            Some(name) => process.signal(name).await?,
            None => process.signal_number(q["signal"].as_u64().unwrap() as u32).await?,
        },
        AnyStream::Process(process, read) => {
            let mut read = read.lock().await;
            let found = read_until!(process, read, text);
            return if op == "until" { Ok(found) } else { Ok(joined(found, exit_json(&process.wait().await?))) };
        }
        AnyStream::Command(_, both) => {
            let (stream, read) = &mut *both.lock().await;
            let found = read_until!(stream, read, text);
            return if op == "until" { Ok(found) } else { Ok(joined(found, exit_json(&stream.wait().await?))) };
        }
        AnyStream::Code(both) => {
            let (stream, read) = &mut *both.lock().await;
            let found = read_until!(stream, read, text);
            if op == "until" {
                return Ok(found);
            }
            let x = stream.wait().await?;
            let more = json!({
                "status": x.status(),
                "language": x.language(),
                "reason": x.reason(),
                "exit_code": x.exit_code(),
                "state_lost": x.state_lost(),
                "timed_out": x.timed_out(),
                "timed": x.duration_ms().is_some(),
            });
            return Ok(joined(found, more));
        }
    }
    Ok(Value::Null)
}

// ---- files -------------------------------------------------------------------------------------

/// The content that README.md describes.
struct Pattern {
    at: usize,
    size: usize,
    chunk: usize,
    fail_at: usize,
}

impl AsyncRead for Pattern {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.at >= self.fail_at && self.at < self.size {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::Other, "the source fails")));
        }
        let n = self.chunk.min(self.size - self.at).min(buffer.remaining());
        let bytes = (self.at..self.at + n).map(|i| i % 65521).map(|i| (i * 7 + (i >> 8)) as u8);
        buffer.put_slice(&bytes.collect::<Vec<u8>>());
        self.at += n;
        Poll::Ready(Ok(()))
    }
}

struct Sink {
    crc: u32,
    table: Vec<u32>,
}

impl Sink {
    fn new() -> Self {
        let entry = |n| (0..8).fold(n, |n: u32, _| if n & 1 == 1 { n >> 1 ^ 0xedb8_8320 } else { n >> 1 });
        Self { crc: !0, table: (0..256).map(entry).collect() }
    }
}

impl AsyncWrite for Sink {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        for b in data {
            self.crc = self.table[(self.crc as u8 ^ b) as usize] ^ self.crc >> 8;
        }
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn file_json(f: &FileInfo) -> Value {
    json!({"name": f.name, "path": f.path, "type": f.r#type, "mode": f.mode, "uid": f.uid, "gid": f.gid,
           "size": f.size, "mtime": f.mtime, "target": f.target})
}

fn read_options(q: &Value) -> Result<ReadOptions, SandboxError> {
    let number = |key: &str| match q[key].as_i64() {
        None => Ok(None),
        Some(n) => u64::try_from(n).map(Some).map_err(|_| bad("a negative number")),
    };
    Ok(ReadOptions { offset: number("offset")?, length: number("length")? })
}

fn write_options(q: &Value) -> WriteOptions {
    WriteOptions {
        mode: q["mode"].as_u64().map(|n| n as u32),
        append: q["append"] == true,
        exclusive: q["exclusive"] == true,
        parents: q["parents"] == true,
    }
}

async fn on_files(files: Files<'_>, q: &Value) -> Result<Value, SandboxError> {
    let path = q["path"].as_str().unwrap();
    let info = match q["op"].as_str().unwrap() {
        "read_file" => return Ok(json!(to_base64(&files.read_with(path, &read_options(q)?).await?))),
        "read_text" => return Ok(json!(files.read_to_string(path).await?)),
        "download" => {
            let mut sink = Sink::new();
            let size = files.download(path, &mut sink, &read_options(q)?).await?;
            return Ok(json!({"size": size, "crc32": !sink.crc}));
        }
        "list_files" => return Ok(files.list(path).await?.iter().map(file_json).collect()),
        "write_file" => files.write_with(path, data_of(q, "text", "base64").unwrap(), &write_options(q)).await?,
        "upload" => {
            let number = |key: &str, other| q[key].as_u64().map_or(other, |n| n as usize);
            let size = number("size", 0);
            let source = Pattern { at: 0, size, chunk: number("chunk", 100_000), fail_at: number("fail_at", size) };
            files.upload(path, source, &write_options(q)).await?
        }
        "stat" => files.stat(path, q["follow"] == true).await?,
        "mkdir" => {
            let mode = q["mode"].as_u64().map(|n| n as u32);
            files.mkdir(path, &MkdirOptions { parents: q["parents"] == true, mode }).await?
        }
        "remove" => files.remove(path, q["recursive"] == true).await?,
        "rename" => files.rename(path, q["to"].as_str().unwrap()).await?,
        op => panic!("no such operation: {op}"),
    };
    Ok(file_json(&info))
}

pub async fn on_sandbox<L: Language>(sb: &Sandbox<L>, q: &Value) -> Result<Value, SandboxError> {
    match q["op"].as_str().unwrap() {
        "info" => Ok(info_json(&sb.info().await?)),
        "keep_alive" => Ok(info_json(&match q.get("idle_timeout") {
            None => sb.keep_alive().await?,
            Some(limit) => sb.set_idle_timeout(limit.as_f64().map(duration)).await?,
        })),
        "network" => {
            let n = match q.get("rules") {
                None => sb.network().await?,
                Some(_) => sb.set_network(&texts(&q["rules"])).await?,
            };
            Ok(json!({
                "scope": n.scope, "group": n.group, "closed": n.closed, "rules": n.rules,
                "counters": n.counters.iter().map(|c| json!({"name": c.name, "count": c.count})).collect::<Vec<_>>(),
                "members": n.members.iter().map(|m| json!({"name": m.name, "address": m.address})).collect::<Vec<_>>(),
            }))
        }
        "logs" => Ok(json!(sb.logs(q["source"].as_str(), q["tail"].as_u64().map(|n| n as u32)).await?)),
        _ => {
            let files = sb.files().await?;
            match q["user"].as_str() {
                None => on_files(files, q).await,
                Some(user) => on_files(files.as_user(user), q).await,
            }
        }
    }
}
