// SPDX-License-Identifier: Apache-2.0
//! JavaScript in a sandbox: run, errors, modules, state.
use microsandbox::{NodeSandbox, SandboxError};

#[tokio::main]
async fn main() -> Result<(), SandboxError> {
    let mut sb = NodeSandbox::create("node-example").await?;
    sb.run("var name = 'JavaScript'").await?;
    println!("{}", sb.run("console.log(`Hello ${name}!`)").await?.output().await?);

    let exec = sb.run("throw new Error('deliberate')").await?;
    println!("It failed: {} {}", exec.has_error(), exec.error().await?.lines().next().unwrap_or_default());

    let code = "require('fs').writeFileSync('/tmp/t', require('os').platform()); \
                console.log(require('fs').readFileSync('/tmp/t', 'utf8'))";
    println!("{}", sb.run(code).await?.output().await?);
    sb.stop().await
}
