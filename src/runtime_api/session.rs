//! One sandbox's conversation: which invocation it has, and what it may still say about it.
//!
//! All rules of the protocol live here, behind both listeners and the net/rpc door; no I/O.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

/// Largest buffered answer: 6 MB and the envelope that AWS allows on top.
pub const MAX_RESPONSE_BYTES: usize = 6_291_556;
/// Largest streamed answer.
pub const MAX_STREAMED_BYTES: usize = 200 << 20;

/// One event on its way into the sandbox.
#[derive(Debug, Clone)]
pub struct Invocation {
    pub request_id: String,
    pub payload: Bytes,
    pub deadline_ms: u64,
    pub function_arn: String,
    pub trace_id: String,
    pub client_context: Option<String>,
    pub cognito_identity: Option<String>,
}

/// What the sandbox said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A bootstrap that was started ahead waits for what it is for.
    Waiting,
    /// The first `next`: the handler is loaded.
    InitDone,
    InitError {
        error_type: String,
        body: Bytes,
    },
    Answer {
        request_id: String,
        answer: Answer,
    },
    /// A streamed answer's bytes, before its end. A new `attempt` begins anew: the one before broke off.
    Chunk {
        request_id: String,
        attempt: u64,
        bytes: Bytes,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Response(Bytes),
    /// All chunks were sent; an error in the trailers ends a stream that had begun well.
    Streamed {
        error: Option<(String, Bytes)>,
    },
    Error {
        error_type: String,
        body: Bytes,
    },
}

/// Why a request is refused; each has its status in `http.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No such invocation, or it was answered, or its deadline has passed.
    UnknownRequestId,
    /// `init/error` after `next`.
    InitIsOver,
    /// Nothing is to be claimed, or it was.
    NothingToClaim,
}

#[derive(Debug, Default)]
struct State {
    queued: Option<Arc<Invocation>>,
    /// Delivered and not answered: the invocation, and the connection that took it.
    current: Option<(Arc<Invocation>, u64)>,
    /// A response is being read.
    answering: bool,
    /// How many answers were begun.
    attempts: u64,
    /// An answer to the current invocation was refused for its size; the runtime may still say so itself.
    too_large: bool,
    init_done: bool,
    retired: bool,
    claim: Claim,
    open_connections: HashMap<u64, ()>,
}

/// What a bootstrap that was started ahead is told, once.
#[derive(Debug, Default)]
enum Claim {
    /// It was started for its function, or was told.
    #[default]
    None,
    /// It may ask.
    Open,
    /// It asked, or will; this is the answer.
    Given(Bytes),
}

/// See the module's words.
#[derive(Debug)]
pub struct Session {
    state: Mutex<State>,
    available: Notify,
    events: mpsc::Sender<Event>,
}

/// Events that may wait for the pool; a streamed answer faster than its reader waits here.
const EVENT_QUEUE: usize = 16;

impl Session {
    pub fn new() -> (Self, mpsc::Receiver<Event>) {
        let (events, receiver) = mpsc::channel(EVENT_QUEUE);
        (Self { state: Mutex::default(), available: Notify::new(), events }, receiver)
    }

    /// For a bootstrap that is started ahead: it may ask once what it is for.
    pub fn ahead() -> (Self, mpsc::Receiver<Event>) {
        let (session, events) = Self::new();
        session.state().claim = Claim::Open;
        (session, events)
    }

    /// Answers the bootstrap that waits, or will: the JSON that it gets.
    pub fn give(&self, answer: Bytes) {
        self.state().claim = Claim::Given(answer);
        self.available.notify_waiters();
    }

    /// What the bootstrap is for; waits until that is known. It is told once: afterwards a function may ask, and learns
    /// nothing.
    ///
    /// # Errors
    /// [`Refusal::NothingToClaim`].
    pub async fn claim(&self) -> Result<Bytes, Refusal> {
        if matches!(self.state().claim, Claim::None) {
            return Err(Refusal::NothingToClaim);
        }
        let _ = self.events.send(Event::Waiting).await;
        loop {
            let notified = self.available.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            {
                let mut state = self.state();
                match std::mem::take(&mut state.claim) {
                    Claim::Given(answer) => {
                        self.available.notify_waiters();
                        return Ok(answer);
                    }
                    Claim::Open => state.claim = Claim::Open,
                    Claim::None => return Err(Refusal::NothingToClaim),
                }
            }
            notified.await;
        }
    }

    /// Waits until somebody has asked [`Self::claim`] and was told.
    pub async fn told(&self) {
        loop {
            let notified = self.available.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if matches!(self.state().claim, Claim::None) {
                return;
            }
            notified.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code here panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues the next invocation. The pool gives one at a time.
    pub fn offer(&self, invocation: Invocation) {
        self.state().queued = Some(Arc::new(invocation));
        self.available.notify_waiters();
    }

    /// Nothing that is said about the current invocation counts any more: its deadline has passed.
    pub fn cancel(&self) {
        let mut state = self.state();
        state.queued = None;
        state.current = None;
    }

    /// The runtime said that it must get no further event: a Go program that panicked over net/rpc.
    pub fn retire(&self) {
        self.state().retired = true;
    }

    pub fn retired(&self) -> bool {
        self.state().retired
    }

    pub fn connected(&self, connection: u64) {
        self.state().open_connections.insert(connection, ());
    }

    pub fn disconnected(&self, connection: u64) {
        self.state().open_connections.remove(&connection);
        self.available.notify_waiters();
    }

    /// The next invocation, for the runtime behind `connection`; waits for one.
    ///
    /// An invocation whose connection broke before it was answered is handed out again: a `next` that was abandoned
    /// must not swallow an event. Dropping this future takes nothing.
    pub async fn next(&self, connection: u64) -> Arc<Invocation> {
        // An answer that was refused for its size, and no word about it since: that is the error.
        let gave_up = {
            let mut state = self.state();
            if std::mem::take(&mut state.too_large) {
                state.current.take().map(|c| c.0)
            } else {
                None
            }
        };
        if let Some(invocation) = gave_up {
            let answer = Self::too_large_answer();
            let event = Event::Answer { request_id: invocation.request_id.clone(), answer };
            let _ = self.events.send(event).await;
        }
        let first = !std::mem::replace(&mut self.state().init_done, true);
        if first {
            let _ = self.events.send(Event::InitDone).await;
        }
        loop {
            let notified = self.available.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            {
                let mut state = self.state();
                let lost = state.current.as_ref().is_some_and(|(_, taker)| {
                    !state.answering && !state.open_connections.contains_key(taker)
                });
                if lost && let Some((invocation, taker)) = &mut state.current {
                    *taker = connection;
                    return invocation.clone();
                }
                if let Some(invocation) = state.queued.take() {
                    state.current = Some((invocation.clone(), connection));
                    return invocation;
                }
            }
            notified.await;
        }
    }

    /// Begins an answer to `request_id`; nothing else can answer it until [`Self::abandon`].
    ///
    /// # Errors
    /// [`Refusal::UnknownRequestId`].
    pub fn begin_answer(&self, request_id: &str) -> Result<(), Refusal> {
        let mut state = self.state();
        let ours = state.current.as_ref().is_some_and(|(i, _)| i.request_id == request_id);
        if !ours || state.answering {
            return Err(Refusal::UnknownRequestId);
        }
        state.answering = true;
        state.attempts += 1;
        Ok(())
    }

    /// The answer broke off: the invocation is open again.
    pub fn abandon(&self, request_id: &str) {
        let mut state = self.state();
        if state.current.as_ref().is_some_and(|(i, _)| i.request_id == request_id) {
            state.answering = false;
        }
    }

    /// Passes a piece of a streamed answer on.
    ///
    /// # Errors
    /// [`Refusal::UnknownRequestId`] once the deadline has passed.
    pub async fn chunk(&self, request_id: &str, bytes: Bytes) -> Result<(), Refusal> {
        let attempt = {
            let state = self.state();
            if state.current.as_ref().is_none_or(|(i, _)| i.request_id != request_id) {
                return Err(Refusal::UnknownRequestId);
            }
            state.attempts
        };
        let event = Event::Chunk { request_id: request_id.into(), attempt, bytes };
        let _ = self.events.send(event).await;
        Ok(())
    }

    /// Ends the answer that [`Self::begin_answer`] began.
    ///
    /// # Errors
    /// [`Refusal::UnknownRequestId`] once the deadline has passed.
    pub async fn finish_answer(&self, request_id: &str, answer: Answer) -> Result<(), Refusal> {
        {
            let mut state = self.state();
            if state.current.as_ref().is_none_or(|(i, _)| i.request_id != request_id) {
                return Err(Refusal::UnknownRequestId);
            }
            state.current = None;
            state.too_large = false;
            state.answering = false;
        }
        let _ = self.events.send(Event::Answer { request_id: request_id.into(), answer }).await;
        Ok(())
    }

    /// An answer to the current invocation was over the limit. If the runtime says nothing more about it, that is the
    /// invocation's error: see [`Self::refused_size`].
    pub fn answer_too_large(&self) {
        self.state().too_large = true;
    }

    /// The error of an invocation whose runtime ended after its answer was refused for its size.
    pub fn refused_size(&self) -> Option<Answer> {
        self.state().too_large.then(Self::too_large_answer)
    }

    /// AWS's error for an answer over [`MAX_RESPONSE_BYTES`].
    pub fn too_large_answer() -> Answer {
        let kind = "Function.ResponseSizeTooLarge";
        let text = format!(
            "Response payload size exceeded maximum allowed payload size ({MAX_RESPONSE_BYTES} bytes)."
        );
        let body = format!("{{\"errorMessage\":\"{text}\",\"errorType\":\"{kind}\"}}");
        Answer::Error { error_type: kind.into(), body: body.into() }
    }

    /// # Errors
    /// [`Refusal::InitIsOver`] after the first `next`.
    pub async fn init_error(&self, error_type: String, body: Bytes) -> Result<(), Refusal> {
        if self.state().init_done {
            return Err(Refusal::InitIsOver);
        }
        let _ = self.events.send(Event::InitError { error_type, body }).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invocation(id: &str) -> Invocation {
        Invocation {
            request_id: id.into(),
            payload: Bytes::from_static(b"{}"),
            deadline_ms: 0,
            function_arn: String::new(),
            trace_id: String::new(),
            client_context: None,
            cognito_identity: None,
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn an_abandoned_next_swallows_nothing() {
        let (session, mut events) = Session::new();
        session.connected(1);
        let abandoned =
            tokio::time::timeout(std::time::Duration::from_millis(5), session.next(1)).await;
        assert!(abandoned.is_err());
        assert_eq!(events.recv().await, Some(Event::InitDone));
        session.disconnected(1);
        session.offer(invocation("a"));
        session.connected(2);
        assert_eq!(session.next(2).await.request_id, "a");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn an_event_lost_with_its_connection_is_handed_out_again() {
        let (session, _events) = Session::new();
        session.connected(1);
        session.offer(invocation("a"));
        assert_eq!(session.next(1).await.request_id, "a");
        session.disconnected(1);
        session.connected(2);
        assert_eq!(session.next(2).await.request_id, "a");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn only_the_current_invocation_can_be_answered_and_only_once() {
        let (session, mut events) = Session::new();
        session.connected(1);
        session.offer(invocation("a"));
        session.next(1).await;
        assert_eq!(session.begin_answer("b"), Err(Refusal::UnknownRequestId));
        session.begin_answer("a").unwrap();
        assert_eq!(
            session.begin_answer("a"),
            Err(Refusal::UnknownRequestId),
            "while another is being read"
        );
        session.abandon("a");
        session.begin_answer("a").unwrap();
        session.finish_answer("a", Answer::Response(Bytes::from_static(b"1"))).await.unwrap();
        assert_eq!(session.begin_answer("a"), Err(Refusal::UnknownRequestId), "a second answer");
        events.recv().await;
        assert!(matches!(events.recv().await, Some(Event::Answer { .. })));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn nothing_counts_after_the_deadline() {
        let (session, _events) = Session::new();
        session.connected(1);
        session.offer(invocation("a"));
        session.next(1).await;
        session.begin_answer("a").unwrap();
        session.cancel();
        let late = session.finish_answer("a", Answer::Response(Bytes::new())).await;
        assert_eq!(late, Err(Refusal::UnknownRequestId));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_it_is_for_is_told_once_and_only_to_who_waits_for_it() {
        let (session, mut events) = Session::ahead();
        let early =
            tokio::time::timeout(std::time::Duration::from_millis(5), session.claim()).await;
        assert!(early.is_err(), "nothing is known yet");
        assert_eq!(events.recv().await, Some(Event::Waiting));
        session.give(Bytes::from_static(b"{}"));
        assert_eq!(session.claim().await, Ok(Bytes::from_static(b"{}")));
        assert_eq!(session.claim().await, Err(Refusal::NothingToClaim));
        let (session, _events) = Session::new();
        assert_eq!(session.claim().await, Err(Refusal::NothingToClaim));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn init_error_only_before_next() {
        let (session, _events) = Session::new();
        session.init_error("T".into(), Bytes::new()).await.unwrap();
        let _ = tokio::time::timeout(std::time::Duration::from_millis(5), session.next(1)).await;
        assert_eq!(session.init_error("T".into(), Bytes::new()).await, Err(Refusal::InitIsOver));
    }
}
