//! Logs in memory: for tests of the layers above, and the second driver that `conformance` is tried on. Nothing here
//! outlives the process.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;

use super::{Durability, LogInfo, Logs, Record, StoreError, StoreFuture};
use crate::pool::unix_ms;

#[derive(Debug, Default)]
struct Log {
    created_ms: u64,
    next: u64,
    records: Vec<Record>,
}

#[derive(Debug, Default)]
struct State {
    logs: BTreeMap<String, Log>,
    /// Sequences go on where an earlier log of the same name ended.
    ended: BTreeMap<String, u64>,
    /// Appends fail with [`StoreError::Full`] while set.
    full: bool,
}

/// See the module's words.
#[derive(Debug, Default)]
pub struct MemoryLogs {
    state: Mutex<State>,
}

impl MemoryLogs {
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes every append fail as on a full disk, or succeed again.
    pub fn set_full(&self, full: bool) {
        self.state().full = full;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Logs for MemoryLogs {
    fn append<'a>(
        &'a self,
        log: &'a str,
        records: Vec<(u64, Bytes)>,
        _durability: Durability,
    ) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            let mut state = self.state();
            if state.full {
                return Err(StoreError::Full { path: "memory".into() });
            }
            if !state.logs.contains_key(log) {
                let next = state.ended.get(log).copied().unwrap_or_default();
                let new = Log { created_ms: unix_ms(SystemTime::now()), next, records: Vec::new() };
                state.logs.insert(log.into(), new);
            }
            if let Some(log) = state.logs.get_mut(log) {
                for (time_ms, body) in records {
                    log.records.push(Record { sequence: log.next, time_ms, body });
                    log.next += 1;
                }
            }
            Ok(())
        })
    }

    fn read<'a>(
        &'a self,
        log: &'a str,
        from: u64,
        limit: usize,
        most_bytes: usize,
    ) -> StoreFuture<'a, Vec<Record>> {
        let state = self.state();
        let mut found = Vec::new();
        if let Some(log) = state.logs.get(log) {
            let start = log.records.partition_point(|r| r.sequence < from);
            let mut bytes = 0;
            for record in log.records[start..].iter().take(limit) {
                if bytes >= most_bytes {
                    break;
                }
                bytes += record.body.len();
                found.push(record.clone());
            }
        }
        Box::pin(async move { Ok(found) })
    }

    fn trim<'a>(&'a self, log: &'a str, before_ms: u64) -> StoreFuture<'a, ()> {
        let mut state = self.state();
        if let Some(kept) = state.logs.get_mut(log) {
            kept.records.retain(|r| r.time_ms >= before_ms);
            if kept.records.is_empty() {
                let next = kept.next;
                state.logs.remove(log);
                state.ended.insert(log.into(), next);
            }
        }
        Box::pin(async { Ok(()) })
    }

    fn remove<'a>(&'a self, log: &'a str) -> StoreFuture<'a, ()> {
        let mut state = self.state();
        if let Some(removed) = state.logs.remove(log) {
            state.ended.insert(log.into(), removed.next);
        }
        Box::pin(async { Ok(()) })
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<LogInfo>> {
        let state = self.state();
        let found = state
            .logs
            .range(prefix.to_owned()..)
            .take_while(|(name, _)| name.starts_with(prefix))
            .filter(|(name, _)| after.is_none_or(|after| name.as_str() > after))
            .take(limit)
            .map(|(name, log)| LogInfo {
                log: name.clone(),
                created_ms: log.created_ms,
                first_record_ms: log.records.first().map(|r| r.time_ms),
                last_record_ms: log.records.last().map(|r| r.time_ms),
                bytes: log.records.iter().map(|r| r.body.len() as u64).sum(),
            })
            .collect();
        Box::pin(async move { Ok(found) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn sequences_are_never_used_again() {
        let logs = MemoryLogs::new();
        let record = |ms| vec![(ms, Bytes::from_static(b"x"))];
        logs.append("a", record(1), Durability::Written).await.unwrap();
        logs.append("a", record(5), Durability::Durable).await.unwrap();
        logs.append("b", Vec::new(), Durability::Written).await.unwrap();
        assert_eq!(logs.list("", None, 10).await.unwrap().len(), 2, "an empty append makes a log");
        assert_eq!(logs.list("", Some("a"), 10).await.unwrap()[0].log, "b");
        logs.trim("a", 5).await.unwrap();
        assert_eq!(logs.read("a", 0, 10, 100).await.unwrap()[0].sequence, 1);
        logs.remove("a").await.unwrap();
        logs.append("a", record(9), Durability::Written).await.unwrap();
        assert_eq!(logs.read("a", 0, 10, 100).await.unwrap()[0].sequence, 2);
        logs.set_full(true);
        logs.append("a", record(9), Durability::Written).await.unwrap_err();
    }
}
