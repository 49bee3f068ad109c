//! The system calls that a sandbox may make: `policy.toml`, compiled at build time into one filter.
//!
//! What the policy refuses gets `EPERM`; `clone3` and every number that the architecture's table does not know get
//! `ENOSYS`, so that libc takes its fallbacks; another architecture's entry (`int 0x80`) is killed. How the program is
//! laid out, and why not by seccompiler's linear chain, is told in `compile.rs`.

#[cfg(test)]
mod compile; // for its tests; build.rs is its user

use std::io;

use crate::sys;

static FILTER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/seccomp.bpf"));
/// A line `NAME VERDICT` for each system call of this architecture.
static VERDICTS: &str = include_str!(concat!(env!("OUT_DIR"), "/seccomp.txt"));

/// Installs the filter on the calling process for good.
///
/// # Errors
/// Those of seccomp(2); `no_new_privs` must be set.
pub fn install() -> io::Result<()> {
    sys::seccomp::install(FILTER)
}

/// Instructions of the filter, and the calls that it allows (some by their arguments), for `kennel doctor`.
pub fn size() -> (usize, usize) {
    let allowed =
        VERDICTS.lines().filter(|l| l.ends_with(" allow") || l.ends_with(" arguments")).count();
    (FILTER.len() / sys::seccomp::INSTRUCTION_BYTES, allowed)
}
