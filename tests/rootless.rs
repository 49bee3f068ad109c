//! Kennel for a user without privilege: refused by name, or weaker where that is allowed by name.
//!
//! Needs root, to become such a user.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use common::{EXECUTABLE, sandboxes};

/// What a user lacks on a host that delegates nothing to him.
const ALLOW: &str = "memory-limit,cpu-limit,pids-limit,own-uid,tmp-on-disk";

/// Runs kennel as nobody, from a folder that he can read.
fn as_nobody(folder: &Path, args: &[&str]) -> Output {
    let kennel = folder.join("kennel");
    if !kennel.exists() {
        fs::copy(env!("CARGO_BIN_EXE_kennel"), &kennel).expect("a copy");
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("a mode");
        let runtimes = Path::new(env!("CARGO_MANIFEST_DIR")).join("runtimes");
        let copied = Command::new("cp").arg("-r").arg(runtimes).arg(folder).status().expect("cp");
        assert!(copied.success());
    }
    Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(&kennel)
        .args(args)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", "/nonexistent")
        .env("KENNEL_RUNTIMES", folder.join("runtimes"))
        .current_dir("/")
        .output()
        .expect("setpriv")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn what_is_lacking_is_refused_by_name() {
    if !sandboxes() {
        return;
    }
    let folder = common::folder();
    let output = as_nobody(folder.path(), &["exec", "--", "true"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let error = text(&output.stderr);
    assert!(error.contains("--allow-degraded own-uid"), "{error}");
}

#[test]
fn what_is_allowed_by_name_runs_with_every_other_layer() {
    if !sandboxes() {
        return;
    }
    let folder = common::folder();
    let script = "id -u; grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status; \
                  touch /usr/x || echo read-only; ls /proc/self/ns/net -l | cut -d[ -f2";
    let args = ["exec", "--json", "--allow-degraded", ALLOW, "--", "sh", "-c", script];
    let output = as_nobody(folder.path(), &args);
    let (out, error) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{error}");
    for line in ["993", "CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2", "read-only"] {
        assert!(out.lines().any(|l| l == line), "{line} in {out}");
    }
    let host = fs::read_link("/proc/self/ns/net").expect("a namespace");
    let number = out.lines().last().unwrap_or_default().trim_end_matches(']');
    assert!(!host.to_string_lossy().contains(number), "the host's network: {out}");
    let receipt = error.lines().last().unwrap_or_default();
    for weaker in ["own-uid", "tmp-on-disk"] {
        assert!(receipt.contains(weaker), "the receipt names {weaker}: {error}");
    }
}

#[test]
fn a_handler_runs() {
    if !sandboxes() {
        return;
    }
    // The oldest name, so that whatever Python the user can reach serves it.
    let runtime = "python3.6";
    let folder = common::folder();
    let code = b"def handler(event, context):\n    return event\n";
    let zip = folder.path().join("app.zip");
    fs::write(&zip, common::zip(&[("app.py", code, EXECUTABLE)])).expect("a zip");
    fs::set_permissions(&zip, fs::Permissions::from_mode(0o644)).expect("a mode");
    let zip = zip.display().to_string();
    let args = ["invoke", &zip, "--runtime", runtime, "--handler", "app.handler", "--event", "7"];
    let args = [&args[..], &["--allow-degraded", ALLOW]].concat();
    let output = as_nobody(folder.path(), &args);
    let error = text(&output.stderr);
    if output.status.code() == Some(3) && error.contains("cannot run here") {
        return common::skip("the interpreter lies where another user cannot reach it");
    }
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(0), "7"), "{error}");
}
