//! One HTTP/1.1 request over http or https: a connection each, bounded in time and size.

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::header::{CONTENT_LENGTH, HeaderMap, HeaderValue, USER_AGENT};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::ClientError;

/// How long a service is waited for.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// For the connection, and then for TLS.
    connect: Duration,
    /// For the answer's head, and then for each further part of its body.
    silence: Duration,
    /// For a whole request.
    whole: Duration,
}

const PATIENCE: Patience = Patience {
    connect: Duration::from_secs(5),
    silence: Duration::from_secs(30),
    whole: Duration::from_secs(600),
};
/// Of a refusal's body, no more than this is read.
const REFUSAL: u64 = 64 << 10;

/// A request, signed already.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub method: Method,
    /// Scheme and authority, path and query, all encoded.
    pub uri: Uri,
    /// With `Host`; `User-Agent` and `Content-Length` are added.
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Most bytes of a good answer's body.
    pub limit: u64,
}

#[derive(Debug)]
pub(super) struct Answer {
    pub status: StatusCode,
    pub body: Bytes,
}

/// `http://HOST:PORT` or `https://…`, with the path behind it.
///
/// # Errors
/// It has another scheme, no host, or more than these.
pub(super) fn address(base: &str, path_and_query: &str) -> Result<Uri, ClientError> {
    let bad = || ClientError::Address { url: base.into() };
    let text = format!("{}{path_and_query}", base.trim_end_matches('/'));
    let uri: Uri = text.parse().map_err(|_| bad())?;
    let scheme = uri.scheme_str().is_some_and(|s| s == "http" || s == "https");
    let authority = uri.authority().ok_or_else(bad)?;
    let plain = !authority.as_str().contains('@') && !authority.host().is_empty();
    let whole = !base.contains(['?', '#']);
    (scheme && plain && whole).then_some(uri).ok_or_else(bad)
}

/// Sends a request, and reads its answer.
///
/// # Errors
/// There is no way to the service, it is silent for too long, or its answer is too large.
pub(super) async fn send(request: Outgoing) -> Result<Answer, ClientError> {
    send_with(request, public_roots(), PATIENCE).await
}

/// As [`send`], with a choice of whom https may be spoken with, and of the time it may take.
async fn send_with(
    request: Outgoing,
    tls: Result<Arc<ClientConfig>, rustls::Error>,
    patience: Patience,
) -> Result<Answer, ClientError> {
    let url = format!(
        "{}://{}",
        request.uri.scheme_str().unwrap_or_default(),
        request.uri.authority().map_or("", |a| a.as_str())
    );
    let https = request.uri.scheme_str() == Some("https");
    let authority = request.uri.authority().cloned();
    let authority = authority.ok_or_else(|| ClientError::Address { url: url.clone() })?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = authority.port_u16().unwrap_or(if https { 443 } else { 80 });
    let whole = async {
        let unreachable = |source| ClientError::Connect { url: url.clone(), source };
        let connect = TcpStream::connect((host.as_str(), port));
        let stream = within(patience.connect, "connecting", connect).await.map_err(unreachable)?;
        let _ = stream.set_nodelay(true); // the answer is right without it
        if !https {
            return exchange(request, stream, &url, patience.silence).await;
        }
        let connector = TlsConnector::from(tls.map_err(|e| unreachable(e.into()))?);
        let name = ServerName::try_from(host).map_err(|e| unreachable(e.into()))?;
        let handshake = connector.connect(name, stream);
        let stream =
            within(patience.connect, "the TLS handshake", handshake).await.map_err(unreachable)?;
        exchange(request, stream, &url, patience.silence).await
    };
    tokio::time::timeout(patience.whole, whole).await.unwrap_or_else(|_| {
        Err(ClientError::Connect {
            url: url.clone(),
            source: silent("the whole request", patience.whole),
        })
    })
}

async fn exchange<S>(
    request: Outgoing,
    stream: S,
    url: &str,
    silence: Duration,
) -> Result<Answer, ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let unreachable = |source| ClientError::Connect { url: url.into(), source };
    let broken =
        |error: hyper::Error| ClientError::Connect { url: url.into(), source: error.into() };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let _connection = Task(tokio::spawn(connection));
    let path = request.uri.path_and_query().map_or("/", |p| p.as_str());
    let mut sent = Request::new(Full::new(request.body));
    *sent.method_mut() = request.method;
    // A server wants the path alone.
    *sent.uri_mut() = path.parse().map_err(|_| ClientError::Address { url: url.into() })?;
    *sent.headers_mut() = request.headers;
    let agent = HeaderValue::from_static(concat!("kennel/", env!("CARGO_PKG_VERSION")));
    sent.headers_mut().insert(USER_AGENT, agent);
    let answer = within(silence, "an answer", sender.send_request(sent)).await;
    let answer = answer.map_err(unreachable)?;
    let status = answer.status();
    let limit = if status.is_success() { request.limit } else { request.limit.max(REFUSAL) };
    let too_large = || ClientError::TooLarge { url: url.into(), limit };
    if declared(answer.headers()).is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let mut body = answer.into_body();
    let mut read = BytesMut::new();
    loop {
        let next = tokio::time::timeout(silence, body.frame()).await;
        let next = next.map_err(|_| unreachable(silent("the rest of an answer", silence)))?;
        let Some(frame) = next else { break };
        if let Ok(data) = frame.map_err(broken)?.into_data() {
            let length = u64::try_from(read.len() + data.len()).unwrap_or(u64::MAX);
            if length > limit {
                return Err(too_large());
            }
            read.extend_from_slice(&data);
        }
    }
    Ok(Answer { status, body: read.freeze() })
}

/// Ends with whoever waits for it.
struct Task<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn declared(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

async fn within<T, E: Into<Cause>>(
    limit: Duration,
    what: &'static str,
    step: impl Future<Output = Result<T, E>>,
) -> Result<T, Cause> {
    match tokio::time::timeout(limit, step).await {
        Ok(done) => done.map_err(Into::into),
        Err(_) => Err(silent(what, limit)),
    }
}

fn silent(what: &'static str, limit: Duration) -> Cause {
    let text = format!("{what} took more than {} s", limit.as_secs_f64());
    std::io::Error::new(std::io::ErrorKind::TimedOut, text).into()
}

/// The roots that are compiled in: the confined server reads no certificates of the host.
fn public_roots() -> Result<Arc<ClientConfig>, rustls::Error> {
    static CONFIG: OnceLock<Result<Arc<ClientConfig>, rustls::Error>> = OnceLock::new();
    let make =
        || trusting(RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()));
    CONFIG.get_or_init(make).clone()
}

fn trusting(roots: RootCertStore) -> Result<Arc<ClientConfig>, rustls::Error> {
    // By name: a process that has two providers compiled in has no default one.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rustls::ServerConfig;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    async fn speak(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &str) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else { return };
            head.push(byte);
        }
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
    }

    /// A server that gives every request the same answer, over TLS where asked.
    async fn serve(answer: &'static str, tls: Option<TlsAcceptor>) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                match &tls {
                    None => speak(stream, answer).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            speak(stream, answer).await;
                        }
                    }
                }
            }
        });
        port
    }

    fn get(url: &str, limit: u64) -> Outgoing {
        let uri = address(url, "/a?b=c").unwrap();
        Outgoing { method: Method::GET, uri, headers: HeaderMap::new(), body: Bytes::new(), limit }
    }

    fn text(error: &ClientError) -> String {
        std::iter::successors(Some(error as &dyn std::error::Error), |e| e.source())
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(": ")
    }

    #[test]
    fn addresses_are_of_one_form() {
        for (base, path, whole) in [
            ("http://127.0.0.1:9", "/a", "http://127.0.0.1:9/a"),
            ("https://example.com/", "/", "https://example.com/"),
            ("http://[::1]:9/base/", "/a%20b?c=d", "http://[::1]:9/base/a%20b?c=d"),
        ] {
            assert_eq!(address(base, path).unwrap().to_string(), whole);
        }
        for base in [
            "",
            "127.0.0.1:9",
            "ftp://host",
            "http://",
            "http://me@host",
            "http://host?x",
            "http:///a",
            "/a",
        ] {
            let error = address(base, "/").unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("`{base}` is no address of the form http://HOST:PORT")
            );
        }
    }

    #[tokio::test]
    async fn answers_are_bounded_and_whole() {
        let ok = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
        let chunks =
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n";
        for (answer, limit, want) in [
            (ok, 5, Ok("hello")),
            (chunks, 5, Ok("hello")),
            (ok, 4, Err("is over 4 bytes")),
            (chunks, 4, Err("is over 4 bytes")),
            ("HTTP/1.1 404 Not Found\r\ncontent-length: 5\r\n\r\nhello", 0, Ok("hello")),
            ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello", 9, Err("cannot reach")),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n",
                9,
                Err("cannot reach"),
            ),
            ("nonsense", 9, Err("cannot reach")),
            ("", 9, Err("cannot reach")),
        ] {
            let port = serve(answer, None).await;
            let got = send(get(&format!("http://127.0.0.1:{port}"), limit)).await;
            match (got, want) {
                (Ok(got), Ok(want)) => assert_eq!(got.body, want),
                (Err(error), Err(want)) => assert!(text(&error).contains(want), "{error}"),
                (got, want) => panic!("{answer:?}: {got:?}, wanted {want:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_silent_service_is_not_waited_for_for_ever() {
        for answer in ["HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel"] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
                let _open = stream;
                std::future::pending::<()>().await;
            });
            let patience = Patience { silence: Duration::from_millis(50), ..PATIENCE };
            let request = get(&format!("http://127.0.0.1:{port}"), 9);
            let error = send_with(request, public_roots(), patience).await.unwrap_err();
            assert!(text(&error).ends_with("took more than 0.05 s"), "{}", text(&error));
        }
    }

    /// A certificate for 127.0.0.1 that signs itself, and its key. `None`: no openssl here.
    fn certificate() -> Option<(CertificateDer<'static>, PrivateKeyDer<'static>)> {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
            .args(["-nodes", "-days", "9", "-subj", "/CN=test", "-addext"])
            .args(["basicConstraints=critical,CA:FALSE", "-addext"])
            .args(["subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout"])
            .args([key.as_os_str(), "-out".as_ref(), cert.as_os_str()])
            .output();
        let Ok(made) = made else {
            println!("SKIPPED: no openssl to make a certificate with");
            return None;
        };
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let cert = CertificateDer::from_pem_file(cert).unwrap();
        Some((cert, PrivateKeyDer::from_pem_file(key).unwrap()))
    }

    #[tokio::test]
    async fn https_is_spoken_with_whom_the_roots_vouch_for() {
        let Some((cert, key)) = certificate() else { return };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
        let port = serve(answer, Some(acceptor)).await;
        let mut roots = RootCertStore::empty();
        roots.add(cert).unwrap();
        let trusted = || trusting(roots.clone());
        for host in ["127.0.0.1", "localhost"] {
            let url = format!("https://{host}:{port}");
            let got = send_with(get(&url, 9), trusted(), PATIENCE).await;
            assert_eq!(got.unwrap_or_else(|e| panic!("{}", text(&e))).body, "hello");
            let error = send(get(&url, 9)).await.unwrap_err();
            assert!(text(&error).contains("UnknownIssuer"), "{}", text(&error));
        }
    }
}
