//! Invocations: synchronous, asynchronous and streamed; how a function's failures look; sandboxes between events.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::common::{HOST_PYTHON, dedent, wait_for};
use crate::harness::{ACCOUNT, PATIENCE, REGION, Server, at_once, distinct};

const TAIL: (&str, &str) = ("x-amz-log-type", "Tail");

/// Tells which version ran, how it was named, and of which life of its sandbox this event is.
const WHO: &str = r#"
    import uuid
    me, events = uuid.uuid4().hex, 0

    def handler(event, context):
        global events
        events += 1
        return {"me": me, "events": events, "version": context.function_version,
                "arn": context.invoked_function_arn, "code": 1, "id": context.aws_request_id}
"#;

// ---------------------------------------------------------------------------------------------------------
// Names.

#[test]
fn every_form_of_a_name_leads_to_its_version() {
    let Some(server) = Server::shared() else { return };
    let name = "forms";
    if !server.python(name, WHO, &json!({})) {
        return;
    }
    assert_eq!(server.publish(name), "1");
    server.update(name, &WHO.replace("\"code\": 1", "\"code\": 2"));
    assert_eq!(server.publish(name), "2");
    server.alias(name, &json!({ "Name": "live", "FunctionVersion": "1" }));
    let arn = format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}");
    let plain = ["$LATEST", "1", "2", "live"].map(|q| (q, format!("{arn}:{q}")));
    let partial = format!("{ACCOUNT}:function:{name}");
    let mut rows = vec![
        (name.to_owned(), "$LATEST", arn.clone()),
        (arn.clone(), "$LATEST", arn.clone()),
        (partial.clone(), "$LATEST", arn.clone()),
    ];
    for (qualifier, full) in &plain {
        for form in [
            format!("{name}:{qualifier}"),
            format!("{name}?Qualifier={}", kennel::sigv4::encode(qualifier)),
            format!("{arn}:{qualifier}"),
            format!("{partial}:{qualifier}"),
            format!("{arn}:{qualifier}?Qualifier={}", kennel::sigv4::encode(qualifier)),
        ] {
            let version = if *qualifier == "live" { "1" } else { qualifier };
            rows.push((form, version, full.clone()));
        }
    }
    for (form, version, invoked) in rows {
        let answer = server.invoke(&form, &json!({})).is(200);
        assert_eq!(answer.header("x-amz-executed-version"), version, "{form}");
        let result = answer.json();
        assert_eq!(
            (&result["version"], &result["arn"]),
            (&json!(version), &json!(invoked)),
            "{form}"
        );
        assert_eq!(result["code"], if version == "1" { 1 } else { 2 }, "{form}");
        assert_eq!(result["id"], answer.header("x-amzn-requestid"), "{form}");
    }
    server.invoke(&format!("{arn}:1?Qualifier=2"), &json!({})).fails(
        400,
        "InvalidParameterValueException",
        "The derived qualifier from the function name does not match the specified qualifier.",
    );
    for (form, named) in
        [("nobody", "nobody:$LATEST"), ("forms:9", "forms:9"), ("forms:no", "forms:no")]
    {
        server.invoke(form, &json!({})).fails(
            404,
            "ResourceNotFoundException",
            &format!("Function not found: arn:aws:lambda:{REGION}:{ACCOUNT}:function:{named}"),
        );
    }
}

#[test]
fn an_alias_with_weights_leads_to_both_versions() {
    let Some(server) = Server::shared() else { return };
    let name = "weights";
    if !server.python(name, WHO, &json!({})) {
        return;
    }
    server.publish(name);
    server.update(name, &WHO.replace("\"code\": 1", "\"code\": 2"));
    server.publish(name);
    let routing = json!({ "AdditionalVersionWeights": { "2": 0.5 } });
    server.alias(name, &json!({ "Name": "a", "FunctionVersion": "1", "RoutingConfig": routing }));
    let mut counts = [0_u32; 2];
    for _ in 0..60 {
        let answer = server.invoke("weights:a", &json!({})).is(200);
        let version: usize = answer.header("x-amz-executed-version").parse().unwrap();
        assert_eq!(answer.json()["code"], version, "{answer:?}");
        counts[version - 1] += 1;
    }
    // 60 throws of a coin: fewer than 10 on one side happen once in a hundred million.
    assert!(counts.iter().all(|count| *count >= 10), "{counts:?}");
}

// ---------------------------------------------------------------------------------------------------------
// Kinds of invocations.

#[test]
fn a_dry_run_checks_and_runs_nothing() {
    let Some(server) = Server::shared() else { return };
    if !server.python("dry", WHO, &json!({})) {
        return;
    }
    let dry = [("x-amz-invocation-type", "DryRun")];
    let answer = server.invoke_with("dry", &json!({}), &dry).is(204);
    assert!(answer.body.is_empty(), "{answer:?}");
    server.invoke_with("nobody", &json!({}), &dry).fails(
        404,
        "ResourceNotFoundException",
        "nobody",
    );
    assert_eq!(server.result("dry", &json!({}))["events"], 1, "the dry run was no event");
}

#[test]
fn an_event_and_the_old_invoke_async_run_later() {
    let Some(server) = Server::shared() else { return };
    let code = r#"
        def handler(event, context):
            print("took", event["n"])
    "#;
    if !server.python("later", code, &json!({})) {
        return;
    }
    let event = [("x-amz-invocation-type", "Event")];
    let answer = server.invoke_with("later", &json!({ "n": "first" }), &event).is(202);
    assert!(answer.body.is_empty(), "{answer:?}");
    let call = server.plain("POST", "/2014-11-13/functions/later/invoke-async/");
    let call = call.body(r#"{"n": "second"}"#).signed(&server.key);
    server.send(&call).is(202);
    for want in ["first", "second"] {
        wait_for(want, PATIENCE, || {
            let seen = server.logged("later", &format!("took {want}"));
            seen.iter().any(|m| m.trim_end() == format!("took {want}")).then_some(())
        });
    }
}

#[test]
fn a_failed_event_is_tried_three_times_under_one_id() {
    let Some(server) = Server::shared() else { return };
    let code = r#"
        def handler(event, context):
            print("attempt", context.aws_request_id)
            raise ValueError("again")
    "#;
    if !server.python("retried", code, &json!({})) {
        return;
    }
    let event = [("x-amz-invocation-type", "Event")];
    let id = server.invoke_with("retried", &json!({}), &event).is(202);
    let id = id.header("x-amzn-requestid").to_owned();
    let seen = wait_for("three attempts", PATIENCE, || {
        let seen = server.logged("retried", "attempt");
        (seen.len() >= 3).then_some(seen)
    });
    assert!(seen.iter().all(|m| m.trim_end() == format!("attempt {id}")), "{seen:?}");
    wait_for("the end of the event", PATIENCE, || {
        let failed = server.metric("kennel_async_events_failed_total{function=\"retried\"}");
        failed.filter(|count| *count == 1.0)
    });
    assert_eq!(server.logged("retried", "attempt").len(), 3, "and no fourth one");
}

#[test]
fn client_context_and_trace_reach_the_function() {
    let Some(server) = Server::shared() else { return };
    let code = r#"
        import os
        def handler(event, context):
            return [context.client_context.custom, os.environ["_X_AMZN_TRACE_ID"]]
    "#;
    if !server.python("context", code, &json!({})) {
        return;
    }
    let given = STANDARD.encode(r#"{"custom":{"a":"b"}}"#);
    let trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=0";
    let headers = [("x-amz-client-context", given.as_str()), ("x-amzn-trace-id", trace)];
    let answer = server.invoke_with("context", &json!({}), &headers).is(200).json();
    assert_eq!(answer, json!([{ "a": "b" }, trace]));
    for broken in ["*", &STANDARD.encode("no json")] {
        server.invoke_with("context", &json!({}), &[("x-amz-client-context", broken)]).fails(
            400,
            "InvalidRequestContentException",
            "Client context must be a valid Base64-encoded JSON object.",
        );
    }
}

#[test]
fn no_payload_is_an_empty_event_and_one_that_is_not_json_is_refused() {
    let Some(server) = Server::shared() else { return };
    if !server.python("payload", "def handler(event, context): return event", &json!({})) {
        return;
    }
    let send = |payload: &[u8]| {
        let call = server.invocation("payload", payload, &[]).signed(&server.key);
        server.send(&call)
    };
    for (payload, want) in [("", "{}"), ("null", "null"), (" [1] ", "[1]"), ("\"\u{e4}\"", "")] {
        let answer = send(payload.as_bytes()).is(200);
        if !want.is_empty() {
            assert_eq!(answer.text(), want, "{payload}");
        }
    }
    let deep = "[".repeat(500) + &"]".repeat(500);
    assert_eq!(send(deep.as_bytes()).is(200).text(), deep, "a deep event is still one");
    for payload in [&b"{"[..], b"nope", b"{} x", b"\"\xff\""] {
        let text = "Could not parse request body into json: Could not parse payload into json: ";
        send(payload).fails(400, "InvalidRequestContentException", text);
    }
}

// ---------------------------------------------------------------------------------------------------------
// Streams.

/// Streams what its event says, over the Runtime API by hand.
const STREAMER: &str = r#"
    import http.client, json, os, time
    api = os.environ["AWS_LAMBDA_RUNTIME_API"]
    while True:
        next = http.client.HTTPConnection(api)
        next.request("GET", "/2018-06-01/runtime/invocation/next")
        reply = next.getresponse()
        event, id = json.loads(reply.read()), reply.headers["Lambda-Runtime-Aws-Request-Id"]
        print("streams", flush=True)
        out = http.client.HTTPConnection(api)
        out.putrequest("POST", f"/2018-06-01/runtime/invocation/{id}/response")
        for header, value in [("Lambda-Runtime-Function-Response-Mode", "streaming"),
                              ("Transfer-Encoding", "chunked"),
                              ("Trailer", "Lambda-Runtime-Function-Error-Type"),
                              ("Content-Type", "application/octet-stream")]:
            out.putheader(header, value)
        out.endheaders()
        for piece in event["pieces"]:
            out.send(b"%x\r\n%s\r\n" % (len(piece), piece.encode()))
            time.sleep(event.get("pause", 0))
        out.send(b"0\r\n")
        if event.get("error"):
            out.send(b"Lambda-Runtime-Function-Error-Type: %s\r\n" % event["error"].encode())
            out.send(b"Lambda-Runtime-Function-Error-Body: eyJlcnJvck1lc3NhZ2UiOiJvaCJ9\r\n")
        out.send(b"\r\n")
        out.getresponse().read()
"#;

/// The events of an event stream, each with its type, its checksums verified.
#[track_caller]
fn frames(mut bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let number = |at: &[u8]| u32::from_be_bytes(at[..4].try_into().expect("four bytes"));
    let size = |at: &[u8]| usize::try_from(number(at)).expect("a size");
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let (frame, rest) = bytes.split_at(size(bytes));
        assert_eq!(number(&frame[8..]), crc32fast::hash(&frame[..8]));
        let end = frame.len() - 4;
        assert_eq!(number(&frame[end..]), crc32fast::hash(&frame[..end]));
        let (mut headers, payload) = frame[12..end].split_at(size(&frame[4..]));
        let mut kind = String::new();
        while let [length, rest @ ..] = headers {
            let (name, rest) = rest.split_at(usize::from(*length));
            assert_eq!(rest[0], 7, "text");
            let length = usize::from(u16::from_be_bytes([rest[1], rest[2]]));
            let (value, rest) = rest[3..].split_at(length);
            if name == b":event-type" {
                kind = String::from_utf8(value.to_vec()).expect("text");
            }
            headers = rest;
        }
        all.push((kind, payload.to_vec()));
        bytes = rest;
    }
    all
}

fn streamer(server: &Server, name: &str, more: &Value) -> bool {
    if !std::path::Path::new(HOST_PYTHON).exists() {
        crate::common::skip("no /usr/bin/python3 for the program");
        return false;
    }
    let program = format!("#!{HOST_PYTHON} -IS\n{}", dedent(STREAMER));
    server.provided(name, &program, more);
    true
}

#[test]
fn a_response_stream_is_frames_with_checksums() {
    let Some(server) = Server::shared() else { return };
    if !streamer(server, "streams", &json!({ "Timeout": 10 })) {
        return;
    }
    let stream = |event: &Value, headers: &[(&str, &str)]| {
        let target = "/2021-11-15/functions/streams/response-streaming-invocations";
        let call = server.plain("POST", target).body(event.to_string());
        let call = headers.iter().fold(call, |call, (n, v)| call.header(n, v));
        server.send(&call.signed(&server.key))
    };
    let answer = stream(&json!({ "pieces": ["one", "two"], "pause": 0.3 }), &[TAIL]).is(200);
    assert_eq!(answer.header("content-type"), "application/vnd.amazon.eventstream");
    assert_eq!(answer.header("x-amz-executed-version"), "$LATEST");
    let seen = frames(&answer.body);
    let chunks: Vec<&[u8]> =
        seen.iter().filter(|(kind, _)| kind == "PayloadChunk").map(|(_, b)| &b[..]).collect();
    assert_eq!(chunks, [b"one", b"two"]);
    let (kind, end) = seen.last().unwrap();
    assert_eq!(kind, "InvokeComplete");
    let end: Value = serde_json::from_slice(end).unwrap();
    assert!(end.get("ErrorCode").is_none(), "{end}");
    let tail = STANDARD.decode(end["LogResult"].as_str().unwrap()).unwrap();
    assert!(String::from_utf8(tail).unwrap().contains("streams\n"));

    let answer = stream(&json!({ "pieces": ["half"], "error": "Mine.Failed" }), &[]).is(200);
    let seen = frames(&answer.body);
    assert_eq!(seen[0], ("PayloadChunk".into(), b"half".to_vec()));
    let end: Value = serde_json::from_slice(&seen.last().unwrap().1).unwrap();
    assert_eq!(end["ErrorCode"], "Mine.Failed", "{end}");
    assert!(end["ErrorDetails"].as_str().unwrap().contains("oh"), "{end}");
    assert!(end.get("LogResult").is_none(), "{end}");

    // As one piece, where the caller does not stream.
    let whole = server.invoke("streams", &json!({ "pieces": ["\"one", "two\""] })).is(200);
    assert_eq!(whole.text(), "\"onetwo\"");
    let dry = stream(&json!({ "pieces": [] }), &[("x-amz-invocation-type", "DryRun")]).is(204);
    assert!(dry.body.is_empty());
    let nobody = server
        .plain("POST", "/2021-11-15/functions/nobody/response-streaming-invocations")
        .signed(&server.key);
    server.send(&nobody).fails(404, "ResourceNotFoundException", "nobody");
}

#[test]
fn a_timeout_ends_a_stream_with_its_error() {
    let Some(server) = Server::shared() else { return };
    if !streamer(server, "streams-too-long", &json!({ "Timeout": 1 })) {
        return;
    }
    let target = "/2021-11-15/functions/streams-too-long/response-streaming-invocations";
    let event = json!({ "pieces": ["first", "last"], "pause": 10 });
    let call = server.plain("POST", target).body(event.to_string()).signed(&server.key);
    let seen = frames(&server.send(&call).is(200).body);
    assert_eq!(seen[0], ("PayloadChunk".into(), b"first".to_vec()));
    let end: Value = serde_json::from_slice(&seen.last().unwrap().1).unwrap();
    assert_eq!(end["ErrorCode"], "Sandbox.Timedout", "{end}");
    assert_eq!(seen.len(), 2, "{seen:?}");
}

// ---------------------------------------------------------------------------------------------------------
// Logs' ends, failures.

#[test]
fn the_log_tail_is_of_this_invocation_and_its_last_4_kb() {
    let Some(server) = Server::shared() else { return };
    let code = r#"
        def handler(event, context):
            for n in range(event["lines"]):
                print(event["say"], n)
    "#;
    if !server.python("tail", code, &json!({})) {
        return;
    }
    let tail = |event: Value| {
        let answer = server.invoke_with("tail", &event, &[TAIL]).is(200);
        (answer.header("x-amzn-requestid").to_owned(), answer.log_tail())
    };
    for say in ["first", "second"] {
        let (id, text) = tail(json!({ "say": say, "lines": 1 }));
        let start =
            format!("START RequestId: {id} Version: $LATEST\n{say} 0\nEND RequestId: {id}\n");
        let report = text.strip_prefix(&start).unwrap_or_else(|| panic!("{text}"));
        assert!(report.starts_with(&format!("REPORT RequestId: {id}\tDuration: ")), "{text}");
        assert_eq!(report.contains("\tInit Duration: "), say == "first", "{text}");
        assert!(report.contains("\tMemory Size: 1024 MB\tMax Memory Used: "), "{text}");
    }
    let (id, text) = tail(json!({ "say": "many", "lines": 2000 }));
    assert!(text.len() <= 4096 && text.len() > 3500, "{}", text.len());
    assert!(text.contains("many 1999\n") && text.contains(&format!("REPORT RequestId: {id}")));
    let without = server.invoke("tail", &json!({ "say": "x", "lines": 1 })).is(200);
    assert_eq!(without.header("x-amz-log-result"), "");
}

#[test]
fn failures_are_answers_in_awss_words_and_the_next_event_has_a_fresh_sandbox() {
    let Some(server) = Server::shared() else { return };
    let code = r#"
        import os, signal, time, uuid
        me = uuid.uuid4().hex
        class Refused(Exception): pass

        def handler(event, context):
            match event:
                case "raise": raise Refused("no")
                case "exit": os._exit(7)
                case "leave": os._exit(0)
                case "kill": os.kill(os.getpid(), signal.SIGKILL)
                case "sleep": time.sleep(60)
                case "memory": return len(bytearray(os.urandom(1)) * (2 << 30))
                case "large": return "x" * 6291555
            return me
    "#;
    let more = json!({ "MemorySize": 256, "Timeout": 2 });
    if !server.python("fails", code, &more) {
        return;
    }
    let mut me = server.result("fails", &json!("who"));
    for (event, kind, message, fresh) in [
        ("raise", "Refused", "no", false),
        (
            "exit",
            "Runtime.ExitError",
            "RequestId: ID Error: Runtime exited with error: exit status 7",
            true,
        ),
        (
            "leave",
            "Runtime.ExitError",
            "RequestId: ID Error: Runtime exited without providing a reason",
            true,
        ),
        (
            "kill",
            "Runtime.ExitError",
            "RequestId: ID Error: Runtime exited with error: signal: killed",
            true,
        ),
        (
            "sleep",
            "Sandbox.Timedout",
            "RequestId: ID Error: Task timed out after 2.00 seconds",
            true,
        ),
        (
            "memory",
            "Runtime.ExitError",
            "RequestId: ID Error: Runtime exited with error: signal: killed",
            true,
        ),
        ("large", "Function.ResponseSizeTooLarge", "", false),
    ] {
        let answer = server.invoke_with("fails", &json!(event), &[TAIL]).is(200);
        assert_eq!(answer.header("x-amz-function-error"), "Unhandled", "{event}: {answer:?}");
        assert_eq!(answer.header("x-amz-executed-version"), "$LATEST");
        let (id, error) = (answer.header("x-amzn-requestid"), answer.json());
        assert_eq!(error["errorType"], kind, "{event}: {answer:?}");
        let text = error["errorMessage"].as_str().unwrap_or_default();
        if message.is_empty() {
            assert!(text.contains("6291556"), "{event}: {text}");
        } else {
            assert_eq!(text, message.replace("ID", id), "{event}");
        }
        let report = answer.log_tail();
        assert_eq!(
            report.contains("\tStatus: "),
            event != "raise" && event != "large",
            "{event}: {report}"
        );
        let next = server.result("fails", &json!("who"));
        assert_eq!(next != me, fresh, "{event}: another sandbox");
        me = next;
    }
}

#[test]
fn a_function_that_cannot_be_loaded_says_so_each_time() {
    let Some(server) = Server::shared() else { return };
    if !server.python("unloadable", "import no_such_module", &json!({})) {
        return;
    }
    for _ in 0..2 {
        let answer = server.invoke("unloadable", &json!({})).is(200);
        assert_eq!(answer.header("x-amz-function-error"), "Unhandled");
        let error = answer.json();
        assert_eq!(error["errorType"], "Runtime.ImportModuleError", "{error}");
    }
}

#[test]
fn payloads_up_to_the_limit_and_no_byte_more() {
    let Some(server) = Server::shared() else { return };
    if !server.python("sizes", "def handler(event, context): return len(event)", &json!({})) {
        return;
    }
    let of = |bytes: usize| ["\"".as_bytes(), &vec![b'x'; bytes - 2], b"\""].concat();
    let event = ("x-amz-invocation-type", "Event");
    let send = |bytes: usize, headers: &[(&str, &str)]| {
        server.send(&server.invocation("sizes", &of(bytes), headers).signed(&server.key))
    };
    assert_eq!(send(6_291_456, &[]).is(200).json(), 6_291_454);
    let code = "RequestEntityTooLargeException";
    let text = "6291457 byte payload is too large for the RequestResponse invocation type (limit 6291456 bytes)";
    send(6_291_457, &[]).fails(413, code, text);
    send(1_048_576, &[event]).is(202);
    let text =
        "1048577 byte payload is too large for the Event invocation type (limit 1048576 bytes)";
    send(1_048_577, &[event]).fails(413, code, text);
    // One that does not say how long it is.
    let call = server.invocation("sizes", &of(6_291_457), &[]).signed(&server.key);
    let size = format!("{:x}\r\n", call.body.len());
    let body = [size.as_bytes(), &call.body, b"\r\n0\r\n\r\n"].concat();
    let call = call.header("transfer-encoding", "chunked").body(body);
    server.send(&call).fails(413, code, "6291456 bytes");
}

#[test]
fn a_result_at_the_limit_comes_through_whole() {
    let Some(server) = Server::shared() else { return };
    let code = "def handler(event, context): return 'x' * event";
    if !server.python("results", code, &json!({ "MemorySize": 1769 })) {
        return;
    }
    let most = 6_291_556;
    let answer = server.invoke("results", &json!(most - 2)).is(200);
    assert_eq!((answer.body.len(), answer.header("x-amz-function-error")), (most, ""));
    let answer = server.invoke("results", &json!(most - 1)).is(200);
    assert_eq!(answer.json()["errorType"], "Function.ResponseSizeTooLarge");
}

// ---------------------------------------------------------------------------------------------------------
// Sandboxes between events.

#[test]
fn layers_are_in_opt_and_another_version_is_another_sandbox() {
    let Some(server) = Server::shared() else { return };
    let publish = |text: &[u8]| {
        let package = crate::common::zip(&[("data/text", text, 0o644)]);
        let request = json!({ "Content": { "ZipFile": STANDARD.encode(package) } });
        let made = server.call("POST", "/2018-10-31/layers/data/versions", &request).is(201).json();
        made["LayerVersionArn"].as_str().unwrap().to_owned()
    };
    let (first, second) = (publish(b"first"), publish(b"second"));
    let code = r#"
        import os
        def handler(event, context):
            return [open("/opt/data/text").read(), os.access("/opt/data/text", os.W_OK)]
    "#;
    if !server.python("layered", code, &json!({ "Layers": [first] })) {
        return;
    }
    assert_eq!(server.result("layered", &json!({})), json!(["first", false]));
    let target = "/2015-03-31/functions/layered/configuration";
    server.call("PUT", target, &json!({ "Layers": [second] })).is(200);
    assert_eq!(server.result("layered", &json!({})), json!(["second", false]));
    server.call("PUT", target, &json!({ "Layers": [] })).is(200);
    let without = server.invoke("layered", &json!({})).is(200);
    assert_eq!(without.json()["errorType"], "FileNotFoundError", "{without:?}");
}

/// Keeps its own mark in /tmp.
const MARK: &str = r#"
    import os, time, uuid
    me = uuid.uuid4().hex

    def handler(event, context):
        here = os.listdir("/tmp")
        open("/tmp/" + me, "w").close()
        time.sleep((event or {}).get("sleep", 0))
        return {"me": me, "tmp": here}
"#;

#[test]
fn a_sandbox_is_used_again_until_an_update_ends_it() {
    let Some(server) = Server::shared() else { return };
    if !server.python("warm", MARK, &json!({})) {
        return;
    }
    let first = server.result("warm", &json!({}));
    assert_eq!(first["tmp"], json!([]), "a fresh /tmp");
    for _ in 0..3 {
        let next = server.result("warm", &json!({}));
        assert_eq!(next["me"], first["me"], "the same sandbox");
        assert_eq!(next["tmp"], json!([first["me"]]), "with its /tmp");
    }
    let update = |target: &str, request: Value| {
        server.call("PUT", &format!("/2015-03-31/functions/warm/{target}"), &request).is(200);
        server.result("warm", &json!({}))
    };
    let before = first["me"].clone();
    let environment = json!({ "Environment": { "Variables": { "A_B": "c" } } });
    let after = update("configuration", environment);
    assert_ne!(after["me"], before, "another configuration, another sandbox");
    assert_eq!(after["tmp"], json!([]));
    // What a sandbox has nothing of leaves it alone.
    let described = update("configuration", json!({ "Description": "words" }));
    assert_eq!(described["me"], after["me"]);
    server.update("warm", &format!("{MARK}    # other bytes\n"));
    let other = server.result("warm", &json!({}));
    assert_ne!(other["me"], after["me"], "other code, another sandbox");
    let idle = || server.metric("kennel_sandboxes{function=\"warm\",state=\"idle\"}");
    wait_for("the ends of the old ones", PATIENCE, || idle().filter(|count| *count == 1.0));
}

#[test]
fn one_event_at_a_time_in_a_sandbox_and_the_last_used_one_first() {
    let Some(server) = Server::shared() else { return };
    let code = r#"
        import threading, time, uuid
        me, busy = uuid.uuid4().hex, threading.Lock()

        def handler(event, context):
            assert busy.acquire(blocking=False), "two events in one sandbox"
            time.sleep(event["sleep"])
            busy.release()
            return me
    "#;
    if !server.python("burst", code, &json!({ "MemorySize": 512 })) {
        return;
    }
    let burst = at_once(8, |_| server.result("burst", &json!({ "sleep": 3 })));
    let sandboxes = distinct(burst.iter().map(ToString::to_string));
    assert_eq!(sandboxes, 8, "eight at the same time are in eight sandboxes");
    let last = server.result("burst", &json!({ "sleep": 0 }));
    assert!(burst.contains(&last), "a warm one");
    for _ in 0..5 {
        assert_eq!(server.result("burst", &json!({ "sleep": 0 })), last, "the last used one");
    }
}

#[test]
fn nothing_runs_between_events() {
    let Some(server) = Server::shared() else { return };
    let code = r#"
        import threading, time
        count = 0

        def run_on():
            global count
            while True:
                count += 1
                with open("/tmp/count", "w") as file:
                    file.write(str(count))
                time.sleep(0.01)

        threading.Thread(target=run_on, daemon=True).start()

        def handler(event, context):
            time.sleep(event)
            return int(open("/tmp/count").read() or 0)
    "#;
    if !server.python("frozen", code, &json!({})) {
        return;
    }
    let before = server.result("frozen", &json!(1)).as_i64().unwrap();
    assert!(before > 10, "the thread runs during an event: {before}");
    std::thread::sleep(Duration::from_secs(3));
    let after = server.result("frozen", &json!(0)).as_i64().unwrap();
    assert!(after - before < 60, "it ran on, from {before} to {after}");
}

#[test]
fn what_a_deleted_function_kept_is_not_its_successors() {
    let Some(server) = Server::shared() else { return };
    if !server.python("again", MARK, &json!({})) {
        return;
    }
    let first = server.result("again", &json!({}));
    server.call("DELETE", "/2015-03-31/functions/again", &Value::Null).is(204);
    server.invoke("again", &json!({})).fails(404, "ResourceNotFoundException", "again");
    server.python("again", MARK, &json!({}));
    let second = server.result("again", &json!({}));
    assert_ne!(first["me"], second["me"]);
    assert_eq!(second["tmp"], json!([]));
}
