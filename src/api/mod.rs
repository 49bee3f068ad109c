//! The AWS REST front door. It translates and never decides: routes, required members, patterns, ranges and enums come as
//! data from AWS's service model; every request is verified (SigV4) and validated before [`Operations`] sees it.

#![forbid(unsafe_code)]

mod answer;
pub mod auth;
pub mod body;
pub mod door;
pub mod errors;
mod eventstream;
pub mod extra;
pub mod function_url;
mod json;
pub mod logs_api;
mod model;
pub mod operations;
mod parse;
mod route;
pub mod server;
#[cfg(test)]
mod tests;
mod validate;
mod watchdog;

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use crate::control::ControlError;

/// Who signed the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// The operator's own key: may do everything.
    Root,
    /// Another key of the configuration: may do what resource policies allow its ARN.
    Principal { arn: String },
    /// A function URL without authentication.
    Anonymous,
}

/// A verified and validated request of one operation of the model.
#[derive(Debug)]
pub struct Input {
    /// Uri, query, header and body members by their names in the model, scalars in their model's types (integers,
    /// booleans; a blob in a JSON body stays the base64 text it is).
    pub members: Map<String, Value>,
    /// The `payload` member's bytes where the operation has one (Invoke); else empty.
    pub payload: Bytes,
    pub caller: Caller,
    /// `x-amzn-requestid` of the answer; a UUID. For Invoke also the invocation's id.
    pub request_id: String,
    /// `X-Amzn-Trace-Id` of the request.
    pub trace_id: Option<String>,
    /// `http://HOST:PORT` as the caller wrote it: for URLs in answers.
    pub base_url: String,
}

/// What an operation answers.
#[derive(Debug)]
pub struct Output {
    /// Instead of the model's status.
    pub status: Option<u16>,
    /// By the model's names; the front door puts each where the model has it (header, body).
    pub members: Map<String, Value>,
    pub payload: Payload,
}

#[derive(Debug)]
pub enum Payload {
    /// The answer is the JSON of `members`, or empty where the model has no body.
    Members,
    /// The payload member's bytes.
    Bytes(Bytes),
    /// An event stream; the front door frames each event. Dropping the receiver tells that the caller is gone.
    Events(mpsc::Receiver<StreamEvent>),
}

/// An event of `InvokeWithResponseStream`.
#[derive(Debug)]
pub enum StreamEvent {
    PayloadChunk(Bytes),
    InvokeComplete {
        error_code: Option<String>,
        error_details: Option<String>,
        log_result: Option<String>,
    },
}

impl Output {
    pub fn members(members: Map<String, Value>) -> Self {
        Self { status: None, members, payload: Payload::Members }
    }
}

pub type OperationFuture<'a> =
    Pin<Box<dyn Future<Output = Result<Output, ControlError>> + Send + 'a>>;

/// What stands behind the front door.
pub trait Operations: Send + Sync + 'static {
    /// Runs the operation named as in the model. `ErrorKind::NotBuilt` for one that is not built.
    fn call<'a>(&'a self, operation: &'a str, input: Input) -> OperationFuture<'a>;
}
