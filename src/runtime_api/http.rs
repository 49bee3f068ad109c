//! The Runtime API's five routes over HTTP/1.1, on a sandbox's own listeners. Trusts no byte from inside.

use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;

use super::quick::{self, Reread, Rest};
use super::session::{
    Answer, Invocation, MAX_RESPONSE_BYTES, MAX_STREAMED_BYTES, Refusal, Session,
};
use super::stream::Stream;

/// Where a bootstrap that was started ahead asks what it is for. Kennel's own, and good once.
pub(super) const CLAIM: &str = "/kennel/claim";
/// Header of a response with which Kennel's own bootstraps ask for the next event as its answer: one exchange for an
/// event in place of two.
const AND_NEXT: &str = "kennel-next";
/// Path prefix of the API's one version.
pub(super) const PREFIX: &str = "/2018-06-01/runtime/";
/// Connections of one sandbox at a time; the next one waits.
const MAX_CONNECTIONS: usize = 64;
/// Bytes of a request's head.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// Largest body of `error` and `init/error`, whose text goes to the caller.
const MAX_ERROR_BYTES: usize = MAX_RESPONSE_BYTES;

/// Serves both listeners until the future is dropped.
///
/// # Errors
/// Where a listener cannot be polled.
pub async fn serve(
    session: Arc<Session>,
    unix: Option<OwnedFd>,
    tcp: Option<OwnedFd>,
) -> io::Result<()> {
    let unix = unix.map(std::os::unix::net::UnixListener::from);
    let tcp = tcp.map(std::net::TcpListener::from);
    let mut tasks = tokio::task::JoinSet::new();
    let limit = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    if let Some(unix) = unix {
        unix.set_nonblocking(true)?;
        let unix = tokio::net::UnixListener::from_std(unix)?;
        let (session, limit) = (session.clone(), limit.clone());
        tasks.spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok(permit) = limit.clone().acquire_owned().await {
                let Ok((stream, _)) = unix.accept().await else { continue };
                let Ok(stream) = stream.into_std().and_then(Stream::new) else { continue };
                let session = session.clone();
                connections.spawn(async move {
                    unix_connection(session, stream).await;
                    drop(permit);
                });
                while connections.try_join_next().is_some() {}
            }
        });
    }
    if let Some(tcp) = tcp {
        tcp.set_nonblocking(true)?;
        let tcp = tokio::net::TcpListener::from_std(tcp)?;
        tasks.spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok(permit) = limit.clone().acquire_owned().await {
                let Ok((stream, _)) = tcp.accept().await else { continue };
                let _ = stream.set_nodelay(true);
                let session = session.clone();
                connections.spawn(async move {
                    connection(session, stream).await;
                    drop(permit);
                });
                while connections.try_join_next().is_some() {}
            }
        });
    }
    while tasks.join_next().await.is_some() {}
    Ok(())
}

static NEXT_CONNECTION: AtomicU64 = AtomicU64::new(1);

/// Tells the session that a connection is gone, however its task ends.
struct Connected<'a>(&'a Session, u64);

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.0.disconnected(self.1);
    }
}

async fn connection(session: Arc<Session>, stream: impl AsyncRead + AsyncWrite + Unpin) {
    let id = NEXT_CONNECTION.fetch_add(1, Ordering::Relaxed);
    session.connected(id);
    let guard = Connected(&session, id);
    serve_http(&session, id, stream).await;
    drop(guard);
}

/// As [`connection`], with the short way of Kennel's own bootstraps as long as they keep to it.
async fn unix_connection(session: Arc<Session>, mut stream: Stream) {
    let id = NEXT_CONNECTION.fetch_add(1, Ordering::Relaxed);
    session.connected(id);
    let guard = Connected(&session, id);
    // A connection that breaks ends, as with hyper.
    if let Ok(Rest::Unread(read)) = quick::serve(&session, id, &mut stream).await {
        serve_http(&session, id, Reread { read, stream }).await;
    }
    drop(guard);
}

async fn serve_http(session: &Arc<Session>, id: u64, stream: impl AsyncRead + AsyncWrite + Unpin) {
    let service = hyper::service::service_fn(|request| {
        let session = session.clone();
        async move { Ok::<_, Infallible>(route(&session, id, request).await) }
    });
    // A malformed request ends its connection with a 400 of hyper's; there is nobody to tell.
    let _ = hyper::server::conn::http1::Builder::new()
        .max_buf_size(MAX_HEAD_BYTES)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

type Reply = Response<Full<Bytes>>;

async fn route(session: &Session, connection: u64, mut request: Request<Incoming>) -> Reply {
    let reply = answer(session, connection, &mut request).await;
    // A refused body is read to its end, or the client would find its connection broken instead of the reason.
    if reply.status() != StatusCode::OK && reply.status() != StatusCode::ACCEPTED {
        drain(request.body_mut()).await;
    }
    reply
}

async fn answer(session: &Session, connection: u64, request: &mut Request<Incoming>) -> Reply {
    if request.uri().path() == CLAIM && request.method() == Method::GET {
        return match session.claim().await {
            Ok(json) => {
                let mut reply = Response::new(Full::new(json));
                let kind = HeaderValue::from_static("application/json");
                reply.headers_mut().insert(CONTENT_TYPE, kind);
                reply
            }
            Err(refusal) => refuse(refusal),
        };
    }
    let Some(path) = request.uri().path().strip_prefix(PREFIX).map(str::to_owned) else {
        return error(
            StatusCode::NOT_FOUND,
            "NotFound",
            "no such path; the API is /2018-06-01/runtime/",
        );
    };
    let parts: Vec<&str> = path.split('/').collect();
    match (request.method(), parts.as_slice()) {
        (&Method::GET, ["invocation", "next"]) => next(session, connection).await,
        (&Method::POST, ["invocation", id, "response"]) => {
            let reply = response(session, id, request).await;
            match reply.status() {
                StatusCode::ACCEPTED if request.headers().contains_key(AND_NEXT) => {
                    next(session, connection).await
                }
                _ => reply,
            }
        }
        (&Method::POST, ["invocation", id, "error"]) => {
            invocation_error(session, id, request).await
        }
        (&Method::POST, ["init", "error"]) => init_error(session, request).await,
        (
            _,
            ["invocation", "next"] | ["invocation", _, "response" | "error"] | ["init", "error"],
        ) => error(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            "this path wants another method",
        ),
        _ => error(StatusCode::NOT_FOUND, "NotFound", "no such path in the Runtime API"),
    }
}

async fn next(session: &Session, connection: u64) -> Reply {
    let invocation = session.next(connection).await;
    let Invocation {
        request_id,
        payload,
        deadline_ms,
        function_arn,
        trace_id,
        client_context,
        cognito_identity,
    } = &*invocation;
    let mut response = Response::new(Full::new(payload.clone()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set("lambda-runtime-aws-request-id", request_id);
    set("lambda-runtime-deadline-ms", &deadline_ms.to_string());
    set("lambda-runtime-invoked-function-arn", function_arn);
    set("lambda-runtime-trace-id", trace_id);
    if let Some(context) = client_context {
        set("lambda-runtime-client-context", context);
    }
    if let Some(identity) = cognito_identity {
        set("lambda-runtime-cognito-identity", identity);
    }
    response
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

async fn response(session: &Session, id: &str, request: &mut Request<Incoming>) -> Reply {
    if let Err(refusal) = session.begin_answer(id) {
        return refuse(refusal);
    }
    // Whatever happens from here, an answer that was not finished leaves the invocation open.
    let _guard = Abandon(session, id);
    let streaming = header(request.headers(), "lambda-runtime-function-response-mode")
        .is_some_and(|mode| mode.eq_ignore_ascii_case("streaming"));
    let kind = header(request.headers(), "lambda-runtime-function-error-type").map(str::to_owned);
    let answer = if streaming {
        stream(session, id, request.body_mut()).await
    } else {
        match read(request.body_mut(), MAX_RESPONSE_BYTES).await {
            // The Go client of AWS posts errors here too, marked by the header.
            Ok(body) => match kind {
                Some(error_type) => Ok(Answer::Error { error_type, body }),
                None => Ok(Answer::Response(body)),
            },
            Err(ReadError::TooLarge) => Err(too_large(session)),
            Err(ReadError::CutShort) => Err(cut_short()),
        }
    };
    match answer {
        Ok(answer) => {
            let done = session.finish_answer(id, answer).await;
            done.map_or_else(refuse, |()| accepted())
        }
        Err(reply) => reply,
    }
}

/// The runtime learns that its answer was too large and may say so itself: the invocation stays open for that.
fn too_large(session: &Session) -> Reply {
    session.answer_too_large();
    let text = format!("Exceeded maximum allowed payload size ({MAX_RESPONSE_BYTES} bytes).");
    let mut reply = error(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", &text);
    reply.headers_mut().insert("connection", HeaderValue::from_static("close"));
    reply
}

struct Abandon<'a>(&'a Session, &'a str);

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        self.0.abandon(self.1); // nothing once the answer is finished
    }
}

/// Passes chunks on as they come. The end is in the trailers: an error there, or success.
async fn stream(session: &Session, id: &str, body: &mut Incoming) -> Result<Answer, Reply> {
    let mut total = 0;
    let mut failure = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| cut_short())?;
        match frame.into_data() {
            Ok(bytes) => {
                total += bytes.len();
                if total > MAX_STREAMED_BYTES {
                    let text = format!("a streamed answer is over {MAX_STREAMED_BYTES} bytes");
                    return Err(error(
                        StatusCode::PAYLOAD_TOO_LARGE,
                        "RequestEntityTooLarge",
                        &text,
                    ));
                }
                session.chunk(id, bytes).await.map_err(refuse)?;
            }
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    failure = trailer_error(&trailers);
                }
            }
        }
    }
    Ok(Answer::Streamed { error: failure })
}

fn trailer_error(trailers: &HeaderMap) -> Option<(String, Bytes)> {
    let kind = header(trailers, "lambda-runtime-function-error-type")?;
    let body = header(trailers, "lambda-runtime-function-error-body").unwrap_or_default();
    let body = base64::engine::general_purpose::STANDARD.decode(body).unwrap_or_default();
    Some((kind.into(), body.into()))
}

async fn invocation_error(session: &Session, id: &str, request: &mut Request<Incoming>) -> Reply {
    if let Err(refusal) = session.begin_answer(id) {
        return refuse(refusal);
    }
    let guard = Abandon(session, id);
    let error_type = error_type(request.headers());
    let reply = match read(request.body_mut(), MAX_ERROR_BYTES).await {
        Ok(body) => {
            let done = session.finish_answer(id, Answer::Error { error_type, body }).await;
            done.map_or_else(refuse, |()| accepted())
        }
        Err(ReadError::TooLarge) => error(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLarge",
            "an error is over 6291556 bytes",
        ),
        Err(ReadError::CutShort) => cut_short(),
    };
    drop(guard);
    reply
}

async fn init_error(session: &Session, request: &mut Request<Incoming>) -> Reply {
    let error_type = error_type(request.headers());
    match read(request.body_mut(), MAX_ERROR_BYTES).await {
        Ok(body) => session.init_error(error_type, body).await.map_or_else(refuse, |()| accepted()),
        Err(ReadError::TooLarge) => error(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLarge",
            "an error is over 6291556 bytes",
        ),
        Err(ReadError::CutShort) => cut_short(),
    }
}

fn error_type(headers: &HeaderMap) -> String {
    header(headers, "lambda-runtime-function-error-type").unwrap_or("Runtime.Unknown").to_owned()
}

enum ReadError {
    TooLarge,
    CutShort,
}

/// Reads a whole body of at most `limit` bytes; room is made for what has come, never for what was announced.
async fn read(body: &mut Incoming, limit: usize) -> Result<Bytes, ReadError> {
    if let Some(announced) = body.size_hint().exact()
        && announced > limit as u64
    {
        // Drained, so that a client that writes first and reads afterwards sees the status.
        drain(body).await;
        return Err(ReadError::TooLarge);
    }
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| ReadError::CutShort)?.into_data() else { continue };
        if all.len() + data.len() > limit {
            drain(body).await;
            return Err(ReadError::TooLarge);
        }
        all.extend_from_slice(&data);
    }
    Ok(all.freeze())
}

/// Reads on for a while and throws it away.
async fn drain(body: &mut Incoming) {
    let mut left = MAX_STREAMED_BYTES;
    while let Some(Ok(frame)) = body.frame().await {
        left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
        if left == 0 {
            break;
        }
    }
}

fn json(status: StatusCode, body: String) -> Reply {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// 202 with a body: AWS's .NET client fails on an empty one.
fn accepted() -> Reply {
    json(StatusCode::ACCEPTED, "{\"status\":\"OK\"}\n".into())
}

fn error(status: StatusCode, kind: &str, text: &str) -> Reply {
    json(status, serde_json::json!({ "errorMessage": text, "errorType": kind }).to_string())
}

fn cut_short() -> Reply {
    error(StatusCode::BAD_REQUEST, "InvalidRequest", "the body ended before its announced length")
}

fn refuse(refusal: Refusal) -> Reply {
    match refusal {
        Refusal::UnknownRequestId => {
            error(StatusCode::BAD_REQUEST, "InvalidRequestID", "Invalid request ID")
        }
        Refusal::NothingToClaim => {
            error(StatusCode::NOT_FOUND, "NotFound", "no such path in the Runtime API")
        }
        Refusal::InitIsOver => error(
            StatusCode::FORBIDDEN,
            "InvalidStateTransition",
            "init/error is allowed only before the first next",
        ),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::super::session::Event;
    use super::*;

    fn event(id: &str) -> Invocation {
        Invocation {
            request_id: id.into(),
            payload: Bytes::from_static(b"{}"),
            deadline_ms: 0,
            function_arn: "arn".into(),
            trace_id: "Root=1".into(),
            client_context: None,
            cognito_identity: None,
        }
    }

    /// Reads one answer's head and the few bytes of its body.
    async fn head(stream: &mut tokio::net::UnixStream) -> String {
        let mut buffer = [0; 4096];
        let length = stream.read(&mut buffer).await.unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[tokio::test]
    async fn a_response_can_ask_for_the_next_event() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let (session, mut events) = Session::new();
        let session = Arc::new(session);
        tokio::spawn(serve(session.clone(), Some(listener.into()), None));
        let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
        let post = |id: &str| {
            format!(
                "POST {PREFIX}invocation/{id}/response HTTP/1.1\r\nHost: k\r\nKennel-Next: 1\r\n\
                 Content-Length: 1\r\n\r\n1"
            )
        };

        session.offer(event("one"));
        let get = format!("GET {PREFIX}invocation/next HTTP/1.1\r\nHost: k\r\n\r\n");
        stream.write_all(get.as_bytes()).await.unwrap();
        assert!(head(&mut stream).await.contains("aws-request-id: one\r\n"));
        assert_eq!(events.recv().await, Some(Event::InitDone));

        // Refused at once, and the invocation is still open.
        stream.write_all(post("other").as_bytes()).await.unwrap();
        assert!(head(&mut stream).await.starts_with("HTTP/1.1 400 "));

        stream.write_all(post("one").as_bytes()).await.unwrap();
        let answer = Answer::Response(Bytes::from_static(b"1"));
        let answered = Event::Answer { request_id: "one".into(), answer };
        assert_eq!(events.recv().await, Some(answered), "before there is a next event");
        session.offer(event("two"));
        let next = head(&mut stream).await;
        assert!(next.starts_with("HTTP/1.1 200 ") && next.contains("aws-request-id: two\r\n"));

        // An event that was handed out on a connection that broke is handed out again.
        drop(stream);
        let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
        stream.write_all(get.as_bytes()).await.unwrap();
        assert!(head(&mut stream).await.contains("aws-request-id: two\r\n"));
    }
}
