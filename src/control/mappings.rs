//! Event source mappings, checked and kept. Nothing is polled yet: a mapping that says `Enabled` moves no event.

mod check;
mod filter;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use check::{Kind, Sources};

use super::lookup::{Found, attempt, now_seconds, replace};
use super::names::LATEST;
use super::tags::{Tags, check_tags};
use super::{Control, ControlError, answer, request};
use crate::store::Batch;

/// Entries in a page where the caller names no number.
const PAGE: usize = 100;

/// A mapping.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MappingRecord {
    pub uuid: String,
    /// With the qualifier that was given, and without where there was none.
    pub function_arn: String,
    pub enabled: bool,
    /// By the model's names, as AWS shows it: source, batches, filters, destinations and the rest.
    pub config: Map<String, Value>,
    /// Seconds since the epoch.
    pub last_modified: f64,
    #[serde(default)]
    pub tags: Tags,
}

pub(crate) fn mapping_key(uuid: &str) -> String {
    format!("mapping/{uuid}")
}

/// Of Create and Update; what is not named here is configuration.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Write {
    #[serde(default, rename = "UUID")]
    uuid: String,
    function_name: Option<String>,
    enabled: Option<bool>,
    #[serde(default)]
    tags: Tags,
    #[serde(flatten)]
    config: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct One {
    #[serde(rename = "UUID")]
    uuid: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct List {
    event_source_arn: Option<String>,
    function_name: Option<String>,
    marker: Option<String>,
    max_items: Option<usize>,
}

impl Control {
    /// `CreateEventSourceMapping`.
    pub async fn create_event_source_mapping(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: Write = request(members)?;
        check_tags(&asked.tags)?;
        let kind = Kind::of(&asked.config)?;
        let config = kind.with_defaults(asked.config);
        kind.check(&config)?;
        let named = asked.function_name.as_deref().unwrap_or_default();
        let (name, function_arn) = self.mapped_function(named).await?;
        let record = attempt!({
            let uuid = super::lookup::uuid();
            let mut config = config.clone();
            kind.name_consumers(&mut config, &uuid);
            let record = MappingRecord {
                uuid: uuid.clone(),
                function_arn: function_arn.clone(),
                enabled: asked.enabled.unwrap_or(true),
                config,
                last_modified: now_seconds(),
                tags: asked.tags.clone(),
            };
            let mut batch = Batch::default();
            let sources = Sources::of(&record.function_arn, &record.config);
            for key in sources.keys() {
                if let Some((existing, _)) = self.read::<String>(&key).await? {
                    return Err(sources.taken(kind, &name, &existing));
                }
                replace(&mut batch, key, None, &uuid)?;
            }
            replace(&mut batch, mapping_key(&uuid), None, &record)?;
            self.commit(batch, None).await?;
            Ok(record)
        })?;
        answer(self.show_mapping(&record, "Creating"))
    }

    /// `GetEventSourceMapping`.
    pub async fn get_event_source_mapping(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: One = request(members)?;
        let record = self.need_mapping(&asked.uuid).await?.record;
        answer(self.show_mapping(&record, settled(&record)))
    }

    /// `UpdateEventSourceMapping`: what is not given stays.
    pub async fn update_event_source_mapping(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: Write = request(members)?;
        let (record, state) = attempt!({
            let Found { mut record, revision } = self.need_mapping(&asked.uuid).await?;
            let kind = Kind::of(&record.config)?;
            let before = Sources::of(&record.function_arn, &record.config);
            let mut config = record.config.clone();
            config.extend(asked.config.clone());
            record.config = kind.with_defaults(config);
            kind.check(&record.config)?;
            let mut batch = Batch::default();
            if let Some(named) = &asked.function_name {
                let (name, function_arn) = self.mapped_function(named).await?;
                if function_arn != record.function_arn {
                    record.function_arn = function_arn;
                    let after = Sources::of(&record.function_arn, &record.config);
                    batch.delete.extend(before.keys());
                    for key in after.keys() {
                        if let Some((existing, _)) = self.read::<String>(&key).await? {
                            return Err(after.taken(kind, &name, &existing));
                        }
                        replace(&mut batch, key, None, &record.uuid)?;
                    }
                }
            }
            let state = match asked.enabled {
                Some(true) if !record.enabled => "Enabling",
                Some(false) if record.enabled => "Disabling",
                _ => "Updating",
            };
            record.enabled = asked.enabled.unwrap_or(record.enabled);
            record.last_modified = now_seconds();
            replace(&mut batch, mapping_key(&record.uuid), Some(revision), &record)?;
            self.commit(batch, None).await?;
            Ok((record, state))
        })?;
        answer(self.show_mapping(&record, state))
    }

    /// `DeleteEventSourceMapping`.
    pub async fn delete_event_source_mapping(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: One = request(members)?;
        let record = attempt!({
            let found = self.need_mapping(&asked.uuid).await?;
            let key = mapping_key(&found.record.uuid);
            let mut batch = Batch {
                expect: vec![(key.clone(), Some(found.revision))],
                delete: vec![key],
                ..Batch::default()
            };
            let sources = Sources::of(&found.record.function_arn, &found.record.config);
            batch.delete.extend(sources.keys());
            self.commit(batch, None).await?;
            Ok(found.record)
        })?;
        answer(self.show_mapping(&record, "Deleting"))
    }

    /// `ListEventSourceMappings`.
    pub async fn list_event_source_mappings(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: List = request(members)?;
        let function_arn = asked
            .function_name
            .as_deref()
            .map(|named| {
                let named = self.resolve_name(named, None)?;
                Ok::<_, ControlError>(
                    self.settings.function_arn(&named.name, named.qualifier.as_deref()),
                )
            })
            .transpose()?;
        let fits = |record: &MappingRecord| {
            let source = record.config.get("EventSourceArn").and_then(Value::as_str);
            asked.event_source_arn.as_deref().is_none_or(|arn| source == Some(arn))
                && function_arn.as_ref().is_none_or(|arn| record.function_arn == *arn)
        };
        let most = asked.max_items.unwrap_or(PAGE).min(PAGE);
        let (page, next) = self.list_page("mapping/", asked.marker.as_deref(), most, fits).await?;
        let mappings: Vec<Value> =
            page.iter().map(|(_, record)| self.show_mapping(record, settled(record))).collect();
        answer(json!({ "EventSourceMappings": mappings, "NextMarker": next }))
    }

    /// Name and ARN of the function that a mapping is for.
    async fn mapped_function(&self, text: &str) -> Result<(String, String), ControlError> {
        let named = self.resolve_name(text, None)?;
        let qualifier = named.qualifier.as_deref().unwrap_or(LATEST);
        let there = self.find_function(&named.name).await?.is_some()
            && self.find_qualified(&named.name, qualifier).await?.is_some();
        if !there {
            return Err(ControlError::invalid("Function does not exist"));
        }
        let arn = self.settings.function_arn(&named.name, named.qualifier.as_deref());
        Ok((named.name, arn))
    }

    async fn need_mapping(&self, uuid: &str) -> Result<Found<MappingRecord>, ControlError> {
        let found = self.find(&mapping_key(&uuid.to_ascii_lowercase())).await?;
        found.ok_or_else(|| ControlError::not_found("The resource you requested does not exist."))
    }

    fn show_mapping(&self, record: &MappingRecord, state: &str) -> Value {
        let (region, account) = (&self.settings.region, &self.settings.account);
        let arn = format!("arn:aws:lambda:{region}:{account}:event-source-mapping:{}", record.uuid);
        let mut shown = record.config.clone();
        for (key, value) in [
            ("UUID", record.uuid.as_str()),
            ("EventSourceMappingArn", &arn),
            ("FunctionArn", &record.function_arn),
            ("State", state),
        ] {
            shown.insert(key.into(), value.into());
        }
        shown.insert("LastModified".into(), record.last_modified.into());
        if let Ok(kind) = Kind::of(&record.config) {
            kind.show(&mut shown);
        }
        shown.into()
    }
}

fn settled(record: &MappingRecord) -> &'static str {
    if record.enabled { "Enabled" } else { "Disabled" }
}

#[cfg(test)]
mod tests;
