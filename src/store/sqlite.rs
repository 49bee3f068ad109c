//! Keys and queues in one SQLite database, `DATA/kennel.db`, for one server: what a machine that loses its power keeps.
//!
//! - Writes go through one thread, which commits all that wait in one transaction (`writer`). A commit is on the disk
//!   (write-ahead log, `synchronous = FULL`) when it is answered. A lease is not waited for: a crash of the machine may
//!   forget it, one of the process does not.
//! - Reads have connections of their own and see every commit that was answered. One row is read where it is asked for,
//!   which takes some 10 µs; what may be many rows is read on tokio's blocking threads.
//! - [`SqliteStore::open`] touches nothing of a store that is in use, damaged or of a newer schema (`schema`). Beyond
//!   SQLite's own checks each value has a check sum, looked at when it is read.
//!
//! Times are the wall clock's: delays and leases have to outlive a restart.

#![forbid(unsafe_code)]

mod ledger;
mod lock;
mod schema;
#[cfg(test)]
mod tests;
mod writer;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row, ffi, params};
use tokio::sync::oneshot;

use self::lock::DataLock;
use self::writer::{Done, Request, Work, Writer};
use super::{
    Batch, Entry, KeysAndQueues, Lease, Message, QueueStats, Revision, StoreError, StoreFuture,
    io_error,
};

const DATABASE: &str = "kennel.db";

/// Connections for single rows: as many reads at once as can be meaningful on most machines.
const POINT_READERS: usize = 4;
/// Connections for scans.
const SCAN_READERS: usize = 2;
/// KiB of pages that a reader keeps. A commit makes most of them worthless, and what the kernel has cached comes back
/// in microseconds: SQLite's own 2,000 for each of them would be memory that is never seen again.
const READER_CACHE_KIB: i32 = 256;
/// How long SQLite tries where another connection is in the way, which is for moments only.
const BUSY: Duration = Duration::from_secs(10);

/// See the module's words.
#[derive(Debug)]
pub struct SqliteStore {
    requests: Option<mpsc::Sender<Request>>,
    thread: Option<JoinHandle<()>>,
    readers: Arc<Readers>,
}

/// Kept by reads that are under way when the store is dropped, and with it the lock.
#[derive(Debug)]
struct Readers {
    point: Pool,
    scan: Pool,
    database: PathBuf,
    /// Damage was read: the writer writes no more.
    damaged: Arc<AtomicBool>,
    _lock: DataLock,
}

#[derive(Debug)]
struct Pool {
    connections: Vec<Mutex<Connection>>,
    next: AtomicUsize,
}

impl SqliteStore {
    /// Opens the store in the data directory `data`; makes what is not there, mode 0700 and 0600.
    ///
    /// # Errors
    /// [`StoreError::InUse`] where another server has the directory; [`StoreError::Damaged`] and [`StoreError::Newer`]
    /// without a byte written to the database or its log; [`StoreError::Full`] and [`StoreError::Io`].
    pub fn open(data: &Path) -> Result<Self, StoreError> {
        let folder = fs::DirBuilder::new().recursive(true).mode(0o700).create(data);
        folder.map_err(io_error("create", data))?;
        let lock = DataLock::take(data)?;
        let database = data.join(DATABASE);
        schema::check(&database)?;
        let connection = connect(&database)?;
        let open = |e| failure(&database, "open", e);
        let pool = |size: usize| {
            let reader = |_| {
                let connection = connection_to(&database)?;
                connection.pragma_update(None, "query_only", true)?;
                connection.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
                Ok(Mutex::new(connection))
            };
            let connections = (0..size).map(reader).collect::<rusqlite::Result<_>>()?;
            Ok(Pool { connections, next: AtomicUsize::new(0) })
        };
        let point = pool(POINT_READERS).map_err(open)?;
        let scan = pool(SCAN_READERS).map_err(open)?;
        let damaged = Arc::<AtomicBool>::default();
        let writer = Writer::new(connection, &database, damaged.clone())?;
        let (requests, received) = mpsc::channel();
        let thread = std::thread::Builder::new().name("store".into());
        let thread = thread.spawn(move || writer.run(&received));
        let thread = Some(thread.map_err(io_error("start the writer of", &database))?);
        let readers = Arc::new(Readers { point, scan, database, damaged, _lock: lock });
        Ok(Self { requests: Some(requests), thread, readers })
    }

    async fn ask(&self, work: Work) -> Result<Done, StoreError> {
        let (answer, answered) = oneshot::channel();
        let requests = self.requests.as_ref().ok_or(StoreError::Closed)?;
        requests.send(Request { work, answer }).map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }

    /// Reads what may take a while.
    async fn scan_with<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection, &Path) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let readers = self.readers.clone();
        let read = move || readers.note(read(&readers.scan.take(), &readers.database));
        tokio::task::spawn_blocking(read).await.map_err(|_| StoreError::Closed)?
    }
}

impl Drop for SqliteStore {
    /// Whatever was asked for is done and answered before this returns.
    fn drop(&mut self) {
        drop(self.requests.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic there was reported where it happened
        }
    }
}

impl Readers {
    /// One row, or so few that it is done before another thread could have begun.
    fn point<T>(
        &self,
        read: impl FnOnce(&Connection, &Path) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.note(read(&self.point.take(), &self.database))
    }

    fn note<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(StoreError::Damaged { .. }) = &result {
            self.damaged.store(true, Ordering::Release);
        }
        result
    }
}

impl Pool {
    /// A connection that is free, or the next one when it is.
    fn take(&self) -> MutexGuard<'_, Connection> {
        let start = self.next.fetch_add(1, Ordering::Relaxed) % self.connections.len();
        let (before, from) = self.connections.split_at(start);
        for connection in from.iter().chain(before) {
            match connection.try_lock() {
                Ok(connection) => return connection,
                Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => {}
            }
        }
        self.connections[start].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn connection_to(database: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(database, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    // Nothing goes to a temporary folder, which may be out of reach.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(connection)
}

/// The writer's connection, to a database that is there and of the newest schema then.
fn connect(database: &Path) -> Result<Connection, StoreError> {
    match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(database) {
        Ok(_) => {
            // Its name, and that of the data directory, which may be as new.
            for folder in database.ancestors().skip(1).take(2).filter(|f| *f != Path::new("")) {
                match fs::File::open(folder).and_then(|folder| folder.sync_all()) {
                    // A confined server does not reach above its data directory; who made that for it has synced it.
                    Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {}
                    sync => sync.map_err(io_error("sync", folder))?,
                }
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(io_error("create", database)(error)),
    }
    let open = |e| failure(database, "open", e);
    let mut connection = connection_to(database).map_err(open)?;
    schema::inspect_again(&connection, database)?;
    // Before the first table; later it changes nothing.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL").map_err(open)?;
    let sql = "PRAGMA journal_mode = WAL";
    let mode: String = connection.query_row(sql, [], |row| row.get(0)).map_err(open)?;
    if mode != "wal" {
        return Err(StoreError::Io {
            action: "open",
            path: database.display().to_string(),
            source: format!("its file system allows no write-ahead log (journal mode `{mode}`)")
                .into(),
        });
    }
    connection.pragma_update(None, "synchronous", "FULL").map_err(open)?;
    connection.pragma_update(None, "journal_size_limit", 16 << 20).map_err(open)?;
    schema::migrate(&mut connection).map_err(|e| failure(database, "migrate", e))?;
    Ok(connection)
}

/// Whether the disk under `database` takes no more, as SQLite tells it of some writes only as an I/O error.
fn no_room(database: &Path) -> bool {
    let path = database.with_extension("room");
    let write = || {
        let mut file = fs::File::create(&path)?;
        file.write_all(&[1; 64 << 10])?;
        file.sync_all()
    };
    let full =
        write().is_err_and(|e| matches!(io_error("write", &path)(e), StoreError::Full { .. }));
    let _ = fs::remove_file(&path); // there is none where it could not be made
    full
}

/// What an error of SQLite's comes to.
fn failure(database: &Path, action: &'static str, error: rusqlite::Error) -> StoreError {
    let path = database.display().to_string();
    let cause = error.sqlite_error().map(|cause| (cause.code, cause.extended_code));
    let writing = |code| {
        let codes =
            [ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_IOERR_SHMSIZE, ffi::SQLITE_IOERR_TRUNCATE];
        codes.contains(&code)
    };
    match (&error, cause) {
        (_, Some((ErrorCode::DiskFull, _))) => StoreError::Full { path },
        (_, Some((ErrorCode::SystemIoFailure, code))) if writing(code) && no_room(database) => {
            StoreError::Full { path }
        }
        (_, Some((ErrorCode::CannotOpen, _))) if no_room(database) => StoreError::Full { path },
        (_, Some((ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase, _)))
        | (
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::QueryReturnedNoRows,
            _,
        ) => StoreError::Damaged { path, what: error.to_string() },
        _ => StoreError::Io { action, path, source: Box::new(error) },
    }
}

/// SQLite's integers are signed. Nothing here comes near that but a time that means never.
fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn from_sql(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let number: i64 = row.get(column)?;
    u64::try_from(number).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, number))
}

fn bytes_crc(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

fn entry_crc(key: &str, value: &[u8], revision: Revision) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(key.as_bytes());
    crc.update(&revision.to_le_bytes());
    crc.update(value);
    crc.finalize()
}

/// An entry of columns key, value, revision, crc.
fn entry(row: &Row<'_>, database: &Path) -> Result<Entry, StoreError> {
    let read = || {
        let value = Bytes::copy_from_slice(row.get_ref(1)?.as_blob()?);
        let entry = Entry { key: row.get(0)?, value, revision: from_sql(row, 2)? };
        Ok((entry, row.get::<_, u32>(3)?))
    };
    let (entry, crc) = read().map_err(|e| failure(database, "read", e))?;
    if entry_crc(&entry.key, &entry.value, entry.revision) != crc {
        return Err(StoreError::Damaged {
            path: database.display().to_string(),
            what: format!("the value of `{}` is not what was written", entry.key.escape_debug()),
        });
    }
    Ok(entry)
}

/// A message's id and body; its check sum follows the body.
fn body(
    row: &Row<'_>,
    id: usize,
    body: usize,
    database: &Path,
) -> Result<(u64, Bytes), StoreError> {
    let fail = |e| failure(database, "read", e);
    let id = from_sql(row, id).map_err(fail)?;
    let bytes = row.get_ref(body).map_err(fail)?.as_blob().map(Bytes::copy_from_slice);
    let crc = row.get::<_, Option<u32>>(body + 1).map_err(fail)?;
    match (bytes, crc) {
        (Ok(bytes), Some(crc)) if bytes_crc(&bytes) == crc => Ok((id, bytes)),
        _ => Err(StoreError::Damaged {
            path: database.display().to_string(),
            what: format!("the body of message {id} is not what was written"),
        }),
    }
}

fn get(connection: &Connection, database: &Path, key: &str) -> Result<Option<Entry>, StoreError> {
    let fail = |e| failure(database, "read", e);
    let sql = "SELECT key, value, revision, crc FROM entries WHERE key = ?1";
    let mut statement = connection.prepare_cached(sql).map_err(fail)?;
    let mut rows = statement.query([key]).map_err(fail)?;
    rows.next().map_err(fail)?.map(|row| entry(row, database)).transpose()
}

fn scan(
    connection: &Connection,
    database: &Path,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<Entry>, StoreError> {
    let fail = |e| failure(database, "read", e);
    let sql = match after {
        Some(after) if after >= prefix => {
            "SELECT key, value, revision, crc FROM entries WHERE key > ?1 ORDER BY key"
        }
        _ => "SELECT key, value, revision, crc FROM entries WHERE key >= ?1 ORDER BY key",
    };
    let from = after.filter(|after| *after >= prefix).unwrap_or(prefix);
    let mut statement = connection.prepare_cached(sql).map_err(fail)?;
    let mut rows = statement.query([from]).map_err(fail)?;
    let mut found = Vec::new();
    while found.len() < limit
        && let Some(row) = rows.next().map_err(fail)?
    {
        if !row.get_ref(0).map_err(fail)?.as_str().is_ok_and(|key| key.starts_with(prefix)) {
            break;
        }
        found.push(entry(row, database)?);
    }
    Ok(found)
}

fn stats(connection: &Connection, queue: &str) -> rusqlite::Result<Option<QueueStats>> {
    let sql = "SELECT depth, dead, \
                   (SELECT min(sent_ms) FROM messages WHERE queue = q.id AND dead = 0), \
                   (SELECT min(due_ms) FROM messages WHERE queue = q.id AND dead = 0) \
               FROM queues q WHERE name = ?1";
    let optional = |row: &Row<'_>, column| {
        let null = row.get_ref(column)? == rusqlite::types::ValueRef::Null;
        if null { Ok(None) } else { from_sql(row, column).map(Some) }
    };
    let row = |row: &Row<'_>| {
        Ok(QueueStats {
            depth: from_sql(row, 0)?,
            dead: from_sql(row, 1)?,
            oldest_sent_ms: optional(row, 2)?,
            next_due_ms: optional(row, 3)?,
        })
    };
    connection.prepare_cached(sql)?.query_row([queue], row).optional()
}

fn queues(connection: &Connection, prefix: &str) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT name FROM queues WHERE name >= ?1 AND depth > 0 ORDER BY name";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([prefix])?;
    let mut names = Vec::new();
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        if !name.starts_with(prefix) {
            break;
        }
        names.push(name);
    }
    Ok(names)
}

fn dead(
    connection: &Connection,
    database: &Path,
    queue: &str,
    limit: usize,
) -> Result<Vec<Message>, StoreError> {
    let fail = |e| failure(database, "read", e);
    let sql = "SELECT m.id, b.body, b.crc, m.sent_ms, m.receives, m.lease \
               FROM messages m LEFT JOIN bodies b ON b.id = m.id \
               WHERE m.queue = (SELECT id FROM queues WHERE name = ?1) AND m.dead = 1 ORDER BY m.id LIMIT ?2";
    let mut statement = connection.prepare_cached(sql).map_err(fail)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![queue, limit]).map_err(fail)?;
    let mut messages = Vec::new();
    while let Some(row) = rows.next().map_err(fail)? {
        let (id, body) = body(row, 0, 1, database)?;
        messages.push(Message {
            queue: queue.into(),
            id,
            body,
            sent_ms: from_sql(row, 3).map_err(fail)?,
            receives: row.get(4).map_err(fail)?,
            lease: from_sql(row, 5).map_err(fail)?,
        });
    }
    Ok(messages)
}

impl KeysAndQueues for SqliteStore {
    fn get<'a>(&'a self, key: &'a str) -> StoreFuture<'a, Option<Entry>> {
        Box::pin(async move {
            self.readers.point(|connection, database| get(connection, database, key))
        })
    }

    fn scan<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<Entry>> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        Box::pin(self.scan_with(move |connection, database| {
            scan(connection, database, &prefix, after.as_deref(), limit)
        }))
    }

    fn commit(&self, batch: Batch) -> StoreFuture<'_, Revision> {
        Box::pin(async move {
            match self.ask(Work::Commit(batch)).await? {
                Done::Committed(revision) => Ok(revision),
                _ => Err(StoreError::Closed),
            }
        })
    }

    fn lease<'a>(
        &'a self,
        queue: &'a str,
        most: usize,
        hold: Duration,
    ) -> StoreFuture<'a, Vec<Message>> {
        Box::pin(async move {
            match self.ask(Work::Lease { queue: queue.into(), most, hold }).await? {
                Done::Leased(messages) => Ok(messages),
                _ => Err(StoreError::Closed),
            }
        })
    }

    fn extend(&self, leases: Vec<Lease>, hold: Duration) -> StoreFuture<'_, ()> {
        Box::pin(async move { self.ask(Work::Extend { leases, hold }).await.map(drop) })
    }

    fn queue_stats<'a>(&'a self, queue: &'a str) -> StoreFuture<'a, QueueStats> {
        Box::pin(async move {
            self.readers.point(|connection, database| {
                let found = stats(connection, queue).map_err(|e| failure(database, "read", e));
                Ok(found?.unwrap_or_default())
            })
        })
    }

    fn queues<'a>(&'a self, prefix: &'a str) -> StoreFuture<'a, Vec<String>> {
        let prefix = prefix.to_owned();
        Box::pin(self.scan_with(move |connection, database| {
            queues(connection, &prefix).map_err(|e| failure(database, "read", e))
        }))
    }

    fn dead<'a>(&'a self, queue: &'a str, limit: usize) -> StoreFuture<'a, Vec<Message>> {
        let queue = queue.to_owned();
        Box::pin(
            self.scan_with(move |connection, database| dead(connection, database, &queue, limit)),
        )
    }
}
