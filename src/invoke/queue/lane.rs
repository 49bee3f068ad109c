//! The work on one queue: lease, run, end. See [`super`].

use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::event::{self, AsyncEvent};
use super::rules::{self, Condition, EventPolicy, Step};
use super::{ASYNC, DELIVER, Happened, Shared, back_off, now_ms};
use crate::control::ErrorKind;
use crate::invoke::destinations::{Delivery, wait_after};
use crate::invoke::service::InvokeRequest;
use crate::store::{Batch, Lease, Message, StoreError};

/// In flight at first; grows by one with each that goes well, and halves with each that is throttled.
const FIRST_IN_FLIGHT: usize = 10;
/// Messages in flight to one destination.
const DELIVERIES: usize = 8;
/// A timer is no longer than this, so that a wall clock that is set back costs no more.
const LONGEST_SLEEP: Duration = Duration::from_secs(300);
/// And no shorter, so that a message that is due and yet not to be had keeps no core busy.
const SHORTEST_SLEEP: Duration = Duration::from_millis(1);

/// How a message went, as far as the next ones are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    Well,
    /// Throttled, or out of reach: fewer at a time.
    Slower,
}

/// A place among what is in flight. The first one of a queue takes none of the common ones.
type Place = Option<OwnedSemaphorePermit>;

/// What is in flight, and until when it is held.
struct InFlight {
    shared: Arc<Shared>,
    key: (String, u64),
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.shared.held().remove(&self.key);
    }
}

/// Works `queue` until it is empty. Returns how many calls it had heard by then.
pub(super) async fn work(
    shared: Arc<Shared>,
    queue: String,
    notify: Arc<Notify>,
    calls: Arc<AtomicU64>,
) -> u64 {
    let most = if queue.starts_with(ASYNC) {
        shared.settings.in_flight_per_function.max(1)
    } else {
        DELIVERIES
    };
    let mut bound = FIRST_IN_FLIGHT.min(most);
    let mut workers: JoinSet<Pace> = JoinSet::new();
    let mut spare: Place = None;
    let mut stopping = shared.stopping.subscribe();
    let mut troubles = 0;
    let third = (shared.settings.lease / 3).max(Duration::from_millis(1));
    let mut keep = interval(third);
    keep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let heard = calls.load(Ordering::Acquire);
        let stop = *stopping.borrow_and_update();
        let free = bound.saturating_sub(workers.len());
        let mut places: Vec<Place> = Vec::new();
        if !stop && free > 0 {
            if workers.is_empty() {
                places.push(None);
            }
            places.extend(spare.take().map(Some));
            let more = std::iter::from_fn(|| shared.room.clone().try_acquire_owned().ok());
            let lacking = free.saturating_sub(places.len());
            places.extend(more.take(lacking).map(Some));
        }
        let crowded = !stop && places.len() < free;
        let mut due = None;
        if !places.is_empty() {
            match fill(&shared, &queue, places, &mut workers).await {
                Ok(Filled::Wholly) => {
                    troubles = 0;
                    continue;
                }
                Ok(Filled::Partly { depth: 0, .. }) if workers.is_empty() => return heard,
                Ok(Filled::Partly { due: next, .. }) => {
                    troubles = 0;
                    due = next;
                }
                Err(error) => {
                    troubles += 1;
                    tracing::error!(queue, error = %error, "cannot take messages");
                    due = Some(back_off(troubles));
                }
            }
        }
        if stop && workers.is_empty() {
            return heard;
        }
        let timer = due.map(|wait| wait.clamp(SHORTEST_SLEEP, LONGEST_SLEEP));
        tokio::select! {
            () = notify.notified() => {}
            Some(done) = workers.join_next(), if !workers.is_empty() => {
                let others = std::iter::from_fn(|| workers.try_join_next()).collect::<Vec<_>>();
                for done in std::iter::once(done).chain(others) {
                    match done {
                        Ok(Pace::Well) => bound = (bound + 1).min(most),
                        Ok(Pace::Slower) => bound = (bound / 2).max(1),
                        // Its lease runs out, and the message comes back.
                        Err(error) => tracing::error!(queue, error = %error, "an event broke off"),
                    }
                }
            }
            place = shared.room.clone().acquire_owned(), if crowded && spare.is_none() => {
                spare = place.ok();
            }
            _ = keep.tick(), if !workers.is_empty() => extend(&shared, &queue).await,
            () = tokio::time::sleep(timer.unwrap_or_default()), if timer.is_some() => {}
            changed = stopping.changed(), if !stop => {
                if changed.is_err() {
                    return heard;
                }
            }
        }
    }
}

enum Filled {
    Wholly,
    Partly { depth: u64, due: Option<Duration> },
}

/// Starts as many as there are places for.
async fn fill(
    shared: &Arc<Shared>,
    queue: &str,
    places: Vec<Place>,
    workers: &mut JoinSet<Pace>,
) -> Result<Filled, StoreError> {
    let wanted = places.len();
    let messages = shared.store.lease(queue, wanted, shared.settings.lease).await?;
    let got = messages.len();
    for (message, place) in messages.into_iter().zip(places) {
        let key = (message.queue.clone(), message.id);
        match shared.held().entry(key.clone()) {
            // Its lease ran out while it is still running here, as after a long pause of the machine: one run is
            // enough.
            Entry::Occupied(mut held) => {
                held.insert(message.lease());
                continue;
            }
            Entry::Vacant(free) => free.insert(message.lease()),
        };
        let in_flight = InFlight { shared: shared.clone(), key };
        workers.spawn(async move {
            let _place = place;
            if message.queue.starts_with(DELIVER) {
                deliver(&in_flight.shared, &message).await
            } else {
                attempt(&in_flight.shared, &message).await
            }
        });
    }
    if got == wanted {
        return Ok(Filled::Wholly);
    }
    let stats = shared.store.queue_stats(queue).await?;
    let due = stats.next_due_ms.map(|due| Duration::from_millis(due.saturating_sub(now_ms())));
    Ok(Filled::Partly { depth: stats.depth, due })
}

/// Keeps what is in flight.
async fn extend(shared: &Shared, queue: &str) {
    let leases = shared.leases(|lease| lease.queue == queue);
    let hold = shared.settings.lease;
    if let Err(StoreError::LeaseLost { .. }) = shared.store.extend(leases.clone(), hold).await {
        // One has ended meanwhile, most often; the others are still to be kept.
        for lease in leases {
            if let Err(error) = shared.store.extend(vec![lease], hold).await {
                tracing::debug!(queue, error = %error, "cannot keep a message");
            }
        }
    }
}

/// One attempt at an event.
async fn attempt(shared: &Shared, message: &Message) -> Pace {
    let mut event = match AsyncEvent::decode(&message.body) {
        Ok(event) => event,
        Err(error) => {
            bury(shared, message, message.queue.trim_start_matches(ASYNC), &error).await;
            return Pace::Well;
        }
    };
    let qualifier = event.qualifier.clone();
    let (function, request_id) = (event.function.clone(), event.request_id.clone());
    let mut policy = match shared.policies.policy(&function, qualifier.as_deref(), None).await {
        Ok(Some(policy)) => policy,
        Ok(None) => {
            gone(shared, message, &event).await;
            return Pace::Well;
        }
        Err(error) => {
            tracing::error!(function, request_id, error = %error, "cannot read the function");
            shared.observe.observe(&function, Happened::SystemError);
            let step = rules::after(&mut event, &EventPolicy::default(), Err(error), &[], now_ms());
            end(shared, message, &event, &EventPolicy::default(), step).await;
            return Pace::Slower;
        }
    };
    if let Some(condition) = rules::before(&event, &policy, now_ms()) {
        end(shared, message, &event, &policy, Step::Finish(condition)).await;
        return Pace::Well;
    }
    let request = InvokeRequest {
        function: function.clone(),
        qualifier: qualifier.clone(),
        request_id: request_id.clone(),
        payload: event.payload.clone(),
        client_context: event.client_context.clone(),
        trace_id: event.trace_id.clone(),
        stream: None,
        durable_log: true,
    };
    let outcome = shared.run.run(request).await;
    // Fresh: it may have run for long, and which version ran is known only now.
    let executed = outcome.as_ref().ok().map(|invoked| invoked.executed_version.as_str());
    match shared.policies.policy(&function, qualifier.as_deref(), executed).await {
        Ok(Some(fresh)) => policy = fresh,
        Ok(None) => {
            gone(shared, message, &event).await;
            return Pace::Well;
        }
        Err(error) => {
            tracing::error!(function, error = %error, "cannot read the function again");
        }
    }
    let pace = match outcome.as_ref().map_err(|error| (error.kind, error)) {
        Ok(_) | Err((ErrorKind::ResourceNotFound, _)) => Pace::Well,
        Err((ErrorKind::TooManyRequests, _)) => {
            shared.observe.observe(&function, Happened::Throttled);
            Pace::Slower
        }
        Err((_, error)) => {
            tracing::warn!(function, request_id, error = chain(error), "an event could not be run");
            shared.observe.observe(&function, Happened::SystemError);
            Pace::Slower
        }
    };
    let answered = outcome.is_ok();
    let delays = &shared.settings.retry_delays;
    let step = rules::after(&mut event, &policy, outcome, delays, now_ms());
    if answered && matches!(step, Step::Retry(_)) {
        shared.observe.observe(&function, Happened::Retried);
    }
    end(shared, message, &event, &policy, step).await;
    pace
}

/// The event's durable step.
async fn end(
    shared: &Shared,
    message: &Message,
    event: &AsyncEvent,
    policy: &EventPolicy,
    step: Step,
) {
    let function = event.function.as_str();
    let condition = match step {
        Step::Retry(delay) => {
            let body = match event.encode() {
                Ok(body) => body,
                Err(error) => return bury(shared, message, function, &error).await,
            };
            let retry = |lease| vec![(lease, delay, Some(body.clone()))];
            settle(shared, message, |lease| Batch { retry: retry(lease), ..Batch::default() })
                .await;
            return;
        }
        Step::Finish(condition) => condition,
    };
    let sends = match shared.destinations.sends(event, condition, policy, SystemTime::now()) {
        Ok(sends) => sends,
        Err(error) => return bury(shared, message, function, &error).await,
    };
    let send = || sends.iter().map(|(queue, body)| (queue.clone(), body.clone(), Duration::ZERO));
    let batch =
        |lease| Batch { acknowledge: vec![lease], send: send().collect(), ..Batch::default() };
    if settle(shared, message, batch).await {
        if condition != Condition::Success {
            tracing::info!(
                function,
                request_id = event.request_id,
                condition = condition.as_str(),
                attempts = event.attempts,
                "an event was given up"
            );
        }
        shared.observe.observe(function, Happened::Finished(condition));
        for (queue, _) in sends {
            if let Some(next) = queue.strip_prefix(ASYNC) {
                shared.observe.observe(next, Happened::Accepted);
            }
            shared.wake(queue);
        }
    }
}

/// The function was deleted, and its events go with it.
async fn gone(shared: &Shared, message: &Message, event: &AsyncEvent) {
    let batch = |lease| Batch { acknowledge: vec![lease], ..Batch::default() };
    if settle(shared, message, batch).await {
        let (function, request_id) = (&event.function, &event.request_id);
        tracing::warn!(function, request_id, "an event was dropped, for its function is gone");
        shared.observe.observe(function, Happened::Gone);
    }
}

/// One try to send a record or dead letter out.
async fn deliver(shared: &Shared, message: &Message) -> Pace {
    let (mut delivery, body) = match event::split::<Delivery>(&message.body) {
        Ok(parts) => parts,
        Err(error) => {
            bury(shared, message, message.queue.trim_start_matches(DELIVER), &error).await;
            return Pace::Well;
        }
    };
    let error = match shared.destinations.deliver(&delivery, &body).await {
        Ok(()) => {
            let batch = |lease| Batch { acknowledge: vec![lease], ..Batch::default() };
            settle(shared, message, batch).await;
            shared.observe.observe(&delivery.function, Happened::Delivered);
            return Pace::Well;
        }
        Err(error) => error,
    };
    shared.observe.observe(&delivery.function, Happened::DeliveryFailed);
    delivery.failures = delivery.failures.saturating_add(1);
    delivery.refusals = delivery.refusals.saturating_add(u32::from(error.is_refusal()));
    if error.is_hopeless() || delivery.refusals >= shared.settings.refusals.max(1) {
        bury(shared, message, &delivery.function, &error).await;
        return Pace::Well;
    }
    let Delivery { arn, function, request_id, failures, .. } = &delivery;
    let cause = chain(&error);
    tracing::warn!(
        function,
        request_id,
        arn,
        failures,
        error = cause,
        "cannot deliver; will try again"
    );
    match event::join(&delivery, &[&body]) {
        Ok(body) => {
            let retry = |lease| vec![(lease, wait_after(&delivery), Some(body.clone()))];
            settle(shared, message, |lease| Batch { retry: retry(lease), ..Batch::default() })
                .await;
        }
        Err(error) => bury(shared, message, &delivery.function, &error).await,
    }
    Pace::Slower
}

/// Keeps a message that nothing can be made of at the dead end of its queue.
async fn bury(
    shared: &Shared,
    message: &Message,
    function: &str,
    error: &(dyn std::error::Error + Sync),
) {
    let (queue, id, cause) = (&message.queue, message.id, chain(error));
    tracing::error!(function, queue, id, error = cause, "a message was given up and is kept");
    settle(shared, message, |lease| Batch { bury: vec![lease], ..Batch::default() }).await;
    shared.observe.observe(function, Happened::Buried);
}

/// Commits what ends a message's lease, however long the store needs; `false`: the lease was lost, and someone else has
/// the message.
async fn settle(shared: &Shared, message: &Message, batch: impl Fn(Lease) -> Batch) -> bool {
    let mut tries = 0;
    loop {
        let key = (message.queue.clone(), message.id);
        let lease = shared.held().get(&key).cloned().unwrap_or_else(|| message.lease());
        match shared.store.commit(batch(lease.clone())).await {
            Ok(_) => return true,
            // It had run out, and this lane has leased it again.
            Err(StoreError::LeaseLost { .. })
                if shared.held().get(&key).is_some_and(|held| *held != lease) => {}
            Err(error @ (StoreError::LeaseLost { .. } | StoreError::Closed)) => {
                tracing::warn!(queue = message.queue, error = %error, "an event's end was not kept");
                return false;
            }
            Err(error) => {
                tries += 1;
                tracing::error!(queue = message.queue, error = %error, "cannot keep an event's end");
                tokio::time::sleep(back_off(tries)).await;
            }
        }
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(error.source(), |e| e.source())
        .fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
