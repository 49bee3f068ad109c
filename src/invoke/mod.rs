//! One event through one function: environment, phases, errors as AWS words them, the log's lines, the receipt.

#![forbid(unsafe_code)]

mod environment;
mod errors;
mod receipt;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

pub use environment::{FunctionEnvironment, LogNames, trace_id};
pub use errors::FunctionError;
pub use receipt::Receipt;

use crate::launcher::Launcher;
use crate::launcher::protocol::{Launch, Tree};
use crate::logs::{Sink, lines};
use crate::pool::{self, Answered, Init, Instance, Outcome, PoolError, Wanted};
use crate::runtime_api::Invocation;
use crate::runtimes::Resolved;
use crate::sandbox::{MemoryMib, MilliCpu, RPC_PORT, spec};

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
}

/// An event for a function.
#[derive(Debug, Clone)]
pub struct Request {
    pub request_id: String,
    pub payload: Bytes,
    pub client_context: Option<String>,
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
    let log_names = LogNames::new(&function.name, &function.version);
    let mut instance =
        Instance::start(launcher.clone(), wanted(launcher, function, &log_names), sink).await?;
    let id = request.request_id.as_str();
    instance.log.begin();
    if let Some(wanted) = &function.runtime.instead_of {
        let (name, version) = (&function.runtime.name, &function.runtime.version);
        let language = &function.runtime.language;
        let note = format!(
            "kennel: {name} ({language} {wanted}) runs on {language} {version}, the nearest newer one here\n"
        );
        instance.log.note(&note);
    }
    if let Some((program, errno)) = instance.exec_failed() {
        let why = std::io::Error::from_raw_os_error(*errno);
        let note = format!("kennel: cannot run `{program}` in the sandbox: {why}\n");
        instance.log.note(&note);
    }
    let mut init = instance.init(pool::INIT_TIMEOUT).await;
    let init_duration = instance.started.elapsed();
    // A second try counts as the invocation's own time, as AWS has it.
    let began = Instant::now();
    let began_wall = SystemTime::now();
    let deadline = began_wall + function.timeout;
    let mut report_init = Some(init_duration);
    if init == Init::TimedOut {
        let text = format!(
            "INIT_REPORT Init Duration: {:.2} ms\tPhase: init\tStatus: timeout\n",
            init_duration.as_secs_f64() * 1000.0
        );
        instance.log.note(&text);
        let (_, sink) = instance.release().await?;
        instance =
            Instance::start(launcher.clone(), wanted(launcher, function, &log_names), sink).await?;
        instance.log.begin();
        report_init = None;
        instance.log.note(&lines::start(id, &function.version));
        init = instance.init(function.timeout).await;
    } else {
        instance.log.note(&lines::start(id, &function.version));
    }
    let bytes_in = request.payload.len() as u64;
    let outcome = match init {
        Init::Done => {
            let invocation = Invocation {
                request_id: request.request_id.clone(),
                payload: request.payload,
                deadline_ms: pool::unix_ms(deadline),
                function_arn: function.arn.clone(),
                trace_id: trace_id(),
                client_context: request.client_context,
                cognito_identity: None,
            };
            instance.invoke(invocation, deadline).await
        }
        Init::Failed { error_type, body } => {
            Outcome::Answered(Answered::Error { error_type, body })
        }
        Init::Exited(exit) => Outcome::Exited(exit),
        Init::TimedOut => Outcome::TimedOut,
    };
    let duration = began.elapsed();
    let (result, status) = errors::result_of(outcome, id, function.timeout);
    if let Err(error) = &result
        && let Some(line) = &error.log_line
    {
        instance.log.note(line);
    }
    instance.log.note(&lines::end(id));
    let usage = instance.usage();
    let billed = lines::billed(duration);
    let report = lines::Report {
        request_id: id,
        duration,
        billed,
        memory_mb: function.memory.mib(),
        max_memory_mb: usage.memory_peak_bytes.div_ceil(1 << 20),
        init: report_init,
        status: status.as_line(),
    };
    instance.log.note(&report.line());
    let log_tail = instance.log.tail();
    let degraded = instance.degraded().to_vec();
    let log_bytes = instance.log.bytes;
    let (life, sink) = instance.release().await?;
    let receipt = Receipt {
        request_id: request.request_id,
        status: status.name().into(),
        duration_ms: millis(duration),
        billed_duration_ms: u64::try_from(billed.as_millis()).unwrap_or(u64::MAX),
        init_duration_ms: report_init.map(millis),
        cpu_time_ms: millis(life.cpu_time),
        memory_size_mb: function.memory.mib(),
        max_memory_used_mb: life.memory_peak_bytes.max(usage.memory_peak_bytes).div_ceil(1 << 20),
        bytes_in,
        bytes_out: result.as_ref().map_or(0, |body| body.len() as u64),
        log_bytes,
        peak_processes: life.pids_peak.max(usage.pids_peak),
        out_of_memory_kills: life.oom_kills,
        start: "cold".into(),
        start_reason: "one sandbox for one event".into(),
        runtime: function.runtime.name.clone(),
        interpreter_version: function.runtime.version.clone(),
        degraded,
    };
    Ok((Completed { result, receipt, log_tail }, sink))
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 100_000.0).round() / 100.0
}

fn wanted(launcher: &Launcher, function: &Function, log: &LogNames) -> Wanted {
    let runtime = &function.runtime;
    let rpc = runtime.rpc_door;
    let env = FunctionEnvironment { function, log, rpc_port: rpc.then_some(RPC_PORT) }.variables();
    let launch = Launch {
        id: launcher.new_id(),
        runtime: function.runtime_index,
        code: function.code.clone(),
        layers: function.layers.clone(),
        argv_any: wrapped(runtime, function),
        env,
        memory_mib: function.memory.mib(),
        milli_cpu: MilliCpu::while_initialising(function.memory).0,
        pids: function.pids,
        tmp_mib: function.tmp_mib,
        rpc,
        host_network: function.host_network,
    };
    Wanted { launch, function_cpu: MilliCpu::for_memory(function.memory) }
}

/// The runtime's command, behind the script of `AWS_LAMBDA_EXEC_WRAPPER` where there is one. As on AWS, a package that
/// is its own runtime is not wrapped.
fn wrapped(runtime: &Resolved, function: &Function) -> Vec<Vec<String>> {
    let argv_any = runtime.argv_any(&function.handler, function.memory);
    let wrapper = function.environment.iter().find(|(k, _)| k == "AWS_LAMBDA_EXEC_WRAPPER");
    match (wrapper, &runtime.interpreter) {
        (Some((_, wrapper)), Some(_)) => argv_any
            .into_iter()
            .map(|argv| std::iter::once(wrapper.clone()).chain(argv).collect())
            .collect(),
        _ => argv_any,
    }
}

/// Defaults that carry a JVM, .NET and pandas.
pub const DEFAULT_MEMORY_MB: u32 = 512;
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
pub const DEFAULT_PIDS: u32 = spec::DEFAULT_PIDS;
