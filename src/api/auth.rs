//! Who signed a request: keys, and the check of a Signature Version 4 in headers or in a presigned query.
//!
//! In two steps, so that no body is read for a stranger: [`Authority::claim`] looks at everything but the signature,
//! [`Authority::check`] at the signature, once the body's hash is known. Texts are AWS's.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use hyper::header::{AUTHORIZATION, DATE, HeaderMap, HeaderName};
use hyper::{Method, Uri};
use jiff::{SignedDuration, Timestamp};
use subtle::ConstantTimeEq;

use super::Caller;
use super::route::parse_query;
use crate::sigv4::{self, PathStyle, Request, Scope, SigningKey};

/// How far a client's clock may be off, as with AWS.
pub const SKEW: Duration = Duration::from_secs(5 * 60);
/// Seconds that a presigned address may live: a week.
const MAX_EXPIRES: i64 = 604_800;
/// Signing keys kept: one for each key, day and service in use.
const KEPT_KEYS: usize = 256;

/// Why a signature does not count. The text is AWS's and public.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error("Missing Authentication Token")]
    Missing,
    /// What the signature lacks.
    #[error("{0}")]
    Incomplete(String),
    #[error("The security token included in the request is invalid.")]
    UnknownKey,
    #[error(
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
    )]
    Mismatch,
    /// Made for something or sometime else.
    #[error("{0}")]
    Refused(String),
}

impl SignatureError {
    /// AWS's exception.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing => "MissingAuthenticationTokenException",
            Self::Incomplete(_) => "IncompleteSignatureException",
            Self::UnknownKey => "UnrecognizedClientException",
            Self::Mismatch | Self::Refused(_) => "InvalidSignatureException",
        }
    }
}

/// A key beside the root key.
#[derive(Clone)]
pub struct Principal {
    pub access_key_id: String,
    pub secret_access_key: String,
    pub arn: String,
}

impl std::fmt::Debug for Principal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Principal({}, {})", self.access_key_id, self.arn)
    }
}

/// All keys that may sign.
pub struct Credentials {
    keys: HashMap<String, (String, Caller)>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.keys.keys()).finish()
    }
}

impl Credentials {
    pub fn new(root_access_key_id: String, root_secret_access_key: String) -> Self {
        let root = (root_access_key_id, (root_secret_access_key, Caller::Root));
        Self { keys: HashMap::from([root]) }
    }

    /// Adds a principal; `false` where its access key id is taken.
    pub fn add(&mut self, principal: Principal) -> bool {
        if self.keys.contains_key(&principal.access_key_id) {
            return false;
        }
        let caller = Caller::Principal { arn: principal.arn };
        self.keys.insert(principal.access_key_id, (principal.secret_access_key, caller));
        true
    }
}

/// Checks signatures for one region.
#[derive(Debug)]
pub struct Authority {
    credentials: Credentials,
    region: String,
    skew: SignedDuration,
    cache: RwLock<HashMap<(String, String), SigningKey>>,
}

/// What of a request a signature is about, body apart.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    pub method: &'a Method,
    pub uri: &'a Uri,
    pub headers: &'a HeaderMap,
}

/// A signature by a known key, for this server and for now. Not yet checked.
#[derive(Debug)]
pub struct Claim<'a> {
    secret: &'a str,
    caller: &'a Caller,
    access_key_id: String,
    scope_date: String,
    service: &'static str,
    /// `YYYYMMDDTHHMMSSZ`.
    date: String,
    signed_headers: String,
    signature: [u8; 32],
    presigned: bool,
    /// As the query has it; a header says so too.
    query_hash: Option<String>,
}

/// Parts of a signature, from header or query.
struct Given {
    credential: String,
    signed_headers: String,
    signature: String,
    date: Option<String>,
    expires: Option<String>,
    token: bool,
    presigned: bool,
    query_hash: Option<String>,
}

impl Authority {
    pub fn new(credentials: Credentials, region: String, skew: Duration) -> Self {
        let skew = SignedDuration::try_from(skew).unwrap_or(SignedDuration::MAX);
        Self { credentials, region, skew, cache: RwLock::default() }
    }

    /// Reads the signature and checks its key, scope and time.
    ///
    /// # Errors
    /// All but [`SignatureError::Mismatch`].
    pub fn claim<'a>(
        &'a self,
        head: Head<'_>,
        service: &'static str,
        now: Timestamp,
    ) -> Result<Claim<'a>, SignatureError> {
        let given = given(head)?;
        let mut parts = given.credential.rsplitn(5, '/');
        let (Some(end), Some(for_service), Some(region), Some(day), Some(id)) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            let text = "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term,";
            return Err(SignatureError::Incomplete(format!("{text} got '{}'", given.credential)));
        };
        let (secret, caller) = self.credentials.keys.get(id).ok_or(SignatureError::UnknownKey)?;
        // None of the keys here is temporary.
        if given.token {
            return Err(SignatureError::UnknownKey);
        }
        let refused = |text| Err(SignatureError::Refused(text));
        if end != "aws4_request" {
            return refused(format!(
                "Credential should be scoped with a valid terminator: 'aws4_request', not '{end}'."
            ));
        }
        if for_service != service {
            return refused(format!(
                "Credential should be scoped to correct service: '{service}'. "
            ));
        }
        if region != self.region {
            return refused(format!(
                "Credential should be scoped to a valid region, not '{region}'. "
            ));
        }
        let (date, time) = signed_at(&given, head.headers)?;
        if !date.starts_with(day) || day.len() != 8 {
            return refused(format!(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{day}' != '{}', from '{date}'.",
                &date[..8]
            ));
        }
        self.check_time(&given, time, &date, now)?;
        check_signed_headers(&given, head.headers)?;
        let signature = unhex(&given.signature).ok_or(SignatureError::Mismatch)?;
        Ok(Claim {
            secret,
            caller,
            scope_date: day.to_owned(),
            access_key_id: id.to_owned(),
            service,
            date,
            signed_headers: given.signed_headers,
            signature,
            presigned: given.presigned,
            query_hash: given.query_hash,
        })
    }

    /// Checks the signature itself. `body_sha256`: lower-case hex, of the body as it came.
    ///
    /// # Errors
    /// [`SignatureError::Mismatch`], or a hash header that the body does not have.
    pub fn check(
        &self,
        claim: &Claim<'_>,
        head: Head<'_>,
        body_sha256: &str,
    ) -> Result<Caller, SignatureError> {
        let header = head.headers.get(sigv4::X_AMZ_CONTENT_SHA256);
        let said = match header {
            Some(value) => Some(value.to_str().map_err(|_| SignatureError::Mismatch)?),
            None => claim.query_hash.as_deref(),
        };
        let hash = match said {
            None => body_sha256,
            Some(sigv4::UNSIGNED_PAYLOAD) if claim.presigned => sigv4::UNSIGNED_PAYLOAD,
            Some(said) if said.eq_ignore_ascii_case(body_sha256) => said,
            Some(_) => {
                let text =
                    "The provided 'x-amz-content-sha256' header does not match what was computed.";
                return Err(SignatureError::Refused(text.into()));
            }
        };
        let request = Request {
            method: head.method.as_str(),
            path: head.uri.path(),
            query: head.uri.query().unwrap_or_default(),
        };
        let names = claim.signed_headers.split(';');
        let canonical =
            sigv4::canonical_request(request, PathStyle::Twice, head.headers, names, hash);
        let scope = Scope { date: &claim.scope_date, region: &self.region, service: claim.service };
        let key = self.signing_key(claim, scope);
        let want = key.sign(&sigv4::string_to_sign(&claim.date, scope, &canonical));
        if bool::from(want.ct_eq(&claim.signature)) {
            Ok(claim.caller.clone())
        } else {
            Err(SignatureError::Mismatch)
        }
    }

    fn check_time(
        &self,
        given: &Given,
        time: Timestamp,
        date: &str,
        now: Timestamp,
    ) -> Result<(), SignatureError> {
        let at = |shift: SignedDuration| {
            sigv4::amz_date(now.saturating_add(shift).unwrap_or(Timestamp::MAX))
        };
        let age = now.duration_since(time);
        let minutes = self.skew.as_mins();
        if age < -self.skew {
            return Err(SignatureError::Refused(format!(
                "Signature not yet current: {date} is still later than {} ({} + {minutes} min.)",
                at(self.skew),
                at(SignedDuration::ZERO)
            )));
        }
        let most = if given.presigned {
            let text = given.expires.as_deref().unwrap_or_default();
            let seconds = text.parse().ok().filter(|s| (1..=MAX_EXPIRES).contains(s));
            SignedDuration::from_secs(seconds.ok_or_else(|| {
                let text =
                    "X-Amz-Expires must be a number between 1 and 604800 (a week, in seconds)";
                SignatureError::Incomplete(text.into())
            })?)
        } else {
            self.skew
        };
        if age > most {
            return Err(SignatureError::Refused(format!(
                "Signature expired: {date} is now earlier than {} ({} - {} min.)",
                at(-most),
                at(SignedDuration::ZERO),
                most.as_mins()
            )));
        }
        Ok(())
    }

    fn signing_key(&self, claim: &Claim<'_>, scope: Scope<'_>) -> SigningKey {
        // The region is always ours; the rest of the scope is in the second half.
        let name = (claim.access_key_id.clone(), format!("{}/{}", scope.date, scope.service));
        let kept = self.cache.read().unwrap_or_else(PoisonError::into_inner).get(&name).cloned();
        kept.unwrap_or_else(|| {
            let key = SigningKey::new(claim.secret, scope);
            let mut cache = self.cache.write().unwrap_or_else(PoisonError::into_inner);
            if cache.len() >= KEPT_KEYS {
                cache.clear();
            }
            cache.insert(name, key.clone());
            key
        })
    }
}

fn given(head: Head<'_>) -> Result<Given, SignatureError> {
    if let Some(value) = head.headers.get(AUTHORIZATION) {
        let value = value.to_str().unwrap_or_default();
        let rest = value.strip_prefix(sigv4::ALGORITHM);
        let mut found = [None, None, None];
        for part in rest.unwrap_or_default().split(',') {
            let Some((name, value)) = part.trim().split_once('=') else { continue };
            let names = ["Credential", "Signature", "SignedHeaders"];
            if let Some(at) = names.iter().position(|n| *n == name) {
                found[at] = Some(value.to_owned());
            }
        }
        let [Some(credential), Some(signature), Some(signed_headers)] = found else {
            let names = ["Credential", "Signature", "SignedHeaders"].iter().zip(&found);
            let lacking = names
                .filter(|(_, f)| f.is_none())
                .map(|(name, _)| format!("Authorization header requires '{name}' parameter. "));
            let scheme = value.split(' ').next().unwrap_or_default();
            let text = format!("{}Authorization={scheme}", lacking.collect::<String>());
            return Err(SignatureError::Incomplete(text));
        };
        let token = head.headers.contains_key(sigv4::X_AMZ_SECURITY_TOKEN);
        return Ok(Given {
            credential,
            signature,
            signed_headers,
            date: None,
            expires: None,
            token,
            presigned: false,
            query_hash: None,
        });
    }
    let query = head.uri.query().unwrap_or_default();
    if !query.contains("X-Amz-") {
        return Err(SignatureError::Missing);
    }
    let pairs = parse_query(query).ok_or(SignatureError::Missing)?;
    let find = |name: &str| pairs.iter().find(|(n, _)| n == name).map(|(_, v)| v.to_string());
    let algorithm = find("X-Amz-Algorithm").ok_or(SignatureError::Missing)?;
    if algorithm != sigv4::ALGORITHM {
        let text = format!("X-Amz-Algorithm must be {}, not '{algorithm}'", sigv4::ALGORITHM);
        return Err(SignatureError::Incomplete(text));
    }
    let need = |name: &str| {
        let lacks = || format!("AWS query-string parameters must include '{name}'. ");
        find(name).ok_or_else(|| SignatureError::Incomplete(lacks()))
    };
    Ok(Given {
        credential: need("X-Amz-Credential")?,
        signature: need("X-Amz-Signature")?,
        signed_headers: need("X-Amz-SignedHeaders")?,
        date: Some(need("X-Amz-Date")?),
        expires: Some(need("X-Amz-Expires")?),
        token: find("X-Amz-Security-Token").is_some(),
        presigned: true,
        query_hash: find("X-Amz-Content-Sha256"),
    })
}

/// When it was signed, as `YYYYMMDDTHHMMSSZ` too.
fn signed_at(given: &Given, headers: &HeaderMap) -> Result<(String, Timestamp), SignatureError> {
    let text = |name: HeaderName| headers.get(name).and_then(|v| v.to_str().ok());
    let date = given.date.as_deref().or_else(|| text(sigv4::X_AMZ_DATE));
    if let Some(date) = date {
        return match sigv4::parse_amz_date(date) {
            Some(time) => Ok((date.to_owned(), time)),
            None => Err(SignatureError::Incomplete(format!(
                "Date must be in ISO-8601 'basic format'. Got '{date}'. See http://en.wikipedia.org/wiki/ISO_8601"
            ))),
        };
    }
    let http = text(DATE).and_then(|date| {
        let zoned = jiff::fmt::rfc2822::parse(date).map(|z| z.timestamp());
        sigv4::parse_amz_date(date).or(zoned.ok())
    });
    let time = http.ok_or_else(|| {
        let text =
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. ";
        SignatureError::Incomplete(text.into())
    })?;
    Ok((sigv4::amz_date(time), time))
}

/// `host` and all of AWS's own headers must be under the signature: else someone on the way could add them.
fn check_signed_headers(given: &Given, headers: &HeaderMap) -> Result<(), SignatureError> {
    let signed = |name: &str| given.signed_headers.split(';').any(|s| s == name);
    let aws = headers.keys().map(HeaderName::as_str).filter(|n| n.starts_with("x-amz-"));
    for name in std::iter::once("host").chain(aws) {
        if !signed(name) {
            let text = format!("'{name}' must be a 'SignedHeader' in the AWS Authorization.");
            return Err(SignatureError::Refused(text));
        }
    }
    Ok(())
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let text = text.as_bytes();
    let digit = |at: usize| char::from(text[at]).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let mut bytes = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = digit(2 * at)? * 16 + digit(2 * at + 1)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests;
