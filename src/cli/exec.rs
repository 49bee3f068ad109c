//! `kennel exec`: any command of this host in the very same sandbox.
//!
//! Nothing untrusted is parsed here, so this process is the launcher itself.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::invoke::parse_degraded;
use super::output::{Chain, print_failure};
use super::{Failure, parse_env};
use crate::invoke::{DEFAULT_MEMORY_MB, DEFAULT_PIDS};
use crate::sandbox::{
    self, Doors, Layout, Limits, MemoryMib, MilliCpu, Mount, Network, SandboxSpec, Source, Stdio,
    read_status,
};
use crate::sys::process::ExitStatus;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Memory in MB, 128 to 10240; CPU comes in proportion, one core at 1769
    #[arg(long, default_value_t = DEFAULT_MEMORY_MB)]
    memory: u32,
    /// Seconds until everything is killed; no limit by default
    #[arg(long)]
    timeout: Option<u64>,
    /// Most processes and threads
    #[arg(long, default_value_t = DEFAULT_PIDS, value_parser = clap::value_parser!(u32).range(1..=32_768))]
    pids: u32,
    /// Size of /tmp in MB, 16 to 10240
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(16..=10_240))]
    tmp: u32,
    /// Host file or folder to show read-only at the same place; may be given again
    #[arg(long = "ro", value_name = "PATH")]
    ro: Vec<PathBuf>,
    /// Variable for the command; may be given again
    #[arg(long = "env", value_name = "KEY=VALUE", value_parser = parse_env)]
    env: Vec<(String, String)>,
    /// Network: none (loopback alone), or host
    #[arg(long, default_value = "none", value_parser = ["none", "host"])]
    network: String,
    /// Protections that may be weaker than designed, separated by commas
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    allow_degraded: Vec<String>,
    /// Print a receipt as one line of JSON on stderr
    #[arg(long)]
    json: bool,
    /// Command and its arguments
    #[arg(required = true, trailing_var_arg = true)]
    command: Vec<String>,
}

/// timeout(1)'s status for a command that ran out of time.
const EXIT_TIMEOUT: u8 = 124;

pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let memory = MemoryMib::new(args.memory).map_err(Failure::usage)?;
    let allow_degraded = parse_degraded(&args.allow_degraded)?;
    let mut mounts = Vec::new();
    for path in &args.ro {
        let absolute = std::path::absolute(path)
            .with_context(|| format!("cannot resolve `{}`", path.display()));
        let target = absolute.map_err(Failure::usage)?;
        let reserved = ["/", "/proc", "/dev", "/tmp", "/etc", "/run"];
        if reserved.iter().any(|r| target.as_os_str() == *r) || target.starts_with("/proc") {
            let error =
                anyhow!("`{}` cannot be shown in the sandbox, which has its own", target.display());
            return Err(Failure::usage(error).hint("name a folder or file beneath it"));
        }
        let source = std::fs::canonicalize(&target)
            .with_context(|| format!("cannot show `{}` in the sandbox", path.display()))
            .map_err(Failure::usage)?;
        mounts.push(Mount { source: Source::Bind(source), target });
    }
    let mut env: Vec<(String, String)> = vec![
        ("PATH".into(), "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin".into()),
        ("HOME".into(), "/tmp".into()),
        ("LANG".into(), "C.UTF-8".into()),
    ];
    for (key, value) in args.env {
        env.retain(|(k, _)| *k != key);
        env.push((key, value));
    }
    let spec = SandboxSpec {
        env,
        mounts,
        tmp_mib: args.tmp,
        limits: Limits { memory, cpu: MilliCpu::for_memory(memory), pids: args.pids },
        network: if args.network == "host" { Network::Host } else { Network::Loopback },
        doors: Doors::None,
        stdio: Stdio::Inherit,
        allow_degraded,
        ..SandboxSpec::new(vec![args.command.clone()], memory)
    };
    let began = Instant::now();
    let layout = Layout::detect_ready(&spec.allow_degraded).map_err(Failure::host)?;
    // A sandbox's init copies this process's memory: the caller's secrets must not be in it.
    crate::sys::process::scrub_environment_single_threaded();
    let signals = block_signals().map_err(Failure::host)?;
    let sandbox = sandbox::launch(&spec, &layout, 0).map_err(Failure::host)?;
    let exec_failed = sandbox.exec_failed.clone();
    let end = wait(&sandbox, &signals, args.timeout.map(|s| began + Duration::from_secs(s)));
    let degraded: Vec<&str> = sandbox.degraded.iter().map(|d| d.name()).collect();
    // Reading what was used takes as long as making a namespace: only for who asks, or where memory may have run out.
    let killed = matches!(end, End::Killed | End::Exited(ExitStatus::Signaled(libc::SIGKILL)));
    let (usage, remains) = sandbox.finish(args.json || killed);
    let wall = began.elapsed();
    if args.json {
        let ms = |d: Duration| (d.as_secs_f64() * 100_000.0).round() / 100.0;
        let receipt = serde_json::json!({
            "status": end.name(),
            "exitCode": end.code(),
            "durationMs": ms(wall),
            "cpuTimeMs": ms(usage.cpu_time),
            "memorySizeMb": memory.mib(),
            "maxMemoryUsedMb": usage.memory_peak_bytes.div_ceil(1 << 20),
            "peakProcesses": usage.pids_peak,
            "outOfMemoryKills": usage.oom_kills,
            "degraded": degraded,
        });
        eprintln!("{receipt}");
    }
    if let Some(failed) = exec_failed {
        let cause = std::io::Error::from_raw_os_error(failed.errno);
        let texts = [format!("cannot run `{}` in the sandbox", failed.program), cause.to_string()];
        let error = Chain::new(&texts).map_or_else(|| anyhow!("cannot run"), anyhow::Error::new);
        let hint = "inside are /usr, /bin, /lib and what --ro PATH shows";
        let code = if failed.errno == libc::ENOENT { 127 } else { 126 };
        print_failure(&Failure { code, error, hint: Some(hint.into()) });
        remains.remove_after_exit(&layout, code);
    }
    if usage.oom_kills > 0 {
        eprintln!(
            "kennel: out of memory: a process was killed at {} MB; --memory raises the limit",
            memory.mib()
        );
    }
    remains.remove_after_exit(&layout, end.code())
}

enum End {
    Exited(ExitStatus),
    TimedOut,
    Interrupted(u8),
    /// Init itself was killed.
    Killed,
}

impl End {
    fn name(&self) -> &'static str {
        match self {
            Self::Exited(ExitStatus::Exited(_)) => "exited",
            Self::Exited(ExitStatus::Signaled(_)) => "signaled",
            Self::TimedOut => "timeout",
            Self::Interrupted(_) => "interrupted",
            Self::Killed => "killed",
        }
    }

    fn code(&self) -> u8 {
        match self {
            Self::Exited(status) => u8::try_from(status.code()).unwrap_or(255),
            Self::TimedOut => EXIT_TIMEOUT,
            Self::Interrupted(signal) => 128 + signal,
            Self::Killed => 137,
        }
    }
}

/// Signals that end the run come by descriptor, so that what they interrupt is cleaned up.
fn block_signals() -> anyhow::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
        set.add(signal);
    }
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None).context("cannot block signals")?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC).context("cannot receive signals")
}

fn wait(sandbox: &sandbox::Sandbox, signals: &SignalFd, deadline: Option<Instant>) -> End {
    loop {
        let timeout = match deadline {
            None => PollTimeout::NONE,
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return End::TimedOut;
                }
                PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
            }
        };
        let mut fds = [
            PollFd::new(sandbox.status.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        if poll(&mut fds, timeout).is_err() {
            continue;
        }
        let ready = fds.map(|fd| fd.any().unwrap_or(false));
        if ready[0] {
            return read_status(sandbox.status.as_fd()).map_or(End::Killed, End::Exited);
        }
        if ready[1] {
            let signal =
                signals.read_signal().ok().flatten().and_then(|s| u8::try_from(s.ssi_signo).ok());
            return End::Interrupted(signal.unwrap_or(15));
        }
    }
}
