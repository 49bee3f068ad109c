//! Aliases: names that lead to a version, or split invocations between two.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::deletion::qualifier_keys;
use super::lookup::{PAGE, attempt, fence, replace, uuid};
use super::names::LATEST;
use super::records::{AliasRecord, FunctionRecord, alias_key, version_key};
use super::{Control, ControlError, answer, request};
use crate::store::Batch;

/// The most aliases that one page may hold, as the model has it.
const MOST: usize = 10_000;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Wanted {
    function_name: String,
    name: String,
    function_version: Option<String>,
    description: Option<String>,
    routing_config: Option<Routing>,
    revision_id: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Routing {
    #[serde(default)]
    additional_version_weights: Option<BTreeMap<String, f64>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct List {
    function_name: String,
    function_version: Option<String>,
    marker: Option<String>,
    max_items: Option<usize>,
}

impl Control {
    /// CreateAlias.
    ///
    /// # Errors
    /// AWS's.
    pub async fn create_alias(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let wanted: Wanted = request(members)?;
        let function_name = self.resolve_name(&wanted.function_name, None)?.name;
        let mut alias = AliasRecord {
            name: wanted.name.clone(),
            version: wanted.function_version.clone().unwrap_or_default(),
            description: wanted.description.clone().unwrap_or_default(),
            weights: BTreeMap::new(),
            revision_id: uuid(),
        };
        apply_routing(&mut alias, wanted.routing_config.as_ref())?;
        attempt!({
            let missing = || self.function_missing(&function_name, Some(&alias.version));
            let function = self.find_function(&function_name).await?.ok_or_else(missing)?;
            self.check_versions(&function.record, &alias).await?;
            let key = alias_key(&function_name, &alias.name);
            if self.store.get(&key).await?.is_some() {
                let arn = self.settings.function_arn(&function_name, Some(&alias.name));
                return Err(ControlError::conflict(format!("Alias already exists: {arn}")));
            }
            let mut batch = Batch::default();
            replace(&mut batch, key, None, &alias)?;
            fence(&mut batch, &function)?;
            self.commit(batch, Some(&function_name)).await
        })?;
        self.shown_alias(&function_name, &alias)
    }

    /// GetAlias.
    ///
    /// # Errors
    /// AWS's.
    pub async fn get_alias(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let wanted: Wanted = request(members)?;
        let function = self.resolve_name(&wanted.function_name, None)?.name;
        let Some(found) = self.find::<AliasRecord>(&alias_key(&function, &wanted.name)).await?
        else {
            let arn = self.settings.function_arn(&function, Some(&wanted.name));
            return Err(ControlError::not_found(format!("Cannot find alias arn: {arn}")));
        };
        self.shown_alias(&function, &found.record)
    }

    /// UpdateAlias. What is not given stays.
    ///
    /// # Errors
    /// AWS's.
    pub async fn update_alias(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let wanted: Wanted = request(members)?;
        let function_name = self.resolve_name(&wanted.function_name, None)?.name;
        let alias = attempt!({
            let key = alias_key(&function_name, &wanted.name);
            let function = self.find_function(&function_name).await?;
            let found = self.find::<AliasRecord>(&key).await?;
            let (Some(function), Some(found)) = (function, found) else {
                let arn = self.settings.function_arn(&function_name, Some(&wanted.name));
                return Err(ControlError::not_found(format!("Alias not found: {arn}")));
            };
            let mut alias = found.record;
            Self::check_revision(wanted.revision_id.as_deref(), &alias.revision_id)?;
            if let Some(version) = &wanted.function_version {
                alias.version.clone_from(version);
            }
            if let Some(description) = &wanted.description {
                alias.description.clone_from(description);
            }
            apply_routing(&mut alias, wanted.routing_config.as_ref())?;
            self.check_versions(&function.record, &alias).await?;
            alias.revision_id = uuid();
            let mut batch = Batch::default();
            replace(&mut batch, key, Some(found.revision), &alias)?;
            fence(&mut batch, &function)?;
            self.commit(batch, Some(&function_name)).await?;
            Ok(alias)
        })?;
        self.shown_alias(&function_name, &alias)
    }

    /// DeleteAlias, and what is kept under its name. One that is not there is no error.
    ///
    /// # Errors
    /// AWS's, for a function that is not there.
    pub async fn delete_alias(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let wanted: Wanted = request(members)?;
        let function_name = self.resolve_name(&wanted.function_name, None)?.name;
        attempt!({
            let function = self.need_function(&function_name).await?;
            let key = alias_key(&function_name, &wanted.name);
            if self.store.get(&key).await?.is_none() {
                return Ok(());
            }
            let mut batch = Batch { delete: vec![key], ..Batch::default() };
            batch.delete.extend(self.qualified_keys(&function_name, &wanted.name).await?);
            fence(&mut batch, &function)?;
            self.commit(batch, Some(&function_name)).await?;
            Ok(())
        })?;
        Ok(Map::new())
    }

    /// ListAliases, those of one version where it is given.
    ///
    /// # Errors
    /// AWS's.
    pub async fn list_aliases(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let list: List = request(members)?;
        let function = self.resolve_name(&list.function_name, None)?.name;
        self.need_function(&function).await?;
        let most = list.max_items.unwrap_or(PAGE).clamp(1, MOST);
        let prefix = format!("alias/{function}/");
        let of_version = |alias: &AliasRecord| {
            list.function_version.as_ref().is_none_or(|version| *version == alias.version)
        };
        let (aliases, next) =
            self.list_page(&prefix, list.marker.as_deref(), most, of_version).await?;
        let shown: Result<Vec<_>, _> =
            aliases.iter().map(|(_, alias)| self.shown_alias(&function, alias)).collect();
        answer(json!({"Aliases": shown?, "NextMarker": next}))
    }

    fn shown_alias(
        &self,
        function: &str,
        alias: &AliasRecord,
    ) -> Result<Map<String, Value>, ControlError> {
        let weights = &alias.weights;
        answer(json!({
            "AliasArn": self.settings.function_arn(function, Some(&alias.name)),
            "Name": alias.name,
            "FunctionVersion": alias.version,
            "Description": alias.description,
            "RevisionId": alias.revision_id,
            "RoutingConfig":
                (!weights.is_empty()).then(|| json!({"AdditionalVersionWeights": weights})),
        }))
    }

    /// # Errors
    /// AWS's, for a version that the function does not have.
    async fn check_versions(
        &self,
        function: &FunctionRecord,
        alias: &AliasRecord,
    ) -> Result<(), ControlError> {
        let all = std::iter::once(&alias.version).chain(alias.weights.keys());
        for version in all.filter(|version| *version != LATEST) {
            let number: Option<u64> =
                version.parse().ok().filter(|n: &u64| n.to_string() == *version);
            let found = match number {
                Some(number) => self.store.get(&version_key(&function.name, number)).await?,
                None => None,
            };
            if found.is_none() {
                return Err(self.function_missing(&function.name, Some(version)));
            }
        }
        Ok(())
    }

    /// Keys of what a version or alias has beside its own record.
    pub(super) async fn qualified_keys(
        &self,
        function: &str,
        qualifier: &str,
    ) -> Result<Vec<String>, ControlError> {
        let mut keys = qualifier_keys(function, qualifier);
        keys.extend(self.url_id_key(function, qualifier).await?);
        Ok(keys)
    }
}

/// # Errors
/// AWS's, for a split that it does not take.
fn apply_routing(alias: &mut AliasRecord, routing: Option<&Routing>) -> Result<(), ControlError> {
    if let Some(routing) = routing {
        alias.weights = routing.additional_version_weights.clone().unwrap_or_default();
    }
    if alias.weights.len() > 1 {
        let text = "Number of items in AdditionalVersionWeights cannot be greater than 1";
        return Err(ControlError::invalid(text));
    }
    if alias.weights.is_empty() {
        return Ok(());
    }
    if alias.version == LATEST {
        let text =
            format!("{LATEST} is not supported for an alias pointing to more than 1 version");
        return Err(ControlError::invalid(text));
    }
    if alias.weights.contains_key(&alias.version) {
        let version = &alias.version;
        return Err(ControlError::invalid(format!(
            "Invalid function version {version}. Function version {version} is already included in routing configuration."
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::replay::Kit;
    use crate::control::ErrorKind;

    #[tokio::test]
    async fn what_an_alias_had_goes_with_it() {
        let kit = Kit::new();
        kit.create("f").await;
        kit.call("PublishVersion", json!({"FunctionName": "f"})).await.unwrap();
        let alias = json!({"FunctionName": "f", "Name": "live", "FunctionVersion": "1"});
        kit.call("CreateAlias", alias).await.unwrap();
        let before = kit.keys("").await;
        kit.put("policy/f/live", json!({"statements": [], "revision_id": "r"})).await;
        kit.put("url/f/live", json!({"url_id": "abc"})).await;
        kit.put("url-id/abc", json!("f")).await;
        kit.put("policy/f/lively", json!({"statements": [], "revision_id": "r"})).await;
        let gone = json!({"FunctionName": "f", "Name": "live"});
        kit.call("DeleteAlias", gone.clone()).await.unwrap();
        kit.call("DeleteAlias", gone).await.unwrap();
        let mut want: Vec<String> = before.into_iter().filter(|k| k != "alias/f/live").collect();
        want.push("policy/f/lively".into());
        want.sort();
        assert_eq!(kit.keys("").await, want);
        let missing = json!({"FunctionName": "g", "Name": "live"});
        let error = kit.call("DeleteAlias", missing).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::ResourceNotFound);
    }

    #[tokio::test]
    async fn an_update_keeps_what_is_not_given_and_checks_the_whole() {
        let kit = Kit::new();
        kit.create("f").await;
        for seconds in [3, 4] {
            let update = json!({"FunctionName": "f", "Timeout": seconds});
            kit.call("UpdateFunctionConfiguration", update).await.unwrap();
            kit.call("PublishVersion", json!({"FunctionName": "f"})).await.unwrap();
        }
        let weights = json!({"AdditionalVersionWeights": {"2": 0.5}});
        let alias = json!({"FunctionName": "f", "Name": "a", "FunctionVersion": "1",
            "Description": "d", "RoutingConfig": weights});
        kit.call("CreateAlias", alias).await.unwrap();
        let update = |more: serde_json::Value| {
            let mut members = json!({"FunctionName": "f", "Name": "a"});
            members.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            kit.call("UpdateAlias", members)
        };
        let shown = update(json!({})).await.unwrap();
        assert_eq!(shown["RoutingConfig"], weights);
        assert_eq!(shown["Description"], "d");
        // The weight's own version.
        assert!(update(json!({"FunctionVersion": "2"})).await.is_err());
        assert!(update(json!({"FunctionVersion": "$LATEST"})).await.is_err());
        assert!(update(json!({"FunctionVersion": "01"})).await.is_err());
        let shown = update(json!({"FunctionVersion": "2", "RoutingConfig": {}})).await.unwrap();
        assert_eq!(shown["FunctionVersion"], "2");
        assert!(!shown.contains_key("RoutingConfig"));
    }
}
