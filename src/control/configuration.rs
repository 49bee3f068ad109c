//! The settings that CreateFunction and UpdateFunctionConfiguration share: read, checked, and put into a version.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::checks::{self, Number};
use super::names::LATEST;
use super::records::{CodeRef, LoggingConfig, VersionRecord};
use super::{Control, ControlError};

/// Members as the caller gave them; what is absent stays as it is.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Wanted {
    role: Option<String>,
    handler: Option<String>,
    description: Option<String>,
    timeout: Option<i64>,
    memory_size: Option<i64>,
    runtime: Option<String>,
    environment: Option<Environment>,
    ephemeral_storage: Option<EphemeralStorage>,
    layers: Option<Vec<String>>,
    vpc_config: Option<VpcConfig>,
    dead_letter_config: Option<DeadLetterConfig>,
    tracing_config: Option<TracingConfig>,
    logging_config: Option<Logging>,
    snap_start: Option<SnapStart>,
    #[serde(rename = "KMSKeyArn")]
    kms_key_arn: Option<String>,
    file_system_configs: Option<Vec<Value>>,
    // What Kennel cannot do, and would be missed if it were only stored.
    image_config: Option<Map<String, Value>>,
    tenancy_config: Option<Map<String, Value>>,
    capacity_provider_config: Option<Map<String, Value>>,
    durable_config: Option<Map<String, Value>>,
    runtime_config: Option<Map<String, Value>>,
    accelerator_config: Option<Map<String, Value>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Environment {
    #[serde(default)]
    variables: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EphemeralStorage {
    size: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct VpcConfig {
    subnet_ids: Option<Vec<String>>,
    security_group_ids: Option<Vec<String>>,
    ipv6_allowed_for_dual_stack: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DeadLetterConfig {
    #[serde(default)]
    target_arn: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TracingConfig {
    #[serde(default)]
    mode: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SnapStart {
    #[serde(default)]
    apply_on: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Logging {
    log_format: Option<String>,
    application_log_level: Option<String>,
    system_log_level: Option<String>,
    log_group: Option<String>,
}

/// The group that a function logs to unless told otherwise.
fn default_log_group(function: &str) -> String {
    format!("/aws/lambda/{function}")
}

/// `$LATEST` of a new function as AWS begins it. Code, role, runtime and handler are the caller's, and set later.
pub(super) fn begun(function: &str) -> VersionRecord {
    VersionRecord {
        version: LATEST.into(),
        code: CodeRef { sha256: String::new(), zip_bytes: 0, unzipped_bytes: 0 },
        runtime: None,
        handler: None,
        role: String::new(),
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
            group: default_log_group(function),
        },
        architectures: vec![checks::host_architecture().into()],
        snap_start: "None".into(),
        kms_key_arn: None,
        as_given: Map::new(),
        revision_id: String::new(),
        last_modified: String::new(),
    }
}

impl Control {
    /// Puts the settings of a request into a version, checked. Layers are only sure to be there while the caller holds
    /// [`Control::keep_code`].
    ///
    /// # Errors
    /// AWS's, for what the model could not say; layers that are not there.
    pub(super) async fn configure(
        &self,
        function: &str,
        version: &mut VersionRecord,
        wanted: &Wanted,
    ) -> Result<(), ControlError> {
        refuse_unsupported(wanted)?;
        if let Some(role) = &wanted.role {
            version.role.clone_from(role);
        }
        if let Some(description) = &wanted.description {
            version.description.clone_from(description);
        }
        if let Some(seconds) = wanted.timeout {
            version.timeout_s = Number::Timeout.check(seconds)?;
        }
        if let Some(megabytes) = wanted.memory_size {
            version.memory_mb = Number::Memory.check(megabytes)?;
        }
        if let Some(storage) = &wanted.ephemeral_storage {
            version.tmp_mb = Number::Tmp.check(storage.size)?;
        }
        if let Some(runtime) = &wanted.runtime {
            self.settings.check_runtime(runtime)?;
            version.runtime = Some(runtime.clone());
        }
        if let Some(handler) = &wanted.handler {
            version.handler = Some(handler.clone()).filter(|h| !h.is_empty());
        }
        self.settings.check_handler(version.runtime.as_deref(), version.handler.as_deref())?;
        if let Some(environment) = &wanted.environment {
            let variables = environment.variables.clone().unwrap_or_default();
            checks::environment(&variables)?;
            version.environment = Some(variables);
        }
        if let Some(config) = &wanted.dead_letter_config {
            let arn = config.target_arn.clone().filter(|arn| !arn.is_empty());
            arn.as_deref().map_or(Ok(()), checks::dead_letter)?;
            version.dead_letter_arn = arn;
        }
        if let Some(vpc) = &wanted.vpc_config {
            version.vpc = Some(vpc.shown()?);
        }
        if let Some(mode) = wanted.tracing_config.as_ref().and_then(|t| t.mode.as_ref()) {
            version.tracing_mode.clone_from(mode);
        }
        if let Some(logging) = &wanted.logging_config {
            logging.merge(function, &mut version.logging)?;
        }
        if let Some(apply_on) = wanted.snap_start.as_ref().and_then(|s| s.apply_on.as_ref()) {
            version.snap_start.clone_from(apply_on);
        }
        if let Some(arn) = &wanted.kms_key_arn {
            version.kms_key_arn = Some(arn.clone()).filter(|arn| !arn.is_empty());
        }
        if let Some(configs) = &wanted.file_system_configs {
            let name = "FileSystemConfigs".to_owned();
            if configs.is_empty() {
                version.as_given.remove(&name);
            } else {
                version.as_given.insert(name, Value::Array(configs.clone()));
            }
        }
        if let Some(arns) = &wanted.layers {
            version.layers = self.layer_refs(arns).await?;
        }
        Ok(())
    }
}

fn refuse_unsupported(wanted: &Wanted) -> Result<(), ControlError> {
    if wanted.image_config.as_ref().is_some_and(|config| !config.is_empty()) {
        let text = "Please don't provide ImageConfig for a function with packageType Zip.";
        return Err(ControlError::invalid(text));
    }
    for (member, given) in [
        ("TenancyConfig", &wanted.tenancy_config),
        ("CapacityProviderConfig", &wanted.capacity_provider_config),
        ("DurableConfig", &wanted.durable_config),
        ("RuntimeConfig", &wanted.runtime_config),
        ("AcceleratorConfig", &wanted.accelerator_config),
    ] {
        if given.as_ref().is_some_and(|config| !config.is_empty()) {
            return Err(ControlError::invalid(format!("{member} is not supported.")));
        }
    }
    Ok(())
}

impl VpcConfig {
    /// As AWS shows it. There is no VPC here, so its id is empty.
    fn shown(&self) -> Result<Value, ControlError> {
        let subnets = self.subnet_ids.clone().unwrap_or_default();
        let groups = self.security_group_ids.clone().unwrap_or_default();
        if subnets.is_empty() != groups.is_empty() {
            let text = "SubnetIds and SecurityIds must coexist or be both empty list.";
            return Err(ControlError::invalid(text));
        }
        Ok(json!({
            "SubnetIds": subnets,
            "SecurityGroupIds": groups,
            "VpcId": "",
            "Ipv6AllowedForDualStack": self.ipv6_allowed_for_dual_stack.unwrap_or(false),
        }))
    }
}

impl Logging {
    /// What is not said stays; levels are JSON's alone, and INFO unless told otherwise.
    fn merge(&self, function: &str, logging: &mut LoggingConfig) -> Result<(), ControlError> {
        if let Some(format) = &self.log_format {
            logging.format.clone_from(format);
        }
        match &self.log_group {
            Some(group) if group.is_empty() => logging.group = default_log_group(function),
            Some(group) => logging.group.clone_from(group),
            None => {}
        }
        let levels = (&self.application_log_level, &self.system_log_level);
        if logging.format == "JSON" {
            let level = |given: &Option<String>, kept: Option<String>| {
                Some(given.clone().or(kept).unwrap_or_else(|| "INFO".into()))
            };
            logging.application_level = level(levels.0, logging.application_level.take());
            logging.system_level = level(levels.1, logging.system_level.take());
        } else {
            if levels.0.is_some() || levels.1.is_some() {
                let text =
                    "To use ApplicationLogLevel or SystemLogLevel, you must set LogFormat to JSON.";
                return Err(ControlError::invalid(text));
            }
            (logging.application_level, logging.system_level) = (None, None);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::replay::Kit;
    use super::*;

    /// The message with which a function of these settings is refused.
    async fn refused(kit: &Kit, more: Value) -> String {
        kit.create_with("f", more).await.unwrap_err().message
    }

    #[tokio::test]
    async fn settings_are_refused_with_awss_words() {
        let kit = Kit::new();
        let mandatory = "Runtime and Handler are mandatory parameters for functions created with deployment packages.";
        for (more, text) in [
            (json!({"Runtime": null}), mandatory),
            (json!({"Handler": null}), mandatory),
            (
                json!({"Runtime": "ruby3.3"}),
                "The runtime ruby3.3 cannot run here: no ruby was found",
            ),
            (
                json!({"VpcConfig": {"SubnetIds": ["subnet-1"]}}),
                "SubnetIds and SecurityIds must coexist or be both empty list.",
            ),
            (
                json!({"LoggingConfig": {"SystemLogLevel": "WARN"}}),
                "To use ApplicationLogLevel or SystemLogLevel, you must set LogFormat to JSON.",
            ),
            (
                json!({"DeadLetterConfig": {"TargetArn": "arn:aws:s3:::b"}}),
                "The dead letter target arn:aws:s3:::b is neither the ARN of an SQS queue nor that of an SNS topic.",
            ),
            (json!({"DurableConfig": {"ExecutionTimeout": 1}}), "DurableConfig is not supported."),
            (
                json!({"PackageType": "Image"}),
                "Container images are not supported; provide the code as a .zip file archive.",
            ),
            (
                json!({"ImageConfig": {"Command": ["c"]}}),
                "Please don't provide ImageConfig for a function with packageType Zip.",
            ),
            (
                json!({"Timeout": 901}),
                "1 validation error detected: Value '901' at 'timeout' failed to satisfy constraint: Member must have value less than or equal to 900",
            ),
        ] {
            assert_eq!(refused(&kit, more).await, text);
        }
        // Nothing of these is there, and the runtime that wants no handler needs none.
        assert_eq!(kit.keys("").await, Vec::<String>::new());
        let own = json!({"Runtime": "provided.al2023", "Handler": null});
        assert!(!kit.create_with("f", own).await.unwrap().contains_key("Handler"));
    }

    #[tokio::test]
    async fn logging_is_merged_as_recorded() {
        let text = |group: &str| json!({"LogFormat": "Text", "LogGroup": group});
        let json = |app: &str, system: &str, group: &str| json!({"LogFormat": "JSON", "ApplicationLogLevel": app, "SystemLogLevel": system, "LogGroup": group});
        let own = "/aws/lambda/f";
        let cool = json!({"LogGroup": "cool_lambda"});
        for (first, second, want) in [
            (json!({}), json!({"LogFormat": "JSON"}), json("INFO", "INFO", own)),
            (json!({"LogFormat": "JSON"}), json!({}), json("INFO", "INFO", own)),
            (json!({"LogFormat": "JSON"}), cool.clone(), json("INFO", "INFO", "cool_lambda")),
            (
                json!({}),
                json!({"LogFormat": "JSON", "ApplicationLogLevel": "DEBUG"}),
                json("DEBUG", "INFO", own),
            ),
            (
                json!({"LogFormat": "JSON", "SystemLogLevel": "WARN"}),
                json!({"ApplicationLogLevel": "DEBUG"}),
                json("DEBUG", "WARN", own),
            ),
            (json!({}), cool, text("cool_lambda")),
            (
                json!({"LogFormat": "JSON", "SystemLogLevel": "WARN"}),
                json!({"LogFormat": "Text"}),
                text(own),
            ),
        ] {
            let kit = Kit::new();
            let created = kit.create_with("f", json!({"LoggingConfig": first})).await.unwrap();
            assert_eq!(created["LoggingConfig"]["LogGroup"], own);
            let update = json!({"FunctionName": "f", "LoggingConfig": second});
            let shown = kit.call("UpdateFunctionConfiguration", update).await.unwrap();
            assert_eq!(shown["LoggingConfig"], want, "{first} {second}");
        }
    }

    #[tokio::test]
    async fn what_is_given_is_shown_and_what_is_emptied_is_gone() {
        let kit = Kit::new();
        let file_system = json!([{"Arn": "arn:aws:elasticfilesystem:us-east-1:000000000000:access-point/fsap-1", "LocalMountPath": "/mnt/a"}]);
        let more = json!({
            "VpcConfig": {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]},
            "DeadLetterConfig": {"TargetArn": "arn:aws:sqs:us-east-1:000000000000:q"},
            "TracingConfig": {"Mode": "Active"},
            "SnapStart": {"ApplyOn": "PublishedVersions"},
            "KMSKeyArn": "arn:aws:kms:us-east-1:000000000000:key/k",
            "FileSystemConfigs": file_system,
            "EphemeralStorage": {"Size": 1024},
            "Environment": {},
        });
        let shown = kit.create_with("f", more.clone()).await.unwrap();
        for member in ["DeadLetterConfig", "TracingConfig", "KMSKeyArn", "FileSystemConfigs"] {
            assert_eq!(shown[member], more[member], "{member}");
        }
        assert_eq!(shown["EphemeralStorage"], json!({"Size": 1024}));
        assert_eq!(shown["Environment"], json!({"Variables": {}}));
        assert_eq!(shown["SnapStart"]["ApplyOn"], "PublishedVersions");
        let vpc = |subnets: Value, groups: Value| json!({"SubnetIds": subnets, "SecurityGroupIds": groups, "VpcId": "", "Ipv6AllowedForDualStack": false});
        assert_eq!(shown["VpcConfig"], vpc(json!(["subnet-1"]), json!(["sg-1"])));
        let emptied = json!({
            "FunctionName": "f",
            "VpcConfig": {"SubnetIds": [], "SecurityGroupIds": []},
            "DeadLetterConfig": {"TargetArn": ""},
            "KMSKeyArn": "",
            "FileSystemConfigs": [],
            "ImageConfig": {},
        });
        let shown = kit.call("UpdateFunctionConfiguration", emptied).await.unwrap();
        for member in ["DeadLetterConfig", "KMSKeyArn", "FileSystemConfigs", "ImageConfig"] {
            assert!(!shown.contains_key(member), "{member}");
        }
        assert_eq!(shown["VpcConfig"], vpc(json!([]), json!([])));
    }
}
