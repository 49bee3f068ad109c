//! Processes that make the filesystems for `/tmp` of a server's sandboxes.
//!
//! That is work of a millisecond, and at times of ten: taking a file on, the loop driver waits for the host's disk. The
//! launcher has claims to serve meanwhile. So two processes stay for it, started as they are needed, and take their orders
//! from one socket. They send what they made straight to the first process of the sandbox that waits for it. They have
//! nothing else open, and end with the launcher.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{SCRATCH_FOLDER, scratch};
use crate::sys;

/// The most processes.
const MAX_MAKERS: usize = 2;
/// The longest order, in bytes.
const MAX_ORDER: usize = 32;

/// What is to be made; with it comes the launcher's end of the sandbox's reports.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    mib: u32,
    owner: u32,
}

/// The making processes of one launcher.
#[derive(Debug)]
pub struct Makers {
    ours: OwnedFd,
    /// What a new one gets.
    theirs: OwnedFd,
    pids: Vec<libc::pid_t>,
}

impl Makers {
    /// None yet.
    ///
    /// # Errors
    /// Where there can be no socket.
    pub fn new() -> io::Result<Self> {
        let (ours, theirs) = sys::socket::seqpacket_pair()?;
        Ok(Self { ours, theirs, pids: Vec::new() })
    }

    /// Has one made for the sandbox that is at the other end of `report`. The caller must be single-threaded.
    ///
    /// # Errors
    /// Where nobody can be told.
    pub(super) fn order(&mut self, mib: u32, owner: u32, report: BorrowedFd<'_>) -> io::Result<()> {
        self.have_one()?;
        let order = postcard::to_stdvec(&Order { mib, owner }).map_err(io::Error::other)?;
        sys::socket::send_with_fds(self.ours.as_fd(), &order, &[report])
    }

    fn have_one(&mut self) -> io::Result<()> {
        self.pids.retain(|pid| !sys::process::reaped(*pid));
        if self.pids.len() >= MAX_MAKERS {
            return Ok(());
        }
        match sys::process::fork_single_threaded() {
            Ok(Some(pid)) => self.pids.push(pid),
            Ok(None) => {
                let _ = sys::process::set_name(c"kennel-scratch");
                let socket = self.theirs.as_fd().try_clone_to_owned();
                if let Ok(socket) = socket.and_then(sys::process::keep_only) {
                    serve(&socket);
                }
                sys::process::exit_now(0)
            }
            Err(error) if self.pids.is_empty() => return Err(error),
            Err(_) => {}
        }
        Ok(())
    }

    /// Waits until the processes have ended.
    pub fn end(self) {
        let Self { ours, theirs, pids } = self;
        drop((ours, theirs));
        for pid in pids {
            let _ = sys::process::wait4(pid);
        }
    }
}

/// What a maker does until the launcher is gone.
fn serve(socket: &OwnedFd) {
    let mut buffer = [0; MAX_ORDER];
    while let Ok((length @ 1.., fds)) = sys::socket::recv_with_fds(socket.as_fd(), &mut buffer) {
        let order = postcard::from_bytes(&buffer[..length]);
        if let (Ok(Order { mib, owner }), Some(report)) = (order, fds.into_iter().next()) {
            // A sandbox that is gone wants nothing any more.
            let _ = send(report.as_fd(), scratch::make(Path::new(SCRATCH_FOLDER), mib, owner));
        }
    }
}

/// Sends the first process of a sandbox its `/tmp`, or the errno that there is instead.
pub(super) fn send(report: BorrowedFd<'_>, made: io::Result<OwnedFd>) -> io::Result<()> {
    let errno = made.as_ref().err().map_or(0, |error| error.raw_os_error().unwrap_or(libc::EIO));
    let fds: Vec<_> = made.iter().map(AsFd::as_fd).collect();
    sys::socket::send_with_fds(report, &errno.to_ne_bytes(), &fds)
}

/// What [`send`] sent.
///
/// # Errors
/// What kept it from being made; `EPIPE` where nobody makes it.
pub(super) fn receive(report: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut errno = [0; 4];
    let (length, fds) = sys::socket::recv_with_fds(report, &mut errno)?;
    match (length, i32::from_ne_bytes(errno), fds.into_iter().next()) {
        (4, 0, Some(mount)) => Ok(mount),
        (4, errno, None) if errno != 0 => Err(io::Error::from_raw_os_error(errno)),
        _ => Err(io::Error::from_raw_os_error(libc::EPIPE)),
    }
}
