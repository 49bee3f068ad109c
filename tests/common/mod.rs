//! What the tests of the real binary share: packages, runs with a limit, and a look at what a run left behind.
//!
//! Every run gets a TMPDIR of its own, which must be empty when the run is over.
#![allow(dead_code, reason = "each test crate uses its own part")]

use std::ffi::OsStr;
use std::fs;
use std::io::{Cursor, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;

pub mod probes;
pub mod server;

/// No run takes longer, unless it says so itself.
const LIMIT: Duration = Duration::from_secs(90);

// ---------------------------------------------------------------------------------------------------------
// Skipping.

/// Says that a test cannot run here, on stdout and in the file that `KENNEL_SKIPPED_FILE` names.
pub fn skip(reason: &str) {
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    // Past the harness's capture, which hides what passing tests print.
    let _ = writeln!(std::io::stdout(), "SKIPPED: {test}: {reason}");
    let Some(file) = std::env::var_os("KENNEL_SKIPPED_FILE") else { return };
    let mut file = fs::File::options().append(true).create(true).open(file).expect("skip file");
    file.write_all(format!("{test}: {reason}\n").as_bytes()).expect("skip file");
}

/// Whether sandboxes can be made here; says why not.
pub fn sandboxes() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        skip("sandboxes with all their protections need root");
    }
    root
}

/// The newest Python that `kennel runtimes` finds, as a Lambda runtime name.
pub fn python_runtime() -> Option<&'static str> {
    static NAME: OnceLock<Option<String>> = OnceLock::new();
    let name = NAME.get_or_init(|| {
        let output = kennel().args(["runtimes", "--json"]).output().expect("kennel runs");
        let rows: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let rows = rows.as_array().expect("a list");
        let newest = |status: &str| {
            rows.iter().rev().find_map(|row| {
                let name = row["runtime"].as_str()?;
                (name.starts_with("python3") && row["status"] == status).then(|| name.to_owned())
            })
        };
        newest("yes").or_else(|| newest("newer"))
    });
    name.as_deref()
}

/// The host's Python, for programs that are a package's own runtime.
pub const HOST_PYTHON: &str = "/usr/bin/python3";

// ---------------------------------------------------------------------------------------------------------
// Packages.

const REGULAR: u32 = 0o644;
pub const EXECUTABLE: u32 = 0o755;

/// A zip of files, each with its mode.
pub fn zip(files: &[(&str, &[u8], u32)]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content, mode) in files {
        let options = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Deflated)
            .unix_permissions(*mode);
        zip.start_file(*name, options).expect("a zip entry");
        zip.write_all(content).expect("a zip entry");
    }
    zip.finish().expect("a zip").into_inner()
}

/// A folder that any user may look through, unlike tempfile's own: the server has a uid of its own.
pub fn folder() -> TempDir {
    let folder = tempfile::Builder::new().prefix("kennel-test-").tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("a folder");
    folder
}

/// A folder with `files`.
pub fn folder_with(files: &[(&str, &str)]) -> TempDir {
    let folder = folder();
    for (name, content) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, content).expect("a file");
    }
    folder
}

/// Takes away the indentation that `text` has in a test's source.
pub fn dedent(text: &str) -> String {
    let lines = || text.lines().filter(|l| !l.trim().is_empty());
    let indent = lines().map(|l| l.len() - l.trim_start().len()).min().unwrap_or(0);
    text.lines().map(|l| l.get(indent..).unwrap_or("").to_owned() + "\n").collect()
}

/// A function's package, runtime and handler.
#[derive(Debug)]
pub struct Function {
    folder: TempDir,
    runtime: String,
    handler: String,
}

impl Function {
    fn new(runtime: &str, handler: &str, files: &[(&str, &[u8], u32)]) -> Self {
        let folder = folder();
        fs::write(folder.path().join("package.zip"), zip(files)).expect("a file");
        Self { folder, runtime: runtime.into(), handler: handler.into() }
    }

    /// `kennel invoke` of it.
    pub fn invoke(&self) -> Run {
        let mut run = Run::new(&["invoke"]);
        run.command.arg(self.folder.path().join("package.zip"));
        run.args(&["--runtime", &self.runtime, "--handler", &self.handler])
    }
}

/// `app.handler` in Python, of `code`. `None`: it cannot run here, and the reason is printed.
pub fn python(code: &str) -> Option<Function> {
    if !sandboxes() {
        return None;
    }
    let Some(runtime) = python_runtime() else {
        skip("no Python for the function");
        return None;
    };
    let code = dedent(code);
    Some(Function::new(runtime, "app.handler", &[("app.py", code.as_bytes(), REGULAR)]))
}

/// A package that brings its own runtime: `bootstrap` is `program`.
pub fn provided(program: &[u8]) -> Option<Function> {
    if !sandboxes() {
        return None;
    }
    Some(Function::new("provided.al2023", "unused", &[("bootstrap", program, EXECUTABLE)]))
}

// ---------------------------------------------------------------------------------------------------------
// Runs.

/// The binary under test, with the repository's runtimes.
pub fn kennel() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kennel"));
    command.env("KENNEL_RUNTIMES", concat!(env!("CARGO_MANIFEST_DIR"), "/runtimes"));
    command
}

/// One run of `kennel`, to be.
#[derive(Debug)]
pub struct Run {
    pub command: Command,
    stdin: Vec<u8>,
    limit: Duration,
    tmp: TempDir,
}

impl Run {
    pub fn new(args: &[&str]) -> Self {
        let tmp = folder();
        let mut command = kennel();
        // A group of its own, so that signals can go to all of it, as a terminal's do.
        command.args(args).env("TMPDIR", tmp.path()).process_group(0);
        Self { command, stdin: Vec::new(), limit: LIMIT, tmp }
    }

    pub fn args(mut self, args: &[&str]) -> Self {
        self.command.args(args);
        self
    }

    pub fn path(mut self, path: impl AsRef<OsStr>) -> Self {
        self.command.arg(path);
        self
    }

    pub fn event(self, event: &str) -> Self {
        self.args(&["--event", event])
    }

    pub fn stdin(mut self, bytes: &[u8]) -> Self {
        self.stdin = bytes.into();
        self
    }

    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.command.env(key, value);
        self
    }

    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    pub fn start(self) -> Live {
        let Self { mut command, stdin, limit, tmp } = self;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let began = Instant::now();
        let mut child = command.spawn().expect("kennel starts");
        let mut pipe = child.stdin.take().expect("stdin");
        std::thread::spawn(move || drop(pipe.write_all(&stdin)));
        let stdout = reader(child.stdout.take().expect("stdout"));
        let stderr = reader(child.stderr.take().expect("stderr"));
        Live { child, stdout, stderr, began, limit, tmp: Some(tmp) }
    }

    pub fn run(self) -> Done {
        self.start().wait()
    }
}

fn reader(mut pipe: impl Read + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}

/// A run under way.
#[derive(Debug)]
pub struct Live {
    child: Child,
    stdout: mpsc::Receiver<Vec<u8>>,
    stderr: mpsc::Receiver<Vec<u8>>,
    began: Instant,
    limit: Duration,
    tmp: Option<TempDir>,
}

impl Live {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kennel's own folder for temporary files.
    pub fn tmp(&self) -> &Path {
        self.tmp.as_ref().expect("still running").path()
    }

    /// Sends `signal` to `kennel` alone.
    pub fn signal(&self, signal: Signal) {
        kill(pid(self.pid()), signal).expect("kennel is alive");
    }

    /// Sends `signal` to all of the process group, as a terminal does.
    pub fn signal_group(&self, signal: Signal) {
        killpg(pid(self.pid()), signal).expect("kennel is alive");
    }

    /// Waits for the end, and sees that nothing is left in TMPDIR.
    pub fn wait(mut self) -> Done {
        let tmp = self.tmp.take().expect("waited for once");
        let done = self.finish();
        let left = names(tmp.path());
        assert!(left.is_empty(), "left in TMPDIR: {left:?}\n{done:?}");
        done
    }

    /// The same, whatever is left; with what is.
    pub fn wait_untidy(mut self) -> (Done, TempDir) {
        let tmp = self.tmp.take().expect("waited for once");
        (self.finish(), tmp)
    }

    fn finish(&mut self) -> Done {
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            if self.began.elapsed() > self.limit {
                let _ = killpg(pid(self.pid()), Signal::SIGKILL);
                let _ = self.child.wait();
                let stderr = self.stderr.recv_timeout(Duration::from_secs(5)).unwrap_or_default();
                panic!("no end after {:?}; stderr:\n{}", self.limit, lossy(&stderr));
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let wall = self.began.elapsed();
        // Whoever still holds the pipes outlived kennel.
        let rest = |pipe: &mpsc::Receiver<Vec<u8>>| {
            pipe.recv_timeout(Duration::from_secs(5)).expect("a process outlived kennel's run")
        };
        Done {
            code: status.code(),
            signal: status.signal(),
            stdout: rest(&self.stdout),
            stderr: rest(&self.stderr),
            wall,
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if self.tmp.is_some() {
            let _ = killpg(pid(self.child.id()), Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

fn lossy(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    match text.char_indices().nth(4000) {
        Some((cut, _)) => format!("{}… ({} bytes)", &text[..cut], bytes.len()),
        None => text.into_owned(),
    }
}

/// A run that is over.
pub struct Done {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub wall: Duration,
}

impl std::fmt::Debug for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { code, signal, wall, .. } = self;
        let (stdout, stderr) = (lossy(&self.stdout), lossy(&self.stderr));
        write!(
            f,
            "exit {code:?}, signal {signal:?}, {wall:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}"
        )
    }
}

impl Done {
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// stdout, as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|e| panic!("not JSON: {e}\n{self:?}"))
    }

    /// The id in the log's START line.
    #[track_caller]
    pub fn request_id(&self) -> String {
        let err = self.err();
        let id = err.lines().find_map(|l| l.strip_prefix("START RequestId: ")?.split(' ').next());
        id.unwrap_or_else(|| panic!("no START line\n{self:?}")).to_owned()
    }

    /// What the function printed: the bytes between the START line and the END line.
    #[track_caller]
    pub fn printed(&self) -> &[u8] {
        let id = self.request_id();
        let start = format!("START RequestId: {id} Version: $LATEST\n");
        let end = format!("END RequestId: {id}\n");
        let from = find(&self.stderr, start.as_bytes()).expect("a START line") + start.len();
        let to = find(&self.stderr, end.as_bytes()).expect("an END line");
        &self.stderr[from..to]
    }

    /// The fields of the REPORT line.
    #[track_caller]
    pub fn report(&self) -> Vec<String> {
        let err = self.err();
        let line = err.lines().find(|l| l.starts_with("REPORT RequestId: "));
        let line = line.unwrap_or_else(|| panic!("no REPORT line\n{self:?}"));
        line.split('\t').map(str::to_owned).collect()
    }

    /// Sees that stdout is exactly AWS's error object of `kind`, whose message names this run's request.
    #[track_caller]
    pub fn is_error(&self, kind: &str, message: &str) {
        let id = self.request_id();
        let object = format!(
            "{{\"errorType\":\"{kind}\",\"errorMessage\":\"RequestId: {id} Error: {message}\"}}"
        );
        assert_eq!(self.out(), object, "{self:?}");
        assert_eq!(self.code, Some(1), "{self:?}");
    }

    /// Sees that stderr is an error in three parts, each with its text: what failed, why, and what to do.
    #[track_caller]
    pub fn explains(&self, error: &str, causes: &[&str], hint: Option<&str>) {
        let err = self.err();
        let mut lines = err.lines();
        let first = lines.next().unwrap_or_default();
        assert!(first.starts_with("Error: ") && first.contains(error), "{self:?}");
        if !causes.is_empty() {
            assert_eq!(lines.next(), Some("Caused by:"), "{self:?}");
        }
        for (number, cause) in causes.iter().enumerate() {
            let line = lines.next().unwrap_or_default();
            let numbered = line.starts_with(&format!("{}: ", number + 1));
            assert!(numbered && line.contains(cause), "{line} is not {cause}\n{self:?}");
        }
        match hint {
            Some(hint) => {
                let line = lines.next().unwrap_or_default();
                assert!(line.starts_with("Hint: ") && line.contains(hint), "{line}\n{self:?}");
            }
            None => assert_eq!(lines.next(), None, "{self:?}"),
        }
        assert!(self.stdout.is_empty(), "{self:?}");
    }
}

pub fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|w| w == what)
}

// ---------------------------------------------------------------------------------------------------------
// The host, seen from outside.

pub fn pid(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).expect("a pid"))
}

pub fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

/// Seconds for a sleep(1) that no other process has: a mark that is seen in `/proc/PID/cmdline`.
pub fn mark() -> String {
    format!("4321.{}", uuid::Uuid::new_v4().as_u128() % 1_000_000_000_000)
}

fn processes() -> Vec<u32> {
    names(Path::new("/proc")).iter().filter_map(|name| name.parse().ok()).collect()
}

/// Processes with `argument` among their arguments, exactly.
pub fn processes_with(argument: &str) -> Vec<u32> {
    let has = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|b| *b == 0).any(|a| a == argument.as_bytes())
    };
    processes().into_iter().filter(has).collect()
}

/// Children of `parent`.
pub fn children(parent: u32) -> Vec<u32> {
    let is_child = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name is in parentheses, and may hold anything.
        let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        rest.split(' ').nth(1) == Some(&parent.to_string())
    };
    processes().into_iter().filter(is_child).collect()
}

/// Control groups of the launcher `pid`, in every tree.
pub fn groups_of(pid: u32) -> Vec<PathBuf> {
    fn look(folder: &Path, prefix: &str, found: &mut Vec<PathBuf>) {
        let Ok(entries) = fs::read_dir(folder) else { return };
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                if entry.file_name().to_string_lossy().starts_with(prefix) {
                    found.push(entry.path());
                }
                look(&entry.path(), prefix, found);
            }
        }
    }
    let mut found = Vec::new();
    look(Path::new("/sys/fs/cgroup"), &format!("kennel-{pid}-"), &mut found);
    found
}

/// The loop device under the `/tmp` that process `pid` sees, as device and backing file.
pub fn tmp_image(pid: u32) -> Option<(String, String)> {
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).ok()?;
    let line = mounts.lines().find(|l| l.split(' ').nth(4) == Some("/tmp"))?;
    let device = line.split(' ').nth(2)?.to_owned();
    let backing = backing_file(&device)?;
    Some((device, backing))
}

/// What is behind a loop device now, with the number that each attachment of it has: an inode's is used again soon.
pub fn backing_file(device: &str) -> Option<String> {
    let read = |file| fs::read_to_string(format!("/sys/dev/block/{device}/{file}")).ok();
    Some(format!("{} {}", read("loop/backing_file")?.trim_end(), read("diskseq")?.trim_end()))
}

/// Mounts of this namespace with `text` in them.
pub fn mounts_with(text: &str) -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    mounts.lines().filter(|l| l.contains(text)).map(str::to_owned).collect()
}

/// Waits until `done` gives something, and fails the test after `limit`.
#[track_caller]
pub fn wait_for<T>(what: &str, limit: Duration, mut done: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(began.elapsed() < limit, "waited {limit:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Everything of a running sandbox that must be gone afterwards, seen while it is there.
#[derive(Debug)]
pub struct Traces {
    mark: String,
    launcher: u32,
    groups: Vec<PathBuf>,
    image: (String, String),
}

impl Traces {
    /// Waits until the process marked by `mark` runs in a sandbox of `launcher`, and looks around.
    #[track_caller]
    pub fn of(mark: &str, launcher: impl Fn() -> Option<u32>) -> Self {
        let second = Duration::from_secs(30);
        let inside = wait_for("the sandbox", second, || processes_with(mark).first().copied());
        let launcher = launcher().expect("a launcher");
        let groups = groups_of(launcher);
        assert!(!groups.is_empty(), "a live sandbox has control groups");
        let image = tmp_image(inside).expect("a live sandbox has /tmp on a loop device");
        Self { mark: mark.into(), launcher, groups, image }
    }

    /// What is still there.
    pub fn left(&self) -> Vec<String> {
        let mut left: Vec<String> = processes_with(&self.mark)
            .iter()
            .chain(children(self.launcher).iter())
            .map(|pid| format!("process {pid}"))
            .collect();
        left.extend(self.left_groups());
        if backing_file(&self.image.0).as_ref() == Some(&self.image.1) {
            left.push(format!("loop device {} on {}", self.image.0, self.image.1));
        }
        left
    }

    pub fn left_groups(&self) -> Vec<String> {
        let exist = self.groups.iter().filter(|g| g.exists());
        exist.map(|g| format!("cgroup {}", g.display())).collect()
    }

    /// Sees that nothing is left, after a moment at most: kennel's caller need not wait for the kernel's cleaning.
    #[track_caller]
    pub fn are_gone(&self) {
        let began = Instant::now();
        while !self.left().is_empty() {
            assert!(began.elapsed() < Duration::from_secs(5), "left behind: {:?}", self.left());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
