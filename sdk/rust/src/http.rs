// SPDX-License-Identifier: Apache-2.0
//! Calls over HTTP/1.1: hyper's connections, kept open from call to call.
//!
//! A call has a connection of its own while it lasts.  A future that is dropped before its end
//! closes it: the server then kills what the call had started.  No proxy is used, since the server
//! is on this machine or in one's own network.
use crate::error::{ApiError, ErrorKind};
use crate::settings::{Endpoint, Target};
use crate::SandboxError;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{handshake, SendRequest};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::rt::{Read, Write};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{json, Value};
use std::error::Error;
use std::io;
use std::sync::Mutex;
use std::time::Duration;
use tokio::net::TcpStream;

const BODY_MAX: usize = 512 << 20;

type Connection = SendRequest<Full<Bytes>>;

#[derive(Debug)]
pub(crate) struct Transport {
    pub endpoint: Endpoint,
    idle: Mutex<Vec<Connection>>,
}

impl Transport {
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, idle: Mutex::new(Vec::new()) }
    }

    /// `limit`: until the answer must be there; `None`: no limit.
    pub async fn call(&self, method: &str, params: Value, limit: Option<Duration>) -> Result<Value, SandboxError> {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
        let (status, body) = match limit {
            None => self.round_trip(body).await?,
            Some(limit) => tokio::time::timeout(limit, self.round_trip(body)).await.map_err(|_| {
                SandboxError::Timeout(format!(
                    "the server at {} did not answer {method} within {} seconds",
                    self.endpoint.url,
                    limit.as_secs_f64()
                ))
            })??,
        };
        decode(status, &body)
    }

    /// Closes the connections that no call uses.
    pub fn close(&self) {
        self.idle().clear();
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    async fn round_trip(&self, body: String) -> Result<(u16, Vec<u8>), SandboxError> {
        let mut connection = self.connection().await?;
        let request = self.request(body)?;
        let response = connection.send_request(request).await.map_err(|e| self.broke(&e))?;
        let status = response.status().as_u16();
        let body = self.read(response).await?;
        self.idle().push(connection);
        Ok((status, body))
    }

    fn request(&self, body: String) -> Result<Request<Full<Bytes>>, SandboxError> {
        let e = &self.endpoint;
        let mut request = Request::post(format!("{}/api/v1/rpc", e.prefix))
            .header(HOST, &e.authority)
            .header(USER_AGENT, "microsandbox-rust/1")
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/json");
        if let Some(key) = &e.api_key {
            request = request.header(AUTHORIZATION, format!("Bearer {key}"));
        }
        let request = request.body(Full::new(Bytes::from(body)));
        request.map_err(|error| SandboxError::InvalidArgument(format!("server URL '{}': {error}", e.url)))
    }

    async fn read(&self, response: Response<hyper::body::Incoming>) -> Result<Vec<u8>, SandboxError> {
        let mut body = response.into_body();
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame.map_err(|e| self.broke(&e))?.into_data() {
                if bytes.len() + data.len() > BODY_MAX {
                    return Err(SandboxError::InvalidResponse("the answer is too long".to_owned()));
                }
                bytes.extend_from_slice(&data);
            }
        }
        Ok(bytes)
    }

    /// One that is open and idle, else a new one.
    async fn connection(&self) -> Result<Connection, SandboxError> {
        loop {
            let idle = self.idle().pop();
            let mut connection = match idle {
                None => return self.connect().await,
                Some(connection) => connection,
            };
            if connection.ready().await.is_ok() {
                return Ok(connection);
            } // else the server closed it
        }
    }

    async fn connect(&self) -> Result<Connection, SandboxError> {
        match &self.endpoint.target {
            #[cfg(unix)]
            Target::Unix(path) => {
                let stream = tokio::net::UnixStream::connect(path).await.map_err(|e| self.unreachable(&e))?;
                self.open(TokioIo::new(stream)).await
            }
            Target::Tcp { host, port, tls } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(|e| self.unreachable(&e))?;
                stream.set_nodelay(true).map_err(|e| self.unreachable(&e))?;
                if *tls {
                    self.open_tls(host, stream).await
                } else {
                    self.open(TokioIo::new(stream)).await
                }
            }
        }
    }

    async fn open<I>(&self, io: I) -> Result<Connection, SandboxError>
    where
        I: Read + Write + Unpin + Send + 'static,
    {
        let (sender, connection) = handshake(io).await.map_err(|e| self.broke(&e))?;
        // It ends with the sender, or with the connection; its error is the request's as well.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(sender)
    }

    #[cfg(feature = "tls")]
    async fn open_tls(&self, host: &str, stream: TcpStream) -> Result<Connection, SandboxError> {
        use tokio_rustls::rustls::{pki_types::ServerName, ClientConfig, RootCertStore};

        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from(host.to_owned())
            .map_err(|e| SandboxError::InvalidArgument(format!("server URL '{}': {e}", self.endpoint.url)))?;
        let stream = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config)).connect(name, stream).await;
        self.open(TokioIo::new(stream.map_err(|e| self.unreachable(&e))?)).await
    }

    #[cfg(not(feature = "tls"))]
    async fn open_tls(&self, _host: &str, _stream: TcpStream) -> Result<Connection, SandboxError> {
        Err(SandboxError::InvalidArgument(format!(
            "server URL '{}': https needs the feature \"tls\" of the crate microsandbox",
            self.endpoint.url
        )))
    }

    fn unreachable(&self, e: &io::Error) -> SandboxError {
        SandboxError::RequestFailed(format!(
            "cannot reach the server at {}: {e}; is it running (msb server start)?",
            self.endpoint.url
        ))
    }

    fn broke(&self, e: &hyper::Error) -> SandboxError {
        let cause = e.source().and_then(|s| s.downcast_ref::<io::Error>());
        let url = &self.endpoint.url;
        let no_http =
            matches!(cause.map(io::Error::kind), Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData));
        if e.is_parse() || no_http {
            let text = format!("the answer is no HTTP: is {url} the address of a microsandbox server? ({e})");
            return SandboxError::InvalidResponse(text);
        }
        let cause = cause.map(|c| format!(": {c}")).unwrap_or_default();
        SandboxError::RequestFailed(format!("the connection to {url} broke: {e}{cause}"))
    }
}

fn server_error(kind: ErrorKind, message: String, code: Option<i64>, status: u16, data: Value) -> SandboxError {
    SandboxError::ServerError(ApiError { kind, message, code, http_status: status, data })
}

/// The result of a call, or its error.
fn decode(status: u16, body: &[u8]) -> Result<Value, SandboxError> {
    let mut o: Value = match serde_json::from_slice(body) {
        Ok(o) => o,
        Err(_) => {
            let text = String::from_utf8_lossy(&body[..body.len().min(200)]).trim().to_owned();
            if status == 200 {
                return Err(SandboxError::InvalidResponse(format!("the server's answer is no JSON: '{text}'")));
            }
            let text = if text.is_empty() { format!("HTTP status {status}") } else { text };
            return Err(server_error(ErrorKind::of_status(status), text, None, status, Value::Null));
        }
    };
    let strange = |what: &str| SandboxError::InvalidResponse(format!("the server's answer (HTTP {status}) {what}"));
    let members = o.as_object_mut().ok_or_else(|| strange("is no object"))?;
    match members.remove("error").unwrap_or_default() {
        Value::Null => {}
        Value::String(message) => {
            let code = members.get("code").and_then(Value::as_i64);
            return Err(server_error(ErrorKind::of_status(status), message, code, status, Value::Null));
        }
        mut error => {
            let message = error["message"].as_str().ok_or_else(|| strange("has an error without a message"))?;
            let (message, code) = (message.to_owned(), error["code"].as_i64());
            let kind = code.map_or(ErrorKind::Other, ErrorKind::of_code);
            return Err(server_error(kind, message, code, status, error["data"].take()));
        }
    }
    match members.remove("result") {
        Some(result) if status == 200 => Ok(result),
        _ => Err(strange("has neither result nor error")),
    }
}
