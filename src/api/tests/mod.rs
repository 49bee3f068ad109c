//! The front door over real sockets, before a fake of what stands behind it.

mod bodies;
mod connections;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use hyper::Response;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::auth::{Credentials, Principal, SKEW};
use super::body::{BodyLimits, ReplyBody};
use super::door::{FrontDoor, not_built};
use super::extra::{Extra, ExtraFuture, ExtraRequest};
use super::server::{Listener, ServerLimits, serve};
use super::{Caller, Input, OperationFuture, Operations, Output, Payload, StreamEvent};
use crate::control::{ControlError, ErrorKind};
use crate::sigv4::{Body, PathStyle, Request, Signer};

/// Answers by the function's name, and keeps what it was asked.
#[derive(Default)]
struct Fake {
    seen: Mutex<Vec<(String, Input)>>,
    /// `slow` and `large` say here that they began, and `slow` waits here to be let go.
    began: tokio::sync::Notify,
    go: tokio::sync::Notify,
    finished: tokio::sync::Notify,
}

impl Operations for Fake {
    fn call<'a>(&'a self, operation: &'a str, input: Input) -> OperationFuture<'a> {
        Box::pin(async move {
            let name =
                input.members.get("FunctionName").and_then(Value::as_str).unwrap_or_default();
            let name = name.to_owned();
            let payload = input.payload.clone();
            let sha = input.members.clone();
            self.seen.lock().unwrap().push((operation.to_owned(), input));
            match name.as_str() {
                "missing" => return Err(ControlError::not_found("Function not found: missing")),
                "broken" => return Err(ControlError::internal("a secret of ours")),
                "unbuilt" => return Err(not_built(operation)),
                "throttled" => {
                    let error = ControlError::new(ErrorKind::TooManyRequests, "Rate Exceeded.");
                    return Err(error.with("Reason", "CallerRateLimitExceeded"));
                }
                "large" => self.began.notify_one(),
                "slow" => {
                    self.began.notify_one();
                    self.go.notified().await;
                    self.finished.notify_one();
                }
                _ => {}
            }
            let member = |name: &str, value: Value| Map::from_iter([(name.to_owned(), value)]);
            Ok(match operation {
                "Invoke" => Output {
                    status: None,
                    members: member("ExecutedVersion", "$LATEST".into()),
                    payload: Payload::Bytes(match name.as_str() {
                        "large" => vec![b' '; LARGE].into(),
                        _ => payload,
                    }),
                },
                "InvokeWithResponseStream" => {
                    let (events, receiver) = mpsc::channel(4);
                    let cut = name == "cut";
                    tokio::spawn(async move {
                        let _gone = events.send(StreamEvent::PayloadChunk("hello".into())).await;
                        let end = StreamEvent::InvokeComplete {
                            error_code: None,
                            error_details: None,
                            log_result: None,
                        };
                        if !cut {
                            let _gone = events.send(end).await;
                        }
                    });
                    Output { status: None, members: Map::new(), payload: Payload::Events(receiver) }
                }
                _ => Output::members(sha),
            })
        })
    }
}

impl Extra for Fake {
    fn call(&self, request: ExtraRequest) -> ExtraFuture<'_> {
        Box::pin(async move {
            let verified = request.verify().is_ok();
            let body = String::from_utf8_lossy(&request.body).into_owned();
            let told = format!("{:?} {:?} {verified} {body}", request.site, request.caller);
            Response::new(ReplyBody::full(told))
        })
    }
}

/// A server on a port of its own.
struct Served {
    fake: Arc<Fake>,
    at: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

fn door(fake: &Arc<Fake>, bodies: BodyLimits) -> Arc<FrontDoor> {
    let mut credentials = Credentials::new("AKIDROOT".into(), "root secret".into());
    credentials.add(Principal {
        access_key_id: "AKIDOTHER".into(),
        secret_access_key: "other secret".into(),
        arn: "arn:aws:iam::000000000000:user/other".into(),
    });
    let door = FrontDoor::new(fake.clone(), credentials, "us-east-1".into(), SKEW, bodies);
    Arc::new(door.with_extra(fake.clone()).with_metrics(|| "kennel_up 1\n".into()))
}

async fn served_with(limits: ServerLimits, bodies: BodyLimits) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let fake = Arc::new(Fake::default());
    let (stop, stopped) = watch::channel(false);
    let door = door(&fake, bodies);
    let task = tokio::spawn(serve(vec![Listener::Tcp(listener)], door, limits, stopped));
    Served { fake, at, stop, task }
}

async fn served() -> Served {
    served_with(ServerLimits::default(), BodyLimits::default()).await
}

impl Served {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.at).await.unwrap()
    }

    /// One request on a connection of its own.
    async fn ask(&self, request: Ask<'_>) -> Answer {
        let mut stream = self.connect().await;
        stream.write_all(&request.bytes(&self.at.to_string())).await.unwrap();
        answer(&mut stream).await.unwrap()
    }

    fn last(&self) -> (String, Input) {
        self.fake.seen.lock().unwrap().pop().unwrap()
    }
}

#[derive(Clone, Copy)]
struct Ask<'a> {
    method: &'a str,
    target: &'a str,
    headers: &'a [(&'static str, &'static str)],
    body: &'a [u8],
    signer: Option<Signer<'a>>,
    now: Timestamp,
}

fn root() -> Signer<'static> {
    Signer {
        access_key_id: "AKIDROOT",
        secret_access_key: "root secret",
        region: "us-east-1",
        service: "lambda",
        path_style: PathStyle::Twice,
        content_sha256: false,
    }
}

fn ask<'a>(method: &'a str, target: &'a str, body: &'a [u8]) -> Ask<'a> {
    Ask { method, target, headers: &[], body, signer: Some(root()), now: Timestamp::now() }
}

impl Ask<'_> {
    fn bytes(&self, host: &str) -> Vec<u8> {
        let mut bytes = self.head(host, self.body.len());
        bytes.extend(self.body);
        bytes
    }

    fn head(&self, host: &str, length: usize) -> Vec<u8> {
        let (path, query) = self.target.split_once('?').unwrap_or((self.target, ""));
        let request = Request { method: self.method, path, query };
        let mut headers = HeaderMap::new();
        headers.insert("host", host.parse().unwrap());
        for (name, value) in self.headers {
            headers.insert(*name, HeaderValue::from_static(value));
        }
        if let Some(signer) = self.signer {
            signer.sign_headers(request, &mut headers, Body::Bytes(self.body), self.now).unwrap();
        }
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        for (name, value) in &headers {
            text.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
        }
        text.push_str(&format!("content-length: {length}\r\n\r\n"));
        text.into_bytes()
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    /// Status, error's code, body.
    fn error(&self) -> (u16, &str, &str) {
        (self.status, self.header("x-amzn-errortype"), self.text())
    }
}

/// Reads one answer; an error where the connection ends before it does.
async fn answer(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Answer> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        headers.append(HeaderName::try_from(name).unwrap(), value.parse().unwrap());
    }
    let mut body = Vec::new();
    if headers.contains_key("transfer-encoding") {
        loop {
            let mut line = Vec::new();
            while !line.ends_with(b"\r\n") {
                line.push(stream.read_u8().await?);
            }
            let size = std::str::from_utf8(&line).unwrap().trim();
            let size = usize::from_str_radix(size, 16).unwrap();
            let mut chunk = vec![0; size + 2];
            stream.read_exact(&mut chunk).await?;
            if size == 0 {
                break;
            }
            body.extend(&chunk[..size]);
        }
    } else if let Some(length) = headers.get("content-length") {
        body = vec![0; length.to_str().unwrap().parse().unwrap()];
        stream.read_exact(&mut body).await?;
    }
    Ok(Answer { status, headers, body })
}

/// Waits until the other side has closed.
async fn closed(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut rest = Vec::new();
    let _reset_counts_too = stream.read_to_end(&mut rest).await;
    rest
}

/// More than sockets take in.
const LARGE: usize = 32 << 20;
const LIST: &str = "/2015-03-31/functions/";
const INVOKE: &str = "/2015-03-31/functions/f/invocations";

#[tokio::test]
async fn a_signed_request_reaches_its_operation() {
    let server = served().await;
    let arn = "arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Af";
    let target = format!("/2015-03-31/functions/{arn}/invocations?Qualifier=%24LATEST");
    let headers = [("x-amz-invocation-type", "RequestResponse"), ("x-amzn-trace-id", "Root=1")];
    let got = server.ask(Ask { headers: &headers, ..ask("POST", &target, b"{\"a\": 1}") }).await;
    assert_eq!((got.status, got.text()), (200, "{\"a\": 1}"));
    assert_eq!(got.header("content-type"), "application/json");
    assert_eq!(got.header("x-amz-executed-version"), "$LATEST");
    let (operation, input) = server.last();
    assert_eq!(operation, "Invoke");
    assert_eq!(
        Value::Object(input.members),
        json!({"FunctionName": "arn:aws:lambda:us-east-1:000000000000:function:f", "Qualifier": "$LATEST", "InvocationType": "RequestResponse"})
    );
    assert_eq!(input.payload, "{\"a\": 1}");
    assert_eq!(input.caller, Caller::Root);
    assert_eq!(input.trace_id.as_deref(), Some("Root=1"));
    assert_eq!(input.base_url, format!("http://{}", server.at));
    assert_eq!(got.header("x-amzn-requestid"), input.request_id);

    let other = Signer { access_key_id: "AKIDOTHER", secret_access_key: "other secret", ..root() };
    let got = server.ask(Ask { signer: Some(other), ..ask("GET", LIST, b"") }).await;
    assert_eq!((got.status, got.text()), (200, "{}"));
    let caller = Caller::Principal { arn: "arn:aws:iam::000000000000:user/other".into() };
    assert_eq!(server.last().1.caller, caller);
}

#[tokio::test]
async fn health_and_metrics_need_no_signature() {
    let server = served().await;
    for (target, want) in
        [("/_kennel/health", r#"{"status":"ok"}"#), ("/_kennel/metrics", "kennel_up 1\n")]
    {
        let got = server.ask(Ask { signer: None, ..ask("GET", target, b"") }).await;
        assert_eq!((got.status, got.text()), (200, want));
    }
    let got = server.ask(Ask { signer: None, ..ask("POST", "/_kennel/health", b"") }).await;
    assert_eq!(got.status, 403);
}

#[tokio::test]
async fn refusals_look_like_awss() {
    let server = served().await;
    let plain = ask("GET", LIST, b"");
    let unsigned = Ask { signer: None, ..plain };
    let unknown = Ask { signer: Some(Signer { access_key_id: "X", ..root() }), ..plain };
    let forged = Ask { signer: Some(Signer { secret_access_key: "X", ..root() }), ..plain };
    for (request, want) in [
        (
            unsigned,
            (
                403,
                "MissingAuthenticationTokenException",
                r#"{"message":"Missing Authentication Token"}"#,
            ),
        ),
        (
            unknown,
            (
                403,
                "UnrecognizedClientException",
                r#"{"message":"The security token included in the request is invalid."}"#,
            ),
        ),
        (
            forged,
            (
                403,
                "InvalidSignatureException",
                r#"{"message":"The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."}"#,
            ),
        ),
        (
            ask("GET", "/2015-03-31/nothing", b""),
            (
                404,
                "UnknownOperationException",
                r#"{"Message":"The requested operation does not exist."}"#,
            ),
        ),
        (
            ask("GET", "/2015-03-31/functions/missing", b""),
            (
                404,
                "ResourceNotFoundException",
                r#"{"Message":"Function not found: missing","Type":"User"}"#,
            ),
        ),
        (
            ask("GET", "/2015-03-31/functions/broken", b""),
            (500, "ServiceException", r#"{"Message":"Internal error","Type":"Service"}"#),
        ),
        (
            ask("GET", "/2015-03-31/functions/unbuilt", b""),
            (
                400,
                "InvalidParameterValueException",
                r#"{"Type":"User","message":"Kennel does not implement GetFunction."}"#,
            ),
        ),
        (
            ask("POST", "/2015-03-31/functions/throttled/invocations", b"{}"),
            (
                429,
                "TooManyRequestsException",
                r#"{"Reason":"CallerRateLimitExceeded","Type":"User","message":"Rate Exceeded."}"#,
            ),
        ),
        (
            ask("GET", "/2015-03-31/functions/?MaxItems=0", b""),
            (
                400,
                "ValidationException",
                r#"{"message":"1 validation error detected: Value '0' at 'maxItems' failed to satisfy constraint: Member must have value greater than or equal to 1"}"#,
            ),
        ),
        (
            ask("PUT", "/2015-03-31/functions/f/configuration", br#"{"Timeout":"3"}"#),
            (
                400,
                "SerializationException",
                r#"{"message":"STRING_VALUE can not be converted to an Integer"}"#,
            ),
        ),
    ] {
        let got = server.ask(request).await;
        assert_eq!(got.error(), want, "{}", request.target);
        assert_eq!(got.header("content-type"), "application/json");
        assert_eq!(got.header("x-amzn-requestid").len(), 36);
    }
    let stale = Ask { now: Timestamp::now() - jiff::SignedDuration::from_mins(6), ..plain };
    let got = server.ask(stale).await;
    assert_eq!((got.status, got.error().1), (403, "InvalidSignatureException"));
    assert!(got.text().starts_with(r#"{"message":"Signature expired: "#), "{}", got.text());
    assert!(got.text().ends_with(r#"Z - 5 min.)"}"#), "{}", got.text());
}

#[tokio::test]
async fn a_body_that_is_not_its_hash_is_refused() {
    let server = served().await;
    let signed = Ask {
        signer: Some(Signer { content_sha256: true, ..root() }),
        ..ask("POST", INVOKE, b"{\"a\":1}")
    };
    let mut bytes = signed.head(&server.at.to_string(), 7);
    bytes.extend(b"{\"a\":2}");
    let mut stream = server.connect().await;
    stream.write_all(&bytes).await.unwrap();
    let got = answer(&mut stream).await.unwrap();
    assert_eq!((got.status, got.error().1), (403, "InvalidSignatureException"));
    assert!(server.fake.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn presigned_addresses_work() {
    let server = served().await;
    let mut headers = HeaderMap::new();
    headers.insert("host", server.at.to_string().parse().unwrap());
    let request = Request { method: "GET", path: LIST, query: "MaxItems=2" };
    let query = root().presign(request, &headers, Body::Bytes(b""), 60, Timestamp::now());
    let target = format!("{LIST}?{query}");
    let got = server.ask(Ask { signer: None, ..ask("GET", &target, b"") }).await;
    assert_eq!((got.status, got.text()), (200, r#"{"MaxItems":2}"#));
    let target = target.replace("MaxItems=2", "MaxItems=3");
    let got = server.ask(Ask { signer: None, ..ask("GET", &target, b"") }).await;
    assert_eq!((got.status, got.error().1), (403, "InvalidSignatureException"));
}

#[tokio::test]
async fn streams_are_framed_and_never_cut_silently() {
    let server = served().await;
    let target =
        |name: &str| format!("/2021-11-15/functions/{name}/response-streaming-invocations");
    let got = server.ask(ask("POST", &target("f"), b"{}")).await;
    assert_eq!(got.header("content-type"), "application/vnd.amazon.eventstream");
    let end = super::eventstream::complete(None, None, None);
    let want = [super::eventstream::payload_chunk(b"hello"), end].concat();
    assert_eq!(got.body, want);
    let mut stream = server.connect().await;
    stream
        .write_all(&ask("POST", &target("cut"), b"{}").bytes(&server.at.to_string()))
        .await
        .unwrap();
    assert!(answer(&mut stream).await.is_err());
}

#[tokio::test]
async fn other_sites_go_to_the_extra() {
    let server = served().await;
    let logs = Signer { service: "logs", ..root() };
    let headers = [("x-amz-target", "Logs_20140328.GetLogEvents")];
    let request = Ask { headers: &headers, signer: Some(logs), ..ask("POST", "/", b"{}") };
    let got = server.ask(request).await;
    assert_eq!(got.text(), r#"Logs { operation: "GetLogEvents" } Root false {}"#);
    assert_eq!(got.header("x-amzn-requestid").len(), 36);
    let got = server.ask(Ask { signer: Some(root()), ..request }).await;
    assert_eq!(got.status, 400);
    assert!(got.text().starts_with(r#"{"__type":"InvalidSignatureException","#), "{}", got.text());

    let host = "abc.lambda-url.us-east-1.localhost:9330";
    for (signer, verified) in [(None, "false"), (Some(root()), "true")] {
        let mut stream = server.connect().await;
        let request = Ask { signer, ..ask("POST", "/a?b", b"hi") };
        stream.write_all(&request.bytes(host)).await.unwrap();
        let got = answer(&mut stream).await.unwrap();
        let want = format!(r#"FunctionUrl {{ id: "abc" }} Anonymous {verified} hi"#);
        assert_eq!(got.text(), want);
    }

    let code = format!("/_kennel/code/{}", "0".repeat(64));
    let got = server.ask(Ask { signer: None, ..ask("GET", &code, b"") }).await;
    assert_eq!(got.status, 403);
    let got = server.ask(ask("GET", &code, b"")).await;
    assert!(got.text().starts_with("Code { sha256: "), "{}", got.text());
}

/// What AWS's own client makes of the answers. Needs a Python with botocore: `KENNEL_TEST_PYTHON`, else `python3`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn botocore_is_content() {
    let python = std::env::var("KENNEL_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let run = |script: &str, at: &str| {
        let mut command = std::process::Command::new(&python);
        command.args(["-c", script, at]).output()
    };
    if !run("import botocore.session", "").is_ok_and(|out| out.status.success()) {
        eprintln!("skipped: no botocore for {python}");
        return;
    }
    let server = served().await;
    let script = include_str!("botocore.py");
    let at = format!("http://{}", server.at);
    let out = tokio::task::block_in_place(|| run(script, &at)).unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(Bytes::from(out.stdout), "all good\n");
}
