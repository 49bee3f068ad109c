//! Interface files of cgroup v2. Source: the kernel's `admin-guide/cgroup-v2.rst`.

use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::{CONTROLLERS, CgroupError, create_folder, write};
use crate::sandbox::spec::MemoryMib;

/// Which controllers the group at `base` can hand down to its children.
pub fn controllers(base: &Path) -> [bool; 3] {
    let text = fs::read_to_string(base.join("cgroup.controllers")).unwrap_or_default();
    CONTROLLERS.map(|(name, _)| text.split_whitespace().any(|c| c == name))
}

/// The group whose children sandboxes become: the nearest one, from `own` up to the tree's `mount`, that we may write,
/// that has all three controllers, and that hands them down or can be told to, since no process sits in it.
///
/// Where there is none it is `own`; [`prepare`] then moves this process to a leaf of it.
pub fn find_base(own: &Path, mount: &Path) -> PathBuf {
    let writable = |group: &Path| access(group, AccessFlags::W_OK).is_ok();
    let text = |group: &Path, file: &str| fs::read_to_string(group.join(file)).unwrap_or_default();
    let fits = |group: &&Path| {
        let handed_down = text(group, "cgroup.subtree_control");
        let ready =
            CONTROLLERS.iter().all(|(name, _)| handed_down.split_whitespace().any(|c| c == *name));
        // The root of the whole hierarchy has no type, and is exempt from the rule on processes.
        let is_root = !group.join("cgroup.type").exists();
        writable(group)
            && controllers(group) == [true; 3]
            && (ready || is_root || text(group, "cgroup.procs").trim().is_empty())
    };
    own.ancestors().take_while(|group| group.starts_with(mount)).find(fits).unwrap_or(own).into()
}

/// Switches the controllers on for children of `base`.
///
/// A group that is not the root cannot do so while processes sit in it ("no internal processes"): this one moves to
/// the child `kennel-supervisor` then.
pub fn prepare(base: &Path) -> Result<(), CgroupError> {
    let enabled = fs::read_to_string(base.join("cgroup.subtree_control")).unwrap_or_default();
    let wanted: Vec<String> = CONTROLLERS
        .iter()
        .filter(|(name, _)| !enabled.split_whitespace().any(|c| c == *name))
        .map(|(name, _)| format!("+{name}"))
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let wanted = wanted.join(" ");
    match write(base, "cgroup.subtree_control", &wanted) {
        Err(CgroupError::Write { source, .. }) if source.raw_os_error() == Some(libc::EBUSY) => {
            let leaf = base.join("kennel-supervisor");
            if !leaf.is_dir() {
                create_folder(&leaf)?;
            }
            write(&leaf, "cgroup.procs", "0")?;
            write(base, "cgroup.subtree_control", &wanted)
        }
        other => other,
    }
}

/// Bounds memory and forbids swap.
pub fn limit_memory(folder: &Path, memory: MemoryMib) -> Result<(), CgroupError> {
    write(folder, "memory.max", &memory.bytes().to_string())?;
    match write(folder, "memory.swap.max", "0") {
        // A kernel built without swap has no such file.
        Err(CgroupError::Write { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            Ok(())
        }
        other => other,
    }
}
