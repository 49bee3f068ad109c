//! Reserved and provisioned concurrency, and what becomes of them while invocations run.

use serde_json::{Value, json};

use crate::common::wait_for;
use crate::harness::{PATIENCE, Server, at_once, distinct};

const SLEEPER: &str = r#"
    import os, time, uuid
    me, kind = uuid.uuid4().hex, os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"]

    def handler(event, context):
        time.sleep(event)
        return [kind, me, context.function_version]
"#;

#[track_caller]
fn throttled(server: &Server, name: &str) {
    let answer =
        server.invoke(name, &json!(0)).fails(429, "TooManyRequestsException", "Rate Exceeded.");
    let reason = "ReservedFunctionConcurrentInvocationLimitExceeded";
    assert_eq!(answer.json()["Reason"], reason, "{answer:?}");
}

fn busy(server: &Server, name: &str) -> f64 {
    let series = format!("kennel_sandboxes{{function=\"{name}\",state=\"busy\"}}");
    server.metric(&series).unwrap_or_default()
}

#[test]
fn a_reservation_of_0_lets_nothing_through() {
    let Some(server) = Server::shared() else { return };
    if !server.python("reserved-0", SLEEPER, &json!({})) {
        return;
    }
    server.result("reserved-0", &json!(0));
    server.reserve("reserved-0", 0);
    throttled(server, "reserved-0");
    let target = "/2021-11-15/functions/reserved-0/response-streaming-invocations";
    let stream = server.plain("POST", target).body("0").signed(&server.key);
    server.send(&stream).fails(429, "TooManyRequestsException", "Rate Exceeded.");
    server.call("DELETE", "/2017-10-31/functions/reserved-0/concurrency", &Value::Null).is(204);
    server.result("reserved-0", &json!(0));
    let series = "kennel_throttles_total{function=\"reserved-0\"}";
    assert_eq!(server.metric(series), Some(2.0));
}

#[test]
fn a_reservation_of_1_lets_one_at_a_time_through() {
    let Some(server) = Server::shared() else { return };
    if !server.python("reserved-1", SLEEPER, &json!({})) {
        return;
    }
    server.reserve("reserved-1", 1);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| server.result("reserved-1", &json!(3)));
        wait_for("the first one", PATIENCE, || (busy(server, "reserved-1") > 0.0).then_some(()));
        throttled(server, "reserved-1");
        running.join().unwrap();
    });
    server.result("reserved-1", &json!(0));
}

/// What ran before the reservation is counted out of it when it ends.
#[test]
fn a_reservation_made_meanwhile_counts_what_runs() {
    let Some(server) = Server::shared() else { return };
    if !server.python("reserved-later", SLEEPER, &json!({})) {
        return;
    }
    std::thread::scope(|scope| {
        let running = scope.spawn(|| server.result("reserved-later", &json!(3)));
        let name = "reserved-later";
        wait_for("the first one", PATIENCE, || (busy(server, name) > 0.0).then_some(()));
        server.reserve(name, 1);
        throttled(server, name);
        running.join().unwrap();
    });
    let before = server.result("reserved-later", &json!(0));
    server.reserve("reserved-later", 2);
    assert_eq!(server.result("reserved-later", &json!(0)), before, "the sandbox stays");
}

/// An update while an invocation runs: its sandbox is not kept, whatever became of the reservation meanwhile.
#[test]
fn a_sandbox_of_before_an_update_is_not_kept() {
    let Some(server) = Server::shared() else { return };
    let name = "updated-meanwhile";
    if !server.python(name, SLEEPER, &json!({})) {
        return;
    }
    std::thread::scope(|scope| {
        let running = scope.spawn(|| server.result(name, &json!(3)));
        wait_for("the first one", PATIENCE, || (busy(server, name) > 0.0).then_some(()));
        server.reserve(name, 5);
        server.update(name, &SLEEPER.replace("return [", "return [2, "));
        assert_eq!(server.result(name, &json!(0))[0], 2, "new code at once");
        assert_eq!(running.join().unwrap()[0], "on-demand", "old code to its end");
    });
    let idle = format!("kennel_sandboxes{{function=\"{name}\",state=\"idle\"}}");
    wait_for("one sandbox", PATIENCE, || server.metric(&idle).filter(|count| *count == 1.0));
}

fn provision(server: &Server, name: &str, qualifier: &str, executions: u32) {
    let target =
        format!("/2019-09-30/functions/{name}/provisioned-concurrency?Qualifier={qualifier}");
    let request = json!({ "ProvisionedConcurrentExecutions": executions });
    let answer = server.call("PUT", &target, &request).is(202).json();
    assert_eq!(answer["Status"], "IN_PROGRESS");
    let ready = wait_for("provisioned sandboxes", PATIENCE, || {
        let state = server.call("GET", &target, &Value::Null).is(200).json();
        (state["Status"] == "READY").then_some(state)
    });
    for member in ["Requested", "Allocated", "Available"] {
        let member = format!("{member}ProvisionedConcurrentExecutions");
        assert_eq!(ready[&member], executions, "{ready}");
    }
}

#[test]
fn provisioned_sandboxes_wait_for_their_events_and_go_when_nobody_wants_them() {
    let Some(server) = Server::shared() else { return };
    let name = "provisioned";
    if !server.python(name, SLEEPER, &json!({ "MemorySize": 512 })) {
        return;
    }
    server.publish(name);
    server.update(name, &format!("{SLEEPER}    # second\n"));
    server.publish(name);
    server.alias(name, &json!({ "Name": "live", "FunctionVersion": "1" }));
    provision(server, name, "live", 2);
    let two = at_once(2, |_| server.result("provisioned:live", &json!(2)));
    assert!(two.iter().all(|r| r[0] == "provisioned-concurrency" && r[2] == "1"), "{two:?}");
    assert_eq!(distinct(two.iter().map(|r| r[1].to_string())), 2);
    let spilt = at_once(3, |_| server.result("provisioned:live", &json!(2)));
    let kinds = spilt.iter().filter(|r| r[0] == "on-demand").count();
    assert_eq!(kinds, 1, "the third one is made as any other: {spilt:?}");
    let two = at_once(2, |_| server.result("provisioned:live", &json!(1)));
    assert!(two.iter().all(|r| r[0] == "provisioned-concurrency"), "before any other: {two:?}");
    assert_eq!(server.result("provisioned:2", &json!(0))[0], "on-demand");

    let idle = || server.metric("kennel_sandboxes{function=\"provisioned\",state=\"idle\"}");
    let before = idle().unwrap();
    // An alias that moves takes its sandboxes along.
    let target = format!("/2015-03-31/functions/{name}/aliases/live");
    server.call("PUT", &target, &json!({ "FunctionVersion": "2" })).is(200);
    wait_for("sandboxes of version 2", PATIENCE, || {
        let result = server.result("provisioned:live", &json!(0));
        (result[0] == "provisioned-concurrency" && result[2] == "2").then_some(())
    });
    wait_for("the end of those of version 1", PATIENCE, || idle().filter(|now| *now == before));
    let target = format!("/2019-09-30/functions/{name}/provisioned-concurrency?Qualifier=live");
    server.call("DELETE", &target, &Value::Null).is(204);
    wait_for("the end of the others", PATIENCE, || idle().filter(|now| *now == before - 2.0));
}

/// One that dies is made anew.
#[test]
fn a_provisioned_sandbox_that_dies_is_replaced() {
    let Some(server) = Server::shared() else { return };
    let name = "provisioned-dies";
    let code = SLEEPER.replace("time.sleep(event)", "os._exit(1) if event else None");
    if !server.python(name, &code, &json!({})) {
        return;
    }
    server.publish(name);
    provision(server, name, "1", 1);
    let first = server.result("provisioned-dies:1", &json!(0));
    assert_eq!(first[0], "provisioned-concurrency");
    let died = server.invoke("provisioned-dies:1", &json!(1)).is(200);
    assert_eq!(died.header("x-amz-function-error"), "Unhandled");
    // Nobody asks meanwhile: one made for an event would be used again before the one that waits.
    let idle = "kennel_sandboxes{function=\"provisioned-dies\",state=\"idle\"}";
    wait_for("another one", PATIENCE, || server.metric(idle).filter(|idle| *idle == 1.0));
    let next = server.result("provisioned-dies:1", &json!(0));
    assert_eq!(next[0], "provisioned-concurrency");
    assert_ne!(first[1], next[1]);
}
