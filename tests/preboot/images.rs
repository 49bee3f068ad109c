//! Sandboxes that go on from an image of their function's booted runtime: walls, what two of them share and what not,
//! and that a Python notices nothing of it.
//!
//! Needs root, an x86-64 processor and a Python; the table of probes a C compiler.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};

use crate::common::probes::{self, Targets};
use crate::common::server::{Boot, SOON, Server, name_of, runtimes};
use crate::common::{self, EXECUTABLE, children, skip, wait_for, zip};
use crate::launcher::{Door, number_of};
use crate::walls::rows_hold;
use crate::{REGULAR, claimed_programs, memory_limit, package, status};

/// A Python for functions, where images can be made of it; else the reason is printed.
fn python() -> Option<&'static str> {
    if !kennel::sys::snapshot::IS_SUPPORTED {
        skip("images are for x86-64 alone");
        return None;
    }
    crate::python()
}

/// Evaluates the event's expressions, and ends after it has answered: each event gets a sandbox of its own.
const ONCE: &str = r#"
    import errno, os, subprocess, sys, threading, time

    def read(path):
        with open(path, "rb") as file:
            return file.read().decode("latin-1")

    def run(code):
        scope = {}
        exec(code, scope)
        return scope["answer"]

    def handler(event, context):
        answers = []
        for expression in event["ask"]:
            try:
                answers.append(eval(expression))
            except OSError as error:
                answers.append(errno.errorcode.get(error.errno, str(error)))
        if not event.get("stay"):
            threading.Timer(0.3, os._exit, [0]).start()
        return answers
"#;

/// With it what ends after its answer comes to do so, and each event is a cold start. No room for more than wait anyway: what
/// is up and spare goes before an image.
const THAWED: [&str; 4] = ["--freeze-ms", "60000", "--preboot-mb", "16"];

#[track_caller]
fn once(server: &Server, name: &str, expressions: &[&str]) -> Vec<Value> {
    let answers = server.invoke(name, &json!({ "ask": expressions }));
    std::thread::sleep(Duration::from_millis(450));
    answers.as_array().unwrap().clone()
}

fn images(server: &Server) -> usize {
    server.log().matches("an image of its runtime was made").count()
}

/// Starts a function until it has an image.
#[track_caller]
fn earn_image(server: &Server, name: &str) {
    let before = images(server);
    for _ in 0..4 {
        once(server, name, &["1"]);
    }
    wait_for("an image", SOON, || {
        let log = server.log();
        assert!(!log.contains("no image of its runtime"), "{log}");
        (images(server) > before).then_some(())
    });
    std::thread::sleep(Duration::from_millis(50));
}

/// A server, and a function on it that has an image.
#[track_caller]
fn with_image(runtime: &str, flags: &[&str], more: Value) -> Server {
    let flags: Vec<&str> = THAWED.iter().chain(flags).copied().collect();
    let server = Server::start(&flags);
    server.create("f", runtime, &package(ONCE), more);
    earn_image(&server, "f");
    server
}

#[track_caller]
fn last_was_restored(server: &Server, name: &str) {
    assert_eq!(server.boots(name).last(), Some(&Boot::Image), "{}", server.log());
}

/// The same in a sandbox of its own kind that is not restored: one of a `/tmp` of another size is made in full.
const FULL: u32 = 513;

/// What a program can see of how it was started, and what works in it; the same in every kind of sandbox.
const NOTICED: &[&str] = &[
    "sys.executable",
    "sys.argv",
    "sys.path",
    "repr(sys.flags)",
    "sys.getrecursionlimit()",
    "repr((sys.stdin.encoding, sys.stdout.encoding, sys.getfilesystemencoding()))",
    "[sys.stdin.fileno(), sys.stdout.fileno(), sys.stderr.fileno()]",
    "os.getpid()",
    "os.getppid()",
    "os.getcwd()",
    "sorted(key for key in os.environ if 'LOG' not in key and 'TRACE' not in key)",
    "os.environ['MINE']",
    "'MINE=mine' in read('/proc/self/environ').split('\\0')",
    "'KENNEL' in ' '.join(os.environ)",
    "read('/proc/self/cmdline')",
    "read('/proc/self/comm')",
    "[line for line in read('/proc/self/status').split('\\n') if line[:3] in ('Sig', 'Cap', 'Sec', 'NoN', 'Uid')]",
    "read('/proc/self/limits')",
    "read('/proc/self/personality')",
    "[os.readlink('/proc/self/fd/%d' % n).split(':')[0] for n in (0, 1, 2)]",
    "oct(os.umask(18))",
    "time.tzname",
    "abs(time.time() - now) < 60",
    "run('import time; a = time.time(); time.sleep(0.01); answer = 0.009 < time.time() - a < 5')",
    "run('import signal; answer = [repr(signal.getsignal(n)) for n in (2, 13, 15, 25)]').__len__()",
    "run('import signal; answer = signal.getsignal(signal.SIGINT) is signal.default_int_handler')",
    "subprocess.check_output(['/bin/echo', 'hello']).decode()",
    "run('import threading; answer = []; t = threading.Thread(target=answer.append, args=(1,)); t.start(); t.join()')",
    "threading.current_thread().name",
    "INTERRUPT()",
    "TERMINATED()",
    "PIPE()",
    "FORKED()",
    "MULTI()",
    "TRACEBACK()",
    "DEEP()",
    "BIG()",
    "run('import json; answer = json.loads(json.dumps({\"a\": [1, 2.5, None]}))')",
    "run('import sqlite3; answer = sqlite3.connect(\":memory:\").execute(\"select 6 * 7\").fetchone()[0]')",
    "run('import ssl; ssl.create_default_context(); answer = 1')",
    "run('import hashlib; answer = hashlib.sha256(b\"x\").hexdigest()')",
    "run('import ctypes; answer = ctypes.CDLL(None).getpid()')",
    "BREAK()",
    "run('import asyncio; answer = 1') if sys.version_info > (3,) else 1",
    "run('import decimal; answer = str(decimal.Decimal(1) / 3)')",
    "run('import tempfile; f = tempfile.TemporaryFile(); f.write(b\"x\"); answer = f.tell()')",
    "run('import socket; answer = socket.gethostname()')",
    "run('import os; answer = os.strerror(2)')",
    "run('import locale; answer = locale.setlocale(locale.LC_ALL)')",
];

/// What [`NOTICED`] calls.
const HELPERS: &str = r#"
import gc, signal
now = 0

def INTERRUPT():
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
    except KeyboardInterrupt:
        return "interrupted"

def TERMINATED():
    got = []
    signal.signal(signal.SIGTERM, lambda number, frame: got.append(number))
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.01)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return got

def PIPE():
    read, write = os.pipe()
    os.close(read)
    try:
        os.write(write, b"x")
    finally:
        os.close(write)

def FORKED():
    child = os.fork()
    if not child:
        os._exit(7)
    return os.waitpid(child, 0)[1] >> 8

def MULTI():
    import multiprocessing
    get = getattr(multiprocessing, "get_context", lambda kind: multiprocessing)("fork")
    process = get.Process(target=os._exit, args=(9,))
    process.start()
    process.join()
    return process.exitcode

def TRACEBACK():
    import traceback
    try:
        {}["x"]
    except KeyError:
        return traceback.format_exc().split("\n")[-2]

def DEEP():
    import ctypes

    class Large(ctypes.Structure):
        _fields_ = [("bytes", ctypes.c_char * (2 << 20))]
    function = ctypes.CDLL(None).getpid  # its argument goes by the stack
    function.argtypes = [Large]
    return function(Large())

def BIG():
    kept = [bytearray(1 << 20) for _ in range(100)]
    kept.append(bytearray(100 << 20))
    small = [str(n) * 10 for n in range(200000)]
    del kept
    gc.collect()
    return len(small)

def BREAK():
    import ctypes
    library = ctypes.CDLL(None)
    library.sbrk.restype = ctypes.c_void_p
    library.malloc.restype = ctypes.c_void_p
    library.malloc.argtypes = library.free.argtypes = [ctypes.c_size_t]
    before = library.sbrk(0)
    grown = library.sbrk(1 << 20)
    ctypes.memset(grown, 1, 1 << 20)
    blocks = [library.malloc(100000) for _ in range(200)]
    for block in blocks:
        ctypes.memset(block, 2, 100000)
    for block in blocks:
        library.free(block)
    return [before == grown, library.sbrk(0) > before, all(blocks)]
"#;

/// The package of [`ONCE`], [`HELPERS`] at its side.
fn once_package() -> Vec<u8> {
    let code = format!("{}\nfrom helpers import *\n", common::dedent(ONCE));
    let helpers = format!("import os, sys, time\n{HELPERS}");
    zip(&[("app.py", code.as_bytes(), REGULAR), ("helpers.py", helpers.as_bytes(), REGULAR)])
}

#[test]
fn every_python_of_this_host_goes_on_from_an_image_and_notices_nothing() {
    if python().is_none() {
        return;
    }
    for runtime in runtimes("python") {
        let server = Server::start(&THAWED);
        let more = |size: u32| {
            let variables = json!({ "Variables": { "MINE": "mine", "TZ": "Asia/Tokyo" } });
            json!({ "Environment": variables, "MemorySize": 512, "EphemeralStorage": { "Size": size } })
        };
        server.create("f", &runtime, &once_package(), more(512));
        server.create("full", &runtime, &once_package(), more(FULL));
        earn_image(&server, "f");
        let now = format!("globals().__setitem__('now', {}.0)", jiff::Timestamp::now().as_second());
        let questions: Vec<&str> =
            [now.as_str()].into_iter().chain(NOTICED.iter().copied()).collect();
        let restored = once(&server, "f", &questions);
        last_was_restored(&server, "f");
        let full = once(&server, "full", &questions);
        let mut wrong = Vec::new();
        for ((question, restored), full) in questions.iter().zip(&restored).zip(&full) {
            let text = restored.to_string().replace("\"f\"", "\"full\"");
            let full = full.to_string();
            if text != full {
                wrong.push(format!("{question}: {restored}, in full {full}"));
            }
        }
        assert!(wrong.is_empty(), "{runtime}:\n{}", wrong.join("\n"));
        let answer = |of: &str| &restored[questions.iter().position(|q| *q == of).unwrap()];
        for (question, wanted) in [
            ("os.getpid()", json!(2)),
            ("read('/proc/self/personality')", json!("00000000\n")),
            ("INTERRUPT()", json!("interrupted")),
            ("TERMINATED()", json!([15])),
            ("PIPE()", json!("EPIPE")),
            ("FORKED()", json!(7)),
            ("MULTI()", json!(9)),
            ("DEEP()", json!(2)),
            ("BIG()", json!(200_000)),
            ("BREAK()", json!([true, true, true])),
            ("abs(time.time() - now) < 60", json!(true)),
        ] {
            assert_eq!(*answer(question), wanted, "{runtime}: {question}");
        }
    }
}

/// What must differ between any two processes, restored from one image or not.
const UNIQUE: &[&str] = &[
    "read('/proc/sys/kernel/random/uuid') and os.urandom(16).hex()",
    "run('import uuid; answer = str(uuid.uuid4())')",
    "run('import random; answer = random.random()')",
    "run('import random; answer = random.SystemRandom().random()')",
    "run('import secrets; answer = secrets.token_hex(16)')",
    "run('import ssl; answer = ssl.RAND_bytes(16).hex()')",
    "run('import tempfile; answer = next(tempfile._get_candidate_names())')",
    // Where new mappings go.
    "ADDRESS()",
    // Where those of a child are.
    "subprocess.check_output(['/bin/sh', '-c', 'read line </proc/self/maps; echo $line']).decode()",
];

/// What one image fixes, and no other has.
const FIXED: &[&str] = &["hash('kennel')", "GUARD(0x28)", "GUARD(0x30)", "id(object)", "id(None)"];

const SECRETS: &str = r#"
import ctypes, mmap

def GUARD(offset):
    library = ctypes.CDLL(None)
    library.pthread_self.restype = ctypes.c_void_p
    return ctypes.string_at(library.pthread_self() + offset, 8).hex()

def ADDRESS():
    memory = mmap.mmap(-1, 64 << 20)
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))
"#;

#[test]
fn two_from_one_image_differ_in_all_that_is_random_and_two_images_in_what_they_fix() {
    let Some(runtime) = python() else { return };
    let code = format!("{}\n{SECRETS}", common::dedent(ONCE));
    let package = zip(&[("app.py", code.as_bytes(), REGULAR)]);
    let server = Server::start(&THAWED);
    let questions: Vec<&str> = UNIQUE.iter().chain(FIXED).copied().collect();
    let mut all: Vec<Vec<Value>> = Vec::new();
    for name in ["f", "g"] {
        server.create(name, runtime, &package, json!({ "MemorySize": 512 }));
        earn_image(&server, name);
        for _ in 0..3 {
            all.push(once(&server, name, &questions));
            last_was_restored(&server, name);
        }
    }
    for (at, question) in questions.iter().enumerate() {
        let distinct: BTreeSet<String> = all.iter().map(|run| run[at].to_string()).collect();
        let wanted = if at < UNIQUE.len() { all.len() } else { 2 };
        assert_eq!(distinct.len(), wanted, "{question}: {distinct:?}");
    }
}

/// The memory files of a process.
fn memory_files(pid: u32) -> Vec<PathBuf> {
    let folder = format!("/proc/{pid}/fd");
    let names = common::names(Path::new(&folder)).into_iter();
    let files = names.map(|fd| Path::new(&folder).join(fd));
    let is_one = |path: &PathBuf| {
        fs::read_link(path).is_ok_and(|to| to.to_string_lossy().starts_with("/memfd:kennel-image"))
    };
    files.filter(is_one).collect()
}

#[test]
fn an_image_holds_nothing_of_a_function_and_goes_with_it() {
    let Some(runtime) = python() else { return };
    let secret = "vErYsEcReTvAlUe0815";
    let more = json!({ "Environment": { "Variables": { "SECRET": secret } } });
    let server = with_image(runtime, &[], more);
    let answers = once(&server, "f", &["os.environ['SECRET']"]);
    last_was_restored(&server, "f");
    assert_eq!(answers, [secret]);
    let files = memory_files(server.launcher());
    assert_eq!(files.len(), 1);
    let bytes = fs::read(&files[0]).unwrap();
    let name = "AWS_LAMBDA_FUNCTION_NAME";
    assert!(common::find(&bytes, b"KENNEL_PREBOOT=1").is_some(), "its own environment is there");
    for absent in [secret, "globals().__setitem__", "def handler", "app.handler"] {
        assert_eq!(common::find(&bytes, absent.as_bytes()), None, "{absent}");
    }
    assert!(common::find(&bytes, format!("{name}=f").as_bytes()).is_none());
    // Nobody changes it any more, root included.
    assert!(
        fs::OpenOptions::new()
            .write(true)
            .open(&files[0])
            .and_then(|mut file| { std::io::Write::write_all(&mut file, b"x") })
            .is_err()
    );
    server.ask("DELETE", "/2015-03-31/functions/f", &Value::Null);
    let dropped = || memory_files(server.launcher()).is_empty().then_some(());
    wait_for("the image to go", SOON, dropped);
}

#[test]
fn a_changed_function_gets_an_image_of_its_own() {
    let Some(runtime) = python() else { return };
    let server = with_image(runtime, &[], json!({}));
    once(&server, "f", &["1"]);
    last_was_restored(&server, "f");
    let change = json!({ "Environment": { "Variables": { "NEW": "1" } } });
    server.ask("PUT", "/2015-03-31/functions/f/configuration", &change);
    wait_for("the change", SOON, || {
        let path = "/2015-03-31/functions/f/configuration";
        (server.ask("GET", path, &Value::Null)["LastUpdateStatus"] == "Successful").then_some(())
    });
    wait_for("the image to go", SOON, || memory_files(server.launcher()).is_empty().then_some(()));
    once(&server, "f", &["1"]);
    assert_ne!(server.boots("f").last(), Some(&Boot::Image));
    earn_image(&server, "f");
    assert_eq!(once(&server, "f", &["os.environ['NEW']"]), ["1"]);
    last_was_restored(&server, "f");
}

#[test]
fn a_restored_function_reaches_no_image_and_no_wall_is_missing() {
    let Some(runtime) = python() else { return };
    let server = with_image(runtime, &[], json!({ "MemorySize": 1769 }));
    let answers = server.invoke("f", &json!({ "stay": true, "ask": [
        "open('/proc/self/exe', 'r+b').write(b'x')",
        "os.open('/proc/self/exe', os.O_WRONLY)",
        "os.open('/proc/self/exe', os.O_RDONLY | os.O_TRUNC)",
        "os.truncate('/proc/self/exe', 0)",
        "os.chmod('/proc/self/exe', 0o777)",
        "sorted(os.readlink('/proc/self/fd/' + n).split(':')[0] for n in os.listdir('/proc/self/fd') if n > '2')",
        "[line for line in read('/proc/self/maps').split('\\n') if line.startswith('00200000')]",
        "subprocess.check_output(['/bin/sh', '-c', 'cat /proc/self/personality; ulimit -s']).decode()",
    ] }));
    last_was_restored(&server, "f");
    let answers = answers.as_array().unwrap();
    for answer in &answers[..5] {
        let denied = ["ETXTBSY", "EACCES", "EPERM", "EROFS"];
        assert!(denied.contains(&answer.as_str().unwrap_or_default()), "{answers:?}");
    }
    // The folder that is listed, and the socket.
    assert!(answers[5].to_string().matches("memfd").count() == 0, "{answers:?}");
    assert_eq!(answers[6], json!([]), "the restorer is still there");
    assert!(answers[7].as_str().unwrap().starts_with("00000000\n8192"), "{answers:?}");
    let program = claimed_programs(&server)[0];
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(status(program, set), "0000000000000000", "{set}");
    }
    assert_eq!(status(program, "NoNewPrivs:"), "1");
    assert_eq!(status(program, "Seccomp:"), "2");
    assert_eq!(status(program, "Groups:"), "");
    assert_eq!(status(program, "TracerPid:"), "0");
    assert_eq!(memory_limit(program), Some(1769 << 20));
    let metrics = server.metrics();
    assert!(metrics.contains("kennel_starts_total{boot=\"image\",reason=\"\"} 1"), "{metrics}");
}

#[test]
fn every_row_of_the_table_holds_in_a_restored_sandbox() {
    let Some(runtime) = python() else { return };
    let folder = tempfile::Builder::new().prefix("kennel-probes-").tempdir_in("/var/tmp").unwrap();
    let Some(probe) = probes::build(folder.path()) else { return };
    let code = format!("{}{}", common::dedent(ONCE), common::dedent("
        def probe(arguments):
            done = subprocess.run(['/var/task/probe'] + arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL, timeout=60)
            return done.stdout.decode('latin-1')
    "));
    let package = zip(&[
        ("app.py", code.as_bytes(), REGULAR),
        ("probe", &fs::read(probe).unwrap(), EXECUTABLE),
    ]);
    let server = Server::start(&THAWED);
    let more = json!({ "Timeout": 900, "MemorySize": 1769 });
    server.create("probes", runtime, &package, more);
    earn_image(&server, "probes");
    let targets = Targets::new(folder.path());
    let rows = probes::table();
    let asked: Vec<String> = rows
        .iter()
        .map(|row| std::iter::once(row.probe.clone()).chain(targets.fill(&row.args)).collect())
        .map(|words: Vec<String>| format!("probe({})", json!(words)))
        .collect();
    let outputs = server.invoke("probes", &json!({ "stay": true, "ask": asked }));
    last_was_restored(&server, "probes");
    rows_hold(&server, &rows, &outputs);
}

#[test]
fn an_image_that_does_not_start_is_nobodys_failure() {
    let Some(runtime) = python() else { return };
    let server = with_image(runtime, &[], json!({}));
    let door = Door::of(&server);
    // Behind the server's back, while it asks for nothing.
    std::thread::sleep(Duration::from_secs(2));
    for image in 0..50 {
        door.forget(image);
    }
    drop(door);
    assert!(memory_files(server.launcher()).is_empty());
    assert_eq!(once(&server, "f", &["6 * 7"]), [42]);
    assert!(server.log().contains("an image did not start"), "{}", server.log());
    assert_ne!(server.boots("f").last(), Some(&Boot::Image));
    // Nor is one that dies on its way.
    server.create("g", runtime, &package(ONCE), json!({}));
    earn_image(&server, "g");
    let launcher = common::pid(server.launcher());
    server.wait_for_held(1);
    kill(launcher, Signal::SIGSTOP).unwrap();
    let answer = std::thread::scope(|scope| {
        let run = scope.spawn(|| once(&server, "g", &["6 * 7"]));
        std::thread::sleep(Duration::from_millis(500));
        for victim in server.held() {
            kill(common::pid(victim), Signal::SIGKILL).unwrap();
        }
        kill(launcher, Signal::SIGCONT).unwrap();
        run.join().unwrap()
    });
    assert_eq!(answer, [42]);
    assert_ne!(server.boots("g").last(), Some(&Boot::Image));
}

#[test]
fn a_server_that_was_taken_over_gets_no_image_of_a_function() {
    let Some(runtime) = python() else { return };
    let server = with_image(runtime, &[], json!({}));
    server.invoke("f", &json!({ "ask": ["1"], "stay": true }));
    last_was_restored(&server, "f");
    let claimed = number_of(claimed_programs(&server)[0]);
    server.wait_for_held(1);
    let held = number_of(server.held()[0]);
    let door = Door::of(&server);
    let has_it = "the sandbox has its code already, or was not made to wait for it";
    let is_held =
        "what the sandbox is to run was decided when it was made, or must be said with the claim";
    assert_eq!(door.refuses_image(claimed, 90_001), has_it);
    assert_eq!(door.refuses_image(held, 90_001), is_held);
    assert_eq!(door.refuses_image(77_777, 90_001), "no sandbox `77777`");
}

#[test]
fn a_killed_server_leaves_nothing_of_an_image_that_is_made() {
    let Some(runtime) = python() else { return };
    let server = Server::start(&THAWED);
    server.create("f", runtime, &package(ONCE), json!({}));
    for _ in 0..3 {
        once(&server, "f", &["1"]);
    }
    let launcher = server.launcher();
    let imager = || children(launcher).into_iter().find(|pid| name_of(*pid) == "kennel-imager");
    let imager = std::thread::scope(|scope| {
        let run = scope.spawn(|| server.invoke("f", &json!({ "ask": ["time.sleep(0.3)"] })));
        let began = std::time::Instant::now();
        let found = loop {
            match imager() {
                Some(pid) => break pid,
                None if began.elapsed() > SOON => panic!("no image is made: {}", server.log()),
                None => std::thread::sleep(Duration::from_micros(200)),
            }
        };
        // It waits for the program to stop, or writes.
        kill(common::pid(found), Signal::SIGSTOP).unwrap();
        run.join().unwrap();
        found
    });
    let family: Vec<u32> = children(launcher).into_iter().flat_map(children).collect();
    assert!(!family.is_empty());
    server.signal(Signal::SIGKILL);
    let gone = |pid: u32| name_of(pid).is_empty();
    wait_for("the end of all", SOON, || {
        (gone(launcher) && gone(imager) && family.iter().all(|pid| gone(*pid))).then_some(())
    });
}

#[test]
fn none_is_made_where_none_is_wanted_or_where_the_start_needs_its_environment() {
    let Some(runtime) = python() else { return };
    let variables = json!({ "Environment": { "Variables": { "PYTHONHASHSEED": "7" } } });
    for (flags, more) in [
        (vec!["--images-mb", "0"], json!({})),
        (vec!["--preboot", "0"], json!({})),
        (vec![], variables),
        (vec![], json!({ "EphemeralStorage": { "Size": FULL } })),
    ] {
        let flags: Vec<&str> = THAWED.iter().copied().chain(flags).collect();
        let server = Server::start(&flags);
        server.create("f", runtime, &package(ONCE), more.clone());
        for _ in 0..6 {
            once(&server, "f", &["1"]);
        }
        std::thread::sleep(Duration::from_millis(500));
        assert!(!server.log().contains("image"), "{flags:?} {more}: {}", server.log());
        if flags.contains(&"--images-mb") {
            let waiting = number_of(server.wait_for_waiting("python", 1)[0]);
            std::thread::sleep(Duration::from_secs(2)); // it asks for nothing then
            let why = Door::of(&server).refuses_image(waiting, 90_001);
            assert_eq!(why, "images take 0 bytes, of the 0 that they may");
        }
    }
}
