//! The queue as a whole, on the [`bench`].

mod bench;

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::control::ErrorKind;
use bench::{Bench, Does, ERROR, Service, endpoint, event, lambda, sqs, start, until};

#[tokio::test]
async fn function_errors_are_tried_again_as_often_as_the_settings_say() {
    for (retries, runs, waits, heard) in [
        (2, 3, vec![60, 120], Condition::RetriesExhausted),
        (1, 2, vec![60], Condition::RetriesExhausted),
        (0, 1, vec![], Condition::RetriesExhausted),
    ] {
        let bench = Bench::new();
        let policy = EventPolicy { maximum_retry_attempts: retries, ..EventPolicy::default() };
        bench.function("f", policy, vec![Does::Fails(ERROR); 9]);
        bench.enqueue("f", "one").await;
        bench.empty().await;
        assert_eq!(bench.runs("f"), vec!["one"; runs], "the request id stays");
        assert_eq!(bench.retries(), waits);
        assert_eq!(bench.heard(Happened::Finished(heard)), 1);
        assert_eq!(bench.world.runs.lock().unwrap()[0].2, &b"{ \"n\": 1.50 }"[..]);
    }
}

#[tokio::test]
async fn an_event_that_goes_well_later_is_a_success() {
    let bench = Bench::new();
    let policy = EventPolicy {
        on_success: lambda("then"),
        on_failure: lambda("else"),
        ..EventPolicy::default()
    };
    bench.function("f", policy, vec![Does::Fails(ERROR), Does::Answers(r#"{"done":[1, 2.50]}"#)]);
    bench.function("then", EventPolicy::default(), vec![]);
    bench.enqueue("f", "one").await;
    until(async || !bench.payloads("then").is_empty()).await;
    bench.empty().await;
    let mut record = bench.payloads("then").remove(0);
    assert!(record["timestamp"].take().as_str().unwrap().ends_with('Z'));
    let want = json!({
        "version": "1.0",
        "timestamp": null,
        "requestContext": {
            "requestId": "one",
            "functionArn": "arn:aws:lambda:us-east-1:000000000000:function:f:$LATEST",
            "condition": "Success",
            "approximateInvokeCount": 2,
        },
        "requestPayload": {"n": 1.5},
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST"},
        "responsePayload": {"done": [1, 2.5]},
    });
    assert_eq!(record, want);
    assert!(bench.runs("else").is_empty());
    assert_ne!(bench.runs("then")[0], "one", "a destination's event is one of its own");
}

#[tokio::test]
async fn throttles_and_failures_of_ours_do_not_count_as_attempts() {
    let bench = Bench::new();
    let policy = EventPolicy {
        maximum_retry_attempts: 0,
        on_success: lambda("then"),
        ..EventPolicy::default()
    };
    let mut plan = vec![Does::Refuses(ErrorKind::TooManyRequests); 10];
    plan.extend([Does::Refuses(ErrorKind::Service), Does::Refuses(ErrorKind::Unavailable)]);
    bench.function("f", policy, plan);
    bench.function("then", EventPolicy::default(), vec![]);
    bench.enqueue("f", "one").await;
    bench.empty().await;
    assert_eq!(bench.runs("f").len(), 13);
    assert_eq!(bench.retries(), [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
    assert_eq!(bench.heard(Happened::Throttled), 10);
    assert_eq!(bench.heard(Happened::SystemError), 2);
    assert_eq!(bench.payloads("then")[0]["requestContext"]["approximateInvokeCount"], 1);
}

#[tokio::test]
async fn events_grow_old() {
    for (what, since_s, runs, context) in [
        ("old when it is first seen", 61, 0, Value::Null),
        (
            "no time for a retry",
            0,
            1,
            json!({"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"}),
        ),
    ] {
        let bench = Bench::new();
        let policy = EventPolicy {
            maximum_event_age: Duration::from_secs(60),
            on_failure: lambda("else"),
            ..EventPolicy::default()
        };
        bench.function("f", policy, vec![Does::Fails(ERROR); 3]);
        bench.function("else", EventPolicy::default(), vec![]);
        let mut old = event("f", "one");
        old.accepted_ms -= since_s * 1000;
        bench.queue.enqueue(old).await.unwrap();
        bench.empty().await;
        let record = bench.payloads("else").remove(0);
        assert_eq!(record["requestContext"]["condition"], "EventAgeExceeded", "{what}");
        assert_eq!(record["requestContext"]["approximateInvokeCount"], runs, "{what}");
        assert_eq!(record["responseContext"], context, "{what}");
        assert_eq!(bench.runs("f").len(), runs, "{what}");
    }
}

#[tokio::test]
async fn reserved_concurrency_of_zero_sends_events_straight_away() {
    let service = Service::start(vec![]).await;
    let bench = Bench::with(Settings::default(), Some(&service));
    let policy = EventPolicy {
        zero_reserved: true,
        on_failure: lambda("else"),
        dead_letter_arn: sqs("dead"),
        ..EventPolicy::default()
    };
    bench.function("f", policy, vec![]);
    bench.function("else", EventPolicy::default(), vec![]);
    bench.enqueue("f", "one").await;
    bench.empty().await;
    assert!(bench.runs("f").is_empty());
    let record = bench.payloads("else").remove(0);
    assert_eq!(record["requestContext"]["condition"], "ZeroReservedConcurrency");
    assert_eq!(record["requestContext"]["approximateInvokeCount"], 0);
    assert_eq!(record.get("responseContext").or(record.get("responsePayload")), None);
    assert_eq!(service.got.lock().unwrap().len(), 1);
    assert_eq!(bench.heard(Happened::Delivered), 1);
}

#[tokio::test]
async fn a_dead_letter_and_a_destination_each_get_theirs() {
    let service = Service::start(vec![]).await;
    let bench = Bench::with(Settings::default(), Some(&service));
    let policy = EventPolicy {
        maximum_retry_attempts: 0,
        on_failure: sqs("failed"),
        dead_letter_arn: sqs("dead"),
        ..EventPolicy::default()
    };
    bench.function("f", policy, vec![Does::Fails(ERROR)]);
    bench.enqueue("f", "one").await;
    bench.empty().await;
    let mut got: Vec<Value> = service
        .got
        .lock()
        .unwrap()
        .iter()
        .map(|body| serde_json::from_str(body).unwrap())
        .collect();
    got.sort_by_key(|message| message["QueueUrl"].to_string());
    let [dead, failed] = &got[..] else { panic!("{got:?}") };
    assert_eq!(dead["QueueUrl"], format!("{}/000000000000/dead", service.url));
    assert_eq!(dead["MessageBody"], "{ \"n\": 1.50 }", "unchanged");
    let attribute = |kind: &str, value: &str| json!({"DataType": kind, "StringValue": value});
    assert_eq!(
        dead["MessageAttributes"],
        json!({
            "RequestID": attribute("String", "one"),
            "ErrorCode": attribute("Number", "200"),
            "ErrorMessage": attribute("String", "no"),
        })
    );
    assert_eq!(failed["MessageAttributes"], Value::Null);
    let record: Value = serde_json::from_str(failed["MessageBody"].as_str().unwrap()).unwrap();
    assert_eq!(record["requestContext"]["condition"], "RetriesExhausted");
    assert_eq!(record["responsePayload"], json!({"errorMessage": "no", "errorType": "E"}));
}

#[tokio::test]
async fn a_destination_that_is_down_loses_nothing_and_holds_up_no_other() {
    let service = Service::start(vec![]).await;
    let settings = Settings { lease: Duration::from_millis(300), ..Settings::default() };
    let mut bench = Bench::with(settings, Some(&service));
    let gone = endpoint("http://127.0.0.1:1");
    bench.destinations.sqs = Some(gone);
    bench.crash().await;
    let policy = EventPolicy { on_success: sqs("done"), ..EventPolicy::default() };
    bench.function("f", policy.clone(), vec![]);
    bench.function("g", EventPolicy { on_success: lambda("f"), ..policy }, vec![]);
    for id in ["a", "b", "c"] {
        bench.enqueue("f", id).await;
    }
    until(async || bench.heard(Happened::DeliveryFailed) >= 12).await;
    bench.enqueue("g", "d").await;
    until(async || bench.runs("f").len() == 4).await;
    let waiting = bench.queue.undelivered().await.unwrap();
    assert_eq!(waiting.len(), 1);
    assert_eq!(Some(waiting[0].name.clone()), sqs("done"));
    assert_eq!(waiting[0].depth, 4);
    // It is found again, and goes out with what is configured then.
    bench.destinations.sqs = Some(endpoint(&service.url));
    bench.crash().await;
    bench.empty().await;
    assert_eq!(service.got.lock().unwrap().len(), 4);
}

#[tokio::test]
async fn what_a_destination_refuses_again_and_again_is_kept_aside() {
    for (refusals, answer, delivered) in [
        (2, "400 Bad Request", true),
        (3, "400 Bad Request", false),
        (9, "429 Too Many Requests", true),
        (9, "503 Service Unavailable", true),
    ] {
        let service = Service::start(vec![answer; refusals]).await;
        let settings = Settings { refusals: 3, ..Settings::default() };
        let bench = Bench::with(settings, Some(&service));
        let policy = EventPolicy { on_success: sqs("done"), ..EventPolicy::default() };
        bench.function("f", policy, vec![]);
        bench.enqueue("f", "one").await;
        bench.empty().await;
        assert_eq!(service.got.lock().unwrap().len() == 1, delivered, "{answer} × {refusals}");
        let queue = format!("{DELIVER}{}", sqs("done").unwrap());
        let dead = bench.store.dead(&queue, 9).await.unwrap();
        assert_eq!(dead.is_empty(), delivered, "{answer} × {refusals}");
        assert!(service.refuse.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn what_cannot_be_delivered_is_kept_aside_at_once() {
    let bench = Bench::new();
    for arn in [
        "arn:aws:s3:::bucket",
        "arn:aws:events:us-east-1:000000000000:event-bus/default",
        "arn:aws:lambda:us-east-1:111111111111:function:f",
        "arn:aws:lambda:eu-west-1:000000000000:function:f",
        "nonsense",
    ] {
        let on_success = Some(arn.to_owned());
        bench.function("f", EventPolicy { on_success, ..EventPolicy::default() }, vec![]);
        bench.enqueue("f", "one").await;
        bench.empty().await;
        assert_eq!(
            bench.store.dead(&format!("{DELIVER}{arn}"), 9).await.unwrap().len(),
            1,
            "{arn}"
        );
    }
    let big: &'static str = Box::leak(format!("\"{}\"", "x".repeat(1 << 20)).into_boxed_str());
    let policy = EventPolicy { on_success: lambda("f"), ..EventPolicy::default() };
    bench.function("f", policy, vec![Does::Answers(big)]);
    bench.enqueue("f", "one").await;
    bench.empty().await;
    let queue = format!("{DELIVER}{}", lambda("f").unwrap());
    assert_eq!(bench.store.dead(&queue, 9).await.unwrap().len(), 1);
}

#[tokio::test]
async fn events_of_a_function_that_is_gone_are_dropped() {
    let bench = Bench::new();
    bench.enqueue("f", "one").await;
    bench.empty().await;
    assert!(bench.runs("f").is_empty());
    assert_eq!(bench.heard(Happened::Gone), 1);
}

#[tokio::test]
async fn a_slow_function_holds_up_no_other() {
    let settings = Settings { in_flight: 2, in_flight_per_function: 2, ..Settings::default() };
    let bench = Bench::with(settings, None);
    for name in ["f", "g", "h"] {
        bench.function(name, EventPolicy::default(), vec![Does::Hangs; 9]);
        for id in ["a", "b", "c"] {
            bench.enqueue(name, id).await;
        }
    }
    bench.function("fast", EventPolicy::default(), vec![]);
    for _ in 0..20 {
        bench.enqueue("fast", "one").await;
    }
    until(async || bench.runs("fast").len() == 20).await;
    for name in ["f", "g", "h"] {
        assert!((1..=2).contains(&bench.runs(name).len()), "{name}");
    }
}

#[tokio::test]
async fn no_more_run_at_once_than_may() {
    let settings = Settings { in_flight: 100, in_flight_per_function: 4, ..Settings::default() };
    let bench = Bench::with(settings, None);
    bench.function("f", EventPolicy::default(), vec![Does::Takes(Duration::from_millis(5)); 40]);
    for _ in 0..40 {
        bench.enqueue("f", "one").await;
    }
    bench.empty().await;
    assert_eq!(bench.runs("f").len(), 40);
    assert_eq!(bench.world.most.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn a_long_run_is_held_and_runs_once() {
    let settings = Settings { lease: Duration::from_millis(300), ..Settings::default() };
    let bench = Bench::with(settings, None);
    bench.function("f", EventPolicy::default(), vec![Does::Takes(Duration::from_millis(1200))]);
    bench.enqueue("f", "one").await;
    bench.empty().await;
    assert_eq!(bench.runs("f").len(), 1);
    assert_eq!(bench.queue.in_flight(), 0);
}

#[tokio::test]
async fn an_event_outlives_a_crash_and_a_panic() {
    let settings = Settings { lease: Duration::from_millis(300), ..Settings::default() };
    let mut bench = Bench::with(settings, None);
    bench.function("f", EventPolicy::default(), vec![Does::Hangs, Does::Panics]);
    bench.enqueue("f", "one").await;
    until(async || bench.runs("f").len() == 1).await;
    bench.crash().await;
    bench.empty().await;
    assert_eq!(bench.runs("f"), ["one"; 3]);
}

#[tokio::test]
async fn no_event_is_lost_however_often_it_crashes() {
    let settings = Settings { lease: Duration::from_millis(30), ..Settings::default() };
    let mut bench = Bench::with(settings, None);
    let policy = EventPolicy { on_success: lambda("then"), ..EventPolicy::default() };
    bench.function("f", policy, vec![Does::Takes(Duration::from_millis(3)); 2000]);
    bench.function("then", EventPolicy::default(), vec![]);
    for n in 0..100 {
        bench.enqueue("f", &n.to_string()).await;
        if n % 10 == 9 {
            tokio::time::sleep(Duration::from_millis(u64::from(fastrand::u8(0..12)))).await;
            bench.crash().await;
        }
    }
    bench.empty().await;
    let records = bench.payloads("then");
    let mut told: Vec<u32> = records
        .iter()
        .map(|r| r["requestContext"]["requestId"].as_str().unwrap().parse().unwrap())
        .collect();
    told.sort_unstable();
    told.dedup();
    assert_eq!(told, (0..100).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_end_waits_for_room_on_the_disk() {
    let bench = Bench::new();
    bench.function("f", EventPolicy::default(), vec![Does::Takes(Duration::from_millis(50))]);
    bench.enqueue("f", "one").await;
    bench.store.failures.store(1, Ordering::SeqCst);
    bench.empty().await;
    assert_eq!(bench.runs("f").len(), 1);
}

#[tokio::test]
async fn an_event_that_the_store_does_not_take_is_not_accepted() {
    let bench = Bench::new();
    bench.function("f", EventPolicy::default(), vec![]);
    bench.store.failures.store(1, Ordering::SeqCst);
    let error = bench.queue.enqueue(event("f", "one")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert_eq!(bench.heard(Happened::Accepted), 0);
}

#[tokio::test]
async fn stopping_waits_for_what_runs_and_gives_the_rest_back() {
    let settings = Settings { in_flight_per_function: 1, ..Settings::default() };
    let mut bench = Bench::with(settings, None);
    bench.function("f", EventPolicy::default(), vec![Does::Takes(Duration::from_millis(80))]);
    bench.enqueue("f", "one").await;
    bench.enqueue("f", "two").await;
    until(async || bench.runs("f").len() == 1).await;
    bench.queue.stop(Duration::from_secs(20)).await;
    assert_eq!(bench.runs("f"), ["one"]);
    assert_eq!(bench.heard(Happened::Finished(Condition::Success)), 1);
    // Accepted all the same, for the next one.
    bench.enqueue("f", "three").await;
    bench.function("f", EventPolicy::default(), vec![Does::Hangs]);
    bench.queue = start(&bench.store, &bench.world, &bench.settings, &bench.destinations);
    until(async || bench.runs("f").len() == 2).await;
    bench.queue.stop(Duration::from_millis(20)).await;
    // At once, and not when the lease has run out.
    let left = bench.store.lease("async/f", 9, Duration::from_secs(1)).await.unwrap();
    assert_eq!(left.len(), 2);
}

#[tokio::test]
async fn a_circle_of_destinations_ends() {
    for (allowed, runs) in [(false, 16), (true, 40)] {
        let bench = Bench::new();
        let policy = EventPolicy {
            on_success: lambda("f"),
            loops_allowed: allowed,
            ..EventPolicy::default()
        };
        bench.function("f", policy, vec![]);
        bench.enqueue("f", "one").await;
        until(async || bench.runs("f").len() >= runs).await;
        if !allowed {
            bench.empty().await;
            assert_eq!(bench.runs("f").len(), runs);
            assert_eq!(bench.heard(Happened::Finished(Condition::RecursiveInvocation)), 1);
        }
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_kept_aside() {
    let bench = Bench::new();
    for queue in ["async/f", "deliver/x"] {
        let send = vec![(queue.to_owned(), Bytes::from_static(b"?"), Duration::ZERO)];
        bench.store.commit(Batch { send, ..Batch::default() }).await.unwrap();
        bench.queue.shared.wake(queue.to_owned());
    }
    bench.empty().await;
    for queue in ["async/f", "deliver/x"] {
        assert_eq!(bench.store.dead(queue, 9).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn no_call_is_missed_while_a_lane_retires() {
    let bench = Bench::new();
    bench.function("f", EventPolicy::default(), vec![]);
    for n in 1..=300 {
        bench.enqueue("f", "one").await;
        if n % 3 == 0 {
            until(async || bench.runs("f").len() == n).await;
        }
    }
    bench.empty().await;
    assert_eq!(bench.queue.backlogs().await.unwrap(), []);
}

#[tokio::test]
async fn a_backlog_tells_depth_and_age() {
    let bench = Bench::new();
    bench.function("f", EventPolicy::default(), vec![Does::Hangs; 2]);
    bench.enqueue("f", "one").await;
    bench.enqueue("f", "two").await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let backlogs = bench.queue.backlogs().await.unwrap();
    assert_eq!(backlogs.len(), 1);
    assert_eq!((backlogs[0].name.as_str(), backlogs[0].depth, backlogs[0].dead), ("f", 2, 0));
    assert!(backlogs[0].age >= Duration::from_millis(20));
}
