//! The async side of the privilege door: asks the launcher process for sandboxes and receives descriptors.
//!
//! The launcher is forked before any other thread or socket exists. After that the server gives up every privilege
//! (`confine`), since it parses what nobody trusts: zips, HTTP, runtime answers.

#![forbid(unsafe_code)]

pub mod confine;
mod door;
mod images;
pub mod protocol;

use std::collections::HashMap;
use std::io;
use std::num::NonZero;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;

pub use door::{RUNTIME_DIR, RuntimeFiles, Table};
use protocol::{Claim, Imaged, Launch, MAX_IMAGED, MAX_MESSAGE, Reply, Request};

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

/// The server's end of the door. Launches are several at a time, one a core; claims and releases pass them by.
#[derive(Debug)]
pub struct Launcher {
    door: Arc<Door>,
    reader: JoinHandle<()>,
    launches: Semaphore,
    next_id: AtomicU32,
}

#[derive(Debug)]
struct Door {
    socket: AsyncFd<OwnedFd>,
    /// Who waits for a reply; none once the launcher is gone.
    waiting: Mutex<Option<HashMap<Asked, oneshot::Sender<Answer>>>>,
}

type Answer = (Reply, Vec<OwnedFd>);

/// A sandbox, or an image, has one request at a time, but for its release, which comes whatever was asked before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Asked {
    id: u32,
    release: bool,
}

fn asked(id: u32) -> Asked {
    Asked { id, release: false }
}

impl Launcher {
    /// # Errors
    /// Where the socket cannot be polled.
    pub fn new(forked: Forked) -> Result<Self, LauncherError> {
        let socket =
            sys::watch::watch(forked.socket).map_err(|source| LauncherError::Start { source })?;
        let door = Arc::new(Door { socket, waiting: Mutex::new(Some(HashMap::new())) });
        let reader = tokio::spawn(read_replies(door.clone()));
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let launches = Semaphore::new(cores.max(2));
        Ok(Self { door, reader, launches, next_id: AtomicU32::new(1) })
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
        let asked = asked(wanted.id);
        let _turn = self.launches.acquire().await.map_err(|_| LauncherError::Gone)?;
        let (reply, fds) = self.ask(asked, &Request::Launch(wanted)).await?;
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
            _ => Err(LauncherError::Gone),
        }
    }

    /// Gives a sandbox that was made ahead its code, its memory, and what it runs where that waited; returns when it
    /// does: the program, and why it did not exec.
    ///
    /// # Errors
    /// As [`Self::launch`].
    pub async fn claim(&self, wanted: Claim) -> Result<Option<(String, i32)>, LauncherError> {
        let asked = asked(wanted.id);
        match self.ask(asked, &Request::Claim(wanted)).await?.0 {
            Reply::Claimed { exec_failed, .. } => Ok(exec_failed),
            Reply::Refused { chain, hint, .. } => Err(LauncherError::Refused { chain, hint }),
            _ => Err(LauncherError::Gone),
        }
    }

    /// Has the image of a sandbox's program taken, and waits for that; how long it is. See [`Request::Image`].
    ///
    /// # Errors
    /// As [`Self::launch`]; the reason why there is none.
    pub async fn image(&self, id: u32, image: u32) -> Result<u64, LauncherError> {
        let told = match self.ask(asked(id), &Request::Image { id, image }).await? {
            (Reply::Imaging { .. }, fds) => fds.into_iter().next().ok_or(LauncherError::Gone)?,
            (Reply::Refused { chain, hint, .. }, _) => {
                return Err(LauncherError::Refused { chain, hint });
            }
            _ => return Err(LauncherError::Gone),
        };
        let refused = |text: String| LauncherError::Refused { chain: vec![text], hint: None };
        let told = sys::watch::watch(told).map_err(|error| refused(error.to_string()))?;
        let mut buffer = [0; MAX_IMAGED];
        let read =
            told.async_io(Interest::READABLE, |pipe| Ok(nix::unistd::read(pipe, &mut buffer)?));
        let length = read.await.map_err(|error| refused(error.to_string()))?;
        match postcard::from_bytes::<Imaged>(&buffer[..length]) {
            Ok(imaged) => imaged.map_err(refused),
            Err(_) => Err(refused("whoever takes the image was killed".into())),
        }
    }

    /// Drops an image.
    ///
    /// # Errors
    /// [`LauncherError::Gone`].
    pub async fn forget(&self, image: u32) -> Result<(), LauncherError> {
        match self.ask(asked(image), &Request::Forget { image }).await?.0 {
            Reply::Forgotten { .. } => Ok(()),
            _ => Err(LauncherError::Gone),
        }
    }

    /// Kills and removes a sandbox; what it used in all its life.
    ///
    /// # Errors
    /// [`LauncherError::Gone`].
    pub async fn release(&self, id: u32) -> Result<Usage, LauncherError> {
        let asked = Asked { id, release: true };
        match self.ask(asked, &Request::Release { id }).await?.0 {
            Reply::Released { memory_peak_bytes, cpu_time, oom_kills, pids_peak, .. } => {
                Ok(Usage { memory_peak_bytes, cpu_time, oom_kills, pids_peak })
            }
            _ => Err(LauncherError::Gone),
        }
    }

    /// Has everything removed and the launcher end; its parent sees the end of the process.
    pub async fn shutdown(&self) {
        let Ok(bytes) = postcard::to_stdvec(&Request::Shutdown) else { return };
        let _ = self.door.send(&bytes).await; // gone already: so much the better
    }

    async fn ask(&self, asked: Asked, request: &Request) -> Result<Answer, LauncherError> {
        let bytes = postcard::to_stdvec(request).map_err(|_| LauncherError::Gone)?;
        if bytes.len() > MAX_MESSAGE {
            let text = format!("a request of {} bytes is over {MAX_MESSAGE}", bytes.len());
            return Err(LauncherError::Refused { chain: vec![text], hint: None });
        }
        let (sender, answer) = oneshot::channel();
        self.door.waiting().as_mut().ok_or(LauncherError::Gone)?.insert(asked, sender);
        self.door.send(&bytes).await.map_err(|_| LauncherError::Gone)?;
        answer.await.map_err(|_| LauncherError::Gone)
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        // The launcher's sign to end is that nobody has this socket any more.
        self.reader.abort();
    }
}

impl Door {
    fn waiting(&self) -> MutexGuard<'_, Option<HashMap<Asked, oneshot::Sender<Answer>>>> {
        // No code here panics while it holds the lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let send = |s: &OwnedFd| sys::socket::send_with_fds(s.as_fd(), bytes, &[]);
        self.socket.async_io(Interest::WRITABLE, send).await
    }

    /// A reply reaches who asked. Whoever went away leaves nothing behind: their sandbox is released.
    async fn hand_over(&self, (reply, fds): Answer) -> io::Result<()> {
        let (id, release) = match &reply {
            Reply::Released { id, .. } => (*id, true),
            Reply::Launched { id, .. }
            | Reply::Claimed { id, .. }
            | Reply::Imaging { id }
            | Reply::Forgotten { image: id }
            | Reply::Refused { id, .. } => (*id, false),
        };
        let asker = self.waiting().as_mut().and_then(|all| all.remove(&Asked { id, release }));
        let unheard = match asker {
            Some(asker) => asker.send((reply, fds)).err().map(|(reply, _)| reply),
            None => Some(reply),
        };
        match unheard {
            Some(Reply::Launched { id, .. }) => {
                let release = postcard::to_stdvec(&Request::Release { id });
                self.send(&release.map_err(io::Error::other)?).await
            }
            _ => Ok(()),
        }
    }
}

/// Until the launcher is gone, or says what cannot be read.
async fn read_replies(door: Arc<Door>) {
    let mut buffer = vec![0; MAX_MESSAGE];
    loop {
        let receive = |s: &OwnedFd| sys::socket::recv_with_fds(s.as_fd(), &mut buffer);
        let Ok((length, fds)) = door.socket.async_io(Interest::READABLE, receive).await else {
            break;
        };
        let Ok(reply) = postcard::from_bytes(&buffer[..length]) else { break };
        if door.hand_over((reply, fds)).await.is_err() {
            break;
        }
    }
    *door.waiting() = None;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The server's end, and the launcher's in a test's hands.
    fn door() -> (Arc<Launcher>, AsyncFd<OwnedFd>) {
        let (ours, theirs) = sys::socket::seqpacket_pair().unwrap();
        let launcher = Launcher::new(Forked { pid: 0, socket: ours }).unwrap();
        (Arc::new(launcher), sys::watch::watch(theirs).unwrap())
    }

    async fn request(launcher: &AsyncFd<OwnedFd>) -> Request {
        let mut buffer = vec![0; MAX_MESSAGE];
        let receive = |s: &OwnedFd| sys::socket::recv_with_fds(s.as_fd(), &mut buffer);
        let (length, _) = launcher.async_io(Interest::READABLE, receive).await.unwrap();
        postcard::from_bytes(&buffer[..length]).unwrap()
    }

    fn reply(launcher: &AsyncFd<OwnedFd>, reply: &Reply) {
        let bytes = postcard::to_stdvec(reply).unwrap();
        sys::socket::send_with_fds(launcher.get_ref().as_fd(), &bytes, &[]).unwrap();
    }

    fn launched(id: u32) -> Reply {
        let present = ControlFiles::default().as_fds().0;
        Reply::Launched { id, present, exec_failed: None, degraded: Vec::new() }
    }

    fn claim(id: u32) -> Claim {
        let code = protocol::Tree::Operator(0);
        Claim { id, code, layers: Vec::new(), memory_mib: 128, start: None, image: None }
    }

    fn launch(id: u32) -> Launch {
        Launch {
            id,
            runtime: 0,
            code: None,
            layers: Vec::new(),
            held: true,
            argv_any: Vec::new(),
            env: Vec::new(),
            memory_mib: 128,
            milli_cpu: 1000,
            pids: 16,
            tmp_mib: 16,
            rpc: false,
            host_network: false,
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn replies_find_who_asked_in_whatever_order_they_come() {
        let (server, launcher) = door();
        let [first, second] = [1, 2].map(|id| {
            let server = server.clone();
            tokio::spawn(async move { server.claim(claim(id)).await })
        });
        for _ in [1, 2] {
            assert!(matches!(request(&launcher).await, Request::Claim(_)));
        }
        let why = vec!["no".to_owned()];
        reply(&launcher, &Reply::Refused { id: 2, chain: why.clone(), hint: None });
        let refused = second.await.unwrap();
        assert!(matches!(refused, Err(LauncherError::Refused { chain, .. }) if chain == why));
        reply(&launcher, &Reply::Claimed { id: 1, exec_failed: None });
        assert!(matches!(first.await.unwrap(), Ok(None)));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_was_launched_for_nobody_is_released() {
        let (server, launcher) = door();
        let (asks, asker) = (server.clone(), launch(7));
        let gone = tokio::spawn(async move { asks.launch(asker).await.map(|handle| handle.id) });
        assert!(matches!(request(&launcher).await, Request::Launch(l) if l.id == 7));
        gone.abort();
        assert!(gone.await.is_err_and(|e| e.is_cancelled()));
        reply(&launcher, &launched(7));
        assert!(matches!(request(&launcher).await, Request::Release { id: 7 }));
    }

    /// Launches wait for one another beyond a few; nothing else waits for them.
    #[tokio::test(flavor = "current_thread")]
    async fn a_claim_passes_launches_by() {
        let (server, launcher) = door();
        let most = u32::try_from(server.launches.available_permits()).unwrap();
        let launches: Vec<_> = (0..most + 3)
            .map(|id| {
                let server = server.clone();
                tokio::spawn(async move { server.launch(launch(id)).await.map(|handle| handle.id) })
            })
            .collect();
        for _ in 0..most {
            assert!(matches!(request(&launcher).await, Request::Launch(_)));
        }
        let claims = server.clone();
        let claiming = tokio::spawn(async move { claims.claim(claim(99)).await });
        assert!(matches!(request(&launcher).await, Request::Claim(c) if c.id == 99));
        reply(&launcher, &Reply::Claimed { id: 99, exec_failed: None });
        assert!(matches!(claiming.await.unwrap(), Ok(None)));
        // The launcher's end: nobody waits for ever.
        drop(launcher);
        for launch in launches {
            assert!(matches!(launch.await.unwrap(), Err(LauncherError::Gone)));
        }
    }
}
