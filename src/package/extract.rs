//! Writes a layout's files to disk.
//!
//! Each directory is opened by its path from the root with `RESOLVE_BENEATH` and `RESOLVE_NO_SYMLINKS`, and
//! what lies in it is made by its bare name with `O_EXCL`. Symbolic links come last, when nothing is
//! written any more. So even a fault in the layout could not write outside the root or over a file.
//!
//! Owner bits, setuid, setgid, sticky and the write bits of a package mean nothing here: a file is 0644, or
//! 0755 if any of its execute bits is set; a directory is 0755. All carry one time, so that a tree depends
//! on its package alone.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, UtimensatFlags, fchmod, futimens, mkdirat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::symlinkat;

use super::error::{EntryName, PackageError, Rule};
use super::layout::{self, Directory, Layout};
use super::{Limits, Progress, beneath, name};

/// Modification time of everything in a tree: 1980-01-02T00:00:00Z. Zip writers refuse earlier years, and a
/// function may well zip its own files; the second day is 1980 in every time zone.
const MTIME: TimeSpec = TimeSpec::new(315_619_200, 0);

const MODE_FILE: Mode = Mode::from_bits_truncate(0o644);
const MODE_EXECUTABLE: Mode = Mode::from_bits_truncate(0o755);
const MODE_DIRECTORY: Mode = Mode::from_bits_truncate(0o755);
/// While it is being written, a tree is nobody else's.
const MODE_PRIVATE_FILE: Mode = Mode::from_bits_truncate(0o600);
const MODE_PRIVATE_DIRECTORY: Mode = Mode::from_bits_truncate(0o700);

/// Takes content piece by piece.
pub(super) type Sink<'s> = &'s mut dyn FnMut(&[u8]) -> Result<(), PackageError>;

/// Where the content of a layout's entries comes from.
pub(super) trait Content {
    /// Returns an entry's path in the package.
    fn path(&self, entry: usize) -> &str;

    /// Pours an entry's content, or a link's target, into `sink`. An error comes also after bytes went out.
    fn read(&self, entry: usize, sink: Sink<'_>) -> Result<(), PackageError>;
}

/// Writes the tree into `root`, an empty directory, and returns the number of bytes in it.
pub(super) fn extract(
    layout: &Layout,
    content: &dyn Content,
    root: BorrowedFd<'_>,
    limits: &Limits,
    progress: &mut dyn FnMut(Progress),
) -> Result<u64, PackageError> {
    let total_entries = layout.leaves();
    let progress_start = Progress { entries: 0, total_entries, bytes: 0 };
    progress(progress_start);
    let mut writer = Writer {
        layout,
        content,
        root,
        limit: limits.unzipped_bytes,
        progress,
        done: progress_start,
    };
    for (number, directory) in layout.directories().iter().enumerate() {
        writer.fill(number, directory)?;
    }
    for (number, directory) in layout.directories().iter().enumerate() {
        writer.link(number, directory)?;
    }
    for number in (0..layout.directories().len()).rev() {
        writer.seal(number)?;
    }
    Ok(writer.done.bytes)
}

struct Writer<'a> {
    layout: &'a Layout,
    content: &'a dyn Content,
    root: BorrowedFd<'a>,
    limit: u64,
    progress: &'a mut dyn FnMut(Progress),
    done: Progress,
}

impl Writer<'_> {
    /// Makes a directory's subdirectories and files.
    fn fill(&mut self, number: usize, directory: &Directory) -> Result<(), PackageError> {
        if directory.directories.is_empty() && directory.files.is_empty() {
            return Ok(());
        }
        let path = self.layout.path(number);
        let here = self.open(&path)?;
        for &child in &directory.directories {
            let name = self.layout.directories()[child].name();
            mkdirat(&here, name, MODE_PRIVATE_DIRECTORY)
                .map_err(|errno| failed("make directory", &layout::join(&path, name), errno))?;
        }
        for file in &directory.files {
            let path = self.content.path(file.entry);
            let flags = OFlag::O_WRONLY
                | OFlag::O_CREAT
                | OFlag::O_EXCL
                | OFlag::O_NOFOLLOW
                | OFlag::O_CLOEXEC;
            let opened = openat(&here, &*file.name, flags, MODE_PRIVATE_FILE)
                .map_err(|errno| failed("create", path, errno))?;
            let mut opened = File::from(opened);
            self.pour(file.entry, &mut |bytes| {
                opened.write_all(bytes).map_err(|source| PackageError::Write {
                    action: "write",
                    entry: EntryName::new(path.as_bytes()),
                    source,
                })
            })?;
            let mode = if file.executable { MODE_EXECUTABLE } else { MODE_FILE };
            finish(opened.as_fd(), mode).map_err(|errno| failed("finish", path, errno))?;
            self.report();
        }
        Ok(())
    }

    /// Makes a directory's symbolic links.
    fn link(&mut self, number: usize, directory: &Directory) -> Result<(), PackageError> {
        if directory.links.is_empty() {
            return Ok(());
        }
        let here = self.open(&self.layout.path(number))?;
        for link in &directory.links {
            let path = self.content.path(link.entry);
            let mut target = Vec::new();
            self.pour(link.entry, &mut |bytes| {
                target.extend_from_slice(bytes);
                if target.len() > name::TARGET_BYTES {
                    let rule = Rule::SymlinkTarget { fault: "is longer than 4095 bytes" };
                    return Err(PackageError::entry(path.as_bytes(), rule));
                }
                Ok(())
            })?;
            name::check_target(path, &target)
                .map_err(|rule| PackageError::entry(path.as_bytes(), rule))?;
            symlinkat(&*target, &here, &*link.name)
                .and_then(|()| {
                    utimensat(&here, &*link.name, &MTIME, &MTIME, UtimensatFlags::NoFollowSymlink)
                })
                .map_err(|errno| failed("link", path, errno))?;
            self.report();
        }
        Ok(())
    }

    /// Gives a directory, now complete, its mode and time.
    fn seal(&self, number: usize) -> Result<(), PackageError> {
        let path = self.layout.path(number);
        let here = self.open(&path)?;
        finish(here.as_fd(), MODE_DIRECTORY).map_err(|errno| failed("finish", &path, errno))
    }

    /// Passes an entry's content on while it may still grow.
    fn pour(&mut self, entry: usize, sink: Sink<'_>) -> Result<(), PackageError> {
        let (limit, bytes) = (self.limit, &mut self.done.bytes);
        self.content.read(entry, &mut |piece| {
            *bytes = bytes.saturating_add(piece.len() as u64);
            if *bytes > limit {
                return Err(PackageError::whole(Rule::UnzippedTooLarge { limit }));
            }
            sink(piece)
        })
    }

    fn report(&mut self) {
        self.done.entries += 1;
        (self.progress)(self.done);
    }

    fn open(&self, path: &str) -> Result<OwnedFd, PackageError> {
        beneath::open_directory(self.root, path)
            .map_err(|errno| failed("open directory", path, errno))
    }
}

/// Sets mode, in spite of any umask, and time.
fn finish(file: BorrowedFd<'_>, mode: Mode) -> nix::Result<()> {
    fchmod(file, mode)?;
    futimens(file, &MTIME, &MTIME)
}

fn failed(action: &'static str, path: &str, errno: Errno) -> PackageError {
    PackageError::Write { action, entry: EntryName::new(path.as_bytes()), source: errno.into() }
}
