//! Removes code that belongs to nobody: a zip or tree whose digest no key `code/SHA256/…` names and no instance runs.
//!
//! What may go is found first and without a lock; then, one by one and under the exclusive gate, each is looked at
//! again and removed. Code that is being stored holds the gate shared until its key is written, so whoever has the gate
//! alone sees a key for everything that is needed. Nobody waits for the collector: where the gate is not free for a
//! while, the rest stays until the next time.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::time::Duration;

use tokio::sync::OwnedRwLockWriteGuard;

use super::code::{blocking, code_key};
use super::{Control, ControlError};
use crate::package::{Digest, PackageError};

/// Keys read at a time.
const PAGE: usize = 1000;
/// How long the gate is tried for, and how often.
const TRIES: (u32, Duration) = (20, Duration::from_millis(10));

impl Control {
    /// Removes zips and trees that no record names and that `in_use`, asked with the SHA-256 in hex, denies; finishes
    /// deletions of functions that were interrupted. Returns how many digests went.
    ///
    /// # Errors
    /// The store's, the disk's: what was removed until then is gone.
    pub async fn collect_code(
        &self,
        in_use: &(dyn Fn(&str) -> bool + Sync),
    ) -> Result<u64, ControlError> {
        self.finish_deletions().await?;
        let (trees, zips) = (self.shared_trees(), self.settings.code_folder.join("zip"));
        let on_disk = blocking(move || {
            let mut found: BTreeSet<String> = trees.digests()?.iter().map(Digest::hex).collect();
            match fs::read_dir(&zips) {
                Ok(entries) => {
                    for entry in entries {
                        let entry = entry.map_err(|source| list_failed(&zips, source))?;
                        // Half-written ones too: no crash may leave something for ever.
                        found.extend(entry.file_name().into_string());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(list_failed(&zips, source)),
            }
            Ok(found)
        })
        .await??;

        let named = self.named_code().await?;
        let mut removed = 0;
        for name in on_disk.difference(&named) {
            let Some(gate) = self.code_gate_alone().await else { break };
            removed += u64::from(self.remove_code(name, in_use, gate).await?);
        }
        Ok(removed)
    }

    /// The gate, where it is free within a while. A writer that waited would hold up all who come after it.
    async fn code_gate_alone(&self) -> Option<OwnedRwLockWriteGuard<()>> {
        for _ in 0..TRIES.0 {
            if let Ok(gate) = self.code_gate.clone().try_write_owned() {
                return Some(gate);
            }
            tokio::time::sleep(TRIES.1).await;
        }
        None
    }

    /// Digests that a key names.
    async fn named_code(&self) -> Result<BTreeSet<String>, ControlError> {
        let mut named = BTreeSet::new();
        let mut after: Option<String> = None;
        loop {
            let entries = self.store.scan("code/", after.as_deref(), PAGE).await?;
            named.extend(entries.iter().filter_map(|e| e.key.split('/').nth(1)).map(str::to_owned));
            if entries.len() < PAGE {
                return Ok(named);
            }
            after = entries.last().map(|entry| entry.key.clone());
        }
    }

    /// Removes one zip and tree, unless somebody came to need it meanwhile.
    async fn remove_code(
        &self,
        name: &str,
        in_use: &(dyn Fn(&str) -> bool + Sync),
        gate: OwnedRwLockWriteGuard<()>,
    ) -> Result<bool, ControlError> {
        if !self.store.scan(&code_key(name, ""), None, 1).await?.is_empty() || in_use(name) {
            return Ok(false);
        }
        let (trees, zip) = (self.shared_trees(), self.zip_path(name));
        let digest: Option<Digest> = name.parse().ok();
        blocking(move || {
            match fs::remove_file(&zip) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(ControlError::internal("cannot remove a zip").caused_by(source));
                }
                _ => {}
            }
            if let Some(digest) = &digest {
                trees.remove(digest)?;
            }
            drop(gate);
            Ok(true)
        })
        .await?
    }
}

fn list_failed(path: &std::path::Path, source: io::Error) -> PackageError {
    PackageError::Store { action: "list", path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::replay::{Kit, zip_of};
    use super::*;
    use crate::control::code::Source;
    use crate::package::CaseCollisions;

    fn nobody(_: &str) -> bool {
        false
    }

    fn is_there(kit: &Kit, digest: &Digest) -> (bool, bool) {
        (kit.control.zip_path(&digest.hex()).exists(), kit.control.trees.path(digest).exists())
    }

    #[tokio::test]
    async fn what_a_record_names_stays_and_the_rest_goes() {
        let kit = Kit::new();
        let (first, second) = (Digest::of(&kit.zip), Digest::of(&kit.other_zip));
        kit.create("f").await;
        kit.call("PublishVersion", json!({"FunctionName": "f"})).await.unwrap();
        let update = json!({"FunctionName": "f", "ZipFile": kit.base64(&kit.other_zip)});
        kit.call("UpdateFunctionCode", update).await.unwrap();
        let half = kit.control.zip_path("tmp-crashed");
        fs::write(&half, b"PK").unwrap();

        // Version 1 still has the first code.
        assert_eq!(kit.control.collect_code(&nobody).await.unwrap(), 1);
        assert!(!half.exists());
        assert_eq!((is_there(&kit, &first), is_there(&kit, &second)), ((true, true), (true, true)));

        let version = json!({"FunctionName": "f", "Qualifier": "1"});
        kit.call("DeleteFunction", version).await.unwrap();
        let busy = |hex: &str| hex == first.hex();
        assert_eq!(kit.control.collect_code(&busy).await.unwrap(), 0);
        assert_eq!(is_there(&kit, &first), (true, true));
        assert_eq!(kit.control.collect_code(&nobody).await.unwrap(), 1);
        assert_eq!(
            (is_there(&kit, &first), is_there(&kit, &second)),
            ((false, false), (true, true))
        );

        kit.call("DeleteFunction", json!({"FunctionName": "f"})).await.unwrap();
        assert_eq!(kit.control.collect_code(&nobody).await.unwrap(), 1);
        assert_eq!(is_there(&kit, &second), (false, false));
        assert_eq!(kit.keys("").await, Vec::<String>::new());
    }

    #[tokio::test]
    async fn code_that_waits_for_its_record_stays() {
        let kit = Kit::new();
        let zip = zip_of(&[("app.py", b"x = 1\n")]);
        let source = Source { zip_file: Some(kit.base64(&zip)), ..Source::default() };
        let stored = kit.control.store_code(source, CaseCollisions::Refuse).await.unwrap();
        let digest = Digest::of(&zip);
        assert_eq!(kit.control.collect_code(&nobody).await.unwrap(), 0);
        assert_eq!(is_there(&kit, &digest), (true, true));
        // Given up, with nothing written: it is nobody's.
        drop(stored);
        assert_eq!(kit.control.collect_code(&nobody).await.unwrap(), 1);
        assert_eq!(is_there(&kit, &digest), (false, false));
    }

    #[tokio::test]
    async fn a_layer_stays_while_a_version_has_it() {
        let kit = Kit::new();
        let zip = zip_of(&[("python/lib.py", b"x = 1\n")]);
        let digest = Digest::of(&zip);
        let arn = kit.layer("lib", 1, &zip).await;
        kit.create_with("f", json!({"Layers": [arn]})).await.unwrap();
        kit.call("PublishVersion", json!({"FunctionName": "f"})).await.unwrap();
        kit.unlayer("lib", 1, &digest).await;
        let none = json!({"FunctionName": "f", "Layers": []});
        kit.call("UpdateFunctionConfiguration", none).await.unwrap();
        assert_eq!(kit.control.collect_code(&nobody).await.unwrap(), 0);
        assert_eq!(is_there(&kit, &digest), (true, true));
        kit.call("DeleteFunction", json!({"FunctionName": "f:1"})).await.unwrap();
        assert_eq!(kit.control.collect_code(&nobody).await.unwrap(), 1);
        assert_eq!(is_there(&kit, &digest), (false, false));
        assert_eq!(is_there(&kit, &Digest::of(&kit.zip)), (true, true));
    }
}
