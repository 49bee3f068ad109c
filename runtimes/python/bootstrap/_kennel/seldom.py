"""What most invocations do without: errors, JSON and HTTP that are out of the ordinary, less common set-ups."""
import sys

import _kennel
from _kennel import Fault, SocketError, default, encode, post, unmarshal, variable


# ---- errors ----

def text_of(error):
    """Gives str(error) as text, whatever that method does."""
    try:
        return str(error) if str is not bytes else unicode(error)  # noqa: F821, Python 2's name
    except Exception:
        try:
            return str(error).decode("utf-8", "replace")
        except Exception:
            return "<%s whose text cannot be made>" % type(error).__name__


def frames_of(trace):
    """Gives a traceback's lines as the traceback module prints them, without the bootstrap's own first frames."""
    import traceback
    frames = [tuple(frame)[:4] for frame in traceback.extract_tb(trace)]
    for i, frame in enumerate(frames):
        if not frame[0].startswith(_kennel.folder + "/"):
            frames = frames[i:]
            break
    lines = traceback.format_list(frames)
    return lines if str is not bytes else [line.decode("utf-8", "replace") for line in lines]


def report_error(exc_info, path):
    """Logs an exception and posts it; `path` is where below the API, up to its last slash."""
    kind, value, trace = exc_info
    if kind is Fault:
        error = [text_of(value), value.kind, value.trace or []]
    else:
        error = [text_of(value), kind.__name__, frames_of(trace)]
    log_error(*error)
    post_error(path, *error)


def post_error(path, message, kind, frames):
    # One key after the other as AWS has them; dicts of old versions keep no order.
    body = b'{"errorMessage": %s, "errorType": %s, "requestId": %s, "stackTrace": %s}' % (
        encode(message), encode(kind), encode(_kennel.aws_request_id or ""), encode(frames))
    header = b"Lambda-Runtime-Function-Error-Type: %s\r\n" % kind.encode("utf-8")
    if post(path + b"error", body, more=header)[0] == 413 and frames:
        post_error(path, message[:65536], kind, [])


def report_too_large(path):
    message = "Response payload size exceeded maximum allowed payload size (6291556 bytes)."
    kind = b"Function.ResponseSizeTooLarge"
    post(path + b"error", b'{"errorMessage": %s, "errorType": "%s"}' % (encode(message), kind),
         more=b"Lambda-Runtime-Function-Error-Type: %s\r\n" % kind)


def log_error(message, kind, frames):
    """Prints an error as AWS does: one line, its parts parted by carriage returns, or an object if JSON is asked for."""
    if variable("AWS_LAMBDA_LOG_FORMAT", "").upper() == "JSON":
        import time
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = b'{"timestamp": "%s", "level": "ERROR", "errorMessage": %s, "errorType": %s, "requestId": %s, ' \
            b'"stackTrace": %s}' % (stamp.encode(), encode(message), encode(kind), encode(_kennel.aws_request_id or ""),
                                    encode(frames))
        return write_log(line.decode("utf-8"))
    lines = [u"[ERROR] %s%s" % (kind, u": " + message if message else u""), u"Traceback (most recent call last):"]
    for frame in frames:
        for line in frame.splitlines():
            text = line.lstrip(" ")
            lines.append(u"\u00a0" * (len(line) - len(text)) + text)
    write_log(u"\r".join(lines))


def write_log(line):
    line += "\n"
    try:
        sys.stdout.write(line if str is not bytes else line.encode("utf-8"))
    except Exception:  # a stream that the handler put there, or text that no encoding has
        try:
            _kennel.posix.write(1, line.encode("utf-8", "backslashreplace"))
        except Exception:  # no standard output at all
            pass


# ---- JSON ----

def unmarshal_slowly(text):
    """Parses what the quick way refused, for the json module's errors and for a byte order mark."""
    import json
    return json.loads(text[1:] if text[:1] == u"\ufeff" else text)


class Raw(str):
    """Text that is JSON already."""


def encode_slowly(value):
    """Encodes named tuples, decimals with digits that no float has, and keys in bytes; words refusals as AWS does."""
    decimal = sys.modules.get("decimal")
    inside = set()

    def plain(value):
        kind = type(value)
        if kind in (str, int, float, bool, type(None)):
            return value
        if isinstance(value, (dict, list, tuple)):
            if id(value) in inside:
                raise ValueError("Circular reference detected")
            outer = value
            inside.add(id(outer))
            if isinstance(value, tuple) and callable(getattr(value, "_asdict", None)):
                value = value._asdict()
            if isinstance(value, dict):
                result = type(value)() if type(value).__name__ == "OrderedDict" else {}  # ordered even in Python 2
                for key, item in value.items():
                    result[plain_key(key)] = plain(item)
            else:
                result = [plain(item) for item in value]
            inside.discard(id(outer))
            return result
        return value

    def plain_key(key):
        if isinstance(key, bytes):
            return key.decode("utf-8")
        if key is None or isinstance(key, (type(u""), int, float, type(1 << 64))):
            return key
        raise TypeError("keys must be str, int, float, bool or None, not %s" % type(key).__name__)

    def default_or_raw(value):
        if decimal and isinstance(value, decimal.Decimal) and not value.is_nan():
            return Raw(value)
        return default(value)

    def encode_unless_raw(text):
        return text if type(text) is Raw else _kennel.encode_string(text)

    encoder = _kennel._json.make_encoder({}, default_or_raw, encode_unless_raw, None, ": ", ", ", False, False, True)
    return "".join(encoder(plain(value), 0))


# ---- the context ----

def describe(thing, names):
    return "%s([%s])" % (type(thing).__name__, ",".join("%s=%s" % (name, getattr(thing, name)) for name in names))


class Client(object):
    __slots__ = ["installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name"]

    def __init__(self, fields):
        for name in self.__slots__:
            setattr(self, name, fields.get(name))

    def __repr__(self):
        return describe(self, self.__slots__)


class ClientContext(object):
    __slots__ = ["custom", "env", "client"]

    def __init__(self, fields):
        self.custom, self.env, client = fields.get("custom"), fields.get("env"), fields.get("client")
        self.client = None if client is None else Client(client)

    def __repr__(self):
        return describe(self, self.__slots__)


def parse_header(value, name):
    try:
        return unmarshal(value)
    except Exception as error:
        raise Fault("Runtime.LambdaContextUnmarshalError", "Unable to parse %s JSON: %s" % (name, text_of(error)))


def client_context(header):
    """Gives the client context, and apart from it the W3C trace fields that came inside."""
    fields = parse_header(header, "Client Context")
    if fields is None:
        return None, {}
    traces = fields.pop("w3c", None) if isinstance(fields, dict) else None
    if not isinstance(traces, dict):
        traces = {}
    kept = dict((name, traces[name]) for name in ("traceparent", "tracestate", "baggage")
                if isinstance(traces.get(name), type(u"")))
    return ClientContext(fields), kept


# ---- HTTP ----

def close_on_exec(connection):
    """Keeps the connection from the handler's child processes; Python 3 does so by itself."""
    import fcntl
    fcntl.fcntl(connection.fileno(), fcntl.F_SETFD, fcntl.FD_CLOEXEC)


class JavaSocket(object):
    """Jython's connection: Java's own socket, where Jython's socket module would start Netty and its threads."""

    def settimeout(self, seconds):
        pass

    def connect(self, address):
        from java.io import IOException
        from java.net import Socket
        self.IOException = IOException
        host, _, port = address.rpartition(":")
        self.socket = self.checked(Socket, host, int(port))
        self.socket.setTcpNoDelay(True)
        self.input, self.output = self.socket.getInputStream(), self.socket.getOutputStream()

    def checked(self, function, *arguments):
        try:
            return function(*arguments)
        except self.IOException as error:
            raise SocketError(str(error))

    def sendall(self, data):
        self.checked(self.output.write, data)

    def recv(self, size):
        from jarray import zeros
        data = zeros(size, "b")
        got = self.checked(self.input.read, data)
        return data[:got].tostring() if got > 0 else b""

    def close(self):
        self.checked(self.socket.close)


def read_to(data, size):
    """Reads on until at least `size` bytes have arrived, of which `data` has."""
    parts, got = [data], len(data)
    while got < size:
        data = _kennel.connection.recv(65536)
        if not data:
            raise SocketError("the answer was cut short")
        parts.append(data)
        got += len(data)
    return b"".join(parts)


def read_chunked(data):
    """Reads the rest of a chunked body, of which `data` has arrived."""
    body = []
    while True:
        while b"\r\n" not in data:
            data = read_to(data, len(data) + 1)
        line, _, data = data.partition(b"\r\n")
        size = int(line.split(b";")[0], 16)
        data = read_to(data, size + 2)
        if not size:
            return b"".join(body)
        body.append(data[:size])
        data = data[size + 2:]


# ---- the process ----

def add_site_folder(folder):
    """Does what the `.pth` files of a package folder say."""
    import site
    site.addsitedir(folder, set(sys.path))


def run_customization():
    """Imports sitecustomize and usercustomize from the function's PYTHONPATH, as an interpreter without -S does."""
    for name in ("sitecustomize", "usercustomize"):
        try:
            __import__(name)
        except ImportError as error:
            if getattr(error, "name", name) != name:
                raise
        except Exception as error:
            sys.stderr.write("Error in %s; set PYTHONVERBOSE for traceback:\n%s: %s\n" % (
                name, type(error).__name__, error))


def speak_utf8():
    """Gives Python 3.6 UTF-8 output where the host lacks the locale; newer ones find a way by themselves."""
    import io
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        setattr(sys, name, io.TextIOWrapper(stream.buffer, "utf-8", "backslashreplace", line_buffering=True,
                                            write_through=True))
