//! What only this driver promises: files that outlive crashes, and stay within bounds.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::store::conformance;

conformance::logs!(|| {
    let root = TempDir::new().unwrap();
    (FileLogs::open(root.path(), Limits::default()).unwrap(), root)
});

/// The same with a segment for every few records.
mod small_segments {
    use super::*;

    conformance::logs!(|| {
        let root = TempDir::new().unwrap();
        let limits = Limits { segment_bytes: 100, ..Limits::default() };
        (FileLogs::open(root.path(), limits).unwrap(), root)
    });
}

fn open(root: &Path) -> FileLogs {
    FileLogs::open(root, Limits::default()).unwrap()
}

async fn append(logs: &FileLogs, log: &str, bodies: &[&str]) {
    let bodies = bodies.iter().map(|body| (7, Bytes::copy_from_slice(body.as_bytes())));
    logs.append(log, bodies.collect(), Durability::Written).await.unwrap();
}

async fn read(logs: &FileLogs, log: &str) -> Vec<Record> {
    logs.read(log, 0, usize::MAX, usize::MAX).await.unwrap()
}

async fn bodies(logs: &FileLogs, log: &str) -> Vec<String> {
    let records = read(logs, log).await;
    records.into_iter().map(|r| String::from_utf8(r.body.to_vec()).unwrap()).collect()
}

/// The segments of a log, oldest first.
fn segments(root: &Path, log: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root.join(name::folder(log).unwrap())).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn on_disk(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| match entry.metadata().unwrap() {
            metadata if metadata.is_dir() => on_disk(&entry.path()),
            metadata => metadata.len(),
        })
        .sum()
}

#[tokio::test]
async fn everything_is_there_again() {
    let root = TempDir::new().unwrap();
    let logs = open(root.path());
    let long = "/aws/lambda/".repeat(50);
    for log in ["f", "g", &long] {
        append(&logs, log, &["one", "two"]).await;
    }
    append(&logs, "empty", &[]).await;
    let before = read(&logs, "f").await;
    let listed = logs.list("", None, 10).await.unwrap();
    drop(logs);
    let logs = open(root.path());
    assert_eq!(logs.list("", None, 10).await.unwrap(), listed);
    assert_eq!(read(&logs, "f").await, before);
    append(&logs, "f", &["three"]).await;
    assert_eq!(bodies(&logs, "f").await, ["one", "two", "three"]);
    let records = read(&logs, "f").await;
    assert!(records[2].sequence > records[1].sequence);
    logs.remove(&long).await.unwrap();
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 3, "folders of a long name go too");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let segment = segments(root.path(), "f").pop().unwrap();
    assert_eq!((mode(&segment), mode(segment.parent().unwrap())), (0o600, 0o700));
}

#[tokio::test]
async fn a_torn_end_is_cut_off() {
    let root = TempDir::new().unwrap();
    let logs = open(root.path());
    append(&logs, "f", &["one", "two"]).await;
    append(&logs, "f", &["three"]).await;
    let before = read(&logs, "f").await;
    drop(logs);
    let segment = segments(root.path(), "f").pop().unwrap();
    let whole = fs::read(&segment).unwrap();
    let kept = whole.len() - segment::record_bytes("three".len());
    let mut zeros = whole[..kept].to_vec();
    zeros.resize(kept + 10_000, 0);
    let cuts = (kept..whole.len()).map(|cut| whole[..cut].to_vec());
    for (i, bytes) in cuts.chain([zeros]).enumerate() {
        fs::write(&segment, bytes).unwrap();
        let logs = open(root.path());
        assert_eq!(read(&logs, "f").await, before[..2], "{i}");
        assert_eq!(fs::metadata(&segment).unwrap().len(), u64::try_from(kept).unwrap(), "{i}");
        append(&logs, "f", &["again"]).await;
        let records = read(&logs, "f").await;
        assert_eq!(&records[2].body[..], b"again", "{i}");
        assert!(records[2].sequence > before[2].sequence, "{i}: never the torn one's");
    }
    // A file that has nothing but its name.
    for bytes in [&b""[..], &[0; 500]] {
        fs::write(&segment, bytes).unwrap();
        let logs = open(root.path());
        assert_eq!(read(&logs, "f").await, []);
        assert_eq!(logs.list("", None, 9).await.unwrap()[0].bytes, 0);
        append(&logs, "f", &["again"]).await;
        assert_eq!(bodies(&logs, "f").await, ["again"]);
        drop(logs);
        assert_eq!(bodies(&open(root.path()), "f").await, ["again"]);
        let aside = segments(root.path(), "f").into_iter().filter(|path| *path != segment);
        aside.for_each(|path| fs::remove_file(path).unwrap());
    }
}

#[tokio::test]
async fn damage_is_told_and_passed() {
    let root = TempDir::new().unwrap();
    let limits = Limits { segment_bytes: 150, ..Limits::default() };
    let logs = FileLogs::open(root.path(), limits).unwrap();
    for body in ["one", "two", "three", "four", "five", "six"] {
        append(&logs, "f", &[body]).await;
    }
    let before = read(&logs, "f").await;
    drop(logs);
    let files = segments(root.path(), "f");
    assert_eq!(files.len(), 2);
    let mut bytes = fs::read(&files[0]).unwrap();
    let at = bytes.windows(3).position(|window| window == b"two").unwrap();
    bytes[at] ^= 1;
    fs::write(&files[0], bytes).unwrap();
    let logs = FileLogs::open(root.path(), limits).unwrap();
    assert_eq!(read(&logs, "f").await, before[..1], "what is before it");
    let error = logs.read("f", before[1].sequence, 9, 9999).await.unwrap_err();
    let next = before[3].sequence;
    let text = format!(
        "the store `{}` is damaged: no record at byte {}; records from sequence {next} on can be read",
        files[0].display(),
        at - 24
    );
    assert_eq!(error.to_string(), text);
    assert_eq!(logs.read("f", next, 9, 9999).await.unwrap(), before[3..]);
    append(&logs, "f", &["seven"]).await;
    logs.trim("f", 8).await.unwrap();
}

#[tokio::test]
async fn a_log_keeps_within_its_limit() {
    let root = TempDir::new().unwrap();
    let limits = Limits { log_bytes: 10_000, segment_bytes: 1000, ..Limits::default() };
    let logs = FileLogs::open(root.path(), limits).unwrap();
    for i in 0..1000 {
        append(&logs, "f", &[&format!("{i:060}")]).await;
        assert!(on_disk(root.path()) <= 10_000);
    }
    let kept = bodies(&logs, "f").await;
    assert!(kept.len() > 80, "{}", kept.len());
    let expected: Vec<String> = (1000 - kept.len()..1000).map(|i| format!("{i:060}")).collect();
    assert_eq!(kept, expected, "the newest");
    append(&logs, "f", &[&"x".repeat(20_000)]).await;
    assert_eq!(bodies(&logs, "f").await.len(), 1, "one that is larger alone");
}

#[tokio::test]
async fn all_logs_keep_within_theirs() {
    let root = TempDir::new().unwrap();
    let limits = Limits {
        log_bytes: 1 << 20,
        total_bytes: 100_000,
        segment_bytes: 5000,
        ..Limits::default()
    };
    let logs = FileLogs::open(root.path(), limits).unwrap();
    let body = "x".repeat(900);
    for log in ["small-1", "small-2"] {
        append(&logs, log, &[&body]).await;
    }
    for _ in 0..300 {
        append(&logs, "large", &[&body]).await;
    }
    let total = || logs.inner.shared.total.load(Ordering::Relaxed);
    settle(&logs).await;
    assert_eq!(total(), on_disk(root.path()));
    assert_eq!(names(&logs).await, ["large", "small-1", "small-2"], "only the large one gave");
    // Many of one segment each: whole logs go, and the one unused for longest first.
    append(&logs, "small-1", &["in use"]).await;
    for i in 0..150 {
        append(&logs, &format!("log-{i:03}"), &[&body]).await;
        settle(&logs).await;
    }
    let left = names(&logs).await;
    assert!(left.contains(&"log-149".into()) && !left.contains(&"small-2".into()), "{left:?}");
    assert_eq!(total(), on_disk(root.path()));
    assert!(total() <= 100_000);
    // Also when the limit was set lower meanwhile.
    drop(logs);
    let limits = Limits { total_bytes: 10_000, ..limits };
    let logs = FileLogs::open(root.path(), limits).unwrap();
    assert!(on_disk(root.path()) <= 10_000);
    assert_eq!(bodies(&logs, "log-149").await, [body]);
}

/// Waits until there is room.
async fn settle(logs: &FileLogs) {
    while logs.inner.is_over() || logs.inner.making_room.load(Ordering::Acquire) {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

async fn names(logs: &FileLogs) -> Vec<String> {
    let found = logs.list("", None, usize::MAX).await.unwrap();
    found.into_iter().map(|info| info.log).collect()
}

fn folders(root: &Path) -> usize {
    fs::read_dir(root).unwrap().count()
}

#[tokio::test]
async fn logs_are_not_many() {
    let root = TempDir::new().unwrap();
    let limits = Limits { logs: 100, ..Limits::default() };
    let logs = FileLogs::open(root.path(), limits).unwrap();
    let name = |i: usize| format!("log-{i:03}");
    // One is held before it is there, one is held twice; one is used all the time.
    let (before, held, twice) = (logs.hold("held"), logs.hold("twice"), logs.hold("twice"));
    for log in ["held", "twice"] {
        append(&logs, log, &["kept"]).await;
    }
    for i in 0..300 {
        append(&logs, &name(i), &["one"]).await;
        append(&logs, "used", &["again"]).await;
        settle(&logs).await;
        assert!(logs.inner.logs.read().unwrap().len() <= 100);
    }
    let left = names(&logs).await;
    assert!((95..=100).contains(&left.len()), "{}", left.len());
    let first = 300 - (left.len() - 3);
    let newest = (first..300).map(name).chain(["held", "twice", "used"].map(String::from));
    let mut newest: Vec<String> = newest.collect();
    newest.sort();
    assert_eq!(left, newest, "the newest, the held, and the used");
    assert_eq!(folders(root.path()), left.len());
    assert_eq!(bodies(&logs, "held").await, ["kept"]);
    assert_eq!(bodies(&logs, "used").await.len(), 300);

    // Not held any more, by the last one.
    drop((before, held));
    for i in 300..410 {
        append(&logs, &name(i), &["one"]).await;
        settle(&logs).await;
    }
    let left = names(&logs).await;
    assert!(!left.contains(&"held".into()) && left.contains(&"twice".into()), "{left:?}");
    drop(twice);
    assert!(logs.inner.held.lock().unwrap().is_empty());

    // Also when the limit was set lower meanwhile.
    drop(logs);
    let logs = FileLogs::open(root.path(), Limits { logs: 20, ..limits }).unwrap();
    assert_eq!((names(&logs).await.len(), folders(root.path())), (19, 19));
    assert_eq!(bodies(&logs, &name(409)).await, ["one"]);
}

#[tokio::test]
async fn what_is_held_may_be_more() {
    let root = TempDir::new().unwrap();
    let limits = Limits { logs: 10, ..Limits::default() };
    let logs = FileLogs::open(root.path(), limits).unwrap();
    let mut held = Vec::new();
    for i in 0..40 {
        let name = format!("held-{i}");
        held.push(logs.hold(&name));
        append(&logs, &name, &["one"]).await;
        settle(&logs).await;
    }
    assert_eq!(names(&logs).await.len(), 40);
    // It is not looked for room at each append meanwhile.
    let bound = logs.inner.bound.load(Ordering::Relaxed);
    assert!((40..=42).contains(&bound), "{bound}");
    drop(held);
    for i in 0..3 {
        append(&logs, &format!("new-{i}"), &["one"]).await;
    }
    settle(&logs).await;
    let left = names(&logs).await;
    assert!(left.len() <= 10 && left.contains(&"new-2".into()), "{left:?}");
    assert_eq!(logs.inner.bound.load(Ordering::Relaxed), 10);
    // Who removes a log by name is not kept from it.
    let held = logs.hold("new-2");
    logs.remove("new-2").await.unwrap();
    assert!(!names(&logs).await.contains(&"new-2".into()));
    append(&logs, "new-2", &["back"]).await;
    assert_eq!(bodies(&logs, "new-2").await, ["back"]);
    drop(held);
}

#[tokio::test]
async fn what_cannot_go_is_not_tried_at_each_append() {
    let root = TempDir::new().unwrap();
    let logs = open(root.path());
    for i in 0..20 {
        append(&logs, &format!("log-{i}"), &["one"]).await;
        let segment = segments(root.path(), &format!("log-{i}")).pop().unwrap();
        fs::remove_file(&segment).unwrap();
        fs::create_dir(&segment).unwrap();
    }
    drop(logs);
    let logs = FileLogs::open(root.path(), Limits { logs: 10, ..Limits::default() }).unwrap();
    assert_eq!(logs.inner.logs.read().unwrap().len(), 20);
    assert!(!logs.inner.is_over());
    for i in 0..2 {
        append(&logs, &format!("new-{i}"), &["one"]).await;
    }
    settle(&logs).await;
    assert_eq!(logs.inner.logs.read().unwrap().len(), 20, "the others still can");
}

#[tokio::test]
async fn bytes_take_what_is_held_last() {
    let root = TempDir::new().unwrap();
    let limits = Limits { total_bytes: 20_000, ..Limits::default() };
    let logs = FileLogs::open(root.path(), limits).unwrap();
    let _held = logs.hold("held");
    let body = "x".repeat(900);
    append(&logs, "held", &[&body]).await;
    for i in 0..60 {
        append(&logs, &format!("log-{i}"), &[&body]).await;
        settle(&logs).await;
    }
    assert!(names(&logs).await.contains(&"held".into()));
    let all: Vec<_> = (0..60).map(|i| logs.hold(&format!("log-{i}"))).collect();
    append(&logs, "new", &[&"y".repeat(19_000)]).await;
    settle(&logs).await;
    assert!(on_disk(root.path()) <= 20_000, "even held ones then");
    drop(all);
}

/// A folder that means the name of another one is nobody's.
#[tokio::test]
async fn a_name_has_one_folder() {
    let root = TempDir::new().unwrap();
    let logs = open(root.path());
    append(&logs, "a/b", &["one"]).await;
    drop(logs);
    let (own, other) = (root.path().join("a%2Fb"), root.path().join("a%2fb"));
    fs::create_dir(&other).unwrap();
    for entry in fs::read_dir(&own).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), other.join(entry.file_name())).unwrap();
    }
    let logs = open(root.path());
    assert_eq!(names(&logs).await, ["a/b"]);
    logs.remove("a/b").await.unwrap();
    assert!(!own.exists() && other.exists());
}

#[tokio::test]
async fn open_files_are_few() {
    let root = TempDir::new().unwrap();
    let logs = open(root.path());
    let name = |i: usize| format!("log-{i}");
    for round in ["one", "two"] {
        for i in 0..OPEN_FILES + 100 {
            append(&logs, &name(i), &[round]).await;
        }
    }
    assert!(logs.inner.open.lock().unwrap().len() <= OPEN_FILES);
    let all: Vec<Arc<Log>> = logs.inner.logs.read().unwrap().values().cloned().collect();
    let open = all.iter().filter(|log| log.close()).count();
    assert!((1..=OPEN_FILES).contains(&open), "{open}");
    for i in 0..OPEN_FILES + 100 {
        assert_eq!(bodies(&logs, &name(i)).await, ["one", "two"]);
    }
}

#[test]
fn a_failed_sync_is_not_forgotten() {
    let mut synced = log::Synced::default();
    assert_eq!(synced.has(5), None);
    synced.note(10, true);
    assert_eq!((synced.has(10), synced.has(11)), (Some(true), None));
    synced.note(20, false);
    assert_eq!(
        (synced.has(10), synced.has(11), synced.has(20)),
        (Some(true), Some(false), Some(false))
    );
    assert_eq!(synced.has(21), None);
    synced.note(25, false);
    synced.note(30, true);
    for (next, expected) in [(10, true), (11, false), (25, false), (26, true), (30, true)] {
        assert_eq!(synced.has(next), Some(expected), "{next}");
    }
}
