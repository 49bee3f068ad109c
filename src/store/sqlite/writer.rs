//! The one thread that writes. Requests that wait for it at the same moment share a transaction, and so the disk's
//! acknowledgement, which is what a write costs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use rusqlite::{Connection, params};
use tokio::sync::oneshot;

use super::ledger::{Counters, Ledger};
use super::{failure, from_sql, to_sql};
use crate::store::{Batch, Lease, Message, Revision, StoreError};

/// Most requests in one transaction; bounds how long the first of them waits for the last.
const GROUP: usize = 128;
/// Lease tokens are set aside on the disk in runs of this many, so that a lease itself need not be there.
const TOKENS: u64 = 1 << 20;
/// After this long without a request the thread tidies up.
const IDLE: Duration = Duration::from_secs(1);
/// Free pages (of 4 KiB) that are kept for what comes next; more are given back to the file system.
const FREE_PAGES: i64 = 4096;

#[derive(Debug)]
pub(super) enum Work {
    Commit(Batch),
    Lease { queue: String, most: usize, hold: Duration },
    Extend { leases: Vec<Lease>, hold: Duration },
}

#[derive(Debug)]
pub(super) enum Done {
    Committed(Revision),
    Leased(Vec<Message>),
    Extended,
}

#[derive(Debug)]
pub(super) struct Request {
    pub work: Work,
    pub answer: oneshot::Sender<Result<Done, StoreError>>,
}

#[derive(Debug)]
pub(super) struct Writer {
    connection: Connection,
    database: PathBuf,
    counters: Counters,
    /// Tokens up to this one are set aside.
    tokens: u64,
    /// Whether the connection waits for the disk at the end of a transaction.
    durable: bool,
    /// Why nothing is written any more.
    broken: Option<String>,
    /// A reader has seen damage.
    damaged: Arc<AtomicBool>,
}

impl Writer {
    /// Takes over a connection that waits for the disk (`synchronous = FULL`).
    pub fn new(
        connection: Connection,
        database: &Path,
        damaged: Arc<AtomicBool>,
    ) -> Result<Self, StoreError> {
        let counter = |name: &str| {
            let sql = "SELECT value FROM counters WHERE name = ?1";
            let value = connection.query_row(sql, [name], |row| from_sql(row, 0));
            value.map_err(|e| failure(database, "read", e))
        };
        let counters = Counters {
            revision: counter("revision")?,
            message: counter("message")?,
            lease: counter("lease")?,
        };
        let database = database.to_owned();
        Ok(Self {
            connection,
            database,
            tokens: counters.lease,
            counters,
            durable: true,
            broken: None,
            damaged,
        })
    }

    /// Serves until nobody can ask any more, and leaves the database without a log.
    pub fn run(mut self, requests: &Receiver<Request>) {
        while let Some(first) = self.next(requests) {
            let mut group = vec![first];
            while group.len() < GROUP
                && let Ok(more) = requests.try_recv()
            {
                group.push(more);
            }
            self.serve(group);
        }
        if self.broken.is_none() {
            // Some of it; a great deal would keep the next server from starting.
            let _ = (0..16).all(|_| self.tidy());
            let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
            if let Err(error) = self.connection.query_row(checkpoint, [], |_| Ok(())) {
                tracing::warn!(%error, "the store's log stays; the next start reads it");
            }
        }
    }

    fn next(&mut self, requests: &Receiver<Request>) -> Option<Request> {
        loop {
            match requests.recv_timeout(IDLE) {
                Ok(request) => return Some(request),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) if self.broken.is_none() && self.tidy() => {}
                Err(RecvTimeoutError::Timeout) => return requests.recv().ok(),
            }
        }
    }

    /// Gives some free pages back; whether there are more. What fails here fails again where it is asked for.
    fn tidy(&mut self) -> bool {
        let free =
            |c: &Connection| c.query_row("PRAGMA freelist_count", [], |row| row.get::<_, i64>(0));
        if free(&self.connection).unwrap_or_default() <= FREE_PAGES {
            return false;
        }
        // A step frees a page; all of them are one transaction.
        let vacuum = || {
            let mut statement = self.connection.prepare("PRAGMA incremental_vacuum(2048)")?;
            let mut pages = statement.query([])?;
            while pages.next()?.is_some() {}
            Ok::<_, rusqlite::Error>(())
        };
        vacuum().is_ok() && free(&self.connection).is_ok_and(|free| free > FREE_PAGES)
    }

    /// Answers every request. Nobody may be there to hear it any more; what was done is done.
    fn serve(&mut self, group: Vec<Request>) {
        match self.transact(group.iter().map(|r| &r.work)) {
            Ok(answers) => {
                for (request, answer) in group.into_iter().zip(answers) {
                    let _ = request.answer.send(answer);
                }
            }
            // Nothing of the group happened. Some may fit, or be sound, alone.
            Err(_) if group.len() > 1 => group.into_iter().for_each(|one| self.serve(vec![one])),
            Err(error) => {
                if let Some(request) = group.into_iter().next() {
                    let _ = request.answer.send(Err(error));
                }
            }
        }
    }

    /// One transaction: all answers, refusals among them, or nothing done.
    fn transact<'a>(
        &mut self,
        works: impl Iterator<Item = &'a Work> + Clone,
    ) -> Result<Vec<Result<Done, StoreError>>, StoreError> {
        if self.broken.is_none() && self.damaged.load(Ordering::Acquire) {
            self.broken = Some("damage was read".into());
        }
        if let Some(why) = &self.broken {
            return Err(StoreError::Io {
                action: "write",
                path: self.database.display().to_string(),
                source: format!("nothing is written since an earlier failure: {why}").into(),
            });
        }
        let before = self.counters;
        let set_aside = (self.tokens - before.lease
            < u64::try_from(works.clone().count()).unwrap_or(u64::MAX))
        .then(|| before.lease.saturating_add(TOKENS));
        let commits = works.clone().any(|work| matches!(work, Work::Commit(_)));
        let result = self.within(works, before, set_aside, commits || set_aside.is_some());
        match &result {
            Ok(_) => self.tokens = set_aside.unwrap_or(self.tokens),
            Err(error) => self.roll_back(error),
        }
        result
    }

    fn within<'a>(
        &mut self,
        works: impl Iterator<Item = &'a Work>,
        before: Counters,
        set_aside: Option<u64>,
        durable: bool,
    ) -> Result<Vec<Result<Done, StoreError>>, StoreError> {
        let database = self.database.clone();
        let fail = |e| failure(&database, "write", e);
        if durable != self.durable {
            let level = if durable { "FULL" } else { "NORMAL" };
            self.connection.pragma_update(None, "synchronous", level).map_err(fail)?;
            self.durable = durable;
        }
        self.execute("BEGIN IMMEDIATE", [])?;
        let mut answers = Vec::new();
        for work in works {
            let mut ledger = Ledger {
                connection: &self.connection,
                database: &self.database,
                counters: &mut self.counters,
            };
            let answer = match work {
                Work::Commit(batch) => ledger.commit(batch).map(Done::Committed),
                Work::Lease { queue, most, hold } => {
                    ledger.lease(queue, *most, *hold).map(Done::Leased)
                }
                Work::Extend { leases, hold } => {
                    ledger.extend(leases, *hold).map(|()| Done::Extended)
                }
            };
            match answer {
                Err(error) if !refusal(&error) => return Err(error),
                answer => answers.push(answer),
            }
        }
        let now = self.counters;
        for (name, before, now) in [
            ("revision", before.revision, now.revision),
            ("message", before.message, now.message),
            ("lease", self.tokens, set_aside.unwrap_or(self.tokens)),
        ] {
            if before != now {
                let sql = "UPDATE counters SET value = ?2 WHERE name = ?1";
                self.execute(sql, params![name, to_sql(now)])?;
            }
        }
        self.execute("COMMIT", [])?;
        Ok(answers)
    }

    fn execute(&self, sql: &str, params: impl rusqlite::Params) -> Result<(), StoreError> {
        let run = || self.connection.prepare_cached(sql)?.execute(params);
        run().map(drop).map_err(|e| failure(&self.database, "write", e))
    }

    /// After a failure. What cannot be undone, or whose fate on the disk is unknown, ends all writing: the pages that a
    /// failed sync left are not written again by the kernel, and a second sync would say that all is well.
    fn roll_back(&mut self, error: &StoreError) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.execute("ROLLBACK", [])
        {
            self.broken = Some(error.to_string());
        }
        if matches!(error, StoreError::Damaged { .. }) || sync_failed(error) {
            self.broken = Some(std::error::Error::source(error).unwrap_or(error).to_string());
        }
        if self.broken.is_some() {
            tracing::error!(%error, "the store writes no more");
        }
    }
}

/// An answer about the request, not about the store.
fn refusal(error: &StoreError) -> bool {
    matches!(error, StoreError::Conflict { .. } | StoreError::LeaseLost { .. })
}

fn sync_failed(error: &StoreError) -> bool {
    let StoreError::Io { source, .. } = error else { return false };
    let cause = source.downcast_ref::<rusqlite::Error>().and_then(|e| e.sqlite_error());
    let syncs = [rusqlite::ffi::SQLITE_IOERR_FSYNC, rusqlite::ffi::SQLITE_IOERR_DIR_FSYNC];
    cause.is_some_and(|cause| syncs.contains(&cause.extended_code))
}
