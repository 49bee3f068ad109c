//! Against what AWS answered.

use super::super::lookup::tests::{Bench, error, function_arn, members};
use super::*;

fn reserve(name: &str, n: u32) -> Map<String, Value> {
    members(json!({ "FunctionName": name, "ReservedConcurrentExecutions": n }))
}

fn provision(name: &str, qualifier: &str, n: u32) -> Map<String, Value> {
    members(json!({
        "FunctionName": name, "Qualifier": qualifier, "ProvisionedConcurrentExecutions": n,
    }))
}

async fn bench() -> Bench {
    let bench = Bench::new().await;
    bench.function("f").await;
    bench.function("g").await;
    bench.version("f", 1).await;
    bench.version("f", 2).await;
    bench.alias("f", "live", "1").await;
    bench.alias("f", "latest", "$LATEST").await;
    bench
}

#[tokio::test]
async fn concurrency_is_reserved_as_recorded() {
    let bench = bench().await;
    let control = &bench.control;
    for n in [0, 1, 900] {
        let answer = control.put_function_concurrency(reserve("f", n)).await.unwrap();
        assert_eq!(answer, members(json!({ "ReservedConcurrentExecutions": n })));
    }
    let got = control.get_function_concurrency(reserve("f", 0)).await.unwrap();
    assert_eq!(got, members(json!({ "ReservedConcurrentExecutions": 900 })));
    let least = "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [100].";
    for (name, n) in [("f", 901), ("f", 1000), ("f", 1001), ("g", 1)] {
        let answer = control.put_function_concurrency(reserve(name, n)).await;
        assert_eq!(error(answer).1, least, "{name} {n}");
    }
    control.put_function_concurrency(reserve("g", 0)).await.unwrap();
    control.delete_function_concurrency(reserve("f", 0)).await.unwrap();
    control.delete_function_concurrency(reserve("f", 0)).await.unwrap();
    assert!(control.get_function_concurrency(reserve("f", 0)).await.unwrap().is_empty());
    control.put_function_concurrency(reserve("g", 900)).await.unwrap();
    let absent = format!("Function not found: {}", function_arn("absent:$LATEST"));
    assert_eq!(error(control.put_function_concurrency(reserve("absent", 0)).await).1, absent);
    let absent = format!("Function not found: {}", function_arn("absent"));
    assert_eq!(error(control.get_function_concurrency(reserve("absent", 0)).await).1, absent);
    let arn = function_arn("f:$LATEST");
    let qualified = error(control.put_function_concurrency(reserve(&arn, 0)).await).1;
    assert!(qualified.starts_with("This operation is permitted on Lambda functions only."));
}

#[tokio::test]
async fn the_sum_of_reservations_needs_no_look_at_all_functions() {
    let bench = bench().await;
    let control = &bench.control;
    let unreserved = async || control.held().await.unwrap().unreserved(1000);
    control.put_function_concurrency(reserve("f", 300)).await.unwrap();
    control.put_function_concurrency(reserve("g", 50)).await.unwrap();
    control.put_function_concurrency(reserve("g", 60)).await.unwrap();
    assert_eq!(unreserved().await, 640);
    // A record that nobody could read would be noticed by whoever looks at all.
    bench.put("function/damaged".into(), &json!("no function")).await;
    assert_eq!(unreserved().await, 640);
    control.put_function_concurrency(reserve("f", 310)).await.unwrap();
    control.put_provisioned_concurrency_config(provision("f", "live", 1)).await.unwrap();
    assert_eq!(unreserved().await, 630);
    control.delete_function_concurrency(reserve("g", 0)).await.unwrap();
    assert_eq!(unreserved().await, 690);
    control.delete_function(members(json!({ "FunctionName": "f" }))).await.unwrap();
    assert_eq!(unreserved().await, 1000, "a deleted function holds nothing");
}

#[tokio::test]
async fn a_store_of_before_gets_the_keys_of_reservations() {
    let bench = bench().await;
    let control = &bench.control;
    control.put_function_concurrency(reserve("f", 300)).await.unwrap();
    // As it was: the record alone; and a key whose function is gone.
    let delete = vec![records::reserved_key("f")];
    control.commit(Batch { delete, ..Batch::default() }, None).await.unwrap();
    bench.put(records::reserved_key("gone"), &5).await;
    let all = HashMap::from([("f".to_owned(), 300)]);
    assert_eq!(control.reservations().await.unwrap(), all);
    assert_eq!(control.held().await.unwrap().reserved, all);
    assert_eq!(control.reservations().await.unwrap(), all);
}

#[tokio::test]
async fn two_reservations_at_once_do_not_share_room() {
    let bench = bench().await;
    let control = &bench.control;
    let (f, g) = tokio::join!(
        control.put_function_concurrency(reserve("f", 500)),
        control.put_function_concurrency(reserve("g", 500)),
    );
    assert!(f.is_ok() != g.is_ok(), "{f:?} {g:?}");
}

#[tokio::test]
async fn provisioned_concurrency_lives_as_recorded() {
    let bench = bench().await;
    let control = &bench.control;
    let conflict = "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version";
    let made = control.put_provisioned_concurrency_config(provision("f", "1", 2)).await.unwrap();
    for (key, value) in [
        ("RequestedProvisionedConcurrentExecutions", json!(2)),
        ("AllocatedProvisionedConcurrentExecutions", json!(0)),
        ("AvailableProvisionedConcurrentExecutions", json!(0)),
        ("Status", json!("IN_PROGRESS")),
    ] {
        assert_eq!(made[key], value, "{key}");
    }
    let on_alias = control.put_provisioned_concurrency_config(provision("f", "live", 1)).await;
    assert_eq!(error(on_alias), (ErrorKind::ResourceConflict, conflict.into()));
    control.hooks.set_provisioned_state(|name, qualifier| match (name, qualifier) {
        ("f", "1") => (2, 2),
        ("f", "live") => (1, 0),
        _ => (0, 0),
    });
    let got = control.get_provisioned_concurrency_config(provision("f", "1", 0)).await.unwrap();
    assert_eq!((&got["Status"], &got["LastModified"]), (&json!("READY"), &made["LastModified"]));
    control.delete_provisioned_concurrency_config(provision("f", "1", 0)).await.unwrap();
    control.delete_provisioned_concurrency_config(provision("f", "1", 0)).await.unwrap();
    let gone = control.get_provisioned_concurrency_config(provision("f", "1", 0)).await;
    assert_eq!(
        error(gone),
        (
            ErrorKind::ProvisionedConcurrencyConfigNotFound,
            "No Provisioned Concurrency Config found for this function".into()
        )
    );
    control.put_provisioned_concurrency_config(provision("f", "live", 1)).await.unwrap();
    let on_version = control.put_provisioned_concurrency_config(provision("f", "1", 1)).await;
    assert_eq!(
        error(on_version),
        (
            ErrorKind::ResourceConflict,
            "Version is pointed by a Provisioned Concurrency alias".into()
        )
    );
    control.put_provisioned_concurrency_config(provision("f", "2", 1)).await.unwrap();
    let listed = control.list_provisioned_concurrency_configs(reserve("f", 0)).await.unwrap();
    let arns: Vec<&Value> = listed["ProvisionedConcurrencyConfigs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|config| &config["FunctionArn"])
        .collect();
    assert_eq!(arns, [&json!(function_arn("f:2")), &json!(function_arn("f:live"))]);
    assert!(listed.get("NextMarker").is_none());
}

#[tokio::test]
async fn provisioned_concurrency_is_refused_as_recorded() {
    let bench = bench().await;
    let control = &bench.control;
    let alias = |arn: &str| format!("Cannot find alias arn: {}", function_arn(arn));
    let function = |arn: &str| format!("Function not found: {}", function_arn(arn));
    for (name, qualifier, text) in [
        ("absent", "noalias", alias("absent:noalias")),
        ("absent", "1", function("absent:1")),
        ("f", "noalias", alias("f:noalias")),
        ("f", "10", function("f:10")),
    ] {
        for answer in [
            control.get_provisioned_concurrency_config(provision(name, qualifier, 0)).await,
            control.put_provisioned_concurrency_config(provision(name, qualifier, 1)).await,
            control.delete_provisioned_concurrency_config(provision(name, qualifier, 0)).await,
        ] {
            assert_eq!(error(answer), (ErrorKind::ResourceNotFound, text.clone()));
        }
    }
    let absent = control.list_provisioned_concurrency_configs(reserve("absent", 0)).await;
    assert_eq!(error(absent).1, function("absent"));
    let none = control.list_provisioned_concurrency_configs(reserve("f", 0)).await.unwrap();
    assert_eq!(none, members(json!({ "ProvisionedConcurrencyConfigs": [] })));
    let latest = "The function resource provided must be an alias or a published version.";
    let got = control.get_provisioned_concurrency_config(provision("f", "$LATEST", 0)).await;
    assert_eq!(error(got).1, latest);
    let unpublished =
        "Provisioned Concurrency Configs cannot be applied to unpublished function versions.";
    control.put_function_concurrency(reserve("g", 100)).await.unwrap();
    for (qualifier, n, text) in [
        ("$LATEST", 1, unpublished),
        ("latest", 1, unpublished),
        (
            "1",
            901,
            "Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [900].",
        ),
        (
            "1",
            801,
            "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [100].",
        ),
    ] {
        let answer = control.put_provisioned_concurrency_config(provision("f", qualifier, n)).await;
        assert_eq!(error(answer).1, text, "{qualifier} {n}");
    }
    control.put_provisioned_concurrency_config(provision("f", "1", 800)).await.unwrap();
    // What it held before does not count against itself.
    control.put_provisioned_concurrency_config(provision("f", "1", 790)).await.unwrap();
    let lower = control.put_function_concurrency(reserve("f", 789)).await;
    assert!(error(lower).1.contains("should not be lower than function's total provisioned"));
    control.put_function_concurrency(reserve("f", 800)).await.unwrap();
    let over = control.put_provisioned_concurrency_config(provision("f", "2", 11)).await;
    assert!(error(over).1.contains("should not be greater than the reservedConcurrentExecution"));
    control.put_provisioned_concurrency_config(provision("f", "2", 10)).await.unwrap();
}
