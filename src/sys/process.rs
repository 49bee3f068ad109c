//! Processes: clone3, pidfds, exec, prctl.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use super::check;

/// `struct clone_args` as of Linux 5.7, the version that brought `cgroup`.
///
/// Source: clone3(2), `linux/sched.h`.
#[repr(C)]
#[derive(Debug, Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Which side of [`clone3`] a caller is on.
#[derive(Debug)]
pub enum Cloned {
    /// The new process.
    Child,
    /// The caller, with the new process's pid (in the caller's pid namespace) and a descriptor for it.
    Parent { pid: libc::pid_t, pidfd: OwnedFd },
}

/// Makes a child in the namespaces of `flags` (`CLONE_NEW…`), inside the cgroup v2 folder behind `cgroup`.
///
/// The child has a copy of the caller's memory, as after fork(2).
///
/// # Safety
/// No other thread exists in the calling process: the child goes on running ordinary Rust code, and a lock
/// that another thread held would never be released there.
///
/// # Errors
/// clone3(2)'s; `EBADF` for a cgroup v1 folder.
///
/// Source: clone3(2), Linux 5.3; `CLONE_INTO_CGROUP` 5.7.
pub unsafe fn clone3(flags: libc::c_int, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: u64::from(flags.cast_unsigned()) | libc::CLONE_PIDFD as u64,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(fd) = cgroup {
        args.flags |= 0x2_0000_0000; // CLONE_INTO_CGROUP: beyond 32 bits, so not in `libc` as c_int
        args.cgroup = fd.as_raw_fd().cast_unsigned().into();
    }
    // SAFETY: `args` and `pidfd` live on this stack over the call, and the size given is that of `args`.
    // Without CLONE_VM the child has its own copy of both. The caller vouches for there being one thread.
    let ret = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    match check(ret)? {
        0 => Ok(Cloned::Child),
        pid => {
            // SAFETY: the kernel has just written a new descriptor, owned by nobody else, to `pidfd`.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent { pid: libc::pid_t::try_from(pid).unwrap_or(-1), pidfd })
        }
    }
}

/// Forks.
///
/// # Safety
/// No other thread exists in the calling process; see [`clone3`].
///
/// Source: fork(2).
pub unsafe fn fork() -> io::Result<Option<libc::pid_t>> {
    // SAFETY: the caller vouches for there being one thread.
    let pid = unsafe { libc::fork() };
    match check(pid.into())? {
        0 => Ok(None),
        _ => Ok(Some(pid)),
    }
}

/// Sends `signal` to the process behind `pidfd`.
///
/// A pidfd, unlike a pid, cannot come to mean another process after the first one is reaped.
///
/// # Errors
/// `ESRCH` once the process has been reaped; callers that only want it gone treat it as success.
///
/// Source: pidfd_send_signal(2), Linux 5.1.
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: libc::c_int) -> io::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: `pidfd` stays open while borrowed. A null siginfo is allowed and makes the kernel fill one in
    // as for kill(2), so no memory of ours is read. Flags must be 0.
    let ret = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, no_info, 0)
    };
    check(ret).map(drop)
}

/// How a process ended, with the CPU time of itself and of all its reaped descendants.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    pub status: ExitStatus,
    pub cpu_time: std::time::Duration,
    /// Largest resident set of any single process in it, in KiB.
    pub max_rss_kib: u64,
}

/// A process's end, as wait(2) tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ExitStatus {
    Exited(i32),
    Signaled(i32),
}

impl ExitStatus {
    /// Decodes wait(2)'s status word.
    pub fn from_wait(status: libc::c_int) -> Self {
        if libc::WIFSIGNALED(status) {
            Self::Signaled(libc::WTERMSIG(status))
        } else {
            Self::Exited(libc::WEXITSTATUS(status))
        }
    }

    /// The status a shell would give: 128 + signal for a killed process.
    pub fn code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Signaled(signal) => 128 + signal,
        }
    }
}

/// Waits for the child `pid` to end and reaps it.
///
/// # Errors
/// `ECHILD` when it is no child of this process.
///
/// Source: wait4(2).
pub fn wait4(pid: libc::pid_t) -> io::Result<Ended> {
    let mut status = 0;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    loop {
        // SAFETY: both pointers are to live memory of the types wanted.
        let ret = unsafe { libc::wait4(pid, &raw mut status, 0, usage.as_mut_ptr()) };
        match check(ret.into()) {
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    // SAFETY: zeroed at first (a valid rusage, all integers) and then filled in by the kernel.
    let usage = unsafe { usage.assume_init() };
    let micros = |t: libc::timeval| u64::try_from(t.tv_sec * 1_000_000 + t.tv_usec).unwrap_or(0);
    Ok(Ended {
        status: ExitStatus::from_wait(status),
        cpu_time: std::time::Duration::from_micros(micros(usage.ru_utime) + micros(usage.ru_stime)),
        max_rss_kib: u64::try_from(usage.ru_maxrss).unwrap_or(0),
    })
}

/// Reaps the child `pid` if it has ended. True as well where it is no child of this process: there is nothing to reap.
pub fn reaped(pid: libc::pid_t) -> bool {
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    !matches!(
        waitpid(nix::unistd::Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)),
        Ok(WaitStatus::StillAlive)
    )
}

/// Reaps any child, blocking; the pid and its status.
///
/// # Errors
/// `ECHILD` when there is none left.
pub fn wait_any() -> io::Result<(libc::pid_t, ExitStatus)> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is live and of the type wanted.
        let ret = unsafe { libc::waitpid(-1, &raw mut status, 0) };
        match check(ret.into()) {
            Ok(_) => return Ok((ret, ExitStatus::from_wait(status))),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Ends the process at once, with no destructor and no exit handler.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: never returns; takes no pointer.
    unsafe { libc::_exit(code) }
}

/// Replaces the process image; returns only when that failed.
///
/// Source: execve(2).
pub fn execve(program: &CString, argv: &[CString], envp: &[CString]) -> io::Error {
    let null_terminated = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv, envp) = (null_terminated(argv), null_terminated(envp));
    // SAFETY: NUL-terminated strings and null-terminated arrays of them, alive over the call.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error()
}

/// Closes (or marks close-on-exec) every descriptor from `first` on.
///
/// Source: close_range(2), Linux 5.9; `CLOSE_RANGE_CLOEXEC` 5.11.
pub fn close_range_from(first: libc::c_uint, cloexec: bool) -> io::Result<()> {
    let flags = if cloexec { libc::CLOSE_RANGE_CLOEXEC } else { 0 };
    // SAFETY: no pointers. Callers give up every `OwnedFd` from `first` on: they exec or _exit next.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, flags) })
        .map(drop)
}

/// Closes every descriptor from 3 on but `kept`.
///
/// For a process that ends without a destructor: its other `OwnedFd`s name nothing afterwards.
///
/// # Errors
/// close_range(2)'s.
pub fn close_all_from_3_but_these(kept: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut kept: Vec<_> = kept.iter().map(|fd| fd.as_raw_fd().cast_unsigned()).collect();
    kept.sort_unstable();
    let mut first = 3;
    for last in kept.iter().copied().chain([libc::c_uint::MAX]) {
        let end = if last == libc::c_uint::MAX { last } else { last.saturating_sub(1) };
        if first <= end {
            // SAFETY: no pointers. The caller gives up every `OwnedFd` in the range.
            check(unsafe { libc::syscall(libc::SYS_close_range, first, end, 0) })?;
        }
        first = first.max(last.saturating_add(1));
    }
    Ok(())
}

/// Closes every descriptor from 3 on but `kept`, which keeps its number and is closed by exec.
///
/// For a process that execs next or ends: its other `OwnedFd`s name nothing afterwards.
///
/// # Errors
/// close_range(2)'s.
pub fn close_all_from_3_but(kept: BorrowedFd<'_>) -> io::Result<()> {
    let kept = libc::c_uint::try_from(kept.as_raw_fd()).map_err(io::Error::other)?;
    close_range_from(3, true)?;
    for (first, last) in [(3, kept.saturating_sub(1)), (kept.max(2) + 1, libc::c_uint::MAX)] {
        if first <= last {
            // SAFETY: no pointers. The caller gives up every `OwnedFd` in the range.
            check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
        }
    }
    Ok(())
}

/// Closes every descriptor but `fd`, which becomes number 0.
///
/// For a process that goes on with nothing else: its other `OwnedFd`s name nothing afterwards.
///
/// # Errors
/// dup2(2)'s, close_range(2)'s.
pub fn keep_only(fd: OwnedFd) -> io::Result<OwnedFd> {
    let raw = fd.into_raw_fd();
    if raw != 0 {
        // SAFETY: no pointers; 0 is closed by it, and nothing here uses it again.
        check(unsafe { libc::dup2(raw, 0) }.into())?;
    }
    close_range_from(1, false)?;
    // SAFETY: 0 is the copy made above, and no other value owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(0) })
}

/// prctl(2) with one integer argument.
fn prctl1(option: libc::c_int, value: libc::c_ulong) -> io::Result<()> {
    // SAFETY: the options used below take integers only; unused arguments must be 0 and are.
    check(unsafe { libc::prctl(option, value, 0, 0, 0) }.into()).map(drop)
}

/// Has the kernel send `signal` to this process when the thread that made it ends.
///
/// Cleared by a change of credentials: call it last. Source: PR_SET_PDEATHSIG(2const).
pub fn set_parent_death_signal(signal: libc::c_int) -> io::Result<()> {
    prctl1(libc::PR_SET_PDEATHSIG, signal.cast_unsigned().into())
}

/// Says whether `/proc/PID` belongs to the process's own user, and whether it can be traced.
///
/// Source: PR_SET_DUMPABLE(2const).
pub fn set_dumpable(dumpable: bool) -> io::Result<()> {
    prctl1(libc::PR_SET_DUMPABLE, dumpable.into())
}

/// Drops every capability that the kernel has from the bounding set.
///
/// # Errors
/// `EPERM` without `CAP_SETPCAP`.
///
/// Source: PR_CAPBSET_DROP(2const): `EINVAL` says that there is no such capability, so none beyond it.
pub fn empty_bounding_set() -> io::Result<()> {
    for capability in 0..64 {
        match prctl1(libc::PR_CAPBSET_DROP, capability) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && capability > 0 => break,
            other => other?,
        }
    }
    Ok(())
}

/// Names the process for ps(1); at most 15 bytes count.
pub fn set_name(name: &std::ffi::CStr) -> io::Result<()> {
    // SAFETY: a NUL-terminated string, read during the call.
    check(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) }.into()).map(drop)
}

/// Raises the nice value of the calling thread, and of it alone, to `nice`, 1 to 19. Needs no privilege.
///
/// Source: setpriority(2), "C library/kernel differences": on Linux nice values belong to threads.
pub fn stand_back(nice: libc::c_int) -> io::Result<()> {
    // SAFETY: takes numbers only; 0 is the calling thread.
    check(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) }.into()).map(drop)
}

/// Makes the process's descendants its own children when their parents end.
pub fn set_child_subreaper() -> io::Result<()> {
    prctl1(libc::PR_SET_CHILD_SUBREAPER, 1)
}

/// Keeps permitted capabilities over the next change of user id.
///
/// Source: PR_SET_KEEPCAPS(2const).
pub fn set_keep_capabilities() -> io::Result<()> {
    prctl1(libc::PR_SET_KEEPCAPS, 1)
}

/// Writes zeroes over the environment that the kernel shows at `/proc/PID/environ`.
///
/// The strings are gone for this process afterwards: `std::env` finds none of the old ones.
///
/// # Safety
/// No other thread reads the environment.
pub unsafe fn scrub_environment() {
    unsafe extern "C" {
        static mut environ: *mut *mut libc::c_char;
    }
    // SAFETY: one thread, so nobody changes the pointer under us.
    let mut entry = unsafe { environ };
    while !entry.is_null() {
        // SAFETY: inside the null-terminated array.
        let text = unsafe { *entry };
        if text.is_null() {
            break;
        }
        // SAFETY: a NUL-terminated string that the environment owns.
        let length = unsafe { libc::strlen(text) };
        // SAFETY: exactly the string's own bytes, which are writable: the kernel puts them on the stack,
        // and setenv(3) on the heap.
        unsafe { std::ptr::write_bytes(text, 0, length) };
        // SAFETY: at most one past the last entry, which is the null that ends the loop.
        entry = unsafe { entry.add(1) };
    }
    // SAFETY: clearenv has no preconditions beyond one thread.
    unsafe { libc::clearenv() };
}

/// Unblocks every signal and gives each its default action, as a fresh program expects.
pub fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL is a valid action for every signal; those that refuse (9, 19, 32, 33) say EINVAL.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let mut none = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: points to memory for one set.
    unsafe { libc::sigemptyset(none.as_mut_ptr()) };
    // SAFETY: the set was initialised by the line above; the old mask is not wanted.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut()) };
}

/// Bytes waiting in a pipe or socket. Source: FIONREAD(2const).
pub fn bytes_waiting(fd: BorrowedFd<'_>) -> io::Result<usize> {
    let mut waiting: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int, which `waiting` is.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONREAD, &raw mut waiting) }.into())?;
    Ok(usize::try_from(waiting).unwrap_or(0))
}

/// Whether this process runs with root's effective uid.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// [`clone3`] for a process that checked that it has one thread.
///
/// # Errors
/// clone3(2)'s; `EINVAL` when there is more than one thread.
pub fn clone3_single_threaded(
    flags: libc::c_int,
    cgroup: Option<BorrowedFd<'_>>,
) -> io::Result<Cloned> {
    OneThread::check()?;
    // SAFETY: no other thread exists, as was just seen.
    unsafe { clone3(flags, cgroup) }
}

/// [`fork`] for a process that checks that it has one thread.
///
/// # Errors
/// fork(2)'s; `EINVAL` when there is more than one thread.
pub fn fork_single_threaded() -> io::Result<Option<libc::pid_t>> {
    fork_alone(OneThread::check()?)
}

/// [`fork`] for a process that checked that it has one thread, and started none since.
///
/// # Errors
/// fork(2)'s.
pub fn fork_alone(_: OneThread) -> io::Result<Option<libc::pid_t>> {
    // SAFETY: no other thread exists, as the caller has seen.
    unsafe { fork() }
}

/// Starts `child` in a process that borrows this one's memory, on a stack of its own, until it execs or ends.
///
/// As vfork(2): this process stands still meanwhile, and nothing is copied only to be thrown away at the exec. What the
/// child allocates or changes in memory stays; descriptors, signal actions and the rest of the process are its own.
///
/// # Errors
/// clone(2)'s.
pub fn start_alone<F: FnOnce() -> libc::c_int>(_: OneThread, child: F) -> io::Result<libc::pid_t> {
    extern "C" fn run<F: FnOnce() -> libc::c_int>(child: *mut libc::c_void) -> libc::c_int {
        let child: *mut Option<F> = child.cast();
        // SAFETY: the pointer is to the local of `start_alone`, which waits in clone until we are done.
        let child = unsafe { &mut *child }.take();
        child.map_or(1, |child| child())
    }
    let mut stack = child_stack();
    let top = stack.spare_capacity_mut().as_mut_ptr_range().end;
    let mut child = Some(child);
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: CLONE_VFORK keeps this thread, the only one, in the kernel until the child has exec'd or ended, so the
    // child alone uses this memory, and `stack` and `child` outlive its use of them. The stack's top is aligned to 16.
    let pid = unsafe { libc::clone(run::<F>, top.cast(), flags, (&raw mut child).cast()) };
    check(pid.into()).map(|_| pid)
}

/// Ends this process with `code`, while `rest` runs in a new one that takes its memory over.
///
/// For whoever is waited for, and has work left that nobody should wait for. After fork(2) the memory would be copied for
/// the new process, and taken down for the old one, before that one has ended. Where there can be no process, or this one
/// has more than one thread, `rest` runs before the end. Descriptors are the new process's own.
pub fn exit_and_go_on<F: FnOnce()>(code: libc::c_int, rest: F) -> ! {
    extern "C" fn run<F: FnOnce()>(rest: *mut libc::c_void) -> libc::c_int {
        let rest: *mut Option<F> = rest.cast();
        // SAFETY: the pointer is to the local of `exit_and_go_on`, which is never returned from: its process only exits.
        if let Some(rest) = unsafe { &mut *rest }.take() {
            rest();
        }
        exit_now(0)
    }
    let mut stack = child_stack();
    let top = stack.spare_capacity_mut().as_mut_ptr_range().end;
    let mut rest = Some(rest);
    if OneThread::check().is_ok() {
        let flags = libc::CLONE_VM | libc::SIGCHLD;
        // SAFETY: the two processes share the memory only while this one, which has no other thread, makes its way from
        // clone to _exit, two system calls that use nothing but registers and this stack. `stack` and `rest` are locals of
        // a frame that is never left. The stack's top is aligned to 16.
        let pid = unsafe { libc::clone(run::<F>, top.cast(), flags, (&raw mut rest).cast()) };
        if pid > 0 {
            exit_now(code);
        }
    }
    if let Some(rest) = rest.take() {
        rest();
    }
    exit_now(code)
}

/// Memory for the stack of a process that shares ours; only what is touched gets pages.
fn child_stack() -> Vec<std::mem::MaybeUninit<u128>> {
    const BYTES: usize = 256 << 10;
    Vec::with_capacity(BYTES / size_of::<u128>())
}

/// Says that the calling process had one thread when it was asked. For one that starts none that is good for its life.
#[derive(Debug, Clone, Copy)]
pub struct OneThread(());

impl OneThread {
    /// # Errors
    /// `EINVAL` when there is more than one thread.
    ///
    /// Source: unshare(2): for `CLONE_THREAD` it checks that, and does nothing.
    pub fn check() -> io::Result<Self> {
        // SAFETY: takes no pointer, and this flag changes nothing.
        check(unsafe { libc::unshare(libc::CLONE_THREAD) }.into()).map(|_| Self(()))
    }
}

/// Leaves SIGINT, SIGTERM, SIGHUP and SIGQUIT to another process of the group.
pub fn ignore_terminal_signals() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT] {
        // SAFETY: SIG_IGN is a valid action for each of these.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// [`scrub_environment`] for a process that checked that it has one thread; does nothing otherwise.
pub fn scrub_environment_single_threaded() {
    if OneThread::check().is_ok() {
        // SAFETY: no other thread exists, as was just seen.
        unsafe { scrub_environment() };
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::time::{Duration, Instant};

    use super::*;

    /// What `child` makes of a process that is a copy of this one, with its one thread: its exit status.
    fn in_a_copy(child: impl FnOnce() -> libc::c_int) -> ExitStatus {
        // SAFETY: the harness has other threads. None of the locks that the children below take can be held by one: they
        // make system calls, and the allocator is made ready for a fork by libc.
        match unsafe { fork() }.unwrap() {
            Some(pid) => wait4(pid).unwrap().status,
            None => exit_now(child()),
        }
    }

    #[test]
    fn one_thread_is_told_from_several() {
        let other = std::thread::spawn(std::thread::park);
        let refused = OneThread::check().unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EINVAL));
        assert!(fork_single_threaded().is_err());
        let alone = in_a_copy(|| OneThread::check().is_err().into());
        assert_eq!(alone, ExitStatus::Exited(0));
        other.thread().unpark();
        other.join().unwrap();
    }

    #[test]
    fn who_waits_for_the_one_that_exits_does_not_wait_for_the_rest() {
        let (mut reader, writer) = io::pipe().unwrap();
        let text = String::from("done");
        let rest = Duration::from_secs(1);
        let began = Instant::now();
        let status = in_a_copy(|| {
            // Locks of other tests must not live on in it.
            let _ = close_all_from_3_but(writer.as_fd());
            exit_and_go_on(7, || {
                std::thread::sleep(rest);
                let _ = nix::unistd::write(&writer, text.as_bytes());
            })
        });
        assert_eq!(status, ExitStatus::Exited(7));
        assert!(began.elapsed() < rest, "it waited for the rest");
        drop(writer);
        let mut got = String::new();
        reader.read_to_string(&mut got).unwrap();
        assert_eq!(got, text, "the memory of the one that exited is the other's");
    }
}
