//! What must not work in a sandbox: one probe program, one table (`tests/probes/table.toml`), each row run outside and
//! inside. *Outside* proves that the probe would notice a hole.
//!
//! Needs root and a C compiler; says so where it skips.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::probes::{self, Targets, matches, said};
use common::{children, wait_for};

const KENNEL: &str = env!("CARGO_BIN_EXE_kennel");

/// Runs a command for at most 60 s; what it printed on stdout.
fn output(command: &mut Command) -> String {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = stdout.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    let end = Instant::now() + Duration::from_secs(60);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > end {
            let _ = child.kill();
            let _ = child.wait();
            return "TIMED OUT".into();
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    reader.join().unwrap()
}

#[test]
fn every_row_of_the_table_holds() {
    let folder = tempfile::tempdir().unwrap();
    let Some(probe) = probes::build(folder.path()) else { return };
    let table = probes::table();
    let targets = Targets::new(folder.path());
    let next = AtomicUsize::new(0);
    let wrong = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(row) = table.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outside = targets.fill(row.outside_args.as_ref().unwrap_or(&row.args));
                    let out = output(Command::new(&probe).arg(&row.probe).args(outside));
                    let out = said(&row.probe, &out);
                    if !matches(&out, &row.outside) {
                        wrong.lock().unwrap().push(format!(
                            "{} ({}): the probe itself is broken: outside it says {out}, wanted {}",
                            row.what, row.probe, row.outside
                        ));
                    }
                    let inside = output(
                        Command::new(KENNEL)
                            .args(["exec", "--ro"])
                            .arg(&probe)
                            .arg("--")
                            .arg(&probe)
                            .arg(&row.probe)
                            .args(targets.fill(&row.args)),
                    );
                    let inside = said(&row.probe, &inside);
                    if !matches(&inside, &row.inside) {
                        wrong.lock().unwrap().push(format!(
                            "{} ({}): not denied as designed: inside it says {inside}, wanted {}",
                            row.what, row.probe, row.inside
                        ));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} rows are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_network_namespace_is_its_own_and_loopback_is_up() {
    let folder = tempfile::tempdir().unwrap();
    let Some(probe) = probes::build(folder.path()) else { return };
    let inside = |name: &str| {
        said(
            "ns-inode",
            &output(
                Command::new(KENNEL)
                    .args(["exec", "--ro"])
                    .arg(&probe)
                    .arg("--")
                    .arg(&probe)
                    .args(["ns-inode", name]),
            ),
        )
    };
    for namespace in ["user", "pid", "mnt", "net", "ipc", "uts", "cgroup"] {
        let host = said("ns-inode", &output(Command::new(&probe).args(["ns-inode", namespace])));
        assert_ne!(inside(namespace), host, "{namespace}");
    }
}

#[test]
fn no_two_live_sandboxes_share_a_host_uid() {
    let folder = tempfile::tempdir().unwrap();
    if probes::build(folder.path()).is_none() {
        return;
    }
    let mut children: Vec<_> = (0..4)
        .map(|_| {
            Command::new(KENNEL)
                .args(["exec", "--", "sleep", "31.337"])
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    let end = Instant::now() + Duration::from_secs(20);
    let uids = loop {
        let mut uids: Vec<u32> = fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter(|e| fs::read(e.path().join("cmdline")).is_ok_and(|c| c == b"sleep\x0031.337\0"))
            .filter_map(|e| {
                let status = fs::read_to_string(e.path().join("status")).ok()?;
                let uid = status.lines().find_map(|l| l.strip_prefix("Uid:"))?;
                uid.split_whitespace().next()?.parse().ok()
            })
            .collect();
        uids.sort_unstable();
        if uids.len() == 4 || Instant::now() > end {
            break uids;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    for child in &mut children {
        let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(143));
    }
    assert_eq!(uids.len(), 4, "{uids:?}");
    let mut different = uids.clone();
    different.dedup();
    assert_eq!(different, uids, "two share a uid");
    assert!(uids.iter().all(|uid| *uid >= kennel::sandbox::HOST_UID_BASE), "{uids:?}");
}

/// One line of a process's status.
fn status(pid: u32, key: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix(key)).unwrap();
    line.trim().to_owned()
}

#[test]
fn what_parses_is_not_root_and_init_holds_nothing() {
    let mark = common::mark();
    let code = format!(
        "import subprocess\ndef handler(event, context):\n    subprocess.run(['sleep', '{mark}'])\n"
    );
    let Some(function) = common::python(&code) else { return };
    let live = function.invoke().args(&["--timeout", "120"]).start();
    let server = live.pid();
    wait_for("the function to run", Duration::from_secs(30), || {
        (!common::processes_with(&mark).is_empty()).then_some(())
    });
    // The server parses the zip and speaks to the sandbox.
    for uid in status(server, "Uid:").split_whitespace() {
        assert_ne!(uid, "0", "the server's uids");
    }
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(status(server, set), "0000000000000000", "the server's {set}");
    }
    assert_eq!(status(server, "NoNewPrivs:"), "1");
    // The launcher is root and parses nothing.
    let launcher = children(server)[0];
    assert!(status(launcher, "Uid:").starts_with("0\t"));
    // Init shares the sandbox's uid: it has given up what it could give away.
    let init = children(launcher)[0];
    assert_eq!(status(init, "Name:"), "kennel-init");
    let open: Vec<String> = common::names(Path::new(&format!("/proc/{init}/fd")));
    assert_eq!(open, ["0"], "init's descriptors: the status pipe alone");
    let sandbox = common::processes_with(&mark)[0];
    for pid in [init, sandbox] {
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            assert_eq!(status(pid, set), "0000000000000000", "{pid}: {set}");
        }
        assert_eq!(status(pid, "NoNewPrivs:"), "1");
        assert_eq!(status(pid, "Seccomp:"), "2");
    }
    let environment = fs::read(format!("/proc/{init}/environ")).unwrap();
    assert!(
        environment.iter().all(|byte| *byte == 0),
        "init's copy of the caller's environment is empty"
    );
    live.signal(nix::sys::signal::Signal::SIGINT);
    assert_eq!(live.wait().code, Some(130));
}
