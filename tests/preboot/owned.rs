//! A claimed sandbox is one function's, and as if it had been made for it; which functions need theirs made.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::server::{Boot, SOON, Server, runtime};
use crate::common::{self, EXECUTABLE, sandboxes, skip, wait_for, zip};
use crate::{
    EVALUATE, REGULAR, ask, claimed_programs, control_file, cpu_limit, evaluating, memory_limit,
    new_program, package, python, server_with_waiting, status,
};

#[test]
fn the_environment_is_the_functions_alone() {
    let Some(runtime) = python() else { return };
    let server = server_with_waiting(runtime, &["--preboot", "1"], 1);
    let variables = json!({ "MINE": "ü \" \\ ✓", "EMPTY": "", "PATH": "/bin:/usr/bin" });
    let environment = json!({ "Environment": { "Variables": variables } });
    server.create("claimed", runtime, &evaluating(), environment.clone());
    let mut more = environment;
    more["EphemeralStorage"] = json!({ "Size": 513 });
    server.create("booted", runtime, &evaluating(), more);
    let questions = [
        "dict(os.environ)",
        "read('/proc/self/environ')",
        "dict(l.split('=', 1) for l in subprocess.check_output(['env', '-0']).decode().split('\\0') if l)",
        "read('/proc/%d/environ' % subprocess.Popen(['sleep', '5']).pid)",
    ];
    let claimed = ask(&server, "claimed", &questions);
    let booted = ask(&server, "booted", &questions);
    server.was_claimed("claimed");
    assert_eq!(server.boots("booted"), [Boot::Full("/tmp of 513 MB is not the usual one".into())]);
    let variables_of = |answer: &Value| -> BTreeMap<String, String> {
        let differs =
            ["_X_AMZN_TRACE_ID", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_LAMBDA_LOG_GROUP_NAME"];
        let all = answer.as_object().unwrap().iter();
        all.filter(|(key, _)| !differs.contains(&key.as_str()))
            .map(|(key, value)| (key.clone(), value.as_str().unwrap().replace("booted", "claimed")))
            .collect()
    };
    // To the last variable what a function finds whose process was started for it, in Python and in what it starts.
    for question in [0, 2] {
        assert_eq!(variables_of(&claimed[question]), variables_of(&booted[question]));
    }
    let names: Vec<&String> = claimed[0].as_object().unwrap().keys().collect();
    let own: Vec<&String> = names.into_iter().filter(|n| n.starts_with("KENNEL_")).collect();
    assert!(own.is_empty(), "what is Kennel's own is not the function's: {own:?}");
    assert_eq!(claimed[0]["MINE"], "ü \" \\ ✓");
    assert_eq!(claimed[0]["AWS_LAMBDA_FUNCTION_NAME"], "claimed");

    // What the kernel remembers of the start: nothing of the function, nothing of the server, nothing secret.
    let kept = claimed[1].as_str().unwrap();
    let kept: BTreeSet<&str> = kept.split('\0').filter(|v| !v.is_empty()).collect();
    let wanted = [
        "AWS_LAMBDA_RUNTIME_API=127.0.0.1:9001",
        "HOME=/tmp",
        "KENNEL_PREBOOT=1",
        "KENNEL_RUNTIME_API_SOCKET=/run/kennel/runtime.sock",
        "LAMBDA_RUNTIME_DIR=/var/runtime",
        "LANG=en_US.UTF-8",
        "LD_LIBRARY_PATH=/var/task:/var/task/lib:/opt/lib",
        "PATH=/usr/local/bin:/usr/bin:/bin:/opt/bin",
        "TZ=:UTC",
    ];
    assert_eq!(kept, wanted.into());
}

#[test]
fn a_claim_is_answered_once_and_never_to_a_function() {
    let Some(runtime) = python() else { return };
    let server = server_with_waiting(runtime, &["--preboot", "1"], 1);
    // As the code is loaded, too: the earliest that a function can ask.
    let code = common::dedent(EVALUATE) + "\nEARLY = claim('/run/kennel/runtime.sock')\n";
    let package = zip(&[("app.py", code.as_bytes(), REGULAR)]);
    let secret = json!({ "Variables": { "SECRET": "hush" } });
    server.create("claimed", runtime, &package, json!({ "Environment": secret }));
    let full = json!({ "EphemeralStorage": { "Size": 513 }, "Environment": secret });
    server.create("booted", runtime, &package, full);
    for function in ["claimed", "booted"] {
        let asked = ["EARLY", "claim('/run/kennel/runtime.sock')", "claim(['127.0.0.1', 9001])"];
        assert_eq!(ask(&server, function, &asked), ["404", "404", "404"], "{function}");
        // And does no harm to what follows.
        let many = ["[claim('/run/kennel/runtime.sock') for _ in range(100)] == ['404'] * 100"];
        assert_eq!(ask(&server, function, &many), [true], "{function}");
        assert_eq!(ask(&server, function, &["1"]), [1], "{function}");
    }
    server.was_claimed("claimed");
    assert!(matches!(server.boots("booted")[..], [Boot::Full(_)]), "{:?}", server.boots("booted"));
}

#[test]
fn a_function_cannot_ask_for_a_start_ahead() {
    let Some(runtime) = python() else { return };
    let server = Server::start(&["--preboot", "0"]);
    let more = json!({ "Environment": { "Variables": { "KENNEL_PREBOOT": "1" } } });
    server.create("f", runtime, &evaluating(), more);
    assert_eq!(ask(&server, "f", &["6 * 7"]), [42]);
}

#[test]
fn no_two_functions_ever_have_the_same_sandbox() {
    let Some(runtime) = python() else { return };
    let server = server_with_waiting(runtime, &["--preboot", "4"], 4);
    let names: Vec<String> = (0..8).map(|i| format!("f{i}")).collect();
    for (index, name) in names.iter().enumerate() {
        let more = json!({ "Environment": { "Variables": { "WHO": name } }, "MemorySize": 128 + 64 * index });
        server.create(name, runtime, &evaluating(), more);
    }
    let questions = [
        "os.environ['WHO']",
        "os.environ['AWS_LAMBDA_FUNCTION_MEMORY_SIZE']",
        "[os.readlink('/proc/self/ns/' + n) for n in ('mnt', 'net', 'pid', 'ipc', 'uts', 'user', 'cgroup')]",
        // Its /tmp is empty, then holds what this one wrote; and there it stays.
        "os.listdir('/tmp')",
        "write('/tmp/who', os.environ['WHO'])",
        "os.statvfs('/tmp').f_blocks * os.statvfs('/tmp').f_frsize >> 20",
        "time.sleep(1)",
    ];
    // All at once: more than wait.
    let answers: Vec<Vec<Value>> = std::thread::scope(|scope| {
        let runs: Vec<_> = names
            .iter()
            .map(|name| {
                let (server, questions) = (&server, &questions);
                scope.spawn(move || ask(server, name, questions))
            })
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    let mut namespaces = BTreeSet::new();
    for (index, (name, answer)) in names.iter().zip(&answers).enumerate() {
        assert_eq!(answer[0], **name, "the environment of another");
        assert_eq!(answer[1], (128 + 64 * index).to_string());
        let mine: Vec<&str> =
            answer[2].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert_eq!(mine.len(), 7);
        for one in mine {
            assert!(namespaces.insert(one.to_owned()), "{name}: {one} is another's too");
        }
        assert_eq!(answer[3], json!([]), "{name}: /tmp is not empty");
        assert!(answer[5].as_u64().is_some_and(|mib| (400..=512).contains(&mib)), "{}", answer[5]);
        assert_eq!(
            ask(&server, name, &["read('/tmp/who')", "os.listdir('/tmp')"]),
            [json!(name), json!(["who"])]
        );
    }
    let ahead = names.iter().filter(|n| server.boots(n) == [Boot::Ahead]).count();
    assert!(ahead >= 3, "{ahead} of {} were claimed\n{}", names.len(), server.log());
    // Seen from outside: all that live, waiting ones included.
    let programs = server.programs();
    let uids: BTreeSet<String> = programs.iter().map(|pid| status(*pid, "Uid:")).collect();
    assert!(programs.len() >= 8);
    assert_eq!(uids.len(), programs.len(), "two share a uid");
    // Nobody's other function is ever put into one that was claimed.
    let of_one = claimed_programs(&server);
    server.create("later", runtime, &evaluating(), json!({}));
    assert_eq!(ask(&server, "later", &["os.listdir('/tmp')"]), [json!([])]);
    let now = claimed_programs(&server);
    assert_eq!(now.len(), of_one.len() + 1, "a sandbox of its own");
}

#[test]
fn memory_and_cpu_are_the_functions_after_a_claim() {
    let Some(runtime) = python() else { return };
    let server = server_with_waiting(runtime, &["--preboot", "1"], 1);
    for (name, memory) in [("least", 128), ("middle", 512), ("most", 3008)] {
        let before = server.programs();
        server.create(name, runtime, &evaluating(), json!({ "MemorySize": memory }));
        server.wait_for_waiting("python", 1);
        let before: Vec<u32> =
            before.into_iter().filter(|p| claimed_programs(&server).contains(p)).collect();
        assert_eq!(
            ask(&server, name, &["os.environ['AWS_LAMBDA_FUNCTION_MEMORY_SIZE']"]),
            [memory.to_string()]
        );
        server.was_claimed(name);
        let program = new_program(&server, &before);
        assert_eq!(memory_limit(program), Some(memory << 20), "{name}");
        let swap =
            control_file(program, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max");
        let swap = swap.as_deref().map(|s| s.parse::<u64>().unwrap());
        assert!(swap.is_none_or(|s| s == memory << 20 || s == 0), "{name}: {swap:?}");
        let share = cpu_limit(program).unwrap();
        assert!(share.abs_diff(memory * 1000 / 1769) <= 1, "{name}: {share} thousandths");
        let frozen = || {
            control_file(program, "-", "-", "cgroup.events").is_some_and(|e| e.contains("frozen 1"))
        };
        wait_for("it to be frozen", SOON, || frozen().then_some(()));
    }
    // What it may use it gets, and no more.
    assert_eq!(
        ask(&server, "middle", &["hold(400)", "len(HELD[0]) >> 20"]),
        [json!("OK"), json!(400)]
    );
    let killed = server.try_invoke("middle", &json!({ "ask": ["hold(200)"] })).unwrap_err();
    let text = killed["errorMessage"].as_str().unwrap_or_default();
    assert!(text.contains("exited") || text.contains("killed"), "{killed}");
    let killed = server.try_invoke("least", &json!({ "ask": ["hold(128)"] })).unwrap_err();
    assert!(killed["errorType"].as_str().is_some_and(|t| t.starts_with("Runtime.")), "{killed}");
    // Nobody else was hurt.
    assert_eq!(ask(&server, "most", &["hold(600)"]), ["OK"]);
    assert_eq!(server.boots("most").len(), 1, "it lived on");
}

#[test]
fn a_big_function_loads_with_all_its_cores() {
    let Some(runtime) = python() else { return };
    let server = server_with_waiting(runtime, &["--preboot", "1"], 1);
    let code = "import time\ntime.sleep(3)\ndef handler(event, context):\n    return 1\n";
    for (memory, cores) in [(128, 1000), (10_240, 5788)] {
        let name = format!("f{memory}");
        let before = claimed_programs(&server);
        server.create(&name, runtime, &package(code), json!({ "MemorySize": memory }));
        server.wait_for_waiting("python", 1);
        std::thread::scope(|scope| {
            let run = scope.spawn(|| server.invoke(&name, &json!({})));
            let share = wait_for("its code to load", SOON, || {
                let loads =
                    claimed_programs(&server).into_iter().find(|pid| !before.contains(pid))?;
                std::thread::sleep(Duration::from_millis(300));
                cpu_limit(loads)
            });
            assert_eq!(share, cores, "{memory} MB");
            run.join().unwrap();
        });
        server.was_claimed(&name);
    }
}

#[test]
fn the_log_begins_with_its_function() {
    let Some(runtime) = python() else { return };
    let server = server_with_waiting(runtime, &["--preboot", "1"], 1);
    // Its id is in the log of its own sandbox alone.
    for name in ["one", "two"] {
        let code = format!(
            "print('loading {name}')\ndef handler(e, c):\n    print('handling {name}')\n    return 1\n"
        );
        server.create(name, runtime, &package(&code), json!({}));
        server.wait_for_waiting("python", 1);
        server.invoke(name, &json!({}));
        server.was_claimed(name);
    }
    let mut logs = Vec::new();
    collect(&server.folder().join("data/logs"), &mut logs);
    for (name, other) in [("one", "two"), ("two", "one")] {
        let (mine, others) = (format!("loading {name}"), other.to_owned());
        let log = logs.iter().find(|l| l.contains(&mine)).unwrap_or_else(|| panic!("{logs:?}"));
        assert!(log.contains(&format!("handling {name}")), "{log}");
        assert!(!log.contains(&format!("ing {others}")), "{log}");
    }
}

fn collect(folder: &Path, texts: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, texts);
        } else {
            texts.push(String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned());
        }
    }
}

#[test]
fn libraries_of_the_package_and_of_layers_are_found_by_name() {
    let Some(runtime) = python() else { return };
    let folder = common::folder();
    let library = |name: &str, answer: u8| {
        let out = folder.path().join(name);
        let source = folder.path().join(format!("{name}.c"));
        fs::write(&source, format!("int answer(void) {{ return {answer}; }}\n")).unwrap();
        let built =
            Command::new("gcc").args(["-shared", "-fPIC", "-o"]).arg(&out).arg(&source).status();
        built.is_ok_and(|status| status.success()).then(|| fs::read(out).unwrap())
    };
    let (Some(top), Some(own), Some(layers)) =
        (library("libtop.so", 1), library("libown.so", 2), library("liblayer.so", 3))
    else {
        return skip("no library can be compiled (Debian: gcc, libc6-dev)");
    };
    let package = zip(&[
        ("app.py", common::dedent(EVALUATE).as_bytes(), REGULAR),
        ("libtop.so", &top, EXECUTABLE),
        ("lib/libown.so", &own, EXECUTABLE),
    ]);
    let server = server_with_waiting(runtime, &["--preboot", "1"], 1);
    let layer = server.layer("l", &zip(&[("lib/liblayer.so", &layers, EXECUTABLE)]));
    let questions = ["libtop.so", "libown.so", "liblayer.so"]
        .map(|name| format!("__import__('ctypes').CDLL('{name}').answer()"));
    let questions: Vec<&str> = questions.iter().map(String::as_str).collect();
    // The dynamic linker looks for its folders as the process starts, and never again for one that was not there.
    for (name, size) in [("booted", 513), ("claimed", 512)] {
        let more = json!({ "Layers": [layer], "EphemeralStorage": { "Size": size } });
        server.create(name, runtime, &package, more);
        assert_eq!(ask(&server, name, &questions), [1, 2, 3], "{name}");
    }
    server.was_claimed("claimed");
}

/// A package of the fixtures, without the setting that would have a host with ICU start it anew.
fn dotnet_package(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/fixtures/dotnet/{name}.zip", env!("CARGO_MANIFEST_DIR"));
    let mut archive = ::zip::ZipArchive::new(fs::File::open(path).unwrap()).unwrap();
    let mut files = Vec::new();
    for index in 0..archive.len() {
        let mut file = archive.by_index(index).unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        let name = file.name().unwrap().into_owned();
        if name.ends_with(".runtimeconfig.json") {
            let mut config: Value = serde_json::from_slice(&bytes).unwrap();
            config["runtimeOptions"].as_object_mut().unwrap().remove("configProperties");
            bytes = config.to_string().into();
        }
        files.push((name, bytes));
    }
    let files: Vec<(&str, &[u8], u32)> =
        files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice(), REGULAR)).collect();
    zip(&files)
}

#[test]
fn a_dotnet_function_is_loaded_or_starts_anew_in_the_sandbox_that_was_claimed() {
    if !sandboxes() {
        return;
    }
    let Some(runtime) = runtime("dotnet").filter(|name| !name.starts_with("dotnetcore")) else {
        return skip("no .NET for the function, or its bootstrap is not built");
    };
    let server = Server::start(&["--preboot", "1"]);
    let package = dotnet_package("class-handlers");
    let handler = |method: &str| format!("ClassHandlers::ClassHandlers.{method}");
    let variables = json!({ "Variables": { "MINE": "mine ✓", "EMPTY": "" } });
    let more =
        json!({ "Handler": handler("Function::Env"), "Environment": variables, "MemorySize": 256 });
    server.create("env", &runtime, &package, more);
    let waiting = server.wait_for_waiting("dotnet", 1)[0];
    // Made with the function's memory: the heap's size is among its variables.
    assert_eq!(memory_limit(waiting), Some(256 << 20));
    let command = |pid: u32| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    for (name, value) in [
        ("MINE", "mine ✓"),
        ("EMPTY", ""),
        ("AWS_LAMBDA_FUNCTION_NAME", "env"),
        ("KENNEL_PREBOOT", "(unset)"),
        ("KENNEL_RUNTIME_API_SOCKET", "(unset)"),
    ] {
        assert_eq!(server.invoke("env", &json!(name)), value, "{name}");
    }
    server.was_claimed("env");
    let mine = command(new_program(&server, &[]));
    assert!(!mine.contains("--depsfile"), "loaded into the process that waited: {mine}");
    let event = json!({ "Id": "o1", "Quantity": 3, "UnitPrice": 1.25 });
    let more = json!({ "Handler": handler("Function::Price"), "MemorySize": 256 });
    server.create("price", &runtime, &package, more);
    server.wait_for_waiting("dotnet", 1);
    assert_eq!(server.invoke("price", &event)["Total"], 3.75);
    server.was_claimed("price");

    // A program of its own is run, in the same sandbox, by the same process.
    let before = claimed_programs(&server);
    let more = json!({ "Handler": "ExeHandler", "MemorySize": 256 });
    server.create("own", &runtime, &dotnet_package("exe-handler"), more);
    server.wait_for_waiting("dotnet", 1);
    assert_eq!(server.invoke("own", &json!({ "a": 1 }))["echo"], json!({ "a": 1 }));
    server.was_claimed("own");
    let program = new_program(&server, &before);
    assert!(command(program).contains("/var/task/ExeHandler.dll"), "{}", command(program));

    for (key, value) in [("DOTNET_TieredCompilation", "0"), ("TZ", "Asia/Tokyo")] {
        let name = key.to_lowercase();
        let variables = json!({ "Variables": { key: value } });
        let more = json!({ "Handler": handler("Function::Env"), "Environment": variables, "MemorySize": 256 });
        server.create(&name, &runtime, &package, more);
        assert_eq!(server.invoke(&name, &json!(key)), value);
        let why = format!("{key} must be there when the process starts");
        server.started_its_runtime(&name, &why);
    }
}

#[test]
fn a_node_function_is_at_home_in_its_code() {
    if !sandboxes() {
        return;
    }
    let Some(runtime) = runtime("nodejs2") else { return skip("no Node.js for the function") };
    let code = "
        const fs = require('fs');
        const { execSync } = require('child_process');
        exports.handler = async () => [
          process.cwd(), fs.readFileSync('near.txt', 'utf8'), String(execSync('cat near.txt')),
          Object.keys(process.env).filter(name => name.startsWith('KENNEL_')), process.env.MINE,
          String(execSync('printenv MINE')).trim(), fs.readFileSync('/opt/far.txt', 'utf8'),
        ];
    ";
    let package = zip(&[
        ("index.js", common::dedent(code).as_bytes(), REGULAR),
        ("near.txt", b"near", REGULAR),
    ]);
    let server = Server::start(&["--preboot", "1"]);
    let layer = server.layer("l", &zip(&[("far.txt", b"far", REGULAR)]));
    let variables = json!({ "Variables": { "MINE": "mine" } });
    let more = json!({ "Handler": "index.handler", "Layers": [layer], "Environment": variables, "MemorySize": 256 });
    server.create("f", &runtime, &package, more);
    // Made with the function's memory: the heap's size is among the program's arguments.
    let waiting = server.wait_for_waiting("node", 1)[0];
    assert_eq!(memory_limit(waiting), Some(256 << 20));
    let wanted = json!(["/var/task", "near", "near", [], "mine", "mine", "far"]);
    assert_eq!(server.invoke("f", &json!({})), wanted);
    server.was_claimed("f");
    // Another size is of another kind.
    let more = json!({ "Handler": "index.handler", "MemorySize": 320 });
    let quick = zip(&[("index.js", b"exports.handler = async () => 1;", REGULAR)]);
    server.create("g", &runtime, &quick, more);
    let has = |memory: u64| {
        server.waiting("node").into_iter().any(|pid| memory_limit(pid) == Some(memory << 20))
    };
    wait_for("one of its size", SOON, || has(320).then_some(()));
    std::thread::sleep(Duration::from_millis(150));
    server.invoke("g", &json!({}));
    server.was_claimed("g");
    let program = claimed_programs(&server);
    let sizes: BTreeSet<Option<u64>> = program.iter().map(|pid| memory_limit(*pid)).collect();
    assert_eq!(sizes, [Some(256 << 20), Some(320 << 20)].into());
    for (key, value) in [("NODE_OPTIONS", "--no-warnings"), ("TZ", "Asia/Tokyo")] {
        let name = key.to_lowercase();
        let more =
            json!({ "Handler": "index.handler", "Environment": { "Variables": { key: value } } });
        let code = format!(
            "const start = require('fs').readFileSync('/proc/self/environ', 'utf8').split('\\0');\n\
             exports.handler = async () => start.includes('{key}={value}');"
        );
        server.create(&name, &runtime, &zip(&[("index.js", code.as_bytes(), REGULAR)]), more);
        server.wait_for_held(1);
        assert_eq!(server.invoke(&name, &json!({})), true, "{key}");
        let why = format!("{key} must be there when the process starts");
        assert_eq!(server.boots(&name), [Boot::Held(why)]);
    }
}

#[test]
fn variables_that_must_be_there_at_the_start_are() {
    let Some(runtime) = python() else { return };
    let server = server_with_waiting(runtime, &["--preboot", "1"], 1);
    let package = zip(&[
        ("app.py", common::dedent(EVALUATE).as_bytes(), REGULAR),
        ("more/extra.py", b"NAME = 'extra'\n", REGULAR),
        ("wrap", b"#!/bin/sh\nexport WRAPPED=yes\nexec \"$@\"\n", EXECUTABLE),
    ]);
    let at_the_start = "must be there when the process starts";
    for (index, (key, value, why)) in [
        ("PYTHONPATH", "/var/task/more", format!("PYTHONPATH {at_the_start}")),
        ("PYTHONHASHSEED", "7", format!("PYTHONHASHSEED {at_the_start}")),
        ("LD_PRELOAD", "/var/task/none.so", format!("LD_PRELOAD {at_the_start}")),
        ("LD_LIBRARY_PATH", "/var/task/more", format!("LD_LIBRARY_PATH {at_the_start}")),
        ("LANG", "C.UTF-8", format!("LANG {at_the_start}")),
        (
            "AWS_LAMBDA_EXEC_WRAPPER",
            "/var/task/wrap",
            "AWS_LAMBDA_EXEC_WRAPPER starts the runtime".into(),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("f{index}");
        let more = json!({ "Environment": { "Variables": { key: value } } });
        server.create(&name, runtime, &package, more);
        server.wait_for_held(1);
        let given = format!("'{key}={value}' in read('/proc/self/environ').split('\\0')");
        let answers = ask(
            &server,
            &name,
            &[
                &given,
                "os.environ.get('WRAPPED')",
                "'/var/task/more' in __import__('sys').path",
                "hash('kennel')",
                "'KENNEL_PREBOOT' in read('/proc/self/environ')",
            ],
        );
        assert_eq!(server.boots(&name), [Boot::Held(why)], "{key}");
        assert_eq!(answers[0], true, "{key}: {answers:?}");
        assert_eq!(
            answers[1],
            if key == "AWS_LAMBDA_EXEC_WRAPPER" { json!("yes") } else { Value::Null }
        );
        assert_eq!(answers[2], key == "PYTHONPATH", "{key}");
        assert_eq!(answers[4], false, "{key}");
        if key == "PYTHONHASHSEED" {
            let again = Command::new("python3")
                .env(key, value)
                .args(["-c", "print(hash('kennel'))"])
                .output();
            if let Ok(again) = again {
                let wanted = String::from_utf8_lossy(&again.stdout).trim().to_owned();
                assert_eq!(answers[3].to_string(), wanted, "it was read before the first line");
            }
        }
    }
    let more = json!({ "EphemeralStorage": { "Size": 1024 } });
    server.create("roomy", runtime, &package, more);
    let size = "os.statvfs('/tmp').f_blocks * os.statvfs('/tmp').f_frsize >> 20";
    let answer = ask(&server, "roomy", &[size]);
    assert!(answer[0].as_u64().is_some_and(|mib| (900..=1024).contains(&mib)), "{answer:?}");
    assert_eq!(server.boots("roomy"), [Boot::Full("/tmp of 1024 MB is not the usual one".into())]);
    // An ordinary one claims what waited all the while.
    server.create(
        "ordinary",
        runtime,
        &package,
        json!({ "Environment": { "Variables": { "TZ": "Asia/Tokyo" } } }),
    );
    server.wait_for_waiting("python", 1);
    assert_eq!(ask(&server, "ordinary", &["time.tzname[0]"]), ["JST"]);
    server.was_claimed("ordinary");
}
