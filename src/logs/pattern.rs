//! Filter patterns of CloudWatch Logs: terms in any text, and comparisons of the fields of a JSON event.
//!
//! Not here: the space-delimited form `[a, b, …]` and regular expressions `%…%`. They are refused, never taken for
//! something else.
//!
//! Source: Amazon CloudWatch Logs, "Filter pattern syntax".

use std::cmp::Ordering;

use serde_json::Value;

/// Parentheses that may be open at once.
const DEPTH: usize = 32;

/// What an event must hold.
#[derive(Debug, Clone, PartialEq)]
pub enum Pattern {
    Terms(Terms),
    Json(Condition),
}

/// Words and quoted phrases, in any place; upper and lower case differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terms {
    all: Vec<String>,
    /// `?term`: one of them, looked at only where there is no term without a mark, as AWS does.
    any: Vec<String>,
    /// `-term`
    none: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    And(Vec<Condition>),
    Or(Vec<Condition>),
    Compare(Selector, Operator, Operand),
    Is(Selector, Value),
    NotExists(Selector),
}

/// The way to a field: keys and indices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Operand {
    Number(f64),
    /// `*` stands for any text.
    Text(String),
}

/// A pattern that cannot be read; the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PatternError(String);

fn refuse<T>(why: impl Into<String>) -> Result<T, PatternError> {
    Err(PatternError(why.into()))
}

impl Pattern {
    /// Reads a pattern; `None` where it is empty and matches everything.
    ///
    /// # Errors
    /// It has a form that is not built, or none.
    pub fn parse(text: &str) -> Result<Option<Self>, PatternError> {
        let text = text.trim();
        match text.chars().next() {
            None => Ok(None),
            Some('{') => {
                let mut parser = Parser { rest: text[1..].trim_start(), depth: 0 };
                let condition = parser.any()?;
                parser.expect("}")?;
                if !parser.rest.is_empty() {
                    return refuse(format!("unexpected `{}` after `}}`", parser.rest));
                }
                Ok(Some(Self::Json(condition)))
            }
            Some('[') => refuse("patterns of space-delimited fields are not supported"),
            Some(_) => terms(text).map(|terms| Some(Self::Terms(terms))),
        }
    }

    pub fn matches(&self, message: &str) -> bool {
        match self {
            Self::Terms(terms) => {
                let has = |term: &String| message.contains(term.as_str());
                let optional = !terms.all.is_empty() || terms.any.is_empty();
                terms.all.iter().all(has)
                    && (optional || terms.any.iter().any(has))
                    && !terms.none.iter().any(has)
            }
            Self::Json(condition) => {
                let text = message.trim_start();
                if !text.starts_with(['{', '[']) {
                    return false;
                }
                serde_json::from_str(text).is_ok_and(|event| condition.holds(&event))
            }
        }
    }
}

fn terms(text: &str) -> Result<Terms, PatternError> {
    let mut found = Terms::default();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let list = match first {
            '?' => &mut found.any,
            '-' => &mut found.none,
            _ => &mut found.all,
        };
        if matches!(first, '?' | '-') {
            rest = &rest[1..];
        }
        let term = if let Some(quoted) = rest.strip_prefix('"') {
            let (term, after) = quoted_text(quoted)?;
            rest = after;
            term
        } else if rest.starts_with('%') {
            return refuse("regular expressions are not supported");
        } else {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            let term = rest[..end].to_owned();
            rest = &rest[end..];
            term
        };
        if term.is_empty() {
            return refuse("a term is empty");
        }
        list.push(term);
        rest = rest.trim_start();
    }
    Ok(found)
}

/// Text up to the closing quote, and what comes after it.
fn quoted_text(text: &str) -> Result<(String, &str), PatternError> {
    let mut found = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((found, &text[at + 1..])),
            '\\' => match chars.next() {
                Some((_, escaped @ ('"' | '\\'))) => found.push(escaped),
                Some((_, other)) => found.extend(['\\', other]),
                None => break,
            },
            c => found.push(c),
        }
    }
    refuse("a quote is not closed")
}

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn eat(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: &str) -> Result<(), PatternError> {
        if self.eat(token) {
            return Ok(());
        }
        refuse(format!("expected `{token}` before `{}`", self.rest))
    }

    fn any(&mut self) -> Result<Condition, PatternError> {
        let mut all = vec![self.all()?];
        while self.eat("||") {
            all.push(self.all()?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Condition::Or(all) })
    }

    fn all(&mut self) -> Result<Condition, PatternError> {
        let mut all = vec![self.one()?];
        while self.eat("&&") {
            all.push(self.one()?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Condition::And(all) })
    }

    fn one(&mut self) -> Result<Condition, PatternError> {
        if self.eat("(") {
            self.depth += 1;
            if self.depth > DEPTH {
                return refuse("too many parentheses");
            }
            let inner = self.any()?;
            self.expect(")")?;
            self.depth -= 1;
            return Ok(inner);
        }
        let selector = self.selector()?;
        for (token, operator) in [
            ("!=", Operator::NotEqual),
            ("<=", Operator::LessOrEqual),
            (">=", Operator::GreaterOrEqual),
            ("=", Operator::Equal),
            ("<", Operator::Less),
            (">", Operator::Greater),
        ] {
            if self.eat(token) {
                let operand = self.operand()?;
                let equality = matches!(operator, Operator::Equal | Operator::NotEqual);
                if !equality && matches!(operand, Operand::Text(_)) {
                    return refuse("only numbers can be compared by size");
                }
                return Ok(Condition::Compare(selector, operator, operand));
            }
        }
        match self.word().to_ascii_uppercase().as_str() {
            "IS" => match self.word().to_ascii_uppercase().as_str() {
                "NULL" => Ok(Condition::Is(selector, Value::Null)),
                "TRUE" => Ok(Condition::Is(selector, Value::Bool(true))),
                "FALSE" => Ok(Condition::Is(selector, Value::Bool(false))),
                other => refuse(format!("`IS {other}` is none of NULL, TRUE, FALSE")),
            },
            "NOT" if self.word().eq_ignore_ascii_case("EXISTS") => {
                Ok(Condition::NotExists(selector))
            }
            other => refuse(format!("expected a comparison, not `{other}`")),
        }
    }

    fn word(&mut self) -> &'a str {
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        word
    }

    fn selector(&mut self) -> Result<Selector, PatternError> {
        let Some(rest) = self.rest.strip_prefix('$') else {
            return refuse(format!("expected a selector such as `$.field` before `{}`", self.rest));
        };
        self.rest = rest;
        let mut steps = Vec::new();
        loop {
            if let Some(rest) = self.rest.strip_prefix('.') {
                let ends = |c: char| {
                    c.is_whitespace()
                        || matches!(c, '.' | '[' | '=' | '!' | '<' | '>' | ')' | '}' | '&' | '|')
                };
                let end = rest.find(ends).unwrap_or(rest.len());
                let (key, rest) = rest.split_at(end);
                if key.is_empty() || key.contains('*') {
                    return refuse("a selector has an empty or a wildcard key");
                }
                steps.push(Step::Key(key.trim_matches('"').to_owned()));
                self.rest = rest;
            } else if let Some(rest) = self.rest.strip_prefix('[') {
                let Some((inside, rest)) = rest.split_once(']') else {
                    return refuse("a `[` of a selector is not closed");
                };
                let inside = inside.trim();
                let quoted = ['\'', '"'].iter().find_map(|quote| {
                    inside.strip_prefix(*quote).and_then(|rest| rest.strip_suffix(*quote))
                });
                steps.push(match (quoted, inside.parse()) {
                    (Some(key), _) => Step::Key(key.to_owned()),
                    (None, Ok(index)) => Step::Index(index),
                    (None, Err(_)) => return refuse(format!("`[{inside}]` is no index")),
                });
                self.rest = rest;
            } else {
                break;
            }
        }
        if steps.is_empty() {
            return refuse("a selector names no field");
        }
        self.rest = self.rest.trim_start();
        Ok(Selector(steps))
    }

    fn operand(&mut self) -> Result<Operand, PatternError> {
        if let Some(quoted) = self.rest.strip_prefix('"') {
            let (text, rest) = quoted_text(quoted)?;
            self.rest = rest.trim_start();
            return Ok(Operand::Text(text));
        }
        if self.rest.starts_with('%') {
            return refuse("regular expressions are not supported");
        }
        let ends = |c: char| c.is_whitespace() || matches!(c, ')' | '}' | '&' | '|');
        let end = self.rest.find(ends).unwrap_or(self.rest.len());
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        if text.is_empty() {
            return refuse("a comparison has no value");
        }
        let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
        Ok(number.map_or_else(|| Operand::Text(text.to_owned()), Operand::Number))
    }
}

impl Selector {
    fn find<'v>(&self, event: &'v Value) -> Option<&'v Value> {
        self.0.iter().try_fold(event, |value, step| match step {
            Step::Key(key) => value.get(key.as_str()),
            Step::Index(index) => value.get(*index),
        })
    }
}

impl Condition {
    fn holds(&self, event: &Value) -> bool {
        match self {
            Self::And(all) => all.iter().all(|one| one.holds(event)),
            Self::Or(all) => all.iter().any(|one| one.holds(event)),
            Self::Is(selector, value) => selector.find(event) == Some(value),
            Self::NotExists(selector) => selector.find(event).is_none(),
            Self::Compare(selector, operator, operand) => {
                let Some(found) = selector.find(event) else { return false };
                compare(found, *operator, operand)
            }
        }
    }
}

fn compare(found: &Value, operator: Operator, operand: &Operand) -> bool {
    let ordering = match (operand, found) {
        (Operand::Number(wanted), Value::Number(number)) => {
            number.as_f64().and_then(|number| number.partial_cmp(wanted))
        }
        (Operand::Text(wanted), Value::String(text)) => {
            Some(if wildcard(wanted, text) { Ordering::Equal } else { Ordering::Less })
        }
        _ => None,
    };
    match operator {
        Operator::Equal => ordering == Some(Ordering::Equal),
        Operator::NotEqual => ordering != Some(Ordering::Equal),
        Operator::Less => ordering == Some(Ordering::Less),
        Operator::LessOrEqual => ordering.is_some_and(Ordering::is_le),
        Operator::Greater => ordering == Some(Ordering::Greater),
        Operator::GreaterOrEqual => ordering.is_some_and(Ordering::is_ge),
    }
}

/// Whether `text` is `pattern`, where `*` stands for any text. Linear in both: each part is taken where it is first.
fn wildcard(pattern: &str, text: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(head) else { return false };
    let mut parts: Vec<&str> = tail.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match text.find(part) {
            Some(at) => text = &text[at + part.len()..],
            None => return false,
        }
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, message: &str) -> bool {
        Pattern::parse(pattern).unwrap().is_none_or(|pattern| pattern.matches(message))
    }

    #[test]
    fn terms_match_as_aws_documents() {
        for (pattern, message, expected) in [
            ("", "anything", true),
            ("ERROR", "[ERROR 400] BAD REQUEST", true),
            ("ERROR", "[error 400]", false),
            ("ERROR ARGUMENTS", "ERROR INVALID ARGUMENTS", true),
            ("ERROR ARGUMENTS", "ERROR INVALID", false),
            ("?ERROR ?WARN", "[WARN] disk", true),
            ("?ERROR ?WARN", "[INFO] disk", false),
            ("\"INTERNAL SERVER ERROR\"", "500 INTERNAL SERVER ERROR", true),
            ("\"INTERNAL SERVER ERROR\"", "INTERNAL ERROR", false),
            ("ERROR -EXITING", "ERROR one", true),
            ("ERROR -EXITING", "ERROR EXITING", false),
            ("-\"two words\"", "with two words", false),
            // A term without a mark makes the optional ones meaningless.
            ("REQUEST ?ERROR", "REQUEST", true),
            (r#""say \"hi\"""#, r#"they say "hi""#, true),
            ("2026-01-31T12:00", "2026-01-31T12:00:00Z", true),
        ] {
            assert_eq!(matches(pattern, message), expected, "`{pattern}` on `{message}`");
        }
    }

    #[test]
    fn fields_of_json_match_as_aws_documents() {
        let event = r#"{"level":"ERROR","n":7,"ok":true,"none":null,"a":{"b":["x",{"c":"deep"}]},"ip":"123.123.1.9","dotted.key":"v"}"#;
        for (pattern, expected) in [
            (r#"{ $.level = "ERROR" }"#, true),
            (r"{$.level=ERROR}", true),
            (r#"{ $.level = "INFO" }"#, false),
            (r#"{ $.level != "INFO" }"#, true),
            (r#"{ $.missing != "INFO" }"#, false),
            ("{ $.n = 7 }", true),
            ("{ $.n > 6.5 && $.n <= 7 }", true),
            ("{ $.n < 7 }", false),
            (r#"{ $.n = "7" }"#, false),
            ("{ $.ip = 123.123.* }", true),
            ("{ $.ip != 123.123.* }", false),
            ("{ $.ip = *.9 }", true),
            ("{ $.ip = 1*2*9 }", true),
            (r#"{ $.a.b[0] = "x" }"#, true),
            (r#"{ $.a.b[1].c = "deep" }"#, true),
            (r#"{ $['dotted.key'] = "v" }"#, true),
            ("{ $.none IS NULL }", true),
            ("{ $.ok IS TRUE }", true),
            ("{ $.ok IS FALSE }", false),
            ("{ $.missing NOT EXISTS }", true),
            ("{ $.level NOT EXISTS }", false),
            (r#"{ ($.level = "INFO") || ($.n = 7 && ($.ok IS TRUE)) }"#, true),
            (r#"{ $.level = "INFO" || $.n = 8 }"#, false),
        ] {
            assert_eq!(matches(pattern, event), expected, "`{pattern}`");
        }
        assert!(!matches("{ $.a = 1 }", "no json"));
    }

    #[test]
    fn what_is_not_built_is_refused() {
        for pattern in [
            "[ip, user]",
            "%ERR.*%",
            "{ $.a = %x% }",
            "{ $.a }",
            "{ a = 1 }",
            "{ $.a = 1",
            "{ $.a > big }",
            "{ $.a[*] = 1 }",
            "{ $.* = 1 }",
            "{ $.a = 1 } more",
            "\"open",
            "?",
        ] {
            assert!(Pattern::parse(pattern).is_err(), "`{pattern}`");
        }
        let deep = format!("{{ {}$.a = 1{} }}", "(".repeat(100_000), ")".repeat(100_000));
        assert!(Pattern::parse(&deep).is_err());
    }
}
