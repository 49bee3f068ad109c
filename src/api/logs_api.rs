//! The wire of the CloudWatch Logs subset: AWS JSON 1.1, one operation named by `X-Amz-Target`. The rules are
//! [`logs::cloudwatch`](crate::logs::cloudwatch); HTTP and the signature are the front door's.

#![forbid(unsafe_code)]

mod forms;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::logs::cloudwatch::events::{FilterLogEvents, GetLogEvents, PutLogEvents};
use crate::logs::cloudwatch::{
    CloudWatch, CreateLogGroup, DescribeLogGroups, DescribeLogStreams, GroupTags, LogsError,
    OfResource, OneGroup, OneStream, PutRetentionPolicy,
};

/// What `X-Amz-Target` begins with.
pub const TARGET_PREFIX: &str = "Logs_20140328.";
/// `Content-Type` of requests and answers.
pub const CONTENT_TYPE: &str = "application/x-amz-json-1.1";

/// Operations of AWS that are known and not built.
const NOT_BUILT: [&str; 22] = [
    "AssociateKmsKey",
    "CreateDelivery",
    "CreateExportTask",
    "DeleteMetricFilter",
    "DeleteQueryDefinition",
    "DeleteResourcePolicy",
    "DeleteSubscriptionFilter",
    "DescribeDestinations",
    "DescribeExportTasks",
    "DescribeMetricFilters",
    "DescribeQueries",
    "DescribeQueryDefinitions",
    "DescribeResourcePolicies",
    "DescribeSubscriptionFilters",
    "GetLogGroupFields",
    "GetQueryResults",
    "PutDataProtectionPolicy",
    "PutMetricFilter",
    "PutResourcePolicy",
    "PutSubscriptionFilter",
    "StartQuery",
    "StopQuery",
];

/// Answers one request: HTTP status and JSON body, which is empty where the operation answers nothing. `target` is the
/// value of `X-Amz-Target`.
pub async fn call(logs: &CloudWatch, target: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let operation = target.strip_prefix(TARGET_PREFIX).unwrap_or_default();
    match answer(logs, operation, body).await {
        Ok(body) => (200, body),
        Err(error) => {
            if let Some(cause) = std::error::Error::source(&error) {
                tracing::error!(operation, cause, "a request about logs failed");
            }
            let body = json!({ "__type": error.code, "message": error.message });
            (error.status(), body.to_string().into_bytes())
        }
    }
}

async fn answer(logs: &CloudWatch, operation: &str, body: &[u8]) -> Result<Vec<u8>, LogsError> {
    let unreadable = |e: serde_json::Error| LogsError::new("SerializationException", e.to_string());
    let given: Map<String, Value> = if body.is_empty() {
        Map::new()
    } else {
        serde_json::from_slice(body).map_err(unreadable)?
    };
    forms::validate(operation, &given)?;
    match operation {
        "CreateLogGroup" => wire(logs.create_log_group(read::<CreateLogGroup>(given)?).await),
        "DeleteLogGroup" => wire(logs.delete_log_group(read::<OneGroup>(given)?).await),
        "DescribeLogGroups" => {
            wire(logs.describe_log_groups(read::<DescribeLogGroups>(given)?).await)
        }
        "CreateLogStream" => wire(logs.create_log_stream(read::<OneStream>(given)?).await),
        "DeleteLogStream" => wire(logs.delete_log_stream(read::<OneStream>(given)?).await),
        "DescribeLogStreams" => {
            wire(logs.describe_log_streams(read::<DescribeLogStreams>(given)?).await)
        }
        "PutLogEvents" => wire(logs.put_log_events(read::<PutLogEvents>(given)?).await),
        "GetLogEvents" => wire(logs.get_log_events(read::<GetLogEvents>(given)?).await),
        "FilterLogEvents" => wire(logs.filter_log_events(read::<FilterLogEvents>(given)?).await),
        "PutRetentionPolicy" => {
            wire(logs.put_retention_policy(read::<PutRetentionPolicy>(given)?).await)
        }
        "DeleteRetentionPolicy" => {
            wire(logs.delete_retention_policy(read::<OneGroup>(given)?).await)
        }
        "ListTagsForResource" => {
            wire(logs.list_tags(&read::<OfResource>(given)?.resource_arn).await)
        }
        "ListTagsLogGroup" => wire(logs.list_tags(&read::<OneGroup>(given)?.log_group_name).await),
        "TagResource" => {
            let asked: OfResource = read(given)?;
            wire(logs.tag(&asked.resource_arn, asked.tags).await)
        }
        "UntagResource" => {
            let asked: OfResource = read(given)?;
            wire(logs.untag(&asked.resource_arn, &asked.tag_keys).await)
        }
        "TagLogGroup" => {
            let asked: GroupTags<_> = read(given)?;
            wire(logs.tag(&asked.log_group_name, asked.tags).await)
        }
        "UntagLogGroup" => {
            let asked: GroupTags<Vec<String>> = read(given)?;
            wire(logs.untag(&asked.log_group_name, &asked.tags).await)
        }
        "StartLiveTail" => wire(logs.start_live_tail()),
        known if NOT_BUILT.contains(&known) => {
            let text = format!("{known} is not supported here.");
            Err(LogsError::new("UnknownOperationException", text))
        }
        _ => Err(LogsError::new("UnknownOperationException", "The operation is not known.")),
    }
}

fn read<T: DeserializeOwned>(given: Map<String, Value>) -> Result<T, LogsError> {
    serde_json::from_value(Value::Object(given))
        .map_err(|e| LogsError::new("SerializationException", e.to_string()))
}

fn wire(answer: Result<impl Serialize, LogsError>) -> Result<Vec<u8>, LogsError> {
    let text = serde_json::to_vec(&answer?)
        .map_err(|e| LogsError::new("InternalFailure", e.to_string()))?;
    Ok(if text == b"{}" { Vec::new() } else { text })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use super::*;
    use crate::logs::{Groups, Limits, LogFormat, Sink};
    use crate::store::memory::MemoryStore;
    use crate::store::memory_logs::MemoryLogs;

    const STREAM: &str = "2026/01/31/[$LATEST]0123456789abcdef0123456789abcdef";

    fn cloudwatch() -> CloudWatch {
        let (store, logs) = (Arc::new(MemoryStore::new()), Arc::new(MemoryLogs::new()));
        let groups = Arc::new(Groups::new(store, logs, Limits::default()));
        CloudWatch::new(groups, "us-east-1", "000000000000")
    }

    async fn ask(logs: &CloudWatch, operation: &str, body: Value) -> (u16, Value) {
        let target = format!("{TARGET_PREFIX}{operation}");
        let (status, answer) = call(logs, &target, body.to_string().as_bytes()).await;
        let answer =
            if answer.is_empty() { Value::Null } else { serde_json::from_slice(&answer).unwrap() };
        (status, answer)
    }

    async fn done(logs: &CloudWatch, operation: &str, body: Value) -> Value {
        let (status, answer) = ask(logs, operation, body).await;
        assert_eq!(status, 200, "{operation}: {answer}");
        answer
    }

    /// The front door's tasks move between threads.
    fn _can_be_spawned(logs: &'static CloudWatch, mut sink: crate::logs::StreamSink) {
        fn spawned<T: Send>(_: T) {}
        spawned(call(logs, "", b""));
        spawned(async move {
            sink.write(b"").await;
            sink.note("").await;
            sink.pass_on().await;
            sink.flush_durable().await
        });
    }

    fn now() -> u64 {
        crate::pool::unix_ms(SystemTime::now())
    }

    fn messages(answer: &Value) -> Vec<&str> {
        answer["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| e["message"].as_str().unwrap())
            .collect()
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_sandbox_makes_its_group_and_stream() {
        let logs = cloudwatch();
        let before = now();
        let mut sink = logs.groups.open("/aws/lambda/f", STREAM, LogFormat::Text);
        sink.write(b"hello\n").await;
        sink.boundary().await;
        let answer = done(&logs, "DescribeLogGroups", json!({})).await;
        let group = &answer["logGroups"][0];
        let arn = "arn:aws:logs:us-east-1:000000000000:log-group:/aws/lambda/f";
        assert_eq!(group["logGroupName"], "/aws/lambda/f");
        assert_eq!(group["arn"], format!("{arn}:*"));
        assert_eq!(group["logGroupArn"], arn);
        assert_eq!(group["storedBytes"], 6);
        assert_eq!(group["metricFilterCount"], 0);
        assert!(group["creationTime"].as_u64().unwrap() >= before);
        assert_eq!(group.get("retentionInDays"), None);
        assert_eq!(answer.get("nextToken"), None);
        let named = json!({ "logGroupName": "/aws/lambda/f" });
        let answer = done(&logs, "DescribeLogStreams", named.clone()).await;
        let stream = &answer["logStreams"][0];
        assert_eq!(stream["logStreamName"], STREAM);
        assert_eq!(stream["arn"], format!("{arn}:log-stream:{STREAM}"));
        assert_eq!(stream["firstEventTimestamp"], stream["lastEventTimestamp"]);
        done(&logs, "DeleteLogGroup", named.clone()).await;
        assert_eq!(ask(&logs, "DescribeLogStreams", named).await.0, 400);
        sink.write(b"again\n").await;
        sink.boundary().await;
        let answer = done(&logs, "DescribeLogGroups", json!({})).await;
        assert_eq!(answer["logGroups"][0]["storedBytes"], 6, "a live sandbox makes it again");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn events_are_put_got_and_filtered() {
        let logs = cloudwatch();
        done(&logs, "CreateLogGroup", json!({ "logGroupName": "g", "tags": { "a": "1" } })).await;
        let now = now();
        let old = now - 15 * 86_400_000;
        for stream in ["s1", "s2"] {
            let named = json!({ "logGroupName": "g", "logStreamName": stream });
            assert_eq!(done(&logs, "CreateLogStream", named).await, Value::Null);
        }
        for (stream, at) in [("s1", now - 10), ("s2", now - 5)] {
            let put = done(
                &logs,
                "PutLogEvents",
                json!({ "logGroupName": "g", "logStreamName": stream, "logEvents": [
                    { "timestamp": old, "message": "too old" },
                    { "timestamp": at, "message": format!("{stream} ERROR one") },
                    { "timestamp": at + 8, "message": format!("{stream} {{\"x\":2}}") },
                    { "timestamp": now + 3 * 3_600_000, "message": "too new" },
                ] }),
            )
            .await;
            let rejected = json!({ "tooOldLogEventEndIndex": 1, "tooNewLogEventStartIndex": 3 });
            assert_eq!(put["rejectedLogEventsInfo"], rejected);
        }
        let all =
            done(&logs, "FilterLogEvents", json!({ "logGroupName": "g", "interleaved": true }))
                .await;
        let order = ["s1 ERROR one", "s2 ERROR one", "s1 {\"x\":2}", "s2 {\"x\":2}"];
        assert_eq!(messages(&all), order);
        assert_eq!(all["searchedLogStreams"], json!([]));
        assert_eq!(all.get("nextToken"), None);
        let ids: std::collections::BTreeSet<_> = all["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| e["eventId"].as_str().unwrap())
            .collect();
        assert_eq!(ids.len(), 4);
        assert!(ids.iter().all(|id| id.len() == 56));

        let mut paged = Vec::new();
        let mut token = Value::Null;
        loop {
            let asked = json!({ "logGroupName": "g", "limit": 1, "nextToken": token });
            let page = done(&logs, "FilterLogEvents", asked).await;
            paged.extend(messages(&page).iter().map(|m| (*m).to_owned()));
            let Some(next) = page.get("nextToken") else { break };
            token = next.clone();
        }
        assert_eq!(paged, order);

        for (asked, expected) in [
            (json!({ "filterPattern": "ERROR -s2" }), &["s1 ERROR one"][..]),
            (json!({ "logStreamNames": ["s2"], "filterPattern": "ERROR" }), &["s2 ERROR one"]),
            (json!({ "logStreamNamePrefix": "s1", "startTime": now - 9 }), &["s1 {\"x\":2}"]),
            (json!({ "endTime": now - 10 }), &["s1 ERROR one"]),
            (json!({ "startTime": now + 4 }), &[]),
        ] {
            let mut members = asked.as_object().unwrap().clone();
            members.insert(
                "logGroupIdentifier".into(),
                "arn:aws:logs:us-east-1:000000000000:log-group:g:*".into(),
            );
            let found = done(&logs, "FilterLogEvents", Value::Object(members)).await;
            assert_eq!(messages(&found), expected, "{asked}");
        }

        let get = |members: Value| {
            let mut all = json!({ "logGroupName": "g", "logStreamName": "s1" });
            all.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            all
        };
        let last = done(&logs, "GetLogEvents", get(json!({ "limit": 1 }))).await;
        assert_eq!(messages(&last), ["s1 {\"x\":2}"]);
        let back = get(json!({ "limit": 1, "nextToken": last["nextBackwardToken"] }));
        assert_eq!(messages(&done(&logs, "GetLogEvents", back).await), ["s1 ERROR one"]);
        let forth = get(json!({ "nextToken": last["nextForwardToken"] }));
        let end = done(&logs, "GetLogEvents", forth).await;
        assert_eq!(messages(&end), [""; 0]);
        assert_eq!(
            end["nextForwardToken"], last["nextForwardToken"],
            "the end gives its own token"
        );
        let head = get(json!({ "startFromHead": true, "limit": 1 }));
        assert_eq!(messages(&done(&logs, "GetLogEvents", head).await), ["s1 ERROR one"]);
        let until = get(json!({ "endTime": now - 10 }));
        assert_eq!(messages(&done(&logs, "GetLogEvents", until).await), [""; 0]);
    }

    /// A sandbox holds an event back while another's later one is stored: whoever goes on from the newest time that was
    /// answered must not miss the first.
    #[tokio::test(flavor = "current_thread")]
    async fn following_by_time_misses_nothing() {
        let logs = cloudwatch();
        let mut slow = logs.groups.open("g", "slow", LogFormat::Text);
        let mut quick = logs.groups.open("g", "quick", LogFormat::Text);
        slow.write(b"held back\n").await;
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        quick.write(b"stored\n").await;
        quick.boundary().await;
        let passing_on = async {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            quick.write(b"later\n").await;
            quick.boundary().await;
            slow.pass_on().await;
        };
        let asked = json!({ "logGroupName": "g" });
        let filtering = done(&logs, "FilterLogEvents", asked.clone());
        let ((), answer) = tokio::join!(passing_on, filtering);
        assert_eq!(messages(&answer), ["held back\n", "stored\n"]);
        let answer = done(&logs, "FilterLogEvents", asked).await;
        assert_eq!(messages(&answer), ["held back\n", "stored\n", "later\n"]);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn streams_and_groups_come_in_pages() {
        let logs = cloudwatch();
        for n in 0..5 {
            done(&logs, "CreateLogGroup", json!({ "logGroupName": format!("/g{n}") })).await;
            let mut sink = logs.groups.open("/g0", &format!("s{n}"), LogFormat::Text);
            sink.write(b"x\n").await;
            sink.boundary().await;
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        let pages = async |operation: &str, list: &str, name: &str, asked: Value| {
            let mut found = Vec::new();
            let mut token = Value::Null;
            loop {
                let mut members = asked.as_object().unwrap().clone();
                members.insert("limit".into(), 2.into());
                members.insert("nextToken".into(), token);
                let page = done(&logs, operation, Value::Object(members)).await;
                found.extend(
                    page[list]
                        .as_array()
                        .unwrap()
                        .iter()
                        .map(|i| i[name].as_str().unwrap().to_owned()),
                );
                match page.get("nextToken") {
                    Some(next) => token = next.clone(),
                    None => return found.join(" "),
                }
            }
        };
        let groups =
            async |asked| pages("DescribeLogGroups", "logGroups", "logGroupName", asked).await;
        assert_eq!(groups(json!({})).await, "/g0 /g1 /g2 /g3 /g4");
        assert_eq!(groups(json!({ "logGroupNamePrefix": "/g3" })).await, "/g3");
        assert_eq!(groups(json!({ "logGroupNamePattern": "G4" })).await, "/g4");
        let streams = async |asked: Value| {
            let mut asked = asked;
            asked["logGroupName"] = "/g0".into();
            pages("DescribeLogStreams", "logStreams", "logStreamName", asked).await
        };
        assert_eq!(streams(json!({})).await, "s0 s1 s2 s3 s4");
        assert_eq!(streams(json!({ "descending": true })).await, "s4 s3 s2 s1 s0");
        assert_eq!(streams(json!({ "logStreamNamePrefix": "s1" })).await, "s1");
        let newest = json!({ "orderBy": "LastEventTime", "descending": true });
        assert_eq!(streams(newest).await, "s4 s3 s2 s1 s0");
        assert_eq!(streams(json!({ "orderBy": "LastEventTime" })).await, "s0 s1 s2 s3 s4");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn settings_of_a_group() {
        let logs = cloudwatch();
        done(&logs, "CreateLogGroup", json!({ "logGroupName": "g", "tags": { "a": "1" } })).await;
        done(&logs, "PutRetentionPolicy", json!({ "logGroupName": "g", "retentionInDays": 7 }))
            .await;
        let group =
            async || done(&logs, "DescribeLogGroups", json!({})).await["logGroups"][0].clone();
        assert_eq!(group().await["retentionInDays"], 7);
        done(&logs, "DeleteRetentionPolicy", json!({ "logGroupName": "g" })).await;
        assert_eq!(group().await.get("retentionInDays"), None);
        let arn = "arn:aws:logs:us-east-1:000000000000:log-group:g";
        done(&logs, "TagResource", json!({ "resourceArn": arn, "tags": { "b": "2" } })).await;
        done(&logs, "UntagLogGroup", json!({ "logGroupName": "g", "tags": ["a"] })).await;
        let tags = done(&logs, "ListTagsForResource", json!({ "resourceArn": arn })).await;
        assert_eq!(tags, json!({ "tags": { "b": "2" } }));
        let tags = done(&logs, "ListTagsLogGroup", json!({ "logGroupName": "g" })).await;
        assert_eq!(tags, json!({ "tags": { "b": "2" } }));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn errors_are_worded_as_aws_does() {
        let logs = cloudwatch();
        done(&logs, "CreateLogGroup", json!({ "logGroupName": "g" })).await;
        done(&logs, "CreateLogStream", json!({ "logGroupName": "g", "logStreamName": "s" })).await;
        let invalid = "InvalidParameterException";
        let missing = "ResourceNotFoundException";
        let exists = "ResourceAlreadyExistsException";
        for (operation, body, code, text) in [
            (
                "GetLogEvents",
                json!({ "logGroupName": "x", "logStreamName": "s" }),
                missing,
                "The specified log group does not exist.",
            ),
            (
                "GetLogEvents",
                json!({ "logGroupName": "g", "logStreamName": "x" }),
                missing,
                "The specified log stream does not exist.",
            ),
            (
                "DeleteLogGroup",
                json!({ "logGroupName": "x" }),
                missing,
                "The specified log group does not exist.",
            ),
            (
                "CreateLogGroup",
                json!({ "logGroupName": "g" }),
                exists,
                "The specified log group already exists",
            ),
            (
                "CreateLogStream",
                json!({ "logGroupName": "g", "logStreamName": "s" }),
                exists,
                "The specified log stream already exists",
            ),
            (
                "DeleteLogGroup",
                json!({}),
                invalid,
                "1 validation error detected: Value null at 'logGroupName' failed to satisfy constraint: Member must not be null",
            ),
            (
                "CreateLogGroup",
                json!({ "logGroupName": "a b" }),
                invalid,
                "1 validation error detected: Value 'a b' at 'logGroupName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\\.\\-_/#A-Za-z0-9]+",
            ),
            (
                "DescribeLogStreams",
                json!({ "logGroupName": "g", "limit": 51, "orderBy": "x" }),
                invalid,
                "2 validation errors detected: Value 'x' at 'orderBy' failed to satisfy constraint: Member must satisfy enum value set: [LogStreamName, LastEventTime]; Value '51' at 'limit' failed to satisfy constraint: Member must have value less than or equal to 50",
            ),
            (
                "DescribeLogStreams",
                json!({ "logGroupName": "g", "orderBy": "LastEventTime", "logStreamNamePrefix": "s" }),
                invalid,
                "Cannot order by LastEventTime with a logStreamNamePrefix.",
            ),
            (
                "DescribeLogGroups",
                json!({ "logGroupNamePrefix": "g", "logGroupNamePattern": "g" }),
                invalid,
                "LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.",
            ),
            (
                "GetLogEvents",
                json!({ "logGroupName": "g", "logStreamName": "s", "nextToken": "f/x" }),
                invalid,
                "The specified nextToken is invalid.",
            ),
            (
                "FilterLogEvents",
                json!({ "logGroupName": "g", "nextToken": "?" }),
                invalid,
                "The specified nextToken is invalid.",
            ),
            (
                "FilterLogEvents",
                json!({ "logGroupName": "g", "filterPattern": "[a, b]" }),
                invalid,
                "Invalid filter pattern: patterns of space-delimited fields are not supported",
            ),
            (
                "PutLogEvents",
                json!({ "logGroupName": "g", "logStreamName": "s", "logEvents": [
                { "timestamp": 2, "message": "b" }, { "timestamp": 1, "message": "a" }] }),
                invalid,
                "Log events in a single PutLogEvents request must be in chronological order.",
            ),
            (
                "StartQuery",
                json!({}),
                "UnknownOperationException",
                "StartQuery is not supported here.",
            ),
        ] {
            let (status, answer) = ask(&logs, operation, body).await;
            assert_eq!((status, &answer["__type"]), (400, &code.into()), "{operation}: {answer}");
            assert_eq!(answer["message"], text, "{operation}");
        }
        let days = json!({ "logGroupName": "g", "retentionInDays": 2 });
        let (_, answer) = ask(&logs, "PutRetentionPolicy", days).await;
        assert!(
            answer["message"].as_str().unwrap().contains("enum value set: [1, 3, 5,"),
            "{answer}"
        );
        let (_, answer) =
            ask(&logs, "StartLiveTail", json!({ "logGroupIdentifiers": ["g"] })).await;
        assert_eq!(answer["__type"], "InvalidOperationException");
        assert_eq!(call(&logs, "Logs_20140328.DescribeLogGroups", b"{").await.0, 400);
    }
}
