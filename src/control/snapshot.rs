//! What invocations need of a function, read once and kept until a change: [`Snapshot`], and [`Target`] which a
//! qualifier leads to.
//!
//! A value that a commit has overtaken while it was read is handed out once and not kept: whoever reads says so first
//! ([`Snapshots::begin`]), and a commit marks all who are at it.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use serde::de::DeserializeOwned;

use super::names::LATEST;
use super::records::{AliasRecord, FunctionRecord, Snapshot, Target, VersionRecord, function_key};
use super::{Control, ControlError};

/// How often a read starts again because a commit came between.
const ROUNDS: usize = 8;
/// Records of one kind that are read at a time.
const PAGE: usize = 500;

/// Snapshots by function, and who is reading one.
#[derive(Debug, Default)]
pub(super) struct Snapshots(RwLock<State>);

#[derive(Debug, Default)]
struct State {
    kept: HashMap<String, Arc<Snapshot>>,
    readers: HashMap<String, Readers>,
}

#[derive(Debug, Default)]
struct Readers {
    count: usize,
    /// Commits since the first of them began.
    commits: u64,
}

/// A read that is under way; it ends with this.
#[derive(Debug)]
struct Reading<'a> {
    snapshots: &'a Snapshots,
    name: &'a str,
    commits: u64,
}

impl Snapshots {
    fn get(&self, name: &str) -> Option<Arc<Snapshot>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).kept.get(name).cloned()
    }

    /// Drops what is kept of a function, and keeps nothing of what is being read.
    pub(super) fn forget(&self, name: &str) {
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        state.kept.remove(name);
        if let Some(readers) = state.readers.get_mut(name) {
            readers.commits += 1;
        }
    }

    fn begin<'a>(&'a self, name: &'a str) -> Reading<'a> {
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let readers = state.readers.entry(name.to_owned()).or_default();
        readers.count += 1;
        Reading { snapshots: self, name, commits: readers.commits }
    }
}

impl Reading<'_> {
    /// Keeps what was read, unless a commit came between; whether it is kept.
    fn keep(self, snapshot: &Arc<Snapshot>) -> bool {
        let mut state = self.snapshots.0.write().unwrap_or_else(PoisonError::into_inner);
        let undisturbed =
            state.readers.get(self.name).is_some_and(|readers| readers.commits == self.commits);
        if undisturbed {
            state.kept.insert(self.name.to_owned(), snapshot.clone());
        }
        undisturbed
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let mut state = self.snapshots.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(readers) = state.readers.get_mut(self.name) {
            readers.count -= 1;
            if readers.count == 0 {
                state.readers.remove(self.name);
            }
        }
    }
}

impl Control {
    /// Everything of a function that an invocation needs; `None` where there is no such function.
    ///
    /// # Errors
    /// The store's.
    pub async fn snapshot(&self, name: &str) -> Result<Option<Arc<Snapshot>>, ControlError> {
        if let Some(kept) = self.snapshots.get(name) {
            return Ok(Some(kept));
        }
        let mut last = None;
        for _ in 0..ROUNDS {
            let reading = self.snapshots.begin(name);
            let Some(read) = self.read_snapshot(name).await? else { return Ok(None) };
            let read = Arc::new(read);
            if reading.keep(&read) {
                return Ok(Some(read));
            }
            last = Some(read);
        }
        // Changed all the time: the last one is as good as any, and is not kept.
        Ok(last)
    }

    /// What an invocation of `name` goes to: `qualifier` is `$LATEST`, a number, or an alias, which picks one of its
    /// versions by weight.
    ///
    /// # Errors
    /// `ResourceNotFound`, naming `$LATEST` where no qualifier was given and the function is missing; the store's.
    pub async fn target(
        &self,
        name: &str,
        qualifier: Option<&str>,
    ) -> Result<Target, ControlError> {
        if let Some(found) = self.cached_target(name, qualifier) {
            return found;
        }
        match self.snapshot(name).await? {
            Some(snapshot) => self.aim(snapshot, name, qualifier),
            None => Err(self.function_missing(name, Some(qualifier.unwrap_or(LATEST)))),
        }
    }

    /// As [`Self::target`], where the function's snapshot is at hand: `None` says to ask `target`.
    pub fn cached_target(
        &self,
        name: &str,
        qualifier: Option<&str>,
    ) -> Option<Result<Target, ControlError>> {
        let snapshot = self.snapshots.get(name)?;
        Some(self.aim(snapshot, name, qualifier))
    }

    fn aim(
        &self,
        snapshot: Arc<Snapshot>,
        name: &str,
        qualifier: Option<&str>,
    ) -> Result<Target, ControlError> {
        let wanted = qualifier.unwrap_or(LATEST);
        let version = match snapshot.aliases.get(wanted) {
            _ if wanted == LATEST => Some(&snapshot.latest),
            Some(alias) => match picked(alias, fastrand::f64()) {
                LATEST => Some(&snapshot.latest),
                number => snapshot.versions.get(number),
            },
            None => snapshot.versions.get(wanted),
        };
        let Some(version) = version.cloned() else {
            return Err(self.function_missing(name, Some(wanted)));
        };
        Ok(Target {
            snapshot,
            qualifier: wanted.to_owned(),
            invoked_arn: self.settings.function_arn(name, qualifier),
            version,
        })
    }

    async fn read_snapshot(&self, name: &str) -> Result<Option<Snapshot>, ControlError> {
        let Some((function, _)) = self.read::<FunctionRecord>(&function_key(name)).await? else {
            return Ok(None);
        };
        let versions: HashMap<String, VersionRecord> = self.of_function("version", name).await?;
        Ok(Some(Snapshot {
            latest: Arc::new(function.latest.clone()),
            function,
            versions: versions
                .into_values()
                .map(|record| (record.version.clone(), Arc::new(record)))
                .collect(),
            aliases: self.of_function("alias", name).await?,
            policies: self.of_function("policy", name).await?,
            invoke_configs: self.of_function("invoke-config", name).await?,
            provisioned: self.of_function("provisioned", name).await?,
        }))
    }

    /// All records of one kind of a function, by the last part of their key.
    async fn of_function<T: DeserializeOwned>(
        &self,
        kind: &str,
        name: &str,
    ) -> Result<HashMap<String, T>, ControlError> {
        let prefix = format!("{kind}/{name}/");
        let mut found = HashMap::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.list::<T>(&prefix, after.as_deref(), PAGE).await?;
            let ended = page.len() < PAGE;
            after = page.last().map(|(key, _)| key.clone());
            found
                .extend(page.into_iter().map(|(key, record)| (key[prefix.len()..].into(), record)));
            if ended {
                return Ok(found);
            }
        }
    }
}

/// The version that an alias gives an invocation. `chance` is in 0..1.
fn picked(alias: &AliasRecord, chance: f64) -> &str {
    let mut reached = 0.0;
    for (version, weight) in &alias.weights {
        reached += weight;
        if chance < reached {
            return version;
        }
    }
    &alias.version
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::replay::Kit;
    use super::*;
    use crate::control::ErrorKind;

    #[test]
    fn an_alias_picks_by_weight() {
        let mut alias = AliasRecord {
            name: "live".into(),
            version: "1".into(),
            description: String::new(),
            weights: [("2".to_owned(), 0.25)].into(),
            revision_id: "r".into(),
        };
        for (chance, version) in [(0.0, "2"), (0.249, "2"), (0.25, "1"), (0.999, "1")] {
            assert_eq!(picked(&alias, chance), version, "{chance}");
        }
        alias.weights.clear();
        assert_eq!(picked(&alias, 0.0), "1");
    }

    #[tokio::test]
    async fn a_qualifier_leads_to_a_version() {
        let kit = Kit::new();
        kit.create("f").await;
        kit.call("PublishVersion", json!({"FunctionName": "f"})).await.unwrap();
        let live = json!({"FunctionName": "f", "Name": "live", "FunctionVersion": "1"});
        kit.call("CreateAlias", live).await.unwrap();
        let arn = kit.control.settings.function_arn("f", None);
        for (qualifier, version, suffix) in [
            (None, "$LATEST", ""),
            (Some("$LATEST"), "$LATEST", ":$LATEST"),
            (Some("1"), "1", ":1"),
            (Some("live"), "1", ":live"),
        ] {
            let target = kit.control.target("f", qualifier).await.unwrap();
            assert_eq!(target.version.version, version, "{qualifier:?}");
            assert_eq!(target.invoked_arn, format!("{arn}{suffix}"), "{qualifier:?}");
            assert_eq!(target.qualifier, qualifier.unwrap_or("$LATEST"));
            assert!(kit.control.cached_target("f", qualifier).is_some(), "{qualifier:?}");
        }
        for (name, qualifier, said) in [
            ("f", Some("9"), "f:9"),
            ("f", Some("nobody"), "f:nobody"),
            ("f", Some("01"), "f:01"),
            ("g", None, "g:$LATEST"),
            ("g", Some("live"), "g:live"),
        ] {
            let error = kit.control.target(name, qualifier).await.unwrap_err();
            assert_eq!(error.kind, ErrorKind::ResourceNotFound);
            let text = "Function not found: arn:aws:lambda:us-east-1:000000000000:function:";
            assert_eq!(error.message, format!("{text}{said}"));
        }
    }

    #[tokio::test]
    async fn a_change_is_seen_by_the_next_invocation() {
        let kit = Kit::new();
        kit.create("f").await;
        assert_eq!(kit.control.target("f", None).await.unwrap().version.timeout_s, 3);
        let change = json!({"FunctionName": "f", "Timeout": 9});
        kit.call("UpdateFunctionConfiguration", change).await.unwrap();
        assert!(kit.control.cached_target("f", None).is_none());
        assert_eq!(kit.control.target("f", None).await.unwrap().version.timeout_s, 9);
        kit.call("DeleteFunction", json!({"FunctionName": "f"})).await.unwrap();
        assert!(kit.control.target("f", None).await.is_err());
    }

    #[tokio::test]
    async fn what_a_commit_overtook_is_not_kept() {
        let kit = Kit::new();
        kit.create("f").await;
        let snapshots = &kit.control.snapshots;
        let old = Arc::new(kit.control.read_snapshot("f").await.unwrap().unwrap());

        let overtaken = snapshots.begin("f");
        snapshots.forget("f");
        // One that began afterwards is not disturbed, also while the first is still at it.
        let later = snapshots.begin("f");
        assert!(!overtaken.keep(&old));
        assert!(snapshots.get("f").is_none());
        assert!(later.keep(&old));
        assert!(snapshots.get("f").is_some());

        // Nothing stays of reads that ended, however they ended.
        drop(snapshots.begin("nobody"));
        let state = snapshots.0.read().unwrap();
        assert!(state.readers.is_empty(), "{:?}", state.readers);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_reader_sees_what_was_before_an_answered_change() {
        let kit = Arc::new(Kit::new());
        kit.create("f").await;
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let kit = kit.clone();
                tokio::spawn(async move {
                    let mut last = 0;
                    while last < 60 {
                        let seen = kit.control.target("f", None).await.unwrap().version.timeout_s;
                        assert!(seen >= last, "{seen} after {last}");
                        last = seen;
                        tokio::task::yield_now().await;
                    }
                })
            })
            .collect();
        for seconds in 4..=60 {
            let change = json!({"FunctionName": "f", "Timeout": seconds});
            kit.call("UpdateFunctionConfiguration", change).await.unwrap();
            let seen = kit.control.target("f", None).await.unwrap().version.timeout_s;
            assert_eq!(seen, seconds);
        }
        for reader in readers {
            reader.await.unwrap();
        }
    }
}
