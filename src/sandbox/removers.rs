//! Processes that remove sandboxes while the launcher goes on.
//!
//! Removing takes the kernel milliseconds, mostly of waiting. A process forked for each one would cost more than its work:
//! the launcher's memory is copied for it, and taken down again. So a few stay, and take what is left of a sandbox from
//! one socket: the pidfd of its init, a descriptor in its `/tmp`, the names of its groups. They have nothing else open;
//! what the launcher has of other sandboxes must not live on in them. When the launcher is gone, they finish what they
//! were given, and end.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};

use super::{Remains, cgroup, drop_tmp, tell, wait_for_end};
use crate::sys;

/// The most processes.
const MAX_REMOVERS: usize = 4;
/// Sandboxes on their way out at a time; beyond them the launcher removes by itself.
const MAX_ENDING: usize = 32;
/// The longest message, in bytes.
const MAX_MESSAGE: usize = 64 << 10;

/// What is to be removed, beside its descriptors.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    groups: Vec<PathBuf>,
}

/// The removing processes of one launcher, started as they are needed.
#[derive(Debug)]
pub struct Removers {
    ours: OwnedFd,
    /// What a new one gets.
    theirs: OwnedFd,
    pids: Vec<libc::pid_t>,
    /// Sandboxes that are being removed.
    ending: usize,
}

impl Removers {
    /// None yet.
    ///
    /// # Errors
    /// Where there can be no socket.
    pub fn new() -> io::Result<Self> {
        let (ours, theirs) = sys::socket::seqpacket_pair()?;
        Ok(Self { ours, theirs, pids: Vec::new(), ending: 0 })
    }

    /// Removes a sandbox, beside the caller where that can be. The caller must be single-threaded, and reap its init,
    /// whose pid comes back, unless that is done.
    pub fn remove(&mut self, remains: Remains) -> Option<libc::pid_t> {
        self.settle();
        if self.ending >= MAX_ENDING || !self.have_one() {
            remains.remove();
            return None;
        }
        let Remains { pid, pidfd, group, files, tmp } = remains;
        // A frozen group dies only once it is thawed on v1; on v2 SIGKILL goes through.
        let _ = files.freeze(false);
        drop(files);
        let order = Order { groups: group.leave() };
        let fds: Vec<_> = [Some(&pidfd), tmp.as_ref()].into_iter().flatten().collect();
        let fds: Vec<_> = fds.into_iter().map(AsFd::as_fd).collect();
        let sent = postcard::to_stdvec(&order)
            .map_err(io::Error::other)
            .and_then(|bytes| sys::socket::send_with_fds(self.ours.as_fd(), &bytes, &fds));
        drop(fds);
        match sent {
            Ok(()) => self.ending += 1,
            Err(_) => carry_out(&order, &pidfd, tmp),
        }
        Some(pid)
    }

    /// Whether there is one. Another is started where all have something to do.
    fn have_one(&mut self) -> bool {
        if self.ending >= self.pids.len() && self.pids.len() < MAX_REMOVERS {
            match sys::process::fork_single_threaded() {
                Ok(Some(pid)) => self.pids.push(pid),
                Ok(None) => {
                    let _ = sys::process::set_name(c"kennel-reaper");
                    let socket = self.theirs.as_fd().try_clone_to_owned();
                    if let Ok(socket) = socket.and_then(sys::process::keep_only) {
                        serve(&socket);
                    }
                    sys::process::exit_now(0)
                }
                Err(_) => {}
            }
        }
        !self.pids.is_empty()
    }

    /// Takes note of what has been removed.
    fn settle(&mut self) {
        let ready = |socket: &OwnedFd| {
            let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
            matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1))
        };
        while self.ending > 0 && ready(&self.ours) {
            match sys::socket::recv_with_fds(self.ours.as_fd(), &mut [0]) {
                Ok((1, _)) => self.ending -= 1,
                _ => break,
            }
        }
        // One that was killed has taken what it was doing with it: the next start sweeps that.
        let before = self.pids.len();
        self.pids.retain(|pid| !sys::process::reaped(*pid));
        self.ending = self.ending.saturating_sub(before - self.pids.len());
    }

    /// Waits until everything is removed, and the processes have ended.
    pub fn end(self) {
        let Self { ours, theirs, pids, .. } = self;
        drop((ours, theirs));
        for pid in pids {
            let _ = sys::process::wait4(pid);
        }
    }
}

/// What a remover does until the launcher is gone.
fn serve(socket: &OwnedFd) {
    let mut buffer = vec![0; MAX_MESSAGE];
    while let Ok((length @ 1.., fds)) = sys::socket::recv_with_fds(socket.as_fd(), &mut buffer) {
        let mut fds = fds.into_iter();
        if let (Ok(order), Some(pidfd)) = (postcard::from_bytes(&buffer[..length]), fds.next()) {
            carry_out(&order, &pidfd, fds.next());
        }
        // A launcher that is gone wants to know nothing; what else it has sent is done all the same.
        let _ = sys::socket::send_with_fds(socket.as_fd(), b"0", &[]);
    }
}

fn carry_out(order: &Order, pidfd: &OwnedFd, tmp: Option<OwnedFd>) {
    wait_for_end(pidfd.as_fd());
    drop_tmp(tmp);
    tell(cgroup::remove_folders(&order.groups));
}
