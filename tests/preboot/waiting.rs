//! Those that wait: how many, how they end, and that the dead are not handed out.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use serde_json::json;

use crate::common::server::{Boot, SOON, Server, Start, name_of};
use crate::common::{self, children, groups_of, wait_for};
use crate::{ask, evaluating, package, python, server_with_waiting};

#[test]
fn one_that_died_while_it_waited_is_not_handed_out() {
    let Some(runtime) = python() else { return };
    let server = server_with_waiting(runtime, &["--preboot", "2"], 2);
    for round in 0..4 {
        let name = format!("f{round}");
        server.create(&name, runtime, &evaluating(), json!({}));
        for victim in server.wait_for_waiting("python", 2) {
            kill(common::pid(victim), Signal::SIGKILL).unwrap();
            wait_for("its end", SOON, || name_of(victim).is_empty().then_some(()));
        }
        // Whatever comes instead works.
        assert_eq!(ask(&server, &name, &["40 + 2"]), [42]);
        // And nobody tried the dead: that would be a refused claim.
        let boots = server.boots(&name);
        let none = || "none waiting".to_owned();
        let good = [Boot::Ahead, Boot::Held(none()), Boot::Full(none())];
        assert!(boots.len() == 1 && good.contains(&boots[0]), "{boots:?}");
    }
    // The dead are removed, and others come.
    server.wait_for_waiting("python", 2);
    // Functions', language up and held with as many to spare; removers, and makers of /tmp.
    let most = 4 + 4 + 4 + 4 + 2;
    wait_for("their groups to go", SOON, || {
        let alive = children(server.launcher()).len();
        (alive <= most).then_some(())
    });
}

#[test]
fn one_that_dies_is_replaced_though_nobody_asks() {
    let Some(runtime) = python() else { return };
    let server = server_with_waiting(runtime, &["--preboot", "1"], 1);
    let victim = server.waiting("python")[0];
    let image = common::tmp_image(victim).unwrap();
    kill(common::pid(victim), Signal::SIGKILL).unwrap();
    server.wait_for_waiting("python", 1);
    wait_for("what it had to go", SOON, || {
        (common::backing_file(&image.0).as_ref() != Some(&image.1)).then_some(())
    });
}

#[test]
fn one_that_dies_as_it_is_claimed_is_nobodys_failure() {
    let Some(runtime) = python() else { return };
    let server = server_with_waiting(runtime, &["--preboot", "1"], 1);
    server.create("f", runtime, &evaluating(), json!({}));
    // One for each function that is new.
    let victims = server.wait_for_waiting("python", 2);
    let launcher = common::pid(server.launcher());
    kill(launcher, Signal::SIGSTOP).unwrap();
    let answer = std::thread::scope(|scope| {
        let run = scope.spawn(|| ask(&server, "f", &["6 * 7"]));
        // It is taken off the shelf, and the claim waits at the door.
        std::thread::sleep(Duration::from_millis(500));
        for victim in victims {
            kill(common::pid(victim), Signal::SIGKILL).unwrap();
            wait_for("its end", SOON, || name_of(victim).is_empty().then_some(()));
        }
        kill(launcher, Signal::SIGCONT).unwrap();
        run.join().unwrap()
    });
    assert_eq!(answer, [42]);
    // Whether the launcher saw it or the server: one was made for the function instead.
    let boots = server.boots("f");
    assert!(matches!(&boots[..], [Boot::Full(why)] if why != "none waiting"), "{boots:?}");
}

#[test]
fn the_end_of_the_server_is_theirs() {
    let Some(runtime) = python() else { return };
    for (signal, code) in [(Signal::SIGTERM, Some(0)), (Signal::SIGKILL, None)] {
        let mut server = server_with_waiting(runtime, &["--preboot", "3"], 3);
        // One of them claimed, so that both kinds end.
        server.create("f", runtime, &evaluating(), json!({}));
        ask(&server, "f", &["1"]);
        server.was_claimed("f");
        server.wait_for_waiting("python", 2);
        let (launcher, programs) = (server.launcher(), server.programs());
        let images: Vec<_> = programs.iter().filter_map(|pid| common::tmp_image(*pid)).collect();
        assert!(programs.len() >= 3 && images.len() == programs.len(), "{programs:?} {images:?}");
        assert!(!groups_of(launcher).is_empty());
        server.signal(signal);
        assert_eq!(server.wait(), code, "{signal}");
        let left = || {
            let mut left: Vec<String> = programs
                .iter()
                .chain([&launcher])
                .filter(|pid| !name_of(**pid).is_empty())
                .map(|pid| format!("process {pid}"))
                .collect();
            left.extend(groups_of(launcher).iter().map(|g| g.display().to_string()));
            let kept =
                images.iter().filter(|(d, file)| common::backing_file(d).as_ref() == Some(file));
            left.extend(kept.map(|(device, _)| format!("loop device {device}")));
            left
        };
        let began = Instant::now();
        while !left().is_empty() {
            assert!(
                began.elapsed() < Duration::from_secs(10),
                "{signal}: left behind: {:?}",
                left()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn none_wait_where_none_are_wanted() {
    let Some(runtime) = python() else { return };
    let server = Server::start(&["--preboot", "0"]);
    server.create("f", runtime, &evaluating(), json!({}));
    assert_eq!(ask(&server, "f", &["'KENNEL_PREBOOT' in read('/proc/self/environ')"]), [false]);
    assert_eq!(server.boots("f"), [Boot::Full("preboot is 0".into())]);
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(server.programs().len(), 1, "the function's own");
}

#[test]
fn their_memory_is_bounded() {
    let Some(runtime) = python() else { return };
    // The first is over it, and the last.
    let server = server_with_waiting(runtime, &["--preboot", "8", "--preboot-mb", "1"], 1);
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(server.programs().len(), 1);
}

#[test]
fn more_wait_while_many_are_claimed() {
    let Some(runtime) = python() else { return };
    let server = server_with_waiting(runtime, &["--preboot", "1"], 1);
    for round in 0..3 {
        let name = format!("f{round}");
        server.create(&name, runtime, &evaluating(), json!({}));
        server.wait_for_waiting("python", 1);
        ask(&server, &name, &["1"]);
        server.was_claimed(&name);
    }
    server.wait_for_waiting("python", 3);
    // Ten seconds later nobody has asked: one, and one to spare.
    wait_for("the rest to go", SOON, || (server.waiting("python").len() <= 2).then_some(()));
    assert!(!server.waiting("python").is_empty());
}

/// Provisioned concurrency costs a claim and the load of the function, as every other start.
#[test]
fn provisioned_ones_are_claimed() {
    let Some(runtime) = python() else { return };
    let server = server_with_waiting(runtime, &["--preboot", "1"], 1);
    let code = "import os\ndef handler(event, context): return os.environ['AWS_LAMBDA_INITIALIZATION_TYPE']\n";
    server.create("p", runtime, &package(code), json!({}));
    server.wait_for_waiting("python", 2);
    let version = server.ask("POST", "/2015-03-31/functions/p/versions", &json!({}));
    assert_eq!(version["Version"], "1");
    let path = "/2019-09-30/functions/p/provisioned-concurrency?Qualifier=1";
    server.ask("PUT", path, &json!({ "ProvisionedConcurrentExecutions": 1 }));
    wait_for("it to be ready", SOON, || {
        (server.ask("GET", path, &json!(null))["Status"] == "READY").then_some(())
    });
    server.was_claimed("p");
    assert_eq!(server.invoke("p:1", &json!(null)), "provisioned-concurrency");
    server.was_claimed("p");
}

/// Python 2.7 where there is no CPython for it: a JVM, of which a start takes seconds.
#[test]
fn jython_waits_with_its_language_up() {
    if !common::sandboxes() {
        return;
    }
    let maven = Path::new(&std::env::var_os("HOME").unwrap_or_default()).join(".m2");
    if !maven.join("repository/org/python/jython-standalone").is_dir() {
        common::skip("no Jython in ~/.m2");
        return;
    }
    let home = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(maven, home.path().join(".m2")).unwrap();
    let server = Start::through(&[], &["--preboot", "1"])
        .env("HOME", &home.path().to_string_lossy())
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .start();
    let code = "import os, sys, time\n\ndef handler(event, context):\n    \
                return [sys.platform[:4], os.environ['MINE'], os.getcwd(), time.tzname, event]\n";
    let mine = json!({ "MemorySize": 512, "Environment": { "Variables": { "MINE": "own", "TZ": "Asia/Tokyo" } } });
    server.create("j", "python2.7", &package(code), mine);
    let waiting = "kennel_waiting_sandboxes{runtime=\"python2.7\",boot=\"preboot\"} ";
    wait_for("a JVM that waits", SOON, || {
        let metrics = server.metrics();
        let line = metrics.lines().find_map(|line| line.strip_prefix(waiting))?;
        (line != "0").then_some(())
    });
    assert_eq!(
        server.invoke("j", &json!(7)),
        json!(["java", "own", "/var/task", ["JST", "JDT"], 7])
    );
    server.was_claimed("j");
}
