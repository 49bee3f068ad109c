//! Untrusted zip → verified, content-addressed, read-only code tree.
//!
//! A package is read as an enemy wrote it. It goes through four hands, and each knows only its own part:
//!
//! ```text
//! bytes ─▶ archive ─▶ layout ─▶ extract ─▶ store
//!          (zip's     (names,   (bytes     (DIR/sha256/<digest>,
//!          records)   one tree) on disk)   appears whole or not at all)
//! ```
//!
//! - `archive` checks the zip's records against each other, so that every zip reader sees the same
//!   entries in it: local headers equal central ones, and every byte of the file is accounted for.
//! - `layout` decides what the tree looks like before a byte is written: no duplicate, no file that is
//!   also a directory, no path that leads through a symbolic link.
//! - `extract` writes files into directories that it opened beneath the tree's root, symbolic links
//!   last, and counts the bytes that come out instead of trusting a header.
//! - `store` gives the finished tree its name with one `rename(2)`.
//!
//! A directory as a package ([`copy_directory`]) takes the same way, with a walk in the archive's place.
//! Nothing here needs privilege, and nothing here runs or interprets what a package holds.

#![forbid(unsafe_code)]

mod archive;
mod beneath;
mod digest;
mod directory;
mod error;
mod extract;
mod index;
mod layout;
mod name;
mod store;

use std::io::Read;

pub use digest::Digest;
pub use directory::copy_directory;
pub use error::{EntryName, PackageError, Rule};
pub use index::{IndexEntry, IndexKind, PackageIndex};
pub use store::{Tree, TreeStore};

/// AWS Lambda's limit on a zip sent in the call, in bytes (50 MiB).
///
/// Source: AWS Lambda quotas, "Deployment package size", and the service's own error text.
pub const AWS_ZIPPED_BYTES: u64 = 52_428_800;

/// AWS Lambda's limit on an unpacked package, layers included, in bytes (250 MiB).
///
/// Source: AWS Lambda quotas, and the service's own error text.
pub const AWS_UNZIPPED_BYTES: u64 = 262_144_000;

/// Files, directories and links in one tree. AWS names no such limit; this one bounds inodes.
pub const DEFAULT_ENTRIES: u64 = 100_000;

/// What a package may cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Size of the zip itself. It is held in memory while it is unpacked.
    pub zipped_bytes: u64,
    /// Bytes written: file contents and symbolic links' targets, counted as they come out.
    pub unzipped_bytes: u64,
    /// Files, links and directories, with the directories that only a longer path names.
    pub entries: u64,
    /// What becomes of two names that differ in case only.
    pub case_collisions: CaseCollisions,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            zipped_bytes: AWS_ZIPPED_BYTES,
            unzipped_bytes: AWS_UNZIPPED_BYTES,
            entries: DEFAULT_ENTRIES,
            case_collisions: CaseCollisions::Refuse,
        }
    }
}

/// What becomes of two names that differ in case only, such as `META-INF/LICENSE` and `META-INF/license/`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CaseCollisions {
    /// The package is refused: a reviewer on a case-insensitive disk saw another tree than the one that runs.
    #[default]
    Refuse,
    /// Both are written, as Linux allows.
    Allow,
}

/// How far an unpacking is; reported before the first entry and after the last, and in between: after every entry of a
/// small package, every tenth of a second for a large one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Files and links written so far.
    pub entries: u64,
    /// Files and links there will be.
    pub total_entries: u64,
    /// Bytes written so far.
    pub bytes: u64,
}

/// Unpacks a zip into `store`, or finds it there already.
///
/// `about_bytes` is how long it will be, as far as is known. The zip is read once, from its current position to the end, into memory: what is hashed is then what is
/// unpacked, even if the file changes meanwhile.
///
/// # Errors
/// [`PackageError::is_refusal`] tells a package that breaks a rule from a disk that fails.
pub fn unpack(
    zip: impl Read,
    about_bytes: u64,
    limits: &Limits,
    store: &TreeStore,
    progress: &mut dyn FnMut(Progress),
) -> Result<Tree, PackageError> {
    // One more: the read that finds the end then needs no larger buffer.
    let room = about_bytes.min(limits.zipped_bytes).saturating_add(1);
    let mut bytes = Vec::with_capacity(usize::try_from(room).unwrap_or(0));
    // One byte more than allowed, so that too much is told from just enough.
    zip.take(limits.zipped_bytes.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|source| PackageError::Read { source })?;
    let digest = if store.names_by_content() { Digest::of(&bytes) } else { Digest::unique() };
    unpack_bytes(&bytes, &digest, limits, store, progress)
}

/// Unpacks a zip that is in memory into `store` as `digest`, which is its own, or finds it there already; then nothing of
/// it is looked at again.
///
/// # Errors
/// As [`unpack`].
pub fn unpack_bytes(
    zip: &[u8],
    digest: &Digest,
    limits: &Limits,
    store: &TreeStore,
    progress: &mut dyn FnMut(Progress),
) -> Result<Tree, PackageError> {
    if zip.len() as u64 > limits.zipped_bytes {
        return Err(PackageError::whole(Rule::ZippedTooLarge { limit: limits.zipped_bytes }));
    }
    if let Some(tree) = store.get(digest)? {
        tree.check(limits)?;
        return Ok(tree);
    }
    let archive = archive::Archive::parse(zip, limits)?;
    let layout = archive.layout(limits)?;
    let staging = store.stage()?;
    let how = extract::How::new(limits, store);
    let bytes = extract::extract(&layout, &archive, staging.root(), &how, progress)?;
    staging.commit(*digest, bytes, layout.nodes())
}
