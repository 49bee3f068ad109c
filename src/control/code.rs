//! Code: from a request or S3 to a zip and a tree that are on the disk before a record names them.
//!
//! ```text
//! CODE/zip/<sha256>      the zip as it came, for GetFunction
//! CODE/sha256/<sha256>/  its tree, see `package`
//! ```
//!
//! Every record that names code, its own or a layer's, puts a key `code/SHA256/OWNER` in its own batch, and the batch
//! that drops the record drops the key. So what no key names belongs to nobody, whatever was interrupted; `collect`
//! removes it. [`Stored`] holds the gate that keeps the collector out until the record is written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::OwnedRwLockReadGuard;

use super::lookup::uuid;
use super::records::{CodeRef, VersionRecord};
use super::{Control, ControlError, ErrorKind, encode};
use crate::client::{self, ClientError};
use crate::package::{
    self, AWS_UNZIPPED_BYTES, AWS_ZIPPED_BYTES, CaseCollisions, DEFAULT_ENTRIES, Digest, Limits,
    PackageError, Rule, TreeStore,
};

/// Keys read at a time when the code that is kept is summed up.
const PAGE: usize = 1000;

/// Where a request says that its code is: `FunctionCode`, and the members of UpdateFunctionCode.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Source {
    /// Base64.
    pub zip_file: Option<String>,
    #[serde(rename = "S3Bucket")]
    pub s3_bucket: Option<String>,
    #[serde(rename = "S3Key")]
    pub s3_key: Option<String>,
    #[serde(rename = "S3ObjectVersion")]
    pub s3_object_version: Option<String>,
    pub image_uri: Option<String>,
}

/// Code on the disk that the collector leaves alone while this lives: it goes with the commit of the record.
#[derive(Debug)]
pub(crate) struct Stored {
    pub code: CodeRef,
    pub gate: OwnedRwLockReadGuard<()>,
}

/// A zip in memory.
#[derive(Debug)]
enum Zip {
    Base64(String),
    Bytes(Bytes),
}

/// The key that keeps code while `owner` is there: `function/NAME/VERSION` or `layer/NAME/N`. Its value is the
/// [`CodeRef`].
pub(crate) fn code_key(sha256: &str, owner: &str) -> String {
    format!("code/{sha256}/{owner}")
}

/// The keys, with their values, that keep the code and the layers of a function's version.
pub(super) fn kept(
    function: &str,
    version: &VersionRecord,
) -> Result<Vec<(String, Bytes)>, ControlError> {
    let owner = format!("function/{function}/{}", version.version);
    let all = std::iter::once(&version.code).chain(version.layers.iter().map(|l| &l.code));
    all.map(|code| Ok((code_key(&code.sha256, &owner), encode(code)?))).collect()
}

/// As [`kept`], the keys alone: to be deleted.
pub(super) fn kept_keys(
    function: &str,
    version: &VersionRecord,
) -> Result<Vec<String>, ControlError> {
    Ok(kept(function, version)?.into_iter().map(|(key, _)| key).collect())
}

/// Packages that are unpacked at the same time: one fewer than there are cores.
pub(super) fn unpackers() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1)).max(1)
}

/// How names that differ in case only are taken: a jar of many others has them, `META-INF/LICENSE` beside
/// `META-INF/license/`.
pub(super) fn collisions(runtime: Option<&str>) -> CaseCollisions {
    match runtime {
        Some(name) if name.starts_with("java") => CaseCollisions::Allow,
        _ => CaseCollisions::Refuse,
    }
}

impl Control {
    /// Takes code from where the request says: it is checked, unpacked, and durable when this is done.
    ///
    /// # Errors
    /// AWS's, for a source that is none, a package that is none or is too large, and S3's refusals; no more room for
    /// code.
    pub(crate) async fn store_code(
        &self,
        source: Source,
        collisions: CaseCollisions,
    ) -> Result<Stored, ControlError> {
        let (zip, most) = self.fetch(source).await?;
        let (zip, digest) = blocking(move || zip.read(most)).await??;
        let hex = digest.hex();
        self.leave_room(&hex, zip.len() as u64).await?;

        let gate = self.keep_code().await;
        let turn = self.unpacking.clone().acquire_owned().await;
        let turn = turn.map_err(|e| ControlError::internal(e.to_string()))?;
        let (trees, folder) = (self.trees.clone(), self.settings.code_folder.join("zip"));
        // The gate goes along: a caller who gives up does not stop what is being written.
        blocking(move || {
            let limits = Limits {
                zipped_bytes: most,
                unzipped_bytes: AWS_UNZIPPED_BYTES,
                entries: DEFAULT_ENTRIES,
                case_collisions: collisions,
            };
            let stored = keep(&zip, &digest, &limits, &trees, &folder);
            drop(turn);
            Ok(Stored { code: stored?, gate })
        })
        .await?
    }

    /// Keeps the collector away from all code while the guard lives.
    pub(super) async fn keep_code(&self) -> OwnedRwLockReadGuard<()> {
        self.code_gate.clone().read_owned().await
    }

    /// Bytes of all zips that are kept, each counted once.
    pub(crate) async fn code_bytes(&self) -> Result<u64, ControlError> {
        let mut total: u64 = 0;
        let mut counted = String::new();
        let mut after: Option<String> = None;
        loop {
            let entries = self.store.scan("code/", after.as_deref(), PAGE).await?;
            for entry in &entries {
                let sha256 = entry.key.split('/').nth(1).unwrap_or_default();
                if sha256 != counted {
                    counted = sha256.to_owned();
                    let code = serde_json::from_slice::<CodeRef>(&entry.value);
                    total = total.saturating_add(code.map_or(0, |code| code.zip_bytes));
                }
            }
            if entries.len() < PAGE {
                return Ok(total);
            }
            after = entries.last().map(|entry| entry.key.clone());
        }
    }

    /// The code's bytes, unless they have to be decoded yet, and the most there may be.
    async fn fetch(&self, source: Source) -> Result<(Zip, u64), ControlError> {
        if source.image_uri.is_some() {
            return Err(ControlError::invalid(
                "Container images are not supported; provide the code as a .zip file archive.",
            ));
        }
        let from_s3 = source.s3_bucket.is_some() || source.s3_key.is_some();
        match (source.zip_file, source.s3_bucket, source.s3_key) {
            (Some(_), _, _) if from_s3 || source.s3_object_version.is_some() => {
                let text =
                    "Please do not provide other FunctionCode parameters when providing a ZipFile.";
                Err(ControlError::invalid(text))
            }
            (Some(base64), _, _) => Ok((Zip::Base64(base64), AWS_ZIPPED_BYTES)),
            (None, Some(bucket), Some(key)) => {
                let version = source.s3_object_version.as_deref();
                Ok((Zip::Bytes(self.fetch_s3(&bucket, &key, version).await?), AWS_UNZIPPED_BYTES))
            }
            _ => Err(ControlError::invalid("Please provide a source for function code.")),
        }
    }

    async fn fetch_s3(
        &self,
        bucket: &str,
        key: &str,
        version: Option<&str>,
    ) -> Result<Bytes, ControlError> {
        let Some(endpoint) = &self.settings.s3 else {
            return Err(ControlError::invalid(
                "Error occurred while GetObject. No S3 endpoint is configured here; provide the code as a ZipFile.",
            ));
        };
        let region = &self.settings.region;
        let got = client::get_object(endpoint, region, bucket, key, version, AWS_UNZIPPED_BYTES);
        got.await.map_err(s3_refusal)
    }

    /// Refuses code that there is no more room for. Code that is kept already takes none.
    async fn leave_room(&self, sha256: &str, bytes: u64) -> Result<(), ControlError> {
        let most = self.settings.code_storage_bytes;
        if bytes <= most && !self.store.scan(&code_key(sha256, ""), None, 1).await?.is_empty() {
            return Ok(());
        }
        if self.code_bytes().await?.saturating_add(bytes) > most {
            let text = "Code storage limit exceeded.";
            return Err(ControlError::new(ErrorKind::CodeStorageExceeded, text));
        }
        Ok(())
    }
}

fn s3_refusal(error: ClientError) -> ControlError {
    match &error {
        ClientError::Refused { code, message, .. } => ControlError::invalid(format!(
            "Error occurred while GetObject. S3 Error Code: {code}. S3 Error Message: {message}"
        )),
        ClientError::TooLarge { .. } => too_large_unzipped(),
        _ => {
            let text = "Error occurred while GetObject. The S3 endpoint could not be reached.";
            ControlError::new(ErrorKind::Unavailable, text)
        }
    }
    .caused_by(error)
}

impl Zip {
    /// The bytes, and their digest.
    fn read(self, most: u64) -> Result<(Bytes, Digest), ControlError> {
        let too_large = || {
            let text = format!("Zipped size must be smaller than {most} bytes");
            ControlError::new(ErrorKind::RequestEntityTooLarge, text)
        };
        let bytes = match self {
            // Four digits stand for three bytes: one that is far too long is not decoded first.
            Self::Base64(text) if text.len() as u64 / 4 * 3 > most.saturating_add(3) => {
                return Err(too_large());
            }
            Self::Base64(text) => Bytes::from(STANDARD.decode(text.as_bytes()).map_err(|e| {
                let text = format!("Could not parse request body into json: ZipFile: {e}");
                ControlError::new(ErrorKind::InvalidRequestContent, text)
            })?),
            Self::Bytes(bytes) => bytes,
        };
        if bytes.len() as u64 > most {
            return Err(too_large());
        }
        let digest = Digest::of(&bytes);
        Ok((bytes, digest))
    }
}

/// Unpacks a zip and keeps it, both durably. Not for a thread of the async runtime.
fn keep(
    zip: &Bytes,
    digest: &Digest,
    limits: &Limits,
    trees: &TreeStore,
    folder: &Path,
) -> Result<CodeRef, ControlError> {
    let tree = package::unpack_bytes(zip, digest, limits, trees, &mut |_| {}).map_err(refusal)?;
    keep_zip(zip, digest, folder).map_err(|error| {
        if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            no_room().caused_by(error)
        } else {
            ControlError::internal("cannot keep a zip").caused_by(error)
        }
    })?;
    Ok(CodeRef {
        sha256: digest.hex(),
        zip_bytes: zip.len() as u64,
        unzipped_bytes: tree.unzipped_bytes,
    })
}

/// A zip has its name only when all of it is on the disk.
fn keep_zip(zip: &[u8], digest: &Digest, folder: &Path) -> io::Result<()> {
    let path = folder.join(digest.hex());
    if fs::symlink_metadata(&path).is_ok_and(|found| found.len() == zip.len() as u64) {
        // Whoever wrote it may have ended before this.
        return File::open(folder)?.sync_all();
    }
    if !folder.is_dir() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        folder.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())?;
    }
    let written = Temporary(folder.join(format!("{TEMPORARY}{}", uuid())));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&written.0)?;
    file.write_all(zip)?;
    file.sync_all()?;
    fs::rename(&written.0, &path)?;
    File::open(folder)?.sync_all()
}

/// What names of zips that are being written begin with.
const TEMPORARY: &str = "tmp-";

/// A file that is removed unless it has another name by then.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0); // renamed: nothing is there
    }
}

fn no_room() -> ControlError {
    let text = "No space is left to store this; nothing was changed.";
    ControlError::new(ErrorKind::Unavailable, text)
}

fn too_large_unzipped() -> ControlError {
    ControlError::invalid(format!("Unzipped size must be smaller than {AWS_UNZIPPED_BYTES} bytes"))
}

/// AWS's words for a package that is refused, and the reason where AWS has none.
fn refusal(error: PackageError) -> ControlError {
    let unreadable =
        "Could not unzip uploaded file. Please check your file, then try to upload again.";
    let new = match error.rule() {
        Some(Rule::UnzippedTooLarge { .. }) => too_large_unzipped(),
        Some(Rule::EmptyFile | Rule::NoEntries) => {
            ControlError::invalid("Uploaded file must be a non-empty zip")
        }
        Some(Rule::NotAZip) => ControlError::invalid(unreadable),
        Some(_) => ControlError::invalid(format!("{unreadable} {error}.")),
        None if full(&error) => no_room(),
        None => ControlError::internal(error.to_string()),
    };
    new.caused_by(error)
}

fn full(error: &PackageError) -> bool {
    let kind = match error {
        PackageError::Write { source, .. } | PackageError::Store { source, .. } => source.kind(),
        _ => return false,
    };
    matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Runs what takes CPU or waits for the disk away from the async runtime's threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ControlError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| ControlError::internal(e.to_string()))
}

/// Where the zip of `sha256` is kept.
pub(super) fn zip_path(folder: &Path, sha256: &str) -> PathBuf {
    folder.join("zip").join(sha256)
}

impl Control {
    /// The file of a package's zip, to be sent to whoever may have it.
    pub fn zip_path(&self, sha256: &str) -> PathBuf {
        zip_path(&self.settings.code_folder, sha256)
    }

    pub(super) fn shared_trees(&self) -> Arc<TreeStore> {
        self.trees.clone()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::replay::{Kit, zip_of};
    use super::*;

    fn source(zip: &[u8]) -> Source {
        Source { zip_file: Some(STANDARD.encode(zip)), ..Source::default() }
    }

    #[tokio::test]
    async fn code_is_on_the_disk_when_it_is_stored() {
        let kit = Kit::new();
        let zip = zip_of(&[("app.py", b"x = 1\n")]);
        let stored = kit.control.store_code(source(&zip), CaseCollisions::Refuse).await.unwrap();
        let digest = Digest::of(&zip);
        assert_eq!(stored.code.sha256, digest.hex());
        assert_eq!(stored.code.zip_bytes, zip.len() as u64);
        assert_eq!(stored.code.unzipped_bytes, 6);
        assert_eq!(fs::read(kit.control.zip_path(&digest.hex())).unwrap(), zip);
        let tree = kit.control.trees.path(&digest);
        assert_eq!(fs::read(tree.join("app.py")).unwrap(), b"x = 1\n");
        // The same again finds it there, and leaves nothing else behind.
        kit.control.store_code(source(&zip), CaseCollisions::Refuse).await.unwrap();
        let kept = fs::read_dir(kit.control.settings.code_folder.join("zip")).unwrap().count();
        assert_eq!(kept, 1);
    }

    #[tokio::test]
    async fn refusals_have_aws_words() {
        let kit = Kit::new();
        let unreadable =
            "Could not unzip uploaded file. Please check your file, then try to upload again.";
        let both = Source { s3_key: Some("k".into()), ..source(b"PK") };
        let image = Source { image_uri: Some("i".into()), ..Source::default() };
        let s3 =
            Source { s3_bucket: Some("b".into()), s3_key: Some("k".into()), ..Source::default() };
        let upward = zip_of(&[("../app.py", b"")]);
        let cases: Vec<(Source, &str)> = vec![
            (source(b"this is not a zipfile, just a random string"), unreadable),
            (source(b""), "Uploaded file must be a non-empty zip"),
            (Source::default(), "Please provide a source for function code."),
            (both, "Please do not provide other FunctionCode parameters when providing a ZipFile."),
            (image, "Container images are not supported; provide the code as a .zip file archive."),
            (
                s3,
                "Error occurred while GetObject. No S3 endpoint is configured here; provide the code as a ZipFile.",
            ),
            (
                source(&upward),
                "Could not unzip uploaded file. Please check your file, then try to upload again. entry `../app.py` has a `..` component (path-traversal).",
            ),
        ];
        for (source, text) in cases {
            let stored = kit.control.store_code(source, CaseCollisions::Refuse).await;
            assert_eq!(stored.unwrap_err().message, text);
        }
    }

    #[test]
    fn a_zip_in_the_call_has_a_limit() {
        let over = "A".repeat(usize::try_from(AWS_ZIPPED_BYTES).unwrap() / 3 * 4 + 8);
        let error = Zip::Base64(over).read(AWS_ZIPPED_BYTES).unwrap_err();
        assert_eq!(error.kind, ErrorKind::RequestEntityTooLarge);
        assert_eq!(error.message, "Zipped size must be smaller than 52428800 bytes");
        assert!(Zip::Base64("AAAA".into()).read(3).is_ok());
        assert!(Zip::Base64("AAAA".into()).read(2).is_err());
        let error = Zip::Base64("!".into()).read(3).unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidRequestContent);
    }

    #[tokio::test]
    async fn names_that_differ_in_case_only_are_for_jars() {
        let kit = Kit::new();
        let jar = zip_of(&[("META-INF/LICENSE", b"l"), ("META-INF/license/a", b"a")]);
        for (runtime, taken) in [(Some("java21"), true), (Some("python3.12"), false), (None, false)]
        {
            // Not twice in one store: a tree that is there is not looked at again.
            let kit = if taken { &kit } else { &Kit::new() };
            let stored = kit.control.store_code(source(&jar), collisions(runtime)).await;
            assert_eq!(stored.is_ok(), taken, "{runtime:?}");
        }
    }

    #[test]
    fn a_package_that_grows_too_large_is_refused() {
        let kit = Kit::new();
        let limits = Limits { unzipped_bytes: 3, ..Limits::default() };
        let zip = Bytes::from(kit.zip.clone());
        let folder = kit.control.settings.code_folder.join("zip");
        let kept = keep(&zip, &Digest::of(&zip), &limits, &kit.control.trees, &folder);
        let text = "Unzipped size must be smaller than 262144000 bytes";
        assert_eq!(kept.unwrap_err().message, text);
        assert!(!folder.exists());
    }

    #[test]
    fn s3_is_quoted() {
        let refused = ClientError::Refused {
            url: "http://s3".into(),
            status: 404,
            code: "NoSuchKey".into(),
            message: "The specified key does not exist.".into(),
        };
        assert_eq!(
            s3_refusal(refused).message,
            "Error occurred while GetObject. S3 Error Code: NoSuchKey. S3 Error Message: The specified key does not exist."
        );
    }

    #[tokio::test]
    async fn code_has_a_limit_and_is_counted_once() {
        let mut kit = Kit::new();
        kit.create("f").await;
        kit.call("PublishVersion", json!({"FunctionName": "f"})).await.unwrap();
        let one = kit.control.code_bytes().await.unwrap();
        assert_eq!(one, kit.zip.len() as u64);
        kit.control.settings.code_storage_bytes = one;
        // The same code takes no more room, other code would.
        kit.create("g").await;
        assert_eq!(kit.control.code_bytes().await.unwrap(), one);
        let other = source(&zip_of(&[("other.py", b"")]));
        let error = kit.control.store_code(other, CaseCollisions::Refuse).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::CodeStorageExceeded);
    }
}
