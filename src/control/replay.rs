//! For tests: a control plane on a store in memory, and AWS's recorded answers replayed against it.
//!
//! `tests/fixtures/aws/functions.json` holds calls in the order that they were made, and what AWS gave. Members that
//! were recorded must be there and equal; `<name:1>` stands for a value that is unknown, and the same each time,
//! `<location>` for any. In a request `zip:N` is a package, `x:N` a text of N letters, `@STEP/PATH` a member of an earlier answer.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::code::{Source, code_key};
use super::names::FunctionName;
use super::{Control, ControlError, ErrorKind, Runtimes, Settings, checks};
use crate::package::{CaseCollisions, Digest, TreeStore};
use crate::store::Batch;
use crate::store::memory::MemoryStore;

pub(crate) type Answer = Result<Map<String, Value>, ControlError>;

/// A control plane in a folder of its own.
pub(crate) struct Kit {
    pub control: Control,
    /// Packages that can be used; `zip` is that of [`Kit::create`].
    pub zip: Vec<u8>,
    pub other_zip: Vec<u8>,
    _folder: tempfile::TempDir,
}

/// A zip of files, stored as they are.
pub(crate) fn zip_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    use std::io::Write;
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, content) in files {
        writer.start_file(*name, options).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn numbered_zip(number: u64) -> Vec<u8> {
    zip_of(&[("index.py", format!("version = {number}\n").as_bytes())])
}

pub(crate) fn settings(folder: &Path) -> Settings {
    let here = ["python3.8", "python3.11", "python3.12", "java21", "nodejs20.x"];
    let mut here: BTreeMap<String, bool> =
        here.into_iter().map(|name| (name.to_owned(), true)).collect();
    here.insert("provided.al2023".into(), false);
    Settings {
        region: "us-east-1".into(),
        account: "000000000000".into(),
        code_folder: folder.to_owned(),
        account_concurrency: 1000,
        code_storage_bytes: 1 << 30,
        runtimes: Runtimes {
            here,
            missing: BTreeMap::from([("ruby3.3".into(), "no ruby was found".into())]),
        },
        s3: None,
    }
}

impl Kit {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let code = folder.path().join("code");
        let trees = Arc::new(TreeStore::open_scratch(&code).unwrap());
        let control = Control::new(Arc::new(MemoryStore::new()), settings(&code), trees);
        let (zip, other_zip) = (numbered_zip(1), numbered_zip(2));
        Self { control, zip, other_zip, _folder: folder }
    }

    pub fn base64(&self, bytes: &[u8]) -> String {
        STANDARD.encode(bytes)
    }

    /// What CreateFunction needs at least.
    pub fn wanted(&self, name: &str) -> Value {
        json!({
            "FunctionName": name,
            "Runtime": "python3.12",
            "Handler": "index.handler",
            "Role": "arn:aws:iam::000000000000:role/lambda",
            "Code": {"ZipFile": self.base64(&self.zip)},
        })
    }

    pub async fn create(&self, name: &str) -> Map<String, Value> {
        self.call("CreateFunction", self.wanted(name)).await.unwrap()
    }

    /// CreateFunction with other members.
    pub async fn create_with(&self, name: &str, more: Value) -> Answer {
        let mut members = self.wanted(name);
        members.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.call("CreateFunction", members).await
    }

    pub async fn call(&self, operation: &str, members: Value) -> Answer {
        let Value::Object(members) = members else { panic!("no object: {members}") };
        let control = &self.control;
        match operation {
            "CreateFunction" => control.create_function(members).await,
            "GetFunction" => control.get_function(members).await,
            "GetFunctionConfiguration" => control.get_function_configuration(members).await,
            "ListFunctions" => control.list_functions(members).await,
            "UpdateFunctionCode" => control.update_function_code(members).await,
            "UpdateFunctionConfiguration" => control.update_function_configuration(members).await,
            "DeleteFunction" => control.delete_function(members).await,
            "PublishVersion" => control.publish_version(members).await,
            "ListVersionsByFunction" => control.list_versions_by_function(members).await,
            "CreateAlias" => control.create_alias(members).await,
            "GetAlias" => control.get_alias(members).await,
            "UpdateAlias" => control.update_alias(members).await,
            "DeleteAlias" => control.delete_alias(members).await,
            "ListAliases" => control.list_aliases(members).await,
            "Target" => self.target(&members).await,
            other => panic!("unknown operation {other}"),
        }
    }

    /// What Invoke would tell of where the event went.
    async fn target(&self, members: &Map<String, Value>) -> Answer {
        let text = |member: &str| members.get(member).and_then(Value::as_str);
        let (name, qualifier) = (text("FunctionName").unwrap(), text("Qualifier"));
        let named = FunctionName::resolve(name, qualifier, &self.control.settings)?;
        let target = self.control.target(&named.name, named.qualifier.as_deref()).await?;
        let version = &target.version.version;
        let payload = json!({"invoked_arn": target.invoked_arn, "version_from_ctx": version});
        super::answer(json!({"StatusCode": 200, "ExecutedVersion": version, "Payload": payload}))
    }

    /// All members of a list that comes in pages of at most `size`.
    pub async fn pages(
        &self,
        operation: &str,
        mut members: Value,
        list: &str,
        size: usize,
    ) -> Vec<Value> {
        let mut all = Vec::new();
        members["MaxItems"] = json!(size);
        loop {
            let mut page = self.call(operation, members.clone()).await.unwrap();
            let found = page[list].as_array().unwrap();
            assert!(found.len() <= size, "{} in a page of {size}", found.len());
            all.extend(found.iter().cloned());
            match page.remove("NextMarker") {
                Some(marker) => members["Marker"] = marker,
                None => return all,
            }
        }
    }

    /// A layer version that is there; its ARN.
    pub async fn layer(&self, name: &str, version: u64, zip: &[u8]) -> String {
        let source = Source { zip_file: Some(self.base64(zip)), ..Source::default() };
        let stored = self.control.store_code(source, CaseCollisions::Refuse).await.unwrap();
        let arn = self.control.settings.layer_arn(name, Some(version));
        let record = json!({"arn": arn, "version": version, "code": stored.code, "more": true});
        self.put(&format!("layer-version/{name}/{version:020}"), record).await;
        let owner = format!("layer/{name}/{version}");
        self.put(&code_key(&stored.code.sha256, &owner), json!(stored.code)).await;
        arn
    }

    /// Deletes it again.
    pub async fn unlayer(&self, name: &str, version: u64, digest: &Digest) {
        let owner = format!("layer/{name}/{version}");
        let delete =
            vec![format!("layer-version/{name}/{version:020}"), code_key(&digest.hex(), &owner)];
        self.control.store.commit(Batch { delete, ..Batch::default() }).await.unwrap();
    }

    pub async fn keys(&self, prefix: &str) -> Vec<String> {
        let entries = self.control.store.scan(prefix, None, 10_000).await.unwrap();
        entries.into_iter().map(|entry| entry.key).collect()
    }

    pub async fn put(&self, key: &str, record: Value) {
        let put = vec![(key.to_owned(), super::encode(&record).unwrap())];
        self.control.store.commit(Batch { put, ..Batch::default() }).await.unwrap();
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Recording {
    #[serde(rename = "origin")]
    _origin: String,
    cases: BTreeMap<String, Vec<Call>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    step: Option<String>,
    call: String,
    with: Value,
    gives: Option<Gives>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Gives {
    status: u16,
    fields: Option<Value>,
    code: Option<String>,
    message: Option<String>,
}

/// Values that placeholders stand for.
#[derive(Debug, Default)]
struct Bindings(HashMap<String, String>);

impl Bindings {
    fn check(&mut self, at: &str, recorded: &Value, got: &Value) {
        match (recorded, got) {
            (Value::Object(recorded), Value::Object(got)) => {
                for (member, recorded) in recorded {
                    let at = format!("{at}.{member}");
                    let got = got.get(member).unwrap_or_else(|| panic!("{at}: nothing there"));
                    self.check(&at, recorded, got);
                }
            }
            (Value::Array(recorded), Value::Array(got)) => {
                assert_eq!(recorded.len(), got.len(), "{at}: {got:?}");
                for (n, (recorded, got)) in recorded.iter().zip(got).enumerate() {
                    self.check(&format!("{at}[{n}]"), recorded, got);
                }
            }
            (Value::String(recorded), Value::String(got)) => self.check_text(at, recorded, got),
            (recorded, got) => assert_eq!(recorded, got, "{at}"),
        }
    }

    fn check_text(&mut self, at: &str, recorded: &str, got: &str) {
        if recorded == "x86_64" {
            return assert_eq!(got, checks::host_architecture(), "{at}");
        }
        let mut pattern = String::from("^");
        let mut unknown = Vec::new();
        let mut rest = recorded;
        while let Some((before, after)) = rest.split_once('<')
            && let Some((name, after)) = after.split_once('>')
        {
            pattern += &fancy_regex::escape(before);
            rest = after;
            let long = name.strip_prefix("x:len(").and_then(|n| n.strip_suffix(')'));
            if let Some(length) = long {
                pattern += &"x".repeat(length.parse().unwrap());
            } else if let Some(known) = self.0.get(name) {
                pattern += &fancy_regex::escape(known);
            } else {
                pattern += "(.+?)";
                unknown.push(name);
            }
        }
        pattern += &fancy_regex::escape(rest);
        pattern.push('$');
        let found = fancy_regex::Regex::new(&pattern).unwrap().captures(got).unwrap();
        let found = found.unwrap_or_else(|| panic!("{at}: `{got}` is not `{recorded}`"));
        for (n, name) in unknown.into_iter().enumerate() {
            if name == "location" {
                continue;
            }
            let value = found.get(n + 1).unwrap().as_str().to_owned();
            let kind = name.split(':').next().unwrap();
            let same =
                self.0.iter().find(|(n, v)| **v == value && n.split(':').next() == Some(kind));
            assert!(same.is_none(), "{at}: <{name}> is also {same:?}");
            self.0.insert(name.to_owned(), value);
        }
    }
}

fn code_of(kind: ErrorKind) -> (u16, &'static str) {
    match kind {
        ErrorKind::InvalidParameterValue => (400, "InvalidParameterValueException"),
        ErrorKind::ResourceNotFound => (404, "ResourceNotFoundException"),
        ErrorKind::ResourceConflict => (409, "ResourceConflictException"),
        ErrorKind::PreconditionFailed => (412, "PreconditionFailedException"),
        ErrorKind::AccessDenied => (403, "AccessDeniedException"),
        other => panic!("{other:?} was never recorded here"),
    }
}

/// Puts in what a request's texts stand for.
fn filled(request: &Value, answers: &HashMap<&str, Value>) -> Value {
    match request {
        Value::Object(members) => {
            members.iter().map(|(name, value)| (name.clone(), filled(value, answers))).collect()
        }
        Value::Array(items) => items.iter().map(|item| filled(item, answers)).collect(),
        Value::String(text) => {
            if let Some(number) = text.strip_prefix("zip:") {
                return STANDARD.encode(numbered_zip(number.parse().unwrap())).into();
            }
            if let Some(length) = text.strip_prefix("x:") {
                return "x".repeat(length.parse().unwrap()).into();
            }
            if let Some((step, path)) = text.strip_prefix('@').and_then(|t| t.split_once('/')) {
                return answers[step].pointer(&format!("/{path}")).unwrap().clone();
            }
            request.clone()
        }
        other => other.clone(),
    }
}

async fn replay(case: &str, calls: &[Call]) {
    let kit = Kit::new();
    let mut bindings = Bindings::default();
    bindings.0.insert("region".into(), "us-east-1".into());
    bindings.0.insert("account".into(), "000000000000".into());
    bindings.0.insert("wrong-region".into(), "eu-central-1".into());
    let mut answers: HashMap<&str, Value> = HashMap::new();
    for call in calls {
        let at = format!("{case} {}", call.step.as_deref().unwrap_or(&call.call));
        let request = filled(&call.with, &answers);
        let answer = match call.call.split_once(" in pages of ") {
            Some((operation, size)) => {
                let list = operation.strip_prefix("List").unwrap();
                let all = kit.pages(operation, request, list, size.parse().unwrap()).await;
                Ok(json!({ list: all }).as_object().unwrap().clone())
            }
            None => kit.call(&call.call, request).await,
        };
        let Some(gives) = &call.gives else {
            answer.unwrap_or_else(|error| panic!("{at}: {error}"));
            continue;
        };
        match (&gives.code, answer) {
            (None, Ok(answer)) => {
                assert!(gives.status < 300, "{at}");
                let answer = Value::Object(answer);
                bindings.check(&at, gives.fields.as_ref().unwrap(), &answer);
                answers.insert(call.step.as_deref().unwrap(), answer);
            }
            (Some(code), Err(error)) => {
                assert_eq!((gives.status, code.as_str()), code_of(error.kind), "{at}: {error}");
                if let Some(message) = &gives.message {
                    bindings.check_text(&at, message, &error.message);
                }
            }
            (_, answer) => panic!("{at}: {answer:?} instead of {gives:?}"),
        }
    }
}

#[tokio::test]
async fn aws_answers_are_given() {
    let text = include_str!("../../tests/fixtures/aws/functions.json");
    let recording: Recording = serde_json::from_str(text).unwrap();
    assert!(recording.cases.len() > 40);
    for (case, calls) in &recording.cases {
        replay(case, calls).await;
    }
}

#[test]
#[should_panic(expected = "is also")]
fn two_placeholders_are_two_values() {
    let mut bindings = Bindings::default();
    bindings.check_text("a", "<uuid:1>", "x");
    bindings.check_text("b", "<uuid:2>", "x");
}

#[test]
#[should_panic(expected = "is not")]
fn a_placeholder_is_the_same_each_time() {
    let mut bindings = Bindings::default();
    bindings.check_text("a", "fn <name:1>", "fn f");
    bindings.check_text("b", "fn <name:1>", "fn g");
}
