//! From an operation's output to its answer: each member where the model has it.

use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::Value;

use super::body::ReplyBody;
use super::errors::{X_AMZN_REQUEST_ID, insert};
use super::model::{Operation, Place};
use super::{Output, Payload};

/// The answer of an operation that succeeded.
pub fn answer(operation: &Operation, output: Output, request_id: &str) -> Response<ReplyBody> {
    let Output { status, mut members, payload } = output;
    let mut response = Response::new(ReplyBody::empty());
    let mut modelled = operation.status;
    let headers = response.headers_mut();
    insert(headers, X_AMZN_REQUEST_ID, request_id);
    let apart = operation.output.as_ref().map_or(&[][..], |o| &o.apart);
    for member in apart {
        let Some(value) = members.remove(&member.name) else { continue };
        match member.place {
            Place::StatusCode => {
                modelled = value.as_u64().and_then(|s| u16::try_from(s).ok()).unwrap_or(modelled);
            }
            _ => {
                if let (Ok(name), Some(value)) =
                    (HeaderName::try_from(member.wire()), header(&value))
                {
                    headers.insert(name, value);
                }
            }
        }
    }
    let status = status.unwrap_or(modelled);
    let json = HeaderValue::from_static("application/json");
    let body = match payload {
        Payload::Bytes(bytes) => {
            headers.entry(CONTENT_TYPE).or_insert(json);
            ReplyBody::full(bytes)
        }
        Payload::Events(events) => {
            let kind = HeaderValue::from_static("application/vnd.amazon.eventstream");
            headers.entry(CONTENT_TYPE).or_insert(kind);
            ReplyBody::events(events)
        }
        Payload::Members => {
            let in_json = operation.output.as_ref().is_some_and(|o| o.payload.is_none());
            if in_json && status != 204 {
                headers.insert(CONTENT_TYPE, json);
                ReplyBody::full(Value::Object(members).to_string())
            } else {
                ReplyBody::empty()
            }
        }
    };
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *response.body_mut() = body;
    response
}

/// A null is no header.
fn header(value: &Value) -> Option<HeaderValue> {
    match value {
        Value::Null => None,
        Value::String(text) => HeaderValue::from_str(text).ok(),
        other => HeaderValue::from_str(&other.to_string()).ok(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::super::model::Model;
    use super::*;

    fn wire(
        operation: &str,
        status: Option<u16>,
        members: Value,
        payload: Payload,
    ) -> (u16, Vec<String>, Bytes) {
        let operation = Model::built_in().operations.iter().find(|o| o.name == operation).unwrap();
        let members = members.as_object().unwrap().clone();
        let response = answer(operation, Output { status, members, payload }, "r-1");
        let pairs = response.headers().iter();
        let mut headers: Vec<String> =
            pairs.map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
        headers.sort();
        assert_eq!(headers.pop().unwrap(), "x-amzn-requestid: r-1");
        (response.status().as_u16(), headers, response.into_body().bytes())
    }

    #[test]
    fn members_go_where_the_model_has_them() {
        let json_type = "content-type: application/json".to_owned();
        let version = || "x-amz-executed-version: $LATEST".to_owned();
        let bytes = |text: &'static str| Payload::Bytes(Bytes::from_static(text.as_bytes()));
        for (operation, status, members, payload, want) in [
            (
                "CreateFunction",
                None,
                json!({"FunctionName": "f"}),
                Payload::Members,
                (201, vec![json_type.clone()], r#"{"FunctionName":"f"}"#),
            ),
            (
                "GetFunctionCodeSigningConfig",
                None,
                json!({}),
                Payload::Members,
                (200, vec![json_type.clone()], "{}"),
            ),
            ("TagResource", None, json!({}), Payload::Members, (204, vec![], "")),
            (
                "DeleteFunction",
                None,
                json!({"StatusCode": 204}),
                Payload::Members,
                (204, vec![], ""),
            ),
            ("DeleteFunction", Some(204), json!({}), Payload::Members, (204, vec![], "")),
            (
                "Invoke",
                None,
                json!({"StatusCode": 200, "ExecutedVersion": "$LATEST", "FunctionError": "Unhandled", "LogResult": null}),
                bytes("null"),
                (
                    200,
                    vec![json_type.clone(), version(), "x-amz-function-error: Unhandled".into()],
                    "null",
                ),
            ),
            ("Invoke", Some(202), json!({}), Payload::Members, (202, vec![], "")),
            (
                "Invoke",
                Some(204),
                json!({"ExecutedVersion": "$LATEST"}),
                Payload::Members,
                (204, vec![version()], ""),
            ),
            (
                "InvokeAsync",
                None,
                json!({"Status": 202}),
                Payload::Members,
                (202, vec![json_type.clone()], "{}"),
            ),
        ] {
            let (status, headers, body) = wire(operation, status, members, payload);
            assert_eq!(
                (status, headers, &body[..]),
                (want.0, want.1, want.2.as_bytes()),
                "{operation}"
            );
        }
    }
}
