//! Function URLs: an HTTP request becomes an event of payload format 2.0, and what the function returns becomes the
//! response. Who may call is decided by the URL's AuthType and the resource policy, before the function runs.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use serde_json::{Map, Value, json};

use crate::control::records::UrlRecord;

/// A request to a function URL, read whole.
#[derive(Debug)]
pub struct UrlRequest {
    pub method: String,
    /// Still percent-encoded.
    pub raw_path: String,
    pub raw_query: String,
    /// Names in lower case, in the order that they came.
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
    pub source_ip: String,
    pub request_id: String,
    /// The account and ARN that signed it, with AuthType `AWS_IAM`.
    pub iam: Option<(String, String)>,
}

/// What goes back.
#[derive(Debug, PartialEq, Eq)]
pub struct UrlResponse {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

impl UrlRequest {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The event, in AWS's payload format 2.0.
    ///
    /// Source: AWS Lambda developer guide, "Invoking Lambda function URLs".
    pub fn event(&self, url: &UrlRecord, now_ms: u64) -> Bytes {
        let mut headers: Map<String, Value> = Map::new();
        for (name, value) in self.headers.iter().filter(|(name, _)| name != "cookie") {
            match headers.get_mut(name) {
                Some(Value::String(all)) => {
                    all.push(',');
                    all.push_str(value);
                }
                _ => {
                    headers.insert(name.clone(), value.as_str().into());
                }
            }
        }
        let cookies: Vec<&str> = self
            .headers
            .iter()
            .filter(|(name, _)| name == "cookie")
            .flat_map(|(_, value)| value.split("; "))
            .collect();
        let host = self.header("host").unwrap_or_default();
        let path = percent_encoding::percent_decode_str(&self.raw_path).decode_utf8_lossy();
        let seconds = i64::try_from(now_ms / 1000).unwrap_or_default();
        let time = jiff::Timestamp::from_second(seconds)
            .map_or_else(|_| String::new(), |t| t.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string());
        let mut context = json!({
            "accountId": self.iam.as_ref().map_or("anonymous", |(account, _)| account.as_str()),
            "apiId": url.url_id,
            "domainName": host,
            "domainPrefix": url.url_id,
            "http": {
                "method": self.method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": self.source_ip,
                "userAgent": self.header("user-agent").unwrap_or_default(),
            },
            "requestId": self.request_id,
            "routeKey": "$default",
            "stage": "$default",
            "time": time,
            "timeEpoch": now_ms,
        });
        if let Some((account, arn)) = &self.iam {
            context["authorizer"] = json!({ "iam": {
                "accessKey": null, "accountId": account, "callerId": account, "cognitoIdentity": null,
                "principalOrgId": null, "userArn": arn, "userId": account,
            }});
        }
        let mut event = json!({
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": self.raw_path,
            "rawQueryString": self.raw_query,
            "headers": headers,
            "requestContext": context,
            "isBase64Encoded": false,
        });
        if !cookies.is_empty() {
            event["cookies"] = cookies.into();
        }
        if !self.raw_query.is_empty() {
            event["queryStringParameters"] = query(&self.raw_query).into();
        }
        if !self.body.is_empty() {
            match std::str::from_utf8(&self.body) {
                Ok(text) if is_text(self.header("content-type")) => event["body"] = text.into(),
                _ => {
                    event["body"] = STANDARD.encode(&self.body).into();
                    event["isBase64Encoded"] = true.into();
                }
            }
        }
        event.to_string().into()
    }
}

/// A parameter that comes twice is joined by a comma.
fn query(raw: &str) -> Map<String, Value> {
    let decode = |text: &str| {
        let text = text.replace('+', " ");
        percent_encoding::percent_decode_str(&text).decode_utf8_lossy().into_owned()
    };
    let mut all: Map<String, Value> = Map::new();
    for pair in raw.split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decode(name), decode(value));
        match all.get_mut(&name) {
            Some(Value::String(joined)) => {
                joined.push(',');
                joined.push_str(&value);
            }
            _ => {
                all.insert(name, value.into());
            }
        }
    }
    all
}

/// Bodies of these types reach the function as text, all others in base64.
fn is_text(content_type: Option<&str>) -> bool {
    let Some(kind) = content_type else { return true };
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind.starts_with("text/")
        || kind.ends_with("+json")
        || kind.ends_with("+xml")
        || matches!(
            kind.as_str(),
            "application/json" | "application/xml" | "application/javascript"
        )
}

impl UrlResponse {
    pub fn json(status: u16, body: &str) -> Self {
        let headers = vec![("content-type".into(), "application/json".into())];
        Self { status, headers, body: Bytes::copy_from_slice(body.as_bytes()) }
    }

    /// The function failed, or answered nonsense.
    pub fn bad_gateway() -> Self {
        Self::json(502, "Internal Server Error")
    }

    pub fn forbidden() -> Self {
        Self::json(
            403,
            "{\"Message\":\"Forbidden. For troubleshooting Function URL authorization issues, see: https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html\"}",
        )
    }

    /// What a buffered function returned, as AWS reads it: an object with `statusCode` is a whole response; anything
    /// else is the body of one.
    pub fn of_result(result: &[u8]) -> Self {
        let Ok(value) = serde_json::from_slice::<Value>(result) else {
            return Self::bad_gateway();
        };
        match &value {
            Value::Object(object) if object.contains_key("statusCode") => {
                Self::of_object(object).unwrap_or_else(Self::bad_gateway)
            }
            Value::String(text) => Self::json(200, text),
            _ => Self::json(200, &String::from_utf8_lossy(result)),
        }
    }

    fn of_object(object: &Map<String, Value>) -> Option<Self> {
        let (status, headers) = head(object)?;
        let text = match object.get("body") {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        let body = match object.get("isBase64Encoded") {
            Some(Value::Bool(true)) => STANDARD.decode(text).ok()?.into(),
            _ => Bytes::from(text),
        };
        Some(Self { status, headers, body })
    }
}

/// Status and headers of a response object, or of a stream's prelude.
fn head(object: &Map<String, Value>) -> Option<(u16, Vec<(String, String)>)> {
    let status = match object.get("statusCode") {
        None | Some(Value::Null) => 200,
        Some(Value::Number(number)) => u16::try_from(number.as_u64()?).ok()?,
        Some(Value::String(text)) => text.parse().ok()?,
        Some(_) => return None,
    };
    if !(100..600).contains(&status) {
        return None;
    }
    let mut headers = Vec::new();
    if let Some(Value::Object(given)) = object.get("headers") {
        for (name, value) in given {
            let value = match value {
                Value::String(text) => text.clone(),
                Value::Null => continue,
                other => other.to_string(),
            };
            headers.push((name.to_ascii_lowercase(), value));
        }
    }
    if let Some(Value::Array(cookies)) = object.get("cookies") {
        let texts = cookies.iter().filter_map(Value::as_str);
        headers.extend(texts.map(|cookie| ("set-cookie".to_owned(), cookie.to_owned())));
    }
    if !headers.iter().any(|(name, _)| name == "content-type") {
        headers.push(("content-type".into(), "application/json".into()));
    }
    Some((status, headers))
}

/// Ends the prelude of a streamed response.
const PRELUDE_END: [u8; 8] = [0; 8];
/// Longest prelude.
const MAX_PRELUDE: usize = 64 << 10;

/// Status and headers of a streamed response, and the first bytes of its body.
pub type StreamHead = (u16, Vec<(String, String)>, Bytes);

/// Finds the prelude of a streamed response in its first bytes.
#[derive(Debug, Default)]
pub struct Prelude {
    seen: BytesMut,
}

impl Prelude {
    /// Whether no byte came yet.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// Takes bytes of the stream; the head once it is known. `end`: no more bytes come.
    pub fn push(&mut self, bytes: &[u8], end: bool) -> Option<StreamHead> {
        self.seen.extend_from_slice(bytes);
        let plain = || vec![("content-type".to_owned(), "application/octet-stream".to_owned())];
        if self.seen.first().is_some_and(|b| *b != b'{') {
            return Some((200, plain(), self.seen.split().freeze()));
        }
        if let Some(at) = self.seen.windows(8).position(|w| w == PRELUDE_END) {
            let object = serde_json::from_slice::<Map<String, Value>>(&self.seen[..at]).ok();
            let (status, headers) = object.as_ref().and_then(head).unwrap_or((502, plain()));
            let _ = self.seen.split_to(at + PRELUDE_END.len());
            return Some((status, headers, self.seen.split().freeze()));
        }
        if end || self.seen.len() > MAX_PRELUDE {
            return Some((200, plain(), self.seen.split().freeze()));
        }
        None
    }
}

/// Adds the CORS headers that the URL's configuration allows this origin. `Some` where the request was a preflight,
/// which the function never sees.
pub fn cors(url: &UrlRecord, request: &UrlRequest) -> (Vec<(String, String)>, bool) {
    let (Some(cors), Some(origin)) = (&url.cors, request.header("origin")) else {
        return (Vec::new(), false);
    };
    let list = |key: &str| -> Vec<&str> {
        let values = cors.get(key).and_then(Value::as_array);
        values.map(|v| v.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
    };
    let preflight =
        request.method == "OPTIONS" && request.header("access-control-request-method").is_some();
    let origins = list("AllowOrigins");
    let credentials = cors.get("AllowCredentials").and_then(Value::as_bool).unwrap_or(false);
    let mut headers = Vec::new();
    let mut set = |name: &str, value: String| headers.push((name.to_owned(), value));
    if origins.contains(&"*") && !credentials {
        set("access-control-allow-origin", "*".into());
    } else if origins.iter().any(|o| *o == "*" || *o == origin) {
        set("access-control-allow-origin", origin.into());
        set("vary", "Origin".into());
    } else {
        return (Vec::new(), preflight);
    }
    if credentials {
        set("access-control-allow-credentials", "true".into());
    }
    let mut joined = |name: &str, values: Vec<&str>| {
        if !values.is_empty() {
            set(name, values.join(","));
        }
    };
    if preflight {
        joined("access-control-allow-methods", list("AllowMethods"));
        joined("access-control-allow-headers", list("AllowHeaders"));
        if let Some(age) = cors.get("MaxAge").and_then(Value::as_u64) {
            set("access-control-max-age", age.to_string());
        }
    } else {
        joined("access-control-expose-headers", list("ExposeHeaders"));
    }
    (headers, preflight)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(cors: Option<Value>) -> UrlRecord {
        UrlRecord {
            function: "f".into(),
            qualifier: "$LATEST".into(),
            url_id: "abc".into(),
            auth_type: "NONE".into(),
            cors,
            invoke_mode: "BUFFERED".into(),
            creation_time: String::new(),
            last_modified: String::new(),
        }
    }

    fn request(method: &str, headers: &[(&str, &str)], body: &'static [u8]) -> UrlRequest {
        UrlRequest {
            method: method.into(),
            raw_path: "/a%20b".into(),
            raw_query: "x=1&x=2&y=%C3%A4+b&flag".into(),
            headers: headers.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect(),
            body: Bytes::from_static(body),
            source_ip: "127.0.0.1".into(),
            request_id: "r".into(),
            iam: None,
        }
    }

    #[test]
    fn event_is_payload_format_2() {
        let headers =
            [("host", "abc.lambda-url.x"), ("cookie", "a=1; b=2"), ("x-t", "1"), ("x-t", "2")];
        let event = request("POST", &headers, b"hi").event(&url(None), 1_700_000_000_123);
        let event: Value = serde_json::from_slice(&event).unwrap();
        assert_eq!(event["rawPath"], "/a%20b");
        assert_eq!(event["requestContext"]["http"]["path"], "/a b");
        assert_eq!(event["requestContext"]["time"], "14/Nov/2023:22:13:20 +0000");
        assert_eq!(event["requestContext"]["accountId"], "anonymous");
        assert_eq!(event["cookies"], json!(["a=1", "b=2"]));
        assert_eq!(event["headers"], json!({ "host": "abc.lambda-url.x", "x-t": "1,2" }));
        assert_eq!(event["queryStringParameters"], json!({ "x": "1,2", "y": "ä b", "flag": "" }));
        assert_eq!((&event["body"], &event["isBase64Encoded"]), (&json!("hi"), &json!(false)));
        let binary = request("POST", &[("content-type", "image/png")], b"hi");
        let event: Value = serde_json::from_slice(&binary.event(&url(None), 0)).unwrap();
        assert_eq!((&event["body"], &event["isBase64Encoded"]), (&json!("aGk="), &json!(true)));
    }

    #[test]
    fn results_become_responses() {
        for (result, status, body) in [
            (r#"{"statusCode":201,"body":"made"}"#, 201, "made"),
            (r#"{"statusCode":"404"}"#, 404, ""),
            (r#"{"statusCode":200,"isBase64Encoded":true,"body":"aGk="}"#, 200, "hi"),
            (r#"{"a":1}"#, 200, r#"{"a":1}"#),
            (r#""hello""#, 200, "hello"),
            ("null", 200, "null"),
            (r#"{"statusCode":1000}"#, 502, "Internal Server Error"),
            (
                r#"{"statusCode":200,"isBase64Encoded":true,"body":"*"}"#,
                502,
                "Internal Server Error",
            ),
            ("not json", 502, "Internal Server Error"),
        ] {
            let response = UrlResponse::of_result(result.as_bytes());
            let text = String::from_utf8(response.body.to_vec()).unwrap();
            assert_eq!((response.status, text.as_str()), (status, body), "{result}");
        }
        let response = UrlResponse::of_result(
            br#"{"statusCode":200,"headers":{"Content-Type":"text/html","X-N":5},"cookies":["a=1","b=2"]}"#,
        );
        let want = [
            ("content-type", "text/html"),
            ("x-n", "5"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
        ];
        let want: Vec<_> = want.map(|(n, v)| (n.to_owned(), v.to_owned())).into();
        assert_eq!(response.headers, want);
    }

    #[test]
    fn a_streams_prelude_may_come_in_pieces_and_may_be_missing() {
        let whole = b"{\"statusCode\":418,\"headers\":{\"x\":\"y\"}}\0\0\0\0\0\0\0\0body";
        for cut in 0..whole.len() {
            let mut prelude = Prelude::default();
            let first = prelude.push(&whole[..cut], false);
            let (status, _, rest) = first.or_else(|| prelude.push(&whole[cut..], false)).unwrap();
            assert_eq!(status, 418, "cut at {cut}");
            assert!(b"body".starts_with(&rest[..]), "cut at {cut}");
        }
        let mut plain = Prelude::default();
        assert_eq!(plain.push(b"hello", false).unwrap().2, "hello");
        let mut open = Prelude::default();
        assert!(open.push(b"{\"a\":1}", false).is_none());
        assert_eq!(open.push(b"", true).unwrap().2, "{\"a\":1}");
    }

    #[test]
    fn cors_answers_allowed_origins_alone() {
        let rules =
            json!({ "AllowOrigins": ["https://a"], "AllowMethods": ["GET", "PUT"], "MaxAge": 5 });
        let url = url(Some(rules));
        let preflight = [("origin", "https://a"), ("access-control-request-method", "PUT")];
        let (headers, is_preflight) = cors(&url, &request("OPTIONS", &preflight, b""));
        assert!(is_preflight);
        let find = |name: &str| headers.iter().find(|h| h.0 == name).map(|h| h.1.as_str());
        assert_eq!(find("access-control-allow-origin"), Some("https://a"));
        assert_eq!(find("access-control-allow-methods"), Some("GET,PUT"));
        assert_eq!(find("access-control-max-age"), Some("5"));
        let (headers, is_preflight) = cors(&url, &request("GET", &[("origin", "https://b")], b""));
        assert!(headers.is_empty() && !is_preflight);
    }
}
