//! Who may do what under a resource policy.
//!
//! What is not understood never opens a door: an `Allow` that holds an unknown operator, key or form does not count,
//! and a `Deny` that holds one does. A `Deny` wins over every `Allow`; without an `Allow` the answer is no. There are no
//! identity policies here, so an account's root in a policy stands for everyone in the account.
//!
//! Source: IAM User Guide, "Policy evaluation logic", "IAM JSON policy elements: Condition operators".

use serde_json::Value;

use crate::control::records::PolicyRecord;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Principal<'a> {
    /// The ARN of an account's root, a user, a role or a role's session.
    Aws(&'a str),
    /// `s3.amazonaws.com` and the like.
    Service(&'a str),
    /// A request without a signature.
    Anonymous,
}

/// What is asked. Context that a request does not have is `None`, and then a condition on it does not hold.
#[derive(Debug, Clone, Copy)]
pub struct AccessRequest<'a> {
    pub principal: Principal<'a>,
    /// `lambda:InvokeFunction`, `lambda:InvokeFunctionUrl`, …
    pub action: &'a str,
    /// The ARN with the qualifier whose policy is asked; `:$LATEST` and none are the same.
    pub resource: &'a str,
    pub source_arn: Option<&'a str>,
    pub source_account: Option<&'a str>,
    pub principal_org_id: Option<&'a str>,
    pub event_source_token: Option<&'a str>,
    /// `NONE` or `AWS_IAM`.
    pub function_url_auth_type: Option<&'a str>,
    pub invoked_via_function_url: Option<bool>,
}

impl<'a> AccessRequest<'a> {
    /// A request without context.
    pub fn new(principal: Principal<'a>, action: &'a str, resource: &'a str) -> Self {
        Self {
            principal,
            action,
            resource,
            source_arn: None,
            source_account: None,
            principal_org_id: None,
            event_source_token: None,
            function_url_auth_type: None,
            invoked_via_function_url: None,
        }
    }

    /// The value of a context key; the outer `None` is a key that we do not know.
    fn context(&self, key: &str) -> Option<Option<String>> {
        let text = |value: Option<&str>| Some(value.map(str::to_owned));
        match key.to_ascii_lowercase().as_str() {
            "aws:sourcearn" => text(self.source_arn),
            "aws:sourceaccount" => text(self.source_account),
            "aws:principalorgid" => text(self.principal_org_id),
            "aws:principalarn" => text(self.principal.role_arn().as_deref()),
            "aws:principalaccount" => text(self.principal.account()),
            "lambda:eventsourcetoken" => text(self.event_source_token),
            "lambda:functionurlauthtype" => text(self.function_url_auth_type),
            "lambda:functionarn" => text(Some(unqualified_latest(self.resource))),
            "lambda:invokedviafunctionurl" => {
                Some(self.invoked_via_function_url.map(|via| via.to_string()))
            }
            _ => None,
        }
    }
}

impl Principal<'_> {
    fn account(&self) -> Option<&str> {
        match self {
            Self::Aws(arn) => arn.split(':').nth(4).filter(|account| is_account(account)),
            Self::Service(_) | Self::Anonymous => None,
        }
    }

    /// The caller's ARN; of a role's session the role's, as far as its session's name tells (it has no path).
    fn role_arn(&self) -> Option<String> {
        let Self::Aws(arn) = self else { return None };
        let parts: Vec<&str> = arn.splitn(6, ':').collect();
        if let ["arn", partition, "sts", _, account, session] = parts[..]
            && let Some(role) = session.strip_prefix("assumed-role/")
        {
            let role = role.split('/').next().unwrap_or(role);
            return Some(format!("arn:{partition}:iam::{account}:role/{role}"));
        }
        Some((*arn).to_owned())
    }
}

/// What a part of a statement says about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Match {
    Yes,
    No,
    /// It says something that is not understood here.
    Unknown,
}

use Match::{No, Unknown, Yes};

impl Match {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (No, _) | (_, No) => No,
            (Yes, Yes) => Yes,
            _ => Unknown,
        }
    }

    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Yes, _) | (_, Yes) => Yes,
            (No, No) => No,
            _ => Unknown,
        }
    }

    fn not(self) -> Self {
        match self {
            Yes => No,
            No => Yes,
            Unknown => Unknown,
        }
    }
}

impl From<bool> for Match {
    fn from(yes: bool) -> Self {
        if yes { Yes } else { No }
    }
}

/// Whether the policy lets the request through.
pub fn allows(policy: Option<&PolicyRecord>, request: &AccessRequest<'_>) -> bool {
    let mut allowed = false;
    for statement in policy.map_or(&[][..], |policy| &policy.statements) {
        let matched = matches(statement, request);
        match statement.get("Effect").and_then(Value::as_str) {
            Some("Allow") => allowed |= matched == Yes,
            // A `Deny`, and what might be one.
            _ if matched != No => return false,
            _ => {}
        }
    }
    allowed
}

fn matches(statement: &Value, request: &AccessRequest<'_>) -> Match {
    let Value::Object(members) = statement else { return Unknown };
    let either = |key: &str, not_key: &str, test: &dyn Fn(&Value) -> Match| match (
        members.get(key),
        members.get(not_key),
    ) {
        (Some(value), None) => test(value),
        (None, Some(value)) => test(value).not(),
        _ => Unknown,
    };
    let principal =
        either("Principal", "NotPrincipal", &|v| principal_matches(v, request.principal));
    let action = either("Action", "NotAction", &|v| {
        any(v, |pattern| {
            glob(&pattern.to_ascii_lowercase(), &request.action.to_ascii_lowercase()).into()
        })
    });
    let resource = unqualified_latest(request.resource);
    // A policy on a resource may leave it unnamed.
    let resource = if members.contains_key("Resource") || members.contains_key("NotResource") {
        either("Resource", "NotResource", &|v| any(v, |pattern| glob(pattern, resource).into()))
    } else {
        Yes
    };
    let condition = members.get("Condition").map_or(Yes, |c| conditions_match(c, request));
    principal.and(action).and(resource).and(condition)
}

/// A text, or a list of which one is enough.
fn any(value: &Value, test: impl Fn(&str) -> Match) -> Match {
    match value {
        Value::String(text) => test(text),
        Value::Array(list) => {
            list.iter().map(|item| item.as_str().map_or(Unknown, &test)).fold(No, Match::or)
        }
        _ => Unknown,
    }
}

fn principal_matches(wanted: &Value, asks: Principal<'_>) -> Match {
    match wanted {
        Value::String(text) if text == "*" => Yes,
        Value::Object(kinds) => kinds
            .iter()
            .map(|(kind, who)| match (kind.as_str(), asks) {
                ("AWS", Principal::Aws(arn)) => any(who, |who| aws_principal(who, arn)),
                ("AWS", Principal::Anonymous) => any(who, |who| (who == "*").into()),
                ("AWS", Principal::Service(_)) => No,
                ("Service", Principal::Service(name)) => any(who, |who| (who == name).into()),
                ("Service", _) => No,
                _ => Unknown,
            })
            .fold(No, Match::or),
        _ => Unknown,
    }
}

fn aws_principal(who: &str, arn: &str) -> Match {
    let asks = Principal::Aws(arn);
    if who == "*" || who == arn {
        return Yes;
    }
    if is_account(who) {
        return (asks.account() == Some(who)).into();
    }
    let parts: Vec<&str> = who.splitn(6, ':').collect();
    let ["arn", _, "iam" | "sts", _, account, name] = parts[..] else { return Unknown };
    if who.contains('*') {
        return Unknown; // AWS takes no part of a name
    }
    if asks.account() != Some(account) {
        return No;
    }
    if name == "root" {
        return Yes;
    }
    // A role's session has the role's name without its path.
    let role = name.strip_prefix("role/").and_then(|path| path.rsplit('/').next());
    let asked = asks.role_arn().filter(|asked| asked != arn);
    let asked = asked.as_deref().and_then(|asked| asked.rsplit(":role/").next());
    (role.is_some() && role == asked).into()
}

fn conditions_match(conditions: &Value, request: &AccessRequest<'_>) -> Match {
    let Value::Object(operators) = conditions else { return Unknown };
    let mut all = Yes;
    for (operator, keys) in operators {
        let Value::Object(keys) = keys else { return Unknown };
        for (key, wanted) in keys {
            let one = request
                .context(key)
                .map_or(Unknown, |found| condition(operator, found.as_deref(), wanted));
            all = all.and(one);
        }
    }
    all
}

/// One operator on one key. An absent key fails it, unless the operator is negated or ends in `IfExists`.
fn condition(operator: &str, found: Option<&str>, wanted: &Value) -> Match {
    if operator == "Null" {
        let absent = found.is_none();
        return texts(wanted, |text| match text {
            "true" => absent.into(),
            "false" => (!absent).into(),
            _ => Unknown,
        });
    }
    let (operator, if_exists) =
        operator.strip_suffix("IfExists").map_or((operator, false), |operator| (operator, true));
    let (operator, negated) = match operator {
        "StringNotEquals" => ("StringEquals", true),
        "StringNotEqualsIgnoreCase" => ("StringEqualsIgnoreCase", true),
        "StringNotLike" => ("StringLike", true),
        "ArnNotEquals" | "ArnNotLike" => ("ArnLike", true),
        "ArnEquals" => ("ArnLike", false),
        "StringEquals" | "StringEqualsIgnoreCase" | "StringLike" | "ArnLike" | "Bool" => {
            (operator, false)
        }
        _ => return Unknown,
    };
    let Some(found) = found else { return (if_exists || negated).into() };
    let matched = texts(wanted, |wanted| match operator {
        "StringEquals" => (wanted == found).into(),
        "StringEqualsIgnoreCase" => (wanted.to_lowercase() == found.to_lowercase()).into(),
        "StringLike" => glob(wanted, found).into(),
        "Bool" => match wanted {
            "true" | "false" => (wanted == found).into(),
            _ => Unknown,
        },
        _ => arn_like(wanted, found),
    });
    if negated { matched.not() } else { matched }
}

/// As [`any`], and a boolean is its text.
fn texts(wanted: &Value, test: impl Fn(&str) -> Match) -> Match {
    let one = |value: &Value| match value {
        Value::String(text) => test(text),
        Value::Bool(true) => test("true"),
        Value::Bool(false) => test("false"),
        _ => Unknown,
    };
    match wanted {
        Value::Array(list) => list.iter().map(one).fold(No, Match::or),
        _ => one(wanted),
    }
}

/// Each of an ARN's six parts against its own pattern; a wildcard does not reach over a colon but in the last.
fn arn_like(pattern: &str, arn: &str) -> Match {
    let pattern: Vec<&str> = pattern.splitn(6, ':').collect();
    let arn: Vec<&str> = arn.splitn(6, ':').collect();
    if pattern.len() != 6 {
        return Unknown;
    }
    (arn.len() == 6 && pattern.iter().zip(&arn).all(|(pattern, part)| glob(pattern, part))).into()
}

/// `*` is any run of characters, `?` any one. Linear in both but for the last `*` seen.
fn glob(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let (mut p, mut t) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                back = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match back {
                // The `*` takes one character more.
                Some((star, taken)) => {
                    back = Some((star, taken + 1));
                    p = star + 1;
                    t = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

fn unqualified_latest(arn: &str) -> &str {
    arn.strip_suffix(":$LATEST").unwrap_or(arn)
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const F: &str = "arn:aws:lambda:us-east-1:000000000000:function:f";
    const BUCKET: &str = "arn:aws:s3:::bucket";
    const INVOKE: &str = "lambda:InvokeFunction";

    fn allowed(statements: Value, request: &AccessRequest<'_>) -> bool {
        let Value::Array(statements) = statements else { panic!("no list") };
        let policy = PolicyRecord { statements, revision_id: String::new() };
        allows(Some(&policy), request)
    }

    fn statement(changes: Value) -> Value {
        let mut statement = json!({
            "Effect": "Allow", "Principal": "*", "Action": INVOKE, "Resource": F,
        });
        for (key, value) in changes.as_object().unwrap() {
            if value.is_null() {
                statement.as_object_mut().unwrap().remove(key);
            } else {
                statement[key] = value.clone();
            }
        }
        statement
    }

    #[test]
    fn principals() {
        let root = json!({ "AWS": "arn:aws:iam::111111111111:root" });
        let role = json!({ "AWS": "arn:aws:iam::111111111111:role/path/r" });
        let alice = Principal::Aws("arn:aws:iam::111111111111:user/alice");
        let session = Principal::Aws("arn:aws:sts::111111111111:assumed-role/r/session");
        let foreign = Principal::Aws("arn:aws:sts::222222222222:assumed-role/r/session");
        let s3 = Principal::Service("s3.amazonaws.com");
        let anonymous = Principal::Anonymous;
        for (wanted, asks, good) in [
            (json!("*"), anonymous, true),
            (json!("*"), s3, true),
            (json!("alice"), alice, false),
            (json!({ "AWS": "*" }), anonymous, true),
            (json!({ "AWS": "*" }), alice, true),
            (json!({ "AWS": "*" }), s3, false),
            (root.clone(), alice, true),
            (root.clone(), session, true),
            (root.clone(), foreign, false),
            (root, anonymous, false),
            (json!({ "AWS": "111111111111" }), alice, true),
            (json!({ "AWS": ["222222222222", "111111111111"] }), alice, true),
            (json!({ "AWS": "arn:aws:iam::111111111111:user/alice" }), alice, true),
            (json!({ "AWS": "arn:aws:iam::111111111111:user/bob" }), alice, false),
            (json!({ "AWS": "arn:aws:iam::111111111111:user/*" }), alice, false),
            (role.clone(), session, true),
            (role.clone(), foreign, false),
            (role, alice, false),
            (json!({ "Service": "s3.amazonaws.com" }), s3, true),
            (json!({ "Service": ["sqs.amazonaws.com", "s3.amazonaws.com"] }), s3, true),
            (json!({ "Service": "sqs.amazonaws.com" }), s3, false),
            (json!({ "Service": "s3.amazonaws.com" }), alice, false),
            (json!({ "Federated": "*" }), alice, false),
            (json!({ "Federated": "x", "AWS": "111111111111" }), alice, true),
            (Value::Null, alice, false),
        ] {
            let request = AccessRequest::new(asks, INVOKE, F);
            let statements = json!([statement(json!({ "Principal": wanted }))]);
            assert_eq!(allowed(statements, &request), good, "{wanted} {asks:?}");
        }
    }

    #[test]
    fn actions_and_resources() {
        let live = format!("{F}:live");
        let latest = format!("{F}:$LATEST");
        for (changes, resource, good) in [
            (json!({}), F, true),
            (json!({}), latest.as_str(), true),
            (json!({}), live.as_str(), false),
            (json!({ "Resource": format!("{F}:*") }), live.as_str(), true),
            (json!({ "Resource": format!("{F}:*") }), F, false),
            (json!({ "Resource": ["x", F] }), F, true),
            (json!({ "Resource": null }), F, true),
            (json!({ "Resource": F.to_uppercase() }), F, false),
            (json!({ "Action": "lambda:*" }), F, true),
            (json!({ "Action": "*" }), F, true),
            (json!({ "Action": "LAMBDA:invokefunction" }), F, true),
            (json!({ "Action": ["lambda:GetFunction", "lambda:Invoke*"] }), F, true),
            (json!({ "Action": "lambda:InvokeFunctionUrl" }), F, false),
            (json!({ "Action": null, "NotAction": "lambda:GetFunction" }), F, true),
            (json!({ "Action": null, "NotAction": "lambda:Invoke*" }), F, false),
            (json!({ "NotAction": "lambda:GetFunction" }), F, false),
            (json!({ "Effect": "allow" }), F, false),
        ] {
            let request = AccessRequest::new(Principal::Anonymous, INVOKE, resource);
            let statements = json!([statement(changes.clone())]);
            assert_eq!(allowed(statements, &request), good, "{changes} {resource}");
        }
    }

    #[test]
    fn conditions() {
        let mut request = AccessRequest::new(Principal::Service("s3.amazonaws.com"), INVOKE, F);
        request.source_arn = Some(BUCKET);
        request.source_account = Some("000000000000");
        request.function_url_auth_type = Some("NONE");
        request.invoked_via_function_url = Some(true);
        for (condition, good) in [
            (json!({ "ArnLike": { "AWS:SourceArn": BUCKET } }), true),
            (json!({ "ArnLike": { "AWS:SourceArn": "arn:aws:s3:::buck*" } }), true),
            (json!({ "ArnEquals": { "aws:SourceArn": "arn:aws:s3:*:*:b?cket" } }), true),
            (json!({ "ArnLike": { "AWS:SourceArn": "arn:aws:s3:::other" } }), false),
            (json!({ "ArnLike": { "AWS:SourceArn": "arn:*" } }), false),
            (json!({ "ArnLike": { "AWS:SourceArn": ["arn:aws:s3:::x", BUCKET] } }), true),
            (json!({ "ArnNotLike": { "AWS:SourceArn": "arn:aws:s3:::other" } }), true),
            (json!({ "StringEquals": { "AWS:SourceAccount": "000000000000" } }), true),
            (json!({ "StringEquals": { "AWS:SourceAccount": "111111111111" } }), false),
            (json!({ "StringLike": { "aws:sourceaccount": "0*" } }), true),
            (json!({ "StringNotEquals": { "AWS:SourceAccount": "111111111111" } }), true),
            (json!({ "StringNotEquals": { "aws:PrincipalOrgID": "o-1" } }), true),
            (json!({ "StringEquals": { "aws:PrincipalOrgID": "o-1" } }), false),
            (json!({ "StringEqualsIfExists": { "aws:PrincipalOrgID": "o-1" } }), true),
            (json!({ "StringEqualsIgnoreCase": { "lambda:FunctionUrlAuthType": "none" } }), true),
            (json!({ "StringEquals": { "lambda:FunctionUrlAuthType": "none" } }), false),
            (json!({ "Bool": { "lambda:InvokedViaFunctionUrl": "true" } }), true),
            (json!({ "Bool": { "lambda:InvokedViaFunctionUrl": true } }), true),
            (json!({ "Bool": { "lambda:InvokedViaFunctionUrl": "false" } }), false),
            (json!({ "Bool": { "lambda:InvokedViaFunctionUrl": "yes" } }), false),
            (json!({ "Null": { "aws:SourceArn": "false" } }), true),
            (json!({ "Null": { "aws:PrincipalOrgID": true } }), true),
            (json!({ "Null": { "aws:PrincipalOrgID": "false" } }), false),
            (json!({ "StringEquals": { "aws:SourceIp": "1.2.3.4" } }), false),
            (json!({ "StringNotEquals": { "aws:SourceIp": "1.2.3.4" } }), false),
            (json!({ "IpAddress": { "aws:SourceArn": "1.2.3.4" } }), false),
            (json!({ "ForAnyValue:StringEquals": { "aws:SourceArn": BUCKET } }), false),
            (json!({ "StringEquals": { "aws:SourceArn": 1 } }), false),
            (json!("x"), false),
            (json!({}), true),
            (
                json!({
                    "StringEquals": { "AWS:SourceAccount": "000000000000" },
                    "ArnLike": { "AWS:SourceArn": "arn:aws:s3:::other" },
                }),
                false,
            ),
        ] {
            let statements = json!([statement(json!({ "Condition": condition }))]);
            assert_eq!(allowed(statements, &request), good, "{condition}");
        }
    }

    #[test]
    fn a_deny_wins_and_so_does_one_that_is_not_understood() {
        let request = AccessRequest::new(Principal::Anonymous, INVOKE, F);
        let allow = statement(json!({}));
        for (deny, good) in [
            (json!({ "Effect": "Deny" }), false),
            (json!({ "Effect": "Deny", "Action": "lambda:GetFunction" }), true),
            (json!({ "Effect": "Deny", "Condition": { "New": { "aws:SourceArn": "x" } } }), false),
            (
                json!({ "Effect": "Deny", "Condition": { "StringEquals": { "new:Key": "x" } } }),
                false,
            ),
            (
                json!({ "Effect": "Deny", "Condition": { "StringEquals": { "aws:SourceArn": "x" } } }),
                true,
            ),
            (json!({ "Effect": "Deny", "Principal": null, "NotPrincipal": { "AWS": "*" } }), true),
            (json!({ "Effect": "Maybe" }), false),
        ] {
            let statements = json!([allow, statement(deny.clone())]);
            assert_eq!(allowed(statements, &request), good, "{deny}");
        }
        assert!(!allows(None, &request));
        assert!(!allowed(json!([]), &request));
    }

    #[test]
    fn wildcards() {
        for (pattern, text, good) in [
            ("", "", true),
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abbcd", false),
            ("a?c", "ac", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*aab", "aaaab", true),
            ("**", "é", true),
            ("?", "é", true),
        ] {
            assert_eq!(glob(pattern, text), good, "{pattern} {text}");
        }
    }
}
