"""The Python bootstrap against the recording fake: a table of cases, run on every Python that the host has.

A case is a handler package, the events sent to it, and what must come of it. Cases that need no process of their own
are functions of one package, INVOCATIONS. Most are also given to AWS's own runtime client, whose answers and log must
be ours to the byte, but for what `comparable` takes out.
"""

import concurrent.futures
import glob
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

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "testkit"))
from fake_runtime_api import FakeRuntime  # noqa: E402

BOOTSTRAP = os.path.join(HERE, "..", "bootstrap", "bootstrap.py")
BOOTSTRAP = os.path.abspath(BOOTSTRAP)
VERSIONS = ["2.7", "3.6", "3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14"]
MARSHAL = "Unable to marshal response: "


class Skip(Exception):
    pass


class Python:
    """One interpreter under test; `client` is AWS's runtime client to run in the bootstrap's place, `preboot` the way of
    a process that is started before there is a function."""

    def __init__(self, label, argv, version, client=None, preboot=False):
        self.label, self.argv, self.version, self.client, self.preboot = label, argv, version, client, preboot
        self.jython = label.startswith("jython")
        self.two = version < (3,)

    def run(self, task, handler, env=None, **kwargs):
        env = dict(env or {})
        if self.client:
            env.setdefault("PYTHONPATH", self.client)
            return FakeRuntime(self.argv + ["-m", "awslambdaric", handler], task, handler, env, runtime_dir="/var/runtime",
                               timeout=20, **kwargs)
        flags = ["-B"] if self.jython else ["-S"]  # Jython would leave its class files beside the sources
        argv = self.argv + flags + ["-u", BOOTSTRAP]
        kwargs.setdefault("preboot", self.preboot and "claimed")
        return FakeRuntime(argv, task, handler, env, timeout=30, **kwargs)


# ---- cases within one process: the function, its event, what must come of it ----

APP = r'''# -*- coding: utf-8 -*-
import collections, decimal, os, sys
Point = collections.namedtuple("Point", "x y")
Decimal = decimal.Decimal
class Refused(Exception):
    pass
class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no text")
class Odd(object):
    pass
def handler(event, context):
    return globals()[event["do"]](event.get("with"), context)
def echo(e, c): return e
def nothing(e, c): pass
def ordered(e, c): return collections.OrderedDict([("b", 1), ("a", (1, 2)), ("c", 10 ** 20)])
def floats(e, c): return [1.0, 1e22, 1e-7, -0.0, 0.1]
def not_numbers(e, c): return [float("nan"), float("inf"), -float("inf"), Decimal("NaN")]
def decimals(e, c): return [Decimal("1.10"), Decimal("3"), Decimal("-0"), Decimal("2.5"), Decimal("1E+3"), Decimal("123456789012345678901234567890.123")]
def one_decimal(e, c): return Decimal("0.1")
def keys(e, c): return [{1: 1}, {None: 1}, {True: 1}, {1.5: 1}, {u"é": 1}]
def named_tuple(e, c): return {"p": Point(1, [Point(2, 3)]), "d": Decimal("1.50")}
def control(e, c): return u"\x00\x1f\x7f\"\\/<\u2028\U0001f600"
def surrogate(e, c): return eval('u"\\ud800"')  # Jython has no such text
def raw_bytes(e, c): return b"\x00\xffraw"
def bytes_inside(e, c): return {b"key": [b"caf\xc3\xa9"]}
def bad_bytes(e, c): return [b"\xff"]
def a_set(e, c): return {"s": set([1])}
def an_object(e, c): return Odd()
def byte_array(e, c): return bytearray(b"a")
def a_generator(e, c): return (i for i in "ab")
def tuple_key(e, c): return {(1, 2): 3}
def circular(e, c):
    ring = []
    ring.append(ring)
    return ring
def circular_later(e, c): return circular(e, c) if e else [[1], [1]]
def raising(e, c): raise ValueError("bad <%s>" % e)
def raising_own(e, c): raise Refused()
def raising_unicode(e, c): raise Refused(u"caf\xe9 \u2713")
def raising_unprintable(e, c): raise Unprintable()
def raising_deep(e, c):
    def inner():
        {}["missing"]
    inner()
def raising_chain(e, c):
    try:
        raise KeyError("first")
    except KeyError:
        raise Refused("second\nline two\n  indented")
def recursing(e, c): return recursing(e, c)
def writes(e, c):
    print("a line")
    sys.stdout.write("no end")
    sys.stderr.write("an error line\n")
def context(e, c):
    return [c.aws_request_id, c.function_name, c.function_version, c.memory_limit_in_mb, c.invoked_function_arn,
            c.log_group_name, c.log_stream_name, c.tenant_id, c.identity.cognito_identity_id,
            c.identity.cognito_identity_pool_id]
def client(e, c):
    x = c.client_context
    return [x.custom, x.env, x.client.app_title, x.client.installation_id, x.client.app_version_name,
            x.client.app_version_code, x.client.app_package_name, c.w3c(), c.tenant_id]
def client_none(e, c): return [c.client_context, c.w3c(), repr(c.identity)]
def representation(e, c): return repr(c)
def remaining(e, c): return c.get_remaining_time_in_millis()
def context_log(e, c):
    c.log("by log\n")
    c.log(12)
    print("")
def trace(e, c): return os.environ.get("_X_AMZN_TRACE_ID")
def variables(e, c):
    import subprocess
    inside = subprocess.Popen(["env"], stdout=subprocess.PIPE).communicate()[0].decode()
    return [[k for k in os.environ if k.startswith("KENNEL_")], "KENNEL_" in inside, "_X_AMZN_TRACE_ID=" in inside]
def default_timeout(e, c):
    import socket
    socket.setdefaulttimeout(0.05)
def no_stdout(e, c):
    sys.stdout = None
def broken_stdout(e, c):
    sys.stdout = sys.stderr = Odd()
def own_stdout(e, c):
    import io
    sys.stdout = io.StringIO()
def leave(e, c):
    sys.exit(e)
'''


def body(expected):
    return lambda a, py, log: same(a.body.decode("utf-8"), expected(py) if callable(expected) else expected)


def error(kind, message, frames=None):
    """frames: what each line of stackTrace must hold; None for any, [] for none."""
    def check(a, py, log):
        same(a.kind, "error")
        e = a.json()
        same(sorted(e), ["errorMessage", "errorType", "requestId", "stackTrace"])
        same(e["errorType"], kind)
        if message is not None:
            same(e["errorMessage"], message(py) if callable(message) else message)
        same(e["requestId"], a.request_id)
        same(a.headers["lambda-runtime-function-error-type"], kind)
        if frames is not None:
            same(len(e["stackTrace"]), len(frames))
            for line, part in zip(e["stackTrace"], frames):
                holds(line, part)
    return check


def ascii_or_not(escaped, plain):
    return lambda py: escaped if py.version < (3, 12) else plain


def key_error(py):
    return "'missing'"


INVOCATIONS = [
    # name, function, event, what must come of it; keywords of post(); the lowest version; AWS compared?
    ("echo", "echo", {"a": [1, -2.5, None, True, False, "x", {}, []]},
     body('{"a": [1, -2.5, null, true, false, "x", {}, []]}'), {}),
    ("non-ASCII result", "echo", "é✓", body(ascii_or_not('"\\u00e9\\u2713"', '"é✓"')), {}),
    ("no result", "nothing", None, body("null"), {}),
    ("order, tuple, long", "ordered", None, body('{"b": 1, "a": [1, 2], "c": 100000000000000000000}'), {}),
    ("floats", "floats", None, body("[1.0, 1e+22, 1e-07, -0.0, 0.1]"), {}),
    ("NaN stays", "not_numbers", None, body("[NaN, Infinity, -Infinity, NaN]"), {}),
    ("Decimal keeps digits", "decimals", None,
     body("[1.10, 3, -0, 2.5, 1E+3, 123456789012345678901234567890.123]"), {}),
    ("Decimal alone", "one_decimal", None, body("0.1"), {}),
    ("keys become text", "keys", None, body(lambda py:  # "True": Python 2.7's own json says so too
     '[{"1": 1}, {"null": 1}, {"True": 1}, {"1.5": 1}, {"\\u00e9": 1}]' if py.two else ascii_or_not('[{"1": 1}, {"null": 1}, {"true": 1}, {"1.5": 1}, {"\\u00e9": 1}]',
                       '[{"1": 1}, {"null": 1}, {"true": 1}, {"1.5": 1}, {"é": 1}]')(py)), {}),
    ("named tuple is an object", "named_tuple", None,
     lambda a, py, log: same(json.loads(a.body), {"p": {"x": 1, "y": [{"x": 2, "y": 3}]}, "d": 1.5}) or
     holds(a.body.decode(), "1.50"), {}),
    ("escapes", "control", None, body(ascii_or_not('"\\u0000\\u001f\\u007f\\"\\\\/<\\u2028\\ud83d\\ude00"',
                                                   '"\\u0000\\u001f\x7f\\"\\\\/<\u2028\U0001f600"')), {}),
    ("lone surrogate", "surrogate", None, body('"\\ud800"'), {"ours": True, "not_jython": True}),  # AWS's client crashes
    ("bytes go out raw", "raw_bytes", None, lambda a, py, log: same(
        (a.body, a.headers["content-type"]), (b"\x00\xffraw", "application/unknown")), {"lowest": (3,)}),
    ("bytes inside", "bytes_inside", None,
     body(ascii_or_not('{"key": ["caf\\u00e9"]}', '{"key": ["café"]}')), {}),
    ("bytes that are no text", "bad_bytes", None, error("Runtime.MarshalError", lambda py: MARSHAL + (
        "'utf8' codec can't decode byte 0xff in position 0: invalid start byte" if py.two and not py.jython else
        "'utf-8' codec can't decode byte 0xff in position 0: %s" % (
            "unexpected code byte" if py.jython else "invalid start byte")), []), {}),
    ("set", "a_set", None, error("Runtime.MarshalError", MARSHAL + "Object of type set is not JSON serializable", []),
     {}),
    ("object", "an_object", None,
     error("Runtime.MarshalError", MARSHAL + "Object of type Odd is not JSON serializable", []), {}),
    ("bytearray", "byte_array", None,
     error("Runtime.MarshalError", MARSHAL + "Object of type bytearray is not JSON serializable", []), {}),
    ("generator", "a_generator", None,
     error("Runtime.MarshalError", MARSHAL + "Object of type generator is not JSON serializable", []), {}),
    ("tuple as key", "tuple_key", None, error(
        "Runtime.MarshalError", MARSHAL + "keys must be str, int, float, bool or None, not tuple", []), {}),
    ("circular", "circular", None, error("Runtime.MarshalError", MARSHAL + "Circular reference detected", []), {}),
    ("a circle leaves no trace", "circular_later", None, body("[[1], [1]]"), {}),
    ("exception", "raising", "x", error("ValueError", "bad <x>", ["in handler\n", "in raising\n    def raising"]), {}),
    ("own exception, no text", "raising_own", None, error("Refused", ""), {}),
    ("exception in other letters", "raising_unicode", None, error("Refused", "café ✓"), {}),
    ("exception without a text", "raising_unprintable", None,
     error("Unprintable", "<Unprintable whose text cannot be made>"), {"ours": True}),  # AWS's client crashes
    ("inner frames", "raising_deep", None, error("KeyError", key_error, ["in handler", "in raising_deep", "in inner"]),
     {}),
    ("cause is left out", "raising_chain", None,
     error("Refused", "second\nline two\n  indented", ["in handler", "in raising_chain"]), {}),
    ("recursion", "recursing", None, lambda a, py, log: (
        same(a.kind, "error"), same(a.json()["errorType"], "RuntimeError" if py.two else "RecursionError")),
     {"ours": True}),  # the frames' number differs with the depth
    ("output comes before the answer", "writes", None, lambda a, py, log: (
        holds(log, "a line\n"), holds(log, "no end"), holds(log, "an error line\n")), {}),
    ("context", "context", None, lambda a, py, log: same(a.json(), [
        a.request_id, "fn", "$LATEST", "512", "arn:aws:lambda:us-east-1:000000000000:function:fn", "/aws/lambda/fn",
        "2026/01/01/[$LATEST]0123456789abcdef0123456789abcdef", None, None, None]), {}),
    ("identity and tenant", "context", None, lambda a, py, log: same(a.json()[-3:], ["blue", "i", "p"]),
     {"identity": {"cognitoIdentityId": "i", "cognitoIdentityPoolId": "p"}, "tenant": "blue"}),
    ("client context", "client", None, lambda a, py, log: same(a.json(), [
        {"k": "v"}, {"locale": "de"}, "title", "id", "name", "code", "package",
        {"traceparent": "00-1", "baggage": "b"}, None]),
     {"client_context": {"custom": {"k": "v"}, "env": {"locale": "de"}, "w3c": {
         "traceparent": "00-1", "baggage": "b", "tracestate": 1, "x": "y"}, "client": {
         "app_title": "title", "installation_id": "id", "app_version_name": "name", "app_version_code": "code",
         "app_package_name": "package"}}}),
    ("no client context", "client_none", None, body(
        '[null, {}, "CognitoIdentity([cognito_identity_id=None,cognito_identity_pool_id=None])"]'), {}),
    ("client context that is no JSON", "echo", None, error(
        "Runtime.LambdaContextUnmarshalError", None), {"header": ("Lambda-Runtime-Client-Context", "{")}),
    ("repr(context)", "representation", None, lambda a, py, log: same(a.json(), (
        "LambdaContext([aws_request_id=%s,log_group_name=/aws/lambda/fn,log_stream_name=2026/01/01/[$LATEST]"
        "0123456789abcdef0123456789abcdef,function_name=fn,memory_limit_in_mb=512,function_version=$LATEST,"
        "invoked_function_arn=arn:aws:lambda:us-east-1:000000000000:function:fn,client_context=None,"
        "identity=CognitoIdentity([cognito_identity_id=None,cognito_identity_pool_id=None]),tenant_id=None])"
    ) % a.request_id), {}),
    ("remaining time", "remaining", None, lambda a, py, log: check(25000 < a.json() <= 30000, a), {"ours": True}),
    ("remaining time is up", "remaining", None, body("0"), {"deadline_ms": 1000}),
    ("context.log", "context_log", None, lambda a, py, log: holds(log, "by log\n12"), {}),
    ("trace id", "trace", None, body('"Root=1-x"'), {"trace": "Root=1-x"}),
    ("no trace id", "trace", None, body("null"), {"trace": False}),
    ("trace id again", "trace", None, body('"Root=1-y"'), {"trace": "Root=1-y"}),
    ("environment", "variables", None, body("[[], false, true]"), {"ours": True}),
    # AWS's client words these two in simplejson's way; no client sees them, since the API refuses such events.
    ("event that ends early", None, None, error("Runtime.UnmarshalError", None, []), {"raw": b"{", "ours": True}),
    ("event that is no JSON", None, None, error("Runtime.UnmarshalError", None, []), {"raw": b'{"a":'}),
    ("empty event", None, None, error("Runtime.UnmarshalError", None, []), {"raw": b""}),
    ("more after the event", None, None, error("Runtime.UnmarshalError", None, []), {"raw": b"{} x", "ours": True}),
    ("event that is no UTF-8", None, None, error("Runtime.UnmarshalError", None, []), {"raw": b'"\xff"'}),
    ("event with a byte order mark", None, None, body("1"),
     {"raw": b'\xef\xbb\xbf {"do": "echo", "with": 1} \n'}),
    ("6 MB there and back", "echo", "x" * 6000000, lambda a, py, log: same(len(a.body), 6000002), {}),
    ("too large", "echo", "x" * 6291556, lambda a, py, log: same(a.kind, "too-large"), {"ours": True}),
    ("usable afterwards", "echo", 1, body("1"), {}),
    ("socket default timeout", "default_timeout", None, body("null"), {"pause": 0.1}),
    ("no stdout", "no_stdout", None, body("null"), {}),
    ("error without stdout", "raising", "y", error("ValueError", "bad <y>"), {"ours": True}),
    ("broken stdout", "broken_stdout", None, body("null"), {}),
    ("error with broken stdout", "raising", "z", error("ValueError", "bad <z>"), {"ours": True}),
    ("stdout of the handler's own", "own_stdout", None, body("null"), {}),
    ("process exit", "leave", 7, lambda a, py, log: same(a.kind, "exit"), {}),
]


# ---- cases with a process of their own ----

def init_error(kind, message, frames=None, status=1):
    def check(rt, py):
        a = rt.take()
        same(a.kind, "init/error")
        same(rt.wait_exit(), status)
        e = a.json()
        same(list(e), ["errorMessage", "errorType", "requestId", "stackTrace"])
        same((e["errorType"], e["requestId"]), (kind, ""))
        (holds if message is None or isinstance(message, re.Pattern) else same)(e["errorMessage"], message)
        same(a.headers["lambda-runtime-function-error-type"], kind)
        if frames is not None:
            same([line for line in e["stackTrace"] if "importlib" not in line], frames)
        return [a]
    return check


def answers(event, expected):
    def check(rt, py):
        a = rt.invoke(event)
        if callable(expected):
            expected(a, py, rt.log())
        else:
            same(a.body.decode(), expected)
        return [a]
    return check


def module_missing(name):
    return lambda py: "No module named " + (name if py.two else "'%s'" % name)


LOGGING = r'''
import logging, sys
logging.basicConfig(level=logging.DEBUG, format="mine")
log = logging.getLogger("shop")
log.warning("at init")
def handler(event, context):
    root = logging.getLogger()
    log.info("unseen")
    log.warning("seen %s", u"caf\xe9")
    root.setLevel("INFO")
    log.info("seen as well")
    log.debug("unseen")
    try:
        {}["k"]
    except KeyError:
        log.exception("it failed")
    return [len(root.handlers), type(root.handlers[0]).__name__, hasattr(root.handlers[0], "log_sink")]
'''
ODD_LOGGING = r'''# -*- coding: utf-8 -*-
import datetime, logging
log = logging.getLogger("shop.orders")
class Refused(Exception):
    pass
def handler(event, context):
    log.warning(u"caf\xe9 \u2713\n  second line\r\n\ttab", extra={"when": datetime.date(2020, 1, 2), "key": [1, {"a": None}]})
    log.warning("caf\xe9" if str is not bytes else "caf\xc3\xa9")
    log.log(35, "between %d%%", 3)
    log.log(99, "above")
    log.critical("last", stack_info=True) if str is not bytes else log.critical("last")
    log.warning({"b": 1, "n": {"when": datetime.date(2020, 1, 2)}})
    log.warning([1, "x"])
    try:
        raise Refused(u"caf\xe9\nno")
    except Refused:
        log.exception(u"it failed: \u2713")
    print("printed")
'''
LEVELS = r'''
import logging
def handler(event, context):
    for level in ("debug", "info", "warning", "error", "critical"):
        getattr(logging.getLogger("x"), level)(level)
    return [logging.getLogger().level, logging.getLogger("x").getEffectiveLevel()]
'''
JSON_LOGGING = r'''
import logging
log = logging.getLogger("shop")
def handler(event, context):
    log.info("quiet")
    log.error("seen %s", 1, extra={"order": 7, "skipped": None})
    if event != "all":
        return
    log.warning({"a": 1})
    try:
        {}["k"]
    except KeyError:
        log.exception("it failed")
    raise ValueError("no")
'''
LAZY = r'''
import sys
def handler(event, context):
    heavy = "json re socket os traceback logging http urllib decimal collections importlib site threading".split()
    return [name for name in heavy if name in sys.modules]
'''
FRAME = '  File "%s", line %d, in %s\n    %s\n'


def logging_text(rt, py):
    a = rt.invoke({})
    same(a.json(), [1, "LambdaLoggerHandler", True])
    log = rt.log()
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    for line in (r"\[WARNING\]\t%s\t\tat init\n" % stamp, r"\[WARNING\]\t%s\t%s\tseen café\n" % (stamp, a.request_id),
                 r"\[INFO\]\t%s\t%s\tseen as well\n" % (stamp, a.request_id),
                 r"\[ERROR\]\t%s\t%s\tit failed\nTraceback \(most recent call last\):\n" % (stamp, a.request_id)):
        check(re.search(line, log), "%s in %r" % (line, log))
    check("unseen" not in log and "mine" not in log, log)
    return [a]


def logging_json(rt, py):
    a, b = rt.invoke(""), rt.invoke("all")
    lines = [json.loads(line) for line in rt.log().splitlines()]
    same([(r["level"], r.get("message")) for r in lines], [
        ("INFO", "quiet"), ("ERROR", "seen 1"), ("INFO", "quiet"), ("ERROR", "seen 1"), ("WARNING", {"a": 1}), ("ERROR", "it failed"),
        ("ERROR", None)])
    check(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$", lines[0]["timestamp"]), lines)
    same({k: v for k, v in lines[1].items() if k != "timestamp"},
         {"level": "ERROR", "message": "seen 1", "logger": "shop", "requestId": a.request_id, "order": 7})
    same((lines[5]["errorType"], lines[5]["errorMessage"], len(lines[5]["stackTrace"])), ("KeyError", "'k'", 1))
    if not py.jython:  # it takes the logging module itself for the caller
        check(re.match(r".*app\.py:handler:\d+$", lines[5]["location"]), lines[5])
    same((lines[6]["errorType"], lines[6]["errorMessage"], lines[6]["requestId"]), ("ValueError", "no", b.request_id))
    return [a, b]


def logging_odd(rt, py):
    a = rt.invoke({})
    lines = rt.log().splitlines()
    same(lines.pop(), "printed")
    records = [json.loads(line) for line in lines]
    same([(r["level"], r["message"]) for r in records], [
        ("WARNING", "caf\u00e9 \u2713\n  second line\r\n\ttab"), ("WARNING", "caf\u00e9"), ("WARNING", "between 3%"),
        ("CRITICAL", "above"), ("CRITICAL", "last"), ("WARNING", {"b": 1, "n": {"when": "2020-01-02"}}),
        ("WARNING", "[1, 'x']"), ("ERROR", "it failed: \u2713")])
    same((records[0]["when"], records[0]["key"], records[0]["logger"]), ("2020-01-02", [1, {"a": None}], "shop.orders"))
    same((records[7]["errorType"], records[7]["errorMessage"]), ("Refused", "caf\u00e9\nno"))
    holds(records[7]["stackTrace"][0], "in handler")
    return [a]


NO_EXCEPTION = r'''
import logging
class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no text")
def handler(event, context):
    logging.error("none", exc_info=True)
    try:
        raise Unprintable()
    except Unprintable:
        logging.exception("one", extra={"bytes": [b"\xff"]})
'''


def logging_no_exception(rt, py):
    same(rt.invoke({}).body, b"null")
    none, one = [json.loads(line) for line in rt.log().splitlines()]
    same((none["message"], none.get("errorType")), ("none", None))
    same((one["errorType"], one["errorMessage"]), ("Unprintable", "<Unprintable whose text cannot be made>"))
    holds(one["bytes"] if py.two else one["bytes"][0], "xff")
    return []


def logging_levels(level, seen):
    def check_levels(rt, py):
        a = rt.invoke({})
        same([json.loads(line)["level"] for line in rt.log().splitlines()], seen)
        same(a.json(), [LEVEL_NUMBERS[level]] * 2)
        return [a]
    return check_levels


LEVEL_NUMBERS = {"TRACE": 10, "DEBUG": 10, "INFO": 20, "WARN": 30, "ERROR": 40, "FATAL": 50}
LEVELS_SEEN = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]


def logging_level(rt, py):
    a = rt.invoke("x")
    check("quiet" not in rt.log() and "seen 1" in rt.log(), rt.log())
    return [a]


def error_text(rt, py):
    a = rt.invoke({})
    nbsp = "\u00a0"
    same(rt.log(), "[ERROR] ValueError: no\rTraceback (most recent call last):\r%sFile \"%s/app.py\", line 2, in "
         "handler\r%sraise ValueError('no')\n" % (nbsp * 2, rt.task_root, nbsp * 4))
    same(a.json()["stackTrace"], [FRAME % (rt.task_root + "/app.py", 2, "handler", "raise ValueError('no')")])
    return [a]


def exits(status, event=None):
    def check(rt, py):
        if event is not None:
            rt.post(event)
        same(rt.take().kind, "exit")
        same(rt.wait_exit(), status)
        same([r for r in rt.requests if r[0] == "POST"], [])
        return []
    return check


def wrong_signature(rt, py):
    a = rt.invoke({})
    e = a.json()
    same(e["errorType"], "TypeError")
    holds(e["errorMessage"], "handler() takes")
    same(len(e["stackTrace"]), 1)
    holds(e["stackTrace"][0], "in handle_event_request\n    response = request_handler(event, lambda_context)\n")
    return [a]


def too_large(rt, py):
    same(rt.invoke(200).kind, "too-large")
    same(rt.invoke(1).body, b'"x"')
    same([r[1].rpartition("/")[2] for r in rt.requests if r[0] == "POST"], ["response", "error", "response"])
    return []


def sys_path(rt, py):
    path = rt.invoke({}).json()
    version = "%d.%d" % py.version[:2]
    same(path[:4], [rt.task_root, "/opt/python/lib/python%s/site-packages" % version, "/opt/python",
                    os.path.dirname(BOOTSTRAP)])
    check(not any("-packages" in entry for entry in path[4:]), path)
    check(len(path) > 5, path)
    return []


def python_path(rt, py):
    path = rt.invoke({}).json()
    same(path[:3], [rt.task_root, rt.task_root + "/extra", "/opt/python/lib/python3.9/site-packages"])
    same(path.count(rt.task_root + "/extra"), 1)
    return []


IMPORTING = '''
def handler(event, context):
    return %s
'''
# ---- a start ahead of time ----

SURROUNDINGS = r'''# -*- coding: utf-8 -*-
import os, sys, time
HOUR = time.strftime("%H %Z", time.localtime(0))
def handler(event, context):
    import subprocess
    inside = subprocess.Popen(["env"], stdout=subprocess.PIPE).communicate()[0].decode("utf-8")
    return {"env": dict(os.environ), "inside": sorted(line for line in inside.splitlines() if line[:2] != "_="), "cwd": os.getcwd(),
            "path": sys.path, "hour": HOUR, "argv": sys.argv, "meta": [str(type(f)) for f in sys.meta_path],
            "unset": os.environ.get("BOOT_ONLY"), "gone": os.getenv("KENNEL_RUNTIME_API_SOCKET"),
            "value": getattr(os, "environb", os.environ).get(b"NAME_\xc3\x84", b"").decode("utf-8")}
'''


def same_as_normal_start(rt, py):
    """Environment, working directory, sys.path, time zone: all as if the function had been there from the start."""
    rt.claim_waiting.wait(20)
    same(rt.requests, [("GET", "/kennel/claim")])
    same(rt.process.poll(), None)
    with open(rt.task_root + "/app.py", "w", encoding="utf-8") as f:  # the code comes last, as it does in a sandbox
        f.write(SURROUNDINGS)
    if py.jython:  # takes no environment but ASCII without the host's locale, and has time zones of its own
        rt.extra_env.update({"TZ": "Europe/Athens", "NAME": "ascii"})
        del rt.env["NAME_\u00c4"], rt.extra_env["NAME_\u00c4"]
    rt.claim(rt.extra_env)
    got = rt.invoke({}).json()
    normal = Python("normal", py.argv, py.version)
    normal.jython = py.jython
    with normal.run(rt.task_root, "app.handler", rt.extra_env) as other:
        expected = other.invoke({}).json()
    for answer, run in ((got, rt), (expected, other)):
        same([name for name in answer["env"] if name[:6] in ("KENNEL", "BOOT_O")], [])
        same([line for line in answer["inside"] if line[:6] in ("KENNEL", "BOOT_O")], [])
        port = run.env["AWS_LAMBDA_RUNTIME_API"]
        answer["env"].pop("AWS_LAMBDA_RUNTIME_API")
        answer["inside"].remove("AWS_LAMBDA_RUNTIME_API=" + port)
    check(len(got["env"]) > 12, got["env"])
    if got["meta"] != expected["meta"]:  # the hook that waits for `logging`, which has come already
        same(got.pop("meta"), expected.pop("meta")[1:])
    same(got, expected)
    same(got["cwd"], rt.task_root)
    same((got["value"], got["hour"]), ("", "02 EET") if py.jython else ("\u00fc \u2713", "03 ABC"))
    return []


def claim_refused(answer, message):
    def check_refused(rt, py):
        rt.claim_answer = answer
        rt.claim()
        same(rt.wait_exit(), 1)
        same([r for r in rt.requests if r[0] == "POST"], [])
        holds(rt.log(), message)
        return []
    return check_refused


def claim_closes(rt, py):
    """The connection need not be the same one: the next goes to the same socket, though the environment names it no more."""
    rt.claim_answer = (200, json.dumps({"env": rt.env}).encode(), [("Connection", "close")])
    rt.claim()
    same(rt.invoke([1]).body, b"[1]")
    same(rt.requests[:2], [("GET", "/kennel/claim"), ("GET", "/2018-06-01/runtime/invocation/next")])
    return []


SHADOWS = '''
import datetime, http, json, typing, uuid
from urllib.parse import quote
def handler(event, context):
    return [uuid.MINE, http.MINE, json.loads("1"), typing.List.__module__, quote("a b"), datetime.date(2020, 1, 2).isoformat()]
'''
AHEAD = {"preboot": True, "fake": {"preboot": True}, "ours": True}
OWN = [
    # name, files, handler, environment, what must come of it, options
    ("handler in a folder", {"some/where/mod.py": "def go(e, c): return __name__"}, "some/where/mod.go", {},
     answers(1, '"some.where.mod"'), {"lowest": (3,)}),
    ("handler in a package", {"pkg/__init__.py": "", "pkg/mod.py": "def go(e, c): return __name__"}, "pkg.mod.go", {},
     answers(1, '"pkg.mod"'), {}),
    ("module named bootstrap", {"bootstrap.py": "def handler(e, c): raise ValueError(1)"}, "bootstrap.handler", {},
     answers(1, lambda a, py, log: same(len(a.json()["stackTrace"]), 1)), {"ours": True}),
    ("missing module", {"other.py": ""}, "app.handler", {},
     init_error("Runtime.ImportModuleError", re.compile("^Unable to import module 'app': No module named '?app'?$"), []),
     {}),
    ("missing dependency", {"app.py": "import nowhere_to_be_found"}, "app.handler", {}, init_error(
        "Runtime.ImportModuleError",
        re.compile("^Unable to import module 'app': No module named '?nowhere_to_be_found'?$"), []), {}),
    ("missing folder", {"app.py": ""}, "src/app.handler", {}, init_error(
        "Runtime.ImportModuleError", re.compile("^Unable to import module 'src/app': No module named '?src"), []), {}),
    ("missing handler", {"app.py": ""}, "app.handler", {},
     init_error("Runtime.HandlerNotFound", "Handler 'handler' missing on module 'app'", []), {}),
    ("syntax error", {"app.py": "def handler(e, c):\n    return (\n"}, "app.handler", {},
     init_error("Runtime.UserCodeSyntaxError", re.compile(r"^Syntax error in module 'app': .*\(app.py, line \d\)$")),
     {}),
    ("malformed name", {"app.py": ""}, "handler", {}, init_error(
        "Runtime.MalformedHandlerName", "Bad handler 'handler': not enough values to unpack (expected 2, got 1)", []),
     {}),
    ("built-in module", {"sys.py": "def handler(e, c): pass"}, "sys.handler", {},
     init_error("Runtime.BuiltInModuleConflict", "Cannot use built-in module sys as a handler module", []), {}),
    ("relative module", {"app.py": ""}, "../app.handler", {}, init_error("TypeError", None), {"lowest": (3,)}),
    ("exception at import", {"app.py": "\ndef f():\n    raise KeyError('k')\nf()\n"}, "app.handler", {},
     lambda rt, py: init_error("KeyError", "'k'", [
         FRAME % (rt.task_root + "/app.py", 4, "<module>", "f()"),
         FRAME % (rt.task_root + "/app.py", 3, "f", "raise KeyError('k')")])(rt, py), {}),
    ("exit at import", {"app.py": "import sys\nsys.exit(3)"}, "app.handler", {}, exits(3), {}),
    ("exit in the handler", {"app.py": "import sys\ndef handler(e, c): sys.exit(4)"}, "app.handler", {}, exits(4, 1), {}),
    ("exit()", {"app.py": "def handler(e, c): exit(5)"}, "app.handler", {}, exits(5, 1), {}),
    ("quit with a text", {"app.py": "def handler(e, c): quit('bye')"}, "app.handler", {}, exits(1, 1), {}),
    ("beyond Exception", {"app.py": "class Stop(BaseException): pass\ndef handler(e, c): raise Stop()"}, "app.handler",
     {}, exits(1, 1), {"ours": True}),
    ("wrong signature", {"app.py": "def handler(): pass"}, "app.handler", {}, wrong_signature, {"ours": True}),
    ("not callable", {"app.py": "handler = 5"}, "app.handler", {}, answers(1, error(
        "TypeError", "'int' object is not callable")), {"ours": True}),
    ("error in the log", {"app.py": "def handler(e, c):\n    raise ValueError('no')\n"}, "app.handler", {}, error_text, {}),
    ("logging", {"app.py": LOGGING}, "app.handler", {}, logging_text, {}),
    ("logging as JSON", {"app.py": JSON_LOGGING}, "app.handler",
     {"AWS_LAMBDA_LOG_FORMAT": "JSON", "AWS_LAMBDA_LOG_LEVEL": "INFO"}, logging_json, {}),
    ("logging looked for, then imported", {"app.py": "import importlib.util\nimportlib.util.find_spec('logging')\n" + LOGGING},
     "app.handler", {}, logging_text, {"lowest": (3,)}),
    ("logging imported by a library", {"app.py": "import concurrent.futures\n" + LOGGING}, "app.handler", {}, logging_text,
     {"lowest": (3,)}),
    ("odd records as JSON", {"app.py": ODD_LOGGING}, "app.handler", {"AWS_LAMBDA_LOG_FORMAT": "JSON"}, logging_odd, {}),
    # AWS's client fails the invocation over either of these.
    ("records AWS's client dies of", {"app.py": NO_EXCEPTION}, "app.handler",
     {"AWS_LAMBDA_LOG_FORMAT": "JSON"}, logging_no_exception, {"ours": True}),
] + [
    ("level " + level, {"app.py": LEVELS}, "app.handler", {"AWS_LAMBDA_LOG_FORMAT": "JSON", "AWS_LAMBDA_LOG_LEVEL": level},
     logging_levels(level, LEVELS_SEEN[number // 10 - 1:]), {}) for level, number in LEVEL_NUMBERS.items()
] + [
    ("logging level", {"app.py": JSON_LOGGING}, "app.handler", {"AWS_LAMBDA_LOG_LEVEL": "ERROR"}, logging_level, {}),
    ("init error as JSON", {"app.py": ""}, "app.handler", {"AWS_LAMBDA_LOG_FORMAT": "json"}, lambda rt, py: (
        rt.take(), rt.wait_exit(), same({k: v for k, v in json.loads(rt.log().splitlines()[-1]).items() if k != "timestamp"}, {
            "level": "ERROR", "errorType": "Runtime.HandlerNotFound", "requestId": "", "stackTrace": [],
            "errorMessage": "Handler 'handler' missing on module 'app'"}))[:1], {}),
    ("nothing imported unasked", {"app.py": LAZY}, "app.handler", {}, answers({"a": [1.5, "é"]}, "[]"),
     {"ours": True}),
    ("sys.path", {"app.py": IMPORTING % "__import__('sys').path"}, "app.handler", {}, sys_path, {"ours": True}),
    ("PYTHONPATH", {"app.py": IMPORTING % "__import__('sys').path", "extra/x.py": ""}, "app.handler",
     {"PYTHONPATH": "{task}/extra", "AWS_EXECUTION_ENV": "AWS_Lambda_python3.9"}, python_path,
     {"ours": True}),
    ("sitecustomize", {"app.py": IMPORTING % "__import__('sys').customized", "extra/sitecustomize.py":
                       "import sys\nsys.customized = 1\nimport logging"}, "app.handler",
     {"PYTHONPATH": "{task}/extra"}, answers(1, "1"), {"ours": True}),
    ("broken sitecustomize", {"app.py": IMPORTING % "1", "extra/sitecustomize.py": "1 / 0"}, "app.handler",
     {"PYTHONPATH": "{task}/extra"}, answers(1, lambda a, py, log: same(a.body, b"1") or holds(
         log, "Error in sitecustomize; set PYTHONVERBOSE")), {"ours": True}),
    ("PYTHONOPTIMIZE", {"app.py": "def handler(e, c):\n    assert False\n    return __debug__"}, "app.handler",
     {"PYTHONOPTIMIZE": "1", "PYTHONDONTWRITEBYTECODE": "1"}, answers(1, "false"), {}),
    (".pth file", {"app.py": IMPORTING % "__import__('hidden').X", "lib/hidden.py": "X = 1", "a.pth": "lib\n"},
     "app.handler", {}, answers(1, "1"), {"ours": True}),
    ("ASCII for 3.11", {"app.py": IMPORTING % "event"}, "app.handler", {"AWS_EXECUTION_ENV": "AWS_Lambda_python3.11"},
     answers("é", '"\\u00e9"'), {}),
    ("UTF-8 for 3.12", {"app.py": IMPORTING % "event"}, "app.handler", {"AWS_EXECUTION_ENV": "AWS_Lambda_python3.12"},
     answers("é", '"é"'), {"lowest": (3,)}),
    ("ahead: as in a normal start", {}, "app.handler",
     {"TZ": "ABC-3", "NAME_\u00c4": "\u00fc \u2713", "AWS_LAMBDA_FUNCTION_NAME": "other"}, same_as_normal_start, AHEAD),
    ("ahead: refused", {}, "app.handler", {}, claim_refused((410, b"{}"), "answered 410 to `claim`"), AHEAD),
    ("ahead: connection closed", {"app.py": IMPORTING % "event"}, "app.handler", {"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:1"},
     claim_closes, AHEAD),
    ("ahead: package's own modules", {"app.py": SHADOWS, "uuid.py": "MINE = 1", "http/__init__.py": "MINE = 2"},
     "app.handler", {}, answers(1, '[1, 2, 1, "typing", "a%20b", "2020-01-02"]'), {"lowest": (3,), "ours": True}),
    ("TCP door", {"app.py": IMPORTING % "event"}, "app.handler", {"KENNEL_RUNTIME_API_SOCKET": ""},
     answers([1], "[1]"), {}),
    ("too large", {"app.py": IMPORTING % "'x' * event"}, "app.handler", {}, too_large,
     {"ours": True, "fake": {"response_limit": 100}}),
]


# ---- HTTP out of the ordinary, from a server that plays a script ----

NEXT = b"Lambda-Runtime-Aws-Request-Id: r%d\r\nLambda-Runtime-Deadline-Ms: 99999999999999\r\n"
OK = b"HTTP/1.1 202 Accepted\r\nContent-Length: 16\r\n\r\n" + b'{"status":"OK"}\n'


def plain_next(i, more=b""):
    return b"HTTP/1.1 200 OK\r\n" + NEXT % i + more + b"Content-Length: 1\r\n\r\n%d" % i


def script_server(steps, task, py):
    """Plays `steps`: what to send for each request in turn, as bytes, a list of pieces, or None to drop the connection
    instead; "drop" after an answer drops it then. Gives the requests and the bootstrap's exit status."""
    folder = tempfile.mkdtemp(prefix="script-")
    listener = socket.socket(socket.AF_INET if py.jython else socket.AF_UNIX)
    listener.bind(("127.0.0.1", 0) if py.jython else folder + "/s")
    listener.listen(4)
    listener.settimeout(30)
    env = {"PATH": os.environ["PATH"], "_HANDLER": "app.handler", "LAMBDA_TASK_ROOT": task, "LANG": "C.UTF-8"}
    if py.jython:
        env["AWS_LAMBDA_RUNTIME_API"] = "127.0.0.1:%d" % listener.getsockname()[1]
    else:
        env["KENNEL_RUNTIME_API_SOCKET"] = folder + "/s"
    argv = py.argv + (["-B"] if py.jython else ["-S"]) + ["-u", BOOTSTRAP]
    process = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    seen, connection, data = [], None, b""
    try:
        for step in steps:
            if step == "drop":
                connection.close()
                connection = None
                continue
            while True:
                if connection is None:
                    connection, _ = listener.accept()
                    connection.settimeout(30)
                    data = b""
                head, end, rest = data.partition(b"\r\n\r\n")
                length = int((re.search(rb"Content-Length: (\d+)", head) or [0, 0])[1])
                if end and len(rest) >= length:
                    break
                more = connection.recv(65536)
                if not more:
                    connection = None
                data += more
            seen.append(head.split(b" HTTP")[0].replace(b"/2018-06-01/runtime/", b"").decode() + " " + rest[:length].decode())
            data = rest[length:]
            if step is None:
                connection.close()
                connection = None
                continue
            for piece in step if isinstance(step, list) else [step]:
                connection.sendall(piece)
                if isinstance(step, list):
                    time.sleep(0.002)
        if connection:
            connection.close()
        listener.close()
        return seen, process.wait(30)
    finally:
        process.kill()
        process.wait()
        listener.close()
        shutil.rmtree(folder)


CYCLE = ["GET invocation/next ", "POST invocation/r%d/response %d"]


def cycles(*numbers):
    return [line.replace("%d", str(n)) for n in numbers for line in CYCLE]


HTTP = [
    # name, steps, the requests that must be seen (`next` at the end included)
    ("answer in pieces", [[bytes([b]) for b in plain_next(1)], OK, plain_next(2), OK, None, None], cycles(1, 2)),
    ("chunked answer", [b"HTTP/1.1 200 OK\r\n" + NEXT % 1 + b"Transfer-Encoding: chunked\r\n\r\n1\r\n1\r\n2\r\n23\r\n0\r\n\r\n",
                        OK, [b"HTTP/1.1 200 OK\r\n" + NEXT % 2 + b"transfer-encoding: chunked\r\n\r\n1;x=y\r", b"\n2\r\n",
                             b"0\r\n", b"\r\n"], OK, None, None],
     ["GET invocation/next ", "POST invocation/r1/response 123"] + cycles(2)),
    ("Connection: close", [plain_next(1, b"Connection: close\r\n"), "drop", OK, "drop", plain_next(2), OK, None, None],
     cycles(1, 2)),
    ("kept connection dropped", [plain_next(1), "drop", OK, "drop", plain_next(2), "drop", OK, None, None],
     cycles(1, 2)),
    ("answer of `next` dropped", [plain_next(1), OK, None, plain_next(2), OK, None, None],
     cycles(1) + ["GET invocation/next "] + cycles(2)),
    ("request unknown by now", [plain_next(1), b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", plain_next(2), OK,
                                None, None], cycles(1, 2)),
    ("`next` refused", [b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n"], ["GET invocation/next "]),
]


# ---- running ----

def same(got, expected):
    if got != expected:
        raise AssertionError("got %s\n  not %s" % (ascii(got)[:1500], ascii(expected)[:1500]))


def holds(text, part):
    if isinstance(part, re.Pattern):
        check(part.search(text), "%r does not match %r" % (text, part.pattern))
    elif part is not None and part not in text:
        raise AssertionError("%r does not hold %r" % (text[:1500], part))


def note(py, name, started):
    if os.environ.get("KENNEL_TEST_VERBOSE"):
        print("%7.2f s %s %s" % (time.monotonic() - started, py.label, name), file=sys.stderr, flush=True)


def check(truth, what):
    if not truth:
        raise AssertionError(str(what)[:1500])


def write_package(files):
    task = os.path.realpath(tempfile.mkdtemp(prefix="task-"))
    for name, text in files.items():
        path = os.path.join(task, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
    return task


def comparable(text, task, request_ids):
    """Takes out what may differ between AWS's client and ours: times, ids, its importlib frames and its advertisement."""
    for request_id in request_ids:
        text = text.replace(request_id, "ID")
    text = text.replace(task, "TASK")
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z", "TIME", text)
    text = re.sub(r'.*LAMBDA_WARNING.*\n', "", text)
    text = re.sub("\r\u00a0\u00a0File \"[^\"]*importlib[^\"]*\", line \\d+, in \\w+(\r\u00a0{4}[^\r\n]*)?", "", text)
    return text


def record(answer):
    text = answer.body.decode("latin-1")
    if answer.kind == "init/error":
        error = answer.json()
        error["stackTrace"] = [line for line in error["stackTrace"] if "importlib" not in line]
        return [answer.kind, error]
    return [answer.kind, answer.headers.get("content-type"), text[:20000], len(text)]


def run_invocations(py, words):
    """Gives {name: error or None} and {name: what to compare with AWS's client}."""
    results, records = {}, {}
    chosen = [c for c in INVOCATIONS if not words or any(w in c[0] for w in words)]
    rt = task = None
    try:
        for name, function, event, expected, options in chosen:
            options = dict(options)
            if py.version < options.pop("lowest", (0,)):
                results[name] = Skip("only from Python 3 on")
                continue
            if options.pop("not_jython", False) and py.jython:
                results[name] = Skip("not for Jython")
                continue
            started = time.monotonic()
            ours, pause = options.pop("ours", False), options.pop("pause", 0)
            if py.client and ours and name != "too large":
                continue
            if py.client and name == "too large":
                continue
            try:
                if rt is None or rt.returncode is not None:
                    if rt:
                        rt.__exit__()
                    task = task or write_package({"app.py": APP})
                    rt = py.run(task, "app.handler").__enter__()
                if pause:
                    time.sleep(pause)
                start = len(rt.log())
                header = options.pop("header", None)
                rt.post({"do": function, "with": event}, **options)
                if header:
                    request_id, headers, payload = rt.pending.get_nowait()
                    rt.pending.put((request_id, headers + [header], payload))
                a = rt.take()
                log = rt.log()[start:]
                records[name] = [record(a), log, [a.request_id] if a.request_id else [], task]
                expected(a, py, log)
                results[name] = None
            except Exception as e:
                results[name] = e
            note(py, name, started)
    finally:
        if rt:
            rt.__exit__()
        if task:
            shutil.rmtree(task)
    return results, records


def run_own(py, words):
    results, records = {}, {}
    for name, files, handler, env, expected, options in OWN:
        if words and not any(w in name for w in words) or py.jython and name not in JYTHON_OWN:
            continue
        if py.version < options.get("lowest", (0,)):
            results[name] = Skip("only from Python 3 on")
            continue
        if py.client and options.get("ours"):
            continue
        if py.preboot and (any(key.startswith("PYTHON") for key in env) or name == "nothing imported unasked"):
            continue  # these variables have to be there when the process starts
        if options.get("preboot") and not py.preboot:
            continue
        started = time.monotonic()
        task = write_package(files)
        try:
            env = {k: v.replace("{task}", task) for k, v in env.items()}
            with py.run(task, handler, env, **options.get("fake", {})) as rt:
                answers_ = expected(rt, py)
                records[name] = [[record(a) for a in answers_], rt.log(), [a.request_id for a in answers_ if a.request_id], task]
            results[name] = None
        except Exception as e:
            results[name] = e
        finally:
            shutil.rmtree(task)
        note(py, name, started)
    return results, records


def run_http(py, words):
    results = {}
    task = write_package({"app.py": IMPORTING % "event"})
    for name, steps, expected in HTTP:
        if words and not any(w in name for w in words) or py.jython and name not in JYTHON_HTTP:
            continue
        try:
            seen, status = script_server(steps, task, py)
            same([line for line in seen if line.startswith("POST")], [line for line in expected if line.startswith("POST")])
            same(seen[:len(expected)], expected)
            same(status, 1)
            results[name] = None
        except Exception as e:
            results[name] = e
    shutil.rmtree(task)
    return results


def compare(name, ours, aws):
    (our_answers, our_log, our_ids, our_task), (aws_answers, aws_log, aws_ids, aws_task) = ours, aws
    same(comparable(json.dumps(our_answers), our_task, our_ids), comparable(json.dumps(aws_answers), aws_task, aws_ids))
    same(comparable(our_log, our_task, our_ids), comparable(aws_log, aws_task, aws_ids))


def find_pythons():
    found, missing = [], []
    places = ["/usr/local/bin", "/usr/bin"] + glob.glob(os.path.expanduser("~/.pyenv/versions/*/bin")) + \
        glob.glob("/opt/python*/bin")
    for version in VERSIONS:
        numbers = tuple(int(n) for n in version.split("."))
        paths = []
        for place in places:
            path = os.path.join(place, "python" + version)
            if os.access(path, os.X_OK):
                with open(path, "rb") as f:
                    if f.read(2) != b"#!":
                        paths.append(os.path.realpath(path))
        for i, path in enumerate(dict.fromkeys(paths)):
            found.append(Python(version + "'" * i, [path], numbers))
        if not paths:
            missing.append((version, "no python%s on this host" % version))
    jar, java = os.environ.get("KENNEL_TEST_JYTHON"), shutil.which("java")
    if jar and java:
        found.append(Python("jython", [java, "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto",
                                       "-XX:-UsePerfData", "-Dpython.cachedir.skip=true", "-jar", jar, "-S"], (2, 7)))
    else:
        missing.append(("jython", "no jython-standalone jar" if java else "no JVM"))
    # Each once more, started ahead of time: what comes of it must be the same. Some do all cases, the others few.
    labels = [py.label for py in found if "'" not in py.label]
    thorough = labels[:2] + ["%d.%d" % sys.version_info[:2], "jython"] + [label for label in labels if label != "jython"][-1:]
    found += [Python(py.label + "+", py.argv, py.version, preboot="all" if py.label in thorough else "few")
              for py in found if py.label in labels]
    return found, missing


# A JVM takes a second and more to start, so of the cases with a process of their own it gets those that could differ.
JYTHON_OWN = ("handler in a package", "missing module", "syntax error", "exception at import", "exit in the handler",
              "logging", "logging as JSON", "sys.path", "exit()", "error in the log", "ahead: as in a normal start")
JYTHON_HTTP = ("chunked answer", "kept connection dropped", "answer in pieces")


def run_all(py, words):
    global OWN, HTTP
    if py.preboot == "few":
        words = words or ["ahead", "log"]
    results, records = run_invocations(py, words)
    more, more_records = run_own(py, words)
    results.update(("own: " + k, v) for k, v in more.items())
    records.update(("own: " + k, v) for k, v in more_records.items())
    if not py.client and not py.preboot:
        results.update(("http: " + k, v) for k, v in run_http(py, words).items())
    return results, records


def main(words):
    started = time.monotonic()
    pythons, missing = find_pythons()
    client = os.environ.get("KENNEL_TEST_AWS_CLIENT", "")
    aws = None
    if os.path.isdir(client):
        aws = Python("aws", [sys.executable], sys.version_info[:2], client)
    else:
        missing.append(("aws", "AWS's runtime client could not be installed for python3"))
    only = [word[1:] for word in words if word.startswith("=")]
    words = [word for word in words if not word.startswith("=")]
    if only:
        pythons = [py for py in pythons if py.label in only]
        aws = aws if "aws" in only else None
    every = pythons + ([aws] if aws else [])
    # Two at a time, slow Jython first.
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        futures = {py.label: pool.submit(run_all, py, words) for py in sorted(every, key=lambda p: not p.jython)}
        outcome = {label: future.result() for label, future in futures.items()}
    if aws:
        # Our answers on the same interpreter, beside AWS's client's.
        theirs = outcome.pop("aws")[1]
        twin = next(p for p in pythons if p.argv[0] == os.path.realpath(sys.executable)) if any(
            p.argv[0] == os.path.realpath(sys.executable) for p in pythons) else None
        results = {}
        if twin:
            mine = outcome[twin.label][1]
            for name in theirs:
                if name in mine:
                    try:
                        compare(name, mine[name], theirs[name])
                        results[name] = None
                    except AssertionError as e:
                        results[name] = e
        outcome["=aws"] = (results, {})
    ours = set(case[0] for case in INVOCATIONS if case[4].get("ours")) | set("own: " + case[0] for case in OWN if case[5].get("ours"))
    for label in outcome:
        if label + "+" not in outcome:
            continue
        results, records = outcome[label + "+"]
        for name, record_ in records.items():
            if name in outcome[label][1] and name not in ours and results[name] is None:
                try:
                    compare(name, record_, outcome[label][1][name])
                except AssertionError as e:
                    results[name] = e
    labels = list(outcome)
    names = list(dict.fromkeys(name for label in labels for name in outcome[label][0]))
    counts = {"ok": 0, "FAIL": 0, "skip": 0}
    print("%-34s %s" % ("", " ".join("%6s" % label for label in labels)))
    failures, skips = [], {}
    for name in names:
        row = []
        for label in labels:
            if name not in outcome[label][0]:
                row.append("")
                continue
            result = outcome[label][0][name]
            mark = "ok" if result is None else "skip" if isinstance(result, Skip) else "FAIL"
            counts[mark] += 1
            row.append(mark)
            if mark == "FAIL":
                failures.append("%s on %s: %s" % (name, label, "".join(traceback.format_exception_only(type(result), result)).strip()))
            elif mark == "skip":
                skips.setdefault("%s: %s" % (label, result), []).append(name)
        print("%-34s %s" % (name, " ".join("%6s" % mark for mark in row)))
    for failure in failures:
        print("\n" + failure)
    for reason, names in skips.items():
        print("skipped on %s (%d): %s" % (reason, len(names), ", ".join(names)))
    for label, reason in missing:
        counts["skip"] += 1
        print("skipped %s: %s" % (label, reason))
    print("%.0f s; AWS's client compared: %s" % (time.monotonic() - started, "yes" if aws else "no"))
    print("%d passed, %d failed, %d skipped" % (counts["ok"], counts["FAIL"], counts["skip"]))
    return 1 if counts["FAIL"] or not counts["ok"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
