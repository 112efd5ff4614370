// SPDX-License-Identifier: Apache-2.0
//! What a program or code prints while it runs, and how it ended: without a connection.
//!
//! An answer of the server is a stream of events (text/event-stream of the HTML standard), one
//! JSON object an event; a WebSocket has the same objects as messages.
use crate::bytes::{base64_decode, Decoder};
use crate::{wire, SandboxError};
use serde_json::{json, Value};

const EVENT_MAX: usize = 16 << 20;
/// What is kept of a call's output, as the server does.
const KEPT_MAX: usize = 8 << 20;

/// Which of the two output streams of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    Stdout,
    Stderr,
}

pub(crate) const STREAMS: [Stream; 2] = [Stream::Stdout, Stream::Stderr];

impl Stream {
    /// `stdout` or `stderr`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// A piece of what is printed, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Output {
    pub stream: Stream,
    pub data: Vec<u8>,
    /// The same as text; what is no UTF-8 is U+FFFD.  A character that is cut between two pieces is
    /// in the later one.
    pub text: String,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ExitStatus {
    /// 128 + n after signal n.
    pub exit_code: i64,
    /// Is `exit_code` 0?
    pub success: bool,
    /// `exited`, `signal` or `timeout`.
    pub reason: String,
    /// The number of the signal that ended it, if one did.
    pub signal: Option<i64>,
    /// How long it took in the sandbox.
    pub duration_ms: Option<f64>,
}

impl ExitStatus {
    pub fn timed_out(&self) -> bool {
        self.reason == "timeout"
    }

    pub(crate) fn from_wire(o: &Value) -> Result<Self, SandboxError> {
        Ok(Self {
            exit_code: wire::required(o, "exit_code", wire::integer)?,
            success: wire::required(o, "success", wire::boolean)?,
            reason: wire::required(o, "reason", wire::string)?,
            signal: wire::optional(o, "signal", wire::integer)?,
            duration_ms: wire::optional(o, "duration_ms", wire::number)?,
        })
    }
}

pub(crate) fn event_object(data: &[u8]) -> Result<Value, SandboxError> {
    match serde_json::from_slice(data) {
        Ok(o @ Value::Object(_)) => Ok(o),
        _ => {
            let text = String::from_utf8_lossy(&data[..data.len().min(80)]).into_owned();
            Err(SandboxError::InvalidResponse(format!("an event of the server is no object: '{text}'")))
        }
    }
}

/// Bytes of both streams as output.
#[derive(Debug, Default)]
pub(crate) struct Decoders {
    of: [Decoder; 2],
}

impl Decoders {
    pub fn output(&mut self, stream: Stream, data: Vec<u8>) -> Output {
        let text = self.of[stream as usize].decode(&data);
        Output { stream, data, text }
    }

    /// Of characters that nothing completed.
    pub fn rest(&self) -> Vec<Output> {
        let cut = STREAMS.iter().filter(|&&s| self.of[s as usize].is_cut());
        cut.map(|&stream| Output { stream, data: Vec::new(), text: "\u{fffd}".to_owned() }).collect()
    }
}

/// Takes the bytes of a stream of events as they come; `next` gives name and object.
#[derive(Debug, Default)]
pub(crate) struct EventReader {
    raw: Vec<u8>,
    at: usize, // where the next line begins
    event: String,
    data: Vec<u8>,
    has_data: bool,
}

impl EventReader {
    pub fn feed(&mut self, data: &[u8]) -> Result<(), SandboxError> {
        self.raw.drain(..self.at);
        self.at = 0;
        self.raw.extend_from_slice(data);
        if self.raw.len() + self.data.len() > EVENT_MAX {
            return Err(SandboxError::InvalidResponse("an event of the server is too long".to_owned()));
        }
        Ok(())
    }

    /// `None`: more bytes are needed.
    pub fn next(&mut self) -> Result<Option<(String, Value)>, SandboxError> {
        while let Some(n) = self.raw[self.at..].iter().position(|&b| b == b'\n') {
            let (start, end) = (self.at, self.at + n);
            self.at = end + 1;
            let end = if n > 0 && self.raw[end - 1] == b'\r' { end - 1 } else { end };
            if start == end {
                let (event, data) = (std::mem::take(&mut self.event), std::mem::take(&mut self.data));
                if std::mem::take(&mut self.has_data) && !data.is_empty() {
                    return Ok(Some((event, event_object(&data)?)));
                }
                continue;
            }
            self.line(start, end);
        }
        Ok(None)
    }

    /// A line that begins with a colon is a comment.
    fn line(&mut self, start: usize, end: usize) {
        let line = &self.raw[start..end];
        let colon = line.iter().position(|&b| b == b':').unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match &line[..colon] {
            b"event" => self.event = String::from_utf8_lossy(value).into_owned(),
            b"data" => {
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(value);
                self.has_data = true;
            }
            _ => {}
        }
    }
}

/// Of an event stdout or stderr: `{"text": …}` or `{"base64": …}`.
pub(crate) fn output_bytes(o: &Value) -> Result<Vec<u8>, SandboxError> {
    if o.get("base64").is_none() {
        return Ok(wire::required(o, "text", wire::string)?.into_bytes());
    }
    wire::required(o, "base64", |v| v.as_str().and_then(base64_decode))
}

/// Gathers output as lines, as the server does for the calls that answer at their end.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    pub truncated: bool,
    lines: Vec<Value>,
    open: [String; 2],
    size: usize,
}

impl Lines {
    pub fn add(&mut self, output: &Output) {
        self.size += output.data.len();
        if self.size > KEPT_MAX {
            self.truncated = true;
            return;
        }
        for (i, piece) in output.text.split('\n').enumerate() {
            if i > 0 {
                self.close(output.stream);
            }
            self.open[output.stream as usize].push_str(piece);
        }
    }

    fn close(&mut self, stream: Stream) {
        let text = std::mem::take(&mut self.open[stream as usize]);
        self.lines.push(json!({"stream": stream.as_str(), "text": text}));
    }

    pub fn end(mut self) -> Vec<Value> {
        for stream in STREAMS {
            if !self.open[stream as usize].is_empty() {
                self.close(stream);
            }
        }
        self.lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_split_anywhere() {
        let bytes = b": comment\r\nevent: a\r\ndata: {\"x\":\r\ndata:1}\r\n\r\n\nid: 1\n\nevent:b\ndata: {}\n\n";
        for cut in 0..bytes.len() {
            let mut reader = EventReader::default();
            let mut found = Vec::new();
            for part in [&bytes[..cut], &bytes[cut..]] {
                reader.feed(part).unwrap();
                while let Some(event) = reader.next().unwrap() {
                    found.push(event);
                }
            }
            assert_eq!(found, [("a".to_owned(), json!({"x": 1})), ("b".to_owned(), json!({}))]);
        }
    }
}
