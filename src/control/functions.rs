//! Functions: made, shown and listed.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::code::{Source, Stored, collisions, kept};
use super::configuration::{Wanted, begun};
use super::deletion::deleted_key;
use super::layer_refs::check_unzipped;
use super::lookup::{self, PAGE, Qualified, attempt, now_text, replace, uuid};
use super::names::LATEST;
use super::records::{FunctionRecord, VersionRecord, function_key, version_key};
use super::shown::Phase;
use super::tags::{Tags, check_tags};
use super::versions::publish;
use super::{Control, ControlError, answer, checks, request};
use crate::store::Batch;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Create {
    function_name: String,
    code: Source,
    publish: Option<bool>,
    publish_to: Option<String>,
    package_type: Option<String>,
    architectures: Option<Vec<String>>,
    tags: Option<Tags>,
    code_signing_config_arn: Option<String>,
    #[serde(flatten)]
    wanted: Wanted,
}

/// A function, and one of its versions.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Named {
    function_name: String,
    qualifier: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct List {
    function_version: Option<String>,
    marker: Option<String>,
    max_items: Option<usize>,
}

/// # Errors
/// For what would have to be published elsewhere than as a version with a number.
pub(super) fn check_publish_to(publish_to: Option<&str>) -> Result<(), ControlError> {
    match publish_to {
        Some(_) => Err(ControlError::invalid("PublishTo is not supported.")),
        None => Ok(()),
    }
}

impl Control {
    /// Names of functions, in order, at most so many.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn function_names(&self, most: usize) -> Result<Vec<String>, ControlError> {
        let entries = self.store.scan("function/", None, most).await?;
        Ok(entries
            .iter()
            .filter_map(|e| Some(e.key.strip_prefix("function/")?.to_owned()))
            .collect())
    }

    /// CreateFunction.
    ///
    /// # Errors
    /// AWS's.
    pub async fn create_function(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let mut create: Create = request(members)?;
        let name = self.resolve_name(&create.function_name, None)?;
        if let Some(qualifier) = name.qualifier.filter(|q| q != LATEST) {
            let text = format!("A function is created without a qualifier: {qualifier}");
            return Err(ControlError::invalid(text));
        }
        let name = name.name;
        checks::new_name(&name)?;
        check_publish_to(create.publish_to.as_deref())?;
        if create.package_type.as_deref() == Some("Image") {
            create.code.image_uri.get_or_insert_default(); // refused with the words for code
        }
        let mut latest = begun(&name);
        if let Some(architectures) = create.architectures {
            checks::architectures(&architectures)?;
            latest.architectures = architectures;
        }
        let tags = create.tags.unwrap_or_default();
        check_tags(&tags)?;
        self.configure(&name, &mut latest, &create.wanted).await?;
        if let Some(arn) = &create.code_signing_config_arn {
            self.check_signing(arn).await?;
        }
        if self.find_function(&name).await?.is_some() {
            return Err(already_there(&name));
        }

        let Stored { code, gate } =
            self.store_code(create.code, collisions(latest.runtime.as_deref())).await?;
        latest.code = code;
        // Again: from here on the gate keeps their code.
        latest.layers = self.layer_refs_of(&latest).await?;
        check_unzipped(&latest)?;
        latest.revision_id = uuid();
        latest.last_modified = now_text();
        let mut record = FunctionRecord {
            id: uuid(),
            name: name.clone(),
            next_version: 1,
            latest,
            reserved_concurrency: None,
            code_signing_config_arn: create.code_signing_config_arn,
            recursive_loop: None,
            tags,
            published: None,
        };
        // Between the two revisions lies the time in which AWS makes the function.
        let mut shown = record.latest.clone();
        record.latest.revision_id = uuid();
        let mut batch = Batch::default();
        if create.publish == Some(true) {
            shown.version = publish(&mut batch, &mut record, None)?.version;
        }
        batch.put.extend(kept(&name, &record.latest)?);
        batch.expect.push((deleted_key(&name), None));
        replace(&mut batch, function_key(&name), None, &record)?;

        let gate = Arc::new(gate);
        attempt!({
            self.finish_deletion(&name).await?;
            if self.find_function(&name).await?.is_some() {
                return Err(already_there(&name));
            }
            self.commit_holding(batch.clone(), Some(&name), gate.clone()).await
        })?;
        self.configuration(&name, None, &shown, Phase::Creating)
    }

    /// GetFunction. The code's location is `kennel:code/SHA256`, for the front door to make an address of.
    ///
    /// # Errors
    /// AWS's.
    pub async fn get_function(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let (function, version, configuration) = self.wanted_version(members).await?;
        let concurrency =
            function.reserved_concurrency.map(|n| json!({"ReservedConcurrentExecutions": n}));
        answer(json!({
            "Configuration": configuration,
            "Code": {
                "RepositoryType": "S3",
                "Location": format!("kennel:code/{}", version.code.sha256),
            },
            "Tags": (!function.tags.is_empty()).then_some(&function.tags),
            "Concurrency": concurrency,
        }))
    }

    /// GetFunctionConfiguration.
    ///
    /// # Errors
    /// AWS's.
    pub async fn get_function_configuration(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let (_, _, configuration) = self.wanted_version(members).await?;
        Ok(configuration)
    }

    /// The version that a request names, and how it is shown.
    async fn wanted_version(
        &self,
        members: Map<String, Value>,
    ) -> Result<(FunctionRecord, VersionRecord, Map<String, Value>), ControlError> {
        let named: Named = request(members)?;
        let named = self.resolve_name(&named.function_name, named.qualifier.as_deref())?;
        let (name, qualifier) = (named.name, named.qualifier);
        let missing = || self.function_missing(&name, qualifier.as_deref());
        let function = self.find_function(&name).await?.ok_or_else(missing)?.record;
        let version = match &qualifier {
            None => function.latest.clone(),
            Some(qualifier) => self.version_of(&function, qualifier).await?.ok_or_else(missing)?,
        };
        let shown = self.configuration(&name, qualifier.as_deref(), &version, Phase::Settled)?;
        Ok((function, version, shown))
    }

    /// The version that a qualifier leads to: itself, or the one that an alias gives most invocations.
    pub(super) async fn version_of(
        &self,
        function: &FunctionRecord,
        qualifier: &str,
    ) -> Result<Option<VersionRecord>, ControlError> {
        let alias = match self.find_qualified(&function.name, qualifier).await? {
            None => return Ok(None),
            Some(Qualified::Latest) => return Ok(Some(function.latest.clone())),
            Some(Qualified::Version(found)) => {
                return Ok(Some(found.record).filter(|version| version.version == qualifier));
            }
            Some(Qualified::Alias(found)) => found.record,
        };
        if alias.version == LATEST {
            return Ok(Some(function.latest.clone()));
        }
        let Ok(number) = alias.version.parse() else { return Ok(None) };
        let found = self.read(&version_key(&function.name, number)).await?;
        Ok(found.map(|(version, _)| version))
    }

    /// ListFunctions: at most 50 in a page, as AWS has it. With `FunctionVersion` `ALL` each function's versions follow
    /// its `$LATEST`.
    ///
    /// # Errors
    /// A marker that is none; the store's.
    pub async fn list_functions(
        &self,
        members: Map<String, Value>,
    ) -> Result<Map<String, Value>, ControlError> {
        let list: List = request(members)?;
        let most = list.max_items.unwrap_or(PAGE).clamp(1, PAGE);
        let all = list.function_version.as_deref() == Some("ALL");
        let after = lookup::after_marker("", list.marker.as_deref())?;
        let mut found = self.walk_functions(all, after, most + 1).await?;
        let next = (found.len() > most).then(|| {
            found.truncate(most);
            found.last().map(|(key, _, _)| lookup::marker("", key))
        });
        let functions: Result<Vec<_>, _> = found
            .iter()
            .map(|(_, name, version)| {
                let qualifier = all.then_some(version.version.as_str());
                self.configuration(name, qualifier, version, Phase::Listed)
            })
            .collect();
        answer(json!({"Functions": functions?, "NextMarker": next}))
    }

    /// Versions with their function's name after a key, at most `limit`: every `$LATEST`, or all. A function's key is
    /// that of its record, a published version's that of the version.
    async fn walk_functions(
        &self,
        all: bool,
        after: Option<String>,
        limit: usize,
    ) -> Result<Vec<(String, String, VersionRecord)>, ControlError> {
        let mut found = Vec::new();
        let mut last = after;
        if all && let Some(key) = last.take() {
            // Within a function: the rest of its versions first.
            let mut parts = key.split('/').skip(1);
            let name = parts.next().unwrap_or_default().to_owned();
            let version = parts.next().is_some().then_some(key.as_str());
            self.walk_versions(&name, version, limit, &mut found).await?;
            last = Some(function_key(&name));
        }
        while found.len() < limit {
            let wanted = limit - found.len();
            let page: Vec<(String, FunctionRecord)> =
                self.list("function/", last.as_deref(), wanted).await?;
            let ended = page.len() < wanted;
            for (key, function) in page {
                if found.len() >= limit {
                    break;
                }
                last = Some(key.clone());
                let name = function.name;
                found.push((key, name.clone(), function.latest));
                if all {
                    self.walk_versions(&name, None, limit, &mut found).await?;
                }
            }
            if ended {
                break;
            }
        }
        Ok(found)
    }

    async fn walk_versions(
        &self,
        name: &str,
        after: Option<&str>,
        limit: usize,
        found: &mut Vec<(String, String, VersionRecord)>,
    ) -> Result<(), ControlError> {
        let prefix = format!("version/{name}/");
        let versions = self.list(&prefix, after, limit.saturating_sub(found.len())).await?;
        found.extend(versions.into_iter().map(|(key, version)| (key, name.to_owned(), version)));
        Ok(())
    }
}

fn already_there(name: &str) -> ControlError {
    ControlError::conflict(format!("Function already exist: {name}"))
}

#[cfg(test)]
mod tests {
    use super::super::replay::Kit;
    use super::*;
    use crate::control::ErrorKind;

    #[tokio::test]
    async fn functions_come_in_pages_of_at_most_fifty() {
        let kit = Kit::new();
        for n in 0..60 {
            kit.create(&format!("f{n:02}")).await;
        }
        for _ in 0..3 {
            let update = json!({"FunctionName": "f07", "Description": uuid()});
            kit.call("UpdateFunctionConfiguration", update).await.unwrap();
            kit.call("PublishVersion", json!({"FunctionName": "f07"})).await.unwrap();
        }
        let shown = kit.call("ListFunctions", json!({"MaxItems": 10_000})).await.unwrap();
        assert_eq!(shown["Functions"].as_array().unwrap().len(), 50);
        assert!(shown.contains_key("NextMarker"));

        let arn = |suffix: &str| kit.control.settings.function_arn(suffix, None);
        let names: Vec<String> = (0..60).map(|n| format!("f{n:02}")).collect();
        let latest: Vec<String> = names.iter().map(|name| arn(name)).collect();
        let mut every: Vec<String> = Vec::new();
        for name in &names {
            every.push(arn(&format!("{name}:$LATEST")));
            if name == "f07" {
                every.extend((1..=3).map(|n| arn(&format!("f07:{n}"))));
            }
        }
        for size in [1, 7, 9, 50] {
            for (list, want) in [(json!({}), &latest), (json!({"FunctionVersion": "ALL"}), &every)]
            {
                let all = kit.pages("ListFunctions", list, "Functions", size).await;
                let arns: Vec<_> = all.iter().map(|f| f["FunctionArn"].as_str().unwrap()).collect();
                assert_eq!(&arns, want, "{size}");
            }
        }
        let all = kit.call("ListFunctions", json!({"MaxItems": 1})).await.unwrap();
        let first = all["Functions"][0].as_object().unwrap();
        assert!(!first.contains_key("State") && !first.contains_key("LastUpdateStatus"));
    }

    #[tokio::test]
    async fn a_name_is_taken_once() {
        let kit = Kit::new();
        let (a, b) = tokio::join!(kit.create_with("f", json!({})), kit.create_with("f", json!({})));
        let refused = a.and(b).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::ResourceConflict);
        assert_eq!(refused.message, "Function already exist: f");
        // One created it.
        assert_eq!(kit.keys("function/").await, ["function/f"]);
    }

    #[tokio::test]
    async fn the_function_is_shown_with_its_code_tags_and_concurrency() {
        let kit = Kit::new();
        kit.create_with("f", json!({"Tags": {"team": "a"}})).await.unwrap();
        let mut function = kit.control.find_function("f").await.unwrap().unwrap().record;
        function.reserved_concurrency = Some(0);
        kit.put("function/f", serde_json::to_value(&function).unwrap()).await;
        let shown = kit.call("GetFunction", json!({"FunctionName": "f"})).await.unwrap();
        assert_eq!(shown["Tags"], json!({"team": "a"}));
        assert_eq!(shown["Concurrency"], json!({"ReservedConcurrentExecutions": 0}));
        let hex = crate::package::Digest::of(&kit.zip).hex();
        assert_eq!(shown["Code"]["Location"], format!("kennel:code/{hex}"));
        let sha = kit.base64(crate::package::Digest::of(&kit.zip).as_bytes());
        assert_eq!(shown["Configuration"]["CodeSha256"], sha);
        assert_eq!(shown["Configuration"]["CodeSize"], kit.zip.len());
    }

    #[tokio::test]
    async fn only_the_hosts_architecture_runs() {
        let kit = Kit::new();
        let here = checks::host_architecture();
        let other = if here == "arm64" { "x86_64" } else { "arm64" };
        let of = |name: &'static str, arch: &str| {
            kit.create_with(name, json!({"Architectures": [arch]}))
        };
        assert_eq!(of("f", here).await.unwrap()["Architectures"], json!([here]));
        let text =
            format!("Functions of architecture {other} cannot run here: this host is {here}.");
        assert_eq!(of("g", other).await.unwrap_err().message, text);
        let update =
            json!({"FunctionName": "f", "ZipFile": kit.base64(&kit.zip), "Architectures": [other]});
        assert_eq!(kit.call("UpdateFunctionCode", update).await.unwrap_err().message, text);
    }

    #[tokio::test]
    async fn code_signing_is_kept_to() {
        let kit = Kit::new();
        let more = |id: &str| {
            let arn = format!("arn:aws:lambda:us-east-1:000000000000:code-signing-config:{id}");
            json!({"CodeSigningConfigArn": arn})
        };
        let sign = async |id: &str, policy: &str| {
            let record = json!({"id": id, "publishers": [], "policy": policy, "last_modified": ""});
            kit.put(&format!("signing/{id}"), record).await;
        };
        let error = kit.create_with("f", more("csc-1")).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::CodeSigningConfigNotFound);
        sign("csc-1", "Warn").await;
        kit.create_with("f", more("csc-1")).await.unwrap();
        sign("csc-2", "Enforce").await;
        let error = kit.create_with("g", more("csc-2")).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidCodeSignature);
        // A configuration that became strict later.
        let update = json!({"FunctionName": "f", "ZipFile": kit.base64(&kit.other_zip)});
        kit.call("UpdateFunctionCode", update.clone()).await.unwrap();
        sign("csc-1", "Enforce").await;
        let error = kit.call("UpdateFunctionCode", update).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidCodeSignature);
    }
}
