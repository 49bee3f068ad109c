"""The bootstrap's tests: test_dotnet.py WORK, where WORK holds what `run` compiled and the list of `dotnet` programs."""

import glob
import json
import os
import re
import shutil
import subprocess
import sys
import time
import traceback
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent.parent
sys.path.insert(0, str(ROOT / "runtimes/testkit"))
from fake_runtime_api import FakeRuntime  # noqa: E402

WORK = Path(sys.argv[1])
DIST = HERE.parent / "dist"
FIXTURES = ROOT / "tests/fixtures/dotnet"
STAMP = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\t")
CASES = []


def case(f):
    CASES.append(f)
    return f


def manifest_env(memory):
    """[interpreter.env] of runtime.toml, as Kennel fills it in."""
    text = (HERE.parent / "runtime.toml").read_text().split("[interpreter.env]")[1].split("[[")[0]
    env = dict(re.findall(r'^(\w+) = "(.*)"$', text, re.M))
    assert len(env) > 8, env
    return {k: v.replace("{memory_bytes_hex:75%}", "%x" % (memory * 1024 * 1024 * 3 // 4)) for k, v in env.items()}


def versions(program):
    out = subprocess.run([program, "--list-runtimes"], stdout=subprocess.PIPE, check=True).stdout.decode()
    return re.findall(r"^Microsoft.NETCore.App ((\d+\.\d+)\S*)", out, re.M)


PROGRAMS, WHOLE = {}, {}  # "8.0" -> program, "8.0.4"
for line in (WORK / "programs").read_text().split():
    for whole, v in versions(line):
        PROGRAMS.setdefault(v, line)
        WHOLE.setdefault(v, whole)
TARGET = (DIST / "target").read_text().strip()
NUMBER = lambda v: [int(x) for x in v.split(".")]  # noqa: E731
USABLE = sorted((v for v in PROGRAMS if NUMBER(v) >= NUMBER(TARGET)), key=NUMBER)
MAIN = next((v for v in USABLE if NUMBER(v) >= [8]), None)


AHEAD = False  # whether each case's process starts ahead of its function
FULL_BOOT = re.search(r"full_boot_variables = \[(.*?)\]", (HERE.parent / "runtime.toml").read_text(), re.S).group(1)
FULL_BOOT = tuple(re.findall(r'"(\w+)', FULL_BOOT))


class Skip(Exception):
    pass


def unpacked(name, path=None):
    to = WORK / name
    if not to.is_dir():
        with zipfile.ZipFile(path or FIXTURES / (name + ".zip")) as z:
            z.extractall(to)
    return to


def start(task, handler, version=None, runtime=None, memory=512, env=None, **kwargs):
    version = version or MAIN
    if version is None:
        raise Skip("no .NET 8 or newer")
    runtime = runtime or ("dotnetcore" + version if NUMBER(version) < [5] else "dotnet" + version.split(".")[0])
    # No ICU on one of the paths that the tests take: the same on every host.
    every = dict(manifest_env(memory), AWS_EXECUTION_ENV="AWS_Lambda_" + runtime, DOTNET_SYSTEM_GLOBALIZATION_INVARIANT="1",
                 LAMBDA_TASK_ROOT=str(task))
    argv = ["/bin/sh", str(DIST / "launch"), PROGRAMS[version], WHOLE[version]]
    kwargs.setdefault("preboot", AHEAD and not any(key.startswith(FULL_BOOT) for key in env or {}) and "claimed")
    if kwargs["preboot"]:
        argv = ["/usr/bin/env"] + ["%s=%s" % pair for pair in every.items() if pair[0].startswith(FULL_BOOT)] + argv
    every.update(env or {})
    kwargs.setdefault("timeout", 20)
    return FakeRuntime(argv, task, handler, env=every, memory=memory, runtime_dir=DIST, **kwargs)


def classes(method, **kwargs):
    return start(unpacked("class-handlers"), "ClassHandlers::ClassHandlers." + method, **kwargs)


def forms(method, **kwargs):
    return start(WORK / "forms", "Forms::Forms." + method, **kwargs)


def text(body):
    return lambda kind, got: equal((kind, got.decode()), ("response", body))


def equal(got, wanted):
    assert got == wanted, "\n  got    %r\n  wanted %r" % (got, wanted)


def response(answer):
    assert answer.kind == "response", answer
    return answer


def invoke(runtime, event=None, raw=None, **kwargs):
    return response(runtime.invoke(event, raw=raw, **kwargs)).body.decode()


def init_error(runtime, kind, part):
    a = runtime.take()
    equal(a.kind, "init/error")
    equal(a.json()["errorType"], kind)
    equal(a.headers["lambda-runtime-function-error-type"], kind)
    assert part in json.dumps(a.json(), ensure_ascii=False), a
    equal(runtime.wait_exit(), 1)
    assert kind in runtime.log(), runtime.log()
    return a.json()


# The rows of tests/fixtures/dotnet/README.md

HTTP_EVENT = {"version": "2.0", "routeKey": "$default", "rawPath": "/a/b", "rawQueryString": "q=1", "headers": {"host": "x"},
              "requestContext": {"accountId": "0", "apiId": "a", "http": {"method": "PUT", "path": "/a/b", "protocol": "HTTP/1.1"}, "timeEpoch": 1}, "body": "x"}
SQS_EVENT = {"Records": [{"messageId": "m0", "body": "ok"}, {"messageId": "m1", "body": "bad"}]}
S3_EVENT = {"Records": [{"s3": {"bucket": {"name": "b1"}, "object": {"key": "k/1"}}}, {"s3": {"bucket": {"name": "b2"}, "object": {"key": "k2"}}}]}


@case
def price():
    with classes("Function::Price") as r:
        request_id = r.post({"Id": "o1", "Quantity": 3, "UnitPrice": 1.25})
        equal(response(r.take()).json(), {"Id": "o1", "Total": 3.75, "RequestId": request_id, "FunctionName": "fn", "MemoryLimitMb": 512, "TimeLeft": True})
        line = r.log()
        assert STAMP.match(line), line
        equal(line.split("\t")[1:], [request_id, "info", "pricing o1\n"])


@case
def plain_rows():
    for method, event, wanted in [("Function::UpperAsync", "grün", "GRÜN"), ("Function::Reverse", "abc", "cba"), ("Function::Keys", S3_EVENT, "b1/k/1,b2/k2"),
                                  ("Function::Batch", SQS_EVENT, {"batchItemFailures": [{"itemIdentifier": "m1"}]}), ("Function::Sleep", 20, "slept"),
                                  ("StaticFunction::Hello", "Zoë", "hello Zoë")]:
        with classes(method) as r:
            equal(json.loads(invoke(r, event)), wanted)
            equal(r.log(), "")


@case
def http():
    with classes("Function::Http") as r:
        got = json.loads(invoke(r, HTTP_EVENT))
        body = json.loads(got.pop("body"))
        equal(got, {"statusCode": 201, "headers": {"content-type": "application/json", "x-path": "/a/b"}, "isBase64Encoded": False})
        equal(body, {"method": "PUT", "query": "q=1", "body": "x"})


@case
def void_and_warm():
    with classes("Function::Touch") as r:
        equal([invoke(r, {}) for _ in range(3)], [""] * 3)
    with classes("Function::Calls") as r:
        equal([invoke(r, {}) for _ in range(50)], [str(i + 1) for i in range(50)])
        said = [request for request in r.requests if request[1] != "/kennel/claim"]
        equal(said[:3], [("GET", "/2018-06-01/runtime/invocation/next"), said[1], ("GET", "/2018-06-01/runtime/invocation/next")])


@case
def thrown():
    with classes("Function::Throw") as r:
        a = r.invoke({})
        equal(a.kind, "error")
        equal(a.headers["lambda-runtime-function-error-type"], "InvalidOperationException")
        e = a.json()
        equal((e["errorType"], e["errorMessage"], e["cause"]["errorType"], e["cause"]["errorMessage"]),
              ("InvalidOperationException", "order was refused", "ArgumentException", "inner cause"))
        equal(list(e), ["errorType", "errorMessage", "stackTrace", "cause"])
        equal(e["stackTrace"], ["at ClassHandlers.Function.Throw(Object _)"])
        assert a.body.startswith(b'{\n  "errorType": "InvalidOperationException",\n  "errorMessage": '), a.body
        assert "\tfail\tSystem.InvalidOperationException: order was refused\n" in r.log(), r.log()
        equal(r.invoke({}).kind, "error")  # and lives on
    with classes("Function::ThrowAsync") as r:
        e = r.invoke({}).json()
        equal((e["errorType"], e["errorMessage"], "cause" in e), ("TimeoutException", "upstream did not answer", False))


@case
def bad_input():
    with classes("Function::Price") as r:
        a = r.invoke(raw=b'{"Id": 7')
        equal((a.kind, a.json()["errorType"]), ("error", "JsonSerializerException"))
        equal(response(r.invoke({"Id": "o2", "Quantity": 1, "UnitPrice": 2})).json()["Total"], 2)


@case
def hog():
    with classes("Function::Hog", memory=256) as r:
        a = r.invoke({})
        equal((a.kind, a.json()["errorType"]), ("error", "OutOfMemoryException"))


@case
def environment():
    with classes("Function::Env") as r:
        equal(json.loads(invoke(r, "AWS_LAMBDA_FUNCTION_NAME")), "fn")
        equal(json.loads(invoke(r, "NOT_THERE")), "(unset)")
        equal(json.loads(invoke(r, "_X_AMZN_TRACE_ID", trace="Root=1-aa")), "Root=1-aa")
        equal(json.loads(invoke(r, "_X_AMZN_TRACE_ID", trace="Root=1-bb")), "Root=1-bb")
        equal(json.loads(invoke(r, "KENNEL_RUNTIME_API_SOCKET")), "(unset)")
    with forms("Function::Environ") as r:
        # The kernel remembers the start of a process, whatever it is told later.
        equal(invoke(r, raw=b"KENNEL_"), "String %s" % AHEAD)


@case
def logs():
    with classes("Function::Logs") as r:
        request_id = r.post("w")
        equal(response(r.take()).body, b"")
        lines = r.log().split("\n")
        stamped = [line.split("\t")[1:] if STAMP.match(line) else line for line in lines]
        equal(stamped, [[request_id, "info", "console w"], [request_id, "fail", "stderr w"], [request_id, "static w"], "log w",
                        [request_id, "info", "line w"], [request_id, "info", "information w"], [request_id, "fail", "error w"], ""])


@case
def logs_of_old_runtimes():
    with classes("Function::Logs", runtime="dotnetcore3.1") as r:
        invoke(r, "w")
        equal(r.log().split("\n"), ["console w", "stderr w", "static w", "log w", "line w", "information w", "error w", ""])


@case
def logs_as_json():
    with classes("Function::Logs", env={"AWS_LAMBDA_LOG_FORMAT": "JSON", "AWS_LAMBDA_LOG_LEVEL": "ERROR"}) as r:
        request_id = r.post("w")
        response(r.take())
        lines = [json.loads(line) if line[:1] == "{" else line for line in r.log().strip().split("\n")]
        equal([x if isinstance(x, str) else (x["level"], x["message"], x["requestId"]) for x in lines],
              [("Error", "stderr w", request_id), ("Information", "static w", request_id), "log w", ("Error", "error w", request_id)])


@case
def context():
    with classes("Function::Context") as r:
        c = json.loads(invoke(r, {}))
        remaining = c.pop("remainingMs")
        assert 20000 < remaining <= 30000, remaining
        request_id = c.pop("requestId")
        assert len(request_id) == 36
        equal(c, {"name": "fn", "version": "$LATEST", "arn": "arn:aws:lambda:us-east-1:000000000000:function:fn", "group": "/aws/lambda/fn",
                  "stream": "2026/01/01/[$LATEST]0123456789abcdef0123456789abcdef", "memory": 512, "custom": None, "appTitle": None, "identity": None})
        c = json.loads(invoke(r, {}, client_context={"client": {"app_title": "Ünit \"1\""}, "custom": {"a": "b", "n": 1.5}},
                              identity={"cognitoIdentityId": "id-1", "cognitoIdentityPoolId": "pool"}))
        equal((c["appTitle"], c["custom"], c["identity"]), ('Ünit "1"', {"a": "b", "n": "1.5"}, "id-1"))


@case
def broken_constructor():
    with classes("BrokenConstructor::Handle") as r:
        e = init_error(r, "TargetInvocationException", "no database")
        equal((e["cause"]["errorType"], e["cause"]["errorMessage"]), ("ApplicationException", "no database"))


@case
def executable():
    with start(unpacked("exe-handler"), "ExeHandler") as r:
        request_id = r.post({"a": 1})
        got = response(r.take()).json()
        assert 0 < got.pop("remainingMs") <= 30000
        equal(got, {"echo": {"a": 1}, "calls": 1, "requestId": request_id, "arn": "arn:aws:lambda:us-east-1:000000000000:function:fn", "memory": 512})
        a = r.invoke({"fail": "on purpose"})
        equal((a.kind, a.json()["errorType"], a.json()["errorMessage"]), ("error", "InvalidOperationException", "on purpose"))
        equal(response(r.invoke({})).json()["calls"], 3)
    with start(unpacked("exe-handler"), "ExeHandler.dll") as r:
        equal(response(r.invoke({})).json()["calls"], 1)
    with start(unpacked("exe-handler"), "Nothing") as r:
        equal(r.take().kind, "exit")
        equal(r.returncode, 104)
        assert "Nothing.dll" in r.log(), r.log()


@case
def example():
    path = WORK / "example/dotnet.zip"
    if not path.exists():
        raise Skip("examples/dotnet was not built, see above")
    settings = dict(re.findall(r"^(\w+) = (?:\"|'+)(.*?)(?:\"|'+)$", (ROOT / "examples/dotnet/example.toml").read_text(), re.M))
    with start(unpacked("example-package", path), settings["handler"]) as r:
        got = invoke(r, json.loads(settings["event"]))
        assert settings["expect"] in got, got
        equal(json.loads(got)["document"], {"user": {"name": "Ada", "mail": "***"}, "cards": [{"number": "***"}, {"number": "***"}]})
        assert "\tinfo\t$.cards[*].number: 2\n" in r.log(), r.log()


# What a handler may name, and what is wrong

@case
def names():
    for wanted, handler, part in [
        ("LambdaValidationException", "ClassHandlers::ClassHandlers.Function::Nope", "Found no methods matching method name 'Nope'"),
        ("LambdaValidationException", "ClassHandlers::ClassHandlers.Nope::Price", "Unable to load type 'ClassHandlers.Nope' from assembly 'ClassHandlers'."),
        ("LambdaValidationException", "Nope::ClassHandlers.Function::Price", "Could not find the specified handler assembly with the file name 'Nope"),
        ("LambdaValidationException", "ClassHandlers::ClassHandlers.Function", "The valid format is 'ASSEMBLY::TYPE::METHOD'."),
        ("LambdaValidationException", "ClassHandlers::::Price", "the type is missing"),
    ]:
        with start(unpacked("class-handlers"), handler) as r:
            init_error(r, wanted, part)


@case
def refused_forms():
    for method, part in [
        ("Function::Twice", "appears to have a number of overloads"), ("Function::Three", "more than 2 parameters"),
        ("Function::SecondNotContext", "the second parameter is not of type 'Amazon.Lambda.Core.ILambdaContext'"), ("Function::Generic", "it is a generic method"),
        ("Function::AsyncVoid", "'async void'"), ("Function::Broken", "does not define a public zero-parameter constructor"),
        ("Abstract::Run", "is abstract"), ("Generic`1::Run", "it is generic"),
    ]:
        with forms(method) as r:
            init_error(r, "LambdaValidationException", part)
    with forms("BrokenStatic::Run") as r:
        init_error(r, "TypeInitializationException", "FormatException")
    with start(WORK / "modern", "Modern::Modern.Nothing::Run") as r:
        init_error(r, "LambdaValidationException", "Unable to load type")


def all_forms(version):
    for method, event, wanted in [
        ("Function::ValueTaskText", "x", "String value x"), ("Function::ValueTaskDone", "four", "Int32 4"), ("Function::TaskStream", "xyz", "yz"),
        ("Function::NullStream", "x", ""), ("Function::Inherited", "x", "String inherited x"), ("Function::Loud", "x", "String X"),
        ("Function::System.String Twice(System.IO.Stream)", "x", "String stream"), ("Function::Private", "x", "String private x"),
        ("Abstract::Static", "x", "String static x"), ("Value::Run", "x", "String struct x"), ("Function::Length", "12345", "String 5"),
    ]:
        with forms(method, version=version) as r:
            equal((method, invoke(r, raw=event.encode())), (method, wanted))
    for method in ("Function::ValueTaskOnly", "Function::TaskOnly"):
        with forms(method, version=version) as r:
            equal(invoke(r, raw=b"it"), "")
            assert r.log().endswith("did it\n"), r.log()
    with forms("Function::OnlyContext", version=version) as r:
        request_id = r.post(None, raw=b"ignored")
        equal(response(r.take()).body.decode(), "String fn " + request_id)
    with start(WORK / "forms", "Forms::NoNamespace::Run", version=version) as r:
        equal(invoke(r, raw=b"x"), "String no namespace x")
    with start(WORK / "forms", "Forms::NoNamespace+Nested::Run", version=version) as r:
        equal(invoke(r, raw=b"x"), "String nested x")
    client = {"client": {"app_title": "t", "app_package_name": "p", "app_version_code": "1", "app_version_name": "n", "installation_id": "i"},
              "custom": {"k": "v"}, "env": {"locale": "de"}}
    with forms("Function::Whole", version=version) as r:
        equal(invoke(r, raw=b"x", client_context=client, identity={"cognitoIdentityId": "a", "cognitoIdentityPoolId": "b"}), "String v|de|t|p|1|n|i|a|b")


for usable in USABLE:
    def on_version(version=usable):
        all_forms(version)
    on_version.__name__ = "all_forms_on_" + usable
    case(on_version)


def later_members(task):
    with start(task, "Modern::Modern.Function::Context") as r:
        request_id = r.post(None, raw=b"x", tenant="blue", trace="Root=1-cc", client_context={"client": {"app_title": "t"}, "custom": {"k": "v"}},
                            identity={"cognitoIdentityId": "a"})
        equal(response(r.take()).body.decode(), "|".join([
            "blue", "Root=1-cc", "TextSerializer", request_id, "fn", "$LATEST", "arn:aws:lambda:us-east-1:000000000000:function:fn", "/aws/lambda/fn",
            "2026/01/01/[$LATEST]0123456789abcdef0123456789abcdef", "512", "True", "v", "t", "a"]))
    with start(task, "Modern::Modern.Function::Log") as r:
        request_id = r.post(None, raw=b"w")
        response(r.take())
        lines = [line.split("\t")[1:] if STAMP.match(line) else line for line in r.log().split("\n")]
        equal(lines, [[request_id, "info", "line w"], "raw w", [request_id, "warn", "careful w"], [request_id, "info", "3 of apples, 1.50 {{x}}"],
                      [request_id, "fail", "it broke"], "System.ArgumentException: why", [request_id, "static w"], [request_id, "crit", "worst ww"],
                      [request_id, "fail", "static broke"], "System.ArgumentException: static why", ""])
    with start(task, "Modern::Modern.Function::Log", env={"AWS_LAMBDA_HANDLER_LOG_FORMAT": "Json"}) as r:
        invoke(r, raw=b"w")
        lines = [json.loads(line) for line in r.log().split("\n") if line[:1] == "{"]
        equal((lines[2]["message"], lines[2]["count"], lines[2]["name"], lines[2]["price"]), ("3 of apples, 1.50 {{x}}", 3, "apples", "1.50"))
        equal((lines[3]["errorType"], lines[3]["errorMessage"], lines[3]["stackTrace"]), ("System.ArgumentException", "why", ["System.ArgumentException: why"]))


@case
def structured_logs():
    """What AWS's own runtime makes of messages with places, by its unit tests."""
    with start(WORK / "modern", "Modern::Modern.Function::Structured", env={"AWS_LAMBDA_LOG_FORMAT": "JSON"}) as r:
        request_id = r.post(None, raw=b"w", tenant="blue")
        response(r.take())
        log = r.log()
    records = [json.loads(line) for line in log.splitlines()]  # one record, one line
    equal(list(records[0])[:6], ["timestamp", "level", "requestId", "tenantId", "traceId", "message"])
    equal([(x.pop("requestId"), x.pop("tenantId")) for x in records], [(request_id, "blue")] * 8)
    for x in records:
        for name in ("timestamp", "level", "traceId"):
            del x[name]
    ware = {"Name": "Nail ✓", "Left": 3}
    equal(records, [
        {"message": "True 1 a 4.5 5.6 7.7 -100 Gold NaN {none}", "bool": True, "byte": 1, "char": "a", "decimal": 4.5, "double": 5.6,
         "float": 7.7, "long": -100, "enum": "Gold", "nan": "NaN"},
        {"message": "2024-02-18T15:19:45.545Z 2024-02-18T15:19:45.545Z 00000000000000000000000000000000... (20 bytes) Nail ✓ 3 2024",
         "when": "2024", "offset": "2024-02-18T15:19:45.545Z", "bytes": "00" * 16 + "... (20 bytes)", "ware": "Nail ✓ 3"},
        {"message": "{wares} {@serialized} {map} {@maps} Nail ✓ 3 007", "wares": ["Nail ✓ 3", 1, None], "serialized": [ware],
         "map": {"a": 1.5}, "maps": {"b": ware}, "one": ware, "count": "007"},
        {"message": "one zero one", "1": "one", "0": "zero"},
        {"message": "only {1}", "0": "only"},
        {"message": "by turns", "1": "by", "2": "turns"},
        {"message": '{{no}} line\n"two" {} {b', "a": 'line\n"two"'},
        {"message": "Nail ✓ 3", "one": {"name": "Nail ✓", "left": 3, "nothing": None}},
    ])


LEVELS = [("TRACE", 0), ("DEBUG", 1), ("INFO", 2), ("WARN", 3), ("ERROR", 4), ("FATAL", 5), (None, 2)]


@case
def every_level():
    names = ["Trace", "Debug", "Information", "Warning", "Error", "Critical"]
    for level, least in LEVELS:
        with start(WORK / "modern", "Modern::Modern.Function::Levels", env=dict(
                {"AWS_LAMBDA_LOG_FORMAT": "JSON"}, **({"AWS_LAMBDA_LOG_LEVEL": level} if level else {}))) as r:
            invoke(r, raw=b"w")
            equal([json.loads(line)["level"] for line in r.log().splitlines()], names[least:])


@case
def later_core():
    later_members(WORK / "modern")


@case
def core_merged_into_the_handler():
    later_members(WORK / "merged")


# The process and its connection

@case
def console_in_pieces():
    with forms("Function::Partly") as r:
        invoke(r, raw=b"x")
        lines = r.log().split("\n")
        equal([lines[0], lines[1].split("\t")[2:], lines[2].split("\t")[2:], lines[3:]], ["ab1-2", ["info", "1 of 2"], ["info", "42"], ["e", ""]])


@case
def sizes():
    with forms("Function::Big", response_limit=1000000) as r:
        equal(len(invoke(r, raw=b"999999")), 999999)
        request_id = r.post(None, raw=b"1000001")
        equal(r.take().kind, "too-large")
        equal(len(invoke(r, raw=b"70000")), 70000)  # the process stays usable
        assert ("POST", "/2018-06-01/runtime/invocation/%s/error" % request_id) in r.requests, r.requests
    with forms("Function::Length") as r:
        equal(invoke(r, raw=b"x" * 6291456), "String 6291456")
        equal(invoke(r, raw=b""), "String 0")


@case
def over_tcp():
    with forms("Function::Length", env={"KENNEL_RUNTIME_API_SOCKET": ""}) as r:
        equal(invoke(r, raw=b"123"), "String 3")
        equal(invoke(r, raw=b"1234"), "String 4")


@case
def without_the_launch_script():
    """As a process that is started before its package is there: the bootstrap's own runtimeconfig, assemblies by file name."""
    if MAIN is None:
        raise Skip("no .NET 8 or newer")
    task = unpacked("class-handlers")
    env = dict(manifest_env(512), DOTNET_SYSTEM_GLOBALIZATION_INVARIANT="1", AWS_EXECUTION_ENV="AWS_Lambda_dotnet8")
    with FakeRuntime([PROGRAMS[MAIN], "exec", str(DIST / "Bootstrap.dll")], task, "ClassHandlers::ClassHandlers.Function::Env", env=env, timeout=20) as r:
        equal(json.loads(invoke(r, "KENNEL_RUNTIME_API_SOCKET")), "(unset)")
        equal(json.loads(invoke(r, "LAMBDA_TASK_ROOT")), str(task))


@case
def older_package():
    """One built for .NET Core 2.1, under the nearest newer .NET there is."""
    for framework in ("2.1.0", "3.1.0"):
        task = WORK / ("for-" + framework)
        if not task.is_dir():
            shutil.copytree(WORK / "forms", task)
            (task / "Forms.runtimeconfig.json").write_text(json.dumps({"runtimeOptions": {
                "tfm": "netcoreapp" + framework[:3], "framework": {"name": "Microsoft.NETCore.App", "version": framework}}}))
            (task / "Forms.deps.json").write_text(json.dumps({
                "runtimeTarget": {"name": ".NETCoreApp,Version=v" + framework[:3], "signature": ""}, "compilationOptions": {},
                "targets": {".NETCoreApp,Version=v" + framework[:3]: {"Forms/1.0.0": {"runtime": {"Forms.dll": {}}}, "Amazon.Lambda.Core/1.0.0": {"runtime": {"Amazon.Lambda.Core.dll": {}}}}},
                "libraries": {n + "/1.0.0": {"type": "project", "serviceable": False, "sha512": ""} for n in ("Forms", "Amazon.Lambda.Core")}}))
        with start(task, "Forms::Forms.Function::OnlyContext", runtime="dotnetcore" + framework[:3]) as r:
            assert invoke(r, raw=b"x").startswith("String fn "), r.log()


@case
def aggregate():
    with forms("Function::Aggregate") as r:
        a = r.invoke(raw=b"x")
        e = a.json()
        equal(e["errorType"], "AggregateException")
        equal([(c["errorType"], c["errorMessage"]) for c in e["causes"]], [("ArgumentException", 'one "quoted"'), ("InvalidOperationException", "zwei ü")])
        equal(e["cause"], e["causes"][0])


@case
def dying():
    with forms("Function::Exit") as r:
        equal(r.invoke(raw=b"7").kind, "exit")
        equal(r.returncode, 7)
    with forms("Function::Crash") as r:
        equal(r.invoke(raw=b"x").kind, "exit")
        equal(r.returncode, -6)
        assert "on a thread" in r.log(), r.log()


@case
def levels():
    with forms("Function::Levels", env={"AWS_LAMBDA_LOG_LEVEL": "WARN"}) as r:
        invoke(r, raw=b"x")
        equal(r.log(), "")
    with forms("Function::Levels", env={"AWS_LAMBDA_HANDLER_LOG_FORMAT": "Unformatted"}) as r:
        invoke(r, raw=b"x")
        equal(r.log(), "out x\nline x\n")


@case
def cultures():
    """English money where the host has ICU, the invariant culture's where it has not: never a crash."""
    icu = any(glob.glob(d + "/libicuuc.so*") for d in ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"))
    with forms("Function::Currency", env={"DOTNET_SYSTEM_GLOBALIZATION_INVARIANT": ""}) as r:
        equal(invoke(r, raw=b"x"), "String $1,234.50 en-US" if icu else "String ¤1,234.50 ")
    with forms("Function::Currency") as r:
        equal(invoke(r, raw=b"x"), "String ¤1,234.50 ")


# The start ahead of time

def anew(r):
    """Whether the process that was claimed has started its program once more."""
    words = Path("/proc/%d/cmdline" % r.process.pid).read_text().split("\0")
    return "--fx-version" not in words


def altered(name, config=None, deps=None, files=()):
    """The package of forms, with what `config` and `deps` do to its runtimeconfig.json and deps.json."""
    task = WORK / ("altered-" + name)
    shutil.copytree(WORK / "forms", task)
    options = {"tfm": "net8.0", "framework": {"name": "Microsoft.NETCore.App", "version": "8.0.0"}, "configProperties": {}}
    library = {"runtime": {"Forms.dll": {}, "lib/net8.0/Amazon.Lambda.Core.dll": {}}}
    (config or (lambda o: None))(options)
    (deps or (lambda x: None))(library)
    target = ".NETCoreApp,Version=v8.0"
    (task / "Forms.runtimeconfig.json").write_text(json.dumps({"runtimeOptions": options}))
    (task / "Forms.deps.json").write_text(json.dumps({"runtimeTarget": {"name": target, "signature": ""}, "targets": {target: {"Forms/1.0.0": library}},
                                                      "libraries": {"Forms/1.0.0": {"type": "project", "serviceable": False, "sha512": ""}}}))
    for file in files:
        (task / file).write_text("{}")
    return task


def knob(name, value):
    return lambda options: options["configProperties"].update({name: value})


@case
def which_packages_a_waiting_process_takes():
    framework = Path(PROGRAMS.get(MAIN) or "").parent / "shared/Microsoft.NETCore.App" / (WHOLE.get(MAIN) or "")
    for name, wanted, how in [
        ("plain", False, {}), ("patch-too-new", True, {"config": lambda o: o["framework"].update(version="8.0.999")}),
        ("older", False, {"config": lambda o: o["framework"].update(version="6.0.0")}),
        ("culture", True, {"config": knob("System.Globalization.Invariant", False)}), ("no-culture", False, {"config": knob("System.Globalization.Invariant", True)}),
        ("overruled", False, {"config": knob("System.GC.Server", True)}), ("compiled", True, {"config": knob("System.Runtime.TieredCompilation", False)}),
        ("as-it-is", False, {"config": knob("System.Runtime.TieredCompilation", True)}), ("heap", True, {"config": knob("System.GC.ConserveMemory", 5)}),
        ("threads", True, {"config": knob("System.Threading.ThreadPool.MinThreads", 4)}), ("late", False, {"config": knob("System.Net.Http.UseSocketsHttpHandler", True)}),
        ("roll", True, {"config": lambda o: o.update(rollForward="LatestMajor")}),
        ("many", True, {"config": lambda o: o.update(frameworks=[o.pop("framework")])}),
        ("native", True, {"deps": lambda x: x.update(native={"libforms.so": {}}), "files": ["libforms.so"]}),
        ("for-windows", False, {"deps": lambda x: x.update(runtimeTargets={"runtimes/win/lib/net8.0/W.dll": {"rid": "win", "assetType": "runtime"}})}),
        ("for-linux", True, {"deps": lambda x: x.update(runtimeTargets={"libforms.so": {"rid": "linux-x64", "assetType": "native"}}), "files": ["libforms.so"]}),
        ("newer-part", True, {"deps": lambda x: x["runtime"].update({"System.Text.Json.dll": {"assemblyVersion": "0.0.0.1"}})}),
        ("developers", True, {"files": ["Forms.runtimeconfig.dev.json"]}),
    ]:
        task = altered(name, **how)
        if name == "newer-part":
            shutil.copy(framework / "System.Text.Json.dll", task)
        with start(task, "Forms::Forms.Function::Length", preboot="claimed") as r:
            equal((name, r.take().kind if name == "patch-too-new" else invoke(r, raw=b"123")), (name, "exit" if name == "patch-too-new" else "String 3"))
            if r.returncode is None:
                equal((name, anew(r)), (name, wanted))
    with start(WORK / "forms", "Forms::Forms.Function::Length", preboot="claimed") as r:
        equal((invoke(r, raw=b"123"), anew(r)), ("String 3", False))
    with start(unpacked("exe-handler"), "ExeHandler", preboot="claimed") as r:
        equal((response(r.invoke({})).json()["calls"], anew(r)), (1, True))
    for file, text in [("Forms.deps.json", "{"), ("Forms.runtimeconfig.json", "[]")]:
        task = altered("broken-" + file)
        (task / file).write_text(text)
        with start(task, "Forms::Forms.Function::Length", preboot="claimed") as r:
            equal((file, r.take().kind), (file, "exit"))  # with the host's own message
            assert file.split(".")[0] in r.log(), r.log()


@case
def a_claimed_process_is_the_functions():
    """In all that a handler can ask for, it is as one that was started for it."""
    mine = {"NAME_Ä": "ü ✓ \" \\", "EMPTY": "", "AWS_LAMBDA_FUNCTION_NAME": "other", "MINE": "mine", "My.Knob": "v"}
    task = altered("asked", config=lambda o: o["configProperties"].update({"My.Knob": True, "My.Text": "t"}))
    asked = {}
    for preboot in (False, "claimed"):
        with start(task, "Forms::Forms.Function::Ask", env=mine, preboot=preboot) as r:
            r.env.pop("KENNEL_RUNTIME_API_SOCKET", None)
            asked[preboot] = json.loads(invoke(r, raw=b"x")[len("String "):])
            if preboot:
                equal(anew(r), False)
    for kind in ("managed", "child", "libc"):
        for name, value in mine.items():
            equal((kind, name, asked["claimed"][kind].get(name)), (kind, name, value))
        own = [name for name in asked["claimed"][kind] if name.startswith("KENNEL_") or name == "BOOT_ONLY"]
        equal((kind, own), (kind, []))
    for asked_of in asked.values():
        for kind in ("managed", "child", "libc"):
            for name in ("PWD", "OLDPWD", "_", "SHLVL", "KENNEL_RUNTIME_API_SOCKET", "AWS_LAMBDA_RUNTIME_API", "_X_AMZN_TRACE_ID"):
                asked_of[kind].pop(name, None)
        asked_of["assemblies"] = sorted(filter(None, asked_of["assemblies"].split(":")))
    # The shell of the normal start lets go what it cannot name.
    for kind in ("managed", "child", "libc"):
        for name in ("NAME_Ä", "My.Knob"):
            asked["claimed"][kind].pop(name)
            asked[False][kind].pop(name, None)
    for member, value in asked["claimed"].items():
        equal((member, value), (member, asked[False][member]))
    equal(asked["claimed"]["cwd"], str(task))
    equal(asked["claimed"]["base"], str(task) + "/")


@case
def a_claim_that_is_refused():
    with forms("Function::Length", preboot=True) as r:
        r.claim_answer = (404, b"{}")
        r.claim()
        equal((r.wait_exit(), r.requests), (1, [("GET", "/kennel/claim")]))
        assert "status 404 for the claim" in r.log(), r.log()


@case
def nothing_is_said_while_it_waits():
    with forms("Function::Length", preboot=True) as r:
        assert r.claim_waiting.wait(20)
        time.sleep(0.1)
        equal((r.log(), r.requests), ("", [("GET", "/kennel/claim")]))
        r.claim()
        equal(invoke(r, raw=b"123"), "String 3")


def ahead_of_time(f):
    def again():
        global AHEAD
        AHEAD = True
        try:
            f()
        finally:
            AHEAD = False
    again.__name__ = f.__name__ + "_ahead"
    return again


# Those that say themselves how they start are not started otherwise.
OWN_START = (which_packages_a_waiting_process_takes, a_claimed_process_is_the_functions, a_claim_that_is_refused, nothing_is_said_while_it_waits,
             over_tcp, without_the_launch_script)
CASES += [ahead_of_time(f) for f in CASES if f not in OWN_START]


def main():
    print("dotnet: bootstrap for .NET %s and newer; runtimes %s" % (TARGET, ", ".join("%s (%s)" % (v, PROGRAMS[v]) for v in sorted(PROGRAMS, key=NUMBER))))
    passed, failed, skipped = 0, 0, 0
    for wanted in ("3.1", "8.0"):
        if wanted not in USABLE:
            print("skipped: all_forms_on_%s: %s" % (wanted, "not on this host" if wanted not in PROGRAMS else "the bootstrap was compiled for .NET " + TARGET))
            skipped += 1
    for f in CASES:
        t = time.monotonic()
        try:
            f()
            passed += 1
            print("ok      %s (%.1f s)" % (f.__name__, time.monotonic() - t))
        except Skip as e:
            skipped += 1
            print("skipped: %s: %s" % (f.__name__, e))
        except Exception:
            failed += 1
            print("FAILED  %s\n%s" % (f.__name__, traceback.format_exc()))
        sys.stdout.flush()
    print("%d passed, %d failed, %d skipped" % (passed, failed, skipped))
    sys.exit(1 if failed else 0)


main()
