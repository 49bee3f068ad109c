//! Sandboxes that wait with their language's runtime up and no code: a cold start then costs the load of the function's
//! own code alone.
//!
//! How many of a kind wait follows demand: a few at least while the kind is in use, as many as were claimed in the last
//! seconds, and none once nobody asked for long. They are made one after another, off the way of invocations, and their
//! memory is bounded. One that was claimed never comes back.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::{Instance, PoolError, end};
use crate::logs::Sink;

/// What a waiting sandbox can be claimed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kind {
    /// Place in the launcher's table.
    pub runtime: u32,
    /// With which it was started: the function's own where the runtime's command depends on it, else the least there is.
    pub memory_mib: u32,
}

#[derive(Debug, Clone)]
pub struct Limits {
    /// Waiting of each kind that is in use.
    pub base: usize,
    /// Waiting of one kind, however great the demand.
    pub most: usize,
    /// Of all that wait.
    pub memory_bytes: u64,
    /// A kind that nobody asked for in this time has none waiting.
    pub forget: Duration,
}

/// Claims within this time decide how many are kept.
const WINDOW: Duration = Duration::from_secs(10);
/// After a failure to make one, its kind rests.
const REST: Duration = Duration::from_secs(30);
/// How long making waits for a moment without invocations.
const PATIENCE: Duration = Duration::from_millis(50);

#[derive(Debug)]
struct Shelf<S> {
    ready: Vec<(Instance<S>, u64)>,
    making: bool,
    claims: VecDeque<Instant>,
    asked: Instant,
    /// Some function is of this kind.
    wanted: bool,
    rests_until: Option<Instant>,
}

/// See the module's words.
#[derive(Debug)]
pub struct Ahead<S> {
    limits: Limits,
    shelves: Mutex<HashMap<Kind, Shelf<S>>>,
    wanted: Notify,
}

impl<S: Sink + Send + 'static> Ahead<S> {
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, shelves: Mutex::default(), wanted: Notify::new() })
    }

    fn shelves(&self) -> MutexGuard<'_, HashMap<Kind, Shelf<S>>> {
        // No code here panics while it holds the lock.
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A function of this kind exists: sandboxes for it are worth having.
    pub fn want(&self, kind: Kind) {
        if self.limits.base == 0 {
            return;
        }
        let mut shelves = self.shelves();
        let shelf = shelves.entry(kind).or_insert_with(|| Shelf {
            ready: Vec::new(),
            making: false,
            claims: VecDeque::new(),
            asked: Instant::now(),
            wanted: true,
            rests_until: None,
        });
        shelf.asked = Instant::now();
        shelf.wanted = true;
        if shelf.ready.len() < self.limits.base {
            self.wanted.notify_one();
        }
    }

    /// No function of this kind exists any more.
    pub fn unwant(&self, kind: Kind) {
        if let Some(shelf) = self.shelves().get_mut(&kind) {
            shelf.wanted = false;
        }
        self.wanted.notify_one();
    }

    /// One that waits, for good.
    pub fn take(&self, kind: Kind) -> Option<Instance<S>> {
        self.want(kind);
        let mut shelves = self.shelves();
        let shelf = shelves.get_mut(&kind)?;
        shelf.claims.push_back(Instant::now());
        if shelf.claims.len() > self.limits.most {
            shelf.claims.pop_front();
        }
        self.wanted.notify_one();
        while let Some((instance, _)) = shelf.ready.pop() {
            if !instance.has_ended() {
                return Some(instance);
            }
            end(instance);
        }
        None
    }

    /// Those that wait: how many, and their memory.
    pub fn waiting(&self) -> (usize, u64) {
        let shelves = self.shelves();
        let all = shelves.values().flat_map(|s| s.ready.iter());
        all.fold((0, 0), |(count, bytes), (_, b)| (count + 1, bytes + b))
    }

    /// Makes what is wanted, and gives back what is not. Never ends. `make` makes one; `is_busy` tells whether
    /// invocations run.
    pub async fn keep<F>(&self, make: impl Fn(Kind) -> F, is_busy: impl Fn() -> bool)
    where
        F: Future<Output = Result<Instance<S>, PoolError>>,
    {
        loop {
            self.give_back();
            let Some(kind) = self.next() else {
                // The second wakes it to give back.
                let _ = tokio::time::timeout(Duration::from_secs(1), self.wanted.notified()).await;
                continue;
            };
            let began = Instant::now();
            while is_busy() && began.elapsed() < PATIENCE {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            let made = make(kind).await;
            let mut shelves = self.shelves();
            let Some(shelf) = shelves.get_mut(&kind) else { continue };
            shelf.making = false;
            match made {
                Ok(instance) => {
                    let bytes = instance.memory_peak();
                    shelf.ready.push((instance, bytes));
                }
                Err(error) => {
                    tracing::warn!(%error, ?kind, "a sandbox could not be made ahead");
                    shelf.rests_until = Some(Instant::now() + REST);
                }
            }
        }
    }

    fn target(&self, shelf: &mut Shelf<S>) -> usize {
        while shelf.claims.front().is_some_and(|at| at.elapsed() > WINDOW) {
            shelf.claims.pop_front();
        }
        if !shelf.wanted || shelf.asked.elapsed() > self.limits.forget {
            return 0;
        }
        (self.limits.base + shelf.claims.len()).min(self.limits.most)
    }

    /// The kind that lacks most.
    fn next(&self) -> Option<Kind> {
        let mut shelves = self.shelves();
        let used: u64 = shelves.values().flat_map(|s| &s.ready).map(|(_, bytes)| bytes).sum();
        if used >= self.limits.memory_bytes {
            return None;
        }
        let mut worst: Option<(usize, Kind)> = None;
        for (kind, shelf) in shelves.iter_mut() {
            let rests = shelf.rests_until.is_some_and(|until| until > Instant::now());
            let lacks = self.target(shelf).saturating_sub(shelf.ready.len());
            if lacks > 0 && !rests && !shelf.making && worst.is_none_or(|(most, _)| lacks > most) {
                worst = Some((lacks, *kind));
            }
        }
        let kind = worst?.1;
        if let Some(shelf) = shelves.get_mut(&kind) {
            shelf.making = true;
        }
        Some(kind)
    }

    /// Ends what is more than wanted. A little more is kept: demand comes in waves.
    fn give_back(&self) {
        let mut over = Vec::new();
        {
            let mut shelves = self.shelves();
            for shelf in shelves.values_mut() {
                // One that ended while it waited is of no use, and its place is another's.
                over.extend(shelf.ready.extract_if(.., |(instance, _)| instance.has_ended()));
                let target = self.target(shelf);
                let kept = if target == 0 { 0 } else { target + self.limits.base };
                while shelf.ready.len() > kept {
                    over.extend(shelf.ready.pop());
                }
            }
            shelves.retain(|_, s| {
                s.making
                    || !s.ready.is_empty()
                    || (s.wanted && s.asked.elapsed() <= self.limits.forget)
            });
        }
        for (instance, _) in over {
            end(instance);
        }
    }

    /// Ends all that wait.
    pub fn end_all(&self) {
        let all: Vec<_> = self.shelves().drain().flat_map(|(_, shelf)| shelf.ready).collect();
        for (instance, _) in all {
            end(instance);
        }
    }
}
