//! Which names and symbolic links may be in a package. Only text is judged here, never a disk.

use super::error::Rule;

/// Longest component, in bytes. Source: NAME_MAX of limits.h, and of ext4, xfs and tmpfs.
pub(super) const COMPONENT_BYTES: usize = 255;

/// Longest path in the package, in bytes. Source: PATH_MAX of limits.h.
pub(super) const PATH_BYTES: usize = 4096;

/// Most components in a path. Removing a tree holds one descriptor for each level.
pub(super) const DEPTH: usize = 128;

/// Longest symbolic link, in bytes: PATH_MAX less the NUL, which no file system exceeds.
pub(super) const TARGET_BYTES: usize = 4095;

/// Checks an entry's name and returns its path, without the slash that ends a directory's name.
pub(super) fn check(raw: &[u8]) -> Result<&str, Rule> {
    if raw.is_empty() {
        return Err(Rule::NameEmpty);
    }
    if raw.contains(&0) {
        return Err(Rule::NameNul);
    }
    if raw.len() > PATH_BYTES {
        return Err(Rule::PathTooLong { limit: PATH_BYTES });
    }
    let name = std::str::from_utf8(raw).map_err(|_| Rule::NameNotUtf8)?;
    if let Some(control) = name.chars().find(|c| c.is_control()) {
        return Err(Rule::NameControl { code: control.into() });
    }
    if name.contains('\\') {
        return Err(Rule::Backslash);
    }
    if name.starts_with('/') {
        return Err(Rule::AbsolutePath);
    }
    if let [letter, b':', ..] = raw
        && letter.is_ascii_alphabetic()
    {
        return Err(Rule::DrivePath);
    }
    let path = name.strip_suffix('/').unwrap_or(name);
    let mut depth = 0;
    for component in path.split('/') {
        match component {
            "" => return Err(Rule::EmptyComponent),
            "." => return Err(Rule::DotComponent),
            ".." => return Err(Rule::PathTraversal),
            _ if component.len() > COMPONENT_BYTES => {
                return Err(Rule::ComponentTooLong { limit: COMPONENT_BYTES });
            }
            _ => depth += 1,
        }
    }
    if depth > DEPTH {
        return Err(Rule::PathTooDeep { limit: DEPTH });
    }
    Ok(path)
}

/// Checks the target of a symbolic link that lies at `path`.
///
/// A target climbs first (`../..`) and then descends; `..` after a name is refused. So it climbs from the
/// link's own directory, which is a real one since no entry leads through a link, over real parents, and
/// how far is known from the text alone. Each link it then meets was held to the same rule, so no chain of
/// links leaves the tree either. With `..` after a name this would not hold: of two links `d/up -> ..`
/// and `d/x -> up/../y`, the second looks tame and leaves.
pub(super) fn check_target(path: &str, target: &[u8]) -> Result<(), Rule> {
    let fault = |fault| Err(Rule::SymlinkTarget { fault });
    if target.is_empty() {
        return fault("is empty");
    }
    if target.len() > TARGET_BYTES {
        return fault("is longer than 4095 bytes");
    }
    let Ok(target) = std::str::from_utf8(target) else {
        return fault("is not UTF-8");
    };
    if target.chars().any(char::is_control) {
        return fault("has a control character");
    }
    if target.starts_with('/') {
        return Err(Rule::SymlinkAbsolute);
    }
    let mut left_to_climb = path.matches('/').count();
    let mut descended = false;
    for component in target.split('/') {
        match component {
            "" | "." => {}
            ".." if descended => return fault("has `..` after a name"),
            ".." => match left_to_climb.checked_sub(1) {
                Some(left) => left_to_climb = left,
                None => return Err(Rule::SymlinkLeavesTree),
            },
            _ if component.len() > COMPONENT_BYTES => {
                return fault("has a component longer than 255 bytes");
            }
            _ => descended = true,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let deep_enough = vec!["d"; DEPTH].join("/");
        let too_deep = vec!["d"; DEPTH + 1].join("/");
        let longest = "x".repeat(COMPONENT_BYTES);
        let too_long = "x".repeat(COMPONENT_BYTES + 1);
        let long_path = vec![longest.as_str(); 16].join("/");
        let too_long_path = format!("{long_path}/y");
        for (name, rule) in [
            ("app.py", None),
            ("a/b/", None),
            ("...", None),
            ("..a/b..", None),
            ("ab:c", None),
            ("d/C:x", None),
            (" trailing. ", None),
            ("ünï/日本.py", None),
            (&deep_enough, None),
            (&longest, None),
            (&long_path, None),
            ("", Some("name-empty")),
            ("a\0", Some("name-nul")),
            ("a\nb", Some("name-control")),
            ("a\u{9b}b", Some("name-control")),
            ("a\\b", Some("backslash")),
            ("..\\b", Some("backslash")),
            ("/", Some("absolute-path")),
            ("//host/share", Some("absolute-path")),
            ("/etc/passwd", Some("absolute-path")),
            ("C:/x", Some("drive-path")),
            ("c:x", Some("drive-path")),
            ("..", Some("path-traversal")),
            ("../", Some("path-traversal")),
            ("a/../../b", Some("path-traversal")),
            ("./a", Some("dot-component")),
            ("a/./b", Some("dot-component")),
            ("a//b", Some("empty-component")),
            ("a//", Some("empty-component")),
            (&too_deep, Some("path-too-deep")),
            (&too_long, Some("component-too-long")),
            (&too_long_path, Some("path-too-long")),
        ] {
            assert_eq!(check(name.as_bytes()).err().map(|rule| rule.id()), rule, "{name:?}");
        }
        assert_eq!(check(b"a/b/"), Ok("a/b"));
        assert_eq!(check(b"a\xffb"), Err(Rule::NameNotUtf8));
    }

    #[test]
    fn targets() {
        for (path, target, rule) in [
            ("l", "a", None),
            ("l", "./a/b/", None),
            ("d/l", "..", None),
            ("d/e/l", "../../x/y", None),
            ("l", "l", None),
            ("l", "..", Some("symlink-leaves-tree")),
            ("d/l", "../..", Some("symlink-leaves-tree")),
            ("d/l", "../../d/x", Some("symlink-leaves-tree")),
            ("d/l", "./.././..", Some("symlink-leaves-tree")),
            ("d/l", "x/..", Some("symlink-target")),
            ("l", "/etc/passwd", Some("symlink-absolute")),
            ("l", "", Some("symlink-target")),
            ("l", "a\0b", Some("symlink-target")),
        ] {
            assert_eq!(
                check_target(path, target.as_bytes()).err().map(|rule| rule.id()),
                rule,
                "{path} -> {target}"
            );
        }
        assert_eq!(check_target("l", b"\xff").map_err(|rule| rule.id()), Err("symlink-target"));
        assert_eq!(
            check_target("l", &[b'a'; 4096]).map_err(|rule| rule.id()),
            Err("symlink-target")
        );
    }
}
