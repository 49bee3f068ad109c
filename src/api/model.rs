//! AWS's service model as data (`model.json`, made by `scripts/model`): which request is which operation, and what its
//! members may be. Errors are worded as AWS words them.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{LazyLock, OnceLock};

use fancy_regex::Regex;
use serde::Deserialize;
use serde_json::{Map, Number, Value};

/// Nesting of a JSON body; beyond it nothing is read.
pub const MAX_DEPTH: usize = 64;

/// The model of the AWS Lambda API.
pub static LAMBDA: LazyLock<Model> = LazyLock::new(|| {
    // The file is part of this program, and a test reads it: it cannot fail here.
    #[expect(clippy::expect_used, reason = "compiled in and tested")]
    Model::parse(include_str!("model.json")).expect("model.json")
});

#[derive(Debug, Deserialize)]
struct Raw {
    operations: HashMap<String, RawOperation>,
    errors: HashMap<String, u16>,
    shapes: HashMap<String, Shape>,
}

#[derive(Debug, Deserialize)]
struct RawOperation {
    method: String,
    uri: String,
    status: u16,
    input: Option<String>,
    output: Option<String>,
}

/// See [`LAMBDA`].
#[derive(Debug)]
pub struct Model {
    operations: Vec<Operation>,
    errors: HashMap<String, u16>,
    shapes: HashMap<String, Shape>,
}

#[derive(Debug)]
pub struct Operation {
    pub name: String,
    method: String,
    segments: Vec<Segment>,
    /// A parameter that the query must have, where two operations share a path.
    query: Option<String>,
    pub status: u16,
    input: Option<String>,
    output: Option<String>,
}

#[derive(Debug)]
enum Segment {
    Literal(String),
    Label(String),
}

#[derive(Debug, Deserialize)]
pub struct Shape {
    #[serde(rename = "type")]
    kind: Kind,
    #[serde(default)]
    required: Vec<String>,
    #[serde(default)]
    members: HashMap<String, Member>,
    payload: Option<String>,
    member: Option<String>,
    key: Option<String>,
    value: Option<String>,
    min: Option<f64>,
    max: Option<f64>,
    pattern: Option<String>,
    #[serde(default, rename = "enum")]
    values: Vec<String>,
    #[serde(skip)]
    compiled: OnceLock<Option<Regex>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Structure,
    List,
    Map,
    String,
    Integer,
    Long,
    Double,
    Boolean,
    Blob,
    Timestamp,
}

#[derive(Debug, Deserialize)]
struct Member {
    shape: String,
    location: Option<Location>,
    name: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Location {
    Uri,
    #[serde(rename = "querystring")]
    Query,
    Header,
    StatusCode,
}

/// Why a request is not one of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invalid {
    /// Broken constraints; AWS's whole text.
    Constraints(String),
    /// Not JSON, or not of the model's types.
    Body(String),
}

/// Where an answer's members go.
#[derive(Debug, Default)]
pub struct Placed {
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Map<String, Value>,
}

/// A request's parts that hold members.
#[derive(Debug)]
pub struct RequestParts<'a> {
    /// Values of the path's labels, decoded.
    pub labels: Vec<(&'a str, String)>,
    /// Without `?`.
    pub query: &'a str,
    /// Names in lower case.
    pub headers: &'a [(&'a str, &'a str)],
    pub body: &'a [u8],
}

impl Model {
    fn parse(text: &str) -> Result<Self, serde_json::Error> {
        let raw: Raw = serde_json::from_str(text)?;
        let mut operations: Vec<Operation> = raw
            .operations
            .into_iter()
            .map(|(name, raw)| {
                let (path, query) = match raw.uri.split_once('?') {
                    Some((path, query)) => (path, Some(query.to_owned())),
                    None => (raw.uri.as_str(), None),
                };
                let segment = |text: &str| match text.strip_prefix('{') {
                    Some(label) => Segment::Label(label.trim_end_matches(['}', '+']).to_owned()),
                    None => Segment::Literal(text.to_owned()),
                };
                Operation {
                    name,
                    method: raw.method,
                    segments: path.trim_matches('/').split('/').map(segment).collect(),
                    query,
                    status: raw.status,
                    input: raw.input,
                    output: raw.output,
                }
            })
            .collect();
        // The more particular ones first: those that want something of the query, then those with more literals.
        operations.sort_by_key(|o| {
            let labels = o.segments.iter().filter(|s| matches!(s, Segment::Label(_))).count();
            (o.query.is_none(), labels, o.name.clone())
        });
        Ok(Self { operations, errors: raw.errors, shapes: raw.shapes })
    }

    /// The operation that a request line means, and the values of its labels.
    pub fn route(
        &self,
        method: &str,
        path: &str,
        query: &str,
    ) -> Option<(&Operation, Vec<(&str, String)>)> {
        let given: Vec<&str> = path.trim_matches('/').split('/').collect();
        let operation = self.operations.iter().find(|operation| {
            operation.method == method
                && operation.segments.len() == given.len()
                && operation.query.as_ref().is_none_or(|q| query.split('&').any(|pair| pair == q))
                && operation.segments.iter().zip(&given).all(|(segment, given)| match segment {
                    Segment::Literal(text) => text == given,
                    Segment::Label(_) => !given.is_empty(),
                })
        })?;
        let labels = operation
            .segments
            .iter()
            .zip(given)
            .filter_map(|(segment, given)| match segment {
                Segment::Label(name) => Some((name.as_str(), decoded(given))),
                Segment::Literal(_) => None,
            })
            .collect();
        Some((operation, labels))
    }

    pub fn operations(&self) -> impl Iterator<Item = &str> {
        self.operations.iter().map(|o| o.name.as_str())
    }

    /// The status of a modelled exception.
    pub fn error_status(&self, name: &str) -> Option<u16> {
        self.errors.get(name).copied()
    }

    fn shape(&self, name: &str) -> Option<&Shape> {
        self.shapes.get(name)
    }

    /// The member that is the whole body, where the operation has one.
    pub fn payload_member(&self, operation: &Operation) -> Option<&str> {
        let shape = self.shape(operation.input.as_deref()?)?;
        let payload = shape.payload.as_deref()?;
        let member = self.shape(&shape.members.get(payload)?.shape)?;
        (member.kind == Kind::Blob).then_some(payload)
    }

    /// Reads and checks the members of a request.
    ///
    /// # Errors
    /// [`Invalid`]: every broken constraint, not only the first.
    pub fn read(
        &self,
        operation: &Operation,
        parts: &RequestParts<'_>,
    ) -> Result<Map<String, Value>, Invalid> {
        let Some(input) = operation.input.as_deref().and_then(|name| self.shape(name)) else {
            return Ok(Map::new());
        };
        let has_payload = self.payload_member(operation);
        let mut members = Map::new();
        let has_body = input.members.values().any(|m| m.location.is_none());
        if has_payload.is_none() && has_body && !parts.body.is_empty() {
            members = self.body(input, parts.body)?;
        }
        for (name, member) in &input.members {
            let wire = member.name.as_deref().unwrap_or(name);
            let Some(shape) = self.shape(&member.shape) else { continue };
            let value = match member.location {
                None | Some(Location::StatusCode) => continue,
                Some(Location::Uri) => parts
                    .labels
                    .iter()
                    .find(|(label, _)| *label == wire)
                    .map(|(_, value)| Value::from(value.as_str())),
                Some(Location::Query) => query_value(shape, wire, parts.query),
                Some(Location::Header) => parts
                    .headers
                    .iter()
                    .find(|(header, _)| header.eq_ignore_ascii_case(wire))
                    .map(|(_, value)| Value::from(*value)),
            };
            match value {
                Some(value) => members.insert(name.clone(), self.coerce(shape, name, value)?),
                None => members.remove(name),
            };
        }
        let mut broken = Vec::new();
        self.check_structure(input, &members, "", has_payload, &mut broken);
        if broken.is_empty() {
            return Ok(members);
        }
        let (count, s) = (broken.len(), if broken.len() == 1 { "" } else { "s" });
        let text = format!("{count} validation error{s} detected: {}", broken.join("; "));
        Err(Invalid::Constraints(text))
    }

    fn body(&self, input: &Shape, bytes: &[u8]) -> Result<Map<String, Value>, Invalid> {
        if depth(bytes) > MAX_DEPTH {
            return Err(Invalid::Body(format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let value: Value =
            serde_json::from_slice(bytes).map_err(|error| Invalid::Body(error.to_string()))?;
        match self.coerce(input, "", value)? {
            Value::Object(members) => Ok(members),
            _ => Err(Invalid::Body("the body is not a JSON object".into())),
        }
    }

    /// Brings a value into its model's type where that loses nothing, as AWS's parser does; unknown members go.
    fn coerce(&self, shape: &Shape, path: &str, value: Value) -> Result<Value, Invalid> {
        let wrong = |value: &Value| {
            let want = format!("{:?}", shape.kind).to_lowercase();
            let what = match value {
                Value::Null => "null",
                Value::Bool(_) => "a boolean",
                Value::Number(_) => "a number",
                Value::String(_) => "a string",
                Value::Array(_) => "a list",
                Value::Object(_) => "an object",
            };
            Err(Invalid::Body(format!("{path} is {what}, and the model wants: {want}")))
        };
        match (shape.kind, value) {
            (Kind::Structure, Value::Object(object)) => {
                let mut members = Map::new();
                for (name, value) in object {
                    let Some(member) = shape.members.get(&name) else { continue };
                    if value.is_null() {
                        continue;
                    }
                    let Some(inner) = self.shape(&member.shape) else { continue };
                    let path = joined(path, &name);
                    members.insert(name, self.coerce(inner, &path, value)?);
                }
                Ok(Value::Object(members))
            }
            (Kind::List, Value::Array(items)) => {
                let Some(inner) = shape.member.as_deref().and_then(|m| self.shape(m)) else {
                    return Ok(Value::Array(items));
                };
                let items = items.into_iter().map(|item| match item {
                    Value::Null => Ok(Value::Null),
                    item => self.coerce(inner, path, item),
                });
                Ok(Value::Array(items.collect::<Result<_, _>>()?))
            }
            (Kind::Map, Value::Object(object)) => {
                let Some(inner) = shape.value.as_deref().and_then(|m| self.shape(m)) else {
                    return Ok(Value::Object(object));
                };
                let entries = object.into_iter().map(|(key, value)| match value {
                    Value::Null => Ok((key, Value::Null)),
                    value => Ok((key, self.coerce(inner, path, value)?)),
                });
                Ok(Value::Object(entries.collect::<Result<_, Invalid>>()?))
            }
            (Kind::String | Kind::Blob, value @ Value::String(_)) => Ok(value),
            (Kind::String, value @ (Value::Number(_) | Value::Bool(_))) => {
                Ok(value.to_string().into())
            }
            (Kind::Integer | Kind::Long, value) => {
                let number = match &value {
                    Value::Number(number) => whole(number),
                    Value::String(text) => text.trim().parse().ok(),
                    _ => None,
                };
                number.map_or_else(|| wrong(&value), |number: i64| Ok(number.into()))
            }
            (Kind::Double | Kind::Timestamp, value) => {
                let number = match &value {
                    Value::Number(number) => number.as_f64(),
                    Value::String(text) if shape.kind == Kind::Double => text.trim().parse().ok(),
                    // A time may also come as text; whoever wants it reads it.
                    Value::String(_) => return Ok(value),
                    _ => None,
                };
                let number = number.and_then(Number::from_f64);
                number.map_or_else(|| wrong(&value), |number| Ok(Value::Number(number)))
            }
            (Kind::Boolean, value @ Value::Bool(_)) => Ok(value),
            (Kind::Boolean, Value::String(text)) => match text.as_str() {
                "true" => Ok(true.into()),
                "false" => Ok(false.into()),
                _ => wrong(&Value::String(text)),
            },
            (_, value) => wrong(&value),
        }
    }

    fn check_structure(
        &self,
        shape: &Shape,
        members: &Map<String, Value>,
        path: &str,
        skip: Option<&str>,
        broken: &mut Vec<String>,
    ) {
        for name in &shape.required {
            if !members.contains_key(name) && Some(name.as_str()) != skip {
                let path = joined(path, name);
                broken.push(format!(
                    "Value null at '{path}' failed to satisfy constraint: Member must not be null"
                ));
            }
        }
        // In the order that they came, which JSON readers keep sorted; the model has none of its own.
        for (name, value) in members {
            let Some(member) = shape.members.get(name) else { continue };
            let Some(inner) = self.shape(&member.shape) else { continue };
            // An unknown runtime is answered by the rules, with another exception.
            if member.shape == "Runtime" {
                continue;
            }
            self.check(inner, value, &joined(path, name), broken);
        }
    }

    fn check(&self, shape: &Shape, value: &Value, path: &str, broken: &mut Vec<String>) {
        let mut failed = |constraint: String| {
            let mut shown = String::new();
            show(value, &mut shown);
            broken.push(format!(
                "Value '{shown}' at '{path}' failed to satisfy constraint: {constraint}"
            ));
        };
        match value {
            Value::Object(members) if shape.kind == Kind::Structure => {
                self.check_structure(shape, members, path, None, broken);
            }
            Value::Object(entries) => {
                for text in shape.violations(value) {
                    failed(text);
                }
                let inner = |name: &Option<String>| name.as_deref().and_then(|n| self.shape(n));
                let bad_key = inner(&shape.key).filter(|key| {
                    entries.keys().any(|k| !key.violations(&Value::from(k.as_str())).is_empty())
                });
                if let Some(key) = bad_key {
                    let all = key.constraints(false).join(", ");
                    failed(format!("Map keys must satisfy constraint: [{all}]"));
                }
                let bad_value = inner(&shape.value).filter(|inner| {
                    inner.kind != Kind::Structure
                        && entries.values().any(|v| v.is_null() || !inner.violations(v).is_empty())
                });
                if let Some(value) = bad_value {
                    let all = value.constraints(true).join(", ");
                    failed(format!("Map value must satisfy constraint: [{all}]"));
                }
            }
            Value::Array(items) => {
                for text in shape.violations(value) {
                    failed(text);
                }
                let Some(inner) = shape.member.as_deref().and_then(|m| self.shape(m)) else {
                    return;
                };
                if inner.kind == Kind::Structure {
                    for (index, item) in items.iter().enumerate() {
                        self.check(inner, item, &format!("{path}.{}.member", index + 1), broken);
                    }
                } else if items.iter().any(|i| i.is_null() || !inner.violations(i).is_empty()) {
                    let all = inner.constraints(true).join(", ");
                    failed(format!("Member must satisfy constraint: [{all}]"));
                }
            }
            _ => {
                for text in shape.violations(value) {
                    failed(text);
                }
            }
        }
    }

    /// Puts an answer's members where the model has them.
    pub fn place(&self, operation: &Operation, members: Map<String, Value>) -> Placed {
        let mut placed = Placed::default();
        let output = operation.output.as_deref().and_then(|name| self.shape(name));
        for (name, value) in members {
            let member = output.and_then(|output| output.members.get(&name));
            match member.map(|m| (m.location, m.name.as_deref().unwrap_or(&name))) {
                Some((Some(Location::Header), wire)) => {
                    let text = match value {
                        Value::String(text) => text,
                        other => other.to_string(),
                    };
                    placed.headers.push((wire.to_ascii_lowercase(), text));
                }
                Some((Some(_), _)) => {}
                _ => {
                    placed.body.insert(name, value);
                }
            }
        }
        placed
    }

    /// Whether the operation's answer has a body.
    pub fn has_output(&self, operation: &Operation) -> bool {
        operation
            .output
            .as_deref()
            .and_then(|name| self.shape(name))
            .is_some_and(|output| output.members.values().any(|member| member.location.is_none()))
            && operation.status != 204
    }
}

impl Shape {
    fn regex(&self) -> Option<&Regex> {
        let compile = || {
            let pattern = self.pattern.as_deref()?;
            Regex::new(&format!("\\A(?:{pattern})\\z")).ok()
        };
        self.compiled.get_or_init(compile).as_ref()
    }

    /// The constraints that a value breaks, in AWS's words.
    fn violations(&self, value: &Value) -> Vec<String> {
        let mut broken = Vec::new();
        let length = match value {
            Value::String(text) => Some(text.chars().count()),
            Value::Array(items) => Some(items.len()),
            Value::Object(entries) => Some(entries.len()),
            _ => None,
        };
        // Lengths in a model are small; an f64 has them exactly.
        #[expect(clippy::cast_precision_loss, reason = "lengths are far below 2^52")]
        let measure = length.map(|l| l as f64).or_else(|| value.as_f64());
        let is_blob = self.kind == Kind::Blob;
        if let Some(measure) = measure.filter(|_| !is_blob) {
            if self.max.is_some_and(|max| measure > max) {
                broken.extend(self.upper());
            }
            if self.min.is_some_and(|min| measure < min) {
                broken.extend(self.lower());
            }
        }
        if let Value::String(text) = value {
            if !self.values.is_empty() && !self.values.contains(text) {
                broken.push(self.enumerated());
            }
            if let Some(regex) = self.regex()
                && !regex.is_match(text).unwrap_or(false)
            {
                broken.extend(self.patterned());
            }
        }
        broken
    }

    /// Every constraint, broken or not.
    fn constraints(&self, not_null: bool) -> Vec<String> {
        let mut all: Vec<String> = self.upper().into_iter().chain(self.lower()).collect();
        all.extend(self.patterned());
        if !self.values.is_empty() {
            all.push(self.enumerated());
        }
        if not_null {
            all.push("Member must not be null".into());
        }
        all
    }

    fn measured(&self) -> &'static str {
        match self.kind {
            Kind::Integer | Kind::Long | Kind::Double => "value",
            _ => "length",
        }
    }

    fn number(&self, number: f64) -> String {
        if self.kind == Kind::Double { format!("{number:.1}") } else { format!("{number:.0}") }
    }

    fn upper(&self) -> Option<String> {
        let max = self.number(self.max?);
        Some(format!("Member must have {} less than or equal to {max}", self.measured()))
    }

    fn lower(&self) -> Option<String> {
        let min = self.number(self.min?);
        Some(format!("Member must have {} greater than or equal to {min}", self.measured()))
    }

    fn enumerated(&self) -> String {
        format!("Member must satisfy enum value set: [{}]", self.values.join(", "))
    }

    fn patterned(&self) -> Option<String> {
        let pattern = self.pattern.as_deref()?;
        Some(format!("Member must satisfy regular expression pattern: {pattern}"))
    }
}

/// A value as Java prints it.
fn show(value: &Value, out: &mut String) {
    match value {
        Value::String(text) => out.push_str(text),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                show(item, out);
            }
            out.push(']');
        }
        Value::Object(entries) => {
            out.push('{');
            for (index, (key, value)) in entries.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                let _ = write!(out, "{key}=");
                show(value, out);
            }
            out.push('}');
        }
        other => {
            let _ = write!(out, "{other}");
        }
    }
}

fn whole(number: &Number) -> Option<i64> {
    if let Some(whole) = number.as_i64() {
        return Some(whole);
    }
    let float = number.as_f64()?;
    // `3.0` is three to AWS as well.
    #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and small")]
    let whole = (float.fract() == 0.0 && float.abs() < 9e15).then_some(float as i64);
    whole
}

/// `tracingConfig.mode`: members as AWS names them in errors.
fn joined(path: &str, name: &str) -> String {
    let mut chars = name.chars();
    let first = chars.next().map(|c| c.to_ascii_lowercase());
    let name: String = first.into_iter().chain(chars).collect();
    if path.is_empty() { name } else { format!("{path}.{name}") }
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn query_value(shape: &Shape, name: &str, query: &str) -> Option<Value> {
    let mut values = query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .filter(|(key, _)| decoded(key) == name)
        .map(|(_, value)| Value::from(decoded(&value.replace('+', " "))));
    if shape.kind == Kind::List {
        let values: Vec<Value> = values.collect();
        return (!values.is_empty()).then_some(Value::Array(values));
    }
    values.next()
}

/// How deep the brackets of a JSON text go; text in strings does not count.
fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                while let Some(byte) = bytes.next() {
                    match byte {
                        b'\\' => drop(bytes.next()),
                        b'"' => break,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(method: &str, target: &str, body: &Value) -> Result<Map<String, Value>, String> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let (operation, labels) = LAMBDA.route(method, path, query).expect("a route");
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let parts = RequestParts { labels, query, headers: &[], body: &body };
        LAMBDA.read(operation, &parts).map_err(|error| match error {
            Invalid::Constraints(text) | Invalid::Body(text) => text,
        })
    }

    #[test]
    fn every_pattern_compiles_and_every_operation_is_found_by_its_own_address() {
        for (name, shape) in &LAMBDA.shapes {
            assert_eq!(shape.pattern.is_some(), shape.regex().is_some(), "{name}");
        }
        assert_eq!(LAMBDA.operations.len(), 91);
        for operation in &LAMBDA.operations {
            let path: Vec<String> = operation
                .segments
                .iter()
                .map(|s| match s {
                    Segment::Literal(text) => text.clone(),
                    Segment::Label(_) => "arn%3Aaws%2Fx".into(),
                })
                .collect();
            let path = format!("/{}", path.join("/"));
            let query = operation.query.clone().unwrap_or_default();
            for path in [path.clone(), format!("{path}/")] {
                let found = LAMBDA.route(&operation.method, &path, &query).map(|f| &f.0.name);
                assert_eq!(found, Some(&operation.name), "{path}");
            }
        }
        assert!(LAMBDA.route("GET", "/2015-03-31/nothing", "").is_none());
    }

    #[test]
    fn broken_constraints_read_as_aws_words_them() {
        let role = "arn:aws:iam::000000000000:role/r";
        let create = |extra: Value| {
            let mut body = json!({ "FunctionName": "f", "Role": role, "Code": {} });
            for (key, value) in extra.as_object().unwrap() {
                body[key] = value.clone();
            }
            read("POST", "/2015-03-31/functions/", &body)
        };
        let aliases = "/2015-03-31/functions/f/aliases";
        let route = |weights: Value| {
            let routing = json!({ "AdditionalVersionWeights": weights });
            json!({ "Name": "a", "FunctionVersion": "1", "RoutingConfig": routing })
        };
        for (result, want) in [
            (
                create(json!({ "Role": "r1" })),
                "1 validation error detected: Value 'r1' at 'role' failed to satisfy constraint: Member must satisfy regular expression pattern: arn:(aws[a-zA-Z-]*)?:iam::\\d{12}:role/?[a-zA-Z_0-9+=,.@\\-_/]+",
            ),
            (
                create(json!({ "Architectures": ["x86_64", "arm64"] })),
                "1 validation error detected: Value '[x86_64, arm64]' at 'architectures' failed to satisfy constraint: Member must have length less than or equal to 1",
            ),
            (
                create(json!({ "Architectures": ["X86_64"] })),
                "1 validation error detected: Value '[X86_64]' at 'architectures' failed to satisfy constraint: Member must satisfy constraint: [Member must satisfy enum value set: [x86_64, arm64], Member must not be null]",
            ),
            (
                create(json!({ "SnapStart": { "ApplyOn": "invalidOption" } })),
                "1 validation error detected: Value 'invalidOption' at 'snapStart.applyOn' failed to satisfy constraint: Member must satisfy enum value set: [PublishedVersions, None]",
            ),
            (
                read("POST", aliases, &json!({ "Name": "2024", "FunctionVersion": "1" })),
                "1 validation error detected: Value '2024' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: (?!^[0-9]+$)([a-zA-Z0-9-_]+)",
            ),
            (
                read("POST", aliases, &route(json!({ "2": -1.0 }))),
                "1 validation error detected: Value '{2=-1.0}' at 'routingConfig.additionalVersionWeights' failed to satisfy constraint: Map value must satisfy constraint: [Member must have value less than or equal to 1.0, Member must have value greater than or equal to 0.0, Member must not be null]",
            ),
            (
                read("POST", aliases, &route(json!({ "2": 2 }))),
                "1 validation error detected: Value '{2=2.0}' at 'routingConfig.additionalVersionWeights' failed to satisfy constraint: Map value must satisfy constraint: [Member must have value less than or equal to 1.0, Member must have value greater than or equal to 0.0, Member must not be null]",
            ),
            (
                read("POST", aliases, &route(json!({ "$LATEST": 0.5 }))),
                "1 validation error detected: Value '{$LATEST=0.5}' at 'routingConfig.additionalVersionWeights' failed to satisfy constraint: Map keys must satisfy constraint: [Member must have length less than or equal to 1024, Member must have length greater than or equal to 1, Member must satisfy regular expression pattern: [0-9]+]",
            ),
            (
                read("GET", "/2015-03-31/functions?FunctionVersion=invalid", &Value::Null),
                "1 validation error detected: Value 'invalid' at 'functionVersion' failed to satisfy constraint: Member must satisfy enum value set: [ALL]",
            ),
            (
                read(
                    "DELETE",
                    "/2017-03-31/tags/arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Af",
                    &Value::Null,
                ),
                "1 validation error detected: Value null at 'tagKeys' failed to satisfy constraint: Member must not be null",
            ),
            (
                read(
                    "POST",
                    "/2015-03-31/functions/f/policy",
                    &json!({ "StatementId": "example.com", "Action": "lambda:InvokeFunction", "Principal": "s3.amazonaws.com" }),
                ),
                "1 validation error detected: Value 'example.com' at 'statementId' failed to satisfy constraint: Member must satisfy regular expression pattern: ([a-zA-Z0-9-_]+)",
            ),
        ] {
            assert_eq!(result.unwrap_err(), want);
        }
        let two = create(json!({ "Role": "r1", "FunctionName": "?" })).unwrap_err();
        assert!(
            two.starts_with("2 validation errors detected: Value '?' at 'functionName'"),
            "{two}"
        );
        // The rules answer these themselves, with other exceptions.
        assert!(create(json!({ "Runtime": "cobol" })).is_ok());
    }

    #[test]
    fn values_take_the_models_types_where_nothing_is_lost() {
        let body = json!({
            "FunctionName": "f", "Role": "arn:aws:iam::000000000000:role/r", "Code": {}, "Timeout": "7",
            "MemorySize": 256.0, "Publish": "true", "Unknown": { "a": 1 }, "Description": null,
        });
        let members = read("POST", "/2015-03-31/functions", &body).unwrap();
        assert_eq!(members["Timeout"], 7);
        assert_eq!(members["MemorySize"], 256);
        assert_eq!(members["Publish"], true);
        assert!(!members.contains_key("Unknown") && !members.contains_key("Description"));
        let error = read("POST", "/2015-03-31/functions", &json!({ "Timeout": [] })).unwrap_err();
        assert_eq!(error, "timeout is a list, and the model wants: integer");
        let tags = read("DELETE", "/2017-03-31/tags/arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Af?tagKeys=a&tagKeys=b", &Value::Null).unwrap();
        assert_eq!(tags["TagKeys"], json!(["a", "b"]));
    }

    #[test]
    fn depth_counts_brackets_outside_strings() {
        for (json, want) in [("1", 0), ("[]", 1), ("{\"a\":[1]}", 2), ("\"[[[\\\"[\"", 0)] {
            assert_eq!(depth(json.as_bytes()), want, "{json}");
        }
    }
}
