//! One event through one sandbox: init where it is new, START to REPORT, the outcome in AWS's words. Shared by
//! `kennel invoke`, whose sandbox is for one event, and by the server, whose sandboxes stay.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::environment;
use super::errors::{self, Status};
use super::{
    DEFAULT_PIDS, DEFAULT_TMP_MIB, Function, FunctionEnvironment, FunctionError, LogNames, Receipt,
    Request, millis, trace_id,
};
use crate::launcher::protocol::Launch;
use crate::launcher::{Launcher, LauncherError};
use crate::logs::{Identity, InitStart, LogFormat, PlatformLog, Sink, lines};
use crate::pool::{self, Answered, Init, Instance, Outcome, PoolError, Told, Wanted};
use crate::runtime_api::Invocation;
use crate::runtimes::Resolved;
use crate::sandbox::{MemoryMib, MilliCpu, RPC_PORT, RUNTIME_PORT, RUNTIME_SOCKET, Start, Usage};

/// A sandbox that can take an event, or whose init failed and says so as the event's result.
#[derive(Debug)]
pub struct Ready<S> {
    pub instance: Instance<S>,
    init: Init,
    /// For the REPORT line.
    report_init: Option<Duration>,
    /// The invocation began already: its START line is written, its clock runs.
    began: Option<(Instant, SystemTime)>,
    /// Words the platform's own lines.
    pub platform: Arc<PlatformLog>,
}

/// What came of an event, with what it cost.
#[derive(Debug)]
pub struct Executed {
    pub result: Result<Bytes, FunctionError>,
    pub status: Status,
    pub duration: Duration,
    pub billed: Duration,
    pub init: Option<Duration>,
    /// Most memory at one time in the sandbox's life so far.
    pub memory_peak_bytes: u64,
    pub bytes_in: u64,
    pub log_tail: Vec<u8>,
}

impl<S: Sink> Ready<S> {
    /// A sandbox that has run events before.
    pub fn warm(instance: Instance<S>, platform: Arc<PlatformLog>) -> Self {
        Self { instance, init: Init::Done, report_init: None, began: None, platform }
    }

    /// A sandbox whose init was ahead of its first event, and took so long.
    pub fn ahead(instance: Instance<S>, init: Duration, platform: Arc<PlatformLog>) -> Self {
        Self { instance, init: Init::Done, report_init: Some(init), began: None, platform }
    }

    /// Makes a sandbox for `request_id` and loads the function.
    ///
    /// # Errors
    /// The sandbox could not be made: never the function's doing.
    pub async fn cold(
        launcher: &Arc<Launcher>,
        function: &Function,
        log: &LogNames,
        sink: S,
        request_id: &str,
    ) -> Result<Self, PoolError> {
        let started = Started::boot(launcher, function, log, sink, ON_DEMAND).await?;
        Self::initialise(started, launcher, function, log, request_id).await
    }

    /// Loads the function for `request_id`.
    ///
    /// An init that takes too long is tried once more in a new sandbox, in the invocation's own time, as AWS has it.
    ///
    /// # Errors
    /// As [`Self::cold`].
    pub async fn initialise(
        started: Started<S>,
        launcher: &Arc<Launcher>,
        function: &Function,
        log: &LogNames,
        request_id: &str,
    ) -> Result<Self, PoolError> {
        let Started { mut instance, platform } = started;
        let init = instance.init(pool::INIT_TIMEOUT).await;
        let took = instance.started.elapsed();
        if init != Init::TimedOut {
            note_init(&mut instance, &platform, &init, took);
            return Ok(Self { instance, init, report_init: Some(took), began: None, platform });
        }
        note(&mut instance, platform.init_report(took, "init", lines::Status::Timeout));
        let began = Some((Instant::now(), SystemTime::now()));
        let (_, sink) = instance.release().await?;
        let sink = sink.ok_or(LauncherError::Gone)?;
        let mut instance =
            Instance::start(launcher.clone(), wanted(launcher, function, log, &platform), sink)
                .await?;
        instance.log.begin();
        note(&mut instance, platform.start(request_id, &function.version));
        let init = instance.init(function.timeout).await;
        Ok(Self { instance, init, report_init: None, began, platform })
    }

    /// Runs the event. Afterwards the instance is idle or dead.
    pub async fn execute(
        &mut self,
        function: &Function,
        request: Request,
        stream: Option<&mpsc::Sender<Bytes>>,
    ) -> Executed {
        let instance = &mut self.instance;
        let platform = self.platform.clone();
        let id = request.request_id.as_str();
        let (began, began_wall) = match self.began {
            Some(began) => began,
            None => {
                if self.report_init.is_none() {
                    // What it printed between two events belongs to neither's tail.
                    instance.log.drain();
                    instance.log.flush().await;
                    instance.log.begin();
                }
                note(instance, platform.start(id, &function.version));
                (Instant::now(), SystemTime::now())
            }
        };
        let deadline = began_wall + function.timeout;
        let bytes_in = request.payload.len() as u64;
        let outcome = match std::mem::replace(&mut self.init, Init::Done) {
            Init::Done => {
                let invocation = Invocation {
                    request_id: request.request_id.clone(),
                    payload: request.payload,
                    deadline_ms: pool::unix_ms(deadline),
                    function_arn: request.invoked_arn.unwrap_or_else(|| function.arn.clone()),
                    trace_id: request.trace_id.unwrap_or_else(trace_id),
                    client_context: request.client_context,
                    cognito_identity: None,
                };
                instance.invoke(invocation, deadline, stream).await
            }
            Init::Failed { error_type, body } => {
                Outcome::Answered(Answered::Error { error_type, body })
            }
            Init::Exited(exit) => Outcome::Exited(exit),
            Init::TimedOut => Outcome::TimedOut,
        };
        let duration = lines::measured(began.elapsed());
        let (result, status) = errors::result_of(outcome, id, function.timeout);
        if let Err(error) = &result
            && let Some(line) = error.log_line.as_deref().and_then(|line| platform.failure(line))
        {
            instance.log.note(line);
        }
        note(instance, platform.end(id));
        let memory_peak_bytes = instance.memory_peak();
        let billed = lines::billed(duration);
        let report = lines::Report {
            request_id: id,
            duration,
            billed,
            memory_mb: function.memory.mib(),
            max_memory_mb: memory_peak_bytes.div_ceil(1 << 20),
            init: self.report_init,
            status: status.as_line(),
        };
        let bytes_out = result.as_ref().map_or(0, |body| body.len() as u64);
        note(instance, platform.runtime_done(&report, bytes_out));
        note(instance, platform.report(&report));
        let log_tail = instance.log.tail();
        let init = self.report_init.take();
        self.began = None;
        Executed { result, status, duration, billed, init, memory_peak_bytes, bytes_in, log_tail }
    }
}

impl Executed {
    /// The receipt; `life` is what the sandbox used in all its life, where it ended.
    pub fn receipt(
        &self,
        function: &Function,
        request_id: String,
        life: Usage,
        log_bytes: u64,
        degraded: Vec<String>,
        start: (&str, &str),
    ) -> Receipt {
        let peak = life.memory_peak_bytes.max(self.memory_peak_bytes);
        Receipt {
            request_id,
            status: self.status.name().into(),
            duration_ms: millis(self.duration),
            billed_duration_ms: u64::try_from(self.billed.as_millis()).unwrap_or(u64::MAX),
            init_duration_ms: self.init.map(millis),
            cpu_time_ms: millis(life.cpu_time),
            memory_size_mb: function.memory.mib(),
            max_memory_used_mb: peak.div_ceil(1 << 20),
            bytes_in: self.bytes_in,
            bytes_out: self.result.as_ref().map_or(0, |body| body.len() as u64),
            log_bytes,
            peak_processes: life.pids_peak,
            out_of_memory_kills: life.oom_kills,
            start: start.0.into(),
            start_reason: start.1.into(),
            runtime: function.runtime.name.clone(),
            interpreter_version: function.runtime.version.clone(),
            degraded,
        }
    }
}

/// How a sandbox came to have this function, as the runtime and the log have it.
pub const ON_DEMAND: &str = "on-demand";
pub const PROVISIONED: &str = "provisioned-concurrency";

/// A sandbox whose runtime starts, or goes on, for a function.
#[derive(Debug)]
pub struct Started<S> {
    pub instance: Instance<S>,
    pub platform: Arc<PlatformLog>,
}

impl<S: Sink> Started<S> {
    /// A sandbox made in full.
    ///
    /// # Errors
    /// The sandbox could not be made: never the function's doing.
    pub async fn boot(
        launcher: &Arc<Launcher>,
        function: &Function,
        log: &LogNames,
        sink: S,
        kind: &'static str,
    ) -> Result<Self, PoolError> {
        let platform = Arc::new(platform_log(function, log, kind));
        let wanted = wanted(launcher, function, log, &platform);
        let instance = Instance::start(launcher.clone(), wanted, sink).await?;
        Ok(Self::begin(instance, function, platform))
    }

    /// One that waited; one that is held goes on from `image` where there is one.
    ///
    /// # Errors
    /// As [`Self::boot`]; the sandbox is gone then, and a new one may do.
    pub async fn claim(
        mut instance: Instance<S>,
        function: &Function,
        log: &LogNames,
        sink: S,
        kind: &'static str,
        image: Option<u32>,
    ) -> Result<Self, PoolError> {
        let platform = Arc::new(platform_log(function, log, kind));
        let env = variables(function, log, &platform);
        let environment = |env: &[(String, String)]| {
            let env: serde_json::Map<String, serde_json::Value> =
                env.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect();
            serde_json::json!({ "env": env }).to_string().into()
        };
        let told = if instance.is_held() {
            let environment = image.map(|image| (image, environment(&env)));
            let start = Start { argv_any: wrapped(&function.runtime, function), env };
            match environment {
                Some((image, environment)) => Told::Image { image, start, environment },
                None => Told::Start(start),
            }
        } else {
            Told::Environment(environment(&env))
        };
        let (code, layers) = (function.code.clone(), function.layers.clone());
        if let Err(error) = instance.claim(code, layers, function.memory, told, sink).await {
            let _ = instance.release().await;
            return Err(error);
        }
        Ok(Self::begin(instance, function, platform))
    }

    fn begin(mut instance: Instance<S>, function: &Function, platform: Arc<PlatformLog>) -> Self {
        begin_log(&mut instance, function, &platform);
        note_exec_failure(&mut instance);
        Self { instance, platform }
    }

    /// Loads the function ahead of any event; what came of it, and how long it took.
    pub async fn initialise(&mut self) -> (Init, Duration) {
        let init = self.instance.init(pool::INIT_TIMEOUT).await;
        let took = self.instance.started.elapsed();
        note_init(&mut self.instance, &self.platform, &init, took);
        (init, took)
    }
}

fn note_exec_failure<S: Sink>(instance: &mut Instance<S>) {
    if let Some((program, errno)) = instance.exec_failed() {
        let why = std::io::Error::from_raw_os_error(*errno);
        let note = format!("kennel: cannot run `{program}` in the sandbox: {why}\n");
        instance.log.note(&note);
    }
}

fn begin_log<S: Sink>(instance: &mut Instance<S>, function: &Function, platform: &PlatformLog) {
    instance.log.begin();
    note(instance, platform.init_start(InitStart::default()));
    if let Some(wanted) = &function.runtime.instead_of {
        let (name, version) = (&function.runtime.name, &function.runtime.version);
        let language = &function.runtime.language;
        let note = format!(
            "kennel: {name} ({language} {wanted}) runs on {language} {version}, the nearest newer one here\n"
        );
        instance.log.note(&note);
    }
}

fn note<S: Sink>(instance: &mut Instance<S>, text: Option<String>) {
    if let Some(text) = text {
        instance.log.note(&text);
    }
}

/// What the JSON format has of an init that ended.
fn note_init<S: Sink>(
    instance: &mut Instance<S>,
    platform: &PlatformLog,
    init: &Init,
    took: Duration,
) {
    if platform.format == LogFormat::Text {
        return;
    }
    let how = match init {
        Init::Done => lines::Status::Answered,
        Init::TimedOut => lines::Status::Timeout,
        Init::Failed { error_type, .. } => lines::Status::Error(error_type),
        Init::Exited(_) => lines::Status::Error("Runtime.ExitError"),
    };
    note(instance, platform.init_runtime_done(how));
    note(instance, platform.init_report(took, "init", how));
}

fn platform_log(function: &Function, log: &LogNames, kind: &'static str) -> PlatformLog {
    let identity = Identity {
        function_name: function.name.clone(),
        version: function.version.clone(),
        function_arn: Some(function.arn.clone()),
        instance_id: log.stream.clone(),
        memory_mb: function.memory.mib(),
        initialization_type: kind,
    };
    PlatformLog::new(&function.log_format, function.system_log_level.as_deref(), identity)
}

/// All of a function's environment, from the first instruction of its program or told to a bootstrap that waited.
fn variables(function: &Function, log: &LogNames, platform: &PlatformLog) -> Vec<(String, String)> {
    let rpc_port = function.runtime.rpc_door.then_some(RPC_PORT);
    let initialization_type = platform.identity.initialization_type;
    FunctionEnvironment { function, log, rpc_port, initialization_type }.variables()
}

fn wanted(
    launcher: &Launcher,
    function: &Function,
    log: &LogNames,
    platform: &PlatformLog,
) -> Wanted {
    let runtime = &function.runtime;
    let env = variables(function, log, platform);
    let launch = Launch {
        id: launcher.new_id(),
        runtime: function.runtime_index,
        code: Some(function.code.clone()),
        layers: function.layers.clone(),
        held: false,
        argv_any: wrapped(runtime, function),
        env,
        memory_mib: function.memory.mib(),
        milli_cpu: MilliCpu::while_initialising(function.memory).0,
        pids: function.pids,
        tmp_mib: function.tmp_mib,
        rpc: runtime.rpc_door,
        host_network: function.host_network,
    };
    Wanted { launch, function_cpu: MilliCpu::for_memory(function.memory) }
}

/// A sandbox of a runtime that waits for its function.
pub fn wanted_ahead(
    launcher: &Launcher,
    index: u32,
    runtime: &Resolved,
    memory: MemoryMib,
) -> Wanted {
    let mut env = environment::defaults();
    env.extend(runtime.env("", memory));
    env.push(("AWS_LAMBDA_RUNTIME_API".into(), format!("127.0.0.1:{RUNTIME_PORT}")));
    env.push(("KENNEL_RUNTIME_API_SOCKET".into(), RUNTIME_SOCKET.into()));
    env.push(("LAMBDA_RUNTIME_DIR".into(), "/var/runtime".into()));
    env.push(("KENNEL_PREBOOT".into(), "1".into()));
    let argv_any = runtime.argv_any("", memory);
    waiting(Launch { argv_any, env, ..launch_ahead(launcher, index, memory) }, memory)
}

/// A sandbox of a runtime that comes up and stops, for its image.
pub fn wanted_image(launcher: &Launcher, index: u32, runtime: &Resolved) -> Wanted {
    let mut wanted = wanted_ahead(launcher, index, runtime, MemoryMib::LEAST);
    wanted.launch.env.push(("KENNEL_IMAGE".into(), "1".into()));
    wanted
}

/// A sandbox for any function of a runtime, whose program is held.
pub fn wanted_held(
    launcher: &Launcher,
    index: u32,
    runtime: &Resolved,
    memory: MemoryMib,
) -> Wanted {
    let rpc = runtime.rpc_door;
    waiting(Launch { held: true, rpc, ..launch_ahead(launcher, index, memory) }, memory)
}

fn waiting(launch: Launch, memory: MemoryMib) -> Wanted {
    Wanted { launch, function_cpu: MilliCpu::for_memory(memory) }
}

/// What every sandbox that waits has in common: no code, and the usual limits.
fn launch_ahead(launcher: &Launcher, index: u32, memory: MemoryMib) -> Launch {
    Launch {
        id: launcher.new_id(),
        runtime: index,
        code: None,
        layers: Vec::new(),
        held: false,
        argv_any: Vec::new(),
        env: Vec::new(),
        memory_mib: memory.mib(),
        milli_cpu: MilliCpu::while_initialising(memory).0,
        pids: DEFAULT_PIDS,
        tmp_mib: DEFAULT_TMP_MIB,
        rpc: false,
        host_network: false,
    }
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
