//! How long sandboxes are kept: until room is wanted elsewhere, or nobody has used them for a while.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::common::{children, sandboxes, wait_for};
use crate::harness::{PATIENCE, Server, at_once, data_folder, distinct, serve};

/// Takes `event[0]` MiB at its first event, sleeps for `event[1]` seconds, and says who it is.
const WHO: &str = r#"
    import time, uuid
    me, kept = uuid.uuid4().hex, []

    def handler(event, context):
        if not kept:
            kept.append(b"x" * (event[0] << 20))
        time.sleep(event[1])
        return me
"#;

fn idle(server: &Server, name: &str) -> f64 {
    let series = format!("kennel_sandboxes{{function=\"{name}\",state=\"idle\"}}");
    server.metric(&series).unwrap_or_default()
}

#[test]
fn who_was_unused_for_longest_goes_for_others_memory() {
    if !sandboxes() {
        return;
    }
    let (_folder, data) = data_folder();
    // Room for one that runs, with its limit of 128 MB, beside one that idles with the 80 that it used, but not two.
    let server = Server::own(&data, &["--memory-mb", "256", "--preboot", "0"]);
    for name in ["first", "second", "third"] {
        if !server.python(name, WHO, &json!({ "MemorySize": 128 })) {
            return;
        }
    }
    let call = |name: &str| server.result(name, &json!([80, 0]));
    let (first, second) = (call("first"), call("second"));
    assert_eq!((idle(&server, "first"), idle(&server, "second")), (1.0, 1.0));
    assert_eq!(call("first"), first, "both fit while they idle");
    let third = call("third");
    let all = ["first", "second", "third"].map(|name| idle(&server, name));
    assert_eq!(all, [1.0, 0.0, 1.0], "the second was unused for longer than the first");
    assert_eq!(call("first"), first);
    assert_ne!(call("second"), second, "a new sandbox");
    let all = ["first", "second", "third"].map(|name| idle(&server, name));
    assert_eq!(all, [1.0, 1.0, 0.0]);
    assert_ne!(call("third"), third);
    server.stop();
}

/// A server that may open 512 files, and so have 14 sandboxes of functions at a time.
fn with_few_descriptors(data: &Path) -> Server {
    let serve = serve(data);
    let mut command = Command::new("prlimit");
    command.args(["--nofile=512:512", "--"]).arg(serve.get_program()).args(serve.get_args());
    for (key, value) in serve.get_envs() {
        match value {
            Some(value) => command.env(key, value),
            None => command.env_remove(key),
        };
    }
    Server::start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()))
}

#[test]
fn who_was_unused_for_longest_goes_for_others_descriptors() {
    if !sandboxes() {
        return;
    }
    let (_folder, data) = data_folder();
    let server = with_few_descriptors(&data);
    let names: Vec<String> = (0..18).map(|n| format!("f{n}")).collect();
    for name in &names {
        if !server.python(name, WHO, &json!({ "MemorySize": 128, "Timeout": 60 })) {
            return;
        }
    }
    for name in &names {
        assert!(server.result(name, &json!([1, 0])).is_string());
    }
    let all: Vec<f64> = names.iter().map(|name| idle(&server, name)).collect();
    assert_eq!(all, [[0.0; 4].as_slice(), &[1.0; 14]].concat());
    // At once: who finds no place waits for one.
    let answers = at_once(names.len(), |n| server.result(&names[n], &json!([1, 1])));
    assert!(answers.iter().all(serde_json::Value::is_string), "{answers:?}");
    let text = server.stderr();
    assert!(!text.contains("os error 24"), "too many open files: {text}");
    server.stop();
}

/// One that runs is never ended for another; who finds no memory in time is told to come again.
#[test]
fn what_runs_keeps_its_memory() {
    if !sandboxes() {
        return;
    }
    let (_folder, data) = data_folder();
    let server = Server::own(&data, &["--memory-mb", "200", "--preboot", "0"]);
    for name in ["running", "waiting"] {
        if !server.python(name, WHO, &json!({ "MemorySize": 128, "Timeout": 60 })) {
            return;
        }
    }
    std::thread::scope(|scope| {
        // Longer than an invocation waits for memory.
        let running = scope.spawn(|| server.result("running", &json!([1, 13])));
        let busy = "kennel_sandboxes{function=\"running\",state=\"busy\"}";
        wait_for("the first one", PATIENCE, || server.metric(busy).filter(|n| *n == 1.0).map(drop));
        let refused = server.invoke("waiting", &json!([1, 0]));
        let refused = refused.fails(429, "TooManyRequestsException", "Rate Exceeded.");
        assert_eq!(refused.json()["Reason"], "ConcurrentInvocationLimitExceeded");
        assert!(running.join().expect("a thread").is_string());
    });
    // It idles with the little that it used.
    assert!(server.result("waiting", &json!([1, 0])).is_string());
    assert_eq!(idle(&server, "running"), 1.0);
    server.stop();
}

#[test]
fn who_is_not_used_for_the_idle_time_is_ended() {
    if !sandboxes() {
        return;
    }
    let (_folder, data) = data_folder();
    let server = Server::own(&data, &["--idle-seconds", "1", "--preboot", "0"]);
    if !server.python("f", WHO, &json!({})) {
        return;
    }
    let launcher = server.launcher();
    let is_init = |pid: &u32| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.trim() == "kennel-init"
    };
    // One that runs is not idle, however long it takes.
    let first = server.result("f", &json!([1, 3]));
    wait_for("the end of an idle sandbox", PATIENCE, || {
        (idle(&server, "f") == 0.0 && !children(launcher).iter().any(is_init)).then_some(())
    });
    assert_ne!(server.result("f", &json!([1, 0])), first);
    server.stop();
}

/// What a function left in its sandbox is never there again.
#[test]
fn with_no_idle_time_each_sandbox_runs_one_event() {
    if !sandboxes() {
        return;
    }
    let (_folder, data) = data_folder();
    let server = Server::own(&data, &["--idle-seconds", "0"]);
    if !server.python("f", WHO, &json!({})) {
        return;
    }
    let all =
        at_once(3, |_| (0..4).map(|_| server.result("f", &json!([1, 0]))).collect::<Vec<_>>());
    let all: Vec<String> = all.into_iter().flatten().map(|id| id.to_string()).collect();
    assert_eq!((all.len(), distinct(&all)), (12, 12), "{all:?}");
    wait_for("the end of all", PATIENCE, || (idle(&server, "f") == 0.0).then_some(()));
    server.stop();
}
