//! What AWS's services have in common: signed requests, and errors in JSON or XML.

use bytes::Bytes;
use hyper::Method;
use hyper::header::{HOST, HeaderMap, HeaderValue};

use super::http::{self, Outgoing};
use super::{ClientError, Endpoint};
use crate::sigv4::{Body, PathStyle, Request, Signer};

/// A request to a service of AWS, not signed yet.
pub(super) struct Call<'a> {
    pub endpoint: &'a Endpoint,
    /// Where the endpoint has none of its own.
    pub region: &'a str,
    /// As SigV4 names it.
    pub service: &'static str,
    pub method: Method,
    /// Encoded, and begins with a slash.
    pub path_and_query: String,
    pub headers: Vec<(&'static str, String)>,
    pub body: Bytes,
    /// Most bytes of a good answer.
    pub limit: u64,
}

impl Call<'_> {
    /// Signs and sends it. The body of the answer.
    ///
    /// # Errors
    /// The service refused, or there is no way to it.
    pub async fn send(self) -> Result<Bytes, ClientError> {
        let url = self.endpoint.url.clone();
        let bad = || ClientError::Address { url: url.clone() };
        let uri = http::address(&url, &self.path_and_query)?;
        let value = |text: &str| HeaderValue::try_from(text).map_err(|_| bad());
        let mut headers = HeaderMap::new();
        headers.insert(HOST, value(uri.authority().ok_or_else(bad)?.as_str())?);
        for (name, text) in &self.headers {
            headers.insert(*name, value(text)?);
        }
        let signer = Signer {
            access_key_id: &self.endpoint.access_key_id,
            secret_access_key: &self.endpoint.secret_access_key,
            region: self.endpoint.region.as_deref().unwrap_or(self.region),
            service: self.service,
            path_style: match self.service {
                "s3" => PathStyle::AsSent,
                _ => PathStyle::Twice,
            },
            // S3 asks for it; the others take it, and stand-ins for them verify by it.
            content_sha256: true,
        };
        let request = Request {
            method: self.method.as_str(),
            path: uri.path(),
            query: uri.query().unwrap_or_default(),
        };
        let now = jiff::Timestamp::now();
        signer
            .sign_headers(request, &mut headers, Body::Bytes(&self.body), now)
            .map_err(|_| bad())?;
        let Self { method, body, limit, .. } = self;
        let answer = http::send(Outgoing { method, uri, headers, body, limit }).await?;
        if answer.status.is_success() {
            return Ok(answer.body);
        }
        let (code, message) = refusal(&answer.body);
        let status = answer.status.as_u16();
        Err(ClientError::Refused { url, status, code, message })
    }
}

/// Code and message of an error, from JSON or XML. Empty where it has neither.
fn refusal(body: &[u8]) -> (String, String) {
    let text = String::from_utf8_lossy(body);
    if let Ok(serde_json::Value::Object(error)) = serde_json::from_str(&text) {
        let member = |names: [&str; 2]| {
            let found = names.iter().find_map(|name| error.get(*name)?.as_str());
            found.unwrap_or_default().to_owned()
        };
        let code = member(["__type", "code"]);
        // `com.amazonaws.sqs#QueueDoesNotExist`
        let code = code.rsplit('#').next().unwrap_or_default().to_owned();
        return (code, member(["message", "Message"]));
    }
    (element(&text, "Code"), element(&text, "Message"))
}

/// The text of the first element of that name.
fn element(xml: &str, name: &str) -> String {
    let found = || {
        let (_, rest) = xml.split_once(&format!("<{name}>"))?;
        Some(rest.split_once(&format!("</{name}>"))?.0)
    };
    let text = found().unwrap_or_default();
    let entities =
        [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")];
    entities.iter().fold(text.to_owned(), |text, (entity, plain)| text.replace(entity, plain))
}

/// Account and name of `arn:PARTITION:SERVICE:REGION:ACCOUNT:NAME`.
pub(super) fn arn<'a>(
    text: &'a str,
    service: &'static str,
) -> Result<(&'a str, &'a str), ClientError> {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    match parts[..] {
        ["arn", _, found, _, account, name] if found == service && !name.is_empty() => {
            Ok((account, name))
        }
        _ => Err(ClientError::Arn { arn: text.into(), service }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_read_in_json_and_xml() {
        for (body, code, message) in [
            (
                r#"{"__type":"com.amazonaws.sqs#QueueDoesNotExist","message":"no"}"#,
                "QueueDoesNotExist",
                "no",
            ),
            (r#"{"code":"Oh","Message":"ah"}"#, "Oh", "ah"),
            (
                "<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code><Message>a &lt;b&gt; &amp;amp;</Message></Error>",
                "NoSuchKey",
                "a <b> &amp;",
            ),
            ("<html>Bad Gateway</html>", "", ""),
            ("", "", ""),
            ("<Code>cut", "", ""),
        ] {
            assert_eq!(refusal(body.as_bytes()), (code.into(), message.into()), "{body}");
        }
    }

    #[test]
    fn arns_are_of_their_service() {
        let queue = "arn:aws:sqs:us-east-1:000000000000:q";
        assert_eq!(arn(queue, "sqs").unwrap(), ("000000000000", "q"));
        for text in [queue.replace("sqs", "sns").as_str(), "arn:aws:sqs:us-east-1:0:", "q", ""] {
            let error = arn(text, "sqs").unwrap_err();
            assert_eq!(error.to_string(), format!("`{text}` is no ARN of sqs"));
            assert!(error.is_refusal());
        }
    }

    #[test]
    fn what_may_get_better_is_no_refusal() {
        for (status, code, refused) in [
            (400, "InvalidParameterValue", true),
            (403, "SignatureDoesNotMatch", true),
            (404, "NotFound", true),
            (400, "ThrottlingException", false),
            (408, "", false),
            (429, "", false),
            (500, "", false),
            (503, "SlowDown", false),
            (301, "PermanentRedirect", false),
        ] {
            let (url, code, message) = (String::new(), code.to_owned(), String::new());
            let error = ClientError::Refused { url, status, code, message };
            assert_eq!(error.is_refusal(), refused, "{error}");
        }
    }
}
