//! `kennel serve` put together: store, control plane, instances, queue, front door; their housekeeping; and the end.
//!
//! The process is confined by now: it is nobody on this host, sees its data directory alone, and asks the launcher for
//! sandboxes.

#![forbid(unsafe_code)]

mod doors;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::api;
use crate::api::auth::{Credentials, Principal, SKEW};
use crate::api::body::BodyLimits;
use crate::api::door::FrontDoor;
use crate::api::operations::Lambda;
use crate::api::server::{Listener, ServerLimits};
use crate::config::{self, Config};
use crate::control::records::Snapshot;
use crate::control::{Control, ControlError, Runtimes, Settings};
use crate::invoke::destinations::Destinations;
use crate::invoke::invoker::{Invoker, Kept, Logbook};
use crate::invoke::queue::{
    AsyncQueue, Condition, EventPolicy, Happened, Observe, Parts, Policies, PolicyFuture,
};
use crate::invoke::service::Run;
use crate::invoke::{Function, LogNames, queue};
use crate::launcher::{Forked, Launcher, LauncherError};
use crate::logs::cloudwatch::CloudWatch;
use crate::logs::{Groups, LogFormat, StreamSink};
use crate::metrics::{Metrics, WaitingKind};
use crate::package::{PackageError, TreeStore};
use crate::pool::ahead::{self, Ahead, Kind};
use crate::pool::{self, Instance, Places, Pool, unix_ms};
use crate::runtimes::{Catalogue, Resolved};
use crate::store::files::FileLogs;
use crate::store::sqlite::SqliteStore;
use crate::store::{KeysAndQueues, Logs, StoreError, files};

/// How long an end may take altogether; what still runs then is cut short.
const DRAIN: Duration = Duration::from_secs(9);
/// How often idle instances are looked at, and provisioned ones made up.
const TICK: Duration = Duration::from_secs(1);
/// How often old code and logs are looked for.
const SWEEP: Duration = Duration::from_secs(60);
/// Sandboxes of one kind that wait with their runtime up, at most.
const MOST_AHEAD: usize = 32;
/// A runtime that no function was made or started with for so long has none waiting.
const FORGET_AHEAD: Duration = Duration::from_secs(3600);
/// Functions that are looked at, as the server starts, for what should wait.
const LOOK_AHEAD: usize = 500;
/// How long a new instance may wait for memory.
const MEMORY_WAIT: Duration = Duration::from_secs(10);
/// How long an image is kept after its last use, though sandboxes are not.
const IDLE_IMAGE: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("cannot open the data directory `{path}`")]
    Store { path: PathBuf, source: StoreError },
    #[error("cannot open the code in `{path}`")]
    Code { path: PathBuf, source: PackageError },
    #[error("cannot start the async runtime")]
    Runtime { source: io::Error },
    #[error("cannot use a listener")]
    Listener { source: io::Error },
    #[error("cannot watch for signals")]
    Signals { source: io::Error },
    #[error(transparent)]
    Launcher(#[from] LauncherError),
    #[error("the launcher process has ended; every sandbox is gone with it")]
    LauncherGone,
    #[error("the access key id `{id}` is given twice")]
    KeyTwice { id: String },
    #[error("cannot read the store")]
    Control { source: ControlError },
    #[error("cannot read the {what} `{path}`")]
    TlsFile { what: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot serve TLS")]
    Tls { source: api::server::TlsError },
}

/// The operator's key.
#[derive(Debug, Clone)]
pub struct Keys {
    pub id: String,
    pub secret: String,
    /// Where it is written, unless the environment gave it.
    pub file: Option<PathBuf>,
}

/// What this host can run, and what not.
#[derive(Debug, Default)]
pub struct FoundRuntimes {
    /// In the order of the launcher's table.
    pub here: Vec<Resolved>,
    pub missing: BTreeMap<String, String>,
}

/// An address that is bound already.
#[derive(Debug)]
pub enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// Everything that was made ready with privilege.
pub struct Prepared {
    pub config: Config,
    /// Canonical.
    pub data: PathBuf,
    pub keys: Keys,
    pub runtimes: FoundRuntimes,
    pub forked: Forked,
    pub listeners: Vec<Bound>,
    pub tls: Option<TlsAcceptor>,
    /// Why no sandboxes can wait here.
    pub no_preboot: Option<ahead::Off>,
    /// Says that the server answers: its address, and the runtimes.
    pub announce: fn(&Config, &str, &Keys, &[String]),
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Finds the interpreter of every runtime.
pub fn runtimes(catalogue: &Catalogue, strict: bool) -> FoundRuntimes {
    let mut found = FoundRuntimes::default();
    for name in catalogue.names() {
        match catalogue.resolve(&name, strict) {
            Ok(resolved) => found.here.push(resolved),
            Err(error) => {
                found.missing.insert(name, error.to_string());
            }
        }
    }
    found
}

/// Reads certificate chain and key.
///
/// # Errors
/// A file that cannot be read, holds none, or a key that does not fit.
pub fn tls(cert: &Path, key: &Path) -> Result<TlsAcceptor, ServerError> {
    let read = |what, path: &Path| {
        let path = path.to_owned();
        std::fs::read(&path).map_err(|source| ServerError::TlsFile { what, path, source })
    };
    let (cert, key) = (read("certificate", cert)?, read("key", key)?);
    api::server::tls(&cert, &key).map_err(|source| ServerError::Tls { source })
}

/// Opens the logs of new sandboxes.
struct Streams(Arc<Groups>);

impl Logbook<StreamSink> for Streams {
    fn open(&self, function: &Function, names: &LogNames) -> StreamSink {
        let json = function.log_format.eq_ignore_ascii_case("JSON");
        let format = if json { LogFormat::Json } else { LogFormat::Text };
        self.0.open(&names.group, &names.stream, format)
    }
}

/// What holds for a function's events, read from the control plane.
struct EventPolicies(Arc<Control>);

impl Policies for EventPolicies {
    fn policy<'a>(
        &'a self,
        function: &'a str,
        qualifier: Option<&'a str>,
        executed: Option<&'a str>,
    ) -> PolicyFuture<'a> {
        Box::pin(async move {
            let snapshot: Option<Arc<Snapshot>> = self.0.snapshot(function).await?;
            Ok(snapshot.map(|snapshot| EventPolicy::of(&snapshot, qualifier, executed)))
        })
    }
}

/// Counts what happens to events.
struct EventMetrics(Arc<Metrics>);

impl Observe for EventMetrics {
    fn observe(&self, function: &str, what: Happened) {
        use std::sync::atomic::Ordering::Relaxed;
        let metrics = self.0.function(function);
        match what {
            Happened::Accepted => metrics.async_received.fetch_add(1, Relaxed),
            Happened::Finished(Condition::Success) => metrics.async_delivered.fetch_add(1, Relaxed),
            Happened::Finished(_) | Happened::Gone => metrics.async_failed.fetch_add(1, Relaxed),
            _ => 0,
        };
    }
}

/// Runs the server until a signal ends it.
///
/// # Errors
/// What keeps it from starting, or from going on.
pub fn run(prepared: Prepared) -> Result<ExitCode, ServerError> {
    // One thread wakes no other: between a request and its function there are wakes enough.
    let mut builder = match prepared.config.threads {
        0 | 1 => tokio::runtime::Builder::new_current_thread(),
        threads => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(threads);
            builder
        }
    };
    let runtime = builder
        .enable_all()
        .thread_name("kennel-server")
        .build()
        .map_err(|source| ServerError::Runtime { source })?;
    let result = runtime.block_on(serve(prepared));
    // Nothing of value runs any more; a task that hangs must not keep the process.
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}

type ProvisionedState = BTreeMap<(String, String), (u32, u32)>;

/// The parts that outlive a single request.
struct Whole {
    control: Arc<Control>,
    invoker: Arc<Invoker<StreamSink>>,
    pool: Arc<Pool<StreamSink>>,
    ahead: Arc<Ahead<Instance<StreamSink>>>,
    queue: Arc<AsyncQueue>,
    groups: Arc<Groups>,
    metrics: Arc<Metrics>,
    /// What provisioned concurrency is at: by function and qualifier, alive and waiting.
    provisioned: Arc<Mutex<ProvisionedState>>,
}

async fn serve(prepared: Prepared) -> Result<ExitCode, ServerError> {
    let Prepared { config, data, keys, runtimes, forked, listeners, tls, no_preboot, announce } =
        prepared;
    let launcher_pid = forked.pid;
    let mut signals = Signals::new().map_err(|source| ServerError::Signals { source })?;
    let store_failed = |source| ServerError::Store { path: data.clone(), source };
    // First of all: a second server on the same directory ends here, with nothing touched.
    let store: Arc<dyn KeysAndQueues> = Arc::new(SqliteStore::open(&data).map_err(store_failed)?);
    let limits = files::Limits {
        log_bytes: config.log_stream_bytes,
        total_bytes: config.log_bytes,
        logs: config.log_streams,
        ..files::Limits::default()
    };
    let logs: Arc<dyn Logs> =
        Arc::new(FileLogs::open(&data.join("logs"), limits).map_err(store_failed)?);
    let code = data.join("code");
    let trees = TreeStore::open(&code)
        .map_err(|source| ServerError::Code { path: code.clone(), source })?;
    let metrics = Arc::new(Metrics::new());
    let names: Vec<String> = runtimes.here.iter().map(|r| r.name.clone()).collect();
    let settings = Settings {
        region: config.region.clone(),
        account: config.account.clone(),
        code_folder: code,
        account_concurrency: config.concurrency,
        code_storage_bytes: config.code_storage_bytes,
        runtimes: Runtimes {
            here: runtimes.here.iter().map(|r| (r.name.clone(), r.handler_required)).collect(),
            missing: runtimes.missing.clone(),
        },
        s3: config.s3.clone(),
    };
    let control = Arc::new(Control::new(store.clone(), settings, Arc::new(trees)));
    let group_limits = crate::logs::Limits { total_bytes: config.log_bytes, age: None };
    let groups = Arc::new(Groups::new(store.clone(), logs, group_limits));
    metrics.watch_logs(groups.clone());
    let places = Places::of_this_process();
    let pool = Pool::new(pool::Limits {
        memory_bytes: config.memory_bytes,
        instances: places.instances,
        idle: config.idle,
        freeze_after: config.freeze_after,
        wait: MEMORY_WAIT,
    });
    let table = (0..)
        .zip(&runtimes.here)
        .map(|(index, resolved)| (resolved.name.clone(), (index, resolved.clone())))
        .collect();
    let launcher = Arc::new(Launcher::new(forked)?);
    let ahead = Ahead::new(ahead::Limits {
        base: config.preboot,
        most: MOST_AHEAD,
        memory_bytes: config.preboot_bytes,
        places: places.waiting,
        forget: FORGET_AHEAD,
        off: no_preboot,
    });
    let idle = config.idle.max(IDLE_IMAGE);
    let images = pool::images::Limits { bytes: config.images_bytes, idle };
    let invoker = Invoker::new(
        launcher.clone(),
        Kept { pool: pool.clone(), ahead: ahead.clone(), images },
        control.clone(),
        table,
        Box::new(Streams(groups.clone())),
        metrics.clone(),
    );
    let (waiting, namer) = (ahead.clone(), Arc::downgrade(&invoker));
    metrics.watch_waiting(move || {
        let Some(invoker) = namer.upgrade() else { return Vec::new() };
        let of = |(kind, count, bytes): (Kind, usize, u64)| WaitingKind {
            runtime: invoker.runtime_name(kind.runtime).to_owned(),
            boot: kind.form.name(),
            count,
            bytes,
        };
        waiting.waiting().into_iter().map(of).collect()
    });
    control.finish_deletions().await.map_err(|source| ServerError::Control { source })?;
    invoker.read_reservations().await.map_err(|source| ServerError::Control { source })?;
    let run: Arc<dyn Run> = Arc::new(invoker.clone());
    let queue = Arc::new(AsyncQueue::start(Parts {
        store,
        policies: Arc::new(EventPolicies(control.clone())),
        run: run.clone(),
        destinations: Destinations {
            region: config.region.clone(),
            account: config.account.clone(),
            sqs: config.sqs.clone(),
            sns: config.sns.clone(),
        },
        observe: Arc::new(EventMetrics(metrics.clone())),
        settings: queue::Settings {
            retry_delays: config.retry_delays.to_vec(),
            ..queue::Settings::default()
        },
    }));
    let mut credentials = Credentials::new(keys.id.clone(), keys.secret.clone());
    for config::Principal { access_key_id, secret_access_key, arn } in config.principals.clone() {
        let id = access_key_id.clone();
        if !credentials.add(Principal { access_key_id, secret_access_key, arn }) {
            return Err(ServerError::KeyTwice { id });
        }
    }
    let (doors, url, port) = open_doors(&config, listeners, tls)?;
    let scheme = url.split("://").next().unwrap_or("http").to_owned();
    control.hooks.set_url_base(scheme, port);
    let parts = Arc::new(Whole {
        control: control.clone(),
        invoker: invoker.clone(),
        pool: pool.clone(),
        ahead: ahead.clone(),
        queue: queue.clone(),
        groups: groups.clone(),
        metrics,
        provisioned: Arc::default(),
    });
    let state = parts.provisioned.clone();
    control.hooks.set_provisioned_state(move |function, qualifier| {
        let state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.get(&(function.to_owned(), qualifier.to_owned())).copied().unwrap_or_default()
    });
    let cloud_watch = CloudWatch::new(groups, &config.region, &config.account);
    let lambda = Lambda {
        control: control.clone(),
        run: run.clone(),
        queue: queue.clone(),
        presign: doors::presigner(keys.clone(), config.region.clone()),
    };
    let extra = doors::Extras { parts: parts.clone(), run, cloud_watch };
    let (rendered, counted) = (parts.metrics.clone(), parts.metrics.clone());
    let bodies = BodyLimits::default();
    let door = FrontDoor::new(Arc::new(lambda), credentials, config.region.clone(), SKEW, bodies)
        .with_extra(Arc::new(extra))
        .with_metrics(move || rendered.render())
        .with_answered(move |operation, status| counted.request(operation, status));
    let (stop, stopped) = watch::channel(false);
    let limits = ServerLimits::default();
    let serving = tokio::spawn(api::server::serve(doors, Arc::new(door), limits, stopped));
    let housekeeping = housekeep(&parts);
    announce(&config, &url, &keys, &names);
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);

    let ended = signals.end_or_child(launcher_pid).await;
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    let until = Instant::now() + DRAIN;
    if ended.is_ok() {
        let left = || until.saturating_duration_since(Instant::now());
        let _ = stop.send(true);
        // What runs is answered; what is queued stays queued.
        let (_, answered) =
            tokio::join!(queue.stop(left()), tokio::time::timeout(left(), serving),);
        if answered.is_err() {
            tracing::warn!(running = invoker.running(), "invocations were cut short");
        }
        invoker.stop();
        while invoker.running() > 0 && !left().is_zero() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    for task in housekeeping {
        task.abort();
    }
    launcher.shutdown().await;
    drop((invoker, pool, ahead, parts, launcher));
    // Its end means that no sandbox, group or mount is left.
    let _ = tokio::time::timeout(Duration::from_secs(5), signals.child(launcher_pid)).await;
    ended
}

/// Turns what was bound into doors; the address to show, and the port of function URLs.
fn open_doors(
    config: &Config,
    listeners: Vec<Bound>,
    tls: Option<TlsAcceptor>,
) -> Result<(Vec<Listener>, String, u16), ServerError> {
    let failed = |source| ServerError::Listener { source };
    let scheme = if tls.is_some() { "https" } else { "http" };
    let mut doors = Vec::new();
    let mut shown: Option<(String, u16)> = None;
    for bound in listeners {
        match bound {
            Bound::Tcp(listener) => {
                let address = listener.local_addr().map_err(failed)?;
                shown.get_or_insert_with(|| (format!("{scheme}://{address}"), address.port()));
                let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
                doors.push(match &tls {
                    Some(tls) => Listener::Tls(listener, tls.clone()),
                    None => Listener::Tcp(listener),
                });
            }
            Bound::Unix(listener, _) => {
                let listener = tokio::net::UnixListener::from_std(listener).map_err(failed)?;
                doors.push(Listener::Unix(listener));
            }
        }
    }
    let (url, port) = shown.unwrap_or_else(|| {
        let first = config.listen.first().map(ToString::to_string).unwrap_or_default();
        (first, 80)
    });
    Ok((doors, url, port))
}

/// What must be done now and then, each in a task of its own.
fn housekeep(parts: &Arc<Whole>) -> Vec<tokio::task::JoinHandle<()>> {
    let pool = parts.pool.clone();
    let freezing = tokio::spawn(async move { pool.freeze_parked().await });
    let (mut changes, this) = (parts.control.changes(), parts.clone());
    let changing = tokio::spawn(async move {
        use tokio::sync::broadcast::error::RecvError;
        loop {
            match changes.recv().await {
                Ok(name) => this.invoker.changed(&name).await,
                // Which ones is not known any more: all are looked at.
                Err(RecvError::Lagged(_)) => this.invoker.all_changed().await,
                Err(RecvError::Closed) => return,
            }
        }
    });
    let this = parts.clone();
    let ticking = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut queued = BTreeSet::new();
        loop {
            ticks.tick().await;
            this.pool.end_idle();
            this.invoker.end_idle_images().await;
            this.provision().await;
            this.measure_queues(&mut queued).await;
        }
    });
    let this = parts.clone();
    let sweeping = tokio::spawn(async move {
        loop {
            tokio::select! {
                () = tokio::time::sleep(SWEEP) => {}
                () = this.groups.crowded.notified() => {}
            }
            if let Err(error) = this.groups.trim(unix_ms(SystemTime::now())).await {
                tracing::warn!(%error, "old logs could not be dropped");
            }
            let invoker = this.invoker.clone();
            match this.control.collect_code(&move |hex| invoker.uses_code(hex)).await {
                Ok(0) => {}
                Ok(bytes) => tracing::info!(bytes, "code that no version names was removed"),
                Err(error) => tracing::warn!(%error, "old code could not be removed"),
            }
        }
    });
    let this = parts.clone();
    let preparing = tokio::spawn(async move {
        this.want_ahead().await;
        let busy = || {
            let census = this.pool.census();
            census.busy + census.booting > 0
        };
        let make = |kind| {
            let invoker = this.invoker.clone();
            async move { invoker.make_waiting(kind).await }
        };
        this.ahead.clone().keep(make, busy).await;
    });
    vec![freezing, changing, ticking, sweeping, preparing]
}

impl Whole {
    /// What the functions that exist would need; of very many, the first ones.
    async fn want_ahead(&self) {
        match self.control.function_names(LOOK_AHEAD).await {
            Ok(names) => {
                for name in names {
                    self.invoker.want_ahead_of(&name).await;
                }
            }
            Err(error) => tracing::warn!(%error, "the functions could not be listed"),
        }
    }

    /// Notes how long the functions' queues are; `before` had events the last time.
    async fn measure_queues(&self, before: &mut BTreeSet<String>) {
        let Ok(backlogs) = self.queue.backlogs().await else { return };
        let now = unix_ms(SystemTime::now());
        let mut queued = BTreeSet::new();
        for backlog in backlogs {
            let age = u64::try_from(backlog.age.as_millis()).unwrap_or(u64::MAX);
            let oldest = Some(now.saturating_sub(age));
            self.metrics.function(&backlog.name).set_queue(backlog.depth, oldest);
            queued.insert(backlog.name);
        }
        for name in before.difference(&queued) {
            self.metrics.function(name).set_queue(0, None);
        }
        *before = queued;
    }

    /// Makes up what provisioned concurrency lacks.
    async fn provision(&self) {
        let wanted = match self.control.provisioned_all().await {
            Ok(wanted) => wanted,
            Err(error) => {
                tracing::warn!(%error, "the provisioned concurrency could not be read");
                return;
            }
        };
        let state = self.invoker.provision(wanted).await;
        *self.provisioned.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

/// Signals that concern the server.
struct Signals {
    term: tokio::signal::unix::Signal,
    int: tokio::signal::unix::Signal,
    child: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            child: signal(SignalKind::child())?,
        })
    }

    /// Waits for the operator's word, or for the end of a child that should not end.
    async fn end_or_child(&mut self, pid: libc::pid_t) -> Result<ExitCode, ServerError> {
        loop {
            tokio::select! {
                _ = self.term.recv() => return Ok(ExitCode::SUCCESS),
                _ = self.int.recv() => return Ok(ExitCode::SUCCESS),
                _ = self.child.recv() => {
                    if crate::sys::process::reaped(pid) {
                        return Err(ServerError::LauncherGone);
                    }
                }
            }
        }
    }

    /// Waits for the end of one child.
    async fn child(&mut self, pid: libc::pid_t) {
        while !crate::sys::process::reaped(pid) {
            self.child.recv().await;
        }
    }
}
