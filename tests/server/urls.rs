//! Function URLs: who may call, what the function sees, what comes back.

use std::io::{Read, Write};

use serde_json::{Value, json};

use crate::common::zip;
use crate::harness::{Answer, Call, Key, PATIENCE, PRINCIPAL, Server, node_runtime};

/// Answers as its query asks, with what it saw.
const SHOW: &str = r#"
    def handler(event, context):
        if event["rawPath"] == "/made":
            return {"statusCode": 201, "headers": {"Content-Type": "text/plain", "X-Mine": "m"},
                    "cookies": ["a=1; Secure", "b=2"], "body": "bWFkZQ==", "isBase64Encoded": True}
        if event["rawPath"] == "/fail":
            raise ValueError("no")
        return event
"#;

/// Creates a URL; the host name that leads to it.
#[track_caller]
fn url(server: &Server, name: &str, config: &Value) -> String {
    let (name, query) = name.split_once('?').unwrap_or((name, ""));
    let target = format!("/2021-10-31/functions/{name}/url?{query}");
    let made = server.call("POST", &target, config).is(201).json();
    let url = made["FunctionUrl"].as_str().expect("a URL").to_owned();
    let host = url.strip_prefix("http://").and_then(|url| url.strip_suffix('/')).expect("http");
    let (id, rest) = host.split_once('.').expect("a dot");
    assert_eq!(id.len(), 32, "{url}");
    assert_eq!(rest, format!("lambda-url.us-east-1.localhost:{}", server.address.port()), "{url}");
    host.to_owned()
}

fn public(server: &Server, name: &str) {
    let statement = json!({
        "StatementId": "public", "Action": "lambda:InvokeFunctionUrl", "Principal": "*", "FunctionUrlAuthType": "NONE",
    });
    server.allow(&format!("{name}/policy"), &statement);
}

#[track_caller]
fn forbidden(answer: &Answer) {
    assert_eq!(answer.status, 403, "{answer:?}");
    let message = answer.json()["Message"].as_str().unwrap_or_default().to_owned();
    assert!(message.starts_with("Forbidden"), "{answer:?}");
}

#[test]
fn a_url_without_authentication_wants_a_policy_all_the_same() {
    let Some(server) = Server::shared() else { return };
    if !server.python("url-none", SHOW, &json!({})) {
        return;
    }
    let host = url(server, "url-none", &json!({ "AuthType": "NONE" }));
    let get = Call::new("GET", "/a%20b?x=1&x=2", &host);
    forbidden(&server.send(&get));
    public(server, "url-none");
    let answer = server.send(&get.header("cookie", "c=1; d=2").header("x-own", "o")).is(200);
    assert_eq!(answer.header("content-type"), "application/json");
    let event = answer.json();
    assert_eq!((&event["version"], &event["rawPath"]), (&json!("2.0"), &json!("/a%20b")));
    assert_eq!(event["rawQueryString"], "x=1&x=2");
    assert_eq!(event["queryStringParameters"], json!({ "x": "1,2" }));
    assert_eq!(event["cookies"], json!(["c=1", "d=2"]));
    assert_eq!(event["headers"]["x-own"], "o");
    assert!(event["headers"].get("cookie").is_none());
    let context = &event["requestContext"];
    assert_eq!(context["domainName"], host.as_str());
    assert_eq!(context["http"]["method"], "GET");
    assert_eq!(context["http"]["sourceIp"], "127.0.0.1");
    assert_eq!(context["accountId"], "anonymous");
    assert_eq!(context["requestId"], answer.header("x-amzn-requestid"));

    let post = |kind: &str, body: &[u8]| {
        let call = Call::new("POST", "/", &host).header("content-type", kind).body(body);
        let event = server.send(&call).is(200).json();
        (event["body"].as_str().unwrap().to_owned(), event["isBase64Encoded"] == true)
    };
    assert_eq!(post("application/json", b"{}"), ("{}".into(), false));
    assert_eq!(post("text/plain; charset=utf-8", "\u{e4}".as_bytes()), ("\u{e4}".into(), false));
    assert_eq!(post("application/octet-stream", b"\0\xff"), ("AP8=".into(), true));
    assert_eq!(post("text/plain", b"\xff"), ("/w==".into(), true));

    let made = server.send(&Call::new("GET", "/made", &host)).is(201);
    assert_eq!((made.text().as_str(), made.header("content-type")), ("made", "text/plain"));
    assert_eq!(made.header("x-mine"), "m");
    let cookies: Vec<_> = made.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=1; Secure", "b=2"]);
    let failed = server.send(&Call::new("GET", "/fail", &host)).is(502);
    assert_eq!(failed.text(), "Internal Server Error", "and not a word of why");

    server.reserve("url-none", 0);
    server.send(&Call::new("GET", "/", &host)).is(429);
    server.call("DELETE", "/2021-10-31/functions/url-none/url", &Value::Null).is(204);
    forbidden(&server.send(&Call::new("GET", "/", &host)));
}

#[test]
fn hosts_that_lead_nowhere() {
    let Some(server) = Server::shared() else { return };
    for id in ["0".repeat(32), "x".into(), "A".repeat(32)] {
        let host = format!("{id}.lambda-url.us-east-1.localhost:{}", server.address.port());
        forbidden(&server.send(&Call::new("GET", "/", &host)));
    }
    // The control plane has no address under a URL's name.
    let host = format!("{}.lambda-url.us-east-1.localhost", "0".repeat(32));
    let call = Call::new("GET", "/2015-03-31/functions", &host).signed(&server.key);
    forbidden(&server.send(&call));
    forbidden(&server.send(&Call::new("GET", "/_kennel/metrics", &host)));
}

#[test]
fn a_url_with_iam_wants_a_signature_and_for_others_a_policy() {
    let Some(server) = Server::shared() else { return };
    if !server.python("url-iam", SHOW, &json!({})) {
        return;
    }
    server.publish("url-iam");
    server.alias("url-iam", &json!({ "Name": "live", "FunctionVersion": "1" }));
    let config = json!({ "AuthType": "AWS_IAM" });
    let host = url(server, "url-iam", &config);
    let alias = url(server, "url-iam?Qualifier=live", &config);
    assert_ne!(host, alias);
    let principal = Key { id: PRINCIPAL.0.into(), secret: PRINCIPAL.1.into() };
    let get = |host: &str| Call::new("GET", "/x?y=z", host);
    forbidden(&server.send(&get(&host)));
    forbidden(&server.send(&get(&host).signed(&Key { id: "AKIDNO".into(), secret: "s".into() })));
    let event = server.send(&get(&host).signed(&server.key)).is(200).json();
    let iam = &event["requestContext"]["authorizer"]["iam"];
    assert_eq!(iam["userArn"], "arn:aws:iam::000000000000:root", "{event}");
    assert_eq!(event["requestContext"]["accountId"], "000000000000");
    server.send(&get(&alias).signed(&server.key)).is(200);
    forbidden(&server.send(&get(&host).signed(&principal)));
    let statement = json!({
        "StatementId": "them", "Action": "lambda:InvokeFunctionUrl", "Principal": PRINCIPAL.2,
        "FunctionUrlAuthType": "AWS_IAM",
    });
    server.allow("url-iam/policy?Qualifier=live", &statement);
    forbidden(&server.send(&get(&host).signed(&principal)));
    let event = server.send(&get(&alias).signed(&principal)).is(200).json();
    assert_eq!(event["requestContext"]["authorizer"]["iam"]["userArn"], PRINCIPAL.2);
    let mut tampered = get(&alias).signed(&principal);
    tampered.query = "y=a".into();
    forbidden(&server.send(&tampered));
}

#[test]
fn cors_is_answered_for_allowed_origins() {
    let Some(server) = Server::shared() else { return };
    if !server.python("url-cors", SHOW, &json!({})) {
        return;
    }
    let cors = json!({
        "AllowOrigins": ["https://good.example"], "AllowMethods": ["GET", "POST"], "AllowHeaders": ["x-own"],
        "ExposeHeaders": ["x-mine"], "AllowCredentials": true, "MaxAge": 60,
    });
    let host = url(server, "url-cors", &json!({ "AuthType": "NONE", "Cors": cors }));
    public(server, "url-cors");
    let preflight = |origin: &str| {
        let call = Call::new("OPTIONS", "/", &host).header("origin", origin);
        server.send(&call.header("access-control-request-method", "POST")).is(200)
    };
    let answer = preflight("https://good.example");
    for (name, value) in [
        ("access-control-allow-origin", "https://good.example"),
        ("access-control-allow-methods", "GET,POST"),
        ("access-control-allow-headers", "x-own"),
        ("access-control-allow-credentials", "true"),
        ("access-control-max-age", "60"),
        ("vary", "Origin"),
    ] {
        assert_eq!(answer.header(name), value, "{name}");
    }
    assert!(answer.body.is_empty(), "the function never saw it");
    assert_eq!(preflight("https://bad.example").header("access-control-allow-origin"), "");
    let get = Call::new("GET", "/made", &host).header("origin", "https://good.example");
    let answer = server.send(&get).is(201);
    assert_eq!(answer.header("access-control-allow-origin"), "https://good.example");
    assert_eq!(answer.header("access-control-expose-headers"), "x-mine");
}

#[test]
fn a_streamed_answer_comes_while_the_function_still_runs() {
    let Some(server) = Server::shared() else { return };
    let Some(runtime) = node_runtime() else { return };
    let code = br#"
        exports.handler = awslambda.streamifyResponse(async (event, out) => {
            if (event.rawPath === "/plain") { out.write("no head"); out.end(); return; }
            if (event.rawPath === "/dies") {
                out.write("half");
                await new Promise(go => setTimeout(go, 500));
                process.exit(1);
            }
            const headers = { "x-mine": "m", "content-type": "text/plain" };
            const head = { statusCode: 203, headers, cookies: ["a=1"] };
            out = awslambda.HttpResponseStream.from(out, head);
            out.write("first ");
            await new Promise(go => setTimeout(go, 2000));
            out.write("last");
            out.end();
        });
    "#;
    let package = zip(&[("index.js", code, 0o644)]);
    server.create("url-stream", runtime, "index.handler", &package, &json!({}));
    let host =
        url(server, "url-stream", &json!({ "AuthType": "NONE", "InvokeMode": "RESPONSE_STREAM" }));
    public(server, "url-stream");
    let mut stream = server.connect();
    stream.write_all(&Call::new("GET", "/", &host).bytes()).unwrap();
    let mut seen = Vec::new();
    while crate::common::find(&seen, b"first ").is_none() {
        let mut buffer = [0; 4096];
        let length = stream.read(&mut buffer).unwrap();
        assert!(length > 0, "{:?}", String::from_utf8_lossy(&seen));
        seen.extend(&buffer[..length]);
    }
    assert!(crate::common::find(&seen, b"last").is_none(), "not all at the end");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.read_to_end(&mut seen).unwrap();
    let answer = Answer::parse(&seen, "GET").is(203);
    assert_eq!((answer.text().as_str(), answer.header("x-mine")), ("first last", "m"));
    assert_eq!(answer.header("set-cookie"), "a=1");
    let plain = server.send(&Call::new("GET", "/plain", &host)).is(200);
    assert_eq!(plain.text(), "no head");
    assert_eq!(plain.header("content-type"), "application/octet-stream");
    // What was cut short does not look whole.
    let mut stream = server.connect();
    stream.write_all(&Call::new("GET", "/dies", &host).bytes()).unwrap();
    let mut seen = Vec::new();
    let _ = stream.read_to_end(&mut seen);
    assert!(crate::common::find(&seen, b"half").is_some(), "{:?}", String::from_utf8_lossy(&seen));
    assert!(!seen.ends_with(b"0\r\n\r\n"), "{:?}", String::from_utf8_lossy(&seen));
}

#[test]
fn a_function_that_does_not_stream_behind_a_url_that_does() {
    let Some(server) = Server::shared() else { return };
    if !server.python("url-unstreamed", SHOW, &json!({})) {
        return;
    }
    let host = url(
        server,
        "url-unstreamed",
        &json!({ "AuthType": "NONE", "InvokeMode": "RESPONSE_STREAM" }),
    );
    public(server, "url-unstreamed");
    let made = server.send(&Call::new("GET", "/made", &host)).is(201);
    assert_eq!(made.text(), "made");
    server.send(&Call::new("GET", "/fail", &host)).is(502);
}
