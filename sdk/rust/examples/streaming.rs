// SPDX-License-Identifier: Apache-2.0
//! Output while it is printed, and programs that are talked to.
use microsandbox::{ExecOptions, ProcessOptions, PythonSandbox, SandboxError};

fn shell(script: &str) -> ExecOptions {
    ExecOptions { args: vec!["-c".to_owned(), script.to_owned()], ..Default::default() }
}

#[tokio::main]
async fn main() -> Result<(), SandboxError> {
    let mut sb = PythonSandbox::create("streaming-example").await?;
    let slow = "import time\nfor i in range(3):\n    print('step', i, flush=True)\n    time.sleep(0.2)";
    let exec = sb.run_with_listener(slow, None, |_, text| println!("heard: {}", text.trim_end())).await?;
    println!("All of it: {:?}", exec.output().await?.lines().collect::<Vec<_>>());

    let command = sb.command().await?;
    let script = "for i in 1 2 3; do echo line $i; sleep 0.2; done; echo oops >&2; exit 3";
    let mut stream = command.stream("sh", &shell(script)).await?;
    while let Some(output) = stream.next().await? {
        print!("{}: {}", output.stream.as_str(), output.text);
    }
    println!("Exit code {}", stream.wait().await?.exit_code);

    let options = ExecOptions { stdin: Some(b"b\na\n".to_vec()), cwd: Some("/tmp".to_owned()), ..Default::default() };
    println!("Sorted: {:?}", command.run_with("sort", &options).await?.stdout());

    // A terminal: what is typed, and what comes back.
    let terminal = ProcessOptions { tty: true, rows: Some(24), cols: Some(80), ..Default::default() };
    let process = command.start("sh", &terminal).await?;
    process.write("echo $((6 * 7)); exit\n").await?;
    while let Some(output) = process.next().await? {
        print!("{}", output.text);
    }
    println!("The shell ended: {}", process.wait().await?.reason);

    // Dropping a stream kills the program.
    let mut stream = command.stream("sh", &shell("while :; do date; sleep 0.1; done")).await?;
    if let Some(output) = stream.next().await? {
        print!("One line is enough: {}", output.text);
    }
    drop(stream);
    sb.stop().await
}
