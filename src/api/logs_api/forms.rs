//! Constraints of the members of CloudWatch Logs' requests, as far as its operations are built.

use serde_json::{Map, Value};

use crate::logs::cloudwatch::LogsError;

/// A member's form. Lengths, patterns and ranges are the service model's.
#[derive(Debug, Clone, Copy)]
enum Form {
    Group,
    GroupPattern,
    Stream,
    /// Length from 1 to this.
    Text(usize),
    /// Length from 0 to this.
    Loose(usize),
    /// Number from 1 to this.
    Number(i64),
    Time,
    OneOf(&'static [&'static str]),
    /// Items from 1 to this.
    Items(usize),
}

const CLASSES: &[&str] = &["STANDARD", "INFREQUENT_ACCESS", "DELIVERY"];

/// Members of an operation that have constraints: name, whether it is required, form.
fn members(operation: &str) -> &'static [(&'static str, bool, Form)] {
    use Form::{Group, GroupPattern, Items, Loose, Number, OneOf, Stream, Text, Time};
    match operation {
        "CreateLogGroup" => &[
            ("logGroupName", true, Group),
            ("kmsKeyId", false, Loose(256)),
            ("logGroupClass", false, OneOf(CLASSES)),
        ],
        "DeleteLogGroup" | "DeleteRetentionPolicy" | "ListTagsLogGroup" => {
            &[("logGroupName", true, Group)]
        }
        "TagLogGroup" | "UntagLogGroup" => {
            &[("logGroupName", true, Group), ("tags", true, Items(50))]
        }
        "PutRetentionPolicy" => {
            &[("logGroupName", true, Group), ("retentionInDays", true, Number(i64::MAX))]
        }
        "DescribeLogGroups" => &[
            ("logGroupNamePrefix", false, Group),
            ("logGroupNamePattern", false, GroupPattern),
            ("nextToken", false, Text(usize::MAX)),
            ("limit", false, Number(50)),
            ("logGroupClass", false, OneOf(CLASSES)),
            ("logGroupIdentifiers", false, Items(50)),
        ],
        "CreateLogStream" | "DeleteLogStream" => {
            &[("logGroupName", true, Group), ("logStreamName", true, Stream)]
        }
        "DescribeLogStreams" => &[
            ("logGroupName", false, Group),
            ("logGroupIdentifier", false, Text(2048)),
            ("logStreamNamePrefix", false, Stream),
            ("orderBy", false, OneOf(&["LogStreamName", "LastEventTime"])),
            ("nextToken", false, Text(usize::MAX)),
            ("limit", false, Number(50)),
        ],
        "PutLogEvents" => &[
            ("logGroupName", true, Group),
            ("logStreamName", true, Stream),
            ("logEvents", true, Items(10_000)),
        ],
        "GetLogEvents" => &[
            ("logGroupName", false, Group),
            ("logGroupIdentifier", false, Text(2048)),
            ("logStreamName", true, Stream),
            ("startTime", false, Time),
            ("endTime", false, Time),
            ("nextToken", false, Text(usize::MAX)),
            ("limit", false, Number(10_000)),
        ],
        "FilterLogEvents" => &[
            ("logGroupName", false, Group),
            ("logGroupIdentifier", false, Text(2048)),
            ("logStreamNames", false, Items(100)),
            ("logStreamNamePrefix", false, Stream),
            ("startTime", false, Time),
            ("endTime", false, Time),
            ("filterPattern", false, Loose(1024)),
            ("nextToken", false, Text(usize::MAX)),
            ("limit", false, Number(10_000)),
        ],
        "ListTagsForResource" => &[("resourceArn", true, Text(1011))],
        "TagResource" => &[("resourceArn", true, Text(1011)), ("tags", true, Items(50))],
        "UntagResource" => &[("resourceArn", true, Text(1011)), ("tagKeys", true, Items(50))],
        _ => &[],
    }
}

impl Form {
    /// The constraint that a value breaks, in AWS's words; a value of another type is left to the reader.
    fn broken(self, value: &Value) -> Option<String> {
        let length = |from: usize, to: usize| {
            let count = match value {
                Value::String(text) => text.chars().count(),
                Value::Array(items) => items.len(),
                Value::Object(items) => items.len(),
                _ => return None,
            };
            if count < from {
                return Some(format!("Member must have length greater than or equal to {from}"));
            }
            (count > to).then(|| format!("Member must have length less than or equal to {to}"))
        };
        let pattern = |allowed: fn(char) -> bool, text: &str| {
            let broken = value.as_str().is_some_and(|v| !v.chars().all(allowed));
            broken.then(|| format!("Member must satisfy regular expression pattern: {text}"))
        };
        let group_character = |c: char| c.is_ascii_alphanumeric() || "._-/#".contains(c);
        match self {
            Self::Group => {
                length(1, 512).or_else(|| pattern(group_character, r"[\.\-_/#A-Za-z0-9]+"))
            }
            Self::GroupPattern => {
                length(0, 512).or_else(|| pattern(group_character, r"[\.\-_/#A-Za-z0-9]*"))
            }
            Self::Stream => length(1, 512).or_else(|| pattern(|c| c != ':' && c != '*', "[^:*]*")),
            Self::Text(most) | Self::Items(most) => length(1, most),
            Self::Loose(most) => length(0, most),
            Self::Number(most) => value.as_i64().and_then(|number| {
                if number < 1 {
                    return Some("Member must have value greater than or equal to 1".into());
                }
                let text = format!("Member must have value less than or equal to {most}");
                (number > most).then_some(text)
            }),
            Self::Time => value
                .as_i64()
                .filter(|time| *time < 0)
                .map(|_| "Member must have value greater than or equal to 0".into()),
            Self::OneOf(all) => value
                .as_str()
                .filter(|v| !all.contains(v))
                .map(|_| format!("Member must satisfy enum value set: [{}]", all.join(", "))),
        }
    }
}

/// Checks members against the service model.
///
/// # Errors
/// Every constraint that is broken, in AWS's words.
pub(super) fn validate(operation: &str, given: &Map<String, Value>) -> Result<(), LogsError> {
    let broken: Vec<String> = members(operation)
        .iter()
        .filter_map(|(name, required, form)| match given.get(*name) {
            None | Some(Value::Null) => required.then(|| {
                format!(
                    "Value null at '{name}' failed to satisfy constraint: Member must not be null"
                )
            }),
            Some(value) => form.broken(value).map(|constraint| {
                let shown = match value {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                format!("Value '{shown}' at '{name}' failed to satisfy constraint: {constraint}")
            }),
        })
        .collect();
    if broken.is_empty() {
        return Ok(());
    }
    let plural = if broken.len() == 1 { "" } else { "s" };
    Err(LogsError::invalid(format!(
        "{} validation error{plural} detected: {}",
        broken.len(),
        broken.join("; ")
    )))
}
