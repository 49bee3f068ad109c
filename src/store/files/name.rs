//! A log's name as a folder: reversible, and safe whatever the name holds.
//!
//! Letters, digits, `-` and `_` stand for themselves, every other byte for `%` and two hexadecimal digits. What is
//! longer than a file name may be goes on in a folder below; a folder whose name ends with `+` holds only such
//! continuations.

use std::fmt::Write;
use std::path::PathBuf;

/// Most bytes of a log's name: its path stays below PATH_MAX even if every byte is escaped.
pub(super) const NAME_BYTES: usize = 1024;

/// Bytes of a folder's name, its `+` apart; a file name may have 255.
const PART_BYTES: usize = 250;

/// The suffix of a name that goes on below.
pub(super) const MORE: char = '+';

/// The folder of a log, relative to that of all logs; none for the empty name and for one that is too long.
pub(super) fn folder(log: &str) -> Option<PathBuf> {
    if log.is_empty() || log.len() > NAME_BYTES {
        return None;
    }
    let mut escaped = String::with_capacity(log.len() * 2);
    for byte in log.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}"); // a String takes all
        }
    }
    let mut rest = escaped.as_str();
    let mut path = PathBuf::new();
    while rest.len() > PART_BYTES {
        let (part, more) = rest.split_at(PART_BYTES); // all ASCII
        path.push(format!("{part}{MORE}"));
        rest = more;
    }
    path.push(rest);
    Some(path)
}

/// The log whose folder's parts, without their `+`, are `escaped`; none where no log has that folder.
pub(super) fn log(escaped: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut rest = escaped.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_folders_and_names_again() {
        let long = "/aws/lambda/[é]".repeat(40);
        let worst = "/".repeat(NAME_BYTES);
        for (name, expected) in [
            ("f", Some("f")),
            (".", Some("%2E")),
            ("..", Some("%2E%2E")),
            ("a+", Some("a%2B")),
            ("%2E", Some("%252E")),
            ("A-z_0", Some("A-z_0")),
            (
                "/aws/lambda/f|2026/11/24/[1]abc",
                Some("%2Faws%2Flambda%2Ff%7C2026%2F11%2F24%2F%5B1%5Dabc"),
            ),
            ("\0\u{1f980}", Some("%00%F0%9F%A6%80")),
            (&long, None),
            (&worst, None),
        ] {
            let path = folder(name).expect(name);
            let parts: Vec<&str> = path.iter().map(|part| part.to_str().unwrap()).collect();
            if let Some(expected) = expected {
                assert_eq!(parts, [expected]);
            }
            assert!(parts.iter().all(|part| part.len() <= 255), "{parts:?}");
            let (last, before) = parts.split_last().unwrap();
            assert!(!last.ends_with(MORE) && before.iter().all(|part| part.ends_with(MORE)));
            let escaped = parts.iter().map(|part| part.trim_end_matches(MORE)).collect::<String>();
            assert_eq!(log(&escaped).as_deref(), Some(name));
        }
        assert_eq!(folder(""), None);
        assert_eq!(folder(&"x".repeat(NAME_BYTES + 1)), None);
        for broken in ["%", "%2", "%zz", "%FF"] {
            assert_eq!(log(broken), None, "{broken}");
        }
    }
}
