//! Keys and queues in memory: for tests of the layers above, and the second driver that `conformance` is tried on.
//! Nothing here outlives the process.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::{
    Batch, Entry, KeysAndQueues, Lease, Message, QueueStats, Revision, StoreError, StoreFuture,
};
use crate::pool::unix_ms;

#[derive(Debug, Clone)]
struct Queued {
    queue: String,
    body: Bytes,
    sent_ms: u64,
    due_ms: u64,
    receives: u32,
    /// Of the lease that holds it, until `due_ms`.
    lease: Option<u64>,
    dead: bool,
}

#[derive(Debug, Default)]
struct State {
    revision: Revision,
    entries: BTreeMap<String, (Bytes, Revision)>,
    next_id: u64,
    messages: BTreeMap<u64, Queued>,
}

/// See the module's words.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

impl MemoryStore {
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now() -> u64 {
    unix_ms(SystemTime::now())
}

fn after(delay: Duration) -> u64 {
    now().saturating_add(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX))
}

impl State {
    fn held(&self, lease: &Lease) -> Result<(), StoreError> {
        let held = self
            .messages
            .get(&lease.id)
            .is_some_and(|m| m.queue == lease.queue && m.lease == Some(lease.lease) && !m.dead);
        let lost = || StoreError::LeaseLost { queue: lease.queue.clone(), id: lease.id };
        held.then_some(()).ok_or_else(lost)
    }

    fn commit(&mut self, batch: Batch) -> Result<Revision, StoreError> {
        for (key, revision) in &batch.expect {
            if self.entries.get(key).map(|e| e.1) != *revision {
                return Err(StoreError::Conflict { key: key.clone() });
            }
        }
        let retried = batch.retry.iter().map(|r| &r.0);
        for lease in batch.acknowledge.iter().chain(retried).chain(&batch.bury) {
            self.held(lease)?;
        }
        self.revision += 1;
        let revision = self.revision;
        for key in batch.delete {
            self.entries.remove(&key);
        }
        for (key, value) in batch.put {
            self.entries.insert(key, (value, revision));
        }
        for (queue, body, delay) in batch.send {
            self.next_id += 1;
            let message = Queued {
                queue,
                body,
                sent_ms: now(),
                due_ms: after(delay),
                receives: 0,
                lease: None,
                dead: false,
            };
            self.messages.insert(self.next_id, message);
        }
        for lease in batch.acknowledge {
            self.messages.remove(&lease.id);
        }
        for (lease, delay, body) in batch.retry {
            if let Some(message) = self.messages.get_mut(&lease.id) {
                message.lease = None;
                message.due_ms = after(delay);
                if let Some(body) = body {
                    message.body = body;
                }
            }
        }
        for lease in batch.bury {
            if let Some(message) = self.messages.get_mut(&lease.id) {
                message.dead = true;
            }
        }
        Ok(revision)
    }

    fn lease(&mut self, queue: &str, most: usize, hold: Duration) -> Vec<Message> {
        let now = now();
        let due = self
            .messages
            .iter()
            .filter(|(_, m)| m.queue == queue && !m.dead && m.due_ms <= now)
            .map(|(id, m)| (m.due_ms, *id));
        let mut due: Vec<(u64, u64)> = due.collect();
        due.sort_unstable();
        let mut leased = Vec::new();
        for (_, id) in due.into_iter().take(most) {
            self.next_id += 1;
            let lease = self.next_id;
            if let Some(message) = self.messages.get_mut(&id) {
                message.lease = Some(lease);
                message.due_ms = after(hold);
                message.receives += 1;
            }
            leased.extend(self.message(id));
        }
        leased
    }

    fn extend(&mut self, leases: Vec<Lease>, hold: Duration) -> Result<(), StoreError> {
        let mut result = Ok(());
        for lease in leases {
            match self.held(&lease) {
                Ok(()) => {
                    if let Some(message) = self.messages.get_mut(&lease.id) {
                        message.due_ms = after(hold);
                    }
                }
                Err(lost) => result = result.and(Err(lost)),
            }
        }
        result
    }

    fn stats(&self, queue: &str) -> QueueStats {
        let mut stats = QueueStats::default();
        for message in self.messages.values().filter(|m| m.queue == queue) {
            if message.dead {
                stats.dead += 1;
                continue;
            }
            stats.depth += 1;
            let oldest = stats.oldest_sent_ms.unwrap_or(u64::MAX);
            stats.oldest_sent_ms = Some(oldest.min(message.sent_ms));
            let due = stats.next_due_ms.unwrap_or(u64::MAX);
            stats.next_due_ms = Some(due.min(message.due_ms));
        }
        stats
    }

    fn message(&self, id: u64) -> Option<Message> {
        let m = self.messages.get(&id)?;
        Some(Message {
            queue: m.queue.clone(),
            id,
            body: m.body.clone(),
            sent_ms: m.sent_ms,
            receives: m.receives,
            lease: m.lease.unwrap_or_default(),
        })
    }
}

impl KeysAndQueues for MemoryStore {
    fn get<'a>(&'a self, key: &'a str) -> StoreFuture<'a, Option<Entry>> {
        Box::pin(async move {
            let found = self.state().entries.get(key).cloned();
            Ok(found.map(|(value, revision)| Entry { key: key.into(), value, revision }))
        })
    }

    fn scan<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<Entry>> {
        Box::pin(async move {
            let state = self.state();
            let from = after.filter(|after| *after > prefix).unwrap_or(prefix);
            let found = state
                .entries
                .range::<str, _>((Bound::Included(from), Bound::Unbounded))
                .take_while(|(key, _)| key.starts_with(prefix))
                .filter(|(key, _)| after.is_none_or(|after| key.as_str() > after))
                .take(limit)
                .map(|(key, (value, revision))| Entry {
                    key: key.clone(),
                    value: value.clone(),
                    revision: *revision,
                })
                .collect();
            Ok(found)
        })
    }

    fn commit(&self, batch: Batch) -> StoreFuture<'_, Revision> {
        Box::pin(async move { self.state().commit(batch) })
    }

    fn lease<'a>(
        &'a self,
        queue: &'a str,
        most: usize,
        hold: Duration,
    ) -> StoreFuture<'a, Vec<Message>> {
        Box::pin(async move { Ok(self.state().lease(queue, most, hold)) })
    }

    fn extend(&self, leases: Vec<Lease>, hold: Duration) -> StoreFuture<'_, ()> {
        Box::pin(async move { self.state().extend(leases, hold) })
    }

    fn queue_stats<'a>(&'a self, queue: &'a str) -> StoreFuture<'a, QueueStats> {
        Box::pin(async move { Ok(self.state().stats(queue)) })
    }

    fn queues<'a>(&'a self, prefix: &'a str) -> StoreFuture<'a, Vec<String>> {
        Box::pin(async move {
            let state = self.state();
            let live = state.messages.values().filter(|m| !m.dead && m.queue.starts_with(prefix));
            let names: BTreeSet<String> = live.map(|m| m.queue.clone()).collect();
            Ok(names.into_iter().collect())
        })
    }

    fn dead<'a>(&'a self, queue: &'a str, limit: usize) -> StoreFuture<'a, Vec<Message>> {
        Box::pin(async move {
            let state = self.state();
            let dead = state.messages.iter().filter(|(_, m)| m.dead && m.queue == queue);
            Ok(dead.take(limit).filter_map(|(id, _)| state.message(*id)).collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance;

    conformance::keys_and_queues!(|| (MemoryStore::new(), ()));
}
