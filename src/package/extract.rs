//! Writes a layout's files to disk.
//!
//! Each directory is opened by its path from the root with `RESOLVE_BENEATH` and `RESOLVE_NO_SYMLINKS`, and
//! what lies in it is made by its bare name with `O_EXCL`. Symbolic links come last, when nothing is
//! written any more. So even a fault in the layout could not write outside the root or over a file.
//!
//! Owner bits, setuid, setgid, sticky and the write bits of a package mean nothing here: a file is 0644, or
//! 0755 if any of its execute bits is set; a directory is 0755. All carry one time, so that a tree depends
//! on its package alone.
//!
//! The files of a large package are written by several threads, which take them in the layout's order, a few at a time.
//! What is told of a package that is refused does not depend on who was quicker: after an error all files before it are
//! still written, and the first one in order that fails is named.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, UtimensatFlags, fchmod, futimens, mkdirat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::symlinkat;

use super::error::{EntryName, PackageError, Rule};
use super::layout::{self, Directory, File as LaidFile, Layout};
use super::store::TreeStore;
use super::{Limits, Progress, beneath, name};
use crate::sys;

/// Modification time of everything in a tree: 1980-01-02T00:00:00Z. Zip writers refuse earlier years, and a
/// function may well zip its own files; the second day is 1980 in every time zone.
const MTIME: TimeSpec = TimeSpec::new(315_619_200, 0);

const MODE_FILE: Mode = Mode::from_bits_truncate(0o644);
const MODE_EXECUTABLE: Mode = Mode::from_bits_truncate(0o755);
const MODE_DIRECTORY: Mode = Mode::from_bits_truncate(0o755);
/// While it is being written, a tree is nobody else's.
const MODE_PRIVATE_FILE: Mode = Mode::from_bits_truncate(0o600);
const MODE_PRIVATE_DIRECTORY: Mode = Mode::from_bits_truncate(0o700);

/// From so many files or bytes on a package is large: worth threads of its own, which take 0.1 ms to start.
const LARGE_FILES: u64 = 64;
const LARGE_BYTES: u64 = 1 << 20;

/// What a thread takes at a time, within one directory: so many files, or the file that reaches so many bytes.
const BATCH_FILES: usize = 32;
const BATCH_BYTES: u64 = 1 << 20;

/// Threads of one package. The disk's own locks leave little for more.
const MAX_WORKERS: usize = 4;

/// By so much the threads of a package stand behind those that answer requests.
const STAND_BACK: i32 = 10;

/// How often progress is told while several threads write.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// Takes content piece by piece.
pub(super) type Sink<'s> = &'s mut dyn FnMut(&[u8]) -> Result<(), PackageError>;

/// Where the content of a layout's entries comes from. Several threads read from it, each with a reader of its own.
pub(super) trait Content: Sync {
    /// What a thread reads with, one entry after the other.
    type Reader: Default;

    /// Returns an entry's path in the package.
    fn path(&self, entry: usize) -> &str;

    /// Returns an entry's size as the package tells it.
    fn bytes(&self, entry: usize) -> u64;

    /// Pours an entry's content, or a link's target, into `sink`. An error comes also after bytes went out.
    fn read(
        &self,
        entry: usize,
        reader: &mut Self::Reader,
        sink: Sink<'_>,
    ) -> Result<(), PackageError>;
}

/// How much may be written, and by how many.
pub(super) struct How {
    unzipped_bytes: u64,
    workers: usize,
    stands_back: bool,
}

impl How {
    pub(super) fn new(limits: &Limits, store: &TreeStore) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self {
            unzipped_bytes: limits.unzipped_bytes,
            workers: cores.min(MAX_WORKERS),
            stands_back: store.stands_back(),
        }
    }
}

/// Writes the tree into `root`, an empty directory, and returns the number of bytes in it.
pub(super) fn extract<C: Content>(
    layout: &Layout,
    content: &C,
    root: BorrowedFd<'_>,
    how: &How,
    progress: &mut dyn FnMut(Progress),
) -> Result<u64, PackageError> {
    let batches = batches(layout, content);
    let writer = Writer {
        layout,
        content,
        root,
        limit: how.unzipped_bytes,
        batches,
        next: AtomicUsize::new(0),
        entries: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        first_failed: AtomicUsize::new(usize::MAX),
        failed: Mutex::new(None),
    };
    progress(writer.progress());
    for (number, directory) in layout.directories().iter().enumerate() {
        writer.make_directories(number, directory)?;
    }
    writer.write_files(how, progress)?;
    let mut reader = C::Reader::default();
    for (number, directory) in layout.directories().iter().enumerate() {
        writer.link(number, directory, &mut reader, progress)?;
    }
    for number in (0..layout.directories().len()).rev() {
        writer.seal(number)?;
    }
    Ok(writer.progress().bytes)
}

/// Files of one directory that one thread writes.
struct Batch<'a> {
    directory: usize,
    files: &'a [LaidFile],
    /// Of the first file, in the order of all.
    number: usize,
    bytes: u64,
}

fn batches<'a, C: Content>(layout: &'a Layout, content: &C) -> Vec<Batch<'a>> {
    let mut batches = Vec::new();
    let mut number = 0;
    for (directory, laid) in layout.directories().iter().enumerate() {
        let mut rest = laid.files.as_slice();
        while !rest.is_empty() {
            let (mut count, mut bytes) = (0, 0_u64);
            for file in rest.iter().take(BATCH_FILES) {
                count += 1;
                bytes = bytes.saturating_add(content.bytes(file.entry));
                if bytes >= BATCH_BYTES {
                    break;
                }
            }
            let (files, after) = rest.split_at(count);
            batches.push(Batch { directory, files, number, bytes });
            number += count;
            rest = after;
        }
    }
    batches
}

/// Shared by all threads that write one tree.
struct Writer<'a, C> {
    layout: &'a Layout,
    content: &'a C,
    root: BorrowedFd<'a>,
    limit: u64,
    batches: Vec<Batch<'a>>,
    /// The batch that nobody has taken yet.
    next: AtomicUsize,
    entries: AtomicU64,
    bytes: AtomicU64,
    /// Number of the first file that failed, so far as is known. No file after it needs to be written.
    first_failed: AtomicUsize,
    failed: Mutex<Option<PackageError>>,
}

impl<C: Content> Writer<'_, C> {
    fn make_directories(&self, number: usize, directory: &Directory) -> Result<(), PackageError> {
        if directory.directories.is_empty() {
            return Ok(());
        }
        let path = self.layout.path(number);
        let here = self.open(&path)?;
        for &child in &directory.directories {
            let name = self.layout.directories()[child].name();
            mkdirat(&here, name, MODE_PRIVATE_DIRECTORY)
                .map_err(|errno| failed("make directory", &layout::join(&path, name), errno))?;
        }
        Ok(())
    }

    /// Writes all files, by as many threads as they are worth.
    fn write_files(
        &self,
        how: &How,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), PackageError> {
        let files: usize = self.batches.iter().map(|batch| batch.files.len()).sum();
        let bytes: u64 = self.batches.iter().fold(0, |sum, batch| sum.saturating_add(batch.bytes));
        let large = files as u64 >= LARGE_FILES || bytes >= LARGE_BYTES;
        let workers = how.workers.min(self.batches.len());
        if large && (workers > 1 || how.stands_back) {
            self.write_beside(workers, how.stands_back, progress);
        }
        // All there is for a small package, and where no thread could be started.
        self.work(&mut || progress(self.progress()));
        self.failure().take().map_or(Ok(()), Err)
    }

    /// Has threads write until nothing is left for any; none if the host gives none.
    fn write_beside(&self, workers: usize, stand_back: bool, progress: &mut dyn FnMut(Progress)) {
        thread::scope(|scope| {
            let (alive, ended) = mpsc::channel::<()>();
            for _ in 0..workers {
                let alive = alive.clone();
                let work = move || {
                    if stand_back {
                        // Of no consequence where it fails: only who waits for whom.
                        let _ = sys::process::stand_back(STAND_BACK);
                    }
                    self.work(&mut || {});
                    drop(alive);
                };
                let named = thread::Builder::new().name("unpack".into());
                if named.spawn_scoped(scope, work).is_err() {
                    break;
                }
            }
            drop(alive);
            while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(REPORT_EVERY) {
                progress(self.progress());
            }
        });
        progress(self.progress());
    }

    /// Takes batch after batch until none is left, or none that comes before a failure.
    fn work(&self, report: &mut dyn FnMut()) {
        let mut reader = C::Reader::default();
        while let Some(batch) = self.batches.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            if batch.number > self.first_failed.load(Ordering::Relaxed) {
                break;
            }
            let here = match self.open(&self.layout.path(batch.directory)) {
                Ok(here) => here,
                Err(error) => {
                    self.fail(batch.number, error);
                    continue;
                }
            };
            for (number, file) in (batch.number..).zip(batch.files) {
                if number > self.first_failed.load(Ordering::Relaxed) {
                    break;
                }
                if let Err(error) = self.write(&here, file, &mut reader) {
                    self.fail(number, error);
                    break;
                }
                self.entries.fetch_add(1, Ordering::Relaxed);
                report();
            }
        }
    }

    fn write(
        &self,
        here: &OwnedFd,
        file: &LaidFile,
        reader: &mut C::Reader,
    ) -> Result<(), PackageError> {
        let path = self.content.path(file.entry);
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let opened = openat(here, &*file.name, flags, MODE_PRIVATE_FILE)
            .map_err(|errno| failed("create", path, errno))?;
        let mut opened = File::from(opened);
        self.pour(file.entry, reader, &mut |bytes| {
            opened.write_all(bytes).map_err(|source| PackageError::Write {
                action: "write",
                entry: EntryName::new(path.as_bytes()),
                source,
            })
        })?;
        let mode = if file.executable { MODE_EXECUTABLE } else { MODE_FILE };
        finish(opened.as_fd(), mode).map_err(|errno| failed("finish", path, errno))
    }

    /// Keeps the failure that comes first in order.
    fn fail(&self, number: usize, error: PackageError) {
        let mut failed = self.failure();
        if number < self.first_failed.load(Ordering::Relaxed) {
            self.first_failed.store(number, Ordering::Relaxed);
            *failed = Some(error);
        }
    }

    fn failure(&self) -> MutexGuard<'_, Option<PackageError>> {
        // No code here panics while it holds the lock.
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn progress(&self) -> Progress {
        Progress {
            entries: self.entries.load(Ordering::Relaxed),
            total_entries: self.layout.leaves(),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }

    /// Makes a directory's symbolic links.
    fn link(
        &self,
        number: usize,
        directory: &Directory,
        reader: &mut C::Reader,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), PackageError> {
        if directory.links.is_empty() {
            return Ok(());
        }
        let here = self.open(&self.layout.path(number))?;
        for link in &directory.links {
            let path = self.content.path(link.entry);
            let mut target = Vec::new();
            self.pour(link.entry, reader, &mut |bytes| {
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
            self.entries.fetch_add(1, Ordering::Relaxed);
            progress(self.progress());
        }
        Ok(())
    }

    /// Gives a directory, now complete, its mode and time.
    fn seal(&self, number: usize) -> Result<(), PackageError> {
        let path = self.layout.path(number);
        let here = self.open(&path)?;
        finish(here.as_fd(), MODE_DIRECTORY).map_err(|errno| failed("finish", &path, errno))
    }

    /// Passes an entry's content on while the tree may still grow.
    fn pour(
        &self,
        entry: usize,
        reader: &mut C::Reader,
        sink: Sink<'_>,
    ) -> Result<(), PackageError> {
        let limit = self.limit;
        self.content.read(entry, reader, &mut |piece| {
            let more = piece.len() as u64;
            if self.bytes.fetch_add(more, Ordering::Relaxed).saturating_add(more) > limit {
                return Err(PackageError::whole(Rule::UnzippedTooLarge { limit }));
            }
            sink(piece)
        })
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
