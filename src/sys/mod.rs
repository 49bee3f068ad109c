//! Thin wrappers for system calls that no crate here has, or has without owned descriptors.
//!
//! The only folder with `unsafe`. No policy: each function does one call, names its man page and hands the
//! kernel's errno back.

pub mod loopdev;
pub mod mount;
pub mod process;
pub mod seccomp;
pub mod snapshot;
pub mod socket;
pub mod watch;

use std::io;

/// Turns a system call's -1 into the thread's errno.
pub(crate) fn check(ret: libc::c_long) -> io::Result<libc::c_long> {
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(ret) }
}

/// Landlock's version in this kernel; 0 where there is none or it was switched off at boot.
///
/// Source: landlock_create_ruleset(2), `LANDLOCK_CREATE_RULESET_VERSION`.
pub fn landlock_abi() -> i32 {
    const VERSION: libc::c_uint = 1;
    let none = std::ptr::null::<libc::c_void>();
    // SAFETY: with this flag the kernel wants a null attribute of size 0 and reads no memory.
    let ret = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0, VERSION) };
    i32::try_from(ret).unwrap_or(0).max(0)
}
