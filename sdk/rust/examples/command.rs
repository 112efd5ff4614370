// SPDX-License-Identifier: Apache-2.0
//! Programs in a sandbox: arguments, exit codes, time limits, files.
use microsandbox::{ErrorKind, PythonSandbox, SandboxError};

#[tokio::main]
async fn main() -> Result<(), SandboxError> {
    let mut sb = PythonSandbox::create("command-example").await?;
    let command = sb.command().await?;
    println!("{}", command.run("ls", Some(vec!["/"]), None).await?.output().await?);
    println!("{}", command.run("uname", Some(vec!["-a"]), None).await?.output().await?);

    let result = command.run("ls", Some(vec!["/nonexistent"]), None).await?;
    println!("Exit code {} success {} - {}", result.exit_code(), result.is_success(), result.error().await?);

    match command.run("no-such-program", None, None).await {
        Err(e) if e.kind() == Some(ErrorKind::CommandNotRun) => println!("Not run: {e}"),
        other => println!("Unexpected: {other:?}"),
    }

    match command.run("sh", Some(vec!["-c", "echo started; sleep 10"]), Some(2)).await {
        Err(SandboxError::ServerError(e)) if e.kind() == ErrorKind::CommandTimeout => {
            println!("Too slow; it had printed: {}", e.stdout());
        }
        other => println!("Unexpected: {other:?}"),
    }
    println!("Still there: {}", command.run("echo", Some(vec!["yes"]), None).await?.output().await?);

    let script = "printf 'c\\na\\nb\\n' > /tmp/letters && sort /tmp/letters | head -n 1";
    println!("First letter: {}", command.run("bash", Some(vec!["-c", script]), None).await?.output().await?);
    sb.stop().await
}
