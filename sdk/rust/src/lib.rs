// SPDX-License-Identifier: Apache-2.0
//! Run code that nobody trusts in microVM sandboxes of your own.
//!
//! ```no_run
//! use microsandbox::{PythonSandbox, SandboxError, SandboxOptions};
//!
//! # async fn example() -> Result<(), SandboxError> {
//! let options = SandboxOptions::builder().name("test").memory(1024).build();
//! let mut sb = PythonSandbox::create(options).await?;
//! let exec = sb.run("print(6 * 7)").await?;
//! println!("{}", exec.output().await?);
//! sb.stop().await?;
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]
#![warn(missing_debug_implementations)]

mod base;
mod bytes;
mod command;
mod error;
mod events;
mod execution;
mod files;
mod http;
mod options;
mod process;
mod sandbox;
mod settings;
mod stream;
#[rustfmt::skip]
mod types;
mod websocket;
mod wire;

pub use base::BaseSandbox;
pub use command::{Command, ExecOptions, ProcessOptions};
pub use error::{ApiError, ErrorKind, SandboxError};
pub use events::{ExitStatus, Output, Stream};
pub use execution::{CommandExecution, Execution, RichResult};
pub use files::{FileStream, Files, MkdirOptions, ReadOptions, WriteOptions};
pub use options::{SandboxOptions, SandboxOptionsBuilder, Secret, StartOptions};
pub use process::Process;
pub use sandbox::{list_sandboxes, Language, Metrics, Node, NodeSandbox, Python, PythonSandbox, Sandbox};
pub use stream::{CodeStream, CommandStream};
pub use types::{
    code, FileInfo, Line, NetworkCounter, NetworkInfo, NetworkMember, PortInfo, SandboxInfo, SandboxMetrics,
};

/// The program of the README, so that it is compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
