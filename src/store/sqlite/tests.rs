//! What only this driver promises: that the disk keeps it, and that it leaves alone what it cannot trust.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};

use tempfile::TempDir;

use super::*;
use crate::store::conformance;

conformance::keys_and_queues!(|| {
    let data = TempDir::new().unwrap();
    (SqliteStore::open(data.path()).unwrap(), data)
});

const LONG: Duration = Duration::from_secs(3600);

fn put(key: &str, value: impl Into<Bytes>) -> Batch {
    Batch { put: vec![(key.into(), value.into())], ..Batch::default() }
}

fn send(queue: &str, body: &'static str) -> Batch {
    Batch { send: vec![(queue.into(), body.into(), Duration::ZERO)], ..Batch::default() }
}

/// Every file of a folder but the lock, with its bytes.
fn contents(data: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(data).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .filter(|(name, _)| name != "lock")
        .collect()
}

/// Copies the files of a store that runs, as they would be after a power cut.
fn crashed(data: &Path) -> TempDir {
    let copy = TempDir::new().unwrap();
    for name in ["kennel.db", "kennel.db-wal"] {
        fs::copy(data.join(name), copy.path().join(name)).unwrap();
    }
    copy
}

async fn filled(data: &Path) -> SqliteStore {
    let store = SqliteStore::open(data).unwrap();
    for i in 0..200 {
        store.commit(put(&format!("function/{i:03}"), vec![b'v'; 600])).await.unwrap();
    }
    store.commit(send("async/f", "a message")).await.unwrap();
    store
}

#[tokio::test]
async fn everything_is_there_again() {
    let data = TempDir::new().unwrap();
    let store = SqliteStore::open(data.path()).unwrap();
    let revision = store.commit(put("a", "1")).await.unwrap();
    for body in ["leased", "waiting", "buried"] {
        store.commit(send("q", body)).await.unwrap();
    }
    let leased = store.lease("q", 1, LONG).await.unwrap().pop().unwrap();
    store.commit(send("elsewhere", "x")).await.unwrap();
    drop(store);
    assert_eq!(contents(data.path()).keys().collect::<Vec<_>>(), ["kennel.db"], "a clean end");

    let store = SqliteStore::open(data.path()).unwrap();
    let entry = store.get("a").await.unwrap().unwrap();
    assert_eq!((&entry.value[..], entry.revision), (&b"1"[..], revision));
    let others = store.lease("q", 10, LONG).await.unwrap();
    assert_eq!(others.len(), 2, "the lease of before still holds");
    assert!(others.iter().all(|m| m.lease > leased.lease), "{others:?}");
    store.commit(Batch { acknowledge: vec![leased.lease()], ..Batch::default() }).await.unwrap();
    store.commit(Batch { bury: vec![others[1].lease()], ..Batch::default() }).await.unwrap();
    assert!(store.commit(put("a", "2")).await.unwrap() > revision);
    // The largest id is gone: it is not given again.
    let last = store.lease("elsewhere", 1, LONG).await.unwrap().pop().unwrap();
    store.commit(Batch { acknowledge: vec![last.lease()], ..Batch::default() }).await.unwrap();
    drop(store);

    let store = SqliteStore::open(data.path()).unwrap();
    assert_eq!(&store.dead("q", 10).await.unwrap()[0].body[..], b"buried");
    store.commit(send("elsewhere", "y")).await.unwrap();
    let new = store.lease("elsewhere", 1, LONG).await.unwrap().pop().unwrap();
    assert!(new.id > last.id && new.lease > last.lease, "{new:?} after {last:?}");
}

#[tokio::test]
async fn files_are_for_the_server_alone() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("new/data");
    let store = filled(&data).await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    for name in ["kennel.db", "kennel.db-wal", "kennel.db-shm", "lock"] {
        assert_eq!(mode(&data.join(name)), 0o600, "{name}");
    }
    drop(store);
}

#[tokio::test]
async fn a_second_server_is_refused() {
    let data = TempDir::new().unwrap();
    let store = SqliteStore::open(data.path()).unwrap();
    let error = SqliteStore::open(data.path()).unwrap_err();
    let (path, pid) = (data.path().display(), std::process::id());
    let text = format!("the data directory `{path}` is in use by process {pid}");
    assert_eq!(error.to_string(), text);
    store.commit(put("a", "1")).await.expect("the first goes on");
    drop(store);
    SqliteStore::open(data.path()).expect("after its end");
}

#[tokio::test]
async fn what_a_crash_leaves_is_read() {
    let data = TempDir::new().unwrap();
    let store = filled(data.path()).await;
    let copy = crashed(data.path());
    drop(store);
    let store = SqliteStore::open(copy.path()).unwrap();
    assert_eq!(store.scan("function/", None, 1000).await.unwrap().len(), 200);
    assert_eq!(store.queue_stats("async/f").await.unwrap().depth, 1);
    let gone = copy.path().join("kennel.db-wal");
    drop(store);
    assert!(!gone.exists());
}

/// Damages a copy, which must be refused with `words`, and left as it is.
fn refused(what: &str, folder: &TempDir, words: &str) {
    let before = contents(folder.path());
    let error = SqliteStore::open(folder.path()).expect_err(what);
    let database = folder.path().join("kennel.db").display().to_string();
    let text = error.to_string();
    assert!(text.contains(words) && text.contains(&database), "{what}: {text}");
    assert!(matches!(error, StoreError::Damaged { .. } | StoreError::Newer { .. }), "{what}");
    assert!(contents(folder.path()) == before, "{what}: files were touched");
}

#[tokio::test]
async fn a_damaged_store_is_refused_and_untouched() {
    let data = TempDir::new().unwrap();
    let store = filled(data.path()).await;
    let with_log = crashed(data.path());
    drop(store);
    let copy = |from: &Path| {
        let copy = TempDir::new().unwrap();
        for name in contents(from).into_keys() {
            fs::copy(from.join(&name), copy.path().join(&name)).unwrap();
        }
        copy
    };
    let overwrite = |folder: &TempDir, offset: u64, bytes: &[u8]| {
        let path = folder.path().join("kennel.db");
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(bytes, offset).unwrap();
    };
    let length = fs::metadata(data.path().join("kennel.db")).unwrap().len();
    let clean = fs::read(data.path().join("kennel.db")).unwrap();
    // Everywhere, as pages keep copies of what was moved away from them.
    let change = |folder: &TempDir, text: &str| {
        let text = text.as_bytes();
        let found = clean.windows(text.len()).enumerate().filter(|(_, window)| *window == text);
        let last = |at: usize| u64::try_from(at + text.len() - 1).unwrap();
        let places: Vec<u64> = found.map(|(at, _)| last(at)).collect();
        assert!(!places.is_empty());
        places.into_iter().for_each(|at| overwrite(folder, at, b"!"));
    };

    let folder = copy(data.path());
    overwrite(&folder, 0, b"garbage!");
    refused("another beginning", &folder, "does not begin as an SQLite database");

    let folder = copy(data.path());
    overwrite(&folder, 68, b"GPKG");
    refused("another program's", &folder, "another program's (application_id 0x47504b47)");

    let folder = copy(data.path());
    change(&folder, "function/100vvvv");
    refused("one byte of a value", &folder, "the value of `function/100` is not what was written");

    let folder = copy(data.path());
    change(&folder, "a message");
    refused("one byte of a message", &folder, "the body of message 1 is not what was written");

    for page in 1..length / 4096 {
        let folder = copy(data.path());
        overwrite(&folder, page * 4096, &[0xa5; 4096]);
        refused(&format!("page {page} overwritten"), &folder, "damaged");
    }
    for (what, keep) in
        [("half", length / 2), ("a header's part", 50), ("a page less", length - 4096)]
    {
        let folder = copy(data.path());
        let file = fs::OpenOptions::new().write(true).open(folder.path().join("kennel.db"));
        file.unwrap().set_len(keep).unwrap();
        refused(what, &folder, "damaged");
    }

    // With a log, as after a crash: it is read, and neither it nor the database is changed.
    let mut log = fs::read(with_log.path().join("kennel.db-wal")).unwrap();
    fs::remove_file(with_log.path().join("kennel.db")).unwrap();
    refused("no database beside a log", &with_log, "while its write-ahead log is there");
    fs::copy(data.path().join("kennel.db"), with_log.path().join("kennel.db")).unwrap();
    change(&with_log, "function/100vvvv");
    log.truncate(32);
    fs::write(with_log.path().join("kennel.db-wal"), log).unwrap();
    refused("a damaged database with a log", &with_log, "is not what was written");

    let folder = TempDir::new().unwrap();
    let other = Connection::open(folder.path().join("kennel.db")).unwrap();
    other.execute_batch("CREATE TABLE t (x)").unwrap();
    drop(other);
    refused("a database of no program", &folder, "another program's (application_id 0x0)");
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let words = "has schema 7, written by a newer kennel; this one knows 1 at most";
    let data = TempDir::new().unwrap();
    let store = filled(data.path()).await;
    let copy = crashed(data.path());
    drop(store);
    let upgrade = |data: &TempDir, log: bool| {
        let newer = Connection::open(data.path().join("kennel.db")).unwrap();
        let keep_log = rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        newer.set_db_config(keep_log, log).unwrap();
        newer.pragma_update(None, "user_version", 7).unwrap();
        drop(newer);
        let _ = fs::remove_file(data.path().join("kennel.db-shm"));
    };
    upgrade(&data, false);
    refused("newer", &data, words);
    // The log alone has it, as after a crash.
    upgrade(&copy, true);
    assert!(copy.path().join("kennel.db-wal").exists());
    refused("newer, in the log", &copy, words);
}

#[tokio::test]
async fn a_store_that_was_never_finished_is_made() {
    let data = TempDir::new().unwrap();
    fs::write(data.path().join("kennel.db"), "").unwrap();
    let store = SqliteStore::open(data.path()).unwrap();
    store.commit(put("a", "1")).await.unwrap();
    drop(store);
    let connection = Connection::open(data.path().join("kennel.db")).unwrap();
    let pragma = |name: &str| {
        connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0)).unwrap()
    };
    assert_eq!((pragma("auto_vacuum"), pragma("user_version")), (2, 1));
}

#[test]
fn readers_keep_few_pages() {
    let data = TempDir::new().unwrap();
    let store = SqliteStore::open(data.path()).unwrap();
    let connections =
        || store.readers.point.connections.iter().chain(&store.readers.scan.connections);
    let kib = connections().map(|connection| {
        let connection = connection.lock().unwrap();
        // Negative: KiB, not pages.
        -connection.query_row("PRAGMA cache_size", [], |row| row.get::<_, i32>(0)).unwrap()
    });
    let kib: Vec<i32> = kib.collect();
    assert_eq!(kib, [READER_CACHE_KIB; POINT_READERS + SCAN_READERS]);
    assert!(
        kib.iter().sum::<i32>() <= 2048,
        "all together as much as one connection of SQLite's own"
    );
}

#[tokio::test]
async fn reading_notices_damage() {
    let data = TempDir::new().unwrap();
    let store = SqliteStore::open(data.path()).unwrap();
    store.commit(put("a", "right")).await.unwrap();
    store.commit(put("fine", "right")).await.unwrap();
    store.commit(send("q", "right")).await.unwrap();
    let other = Connection::open(data.path().join("kennel.db")).unwrap();
    other
        .execute_batch(
            "UPDATE entries SET value = x'00' WHERE key = 'a'; UPDATE bodies SET body = x'00'",
        )
        .unwrap();
    drop(other);
    let lease = store.lease("q", 1, LONG).await.unwrap_err();
    let get = store.get("a").await.unwrap_err();
    for error in [lease, get, store.scan("", None, 1).await.unwrap_err()] {
        assert!(matches!(&error, StoreError::Damaged { .. }), "{error:?}");
    }
    assert_eq!(store.get("fine").await.unwrap().unwrap().value, "right", "the rest is read");
    let error = store.commit(put("b", "2")).await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.starts_with("nothing is written since an earlier failure"), "{cause}");
}

#[tokio::test]
async fn damage_that_a_reader_sees_ends_writing() {
    let data = TempDir::new().unwrap();
    let store = SqliteStore::open(data.path()).unwrap();
    store.commit(put("a", "right")).await.unwrap();
    let other = Connection::open(data.path().join("kennel.db")).unwrap();
    other.execute_batch("UPDATE entries SET revision = 7").unwrap();
    drop(other);
    store.commit(put("b", "1")).await.expect("not seen yet");
    store.scan("", None, 10).await.unwrap_err();
    let error = store.commit(put("b", "2")).await.unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }), "{error:?}");
    assert_eq!(store.get("b").await.unwrap().unwrap().value, "1");
}

#[tokio::test]
async fn space_is_given_back() {
    let data = TempDir::new().unwrap();
    let store = SqliteStore::open(data.path()).unwrap();
    let batch = (0..40).map(|i| (format!("{i}"), Bytes::from(vec![7; 1 << 20]))).collect();
    store.commit(Batch { put: batch, ..Batch::default() }).await.unwrap();
    let delete = (0..40).map(|i| format!("{i}")).collect();
    store.commit(Batch { delete, ..Batch::default() }).await.unwrap();
    drop(store);
    let bytes = fs::metadata(data.path().join("kennel.db")).unwrap().len();
    assert!(bytes < 20 << 20, "{bytes}");
    SqliteStore::open(data.path()).unwrap();
}
