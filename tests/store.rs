//! The embedded store against a full disk and a process that is killed.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use kennel::store::files::{FileLogs, Limits};
use kennel::store::sqlite::SqliteStore;
use kennel::store::{Batch, Durability, KeysAndQueues, Logs, StoreError};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

/// A file system of one megabyte, if one can be mounted here.
struct Small(TempDir);

impl Small {
    fn new() -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        match mount(Some("tmpfs"), folder.path(), Some("tmpfs"), flags, Some("size=1m,mode=0700")) {
            Ok(()) => Some(Self(folder)),
            Err(errno) => {
                common::skip(&format!("a file system to fill cannot be mounted: {errno}"));
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all the room that is left but `but` bytes; gives it back when the file is removed.
    fn fill(&self, but: usize) -> std::path::PathBuf {
        let path = self.path().join("filler");
        let mut zeros = std::io::repeat(0).take(1 << 30);
        let mut file = fs::File::create(&path).unwrap();
        std::io::copy(&mut zeros, &mut file).expect_err("it is full");
        let length = file.metadata().unwrap().len();
        file.set_len(length.saturating_sub(u64::try_from(but).unwrap())).unwrap();
        path
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = umount2(self.path(), MntFlags::MNT_DETACH);
    }
}

fn put(key: &str, bytes: usize) -> Batch {
    Batch { put: vec![(key.into(), Bytes::from(vec![b'v'; bytes]))], ..Batch::default() }
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_nothing_else() {
    let Some(disk) = Small::new() else { return };
    let store = SqliteStore::open(disk.path()).unwrap();
    store.commit(put("kept", 100)).await.unwrap();
    let send = Batch { send: vec![("q".into(), "m".into(), Duration::ZERO)], ..Batch::default() };
    store.commit(send).await.unwrap();
    // With no room at all, and with room for a part of the batch.
    for but in [0, 8 << 10, 64 << 10] {
        let filler = disk.fill(but);
        let large = Batch {
            delete: vec!["kept".into()],
            send: vec![("q".into(), "n".into(), Duration::ZERO)],
            ..put("large", 200_000)
        };
        for _ in 0..3 {
            let error = store.commit(large.clone()).await.unwrap_err();
            assert!(matches!(error, StoreError::Full { .. }), "{but}: {error:?}");
        }
        assert!(store.get("kept").await.unwrap().is_some(), "{but}");
        assert_eq!(store.get("large").await.unwrap(), None, "{but}");
        assert_eq!(store.queue_stats("q").await.unwrap().depth, 1, "{but}");
        fs::remove_file(filler).unwrap();
        store.commit(put("small", 1000)).await.expect("there is room again");
    }
    // Batches that fit share a disk with those that do not.
    let filler = disk.fill(40 << 10);
    let (small, large) = (store.commit(put("fits", 10)), store.commit(put("large", 200_000)));
    let (small, large) = tokio::join!(small, large);
    assert!(matches!(large, Err(StoreError::Full { .. })), "{large:?}");
    small.expect("room for this one");
    fs::remove_file(filler).unwrap();
    drop(store);
    let store = SqliteStore::open(disk.path()).unwrap();
    for (key, there) in [("kept", true), ("small", true), ("fits", true), ("large", false)] {
        assert_eq!(store.get(key).await.unwrap().is_some(), there, "{key}");
    }
    let filler = disk.fill(0);
    drop(store);
    // A start without room is refused as that, or needs none.
    match SqliteStore::open(disk.path()) {
        Ok(store) => assert!(store.get("fits").await.unwrap().is_some()),
        Err(error) => assert!(matches!(error, StoreError::Full { .. }), "{error:?}"),
    }
    fs::remove_file(filler).unwrap();
    SqliteStore::open(disk.path()).expect("there is room again");
}

#[tokio::test]
async fn a_full_disk_tears_no_log() {
    let Some(disk) = Small::new() else { return };
    let root = disk.path().join("logs");
    let logs = FileLogs::open(&root, Limits::default()).unwrap();
    let record = |body: &[u8]| vec![(1, Bytes::copy_from_slice(body))];
    for durability in [Durability::Written, Durability::Durable] {
        logs.append("f", record(b"before"), durability).await.unwrap();
        let filler = disk.fill(8 << 10);
        for log in ["f", "new"] {
            let error = logs.append(log, record(&[b'x'; 100_000]), durability).await.unwrap_err();
            assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
        }
        fs::remove_file(filler).unwrap();
        logs.append("f", record(b"after"), durability).await.unwrap();
    }
    let filler = disk.fill(0);
    let error = logs.append("other", record(b"x"), Durability::Written).await.unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    let names = logs.list("other", None, 10).await.unwrap();
    assert_eq!(names, [], "nothing was made");
    fs::remove_file(filler).unwrap();
    for _ in 0..2 {
        let records = logs.read("f", 0, 100, 1 << 20).await.unwrap();
        let bodies: Vec<&[u8]> = records.iter().map(|record| &record.body[..]).collect();
        assert_eq!(bodies, [&b"before"[..], b"after", b"before", b"after"]);
    }
    drop(logs);
    let logs = FileLogs::open(&root, Limits::default()).unwrap();
    assert_eq!(logs.read("f", 0, 100, 1 << 20).await.unwrap().len(), 4);
}

/// In a process of its own: says on stdout what was acknowledged, until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the child of another test"]
async fn write_until_killed() {
    let Some(data) = std::env::var_os("KENNEL_TEST_DATA") else { return };
    let data = Path::new(&data);
    let store = SqliteStore::open(data).unwrap();
    let logs =
        FileLogs::open(&data.join("logs"), Limits { segment_bytes: 4096, ..Limits::default() });
    let logs = logs.unwrap();
    for i in 0_u64.. {
        let batch = Batch {
            send: vec![("q".into(), Bytes::from(i.to_string()), Duration::ZERO)],
            ..put(&format!("key/{i:09}"), 500)
        };
        let revision = store.commit(batch).await.unwrap();
        let record = (i, Bytes::from(format!("record {i}")));
        logs.append("f", vec![record], Durability::Written).await.unwrap();
        println!("\nacknowledged {i} {revision}");
    }
}

#[tokio::test]
async fn what_was_acknowledged_outlives_a_kill() {
    let data = TempDir::new().unwrap();
    let (mut count, mut last_revision) = (0, 0);
    for round in 0..3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "write_until_killed", "--ignored", "--nocapture"])
            .env("KENNEL_TEST_DATA", data.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let acknowledged = |line: String| {
            let (i, revision) = line.strip_prefix("acknowledged ")?.split_once(' ')?;
            Some((i.parse::<u64>().ok()?, revision.parse::<u64>().ok()?))
        };
        let mut seen = (0, 0);
        while seen.0 < 100 {
            let line = lines.next().expect("the child goes on").unwrap();
            seen = acknowledged(line).unwrap_or(seen);
        }
        child.kill().unwrap();
        // What it had said before it died counts as well.
        seen = lines.map_while(Result::ok).filter_map(acknowledged).last().unwrap_or(seen);
        child.wait().unwrap();

        assert!(seen.1 > last_revision, "round {round}: revisions grow over restarts");
        count += seen.0 + 1;
        let store = SqliteStore::open(data.path()).expect("the lock went with the process");
        let entries = store.scan("key/", None, usize::MAX).await.unwrap();
        let keys: Vec<String> = entries.iter().map(|entry| entry.key.clone()).collect();
        for i in 0..=seen.0 {
            assert!(keys.contains(&format!("key/{i:09}")), "round {round}: {i} of {}", seen.0);
        }
        last_revision = entries.iter().map(|entry| entry.revision).max().unwrap();
        let depth = store.queue_stats("q").await.unwrap().depth;
        assert!(depth >= count, "round {round}: {depth} of {count} messages");
        let logs = FileLogs::open(&data.path().join("logs"), Limits::default()).unwrap();
        let records = logs.read("f", 0, usize::MAX, usize::MAX).await.unwrap();
        assert!(u64::try_from(records.len()).unwrap() >= count, "round {round}: records");
        assert!(records.is_sorted_by(|a, b| a.sequence < b.sequence));
    }
}
