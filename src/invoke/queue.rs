//! Asynchronous events: durable before they are accepted, run at least once, told of when they end.
//!
//! Each function has its own queue in the store, `async/NAME`, and each destination outside has one, `deliver/ARN`. A
//! [lane] works each of them while it holds messages: it leases as many as may run, keeps the leases while they run,
//! and ends each with one durable step. So nothing is lost by a crash at any point: what was leased comes back when
//! its lease runs out, and an event leaves its queue in the same step that puts its records onto theirs. One queue's
//! slowness or throttling never holds up another's, for the first message of a queue needs no share of the common
//! bound.
//!
//! What becomes of an event is in [`rules`]; what destinations get in [`super::destinations`].

pub(super) mod event;
mod lane;
mod rules;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::{Id, JoinError, JoinHandle, JoinSet};

pub use event::{Answer, AsyncEvent, EventError};
pub use rules::{Condition, EventPolicy, Policies, PolicyFuture, back_off};

use super::destinations::{DELIVER, Destinations};
use super::service::Run;
use crate::control::ControlError;
use crate::control::records::async_queue;
use crate::pool::unix_ms;
use crate::store::{Batch, KeysAndQueues, Lease, StoreError};

const ASYNC: &str = "async/";

/// How events are worked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Waits after the first and the second function error; AWS's are one and two minutes.
    pub retry_delays: Vec<Duration>,
    /// Events in flight at once, over all functions; the first of each function comes on top.
    pub in_flight: usize,
    /// Events in flight at once of one function.
    pub in_flight_per_function: usize,
    /// How long a message is held at a time. Held messages are kept by extension; after a crash they come back no later
    /// than this.
    pub lease: Duration,
    /// Refusals of a destination, such as a queue that does not exist, before a message for it is buried. What cannot
    /// be reached is tried for ever.
    pub refusals: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            retry_delays: vec![Duration::from_secs(60), Duration::from_secs(120)],
            in_flight: 500,
            in_flight_per_function: 100,
            lease: Duration::from_secs(15),
            refusals: 8,
        }
    }
}

/// What happened to an event or to a message that tells of one; for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Happened {
    /// It is on the queue.
    Accepted,
    /// It failed in the function and goes back.
    Retried,
    Throttled,
    /// No sandbox, or no state: goes back.
    SystemError,
    /// It left its queue.
    Finished(Condition),
    /// Its function is gone, and the event with it.
    Gone,
    /// A destination or dead-letter queue took its message.
    Delivered,
    /// One try to deliver failed.
    DeliveryFailed,
    /// A message was given up and is kept at the dead end of its queue.
    Buried,
}

/// Hears of every event.
pub trait Observe: Send + Sync + 'static {
    fn observe(&self, function: &str, what: Happened);
}

/// Hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl Observe for Unobserved {
    fn observe(&self, _: &str, _: Happened) {}
}

/// A queue, for metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backlog {
    /// The function's name, or the destination's ARN.
    pub name: String,
    /// Messages, those in flight or waiting for a retry included.
    pub depth: u64,
    /// Of the oldest.
    pub age: Duration,
    /// Messages at the dead end.
    pub dead: u64,
}

/// See the module's words.
pub struct AsyncQueue {
    shared: Arc<Shared>,
    supervisor: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for AsyncQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AsyncQueue")
            .field("settings", &self.shared.settings)
            .finish_non_exhaustive()
    }
}

/// What the queue works with.
pub struct Parts {
    pub store: Arc<dyn KeysAndQueues>,
    pub policies: Arc<dyn Policies>,
    pub run: Arc<dyn Run>,
    pub destinations: Destinations,
    pub observe: Arc<dyn Observe>,
    pub settings: Settings,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("settings", &self.settings).finish_non_exhaustive()
    }
}

struct Shared {
    store: Arc<dyn KeysAndQueues>,
    policies: Arc<dyn Policies>,
    run: Arc<dyn Run>,
    destinations: Destinations,
    observe: Arc<dyn Observe>,
    settings: Settings,
    room: Arc<Semaphore>,
    wake: mpsc::UnboundedSender<String>,
    stopping: watch::Sender<bool>,
    /// Leases of what is in flight, by queue and message.
    held: Mutex<HashMap<(String, u64), Lease>>,
}

impl AsyncQueue {
    /// Starts to work on what the store holds already, and on what is enqueued.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(parts: Parts) -> Self {
        let (wake, wakes) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            room: Arc::new(Semaphore::new(parts.settings.in_flight.min(Semaphore::MAX_PERMITS))),
            store: parts.store,
            policies: parts.policies,
            run: parts.run,
            destinations: parts.destinations,
            observe: parts.observe,
            settings: parts.settings,
            wake,
            stopping: watch::Sender::new(false),
            held: Mutex::default(),
        });
        let supervisor = tokio::spawn(supervise(shared.clone(), wakes));
        Self { shared, supervisor: Mutex::new(Some(supervisor)) }
    }

    /// Accepts an event: it is on the disk when this returns, and will be run.
    ///
    /// # Errors
    /// The store cannot take it; nothing was accepted.
    pub async fn enqueue(&self, event: AsyncEvent) -> Result<(), ControlError> {
        let body = event
            .encode()
            .map_err(|e| ControlError::internal("cannot encode an event").caused_by(e))?;
        let queue = async_queue(&event.function);
        let send = vec![(queue.clone(), body, Duration::ZERO)];
        self.shared.store.commit(Batch { send, ..Batch::default() }).await?;
        self.shared.observe.observe(&event.function, Happened::Accepted);
        self.shared.wake(queue);
        Ok(())
    }

    /// Starts nothing more, and waits for what is in flight, at most `grace`. What is not done by then is given back,
    /// to be run by whoever comes next.
    pub async fn stop(&self, grace: Duration) {
        self.shared.stopping.send_replace(true);
        let supervisor = self.supervisor.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut supervisor) = supervisor else { return };
        if tokio::time::timeout(grace, &mut supervisor).await.is_ok() {
            return;
        }
        // Noted before the tasks end, for each lets go of its own.
        let held = self.shared.leases(|_| true);
        supervisor.abort();
        let _ = supervisor.await; // cancelled, as asked
        tracing::warn!(
            events = held.len(),
            "asynchronous events were cut short and will be run again"
        );
        for lease in held {
            let batch = Batch { retry: vec![(lease, Duration::ZERO, None)], ..Batch::default() };
            // Whatever cannot be given back comes back by itself when its lease runs out.
            if let Err(error) = self.shared.store.commit(batch).await {
                tracing::debug!(error = %error, "cannot give back a message");
            }
        }
    }

    /// Functions that have events waiting.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn backlogs(&self) -> Result<Vec<Backlog>, StoreError> {
        self.list(ASYNC).await
    }

    /// Destinations that have messages waiting.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn undelivered(&self) -> Result<Vec<Backlog>, StoreError> {
        self.list(DELIVER).await
    }

    /// Events and messages in flight now.
    pub fn in_flight(&self) -> usize {
        self.shared.held().len()
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Backlog>, StoreError> {
        let now = now_ms();
        let mut backlogs = Vec::new();
        for queue in self.shared.store.queues(prefix).await? {
            let stats = self.shared.store.queue_stats(&queue).await?;
            backlogs.push(Backlog {
                name: queue[prefix.len()..].into(),
                depth: stats.depth,
                age: Duration::from_millis(now.saturating_sub(stats.oldest_sent_ms.unwrap_or(now))),
                dead: stats.dead,
            });
        }
        Ok(backlogs)
    }
}

impl Drop for AsyncQueue {
    fn drop(&mut self) {
        let supervisor = self.supervisor.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(supervisor) = supervisor.take() {
            supervisor.abort();
        }
    }
}

impl Shared {
    fn held(&self) -> std::sync::MutexGuard<'_, HashMap<(String, u64), Lease>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leases(&self, which: impl Fn(&Lease) -> bool) -> Vec<Lease> {
        self.held().values().filter(|lease| which(lease)).cloned().collect()
    }

    /// There may be something to do on `queue`.
    fn wake(&self, queue: String) {
        let _ = self.wake.send(queue); // nobody works any more: it is found at the next start
    }
}

/// A lane, as its supervisor sees it.
struct Lane {
    notify: Arc<Notify>,
    /// Counts calls, so that one that comes while the lane retires is not missed.
    calls: Arc<AtomicU64>,
}

/// One lane for each queue that holds messages.
struct Lanes {
    shared: Arc<Shared>,
    lanes: HashMap<String, Lane>,
    names: HashMap<Id, String>,
    /// What a lane returns: how many calls it had heard when it found nothing to do.
    tasks: JoinSet<u64>,
}

impl Lanes {
    fn start(&mut self, queue: String) {
        let lane = Lane { notify: Arc::default(), calls: Arc::default() };
        let (notify, calls) = (lane.notify.clone(), lane.calls.clone());
        let work = lane::work(self.shared.clone(), queue.clone(), notify, calls);
        self.names.insert(self.tasks.spawn(work).id(), queue.clone());
        self.lanes.insert(queue, lane);
    }

    fn call(&mut self, queue: String) {
        match self.lanes.get(&queue) {
            Some(lane) => {
                lane.calls.fetch_add(1, Ordering::AcqRel);
                lane.notify.notify_one();
            }
            None => self.start(queue),
        }
    }

    /// A lane has nothing to do, or broke off.
    fn ended(&mut self, ended: Result<(Id, u64), JoinError>) {
        let (id, heard) = match ended {
            Ok((id, heard)) => (id, Some(heard)),
            Err(error) => {
                tracing::error!(error = %error, "a lane of events broke off");
                (error.id(), None)
            }
        };
        let Some(queue) = self.names.remove(&id) else { return };
        let Some(lane) = self.lanes.remove(&queue) else { return };
        if heard != Some(lane.calls.load(Ordering::Acquire)) {
            self.start(queue);
        }
    }
}

async fn supervise(shared: Arc<Shared>, mut calls: mpsc::UnboundedReceiver<String>) {
    let mut stopping = shared.stopping.subscribe();
    let mut lanes = Lanes {
        shared: shared.clone(),
        lanes: HashMap::new(),
        names: HashMap::new(),
        tasks: JoinSet::new(),
    };
    tokio::select! {
        found = find(&shared) => found.into_iter().for_each(|queue| lanes.start(queue)),
        _ = stopping.wait_for(|stop| *stop) => return,
    }
    loop {
        tokio::select! {
            Some(queue) = calls.recv() => lanes.call(queue),
            Some(ended) = lanes.tasks.join_next_with_id(), if !lanes.tasks.is_empty() => {
                lanes.ended(ended);
            }
            _ = stopping.wait_for(|stop| *stop) => break,
        }
    }
    while lanes.tasks.join_next().await.is_some() {}
}

/// Queues that hold messages now.
async fn find(shared: &Shared) -> Vec<String> {
    let mut tries = 0;
    loop {
        let found = async {
            let mut queues = shared.store.queues(ASYNC).await?;
            queues.extend(shared.store.queues(DELIVER).await?);
            Ok::<_, StoreError>(queues)
        };
        match found.await {
            Ok(queues) => return queues,
            Err(error) => {
                tries += 1;
                tracing::error!(error = %error, "cannot list the queues of events");
                tokio::time::sleep(back_off(tries)).await;
            }
        }
    }
}

pub(super) fn now_ms() -> u64 {
    unix_ms(SystemTime::now())
}
