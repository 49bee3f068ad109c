//! What this machine's own kernel may not show: cgroup v2 with all controllers, other versions of Landlock, none at all.
//!
//! Each test boots a small VM by the program that `KENNEL_VM_TOOL` names (or `../shared/vm/run-in-vm`), which runs
//! `tests/vm/checks.sh` in it. Without one they are skipped.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use common::{EXECUTABLE, skip};

fn tool() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/vm/run-in-vm");
    let tool = std::env::var_os("KENNEL_VM_TOOL").map_or(beside, PathBuf::from);
    if !nix::unistd::geteuid().is_root() {
        skip("the VM needs root");
        return None;
    }
    if !tool.is_file() {
        skip("no program that boots a VM; KENNEL_VM_TOOL may name one");
        return None;
    }
    if Command::new("qemu-system-x86_64").arg("--version").output().is_err() {
        skip("no qemu-system-x86_64 (Debian package qemu-system-x86)");
        return None;
    }
    Some(tool)
}

/// Boots with `options` and runs the checks of `part`.
fn boot(options: &[&str], part: &str, at_least: usize) {
    let Some(tool) = tool() else { return };
    // One at a time: each takes a core, and is many times slower than the machine.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = common::folder();
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::copy(env!("CARGO_BIN_EXE_kennel"), folder.path().join("kennel")).expect("the binary");
    let copied = Command::new("cp")
        .args(["-r", "--"])
        .args([source.join("runtimes"), source.join("tests/vm/checks.sh")])
        .arg(folder.path())
        .status()
        .expect("cp");
    assert!(copied.success());
    let hello = b"def handler(event, context):\n    return {'hello': event['name']}\n";
    let zip = common::zip(&[("app.py", hello, EXECUTABLE)]);
    fs::write(folder.path().join("hello.zip"), zip).expect("a zip");
    // An emulated kernel sometimes dies while it boots: 125 is the tool's own status for that.
    const VM_FAILED: Option<i32> = Some(125);
    let run = || {
        Command::new(&tool)
            .args(["--cpus", "1", "--timeout", "600"])
            .args(options)
            .arg(folder.path())
            .args(["sh", "checks.sh", part])
            .output()
            .expect("the VM")
    };
    let mut output = run();
    for _ in 0..2 {
        if output.status.code() == VM_FAILED {
            output = run();
        }
    }
    if output.status.code() == VM_FAILED {
        return skip(&format!("the VM with {options:?} did not come up in three tries"));
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let good = text.lines().filter(|l| l.starts_with("ok ")).count();
    let bad: Vec<&str> = text.lines().filter(|l| l.starts_with("not ok ")).collect();
    assert!(bad.is_empty() && good >= at_least, "{good} of {at_least} checks held:\n{text}");
}

#[test]
fn cgroup_v2_with_linux_6_12_and_landlock_6() {
    boot(&[], "v2", 14);
}

#[test]
fn cgroup_v2_with_linux_6_1_and_landlock_2() {
    boot(&["--kernel", "6.1"], "short", 5);
}

#[test]
fn without_landlock_a_sandbox_is_refused_by_name() {
    boot(&["--append", "lsm=capability"], "no-landlock", 3);
}
