//! Bodies: too large, too slow, too many.

use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::super::body::BodyLimits;
use super::super::server::ServerLimits;
use super::*;

#[tokio::test]
async fn bodies_over_their_limit_are_refused_before_they_are_read() {
    let server = served().await;
    let host = server.at.to_string();
    for (method, target, length, text) in [
        (
            "POST",
            INVOKE,
            6_291_557,
            "6291557 byte payload is too large for the RequestResponse invocation type (limit 6291456 bytes)",
        ),
        (
            "POST",
            "/2015-03-31/functions",
            70_167_212,
            "Request must be smaller than 70167211 bytes for the CreateFunction operation",
        ),
        (
            "PUT",
            "/2015-03-31/functions/f/configuration",
            1_048_577,
            "Request must be smaller than 1048576 bytes for the UpdateFunctionConfiguration operation",
        ),
    ] {
        let mut stream = server.connect().await;
        let request = Ask { headers: &[("expect", "100-continue")], ..ask(method, target, b"") };
        stream.write_all(&request.head(&host, length)).await.unwrap();
        let got = answer(&mut stream).await.unwrap();
        let body = format!(r#"{{"message":"{text}"}}"#);
        assert_eq!(got.error(), (413, "RequestEntityTooLargeException", body.as_str()));
    }
    // A client that sends all the same is read to the end, and sees the answer.
    let body = vec![b' '; 1_048_577];
    let got = server.ask(ask("PUT", "/2015-03-31/functions/f/configuration", &body)).await;
    assert_eq!(got.status, 413);
    // Without a length the limit is found while reading.
    let mut stream = server.connect().await;
    let head =
        String::from_utf8(ask("PUT", "/2015-03-31/functions/f/configuration", b"").bytes(&host))
            .unwrap();
    let head = head.replace("content-length: 0", "transfer-encoding: chunked");
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = [b"100001\r\n".to_vec(), body, b"\r\n0\r\n\r\n".to_vec()].concat();
    stream.write_all(&chunk).await.unwrap();
    assert_eq!(answer(&mut stream).await.unwrap().status, 413);
    // An event for later has a limit of its own.
    let body = vec![b'1'; 1_048_577];
    let headers = [("x-amz-invocation-type", "Event")];
    let got = server.ask(Ask { headers: &headers, ..ask("POST", INVOKE, &body) }).await;
    let text = r#"{"message":"1048577 byte payload is too large for the Event invocation type (limit 1048576 bytes)"}"#;
    assert_eq!(got.error(), (413, "RequestEntityTooLargeException", text));
}

#[tokio::test]
async fn large_bodies_pass_and_give_their_memory_back() {
    let bodies = BodyLimits { uploads: 1 << 20, others: 2 << 20, ..BodyLimits::default() };
    let server = served_with(ServerLimits::default(), bodies).await;
    let zip = "QUJD".repeat(200_000);
    let create = json!({"FunctionName": "f", "Role": "arn:aws:iam::000000000000:role/r", "Code": {"ZipFile": zip}});
    let create = create.to_string();
    let event = format!("[{}1]", "1,".repeat(600_000));
    for _ in 0..3 {
        let got = server.ask(ask("POST", "/2015-03-31/functions", create.as_bytes())).await;
        assert_eq!(got.status, 201, "{}", got.text());
        assert_eq!(server.last().1.members["Code"]["ZipFile"], zip);
        let got = server.ask(ask("POST", INVOKE, event.as_bytes())).await;
        assert_eq!((got.status, got.body.len()), (200, event.len()));
        // The fake keeps the payload until here.
        server.last();
    }
}

#[tokio::test]
async fn slow_bodies_are_given_up() {
    let bodies = BodyLimits { grace: Duration::from_millis(200), ..BodyLimits::default() };
    let server = served_with(ServerLimits::default(), bodies).await;
    let mut stream = server.connect().await;
    stream.write_all(&ask("POST", INVOKE, b"").head(&server.at.to_string(), 100)).await.unwrap();
    stream.write_all(b"[1,").await.unwrap();
    let got = answer(&mut stream).await.unwrap();
    assert_eq!((got.status, got.error().1), (408, "RequestTimeoutException"));
    assert!(closed(&mut stream).await.is_empty());
}

#[tokio::test]
async fn bodies_wait_for_memory_and_are_told_to_come_back() {
    let bodies =
        BodyLimits { uploads: 1 << 20, wait: Duration::from_millis(200), ..BodyLimits::default() };
    let server = served_with(ServerLimits::default(), bodies).await;
    let host = server.at.to_string();
    let create = ask("POST", "/2015-03-31/functions", b"{}");
    let mut first = server.connect().await;
    first.write_all(&create.head(&host, 1 << 20)).await.unwrap();
    first.write_all(b"{").await.unwrap();
    // There is memory for one of them, whichever is seen first.
    let mut second = server.connect().await;
    second
        .write_all(&Ask { headers: &[("expect", "100-continue")], ..create }.head(&host, 1 << 20))
        .await
        .unwrap();
    let got = tokio::select! {
        got = answer(&mut first) => got,
        got = answer(&mut second) => got,
    };
    let got = got.unwrap();
    assert_eq!((got.status, got.error().1), (503, "ServiceException"));
    assert_eq!(got.header("retry-after"), "1");
    // What is no upload has memory of its own.
    assert_eq!(server.ask(ask("POST", INVOKE, b"1")).await.status, 200);
}
