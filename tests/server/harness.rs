//! A server under test, and a small client for it.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use kennel::sigv4::{Body, PathStyle, Request, Signer};
use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::{
    EXECUTABLE, dedent, folder, kennel, pid, python_runtime, sandboxes, skip, zip,
};

pub const REGION: &str = "us-east-1";
pub const ACCOUNT: &str = "000000000000";
/// For an answer, and for a server's start.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// A principal of the shared server's configuration.
pub const PRINCIPAL: (&str, &str, &str) =
    ("AKIDPRINCIPAL", "a secret of nobody", "arn:aws:iam::111122223333:role/caller");

/// An access key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    pub id: String,
    pub secret: String,
}

impl Key {
    pub fn signer<'a>(&'a self, service: &'a str) -> Signer<'a> {
        Signer {
            access_key_id: &self.id,
            secret_access_key: &self.secret,
            region: REGION,
            service,
            path_style: PathStyle::Twice,
            content_sha256: false,
        }
    }
}

// ---------------------------------------------------------------------------------------------------------
// The server.

/// A running `kennel serve`.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// `http://HOST:PORT`, as the server shows it.
    pub url: String,
    pub address: SocketAddr,
    pub data: PathBuf,
    pub key: Key,
    stderr: Arc<Mutex<Vec<u8>>>,
}

/// How a server ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub took: Duration,
    pub stderr: String,
}

/// `kennel serve` on a free port, its flags to be completed.
pub fn serve(data: &Path) -> Command {
    let mut command = kennel();
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

impl Server {
    /// The server that tests share. `None`: there can be none here, and the reason is printed.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<(Server, Keeper)> = OnceLock::new();
        if !sandboxes() {
            return None;
        }
        let shared = SHARED.get_or_init(|| {
            let files = folder();
            let config = files.path().join("kennel.toml");
            let (id, secret, arn) = PRINCIPAL;
            let text = format!(
                "[[principal]]\naccess_key_id = '{id}'\nsecret_access_key = '{secret}'\narn = '{arn}'\n"
            );
            fs::write(&config, text).expect("a file");
            let mut command = serve(&files.path().join("data"));
            command.arg("--config").arg(config).args(["--retry-delays", "1,1"]);
            let server = Self::start(&mut command);
            let keeper = Keeper::new(&server, files.keep());
            (server, keeper)
        });
        Some(&shared.0)
    }

    /// Starts `command`, and waits until it answers.
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.spawn().expect("kennel starts");
        let stderr = Arc::new(Mutex::new(Vec::new()));
        let (mut pipe, seen) = (child.stderr.take().expect("a pipe"), stderr.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = pipe.read(&mut buffer) {
                seen.lock().unwrap_or_else(PoisonError::into_inner).extend(&buffer[..length]);
            }
        });
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut shown = Vec::new();
        let value = |shown: &[String], name: &str| {
            let line = shown.iter().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim().split("   ").next()?.to_owned())
        };
        while value(&shown, "try ").is_none() {
            match lines.next() {
                Some(Ok(line)) => shown.push(line),
                _ => {
                    let status = child.wait().expect("a child");
                    let text = seen_text(&stderr);
                    panic!("kennel did not start: {status}\n{}\n{text}", shown.join("\n"));
                }
            }
        }
        std::thread::spawn(move || lines.for_each(drop));
        let url = value(&shown, "endpoint ").expect("an endpoint");
        let authority = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
        let address = authority.parse().unwrap_or_else(|_| ([127, 0, 0, 1], 0).into());
        let data: PathBuf = value(&shown, "data ").expect("a data directory").into();
        let credentials = fs::read_to_string(data.join("credentials")).unwrap_or_default();
        let read = |name: &str| {
            let lines = credentials.lines();
            let mut values = lines.filter_map(|l| l.strip_prefix(name)?.trim().strip_prefix('='));
            values.next().unwrap_or_default().trim().to_owned()
        };
        let key = Key { id: read("aws_access_key_id"), secret: read("aws_secret_access_key") };
        let server = Self { child, url, address, data, key, stderr };
        if server.url.starts_with("http://") {
            let health = server.send(&server.plain("GET", "/_kennel/health")).is(200);
            assert_eq!(health.json(), json!({ "status": "ok" }));
        }
        server
    }

    /// A server for one test.
    #[track_caller]
    pub fn own(data: &Path, args: &[&str]) -> Self {
        Self::start(serve(data).args(args))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Of the process that makes the sandboxes.
    pub fn launcher(&self) -> u32 {
        *crate::common::children(self.pid()).first().expect("a launcher")
    }

    pub fn stderr(&self) -> String {
        seen_text(&self.stderr)
    }

    pub fn signal(&self, signal: Signal) {
        kill(pid(self.pid()), signal).expect("the server is alive");
    }

    /// Waits for the end.
    #[track_caller]
    pub fn wait(mut self) -> Ended {
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            assert!(began.elapsed() < PATIENCE, "no end; stderr:\n{}", self.stderr());
            std::thread::sleep(Duration::from_millis(5));
        };
        let took = began.elapsed();
        // What it said last may still be in the pipe: the reader lets go of its share once it has all.
        while Arc::strong_count(&self.stderr) > 1 && began.elapsed() < took + Duration::from_secs(2)
        {
            std::thread::sleep(Duration::from_millis(5));
        }
        Ended { status, took, stderr: self.stderr() }
    }

    /// SIGTERM, and the end, which must be a good one.
    #[track_caller]
    pub fn stop(self) -> Ended {
        self.signal(Signal::SIGTERM);
        let ended = self.wait();
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        ended
    }
}

impl Drop for Server {
    /// A failed test leaves no server behind.
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill(pid(self.pid()), Signal::SIGTERM);
            let began = Instant::now();
            while began.elapsed() < Duration::from_secs(15) {
                if !matches!(self.child.try_wait(), Ok(None)) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn seen_text(stderr: &Mutex<Vec<u8>>) -> String {
    String::from_utf8_lossy(&stderr.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
}

/// Ends the shared server and removes its files once this process has ended, in whatever way: statics are not dropped.
#[derive(Debug)]
struct Keeper {
    _open: ChildStdin,
}

impl Keeper {
    fn new(server: &Server, files: PathBuf) -> Self {
        let script =
            "read -r _; kill -TERM $1; while kill -0 $1; do sleep 0.1; done; rm -rf \"$2\"";
        #[expect(clippy::zombie_processes, reason = "it outlives this process")]
        let mut child = Command::new("sh")
            .args(["-c", script, "keeper", &server.pid().to_string()])
            .arg(files)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh");
        Self { _open: child.stdin.take().expect("a pipe") }
    }
}

// ---------------------------------------------------------------------------------------------------------
// Requests.

/// A request, to be signed or not.
#[derive(Debug, Clone)]
pub struct Call {
    pub method: String,
    /// Percent-encoded.
    pub path: String,
    pub query: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Call {
    pub fn new(method: &str, target: &str, host: &str) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_str(host).expect("a host"));
        Self {
            method: method.into(),
            path: path.into(),
            query: query.into(),
            headers,
            body: Vec::new(),
        }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
        self.headers.append(name, HeaderValue::from_str(value).expect("a value"));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Signs what is here so far.
    pub fn signed(self, key: &Key) -> Self {
        self.signed_at(key, "lambda", Timestamp::now())
    }

    pub fn signed_at(mut self, key: &Key, service: &str, now: Timestamp) -> Self {
        let request = Request { method: &self.method, path: &self.path, query: &self.query };
        let body = Body::Bytes(&self.body);
        key.signer(service).sign_headers(request, &mut self.headers, body, now).expect("a key");
        self
    }

    fn head(&self) -> String {
        let (question, query) = if self.query.is_empty() { ("", "") } else { ("?", &*self.query) };
        let mut head = format!("{} {}{question}{query} HTTP/1.1\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            head += &format!("{name}: {}\r\n", value.to_str().expect("text"));
        }
        if !self.headers.contains_key("content-length")
            && !self.headers.contains_key("transfer-encoding")
        {
            head += &format!("content-length: {}\r\n", self.body.len());
        }
        head + "connection: close\r\n\r\n"
    }

    /// As it goes over the wire.
    pub fn bytes(&self) -> Vec<u8> {
        [self.head().into_bytes(), self.body.clone()].concat()
    }
}

/// An answer, read to its end.
#[derive(Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = &self.body[..self.body.len().min(2000)];
        write!(f, "{} {:?}\n{}", self.status, self.headers, String::from_utf8_lossy(body))
    }
}

impl Answer {
    /// # Panics
    /// Where the bytes are no whole answer.
    #[track_caller]
    pub fn parse(bytes: &[u8], method: &str) -> Self {
        let end = crate::common::find(bytes, b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no head: {:?}", String::from_utf8_lossy(bytes)));
        let head = std::str::from_utf8(&bytes[..end]).expect("a head");
        let mut lines = head.split("\r\n");
        let status = lines.next().expect("a status line");
        let status = status.split(' ').nth(1).expect("a status").parse().expect("a number");
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(':').expect("a header");
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            headers.append(name, HeaderValue::from_str(value.trim()).expect("a value"));
        }
        if status == 100 {
            return Self::parse(&bytes[end + 4..], method);
        }
        let body = &bytes[end + 4..];
        let chunked = headers.get("transfer-encoding").is_some_and(|t| t == "chunked");
        let body = match headers.get("content-length") {
            _ if chunked => unchunk(body),
            Some(length) if method != "HEAD" => {
                let length: usize = length.to_str().expect("text").parse().expect("a length");
                assert_eq!(body.len(), length, "cut short: {head}");
                body.to_vec()
            }
            _ => body.to_vec(),
        };
        Self { status, headers, body }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("not JSON: {e}\n{self:?}"))
    }

    /// Sees that the status is this one.
    #[track_caller]
    pub fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// Sees that this is AWS's error of that name, whose message has `text` in it.
    #[track_caller]
    pub fn fails(self, status: u16, code: &str, text: &str) -> Self {
        assert_eq!((self.status, self.header("x-amzn-errortype")), (status, code), "{self:?}");
        let error = self.json();
        let message = error["message"].as_str().or(error["Message"].as_str()).unwrap_or_default();
        assert!(message.contains(text), "{text} is not in {self:?}");
        self
    }

    /// The log's end that an Invoke with `LogType: Tail` brings.
    #[track_caller]
    pub fn log_tail(&self) -> String {
        let bytes = STANDARD.decode(self.header("x-amz-log-result")).expect("base64");
        String::from_utf8(bytes).expect("text")
    }
}

fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = crate::common::find(bytes, b"\r\n").expect("a chunk's size");
        let size = std::str::from_utf8(&bytes[..end]).expect("a size");
        let size = usize::from_str_radix(size, 16).expect("a size");
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&bytes[end + 2..][..size]);
        bytes = &bytes[end + 2 + size + 2..];
    }
}

impl Server {
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Neither signed nor sent yet.
    pub fn plain(&self, method: &str, target: &str) -> Call {
        Call::new(method, target, &self.host())
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("an option");
        stream
    }

    /// Sends a request as it is, all of it before the answer is read, as most clients do.
    #[track_caller]
    pub fn send(&self, call: &Call) -> Answer {
        let mut stream = self.connect();
        stream.write_all(&call.bytes()).expect("the server takes the whole request");
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("an answer");
        Answer::parse(&bytes, &call.method)
    }

    /// An operation, signed with the root key; a body of `null` is none.
    #[track_caller]
    pub fn call(&self, method: &str, target: &str, body: &Value) -> Answer {
        let mut call = self.plain(method, target);
        if !body.is_null() {
            call = call.header("content-type", "application/json").body(body.to_string());
        }
        self.send(&call.signed(&self.key))
    }

    /// `Invoke`; a name may have its qualifier, and a query, with it.
    #[track_caller]
    pub fn invoke(&self, function: &str, event: &Value) -> Answer {
        self.invoke_with(function, event, &[])
    }

    #[track_caller]
    pub fn invoke_with(&self, function: &str, event: &Value, headers: &[(&str, &str)]) -> Answer {
        let call = self.invocation(function, event.to_string().as_bytes(), headers);
        self.send(&call.signed(&self.key))
    }

    pub fn invocation(&self, function: &str, payload: &[u8], headers: &[(&str, &str)]) -> Call {
        let (name, query) = function.split_once('?').unwrap_or((function, ""));
        let name = kennel::sigv4::encode(name);
        let target = format!("/2015-03-31/functions/{name}/invocations?{query}");
        let call = self.plain("POST", target.trim_end_matches('?')).body(payload);
        headers.iter().fold(call, |call, (name, value)| call.header(name, value))
    }

    /// The function's own result, where it did not fail.
    #[track_caller]
    pub fn result(&self, function: &str, event: &Value) -> Value {
        let answer = self.invoke(function, event).is(200);
        assert_eq!(answer.header("x-amz-function-error"), "", "{answer:?}");
        answer.json()
    }

    // -----------------------------------------------------------------------------------------------------
    // Functions.

    /// Creates a function of `python`'s code, whose handler is `app.handler`; `more` are members of CreateFunction.
    /// `false`: it cannot run here, and the reason is printed.
    #[track_caller]
    pub fn python(&self, name: &str, code: &str, more: &Value) -> bool {
        let Some(runtime) = python_runtime() else {
            skip("no Python for the function");
            return false;
        };
        self.create(name, runtime, "app.handler", &python_zip(code), more);
        true
    }

    /// Creates a function whose runtime is `program`.
    #[track_caller]
    pub fn provided(&self, name: &str, program: &str, more: &Value) {
        let package = zip(&[("bootstrap", program.as_bytes(), EXECUTABLE)]);
        self.create(name, "provided.al2023", "unused", &package, more);
    }

    #[track_caller]
    pub fn create(&self, name: &str, runtime: &str, handler: &str, package: &[u8], more: &Value) {
        let mut request = json!({
            "FunctionName": name,
            "Runtime": runtime,
            "Handler": handler,
            "Role": format!("arn:aws:iam::{ACCOUNT}:role/any"),
            "Code": { "ZipFile": STANDARD.encode(package) },
            "MemorySize": 1024,
            "Timeout": 30,
        });
        for (member, value) in more.as_object().into_iter().flatten() {
            request[member] = value.clone();
        }
        let made = self.call("POST", "/2015-03-31/functions", &request).is(201);
        assert_eq!(made.json()["FunctionName"], name, "{made:?}");
    }

    /// `UpdateFunctionCode`.
    #[track_caller]
    pub fn update(&self, name: &str, code: &str) {
        let request = json!({ "ZipFile": STANDARD.encode(python_zip(code)) });
        self.call("PUT", &format!("/2015-03-31/functions/{name}/code"), &request).is(200);
    }

    /// `PublishVersion`; its number.
    #[track_caller]
    pub fn publish(&self, name: &str) -> String {
        let target = format!("/2015-03-31/functions/{name}/versions");
        let made = self.call("POST", &target, &json!({})).is(201).json();
        made["Version"].as_str().expect("a version").to_owned()
    }

    #[track_caller]
    pub fn alias(&self, function: &str, alias: &Value) {
        let target = format!("/2015-03-31/functions/{function}/aliases");
        self.call("POST", &target, alias).is(201);
    }

    #[track_caller]
    pub fn allow(&self, target: &str, statement: &Value) {
        self.call("POST", &format!("/2015-03-31/functions/{target}"), statement).is(201);
    }

    /// `PutFunctionConcurrency`.
    #[track_caller]
    pub fn reserve(&self, name: &str, executions: u32) {
        let target = format!("/2017-10-31/functions/{name}/concurrency");
        self.call("PUT", &target, &json!({ "ReservedConcurrentExecutions": executions })).is(200);
    }

    /// An operation of CloudWatch Logs.
    #[track_caller]
    pub fn logs(&self, operation: &str, request: &Value) -> Answer {
        let call = self
            .plain("POST", "/")
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", &format!("Logs_20140328.{operation}"))
            .body(request.to_string());
        self.send(&call.signed_at(&self.key, "logs", Timestamp::now()))
    }

    /// Messages of all of a function's streams that match `pattern`.
    #[track_caller]
    pub fn logged(&self, function: &str, pattern: &str) -> Vec<String> {
        let group = format!("/aws/lambda/{function}");
        let request = json!({ "logGroupName": group, "filterPattern": pattern });
        let answer = self.logs("FilterLogEvents", &request);
        if answer.status != 200 {
            // The group comes with the first line.
            assert!(answer.text().contains("ResourceNotFoundException"), "{answer:?}");
            return Vec::new();
        }
        let answer = answer.json();
        let events = answer["events"].as_array().cloned().unwrap_or_default();
        let text = |event: &Value| event["message"].as_str().unwrap_or_default().to_owned();
        events.iter().map(text).collect()
    }

    /// The value of a series of `/_kennel/metrics`, given with its labels.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let text = self.send(&self.plain("GET", "/_kennel/metrics")).is(200).text();
        text.lines().find_map(|l| l.strip_prefix(series)?.trim().parse().ok())
    }
}

pub fn python_zip(code: &str) -> Vec<u8> {
    zip(&[("app.py", dedent(code).as_bytes(), 0o644)])
}

/// A runtime name of Node 20 or newer, for streamed answers.
pub fn node_runtime() -> Option<&'static str> {
    static NAME: OnceLock<Option<String>> = OnceLock::new();
    let name = NAME.get_or_init(|| {
        let output = kennel().args(["runtimes", "--json"]).output().expect("kennel runs");
        let rows: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let mut names = rows.as_array().expect("a list").iter().filter_map(|row| {
            let here = row["status"] == "yes" || row["status"] == "newer";
            row["runtime"].as_str().filter(|_| here)
        });
        names
            .find(|name| matches!(*name, "nodejs20.x" | "nodejs22.x" | "nodejs24.x"))
            .map(Into::into)
    });
    if name.is_none() {
        skip("no Node.js 20 or newer for the function");
    }
    name.as_deref()
}

/// Runs `work` once for each of 0 to `count` - 1, all at the same time.
pub fn at_once<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..count).map(|n| scope.spawn(move || work(n))).collect();
        threads.into_iter().map(|t| t.join().expect("a thread")).collect()
    })
}

pub fn distinct<T: std::hash::Hash + Eq>(all: impl IntoIterator<Item = T>) -> usize {
    all.into_iter().collect::<HashSet<T>>().len()
}

/// A data directory's parent that lives as long as the test.
pub fn data_folder() -> (TempDir, PathBuf) {
    let folder = folder();
    let data = folder.path().join("data");
    (folder, data)
}
