// SPDX-License-Identifier: Apache-2.0
//! Files of a sandbox: text, bytes, directories, and files of any size.
use microsandbox::{ErrorKind, PythonSandbox, ReadOptions, SandboxError, WriteOptions};

#[tokio::main]
async fn main() -> Result<(), SandboxError> {
    let mut sb = PythonSandbox::create("files-example").await?;
    let files = sb.files().await?;
    let parents = WriteOptions { parents: true, ..Default::default() };
    files.write_with("/srv/report/data.csv", "name,n\nann,3\nbob,4\n", &parents).await?;
    let code = "import csv\nprint(sum(int(r['n']) for r in csv.DictReader(open('/srv/report/data.csv'))))";
    println!("Sum: {}", sb.run(code).await?.output().await?);

    sb.run("open('/srv/report/out.bin', 'wb').write(bytes(range(256)))").await?;
    let part = ReadOptions { offset: Some(250), length: None };
    println!("Bytes: {:?}", files.read_with("/srv/report/out.bin", &part).await?);

    for entry in files.list("/srv/report").await? {
        println!("{:10} {:04o} {:6} {}", entry.r#type, entry.mode, entry.size, entry.name);
    }

    // What implements AsyncRead and AsyncWrite goes up and down as it comes: no size is too large.
    let large = b"0123456789".repeat(1_000_000);
    let info = files.upload("/srv/large", large.as_slice(), &WriteOptions::default()).await?;
    let mut target = Vec::new();
    let size = files.download("/srv/large", &mut target, &ReadOptions::default()).await?;
    println!("Up {} and down {size}", info.size);

    files.rename("/srv/large", "/srv/larger").await?;
    files.remove("/srv/report", true).await?;
    match files.read_to_string("/srv/report/data.csv").await {
        Err(SandboxError::ServerError(e)) if e.kind() == ErrorKind::File => {
            println!("Gone: {} ({})", e, e.errno().unwrap_or_default());
        }
        other => println!("Unexpected: {other:?}"),
    }
    sb.stop().await
}
