//! Reads a sandbox's log pipe: every byte in order, bounded in memory, with the last 4 KB of each invocation kept.
//!
//! A function that prints faster than the sink takes fills its pipe and waits; nobody else does.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use tokio::io::unix::AsyncFd;

/// Bytes of the tail that AWS returns with an invocation.
pub const TAIL_BYTES: usize = 4096;
const CHUNK: usize = 16 << 10;

/// Where captured bytes go. `write` may wait; that holds the function back.
pub trait Sink {
    fn write(&mut self, bytes: &[u8]) -> impl Future<Output = ()>;
}

/// One sandbox's log.
#[derive(Debug)]
pub struct Capture<S> {
    pipe: AsyncFd<OwnedFd>,
    sink: S,
    tail: VecDeque<u8>,
    /// Read, and not yet taken by the sink: a [`Self::pump`] that was dropped half-way leaves it here.
    pending: Vec<u8>,
    /// Bytes since the last [`Self::begin`].
    pub bytes: u64,
    closed: bool,
}

impl<S: Sink> Capture<S> {
    /// # Errors
    /// Where the pipe cannot be polled.
    pub fn new(pipe: OwnedFd, sink: S) -> io::Result<Self> {
        Ok(Self {
            pipe: crate::sys::watch::watch(pipe)?,
            sink,
            tail: VecDeque::new(),
            pending: Vec::new(),
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
        self.tail.iter().copied().collect()
    }

    /// Adds a line of Kennel's own (START, END, REPORT) between the function's. Does not wait: a sink that does not
    /// take it must not hold the function's deadline up.
    pub fn note(&mut self, line: &str) {
        self.keep(line.as_bytes());
        self.pending.extend_from_slice(line.as_bytes());
    }

    /// Waits for output and passes it on. Never returns once the pipe is closed.
    ///
    /// Safe to drop at any await: what was read is kept until the sink has taken it.
    pub async fn pump(&mut self) {
        while !self.closed {
            self.flush().await;
            let Ok(mut ready) = self.pipe.readable().await else { break };
            let mut buffer = vec![0; CHUNK];
            match ready.try_io(|pipe| Ok(nix::unistd::read(pipe.get_ref(), &mut buffer)?)) {
                Ok(Ok(0) | Err(_)) => self.closed = true,
                Ok(Ok(length)) => {
                    buffer.truncate(length);
                    self.keep(&buffer);
                    self.pending = buffer;
                }
                Err(_would_block) => {}
            }
        }
        self.flush().await;
        std::future::pending::<()>().await;
    }

    /// Waits until the sink has everything that was read.
    pub async fn flush(&mut self) {
        if !self.pending.is_empty() {
            self.sink.write(&self.pending).await;
            self.pending.clear();
        }
    }

    /// Takes what is in the pipe now: what was printed before the answer belongs to its invocation. Does not wait for
    /// the sink; a pipe holds a bounded number of bytes.
    pub fn drain(&mut self) {
        let waiting = crate::sys::process::bytes_waiting(self.pipe.get_ref().as_fd());
        let mut left = waiting.unwrap_or(0);
        let mut buffer = vec![0; CHUNK];
        while left > 0 {
            let want = left.min(CHUNK);
            match nix::unistd::read(self.pipe.get_ref(), &mut buffer[..want]) {
                Ok(length) if length > 0 => {
                    left -= length;
                    self.keep(&buffer[..length]);
                    self.pending.extend_from_slice(&buffer[..length]);
                }
                _ => break,
            }
        }
    }

    pub fn into_sink(self) -> S {
        self.sink
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
        assert_eq!(capture.into_sink().0.len(), 6007, "every byte reached the sink");
    }
}
