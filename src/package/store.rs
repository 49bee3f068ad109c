//! Trees on disk, each under the digest of the package it came from.
//!
//! ```text
//! DIR/sha256/<digest>/   a finished tree; never changed again
//! DIR/meta/<digest>      its size and number of entries
//! DIR/tmp/<name>/        a tree being written, locked by who writes it
//! ```
//!
//! A tree gets its name by one `rename(2)`, so a crash leaves either all of it or something in `tmp`, which
//! the next [`TreeStore::open`] removes. What another live process writes there is told by its `flock(2)`:
//! the kernel drops the lock with the process, however it ends.
//!
//! Folders are 0711 so that a sandbox's uid reaches a tree whose digest it was given and can list no other.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::unistd::syncfs;

use super::digest::Digest;
use super::error::{PackageError, Rule};
use super::{Limits, PackageIndex};

/// A finished, read-only code tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// The tree's root on the host.
    pub path: PathBuf,
    /// SHA-256 of the zip's bytes; of a directory, see [`super::copy_directory`]. A random name in a store that was
    /// opened for single use.
    pub digest: Digest,
    /// Bytes in files and links.
    pub unzipped_bytes: u64,
    /// Files, links and directories, without the root.
    pub entries: u64,
}

impl Tree {
    /// Opens the tree to look for files in it.
    ///
    /// # Errors
    /// [`PackageError::Store`] if the tree is gone.
    pub fn index(&self) -> Result<PackageIndex, PackageError> {
        PackageIndex::open(&self.path)
    }

    /// Holds a tree that was there already to the limits of now.
    pub(super) fn check(&self, limits: &Limits) -> Result<(), PackageError> {
        if self.unzipped_bytes > limits.unzipped_bytes {
            return Err(PackageError::whole(Rule::UnzippedTooLarge {
                limit: limits.unzipped_bytes,
            }));
        }
        if self.entries > limits.entries {
            return Err(PackageError::whole(Rule::TooManyEntries { limit: limits.entries }));
        }
        Ok(())
    }
}

/// The folder that holds all trees. Any number of processes may share one.
#[derive(Debug)]
pub struct TreeStore {
    dir: PathBuf,
    durability: Durability,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Durability {
    /// A tree that has its name is on the disk.
    Durable,
    /// A tree lives as long as the machine does not crash.
    Scratch,
    /// As `Scratch`, and nobody looks for a tree that is there already: it needs no name that tells what is in it.
    SingleUse,
}

impl TreeStore {
    /// Opens a store whose trees outlive a power cut, and removes what crashed writers left.
    ///
    /// # Errors
    /// [`PackageError::Store`] if a folder cannot be made or read.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, PackageError> {
        Self::with(dir.into(), Durability::Durable)
    }

    /// Opens a store for trees that are soon deleted: nothing is forced to the disk.
    ///
    /// # Errors
    /// As [`TreeStore::open`].
    pub fn open_scratch(dir: impl Into<PathBuf>) -> Result<Self, PackageError> {
        Self::with(dir.into(), Durability::Scratch)
    }

    /// Opens a store for one run: as [`TreeStore::open_scratch`], and what is put in is not hashed but has a random name,
    /// known to who put it there alone.
    ///
    /// # Errors
    /// As [`TreeStore::open`].
    pub fn open_single_use(dir: impl Into<PathBuf>) -> Result<Self, PackageError> {
        Self::with(dir.into(), Durability::SingleUse)
    }

    pub(super) fn names_by_content(&self) -> bool {
        self.durability != Durability::SingleUse
    }

    /// Whether what is unpacked here waits behind other work of the process: a server answers meanwhile.
    pub(super) fn stands_back(&self) -> bool {
        self.durability == Durability::Durable
    }

    fn with(dir: PathBuf, durability: Durability) -> Result<Self, PackageError> {
        let store = Self { dir, durability };
        for (path, mode) in [
            (store.dir.clone(), 0o711),
            (store.dir.join("sha256"), 0o711),
            (store.dir.join("meta"), 0o700),
            (store.dir.join("tmp"), 0o700),
        ] {
            make_dir(&path, mode).map_err(|source| failed("make directory", &path, source))?;
        }
        store.sweep()?;
        Ok(store)
    }

    /// Returns the folder that was opened.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns where the tree of `digest` is or would be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join("sha256").join(digest.hex())
    }

    /// Returns the tree of `digest` if it is there.
    ///
    /// # Errors
    /// [`PackageError::Store`] if the disk cannot tell.
    pub fn get(&self, digest: &Digest) -> Result<Option<Tree>, PackageError> {
        let path = self.path(digest);
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => {
                return Err(failed("use as a tree", &path, io::ErrorKind::NotADirectory.into()));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(failed("look up", &path, source)),
        }
        let (unzipped_bytes, entries) = match self.recorded(digest) {
            Some(size) => size,
            // The record went before the tree; one that is missing was deleted by hand.
            None => PackageIndex::open(&path)?.size()?,
        };
        Ok(Some(Tree { path, digest: *digest, unzipped_bytes, entries }))
    }

    /// Returns the digests of all trees, in no order.
    ///
    /// # Errors
    /// [`PackageError::Store`] if the folder cannot be read.
    pub fn digests(&self) -> Result<Vec<Digest>, PackageError> {
        let path = self.dir.join("sha256");
        let listed = fs::read_dir(&path).map_err(|source| failed("list", &path, source))?;
        let mut digests = Vec::new();
        for entry in listed {
            let entry = entry.map_err(|source| failed("list", &path, source))?;
            digests.extend(entry.file_name().to_str().and_then(|name| name.parse::<Digest>().ok()));
        }
        Ok(digests)
    }

    /// Removes a tree; it is gone from its name at once. Returns whether it was there.
    ///
    /// Sandboxes that have the tree mounted lose its files: only the caller knows whether any has.
    ///
    /// # Errors
    /// [`PackageError::Store`] if it is there and cannot be removed.
    pub fn remove(&self, digest: &Digest) -> Result<bool, PackageError> {
        let staging = self.stage()?;
        let path = self.path(digest);
        match fs::rename(&path, staging.dir.join("removed")) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(source) => return Err(failed("remove", &path, source)),
        }
        let record = self.record_path(digest);
        match fs::remove_file(&record) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &record, source))
            }
            _ => Ok(true),
        }
    }

    /// Starts a new tree, empty and in nobody's way.
    pub(super) fn stage(&self) -> Result<Staging<'_>, PackageError> {
        let tmp = self.dir.join("tmp");
        let gate = open_dir(&tmp).map_err(|source| failed("open", &tmp, source))?;
        // Between `mkdir` and its lock a folder looks like a dead writer's: no sweep may look then.
        gate.lock_shared().map_err(|source| failed("lock", &tmp, source))?;
        let dir = tmp.join(unique_name());
        let made = DirBuilder::new().mode(0o700).create(&dir);
        made.map_err(|source| failed("make directory", &dir, source))?;
        let locked = open_dir(&dir).and_then(|lock| {
            lock.try_lock()?;
            Ok(lock)
        });
        let lock = locked.map_err(|source| failed("lock", &dir, source))?;
        drop(gate);
        let mut staging = Staging { store: self, dir, root: None, lock };
        let tree = staging.dir.join("tree");
        let made = DirBuilder::new().mode(0o700).create(&tree).and_then(|()| open_dir(&tree));
        staging.root = Some(made.map_err(|source| failed("make directory", &tree, source))?);
        Ok(staging)
    }

    /// Removes what writers left that are no more.
    fn sweep(&self) -> Result<(), PackageError> {
        let tmp = self.dir.join("tmp");
        let gate = open_dir(&tmp).map_err(|source| failed("open", &tmp, source))?;
        gate.lock().map_err(|source| failed("lock", &tmp, source))?;
        let mut stale = Vec::new();
        for entry in fs::read_dir(&tmp).map_err(|source| failed("list", &tmp, source))? {
            let path = entry.map_err(|source| failed("list", &tmp, source))?.path();
            let lock = match open_dir(&path) {
                Ok(lock) => lock,
                // Removed by its writer meanwhile, or nothing that a writer makes.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                    ) =>
                {
                    continue;
                }
                Err(source) => return Err(failed("open", &path, source)),
            };
            match lock.try_lock() {
                Ok(()) => stale.push((path, lock)),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(source)) => return Err(failed("lock", &path, source)),
            }
        }
        // Held locks keep other sweeps away; new writers need not wait for the deleting.
        drop(gate);
        for (path, _lock) in &stale {
            remove_all(path).map_err(|source| failed("remove", path, source))?;
        }
        Ok(())
    }

    fn record_path(&self, digest: &Digest) -> PathBuf {
        self.dir.join("meta").join(digest.hex())
    }

    fn recorded(&self, digest: &Digest) -> Option<(u64, u64)> {
        let text = fs::read_to_string(self.record_path(digest)).ok()?;
        let (bytes, entries) = text.strip_suffix('\n')?.split_once(' ')?;
        Some((bytes.parse().ok()?, entries.parse().ok()?))
    }
}

/// A tree being written; removed unless it is committed.
#[derive(Debug)]
pub(super) struct Staging<'s> {
    store: &'s TreeStore,
    dir: PathBuf,
    root: Option<File>,
    /// Released after `drop` has removed the folder.
    lock: File,
}

impl Staging<'_> {
    /// Returns the directory to write the tree into.
    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_ref().unwrap_or(&self.lock).as_fd()
    }

    /// Gives the tree its name. If another writer of the same package was quicker, its tree is returned.
    pub(super) fn commit(
        self,
        digest: Digest,
        unzipped_bytes: u64,
        entries: u64,
    ) -> Result<Tree, PackageError> {
        let durable = self.store.durability == Durability::Durable;
        let written = self.dir.join("meta");
        let record = self.store.record_path(&digest);
        fs::write(&written, format!("{unzipped_bytes} {entries}\n"))
            .map_err(|source| failed("write", &written, source))?;
        if durable {
            // One call for the whole tree: an `fsync` for each of thousands of files takes minutes.
            syncfs(self.root()).map_err(|errno| failed("sync", &self.dir, errno.into()))?;
        }
        fs::rename(&written, &record).map_err(|source| failed("rename", &written, source))?;
        let tree = self.dir.join("tree");
        let path = self.store.path(&digest);
        match fs::rename(&tree, &path) {
            Ok(()) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
                ) => {}
            Err(source) => return Err(failed("rename", &tree, source)),
        }
        if durable {
            for folder in ["meta", "sha256"] {
                let folder = self.store.dir.join(folder);
                open_dir(&folder)
                    .and_then(|folder| folder.sync_all())
                    .map_err(|source| failed("sync", &folder, source))?;
            }
        }
        Ok(Tree { path, digest, unzipped_bytes, entries })
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next sweep.
        let _ = remove_all(&self.dir);
    }
}

/// Makes a folder with exactly `mode`. One that is there keeps the mode that its owner gave it.
fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(mode)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn remove_all(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn open_dir(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)
}

/// A name that no other writer picks; `mkdir` would notice if one did.
fn unique_name() -> String {
    // Every RandomState is keyed differently, from the kernel's randomness.
    let random = RandomState::new().build_hasher().finish();
    format!("{}-{random:016x}", std::process::id())
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> PackageError {
    PackageError::Store { action, path: path.to_owned(), source }
}
