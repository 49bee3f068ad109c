//! AWS's service model as the front door needs it: routes, members and their places, constraints, error shapes.
//!
//! The data is `model.json`, made by `scripts/model`. It is read once; patterns are compiled when first needed.

use std::collections::HashMap;
use std::sync::{LazyLock, OnceLock};

use fancy_regex::Regex;
use hyper::header::HeaderName;
use serde::Deserialize;

#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error("cannot read the service model")]
    Json(#[from] serde_json::Error),
    #[error("the service model names the shape `{0}` and does not have it")]
    Shape(String),
}

/// Index of a shape in its [`Model`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ShapeId(usize);

#[derive(Debug)]
pub struct Model {
    pub operations: Vec<Operation>,
    shapes: Vec<Shape>,
    errors: HashMap<String, ErrorShape>,
}

#[derive(Debug)]
pub struct Operation {
    pub name: String,
    pub method: String,
    /// With `{Label}`s, no slash at the end.
    pub path: String,
    /// Literal parameters that tell it from another of the same path.
    pub query: Vec<(String, String)>,
    pub status: u16,
    pub input: Option<ShapeId>,
    /// `None`: the answer has no body.
    pub output: Option<Answer>,
    pub upload: bool,
}

/// What of an answer is not in its JSON body.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    pub apart: Vec<Apart>,
    /// The member that is the whole body.
    #[serde(default)]
    pub payload: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Apart {
    pub name: String,
    #[serde(rename = "shape")]
    _shape: String,
    #[serde(rename = "in")]
    pub place: Place,
    /// Its name there.
    #[serde(rename = "as")]
    header: Option<String>,
}

impl Apart {
    /// Name on the wire.
    pub fn wire(&self) -> &str {
        self.header.as_deref().unwrap_or(&self.name)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Place {
    Uri,
    Querystring,
    Header,
    StatusCode,
}

#[derive(Debug)]
pub struct Shape {
    pub name: String,
    pub kind: Kind,
    pub min: Option<f64>,
    pub max: Option<f64>,
    pub pattern: Option<Pattern>,
    /// Allowed values; none given: all are.
    pub values: Vec<String>,
    /// Its value must not be repeated in an error.
    pub sensitive: bool,
}

#[derive(Debug)]
pub enum Kind {
    Structure {
        members: Vec<Member>,
        payload: Option<String>,
    },
    List {
        item: ShapeId,
    },
    Map {
        key: ShapeId,
        item: ShapeId,
    },
    String,
    Blob,
    /// `long` too.
    Integer,
    Double,
    Boolean,
    Timestamp,
}

#[derive(Debug)]
pub struct Member {
    pub name: String,
    pub shape: ShapeId,
    /// `None`: the body.
    pub place: Option<Place>,
    pub wire: String,
    /// Of one that comes in a header: its name, looked up once.
    pub header: Option<HeaderName>,
    pub required: bool,
}

/// How an exception looks on the wire.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorShape {
    name: String,
    pub status: u16,
    /// The text's key: `Message` or `message`.
    pub message: String,
    /// `User` or `Service`.
    #[serde(rename = "type")]
    pub fault: String,
    #[serde(default)]
    pub apart: Vec<Apart>,
}

/// A pattern as AWS writes it; it must match the whole value.
#[derive(Debug)]
pub struct Pattern {
    pub text: String,
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    /// A value that takes too many steps does not match; a pattern that cannot be compiled matches everything (a test
    /// holds that there is none).
    pub fn matches(&self, value: &str) -> bool {
        match self.compiled() {
            Some(regex) => regex.is_match(value).unwrap_or(false),
            None => true,
        }
    }

    fn compiled(&self) -> Option<&Regex> {
        let compile = || Regex::new(&format!(r"\A(?:{})\z", ascii_classes(&self.text))).ok();
        self.compiled.get_or_init(compile).as_ref()
    }
}

/// Java's `\d`, `\w` and `\s` know ASCII only.
fn ascii_classes(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('d') => out.push_str("[0-9]"),
            Some('w') => out.push_str("[0-9A-Za-z_]"),
            Some('s') => out.push_str(r"[ \t\n\x0B\x0C\r]"),
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    out
}

impl Model {
    /// The model that Kennel is built with.
    ///
    /// # Panics
    /// Never in a build whose tests passed: the data is part of it.
    pub fn built_in() -> &'static Self {
        static MODEL: LazyLock<Model> = LazyLock::new(|| {
            let parsed = Model::parse(include_str!("model.json"));
            parsed.unwrap_or_else(|error| panic!("the service model that is built in: {error}"))
        });
        &MODEL
    }

    /// # Errors
    /// JSON that is no model.
    pub fn parse(json: &str) -> Result<Self, ModelError> {
        let file: File = serde_json::from_str(json)?;
        let ids: HashMap<&str, ShapeId> =
            file.shapes.iter().enumerate().map(|(i, s)| (s.name.as_str(), ShapeId(i))).collect();
        let id = |name: &String| {
            ids.get(name.as_str()).copied().ok_or_else(|| ModelError::Shape(name.clone()))
        };
        let shapes = file.shapes.iter().map(|s| s.shape(&id)).collect::<Result<_, _>>()?;
        let operations =
            file.operations.into_iter().map(|o| o.operation(&id)).collect::<Result<_, _>>()?;
        let errors = file.errors.into_iter().map(|e| (e.name.clone(), e)).collect();
        Ok(Self { operations, shapes, errors })
    }

    pub fn shape(&self, id: ShapeId) -> &Shape {
        &self.shapes[id.0]
    }

    pub fn error(&self, code: &str) -> Option<&ErrorShape> {
        self.errors.get(code)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "source")]
    _source: String,
    operations: Vec<RawOperation>,
    shapes: Vec<RawShape>,
    errors: Vec<ErrorShape>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOperation {
    name: String,
    method: String,
    path: String,
    #[serde(default)]
    query: Vec<(String, String)>,
    status: u16,
    input: Option<String>,
    output: Option<Answer>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawShape {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    min: Option<f64>,
    max: Option<f64>,
    pattern: Option<String>,
    #[serde(default, rename = "enum")]
    values: Vec<String>,
    #[serde(default)]
    sensitive: bool,
    #[serde(default)]
    members: Vec<RawMember>,
    payload: Option<String>,
    item: Option<String>,
    key: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMember {
    name: String,
    shape: String,
    #[serde(rename = "in")]
    place: Option<Place>,
    #[serde(rename = "as")]
    wire: Option<String>,
    #[serde(default)]
    required: bool,
}

type Find<'a> = dyn Fn(&String) -> Result<ShapeId, ModelError> + 'a;

impl RawOperation {
    fn operation(self, id: &Find<'_>) -> Result<Operation, ModelError> {
        let upload = ["CreateFunction", "UpdateFunctionCode", "PublishLayerVersion"]
            .contains(&self.name.as_str());
        Ok(Operation {
            path: self.path.trim_end_matches('/').to_owned(),
            input: self.input.as_ref().map(id).transpose()?,
            name: self.name,
            method: self.method,
            query: self.query,
            status: self.status,
            output: self.output,
            upload,
        })
    }
}

impl RawShape {
    fn shape(&self, id: &Find<'_>) -> Result<Shape, ModelError> {
        let part = |name: &Option<String>| {
            name.as_ref().map_or_else(|| Err(ModelError::Shape(format!("{} of", self.name))), id)
        };
        let kind = match self.kind.as_str() {
            "structure" => {
                let members =
                    self.members.iter().map(|m| m.member(id)).collect::<Result<_, _>>()?;
                Kind::Structure { members, payload: self.payload.clone() }
            }
            "list" => Kind::List { item: part(&self.item)? },
            "map" => Kind::Map { key: part(&self.key)?, item: part(&self.item)? },
            "string" => Kind::String,
            "blob" => Kind::Blob,
            "integer" | "long" => Kind::Integer,
            "double" => Kind::Double,
            "boolean" => Kind::Boolean,
            "timestamp" => Kind::Timestamp,
            other => return Err(ModelError::Shape(format!("{} of type {other}", self.name))),
        };
        let pattern = self.pattern.clone().map(|text| Pattern { text, compiled: OnceLock::new() });
        Ok(Shape {
            name: self.name.clone(),
            kind,
            min: self.min,
            max: self.max,
            pattern,
            values: self.values.clone(),
            sensitive: self.sensitive,
        })
    }
}

impl RawMember {
    fn member(&self, id: &Find<'_>) -> Result<Member, ModelError> {
        let wire = self.wire.clone().unwrap_or_else(|| self.name.clone());
        let in_header = self.place == Some(Place::Header);
        Ok(Member {
            name: self.name.clone(),
            shape: id(&self.shape)?,
            place: self.place,
            header: in_header.then(|| HeaderName::try_from(&wire).ok()).flatten(),
            wire,
            required: self.required,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_holds_every_operation_and_its_patterns_compile() {
        let model = Model::built_in();
        assert_eq!(model.operations.len(), 91);
        for shape in &model.shapes {
            if let Some(pattern) = &shape.pattern {
                assert!(pattern.compiled().is_some(), "{}: {}", shape.name, pattern.text);
            }
        }
        assert_eq!(model.error("ResourceNotFoundException").unwrap().message, "Message");
        assert_eq!(model.error("InvalidParameterValueException").unwrap().message, "message");
        assert_eq!(model.error("ServiceException").unwrap().fault, "Service");
    }

    #[test]
    fn patterns_match_the_whole_value_as_java_does() {
        let pattern = |text: &str| Pattern { text: text.into(), compiled: OnceLock::new() };
        for (text, value, want) in [
            (r"[a-zA-Z0-9-_]+", "a-b_9", true),
            (r"[a-zA-Z0-9-_]+", "a.b", false),
            (r"a|b", "ab", false),
            (r"(?!^[0-9]+$)([a-zA-Z0-9-_]+)", "2024", false),
            (r"(?!^[0-9]+$)([a-zA-Z0-9-_]+)", "v2024", true),
            (r"\d{2}", "٣٤", false),
            (r"[^\s]+", "a b", false),
            (r"[^\s]+", "app.handler", true),
            (r"$|arn:.*", "", true),
            (r"[0-9A-Za-z\.\-_]*(?<!\.)", "bucket.", false),
        ] {
            assert_eq!(pattern(text).matches(value), want, "{text} {value}");
        }
    }

    #[test]
    fn a_model_with_a_hole_is_refused() {
        let json = r#"{"source":"","operations":[],"errors":[],"shapes":[{"name":"L","type":"list","item":"X"}]}"#;
        let error = Model::parse(json).unwrap_err();
        assert_eq!(error.to_string(), "the service model names the shape `X` and does not have it");
    }
}
