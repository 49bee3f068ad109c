//! Changes of `$LATEST`: its code, its configuration.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::code::{Source, Stored, collisions, kept, kept_keys};
use super::configuration::Wanted;
use super::functions::check_publish_to;
use super::layer_refs::check_unzipped;
use super::lookup::{Found, attempt, fence, now_text, uuid};
use super::names::LATEST;
use super::records::{FunctionRecord, VersionRecord};
use super::shown::Phase;
use super::versions::publish;
use super::{Control, ControlError, checks, request};
use crate::store::Batch;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UpdateCode {
    function_name: String,
    architectures: Option<Vec<String>>,
    publish: Option<bool>,
    publish_to: Option<String>,
    dry_run: Option<bool>,
    revision_id: Option<String>,
    #[serde(flatten)]
    source: Source,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UpdateConfiguration {
    function_name: String,
    revision_id: Option<String>,
    #[serde(flatten)]
    wanted: Wanted,
}

impl Control {
    /// UpdateFunctionCode. A dry run checks the package and shows what would be, and changes nothing.
    ///
    /// # Errors
    /// AWS's.
    pub async fn update_function_code(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let update: UpdateCode = request(members)?;
        let name = self.updatable(&update.function_name)?;
        check_publish_to(update.publish_to.as_deref())?;
        if update.source.image_uri.is_some() {
            let text =
                "Please don't provide ImageUri when updating a function with packageType Zip.";
            return Err(ControlError::invalid(text));
        }
        if let Some(architectures) = &update.architectures {
            checks::architectures(architectures)?;
        }
        let function = self.unchanged(&name, update.revision_id.as_deref()).await?.record;
        if let Some(arn) = &function.code_signing_config_arn {
            self.check_signing(arn).await?;
        }
        let collisions = collisions(function.latest.runtime.as_deref());
        let Stored { code, gate } = self.store_code(update.source, collisions).await?;

        let gate = Arc::new(gate);
        attempt!({
            let mut function = self.unchanged(&name, update.revision_id.as_deref()).await?;
            let mut latest = function.record.latest.clone();
            latest.code = code.clone();
            if let Some(architectures) = &update.architectures {
                latest.architectures.clone_from(architectures);
            }
            check_unzipped(&latest)?;
            if update.dry_run == Some(true) {
                return self.configuration(&name, None, &latest, Phase::Settled);
            }
            let publishes = update.publish == Some(true);
            let (batch, shown) = self.change(&mut function, latest, publishes).await?;
            self.commit_holding(batch, Some(&name), gate.clone()).await?;
            Ok(shown)
        })
    }

    /// UpdateFunctionConfiguration.
    ///
    /// # Errors
    /// AWS's.
    pub async fn update_function_configuration(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let update: UpdateConfiguration = request(members)?;
        let name = self.updatable(&update.function_name)?;
        let gate = Arc::new(self.keep_code().await);
        attempt!({
            let mut function = self.unchanged(&name, update.revision_id.as_deref()).await?;
            let mut latest = function.record.latest.clone();
            self.configure(&name, &mut latest, &update.wanted).await?;
            check_unzipped(&latest)?;
            let (batch, shown) = self.change(&mut function, latest, false).await?;
            self.commit_holding(batch, Some(&name), gate.clone()).await?;
            Ok(shown)
        })
    }

    /// The batch that changes `$LATEST` and publishes it where asked to, and how that is shown. AWS shows the update before
    /// it is done, with a revision of its own; what is stored is done.
    async fn change(
        &self,
        function: &mut Found<FunctionRecord>,
        mut latest: VersionRecord,
        publishes: bool,
    ) -> Result<(Batch, Map<String, Value>), ControlError> {
        let name = function.record.name.clone();
        latest.revision_id = uuid();
        latest.last_modified = now_text();
        let mut batch = Batch { put: kept(&name, &latest)?, ..Batch::default() };
        batch.delete = kept_keys(&name, &function.record.latest)?;
        batch.delete.retain(|dropped| batch.put.iter().all(|(kept, _)| kept != dropped));
        function.record.latest = latest;
        let shown = if publishes {
            let (version, phase) = match self.last_published(&function.record).await? {
                Some(unchanged) => (unchanged, Phase::Settled),
                None => (publish(&mut batch, &mut function.record, None)?, Phase::Creating),
            };
            self.configuration(&name, Some(&version.version), &version, phase)?
        } else {
            self.configuration(&name, None, &function.record.latest, Phase::Updating)?
        };
        function.record.latest.revision_id = uuid();
        fence(&mut batch, function)?;
        Ok((batch, shown))
    }

    /// The name of a function whose `$LATEST` is to be changed.
    fn updatable(&self, text: &str) -> Result<String, ControlError> {
        let named = self.resolve_name(text, None)?;
        match named.qualifier {
            Some(qualifier) if qualifier != LATEST => Err(ControlError::invalid(format!(
                "Only {LATEST} can be updated, and {qualifier} was named."
            ))),
            _ => Ok(named.name),
        }
    }

    /// A function that is still at the revision that the caller knows.
    pub(super) async fn unchanged(
        &self,
        name: &str,
        revision: Option<&str>,
    ) -> Result<Found<FunctionRecord>, ControlError> {
        let function = self.need_function(name).await?;
        Self::check_revision(revision, &function.record.latest.revision_id)?;
        Ok(function)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::replay::Kit;

    #[tokio::test]
    async fn a_dry_run_shows_and_changes_nothing() {
        let kit = Kit::new();
        kit.create("f").await;
        let get = json!({"FunctionName": "f"});
        let before = kit.call("GetFunctionConfiguration", get.clone()).await.unwrap();
        let keys = kit.keys("").await;
        let dry =
            json!({"FunctionName": "f", "ZipFile": kit.base64(&kit.other_zip), "DryRun": true});
        let shown = kit.call("UpdateFunctionCode", dry).await.unwrap();
        assert_ne!(shown["CodeSha256"], before["CodeSha256"]);
        assert_eq!(shown["RevisionId"], before["RevisionId"]);
        assert_eq!(kit.call("GetFunctionConfiguration", get).await.unwrap(), before);
        assert_eq!(kit.keys("").await, keys);
        let dry = json!({"FunctionName": "f", "ZipFile": kit.base64(b"no"), "DryRun": true});
        kit.call("UpdateFunctionCode", dry).await.unwrap_err();
    }

    #[tokio::test]
    async fn a_published_version_is_not_updated() {
        let kit = Kit::new();
        kit.create("f").await;
        for name in ["f:1", "f:live"] {
            let update = json!({"FunctionName": name, "Timeout": 4});
            let error = kit.call("UpdateFunctionConfiguration", update).await.unwrap_err();
            assert!(error.message.starts_with("Only $LATEST can be updated"), "{}", error.message);
        }
        let update = json!({"FunctionName": "f:$LATEST", "Timeout": 4});
        kit.call("UpdateFunctionConfiguration", update).await.unwrap();
    }

    #[tokio::test]
    async fn updates_at_the_same_time_all_count() {
        let kit = Kit::new();
        kit.create("f").await;
        let one = |members: serde_json::Value| kit.call("UpdateFunctionConfiguration", members);
        let (a, b, c, d) = tokio::join!(
            one(json!({"FunctionName": "f", "Timeout": 7})),
            one(json!({"FunctionName": "f", "MemorySize": 256})),
            one(json!({"FunctionName": "f", "Description": "d"})),
            kit.call("PublishVersion", json!({"FunctionName": "f"})),
        );
        for done in [a, b, c, d] {
            done.unwrap();
        }
        let get = json!({"FunctionName": "f"});
        let shown = kit.call("GetFunctionConfiguration", get).await.unwrap();
        assert_eq!(shown["Timeout"], 7);
        assert_eq!(shown["MemorySize"], 256);
        assert_eq!(shown["Description"], "d");
    }
}
