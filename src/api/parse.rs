//! From a routed request to typed members: path, query, headers and body, by the model.
//!
//! Checks types here, constraints in [`super::validate`]. Members that the model does not have are left out, as AWS
//! ignores them; a `null` is as if it were absent.

use bytes::Bytes;
use hyper::HeaderMap;
use serde_json::{Map, Number, Value};

use super::errors::Refusal;
use super::json;
use super::model::{Kind, Member, Model, Place, ShapeId};
use super::route::{Query, Routed};

/// Operations whose payload is an event, and so must be JSON.
const EVENTS: [&str; 3] = ["Invoke", "InvokeAsync", "InvokeWithResponseStream"];

/// Members and payload of an operation's input.
///
/// # Errors
/// A value of the wrong type, or a body that is not JSON.
pub fn parse(
    model: &Model,
    routed: Routed<'_>,
    query: &Query<'_>,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<(Map<String, Value>, Bytes), Refusal> {
    let mut found = Map::new();
    let Some(input) = routed.operation.input else { return Ok((found, Bytes::new())) };
    let Kind::Structure { members, payload } = &model.shape(input).kind else {
        return Ok((found, Bytes::new()));
    };
    let mut labels = routed.labels;
    for member in members {
        let value = match member.place {
            Some(Place::Uri) => {
                let at = labels.iter().position(|(name, _)| *name == member.wire);
                at.map(|at| labels.swap_remove(at).1.into_owned())
                    .map(|text| from_text(model, member.shape, text))
            }
            Some(Place::Querystring) => from_query(model, member, query),
            Some(Place::Header) => {
                member.header.as_ref().and_then(|h| headers.get(h)).map(|value| {
                    let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
                    from_text(model, member.shape, text)
                })
            }
            Some(Place::StatusCode) | None => None,
        };
        if let Some(value) = value {
            found.insert(member.name.clone(), value?);
        }
    }
    if let Some(payload) = payload {
        return with_payload(model, routed.operation.name.as_str(), members, payload, body, found);
    }
    if !body.is_empty() && members.iter().any(|m| m.place.is_none()) {
        let value = json::parse(body).map_err(|error| Refusal::not_json(&error))?;
        for (name, value) in structure(model, members, value)? {
            found.entry(name).or_insert(value);
        }
    }
    Ok((found, Bytes::new()))
}

fn with_payload(
    model: &Model,
    operation: &str,
    members: &[Member],
    payload: &str,
    body: &Bytes,
    mut found: Map<String, Value>,
) -> Result<(Map<String, Value>, Bytes), Refusal> {
    let shape = members.iter().find(|m| m.name == payload).map(|m| m.shape);
    let Some(shape) = shape.filter(|_| !body.is_empty()) else { return Ok((found, Bytes::new())) };
    if let Kind::Structure { .. } = model.shape(shape).kind {
        let value = json::parse(body).map_err(|error| Refusal::not_json(&error))?;
        found.insert(payload.to_owned(), typed(model, shape, value)?);
        return Ok((found, Bytes::new()));
    }
    if EVENTS.contains(&operation) {
        let wrap =
            |error| Refusal::not_json(&format!("Could not parse payload into json: {error}"));
        json::check(body).map_err(wrap)?;
    }
    Ok((found, body.clone()))
}

fn from_query(model: &Model, member: &Member, query: &Query<'_>) -> Option<Result<Value, Refusal>> {
    let mut values = query.iter().filter(|(name, _)| *name == member.wire).map(|(_, v)| v);
    if let Kind::List { item } = model.shape(member.shape).kind {
        let items: Result<Vec<Value>, Refusal> =
            values.map(|text| from_text(model, item, text.to_string())).collect();
        return match items {
            Ok(items) if items.is_empty() => None,
            items => Some(items.map(Value::Array)),
        };
    }
    values.next().map(|text| from_text(model, member.shape, text.to_string()))
}

/// A value that came as text.
fn from_text(model: &Model, shape: ShapeId, text: String) -> Result<Value, Refusal> {
    match model.shape(shape).kind {
        Kind::Integer => {
            text.parse::<i64>().map(Value::from).map_err(|_| wrong("STRING_VALUE", "an Integer"))
        }
        Kind::Boolean => match text.as_str() {
            "true" => Ok(true.into()),
            "false" => Ok(false.into()),
            _ => Err(wrong("STRING_VALUE", "a Boolean")),
        },
        Kind::Double => {
            let number = text.parse().ok().and_then(Number::from_f64);
            number.map(Value::Number).ok_or_else(|| wrong("STRING_VALUE", "a Double"))
        }
        _ => Ok(text.into()),
    }
}

/// A value of a JSON body, as the model's type.
fn typed(model: &Model, id: ShapeId, value: Value) -> Result<Value, Refusal> {
    match &model.shape(id).kind {
        Kind::Structure { members, .. } => structure(model, members, value).map(Value::Object),
        Kind::List { item } => match value {
            Value::Array(items) => {
                let items = items.into_iter().map(|v| nullable(model, *item, v));
                items.collect::<Result<_, _>>().map(Value::Array)
            }
            _ => Err(Refusal::serialization("Expected list or null")),
        },
        Kind::Map { item, .. } => match value {
            Value::Object(map) => {
                let pairs = map.into_iter().map(|(k, v)| Ok((k, nullable(model, *item, v)?)));
                pairs.collect::<Result<_, Refusal>>().map(Value::Object)
            }
            _ => Err(Refusal::serialization("Expected map or null")),
        },
        Kind::String | Kind::Blob => match value {
            Value::String(_) => Ok(value),
            other => Err(wrong_scalar(&other, "a String")),
        },
        Kind::Integer => integer(value),
        Kind::Double => match value {
            Value::Number(_) => Ok(value),
            other => Err(wrong_scalar(&other, "a Double")),
        },
        Kind::Boolean => match value {
            Value::Bool(_) => Ok(value),
            other => Err(wrong_scalar(&other, "a Boolean")),
        },
        Kind::Timestamp => match value {
            Value::Number(_) | Value::String(_) => Ok(value),
            other => Err(wrong_scalar(&other, "a Date")),
        },
    }
}

/// In lists and maps a null is a value, that a constraint then refuses.
fn nullable(model: &Model, id: ShapeId, value: Value) -> Result<Value, Refusal> {
    if value.is_null() { Ok(value) } else { typed(model, id, value) }
}

fn structure(
    model: &Model,
    members: &[Member],
    value: Value,
) -> Result<Map<String, Value>, Refusal> {
    let mut map = match value {
        Value::Object(map) => map,
        Value::Array(_) => {
            return Err(Refusal::serialization("Start of list found where not expected"));
        }
        _ => return Err(Refusal::serialization("Expected structure or null")),
    };
    let mut found = Map::new();
    for member in members.iter().filter(|m| m.place.is_none()) {
        match map.remove(&member.wire) {
            None | Some(Value::Null) => {}
            Some(value) => {
                found.insert(member.name.clone(), typed(model, member.shape, value)?);
            }
        }
    }
    Ok(found)
}

/// Whole numbers, also written as `3.0`.
fn integer(value: Value) -> Result<Value, Refusal> {
    /// Beyond it a double does not hold every whole number.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match &value {
        Value::Number(n) if n.is_i64() => Ok(value),
        Value::Number(n) => {
            let whole = n.as_f64().filter(|f| f.fract() == 0.0 && f.abs() <= EXACT);
            // The text of a whole double has no fraction.
            let parsed = whole.and_then(|f| format!("{f:.0}").parse::<i64>().ok());
            parsed.map(Value::from).ok_or_else(|| wrong("NUMBER_VALUE", "an Integer"))
        }
        other => Err(wrong_scalar(other, "an Integer")),
    }
}

fn wrong_scalar(value: &Value, wanted: &str) -> Refusal {
    match value {
        Value::Array(_) => Refusal::serialization("Start of list found where not expected"),
        Value::Object(_) => {
            Refusal::serialization("Start of structure or map found where not expected.")
        }
        Value::String(_) => wrong("STRING_VALUE", wanted),
        Value::Number(_) => wrong("NUMBER_VALUE", wanted),
        Value::Bool(true) => wrong("TRUE_VALUE", wanted),
        Value::Bool(false) => wrong("FALSE_VALUE", wanted),
        Value::Null => wrong("NULL_VALUE", wanted),
    }
}

fn wrong(token: &str, wanted: &str) -> Refusal {
    Refusal::serialization(format!("{token} can not be converted to {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::super::route::{Router, parse_query};
    use super::*;

    /// Members as JSON, or the error.
    fn parsed(
        method: &str,
        target: &str,
        headers: &[(&'static str, &'static str)],
        body: &str,
    ) -> String {
        let model = Model::built_in();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let query = parse_query(query).unwrap();
        let router = Router::new(model);
        let routed = router.find(method, path, &query).unwrap();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        match parse(model, routed, &query, &map, &Bytes::copy_from_slice(body.as_bytes())) {
            Ok((members, payload)) => {
                let payload = String::from_utf8(payload.to_vec()).unwrap();
                format!("{} {payload}", Value::Object(members)).trim().into()
            }
            Err(refusal) => format!("{}: {}", refusal.code, refusal.message),
        }
    }

    #[test]
    fn members_come_from_their_places_in_their_types() {
        for (method, target, headers, body, want) in [
            (
                "GET",
                "/2015-03-31/functions/?MaxItems=5&Marker=a%2B",
                &[][..],
                "",
                r#"{"Marker":"a+","MaxItems":5}"#,
            ),
            (
                "POST",
                "/2015-03-31/functions/f/invocations?Qualifier=%24LATEST",
                &[("x-amz-invocation-type", "Event"), ("x-amz-client-context", "e30=")],
                r#"{"a": 1}"#,
                r#"{"ClientContext":"e30=","FunctionName":"f","InvocationType":"Event","Qualifier":"$LATEST"} {"a": 1}"#,
            ),
            ("POST", "/2015-03-31/functions/f/invocations", &[], "", r#"{"FunctionName":"f"}"#),
            (
                "DELETE",
                "/2017-03-31/tags/r?tagKeys=a&tagKeys=b",
                &[],
                "ignored",
                r#"{"Resource":"r","TagKeys":["a","b"]}"#,
            ),
            (
                "GET",
                "/2018-10-31/layers/l/versions/12",
                &[],
                "",
                r#"{"LayerName":"l","VersionNumber":12}"#,
            ),
            (
                "POST",
                "/2015-03-31/functions",
                &[],
                r#"{"FunctionName":"f","Role":null,"Timeout":3.0,"Publish":true,"Nonsense":{},"Environment":{"Variables":{"A":"1"},"X":1},"Layers":[]}"#,
                r#"{"Environment":{"Variables":{"A":"1"}},"FunctionName":"f","Layers":[],"Publish":true,"Timeout":3}"#,
            ),
            (
                "PUT",
                "/2015-03-31/functions/f/code",
                &[],
                r#"{"FunctionName":"other"}"#,
                r#"{"FunctionName":"f"}"#,
            ),
            ("POST", "/2015-03-31/functions/f/versions", &[], "", r#"{"FunctionName":"f"}"#),
            (
                "POST",
                "/2025-12-01/durable-execution-callbacks/c/fail",
                &[],
                r#"{"ErrorMessage":"m","x":1}"#,
                r#"{"CallbackId":"c","Error":{"ErrorMessage":"m"}}"#,
            ),
        ] {
            assert_eq!(parsed(method, target, headers, body), want, "{method} {target} {body}");
        }
    }

    #[test]
    fn wrong_types_are_serialization_errors() {
        let create = "/2015-03-31/functions";
        for (body, want) in [
            (r#"{"Timeout":"3"}"#, "STRING_VALUE can not be converted to an Integer"),
            (r#"{"Timeout":3.5}"#, "NUMBER_VALUE can not be converted to an Integer"),
            (r#"{"Timeout":1e300}"#, "NUMBER_VALUE can not be converted to an Integer"),
            (r#"{"Handler":1}"#, "NUMBER_VALUE can not be converted to a String"),
            (r#"{"Handler":true}"#, "TRUE_VALUE can not be converted to a String"),
            (r#"{"Handler":{}}"#, "Start of structure or map found where not expected."),
            (r#"{"Publish":"yes"}"#, "STRING_VALUE can not be converted to a Boolean"),
            (r#"{"Layers":{}}"#, "Expected list or null"),
            (r#"{"Tags":[]}"#, "Expected map or null"),
            (r#"{"Code":7}"#, "Expected structure or null"),
            ("[]", "Start of list found where not expected"),
            ("1", "Expected structure or null"),
        ] {
            let got = parsed("POST", create, &[], body);
            assert_eq!(got, format!("SerializationException: {want}"), "{body}");
        }
        let got = parsed("GET", "/2015-03-31/functions?MaxItems=x", &[], "");
        assert_eq!(got, "SerializationException: STRING_VALUE can not be converted to an Integer");
        let got = parsed("POST", create, &[], "{");
        assert!(got.starts_with(
            "InvalidRequestContentException: Could not parse request body into json: Unexpected end-of-input"
        ));
        let got = parsed("POST", "/2015-03-31/functions/f/invocations", &[], "hello");
        assert!(got.starts_with(
            "InvalidRequestContentException: Could not parse request body into json: Could not parse payload into json: Unrecognized token 'hello'"
        ));
    }
}
