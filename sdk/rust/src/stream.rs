// SPDX-License-Identifier: Apache-2.0
//! Programs and code whose output is told as it comes.
use crate::events::{output_bytes, Decoders, EventReader, ExitStatus, Lines, Output, Stream, STREAMS};
use crate::execution::Execution;
use crate::http::{error_of, Answer, Ask, Transport, JSON};
use crate::{wire, SandboxError};
use hyper::header::CONTENT_TYPE;
use hyper::Method;
use serde_json::{json, Value};
use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

const EVENTS: &str = "text/event-stream";
/// The server gives a sign of life more often than that while a call's output is streamed.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);

/// Waits for a sign of life.
pub(crate) async fn within<T, F>(url: &str, work: F) -> Result<T, SandboxError>
where
    F: Future<Output = Result<T, SandboxError>>,
{
    tokio::time::timeout(SILENCE_LIMIT, work).await.unwrap_or_else(|_| {
        let limit = SILENCE_LIMIT.as_secs();
        Err(SandboxError::Timeout(format!("the server at {url} said nothing for {limit} seconds")))
    })
}

#[derive(Debug)]
pub(crate) struct Events {
    url: String,
    answer: Option<Answer>, // None: it is over
    end_event: &'static str,
    reader: EventReader,
    decoders: Decoders,
    found: VecDeque<Output>,
    pid: Option<i64>,
    end: Option<Value>,
    failure: Option<SandboxError>,
}

pub(crate) async fn open_events(
    http: &Arc<Transport>,
    target: String,
    request: &Value,
    end_event: &'static str,
) -> Result<Events, SandboxError> {
    let body = Some(request.to_string().into_bytes());
    let ask = Ask { method: Method::POST, target, accept: EVENTS, content_type: Some(JSON), body };
    let url = http.endpoint.url.clone();
    let mut answer = within(&url, http.open(ask)).await?;
    let kind = answer.headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if answer.status != 200 || !kind.eq_ignore_ascii_case(EVENTS) {
        return Err(answer.refused().await);
    }
    Ok(Events {
        url,
        answer: Some(answer),
        end_event,
        reader: EventReader::default(),
        decoders: Decoders::default(),
        found: VecDeque::new(),
        pid: None,
        end: None,
        failure: None,
    })
}

impl Events {
    pub async fn next(&mut self) -> Result<Option<Output>, SandboxError> {
        loop {
            if let Some(output) = self.found.pop_front() {
                return Ok(Some(output));
            }
            if !self.more().await? {
                return Ok(None);
            }
        }
    }

    /// Takes one event.  False: it has ended.
    async fn more(&mut self) -> Result<bool, SandboxError> {
        if let Some(e) = &self.failure {
            return Err(e.clone());
        }
        if self.end.is_some() {
            return Ok(false);
        }
        if let Err(e) = self.take_event().await {
            self.answer = None;
            self.failure = Some(e.clone());
            return Err(e);
        }
        if self.end.is_some() || self.failure.is_some() {
            // Its last chunk; then the connection can be used again.
            if let Some(mut answer) = self.answer.take() {
                let _ = within(&self.url, answer.piece()).await;
            }
        }
        Ok(true)
    }

    async fn take_event(&mut self) -> Result<(), SandboxError> {
        let (name, o) = loop {
            if let Some(event) = self.reader.next()? {
                break event;
            }
            let ended =
                || SandboxError::RequestFailed("the server ended its answer before the call had ended".to_owned());
            let answer = self.answer.as_mut().ok_or_else(ended)?;
            let data = within(&self.url, answer.piece()).await?.ok_or_else(ended)?;
            self.reader.feed(&data)?;
        };
        if let Some(&stream) = STREAMS.iter().find(|s| s.as_str() == name) {
            self.found.push_back(self.decoders.output(stream, output_bytes(&o)?));
        } else if name == "started" {
            self.pid = Some(wire::required(&o, "pid", wire::integer)?);
        } else if name == self.end_event {
            self.found.extend(self.decoders.rest());
            self.end = Some(o);
        } else if name == "error" {
            self.failure = Some(error_of(o, 200));
        }
        Ok(())
    }

    async fn drain(&mut self) -> Result<&Value, SandboxError> {
        while self.more().await? {
            self.found.clear();
        }
        self.found.clear();
        Ok(self.ended())
    }

    pub fn ended(&self) -> &Value {
        self.end.as_ref().unwrap_or(&Value::Null)
    }
}

/// Reads a stream to its end, and tells what comes.
pub(crate) async fn gather<F>(events: &mut Events, mut listener: F) -> Result<Lines, SandboxError>
where
    F: FnMut(Stream, &str),
{
    let mut lines = Lines::default();
    while let Some(output) = events.next().await? {
        lines.add(&output);
        if !output.text.is_empty() {
            listener(output.stream, &output.text);
        }
    }
    Ok(lines)
}

/// A program that runs: the output as it comes.  Dropping it kills what runs.
#[derive(Debug)]
pub struct CommandStream {
    events: Events,
}

impl CommandStream {
    /// Waits until it has started.
    pub(crate) async fn begin(mut events: Events) -> Result<Self, SandboxError> {
        while events.pid.is_none() && events.end.is_none() {
            if let Some(e) = &events.failure {
                return Err(e.clone());
            }
            events.more().await?;
        }
        Ok(Self { events })
    }

    /// In the sandbox.
    pub fn pid(&self) -> Option<i64> {
        self.events.pid
    }

    /// The next piece; `None`: it has ended.
    pub async fn next(&mut self) -> Result<Option<Output>, SandboxError> {
        self.events.next().await
    }

    /// How it ended; `None` while it runs.
    pub fn exit(&self) -> Option<ExitStatus> {
        ExitStatus::from_wire(self.events.ended()).ok()
    }

    /// Waits for the end; output that was not read until then is dropped.
    pub async fn wait(&mut self) -> Result<ExitStatus, SandboxError> {
        ExitStatus::from_wire(self.events.drain().await?)
    }

    pub(crate) fn events_mut(&mut self) -> &mut Events {
        &mut self.events
    }
}

/// Code that runs: the output as it comes.  Dropping it interrupts what runs.
#[derive(Debug)]
pub struct CodeStream {
    events: Events,
}

impl CodeStream {
    pub(crate) fn new(events: Events) -> Self {
        Self { events }
    }

    /// The next piece; `None`: it has ended.
    pub async fn next(&mut self) -> Result<Option<Output>, SandboxError> {
        self.events.next().await
    }

    /// Waits for the end; output that was not read until then is dropped, and the `Execution` has none.
    pub async fn wait(&mut self) -> Result<Execution, SandboxError> {
        self.events.drain().await?;
        self.execution(Lines::default())
    }

    pub(crate) fn execution(&self, lines: Lines) -> Result<Execution, SandboxError> {
        let mut o = self.events.ended().clone();
        if lines.truncated {
            o["truncated"] = json!(true);
        }
        o["output"] = Value::Array(lines.end());
        Execution::new(&o)
    }

    pub(crate) fn events_mut(&mut self) -> &mut Events {
        &mut self.events
    }
}
