//! Each language's example, built from its own registry and run through the real binary.
//!
//! Needs root and the language's tools; what cannot be built here is skipped with its reason.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use common::{Run, sandboxes, skip};
use serde::Deserialize;

/// `example.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Example {
    runtime: String,
    handler: String,
    event: String,
    expect: String,
}

fn works(language: &str) {
    if !sandboxes() {
        return;
    }
    // One at a time: they are compilers and package managers, and each takes all there is.
    static BUILDING: Mutex<()> = Mutex::new(());
    let one = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(language);
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("examples");
    fs::create_dir_all(&out).expect("a folder");
    let built = Command::new(folder.join("build")).arg(&out).output().expect("build");
    if !built.status.success() {
        let text = String::from_utf8_lossy(&built.stderr).into_owned();
        // A build says what it lacks in its last line and exits with 1; a compile error is no reason to skip.
        let last = text.lines().last().unwrap_or("?").to_owned();
        assert!(!text.contains("error:"), "{language}/build failed:\n{text}");
        return skip(&format!("example {language} cannot be built: {last}"));
    }
    drop(one);
    let example = fs::read_to_string(folder.join("example.toml")).expect("example.toml");
    let example: Example = toml::from_str(&example).expect("example.toml");
    let zip = out.join(format!("{language}.zip"));
    let done = Run::new(&["invoke"])
        .path(&zip)
        .args(&["--runtime", &example.runtime, "--handler", &example.handler])
        .event(&example.event)
        .limit(Duration::from_secs(60))
        .run();
    if done.code == Some(3) && done.err().contains("cannot run here") {
        return skip(&format!("example {language}: {}", done.err().lines().next().unwrap_or("?")));
    }
    let done = done.exits(0);
    assert!(done.out().contains(&example.expect), "{done:?}");
    let log = done.err();
    assert!(log.contains("START RequestId: ") && log.contains("\tInit Duration: "), "{log}");
}

#[test]
fn dotnet() {
    works("dotnet");
}

#[test]
fn go() {
    works("go");
}

#[test]
fn java() {
    works("java");
}

#[test]
fn node() {
    works("node");
}

#[test]
fn provided() {
    works("provided");
}

#[test]
fn python() {
    works("python");
}
