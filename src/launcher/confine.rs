//! How the server gives up its privileges, once the launcher is forked and its own files are open.

use std::io;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr,
};

use sha2::{Digest, Sha256};

use crate::sys;

/// Base of the uid that a server without a `kennel` user takes: this plus its pid.
const SERVER_UID_BASE: u32 = 0x6F00_0000;

/// Base of the uid of a server with a data directory; 24 bits of its path's hash are added.
const LASTING_UID_BASE: u32 = 0x6E00_0000;

/// What a sealed server may read beside its own folder: how names are resolved, and its own figures.
const READABLE: [&str; 6] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/proc/self",
];

#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// setresuid(2), capset(2), prctl(2).
    #[error("cannot give up `{what}`")]
    Privilege { what: &'static str, source: io::Error },
    #[error("cannot restrict the server to `{folder}` by landlock")]
    Landlock { folder: String, source: landlock::RulesetError },
}

/// The uid and gid that a server started as root runs as: the `kennel` user's, or one of its own.
pub fn server_ids() -> (u32, u32) {
    match nix::unistd::User::from_name("kennel") {
        Ok(Some(user)) => (user.uid.as_raw(), user.gid.as_raw()),
        _ => (SERVER_UID_BASE + std::process::id(), SERVER_UID_BASE + std::process::id()),
    }
}

/// As [`server_ids`] for a server whose files stay: without a `kennel` user, an id that its data directory always has.
pub fn lasting_server_ids(data: &Path) -> (u32, u32) {
    match nix::unistd::User::from_name("kennel") {
        Ok(Some(user)) => (user.uid.as_raw(), user.gid.as_raw()),
        _ => {
            let digest = Sha256::digest(data.as_os_str().as_encoded_bytes());
            let id = LASTING_UID_BASE + u32::from_be_bytes([0, digest[0], digest[1], digest[2]]);
            (id, id)
        }
    }
}

/// Becomes `ids` with no capability but one: to read what the operator may read, for packages that are folders.
///
/// # Errors
/// What could not be given up; the caller must not go on then.
pub fn become_server(ids: (u32, u32)) -> Result<(), ConfineError> {
    let privilege = |what| move |e: nix::Error| ConfineError::Privilege { what, source: e.into() };
    if sys::process::is_root() {
        // While this may still be done; nothing could be gained from it later, but nothing is there to be wondered at.
        caps::clear(None, caps::CapSet::Bounding).map_err(capabilities)?;
        let (uid, gid) = (ids.0.into(), nix::unistd::Gid::from_raw(ids.1));
        nix::unistd::setgroups(&[]).map_err(privilege("groups"))?;
        nix::unistd::setresgid(gid, gid, gid).map_err(privilege("gid 0"))?;
        sys::process::set_keep_capabilities()
            .map_err(|source| ConfineError::Privilege { what: "capabilities", source })?;
        nix::unistd::setresuid(uid, uid, uid).map_err(privilege("uid 0"))?;
        let reading = caps::CapsHashSet::from([caps::Capability::CAP_DAC_READ_SEARCH]);
        caps::set(None, caps::CapSet::Permitted, &reading)
            .and_then(|()| caps::set(None, caps::CapSet::Effective, &reading))
            .map_err(capabilities)?;
    }
    nix::sys::prctl::set_no_new_privs().map_err(privilege("new privileges"))
}

fn capabilities(error: caps::errors::CapsError) -> ConfineError {
    ConfineError::Privilege { what: "capabilities", source: io::Error::other(error.to_string()) }
}

/// Gives up the last capability, and the way to any file outside `folder`, for good.
///
/// # Errors
/// What could not be given up; the caller must not go on then.
pub fn seal(folder: &Path) -> Result<(), ConfineError> {
    seal_but(folder, &[])
}

/// As [`seal`], for a server that looks names up: with the few files that this needs.
///
/// # Errors
/// As [`seal`].
pub fn seal_server(folder: &Path) -> Result<(), ConfineError> {
    seal_but(folder, &READABLE)
}

fn seal_but(folder: &Path, readable: &[&str]) -> Result<(), ConfineError> {
    caps::clear(None, caps::CapSet::Effective)
        .and_then(|()| caps::clear(None, caps::CapSet::Permitted))
        .map_err(capabilities)?;
    let landlock = |source| ConfineError::Landlock { folder: folder.display().to_string(), source };
    let all = AccessFs::from_all(ABI::V5);
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)
        .and_then(|r| r.create())
        .map_err(landlock)?;
    if let Ok(fd) = PathFd::new(folder) {
        ruleset = ruleset.add_rule(PathBeneath::new(fd, all)).map_err(landlock)?;
    }
    for path in readable {
        let Ok(fd) = PathFd::new(path) else { continue };
        let file = !Path::new(path).is_dir();
        let rights = AccessFs::from_read(ABI::V5);
        let rights = if file { rights & AccessFs::from_file(ABI::V5) } else { rights };
        ruleset = ruleset.add_rule(PathBeneath::new(fd, rights)).map_err(landlock)?;
    }
    ruleset.restrict_self().map_err(landlock)?;
    Ok(())
}
