//! Connections: limits before work, the body read whole under a budget, the signature, then the operation.
//!
//! One bad client never stops a good one: heads and bodies have a time, bodies share a budget of memory, and when there
//! are too many connections the one that has idled longest goes.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::auth::{Keys, Refusal};
use super::errors::WireError;
use super::model::{LAMBDA, Operation, RequestParts};
use super::{Caller, Input, Operations, Output, Payload, StreamEvent, event_stream};
use crate::control::ErrorKind;
use crate::sigv4;

/// Open connections; the next one takes the place of the one that has idled longest.
const MAX_CONNECTIONS: usize = 4096;
/// Bytes of a request's head.
const MAX_HEAD_BYTES: usize = 32 << 10;
/// For a head, and between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
const TLS_TIMEOUT: Duration = Duration::from_secs(10);
/// A body may take so long, and another second for each [`SLOWEST_BYTES`].
const BODY_TIMEOUT: Duration = Duration::from_secs(20);
const SLOWEST_BYTES: usize = 64 << 10;
/// Memory for the bodies that are being read or worked on, in units of 64 KiB. Small ones are not counted.
const BODY_BUDGET: usize = (640 << 20) / BODY_UNIT;
const BODY_UNIT: usize = 64 << 10;
/// Body of a request that carries code. Source: AWS's own refusal of longer ones.
const MAX_CODE_BODY: usize = 70_167_211;
/// Payload of a synchronous and of an asynchronous invocation. Source: AWS Lambda quotas.
const MAX_PAYLOAD: usize = 6_291_456;
const MAX_ASYNC_PAYLOAD: usize = 1_048_576;
/// Body of every other request.
const MAX_BODY: usize = 1 << 20;

/// What the front door knows of requests that are no operation of the model.
pub trait Extra: Send + Sync + 'static {
    /// Metrics, as text.
    fn metrics(&self) -> ExtraFuture<'_, String>;
    /// A verified request of CloudWatch Logs' JSON protocol: target and body; status and JSON.
    fn logs(&self, target: String, body: Bytes) -> ExtraFuture<'_, (u16, Bytes)>;
    /// The zip of some code, by its SHA-256 in hex, for a verified address.
    fn code(&self, sha256: String) -> ExtraFuture<'_, Option<Bytes>>;
    /// Whether a host name is that of a function URL: its id.
    fn url_id<'h>(&self, host: &'h str) -> Option<&'h str>;
    /// A request to a function URL.
    fn url(&self, request: UrlCall) -> ExtraFuture<'_, Response<Reply>>;
    /// An operation ended.
    fn done(&self, operation: &str, status: u16, took: Duration);
}

pub type ExtraFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A request to a function URL, read whole.
#[derive(Debug)]
pub struct UrlCall {
    pub url_id: String,
    pub method: String,
    pub path: String,
    pub query: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub source_ip: String,
    pub request_id: String,
    /// Who signed it; for a URL that wants that.
    pub caller: Result<Caller, Refusal>,
}

/// See the module's words.
pub struct FrontDoor {
    pub operations: Arc<dyn Operations>,
    pub extra: Arc<dyn Extra>,
    pub keys: Arc<Keys>,
    pub account: String,
    budget: Arc<Semaphore>,
    connections: Mutex<HashMap<u64, Connection>>,
    next: AtomicU64,
}

impl std::fmt::Debug for FrontDoor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrontDoor").finish_non_exhaustive()
    }
}

/// A connection as the others see it.
struct Connection {
    state: Arc<ConnectionState>,
    abort: tokio::task::AbortHandle,
}

struct ConnectionState {
    busy: AtomicBool,
    /// Milliseconds after the door was opened.
    last: AtomicU64,
}

/// One address to take connections from.
#[derive(Debug)]
pub enum Door {
    Tcp(TcpListener),
    Tls(TcpListener, Arc<rustls::ServerConfig>),
    Unix(UnixListener),
}

/// A body that goes out.
#[derive(Debug)]
pub enum Reply {
    Whole(Option<Bytes>),
    Stream(mpsc::Receiver<Bytes>),
    Events(mpsc::Receiver<StreamEvent>),
}

impl Reply {
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Some(bytes.into()))
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = match &mut *self {
            Self::Whole(bytes) => return Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Self::Stream(chunks) => chunks.poll_recv(context),
            Self::Events(events) => {
                events.poll_recv(context).map(|event| event.map(|e| event_stream::frames(&e)))
            }
        };
        frame.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64))
            }
            Self::Stream(_) | Self::Events(_) => SizeHint::default(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A body that will not be read further.
enum BodyError {
    TooLarge,
    TooSlow,
    Broken,
}

impl FrontDoor {
    pub fn new(
        operations: Arc<dyn Operations>,
        extra: Arc<dyn Extra>,
        keys: Arc<Keys>,
        account: String,
    ) -> Arc<Self> {
        Arc::new(Self {
            operations,
            extra,
            keys,
            account,
            budget: Arc::new(Semaphore::new(BODY_BUDGET)),
            connections: Mutex::default(),
            next: AtomicU64::new(1),
        })
    }

    /// Takes connections from every door until `stop` turns true, then lets the requests that run finish.
    pub async fn serve(self: Arc<Self>, doors: Vec<Door>, stop: watch::Receiver<bool>) {
        let mut accepting = JoinSet::new();
        for door in doors {
            accepting.spawn(self.clone().accept(door, stop.clone()));
        }
        while accepting.join_next().await.is_some() {}
    }

    async fn accept(self: Arc<Self>, door: Door, mut stop: watch::Receiver<bool>) {
        let mut tasks = JoinSet::new();
        let opened = Instant::now();
        loop {
            let accepted = tokio::select! {
                accepted = door.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => break,
                Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
            };
            let (stream, source) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, most likely: room must come first.
                    tracing::warn!(%error, "a connection could not be accepted");
                    self.close_idlest();
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let id = self.next.fetch_add(1, Ordering::Relaxed);
            let now = || u64::try_from(opened.elapsed().as_millis()).unwrap_or(u64::MAX);
            let state = Arc::new(ConnectionState {
                busy: AtomicBool::new(false),
                last: AtomicU64::new(now()),
            });
            if lock(&self.connections).len() >= MAX_CONNECTIONS {
                self.close_idlest();
            }
            let (this, stop, shared) = (self.clone(), stop.clone(), state.clone());
            let abort = tasks.spawn(async move {
                let registered = Registered(&this, id);
                this.connection(stream, source, &shared, opened, stop).await;
                drop(registered);
            });
            lock(&self.connections).insert(id, Connection { state, abort });
        }
        while tasks.join_next().await.is_some() {}
    }

    fn close_idlest(&self) {
        let mut connections = lock(&self.connections);
        let idlest = connections
            .iter()
            .filter(|(_, c)| !c.state.busy.load(Ordering::Relaxed))
            .min_by_key(|(_, c)| c.state.last.load(Ordering::Relaxed))
            .map(|(id, _)| *id);
        if let Some(connection) = idlest.and_then(|id| connections.remove(&id)) {
            connection.abort.abort();
        }
    }

    async fn connection(
        &self,
        stream: Stream,
        source: String,
        state: &ConnectionState,
        opened: Instant,
        stop: watch::Receiver<bool>,
    ) {
        match stream {
            Stream::Tcp(stream) => self.http(stream, source, "http", state, opened, stop).await,
            Stream::Unix(stream) => self.http(stream, source, "http", state, opened, stop).await,
            Stream::Tls(stream, acceptor) => {
                let accepted = tokio::time::timeout(TLS_TIMEOUT, acceptor.accept(stream)).await;
                if let Ok(Ok(stream)) = accepted {
                    self.http(stream, source, "https", state, opened, stop).await;
                }
            }
        }
    }

    async fn http(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        source: String,
        scheme: &'static str,
        state: &ConnectionState,
        opened: Instant,
        mut stop: watch::Receiver<bool>,
    ) {
        let now = || u64::try_from(opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        let service = hyper::service::service_fn(|request| {
            state.busy.store(true, Ordering::Relaxed);
            let source = &source;
            async move {
                let response = self.answer(request, source, scheme).await;
                state.last.store(now(), Ordering::Relaxed);
                state.busy.store(false, Ordering::Relaxed);
                Ok::<_, Infallible>(response)
            }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(MAX_HEAD_BYTES.max(64 << 10))
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        tokio::select! {
            // A connection that breaks off tells its client by itself.
            _ = connection.as_mut() => return,
            _ = stop.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    }

    async fn answer(
        &self,
        request: hyper::Request<Incoming>,
        source: &str,
        scheme: &str,
    ) -> Response<Reply> {
        let began = Instant::now();
        let request_id = uuid::Uuid::new_v4().to_string();
        let (head, body) = request.into_parts();
        let head_bytes: usize =
            head.headers.iter().map(|(n, v)| n.as_str().len() + v.len() + 4).sum();
        if head_bytes > MAX_HEAD_BYTES {
            let text = format!("The request's headers are over {MAX_HEAD_BYTES} bytes.");
            let error = WireError::new(ErrorKind::RequestTooLarge, &text, &[]);
            return failed(error, &request_id);
        }
        let path = head.uri.path();
        let query = head.uri.query().unwrap_or_default();
        let host = head.headers.get(HOST).and_then(|h| h.to_str().ok()).unwrap_or_default();
        if let Some(url_id) = self.extra.url_id(host) {
            let url_id = url_id.to_owned();
            return self.function_url(url_id, head, body, source, request_id).await;
        }
        if let Some(own) = path.strip_prefix("/_kennel/") {
            return self.own(own, &head.method, &head, &request_id).await;
        }
        if head.method == Method::POST
            && path == "/"
            && let Some(target) = head.headers.get("x-amz-target").and_then(|t| t.to_str().ok())
        {
            let target = target.to_owned();
            return self.json_protocol(target, &head, body, &request_id).await;
        }
        let Some((operation, labels)) = LAMBDA.route(head.method.as_str(), path, query) else {
            return failed(WireError::unknown_operation(), &request_id);
        };
        let parts = Head {
            method: head.method.as_str(),
            path,
            query,
            headers: &head.headers,
            source_scheme: scheme,
            host,
        };
        let result = self.operation(operation, labels, &parts, body, &request_id).await;
        let (status, response) = match result {
            Ok(response) => (response.status().as_u16(), response),
            Err(error) => (error.status, failed(error, &request_id)),
        };
        self.extra.done(&operation.name, status, began.elapsed());
        response
    }

    async fn operation(
        &self,
        operation: &Operation,
        labels: Vec<(&str, String)>,
        head: &Head<'_>,
        body: Incoming,
        request_id: &str,
    ) -> Result<Response<Reply>, WireError> {
        // Nobody's body is read.
        if !head.headers.contains_key("authorization") && !head.query.contains("X-Amz-Signature=") {
            return Err(Refusal::Missing.into());
        }
        let limit = body_limit(operation, head.headers);
        let (body, _held) = match self.read(body, limit.bytes).await {
            Ok(read) => read,
            Err(BodyError::TooLarge) => return Err(limit.refusal()),
            Err(BodyError::TooSlow | BodyError::Broken) => {
                let text = "Could not read the request's body: it ended early or came too slowly.";
                return Err(WireError::new(ErrorKind::InvalidRequestContent, text, &[]));
            }
        };
        let request = sigv4::Request { method: head.method, path: head.path, query: head.query };
        let caller =
            self.keys.verify(request, head.headers, &body, &["lambda"], Timestamp::now())?;
        let headers: Vec<(&str, &str)> = head
            .headers
            .iter()
            .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
            .collect();
        let parts = RequestParts { labels, query: head.query, headers: &headers, body: &body };
        let members = LAMBDA.read(operation, &parts)?;
        let payload = match LAMBDA.payload_member(operation) {
            Some(_) => body,
            None => Bytes::new(),
        };
        let trace = head.headers.get("x-amzn-trace-id").and_then(|t| t.to_str().ok());
        let input = Input {
            members,
            payload,
            caller,
            request_id: request_id.to_owned(),
            trace_id: trace.map(str::to_owned),
            base_url: format!("{}://{}", head.source_scheme, head.host),
        };
        let output = self.operations.call(&operation.name, input).await.map_err(|error| {
            if matches!(error.kind, ErrorKind::Service | ErrorKind::Unavailable) {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(
                    request_id,
                    operation = operation.name,
                    cause = cause.unwrap_or_default(),
                    "{}",
                    error.message
                );
            }
            WireError::from(error)
        })?;
        Ok(response(operation, output, request_id))
    }

    async fn json_protocol(
        &self,
        target: String,
        head: &hyper::http::request::Parts,
        body: Incoming,
        request_id: &str,
    ) -> Response<Reply> {
        let body = match self.read(body, MAX_PAYLOAD).await {
            Ok((body, _)) => body,
            Err(_) => {
                let text = "The request's body is too large, or broke off.";
                let error = WireError::new(ErrorKind::InvalidRequestContent, text, &[]);
                return failed(error, request_id);
            }
        };
        let request = sigv4::Request {
            method: head.method.as_str(),
            path: head.uri.path(),
            query: head.uri.query().unwrap_or_default(),
        };
        match self.keys.verify(request, &head.headers, &body, &["logs"], Timestamp::now()) {
            Ok(Caller::Root) => {}
            Ok(_) => {
                let text = "This key may not read logs.";
                let error = WireError::new(ErrorKind::AccessDenied, text, &[]);
                return failed(error, request_id);
            }
            Err(refusal) => return failed(refusal.into(), request_id),
        }
        let (status, json) = self.extra.logs(target, body).await;
        let mut response = Response::new(Reply::whole(json));
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
        let kind = HeaderValue::from_static("application/x-amz-json-1.1");
        response.headers_mut().insert(CONTENT_TYPE, kind);
        set_request_id(&mut response, request_id);
        response
    }

    /// Kennel's own paths.
    async fn own(
        &self,
        path: &str,
        method: &Method,
        head: &hyper::http::request::Parts,
        request_id: &str,
    ) -> Response<Reply> {
        let text = |status: StatusCode, kind: &'static str, text: String| {
            let mut response = Response::new(Reply::whole(text));
            *response.status_mut() = status;
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            response
        };
        if method != Method::GET && method != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "GET only\n".into());
        }
        match path {
            "health" => text(StatusCode::OK, "application/json", "{\"status\":\"ok\"}\n".into()),
            "metrics" => {
                let kind = "text/plain; version=0.0.4; charset=utf-8";
                text(StatusCode::OK, kind, self.extra.metrics().await)
            }
            _ => match path.strip_prefix("code/") {
                Some(hex) => {
                    let request = sigv4::Request {
                        method: method.as_str(),
                        path: head.uri.path(),
                        query: head.uri.query().unwrap_or_default(),
                    };
                    let now = Timestamp::now();
                    let verified = self.keys.verify(request, &head.headers, b"", &["lambda"], now);
                    match verified {
                        Ok(Caller::Root) => {}
                        Ok(_) => return failed(Refusal::Missing.into(), request_id),
                        Err(refusal) => return failed(refusal.into(), request_id),
                    }
                    match self.extra.code(hex.to_owned()).await {
                        Some(bytes) => {
                            let mut response = Response::new(Reply::whole(bytes));
                            let kind = HeaderValue::from_static("application/zip");
                            response.headers_mut().insert(CONTENT_TYPE, kind);
                            response
                        }
                        None => text(
                            StatusCode::NOT_FOUND,
                            "text/plain",
                            "no function has this code any more\n".into(),
                        ),
                    }
                }
                None => text(StatusCode::NOT_FOUND, "text/plain", "no such path\n".into()),
            },
        }
    }

    async fn function_url(
        &self,
        url_id: String,
        head: hyper::http::request::Parts,
        body: Incoming,
        source: &str,
        request_id: String,
    ) -> Response<Reply> {
        let (body, _held) = match self.read(body, MAX_PAYLOAD).await {
            Ok(read) => read,
            Err(BodyError::TooLarge) => {
                return plain(413, "{\"Message\":\"Request Entity Too Large\"}");
            }
            Err(_) => return plain(400, "{\"Message\":\"Bad Request\"}"),
        };
        let request = sigv4::Request {
            method: head.method.as_str(),
            path: head.uri.path(),
            query: head.uri.query().unwrap_or_default(),
        };
        let caller = self.keys.verify(request, &head.headers, &body, &["lambda"], Timestamp::now());
        let call = UrlCall {
            url_id,
            method: head.method.as_str().to_owned(),
            path: head.uri.path().to_owned(),
            query: head.uri.query().unwrap_or_default().to_owned(),
            headers: head.headers,
            body,
            source_ip: source.to_owned(),
            request_id: request_id.clone(),
            caller,
        };
        let mut response = self.extra.url(call).await;
        set_request_id(&mut response, &request_id);
        response
    }

    /// Reads a body whole. What is returned beside it holds its share of the budget.
    async fn read(
        &self,
        body: Incoming,
        limit: usize,
    ) -> Result<(Bytes, Option<tokio::sync::OwnedSemaphorePermit>), BodyError> {
        let announced = body.size_hint().exact().map(usize::try_from);
        if announced.is_some_and(|bytes| bytes.is_err() || bytes.is_ok_and(|b| b > limit)) {
            return Err(BodyError::TooLarge);
        }
        let expected = announced.and_then(Result::ok).unwrap_or(limit);
        let held = if expected > BODY_UNIT {
            let units = u32::try_from(expected.div_ceil(BODY_UNIT)).unwrap_or(u32::MAX);
            // A JSON body is held a second time once it is parsed.
            let wait = self.budget.clone().acquire_many_owned(units.saturating_mul(2));
            match tokio::time::timeout(BODY_TIMEOUT, wait).await {
                Ok(Ok(held)) => Some(held),
                _ => return Err(BodyError::TooSlow),
            }
        } else {
            None
        };
        let slowest = u64::try_from(expected / SLOWEST_BYTES).unwrap_or(0);
        let reading = collect(body, limit);
        match tokio::time::timeout(BODY_TIMEOUT + Duration::from_secs(slowest), reading).await {
            Ok(Ok(bytes)) => Ok((bytes, held)),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(BodyError::TooSlow),
        }
    }
}

/// Takes a connection off the list, however its task ends.
struct Registered<'a>(&'a FrontDoor, u64);

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        lock(&self.0.connections).remove(&self.1);
    }
}

enum Stream {
    Tcp(tokio::net::TcpStream),
    Tls(tokio::net::TcpStream, TlsAcceptor),
    Unix(tokio::net::UnixStream),
}

impl Door {
    async fn accept(&self) -> std::io::Result<(Stream, String)> {
        let tcp = |(stream, address): (tokio::net::TcpStream, SocketAddr)| {
            let _ = stream.set_nodelay(true);
            (stream, address.ip().to_string())
        };
        match self {
            Self::Tcp(listener) => {
                let (stream, source) = tcp(listener.accept().await?);
                Ok((Stream::Tcp(stream), source))
            }
            Self::Tls(listener, config) => {
                let (stream, source) = tcp(listener.accept().await?);
                Ok((Stream::Tls(stream, config.clone().into()), source))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::Unix(stream), "127.0.0.1".into()))
            }
        }
    }
}

/// A request's head, as an operation sees it.
struct Head<'a> {
    method: &'a str,
    path: &'a str,
    query: &'a str,
    headers: &'a HeaderMap,
    source_scheme: &'a str,
    host: &'a str,
}

async fn collect(mut body: Incoming, limit: usize) -> Result<Bytes, BodyError> {
    let mut first: Option<Bytes> = None;
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Err(BodyError::Broken) };
        let Ok(data) = frame.into_data() else { continue };
        if all.len() + first.as_ref().map_or(0, Bytes::len) + data.len() > limit {
            return Err(BodyError::TooLarge);
        }
        match first.take() {
            // Most bodies come in one piece, which is not copied.
            None if all.is_empty() => first = Some(data),
            None => all.extend_from_slice(&data),
            Some(earlier) => {
                all.reserve(earlier.len() + data.len());
                all.extend_from_slice(&earlier);
                all.extend_from_slice(&data);
            }
        }
    }
    Ok(first.unwrap_or_else(|| all.freeze()))
}

/// How long a body may be, and what AWS says of a longer one.
struct Limit {
    bytes: usize,
    kind: ErrorKind,
    text: String,
}

impl Limit {
    fn refusal(&self) -> WireError {
        WireError::new(self.kind, &self.text, &[])
    }
}

fn body_limit(operation: &Operation, headers: &HeaderMap) -> Limit {
    let kind = headers.get("x-amz-invocation-type").and_then(|v| v.to_str().ok());
    let payload = |bytes: usize, kind: &str| Limit {
        bytes,
        kind: ErrorKind::RequestTooLarge,
        text: format!("Request must be smaller than {bytes} bytes for the {kind} operation"),
    };
    match operation.name.as_str() {
        "Invoke" if kind == Some("Event") => payload(MAX_ASYNC_PAYLOAD, "InvokeFunction"),
        "Invoke" | "InvokeWithResponseStream" => payload(MAX_PAYLOAD, "InvokeFunction"),
        "InvokeAsync" => payload(MAX_ASYNC_PAYLOAD, "InvokeAsync"),
        name @ ("CreateFunction" | "UpdateFunctionCode" | "PublishLayerVersion") => Limit {
            bytes: MAX_CODE_BODY,
            kind: ErrorKind::RequestEntityTooLarge,
            text: format!(
                "Request must be smaller than {MAX_CODE_BODY} bytes for the {name} operation"
            ),
        },
        name => Limit {
            bytes: MAX_BODY,
            kind: ErrorKind::RequestEntityTooLarge,
            text: format!("Request must be smaller than {MAX_BODY} bytes for the {name} operation"),
        },
    }
}

fn set_request_id(response: &mut Response<Reply>, request_id: &str) {
    if let Ok(value) = HeaderValue::from_str(request_id) {
        response.headers_mut().insert("x-amzn-requestid", value);
    }
}

fn response(operation: &Operation, output: Output, request_id: &str) -> Response<Reply> {
    let placed = LAMBDA.place(operation, output.members);
    let status = output.status.unwrap_or(operation.status);
    let (body, kind) = match output.payload {
        Payload::Bytes(bytes) => (Reply::whole(bytes), "application/json"),
        Payload::Events(events) => (Reply::Events(events), "application/vnd.amazon.eventstream"),
        Payload::Members if LAMBDA.has_output(operation) => {
            let json = serde_json::Value::Object(placed.body).to_string();
            (Reply::whole(json), "application/json")
        }
        Payload::Members => (Reply::Whole(None), "application/json"),
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    for (name, value) in placed.headers {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(&value))
        {
            headers.insert(name, value);
        }
    }
    set_request_id(&mut response, request_id);
    response
}

fn failed(error: WireError, request_id: &str) -> Response<Reply> {
    let mut response = Response::new(Reply::whole(error.body));
    *response.status_mut() =
        StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("x-amzn-errortype", HeaderValue::from_static(error.code));
    if let Some(seconds) = error.retry_after.and_then(|s| HeaderValue::from_str(&s).ok()) {
        headers.insert("retry-after", seconds);
    }
    set_request_id(&mut response, request_id);
    response
}

fn plain(status: u16, json: &'static str) -> Response<Reply> {
    let mut response = Response::new(Reply::whole(json));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
