// SPDX-License-Identifier: Apache-2.0
//! Python code in a sandbox: life cycle, state, errors, time limits.
use microsandbox::{PythonSandbox, SandboxError, StartOptions};
use std::time::Duration;

#[tokio::main]
async fn main() -> Result<(), SandboxError> {
    let mut sb = PythonSandbox::new("repl-example")?;
    let envs = vec!["WHO=you".to_owned()];
    sb.start(Some(StartOptions { memory: 1024, cpus: 2.0, envs, ..Default::default() })).await?;

    let exec = sb.run("import os; print('Hello', os.environ['WHO'])").await?;
    println!("{}", exec.output().await?);

    sb.run("x = 20").await?;
    sb.run("def double(n):\n    return 2 * n").await?;
    println!("{}", sb.run("double(x) + 2").await?.output().await?);

    let exec = sb.run("1 / 0").await?;
    if exec.has_error() {
        println!("It failed: {}", exec.error().await?.lines().last().unwrap_or_default());
    }

    let exec = sb.run_with_timeout("while True: pass", Duration::from_secs(1)).await?;
    println!("Timed out: {}", exec.timed_out());
    sb.stop().await
}
