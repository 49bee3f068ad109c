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

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use crate::sys::loopdev::{self, LoopDevice};

const BLOCK: usize = 4096;
const BLOCKS_PER_GROUP: u32 = 32_768;
const INODES_PER_GROUP: u32 = 8192;
const INODE_SIZE: u32 = 256;
const INODE_TABLE_BLOCKS: u32 = INODES_PER_GROUP * INODE_SIZE / 4096;
/// Room for the tables of the one group, and some.
const MIN_MIB: u32 = 4;
/// One block of 32-byte group descriptors: 128 groups of 128 MiB.
const MAX_MIB: u32 = 128 * 128;

/// An image with a filesystem, on a loop device that goes away with its last user.
#[derive(Debug)]
pub struct Scratch {
    pub device: LoopDevice,
}

impl Scratch {
    /// Makes an empty filesystem of `mib` MiB in an unnamed file of `folder`.
    ///
    /// # Errors
    /// `EOPNOTSUPP` where `folder`'s filesystem has no `O_TMPFILE`; those of loop devices.
    pub fn create(folder: &Path, mib: u32) -> io::Result<Self> {
        let image = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_TMPFILE | libc::O_CLOEXEC)
            .mode(0o600)
            .open(folder)?;
        format(&image, mib)?;
        Ok(Self { device: loopdev::attach(image.as_fd())? })
    }
}

struct Block(Box<[u8; BLOCK]>);

impl Block {
    fn new() -> Self {
        Self(Box::new([0; BLOCK]))
    }
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
fn format(image: &File, mib: u32) -> io::Result<()> {
    if !(MIN_MIB..=MAX_MIB).contains(&mib) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    image.set_len(u64::from(mib) << 20)?;
    // A last group too small for its own tables is left out: at most 3 MiB of what was asked for.
    let mut blocks = mib * 256;
    let rest = blocks % BLOCKS_PER_GROUP;
    if blocks > BLOCKS_PER_GROUP && rest < INODE_TABLE_BLOCKS + 64 {
        blocks -= rest;
    }
    let groups = blocks.div_ceil(BLOCKS_PER_GROUP);
    // Group 0 holds superblock, descriptors, and the root folder's one block, after its own tables.
    let root_block = 2 + 2 + INODE_TABLE_BLOCKS;
    let mut descriptors = Block::new();
    let mut free_blocks = 0;
    for group in 0..groups {
        let first = group * BLOCKS_PER_GROUP;
        let size = (blocks - first).min(BLOCKS_PER_GROUP);
        let meta = if group == 0 { 2 } else { 0 };
        let used = meta + 2 + INODE_TABLE_BLOCKS + u32::from(group == 0);
        let mut bitmap = Block::new();
        bitmap.set_bits(0..used);
        bitmap.set_bits(size..BLOCKS_PER_GROUP);
        write_block(image, first + meta, &bitmap)?;
        let mut bitmap = Block::new();
        let reserved_inodes = if group == 0 { 10 } else { 0 };
        bitmap.set_bits(0..reserved_inodes);
        bitmap.set_bits(INODES_PER_GROUP..BLOCKS_PER_GROUP);
        write_block(image, first + meta + 1, &bitmap)?;
        let at = group as usize * 32;
        descriptors.u32(at, first + meta);
        descriptors.u32(at + 4, first + meta + 1);
        descriptors.u32(at + 8, first + meta + 2);
        descriptors.u16(at + 12, low16(size - used));
        descriptors.u16(at + 14, low16(INODES_PER_GROUP - reserved_inodes));
        descriptors.u16(at + 16, u16::from(group == 0)); // folders
        free_blocks += size - used;
    }
    write_block(image, 1, &descriptors)?;
    let mut root = Block::new(); // inode 2 is the second in the table
    let at = INODE_SIZE as usize;
    root.u16(at, 0o040_700);
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
    write_block(image, 4, &root)?;
    let mut folder = Block::new(); // two entries: inode, record length, name length, type 2, name
    folder.u32(0, 2);
    folder.u16(4, 12);
    folder.0[6..9].copy_from_slice(&[1, 2, b'.']);
    folder.u32(12, 2);
    folder.u16(16, 4096 - 12);
    folder.0[18..22].copy_from_slice(&[2, 2, b'.', b'.']);
    write_block(image, root_block, &folder)?;

    let mut superblock = Block::new();
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
    superblock.u32(s + 0x60, 0x42); // incompat: FILETYPE, EXTENTS
    superblock.u32(s + 0x64, 0x62); // ro_compat: LARGE_FILE, DIR_NLINK, EXTRA_ISIZE
    superblock.0[s + 0x68..s + 0x78].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    superblock.u16(s + 0x15C, 32);
    superblock.u16(s + 0x15E, 32);
    write_block(image, 0, &superblock)
}

fn low16(value: u32) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

fn write_block(image: &File, number: u32, block: &Block) -> io::Result<()> {
    image.write_all_at(block.0.as_slice(), u64::from(number) * BLOCK as u64)
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
            format(&image, mib).unwrap();
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
