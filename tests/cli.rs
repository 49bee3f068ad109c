//! `kennel` as people meet it: results, exit codes, texts of errors, guesses, signals, and what a run leaves behind.
//!
//! What makes a sandbox needs root, and is skipped without.

mod common;

use std::fs;
use std::time::Duration;

use common::{
    Function, Run, Traces, children, dedent, folder, folder_with, mark, names, python,
    python_runtime, sandboxes, skip, wait_for, zip,
};
use nix::sys::signal::Signal;
use serde_json::json;

const ECHO: &str = r#"
    def handler(event, context):
        print("printed")
        if event == "fail":
            raise ValueError("refused")
        return event
"#;

// ---------------------------------------------------------------------------------------------------------
// Result, log, exit codes.

#[test]
fn the_result_is_on_stdout_and_the_log_on_stderr() {
    let Some(function) = python(ECHO) else { return };
    let done = function.invoke().event(r#"{"a":[1,2]}"#).run().exits(0);
    assert_eq!(done.out(), r#"{"a": [1, 2]}"#, "the result alone, byte for byte");
    let id = done.request_id();
    let err = done.err();
    let lines: Vec<&str> = err.lines().collect();
    let start = format!("START RequestId: {id} Version: $LATEST");
    let end = format!("END RequestId: {id}");
    assert_eq!(lines[..3], [start.as_str(), "printed", end.as_str()]);
    assert_eq!(lines.len(), 4, "{err}");
    let report = done.report();
    assert_eq!(report[0], format!("REPORT RequestId: {id}"));
    assert_eq!(report[3], "Memory Size: 512 MB");
    for (field, name) in [
        (1, "Duration: "),
        (2, "Billed Duration: "),
        (4, "Max Memory Used: "),
        (5, "Init Duration: "),
    ] {
        assert!(report[field].starts_with(name), "{report:?}");
    }
    assert_eq!(report[6..], [""], "a tab ends the line of a success, as AWS's does");
}

#[test]
fn a_functions_error_is_the_result_and_exit_1() {
    let Some(function) = python(ECHO) else { return };
    let done = function.invoke().event(r#""fail""#).run().exits(1);
    let error = done.json();
    assert_eq!(error["errorType"], "ValueError");
    assert_eq!(error["errorMessage"], "refused");
}

#[test]
fn events_come_as_json_from_a_file_and_from_stdin() {
    let Some(function) = python(ECHO) else { return };
    let files = folder_with(&[("event.json", r#"{"from": "file"}"#)]);
    let at = format!("@{}", files.path().join("event.json").display());
    for (event, stdin, want) in [
        (r#"{"from":"argument"}"#, "", json!({"from": "argument"})),
        (at.as_str(), "", json!({"from": "file"})),
        ("-", r#"{"from": "stdin"}"#, json!({"from": "stdin"})),
        ("null", "", json!(null)),
    ] {
        let done = function.invoke().event(event).stdin(stdin.as_bytes()).run().exits(0);
        assert_eq!(done.json(), want);
    }
    assert_eq!(function.invoke().run().exits(0).json(), json!({}), "the default event");
}

#[test]
fn an_event_may_be_a_negative_number() {
    let Some(function) = python(ECHO) else { return };
    assert_eq!(function.invoke().event("-9").run().exits(0).json(), -9);
}

#[test]
fn json_holds_result_log_and_receipt() {
    let Some(function) = python(ECHO) else { return };
    let keys = |value: &serde_json::Value| -> Vec<String> {
        value.as_object().unwrap_or_else(|| panic!("no object: {value}")).keys().cloned().collect()
    };
    let done = function.invoke().args(&["--json"]).event("[1]").run().exits(0);
    assert!(done.stderr.is_empty(), "{done:?}");
    assert_eq!(done.out().matches('\n').count(), 1, "one line");
    let object = done.json();
    assert_eq!(keys(&object), ["log", "logTruncated", "receipt", "result"]);
    assert_eq!(object["result"], json!([1]));
    assert_eq!(object["logTruncated"], false);
    let log = object["log"].as_str().unwrap();
    let id = object["receipt"]["requestId"].as_str().unwrap();
    assert!(
        log.starts_with(&format!("START RequestId: {id} Version: $LATEST\nprinted\n")),
        "{log}"
    );
    assert_eq!(
        keys(&object["receipt"]),
        [
            "billedDurationMs",
            "bytesIn",
            "bytesOut",
            "cpuTimeMs",
            "degraded",
            "durationMs",
            "initDurationMs",
            "interpreterVersion",
            "logBytes",
            "maxMemoryUsedMb",
            "memorySizeMb",
            "outOfMemoryKills",
            "peakProcesses",
            "requestId",
            "runtime",
            "start",
            "startReason",
            "status",
        ]
    );
    let failed = function.invoke().args(&["--json"]).event(r#""fail""#).run().exits(1).json();
    assert_eq!(keys(&failed), ["error", "functionError", "log", "logTruncated", "receipt"]);
    assert_eq!(failed["functionError"], "Unhandled");
    assert_eq!(failed["error"]["errorMessage"], "refused");
    assert_eq!(failed["receipt"]["status"], "error");
}

// ---------------------------------------------------------------------------------------------------------
// Wrong usage: exit 2, three parts, nothing on stdout. None of it needs root.

fn hello() -> tempfile::TempDir {
    folder_with(&[("app.py", "def handler(event, context):\n    return 'hello'\n")])
}

/// `kennel invoke` of a package that is all right, with `args` that are not.
fn wrong(args: &[&str]) -> common::Done {
    let package = hello();
    Run::new(&["invoke"]).path(package.path()).args(args).run().exits(2)
}

const GOOD: [&str; 4] = ["--runtime", "python3.11", "--handler", "app.handler"];

#[test]
fn an_event_that_is_no_json_is_refused() {
    let files = folder_with(&[("bad.json", "{\"a\":")]);
    let path = files.path().join("bad.json").display().to_string();
    for (event, stdin, named) in [
        ("{nope}", "", "event"),
        (format!("@{path}").as_str(), "", path.as_str()),
        ("-", "[1,", "stdin"),
    ] {
        let package = hello();
        let run = Run::new(&["invoke"]).path(package.path()).args(&GOOD).event(event);
        let done = run.stdin(stdin.as_bytes()).run().exits(2);
        let err = done.err();
        assert!(err.starts_with("Error: ") && err.contains(named) && err.contains("JSON"), "{err}");
        assert!(err.contains("Caused by:\n1: "), "serde's reason with its place: {err}");
        assert!(done.stdout.is_empty());
    }
}

#[test]
fn a_missing_event_file_is_named() {
    wrong(&[&GOOD[..], &["--event", "@/nowhere/event.json"]].concat()).explains(
        "cannot read the event from `/nowhere/event.json`",
        &["No such file or directory"],
        None,
    );
}

#[test]
fn an_event_over_6_mb_is_refused() {
    let files = folder();
    let path = files.path().join("event.json");
    let event = format!("\"{}\"", "x".repeat((6 << 20) - 1));
    assert_eq!(event.len(), (6 << 20) + 1);
    fs::write(&path, event).unwrap();
    let done = wrong(&[&GOOD[..], &["--event", &format!("@{}", path.display())]].concat());
    assert!(done.err().starts_with("Error: ") && done.err().contains("6291456"), "{done:?}");
}

#[test]
fn an_unknown_runtime_is_named_with_the_known_ones() {
    let done = wrong(&["--runtime", "cobol85", "--handler", "a.b"]);
    let err = done.err();
    assert!(err.starts_with("Error: unknown runtime `cobol85`; known: "), "{err}");
    for known in ["nodejs20.x", "python3.11", "provided.al2023", "java21", "dotnet8"] {
        assert!(err.contains(known), "{known} is not in {err}");
    }
}

#[test]
fn a_missing_package_is_named() {
    let done = Run::new(&["invoke", "/nowhere/app.zip"]).args(&GOOD).run().exits(2);
    let err = done.err();
    assert!(err.starts_with("Error: ") && err.contains("`/nowhere/app.zip`"), "{err}");
    assert!(err.contains("Caused by:\n1: No such file or directory (os error 2)\n"), "{err}");
}

#[test]
fn a_package_that_is_neither_file_nor_folder_is_refused() {
    let done = Run::new(&["invoke", "/dev/zero"]).args(&GOOD).run().exits(2);
    assert!(done.err().starts_with("Error: ") && done.err().contains("/dev/zero"), "{done:?}");
}

#[test]
fn numbers_outside_their_range_are_refused_with_the_range() {
    for (flag, value, range) in [
        ("--memory", "127", "128 to 10240"),
        ("--memory", "10241", "128 to 10240"),
        ("--memory", "4294967424", "is not in"),
        ("--timeout", "0", "1..=900"),
        ("--timeout", "901", "1..=900"),
        ("--timeout", "-1", "-1"),
        ("--tmp", "511", "512..=10240"),
    ] {
        let done = wrong(&[&GOOD[..], &[flag, value]].concat());
        assert!(done.err().to_lowercase().starts_with("error: "), "{done:?}");
        assert!(done.err().contains(range), "{flag} {value}: {done:?}");
        assert!(done.err().contains(value) && done.stdout.is_empty(), "{flag} {value}: {done:?}");
    }
}

#[test]
fn variables_want_a_name_and_a_value() {
    for bad in ["NOVALUE", "=value", ""] {
        let done = wrong(&[&GOOD[..], &["--env", bad]].concat());
        assert!(done.err().contains("want KEY=VALUE"), "{bad}: {done:?}");
    }
}

#[test]
fn a_sixth_layer_is_refused() {
    let layer = folder_with(&[("a", "")]);
    let path = layer.path().display().to_string();
    let layers: Vec<&str> = std::iter::repeat_n(["--layer", path.as_str()], 6).flatten().collect();
    let done = wrong(&[&GOOD[..], &layers].concat());
    done.explains("6 layers were given, and 5 are allowed", &[], None);
}

#[test]
fn an_unknown_protection_is_refused_with_the_known_ones() {
    let done = wrong(&[&GOOD[..], &["--allow-degraded", "landlock,firewall"]].concat());
    assert!(done.err().starts_with("Error: `firewall` is no protection"), "{done:?}");
    for known in ["memory-limit", "cpu-limit", "pids-limit", "landlock", "tmp-on-disk", "own-uid"] {
        assert!(done.err().contains(known), "{known}: {done:?}");
    }
}

#[test]
fn client_context_must_be_json() {
    let done = wrong(&[&GOOD[..], &["--client-context", "{"]].concat());
    done.explains("--client-context is not JSON", &["EOF while parsing"], None);
}

#[test]
fn unknown_flags_and_commands_are_usage_errors() {
    for args in [&["invoke", "--frobnicate", "x.zip"][..], &["frobnicate"], &["exec"], &[]] {
        let done = Run::new(args).run().exits(2);
        assert!(done.stdout.is_empty() && !done.stderr.is_empty(), "{args:?}: {done:?}");
    }
}

#[test]
fn a_host_without_runtimes_is_exit_3_with_a_hint() {
    let empty = folder();
    let package = hello();
    let run = Run::new(&["invoke"]).path(package.path()).args(&GOOD);
    let done = run.env("KENNEL_RUNTIMES", &empty.path().display().to_string()).run().exits(3);
    done.explains("no folder of runtimes found", &[], Some("`kennel doctor`"));
}

// ---------------------------------------------------------------------------------------------------------
// Packages.

#[test]
fn a_package_that_breaks_a_rule_is_exit_2_with_entry_and_rule() {
    if !sandboxes() {
        return;
    }
    // Written with an honest name of the same length, which is then made a traversal wherever it stands.
    let mut bytes = zip(&[("app.py", b"", 0o644), ("xx/evil.py", b"print()", 0o644)]);
    while let Some(at) = common::find(&bytes, b"xx/evil.py") {
        bytes[at..at + 2].copy_from_slice(b"..");
    }
    let files = folder();
    let path = files.path().join("bad.zip");
    fs::write(&path, bytes).unwrap();
    let done = Run::new(&["invoke"]).path(&path).args(&GOOD).run().exits(2);
    done.explains(
        &format!("cannot use the package `{}`", path.display()),
        &["entry `../evil.py` has a `..` component (path-traversal)"],
        Some("`path-traversal`"),
    );
    assert_eq!(names(files.path()), ["bad.zip"], "nothing was written beside it");
}

#[test]
fn what_is_no_zip_is_exit_2() {
    if !sandboxes() {
        return;
    }
    let files = folder_with(&[
        ("text.zip", "this is a text, and long enough to be a zip"),
        ("empty.zip", ""),
    ]);
    for (name, rule) in [("text.zip", "not-a-zip"), ("empty.zip", "empty-file")] {
        let done = Run::new(&["invoke"]).path(files.path().join(name)).args(&GOOD).run().exits(2);
        done.explains("cannot use the package", &[rule], Some(rule));
    }
}

#[test]
fn a_folder_is_a_package_too() {
    let (true, Some(runtime)) = (sandboxes(), python_runtime()) else { return };
    let package = folder_with(&[
        (
            "app.py",
            "import os, lib.more\ndef handler(e, c):\n    return [lib.more.WORD, sorted(os.listdir('/var/task'))]\n",
        ),
        ("lib/more.py", "WORD = 'from the folder'\n"),
    ]);
    let run = Run::new(&["invoke"]).path(package.path());
    let done = run.args(&["--runtime", runtime, "--handler", "app.handler"]).run().exits(0);
    assert_eq!(done.json(), json!(["from the folder", ["app.py", "lib"]]));
    let left = names(package.path());
    assert!(left.len() == 2, "nothing was written into the operator's folder: {left:?}");
}

#[test]
fn a_folder_that_only_root_can_read_works() {
    use std::os::unix::fs::PermissionsExt;
    let (true, Some(runtime)) = (sandboxes(), python_runtime()) else { return };
    let package = hello();
    for (path, mode) in [(package.path().join("app.py"), 0o600), (package.path().into(), 0o700)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let run = Run::new(&["invoke"]).path(package.path());
    let done = run.args(&["--runtime", runtime, "--handler", "app.handler"]).run().exits(0);
    assert_eq!(done.out(), "\"hello\"");
}

#[test]
fn a_private_folder_for_temporary_files_works() {
    use std::os::unix::fs::PermissionsExt;
    let (true, Some(runtime)) = (sandboxes(), python_runtime()) else { return };
    // What libpam-tmpdir gives root: nobody else may look through it.
    let private = folder();
    fs::set_permissions(private.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let package = hello();
    let run = Run::new(&["invoke"]).path(package.path());
    // The handler is guessed, which looks into the unpacked tree.
    let run = run.args(&["--runtime", runtime]);
    let done = run.env("TMPDIR", &private.path().display().to_string()).run().exits(0);
    assert_eq!(done.out(), "\"hello\"");
    assert!(names(private.path()).is_empty(), "{:?}", names(private.path()));
}

const READS_OPT: &str = r#"
    import os

    def handler(event, context):
        read = lambda path: open(path).read() if os.path.exists(path) else None
        return [read("/opt/" + name) for name in event]
"#;

fn layer(files: &[(&str, &[u8])]) -> Vec<u8> {
    let files: Vec<_> = files.iter().map(|(name, content)| (*name, *content, 0o644)).collect();
    zip(&files)
}

#[test]
fn one_layer_is_at_opt() {
    let Some(function) = python(READS_OPT) else { return };
    let files = folder();
    let path = files.path().join("layer.zip");
    fs::write(&path, layer(&[("a.txt", b"one"), ("sub/b.txt", b"two")])).unwrap();
    let run = function.invoke().args(&["--layer"]).path(&path);
    let done = run.event(r#"["a.txt", "sub/b.txt", "c.txt"]"#).run().exits(0);
    assert_eq!(done.json(), json!(["one", "two", null]));
}

#[test]
fn of_several_layers_the_later_one_is_on_top() {
    let Some(function) = python(READS_OPT) else { return };
    let files = folder();
    let mut run = function
        .invoke()
        .event(r#"["first", "both", "second", "dir/first", "dir/second", "third"]"#);
    for (name, content) in [
        ("1.zip", layer(&[("first", b"1"), ("both", b"1"), ("dir/first", b"1")])),
        ("2.zip", layer(&[("second", b"2"), ("both", b"2"), ("dir/second", b"2")])),
    ] {
        fs::write(files.path().join(name), content).unwrap();
        run = run.args(&["--layer"]).path(files.path().join(name));
    }
    // A folder may be a layer as well.
    let third = folder_with(&[("third", "3")]);
    let done = run.args(&["--layer"]).path(third.path()).run().exits(0);
    assert_eq!(done.json(), json!(["1", "2", "2", "1", "2", "3"]));
}

#[test]
fn five_layers_fit() {
    let Some(function) = python(READS_OPT) else { return };
    let layers: Vec<_> = (1..=5)
        .map(|n| folder_with(&[(&format!("own{n}"), "own"), ("all", &n.to_string())]))
        .collect();
    let mut run = function.invoke().event(r#"["own1", "own2", "own3", "own4", "own5", "all"]"#);
    for layer in &layers {
        run = run.args(&["--layer"]).path(layer.path());
    }
    assert_eq!(run.run().exits(0).json(), json!(["own", "own", "own", "own", "own", "5"]));
}

#[test]
fn modules_in_a_layer_are_found_and_the_package_comes_first() {
    let Some(function) = python(
        r#"
        import inlayer

        def handler(event, context):
            return inlayer.WORD
        "#,
    ) else {
        return;
    };
    let layer = folder_with(&[
        ("python/inlayer.py", "WORD = 'layer'\n"),
        ("python/app.py", "raise SystemExit(9)\n"),
    ]);
    let done = function.invoke().args(&["--layer"]).path(layer.path()).run().exits(0);
    assert_eq!(done.json(), json!("layer"));
}

#[test]
fn a_bad_layer_is_named() {
    let Some(function) = python(ECHO) else { return };
    let files = folder_with(&[("layer.zip", "not a zip at all, though it says so")]);
    let path = files.path().join("layer.zip");
    let done = function.invoke().args(&["--layer"]).path(&path).run().exits(2);
    let text = format!("cannot use the package `{}`", path.display());
    done.explains(&text, &["not-a-zip"], Some("not-a-zip"));
}

// ---------------------------------------------------------------------------------------------------------
// Guesses.

#[test]
fn runtime_and_handler_are_guessed() {
    let (true, Some(_)) = (sandboxes(), python_runtime()) else { return };
    for file in ["lambda_function.py", "main.py"] {
        let name = if file == "main.py" { "handler" } else { "lambda_handler" };
        let code =
            format!("def {name}(event, context):\n    return context.invoked_function_arn\n");
        let package = folder_with(&[(file, &code), ("README.md", "text")]);
        let done = Run::new(&["invoke"]).path(package.path()).run().exits(0);
        assert_eq!(done.json(), "arn:aws:lambda:us-east-1:000000000000:function:function");
    }
    // The handler alone.
    let package = folder_with(&[("one.py", "def handler(e, c):\n    return 1\n")]);
    let runtime = python_runtime().unwrap();
    let run = Run::new(&["invoke"]).path(package.path()).args(&["--runtime", runtime]);
    assert_eq!(run.run().exits(0).json(), 1);
}

#[test]
fn a_handler_that_is_named_leaves_no_doubt_about_it() {
    let (true, Some(_)) = (sandboxes(), python_runtime()) else { return };
    let package = folder_with(&[
        ("one.py", "def handler(e, c):\n    return 1\n"),
        ("two.py", "def handler(e, c):\n    return 2\n"),
    ]);
    let run = Run::new(&["invoke"]).path(package.path()).args(&["--handler", "two.handler"]);
    assert_eq!(run.run().exits(0).json(), 2, "both are Python, so the runtime is in no doubt");
}

#[test]
fn doubt_lists_the_candidates() {
    if !sandboxes() {
        return;
    }
    let package = folder_with(&[
        ("app.py", "def handler(event, context):\n    pass\n"),
        ("index.js", "exports.handler = async () => 1;\n"),
    ]);
    let done = Run::new(&["invoke"]).path(package.path()).run().exits(2);
    let (node, python) = ("node with handler `index.handler`", "python with handler `app.handler`");
    done.explains("the package could run as ", &[], Some("--runtime NAME --handler HANDLER"));
    assert!(done.err().contains(node) && done.err().contains(python), "{done:?}");
    let package = folder_with(&[
        ("one.py", "def handler(event, context):\n    pass\n"),
        ("two.py", "def handler(event, context):\n    pass\n"),
    ]);
    let done = Run::new(&["invoke"]).path(package.path()).run().exits(2);
    for handler in ["`one.handler`", "`two.handler`"] {
        assert!(done.err().contains(handler), "{done:?}");
    }
}

#[test]
fn what_shows_nothing_is_not_guessed() {
    if !sandboxes() {
        return;
    }
    let package = folder_with(&[("notes.txt", "nothing to run")]);
    let done = Run::new(&["invoke"]).path(package.path()).run().exits(2);
    done.explains("cannot tell the runtime from the package", &[], Some("--runtime"));
    let done = Run::new(&["invoke"]).path(package.path()).args(&GOOD[..2]).run().exits(2);
    done.explains("cannot tell the handler from the package", &[], Some("--handler"));
}

// ---------------------------------------------------------------------------------------------------------
// exec.

#[test]
fn exec_passes_output_and_status_through() {
    if !sandboxes() {
        return;
    }
    let run = Run::new(&["exec", "--", "/bin/sh", "-c", "cat; echo err >&2; exit 7"]);
    let done = run.stdin(b"through").run().exits(7);
    assert_eq!((done.out().as_str(), done.err().as_str()), ("through", "err\n"));
    Run::new(&["exec", "--", "/bin/sh", "-c", "kill -9 $$"]).run().exits(137);
    let done = Run::new(&["exec", "--", "no-such-program"]).run().exits(127);
    done.explains("cannot run `no-such-program`", &["No such file"], Some("--ro PATH"));
    Run::new(&["exec", "--", "/etc/passwd"]).run().exits(126);
    let done = Run::new(&["exec", "--timeout", "1", "--", "sleep", "60"]).run().exits(124);
    assert!(done.wall >= Duration::from_secs(1) && done.wall < Duration::from_secs(20), "{done:?}");
}

#[test]
fn exec_gives_a_receipt() {
    if !sandboxes() {
        return;
    }
    let done = Run::new(&["exec", "--json", "--memory", "256", "--", "true"]).run().exits(0);
    let receipt: serde_json::Value = serde_json::from_slice(&done.stderr).unwrap();
    assert_eq!(receipt["status"], "exited");
    assert_eq!(receipt["exitCode"], 0);
    assert_eq!(receipt["memorySizeMb"], 256);
    let memory = receipt["maxMemoryUsedMb"].as_u64().unwrap();
    assert!((1..64).contains(&memory), "{receipt}");
    let cpu = receipt["cpuTimeMs"].as_f64().unwrap();
    let wall = receipt["durationMs"].as_f64().unwrap();
    assert!(cpu > 0.0 && cpu <= wall * 4.0, "{receipt}");
    assert_eq!(receipt["degraded"], serde_json::json!([]));
}

#[test]
fn exec_shows_what_is_asked_for_and_nothing_else() {
    if !sandboxes() {
        return;
    }
    let shown = folder_with(&[("file", "shown")]);
    let path = shown.path().join("file").display().to_string();
    let script = format!("cat {path}; echo $WORD; ls /root /home 2>/dev/null; echo >{path}");
    let run =
        Run::new(&["exec", "--ro", &path, "--env", "WORD=given", "--", "/bin/sh", "-c", &script]);
    let done = run.env("SECRET_X", "hunter2").run().exits(2);
    assert_eq!(done.out(), "showngiven\n");
    let env = Run::new(&["exec", "--", "env"]).env("SECRET_X", "hunter2").run().exits(0);
    assert!(!env.out().contains("hunter2") && env.out().contains("HOME=/tmp"), "{env:?}");
}

// ---------------------------------------------------------------------------------------------------------
// Signals, and what is left.

/// Runs a marked sleep for as long as it may.
fn sleeper(mark: &str) -> Option<Function> {
    let code = r#"
        import subprocess

        def handler(event, context):
            subprocess.run(["/bin/sleep", "MARK"])
    "#;
    python(&code.replace("MARK", mark))
}

/// `kennel exec` of the same, with the mark nowhere in kennel's own arguments.
fn exec_sleeper(mark: &str) -> Option<Run> {
    let (whole, part) = mark.split_once('.').expect("a dot");
    let script = format!("sleep {whole}.$0; exit 3");
    sandboxes().then(|| Run::new(&["exec", "--", "/bin/sh", "-c", &script, part]))
}

#[test]
fn ctrl_c_ends_invoke_and_leaves_nothing() {
    let mark = mark();
    let Some(function) = sleeper(&mark) else { return };
    for (signal, to_group, code) in [
        (Signal::SIGINT, true, 130),
        (Signal::SIGINT, false, 130),
        (Signal::SIGTERM, false, 143),
        (Signal::SIGHUP, true, 129),
    ] {
        let live = function.invoke().args(&["--timeout", "300"]).start();
        let kennel = live.pid();
        let traces = Traces::of(&mark, || children(kennel).first().copied());
        let tmp = live.tmp().display().to_string();
        assert!(!names(live.tmp()).is_empty(), "the unpacked tree is there meanwhile");
        if to_group {
            live.signal_group(signal)
        } else {
            live.signal(signal)
        }
        let done = live.wait().exits(code);
        traces.are_gone();
        assert!(common::mounts_with(&tmp).is_empty());
        assert!(done.stdout.is_empty(), "{done:?}");
    }
}

#[test]
fn ctrl_c_ends_exec_and_leaves_nothing() {
    for (signal, to_group, code) in [(Signal::SIGINT, true, 130), (Signal::SIGTERM, false, 143)] {
        let mark = mark();
        let Some(run) = exec_sleeper(&mark) else { return };
        let live = run.start();
        let kennel = live.pid();
        let traces = Traces::of(&mark, || Some(kennel));
        if to_group {
            live.signal_group(signal)
        } else {
            live.signal(signal)
        }
        live.wait().exits(code);
        traces.are_gone();
    }
}

#[test]
fn sigkill_to_invoke_leaves_nothing() {
    let mark = mark();
    let Some(function) = sleeper(&mark) else { return };
    let live = function.invoke().args(&["--timeout", "300"]).start();
    let kennel = live.pid();
    let traces = Traces::of(&mark, || children(kennel).first().copied());
    let tmp = live.tmp().to_path_buf();
    live.signal(Signal::SIGKILL);
    let (done, folder) = live.wait_untidy();
    assert_eq!(done.signal, Some(9));
    // The launcher sees that its server is gone, and removes everything.
    wait_for("the launcher to clean up", Duration::from_secs(10), || {
        (traces.left().is_empty() && names(&tmp).is_empty()).then_some(())
    });
    drop(folder);
}

#[test]
fn sigkill_to_the_launcher_ends_the_sandbox_and_is_told() {
    let mark = mark();
    let Some(function) = sleeper(&mark) else { return };
    let live = function.invoke().args(&["--timeout", "300"]).start();
    let kennel = live.pid();
    let traces = Traces::of(&mark, || children(kennel).first().copied());
    let launcher = children(kennel)[0];
    nix::sys::signal::kill(common::pid(launcher), Signal::SIGKILL).unwrap();
    let (done, folder) = live.wait_untidy();
    let done = done.exits(3);
    assert!(done.err().contains("Error: the launcher process is gone\n"), "{done:?}");
    wait_for("the sandbox's processes to die", Duration::from_secs(10), || {
        common::processes_with(&mark).is_empty().then_some(())
    });
    drop((traces, folder));
}

#[test]
fn sigkill_to_everything_leaves_groups_only_until_the_next_start() {
    let mark = mark();
    let Some(function) = sleeper(&mark) else { return };
    let live = function.invoke().args(&["--timeout", "300"]).start();
    let kennel = live.pid();
    let traces = Traces::of(&mark, || children(kennel).first().copied());
    live.signal_group(Signal::SIGKILL);
    let (done, folder) = live.wait_untidy();
    assert_eq!(done.signal, Some(9));
    wait_for("the sandbox's processes to die", Duration::from_secs(10), || {
        common::processes_with(&mark).is_empty().then_some(())
    });
    Run::new(&["exec", "--", "true"]).run().exits(0);
    wait_for("the groups to be swept", Duration::from_secs(10), || {
        traces.left_groups().is_empty().then_some(())
    });
    drop(folder);
}

#[test]
fn sigkill_to_exec_leaves_groups_only_until_the_next_start() {
    let mark = mark();
    let Some(run) = exec_sleeper(&mark) else { return };
    let live = run.start();
    let kennel = live.pid();
    let traces = Traces::of(&mark, || Some(kennel));
    live.signal(Signal::SIGKILL);
    let (done, _folder) = live.wait_untidy();
    assert_eq!(done.signal, Some(9));
    wait_for("the sandbox's processes to die", Duration::from_secs(10), || {
        common::processes_with(&mark).is_empty().then_some(())
    });
    Run::new(&["exec", "--", "true"]).run().exits(0);
    wait_for("the groups to be swept", Duration::from_secs(10), || {
        traces.left_groups().is_empty().then_some(())
    });
}

#[test]
fn a_sweep_spares_runs_that_live() {
    let mark = mark();
    let Some(function) = sleeper(&mark) else { return };
    let live = function.invoke().args(&["--timeout", "300"]).start();
    let kennel = live.pid();
    let traces = Traces::of(&mark, || children(kennel).first().copied());
    Run::new(&["exec", "--", "true"]).run().exits(0);
    assert!(!common::processes_with(&mark).is_empty(), "another start ended a live run");
    assert!(!traces.left_groups().is_empty(), "another start took a live run's groups");
    live.signal(Signal::SIGTERM);
    live.wait().exits(143);
    traces.are_gone();
}

#[test]
fn a_run_leaves_no_loop_device_mount_group_or_process() {
    let mark = mark();
    let code = r#"
        import subprocess, time

        def handler(event, context):
            sleep = subprocess.Popen(["/bin/sleep", "MARK"])
            while not open("/tmp/go", "a+").tell():
                if sleep.poll() is not None:
                    raise RuntimeError("asleep no more")
                time.sleep(0.05)
                open("/tmp/go", "a").write(".")
            time.sleep(2)
            return "done"
    "#;
    let Some(function) = python(&code.replace("MARK", &mark)) else { return };
    let live = function.invoke().start();
    let kennel = live.pid();
    let traces = Traces::of(&mark, || children(kennel).first().copied());
    let tmp = live.tmp().display().to_string();
    live.wait().exits(0);
    traces.are_gone();
    assert!(common::mounts_with(&tmp).is_empty());
}

#[test]
fn twenty_runs_at_once_do_not_disturb_one_another() {
    let Some(function) = python(
        r#"
        import os

        def handler(event, context):
            others = [p for p in os.listdir("/proc") if p.isdigit()]
            with open("/tmp/mine", "x") as file:
                file.write(str(event))
            return [event, open("/tmp/mine").read(), len(others), context.aws_request_id]
        "#,
    ) else {
        return;
    };
    let live: Vec<_> = (0..20)
        .map(|n| function.invoke().event(&n.to_string()).limit(Duration::from_secs(180)).start())
        .collect();
    let mut ids = Vec::new();
    for (n, live) in live.into_iter().enumerate() {
        let done = live.wait().exits(0);
        let result = done.json();
        assert_eq!(result[0], n);
        assert_eq!(result[1], n.to_string());
        assert_eq!(result[2], 1, "the function is the only process that it sees");
        assert_eq!(result[3], done.request_id());
        ids.push(done.request_id());
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 20);
}

#[test]
fn a_runtime_from_a_bootstrap_script_in_a_layer_works() {
    if !sandboxes() {
        return;
    }
    let script = dedent(
        r#"
        #!/bin/sh
        exit 5
        "#,
    );
    let script = script.trim_start().as_bytes();
    let files = folder();
    let path = files.path().join("layer.zip");
    fs::write(&path, zip(&[("bootstrap", script, 0o755)])).unwrap();
    let package = folder_with(&[("data.txt", "")]);
    let run = Run::new(&["invoke"]).path(package.path()).args(&[
        "--runtime",
        "provided.al2023",
        "--layer",
    ]);
    let done = run.path(&path).run();
    done.is_error("Runtime.ExitError", "Runtime exited with error: exit status 5");
}

#[test]
fn a_package_without_its_bootstrap_is_status_127() {
    if !sandboxes() {
        return;
    }
    let package = folder_with(&[("data.txt", "")]);
    let run = Run::new(&["invoke"]).path(package.path()).args(&["--runtime", "provided.al2023"]);
    run.run().is_error("Runtime.ExitError", "Runtime exited with error: exit status 127");
}

#[test]
fn runtimes_are_listed_for_people_and_programs() {
    let done = Run::new(&["runtimes"]).run().exits(0);
    assert!(done.out().lines().any(|l| l.starts_with("provided.al2023 ")), "{done:?}");
    let done = Run::new(&["runtimes", "--json"]).run().exits(0);
    let rows = done.json();
    let provided = rows.as_array().unwrap().iter().find(|r| r["runtime"] == "provided.al2023");
    assert_eq!(provided.unwrap()["status"], "yes");
    if python_runtime().is_none() {
        skip("no Python among the runtimes");
    }
}
