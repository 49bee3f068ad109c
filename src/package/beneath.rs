//! Opening a path that must not lead out of a directory, by the kernel's own promise.
//!
//! Source: openat2(2), Linux 5.6.

use std::os::fd::{BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

/// Tries before a path that the kernel cannot vouch for is given up.
const TRIES: usize = 64;

/// What becomes of symbolic links on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Links {
    /// `ELOOP`; with `O_PATH | O_NOFOLLOW` a link at the end is opened itself.
    Refuse,
    /// Followed where they lead within the directory, `EXDEV` where not.
    StayBeneath,
}

/// Opens `path` below `root`; the empty path is `root` itself.
pub(super) fn open(
    root: BorrowedFd<'_>,
    path: &str,
    flags: OFlag,
    links: Links,
) -> nix::Result<OwnedFd> {
    let resolve = match links {
        Links::Refuse => ResolveFlag::RESOLVE_NO_SYMLINKS,
        Links::StayBeneath => ResolveFlag::RESOLVE_NO_MAGICLINKS,
    };
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(resolve | ResolveFlag::RESOLVE_BENEATH);
    let path = if path.is_empty() { "." } else { path };
    let mut tries = TRIES;
    loop {
        match openat2(root, path, how) {
            // Somebody renamed something anywhere while the kernel followed a `..`.
            Err(Errno::EAGAIN | Errno::EINTR) if tries > 1 => tries -= 1,
            result => return result,
        }
    }
}

/// Opens a directory below `root`.
pub(super) fn open_directory(root: BorrowedFd<'_>, path: &str) -> nix::Result<OwnedFd> {
    open(root, path, OFlag::O_RDONLY | OFlag::O_DIRECTORY, Links::Refuse)
}
