//! An asynchronous event as it lies on its queue: a line of JSON, then the payload's bytes, then those of the last
//! answer. Payloads are not encoded again, so they go through byte for byte and take no more room than they have.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// One event for a function, to be run later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AsyncEvent {
    /// The same on every attempt.
    pub request_id: String,
    /// Bare name.
    pub function: String,
    /// As invoked; absent means `$LATEST`.
    pub qualifier: Option<String>,
    pub payload: Bytes,
    /// JSON, decoded from its header.
    pub client_context: Option<String>,
    pub trace_id: Option<String>,
    /// Milliseconds since the epoch, when it was accepted; its age counts from here.
    pub accepted_ms: u64,
    /// Attempts that reached the function and failed.
    pub attempts: u32,
    /// Throttles and failures of ours in a row.
    pub throttles: u32,
    /// What the last attempt came to.
    pub last: Option<Answer>,
    /// Functions that led here by their destinations, each with how often.
    pub chain: BTreeMap<String, u32>,
}

/// What an attempt came to, for records of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// 200 wherever the function ran; 429 for a throttle, 404 for a qualifier that is gone.
    pub status: u16,
    pub executed_version: Option<String>,
    /// `Unhandled`, where the function failed.
    pub function_error: Option<String>,
    pub payload: Bytes,
}

#[derive(Debug, thiserror::Error)]
pub enum EventError {
    #[error("the message has no line of JSON before its payload")]
    NoHead,
    #[error("the message's head cannot be read")]
    Head(#[source] serde_json::Error),
    #[error("the message ends after {have} of {want} bytes")]
    Short { have: usize, want: usize },
}

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    request_id: String,
    function: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    qualifier: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_context: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    accepted_ms: u64,
    #[serde(default)]
    attempts: u32,
    #[serde(default)]
    throttles: u32,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    chain: BTreeMap<String, u32>,
    /// Bytes.
    payload: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<LastHead>,
}

#[derive(Debug, Serialize, Deserialize)]
struct LastHead {
    status: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    executed_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    function_error: Option<String>,
    /// Bytes.
    payload: usize,
}

impl AsyncEvent {
    /// A new event, accepted now.
    pub fn new(
        request_id: String,
        function: String,
        qualifier: Option<String>,
        payload: Bytes,
    ) -> Self {
        Self {
            request_id,
            function,
            qualifier,
            payload,
            client_context: None,
            trace_id: None,
            accepted_ms: super::now_ms(),
            attempts: 0,
            throttles: 0,
            last: None,
            chain: BTreeMap::new(),
        }
    }

    pub(crate) fn encode(&self) -> Result<Bytes, EventError> {
        let last = self.last.as_ref();
        let head = Head {
            request_id: self.request_id.clone(),
            function: self.function.clone(),
            qualifier: self.qualifier.clone(),
            client_context: self.client_context.clone(),
            trace_id: self.trace_id.clone(),
            accepted_ms: self.accepted_ms,
            attempts: self.attempts,
            throttles: self.throttles,
            chain: self.chain.clone(),
            payload: self.payload.len(),
            last: last.map(|last| LastHead {
                status: last.status,
                executed_version: last.executed_version.clone(),
                function_error: last.function_error.clone(),
                payload: last.payload.len(),
            }),
        };
        join(&head, &[&self.payload, last.map_or(&[], |last| &last.payload)])
    }

    pub(crate) fn decode(message: &Bytes) -> Result<Self, EventError> {
        let (head, rest): (Head, Bytes) = split(message)?;
        let answered = head.last.as_ref().map_or(0, |last| last.payload);
        let want = head.payload.saturating_add(answered);
        if rest.len() < want {
            return Err(EventError::Short { have: rest.len(), want });
        }
        Ok(Self {
            request_id: head.request_id,
            function: head.function,
            qualifier: head.qualifier,
            payload: rest.slice(..head.payload),
            client_context: head.client_context,
            trace_id: head.trace_id,
            accepted_ms: head.accepted_ms,
            attempts: head.attempts,
            throttles: head.throttles,
            chain: head.chain,
            last: head.last.map(|last| Answer {
                status: last.status,
                executed_version: last.executed_version,
                function_error: last.function_error,
                payload: rest.slice(head.payload..want),
            }),
        })
    }
}

/// A line of JSON, then the parts.
pub(crate) fn join(head: &impl Serialize, parts: &[&[u8]]) -> Result<Bytes, EventError> {
    let head = serde_json::to_vec(head).map_err(EventError::Head)?;
    let mut message = BytesMut::with_capacity(
        head.len() + 1 + parts.iter().map(|part| part.len()).sum::<usize>(),
    );
    message.extend_from_slice(&head);
    message.extend_from_slice(b"\n");
    for part in parts {
        message.extend_from_slice(part);
    }
    Ok(message.freeze())
}

/// The line of JSON, and what follows it.
pub(crate) fn split<T: serde::de::DeserializeOwned>(
    message: &Bytes,
) -> Result<(T, Bytes), EventError> {
    let end = message.iter().position(|byte| *byte == b'\n').ok_or(EventError::NoHead)?;
    let head = serde_json::from_slice(&message[..end]).map_err(EventError::Head)?;
    Ok((head, message.slice(end + 1..)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_go_through_byte_for_byte() {
        for payload in
            [&b"{ \"a\" : 1.50,\n \"b\": \"\\u00e4\" }\n"[..], b"", b"\xff\x00\n{}", b"null"]
        {
            let mut event =
                AsyncEvent::new("id".into(), "f".into(), None, Bytes::from_static(payload));
            assert_eq!(AsyncEvent::decode(&event.encode().unwrap()).unwrap(), event);
            event.qualifier = Some("live".into());
            event.client_context = Some("{\"custom\":{\"x\":\"\\n\"}}".into());
            event.trace_id = Some("Root=1-2-3".into());
            event.attempts = 2;
            event.throttles = 7;
            event.chain.insert("g".into(), 3);
            event.last = Some(Answer {
                status: 200,
                executed_version: Some("$LATEST".into()),
                function_error: Some("Unhandled".into()),
                payload: Bytes::from_static(payload),
            });
            assert_eq!(AsyncEvent::decode(&event.encode().unwrap()).unwrap(), event);
        }
    }

    #[test]
    fn what_is_no_event_is_named() {
        let whole = AsyncEvent::new("id".into(), "f".into(), None, Bytes::from_static(b"[1,2]"));
        let whole = whole.encode().unwrap();
        for (message, text) in [
            (Bytes::from_static(b"{}"), "the message has no line of JSON before its payload"),
            (Bytes::from_static(b"[]\n{}"), "the message's head cannot be read"),
            (whole.slice(..whole.len() - 1), "the message ends after 4 of 5 bytes"),
        ] {
            assert_eq!(AsyncEvent::decode(&message).unwrap_err().to_string(), text);
        }
    }
}
