//! A look into a tree: which files are there, and how does one begin. Used to guess runtime and handler.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};

use super::beneath::{self, Links};
use super::error::PackageError;
use super::layout::join;

/// A tree that can be searched. What it finds stays the same: trees do not change.
#[derive(Debug)]
pub struct PackageIndex {
    root: OwnedFd,
    path: PathBuf,
}

/// One file, directory or link of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexEntry {
    /// Path from the tree's root, with `/` between components.
    pub path: String,
    pub kind: IndexKind,
    /// Size of a file or of a link's target; 0 for a directory.
    pub bytes: u64,
}

impl IndexEntry {
    /// Returns the last component of the path.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

/// What an [`IndexEntry`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexKind {
    File { executable: bool },
    Directory,
    Symlink,
}

impl PackageIndex {
    pub(super) fn open(path: &Path) -> Result<Self, PackageError> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let root =
            open(path, flags, Mode::empty()).map_err(|errno| failed("open", path, errno.into()))?;
        Ok(Self { root, path: path.to_owned() })
    }

    /// Returns the entries that `wanted` picks, sorted by path.
    ///
    /// `depth` is the number of components a path may have: 1 looks at the top level only, and costs as
    /// much as the top level has entries, however large the tree is.
    ///
    /// # Errors
    /// [`PackageError::Store`] if a directory cannot be read.
    pub fn matching(
        &self,
        depth: usize,
        mut wanted: impl FnMut(&IndexEntry) -> bool,
    ) -> Result<Vec<IndexEntry>, PackageError> {
        let mut found = Vec::new();
        self.walk(depth, &mut |entry| {
            if wanted(&entry) {
                found.push(entry);
            }
        })?;
        found.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(found)
    }

    /// Returns the first `limit` bytes of a file, or `None` if there is no file at `path`.
    ///
    /// Symbolic links are followed within the tree.
    ///
    /// # Errors
    /// [`PackageError::Store`] if the file is there and cannot be read.
    pub fn read_start(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, PackageError> {
        let error = |source| failed("read", &self.path.join(path), source);
        let opened =
            match beneath::open(self.root.as_fd(), path, OFlag::O_RDONLY, Links::StayBeneath) {
                Ok(opened) => File::from(opened),
                Err(
                    Errno::ENOENT
                    | Errno::ENOTDIR
                    | Errno::ELOOP
                    | Errno::EXDEV
                    | Errno::ENAMETOOLONG
                    | Errno::EINVAL,
                ) => return Ok(None),
                Err(errno) => return Err(error(errno.into())),
            };
        if !opened.metadata().map_err(error)?.is_file() {
            return Ok(None);
        }
        let mut start = Vec::new();
        opened.take(limit as u64).read_to_end(&mut start).map_err(error)?;
        Ok(Some(start))
    }

    /// Returns bytes and number of entries.
    pub(super) fn size(&self) -> Result<(u64, u64), PackageError> {
        let (mut bytes, mut entries) = (0_u64, 0);
        self.walk(usize::MAX, &mut |entry| {
            bytes = bytes.saturating_add(entry.bytes);
            entries += 1;
        })?;
        Ok((bytes, entries))
    }

    fn walk(&self, depth: usize, visit: &mut dyn FnMut(IndexEntry)) -> Result<(), PackageError> {
        let mut waiting = vec![(String::new(), 1)];
        while let Some((directory, level)) = waiting.pop() {
            if level > depth {
                continue;
            }
            let error = |errno: Errno| failed("list", &self.path.join(&directory), errno.into());
            let opened = beneath::open_directory(self.root.as_fd(), &directory).map_err(error)?;
            let mut opened = Dir::from_fd(opened).map_err(error)?;
            let mut names = Vec::new();
            for entry in opened.iter() {
                let entry = entry.map_err(error)?;
                // Every name in a tree is UTF-8; a file of any other was put there by hand.
                names.extend(entry.file_name().to_str().ok().map(str::to_owned));
            }
            for name in names.iter().filter(|name| !matches!(name.as_str(), "." | "..")) {
                let status =
                    fstatat(&opened, name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW).map_err(error)?;
                let path = join(&directory, name);
                let Some(kind) = kind_of(&status) else { continue };
                if kind == IndexKind::Directory {
                    waiting.push((path.clone(), level + 1));
                }
                let bytes = match kind {
                    IndexKind::Directory => 0,
                    _ => u64::try_from(status.st_size).unwrap_or(0),
                };
                visit(IndexEntry { path, kind, bytes });
            }
        }
        Ok(())
    }
}

/// Tells what a file is; `None` for devices, pipes and sockets.
pub(super) fn kind_of(status: &FileStat) -> Option<IndexKind> {
    match SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFREG => Some(IndexKind::File { executable: status.st_mode & 0o111 != 0 }),
        SFlag::S_IFDIR => Some(IndexKind::Directory),
        SFlag::S_IFLNK => Some(IndexKind::Symlink),
        _ => None,
    }
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> PackageError {
    PackageError::Store { action, path: path.to_owned(), source }
}
