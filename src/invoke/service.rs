//! What an invocation is asked with and what comes of it, for the front door and for the asynchronous path.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::FunctionError;
use crate::control::ControlError;

/// One event for a function.
#[derive(Debug)]
pub struct InvokeRequest {
    /// Bare name.
    pub function: String,
    pub qualifier: Option<String>,
    pub request_id: String,
    pub payload: Bytes,
    /// JSON, decoded from its header.
    pub client_context: Option<String>,
    pub trace_id: Option<String>,
    /// Where a streamed answer's bytes go as they come; a buffered answer goes there whole.
    pub stream: Option<mpsc::Sender<Bytes>>,
    /// Its log lines are on the disk before this is done.
    pub durable_log: bool,
}

#[derive(Debug)]
pub struct Invoked {
    /// `$LATEST` or a number.
    pub executed_version: String,
    /// With the qualifier that was invoked.
    pub invoked_arn: String,
    /// Empty body where it was streamed. The function's failure is a result, not an error of ours.
    pub result: Result<Bytes, FunctionError>,
    /// The last 4 KB of its log.
    pub log_tail: Vec<u8>,
}

pub type RunFuture<'a> = Pin<Box<dyn Future<Output = Result<Invoked, ControlError>> + Send + 'a>>;

/// Runs events now, in the caller's task: one that is dropped half-way ends the sandbox. An error is never the function's: no such function (`ResourceNotFound`), a throttle
/// (`TooManyRequests`, member `Reason`), or a sandbox that could not be made (`Service`).
pub trait Run: Send + Sync + 'static {
    fn run(&self, request: InvokeRequest) -> RunFuture<'_>;
}
