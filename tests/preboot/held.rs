//! Sandboxes whose program waits just before its exec: what Go, `provided*` and every function claims that must have its
//! environment at the start of its process.
//!
//! Needs a C compiler, and a Go for the net/rpc door.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use kennel::sandbox::Start;
use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};

use crate::common::probes::{self, Targets, matches, said};
use crate::common::server::{Boot, SOON, Server, mounts_of};
use crate::common::{self, EXECUTABLE, sandboxes, skip, wait_for, zip};
use crate::{
    ask, claimed_programs, control_file, cpu_limit, evaluating, memory_limit, mount_point,
    new_program, python, status,
};

const NOT_AHEAD: &str = "provided.al2 does not start ahead";

fn held_for(runtime: &str) -> Boot {
    Boot::Held(format!("{runtime} does not start ahead"))
}

/// The program of `bootstrap.c`; `None` where it cannot be compiled, and the reason is printed.
fn bootstrap() -> Option<Vec<u8>> {
    if !sandboxes() {
        return None;
    }
    let folder = common::folder();
    let out = folder.path().join("bootstrap");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/preboot/bootstrap.c");
    let built = Command::new("gcc").args(["-O1", "-static", "-o"]).arg(&out).arg(source).status();
    if !built.is_ok_and(|status| status.success()) {
        skip("no static program can be compiled (Debian: gcc, libc6-dev)");
        return None;
    }
    Some(fs::read(out).unwrap())
}

/// What a line for the shell prints in a function of [`bootstrap`].
#[track_caller]
fn shell(server: &Server, function: &str, line: &str) -> String {
    let answer = server.invoke(function, &json!(line));
    answer.as_str().unwrap().trim_end().to_owned()
}

/// A server with sandboxes that are held for `provided.al2`, by a function that is never invoked.
#[track_caller]
fn server_with_held(program: &[u8], flags: &[&str], count: usize) -> Server {
    let server = Server::start(flags);
    let package = zip(&[("bootstrap", program, EXECUTABLE)]);
    server.create("never-invoked", "provided.al2", &package, json!({}));
    server.wait_for_held(count);
    server
}

#[test]
fn a_claimed_one_is_as_if_it_had_been_made_for_its_function() {
    let Some(program) = bootstrap() else { return };
    let server = server_with_held(&program, &["--preboot", "3"], 3);
    let top = server.layer("top", &zip(&[("bin/tool", b"#!/bin/sh\necho tool\n", EXECUTABLE)]));
    let package = zip(&[("bootstrap", &program, EXECUTABLE), ("near.txt", b"near\n", 0o644)]);
    let variables = json!({ "Variables": { "MINE": "ü 'x'", "LD_BIND_NOW": "1" } });
    let more = |size: u32, memory: u32| {
        json!({
            "Environment": variables, "Layers": [top], "MemorySize": memory,
            "EphemeralStorage": { "Size": size },
        })
    };
    server.create("claimed", "provided.al2", &package, more(512, 3008));
    server.create("booted", "provided.al2", &package, more(513, 3008));
    let script = "env -0 | sort -z | tr '\\0' '\\n'; pwd; cat near.txt; tool; ls /proc/self/fd; ls /tmp; \
                  tr '\\0' '\\n' </proc/$PPID/environ | sort; ls /proc | grep -c '^[0-9]'; \
                  grep -E '^(Cap|NoNew|Seccomp:|Uid|Gid|Groups)' /proc/self/status; ulimit -a; cat /proc/self/personality";
    let of = |name: &str| {
        let text = shell(&server, name, script).replace("booted", "claimed");
        let differs = ["LAMBDA_LOG_STREAM", "AWS_LAMBDA_LOG_GROUP", "_X_AMZN_TRACE_ID"];
        let lines = text.lines().filter(|line| !differs.iter().any(|d| line.contains(d)));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let (claimed, booted) = (of("claimed"), of("booted"));
    assert_eq!(server.boots("claimed"), [held_for("provided.al2")]);
    let tmp = "/tmp of 513 MB is not the usual one";
    assert_eq!(server.boots("booted"), [Boot::Full(tmp.into())]);
    assert_eq!(claimed, booted);
    for wanted in ["near", "tool", "/var/task", "LD_BIND_NOW=1", "Seccomp:\t2", "00000000"] {
        assert!(claimed.iter().any(|line| line.starts_with(wanted)), "{wanted}: {claimed:?}");
    }
    for program in claimed_programs(&server) {
        assert_eq!(memory_limit(program), Some(3008 << 20));
        assert!(cpu_limit(program).unwrap().abs_diff(3008 * 1000 / 1769) <= 1);
    }
    // Read-only, and apart from the host.
    let mounts = shell(&server, "claimed", "cat /proc/self/mountinfo");
    for point in ["/var/task", "/var/opt"] {
        let line = mounts.lines().find(|l| mount_point(l) == point).unwrap();
        let flags: BTreeSet<&str> = line.split(' ').nth(5).unwrap().split(',').collect();
        assert!(flags.is_superset(&["ro", "nosuid", "nodev"].into()), "{line}");
    }
    let metrics = server.metrics();
    for line in [
        "kennel_starts_total{boot=\"held\",reason=\"runtime\"} 1",
        "kennel_starts_total{boot=\"full\",reason=\"EphemeralStorage\"} 1",
        "kennel_starts_total{boot=\"warm\",reason=\"\"} 1",
        "kennel_waiting_sandboxes{runtime=\"provided\",boot=\"held\"}",
    ] {
        assert!(metrics.lines().any(|l| l.starts_with(line)), "{line}\n{metrics}");
    }
}

#[test]
fn one_that_is_held_has_every_wall_and_nothing_else() {
    let Some(program) = bootstrap() else { return };
    let server = server_with_held(&program, &["--preboot", "2"], 2);
    let held = server.held();
    let mut uids = BTreeSet::new();
    for &pid in &held {
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            assert_eq!(status(pid, set), "0000000000000000", "{set}");
        }
        assert_eq!(status(pid, "NoNewPrivs:"), "1");
        assert_eq!(status(pid, "Seccomp:"), "2");
        assert_eq!(status(pid, "Groups:"), "");
        let uid = status(pid, "Uid:");
        let first: u32 = uid.split_whitespace().next().unwrap().parse().unwrap();
        assert!(first >= kennel::sandbox::HOST_UID_BASE && uids.insert(first), "{uid}");
        assert_eq!(memory_limit(pid), Some(128 << 20));
        assert_eq!(cpu_limit(pid), Some(1000));
        let pids = control_file(pid, "pids", "pids.max", "pids.max").unwrap();
        assert!(pids.parse::<u32>().is_ok_and(|most| (1024..=1026).contains(&most)), "{pids}");
        // Its own three, and the socket: nothing that the launcher has open for others.
        let folder = format!("/proc/{pid}/fd");
        let open: Vec<String> = common::names(Path::new(&folder))
            .iter()
            .map(|fd| fs::read_link(format!("{folder}/{fd}")).unwrap())
            .map(|to| to.to_string_lossy().split('[').next().unwrap().to_owned())
            .collect();
        assert_eq!(open.len(), 4, "{open:?}");
        assert_eq!(
            open.iter().map(String::as_str).collect::<BTreeSet<_>>(),
            ["/dev/null", "pipe:", "socket:"].into()
        );
        // Not dumpable: nobody but the host's root may look into its copy of the launcher's memory.
        let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(folder).unwrap());
        assert_eq!(owner, 0);
        assert!(!mounts_of(pid).iter().any(|l| mount_point(l) == "/var/task"));
    }
    let before = held;
    for name in ["one", "two"] {
        let package = zip(&[("bootstrap", &program, EXECUTABLE)]);
        server.create(name, "provided.al2", &package, json!({}));
        // Nobody else's process, or file, is there.
        assert_eq!(shell(&server, name, "ls /tmp; touch /tmp/mine; ls /tmp"), "mine");
    }
    let claimed: BTreeSet<u32> = claimed_programs(&server).into_iter().collect();
    assert_eq!(claimed.len(), 2, "a sandbox each");
    assert!(before.iter().any(|pid| claimed.contains(pid)), "the same process, past its exec");
}

#[test]
fn every_row_of_the_table_holds_in_a_claimed_one() {
    let folder = tempfile::Builder::new().prefix("kennel-probes-").tempdir_in("/var/tmp").unwrap();
    let (Some(probe), Some(program)) = (probes::build(folder.path()), bootstrap()) else { return };
    let server = server_with_held(&program, &["--preboot", "1"], 1);
    let probe = fs::read(probe).unwrap();
    let package = zip(&[("bootstrap", &program, EXECUTABLE), ("probe", &probe, EXECUTABLE)]);
    server.create(
        "probes",
        "provided.al2",
        &package,
        json!({ "Timeout": 900, "MemorySize": 1769 }),
    );
    server.wait_for_held(1);
    let targets = Targets::new(folder.path());
    let mut wrong = Vec::new();
    for row in probes::table() {
        let words = std::iter::once(row.probe.clone()).chain(targets.fill(&row.args));
        let words: Vec<String> = words.map(|w| format!("'{}'", w.replace('\'', "'\\''"))).collect();
        let line = format!("timeout 60 /var/task/probe {} </dev/null 2>/dev/null", words.join(" "));
        let inside = said(&row.probe, &shell(&server, "probes", &line));
        let holds = match row.probe.as_str() {
            // The runtime, its shell and timeout(1) count as well.
            "fork-bomb" => inside
                .strip_suffix(" EAGAIN")
                .and_then(|n| n.parse::<u32>().ok())
                .is_some_and(|n| (1010..1022).contains(&n)),
            _ => matches(&inside, &row.inside),
        };
        if !holds {
            wrong.push(format!("{} ({}): {inside}, wanted {}", row.what, row.probe, row.inside));
        }
    }
    assert_eq!(server.boots("probes"), [held_for("provided.al2")]);
    assert!(wrong.is_empty(), "{} rows are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_program_that_cannot_run_is_told_as_in_a_full_start() {
    let Some(program) = bootstrap() else { return };
    let server = server_with_held(&program, &["--preboot", "3"], 3);
    for (name, file, mode, status) in [
        ("missing", "other", EXECUTABLE, 127),
        ("forbidden", "bootstrap", 0o644, 126),
        ("nonsense", "bootstrap", EXECUTABLE, 126),
    ] {
        let content: &[u8] = if name == "nonsense" { b"\0\0nonsense" } else { &program };
        let package = zip(&[(file, content, mode)]);
        let mut errors = Vec::new();
        for (kind, size) in [("held", 512), ("full", 513)] {
            let function = format!("{name}-{kind}");
            let more = json!({ "EphemeralStorage": { "Size": size } });
            server.create(&function, "provided.al2", &package, more);
            server.wait_for_held(1);
            let mut error = server.try_invoke(&function, &json!("true")).unwrap_err();
            let text = error["errorMessage"].as_str().unwrap().to_owned();
            assert!(text.ends_with(&format!("exit status {status}")), "{function}: {text}");
            // The request's own id stands before.
            error["errorMessage"] = json!(text.split_once(" Error: ").unwrap().1);
            errors.push(error);
        }
        assert_eq!(errors[0], errors[1], "{name}");
        assert_eq!(server.boots(&format!("{name}-held")), [Boot::Held(NOT_AHEAD.into())], "{name}");
    }
}

#[test]
fn names_with_the_same_files_share_what_is_held() {
    let Some(program) = bootstrap() else { return };
    let server = server_with_held(&program, &["--preboot", "2"], 2);
    let package = zip(&[("bootstrap", &program, EXECUTABLE)]);
    for runtime in ["provided", "provided.al2023"] {
        let name = runtime.replace('.', "-");
        server.create(&name, runtime, &package, json!({}));
        server.wait_for_held(1);
        let variable = shell(&server, &name, "echo $AWS_EXECUTION_ENV");
        assert_eq!(variable, format!("AWS_Lambda_{runtime}"));
        assert_eq!(server.boots(&name), [held_for(runtime)]);
    }
}

#[test]
fn go_is_served_through_both_of_its_doors() {
    let Some(program) = bootstrap() else { return };
    let server = Server::start(&["--preboot", "2"]);
    let polls = zip(&[("main", &program, EXECUTABLE)]);
    server.create("polls", "go1.x", &polls, json!({ "Handler": "main" }));
    server.wait_for_held(2);
    assert_eq!(shell(&server, "polls", "echo $_LAMBDA_SERVER_PORT$_HANDLER"), "9002main");
    assert_eq!(server.boots("polls"), [held_for("go1.x")]);

    let folder = common::folder();
    let out = folder.path().join("main");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/preboot/rpc.go");
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(&out)
        .arg(source)
        .env("CGO_ENABLED", "0")
        .env("GO111MODULE", "off")
        .status();
    if !built.is_ok_and(|status| status.success()) {
        return skip("no Go for a program of net/rpc");
    }
    let package = zip(&[("main", &fs::read(out).unwrap(), EXECUTABLE)]);
    let more = json!({ "Handler": "main", "Environment": { "Variables": { "MINE": "mine" } } });
    server.create("answers", "go1.x", &package, more);
    server.wait_for_held(1);
    for _ in 0..3 {
        let asked = json!(["MINE", "AWS_LAMBDA_FUNCTION_NAME"]);
        assert_eq!(server.invoke("answers", &asked), json!(["mine", "answers"]));
    }
    assert_eq!(server.boots("answers"), [held_for("go1.x")]);
}

#[test]
fn an_interpreter_that_needs_its_environment_is_held_too() {
    let Some(runtime) = python() else { return };
    let server = Server::start(&["--preboot", "2"]);
    let more = json!({ "Environment": { "Variables": { "PYTHONHASHSEED": "7" } } });
    server.create("f", runtime, &evaluating(), more);
    server.wait_for_held(2);
    let questions = [
        "'PYTHONHASHSEED=7' in read('/proc/self/environ').split('\\0')",
        "'KENNEL_PREBOOT' in read('/proc/self/environ')",
        "claim('/run/kennel/runtime.sock')",
    ];
    assert_eq!(ask(&server, "f", &questions), [json!(true), json!(false), json!("404")]);
    let why = "PYTHONHASHSEED must be there when the process starts";
    assert_eq!(server.boots("f"), [Boot::Held(why.into())]);
    // A label is the manifest's pattern, never a caller's text.
    let metrics = server.metrics();
    assert!(
        metrics.contains("kennel_starts_total{boot=\"held\",reason=\"PYTHON*\"} 1"),
        "{metrics}"
    );
}

#[test]
fn the_dead_are_not_handed_out_and_one_that_dies_as_it_is_claimed_is_nobodys_failure() {
    let Some(program) = bootstrap() else { return };
    let server = server_with_held(&program, &["--preboot", "1"], 1);
    let package = zip(&[("bootstrap", &program, EXECUTABLE)]);
    let victim = server.held()[0];
    kill(common::pid(victim), Signal::SIGKILL).unwrap();
    let others = || server.held().into_iter().find(|pid| *pid != victim);
    wait_for("another", SOON, others);

    server.create("f", "provided.al2", &package, json!({}));
    server.wait_for_held(2);
    let launcher = common::pid(server.launcher());
    kill(launcher, Signal::SIGSTOP).unwrap();
    let answer = std::thread::scope(|scope| {
        let run = scope.spawn(|| shell(&server, "f", "echo alive"));
        // It is taken off the shelf, and the claim waits at the door.
        std::thread::sleep(std::time::Duration::from_millis(500));
        for victim in server.held() {
            kill(common::pid(victim), Signal::SIGKILL).unwrap();
        }
        kill(launcher, Signal::SIGCONT).unwrap();
        run.join().unwrap()
    });
    assert_eq!(answer, "alive");
    assert!(matches!(&server.boots("f")[..], [Boot::Full(_)]), "{:?}", server.boots("f"));
    // And the end of the server is theirs.
    server.wait_for_held(1);
    let held = server.held();
    drop(server);
    for pid in held {
        assert_eq!(common::server::name_of(pid), "", "{pid} outlived its server");
    }
}

#[test]
fn a_server_that_was_taken_over_starts_a_held_program_once_and_no_other() {
    let Some(program) = bootstrap() else { return };
    let server = server_with_held(&program, &["--preboot", "1"], 1);
    let package = zip(&[("bootstrap", &program, EXECUTABLE)]);
    server.create("f", "provided.al2", &package, json!({}));
    server.wait_for_held(2);
    assert_eq!(shell(&server, "f", "echo here"), "here");
    let claimed = new_program(&server, &[]);
    server.wait_for_held(1);
    let door = crate::launcher::Door::of(&server);
    let (number, held) = (crate::launcher::number_of, server.held()[0]);
    let line = mounts_of(claimed).into_iter().find(|l| mount_point(l) == "/var/task").unwrap();
    let tree = || crate::launcher::stored(&line);
    let start = || Some(Start { argv_any: vec![vec!["/bin/true".into()]], env: Vec::new() });
    let has_it = "the sandbox has its code already, or was not made to wait for it";
    assert_eq!(door.refuses_start(number(claimed), tree(), 128, start()), has_it);
    let decided =
        "what the sandbox is to run was decided when it was made, or must be said with the claim";
    assert_eq!(door.refuses(number(held), tree(), 128), decided);
    // What was malformed has used nothing up.
    drop(door);
    assert_eq!(shell(&server, "f", "echo still"), "still");
    server.create("g", "provided.al2", &package, json!({}));
    assert_eq!(shell(&server, "g", "echo well"), "well");
    assert_eq!(server.boots("g"), [held_for("provided.al2")]);
}

#[test]
fn none_are_held_where_none_are_wanted() {
    let Some(program) = bootstrap() else { return };
    let server = Server::start(&["--preboot", "0"]);
    let package = zip(&[("bootstrap", &program, EXECUTABLE)]);
    server.create("f", "provided.al2", &package, json!({}));
    assert_eq!(server.invoke("f", &json!("echo 1")), Value::from("1\n"));
    assert_eq!(server.boots("f"), [Boot::Full("preboot is 0".into())]);
    assert!(server.held().is_empty());
}
