//! The other side of the privilege door: makes sandboxes. One thread, no async runtime.
//!
//! # Theory of operation
//!
//! Processes. The *launcher* (root, or a user with what the host delegates) calls [`launch`]. It makes a child in new
//! pid, mount, IPC and UTS namespaces by clone3(2), in the v2 cgroup from its first instruction; while that makes its
//! network namespace, the control groups, for which the child waits; and while that makes its root, the filesystem for
//! `/tmp`, which a process of its own makes on a server, and for which it waits last. The child is pid 1 inside: the
//! *init*. It builds the root, binds the sockets of the Runtime API, gives up every privilege (see `stages.rs`, a list
//! in order), and starts the *program*, which execs. Init then only reaps; when the program ends it writes its status
//! to a pipe and exits, and the kernel kills whatever else lives in the pid namespace.
//!
//! Users. Root's launcher builds everything as the host's root and enters the user namespace last. So the mount,
//! network, pid, IPC and UTS namespaces belong to the host's user namespace, and even a process that gained every
//! capability of the sandbox's own user namespace could not mount, configure a network or mknod. Inside, uid 993 is
//! the only one there is; outside it is [`HOST_UID_BASE`] + init's host pid, which no two live sandboxes share,
//! because init is the last process of its namespace to go. Without root the user namespace must come
//! first, the outside uid is the caller's own, and `own-uid` counts as degraded.
//!
//! Pipes. *report*: a seqpacket socket on which init gets its way into the groups and its `/tmp`, and says `ready` with
//! the descriptors it made, or what failed; its end-of-file means that exec happened. *status*: eight bytes of how the
//! program ended. *log*: 1 and 2 of the program. Who waits for whom: the launcher for init (pidfd), init for everything
//! else.
//!
//! Held. A sandbox can be made before it is known what runs in it: the program's process then waits at its last step,
//! and the report socket stays open for the one message that says what to exec (`held.rs`).
//!
//! Ends. Init has the parent-death signal: SIGKILL to the launcher ends every sandbox. Groups that it could not
//! remove are swept at the next start ([`Layout::sweep`]).

#![forbid(unsafe_code)]

mod capabilities;
mod cgroup;
mod held;
mod init;
mod landlock;
mod makers;
mod removers;
mod rootfs;
mod scratch;
pub mod seccomp;
pub mod spec;
mod stages;
mod starting;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use cgroup::{CgroupError, ControlFiles, Group, Layout, Present, Usage};
pub use held::{Start, Told};
pub use init::decode_status;
pub use landlock::kernel_abi as landlock_abi;
pub use makers::Makers;
pub use removers::Removers;
pub use spec::{
    Degradable, Doors, Limits, MemoryMib, MilliCpu, Mount, Network, SandboxSpec, Source, SpecError,
    Stdio,
};

use crate::sys;
use crate::sys::process::{Cloned, Ended};
use held::Held;
pub use starting::{Starting, Step};

/// The one user inside, as AWS numbers it.
pub const INSIDE_UID: u32 = 993;
pub const INSIDE_GID: u32 = 990;
/// Host uid of a sandbox: this plus init's pid on the host. Above every range that useradd(8) or subuid(5) hand out.
pub const HOST_UID_BASE: u32 = 0x7000_0000;
pub const HOSTNAME: &str = "kennel";
pub const RUN_FOLDER: &str = "/run/kennel";
/// Where a function's code is inside.
pub const CODE: &str = "/var/task";
/// Where layers are inside; `/opt` leads there.
pub const LAYERS: &str = "/var/opt";
/// Where trees can be attached to a sandbox that was made ahead.
pub const ATTACHABLE: [&str; 2] = [CODE, LAYERS];
/// The Runtime API inside a sandbox, for Kennel's own bootstraps.
pub const RUNTIME_SOCKET: &str = "/run/kennel/runtime.sock";
/// The same on loopback, for AWS's unmodified clients.
pub const RUNTIME_PORT: u16 = 9001;
/// Where a `go1.x` program listens for net/rpc.
pub const RPC_PORT: u16 = 9002;

/// Why a sandbox could not be made. Always the sandbox's failure, never the function's.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error("cannot limit the sandbox")]
    Cgroup(#[from] CgroupError),
    /// `O_TMPFILE`, loop devices or ext4; the folder holds the image.
    #[error("cannot make a /tmp of {mib} MiB in `{folder}`")]
    Tmp { mib: u32, folder: PathBuf, source: io::Error },
    /// clone3(2), pipes, fork(2).
    #[error("cannot make the sandbox's first process")]
    Process { source: io::Error },
    /// A stage inside the sandbox.
    #[error("cannot set up the sandbox: stage `{stage}` failed on `{what}`")]
    Stage { stage: String, what: String, source: io::Error },
    #[error(
        "landlock is not available in this kernel (5.13 or newer, and `landlock` in the `lsm=` boot parameter)"
    )]
    NoLandlock,
    /// The child ended without a word: killed, most likely by the out-of-memory killer.
    #[error("the sandbox's first process ended before it was ready ({status})")]
    Died { status: String },
    #[error("the sandbox has its code already, or was not made to wait for it")]
    Claimed,
    /// A claim must say what runs where that is not known, and only there.
    #[error(
        "what the sandbox is to run was decided when it was made, or must be said with the claim"
    )]
    Program,
    #[error("a claim cannot lower a sandbox's memory to {mib} MiB")]
    LessMemory { mib: u32 },
    #[error(
        "not root, and `{protection}` needs it; allow a weaker sandbox with --allow-degraded {protection}"
    )]
    NotRoot { protection: &'static str },
}

/// The program could not be started; everything else of the sandbox could.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecFailed {
    pub program: String,
    pub errno: i32,
}

/// Sockets of a live sandbox, made inside its namespaces.
#[derive(Debug, Default)]
pub struct Listeners {
    /// Listening at [`RUNTIME_SOCKET`].
    pub unix: Option<OwnedFd>,
    /// Listening at [`RUNTIME_PORT`] of the sandbox's own loopback.
    pub tcp: Option<OwnedFd>,
    /// Not connected; connects to the sandbox's own loopback wherever it is used.
    pub rpc: Option<OwnedFd>,
}

/// A live sandbox, owned by the process that made it.
#[derive(Debug)]
pub struct Sandbox {
    pub pid: libc::pid_t,
    pub pidfd: OwnedFd,
    pub group: Group,
    /// Those that steer it, until [`Self::open_all_files`].
    pub files: ControlFiles,
    /// Readable once the program has ended: [`read_status`].
    pub status: OwnedFd,
    /// What the program prints, with [`Stdio::Log`].
    pub log: Option<OwnedFd>,
    pub listeners: Listeners,
    /// A descriptor in `/tmp`, to stop its filesystem without writing it back.
    tmp: Option<OwnedFd>,
    /// Where the program's process waits to be told what to run.
    held: Option<Held>,
    /// Set when the program did not exec.
    pub exec_failed: Option<ExecFailed>,
    /// Protections that are weaker than designed, as the caller allowed.
    pub degraded: Vec<Degradable>,
    /// Nothing was attached yet to what was made ahead.
    ahead: bool,
    /// With which it was made.
    memory: MemoryMib,
}

/// Where images for `/tmp` lie by default: on disk on every distribution.
pub const SCRATCH_FOLDER: &str = "/var/tmp";

/// Makes a sandbox and starts its program.
///
/// The calling process must be single-threaded. When this returns, the program has exec'd (or could not:
/// [`Sandbox::exec_failed`]), every protection is in place, and the CPU quota of the spec holds.
///
/// # Errors
/// [`LaunchError`]: whatever could not be set up; nothing of the sandbox is left then.
pub fn launch(spec: &SandboxSpec, layout: &Layout, id: u32) -> Result<Sandbox, LaunchError> {
    let mut starting = begin(spec, layout, id, None)?;
    loop {
        match starting.advance()? {
            Step::Pending(still) => starting = still,
            Step::Done(sandbox) => return Ok(*sandbox),
        }
    }
}

/// Begins what [`launch`] does: the first process makes the rest of its sandbox by itself, and says how it went. Its
/// `/tmp` is made by `makers`, where there are some.
///
/// # Errors
/// As [`launch`].
pub fn begin(
    spec: &SandboxSpec,
    layout: &Layout,
    id: u32,
    makers: Option<&mut Makers>,
) -> Result<Starting, LaunchError> {
    let root = sys::process::is_root();
    if !root && !spec.allows(Degradable::OwnUid) {
        return Err(LaunchError::NotRoot { protection: Degradable::OwnUid.name() });
    }
    let landlock = sys::landlock_abi() != 0;
    if !landlock && !spec.allows(Degradable::Landlock) {
        return Err(LaunchError::NoLandlock);
    }
    let tmp_on_disk = is_tmp_on_disk(spec, root)?;
    let mut group = Group::begin(layout, id, &spec.allow_degraded)?;
    let process = |source: io::Error| LaunchError::Process { source };
    let (report, report_inside) = sys::socket::seqpacket_pair().map_err(process)?;
    let (status, status_inside) = pipe().map_err(process)?;
    let (log, log_inside) = match spec.stdio {
        Stdio::Inherit => (None, None),
        Stdio::Log => pipe().map(|(r, w)| (Some(r), Some(w))).map_err(process)?,
    };
    let inside = stages::Inside {
        spec,
        root,
        outer: (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()),
        tmp_on_disk,
        report: Some(report_inside),
        status: Some(status_inside),
        log: log_inside,
    };
    // SAFETY is the wrapper's: this process has one thread.
    let cloned = clone(root, group.v2_folder()).map_err(process)?;
    let (pid, pidfd) = match cloned {
        Cloned::Child => stages::run(inside),
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
    };
    drop(inside);
    // While the first process makes its network namespace, and then the root.
    let beside = || -> Result<(), LaunchError> {
        group.complete(layout, &spec.limits, &spec.allow_degraded)?;
        // Where this fails the first process is dead, which its reports' end tells.
        let _ = sys::socket::send_with_fds(report.as_fd(), b"0", &group.ways_in());
        if !tmp_on_disk {
            return Ok(());
        }
        let folder = Path::new(SCRATCH_FOLDER);
        let (mib, owner) = (spec.tmp_mib, HOST_UID_BASE + pid.unsigned_abs());
        let ordered = match makers {
            Some(makers) => makers.order(mib, owner, report.as_fd()),
            None => makers::send(
                report.as_fd(),
                Ok(scratch::make(folder, mib, owner).map_err(|source| LaunchError::Tmp {
                    mib,
                    folder: folder.into(),
                    source,
                })?),
            ),
        };
        ordered.map_err(|source| LaunchError::Tmp { mib, folder: folder.into(), source })
    };
    if let Err(error) = beside() {
        let _ = sys::process::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL);
        let _ = sys::process::wait4(pid);
        return Err(error);
    }
    let mut degraded = group.degraded.clone();
    if !tmp_on_disk {
        degraded.push(Degradable::TmpQuota);
    }
    if !root {
        degraded.push(Degradable::OwnUid);
    }
    if !landlock {
        degraded.push(Degradable::Landlock);
    }
    let files = group.open_files();
    let sandbox = Box::new(Sandbox {
        pid,
        pidfd,
        group,
        files,
        status,
        log,
        listeners: Listeners::default(),
        tmp: None,
        held: None,
        exec_failed: None,
        degraded,
        ahead: spec.ahead,
        memory: spec.limits.memory,
    });
    let (doors, cpu, held) = (spec.doors, spec.limits.cpu, spec.held);
    let until = Instant::now() + STARTING_LIMIT;
    Ok(Starting { sandbox, report, until, is_ready: false, tmp_on_disk, doors, cpu, held })
}

/// Whether `/tmp` is to be a filesystem on the host's disk. A tmpfs in its place must be allowed.
fn is_tmp_on_disk(spec: &SandboxSpec, root: bool) -> Result<bool, LaunchError> {
    match (root, spec.allows(Degradable::TmpQuota)) {
        (true, false) => Ok(true),
        (true, true) => Ok(scratch::is_possible()),
        (false, true) => Ok(false),
        (false, false) => {
            let source = io::Error::from_raw_os_error(libc::EPERM);
            Err(LaunchError::Tmp { mib: spec.tmp_mib, folder: SCRATCH_FOLDER.into(), source })
        }
    }
}

/// How long a sandbox may be in the making.
const STARTING_LIMIT: Duration = Duration::from_secs(60);

/// Buckets for the TCP connections of a network namespace.
const CONNECTION_BUCKETS: &str = "1024";

/// Moves a launcher that makes many sandboxes to a network namespace of its own, where nothing can be reached; theirs then
/// descend from that one, and each has a table of connections of its own.
///
/// Descendants of the host's share the host's table, with a bucket for each 100 KiB of the machine's memory, and the kernel
/// looks through all of it whenever one of them goes.
///
/// # Errors
/// unshare(2)'s; `ENOENT` where the kernel (before 6.1) has one table alone, with the rest done.
///
/// Source: the kernel's `networking/ip-sysctl.rst`, `tcp_child_ehash_entries`.
pub fn leave_network() -> io::Result<()> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)?;
    std::fs::write("/proc/sys/net/ipv4/tcp_child_ehash_entries", CONNECTION_BUCKETS)
}

fn clone(root: bool, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    let mut flags =
        libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    if !root {
        flags |= libc::CLONE_NEWUSER;
    }
    sys::process::clone3_single_threaded(flags, cgroup)
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?)
}

/// What the status pipe says: how the program ended, or `None` when init died first (all was killed).
pub fn read_status(status: BorrowedFd<'_>) -> Option<sys::process::ExitStatus> {
    let mut bytes = [0; 8];
    match nix::unistd::read(status, &mut bytes) {
        Ok(8) => Some(init::decode_status(bytes)),
        _ => None,
    }
}

impl Sandbox {
    /// Gives a sandbox that was made ahead its code, its memory, and what it runs where that waited, from an image
    /// where there is one; once in its life. A held program is told here, and its exec is the caller's to await. The
    /// calling process must be single-threaded.
    ///
    /// # Errors
    /// What could not be attached, raised or told; the sandbox is of no use then.
    pub fn claim(
        &mut self,
        mounts: &[Mount],
        memory: MemoryMib,
        start: Option<(&Start, Option<BorrowedFd<'_>>)>,
    ) -> Result<Option<Told>, LaunchError> {
        if !self.ahead {
            return Err(LaunchError::Claimed);
        }
        if self.held.is_some() != start.is_some() {
            return Err(LaunchError::Program);
        }
        self.ahead = false;
        if memory < self.memory {
            return Err(LaunchError::LessMemory { mib: memory.mib() });
        }
        let program = self.held.take().zip(start);
        self.group.raise_memory(memory)?;
        rootfs::attach_later(self.pidfd.as_fd(), mounts).map_err(|failed| LaunchError::Stage {
            stage: "claim".into(),
            what: failed.what,
            source: failed.source,
        })?;
        program.map(|(held, (start, image))| held.start(start, image)).transpose()
    }

    /// From here on it is for an image alone, and never for a function. Its first process, whose only child is the
    /// program.
    ///
    /// # Errors
    /// Something is in it already, or its program is still held.
    pub fn give_up_for_image(&mut self) -> Result<libc::pid_t, LaunchError> {
        if self.held.is_some() {
            return Err(LaunchError::Program);
        }
        if !std::mem::take(&mut self.ahead) {
            return Err(LaunchError::Claimed);
        }
        Ok(self.pid)
    }

    /// Opens what freezes and measures it as well, for whoever is to have it.
    pub fn open_all_files(&mut self) {
        self.group.open_all_files(&mut self.files);
    }

    /// Kills everything inside at once.
    pub fn kill(&self) {
        let _ = self.files.kill();
        // Init's death ends its pid namespace, also where there is no `cgroup.kill`.
        let _ = sys::process::pidfd_send_signal(self.pidfd.as_fd(), libc::SIGKILL);
    }

    /// Kills what is left and says what was used, where that is `wanted`. What remains is to be removed off the hot
    /// path.
    pub fn finish(mut self, wanted: bool) -> (Usage, Remains) {
        self.kill();
        let usage = if wanted {
            if self.files.cpu_usage.is_none() {
                self.open_all_files();
            }
            self.files.usage()
        } else {
            Usage::default()
        };
        (
            usage,
            Remains {
                pid: self.pid,
                pidfd: self.pidfd,
                group: self.group,
                files: self.files,
                tmp: self.tmp,
            },
        )
    }

    /// Kills and removes everything, and waits until it is gone.
    pub fn destroy(self) -> (Usage, Option<Ended>) {
        let (usage, remains) = self.finish(true);
        (usage, remains.remove())
    }
}

/// Blocks of 4 KiB in `/tmp` that may be written back when it goes.
const UNWRITTEN_BLOCKS: u64 = 2048;

/// A killed sandbox: processes on their way out, groups, and the filesystem of `/tmp`.
///
/// Removing it takes milliseconds (the kernel waits for grace periods when it takes mounts, loop devices and groups
/// down), which nobody who waits for an answer should pay.
#[derive(Debug)]
pub struct Remains {
    pid: libc::pid_t,
    pidfd: OwnedFd,
    group: Group,
    files: ControlFiles,
    tmp: Option<OwnedFd>,
}

impl Remains {
    /// Reaps init, drops `/tmp` unwritten and removes the groups.
    pub fn remove(mut self) -> Option<Ended> {
        // A frozen group dies only once it is thawed on v1; on v2 SIGKILL goes through.
        let _ = self.files.freeze(false);
        let ended = match sys::process::wait4(self.pid) {
            Ok(ended) => Some(ended),
            // Somebody else's child: only its end can be waited for.
            Err(_) => {
                wait_for_end(self.pidfd.as_fd());
                None
            }
        };
        drop_tmp(self.tmp.take());
        tell(self.group.remove());
        ended
    }

    /// Ends this process with `code`, and removes it in another that lives on. The caller must be single-threaded.
    ///
    /// The same process sweeps what killed runs left, since a start must not wait for that.
    pub fn remove_after_exit(self, layout: &Layout, code: u8) -> ! {
        let rest = || {
            let _ = sys::process::set_name(c"kennel-reaper");
            let _ = nix::unistd::setsid();
            // Nobody who reads our output waits for this process.
            for fd in 0..=2 {
                let _ = nix::unistd::close(fd);
            }
            self.remove();
            layout.sweep();
        };
        sys::process::exit_and_go_on(code.into(), rest)
    }
}

/// Lets `/tmp` go, of which this is the last descriptor.
fn drop_tmp(tmp: Option<OwnedFd>) {
    // Much that was written would be written back only to be thrown away. A little is not worth the kernel's line of log
    // that a shutdown costs.
    if let Some(tmp) = tmp
        && nix::sys::statvfs::fstatvfs(&tmp)
            .is_ok_and(|s| s.blocks_free() + UNWRITTEN_BLOCKS < s.blocks())
    {
        let _ = sys::loopdev::ext4_shutdown(tmp.as_fd());
    }
}

fn tell(removed: io::Result<()>) {
    if let Err(error) = removed {
        tracing::warn!(%error, "a sandbox's cgroup could not be removed; the next start sweeps it");
    }
}

fn wait_for_end(pidfd: BorrowedFd<'_>) {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut fds = [PollFd::new(pidfd, PollFlags::POLLIN)];
    while poll(&mut fds, PollTimeout::NONE).is_err() {}
}

/// The command that `kennel doctor` names for a folder that must take unnamed files.
pub fn scratch_folder() -> &'static Path {
    Path::new(SCRATCH_FOLDER)
}
