//! `/tmp` of a sandbox: a filesystem of fixed size on the host's disk.
//!
//! Not a tmpfs, because its pages would be charged to the function's memory: a function of 128 MB could not
//! write 400 MiB to `/tmp`, and filling it would be an out-of-memory kill. Instead an unnamed file (`O_TMPFILE`,
//! so that nothing is left after a crash) behind a loop device, with an ext4 filesystem of no journal. Its page
//! cache can be written back and dropped; a full one says `ENOSPC`.
//!
//! The filesystem is laid out here rather than by mkfs.ext4(8): a run of that costs 7 ms, this 0.1 ms, since an
//! empty filesystem in a sparse file is a superblock, one block of group descriptors, two bitmaps a group and the
//! root folder. e2fsck(8) checks the result in a test. Nothing inside the sandbox can write to the image other
//! than through the mounted filesystem.

use std::ffi::{CStr, CString};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use crate::sys::loopdev;
use crate::sys::mount::{self, MountAttr};

const BLOCK: usize = 4096;
const BLOCK_SIZE: u32 = 4096;
const BLOCKS_PER_GROUP: u32 = 32_768;
const INODES_PER_GROUP: u32 = 8192;
const INODE_SIZE: u32 = 256;
const INODE_TABLE_BLOCKS: u32 = INODES_PER_GROUP * INODE_SIZE / 4096;
/// Room for the tables of one group, and some.
const MIN_MIB: u32 = 4;
/// One block of 32-byte group descriptors: 128 groups of 128 MiB.
const MAX_MIB: u32 = 128 * 128;

/// Whether this host lets this process have loop devices.
pub fn is_possible() -> bool {
    OpenOptions::new().read(true).write(true).open("/dev/loop-control").is_ok()
}

/// Makes an empty filesystem of `mib` MiB in an unnamed file of `folder`, and mounts it: detached, to be attached
/// anywhere. Its root is `owner`'s alone.
///
/// The loop device goes away with the mount, its last user.
///
/// # Errors
/// `EOPNOTSUPP` where `folder`'s filesystem has no `O_TMPFILE`; those of loop devices and of mounting.
pub fn make(folder: &Path, mib: u32, owner: u32) -> io::Result<OwnedFd> {
    let image = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_TMPFILE | libc::O_CLOEXEC)
        .mode(0o600)
        .open(folder)?;
    image.set_len(u64::from(mib) << 20)?;
    // Through the device, and so only into its page cache: taking a file on, the loop driver first writes back what
    // is dirty in it, and waits for the disk.
    let device = loopdev::attach(image.as_fd(), BLOCK_SIZE)?;
    format(device.file(), mib, owner)?;
    let source = CString::new(device.path.as_os_str().as_bytes())?;
    let options: [(&CStr, Option<&CStr>); 4] = [
        (c"source", Some(&source)),
        // Nobody wants the content after a power cut, and a flush waits for the host's disk.
        (c"nobarrier", None),
        // Each mount would have a kernel thread started that reads ahead what this one has in memory anyway.
        (c"no_prefetch_block_bitmaps", None),
        (c"noinit_itable", None),
    ];
    let attributes = MountAttr::NOSUID.and(MountAttr::NODEV);
    mount::new_filesystem(c"ext4", &options, attributes)
}

/// Blocks that lie one after the other.
struct Image(Vec<u8>);

impl Image {
    fn new(blocks: u32) -> Self {
        Self(vec![0; blocks as usize * BLOCK])
    }

    fn block(&mut self, number: u32) -> Block<'_> {
        Block(&mut self.0[number as usize * BLOCK..][..BLOCK])
    }

    fn write(&self, image: &File, at: u32) -> io::Result<()> {
        image.write_all_at(&self.0, u64::from(at) * BLOCK as u64)
    }
}

struct Block<'a>(&'a mut [u8]);

impl Block<'_> {
    fn u16(&mut self, at: usize, value: u16) {
        self.0[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
    fn u32(&mut self, at: usize, value: u32) {
        self.0[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    fn set_bits(&mut self, bits: std::ops::Range<u32>) {
        for bit in bits {
            self.0[bit as usize / 8] |= 1 << (bit % 8);
        }
    }
}

/// Writes an empty ext4 filesystem without a journal over `image`.
///
/// Source: "ext4 Data Structures and Algorithms" in the kernel's documentation.
fn format(image: &File, mib: u32, owner: u32) -> io::Result<()> {
    if !(MIN_MIB..=MAX_MIB).contains(&mib) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let blocks = mib * 256;
    let groups = blocks.div_ceil(BLOCKS_PER_GROUP);
    // Everything at the front, as one flexible group: superblock, descriptors, bitmaps, inode tables (all zero, so
    // holes), the root folder's one block. Then two writes make the filesystem.
    let block_bitmaps = 2;
    let inode_bitmaps = block_bitmaps + groups;
    let inode_tables = inode_bitmaps + groups;
    let root_block = inode_tables + groups * INODE_TABLE_BLOCKS;
    let meta = root_block + 1;
    let mut front = Image::new(inode_tables + 1);
    let mut free_blocks = 0;
    for group in 0..groups {
        let first = group * BLOCKS_PER_GROUP;
        let size = (blocks - first).min(BLOCKS_PER_GROUP);
        let used = meta.saturating_sub(first).min(size);
        let mut bitmap = front.block(block_bitmaps + group);
        bitmap.set_bits(0..used);
        bitmap.set_bits(size..BLOCKS_PER_GROUP);
        let mut bitmap = front.block(inode_bitmaps + group);
        let reserved_inodes = if group == 0 { 10 } else { 0 };
        bitmap.set_bits(0..reserved_inodes);
        bitmap.set_bits(INODES_PER_GROUP..BLOCKS_PER_GROUP);
        let mut descriptors = front.block(1);
        let at = group as usize * 32;
        descriptors.u32(at, block_bitmaps + group);
        descriptors.u32(at + 4, inode_bitmaps + group);
        descriptors.u32(at + 8, inode_tables + group * INODE_TABLE_BLOCKS);
        descriptors.u16(at + 12, low16(size - used));
        descriptors.u16(at + 14, low16(INODES_PER_GROUP - reserved_inodes));
        descriptors.u16(at + 16, u16::from(group == 0)); // folders
        free_blocks += size - used;
    }
    let mut root = front.block(inode_tables); // inode 2 is the second in the table
    let at = INODE_SIZE as usize;
    root.u16(at, 0o040_700);
    // User and group, each in two halves. Told here, or the first change would have to be written back at the end.
    for (low, high) in [(2, 120), (24, 122)] {
        root.u16(at + low, low16(owner & 0xFFFF));
        root.u16(at + high, low16(owner >> 16));
    }
    root.u32(at + 4, 4096); // size
    root.u16(at + 26, 2); // links
    root.u32(at + 28, 8); // in 512-byte sectors
    root.u32(at + 32, 0x8_0000); // EXT4_EXTENTS_FL
    root.u16(at + 40, 0xF30A); // extent header: magic, one entry of four, depth 0
    root.u16(at + 42, 1);
    root.u16(at + 44, 4);
    root.u16(at + 56, 1); // extent: one block
    root.u32(at + 60, root_block);
    root.u16(at + 128, 32); // extra size of the inode

    let mut superblock = front.block(0);
    let s = 1024;
    superblock.u32(s, groups * INODES_PER_GROUP);
    superblock.u32(s + 0x04, blocks);
    superblock.u32(s + 0x0C, free_blocks);
    superblock.u32(s + 0x10, groups * INODES_PER_GROUP - 10);
    superblock.u32(s + 0x18, 2); // blocks of 1024 << 2
    superblock.u32(s + 0x1C, 2);
    superblock.u32(s + 0x20, BLOCKS_PER_GROUP);
    superblock.u32(s + 0x24, BLOCKS_PER_GROUP);
    superblock.u32(s + 0x28, INODES_PER_GROUP);
    superblock.u16(s + 0x36, 0xFFFF); // no check after so many mounts
    superblock.u16(s + 0x38, 0xEF53);
    superblock.u16(s + 0x3A, 1); // clean
    superblock.u16(s + 0x3C, 1); // go on after an error
    superblock.u32(s + 0x4C, 1); // revision with dynamic inode sizes
    superblock.u32(s + 0x54, 11);
    superblock.u16(s + 0x58, low16(INODE_SIZE));
    superblock.u32(s + 0x5C, 0x200); // compat: SPARSE_SUPER2 with no backup listed, so no backups
    superblock.u32(s + 0x60, 0x242); // incompat: FILETYPE, EXTENTS, FLEX_BG
    superblock.u32(s + 0x64, 0x62); // ro_compat: LARGE_FILE, DIR_NLINK, EXTRA_ISIZE
    superblock.0[s + 0x68..s + 0x78].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    superblock.u16(s + 0x15C, 32);
    superblock.u16(s + 0x15E, 32);
    // Blocks that are never a file's. The kernel counts them where this says 0, and then writes it here and waits.
    superblock.u32(s + 0x248, root_block);
    superblock.u16(s + 0x174, 7); // 2^7 groups to a flexible one: all of them

    let mut folder = Image::new(1); // two entries: inode, record length, name length, type 2, name
    let mut entries = folder.block(0);
    entries.u32(0, 2);
    entries.u16(4, 12);
    entries.0[6..9].copy_from_slice(&[1, 2, b'.']);
    entries.u32(12, 2);
    entries.u16(16, 4096 - 12);
    entries.0[18..22].copy_from_slice(&[2, 2, b'.', b'.']);
    front.write(image, 0)?;
    folder.write(image, root_block)
}

fn low16(value: u32) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e2fsck_finds_nothing_to_mend() {
        if std::process::Command::new("e2fsck").arg("-V").output().is_err() {
            eprintln!("SKIPPED: e2fsck is not installed (Debian package e2fsprogs)");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        for mib in [4, 16, 128, 129, 131, 512, 513, 515, 10_240] {
            let path = folder.path().join("image");
            let image = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .open(&path)
                .unwrap();
            image.set_len(u64::from(mib) << 20).unwrap();
            format(&image, mib, 0x7000_1234).unwrap();
            let check =
                std::process::Command::new("e2fsck").arg("-fn").arg(&path).output().unwrap();
            let text = String::from_utf8_lossy(&check.stdout);
            // -n answers no to "lost+found missing, create?", the one thing left out on purpose.
            let complaints: Vec<&str> = text
                .lines()
                .filter(|l| {
                    !l.starts_with("Pass ") && !l.contains("lost+found") && !l.trim().is_empty()
                })
                .filter(|l| {
                    !l.contains("files (") && !l.contains("WARNING: Filesystem still has errors")
                })
                .collect();
            assert!(complaints.is_empty(), "{mib} MiB: {text}");
        }
    }
}
