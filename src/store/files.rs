//! Logs as files, under `DATA/logs`: a folder for each log (`name`), in it segments that are only ever appended to
//! (`segment`), each named by its first record's sequence.
//!
//! - An append is one `write(2)` where it is asked for, some µs. A durable one waits for `fdatasync(2)` on tokio's
//!   blocking threads; those that wait at the same moment share one.
//! - What a crash leaves at the end of a segment and is no whole record is cut off when the log is first used again.
//! - Bytes on the disk are bounded ([`Limits`]): a log by dropping its own oldest segments, all together by dropping
//!   those of the largest logs first, then whole logs that were unused for longest.
//! - So is the number of logs, as each has a folder, and a few hundred bytes of memory: those that were unused for
//!   longest go, but none that is held.
//! - Sequences are microseconds since the epoch when a log is made or taken up again, and count from there.
//!
//! One process has the folder: the lock of the data directory is [`super::sqlite`]'s, so that is opened first.

#![forbid(unsafe_code)]

mod log;
mod name;
mod room;
mod segment;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::ops::Bound;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use bytes::Bytes;

use self::log::{Log, Shared};
use super::{Durability, Held, LogInfo, Logs, Record, StoreError, StoreFuture, io_error};

/// Files that are open for writing; the ones unused for longest are closed.
const OPEN_FILES: usize = 256;

/// How much may be kept. Overhead, 28 bytes a record, is counted; what a file system adds is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one log. Kept are the newest; one append may be larger, and is kept.
    pub log_bytes: u64,
    /// Bytes of all logs; exceeded for a moment while room is made.
    pub total_bytes: u64,
    /// Logs; exceeded for a moment while room is made, and by as many as are held.
    pub logs: usize,
    /// Bytes of a segment, at most a quarter of a log's: what is dropped at once.
    pub segment_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { log_bytes: 64 << 20, total_bytes: 2 << 30, logs: 20_000, segment_bytes: 4 << 20 }
    }
}

/// See the module's words.
#[derive(Debug)]
pub struct FileLogs {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    limits: Limits,
    shared: Arc<Shared>,
    /// Never held while a log's own lock is waited for; the other way round it may be.
    logs: RwLock<BTreeMap<Arc<str>, Arc<Log>>>,
    /// How many there are.
    count: AtomicUsize,
    /// How many there may be before room is made.
    bound: AtomicUsize,
    /// Logs that someone holds, and how many do.
    held: Mutex<HashMap<Arc<str>, usize>>,
    /// Logs with an open file.
    open: Mutex<Vec<Weak<Log>>>,
    /// Counts uses.
    clock: AtomicU64,
    /// Above every sequence of logs that were removed.
    floor: AtomicU64,
    making_room: AtomicBool,
}

impl FileLogs {
    /// Opens the logs in `root`, and makes it, mode 0700. Reads names and sizes, no records.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Full`].
    pub fn open(root: &Path, limits: Limits) -> Result<Self, StoreError> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(root);
        made.map_err(io_error("create", root))?;
        let mut logs = BTreeMap::new();
        let shared = Arc::new(Shared { root: root.into(), total: AtomicU64::new(0) });
        find(root, "", &shared, &mut logs)?;
        let clock = logs.values().map(|log| log.used.load(Ordering::Relaxed)).max();
        let segment_bytes = limits.segment_bytes.min(limits.log_bytes / 4);
        let inner = Inner {
            limits: Limits { segment_bytes, ..limits },
            shared,
            count: AtomicUsize::new(logs.len()),
            bound: AtomicUsize::new(limits.logs),
            logs: RwLock::new(logs),
            held: Mutex::default(),
            open: Mutex::default(),
            clock: AtomicU64::new(clock.unwrap_or_default()),
            floor: AtomicU64::new(0),
            making_room: AtomicBool::new(false),
        };
        if inner.is_over() {
            inner.make_room();
        }
        Ok(Self { inner: Arc::new(inner) })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = self.inner.clone();
        tokio::task::spawn_blocking(move || work(&inner)).await.map_err(|_| StoreError::Closed)?
    }
}

/// Fills in the logs of a folder; `before` is what the folders above have of the name.
fn find(
    folder: &Path,
    before: &str,
    shared: &Arc<Shared>,
    logs: &mut BTreeMap<Arc<str>, Arc<Log>>,
) -> Result<(), StoreError> {
    let read = |e| io_error("read", folder)(e);
    for entry in fs::read_dir(folder).map_err(read)? {
        let entry = entry.map_err(read)?;
        let file = entry.file_name();
        let Some(part) = file.to_str() else { continue };
        if !entry.file_type().map_err(read)?.is_dir() {
            continue;
        }
        if let Some(part) = part.strip_suffix(name::MORE) {
            find(&entry.path(), &format!("{before}{part}"), shared, logs)?;
        } else if let Some(name) = name::log(&format!("{before}{part}"))
            // Only what this driver made: a name has one folder.
            && name::folder(&name).is_some_and(|own| shared.root.join(own) == entry.path())
            && let Some(log) = Log::found(name.into(), &entry.path(), shared.clone())?
        {
            logs.insert(log.name.clone(), Arc::new(log));
        }
    }
    Ok(())
}

impl Inner {
    fn log(&self, name: &str) -> Option<Arc<Log>> {
        self.logs.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn log_or_new(&self, name: &str) -> Result<Arc<Log>, StoreError> {
        if let Some(log) = self.log(name) {
            return Ok(log);
        }
        if name.is_empty() || name.len() > name::NAME_BYTES {
            let what =
                format!("a log's name has 1 to {} bytes, not {}", name::NAME_BYTES, name.len());
            let error = io::Error::new(io::ErrorKind::InvalidFilename, what);
            return Err(io_error("create a log in", &self.shared.root)(error));
        }
        let mut logs = self.logs.write().unwrap_or_else(PoisonError::into_inner);
        let name: Arc<str> = name.into();
        let floor = self.floor.load(Ordering::Relaxed);
        let new = || Arc::new(Log::new(name.clone(), floor, self.shared.clone()));
        let log = logs.entry(name.clone()).or_insert_with(new).clone();
        self.count.store(logs.len(), Ordering::Relaxed);
        Ok(log)
    }

    /// Appends; the log, and the sequence after the last record.
    fn append(&self, name: &str, records: &[(u64, Bytes)]) -> Result<(Arc<Log>, u64), StoreError> {
        loop {
            let log = self.log_or_new(name)?;
            log.used.store(self.clock.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            match log.append(records, &self.limits, || self.opened(&log)) {
                Ok(Some(next)) => return Ok((log, next)),
                Ok(None) => {} // removed in between
                Err(error) => {
                    let _ = log.remove_nothing(|next| self.forget(&log, next)); // the first error is told
                    return Err(error);
                }
            }
        }
    }

    /// Closes some files if there are too many.
    fn opened(&self, log: &Arc<Log>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.push(Arc::downgrade(log));
        if open.len() <= OPEN_FILES {
            return;
        }
        let mut logs: Vec<Arc<Log>> = open.iter().filter_map(Weak::upgrade).collect();
        logs.sort_by_key(|log| log.used.load(Ordering::Relaxed));
        logs.dedup_by(|a, b| Arc::ptr_eq(a, b));
        // One that is being written to stays.
        let mut wanted = OPEN_FILES / 8;
        logs.retain(|log| {
            let closed = wanted > 0 && log.close();
            wanted -= usize::from(closed);
            !closed
        });
        *open = logs.iter().map(Arc::downgrade).collect();
    }

    fn remove(&self, log: &Arc<Log>) -> Result<(), StoreError> {
        log.remove(|next| self.forget(log, next))
    }

    fn forget(&self, log: &Log, next: u64) {
        self.floor.fetch_max(next, Ordering::Relaxed);
        let mut logs = self.logs.write().unwrap_or_else(PoisonError::into_inner);
        logs.remove(&log.name);
        self.count.store(logs.len(), Ordering::Relaxed);
    }
}

/// Waits until the log is on the disk up to `next`.
async fn sync(log: Arc<Log>, next: u64) -> Result<(), StoreError> {
    let mut synced = log.synced().lock_owned().await;
    match synced.has(next) {
        Some(true) => Ok(()),
        Some(false) => {
            let error = io::Error::other("the sync that was shared failed");
            Err(io_error("sync", &log.folder())(error))
        }
        // The guard goes along: should nobody wait for it any more, the next one to come does.
        None => tokio::task::spawn_blocking(move || {
            let (upto, result) = log.sync();
            synced.note(upto, result.is_ok());
            result
        })
        .await
        .map_err(|_| StoreError::Closed)?,
    }
}

impl Logs for FileLogs {
    fn append<'a>(
        &'a self,
        log: &'a str,
        records: Vec<(u64, Bytes)>,
        durability: Durability,
    ) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            let (log, next) = self.inner.append(log, &records)?;
            room::make(&self.inner);
            match durability {
                Durability::Written => Ok(()),
                Durability::Durable => sync(log, next).await,
            }
        })
    }

    fn read<'a>(
        &'a self,
        log: &'a str,
        from: u64,
        limit: usize,
        most_bytes: usize,
    ) -> StoreFuture<'a, Vec<Record>> {
        Box::pin(async move {
            match self.inner.log(log) {
                Some(log) => self.blocking(move |_| log.read(from, limit, most_bytes)).await,
                None => Ok(Vec::new()),
            }
        })
    }

    fn trim<'a>(&'a self, log: &'a str, before_ms: u64) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            let Some(log) = self.inner.log(log) else { return Ok(()) };
            self.blocking(move |inner| log.trim(before_ms, |next| inner.forget(&log, next))).await
        })
    }

    fn remove<'a>(&'a self, log: &'a str) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            let Some(log) = self.inner.log(log) else { return Ok(()) };
            self.blocking(move |inner| inner.remove(&log)).await
        })
    }

    fn hold(&self, log: &str) -> Held {
        Inner::hold(&self.inner, log)
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<LogInfo>> {
        Box::pin(async move {
            let found: Vec<Arc<Log>> = {
                let logs = self.inner.logs.read().unwrap_or_else(PoisonError::into_inner);
                let from = match after.filter(|after| *after >= prefix) {
                    Some(after) => Bound::Excluded(after),
                    None => Bound::Included(prefix),
                };
                let named = logs.range::<str, _>((from, Bound::Unbounded));
                let under = named.take_while(|(name, _)| name.starts_with(prefix));
                under.take(limit).map(|(_, log)| log.clone()).collect()
            };
            self.blocking(move |_| found.iter().filter_map(|log| log.info().transpose()).collect())
                .await
        })
    }
}
