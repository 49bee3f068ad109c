"""The bootstrap's tests: a table of cases, each run on every Node.js given that is new enough for it."""

import argparse
import base64
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from http.server import ThreadingHTTPServer
from pathlib import Path

HERE = Path(__file__).resolve().parent
BOOTSTRAP = HERE.parent / "bootstrap" / "bootstrap.js"
sys.path.insert(0, str(HERE.parent.parent / "testkit"))

import fake_runtime_api  # noqa: E402
from fake_runtime_api import FakeRuntime  # noqa: E402

# A bootstrap that is killed resets its connection; that is no news.
ThreadingHTTPServer.handle_error = lambda *_: None

ASYNC = (7, 6)  # async functions
IMPORT = (12, 17)  # import() without a flag
TOP_LEVEL_AWAIT = (14, 8)
# As runtime.toml has them, for a function of 128 MB.
FLAGS = ["--expose-gc", "--max-old-space-size=115", "--max-semi-space-size=6"]
CASES = []


class Node:
    def __init__(self, program):
        self.program = program
        text = subprocess.run([program, "--version"], stdout=subprocess.PIPE, check=True).stdout.decode()
        self.name = text.strip()
        self.version = tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def layered_import(version):
    """Whether the lookup of ES modules can be hooked into."""
    return (18, 19) <= version < (19,) or version >= (20, 6)


def case(since=(4,), files=None, handler="app.handler", **options):
    """One process for itself, on every version `since` that one or that it accepts. `files` is the package; text alone is app.js."""

    def register(test):
        CASES.append((test.__name__, since, {"app.js": files} if isinstance(files, str) else files, handler, options, test))
        return test

    return register


def needs_full_boot(options):
    """Whether the process has to have the function's environment when it starts."""
    return options.get("alone") or any(name.startswith("NODE_") for name in options.get("env", ()))


class Run:
    """A bootstrap at work in a package of its own; `ahead`: started before there is a function."""

    def __init__(self, node, files, handler, env=None, argv=None, tcp=False, modern=False, flags=None, ahead=False, **options):
        flags = (FLAGS if ahead or options.get("preboot") else []) if flags is None else flags
        self.node, self.folder = node, tempfile.mkdtemp(prefix="kennel-node-test-")
        for name, text in (files or {}).items():
            path = Path(self.folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        env = {name: value.replace("{folder}", self.folder) for name, value in (env or {}).items()}
        if tcp:
            env["KENNEL_RUNTIME_API_SOCKET"] = ""
        if modern:
            env["AWS_EXECUTION_ENV"] = "AWS_Lambda_nodejs24.x"
        argv = [node.program, *(flag.replace("{folder}", self.folder) for flag in flags), str(BOOTSTRAP)] if argv is None else argv(node)
        options.setdefault("runtime_dir", BOOTSTRAP.parent)
        if ahead:
            options.setdefault("preboot", "claimed")
        if "{folder}" in str(options["runtime_dir"]):
            options["runtime_dir"] = str(options["runtime_dir"]).replace("{folder}", self.folder)
        handler = handler.replace("{folder}", self.folder)
        self.fake = FakeRuntime(argv, self.folder, handler, env=env, timeout=20, **options)

    def __enter__(self):
        return self.fake.__enter__()

    def __exit__(self, *error):
        self.fake.__exit__(*error)
        shutil.rmtree(self.folder, ignore_errors=True)


def succeeds(rt, event=None, **options):
    answer = rt.invoke(event, **options)
    assert answer.kind == "response", (answer, rt.log())
    return answer.json()


def fails(answer, error_type, message=None):
    """Checks an error's whole shape and gives its trace."""
    assert answer.kind in ("error", "init/error"), answer
    shape = answer.json()
    assert sorted(shape) == ["errorMessage", "errorType", "trace"], shape
    assert shape["errorType"] == error_type, shape
    if message is not None:
        assert shape["errorMessage"] == message, shape
    assert isinstance(shape["trace"], list), shape
    assert answer.headers["lambda-runtime-function-error-type"] == error_type, answer.headers
    return shape["trace"]


def fails_to_start(rt, error_type, message=None):
    answer = rt.take()
    assert answer.kind == "init/error", answer
    trace = fails(answer, error_type, message)
    assert rt.wait_exit() == 129, rt.returncode
    assert "undefined\tERROR\tUncaught Exception \t{" in rt.log(), rt.log()
    return trace


# ---- One process for many invocations

# case in warm.js → result
RESULTS = [
    ("callback_nothing", None), ("callback_twice", "first"), ("callback_waits", "after the timer"),
    ("callback_waits_not", "at once"), ("stop", None), ("callback_then_throws", "answered"), ("succeed", "yes"),
    ("done", "done"), ("plain_return", None), ("returns_function", None), ("nothing", None), ("later", "later"),
    ("promise", {"promised": True}), ("promise_undefined", None), ("promise_pending", None),
    ("promise_waits_not", "at once"), ("stop", None), ("thenable", "thenable"), ("remember", "first"),
    ("too_late", "second"), ("kennel", []), ("argv", 2), ("much_output", "written"),
]
UNREADABLE = ("callback called with Error argument, but there was a problem while retrieving one or more of its "
              "message, name, and stack")
# case in warm.js → error type, message, first line of the trace
ERRORS = [
    ("callback_error", "RangeError", "too far", "RangeError: too far"),
    ("callback_text", "string", "plain text", None),
    ("callback_circular", "Error", "Unable to stringify response body", "Error: Unable to stringify response body"),
    ("done_error", "Error", "undone", "Error: undone"),
    ("fail", "TypeError", "no", "TypeError: no"),
    ("fail_nothing", "string", "handled", None),
    ("promise_rejected", "Error", "promised", "Error: promised"),
    ("promise_null", "string", "handled", None),
    ("promise_circular", "Error", "Unable to stringify response body", "Error: Unable to stringify response body"),
    ("throws", "Refused", "no%7F", None),
    ("throws_text", "string", "only text", None),
    ("throws_number", "number", "42", None),
    ("throws_null", "string", "handled", None),
    ("throws_object", "object", "[object Object]", None),
    ("throws_foreign", "TypeError", "foreign", None),
    ("throws_no_stack", "handled", UNREADABLE, None),
    ("throws_no_prototype", "handled", UNREADABLE, None),
]
WARM = {"warm.js": (HERE / "warm.js").read_text()}


@case(files=WARM, handler="warm.handler")
def results(rt, node):
    for name, result in RESULTS:
        begin = time.monotonic()
        got = succeeds(rt, {"case": name})
        assert got == result, (name, got)
        assert time.monotonic() - begin < 10, name
    assert "timer ran" in rt.log()
    assert rt.log().count("o" * 999 + "\n") == 1000 and "the end\n" in rt.log()


@case(files=WARM, handler="warm.handler")
def errors(rt, node):
    for name, error_type, message, first in ERRORS + ([
            ("bigint", "Error", "Unable to stringify response body", None)] if node.version >= (10, 4) else []):
        answer = rt.invoke({"case": name})
        try:
            trace = fails(answer, error_type, message)
            if first:
                assert trace[0] == first, trace
            if first and error_type not in ("Error",):
                assert re.match(r"    at .*warm\.js:\d+:\d+", trace[1]), trace
        except AssertionError as error:
            raise AssertionError(name) from error
    assert succeeds(rt, {"case": "callback", "value": 1}) == {"got": 1}
    assert '\tERROR\tInvoke Error \t{"errorType":"RangeError","errorMessage":"too far","stack":["RangeError: too far",' in rt.log(), rt.log()
    assert '\tERROR\tInvoke Error \t{"errorType":"Error","errorMessage":"handled","stack":["Error: handled"' in rt.log()


@case(files=WARM, handler="warm.handler", memory=256)
def context(rt, node):
    client, identity = {"custom": {"k": "Grüße"}}, {"cognitoIdentityId": "id"}
    request_id = rt.post({"case": "context"}, client_context=client, identity=identity, tenant="blue")
    got = rt.take().json()
    expected = {
        "callbackWaitsForEmptyEventLoop": True, "functionVersion": "$LATEST", "functionName": "fn",
        "memoryLimitInMB": "256", "logGroupName": "/aws/lambda/fn",
        "logStreamName": "2026/01/01/[$LATEST]0123456789abcdef0123456789abcdef", "clientContext": client,
        "identity": identity, "invokedFunctionArn": "arn:aws:lambda:us-east-1:000000000000:function:fn",
        "awsRequestId": request_id, "tenantId": "blue",
    }
    assert got["context"] == expected, got
    assert got["types"] == {"memory": "string", "remaining": "function"}, got
    assert 25000 < got["remaining"] <= 30000, got
    assert got["keys"] == ["callbackWaitsForEmptyEventLoop", "succeed", "fail", "done", "functionVersion", "functionName",
                           "memoryLimitInMB", "logGroupName", "logStreamName", "clientContext", "identity",
                           "invokedFunctionArn", "awsRequestId", "tenantId", "getRemainingTimeInMillis"], got
    got = succeeds(rt, {"case": "context"})
    assert not {"client", "identity", "tenant"} & set(got), got
    assert succeeds(rt, {"case": "trace"}, trace="Root=1-1;Sampled=1") == "Root=1-1;Sampled=1"
    assert succeeds(rt, {"case": "trace"}, trace="Root=2-2;Sampled=0") == "Root=2-2;Sampled=0"


@case(files=WARM, handler="warm.handler")
def payloads(rt, node):
    event = {"case": "echo", "text": "Grüße, 世界 \U0001f600 \u2028\0", "n": [1.5, None, True]}
    assert succeeds(rt, event) == event
    answer = rt.invoke(raw=b"{not json")
    fails(answer, "SyntaxError")
    assert succeeds(rt, {"case": "size", "text": "ä" * 3000000}) == 3000000
    answer = rt.invoke({"case": "large", "size": 6291556})
    assert answer.kind == "response" and len(answer.body) == 6291556, answer
    rt.post({"case": "large", "size": 6291557})
    answer = rt.take()
    assert answer.kind == "too-large", answer
    assert succeeds(rt, {"case": "callback", "value": "usable"}) == {"got": "usable"}
    requests = [path.split("/")[-1] for method, path in rt.requests if method == "POST"]
    assert requests[-3:] == ["response", "error", "response"], requests


@case(files=WARM, handler="warm.handler", tcp=True)
def over_tcp(rt, node):
    for value in range(3):
        assert succeeds(rt, {"case": "callback", "value": value}) == {"got": value}
    fails(rt.invoke({"case": "fail"}), "TypeError", "no")


# Without the binding of Unix sockets, which old versions of `net` need themselves, `net` does the same.
@case(since=(12,), files={**WARM, "preload.js": "process.binding = () => { throw new Error('none'); };"}, handler="warm.handler",
      flags=["--require", "{folder}/preload.js"])
def without_binding(rt, node):
    for value in range(3):
        assert succeeds(rt, {"case": "callback", "value": value}) == {"got": value}
    assert succeeds(rt, {"case": "size", "text": "ä" * 1000000}) == 1000000


@case(files=WARM, handler="warm.handler")
def logs(rt, node):
    request_id = rt.post({"case": "log"})
    assert rt.take().json() == [1, 2]
    log = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\t" + request_id, "TIME", rt.log())
    assert log == (
        "TIME\tINFO\tone formatted { a: 1 }\nTIME\tINFO\ttwo\nlines\nTIME\tWARN\twarned\nTIME\tERROR\terror\n"
        "TIME\tDEBUG\tdebugged\nTIME\tTRACE\ttraced\nTIME\tFATAL\tfatal\nTIME\tINFO\tundefined\n"
        "raw out\nraw err\n{ dir: true }\n"
    ), log


@case(files=WARM, handler="warm.handler", env={"AWS_LAMBDA_LOG_FORMAT": "JSON", "AWS_LAMBDA_LOG_LEVEL": "WARN"})
def logs_from_a_level_on(rt, node):
    request_id = rt.post({"case": "log"}, tenant="blue")
    rt.take()
    records = [json.loads(line) for line in rt.log().splitlines() if line.startswith("{\"")]
    assert [record["level"] for record in records] == ["WARN", "ERROR", "FATAL"], records
    assert re.match(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$", records[0].pop("timestamp"))
    assert records[0] == {"level": "WARN", "requestId": request_id, "tenantId": "blue", "message": "warned"}, records[0]
    fails(rt.invoke({"case": "fail"}), "TypeError")
    record = json.loads(rt.log().splitlines()[-1])
    assert record["message"]["errorType"] == "TypeError" and record["message"]["errorMessage"] == "no", record
    assert record["message"]["stackTrace"][0] == "TypeError: no", record


@case(files="""
exports.handler = (event, context, callback) => {
  console.log({ a: 1 });
  console.log('sum %d', 3, new RangeError('far'));
  const circle = {}; circle.circle = circle;
  console.log(circle);
  callback();
};""", env={"AWS_LAMBDA_LOG_FORMAT": "json"})
def logs_as_json(rt, node):
    succeeds(rt)
    one, two, three = [json.loads(line) for line in rt.log().splitlines()]
    assert one["message"] == {"a": 1} and one["level"] == "INFO", one
    assert two["message"].startswith("sum 3 ") and two["errorType"] == "RangeError" and two["errorMessage"] == "far", two
    assert two["stackTrace"][0] == "RangeError: far", two
    assert "ircular" in three["message"], three


ERROR_RECORDS = """
class Refused extends Error { constructor(text) { super(text); this.code = 7; } }
exports.handler = (event, context, callback) => {
  console.error(new Refused('first\\nsecond'));
  console.error(new RangeError('far'), 'and more');
  console.info('a\\n\\u2028b', { deep: { er: [1] } });
  console.info({ inner: new RangeError('inside') });
  console.info(undefined);
  console.info(null, 1);
  callback();
};
console.warn('at init');"""


@case(since=(6,), files="'use strict';" + ERROR_RECORDS, env={"AWS_LAMBDA_LOG_FORMAT": "JSON"})
def logs_of_errors_as_json(rt, node):
    request_id = rt.post({})
    rt.take()
    lines = rt.log().split("\n")
    assert lines.pop() == "" and len(lines) == 7, lines  # one record, one line
    init, refused, far, text, inner, nothing, null = [json.loads(line) for line in lines]
    assert init["message"] == "at init" and "requestId" not in init, init
    assert list(refused) == ["timestamp", "level", "requestId", "message"] and refused["requestId"] == request_id, refused
    assert (refused["level"], refused["message"]["errorType"], refused["message"]["errorMessage"], refused["message"]["code"]) == (
        "ERROR", "Refused", "first\nsecond", 7), refused
    assert refused["message"]["stackTrace"][1] == "second", refused
    assert (far["errorType"], far["errorMessage"]) == ("RangeError", "far") and "and more" in far["message"], far
    assert text["message"].startswith("a\n\u2028b ") and "errorType" not in text, text
    assert inner["message"]["inner"]["errorType"] == "RangeError", inner
    assert "message" not in nothing and null["message"] == "null 1", (nothing, null)


@case(since=ASYNC, files="'use strict';" + ERROR_RECORDS.replace(", callback) =>", ") =>").replace("callback();", ""),
      modern=True, env={"AWS_LAMBDA_LOG_FORMAT": "JSON"})
def logs_of_errors_as_json_24(rt, node):
    succeeds(rt)
    init, refused, far = [json.loads(line) for line in rt.log().splitlines()[:3]]
    assert init["requestId"] == "-" and refused["message"]["errorType"] == "Refused" and "errorType" not in far, (init, far)


LEVELS = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"]
for level in LEVELS + ["trace", "verbose"]:
    def logs_at(rt, node, level=level):
        rt.invoke()
        seen = LEVELS[LEVELS.index(level.upper()):] if level.upper() in LEVELS else LEVELS
        assert [line.split("\t")[2] for line in rt.log().splitlines()] == seen, rt.log()

    logs_at.__name__ = "logs_at_" + level
    case(files="exports.handler = (e, c, cb) => { ['trace', 'debug', 'info', 'warn', 'error', 'fatal'].forEach(n => console[n](n)); cb(); };",
         env={"AWS_LAMBDA_LOG_LEVEL": level, "AWS_LAMBDA_LOG_FORMAT": "Text"})(logs_at)


# An error that ends the invocation is logged like any other: not at all at level FATAL, as on AWS.
@case(files="exports.handler = () => { throw new Error('no'); };", env={"AWS_LAMBDA_LOG_LEVEL": "FATAL", "AWS_LAMBDA_LOG_FORMAT": "JSON"})
def logs_no_errors_at_fatal(rt, node):
    fails(rt.invoke(), "Error", "no")
    assert rt.log() == "", rt.log()


# A pipe that is full and does not block, as some child process may leave it: nothing may be lost or overtaken.
@case(files="""'use strict';
const net = require('net');
exports.handler = (event, context) => {
  new net.Socket({ fd: 1, readable: false, writable: true }).unref();
  for (let i = 0; i < 400; i++) console.log(i + ' ' + new Array(1000).join('o'));
  process.stderr.write('the end\\n');
  context.succeed('written');
};""", argv=lambda node: ["bash", "-c", "'%s' '%s' 2>&1 | { sleep 0.3; exec cat; }" % (node.program, BOOTSTRAP)])
def logs_into_a_slow_pipe(rt, node):
    assert succeeds(rt) == "written"
    end = time.monotonic() + 5
    while "the end\n" not in rt.log() and time.monotonic() < end:
        time.sleep(0.02)
    numbers = re.findall(r"INFO\t(\d+) o{999}\n", rt.log())
    assert numbers == [str(i) for i in range(400)], numbers[-3:]
    assert rt.log().endswith("the end\n")


# ---- Finding and loading the handler

OK = "exports.handler = (e, c, cb) => cb(null, 'ok');"
for name, files, handler in [
    ("nested_export", {"app.js": "exports.a = {b: {c: (e, c, cb) => cb(null, 'ok')}};"}, "app.a.b.c"),
    ("in_a_folder", {"src/lib/app.js": OK}, "src/lib/app.handler"),
    ("absolute_path", {"src/app.js": OK}, "{folder}/src/app.handler"),
    ("folder_beside_file", {"app/other.js": "throw 1", "app.js": OK}, "app.handler"),
    ("folder_with_index", {"app/index.js": OK}, "app.handler"),
    ("file_without_extension", {"app": OK}, "app.handler"),
    ("common_js_extension", {"app.cjs": OK}, "app.handler"),
    ("from_a_package", {"node_modules/dep/index.js": OK}, "dep.handler"),
    ("own_dependency", {"node_modules/dep/index.js": OK, "app.js": "exports.handler = require('dep').handler;"}, "app.handler"),
    ("own_folder_by_module_path", {"app.js": "exports.handler = require('lib/dep').handler;", "lib/dep.js": OK}, "app.handler"),
    ("thenable_exports", {"app.js": OK + "exports.then = () => { throw 1 };"}, "app.handler"),
]:
    def loads(rt, node):
        assert succeeds(rt) == "ok"

    loads.__name__ = "load_" + name
    case(files=files, handler=handler)(loads)

SYNTAX = "exports.handler = (event => {\n  return 1;\n"
for name, files, handler, error_type, message in [
    ("no_dot", OK, "app", "Runtime.MalformedHandlerName", "Bad handler"),
    ("dots", OK, "../app.handler", "Runtime.MalformedHandlerName",
     "'../app.handler' is not a valid handler name. Use absolute paths when specifying root directories in handler names."),
    ("undefined", OK, "app.other", "Runtime.HandlerNotFound", "app.other is undefined or not exported"),
    ("nested_undefined", OK, "app.a.b", "Runtime.HandlerNotFound", "app.a.b is undefined or not exported"),
    ("no_function", "exports.handler = 42;", "app.handler", "Runtime.HandlerNotFound", "app.handler is not a function"),
    ("missing", OK, "other.handler", "Runtime.ImportModuleError", "Error: Cannot find module 'other'"),
    ("missing_dependency", "require('nowhere');", "app.handler", "Runtime.ImportModuleError", "Error: Cannot find module 'nowhere'"),
    ("syntax", SYNTAX, "app.handler", "Runtime.UserCodeSyntaxError", "SyntaxError: "),
    ("throws", "'use strict'; class Odd extends Error { get name() { return 'Odd'; } }\nthrow new Odd('at load');", "app.handler", "Odd", "at load"),
    ("throws_text", "throw 'text';", "app.handler", "string", "text"),
    ("streaming_kind", "exports.handler = () => {}; exports.handler[Symbol.for('aws.lambda.runtime.handler.streaming')] = 'request';",
     "app.handler", "Runtime.MalformedStreamingHandler", "Only response streaming is supported."),
]:
    def refuses(rt, node, error_type=error_type, message=message):
        answer = rt.take()
        trace = fails(answer, error_type)
        shape = answer.json()
        assert shape["errorMessage"].startswith(message), shape
        if error_type != "string":
            assert ("\n".join(trace)).startswith("%s: %s" % (error_type, shape["errorMessage"])), trace
        if error_type == "Runtime.UserCodeSyntaxError" and node.version >= (6,):
            assert any("app.js:" in line for line in trace), trace
        assert rt.wait_exit() == 129, rt.returncode
        assert "undefined\tERROR\tUncaught Exception \t{" in rt.log(), rt.log()

    refuses.__name__ = "refuse_" + name
    case(files=files, handler=handler)(refuses)


@case(files="setTimeout(() => { throw new RangeError('early'); }, 0);\nexports.handler = () => {};\n"
            "exports.handler = (e, c, cb) => setTimeout(() => cb(null, 'late'), 5000);")
def throws_before_the_answer(rt, node):
    fails(rt.invoke(), "RangeError", "early")
    assert rt.wait_exit() == 129


# ---- The end of the process

@case(files="exports.handler = () => { console.log('last words'); process.exit(7); };")
def exit_in_handler(rt, node):
    assert rt.invoke().kind == "exit"
    assert rt.returncode == 7 and "last words" in rt.log()


@case(files="process.exit(3);")
def exit_at_load(rt, node):
    assert rt.take().kind == "exit" and rt.returncode == 3


@case(files="exports.handler = (event, context) => { context.succeed(new Array(event.size - 1).join('x')); process.exit(0); };")
def exit_behind_an_answer(rt, node):
    answer = rt.invoke({"size": 6000000})
    assert answer.kind == "response" and len(answer.body) == 6000000
    assert rt.wait_exit() == 0


@case(files="exports.handler = () => { setTimeout(() => { throw new TypeError('uncaught'); }, 5); };")
def uncaught_exception(rt, node):
    trace = fails(rt.invoke(), "TypeError", "uncaught")
    assert trace[0] == "TypeError: uncaught", trace
    assert rt.wait_exit() == 129
    assert '\tERROR\tUncaught Exception \t{"errorType":"TypeError"' in rt.log(), rt.log()


@case(files="exports.handler = () => { Promise.reject(new TypeError('unhandled')); };")
def unhandled_rejection(rt, node):
    trace = fails(rt.invoke(), "Runtime.UnhandledPromiseRejection", "TypeError: unhandled")
    assert trace[0] == "Runtime.UnhandledPromiseRejection: TypeError: unhandled", trace
    assert rt.wait_exit() == 128
    assert '\tERROR\tUnhandled Promise Rejection \t{"errorType":"Runtime.UnhandledPromiseRejection"' in rt.log(), rt.log()


@case(files="exports.handler = () => { Promise.reject(); };")
def unhandled_rejection_of_nothing(rt, node):
    fails(rt.invoke(), "Runtime.UnhandledPromiseRejection", "undefined")
    assert rt.wait_exit() == 128


# ---- The environment

@case(files="exports.handler = (e, c, cb) => cb(null, {path: process.env.NODE_PATH, dep: require('dep')});",
      env={"AWS_EXECUTION_ENV": "AWS_Lambda_nodejs18.x"}, runtime_dir="{folder}/runtime")
def module_path(rt, node):
    os.makedirs(rt.runtime_dir + "/node_modules")
    Path(rt.runtime_dir, "node_modules", "dep.js").write_text("module.exports = 'from the runtime';")
    assert succeeds(rt) == {"dep": "from the runtime", "path": ":".join([
        "/opt/nodejs/node18/node_modules", "/opt/nodejs/node_modules", rt.runtime_dir + "/node_modules", rt.runtime_dir,
        rt.task_root])}


@case(files="exports.handler = (e, c, cb) => cb(null, process.env.NODE_PATH);", env={"NODE_PATH": "/elsewhere"})
def module_path_of_the_function(rt, node):
    assert succeeds(rt) == "/elsewhere"


@case(files="exports.handler = (e, c, cb) => cb(null, [typeof awslambda, process.env.ONE, require('child_process')"
            ".execFileSync(process.execPath, ['-p', 'Object.keys(process.env).filter(n => /KENNEL/.test(n)).length + process.env.ONE']).toString()]);",
      env={"ONE": "1", "KENNEL_OTHER": "x", "AWS_LAMBDA_NODEJS_NO_GLOBAL_AWSLAMBDA": "true"})
def environment(rt, node):
    assert succeeds(rt) == ["undefined", "1", "01\n"]


@case(files=WARM, handler="warm.handler", flags=FLAGS)
def memory_flags(rt, node):
    assert succeeds(rt, {"case": "gc"}) == "function"


# ---- async functions

@case(since=ASYNC, files="exports.handler = async (event, context) => { await null; return {got: event, left: context.getRemainingTimeInMillis() > 0}; };")
def async_handler(rt, node):
    assert succeeds(rt, [1]) == {"got": [1], "left": True}
    assert succeeds(rt, [2]) == {"got": [2], "left": True}


@case(since=ASYNC, files="exports.handler = async event => { if (event.bad) throw Object.assign(new Error('async'), {code: 'E_BAD'}); return 'fine'; };")
def async_error(rt, node):
    trace = fails(rt.invoke({"bad": 1}), "Error", "async")
    assert trace[0] == "Error: async", trace
    assert '"errorMessage":"async","code":"E_BAD","stack":["Error: async"' in rt.log(), rt.log()
    assert succeeds(rt, {}) == "fine"


@case(since=ASYNC, files="exports.handler = async () => { Promise.reject(new Error('beside')); await new Promise(r => setTimeout(r, 5000)); };")
def async_unhandled_rejection(rt, node):
    fails(rt.invoke(), "Runtime.UnhandledPromiseRejection", "Error: beside")
    assert rt.wait_exit() == 128


# A timer of an earlier invocation, overdue when the next event comes, runs before the handler does.
@case(since=ASYNC, files="let ran = false; exports.handler = async () => { const was = ran; setTimeout(() => { ran = true; }, 20); return was; };")
def overdue_timers_first(rt, node):
    assert succeeds(rt) is False
    time.sleep(0.1)
    assert succeeds(rt) is True


# ---- nodejs24.x and later: promises only

@case(since=ASYNC, modern=True, files="exports.handler = (event, context) => event.throws ? null.x : Object.keys(context);")
def promises_only(rt, node):
    keys = succeeds(rt, {})
    assert keys[0] == "functionVersion" and "done" not in keys and "callbackWaitsForEmptyEventLoop" not in keys, keys
    fails(rt.invoke({"throws": 1}), "TypeError")
    assert succeeds(rt, {}) == keys


@case(since=ASYNC, modern=True, files="exports.handler = (event, context, callback) => callback(null, 1);")
def promises_only_refuses_callbacks(rt, node):
    answer = rt.take()
    fails(answer, "Runtime.CallbackHandlerDeprecated")
    assert answer.json()["errorMessage"].startswith("ERROR: AWS Lambda has removed support for callback-based function handlers starting with Node.js 24.")
    assert rt.wait_exit() == 129


@case(since=ASYNC, modern=True, files="exports.handler = async () => { Promise.reject(new Error('beside')); return 'fine'; };")
def promises_only_sees_rejections_first(rt, node):
    fails(rt.invoke(), "Runtime.UnhandledPromiseRejection", "Error: beside")


@case(since=ASYNC, modern=True, files="exports.handler = async e => { if (e.pending) await new Promise(() => {}); const v = {}; v.v = v; return v; };")
def promises_only_results(rt, node):
    fails(rt.invoke({}), "Runtime.JSONStringifyError", "Unable to stringify response body")
    assert succeeds(rt, {"pending": True}) is None


# ---- ES modules

ESM = "export const handler = async event => 'ok';"
for name, since, files, handler in [
    ("mjs", IMPORT, {"app.mjs": ESM}, "app.handler"),
    ("odd_folder", IMPORT, {"a#b %41?/app.mjs": ESM}, "a#b %41?/app.handler"),
    ("type_module", IMPORT, {"package.json": '{"type": "module"}', "app.js": ESM}, "app.handler"),
    ("type_module_above", IMPORT, {"package.json": '{"type": "module"}', "src/app.js": ESM}, "src/app.handler"),
    ("type_nearest_decides", IMPORT, {"package.json": '{"type": "module"}', "src/package.json": "{}", "src/app.js": OK}, "src/app.handler"),
    ("common_js_in_type_module", IMPORT, {"package.json": '{"type": "module"}', "app.cjs": OK}, "app.handler"),
    ("default_export", IMPORT, {"app.mjs": "export default async () => 'ok';"}, "app.default"),
    ("nested_export", IMPORT, {"app.mjs": "export const a = {b: async () => 'ok'};"}, "app.a.b"),
    ("callback", IMPORT, {"app.mjs": "export const handler = (e, c, cb) => cb(null, 'ok');"}, "app.handler"),
    ("dependency", IMPORT, {"app.mjs": "import dep from 'dep'; export const handler = async () => dep;",
                            "node_modules/dep/index.js": "module.exports = 'ok';"}, "app.handler"),
    ("top_level_await", TOP_LEVEL_AWAIT, {
        "app.mjs": "const word = await new Promise(r => setTimeout(r, 20, 'ok')); export const handler = async () => word;"}, "app.handler"),
    ("by_syntax", (22, 12), {"app.js": ESM}, "app.handler"),
    ("by_syntax_awaiting", (22, 12), {"app.js": "await null; " + ESM}, "app.handler"),
]:
    def imports(rt, node):
        assert succeeds(rt) == "ok"
        assert "arning" not in rt.log().replace("ExperimentalWarning", "") or node.version < (20,), rt.log()

    imports.__name__ = "import_" + name
    case(since=since, files=files, handler=handler)(imports)

for name, since, files, error_type, message in [
    ("syntax", IMPORT, {"app.mjs": "export const = 1;"}, "Runtime.UserCodeSyntaxError", "SyntaxError: "),
    ("missing_package", IMPORT, {"app.mjs": "import 'nowhere';"}, "Error", "Cannot find package 'nowhere' imported from "),
    ("throws", IMPORT, {"app.mjs": "throw new RangeError('at load');"}, "RangeError", "at load"),
    ("throws_later", TOP_LEVEL_AWAIT, {"app.mjs": "await null; throw new RangeError('at load');"}, "RangeError", "at load"),
    ("undefined", IMPORT, {"app.mjs": "export const other = 1;"}, "Runtime.HandlerNotFound", "app.handler is undefined or not exported"),
    ("uncaught", TOP_LEVEL_AWAIT, {"app.mjs": "setTimeout(() => { throw new RangeError('at load') }); await new Promise(r => setTimeout(r, 9999));"},
     "RangeError", "at load"),
]:
    def refuses_import(rt, node, error_type=error_type, message=message):
        answer = rt.take()
        fails(answer, error_type)
        assert answer.kind == "init/error" and answer.json()["errorMessage"].startswith(message), answer
        assert rt.wait_exit() == 129

    refuses_import.__name__ = "import_refuses_" + name
    case(since=since, files=files)(refuses_import)


@case(since=TOP_LEVEL_AWAIT, files={"app.mjs": "await new Promise(() => {}); export const handler = 1;"})
def import_never_settles(rt, node):
    assert rt.take().kind == "exit" and rt.returncode == 0, rt.returncode


@case(since=layered_import, env={"NODE_PATH": "/nowhere/node_modules:{folder}/layer/node_modules:{folder}"}, files={
    "task/app.mjs": "import { word } from 'dep'; import deep from '@scope/dep/deep.js'; export const handler = async () => {"
                    " try { await import('nowhere') } catch (error) { return [word, deep, error.code, error.message] } };",
    "layer/node_modules/dep/package.json": '{"type": "module", "exports": {"import": "./module.js", "require": "./no.js"}}',
    "layer/node_modules/dep/module.js": "export const word = 'layer';",
    "layer/node_modules/@scope/dep/deep.js": "module.exports = 'deep';",
}, handler="task/app.handler")
def import_from_a_layer(rt, node):
    got = succeeds(rt)
    assert got[:3] == ["layer", "deep", "ERR_MODULE_NOT_FOUND"] and got[3].startswith("Cannot find package 'nowhere' imported from "), got


# ---- A start ahead of time; all that is above and below is run that way as well

SURROUNDINGS = """
exports.handler = (event, context, callback) => callback(null, {
  env: process.env, cwd: process.cwd(), argv: process.argv.slice(2), execArgv: process.execArgv, main: module.parent && module.parent.filename,
  inside: require('child_process').execFileSync('env').toString().split('\\n').sort(), hour: new Date(0).toString(),
  paths: module.paths, globals: Object.keys(global).sort(), folders: require('module').globalPaths,
});"""


@case(env={"NAME_Ä": "ü ✓", "AWS_LAMBDA_FUNCTION_NAME": "other", "EMPTY": ""}, preboot=True)
def ahead_as_in_a_normal_start(rt, node):
    assert rt.claim_waiting.wait(20)
    assert rt.requests == [("GET", "/kennel/claim")] and rt.returncode is None, rt.requests
    Path(rt.task_root, "app.js").write_text(SURROUNDINGS)  # the code comes last, as it does in a sandbox
    if node.version >= (13,):  # an older one keeps the time zone that it has met first
        rt.extra_env["TZ"] = "Asia/Tokyo"
    rt.claim(rt.extra_env)
    got = succeeds(rt)
    other = FakeRuntime(rt.argv, rt.task_root, rt.handler, env=rt.extra_env, timeout=20, runtime_dir=rt.runtime_dir)
    with other:
        expected = succeeds(other)
    for answer, run in ((got, rt), (expected, other)):
        address = answer["env"].pop("AWS_LAMBDA_RUNTIME_API")
        assert address == run.env["AWS_LAMBDA_RUNTIME_API"], answer
        answer["inside"].remove("AWS_LAMBDA_RUNTIME_API=" + address)
        assert not [name for name in list(answer["env"]) + answer["inside"] if name.startswith(("KENNEL", "BOOT_ONLY"))], answer
    assert got == expected, (got, expected)
    assert got["env"]["NAME_Ä"] == "ü ✓" and got["env"]["EMPTY"] == "" and got["cwd"] == rt.task_root, got
    assert ("GMT+0900" in got["hour"]) == (node.version >= (13,)), got["hour"]


# Anywhere that a handler could look: the values whose text has the word.
TRACES = """
const fs = require('fs');
const places = {
  cache: () => Object.keys(require.cache), paths: () => Object.keys(module.constructor._pathCache),
  found: () => { const known = module.constructor._pathCache; return Object.keys(known).map(key => known[key]); },
  children: () => module.parent.children.map(child => String(child && child.filename)),
  files: () => fs.readdirSync('/proc/self/fd').map(fd => { try { return fs.readlinkSync('/proc/self/fd/' + fd) } catch (gone) { return '' } }),
  environment: () => Object.keys(process.env).map(name => name + '=' + process.env[name]),
  events: () => process.eventNames().map(name => String(name) + process.listenerCount(name)).sort(),
};
exports.handler = (event, context, callback) => {
  const got = {};
  Object.keys(places).forEach(name => { got[name] = places[name]() });
  callback(null, { all: got, log: console.log === console.info, streams: [process.stdout.fd, process.stderr.fd] });
};"""


@case(since=(6,), files=TRACES, preboot=True)
def ahead_nothing_left_of_the_rehearsal(rt, node):
    rt.claim()
    got = succeeds(rt)
    everything = [value for values in got["all"].values() for value in values]
    assert any(value.endswith("/app.js") for value in everything) and any(value.endswith("/preboot.js") for value in everything), got
    assert [value for value in everything if "rehears" in value or "Root=0" in value] == [], got
    with FakeRuntime(rt.argv, rt.task_root, rt.handler, timeout=20, runtime_dir=rt.runtime_dir) as other:
        normal = succeeds(other)
    assert got["all"]["events"] == normal["all"]["events"], (got, normal)
    assert got["all"]["files"].count("/dev/null") == normal["all"]["files"].count("/dev/null"), (got, normal)
    assert got["log"] and got["streams"] == [1, 2], got
    # The rehearsal asks nobody.
    assert [path.split("/")[-1] for _, path in rt.requests][:3] == ["claim", "next", "response"], rt.requests
    assert "rehears" not in rt.log(), rt.log()


# What follows V8's flags while a function runs.
FLAGGED = """
exports.handler = (event, context, callback) => {
  const { Worker } = require('worker_threads');
  const limit = "require('v8').getHeapStatistics().heap_size_limit";
  const worker = new Worker("require('worker_threads').parentPort.postMessage([" + limit + ", typeof gc])", { eval: true });
  worker.once('message', message => callback(null, {
    worker: message, limit: eval(limit), gc: [typeof gc, require('vm').runInNewContext('typeof gc')],
    deprecation: [Object.keys(process).includes('noDeprecation'), process.noDeprecation],
  }));
};"""


@case(since=(12, 17), files=FLAGGED, preboot=True)
def ahead_under_the_same_flags(rt, node):
    rt.claim()
    got = succeeds(rt)
    with FakeRuntime(rt.argv, rt.task_root, rt.handler, timeout=20, runtime_dir=rt.runtime_dir) as other:
        assert got == succeeds(other), got
    assert 115 << 20 <= got["limit"] <= 160 << 20 and got["gc"] == ["function", "function"], got
    assert rt.log().count("Warning") == 0, rt.log()


# Which of Node's own modules V8 had to compile.
COMPILED = """
const binding = require('internal/test/binding').internalBinding;
let usage;
try { usage = binding('builtins').getCacheUsage(); } catch (older) { usage = binding('native_module').getCacheUsage(); }
const has = (set, name) => Array.from(set).indexOf(name) >= 0;
exports.handler = (event, context, callback) => callback(null, ['https', 'tls', 'zlib', 'crypto'].map(
  name => [has(usage.compiledWithCache, name), has(usage.compiledWithoutCache, name)]));
"""


@case(since=(12, 17), files=COMPILED, flags=["--expose-internals"] + FLAGS, preboot=True)
def ahead_takes_what_node_has_compiled(rt, node):
    rt.claim()
    got = succeeds(rt)
    # Without flags, and with them: else this says nothing of this build of Node.js.
    program = "['https', 'tls', 'zlib', 'crypto'].forEach(name => require(name));" + COMPILED + \
        "exports.handler(null, null, (error, result) => console.log(JSON.stringify(result)));"
    compiled = [json.loads(subprocess.run([node.program, "--expose-internals"] + flags + ["-e", program], stdout=subprocess.PIPE,
                                          stderr=subprocess.PIPE, check=True).stdout.decode()) for flags in ([], FLAGS)]
    assert compiled[1] == [[False, True]] * 4, compiled
    assert got == compiled[0], (got, compiled)


@case(preboot=True)
def ahead_refused(rt, node):
    rt.claim_answer = (410, b"{}")
    rt.claim()
    assert rt.wait_exit() == 1
    assert "Runtime API failed: status 410 for the claim" in rt.log(), rt.log()
    assert [path for method, path in rt.requests if method == "POST"] == []


# The connection need not be the same one: the next goes to the same socket, though the environment names it no more.
@case(files=WARM, handler="warm.handler", env={"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:1"}, preboot=True)
def ahead_connection_closed(rt, node):
    rt.claim_answer = (200, json.dumps({"env": rt.env}).encode(), [("Connection", "close")])
    rt.claim()
    assert succeeds(rt, {"case": "callback", "value": 1}) == {"got": 1}


# ---- Streamed answers

def streaming(body, since=(4,), **options):
    files = {"app.js": "'use strict'; exports.handler = awslambda.streamifyResponse((event, stream, context) => {%s\n});" % body}
    return case(since=since, files=files, **options)


def check_stream(answer, body, content_type="application/octet-stream"):
    assert answer.kind == "response" and answer.body == body, answer
    assert answer.headers["lambda-runtime-function-response-mode"] == "streaming", answer.headers
    assert answer.headers["transfer-encoding"] == "chunked" and answer.headers["content-type"] == content_type, answer.headers


@streaming("""
  stream.setContentType('text/plain');
  stream.write('one ');
  stream.write(new Buffer('two '));
  stream.write(new Uint8Array([65, 66, 32]));
  stream.write({ json: true });
  stream.write('');
  return new Promise(done => setTimeout(() => { stream.end(' end'); done(); }, 30));""")
def stream_chunks(rt, node):
    for _ in range(2):
        answer = rt.invoke()
        check_stream(answer, b'one two AB {"json":true} end', "text/plain")
        assert len(answer.chunks) >= 5 and answer.chunks[0] == b"one ", answer.chunks
        assert answer.trailers == {}, answer.trailers


@streaming("""
  const http = awslambda.HttpResponseStream.from(stream, { statusCode: 201, headers: { 'x-a': 'b' } });
  if (event.write) http.write('Hello');
  http.end(event.end);
  return Promise.resolve();""")
def stream_http(rt, node):
    prelude = b'{"statusCode":201,"headers":{"x-a":"b"}}' + b"\0" * 8
    for event, text in [({"write": 1}, b"Hello"), ({"write": 1, "end": "!"}, b"Hello!"), ({"end": "only"}, b"only"), ({}, b"")]:
        check_stream(rt.invoke(event), prelude + text, "application/vnd.awslambda.http-integration-response")


@streaming("""
  if (event.first) throw new RangeError('at once');
  stream.write('begun');
  if (event.plain) return 'no promise';
  if (event.open) return Promise.resolve();
  if (event.pending) return new Promise(() => {});
  if (event.late) try { stream.setContentType('text/plain'); } catch (error) { return Promise.reject(error); }
  if (event.destroy) { stream.on('error', () => {}); stream.destroy(); return Promise.reject(new TypeError('midway')); }
  return new Promise((_, reject) => setTimeout(() => reject(new TypeError('midway')), 10));""")
def stream_errors(rt, node):
    for event, body, error_type, message in [
        ({}, b"begun", "TypeError", "midway"), ({"first": 1}, b"", "RangeError", "at once"),
        ({"plain": 1}, b"begun", "string", "Streaming does not support non-async handlers."),
        ({"open": 1}, b"begun", "string", "Response stream is not finished."),
        ({"pending": 1}, b"begun", "string", "Response stream is not finished."),
        ({"late": 1}, b"begun", "Runtime.InvalidStreamingOperation", "Cannot set content-type, too late."),
    ] + ([({"destroy": 1}, b"begun", "TypeError", "midway")] if node.version >= (10,) else []):  # up to 8, destroy() ends the stream
        answer = rt.invoke(event)
        check_stream(answer, body)
        assert answer.trailers["lambda-runtime-function-error-type"] == error_type, answer.trailers
        shape = json.loads(base64.b64decode(answer.trailers["lambda-runtime-function-error-body"]))
        assert shape["errorType"] == error_type and shape["errorMessage"] == message, shape
        assert isinstance(shape["trace"], list)
    assert "\tERROR\tInvoke Error \t" in rt.log()


@streaming("""
  const source = new (require('stream').Readable)({ read: function () { this.push(left-- > 0 ? new Buffer(event.size) : null); } });
  let left = event.count;
  return new Promise((resolve, reject) => { source.pipe(stream).on('finish', resolve).on('error', reject); });""")
def stream_large(rt, node):
    answer = rt.invoke({"size": 100000, "count": 80})  # more than a buffered answer may have
    assert answer.kind == "response" and len(answer.body) == 8000000, answer
    assert len(rt.invoke({"size": 10, "count": 2}).body) == 20


@streaming("""
  setTimeout(() => console.log('timer ran'), 30);
  stream.end('ended');
  return new Promise(() => {});""")
def stream_waits_for_the_event_loop(rt, node):
    for _ in range(2):
        check_stream(rt.invoke(), b"ended")
    assert "timer ran" in rt.log() and "not finished" not in rt.log(), rt.log()


@streaming("stream.write('begun'); setTimeout(() => { throw new RangeError('uncaught'); }, 20); return new Promise(() => {});")
def stream_uncaught_exception(rt, node):
    answer = rt.invoke()
    assert answer.trailers["lambda-runtime-function-error-type"] == "RangeError", answer
    assert rt.wait_exit() == 129


@streaming("""
  stream.write('begun ');
  return require('util').promisify(require('stream').pipeline)(require('stream').Readable.from(['a', 'b']), stream)
    .then(() => 'ignored');""", since=(12,))
def stream_pipeline(rt, node):
    check_stream(rt.invoke(), b"begun ab")
    check_stream(rt.invoke(), b"begun ab")
    assert "WARN\tStreaming handlers ignore return values." in rt.log()


@streaming("stream.end(Object.keys(context).join()); return Promise.resolve();", modern=True)
def stream_promises_only(rt, node):
    for _ in range(2):
        assert rt.invoke().body.startswith(b"functionVersion,"), rt.log()


@streaming("stream.end('over tcp'); return Promise.resolve();", tcp=True)
def stream_over_tcp(rt, node):
    for _ in range(2):
        check_stream(rt.invoke(), b"over tcp")


# ---- The connection: a server that answers in chunks, closes whenever it may, and says so or does not

class RudeServer:
    def __init__(self, events, announce):
        self.folder = tempfile.mkdtemp(prefix="kennel-node-test-")
        self.path = os.path.join(self.folder, "runtime.sock")
        self.events, self.announce, self.answers, self.connections = list(events), announce, [], 0
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(1)
        self.listener.settimeout(15)
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            with connection, connection.makefile("rb") as stream:
                line = stream.readline().decode()
                length = 0
                while True:
                    header = stream.readline().decode().lower()
                    if header.startswith("content-length:"):
                        length = int(header.split(":")[1])
                    if header in ("\r\n", ""):
                        break
                close = "Connection: close\r\n" if self.announce else ""
                if line.startswith("GET"):
                    if not self.events:
                        return
                    event = json.dumps(self.events.pop(0)).encode()
                    body = b"".join(b"%x;ext=1\r\n%s\r\n" % (len(part), part) for part in (event[:5], event[5:])) + b"0\r\nX-Trailer: 1\r\n\r\n"
                    head = ("HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: id-%d\r\nTransfer-Encoding: chunked\r\n%s\r\n" % (self.connections, close)).encode()
                    for byte in head + body[:40]:  # as slowly as it can
                        connection.sendall(bytes([byte]))
                    connection.sendall(body[40:])
                else:
                    self.answers.append((line.split()[1], json.loads(stream.read(length).decode())))
                    connection.sendall(("HTTP/1.1 202 Accepted\r\nContent-Length: 16\r\n%s\r\n{\"status\":\"OK\"}\n" % close).encode())


def rude(node, announce):
    server = RudeServer(({"text": "x" * size} for size in (1, 100, 100000, 3)), announce)
    Path(server.folder, "app.js").write_text("exports.handler = (e, c, cb) => cb(null, e.text.length);")
    process = subprocess.Popen([node.program, str(BOOTSTRAP)], cwd=server.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, env={
                                   "_HANDLER": "app.handler", "LAMBDA_TASK_ROOT": server.folder, "KENNEL_RUNTIME_API_SOCKET": server.path})
    try:
        server.thread.join(15)
        server.listener.close()
        log = process.communicate(timeout=15)[0].decode()
    finally:
        process.kill()
        shutil.rmtree(server.folder, ignore_errors=True)
    assert [answer for _, answer in server.answers] == [1, 100, 100000, 3], (server.answers, log)
    assert process.returncode == 1 and "Runtime API failed: " in log, (process.returncode, log)


@case(alone=True)
def connection_closed_with_notice(node):
    rude(node, True)


@case(alone=True)
def connection_closed_without_notice(node):
    rude(node, False)


# ----

def run(job):
    node, (name, since, files, handler, options, test), ahead = job
    try:
        if options.get("alone"):
            test(node)
        else:
            with Run(node, files, handler, ahead=ahead, **options) as rt:
                try:
                    test(rt, node)
                except Exception:
                    print("---- log of %s on %s%s\n%s" % (name, node.name, "+" * ahead, rt.log()[-3000:]), file=sys.stderr)
                    raise
    except Exception:
        return "FAILED %s on %s%s\n%s" % (name, node.name, "+" * ahead, traceback.format_exc())
    return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--node", action="append", default=[])
    parser.add_argument("--missing", action="append", default=[])
    parser.add_argument("words", nargs="*")
    arguments = parser.parse_args()
    passed = failed = 0
    for reason in arguments.missing:
        print("skipped: " + reason)
    for program in arguments.node:
        node = Node(program)
        begin = time.monotonic()
        jobs = [(node, entry, ahead) for ahead in (False, True) for entry in CASES
                if (entry[1](node.version) if callable(entry[1]) else node.version >= entry[1])
                and (not arguments.words or any(word in entry[0] for word in arguments.words))
                and not (ahead and needs_full_boot(entry[4])) and (ahead or not entry[4].get("preboot"))]
        with ThreadPoolExecutor(4) as pool:  # most of a case's time is waiting
            problems = [problem for problem in pool.map(run, jobs) if problem]
        for problem in problems:
            print(problem)
        passed, failed = passed + len(jobs) - len(problems), failed + len(problems)
        print("%s: %d cases in %.1f s" % (node.name, len(jobs), time.monotonic() - begin), flush=True)
    print("%d passed, %d failed, %d skipped" % (passed, failed, len(arguments.missing)))
    sys.exit(1 if failed or not passed else 0)


main()
