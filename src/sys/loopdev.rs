//! Loop devices: a file as a block device, for a size-limited `/tmp` on disk.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use super::check;

/// Source: `linux/loop.h`.
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;
const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// `struct loop_info64`.
#[repr(C)]
struct LoopInfo64 {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    sizelimit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

/// A loop device over a file. It clears itself when the last user (a mount, or this value) is gone.
#[derive(Debug)]
pub struct LoopDevice {
    /// `/dev/loopN`.
    pub path: std::path::PathBuf,
    device: File,
}

impl LoopDevice {
    /// The open device.
    pub fn file(&self) -> &File {
        &self.device
    }
}

/// Takes a free loop device for `backing`.
///
/// Another process may take the same number first (`EBUSY`): the call then tries the next one.
///
/// # Errors
/// That of opening `/dev/loop-control` or `/dev/loopN`, or of `LOOP_CONFIGURE`.
///
/// Source: loop(4); `LOOP_CONFIGURE` Linux 5.8.
pub fn attach(backing: BorrowedFd<'_>, block_size: u32) -> io::Result<LoopDevice> {
    let open = |path: &std::path::Path| {
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_CLOEXEC).open(path)
    };
    let control = open("/dev/loop-control".as_ref())?;
    for _ in 0..64 {
        // SAFETY: takes no argument; the number comes back as the result.
        let number = check(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) }.into())?;
        let path = std::path::PathBuf::from(format!("/dev/loop{number}"));
        let device = open(&path)?;
        // SAFETY: all-zero is a valid value of this struct of integers.
        let mut config: LoopConfig = unsafe { std::mem::zeroed() };
        config.fd = backing.as_raw_fd().cast_unsigned();
        config.block_size = block_size;
        config.info.flags = LO_FLAGS_AUTOCLEAR;
        // SAFETY: LOOP_CONFIGURE reads one `loop_config`, alive over the call.
        let ret = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) };
        match check(ret.into()) {
            Ok(_) => return Ok(LoopDevice { path, device }),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::from_raw_os_error(libc::EBUSY))
}

/// Stops the ext4 filesystem that `fd` is on at once; nothing dirty is written back any more.
///
/// Source: `EXT4_IOC_SHUTDOWN`, `fs/ext4/ext4.h`; flag 2 is "do not flush".
pub fn ext4_shutdown(fd: BorrowedFd<'_>) -> io::Result<()> {
    const EXT4_IOC_SHUTDOWN: libc::Ioctl = 0x8004_587Du32 as libc::Ioctl;
    const NO_LOG_FLUSH: u32 = 2;
    let flags = NO_LOG_FLUSH;
    // SAFETY: reads one u32, alive over the call.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), EXT4_IOC_SHUTDOWN, &raw const flags) }.into())
        .map(drop)
}
