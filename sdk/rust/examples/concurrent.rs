// SPDX-License-Identifier: Apache-2.0
//! Several sandboxes at once, and a call that is given up.
use microsandbox::{list_sandboxes, NodeSandbox, PythonSandbox, SandboxError, SandboxOptions};
use std::time::Duration;

#[tokio::main]
async fn main() -> Result<(), SandboxError> {
    let (py, js) = tokio::join!(PythonSandbox::create("concurrent-py"), NodeSandbox::create("concurrent-js"));
    let (mut py, mut js) = (py?, js?);

    let (a, b) = tokio::join!(py.run("print(6 * 7)"), js.run("console.log(6 * 7)"));
    println!("{} {}", a?.output().await?, b?.output().await?);
    for s in list_sandboxes(&SandboxOptions::default()).await? {
        println!("{} {}", s.name, s.state);
    }

    // A future that is dropped is a call given up: the server kills what it started.
    let command = py.command().await?;
    let sleep = command.run("sleep", Some(vec!["1000"]), None);
    if tokio::time::timeout(Duration::from_secs(1), sleep).await.is_err() {
        println!("Given up: the server has killed it");
    }

    py.stop().await?;
    js.stop().await
}
