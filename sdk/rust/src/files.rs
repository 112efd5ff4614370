// SPDX-License-Identifier: Apache-2.0
use crate::http::{refused, Answer, Ask, JSON};
use crate::sandbox::Inner;
use crate::types::{method, FileInfo};
use crate::{wire, SandboxError};
use hyper::Method;
use serde_json::{json, Value};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

const BYTES: &str = "application/octet-stream";

/// Which part of a file is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Where to begin, bytes.
    pub offset: Option<u64>,
    /// How much at most, bytes.
    pub length: Option<u64>,
}

/// How a file is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// Permission bits.
    pub mode: Option<u32>,
    /// At the end of the file, instead of replacing it.
    pub append: bool,
    /// The file must not exist.
    pub exclusive: bool,
    /// Makes the directories on the way to it.
    pub parents: bool,
}

/// How a directory is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MkdirOptions {
    /// Makes those on the way too, and one that is there is no error.
    pub parents: bool,
    /// Permission bits.
    pub mode: Option<u32>,
}

impl ReadOptions {
    fn check(&self) -> Result<(), SandboxError> {
        match self.length {
            Some(0) => {
                Err(SandboxError::InvalidArgument("length must be a number of bytes, at least 1, not 0".to_owned()))
            }
            _ => Ok(()),
        }
    }
}

/// The content of a file, piece by piece.
#[derive(Debug)]
pub struct FileStream {
    answer: Answer,
}

impl FileStream {
    /// `None`: that was all.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, SandboxError> {
        Ok(self.answer.piece().await?.map(|data| data.to_vec()))
    }
}

/// Files of a sandbox.  Paths are absolute.  What fails in the sandbox is an error of kind
/// [`File`](crate::ErrorKind::File).
#[derive(Clone, Debug)]
pub struct Files<'a> {
    inner: &'a Inner,
    user: Option<String>,
}

impl<'a> Files<'a> {
    pub(crate) fn new(inner: &'a Inner) -> Self {
        Self { inner, user: None }
    }

    /// With the rights of this user (`name`, `uid`, `name:group`) instead of the image's.
    pub fn as_user(&self, user: impl Into<String>) -> Self {
        Self { inner: self.inner, user: Some(user.into()) }
    }

    /// The content piece by piece, of any size.
    pub async fn read_stream(&self, path: &str, options: &ReadOptions) -> Result<FileStream, SandboxError> {
        options.check()?;
        let number = |n: Option<u64>| n.map(|n| n.to_string());
        let query = [
            ("path", Some(path.to_owned())),
            ("offset", number(options.offset)),
            ("length", number(options.length)),
            ("user", self.user.clone()),
        ];
        let target = self.inner.target("files", &query);
        let ask = Ask { method: Method::GET, target, accept: BYTES, content_type: None, body: None };
        let mut answer = self.inner.http.open(ask).await?;
        if answer.status != 200 {
            return Err(answer.refused().await);
        }
        Ok(FileStream { answer })
    }

    /// The content.
    pub async fn read(&self, path: &str) -> Result<Vec<u8>, SandboxError> {
        self.read_with(path, &ReadOptions::default()).await
    }

    /// A part of the content.
    pub async fn read_with(&self, path: &str, options: &ReadOptions) -> Result<Vec<u8>, SandboxError> {
        self.read_stream(path, options).await?.answer.whole().await
    }

    /// The content as text; [`SandboxError::InvalidArgument`] if it is no UTF-8.
    pub async fn read_to_string(&self, path: &str) -> Result<String, SandboxError> {
        let bytes = self.read(path).await?;
        String::from_utf8(bytes).map_err(|e| SandboxError::InvalidArgument(format!("{path} is no text in UTF-8: {e}")))
    }

    /// Writes the content to `target`.  Returns how many bytes there were.
    pub async fn download<W>(&self, path: &str, target: &mut W, options: &ReadOptions) -> Result<u64, SandboxError>
    where
        W: AsyncWrite + Unpin + ?Sized,
    {
        let mut stream = self.read_stream(path, options).await?;
        let mut size = 0;
        while let Some(data) = stream.answer.piece().await? {
            target.write_all(&data).await.map_err(SandboxError::io)?;
            size += data.len() as u64;
        }
        target.flush().await.map_err(SandboxError::io)?;
        Ok(size)
    }

    /// Writes a file; one that is there is replaced as a whole.
    pub async fn write(&self, path: &str, data: impl AsRef<[u8]>) -> Result<FileInfo, SandboxError> {
        self.write_with(path, data, &WriteOptions::default()).await
    }

    /// As [`write`](Self::write), in another way.
    pub async fn write_with(
        &self,
        path: &str,
        data: impl AsRef<[u8]>,
        options: &WriteOptions,
    ) -> Result<FileInfo, SandboxError> {
        let mut ask = self.put(path, options)?;
        ask.body = Some(data.as_ref().to_vec());
        file_info(self.inner.http.open(ask).await?).await
    }

    /// As [`write_with`](Self::write_with), of any size: what `source` gives until its end.  If that
    /// fails, the file stays as it was.
    pub async fn upload<R>(&self, path: &str, source: R, options: &WriteOptions) -> Result<FileInfo, SandboxError>
    where
        R: AsyncRead + Unpin,
    {
        let ask = self.put(path, options)?;
        file_info(self.inner.http.upload(ask, source).await?).await
    }

    fn put(&self, path: &str, options: &WriteOptions) -> Result<Ask, SandboxError> {
        if let Some(mode @ (0 | 0o10000..)) = options.mode {
            let text = format!("mode must be permission bits from 0o1 to 0o7777, not {mode:#o}");
            return Err(SandboxError::InvalidArgument(text));
        }
        let on = |is: bool| if is { Some("1".to_owned()) } else { None };
        let query = [
            ("path", Some(path.to_owned())),
            ("mode", options.mode.map(|mode| format!("{mode:o}"))),
            ("append", on(options.append)),
            ("exclusive", on(options.exclusive)),
            ("parents", on(options.parents)),
            ("user", self.user.clone()),
        ];
        let target = self.inner.target("files", &query);
        Ok(Ask { method: Method::PUT, target, accept: JSON, content_type: Some(BYTES), body: None })
    }

    /// The entries of a directory, sorted by name; symbolic links are not followed.
    pub async fn list(&self, path: &str) -> Result<Vec<FileInfo>, SandboxError> {
        let result = self.call(method::FS_LIST, path, json!({})).await?;
        wire::objects(&result, "entries", FileInfo::from_wire)
    }

    /// `follow`: of a symbolic link, what it points to.
    pub async fn stat(&self, path: &str, follow: bool) -> Result<FileInfo, SandboxError> {
        let more = if follow { json!({"follow": true}) } else { json!({}) };
        FileInfo::from_wire(&self.call(method::FS_STAT, path, more).await?)
    }

    pub async fn mkdir(&self, path: &str, options: &MkdirOptions) -> Result<FileInfo, SandboxError> {
        let mut more = if options.parents { json!({"parents": true}) } else { json!({}) };
        if let Some(mode) = options.mode {
            more["mode"] = json!(mode);
        }
        FileInfo::from_wire(&self.call(method::FS_MKDIR, path, more).await?)
    }

    /// `recursive`: a directory with all that it holds.  Returns the file as it was.
    pub async fn remove(&self, path: &str, recursive: bool) -> Result<FileInfo, SandboxError> {
        let more = if recursive { json!({"recursive": true}) } else { json!({}) };
        FileInfo::from_wire(&self.call(method::FS_REMOVE, path, more).await?)
    }

    /// A file that has the new name is replaced.  Returns the file at its new place.
    pub async fn rename(&self, path: &str, to: &str) -> Result<FileInfo, SandboxError> {
        FileInfo::from_wire(&self.call(method::FS_RENAME, path, json!({ "to": to })).await?)
    }

    async fn call(&self, method: &str, path: &str, mut params: Value) -> Result<Value, SandboxError> {
        params["path"] = json!(path);
        if let Some(user) = &self.user {
            params["user"] = json!(user);
        }
        self.inner.call(method, params, None).await
    }
}

/// Of the answer to a PUT.
async fn file_info(mut answer: Answer) -> Result<FileInfo, SandboxError> {
    let body = answer.whole().await?;
    match serde_json::from_slice::<Value>(&body) {
        Ok(o @ Value::Object(_)) if answer.status == 200 && o.get("error").is_none() => FileInfo::from_wire(&o),
        _ => Err(refused(answer.status, &body)),
    }
}
