//! A directory as a package: walked by the rules that a zip is read by, and copied into the store.
//!
//! It is copied because a sandbox has a uid of its own, which may not be able to read the original, and
//! because a running function's code must not change under it.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, stat};
use sha2::{Digest as _, Sha256};

use super::beneath::{self, Links};
use super::digest::Digest;
use super::error::{EntryName, PackageError, Rule};
use super::extract::{self, Content, Sink};
use super::index::{IndexKind, kind_of};
use super::layout::{Kind, Layout};
use super::store::{Tree, TreeStore};
use super::{Limits, Progress, name};

/// First bytes of what a directory's digest is taken over. A zip never begins so: what it would begin with
/// before its first entry would have to be all of a list like this one.
const DIGEST_HEAD: &[u8] = b"kennel directory 1\n";

/// Bytes read at a time.
const READ_BYTES: usize = 128 * 1024;

/// Copies the directory `source` into `store`.
///
/// Where the store names trees by content, the digest is SHA-256 over a list of all entries, sorted by path, each as a line: `d`, `f` (file), `x`
/// (executable file) or `l` (link); size; SHA-256 of the content; path. So it depends on nothing that the
/// tree does not hold, and equal directories share a tree.
///
/// # Errors
/// As [`super::unpack`]; `limits.zipped_bytes` does not apply.
pub fn copy_directory(
    source: &Path,
    limits: &Limits,
    store: &TreeStore,
    progress: &mut dyn FnMut(Progress),
) -> Result<Tree, PackageError> {
    let (walked, layout) = Walked::walk(source, limits, store)?;
    let staging = store.stage()?;
    let how = extract::How::new(limits, store);
    let bytes = extract::extract(&layout, &walked, staging.root(), &how, progress)?;
    staging.commit(walked.digest(), bytes, layout.nodes())
}

struct Walked {
    root: OwnedFd,
    entries: Vec<Entry>,
    /// Of each entry SHA-256 of what was read of it; empty where nothing is named by content.
    contents: Vec<OnceLock<Digest>>,
}

struct Entry {
    path: String,
    kind: Kind,
    bytes: u64,
}

impl Walked {
    fn walk(
        source: &Path,
        limits: &Limits,
        store: &TreeStore,
    ) -> Result<(Self, Layout), PackageError> {
        let opening = |errno: Errno| PackageError::Store {
            action: "open directory",
            path: source.to_owned(),
            source: errno.into(),
        };
        let root =
            open(source, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
                .map_err(opening)?;
        let forbidden = identity(&stat(store.dir()).map_err(|errno| PackageError::Store {
            action: "look up",
            path: store.dir().to_owned(),
            source: errno.into(),
        })?);

        let mut layout = Layout::new(limits);
        let mut entries = Vec::new();
        let mut total: u64 = 0;
        let mut waiting = vec![String::new()];
        while let Some(directory) = waiting.pop() {
            let error = |errno: Errno| failed("list", &directory, errno);
            let opened = beneath::open_directory(root.as_fd(), &directory).map_err(error)?;
            if identity(&fstat(&opened).map_err(error)?) == forbidden {
                return Err(match directory.as_str() {
                    "" => PackageError::whole(Rule::HoldsStore),
                    path => PackageError::entry(path.as_bytes(), Rule::HoldsStore),
                });
            }
            let mut opened = Dir::from_fd(opened).map_err(error)?;
            let mut names = Vec::new();
            for entry in opened.iter() {
                let name = entry.map_err(error)?.file_name().to_bytes().to_vec();
                if !matches!(name.as_slice(), b"." | b"..") {
                    names.push(name);
                }
                if names.len() as u64 > limits.entries {
                    return Err(PackageError::whole(Rule::TooManyEntries {
                        limit: limits.entries,
                    }));
                }
            }
            for raw in names {
                let mut path = directory.clone().into_bytes();
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(&raw);
                let refused = |rule| PackageError::entry(&path, rule);
                let checked = name::check(&path).map_err(refused)?;
                let status = fstatat(&opened, raw.as_slice(), AtFlags::AT_SYMLINK_NOFOLLOW)
                    .map_err(|errno| failed("look up", checked, errno))?;
                let kind = match kind_of(&status) {
                    Some(IndexKind::File { executable }) => Kind::File { executable },
                    Some(IndexKind::Directory) => Kind::Directory,
                    Some(IndexKind::Symlink) => Kind::Symlink,
                    None => return Err(refused(Rule::SpecialFile { kind: special_kind(&status) })),
                };
                layout.add(checked, kind, entries.len()).map_err(refused)?;
                let bytes = match kind {
                    Kind::Directory => 0,
                    _ => u64::try_from(status.st_size).unwrap_or(0),
                };
                total = total.saturating_add(bytes);
                if total > limits.unzipped_bytes {
                    return Err(PackageError::whole(Rule::UnzippedTooLarge {
                        limit: limits.unzipped_bytes,
                    }));
                }
                if kind == Kind::Directory {
                    waiting.push(checked.to_owned());
                }
                entries.push(Entry { path: checked.to_owned(), kind, bytes });
            }
        }
        if entries.is_empty() {
            return Err(PackageError::whole(Rule::NoEntries));
        }
        let hashed = if store.names_by_content() { entries.len() } else { 0 };
        let contents = (0..hashed).map(|_| OnceLock::new()).collect();
        Ok((Self { root, entries, contents }, layout))
    }

    fn digest(&self) -> Digest {
        if self.contents.is_empty() {
            return Digest::unique();
        }
        let nothing = Digest::of(b"");
        let mut order: Vec<usize> = (0..self.entries.len()).collect();
        order.sort_by(|&one, &other| self.entries[one].path.cmp(&self.entries[other].path));
        let mut list = DIGEST_HEAD.to_vec();
        for number in order {
            let entry = &self.entries[number];
            let (bytes, digest) = (entry.bytes, self.contents[number].get().unwrap_or(&nothing));
            let letter = match entry.kind {
                Kind::Directory => 'd',
                Kind::File { executable: false } => 'f',
                Kind::File { executable: true } => 'x',
                Kind::Symlink => 'l',
            };
            list.extend_from_slice(
                format!("{letter} {bytes} {digest} {}\n", entry.path).as_bytes(),
            );
        }
        Digest::of(&list)
    }
}

impl Content for Walked {
    type Reader = Vec<u8>;

    fn path(&self, number: usize) -> &str {
        self.entries.get(number).map_or("", |entry| entry.path.as_str())
    }

    fn bytes(&self, number: usize) -> u64 {
        self.entries.get(number).map_or(0, |entry| entry.bytes)
    }

    fn read(
        &self,
        number: usize,
        buffer: &mut Vec<u8>,
        sink: Sink<'_>,
    ) -> Result<(), PackageError> {
        let Some(entry) = self.entries.get(number) else { return Ok(()) };
        let changed = || PackageError::entry(entry.path.as_bytes(), Rule::ChangedWhileRead);
        let mut hash = self.contents.get(number).map(|_| Sha256::new());
        let mut total: u64 = 0;
        let mut pass = |bytes: &[u8]| {
            if let Some(hash) = &mut hash {
                hash.update(bytes);
            }
            total += bytes.len() as u64;
            // Never more than was counted on: the limit holds whatever grows meanwhile.
            if total > entry.bytes { Err(changed()) } else { sink(bytes) }
        };
        if entry.kind == Kind::Symlink {
            let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW;
            let target = beneath::open(self.root.as_fd(), &entry.path, flags, Links::Refuse)
                .and_then(|link| readlinkat(&link, ""))
                .map_err(|errno| failed("read link", &entry.path, errno))?;
            pass(target.as_bytes())?;
        } else {
            // Without O_NONBLOCK a named pipe that took the file's place would hold us for ever.
            let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
            let opened = match beneath::open(self.root.as_fd(), &entry.path, flags, Links::Refuse) {
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ENXIO) => {
                    return Err(changed());
                }
                opened => opened.map_err(|errno| failed("open", &entry.path, errno))?,
            };
            let reading = |source| PackageError::Source {
                action: "read",
                entry: EntryName::new(entry.path.as_bytes()),
                source,
            };
            let mut opened = File::from(opened);
            if !opened.metadata().map_err(reading)?.is_file() {
                return Err(changed());
            }
            buffer.resize(READ_BYTES, 0);
            loop {
                match opened.read(buffer) {
                    Ok(0) => break,
                    Ok(count) => pass(buffer.get(..count).unwrap_or_default())?,
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(source) => return Err(reading(source)),
                }
            }
        }
        if total != entry.bytes {
            return Err(changed());
        }
        if let (Some(slot), Some(hash)) = (self.contents.get(number), hash) {
            // Each entry is read once.
            let _ = slot.set(Digest::from_hash(hash));
        }
        Ok(())
    }
}

fn identity(status: &FileStat) -> (u64, u64) {
    (status.st_dev, status.st_ino)
}

fn special_kind(status: &FileStat) -> &'static str {
    match SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFIFO => "named pipe",
        SFlag::S_IFSOCK => "socket",
        SFlag::S_IFCHR => "character device",
        SFlag::S_IFBLK => "block device",
        _ => "file of an unknown type",
    }
}

fn failed(action: &'static str, path: &str, errno: Errno) -> PackageError {
    PackageError::Source { action, entry: EntryName::new(path.as_bytes()), source: errno.into() }
}
