//! Bodies in and out: requests are read within a limit, a time and a budget of memory; answers are whole or streamed.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout_at};

use super::StreamEvent;
use super::eventstream;
use crate::sigv4;

/// Bytes that earn a body another second.
const LEAST_RATE: usize = 64 << 10;
/// Of a refused body this much is read, for at most so long: a client that is still sending would not see the answer.
const DRAIN_BYTES: usize = 96 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// What bodies may cost.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    /// Memory at one time for requests that carry code, in bytes, and for all others: neither starves the other.
    pub uploads: usize,
    pub others: usize,
    /// How long a body may take, and a second more for every 64 KiB of it.
    pub grace: Duration,
    /// How long a body waits for memory before its sender is told to come back.
    pub wait: Duration,
}

impl Default for BodyLimits {
    /// Four uploads at their limit and 256 MiB; 20 s; 10 s.
    fn default() -> Self {
        Self {
            uploads: 4 * (70 << 20),
            others: 256 << 20,
            grace: Duration::from_secs(20),
            wait: Duration::from_secs(10),
        }
    }
}

/// Memory for bodies on their way in, in KiB. What is taken is given back when the last of a body's bytes are dropped.
#[derive(Debug, Clone)]
pub struct Budget {
    left: Arc<Semaphore>,
    total: u32,
    limits: BodyLimits,
}

impl Budget {
    pub fn new(bytes: usize, limits: BodyLimits) -> Self {
        let kib = u32::try_from(bytes >> 10).unwrap_or(u32::MAX).max(1);
        let left = Arc::new(Semaphore::new(usize::try_from(kib).unwrap_or(usize::MAX)));
        Self { left, total: kib, limits }
    }

    async fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, ReadError> {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).min(self.total);
        let waited =
            tokio::time::timeout(self.limits.wait, self.left.clone().acquire_many_owned(kib));
        waited.await.ok().and_then(Result::ok).ok_or(ReadError::Busy)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// `length`: as the client announced it.
    #[error("the body is over its limit")]
    TooLarge { length: Option<u64> },
    #[error("the body comes too slowly")]
    Slow,
    #[error("no memory is left for the body")]
    Busy,
    #[error("the body broke off")]
    Broken(#[from] hyper::Error),
}

/// A body, and its lower-case hex SHA-256.
#[derive(Debug)]
pub struct ReadBody {
    pub bytes: Bytes,
    pub sha256: String,
}

/// Reads a whole body of at most `limit` bytes.
///
/// # Errors
/// See [`ReadError`]; the rest of the body is not read then.
pub async fn read(
    body: &mut Incoming,
    limit: usize,
    budget: &Budget,
) -> Result<ReadBody, ReadError> {
    if body.is_end_stream() {
        return Ok(ReadBody { bytes: Bytes::new(), sha256: sigv4::EMPTY_SHA256.into() });
    }
    let length = body.size_hint().exact();
    let size = match length {
        Some(length) => usize::try_from(length).unwrap_or(usize::MAX),
        None => limit,
    };
    if size > limit {
        return Err(ReadError::TooLarge { length });
    }
    let permit = budget.take(size).await?;
    let mut hash = Sha256::new();
    // A body that comes in one piece is not copied.
    let mut first = Bytes::new();
    let mut more = BytesMut::new();
    let start = Instant::now();
    loop {
        let received = if more.is_empty() { first.len() } else { more.len() };
        let earned = Duration::from_secs(u64::try_from(received / LEAST_RATE).unwrap_or(u64::MAX));
        let next = timeout_at(start + budget.limits.grace + earned, body.frame());
        let Some(frame) = next.await.map_err(|_| ReadError::Slow)? else { break };
        let Ok(data) = frame?.into_data() else { continue };
        if data.len() > limit - received {
            return Err(ReadError::TooLarge { length });
        }
        hash.update(&data);
        if received == 0 {
            first = data;
            continue;
        }
        if more.is_empty() {
            more.reserve(if length.is_some() { size } else { first.len() + data.len() });
            more.extend_from_slice(&first);
        }
        more.extend_from_slice(&data);
    }
    let bytes = if more.is_empty() { first } else { more.freeze() };
    let sha256 = sigv4::hex(&hash.finalize());
    Ok(ReadBody { bytes: Bytes::from_owner(Held { bytes, _permit: permit }), sha256 })
}

struct Held {
    bytes: Bytes,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads what is left and forgets it, within bounds.
pub async fn drain(body: &mut Incoming) {
    let until = Instant::now() + DRAIN_TIME;
    let mut left = DRAIN_BYTES;
    while let Ok(Some(Ok(frame))) = timeout_at(until, body.frame()).await {
        match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

/// An answer's body.
#[derive(Debug)]
pub struct ReplyBody(Inner);

#[derive(Debug)]
enum Inner {
    Full(Bytes),
    Stream(mpsc::Receiver<io::Result<Bytes>>),
    Events { events: mpsc::Receiver<StreamEvent>, rest: Bytes, complete: bool },
}

impl ReplyBody {
    pub fn empty() -> Self {
        Self(Inner::Full(Bytes::new()))
    }

    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self(Inner::Full(bytes.into()))
    }

    /// Chunks as they come. An error cuts the connection, so that nobody takes the part for the whole.
    pub fn stream(chunks: mpsc::Receiver<io::Result<Bytes>>) -> Self {
        Self(Inner::Stream(chunks))
    }

    /// Events in AWS's framing. It must end with `InvokeComplete`, or the connection is cut.
    pub fn events(events: mpsc::Receiver<StreamEvent>) -> Self {
        Self(Inner::Events { events, rest: Bytes::new(), complete: false })
    }

    /// The bytes of a body that is not streamed.
    #[cfg(test)]
    pub fn bytes(self) -> Bytes {
        match self.0 {
            Inner::Full(bytes) => bytes,
            _ => panic!("a stream"),
        }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let chunk = match &mut self.get_mut().0 {
            Inner::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                if bytes.is_empty() { None } else { Some(Ok(bytes)) }
            }
            Inner::Stream(chunks) => ready!(chunks.poll_recv(context)),
            Inner::Events { events, rest, complete } => {
                if rest.is_empty() {
                    match ready!(events.poll_recv(context)) {
                        Some(StreamEvent::PayloadChunk(bytes)) => *rest = bytes,
                        Some(StreamEvent::InvokeComplete {
                            error_code,
                            error_details,
                            log_result,
                        }) => {
                            *complete = true;
                            let frame =
                                eventstream::complete(error_code, error_details, log_result);
                            return Poll::Ready(Some(Ok(Frame::data(frame))));
                        }
                        None if *complete => return Poll::Ready(None),
                        None => return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into()))),
                    }
                }
                let chunk = rest.split_to(rest.len().min(eventstream::MAX_CHUNK));
                Some(Ok(eventstream::payload_chunk(&chunk)))
            }
        };
        Poll::Ready(chunk.map(|chunk| chunk.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.0, Inner::Full(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Full(bytes) => {
                SizeHint::with_exact(u64::try_from(bytes.len()).unwrap_or(u64::MAX))
            }
            _ => SizeHint::default(),
        }
    }
}
