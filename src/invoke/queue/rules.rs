//! What becomes of an event after an attempt: finished, tried again, or dropped. Rules alone, without clock or store.
//!
//! Source: AWS Lambda developer guide, "How Lambda handles errors and retries with asynchronous invocation" and
//! "Capturing records of Lambda asynchronous invocations".

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use super::event::{Answer, AsyncEvent};
use crate::control::names::LATEST;
use crate::control::records::Snapshot;
use crate::control::{ControlError, ErrorKind};
use crate::invoke::service::Invoked;

/// AWS's default and most.
pub const DEFAULT_RETRIES: u32 = 2;
/// AWS's default and most: six hours.
pub const DEFAULT_AGE: Duration = Duration::from_secs(21_600);
/// How often a function may come up in a chain of destinations. Source: AWS Lambda developer guide, "Use Lambda
/// recursive loop detection to prevent infinite loops": about 16 times.
const MAX_IN_CHAIN: u32 = 16;
/// The first wait after a throttle; each next one is twice as long.
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);
const MOST_BACK_OFF: Duration = Duration::from_secs(300);

/// What the function's settings say of its asynchronous events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventPolicy {
    /// 0 to 2.
    pub maximum_retry_attempts: u32,
    pub maximum_event_age: Duration,
    pub on_success: Option<String>,
    pub on_failure: Option<String>,
    /// Of the version that ran, or would have.
    pub dead_letter_arn: Option<String>,
    /// Reserved concurrency is 0.
    pub zero_reserved: bool,
    /// `RecursiveLoop` is `Allow`.
    pub loops_allowed: bool,
}

impl Default for EventPolicy {
    fn default() -> Self {
        Self {
            maximum_retry_attempts: DEFAULT_RETRIES,
            maximum_event_age: DEFAULT_AGE,
            on_success: None,
            on_failure: None,
            dead_letter_arn: None,
            zero_reserved: false,
            loops_allowed: false,
        }
    }
}

impl EventPolicy {
    /// Reads it from a function's snapshot. `executed`: the version that ran, where one did; a weighted alias leads to
    /// more than one.
    pub fn of(snapshot: &Snapshot, qualifier: Option<&str>, executed: Option<&str>) -> Self {
        let qualifier = qualifier.unwrap_or(LATEST);
        let alias = snapshot.aliases.get(qualifier);
        let version = executed.or(alias.map(|a| a.version.as_str())).unwrap_or(qualifier);
        let record =
            if version == LATEST { Some(&snapshot.latest) } else { snapshot.versions.get(version) };
        let config = snapshot.invoke_configs.get(qualifier);
        let age = config.and_then(|c| c.maximum_event_age_s).map(u64::from);
        Self {
            maximum_retry_attempts: config
                .and_then(|c| c.maximum_retry_attempts)
                .unwrap_or(DEFAULT_RETRIES),
            maximum_event_age: age.map_or(DEFAULT_AGE, Duration::from_secs),
            on_success: config.and_then(|c| c.on_success.clone()),
            on_failure: config.and_then(|c| c.on_failure.clone()),
            dead_letter_arn: record.and_then(|r| r.dead_letter_arn.clone()),
            zero_reserved: snapshot.function.reserved_concurrency == Some(0),
            loops_allowed: snapshot.function.recursive_loop.as_deref() == Some("Allow"),
        }
    }
}

pub type PolicyFuture<'a> =
    Pin<Box<dyn Future<Output = Result<Option<EventPolicy>, ControlError>> + Send + 'a>>;

/// Where the queue learns what holds for a function now. `None`: there is no such function any more.
pub trait Policies: Send + Sync + 'static {
    fn policy<'a>(
        &'a self,
        function: &'a str,
        qualifier: Option<&'a str>,
        executed: Option<&'a str>,
    ) -> PolicyFuture<'a>;
}

/// Why an event left its queue, in AWS's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Condition {
    Success,
    RetriesExhausted,
    EventAgeExceeded,
    ZeroReservedConcurrency,
    /// Its chain of destinations leads in a circle.
    RecursiveInvocation,
}

impl Condition {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "Success",
            Self::RetriesExhausted => "RetriesExhausted",
            Self::EventAgeExceeded => "EventAgeExceeded",
            Self::ZeroReservedConcurrency => "ZeroReservedConcurrency",
            Self::RecursiveInvocation => "RecursiveInvocation",
        }
    }
}

/// What to do with the event now.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// It leaves its queue, and destinations hear of it.
    Finish(Condition),
    /// It goes back, to be due after this.
    Retry(Duration),
}

/// Whether the event need not be tried at all.
pub fn before(event: &AsyncEvent, policy: &EventPolicy, now_ms: u64) -> Option<Condition> {
    let loops = event.chain.get(&event.function).is_some_and(|times| *times >= MAX_IN_CHAIN);
    if policy.zero_reserved {
        Some(Condition::ZeroReservedConcurrency)
    } else if left(event, policy, now_ms).is_zero() {
        Some(Condition::EventAgeExceeded)
    } else if loops && !policy.loops_allowed {
        Some(Condition::RecursiveInvocation)
    } else {
        None
    }
}

/// What follows from an attempt; notes it in the event.
///
/// `retry_delays`: the waits after the first and the second function error; the last one also for later ones.
pub fn after(
    event: &mut AsyncEvent,
    policy: &EventPolicy,
    outcome: Result<Invoked, ControlError>,
    retry_delays: &[Duration],
    now_ms: u64,
) -> Step {
    let left = left(event, policy, now_ms);
    let error = match outcome {
        Ok(invoked) => {
            event.attempts = event.attempts.saturating_add(1);
            event.throttles = 0;
            let failed = invoked.result.is_err();
            event.last = Some(Answer {
                status: 200,
                executed_version: Some(invoked.executed_version),
                function_error: failed.then(|| "Unhandled".into()),
                payload: invoked.result.unwrap_or_else(|error| error.body),
            });
            if !failed {
                return Step::Finish(Condition::Success);
            }
            return failed_attempt(event, policy, retry_delays, left);
        }
        Err(error) => error,
    };
    match error.kind {
        // The function is there, and what was invoked of it is not: AWS counts that as an attempt.
        ErrorKind::ResourceNotFound => {
            event.attempts = event.attempts.saturating_add(1);
            event.throttles = 0;
            event.last = Some(refused(404));
            return failed_attempt(event, policy, retry_delays, left);
        }
        ErrorKind::TooManyRequests if policy.zero_reserved => {
            return Step::Finish(Condition::ZeroReservedConcurrency);
        }
        ErrorKind::TooManyRequests => event.last = Some(refused(429)),
        _ => {}
    }
    if left.is_zero() {
        return Step::Finish(Condition::EventAgeExceeded);
    }
    event.throttles = event.throttles.saturating_add(1);
    // The last wait ends with the event's age, so that it is tried as long as it may be.
    Step::Retry(back_off(event.throttles).min(left))
}

fn failed_attempt(
    event: &AsyncEvent,
    policy: &EventPolicy,
    retry_delays: &[Duration],
    left: Duration,
) -> Step {
    if event.attempts > policy.maximum_retry_attempts {
        return Step::Finish(Condition::RetriesExhausted);
    }
    let nth = usize::try_from(event.attempts.saturating_sub(1)).unwrap_or(usize::MAX);
    let delay = retry_delays.get(nth).or(retry_delays.last()).copied().unwrap_or_default();
    // As AWS was seen to do: a retry that would come too late is not waited for.
    if delay >= left { Step::Finish(Condition::EventAgeExceeded) } else { Step::Retry(delay) }
}

fn refused(status: u16) -> Answer {
    Answer { status, executed_version: None, function_error: None, payload: bytes::Bytes::new() }
}

/// How long the event may still be tried.
fn left(event: &AsyncEvent, policy: &EventPolicy, now_ms: u64) -> Duration {
    let age = Duration::from_millis(now_ms.saturating_sub(event.accepted_ms));
    policy.maximum_event_age.saturating_sub(age)
}

/// 1 s, 2 s, 4 s … 5 min; `tries` counts from 1.
pub fn back_off(tries: u32) -> Duration {
    let doublings = tries.saturating_sub(1).min(9);
    FIRST_BACK_OFF.saturating_mul(1 << doublings).min(MOST_BACK_OFF)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::control::records::{
        AliasRecord, CodeRef, EventInvokeConfig, FunctionRecord, LoggingConfig, VersionRecord,
    };
    use crate::invoke::FunctionError;

    const DELAYS: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(120)];
    const T: u64 = 1_000_000_000;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn fails() -> Result<Invoked, ControlError> {
        Ok(Invoked {
            executed_version: "3".into(),
            invoked_arn: String::new(),
            result: Err(FunctionError {
                error_type: "E".into(),
                body: Bytes::from_static(b"{}"),
                log_line: None,
            }),
            log_tail: Vec::new(),
        })
    }

    fn refuses(kind: ErrorKind) -> Result<Invoked, ControlError> {
        Err(ControlError::new(kind, "no"))
    }

    fn event(age_s: u64, attempts: u32, throttles: u32) -> AsyncEvent {
        let mut event = AsyncEvent::new("id".into(), "f".into(), None, Bytes::new());
        event.accepted_ms = T - age_s * 1000;
        (event.attempts, event.throttles) = (attempts, throttles);
        event
    }

    #[test]
    fn what_follows_from_an_attempt() {
        use Condition::{EventAgeExceeded, RetriesExhausted, ZeroReservedConcurrency};
        use ErrorKind::{ResourceConflict, ResourceNotFound, Service, TooManyRequests};
        let back = |s| Step::Retry(seconds(s));
        let policy = EventPolicy { maximum_event_age: seconds(200), ..EventPolicy::default() };
        for (what, event, outcome, step, status, attempts, throttles) in [
            ("first error", event(0, 0, 5), fails(), back(60), 200, 1, 0),
            ("second", event(79, 1, 0), fails(), back(120), 200, 2, 0),
            ("second, late", event(80, 1, 0), fails(), Step::Finish(EventAgeExceeded), 200, 2, 0),
            ("third", event(10, 2, 0), fails(), Step::Finish(RetriesExhausted), 200, 3, 0),
            ("throttled", event(0, 1, 0), refuses(TooManyRequests), back(1), 429, 1, 1),
            ("still throttled", event(0, 1, 4), refuses(TooManyRequests), back(16), 429, 1, 5),
            ("for the last time", event(193, 0, 9), refuses(TooManyRequests), back(7), 429, 0, 10),
            (
                "throttled to its end",
                event(200, 0, 9),
                refuses(TooManyRequests),
                Step::Finish(EventAgeExceeded),
                429,
                0,
                9,
            ),
            ("ours", event(0, 0, 1), refuses(Service), back(2), 0, 0, 2),
            ("not ready", event(0, 0, 0), refuses(ResourceConflict), back(1), 0, 0, 1),
            ("version gone", event(0, 0, 0), refuses(ResourceNotFound), back(60), 404, 1, 0),
        ] {
            let mut event = event;
            assert_eq!(after(&mut event, &policy, outcome, &DELAYS, T), step, "{what}");
            assert_eq!(event.last.map_or(0, |last| last.status), status, "{what}");
            assert_eq!((event.attempts, event.throttles), (attempts, throttles), "{what}");
        }
        let zero = EventPolicy { zero_reserved: true, ..policy };
        let step = after(&mut event(0, 0, 0), &zero, refuses(TooManyRequests), &DELAYS, T);
        assert_eq!(step, Step::Finish(ZeroReservedConcurrency), "set meanwhile");
    }

    #[test]
    fn some_events_need_no_attempt() {
        let policy = EventPolicy::default();
        let zero = EventPolicy { zero_reserved: true, ..policy.clone() };
        let allowed = EventPolicy { loops_allowed: true, ..policy.clone() };
        let mut circle = event(0, 0, 0);
        circle.chain.insert("f".into(), MAX_IN_CHAIN);
        for (event, policy, condition) in [
            (event(0, 0, 0), &policy, None),
            (event(21_599, 0, 0), &policy, None),
            (event(21_600, 0, 0), &policy, Some(Condition::EventAgeExceeded)),
            (event(21_600, 0, 0), &zero, Some(Condition::ZeroReservedConcurrency)),
            (circle.clone(), &policy, Some(Condition::RecursiveInvocation)),
            (circle, &allowed, None),
        ] {
            assert_eq!(before(&event, policy, T), condition);
        }
    }

    #[test]
    fn the_policy_is_that_of_the_qualifier_and_of_the_version_that_ran() {
        let version = |number: &str, dead: Option<&str>| VersionRecord {
            version: number.into(),
            code: CodeRef { sha256: String::new(), zip_bytes: 0, unzipped_bytes: 0 },
            runtime: None,
            handler: None,
            role: String::new(),
            description: String::new(),
            timeout_s: 3,
            memory_mb: 128,
            environment: None,
            tmp_mb: 512,
            layers: Vec::new(),
            dead_letter_arn: dead.map(Into::into),
            vpc: None,
            tracing_mode: String::new(),
            logging: LoggingConfig {
                format: "Text".into(),
                application_level: None,
                system_level: None,
                group: String::new(),
            },
            architectures: Vec::new(),
            snap_start: String::new(),
            kms_key_arn: None,
            as_given: serde_json::Map::new(),
            revision_id: String::new(),
            last_modified: String::new(),
        };
        let config = |retries, age| EventInvokeConfig {
            maximum_retry_attempts: retries,
            maximum_event_age_s: age,
            on_success: Some("good".into()),
            on_failure: Some("bad".into()),
            last_modified: 0.0,
        };
        let alias = AliasRecord {
            name: "live".into(),
            version: "1".into(),
            description: String::new(),
            weights: [("2".to_owned(), 0.5)].into(),
            revision_id: String::new(),
        };
        let latest = version(LATEST, Some("latest"));
        let mut snapshot = Snapshot {
            function: FunctionRecord {
                published: None,
                id: String::new(),
                name: "f".into(),
                next_version: 3,
                latest: latest.clone(),
                reserved_concurrency: None,
                code_signing_config_arn: None,
                recursive_loop: None,
                tags: [].into(),
            },
            latest: Arc::new(latest),
            versions: [("1", Some("one")), ("2", Some("two")), ("3", None)]
                .map(|(n, dead)| (n.to_owned(), Arc::new(version(n, dead))))
                .into(),
            aliases: [("live".to_owned(), alias)].into(),
            policies: [].into(),
            invoke_configs: [(LATEST, config(Some(0), Some(60))), ("live", config(None, None))]
                .map(|(qualifier, config)| (qualifier.to_owned(), config))
                .into(),
            provisioned: [].into(),
        };
        for (qualifier, executed, dead, retries, age, told) in [
            (None, None, Some("latest"), 0, 60, true),
            (Some(LATEST), Some(LATEST), Some("latest"), 0, 60, true),
            (Some("1"), None, Some("one"), 2, 21_600, false),
            (Some("3"), Some("3"), None, 2, 21_600, false),
            (Some("live"), None, Some("one"), 2, 21_600, true),
            (Some("live"), Some("2"), Some("two"), 2, 21_600, true),
            (Some("gone"), None, None, 2, 21_600, false),
        ] {
            let policy = EventPolicy::of(&snapshot, qualifier, executed);
            let want = EventPolicy {
                maximum_retry_attempts: retries,
                maximum_event_age: seconds(age),
                on_success: told.then(|| "good".into()),
                on_failure: told.then(|| "bad".into()),
                dead_letter_arn: dead.map(Into::into),
                zero_reserved: false,
                loops_allowed: false,
            };
            assert_eq!(policy, want, "{qualifier:?} {executed:?}");
        }
        snapshot.function.reserved_concurrency = Some(0);
        snapshot.function.recursive_loop = Some("Allow".into());
        let policy = EventPolicy::of(&snapshot, None, None);
        assert!(policy.zero_reserved && policy.loops_allowed);
    }

    #[test]
    fn waits_double_up_to_five_minutes() {
        let waits: Vec<u64> = (0..12).map(|tries| back_off(tries).as_secs()).collect();
        assert_eq!(waits, [1, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(back_off(u32::MAX), MOST_BACK_OFF);
    }
}
