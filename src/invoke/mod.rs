//! One event through one function: environment, phases, errors as AWS words them, the log's lines, the receipt.

#![forbid(unsafe_code)]

pub mod destinations;
mod environment;
mod errors;
pub mod invoker;
pub mod queue;
mod receipt;
mod run;
pub mod service;
mod starts;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use environment::{FunctionEnvironment, LogNames, request_id, trace_id};
pub use errors::FunctionError;
pub use receipt::Receipt;
pub use run::{
    Executed, ON_DEMAND, PROVISIONED, Ready, Started, wanted_ahead, wanted_held, wanted_image,
};

use crate::launcher::protocol::Tree;
use crate::launcher::{Launcher, LauncherError};
use crate::logs::Sink;
use crate::pool::PoolError;
use crate::runtimes::Resolved;
use crate::sandbox::{MemoryMib, spec};

/// A function, as far as running it goes.
#[derive(Debug, Clone)]
pub struct Function {
    pub name: String,
    pub version: String,
    pub arn: String,
    pub region: String,
    pub handler: String,
    pub memory: MemoryMib,
    pub timeout: Duration,
    pub tmp_mib: u32,
    pub pids: u32,
    pub environment: Vec<(String, String)>,
    pub code: Tree,
    pub layers: Vec<Tree>,
    /// The runtime's place in the launcher's table.
    pub runtime_index: u32,
    pub runtime: Resolved,
    pub host_network: bool,
    /// `Text` or `JSON`: how the platform's own lines are written.
    pub log_format: String,
    pub system_log_level: Option<String>,
}

/// An event for a function.
#[derive(Debug, Clone)]
pub struct Request {
    pub request_id: String,
    pub payload: Bytes,
    pub client_context: Option<String>,
    /// As it was invoked, where that is not the function's own ARN.
    pub invoked_arn: Option<String>,
    /// Where the caller has one.
    pub trace_id: Option<String>,
}

/// What came of it. The function's failure is a result, not an error of ours.
#[derive(Debug)]
pub struct Completed {
    pub result: Result<Bytes, FunctionError>,
    pub receipt: Receipt,
    pub log_tail: Vec<u8>,
}

/// Runs one event in a sandbox made for it alone, and removes the sandbox.
///
/// # Errors
/// The sandbox could not be made: never the function's doing.
pub async fn run_once<S: Sink>(
    launcher: &Arc<Launcher>,
    function: &Function,
    request: Request,
    sink: S,
) -> Result<(Completed, S), PoolError> {
    let log = LogNames::new(&function.name, &function.version);
    let request_id = request.request_id.clone();
    let mut ready = Ready::cold(launcher, function, &log, sink, &request_id).await?;
    let executed = ready.execute(function, request, None).await;
    let degraded = ready.instance.degraded().to_vec();
    let log_bytes = ready.instance.log.bytes;
    let (life, sink) = ready.instance.release().await?;
    let sink = sink.ok_or(LauncherError::Gone)?;
    let start = ("cold", "one sandbox for one event");
    let receipt = executed.receipt(function, request_id, life, log_bytes, degraded, start);
    Ok((Completed { result: executed.result, receipt, log_tail: executed.log_tail }, sink))
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 100_000.0).round() / 100.0
}

/// Defaults that carry a JVM, .NET and pandas.
pub const DEFAULT_MEMORY_MB: u32 = 512;
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
pub const DEFAULT_PIDS: u32 = spec::DEFAULT_PIDS;
/// Size of `/tmp`, as on AWS.
pub const DEFAULT_TMP_MIB: u32 = 512;
