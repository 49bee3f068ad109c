//! Code-signing configurations, and which function has which. Signatures are not checked here: Kennel has no signer, so
//! a function whose configuration says `Enforce` takes no new code.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::lookup::{Found, PAGE, Page, attempt, fence, now_text, random_name, replace};
use super::tags::{Tags, check_tags};
use super::{Control, ControlError, ErrorKind, answer, request};
use crate::store::Batch;

/// A code-signing configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SigningRecord {
    /// `csc-` and 17 characters.
    pub id: String,
    pub description: Option<String>,
    /// ARNs of signing profile versions.
    pub publishers: Vec<String>,
    /// `Warn` or `Enforce`.
    pub policy: String,
    /// As [`super::timestamp`] prints it.
    pub last_modified: String,
    #[serde(default)]
    pub tags: Tags,
}

pub(crate) fn signing_key(id: &str) -> String {
    format!("signing/{id}")
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Publishers {
    signing_profile_version_arns: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Policies {
    untrusted_artifact_on_deployment: Option<String>,
}

/// Of Create, and of Update with `CodeSigningConfigArn`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    #[serde(default)]
    code_signing_config_arn: String,
    description: Option<String>,
    allowed_publishers: Option<Publishers>,
    code_signing_policies: Option<Policies>,
    #[serde(default)]
    tags: Tags,
}

/// Of Get, Delete and the lists.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ConfigName {
    #[serde(default)]
    code_signing_config_arn: String,
    #[serde(flatten)]
    page: Page,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OfFunction {
    function_name: String,
    #[serde(default)]
    code_signing_config_arn: String,
}

impl Control {
    /// `CreateCodeSigningConfig`.
    pub async fn create_code_signing_config(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: Config = request(members)?;
        check_tags(&asked.tags)?;
        let record = attempt!({
            let record = SigningRecord {
                id: format!("csc-{}", random_name(17)),
                description: asked.description.clone(),
                publishers: asked
                    .allowed_publishers
                    .as_ref()
                    .map_or_else(Vec::new, |p| p.signing_profile_version_arns.clone()),
                policy: asked.policy().unwrap_or("Warn").to_owned(),
                last_modified: now_text(),
                tags: asked.tags.clone(),
            };
            let mut batch = Batch::default();
            replace(&mut batch, signing_key(&record.id), None, &record)?;
            self.commit(batch, None).await?;
            Ok(record)
        })?;
        answer(json!({ "CodeSigningConfig": self.show_signing(&record) }))
    }

    /// `GetCodeSigningConfig`.
    pub async fn get_code_signing_config(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: ConfigName = request(members)?;
        let found = self.need_signing(&asked.code_signing_config_arn).await?;
        answer(json!({ "CodeSigningConfig": self.show_signing(&found.record) }))
    }

    /// `UpdateCodeSigningConfig`: what is not given stays.
    pub async fn update_code_signing_config(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: Config = request(members)?;
        let record = attempt!({
            let Found { mut record, revision } =
                self.need_signing(&asked.code_signing_config_arn).await?;
            if let Some(description) = &asked.description {
                record.description = Some(description.clone());
            }
            if let Some(publishers) = &asked.allowed_publishers {
                record.publishers.clone_from(&publishers.signing_profile_version_arns);
            }
            if let Some(policy) = asked.policy() {
                record.policy = policy.to_owned();
            }
            record.last_modified = now_text();
            let mut batch = Batch::default();
            replace(&mut batch, signing_key(&record.id), Some(revision), &record)?;
            self.commit(batch, None).await?;
            Ok(record)
        })?;
        answer(json!({ "CodeSigningConfig": self.show_signing(&record) }))
    }

    /// `DeleteCodeSigningConfig`: refused while a function has it.
    pub async fn delete_code_signing_config(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: ConfigName = request(members)?;
        let arn = &asked.code_signing_config_arn;
        attempt!({
            // Read first: a function that takes it meanwhile changes its revision.
            let found = self.need_signing(arn).await?;
            let mut users = 0_u64;
            self.walk::<UserOfSigning>("function/", |_, function| {
                users += u64::from(function.code_signing_config_arn.as_ref() == Some(arn));
            })
            .await?;
            if users > 0 {
                let text = format!(
                    "The code signing configuration {arn} is still used by {users} functions."
                );
                return Err(ControlError::conflict(text));
            }
            let key = signing_key(&found.record.id);
            let batch = Batch {
                expect: vec![(key.clone(), Some(found.revision))],
                delete: vec![key],
                ..Batch::default()
            };
            self.commit(batch, None).await
        })?;
        Ok(Map::new())
    }

    /// `ListCodeSigningConfigs`.
    pub async fn list_code_signing_configs(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: ConfigName = request(members)?;
        let show = |_: &str, record: &SigningRecord| self.show_signing(record);
        self.show_page("signing/", &asked.page, "CodeSigningConfigs", show).await
    }

    /// `ListFunctionsByCodeSigningConfig`.
    pub async fn list_functions_by_code_signing_config(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: ConfigName = request(members)?;
        let arn = &asked.code_signing_config_arn;
        self.need_signing(arn).await?;
        let most = asked.page.max_items.unwrap_or(PAGE);
        let has_it = |f: &UserOfSigning| f.code_signing_config_arn.as_ref() == Some(arn);
        let (page, next) =
            self.list_page("function/", asked.page.marker.as_deref(), most, has_it).await?;
        let arns: Vec<String> =
            page.iter().map(|(_, f)| self.settings.function_arn(&f.name, None)).collect();
        answer(json!({ "FunctionArns": arns, "NextMarker": next }))
    }

    /// `PutFunctionCodeSigningConfig`.
    pub async fn put_function_code_signing_config(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: OfFunction = request(members)?;
        let arn = &asked.code_signing_config_arn;
        let named = self.resolve_name(&asked.function_name, None)?;
        attempt!({
            let config =
                self.find_signing(arn).await?.ok_or_else(|| no_config_for_function(arn))?;
            let mut function = self.need_function(&named.name).await?;
            function.record.code_signing_config_arn = Some(arn.clone());
            let mut batch = Batch::default();
            // Written unchanged, so that a deletion that saw no user fails.
            let key = signing_key(&config.record.id);
            replace(&mut batch, key, Some(config.revision), &config.record)?;
            fence(&mut batch, &function)?;
            self.commit(batch, Some(&named.name)).await
        })?;
        answer(json!({ "CodeSigningConfigArn": arn, "FunctionName": named.name }))
    }

    /// `GetFunctionCodeSigningConfig`: empty where the function has none.
    pub async fn get_function_code_signing_config(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: OfFunction = request(members)?;
        let named = self.resolve_name(&asked.function_name, None)?;
        let function = self.need_function(&named.name).await?.record;
        match function.code_signing_config_arn {
            Some(arn) => answer(json!({ "CodeSigningConfigArn": arn, "FunctionName": named.name })),
            None => Ok(Map::new()),
        }
    }

    /// `DeleteFunctionCodeSigningConfig`.
    pub async fn delete_function_code_signing_config(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: OfFunction = request(members)?;
        let named = self.resolve_name(&asked.function_name, None)?;
        attempt!({
            let mut function = self.need_function(&named.name).await?;
            if function.record.code_signing_config_arn.take().is_some() {
                let mut batch = Batch::default();
                fence(&mut batch, &function)?;
                self.commit(batch, Some(&named.name)).await?;
            }
            Ok(())
        })?;
        Ok(Map::new())
    }

    /// Holds new code to the configuration that an ARN names. Nothing here can be signed, so one that enforces takes
    /// none.
    ///
    /// # Errors
    /// AWS's, for a configuration that is not there, and for code without a signature where one must be.
    pub(super) async fn check_signing(&self, arn: &str) -> Result<(), ControlError> {
        let found = self.find_signing(arn).await?.ok_or_else(|| no_config_for_function(arn))?;
        if found.record.policy == "Enforce" {
            let text = "Lambda cannot deploy the function. The code is not signed, and the code signing configuration of the function enforces signatures.";
            return Err(ControlError::new(ErrorKind::InvalidCodeSignature, text));
        }
        Ok(())
    }

    async fn find_signing(&self, arn: &str) -> Result<Option<Found<SigningRecord>>, ControlError> {
        let id = arn.rsplit(':').next().unwrap_or_default();
        if arn != self.signing_arn(id) {
            return Ok(None);
        }
        self.find(&signing_key(id)).await
    }

    async fn need_signing(&self, arn: &str) -> Result<Found<SigningRecord>, ControlError> {
        let text = || format!("The Lambda code signing configuration {arn} can not be found.");
        self.find_signing(arn).await?.ok_or_else(|| ControlError::not_found(text()))
    }

    fn signing_arn(&self, id: &str) -> String {
        let (region, account) = (&self.settings.region, &self.settings.account);
        format!("arn:aws:lambda:{region}:{account}:code-signing-config:{id}")
    }

    fn show_signing(&self, record: &SigningRecord) -> Value {
        json!({
            "CodeSigningConfigId": record.id,
            "CodeSigningConfigArn": self.signing_arn(&record.id),
            "Description": record.description.as_deref().unwrap_or_default(),
            "AllowedPublishers": { "SigningProfileVersionArns": record.publishers },
            "CodeSigningPolicies": { "UntrustedArtifactOnDeployment": record.policy },
            "LastModified": record.last_modified,
        })
    }
}

/// The part of a function's record that tells which configuration it has.
#[derive(Debug, Deserialize)]
struct UserOfSigning {
    name: String,
    #[serde(default)]
    code_signing_config_arn: Option<String>,
}

impl Config {
    fn policy(&self) -> Option<&str> {
        self.code_signing_policies.as_ref()?.untrusted_artifact_on_deployment.as_deref()
    }
}

fn no_config_for_function(arn: &str) -> ControlError {
    let text = format!(
        "The code signing configuration cannot be found. Check that the provided configuration is not deleted: {arn}."
    );
    ControlError::new(ErrorKind::CodeSigningConfigNotFound, text)
}

#[cfg(test)]
mod tests {
    use super::super::lookup::tests::{Bench, error, function_arn, members};
    use super::*;

    const PROFILE: &str = "arn:aws:signer:us-east-1:000000000000:/signing-profiles/test";

    async fn created(bench: &Bench) -> Value {
        let asked = json!({
            "Description": "Testing CodeSigning Config",
            "AllowedPublishers": { "SigningProfileVersionArns": [PROFILE] },
            "CodeSigningPolicies": { "UntrustedArtifactOnDeployment": "Enforce" },
        });
        let made = bench.control.create_code_signing_config(members(asked)).await.unwrap();
        made["CodeSigningConfig"].clone()
    }

    #[tokio::test]
    async fn a_config_lives_as_recorded() {
        let bench = Bench::new().await;
        bench.function("f").await;
        let control = &bench.control;
        let config = created(&bench).await;
        let arn = config["CodeSigningConfigArn"].as_str().unwrap().to_owned();
        assert_eq!(config["CodeSigningConfigId"].as_str().unwrap().len(), 21);
        assert!(arn.ends_with(config["CodeSigningConfigId"].as_str().unwrap()));
        assert_eq!(config["CodeSigningPolicies"]["UntrustedArtifactOnDeployment"], "Enforce");
        assert_eq!(config["AllowedPublishers"]["SigningProfileVersionArns"], json!([PROFILE]));
        let unsigned = error(control.check_signing(&arn).await);
        assert_eq!(unsigned.0, ErrorKind::InvalidCodeSignature);
        let by_arn = || members(json!({ "CodeSigningConfigArn": arn }));
        let mut warn = by_arn();
        warn.insert(
            "CodeSigningPolicies".into(),
            json!({ "UntrustedArtifactOnDeployment": "Warn" }),
        );
        let updated = control.update_code_signing_config(warn).await.unwrap();
        let config = &updated["CodeSigningConfig"];
        assert_eq!(config["CodeSigningPolicies"]["UntrustedArtifactOnDeployment"], "Warn");
        assert_eq!(config["Description"], "Testing CodeSigning Config");
        let got = control.get_code_signing_config(by_arn()).await.unwrap();
        assert_eq!(&got["CodeSigningConfig"], config);
        let of_f = || members(json!({ "FunctionName": "f", "CodeSigningConfigArn": arn }));
        let both = members(json!({ "CodeSigningConfigArn": arn, "FunctionName": "f" }));
        assert_eq!(control.put_function_code_signing_config(of_f()).await.unwrap(), both);
        assert_eq!(control.get_function_code_signing_config(of_f()).await.unwrap(), both);
        control.check_signing(&arn).await.unwrap();
        let listed = control.list_code_signing_configs(Map::new()).await.unwrap();
        assert_eq!(listed["CodeSigningConfigs"].as_array().unwrap().last(), Some(config));
        let users = control.list_functions_by_code_signing_config(by_arn()).await.unwrap();
        assert_eq!(users["FunctionArns"], json!([function_arn("f")]));
        let used = error(control.delete_code_signing_config(by_arn()).await);
        assert_eq!(used.0, ErrorKind::ResourceConflict);
        control.delete_function_code_signing_config(of_f()).await.unwrap();
        assert!(control.get_function_code_signing_config(of_f()).await.unwrap().is_empty());
        control.delete_code_signing_config(by_arn()).await.unwrap();
        assert!(control.get_code_signing_config(by_arn()).await.is_err());
    }

    #[tokio::test]
    async fn what_is_not_there_is_told_as_recorded() {
        let bench = Bench::new().await;
        bench.function("f").await;
        let control = &bench.control;
        let config = created(&bench).await;
        let good = config["CodeSigningConfigArn"].as_str().unwrap().to_owned();
        let bad = format!("{}_", &good[..good.len() - 1]);
        let missing = format!("The Lambda code signing configuration {bad} can not be found.");
        let by = |arn: &str| members(json!({ "CodeSigningConfigArn": arn }));
        for answer in [
            control.get_code_signing_config(by(&bad)).await,
            control.update_code_signing_config(by(&bad)).await,
            control.delete_code_signing_config(by(&bad)).await,
            control.list_functions_by_code_signing_config(by(&bad)).await,
        ] {
            assert_eq!(error(answer), (ErrorKind::ResourceNotFound, missing.clone()));
        }
        let of = |name: &str, arn: &str| {
            members(json!({ "FunctionName": name, "CodeSigningConfigArn": arn }))
        };
        let absent = format!("Function not found: {}", function_arn("absent"));
        for answer in [
            control.put_function_code_signing_config(of("absent", &good)).await,
            control.get_function_code_signing_config(of("absent", "")).await,
            control.delete_function_code_signing_config(of("absent", "")).await,
        ] {
            assert_eq!(error(answer), (ErrorKind::ResourceNotFound, absent.clone()));
        }
        for name in ["f", "absent"] {
            let answer = control.put_function_code_signing_config(of(name, &bad)).await;
            let text = format!(
                "The code signing configuration cannot be found. Check that the provided configuration is not deleted: {bad}."
            );
            let absent = (ErrorKind::CodeSigningConfigNotFound, text);
            assert_eq!(error(answer), absent);
            assert_eq!(error(control.check_signing(&bad).await), absent);
        }
        control.delete_function_code_signing_config(of("f", "")).await.unwrap();
        let same = control.update_code_signing_config(by(&good)).await.unwrap();
        assert_eq!(same["CodeSigningConfig"]["CodeSigningPolicies"], config["CodeSigningPolicies"]);
        let none = control.list_functions_by_code_signing_config(by(&good)).await.unwrap();
        assert_eq!(none["FunctionArns"], json!([]));
    }
}
