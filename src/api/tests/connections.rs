//! Connections: kept, slow, too many, over TLS, at the end.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;

use super::super::body::BodyLimits;
use super::super::server::{Listener, ServerLimits, serve, tls};
use super::*;

#[tokio::test]
async fn a_connection_carries_many_requests_pipelined_too() {
    let server = served().await;
    let mut stream = server.connect().await;
    let host = server.at.to_string();
    for _ in 0..2 {
        let mut both = ask("POST", INVOKE, b"1").bytes(&host);
        both.extend(ask("GET", "/2015-03-31/functions/missing", b"").bytes(&host));
        both.extend(ask("POST", INVOKE, b"2").bytes(&host));
        stream.write_all(&both).await.unwrap();
        assert_eq!(answer(&mut stream).await.unwrap().text(), "1");
        assert_eq!(answer(&mut stream).await.unwrap().status, 404);
        assert_eq!(answer(&mut stream).await.unwrap().text(), "2");
    }
}

#[tokio::test]
async fn slow_heads_are_cut_off_and_stop_nobody() {
    let limits = ServerLimits { head: Duration::from_millis(300), ..ServerLimits::default() };
    let server = served_with(limits, BodyLimits::default()).await;
    let mut silent = server.connect().await;
    let mut slow = server.connect().await;
    slow.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n").await.unwrap();
    let mut second = server.connect().await;
    second.write_all(&ask("GET", LIST, b"").bytes(&server.at.to_string())).await.unwrap();
    assert_eq!(answer(&mut second).await.unwrap().status, 200);
    second.write_all(b"GET / HT").await.unwrap();
    assert_eq!(server.ask(ask("GET", LIST, b"")).await.status, 200);
    for stream in [&mut silent, &mut slow, &mut second] {
        assert!(closed(stream).await.is_empty());
    }
}

#[tokio::test]
async fn clients_that_take_no_answer_are_cut_off() {
    let limits = ServerLimits { write: Duration::from_millis(200), ..ServerLimits::default() };
    let limits = ServerLimits { head: Duration::from_millis(200), ..limits };
    let server = served_with(limits, BodyLimits::default()).await;
    let large = ask("POST", "/2015-03-31/functions/large/invocations", b"");
    assert_eq!(server.ask(large).await.body.len(), LARGE, "who takes it gets it");
    server.fake.began.notified().await;
    let mut stream = server.connect().await;
    stream.write_all(&large.bytes(&server.at.to_string())).await.unwrap();
    server.fake.began.notified().await;
    server.stop.send(true).unwrap();
    // Ends only when the connection is given up.
    server.task.await.unwrap();
    assert!(closed(&mut stream).await.len() < LARGE);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_answered_431() {
    let server = served().await;
    let mut stream = server.connect().await;
    let head = format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n", "y".repeat(40 << 10));
    let _closed_early = stream.write_all(head.as_bytes()).await;
    assert_eq!(answer(&mut stream).await.unwrap().status, 431);
}

#[tokio::test]
async fn idle_connections_make_room() {
    let limits = ServerLimits { connections: 2, ..ServerLimits::default() };
    let server = served_with(limits, BodyLimits::default()).await;
    let host = server.at.to_string();
    let mut kept = Vec::new();
    for _ in 0..5 {
        let mut stream = server.connect().await;
        stream.write_all(&ask("GET", LIST, b"").bytes(&host)).await.unwrap();
        assert_eq!(answer(&mut stream).await.unwrap().status, 200);
        kept.push(stream);
    }
    assert!(closed(&mut kept[0]).await.is_empty());
}

#[tokio::test]
async fn a_client_that_hangs_up_stops_no_operation() {
    let server = served().await;
    let mut stream = server.connect().await;
    let slow = ask("GET", "/2015-03-31/functions/slow", b"");
    stream.write_all(&slow.bytes(&server.at.to_string())).await.unwrap();
    server.fake.began.notified().await;
    drop(stream);
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.fake.go.notify_one();
    server.fake.finished.notified().await;
}

#[tokio::test]
async fn a_shutdown_finishes_what_runs() {
    let server = served().await;
    let host = server.at.to_string();
    let mut idle = server.connect().await;
    idle.write_all(&ask("GET", LIST, b"").bytes(&host)).await.unwrap();
    answer(&mut idle).await.unwrap();
    let mut busy = server.connect().await;
    busy.write_all(&ask("GET", "/2015-03-31/functions/slow", b"").bytes(&host)).await.unwrap();
    server.fake.began.notified().await;
    server.stop.send(true).unwrap();
    assert!(closed(&mut idle).await.is_empty());
    assert!(TcpStream::connect(server.at).await.is_err(), "no new connection");
    server.fake.go.notify_one();
    let got = answer(&mut busy).await.unwrap();
    assert_eq!(got.status, 200);
    assert!(closed(&mut busy).await.is_empty());
    server.task.await.unwrap();
}

/// Valid for a hundred years, for `localhost`, and worth nothing.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\n\
    MIIBlzCCATygAwIBAgIUfPDvBIk4UnBiEQvHGCNbSFVLxNcwCgYIKoZIzj0EAwIw\n\
    FjEUMBIGA1UEAwwLa2VubmVsIHRlc3QwIBcNMjYxMTI0MTc1OTAzWhgPMjEyNjEw\n\
    MzExNzU5MDNaMBYxFDASBgNVBAMMC2tlbm5lbCB0ZXN0MFkwEwYHKoZIzj0CAQYI\n\
    KoZIzj0DAQcDQgAEe41qLpG4Fx/NvN5hx73vCv8LnmmYnSikp6TxNXMrxPcdxx32\n\
    mj+Ua25Az/ppA0OZil/3pXSqQC1XPxj7J7g2+KNmMGQwHQYDVR0OBBYEFKBURHNm\n\
    86lsVQ6NaetSe7AeRuCGMB8GA1UdIwQYMBaAFKBURHNm86lsVQ6NaetSe7AeRuCG\n\
    MBQGA1UdEQQNMAuCCWxvY2FsaG9zdDAMBgNVHRMBAf8EAjAAMAoGCCqGSM49BAMC\n\
    A0kAMEYCIQD/BUlhYLv7HXC3PdScFKwowI2d4Gu9OFk6qm5bONWKwgIhAPhNbEHE\n\
    4W8G96NYhKZiSX5ueifof/RJp2j2kQ0p2Spo\n\
    -----END CERTIFICATE-----";
const KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
    MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgvy+9tkl7hVsNswda\n\
    7VplF1mE6Q27OXAlbzly6Xl5OtWhRANCAAR7jWoukbgXH8283mHHve8K/wueaZid\n\
    KKSnpPE1cyvE9x3HHfaaP5RrbkDP+mkDQ5mKX/eldKpALVc/GPsnuDb4\n\
    -----END PRIVATE KEY-----";

#[tokio::test]
async fn unix_sockets_and_tls_serve_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api");
    let unix = UnixListener::bind(&path).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = tcp.local_addr().unwrap();
    let acceptor = tls(CERTIFICATE.as_bytes(), KEY.as_bytes()).unwrap();
    let fake = Arc::new(Fake::default());
    let (stop, stopped) = watch::channel(false);
    let listeners = vec![Listener::Unix(unix), Listener::Tls(tcp, acceptor)];
    let door = door(&fake, BodyLimits::default());
    let task = tokio::spawn(serve(listeners, door, ServerLimits::default(), stopped));
    let stream = UnixStream::connect(&path).await.unwrap();
    one_request(stream, &fake, "http://localhost").await;
    let stream = TcpStream::connect(at).await.unwrap();
    one_request(
        tls_client().connect("localhost".try_into().unwrap(), stream).await.unwrap(),
        &fake,
        "https://localhost",
    )
    .await;
    // A client that speaks no TLS is no harm.
    let mut plain = TcpStream::connect(at).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    closed(&mut plain).await;
    stop.send(true).unwrap();
    task.await.unwrap();
    assert!(tls(b"", KEY.as_bytes()).is_err());
    assert!(tls(CERTIFICATE.as_bytes(), CERTIFICATE.as_bytes()).is_err());
}

async fn one_request(mut stream: impl AsyncRead + AsyncWrite + Unpin, fake: &Fake, base_url: &str) {
    stream.write_all(&ask("POST", INVOKE, b"1").bytes("localhost")).await.unwrap();
    assert_eq!(answer(&mut stream).await.unwrap().text(), "1");
    assert_eq!(fake.seen.lock().unwrap().pop().unwrap().1.base_url, base_url);
}

fn tls_client() -> tokio_rustls::TlsConnector {
    use tokio_rustls::rustls::pki_types::CertificateDer;
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tokio_rustls::TlsConnector::from(Arc::new(config))
}
