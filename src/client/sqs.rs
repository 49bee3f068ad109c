//! Messages for SQS, over AWS's JSON protocol.

use std::collections::BTreeMap;

use hyper::Method;
use serde::Serialize;

use super::aws::{self, Call};
use super::{ClientError, Endpoint, MessageAttribute};

/// Bytes of an answer, which is a few hashes.
const LIMIT: u64 = 64 << 10;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SendMessage<'a> {
    queue_url: String,
    message_body: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    message_attributes: BTreeMap<&'a str, Value<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Value<'a> {
    data_type: &'a str,
    string_value: &'a str,
}

/// Sends a message to the queue of this ARN; its address is `ENDPOINT/ACCOUNT/NAME`.
///
/// # Errors
/// The service's refusal (`QueueDoesNotExist`, …), or no way to it.
pub async fn send_message(
    endpoint: &Endpoint,
    region: &str,
    queue_arn: &str,
    body: &str,
    attributes: &[MessageAttribute],
) -> Result<(), ClientError> {
    let (account, name) = aws::arn(queue_arn, "sqs")?;
    let message = SendMessage {
        queue_url: format!("{}/{account}/{name}", endpoint.url.trim_end_matches('/')),
        message_body: body,
        message_attributes: attributes
            .iter()
            .map(|a| (a.name.as_str(), Value { data_type: &a.data_type, string_value: &a.value }))
            .collect(),
    };
    // A struct of strings: there is nothing that could fail.
    let body = serde_json::to_vec(&message).unwrap_or_default();
    let call = Call {
        endpoint,
        region,
        service: "sqs",
        method: Method::POST,
        path_and_query: "/".into(),
        headers: vec![
            ("content-type", "application/x-amz-json-1.0".into()),
            ("x-amz-target", "AmazonSQS.SendMessage".into()),
        ],
        body: body.into(),
        limit: LIMIT,
    };
    call.send().await.map(drop)
}
