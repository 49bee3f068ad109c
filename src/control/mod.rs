//! Functions, versions, aliases, layers, policies, tags, limits: what may be asked, and what then holds.
//!
//! Every request arrives validated against AWS's service model (`api`); what is checked here is what the model cannot
//! say. All state goes through [`crate::store`], by compare-and-set; nothing is kept in memory that is not read from
//! there again. Knows no HTTP and no Linux. Field names in requests and answers are AWS's, so that one serde name serves
//! the wire and the rule.

#![forbid(unsafe_code)]

mod aliases;
mod checks;
mod code;
mod collect;
mod concurrency;
mod configuration;
mod deletion;
mod error;
mod functions;
mod hooks;
mod invoke_config;
mod layer_refs;
mod layers;
mod lookup;
mod mappings;
pub mod names;
pub mod policy;
pub mod records;
#[cfg(test)]
mod replay;
mod settings;
mod shown;
mod signing;
mod snapshot;
mod tags;
mod updates;
mod urls;
mod versions;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::sync::broadcast;

pub use error::{ControlError, ErrorKind};
pub use hooks::Hooks;

use crate::package::TreeStore;
use crate::store::{Batch, KeysAndQueues, Revision, StoreError};

/// What the operator decided.
#[derive(Debug, Clone)]
pub struct Settings {
    pub region: String,
    /// Twelve digits.
    pub account: String,
    /// `DATA/code`: trees in `sha256/`, and the zips that they came from in `zip/`.
    pub code_folder: PathBuf,
    /// Most concurrent executions of the account; AWS's default is 1000.
    pub account_concurrency: u32,
    /// Bytes of all code that is kept; AWS's default is 75 GB.
    pub code_storage_bytes: u64,
    /// What the launcher can run.
    pub runtimes: Runtimes,
    /// Where code is fetched from with `S3Bucket` and `S3Key`; absent, such requests are refused.
    pub s3: Option<crate::client::Endpoint>,
}

/// Runtime names of the manifests, by what this host has.
#[derive(Debug, Clone, Default)]
pub struct Runtimes {
    /// Name, and whether a handler is required.
    pub here: BTreeMap<String, bool>,
    /// Name, and why it cannot run here.
    pub missing: BTreeMap<String, String>,
}

/// See the module's words.
#[derive(Debug)]
pub struct Control {
    pub store: Arc<dyn KeysAndQueues>,
    pub settings: Settings,
    pub trees: Arc<TreeStore>,
    /// What other layers tell this one once they are up.
    pub hooks: Hooks,
    /// Held shared while code is stored and until a record names it, and exclusively by the collector.
    code_gate: Arc<tokio::sync::RwLock<()>>,
    /// Packages that may be unpacked at the same time.
    unpacking: Arc<tokio::sync::Semaphore>,
    snapshots: Arc<snapshot::Snapshots>,
    changes: broadcast::Sender<String>,
}

/// Functions whose changes a slow listener may miss before it is told that it missed some.
const CHANGES: usize = 4096;

impl Control {
    pub fn new(store: Arc<dyn KeysAndQueues>, settings: Settings, trees: Arc<TreeStore>) -> Self {
        Self {
            store,
            settings,
            trees,
            hooks: Hooks::default(),
            code_gate: Arc::default(),
            unpacking: Arc::new(tokio::sync::Semaphore::new(code::unpackers())),
            snapshots: Arc::default(),
            changes: broadcast::channel(CHANGES).0,
        }
    }

    /// Names of functions, each after a change that may concern its instances.
    pub fn changes(&self) -> broadcast::Receiver<String> {
        self.changes.subscribe()
    }

    /// Reads a record.
    pub(crate) async fn read<T: DeserializeOwned>(
        &self,
        key: &str,
    ) -> Result<Option<(T, Revision)>, ControlError> {
        match self.store.get(key).await? {
            Some(entry) => Ok(Some((decode(key, &entry.value)?, entry.revision))),
            None => Ok(None),
        }
    }

    /// Reads up to `limit` records under a prefix, after a key.
    pub(crate) async fn list<T: DeserializeOwned>(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, T)>, ControlError> {
        let entries = self.store.scan(prefix, after, limit).await?;
        entries.into_iter().map(|e| Ok((decode(&e.key, &e.value)?, e.key))).map(swap).collect()
    }

    /// Commits a batch, and forgets and announces the function that it concerns.
    pub(crate) async fn commit(
        &self,
        batch: Batch,
        function: Option<&str>,
    ) -> Result<Revision, ControlError> {
        self.commit_holding(batch, function, ()).await
    }

    /// As [`Self::commit`], and drops `held` only afterwards.
    ///
    /// A caller that goes away meanwhile changes nothing: what the store took is forgotten and announced all the same.
    pub(crate) async fn commit_holding(
        &self,
        batch: Batch,
        function: Option<&str>,
        held: impl Send + 'static,
    ) -> Result<Revision, ControlError> {
        let (store, snapshots, changes) =
            (self.store.clone(), self.snapshots.clone(), self.changes.clone());
        let function = function.map(str::to_owned);
        let committing = tokio::spawn(async move {
            let done = store.commit(batch).await;
            // Also after an error: the store may have done it, and then failed to say so.
            if let Some(name) = function {
                snapshots.forget(&name);
                let _ = changes.send(name); // nobody listens: nobody has an instance
            }
            drop(held);
            done
        });
        let done = committing.await.map_err(|e| ControlError::internal(e.to_string()))?;
        Ok(done?)
    }
}

fn swap<A, B>(pair: Result<(A, B), ControlError>) -> Result<(B, A), ControlError> {
    pair.map(|(a, b)| (b, a))
}

/// An operation's members as the type that the rule wants. The model was checked before, so a mismatch is ours.
pub(crate) fn request<T: DeserializeOwned>(members: Map<String, Value>) -> Result<T, ControlError> {
    serde_json::from_value(Value::Object(members)).map_err(|e| {
        let text = format!("Could not parse request body into json: {e}");
        ControlError::new(ErrorKind::InvalidRequestContent, text)
    })
}

/// An answer's members; what is null is left out, as AWS does.
pub(crate) fn answer(value: impl Serialize) -> Result<Map<String, Value>, ControlError> {
    match serde_json::to_value(value) {
        Ok(Value::Object(mut members)) => {
            members.retain(|_, value| !value.is_null());
            Ok(members)
        }
        _ => Err(ControlError::internal("an answer is not an object")),
    }
}

/// A record's bytes.
pub(crate) fn encode(record: &impl Serialize) -> Result<Bytes, ControlError> {
    serde_json::to_vec(record)
        .map(Bytes::from)
        .map_err(|e| ControlError::internal(format!("cannot encode a record: {e}")))
}

fn decode<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T, ControlError> {
    serde_json::from_slice(bytes).map_err(|e| {
        let what = format!("the record of `{key}` cannot be read: {e}");
        ControlError::from(StoreError::Damaged { path: "kennel.db".into(), what })
    })
}

/// Time as Lambda prints it for functions: `2026-01-31T12:00:00.123+0000`.
pub fn timestamp(time: std::time::SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(
        |_| String::new(),
        |time| time.strftime("%Y-%m-%dT%H:%M:%S.%3f+0000").to_string(),
    )
}

/// Names that no function's environment may set, as AWS reserves them.
pub fn reserved_variables() -> BTreeSet<&'static str> {
    BTreeSet::from([
        "_HANDLER",
        "_X_AMZN_TRACE_ID",
        "AWS_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_DEFAULT_REGION",
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_LAMBDA_RUNTIME_API",
        "AWS_REGION",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SECRET_KEY",
        "AWS_SESSION_TOKEN",
        "LAMBDA_RUNTIME_DIR",
        "LAMBDA_TASK_ROOT",
    ])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::replay::Kit;

    /// Operations run on any thread, and their callers may go away.
    #[test]
    fn operations_can_be_sent() {
        fn sent<T: Send>(_: T) {}
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _entered = runtime.enter();
        let kit = Kit::new();
        let (control, none) = (&kit.control, serde_json::Map::new);
        sent(control.create_function(none()));
        sent(control.get_function(none()));
        sent(control.get_function_configuration(none()));
        sent(control.list_functions(none()));
        sent(control.update_function_code(none()));
        sent(control.update_function_configuration(none()));
        sent(control.delete_function(none()));
        sent(control.publish_version(none()));
        sent(control.list_versions_by_function(none()));
        sent(control.create_alias(none()));
        sent(control.get_alias(none()));
        sent(control.update_alias(none()));
        sent(control.delete_alias(none()));
        sent(control.list_aliases(none()));
        sent(control.target("f", None));
        sent(control.collect_code(&|_| false));
    }

    #[tokio::test]
    async fn a_change_is_announced_although_its_caller_went_away() {
        let kit = Kit::new();
        kit.create("f").await;
        kit.control.target("f", None).await.unwrap();
        let mut changes = kit.control.changes();
        let batch = super::Batch { put: vec![("x".into(), "y".into())], ..super::Batch::default() };
        {
            let mut committing = std::pin::pin!(kit.control.commit(batch, Some("f")));
            let once = std::future::poll_fn(|cx| {
                std::task::Poll::Ready(committing.as_mut().poll(cx).is_pending())
            });
            assert!(once.await);
        }
        assert_eq!(changes.recv().await.unwrap(), "f");
        assert!(kit.control.cached_target("f", None).is_none());
        assert_eq!(kit.keys("x").await, ["x"]);
        let get = json!({"FunctionName": "f"});
        kit.call("GetFunction", get).await.unwrap();
    }
}
