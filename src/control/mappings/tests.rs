//! Against what AWS answered.

use super::super::lookup::tests::{Bench, error, function_arn, members};
use super::*;
use crate::control::ErrorKind;

const QUEUE: &str = "arn:aws:sqs:us-east-1:000000000000:q";
const FIFO: &str = "arn:aws:sqs:us-east-1:000000000000:q.fifo";
const STREAM: &str = "arn:aws:kinesis:us-east-1:000000000000:stream/s";
const TABLE: &str =
    "arn:aws:dynamodb:us-east-1:000000000000:table/t/stream/2024-01-01T00:00:00.000";

async fn bench() -> Bench {
    let bench = Bench::new().await;
    bench.function("f").await;
    bench.version("f", 1).await;
    bench.alias("f", "live", "1").await;
    bench
}

fn with(base: Value, rest: Value) -> Map<String, Value> {
    let mut all = members(base);
    all.extend(members(rest));
    all
}

fn mapping(source: &str, rest: Value) -> Map<String, Value> {
    with(json!({ "FunctionName": "f", "EventSourceArn": source }), rest)
}

async fn refused(bench: &Bench, asked: Map<String, Value>) -> String {
    let (kind, text) = error(bench.control.create_event_source_mapping(asked).await);
    assert_eq!(kind, ErrorKind::InvalidParameterValue, "{text}");
    text
}

#[tokio::test]
async fn a_stream_is_mapped_as_recorded() {
    let bench = bench().await;
    let control = &bench.control;
    let queue = json!({ "OnFailure": { "Destination": QUEUE } });
    let asked = mapping(
        TABLE,
        json!({
            "DestinationConfig": queue, "BatchSize": 1, "StartingPosition": "TRIM_HORIZON",
            "MaximumBatchingWindowInSeconds": 1, "MaximumRetryAttempts": 1,
        }),
    );
    let made = control.create_event_source_mapping(asked).await.unwrap();
    let uuid = made["UUID"].as_str().unwrap().to_owned();
    let mut want = members(json!({
        "BatchSize": 1,
        "BisectBatchOnFunctionError": false,
        "DestinationConfig": queue,
        "EventSourceArn": TABLE,
        "EventSourceMappingArn":
            format!("arn:aws:lambda:us-east-1:000000000000:event-source-mapping:{uuid}"),
        "FunctionArn": function_arn("f"),
        "FunctionResponseTypes": [],
        "LastModified": made["LastModified"],
        "LastProcessingResult": "No records processed",
        "MaximumBatchingWindowInSeconds": 1,
        "MaximumRecordAgeInSeconds": -1,
        "MaximumRetryAttempts": 1,
        "ParallelizationFactor": 1,
        "StartingPosition": "TRIM_HORIZON",
        "State": "Creating",
        "StateTransitionReason": "User action",
        "TumblingWindowInSeconds": 0,
        "UUID": uuid,
    }));
    assert_eq!(made, want);
    let one = || members(json!({ "UUID": uuid }));
    want.insert("State".into(), "Enabled".into());
    assert_eq!(control.get_event_source_mapping(one()).await.unwrap(), want);
    let listed =
        control.list_event_source_mappings(members(json!({ "FunctionName": "f" }))).await.unwrap();
    assert_eq!(listed["EventSourceMappings"], json!([want]));
    want.insert("State".into(), "Deleting".into());
    assert_eq!(control.delete_event_source_mapping(one()).await.unwrap(), want);
    for answer in [
        control.get_event_source_mapping(one()).await,
        control.delete_event_source_mapping(one()).await,
        control.update_event_source_mapping(one()).await,
    ] {
        let text = "The resource you requested does not exist.".to_owned();
        assert_eq!(error(answer), (ErrorKind::ResourceNotFound, text));
    }
}

#[tokio::test]
async fn every_form_of_a_name_keeps_its_qualifier() {
    let bench = bench().await;
    for (n, (name, arn)) in [
        ("f".to_owned(), "f"),
        ("f:$LATEST".into(), "f:$LATEST"),
        ("000000000000:function:f:1".into(), "f:1"),
        (function_arn("f:live"), "f:live"),
    ]
    .into_iter()
    .enumerate()
    {
        let asked = with(
            json!({ "FunctionName": name, "EventSourceArn": format!("{QUEUE}{n}") }),
            json!({ "Enabled": false, "Tags": { "a": "b" } }),
        );
        let made = bench.control.create_event_source_mapping(asked).await.unwrap();
        assert_eq!(made["FunctionArn"], function_arn(arn));
        let got = bench
            .control
            .get_event_source_mapping(members(json!({ "UUID": made["UUID"] })))
            .await
            .unwrap();
        assert_eq!(got["State"], "Disabled");
        let keys: Vec<&str> = got.keys().map(String::as_str).collect();
        let want = [
            "BatchSize",
            "EventSourceArn",
            "EventSourceMappingArn",
            "FunctionArn",
            "FunctionResponseTypes",
            "LastModified",
            "MaximumBatchingWindowInSeconds",
            "State",
            "StateTransitionReason",
            "UUID",
        ];
        assert_eq!(keys, want);
        assert_eq!(
            (&got["BatchSize"], &got["StateTransitionReason"]),
            (&json!(10), &json!("USER_INITIATED"))
        );
        let tags = members(json!({ "Resource": got["EventSourceMappingArn"] }));
        assert_eq!(bench.control.list_tags(tags).await.unwrap()["Tags"], json!({ "a": "b" }));
    }
}

#[tokio::test]
async fn what_a_source_does_not_take_is_refused() {
    let bench = bench().await;
    let start = "1 validation error detected: Value null at 'startingPosition' failed to satisfy constraint: Member must not be null.";
    let window = "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10";
    let unsupported =
        |what: &str| format!("Unsupported {what} parameter for given event source mapping type.");
    let position = |arn: &str| format!("Unsupported starting position for arn type: {arn}");
    let filter =
        |pattern: Value| json!({ "FilterCriteria": { "Filters": [{ "Pattern": pattern }] } });
    let no_pattern = "Invalid filter pattern definition.";
    let latest = |rest: Value| Value::Object(with(json!({ "StartingPosition": "LATEST" }), rest));
    for (asked, text) in [
        (members(json!({ "FunctionName": "f" })), "Unrecognized event source.".to_owned()),
        (mapping("arn:aws:s3:::b", json!({})), "Unrecognized event source.".into()),
        (
            members(json!({ "FunctionName": "absent", "EventSourceArn": QUEUE })),
            "Function does not exist".into(),
        ),
        (
            members(json!({ "FunctionName": "f:no", "EventSourceArn": QUEUE })),
            "Function does not exist".into(),
        ),
        (
            mapping(
                QUEUE,
                json!({ "DestinationConfig": { "OnSuccess": { "Destination": QUEUE } } }),
            ),
            unsupported("DestinationConfig"),
        ),
        (
            mapping(STREAM, latest(json!({ "DestinationConfig": { "OnSuccess": {} } }))),
            unsupported("DestinationConfig"),
        ),
        (
            mapping(QUEUE, json!({ "ParallelizationFactor": 2 })),
            unsupported("ParallelizationFactor"),
        ),
        (mapping(STREAM, latest(json!({ "ScalingConfig": {} }))), unsupported("ScalingConfig")),
        (mapping(STREAM, json!({})), start.into()),
        (mapping(TABLE, json!({})), start.into()),
        (mapping(TABLE, json!({ "StartingPosition": "AT_TIMESTAMP" })), position(TABLE)),
        (mapping(QUEUE, json!({ "StartingPosition": "LATEST" })), position(QUEUE)),
        (mapping(QUEUE, json!({ "BatchSize": 11 })), window.into()),
        (
            mapping(FIFO, json!({ "MaximumBatchingWindowInSeconds": 1 })),
            unsupported("MaximumBatchingWindowInSeconds"),
        ),
        (
            mapping(FIFO, json!({ "BatchSize": 11 })),
            "BatchSize is 11: for this event source it is 1 to 10.".into(),
        ),
        (mapping(QUEUE, filter(json!("simple string"))), no_pattern.into()),
        (mapping(QUEUE, filter(json!({ "eventSource": "aws:sqs" }))), no_pattern.into()),
        (mapping(QUEUE, json!({ "FilterCriteria": { "Filters": [{}] } })), no_pattern.into()),
        (
            mapping(STREAM, latest(json!({ "MaximumRecordAgeInSeconds": 59 }))),
            "MaximumRecordAgeInSeconds is 59: it must be -1 or between 60 and 604800.".into(),
        ),
        (
            members(json!({
                "FunctionName": "f",
                "SelfManagedEventSource": { "Endpoints": { "KAFKA_BOOTSTRAP_SERVERS": ["k:1"] } },
            })),
            "Required 'sourceAccessConfigurations' parameter is missing.".into(),
        ),
    ] {
        assert_eq!(refused(&bench, asked.clone()).await, text, "{asked:?}");
    }
    let empty = mapping(QUEUE, json!({ "FilterCriteria": { "Filters": [] } }));
    let made = bench.control.create_event_source_mapping(empty).await.unwrap();
    assert!(made.get("FilterCriteria").is_none());
}

#[tokio::test]
async fn a_source_is_mapped_once_to_a_function() {
    let bench = bench().await;
    let control = &bench.control;
    let create = async |asked: Map<String, Value>| control.create_event_source_mapping(asked).await;
    let queue = create(mapping(QUEUE, json!({}))).await.unwrap();
    let uuid = queue["UUID"].as_str().unwrap();
    let again = error(create(mapping(QUEUE, json!({}))).await);
    assert_eq!(
        again,
        (
            ErrorKind::ResourceConflict,
            format!(
                "An event source mapping with SQS arn (\" {QUEUE} \") and function (\" f \") already exists. Please update or delete the existing mapping with UUID {uuid}"
            )
        )
    );
    let stream = || mapping(STREAM, json!({ "StartingPosition": "LATEST" }));
    let first = create(stream()).await.unwrap();
    assert_eq!(
        error(create(stream()).await).1,
        format!(
            "The event source arn (\" {STREAM} \") and function (\" f \") provided mapping already exists. Please update or delete the existing mapping with UUID {}",
            first["UUID"].as_str().unwrap()
        )
    );
    let kafka = |servers: &[&str], topic: &str| {
        members(json!({
            "FunctionName": "f", "Topics": [topic],
            "SelfManagedEventSource": { "Endpoints": { "KAFKA_BOOTSTRAP_SERVERS": servers } },
            "SourceAccessConfigurations":
                [{ "Type": "BASIC_AUTH", "URI": "arn:aws:secretsmanager:us-east-1:000000000000:secret:s" }],
        }))
    };
    let first = create(kafka(&["kafka:1000"], "topic")).await.unwrap();
    assert_eq!(first["SelfManagedKafkaEventSourceConfig"]["ConsumerGroupId"], first["UUID"]);
    assert_eq!(
        (&first["StartingPosition"], &first["BatchSize"], &first["StateTransitionReason"]),
        (&json!("TRIM_HORIZON"), &json!(100), &json!("USER_INITIATED"))
    );
    assert_eq!(
        error(create(kafka(&["kafka:1000", "kafka:2000"], "topic")).await).1,
        format!(
            "An event source mapping with event source (\"kafka:1000,kafka:2000\"), function (\"{}\"), topics (\"topic\") already exists. Please update or delete the existing mapping with UUID {}",
            function_arn("f"),
            first["UUID"].as_str().unwrap()
        )
    );
    create(kafka(&["kafka:1000"], "topic_2")).await.unwrap();
    control.delete_event_source_mapping(members(json!({ "UUID": uuid }))).await.unwrap();
    create(mapping(QUEUE, json!({}))).await.unwrap();
}

#[tokio::test]
async fn an_update_changes_what_it_names() {
    let bench = bench().await;
    bench.function("g").await;
    let control = &bench.control;
    let pattern = r#"{"body":{"a":["b"]}}"#;
    let filters = json!({ "Filters": [{ "Pattern": pattern }] });
    let asked = mapping(QUEUE, json!({ "FilterCriteria": filters, "BatchSize": 5 }));
    let made = control.create_event_source_mapping(asked).await.unwrap();
    assert_eq!(made["FilterCriteria"], filters);
    let update = async |rest: Value| {
        let asked = with(json!({ "UUID": made["UUID"] }), rest);
        control.update_event_source_mapping(asked).await
    };
    for (rest, state) in [
        (json!({ "Enabled": false }), "Disabling"),
        (json!({ "Enabled": false }), "Updating"),
        (json!({ "Enabled": true }), "Enabling"),
    ] {
        let updated = update(rest).await.unwrap();
        assert_eq!((&updated["State"], &updated["BatchSize"]), (&json!(state), &json!(5)));
        assert_eq!(updated["FilterCriteria"], filters);
    }
    let large = error(update(json!({ "BatchSize": 20 })).await).1;
    assert!(large.starts_with("Maximum batch window in seconds"));
    let both = json!({ "BatchSize": 20, "MaximumBatchingWindowInSeconds": 1 });
    assert_eq!(update(both).await.unwrap()["BatchSize"], 20);
    let cleared = update(json!({ "FilterCriteria": {} })).await.unwrap();
    assert!(cleared.get("FilterCriteria").is_none());
    assert_eq!(
        update(json!({ "FunctionName": "g" })).await.unwrap()["FunctionArn"],
        function_arn("g")
    );
    // The source is free for the first function again, and taken for the second.
    control.create_event_source_mapping(mapping(QUEUE, json!({}))).await.unwrap();
    let taken = with(json!({ "FunctionName": "g" }), json!({ "EventSourceArn": QUEUE }));
    assert_eq!(
        error(control.create_event_source_mapping(taken).await).0,
        ErrorKind::ResourceConflict
    );
    let (listed, none) = (
        json!({ "EventSourceArn": QUEUE }),
        json!({ "EventSourceArn": QUEUE, "FunctionName": "f:live" }),
    );
    let listed = control.list_event_source_mappings(members(listed)).await.unwrap();
    assert_eq!(listed["EventSourceMappings"].as_array().unwrap().len(), 2);
    let none = control.list_event_source_mappings(members(none)).await.unwrap();
    assert_eq!(none, members(json!({ "EventSourceMappings": [] })));
}
