//! What a sandbox that was made ahead keeps out, waiting and claimed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::common::probes::{self, Row, Targets, matches, said};
use crate::common::server::{Server, Start, mounts_of, runtime};
use crate::common::{self, EXECUTABLE, sandboxes, skip, zip};
use crate::{
    EVALUATE, REGULAR, ask, claimed_programs, control_file, cpu_limit, evaluating, memory_limit,
    mount_point, name_in, python, server_with_waiting, status, wait_for_language,
};

/// Whether all that `folder` holds inside is on the way to something that is mounted.
fn leads_to_mounts(pid: u32, folder: &str) -> bool {
    let mounts = mounts_of(pid);
    let leads = |path: &Path| mounts.iter().any(|l| Path::new(mount_point(l)).starts_with(path));
    let inside = Path::new("/proc").join(pid.to_string()).join("root");
    let folder = Path::new(folder);
    let names = common::names(&inside.join(folder.strip_prefix("/").unwrap()));
    !names.is_empty() && names.iter().all(|name| leads(&folder.join(name)))
}

/// Runs every row of the table by a claimed function that starts the probe program.
fn table_holds(language: &str, runtime: &str, file: &str, code: &str, handler: &str) {
    let folder = tempfile::Builder::new().prefix("kennel-probes-").tempdir_in("/var/tmp").unwrap();
    let Some(probe) = probes::build(folder.path()) else { return };
    let package = zip(&[
        (file, common::dedent(code).as_bytes(), REGULAR),
        ("probe", &fs::read(probe).unwrap(), EXECUTABLE),
    ]);
    let server = Server::start(&["--preboot", "1"]);
    let more = json!({ "Handler": handler, "Timeout": 900, "MemorySize": 1769 });
    server.create("probes", runtime, &package, more);
    server.wait_for_waiting(language, 1);

    let targets = Targets::new(folder.path());
    let rows = probes::table();
    let runs: Vec<Vec<String>> = rows
        .iter()
        .map(|row| std::iter::once(row.probe.clone()).chain(targets.fill(&row.args)).collect())
        .collect();
    let outputs = server.invoke("probes", &json!({ "run": runs }));
    server.was_claimed("probes");
    rows_hold(&server, &rows, &outputs);
}

/// Sees that each row's probe, which said `outputs` in the only claimed sandbox, found its wall.
#[track_caller]
pub fn rows_hold(server: &Server, rows: &[Row], outputs: &Value) {
    let outputs = outputs.as_array().unwrap();
    assert_eq!(outputs.len(), rows.len());
    let mut wrong = Vec::new();
    for (row, output) in rows.iter().zip(outputs) {
        let inside = said(&row.probe, output.as_str().unwrap());
        let holds = match row.probe.as_str() {
            // The language's own threads count as well.
            "fork-bomb" => inside
                .strip_suffix(" EAGAIN")
                .and_then(|n| n.parse::<u32>().ok())
                .is_some_and(|n| (900..1022).contains(&n)),
            // An interpreter of root's own is bound there: the folders on its way are seen, and nothing else.
            "list-dir" if inside == "OK" => {
                leads_to_mounts(claimed_programs(server)[0], &row.args[0])
            }
            _ => matches(&inside, &row.inside),
        };
        if !holds {
            wrong.push(format!("{} ({}): {inside}, wanted {}", row.what, row.probe, row.inside));
        }
    }
    assert!(wrong.is_empty(), "{} rows are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_row_of_the_table_holds_in_a_claimed_sandbox_of_python() {
    let Some(runtime) = python() else { return };
    let code = "
        import subprocess

        def handler(event, context):
            def run(arguments):
                done = subprocess.run(['/var/task/probe'] + arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                      stderr=subprocess.DEVNULL, timeout=60)
                return done.stdout.decode('latin-1')
            return [run(arguments) for arguments in event['run']]
    ";
    table_holds("python", runtime, "app.py", code, "app.handler");
}

#[test]
fn every_row_of_the_table_holds_in_a_claimed_sandbox_of_node() {
    if !sandboxes() {
        return;
    }
    let Some(runtime) = runtime("nodejs2") else { return skip("no Node.js for the function") };
    let code = "
        const { spawnSync } = require('child_process');
        exports.handler = async event => event.run.map(arguments_ => spawnSync('/var/task/probe', arguments_, {
          stdio: ['ignore', 'pipe', 'ignore'], encoding: 'latin1', timeout: 60000,
        }).stdout);
    ";
    table_holds("node", &runtime, "index.js", code, "index.handler");
}

#[test]
fn one_that_waits_has_every_wall_already() {
    let Some(runtime) = python() else { return };
    let server = server_with_waiting(runtime, &["--preboot", "2"], 2);
    let waiting = server.waiting("python");
    let mut uids = BTreeSet::new();
    for &pid in &waiting {
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            assert_eq!(status(pid, set), "0000000000000000", "{set}");
        }
        assert_eq!(status(pid, "NoNewPrivs:"), "1");
        assert_eq!(status(pid, "Seccomp:"), "2");
        let uid: Vec<u32> =
            status(pid, "Uid:").split_whitespace().map(|u| u.parse().unwrap()).collect();
        assert!(
            uid.iter().all(|u| *u == uid[0] && *u >= kennel::sandbox::HOST_UID_BASE),
            "{uid:?}"
        );
        assert!(uids.insert(uid[0]), "two share a uid");
        assert_eq!(status(pid, "Groups:"), "");
        // The least that a function can have: what is claimed gets its own.
        assert_eq!(memory_limit(pid), Some(128 << 20));
        assert_eq!(cpu_limit(pid), Some(1000), "a whole core to start");
        let pids = control_file(pid, "pids", "pids.max", "pids.max").unwrap();
        assert!(pids.parse::<u32>().is_ok_and(|most| (1024..=1026).contains(&most)), "{pids}");
        let open: BTreeSet<String> = common::names(Path::new(&format!("/proc/{pid}/fd")))
            .iter()
            .map(|fd| {
                let target = fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap_or_default();
                target.to_string_lossy().split('[').next().unwrap_or_default().to_owned()
            })
            .collect();
        assert_eq!(open, ["/dev/null", "pipe:", "socket:"].map(str::to_owned).into());
        let points: Vec<String> =
            mounts_of(pid).iter().map(|l| mount_point(l).to_owned()).collect();
        assert!(!points.iter().any(|p| p == "/var/task" || p == "/var/opt"), "{points:?}");
    }
    for namespace in ["user", "pid", "mnt", "net", "ipc", "uts", "cgroup"] {
        let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{namespace}")).unwrap();
        let all: BTreeSet<PathBuf> = waiting
            .iter()
            .map(ToString::to_string)
            .chain([server.launcher().to_string()])
            .map(|pid| of(&pid))
            .collect();
        assert_eq!(all.len(), waiting.len() + 1, "{namespace}: shared with another");
    }
}

#[test]
fn what_is_attached_is_read_only_and_apart_from_the_host() {
    let Some(runtime) = python() else { return };
    // As on a host of systemd, where mounts are shared by default.
    if Command::new("unshare").arg("--version").output().is_err() {
        return skip("unshare is not installed (Debian package util-linux)");
    }
    let server =
        Start::through(&["unshare", "--mount", "--propagation", "shared"], &["--preboot", "3"])
            .start();
    wait_for_language(&server, runtime, 3);
    let layer = |name: &str, files: &[(&str, &str)]| {
        let files: Vec<_> = files.iter().map(|(n, text)| (*n, text.as_bytes(), REGULAR)).collect();
        server.layer(name, &zip(&files))
    };
    let first = layer("first", &[("both", "first"), ("python/one.py", "NAME = 'one'\n")]);
    let second = layer("second", &[("both", "second"), ("python/two.py", "NAME = 'two'\n")]);
    let third = layer("third", &[("both", "third"), ("lib/three", "3")]);
    for (name, layers) in [
        ("none", vec![]),
        ("single", vec![first.clone()]),
        ("overlaid", vec![first, second, third]),
    ] {
        let more = json!({ "Layers": layers });
        server.create(name, runtime, &evaluating(), more);
        server.wait_for_waiting("python", 1);
        let writes = [
            "write('/var/task/new')",
            "write('/var/task/app.py')",
            "os.mkdir('/var/task/folder')",
            "os.remove('/var/task/app.py')",
            "os.chmod('/var/task/app.py', 0o777)",
            "os.utime('/var/task/app.py')",
            "os.rename('/var/task/app.py', '/var/task/b')",
            "write('/opt/new')",
            "write('/var/new')",
            "os.rmdir('/var/opt')",
        ];
        for (write, answer) in writes.iter().zip(ask(&server, name, &writes)) {
            let denied = ["EROFS", "EACCES"].contains(&answer.as_str().unwrap_or_default());
            // An empty folder of the read-only root.
            let busy = answer == "EBUSY" && write.contains("rmdir");
            assert!(denied || busy, "{name}: {write}: {answer}");
        }
        server.was_claimed(name);
        let answers = ask(
            &server,
            name,
            &[
                "os.getcwd()",
                "len(read('/var/task/app.py')) > 100",
                "sorted(os.listdir('/opt'))",
                "read('/opt/both')",
                "os.path.realpath('/opt')",
                "[__import__(n).NAME for n in ('one', 'two') if os.path.exists('/opt/python/%s.py' % n)]",
                "os.statvfs('/var/task').f_flag & (os.ST_RDONLY | os.ST_NOSUID | os.ST_NODEV)",
                "os.ST_RDONLY | os.ST_NOSUID | os.ST_NODEV",
                "read('/proc/self/mountinfo')",
                // On a mount that can be written, nothing but this says so: refused by the mount, not by the mode.
                "os.access('/var/task', os.W_OK)",
            ],
        );
        let (files, top, modules) = match name {
            // The folder that ld.so(8) is to find as the process starts.
            "none" => (json!(["lib"]), json!("ENOENT"), json!([])),
            "single" => (json!(["both", "python"]), json!("first"), json!(["one"])),
            _ => (json!(["both", "lib", "python"]), json!("third"), json!(["one", "two"])),
        };
        assert_eq!(answers[0], "/var/task");
        assert_eq!(answers[1], true, "the code is read");
        assert_eq!((&answers[2], &answers[3]), (&files, &top), "{name}");
        assert_eq!(answers[4], "/var/opt");
        assert_eq!(answers[5], modules, "{name}");
        assert_eq!(answers[6], answers[7], "flags of /var/task");
        assert_eq!(answers[9], false);
        let mounts = answers[8].as_str().unwrap();
        let attached: BTreeMap<&str, Vec<&str>> =
            mounts.lines().map(|l| (mount_point(l), l.split(' ').collect())).collect();
        for point in ["/var/task", "/var/opt"] {
            match attached.get(point) {
                Some(line) => {
                    let flags: BTreeSet<&str> = line[5].split(',').collect();
                    let wanted = ["ro", "nosuid", "nodev"].into();
                    assert!(flags.is_superset(&wanted), "{name}: {line:?}");
                }
                None => assert_eq!((name, point), ("none", "/var/opt")),
            }
        }
        // Optional fields stand before the hyphen: `shared:N` and `master:N` tell of mounts that come from elsewhere.
        for line in mounts.lines() {
            let fields: Vec<&str> = line.split(' ').skip(6).take_while(|f| *f != "-").collect();
            assert!(fields.is_empty(), "{name}: the host's mounts come in, or go out: {line}");
        }
    }
    // What the host mounts upon the code later is not seen.
    let program = claimed_programs(&server)[0];
    let line = mounts_of(program).into_iter().find(|l| mount_point(l) == "/var/task").unwrap();
    let tree = line.split(' ').nth(3).unwrap().to_owned();
    let enter = |command: &[&str]| {
        let target = server.pid().to_string();
        Command::new("nsenter").args(["-t", &target, "-m"]).args(command).status().unwrap()
    };
    let tree_folder = format!("{}/data/code/sha256/{}", server.folder().display(), name_in(&tree));
    assert!(enter(&["mount", "-t", "tmpfs", "none", &tree_folder]).success());
    let seen =
        mounts_of(program).iter().filter(|l| mount_point(l).starts_with("/var/task")).count();
    assert!(enter(&["umount", &tree_folder]).success());
    assert_eq!(seen, 1, "a mount of the host's came in");
}

#[test]
fn landlock_opens_what_is_attached_later_and_not_more() {
    let Some(runtime) = python() else { return };
    if kennel::sandbox::landlock_abi() == 0 {
        return skip("no Landlock in this kernel");
    }
    let package = zip(&[
        ("app.py", common::dedent(EVALUATE).as_bytes(), REGULAR),
        ("program", b"#!/bin/sh\necho ran\n", EXECUTABLE),
    ]);
    let server = server_with_waiting(runtime, &["--preboot", "1"], 1);
    let layer = server.layer("l", &zip(&[("bin/l", b"#!/bin/sh\necho layer\n", EXECUTABLE)]));
    server.create("f", runtime, &package, json!({ "Layers": [layer] }));
    let answers = ask(
        &server,
        "f",
        &[
            // Beneath a folder that had a rule before anything was there.
            "read('/var/task/program')[:9]",
            "subprocess.check_output('/var/task/program').decode()",
            "subprocess.check_output('/opt/bin/l').decode()",
            // Shown and readable by its mode, and no rule allows it.
            "oct(os.stat('/run/kennel/.empty-file').st_mode & 0o777)",
            "read('/run/kennel/.empty-file')",
        ],
    );
    server.was_claimed("f");
    assert_eq!(answers, ["#!/bin/sh", "ran\n", "layer\n", "0o644", "EACCES"]);

    // Mounts that should not be there: everybody may write in them, by their mode.
    if Command::new("nsenter").arg("--version").output().is_err() {
        return skip("nsenter is not installed (Debian package util-linux)");
    }
    let program = claimed_programs(&server)[0];
    for point in ["/run", "/var/opt"] {
        let mounted = Command::new("nsenter")
            .args([
                "-t",
                &program.to_string(),
                "-m",
                "mount",
                "-t",
                "tmpfs",
                "-o",
                "mode=0777",
                "none",
            ])
            .arg(point)
            .status();
        assert!(mounted.unwrap().success(), "{point}");
        fs::write(format!("/proc/{program}/root{point}/secret"), "s").unwrap();
    }
    let answers = ask(
        &server,
        "f",
        &[
            "'secret' in os.listdir('/run')",
            "read('/run/secret')",
            "write('/run/x')",
            "read('/opt/secret')",
            "write('/opt/x')",
        ],
    );
    assert_eq!(
        answers,
        [json!(true), json!("EACCES"), json!("EACCES"), json!("s"), json!("EACCES")]
    );
}
