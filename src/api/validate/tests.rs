//! AWS's texts, from the requests that bring them.

use bytes::Bytes;
use hyper::HeaderMap;

use super::*;
use crate::api::parse::parse;
use crate::api::route::{Router, parse_query};

/// A request's path by way of the whole front half; the refusal's text, or nothing.
fn refused(method: &str, target: &str, headers: &[(&'static str, &str)], body: &str) -> String {
    let model = Model::built_in();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query = parse_query(query).unwrap();
    let router = Router::new(model);
    let routed = router.find(method, path, &query).unwrap();
    let input = routed.operation.input.unwrap();
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(*name, value.parse().unwrap());
    }
    let body = Bytes::copy_from_slice(body.as_bytes());
    let (members, _) = parse(model, routed, &query, &map, &body).unwrap();
    match validate(model, input, &members) {
        Ok(()) => String::new(),
        Err(refusal) => {
            assert_eq!(refusal.code, "ValidationException");
            refusal.message
        }
    }
}

const CREATE: &str = "/2015-03-31/functions";

/// A valid `CreateFunction`, with one member more or another.
fn create(change: &str) -> String {
    let mut body = serde_json::json!({
        "FunctionName": "f", "Role": "arn:aws:iam::000000000000:role/r", "Code": {"ZipFile": "UEsF"},
        "Runtime": "python3.12", "Handler": "app.handler",
    });
    let change: Map<String, Value> = serde_json::from_str(change).unwrap();
    body.as_object_mut().unwrap().extend(change);
    body.to_string()
}

const FUNCTION: &str = r"(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?([a-zA-Z0-9-_]+)(:(\$LATEST|[a-zA-Z0-9-_]+))?";
const INVOKED: &str = r"(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?([a-zA-Z0-9-_\.]+)(:(\$LATEST(\.PUBLISHED)?|[a-zA-Z0-9-_]+))?";

/// Texts that AWS was recorded to answer, each from the request that brought it.
#[test]
fn recorded_texts() {
    let long = format!("arn:aws:lambda:us-east-1:000000000000:function:{}", "a".repeat(140));
    let pattern = "Member must satisfy regular expression pattern:";
    let role = r"arn:(aws[a-zA-Z-]*)?:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+";
    let weights = "Map value must satisfy constraint: [Member must have value less than or equal to 1.0, Member must have value greater than or equal to 0.0, Member must not be null]";
    let alias = "/2015-03-31/functions/f/aliases";
    let weighted = |weights: &str| {
        format!(
            r#"{{"Name":"a","FunctionVersion":"1","RoutingConfig":{{"AdditionalVersionWeights":{weights}}}}}"#
        )
    };
    let policy = "/2015-03-31/functions/f/policy";
    let permission =
        r#"{"StatementId":"s3","Action":"lambda:InvokeFunction","Principal":"s3.amazonaws.com"}"#;
    for (method, target, body, want) in [
        (
            "POST",
            CREATE.to_owned(),
            create(r#"{"Role": "r1"}"#),
            format!("Value 'r1' at 'role' failed to satisfy constraint: {pattern} {role}"),
        ),
        (
            "PUT",
            "/2015-03-31/functions/f/configuration".into(),
            r#"{"Role": "r1"}"#.into(),
            format!("Value 'r1' at 'role' failed to satisfy constraint: {pattern} {role}"),
        ),
        (
            "POST",
            CREATE.into(),
            create(r#"{"Architectures": ["x86_64", "arm64"]}"#),
            "Value '[x86_64, arm64]' at 'architectures' failed to satisfy constraint: Member must have length less than or equal to 1".into(),
        ),
        (
            "POST",
            CREATE.into(),
            create(r#"{"Architectures": ["X86_64"]}"#),
            "Value '[X86_64]' at 'architectures' failed to satisfy constraint: Member must satisfy constraint: [Member must satisfy enum value set: [x86_64, arm64], Member must not be null]".into(),
        ),
        (
            "POST",
            CREATE.into(),
            create(r#"{"FunctionName": "invalid:function:name"}"#),
            format!("Value 'invalid:function:name' at 'functionName' failed to satisfy constraint: {pattern} {FUNCTION}"),
        ),
        (
            "POST",
            CREATE.into(),
            create(&format!(r#"{{"FunctionName": "{long}"}}"#)),
            format!("Value '{long}' at 'functionName' failed to satisfy constraint: Member must have length less than or equal to 140"),
        ),
        (
            "POST",
            "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A123400000000%40function%3Amyfn/invocations".into(),
            "{}".into(),
            format!("Value 'arn:aws:lambda:us-east-1:123400000000@function:myfn' at 'functionName' failed to satisfy constraint: {pattern} {INVOKED}"),
        ),
        (
            "GET",
            "/2015-03-31/functions/?FunctionVersion=invalid".into(),
            String::new(),
            "Value 'invalid' at 'functionVersion' failed to satisfy constraint: Member must satisfy enum value set: [ALL]".into(),
        ),
        (
            "POST",
            CREATE.into(),
            create(r#"{"SnapStart": {"ApplyOn": "invalidOption"}}"#),
            "Value 'invalidOption' at 'snapStart.applyOn' failed to satisfy constraint: Member must satisfy enum value set: [PublishedVersions, None]".into(),
        ),
        (
            "POST",
            format!("{policy}?Qualifier=invalid-qualifier-with-%3F-char"),
            permission.into(),
            format!(r"Value 'invalid-qualifier-with-?-char' at 'qualifier' failed to satisfy constraint: {pattern} \$(LATEST(\.PUBLISHED)?)|[a-zA-Z0-9-_$]+"),
        ),
        (
            "POST",
            policy.into(),
            permission.replace(r#""s3""#, r#""example.com""#),
            format!("Value 'example.com' at 'statementId' failed to satisfy constraint: {pattern} ([a-zA-Z0-9-_]+)"),
        ),
        (
            "DELETE",
            "/2017-03-31/tags/arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Af".into(),
            String::new(),
            "Value null at 'tagKeys' failed to satisfy constraint: Member must not be null".into(),
        ),
        (
            "POST",
            alias.into(),
            r#"{"Name":"2024","FunctionVersion":"1"}"#.into(),
            format!("Value '2024' at 'name' failed to satisfy constraint: {pattern} (?!^[0-9]+$)([a-zA-Z0-9-_]+)"),
        ),
        (
            "POST",
            alias.into(),
            weighted(r#"{"2":-1}"#),
            format!("Value '{{2=-1.0}}' at 'routingConfig.additionalVersionWeights' failed to satisfy constraint: {weights}"),
        ),
        (
            "POST",
            alias.into(),
            weighted(r#"{"2":2.0}"#),
            format!("Value '{{2=2.0}}' at 'routingConfig.additionalVersionWeights' failed to satisfy constraint: {weights}"),
        ),
        (
            "POST",
            alias.into(),
            weighted(r#"{"$LATEST":0.5}"#),
            format!("Value '{{$LATEST=0.5}}' at 'routingConfig.additionalVersionWeights' failed to satisfy constraint: Map keys must satisfy constraint: [Member must have length less than or equal to 1024, Member must have length greater than or equal to 1, {pattern} [0-9]+]"),
        ),
    ] {
        let want = format!("1 validation error detected: {want}");
        assert_eq!(refused(method, &target, &[], &body), want, "{method} {target}");
    }
}

/// As recorded, but for the pattern: the model's is newer than the records (it lost layers, and gained more).
#[test]
fn recorded_texts_of_taggable_resources() {
    let base = "arn:aws:lambda:us-east-1:000000000000";
    for resource in [
        format!("{base}:capacity-provider:r:alias"),
        format!("{base}:event-source-mapping:r:alias"),
        format!("{base}:foobar:r"),
        "arn:aws:something".into(),
    ] {
        let target = format!("/2017-03-31/tags/{}", resource.replace(':', "%3A"));
        let got = refused("POST", &target, &[], r#"{"Tags":{}}"#);
        let want = format!(
            r"1 validation error detected: Value '{resource}' at 'resource' failed to satisfy constraint: Member must satisfy regular expression pattern: arn:(aws[a-zA-Z-]*):lambda:(eusc-)?[a-z]{{2}}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{{1}}:\d{{12}}:(function:[a-zA-Z0-9-_]+(:(\$LATEST|[a-zA-Z0-9-_]+))?|"
        );
        assert!(got.starts_with(&want), "{got}");
    }
}

#[test]
fn further_constraints_in_the_same_words() {
    for (method, target, body, want) in [
        ("POST", CREATE, create("{}"), ""),
        ("POST", CREATE, create(r#"{"Runtime": "fortran77"}"#), ""),
        (
            "POST",
            CREATE,
            "{}".into(),
            "3 validation errors detected: Value null at 'functionName' failed to satisfy constraint: Member must not be null; Value null at 'role' failed to satisfy constraint: Member must not be null; Value null at 'code' failed to satisfy constraint: Member must not be null",
        ),
        (
            "POST",
            CREATE,
            create(r#"{"MemorySize": 64, "Timeout": 0}"#),
            "2 validation errors detected: Value '0' at 'timeout' failed to satisfy constraint: Member must have value greater than or equal to 1; Value '64' at 'memorySize' failed to satisfy constraint: Member must have value greater than or equal to 128",
        ),
        (
            "POST",
            CREATE,
            create(r#"{"Environment": {"Variables": {"1A": "secret"}}}"#),
            "1 validation error detected: Value at 'environment.variables' failed to satisfy constraint: Map keys must satisfy constraint: [Member must satisfy regular expression pattern: [a-zA-Z]([a-zA-Z0-9_])+]",
        ),
        (
            "POST",
            CREATE,
            create(r#"{"TracingConfig": {"Mode": "Off"}}"#),
            "1 validation error detected: Value 'Off' at 'tracingConfig.mode' failed to satisfy constraint: Member must satisfy enum value set: [Active, PassThrough]",
        ),
        (
            "POST",
            CREATE,
            create(r#"{"FileSystemConfigs": [{"LocalMountPath": "/mnt/a"}]}"#),
            "1 validation error detected: Value null at 'fileSystemConfigs.1.member.arn' failed to satisfy constraint: Member must not be null",
        ),
        (
            "POST",
            CREATE,
            create(r#"{"Layers": [null]}"#),
            r"1 validation error detected: Value '[null]' at 'layers' failed to satisfy constraint: Member must satisfy constraint: [Member must have length less than or equal to 2048, Member must have length greater than or equal to 1, Member must satisfy regular expression pattern: ((arn:(aws[a-zA-Z-]*)?:lambda:(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:\d{12}:layer:[a-zA-Z0-9-_]+:[0-9]+)|(arn:[a-zA-Z0-9-]+:lambda:::awslayer:[a-zA-Z0-9-_]+)), Member must not be null]",
        ),
        (
            "GET",
            "/2015-03-31/functions?MaxItems=0",
            String::new(),
            "1 validation error detected: Value '0' at 'maxItems' failed to satisfy constraint: Member must have value greater than or equal to 1",
        ),
        ("POST", "/2015-03-31/functions/f.g/invocations", "{}".into(), ""),
        ("GET", "/2015-03-31/functions/f%3A%24LATEST", String::new(), ""),
    ] {
        assert_eq!(refused(method, target, &[], &body), want, "{method} {target} {body}");
    }
    let got = refused(
        "POST",
        "/2015-03-31/functions/f/invocations",
        &[("x-amz-invocation-type", "Later")],
        "{}",
    );
    assert_eq!(
        got,
        "1 validation error detected: Value 'Later' at 'invocationType' failed to satisfy constraint: Member must satisfy enum value set: [Event, RequestResponse, DryRun]"
    );
}

#[test]
fn an_error_is_bounded() {
    let many = vec![r#"{"Pattern": 1}"#.replace('1', &format!("\"{}\"", "x".repeat(5000))); 1000]
        .join(",");
    let body = format!(r#"{{"FunctionName":"f","FilterCriteria":{{"Filters":[{many}]}}}}"#);
    let got = refused("POST", "/2015-03-31/event-source-mappings", &[], &body);
    assert!(got.starts_with("1000 validation errors detected: "), "{}", &got[..80]);
    assert_eq!(got.matches("failed to satisfy").count(), TOLD);
}
