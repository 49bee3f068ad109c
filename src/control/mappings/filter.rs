//! Whether a filter's pattern is one: EventBridge's event patterns, as far as Lambda takes them.
//!
//! Source: AWS Lambda developer guide, "Control which events Lambda sends to your function", "Filter rule syntax".

use serde_json::{Map, Value};

/// Whether the text is a pattern.
pub(super) fn is_pattern(text: &str) -> bool {
    match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => are_fields(&fields),
        _ => false,
    }
}

fn are_fields(fields: &Map<String, Value>) -> bool {
    !fields.is_empty()
        && fields.iter().all(|(name, wanted)| match wanted {
            Value::Array(ways) if name == "$or" => {
                ways.len() > 1 && ways.iter().all(|way| way.as_object().is_some_and(are_fields))
            }
            Value::Object(deeper) => are_fields(deeper),
            Value::Array(matchers) => !matchers.is_empty() && matchers.iter().all(is_matcher),
            _ => false,
        })
}

fn is_matcher(matcher: &Value) -> bool {
    let Value::Object(operator) = matcher else { return !matcher.is_array() };
    let mut operators = operator.iter();
    let (Some((operator, wanted)), None) = (operators.next(), operators.next()) else {
        return false;
    };
    match operator.as_str() {
        "prefix" | "suffix" => wanted.is_string() || is_only(wanted, &["equals-ignore-case"]),
        "equals-ignore-case" | "cidr" | "wildcard" => wanted.is_string(),
        "exists" => wanted.is_boolean(),
        "numeric" => wanted.as_array().is_some_and(|ranges| is_range(ranges)),
        "anything-but" => match wanted {
            Value::String(_) | Value::Number(_) => true,
            Value::Array(values) => {
                !values.is_empty() && values.iter().all(|v| v.is_string() || v.is_number())
            }
            _ => is_only(wanted, &["prefix", "suffix", "equals-ignore-case", "wildcard"]),
        },
        _ => false,
    }
}

/// One of the operators, with a text or a list of texts.
fn is_only(wanted: &Value, operators: &[&str]) -> bool {
    let is_text = |value: &Value| match value {
        Value::String(_) => true,
        Value::Array(texts) => !texts.is_empty() && texts.iter().all(Value::is_string),
        _ => false,
    };
    wanted.as_object().is_some_and(|one| {
        one.len() == 1 && one.iter().all(|(op, v)| operators.contains(&op.as_str()) && is_text(v))
    })
}

/// `["=", n]`, a bound, or a lower and an upper one.
fn is_range(ranges: &[Value]) -> bool {
    let bound = |pair: &[Value]| match pair {
        [Value::String(operator), Value::Number(_)] => match operator.as_str() {
            "=" => Some('='),
            "<" | "<=" => Some('<'),
            ">" | ">=" => Some('>'),
            _ => None,
        },
        _ => None,
    };
    let bounds: Option<Vec<char>> = ranges.chunks(2).map(bound).collect();
    matches!(bounds.as_deref(), Some(['=' | '<' | '>'] | ['>', '<'] | ['<', '>']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_told_from_other_texts() {
        for (text, good) in [
            (r#"{"body":{"testItem":["test24"]}}"#, true),
            (r#"{"body":{"testItem":["test24","test45"],"test2":["go"]}}"#, true),
            (r#"{"body":{"test2":[{"exists":true}]}}"#, true),
            (r#"{"body":{"test2":[{"numeric":[">",100]}]}}"#, true),
            (r#"{"body":{"test2":[{"numeric":[">=",100,"<",200]}]}}"#, true),
            (r#"{"body":{"test2":[{"prefix":"us-1"}]}}"#, true),
            (r#"{"dynamodb":{"NewImage":{"a":{"S":[{"anything-but":["b"]}]}}}}"#, true),
            (r#"{"eventName":["INSERT"],"a":[null,1,""]}"#, true),
            (r#"{"$or":[{"a":[1]},{"b":[2]}]}"#, true),
            (r#"{"a":[{"anything-but":{"prefix":"x"}}]}"#, true),
            ("", false),
            ("simple string", false),
            (r#""simple string""#, false),
            ("{}", false),
            (r#"["a"]"#, false),
            (r#"{"eventSource":"aws:sqs"}"#, false),
            (r#"{"eventSource":[]}"#, false),
            (r#"{"a":{}}"#, false),
            (r#"{"a":[["b"]]}"#, false),
            (r#"{"a":[{"unknown":"b"}]}"#, false),
            (r#"{"a":[{"prefix":"b","suffix":"c"}]}"#, false),
            (r#"{"a":[{"numeric":[">"]}]}"#, false),
            (r#"{"a":[{"numeric":["!",1]}]}"#, false),
            (r#"{"a":[{"numeric":[">",1,">",2]}]}"#, false),
            (r#"{"$or":[{"a":[1]}]}"#, false),
        ] {
            assert_eq!(is_pattern(text), good, "{text}");
        }
    }
}
