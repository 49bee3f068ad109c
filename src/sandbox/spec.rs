//! What a sandbox must be: checked here, before anything runs with privilege.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Memory in MiB, swap included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MemoryMib(u32);

impl MemoryMib {
    /// AWS Lambda's range.
    pub const RANGE: std::ops::RangeInclusive<u32> = 128..=10_240;
    /// What sandboxes that wait are made with.
    pub const LEAST: Self = Self(128);

    /// # Errors
    /// The value itself when it is outside [`Self::RANGE`].
    pub fn new(mib: u32) -> Result<Self, SpecError> {
        if Self::RANGE.contains(&mib) { Ok(Self(mib)) } else { Err(SpecError::Memory { mib }) }
    }

    pub fn mib(self) -> u32 {
        self.0
    }

    pub fn bytes(self) -> u64 {
        u64::from(self.0) << 20
    }
}

/// CPU time per wall time, in thousandths of one core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MilliCpu(pub u32);

impl MilliCpu {
    pub const ONE_CORE: Self = Self(1000);

    /// The share that comes with `memory`: 1,769 MB are worth one core.
    ///
    /// Source: AWS Lambda developer guide, "Configure Lambda function memory".
    pub fn for_memory(memory: MemoryMib) -> Self {
        Self((u64::from(memory.mib()) * 1000 / 1769).try_into().unwrap_or(u32::MAX).max(1))
    }

    /// What a sandbox may use until its function is initialised: its share, but never less than a core.
    pub fn while_initialising(memory: MemoryMib) -> Self {
        Self::for_memory(memory).max(Self::ONE_CORE)
    }
}

/// The most processes and threads of a sandbox, its init not counted. AWS's number is 1,024.
pub const DEFAULT_PIDS: u32 = 1024;

/// Limits that the kernel holds a sandbox to.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub memory: MemoryMib,
    /// From the first instruction of the program; `None` until [`super::Group::set_cpu`] says otherwise.
    pub cpu: MilliCpu,
    pub pids: u32,
}

/// A read-only tree of the host, at `target` inside.
#[derive(Debug, Clone)]
pub struct Mount {
    pub source: Source,
    pub target: PathBuf,
}

#[derive(Debug, Clone)]
pub enum Source {
    Bind(PathBuf),
    /// A folder whose path somebody without privilege could change: no symbolic link in it is followed.
    Tree(PathBuf),
    /// Trees laid over each other, the last on top.
    Overlay(Vec<PathBuf>),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// A fresh network namespace with only `lo`, up.
    #[default]
    Loopback,
    /// The host's network. Only ever chosen by the operator.
    Host,
}

/// Sockets that the launcher makes inside the sandbox and hands out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Doors {
    #[default]
    None,
    /// The Runtime API's listeners: [`super::RUNTIME_SOCKET`] and [`super::RUNTIME_PORT`].
    RuntimeApi,
    /// The same, and an unconnected TCP socket for a server inside (Go's old net/rpc).
    RuntimeApiAndRpc,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stdio {
    /// The caller's own 0, 1 and 2.
    Inherit,
    /// `/dev/null` in, and one pipe for 1 and 2 whose other end is [`super::Sandbox::log`].
    Log,
}

/// A protection that the operator allows to be weaker than designed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Degradable {
    Memory,
    Cpu,
    Pids,
    Landlock,
    TmpQuota,
    OwnUid,
}

impl Degradable {
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Memory, "memory-limit"),
        (Self::Cpu, "cpu-limit"),
        (Self::Pids, "pids-limit"),
        (Self::Landlock, "landlock"),
        (Self::TmpQuota, "tmp-on-disk"),
        (Self::OwnUid, "own-uid"),
    ];

    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(d, _)| *d == self).map_or("?", |(_, name)| name)
    }

    /// # Errors
    /// The list of names, where `name` is none of them.
    pub fn parse(name: &str) -> Result<Self, SpecError> {
        Self::ALL
            .iter()
            .find(|(_, n)| *n == name)
            .map(|(d, _)| *d)
            .ok_or_else(|| SpecError::Degradable { name: name.to_owned() })
    }
}

/// All of a sandbox. Everything has its closed default except what runs.
#[derive(Debug, Clone)]
pub struct SandboxSpec {
    /// Tried in order until one exists. The first word is a path, or a name looked up on `PATH` inside.
    pub argv_any: Vec<Vec<String>>,
    pub env: Vec<(String, String)>,
    pub cwd: PathBuf,
    pub limits: Limits,
    pub mounts: Vec<Mount>,
    /// Made before it is known what it is for: [`super::ATTACHABLE`] are empty folders, and trees can be attached there.
    pub ahead: bool,
    /// Made before it is known what runs: the program's process waits before its exec for a [`super::Start`], and
    /// [`Self::argv_any`] and [`Self::env`] say nothing.
    pub held: bool,
    /// Size of `/tmp`.
    pub tmp_mib: u32,
    pub network: Network,
    pub doors: Doors,
    pub stdio: Stdio,
    pub allow_degraded: Vec<Degradable>,
}

impl SandboxSpec {
    /// A sandbox for `argv` with the closed choice everywhere else.
    pub fn new(argv_any: Vec<Vec<String>>, memory: MemoryMib) -> Self {
        Self {
            argv_any,
            env: Vec::new(),
            cwd: "/tmp".into(),
            limits: Limits { memory, cpu: MilliCpu::for_memory(memory), pids: DEFAULT_PIDS },
            mounts: Vec::new(),
            ahead: false,
            held: false,
            tmp_mib: 512,
            network: Network::default(),
            doors: Doors::default(),
            stdio: Stdio::Inherit,
            allow_degraded: Vec::new(),
        }
    }

    pub fn allows(&self, weaker: Degradable) -> bool {
        self.allow_degraded.contains(&weaker)
    }
}

/// The longest time an invocation may take.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(900);

#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    #[error("memory of `{mib}` MB is outside 128 to 10240")]
    Memory { mib: u32 },
    #[error(
        "`{name}` is no protection that can be weakened; known: memory-limit, cpu-limit, pids-limit, landlock, tmp-on-disk, own-uid"
    )]
    Degradable { name: String },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_follows_memory() {
        for (mib, milli) in [(128, 72), (1769, 1000), (3538, 2000), (10_240, 5788)] {
            let memory = MemoryMib::new(mib).unwrap();
            assert_eq!(MilliCpu::for_memory(memory), MilliCpu(milli), "{mib} MB");
        }
        assert_eq!(MilliCpu::while_initialising(MemoryMib::new(128).unwrap()), MilliCpu::ONE_CORE);
    }

    #[test]
    fn memory_outside_the_range_is_refused_by_name() {
        for mib in [0, 127, 10_241] {
            let text = MemoryMib::new(mib).unwrap_err().to_string();
            assert_eq!(text, format!("memory of `{mib}` MB is outside 128 to 10240"));
        }
    }
}
