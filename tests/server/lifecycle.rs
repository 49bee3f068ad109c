//! A server's start and its end: what stays, what is refused, what is left behind.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};

use crate::common::{
    Traces, children, folder, groups_of, kennel, mark, mounts_with, names, pid, processes_with,
    sandboxes, skip, wait_for,
};
use crate::harness::{Answer, Call, Ended, Key, PATIENCE, Server, at_once, data_folder, serve};

const WHO: &str = r#"
    import time, uuid
    me = uuid.uuid4().hex

    def handler(event, context):
        time.sleep((event or {}).get("sleep", 0))
        return [me, context.function_version]
"#;

/// Runs a command that must end by itself.
#[track_caller]
fn refused(command: &mut Command) -> (Option<i32>, String) {
    let mut child =
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("kennel starts");
    let mut pipe = child.stderr.take().expect("a pipe");
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = pipe.read_to_string(&mut text);
        text
    });
    let status = wait_for("a refusal", PATIENCE, || child.try_wait().expect("a child"));
    (status.code(), reading.join().expect("a thread"))
}

// ---------------------------------------------------------------------------------------------------------
// Starts.

#[test]
fn a_restart_keeps_functions_and_events() {
    if !sandboxes() {
        return;
    }
    let (_folder, data) = data_folder();
    let server = Server::own(&data, &["--retry-delays", "4,1"]);
    let code = r#"
        def handler(event, context):
            print("attempt", context.aws_request_id)
            raise ValueError("again")
    "#;
    if !server.python("kept", WHO, &json!({ "Description": "words" })) {
        return;
    }
    server.publish("kept");
    server.update("kept", &format!("{WHO}    # second\n"));
    server.alias("kept", &json!({ "Name": "live", "FunctionVersion": "1" }));
    server.python("events", code, &json!({}));
    let event = [("x-amz-invocation-type", "Event")];
    let id = server.invoke_with("events", &json!({}), &event).is(202);
    let id = id.header("x-amzn-requestid").to_owned();
    wait_for("the first attempt", PATIENCE, || {
        (server.logged("events", "attempt").len() == 1).then_some(())
    });
    let list = |server: &Server| {
        let get = |target: &str| server.call("GET", target, &Value::Null).is(200).json();
        [
            get("/2015-03-31/functions/kept/configuration"),
            get("/2015-03-31/functions/kept/versions"),
            get("/2015-03-31/functions/kept/aliases"),
            get("/2015-03-31/functions"),
        ]
    };
    let (before, key) = (list(&server), server.key.clone());
    server.stop();

    let server = Server::own(&data, &["--retry-delays", "1,1"]);
    assert_eq!(server.key, key, "the same credentials");
    assert_eq!(list(&server), before);
    assert_eq!(server.result("kept:live", &json!({}))[1], "1");
    assert_eq!(server.result("kept", &json!({}))[1], "$LATEST");
    let seen = wait_for("all attempts", PATIENCE, || {
        let seen = server.logged("events", "attempt");
        (seen.len() >= 3).then_some(seen)
    });
    assert!(seen.iter().all(|m| m.trim_end() == format!("attempt {id}")), "{seen:?}");
    server.stop();
}

#[test]
fn a_second_server_on_the_same_data_refuses_and_harms_nobody() {
    if !sandboxes() {
        return;
    }
    let (_folder, data) = data_folder();
    let server = Server::own(&data, &[]);
    if !server.python("first", WHO, &json!({})) {
        return;
    }
    let before = server.result("first", &json!({}));
    let (code, text) = refused(&mut serve(&data));
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains(&server.pid().to_string()) && text.contains("data"), "{text}");
    assert_eq!(server.result("first", &json!({})), before, "its sandbox is still there");
    server.stop();
}

#[test]
fn a_damaged_store_is_refused_and_left_as_it_is() {
    if !sandboxes() {
        return;
    }
    let (_folder, data) = data_folder();
    let server = Server::own(&data, &[]);
    server.stop();
    let file = data.join("kennel.db");
    let whole = fs::read(&file).expect("a store");
    let garbled = [b"not a database at all", &whole[21..]].concat();
    let cut = whole[..whole.len() / 2].to_vec();
    for damaged in [garbled, cut] {
        fs::write(&file, &damaged).expect("a file");
        let (code, text) = refused(&mut serve(&data));
        assert_eq!(code, Some(3), "{text}");
        assert!(text.starts_with("Error: ") && text.contains("kennel.db"), "{text}");
        assert!(fs::read(&file).expect("a file") == damaged, "the file was changed");
    }
    fs::write(&file, &whole).expect("a file");
    Server::own(&data, &[]).stop();
}

/// One wrong value of the flags and one of the file stand for all that `config` refuses; it has a table of its own.
#[test]
fn what_a_server_cannot_be_given() {
    if !sandboxes() {
        return;
    }
    let files = folder();
    let config = files.path().join("kennel.toml");
    fs::write(&config, "colour = 'red'\n").expect("a file");
    let occupied = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let occupied = occupied.local_addr().expect("an address").to_string();
    let foreign = files.path().join("foreign");
    fs::create_dir(&foreign).expect("a folder");
    fs::write(foreign.join("of-root"), "").expect("a file");
    let data = files.path().join("data");
    let config = config.display().to_string();
    for (args, data, code, text) in [
        (vec!["--listen", "0.0.0.0:0"], &data, 2, "can be reached from other machines"),
        (vec!["--config", &config], &data, 2, "unknown field `colour`"),
        (vec!["--retry-delays", "1"], &data, 2, "wants two numbers"),
        (vec!["--listen", &occupied], &data, 3, "cannot listen on"),
        (vec!["--listen", "127.0.0.1:0"], &foreign, 3, "is not a data directory of Kennel's"),
    ] {
        let mut command = kennel();
        command.args(["serve", "--data"]).arg(data).args(&args);
        let (found, err) = refused(&mut command);
        assert_eq!(found, Some(code), "{args:?}: {err}");
        assert!(err.contains(text), "{args:?}: {err}");
    }
    assert_eq!(names(&foreign), ["of-root"]);
}

#[test]
fn keys_of_the_environment_are_not_written() {
    if !sandboxes() {
        return;
    }
    let (_folder, data) = data_folder();
    let mut command = serve(&data);
    command
        .env("KENNEL_ROOT_ACCESS_KEY_ID", "AKIDGIVEN")
        .env("KENNEL_ROOT_SECRET_ACCESS_KEY", "given");
    let server = Server::start(&mut command);
    assert!(!data.join("credentials").exists());
    let key = Key { id: "AKIDGIVEN".into(), secret: "given".into() };
    let list = || server.plain("GET", "/2015-03-31/functions");
    server.send(&list().signed(&key)).is(200);
    let wrong = Key { secret: "other".into(), ..key };
    server.send(&list().signed(&wrong)).is(403);
    server.stop();
}

#[test]
fn a_unix_socket_serves_and_goes_with_the_server() {
    if !sandboxes() {
        return;
    }
    let (folder, data) = data_folder();
    let socket = folder.path().join("kennel.sock");
    let listen = format!("unix:{}", socket.display());
    for _ in 0..2 {
        let mut command = kennel();
        command.args(["serve", "--listen", &listen, "--data"]).arg(&data);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let server = Server::start(&mut command);
        let mut stream = std::os::unix::net::UnixStream::connect(&socket).expect("it listens");
        let call = Call::new("GET", "/2015-03-31/functions", "localhost").signed(&server.key);
        stream.write_all(&call.bytes()).expect("a request");
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("an answer");
        Answer::parse(&bytes, "GET").is(200);
        server.stop();
        assert!(!socket.exists(), "the socket is left");
    }
}

#[test]
fn tls_with_a_certificate_of_ones_own() {
    if !sandboxes() {
        return;
    }
    let (folder, data) = data_folder();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (cert, key) = (at("cert.pem"), at("key.pem"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
        ])
        .args([
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-out",
            &cert,
            "-keyout",
            &key,
        ])
        .output();
    if !made.is_ok_and(|made| made.status.success()) {
        skip("no openssl to make a certificate with");
        return;
    }
    let mut command = kennel();
    command.args(["serve", "--listen", "0.0.0.0:0", "--tls-cert", &cert, "--tls-key", &key]);
    command.arg("--data").arg(&data);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let server = Server::start(&mut command);
    assert!(server.url.starts_with("https://"), "{}", server.url);
    let port = server.address.port();
    let call = Call::new("GET", "/2015-03-31/functions", &format!("localhost:{port}"));
    let answer = over_tls(port, &cert, &call.signed(&server.key));
    assert!(answer.clone().is(200).json()["Functions"].is_array(), "{answer:?}");
    // Who speaks without TLS, or not at all, stops nobody.
    let mut plain = std::net::TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    plain.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").expect("a request");
    let _silent = std::net::TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    let health = Call::new("GET", "/_kennel/health", "localhost");
    over_tls(port, &cert, &health).is(200);
    server.stop();
}

#[track_caller]
fn over_tls(port: u16, cert: &str, call: &Call) -> Answer {
    let mut client = Command::new("openssl")
        .args([
            "s_client",
            "-quiet",
            "-verify_return_error",
            "-CAfile",
            cert,
            "-servername",
            "localhost",
        ])
        .args(["-connect", &format!("127.0.0.1:{port}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl");
    let mut stdin = client.stdin.take().expect("a pipe");
    stdin.write_all(&call.bytes()).expect("a request");
    let mut bytes = Vec::new();
    client.stdout.take().expect("a pipe").read_to_end(&mut bytes).expect("an answer");
    drop(stdin);
    client.wait().expect("a child");
    Answer::parse(&bytes, &call.method)
}

// ---------------------------------------------------------------------------------------------------------
// Ends.

/// Leaves a process of its own that would run on.
fn lasting(mark: &str) -> String {
    format!(
        r#"
    import subprocess
    subprocess.Popen(["sleep", "{mark}"], start_new_session=True)

    def handler(event, context):
        return event
"#
    )
}

#[test]
fn sigterm_lets_what_runs_finish_and_leaves_nothing() {
    if !sandboxes() {
        return;
    }
    let (folder, data) = data_folder();
    let tmp = folder.path().join("tmp");
    fs::create_dir(&tmp).expect("a folder");
    let server = Server::start(serve(&data).env("TMPDIR", &tmp));
    let more = json!({ "MemorySize": 256 });
    if !server.python("running", WHO, &more) {
        return;
    }
    let mark = mark();
    server.python("lasting", &lasting(&mark), &more);
    server.result("lasting", &json!(1));
    let launcher = server.launcher();
    let traces = Traces::of(&mark, || Some(launcher));
    let data_text = fs::canonicalize(&data).expect("a path").display().to_string();
    let (answers, ended) = std::thread::scope(|scope| {
        // No request may need `server` any more, which its end takes.
        let calls: Vec<_> = (0..20)
            .map(|_| server.invocation("running", br#"{"sleep":7}"#, &[]).signed(&server.key))
            .map(|call| (server.connect(), call))
            .collect();
        let running: Vec<_> = calls
            .into_iter()
            .map(|(mut stream, call)| {
                scope.spawn(move || {
                    stream.write_all(&call.bytes()).expect("a request");
                    let mut bytes = Vec::new();
                    stream.read_to_end(&mut bytes).expect("an answer");
                    Answer::parse(&bytes, "POST")
                })
            })
            .collect();
        wait_for("20 running invocations", PATIENCE, || {
            server
                .metric("kennel_sandboxes{function=\"running\",state=\"busy\"}")
                .filter(|n| *n == 20.0)
        });
        let ended = server.stop();
        let answers: Vec<Answer> =
            running.into_iter().map(|r| r.join().expect("a thread")).collect();
        (answers, ended)
    });
    assert!(ended.took < Duration::from_secs(12), "{ended:?}");
    for answer in answers {
        let answer = answer.is(200);
        assert_eq!(answer.header("x-amz-function-error"), "", "{answer:?}");
    }
    traces.are_gone();
    assert_eq!(groups_of(launcher), Vec::<std::path::PathBuf>::new());
    assert_eq!(mounts_with(&data_text), Vec::<String>::new());
    assert_eq!(names(&tmp), Vec::<String>::new(), "left in TMPDIR");
    assert!(!Path::new(&format!("/proc/{launcher}")).exists());
}

/// Connections that asked nothing yet, or only began to, are not waited for.
#[test]
fn idle_connections_do_not_hold_up_the_end() {
    if !sandboxes() {
        return;
    }
    let (_folder, data) = data_folder();
    let server = Server::own(&data, &[]);
    let mut streams: Vec<_> = (0..30).map(|_| server.connect()).collect();
    for stream in streams.iter_mut().take(10) {
        stream.write_all(b"GET /_kennel/health HTTP/1.1\r\nHo").expect("half a head");
    }
    // They are accepted once a later one is answered.
    server.send(&server.plain("GET", "/_kennel/health")).is(200);
    let ended = server.stop();
    assert!(ended.took < Duration::from_secs(8), "{ended:?}");
}

#[test]
fn an_invocation_longer_than_the_drain_is_cut_short() {
    if !sandboxes() {
        return;
    }
    let (_folder, data) = data_folder();
    let server = Server::own(&data, &[]);
    if !server.python("long", WHO, &json!({ "Timeout": 60 })) {
        return;
    }
    let mut stream = server.connect();
    let call = server.invocation("long", br#"{"sleep":50}"#, &[]).signed(&server.key);
    stream.write_all(&call.bytes()).expect("a request");
    wait_for("a running invocation", PATIENCE, || {
        server.metric("kennel_sandboxes{function=\"long\",state=\"busy\"}").filter(|n| *n == 1.0)
    });
    let launcher = server.launcher();
    let Ended { took, .. } = server.stop();
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert!(!Path::new(&format!("/proc/{launcher}")).exists());
    assert_eq!(groups_of(launcher), Vec::<std::path::PathBuf>::new());
}

#[test]
fn what_a_killed_server_left_is_gone_after_the_next_start() {
    if !sandboxes() {
        return;
    }
    let (_folder, data) = data_folder();
    let server = Server::own(&data, &[]);
    let mark = mark();
    if !server.python("lasting", &lasting(&mark), &json!({})) {
        return;
    }
    server.result("lasting", &json!(1));
    let launcher = server.launcher();
    let traces = Traces::of(&mark, || Some(launcher));
    server.signal(Signal::SIGKILL);
    server.wait();
    wait_for("the end of the launcher", PATIENCE, || {
        (!Path::new(&format!("/proc/{launcher}")).exists()).then_some(())
    });
    let server = Server::own(&data, &[]);
    traces.are_gone();
    assert_eq!(server.result("lasting", &json!(2)), 2);
    server.stop();
    assert_eq!(processes_with(&mark), Vec::<u32>::new());
}

#[test]
fn a_server_without_its_launcher_ends_and_says_so() {
    if !sandboxes() {
        return;
    }
    let (_folder, data) = data_folder();
    let server = Server::own(&data, &[]);
    let mark = mark();
    if !server.python("lasting", &lasting(&mark), &json!({})) {
        return;
    }
    server.result("lasting", &json!(1));
    let launcher = server.launcher();
    kill(pid(launcher), Signal::SIGKILL).expect("a launcher");
    let ended = server.wait();
    // Not the host's fault: a supervisor may start it again.
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.stderr.contains("the launcher process has ended"), "{ended:?}");
    Server::own(&data, &[]).stop();
    wait_for("the end of its sandbox", PATIENCE, || processes_with(&mark).is_empty().then_some(()));
}

/// Every way to ask for an end is one.
#[test]
fn sigint_ends_it_as_well_and_a_second_signal_does_no_harm() {
    if !sandboxes() {
        return;
    }
    let (_folder, data) = data_folder();
    let server = Server::own(&data, &[]);
    let launcher = server.launcher();
    assert_eq!(children(server.pid()), [launcher]);
    let answers = at_once(4, |_| server.send(&server.plain("GET", "/_kennel/health")).status);
    assert_eq!(answers, [200; 4]);
    server.signal(Signal::SIGINT);
    let _ = kill(pid(server.pid()), Signal::SIGTERM);
    let ended = server.wait();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert!(!Path::new(&format!("/proc/{launcher}")).exists());
}
