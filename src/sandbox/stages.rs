//! What the sandbox's first process does, in order, from clone3 to exec.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use ::landlock::RulesetError;
use nix::fcntl::OFlag;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

use super::landlock::{Enforced, Right, Rules};
use super::rootfs::{self, DeviceNodes, Failed, Tmp};
use super::spec::{Degradable, Doors, Network, SandboxSpec};
use super::{
    ATTACHABLE, HOST_UID_BASE, HOSTNAME, INSIDE_GID, INSIDE_UID, RUNTIME_PORT, RUNTIME_SOCKET,
    capabilities, cgroup, held, init, seccomp,
};
use crate::sys;

/// What goes into the child.
pub struct Inside<'a> {
    pub spec: &'a SandboxSpec,
    /// Whether the launcher is the host's root.
    pub root: bool,
    /// The launcher's own ids, for the map of a sandbox made without root.
    pub outer: (u32, u32),
    /// Whether a filesystem for `/tmp` is sent; else it is a tmpfs, as the caller allowed.
    pub tmp_on_disk: bool,
    pub report: Option<OwnedFd>,
    pub status: Option<OwnedFd>,
    pub log: Option<OwnedFd>,
}

/// The longest report, in bytes.
pub const MAX_REPORT: usize = 8192;

/// What the child tells the launcher. End of file after `Ready` means: the program has exec'd.
#[derive(Debug, Serialize, Deserialize)]
pub enum Report {
    /// With descriptors: the folder of a `/tmp` on disk, then the listeners of the spec's doors.
    Ready,
    /// The program's process waits for what it is to run.
    Held,
    /// It was told, and execs next.
    Told,
    Failed {
        stage: String,
        what: String,
        errno: i32,
    },
    ExecFailed {
        program: String,
        errno: i32,
    },
}

impl Report {
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }

    pub fn send(&self, to: &OwnedFd, fds: &[std::os::fd::BorrowedFd<'_>]) -> io::Result<()> {
        let mut bytes = postcard::to_stdvec(self).map_err(io::Error::other)?;
        bytes.truncate(MAX_REPORT);
        sys::socket::send_with_fds(to.as_fd(), &bytes, fds)
    }
}

fn failed(what: &str, error: impl Into<io::Error>) -> Failed {
    Failed { what: what.into(), source: error.into() }
}

/// Runs every stage; never returns.
pub fn run(mut inside: Inside<'_>) -> ! {
    let Err((stage, Failed { what, source })) = build(&mut inside);
    if let Some(report) = &inside.report {
        let errno = source.raw_os_error().unwrap_or(libc::EIO);
        let _ = Report::Failed { stage: stage.into(), what, errno }.send(report, &[]);
    }
    sys::process::exit_now(1)
}

type StageResult<T = ()> = Result<T, (&'static str, Failed)>;

/// Puts a stage's name to its failure.
trait Stage<T> {
    fn stage(self, name: &'static str) -> StageResult<T>;
}

impl<T> Stage<T> for Result<T, Failed> {
    fn stage(self, name: &'static str) -> StageResult<T> {
        self.map_err(|f| (name, f))
    }
}

/// The recipe. Ends in init's loop; only failures come back.
fn build(inside: &mut Inside<'_>) -> StageResult<std::convert::Infallible> {
    let Inside { spec, root, tmp_on_disk, .. } = *inside;
    let _ = sys::process::set_name(c"kennel-init");
    // Whatever becomes of the launcher, this process and so the namespace end with it. Set again after
    // the change of credentials, which clears it.
    die_with_parent().stage("parent death")?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    nix::unistd::setsid().map_err(|e| failed("setsid", e)).stage("session")?;

    // Half a millisecond, in which the launcher makes the groups.
    if spec.network == Network::Loopback {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
            .map_err(|e| failed("unshare", e))
            .stage("network namespace")?;
    }
    // Before any user namespace: the host's root is not root there, and v1 refuses the write.
    enter_groups(inside.report.as_ref()).stage("cgroup")?;

    // Without root the user namespace came with clone3 and must have its map before anything can be mounted.
    // /proc is still the host's: its "self" names this process, and by its pid on the host. By descriptor, so that it is
    // good after the pivot; and each way through /proc has the kernel make what it leads along.
    let own = File::options()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
        .open("/proc/self")
        .map_err(|e| failed("/proc/self", e))
        .stage("proc")?;
    let host_pid: u32 = fs::read_link("/proc/self")
        .ok()
        .and_then(|p| p.to_str()?.parse().ok())
        .ok_or_else(|| failed("/proc/self", io::Error::from_raw_os_error(libc::ESRCH)))
        .stage("proc")?;
    let host_uid = HOST_UID_BASE + host_pid;
    if !root {
        map_ids(&own, inside.outer.0, inside.outer.1).stage("user namespace")?;
    }
    // After the cgroups were entered: the namespace's root is where the process is now.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWCGROUP)
        .map_err(|e| failed("unshare", e))
        .stage("cgroup namespace")?;
    let mut oom_score = open_own(&own, "oom_score_adj").stage("oom score")?;
    // For the program; init goes back to 0 once it has forked, so that it is never the first to go.
    oom_score.write_all(b"500").map_err(|e| failed("oom_score_adj", e)).stage("oom score")?;

    nix::unistd::sethostname(HOSTNAME).map_err(|e| failed("sethostname", e)).stage("uts")?;
    let nodes = if root { DeviceNodes::Make } else { DeviceNodes::Bind };
    let in_tmp = rootfs::build(&spec.mounts, spec.ahead, nodes, spec.network == Network::Host)
        .stage("rootfs")?;

    if spec.network == Network::Loopback {
        sys::socket::loopback_up().map_err(|e| failed("lo", e)).stage("network")?;
    }
    let listeners = open_doors(spec.doors).stage("runtime api")?;
    rootfs::seal().stage("rootfs")?;
    // While /tmp is made, all but the rules beneath it.
    let rules = Rules::new().map_err(refused).stage("landlock")?;
    let (late, early) =
        path_rules(spec).into_iter().partition(|(path, _)| path.starts_with("/tmp"));
    let rules = allow(rules, early).stage("landlock")?;
    let tmp = match (&inside.report, tmp_on_disk) {
        (Some(launcher), true) => Tmp::Sent(launcher),
        _ => Tmp::Tmpfs(spec.tmp_mib),
    };
    rootfs::mount_tmp(&tmp, &in_tmp).stage("tmp")?;
    drop(in_tmp);
    if root {
        own_tmp(host_uid).stage("tmp")?;
    }
    let tmp_folder = tmp_on_disk.then(|| File::open("/tmp")).transpose();
    let tmp_folder = tmp_folder.map_err(|e| failed("/tmp", e)).stage("tmp")?;
    // A program that opens /dev/stdout again needs to own the pipe.
    if let (Some(log), true) = (&inside.log, root) {
        nix::unistd::fchown(log, Some(host_uid.into()), Some(host_uid.into()))
            .map_err(|e| failed("log pipe", e))
            .stage("stdio")?;
    }

    // The user namespace comes last: all the others stay the host's, out of reach for any capability in it.
    if root {
        become_inside_user(&own, host_uid).stage("user namespace")?;
    }
    capabilities::drop_all()
        .map_err(|e| failed(&e.to_string(), io::Error::from_raw_os_error(libc::EPERM)))
        .stage("capabilities")?;
    // Not traceable, and /proc/1 is not ours to read: init's memory is a copy of the launcher's.
    sys::process::set_dumpable(false).map_err(|e| failed("dumpable", e)).stage("capabilities")?;
    die_with_parent().stage("parent death")?;
    nix::sys::prctl::set_no_new_privs().map_err(|e| failed("prctl", e)).stage("no_new_privs")?;
    restrict_paths(spec, rules, late).stage("landlock")?;
    std::env::set_current_dir(&spec.cwd)
        .map_err(|e| failed(&spec.cwd.display().to_string(), e))
        .stage("working directory")?;

    let mut fds: Vec<_> = tmp_folder.iter().map(AsFd::as_fd).collect();
    fds.extend(listeners.iter().map(AsFd::as_fd));
    if let Some(report) = &inside.report {
        Report::Ready.send(report, &fds).map_err(|e| failed("report", e)).stage("report")?;
    }
    drop((tmp_folder, listeners, own));

    if spec.held {
        // What a program is restored from must know where the heap ends. Whatever else it becomes takes this back,
        // which the policy allows; this it does not.
        sys::snapshot::set_random_layout(false)
            .map_err(|e| failed("personality", e))
            .stage("layout")?;
    }

    let alone = sys::process::OneThread::check();
    let alone = alone.map_err(|e| failed("threads", e)).stage("fork")?;
    // The last layer, on init as well: from here on only what the policy allows.
    seccomp::install().map_err(|e| failed("seccomp", e)).stage("seccomp")?;
    let (report, log) = (inside.report.take(), inside.log.take());
    let start = || exec(spec, report.as_ref(), log.as_ref());
    let program = match spec.ahead {
        // Of what is made ahead nobody knows how long it is until it execs.
        true => sys::process::fork_alone(alone).map(|pid| pid.unwrap_or_else(start)),
        false => sys::process::start_alone(alone, start),
    };
    let program = program.map_err(|e| failed("fork", e)).stage("fork")?;
    let _ = oom_score.write_all(b"0");
    // Init shares the sandbox's uid: what the launcher had open, and what its caller had, must not be in it.
    match inside.status.take().map(sys::process::keep_only) {
        Some(Ok(status)) => init::reap(program, &status),
        _ => sys::process::exit_now(1),
    }
}

/// Waits for the launcher's groups and enters them.
fn enter_groups(launcher: Option<&OwnedFd>) -> Result<(), Failed> {
    let Some(launcher) = launcher else { return Ok(()) };
    match sys::socket::recv_with_fds(launcher.as_fd(), &mut [0]) {
        Ok((1, ways_in)) => cgroup::enter(ways_in).map_err(|e| failed("tasks", e)),
        Ok(_) => Err(failed("groups", io::Error::from_raw_os_error(libc::EPIPE))),
        Err(error) => Err(failed("groups", error)),
    }
}

fn die_with_parent() -> Result<(), Failed> {
    sys::process::set_parent_death_signal(libc::SIGKILL).map_err(|e| failed("prctl", e))
}

/// Opens a file of this process's folder in the host's `/proc`, to write it.
fn open_own(own: &File, file: &str) -> Result<File, Failed> {
    let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    let opened = nix::fcntl::openat(own, file, flags, nix::sys::stat::Mode::empty());
    opened.map(File::from).map_err(|e| failed(file, e))
}

/// Maps the one inside user to `uid` and `gid` outside.
fn map_ids(own: &File, uid: u32, gid: u32) -> Result<(), Failed> {
    let write = |file: &str, text: String| {
        open_own(own, file)?.write_all(text.as_bytes()).map_err(|e| failed(file, e))
    };
    // setgroups(2) must be off before an unprivileged process may map a group. See user_namespaces(7).
    write("setgroups", "deny".into())?;
    write("uid_map", format!("{INSIDE_UID} {uid} 1"))?;
    write("gid_map", format!("{INSIDE_GID} {gid} 1"))
}

/// Gives `/tmp` to `host_uid`, where it is not made so.
fn own_tmp(host_uid: u32) -> Result<(), Failed> {
    let is = fs::metadata("/tmp").map_err(|e| failed("/tmp", e))?;
    if (is.uid(), is.gid()) == (host_uid, host_uid) {
        return Ok(());
    }
    nix::unistd::chown("/tmp", Some(host_uid.into()), Some(host_uid.into()))
        .map_err(|e| failed("/tmp", e))
}

/// Gives up the host's root for `host_uid`, and enters a user namespace that knows only that one.
fn become_inside_user(own: &File, host_uid: u32) -> Result<(), Failed> {
    let (uid, gid) = (host_uid.into(), nix::unistd::Gid::from_raw(host_uid));
    nix::unistd::setgroups(&[]).map_err(|e| failed("setgroups", e))?;
    nix::unistd::setresgid(gid, gid, gid).map_err(|e| failed("setresgid", e))?;
    // unshare(CLONE_NEWUSER) may be root's alone on this host: keep the capabilities over the change of uid.
    sys::process::set_keep_capabilities().map_err(|e| failed("keepcaps", e))?;
    nix::unistd::setresuid(uid, uid, uid).map_err(|e| failed("setresuid", e))?;
    let _ = capabilities::raise_permitted();
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER).map_err(|e| failed("unshare", e))?;
    // The files of /proc/PID are root's while a process is not dumpable.
    sys::process::set_dumpable(true).map_err(|e| failed("dumpable", e))?;
    map_ids(own, host_uid, host_uid)
}

/// Sockets of the Runtime API, bound inside the sandbox's own namespaces.
fn open_doors(doors: Doors) -> Result<Vec<OwnedFd>, Failed> {
    if doors == Doors::None {
        return Ok(Vec::new());
    }
    let unix = std::os::unix::net::UnixListener::bind(RUNTIME_SOCKET)
        .map_err(|e| failed(RUNTIME_SOCKET, e))?;
    fs::set_permissions(RUNTIME_SOCKET, fs::Permissions::from_mode(0o666))
        .map_err(|e| failed(RUNTIME_SOCKET, e))?;
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], RUNTIME_PORT));
    let tcp = std::net::TcpListener::bind(address).map_err(|e| failed("127.0.0.1:9001", e))?;
    let mut all = vec![OwnedFd::from(unix), OwnedFd::from(tcp)];
    if doors == Doors::RuntimeApiAndRpc {
        use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
        let rpc = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None);
        all.push(rpc.map_err(|e| failed("rpc socket", e))?);
    }
    Ok(all)
}

/// Resource limits of the program; never above what the launcher has.
fn set_rlimits() -> Result<(), Failed> {
    for (what, resource, value) in [
        ("RLIMIT_NOFILE", Resource::RLIMIT_NOFILE, 1024),
        ("RLIMIT_CORE", Resource::RLIMIT_CORE, 0),
        ("RLIMIT_MSGQUEUE", Resource::RLIMIT_MSGQUEUE, 819_200),
        ("RLIMIT_MEMLOCK", Resource::RLIMIT_MEMLOCK, 64 << 10),
        ("RLIMIT_RTPRIO", Resource::RLIMIT_RTPRIO, 0),
        ("RLIMIT_NICE", Resource::RLIMIT_NICE, 0),
    ] {
        let (_, hard) = getrlimit(resource).map_err(|e| failed(what, e))?;
        let value = value.min(hard);
        setrlimit(resource, value, value).map_err(|e| failed(what, e))?;
    }
    Ok(())
}

fn path_rules(spec: &SandboxSpec) -> Vec<(&Path, Right)> {
    let mut rules = vec![
        (Path::new("/"), Right::List),
        (Path::new("/usr"), Right::ReadExecute),
        (Path::new("/etc"), Right::Read),
        (Path::new("/proc"), Right::Read),
        (Path::new("/dev"), Right::Device),
        (Path::new("/tmp"), Right::All),
    ];
    // Where the host merged them into /usr they are links, and the rule on /usr holds.
    let linked = |path: &Path| std::fs::symlink_metadata(path).is_ok_and(|m| m.is_symlink());
    rules.extend(
        ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"]
            .iter()
            .map(Path::new)
            .filter(|path| !linked(path))
            .map(|path| (path, Right::ReadExecute)),
    );
    rules.extend(spec.mounts.iter().map(|m| (m.target.as_path(), Right::ReadExecute)));
    if spec.ahead {
        // A rule on a folder that is mounted over later says nothing about what is mounted there; one above it does.
        rules.extend(
            ATTACHABLE.iter().filter_map(|f| Some((Path::new(f).parent()?, Right::ReadExecute))),
        );
    }
    rules
}

fn refused(error: RulesetError) -> Failed {
    failed(&error.to_string(), io::Error::from_raw_os_error(libc::EINVAL))
}

fn allow(rules: Rules, more: Vec<(&Path, Right)>) -> Result<Rules, Failed> {
    more.into_iter()
        .try_fold(rules, |rules, (path, right)| rules.allow(path, right))
        .map_err(refused)
}

fn restrict_paths(
    spec: &SandboxSpec,
    rules: Rules,
    late: Vec<(&Path, Right)>,
) -> Result<(), Failed> {
    match allow(rules, late)?.restrict().map_err(refused)? {
        Enforced::No if !spec.allows(Degradable::Landlock) => {
            Err(failed("kernel", io::Error::from_raw_os_error(libc::ENOSYS)))
        }
        Enforced::Yes | Enforced::No => Ok(()),
    }
}

/// The program's side of the fork: descriptors, then exec. Reports what exec refused and exits as a shell would.
fn exec(spec: &SandboxSpec, report: Option<&OwnedFd>, log: Option<&OwnedFd>) -> ! {
    let fail = |program: &str, errno: i32| -> ! {
        if let Some(report) = report {
            let _ = Report::ExecFailed { program: program.into(), errno }.send(report, &[]);
        }
        sys::process::exit_now(if errno == libc::ENOENT { 127 } else { 126 })
    };
    if let Some(log) = log {
        let null = match File::open("/dev/null") {
            Ok(null) => null,
            Err(error) => fail("/dev/null", error.raw_os_error().unwrap_or(libc::EIO)),
        };
        let done = nix::unistd::dup2_stdin(&null)
            .and_then(|()| nix::unistd::dup2_stdout(log))
            .and_then(|()| nix::unistd::dup2_stderr(log));
        if let Err(errno) = done {
            fail("stdio", errno as i32);
        }
    }
    // Everything else is closed by exec; the report too, which tells the launcher that it happened.
    if let Err(error) = sys::process::close_range_from(3, true) {
        fail("close_range", error.raw_os_error().unwrap_or(libc::EIO));
    }
    let failed = |stage: &str, Failed { what, source }: Failed| -> ! {
        if let Some(report) = report {
            let errno = source.raw_os_error().unwrap_or(libc::EIO);
            let _ = Report::Failed { stage: stage.into(), what, errno }.send(report, &[]);
        }
        sys::process::exit_now(1)
    };
    // Only now: what the launcher had open for other sandboxes, and this process with it, may be more than a function may
    // have.
    if let Err(error) = set_rlimits() {
        failed("rlimits", error);
    }
    sys::process::reset_signals();
    let (told, image) = match (spec.held, report) {
        (true, Some(report)) => match held::wait(report, &spec.cwd) {
            Ok(told) => told,
            Err(error) => failed("held", error),
        },
        _ => (held::Start { argv_any: spec.argv_any.clone(), env: spec.env.clone() }, None),
    };
    if spec.held {
        let laid_out = match image {
            Some(_) => held::lay_out_for_image(),
            None => sys::snapshot::set_random_layout(true),
        };
        if let Err(source) = laid_out {
            failed("layout", Failed { what: "the address space".into(), source });
        }
    }
    let environment: Vec<CString> =
        told.env.iter().filter_map(|(k, v)| CString::new(format!("{k}={v}")).ok()).collect();
    if let Some(image) = image {
        let argv = told.argv_any.first().map(Vec::as_slice).unwrap_or_default();
        let arguments: Vec<CString> =
            argv.iter().filter_map(|a| CString::new(a.as_str()).ok()).collect();
        let error = sys::snapshot::execute_image(image.as_fd(), &arguments, &environment);
        fail("the image", error.raw_os_error().unwrap_or(libc::EIO));
    }
    let path = told
        .env
        .iter()
        .find(|(k, _)| k == "PATH")
        .map_or("/usr/local/bin:/usr/bin:/bin", |(_, v)| v);
    let mut last = (String::new(), libc::ENOENT);
    for argv in &told.argv_any {
        let Some(name) = argv.first() else { continue };
        let arguments: Vec<CString> =
            argv.iter().filter_map(|a| CString::new(a.as_str()).ok()).collect();
        let candidates: Vec<String> = if name.contains('/') {
            vec![name.clone()]
        } else {
            path.split(':').map(|folder| format!("{folder}/{name}")).collect()
        };
        last = (name.clone(), libc::ENOENT);
        for candidate in candidates {
            let Ok(program) = CString::new(candidate) else { continue };
            let errno = sys::process::execve(&program, &arguments, &environment).raw_os_error();
            match errno {
                Some(libc::ENOENT | libc::ENOTDIR) | None => {}
                Some(errno) => {
                    last.1 = errno;
                    break;
                }
            }
        }
        if last.1 != libc::ENOENT {
            break;
        }
    }
    fail(&last.0, last.1)
}
