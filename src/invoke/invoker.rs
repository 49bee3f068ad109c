//! Runs events now: which version, whether there is room, a warm sandbox or a new one, and what becomes of it after.
//!
//! A caller that goes away does not end an invocation on AWS: whoever calls [`Run`] does so from a task of its own.

mod images;

use std::any::Any;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use super::service::{InvokeRequest, Invoked, Run, RunFuture};
use super::starts::{self, Boot, Kinds, Why};
use super::{
    DEFAULT_PIDS, Executed, Function, LogNames, ON_DEMAND, PROVISIONED, Ready, Request, Started,
    wanted_ahead, wanted_held,
};
use crate::control::records::{CodeRef, LayerRef, Snapshot, Target, VersionRecord};
use crate::control::{Control, ControlError, ErrorKind};
use crate::launcher::protocol::Tree;
use crate::launcher::{Launcher, LauncherError};
use crate::logs::{PlatformLog, Sink};
use crate::metrics::{FunctionMetrics, Metrics, SandboxGauge, SandboxState};
use crate::pool::ahead::{Ahead, Form, Kind};
use crate::pool::images::{self as pool_images, Images};
use crate::pool::{
    INIT_TIMEOUT, Init, Instance, Key, Pool, PoolError, Provisioned, Share, State, Tag, Taken,
    end_with,
};
use crate::runtimes::Resolved;
use crate::sandbox::MemoryMib;

/// Opens the log of a new sandbox.
pub trait Logbook<S>: Send + Sync {
    fn open(&self, function: &Function, names: &LogNames) -> S;
}

/// Where sandboxes come from.
#[derive(Debug)]
pub struct Kept<S> {
    pub pool: Arc<Pool<S>>,
    pub ahead: Arc<Ahead<Instance<S>>>,
    pub images: pool_images::Limits,
}

/// The runtimes that the launcher knows, by name: their place in its table.
pub type RuntimeTable = HashMap<String, (u32, Resolved)>;

/// See the module's words.
pub struct Invoker<S> {
    launcher: Arc<Launcher>,
    pool: Arc<Pool<S>>,
    ahead: Arc<Ahead<Instance<S>>>,
    control: Arc<Control>,
    runtimes: RuntimeTable,
    logbook: Box<dyn Logbook<S>>,
    metrics: Arc<Metrics>,
    /// By function name.
    functions: RwLock<HashMap<String, Arc<FunctionState>>>,
    /// What waiting sandboxes the functions can claim, by function name.
    kinds: Mutex<HashMap<String, Vec<Kind>>>,
    /// Executions that no reservation covers.
    unreserved: AtomicU32,
    /// By function name, and their sum.
    reservations: Mutex<HashMap<String, u32>>,
    reserved: AtomicU32,
    running: AtomicU64,
    /// A stopped server takes nothing new.
    stopping: AtomicBool,
    /// Every version that was made; those that a sandbox still has can be upgraded.
    made: Mutex<Vec<Weak<Function>>>,
    images: Mutex<Images>,
}

impl<S> std::fmt::Debug for Invoker<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Invoker").field("running", &self.running).finish_non_exhaustive()
    }
}

/// What is known of a function between its invocations.
#[derive(Debug)]
struct FunctionState {
    id: String,
    /// Shared by all states of one function: a permit outlives the configuration that it was given under.
    running: Arc<AtomicU32>,
    reserved: Option<u32>,
    metrics: Arc<FunctionMetrics>,
    /// By version. Shared as well: what runs asks here, when it ends, whether its version is still the one.
    versions: Arc<RwLock<HashMap<String, Arc<Version>>>>,
    /// Instances of provisioned concurrency that are alive, by version.
    provisioned: Arc<Mutex<HashMap<String, Provision>>>,
}

/// Instances of one version's provisioned concurrency.
#[derive(Debug, Clone, Default)]
struct Provision {
    /// Those that are being made included.
    alive: Arc<AtomicU32>,
    making: Arc<AtomicU32>,
    /// After a failure none is made for a while.
    failed: Arc<Mutex<Option<Instant>>>,
}

/// A version ready to run.
#[derive(Debug)]
struct Version {
    record: Arc<VersionRecord>,
    key: Key,
    function: Arc<Function>,
    /// Which waiting sandboxes it can claim, or why it needs a full boot.
    kinds: Kinds,
}

/// A sandbox for an event, and how it came to be.
struct Found<S> {
    ready: Ready<S>,
    share: Share<S>,
    tag: Tag,
    boot: Boot,
    /// Why not sooner.
    why: Vec<Why>,
}

/// One execution's place; given back when dropped.
struct Permit<S: 'static> {
    invoker: Arc<Invoker<S>>,
    function: Arc<FunctionState>,
    reserved: bool,
}

impl<S> Drop for Permit<S> {
    fn drop(&mut self) {
        self.function.running.fetch_sub(1, Ordering::Relaxed);
        self.invoker.running.fetch_sub(1, Ordering::Relaxed);
        if !self.reserved {
            self.invoker.unreserved.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// How long provisioned concurrency rests after a sandbox for it could not be made.
const PROVISION_REST: Duration = Duration::from_secs(30);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: Sink + Send + 'static> Invoker<S> {
    pub fn new(
        launcher: Arc<Launcher>,
        kept: Kept<S>,
        control: Arc<Control>,
        runtimes: RuntimeTable,
        logbook: Box<dyn Logbook<S>>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let Kept { pool, ahead, images } = kept;
        Arc::new(Self {
            launcher,
            pool,
            ahead,
            control,
            runtimes,
            logbook,
            metrics,
            functions: RwLock::default(),
            kinds: Mutex::default(),
            unreserved: AtomicU32::new(0),
            reservations: Mutex::default(),
            reserved: AtomicU32::new(0),
            running: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            made: Mutex::default(),
            images: Mutex::new(Images::new(images)),
        })
    }

    /// Executions that run now.
    pub fn running(&self) -> u64 {
        self.running.load(Ordering::Relaxed)
    }

    /// From now on every new invocation is refused with 503.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    async fn invoke(self: Arc<Self>, request: InvokeRequest) -> Result<Invoked, ControlError> {
        if self.stopping.load(Ordering::Relaxed) {
            let text = "The server is shutting down.";
            return Err(ControlError::new(ErrorKind::Unavailable, text));
        }
        let target = self.control.target(&request.function, request.qualifier.as_deref()).await?;
        let state = self.state(&target.snapshot);
        let permit = self.permit(&state)?;
        let version = self.version(&state, &target)?;
        self.run_in_sandbox(permit, version, target, request).await
    }

    async fn run_in_sandbox(
        self: Arc<Self>,
        permit: Permit<S>,
        version: Arc<Version>,
        target: Target,
        request: InvokeRequest,
    ) -> Result<Invoked, ControlError> {
        let function = &version.function;
        let metrics = permit.function.metrics.clone();
        let Found { mut ready, mut share, mut tag, boot, why } =
            self.sandbox(&permit, &version, &request.request_id).await?;
        share.booted();
        tag.gauge.set(SandboxState::Busy);
        let receipt_of = receipts_wanted().then(|| request.request_id.clone());
        let event = Request {
            request_id: request.request_id,
            payload: request.payload,
            client_context: request.client_context,
            invoked_arn: Some(target.invoked_arn.clone()),
            trace_id: request.trace_id,
        };
        let executed = ready.execute(function, event, request.stream.as_ref()).await;
        if boot != Boot::Warm {
            metrics.cold_start(executed.init.unwrap_or_default());
        }
        metrics.invoked(executed.duration, executed.result.is_err());
        if let Some(request_id) = receipt_of {
            log_receipt(request_id, function, &executed, &ready.instance, boot, &why);
        }
        let logged = if request.durable_log {
            ready.instance.log.end_durably().await
        } else {
            ready.instance.log.end().await;
            Ok(())
        };
        let tag = Tag { platform: ready.platform, ..tag };
        let used = executed.memory_peak_bytes;
        self.keep_or_end(&version, ready.instance, share, used, tag, &permit);
        drop(permit);
        if let Err(error) = logged {
            let text = "The function's log could not be written; the event is kept.";
            return Err(ControlError::new(ErrorKind::Unavailable, text).caused_by(error));
        }
        Ok(Invoked {
            executed_version: target.version.version.clone(),
            invoked_arn: target.invoked_arn,
            result: executed.result,
            log_tail: executed.log_tail,
        })
    }

    fn keep_or_end(
        &self,
        version: &Version,
        instance: Instance<S>,
        share: Share<S>,
        used: u64,
        tag: Tag,
        permit: &Permit<S>,
    ) {
        // An update that came meanwhile ends what ran the version before.
        let current = {
            let versions = permit.function.versions.read().unwrap_or_else(PoisonError::into_inner);
            versions.get(&*version.key.version).is_some_and(|v| v.key == version.key)
        };
        let kept = self.pool.keeps() && !self.stopping.load(Ordering::Relaxed);
        if instance.state == State::Idle && current && kept {
            self.pool.park(version.key.clone(), instance, share, used, Tag { fresh: None, ..tag });
            return;
        }
        end_with(instance, (share, tag));
    }

    /// A warm sandbox, or a new one.
    async fn sandbox(
        self: &Arc<Self>,
        permit: &Permit<S>,
        version: &Arc<Version>,
        request_id: &str,
    ) -> Result<Found<S>, ControlError> {
        if let Some(Taken { instance, share, tag }) = self.pool.take(&version.key) {
            let ready = match tag.fresh {
                Some(init) => Ready::ahead(instance, init, tag.platform.clone()),
                None => Ready::warm(instance, tag.platform.clone()),
            };
            self.metrics.warm_start();
            return Ok(Found { ready, share, tag, boot: Boot::Warm, why: Vec::new() });
        }
        // Apart: what a cold start needs, a warm one does not carry along.
        Box::pin(self.new_sandbox(permit, version, request_id)).await
    }

    async fn new_sandbox(
        self: &Arc<Self>,
        permit: &Permit<S>,
        version: &Arc<Version>,
        request_id: &str,
    ) -> Result<Found<S>, ControlError> {
        let function = &version.function;
        let Some(share) = self.pool.share(function.memory.bytes()).await else {
            permit.function.metrics.throttles.fetch_add(1, Ordering::Relaxed);
            return Err(throttle("ConcurrentInvocationLimitExceeded"));
        };
        let gauge = permit.function.metrics.sandbox(SandboxState::Booting);
        let names = self.log_names(version);
        let (boot, why, started) =
            self.started(version, &names, ON_DEMAND, Some(request_id)).await?;
        let ready = Ready::initialise(started, &self.launcher, function, &names, request_id).await;
        let ready = ready.map_err(|error| sandbox_failed(function, error))?;
        self.note_start(function, Some(request_id), boot, &why);
        let tag = tag(version, gauge, ready.platform.clone(), None);
        Ok(Found { ready, share, tag, boot, why })
    }

    /// A sandbox for a version, as quickly as there is one; how it came to be, and why not more quickly.
    async fn started(
        self: &Arc<Self>,
        version: &Arc<Version>,
        names: &LogNames,
        kind: &'static str,
        request_id: Option<&str>,
    ) -> Result<(Boot, Vec<Why>, Started<S>), ControlError> {
        let function = &version.function;
        let (mut waiting, mut why) = (None, Vec::new());
        if let Some(image) = self.image(version) {
            // Sooner there than an image is one that is up already; none is made for that.
            let spare = version.kinds.best().and_then(|kind| self.ahead.take_spare(kind));
            waiting = spare.map(|spare| (Boot::Preboot, spare));
            if waiting.is_none() {
                match self.restored(image, version, names, kind, request_id).await {
                    Ok(started) => return Ok((Boot::Image, why, started)),
                    Err(failed) => why.push(failed),
                }
            }
        }
        let sink = self.logbook.open(function, names);
        if waiting.is_none() {
            let take = |kind| self.ahead.take(kind, who(&version.key));
            let chosen = version.kinds.choose(self.ahead.off(), take);
            waiting = chosen.0;
            why.splice(0..0, chosen.1);
        }
        let sink = match waiting {
            None => sink,
            Some((boot, waiting)) => {
                match Started::claim(waiting, function, names, sink, kind, None).await {
                    Ok(started) => return Ok((boot, why, started)),
                    Err(error) => {
                        let text = error.to_string();
                        let name = &function.name;
                        tracing::warn!(request_id, function = name, why = text, "a claim failed");
                        why = vec![Why::Refused { why: text }];
                        self.logbook.open(function, names)
                    }
                }
            }
        };
        let started = Started::boot(&self.launcher, function, names, sink, kind).await;
        Ok((Boot::Full, why, started.map_err(|error| sandbox_failed(function, error))?))
    }

    /// Tells of a sandbox's start: how it came to be, and why not sooner.
    fn note_start(&self, function: &Function, request_id: Option<&str>, boot: Boot, why: &[Why]) {
        self.metrics.start(boot.name(), why.last().map_or("", Why::label));
        let why = starts::words(why);
        tracing::info!(request_id, function = function.name, boot = boot.name(), why);
    }

    fn log_names(&self, version: &Version) -> LogNames {
        let mut names = LogNames::new(&version.function.name, &version.function.version);
        names.group.clone_from(&version.record.logging.group);
        names
    }

    /// A place for one more execution of this function.
    fn permit(self: &Arc<Self>, function: &Arc<FunctionState>) -> Result<Permit<S>, ControlError> {
        let refuse = |reason| {
            function.metrics.throttles.fetch_add(1, Ordering::Relaxed);
            Err(throttle(reason))
        };
        if let Some(most) = function.reserved {
            if function.running.fetch_add(1, Ordering::Relaxed) >= most {
                function.running.fetch_sub(1, Ordering::Relaxed);
                return refuse("ReservedFunctionConcurrentInvocationLimitExceeded");
            }
        } else {
            let account = self.control.settings.account_concurrency;
            let most = account.saturating_sub(self.reserved.load(Ordering::Relaxed));
            if self.unreserved.fetch_add(1, Ordering::Relaxed) >= most {
                self.unreserved.fetch_sub(1, Ordering::Relaxed);
                return refuse("ConcurrentInvocationLimitExceeded");
            }
            function.running.fetch_add(1, Ordering::Relaxed);
        }
        self.running.fetch_add(1, Ordering::Relaxed);
        Ok(Permit {
            invoker: self.clone(),
            function: function.clone(),
            reserved: function.reserved.is_some(),
        })
    }

    fn state(&self, snapshot: &Snapshot) -> Arc<FunctionState> {
        let record = &snapshot.function;
        {
            let functions = self.functions.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(state) = functions.get(&record.name)
                && state.id == record.id
                && state.reserved == record.reserved_concurrency
            {
                return state.clone();
            }
        }
        let mut functions = self.functions.write().unwrap_or_else(PoisonError::into_inner);
        let before = functions.get(&record.name).filter(|s| s.id == record.id);
        let state = Arc::new(FunctionState {
            id: record.id.clone(),
            running: before.map(|s| s.running.clone()).unwrap_or_default(),
            reserved: record.reserved_concurrency,
            metrics: self.metrics.function(&record.name),
            versions: before.map(|s| s.versions.clone()).unwrap_or_default(),
            provisioned: before.map(|s| s.provisioned.clone()).unwrap_or_default(),
        });
        functions.insert(record.name.clone(), state.clone());
        state
    }

    /// The version in the shape that sandboxes are made from; made once.
    fn version(
        &self,
        state: &FunctionState,
        target: &Target,
    ) -> Result<Arc<Version>, ControlError> {
        let record = &target.version;
        {
            let versions = state.versions.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(version) = versions.get(&record.version)
                && Arc::ptr_eq(&version.record, record)
            {
                return Ok(version.clone());
            }
        }
        let version = Arc::new(self.make_version(&target.snapshot, record)?);
        let mut versions = state.versions.write().unwrap_or_else(PoisonError::into_inner);
        versions.insert(record.version.clone(), version.clone());
        Ok(version)
    }

    fn make_version(
        &self,
        snapshot: &Snapshot,
        record: &Arc<VersionRecord>,
    ) -> Result<Version, ControlError> {
        let settings = &self.control.settings;
        let name = &snapshot.function.name;
        let runtime_name = record.runtime.clone().unwrap_or_default();
        let Some((index, runtime)) = self.runtimes.get(&runtime_name) else {
            let why = settings.runtimes.missing.get(&runtime_name);
            let why = why.map_or("it is unknown", String::as_str);
            let text = format!("Runtime {runtime_name} cannot run on this host: {why}");
            return Err(ControlError::new(ErrorKind::InvalidParameterValue, text));
        };
        let qualified = (record.version != "$LATEST").then_some(record.version.as_str());
        let mut environment: Vec<(String, String)> =
            record.environment.clone().unwrap_or_default().into_iter().collect();
        if record.logging.format == "JSON" {
            environment.push(("AWS_LAMBDA_LOG_FORMAT".into(), "JSON".into()));
            let level = record.logging.application_level.clone();
            environment
                .push(("AWS_LAMBDA_LOG_LEVEL".into(), level.unwrap_or_else(|| "INFO".into())));
        }
        let memory = MemoryMib::new(record.memory_mb)
            .map_err(|error| ControlError::internal(error.to_string()))?;
        let function = Function {
            name: name.clone(),
            version: record.version.clone(),
            arn: settings.function_arn(name, qualified),
            region: settings.region.clone(),
            handler: record.handler.clone().unwrap_or_default(),
            memory,
            timeout: Duration::from_secs(record.timeout_s.into()),
            tmp_mib: record.tmp_mb,
            pids: DEFAULT_PIDS,
            environment,
            code: code_tree(&record.code),
            layers: record.layers.iter().map(|LayerRef { code, .. }| code_tree(code)).collect(),
            runtime_index: *index,
            runtime: runtime.clone(),
            host_network: false,
            log_format: record.logging.format.clone(),
            system_log_level: record.logging.system_level.clone(),
        };
        let function = Arc::new(function);
        {
            let mut made = lock(&self.made);
            if made.len() == made.capacity() {
                // Before it grows: as many as live, and as many again, at most.
                made.retain(|function| function.strong_count() > 0);
                let alive = made.len();
                made.reserve(alive.max(64));
            }
            made.push(Arc::downgrade(&function));
        }
        Ok(Version {
            kinds: Kinds::of(&function, self.held_as(*index, runtime)),
            key: Key {
                function: snapshot.function.id.as_str().into(),
                version: record.version.as_str().into(),
                generation: generation(record),
            },
            record: record.clone(),
            function,
        })
    }

    /// The first runtime of the table whose sandboxes can hold this one's program.
    fn held_as(&self, index: u32, runtime: &Resolved) -> u32 {
        let same = self.runtimes.values().filter(|(_, other)| other.shows_the_same(runtime));
        same.map(|(index, _)| *index).min().unwrap_or(index)
    }

    /// Makes a sandbox ahead, for [`Ahead::keep`].
    ///
    /// # Errors
    /// The launcher's refusal; a runtime that does not come up.
    pub async fn make_waiting(&self, kind: Kind) -> Result<Instance<S>, PoolError> {
        let runtime = self.runtimes.values().find(|(index, _)| *index == kind.runtime);
        let Some((index, runtime)) = runtime else { return Err(LauncherError::Gone.into()) };
        let memory = MemoryMib::new(kind.memory_mib).map_err(|error| LauncherError::Refused {
            chain: vec![error.to_string()],
            hint: None,
        })?;
        let wanted = match kind.form {
            Form::Preboot => wanted_ahead(&self.launcher, *index, runtime, memory),
            Form::Held => wanted_held(&self.launcher, *index, runtime, memory),
        };
        Instance::start_ahead(self.launcher.clone(), wanted, INIT_TIMEOUT).await
    }

    /// Wants sandboxes ahead for what a function would need now: soon, where it `is_new` or changed.
    fn want_ahead(&self, snapshot: &Arc<Snapshot>, is_new: bool) {
        let name = &snapshot.function.name;
        let Ok(version) = self.make_version(snapshot, &snapshot.latest) else {
            return self.note_kinds(name, Vec::new());
        };
        match version.kinds.best() {
            Some(kind) if is_new => self.ahead.expect(kind, who(&version.key)),
            Some(kind) => self.ahead.want(kind),
            None => {}
        }
        self.note_kinds(name, version.kinds.all());
    }

    fn note_kinds(&self, name: &str, kinds: Vec<Kind>) {
        let mut all = lock(&self.kinds);
        let before = all.remove(name).unwrap_or_default();
        if !kinds.is_empty() {
            all.insert(name.to_owned(), kinds);
        }
        // Nobody needs what the last function of its kind needed.
        for kind in before {
            if !all.values().flatten().any(|k| *k == kind) {
                self.ahead.unwant(kind);
            }
        }
    }

    /// A runtime's name, by its place in the launcher's table.
    pub fn runtime_name(&self, index: u32) -> &str {
        let found = self.runtimes.iter().find(|(_, (i, _))| *i == index);
        found.map_or("", |(name, _)| name)
    }

    /// Wants sandboxes ahead for a function that exists, as the server starts.
    pub async fn want_ahead_of(&self, name: &str) {
        if let Ok(Some(snapshot)) = self.control.snapshot(name).await {
            self.want_ahead(&snapshot, false);
        }
    }

    /// A function was changed or deleted: its instances that no longer fit are ended.
    pub async fn changed(&self, name: &str) {
        let snapshot = match self.control.snapshot(name).await {
            Ok(snapshot) => snapshot,
            Err(error) => {
                tracing::error!(%error, function = name, "a changed function could not be read");
                return;
            }
        };
        let reserved = snapshot.as_ref().and_then(|s| s.function.reserved_concurrency);
        self.note_reserved(name, reserved);
        match &snapshot {
            Some(snapshot) => self.want_ahead(snapshot, true),
            None => self.note_kinds(name, Vec::new()),
        }
        let before = {
            let functions = self.functions.read().unwrap_or_else(PoisonError::into_inner);
            functions.get(name).cloned()
        };
        let Some(before) = before else { return };
        let is_current = |key: &Key| {
            let snapshot = snapshot.as_ref().filter(|s| s.function.id == before.id);
            let record = snapshot.and_then(|snapshot| match &*key.version {
                "$LATEST" => Some(&snapshot.latest),
                number => snapshot.versions.get(number),
            });
            record.is_some_and(|record| generation(record) == key.generation)
        };
        self.retain_images(|key| *key.function != *before.id || is_current(key)).await;
        match snapshot.filter(|s| s.function.id == before.id) {
            None => {
                self.pool.end_function(&before.id, |_| false);
                let mut functions = self.functions.write().unwrap_or_else(PoisonError::into_inner);
                if functions.get(name).is_some_and(|s| s.id == before.id) {
                    functions.remove(name);
                    self.metrics.forget(name);
                }
            }
            Some(snapshot) => {
                let state = self.state(&snapshot);
                {
                    let mut versions =
                        state.versions.write().unwrap_or_else(PoisonError::into_inner);
                    versions.retain(|version, made| {
                        let now = match version.as_str() {
                            "$LATEST" => Some(&snapshot.latest),
                            number => snapshot.versions.get(number),
                        };
                        now.is_some_and(|r| generation(r) == made.key.generation)
                    });
                }
                self.pool.end_function(&snapshot.function.id, |key| {
                    let now = match &*key.version {
                        "$LATEST" => Some(&snapshot.latest),
                        number => snapshot.versions.get(number),
                    };
                    now.is_some_and(|r| generation(r) == key.generation)
                });
            }
        }
    }

    /// As [`Self::changed`], for every function that is known here.
    pub async fn all_changed(&self) {
        let names: Vec<String> = {
            let functions = self.functions.read().unwrap_or_else(PoisonError::into_inner);
            functions.keys().cloned().collect()
        };
        for name in names {
            self.changed(&name).await;
        }
    }

    /// Reads all reservations, when the server starts.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn read_reservations(&self) -> Result<(), ControlError> {
        for (name, reserved) in self.control.reservations().await? {
            self.note_reserved(&name, Some(reserved));
        }
        Ok(())
    }

    fn note_reserved(&self, name: &str, reserved: Option<u32>) {
        let mut reservations = lock(&self.reservations);
        match reserved {
            Some(reserved) => reservations.insert(name.to_owned(), reserved),
            None => reservations.remove(name),
        };
        self.reserved.store(reservations.values().sum(), Ordering::Relaxed);
    }

    /// Makes up what provisioned concurrency lacks, and ends what is too much: function, qualifier, and how much is
    /// wanted. What it is at: by function and qualifier, alive and waiting.
    pub async fn provision(
        self: &Arc<Self>,
        wanted: Vec<(String, String, u32)>,
    ) -> BTreeMap<(String, String), (u32, u32)> {
        let mut now = BTreeMap::new();
        let mut kept: HashSet<(String, String)> = HashSet::new();
        for (name, qualifier, requested) in wanted {
            let Some((state, version)) = self.provisionable(&name, &qualifier).await else {
                continue;
            };
            let number = version.key.version.to_string();
            let provision = lock(&state.provisioned).entry(number.clone()).or_default().clone();
            let count = provision.alive.load(Ordering::Relaxed);
            let rests = lock(&provision.failed).is_some_and(|at| at.elapsed() < PROVISION_REST);
            for _ in count..if rests { count } else { requested } {
                let (this, state, version) = (self.clone(), state.clone(), version.clone());
                let token = Provisioned::new(provision.alive.clone());
                let making = Provisioned::new(provision.making.clone());
                let failed = provision.failed.clone();
                tokio::spawn(async move {
                    let _making = making;
                    if let Err(error) = this.make_ahead(&state, &version, token).await {
                        let function = &version.function.name;
                        tracing::warn!(%error, function, "a provisioned sandbox could not be made");
                        *lock(&failed) = Some(Instant::now());
                    }
                });
            }
            if count > requested {
                self.pool.end_provisioned(&version.key, count - requested);
            }
            let making = provision.making.load(Ordering::Relaxed);
            now.insert((name.clone(), qualifier), (count, count.saturating_sub(making)));
            kept.insert((name, number));
        }
        self.end_unprovisioned(&kept);
        now
    }

    /// Ends instances of provisioned concurrency that nobody wants any more.
    fn end_unprovisioned(&self, kept: &HashSet<(String, String)>) {
        let functions = self.functions.read().unwrap_or_else(PoisonError::into_inner);
        for (name, state) in functions.iter() {
            let mut provisioned = lock(&state.provisioned);
            provisioned.retain(|number, provision| {
                let alive = provision.alive.load(Ordering::Relaxed);
                let wanted = kept.contains(&(name.clone(), number.clone()));
                let versions = state.versions.read().unwrap_or_else(PoisonError::into_inner);
                if !wanted && let Some(version) = versions.get(number) {
                    self.pool.end_provisioned(&version.key, alive);
                }
                wanted || alive > 0
            });
        }
    }

    /// The version behind a qualifier of provisioned concurrency: of an alias, the one that it leads to by default.
    async fn provisionable(
        &self,
        name: &str,
        qualifier: &str,
    ) -> Option<(Arc<FunctionState>, Arc<Version>)> {
        let snapshot = self.control.snapshot(name).await.ok().flatten()?;
        let number = snapshot.aliases.get(qualifier).map_or(qualifier, |a| a.version.as_str());
        let target = self.control.target(name, Some(number)).await.ok()?;
        let state = self.state(&target.snapshot);
        let version = self.version(&state, &target).ok()?;
        Some((state, version))
    }

    async fn make_ahead(
        self: &Arc<Self>,
        state: &FunctionState,
        version: &Arc<Version>,
        token: Provisioned,
    ) -> Result<(), ControlError> {
        let function = &version.function;
        let Some(mut share) = self.pool.share(function.memory.bytes()).await else {
            return Err(throttle("ConcurrentInvocationLimitExceeded"));
        };
        let gauge = state.metrics.sandbox(SandboxState::Booting);
        let names = self.log_names(version);
        let (boot, why, mut started) = self.started(version, &names, PROVISIONED, None).await?;
        let (init, took) = started.initialise().await;
        let Started { instance, platform } = started;
        if init != Init::Done {
            let _ = instance.release().await;
            let text = "FUNCTION_ERROR_INIT_FAILURE: the function could not be loaded";
            return Err(ControlError::new(ErrorKind::Service, text));
        }
        self.note_start(function, None, boot, &why);
        share.booted();
        let used = instance.memory_peak();
        state.metrics.cold_start(took);
        let tag = Tag { fresh: Some(took), ..tag(version, gauge, platform, Some(token)) };
        self.pool.park(version.key.clone(), instance, share, used, tag);
        Ok(())
    }

    /// Whether a sandbox that lives, or may be made, needs this tree.
    pub fn uses_code(&self, sha256: &str) -> bool {
        let mut made = lock(&self.made);
        made.retain(|function| function.strong_count() > 0);
        made.iter().filter_map(Weak::upgrade).any(|function| function_uses(&function, sha256))
    }
}

fn receipts_wanted() -> bool {
    tracing::enabled!(target: "kennel::receipt", tracing::Level::DEBUG)
}

/// An event's receipt, as a record of the server's own log.
fn log_receipt<S: Sink>(
    request_id: String,
    function: &Function,
    executed: &Executed,
    instance: &Instance<S>,
    boot: Boot,
    why: &[Why],
) {
    let start = if boot == Boot::Warm { "warm" } else { "cold" };
    let reason = match starts::words(why) {
        words if words.is_empty() => boot.name().to_owned(),
        words => format!("{}: {words}", boot.name()),
    };
    let (life, log_bytes) = (instance.usage(), instance.log.bytes);
    let degraded = instance.degraded().to_vec();
    let start = (start, reason.as_str());
    let receipt = executed.receipt(function, request_id, life, log_bytes, degraded, start);
    let receipt = serde_json::to_string(&receipt).unwrap_or_default();
    tracing::debug!(target: "kennel::receipt", function = function.name, receipt);
}

fn code_tree(code: &CodeRef) -> Tree {
    Tree::Stored(code.sha256.clone())
}

fn function_uses(function: &Function, sha256: &str) -> bool {
    std::iter::once(&function.code)
        .chain(&function.layers)
        .any(|tree| matches!(tree, Tree::Stored(hex) if hex == sha256))
}

fn tag(
    version: &Version,
    gauge: SandboxGauge,
    platform: Arc<PlatformLog>,
    provisioned: Option<Provisioned>,
) -> Tag {
    Tag {
        gauge,
        platform,
        memory_bytes: version.function.memory.bytes(),
        provisioned,
        fresh: None,
        keep: version.function.clone() as Arc<dyn Any + Send + Sync>,
    }
}

/// A version with its code and configuration, for those that wait.
fn who(key: &Key) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

/// Changes with everything that a running sandbox has of its version.
fn generation(record: &VersionRecord) -> u64 {
    let mut hasher = DefaultHasher::new();
    record.code.sha256.hash(&mut hasher);
    record.runtime.hash(&mut hasher);
    record.handler.hash(&mut hasher);
    record.timeout_s.hash(&mut hasher);
    record.memory_mb.hash(&mut hasher);
    record.tmp_mb.hash(&mut hasher);
    record.environment.hash(&mut hasher);
    for layer in &record.layers {
        layer.code.sha256.hash(&mut hasher);
    }
    let logging = &record.logging;
    logging.format.hash(&mut hasher);
    logging.group.hash(&mut hasher);
    logging.application_level.hash(&mut hasher);
    logging.system_level.hash(&mut hasher);
    hasher.finish()
}

fn throttle(reason: &'static str) -> ControlError {
    ControlError::new(ErrorKind::TooManyRequests, "Rate Exceeded.").with("Reason", reason)
}

/// The sandbox could not be made: the caller learns that, the log why.
fn sandbox_failed(function: &Function, error: PoolError) -> ControlError {
    let why = match &error {
        PoolError::Launcher(LauncherError::Refused { chain, .. }) => chain.join(": "),
        other => other.to_string(),
    };
    tracing::error!(function = function.name, why, "a sandbox could not be made");
    ControlError::internal(why)
}

impl<S: Sink + Send + 'static> Run for Arc<Invoker<S>> {
    fn run(&self, request: InvokeRequest) -> RunFuture<'_> {
        Box::pin(self.clone().invoke(request))
    }
}
