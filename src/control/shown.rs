//! A version as AWS shows it: `FunctionConfiguration`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::records::{CodeRef, VersionRecord};
use super::{Control, ControlError};
use crate::package::Digest;

/// Where in its life AWS shows a function. Code is stored before an answer goes out, so the states in between exist in
/// answers alone: a waiter that asks again sees that all is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// In lists, which show no state.
    Listed,
    Creating,
    Updating,
    Settled,
}

/// AWS's reason for both, creating and updating.
const REASON: &str = "The function is being created.";

impl CodeRef {
    /// AWS's `CodeSha256`.
    pub(super) fn sha256_base64(&self) -> Result<String, ControlError> {
        let digest: Digest = self.sha256.parse().map_err(|_| {
            ControlError::internal(format!("`{}` is no digest of code", self.sha256))
        })?;
        Ok(STANDARD.encode(digest.as_bytes()))
    }
}

impl Control {
    /// `qualifier` is what the ARN ends with.
    pub(super) fn configuration(
        &self,
        function: &str,
        qualifier: Option<&str>,
        version: &VersionRecord,
        phase: Phase,
    ) -> Result<Map<String, Value>, ControlError> {
        let logging = &version.logging;
        let mut shown = members(json!({
            "FunctionName": function,
            "FunctionArn": self.settings.function_arn(function, qualifier),
            "Runtime": version.runtime,
            "Role": version.role,
            "Handler": version.handler,
            "CodeSize": version.code.zip_bytes,
            "CodeSha256": version.code.sha256_base64()?,
            "Description": version.description,
            "Timeout": version.timeout_s,
            "MemorySize": version.memory_mb,
            "LastModified": version.last_modified,
            "Version": version.version,
            "RevisionId": version.revision_id,
            "PackageType": "Zip",
            "Architectures": version.architectures,
            "EphemeralStorage": {"Size": version.tmp_mb},
            "TracingConfig": {"Mode": version.tracing_mode},
            "SnapStart": {"ApplyOn": version.snap_start, "OptimizationStatus": "Off"},
            "LoggingConfig": members(json!({
                "LogFormat": logging.format,
                "ApplicationLogLevel": logging.application_level,
                "SystemLogLevel": logging.system_level,
                "LogGroup": logging.group,
            })),
            "VpcConfig": version.vpc,
            "KMSKeyArn": version.kms_key_arn,
            "DeadLetterConfig": version.dead_letter_arn.as_ref().map(|arn| json!({"TargetArn": arn})),
            "Environment": version.environment.as_ref().map(|all| json!({"Variables": all})),
        }));
        if !version.layers.is_empty() {
            let layers = version.layers.iter();
            let layers = layers.map(|l| json!({"Arn": l.arn, "CodeSize": l.code.zip_bytes}));
            shown.insert("Layers".into(), layers.collect());
        }
        shown.extend(version.as_given.clone());
        shown.extend(phase.members());
        Ok(shown)
    }
}

impl Phase {
    fn members(self) -> Map<String, Value> {
        members(match self {
            Self::Listed => json!({}),
            Self::Creating => {
                json!({"State": "Pending", "StateReason": REASON, "StateReasonCode": "Creating"})
            }
            Self::Updating => json!({
                "State": "Active",
                "LastUpdateStatus": "InProgress",
                "LastUpdateStatusReason": REASON,
                "LastUpdateStatusReasonCode": "Creating",
            }),
            Self::Settled => json!({"State": "Active", "LastUpdateStatus": "Successful"}),
        })
    }
}

/// An object's members, without those that are null.
pub(super) fn members(object: Value) -> Map<String, Value> {
    match object {
        Value::Object(mut members) => {
            members.retain(|_, value| !value.is_null());
            members
        }
        _ => Map::new(),
    }
}
