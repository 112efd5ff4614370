// SPDX-License-Identifier: Apache-2.0
//! Calls over HTTP/1.1: hyper's connections, kept open from call to call.
//!
//! A call has a connection of its own while it lasts.  A future that is dropped before its end
//! closes it: the server then kills what the call had started.  No proxy is used, since the server
//! is on this machine or in one's own network.
use crate::error::{ApiError, ErrorKind};
use crate::settings::{Endpoint, Target};
use crate::websocket;
use crate::SandboxError;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{handshake, SendRequest};
use hyper::header::{
    HeaderMap, ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE, USER_AGENT,
};
use hyper::rt::{Read, Write};
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{json, Value};
use std::error::Error;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

const BODY_MAX: usize = 512 << 20;
/// A file is read and sent in such pieces.
const PIECE: usize = 64 * 1024;
pub(crate) const JSON: &str = "application/json";

type Connection = SendRequest<Outgoing>;

/// As `std::future::poll_fn`, which needs Rust 1.64.
struct PollFn<F>(F);

impl<T, F: FnMut(&mut Context<'_>) -> Poll<T> + Unpin> Future for PollFn<F> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        (self.0)(cx)
    }
}

/// The body of a request.
#[derive(Debug)]
enum Outgoing {
    Whole(Option<Bytes>),
    /// An empty piece is the end.  If the channel ends without one, so does the connection: part of
    /// a body must not pass for the whole.
    Pieces(mpsc::Receiver<Bytes>),
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Self::Pieces(channel) => channel.poll_recv(cx).map(|piece| match piece {
                Some(piece) if piece.is_empty() => None,
                Some(piece) => Some(Ok(Frame::data(piece))),
                None => Some(Err(io::Error::new(io::ErrorKind::Other, "given up"))),
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Self::Pieces(_) => SizeHint::default(),
        }
    }
}

/// A request; `body` `None`: there is none, or it is streamed.
#[derive(Debug)]
pub(crate) struct Ask {
    pub method: Method,
    /// Path and query.
    pub target: String,
    pub accept: &'static str,
    pub content_type: Option<&'static str>,
    pub body: Option<Vec<u8>>,
}

/// The answer to a request, piece by piece.  One that is dropped before its end is given up.
#[derive(Debug)]
pub(crate) struct Answer {
    transport: Arc<Transport>,
    connection: Option<Connection>,
    body: Incoming,
    pub status: u16,
    pub headers: HeaderMap,
}

impl Answer {
    /// `None`: it is whole.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, SandboxError> {
        loop {
            match PollFn(|cx: &mut Context<'_>| Pin::new(&mut self.body).poll_frame(cx)).await {
                None => {
                    self.transport.idle().extend(self.connection.take());
                    return Ok(None);
                }
                Some(frame) => {
                    if let Ok(data) = frame.map_err(|e| self.transport.broke(&e))?.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    pub async fn whole(&mut self) -> Result<Vec<u8>, SandboxError> {
        let mut bytes = Vec::new();
        while let Some(data) = self.piece().await? {
            if bytes.len() + data.len() > BODY_MAX {
                return Err(SandboxError::InvalidResponse("the answer is too long".to_owned()));
            }
            bytes.extend_from_slice(&data);
        }
        Ok(bytes)
    }

    /// What it says that is not what was asked for.
    pub async fn refused(&mut self) -> SandboxError {
        match self.whole().await {
            Err(e) => e,
            Ok(body) => refused(self.status, &body),
        }
    }
}

pub(crate) fn refused(status: u16, body: &[u8]) -> SandboxError {
    let text = format!("the server's answer (HTTP {status}) is not what was asked for");
    decode(status, body).err().unwrap_or(SandboxError::InvalidResponse(text))
}

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
    pub async fn call(
        self: &Arc<Self>,
        method: &str,
        params: Value,
        limit: Option<Duration>,
    ) -> Result<Value, SandboxError> {
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

    async fn round_trip(self: &Arc<Self>, body: String) -> Result<(u16, Vec<u8>), SandboxError> {
        let mut answer = self
            .open(Ask {
                method: Method::POST,
                target: "/api/v1/rpc".to_owned(),
                accept: JSON,
                content_type: Some(JSON),
                body: Some(body.into_bytes()),
            })
            .await?;
        let body = answer.whole().await?;
        Ok((answer.status, body))
    }

    /// An answer whose head has come.
    pub async fn open(self: &Arc<Self>, ask: Ask) -> Result<Answer, SandboxError> {
        let mut connection = self.connection().await?;
        let request = self.request(ask, None)?;
        let response = connection.send_request(request).await.map_err(|e| self.broke(&e))?;
        Ok(self.answer(response, Some(connection)))
    }

    /// The same, with what `source` gives as the body.
    pub async fn upload<R>(self: &Arc<Self>, ask: Ask, source: R) -> Result<Answer, SandboxError>
    where
        R: AsyncRead + Unpin,
    {
        let mut connection = self.connection().await?;
        let (to, from) = mpsc::channel(2);
        let request = self.request(ask, Some(from))?;
        let mut sending = Box::pin(send_pieces(source, to));
        let mut answering = Box::pin(connection.send_request(request));
        let mut sent = false;
        // The answer may come, and be an error, before all is sent.
        let response = PollFn(|cx: &mut Context<'_>| {
            if let Poll::Ready(response) = answering.as_mut().poll(cx) {
                return Poll::Ready(response.map_err(|e| self.broke(&e)));
            }
            if !sent {
                if let Poll::Ready(result) = sending.as_mut().poll(cx) {
                    sent = true;
                    if let Err(e) = result {
                        return Poll::Ready(Err(e));
                    }
                }
            }
            Poll::Pending
        })
        .await?;
        drop(answering);
        Ok(self.answer(response, if sent { Some(connection) } else { None }))
    }

    /// The connection of a WebSocket.
    pub async fn open_websocket(self: &Arc<Self>, target: String) -> Result<TokioIo<Upgraded>, SandboxError> {
        let ask = Ask { method: Method::GET, target, accept: JSON, content_type: None, body: None };
        let mut request = self.request(ask, None)?;
        let key = websocket::make_key();
        let headers = request.headers_mut();
        for (name, value) in [
            (CONNECTION, "Upgrade"),
            (UPGRADE, "websocket"),
            (SEC_WEBSOCKET_VERSION, "13"),
            (SEC_WEBSOCKET_KEY, key.as_str()),
        ] {
            headers.insert(name, value.parse().expect("nothing but ASCII"));
        }
        let mut connection = self.connect().await?;
        let response = connection.send_request(request).await.map_err(|e| self.broke(&e))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(self.answer(response, None).refused().await);
        }
        let told = response.headers();
        let upgrade = told.get(UPGRADE).map_or(false, |v| v.as_bytes().eq_ignore_ascii_case(b"websocket"));
        let accept = told.get(SEC_WEBSOCKET_ACCEPT).map_or(false, |v| v == websocket::accept_of(&key).as_str());
        if !upgrade || !accept || told.contains_key(SEC_WEBSOCKET_EXTENSIONS) {
            let text = "the server's answer to the WebSocket's handshake is not one to ours";
            return Err(SandboxError::InvalidResponse(text.to_owned()));
        }
        Ok(TokioIo::new(hyper::upgrade::on(response).await.map_err(|e| self.broke(&e))?))
    }

    fn answer(self: &Arc<Self>, response: Response<Incoming>, connection: Option<Connection>) -> Answer {
        let (head, body) = response.into_parts();
        let status = head.status.as_u16();
        Answer { transport: self.clone(), connection, body, status, headers: head.headers }
    }

    fn request(&self, ask: Ask, pieces: Option<mpsc::Receiver<Bytes>>) -> Result<Request<Outgoing>, SandboxError> {
        let e = &self.endpoint;
        let mut request = Request::builder()
            .method(ask.method)
            .uri(format!("{}{}", e.prefix, ask.target))
            .header(HOST, &e.authority)
            .header(USER_AGENT, "microsandbox-rust/1")
            .header(ACCEPT, ask.accept);
        if let Some(content_type) = ask.content_type {
            request = request.header(CONTENT_TYPE, content_type);
        }
        if let Some(key) = &e.api_key {
            request = request.header(AUTHORIZATION, format!("Bearer {key}"));
        }
        let body = match pieces {
            Some(pieces) => Outgoing::Pieces(pieces),
            None => Outgoing::Whole(ask.body.map(Bytes::from)),
        };
        let request = request.body(body);
        request.map_err(|error| SandboxError::InvalidArgument(format!("server URL '{}': {error}", e.url)))
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
                self.greet(TokioIo::new(stream)).await
            }
            Target::Tcp { host, port, tls } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(|e| self.unreachable(&e))?;
                stream.set_nodelay(true).map_err(|e| self.unreachable(&e))?;
                if *tls {
                    self.open_tls(host, stream).await
                } else {
                    self.greet(TokioIo::new(stream)).await
                }
            }
        }
    }

    async fn greet<I>(&self, io: I) -> Result<Connection, SandboxError>
    where
        I: Read + Write + Unpin + Send + 'static,
    {
        let (sender, connection) = handshake(io).await.map_err(|e| self.broke(&e))?;
        // It ends with the sender, or with the connection; its error is the request's as well.
        tokio::spawn(async move {
            let _ = connection.with_upgrades().await;
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
        self.greet(TokioIo::new(stream.map_err(|e| self.unreachable(&e))?)).await
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

/// Sends what `source` gives, and then an empty piece.
async fn send_pieces<R: AsyncRead + Unpin>(mut source: R, to: mpsc::Sender<Bytes>) -> Result<(), SandboxError> {
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        let n = source.read_buf(&mut piece).await.map_err(SandboxError::io)?;
        // An error here is the connection's, which is told elsewhere.
        if to.send(Bytes::from(piece)).await.is_err() || n == 0 {
            return Ok(());
        }
    }
}

fn server_error(kind: ErrorKind, message: String, code: Option<i64>, status: u16, data: Value) -> SandboxError {
    SandboxError::ServerError(ApiError { kind, message, code, http_status: status, data })
}

/// Of the member `error` of an answer, or of an event.
pub(crate) fn error_of(mut error: Value, status: u16) -> SandboxError {
    let message = match error.get("message") {
        Some(Value::String(message)) => message.clone(),
        _ => {
            let text = format!("the server's answer (HTTP {status}) has an error without a message");
            return SandboxError::InvalidResponse(text);
        }
    };
    let code = error["code"].as_i64();
    let kind = code.map_or(ErrorKind::Other, ErrorKind::of_code);
    server_error(kind, message, code, status, error["data"].take())
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
            if members.get("errno").map_or(false, Value::is_string) {
                let data = json!({"errno": members["errno"], "path": members.get("path")});
                return Err(server_error(ErrorKind::File, message, code, status, data));
            }
            return Err(server_error(ErrorKind::of_status(status), message, code, status, Value::Null));
        }
        error => return Err(error_of(error, status)),
    }
    match members.remove("result") {
        Some(result) if status == 200 => Ok(result),
        _ => Err(strange("has neither result nor error")),
    }
}
