//! A JVM that waited is as one that was started for its function, to the function and to its caller.
//!
//! Needs a JDK (Debian: default-jdk-headless) and what `runtimes/java/build` makes.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::server::{Boot, SOON, Server, runtime};
use crate::common::{self, EXECUTABLE, sandboxes, skip, wait_for, zip};
use crate::{REGULAR, memory_limit};

const HOME: &str = r#"
    import java.io.*;
    import java.util.*;

    public class Home {
        static String text(InputStream in) throws IOException {
            Scanner all = new Scanner(in, "UTF-8").useDelimiter("\\A");
            return all.hasNext() ? all.next() : "";
        }

        static String run(String... command) throws IOException {
            return text(new ProcessBuilder(command).start().getInputStream());
        }

        public Object handle(String ask) throws Exception {
            switch (ask) {
                case "folder":
                    return Arrays.asList(System.getProperty("user.dir"), text(new FileInputStream("near.txt")),
                        run("cat", "near.txt"), new File("near.txt").getAbsolutePath(),
                        text(new FileInputStream("/opt/far.txt")), new File("/tmp").list().length);
                case "environment":
                    return Arrays.asList(System.getenv(), run("env", "-0"), System.getProperty("java.io.tmpdir"),
                        System.getProperty("user.home"), Runtime.getRuntime().maxMemory() >> 20);
                case "throw":
                    throw new IllegalStateException("not today", new IOException("the reason"));
                case "exit":
                    System.out.println("leaving");
                    System.exit(3);
                case "thread":
                    Thread thread = new Thread(() -> { throw new IllegalStateException("in a thread"); });
                    thread.start();
                    thread.join();
                    return "went on";
                case "sleep":
                    Thread.sleep(60000);
                default:
                    return ask;
            }
        }
    }
"#;

/// The package of [`HOME`] and the runtime that it can run on; `None`, and the reason printed, where there is none.
fn home() -> Option<(String, Vec<u8>)> {
    if !sandboxes() {
        return None;
    }
    let Some(runtime) = runtime("java") else {
        skip("no JVM for the function (Debian: default-jdk-headless)");
        return None;
    };
    if !Path::new(env!("CARGO_MANIFEST_DIR")).join("runtimes/java/dist/ahead.so").exists() {
        skip(
            "the Java bootstrap has no library for a start ahead (runtimes/java/build, with a C compiler)",
        );
        return None;
    }
    let folder = common::folder_with(&[("Home.java", &common::dedent(HOME))]);
    let compiled = Command::new("javac")
        .args(["-nowarn", "-Xlint:-options", "--release", "8", "-d"])
        .arg(folder.path())
        .arg(folder.path().join("Home.java"))
        .output();
    if !compiled.is_ok_and(|done| done.status.success()) {
        skip("no javac for the function (Debian: default-jdk-headless)");
        return None;
    }
    let class = fs::read(folder.path().join("Home.class")).unwrap();
    let package = zip(&[
        ("Home.class", &class, REGULAR),
        ("near.txt", b"near", REGULAR),
        ("wrap", b"#!/bin/sh\nexec \"$@\"\n", EXECUTABLE),
    ]);
    Some((runtime, package))
}

/// Waits for a JVM that waits. Its first thread sleeps all its life: it is up once it takes no more time.
fn wait_for_jvm(server: &Server) -> u32 {
    let ticks = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after_name = stat.rsplit_once(") ").unwrap_or_default().1.to_owned();
        after_name.split(' ').skip(11).take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    wait_for("a JVM at rest", SOON, || {
        let pid = *server.wait_for_waiting("java", 1).first()?;
        let before = ticks(pid);
        std::thread::sleep(Duration::from_millis(700));
        (!before.is_empty() && ticks(pid) == before).then_some(pid)
    })
}

/// Creates the same function twice: one claims a sandbox, and one has an odd /tmp and so needs its own.
fn both(server: &Server, runtime: &str, package: &[u8], more: &Value) {
    for (name, tmp) in [("claimed", 512), ("booted", 513)] {
        let mut more = more.clone();
        more["Handler"] = json!("Home::handle");
        more["EphemeralStorage"] = json!({ "Size": tmp });
        server.create(name, runtime, package, more);
    }
}

#[test]
fn a_java_function_is_at_home_in_its_code() {
    let Some((runtime, package)) = home() else { return };
    let server = Server::start(&["--preboot", "1"]);
    let layer = server.layer("l", &zip(&[("far.txt", b"far", REGULAR)]));
    let variables = json!({ "MINE": "ü \" \\ ✓", "EMPTY": "", "PATH": "/bin:/usr/bin" });
    let more = json!({
        "Layers": [layer], "MemorySize": 256, "Environment": { "Variables": variables }
    });
    both(&server, &runtime, &package, &more);
    // Made with the function's memory: the heap's size is among the program's arguments.
    let waiting = wait_for_jvm(&server);
    assert_eq!(memory_limit(waiting), Some(256 << 20));
    let wanted = json!(["/var/task", "near", "near", "/var/task/near.txt", "far", 0]);
    for name in ["claimed", "booted"] {
        assert_eq!(server.invoke(name, &json!("folder")), wanted, "{name}");
    }
    server.was_claimed("claimed");
    assert_eq!(server.boots("booted"), [Boot::Full("/tmp of 513 MB is not the usual one".into())]);
    let answers = ["claimed", "booted"].map(|name| server.invoke(name, &json!("environment")));
    let [claimed, booted] = answers.map(|mut answer| {
        let mut child: Vec<String> =
            answer[1].as_str().unwrap().split('\0').map(str::to_owned).collect();
        child.retain(|variable| !variable.starts_with("AWS_LAMBDA_LOG_STREAM_NAME="));
        child.sort();
        answer[0].as_object_mut().unwrap().remove("AWS_LAMBDA_LOG_STREAM_NAME");
        answer[1] = child.into();
        let text = answer.to_string().replace("booted", "claimed");
        serde_json::from_str::<Value>(&text).unwrap()
    });
    assert_eq!(claimed, booted, "to the last variable, in Java and in what it starts");
    assert_eq!(claimed[0]["MINE"], "ü \" \\ ✓");
    assert_eq!(claimed[0]["AWS_LAMBDA_FUNCTION_NAME"], "claimed");
    let own = claimed[0].as_object().unwrap().keys().filter(|n| n.starts_with("KENNEL_"));
    assert_eq!(own.count(), 0);
}

#[test]
fn a_java_function_ends_as_any_other() {
    let Some((runtime, package)) = home() else { return };
    for event in ["throw", "exit", "sleep", "thread"] {
        let server = Server::start(&["--preboot", "1"]);
        both(&server, &runtime, &package, &json!({ "Timeout": 10, "MemorySize": 256 }));
        wait_for_jvm(&server);
        let [claimed, booted] = ["claimed", "booted"].map(|name| {
            let answer = server.try_invoke(name, &json!(event));
            let again = server.try_invoke(name, &json!("again"));
            assert_eq!(again, Ok(json!("again")), "{name} after {event}");
            answer
        });
        assert_eq!(server.boots("claimed").first(), Some(&Boot::Ahead), "{event}");
        if event == "thread" {
            assert_eq!(claimed, Ok(json!("went on")));
        }
        // But for the request's id.
        let without_id = |answer: &Result<Value, Value>| {
            let text = format!("{answer:?}");
            text.split("RequestId: ")
                .map(|t| t.get(36..).unwrap_or(t).to_owned())
                .collect::<Vec<_>>()
        };
        if event == "exit" || event == "sleep" {
            assert_eq!(without_id(&claimed), without_id(&booted), "{event}");
            assert!(claimed.is_err());
        } else {
            assert_eq!(claimed, booted, "{event}");
        }
        let lives = if matches!(event, "exit" | "sleep") { 2 } else { 1 };
        assert_eq!(server.boots("claimed").len(), lives, "{event}");
    }
}

#[test]
fn variables_that_a_jvm_reads_as_it_starts_need_a_start() {
    let Some((runtime, package)) = home() else { return };
    let server = Server::start(&["--preboot", "1"]);
    for (index, (key, value)) in [
        ("JAVA_TOOL_OPTIONS", "-Dmine=1"),
        ("TZ", "Asia/Tokyo"),
        ("LC_ALL", "C"),
        ("HOME", "/var/task"),
        ("LD_PRELOAD", "/var/task/none.so"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("f{index}");
        let more =
            json!({ "Handler": "Home::handle", "Environment": { "Variables": { key: value } } });
        server.create(&name, &runtime, &package, more);
        let answer = server.invoke(&name, &json!("environment"));
        assert_eq!(answer[0][key], value);
        let why = format!("{key} must be there when the process starts");
        server.started_its_runtime(&name, &why);
    }
    let variables = json!({ "AWS_LAMBDA_EXEC_WRAPPER": "/var/task/wrap" });
    let more = json!({ "Handler": "Home::handle", "Environment": { "Variables": variables } });
    server.create("wrapped", &runtime, &package, more);
    assert_eq!(server.invoke("wrapped", &json!("x")), "x");
    let why = "AWS_LAMBDA_EXEC_WRAPPER starts the runtime";
    server.started_its_runtime("wrapped", why);
}
