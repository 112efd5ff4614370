// SPDX-License-Identifier: Apache-2.0
//! A program on a WebSocket.
use crate::events::{event_object, Decoders, ExitStatus, Output, STREAMS};
use crate::http::{error_of, Transport};
use crate::stream::within;
use crate::websocket::{self as ws, Message};
use crate::{wire, SandboxError};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::{json, Value};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{split, AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, Mutex};
use tokio::task::JoinHandle;

/// Input goes in such pieces, so that a resize or a signal need not wait for all of it.
const PIECE: usize = 64 * 1024;
const QUEUE: usize = 8;
/// The server ends a connection that does not answer its pings; a program that prints more than is
/// read keeps them from being seen.  So we give a sign of life of our own, which RFC 6455 allows.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// A program with input: write to it while the output comes.  Dropping it kills the program.
///
/// All methods may be called at the same time.
#[derive(Debug)]
pub struct Process {
    url: String,
    pid: Option<i64>,
    frames: mpsc::Sender<Vec<u8>>,
    writer: JoinHandle<()>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    socket: ReadHalf<TokioIo<Upgraded>>,
    reader: ws::Reader,
    decoders: Decoders,
    found: VecDeque<Output>,
    pid: Option<i64>,
    exit: Option<ExitStatus>,
    failure: Option<SandboxError>,
}

async fn write_frames(mut socket: WriteHalf<TokioIo<Upgraded>>, mut frames: mpsc::Receiver<Vec<u8>>) {
    loop {
        let frame = match tokio::time::timeout(HEARTBEAT, frames.recv()).await {
            Err(_) => ws::encode(ws::PONG, b"", b""),
            Ok(Some(frame)) => frame,
            Ok(None) => return,
        };
        // Whoever reads is told what is wrong.
        if socket.write_all(&frame).await.is_err() || socket.flush().await.is_err() {
            return;
        }
    }
}

impl Process {
    pub(crate) async fn start(http: &Arc<Transport>, target: String, request: &Value) -> Result<Self, SandboxError> {
        let url = http.endpoint.url.clone();
        let (reader, writer) = split(within(&url, http.open_websocket(target)).await?);
        let (frames, queue) = mpsc::channel(QUEUE);
        let mut process = Self {
            url,
            pid: None,
            frames,
            writer: tokio::spawn(write_frames(writer, queue)),
            state: Mutex::new(State {
                socket: reader,
                reader: ws::Reader::default(),
                decoders: Decoders::default(),
                found: VecDeque::new(),
                pid: None,
                exit: None,
                failure: None,
            }),
        };
        process.send(ws::encode(ws::TEXT, b"", request.to_string().as_bytes())).await;
        let mut state = process.state.lock().await;
        while state.pid.is_none() && process.more(&mut state).await? {}
        let pid = state.pid;
        drop(state);
        process.pid = pid;
        Ok(process)
    }

    /// In the sandbox.
    pub fn pid(&self) -> Option<i64> {
        self.pid
    }

    /// The next piece of output; `None`: the program has ended.
    pub async fn next(&self) -> Result<Option<Output>, SandboxError> {
        let mut state = self.state.lock().await;
        loop {
            if let Some(output) = state.found.pop_front() {
                return Ok(Some(output));
            }
            if !self.more(&mut state).await? {
                return Ok(None);
            }
        }
    }

    /// Waits for the end; output that was not read until then is dropped.
    pub async fn wait(&self) -> Result<ExitStatus, SandboxError> {
        let mut state = self.state.lock().await;
        while self.more(&mut state).await? {
            state.found.clear();
        }
        state.found.clear();
        let ended = || SandboxError::InvalidResponse("the server's answer has no proper 'exit_code'".to_owned());
        state.exit.clone().ok_or_else(ended)
    }

    /// Takes one message.  False: it has ended.
    async fn more(&self, state: &mut State) -> Result<bool, SandboxError> {
        if let Some(e) = &state.failure {
            return Err(e.clone());
        }
        if state.exit.is_some() {
            return Ok(false);
        }
        if let Err(e) = self.take_message(state).await {
            self.writer.abort();
            state.failure = Some(e.clone());
            return Err(e);
        }
        Ok(true)
    }

    async fn take_message(&self, state: &mut State) -> Result<(), SandboxError> {
        let message = loop {
            if let Some(message) = state.reader.next()? {
                break message;
            }
            let mut buffer = [0; 16 * 1024];
            let n = within(&self.url, async {
                let broke = |e| SandboxError::RequestFailed(format!("the connection to {} broke: {e}", self.url));
                state.socket.read(&mut buffer).await.map_err(broke)
            })
            .await?;
            if n == 0 {
                let text = format!("the connection to {} ended before the program did", self.url);
                return Err(SandboxError::RequestFailed(text));
            }
            state.reader.feed(&buffer[..n]);
        };
        self.take(state, message)
    }

    fn take(&self, state: &mut State, message: Message) -> Result<(), SandboxError> {
        let Message { opcode, mut payload } = message;
        match opcode {
            // Who reads must not wait for who writes, or a program that does both would hang: then
            // an answer is left out, which the server does not mind while it does not listen.
            ws::PING => drop(self.frames.try_send(ws::encode(ws::PONG, b"", &payload))),
            ws::CLOSE => {
                let text = format!("the server closed the connection {}", ws::close_reason(&payload));
                return Err(SandboxError::RequestFailed(text));
            }
            ws::TEXT => return self.text(state, event_object(&payload)?),
            ws::BINARY => {
                let stream = match payload.first() {
                    Some(&n @ 1..=2) => STREAMS[usize::from(n) - 1],
                    _ => {
                        let text = "the server sent output of a stream that does not exist";
                        return Err(SandboxError::InvalidResponse(text.to_owned()));
                    }
                };
                if payload.len() > 1 {
                    let data = payload.split_off(1);
                    let output = state.decoders.output(stream, data);
                    state.found.push_back(output);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn text(&self, state: &mut State, o: Value) -> Result<(), SandboxError> {
        match o["type"].as_str() {
            Some("started") => state.pid = Some(wire::required(&o, "pid", wire::integer)?),
            Some("error") => return Err(error_of(o, 200)),
            Some("exit") => {
                state.exit = Some(ExitStatus::from_wire(&o)?);
                let rest = state.decoders.rest();
                state.found.extend(rest);
                drop(self.frames.try_send(ws::encode(ws::CLOSE, b"", &1000u16.to_be_bytes())));
            }
            _ => {}
        }
        Ok(())
    }

    /// What a program that has ended is sent is dropped: the output says that it has.
    async fn send(&self, frame: Vec<u8>) {
        let _ = self.frames.send(frame).await;
    }

    async fn control(&self, o: Value) {
        self.send(ws::encode(ws::TEXT, b"", o.to_string().as_bytes())).await;
    }

    /// Input.  Waits while the program takes none.
    pub async fn write(&self, data: impl AsRef<[u8]>) -> Result<(), SandboxError> {
        for piece in data.as_ref().chunks(PIECE) {
            self.send(ws::encode(ws::BINARY, &[0], piece)).await;
        }
        Ok(())
    }

    /// Ends the input.
    pub async fn close_stdin(&self) -> Result<(), SandboxError> {
        self.control(json!({"type": "eof"})).await;
        Ok(())
    }

    /// Of the terminal.
    pub async fn resize(&self, rows: u16, cols: u16) -> Result<(), SandboxError> {
        if rows == 0 || cols == 0 {
            let text = format!("rows and cols must be numbers from 1 to 65535, not {}", 0);
            return Err(SandboxError::InvalidArgument(text));
        }
        self.control(json!({"type": "resize", "rows": rows, "cols": cols})).await;
        Ok(())
    }

    /// `SIGINT` and the like: to the foreground of the terminal, else to the program and what it
    /// started.
    pub async fn signal(&self, name: &str) -> Result<(), SandboxError> {
        self.control(json!({"type": "signal", "signal": name})).await;
        Ok(())
    }

    /// As [`signal`](Self::signal), by its number.
    pub async fn signal_number(&self, number: u32) -> Result<(), SandboxError> {
        self.control(json!({"type": "signal", "signal": number})).await;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Else a frame that the program does not take would keep the connection open.  After the
        // end the task ends by itself, when it has said so.
        if self.state.get_mut().exit.is_none() {
            self.writer.abort();
        }
    }
}
