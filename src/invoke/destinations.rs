//! Where an asynchronous event's end is told: destination records and dead letters, as AWS words them, and the way out.
//!
//! What is to be told becomes a message in the same durable step that takes the event off its queue: for a function of
//! this server an event on that function's own queue, for SQS and SNS a message on `deliver/ARN`, one queue for each
//! destination, so that one that is down holds up no other. Knows no retry of events: that is `queue`'s.

mod record;

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use record::{attributes, payload};

use super::queue::{AsyncEvent, Condition, EventError, EventPolicy, event};
use crate::client::{self, ClientError, Endpoint, MessageAttribute};
use crate::control::names::FunctionName;
use crate::control::records::async_queue;

/// Prefix of queues that hold what goes out.
pub const DELIVER: &str = "deliver/";
/// AWS's limit on an asynchronous payload, in bytes.
const MAX_EVENT: usize = 1 << 20;

/// Services that destinations and dead-letter queues lead to, and who we are.
#[derive(Debug, Clone)]
pub struct Destinations {
    pub region: String,
    /// Twelve digits.
    pub account: String,
    pub sqs: Option<Endpoint>,
    pub sns: Option<Endpoint>,
}

/// A message for the store: queue and body.
pub(super) type Send = (String, Bytes);

/// What waits on a `deliver/` queue, apart from its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Delivery {
    pub arn: String,
    pub function: String,
    pub request_id: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<MessageAttribute>,
    /// Times that the service refused it.
    #[serde(default)]
    pub refusals: u32,
    /// Times that it could not be sent, whatever the reason.
    #[serde(default)]
    pub failures: u32,
}

/// Why a delivery did not go out.
#[derive(Debug, thiserror::Error)]
pub(super) enum DeliveryError {
    #[error("no endpoint for {service} is configured")]
    NotConfigured { service: &'static str },
    #[error("`{arn}` is no destination that can be delivered to: {why}")]
    Unsupported { arn: String, why: &'static str },
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl DeliveryError {
    /// It will not get better by waiting.
    pub(super) fn is_hopeless(&self) -> bool {
        matches!(self, Self::Unsupported { .. })
    }

    /// The service's no; it may be someone's mistake that is mended soon, so it is tried a few times.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Client(error) if error.is_refusal())
    }
}

impl Destinations {
    /// What is to be sent when `event` leaves its queue.
    pub(super) fn sends(
        &self,
        event: &AsyncEvent,
        condition: Condition,
        policy: &EventPolicy,
        now: SystemTime,
    ) -> Result<Vec<Send>, EventError> {
        let mut sends = Vec::new();
        let destination = match condition {
            Condition::Success => &policy.on_success,
            _ => &policy.on_failure,
        };
        if let Some(arn) = destination {
            let record = self.record(event, condition, now)?;
            sends.push(match self.own_function(arn) {
                Some(function) if record.len() <= MAX_EVENT => {
                    let next = following(event, function, record);
                    (async_queue(&next.function), next.encode()?)
                }
                _ => self.delivery(event, arn, Vec::new(), &record)?,
            });
        }
        if condition != Condition::Success
            && let Some(arn) = &policy.dead_letter_arn
        {
            sends.push(self.delivery(event, arn, attributes(event, condition), payload(event))?);
        }
        Ok(sends)
    }

    fn delivery(
        &self,
        event: &AsyncEvent,
        arn: &str,
        attributes: Vec<MessageAttribute>,
        body: &[u8],
    ) -> Result<Send, EventError> {
        let delivery = Delivery {
            arn: arn.into(),
            function: event.function.clone(),
            request_id: event.request_id.clone(),
            attributes,
            refusals: 0,
            failures: 0,
        };
        Ok((format!("{DELIVER}{arn}"), event::join(&delivery, &[body])?))
    }

    /// The function that an ARN names, where it is one of this server's.
    fn own_function(&self, arn: &str) -> Option<FunctionName> {
        let mut parts = arn.split(':');
        (parts.next() == Some("arn") && parts.nth(1) == Some("lambda")).then_some(())?;
        let name = FunctionName::parse(arn, None).ok()?;
        let ours = name.region.as_ref() == Some(&self.region)
            && name.account.as_ref() == Some(&self.account)
            && !name.name.is_empty();
        ours.then_some(name)
    }

    /// Sends one out.
    pub(super) async fn deliver(
        &self,
        delivery: &Delivery,
        body: &[u8],
    ) -> Result<(), DeliveryError> {
        let arn = delivery.arn.as_str();
        let unsupported = |why| DeliveryError::Unsupported { arn: arn.into(), why };
        let missing = |service| DeliveryError::NotConfigured { service };
        let body = String::from_utf8_lossy(body);
        match arn.split(':').nth(2) {
            Some("sqs") => {
                let endpoint = self.sqs.as_ref().ok_or_else(|| missing("SQS"))?;
                let attributes = &delivery.attributes;
                client::send_message(endpoint, &self.region, arn, &body, attributes).await?;
            }
            Some("sns") => {
                let endpoint = self.sns.as_ref().ok_or_else(|| missing("SNS"))?;
                client::publish(endpoint, &self.region, arn, &body, &delivery.attributes).await?;
            }
            Some("lambda") if self.own_function(arn).is_some() => {
                return Err(unsupported("the record is over 1 MiB, the most that an event may be"));
            }
            Some("lambda") => {
                return Err(unsupported("a function of another account or region"));
            }
            Some("events") => return Err(unsupported("event buses are not built")),
            Some("s3") => return Err(unsupported("buckets are not built")),
            _ => return Err(unsupported("neither a queue, nor a topic, nor a function")),
        }
        Ok(())
    }
}

/// The event that a function gets as the destination of another.
fn following(event: &AsyncEvent, function: FunctionName, record: Bytes) -> AsyncEvent {
    let id = uuid::Uuid::new_v4().to_string();
    let mut next = AsyncEvent::new(id, function.name, function.qualifier, record);
    next.trace_id.clone_from(&event.trace_id);
    next.chain.clone_from(&event.chain);
    *next.chain.entry(event.function.clone()).or_default() += 1;
    next
}

/// How long until a delivery is tried again: as after throttles.
pub(super) fn wait_after(delivery: &Delivery) -> Duration {
    super::queue::back_off(delivery.failures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_functions_of_this_server_are_its_own() {
        let destinations = Destinations {
            region: "eu-west-1".into(),
            account: "123456789012".into(),
            sqs: None,
            sns: None,
        };
        let here = "arn:aws:lambda:eu-west-1:123456789012:function:f";
        let own = |arn: &str| destinations.own_function(arn).map(|f| (f.name, f.qualifier));
        assert_eq!(own(here), Some(("f".into(), None)));
        assert_eq!(own(&format!("{here}:live")), Some(("f".into(), Some("live".into()))));
        for arn in [
            "arn:aws:lambda:us-east-1:123456789012:function:f",
            "arn:aws:lambda:eu-west-1:000000000000:function:f",
            "arn:aws:sqs:eu-west-1:123456789012:function:f",
            "arn:aws:sqs:eu-west-1:123456789012:f",
            "f",
            "",
        ] {
            assert_eq!(own(arn), None, "{arn}");
        }
    }
}
