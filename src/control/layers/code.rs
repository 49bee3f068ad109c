//! Where a layer's code is, in requests and in answers. How it is stored is `control::code`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::control::ControlError;
use crate::control::code::Source;
use crate::control::records::CodeRef;
use crate::package::Digest;

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

/// Where the request says that the code is: one source, no more and no less.
pub(super) fn source(content: Content) -> Result<Source, ControlError> {
    match (&content.zip_file, &content.s3_bucket, &content.s3_key) {
        (Some(_), None, None) | (None, Some(_), Some(_)) => {}
        (None, ..) => {
            return Err(ControlError::invalid("Please provide a source for layer content."));
        }
        _ => {
            let text =
                "Please do not provide other layer content parameters when providing a ZipFile.";
            return Err(ControlError::invalid(text));
        }
    }
    Ok(Source {
        zip_file: content.zip_file,
        s3_bucket: content.s3_bucket,
        s3_key: content.s3_key,
        s3_object_version: content.s3_object_version,
        image_uri: None,
    })
}
