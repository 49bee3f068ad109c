//! Who a request is from: the server's side of Signature Version 4, in headers or in the query, against the keys that
//! Kennel knows.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use hyper::header::HeaderMap;
use jiff::Timestamp;
use subtle::ConstantTimeEq;

use super::Caller;
use crate::sigv4::{
    ALGORITHM, PathStyle, Request, Scope, Signer, SigningKey, UNSIGNED_PAYLOAD, amz_date,
    canonical_request, hex, parse_amz_date, sha256_hex, string_to_sign,
};

/// Longest life of an address, in seconds. Source: AWS, "Authenticating requests: using query parameters".
const MAX_EXPIRES: u32 = 604_800;
/// How far a caller's clock may be off, in seconds.
const SKEW_S: i64 = 300;

/// Why a request is not who it says; the text is AWS's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("Missing Authentication Token")]
    Missing,
    /// `IncompleteSignatureException`.
    #[error("{0}")]
    Incomplete(String),
    /// `UnrecognizedClientException`.
    #[error("The security token included in the request is invalid.")]
    UnknownKey,
    /// `InvalidSignatureException`.
    #[error("{0}")]
    Invalid(String),
}

impl Refusal {
    fn mismatch() -> Self {
        Self::Invalid("The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.".into())
    }
}

/// What a request claims, before it is believed.
#[derive(Debug, PartialEq, Eq)]
struct Claim<'a> {
    access_key_id: &'a str,
    date: &'a str,
    region: &'a str,
    service: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
    time: &'a str,
    /// Seconds, in the query form.
    expires: Option<u32>,
    /// As it was given.
    credential: &'a str,
}

/// Keys of a day, so that the hashes that make one are not done for each request.
#[derive(Debug, Default)]
pub struct KeyCache {
    keys: RwLock<HashMap<String, SigningKey>>,
}

/// Days, keys and services that are remembered; beyond them all are forgotten.
const MAX_CACHED: usize = 256;

impl KeyCache {
    /// `credential`: all that the key depends on but the secret, which never changes under an access key id.
    fn key(&self, credential: &str, secret: &str, scope: Scope<'_>) -> SigningKey {
        if let Some(key) = self.keys.read().unwrap_or_else(PoisonError::into_inner).get(credential)
        {
            return key.clone();
        }
        let key = SigningKey::new(secret, scope);
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        if keys.len() >= MAX_CACHED {
            keys.clear();
        }
        keys.insert(credential.to_owned(), key.clone());
        key
    }
}

/// Whose keys are known, and what is accepted.
pub struct Keys {
    root: String,
    /// Secret and, but for the root key, ARN, by access key id.
    keys: HashMap<String, (String, Option<String>)>,
    region: String,
    cache: KeyCache,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("root", &self.root).finish_non_exhaustive()
    }
}

impl Keys {
    pub fn new(root: (String, String), region: String) -> Self {
        let keys = HashMap::from([(root.0.clone(), (root.1, None))]);
        Self { root: root.0, keys, region, cache: KeyCache::default() }
    }

    pub fn add(&mut self, access_key_id: String, secret: String, arn: String) {
        self.keys.insert(access_key_id, (secret, Some(arn)));
    }

    /// Signs with the root key for this server's region.
    pub fn signer(&self, service: &'static str) -> Signer<'_> {
        let secret = self.keys.get(&self.root).map_or("", |(secret, _)| secret.as_str());
        Signer {
            access_key_id: &self.root,
            secret_access_key: secret,
            region: &self.region,
            service,
            path_style: PathStyle::Twice,
            content_sha256: false,
        }
    }

    /// Verifies a request with its whole body; who signed it.
    ///
    /// # Errors
    /// [`Refusal`], with AWS's text. Nothing of the request may be acted on then.
    pub fn verify(
        &self,
        request: Request<'_>,
        headers: &HeaderMap,
        body: &[u8],
        services: &[&str],
        now: Timestamp,
    ) -> Result<Caller, Refusal> {
        let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
        let (claim, in_query) = match header("authorization") {
            Some(authorization) => (header_claim(authorization, header("x-amz-date"))?, false),
            None if request.query.contains("X-Amz-Signature=") => {
                (query_claim(request.query)?, true)
            }
            None => return Err(Refusal::Missing),
        };
        self.check_scope(&claim, services)?;
        check_time(&claim, now)?;
        let Some((secret, arn)) = self.keys.get(claim.access_key_id) else {
            return Err(Refusal::UnknownKey);
        };
        let signed = claim.signed_headers.replace("%3B", ";");
        if !signed.split(';').any(|name| name == "host") {
            let text = "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.";
            return Err(Refusal::Invalid(text.into()));
        }
        let hash = match header("x-amz-content-sha256") {
            Some(UNSIGNED_PAYLOAD) if in_query => UNSIGNED_PAYLOAD.to_owned(),
            given => {
                let computed = sha256_hex(body);
                if given.is_some_and(|given| given != computed) {
                    return Err(Refusal::mismatch());
                }
                computed
            }
        };
        let scope = Scope { date: claim.date, region: claim.region, service: claim.service };
        let canonical =
            canonical_request(request, PathStyle::Twice, headers, signed.split(';'), &hash);
        let key = self.cache.key(claim.credential, secret, scope);
        let expected = hex(&key.sign(&string_to_sign(claim.time, scope, &canonical)));
        let same: bool = expected.as_bytes().ct_eq(claim.signature.as_bytes()).into();
        if !same {
            return Err(Refusal::mismatch());
        }
        Ok(arn.clone().map_or(Caller::Root, |arn| Caller::Principal { arn }))
    }

    fn check_scope(&self, claim: &Claim<'_>, services: &[&str]) -> Result<(), Refusal> {
        if claim.region != self.region {
            let text = format!(
                "Credential should be scoped to a valid region, not '{}'. This server's is '{}'.",
                claim.region, self.region
            );
            return Err(Refusal::Invalid(text));
        }
        if !services.contains(&claim.service) {
            let text = format!(
                "Credential should be scoped to correct service: '{}'.",
                services.join("' or '")
            );
            return Err(Refusal::Invalid(text));
        }
        if !claim.time.starts_with(claim.date) {
            let text = format!(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{}' != '{}', from '{}'.",
                claim.date,
                claim.time.get(..8).unwrap_or_default(),
                claim.time
            );
            return Err(Refusal::Invalid(text));
        }
        Ok(())
    }
}

fn check_time(claim: &Claim<'_>, now: Timestamp) -> Result<(), Refusal> {
    let Some(signed) = parse_amz_date(claim.time) else {
        let text = format!(
            "Date must be in ISO-8601 'basic format'. Got '{}'. See http://en.wikipedia.org/wiki/ISO_8601",
            claim.time
        );
        return Err(Refusal::Incomplete(text));
    };
    let life = claim.expires.map_or(SKEW_S, i64::from);
    let (age, minutes) = (now.as_second() - signed.as_second(), SKEW_S / 60);
    let shown = amz_date(now);
    let at = |offset: i64| {
        Timestamp::from_second(now.as_second() + offset).map(amz_date).unwrap_or_default()
    };
    if age > life {
        return Err(Refusal::Invalid(format!(
            "Signature expired: {} is now earlier than {} ({shown} - {minutes} min.)",
            claim.time,
            at(-life)
        )));
    }
    if -age > SKEW_S {
        return Err(Refusal::Invalid(format!(
            "Signature not yet current: {} is still later than {} ({shown} + {minutes} min.)",
            claim.time,
            at(SKEW_S)
        )));
    }
    Ok(())
}

fn header_claim<'a>(authorization: &'a str, time: Option<&'a str>) -> Result<Claim<'a>, Refusal> {
    let incomplete = |what: &str| {
        Refusal::Incomplete(format!(
            "Authorization header requires '{what}' parameter. Authorization=AWS4-HMAC-SHA256"
        ))
    };
    let Some(rest) = authorization.strip_prefix(ALGORITHM) else {
        let text =
            "Unsupported AWS 'algorithm' in the Authorization header; want AWS4-HMAC-SHA256.";
        return Err(Refusal::Incomplete(text.into()));
    };
    let field =
        |name: &str| rest.split(',').find_map(|f| f.trim().strip_prefix(name)?.strip_prefix('='));
    let credential = field("Credential").ok_or_else(|| incomplete("Credential"))?;
    let signed_headers = field("SignedHeaders").ok_or_else(|| incomplete("SignedHeaders"))?;
    let signature = field("Signature").ok_or_else(|| incomplete("Signature"))?;
    let time = time.ok_or_else(|| {
        let text =
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.";
        Refusal::Incomplete(text.into())
    })?;
    claim(credential, signed_headers, signature, time, None)
}

fn query_claim(query: &str) -> Result<Claim<'_>, Refusal> {
    let raw =
        |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let need = |name: &str| {
        raw(name).ok_or_else(|| {
            let text = format!("AWS query-string parameters must include '{name}'. Re-examine the query-string parameters.");
            Refusal::Incomplete(text)
        })
    };
    if need("X-Amz-Algorithm")? != ALGORITHM {
        let text = "Unsupported AWS 'X-Amz-Algorithm'; want AWS4-HMAC-SHA256.";
        return Err(Refusal::Incomplete(text.into()));
    }
    let expires: u32 = need("X-Amz-Expires")?
        .parse()
        .ok()
        .filter(|seconds| (1..=MAX_EXPIRES).contains(seconds))
        .ok_or_else(|| {
            Refusal::Incomplete(
                "X-Amz-Expires must be a number of seconds between 1 and 604800.".into(),
            )
        })?;
    claim(
        need("X-Amz-Credential")?,
        need("X-Amz-SignedHeaders")?,
        need("X-Amz-Signature")?,
        need("X-Amz-Date")?,
        Some(expires),
    )
}

fn claim<'a>(
    credential: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
    time: &'a str,
    expires: Option<u32>,
) -> Result<Claim<'a>, Refusal> {
    // In a query the slashes and semicolons may be encoded.
    let parts: Vec<&str> = if credential.contains('/') {
        credential.split('/').collect()
    } else {
        credential.split("%2F").collect()
    };
    match parts.as_slice() {
        [access_key_id, date, region, service, "aws4_request"] if date.len() == 8 => Ok(Claim {
            access_key_id,
            date,
            region,
            service,
            signed_headers,
            signature,
            time,
            expires,
            credential,
        }),
        _ => Err(Refusal::Incomplete(format!(
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '{credential}'"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;
    use crate::sigv4::Body;

    const ID: &str = "AKIDEXAMPLE";
    const PATH: &str = "/2015-03-31/functions/a%3Ab/invocations";

    fn keys() -> Keys {
        let mut keys = Keys::new((ID.into(), "secret".into()), "us-east-1".into());
        keys.add("AKIDOTHER".into(), "other".into(), "arn:aws:iam::111111111111:role/r".into());
        keys
    }

    fn at(text: &str) -> Timestamp {
        parse_amz_date(text).unwrap()
    }

    fn request<'a>(path: &'a str, query: &'a str) -> Request<'a> {
        Request { method: "POST", path, query }
    }

    fn signed(path: &str, query: &str, body: &[u8]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("127.0.0.1:9330"));
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        let keys = keys();
        let signer = Signer { content_sha256: true, ..keys.signer("lambda") };
        let now = at("20260101T000000Z");
        signer.sign_headers(request(path, query), &mut headers, Body::Bytes(body), now).unwrap();
        headers
    }

    fn check(
        path: &str,
        query: &str,
        headers: &HeaderMap,
        body: &[u8],
        now: &str,
    ) -> Result<Caller, Refusal> {
        keys().verify(request(path, query), headers, body, &["lambda"], at(now))
    }

    #[test]
    fn what_is_changed_after_signing_is_refused() {
        let query = "Qualifier=%24LATEST&B=1";
        let headers = signed(PATH, query, b"{}");
        let now = "20260101T000100Z";
        assert_eq!(check(PATH, query, &headers, b"{}", now), Ok(Caller::Root));
        assert!(
            check(PATH, "B=1&Qualifier=$LATEST", &headers, b"{}", now).is_ok(),
            "other encoding"
        );
        assert!(check(PATH, query, &headers, b"{ }", now).is_err(), "body");
        assert!(check("/2015-03-31/functions/a/invocations", query, &headers, b"{}", now).is_err());
        assert!(check(PATH, "Qualifier=1&B=1", &headers, b"{}", now).is_err(), "query");
        for name in headers.keys() {
            let mut changed = headers.clone();
            let value = format!("{}0", headers[name].to_str().unwrap());
            changed.insert(name, value.parse().unwrap());
            assert!(check(PATH, query, &changed, b"{}", now).is_err(), "{name}");
        }
    }

    #[test]
    fn time_is_held_to_five_minutes_either_way() {
        let headers = signed("/", "", b"");
        for (now, good) in [
            ("20260101T000459Z", true),
            ("20260101T000501Z", false),
            ("20251231T235501Z", true),
            ("20251231T235459Z", false),
        ] {
            assert_eq!(check("/", "", &headers, b"", now).is_ok(), good, "{now}");
        }
        let error = check("/", "", &headers, b"", "20260101T010000Z").unwrap_err().to_string();
        let want = "Signature expired: 20260101T000000Z is now earlier than 20260101T005500Z (20260101T010000Z - 5 min.)";
        assert_eq!(error, want);
    }

    #[test]
    fn refusals_are_awss() {
        let now = "20260101T000000Z";
        assert_eq!(check("/", "", &HeaderMap::new(), b"", now), Err(Refusal::Missing));
        let with = |from: &str, to: &str| {
            let mut headers = signed("/", "", b"");
            let text = headers["authorization"].to_str().unwrap().replace(from, to);
            headers.insert("authorization", text.parse().unwrap());
            check("/", "", &headers, b"", now)
        };
        assert_eq!(with(ID, "AKIDNOBODY"), Err(Refusal::UnknownKey));
        assert_eq!(with(ID, "AKIDOTHER"), Err(Refusal::mismatch()));
        assert!(matches!(with("us-east-1", "eu-west-1"), Err(Refusal::Invalid(_))));
        assert!(matches!(with("/lambda/", "/s3/"), Err(Refusal::Invalid(_))));
        assert!(matches!(with("content-type;host;", "content-type;"), Err(Refusal::Invalid(_))));
        assert!(matches!(with("Credential=", "Cred="), Err(Refusal::Incomplete(_))));
        assert!(matches!(with("AWS4-HMAC-SHA256", "Basic"), Err(Refusal::Incomplete(_))));
    }

    #[test]
    fn an_address_works_until_it_expires_and_for_its_path_alone() {
        let keys = keys();
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("h:1"));
        fn get<'a>(path: &'a str, query: &'a str) -> Request<'a> {
            Request { method: "GET", path, query }
        }
        let now = at("20260101T000000Z");
        let query = keys.signer("lambda").presign(
            get("/_kennel/code/ab", ""),
            &headers,
            Body::Bytes(b""),
            600,
            now,
        );
        let check = |path, query: &str, now| {
            keys.verify(get(path, query), &headers, b"", &["lambda"], at(now)).is_ok()
        };
        assert!(check("/_kennel/code/ab", &query, "20260101T000959Z"));
        assert!(!check("/_kennel/code/ab", &query, "20260101T001001Z"));
        assert!(!check("/_kennel/code/ac", &query, "20260101T000001Z"));
        let longer = query.replace("Expires=600", "Expires=6000");
        assert!(!check("/_kennel/code/ab", &longer, "20260101T000001Z"));
    }
}
