//! Objects of an S3-compatible service.

use bytes::Bytes;
use hyper::Method;

use super::aws::Call;
use super::{ClientError, Endpoint};
use crate::sigv4::encode;

/// Fetches an object from an S3-compatible service (path-style address, signed), of at most `limit` bytes.
///
/// # Errors
/// The service's refusal (`NoSuchKey`, `NoSuchBucket`, …), no way to it, or an object that is too large.
pub async fn get_object(
    endpoint: &Endpoint,
    region: &str,
    bucket: &str,
    key: &str,
    version: Option<&str>,
    limit: u64,
) -> Result<Bytes, ClientError> {
    let key: Vec<String> = key.split('/').map(encode).collect();
    let query = version.map(|v| format!("?versionId={}", encode(v))).unwrap_or_default();
    let call = Call {
        endpoint,
        region,
        service: "s3",
        method: Method::GET,
        path_and_query: format!("/{}/{}{query}", encode(bucket), key.join("/")),
        headers: Vec::new(),
        body: Bytes::new(),
        limit,
    };
    call.send().await
}
