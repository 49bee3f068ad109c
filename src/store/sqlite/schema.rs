//! The tables, how they came to be, and whether a database is sound before anything is written to it.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::failure;
use crate::store::{StoreError, io_error};

/// `KNNL`, in the database's header.
const APPLICATION_ID: i64 = 0x4b4e_4e4c;

/// A database up to this size is read through at every start; a larger one is checked by its header and schema, and by
/// the check sum of each row as it is read. About a quarter of a second for 100 MB.
const CHECKED_BYTES: u64 = 1 << 30;

/// The first bytes of every SQLite database. Source: sqlite.org, "Database File Format", 1.3.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Statements that lead from each schema to the next; the first makes the first. Never changed once released.
///
/// A body is apart from its message, so that a lease does not write it anew. `queues` has a row for each queue that
/// holds something. `crc` is that of `super::entry_crc` and of the body.
const MIGRATIONS: [&str; 1] = ["
    CREATE TABLE counters (name TEXT PRIMARY KEY NOT NULL, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    INSERT INTO counters VALUES ('revision', 0), ('message', 0), ('lease', 0);
    CREATE TABLE entries (
        key TEXT PRIMARY KEY NOT NULL,
        value BLOB NOT NULL,
        revision INTEGER NOT NULL,
        crc INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE queues (
        id INTEGER PRIMARY KEY,
        name TEXT UNIQUE NOT NULL,
        depth INTEGER NOT NULL DEFAULT 0,
        dead INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE TABLE messages (
        id INTEGER PRIMARY KEY,
        queue INTEGER NOT NULL,
        sent_ms INTEGER NOT NULL,
        due_ms INTEGER NOT NULL,
        receives INTEGER NOT NULL DEFAULT 0,
        lease INTEGER,
        dead INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE TABLE bodies (id INTEGER PRIMARY KEY, body BLOB NOT NULL, crc INTEGER NOT NULL) STRICT;
    CREATE INDEX messages_due ON messages (queue, due_ms) WHERE dead = 0;
    CREATE INDEX messages_sent ON messages (queue, sent_ms) WHERE dead = 0;
    CREATE INDEX messages_dead ON messages (queue) WHERE dead = 1;
    CREATE TRIGGER message_sent AFTER INSERT ON messages BEGIN
        UPDATE queues SET depth = depth + 1 WHERE id = new.queue;
    END;
    CREATE TRIGGER message_buried AFTER UPDATE OF dead ON messages BEGIN
        UPDATE queues SET depth = depth - 1, dead = dead + 1 WHERE id = new.queue;
    END;
    CREATE TRIGGER message_gone AFTER DELETE ON messages BEGIN
        UPDATE queues SET depth = depth - (1 - old.dead), dead = dead - old.dead WHERE id = old.queue;
        DELETE FROM queues WHERE id = old.queue AND depth = 0 AND dead = 0;
    END;
"];

/// What a URI's path may not hold as it is.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.');

fn known() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// The database's companion with `suffix`.
fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn length(path: &Path) -> Result<u64, StoreError> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
        Err(error) => Err(io_error("read", path)(error)),
    }
}

/// Reads a database without writing a byte to it, its log or beside it; one that is not there yet is sound.
///
/// The caller holds the data directory's lock: nothing else locks here.
///
/// # Errors
/// [`StoreError::Damaged`] with what is wrong and where, [`StoreError::Newer`].
pub(super) fn check(database: &Path) -> Result<(), StoreError> {
    let damaged = |what: &str| {
        Err(StoreError::Damaged { path: database.display().to_string(), what: what.into() })
    };
    let log_bytes = length(&beside(database, "-wal"))?;
    let bytes = length(database)?;
    if bytes == 0 && log_bytes > 0 {
        return damaged("it is empty or gone, while its write-ahead log is there");
    }
    // With a rollback journal it was being made when the machine stopped. `open` looks again after SQLite's roll-back.
    if bytes == 0 || length(&beside(database, "-journal"))? > 0 {
        return Ok(());
    }
    let mut header = [0; 100];
    let mut file = File::open(database).map_err(io_error("open", database))?;
    match file.read_exact(&mut header) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            return damaged("it ends within its header");
        }
        other => other.map_err(io_error("read", database))?,
    }
    if header[..16] != *MAGIC {
        return damaged("it does not begin as an SQLite database does");
    }
    drop(file);
    let connection =
        read_only(database, log_bytes > 0).map_err(|e| failure(database, "open", e))?;
    inspect(&connection, database)
}

/// A connection that leaves no trace. With a log: locks are left out, as they take a descriptor that can write, and the
/// log's index is kept in memory. Without one: the file is declared to stay as it is, so that no log is made.
fn read_only(database: &Path, log: bool) -> rusqlite::Result<Connection> {
    let path = percent_encode(database.as_os_str().as_bytes(), ESCAPED);
    let how = if log { "mode=ro&vfs=unix-none" } else { "mode=ro&immutable=1" };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(format!("file:{path}?{how}"), flags)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    if log {
        let _: String =
            connection.query_row("PRAGMA locking_mode = EXCLUSIVE", [], |row| row.get(0))?;
    }
    Ok(connection)
}

/// The same through a connection that may write, where [`check`] could not look: after a roll-back of SQLite's.
pub(super) fn inspect_again(connection: &Connection, database: &Path) -> Result<(), StoreError> {
    // Opening has rolled back; the journal tells only before the first read.
    if length(&beside(database, "-journal"))? == 0 {
        return Ok(());
    }
    inspect(connection, database)
}

/// Whether this is a sound database of a schema that is known, or a new one.
fn inspect(connection: &Connection, database: &Path) -> Result<(), StoreError> {
    let damaged = |what: String| StoreError::Damaged { path: database.display().to_string(), what };
    let fail = |e| failure(database, "check", e);
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let application = number("PRAGMA application_id").map_err(fail)?;
    let version = number("PRAGMA user_version").map_err(fail)?;
    if application != APPLICATION_ID {
        let tables = number("SELECT count(*) FROM sqlite_schema").map_err(fail)?;
        if (application, version, tables) == (0, 0, 0) {
            return Ok(());
        }
        return Err(damaged(format!("it is another program's (application_id {application:#x})")));
    }
    if version > known() {
        let path = database.display().to_string();
        return Err(StoreError::Newer { path, found: version, known: known() });
    }
    if length(database)? > CHECKED_BYTES {
        tracing::warn!(path = %database.display(), "the store is too large to be checked whole");
        return Ok(());
    }
    let word: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(fail)?;
    if word != "ok" {
        // Several lines, the first of which may name the database alone.
        let word = word.split('\n').filter(|line| !line.starts_with("***")).collect::<Vec<_>>();
        return Err(damaged(word.join("; ")));
    }
    if version > 0 {
        rows(connection, database)?;
    }
    Ok(())
}

/// Whether every value is what was written.
fn rows(connection: &Connection, database: &Path) -> Result<(), StoreError> {
    let fail = |e| failure(database, "check", e);
    let sql = "SELECT key, value, revision, crc FROM entries";
    let mut entries = connection.prepare(sql).map_err(fail)?;
    let mut entries = entries.query([]).map_err(fail)?;
    while let Some(row) = entries.next().map_err(fail)? {
        super::entry(row, database)?;
    }
    let sql = "SELECT m.id, b.body, b.crc FROM messages m LEFT JOIN bodies b ON b.id = m.id";
    let mut bodies = connection.prepare(sql).map_err(fail)?;
    let mut bodies = bodies.query([]).map_err(fail)?;
    while let Some(row) = bodies.next().map_err(fail)? {
        super::body(row, 0, 1, database)?;
    }
    let sql = "SELECT m.id FROM messages m LEFT JOIN queues q ON q.id = m.queue WHERE q.id IS NULL";
    let lost = connection.query_row(sql, [], |row| row.get::<_, i64>(0)).optional();
    match lost.map_err(fail)? {
        None => Ok(()),
        Some(id) => Err(StoreError::Damaged {
            path: database.display().to_string(),
            what: format!("message {id} is on no queue"),
        }),
    }
}

/// Brings a database to the newest schema, in one step.
pub(super) fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version >= known() {
        return Ok(());
    }
    let step = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    for statements in MIGRATIONS.iter().skip(usize::try_from(version).unwrap_or_default()) {
        step.execute_batch(statements)?;
    }
    step.pragma_update(None, "application_id", APPLICATION_ID)?;
    step.pragma_update(None, "user_version", known())?;
    step.commit()
}
