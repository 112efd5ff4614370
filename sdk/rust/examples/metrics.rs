// SPDX-License-Identifier: Apache-2.0
//! What a sandbox uses.
use microsandbox::{PythonSandbox, SandboxError};

#[tokio::main]
async fn main() -> Result<(), SandboxError> {
    let sb = PythonSandbox::new("metrics-example")?;
    if let Err(e) = sb.metrics().await {
        println!("Before the start: {e}");
    }

    let mut sb = PythonSandbox::create("metrics-example").await?;
    let metrics = sb.metrics().await?;
    println!("Running: {}", metrics.is_running().await?);
    println!("Memory: {:?} MiB", metrics.memory().await?);
    println!("Disk: {:?} bytes", metrics.disk().await?);
    println!("All: {:?}", metrics.all().await?);
    for _ in 0..3 {
        sb.run("sum(i * i for i in range(200_000))").await?;
        println!("CPU under load: {:?} %", metrics.cpu().await?);
    }
    sb.stop().await
}
