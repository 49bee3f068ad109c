//! A control plane on a store in memory, with functions put there by hand; and the tests of `lookup` itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::*;
use crate::control::records::{CodeRef, LoggingConfig};
use crate::control::{ErrorKind, Runtimes, Settings};
use crate::package::TreeStore;
use crate::store::memory::MemoryStore;

#[derive(Debug)]
pub(crate) struct Bench {
    pub control: Control,
    /// Removed with the bench.
    _folder: tempfile::TempDir,
}

pub(crate) fn members(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        other => panic!("no object: {other}"),
    }
}

pub(crate) fn error<T: std::fmt::Debug>(answer: Result<T, ControlError>) -> (ErrorKind, String) {
    let error = answer.unwrap_err();
    (error.kind, error.message)
}

/// `name`, or `name:qualifier`.
pub(crate) fn function_arn(name: &str) -> String {
    format!("arn:aws:lambda:us-east-1:000000000000:function:{name}")
}

impl Bench {
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let code_folder = folder.path().join("code");
        let settings = Settings {
            region: "us-east-1".into(),
            account: "000000000000".into(),
            code_folder: code_folder.clone(),
            account_concurrency: 1000,
            code_storage_bytes: 1 << 30,
            runtimes: Runtimes::default(),
            s3: None,
        };
        let trees = Arc::new(TreeStore::open_scratch(code_folder).unwrap());
        let control = Control::new(Arc::new(MemoryStore::new()), settings, trees);
        Self { control, _folder: folder }
    }

    /// Puts a function there.
    pub async fn function(&self, name: &str) {
        let record = FunctionRecord {
            published: None,
            id: uuid(),
            name: name.into(),
            next_version: 1,
            latest: version(LATEST),
            reserved_concurrency: None,
            code_signing_config_arn: None,
            recursive_loop: None,
            tags: BTreeMap::new(),
        };
        self.put(records::function_key(name), &record).await;
    }

    pub async fn version(&self, name: &str, number: u64) {
        self.put(records::version_key(name, number), &version(&number.to_string())).await;
    }

    pub async fn alias(&self, name: &str, alias: &str, version: &str) {
        let record = AliasRecord {
            name: alias.into(),
            version: version.into(),
            description: String::new(),
            weights: BTreeMap::new(),
            revision_id: uuid(),
        };
        self.put(records::alias_key(name, alias), &record).await;
    }

    pub async fn record(&self, name: &str) -> FunctionRecord {
        self.control.find_function(name).await.unwrap().unwrap().record
    }

    pub async fn put(&self, key: String, record: &impl serde::Serialize) {
        let batch = Batch { put: vec![(key, encode(record).unwrap())], ..Batch::default() };
        self.control.store.commit(batch).await.unwrap();
    }
}

fn version(version: &str) -> VersionRecord {
    VersionRecord {
        version: version.into(),
        code: CodeRef { sha256: "0".repeat(64), zip_bytes: 276, unzipped_bytes: 300 },
        runtime: Some("python3.12".into()),
        handler: Some("app.handler".into()),
        role: "arn:aws:iam::000000000000:role/r".into(),
        description: String::new(),
        timeout_s: 3,
        memory_mb: 128,
        environment: None,
        tmp_mb: 512,
        layers: Vec::new(),
        dead_letter_arn: None,
        vpc: None,
        tracing_mode: "PassThrough".into(),
        logging: LoggingConfig {
            format: "Text".into(),
            application_level: None,
            system_level: None,
            group: "/aws/lambda/f".into(),
        },
        architectures: vec!["x86_64".into()],
        snap_start: "None".into(),
        kms_key_arn: None,
        as_given: Map::new(),
        revision_id: uuid(),
        last_modified: now_text(),
    }
}

#[test]
fn qualifiers_are_told_by_their_form() {
    for (qualifier, form) in [
        ("$LATEST", QualifierForm::Latest),
        ("1", QualifierForm::Number(1)),
        ("99999999999999999999999", QualifierForm::Other),
        ("live", QualifierForm::Alias),
        ("1-2", QualifierForm::Alias),
        ("with-$-in-it", QualifierForm::Other),
        ("$LATEST.PUBLISHED", QualifierForm::Other),
    ] {
        assert_eq!(QualifierForm::of(qualifier), form, "{qualifier}");
    }
}

#[test]
fn names_are_random_and_of_the_alphabet() {
    let name = random_name(32);
    assert_eq!(name.len(), 32);
    assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()), "{name}");
    assert_ne!(name, random_name(32));
}

#[tokio::test]
async fn pages_follow_each_other() {
    let bench = Bench::new().await;
    for number in 0..5 {
        bench.put(format!("thing/{number}"), &json!(number)).await;
    }
    let mut marker = None;
    let mut pages = Vec::new();
    loop {
        let (page, next) = bench
            .control
            .list_page::<u64>("thing/", marker.as_deref(), 2, |n| *n != 1)
            .await
            .unwrap();
        pages.push(page.into_iter().map(|(_, n)| n).collect::<Vec<_>>());
        marker = next;
        if marker.is_none() {
            break;
        }
    }
    assert_eq!(pages, [vec![0, 2], vec![3, 4]]);
    let foreign = bench.control.list_page::<u64>("thing/", Some("*"), 2, |_| true).await;
    assert_eq!(error(foreign).0, ErrorKind::InvalidParameterValue);
}

#[tokio::test]
async fn a_lost_race_is_run_again_and_an_error_is_not() {
    let bench = Bench::new().await;
    let control = &bench.control;
    bench.put("n".into(), &json!(0)).await;
    let mut rounds = 0;
    let sum = attempt!({
        rounds += 1;
        let (n, revision) = control.read::<u64>("n").await?.unwrap();
        if rounds < 3 {
            bench.put("n".into(), &json!(n + 10)).await;
        }
        let mut batch = Batch::default();
        replace(&mut batch, "n".into(), Some(revision), &(n + 1))?;
        control.commit(batch, None).await?;
        Ok(n + 1)
    })
    .unwrap();
    assert_eq!((sum, rounds), (21, 3));
    let mut rounds = 0;
    let refused: Result<(), _> = attempt!({
        rounds += 1;
        Err(ControlError::conflict("no"))
    });
    assert_eq!((error(refused).1.as_str(), rounds), ("no", 1));
}

/// The front door boxes these futures as `Send`, by the model's names.
#[tokio::test]
async fn every_operation_can_be_sent_between_threads() {
    type Answer = Result<Map<String, Value>, ControlError>;
    fn boxed<'a>(
        future: impl Future<Output = Answer> + Send + 'a,
    ) -> std::pin::Pin<Box<dyn Future<Output = Answer> + Send + 'a>> {
        Box::pin(future)
    }
    macro_rules! each {
        ($control:expr; $($operation:ident)+) => {
            vec![$((stringify!($operation), boxed($control.$operation(Map::new())))),+]
        };
    }
    let bench = Bench::new().await;
    let futures = each!(bench.control;
        add_layer_version_permission add_permission create_code_signing_config
        create_event_source_mapping create_function_url_config delete_code_signing_config
        delete_event_source_mapping delete_function_code_signing_config
        delete_function_concurrency delete_function_event_invoke_config
        delete_function_url_config delete_layer_version delete_provisioned_concurrency_config
        delete_resource_policy get_account_settings get_code_signing_config
        get_event_source_mapping get_function_code_signing_config get_function_concurrency
        get_function_event_invoke_config get_function_recursion_config
        get_function_scaling_config get_function_url_config get_layer_version
        get_layer_version_by_arn get_layer_version_policy get_policy
        get_provisioned_concurrency_config get_resource_policy get_runtime_management_config
        list_code_signing_configs list_event_source_mappings list_function_event_invoke_configs
        list_function_url_configs list_functions_by_code_signing_config list_layer_versions
        list_layers list_provisioned_concurrency_configs list_tags publish_layer_version
        put_function_code_signing_config put_function_concurrency
        put_function_event_invoke_config put_function_recursion_config
        put_function_scaling_config put_provisioned_concurrency_config put_resource_policy
        put_runtime_management_config remove_layer_version_permission remove_permission
        tag_resource untag_resource update_code_signing_config update_event_source_mapping
        update_function_event_invoke_config update_function_url_config);
    for (operation, future) in futures {
        // Without members most refuse; none may panic or blame itself.
        if let Err(error) = future.await {
            assert_ne!(error.kind, ErrorKind::Service, "{operation}: {error}");
        }
    }
}
