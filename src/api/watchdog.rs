//! Watches what a connection does with its time, at next to no cost for one that behaves: a request changes two words,
//! and no timer is set for it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// How long a connection may be in each state.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub head: Duration,
    pub idle: Duration,
    pub write: Duration,
}

/// A connection under pressure may take this long for a head.
const HURRIED_HEAD: Duration = Duration::from_secs(1);

/// One connection's state, and since when.
#[derive(Debug)]
pub struct Watchdog {
    limits: Limits,
    start: Instant,
    /// Requests that are being answered: one, or none.
    busy: AtomicU32,
    /// Part of a request's head is there. Else, and if not busy, the connection is idle.
    head: AtomicBool,
    /// Milliseconds after `start`, of the last change of the two above.
    since: AtomicU64,
    /// Milliseconds after `start`, plus one, since when the client takes nothing; 0: it does.
    stuck: AtomicU64,
}

impl Watchdog {
    pub fn new(limits: Limits) -> Self {
        // The first head is awaited like one that has begun: nobody opens a connection to say nothing.
        Self {
            limits,
            start: Instant::now(),
            busy: AtomicU32::new(0),
            head: AtomicBool::new(true),
            since: AtomicU64::new(0),
            stuck: AtomicU64::new(0),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn enter(&self, head: bool) {
        self.since.store(self.now(), Ordering::Relaxed);
        self.head.store(head, Ordering::Release);
    }

    fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire) > 0
    }

    /// A request is there; dropping the answer's body makes the connection idle again.
    pub fn busy(self: &Arc<Self>) -> Busy {
        self.busy.fetch_add(1, Ordering::AcqRel);
        self.enter(false);
        Busy(self.clone())
    }

    /// Milliseconds after `start` when the connection must be closed; `None`: not in this state.
    fn deadline(&self) -> Option<u64> {
        let after = |since: u64, limit: Duration| {
            since.saturating_add(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX))
        };
        let since = self.since.load(Ordering::Relaxed);
        let state = match (self.is_busy(), self.head.load(Ordering::Acquire)) {
            (true, _) => None,
            (false, true) => Some(after(since, self.limits.head)),
            (false, false) => Some(after(since, self.limits.idle)),
        };
        let stuck = self.stuck.load(Ordering::Relaxed).checked_sub(1);
        let stuck = stuck.map(|since| after(since, self.limits.write));
        state.into_iter().chain(stuck).min()
    }

    /// Resolves when the connection has used up its time. Looks again only when the time of its present state is over.
    pub async fn expired(&self) {
        // A busy connection may become idle or stuck at any time; neither can run out before this.
        let least = self.limits.idle.min(self.limits.write).min(self.limits.head);
        loop {
            let now = self.now();
            let wait = match self.deadline() {
                Some(deadline) if deadline <= now => return,
                Some(deadline) => Duration::from_millis(deadline - now).min(least),
                None => least,
            };
            tokio::time::sleep(wait.max(Duration::from_millis(1))).await;
        }
    }

    /// Whether no request of this connection's has come whole: there is nothing to finish.
    pub fn asks_nothing_yet(&self) -> bool {
        !self.is_busy() && self.head.load(Ordering::Acquire)
    }

    /// Whether another connection may have this one's place now.
    pub fn gives_way(&self) -> bool {
        let spent =
            Duration::from_millis(self.now().saturating_sub(self.since.load(Ordering::Relaxed)));
        !self.is_busy() && (!self.head.load(Ordering::Acquire) || spent > HURRIED_HEAD)
    }
}

/// A request is being answered as long as this lives.
#[derive(Debug)]
pub struct Busy(Arc<Watchdog>);

impl Busy {
    pub fn until_the_end_of<B>(self, body: B) -> WatchedBody<B> {
        WatchedBody { body, _busy: self }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.enter(false);
        self.0.busy.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A body that keeps its connection busy.
#[derive(Debug)]
pub struct WatchedBody<B> {
    body: B,
    _busy: Busy,
}

impl<B: Body + Unpin> Body for WatchedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection whose reads and writes are told to its watchdog.
#[derive(Debug)]
pub struct Watched<S> {
    stream: S,
    watchdog: Arc<Watchdog>,
}

impl<S> Watched<S> {
    pub fn new(stream: S, watchdog: Arc<Watchdog>) -> Self {
        Self { stream, watchdog }
    }

    fn wrote<T>(&self, poll: Poll<T>) -> Poll<T> {
        let stuck = &self.watchdog.stuck;
        match &poll {
            Poll::Ready(_) => stuck.store(0, Ordering::Relaxed),
            Poll::Pending if stuck.load(Ordering::Relaxed) == 0 => {
                stuck.store(self.watchdog.now() + 1, Ordering::Relaxed);
            }
            Poll::Pending => {}
        }
        poll
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(context, buffer);
        let idle = !self.watchdog.is_busy() && !self.watchdog.head.load(Ordering::Acquire);
        if idle && buffer.filled().len() > before {
            self.watchdog.enter(true);
        }
        poll
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.wrote(poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_flush(context);
        self.wrote(poll)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
