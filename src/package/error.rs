//! Why a package was refused, and why one could not be unpacked: two kinds that callers treat differently.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// What went wrong with a package.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// One entry breaks a rule.
    #[error("entry `{entry}` {rule} ({id})", id = rule.id())]
    Entry { entry: EntryName, rule: Rule },
    /// The package as a whole breaks a rule.
    #[error("the package {rule} ({id})", id = rule.id())]
    Package { rule: Rule },
    /// The `read(2)` of the zip itself.
    #[error("cannot read the package")]
    Read { source: io::Error },
    /// A system call on a file of a package that is a directory.
    #[error("cannot {action} `{entry}` of the package")]
    Source { action: &'static str, entry: EntryName, source: io::Error },
    /// A system call on a file of the tree being written.
    #[error("cannot {action} `{entry}` in the code store")]
    Write { action: &'static str, entry: EntryName, source: io::Error },
    /// A system call on the store's own folders.
    #[error("cannot {action} `{path}`")]
    Store { action: &'static str, path: PathBuf, source: io::Error },
}

impl PackageError {
    pub(super) fn whole(rule: Rule) -> Self {
        Self::Package { rule }
    }

    pub(super) fn entry(raw: &[u8], rule: Rule) -> Self {
        Self::Entry { entry: EntryName::new(raw), rule }
    }

    /// Returns the broken rule; `None` where the machine failed and not the package.
    pub fn rule(&self) -> Option<&Rule> {
        match self {
            Self::Entry { rule, .. } | Self::Package { rule } => Some(rule),
            Self::Read { .. } | Self::Source { .. } | Self::Write { .. } | Self::Store { .. } => {
                None
            }
        }
    }

    /// Returns the broken rule's id, such as `path-traversal`.
    pub fn rule_id(&self) -> Option<&'static str> {
        self.rule().map(Rule::id)
    }

    /// Tells whether the package is at fault, and would be on every machine.
    pub fn is_refusal(&self) -> bool {
        self.rule().is_some()
    }

    /// Returns the entry at fault, where it is one entry's fault.
    pub fn entry_name(&self) -> Option<&EntryName> {
        match self {
            Self::Entry { entry, .. } | Self::Source { entry, .. } | Self::Write { entry, .. } => {
                Some(entry)
            }
            Self::Package { .. } | Self::Read { .. } | Self::Store { .. } => None,
        }
    }
}

/// An entry's name, fit for a terminal and a log line: what does not print is escaped, what is long is cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryName(String);

/// Characters of a name that a message shows.
const SHOWN_CHARS: usize = 200;

impl EntryName {
    pub(super) fn new(raw: &[u8]) -> Self {
        let mut shown = String::new();
        let mut left = SHOWN_CHARS;
        for chunk in raw.utf8_chunks() {
            for character in chunk.valid().chars() {
                if left == 0 {
                    return Self(shown + "…");
                }
                left -= 1;
                match character {
                    // Quotes are harmless inside backticks; a backtick would end the quotation.
                    '"' | '\'' => shown.push(character),
                    '`' => shown.push_str("\\u{60}"),
                    _ => shown.extend(character.escape_debug()),
                }
            }
            for byte in chunk.invalid() {
                if left == 0 {
                    return Self(shown + "…");
                }
                left -= 1;
                shown.push_str(&format!("\\x{byte:02x}"));
            }
        }
        Self(shown)
    }

    /// Returns the escaped name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A rule that a package broke. The text completes the sentence "entry `x` …" or "the package …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rule {
    // The file as a whole.
    #[error("is an empty file, not a zip")]
    EmptyFile,
    #[error("is not a zip: it has no end record")]
    NotAZip,
    #[error("is cut short: {missing} is missing")]
    Truncated { missing: &'static str },
    #[error("has {bytes} bytes after its end record")]
    TrailingData { bytes: u64 },
    #[error("is one part of a zip split over several files")]
    MultiDisk,
    #[error("has zip64 records that its other records contradict")]
    Zip64Mismatch,
    #[error(
        "has an entry list that is not where its end record says, as after data put before the zip"
    )]
    DirectoryMisplaced,
    #[error("has an entry list that does not have the {expected} entries its end record says")]
    DirectoryCorrupt { expected: u64 },
    #[error("has no entries")]
    NoEntries,
    #[error("has {bytes} bytes at offset {offset} that belong to no listed entry")]
    UnlistedData { offset: u64, bytes: u64 },
    // Costs.
    #[error("is larger than {limit} bytes")]
    ZippedTooLarge { limit: u64 },
    #[error("unpacks to more than {limit} bytes")]
    UnzippedTooLarge { limit: u64 },
    #[error("has more than {limit} files and directories")]
    TooManyEntries { limit: u64 },
    // Names.
    #[error("has no name")]
    NameEmpty,
    #[error("has a NUL in its name")]
    NameNul,
    #[error("has a name that is not UTF-8")]
    NameNotUtf8,
    #[error("has the control character U+{code:04X} in its name")]
    NameControl { code: u32 },
    #[error("has a backslash in its name: `/` separates directories in a zip")]
    Backslash,
    #[error("is an absolute path")]
    AbsolutePath,
    #[error("begins with a drive letter")]
    DrivePath,
    #[error("has a `..` component")]
    PathTraversal,
    #[error("has a `.` component")]
    DotComponent,
    #[error("has an empty component")]
    EmptyComponent,
    #[error("has a component longer than {limit} bytes")]
    ComponentTooLong { limit: usize },
    #[error("has a path longer than {limit} bytes")]
    PathTooLong { limit: usize },
    #[error("is nested more than {limit} directories deep")]
    PathTooDeep { limit: usize },
    // The tree.
    #[error("is there twice")]
    Duplicate,
    #[error("differs from `{other}` in case only")]
    CaseCollision { other: EntryName },
    #[error("is a file and a directory at once")]
    FileDirectoryConflict,
    #[error("leads through a symbolic link")]
    ThroughSymlink,
    // What an entry is.
    #[error("is a symbolic link with an absolute target")]
    SymlinkAbsolute,
    #[error("is a symbolic link that leaves the package")]
    SymlinkLeavesTree,
    #[error("is a symbolic link whose target {fault}")]
    SymlinkTarget { fault: &'static str },
    #[error("is a hard link")]
    HardLink,
    #[error("is a {kind}")]
    SpecialFile { kind: &'static str },
    #[error("is of two minds about what it is: {contradiction}")]
    TypeMismatch { contradiction: &'static str },
    // Its records and bytes.
    #[error("is encrypted")]
    Encrypted,
    #[error("is compressed by method {method}; only 0 (stored) and 8 (deflated) are read")]
    UnsupportedMethod { method: u16 },
    #[error("is a binary patch of another file")]
    PatchedData,
    #[error("has a malformed {record}")]
    HeaderCorrupt { record: &'static str },
    #[error("has one {field} in the entry list and another before its data")]
    HeaderMismatch { field: &'static str },
    #[error("shares bytes with another record")]
    OverlappingEntries,
    #[error("does not have the size that its header says")]
    SizeMismatch,
    #[error("does not have the CRC-32 that its header says")]
    CrcMismatch,
    #[error("has data that does not decompress")]
    DeflateCorrupt,
    // A directory as a package.
    #[error("holds the code store itself")]
    HoldsStore,
    #[error("changed while it was read")]
    ChangedWhileRead,
}

impl Rule {
    /// Returns the rule's name for programs. It never changes.
    pub fn id(&self) -> &'static str {
        match self {
            Self::EmptyFile => "empty-file",
            Self::NotAZip => "not-a-zip",
            Self::Truncated { .. } => "truncated",
            Self::TrailingData { .. } => "trailing-data",
            Self::MultiDisk => "multi-disk",
            Self::Zip64Mismatch => "zip64-mismatch",
            Self::DirectoryMisplaced => "directory-misplaced",
            Self::DirectoryCorrupt { .. } => "directory-corrupt",
            Self::NoEntries => "no-entries",
            Self::UnlistedData { .. } => "unlisted-data",
            Self::ZippedTooLarge { .. } => "zipped-too-large",
            Self::UnzippedTooLarge { .. } => "unzipped-too-large",
            Self::TooManyEntries { .. } => "too-many-entries",
            Self::NameEmpty => "name-empty",
            Self::NameNul => "name-nul",
            Self::NameNotUtf8 => "name-not-utf8",
            Self::NameControl { .. } => "name-control",
            Self::Backslash => "backslash",
            Self::AbsolutePath => "absolute-path",
            Self::DrivePath => "drive-path",
            Self::PathTraversal => "path-traversal",
            Self::DotComponent => "dot-component",
            Self::EmptyComponent => "empty-component",
            Self::ComponentTooLong { .. } => "component-too-long",
            Self::PathTooLong { .. } => "path-too-long",
            Self::PathTooDeep { .. } => "path-too-deep",
            Self::Duplicate => "duplicate",
            Self::CaseCollision { .. } => "case-collision",
            Self::FileDirectoryConflict => "file-directory-conflict",
            Self::ThroughSymlink => "through-symlink",
            Self::SymlinkAbsolute => "symlink-absolute",
            Self::SymlinkLeavesTree => "symlink-leaves-tree",
            Self::SymlinkTarget { .. } => "symlink-target",
            Self::HardLink => "hard-link",
            Self::SpecialFile { .. } => "special-file",
            Self::TypeMismatch { .. } => "type-mismatch",
            Self::Encrypted => "encrypted",
            Self::UnsupportedMethod { .. } => "unsupported-method",
            Self::PatchedData => "patched-data",
            Self::HeaderCorrupt { .. } => "header-corrupt",
            Self::HeaderMismatch { .. } => "header-mismatch",
            Self::OverlappingEntries => "overlapping-entries",
            Self::SizeMismatch => "size-mismatch",
            Self::CrcMismatch => "crc-mismatch",
            Self::DeflateCorrupt => "deflate-corrupt",
            Self::HoldsStore => "holds-store",
            Self::ChangedWhileRead => "changed-while-read",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_and_cut() {
        for (raw, shown) in [
            (&b"src/app.py"[..], "src/app.py"),
            (b"a\x1b[31m\n", "a\\u{1b}[31m\\n"),
            (b"it's \"x\"", "it's \"x\""),
            (b"tick`", "tick\\u{60}"),
            (b"back\\slash\0", "back\\\\slash\\0"),
            (b"\xff\xfeok", "\\xff\\xfeok"),
            ("grün".as_bytes(), "grün"),
            ("rtl\u{202e}x".as_bytes(), "rtl\\u{202e}x"),
        ] {
            assert_eq!(EntryName::new(raw).as_str(), shown);
        }
        let long = EntryName::new(&[b'x'; 5000]);
        assert_eq!(long.as_str().chars().count(), SHOWN_CHARS + 1);
        assert!(long.as_str().ends_with('…'));
    }

    #[test]
    fn messages_are_sentences() {
        let entry = PackageError::entry(b"../../etc/passwd", Rule::PathTraversal);
        assert_eq!(
            entry.to_string(),
            "entry `../../etc/passwd` has a `..` component (path-traversal)"
        );
        assert_eq!(entry.rule_id(), Some("path-traversal"));
        assert!(entry.is_refusal());
        let whole = PackageError::whole(Rule::UnzippedTooLarge { limit: 262_144_000 });
        assert_eq!(
            whole.to_string(),
            "the package unpacks to more than 262144000 bytes (unzipped-too-large)"
        );
        assert_eq!(whole.entry_name(), None);
        let disk = PackageError::Read { source: io::Error::other("gone") };
        assert_eq!((disk.rule_id(), disk.is_refusal()), (None, false));
    }
}
