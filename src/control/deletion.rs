//! Deletion: of a function with all that is kept under its name, or of one version.
//!
//! The function's record goes first, and in the same step a key `deleted/NAME` says that the rest is to follow; the
//! rest goes in bounded batches, each only while that key stands, and the last of them removes it. A new function of the
//! name waits for that. So neither a crash nor a second deletion leaves something that the new one would take for its
//! own.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::code::kept_keys;
use super::lookup::{QualifierForm, attempt, fence};
use super::names::LATEST;
use super::records::{
    AliasRecord, PER_FUNCTION, VersionRecord, function_key, qualified_key, reserved_key,
    version_key,
};
use super::{Control, ControlError, answer, encode, request};
use crate::store::{Batch, StoreError};

/// Keys that one batch removes.
const STEP: usize = 500;
const DELETED: &str = "deleted/";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Delete {
    function_name: String,
    qualifier: Option<String>,
}

/// What is read of a function URL's record.
#[derive(Debug, Deserialize)]
struct Url {
    url_id: String,
}

/// The key that says that a function is gone and its other keys are not yet.
pub(super) fn deleted_key(name: &str) -> String {
    format!("{DELETED}{name}")
}

/// Keys of what a version or alias may have beside its own record.
pub(super) fn qualifier_keys(name: &str, qualifier: &str) -> Vec<String> {
    let kinds = PER_FUNCTION.iter().filter(|kind| !matches!(**kind, "version" | "alias"));
    kinds.map(|kind| qualified_key(kind, name, qualifier)).collect()
}

impl Control {
    /// DeleteFunction: with a qualifier, that version alone.
    ///
    /// # Errors
    /// AWS's: a function that is not there, `$LATEST` or an alias as qualifier, a version that an alias leads to. A
    /// version that is not there is no error.
    pub async fn delete_function(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let delete: Delete = request(members)?;
        let named = self.resolve_name(&delete.function_name, delete.qualifier.as_deref())?;
        let name = named.name;
        match named.qualifier.as_deref().map(|q| (q, QualifierForm::of(q))) {
            None => {
                attempt!({ self.remove_function(&name).await })?;
                self.finish_deletion(&name).await?;
            }
            Some((_, QualifierForm::Latest)) => {
                return Err(ControlError::invalid(format!(
                    "{LATEST} version cannot be deleted without deleting the function."
                )));
            }
            Some((_, QualifierForm::Alias)) => {
                let text = "Deletion of aliases is not currently supported.";
                return Err(ControlError::invalid(text));
            }
            Some((text, QualifierForm::Number(number))) if text == number.to_string() => {
                attempt!({ self.remove_version(&name, number).await })?;
            }
            // Never the name of a version: only the function is missed.
            Some(_) => {
                self.need_function(&name).await?;
            }
        }
        answer(json!({"StatusCode": 204}))
    }

    /// Removes the function's record; from here on there is no such function.
    async fn remove_function(&self, name: &str) -> Result<(), ControlError> {
        let function = self.need_function(name).await?;
        let key = function_key(name);
        let mut batch = Batch {
            expect: vec![(key.clone(), Some(function.revision))],
            delete: kept_keys(name, &function.record.latest)?,
            put: vec![(deleted_key(name), encode(&function.record.id)?)],
            ..Batch::default()
        };
        batch.delete.extend([key, reserved_key(name)]);
        self.commit(batch, Some(name)).await?;
        Ok(())
    }

    /// Removes what a deleted function left, where it left something.
    pub(super) async fn finish_deletion(&self, name: &str) -> Result<(), ControlError> {
        while let Some(mark) = self.store.get(&deleted_key(name)).await? {
            let mut keys = Vec::new();
            for kind in PER_FUNCTION {
                self.leftovers(kind, name, &mut keys).await?;
            }
            if keys.len() < STEP {
                keys.push(mark.key.clone());
            }
            let batch = Batch {
                expect: vec![(mark.key, Some(mark.revision))],
                delete: keys,
                ..Batch::default()
            };
            match self.store.commit(batch).await {
                // Somebody else was at it, and is done.
                Ok(_) | Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Finishes deletions that were interrupted.
    ///
    /// # Errors
    /// The store's.
    pub async fn finish_deletions(&self) -> Result<(), ControlError> {
        loop {
            let marks = self.store.scan(DELETED, None, STEP).await?;
            for mark in &marks {
                self.finish_deletion(mark.key.strip_prefix(DELETED).unwrap_or_default()).await?;
            }
            if marks.len() < STEP {
                return Ok(());
            }
        }
    }

    /// Adds keys of one kind, with those that go along, until there are [`STEP`] of them.
    async fn leftovers(
        &self,
        kind: &str,
        name: &str,
        keys: &mut Vec<String>,
    ) -> Result<(), ControlError> {
        let room = STEP.saturating_sub(keys.len());
        if room == 0 {
            return Ok(());
        }
        for entry in self.store.scan(&format!("{kind}/{name}/"), None, room).await? {
            match kind {
                "version" => {
                    let version: VersionRecord = super::decode(&entry.key, &entry.value)?;
                    keys.extend(kept_keys(name, &version)?);
                }
                "url" => {
                    let url: Url = super::decode(&entry.key, &entry.value)?;
                    keys.push(format!("url-id/{}", url.url_id));
                }
                _ => {}
            }
            keys.push(entry.key);
        }
        Ok(())
    }

    async fn remove_version(&self, name: &str, number: u64) -> Result<(), ControlError> {
        let function = self.need_function(name).await?;
        let key = version_key(name, number);
        let Some((version, _)) = self.read::<VersionRecord>(&key).await? else { return Ok(()) };
        let mut aliases = Vec::new();
        self.walk::<AliasRecord>(&format!("alias/{name}/"), |_, alias| {
            if alias.version == version.version || alias.weights.contains_key(&version.version) {
                aliases.push(alias.name);
            }
        })
        .await?;
        if !aliases.is_empty() {
            return Err(ControlError::conflict(format!(
                "Unable to delete version because the following aliases reference it: [{}]",
                aliases.join(", ")
            )));
        }
        let mut batch = Batch::default();
        batch.delete.push(key);
        batch.delete.extend(kept_keys(name, &version)?);
        batch.delete.extend(self.qualified_keys(name, &version.version).await?);
        fence(&mut batch, &function)?;
        self.commit(batch, Some(name)).await?;
        Ok(())
    }

    /// The key by which a function URL is found, where the qualifier has one.
    pub(super) async fn url_id_key(
        &self,
        name: &str,
        qualifier: &str,
    ) -> Result<Option<String>, ControlError> {
        let url = self.read::<Url>(&qualified_key("url", name, qualifier)).await?;
        Ok(url.map(|(url, _)| format!("url-id/{}", url.url_id)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::replay::Kit;
    use super::*;

    async fn furnish(kit: &Kit, name: &str) {
        kit.create(name).await;
        kit.call("PublishVersion", json!({"FunctionName": name})).await.unwrap();
        let alias = json!({"FunctionName": name, "Name": "live", "FunctionVersion": "1"});
        kit.call("CreateAlias", alias).await.unwrap();
        for kind in PER_FUNCTION.into_iter().filter(|k| !matches!(*k, "version" | "alias" | "url"))
        {
            kit.put(&qualified_key(kind, name, "live"), json!({})).await;
        }
        kit.put(&qualified_key("url", name, "live"), json!({"url_id": name})).await;
        kit.put(&format!("url-id/{name}"), json!(name)).await;
    }

    #[tokio::test]
    async fn everything_of_the_function_goes_and_nothing_of_another() {
        let kit = Kit::new();
        furnish(&kit, "other").await;
        furnish(&kit, "f-2").await;
        let others = kit.keys("").await;
        furnish(&kit, "f").await;
        assert!(kit.keys("").await.len() > others.len() + 8);
        kit.call("DeleteFunction", json!({"FunctionName": "f"})).await.unwrap();
        assert_eq!(kit.keys("").await, others);
        let error = kit.call("DeleteFunction", json!({"FunctionName": "f"})).await.unwrap_err();
        assert!(error.message.starts_with("Function not found: "), "{}", error.message);
    }

    #[tokio::test]
    async fn an_interrupted_deletion_is_finished_before_the_name_is_used_again() {
        for by_collector in [false, true] {
            let kit = Kit::new();
            furnish(&kit, "f").await;
            kit.control.remove_function("f").await.unwrap();
            assert_eq!(kit.keys("deleted/").await, ["deleted/f"]);
            assert_eq!(kit.keys("version/f/").await.len(), 1);
            if by_collector {
                kit.control.collect_code(&|_| false).await.unwrap();
                assert_eq!(kit.keys("").await, Vec::<String>::new());
            }
            kit.create("f").await;
            assert_eq!(kit.keys("deleted/").await, Vec::<String>::new());
            assert_eq!(kit.keys("version/").await, Vec::<String>::new());
            assert_eq!(kit.keys("url").await, Vec::<String>::new());
            let publish = json!({"FunctionName": "f"});
            assert_eq!(kit.call("PublishVersion", publish).await.unwrap()["Version"], "1");
        }
    }

    #[tokio::test]
    async fn much_goes_in_bounded_steps() {
        let kit = Kit::new();
        kit.create("f").await;
        for n in 0..STEP + 10 {
            kit.put(&format!("policy/f/q{n}"), json!({})).await;
        }
        kit.call("DeleteFunction", json!({"FunctionName": "f"})).await.unwrap();
        assert_eq!(kit.keys("").await, Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_version_with_an_alias_stays() {
        let kit = Kit::new();
        kit.create("f").await;
        for seconds in [3, 4, 5] {
            let update = json!({"FunctionName": "f", "Timeout": seconds});
            kit.call("UpdateFunctionConfiguration", update).await.unwrap();
            kit.call("PublishVersion", json!({"FunctionName": "f"})).await.unwrap();
        }
        for (name, weights) in [("live", json!({"2": 0.1})), ("old", json!({}))] {
            let alias = json!({"FunctionName": "f", "Name": name, "FunctionVersion": "1",
                "RoutingConfig": {"AdditionalVersionWeights": weights}});
            kit.call("CreateAlias", alias).await.unwrap();
        }
        let delete = |version: &str| {
            kit.call("DeleteFunction", json!({"FunctionName": "f", "Qualifier": version}))
        };
        let text = "Unable to delete version because the following aliases reference it: ";
        assert_eq!(delete("1").await.unwrap_err().message, format!("{text}[live, old]"));
        assert_eq!(delete("2").await.unwrap_err().message, format!("{text}[live]"));
        assert_eq!(delete("3").await.unwrap()["StatusCode"], 204);
        // Gone, or never there: the same answer.
        for version in ["3", "03", "1233", "99999999999999999999999", "$latest"] {
            assert_eq!(delete(version).await.unwrap()["StatusCode"], 204, "{version}");
        }
        assert_eq!(kit.keys("version/f/").await.len(), 2);
    }
}
