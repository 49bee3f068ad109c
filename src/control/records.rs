//! What is kept, and under which key. Records are JSON; a field that is added later has a default.
//!
//! ```text
//! function/NAME                      FunctionRecord: what is the function's alone, and its $LATEST
//! version/NAME/N (20 digits)         VersionRecord, immutable
//! alias/NAME/ALIAS                   AliasRecord
//! policy/NAME/QUALIFIER              PolicyRecord ($LATEST: the unqualified one)
//! invoke-config/NAME/QUALIFIER       EventInvokeConfig
//! url/NAME/QUALIFIER, url-id/ID      UrlRecord, and the function that an id leads to
//! provisioned/NAME/QUALIFIER         ProvisionedRecord
//! reserved/NAME                      reserved concurrency once more, so that its sum needs no look at all functions
//! runtime-management/NAME/QUALIFIER  as given
//! deleted/NAME                       a function that is gone, and whose keys are still being removed
//! code/HEX/OWNER                     names a tree that must be kept; OWNER: function/NAME/VERSION or layer/NAME/N
//! layer/NAME, layer-version/NAME/N   layers
//! mapping/UUID, signing/ID           event source mappings, code-signing configs
//! log-group/NAME                     retention
//! ```
//!
//! Queues: `async/NAME` holds the asynchronous events of a function.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Prefixes of keys that end with their function: `PREFIX/NAME/…`.
pub const PER_FUNCTION: [&str; 8] = [
    "version",
    "alias",
    "policy",
    "invoke-config",
    "url",
    "provisioned",
    "runtime-management",
    "scaling",
];

pub fn function_key(name: &str) -> String {
    format!("function/{name}")
}

/// Reserved concurrency, a number: there as long as the function's record has it.
pub fn reserved_key(name: &str) -> String {
    format!("{RESERVED}{name}")
}

/// What [`reserved_key`] begins with.
pub const RESERVED: &str = "reserved/";

pub fn version_key(name: &str, version: u64) -> String {
    format!("version/{name}/{version:020}")
}

pub fn alias_key(name: &str, alias: &str) -> String {
    format!("alias/{name}/{alias}")
}

/// `kind` is one of [`PER_FUNCTION`].
pub fn qualified_key(kind: &str, name: &str, qualifier: &str) -> String {
    format!("{kind}/{name}/{qualifier}")
}

/// The queue of a function's asynchronous events.
pub fn async_queue(name: &str) -> String {
    format!("async/{name}")
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FunctionRecord {
    /// Tells this function from a later one of the same name.
    pub id: String,
    pub name: String,
    /// The number that the next published version gets; numbers are never used again.
    pub next_version: u64,
    pub latest: VersionRecord,
    #[serde(default)]
    pub reserved_concurrency: Option<u32>,
    #[serde(default)]
    pub code_signing_config_arn: Option<String>,
    /// `Terminate` or `Allow`.
    #[serde(default)]
    pub recursive_loop: Option<String>,
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// What was published last.
    #[serde(default)]
    pub published: Option<Published>,
}

/// The last publication, to tell whether `$LATEST` changed since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    pub version: u64,
    /// That of `$LATEST` then; the version may have got its own.
    pub description: String,
}

/// Configuration and code of `$LATEST` or of a published version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VersionRecord {
    /// `$LATEST` or a number.
    pub version: String,
    pub code: CodeRef,
    pub runtime: Option<String>,
    pub handler: Option<String>,
    pub role: String,
    pub description: String,
    pub timeout_s: u32,
    pub memory_mb: u32,
    /// `None` was never set, and is not shown; an empty one is shown as AWS does.
    pub environment: Option<BTreeMap<String, String>>,
    pub tmp_mb: u32,
    pub layers: Vec<LayerRef>,
    pub dead_letter_arn: Option<String>,
    /// As AWS shows it: SubnetIds, SecurityGroupIds, VpcId, Ipv6AllowedForDualStack.
    pub vpc: Option<serde_json::Value>,
    pub tracing_mode: String,
    pub logging: LoggingConfig,
    pub architectures: Vec<String>,
    /// `None` or `PublishedVersions`.
    pub snap_start: String,
    pub kms_key_arn: Option<String>,
    /// Settings that are kept as given and shown again: FileSystemConfigs and the like.
    #[serde(default)]
    pub as_given: serde_json::Map<String, serde_json::Value>,
    pub revision_id: String,
    /// As [`super::timestamp`] prints it.
    pub last_modified: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeRef {
    /// SHA-256 of the zip in lower-case hex: names the tree, and in base64 it is AWS's `CodeSha256`.
    pub sha256: String,
    /// Bytes of the zip.
    pub zip_bytes: u64,
    pub unzipped_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRef {
    pub arn: String,
    pub code: CodeRef,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggingConfig {
    /// `Text` or `JSON`.
    pub format: String,
    pub application_level: Option<String>,
    pub system_level: Option<String>,
    pub group: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AliasRecord {
    pub name: String,
    /// `$LATEST` or a number.
    pub version: String,
    pub description: String,
    /// Version and the share of invocations that go there, 0 to 1; the rest goes to `version`.
    #[serde(default)]
    pub weights: BTreeMap<String, f64>,
    pub revision_id: String,
}

/// A resource policy.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PolicyRecord {
    /// In AWS's JSON, in the order that they were added.
    pub statements: Vec<serde_json::Value>,
    pub revision_id: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventInvokeConfig {
    pub maximum_retry_attempts: Option<u32>,
    pub maximum_event_age_s: Option<u32>,
    pub on_success: Option<String>,
    pub on_failure: Option<String>,
    /// Seconds since the epoch.
    pub last_modified: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UrlRecord {
    pub function: String,
    /// `$LATEST` or an alias.
    pub qualifier: String,
    /// The first label of its host name.
    pub url_id: String,
    /// `NONE` or `AWS_IAM`.
    pub auth_type: String,
    /// In AWS's shape: AllowCredentials, AllowHeaders, AllowMethods, AllowOrigins, ExposeHeaders, MaxAge.
    pub cors: Option<serde_json::Value>,
    /// `BUFFERED` or `RESPONSE_STREAM`.
    pub invoke_mode: String,
    pub creation_time: String,
    pub last_modified: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProvisionedRecord {
    pub requested: u32,
    pub last_modified: String,
}

/// Everything of one function that an invocation needs, read once and kept until a change.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub function: FunctionRecord,
    pub latest: Arc<VersionRecord>,
    /// Published ones, by number.
    pub versions: HashMap<String, Arc<VersionRecord>>,
    pub aliases: HashMap<String, AliasRecord>,
    /// By qualifier.
    pub policies: HashMap<String, PolicyRecord>,
    pub invoke_configs: HashMap<String, EventInvokeConfig>,
    pub provisioned: HashMap<String, ProvisionedRecord>,
}

/// What one invocation goes to.
#[derive(Debug, Clone)]
pub struct Target {
    pub snapshot: Arc<Snapshot>,
    /// `$LATEST`, a number or an alias, as invoked.
    pub qualifier: String,
    /// With the qualifier only where the caller gave one.
    pub invoked_arn: String,
    pub version: Arc<VersionRecord>,
}
