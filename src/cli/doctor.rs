//! `kennel doctor`: what this host gives and lacks, what follows, how to mend it.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use super::EXIT_HOST;
use crate::pool::Places;
use crate::runtimes::Catalogue;
use crate::sandbox::{self, Degradable, Layout, MemoryMib, SandboxSpec};
use crate::sys;

enum Verdict {
    Good,
    /// Works, with less than there could be.
    Weaker,
    Bad,
}

struct Check {
    what: &'static str,
    verdict: Verdict,
    found: String,
    /// What follows and how to mend it; empty where all is well.
    mend: String,
}

fn check(what: &'static str, good: bool, found: impl Into<String>, mend: &str) -> Check {
    let verdict = if good { Verdict::Good } else { Verdict::Bad };
    Check {
        what,
        verdict,
        found: found.into(),
        mend: if good { String::new() } else { mend.into() },
    }
}

fn weaker(mut check: Check) -> Check {
    if matches!(check.verdict, Verdict::Bad) {
        check.verdict = Verdict::Weaker;
    }
    check
}

pub fn run() -> ExitCode {
    let mut checks = kernel();
    checks.extend(cgroups());
    checks.push(try_sandbox());
    checks.extend(languages());
    let mut bad = 0;
    for Check { what, verdict, found, mend } in &checks {
        let mark = match verdict {
            Verdict::Good => "ok  ",
            Verdict::Weaker => "weak",
            Verdict::Bad => {
                bad += 1;
                "BAD "
            }
        };
        println!("{mark} {what:<26} {found}");
        if !mend.is_empty() {
            println!("     {:<26} -> {mend}", "");
        }
    }
    if bad == 0 {
        println!("\nThis host gives Kennel's sandbox in full.");
        ExitCode::SUCCESS
    } else {
        println!(
            "\n{bad} of {} checks failed: a sandbox is refused until they are mended, or weaker with --allow-degraded.",
            checks.len()
        );
        ExitCode::from(EXIT_HOST)
    }
}

/// Less than this, and a server is soon full.
const FEW_INSTANCES: usize = 1000;

fn kernel() -> Vec<Check> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim().to_owned();
    let number = |i: usize| -> u32 {
        release.split(['.', '-']).nth(i).and_then(|p| p.parse().ok()).unwrap_or(0)
    };
    let new_enough = (number(0), number(1)) >= (5, 14);
    let namespaces: Vec<&str> = ["user", "pid", "mnt", "net", "ipc", "uts", "cgroup"]
        .into_iter()
        .filter(|n| !Path::new("/proc/self/ns").join(n).exists())
        .collect();
    let users: u64 = fs::read_to_string("/proc/sys/user/max_user_namespaces")
        .ok()
        .and_then(|t| t.trim().parse().ok())
        .unwrap_or(0);
    let actions = fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    let (instructions, allowed) = sandbox::seccomp::size();
    let abi = sandbox::landlock_abi();
    let root = sys::process::is_root();
    let places = Places::of_this_process();
    let scratch = fs::OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_TMPFILE)
        .open(sandbox::scratch_folder())
        .map_or_else(|e| e.to_string(), |_| String::new());
    vec![
        check(
            "kernel",
            new_enough,
            &release,
            "Linux 5.14 or newer is needed (clone3, mount_setattr, cgroup.kill)",
        ),
        check(
            "root",
            root,
            if root { "yes" } else { "no" },
            "a uid of its own for each sandbox and /tmp on disk need root; without it: --allow-degraded own-uid,tmp-on-disk",
        ),
        check(
            "namespaces",
            namespaces.is_empty(),
            if namespaces.is_empty() {
                "all seven".into()
            } else {
                format!("missing: {}", namespaces.join(", "))
            },
            "a kernel with CONFIG_NAMESPACES and each CONFIG_…_NS is needed",
        ),
        check(
            "user namespaces",
            users > 0,
            format!("at most {users}"),
            "sysctl user.max_user_namespaces=15000 (and kernel.unprivileged_userns_clone=1 where there is no root)",
        ),
        check(
            "seccomp",
            actions.contains("errno"),
            format!("{allowed} calls allowed, {instructions} instructions"),
            "a kernel with CONFIG_SECCOMP_FILTER is needed",
        ),
        check(
            "landlock",
            abi > 0,
            format!("ABI {abi}"),
            "boot with lsm=landlock,… (5.13 or newer); without it: --allow-degraded landlock",
        ),
        weaker(check(
            "landlock scopes",
            abi >= 6,
            if abi >= 6 { "abstract sockets, signals" } else { "none" },
            "needs Linux 6.12; the network and pid namespaces hold the same line",
        )),
        check(
            "/tmp on disk",
            Path::new("/dev/loop-control").exists() && scratch.is_empty(),
            if scratch.is_empty() {
                "loop devices, unnamed files in /var/tmp".into()
            } else {
                format!("/var/tmp: {scratch}")
            },
            "modprobe loop, and a disk filesystem with O_TMPFILE at /var/tmp; without it: --allow-degraded tmp-on-disk",
        ),
        weaker(check(
            "descriptors",
            places.instances >= FEW_INSTANCES,
            format!("enough for {} sandboxes of functions at a time", places.instances),
            "raise the hard limit of open files: LimitNOFILE= in a systemd unit, ulimit -Hn in a shell",
        )),
        weaker(check(
            "/var/tmp on disk",
            !is_tmpfs(sandbox::scratch_folder()),
            if is_tmpfs(sandbox::scratch_folder()) { "a tmpfs" } else { "yes" },
            "what a function writes to /tmp then counts as its memory: mount a disk at /var/tmp",
        )),
    ]
}

/// Whether `folder` lies in memory.
fn is_tmpfs(folder: &Path) -> bool {
    nix::sys::statfs::statfs(folder)
        .is_ok_and(|fs| fs.filesystem_type() == nix::sys::statfs::TMPFS_MAGIC)
}

fn cgroups() -> Vec<Check> {
    let layout = match Layout::detect() {
        Ok(layout) => layout,
        Err(error) => {
            return vec![check(
                "cgroups",
                false,
                error.to_string(),
                "mount cgroup v2 at /sys/fs/cgroup",
            )];
        }
    };
    let mut checks = vec![check(
        "cgroups",
        layout.kind() != "none",
        layout.kind(),
        "mount cgroup v2 at /sys/fs/cgroup",
    )];
    for (what, degradable) in [
        ("memory limit", Degradable::Memory),
        ("CPU limit", Degradable::Cpu),
        ("process limit", Degradable::Pids),
    ] {
        let at = layout.controller(degradable);
        let writable =
            at.is_some_and(|p| nix::unistd::access(p, nix::unistd::AccessFlags::W_OK).is_ok());
        let found = match at {
            Some(path) if writable => path.display().to_string(),
            Some(path) => format!("{} cannot be written", path.display()),
            None => "no controller".into(),
        };
        let mend = format!(
            "delegate it: a systemd unit with Delegate=yes, or run as root; without it: --allow-degraded {}",
            degradable.name()
        );
        checks.push(check(what, writable, found, &mend));
    }
    checks
}

/// The proof: a sandbox, made and removed.
fn try_sandbox() -> Check {
    let what = "a sandbox";
    let made = || -> Result<String, String> {
        let memory = MemoryMib::new(128).map_err(|e| e.to_string())?;
        let spec = SandboxSpec {
            env: vec![("PATH".into(), "/usr/bin:/bin".into())],
            ..SandboxSpec::new(vec![vec!["true".into()]], memory)
        };
        let describe = |e: &dyn std::error::Error| match e.source() {
            Some(source) => format!("{e}: {source}"),
            None => e.to_string(),
        };
        let layout = Layout::detect_ready(&[]).map_err(|e| describe(&e))?;
        let sandbox = sandbox::launch(&spec, &layout, 0).map_err(|e| describe(&e))?;
        let status = sandbox::read_status(sandbox.status.as_fd());
        sandbox.destroy();
        match status {
            Some(status) if status.code() == 0 => Ok("made, used and removed".into()),
            other => Err(format!("`true` ended with {other:?}")),
        }
    };
    match made() {
        Ok(found) => check(what, true, found, ""),
        Err(found) => check(what, false, found, "mend what failed above first"),
    }
}

fn languages() -> Vec<Check> {
    let catalogue = match Catalogue::load() {
        Ok(catalogue) => catalogue,
        Err(error) => {
            return vec![check(
                "runtimes",
                false,
                error.to_string(),
                "set KENNEL_RUNTIMES to the folder of manifests",
            )];
        }
    };
    let mut here = Vec::new();
    let mut missing = Vec::new();
    for language in &catalogue.languages {
        let runs = language.table().iter().any(|(_, resolved)| resolved.is_ok());
        if runs {
            here.push(language.name().to_owned())
        } else {
            missing.push(language.name().to_owned())
        }
    }
    let missing_text =
        format!("none for {}; `kennel runtimes` says what each lacks", missing.join(", "));
    vec![weaker(check("runtimes", missing.is_empty(), here.join(", "), &missing_text))]
}
