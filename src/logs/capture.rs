//! Reads a sandbox's log pipe: every byte in order, bounded in memory, with the last 4 KB of each invocation kept.
//!
//! A function that prints faster than the sink takes fills its pipe and waits; nobody else does.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use tokio::io::unix::AsyncFd;

use crate::store::StoreError;

/// Bytes of the tail that AWS returns with an invocation.
pub const TAIL_BYTES: usize = 4096;
const CHUNK: usize = 16 << 10;

/// Where captured bytes go. Every method may wait, which holds the function back and nobody else. Each may be dropped
/// at an await: `write` and `note` have then taken nothing, and are called again with the same.
pub trait Sink {
    fn write(&mut self, bytes: &[u8]) -> impl Future<Output = ()> + Send;

    /// Takes text of Kennel's own, which is one event however many lines it has.
    fn note(&mut self, text: &str) -> impl Future<Output = ()> + Send {
        self.write(text.as_bytes())
    }

    /// When [`Self::pass_on`] should be called at the latest; `None` where nothing is held back.
    fn due(&self) -> Option<Instant> {
        None
    }

    /// Passes on what is held back, but for a line that has not ended.
    fn pass_on(&mut self) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Ends an invocation: a line that has not ended, ends here, and everything is passed on.
    fn boundary(&mut self) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Ends an invocation as [`Self::boundary`] does, and waits until its whole log is on the disk.
    fn boundary_durable(&mut self) -> impl Future<Output = Result<(), StoreError>> + Send {
        async { Ok(()) }
    }
}

#[derive(Debug)]
enum Piece {
    Output(Vec<u8>),
    Note(String),
}

/// One sandbox's log.
#[derive(Debug)]
pub struct Capture<S> {
    pipe: AsyncFd<OwnedFd>,
    /// There until [`Self::take_sink`].
    sink: Option<S>,
    tail: VecDeque<u8>,
    /// Read, and not yet taken by the sink: a [`Self::pump`] that was dropped half-way leaves it here.
    pending: VecDeque<Piece>,
    /// Bytes since the last [`Self::begin`].
    pub bytes: u64,
    closed: bool,
}

impl<S: Sink> Capture<S> {
    /// # Errors
    /// Where the pipe cannot be polled.
    pub fn new(pipe: OwnedFd, sink: S) -> io::Result<Self> {
        Ok(Self { sink: Some(sink), ..Self::without_sink(pipe)? })
    }

    /// For a sandbox whose log has no name yet: what it says is kept until [`Self::set_sink`].
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn without_sink(pipe: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            pipe: crate::sys::watch::watch(pipe)?,
            sink: None,
            tail: VecDeque::new(),
            pending: VecDeque::new(),
            bytes: 0,
            closed: false,
        })
    }

    /// Starts the tail of a new invocation.
    pub fn begin(&mut self) {
        self.tail.clear();
        self.bytes = 0;
    }

    /// The last [`TAIL_BYTES`] since [`Self::begin`].
    pub fn tail(&self) -> Vec<u8> {
        let (front, back) = self.tail.as_slices();
        [front, back].concat()
    }

    pub fn set_sink(&mut self, sink: S) {
        self.sink = Some(sink);
    }

    /// Adds a line of Kennel's own (START, END, REPORT) between the function's. Does not wait: a sink that does not
    /// take it must not hold the function's deadline up.
    pub fn note(&mut self, line: &str) {
        self.keep(line.as_bytes());
        self.pending.push_back(Piece::Note(line.to_owned()));
    }

    /// Waits for output and passes it on. Never returns once the pipe is closed.
    ///
    /// Safe to drop at any await: what was read is kept until the sink has taken it.
    pub async fn pump(&mut self) {
        while !self.closed {
            self.flush().await;
            let readable = self.pipe.readable();
            let ready = match self.sink.as_ref().and_then(Sink::due) {
                None => readable.await,
                // A timer only while something is held back: an idle sandbox has none.
                Some(due) => match tokio::time::timeout_at(due.into(), readable).await {
                    Ok(ready) => ready,
                    Err(_elapsed) => {
                        if let Some(sink) = &mut self.sink {
                            sink.pass_on().await;
                        }
                        continue;
                    }
                },
            };
            let Ok(mut ready) = ready else { break };
            let mut buffer = vec![0; CHUNK];
            match ready.try_io(|pipe| Ok(nix::unistd::read(pipe.get_ref(), &mut buffer)?)) {
                Ok(Ok(0) | Err(_)) => self.closed = true,
                Ok(Ok(length)) => {
                    buffer.truncate(length);
                    self.keep(&buffer);
                    self.pending.push_back(Piece::Output(buffer));
                }
                Err(_would_block) => {}
            }
        }
        self.flush().await;
        if let Some(due) = self.sink.as_ref().and_then(Sink::due) {
            tokio::time::sleep_until(due.into()).await;
            if let Some(sink) = &mut self.sink {
                sink.pass_on().await;
            }
        }
        std::future::pending::<()>().await;
    }

    /// Waits until the sink has everything that was read.
    pub async fn flush(&mut self) {
        while let (Some(piece), Some(sink)) = (self.pending.front(), &mut self.sink) {
            match piece {
                Piece::Output(bytes) => sink.write(bytes).await,
                Piece::Note(text) => sink.note(text).await,
            }
            self.pending.pop_front();
        }
    }

    /// Ends an invocation's log: the sink has everything and has passed it on.
    pub async fn end(&mut self) {
        self.flush().await;
        if let Some(sink) = &mut self.sink {
            sink.boundary().await;
        }
    }

    /// As [`Self::end`], and waits until the invocation's log is on the disk.
    ///
    /// # Errors
    /// Some of it is not.
    pub async fn end_durably(&mut self) -> Result<(), StoreError> {
        self.flush().await;
        match &mut self.sink {
            Some(sink) => sink.boundary_durable().await,
            None => Ok(()),
        }
    }

    /// Takes what is in the pipe now: what was printed before the answer belongs to its invocation. Does not wait for
    /// the sink; a pipe holds a bounded number of bytes.
    pub fn drain(&mut self) {
        let waiting = crate::sys::process::bytes_waiting(self.pipe.get_ref().as_fd());
        let mut left = waiting.unwrap_or(0);
        while left > 0 {
            let mut buffer = vec![0; left.min(CHUNK)];
            match nix::unistd::read(self.pipe.get_ref(), &mut buffer) {
                Ok(length) if length > 0 => {
                    left -= length;
                    buffer.truncate(length);
                    self.keep(&buffer);
                    self.pending.push_back(Piece::Output(buffer));
                }
                _ => break,
            }
        }
    }

    pub fn sink_mut(&mut self) -> Option<&mut S> {
        self.sink.as_mut()
    }

    /// The sink, once; what comes after is dropped.
    pub fn take_sink(&mut self) -> Option<S> {
        self.sink.take()
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        let bytes = &bytes[bytes.len().saturating_sub(TAIL_BYTES)..];
        let over = (self.tail.len() + bytes.len()).saturating_sub(TAIL_BYTES);
        self.tail.drain(..over);
        self.tail.extend(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Memory(Vec<u8>);

    impl Sink for Memory {
        async fn write(&mut self, bytes: &[u8]) {
            self.0.extend(bytes);
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn tail_is_the_last_4096_bytes_of_this_invocation_alone() {
        let (read, write) = nix::unistd::pipe().unwrap();
        let mut capture = Capture::new(read, Memory::default()).unwrap();
        nix::unistd::write(&write, b"earlier").unwrap();
        capture.drain();
        capture.flush().await;
        capture.begin();
        let long: Vec<u8> = (0..6000).map(|i| b'a' + u8::try_from(i % 26).unwrap()).collect();
        nix::unistd::write(&write, &long).unwrap();
        capture.drain();
        capture.flush().await;
        assert_eq!(capture.tail(), long[6000 - TAIL_BYTES..]);
        assert_eq!(capture.bytes, 6000);
        assert_eq!(capture.take_sink().unwrap().0.len(), 6007, "every byte reached the sink");
    }
}
