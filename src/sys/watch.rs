//! Descriptors for tokio's reactor.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Has the current tokio runtime watch `fd`, and makes it non-blocking.
///
/// # Errors
/// fcntl(2)'s or epoll_ctl(2)'s; `EPERM` for a regular file.
pub fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    watch_for(fd, Interest::READABLE | Interest::WRITABLE)
}

/// As [`watch`], for nothing but `interest`.
///
/// # Errors
/// As [`watch`].
pub fn watch_for(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
    // SAFETY: an `OwnedFd` names the same open descriptor for all its life, and `AsyncFd` owns it: it is closed
    // only after it was taken out of the reactor.
    unsafe { AsyncFd::register_with_interest(fd, interest) }.map_err(|error| error.into_parts().1)
}
