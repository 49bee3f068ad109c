//! The async side of the privilege door: asks the launcher process for sandboxes and receives descriptors.
//!
//! The launcher is forked before any other thread or socket exists. After that the server gives up every privilege
//! (`confine`), since it parses what nobody trusts: zips, HTTP, runtime answers.

#![forbid(unsafe_code)]

pub mod confine;
mod door;
pub mod protocol;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::unix::AsyncFd;
use tokio::sync::Mutex;

pub use door::{RUNTIME_DIR, RuntimeFiles, Table};
use protocol::{Claim, Launch, MAX_MESSAGE, Reply, Request};

use crate::sandbox::{ControlFiles, Usage};
use crate::sys;

#[derive(Debug, thiserror::Error)]
pub enum LauncherError {
    #[error("cannot start the launcher process")]
    Start { source: io::Error },
    #[error("the launcher process is gone")]
    Gone,
    /// The launcher's own words; the first is what failed, the rest why.
    #[error("{}", chain.first().map_or("the launcher refused", String::as_str))]
    Refused { chain: Vec<String>, hint: Option<String> },
}

/// The launcher process before the server's async runtime starts.
#[derive(Debug)]
pub struct Forked {
    pub pid: libc::pid_t,
    socket: OwnedFd,
}

/// Forks the launcher. It serves `table` until the other end of its socket closes, then runs `at_end` and exits.
///
/// # Errors
/// Where the process cannot be made, or this one has more than one thread.
pub fn fork(table: &Table, at_end: impl FnOnce()) -> Result<Forked, LauncherError> {
    let start = |source| LauncherError::Start { source };
    let (ours, theirs) = sys::socket::seqpacket_pair().map_err(start)?;
    match sys::process::fork_single_threaded().map_err(start)? {
        Some(pid) => Ok(Forked { pid, socket: ours }),
        None => {
            drop(ours);
            // Signals of the terminal are for the server, which tells this process by closing the socket.
            sys::process::ignore_terminal_signals();
            // A sandbox's init copies this process's memory: the operator's secrets must not be in it.
            sys::process::scrub_environment_single_threaded();
            door::serve(&theirs, table);
            at_end();
            sys::process::exit_now(0)
        }
    }
}

/// A sandbox, seen from the server.
#[derive(Debug)]
pub struct Handle {
    pub id: u32,
    pub pidfd: OwnedFd,
    pub status: OwnedFd,
    pub log: Option<OwnedFd>,
    pub unix: Option<OwnedFd>,
    pub tcp: Option<OwnedFd>,
    pub rpc: Option<OwnedFd>,
    pub files: ControlFiles,
    /// The program, and why it did not exec.
    pub exec_failed: Option<(String, i32)>,
    pub degraded: Vec<String>,
}

/// The server's end of the door. One request at a time.
#[derive(Debug)]
pub struct Launcher {
    socket: Mutex<AsyncFd<OwnedFd>>,
    next_id: AtomicU32,
}

impl Launcher {
    /// # Errors
    /// Where the socket cannot be polled.
    pub fn new(forked: Forked) -> Result<Self, LauncherError> {
        let socket =
            sys::watch::watch(forked.socket).map_err(|source| LauncherError::Start { source })?;
        Ok(Self { socket: Mutex::new(socket), next_id: AtomicU32::new(1) })
    }

    pub fn new_id(&self) -> u32 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Has a sandbox made; returns when its program runs.
    ///
    /// # Errors
    /// [`LauncherError::Refused`] with the launcher's reasons; [`LauncherError::Gone`].
    pub async fn launch(&self, wanted: Launch) -> Result<Handle, LauncherError> {
        let rpc = wanted.rpc;
        let (reply, fds) = self.ask(&Request::Launch(wanted)).await?;
        match reply {
            Reply::Launched { id, present, exec_failed, degraded } => {
                let mut fds = fds.into_iter();
                let (Some(pidfd), Some(status)) = (fds.next(), fds.next()) else {
                    return Err(LauncherError::Gone);
                };
                let (log, unix, tcp) = (fds.next(), fds.next(), fds.next());
                let rpc = if rpc { fds.next() } else { None };
                let files = ControlFiles::from_fds(present, &mut fds);
                Ok(Handle { id, pidfd, status, log, unix, tcp, rpc, files, exec_failed, degraded })
            }
            Reply::Refused { chain, hint, .. } => Err(LauncherError::Refused { chain, hint }),
            Reply::Released { .. } | Reply::Claimed { .. } => Err(LauncherError::Gone),
        }
    }

    /// Gives a sandbox that was made ahead its code, its memory, and what it runs where that waited; returns when it
    /// does: the program, and why it did not exec.
    ///
    /// # Errors
    /// As [`Self::launch`].
    pub async fn claim(&self, wanted: Claim) -> Result<Option<(String, i32)>, LauncherError> {
        match self.ask(&Request::Claim(wanted)).await?.0 {
            Reply::Claimed { exec_failed, .. } => Ok(exec_failed),
            Reply::Refused { chain, hint, .. } => Err(LauncherError::Refused { chain, hint }),
            _ => Err(LauncherError::Gone),
        }
    }

    /// Kills and removes a sandbox; what it used in all its life.
    ///
    /// # Errors
    /// [`LauncherError::Gone`].
    pub async fn release(&self, id: u32) -> Result<Usage, LauncherError> {
        match self.ask(&Request::Release { id }).await?.0 {
            Reply::Released { memory_peak_bytes, cpu_time, oom_kills, pids_peak, .. } => {
                Ok(Usage { memory_peak_bytes, cpu_time, oom_kills, pids_peak })
            }
            _ => Err(LauncherError::Gone),
        }
    }

    /// Has everything removed and the launcher end; its parent sees the end of the process.
    pub async fn shutdown(&self) {
        let Ok(bytes) = postcard::to_stdvec(&Request::Shutdown) else { return };
        let socket = self.socket.lock().await;
        let sent = socket.async_io(tokio::io::Interest::WRITABLE, |s| {
            sys::socket::send_with_fds(s.as_fd(), &bytes, &[])
        });
        let _ = sent.await; // gone already: so much the better
    }

    async fn ask(&self, request: &Request) -> Result<(Reply, Vec<OwnedFd>), LauncherError> {
        let bytes = postcard::to_stdvec(request).map_err(|_| LauncherError::Gone)?;
        if bytes.len() > MAX_MESSAGE {
            let text = format!("a request of {} bytes is over {MAX_MESSAGE}", bytes.len());
            return Err(LauncherError::Refused { chain: vec![text], hint: None });
        }
        let gone = |_| LauncherError::Gone;
        let socket = self.socket.lock().await;
        socket
            .async_io(tokio::io::Interest::WRITABLE, |s| {
                sys::socket::send_with_fds(s.as_fd(), &bytes, &[])
            })
            .await
            .map_err(gone)?;
        let mut buffer = vec![0; MAX_MESSAGE];
        let (length, fds) = socket
            .async_io(tokio::io::Interest::READABLE, |s| {
                sys::socket::recv_with_fds(s.as_fd(), &mut buffer)
            })
            .await
            .map_err(gone)?;
        let reply = postcard::from_bytes(&buffer[..length]).map_err(|_| LauncherError::Gone)?;
        Ok((reply, fds))
    }
}
