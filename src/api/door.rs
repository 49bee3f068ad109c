//! The front door itself: one request in, one answer out. Knows no socket.
//!
//! The order: site, signature's key and scope, route, body, signature, types, constraints, operation. A stranger's body
//! is not kept; an operation sees nothing that does not hold.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, EXPECT, HOST, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response};
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::answer::answer;
use super::auth::{Authority, Claim, Credentials, Head};
use super::body::{self, BodyLimits, Budget, ReadBody, ReadError, ReplyBody};
use super::errors::{Refusal, X_AMZN_REQUEST_ID, insert};
use super::extra::{self, Extra, ExtraRequest, Site};
use super::model::{Model, Operation};
use super::route::{Query, Routed, Router, parse_query};
use super::{Caller, Input, Operations, parse, validate};
use crate::control::ControlError;

/// Bytes of an event of `Invoke` that waits for its answer, and of a body for a function URL.
pub const MAX_EVENT: usize = 6_291_456;
/// Bytes of an asynchronous event.
pub const MAX_ASYNC_EVENT: usize = 1_048_576;
/// Bytes of a request that carries code: a zip of 50 MiB in base64, and the rest.
const MAX_UPLOAD: usize = 70_167_211;
const MAX_BODY: usize = 1_048_576;
const X_AMZN_TRACE_ID: HeaderName = HeaderName::from_static("x-amzn-trace-id");
const TOO_SLOW: &str = "RequestTimeoutException";
/// Bodies over this many bytes are parsed on a thread of their own.
const PARSE_APART: usize = 256 << 10;

/// Hears the name of an operation, and the status of its answer.
type Answered = Box<dyn Fn(&str, u16) + Send + Sync>;

/// What [`super::server::serve`] serves.
pub struct FrontDoor {
    operations: Arc<dyn Operations>,
    extra: Option<Arc<dyn Extra>>,
    authority: Arc<Authority>,
    region: String,
    metrics: Box<dyn Fn() -> String + Send + Sync>,
    answered: Answered,
    model: &'static Model,
    router: Router,
    uploads: Budget,
    others: Budget,
}

impl std::fmt::Debug for FrontDoor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrontDoor").field("authority", &self.authority).finish_non_exhaustive()
    }
}

impl FrontDoor {
    /// `skew`: how far a client's clock may be off, [`super::auth::SKEW`] with AWS.
    pub fn new(
        operations: Arc<dyn Operations>,
        credentials: Credentials,
        region: String,
        skew: Duration,
        bodies: BodyLimits,
    ) -> Self {
        let model = Model::built_in();
        Self {
            operations,
            extra: None,
            authority: Arc::new(Authority::new(credentials, region.clone(), skew)),
            region,
            metrics: Box::new(String::new),
            answered: Box::new(|_, _| {}),
            model,
            router: Router::new(model),
            uploads: Budget::new(bodies.uploads, bodies),
            others: Budget::new(bodies.others, bodies),
        }
    }

    pub fn with_extra(mut self, extra: Arc<dyn Extra>) -> Self {
        self.extra = Some(extra);
        self
    }

    /// The text of `GET /_kennel/metrics`.
    pub fn with_metrics(mut self, text: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.metrics = Box::new(text);
        self
    }

    /// Hears of every operation that was answered: its name, and the status.
    pub fn with_answered(mut self, hears: impl Fn(&str, u16) + Send + Sync + 'static) -> Self {
        self.answered = Box::new(hears);
        self
    }

    /// Answers a request. `scheme` is `http` or `https`.
    pub async fn handle(
        &self,
        request: Request<Incoming>,
        scheme: &'static str,
        peer: Option<SocketAddr>,
    ) -> Response<ReplyBody> {
        let (parts, mut incoming) = request.into_parts();
        let site = extra::site(&parts.method, &parts.uri, &parts.headers, &self.region);
        // All paths of a function URL's host are the function's.
        if site.is_none()
            && let Some(response) = self.unsigned(&parts)
        {
            return response;
        }
        let request_id = crate::invoke::request_id();
        let known = Known { request_id, base_url: base_url(scheme, &parts), peer };
        let logs = matches!(site, Some(Site::Logs { .. }));
        let result = match site {
            Some(site) => self.site(site, &parts, &mut incoming, &known).await,
            None => self.operation(&parts, &mut incoming, &known).await,
        };
        match result {
            Ok(response) => response,
            Err(refusal) => {
                tracing::debug!(
                    request_id = known.request_id,
                    code = &*refusal.code,
                    "{} {}: {}",
                    parts.method,
                    parts.uri.path(),
                    refusal.message
                );
                // Who asked whether to send at all is not made to.
                if refusal.code != TOO_SLOW && !parts.headers.contains_key(EXPECT) {
                    body::drain(&mut incoming).await;
                }
                match logs {
                    true => refusal.into_json_1_1(&known.request_id),
                    false => refusal.into_response(&known.request_id),
                }
            }
        }
    }

    /// What needs no signature.
    fn unsigned(&self, parts: &Parts) -> Option<Response<ReplyBody>> {
        let path = parts.uri.path().strip_prefix("/_kennel/")?;
        let (kind, text) = match path {
            "health" => ("application/json", r#"{"status":"ok"}"#.to_owned()),
            "metrics" => (crate::metrics::CONTENT_TYPE, (self.metrics)()),
            _ => return None,
        };
        if parts.method != Method::GET && parts.method != Method::HEAD {
            return None;
        }
        let mut response = Response::new(ReplyBody::full(text));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        Some(response)
    }

    async fn site(
        &self,
        site: Site,
        parts: &Parts,
        incoming: &mut Incoming,
        known: &Known,
    ) -> Result<Response<ReplyBody>, Refusal> {
        let Some(extra) = &self.extra else {
            return Err(Refusal::unknown_operation());
        };
        let head = head(parts);
        let (service, limit, name) = match &site {
            Site::Logs { .. } => (Some("logs"), MAX_BODY, "logs"),
            Site::FunctionUrl { .. } => (None, MAX_EVENT, "InvokeFunctionUrl"),
            Site::Code { .. } => (Some("lambda"), 0, "code"),
        };
        let claim = match service {
            Some(service) => Some(self.claim(head, service)?),
            None => None,
        };
        let read = read(incoming, limit, &self.others, name).await?;
        let caller = match claim {
            Some(claim) => self.check(&claim, head, &read)?,
            None => Caller::Anonymous,
        };
        let request = ExtraRequest {
            site,
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            headers: parts.headers.clone(),
            body: read.bytes,
            caller,
            request_id: known.request_id.clone(),
            base_url: known.base_url.clone(),
            peer: known.peer,
            body_sha256: read.sha256,
            authority: self.authority.clone(),
        };
        let extra = extra.clone();
        let task = tokio::spawn(async move { extra.call(request).await });
        let mut response = task.await.map_err(|error| panicked(&error))?;
        if !response.headers().contains_key(X_AMZN_REQUEST_ID) {
            insert(response.headers_mut(), X_AMZN_REQUEST_ID, &known.request_id);
        }
        Ok(response)
    }

    async fn operation(
        &self,
        parts: &Parts,
        incoming: &mut Incoming,
        known: &Known,
    ) -> Result<Response<ReplyBody>, Refusal> {
        let head = head(parts);
        let claim = self.claim(head, "lambda")?;
        let query = parse_query(parts.uri.query().unwrap_or_default())
            .ok_or_else(|| Refusal::serialization("The query is not UTF-8"))?;
        let found = self.router.find(parts.method.as_str(), parts.uri.path(), &query);
        let routed = found.ok_or_else(Refusal::unknown_operation)?;
        let operation = routed.operation;
        let budget = if operation.upload { &self.uploads } else { &self.others };
        let read = read(incoming, limit(operation), budget, &operation.name).await?;
        let caller = self.check(&claim, head, &read)?;
        let (members, payload) = self.members(routed, query, parts, read.bytes).await?;
        let input = Input {
            members,
            payload,
            caller,
            request_id: known.request_id.clone(),
            trace_id: trace_id(parts),
            base_url: known.base_url.clone(),
        };
        // A client that hangs up must not stop an operation half-way.
        let operations = self.operations.clone();
        let task = tokio::spawn(async move { operations.call(&operation.name, input).await });
        let result = match task.await {
            Ok(Ok(output)) => Ok(answer(operation, output, &known.request_id)),
            Ok(Err(error)) => Err(Refusal::of(error, &known.request_id)),
            Err(error) => Err(panicked(&error)),
        };
        let status = result.as_ref().map_or_else(Refusal::status, |r| r.status().as_u16());
        (self.answered)(&operation.name, status);
        result
    }

    async fn members(
        &self,
        routed: Routed<'_>,
        query: Query<'_>,
        parts: &Parts,
        bytes: Bytes,
    ) -> Result<(Map<String, Value>, Bytes), Refusal> {
        let operation = routed.operation;
        if bytes.len() <= PARSE_APART {
            return members(self.model, routed, &query, parts, &bytes);
        }
        // What borrows of this request is made anew over there.
        let apart = parts.clone();
        let model = self.model;
        let labels = routed.labels.into_iter().map(|(n, v)| (n, v.into_owned().into())).collect();
        let task = tokio::task::spawn_blocking(move || {
            let query = parse_query(apart.uri.query().unwrap_or_default()).unwrap_or_default();
            members(model, Routed { operation, labels }, &query, &apart, &bytes)
        });
        task.await.map_err(|error| panicked(&error))?
    }

    fn claim<'a>(&'a self, head: Head<'_>, service: &'static str) -> Result<Claim<'a>, Refusal> {
        let claim = self.authority.claim(head, service, Timestamp::now());
        claim.map_err(|error| error.into())
    }

    fn check(&self, claim: &Claim<'_>, head: Head<'_>, read: &ReadBody) -> Result<Caller, Refusal> {
        let checked = self.authority.check(claim, head, &read.sha256);
        checked.map_err(|error| error.into())
    }
}

/// What every answer of a request may need.
struct Known {
    request_id: String,
    base_url: String,
    peer: Option<SocketAddr>,
}

fn members(
    model: &Model,
    routed: Routed<'_>,
    query: &Query<'_>,
    parts: &Parts,
    bytes: &Bytes,
) -> Result<(Map<String, Value>, Bytes), Refusal> {
    let operation = routed.operation;
    let (members, payload) = parse::parse(model, routed, query, &parts.headers, bytes)?;
    if let Some(input) = operation.input {
        validate::validate(model, input, &members)?;
    }
    check_event(operation, &members, payload.len())?;
    Ok((members, payload))
}

fn limit(operation: &Operation) -> usize {
    match operation.name.as_str() {
        "Invoke" | "InvokeWithResponseStream" => MAX_EVENT,
        _ if operation.upload => MAX_UPLOAD,
        _ => MAX_BODY,
    }
}

/// AWS's name for itself in the texts about large requests.
fn told_name(operation: &str) -> &str {
    if operation == "Invoke" { "InvokeFunction" } else { operation }
}

fn check_event(
    operation: &Operation,
    members: &Map<String, Value>,
    length: usize,
) -> Result<(), Refusal> {
    let event = members.get("InvocationType").and_then(Value::as_str) == Some("Event");
    if event && operation.name == "Invoke" && length > MAX_ASYNC_EVENT {
        return Err(event_too_large(length, "Event", MAX_ASYNC_EVENT));
    }
    Ok(())
}

fn event_too_large(length: impl std::fmt::Display, kind: &str, limit: usize) -> Refusal {
    let text = format!(
        "{length} byte payload is too large for the {kind} invocation type (limit {limit} bytes)"
    );
    Refusal::too_large(text)
}

async fn read(
    incoming: &mut Incoming,
    limit: usize,
    budget: &Budget,
    name: &str,
) -> Result<ReadBody, Refusal> {
    body::read(incoming, limit, budget).await.map_err(|error| match error {
        ReadError::TooLarge { length: Some(length) } if name == "Invoke" => {
            event_too_large(length, "RequestResponse", limit)
        }
        ReadError::TooLarge { .. } => Refusal::too_large(format!(
            "Request must be smaller than {limit} bytes for the {} operation",
            told_name(name)
        )),
        ReadError::Slow => Refusal::new(TOO_SLOW, "The request body came too slowly."),
        ReadError::Busy => Refusal::busy("Too many large requests at once; nothing was done."),
        ReadError::Broken(_) => Refusal::not_json("the request body broke off"),
    })
}

fn panicked(error: &tokio::task::JoinError) -> Refusal {
    tracing::error!("a request's task ended: {error}");
    Refusal::new("ServiceException", "Internal error")
}

fn head(parts: &Parts) -> Head<'_> {
    Head { method: &parts.method, uri: &parts.uri, headers: &parts.headers }
}

fn base_url(scheme: &str, parts: &Parts) -> String {
    let host = parts.headers.get(HOST).and_then(|v| v.to_str().ok()).filter(|h| !h.is_empty());
    format!("{scheme}://{}", host.unwrap_or("localhost"))
}

fn trace_id(parts: &Parts) -> Option<String> {
    parts.headers.get(X_AMZN_TRACE_ID).and_then(|v| v.to_str().ok()).map(str::to_owned)
}

/// An operation that Kennel does not have, for [`Operations`] to answer with.
pub fn not_built(operation: &str) -> ControlError {
    let text = format!("Kennel does not implement {operation}.");
    ControlError::new(crate::control::ErrorKind::NotBuilt, text)
}
