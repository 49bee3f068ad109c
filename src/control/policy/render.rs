//! Policies as text, with the keys in AWS's order, and policies from text.

use std::fmt::Write as _;

use serde_json::Value;

use crate::control::ControlError;

/// AWS's order of a statement's keys; others follow.
const ORDER: [&str; 6] = ["Sid", "Effect", "Principal", "Action", "Resource", "Condition"];
/// What a statement of a whole policy may say.
const KNOWN: [&str; 9] = [
    "Sid",
    "Effect",
    "Principal",
    "NotPrincipal",
    "Action",
    "NotAction",
    "Resource",
    "NotResource",
    "Condition",
];

/// A statement as AWS prints it.
pub(crate) fn statement_text(statement: &Value) -> String {
    let Value::Object(members) = statement else { return statement.to_string() };
    let first = ORDER.iter().filter_map(|key| Some((*key, members.get(*key)?)));
    let rest = members.iter().map(|(k, v)| (k.as_str(), v)).filter(|(k, _)| !ORDER.contains(k));
    let mut text = String::from("{");
    for (key, value) in first.chain(rest) {
        let comma = if text.len() > 1 { "," } else { "" };
        let _ = write!(text, "{comma}{}:{value}", Value::from(key)); // a String takes all
    }
    text + "}"
}

/// A policy as AWS prints it.
pub(crate) fn policy_text(statements: &[Value]) -> String {
    let statements: Vec<String> = statements.iter().map(statement_text).collect();
    format!(r#"{{"Version":"2012-10-17","Id":"default","Statement":[{}]}}"#, statements.join(","))
}

/// The statements of a policy that came as text.
///
/// # Errors
/// No policy: no JSON object, no statement, an `Effect` or a member that there is not.
pub(crate) fn parse_policy(text: &str) -> Result<Vec<Value>, ControlError> {
    let refused = |what: String| {
        ControlError::invalid(format!("The provided policy document is invalid: {what}."))
    };
    let policy: Value = serde_json::from_str(text).map_err(|e| refused(e.to_string()))?;
    let Value::Object(mut policy) = policy else { return Err(refused("no object".into())) };
    let statements = match policy.remove("Statement") {
        Some(Value::Array(statements)) if !statements.is_empty() => statements,
        Some(one @ Value::Object(_)) => vec![one],
        _ => return Err(refused("it has no Statement".into())),
    };
    if let Some(key) = policy.keys().find(|k| !["Version", "Id"].contains(&k.as_str())) {
        return Err(refused(format!("unknown member `{key}`")));
    }
    let mut sids = Vec::new();
    for statement in &statements {
        let Value::Object(members) = statement else {
            return Err(refused("a statement is no object".into()));
        };
        if let Some(key) = members.keys().find(|k| !KNOWN.contains(&k.as_str())) {
            return Err(refused(format!("unknown member `{key}` in a statement")));
        }
        if !matches!(members.get("Effect").and_then(Value::as_str), Some("Allow" | "Deny")) {
            return Err(refused("`Effect` is neither Allow nor Deny".into()));
        }
        for pair in [("Principal", "NotPrincipal"), ("Action", "NotAction")] {
            if members.contains_key(pair.0) == members.contains_key(pair.1) {
                let what = format!("a statement has one of `{}` and `{}`", pair.0, pair.1);
                return Err(refused(what));
            }
        }
        if let Some(sid) = members.get("Sid") {
            if sids.contains(&sid) {
                return Err(refused(format!("two statements have the Sid {sid}")));
            }
            sids.push(sid);
        }
    }
    Ok(statements)
}
