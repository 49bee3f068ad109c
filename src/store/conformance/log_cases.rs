//! What [`Logs`] promises.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use tokio::task::JoinSet;

use super::bytes;
use crate::pool::unix_ms;
use crate::store::{Durability, Logs, Record};

type LogStore = Arc<dyn Logs>;

async fn append(logs: &LogStore, log: &str, records: &[(u64, &str)]) {
    let records = records.iter().map(|(time_ms, body)| (*time_ms, bytes(body))).collect();
    logs.append(log, records, Durability::Written).await.unwrap();
}

async fn read(logs: &LogStore, log: &str, from: u64) -> Vec<Record> {
    logs.read(log, from, usize::MAX, usize::MAX).await.unwrap()
}

fn seen(records: &[Record]) -> Vec<(u64, &str)> {
    records.iter().map(|r| (r.time_ms, std::str::from_utf8(&r.body).unwrap())).collect()
}

async fn names(logs: &LogStore, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
    let found = logs.list(prefix, after, limit).await.unwrap();
    found.into_iter().map(|info| info.log).collect()
}

pub async fn records_are_read_as_appended(logs: LogStore) {
    assert_eq!(read(&logs, "f", 0).await, []);
    let large = "l".repeat(1 << 20);
    let all = [(10, "one"), (10, ""), (12, "two\n"), (11, "earlier"), (20, &large), (21, "end")];
    append(&logs, "f", &all[..1]).await;
    append(&logs, "f", &all[1..4]).await;
    let rest = all[4..].iter().map(|(time_ms, body)| (*time_ms, bytes(body))).collect();
    logs.append("f", rest, Durability::Durable).await.unwrap();
    append(&logs, "g", &[(1, "another log's")]).await;
    let records = read(&logs, "f", 0).await;
    assert!(seen(&records) == all);
    assert!(records.is_sorted_by(|a, b| a.sequence < b.sequence));
    for (i, record) in records.iter().enumerate() {
        assert!(read(&logs, "f", record.sequence).await == records[i..], "from {i}");
        assert!(read(&logs, "f", record.sequence + 1).await == records[i + 1..], "after {i}");
    }
    assert_eq!(read(&logs, "f", u64::MAX).await, []);
    // Following: what comes later is behind what was seen.
    append(&logs, "f", &[(30, "new")]).await;
    let next = records.last().unwrap().sequence + 1;
    assert_eq!(seen(&read(&logs, "f", next).await), [(30, "new")]);
}

pub async fn reads_are_cut(logs: LogStore) {
    let bodies: Vec<String> = (0..1000).map(|i| format!("{i:0100}")).collect();
    let records: Vec<(u64, &str)> = (0..).zip(bodies.iter().map(String::as_str)).collect();
    append(&logs, "f", &records).await;
    for (limit, most_bytes, expected) in [
        (0, usize::MAX, 0),
        (1, usize::MAX, 1),
        (10, usize::MAX, 10),
        (usize::MAX, 1000, 10),
        (usize::MAX, 0, 1),
        (3, 1000, 3),
        (5000, 1 << 30, 1000),
    ] {
        let found = logs.read("f", 0, limit, most_bytes).await.unwrap();
        assert_eq!(found.len(), expected, "{limit}, {most_bytes}");
    }
    // In pieces it is the same.
    let (mut from, mut all) = (0, Vec::new());
    loop {
        let found = logs.read("f", from, 64, 5000).await.unwrap();
        let Some(last) = found.last() else { break };
        from = last.sequence + 1;
        all.extend(found);
    }
    assert!(seen(&all) == records);
}

pub async fn an_append_of_nothing_makes_a_log(logs: LogStore) {
    let before = unix_ms(SystemTime::now());
    append(&logs, "f", &[]).await;
    let after = unix_ms(SystemTime::now());
    let infos = logs.list("", None, 10).await.unwrap();
    assert_eq!(infos.len(), 1);
    assert_eq!((infos[0].first_record_ms, infos[0].last_record_ms), (None, None));
    assert!((before..=after).contains(&infos[0].created_ms), "{infos:?}");
    assert_eq!(read(&logs, "f", 0).await, []);
    append(&logs, "f", &[]).await;
    append(&logs, "f", &[(5, "x"), (7, "y")]).await;
    let info = logs.list("", None, 10).await.unwrap().pop().unwrap();
    assert_eq!((info.first_record_ms, info.last_record_ms), (Some(5), Some(7)));
    assert_eq!(info.created_ms, infos[0].created_ms);
    assert!(info.bytes > infos[0].bytes);
}

pub async fn logs_are_listed_in_order(logs: LogStore) {
    assert_eq!(names(&logs, "", None, 10).await, [] as [&str; 0]);
    for log in ["g|2", "f|1", "f|10", "f|2", "f", "f/x"] {
        append(&logs, log, &[(1, "x")]).await;
    }
    for (prefix, after, limit, expected) in [
        ("", None, 10, &["f", "f/x", "f|1", "f|10", "f|2", "g|2"][..]),
        ("f|", None, 10, &["f|1", "f|10", "f|2"]),
        ("f|", None, 2, &["f|1", "f|10"]),
        ("f|", Some("f|10"), 10, &["f|2"]),
        ("f|", Some("f|11"), 10, &["f|2"]),
        ("f|", Some("a"), 1, &["f|1"]),
        ("f|", Some("g"), 10, &[]),
        ("f|", None, 0, &[]),
        ("h", None, 10, &[]),
    ] {
        let found = names(&logs, prefix, after, limit).await;
        assert_eq!(found, expected, "{prefix} after {after:?}, {limit}");
    }
}

pub async fn logs_may_have_any_name(logs: LogStore) {
    let stream = "/aws/lambda/f|2026/11/24/[$LATEST]0123456789abcdef0123456789abcdef";
    let (long, worst) = ("a/".repeat(300), "\u{e9}".repeat(300));
    let beside = long[..599].to_owned();
    let all = [".", "..", "a", "a+", "a/b", "%2E", "\0", " ", "A", stream, &long, &worst, &beside];
    for log in all {
        append(&logs, log, &[(1, log)]).await;
    }
    let sorted: BTreeSet<String> = all.iter().map(|log| (*log).to_owned()).collect();
    assert_eq!(names(&logs, "", None, 100).await, sorted.into_iter().collect::<Vec<_>>());
    for log in all {
        assert_eq!(seen(&read(&logs, log, 0).await), [(1, log)]);
    }
    logs.remove(&long).await.unwrap();
    assert_eq!(seen(&read(&logs, &beside, 0).await), [(1, &*beside)]);
    let none = logs.append("", vec![(1, bytes("x"))], Durability::Written).await;
    assert!(none.is_err(), "a log has a name");
}

pub async fn trimming_drops_what_is_older(logs: LogStore) {
    let all = [(10, "a"), (20, "b"), (15, "late"), (30, "c"), (30, "d"), (40, "e")];
    append(&logs, "f", &all).await;
    append(&logs, "g", &all).await;
    let before = read(&logs, "f", 0).await;
    for (before_ms, left) in [(0, 0), (10, 0), (11, 1), (20, 1), (21, 3), (30, 3), (31, 5), (40, 5)]
    {
        logs.trim("f", before_ms).await.unwrap();
        assert_eq!(read(&logs, "f", 0).await, before[left..], "before {before_ms}");
        let info = logs.list("f", None, 1).await.unwrap().pop().unwrap();
        assert_eq!(info.first_record_ms, Some(all[left].0), "before {before_ms}");
        assert_eq!(info.last_record_ms, Some(40), "before {before_ms}");
    }
    append(&logs, "f", &[(50, "f")]).await;
    assert_eq!(seen(&read(&logs, "f", 0).await), [(40, "e"), (50, "f")]);
    let last = read(&logs, "f", 0).await[1].sequence;

    // Made later than all that is dropped, it stays without a record; else it goes.
    logs.trim("f", 1000).await.unwrap();
    assert_eq!(read(&logs, "f", 0).await, []);
    let info = logs.list("f", None, 1).await.unwrap().pop().unwrap();
    assert_eq!((info.first_record_ms, info.last_record_ms), (None, None));
    append(&logs, "f", &[(60, "g")]).await;
    let again = read(&logs, "f", 0).await;
    assert_eq!(seen(&again), [(60, "g")]);
    assert!(again[0].sequence > last);
    logs.trim("f", u64::MAX).await.unwrap();
    assert_eq!(names(&logs, "", None, 10).await, ["g"]);
    append(&logs, "f", &[(70, "h")]).await;
    let new = read(&logs, "f", 0).await;
    assert_eq!(seen(&new), [(70, "h")]);
    assert!(new[0].sequence > again[0].sequence);

    append(&logs, "empty", &[]).await;
    logs.trim("empty", 1000).await.unwrap();
    assert_eq!(names(&logs, "e", None, 10).await, ["empty"]);
    logs.trim("empty", u64::MAX).await.unwrap();
    assert_eq!(names(&logs, "e", None, 10).await, [] as [&str; 0]);
    logs.trim("never-there", u64::MAX).await.unwrap();
    assert_eq!(seen(&read(&logs, "g", 0).await), all);
}

pub async fn a_removed_log_is_gone(logs: LogStore) {
    logs.remove("f").await.unwrap();
    let many: Vec<(u64, &str)> = (0..5000).map(|i| (i, "x")).collect();
    append(&logs, "f", &many).await;
    append(&logs, "g", &[(1, "kept")]).await;
    let last = read(&logs, "f", 0).await.pop().unwrap();
    logs.remove("f").await.unwrap();
    assert_eq!(names(&logs, "", None, 10).await, ["g"]);
    assert_eq!(read(&logs, "f", 0).await, []);
    append(&logs, "f", &[(1, "new")]).await;
    let new = read(&logs, "f", 0).await;
    assert_eq!(seen(&new), [(1, "new")]);
    assert!(new[0].sequence > last.sequence, "{} after {}", new[0].sequence, last.sequence);
}

pub async fn concurrent_appends_keep_their_order(logs: LogStore) {
    const TASKS: usize = 16;
    const EACH: usize = 50;
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let logs = logs.clone();
        tasks.spawn(async move {
            let durability = if task % 2 == 0 { Durability::Durable } else { Durability::Written };
            for i in 0..EACH {
                let record = (1, Bytes::from(format!("{task} {i}")));
                let pair = vec![record.clone(), (2, record.1)];
                logs.append("f", pair, durability).await.unwrap();
                if task == 0 && i % 10 == 0 {
                    logs.remove("beside").await.unwrap();
                    logs.list("", None, 10).await.unwrap();
                }
                logs.append("beside", vec![(1, Bytes::new())], Durability::Written).await.unwrap();
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    let records = read(&logs, "f", 0).await;
    assert!(records.is_sorted_by(|a, b| a.sequence < b.sequence));
    let mut next = [0; TASKS];
    for pair in records.chunks(2) {
        assert_eq!((pair[0].time_ms, pair[1].time_ms), (1, 2), "together: {pair:?}");
        assert_eq!(pair[0].body, pair[1].body, "together");
        let text = std::str::from_utf8(&pair[0].body).unwrap();
        let (task, i) = text.split_once(' ').unwrap();
        let task: usize = task.parse().unwrap();
        assert_eq!(i, next[task].to_string(), "task {task}");
        next[task] += 1;
    }
    assert_eq!(next, [EACH; TASKS]);
}
