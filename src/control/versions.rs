//! Published versions: made, and listed. Their numbers count up for as long as the function lives.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::code::kept;
use super::lookup::{self, PAGE, attempt, fence, uuid};
use super::names::LATEST;
use super::records::{FunctionRecord, Published, VersionRecord, version_key};
use super::shown::Phase;
use super::{Control, ControlError, answer, encode, request};
use crate::store::Batch;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Publish {
    function_name: String,
    #[serde(rename = "CodeSha256")]
    code_sha256: Option<String>,
    description: Option<String>,
    revision_id: Option<String>,
    publish_to: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct List {
    function_name: String,
    marker: Option<String>,
    max_items: Option<usize>,
}

/// Adds the next version to a batch: `$LATEST` as it is, under a number, a revision and maybe a description of its own.
/// The function's record is changed, not added.
pub(super) fn publish(
    batch: &mut Batch,
    function: &mut FunctionRecord,
    description: Option<String>,
) -> Result<VersionRecord, ControlError> {
    let number = function.next_version;
    function.next_version += 1;
    function.published =
        Some(Published { version: number, description: function.latest.description.clone() });
    let mut version = function.latest.clone();
    version.version = number.to_string();
    version.revision_id = uuid();
    if let Some(description) = description {
        version.description = description;
    }
    batch.put.extend(kept(&function.name, &version)?);
    batch.put.push((version_key(&function.name, number), encode(&version)?));
    Ok(version)
}

/// Whether `version` is `latest` but for what every version has of its own.
fn same(latest: &VersionRecord, version: &VersionRecord) -> bool {
    let comparable = VersionRecord {
        version: latest.version.clone(),
        revision_id: latest.revision_id.clone(),
        description: latest.description.clone(),
        last_modified: latest.last_modified.clone(),
        ..version.clone()
    };
    *latest == comparable
}

impl Control {
    /// PublishVersion. Without a change since the last one, that one is the answer.
    ///
    /// # Errors
    /// AWS's.
    pub async fn publish_version(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let wanted: Publish = request(members)?;
        super::functions::check_publish_to(wanted.publish_to.as_deref())?;
        let name = self.resolve_name(&wanted.function_name, None)?.name;
        let version = attempt!({
            let mut function = self.unchanged(&name, wanted.revision_id.as_deref()).await?;
            let current = function.record.latest.code.sha256_base64()?;
            if let Some(given) = wanted.code_sha256.as_ref().filter(|sha| !sha.is_empty())
                && *given != current
            {
                return Err(ControlError::invalid(format!(
                    "CodeSHA256 ({given}) is different from current CodeSHA256 in {LATEST} ({current}). Please try again with the CodeSHA256 in {LATEST}."
                )));
            }
            if let Some(unchanged) = self.last_published(&function.record).await? {
                return Ok(unchanged);
            }
            let mut batch = Batch::default();
            let description = wanted.description.clone().filter(|text| !text.is_empty());
            let version = publish(&mut batch, &mut function.record, description)?;
            function.record.latest.revision_id = uuid();
            fence(&mut batch, &function)?;
            self.commit(batch, Some(&name)).await?;
            Ok(version)
        })?;
        self.configuration(&name, Some(&version.version), &version, Phase::Settled)
    }

    /// The version that was published last, where `$LATEST` is as it was then.
    pub(super) async fn last_published(
        &self,
        function: &FunctionRecord,
    ) -> Result<Option<VersionRecord>, ControlError> {
        let Some(published) = &function.published else { return Ok(None) };
        if published.description != function.latest.description {
            return Ok(None);
        }
        let key = version_key(&function.name, published.version);
        let found = self.read::<VersionRecord>(&key).await?;
        Ok(found.map(|(version, _)| version).filter(|version| same(&function.latest, version)))
    }

    /// ListVersionsByFunction: `$LATEST`, then the published ones; at most 50 in a page, as AWS has it.
    ///
    /// # Errors
    /// AWS's.
    pub async fn list_versions_by_function(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let list: List = request(members)?;
        let name = self.resolve_name(&list.function_name, None)?.name;
        let function = self.need_function(&name).await?.record;
        let most = list.max_items.unwrap_or(PAGE).clamp(1, PAGE);
        let prefix = format!("version/{name}/");
        let after = lookup::after_marker(&prefix, list.marker.as_deref())?;
        let mut found: Vec<(String, VersionRecord)> = Vec::new();
        if after.is_none() {
            found.push((format!("{prefix}0"), function.latest)); // before every number of twenty digits
        }
        let wanted = most + 1 - found.len();
        found.extend(self.list(&prefix, after.as_deref(), wanted).await?);
        let next = (found.len() > most).then(|| {
            found.truncate(most);
            found.last().map(|(key, _)| lookup::marker(&prefix, key))
        });
        let versions: Result<Vec<_>, _> = found
            .iter()
            .map(|(_, v)| self.configuration(&name, Some(&v.version), v, Phase::Listed))
            .collect();
        answer(json!({"Versions": versions?, "NextMarker": next}))
    }
}

#[cfg(test)]
mod tests {
    use super::super::replay::Kit;
    use super::*;

    #[tokio::test]
    async fn numbers_are_never_used_again() {
        let kit = Kit::new();
        kit.create("f").await;
        let publish = || kit.call("PublishVersion", json!({"FunctionName": "f"}));
        assert_eq!(publish().await.unwrap()["Version"], "1");
        // The last version is gone: the same is published anew.
        kit.call("DeleteFunction", json!({"FunctionName": "f:1"})).await.unwrap();
        assert_eq!(publish().await.unwrap()["Version"], "2");
        assert_eq!(publish().await.unwrap()["Version"], "2");
        kit.call("DeleteFunction", json!({"FunctionName": "f"})).await.unwrap();
        kit.create("f").await;
        assert_eq!(publish().await.unwrap()["Version"], "1");
    }

    #[tokio::test]
    async fn versions_come_in_pages() {
        let kit = Kit::new();
        kit.create("f").await;
        for seconds in 4..16 {
            let update = json!({"FunctionName": "f", "Timeout": seconds});
            kit.call("UpdateFunctionConfiguration", update).await.unwrap();
            kit.call("PublishVersion", json!({"FunctionName": "f"})).await.unwrap();
        }
        for size in [1, 5, 13, 50] {
            let list = json!({"FunctionName": "f", "MaxItems": size});
            let all = kit.pages("ListVersionsByFunction", list, "Versions", size).await;
            let versions: Vec<_> = all.iter().map(|v| v["Version"].as_str().unwrap()).collect();
            let mut want = vec!["$LATEST".to_owned()];
            want.extend((1..=12).map(|n| n.to_string()));
            assert_eq!(versions, want, "{size}");
        }
        let list = json!({"FunctionName": "f", "Marker": "?"});
        kit.call("ListVersionsByFunction", list).await.unwrap_err();
    }

    #[tokio::test]
    async fn a_redundant_update_publishes_nothing_new() {
        let kit = Kit::new();
        kit.create("f").await;
        let publish = || kit.call("PublishVersion", json!({"FunctionName": "f"}));
        assert_eq!(publish().await.unwrap()["Version"], "1");
        let same = json!({"FunctionName": "f", "Timeout": 3});
        kit.call("UpdateFunctionConfiguration", same).await.unwrap();
        let same = json!({"FunctionName": "f", "ZipFile": kit.base64(&kit.zip), "Publish": true});
        let shown = kit.call("UpdateFunctionCode", same).await.unwrap();
        assert_eq!((&shown["Version"], &shown["State"]), (&json!("1"), &json!("Active")));
        assert_eq!(publish().await.unwrap()["Version"], "1");
        let other = json!({"FunctionName": "f", "Timeout": 4});
        kit.call("UpdateFunctionConfiguration", other).await.unwrap();
        assert_eq!(publish().await.unwrap()["Version"], "2");
    }
}
