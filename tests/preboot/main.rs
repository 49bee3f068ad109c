//! Sandboxes that `kennel serve` makes ahead of their functions: a claimed one has every wall of one that was made for
//! its function, belongs to it alone, and those that wait are bounded, watched and removed.
//!
//! Needs root and a Python; some tests a C compiler, Node.js, a JDK, Go, unshare(1) and nsenter(1). Says so where it skips.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

#[path = "../common/mod.rs"]
mod common;
mod held;
mod images;
mod java;
mod launcher;
mod owned;
mod waiting;
mod walls;

use std::fs;
use std::path::{Path, PathBuf};

use common::server::{Server, mounts_of};
use common::{python_runtime, sandboxes, skip, zip};
use serde_json::{Value, json};

const REGULAR: u32 = 0o644;

/// A Python for functions; `None`: nothing of this can be tested here, and the reason is printed.
fn python() -> Option<&'static str> {
    if !sandboxes() {
        return None;
    }
    let runtime = python_runtime();
    if runtime.is_none() {
        skip("no Python for the function");
    }
    runtime
}

fn package(code: &str) -> Vec<u8> {
    zip(&[("app.py", common::dedent(code).as_bytes(), REGULAR)])
}

/// Evaluates the event's expression with a few modules at hand; an `OSError` is its name.
const EVALUATE: &str = r#"
    import errno, os, socket, subprocess, time

    HELD = []

    def read(path):
        with open(path, "rb") as file:
            return file.read().decode("latin-1")

    def write(path, text="x"):
        with open(path, "w") as file:
            file.write(text)
        return "OK"

    def claim(address):
        client = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        client.settimeout(5)
        client.connect(tuple(address) if isinstance(address, list) else address)
        client.sendall(b"GET /kennel/claim HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return client.recv(65536).decode("latin-1").split(" ")[1]

    def hold(megabytes):
        HELD.append(b"x" * (megabytes << 20))
        return "OK"

    def handler(event, context):
        answers = []
        for expression in event["ask"]:
            try:
                answers.append(eval(expression))
            except OSError as error:
                answers.append(errno.errorcode.get(error.errno, str(error)))
        return answers
"#;

/// Has a function of [`EVALUATE`] answer expressions.
#[track_caller]
fn ask(server: &Server, function: &str, expressions: &[&str]) -> Vec<Value> {
    let answers = server.invoke(function, &json!({ "ask": expressions }));
    answers.as_array().unwrap().clone()
}

/// The package of [`EVALUATE`].
fn evaluating() -> Vec<u8> {
    package(EVALUATE)
}

/// A server with sandboxes of `runtime` that wait, kept there by a function that is never invoked.
#[track_caller]
fn server_with_waiting(runtime: &str, flags: &[&str], count: usize) -> Server {
    let server = Server::start(flags);
    wait_for_language(&server, runtime, count);
    server
}

#[track_caller]
fn wait_for_language(server: &Server, runtime: &str, count: usize) {
    server.create("never-invoked", runtime, &evaluating(), json!({}));
    let language = if runtime.starts_with("python") { "python" } else { "node" };
    server.wait_for_waiting(language, count);
}

/// One line of a process's status.
fn status(pid: u32, key: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix(key)).unwrap();
    line.trim().to_owned()
}

/// A control file of the sandbox that `pid` is in: v1's, or else v2's.
fn control_file(pid: u32, controller: &str, v1: &str, v2: &str) -> Option<String> {
    let groups = Server::groups(pid);
    let of = |name: &str| groups.iter().find(|(all, _)| all.split(',').any(|c| c == name));
    let base = Path::new("/sys/fs/cgroup");
    let first = of(controller).map(|(all, path)| {
        let folder = if base.join(all).is_dir() { base.join(all) } else { base.join(controller) };
        folder.join(path).join(v1)
    });
    let second = of("").map(|(_, path)| {
        let unified = base.join("unified");
        if unified.is_dir() { unified } else { base.into() }.join(path).join(v2)
    });
    let files = first.into_iter().chain(second);
    let mut texts = files.filter_map(|file: PathBuf| fs::read_to_string(file).ok());
    texts.next().map(|text| text.trim().to_owned())
}

fn memory_limit(pid: u32) -> Option<u64> {
    control_file(pid, "memory", "memory.limit_in_bytes", "memory.max")?.parse().ok()
}

/// Thousandths of a core.
fn cpu_limit(pid: u32) -> Option<u64> {
    let number = |text: &str| text.parse::<u64>().ok();
    if let Some(quota) = control_file(pid, "cpu", "cpu.cfs_quota_us", "-") {
        let period = control_file(pid, "cpu", "cpu.cfs_period_us", "-")?;
        return Some(number(&quota)? * 1000 / number(&period)?);
    }
    let both = control_file(pid, "cpu", "-", "cpu.max")?;
    let (quota, period) = both.split_once(' ')?;
    Some(number(quota)? * 1000 / number(period)?)
}

/// The one program that has code, beside those of `before`.
#[track_caller]
fn new_program(server: &Server, before: &[u32]) -> u32 {
    let mut found = claimed_programs(server);
    found.retain(|pid| !before.contains(pid));
    assert_eq!(found.len(), 1, "{found:?}, before {before:?}");
    found[0]
}

/// The programs of sandboxes that have code.
fn claimed_programs(server: &Server) -> Vec<u32> {
    let has_code = |pid: &u32| mounts_of(*pid).iter().any(|l| mount_point(l) == "/var/task");
    server.programs().into_iter().filter(has_code).collect()
}

fn mount_point(line: &str) -> &str {
    line.split(' ').nth(4).unwrap_or_default()
}

/// The last name in a path.
fn name_in(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}
