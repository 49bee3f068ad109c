//! A connection from inside a sandbox that wakes the server only when there is something to read.
//!
//! The kernel tells whoever watches a Unix socket for room each time that the other side has read something. Tokio's
//! streams watch always, so each answer woke the server once for nothing; here, only a write that found no room waits
//! for it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use nix::errno::Errno;
use nix::sys::socket::{Shutdown, shutdown};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

use crate::sys::watch::watch_for;

#[derive(Debug)]
pub struct Stream {
    stream: AsyncFd<OwnedFd>,
    /// While a write waits.
    room: Option<AsyncFd<OwnedFd>>,
}

impl Stream {
    /// Of a connected socket; inside a Tokio runtime.
    ///
    /// # Errors
    /// The socket cannot be watched.
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        Ok(Self { stream: watch_for(stream.into(), Interest::READABLE)?, room: None })
    }

    fn write(
        &mut self,
        context: &mut Context<'_>,
        write: impl Fn(BorrowedFd<'_>) -> nix::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            match write(self.stream.get_ref().as_fd()) {
                Err(Errno::EAGAIN) => {}
                Err(Errno::EINTR) => continue,
                done => {
                    self.room = None;
                    return Poll::Ready(Ok(done?));
                }
            }
            let room = match &mut self.room {
                Some(room) => room,
                // One descriptor can be watched once, so this is another for the same socket.
                None => {
                    let fd = self.stream.get_ref().as_fd().try_clone_to_owned()?;
                    self.room.insert(watch_for(fd, Interest::WRITABLE)?)
                }
            };
            ready!(room.poll_write_ready(context))?.clear_ready();
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.stream.poll_read_ready(context))?;
            let unfilled = buffer.initialize_unfilled();
            let wanted = unfilled.len();
            match guard.try_io(|fd| Ok(nix::unistd::read(fd.get_ref(), unfilled)?)) {
                Ok(Ok(length)) => {
                    // Less than there was room for: nothing is left, and the next byte wakes us.
                    if length > 0 && length < wanted {
                        guard.clear_ready();
                    }
                    buffer.advance(length);
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().write(context, |fd| nix::unistd::write(fd, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().write(context, |fd| nix::sys::uio::writev(fd, parts))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(shutdown(self.stream.get_ref().as_raw_fd(), Shutdown::Write)?))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn pair() -> (Stream, Stream) {
        let (one, other) = UnixStream::pair().unwrap();
        (Stream::new(one).unwrap(), Stream::new(other).unwrap())
    }

    #[tokio::test]
    async fn more_than_fits_goes_through_both_ways() {
        let (mut one, mut other) = pair();
        let sent: Vec<u8> = (0..3_000_000_u32).map(|i| i.to_le_bytes()[i as usize % 2]).collect();
        let wanted = sent.clone();
        let echo = tokio::spawn(async move {
            let mut got = vec![0; wanted.len()];
            other.read_exact(&mut got).await.unwrap();
            assert!(got == wanted);
            other.write_all(&got).await.unwrap();
            assert!(other.room.is_none(), "nobody waits for room once all is written");
            other.shutdown().await.unwrap();
        });
        one.write_all(&sent).await.unwrap();
        let mut back = Vec::new();
        one.read_to_end(&mut back).await.unwrap();
        assert!(back == sent);
        echo.await.unwrap();
    }

    #[tokio::test]
    async fn a_byte_that_comes_later_wakes_the_reader() {
        let (mut one, mut other) = pair();
        let reader = tokio::spawn(async move {
            let mut buffer = [0; 64];
            let mut all = Vec::new();
            loop {
                match one.read(&mut buffer).await.unwrap() {
                    0 => return all,
                    length => all.extend_from_slice(&buffer[..length]),
                }
            }
        });
        for byte in 0..100_u8 {
            other.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        drop(other);
        assert_eq!(reader.await.unwrap(), (0..100).collect::<Vec<u8>>());
    }

    #[tokio::test]
    async fn a_peer_that_is_gone_is_an_error_of_the_write() {
        let (mut one, other) = pair();
        drop(other);
        assert_eq!(one.write_all(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
