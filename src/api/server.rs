//! Listeners and connections: how many, for how long, and their end. Knows HTTP/1.1 and TLS, and no request.
//!
//! One bad client never stops a good one: a connection that is slow with its request's head, idle too long, or does not
//! take its answer is closed; where no place is left, idle ones make room first.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

use super::door::FrontDoor;
use super::watchdog::{Limits, Watchdog, Watched};

/// Bytes of a request's head. Larger ones are answered 431.
const MAX_HEAD: usize = 32 << 10;
/// After a failed accept (no descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where connections come from.
pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
    Tls(TcpListener, TlsAcceptor),
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(listener) => write!(f, "Tcp({listener:?})"),
            Self::Unix(listener) => write!(f, "Unix({listener:?})"),
            Self::Tls(listener, _) => write!(f, "Tls({listener:?})"),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read the {what} of TLS")]
    Pem { what: &'static str, source: rustls::pki_types::pem::Error },
    #[error("the certificate and key are not usable")]
    Pair(#[from] rustls::Error),
}

/// What a [`Listener::Tls`] needs, of a certificate chain and its key in PEM.
///
/// # Errors
/// No certificate or key in the text, or two that do not belong together.
pub fn tls(certificates: &[u8], key: &[u8]) -> Result<TlsAcceptor, TlsError> {
    let bad = |what| move |source| TlsError::Pem { what, source };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificates)
        .collect::<Result<_, _>>()
        .map_err(bad("certificate"))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(bad("key"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// What connections may cost.
#[derive(Debug, Clone, Copy)]
pub struct ServerLimits {
    /// At one time, over all listeners.
    pub connections: usize,
    /// From a request's first byte (or the connection's start) to the end of its head.
    pub head: Duration,
    /// Between requests.
    pub idle: Duration,
    /// With no byte of an answer taken by the client.
    pub write: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: 1024,
            head: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            write: Duration::from_secs(60),
        }
    }
}

/// What all connections share.
struct Shared {
    door: Arc<FrontDoor>,
    limits: Limits,
    places: Arc<Semaphore>,
    /// Told when someone waits for a place.
    pressure: Notify,
    shutdown: watch::Receiver<bool>,
}

/// Serves until `shutdown` turns true (or its sender is gone), then finishes what runs: no new connection, no new
/// request on an old one. Drop the future to stop at once.
pub async fn serve(
    listeners: Vec<Listener>,
    door: Arc<FrontDoor>,
    limits: ServerLimits,
    shutdown: watch::Receiver<bool>,
) {
    let shared = Arc::new(Shared {
        door,
        limits: Limits { head: limits.head, idle: limits.idle, write: limits.write },
        places: Arc::new(Semaphore::new(limits.connections)),
        pressure: Notify::new(),
        shutdown,
    });
    let mut accepting = JoinSet::new();
    for listener in listeners {
        accepting.spawn(accept_all(listener, shared.clone()));
    }
    while accepting.join_next().await.is_some() {}
}

async fn accept_all(listener: Listener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    let mut shutdown = shared.shutdown.clone();
    loop {
        let next = async {
            let place = place(&shared).await?;
            loop {
                match accept(&listener).await {
                    Ok(accepted) => return Some((accepted, place)),
                    Err(error) => {
                        tracing::warn!("cannot accept a connection: {error}");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        };
        tokio::select! {
            biased;
            () = told(&mut shutdown) => break,
            Some(_) = connections.join_next() => {}
            next = next => match next {
                Some((accepted, place)) => {
                    connections.spawn(connection(accepted, place, shared.clone()));
                }
                None => break,
            },
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Resolves once the server shall stop.
async fn told(shutdown: &mut watch::Receiver<bool>) {
    let _sender_is_gone = shutdown.wait_for(|stop| *stop).await;
}

async fn place(shared: &Shared) -> Option<OwnedSemaphorePermit> {
    if let Ok(place) = shared.places.clone().try_acquire_owned() {
        return Some(place);
    }
    let mut waiting = std::pin::pin!(shared.places.clone().acquire_owned());
    loop {
        shared.pressure.notify_waiters();
        tokio::select! {
            place = &mut waiting => return place.ok(),
            // Connections that were busy when they were told may be idle now.
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

struct Accepted {
    stream: Box<dyn Stream>,
    peer: Option<SocketAddr>,
    tls: Option<TlsAcceptor>,
}

async fn accept(listener: &Listener) -> io::Result<Accepted> {
    let tcp = |(stream, peer): (tokio::net::TcpStream, SocketAddr), tls| {
        stream.set_nodelay(true)?;
        Ok(Accepted { stream: Box::new(stream), peer: Some(peer), tls })
    };
    match listener {
        Listener::Tcp(listener) => tcp(listener.accept().await?, None),
        Listener::Tls(listener, acceptor) => tcp(listener.accept().await?, Some(acceptor.clone())),
        Listener::Unix(listener) => {
            let (stream, _) = listener.accept().await?;
            Ok(Accepted { stream: Box::new(stream), peer: None, tls: None })
        }
    }
}

async fn connection(accepted: Accepted, place: OwnedSemaphorePermit, shared: Arc<Shared>) {
    let Accepted { stream, peer, tls } = accepted;
    match tls {
        None => http(stream, "http", peer, &shared).await,
        Some(acceptor) => {
            // The time for the handshake is that for a head.
            let handshake = tokio::time::timeout(shared.limits.head, acceptor.accept(stream));
            if let Ok(Ok(stream)) = handshake.await {
                http(stream, "https", peer, &shared).await;
            }
        }
    }
    drop(place);
}

async fn http(
    stream: impl Stream,
    scheme: &'static str,
    peer: Option<SocketAddr>,
    shared: &Arc<Shared>,
) {
    let watchdog = Arc::new(Watchdog::new(shared.limits));
    let stream = TokioIo::new(Watched::new(stream, watchdog.clone()));
    let service = service_fn(|request| {
        let busy = watchdog.busy();
        async {
            let response = shared.door.handle(request, scheme, peer).await;
            Ok::<_, Infallible>(response.map(|body| busy.until_the_end_of(body)))
        }
    });
    let connection = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .header_read_timeout(None)
        .half_close(false)
        .serve_connection(stream, service);
    let mut connection = std::pin::pin!(connection);
    let mut shutdown = shared.shutdown.clone();
    let mut stopping = false;
    loop {
        tokio::select! {
            biased;
            done = connection.as_mut() => {
                if let Err(error) = done {
                    tracing::debug!("a connection ended: {error}");
                }
                return;
            }
            () = told(&mut shutdown), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
                // One that has not asked anything yet would be waited for.
                if watchdog.asks_nothing_yet() {
                    return;
                }
            }
            () = shared.pressure.notified() => {
                if watchdog.gives_way() {
                    return;
                }
            }
            () = watchdog.expired() => return,
        }
    }
}
