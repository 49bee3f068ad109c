//! Tags of functions, event source mappings and code-signing configurations.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::lookup::{Found, attempt, fence, replace, uuid};
use super::records::FunctionRecord;
use super::{Control, ControlError, answer, mappings, request, signing};
use crate::store::Batch;

pub type Tags = BTreeMap<String, String>;

/// AWS's limit on the tags of one resource.
pub const MAX_TAGS: usize = 50;
/// Keys that begin so are AWS's own.
const RESERVED: &str = "aws:";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Resource {
    resource: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TagResource {
    resource: String,
    tags: Tags,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UntagResource {
    resource: String,
    tag_keys: Vec<String>,
}

/// What an ARN names that can have tags.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Function(String),
    Mapping(String),
    Signing(String),
}

enum Tagged {
    Function(Box<Found<FunctionRecord>>),
    Mapping(String, Found<mappings::MappingRecord>),
    Signing(String, Found<signing::SigningRecord>),
}

impl Tagged {
    fn tags(&mut self) -> &mut Tags {
        match self {
            Self::Function(function) => &mut function.record.tags,
            Self::Mapping(_, mapping) => &mut mapping.record.tags,
            Self::Signing(_, config) => &mut config.record.tags,
        }
    }
}

/// Checks the tags that a resource would have.
///
/// # Errors
/// More than AWS's limit; a key of AWS's own.
pub(crate) fn check_tags(tags: &Tags) -> Result<(), ControlError> {
    if tags.len() > MAX_TAGS {
        return Err(ControlError::invalid("Number of tags exceeds resource tag limit."));
    }
    if let Some(key) = tags.keys().find(|key| key.to_ascii_lowercase().starts_with(RESERVED)) {
        let text = format!(
            "Tag key '{key}' is invalid: keys that begin with '{RESERVED}' are reserved for system use."
        );
        return Err(ControlError::invalid(text));
    }
    Ok(())
}

impl Control {
    /// `ListTags`.
    pub async fn list_tags(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: Resource = request(members)?;
        let kind = self.taggable(&asked.resource)?;
        let mut tagged = self.tagged(&kind, &asked.resource).await?;
        answer(json!({ "Tags": tagged.tags() }))
    }

    /// `TagResource`.
    pub async fn tag_resource(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: TagResource = request(members)?;
        if asked.tags.is_empty() {
            let text = "An error occurred and the request cannot be processed.";
            return Err(ControlError::invalid(text));
        }
        self.change_tags(&asked.resource, |tags| {
            tags.extend(asked.tags.clone());
            check_tags(tags)
        })
        .await
    }

    /// `UntagResource`; keys that the resource does not have are passed over.
    pub async fn untag_resource(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let asked: UntagResource = request(members)?;
        self.change_tags(&asked.resource, |tags| {
            tags.retain(|key, _| !asked.tag_keys.contains(key));
            Ok(())
        })
        .await
    }

    async fn change_tags(
        &self,
        arn: &str,
        change: impl Fn(&mut Tags) -> Result<(), ControlError>,
    ) -> Result<Map<String, Value>, ControlError> {
        let kind = self.taggable(arn)?;
        attempt!({
            let mut tagged = self.tagged(&kind, arn).await?;
            change(tagged.tags())?;
            let mut batch = Batch::default();
            match tagged {
                Tagged::Function(mut function) => {
                    // On AWS too, tags belong to what a revision id stands for.
                    function.record.latest.revision_id = uuid();
                    fence(&mut batch, &function)?;
                    self.commit(batch, Some(&function.record.name)).await
                }
                Tagged::Mapping(key, mapping) => {
                    replace(&mut batch, key, Some(mapping.revision), &mapping.record)?;
                    self.commit(batch, None).await
                }
                Tagged::Signing(key, config) => {
                    replace(&mut batch, key, Some(config.revision), &config.record)?;
                    self.commit(batch, None).await
                }
            }
        })?;
        Ok(Map::new())
    }

    fn taggable(&self, arn: &str) -> Result<Kind, ControlError> {
        let parts: Vec<&str> = arn.splitn(7, ':').collect();
        let ours = parts.get(3) == Some(&self.settings.region.as_str())
            && parts.get(4) == Some(&self.settings.account.as_str());
        let id = parts.get(6).copied().unwrap_or_default();
        match parts.get(5).copied() {
            Some("function") => {
                let named = self.resolve_name(arn, None)?;
                if named.qualifier.is_some() {
                    let text = "Tags on function aliases and versions are not supported. Please specify a function ARN.";
                    return Err(ControlError::invalid(text));
                }
                Ok(Kind::Function(named.name))
            }
            Some("event-source-mapping") if ours => Ok(Kind::Mapping(id.to_ascii_lowercase())),
            Some("code-signing-config") if ours => Ok(Kind::Signing(id.to_owned())),
            Some(other) => Err(not_taggable(other, arn)),
            None => Err(ControlError::invalid("The resource is no ARN.")),
        }
    }

    async fn tagged(&self, kind: &Kind, arn: &str) -> Result<Tagged, ControlError> {
        let found = match kind {
            Kind::Function(name) => {
                let found = self.find_function(name).await?;
                found.map(|function| Tagged::Function(Box::new(function)))
            }
            Kind::Mapping(id) => {
                let key = mappings::mapping_key(id);
                self.find(&key).await?.map(|mapping| Tagged::Mapping(key, mapping))
            }
            Kind::Signing(id) => {
                let key = signing::signing_key(id);
                self.find(&key).await?.map(|config| Tagged::Signing(key, config))
            }
        };
        let kind = match kind {
            Kind::Function(_) => "function",
            Kind::Mapping(_) => "event-source-mapping",
            Kind::Signing(_) => "code-signing-config",
        };
        found.ok_or_else(|| not_taggable(kind, arn))
    }
}

/// AWS's text for a resource that is not there, by the kind in its ARN.
fn not_taggable(kind: &str, arn: &str) -> ControlError {
    let what = match kind {
        "function" => "Function",
        "event-source-mapping" => "Event source mapping",
        "code-signing-config" => "Code signing config",
        "capacity-provider" => "Capacity provider",
        "network-connector" => "Network connector",
        _ => "Resource",
    };
    ControlError::not_found(format!("{what} not found: {arn}"))
}

#[cfg(test)]
mod tests {
    use super::super::lookup::tests::{Bench, error, function_arn, members};
    use super::*;
    use crate::control::ErrorKind;

    #[tokio::test]
    async fn tags_live_as_recorded() {
        let bench = Bench::new().await;
        bench.function("f").await;
        let arn = function_arn("f");
        let list = async || {
            let listed = bench.control.list_tags(members(json!({ "Resource": arn }))).await;
            listed.unwrap()["Tags"].clone()
        };
        let tag = async |tags: Value| {
            let asked = members(json!({ "Resource": arn, "Tags": tags }));
            bench.control.tag_resource(asked).await
        };
        let untag = async |keys: Value| {
            let asked = members(json!({ "Resource": arn, "TagKeys": keys }));
            bench.control.untag_resource(asked).await.unwrap();
        };
        assert_eq!(list().await, json!({}));
        tag(json!({"A": "tag-a"})).await.unwrap();
        assert_eq!(list().await, json!({"A": "tag-a"}));
        tag(json!({"B": "tag-b", "C": "tag-c"})).await.unwrap();
        let before = bench.record("f").await.latest.revision_id;
        tag(json!({"C": "tag-c-newsuffix", "D": "tag-d"})).await.unwrap();
        assert_ne!(bench.record("f").await.latest.revision_id, before);
        assert_eq!(
            list().await,
            json!({"A": "tag-a", "B": "tag-b", "C": "tag-c-newsuffix", "D": "tag-d"})
        );
        untag(json!(["A"])).await;
        untag(json!(["B", "C"])).await;
        untag(json!(["F"])).await;
        assert_eq!(list().await, json!({"D": "tag-d"}));
        untag(json!(["D", "F"])).await;
        assert_eq!(list().await, json!({}));
    }

    #[tokio::test]
    async fn what_cannot_be_tagged_is_told_as_aws_tells_it() {
        let bench = Bench::new().await;
        bench.function("f").await;
        let arn = |rest: &str| format!("arn:aws:lambda:us-east-1:000000000000:{rest}");
        let id = "11111111-2222-3333-4444-555555555555";
        let qualified = "Tags on function aliases and versions are not supported. Please specify a function ARN.";
        for (resource, kind, text) in [
            (
                arn("function:doesnotexist"),
                ErrorKind::ResourceNotFound,
                format!("Function not found: {}", arn("function:doesnotexist")),
            ),
            (arn("function:f:$LATEST"), ErrorKind::InvalidParameterValue, qualified.into()),
            (arn("function:f:1"), ErrorKind::InvalidParameterValue, qualified.into()),
            (
                arn(&format!("event-source-mapping:{id}")),
                ErrorKind::ResourceNotFound,
                format!(
                    "Event source mapping not found: {}",
                    arn(&format!("event-source-mapping:{id}"))
                ),
            ),
            (
                arn("capacity-provider:p"),
                ErrorKind::ResourceNotFound,
                format!("Capacity provider not found: {}", arn("capacity-provider:p")),
            ),
            (
                "arn:aws:lambda:eu-west-1:000000000000:function:f".into(),
                ErrorKind::ResourceNotFound,
                "Functions from 'eu-west-1' are not reachable in this region ('us-east-1')".into(),
            ),
        ] {
            for answer in [
                bench.control.list_tags(members(json!({ "Resource": resource }))).await,
                bench
                    .control
                    .tag_resource(members(json!({ "Resource": resource, "Tags": {"a": "b"} })))
                    .await,
                bench
                    .control
                    .untag_resource(members(json!({ "Resource": resource, "TagKeys": ["a"] })))
                    .await,
            ] {
                assert_eq!(error(answer), (kind, text.clone()), "{resource}");
            }
        }
    }

    #[tokio::test]
    async fn tags_have_limits() {
        let bench = Bench::new().await;
        bench.function("f").await;
        let numbered = |from: usize, to: usize| {
            let tags = (from..to).map(|n| (format!("{n}_key"), json!(format!("{n}_value"))));
            Value::Object(tags.collect())
        };
        let tag = async |tags: Value| {
            let asked = members(json!({ "Resource": function_arn("f"), "Tags": tags }));
            bench.control.tag_resource(asked).await
        };
        assert!(error(tag(json!({"aws:x": "y"})).await).1.contains("reserved"));
        let limit = "Number of tags exceeds resource tag limit.";
        assert_eq!(error(tag(numbered(0, 51)).await).1, limit);
        tag(numbered(0, 50)).await.unwrap();
        assert_eq!(error(tag(numbered(50, 51)).await).1, limit);
        tag(numbered(10, 20)).await.unwrap();
        assert_eq!(
            error(tag(json!({})).await).1,
            "An error occurred and the request cannot be processed."
        );
    }
}
