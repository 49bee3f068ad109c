//! Messages through the privilege door: typed, bounded, and with ids where a path would be.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::sandbox::{Degradable, Present, Start};

/// The longest message in either direction.
pub const MAX_MESSAGE: usize = 64 << 10;

/// A code tree, never by path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tree {
    /// In the tree store, by its SHA-256 in 64 lower-case hex digits.
    Stored(String),
    /// A folder that the operator named before the door was closed, by its place in that list.
    Operator(u32),
}

/// What the server may ask.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    Launch(Launch),
    /// Gives a sandbox that was launched without code what it is for; answered by [`Reply::Claimed`].
    Claim(Claim),
    /// Has the image of a sandbox's program taken, which was launched without code and stops itself for that; answered
    /// by [`Reply::Imaging`]. The sandbox is of no other use then.
    Image {
        id: u32,
        /// The server's number for it, not in use.
        image: u32,
    },
    /// Drops an image; answered by [`Reply::Forgotten`]. What was started from it goes on.
    Forget {
        image: u32,
    },
    /// Kills and removes a sandbox; answered by [`Reply::Released`].
    Release {
        id: u32,
    },
    /// Removes everything and ends the launcher; answered by end-of-file.
    Shutdown,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Launch {
    /// The server's number for it, not in use.
    pub id: u32,
    /// Place in the launcher's table of runtimes: says which host files are bound.
    pub runtime: u32,
    /// Without it the sandbox is made ahead, for a [`Claim`].
    pub code: Option<Tree>,
    /// Lowest first.
    pub layers: Vec<Tree>,
    /// Its program waits before exec to be told what it is: only ahead, and with no `argv_any` and no `env`.
    pub held: bool,
    pub argv_any: Vec<Vec<String>>,
    pub env: Vec<(String, String)>,
    pub memory_mib: u32,
    /// In thousandths of a core, from the first instruction of the program.
    pub milli_cpu: u32,
    pub pids: u32,
    pub tmp_mib: u32,
    /// Whether a socket for Go's net/rpc is wanted.
    pub rpc: bool,
    pub host_network: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Claim {
    pub id: u32,
    pub code: Tree,
    /// Lowest first.
    pub layers: Vec<Tree>,
    /// No less than it was launched with.
    pub memory_mib: u32,
    /// What a held program becomes.
    pub start: Option<Start>,
    /// From which image it goes on; `start` says the rest.
    pub image: Option<u32>,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// With descriptors: pidfd, status, log, Unix listener, TCP listener, rpc socket where asked for, control files.
    Launched {
        id: u32,
        present: Present,
        exec_failed: Option<(String, i32)>,
        degraded: Vec<String>,
    },
    /// A held program runs, or could not exec.
    Claimed {
        id: u32,
        exec_failed: Option<(String, i32)>,
    },
    /// With a pipe on which [`Imaged`] comes.
    Imaging {
        id: u32,
    },
    Forgotten {
        image: u32,
    },
    Refused {
        id: u32,
        chain: Vec<String>,
        hint: Option<String>,
    },
    Released {
        id: u32,
        memory_peak_bytes: u64,
        cpu_time: Duration,
        oom_kills: u64,
        pids_peak: u64,
    },
}

/// How long an image is, in bytes, or why there is none. It can be used from then on.
pub type Imaged = Result<u64, String>;

/// The longest [`Imaged`].
pub const MAX_IMAGED: usize = 4 << 10;

/// Names for `degraded` over the wire.
pub fn names(degraded: &[Degradable]) -> Vec<String> {
    degraded.iter().map(|d| d.name().to_owned()).collect()
}
