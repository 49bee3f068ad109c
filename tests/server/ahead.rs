//! Sandboxes that were made ahead: that cold starts claim them, and that a claimed one has every wall of another.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::common::{folder, sandboxes, skip, wait_for, zip};
use crate::harness::{Server, data_folder, serve};

#[derive(Deserialize)]
struct Table {
    row: Vec<Row>,
}

/// A row of the table that `tests/escape.rs` runs outside and in `kennel exec`.
#[derive(Deserialize)]
struct Row {
    what: String,
    probe: String,
    #[serde(default)]
    args: Vec<String>,
    inside: String,
}

/// Rows that say something else here, and why.
const ELSEWHERE: [(&str, &str); 2] = [
    // The interpreter that the handler runs on is one process more.
    ("fork-bomb", "1021 EAGAIN"),
    // An interpreter in root's home is shown there, and the folders on the way to it are empty but for it.
    ("list-dir", "OK"),
];

/// A server of this test's own, whose log says how each sandbox was booted.
fn server(data: &Path, args: &[&str]) -> Server {
    Server::start(serve(data).args(args).env("KENNEL_LOG", "info"))
}

/// How the sandboxes of a function were booted, in order.
fn boots(server: &Server, function: &str) -> Vec<String> {
    let name = format!("function=\"{function}\" ");
    let log = server.stderr();
    let lines = log.lines().filter(|line| line.contains(&name) && line.contains("boot="));
    lines.map(|line| line[line.find("boot=").unwrap_or_default()..].to_owned()).collect()
}

/// A Python function that was given a sandbox made ahead at its first event. `None`: no Python here.
fn claimed(server: &Server, prefix: &str, package: &[u8], more: &Value) -> Option<String> {
    let runtime = crate::common::python_runtime()?;
    let mut tries = 0..10;
    let name = wait_for("a sandbox that was made ahead", Duration::from_secs(60), || {
        let name = format!("{prefix}{}", tries.next()?);
        server.create(&name, runtime, "app.handler", package, more);
        std::thread::sleep(Duration::from_millis(500));
        server.result(&name, &json!({ "args": ["true"] }));
        boots(server, &name).first()?.starts_with("boot=\"ahead\"").then_some(name)
    });
    Some(name)
}

fn matches(got: &str, wanted: &str) -> bool {
    wanted.split('|').any(|w| match w.strip_suffix('*') {
        Some(prefix) => got.starts_with(prefix),
        None => got == w,
    })
}

#[test]
fn a_claimed_sandbox_has_every_wall() {
    if !sandboxes() {
        return;
    }
    let build = folder();
    let program = build.path().join("probe");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/probes/build");
    if !Command::new(script).arg(&program).status().is_ok_and(|s| s.success()) {
        return skip("the probe program cannot be compiled (Debian: gcc, libc6-dev)");
    }
    let code = crate::common::dedent(
        r#"
        import subprocess

        def handler(event, context):
            try:
                done = subprocess.run(["/var/task/probe"] + event["args"], stdout=subprocess.PIPE,
                                      stderr=subprocess.DEVNULL, timeout=20)
            except subprocess.TimeoutExpired:
                return "TIMED OUT"
            return done.stdout.decode("latin-1")
        "#,
    );
    let probe = fs::read(&program).expect("the program");
    let package = zip(&[("app.py", code.as_bytes(), 0o644), ("probe", &probe, 0o755)]);
    let (_folder, data) = data_folder();
    let server = server(&data, &[]);
    let more = json!({ "MemorySize": 1769, "Timeout": 60 });
    let Some(name) = claimed(&server, "walls", &package, &more) else { return };

    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/probes/table.toml");
    let table = fs::read_to_string(table).expect("the table");
    let table: Table = toml::from_str(&table).expect("a table");
    assert!(table.row.len() > 100, "the table has {} rows", table.row.len());
    let secret = build.path().join("secret");
    fs::write(&secret, "x").expect("a file");
    let values = [
        ("{pid}", std::process::id().to_string()),
        ("{secret}", secret.display().to_string()),
        ("{abstract}", format!("kennel-ahead-{}", std::process::id())),
        ("{socket}", build.path().join("socket").display().to_string()),
        ("{port}", server.address.port().to_string()),
    ];
    let mut wrong = Vec::new();
    for row in &table.row {
        let fill = |arg: &String| {
            values.iter().fold(arg.clone(), |arg, (key, value)| arg.replace(key, value))
        };
        let mut args = vec![row.probe.clone()];
        args.extend(row.args.iter().map(fill));
        let answer = server.invoke(&name, &json!({ "args": args })).json();
        let printed = answer.as_str().map_or_else(|| answer.to_string(), str::to_owned);
        let prefix = format!("{}: ", row.probe);
        let said = printed.lines().find_map(|line| line.strip_prefix(&prefix));
        let said = said.unwrap_or(&printed);
        let here = ELSEWHERE.iter().any(|(probe, got)| *probe == row.probe && *got == said);
        if !matches(said, &row.inside) && !here {
            wrong.push(format!(
                "{} ({}): it says {said}, wanted {}",
                row.what, row.probe, row.inside
            ));
        }
    }
    assert!(wrong.is_empty(), "{} rows are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn what_is_attached_is_read_only_and_the_claim_is_good_once() {
    if !sandboxes() {
        return;
    }
    let code = crate::common::dedent(
        r#"
        import os
        import socket

        def write(path):
            try:
                open(path, "w")
                return "written"
            except OSError as error:
                return os.strerror(error.errno)

        def handler(event, context):
            door = socket.socket(socket.AF_UNIX)
            door.connect("/run/kennel/runtime.sock")
            door.sendall(b"GET /kennel/claim HTTP/1.1\r\nHost: x\r\n\r\n")
            mounts = [line.split() for line in open("/proc/self/mountinfo")]
            return {
                "claim": door.recv(100).decode().split("\r\n")[0],
                "task": [m[5] for m in mounts if m[4] == "/var/task"],
                "write": [write("/var/task/new"), write("/var/task/app.py"), write("/var/new"), write("/opt/new")],
                "tmp": os.listdir("/tmp"),
                "kennel": [key for key in os.environ if key.startswith("KENNEL")],
                "own": os.environ.get("OWN"),
                "handler": os.environ["_HANDLER"],
                "cwd": os.getcwd(),
                "status": {l.split(":")[0]: l.split(":")[1].strip() for l in open("/proc/self/status")},
            }
        "#,
    );
    let package = zip(&[("app.py", code.as_bytes(), 0o644)]);
    let (_folder, data) = data_folder();
    let server = server(&data, &[]);
    let more = json!({ "Environment": { "Variables": { "OWN": "mine" } } });
    let Some(name) = claimed(&server, "once", &package, &more) else { return };
    let result = server.result(&name, &json!({}));
    assert_eq!(result["claim"], "HTTP/1.1 404 Not Found");
    let task = result["task"][0].as_str().expect("a mount");
    for attribute in ["ro", "nosuid", "nodev"] {
        assert!(task.split(',').any(|a| a == attribute), "{attribute} is missing: {task}");
    }
    for refused in result["write"].as_array().expect("a list") {
        assert_ne!(refused, "written");
    }
    assert_eq!(result["tmp"], json!([]));
    assert_eq!(result["kennel"], json!([]));
    assert_eq!((&result["own"], &result["handler"]), (&json!("mine"), &json!("app.handler")));
    assert_eq!(result["cwd"], "/var/task");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(result["status"][set], "0000000000000000", "{set}");
    }
    assert_eq!(result["status"]["NoNewPrivs"], "1");
    assert_eq!(result["status"]["Seccomp"], "2");
}

#[test]
fn what_cannot_wait_is_booted_in_full_and_the_log_says_why() {
    let Some(runtime) = sandboxes().then(crate::common::python_runtime).flatten() else { return };
    let package = crate::harness::python_zip(
        "import os\n\ndef handler(event, context):\n    return os.environ.get('PYTHONPATH')\n",
    );
    let (_folder, data) = data_folder();
    let server = server(&data, &[]);
    let path = json!({ "Environment": { "Variables": { "PYTHONPATH": "/var/task/lib" } } });
    for (name, more, why) in [
        ("variable", path, "PYTHONPATH must be there when the process starts"),
        ("tmp", json!({ "EphemeralStorage": { "Size": 1024 } }), "/tmp of 1024 MB"),
    ] {
        server.create(name, runtime, "app.handler", &package, &more);
        server.invoke(name, &json!({})).is(200);
        let boots = boots(&server, name);
        assert!(boots[0].starts_with("boot=\"full\"") && boots[0].contains(why), "{boots:?}");
    }
    let server = {
        server.stop();
        let (_folder, data) = data_folder();
        let server = self::server(&data, &["--preboot", "0"]);
        server.create("none", runtime, "app.handler", &package, &json!({}));
        std::thread::sleep(Duration::from_millis(300));
        server.invoke("none", &json!({})).is(200);
        server
    };
    assert!(boots(&server, "none")[0].contains("none was ready"), "{:?}", boots(&server, "none"));
}
