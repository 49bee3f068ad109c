//! Log groups: their settings, their streams in the store, and the bounds on what is kept.
//!
//! A stream is a log of the store, named `GROUP|STREAM`: a group's name has no `|`, so the first one divides them. The
//! group's settings are a record at `log-group/GROUP`.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::platform::LogFormat;
use super::stream::{HOLD, StreamSink};
use crate::store::{Batch, Durability, KeysAndQueues, LogInfo, Logs, Revision, StoreError};

const PREFIX: &str = "log-group/";
/// Groups that are remembered to have a record. Beyond, all are forgotten, and each is looked up once more.
const KNOWN: usize = 10_000;
/// Logs that one look at the store brings.
const PAGE: usize = 1000;
/// A stream that was written to within this time counts as live, and is cut rather than removed.
const LIVE_MS: u64 = 60_000;
const DAY_MS: u64 = 86_400_000;

/// What is kept at most, whatever the groups' own retention.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of all events; [`Groups::trim`] drops the oldest above it.
    pub total_bytes: u64,
    /// Also of groups that have no retention.
    pub age: Option<Duration>,
}

impl Default for Limits {
    /// 10 GiB, of any age.
    fn default() -> Self {
        Self { total_bytes: 10 << 30, age: None }
    }
}

/// A group's settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRecord {
    /// Milliseconds since the epoch.
    pub created_ms: u64,
    #[serde(default)]
    pub retention_days: Option<u32>,
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// See the module's words.
#[derive(Debug)]
pub struct Groups {
    pub store: Arc<dyn KeysAndQueues>,
    pub logs: Arc<dyn Logs>,
    pub limits: Limits,
    /// Groups that have a record, as far as this process saw.
    known: Mutex<HashSet<String>>,
    /// Bytes at the last [`Self::trim`], and appended since.
    stored: AtomicU64,
    failures: AtomicU64,
    failing: AtomicBool,
    /// Sandboxes with events that the store does not have yet.
    held: AtomicUsize,
    /// Rung when the bound on bytes is passed: time for [`Self::trim`].
    pub crowded: Notify,
}

impl Groups {
    pub fn new(store: Arc<dyn KeysAndQueues>, logs: Arc<dyn Logs>, limits: Limits) -> Self {
        Self {
            store,
            logs,
            limits,
            known: Mutex::default(),
            stored: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            failing: AtomicBool::new(false),
            held: AtomicUsize::new(0),
            crowded: Notify::new(),
        }
    }

    /// A sandbox's stream. Nothing happens in the store before its first event.
    pub fn open(self: &Arc<Self>, group: &str, stream: &str, format: LogFormat) -> StreamSink {
        StreamSink::new(self.clone(), group, stream, format)
    }

    /// Name in the store of a group's stream.
    pub fn log_name(group: &str, stream: &str) -> String {
        format!("{group}|{stream}")
    }

    /// Group and stream of a log of the store.
    pub fn split(log: &str) -> Option<(&str, &str)> {
        log.split_once('|')
    }

    /// Appends of sandboxes that the store refused.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Bytes that are kept, about: as of the last [`Self::trim`], and appended since.
    pub fn stored_bytes(&self) -> u64 {
        self.stored.load(Ordering::Relaxed)
    }

    /// Waits until the store has every event from before now, and tells when that was, in milliseconds since the epoch;
    /// `None` where nothing is held back. Who follows many streams by time would pass over an event that comes after
    /// later ones of other streams.
    pub(super) async fn settle(&self) -> Option<u64> {
        if self.held.load(Ordering::Acquire) == 0 {
            return None;
        }
        let now_ms = crate::pool::unix_ms(SystemTime::now());
        tokio::time::sleep(HOLD + Duration::from_millis(50)).await;
        Some(now_ms)
    }

    pub(super) fn hold(&self, held: bool) {
        if held {
            self.held.fetch_add(1, Ordering::AcqRel);
        } else {
            self.held.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Appends events to a sandbox's stream, and makes its group where there is none.
    pub(super) async fn append(
        &self,
        group: &str,
        log: &str,
        records: Vec<(u64, Bytes)>,
        durability: Durability,
    ) -> Result<(), StoreError> {
        let bytes: u64 = records.iter().map(|(_, body)| body.len() as u64).sum();
        let result = self.admit(group, log, records, bytes, durability).await;
        match &result {
            Ok(()) => {
                if self.failing.load(Ordering::Relaxed)
                    && self.failing.swap(false, Ordering::Relaxed)
                {
                    tracing::info!("log events are stored again");
                }
            }
            Err(error) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                if !self.failing.swap(true, Ordering::Relaxed) {
                    tracing::error!(%error, log, "log events are lost until the store takes them again");
                }
            }
        }
        result
    }

    async fn admit(
        &self,
        group: &str,
        log: &str,
        records: Vec<(u64, Bytes)>,
        bytes: u64,
        durability: Durability,
    ) -> Result<(), StoreError> {
        let before = self.stored.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > self.limits.total_bytes {
            self.crowded.notify_one();
            // An eighth more, so that what comes while the oldest is dropped has room.
            if before + bytes > self.limits.total_bytes + self.limits.total_bytes / 8 {
                self.stored.fetch_sub(bytes, Ordering::Relaxed);
                return Err(StoreError::Full { path: "logs".into() });
            }
        }
        if !self.is_known(group)
            && let Err(error) = self.ensure(group, crate::pool::unix_ms(SystemTime::now())).await
        {
            tracing::warn!(%error, group, "a log group could not be recorded");
        }
        self.logs.append(log, records, durability).await
    }

    fn is_known(&self, group: &str) -> bool {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(group)
    }

    fn know(&self, group: &str, known: bool) {
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known {
            if all.len() >= KNOWN {
                all.clear();
            }
            all.insert(group.to_owned());
        } else {
            all.remove(group);
        }
    }

    /// Makes a group unless it is there; whether it was made.
    ///
    /// # Errors
    /// The store's.
    pub async fn ensure(&self, group: &str, now_ms: u64) -> Result<bool, StoreError> {
        let record = GroupRecord { created_ms: now_ms, ..GroupRecord::default() };
        self.create(group, &record).await
    }

    /// Records a group unless it is there; whether it was made.
    ///
    /// # Errors
    /// The store's.
    pub async fn create(&self, group: &str, record: &GroupRecord) -> Result<bool, StoreError> {
        let key = format!("{PREFIX}{group}");
        let batch = Batch {
            expect: vec![(key.clone(), None)],
            put: vec![(key, encode(group, record)?)],
            ..Batch::default()
        };
        let made = match self.store.commit(batch).await {
            Ok(_) => true,
            Err(StoreError::Conflict { .. }) => false,
            Err(error) => return Err(error),
        };
        self.know(group, true);
        Ok(made)
    }

    /// A group's settings.
    ///
    /// # Errors
    /// The store's.
    pub async fn get(&self, group: &str) -> Result<Option<GroupRecord>, StoreError> {
        Ok(self.entry(group).await?.map(|(record, _)| record))
    }

    async fn entry(&self, group: &str) -> Result<Option<(GroupRecord, Revision)>, StoreError> {
        let found = self.store.get(&format!("{PREFIX}{group}")).await?;
        found.map(|entry| Ok((decode(group, &entry.value)?, entry.revision))).transpose()
    }

    /// Changes a group's settings; `None` where there is no such group.
    ///
    /// # Errors
    /// The store's.
    pub async fn update(
        &self,
        group: &str,
        change: impl Fn(&mut GroupRecord),
    ) -> Result<Option<()>, StoreError> {
        let key = format!("{PREFIX}{group}");
        loop {
            let Some((mut record, revision)) = self.entry(group).await? else { return Ok(None) };
            change(&mut record);
            let batch = Batch {
                expect: vec![(key.clone(), Some(revision))],
                put: vec![(key.clone(), encode(group, &record)?)],
                ..Batch::default()
            };
            match self.store.commit(batch).await {
                Ok(_) => return Ok(Some(())),
                Err(StoreError::Conflict { .. }) => {} // read again
                Err(error) => return Err(error),
            }
        }
    }

    /// Removes a group with all its streams; `None` where there is no such group.
    ///
    /// # Errors
    /// The store's.
    pub async fn delete(&self, group: &str) -> Result<Option<()>, StoreError> {
        if self.entry(group).await?.is_none() {
            return Ok(None);
        }
        for info in self.streams(group, "").await? {
            self.logs.remove(&info.log).await?;
        }
        let batch = Batch { delete: vec![format!("{PREFIX}{group}")], ..Batch::default() };
        self.store.commit(batch).await?;
        self.know(group, false);
        Ok(Some(()))
    }

    /// Groups in the order of their names, after `after`.
    ///
    /// # Errors
    /// The store's.
    pub async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, GroupRecord)>, StoreError> {
        let prefix = format!("{PREFIX}{prefix}");
        let after = after.map(|name| format!("{PREFIX}{name}"));
        let entries = self.store.scan(&prefix, after.as_deref(), limit).await?;
        let named = entries.into_iter().map(|entry| {
            let name = entry.key[PREFIX.len()..].to_owned();
            let record = decode(&name, &entry.value)?;
            Ok((name, record))
        });
        named.collect()
    }

    /// A group's streams in the order of their names.
    ///
    /// # Errors
    /// The store's.
    pub async fn streams(&self, group: &str, prefix: &str) -> Result<Vec<LogInfo>, StoreError> {
        self.all(&Self::log_name(group, prefix)).await
    }

    /// One stream.
    ///
    /// # Errors
    /// The store's.
    pub async fn stream(&self, group: &str, stream: &str) -> Result<Option<LogInfo>, StoreError> {
        self.stream_of(&Self::log_name(group, stream)).await
    }

    async fn stream_of(&self, log: &str) -> Result<Option<LogInfo>, StoreError> {
        // The name itself is the first that begins with it.
        let found = self.logs.list(log, None, 1).await?;
        Ok(found.into_iter().find(|info| info.log == log))
    }

    async fn all(&self, prefix: &str) -> Result<Vec<LogInfo>, StoreError> {
        let mut all: Vec<LogInfo> = Vec::new();
        loop {
            let after = all.last().map(|info| info.log.clone());
            let page = self.logs.list(prefix, after.as_deref(), PAGE).await?;
            let last = page.len() < PAGE;
            all.extend(page);
            if last {
                return Ok(all);
            }
        }
    }

    /// Drops events that are past their group's retention, and the oldest above the bound on bytes. For the server's
    /// housekeeping: every minute or so, and whenever [`Self::crowded`] rings.
    ///
    /// # Errors
    /// The store's; what was dropped by then stays dropped.
    pub async fn trim(&self, now_ms: u64) -> Result<(), StoreError> {
        let mut retention: BTreeMap<String, Option<u32>> = BTreeMap::new();
        let oldest = self
            .limits
            .age
            .map(|age| now_ms.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)));
        // A page at a time: there may be very many.
        let mut page = self.logs.list("", None, PAGE).await?;
        while let Some(last) = page.last().map(|info| info.log.clone()) {
            for info in page {
                let Some((group, _)) = Self::split(&info.log) else { continue };
                if !retention.contains_key(group) {
                    let record = self.get(group).await?;
                    if record.is_none() && self.stream_of(&info.log).await?.is_some() {
                        // Its record could not be written when the stream began.
                        self.ensure(group, info.created_ms).await?;
                    }
                    retention.insert(group.to_owned(), record.and_then(|r| r.retention_days));
                }
                let days = retention.get(group).copied().flatten();
                let kept = days.map(|days| now_ms.saturating_sub(u64::from(days) * DAY_MS));
                if let Some(before) = kept.max(oldest)
                    && info.first_record_ms.unwrap_or(info.created_ms) < before
                {
                    self.logs.trim(&info.log, before).await?;
                }
            }
            page = self.logs.list("", Some(&last), PAGE).await?;
        }
        let mut total = self.bytes().await?;
        if total > self.limits.total_bytes {
            let mut logs = self.all("").await?;
            let target = self.limits.total_bytes - self.limits.total_bytes / 10;
            let last = |info: &LogInfo| info.last_record_ms.unwrap_or(info.created_ms);
            logs.sort_by_key(last);
            let (old, live): (Vec<_>, Vec<_>) =
                logs.into_iter().partition(|info| last(info) < now_ms.saturating_sub(LIVE_MS));
            for info in old {
                if total <= target {
                    break;
                }
                self.logs.remove(&info.log).await?;
                total = total.saturating_sub(info.bytes);
            }
            if total > target {
                total = self.halve(live, total, target).await?;
            }
            tracing::warn!(bytes = total, "log events over the bound were dropped, oldest first");
        }
        self.stored.store(total, Ordering::Relaxed);
        Ok(())
    }

    /// Bytes of all streams.
    async fn bytes(&self) -> Result<u64, StoreError> {
        let mut total = 0;
        let mut page = self.logs.list("", None, PAGE).await?;
        while let Some(last) = page.last() {
            total += page.iter().map(|info| info.bytes).sum::<u64>();
            page = self.logs.list("", Some(&last.log), PAGE).await?;
        }
        Ok(total)
    }

    /// Cuts the older half (by time) off streams that are written to now, the largest first, until they fit.
    async fn halve(
        &self,
        mut live: Vec<LogInfo>,
        mut total: u64,
        target: u64,
    ) -> Result<u64, StoreError> {
        for _round in 0..16 {
            live.sort_by_key(|info| std::cmp::Reverse(info.bytes));
            let mut left = Vec::with_capacity(live.len());
            for info in std::mem::take(&mut live) {
                if total <= target {
                    return Ok(total);
                }
                let (Some(first), Some(last)) = (info.first_record_ms, info.last_record_ms) else {
                    continue;
                };
                let middle = first + (last.saturating_sub(first)) / 2 + 1;
                self.logs.trim(&info.log, middle).await?;
                let now = self.stream_of(&info.log).await?;
                let bytes = now.as_ref().map_or(0, |now| now.bytes);
                total = total.saturating_sub(info.bytes.saturating_sub(bytes));
                left.extend(now);
            }
            live = left;
        }
        Ok(total)
    }
}

fn encode(group: &str, record: &GroupRecord) -> Result<Bytes, StoreError> {
    serde_json::to_vec(record).map(Bytes::from).map_err(|error| damaged(group, &error))
}

fn decode(group: &str, bytes: &[u8]) -> Result<GroupRecord, StoreError> {
    serde_json::from_slice(bytes).map_err(|error| damaged(group, &error))
}

fn damaged(group: &str, error: &serde_json::Error) -> StoreError {
    let what = format!("the record of log group `{group}`: {error}");
    StoreError::Damaged { path: "kennel.db".into(), what }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;
    use crate::store::memory_logs::MemoryLogs;

    fn groups(total_bytes: u64) -> Groups {
        let limits = Limits { total_bytes, age: None };
        Groups::new(Arc::new(MemoryStore::new()), Arc::new(MemoryLogs::new()), limits)
    }

    async fn put(groups: &Groups, stream: &str, times: &[u64]) {
        let records = times.iter().map(|ms| (*ms, Bytes::from_static(b"0123456789"))).collect();
        let log = Groups::log_name("g", stream);
        groups.append("g", &log, records, Durability::Written).await.unwrap();
    }

    async fn left(groups: &Groups) -> Vec<(String, u64)> {
        let all = groups.streams("g", "").await.unwrap();
        all.into_iter().map(|info| (info.log[2..].to_owned(), info.bytes)).collect()
    }

    #[tokio::test(flavor = "current_thread")]
    async fn retention_drops_what_is_older() {
        let groups = groups(1 << 20);
        let now = 10 * DAY_MS;
        put(&groups, "a", &[DAY_MS, 9 * DAY_MS + 1]).await;
        put(&groups, "b", &[DAY_MS]).await;
        groups.trim(now).await.unwrap();
        assert_eq!(left(&groups).await, [("a".into(), 20), ("b".into(), 10)], "no retention");
        groups.update("g", |group| group.retention_days = Some(1)).await.unwrap().unwrap();
        groups.trim(now).await.unwrap();
        assert_eq!(left(&groups).await, [("a".into(), 10)]);
        assert_eq!(groups.stored_bytes(), 10);
        assert!(groups.get("g").await.unwrap().is_some(), "the group stays");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_bound_on_bytes_drops_the_oldest_first() {
        let groups = groups(100);
        let now = 10 * DAY_MS;
        put(&groups, "oldest", &[1, 2, 3]).await;
        put(&groups, "older", &[100, 101, 102]).await;
        put(&groups, "live", &[now - 100, now - 50, now - 20, now - 1]).await;
        let full =
            groups.append("g", "g|x", vec![(1, Bytes::from(vec![0; 99]))], Durability::Written);
        assert!(matches!(full.await, Err(StoreError::Full { .. })));
        assert_eq!(groups.failures(), 1);
        put(&groups, "live", &[now]).await;
        groups.trim(now).await.unwrap();
        assert_eq!(left(&groups).await, [("live".into(), 50), ("older".into(), 30)]);
        assert_eq!(groups.stored_bytes(), 80);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_live_stream_over_the_bound_is_cut() {
        let groups = groups(100);
        let now = 10 * DAY_MS;
        put(&groups, "live", &[now - 90, now - 80, now - 70, now - 60, now - 50, now - 40]).await;
        put(&groups, "live", &[now - 30, now - 20, now - 10, now - 5, now]).await;
        groups.trim(now).await.unwrap();
        assert_eq!(left(&groups).await, [("live".into(), 60)]);
    }

    #[test]
    fn names_can_be_taken_apart_again() {
        let log = Groups::log_name("/aws/lambda/f", "2026/01/31/[$LATEST]0|1");
        assert_eq!(Groups::split(&log), Some(("/aws/lambda/f", "2026/01/31/[$LATEST]0|1")));
    }
}
