//! Sandboxes that wait: with their language's runtime up and no code, so that a cold start costs the load of the
//! function's own code alone; or held just before the exec of what nobody knows yet, so that it costs that and no
//! sandbox.
//!
//! How many of a kind wait follows demand (`shelves.rs`), within a budget of memory. They are made off the way of
//! invocations. One that was claimed never comes back.

mod shelves;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::JoinSet;

use self::shelves::{Plan, Shelves};
use super::{Instance, PoolError, end};
use crate::logs::Sink;

/// How far a waiting sandbox is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Form {
    /// Its language is up.
    Preboot,
    /// Its program's process waits before exec.
    Held,
}

impl Form {
    /// As the log and the metrics have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Preboot => "preboot",
            Self::Held => "held",
        }
    }
}

/// What a waiting sandbox can be claimed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind {
    /// Place in the launcher's table.
    pub runtime: u32,
    /// With which it was started: the function's own where the runtime's command depends on it, else the least.
    pub memory_mib: u32,
    pub form: Form,
}

/// Why none is made at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Off {
    /// Without root the sandbox's mounts are its own user namespace's, and nobody outside can add to them.
    NotRoot,
    /// The operator wants none.
    NotWanted,
}

#[derive(Debug, Clone)]
pub struct Limits {
    /// Waiting of each kind that is in use.
    pub base: usize,
    /// Waiting of one kind, however great the demand.
    pub most: usize,
    /// Of all that wait.
    pub memory_bytes: u64,
    /// Waiting, of all kinds.
    pub places: usize,
    /// A kind that nobody asked for in this time has none waiting.
    pub forget: Duration,
    pub off: Option<Off>,
}

/// What can wait.
pub trait Waiting {
    fn has_ended(&self) -> bool;
    /// What it takes, in bytes.
    fn memory(&self) -> u64;
    /// Ends it; nobody waits for that.
    fn end(self);
}

impl<S: Sink + Send + 'static> Waiting for Instance<S> {
    fn has_ended(&self) -> bool {
        Self::has_ended(self)
    }

    fn memory(&self) -> u64 {
        self.memory_peak()
    }

    fn end(self) {
        end(self);
    }
}

/// How long making waits for a moment without invocations.
const PATIENCE: Duration = Duration::from_millis(50);
/// How often that is looked at.
const POLITE: Duration = Duration::from_millis(2);
/// How often is looked for what is over, or hangs, while nobody asks.
const TICK: Duration = Duration::from_secs(1);

/// Waits for a moment without invocations, for a while.
pub async fn lull(is_busy: impl Fn() -> bool) {
    let began = Instant::now();
    while is_busy() && began.elapsed() < PATIENCE {
        tokio::time::sleep(POLITE).await;
    }
}

/// See the module's words.
#[derive(Debug)]
pub struct Ahead<T> {
    off: Option<Off>,
    shelves: Mutex<Shelves<T>>,
    wanted: Notify,
}

impl<T: Waiting + Send + 'static> Ahead<T> {
    pub fn new(limits: Limits) -> Arc<Self> {
        let off = limits.off.or((limits.base == 0).then_some(Off::NotWanted));
        Arc::new(Self { off, shelves: Mutex::new(Shelves::new(limits)), wanted: Notify::new() })
    }

    fn shelves(&self) -> MutexGuard<'_, Shelves<T>> {
        // No code here panics while it holds the lock.
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why none ever waits, if so.
    pub fn off(&self) -> Option<Off> {
        self.off
    }

    /// A function of this kind exists: sandboxes for it are worth having.
    pub fn want(&self, kind: Kind) {
        if self.off.is_none() {
            self.shelves().want(kind, Instant::now());
            self.wanted.notify_one();
        }
    }

    /// As [`Self::want`], of a version that was made just now: its first event is likely to come. `who` tells it from
    /// every other.
    pub fn expect(&self, kind: Kind, who: u64) {
        if self.off.is_none() {
            self.shelves().expect(kind, who, Instant::now());
            self.wanted.notify_one();
        }
    }

    /// No function of this kind exists any more.
    pub fn unwant(&self, kind: Kind) {
        self.shelves().unwant(kind);
        self.wanted.notify_one();
    }

    /// One that waits, for good.
    pub fn take(&self, kind: Kind, who: u64) -> Option<T> {
        if self.off.is_some() {
            return None;
        }
        let (one, dead) = self.shelves().take(kind, who, Instant::now());
        self.wanted.notify_one();
        dead.into_iter().for_each(T::end);
        one
    }

    /// One that waits beyond what is kept anyway, for good, and without a wish for another in its place.
    pub fn take_spare(&self, kind: Kind) -> Option<T> {
        let (one, dead) = self.shelves().take_spare(kind);
        dead.into_iter().for_each(T::end);
        one
    }

    /// Of each kind those that wait: how many, and their bytes.
    pub fn waiting(&self) -> Vec<(Kind, usize, u64)> {
        self.shelves().waiting()
    }

    /// Makes what is wanted, and gives back what is not. Never ends. `make` makes one; `is_busy` tells whether
    /// invocations run.
    pub async fn keep<F>(self: Arc<Self>, make: impl Fn(Kind) -> F, is_busy: impl Fn() -> bool)
    where
        F: Future<Output = Result<T, PoolError>> + Send + 'static,
    {
        let mut makers = JoinSet::new();
        loop {
            let Plan { make: wanted, over } = self.shelves().plan(Instant::now(), is_busy());
            over.into_iter().for_each(T::end);
            while makers.try_join_next().is_some() {}
            let Some((kind, ticket)) = wanted else {
                let _ = tokio::time::timeout(TICK, self.wanted.notified()).await;
                continue;
            };
            lull(&is_busy).await;
            let (this, making) = (self.clone(), make(kind));
            makers.spawn(async move {
                let made = making.await;
                if let Err(error) = &made {
                    tracing::warn!(%error, ?kind, "a sandbox could not be made ahead");
                }
                let over = this.shelves().made(ticket, made.ok(), Instant::now());
                over.into_iter().for_each(T::end);
                this.wanted.notify_one();
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Debug)]
    struct One;

    impl Waiting for One {
        fn has_ended(&self) -> bool {
            false
        }
        fn memory(&self) -> u64 {
            1
        }
        fn end(self) {}
    }

    fn kind(runtime: u32) -> Kind {
        Kind { runtime, memory_mib: 128, form: Form::Held }
    }

    fn ahead(base: usize, off: Option<Off>) -> Arc<Ahead<One>> {
        let forget = Duration::from_secs(60);
        Ahead::new(Limits { base, most: 8, memory_bytes: 1 << 20, places: 64, forget, off })
    }

    #[tokio::test(flavor = "current_thread")]
    async fn others_are_made_while_one_hangs() {
        let ahead = ahead(1, None);
        ahead.want(kind(0));
        ahead.want(kind(1));
        let made = Arc::new(AtomicUsize::new(0));
        let counted = made.clone();
        let make = move |kind: Kind| {
            let made = counted.clone();
            async move {
                if kind.runtime == 0 {
                    std::future::pending::<()>().await;
                }
                made.fetch_add(1, Ordering::Relaxed);
                Ok(One)
            }
        };
        let keeping = tokio::spawn(ahead.clone().keep(make, || false));
        while ahead.take(kind(1), 1).is_none() {
            tokio::task::yield_now().await;
        }
        assert!(made.load(Ordering::Relaxed) > 0);
        assert!(ahead.take(kind(0), 1).is_none());
        keeping.abort();
    }

    #[test]
    fn where_none_are_made_none_are_wanted() {
        for (ahead, why) in
            [(ahead(0, None), Off::NotWanted), (ahead(2, Some(Off::NotRoot)), Off::NotRoot)]
        {
            ahead.want(kind(0));
            ahead.expect(kind(0), 1);
            assert!(ahead.take(kind(0), 1).is_none());
            assert_eq!(ahead.off(), Some(why));
            assert!(ahead.waiting().is_empty());
        }
    }
}
