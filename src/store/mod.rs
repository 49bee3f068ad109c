//! Durable state behind one small trait of three parts: a key-value space with compare-and-set, a queue with leases,
//! delays and a dead end, and an append-only log. Knows no function and no rule.
//!
//! The embedded drivers are [`sqlite`] for keys and queues and [`files`] for logs; a cluster's engine comes in behind
//! the same traits, and `conformance` holds every driver to the same promises. What they promise is kept small on
//! purpose:
//!
//! - A [`Batch`] happens wholly or not at all, and is durable when its future resolves.
//! - Each write gives its key a new [`Revision`], larger than every one before it in the store; a `Batch` may be made
//!   to depend on revisions.
//! - A message is handed out to one lease at a time, and at least once; it is gone only by an acknowledged `Batch`.
//! - A lease is good until the message is leased again, also past its time. A crash of the machine may forget leases
//!   (the message is due again), never messages.
//! - Ids of messages, leases and records are never used again, also after a restart.
//! - A log keeps the order of its appends.
//!
//! A future does nothing before it is polled. One that is dropped half-way may or may not have happened.

#![forbid(unsafe_code)]

#[cfg(test)]
pub(crate) mod conformance;
pub mod files;
pub mod memory;
pub mod memory_logs;
pub mod sqlite;

use std::any::Any;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;

pub type Revision = u64;
/// What keeps a log until it is dropped.
pub type Held = Box<dyn Any + Send + Sync>;
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A key was not at the revision that the batch expected: read again and decide again.
    #[error("`{key}` was changed by someone else")]
    Conflict { key: String },
    /// The message was taken by another lease meanwhile, or is gone.
    #[error("the lease on message {id} of `{queue}` has run out")]
    LeaseLost { queue: String, id: u64 },
    /// No room: nothing of the batch happened.
    #[error("the disk under `{path}` is full")]
    Full { path: String },
    /// What is on the disk is not what was written there. Nothing is written any more.
    #[error("the store `{path}` is damaged: {what}")]
    Damaged { path: String, what: String },
    /// Another server runs on the same data directory; `pid` where it has said so.
    #[error("the data directory `{path}` is in use by {}", holder(*.pid))]
    InUse { path: String, pid: Option<u32> },
    /// A later Kennel wrote it. Nothing was touched.
    #[error(
        "the store `{path}` has schema {found}, written by a newer kennel; this one knows {known} at most"
    )]
    Newer { path: String, found: i64, known: i64 },
    #[error("cannot {action} `{path}`")]
    Io { action: &'static str, path: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("the store is closed")]
    Closed,
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".into(), |pid| format!("process {pid}"))
}

/// What a failed system call on `path` comes to; a full disk and a used-up quota are the same.
pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.display().to_string();
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full { path },
        _ => StoreError::Io { action, path, source: Box::new(source) },
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub key: String,
    pub value: Bytes,
    pub revision: Revision,
}

/// A message that is leased to whoever holds this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub queue: String,
    pub id: u64,
    pub body: Bytes,
    /// Milliseconds since the epoch, when it was first sent.
    pub sent_ms: u64,
    /// How often it was leased, this time included. A crash of the machine may forget leases.
    pub receives: u32,
    /// Tells this lease from later ones of the same message.
    pub lease: u64,
}

/// Which lease a batch speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub queue: String,
    pub id: u64,
    pub lease: u64,
}

impl Message {
    pub fn lease(&self) -> Lease {
        Lease { queue: self.queue.clone(), id: self.id, lease: self.lease }
    }
}

/// All or nothing, in one durable step. A key that is both deleted and put is put; one that is put twice has the last
/// value.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Keys that must be at this revision, or absent.
    pub expect: Vec<(String, Option<Revision>)>,
    pub put: Vec<(String, Bytes)>,
    pub delete: Vec<String>,
    /// Queue, body, and how long until it may be leased.
    pub send: Vec<(String, Bytes, Duration)>,
    /// Takes messages off their queues.
    pub acknowledge: Vec<Lease>,
    /// Gives messages back, to be leased again after the delay, with a new body where one is given.
    pub retry: Vec<(Lease, Duration, Option<Bytes>)>,
    /// Moves messages to the dead end of their queue, where they are kept and never leased.
    pub bury: Vec<Lease>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueStats {
    /// Messages on the queue, leased or delayed ones included.
    pub depth: u64,
    /// `sent_ms` of the oldest.
    pub oldest_sent_ms: Option<u64>,
    /// When the next message may be leased (one that is leased now: when its lease ends), in milliseconds since the
    /// epoch; past means now.
    pub next_due_ms: Option<u64>,
    /// Messages at the dead end.
    pub dead: u64,
}

/// A record of a log. `sequence` grows within a log, with gaps, and is never used again: not by a later log of the same
/// name either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub sequence: u64,
    /// Milliseconds since the epoch.
    pub time_ms: u64,
    pub body: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogInfo {
    pub log: String,
    pub created_ms: u64,
    pub first_record_ms: Option<u64>,
    pub last_record_ms: Option<u64>,
    /// On the disk, the driver's own share included.
    pub bytes: u64,
}

/// Whether an append is on the disk when its future resolves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    Durable,
    /// Survives this process, not the machine.
    Written,
}

/// Keys and queues share a [`Batch`], so a message can leave its queue and a key change in one step.
pub trait KeysAndQueues: Send + Sync + std::fmt::Debug {
    fn get<'a>(&'a self, key: &'a str) -> StoreFuture<'a, Option<Entry>>;

    /// Entries whose key begins with `prefix`, in the order of their bytes, after `after` where given.
    fn scan<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<Entry>>;

    /// The revision of everything that the batch put.
    fn commit(&self, batch: Batch) -> StoreFuture<'_, Revision>;

    /// Leases up to `most` messages that are due, oldest due first, for `hold`.
    fn lease<'a>(
        &'a self,
        queue: &'a str,
        most: usize,
        hold: Duration,
    ) -> StoreFuture<'a, Vec<Message>>;

    /// Holds leases for another `hold` from now: those that are still good, even where the error names one that is
    /// lost.
    fn extend(&self, leases: Vec<Lease>, hold: Duration) -> StoreFuture<'_, ()>;

    fn queue_stats<'a>(&'a self, queue: &'a str) -> StoreFuture<'a, QueueStats>;

    /// Names of queues that hold messages, dead ones apart, and begin with `prefix`.
    fn queues<'a>(&'a self, prefix: &'a str) -> StoreFuture<'a, Vec<String>>;

    /// Messages at the dead end of `queue`, oldest first. They are not leased: `receives` and `lease` are as they were.
    fn dead<'a>(&'a self, queue: &'a str, limit: usize) -> StoreFuture<'a, Vec<Message>>;
}

/// Append-only logs.
pub trait Logs: Send + Sync + std::fmt::Debug {
    /// Appends records (time in milliseconds since the epoch, body) in order, all or none; makes the log where there is
    /// none, also for no records at all.
    fn append<'a>(
        &'a self,
        log: &'a str,
        records: Vec<(u64, Bytes)>,
        durability: Durability,
    ) -> StoreFuture<'a, ()>;

    /// Records from sequence `from` on, at most `limit` of them and about `most_bytes`, but one at least where there is
    /// one. A log that is not there has none.
    fn read<'a>(
        &'a self,
        log: &'a str,
        from: u64,
        limit: usize,
        most_bytes: usize,
    ) -> StoreFuture<'a, Vec<Record>>;

    /// Drops records older than `before_ms`, from the first one on to the first that is not older. A log that has none
    /// then goes too if it was made before `before_ms`; a later append makes it again.
    fn trim<'a>(&'a self, log: &'a str, before_ms: u64) -> StoreFuture<'a, ()>;

    /// Drops a log with all its records; one that is not there is no error.
    fn remove<'a>(&'a self, log: &'a str) -> StoreFuture<'a, ()>;

    /// Says that a log, there or not yet, is in use until what is given is dropped. A driver that drops logs to make
    /// room drops others first. Does not keep anyone from removing or trimming it.
    fn hold(&self, _log: &str) -> Held {
        Box::new(())
    }

    /// Logs whose name begins with `prefix`, in the order of their names, after `after` where given.
    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<LogInfo>>;
}
