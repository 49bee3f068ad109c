//! What `/_kennel/metrics` tells, in OpenMetrics' text format, which Prometheus reads.
//!
//! The hot path holds an [`FunctionMetrics`] of its function and adds to atomics; nothing is looked up or locked there.
//! A function has series from its first use until it is deleted; beyond [`MAX_FUNCTIONS`] of them, the others share the
//! function `_other`.

#![forbid(unsafe_code)]

mod process;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use process::Process;

/// `Content-Type` of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Functions with series of their own.
pub const MAX_FUNCTIONS: usize = 2000;
const OTHER: &str = "_other";

/// Upper bounds in seconds: from a warm call's time to Lambda's longest.
const DURATIONS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0, 900.0];
/// Upper bounds in seconds: from a pre-booted sandbox's time to Lambda's longest init.
const INITS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// A histogram of seconds that is added to without a lock.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    bounds: &'static [f64; N],
    counts: [AtomicU64; N],
    beyond: AtomicU64,
    sum_us: AtomicU64,
}

impl<const N: usize> Histogram<N> {
    fn new(bounds: &'static [f64; N]) -> Self {
        Self {
            bounds,
            counts: [const { AtomicU64::new(0) }; N],
            beyond: AtomicU64::new(0),
            sum_us: AtomicU64::new(0),
        }
    }

    pub fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = self.bounds.partition_point(|bound| *bound < seconds);
        self.counts.get(bucket).unwrap_or(&self.beyond).fetch_add(1, Relaxed);
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.sum_us.fetch_add(us, Relaxed);
    }

    /// Sum of seconds, count, and each bucket's own count.
    fn read(&self) -> (f64, u64, Vec<(f64, u64)>) {
        let mut buckets: Vec<_> =
            self.bounds.iter().zip(&self.counts).map(|(b, c)| (*b, c.load(Relaxed))).collect();
        buckets.push((f64::INFINITY, self.beyond.load(Relaxed)));
        let count = buckets.iter().map(|(_, count)| count).sum();
        (Duration::from_micros(self.sum_us.load(Relaxed)).as_secs_f64(), count, buckets)
    }
}

/// States of a sandbox that are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxState {
    Booting,
    Idle,
    Busy,
}

const STATES: [(SandboxState, &str); 3] = [
    (SandboxState::Booting, "booting"),
    (SandboxState::Idle, "idle"),
    (SandboxState::Busy, "busy"),
];

/// One function's numbers, since the server started.
#[derive(Debug)]
pub struct FunctionMetrics {
    /// Events that reached the function.
    pub invocations: AtomicU64,
    /// Invocations that ended with a function error, a dead runtime or a timeout.
    pub errors: AtomicU64,
    /// Requests that were refused for want of concurrency.
    pub throttles: AtomicU64,
    /// Sandboxes that were started for an event or ahead of one.
    pub cold_starts: AtomicU64,
    pub async_received: AtomicU64,
    /// Asynchronous events that the function took.
    pub async_delivered: AtomicU64,
    /// Asynchronous events that were given up.
    pub async_failed: AtomicU64,
    pub duration: Histogram<14>,
    pub init_duration: Histogram<11>,
    sandboxes: [AtomicI64; 3],
    queue_depth: AtomicU64,
    /// When the oldest event was sent, in milliseconds since the epoch; 0 where there is none.
    queue_oldest_ms: AtomicU64,
}

impl Default for FunctionMetrics {
    fn default() -> Self {
        Self {
            invocations: AtomicU64::default(),
            errors: AtomicU64::default(),
            throttles: AtomicU64::default(),
            cold_starts: AtomicU64::default(),
            async_received: AtomicU64::default(),
            async_delivered: AtomicU64::default(),
            async_failed: AtomicU64::default(),
            duration: Histogram::new(&DURATIONS),
            init_duration: Histogram::new(&INITS),
            sandboxes: Default::default(),
            queue_depth: AtomicU64::default(),
            queue_oldest_ms: AtomicU64::default(),
        }
    }
}

impl FunctionMetrics {
    /// Counts an invocation that ran.
    pub fn invoked(&self, duration: Duration, failed: bool) {
        self.invocations.fetch_add(1, Relaxed);
        if failed {
            self.errors.fetch_add(1, Relaxed);
        }
        self.duration.observe(duration);
    }

    /// Counts a sandbox's start and how long its init took.
    pub fn cold_start(&self, init: Duration) {
        self.cold_starts.fetch_add(1, Relaxed);
        self.init_duration.observe(init);
    }

    /// Counts a sandbox among those in `state` while the result lives.
    pub fn sandbox(self: &Arc<Self>, state: SandboxState) -> SandboxGauge {
        self.sandboxes[state as usize].fetch_add(1, Relaxed);
        SandboxGauge { of: self.clone(), state }
    }

    /// What the function's queue holds now.
    pub fn set_queue(&self, depth: u64, oldest_sent_ms: Option<u64>) {
        self.queue_depth.store(depth, Relaxed);
        self.queue_oldest_ms.store(oldest_sent_ms.unwrap_or(0), Relaxed);
    }
}

/// A sandbox, as far as it is counted: in one state at a time, in none once dropped.
#[derive(Debug)]
pub struct SandboxGauge {
    of: Arc<FunctionMetrics>,
    state: SandboxState,
}

impl SandboxGauge {
    pub fn set(&mut self, state: SandboxState) {
        self.of.sandboxes[self.state as usize].fetch_sub(1, Relaxed);
        self.of.sandboxes[state as usize].fetch_add(1, Relaxed);
        self.state = state;
    }
}

impl Drop for SandboxGauge {
    fn drop(&mut self) {
        self.of.sandboxes[self.state as usize].fetch_sub(1, Relaxed);
    }
}

/// All metrics of the server.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    state: Arc<State>,
}

/// Sandboxes of one kind that wait for a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingKind {
    pub runtime: String,
    pub boot: &'static str,
    pub count: usize,
    pub bytes: u64,
}

/// Asked when the metrics are read.
struct Waiting(Box<dyn Fn() -> Vec<WaitingKind> + Send>);

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waiting")
    }
}

#[derive(Debug, Default)]
struct State {
    functions: RwLock<BTreeMap<String, Arc<FunctionMetrics>>>,
    /// By operation and status.
    requests: RwLock<BTreeMap<(String, u16), Arc<AtomicU64>>>,
    /// Events that found an idle sandbox.
    warm: AtomicU64,
    /// The others, by how their sandbox came to be and why not sooner.
    starts: Mutex<BTreeMap<(&'static str, String), u64>>,
    waiting: Mutex<Option<Waiting>>,
    logs: Mutex<Option<Arc<crate::logs::Groups>>>,
    process: Mutex<Process>,
    started_s: f64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Opens this process's own records: call it before files of the host are out of reach.
    pub fn new() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let state = Arc::new(State {
            process: Mutex::new(Process::open()),
            started_s: since.as_secs_f64(),
            ..State::default()
        });
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Everything(state.clone())));
        Self { registry, state }
    }

    /// A function's numbers. Keep them with the function: this takes a lock.
    pub fn function(&self, name: &str) -> Arc<FunctionMetrics> {
        let functions = self.state.functions.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = functions.get(name) {
            return found.clone();
        }
        drop(functions);
        let mut functions = self.state.functions.write().unwrap_or_else(PoisonError::into_inner);
        let name = if functions.len() < MAX_FUNCTIONS { name } else { OTHER };
        functions.entry(name.to_owned()).or_default().clone()
    }

    /// Forgets a deleted function's series.
    pub fn forget(&self, name: &str) {
        self.state.functions.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Counts an answered HTTP request. `operation` is one of the service model's names, or a word of the caller's for
    /// all that is none: never text from a client.
    pub fn request(&self, operation: &str, status: u16) {
        let requests = self.state.requests.read().unwrap_or_else(PoisonError::into_inner);
        let key = (operation.to_owned(), status);
        if let Some(count) = requests.get(&key) {
            count.fetch_add(1, Relaxed);
            return;
        }
        drop(requests);
        let mut requests = self.state.requests.write().unwrap_or_else(PoisonError::into_inner);
        requests.entry(key).or_default().fetch_add(1, Relaxed);
    }

    /// Counts an event that found an idle sandbox.
    pub fn warm_start(&self) {
        self.state.warm.fetch_add(1, Relaxed);
    }

    /// Counts a sandbox that came to be for an event, or for provisioned concurrency. `reason`: of a bounded set, never
    /// text from a client.
    pub fn start(&self, boot: &'static str, reason: &str) {
        let mut starts = self.state.starts.lock().unwrap_or_else(PoisonError::into_inner);
        *starts.entry((boot, reason.to_owned())).or_default() += 1;
    }

    /// Tells of the sandboxes that wait, too.
    pub fn watch_waiting(&self, waiting: impl Fn() -> Vec<WaitingKind> + Send + 'static) {
        let waiting = Some(Waiting(Box::new(waiting)));
        *self.state.waiting.lock().unwrap_or_else(PoisonError::into_inner) = waiting;
    }

    /// Tells of the logs too.
    pub fn watch_logs(&self, groups: Arc<crate::logs::Groups>) {
        *self.state.logs.lock().unwrap_or_else(PoisonError::into_inner) = Some(groups);
    }

    /// The whole exposition.
    pub fn render(&self) -> String {
        let mut out = String::new();
        if text::encode(&mut out, &self.registry).is_err() {
            tracing::error!("the metrics cannot be written");
        }
        out
    }
}

#[derive(Debug)]
struct Everything(Arc<State>);

type Functions = [(String, Arc<FunctionMetrics>)];

impl Collector for Everything {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let state = &self.0;
        let functions: Vec<_> = {
            let all = state.functions.read().unwrap_or_else(PoisonError::into_inner);
            all.iter().map(|(name, of)| (name.clone(), of.clone())).collect()
        };
        per_function(&mut encoder, &functions)?;
        state.encode_starts(&mut encoder)?;
        let mut family = encoder.encode_descriptor(
            "kennel_http_requests",
            "Answered requests of the API by operation and status",
            None,
            MetricType::Counter,
        )?;
        for ((operation, status), count) in
            state.requests.read().unwrap_or_else(PoisonError::into_inner).iter()
        {
            let labels = [("operation", operation.as_str()), ("status", &status.to_string())];
            let count = count.load(Relaxed);
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        if let Some(groups) = &*state.logs.lock().unwrap_or_else(PoisonError::into_inner) {
            counter(
                &mut encoder,
                "kennel_log_append_failures",
                "Batches of log events that the store refused",
                groups.failures(),
            )?;
            gauge(
                &mut encoder,
                "kennel_log_stored",
                "Log events that are kept, about",
                Some(&Unit::Bytes),
                groups.stored_bytes(),
            )?;
        }
        let process = state.process.lock().unwrap_or_else(PoisonError::into_inner).read();
        if let Some(bytes) = process.0 {
            let help = "Resident memory of the server";
            gauge(&mut encoder, "process_resident_memory", help, Some(&Unit::Bytes), bytes)?;
        }
        if let Some(count) = process.1 {
            gauge(
                &mut encoder,
                "process_open_fds",
                "Open file descriptors of the server",
                None,
                count,
            )?;
        }
        gauge(
            &mut encoder,
            "process_start_time",
            "Start of the server since the epoch",
            Some(&Unit::Seconds),
            state.started_s,
        )
    }
}

impl State {
    fn encode_starts(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Sandboxes that events got, by how they came to be and why not sooner";
        let mut family =
            encoder.encode_descriptor("kennel_starts", help, None, MetricType::Counter)?;
        let warm = self.warm.load(Relaxed);
        let labels = [("boot", "warm"), ("reason", "")];
        family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&warm, None)?;
        let starts = self.starts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for ((boot, reason), count) in &starts {
            let labels = [("boot", *boot), ("reason", reason.as_str())];
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(count, None)?;
        }
        let kinds = match &*self.waiting.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(Waiting(ask)) => ask(),
            None => return Ok(()),
        };
        // Kinds of other memory sizes are one series.
        let mut waiting: BTreeMap<_, (u64, u64)> = BTreeMap::new();
        for kind in kinds {
            let (count, bytes) = waiting.entry((kind.runtime, kind.boot)).or_default();
            *count += u64::try_from(kind.count).unwrap_or(u64::MAX);
            *bytes += kind.bytes;
        }
        let help = "Sandboxes that wait for a function";
        let mut family =
            encoder.encode_descriptor("kennel_waiting_sandboxes", help, None, MetricType::Gauge)?;
        for ((runtime, boot), (count, _)) in &waiting {
            let labels = [("runtime", runtime.as_str()), ("boot", boot)];
            family.encode_family(&labels)?.encode_gauge(count)?;
        }
        let mut family = encoder.encode_descriptor(
            "kennel_waiting_memory",
            "Most memory that sandboxes took which wait for a function",
            Some(&Unit::Bytes),
            MetricType::Gauge,
        )?;
        for ((runtime, boot), (_, bytes)) in &waiting {
            let labels = [("runtime", runtime.as_str()), ("boot", boot)];
            family.encode_family(&labels)?.encode_gauge(bytes)?;
        }
        Ok(())
    }
}

fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    encoder
        .encode_descriptor(name, help, None, MetricType::Counter)?
        .encode_counter::<NoLabelSet, _, u64>(&value, None)
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    value: impl prometheus_client::encoding::EncodeGaugeValue,
) -> fmt::Result {
    encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?.encode_gauge(&value)
}

/// Name without `_total`, help, and where the number is.
type FunctionCounter = (&'static str, &'static str, fn(&FunctionMetrics) -> &AtomicU64);

const COUNTERS: [FunctionCounter; 7] = [
    ("kennel_invocations", "Events that reached a function", |f| &f.invocations),
    (
        "kennel_invocation_errors",
        "Invocations that ended with a function error, a dead runtime or a timeout",
        |f| &f.errors,
    ),
    ("kennel_throttles", "Requests refused for want of concurrency", |f| &f.throttles),
    ("kennel_cold_starts", "Sandboxes started", |f| &f.cold_starts),
    ("kennel_async_events_received", "Asynchronous events accepted", |f| &f.async_received),
    ("kennel_async_events_delivered", "Asynchronous events that a function took", |f| {
        &f.async_delivered
    }),
    ("kennel_async_events_failed", "Asynchronous events given up", |f| &f.async_failed),
];

fn per_function(encoder: &mut DescriptorEncoder<'_>, functions: &Functions) -> fmt::Result {
    for (name, help, value) in COUNTERS {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (function, of) in functions {
            let value = value(of).load(Relaxed);
            let labels = [("function", function.as_str())];
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
    }
    let help = "Time from the event's way into the sandbox to its answer";
    histogram(encoder, "kennel_invocation_duration", help, functions, |f| f.duration.read())?;
    let help = "Time from a sandbox's launch until its function was loaded";
    histogram(encoder, "kennel_init_duration", help, functions, |f| f.init_duration.read())?;
    let mut family = encoder.encode_descriptor(
        "kennel_sandboxes",
        "Sandboxes by state",
        None,
        MetricType::Gauge,
    )?;
    for (function, of) in functions {
        for (state, name) in STATES {
            let labels = [("function", function.as_str()), ("state", name)];
            let count = of.sandboxes[state as usize].load(Relaxed);
            family.encode_family(&labels)?.encode_gauge(&count)?;
        }
    }
    let mut family = encoder.encode_descriptor(
        "kennel_async_queue_depth",
        "Asynchronous events that wait or run",
        None,
        MetricType::Gauge,
    )?;
    for (function, of) in functions {
        let depth = of.queue_depth.load(Relaxed);
        family.encode_family(&[("function", function.as_str())])?.encode_gauge(&depth)?;
    }
    let mut family = encoder.encode_descriptor(
        "kennel_async_queue_oldest_age",
        "Age of the oldest asynchronous event",
        Some(&Unit::Seconds),
        MetricType::Gauge,
    )?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    for (function, of) in functions {
        let age = match of.queue_oldest_ms.load(Relaxed) {
            0 => Duration::ZERO,
            sent => now.saturating_sub(Duration::from_millis(sent)),
        };
        let labels = [("function", function.as_str())];
        family.encode_family(&labels)?.encode_gauge(&age.as_secs_f64())?;
    }
    Ok(())
}

fn histogram(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    functions: &Functions,
    read: impl Fn(&FunctionMetrics) -> (f64, u64, Vec<(f64, u64)>),
) -> fmt::Result {
    let kind = MetricType::Histogram;
    let mut family = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), kind)?;
    for (function, of) in functions {
        let (sum, count, buckets) = read(of);
        let labels = [("function", function.as_str())];
        family
            .encode_family(&labels)?
            .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of the series that begins so.
    fn value(text: &str, series: &str) -> Option<f64> {
        let line = text.lines().find(|line| line.starts_with(series))?;
        line[series.len()..].trim().parse().ok()
    }

    #[test]
    fn each_number_is_told() {
        let metrics = Metrics::new();
        let f = metrics.function("f");
        f.invoked(Duration::from_millis(3), false);
        f.invoked(Duration::from_secs(1000), true);
        f.cold_start(Duration::from_millis(40));
        f.throttles.fetch_add(3, Relaxed);
        f.async_received.fetch_add(5, Relaxed);
        let mut idle = f.sandbox(SandboxState::Booting);
        let _busy = f.sandbox(SandboxState::Busy);
        idle.set(SandboxState::Idle);
        let sent = SystemTime::now() - Duration::from_secs(60);
        f.set_queue(2, Some(crate::pool::unix_ms(sent)));
        metrics.warm_start();
        metrics.start("full", "PYTHON*");
        metrics.start("preboot", "");
        metrics.start("preboot", "");
        metrics.watch_waiting(|| {
            let kind = |count, bytes| WaitingKind {
                runtime: "nodejs20.x".into(),
                boot: "preboot",
                count,
                bytes,
            };
            vec![kind(2, 10), kind(1, 5)]
        });
        metrics.request("Invoke", 200);
        metrics.request("Invoke", 200);
        metrics.request("Invoke", 429);
        let text = metrics.render();
        for (series, expected) in [
            ("kennel_invocations_total{function=\"f\"}", 2.0),
            ("kennel_invocation_errors_total{function=\"f\"}", 1.0),
            ("kennel_throttles_total{function=\"f\"}", 3.0),
            ("kennel_cold_starts_total{function=\"f\"}", 1.0),
            ("kennel_async_events_received_total{function=\"f\"}", 5.0),
            ("kennel_async_events_failed_total{function=\"f\"}", 0.0),
            ("kennel_invocation_duration_seconds_count{function=\"f\"}", 2.0),
            ("kennel_invocation_duration_seconds_sum{function=\"f\"}", 1000.003),
            ("kennel_invocation_duration_seconds_bucket{le=\"0.0025\",function=\"f\"}", 0.0),
            ("kennel_invocation_duration_seconds_bucket{le=\"0.005\",function=\"f\"}", 1.0),
            ("kennel_invocation_duration_seconds_bucket{le=\"900.0\",function=\"f\"}", 1.0),
            ("kennel_invocation_duration_seconds_bucket{le=\"+Inf\",function=\"f\"}", 2.0),
            ("kennel_init_duration_seconds_bucket{le=\"0.05\",function=\"f\"}", 1.0),
            ("kennel_sandboxes{function=\"f\",state=\"booting\"}", 0.0),
            ("kennel_sandboxes{function=\"f\",state=\"idle\"}", 1.0),
            ("kennel_sandboxes{function=\"f\",state=\"busy\"}", 1.0),
            ("kennel_async_queue_depth{function=\"f\"}", 2.0),
            ("kennel_starts_total{boot=\"warm\",reason=\"\"}", 1.0),
            ("kennel_starts_total{boot=\"full\",reason=\"PYTHON*\"}", 1.0),
            ("kennel_starts_total{boot=\"preboot\",reason=\"\"}", 2.0),
            ("kennel_waiting_sandboxes{runtime=\"nodejs20.x\",boot=\"preboot\"}", 3.0),
            ("kennel_waiting_memory_bytes{runtime=\"nodejs20.x\",boot=\"preboot\"}", 15.0),
            ("kennel_http_requests_total{operation=\"Invoke\",status=\"200\"}", 2.0),
            ("kennel_http_requests_total{operation=\"Invoke\",status=\"429\"}", 1.0),
        ] {
            assert_eq!(value(&text, series), Some(expected), "{series} in\n{text}");
        }
        assert!(
            value(&text, "kennel_async_queue_oldest_age_seconds{function=\"f\"}").unwrap() >= 60.0
        );
        assert!(value(&text, "process_resident_memory_bytes").unwrap() > 1e6);
        assert!(value(&text, "process_open_fds").unwrap() >= 3.0);
        let again = metrics.render();
        assert!(value(&again, "process_open_fds").unwrap() >= 3.0, "read anew each time");
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn a_deleted_function_has_no_series() {
        let metrics = Metrics::new();
        let held = metrics.function("f");
        let sandbox = held.sandbox(SandboxState::Busy);
        metrics.forget("f");
        drop(sandbox);
        held.invoked(Duration::ZERO, false);
        assert!(!metrics.render().contains("function=\"f\""));
        assert_eq!(metrics.function("f").invocations.load(Relaxed), 0, "a later one begins anew");
    }

    #[test]
    fn there_is_a_bound_on_series() {
        let metrics = Metrics::new();
        for n in 0..MAX_FUNCTIONS + 10 {
            metrics.function(&format!("f{n}")).invoked(Duration::ZERO, false);
        }
        let text = metrics.render();
        assert_eq!(value(&text, "kennel_invocations_total{function=\"_other\"}"), Some(10.0));
        assert_eq!(text.matches("kennel_invocations_total{").count(), MAX_FUNCTIONS + 1);
    }

    #[test]
    fn names_have_their_unit_and_help() {
        let metrics = Metrics::new();
        metrics.function("f");
        let text = metrics.render();
        for line in text.lines().filter(|line| line.starts_with("# TYPE ")) {
            let name = line.split(' ').nth(2).unwrap();
            assert!(text.contains(&format!("# HELP {name} ")), "{name} has no help");
            assert!(name.starts_with("kennel_") || name.starts_with("process_"), "{name}");
        }
    }
}
