//! What the front door passes on that is no operation of the model: logs, downloads of code, function URLs.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::{Keys, Whole};
use crate::api::Caller;
use crate::api::auth::SignatureError;
use crate::api::body::ReplyBody;
use crate::api::errors::Refusal;
use crate::api::extra::{Extra, ExtraFuture, ExtraRequest, Site};
use crate::api::function_url::{Prelude, UrlRequest, UrlResponse, cors};
use crate::api::logs_api;
use crate::api::operations::Presign;
use crate::control::policy::{self, AccessRequest, Principal};
use crate::control::records::UrlRecord;
use crate::control::{ControlError, ErrorKind};
use crate::invoke::service::{InvokeRequest, Invoked, Run};
use crate::logs::cloudwatch::CloudWatch;
use crate::pool::unix_ms;
use crate::sigv4::{self, PathStyle, Signer};

/// How long an address of code is good, in seconds. AWS's is ten minutes.
const CODE_EXPIRES: u32 = 600;
/// Chunks of a streamed answer that wait for a caller that reads slowly.
const STREAM_QUEUE: usize = 16;

/// See the module's words.
pub struct Extras {
    pub parts: Arc<Whole>,
    pub run: Arc<dyn Run>,
    pub cloud_watch: CloudWatch,
}

/// Signs addresses of code with the operator's key: path, and the address that the caller used.
pub fn presigner(keys: Keys, region: String) -> Presign {
    Box::new(move |path, base_url| {
        let host = base_url.split_once("://").map_or(base_url, |(_, host)| host);
        let mut headers = HeaderMap::new();
        if let Ok(host) = HeaderValue::from_str(host) {
            headers.insert(HOST, host);
        }
        let signer = Signer {
            access_key_id: &keys.id,
            secret_access_key: &keys.secret,
            region: &region,
            service: "lambda",
            path_style: PathStyle::Twice,
            content_sha256: false,
        };
        let request = sigv4::Request { method: "GET", path, query: "" };
        let (body, now) = (sigv4::Body::Bytes(b""), Timestamp::now());
        let query = signer.presign(request, &headers, body, CODE_EXPIRES, now);
        format!("{base_url}{path}?{query}")
    })
}

impl Extra for Extras {
    fn call(&self, request: ExtraRequest) -> ExtraFuture<'_> {
        Box::pin(async move {
            match request.site.clone() {
                Site::Logs { operation } => self.logs(&operation, request).await,
                Site::Code { sha256 } => self.code(&sha256, &request).await,
                Site::FunctionUrl { id } => self.function_url(&id, request).await,
            }
        })
    }
}

impl Extras {
    /// CloudWatch Logs.
    async fn logs(&self, operation: &str, request: ExtraRequest) -> Response<ReplyBody> {
        if request.caller != Caller::Root {
            let text = "This key may not read logs.";
            return Refusal::new("AccessDeniedException", text).into_json_1_1(&request.request_id);
        }
        let target = format!("{}{operation}", logs_api::TARGET_PREFIX);
        let (status, body) = logs_api::call(&self.cloud_watch, &target, &request.body).await;
        let mut response = Response::new(ReplyBody::full(body));
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
        let kind = HeaderValue::from_static(logs_api::CONTENT_TYPE);
        response.headers_mut().insert(CONTENT_TYPE, kind);
        response
    }

    /// The zip of some code, for whoever has a signed address of it.
    async fn code(&self, sha256: &str, request: &ExtraRequest) -> Response<ReplyBody> {
        if request.caller != Caller::Root {
            let text = "This key may not read code.";
            return Refusal::new("AccessDeniedException", text).into_response(&request.request_id);
        }
        let path = self.parts.control.zip_path(sha256);
        match tokio::task::spawn_blocking(move || std::fs::read(path)).await {
            Ok(Ok(zip)) => {
                let mut response = Response::new(ReplyBody::full(zip));
                let kind = HeaderValue::from_static("application/zip");
                response.headers_mut().insert(CONTENT_TYPE, kind);
                response
            }
            _ => {
                let text = "No function has this code any more.";
                Refusal::new("ResourceNotFoundException", text).into_response(&request.request_id)
            }
        }
    }

    async fn function_url(&self, id: &str, call: ExtraRequest) -> Response<ReplyBody> {
        let url = match self.parts.control.function_url(id).await {
            Ok(Some(url)) => url,
            Ok(None) => return whole(UrlResponse::forbidden(), &[]),
            Err(error) => return refused(&error),
        };
        let caller = call.verify();
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = call.headers.iter();
        let mut request = UrlRequest {
            method: call.method.as_str().to_owned(),
            raw_path: call.uri.path().to_owned(),
            raw_query: call.uri.query().unwrap_or_default().to_owned(),
            headers: headers.map(|(name, value)| (name.as_str().to_owned(), text(value))).collect(),
            body: call.body,
            source_ip: call.peer.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |p| p.ip()).to_string(),
            request_id: call.request_id,
            iam: None,
        };
        let (cors, preflight) = cors(&url, &request);
        if preflight {
            let response = UrlResponse { status: 200, headers: Vec::new(), body: Bytes::new() };
            return whole(response, &cors);
        }
        match self.may_call(&url, caller).await {
            Ok(iam) => request.iam = iam,
            Err(Denied::Policy) => return whole(UrlResponse::forbidden(), &cors),
            Err(Denied::Error(error)) => return refused(&error),
        }
        let qualifier = (url.qualifier != "$LATEST").then(|| url.qualifier.clone());
        let invoke = |stream| InvokeRequest {
            function: url.function.clone(),
            qualifier,
            request_id: request.request_id.clone(),
            payload: request.event(&url, unix_ms(SystemTime::now())),
            client_context: None,
            trace_id: request.header("x-amzn-trace-id").map(str::to_owned),
            stream,
            durable_log: false,
        };
        if url.invoke_mode == "RESPONSE_STREAM" {
            let (chunks, receiver) = mpsc::channel(STREAM_QUEUE);
            return self.streamed(invoke(Some(chunks)), receiver, &cors).await;
        }
        match self.run.run(invoke(None)).await {
            Ok(Invoked { result: Ok(body), .. }) => whole(UrlResponse::of_result(&body), &cors),
            Ok(_) => whole(UrlResponse::bad_gateway(), &cors),
            Err(error) => refused(&error),
        }
    }

    /// Whether this caller may: account and ARN of one that signed.
    async fn may_call(
        &self,
        url: &UrlRecord,
        caller: Result<Caller, SignatureError>,
    ) -> Result<Option<(String, String)>, Denied> {
        let settings = &self.parts.control.settings;
        let target = self
            .parts
            .control
            .target(&url.function, Some(&url.qualifier))
            .await
            .map_err(Denied::Error)?;
        let arn = settings
            .function_arn(&url.function, (url.qualifier != "$LATEST").then_some(&url.qualifier));
        let statements = target.snapshot.policies.get(&url.qualifier);
        let allowed = |principal: Option<&str>| {
            let principal = principal.map_or(Principal::Anonymous, Principal::Aws);
            let request = AccessRequest {
                function_url_auth_type: Some(&url.auth_type),
                invoked_via_function_url: Some(true),
                ..AccessRequest::new(principal, "lambda:InvokeFunctionUrl", &arn)
            };
            policy::allows(statements, &request)
        };
        if url.auth_type == "NONE" {
            return if allowed(None) { Ok(None) } else { Err(Denied::Policy) };
        }
        match caller {
            Ok(Caller::Root) => {
                let account = settings.account.clone();
                let arn = format!("arn:aws:iam::{account}:root");
                Ok(Some((account, arn)))
            }
            Ok(Caller::Principal { arn }) if allowed(Some(&arn)) => {
                let account = arn.split(':').nth(4).unwrap_or_default().to_owned();
                Ok(Some((account, arn)))
            }
            _ => Err(Denied::Policy),
        }
    }

    async fn streamed(
        &self,
        invoke: InvokeRequest,
        mut chunks: mpsc::Receiver<Bytes>,
        cors: &[(String, String)],
    ) -> Response<ReplyBody> {
        let run = self.run.clone();
        let running = tokio::spawn(async move { run.run(invoke).await });
        let mut prelude = Prelude::default();
        // The head is in the first bytes; until it is known nothing can be answered.
        let (status, headers, first) = loop {
            if let Some(chunk) = chunks.recv().await {
                if let Some(head) = prelude.push(&chunk, false) {
                    break head;
                }
                continue;
            }
            // Its end before the head was known.
            return match running.await {
                Ok(Ok(Invoked { result: Ok(body), .. })) if prelude.is_empty() => {
                    // A function that does not stream, behind a URL that does.
                    whole(UrlResponse::of_result(&body), cors)
                }
                Ok(Ok(Invoked { result: Ok(_), .. })) => match prelude.push(&[], true) {
                    Some((status, headers, body)) => {
                        whole(UrlResponse { status, headers, body }, cors)
                    }
                    None => whole(UrlResponse::bad_gateway(), cors),
                },
                Ok(Err(error)) => refused(&error),
                Ok(Ok(_)) | Err(_) => whole(UrlResponse::bad_gateway(), cors),
            };
        };
        let (sender, receiver) = mpsc::channel(STREAM_QUEUE);
        tokio::spawn(async move {
            let mut next = Some(first);
            while let Some(chunk) = next {
                if !chunk.is_empty() {
                    // A caller that is gone does not end the function.
                    let _ = sender.send(Ok(chunk)).await;
                }
                next = chunks.recv().await;
            }
            // A function that failed on the way: the caller must not take what came for the whole.
            if !matches!(running.await, Ok(Ok(Invoked { result: Ok(_), .. }))) {
                let broken = std::io::Error::other("the function failed while it streamed");
                let _ = sender.send(Err(broken)).await;
            }
        });
        let head = UrlResponse { status, headers, body: Bytes::new() };
        whole(head, cors).map(|_| ReplyBody::stream(receiver))
    }
}

enum Denied {
    Policy,
    Error(ControlError),
}

fn whole(response: UrlResponse, cors: &[(String, String)]) -> Response<ReplyBody> {
    let mut out = Response::new(ReplyBody::full(response.body));
    *out.status_mut() = StatusCode::from_u16(response.status).unwrap_or(StatusCode::BAD_GATEWAY);
    for (name, value) in response.headers.iter().chain(cors) {
        let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value))
        else {
            continue;
        };
        // How the body is framed is ours to say.
        if name != "content-length" && name != "transfer-encoding" && name != "connection" {
            out.headers_mut().append(name, value);
        }
    }
    out
}

/// What the caller of a URL learns of a refusal.
fn refused(error: &ControlError) -> Response<ReplyBody> {
    let (status, text) = match error.kind {
        ErrorKind::TooManyRequests => (429, "{\"Message\":\"Too Many Requests\"}"),
        ErrorKind::ResourceNotFound => (404, "{\"Message\":\"Not Found\"}"),
        ErrorKind::Unavailable => (503, "{\"Message\":\"Service Unavailable\"}"),
        _ => (502, "Internal Server Error"),
    };
    whole(UrlResponse::json(status, text), &[])
}
