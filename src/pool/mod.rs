//! Instances and how long they are kept: warm ones wait here per function version, last used first, frozen after a short
//! grace, until they are used again, have idled too long, or memory is wanted elsewhere.
//!
//! The host's memory is a budget: a busy instance counts with its limit, an idle one with what it used at most. So are
//! the server's descriptors, of which each instance takes a few. When a new one does not fit, idle ones go, longest
//! unused first; when none is left, the newcomer waits.
//! Knows no HTTP and no function's meaning: a [`Key`] is all that tells instances apart.

#![forbid(unsafe_code)]

pub mod ahead;
pub mod images;
mod instance;
mod places;

use std::any::Any;
use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

pub use instance::{
    Answered, Exit, INIT_TIMEOUT, Init, Instance, Outcome, PoolError, State, Told, Wanted, unix_ms,
};
pub use places::Places;

use crate::launcher::LauncherError;
use crate::logs::{PlatformLog, Sink};
use crate::metrics::{SandboxGauge, SandboxState};

/// What an instance can be used again for: one version of one function, with one configuration.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// The function's own, so that a later one of the same name shares nothing.
    pub function: Arc<str>,
    pub version: Arc<str>,
    /// Changes with code or configuration.
    pub generation: u64,
}

#[derive(Debug, Clone)]
pub struct Limits {
    /// For all instances together.
    pub memory_bytes: u64,
    /// At a time.
    pub instances: usize,
    /// How long an unused instance is kept; for no time at all, each is used once.
    pub idle: Duration,
    /// How long an instance runs on after an invocation before it is frozen.
    pub freeze_after: Duration,
    /// How long an invocation waits for room.
    pub wait: Duration,
}

/// Kept instances that are made ahead are spared by the idle clock and by the memory budget.
#[derive(Debug)]
struct Parked<S> {
    ticket: u64,
    instance: Instance<S>,
    since: Instant,
    bytes: u64,
    tag: Tag,
}

/// Counts an instance that was made ahead for provisioned concurrency, as long as it lives.
#[derive(Debug)]
pub struct Provisioned(Arc<AtomicU32>);

impl Provisioned {
    pub fn new(alive: Arc<AtomicU32>) -> Self {
        alive.fetch_add(1, Ordering::Relaxed);
        Self(alive)
    }
}

impl Drop for Provisioned {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the owner wants to find again with an instance.
#[derive(Debug)]
pub struct Tag {
    /// Counts it among its function's sandboxes.
    pub gauge: SandboxGauge,
    /// Words its log's platform lines.
    pub platform: Arc<PlatformLog>,
    pub memory_bytes: u64,
    pub provisioned: Option<Provisioned>,
    /// No invocation yet: its init was ahead of time.
    pub fresh: Option<Duration>,
    /// Lives as long as the instance: what it was made from.
    pub keep: Arc<dyn Any + Send + Sync>,
}

type Shelves<S> = HashMap<Key, Vec<Parked<S>>>;

const SHARDS: usize = 64;

/// See the module's words.
#[derive(Debug)]
pub struct Pool<S> {
    limits: Limits,
    shards: Vec<Mutex<Shelves<S>>>,
    hasher: RandomState,
    next_ticket: AtomicU64,
    /// Bytes that instances count with.
    used: AtomicU64,
    /// Instances, in whatever state.
    alive: AtomicUsize,
    /// Room came free.
    freed: Notify,
    /// Parked and not yet frozen: when, where, which.
    thawed: Mutex<VecDeque<(Instant, Key, u64)>>,
    parked: Notify,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    idle: AtomicU64,
    busy: AtomicU64,
    booting: AtomicU64,
}

/// Instances by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Census {
    pub booting: u64,
    pub busy: u64,
    pub idle: u64,
    pub bytes: u64,
}

/// The place and the memory that one instance counts with; given back when dropped.
#[derive(Debug)]
pub struct Share<S> {
    pool: Arc<Pool<S>>,
    bytes: u64,
    state: Counted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counted {
    Booting,
    Busy,
}

impl<S> Share<S> {
    /// The instance is up.
    pub fn booted(&mut self) {
        if self.state == Counted::Booting {
            self.pool.counts.booting.fetch_sub(1, Ordering::Relaxed);
            self.pool.counts.busy.fetch_add(1, Ordering::Relaxed);
            self.state = Counted::Busy;
        }
    }
}

impl<S> Drop for Share<S> {
    fn drop(&mut self) {
        let counts = &self.pool.counts;
        match self.state {
            Counted::Booting => counts.booting.fetch_sub(1, Ordering::Relaxed),
            Counted::Busy => counts.busy.fetch_sub(1, Ordering::Relaxed),
        };
        self.pool.used.fetch_sub(self.bytes, Ordering::Relaxed);
        self.pool.alive.fetch_sub(1, Ordering::Relaxed);
        self.pool.freed.notify_one();
    }
}

/// An instance that waited here, and what it counts with.
#[derive(Debug)]
pub struct Taken<S> {
    pub instance: Instance<S>,
    pub share: Share<S>,
    pub tag: Tag,
}

impl<S: Sink + Send + 'static> Pool<S> {
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            next_ticket: AtomicU64::new(1),
            used: AtomicU64::new(0),
            alive: AtomicUsize::new(0),
            freed: Notify::new(),
            thawed: Mutex::default(),
            parked: Notify::new(),
            counts: Counts::default(),
        })
    }

    fn shard(&self, key: &Key) -> MutexGuard<'_, Shelves<S>> {
        let hash = usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).unwrap_or(0);
        lock(&self.shards[hash])
    }

    /// The instance that was used last, thawed by its next invocation; of provisioned concurrency first, as on AWS.
    pub fn take(self: &Arc<Self>, key: &Key) -> Option<Taken<S>> {
        loop {
            let mut parked = {
                let mut shelves = self.shard(key);
                let shelf = shelves.get_mut(key)?;
                let provisioned = shelf.iter().rposition(|p| p.tag.provisioned.is_some());
                let last = provisioned.or_else(|| shelf.len().checked_sub(1));
                let parked = last.map(|at| shelf.remove(at));
                if shelf.is_empty() {
                    shelves.remove(key);
                }
                parked?
            };
            self.counts.idle.fetch_sub(1, Ordering::Relaxed);
            self.counts.busy.fetch_add(1, Ordering::Relaxed);
            // It may grow to its limit again.
            let bytes = parked.tag.memory_bytes.max(parked.bytes);
            self.used.fetch_add(bytes - parked.bytes, Ordering::Relaxed);
            let share = Share { pool: self.clone(), bytes, state: Counted::Busy };
            if parked.instance.has_ended() {
                // Died while it idled: nobody's invocation was in it.
                end_with(parked.instance, parked.tag);
                continue;
            }
            parked.tag.gauge.set(SandboxState::Busy);
            return Some(Taken { instance: parked.instance, share, tag: parked.tag });
        }
    }

    /// Room for a new instance; idle ones go for it. `None` where none came free in time.
    pub async fn share(self: &Arc<Self>, bytes: u64) -> Option<Share<S>> {
        let deadline = tokio::time::Instant::now() + self.limits.wait;
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if let Some(share) = self.try_share(bytes) {
                return Some(share);
            }
            if self.evict_longest_unused() {
                continue;
            }
            if tokio::time::timeout_at(deadline, freed).await.is_err() {
                return None;
            }
        }
    }

    fn try_share(self: &Arc<Self>, bytes: u64) -> Option<Share<S>> {
        let free = |alive: usize| (alive < self.limits.instances).then_some(alive + 1);
        self.alive.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free).ok()?;
        let fits = |used: u64| {
            // One instance always fits, however big.
            let new = used.saturating_add(bytes);
            (new <= self.limits.memory_bytes || used == 0).then_some(new)
        };
        if self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_err() {
            self.alive.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        self.counts.booting.fetch_add(1, Ordering::Relaxed);
        Some(Share { pool: self.clone(), bytes, state: Counted::Booting })
    }

    /// Whether instances are kept between invocations.
    pub fn keeps(&self) -> bool {
        !self.limits.idle.is_zero()
    }

    /// Keeps an instance for its next invocation. `bytes`: what it used at most.
    pub fn park(
        &self,
        key: Key,
        instance: Instance<S>,
        mut share: Share<S>,
        bytes: u64,
        mut tag: Tag,
    ) {
        share.booted();
        tag.gauge.set(SandboxState::Idle);
        let ticket = self.next_ticket.fetch_add(1, Ordering::Relaxed);
        let since = Instant::now();
        // What it counts with goes on, smaller.
        let bytes = bytes.min(share.bytes);
        self.used.fetch_add(bytes, Ordering::Relaxed);
        self.alive.fetch_add(1, Ordering::Relaxed);
        self.counts.idle.fetch_add(1, Ordering::Relaxed);
        drop(share);
        let parked = Parked { ticket, instance, since, bytes, tag };
        self.shard(&key).entry(key.clone()).or_default().push(parked);
        let mut thawed = lock(&self.thawed);
        thawed.push_back((since, key, ticket));
        if thawed.len() == 1 {
            self.parked.notify_one();
        }
    }

    /// Freezes what was parked, each after the grace. Never ends.
    ///
    /// Of an instance that is in use all the time there is an entry for each of its rests, so this looks at several at
    /// once: an entry may wait for a quarter of the grace more.
    pub async fn freeze_parked(&self) {
        let mut looked = Instant::now();
        loop {
            let next = lock(&self.thawed).front().map(|(since, ..)| *since);
            match next {
                None => self.parked.notified().await,
                Some(since) => {
                    let due = since + self.limits.freeze_after;
                    let due = due.max(looked + self.limits.freeze_after / 4);
                    tokio::time::sleep_until(due.into()).await;
                    looked = Instant::now();
                    self.freeze_due();
                }
            }
        }
    }

    fn freeze_due(&self) {
        loop {
            let (key, ticket) = {
                let mut thawed = lock(&self.thawed);
                match thawed.front() {
                    Some((since, ..)) if since.elapsed() >= self.limits.freeze_after => {}
                    _ => return,
                }
                match thawed.pop_front() {
                    Some((_, key, ticket)) => (key, ticket),
                    None => return,
                }
            };
            let mut shelves = self.shard(&key);
            let shelf = shelves.get_mut(&key).into_iter().flatten();
            if let Some(parked) = shelf.into_iter().find(|p| p.ticket == ticket) {
                parked.instance.freeze(true);
            }
        }
    }

    fn evict_longest_unused(&self) -> bool {
        let oldest = self
            .shards
            .iter()
            .filter_map(|shard| {
                let shelves = lock(shard);
                let all = shelves.iter().flat_map(|(k, shelf)| shelf.iter().map(move |p| (k, p)));
                let idle =
                    all.filter(|(_, p)| p.tag.provisioned.is_none()).min_by_key(|(_, p)| p.since);
                idle.map(|(key, p)| (p.since, key.clone(), p.ticket))
            })
            .min_by_key(|(since, ..)| *since);
        let Some((_, key, ticket)) = oldest else { return false };
        self.end_where(|k, parked| *k == key && parked.ticket == ticket);
        true
    }

    /// Ends idle instances that have waited too long.
    pub fn end_idle(&self) {
        self.end_where(|_, parked| {
            parked.tag.provisioned.is_none() && parked.since.elapsed() >= self.limits.idle
        });
    }

    /// Ends the idle instances of a function, but those that `keep` says.
    pub fn end_function(&self, function: &str, keep: impl Fn(&Key) -> bool) {
        self.end_where(|key, _| *key.function == *function && !keep(key));
    }

    fn end_where(&self, ends: impl Fn(&Key, &Parked<S>) -> bool) {
        for shard in &self.shards {
            let mut ended = Vec::new();
            {
                let mut shelves = lock(shard);
                shelves.retain(|key, shelf| {
                    let mut index = 0;
                    while index < shelf.len() {
                        if ends(key, &shelf[index]) {
                            ended.push(shelf.remove(index));
                        } else {
                            index += 1;
                        }
                    }
                    !shelf.is_empty()
                });
            }
            for parked in ended {
                self.counts.idle.fetch_sub(1, Ordering::Relaxed);
                self.used.fetch_sub(parked.bytes, Ordering::Relaxed);
                self.alive.fetch_sub(1, Ordering::Relaxed);
                self.freed.notify_one();
                end_with(parked.instance, parked.tag);
            }
        }
    }

    /// Ends so many provisioned instances of a version, of those that wait.
    pub fn end_provisioned(&self, key: &Key, count: u32) {
        let left = Cell::new(count);
        self.end_where(|k, parked| {
            let ends = left.get() > 0 && k == key && parked.tag.provisioned.is_some();
            left.set(left.get() - u32::from(ends));
            ends
        });
    }

    pub fn census(&self) -> Census {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Census {
            booting: read(&self.counts.booting),
            busy: read(&self.counts.busy),
            idle: read(&self.counts.idle),
            bytes: read(&self.used),
        }
    }
}

/// Kills an instance and has it removed; nobody waits.
fn end<S: Sink + Send + 'static>(instance: Instance<S>) {
    end_with(instance, ());
}

/// As [`end`]; what goes `with` it is dropped once it is gone.
pub(crate) fn end_with<S: Sink + Send + 'static>(instance: Instance<S>, with: impl Send + 'static) {
    tokio::spawn(async move {
        match instance.release().await {
            // The launcher removes all that is left when it ends.
            Ok(_) | Err(PoolError::Launcher(LauncherError::Gone)) => {}
            Err(error) => tracing::error!(%error, "a sandbox could not be removed"),
        }
        drop(with);
    });
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code here panics while it holds the lock.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
