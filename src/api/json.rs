//! JSON from outside: bounded depth, and errors in the words of AWS's parser (Jackson).

use serde::de::IgnoredAny;
use serde_json::{Error, Value};

/// Objects and lists within each other.
pub const MAX_DEPTH: usize = 64;

const VALUES: &str = "(JSON String, Number, Array, Object or token 'null', 'true' or 'false')";

/// Reads a request's body.
///
/// # Errors
/// What is wrong, and where, as AWS says it.
pub fn parse(bytes: &[u8]) -> Result<Value, String> {
    let value = serde_json::from_slice(bytes).map_err(|error| explain(bytes, &error))?;
    if depth_is_over(&value, MAX_DEPTH) {
        return Err(too_deep());
    }
    Ok(value)
}

/// Checks that an event is JSON, without keeping anything of it.
///
/// # Errors
/// As [`parse`]; depth is the function's own affair.
pub fn check(bytes: &[u8]) -> Result<(), String> {
    serde_json::from_slice::<IgnoredAny>(bytes).map_err(|error| explain(bytes, &error))?;
    match std::str::from_utf8(bytes) {
        Ok(_) => Ok(()),
        Err(error) => Err(bad_utf8(bytes, error.valid_up_to())),
    }
}

fn depth_is_over(value: &Value, left: usize) -> bool {
    match value {
        Value::Array(items) => left == 0 || items.iter().any(|v| depth_is_over(v, left - 1)),
        Value::Object(map) => left == 0 || map.values().any(|v| depth_is_over(v, left - 1)),
        _ => false,
    }
}

fn too_deep() -> String {
    format!("Document nesting depth exceeds the maximum allowed ({MAX_DEPTH})")
}

fn explain(bytes: &[u8], error: &Error) -> String {
    let at = offset(bytes, error);
    let said = error.to_string();
    let is = |text: &str| said.starts_with(text);
    let unexpected = |why: &str| {
        let what = bytes.get(at).map_or_else(String::new, |b| describe(*b));
        placed(bytes, at, format!("Unexpected character ({what}): {why}"))
    };
    if error.is_eof() && bytes.iter().all(u8::is_ascii_whitespace) {
        return "No content to map due to end-of-input".into();
    }
    if error.is_eof() {
        return placed(bytes, bytes.len(), "Unexpected end-of-input: expected close marker".into());
    }
    if is("recursion limit") {
        return too_deep();
    }
    if is("expected value") || is("expected ident") || is("trailing characters") {
        return value_expected(bytes, at);
    }
    if is("invalid unicode") || is("invalid utf-8") {
        let bad = std::str::from_utf8(bytes).map_or_else(|e| e.valid_up_to(), |_| at);
        return bad_utf8(bytes, bad);
    }
    if is("expected `,` or `}`") {
        return unexpected("was expecting comma to separate Object entries");
    }
    if is("expected `,` or `]`") {
        return unexpected("was expecting comma to separate Array entries");
    }
    if is("expected `:`") {
        return unexpected("was expecting a colon to separate field name and value");
    }
    if is("key must be a string") || is("trailing comma") {
        return unexpected("was expecting double-quote to start field name");
    }
    if is("control character") {
        let code = bytes.get(at).copied().unwrap_or_default();
        let text = format!(
            "Illegal unquoted character ((CTRL-CHAR, code {code})): has to be escaped using backslash to be included in string value"
        );
        return placed(bytes, at, text);
    }
    if is("invalid escape") {
        let what = bytes.get(at).map_or_else(String::new, |b| describe(*b));
        return placed(bytes, at, format!("Unrecognized character escape {what}"));
    }
    unexpected("Expected a valid number")
}

/// Something that begins no value: a word, or a single character.
fn value_expected(bytes: &[u8], at: usize) -> String {
    let part_of_word = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$');
    let before = bytes[..at].iter().rev().take_while(|b| part_of_word(b)).count();
    let start = at - before;
    let first = bytes.get(start).copied().unwrap_or_default();
    if first.is_ascii_alphabetic() || matches!(first, b'_' | b'$') {
        let word = &bytes[start..];
        let word = &word[..word.iter().take_while(|b| part_of_word(b)).count()];
        let end = start + word.len();
        if bytes.get(end).is_some_and(|b| !b.is_ascii())
            && let Err(error) = std::str::from_utf8(&bytes[end..])
            && error.valid_up_to() == 0
        {
            return bad_utf8(bytes, end);
        }
        let word = String::from_utf8_lossy(word);
        let text = format!("Unrecognized token '{word}': was expecting {VALUES}");
        return placed(bytes, end, text);
    }
    let what = describe(first);
    placed(bytes, start, format!("Unexpected character ({what}): expected a valid value {VALUES}"))
}

fn bad_utf8(bytes: &[u8], at: usize) -> String {
    let byte = bytes.get(at).copied().unwrap_or_default();
    placed(bytes, at + 1, format!("Invalid UTF-8 start byte 0x{byte:x}"))
}

/// A byte as Jackson names it, which takes it for a Latin-1 character.
fn describe(byte: u8) -> String {
    let c = char::from(byte);
    if c.is_control() {
        format!("(CTRL-CHAR, code {byte})")
    } else {
        format!("'{c}' (code {byte})")
    }
}

fn placed(bytes: &[u8], at: usize, text: String) -> String {
    let before = &bytes[..at.min(bytes.len())];
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let column = at - before.iter().rposition(|b| *b == b'\n').map_or(0, |p| p + 1) + 1;
    format!(
        "{text}\n at [Source: REDACTED (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled); line: {line}, column: {column}]"
    )
}

/// Index of the byte that the parser stumbled over.
fn offset(bytes: &[u8], error: &Error) -> usize {
    let lines = error.line().saturating_sub(1);
    let start = match lines {
        0 => 0,
        n => bytes
            .iter()
            .enumerate()
            .filter(|(_, b)| **b == b'\n')
            .nth(n - 1)
            .map_or(0, |(i, _)| i + 1),
    };
    (start + error.column().saturating_sub(1)).min(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str =
        "\n at [Source: REDACTED (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled); ";

    /// The first two as AWS was recorded to say them.
    #[test]
    fn broken_json_is_told_in_jacksons_words() {
        let value = "expected a valid value (JSON String, Number, Array, Object or token 'null', 'true' or 'false')";
        let token =
            "was expecting (JSON String, Number, Array, Object or token 'null', 'true' or 'false')";
        for (bytes, text, line, column) in [
            (&b"n\x87r\x9e\xe9\xb5\xd7I\xee\x9bmt"[..], "Invalid UTF-8 start byte 0x87".into(), 1, 3),
            (
                b"\x99\xeb,j\x07\xa1zYh",
                format!("Unexpected character ((CTRL-CHAR, code 153)): {value}"),
                1,
                1,
            ),
            (b"hello", format!("Unrecognized token 'hello': {token}"), 1, 6),
            (b"{\"a\":\n tru }", format!("Unrecognized token 'tru': {token}"), 2, 5),
            (b"{\"a\": ?}", format!("Unexpected character ('?' (code 63)): {value}"), 1, 7),
            (b"'a'", format!("Unexpected character ('\'' (code 39)): {value}"), 1, 1),
            (
                b"{\"a\": 1 \"b\": 2}",
                "Unexpected character ('\"' (code 34)): was expecting comma to separate Object entries".into(),
                1,
                9,
            ),
            (
                b"{a: 1}",
                "Unexpected character ('a' (code 97)): was expecting double-quote to start field name".into(),
                1,
                2,
            ),
            (b"[1, 2", "Unexpected end-of-input: expected close marker".into(), 1, 6),
        ] {
            let want = format!("{text}{SOURCE}line: {line}, column: {column}]");
            assert_eq!(check(bytes).unwrap_err(), want, "{}", String::from_utf8_lossy(bytes));
            assert_eq!(parse(bytes).unwrap_err(), want, "{}", String::from_utf8_lossy(bytes));
        }
        assert_eq!(check(b" ").unwrap_err(), "No content to map due to end-of-input");
    }

    #[test]
    fn depth_is_bounded_for_bodies_and_free_for_events() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(nested(MAX_DEPTH).as_bytes()).is_ok());
        for depth in [MAX_DEPTH + 1, 200, 100_000] {
            assert!(parse(nested(depth).as_bytes()).unwrap_err().starts_with("Document nesting"));
            assert!(check(nested(depth).as_bytes()).is_ok());
        }
    }

    #[test]
    fn events_must_be_utf_8_inside_strings_too() {
        assert!(check("\"é\"".as_bytes()).is_ok());
        assert!(check(b"\"\xe9\"").unwrap_err().starts_with("Invalid UTF-8 start byte 0xe9"));
        assert!(check(b"null").is_ok());
        assert!(check(b"null x").unwrap_err().starts_with("Unrecognized token 'x'"));
    }
}
