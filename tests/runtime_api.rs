//! The Runtime API as a hostile or clumsy runtime uses it: raw HTTP from inside a real sandbox.
//!
//! Each program is `fixtures/runtime_api/peer.py` and a test's own lines. It answers its invocation with what it
//! saw, so every test also shows that a correct answer comes through after whatever was done before.
//!
//! Needs root and a Python in /usr; each test is skipped without.

mod common;

use std::path::Path;
use std::time::Duration;

use common::{Done, Function, HOST_PYTHON, Run, dedent, mark, provided, skip, wait_for};
use nix::sys::signal::Signal;
use serde_json::json;

const PEER: &str = include_str!("fixtures/runtime_api/peer.py");

fn peer(code: &str) -> Option<Function> {
    if !Path::new(HOST_PYTHON).exists() {
        skip("no /usr/bin/python3 for the program");
        return None;
    }
    let program = format!("#!{HOST_PYTHON} -IS\n{PEER}\n\n{}", dedent(code));
    provided(program.as_bytes())
}

fn run(function: &Function) -> Run {
    function.invoke().args(&["--memory", "1769"])
}

/// What the program saw, which is its result.
#[track_caller]
fn seen(done: Done) -> serde_json::Value {
    done.exits(0).json()
}

// ---------------------------------------------------------------------------------------------------------
// As it should be.

#[test]
fn next_has_awss_headers() {
    let Some(function) = peer(
        r#"
        door = Connection()
        reply = door.next()
        reply.headers["body"] = reply.body.decode()
        reply.headers["now"] = time.time() * 1000
        respond(door.id, reply.headers)
        wait_to_die()
        "#,
    ) else {
        return;
    };
    let context = r#"{"client":{"app_title":"t"},"custom":{"a":"b"}}"#;
    let run =
        run(&function).args(&["--name", "named", "--timeout", "20", "--client-context", context]);
    let done = run.event(r#"{"some":"event"}"#).run();
    let id = done.request_id();
    let headers = seen(done);
    assert_eq!(headers["lambda-runtime-aws-request-id"], id);
    assert_eq!(
        headers["lambda-runtime-invoked-function-arn"],
        "arn:aws:lambda:us-east-1:000000000000:function:named"
    );
    assert_eq!(headers["lambda-runtime-client-context"], context);
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["body"], r#"{"some":"event"}"#, "byte for byte");
    let trace = headers["lambda-runtime-trace-id"].as_str().unwrap();
    let parts: Vec<&str> = trace.split(';').collect();
    assert!(
        parts[0].starts_with("Root=1-") && parts[0].len() == "Root=1-".len() + 8 + 1 + 24,
        "{trace}"
    );
    assert!(parts[1].starts_with("Parent=") && parts[2] == "Sampled=0", "{trace}");
    let deadline: f64 = headers["lambda-runtime-deadline-ms"].as_str().unwrap().parse().unwrap();
    let left = deadline - headers["now"].as_f64().unwrap();
    assert!((10_000.0..=20_000.0).contains(&left), "{left} ms are left of 20 s");
    assert!(headers.get("lambda-runtime-cognito-identity").is_none());
}

#[test]
fn both_doors_speak_the_same() {
    let Some(function) = peer(
        r#"
        unix = Connection(unix=True)
        reply = unix.next()
        wrong = [Connection(door).ask("POST", "invocation/none/response", b"1").told() for door in (True, False)]
        # Taken at one door, answered at the other.
        respond(unix.id, [json.loads(reply.body)] + wrong, unix=False)
        wait_to_die()
        "#,
    ) else {
        return;
    };
    let result = seen(run(&function).event("[7]").run());
    assert_eq!(result[0], json!([7]));
    assert_eq!(result[1], result[2]);
}

#[test]
fn an_answer_is_accepted_with_202_and_a_body() {
    // After the answer to the only event a sandbox may die at any moment; after an init error it is left a moment
    // for its last words, so that is where the reply can be seen.
    let Some(function) = peer(
        r#"
        body = b'{"errorMessage":"no","errorType":"Mine"}'
        reply = Connection().ask("POST", "init/error", body, [("Lambda-Runtime-Function-Error-Type", "Mine")])
        print("reply", reply.status, reply.headers["content-type"], reply.body, flush=True)
        "#,
    ) else {
        return;
    };
    let done = run(&function).run().exits(1);
    assert_eq!(done.out(), r#"{"errorMessage":"no","errorType":"Mine"}"#, "the body as it came");
    assert!(
        done.err().contains("reply 202 application/json b'{\"status\":\"OK\"}\\n'\n"),
        "{done:?}"
    );
}

#[test]
fn an_error_is_passed_on_as_it_came() {
    let Some(function) = peer(
        r#"
        door = Connection()
        event = json.loads(door.next().body)
        door.ask("POST", "invocation/%s/error" % door.id, event["body"].encode(), event["headers"].items())
        wait_to_die()
        "#,
    ) else {
        return;
    };
    for (body, headers) in [
        (
            r#"{"errorMessage": "m", "errorType":"T", "extra":[1]}"#,
            json!({"Lambda-Runtime-Function-Error-Type": "T"}),
        ),
        ("no JSON at all", json!({})),
        ("", json!({"Lambda-Runtime-Function-Error-Type": "Empty.Body"})),
    ] {
        let event = json!({"body": body, "headers": headers}).to_string();
        let done = run(&function).event(&event).run().exits(1);
        assert_eq!(done.out(), body, "{done:?}");
        let object = run(&function).event(&event).args(&["--json"]).run().exits(1).json();
        assert_eq!(object["functionError"], "Unhandled", "{object}");
    }
}

#[test]
fn a_result_that_is_no_text_goes_out_byte_for_byte() {
    let Some(function) = peer(
        r#"
        door = Connection()
        door.next()
        door.ask("POST", "invocation/%s/response" % door.id, bytes(range(256)) + b"\r\n")
        wait_to_die()
        "#,
    ) else {
        return;
    };
    let all: Vec<u8> = (0..=255).chain(*b"\r\n").collect();
    assert_eq!(run(&function).run().exits(0).stdout, all);
    // As one JSON object it can only be a text, lossy where it is none.
    let object = run(&function).args(&["--json"]).run().exits(0).json();
    assert_eq!(object["result"], String::from_utf8_lossy(&all).into_owned());
}

#[test]
fn a_plain_answer_may_come_in_chunks() {
    let Some(function) = peer(
        r#"
        door = Connection()
        door.next()
        door.head("POST", API + "invocation/%s/response" % door.id, [("transfer-encoding", "chunked")])
        for piece in (b'{"in"', b':"pi', b'eces"}'):
            door.send(b"%x\r\n%s\r\n" % (len(piece), piece))
            time.sleep(0.05)
        door.send(b"0\r\n\r\n")
        wait_to_die()
        "#,
    ) else {
        return;
    };
    assert_eq!(run(&function).run().exits(0).out(), r#"{"in":"pieces"}"#);
}

#[test]
fn an_answer_waits_for_100_continue() {
    let Some(function) = peer(
        r#"
        door = Connection()
        door.next()
        path = API + "invocation/%s/response" % door.id
        door.head("POST", path, [("Expect", "100-continue")], length=4)
        if door.read().status != 100:
            sys.exit("no 100")
        door.send(b"true")
        wait_to_die()
        "#,
    ) else {
        return;
    };
    assert_eq!(run(&function).run().exits(0).out(), "true");
}

// ---------------------------------------------------------------------------------------------------------
// Streams.

const STREAM: &str = r#"
    door = Connection()
    event = json.loads(door.next().body)
    door.head("POST", API + "invocation/%s/response" % door.id, [
        ("Lambda-Runtime-Function-Response-Mode", "streaming"),
        ("Transfer-Encoding", "chunked"),
        ("Trailer", "Lambda-Runtime-Function-Error-Type"),
        ("Trailer", "Lambda-Runtime-Function-Error-Body"),
    ])
    for piece in event["pieces"]:
        piece = piece.encode() * event.get("times", 1)
        door.send(b"%x\r\n%s\r\n" % (len(piece), piece))
        time.sleep(0.05)
    if "cut" in event:
        door.close()
        sys.exit(event["cut"])
    door.send(b"0\r\n")
    for name, value in event.get("trailers", {}).items():
        door.send(("%s: %s\r\n" % (name, value)).encode())
    door.send(b"\r\n")
    wait_to_die()
"#;

#[test]
fn a_streamed_answer_is_its_pieces_in_order() {
    let Some(function) = peer(STREAM) else { return };
    let event = r#"{"pieces":["one ","two ","{three"]}"#;
    assert_eq!(run(&function).event(event).run().exits(0).out(), "one two {three");
    let event = r#"{"pieces":[]}"#;
    assert_eq!(run(&function).event(event).run().exits(0).out(), "");
}

#[test]
fn a_stream_may_be_larger_than_a_plain_answer() {
    let Some(function) = peer(STREAM) else { return };
    let event = r#"{"pieces":["0123456789","abcdefghij"],"times":1000000}"#;
    let done = run(&function).event(event).run().exits(0);
    assert_eq!(done.stdout.len(), 20_000_000);
    assert!(done.stdout.ends_with(b"hij") && done.stdout.starts_with(b"012"));
}

#[test]
fn an_error_in_the_trailers_is_the_result() {
    let Some(function) = peer(STREAM) else { return };
    let error = r#"{"errorMessage":"midway","errorType":"Broken"}"#;
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, error);
    let event = json!({"pieces": ["good so far"], "trailers": {
        "Lambda-Runtime-Function-Error-Type": "Broken",
        "Lambda-Runtime-Function-Error-Body": encoded,
    }});
    let done = run(&function).event(&event.to_string()).run().exits(1);
    assert_eq!(done.out(), error);
}

#[test]
fn a_stream_that_breaks_off_is_no_success() {
    let Some(function) = peer(STREAM) else { return };
    let done = run(&function).event(r#"{"pieces":["half"],"cut":0}"#).run();
    done.is_error("Runtime.ExitError", "Runtime exited without providing a reason");
    let done = run(&function).event(r#"{"pieces":["half"],"cut":9}"#).run();
    done.is_error("Runtime.ExitError", "Runtime exited with error: exit status 9");
}

#[test]
fn a_stream_that_broke_off_is_not_part_of_a_later_answer() {
    let Some(function) = peer(
        r#"
        door = Connection()
        door.next()
        path = API + "invocation/%s/response" % door.id
        stream = [("Lambda-Runtime-Function-Response-Mode", "streaming"), ("Transfer-Encoding", "chunked")]
        door.head("POST", path, stream)
        door.send(b"8\r\nDISCARD!\r\n")
        time.sleep(0.2)
        door.close()
        again = Connection()
        for attempt in range(100):
            again.head("POST", path, stream)
            again.send(b"5\r\nwhole\r\n0\r\n\r\n")
            if again.read().status == 400:
                time.sleep(0.05)  # the first connection's end is not seen yet
                continue
            wait_to_die()
        sys.exit("never accepted")
        "#,
    ) else {
        return;
    };
    assert_eq!(run(&function).run().exits(0).out(), "whole");
}

// ---------------------------------------------------------------------------------------------------------
// Wrong ids, twice, too late, too early.

#[test]
fn unknown_request_ids_are_400() {
    let Some(function) = peer(
        r#"
        early = Connection().ask("POST", "invocation/early/response", b"1").told()
        door = Connection()
        door.next()
        seen = [early]
        for id in ("unknown", "", "..", "%s" % door.id.upper(), door.id + "0", "%2e%2e", door.id + "?x"):
            for kind in ("response", "error"):
                seen.append(Connection().ask("POST", "invocation/%s/%s" % (id, kind), b"{}").told())
        respond(door.id, seen)
        wait_to_die()
        "#,
    ) else {
        return;
    };
    let seen = seen(run(&function).run());
    for (n, reply) in seen.as_array().unwrap().iter().enumerate() {
        // An empty id, and one with a query, are other paths or the same id; never an answer.
        let status = reply[0].as_u64().unwrap();
        assert!(status == 400 || status == 404 || status == 405, "{n}: {reply}");
        assert!(
            reply[1]["errorType"].is_string() && reply[1]["errorMessage"].is_string(),
            "{n}: {reply}"
        );
    }
    for n in [0, 1, 2] {
        assert_eq!(
            seen[n],
            json!([400, {"errorMessage": "Invalid request ID", "errorType": "InvalidRequestID"}])
        );
    }
}

#[test]
fn a_refused_body_that_comes_late_does_not_cost_the_connection() {
    // Many clients write head and body apart, and read the status afterwards.
    let Some(function) = peer(
        r#"
        door = Connection()
        door.next()
        seen = []
        for path in ("invocation/unknown/response", "invocation/unknown/error", "init/error", "nonsense"):
            other = Connection()
            other.head("POST", API + path, length=100000)
            time.sleep(0.1)
            try:
                other.send(b"x" * 100000)
                seen.append(other.read().status)
                seen.append(other.ask("GET", "/the/same/connection").status)
            except OSError as error:
                seen.append("%s: %r" % (path, error))
        respond(door.id, seen)
        wait_to_die()
        "#,
    ) else {
        return;
    };
    assert_eq!(seen(run(&function).run()), json!([400, 404, 400, 404, 403, 404, 404, 404]));
}

#[test]
fn only_one_answer_counts() {
    let Some(function) = peer(
        r#"
        door = Connection()
        door.next()
        path = API + "invocation/%s/response" % door.id
        door.head("POST", path, length=9)
        door.send(b'"fir')
        second = []
        for attempt in range(100):
            second = [respond(door.id, "second").told(), Connection().ask("POST", path.replace("response", "error"), b"{}").told()]
            if second[0][0] != 202:
                break
        print("second", json.dumps(second), flush=True)
        door.send(b'st"' + b"  ")
        wait_to_die()
        "#,
    ) else {
        return;
    };
    let done = run(&function).run().exits(0);
    assert_eq!(done.out(), "\"first\"  ", "{done:?}");
    let refused =
        r#"[400, {"errorMessage": "Invalid request ID", "errorType": "InvalidRequestID"}]"#;
    assert!(done.err().contains(&format!("second [{refused}, {refused}]\n")), "{done:?}");
}

#[test]
fn a_second_answer_changes_nothing() {
    let Some(function) = peer(
        r#"
        door = Connection()
        door.next()
        path = API + "invocation/%s/" % door.id
        def post(kind, body):
            return ("POST %s%s HTTP/1.1\r\nHost: k\r\nContent-Length: %d\r\n\r\n%s" % (path, kind, len(body), body)).encode()
        # In one write, so that the later ones are there before anyone can act upon the first.
        door.send(post("response", '"first"') + post("response", '"second"') + post("error", '{"errorMessage":"third"}'))
        wait_to_die()
        "#,
    ) else {
        return;
    };
    assert_eq!(run(&function).run().exits(0).out(), "\"first\"");
}

#[test]
fn an_answer_after_the_deadline_has_no_effect() {
    let mark = mark();
    let code = r#"
        door = Connection()
        reply = door.next()
        deadline = int(reply.headers["lambda-runtime-deadline-ms"]) / 1000
        door.head("POST", API + "invocation/%s/response" % door.id, length=6)
        door.send(b'"la')
        os.spawnv(os.P_NOWAIT, "/bin/sleep", ["sleep", "MARK"])
        time.sleep(max(0, deadline + 0.2 - time.time()))
        door.send(b'te"')
        wait_to_die()
    "#;
    let Some(function) = peer(&code.replace("MARK", &mark)) else { return };
    // A busy host: kennel itself stands still while the deadline and then the answer's end come.
    let live = run(&function).args(&["--timeout", "2"]).start();
    wait_for("the program", Duration::from_secs(30), || {
        (!common::processes_with(&mark).is_empty()).then_some(())
    });
    live.signal(Signal::SIGSTOP);
    std::thread::sleep(Duration::from_millis(2500));
    live.signal(Signal::SIGCONT);
    live.wait().is_error("Sandbox.Timedout", "Task timed out after 2.00 seconds");
}

#[test]
fn half_an_answer_does_not_hold_the_deadline_up() {
    let Some(function) = peer(
        r#"
        door = Connection()
        door.next()
        door.head("POST", API + "invocation/%s/response" % door.id, length=1000)
        while True:
            door.send(b"x")
            time.sleep(0.01)
        "#,
    ) else {
        return;
    };
    let done = run(&function).args(&["--timeout", "1"]).run();
    done.is_error("Sandbox.Timedout", "Task timed out after 1.00 seconds");
}

#[test]
fn init_error_after_next_is_403() {
    let Some(function) = peer(
        r#"
        door = Connection()
        door.next()
        late = Connection().ask("POST", "init/error", b"{}")
        respond(door.id, late.told())
        wait_to_die()
        "#,
    ) else {
        return;
    };
    let reply = seen(run(&function).run());
    assert_eq!(reply[0], 403);
    assert_eq!(reply[1]["errorType"], "InvalidStateTransition");
}

// ---------------------------------------------------------------------------------------------------------
// Sizes and lies about them.

#[test]
fn a_body_over_the_limit_is_413_and_an_error_may_follow() {
    let Some(function) = peer(
        r#"
        door = Connection()
        door.next()
        path = "invocation/%s/response" % door.id
        replies = []
        too_large = b"x" * 6291557
        for kind in ("announced", "chunked"):
            other = Connection()
            if kind == "announced":
                replies.append(other.ask("POST", path, too_large))
            else:
                other.head("POST", API + path, [("Transfer-Encoding", "chunked")])
                other.send(b"%x\r\n%s\r\n0\r\n\r\n" % (len(too_large), too_large))
                replies.append(other.read())
        told = [reply.told() for reply in replies]
        body = json.dumps({"errorType": "Function.ResponseSizeTooLarge", "errorMessage": json.dumps(told)})
        headers = [("Lambda-Runtime-Function-Error-Type", "Function.ResponseSizeTooLarge")]
        Connection().ask("POST", "invocation/%s/error" % door.id, body.encode(), headers)
        wait_to_die()
        "#,
    ) else {
        return;
    };
    let done = run(&function).run().exits(1);
    let error = done.json();
    assert_eq!(error["errorType"], "Function.ResponseSizeTooLarge");
    let told: serde_json::Value =
        serde_json::from_str(error["errorMessage"].as_str().unwrap()).unwrap();
    for reply in [&told[0], &told[1]] {
        assert_eq!(reply[0], 413, "{told}");
        assert_eq!(reply[1]["errorType"], "RequestEntityTooLarge", "{told}");
        assert!(reply[1]["errorMessage"].as_str().unwrap().contains("6291556"), "{told}");
    }
}

#[test]
fn a_runtime_that_gives_up_after_413_is_no_success() {
    let Some(function) = peer(
        r#"
        door = Connection()
        door.next()
        reply = Connection().ask("POST", "invocation/%s/response" % door.id, b"x" * 6291557)
        sys.exit(reply.status - 400)
        "#,
    ) else {
        return;
    };
    let error = run(&function).run().exits(1).json();
    assert_eq!(error["errorType"], "Function.ResponseSizeTooLarge");
}

#[test]
fn an_answer_cut_short_is_no_success() {
    let Some(function) = peer(
        r#"
        door = Connection()
        event = json.loads(door.next().body)
        door.head("POST", API + "invocation/%s/%s" % (door.id, event["kind"]), length=1000)
        door.send(b'"whole as JSON"')
        door.close()
        if event["then"] == "exit":
            sys.exit(0)
        wait_to_die()
        "#,
    ) else {
        return;
    };
    for kind in ["response", "error"] {
        let event = json!({"kind": kind, "then": "exit"}).to_string();
        let done = run(&function).event(&event).run();
        done.is_error("Runtime.ExitError", "Runtime exited without providing a reason");
        let event = json!({"kind": kind, "then": "wait"}).to_string();
        let done = run(&function).event(&event).args(&["--timeout", "1"]).run();
        done.is_error("Sandbox.Timedout", "Task timed out after 1.00 seconds");
    }
}

#[test]
fn after_an_answer_cut_short_a_whole_one_counts() {
    let Some(function) = peer(
        r#"
        door = Connection()
        door.next()
        door.head("POST", API + "invocation/%s/response" % door.id, length=1000)
        door.send(b'"half"')
        door.close()
        for attempt in range(100):
            if respond(door.id, "whole").status != 400:
                wait_to_die()
            time.sleep(0.05)  # until the other side has seen the end of the first
        "#,
    ) else {
        return;
    };
    assert_eq!(run(&function).run().exits(0).json(), "whole");
}

#[test]
fn a_length_that_is_a_lie_costs_nothing() {
    let Some(function) = peer(
        r#"
        door = Connection()
        door.next()
        path = API + "invocation/%s/response" % door.id
        liars = []
        for length in ("99999999999999", "18446744073709551615", "18446744073709551616", "-1", "4, 4", "4x", "+4"):
            liar = Connection(timeout=0.5)
            liar.send(("POST %s HTTP/1.1\r\nHost: k\r\nContent-Length: %s\r\n\r\n" % (path, length)).encode() + b'"li"')
            liars.append(liar)
        statuses = [liar.read().status for liar in liars]
        for liar in liars:
            liar.close()
        for attempt in range(100):
            if respond(door.id, statuses).status != 400:
                wait_to_die()
            time.sleep(0.05)
        "#,
    ) else {
        return;
    };
    let object = run(&function).args(&["--json"]).run().exits(0).json();
    for status in object["result"].as_array().unwrap() {
        let status = status.as_u64().unwrap();
        assert!(matches!(status, 0 | 400..=499), "{object}");
    }
}

#[test]
fn two_lengths_or_length_and_chunks_smuggle_nothing() {
    let Some(function) = peer(
        r#"
        door = Connection()
        door.next()
        path = API + "invocation/%s/response" % door.id
        seen = []
        inner = "POST %s HTTP/1.1\r\nHost: k\r\nContent-Length: 10\r\n\r\n\"smuggled\"" % path
        for headers in ("Content-Length: 4\r\nContent-Length: 5", "Content-Length: 4\r\nTransfer-Encoding: chunked",
                        "Transfer-Encoding: chunked\r\nContent-Length: 4", "Transfer-Encoding: chunked, identity"):
            other = Connection(timeout=1)
            path_of_none = path.replace(door.id, "none")
            other.send(("POST %s HTTP/1.1\r\nHost: k\r\n%s\r\n\r\n0\r\n\r\n" % (path_of_none, headers)).encode())
            seen.append(other.read().status)
            other.close()
        respond(door.id, seen)
        wait_to_die()
        "#,
    ) else {
        return;
    };
    let result = seen(run(&function).run());
    for status in result.as_array().unwrap() {
        assert_eq!(status, 400, "{result}");
    }
}

// ---------------------------------------------------------------------------------------------------------
// Requests that are none.

#[test]
fn malformed_requests_are_refused_and_the_server_lives() {
    let Some(function) = peer(
        r#"
        door = Connection()
        door.next()
        path = API + "invocation/next"
        seen = {}
        for name, data in {
            "nonsense": b"hello there\r\n\r\n",
            "nul": b"\0" * 100 + b"\r\n\r\n",
            "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xaa" * 100,
            "no version": b"GET " + path.encode() + b"\r\n\r\n",
            "version 3": b"GET " + path.encode() + b" HTTP/3.0\r\n\r\n",
            "space in name": b"GET " + path.encode() + b" HTTP/1.1\r\nHo st: k\r\n\r\n",
            "http2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "bare return": b"GET " + path.encode() + b" HTTP/1.1\rHost: k\r\r",
        }.items():
            other = Connection(timeout=2)
            other.send(data)
            other.socket.shutdown(socket.SHUT_WR)
            seen[name] = other.read().status
            other.close()
        respond(door.id, seen)
        wait_to_die()
        "#,
    ) else {
        return;
    };
    let result = seen(run(&function).run());
    for (name, status) in result.as_object().unwrap() {
        // 400, 505, or closed without a word.
        assert!(matches!(status.as_u64(), Some(0 | 400 | 505)), "{name}: {status}");
    }
    assert_eq!(result["nonsense"], 400);
}

#[test]
fn a_head_without_end_is_refused() {
    let Some(function) = peer(
        r#"
        door = Connection()
        door.next()

        def endless(start, piece):
            other = Connection(timeout=10)
            sent = 0
            try:
                other.send(start)
                while sent < 16 << 20:
                    other.send(piece)
                    sent += len(piece)
            except OSError as error:
                pass
            reply = other.read()
            other.close()
            return [reply.status, sent]

        start = b"GET " + API.encode() + b"invocation/next HTTP/1.1\r\nHost: k\r\n"
        seen = [
            endless(start + b"X: ", b"x" * 8192),
            endless(start, b"Name: value\r\n" * 600),
            endless(b"GET /", b"x" * 8192),
        ]
        respond(door.id, seen)
        wait_to_die()
        "#,
    ) else {
        return;
    };
    let result = seen(run(&function).run());
    for reply in result.as_array().unwrap() {
        assert!(matches!(reply[0].as_u64(), Some(0 | 400..=499)), "{result}");
        assert!(reply[1].as_u64() < Some(16 << 20), "read on for 16 MB: {result}");
    }
}

#[test]
fn unknown_paths_are_404_and_wrong_methods_405() {
    let Some(function) = peer(
        r#"
        door = Connection()
        door.next()
        seen = {}
        for method, path in (
            ("GET", "/"), ("GET", "/2018-06-01/runtime"), ("GET", "/2018-06-01/runtime/"), ("GET", "/2018-06-01/ping"),
            ("GET", "/2015-03-31/functions"), ("GET", API + "invocation"), ("GET", API + "invocation/next/"),
            ("GET", API + "invocation//next"), ("GET", API + "../runtime/invocation/next"), ("POST", API + "restore/error"),
            ("POST", API + "invocation/next"), ("DELETE", API + "invocation/next"), ("GET", API + "init/error"),
            ("GET", API + "invocation/x/response"), ("PUT", API + "invocation/x/error"), ("BREW", API + "init/error"),
        ):
            seen["%s %s" % (method, path)] = Connection().ask(method, path).told()
        respond(door.id, seen)
        wait_to_die()
        "#,
    ) else {
        return;
    };
    let result = seen(run(&function).run());
    for (request, reply) in result.as_object().unwrap() {
        let (_, path) = request.split_once(' ').unwrap();
        let known =
            ["invocation/next", "init/error", "invocation/x/response", "invocation/x/error"];
        let known = known.iter().any(|p| path == format!("/2018-06-01/runtime/{p}"));
        assert_eq!(reply[0], if known { 405 } else { 404 }, "{request}: {reply}");
        assert!(reply[1]["errorType"].is_string(), "{request}: {reply}");
    }
}

// ---------------------------------------------------------------------------------------------------------
// Connections.

#[test]
fn two_hundred_connections_at_once_are_served() {
    let Some(function) = peer(
        r#"
        threading.stack_size(256 << 10)
        door = Connection()
        door.next()
        together = threading.Barrier(200)
        statuses = []

        def ask(unix):
            together.wait()
            try:
                reply = Connection(unix).ask("GET", "/nothing", headers=[("Connection", "close")])
                statuses.append(reply.status)
            except OSError as error:
                statuses.append("%s: %r" % ("unix" if unix else "tcp", error))

        threads = [threading.Thread(target=ask, args=(number % 2 == 0,)) for number in range(200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        respond(door.id, statuses)
        wait_to_die()
        "#,
    ) else {
        return;
    };
    let done = run(&function).run().exits(0);
    let statuses = done.json();
    let served = statuses.as_array().unwrap().iter().filter(|s| **s == 404).count();
    assert_eq!(served, 200, "{done:?}");
}

#[test]
fn idle_connections_do_not_lock_the_runtime_out() {
    let Some(function) = peer(
        r#"
        door = Connection()
        door.next()
        idle = [Connection(unix=number % 2 == 0) for number in range(100)]
        # The runtime's own connection was there before.
        body = json.dumps(len(idle)).encode()
        door.ask("POST", "invocation/%s/response" % door.id, body)
        wait_to_die()
        "#,
    ) else {
        return;
    };
    assert_eq!(seen(run(&function).run()), 100);
}

#[test]
fn an_abandoned_next_swallows_no_event() {
    let Some(function) = peer(
        r#"
        how = {}
        def abandon(name, act):
            other = Connection()
            other.head("GET", API + "invocation/next")
            act(other)
            other.close()
            how[name] = True

        abandon("at once", lambda other: None)
        abandon("in the middle of its head", lambda other: other.socket.recv(20))
        abandon("after its head", lambda other: other.socket.recv(20) and time.sleep(0.1))
        reset = Connection()
        reset.head("GET", API + "invocation/next")
        reset.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        reset.close()
        door = Connection(unix=True)
        reply = door.next()
        respond(door.id, [json.loads(reply.body), sorted(how)])
        wait_to_die()
        "#,
    ) else {
        return;
    };
    let result = seen(run(&function).event(r#""the event""#).run());
    assert_eq!(result[0], "the event");
    assert_eq!(result[1].as_array().unwrap().len(), 3);
}

#[test]
fn a_second_next_waits_and_gets_nothing_twice() {
    let Some(function) = peer(
        r#"
        door = Connection()
        door.next()
        others = [Connection(), Connection(unix=True)]
        for other in others:
            other.head("GET", API + "invocation/next")
        door.head("GET", API + "invocation/next")
        quiet = [other.silent(0.3) for other in others + [door]]
        respond(door.id, quiet)
        wait_to_die()
        "#,
    ) else {
        return;
    };
    assert_eq!(seen(run(&function).run()), json!([true, true, true]));
}

#[test]
fn a_connection_for_each_request_is_as_good_as_one_for_all() {
    let Some(function) = peer(
        r#"
        door = Connection()
        reply = door.next()
        door.close()
        respond(door.id, json.loads(reply.body))
        wait_to_die()
        "#,
    ) else {
        return;
    };
    assert_eq!(seen(run(&function).event("[1, 2]").run()), json!([1, 2]));
}

#[test]
fn http_1_0_and_pipelines_are_served() {
    let Some(function) = peer(
        r#"
        old = Connection()
        old.send(("GET %sinvocation/next HTTP/1.0\r\n\r\n" % API).encode())
        id = old.read().headers["lambda-runtime-aws-request-id"]
        pipe = Connection()
        pipe.send(b"GET /a HTTP/1.1\r\nHost: k\r\n\r\nGET /b HTTP/1.1\r\nHost: k\r\n\r\n")
        respond(id, [pipe.read().status, pipe.read().status])
        wait_to_die()
        "#,
    ) else {
        return;
    };
    assert_eq!(seen(run(&function).run()), json!([404, 404]));
}

#[test]
fn a_program_that_never_asks_is_timed_out() {
    let Some(function) = provided(b"#!/bin/sh\nwhile :; do sleep 1; done\n") else { return };
    let done = function.invoke().args(&["--timeout", "1"]).run();
    done.is_error("Sandbox.Timedout", "Task timed out after 1.00 seconds");
}
