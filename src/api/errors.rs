//! The one place that turns what went wrong into AWS's exception, status and shape on the wire.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::auth::Refusal;
use super::model::Invalid;
use crate::control::{ControlError, ErrorKind};

/// An error as it goes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireError {
    pub status: u16,
    /// `x-amzn-errortype`.
    pub code: &'static str,
    pub body: Bytes,
    /// Seconds, as a header.
    pub retry_after: Option<String>,
}

/// AWS's name of an exception, and whether its body has a `Type` of whose fault it is.
fn shape(kind: ErrorKind) -> (&'static str, u16, Option<&'static str>) {
    let (code, status, fault) = match kind {
        ErrorKind::Validation => ("ValidationException", 400, None),
        ErrorKind::InvalidParameterValue => ("InvalidParameterValueException", 400, Some("User")),
        ErrorKind::InvalidRequestContent => ("InvalidRequestContentException", 400, Some("User")),
        ErrorKind::ResourceNotFound => ("ResourceNotFoundException", 404, Some("User")),
        ErrorKind::ResourceConflict => ("ResourceConflictException", 409, Some("User")),
        ErrorKind::ResourceInUse => ("ResourceInUseException", 400, Some("User")),
        ErrorKind::PreconditionFailed => ("PreconditionFailedException", 412, Some("User")),
        ErrorKind::PolicyLengthExceeded => ("PolicyLengthExceededException", 400, Some("User")),
        ErrorKind::CodeStorageExceeded => ("CodeStorageExceededException", 400, Some("User")),
        ErrorKind::CodeSigningConfigNotFound => {
            ("CodeSigningConfigNotFoundException", 404, Some("User"))
        }
        ErrorKind::ProvisionedConcurrencyConfigNotFound => {
            ("ProvisionedConcurrencyConfigNotFoundException", 404, Some("User"))
        }
        ErrorKind::InvalidCodeSignature => ("InvalidCodeSignatureException", 400, Some("User")),
        ErrorKind::RequestTooLarge => ("RequestTooLargeException", 413, Some("User")),
        ErrorKind::RequestEntityTooLarge => ("RequestEntityTooLargeException", 413, None),
        ErrorKind::UnsupportedMediaType => ("UnsupportedMediaTypeException", 415, Some("User")),
        ErrorKind::TooManyRequests => ("TooManyRequestsException", 429, Some("User")),
        ErrorKind::AccessDenied => ("AccessDeniedException", 403, None),
        // 501 would be retried by the SDKs, as every 5xx is.
        ErrorKind::NotBuilt => ("InvalidParameterValueException", 400, Some("User")),
        ErrorKind::Service => ("ServiceException", 500, Some("Service")),
        ErrorKind::Unavailable => ("ServiceException", 503, Some("Service")),
    };
    (code, status, fault)
}

impl WireError {
    pub fn new(kind: ErrorKind, message: &str, members: &[(&'static str, String)]) -> Self {
        let (code, status, fault) = shape(kind);
        let mut body = Map::new();
        if let Some(fault) = fault {
            body.insert("Type".into(), fault.into());
        }
        // AWS writes a missing thing and a refusal by policy with a capital, all else without.
        let key = match kind {
            ErrorKind::ResourceNotFound
            | ErrorKind::AccessDenied
            | ErrorKind::Service
            | ErrorKind::Unavailable
            | ErrorKind::CodeSigningConfigNotFound => "Message",
            _ => "message",
        };
        body.insert(key.into(), message.into());
        for (name, value) in members {
            body.insert((*name).into(), value.as_str().into());
        }
        let body = Value::Object(body).to_string().into();
        let retry_after = (status == 503).then(|| "1".to_owned());
        Self { status, code, body, retry_after }
    }

    fn signature(code: &'static str, message: &str) -> Self {
        let body = serde_json::json!({ "message": message }).to_string().into();
        Self { status: 403, code, body, retry_after: None }
    }

    /// No operation has this address.
    pub fn unknown_operation() -> Self {
        let body = serde_json::json!({ "message": "Unknown operation: no AWS Lambda API has this method and path." });
        let code = "UnknownOperationException";
        Self { status: 404, code, body: body.to_string().into(), retry_after: None }
    }
}

impl From<ControlError> for WireError {
    fn from(error: ControlError) -> Self {
        Self::new(error.kind, &error.message, &error.members)
    }
}

impl From<Invalid> for WireError {
    fn from(invalid: Invalid) -> Self {
        match invalid {
            Invalid::Constraints(text) => Self::new(ErrorKind::Validation, &text, &[]),
            Invalid::Body(why) => {
                let text = format!("Could not parse request body into json: {why}");
                Self::new(ErrorKind::InvalidRequestContent, &text, &[])
            }
        }
    }
}

impl From<Refusal> for WireError {
    fn from(refusal: Refusal) -> Self {
        let code = match &refusal {
            Refusal::Missing => "MissingAuthenticationTokenException",
            Refusal::Incomplete(_) => "IncompleteSignatureException",
            Refusal::UnknownKey => "UnrecognizedClientException",
            Refusal::Invalid(_) => "InvalidSignatureException",
        };
        Self::signature(code, &refusal.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::LAMBDA;
    use super::*;

    #[test]
    fn shapes_are_as_recorded() {
        let wire = |kind| {
            let error = WireError::new(kind, "m", &[]);
            (error.status, error.code, String::from_utf8(error.body.to_vec()).unwrap())
        };
        for (kind, status, code, body) in [
            (ErrorKind::Validation, 400, "ValidationException", r#"{"message":"m"}"#),
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
                ErrorKind::PreconditionFailed,
                412,
                "PreconditionFailedException",
                r#"{"Type":"User","message":"m"}"#,
            ),
            (
                ErrorKind::RequestEntityTooLarge,
                413,
                "RequestEntityTooLargeException",
                r#"{"message":"m"}"#,
            ),
        ] {
            assert_eq!(wire(kind), (status, code, body.to_owned()));
        }
        let throttled =
            WireError::new(ErrorKind::TooManyRequests, "Rate Exceeded.", &[("Reason", "R".into())]);
        assert_eq!(
            &throttled.body[..],
            br#"{"Reason":"R","Type":"User","message":"Rate Exceeded."}"#
        );
    }

    #[test]
    fn statuses_are_the_models() {
        for kind in [
            ErrorKind::InvalidParameterValue,
            ErrorKind::InvalidRequestContent,
            ErrorKind::ResourceNotFound,
            ErrorKind::ResourceConflict,
            ErrorKind::ResourceInUse,
            ErrorKind::PreconditionFailed,
            ErrorKind::PolicyLengthExceeded,
            ErrorKind::CodeStorageExceeded,
            ErrorKind::CodeSigningConfigNotFound,
            ErrorKind::ProvisionedConcurrencyConfigNotFound,
            ErrorKind::InvalidCodeSignature,
            ErrorKind::RequestTooLarge,
            ErrorKind::UnsupportedMediaType,
            ErrorKind::TooManyRequests,
            ErrorKind::Service,
        ] {
            let (code, status, _) = shape(kind);
            assert_eq!(LAMBDA.error_status(code), Some(status), "{code}");
        }
    }
}
