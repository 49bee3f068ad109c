//! Code that the server fetches from S3, which is a thread here that knows a few objects.

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use crate::common::{find, python_runtime, sandboxes, skip};
use crate::harness::{ACCOUNT, PATIENCE, Server, data_folder, python_zip, serve};

/// Answers GetObject for what it has, by path and query, and notes each request's head.
struct Store {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Store {
    fn with(objects: HashMap<&'static str, Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let seen = heads.clone();
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let head = answer(stream.expect("a connection"), &objects);
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(head);
            }
        });
        Self { address, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn answer(mut stream: TcpStream, objects: &HashMap<&'static str, Vec<u8>>) -> String {
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut head = Vec::new();
    while find(&head, b"\r\n\r\n").is_none() {
        let mut buffer = [0; 1024];
        let length = stream.read(&mut buffer).expect("a request");
        assert!(length > 0, "half a head: {}", String::from_utf8_lossy(&head));
        head.extend(&buffer[..length]);
    }
    let head = String::from_utf8(head).expect("text");
    let target = head.split(' ').nth(1).expect("a target");
    let missing = b"<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>";
    let (status, body) = match objects.get(target) {
        Some(body) => ("200 OK", body.as_slice()),
        None => ("404 Not Found", missing.as_slice()),
    };
    let length = body.len();
    let answer =
        format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    // A client that has seen enough may be gone.
    let _ = stream.write_all(answer.as_bytes()).and_then(|()| stream.write_all(body));
    head
}

fn code(says: &str) -> Vec<u8> {
    python_zip(&format!("def handler(event, context):\n    return '{says}'\n"))
}

#[test]
fn code_comes_from_a_bucket_by_key_and_version() {
    if !sandboxes() {
        return;
    }
    let Some(runtime) = python_runtime() else { return skip("no Python for the function") };
    let store = Store::with(HashMap::from([
        ("/code/apps/my%20app.zip", code("newest")),
        ("/code/apps/my%20app.zip?versionId=v%2F1", code("first")),
        ("/code/layer.zip", python_zip("x = 1\n")),
        ("/code/no.zip", b"no zip".to_vec()),
    ]));
    let (folder, data) = data_folder();
    let config = folder.path().join("kennel.toml");
    let endpoint = format!(
        "[s3]\nurl = 'http://{}'\naccess_key_id = 'AKIDREADER'\nsecret_access_key = 'secret'\nregion = 'eu-central-1'\n",
        store.address
    );
    fs::write(&config, endpoint).expect("a file");
    let server = Server::start(serve(&data).arg("--config").arg(&config));
    let object = |key: &str, version: Option<&str>| {
        let mut source = json!({ "S3Bucket": "code", "S3Key": key });
        if let Some(version) = version {
            source["S3ObjectVersion"] = version.into();
        }
        source
    };
    let create = |name: &str, code: &Value| {
        let request = json!({
            "FunctionName": name, "Runtime": runtime, "Handler": "app.handler", "Timeout": 30,
            "Role": format!("arn:aws:iam::{ACCOUNT}:role/any"), "Code": code,
        });
        server.call("POST", "/2015-03-31/functions", &request)
    };
    create("f", &object("apps/my app.zip", Some("v/1"))).is(201);
    assert_eq!(server.result("f", &json!({})), "first");
    let heads = store.heads();
    assert_eq!(heads.len(), 1, "{heads:?}");
    let head = heads[0].to_ascii_lowercase();
    let signed = "authorization: aws4-hmac-sha256 credential=akidreader/";
    assert!(head.contains(signed) && head.contains("/eu-central-1/s3/aws4_request"), "{head}");

    let update = |source: &Value| server.call("PUT", "/2015-03-31/functions/f/code", source);
    update(&object("apps/my app.zip", None)).is(200);
    assert_eq!(server.result("f", &json!({})), "newest");

    let layer = json!({ "Content": object("layer.zip", None) });
    let made = server.call("POST", "/2018-10-31/layers/l/versions", &layer).is(201).json();
    assert_eq!(made["Content"]["CodeSize"], python_zip("x = 1\n").len());

    for (key, version, text) in [
        ("missing.zip", None, "S3 Error Code: NoSuchKey. S3 Error Message: The specified key does"),
        ("apps/my app.zip", Some("v2"), "S3 Error Code: NoSuchKey"),
        ("no.zip", None, "Could not unzip uploaded file"),
    ] {
        let source = object(key, version);
        update(&source).fails(400, "InvalidParameterValueException", text);
        create("g", &source).fails(400, "InvalidParameterValueException", text);
    }
    server.call("GET", "/2015-03-31/functions/g", &Value::Null).is(404);
    assert_eq!(server.result("f", &json!({})), "newest", "what was refused changed nothing");
    server.stop();

    // Without an endpoint there is no S3 to ask.
    let server = Server::own(&data, &[]);
    let refused = server.call("PUT", "/2015-03-31/functions/f/code", &object("layer.zip", None));
    refused.fails(400, "InvalidParameterValueException", "No S3 endpoint is configured here");
    server.stop();
}
