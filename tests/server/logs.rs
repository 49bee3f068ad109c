//! CloudWatch Logs through the same endpoint, and the JSON log format.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::common::{sandboxes, wait_for};
use crate::harness::{Key, PATIENCE, PRINCIPAL, Server, data_folder, serve};

const SAYS: &str = r#"
    import logging, os
    logging.getLogger().setLevel("INFO")

    def handler(event, context):
        print("plain", event["n"])
        logging.getLogger().info("logged %s", event["n"])
        if event.get("fail"):
            os._exit(1)
"#;

#[test]
fn an_invocations_lines_are_in_its_stream_in_order() {
    let Some(server) = Server::shared() else { return };
    if !server.python("log-text", SAYS, &json!({})) {
        return;
    }
    let ids: Vec<String> = (0..3)
        .map(|n| {
            server.invoke("log-text", &json!({ "n": n })).is(200).header("x-amzn-requestid").into()
        })
        .collect();
    let group = "/aws/lambda/log-text";
    let streams =
        server.logs("DescribeLogStreams", &json!({ "logGroupName": group })).is(200).json();
    let streams = streams["logStreams"].as_array().unwrap();
    assert_eq!(streams.len(), 1, "one sandbox, one stream: {streams:?}");
    let stream = streams[0]["logStreamName"].as_str().unwrap();
    let (day, rest) = stream.split_at(10);
    assert!(day.split('/').map(str::len).eq([4, 2, 2]), "{stream}");
    assert!(rest.starts_with("/[$LATEST]") && rest.len() == "/[$LATEST]".len() + 32, "{stream}");
    let request = json!({ "logGroupName": group, "logStreamName": stream, "startFromHead": true });
    let messages = wait_for("all lines", PATIENCE, || {
        let events = server.logs("GetLogEvents", &request).is(200).json();
        let events = events["events"].as_array().unwrap().clone();
        (events.len() >= 15).then_some(events)
    });
    let text = |event: &Value| event["message"].as_str().unwrap().trim_end().to_owned();
    let messages: Vec<String> = messages.iter().map(text).collect();
    for (n, (id, lines)) in ids.iter().zip(messages.chunks(5)).enumerate() {
        assert_eq!(lines[0], format!("START RequestId: {id} Version: $LATEST"));
        assert_eq!(lines[1], format!("plain {n}"));
        assert!(lines[2].starts_with("[INFO]\t") && lines[2].ends_with(&format!("\tlogged {n}")));
        assert_eq!(lines[3], format!("END RequestId: {id}"));
        assert!(
            lines[4].starts_with(&format!("REPORT RequestId: {id}\tDuration: ")),
            "{}",
            lines[4]
        );
    }
    assert_eq!(server.logged("log-text", "plain 1").len(), 1);
    assert_eq!(server.logged("log-text", "?REPORT ?START").len(), 6);
    assert_eq!(server.logged("log-text", "nothing").len(), 0);
}

#[test]
fn the_json_format_has_the_platforms_records() {
    let Some(server) = Server::shared() else { return };
    let logging =
        json!({ "LogFormat": "JSON", "ApplicationLogLevel": "INFO", "SystemLogLevel": "DEBUG" });
    if !server.python("log-json", SAYS, &json!({ "LoggingConfig": logging })) {
        return;
    }
    let answer = server.invoke_with("log-json", &json!({ "n": 1 }), &[("x-amz-log-type", "Tail")]);
    let id = answer.header("x-amzn-requestid").to_owned();
    let records: Vec<Value> =
        answer.log_tail().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of = |kind: &str| {
        let record = records.iter().find(|record| record["type"] == kind);
        record.unwrap_or_else(|| panic!("no {kind} in {records:?}"))["record"].clone()
    };
    assert_eq!(of("platform.initStart")["initializationType"], "on-demand");
    assert_eq!(of("platform.initRuntimeDone")["status"], "success");
    assert_eq!(
        of("platform.start"),
        json!({
            "requestId": id, "version": "$LATEST",
            "functionArn": "arn:aws:lambda:us-east-1:000000000000:function:log-json",
        })
    );
    let done = of("platform.runtimeDone");
    assert_eq!((&done["requestId"], &done["status"]), (&json!(id), &json!("success")));
    let report = of("platform.report");
    assert_eq!((&report["requestId"], &report["status"]), (&json!(id), &json!("success")));
    assert_eq!(report["metrics"]["memorySizeMB"], 1024);
    for metric in ["durationMs", "billedDurationMs", "maxMemoryUsedMB", "initDurationMs"] {
        assert!(report["metrics"][metric].as_f64().is_some_and(|m| m > 0.0), "{report}");
    }
    let logged = records.iter().find(|record| record["message"] == "logged 1").unwrap();
    assert_eq!((&logged["level"], &logged["requestId"]), (&json!("INFO"), &json!(id)));

    let failed = server.invoke_with(
        "log-json",
        &json!({ "n": 2, "fail": true }),
        &[("x-amz-log-type", "Tail")],
    );
    let tail = failed.log_tail();
    let report = tail.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok());
    let report: Vec<Value> = report.filter(|r| r["type"] == "platform.report").collect();
    let report = report.last().unwrap();
    assert_eq!(report["record"]["status"], "error", "{report}");
    let filtered = server
        .logged("log-json", "{ $.record.status = \"error\" && $.type = \"platform.report\" }");
    assert_eq!(filtered.len(), 1, "{filtered:?}");
}

#[test]
fn a_log_group_of_the_functions_choice() {
    let Some(server) = Server::shared() else { return };
    let logging = json!({ "LogGroup": "/mine/together" });
    if !server.python("log-group", SAYS, &json!({ "LoggingConfig": logging })) {
        return;
    }
    server.invoke("log-group", &json!({ "n": "here" })).is(200);
    let request = json!({ "logGroupName": "/mine/together", "filterPattern": "\"plain here\"" });
    wait_for("the line", PATIENCE, || {
        let answer = server.logs("FilterLogEvents", &request);
        (answer.status == 200 && answer.json()["events"].as_array()?.len() == 1).then_some(())
    });
    assert_eq!(server.logged("log-group", ""), Vec::<String>::new());
}

#[test]
fn logs_are_for_the_root_key_with_its_own_scope() {
    let Some(server) = Server::shared() else { return };
    let call = |key: &Key, service: &str, operation: &str| {
        let call = server
            .plain("POST", "/")
            .header("x-amz-target", &format!("Logs_20140328.{operation}"))
            .body("{}");
        server.send(&call.signed_at(key, service, Timestamp::now()))
    };
    let groups = call(&server.key, "logs", "DescribeLogGroups").is(200).json();
    assert!(groups["logGroups"].is_array());
    call(&server.key, "lambda", "DescribeLogGroups").fails(
        400,
        "InvalidSignatureException",
        "Credential should be scoped to correct service: 'logs'.",
    );
    let principal = Key { id: PRINCIPAL.0.into(), secret: PRINCIPAL.1.into() };
    call(&principal, "logs", "DescribeLogGroups").fails(400, "AccessDeniedException", "");
    for operation in ["StartQuery", "Nonsense"] {
        let refused = call(&server.key, "logs", operation).is(400).json();
        assert_eq!(refused["__type"], "UnknownOperationException", "{operation}");
    }
    let unsigned =
        server.plain("POST", "/").header("x-amz-target", "Logs_20140328.DescribeLogGroups");
    server.send(&unsigned).fails(400, "MissingAuthenticationTokenException", "Missing");
}

// ---------------------------------------------------------------------------------------------------------
// The server's own log.

#[test]
fn each_invocations_receipt_is_in_the_servers_log() {
    if !sandboxes() {
        return;
    }
    let (_folder, data) = data_folder();
    let mut command = serve(&data);
    let server = Server::start(command.args(["--preboot", "0"]).env("KENNEL_LOG", "debug"));
    if !server.python("told", SAYS, &json!({ "MemorySize": 256 })) {
        return;
    }
    let invoke = |event: Value| server.invoke("told", &event).is(200);
    let ids = [json!({ "n": 1 }), json!({ "n": 2 }), json!({ "n": 3, "fail": 1 })]
        .map(|event| invoke(event).header("x-amzn-requestid").to_owned());
    let receipts = || -> Vec<Value> {
        let log = server.stderr();
        let records = log.lines().filter(|line| line.contains(" kennel::receipt: "));
        let json = records.map(|line| {
            let (_, json) = line.split_once(" receipt=").expect("a receipt");
            let text: String = serde_json::from_str(json).expect("a quoted string");
            serde_json::from_str(&text).expect("a receipt in JSON")
        });
        json.collect()
    };
    let all = wait_for("three receipts", PATIENCE, || Some(receipts()).filter(|r| r.len() == 3));
    for (receipt, id) in all.iter().zip(&ids) {
        assert_eq!(receipt["requestId"], **id, "{receipt}");
        assert_eq!(receipt["memorySizeMb"], 256, "{receipt}");
        assert!(receipt["cpuTimeMs"].as_f64().is_some_and(|ms| ms > 1.0), "{receipt}");
        let (took, billed) = (&receipt["durationMs"], &receipt["billedDurationMs"]);
        assert_eq!(took.as_f64().map(f64::ceil), billed.as_f64(), "{receipt}");
    }
    let told = |key: &str| -> Vec<Value> { all.iter().map(|r| r[key].clone()).collect() };
    assert_eq!(told("start"), ["cold", "warm", "warm"]);
    assert_eq!(told("startReason"), ["full: preboot is 0", "warm", "warm"]);
    assert_eq!(told("status"), ["success", "success", "exit"]);
    assert!(all[0]["initDurationMs"].is_number() && all[1]["initDurationMs"].is_null());
    server.stop();
}
