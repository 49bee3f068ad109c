//! Against what AWS answered.

use super::super::lookup::tests::{Bench, error, function_arn, members};
use super::*;

async fn bench() -> Bench {
    let bench = Bench::new().await;
    bench.function("f").await;
    bench.function("other").await;
    bench.version("f", 1).await;
    bench.alias("f", "live", "1").await;
    bench
}

fn shown(qualifier: &str, rest: Value, answer: &Map<String, Value>) {
    let mut want = members(json!({
        "DestinationConfig": { "OnFailure": {}, "OnSuccess": {} },
        "FunctionArn": function_arn(&format!("f:{qualifier}")),
        "LastModified": answer["LastModified"],
    }));
    want.extend(members(rest));
    assert_eq!(*answer, want);
    assert!(answer["LastModified"].as_f64().unwrap() > 1.6e9);
}

#[tokio::test]
async fn every_form_of_a_name_leads_to_its_config() {
    let bench = bench().await;
    for (name, qualifier, leads_to) in [
        ("f", None, Some("$LATEST")),
        ("f", Some("$LATEST"), Some("$LATEST")),
        ("f", Some("1"), Some("1")),
        ("f", Some("live"), Some("live")),
        (function_arn("f:live").as_str(), None, Some("live")),
        (function_arn("f:live").as_str(), Some("live"), Some("live")),
        (function_arn("f:live").as_str(), Some("$LATEST"), None),
        ("f:live", None, Some("live")),
        ("f:live", Some("live"), Some("live")),
        ("f:live", Some("$LATEST"), None),
        ("f:1", None, Some("1")),
        ("f:$LATEST", Some("$LATEST"), Some("$LATEST")),
        ("f:1", Some("$LATEST"), None),
        ("f:$LATEST", Some("1"), None),
    ] {
        let asked = json!({
            "FunctionName": name, "Qualifier": qualifier, "MaximumRetryAttempts": 1,
        });
        let answer = bench.control.put_function_event_invoke_config(members(asked)).await;
        match leads_to {
            Some(leads_to) => {
                shown(leads_to, json!({ "MaximumRetryAttempts": 1 }), &answer.unwrap());
            }
            None => assert_eq!(
                error(answer).1,
                "The derived qualifier from the function name does not match the specified qualifier."
            ),
        }
    }
    let listed = bench
        .control
        .list_function_event_invoke_configs(members(json!({ "FunctionName": "f" })))
        .await
        .unwrap();
    let arns: Vec<&Value> = listed["FunctionEventInvokeConfigs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| &c["FunctionArn"])
        .collect();
    let want = ["f:$LATEST", "f:1", "f:live"].map(function_arn);
    assert_eq!(arns, want.each_ref().map(|arn| arn.as_str()));
}

#[tokio::test]
async fn put_replaces_and_update_merges() {
    let bench = bench().await;
    let control = &bench.control;
    let asked = |rest: Value| {
        let mut asked = members(json!({ "FunctionName": "f" }));
        asked.extend(members(rest));
        asked
    };
    let both = json!({ "MaximumEventAgeInSeconds": 60, "MaximumRetryAttempts": 2 });
    let answer = control.put_function_event_invoke_config(asked(both.clone())).await.unwrap();
    shown("$LATEST", both.clone(), &answer);
    let retries = json!({ "MaximumRetryAttempts": 0 });
    let answer = control.put_function_event_invoke_config(asked(retries.clone())).await.unwrap();
    shown("$LATEST", retries.clone(), &answer);
    control.put_function_event_invoke_config(asked(both)).await.unwrap();
    let answer = control.update_function_event_invoke_config(asked(retries)).await.unwrap();
    let merged = json!({ "MaximumEventAgeInSeconds": 60, "MaximumRetryAttempts": 0 });
    shown("$LATEST", merged, &answer);
    let got = control.get_function_event_invoke_config(asked(json!({}))).await.unwrap();
    assert_eq!(got, answer);
    control.delete_function_event_invoke_config(asked(json!({}))).await.unwrap();
    let text =
        format!("The function {} doesn't have an EventInvokeConfig", function_arn("f:$LATEST"));
    for answer in [
        control.delete_function_event_invoke_config(asked(json!({}))).await,
        control.get_function_event_invoke_config(asked(json!({}))).await,
        control
            .update_function_event_invoke_config(asked(json!({ "MaximumRetryAttempts": 0 })))
            .await,
    ] {
        assert_eq!(error(answer), (ErrorKind::ResourceNotFound, text.clone()));
    }
}

#[tokio::test]
async fn destinations_are_checked_as_recorded() {
    let bench = bench().await;
    let queue = "arn:aws:sqs:us-east-1:000000000000:q";
    let invalid = |arn: &str| Some(format!("The destination ARN {arn} is invalid."));
    let absent = function_arn("absent");
    let iam = "arn:aws:iam:us-east-1:000000000000:function:f";
    let itself = Some("You can't specify the function as a destination for itself.".into());
    for (arn, refused) in [
        (queue, None),
        ("arn:aws:sns:us-east-1:000000000000:t", None),
        (function_arn("other").as_str(), None),
        (absent.as_str(), invalid(&absent)),
        (function_arn("other:7").as_str(), invalid(&function_arn("other:7"))),
        (function_arn("f").as_str(), itself.clone()),
        (function_arn("f:live").as_str(), itself),
        ("arn:aws:sqs:us-east-1:000000000000:q.fifo", invalid("arn:aws:sqs:us-east-1:000000000000:q.fifo")),
        (
            iam,
            Some(format!(
                "The provided destination config DestinationConfig(onSuccess=OnSuccess(destination={iam}), onFailure=null) is invalid."
            )),
        ),
        (
            "arn:aws:s3:::b",
            Some("Destinations of the service s3 are not supported by Kennel: arn:aws:s3:::b. Use an SQS queue, an SNS topic or a Lambda function.".into()),
        ),
        ("", None),
    ] {
        let asked = json!({
            "FunctionName": "f",
            "DestinationConfig": { "OnSuccess": { "Destination": arn } },
        });
        let answer = bench.control.put_function_event_invoke_config(members(asked)).await;
        match refused {
            None if arn.is_empty() => shown("$LATEST", json!({}), &answer.unwrap()),
            None => {
                let to = json!({ "OnSuccess": { "Destination": arn }, "OnFailure": {} });
                shown("$LATEST", json!({ "DestinationConfig": to }), &answer.unwrap());
            }
            Some(text) => {
                assert_eq!(error(answer), (ErrorKind::InvalidParameterValue, text));
            }
        }
    }
    // A side that is not given stays.
    let update =
        |config: Value| members(json!({ "FunctionName": "f", "DestinationConfig": config }));
    for (config, want) in [
        (
            json!({ "OnFailure": { "Destination": queue } }),
            json!({ "OnSuccess": {}, "OnFailure": { "Destination": queue } }),
        ),
        (
            json!({ "OnSuccess": {} }),
            json!({ "OnSuccess": {}, "OnFailure": { "Destination": queue } }),
        ),
        (json!({ "OnFailure": {} }), json!({ "OnSuccess": {}, "OnFailure": {} })),
    ] {
        let answer =
            bench.control.update_function_event_invoke_config(update(config)).await.unwrap();
        assert_eq!(answer["DestinationConfig"], want);
    }
}

#[tokio::test]
async fn what_is_not_there_is_told_as_recorded() {
    let bench = bench().await;
    let control = &bench.control;
    let of = |name: &str, qualifier: Option<&str>| {
        members(json!({
            "FunctionName": name, "Qualifier": qualifier, "MaximumRetryAttempts": 2,
        }))
    };
    let absent_arn = function_arn("absent");
    let function = "The function doesn't exist.".to_owned();
    let config =
        |arn: &str| format!("The function {} doesn't have an EventInvokeConfig", function_arn(arn));
    for (answer, text) in [
        (control.put_function_event_invoke_config(of("absent", None)).await, function.clone()),
        (control.put_function_event_invoke_config(of(&absent_arn, None)).await, function.clone()),
        (control.put_function_event_invoke_config(of("f", Some("no"))).await, function.clone()),
        (control.update_function_event_invoke_config(of("absent", None)).await, function.clone()),
        (control.list_function_event_invoke_configs(of("absent", None)).await, function),
        (
            control.get_function_event_invoke_config(of("absent", None)).await,
            config("absent:$LATEST"),
        ),
        (control.get_function_event_invoke_config(of("f", Some("no"))).await, config("f:no")),
        (control.get_function_event_invoke_config(of("f", Some("1221"))).await, config("f:1221")),
        (
            control.delete_function_event_invoke_config(of("absent", None)).await,
            config("absent:$LATEST"),
        ),
        (
            control.update_function_event_invoke_config(of("f", Some("live"))).await,
            config("f:live"),
        ),
    ] {
        assert_eq!(error(answer), (ErrorKind::ResourceNotFound, text));
    }
    let nothing = control.put_function_event_invoke_config(members(json!({ "FunctionName": "f" })));
    assert_eq!(
        error(nothing.await).1,
        "You must specify at least one of error handling or destination setting."
    );
}
