//! Against what AWS answered.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::lookup::tests::{Bench, error, members};
use super::*;

/// A zip with one file.
pub(crate) fn zip(content: &str) -> String {
    use std::io::Write as _;
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    writer.start_file("python/lib.py", zip::write::SimpleFileOptions::default()).unwrap();
    writer.write_all(content.as_bytes()).unwrap();
    STANDARD.encode(writer.finish().unwrap().into_inner())
}

fn publish(name: &str, rest: Value) -> Map<String, Value> {
    let mut asked = members(json!({ "LayerName": name, "Content": { "ZipFile": zip("x = 1") } }));
    asked.extend(members(rest));
    asked
}

fn version(name: &str, number: i64) -> Map<String, Value> {
    members(json!({ "LayerName": name, "VersionNumber": number }))
}

fn layer_arn(rest: &str) -> String {
    format!("arn:aws:lambda:us-east-1:000000000000:layer:{rest}")
}

#[tokio::test]
async fn a_layer_lives_as_recorded() {
    let bench = Bench::new().await;
    let control = &bench.control;
    let given = json!({
        "CompatibleRuntimes": ["python3.12"], "CompatibleArchitectures": ["x86_64"],
        "Description": "d", "LicenseInfo": "l",
    });
    let first = control.publish_layer_version(publish("l", given.clone())).await.unwrap();
    let mut want = members(given.clone());
    want.extend(members(json!({
        "Content": first["Content"],
        "CreatedDate": first["CreatedDate"],
        "LayerArn": layer_arn("l"),
        "LayerVersionArn": layer_arn("l:1"),
        "Version": 1,
    })));
    assert_eq!(first, want);
    let zip = STANDARD.decode(zip("x = 1")).unwrap();
    let digest = crate::package::Digest::of(&zip);
    assert_eq!(
        first["Content"],
        json!({
            "Location": format!("kennel:code/{digest}"),
            "CodeSha256": STANDARD.encode(digest.as_bytes()),
            "CodeSize": zip.len(),
        })
    );
    // The zip and its tree are on the disk, and named by the layer.
    let code = &control.settings.code_folder;
    assert_eq!(std::fs::read(code.join("zip").join(digest.hex())).unwrap(), zip);
    assert!(control.trees.path(&digest).join("python/lib.py").exists());
    let owner = format!("code/{digest}/layer/l/1");
    assert!(control.store.get(&owner).await.unwrap().is_some());
    let second = control.publish_layer_version(publish(&layer_arn("l"), given)).await.unwrap();
    assert_eq!(
        (&second["Version"], &second["LayerVersionArn"]),
        (&json!(2), &json!(layer_arn("l:2")))
    );
    assert_eq!(control.get_layer_version(version("l", 1)).await.unwrap(), first);
    let by_arn = members(json!({ "Arn": layer_arn("l:1") }));
    assert_eq!(control.get_layer_version_by_arn(by_arn).await.unwrap(), first);
    let numbers = async || {
        let asked = members(json!({ "LayerName": "l" }));
        let listed = control.list_layer_versions(asked).await.unwrap();
        let versions = listed["LayerVersions"].as_array().unwrap().clone();
        assert!(versions.iter().all(|v| v.get("Content").is_none() && v.get("LayerArn").is_none()));
        versions.iter().map(|v| v["Version"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(numbers().await, [2, 1]);
    for number in [1, 1, 2] {
        control.delete_layer_version(version("l", number)).await.unwrap();
    }
    assert_eq!(numbers().await, [0_u64; 0]);
    assert!(control.store.get(&owner).await.unwrap().is_none());
    let third = control.publish_layer_version(publish("l", json!({}))).await.unwrap();
    assert_eq!(third["Version"], 3);
    let keys: Vec<&str> = third.keys().map(String::as_str).collect();
    let want = ["Content", "CreatedDate", "Description", "LayerArn", "LayerVersionArn", "Version"];
    assert_eq!(keys, want);
    let empty = json!({ "CompatibleRuntimes": [], "CompatibleArchitectures": [] });
    let empty = control.publish_layer_version(publish("m", empty)).await.unwrap();
    assert_eq!(empty["CompatibleRuntimes"], json!([]));
}

#[tokio::test]
async fn refusals_are_as_recorded() {
    let bench = Bench::new().await;
    let control = &bench.control;
    control.publish_layer_version(publish("l", json!({}))).await.unwrap();
    let none = members(json!({ "LayerName": "absent" }));
    let none = control.list_layer_versions(none).await.unwrap();
    assert_eq!(none, members(json!({ "LayerVersions": [] })));
    let absent = "The resource you requested does not exist.";
    let low = "Layer Version Cannot be less than 1";
    for (name, number, text) in
        [("absent", 1, absent), ("l", -1, low), ("l", 0, low), ("l", 2, absent)]
    {
        assert_eq!(error(control.get_layer_version(version(name, number)).await).1, text);
    }
    let by_arn = members(json!({ "Arn": layer_arn("l:2") }));
    assert_eq!(error(control.get_layer_version_by_arn(by_arn).await).1, absent);
    control.delete_layer_version(version("absent", 1)).await.unwrap();
    control.delete_layer_version(version("l", 2)).await.unwrap();
    assert_eq!(error(control.delete_layer_version(version("l", -1)).await).1, low);
    let foreign = version("arn:aws:lambda:us-east-1:111111111111:layer:l", 1);
    assert_eq!(error(control.get_layer_version(foreign).await).0, ErrorKind::AccessDenied);
}

#[tokio::test]
async fn code_that_is_none_is_refused() {
    let bench = Bench::new().await;
    for (content, text) in [
        (json!({}), "Please provide a source for layer content."),
        (json!({ "ZipFile": "" }), "Uploaded file must be a non-empty zip"),
        (json!({ "ZipFile": "aGVsbG8=" }), "Could not unzip uploaded file"),
        (
            json!({ "ZipFile": "aGVsbG8=", "S3Bucket": "b" }),
            "Please do not provide other layer content parameters",
        ),
        (
            json!({ "S3Bucket": "b", "S3Key": "k" }),
            "Error occurred while GetObject. No S3 endpoint",
        ),
    ] {
        let asked = publish("l", json!({ "Content": content }));
        let (kind, got) = error(bench.control.publish_layer_version(asked).await);
        assert_eq!(kind, ErrorKind::InvalidParameterValue, "{got}");
        assert!(got.starts_with(text), "{content}: {got}");
    }
    let no_base64 = publish("l", json!({ "Content": { "ZipFile": "!" } }));
    let (kind, got) = error(bench.control.publish_layer_version(no_base64).await);
    assert_eq!(kind, ErrorKind::InvalidRequestContent, "{got}");
    let none = bench.control.list_layers(Map::new()).await.unwrap();
    assert_eq!(none, members(json!({ "Layers": [] })));
}

#[tokio::test]
async fn the_account_has_room_for_so_much() {
    let mut bench = Bench::new().await;
    let one = STANDARD.decode(zip("x = 1")).unwrap().len() as u64;
    bench.control.settings.code_storage_bytes = one * 2;
    let control = &bench.control;
    for _ in 0..2 {
        control.publish_layer_version(publish("l", json!({}))).await.unwrap();
    }
    let full = control.publish_layer_version(publish("l", json!({}))).await;
    assert_eq!(error(full).0, ErrorKind::CodeStorageExceeded);
}

#[tokio::test]
async fn lists_are_filtered_and_paged() {
    let bench = Bench::new().await;
    let control = &bench.control;
    let runtime = |runtime: &str| json!({ "CompatibleRuntimes": [runtime] });
    for (name, rest) in [
        ("a", runtime("python3.12")),
        ("a", runtime("nodejs20.x")),
        ("b", json!({ "CompatibleArchitectures": ["arm64"] })),
        ("c", runtime("python3.12")),
        ("d", json!({})),
    ] {
        control.publish_layer_version(publish(name, rest)).await.unwrap();
    }
    control.delete_layer_version(version("d", 1)).await.unwrap();
    let layers = async |asked: Value| {
        let listed = control.list_layers(members(asked)).await.unwrap();
        let layers = listed["Layers"].as_array().unwrap().iter();
        let names: Vec<String> = layers
            .map(|layer| {
                let version = &layer["LatestMatchingVersion"]["Version"];
                format!("{}:{version}", layer["LayerName"].as_str().unwrap())
            })
            .collect();
        (names.join(" "), listed.get("NextMarker").cloned())
    };
    assert_eq!(layers(json!({})).await, ("a:2 b:1 c:1".into(), None));
    let python = json!({ "CompatibleRuntime": "python3.12" });
    assert_eq!(layers(python).await.0, "a:1 c:1");
    assert_eq!(layers(json!({ "CompatibleArchitecture": "arm64" })).await.0, "b:1");
    let (names, next) = layers(json!({ "MaxItems": 2 })).await;
    assert_eq!(names, "a:2 b:1");
    assert_eq!(layers(json!({ "MaxItems": 2, "Marker": next })).await, ("c:1".into(), None));
    let page = async |asked: Value| {
        let listed = control.list_layer_versions(members(asked)).await.unwrap();
        (listed["LayerVersions"][0]["Version"].clone(), listed.get("NextMarker").cloned())
    };
    let (first, next) = page(json!({ "LayerName": "a", "MaxItems": 1 })).await;
    assert_eq!(first, 2);
    let rest = json!({ "LayerName": "a", "MaxItems": 1, "Marker": next });
    assert_eq!(page(rest).await, (json!(1), None));
}

#[tokio::test]
async fn permissions_live_as_recorded() {
    let bench = Bench::new().await;
    let control = &bench.control;
    control.publish_layer_version(publish("l", json!({}))).await.unwrap();
    let of = |name: &str, number: i64, rest: Value| {
        let mut asked = version(name, number);
        asked.extend(members(json!({
            "StatementId": "s1", "Action": "lambda:GetLayerVersion", "Principal": "*",
        })));
        asked.extend(members(rest));
        asked
    };
    let none = "No policy is associated with the given resource.";
    assert_eq!(error(control.get_layer_version_policy(version("l", 1)).await).1, none);
    let added = control.add_layer_version_permission(of("l", 1, json!({}))).await.unwrap();
    let s1 = format!(
        r#"{{"Sid":"s1","Effect":"Allow","Principal":"*","Action":"lambda:GetLayerVersion","Resource":"{}"}}"#,
        layer_arn("l:1")
    );
    assert_eq!(added["Statement"], s1);
    let got = control.get_layer_version_policy(version("l", 1)).await.unwrap();
    let whole = format!(r#"{{"Version":"2012-10-17","Id":"default","Statement":[{s1}]}}"#);
    assert_eq!((&got["Policy"], &got["RevisionId"]), (&json!(whole), &added["RevisionId"]));
    let twice = control.add_layer_version_permission(of("l", 1, json!({}))).await;
    assert_eq!(error(twice).0, ErrorKind::ResourceConflict);
    let stale = "The Revision Id provided does not match the latest Revision Id. Call the GetLayerPolicy API to retrieve the latest Revision Id";
    let wrong = || of("l", 1, json!({ "StatementId": "s2", "RevisionId": "wrong" }));
    for answer in [
        control.add_layer_version_permission(wrong()).await,
        control.remove_layer_version_permission(wrong()).await,
    ] {
        assert_eq!(error(answer), (ErrorKind::PreconditionFailed, stale.into()));
    }
    for (name, number) in [("absent", 1), ("l", 2)] {
        let text =
            format!("Layer version {} does not exist.", layer_arn(&format!("{name}:{number}")));
        for answer in [
            control.add_layer_version_permission(of(name, number, json!({}))).await,
            control.get_layer_version_policy(version(name, number)).await,
            control.remove_layer_version_permission(of(name, number, json!({}))).await,
        ] {
            assert_eq!(error(answer), (ErrorKind::ResourceNotFound, text.clone()));
        }
    }
    let second = json!({
        "StatementId": "s2", "RevisionId": added["RevisionId"], "OrganizationId": "o-1234567890",
    });
    control.add_layer_version_permission(of("l", 1, second)).await.unwrap();
    let unknown =
        control.remove_layer_version_permission(of("l", 1, json!({ "StatementId": "x" })));
    assert_eq!(error(unknown.await).1, "Statement x is not found in resource policy.");
    for sid in ["s2", "s1"] {
        let asked = of("l", 1, json!({ "StatementId": sid }));
        control.remove_layer_version_permission(asked).await.unwrap();
    }
    assert_eq!(error(control.get_layer_version_policy(version("l", 1)).await).1, none);
}
