//! What [`KeysAndQueues`](crate::store::KeysAndQueues) promises of queues.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use tokio::task::JoinSet;

use super::*;
use crate::pool::unix_ms;

pub async fn messages_come_in_the_order_they_are_due(store: Store) {
    let before = unix_ms(SystemTime::now());
    let all = ["1", "2", "3", "4", "5"].map(|body| ("q".to_owned(), bytes(body), NOW));
    store.commit(Batch { send: all.to_vec(), ..Batch::default() }).await.unwrap();
    assert_eq!(store.lease("q", 0, LONG).await.unwrap(), []);
    assert_eq!(store.lease("elsewhere", 10, LONG).await.unwrap(), []);
    let first = store.lease("q", 2, LONG).await.unwrap();
    assert_eq!(bodies(&first), ["1", "2"]);
    let rest = store.lease("q", 10, LONG).await.unwrap();
    assert_eq!(bodies(&rest), ["3", "4", "5"]);
    assert_eq!(store.lease("q", 10, LONG).await.unwrap(), []);
    let after = unix_ms(SystemTime::now());
    let mut ids = BTreeSet::new();
    for message in first.iter().chain(&rest) {
        assert_eq!((message.queue.as_str(), message.receives), ("q", 1));
        assert!((before..=after).contains(&message.sent_ms), "{message:?}");
        assert!(ids.insert(message.id), "{message:?}");
    }
    // One that was given back is behind what is due longer.
    store.commit(send("r", "early", NOW)).await.unwrap();
    let early = lease_one(&store, "r").await;
    store.commit(send("r", "late", NOW)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    store.commit(retry(&early, NOW, None)).await.unwrap();
    assert_eq!(bodies(&store.lease("r", 10, LONG).await.unwrap()), ["late", "early"]);
}

pub async fn delays_are_kept(store: Store) {
    store.commit(send("q", "later", LONG)).await.unwrap();
    store.commit(send("q", "never", Duration::MAX)).await.unwrap();
    store.commit(send("q", "soon", SHORT)).await.unwrap();
    let soon = lease_soon(&store, "q", LONG).await;
    assert_eq!(bodies(&soon), ["soon"]);
    let waited = unix_ms(SystemTime::now()) - soon[0].sent_ms;
    assert!(Duration::from_millis(waited) >= SHORT, "leased after {waited} ms");
    assert_eq!(store.lease("q", 10, LONG).await.unwrap(), []);
    assert_eq!(store.queue_stats("q").await.unwrap().depth, 3);
}

pub async fn a_lease_ends_and_is_lost(store: Store) {
    store.commit(send("q", "x", NOW)).await.unwrap();
    let first = store.lease("q", 1, SHORT).await.unwrap().pop().unwrap();
    let second = lease_soon(&store, "q", LONG).await.pop().unwrap();
    assert_eq!((second.id, second.receives), (first.id, 2));
    assert_eq!((second.sent_ms, &second.body), (first.sent_ms, &first.body));
    assert_ne!(second.lease, first.lease);
    let lost = first.lease();
    assert_lost("acknowledge", store.commit(acknowledge(&first)).await, &lost);
    assert_lost("retry", store.commit(retry(&first, NOW, None)).await, &lost);
    assert_lost("bury", store.commit(bury(&first)).await, &lost);
    assert_lost("extend", store.extend(vec![lost.clone()], LONG).await, &lost);
    store.commit(acknowledge(&second)).await.expect("the lease that holds it");
    assert_lost("twice", store.commit(acknowledge(&second)).await, &second.lease());
    assert_eq!(store.queue_stats("q").await.unwrap(), QueueStats::default());
}

pub async fn a_lease_is_good_until_it_is_taken(store: Store) {
    for (what, batch) in [
        ("acknowledge", acknowledge as fn(&Message) -> Batch),
        ("retry", |m| retry(m, LONG, None)),
        ("bury", bury),
    ] {
        store.commit(send("q", what, NOW)).await.unwrap();
        let late = store.lease("q", 1, NOW).await.unwrap().pop().unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
        store.commit(batch(&late)).await.expect(what);
        assert_eq!(store.lease("q", 1, NOW).await.unwrap(), [], "{what}");
    }
}

pub async fn leases_are_of_one_queue_and_message(store: Store) {
    for queue in ["a", "b"] {
        store.commit(send(queue, queue, NOW)).await.unwrap();
    }
    let (a, b) = (lease_one(&store, "a").await, lease_one(&store, "b").await);
    for lease in [
        Lease { queue: "b".into(), ..a.lease() },
        Lease { queue: "c".into(), ..a.lease() },
        Lease { id: a.id + b.id + 1000, ..a.lease() },
        Lease { lease: b.lease + a.lease + 1, ..a.lease() },
    ] {
        let batch = Batch { acknowledge: vec![lease.clone()], ..Batch::default() };
        assert_lost("acknowledge", store.commit(batch).await, &lease);
        assert_lost("extend", store.extend(vec![lease.clone()], LONG).await, &lease);
    }
    assert_eq!(store.queue_stats("a").await.unwrap().depth, 1);
}

pub async fn extending_holds_what_is_still_good(store: Store) {
    for body in ["lost", "held", "also"] {
        store.commit(send("q", body, NOW)).await.unwrap();
    }
    let mut messages = store.lease("q", 3, LONG).await.unwrap();
    store.commit(acknowledge(&messages[0])).await.unwrap();
    let leases: Vec<Lease> = messages.iter().map(Message::lease).collect();
    // To end now: what was extended is due, so the lost one among them did not keep it from happening.
    assert_lost("extend", store.extend(leases.clone(), NOW).await, &leases[0]);
    let again = lease_soon(&store, "q", LONG).await;
    assert_eq!(again.len(), 2, "{again:?}");
    messages = again;
    let leases: Vec<Lease> = messages.iter().map(Message::lease).collect();
    store.extend(leases, SHORT).await.unwrap();
    let leases = messages.iter().map(Message::lease).collect();
    store.extend(leases, LONG).await.unwrap();
    tokio::time::sleep(SHORT * 2).await;
    assert_eq!(store.lease("q", 10, LONG).await.unwrap(), [], "held on");
    store.extend(Vec::new(), LONG).await.unwrap();
}

pub async fn a_retry_gives_back(store: Store) {
    store.commit(send("q", "body", NOW)).await.unwrap();
    let first = lease_one(&store, "q").await;
    store.commit(retry(&first, NOW, None)).await.unwrap();
    assert_lost("after it was given back", store.commit(acknowledge(&first)).await, &first.lease());
    let second = lease_one(&store, "q").await;
    assert_eq!((second.id, second.receives), (first.id, 2));
    assert_eq!((&second.body[..], second.sent_ms), (&b"body"[..], first.sent_ms));

    store.commit(retry(&second, NOW, Some("a longer body"))).await.unwrap();
    let third = lease_one(&store, "q").await;
    assert_eq!((third.id, third.receives, &third.body[..]), (first.id, 3, &b"a longer body"[..]));

    store.commit(retry(&third, LONG, Some(""))).await.unwrap();
    assert_eq!(store.lease("q", 10, LONG).await.unwrap(), []);
    let due = store.queue_stats("q").await.unwrap().next_due_ms.unwrap();
    assert!(due > unix_ms(SystemTime::now()));
}

pub async fn the_buried_are_kept_and_not_leased(store: Store) {
    for body in ["1", "2", "3"] {
        store.commit(send("q", body, NOW)).await.unwrap();
    }
    let messages = store.lease("q", 3, NOW).await.unwrap();
    for message in [&messages[2], &messages[0]] {
        store.commit(bury(message)).await.unwrap();
        assert_lost("bury twice", store.commit(bury(message)).await, &message.lease());
        assert_lost("revive", store.commit(retry(message, NOW, None)).await, &message.lease());
        assert_lost("extend", store.extend(vec![message.lease()], NOW).await, &message.lease());
    }
    let dead = store.dead("q", 10).await.unwrap();
    assert_eq!(dead, [messages[0].clone(), messages[2].clone()], "oldest first, as they were");
    assert_eq!(store.dead("q", 1).await.unwrap(), dead[..1]);
    assert_eq!(store.dead("q", 0).await.unwrap(), []);
    assert_eq!(store.dead("r", 10).await.unwrap(), []);
    let last = lease_soon(&store, "q", LONG).await;
    assert_eq!(bodies(&last), ["2"]);
    store.commit(acknowledge(&last[0])).await.unwrap();
    let stats = QueueStats { dead: 2, ..QueueStats::default() };
    assert_eq!(store.queue_stats("q").await.unwrap(), stats);
    assert_eq!(store.queues("").await.unwrap(), [] as [&str; 0], "the dead are apart");
}

pub async fn a_message_moves_in_one_step(store: Store) {
    store.commit(send("in", "event", NOW)).await.unwrap();
    let message = lease_one(&store, "in").await;
    let step = || Batch {
        expect: vec![("done".into(), None)],
        acknowledge: vec![message.lease()],
        send: vec![("out".into(), bytes("result"), NOW)],
        ..put("done", "1")
    };
    store.commit(step()).await.unwrap();
    assert!(store.commit(step()).await.is_err(), "once");
    assert_eq!(store.queues("").await.unwrap(), ["out"]);
    assert_eq!(bodies(&store.lease("out", 10, LONG).await.unwrap()), ["result"]);
    assert_eq!(value(&store, "done").await, Some(bytes("1")));
}

pub async fn queues_are_told_apart(store: Store) {
    assert_eq!(store.queues("").await.unwrap(), [] as [&str; 0]);
    assert_eq!(store.queue_stats("q").await.unwrap(), QueueStats::default());
    let before = unix_ms(SystemTime::now());
    for (queue, delay) in [("async/b", NOW), ("async/a", LONG), ("async/a", NOW), ("x", NOW)] {
        store.commit(send(queue, queue, delay)).await.unwrap();
    }
    let after = unix_ms(SystemTime::now());
    for (prefix, expected) in [
        ("", &["async/a", "async/b", "x"][..]),
        ("async/", &["async/a", "async/b"]),
        ("async/b", &["async/b"]),
        ("y", &[]),
    ] {
        assert_eq!(store.queues(prefix).await.unwrap(), expected, "{prefix}");
    }
    let stats = store.queue_stats("async/a").await.unwrap();
    assert_eq!((stats.depth, stats.dead), (2, 0));
    for time in [stats.oldest_sent_ms, stats.next_due_ms] {
        assert!((before..=after).contains(&time.unwrap()), "{stats:?}");
    }
    // With the one that is due now leased, the other is next: before that lease's end or after it.
    lease_one(&store, "async/a").await;
    let leased = store.queue_stats("async/a").await.unwrap();
    assert_eq!((leased.depth, leased.oldest_sent_ms), (2, stats.oldest_sent_ms));
    assert!(leased.next_due_ms.unwrap() > after, "{leased:?}");
    for (queue, text) in [("async/b", "acknowledged"), ("x", "buried")] {
        let message = lease_one(&store, queue).await;
        let end = if queue == "x" { bury(&message) } else { acknowledge(&message) };
        store.commit(end).await.unwrap();
        assert!(!store.queues("").await.unwrap().contains(&queue.to_owned()), "{text}");
    }
}

pub async fn concurrent_leasers_share_nothing(store: Store) {
    const LEASERS: usize = 20;
    const MESSAGES: u64 = 200;
    let body = |i: u64| ("q".to_owned(), bytes(&i.to_string()), NOW);
    let batch = Batch { send: (0..MESSAGES).map(body).collect(), ..Batch::default() };
    store.commit(batch).await.unwrap();
    let mut tasks = JoinSet::new();
    for _ in 0..LEASERS {
        let store = store.clone();
        tasks.spawn(async move {
            let mut mine = Vec::new();
            loop {
                let messages = store.lease("q", 3, LONG).await.unwrap();
                if messages.is_empty() {
                    break mine;
                }
                for message in messages {
                    store.commit(acknowledge(&message)).await.unwrap();
                    mine.push(message);
                }
            }
        });
    }
    let mut seen = BTreeMap::new();
    while let Some(task) = tasks.join_next().await {
        for message in task.unwrap() {
            assert_eq!(message.receives, 1, "{message:?}");
            let again = seen.insert(message.id, message.body.clone());
            assert_eq!(again, None, "leased twice: {message:?}");
        }
    }
    assert_eq!(seen.len(), usize::try_from(MESSAGES).unwrap());
    assert_eq!(BTreeSet::from_iter(seen.into_values()).len(), usize::try_from(MESSAGES).unwrap());
}
