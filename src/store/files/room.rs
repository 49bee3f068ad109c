//! Room for more: when there is too much, what goes. All of it beside whatever else is done, on a thread that may wait
//! for the disk.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::ops::Bound;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use super::log::Log;
use super::{Held, Inner};

/// Logs that are looked at without letting those in who make new ones.
const PAGE: usize = 1000;

/// A log that may go, as it was when it was looked at. Those that go first are the least.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    held: bool,
    used: u64,
    place: usize,
}

/// Keeps a log until it is dropped.
#[derive(Debug)]
struct Hold {
    inner: Arc<Inner>,
    log: Arc<str>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = self.inner.held();
        if let Some(count) = held.get_mut(&self.log) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.log);
            }
        }
    }
}

impl Inner {
    pub fn hold(this: &Arc<Self>, log: &str) -> Held {
        let log: Arc<str> = log.into();
        *this.held().entry(log.clone()).or_default() += 1;
        Box::new(Hold { inner: this.clone(), log })
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Arc<str>, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_too_many_bytes(&self) -> bool {
        self.shared.total.load(Ordering::Relaxed) > self.limits.total_bytes
    }

    fn has_too_many_logs(&self) -> bool {
        self.count.load(Ordering::Relaxed) > self.bound.load(Ordering::Relaxed)
    }

    pub fn is_over(&self) -> bool {
        self.has_too_many_bytes() || self.has_too_many_logs()
    }

    fn all(&self) -> Vec<Arc<Log>> {
        let mut all: Vec<Arc<Log>> = Vec::with_capacity(self.count.load(Ordering::Relaxed));
        loop {
            let before = all.len();
            let from = all.last().map_or(Bound::Unbounded, |last| Bound::Excluded(&*last.name));
            let logs = self.logs.read().unwrap_or_else(PoisonError::into_inner);
            let page = logs.range::<str, _>((from, Bound::Unbounded)).take(PAGE);
            let page: Vec<_> = page.map(|(_, log)| log.clone()).collect();
            drop(logs);
            all.extend(page);
            if all.len() < before + PAGE {
                return all;
            }
        }
    }

    /// Drops segments, then logs, until a twentieth of what was exceeded is free. What cannot be dropped is left for the
    /// next time.
    pub fn make_room(&self) {
        let mut most_bytes = match self.limits.total_bytes {
            most if self.has_too_many_bytes() => most - most / 20,
            _ => u64::MAX,
        };
        let most_logs = match self.limits.logs {
            most if self.has_too_many_logs() => most - most / 20,
            _ => usize::MAX,
        };
        let logs = self.all();
        if most_bytes < u64::MAX && self.shrink(&logs, most_bytes) {
            // What is appended from here on is no reason to drop whole logs.
            most_bytes = u64::MAX;
        }
        let stay = self.remove_unused(&logs, most_bytes, most_logs);
        // Where so many cannot go, there is nothing to look for before there are more.
        self.bound.store(self.limits.logs.max(stay + stay / 20), Ordering::Relaxed);
    }

    /// The largest gives a segment at a time, as long as it has one to give. Whether that was enough.
    fn shrink(&self, logs: &[Arc<Log>], most_bytes: u64) -> bool {
        let bytes = |log: &Arc<Log>| log.bytes.load(Ordering::Relaxed);
        let used = |log: &Arc<Log>| log.used.load(Ordering::Relaxed);
        let place = |(i, log)| (bytes(log), Reverse(used(log)), i);
        let mut by_size: BinaryHeap<_> = logs.iter().enumerate().map(place).collect();
        while self.shared.total.load(Ordering::Relaxed) > most_bytes {
            let Some((_, order, i)) = by_size.pop() else { return false };
            match logs[i].shrink() {
                Ok(true) => by_size.push((bytes(&logs[i]), order, i)),
                Ok(false) => {}
                Err(error) => tracing::warn!(log = &*logs[i].name, %error, "cannot make room"),
            }
        }
        true
    }

    /// Drops logs, unused for longest first. One that is held goes for bytes alone, and last. How many there are that
    /// cannot go for the number of logs.
    fn remove_unused(&self, logs: &[Arc<Log>], most_bytes: u64, most_logs: usize) -> usize {
        let candidate = |(place, log): (usize, &Arc<Log>)| {
            let held = self.held().contains_key(&*log.name);
            Candidate { held, used: log.used.load(Ordering::Relaxed), place }
        };
        let mut candidates: Vec<Candidate> = logs.iter().enumerate().map(candidate).collect();
        candidates.sort_unstable();
        let mut stay = candidates.iter().filter(|candidate| candidate.held).count();
        for Candidate { held, used, place } in candidates {
            let log = &logs[place];
            let bytes_fit = self.shared.total.load(Ordering::Relaxed) <= most_bytes;
            let logs_fit = self.count.load(Ordering::Relaxed) <= most_logs;
            if bytes_fit && (logs_fit || held) {
                break;
            }
            // It is in use again.
            if !held
                && (log.used.load(Ordering::Relaxed) != used
                    || self.held().contains_key(&*log.name))
            {
                continue;
            }
            if let Err(error) = self.remove(log) {
                tracing::warn!(log = &*log.name, %error, "cannot make room");
                stay += usize::from(!held);
            }
        }
        stay
    }
}

/// Makes room if there is too much, beside whatever else is done, once at a time.
pub(super) fn make(inner: &Arc<Inner>) {
    if !inner.is_over() || inner.making_room.swap(true, Ordering::AcqRel) {
        return;
    }
    let inner = inner.clone();
    tokio::task::spawn_blocking(move || {
        inner.make_room();
        inner.making_room.store(false, Ordering::Release);
    });
}
