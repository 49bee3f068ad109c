//! Images of programs: a booted, stopped interpreter is written down as a program that goes on where it stopped.
//!
//! Whoever [`take`]s one is root and traces the stopped process for a moment. Whoever restores one needs no privilege:
//! an image is an ordinary static program, which execve(2) starts inside a sandbox that is complete, with all its
//! walls. Its pages belong to the file, so all that restore it share those that they do not write.
//!
//! # What comes back
//!
//! Memory, at the same addresses and with the same protections; registers of the one thread; what the kernel knows of
//! the thread (its storage, robust futexes, restartable sequences, name). The main thread's stack grows as before, and
//! brk(2) moves the heap's end as before. Descriptors are those of the new process: the program may have had 0, 1 and
//! 2 alone. Not so signal actions, which a program that stops for this puts back by itself, and memory that the C
//! library asked never to be copied (state of its random numbers), which comes back empty.
//!
//! # Layout
//!
//! The program that is written down was laid out at random; its restored copies share that layout, and what they map
//! later lies at a random place of each copy's own ([`LAYOUT`]). What they start is laid out at random as ever.

#![forbid(unsafe_code)]

mod image;
mod maps;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub use image::MAX_BYTES;

use crate::sys;
use crate::sys::snapshot::Traced;
use image::State;

/// How far below the top of the address space a restored program's new mappings begin, at least, and how much more by
/// chance at most; given to execve(2) as the size that the stack may grow to, which is kept free above them. The least
/// keeps them clear of the image's own stack.
pub const LAYOUT: (u64, u64) = (32 << 30, 1 << 40);

/// How often is looked whether a program has stopped.
const POLL: Duration = Duration::from_millis(2);

#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("images cannot be made for this processor")]
    Processor,
    #[error("the program did not stop within {} s", limit.as_secs())]
    NotStopped { limit: Duration },
    #[error("the program ended before it stopped")]
    Ended,
    /// Files of `/proc/PID`.
    #[error("cannot read `{path}`")]
    Proc { path: PathBuf, source: io::Error },
    /// ptrace(2).
    #[error("cannot trace the program")]
    Trace { source: io::Error },
    #[error("the program is not where it should have stopped: {what}")]
    State { what: String },
    #[error("the mapping `{line}` cannot be kept: {why}")]
    Mapping { line: String, why: &'static str },
    #[error("the program's memory cannot be laid out again: {why}")]
    Layout { why: &'static str },
    #[error("cannot read the program's memory at {start:#x}")]
    Memory { start: u64, source: io::Error },
    #[error("the image would be over {} MiB, or of too many mappings", MAX_BYTES >> 20)]
    TooLarge,
    #[error("cannot write the image")]
    Write { source: io::Error },
}

/// Writes the image of the only child of `parent` into an empty `file`, once that child has stopped itself by SIGSTOP,
/// for which it has `limit`. How long the image is. The child dies with the calling process.
///
/// # Errors
/// A program that is not as an image needs it, by what it lacks; the kernel's refusals.
pub fn take(parent: libc::pid_t, file: &File, limit: Duration) -> Result<u64, SnapshotError> {
    if !sys::snapshot::IS_SUPPORTED {
        return Err(SnapshotError::Processor);
    }
    let until = Instant::now() + limit;
    let pid = loop {
        match stopped_child(parent)? {
            Some(pid) => break pid,
            None if Instant::now() > until => return Err(SnapshotError::NotStopped { limit }),
            None => std::thread::sleep(POLL),
        }
    };
    let trace = |source| SnapshotError::Trace { source };
    let traced = Traced::seize_stopped(pid).map_err(trace)?;
    let process = Process { pid };
    let state = process.state(&traced)?;
    let areas = maps::parse(&process.text("smaps")?)?;
    let memory = process.path("mem");
    let memory =
        File::open(&memory).map_err(|source| SnapshotError::Proc { path: memory, source })?;
    check_instruction(&memory, &state)?;
    image::write(file, &memory, &areas, &state)
}

/// The only child of `parent`, where it has stopped.
fn stopped_child(parent: libc::pid_t) -> Result<Option<libc::pid_t>, SnapshotError> {
    let path = PathBuf::from(format!("/proc/{parent}/task/{parent}/children"));
    let children = match fs::read_to_string(&path) {
        Ok(children) => children,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(SnapshotError::Ended),
        Err(source) => return Err(SnapshotError::Proc { path, source }),
    };
    let mut children = children.split_whitespace();
    let (Some(child), None) = (children.next(), children.next()) else {
        return Err(SnapshotError::Ended);
    };
    let Ok(pid) = child.parse() else { return Err(SnapshotError::Ended) };
    let stat = Process { pid }.text("stat")?;
    // The name before may hold anything but a last `)`.
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().next());
    Ok((state == Some("T")).then_some(pid))
}

/// A process, by its files.
struct Process {
    pid: libc::pid_t,
}

impl Process {
    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.pid))
    }

    fn text(&self, name: &str) -> Result<String, SnapshotError> {
        let path = self.path(name);
        let text = fs::read(&path).map_err(|source| SnapshotError::Proc { path, source })?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    fn names(&self, folder: &str) -> Result<Vec<String>, SnapshotError> {
        let path = self.path(folder);
        let failed = |source| SnapshotError::Proc { path: path.clone(), source };
        let mut names = Vec::new();
        for entry in fs::read_dir(&path).map_err(failed)? {
            names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    /// All but memory, which must be as of a program that has nothing that an image cannot hold.
    fn state(&self, traced: &Traced) -> Result<State, SnapshotError> {
        let trace = |source| SnapshotError::Trace { source };
        let status = self.text("status")?;
        let field = |name: &str| {
            let mut lines =
                status.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            lines.next().unwrap_or_default().trim()
        };
        let mask = |name: &str| u64::from_str_radix(field(name), 16).unwrap_or(u64::MAX);
        let bit = |signal: libc::c_int| 1_u64 << (signal - 1);
        let pid = field("NSpid").split_whitespace().next_back().and_then(|pid| pid.parse().ok());
        let registers = traced.registers().map_err(trace)?;
        let (x87, sse) = registers.float_control;
        // Its own call of kill(2), done.
        let stopped = [registers.orig_rax, registers.rax, registers.rdi, registers.rsi];
        let wanted = [libc::SYS_kill as u64, 0, pid.unwrap_or(0), libc::SIGSTOP as u64];
        let only = |got: Vec<String>, wanted: &[&str]| (got != wanted).then(|| format!("{got:?}"));
        // The last two are the C library's own, which lets nobody change them: as they came from whoever started
        // Kennel.
        let ignored = bit(libc::SIGPIPE) | bit(libc::SIGXFSZ) | bit(32) | bit(33);
        for (what, wrong) in [
            ("threads", only(self.names("task")?, &[&self.pid.to_string()])),
            ("descriptors", only(self.names("fd")?, &["0", "1", "2"])),
            ("system call", (stopped != wanted).then(|| format!("{stopped:?}"))),
            ("blocked signals", (mask("SigBlk") != 0).then(|| field("SigBlk").into())),
            ("waiting signals", (mask("SigPnd") | mask("ShdPnd") != 0).then(String::new)),
            (
                "caught signals",
                (mask("SigCgt") & !bit(libc::SIGINT) != 0).then(|| field("SigCgt").into()),
            ),
            ("ignored signals", (mask("SigIgn") & !ignored != 0).then(|| field("SigIgn").into())),
            ("shadow stack", (!field("x86_Thread_features").is_empty()).then(String::new)),
            (
                "floating point",
                ((x87, sse & !0x3f) != (0x37f, 0x1f80)).then(|| format!("{x87:#x} {sse:#x}")),
            ),
            ("gs", (registers.gs_base != 0).then(String::new)),
        ] {
            if let Some(wrong) = wrong {
                return Err(SnapshotError::State { what: format!("{what} {wrong}") });
            }
        }
        let robust_list = traced.robust_list().map_err(trace)?;
        Ok(State {
            registers,
            rseq: traced.rseq().map_err(trace)?,
            robust_list,
            clear_tid: self.clear_tid(robust_list.0, wanted[2]),
            stack_limit: self.stack_limit()?,
            pid: wanted[2],
            name: self.text("comm")?.trim_end().bytes().take(15).collect(),
        })
    }

    /// The soft and the hard limit of its stack. Not by prlimit(2), which asks for a capability more.
    fn stack_limit(&self) -> Result<(u64, u64), SnapshotError> {
        let limits = self.text("limits")?;
        let line = limits.lines().find_map(|line| line.strip_prefix("Max stack size"));
        let mut words = line.unwrap_or_default().split_whitespace().map(|word| match word {
            "unlimited" => Some(libc::RLIM_INFINITY),
            number => number.parse().ok(),
        });
        match (words.next().flatten(), words.next().flatten()) {
            (Some(soft), Some(hard)) => Ok((soft, hard)),
            _ => Err(SnapshotError::State { what: "the limit of its stack".into() }),
        }
    }

    /// Where the GNU C library has the thread's id, which the kernel clears at its end: 16 bytes before the list of
    /// robust futexes. Other libraries do without: nobody waits for a main thread's end.
    fn clear_tid(&self, robust_list: u64, pid: u64) -> Option<u64> {
        let at = robust_list.checked_sub(16)?;
        let mut word = [0; 4];
        File::open(self.path("mem")).ok()?.read_exact_at(&mut word, at).ok()?;
        (u64::from(u32::from_le_bytes(word)) == pid).then_some(at)
    }
}

/// The restorer's last call is made by the program's own instruction.
fn check_instruction(memory: &File, state: &State) -> Result<(), SnapshotError> {
    const SYSCALL: [u8; 2] = [0x0f, 0x05];
    let start = state.registers.rip.wrapping_sub(2);
    let mut found = [0; 2];
    let read = memory.read_exact_at(&mut found, start);
    read.map_err(|source| SnapshotError::Memory { start, source })?;
    if found == SYSCALL {
        return Ok(());
    }
    Err(SnapshotError::State { what: format!("the instruction {found:x?}") })
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, AsRawFd};
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A shell as the first process of a pid namespace, and what it runs as the second.
    fn inside(script: &str) -> Child {
        let arguments = ["--pid", "--fork", "bash", "-c", script];
        let mut command = Command::new("unshare");
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(Stdio::piped()).spawn().unwrap()
    }

    #[test]
    fn a_python_goes_on_where_it_stopped_as_often_as_wanted() {
        let python = Command::new("python3").arg("--version").output();
        if !sys::process::is_root() || !sys::snapshot::IS_SUPPORTED || python.is_err() {
            println!(
                "skipped: needs root, an x86-64 processor, python3, unshare, bash and setarch"
            );
            return;
        }
        let program = "
import os, sys, time
kept = [bytes([n % 251]) * 300 for n in range(5000)]
os.closerange(3, 4096)
before = time.time()
os.kill(os.getpid(), 19)
def deep(n):
    return n and deep(n - 1) + 1
sys.setrecursionlimit(20000)
big = bytearray(50 << 20); big[-1] = 1
more = [str(n) * 20 for n in range(100000)]
child = os.fork()
if child == 0:
    os._exit(7)
status = os.waitpid(child, 0)[1] >> 8
import json, threading, subprocess
ran = []
thread = threading.Thread(target=lambda: ran.append(1)); thread.start(); thread.join()
echo = subprocess.check_output(['echo', 'hello']).decode().strip()
maps = open('/proc/self/maps').read()
print(json.dumps([all(k == bytes([n % 251]) * 300 for n, k in enumerate(kept)), deep(15000), status, ran, echo,
    time.time() > before, '00200000' in maps, len(more)]))
";
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("program.py");
        fs::write(&script, program).unwrap();
        let command = format!("python3 -S {} </dev/null; echo $?", script.display());
        let mut source = inside(&command);
        let unshare = source.id();
        let shell = || -> Option<libc::pid_t> {
            let path = format!("/proc/{unshare}/task/{unshare}/children");
            fs::read_to_string(path).ok()?.trim().parse().ok()
        };
        let until = Instant::now() + Duration::from_secs(10);
        let parent = loop {
            match shell() {
                Some(pid) if stopped_child(pid).is_ok_and(|c| c.is_some()) => break pid,
                _ if Instant::now() > until => panic!("it does not stop"),
                _ => std::thread::sleep(POLL),
            }
        };
        let file = File::from(sys::snapshot::executable_memory_file(c"image").unwrap());
        let length = take(parent, &file, Duration::from_secs(10)).unwrap();
        assert!((1 << 20..MAX_BYTES).contains(&length), "{length}");
        sys::snapshot::seal(file.as_fd()).unwrap();
        source.kill().unwrap();
        source.wait().unwrap();
        assert!(sys::snapshot::is_sealed(file.as_fd()));
        let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        for _ in 0..3 {
            let script = format!("exec 1000<{path}; setarch -R /proc/self/fd/1000; echo $?");
            let output = inside(&script).wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            let wanted = "[true, 15000, 7, [1], \"hello\", true, false, 100000]\n0\n";
            assert_eq!(said, wanted, "{}", String::from_utf8_lossy(&output.stderr));
        }
    }
}
