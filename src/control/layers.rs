//! Layers: their versions, who may use them, and their code.
//!
//! A number is used once: `layer/NAME` counts on after a version is deleted. A deleted version's code stays as long as
//! a function's version names it (`code/HEX/function/…`).

mod code;
mod permissions;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::code::Stored;
use super::lookup::{Found, PAGE, after_marker, attempt, marker, now_text, replace};
use super::records::{CodeRef, PolicyRecord};
use super::{Control, ControlError, ErrorKind, answer, request};
use crate::package::CaseCollisions;
use crate::store::{Batch, Revision};

/// A published version of a layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerVersionRecord {
    /// With the version.
    pub arn: String,
    pub version: u64,
    pub code: CodeRef,
    pub description: String,
    pub license: Option<String>,
    /// As they were given; one that was not given is not shown.
    pub runtimes: Option<Vec<String>>,
    pub architectures: Option<Vec<String>>,
    /// As [`super::timestamp`] prints it.
    pub created: String,
    #[serde(default)]
    pub policy: Option<PolicyRecord>,
}

/// What is the layer's own.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct LayerRecord {
    next_version: u64,
}

fn layer_key(name: &str) -> String {
    format!("layer/{name}")
}

pub(crate) fn layer_version_key(name: &str, version: u64) -> String {
    format!("layer-version/{name}/{version:020}")
}

/// The key that keeps a layer version's code.
fn owner_key(sha256: &str, name: &str, version: u64) -> String {
    format!("code/{sha256}/layer/{name}/{version}")
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Publish {
    layer_name: String,
    description: Option<String>,
    content: code::Content,
    compatible_architectures: Option<Vec<String>>,
    compatible_runtimes: Option<Vec<String>>,
    license_info: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OneVersion {
    layer_name: String,
    version_number: i64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ByArn {
    arn: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct List {
    layer_name: Option<String>,
    compatible_runtime: Option<String>,
    compatible_architecture: Option<String>,
    marker: Option<String>,
    max_items: Option<usize>,
}

impl List {
    /// A version that names no runtime or architecture fits none that is asked for.
    fn takes(&self, version: &LayerVersionRecord) -> bool {
        let fits = |wanted: &Option<String>, has: &Option<Vec<String>>| {
            let Some(wanted) = wanted else { return true };
            has.as_ref().is_some_and(|has| has.contains(wanted))
        };
        fits(&self.compatible_runtime, &version.runtimes)
            && fits(&self.compatible_architecture, &version.architectures)
    }
}

impl Control {
    /// `PublishLayerVersion`.
    pub async fn publish_layer_version(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: Publish = request(members)?;
        let name = self.layer_name(&asked.layer_name)?;
        let source = code::source(asked.content)?;
        // Until the record names the code, the gate keeps the collector from seeing it as nobody's. A layer may be jars,
        // whose names differ in case only.
        let Stored { code, gate } = self.store_code(source, CaseCollisions::Allow).await?;
        let record = attempt!({
            let stored = self.usage().await?.code_bytes;
            if stored.saturating_add(code.zip_bytes) > self.settings.code_storage_bytes {
                let limit = self.settings.code_storage_bytes;
                let text = format!("Code storage limit exceeded. The limit is {limit} bytes.");
                return Err(ControlError::new(ErrorKind::CodeStorageExceeded, text));
            }
            let layer = self.find::<LayerRecord>(&layer_key(name)).await?;
            let version = layer.as_ref().map_or(1, |layer| layer.record.next_version);
            let record = LayerVersionRecord {
                arn: self.settings.layer_arn(name, Some(version)),
                version,
                code: code.clone(),
                description: asked.description.clone().unwrap_or_default(),
                license: asked.license_info.clone(),
                runtimes: asked.compatible_runtimes.clone(),
                architectures: asked.compatible_architectures.clone(),
                created: now_text(),
                policy: None,
            };
            let mut batch = Batch::default();
            let next = LayerRecord { next_version: version + 1 };
            replace(&mut batch, layer_key(name), layer.map(|layer| layer.revision), &next)?;
            replace(&mut batch, layer_version_key(name, version), None, &record)?;
            batch.put.push((owner_key(&code.sha256, name, version), super::encode(&code)?));
            self.commit(batch, None).await?;
            Ok(record)
        })?;
        drop(gate);
        answer(self.show_layer_version(name, &record)?)
    }

    /// `GetLayerVersion`.
    pub async fn get_layer_version(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: OneVersion = request(members)?;
        let name = self.layer_name(&asked.layer_name)?;
        let version = layer_number(asked.version_number)?;
        let found = self.layer_version(name, version).await?.ok_or_else(no_such_resource)?;
        answer(self.show_layer_version(name, &found.record)?)
    }

    /// `GetLayerVersionByArn`.
    pub async fn get_layer_version_by_arn(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: ByArn = request(members)?;
        let (layer, version) = asked.arn.rsplit_once(':').unwrap_or((&asked.arn, ""));
        let name = self.layer_name(layer)?;
        let version = layer_number(version.parse().map_err(|_| no_such_resource())?)?;
        let found = self.layer_version(name, version).await?.ok_or_else(no_such_resource)?;
        answer(self.show_layer_version(name, &found.record)?)
    }

    /// `DeleteLayerVersion`; well where there is none.
    pub async fn delete_layer_version(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: OneVersion = request(members)?;
        let name = self.layer_name(&asked.layer_name)?;
        let version = layer_number(asked.version_number)?;
        attempt!({
            let Some(found) = self.layer_version(name, version).await? else { return Ok(()) };
            let key = layer_version_key(name, version);
            let batch = Batch {
                expect: vec![(key.clone(), Some(found.revision))],
                delete: vec![key, owner_key(&found.record.code.sha256, name, version)],
                ..Batch::default()
            };
            self.commit(batch, None).await.map(drop)
        })?;
        Ok(Map::new())
    }

    /// `ListLayers`: layers that have a version that fits, each with the latest of those.
    pub async fn list_layers(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        const PREFIX: &str = "layer/";
        let asked: List = request(members)?;
        let most = asked.max_items.unwrap_or(PAGE);
        let mut after = after_marker(PREFIX, asked.marker.as_deref())?;
        let mut layers = Vec::new();
        let mut last = String::new();
        loop {
            let entries = self.list::<LayerRecord>(PREFIX, after.as_deref(), PAGE).await?;
            let Some((key, _)) = entries.last() else { break };
            after = Some(key.clone());
            for (key, _) in entries {
                let name = key.strip_prefix(PREFIX).unwrap_or(&key);
                let versions = self.layer_versions(name, &asked).await?;
                let Some(latest) = versions.first() else { continue };
                if layers.len() == most {
                    let next = marker(PREFIX, &last);
                    return answer(json!({ "Layers": layers, "NextMarker": next }));
                }
                layers.push(json!({
                    "LayerName": name,
                    "LayerArn": self.settings.layer_arn(name, None),
                    "LatestMatchingVersion": list_item(latest),
                }));
                last = key;
            }
        }
        answer(json!({ "Layers": layers }))
    }

    /// `ListLayerVersions`, the latest first.
    pub async fn list_layer_versions(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: List = request(members)?;
        let name = self.layer_name(asked.layer_name.as_deref().unwrap_or_default())?;
        let most = asked.max_items.unwrap_or(PAGE);
        let below = match after_marker("", asked.marker.as_deref())? {
            None => u64::MAX,
            Some(number) => number
                .parse()
                .map_err(|_| ControlError::invalid("The provided marker is invalid."))?,
        };
        let mut versions = self.layer_versions(name, &asked).await?;
        versions.retain(|version| version.version < below);
        let more = versions.len() > most;
        versions.truncate(most);
        let last = versions.last().filter(|_| more);
        let next = last.map(|version| marker("", &version.version.to_string()));
        let items: Vec<Value> = versions.iter().map(list_item).collect();
        answer(json!({ "LayerVersions": items, "NextMarker": next }))
    }

    pub(crate) async fn layer_version(
        &self,
        name: &str,
        version: u64,
    ) -> Result<Option<Found<LayerVersionRecord>>, ControlError> {
        self.find(&layer_version_key(name, version)).await
    }

    /// Versions that fit, the latest first.
    async fn layer_versions(
        &self,
        name: &str,
        asked: &List,
    ) -> Result<Vec<LayerVersionRecord>, ControlError> {
        let mut versions = Vec::new();
        let prefix = format!("layer-version/{name}/");
        self.walk::<LayerVersionRecord>(&prefix, |_, version| {
            if asked.takes(&version) {
                versions.push(version);
            }
        })
        .await?;
        versions.reverse();
        Ok(versions)
    }

    /// The name of a layer of ours from its name or ARN.
    fn layer_name<'a>(&self, text: &'a str) -> Result<&'a str, ControlError> {
        let parts: Vec<&str> = text.split(':').collect();
        let ["arn", _, "lambda", region, account, "layer", name] = parts[..] else {
            return Ok(text);
        };
        if region != self.settings.region {
            return Err(no_such_resource());
        }
        if account != self.settings.account {
            let text =
                format!("User is not authorized to perform this operation on resource: {text}");
            return Err(ControlError::new(ErrorKind::AccessDenied, text));
        }
        Ok(name)
    }

    fn show_layer_version(
        &self,
        name: &str,
        record: &LayerVersionRecord,
    ) -> Result<Value, ControlError> {
        let mut shown = list_item(record);
        shown["LayerArn"] = self.settings.layer_arn(name, None).into();
        shown["Content"] = code::content(&record.code)?;
        Ok(shown)
    }

    /// Writes a layer version's record with another policy.
    pub(crate) async fn put_layer_policy(
        &self,
        name: &str,
        mut record: LayerVersionRecord,
        revision: Revision,
        policy: Option<PolicyRecord>,
    ) -> Result<(), ControlError> {
        record.policy = policy;
        let mut batch = Batch::default();
        replace(&mut batch, layer_version_key(name, record.version), Some(revision), &record)?;
        self.commit(batch, None).await.map(drop)
    }
}

fn list_item(record: &LayerVersionRecord) -> Value {
    let mut item = json!({
        "LayerVersionArn": record.arn,
        "Version": record.version,
        "Description": record.description,
        "CreatedDate": record.created,
    });
    let lists = [
        ("CompatibleRuntimes", &record.runtimes),
        ("CompatibleArchitectures", &record.architectures),
    ];
    for (key, list) in lists {
        if let Some(list) = list {
            item[key] = json!(list);
        }
    }
    if let Some(license) = &record.license {
        item["LicenseInfo"] = license.as_str().into();
    }
    item
}

fn layer_number(number: i64) -> Result<u64, ControlError> {
    let number = u64::try_from(number).ok().filter(|number| *number > 0);
    number.ok_or_else(|| ControlError::invalid("Layer Version Cannot be less than 1"))
}

fn no_such_resource() -> ControlError {
    ControlError::not_found("The resource you requested does not exist.")
}

#[cfg(test)]
pub(crate) mod tests;
