//! The model's constraints, and what AWS says of those that do not hold.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::errors::Refusal;
use super::model::{Kind, Member, Model, Shape, ShapeId};

/// More than these are counted and not told.
const TOLD: usize = 100;

/// Checks the input of an operation, as [`super::parse`] made it.
///
/// # Errors
/// Every constraint that does not hold, in one `ValidationException`.
pub fn validate(model: &Model, input: ShapeId, found: &Map<String, Value>) -> Result<(), Refusal> {
    let mut broken = Broken { model, path: String::new(), count: 0, told: Vec::new() };
    if let Kind::Structure { members, payload } = &model.shape(input).kind {
        broken.members(members, found, payload.as_deref());
    }
    if broken.count == 0 {
        return Ok(());
    }
    let plural = if broken.count == 1 { "" } else { "s" };
    let told = broken.told.join("; ");
    Err(Refusal::validation(format!("{} validation error{plural} detected: {told}", broken.count)))
}

struct Broken<'m> {
    model: &'m Model,
    /// Of the structure that is looked at, with a dot at the end unless it is empty.
    path: String,
    count: usize,
    told: Vec<String>,
}

impl Broken<'_> {
    fn members(&mut self, members: &[Member], found: &Map<String, Value>, payload: Option<&str>) {
        for member in members {
            let value = found.get(&member.name);
            if value.is_none() && !member.required {
                continue;
            }
            let length = self.path.len();
            push_lower_first(&mut self.path, &member.name);
            match value {
                Some(value) => self.member(member, value),
                None if member.required && payload != Some(&member.name) => {
                    self.tell("null", "Member must not be null");
                }
                None => {}
            }
            self.path.truncate(length);
        }
    }

    fn member(&mut self, member: &Member, value: &Value) {
        let shape = self.model.shape(member.shape);
        // AWS answers with its own list of runtimes, and another exception: `control` does.
        if shape.name == "Runtime" && member.place.is_none() {
            return;
        }
        self.value(shape, value);
    }

    fn value(&mut self, shape: &Shape, value: &Value) {
        for constraint in own(shape) {
            if !constraint.holds(shape, value) {
                self.tell_value(shape, value, &constraint.text(shape));
            }
        }
        match (&shape.kind, value) {
            (Kind::Structure { members, .. }, Value::Object(map)) => {
                self.path.push('.');
                self.members(members, map, None);
                self.path.pop();
            }
            (Kind::List { item }, Value::Array(items)) => self.items(shape, *item, value, items),
            (Kind::Map { key, item }, Value::Object(map)) => {
                let (key, item) = (self.model.shape(*key), self.model.shape(*item));
                if !map.keys().all(|k| holds_all(self.model, key, &Value::String(k.clone()))) {
                    let text = format!(
                        "Map keys must satisfy constraint: [{}]",
                        listed(self.model, key, false)
                    );
                    self.tell_value(shape, value, &text);
                }
                if !map.values().all(|v| holds_all(self.model, item, v)) {
                    let text = format!(
                        "Map value must satisfy constraint: [{}]",
                        listed(self.model, item, true)
                    );
                    self.tell_value(shape, value, &text);
                }
            }
            _ => {}
        }
    }

    fn items(&mut self, list: &Shape, item: ShapeId, value: &Value, items: &[Value]) {
        let shape = self.model.shape(item);
        if let Kind::Structure { members, .. } = &shape.kind {
            for (index, one) in items.iter().enumerate() {
                let length = self.path.len();
                let _infallible = write!(self.path, ".{}.member", index + 1);
                match one {
                    Value::Object(map) => {
                        self.path.push('.');
                        self.members(members, map, None);
                    }
                    _ => self.tell("null", "Member must not be null"),
                }
                self.path.truncate(length);
            }
        } else if !items.iter().all(|v| holds_all(self.model, shape, v)) {
            let listed = listed(self.model, shape, true);
            self.tell_value(list, value, &format!("Member must satisfy constraint: [{listed}]"));
        }
    }

    fn tell_value(&mut self, shape: &Shape, value: &Value, constraint: &str) {
        if shape.sensitive {
            self.tell("", constraint);
        } else {
            let text = self.count < TOLD;
            let shown =
                if text { format!("'{}'", Shown(value, shape, self.model)) } else { String::new() };
            self.tell(&shown, constraint);
        }
    }

    fn tell(&mut self, value: &str, constraint: &str) {
        self.count += 1;
        if self.count > TOLD {
            return;
        }
        let blank = if value.is_empty() { "" } else { " " };
        self.told.push(format!(
            "Value{blank}{value} at '{}' failed to satisfy constraint: {constraint}",
            self.path
        ));
    }
}

#[derive(Debug, Clone, Copy)]
enum Constraint {
    Max(f64),
    Min(f64),
    Pattern,
    Values,
}

/// Constraints of the shape itself, in AWS's order.
fn own(shape: &Shape) -> impl Iterator<Item = Constraint> {
    let max = shape.max.map(Constraint::Max);
    let min = shape.min.map(Constraint::Min);
    let pattern = shape.pattern.is_some().then_some(Constraint::Pattern);
    let values = (!shape.values.is_empty()).then_some(Constraint::Values);
    [max, min, pattern, values].into_iter().flatten()
}

impl Constraint {
    fn holds(self, shape: &Shape, value: &Value) -> bool {
        match self {
            Self::Max(max) => size(shape, value).is_none_or(|size| size <= max),
            Self::Min(min) => size(shape, value).is_none_or(|size| size >= min),
            Self::Pattern => match (&shape.pattern, value) {
                (Some(pattern), Value::String(text)) => {
                    is_plain_name(shape, text) || pattern.matches(text)
                }
                _ => true,
            },
            Self::Values => {
                value.as_str().is_none_or(|text| shape.values.iter().any(|v| v == text))
            }
        }
    }

    fn text(self, shape: &Shape) -> String {
        let what =
            if matches!(shape.kind, Kind::Integer | Kind::Double) { "value" } else { "length" };
        match self {
            Self::Max(max) => {
                format!("Member must have {what} less than or equal to {}", bound(shape, max))
            }
            Self::Min(min) => {
                format!("Member must have {what} greater than or equal to {}", bound(shape, min))
            }
            Self::Pattern => {
                let pattern = shape.pattern.as_ref().map_or("", |p| &p.text);
                format!("Member must satisfy regular expression pattern: {pattern}")
            }
            Self::Values => {
                format!("Member must satisfy enum value set: [{}]", shape.values.join(", "))
            }
        }
    }
}

/// What `min` and `max` are about: a number's value, a text's length in UTF-16, a collection's entries.
fn size(shape: &Shape, value: &Value) -> Option<f64> {
    let length = match (&shape.kind, value) {
        (Kind::Blob, _) => return None,
        (_, Value::Number(number)) => return number.as_f64(),
        (_, Value::String(text)) if text.is_ascii() => text.len(),
        (_, Value::String(text)) => text.encode_utf16().count(),
        (_, Value::Array(items)) => items.len(),
        (_, Value::Object(map)) => map.len(),
        _ => return None,
    };
    Some(f64::from(u32::try_from(length).unwrap_or(u32::MAX)))
}

fn bound(shape: &Shape, bound: f64) -> String {
    if matches!(shape.kind, Kind::Double) { format!("{bound:?}") } else { format!("{bound:.0}") }
}

/// Most invocations name their function plainly: they are spared the pattern.
fn is_plain_name(shape: &Shape, text: &str) -> bool {
    matches!(shape.name.as_str(), "FunctionName" | "NamespacedFunctionName")
        && !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

fn holds_all(model: &Model, shape: &Shape, value: &Value) -> bool {
    if value.is_null() || !own(shape).all(|constraint| constraint.holds(shape, value)) {
        return false;
    }
    match (&shape.kind, value) {
        (Kind::List { item }, Value::Array(items)) => {
            items.iter().all(|v| holds_all(model, model.shape(*item), v))
        }
        _ => true,
    }
}

/// All constraints of what is in a collection, as AWS lists them.
fn listed(model: &Model, shape: &Shape, not_null: bool) -> String {
    let mut texts: Vec<String> = own(shape).map(|constraint| constraint.text(shape)).collect();
    if let Kind::List { item } = shape.kind {
        let inner = listed(model, model.shape(item), true);
        texts.push(format!("Member must satisfy constraint: [{inner}]"));
    }
    if not_null {
        texts.push("Member must not be null".into());
    }
    texts.join(", ")
}

/// `FunctionName` as `functionName`.
fn push_lower_first(path: &mut String, name: &str) {
    let mut chars = name.chars();
    path.extend(chars.next().map(|c| c.to_ascii_lowercase()));
    path.push_str(chars.as_str());
}

/// A value as Java prints it: `[a, b]`, `{k=v}`, `1.0`.
struct Shown<'a>(&'a Value, &'a Shape, &'a Model);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(value, shape, model) = *self;
        match (value, &shape.kind) {
            (Value::String(text), _) => f.write_str(text),
            (Value::Number(number), Kind::Double) => {
                write!(f, "{:?}", number.as_f64().unwrap_or(f64::NAN))
            }
            (Value::Array(items), Kind::List { item }) => {
                let item = model.shape(*item);
                f.write_str("[")?;
                for (index, one) in items.iter().enumerate() {
                    let comma = if index > 0 { ", " } else { "" };
                    write!(f, "{comma}{}", Shown(one, item, model))?;
                }
                f.write_str("]")
            }
            (Value::Object(map), Kind::Map { item, .. }) => {
                let item = model.shape(*item);
                f.write_str("{")?;
                for (index, (key, one)) in map.iter().enumerate() {
                    let comma = if index > 0 { ", " } else { "" };
                    write!(f, "{comma}{key}={}", Shown(one, item, model))?;
                }
                f.write_str("}")
            }
            (value, _) => write!(f, "{value}"),
        }
    }
}

#[cfg(test)]
mod tests;
