//! The account's limits and use, and the small settings of functions: recursion, runtime management, scaling.
//!
//! Runtime management is kept and shown and changes nothing, since a host has one build of each runtime. So is a
//! function's scaling, which is for capacity providers, and those are not built.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::lookup::{QualifierForm, attempt, fence};
use super::names::LATEST;
use super::records::{self, CodeRef};
use super::{Control, ControlError, answer, encode, request};
use crate::package::{AWS_UNZIPPED_BYTES, AWS_ZIPPED_BYTES};
use crate::store::Batch;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Recursion {
    function_name: String,
    recursive_loop: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Management {
    function_name: String,
    qualifier: Option<String>,
    update_runtime_on: Option<String>,
    runtime_version_arn: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct ManagementRecord {
    /// `Auto`, `FunctionUpdate` or `Manual`.
    update_runtime_on: String,
    runtime_version_arn: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Scaling {
    function_name: String,
    qualifier: String,
    function_scaling_config: Option<ScalingRecord>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ScalingRecord {
    #[serde(skip_serializing_if = "Option::is_none")]
    min_execution_environments: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_execution_environments: Option<u32>,
}

/// The part of a version's record that is counted here.
#[derive(Debug, Deserialize)]
struct Sized {
    code: CodeRef,
}

#[derive(Debug, Deserialize)]
struct SizedFunction {
    latest: Sized,
}

/// Functions, and bytes of the zips of all versions and layers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub functions: u64,
    pub code_bytes: u64,
}

impl Control {
    /// `GetAccountSettings`.
    pub async fn get_account_settings(
        &self,
        _members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let usage = self.usage().await?;
        let held = self.held().await?;
        let concurrency = self.settings.account_concurrency;
        answer(json!({
            "AccountLimit": {
                "TotalCodeSize": self.settings.code_storage_bytes,
                "CodeSizeUnzipped": AWS_UNZIPPED_BYTES,
                "CodeSizeZipped": AWS_ZIPPED_BYTES,
                "ConcurrentExecutions": concurrency,
                "UnreservedConcurrentExecutions": held.unreserved(concurrency),
            },
            "AccountUsage": {
                "TotalCodeSize": usage.code_bytes,
                "FunctionCount": usage.functions,
            },
        }))
    }

    /// What the account has stored. As on AWS, each version counts, also one that shares its code with another.
    pub(crate) async fn usage(&self) -> Result<Usage, ControlError> {
        let mut usage = Usage::default();
        self.walk::<SizedFunction>("function/", |_, function| {
            usage.functions += 1;
            usage.code_bytes += function.latest.code.zip_bytes;
        })
        .await?;
        for prefix in ["version/", "layer-version/"] {
            self.walk::<Sized>(prefix, |_, version| usage.code_bytes += version.code.zip_bytes)
                .await?;
        }
        Ok(usage)
    }

    /// `PutFunctionRecursionConfig`.
    pub async fn put_function_recursion_config(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: Recursion = request(members)?;
        let named = self.resolve_name(&asked.function_name, None)?;
        attempt!({
            let mut function = self.need_function(&named.name).await?;
            function.record.recursive_loop.clone_from(&asked.recursive_loop);
            let mut batch = Batch::default();
            fence(&mut batch, &function)?;
            self.commit(batch, Some(&named.name)).await
        })?;
        answer(json!({ "RecursiveLoop": asked.recursive_loop }))
    }

    /// `GetFunctionRecursionConfig`.
    pub async fn get_function_recursion_config(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: Recursion = request(members)?;
        let named = self.resolve_name(&asked.function_name, None)?;
        let function = self.need_function(&named.name).await?.record;
        let value = function.recursive_loop.unwrap_or_else(|| "Terminate".into());
        answer(json!({ "RecursiveLoop": value }))
    }

    /// `PutRuntimeManagementConfig`.
    pub async fn put_runtime_management_config(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: Management = request(members)?;
        let mode = asked.update_runtime_on.unwrap_or_else(|| "Auto".into());
        match (mode.as_str(), &asked.runtime_version_arn) {
            ("Manual", None) => {
                let text = "RuntimeVersionArn is required when UpdateRuntimeOn is set to Manual.";
                return Err(ControlError::invalid(text));
            }
            ("Auto" | "FunctionUpdate", Some(_)) => {
                let text =
                    "RuntimeVersionArn is allowed only when UpdateRuntimeOn is set to Manual.";
                return Err(ControlError::invalid(text));
            }
            _ => {}
        }
        let named = self.resolve_name(&asked.function_name, asked.qualifier.as_deref())?;
        let qualifier = named.qualifier.as_deref().unwrap_or(LATEST);
        let record = ManagementRecord {
            update_runtime_on: mode,
            runtime_version_arn: asked.runtime_version_arn,
        };
        self.put_setting("runtime-management", &named.name, qualifier, &record).await?;
        self.show_management(&named.name, qualifier, &record)
    }

    /// `GetRuntimeManagementConfig`.
    pub async fn get_runtime_management_config(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: Management = request(members)?;
        let named = self.resolve_name(&asked.function_name, asked.qualifier.as_deref())?;
        let qualifier = named.qualifier.as_deref().unwrap_or(LATEST);
        self.need_version(&named.name, qualifier).await?;
        let key = records::qualified_key("runtime-management", &named.name, qualifier);
        let record = self.read::<ManagementRecord>(&key).await?.map_or_else(
            || ManagementRecord { update_runtime_on: "Auto".into(), runtime_version_arn: None },
            |(record, _)| record,
        );
        self.show_management(&named.name, qualifier, &record)
    }

    fn show_management(
        &self,
        name: &str,
        qualifier: &str,
        record: &ManagementRecord,
    ) -> Result<Map<String, Value>, ControlError> {
        answer(json!({
            "UpdateRuntimeOn": record.update_runtime_on,
            "RuntimeVersionArn": record.runtime_version_arn,
            "FunctionArn": self.settings.function_arn(name, Some(qualifier)),
        }))
    }

    /// `PutFunctionScalingConfig`.
    pub async fn put_function_scaling_config(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: Scaling = request(members)?;
        let named = self.resolve_name(&asked.function_name, Some(&asked.qualifier))?;
        let config = asked.function_scaling_config.unwrap_or(ScalingRecord {
            min_execution_environments: None,
            max_execution_environments: None,
        });
        if let (Some(min), Some(max)) =
            (config.min_execution_environments, config.max_execution_environments)
            && min > max
        {
            let text =
                "MinExecutionEnvironments must be less than or equal to MaxExecutionEnvironments.";
            return Err(ControlError::invalid(text));
        }
        self.put_setting("scaling", &named.name, &asked.qualifier, &config).await?;
        answer(json!({ "FunctionState": "Active" }))
    }

    /// `GetFunctionScalingConfig`.
    pub async fn get_function_scaling_config(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: Scaling = request(members)?;
        let named = self.resolve_name(&asked.function_name, Some(&asked.qualifier))?;
        self.need_version(&named.name, &asked.qualifier).await?;
        let key = records::qualified_key("scaling", &named.name, &asked.qualifier);
        let config = self.read::<ScalingRecord>(&key).await?.map(|(record, _)| record);
        answer(json!({
            "FunctionArn": self.settings.function_arn(&named.name, Some(&asked.qualifier)),
            "AppliedFunctionScalingConfig": config,
            "RequestedFunctionScalingConfig": config,
        }))
    }

    async fn put_setting(
        &self,
        kind: &str,
        name: &str,
        qualifier: &str,
        record: &impl Serialize,
    ) -> Result<(), ControlError> {
        attempt!({
            self.need_version(name, qualifier).await?;
            let function = self.need_function(name).await?;
            let mut batch = Batch::default();
            batch.put.push((records::qualified_key(kind, name, qualifier), encode(record)?));
            fence(&mut batch, &function)?;
            self.commit(batch, Some(name)).await.map(drop)
        })
    }

    /// `$LATEST` or a published version.
    async fn need_version(&self, name: &str, qualifier: &str) -> Result<(), ControlError> {
        self.need_function(name).await?;
        let version = matches!(
            QualifierForm::of(qualifier),
            QualifierForm::Latest | QualifierForm::Number(_)
        );
        if !version || self.find_qualified(name, qualifier).await?.is_none() {
            return Err(self.qualifier_missing(name, qualifier));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::lookup::tests::{Bench, error, function_arn, members};
    use super::*;

    #[tokio::test]
    async fn the_account_counts_what_is_there() {
        let bench = Bench::new().await;
        let control = &bench.control;
        let numbers = async || {
            let answer = control.get_account_settings(Map::new()).await.unwrap();
            (answer["AccountLimit"].clone(), answer["AccountUsage"].clone())
        };
        let (limit, usage) = numbers().await;
        assert_eq!(usage, json!({ "TotalCodeSize": 0, "FunctionCount": 0 }));
        assert_eq!(
            limit,
            json!({
                "TotalCodeSize": 1_u64 << 30,
                "CodeSizeUnzipped": 262_144_000,
                "CodeSizeZipped": 52_428_800,
                "ConcurrentExecutions": 1000,
                "UnreservedConcurrentExecutions": 1000,
            })
        );
        bench.function("f").await;
        bench.function("g").await;
        bench.version("f", 1).await;
        let reserve = json!({ "FunctionName": "f", "ReservedConcurrentExecutions": 10 });
        control.put_function_concurrency(members(reserve)).await.unwrap();
        let (limit, usage) = numbers().await;
        assert_eq!(usage, json!({ "TotalCodeSize": 3 * 276, "FunctionCount": 2 }));
        assert_eq!(limit["UnreservedConcurrentExecutions"], 990);
    }

    #[tokio::test]
    async fn recursion_is_kept() {
        let bench = Bench::new().await;
        bench.function("f").await;
        let control = &bench.control;
        let of = |name: &str| members(json!({ "FunctionName": name, "RecursiveLoop": "Allow" }));
        let got = control.get_function_recursion_config(of("f")).await.unwrap();
        assert_eq!(got["RecursiveLoop"], "Terminate");
        let put = control.put_function_recursion_config(of("f")).await.unwrap();
        assert_eq!(put["RecursiveLoop"], "Allow");
        let got = control.get_function_recursion_config(of("f")).await.unwrap();
        assert_eq!(got["RecursiveLoop"], "Allow");
        let absent = format!("Function not found: {}", function_arn("absent"));
        assert_eq!(error(control.get_function_recursion_config(of("absent")).await).1, absent);
        assert_eq!(error(control.put_function_recursion_config(of("absent")).await).1, absent);
    }

    #[tokio::test]
    async fn management_and_scaling_are_kept_by_version() {
        let bench = Bench::new().await;
        bench.function("f").await;
        bench.version("f", 1).await;
        let control = &bench.control;
        let got = async |qualifier: Option<&str>| {
            let asked = json!({ "FunctionName": "f", "Qualifier": qualifier });
            control.get_runtime_management_config(members(asked)).await
        };
        let auto = members(json!({
            "UpdateRuntimeOn": "Auto", "FunctionArn": function_arn("f:$LATEST"),
        }));
        assert_eq!(got(None).await.unwrap(), auto);
        let runtime = "arn:aws:lambda:us-east-1::runtime:x";
        let manual = json!({
            "FunctionName": "f", "Qualifier": "1",
            "UpdateRuntimeOn": "Manual", "RuntimeVersionArn": runtime,
        });
        let put = control.put_runtime_management_config(members(manual)).await.unwrap();
        assert_eq!(put["FunctionArn"], function_arn("f:1"));
        assert_eq!(got(Some("1")).await.unwrap(), put);
        assert_eq!(got(Some("$LATEST")).await.unwrap(), auto);
        assert_eq!(
            error(got(Some("7")).await).1,
            format!("Function not found: {}", function_arn("f:7"))
        );
        let bare = json!({ "FunctionName": "f", "UpdateRuntimeOn": "Manual" });
        assert!(control.put_runtime_management_config(members(bare)).await.is_err());
        let scale = |min: u32, max: u32| {
            let config =
                json!({ "MinExecutionEnvironments": min, "MaxExecutionEnvironments": max });
            members(json!({
                "FunctionName": "f", "Qualifier": "1", "FunctionScalingConfig": config,
            }))
        };
        assert!(control.put_function_scaling_config(scale(3, 2)).await.is_err());
        let put = control.put_function_scaling_config(scale(1, 2)).await.unwrap();
        assert_eq!(put["FunctionState"], "Active");
        let got = control.get_function_scaling_config(scale(0, 0)).await.unwrap();
        assert_eq!(
            got["RequestedFunctionScalingConfig"],
            json!({ "MinExecutionEnvironments": 1, "MaxExecutionEnvironments": 2 })
        );
        assert_eq!(got["FunctionArn"], function_arn("f:1"));
    }
}
