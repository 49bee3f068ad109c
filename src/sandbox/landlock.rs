//! Landlock: a second wall behind the mount namespace.
//!
//! The rootfs shows only what a sandbox may see, read-only but for `/tmp`. Landlock says the same by path once more,
//! so a descriptor of a host folder that leaked in, or a mount that should not be there, opens nothing. Where the
//! kernel has scopes (ABI 6), abstract Unix sockets and signals end at the sandbox's border too.

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

/// What the kernel enforces of what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enforced {
    Yes,
    /// No Landlock in this kernel, or switched off at boot.
    No,
}

/// A folder or file and what may be done beneath it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// List folders, nothing else.
    List,
    Read,
    ReadExecute,
    /// Read and write existing files: device nodes.
    Device,
    All,
}

impl Right {
    fn access(self) -> landlock::BitFlags<AccessFs> {
        match self {
            Self::List => AccessFs::ReadDir.into(),
            Self::Read => AccessFs::ReadDir | AccessFs::ReadFile,
            Self::ReadExecute => AccessFs::ReadDir | AccessFs::ReadFile | AccessFs::Execute,
            Self::Device => {
                AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev | AccessFs::ReadDir
            }
            Self::All => AccessFs::from_all(ABI::V5),
        }
    }
}

/// Rules that hold for nobody yet.
pub struct Rules(RulesetCreated);

impl Rules {
    /// No rule so far: nothing would be allowed.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn new() -> Result<Self, RulesetError> {
        Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(ABI::V5))?
            .scope(Scope::AbstractUnixSocket | Scope::Signal)?
            .create()
            .map(Self)
    }

    /// Allows `right` beneath `path`. One that does not exist grants nothing.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn allow(self, path: &Path, right: Right) -> Result<Self, RulesetError> {
        let Ok(fd) = PathFd::new(path) else { return Ok(self) };
        let fd: PathBeneath<PathFd> = PathBeneath::new(fd, right.access());
        self.0.add_rule(fd).map(Self)
    }

    /// Restricts the calling process, and all that it starts.
    ///
    /// # Errors
    /// What the kernel refused. Absence of Landlock is no error but [`Enforced::No`].
    pub fn restrict(self) -> Result<Enforced, RulesetError> {
        let status = self.0.no_new_privs(false).restrict_self()?;
        Ok(match status.ruleset {
            RulesetStatus::NotEnforced => Enforced::No,
            RulesetStatus::PartiallyEnforced | RulesetStatus::FullyEnforced => Enforced::Yes,
        })
    }
}

/// Landlock's version in this kernel; 0 where there is none.
///
/// Source: landlock_create_ruleset(2), `LANDLOCK_CREATE_RULESET_VERSION`.
pub fn kernel_abi() -> i32 {
    crate::sys::landlock_abi()
}
