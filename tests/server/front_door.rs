//! Who gets in, and that one bad client does not stop the others.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::harness::{Answer, Call, Key, PRINCIPAL, Server};

const FUNCTIONS: &str = "/2015-03-31/functions";
const ECHO: &str = "def handler(event, context): return event";

// ---------------------------------------------------------------------------------------------------------
// Signatures.

#[test]
fn what_is_not_signed_well_is_refused_in_awss_words() {
    let Some(server) = Server::shared() else { return };
    let key = &server.key;
    let list = || server.plain("GET", FUNCTIONS);
    let now = Timestamp::now();
    let other = |id: &str, secret: &str| Key { id: id.into(), secret: secret.into() };
    let minutes = |m: i64| now.checked_add(SignedDuration::from_mins(m)).unwrap();
    let invoke = || server.plain("POST", "/2015-03-31/functions/any/invocations").body("{}");
    let tampered = |change: fn(&mut Call)| {
        let mut call = invoke().signed(key);
        change(&mut call);
        call
    };
    let mismatch = "The request signature we calculated does not match the signature you provided. \
                    Check your AWS Secret Access Key and signing method. Consult the service documentation for details.";
    for (what, call, code, text) in [
        ("unsigned", list(), "MissingAuthenticationTokenException", "Missing Authentication Token"),
        (
            "unknown key",
            list().signed(&other("AKIDNOBODY", &key.secret)),
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
        ),
        (
            "wrong secret",
            list().signed(&other(&key.id, "no")),
            "InvalidSignatureException",
            mismatch,
        ),
        (
            "old",
            list().signed_at(key, "lambda", minutes(-6)),
            "InvalidSignatureException",
            "Signature expired: ",
        ),
        (
            "early",
            list().signed_at(key, "lambda", minutes(6)),
            "InvalidSignatureException",
            "Signature not yet current: ",
        ),
        (
            "service",
            list().signed_at(key, "s3", now),
            "InvalidSignatureException",
            "Credential should be scoped to correct service: 'lambda'.",
        ),
        ("body", tampered(|c| c.body = b"[]".to_vec()), "InvalidSignatureException", mismatch),
        (
            "path",
            tampered(|c| c.path = c.path.replace("any", "other")),
            "InvalidSignatureException",
            mismatch,
        ),
        (
            "query",
            tampered(|c| c.query = "Qualifier=1".into()),
            "InvalidSignatureException",
            mismatch,
        ),
        (
            "host",
            tampered(|c| drop(c.headers.insert("host", "elsewhere".parse().unwrap()))),
            "InvalidSignatureException",
            mismatch,
        ),
        (
            "basic",
            list().header("authorization", "Basic eDp5"),
            "IncompleteSignatureException",
            "Authorization=Basic",
        ),
        (
            "half",
            list().header("authorization", "AWS4-HMAC-SHA256 Credential=a"),
            "IncompleteSignatureException",
            "'SignedHeaders'",
        ),
    ] {
        let answer = server.send(&call).fails(403, code, text);
        assert_eq!(answer.header("x-amzn-requestid").len(), 36, "{what}");
    }
    let mut region = key.signer("lambda");
    region.region = "eu-west-1";
    let mut call = list();
    let request = kennel::sigv4::Request { method: "GET", path: FUNCTIONS, query: "" };
    let body = kennel::sigv4::Body::Bytes(b"");
    region.sign_headers(request, &mut call.headers, body, now).unwrap();
    server.send(&call).fails(403, "InvalidSignatureException", "a valid region, not 'eu-west-1'");
    server.send(&list().signed_at(key, "lambda", minutes(-4))).is(200);
}

#[test]
fn the_address_of_the_code_is_good_as_it_is_and_no_other_way() {
    let Some(server) = Server::shared() else { return };
    let package = crate::harness::python_zip(ECHO);
    let Some(runtime) = crate::common::python_runtime() else { return };
    server.create("download", runtime, "app.handler", &package, &json!({}));
    let function =
        server.call("GET", "/2015-03-31/functions/download", &Value::Null).is(200).json();
    let location = function["Code"]["Location"].as_str().unwrap();
    let target = location.strip_prefix(&server.url).unwrap_or_else(|| panic!("{location}"));
    let get = |target: &str| server.send(&server.plain("GET", target));
    let answer = get(target).is(200);
    assert_eq!(answer.body, package, "byte for byte");
    assert_eq!(answer.header("content-type"), "application/zip");
    assert!(target.contains("X-Amz-Expires=600"), "{target}");
    get(&target.replace("X-Amz-Expires=600", "X-Amz-Expires=601")).fails(
        403,
        "InvalidSignatureException",
        "does not match",
    );
    let other = "0".repeat(64);
    let (path, query) = target.split_once('?').unwrap();
    get(&format!("/_kennel/code/{other}?{query}")).fails(403, "InvalidSignatureException", "");
    get(path).fails(403, "MissingAuthenticationTokenException", "Missing");
    get("/_kennel/code/../../kennel.db").is(403);
    // An address that expired.
    let key = server.key.signer("lambda");
    let headers = server.plain("GET", path).headers;
    let request = kennel::sigv4::Request { method: "GET", path, query: "" };
    let signed = |minutes: i64| {
        let then = Timestamp::now().checked_sub(SignedDuration::from_mins(minutes)).unwrap();
        let body = kennel::sigv4::Body::Bytes(b"");
        format!("{path}?{}", key.presign(request, &headers, body, 600, then))
    };
    get(&signed(9)).is(200);
    get(&signed(11)).fails(403, "InvalidSignatureException", "Signature expired: ");
}

#[test]
fn another_key_may_do_what_a_resource_policy_allows() {
    let Some(server) = Server::shared() else { return };
    if !server.python("shared-out", ECHO, &json!({})) {
        return;
    }
    let (id, secret, arn) = PRINCIPAL;
    let key = Key { id: id.into(), secret: secret.into() };
    let invoke = |name: &str| server.send(&server.invocation(name, b"1", &[]).signed(&key));
    let denied = format!(
        "User: {arn} is not authorized to perform: lambda:InvokeFunction on resource: \
         arn:aws:lambda:us-east-1:000000000000:function:shared-out because no resource-based policy allows the \
         lambda:InvokeFunction action"
    );
    invoke("shared-out").fails(403, "AccessDeniedException", &denied);
    let statement = json!({ "StatementId": "one", "Action": "lambda:InvokeFunction", "Principal": "111122223333" });
    server.allow("shared-out/policy", &statement);
    assert_eq!(invoke("shared-out").is(200).text(), "1");
    server.publish("shared-out");
    invoke("shared-out:1").fails(403, "AccessDeniedException", "shared-out:1");
    for (method, target) in [("GET", FUNCTIONS), ("DELETE", "/2015-03-31/functions/shared-out")] {
        let call = server.plain(method, target).signed(&key);
        server.send(&call).fails(403, "AccessDeniedException", arn);
    }
    let target = "/2015-03-31/functions/shared-out/policy/one";
    server.call("DELETE", target, &Value::Null).is(204);
    invoke("shared-out").fails(403, "AccessDeniedException", arn);
}

// ---------------------------------------------------------------------------------------------------------
// Requests that are none.

#[test]
fn bodies_that_are_no_request() {
    let Some(server) = Server::shared() else { return };
    let send =
        |body: &str| server.send(&server.plain("POST", FUNCTIONS).body(body).signed(&server.key));
    let unreadable = "Could not parse request body into json: ";
    for body in ["{", "nope", "[1", "{\"a\":}", "\u{0}"] {
        send(body).fails(400, "InvalidRequestContentException", unreadable);
    }
    let deep = format!("{{\"Tags\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    send(&deep).fails(400, "InvalidRequestContentException", unreadable);
    send("{}").fails(
        400,
        "ValidationException",
        "Value null at 'role' failed to satisfy constraint: Member must not be null",
    );
    send("[]").is(400);
    let bad_role = json!({ "FunctionName": "x", "Role": "r1", "Code": {}, "Runtime": "python3.12", "Handler": "a.b" });
    let text = "1 validation error detected: Value 'r1' at 'role' failed to satisfy constraint: \
                Member must satisfy regular expression pattern";
    let answer = send(&bad_role.to_string()).fails(400, "ValidationException", text);
    assert!(answer.json().get("Type").is_none(), "{answer:?}");
}

#[test]
fn operations_that_are_none_and_those_that_are_not_built() {
    let Some(server) = Server::shared() else { return };
    for (method, target) in
        [("GET", "/"), ("PATCH", FUNCTIONS), ("GET", "/2015-03-31/nothing"), ("GET", "/x?y=%zz")]
    {
        let call = server.plain(method, target).signed(&server.key);
        server.send(&call).fails(
            404,
            "UnknownOperationException",
            "The requested operation does not exist.",
        );
    }
    let request = json!({
        "CapacityProviderName": "c",
        "PermissionsConfig": { "CapacityProviderOperatorRoleArn": "arn:aws:iam::000000000000:role/r" },
        "VpcConfig": { "SubnetIds": ["subnet-12345678"], "SecurityGroupIds": ["sg-12345678"] },
    });
    server.call("POST", "/2025-11-30/capacity-providers", &request).fails(
        400,
        "InvalidParameterValueException",
        "Kennel does not implement CreateCapacityProvider",
    );
}

#[test]
fn health_and_metrics_need_no_key() {
    let Some(server) = Server::shared() else { return };
    if !server.python("measured", ECHO, &json!({})) {
        return;
    }
    server.result("measured", &json!(1));
    server.result("measured", &json!(2));
    let get = |method: &str, target: &str| server.send(&server.plain(method, target));
    let health = get("GET", "/_kennel/health").is(200);
    assert_eq!(health.json(), json!({ "status": "ok" }));
    let head = get("HEAD", "/_kennel/health").is(200);
    assert!(head.body.is_empty(), "{head:?}");
    assert_eq!(head.header("content-length"), health.body.len().to_string());
    get("HEAD", "/_kennel/metrics").is(200);
    let metrics = get("GET", "/_kennel/metrics").is(200);
    assert!(
        metrics.header("content-type").starts_with("application/openmetrics-text"),
        "{metrics:?}"
    );
    assert!(metrics.text().ends_with("# EOF\n"));
    for (series, want) in [
        ("kennel_invocations_total{function=\"measured\"}", 2.0),
        ("kennel_invocation_errors_total{function=\"measured\"}", 0.0),
        ("kennel_cold_starts_total{function=\"measured\"}", 1.0),
        ("kennel_invocation_duration_seconds_count{function=\"measured\"}", 2.0),
        ("kennel_sandboxes{function=\"measured\",state=\"idle\"}", 1.0),
    ] {
        assert_eq!(server.metric(series), Some(want), "{series}");
    }
    for (method, target) in [("POST", "/_kennel/health"), ("GET", "/_kennel/nothing")] {
        get(method, target).fails(403, "MissingAuthenticationTokenException", "Missing");
    }
}

// ---------------------------------------------------------------------------------------------------------
// Limits.

#[test]
fn heads_and_bodies_have_limits() {
    let Some(server) = Server::shared() else { return };
    for call in [
        server.plain("GET", FUNCTIONS).header("x-large", &"x".repeat(100_000)),
        server.plain("GET", &format!("{FUNCTIONS}?Marker={}", "x".repeat(100_000))),
    ] {
        let mut stream = server.connect();
        // The server may hang up before it has all.
        let _ = stream.write_all(&call.bytes());
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        if !bytes.is_empty() {
            let status = Answer::parse(&bytes, "GET").status;
            assert!(matches!(status, 413 | 414 | 431), "{status}");
        }
    }
    let target = "/2015-03-31/functions/any/aliases";
    let call = server.plain("POST", target).body(vec![b' '; (1 << 20) + 1]).signed(&server.key);
    let text = "Request must be smaller than 1048576 bytes for the CreateAlias operation";
    server.send(&call).fails(413, "RequestEntityTooLargeException", text);
    let call = server.plain("POST", FUNCTIONS).body(vec![b' '; 70_167_212]).signed(&server.key);
    let text = "Request must be smaller than 70167211 bytes for the CreateFunction operation";
    server.send(&call).fails(413, "RequestEntityTooLargeException", text);
}

/// Their bodies take no memory, and who sends all of a large one still reads the refusal.
#[test]
fn strangers_with_large_bodies_are_refused_and_stop_nobody() {
    let Some(server) = Server::shared() else { return };
    if !server.python("not-stopped", ECHO, &json!({})) {
        return;
    }
    let stranger = Key { id: "AKIDNOBODY".into(), secret: "s".into() };
    let all = server.plain("POST", FUNCTIONS).body(vec![b' '; 8 << 20]);
    server.send(&all.clone().signed(&stranger)).fails(403, "UnrecognizedClientException", "");
    server.send(&all).fails(403, "MissingAuthenticationTokenException", "");
    // Twelve that announce the most there may be, and send nothing.
    let silent: Vec<_> = (0..12)
        .map(|_| {
            let call = server.plain("POST", FUNCTIONS).header("content-length", "70000000");
            let mut stream = server.connect();
            stream.write_all(&call.signed(&stranger).bytes()).unwrap();
            stream
        })
        .collect();
    let began = Instant::now();
    let event = json!("x".repeat(1 << 20));
    assert_eq!(server.result("not-stopped", &event), event);
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    for mut stream in silent {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        Answer::parse(&bytes, "POST").fails(403, "UnrecognizedClientException", "");
    }
}

#[test]
fn slow_and_idle_clients_stop_nobody() {
    let Some(server) = Server::shared() else { return };
    if !server.python("beside", ECHO, &json!({})) {
        return;
    }
    let idle: Vec<_> = (0..200).map(|_| server.connect()).collect();
    let mut slow: Vec<_> = (0..50).map(|_| server.connect()).collect();
    let request = server.plain("GET", "/_kennel/health").bytes();
    let rest = std::thread::scope(|scope| {
        let dripping = scope.spawn(|| {
            let mut sent = 0;
            for piece in request.chunks(1).take(20) {
                for stream in &mut slow {
                    stream.write_all(piece).unwrap();
                }
                sent += piece.len();
                std::thread::sleep(Duration::from_millis(50));
            }
            sent
        });
        for n in 0..5 {
            assert_eq!(server.result("beside", &json!(n)), n);
        }
        dripping.join().unwrap()
    });
    // They are slow, not wrong.
    for mut stream in slow {
        stream.write_all(&request[rest..]).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        Answer::parse(&bytes, "GET").is(200);
    }
    for mut stream in idle {
        stream.write_all(&request).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        Answer::parse(&bytes, "GET").is(200);
    }
}

#[test]
fn a_connection_carries_one_request_after_another() {
    let Some(server) = Server::shared() else { return };
    let call = server.plain("GET", "/2015-03-31/functions?MaxItems=1").signed(&server.key);
    let bytes = String::from_utf8(call.bytes()).unwrap().replace("connection: close\r\n", "");
    let mut stream = server.connect();
    for _ in 0..3 {
        stream.write_all(bytes.as_bytes()).unwrap();
        let mut seen = Vec::new();
        // Until the body is as long as its head says.
        loop {
            let mut buffer = [0; 4096];
            let length = stream.read(&mut buffer).unwrap();
            assert!(length > 0, "closed: {:?}", String::from_utf8_lossy(&seen));
            seen.extend(&buffer[..length]);
            let text = String::from_utf8_lossy(&seen);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")).unwrap();
            if body.len() == length.parse::<usize>().unwrap() {
                break;
            }
        }
        Answer::parse(&seen, "GET").is(200);
    }
}
