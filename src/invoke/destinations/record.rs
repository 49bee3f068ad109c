//! What destinations and dead-letter queues are told, in AWS's form.

use std::time::SystemTime;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Destinations;
use crate::client::MessageAttribute;
use crate::control::names::LATEST;
use crate::invoke::queue::{AsyncEvent, Condition, EventError};

/// Bytes of a dead letter's `ErrorMessage`.
const MAX_ERROR_MESSAGE: usize = 1024;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    version: &'static str,
    timestamp: String,
    request_context: RequestContext<'a>,
    request_payload: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_context: Option<ResponseContext<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_payload: Option<Box<RawValue>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext<'a> {
    request_id: &'a str,
    function_arn: String,
    condition: &'static str,
    approximate_invoke_count: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResponseContext<'a> {
    status_code: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    executed_version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_error: Option<&'a str>,
}

impl Destinations {
    /// The invocation record of a destination.
    pub(super) fn record(
        &self,
        event: &AsyncEvent,
        condition: Condition,
        now: SystemTime,
    ) -> Result<Bytes, EventError> {
        let Self { region, account, .. } = self;
        let qualifier = event.qualifier.as_deref().unwrap_or(LATEST);
        // AWS answers a record of an event that never ran without a response.
        let last = event.last.as_ref().filter(|_| condition != Condition::ZeroReservedConcurrency);
        let record = Record {
            version: "1.0",
            timestamp: iso(now),
            request_context: RequestContext {
                request_id: &event.request_id,
                function_arn: format!(
                    "arn:aws:lambda:{region}:{account}:function:{}:{qualifier}",
                    event.function
                ),
                condition: condition.as_str(),
                approximate_invoke_count: event.attempts,
            },
            request_payload: raw(payload(event))?,
            response_context: last.map(|last| ResponseContext {
                status_code: last.status,
                executed_version: last.executed_version.as_deref(),
                function_error: last.function_error.as_deref(),
            }),
            // A throttle has none; a function's empty answer is null.
            response_payload: match last {
                Some(last) if last.executed_version.is_some() => Some(raw(&last.payload)?),
                _ => None,
            },
        };
        serde_json::to_vec(&record).map(Bytes::from).map_err(EventError::Head)
    }
}

/// No payload is an empty object to the function, and so it is to whoever hears of it.
pub(super) fn payload(event: &AsyncEvent) -> &[u8] {
    if event.payload.is_empty() { b"{}" } else { &event.payload }
}

/// JSON as it came; what is not JSON becomes a string of JSON.
fn raw(bytes: &[u8]) -> Result<Box<RawValue>, EventError> {
    if bytes.is_empty() {
        return RawValue::from_string("null".into()).map_err(EventError::Head);
    }
    let text = String::from_utf8_lossy(bytes);
    RawValue::from_string(text.clone().into_owned())
        .or_else(|_| serde_json::value::to_raw_value(&text))
        .map_err(EventError::Head)
}

/// A dead letter's attributes. Source: AWS Lambda developer guide, "Adding a dead-letter queue".
pub(super) fn attributes(event: &AsyncEvent, condition: Condition) -> Vec<MessageAttribute> {
    let last = event.last.as_ref();
    let (code, text) = match (condition, last) {
        // AWS's own words, the missing space included.
        (Condition::ZeroReservedConcurrency, _) => (
            429,
            "Function not invoked. Function isconfigured with zero reserved concurrent executions"
                .into(),
        ),
        (Condition::RecursiveInvocation, _) => {
            (400, "Function not invoked. A chain of destinations leads in a circle.".into())
        }
        (_, Some(last)) if last.executed_version.is_some() => {
            (last.status, error_message(&last.payload))
        }
        (_, Some(last)) if last.status == 429 => (429, "Rate Exceeded.".into()),
        (_, Some(last)) => (last.status, "Function not found".into()),
        (_, None) => (500, "The event is older than MaximumEventAgeInSeconds allows.".into()),
    };
    let attribute = |name: &str, kind: &str, value: String| MessageAttribute {
        name: name.into(),
        data_type: kind.into(),
        value,
    };
    vec![
        attribute("RequestID", "String", event.request_id.clone()),
        attribute("ErrorCode", "Number", code.to_string()),
        attribute("ErrorMessage", "String", sendable(&text)),
    ]
}

/// The error's own message where the answer has AWS's shape, else the answer.
fn error_message(body: &[u8]) -> String {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Error {
        error_message: Option<String>,
        error_type: Option<String>,
    }
    let error = serde_json::from_slice::<Error>(body).ok();
    let text = error.and_then(|e| e.error_message.filter(|m| !m.is_empty()).or(e.error_type));
    text.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned())
}

/// The first 1 KB, of the characters that SQS takes; never empty, which it refuses.
fn sendable(text: &str) -> String {
    let mut kept = String::new();
    for c in text.chars() {
        let allowed = matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..);
        let c = if allowed { c } else { '\u{fffd}' };
        if kept.len() + c.len_utf8() > MAX_ERROR_MESSAGE {
            break;
        }
        kept.push(c);
    }
    if kept.is_empty() { "Unhandled".into() } else { kept }
}

fn iso(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time)
        .map_or_else(|_| String::new(), |t| t.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::invoke::queue::Answer;

    fn destinations() -> Destinations {
        Destinations {
            region: "eu-west-1".into(),
            account: "123456789012".into(),
            sqs: None,
            sns: None,
        }
    }

    fn event(payload: &'static str, last: Option<Answer>) -> AsyncEvent {
        let payload = Bytes::from_static(payload.as_bytes());
        let mut event = AsyncEvent::new("id".into(), "f".into(), Some("live".into()), payload);
        event.last = last;
        event.attempts = 2;
        event
    }

    fn answer(status: u16, version: Option<&str>, error: bool, payload: &'static str) -> Answer {
        Answer {
            status,
            executed_version: version.map(Into::into),
            function_error: error.then(|| "Unhandled".into()),
            payload: Bytes::from_static(payload.as_bytes()),
        }
    }

    #[test]
    fn records_are_aws_own_and_payloads_go_through_as_they_are() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_007);
        let head = |condition: &str| {
            format!(
                "{{\"version\":\"1.0\",\"timestamp\":\"2023-11-14T22:13:20.007Z\",\"requestContext\":{{\
                 \"requestId\":\"id\",\"functionArn\":\"arn:aws:lambda:eu-west-1:123456789012:function:f:live\",\
                 \"condition\":\"{condition}\",\"approximateInvokeCount\":2}},"
            )
        };
        let ran = "\"responseContext\":{\"statusCode\":200,\"executedVersion\":\"3\"}";
        let failed = ran.replace('}', ",\"functionError\":\"Unhandled\"}");
        for (condition, payload, last, rest) in [
            (
                Condition::Success,
                "{ \"a\": 1.50 }",
                Some(answer(200, Some("3"), false, "[1, 2.0]")),
                format!(
                    "\"requestPayload\":{{ \"a\": 1.50 }},{ran},\"responsePayload\":[1, 2.0]}}"
                ),
            ),
            (
                Condition::Success,
                "",
                Some(answer(200, Some("3"), false, "")),
                format!("\"requestPayload\":{{}},{ran},\"responsePayload\":null}}"),
            ),
            (
                Condition::Success,
                "1",
                Some(answer(200, Some("3"), false, "plain \"text\"")),
                format!("\"requestPayload\":1,{ran},\"responsePayload\":\"plain \\\"text\\\"\"}}"),
            ),
            (
                Condition::RetriesExhausted,
                "1",
                Some(answer(200, Some("3"), true, "{\"errorMessage\":\"no\"}")),
                format!(
                    "\"requestPayload\":1,{failed},\"responsePayload\":{{\"errorMessage\":\"no\"}}}}"
                ),
            ),
            (
                Condition::EventAgeExceeded,
                "1",
                Some(answer(429, None, false, "")),
                "\"requestPayload\":1,\"responseContext\":{\"statusCode\":429}}".into(),
            ),
            (Condition::EventAgeExceeded, "1", None, "\"requestPayload\":1}".into()),
            (
                Condition::ZeroReservedConcurrency,
                "1",
                Some(answer(429, None, false, "")),
                "\"requestPayload\":1}".into(),
            ),
        ] {
            let record = destinations().record(&event(payload, last), condition, at).unwrap();
            let want = head(condition.as_str()) + &rest;
            assert_eq!(String::from_utf8(record.to_vec()).unwrap(), want);
        }
    }

    #[test]
    fn a_dead_letter_says_why() {
        let ran = |body| Some(answer(200, Some("3"), true, body));
        for (condition, last, code, text) in [
            (
                Condition::RetriesExhausted,
                ran("{\"errorMessage\":\"n\\u00f6\",\"errorType\":\"E\"}"),
                "200",
                "nö",
            ),
            (
                Condition::RetriesExhausted,
                ran("{\"errorMessage\":\"\",\"errorType\":\"E\"}"),
                "200",
                "E",
            ),
            (
                Condition::RetriesExhausted,
                ran("{\"errorMessage\":null}"),
                "200",
                "{\"errorMessage\":null}",
            ),
            (Condition::RetriesExhausted, ran("[]"), "200", "[]"),
            (Condition::RetriesExhausted, ran(""), "200", "Unhandled"),
            (
                Condition::EventAgeExceeded,
                Some(answer(429, None, false, "")),
                "429",
                "Rate Exceeded.",
            ),
            (
                Condition::ZeroReservedConcurrency,
                None,
                "429",
                "Function not invoked. Function isconfigured with zero reserved concurrent executions",
            ),
        ] {
            let attributes = attributes(&event("1", last), condition);
            let names: Vec<(&str, &str, &str)> = attributes
                .iter()
                .map(|a| (a.name.as_str(), a.data_type.as_str(), a.value.as_str()))
                .collect();
            let want = [
                ("RequestID", "String", "id"),
                ("ErrorCode", "Number", code),
                ("ErrorMessage", "String", text),
            ];
            assert_eq!(names, want);
        }
    }

    #[test]
    fn an_error_message_is_cut_between_characters_at_1_kb() {
        let long = sendable(&format!("x{}", "ä".repeat(1000)));
        assert_eq!(long, format!("x{}", "ä".repeat(511)));
        assert_eq!(sendable(&"x".repeat(1025)).len(), 1024);
        assert_eq!(sendable("a\u{0}b\u{ffff}\tc"), "a\u{fffd}b\u{fffd}\tc");
    }
}
