//! Against what AWS answered.

use super::super::lookup::tests::{Bench, error, function_arn, members};
use super::*;

const BUCKET: &str = "arn:aws:s3:::test-bucket";

async fn bench() -> Bench {
    let bench = Bench::new().await;
    bench.function("f").await;
    bench.version("f", 1).await;
    bench.alias("f", "live", "1").await;
    bench
}

/// S3's permission under the statement id `s3`, and whatever is given beside or instead.
fn s3(rest: Value) -> Map<String, Value> {
    let mut asked = members(json!({
        "FunctionName": "f", "Action": "lambda:InvokeFunction", "StatementId": "s3",
        "Principal": "s3.amazonaws.com", "SourceArn": BUCKET,
    }));
    asked.extend(members(rest));
    asked
}

fn parsed(answer: &Map<String, Value>, member: &str) -> Value {
    serde_json::from_str(answer[member].as_str().unwrap()).unwrap()
}

async fn policy(bench: &Bench, qualifier: Option<&str>) -> (Vec<String>, String) {
    let asked = members(json!({ "FunctionName": "f", "Qualifier": qualifier }));
    let answer = bench.control.get_policy(asked).await.unwrap();
    let policy = parsed(&answer, "Policy");
    let sids = policy["Statement"].as_array().unwrap().iter();
    let sids = sids.map(|s| s["Sid"].as_str().unwrap().to_owned()).collect();
    (sids, answer["RevisionId"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn statements_are_written_as_aws_writes_them() {
    let bench = bench().await;
    let account = "000000000000";
    let user = "arn:aws:iam::000000000000:user/u";
    let f = function_arn("f");
    for (asked, want) in [
        (
            json!({ "StatementId": "wildcard", "Principal": "*", "SourceAccount": account }),
            json!({
                "Principal": "*", "Sid": "wildcard",
                "Condition": { "StringEquals": { "AWS:SourceAccount": account } },
            }),
        ),
        (
            json!({ "StatementId": "l", "Principal": "lambda.amazonaws.com" }),
            json!({ "Principal": { "Service": "lambda.amazonaws.com" }, "Sid": "l" }),
        ),
        (
            json!({ "StatementId": "account-id", "Principal": account }),
            json!({
                "Principal": { "AWS": "arn:aws:iam::000000000000:root" }, "Sid": "account-id",
            }),
        ),
        (
            json!({ "StatementId": "user-arn", "Principal": user }),
            json!({ "Principal": { "AWS": user }, "Sid": "user-arn" }),
        ),
        (
            json!({ "StatementId": "alexaSkill", "Principal": "*", "EventSourceToken": "amzn1.ask" }),
            json!({
                "Principal": "*", "Sid": "alexaSkill",
                "Condition": { "StringEquals": { "lambda:EventSourceToken": "amzn1.ask" } },
            }),
        ),
        (
            json!({
                "StatementId": "urlPermission", "Principal": "*",
                "Action": "lambda:InvokeFunctionUrl", "SourceArn": BUCKET,
                "SourceAccount": account, "PrincipalOrgID": "o-1234567890",
                "FunctionUrlAuthType": "NONE",
            }),
            json!({
                "Principal": "*", "Sid": "urlPermission", "Action": "lambda:InvokeFunctionUrl",
                "Condition": {
                    "ArnLike": { "AWS:SourceArn": BUCKET },
                    "StringEquals": {
                        "AWS:SourceAccount": account,
                        "aws:PrincipalOrgID": "o-1234567890",
                        "lambda:FunctionUrlAuthType": "NONE",
                    },
                },
            }),
        ),
        (
            json!({ "StatementId": "via", "Principal": "*", "InvokedViaFunctionUrl": true }),
            json!({
                "Principal": "*", "Sid": "via",
                "Condition": { "Bool": { "lambda:InvokedViaFunctionUrl": "true" } },
            }),
        ),
    ] {
        let mut all = members(json!({ "FunctionName": "f", "Action": "lambda:InvokeFunction" }));
        all.extend(members(asked));
        let answer = bench.control.add_permission(all).await.unwrap();
        let mut whole = members(json!({
            "Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": f,
        }));
        whole.extend(members(want));
        assert_eq!(parsed(&answer, "Statement"), Value::Object(whole));
    }
    let s3 = bench.control.add_permission(s3(json!({}))).await.unwrap();
    let text = format!(
        r#"{{"Sid":"s3","Effect":"Allow","Principal":{{"Service":"s3.amazonaws.com"}},"Action":"lambda:InvokeFunction","Resource":"{f}","Condition":{{"ArnLike":{{"AWS:SourceArn":"{BUCKET}"}}}}}}"#
    );
    assert_eq!(s3["Statement"], text);
    let got = bench.control.get_policy(members(json!({ "FunctionName": "f" }))).await.unwrap();
    let whole = got["Policy"].as_str().unwrap();
    assert!(whole.starts_with(r#"{"Version":"2012-10-17","Id":"default","Statement":[{"Sid":"#));
    assert!(whole.ends_with(&format!("{text}]}}")));
}

#[tokio::test]
async fn refusals_are_as_recorded() {
    let bench = bench().await;
    let control = &bench.control;
    let no_resource = "The resource you requested does not exist.".to_owned();
    let alias = format!("Cannot find alias arn: {}", function_arn("f:alias-doesnotexist"));
    let function = |arn: &str| format!("Function not found: {}", function_arn(arn));
    for (asked, kind, text) in [
        (
            json!({ "FunctionName": "f:alias-not-42", "Qualifier": "42" }),
            ErrorKind::InvalidParameterValue,
            "The derived qualifier from the function name does not match the specified qualifier."
                .to_owned(),
        ),
        (
            json!({ "FunctionName": "f:$LATEST", "Qualifier": "$LATEST" }),
            ErrorKind::InvalidParameterValue,
            "We currently do not support adding policies for $LATEST.".into(),
        ),
        (
            json!({ "Principal": "invalid.nonaws.com" }),
            ErrorKind::InvalidParameterValue,
            "The provided principal was invalid. Please check the principal and try again.".into(),
        ),
        (json!({ "FunctionName": "absent" }), ErrorKind::ResourceNotFound, function("absent")),
        (
            json!({ "FunctionName": "f:alias-doesnotexist" }),
            ErrorKind::ResourceNotFound,
            alias.clone(),
        ),
        (json!({ "Qualifier": "42" }), ErrorKind::ResourceNotFound, function("f:42")),
        (
            json!({ "Qualifier": "valid-with-$-but-doesnotexist" }),
            ErrorKind::ResourceNotFound,
            function("f:valid-with-$-but-doesnotexist"),
        ),
        (
            json!({ "FunctionUrlAuthType": "NONE" }),
            ErrorKind::InvalidParameterValue,
            "FunctionUrlAuthType is only supported for lambda:InvokeFunctionUrl action".into(),
        ),
        (
            json!({ "RevisionId": "wrong" }),
            ErrorKind::PreconditionFailed,
            "The Revision Id provided does not match the latest Revision Id. Call the GetPolicy API to retrieve the latest Revision Id".into(),
        ),
    ] {
        let answer = control.add_permission(s3(asked.clone())).await;
        assert_eq!(error(answer), (kind, text), "{asked}");
    }
    for (name, qualifier) in [("absent", None), ("f", Some("77")), ("f", None)] {
        let asked = members(json!({ "FunctionName": name, "Qualifier": qualifier }));
        let answer = control.get_policy(asked).await;
        assert_eq!(error(answer), (ErrorKind::ResourceNotFound, no_resource.clone()));
    }
    let remove = async |rest: Value| {
        let mut asked = members(json!({ "FunctionName": "f", "StatementId": "s3" }));
        asked.extend(members(rest));
        error(control.remove_permission(asked).await).1
    };
    assert_eq!(remove(json!({})).await, "No policy is associated with the given resource.");
    control.add_permission(s3(json!({}))).await.unwrap();
    let twice = "The statement id (s3) provided already exists. Please provide a new statement id, or remove the existing statement.";
    assert_eq!(
        error(control.add_permission(s3(json!({}))).await),
        (ErrorKind::ResourceConflict, twice.into())
    );
    let nothing = format!("No policy found for: {}", function_arn("absent"));
    assert_eq!(remove(json!({ "FunctionName": "absent" })).await, nothing);
    assert_eq!(remove(json!({ "Qualifier": "alias-doesnotexist" })).await, alias);
    assert_eq!(
        remove(json!({ "StatementId": "x" })).await,
        "Statement x is not found in resource policy."
    );
}

#[tokio::test]
async fn each_qualifier_has_its_policy_and_its_revision() {
    let bench = bench().await;
    let control = &bench.control;
    control.add_permission(s3(json!({}))).await.unwrap();
    let (_, revision) = policy(&bench, None).await;
    assert_eq!(bench.record("f").await.latest.revision_id, revision);
    assert_eq!(policy(&bench, Some("$LATEST")).await.1, revision);
    for named in
        [json!({ "FunctionName": "f:1", "Qualifier": "1" }), json!({ "Qualifier": "live" })]
    {
        control.add_permission(s3(named)).await.unwrap();
    }
    let of_alias = control.find::<records::AliasRecord>("alias/f/live").await.unwrap().unwrap();
    assert_eq!(of_alias.record.revision_id, policy(&bench, Some("live")).await.1);
    let key = records::version_key("f", 1);
    let of_version = control.find::<records::VersionRecord>(&key).await.unwrap().unwrap();
    assert_eq!(of_version.record.revision_id, policy(&bench, Some("1")).await.1);
    assert_eq!(policy(&bench, None).await, (vec!["s3".into()], revision.clone()));
    // The policy's own revision is good also after the function went on.
    let mut function = control.find_function("f").await.unwrap().unwrap().record;
    function.latest.revision_id = uuid();
    bench.put(records::function_key("f"), &function).await;
    let second = json!({ "StatementId": "s3_2", "RevisionId": revision });
    control.add_permission(s3(second)).await.unwrap();
    assert_eq!(policy(&bench, None).await.0, ["s3", "s3_2"]);
    let remove = |sid: &str, revision: Value| {
        members(json!({ "FunctionName": "f", "StatementId": sid, "RevisionId": revision }))
    };
    let stale = control.remove_permission(remove("s3", json!(revision))).await;
    assert_eq!(error(stale).0, ErrorKind::PreconditionFailed);
    let latest = json!(bench.record("f").await.latest.revision_id);
    control.remove_permission(remove("s3", latest)).await.unwrap();
    assert_eq!(policy(&bench, None).await.0, ["s3_2"]);
    control.remove_permission(remove("s3_2", Value::Null)).await.unwrap();
    let gone = control.get_policy(members(json!({ "FunctionName": "f" }))).await;
    assert_eq!(error(gone).1, "The resource you requested does not exist.");
    assert_ne!(bench.record("f").await.latest.revision_id, revision);
}

#[tokio::test]
async fn a_policy_has_a_limit() {
    let bench = bench().await;
    let mut refused = None;
    for n in 0..200 {
        let answer =
            bench.control.add_permission(s3(json!({ "StatementId": format!("s{n}") }))).await;
        if answer.is_err() {
            refused = Some((n, error(answer)));
            break;
        }
    }
    let (n, (kind, text)) = refused.unwrap();
    assert_eq!(kind, ErrorKind::PolicyLengthExceeded);
    assert!(n > 50, "{n}");
    assert!(
        text.starts_with("The final policy size (20") && text.ends_with("limit (20480)."),
        "{text}"
    );
}

#[tokio::test]
async fn writers_at_the_same_time_lose_nothing() {
    let bench = bench().await;
    let add = |n: u32| bench.control.add_permission(s3(json!({ "StatementId": format!("s{n}") })));
    let (a, b, c) = tokio::join!(add(0), add(1), add(2));
    assert!(a.is_ok() && b.is_ok() && c.is_ok());
    let (mut sids, _) = policy(&bench, None).await;
    sids.sort();
    assert_eq!(sids, ["s0", "s1", "s2"]);
}

#[tokio::test]
async fn a_whole_policy_is_put_and_deleted() {
    let bench = bench().await;
    let control = &bench.control;
    let arn = function_arn("f:live");
    let put = |policy: &Value| members(json!({ "ResourceArn": arn, "Policy": policy.to_string() }));
    let one = json!({ "Effect": "Deny", "Principal": "*", "Action": "lambda:*", "Sid": "no" });
    let whole = json!({ "Version": "2012-10-17", "Statement": [one] });
    let answer = control.put_resource_policy(put(&whole)).await.unwrap();
    assert_eq!(parsed(&answer, "Policy")["Statement"], json!([one]));
    let by_arn = || members(json!({ "ResourceArn": arn }));
    assert_eq!(control.get_resource_policy(by_arn()).await.unwrap(), answer);
    assert_eq!(policy(&bench, Some("live")).await.0, ["no"]);
    for bad in [
        json!([]),
        json!({}),
        json!({ "Statement": [] }),
        json!({ "Statement": [{ "Effect": "Allow", "Principal": "*" }] }),
        json!({ "Statement": [{ "Effect": "Maybe", "Principal": "*", "Action": "*" }] }),
        json!({ "Statement": [one, one] }),
        json!({ "Statement": [{ "Effect": "Allow", "Principal": "*", "Action": "*", "X": 1 }] }),
        json!({ "Statement": one, "Other": 1 }),
    ] {
        let answer = control.put_resource_policy(put(&bad)).await;
        assert_eq!(error(answer).0, ErrorKind::InvalidParameterValue, "{bad}");
    }
    control.delete_resource_policy(by_arn()).await.unwrap();
    for answer in [
        control.delete_resource_policy(by_arn()).await,
        control.get_resource_policy(by_arn()).await.map(drop_answer),
    ] {
        assert_eq!(error(answer).0, ErrorKind::ResourceNotFound);
    }
}

fn drop_answer(_: Map<String, Value>) -> Map<String, Value> {
    Map::new()
}
