//! Asynchronous events whose ends go to real services: ElasticMQ for SQS, moto for SNS, SQS and S3; see
//! `destinations/README.md`. Needs Java and Maven, or Python and pip; what cannot be had here is skipped with its
//! reason.

mod common;

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kennel::client::{self, ClientError, Endpoint, MessageAttribute};
use kennel::invoke::FunctionError;
use kennel::invoke::destinations::Destinations;
use kennel::invoke::queue::{
    AsyncEvent, AsyncQueue, EventPolicy, Parts, Policies, PolicyFuture, Settings, Unobserved,
};
use kennel::invoke::service::{InvokeRequest, Invoked, Run, RunFuture};
use kennel::store::memory::MemoryStore;
use serde::Deserialize;
use serde_json::{Value, json};

use common::skip;

const REGION: &str = "us-east-1";
const PATIENCE: Duration = Duration::from_secs(60);

/// A service of `destinations/`, running until this is dropped.
struct Server {
    child: Child,
    input: Option<ChildStdin>,
    ready: Value,
}

impl Server {
    /// `None`: this host lacks something, which is printed.
    fn start(name: &str) -> Option<Self> {
        // One at a time: they fetch packages.
        static BUILDING: Mutex<()> = Mutex::new(());
        let one = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/destinations").join(name);
        let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("destinations").join(name);
        fs::create_dir_all(&out).expect("a folder");
        let built = Command::new(folder.join("build")).arg(&out).output().expect("build");
        let text = [built.stdout, built.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        if !built.status.success() {
            match text.lines().find(|l| l.starts_with("needs ")) {
                Some(needs) => skip(&format!("{name}: {needs}")),
                None => panic!("{name}/build failed:\n{text}"),
            }
            return None;
        }
        drop(one);
        let log = fs::File::create(out.join("log")).expect("a log");
        let mut child = Command::new(folder.join("serve"))
            .arg(&out)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("serve");
        let input = child.stdin.take();
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let line = lines.next().expect("a line").expect("a line");
        let ready = serde_json::from_str(&line).expect("JSON");
        // Goes on reading, so that the server never waits for room.
        std::thread::spawn(move || lines.for_each(drop));
        Some(Self { child, input, ready })
    }

    fn text(&self, name: &str) -> &str {
        self.ready[name].as_str().expect(name)
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ready["port"])
    }

    fn post(&self, path: &str, headers: &str, body: &str) -> (u16, String) {
        let mut stream =
            TcpStream::connect(self.url().trim_start_matches("http://")).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n");
        write!(stream, "{head}Content-Length: {length}\r\n{headers}\r\n{body}").expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        (head[9..12].parse().expect("a status"), body.to_owned())
    }

    /// An SQS action over the JSON protocol, unsigned.
    fn sqs(&self, action: &str, request: Value) -> Value {
        let headers = format!(
            "Content-Type: application/x-amz-json-1.0\r\nX-Amz-Target: AmazonSQS.{action}\r\nAuthorization: \
             AWS4-HMAC-SHA256 Credential=id/20260101/us-east-1/sqs/aws4_request, SignedHeaders=host, Signature=0\r\n"
        );
        let (status, body) = self.post("/", &headers, &request.to_string());
        assert_eq!(status, 200, "{action}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|e| panic!("{action}: {e}: {body}"))
    }

    /// Waits for as many messages.
    fn receive(&self, queue_url: &str, count: usize) -> Vec<Value> {
        let begun = Instant::now();
        let mut messages = Vec::new();
        while messages.len() < count {
            assert!(begun.elapsed() < PATIENCE, "only {messages:?}");
            let request = json!({
                "QueueUrl": queue_url,
                "WaitTimeSeconds": 1,
                "MaxNumberOfMessages": 10,
                "VisibilityTimeout": 600,
                "MessageAttributeNames": ["All"],
            });
            let answer = self.sqs("ReceiveMessage", request);
            messages.extend(answer["Messages"].as_array().cloned().unwrap_or_default());
        }
        messages
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.input.take());
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(10) {
            if self.child.try_wait().is_ok_and(|status| status.is_some()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn endpoint(url: &str) -> Endpoint {
    Endpoint {
        url: url.into(),
        access_key_id: "id".into(),
        secret_access_key: "secret".into(),
        region: None,
    }
}

/// Functions by name: those that fail do so with this message.
#[derive(Default)]
struct Functions(HashMap<&'static str, (EventPolicy, Option<&'static str>)>);

impl Policies for Functions {
    fn policy<'a>(
        &'a self,
        function: &'a str,
        _: Option<&'a str>,
        _: Option<&'a str>,
    ) -> PolicyFuture<'a> {
        let policy = self.0.get(function).map(|f| f.0.clone());
        Box::pin(async move { Ok(policy) })
    }
}

impl Run for Functions {
    fn run(&self, request: InvokeRequest) -> RunFuture<'_> {
        let error = self.0[request.function.as_str()].1;
        let result = match error {
            None => Ok(request.payload),
            Some(text) => Err(FunctionError {
                error_type: "E".into(),
                body: json!({"errorType": "E", "errorMessage": text}).to_string().into(),
                log_line: None,
            }),
        };
        let executed_version = "$LATEST".to_owned();
        Box::pin(async move {
            Ok(Invoked {
                executed_version,
                invoked_arn: String::new(),
                result,
                log_tail: Vec::new(),
            })
        })
    }
}

fn queue(functions: Functions, sqs: Option<Endpoint>, sns: Option<Endpoint>) -> AsyncQueue {
    let functions = Arc::new(functions);
    AsyncQueue::start(Parts {
        store: Arc::new(MemoryStore::new()),
        policies: functions.clone(),
        run: functions,
        destinations: Destinations {
            region: REGION.into(),
            account: "000000000000".into(),
            sqs,
            sns,
        },
        observe: Arc::new(Unobserved),
        settings: Settings { retry_delays: vec![Duration::from_millis(20)], ..Settings::default() },
    })
}

const PAYLOAD: &str =
    "{\"text\": \"grüße, 世界 😀\",  \"n\": 1.50, \"escaped\": \"\\u0001 & <b>\"}";

fn event(function: &str, id: &str) -> AsyncEvent {
    AsyncEvent::new(id.into(), function.into(), None, Bytes::from_static(PAYLOAD.as_bytes()))
}

fn attribute(message: &Value, name: &str) -> (String, String) {
    let attribute = &message["MessageAttributes"][name];
    let text = |key: &str| attribute[key].as_str().unwrap_or_default().to_owned();
    (text("DataType"), text("StringValue"))
}

fn pair(kind: &str, value: &str) -> (String, String) {
    (kind.into(), value.into())
}

#[tokio::test(flavor = "multi_thread")]
async fn elasticmq_gets_records_and_dead_letters() {
    let Some(server) = Server::start("elasticmq") else { return };
    let queues: Vec<String> = ["done", "failed", "dead"]
        .iter()
        .map(|name| {
            let answer = server.sqs("CreateQueue", json!({"QueueName": name}));
            answer["QueueUrl"].as_str().expect("an address").to_owned()
        })
        .collect();
    let arn = |name: &str| Some(format!("arn:aws:sqs:us-east-1:000000000000:{name}"));
    let policy = EventPolicy {
        maximum_retry_attempts: 1,
        on_success: arn("done"),
        on_failure: arn("failed"),
        dead_letter_arn: arn("dead"),
        ..EventPolicy::default()
    };
    let functions =
        HashMap::from([("good", (policy.clone(), None)), ("bad", (policy, Some("äh\u{1}\nno")))]);
    let queue = queue(Functions(functions), Some(endpoint(&server.url())), None);
    for n in 0..20 {
        queue.enqueue(event("good", &n.to_string())).await.expect("accepted");
    }
    queue.enqueue(event("bad", "x")).await.expect("accepted");
    let records = server.receive(&queues[0], 20);
    let record = |message: &Value| -> Value {
        serde_json::from_str(message["Body"].as_str().expect("a body")).expect("a record")
    };
    let mut ids: Vec<String> = records
        .iter()
        .map(|m| record(m)["requestContext"]["requestId"].as_str().expect("an id").to_owned())
        .collect();
    ids.sort_by_key(|id| id.parse::<u32>().expect("a number"));
    assert_eq!(ids, (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
    let body = records[0]["Body"].as_str().expect("a body");
    assert!(body.contains(&format!("\"requestPayload\":{PAYLOAD},")), "not as it came: {body}");
    assert!(body.ends_with(&format!("\"responsePayload\":{PAYLOAD}}}")), "not as it came: {body}");
    let failed = record(&server.receive(&queues[1], 1)[0]);
    assert_eq!(failed["requestContext"]["condition"], "RetriesExhausted");
    assert_eq!(failed["requestContext"]["approximateInvokeCount"], 2);
    assert_eq!(failed["responseContext"]["functionError"], "Unhandled");
    let dead = &server.receive(&queues[2], 1)[0];
    assert_eq!(dead["Body"], PAYLOAD);
    assert_eq!(attribute(dead, "RequestID"), pair("String", "x"));
    assert_eq!(attribute(dead, "ErrorCode"), pair("Number", "200"));
    assert_eq!(attribute(dead, "ErrorMessage"), pair("String", "äh\u{fffd}\nno"));
    assert!(queue.undelivered().await.expect("a list").is_empty());
    // A queue that does not exist.
    let at = endpoint(&server.url());
    let arn = "arn:aws:sqs:us-east-1:000000000000:nowhere";
    let error = client::send_message(&at, REGION, arn, "x", &[]).await.unwrap_err();
    assert!(error.is_refusal(), "{error}");
    let ClientError::Refused { code, .. } = error else { panic!("{error}") };
    assert!(code.contains("NonExistentQueue") || code.contains("QueueDoesNotExist"), "{code}");
}

/// What moto says of itself.
#[derive(Deserialize)]
struct Moto {
    access_key_id: String,
    secret_access_key: String,
    first_version: String,
}

impl Moto {
    fn endpoint(&self, server: &Server) -> Endpoint {
        Endpoint {
            url: server.url(),
            access_key_id: self.access_key_id.clone(),
            secret_access_key: self.secret_access_key.clone(),
            region: None,
        }
    }
}

/// Whether moto verifies signatures from now on.
fn verify(server: &Server, on: bool) {
    let count = if on { "0" } else { "inf" };
    let (status, body) = server.post("/moto-api/reset-auth", "", count);
    assert_eq!(status, 200, "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn moto_passes_topics_on_and_verifies_what_is_signed() {
    let Some(server) = Server::start("moto") else { return };
    let moto: Moto = serde_json::from_value(server.ready.clone()).expect("all of it");
    let at = moto.endpoint(&server);
    verify(&server, true);
    // To a topic, as a dead letter.
    let wrong = Endpoint { secret_access_key: "wrong".into(), ..at.clone() };
    let topic = server.text("topic_arn");
    let error = client::publish(&wrong, REGION, topic, "x", &[]).await.expect_err("it verifies");
    assert!(error.to_string().contains("403: SignatureDoesNotMatch: "), "{error}");
    let policy = EventPolicy {
        maximum_retry_attempts: 0,
        on_failure: Some(server.text("topic_arn").into()),
        dead_letter_arn: Some(server.text("topic_arn").into()),
        ..EventPolicy::default()
    };
    let functions = HashMap::from([("bad", (policy, Some("no & <no>")))]);
    let queue = queue(Functions(functions), None, Some(at.clone()));
    queue.enqueue(event("bad", "x")).await.expect("accepted");
    let begun = Instant::now();
    let idle = async || {
        let waiting = queue.undelivered().await.expect("a list").len();
        waiting + queue.backlogs().await.expect("a list").len() == 0
    };
    while !idle().await {
        assert!(begun.elapsed() < PATIENCE, "{:?}", queue.undelivered().await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // To a queue, signed for SQS.
    let attributes = [MessageAttribute {
        name: "Kind".into(),
        data_type: "String".into(),
        value: "direct=1&x".into(),
    }];
    let queue_arn = server.text("queue_arn");
    let error =
        client::send_message(&wrong, REGION, queue_arn, "x", &[]).await.expect_err("it verifies");
    assert!(error.to_string().contains("403: "), "{error}");
    client::send_message(&at, REGION, queue_arn, "{\"direct\":1}", &attributes)
        .await
        .expect("sent");
    verify(&server, false);
    let mut dead = None;
    let mut failed = None;
    let mut direct = None;
    for message in server.receive(server.text("queue_url"), 3) {
        let body: Value =
            serde_json::from_str(message["Body"].as_str().expect("a body")).expect("JSON");
        match body["Message"].as_str() {
            None => direct = Some(message),
            Some(PAYLOAD) => dead = Some(body),
            Some(record) => failed = Some(serde_json::from_str::<Value>(record).expect("a record")),
        }
    }
    let dead = dead.expect("a dead letter");
    let of = |name: &str| dead["MessageAttributes"][name]["Value"].clone();
    assert_eq!([of("RequestID"), of("ErrorCode"), of("ErrorMessage")], ["x", "200", "no & <no>"]);
    let failed = failed.expect("a record");
    assert_eq!(failed["requestContext"]["condition"], "RetriesExhausted");
    assert_eq!(failed["requestPayload"]["text"], "grüße, 世界 😀");
    assert_eq!(attribute(&direct.expect("a message"), "Kind"), pair("String", "direct=1&x"));
}

#[tokio::test(flavor = "multi_thread")]
async fn moto_gives_objects_to_who_signs_for_them() {
    let Some(server) = Server::start("moto") else { return };
    let moto: Moto = serde_json::from_value(server.ready.clone()).expect("all of it");
    let at = moto.endpoint(&server);
    verify(&server, true);
    let get = async |at: &Endpoint, key: &str, version: Option<&str>, limit| {
        client::get_object(at, REGION, "code", key, version, limit).await
    };
    for (key, version, want) in [
        ("app.zip", None, &b"a zip"[..]),
        ("app.zip", Some(moto.first_version.as_str()), b"the first"),
        ("a folder/ä+b & c=~.zip", None, b"another"),
        ("empty", None, b""),
        ("big", None, &vec![b'x'; 3_000_000]),
    ] {
        let got = get(&at, key, version, 3_000_000).await.unwrap_or_else(|e| panic!("{key}: {e}"));
        assert_eq!(got, want, "{key}");
    }
    let wrong = Endpoint { secret_access_key: "wrong".into(), ..at.clone() };
    for (what, at, key, limit, want) in [
        ("a wrong secret", &wrong, "app.zip", 9, "403: SignatureDoesNotMatch: "),
        ("no such key", &at, "nothing", 9, "404: NoSuchKey: The specified key does not exist."),
        ("too large", &at, "big", 2_999_999, "is over 2999999 bytes"),
    ] {
        let error = get(at, key, None, limit).await.expect_err(what).to_string();
        assert!(error.contains(want), "{what}: {error}");
    }
    // An address that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nowhere = Endpoint { url: format!("http://{free}"), ..at };
    let error = get(&nowhere, "app.zip", None, 9).await.expect_err("nobody listens");
    assert_eq!(error.to_string(), format!("cannot reach `http://{free}`"));
}
