//! A layer's code: from the request or from S3, to the zip that is kept and the tree that is mounted.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::client::{self, ClientError};
use crate::control::records::CodeRef;
use crate::control::{Control, ControlError, ErrorKind};
use crate::package::{self, AWS_UNZIPPED_BYTES, AWS_ZIPPED_BYTES, Digest, PackageError};

/// `Content` of the request.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Content {
    s3_bucket: Option<String>,
    s3_key: Option<String>,
    s3_object_version: Option<String>,
    /// In base64.
    zip_file: Option<String>,
}

/// `Content` of an answer. The front door makes an address of the location that the caller reaches.
pub(super) fn content(code: &CodeRef) -> Result<Value, ControlError> {
    let digest: Digest = code
        .sha256
        .parse()
        .map_err(|_| ControlError::internal(format!("`{}` is no digest", code.sha256)))?;
    Ok(json!({
        "Location": format!("kennel:code/{}", code.sha256),
        "CodeSha256": STANDARD.encode(digest.as_bytes()),
        "CodeSize": code.zip_bytes,
    }))
}

impl Control {
    /// The zip that the request holds or names.
    pub(super) async fn layer_zip(&self, content: &Content) -> Result<Bytes, ControlError> {
        match (&content.zip_file, &content.s3_bucket, &content.s3_key) {
            (Some(zip), None, None) => {
                let zip = STANDARD.decode(zip).map_err(|e| {
                    let text = format!("Could not unzip uploaded file: it is not base64: {e}.");
                    ControlError::invalid(text)
                })?;
                if zip.len() as u64 > AWS_ZIPPED_BYTES {
                    let text = format!("Zipped size must be smaller than {AWS_ZIPPED_BYTES} bytes");
                    return Err(ControlError::new(ErrorKind::RequestEntityTooLarge, text));
                }
                Ok(zip.into())
            }
            (None, Some(bucket), Some(key)) => {
                let Some(endpoint) = &self.settings.s3 else {
                    let text = "No S3 service is configured, so that code cannot come from S3Bucket and S3Key. Send it as ZipFile.";
                    return Err(ControlError::invalid(text));
                };
                let version = content.s3_object_version.as_deref();
                let (region, limit) = (&self.settings.region, AWS_UNZIPPED_BYTES);
                client::get_object(endpoint, region, bucket, key, version, limit)
                    .await
                    .map_err(not_fetched)
            }
            (None, ..) => Err(ControlError::invalid("Please provide a source for layer content.")),
            _ => {
                let text = "Please do not provide other layer content parameters when providing a ZipFile.";
                Err(ControlError::invalid(text))
            }
        }
    }

    /// Keeps a zip and its tree. The caller holds the code gate until a record names them.
    pub(super) async fn store_layer_code(&self, zip: Bytes) -> Result<CodeRef, ControlError> {
        if zip.is_empty() {
            return Err(ControlError::invalid("Uploaded file must be a non-empty zip"));
        }
        let trees = self.trees.clone();
        let folder = self.settings.code_folder.join("zip");
        // A zip from S3 may be larger than one in a request.
        let limits = package::Limits { zipped_bytes: AWS_UNZIPPED_BYTES, ..Default::default() };
        let stored = tokio::task::spawn_blocking(move || {
            let tree =
                package::unpack_bytes(&zip, &limits, &trees, &mut |_| {}).map_err(refused)?;
            let sha256 = tree.digest.hex();
            keep(&folder, &sha256, &zip).map_err(|source| not_kept(&folder, &source))?;
            Ok::<_, ControlError>(CodeRef {
                sha256,
                zip_bytes: zip.len() as u64,
                unzipped_bytes: tree.unzipped_bytes,
            })
        });
        stored.await.map_err(|e| ControlError::internal(format!("unpacking ended early: {e}")))?
    }
}

/// AWS's text for what is too large, ours for every other rule of packages.
fn refused(error: PackageError) -> ControlError {
    match error.rule() {
        Some(package::Rule::UnzippedTooLarge { .. }) => {
            let text = format!("Unzipped size must be smaller than {AWS_UNZIPPED_BYTES} bytes");
            ControlError::invalid(text).caused_by(error)
        }
        _ => error.into(),
    }
}

/// Writes the zip under its digest, so that it is on the disk with its name or not there.
fn keep(folder: &Path, sha256: &str, zip: &[u8]) -> io::Result<()> {
    let path = folder.join(sha256);
    if path.try_exists()? {
        return Ok(());
    }
    fs::create_dir_all(folder)?;
    let unfinished = folder.join(format!(".{sha256}.{}", uuid::Uuid::new_v4()));
    let written = File::create_new(&unfinished).and_then(|mut file| {
        file.write_all(zip)?;
        file.sync_all()?;
        fs::rename(&unfinished, &path)?;
        File::open(folder)?.sync_all()
    });
    if written.is_err() {
        let _ = fs::remove_file(&unfinished); // the first error says more
    }
    written
}

fn not_kept(folder: &Path, source: &io::Error) -> ControlError {
    let path: PathBuf = folder.to_owned();
    if source.kind() == io::ErrorKind::StorageFull {
        let text = "No space is left to store this; nothing was changed.";
        return ControlError::new(ErrorKind::Unavailable, text);
    }
    ControlError::internal(format!("cannot keep a zip in `{}`: {source}", path.display()))
}

fn not_fetched(error: ClientError) -> ControlError {
    let text = match &error {
        ClientError::Refused { code, message, .. } => format!(
            "Error occurred while GetObject. S3 Error Code: {code}. S3 Error Message: {message}"
        ),
        ClientError::TooLarge { limit, .. } => {
            format!("Unzipped size must be smaller than {limit} bytes")
        }
        _ => "Error occurred while GetObject. The S3 service cannot be reached.".into(),
    };
    ControlError::invalid(text).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::lookup::tests::error;

    #[test]
    fn what_unpacks_too_large_is_told_in_awss_words() {
        let folder = tempfile::tempdir().unwrap();
        let trees = package::TreeStore::open_scratch(folder.path()).unwrap();
        let zip = crate::control::layers::tests::zip("x = 1");
        let zip = STANDARD.decode(zip).unwrap();
        let limits = package::Limits { unzipped_bytes: 1, ..Default::default() };
        let unpacked = package::unpack_bytes(&zip, &limits, &trees, &mut |_| {});
        assert_eq!(
            error(unpacked.map_err(refused)).1,
            "Unzipped size must be smaller than 262144000 bytes"
        );
    }

    #[test]
    fn a_zip_is_kept_once_under_its_digest() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("zip");
        keep(&folder, "ab", b"one").unwrap();
        keep(&folder, "ab", b"other").unwrap();
        assert_eq!(fs::read(folder.join("ab")).unwrap(), b"one");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }
}
