//! The launcher process: root's side of the door. One thread; reads typed, bounded messages and nothing else; derives
//! every path from ids.

use std::collections::HashMap;
use std::error::Error;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::images::{ImageError, Images};
use super::protocol::{Claim, Launch, MAX_MESSAGE, Reply, Request, Tree, names};
use crate::sandbox::{
    self, CODE, Degradable, Doors, LAYERS, Layout, Limits, Makers, MemoryMib, MilliCpu, Mount,
    Network, Removers, Sandbox, SandboxSpec, Source, Starting, Stdio, Step, Told,
};
use crate::sys;

/// Where a language's bootstrap is inside.
pub const RUNTIME_DIR: &str = "/var/runtime";

/// What the launcher was told before the server gave up its privileges.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// Host files of each runtime: bootstrap folder, and what the interpreter needs.
    pub runtimes: Vec<RuntimeFiles>,
    /// Folders that the operator named.
    pub operator_trees: Vec<PathBuf>,
    /// The folder with `sha256/HEX`; its path holds no symbolic link.
    pub tree_store: PathBuf,
    pub allow_degraded: Vec<Degradable>,
    /// Whether the operator asked for the host's network.
    pub host_network: bool,
    /// Whether many sandboxes will be made, and none on the host's network: what makes each cheaper pays then.
    pub many: bool,
    /// Where control groups go; found and made ready before the fork, since afterwards two processes sit in the group
    /// that Kennel was started in.
    pub layout: Layout,
    /// What images may take; 0: none is made.
    pub image_bytes: u64,
}

/// Host paths that one runtime has bound read-only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuntimeFiles {
    pub runtime_dir: PathBuf,
    pub binds: Vec<PathBuf>,
}

/// How often processes on their way out are looked after.
const REAP_EVERY: Duration = Duration::from_millis(20);

/// Most sandboxes of one launcher at a time.
const MAX_SANDBOXES: usize = 4096;

#[derive(Debug, thiserror::Error)]
enum RequestError {
    #[error("no sandbox `{id}`")]
    NoSandbox { id: u32 },
    #[error("sandbox `{id}` exists already")]
    IdInUse { id: u32 },
    #[error("{MAX_SANDBOXES} sandboxes are alive, the most there may be")]
    TooMany,
    #[error("no runtime `{index}` in the launcher's table")]
    Runtime { index: u32 },
    #[error("no code tree `{tree:?}`")]
    Tree { tree: Tree },
    #[error("a held program can only be made ahead of its code")]
    Held,
    #[error("the host's network was not asked for when the launcher was started")]
    HostNetwork,
    #[error(transparent)]
    Spec(#[from] sandbox::SpecError),
    #[error(transparent)]
    Launch(#[from] sandbox::LaunchError),
    #[error(transparent)]
    Image(#[from] ImageError),
}

/// Serves requests until the server is gone; then nothing of any sandbox is left.
pub fn serve(socket: &OwnedFd, table: &Table) {
    let _ = sys::process::set_name(c"kennel-launcher");
    if table.many && !table.host_network {
        // It needs no network. Where it keeps the host's, sandboxes are made all the same.
        let _ = sandbox::leave_network();
    }
    let Ok(removers) = Removers::new() else { return };
    let makers = if table.many { Makers::new().ok() } else { None };
    let mut door = Door {
        socket,
        table,
        sandboxes: HashMap::new(),
        starting: Vec::new(),
        told: Vec::new(),
        images: Images::new(table.image_bytes),
        removers,
        makers,
        ending: Vec::new(),
        reaped: Instant::now(),
    };
    let mut buffer = vec![0; MAX_MESSAGE];
    while door.step(&mut buffer).is_ok() {}
    door.end();
}

/// The server is gone, or broken.
struct Closed;

/// What waits for a process inside does so here, beside the others: one thread makes several sandboxes at a time, and a
/// claim does not wait until they are made.
struct Door<'a> {
    socket: &'a OwnedFd,
    table: &'a Table,
    sandboxes: HashMap<u32, Sandbox>,
    /// Launches whose first process has not come to its end yet.
    starting: Vec<(u32, Starting)>,
    /// Claims whose program is on its way to exec.
    told: Vec<(u32, Told)>,
    images: Images,
    removers: Removers,
    /// Where many sandboxes are made.
    makers: Option<Makers>,
    /// Processes on their way out: inits, and who took an image.
    ending: Vec<libc::pid_t>,
    /// When those that had ended were last looked for.
    reaped: Instant,
}

impl Door<'_> {
    /// Waits for what comes next, and answers it.
    fn step(&mut self, buffer: &mut [u8]) -> Result<(), Closed> {
        let Ready { request, starting, told } = self.wait();
        // From the back, since what is over leaves its list.
        for at in told.into_iter().rev() {
            self.advance_claim(at)?;
        }
        for at in starting.into_iter().rev() {
            self.advance_launch(at)?;
        }
        if self.reaped.elapsed() >= REAP_EVERY {
            self.reap();
        }
        if !request {
            return Ok(());
        }
        let length = match sys::socket::recv_with_fds(self.socket.as_fd(), buffer) {
            Ok((0, _)) | Err(_) => return Err(Closed),
            Ok((length, _)) => length,
        };
        // A message that cannot be read is a broken or hostile server: nothing more is done for it.
        match postcard::from_bytes::<Request>(&buffer[..length]).map_err(|_| Closed)? {
            Request::Launch(wanted) => self.launch(&wanted),
            Request::Claim(wanted) => self.claim(&wanted),
            Request::Image { id, image } => self.image(id, image),
            Request::Forget { image } => {
                self.images.forget(image);
                send(self.socket, &Reply::Forgotten { image })
            }
            Request::Release { id } => self.release(id),
            Request::Shutdown => Err(Closed),
        }
    }

    fn reap(&mut self) {
        self.ending.retain(|pid| !sys::process::reaped(*pid));
        self.reaped = Instant::now();
    }

    fn wait(&self) -> Ready {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let wanted = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds = vec![wanted(self.socket.as_fd())];
        fds.extend(self.starting.iter().map(|(_, starting)| wanted(starting.as_fd())));
        fds.extend(self.told.iter().map(|(_, told)| wanted(told.as_fd())));
        let now = Instant::now();
        let due = self.told.iter().map(|(_, told)| told.until);
        let due = due.chain(self.starting.iter().map(|(_, starting)| starting.until));
        let due = due.map(|until| until.saturating_duration_since(now));
        let reap = (!self.ending.is_empty()).then_some(REAP_EVERY);
        let limit = due.chain(reap).min().map_or(PollTimeout::NONE, |limit| {
            // Never a moment too early.
            let limit = limit.saturating_add(Duration::from_millis(1));
            PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX)
        });
        let _ = poll(&mut fds, limit);
        let is_ready = |fd: &PollFd<'_>| fd.any().unwrap_or(false);
        let (starting, told) = fds[1..].split_at(self.starting.len());
        let late = Instant::now();
        Ready {
            request: is_ready(&fds[0]),
            starting: (0..starting.len())
                .filter(|at| is_ready(&starting[*at]) || self.starting[*at].1.until <= late)
                .collect(),
            told: (0..told.len())
                .filter(|at| is_ready(&told[*at]) || self.told[*at].1.until <= late)
                .collect(),
        }
    }

    fn launch(&mut self, wanted: &Launch) -> Result<(), Closed> {
        let id = wanted.id;
        let mut begun = || -> Result<Starting, RequestError> {
            let all = self.sandboxes.len() + self.starting.len();
            if self.sandboxes.contains_key(&id) || self.starting.iter().any(|(i, _)| *i == id) {
                return Err(RequestError::IdInUse { id });
            }
            if all >= MAX_SANDBOXES {
                return Err(RequestError::TooMany);
            }
            let spec = spec_of(wanted, self.table)?;
            Ok(sandbox::begin(&spec, &self.table.layout, id, self.makers.as_mut())?)
        };
        match begun() {
            Ok(starting) => {
                self.starting.push((id, starting));
                Ok(())
            }
            Err(error) => self.refuse(id, &error),
        }
    }

    fn advance_launch(&mut self, at: usize) -> Result<(), Closed> {
        let (id, starting) = self.starting.swap_remove(at);
        let step = match starting.until <= Instant::now() {
            true => Err(starting.give_up()),
            false => starting.advance(),
        };
        match step {
            Ok(Step::Pending(starting)) => self.starting.push((id, starting)),
            Ok(Step::Done(mut live)) => {
                live.open_all_files();
                send_launched(self.socket, id, &live)?;
                // The server's copies are the only ones that count from here.
                live.log = None;
                live.listeners = sandbox::Listeners::default();
                self.sandboxes.insert(id, *live);
            }
            Err(error) => self.refuse(id, &error)?,
        }
        Ok(())
    }

    fn claim(&mut self, wanted: &Claim) -> Result<(), Closed> {
        let id = wanted.id;
        let mut claim = || -> Result<Option<Told>, RequestError> {
            let memory = MemoryMib::new(wanted.memory_mib)?;
            let mounts = trees(&wanted.code, &wanted.layers, self.table)?;
            let sandbox = self.sandboxes.get_mut(&id).ok_or(RequestError::NoSandbox { id })?;
            let image = wanted.image.map(|image| self.images.get(image)).transpose()?;
            Ok(sandbox.claim(&mounts, memory, wanted.start.as_ref().map(|start| (start, image)))?)
        };
        match claim() {
            Ok(Some(told)) => {
                self.told.push((id, told));
                Ok(())
            }
            Ok(None) => send(self.socket, &Reply::Claimed { id, exec_failed: None }),
            Err(error) => self.refuse(id, &error),
        }
    }

    fn advance_claim(&mut self, at: usize) -> Result<(), Closed> {
        let (id, told) = &mut self.told[at];
        let id = *id;
        let outcome = match told.until <= Instant::now() {
            true => Err(Told::too_late()),
            false => told.advance(),
        };
        if let Ok(None) = outcome {
            return Ok(());
        }
        self.told.swap_remove(at);
        match outcome {
            Ok(failed) => {
                let exec_failed = failed.flatten().map(|e| (e.program, e.errno));
                send(self.socket, &Reply::Claimed { id, exec_failed })
            }
            Err(error) => self.refuse(id, &error),
        }
    }

    fn image(&mut self, id: u32, image: u32) -> Result<(), Closed> {
        let sandbox = self.sandboxes.get_mut(&id).ok_or(RequestError::NoSandbox { id });
        match sandbox.and_then(|sandbox| Ok(self.images.begin(image, sandbox)?)) {
            Ok((told, imager)) => {
                self.ending.push(imager);
                send_all(self.socket, &Reply::Imaging { id }, &[told.as_fd()])
            }
            Err(error) => self.refuse(id, &error),
        }
    }

    fn release(&mut self, id: u32) -> Result<(), Closed> {
        let live = self.sandboxes.remove(&id).ok_or(Closed)?;
        if let Some(at) = self.told.iter().position(|(told, _)| *told == id) {
            self.told.swap_remove(at);
            self.refuse(id, &RequestError::NoSandbox { id })?;
        }
        let (usage, remains) = live.finish(true);
        // The answer goes out first, and the next request is not held up: removing takes milliseconds.
        let reply = Reply::Released {
            id,
            memory_peak_bytes: usage.memory_peak_bytes,
            cpu_time: usage.cpu_time,
            oom_kills: usage.oom_kills,
            pids_peak: usage.pids_peak,
        };
        let sent = send(self.socket, &reply);
        self.ending.extend(self.removers.remove(remains));
        sent
    }

    fn refuse(&self, id: u32, error: &dyn Error) -> Result<(), Closed> {
        let (chain, hint) = chain_of(error);
        send(self.socket, &Reply::Refused { id, chain, hint })
    }

    fn end(mut self) {
        for live in self.sandboxes.values() {
            live.kill();
        }
        for (_, starting) in self.starting {
            starting.destroy();
        }
        for pid in self.ending {
            let _ = sys::process::wait4(pid);
        }
        self.removers.end();
        if let Some(makers) = self.makers {
            makers.end();
        }
        for (_, live) in self.sandboxes.drain() {
            live.destroy();
        }
        // What a launcher that was killed left behind. At the end, since no start must wait for it.
        self.table.layout.sweep();
    }
}

/// What can go on: a request has come, and places in the two lists.
struct Ready {
    request: bool,
    starting: Vec<usize>,
    told: Vec<usize>,
}

fn send(socket: &OwnedFd, reply: &Reply) -> Result<(), Closed> {
    send_all(socket, reply, &[])
}

fn send_all(socket: &OwnedFd, reply: &Reply, fds: &[BorrowedFd<'_>]) -> Result<(), Closed> {
    let bytes = postcard::to_stdvec(reply).map_err(|_| Closed)?;
    sys::socket::send_with_fds(socket.as_fd(), &bytes, fds).map_err(|_| Closed)
}

fn send_launched(socket: &OwnedFd, id: u32, live: &Sandbox) -> Result<(), Closed> {
    let (present, control) = live.files.as_fds();
    let exec_failed = live.exec_failed.as_ref().map(|e| (e.program.clone(), e.errno));
    let reply = Reply::Launched { id, present, exec_failed, degraded: names(&live.degraded) };
    let mut fds = vec![live.pidfd.as_fd(), live.status.as_fd()];
    fds.extend(live.log.as_ref().map(AsFd::as_fd));
    let listeners = &live.listeners;
    fds.extend(
        [&listeners.unix, &listeners.tcp, &listeners.rpc].into_iter().flatten().map(AsFd::as_fd),
    );
    fds.extend(control);
    send_all(socket, &reply, &fds)
}

type Refusal = (Vec<String>, Option<String>);

fn chain_of(error: &dyn Error) -> Refusal {
    let mut chain = vec![error.to_string()];
    let mut source = error.source();
    while let Some(cause) = source {
        chain.push(cause.to_string());
        source = cause.source();
    }
    (chain, Some("run `kennel doctor` to see what this host lacks and how to mend it".into()))
}

/// A function's code and layers, where they are inside.
fn trees(code: &Tree, layers: &[Tree], table: &Table) -> Result<Vec<Mount>, RequestError> {
    let resolve =
        |tree: &Tree| resolve(tree, table).ok_or_else(|| RequestError::Tree { tree: tree.clone() });
    let mut mounts = vec![Mount { source: Source::Tree(resolve(code)?), target: CODE.into() }];
    let mut layers = layers.iter().map(resolve).collect::<Result<Vec<_>, _>>()?;
    match layers.len() {
        0 => {}
        1 => mounts
            .extend(layers.pop().map(|l| Mount { source: Source::Tree(l), target: LAYERS.into() })),
        _ => mounts.push(Mount { source: Source::Overlay(layers), target: LAYERS.into() }),
    }
    Ok(mounts)
}

/// Checks a request again, on this side of the door, and resolves its ids.
fn spec_of(wanted: &Launch, table: &Table) -> Result<SandboxSpec, RequestError> {
    if wanted.host_network && !table.host_network {
        return Err(RequestError::HostNetwork);
    }
    if wanted.held && wanted.code.is_some() {
        return Err(RequestError::Held);
    }
    let memory = MemoryMib::new(wanted.memory_mib)?;
    let most = MilliCpu::while_initialising(memory);
    let runtime = usize::try_from(wanted.runtime).ok().and_then(|i| table.runtimes.get(i));
    let runtime = runtime.ok_or(RequestError::Runtime { index: wanted.runtime })?;
    let bind = |source: PathBuf, target: &str| Mount {
        source: Source::Bind(source),
        target: target.into(),
    };
    let mut mounts: Vec<Mount> = runtime
        .binds
        .iter()
        .map(|path| Mount { source: Source::Bind(path.clone()), target: path.clone() })
        .collect();
    mounts.push(bind(runtime.runtime_dir.clone(), RUNTIME_DIR));
    if let Some(code) = &wanted.code {
        mounts.extend(trees(code, &wanted.layers, table)?);
    }
    Ok(SandboxSpec {
        env: wanted.env.clone(),
        cwd: CODE.into(),
        ahead: wanted.code.is_none(),
        held: wanted.held,
        limits: Limits {
            memory,
            cpu: MilliCpu(wanted.milli_cpu).min(most),
            pids: wanted.pids.min(32_768),
        },
        mounts,
        tmp_mib: wanted.tmp_mib.min(10_240),
        network: if wanted.host_network { Network::Host } else { Network::Loopback },
        doors: if wanted.rpc { Doors::RuntimeApiAndRpc } else { Doors::RuntimeApi },
        stdio: Stdio::Log,
        allow_degraded: table.allow_degraded.clone(),
        ..SandboxSpec::new(wanted.argv_any.clone(), memory)
    })
}

/// The path of a tree. The server owns the store, so the sandbox follows no symbolic link on the way there
/// ([`Source::Tree`]).
fn resolve(tree: &Tree, table: &Table) -> Option<PathBuf> {
    match tree {
        Tree::Stored(hex) => {
            let good =
                hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            good.then(|| table.tree_store.join("sha256").join(hex))
        }
        Tree::Operator(index) => table.operator_trees.get(usize::try_from(*index).ok()?).cloned(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn trees_are_ids_and_never_paths() {
        let table = Table {
            tree_store: "/store".into(),
            operator_trees: vec!["/code".into()],
            ..Table::default()
        };
        let hex = "0123456789abcdef".repeat(4);
        let path = resolve(&Tree::Stored(hex.clone()), &table);
        assert_eq!(path, Some(format!("/store/sha256/{hex}").into()));
        let upper = hex.to_uppercase();
        for bad in ["", "..", "../../etc", "/etc", &hex[1..], &upper, &format!("{}/..", &hex[3..])]
        {
            assert_eq!(resolve(&Tree::Stored(bad.into()), &table), None, "{bad}");
        }
        assert_eq!(resolve(&Tree::Operator(0), &table), Some("/code".into()));
        assert_eq!(resolve(&Tree::Operator(1), &table), None);
    }

    #[test]
    fn code_is_a_tree_without_links_and_the_network_is_the_operators() {
        let hex = "f".repeat(64);
        let table = Table {
            runtimes: vec![RuntimeFiles { runtime_dir: "/usr".into(), binds: Vec::new() }],
            tree_store: "/store".into(),
            ..Table::default()
        };
        let launch = Launch {
            id: 1,
            runtime: 0,
            code: Some(Tree::Stored(hex)),
            layers: Vec::new(),
            held: false,
            argv_any: vec![vec!["true".into()]],
            env: Vec::new(),
            memory_mib: 128,
            milli_cpu: 1000,
            pids: 16,
            tmp_mib: 16,
            rpc: false,
            host_network: false,
        };
        let spec = spec_of(&launch, &table).unwrap();
        let code = spec.mounts.iter().find(|m| m.target == Path::new(CODE)).unwrap();
        assert!(matches!(&code.source, Source::Tree(path) if path.starts_with(&table.tree_store)));
        let mut asked = Launch { held: true, ..launch };
        assert!(matches!(spec_of(&asked, &table), Err(RequestError::Held)), "its code is known");
        asked.code = None;
        assert!(spec_of(&asked, &table).is_ok_and(|spec| spec.held && spec.ahead));
        let asked = Launch { host_network: true, ..asked };
        assert!(matches!(spec_of(&asked, &table), Err(RequestError::HostNetwork)));
    }
}
