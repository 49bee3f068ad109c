//! What the front door takes in and does not answer itself: CloudWatch Logs, function URLs, code downloads.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use hyper::header::HOST;
use hyper::{HeaderMap, Method, Response, Uri};
use jiff::Timestamp;

use super::Caller;
use super::auth::{Authority, Head, SignatureError};
use super::body::ReplyBody;

/// Which of them a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Site {
    /// `X-Amz-Target: Logs_20140328.OPERATION`, in JSON 1.1. Signed for `logs`, and verified.
    Logs { operation: String },
    /// A host `ID.lambda-url.REGION.…`. Not verified: the URL's own `AuthType` decides, see [`ExtraRequest::verify`].
    FunctionUrl { id: String },
    /// `GET /_kennel/code/SHA256` (hex). Signed for `lambda`, and verified; mostly presigned.
    Code { sha256: String },
}

/// A request for a [`Site`], with its whole body.
#[derive(Debug)]
pub struct ExtraRequest {
    pub site: Site,
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// [`Caller::Anonymous`] for a function URL, whether it is signed or not.
    pub caller: Caller,
    /// `x-amzn-requestid` of the answer.
    pub request_id: String,
    /// `http://HOST:PORT` as the caller wrote it.
    pub base_url: String,
    /// `None` on a Unix socket.
    pub peer: Option<SocketAddr>,
    pub(super) body_sha256: String,
    pub(super) authority: Arc<Authority>,
}

impl ExtraRequest {
    /// Who signed it, for the service `lambda` (function URLs are signed for it too).
    ///
    /// # Errors
    /// No signature, or one that does not count.
    pub fn verify(&self) -> Result<Caller, SignatureError> {
        let head = Head { method: &self.method, uri: &self.uri, headers: &self.headers };
        let claim = self.authority.claim(head, "lambda", Timestamp::now())?;
        self.authority.check(&claim, head, &self.body_sha256)
    }
}

pub type ExtraFuture<'a> = Pin<Box<dyn Future<Output = Response<ReplyBody>> + Send + 'a>>;

/// What stands behind the front door beside [`super::Operations`].
pub trait Extra: Send + Sync + 'static {
    /// Answers in its site's own way, errors too (see [`super::errors::Refusal`]). The front door adds
    /// `x-amzn-requestid` where it is missing.
    fn call(&self, request: ExtraRequest) -> ExtraFuture<'_>;
}

/// The site that a request is for, if any. Only a host of this `region` names a function URL.
pub(super) fn site(method: &Method, uri: &Uri, headers: &HeaderMap, region: &str) -> Option<Site> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    if let Some(host) = headers.get(HOST).and_then(|v| v.to_str().ok())
        && let Some((id, rest)) = host.split_once(".lambda-url.")
        && let Some(rest) = rest.strip_prefix(region)
        && rest.starts_with('.')
        && !id.is_empty()
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    {
        return Some(Site::FunctionUrl { id: id.to_ascii_lowercase() });
    }
    if let Some(sha256) = uri.path().strip_prefix("/_kennel/code/")
        && method == Method::GET
        && sha256.len() == 64
        && sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    {
        return Some(Site::Code { sha256: sha256.to_owned() });
    }
    if uri.path() == "/" && method == Method::POST {
        let operation = text("x-amz-target")?.strip_prefix("Logs_20140328.")?;
        return Some(Site::Logs { operation: operation.to_owned() });
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_are_told_by_host_path_and_target() {
        let hash = "ab".repeat(32);
        let code = format!("/_kennel/code/{hash}");
        let url = |id: &str| Some(Site::FunctionUrl { id: id.into() });
        for (method, target, name, value, want) in [
            (
                "GET",
                "/any?x=1",
                "host",
                "abc123.lambda-url.us-east-1.localhost:9330",
                url("abc123"),
            ),
            ("POST", "/", "host", "abc123.lambda-url.us-east-1.on.aws", url("abc123")),
            ("GET", "/", "host", "abc123.lambda-url.eu-west-1.localhost", None),
            ("GET", "/", "host", ".lambda-url.us-east-1.localhost", None),
            ("GET", "/", "host", "a/b.lambda-url.us-east-1.localhost", None),
            ("GET", code.as_str(), "host", "h", Some(Site::Code { sha256: hash.clone() })),
            ("PUT", code.as_str(), "host", "h", None),
            ("GET", "/_kennel/code/..%2Fetc", "host", "h", None),
            (
                "POST",
                "/",
                "x-amz-target",
                "Logs_20140328.GetLogEvents",
                Some(Site::Logs { operation: "GetLogEvents".into() }),
            ),
            ("POST", "/", "x-amz-target", "DynamoDB_20120810.GetItem", None),
            ("GET", "/2015-03-31/functions", "host", "127.0.0.1:9330", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            let method: Method = method.parse().unwrap();
            let got = site(&method, &target.parse().unwrap(), &headers, "us-east-1");
            assert_eq!(got, want, "{method} {target} {value}");
        }
    }
}
