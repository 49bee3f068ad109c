//! Interface files of cgroup v1. Source: the kernel's `admin-guide/cgroup-v1/memory.rst`.

use std::path::Path;

use super::{CgroupError, write};
use crate::sandbox::spec::MemoryMib;

/// Raises the bounds: memory with swap first, since it may never be the lower of the two.
pub fn raise_memory(folder: &Path, memory: MemoryMib) -> Result<(), CgroupError> {
    let bytes = memory.bytes().to_string();
    match write(folder, "memory.memsw.limit_in_bytes", &bytes) {
        Err(CgroupError::Write { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
        }
        other => other?,
    }
    write(folder, "memory.limit_in_bytes", &bytes)
}

/// Bounds memory, and memory with swap where the kernel counts swap.
pub fn limit_memory(folder: &Path, memory: MemoryMib) -> Result<(), CgroupError> {
    let bytes = memory.bytes().to_string();
    write(folder, "memory.limit_in_bytes", &bytes)?;
    match write(folder, "memory.memsw.limit_in_bytes", &bytes) {
        // Swap accounting is off at boot: then nothing of the group may be swapped at all.
        Err(CgroupError::Write { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            write(folder, "memory.swappiness", "0")
        }
        other => other,
    }
}
