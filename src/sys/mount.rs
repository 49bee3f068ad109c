//! The mount API of Linux 5.2 and later: detached trees, their attributes, new filesystems.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::check;

/// Attributes of a mount. Source: mount_setattr(2), `linux/mount.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MountAttr(u64);

impl MountAttr {
    pub const RDONLY: Self = Self(0x1);
    pub const NOSUID: Self = Self(0x2);
    pub const NODEV: Self = Self(0x4);
    pub const NOEXEC: Self = Self(0x8);

    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn bits(self) -> u64 {
        self.0
    }
}

#[repr(C)]
struct MountAttrArgs {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

fn new_fd(ret: libc::c_long) -> io::Result<OwnedFd> {
    let fd = RawFd::try_from(check(ret)?).map_err(io::Error::other)?;
    // SAFETY: a system call has just returned this new descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Copies the mount at `path` (with those below it where `recursive`) into a detached tree.
///
/// Source: open_tree(2), Linux 5.2.
pub fn open_tree(path: &CStr, recursive: bool) -> io::Result<OwnedFd> {
    const OPEN_TREE_CLONE: libc::c_uint = 1;
    let flags = OPEN_TREE_CLONE
        | libc::O_CLOEXEC.cast_unsigned()
        | if recursive { libc::AT_RECURSIVE.cast_unsigned() } else { 0 };
    // SAFETY: `path` is NUL-terminated and alive over the call.
    new_fd(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) })
}

/// Sets attributes on the tree behind `fd` (and below it where `recursive`), and makes it private: a copy of a shared
/// mount is its peer, and what is mounted upon one of them appears upon the other.
///
/// Source: mount_setattr(2), Linux 5.12.
pub fn set_attributes(fd: BorrowedFd<'_>, set: MountAttr, recursive: bool) -> io::Result<()> {
    let args = MountAttrArgs {
        attr_set: set.bits(),
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: an empty NUL-terminated path means `fd` itself; `args` is alive and its size is given.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const args,
            size_of::<MountAttrArgs>(),
        )
    })
    .map(drop)
}

/// Attaches the detached tree `fd` at `target`.
///
/// Source: move_mount(2), Linux 5.2.
pub fn attach(fd: BorrowedFd<'_>, target: &CStr) -> io::Result<()> {
    const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;
    // SAFETY: both paths are NUL-terminated and alive over the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            fd.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    })
    .map(drop)
}

/// Binds what is at `source` to `target` as well, with the attributes of the mount that it is on.
///
/// # Errors
/// mount(2)'s.
pub fn bind(source: &CStr, target: &CStr) -> io::Result<()> {
    let flags = nix::mount::MsFlags::MS_BIND;
    Ok(nix::mount::mount(Some(source), target, None::<&CStr>, flags, None::<&CStr>)?)
}

/// Makes a new filesystem of `kind` with `options` (value `None` for a flag) as a detached mount.
///
/// Source: fsopen(2), fsconfig(2), fsmount(2), Linux 5.2.
pub fn new_filesystem(
    kind: &CStr,
    options: &[(&CStr, Option<&CStr>)],
    attributes: MountAttr,
) -> io::Result<OwnedFd> {
    const FSOPEN_CLOEXEC: libc::c_uint = 1;
    const FSCONFIG_SET_FLAG: libc::c_uint = 0;
    const FSCONFIG_SET_STRING: libc::c_uint = 1;
    const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
    const FSMOUNT_CLOEXEC: libc::c_uint = 1;
    // SAFETY: a NUL-terminated name, alive over the call.
    let context =
        new_fd(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) })?;
    let configure = |command: libc::c_uint,
                     key: *const libc::c_char,
                     value: *const libc::c_char| {
        // SAFETY: key and value are null or NUL-terminated and alive, as each command wants them.
        check(unsafe {
            libc::syscall(libc::SYS_fsconfig, context.as_fd().as_raw_fd(), command, key, value, 0)
        })
    };
    for (key, value) in options {
        match value {
            Some(value) => configure(FSCONFIG_SET_STRING, key.as_ptr(), value.as_ptr())?,
            None => configure(FSCONFIG_SET_FLAG, key.as_ptr(), std::ptr::null())?,
        };
    }
    configure(FSCONFIG_CMD_CREATE, std::ptr::null(), std::ptr::null())?;
    // SAFETY: no pointers.
    new_fd(unsafe {
        libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, attributes.bits())
    })
}
