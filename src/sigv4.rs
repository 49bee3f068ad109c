//! AWS Signature Version 4: the canonical request, the string to sign, the signing key, and the two ways to send a
//! signature (headers, or the query of a presigned address). Knows no key store and no clock: both are given.
//!
//! What a server checks is in `api::auth`; here is what both sides compute. Not here: SigV4A, chunk signatures
//! (`STREAMING-…`), and other hashes than SHA-256.
//!
//! Source: AWS, "Create a signed AWS API request".

#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::fmt::Write as _;

use hmac::{Hmac, KeyInit, Mac};
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use sha2::{Digest, Sha256};

pub const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// Instead of the body's hash, where the body is not signed.
pub const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";
/// SHA-256 of nothing.
pub const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

pub const X_AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
pub const X_AMZ_SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
pub const X_AMZ_CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");

/// All but the characters that RFC 3986 calls unreserved.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const ENCODED_PATH: &AsciiSet = &ENCODED.remove(b'/');

/// Headers that proxies and HTTP libraries add or change, so that no SDK signs them.
const NEVER_SIGNED: [&str; 8] = [
    "authorization",
    "connection",
    "content-length",
    "expect",
    "te",
    "transfer-encoding",
    "user-agent",
    "x-amzn-trace-id",
];

/// How a path enters the canonical request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathStyle {
    /// Dot segments and double slashes are removed, and what is encoded already is encoded again. All services but S3.
    Twice,
    /// As it is sent. S3.
    AsSent,
}

/// What a signature is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope<'a> {
    /// `YYYYMMDD`.
    pub date: &'a str,
    pub region: &'a str,
    pub service: &'a str,
}

/// A request as it goes over the wire. The headers stand beside it.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub method: &'a str,
    /// Percent-encoded, without the query.
    pub path: &'a str,
    /// Percent-encoded, without the question mark.
    pub query: &'a str,
}

/// Lower-case hex SHA-256.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// Percent-encodes all but unreserved characters.
pub fn encode(text: &str) -> String {
    percent_encode(text.as_bytes(), ENCODED).to_string()
}

/// `YYYYMMDDTHHMMSSZ`, as in `X-Amz-Date`.
pub fn amz_date(time: Timestamp) -> String {
    time.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// Reads `YYYYMMDDTHHMMSSZ`.
pub fn parse_amz_date(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    if bytes.len() != 16 || bytes[8] != b'T' || bytes[15] != b'Z' {
        return None;
    }
    let number = |range: std::ops::Range<usize>| {
        let digits = text.get(range)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<i16>().ok())?
    };
    let two = |at: usize| i8::try_from(number(at..at + 2)?).ok();
    let civil =
        jiff::civil::DateTime::new(number(0..4)?, two(4)?, two(6)?, two(9)?, two(11)?, two(13)?, 0);
    jiff::tz::TimeZone::UTC.to_timestamp(civil.ok()?).ok()
}

/// The key of one secret, day, region and service. Worth keeping: it costs ten hashes to make.
#[derive(Clone)]
pub struct SigningKey(Hmac<Sha256>);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

impl SigningKey {
    pub fn new(secret: &str, scope: Scope<'_>) -> Self {
        let mut key = mac(format!("AWS4{secret}").as_bytes());
        for part in [scope.date, scope.region, scope.service, "aws4_request"] {
            key.update(part.as_bytes());
            key = mac(&key.finalize().into_bytes());
        }
        Self(key)
    }

    /// The signature of a string to sign.
    pub fn sign(&self, text: &str) -> [u8; 32] {
        let mut mac = self.0.clone();
        mac.update(text.as_bytes());
        mac.finalize().into_bytes().into()
    }
}

fn mac(key: &[u8]) -> Hmac<Sha256> {
    match Hmac::new_from_slice(key) {
        Ok(mac) => mac,
        Err(_) => unreachable!("HMAC takes keys of any length"),
    }
}

/// The canonical request. `signed` are the names of the headers in it, lower-case and in order; a query parameter
/// `X-Amz-Signature` is left out.
pub fn canonical_request<'h>(
    request: Request<'_>,
    style: PathStyle,
    headers: &HeaderMap,
    signed: impl Iterator<Item = &'h str> + Clone,
    payload_hash: &str,
) -> String {
    let mut text = String::with_capacity(768 + request.path.len() + request.query.len() * 2);
    text.push_str(request.method);
    text.push('\n');
    match style {
        PathStyle::AsSent if request.path.is_empty() => text.push('/'),
        PathStyle::AsSent => text.push_str(request.path),
        PathStyle::Twice => {
            let path = normal_path(request.path);
            text.extend(percent_encode(path.as_bytes(), ENCODED_PATH));
        }
    }
    text.push('\n');
    push_query(&mut text, request.query);
    text.push('\n');
    for name in signed.clone() {
        text.push_str(name);
        text.push(':');
        for (index, value) in headers.get_all(name).iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            push_trimmed(&mut text, value.as_bytes());
        }
        text.push('\n');
    }
    text.push('\n');
    for (index, name) in signed.enumerate() {
        if index > 0 {
            text.push(';');
        }
        text.push_str(name);
    }
    text.push('\n');
    text.push_str(payload_hash);
    text
}

/// What is signed; `date` is `YYYYMMDDTHHMMSSZ`.
pub fn string_to_sign(date: &str, scope: Scope<'_>, canonical_request: &str) -> String {
    format!(
        "{ALGORITHM}\n{date}\n{}/{}/{}/aws4_request\n{}",
        scope.date,
        scope.region,
        scope.service,
        sha256_hex(canonical_request.as_bytes())
    )
}

/// Without dot segments and empty ones; a slash at the end stays.
fn normal_path(path: &str) -> Cow<'_, str> {
    let plain = path.starts_with('/') && !path.contains("//") && !path.contains("/.");
    if plain {
        return Cow::Borrowed(path);
    }
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            name => kept.push(name),
        }
    }
    let mut normal = format!("/{}", kept.join("/"));
    let folder = path.ends_with('/') || path.ends_with("/.") || path.ends_with("/..");
    if folder && !kept.is_empty() {
        normal.push('/');
    }
    Cow::Owned(normal)
}

fn push_query(text: &mut String, query: &str) {
    if query.is_empty() {
        return;
    }
    let again = |part: &str| {
        let raw: Cow<'_, [u8]> = percent_decode_str(part).into();
        percent_encode(&raw, ENCODED).to_string()
    };
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (again(name), again(value)))
        .filter(|(name, _)| name != "X-Amz-Signature")
        .collect();
    pairs.sort_unstable();
    for (index, (name, value)) in pairs.iter().enumerate() {
        let and = if index > 0 { "&" } else { "" };
        let _infallible = write!(text, "{and}{name}={value}");
    }
}

/// Outer blanks go, inner ones become one.
fn push_trimmed(text: &mut String, value: &[u8]) {
    let value = String::from_utf8_lossy(value);
    for (index, word) in value.split_ascii_whitespace().enumerate() {
        if index > 0 {
            text.push(' ');
        }
        text.push_str(word);
    }
}

/// Signs outgoing requests with one key for one service.
#[derive(Clone, Copy)]
pub struct Signer<'a> {
    pub access_key_id: &'a str,
    pub secret_access_key: &'a str,
    pub region: &'a str,
    /// `lambda`, `s3`, `sqs`, `sns`, `logs`, …
    pub service: &'a str,
    pub path_style: PathStyle,
    /// Sends the body's hash as `x-amz-content-sha256` too: S3 asks for it, others allow it.
    pub content_sha256: bool,
}

impl std::fmt::Debug for Signer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (id, region, service) = (self.access_key_id, self.region, self.service);
        write!(f, "Signer({id}, {region}, {service})")
    }
}

/// The body, as far as a signature knows it.
#[derive(Debug, Clone, Copy)]
pub enum Body<'a> {
    Bytes(&'a [u8]),
    /// Lower-case hex SHA-256 of the body.
    Hash(&'a str),
    Unsigned,
}

impl Body<'_> {
    fn hash(&self) -> Cow<'_, str> {
        match self {
            Self::Bytes([]) => EMPTY_SHA256.into(),
            Self::Bytes(bytes) => sha256_hex(bytes).into(),
            Self::Hash(hash) => (*hash).into(),
            Self::Unsigned => UNSIGNED_PAYLOAD.into(),
        }
    }
}

impl Signer<'_> {
    /// Adds `x-amz-date`, `authorization` and, where asked for, `x-amz-content-sha256`.
    ///
    /// `headers` must hold `host` as it will be sent; what is added later is not signed.
    ///
    /// # Errors
    /// An access key id or a region that no header can carry.
    pub fn sign_headers(
        &self,
        request: Request<'_>,
        headers: &mut HeaderMap,
        body: Body<'_>,
        now: Timestamp,
    ) -> Result<(), InvalidHeaderValue> {
        let date = amz_date(now);
        let scope = Scope { date: &date[..8], region: self.region, service: self.service };
        let hash = body.hash();
        headers.insert(X_AMZ_DATE, HeaderValue::from_str(&date)?);
        if self.content_sha256 {
            headers.insert(X_AMZ_CONTENT_SHA256, HeaderValue::from_str(&hash)?);
        }
        headers.remove(AUTHORIZATION);
        let signed = names_to_sign(headers);
        let names = signed.iter().map(String::as_str);
        let canonical = canonical_request(request, self.path_style, headers, names, &hash);
        let signature = self.signature(&date, scope, &canonical);
        let authorization = format!(
            "{ALGORITHM} Credential={}/{}/{}/{}/aws4_request, SignedHeaders={}, Signature={signature}",
            self.access_key_id,
            scope.date,
            scope.region,
            scope.service,
            signed.join(";")
        );
        headers.insert(AUTHORIZATION, HeaderValue::from_str(&authorization)?);
        Ok(())
    }

    /// The query of a presigned address: `request.query` with the signature's parameters after it.
    ///
    /// `headers` are those that the user must send; `host` at least. `expires` is in seconds, up to 604,800 (a week).
    pub fn presign(
        &self,
        request: Request<'_>,
        headers: &HeaderMap,
        body: Body<'_>,
        expires: u32,
        now: Timestamp,
    ) -> String {
        let date = amz_date(now);
        let scope = Scope { date: &date[..8], region: self.region, service: self.service };
        let signed = names_to_sign(headers);
        let credential = format!(
            "{}/{}/{}/{}/aws4_request",
            self.access_key_id, scope.date, scope.region, scope.service
        );
        let mut query = request.query.to_owned();
        if !query.is_empty() {
            query.push('&');
        }
        let _infallible = write!(
            query,
            "X-Amz-Algorithm={ALGORITHM}&X-Amz-Credential={}&X-Amz-Date={date}&X-Amz-Expires={expires}&X-Amz-SignedHeaders={}",
            encode(&credential),
            encode(&signed.join(";"))
        );
        let request = Request { query: &query, ..request };
        let names = signed.iter().map(String::as_str);
        let canonical = canonical_request(request, self.path_style, headers, names, &body.hash());
        let signature = self.signature(&date, scope, &canonical);
        query.push_str("&X-Amz-Signature=");
        query.push_str(&signature);
        query
    }

    fn signature(&self, date: &str, scope: Scope<'_>, canonical: &str) -> String {
        let key = SigningKey::new(self.secret_access_key, scope);
        hex(&key.sign(&string_to_sign(date, scope, canonical)))
    }
}

fn names_to_sign(headers: &HeaderMap) -> Vec<String> {
    let names = headers.keys().map(HeaderName::as_str);
    let mut names: Vec<String> =
        names.filter(|name| !NEVER_SIGNED.contains(name)).map(str::to_owned).collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    const NOW: &str = "20150830T123600Z";

    fn signer(service: &str) -> Signer<'_> {
        Signer {
            access_key_id: "AKIDEXAMPLE",
            secret_access_key: SECRET,
            region: "us-east-1",
            service,
            path_style: PathStyle::Twice,
            content_sha256: false,
        }
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        map
    }

    /// Method, path and query, further headers, body.
    type Sent<'a> = (&'a str, &'a str, &'a [(&'static str, &'static str)], &'a [u8]);

    fn request<'a>(method: &'a str, target: &'a str) -> Request<'a> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Request { method, path, query }
    }

    /// What follows `SignedHeaders=`.
    fn signed(signer: Signer<'_>, host: &'static str, sent: Sent<'_>) -> String {
        let mut map = headers(&[("host", host)]);
        map.extend(headers(sent.2));
        let body = Body::Bytes(sent.3);
        let now = parse_amz_date(NOW).unwrap();
        signer.sign_headers(request(sent.0, sent.1), &mut map, body, now).unwrap();
        let all = map[AUTHORIZATION].to_str().unwrap().to_owned();
        let (before, after) = all.split_once(", SignedHeaders=").unwrap();
        let scope = format!("20150830/us-east-1/{}/aws4_request", signer.service);
        assert_eq!(before, format!("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/{scope}"));
        after.replace(", Signature=", " ")
    }

    /// Source: AWS's public Signature Version 4 test suite, by the names of its cases.
    #[test]
    fn aws_test_suite() {
        for (case, sent, want) in [
            (
                "get-vanilla",
                ("GET", "/", &[][..], &b""[..]),
                "host;x-amz-date 5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "get-vanilla-query-order-key-case",
                ("GET", "/?Param2=value2&Param1=value1", &[], b""),
                "host;x-amz-date b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            (
                "post-vanilla",
                ("POST", "/", &[], b""),
                "host;x-amz-date 5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            (
                "get-header-value-trim",
                ("GET", "/", &[("my-header1", " value1"), ("my-header2", " \"a   b   c\"")], b""),
                "host;my-header1;my-header2;x-amz-date acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
            ),
            (
                "get-relative-relative",
                ("GET", "/example1/example2/../..", &[], b""),
                "host;x-amz-date 5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "get-slash-dot-slash",
                ("GET", "/./", &[], b""),
                "host;x-amz-date 5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
        ] {
            let got = signed(signer("service"), "example.amazonaws.com", sent);
            assert_eq!(got, want, "{case}");
        }
    }

    /// Source: AWS, "Examples of how to derive a signing key".
    #[test]
    fn signing_key_of_the_documentation() {
        let scope = Scope { date: "20150830", region: "us-east-1", service: "iam" };
        let text = "AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/us-east-1/iam/aws4_request\nf536975d06c0309214f805bb90ccff089219ecd68b2577efef23edd43b7e1a59";
        let signature = SigningKey::new(SECRET, scope).sign(text);
        let want = "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7";
        assert_eq!(hex(&signature), want);
    }

    const HOST: &str = "127.0.0.1:9330";

    /// Made once with botocore 1.44.8.
    #[test]
    fn botocore_signs_the_same() {
        let arn = "arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Af";
        let invoke = format!("/2015-03-31/functions/{arn}/invocations?Qualifier=%24LATEST");
        let tags = format!("/2017-03-31/tags/{arn}");
        for (sent, want) in [
            (
                ("GET", "/2015-03-31/functions/", &[][..], &b""[..]),
                "host;x-amz-date 1f07ad852c046f5534609fbfc8096ffad6dab81d8b72822556bf36cf18524263",
            ),
            (
                (
                    "POST",
                    invoke.as_str(),
                    &[
                        ("content-type", "application/octet-stream"),
                        ("x-amz-invocation-type", "RequestResponse"),
                        ("x-amzn-trace-id", "never signed"),
                    ],
                    b"{\"a\": 1}",
                ),
                "content-type;host;x-amz-date;x-amz-invocation-type ac36125819099c393768f81abfbe4b723b9dfa6e584ce85644fdf674d37884af",
            ),
            (
                ("GET", tags.as_str(), &[], b""),
                "host;x-amz-date f4ab60bf5dc622c6ff12f4a5d3ed2e0a5b7110afc976f0b512b9b5d1e8ef4afb",
            ),
            (
                ("DELETE", "/2017-03-31/tags/f?tagKeys=b%2Fc&tagKeys=a%20b&tagKeys=a", &[], b""),
                "host;x-amz-date edc3a1f849a1253f3ebbcc8abed9dce460fd640bd54deb332bc8b97b71027d7f",
            ),
            (
                (
                    "GET",
                    "/2015-03-31/functions/f%2Fg/versions?Marker=a%2Bb%3D%3D&MaxItems=5&List",
                    &[("x-amz-client-context", "  a   b  ")],
                    b"",
                ),
                "host;x-amz-client-context;x-amz-date eb820cc5d172dbebb94a9bb19b499e86205aa4bd032f96496e7c496032317716",
            ),
            (
                ("PUT", "/a/./b/../c//d/?z=1&Z=2&a=%C3%A9", &[], b"x"),
                "host;x-amz-date c6471e7d4a5e1b678d4c1f17234de814d2d3e87602bee40583e1c50c2137b0a1",
            ),
        ] {
            assert_eq!(signed(signer("lambda"), HOST, sent), want, "{} {}", sent.0, sent.1);
        }
        let s3 = Signer { path_style: PathStyle::AsSent, content_sha256: true, ..signer("s3") };
        let sent: Sent<'_> = ("GET", "/bucket/a%20b//c%2Bd.zip?versionId=7", &[], b"");
        let want = "host;x-amz-content-sha256;x-amz-date 12480f47cf49a245003dc540eb8425df509f2b19e6329ba6f067f54d27ad8ab1";
        assert_eq!(signed(s3, HOST, sent), want);
    }

    #[test]
    fn botocore_presigns_the_same() {
        let now = parse_amz_date(NOW).unwrap();
        let host = headers(&[("host", HOST)]);
        let list = request("GET", "/2015-03-31/functions/");
        let query = signer("lambda").presign(list, &host, Body::Bytes(b""), 900, now);
        assert_eq!(
            query,
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE%2F20150830%2Fus-east-1%2Flambda%2Faws4_request&X-Amz-Date=20150830T123600Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host&X-Amz-Signature=ba16e47e99f4afba2b915a88fd2c33c76c2b618aec8e34fc145c2905900cebc6"
        );
        let s3 = Signer { path_style: PathStyle::AsSent, ..signer("s3") };
        let object = request("GET", "/bucket/a%20b//c%2Bd.zip?versionId=7");
        let query = s3.presign(object, &host, Body::Unsigned, 900, now);
        let want = "8322a874c8f79d39c137cdc41f9e4047371f022e8f88c555c7cbdf6da0925050";
        assert_eq!(query.rsplit_once('=').unwrap().1, want);
        assert!(query.starts_with("versionId=7&X-Amz-Algorithm="), "{query}");
    }

    #[test]
    fn dates_are_read_strictly() {
        assert_eq!(amz_date(parse_amz_date(NOW).unwrap()), NOW);
        for bad in [
            "",
            "20150830T123600",
            "20151330T123600Z",
            "2015083aT123600Z",
            "20150830 123600Z",
            "20150830T12360éZ",
        ] {
            assert_eq!(parse_amz_date(bad), None, "{bad}");
        }
    }

    #[test]
    fn paths_are_normalised() {
        for (path, want) in [
            ("", "/"),
            ("/", "/"),
            ("/a/b/", "/a/b/"),
            ("//a//b", "/a/b"),
            ("/a/./b/../c", "/a/c"),
            ("/../..", "/"),
            ("/.hidden/a", "/.hidden/a"),
        ] {
            assert_eq!(normal_path(path), want, "{path}");
        }
    }
}
