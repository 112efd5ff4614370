// SPDX-License-Identifier: Apache-2.0
use crate::types::{CommandResult, Line, ReplResult, WireResult};
use crate::{wire, SandboxError};
use serde_json::Value;

/// What is taken off the end of `output()` and `error()`; the same in all SDKs.
const WHITE_SPACE: [char; 6] = [' ', '\t', '\r', '\n', '\x0b', '\x0c'];

fn text(lines: &[Line], stream: &str) -> String {
    let texts: Vec<&str> = lines.iter().filter(|l| l.stream == stream).map(|l| l.text.as_str()).collect();
    texts.join("\n")
}

fn stripped(lines: &[Line], stream: &str) -> String {
    let mut s = text(lines, stream);
    s.truncate(s.trim_end_matches(WHITE_SPACE).len());
    s
}

macro_rules! printed {
    ($type:ident) => {
        /// What was printed.
        impl $type {
            /// Standard output without the white space at its end.
            pub async fn output(&self) -> Result<String, SandboxError> {
                Ok(stripped(&self.result.output, "stdout"))
            }

            /// Standard error without the white space at its end.
            pub async fn error(&self) -> Result<String, SandboxError> {
                Ok(stripped(&self.result.output, "stderr"))
            }

            /// All lines of standard output, joined by newlines, otherwise as they were printed.
            pub fn stdout(&self) -> String {
                text(&self.result.output, "stdout")
            }

            /// All lines of standard error, joined by newlines, otherwise as they were printed.
            pub fn stderr(&self) -> String {
                text(&self.result.output, "stderr")
            }

            /// What was printed, as it came.
            pub fn lines(&self) -> &[Line] {
                &self.result.output
            }

            /// Did it print more than the server keeps of a call?
            pub fn truncated(&self) -> bool {
                self.result.truncated.unwrap_or(false)
            }

            /// How long it took in the sandbox, milliseconds.
            pub fn duration_ms(&self) -> Option<f64> {
                self.result.duration_ms
            }
        }
    };
}

/// A value or a picture that code showed beside what it printed.
#[derive(Clone, Debug, PartialEq)]
pub struct RichResult {
    mime: String,
    data: Vec<u8>,
    is_text: bool,
    note: Option<String>,
}

impl RichResult {
    fn new(r: WireResult) -> Result<Self, SandboxError> {
        let is_text = r.encoding == "utf-8";
        let data = if is_text { r.data.into_bytes() } else { wire::base64(&r.data)? };
        Ok(Self { mime: r.mime, data, is_text, note: r.note })
    }

    /// `text/plain`, `image/png`.
    pub fn mime(&self) -> &str {
        &self.mime
    }

    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The data of a type of text.
    pub fn text(&self) -> Option<&str> {
        if self.is_text {
            std::str::from_utf8(&self.data).ok()
        } else {
            None
        }
    }

    /// Why the data is missing: it was too large, or making it failed.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }
}

/// The outcome of `run()`.
#[derive(Clone, Debug, PartialEq)]
pub struct Execution {
    result: ReplResult,
    results: Vec<RichResult>,
}

printed!(Execution);

impl Execution {
    pub(crate) fn new(result: &Value) -> Result<Self, SandboxError> {
        let mut result = ReplResult::from_wire(result)?;
        let results = std::mem::take(&mut result.results).into_iter().map(RichResult::new).collect::<Result<_, _>>()?;
        Ok(Self { result, results })
    }

    /// `success`, or `error`: the code raised, ran out of time or ended its interpreter.
    pub fn status(&self) -> &str {
        &self.result.status
    }

    pub fn language(&self) -> &str {
        &self.result.language
    }

    /// Of an error: `exception`, `timeout` or `exited`.
    pub fn reason(&self) -> Option<&str> {
        self.result.reason.as_deref()
    }

    pub fn timed_out(&self) -> bool {
        self.reason() == Some("timeout")
    }

    /// If the interpreter ended.
    pub fn exit_code(&self) -> Option<i64> {
        self.result.exit_code
    }

    /// What the code showed beside its output: the value of its last expression, pictures.
    pub fn results(&self) -> &[RichResult] {
        &self.results
    }

    /// Does the next call start with a fresh interpreter?
    pub fn state_lost(&self) -> bool {
        self.result.state_lost.unwrap_or(false)
    }

    /// Did the code fail, or print anything but blank lines on standard error?
    pub fn has_error(&self) -> bool {
        let failed = self.status() == "error" || self.status() == "exception";
        failed || self.lines().iter().any(|l| l.stream == "stderr" && !l.text.is_empty())
    }
}

/// The outcome of a program.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandExecution {
    result: CommandResult,
}

printed!(CommandExecution);

impl CommandExecution {
    pub(crate) fn new(result: &Value) -> Result<Self, SandboxError> {
        Ok(Self { result: CommandResult::from_wire(result)? })
    }

    pub fn command(&self) -> &str {
        &self.result.command
    }

    pub fn args(&self) -> &[String] {
        &self.result.args
    }

    /// As the program ended; 128 + n after signal n.
    pub fn exit_code(&self) -> i64 {
        self.result.exit_code
    }

    /// Is the exit code 0?
    pub fn is_success(&self) -> bool {
        self.result.success
    }
}
