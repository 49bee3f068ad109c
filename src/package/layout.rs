//! What a tree will look like, decided before a byte of it is written.
//!
//! Paths come in one by one, in any order, and each is put at its place in a tree of directories. Two
//! paths that cannot both be there are told apart here: the disk never sees the second one.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;

use super::error::{EntryName, Rule};
use super::{CaseCollisions, Limits};

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File { executable: bool },
    Symlink,
}

/// A tree of directories, files and links; contents are elsewhere, under an entry's number.
#[derive(Debug)]
pub(super) struct Layout {
    /// The root is first; a directory comes after its parent.
    directories: Vec<Directory>,
    nodes: u64,
    node_limit: u64,
    case_collisions: CaseCollisions,
    /// The directory of the entry before, with its path: most next ones lie there as well.
    last: (String, usize),
}

#[derive(Debug, Default)]
pub(super) struct Directory {
    parent: usize,
    /// Empty for the root. Whole paths are made on demand: a deep tree would hold its names many times.
    name: Box<str>,
    /// Under the name, or its lower case where names must differ in more than case.
    children: HashMap<Box<str>, Child>,
    /// Numbers in `Layout::directories`.
    pub(super) directories: Vec<usize>,
    pub(super) files: Vec<File>,
    pub(super) links: Vec<Link>,
}

impl Directory {
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

#[derive(Debug)]
pub(super) struct File {
    pub(super) name: Box<str>,
    pub(super) executable: bool,
    /// Number of the entry that has the content.
    pub(super) entry: usize,
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) name: Box<str>,
    /// Number of the entry that has the target.
    pub(super) entry: usize,
}

#[derive(Debug)]
struct Child {
    name: Box<str>,
    node: Node,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    /// `listed`: by an entry of its own, and not only by a longer path.
    Directory {
        number: usize,
        listed: bool,
    },
    File,
    Symlink,
}

impl Layout {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            directories: vec![Directory::default()],
            nodes: 0,
            node_limit: limits.entries,
            case_collisions: limits.case_collisions,
            last: (String::new(), 0),
        }
    }

    /// Puts `path`, which [`super::name::check`] has passed, into the tree.
    pub(super) fn add(&mut self, path: &str, kind: Kind, entry: usize) -> Result<(), Rule> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = self.directory(parent)?;
        match kind {
            Kind::Directory => {
                self.child_directory(parent, name, true)?;
            }
            Kind::File { executable } => {
                self.leaf(parent, name, Node::File)?;
                self.directories[parent].files.push(File { name: name.into(), executable, entry });
            }
            Kind::Symlink => {
                self.leaf(parent, name, Node::Symlink)?;
                self.directories[parent].links.push(Link { name: name.into(), entry });
            }
        }
        Ok(())
    }

    /// Returns all directories, the root first and each after its parent.
    pub(super) fn directories(&self) -> &[Directory] {
        &self.directories
    }

    /// Returns a directory's path from the root; empty for the root itself.
    pub(super) fn path(&self, mut number: usize) -> String {
        let mut names = Vec::new();
        while number != 0 {
            names.push(&*self.directories[number].name);
            number = self.directories[number].parent;
        }
        names.reverse();
        names.join("/")
    }

    /// Returns the number of files, links and directories without the root.
    pub(super) fn nodes(&self) -> u64 {
        self.nodes
    }

    /// Returns the number of files and links.
    pub(super) fn leaves(&self) -> u64 {
        self.nodes - (self.directories.len() as u64 - 1)
    }

    fn directory(&mut self, path: &str) -> Result<usize, Rule> {
        if self.last.0 == path {
            return Ok(self.last.1);
        }
        let mut number = 0;
        if !path.is_empty() {
            for name in path.split('/') {
                number = self.child_directory(number, name, false)?;
            }
        }
        self.last = (path.to_owned(), number);
        Ok(number)
    }

    fn child_directory(&mut self, parent: usize, name: &str, listed: bool) -> Result<usize, Rule> {
        let number = self.directories.len();
        let node = Node::Directory { number, listed };
        match self.slot(parent, name)? {
            Slot::Occupied(mut taken) => match &mut taken.get_mut().node {
                Node::Directory { listed: before, .. } if listed && *before => Err(Rule::Duplicate),
                Node::Directory { number, listed: before } => {
                    *before |= listed;
                    Ok(*number)
                }
                Node::File => Err(Rule::FileDirectoryConflict),
                Node::Symlink => Err(Rule::ThroughSymlink),
            },
            Slot::Vacant(free) => {
                free.insert(Child { name: name.into(), node });
                self.count()?;
                self.directories.push(Directory {
                    parent,
                    name: name.into(),
                    ..Directory::default()
                });
                self.directories[parent].directories.push(number);
                Ok(number)
            }
        }
    }

    fn leaf(&mut self, parent: usize, name: &str, node: Node) -> Result<(), Rule> {
        match self.slot(parent, name)? {
            Slot::Vacant(free) => {
                free.insert(Child { name: name.into(), node });
                self.count()
            }
            Slot::Occupied(taken) => Err(match (taken.get().node, node) {
                (Node::Directory { .. }, Node::Symlink) => Rule::ThroughSymlink,
                (Node::Directory { .. }, _) => Rule::FileDirectoryConflict,
                (Node::File | Node::Symlink, _) => Rule::Duplicate,
            }),
        }
    }

    /// Returns the place of `name` in a directory, unless a name that differs in case only has it.
    fn slot(&mut self, parent: usize, name: &str) -> Result<Slot<'_, Box<str>, Child>, Rule> {
        let key: Box<str> = match self.case_collisions {
            CaseCollisions::Refuse => name.to_lowercase().into(),
            CaseCollisions::Allow => name.into(),
        };
        if let Some(taken) =
            self.directories[parent].children.get(&key).filter(|taken| *taken.name != *name)
        {
            let other = join(&self.path(parent), &taken.name);
            return Err(Rule::CaseCollision { other: EntryName::new(other.as_bytes()) });
        }
        Ok(self.directories[parent].children.entry(key))
    }

    fn count(&mut self) -> Result<(), Rule> {
        self.nodes += 1;
        if self.nodes > self.node_limit {
            return Err(Rule::TooManyEntries { limit: self.node_limit });
        }
        Ok(())
    }
}

/// Returns the path of `name` in the directory at `path`.
pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: Kind = Kind::File { executable: false };

    fn last_rule(limits: &Limits, paths: &[(&str, Kind)]) -> Option<&'static str> {
        let mut layout = Layout::new(limits);
        let (last, before) = paths.split_last().unwrap();
        for (path, kind) in before {
            layout.add(path, *kind, 0).unwrap();
        }
        layout.add(last.0, last.1, 0).err().map(|rule| rule.id())
    }

    #[test]
    fn paths_that_cannot_both_be() {
        use Kind::{Directory, Symlink};
        for (paths, rule) in [
            (&[("a", FILE), ("b", FILE)][..], None),
            (&[("a/b", FILE), ("a", Directory)], None),
            (&[("a", Directory), ("a/b", FILE), ("a/c", Symlink)], None),
            (&[("a", FILE), ("a", FILE)], Some("duplicate")),
            (&[("a", FILE), ("b", FILE), ("a", Symlink)], Some("duplicate")),
            (&[("a", Directory), ("a", Directory)], Some("duplicate")),
            (&[("a", FILE), ("a", Directory)], Some("file-directory-conflict")),
            (&[("a", FILE), ("a/b", FILE)], Some("file-directory-conflict")),
            (&[("a/b", FILE), ("a", FILE)], Some("file-directory-conflict")),
            (&[("a", Symlink), ("a/b", FILE)], Some("through-symlink")),
            (&[("a/b", FILE), ("a", Symlink)], Some("through-symlink")),
            (&[("a", Symlink), ("a", Directory)], Some("through-symlink")),
            (&[("a", FILE), ("A", FILE)], Some("case-collision")),
            (&[("x/LICENSE", FILE), ("x/license/y", FILE)], Some("case-collision")),
            (&[("Dir/a", FILE), ("dir/b", FILE)], Some("case-collision")),
            (&[("ÜN", FILE), ("ün", FILE)], Some("case-collision")),
            (&[("L", Symlink), ("l/x", FILE)], Some("case-collision")),
        ] {
            assert_eq!(last_rule(&Limits::default(), paths), rule, "{paths:?}");
        }
        let relaxed = Limits { case_collisions: CaseCollisions::Allow, ..Limits::default() };
        assert_eq!(last_rule(&relaxed, &[("a", FILE), ("A", FILE)]), None);
        assert_eq!(last_rule(&relaxed, &[("a", FILE), ("a", FILE)]), Some("duplicate"));
    }

    #[test]
    fn directories_that_only_paths_name_count() {
        let limits = Limits { entries: 3, ..Limits::default() };
        assert_eq!(last_rule(&limits, &[("a/b/c", FILE)]), None);
        assert_eq!(last_rule(&limits, &[("a/b/c/d", FILE)]), Some("too-many-entries"));
    }
}
