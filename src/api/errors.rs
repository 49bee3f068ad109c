//! The one place where an error becomes a status, a code and a body on the wire.

use std::borrow::Cow;
use std::error::Error as _;

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde_json::{Map, Value};

use super::auth::SignatureError;
use super::body::ReplyBody;
use super::model::Model;
use crate::control::{ControlError, ErrorKind};

pub const X_AMZN_REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
pub const X_AMZN_ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

/// An answer that is an error: AWS's code, its public text, and further members of its shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: Cow<'static, str>,
    pub message: String,
    /// Where it is not what the code has anyway.
    pub status: Option<u16>,
    pub members: Vec<(&'static str, String)>,
}

impl Refusal {
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), status: None, members: Vec::new() }
    }

    /// A constraint of the model that does not hold.
    pub fn validation(message: impl Into<String>) -> Self {
        Self::new("ValidationException", message)
    }

    /// A value of a type that its member cannot have.
    pub fn serialization(message: impl Into<String>) -> Self {
        Self::new("SerializationException", message)
    }

    /// A body that is not JSON.
    pub fn not_json(what: &str) -> Self {
        let text = format!("Could not parse request body into json: {what}");
        Self::new("InvalidRequestContentException", text)
    }

    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new("RequestEntityTooLargeException", message)
    }

    /// Nothing was done, and it may be tried again.
    pub fn busy(message: impl Into<String>) -> Self {
        Self { status: Some(503), ..Self::new("ServiceException", message) }
    }

    pub fn unknown_operation() -> Self {
        Self::new("UnknownOperationException", "The requested operation does not exist.")
    }

    /// For the caller; the cause goes to the log under the request's id.
    pub fn of(error: ControlError, request_id: &str) -> Self {
        if matches!(error.kind, ErrorKind::Service | ErrorKind::Unavailable) {
            let mut causes = Vec::new();
            let mut cause = error.source();
            while let Some(next) = cause {
                causes.push(next.to_string());
                cause = next.source();
            }
            tracing::error!(request_id, causes = causes.join(": "), "{error}");
        }
        let status = (error.kind == ErrorKind::Unavailable).then_some(503);
        let code = code(error.kind).into();
        Self { code, message: error.message, status, members: error.members }
    }

    /// The HTTP status that it is answered with.
    pub fn status(&self) -> u16 {
        self.status.unwrap_or_else(|| match Model::built_in().error(&self.code) {
            Some(shape) => shape.status,
            None => other_status(&self.code),
        })
    }

    /// As a REST answer of the Lambda API.
    pub fn into_response(self, request_id: &str) -> Response<ReplyBody> {
        let shape = Model::built_in().error(&self.code);
        let mut response = Response::new(ReplyBody::empty());
        let status = self.status();
        *response.status_mut() =
            StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        let mut body = Map::new();
        if let Some(shape) = shape {
            body.insert("Type".into(), shape.fault.clone().into());
        }
        for (name, value) in self.members {
            let apart = shape.and_then(|s| s.apart.iter().find(|a| a.name == name));
            match apart.and_then(|a| HeaderName::try_from(a.wire()).ok()) {
                Some(header) => {
                    if let Ok(value) = HeaderValue::try_from(value) {
                        headers.insert(header, value);
                    }
                }
                None => drop(body.insert(name.into(), value.into())),
            }
        }
        if status == 503 {
            headers.entry(RETRY_AFTER).or_insert(HeaderValue::from_static("1"));
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        insert(headers, X_AMZN_REQUEST_ID, request_id);
        insert(headers, X_AMZN_ERROR_TYPE, &self.code);
        let key = shape.map_or_else(|| other_key(&self.code), |s| &s.message);
        body.insert(key.into(), self.message.into());
        *response.body_mut() = ReplyBody::full(Value::Object(body).to_string());
        response
    }

    /// As an answer of AWS's JSON 1.1 protocol, which names its error in the body; CloudWatch Logs speaks it.
    pub fn into_json_1_1(self, request_id: &str) -> Response<ReplyBody> {
        let body = serde_json::json!({ "__type": self.code, "message": self.message });
        let mut response = Response::new(ReplyBody::full(body.to_string()));
        // 400 also where the REST API says 403 or 413.
        let status = self.status.filter(|s| *s >= 500).map(StatusCode::from_u16);
        *response.status_mut() = status.and_then(Result::ok).unwrap_or(StatusCode::BAD_REQUEST);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.1"));
        insert(headers, X_AMZN_REQUEST_ID, request_id);
        insert(headers, X_AMZN_ERROR_TYPE, &self.code);
        response
    }
}

impl From<SignatureError> for Refusal {
    fn from(error: SignatureError) -> Self {
        Self { status: Some(403), ..Self::new(error.code(), error.to_string()) }
    }
}

pub(super) fn insert(headers: &mut hyper::HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::copy_from_slice(value.as_bytes())) {
        headers.insert(name, value);
    }
}

fn code(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Validation => "ValidationException",
        // Nearly every operation may answer it, every SDK shows its text, and none tries again.
        ErrorKind::InvalidParameterValue | ErrorKind::NotBuilt => "InvalidParameterValueException",
        ErrorKind::InvalidRequestContent => "InvalidRequestContentException",
        ErrorKind::ResourceNotFound => "ResourceNotFoundException",
        ErrorKind::ResourceConflict => "ResourceConflictException",
        ErrorKind::ResourceInUse => "ResourceInUseException",
        ErrorKind::PreconditionFailed => "PreconditionFailedException",
        ErrorKind::PolicyLengthExceeded => "PolicyLengthExceededException",
        ErrorKind::CodeStorageExceeded => "CodeStorageExceededException",
        ErrorKind::CodeSigningConfigNotFound => "CodeSigningConfigNotFoundException",
        ErrorKind::ProvisionedConcurrencyConfigNotFound => {
            "ProvisionedConcurrencyConfigNotFoundException"
        }
        ErrorKind::InvalidCodeSignature => "InvalidCodeSignatureException",
        ErrorKind::RequestTooLarge => "RequestTooLargeException",
        ErrorKind::RequestEntityTooLarge => "RequestEntityTooLargeException",
        ErrorKind::UnsupportedMediaType => "UnsupportedMediaTypeException",
        ErrorKind::TooManyRequests => "TooManyRequestsException",
        ErrorKind::AccessDenied => "AccessDeniedException",
        ErrorKind::Service | ErrorKind::Unavailable => "ServiceException",
    }
}

/// Of codes that AWS answers with and its model does not have.
fn other_status(code: &str) -> u16 {
    match code {
        "RequestEntityTooLargeException" => 413,
        "AccessDeniedException" => 403,
        "UnknownOperationException" => 404,
        "RequestTimeoutException" => 408,
        _ => 400,
    }
}

fn other_key(code: &str) -> &'static str {
    match code {
        "AccessDeniedException" | "UnknownOperationException" => "Message",
        _ => "message",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(refusal: Refusal) -> (u16, String, String) {
        let response = refusal.into_response("r-1");
        assert_eq!(response.headers()[X_AMZN_REQUEST_ID], "r-1");
        let kind = response.headers()[X_AMZN_ERROR_TYPE].to_str().unwrap().to_owned();
        let status = response.status().as_u16();
        (status, kind, String::from_utf8(response.into_body().bytes().to_vec()).unwrap())
    }

    /// Statuses, keys and types as AWS was recorded to answer, and else as its model has them.
    #[test]
    fn every_kind_has_its_shape() {
        for (kind, status, code, body) in [
            (ErrorKind::Validation, 400, "ValidationException", r#"{"message":"m"}"#),
            (
                ErrorKind::InvalidParameterValue,
                400,
                "InvalidParameterValueException",
                r#"{"Type":"User","message":"m"}"#,
            ),
            (
                ErrorKind::InvalidRequestContent,
                400,
                "InvalidRequestContentException",
                r#"{"Type":"User","message":"m"}"#,
            ),
            (
                ErrorKind::ResourceNotFound,
                404,
                "ResourceNotFoundException",
                r#"{"Message":"m","Type":"User"}"#,
            ),
            (
                ErrorKind::ResourceConflict,
                409,
                "ResourceConflictException",
                r#"{"Type":"User","message":"m"}"#,
            ),
            (
                ErrorKind::ResourceInUse,
                400,
                "ResourceInUseException",
                r#"{"Message":"m","Type":"User"}"#,
            ),
            (
                ErrorKind::PreconditionFailed,
                412,
                "PreconditionFailedException",
                r#"{"Type":"User","message":"m"}"#,
            ),
            (
                ErrorKind::CodeSigningConfigNotFound,
                404,
                "CodeSigningConfigNotFoundException",
                r#"{"Message":"m","Type":"User"}"#,
            ),
            (
                ErrorKind::ProvisionedConcurrencyConfigNotFound,
                404,
                "ProvisionedConcurrencyConfigNotFoundException",
                r#"{"Type":"User","message":"m"}"#,
            ),
            (
                ErrorKind::RequestTooLarge,
                413,
                "RequestTooLargeException",
                r#"{"Type":"User","message":"m"}"#,
            ),
            (
                ErrorKind::RequestEntityTooLarge,
                413,
                "RequestEntityTooLargeException",
                r#"{"message":"m"}"#,
            ),
            (
                ErrorKind::UnsupportedMediaType,
                415,
                "UnsupportedMediaTypeException",
                r#"{"Type":"User","message":"m"}"#,
            ),
            (ErrorKind::AccessDenied, 403, "AccessDeniedException", r#"{"Message":"m"}"#),
            (
                ErrorKind::NotBuilt,
                400,
                "InvalidParameterValueException",
                r#"{"Type":"User","message":"m"}"#,
            ),
            (ErrorKind::Service, 500, "ServiceException", r#"{"Message":"m","Type":"Service"}"#),
            (
                ErrorKind::Unavailable,
                503,
                "ServiceException",
                r#"{"Message":"m","Type":"Service"}"#,
            ),
        ] {
            let error = ControlError::new(kind, "m").caused_by(std::io::Error::other("secret"));
            let want = (status, code.to_owned(), body.to_owned());
            assert_eq!(wire(Refusal::of(error, "r-1")), want, "{kind:?}");
        }
    }

    #[test]
    fn a_throttle_says_why_and_when_to_come_back() {
        let error = ControlError::new(ErrorKind::TooManyRequests, "Rate Exceeded.")
            .with("Reason", "ReservedFunctionConcurrentInvocationLimitExceeded")
            .with("retryAfterSeconds", "2");
        let response = Refusal::of(error, "r").into_response("r");
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["retry-after"], "2");
        let want = r#"{"Reason":"ReservedFunctionConcurrentInvocationLimitExceeded","Type":"User","message":"Rate Exceeded."}"#;
        assert_eq!(response.into_body().bytes(), want);
    }

    #[test]
    fn json_1_1_names_the_error_in_its_body() {
        let response = Refusal::from(SignatureError::UnknownKey).into_json_1_1("r");
        assert_eq!(response.status(), 400);
        let want = r#"{"__type":"UnrecognizedClientException","message":"The security token included in the request is invalid."}"#;
        assert_eq!(response.into_body().bytes(), want);
    }
}
