//! What the traits promise, a case each, for every driver.
//!
//! A driver's test module names a maker of empty stores: `conformance::keys_and_queues!(|| (store,
//! kept_meanwhile));`, or of logs: `conformance::logs!(…)`. No case looks at how long anything took; what must come
//! sooner or later is waited for, for up to [`PATIENCE`].

mod log_cases;
mod queue_cases;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;

pub use self::log_cases::*;
pub use self::queue_cases::*;
use super::{Batch, Entry, KeysAndQueues, Lease, Message, QueueStats, StoreError};

type Store = Arc<dyn KeysAndQueues>;

/// For what has to happen.
const PATIENCE: Duration = Duration::from_secs(30);
/// For what must not happen while a test runs.
const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(20);
const NOW: Duration = Duration::ZERO;

macro_rules! keys_and_queues {
    ($make:expr) => {
        conformance::keys_and_queues!(@ $make;
            entries_are_read_as_written
            revisions_grow
            a_batch_depends_on_what_it_expects
            a_refused_batch_does_nothing
            a_future_that_is_not_polled_does_nothing
            scans_are_in_order_and_cut
            keys_may_be_any_text
            messages_come_in_the_order_they_are_due
            delays_are_kept
            a_lease_ends_and_is_lost
            a_lease_is_good_until_it_is_taken
            leases_are_of_one_queue_and_message
            extending_holds_what_is_still_good
            a_retry_gives_back
            the_buried_are_kept_and_not_leased
            a_message_moves_in_one_step
            queues_are_told_apart
            bodies_may_be_large
            concurrent_changes_lose_nothing
            concurrent_leasers_share_nothing
        );
    };
    (@ $make:expr; $($case:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $case() {
                let (store, _kept) = ($make)();
                conformance::$case(std::sync::Arc::new(store)).await;
            }
        )*
    };
}
pub(crate) use keys_and_queues;

macro_rules! logs {
    ($make:expr) => {
        conformance::keys_and_queues!(@ $make;
            records_are_read_as_appended
            reads_are_cut
            an_append_of_nothing_makes_a_log
            logs_are_listed_in_order
            logs_may_have_any_name
            trimming_drops_what_is_older
            a_removed_log_is_gone
            concurrent_appends_keep_their_order
        );
    };
}
pub(crate) use logs;

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(key: &str, value: &str) -> Batch {
    Batch { put: vec![(key.into(), bytes(value))], ..Batch::default() }
}

fn send(queue: &str, body: &str, delay: Duration) -> Batch {
    Batch { send: vec![(queue.into(), bytes(body), delay)], ..Batch::default() }
}

fn acknowledge(message: &Message) -> Batch {
    Batch { acknowledge: vec![message.lease()], ..Batch::default() }
}

fn retry(message: &Message, delay: Duration, body: Option<&str>) -> Batch {
    Batch { retry: vec![(message.lease(), delay, body.map(bytes))], ..Batch::default() }
}

fn bury(message: &Message) -> Batch {
    Batch { bury: vec![message.lease()], ..Batch::default() }
}

fn bodies(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|m| std::str::from_utf8(&m.body).unwrap()).collect()
}

async fn value(store: &Store, key: &str) -> Option<Bytes> {
    store.get(key).await.unwrap().map(|entry| entry.value)
}

/// Leases once something is due.
async fn lease_soon(store: &Store, queue: &str, hold: Duration) -> Vec<Message> {
    let wait = async {
        loop {
            let messages = store.lease(queue, 100, hold).await.unwrap();
            if !messages.is_empty() {
                break messages;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("a message that is due")
}

async fn lease_one(store: &Store, queue: &str) -> Message {
    let mut messages = store.lease(queue, 1, LONG).await.unwrap();
    messages.pop().expect("a message that is due")
}

fn assert_lost<T: std::fmt::Debug>(what: &str, result: Result<T, StoreError>, lease: &Lease) {
    match result {
        Err(StoreError::LeaseLost { queue, id }) => {
            assert_eq!((&queue, id), (&lease.queue, lease.id), "{what}");
        }
        other => panic!("{what}: {other:?}"),
    }
}

pub async fn entries_are_read_as_written(store: Store) {
    assert_eq!(store.get("a").await.unwrap(), None);
    let revision = store.commit(put("a", "one")).await.unwrap();
    let entry = Entry { key: "a".into(), value: bytes("one"), revision };
    assert_eq!(store.get("a").await.unwrap(), Some(entry));
    assert_eq!(store.get("A").await.unwrap(), None, "keys are told apart by case");

    store.commit(put("empty", "")).await.unwrap();
    assert_eq!(value(&store, "empty").await, Some(Bytes::new()));

    let batch = Batch {
        delete: vec!["a".into(), "never-there".into()],
        put: vec![("b".into(), bytes("first")), ("b".into(), bytes("last"))],
        ..Batch::default()
    };
    store.commit(batch).await.unwrap();
    assert_eq!(value(&store, "a").await, None);
    assert_eq!(value(&store, "b").await, Some(bytes("last")));

    let both = Batch { delete: vec!["b".into()], ..put("b", "kept") };
    store.commit(both).await.unwrap();
    assert_eq!(value(&store, "b").await, Some(bytes("kept")), "deleted and put is put");
}

pub async fn revisions_grow(store: Store) {
    let mut last = 0;
    for batch in [put("a", "1"), put("b", "1"), put("a", "1"), Batch::default(), put("a", "2")] {
        let keys: Vec<String> = batch.put.iter().map(|p| p.0.clone()).collect();
        let revision = store.commit(batch).await.unwrap();
        assert!(revision > last, "{revision} after {last}");
        last = revision;
        for key in keys {
            assert_eq!(store.get(&key).await.unwrap().unwrap().revision, revision, "{key}");
        }
    }
    let batch = Batch { delete: vec!["a".into()], ..Batch::default() };
    store.commit(batch).await.unwrap();
    assert!(store.commit(put("a", "2")).await.unwrap() > last, "a key that was gone");
}

pub async fn a_batch_depends_on_what_it_expects(store: Store) {
    let old = store.commit(put("a", "1")).await.unwrap();
    let new = store.commit(put("a", "2")).await.unwrap();
    for (what, expect, holds) in [
        ("the revision", vec![("a", Some(new))], true),
        ("an older revision", vec![("a", Some(old))], false),
        ("a later revision", vec![("a", Some(new + 1))], false),
        ("absence of what is there", vec![("a", None)], false),
        ("absence", vec![("b", None)], true),
        ("presence of what is not", vec![("b", Some(new))], false),
        ("two, one wrong", vec![("a", Some(new)), ("b", Some(new))], false),
        ("two, right", vec![("a", Some(new)), ("b", None)], true),
    ] {
        let expect: Vec<_> = expect.into_iter().map(|(key, r)| (key.to_owned(), r)).collect();
        let wrong = expect.last().unwrap().0.clone();
        match store.commit(Batch { expect, ..put("c", what) }).await {
            Ok(_) => assert!(holds, "{what}"),
            Err(StoreError::Conflict { key }) => assert!(!holds && key == wrong, "{what}: {key}"),
            Err(other) => panic!("{what}: {other:?}"),
        }
        let there = value(&store, "c").await == Some(bytes(what));
        assert_eq!(there, holds, "{what}");
    }
    // What was deleted and made again is not what it was.
    store.commit(Batch { delete: vec!["a".into()], ..Batch::default() }).await.unwrap();
    store.commit(put("a", "2")).await.unwrap();
    let stale = Batch { expect: vec![("a".into(), Some(new))], ..put("a", "3") };
    assert!(matches!(store.commit(stale).await, Err(StoreError::Conflict { .. })));
}

pub async fn a_refused_batch_does_nothing(store: Store) {
    store.commit(put("kept", "1")).await.unwrap();
    store.commit(send("q", "first", NOW)).await.unwrap();
    store.commit(send("q", "second", NOW)).await.unwrap();
    let first = lease_one(&store, "q").await;
    let second = lease_one(&store, "q").await;
    let gone = Lease { lease: second.lease + 1000, ..second.lease() };
    let full = || Batch {
        put: vec![("new".into(), bytes("x")), ("kept".into(), bytes("2"))],
        delete: vec!["kept".into()],
        send: vec![("q".into(), bytes("third"), NOW), ("other".into(), bytes("x"), NOW)],
        acknowledge: vec![first.lease()],
        retry: vec![(second.lease(), NOW, Some(bytes("changed")))],
        ..Batch::default()
    };
    let cases = [
        ("an expectation", Batch { expect: vec![("new".into(), Some(1))], ..full() }),
        ("an acknowledgement", Batch { acknowledge: vec![first.lease(), gone.clone()], ..full() }),
        ("a retry", Batch { retry: vec![(gone.clone(), NOW, None)], ..full() }),
        ("a burial", Batch { bury: vec![gone.clone()], ..full() }),
    ];
    for (what, batch) in cases {
        let result = store.commit(batch).await;
        match what {
            "an expectation" => assert!(matches!(result, Err(StoreError::Conflict { .. }))),
            _ => assert_lost(what, result, &gone),
        }
        assert_eq!(value(&store, "new").await, None, "{what}");
        assert_eq!(value(&store, "kept").await, Some(bytes("1")), "{what}");
        assert_eq!(store.queue_stats("q").await.unwrap().depth, 2, "{what}");
        assert_eq!(store.queue_stats("other").await.unwrap().depth, 0, "{what}");
        assert_eq!(store.lease("q", 10, LONG).await.unwrap(), [], "{what}: leases hold");
    }
    store.commit(full()).await.expect("the same with nothing wrong");
    let messages = store.lease("q", 10, LONG).await.unwrap();
    assert_eq!(BTreeSet::from_iter(bodies(&messages)), BTreeSet::from(["changed", "third"]));
}

pub async fn a_future_that_is_not_polled_does_nothing(store: Store) {
    store.commit(send("q", "x", NOW)).await.unwrap();
    drop(store.commit(put("a", "1")));
    drop(store.lease("q", 1, LONG));
    assert_eq!(value(&store, "a").await, None);
    assert_eq!(lease_one(&store, "q").await.receives, 1);
}

pub async fn scans_are_in_order_and_cut(store: Store) {
    let keys = ["", "a", "a/1", "a/10", "a/2", "a/é", "a0", "b/1", "B/1", "a\u{10ffff}", "é"];
    let put = keys.iter().map(|key| ((*key).to_owned(), bytes(key))).collect();
    store.commit(Batch { put, ..Batch::default() }).await.unwrap();
    let all = ["", "B/1", "a", "a/1", "a/10", "a/2", "a/é", "a0", "a\u{10ffff}", "b/1", "é"];
    let under_a = &all[2..9];
    for (prefix, after, limit, expected) in [
        ("", None, 100, &all[..]),
        ("", Some(""), 100, &all[1..]),
        ("", None, 3, &all[..3]),
        ("", None, 0, &[][..]),
        ("a", None, 100, under_a),
        ("a", None, under_a.len(), under_a),
        ("a", Some("a"), 100, &under_a[1..]),
        ("a", Some("a/10"), 2, &["a/2", "a/é"][..]),
        ("a/", None, 100, &["a/1", "a/10", "a/2", "a/é"]),
        ("a/", Some("a/1"), 1, &["a/10"]),
        ("a/", Some("a/11"), 100, &["a/2", "a/é"]),
        ("a/", Some("A"), 100, &["a/1", "a/10", "a/2", "a/é"]),
        ("a/", Some(""), 1, &["a/1"]),
        ("a/", Some("a/é"), 100, &[]),
        ("a/", Some("b"), 100, &[]),
        ("a/", Some("a0"), 100, &[]),
        ("a\u{10ffff}", None, 100, &["a\u{10ffff}"]),
        ("é", None, usize::MAX, &["é"]),
        ("nothing", None, 100, &[]),
    ] {
        let found = store.scan(prefix, after, limit).await.unwrap();
        let found_keys: Vec<&str> = found.iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(found_keys, expected, "{prefix:?} after {after:?}, {limit}");
        assert!(found.iter().all(|entry| entry.key.as_bytes() == entry.value), "{prefix:?}");
    }
}

pub async fn keys_may_be_any_text(store: Store) {
    let long = "x".repeat(10_000);
    let keys = ["a\0b", "a\0", "'; DROP TABLE entries; --", "%", "_", "a\nb", "\u{1f980}", &long];
    for key in keys {
        store.commit(put(key, key)).await.unwrap();
        store.commit(send(key, key, NOW)).await.unwrap();
    }
    for key in keys {
        assert_eq!(value(&store, key).await, Some(bytes(key)), "{key:?}");
        assert_eq!(store.scan(key, None, 10).await.unwrap()[0].key, key, "{key:?}");
        assert_eq!(bodies(&store.lease(key, 10, LONG).await.unwrap()), [key], "{key:?}");
    }
    let names: BTreeSet<String> = keys.iter().map(|key| (*key).to_owned()).collect();
    assert_eq!(store.queues("").await.unwrap(), names.into_iter().collect::<Vec<_>>());
}

pub async fn bodies_may_be_large(store: Store) {
    let large =
        Bytes::from((0..1 << 20).map(|i| u8::try_from(i % 251).unwrap()).collect::<Vec<_>>());
    let batch = Batch {
        put: vec![("large".into(), large.clone())],
        send: vec![("q".into(), large.clone(), NOW)],
        ..Batch::default()
    };
    store.commit(batch).await.unwrap();
    assert_eq!(value(&store, "large").await, Some(large.clone()));
    let message = lease_one(&store, "q").await;
    assert_eq!(message.body, large);
    store.commit(acknowledge(&message)).await.unwrap();
    store.commit(put("large", "small")).await.unwrap();
    assert_eq!(value(&store, "large").await, Some(bytes("small")));
}

pub async fn concurrent_changes_lose_nothing(store: Store) {
    const TASKS: u64 = 16;
    const EACH: u64 = 10;
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let store = store.clone();
        tasks.spawn(async move {
            let mut done = 0;
            while done < EACH {
                let entry = store.get("counter").await.unwrap();
                let count = entry.as_ref().map_or(0, |entry| {
                    std::str::from_utf8(&entry.value).unwrap().parse::<u64>().unwrap()
                });
                let expect = vec![("counter".to_owned(), entry.map(|entry| entry.revision))];
                match store
                    .commit(Batch { expect, ..put("counter", &(count + 1).to_string()) })
                    .await
                {
                    Ok(_) => done += 1,
                    Err(StoreError::Conflict { key }) => assert_eq!(key, "counter"),
                    Err(other) => panic!("{other:?}"),
                }
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    let total = (TASKS * EACH).to_string();
    assert_eq!(value(&store, "counter").await, Some(bytes(&total)));
}
