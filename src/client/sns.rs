//! Messages for SNS, over AWS's query protocol.

use hyper::Method;

use super::aws::{self, Call};
use super::{ClientError, Endpoint, MessageAttribute};
use crate::sigv4::encode;

/// Bytes of an answer, which is an id.
const LIMIT: u64 = 64 << 10;

/// Publishes a message to a topic.
///
/// # Errors
/// The service's refusal (`NotFound`, …), or no way to it.
pub async fn publish(
    endpoint: &Endpoint,
    region: &str,
    topic_arn: &str,
    message: &str,
    attributes: &[MessageAttribute],
) -> Result<(), ClientError> {
    aws::arn(topic_arn, "sns")?;
    let mut form = vec![
        ("Action".to_owned(), "Publish"),
        ("Version".to_owned(), "2010-03-31"),
        ("TopicArn".to_owned(), topic_arn),
        ("Message".to_owned(), message),
    ];
    for (at, attribute) in (1..).zip(attributes) {
        let entry = format!("MessageAttributes.entry.{at}");
        form.push((format!("{entry}.Name"), &attribute.name));
        form.push((format!("{entry}.Value.DataType"), &attribute.data_type));
        form.push((format!("{entry}.Value.StringValue"), &attribute.value));
    }
    let pairs: Vec<String> =
        form.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    let call = Call {
        endpoint,
        region,
        service: "sns",
        method: Method::POST,
        path_and_query: "/".into(),
        headers: vec![("content-type", "application/x-www-form-urlencoded; charset=utf-8".into())],
        body: pairs.join("&").into(),
        limit: LIMIT,
    };
    call.send().await.map(drop)
}
