//! Signatures, good and bad.

use hyper::header::HeaderValue;

use super::*;
use crate::sigv4::{Body, Signer};

const NOW: &str = "20150830T123600Z";
const MISMATCH: &str = "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.";

fn authority() -> Authority {
    let mut credentials = Credentials::new("AKIDROOT".into(), "root secret".into());
    let principal = Principal {
        access_key_id: "AKIDOTHER".into(),
        secret_access_key: "other secret".into(),
        arn: "arn:aws:iam::000000000000:user/other".into(),
    };
    assert!(credentials.add(principal.clone()));
    assert!(!credentials.add(principal), "a key id is taken once");
    Authority::new(credentials, "us-east-1".into(), SKEW)
}

fn root() -> Signer<'static> {
    Signer {
        access_key_id: "AKIDROOT",
        secret_access_key: "root secret",
        region: "us-east-1",
        service: "lambda",
        path_style: PathStyle::Twice,
        content_sha256: false,
    }
}

struct Sent {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: &'static [u8],
}

impl Sent {
    fn new(method: Method, target: &str, body: &'static [u8]) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("127.0.0.1:9330"));
        Self { method, uri: target.parse().unwrap(), headers, body }
    }

    fn request(&self) -> Request<'_> {
        let query = self.uri.query().unwrap_or_default();
        Request { method: self.method.as_str(), path: self.uri.path(), query }
    }

    fn signed(mut self, signer: Signer<'_>, date: &str) -> Self {
        let mut headers = self.headers.clone();
        let now = sigv4::parse_amz_date(date).unwrap();
        signer.sign_headers(self.request(), &mut headers, Body::Bytes(self.body), now).unwrap();
        self.headers = headers;
        self
    }

    fn presigned(mut self, signer: Signer<'_>, body: Body<'_>, date: &str) -> Self {
        let now = sigv4::parse_amz_date(date).unwrap();
        let query = signer.presign(self.request(), &self.headers, body, 900, now);
        self.uri = format!("{}?{query}", self.uri.path()).parse().unwrap();
        self
    }

    fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(name, value.parse().unwrap());
        self
    }

    fn verify(&self) -> Result<Caller, (&'static str, String)> {
        let authority = authority();
        let head = Head { method: &self.method, uri: &self.uri, headers: &self.headers };
        let now = sigv4::parse_amz_date(NOW).unwrap();
        let claim = authority.claim(head, "lambda", now);
        let checked = claim.and_then(|claim| {
            let first = authority.check(&claim, head, &sigv4::sha256_hex(self.body));
            let again = authority.check(&claim, head, &sigv4::sha256_hex(self.body));
            assert_eq!(first, again, "with the kept key as with a new one");
            first
        });
        checked.map_err(|error| (error.code(), error.to_string()))
    }
}

fn list() -> Sent {
    Sent::new(Method::GET, "/2015-03-31/functions/?Marker=a%2Bb", b"")
}

fn invoke() -> Sent {
    let target = "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Af/invocations?Qualifier=%24LATEST";
    Sent::new(Method::POST, target, b"{}").header("x-amz-invocation-type", "Event")
}

#[test]
fn good_signatures_tell_their_caller() {
    let other = Signer { access_key_id: "AKIDOTHER", secret_access_key: "other secret", ..root() };
    let hashed = Signer { content_sha256: true, ..root() };
    let principal = Caller::Principal { arn: "arn:aws:iam::000000000000:user/other".into() };
    for (what, sent, want) in [
        ("header", list().signed(root(), NOW), Caller::Root),
        ("body", invoke().signed(root(), NOW), Caller::Root),
        ("hash header", invoke().signed(hashed, NOW), Caller::Root),
        ("principal", list().signed(other, NOW), principal),
        ("slow clock", list().signed(root(), "20150830T123100Z"), Caller::Root),
        ("fast clock", list().signed(root(), "20150830T124100Z"), Caller::Root),
        ("presigned", list().presigned(root(), Body::Bytes(b""), "20150830T122200Z"), Caller::Root),
        ("presigned body", invoke().presigned(root(), Body::Bytes(b"{}"), NOW), Caller::Root),
        (
            "presigned, body left open",
            invoke().header("x-amz-content-sha256", "UNSIGNED-PAYLOAD").presigned(
                root(),
                Body::Unsigned,
                NOW,
            ),
            Caller::Root,
        ),
        (
            "unsigned trace id",
            list().signed(root(), NOW).header("x-amzn-trace-id", "x"),
            Caller::Root,
        ),
    ] {
        assert_eq!(sent.verify(), Ok(want), "{what}");
    }
}

#[test]
fn a_date_header_does_where_there_is_no_x_amz_date() {
    let scope = Scope { date: "20150830", region: "us-east-1", service: "lambda" };
    let mut sent = list().header("date", "Sun, 30 Aug 2015 12:36:00 GMT");
    let names = ["date", "host"].into_iter();
    let canonical = sigv4::canonical_request(
        sent.request(),
        PathStyle::Twice,
        &sent.headers,
        names,
        sigv4::EMPTY_SHA256,
    );
    let key = SigningKey::new("root secret", scope);
    let signature = sigv4::hex(&key.sign(&sigv4::string_to_sign(NOW, scope, &canonical)));
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential=AKIDROOT/20150830/us-east-1/lambda/aws4_request,SignedHeaders=date;host,Signature={signature}"
    );
    sent = sent.header("authorization", &authorization);
    assert_eq!(sent.verify(), Ok(Caller::Root));
}

#[test]
fn bad_signatures_are_refused_in_awss_words() {
    let (unknown, wrong) = ("UnrecognizedClientException", "InvalidSignatureException");
    let invalid = "The security token included in the request is invalid.";
    let hash = "The provided 'x-amz-content-sha256' header does not match what was computed.";
    let hashed = Signer { content_sha256: true, ..root() };
    let mut body = invoke().signed(root(), NOW);
    body.body = b"{ }";
    let mut swapped = invoke().signed(hashed, NOW);
    swapped.body = b"{ }";
    let mut method = list().signed(root(), NOW);
    method.method = Method::DELETE;
    let mut target = list().signed(root(), NOW);
    target.uri = "/2015-03-31/functions/?Marker=a".parse().unwrap();
    let mut host = list().signed(root(), NOW);
    let authorization = host.headers["authorization"].to_str().unwrap();
    let authorization = authorization.replace("SignedHeaders=host;", "SignedHeaders=");
    host = host.header("authorization", &authorization);
    for (what, sent, code, text) in [
        ("none", list(), "MissingAuthenticationTokenException", "Missing Authentication Token"),
        (
            "basic",
            list().header("authorization", "Basic eDp5"),
            "IncompleteSignatureException",
            "Authorization header requires 'Credential' parameter. Authorization header requires 'Signature' parameter. Authorization header requires 'SignedHeaders' parameter. Authorization=Basic",
        ),
        (
            "unknown key",
            list().signed(Signer { access_key_id: "AKIDX", ..root() }, NOW),
            unknown,
            invalid,
        ),
        ("token", list().header("x-amz-security-token", "t").signed(root(), NOW), unknown, invalid),
        (
            "secret",
            list().signed(Signer { secret_access_key: "x", ..root() }, NOW),
            wrong,
            MISMATCH,
        ),
        ("other body", body, wrong, MISMATCH),
        ("other body, old hash", swapped, wrong, hash),
        ("other method", method, wrong, MISMATCH),
        ("other query", target, wrong, MISMATCH),
        (
            "header changed",
            invoke().signed(root(), NOW).header("x-amz-invocation-type", "DryRun"),
            wrong,
            MISMATCH,
        ),
        (
            "header added",
            list().signed(root(), NOW).header("x-amz-log-type", "Tail"),
            wrong,
            "'x-amz-log-type' must be a 'SignedHeader' in the AWS Authorization.",
        ),
        (
            "host not signed",
            host,
            wrong,
            "'host' must be a 'SignedHeader' in the AWS Authorization.",
        ),
        (
            "region",
            list().signed(Signer { region: "eu-west-1", ..root() }, NOW),
            wrong,
            "Credential should be scoped to a valid region, not 'eu-west-1'. ",
        ),
        (
            "service",
            list().signed(Signer { service: "logs", ..root() }, NOW),
            wrong,
            "Credential should be scoped to correct service: 'lambda'. ",
        ),
        (
            "old",
            list().signed(root(), "20150830T123059Z"),
            wrong,
            "Signature expired: 20150830T123059Z is now earlier than 20150830T123100Z (20150830T123600Z - 5 min.)",
        ),
        (
            "new",
            list().signed(root(), "20150830T124101Z"),
            wrong,
            "Signature not yet current: 20150830T124101Z is still later than 20150830T124100Z (20150830T123600Z + 5 min.)",
        ),
        (
            "other day",
            list().signed(root(), NOW).header("x-amz-date", "20150831T123600Z"),
            wrong,
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '20150830' != '20150831', from '20150831T123600Z'.",
        ),
        (
            "unsigned body in headers",
            invoke().header("x-amz-content-sha256", "UNSIGNED-PAYLOAD").signed(root(), NOW),
            wrong,
            hash,
        ),
        (
            "presigned and over",
            list().presigned(root(), Body::Bytes(b""), "20150830T122059Z"),
            wrong,
            "Signature expired: 20150830T122059Z is now earlier than 20150830T122100Z (20150830T123600Z - 15 min.)",
        ),
        (
            "presigned, other body",
            invoke().presigned(root(), Body::Bytes(b"x"), NOW),
            wrong,
            MISMATCH,
        ),
        (
            "presigned, no body hash",
            invoke().presigned(root(), Body::Unsigned, NOW),
            wrong,
            MISMATCH,
        ),
    ] {
        assert_eq!(sent.verify(), Err((code, text.to_owned())), "{what}");
    }
}

#[test]
fn presigned_queries_are_whole_and_live_a_week_at_most() {
    let sent = list().presigned(root(), Body::Bytes(b""), NOW);
    let text = sent.uri.to_string();
    for (from, to, code) in [
        ("X-Amz-Expires=900", "X-Amz-Expires=604801", "IncompleteSignatureException"),
        ("X-Amz-Expires=900", "X-Amz-Expires=0", "IncompleteSignatureException"),
        ("X-Amz-Expires=900", "X-Amz-Expires=901", "InvalidSignatureException"),
        ("&X-Amz-Expires=900", "", "IncompleteSignatureException"),
        ("HMAC-SHA256", "HMAC-SHA1", "IncompleteSignatureException"),
        ("X-Amz-SignedHeaders=host", "X-Amz-SignedHeaders=date", "InvalidSignatureException"),
        ("X-Amz-Signature=", "X-Amz-Signature=0", "InvalidSignatureException"),
        ("AKIDROOT%2F", "AKIDROOT", "IncompleteSignatureException"),
        ("X-Amz-Date=2015", "X-Amz-Date=x015", "IncompleteSignatureException"),
    ] {
        let changed = text.replace(from, to);
        assert_ne!(changed, text);
        let sent = Sent::new(Method::GET, &changed, b"");
        assert_eq!(sent.verify().unwrap_err().0, code, "{to}");
    }
}
