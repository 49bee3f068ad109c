//! AWS's own clients, unmodified, as functions of Kennel: see `clients/README.md`.
//!
//! Needs root, and what each client is built with; what cannot be built here is skipped with what it needs.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use common::{Run, names, sandboxes, skip};
use serde::Deserialize;

/// `case.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    runtime: String,
    handler: String,
    event: String,
    expect: String,
    #[serde(default)]
    needs: Vec<PathBuf>,
    error: Failing,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Failing {
    event: String,
    expect: String,
}

fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// Builds the client's zip. `None`: this host lacks something, which is printed.
fn build(name: &str) -> Option<PathBuf> {
    // One at a time: they are compilers, and each takes all there is.
    static BUILDING: Mutex<()> = Mutex::new(());
    let _one = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients").join(name);
    fs::create_dir_all(&out).expect("a folder");
    let mut command = Command::new(clients().join(name).join("build"));
    // What cargo makes for a client stays out of its folder, and apart from Kennel's own.
    command.arg(&out).env("CARGO_TARGET_DIR", out.join("target"));
    let built = command.output().expect("build");
    let text = [built.stdout, built.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    if built.status.success() {
        return Some(out.join(format!("{name}.zip")));
    }
    match text.lines().find(|l| l.starts_with("needs ")) {
        Some(needs) => skip(&format!("{name}: {needs}")),
        None => panic!("{name}/build failed:\n{text}"),
    }
    None
}

fn works(name: &str) {
    if !sandboxes() {
        return;
    }
    let text = fs::read_to_string(clients().join(name).join("case.toml")).expect("case.toml");
    let case: Case = toml::from_str(&text).expect("case.toml");
    if let Some(missing) = case.needs.iter().find(|p| !p.exists()) {
        return skip(&format!("{name}: {} is not on this host", missing.display()));
    }
    let Some(zip) = build(name) else { return };
    let invoke = |event: &str| {
        let run = Run::new(&["invoke"]).path(&zip).event(event);
        run.args(&["--runtime", &case.runtime, "--handler", &case.handler]).run()
    };
    let done = invoke(&case.event).exits(0);
    assert!(done.out().contains(&case.expect), "wanted {}\n{done:?}", case.expect);
    let done = invoke(&case.error.event).exits(1);
    assert!(done.out().contains(&case.error.expect), "wanted {}\n{done:?}", case.error.expect);
}

macro_rules! clients {
    ($($test:ident = $folder:literal),+ $(,)?) => {
        $(
            #[test]
            fn $test() {
                works($folder);
            }
        )+

        #[test]
        fn every_client_has_its_test() {
            let mut folders = names(&clients());
            folders.retain(|name| clients().join(name).join("case.toml").exists());
            folders.sort();
            assert_eq!(folders, [$($folder),+]);
        }
    };
}

clients! {
    go_aws_lambda_go = "go-aws-lambda-go",
    go_rpc = "go-rpc",
    java_runtime_interface_client = "java-runtime-interface-client",
    node_aws_lambda_ric = "node-aws-lambda-ric",
    python_awslambdaric = "python-awslambdaric",
    rust_lambda_runtime = "rust-lambda-runtime",
}
