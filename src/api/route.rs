//! From method, path and query to an operation of the model, with the values of the path's labels.

use std::borrow::Cow;
use std::collections::HashMap;

use percent_encoding::percent_decode_str;

use super::model::{Model, Operation};

/// Finds operations. Made once of the model.
#[derive(Debug)]
pub struct Router {
    /// By the path's first segment, the API's date.
    by_date: HashMap<&'static str, Vec<Route>>,
}

#[derive(Debug)]
struct Route {
    operation: &'static Operation,
    /// After the date.
    segments: Vec<Segment>,
}

#[derive(Debug)]
enum Segment {
    Literal(&'static str),
    Label(&'static str),
}

/// An operation, and the labels of its path, decoded.
#[derive(Debug)]
pub struct Routed<'p> {
    pub operation: &'static Operation,
    pub labels: Vec<(&'static str, Cow<'p, str>)>,
}

/// Names and values of a query, decoded. `+` stays a plus, as AWS's clients never mean a blank with it.
pub type Query<'q> = Vec<(Cow<'q, str>, Cow<'q, str>)>;

/// Reads a query; `None` where it is not UTF-8.
pub fn parse_query(query: &str) -> Option<Query<'_>> {
    let decode = |text| percent_decode_str(text).decode_utf8().ok();
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| Some((decode(name)?, decode(value)?)))
        .collect()
}

impl Router {
    pub fn new(model: &'static Model) -> Self {
        let mut by_date: HashMap<&str, Vec<Route>> = HashMap::new();
        for operation in &model.operations {
            let mut parts = operation.path.split('/').skip(1);
            let date = parts.next().unwrap_or_default();
            let segments = parts.map(segment).collect();
            by_date.entry(date).or_default().push(Route { operation, segments });
        }
        // One that asks for a literal parameter goes before its twin that does not.
        for routes in by_date.values_mut() {
            routes.sort_by_key(|route| std::cmp::Reverse(route.operation.query.len()));
        }
        Self { by_date }
    }

    /// `path` as it was sent, percent-encoded: an encoded slash belongs to its label. A slash at the end is allowed.
    /// `None`: AWS has no such operation, or a label is empty or not UTF-8.
    pub fn find<'p>(&self, method: &str, path: &'p str, query: &Query<'_>) -> Option<Routed<'p>> {
        let path = path.strip_prefix('/')?;
        let (date, rest) = path.split_once('/')?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        self.by_date.get(date)?.iter().find_map(|route| {
            let operation = route.operation;
            let here = operation.method == method
                && operation.query.iter().all(|(n, v)| query.iter().any(|(a, b)| a == n && b == v));
            let labels = here.then(|| labels(&route.segments, rest))??;
            Some(Routed { operation, labels })
        })
    }
}

fn segment(text: &'static str) -> Segment {
    match text.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
        Some(label) => Segment::Label(label),
        None => Segment::Literal(text),
    }
}

fn labels<'p>(segments: &[Segment], rest: &'p str) -> Option<Vec<(&'static str, Cow<'p, str>)>> {
    let mut found = Vec::new();
    let mut parts = rest.split('/');
    for segment in segments {
        let part = parts.next()?;
        match segment {
            Segment::Literal(text) if *text == part => {}
            // Dot segments are no part of what a signature covers.
            Segment::Label(name) if !matches!(part, "" | "." | "..") => {
                found.push((*name, percent_decode_str(part).decode_utf8().ok()?));
            }
            _ => return None,
        }
    }
    parts.next().is_none().then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The operation's name and its labels as text.
    fn route(method: &str, target: &str) -> String {
        let router = Router::new(Model::built_in());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let Some(found) = router.find(method, path, &parse_query(query).unwrap()) else {
            return "-".into();
        };
        let labels: Vec<String> =
            found.labels.iter().map(|(name, value)| format!(" {name}={value}")).collect();
        format!("{}{}", found.operation.name, labels.concat())
    }

    #[test]
    fn every_operation_is_reached_with_and_without_a_slash_at_the_end() {
        for operation in &Model::built_in().operations {
            let path = operation.path.replace(['{', '}'], "x");
            let query: Vec<String> =
                operation.query.iter().map(|(n, v)| format!("{n}={v}")).collect();
            for slash in ["", "/"] {
                let got = route(&operation.method, &format!("{path}{slash}?{}", query.join("&")));
                assert_eq!(got.split(' ').next().unwrap(), operation.name, "{path}{slash}");
            }
        }
    }

    #[test]
    fn labels_are_decoded_and_twins_told_apart() {
        for (method, target, want) in [
            ("GET", "/2015-03-31/functions/", "ListFunctions"),
            ("GET", "/2015-03-31/functions", "ListFunctions"),
            ("GET", "/2015-03-31/functions/f%3Alive", "GetFunction FunctionName=f:live"),
            (
                "POST",
                "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Af/invocations",
                "Invoke FunctionName=arn:aws:lambda:us-east-1:000000000000:function:f",
            ),
            (
                "GET",
                "/2025-12-01/durable-executions/a%2Fdurable-execution%2Fb/history",
                "GetDurableExecutionHistory DurableExecutionArn=a/durable-execution/b",
            ),
            ("GET", "/2018-10-31/layers?find=LayerVersion&Arn=x", "GetLayerVersionByArn"),
            ("GET", "/2018-10-31/layers?CompatibleRuntime=x", "ListLayers"),
            (
                "GET",
                "/2019-09-30/functions/f/provisioned-concurrency?List=ALL",
                "ListProvisionedConcurrencyConfigs FunctionName=f",
            ),
            (
                "GET",
                "/2019-09-30/functions/f/provisioned-concurrency?Qualifier=1",
                "GetProvisionedConcurrencyConfig FunctionName=f",
            ),
            (
                "DELETE",
                "/2015-03-31/functions/f/aliases/%E2%82%AC",
                "DeleteAlias FunctionName=f Name=€",
            ),
            ("GET", "/2015-03-31/functions//aliases", "-"),
            ("GET", "/2015-03-31/functions/%FF", "-"),
            ("POST", "/2015-03-31/functions/../invocations", "-"),
            ("PATCH", "/2015-03-31/functions/f", "-"),
            ("GET", "/2015-03-31/functions/f/aliases/a/b", "-"),
            ("GET", "/2014-11-13/functions", "-"),
            ("GET", "/", "-"),
            ("GET", "*", "-"),
        ] {
            assert_eq!(route(method, target), want, "{method} {target}");
        }
    }

    #[test]
    fn a_query_is_decoded() {
        let query = parse_query("a=%24LATEST&b=x+y%2Bz&c&d=1&d=2&&e==").unwrap();
        let pairs: Vec<(&str, &str)> = query.iter().map(|(n, v)| (&**n, &**v)).collect();
        let want =
            [("a", "$LATEST"), ("b", "x+y+z"), ("c", ""), ("d", "1"), ("d", "2"), ("e", "=")];
        assert_eq!(pairs, want);
        assert!(parse_query("a=%FF").is_none());
    }
}
