//! What must not work in a sandbox: one probe program, one table (`tests/probes/table.toml`), each row run outside and
//! inside. *Outside* proves that the probe would notice a hole.
//!
//! Needs root and a C compiler; says so where it skips.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod common;

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{children, sandboxes, skip, wait_for};
use serde::Deserialize;

const KENNEL: &str = env!("CARGO_BIN_EXE_kennel");

#[derive(Deserialize)]
struct Table {
    row: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    what: String,
    probe: String,
    #[serde(default)]
    args: Vec<String>,
    outside_args: Option<Vec<String>>,
    outside: String,
    inside: String,
}

/// Compiles the probe; `None` where that cannot be.
fn probe(folder: &Path) -> Option<PathBuf> {
    if !sandboxes() {
        return None;
    }
    let out = folder.join("probe");
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/probes/build");
    let status = Command::new(build).arg(&out).status();
    if !status.is_ok_and(|s| s.success()) {
        skip("the probe program cannot be compiled (Debian: gcc, libc6-dev)");
        return None;
    }
    Some(out)
}

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

/// What the probe said behind its name.
fn said(probe: &str, output: &str) -> String {
    let prefix = format!("{probe}: ");
    match output.lines().find_map(|l| l.strip_prefix(&prefix)) {
        Some(text) => text.to_owned(),
        None => format!("(nothing; it printed {output:?})"),
    }
}

fn matches(got: &str, wanted: &str) -> bool {
    wanted.split('|').any(|w| match w.strip_suffix('*') {
        Some(prefix) => got.starts_with(prefix),
        None => got == w,
    })
}

#[test]
fn every_row_of_the_table_holds() {
    let folder = tempfile::tempdir().unwrap();
    let Some(probe) = probe(folder.path()) else { return };
    let table =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/probes/table.toml"))
            .unwrap();
    let table: Table = toml::from_str(&table).unwrap();
    assert!(table.row.len() > 100, "the table has {} rows", table.row.len());

    let mut sleeper = Command::new("sleep").arg("600").spawn().unwrap();
    let secret = folder.path().join("secret");
    fs::write(&secret, "x").unwrap();
    let name = format!("kennel-escape-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _abstract = UnixListener::bind_addr(&address).unwrap();
    let socket = folder.path().join("socket");
    let _socket = UnixListener::bind(&socket).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let values = [
        ("{pid}", sleeper.id().to_string()),
        ("{secret}", secret.display().to_string()),
        ("{abstract}", name),
        ("{socket}", socket.display().to_string()),
        ("{port}", tcp.local_addr().unwrap().port().to_string()),
    ];
    let fill = |args: &[String]| -> Vec<String> {
        args.iter()
            .map(|a| values.iter().fold(a.clone(), |a, (key, value)| a.replace(key, value)))
            .collect()
    };
    let next = AtomicUsize::new(0);
    let wrong = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(row) = table.row.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outside = fill(row.outside_args.as_ref().unwrap_or(&row.args));
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
                            .args(fill(&row.args)),
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
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} rows are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_network_namespace_is_its_own_and_loopback_is_up() {
    let folder = tempfile::tempdir().unwrap();
    let Some(probe) = probe(folder.path()) else { return };
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
    if probe(folder.path()).is_none() {
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
