//! A `kennel serve` under test: started on a free port with a data directory of its own, asked with signed requests,
//! and looked at from outside. Blocking, one connection a request.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{HOST, HeaderMap, HeaderValue};
use kennel::sigv4::{Body, PathStyle, Request, Signer};
use nix::sys::signal::{Signal, kill, killpg};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{children, pid, wait_for};

const KEY: &str = "AKIAKENNELTESTS00000";
const SECRET: &str = "kennel/tests/secret/0000000000000000000";
const REGION: &str = "us-east-1";
const ROLE: &str = "arn:aws:iam::000000000000:role/r";
/// No request takes longer.
const PATIENCE: Duration = Duration::from_secs(120);
/// Until a server answers, or a sandbox waits.
pub const SOON: Duration = Duration::from_secs(60);

/// How a new sandbox came to be, by the server's own log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Boot {
    /// Claimed from those that waited with their language up.
    Ahead,
    /// Restored from an image, in one that was held.
    Image,
    /// Claimed from those that were held before exec, for a reason why not the other.
    Held(String),
    /// Made for the function, for a reason.
    Full(String),
}

/// A server, to be.
#[derive(Debug)]
pub struct Start {
    command: Command,
    folder: TempDir,
    port: u16,
}

impl Start {
    /// `program` is run with the kennel binary, `serve` and its flags as arguments; empty for kennel itself.
    pub fn through(program: &[&str], flags: &[&str]) -> Self {
        // Not below /tmp, which every sandbox covers with its own.
        let folder = tempfile::Builder::new().prefix("kennel-preboot-").tempdir_in("/var/tmp");
        let folder = folder.expect("a folder");
        fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .expect("a folder");
        let probe = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = probe.local_addr().expect("an address").port();
        drop(probe);
        let words: Vec<&str> =
            program.iter().copied().chain([env!("CARGO_BIN_EXE_kennel")]).collect();
        let mut command = Command::new(words[0]);
        let log = fs::File::create(folder.path().join("log")).expect("a log");
        command
            .args(&words[1..])
            .args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--data"])
            .arg(folder.path().join("data"))
            .args(flags)
            .env("KENNEL_RUNTIMES", concat!(env!("CARGO_MANIFEST_DIR"), "/runtimes"))
            .env("KENNEL_ROOT_ACCESS_KEY_ID", KEY)
            .env("KENNEL_ROOT_SECRET_ACCESS_KEY", SECRET)
            .env("KENNEL_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0);
        Self { command, folder, port }
    }

    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.command.env(key, value);
        self
    }

    pub fn cwd(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Starts it and waits until it is healthy.
    #[track_caller]
    pub fn start(mut self) -> Server {
        let child = self.command.spawn().expect("kennel starts");
        let mut server = Server { child, folder: self.folder, port: self.port };
        let began = Instant::now();
        loop {
            let ended = server.child.try_wait().expect("a child");
            assert!(ended.is_none(), "the server ended ({ended:?}): {}", server.log());
            if server.exchange("GET", "/_kennel/health", b"", false).is_ok_and(|a| a.status == 200)
            {
                return server;
            }
            assert!(began.elapsed() < SOON, "no server: {}", server.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("not JSON: {e}: {}", String::from_utf8_lossy(&self.body)))
    }
}

/// A server that runs; ended when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    folder: TempDir,
    port: u16,
}

impl Server {
    #[track_caller]
    pub fn start(flags: &[&str]) -> Self {
        Start::through(&[], flags).start()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn exchange(
        &self,
        method: &str,
        path: &str,
        body: &[u8],
        signed: bool,
    ) -> std::io::Result<Answer> {
        let address = format!("127.0.0.1:{}", self.port);
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::try_from(&address).expect("an address"));
        if signed {
            let signer = Signer {
                access_key_id: KEY,
                secret_access_key: SECRET,
                region: REGION,
                service: "lambda",
                path_style: PathStyle::Twice,
                content_sha256: false,
            };
            let (path, query) = path.split_once('?').unwrap_or((path, ""));
            let request = Request { method, path, query };
            signer
                .sign_headers(request, &mut headers, Body::Bytes(body), jiff::Timestamp::now())
                .expect("a signature");
        }
        let mut head = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
        for (name, value) in &headers {
            head += &format!("{name}: {}\r\n", value.to_str().expect("text"));
        }
        head += &format!("content-length: {}\r\n\r\n", body.len());
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let end = super::find(&answer, b"\r\n\r\n");
        let end = end.ok_or_else(|| std::io::Error::other("no head"))?;
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let status = head.get(9..12).and_then(|s| s.parse().ok()).unwrap_or(0);
        Ok(Answer { status, head, body: answer[end + 4..].into() })
    }

    /// A signed request that must succeed.
    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let answer = self.exchange(method, path, &bytes, true).expect("an answer");
        let text = String::from_utf8_lossy(&answer.body);
        assert!((200..300).contains(&answer.status), "{method} {path}: {} {text}", answer.status);
        if answer.body.is_empty() { Value::Null } else { answer.json() }
    }

    /// Creates a function; `more` goes over the usual members.
    #[track_caller]
    pub fn create(&self, name: &str, runtime: &str, package: &[u8], more: Value) {
        let mut wanted = json!({
            "FunctionName": name,
            "Runtime": runtime,
            "Role": ROLE,
            "Handler": "app.handler",
            "Timeout": 60,
            "Code": { "ZipFile": STANDARD.encode(package) },
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            wanted[key] = value.clone();
        }
        self.ask("POST", "/2015-03-31/functions", &wanted);
        wait_for("the function to be active", SOON, || {
            let path = format!("/2015-03-31/functions/{name}/configuration");
            (self.ask("GET", &path, &Value::Null)["State"] == "Active").then_some(())
        });
    }

    /// Publishes a layer; the ARN of its version.
    #[track_caller]
    pub fn layer(&self, name: &str, package: &[u8]) -> String {
        let wanted = json!({ "Content": { "ZipFile": STANDARD.encode(package) } });
        let made = self.ask("POST", &format!("/2018-10-31/layers/{name}/versions"), &wanted);
        made["LayerVersionArn"].as_str().expect("an ARN").to_owned()
    }

    /// Runs an event: its result, or the function's error with the error's kind.
    #[track_caller]
    pub fn try_invoke(&self, name: &str, event: &Value) -> Result<Value, Value> {
        let path = format!("/2015-03-31/functions/{name}/invocations");
        let answer =
            self.exchange("POST", &path, event.to_string().as_bytes(), true).expect("an answer");
        let text = String::from_utf8_lossy(&answer.body);
        assert_eq!(answer.status, 200, "{name}: {text}\n{}", self.log());
        if answer.header("x-amz-function-error").is_some() {
            Err(answer.json())
        } else {
            Ok(answer.json())
        }
    }

    #[track_caller]
    pub fn invoke(&self, name: &str, event: &Value) -> Value {
        self.try_invoke(name, event).unwrap_or_else(|e| panic!("{name}: {e}\n{}", self.log()))
    }

    /// The only start of `name` found no runtime that was up, for this reason; held or not.
    #[track_caller]
    pub fn started_its_runtime(&self, name: &str, why: &str) {
        let boots = self.boots(name);
        let [Boot::Full(said) | Boot::Held(said)] = &boots[..] else { panic!("{boots:?}") };
        assert!(said.starts_with(why), "{said}");
    }

    /// How this function's sandboxes came to be, in order.
    pub fn boots(&self, name: &str) -> Vec<Boot> {
        let is_its = format!("function=\"{name}\"");
        let log = self.log();
        let lines = log.lines().filter(|l| l.contains(&is_its));
        lines
            .filter_map(|line| {
                let field = |key: &str| {
                    let (_, rest) = line.split_once(&format!(" {key}=\""))?;
                    Some(rest.split_once('"').map_or(rest, |(value, _)| value).to_owned())
                };
                match field("boot")?.as_str() {
                    "preboot" => Some(Boot::Ahead),
                    "image" => Some(Boot::Image),
                    "held" => Some(Boot::Held(field("why").unwrap_or_default())),
                    _ => Some(Boot::Full(field("why").unwrap_or_default())),
                }
            })
            .collect()
    }

    /// Sees that this function has had one sandbox, a claimed one.
    #[track_caller]
    pub fn was_claimed(&self, name: &str) {
        assert_eq!(self.boots(name), [Boot::Ahead], "{name}\n{}", self.log());
    }

    /// The process without other threads that makes sandboxes.
    pub fn launcher(&self) -> u32 {
        // Where another program started kennel, it has exec'd: the pid is kennel's.
        children(self.pid())[0]
    }

    /// First processes of all sandboxes.
    fn inits(&self) -> Vec<u32> {
        let named = |pid: &u32| name_of(*pid) == "kennel-init";
        children(self.launcher()).into_iter().filter(named).collect()
    }

    /// The language's processes of all sandboxes that are past their exec.
    pub fn programs(&self) -> Vec<u32> {
        let mut all: Vec<u32> = self.inits().into_iter().flat_map(children).collect();
        all.retain(|pid| !matches!(name_of(*pid).as_str(), "kennel-init" | "kennel-held" | ""));
        all.sort_unstable();
        all
    }

    /// The processes that wait before their exec.
    pub fn held(&self) -> Vec<u32> {
        let mut all: Vec<u32> = self.inits().into_iter().flat_map(children).collect();
        all.retain(|pid| name_of(*pid) == "kennel-held");
        all
    }

    /// Waits until at least `count` are held, and the server knows.
    #[track_caller]
    pub fn wait_for_held(&self, count: usize) -> Vec<u32> {
        let found = wait_for("sandboxes that are held", SOON, || {
            let found = self.held();
            (found.len() >= count).then_some(found)
        });
        std::thread::sleep(Duration::from_millis(300));
        found
    }

    /// What `/_kennel/metrics` tells.
    pub fn metrics(&self) -> String {
        let answer = self.exchange("GET", "/_kennel/metrics", b"", false).expect("an answer");
        String::from_utf8_lossy(&answer.body).into_owned()
    }

    /// Those of them that have no code, and sit still: they wait for it. Their program's file name begins with
    /// `language`.
    pub fn waiting(&self, language: &str) -> Vec<u32> {
        let waits =
            |pid: &u32| runs(*pid, language) && has_no_code(*pid) && is_asleep_in_a_socket(*pid);
        self.programs().into_iter().filter(waits).collect()
    }

    /// Waits until at least `count` sandboxes of this language wait, and the server knows.
    #[track_caller]
    pub fn wait_for_waiting(&self, language: &str, count: usize) -> Vec<u32> {
        let found = wait_for("sandboxes that wait", SOON, || {
            let found = self.waiting(language);
            (found.len() >= count).then_some(found)
        });
        // What asked `claim` is on the shelf a moment later.
        std::thread::sleep(Duration::from_millis(300));
        found
    }

    /// The folders of the control groups of a process, by controller; v2's under the empty name.
    pub fn groups(pid: u32) -> Vec<(String, PathBuf)> {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        text.lines()
            .filter_map(|line| {
                let mut parts = line.splitn(3, ':').skip(1);
                let (controllers, path) = (parts.next()?, parts.next()?);
                Some((controllers.to_owned(), path.trim_start_matches('/').into()))
            })
            .collect()
    }

    pub fn signal(&self, signal: Signal) {
        kill(pid(self.pid()), signal).expect("the server is alive");
    }

    /// Waits for its end; the exit status, if it has one.
    #[track_caller]
    pub fn wait(&mut self) -> Option<i32> {
        let status = wait_for("the server's end", SOON, || self.child.try_wait().expect("a child"));
        status.code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = kill(pid(self.pid()), Signal::SIGTERM);
            let began = Instant::now();
            while began.elapsed() < Duration::from_secs(15) {
                if self.child.try_wait().is_ok_and(|status| status.is_some()) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = killpg(pid(self.pid()), Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

/// The newest runtime here whose name begins so, such as `nodejs`; `None` where there is none.
pub fn runtime(prefix: &str) -> Option<String> {
    runtimes(prefix).into_iter().next()
}

/// All runtimes here whose name begins so, newest first.
pub fn runtimes(prefix: &str) -> Vec<String> {
    let output = super::kennel().args(["runtimes", "--json"]).output().expect("kennel runs");
    let rows: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let rows = rows.as_array().expect("a list").iter().rev();
    let names = rows.filter(|row| row["status"] == "yes").filter_map(|row| row["runtime"].as_str());
    names.filter(|name| name.starts_with(prefix)).map(str::to_owned).collect()
}

/// The name of a process; empty once it is gone.
pub fn name_of(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// Whether the program's file name begins so: threads' names say anything.
fn runs(pid: u32, language: &str) -> bool {
    let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    program.file_name().is_some_and(|name| name.to_string_lossy().starts_with(language))
}

/// The mounts that a process sees, a line each.
pub fn mounts_of(pid: u32) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn has_no_code(pid: u32) -> bool {
    let mounts = mounts_of(pid);
    !mounts.is_empty() && !mounts.iter().any(|l| l.split(' ').nth(4) == Some("/var/task"))
}

/// Whether the process's first thread sleeps, with a connection to the Runtime API open.
fn is_asleep_in_a_socket(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let asleep = stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S'));
    let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut links = open.filter_map(|e| fs::read_link(e.path()).ok());
    asleep && links.any(|l| l.to_string_lossy().starts_with("socket:"))
}
