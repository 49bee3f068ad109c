"""The whole of a handler's process: sys.path and environment, the Runtime API, JSON, the call of the handler.

It loads the handler that `_HANDLER` names, then asks the Runtime API for one event after another. What it says
and prints is what AWS's own runtime says and prints.

A cold start pays for every module imported, so what most functions never need (errors, odd results, `.pth` files) is
in seldom.py and logs.py, imported when the need arises, and the modules used here are the C ones below the standard
library's: `_socket` and `_json` take 0.5 ms where `socket` and `json` take 12, and `posix` holds the environment
without `os`. The interpreter runs with -S, since `site` costs more than all of this; what handlers see of `site` is
done in `prepare`. A start ahead of time (preboot.py) has all of that behind it before it knows its function.
"""
import marshal
import sys

import _json
JYTHON = sys.platform.startswith("java")
if JYTHON:
    import os as posix
    SocketError = EnvironmentError
else:
    import _socket
    import posix
    SocketError = _socket.error

REQUEST_PATH = b"invocation/%s/"
WAIT_SECONDS = 1000000
API = b"/2018-06-01/runtime/"
TRACE_ID = b"_X_AMZN_TRACE_ID"
TEXT_ENVIRONMENT = str is bytes
folder = None  # of bootstrap.py: /var/runtime
connection = None
aws_request_id = tenant_id = None  # of the invocation that runs now; log records carry them


class Fault(Exception):
    """A failure that AWS's runtime names, rather than an exception of the handler's own."""

    def __init__(self, kind, message, trace=None):
        Exception.__init__(self, message)
        self.kind, self.message, self.trace = kind, message, trace


def later():
    from _kennel import seldom
    return seldom


# ---- the environment ----

def variable(name, default=None):
    if TEXT_ENVIRONMENT:
        return posix.environ.get(name, default)
    value = posix.environ.get(name.encode())
    return default if value is None else value.decode("utf-8", "surrogateescape")


def set_variable(name, value):
    """Sets a variable, or removes it if `value` is None, for os.environ whether it is imported yet or not."""
    os = sys.modules.get("os")
    if os is None:
        key = name if TEXT_ENVIRONMENT else name.encode()
        posix.environ.pop(key, None)
        if value is None:
            posix.unsetenv(key)
        else:
            posix.environ[key] = value if TEXT_ENVIRONMENT else value.encode("utf-8", "surrogateescape")
            posix.putenv(key, posix.environ[key])
    elif value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def set_trace_id(value):
    """Does for the trace id in a header what `set_variable` does, past os.environ's own ways where it is the usual one."""
    os = sys.modules.get("os")
    if value and os is not None and not TEXT_ENVIRONMENT and type(os.environ) is os._Environ:
        posix.putenv(TRACE_ID, value)
        os.environ._data[TRACE_ID] = value
    else:
        set_variable("_X_AMZN_TRACE_ID", native(value))


def read_settings():
    """Keeps what the environment says about the function and where the Runtime API is."""
    global api_socket, api_host, host, log_group_name, log_stream_name, function_name, function_version, memory_size
    global version, encode_string, encoder, response_head
    api_socket = None if JYTHON else variable("KENNEL_RUNTIME_API_SOCKET")
    api_host = variable("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001")
    host = api_host.encode()
    log_group_name = variable("AWS_LAMBDA_LOG_GROUP_NAME")
    log_stream_name = variable("AWS_LAMBDA_LOG_STREAM_NAME")
    function_name = variable("AWS_LAMBDA_FUNCTION_NAME")
    function_version = variable("AWS_LAMBDA_FUNCTION_VERSION")
    memory_size = variable("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
    # The version promised to the function; the interpreter may be a newer one.
    version = variable("AWS_EXECUTION_ENV", "").rpartition("AWS_Lambda_python")[2]
    if not version.replace(".", "").isdigit() or "." not in version:
        version = "%d.%d" % sys.version_info[:2]
    major, minor = version.split(".")[:2]
    escaped = int(major) < 3 or int(minor) < 12
    encode_string = _json.encode_basestring_ascii if escaped else _json.encode_basestring
    encoder = make_encoder()
    # `Kennel-Next` asks for the next event as the answer.
    response_head = b"POST %sinvocation/%%s/response HTTP/1.1\r\nHost: %s\r\nContent-Type: %%s\r\n" \
        b"Kennel-Next: 1\r\nContent-Length: %%d\r\n\r\n" % (API, host.replace(b"%", b"%%"))


class Quitter(object):
    def __init__(self, name):
        self.name = name

    def __repr__(self):
        return "Use %s() or Ctrl-D (i.e. EOF) to exit" % self.name

    def __call__(self, code=None):
        raise SystemExit(code)


def set_up_logging(module):
    from _kennel import logs
    logs.set_up(module)


class LoggingFinder(object):
    """Stands first on sys.meta_path until `logging` is imported, then gives the root logger AWS's handler."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != "logging":
            return None
        specs = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not LoggingFinder)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is None:
            return None
        loader = spec.loader

        def exec_module(module):
            del loader.exec_module  # the loader's own shows again
            if LoggingFinder in sys.meta_path:
                sys.meta_path.remove(LoggingFinder)
            loader.exec_module(module)
            set_up_logging(module)
        loader.exec_module = exec_module
        return spec

    @staticmethod
    def find_module(name, path=None):  # Python 2
        return LoggingFinder if name == "logging" else None

    @staticmethod
    def load_module(name):
        sys.meta_path.remove(LoggingFinder)
        module = __import__(name)
        set_up_logging(module)
        return module


def layer_folders():
    return ["/opt/python/lib/python%s/site-packages" % version, "/opt/python"]


def prepare(task_root):
    """Makes the process what a handler expects: sys.path, builtins, environment, the logging hook."""
    added = [entry for entry in variable("PYTHONPATH", "").split(":") if entry]
    stdlib = [entry for entry in sys.path if entry != folder and entry not in added]
    layers = layer_folders()
    sys.path[:] = [task_root] + added + layers + [folder] + stdlib
    builtins = sys.modules["__builtin__" if str is bytes else "builtins"]
    for name in ("exit", "quit"):
        if not hasattr(builtins, name):
            setattr(builtins, name, Quitter(name))
    for name in [key for key in posix.environ if key[:7] in ("KENNEL_", b"KENNEL_")]:
        set_variable(name if TEXT_ENVIRONMENT else name.decode(), None)
    if "logging" in sys.modules:  # by a sitecustomize, under a wrapper that starts Python without -S
        set_up_logging(sys.modules["logging"])
    else:
        sys.meta_path.insert(0, LoggingFinder)
    for entry in [task_root] + layers:
        try:
            names = posix.listdir(entry)
        except OSError:
            continue
        if any(name.endswith(".pth") for name in names):
            later().add_site_folder(entry)
    if added:
        later().run_customization()
    if str is bytes and not JYTHON:
        sys.__dict__.pop("setdefaultencoding", None)  # as site does
    elif (3,) < sys.version_info < (3, 7) and sys.stdout.encoding.lower() != "utf-8":
        later().speak_utf8()


# ---- HTTP ----

def connect():
    global connection
    if api_socket:
        connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        address = api_socket
    elif JYTHON:
        connection = later().JavaSocket()
        address = api_host
    else:
        host, _, port = api_host.rpartition(":")
        connection = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        connection.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        address = (host, int(port))
    connection.settimeout(None)  # the handler may have set a default
    if str is bytes and not JYTHON:
        later().close_on_exec(connection)
    connection.connect(address)
    if api_socket:
        # With a timeout Python polls before it reads. A read that sleeps in the kernel is woken each time that the
        # other side takes something from a Unix socket, for nothing; a poll is not.
        connection.settimeout(WAIT_SECONDS)


def disconnect():
    global connection
    if connection is not None:
        connection.close()
        connection = None


def receive():
    """Reads one answer: its status, headers (names in lower case) and body; None if the connection ended before it."""
    data = connection.recv(16384)
    lines = data.split(b"\n", 8)
    if len(lines) == 9 and lines[0] == b"HTTP/1.1 200 OK\r" and lines[1] == b"content-type: application/json\r":
        # Most likely an event with the headers that Kennel always sends, in its order, and nothing of it is on its way.
        _, _, request_id, deadline, arn, trace_id, length, end, body = lines
        if end == b"\r" and length == b"content-length: %d\r" % len(body) and (
                request_id[:31] == b"lambda-runtime-aws-request-id: ") and (
                deadline[:28] == b"lambda-runtime-deadline-ms: ") and (
                arn[:37] == b"lambda-runtime-invoked-function-arn: ") and (
                trace_id[:25] == b"lambda-runtime-trace-id: "):
            return 200, {b"lambda-runtime-aws-request-id": request_id[31:-1],
                         b"lambda-runtime-deadline-ms": deadline[28:-1],
                         b"lambda-runtime-invoked-function-arn": arn[37:-1],
                         b"lambda-runtime-trace-id": trace_id[25:-1]}, body
    end = data.find(b"\r\n\r\n")
    while end < 0:
        more = connection.recv(65536)
        if not more:
            return None
        data += more
        end = data.find(b"\r\n\r\n")
    lines = data[:end].split(b"\r\n")
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(b":")
        headers[name.lower()] = value.strip()
    body = data[end + 4:]
    if b"transfer-encoding" in headers:
        body = later().read_chunked(body)
    elif JYTHON:
        body = later().read_to(body, int(headers.get(b"content-length") or 0))
    else:
        length = int(headers.get(b"content-length") or 0)
        if len(body) < length:
            at, start = len(body), body
            body = bytearray(length)
            body[:at] = start
            view = memoryview(body)
            while at < length:
                got = connection.recv_into(view[at:])
                if not got:
                    return None
                at += got
    if headers.get(b"connection", b"").lower() == b"close":
        disconnect()
    return int(lines[0].split(None, 2)[1]), headers, body


def send(data):
    """Sends all of `data`: by a write(2), before which Python does not poll as it does before `sendall`, if it fits."""
    sent = 0
    if api_socket and not TEXT_ENVIRONMENT:
        try:
            sent = posix.write(connection.fileno(), data)
        except BlockingIOError:  # the socket never waits, since `connect` gave it a timeout
            pass
        if sent == len(data):
            return
    connection.sendall(data[sent:] if sent else data)


def call(head, body=b""):
    """Sends one request and gives its answer, over a new connection if the kept one was dropped in the meantime."""
    while True:
        kept = connection is not None
        try:
            if not kept:
                connect()
            try:
                send(head + body if len(body) < 65536 else head)
                if len(body) >= 65536:
                    send(body)
            except SocketError:  # a refusal may have come before all was sent; if none did, receive fails too
                pass
            answer = receive()
            if answer is not None:
                return answer
        except SocketError as error:
            if not kept:
                disconnect()
                raise SystemExit("Cannot reach the Runtime API: %s" % error)
        disconnect()
        if not kept:
            raise SystemExit("The Runtime API closed the connection without an answer")


def flush():
    """Has all that was printed leave the process."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # replaced or closed by the handler: its own affair
            pass


def post(path, body, more=b""):
    """Posts to the Runtime API after all that was printed; gives its answer."""
    flush()
    head = b"POST %s%s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n" % (
        API, path, host, more, len(body))
    return call(head, body)


# ---- JSON ----

class Scanner(object):
    """What the scanner of `_json` wants to be told: the json module's defaults."""
    strict, object_hook, object_pairs_hook, memo, encoding = True, None, None, None, "utf-8"
    parse_float, parse_int, parse_constant = float, int, float


scan = _json.make_scanner(Scanner)


def unmarshal(body):
    text = body.decode("utf-8").strip(" \t\n\r")
    try:
        value, end = scan(text, 0)
        if end == len(text):
            return value
    except Exception:  # among them SystemError: without the json module, `_json` can't raise its errors
        pass
    return later().unmarshal_slowly(text)


class Odd(Exception):
    """A value that the C encoder can't write as AWS does."""


def default(value):
    """Turns what the C encoder has no form for into something that it writes as AWS does."""
    if isinstance(value, bytes):
        return value.decode("utf-8")
    decimal = sys.modules.get("decimal")
    if decimal and isinstance(value, decimal.Decimal):
        if value.is_nan():
            return float("nan")
        digits = str(value)
        for kind in (int, float):
            try:
                if repr(kind(digits)) == digits:
                    return kind(digits)
            except ValueError:
                pass
        raise Odd
    raise TypeError("Object of type %s is not JSON serializable" % type(value).__name__)


def make_encoder():
    return _json.make_encoder({}, default, encode_string, None, ": ", ", ", False, False, True)


def encode(value):
    """Gives a value as JSON text in bytes."""
    global encoder
    try:
        try:
            marshal.dumps(value, 2)  # refuses all but plain types, fast
        except ValueError:
            # A named tuple becomes an object, but the C encoder makes it an array.
            if any("_asdict" in kind.__dict__ for kind in tuple.__subclasses__()):
                raise
        text = "".join(encoder(value, 0))
    except Exception as error:
        encoder = make_encoder()  # the old one remembers what it was in the middle of
        if not isinstance(error, (Odd, TypeError, ValueError, RuntimeError)):
            raise
        text = later().encode_slowly(value)
    return text if str is bytes else text.encode("utf-8", "backslashreplace")


def marshal_response(value):
    if isinstance(value, bytes) and str is not bytes:
        return value, b"application/unknown"
    try:
        return encode(value), b"application/json"
    except Exception as error:
        raise Fault("Runtime.MarshalError", "Unable to marshal response: %s" % later().text_of(error))


# ---- the handler ----

class CognitoIdentity(object):
    __slots__ = ["cognito_identity_id", "cognito_identity_pool_id"]

    def __repr__(self):
        return later().describe(self, self.__slots__)


class LambdaContext(object):
    def __init__(self, headers, client_context, identity):
        self.aws_request_id = aws_request_id
        self.log_group_name = log_group_name
        self.log_stream_name = log_stream_name
        self.function_name = function_name
        self.memory_limit_in_mb = memory_size
        self.function_version = function_version
        self.invoked_function_arn = native(headers.get(b"lambda-runtime-invoked-function-arn"))
        self.tenant_id = tenant_id
        self.client_context, self._w3c_fields = client_context
        self.identity = CognitoIdentity()
        self.identity.cognito_identity_id = identity.get("cognitoIdentityId")
        self.identity.cognito_identity_pool_id = identity.get("cognitoIdentityPoolId")
        self._epoch_deadline_time_in_ms = int(headers.get(b"lambda-runtime-deadline-ms") or 0)

    def get_remaining_time_in_millis(self):
        from time import time
        return max(self._epoch_deadline_time_in_ms - int(time() * 1000), 0)

    def w3c(self):
        return dict(self._w3c_fields)

    def log(self, message):
        sys.stdout.write(str(message))

    def __repr__(self):
        return later().describe(self, ("aws_request_id", "log_group_name", "log_stream_name", "function_name",
                                         "memory_limit_in_mb", "function_version", "invoked_function_arn",
                                         "client_context", "identity", "tenant_id"))


def native(value):
    return value or None if str is bytes or not value else value.decode("utf-8", "replace")


def get_handler(name):
    module_name, dot, function_name = name.rpartition(".")
    if not dot:
        raise Fault("Runtime.MalformedHandlerName",
                    "Bad handler '%s': not enough values to unpack (expected 2, got 1)" % name)
    if module_name.split(".")[0] in sys.builtin_module_names:
        raise Fault("Runtime.BuiltInModuleConflict",
                    "Cannot use built-in module %s as a handler module" % module_name)
    dotted = module_name.replace("/", ".")
    try:
        if dotted.startswith("."):
            import importlib
            importlib.import_module(dotted)
        __import__(dotted)
    except ImportError as error:
        raise Fault("Runtime.ImportModuleError", "Unable to import module '%s': %s" % (module_name, error))
    except SyntaxError as error:
        raise Fault("Runtime.UserCodeSyntaxError", "Syntax error in module '%s': %s" % (module_name, error),
                    ['  File "%s" Line %s\n    %s' % (error.filename, error.lineno, error.text)])
    try:
        return getattr(sys.modules[dotted], function_name)
    except AttributeError:
        raise Fault("Runtime.HandlerNotFound",
                    "Handler '%s' missing on module '%s'" % (function_name, module_name))


def handle_event_request(request_handler, headers, body):
    """Runs the handler on one event and posts its answer; gives the next event where it came with the reply."""
    try:
        client_context = identity = None
        if headers.get(b"lambda-runtime-client-context"):
            client_context = later().client_context(headers[b"lambda-runtime-client-context"])
        if headers.get(b"lambda-runtime-cognito-identity"):
            identity = later().parse_header(headers[b"lambda-runtime-cognito-identity"], "Cognito Identity")
        lambda_context = LambdaContext(headers, client_context or (None, {}), identity or {})
        event = body
        if headers.get(b"content-type", b"application/json").startswith(b"application/json"):
            try:
                event = unmarshal(body)
            except Exception as error:
                raise Fault("Runtime.UnmarshalError", "Unable to unmarshal input: %s" % later().text_of(error))
        response = request_handler(event, lambda_context)
        result, content_type = marshal_response(response)
    except Exception:
        return later().report_error(sys.exc_info(), REQUEST_PATH % request_id)
    flush()
    answer = call(response_head % (request_id, content_type, len(result)), result)
    if answer[0] == 200:
        return answer
    if answer[0] == 413:
        later().report_too_large(REQUEST_PATH % request_id)


def main(runtime_folder):
    global folder, aws_request_id, request_id, tenant_id
    folder = runtime_folder
    if variable("KENNEL_PREBOOT") == "1":
        from _kennel import preboot
        preboot.claim()
    read_settings()
    prepare(variable("LAMBDA_TASK_ROOT", "/var/task"))
    try:
        request_handler = get_handler(variable("_HANDLER", ""))
    except Exception:
        later().report_error(sys.exc_info(), b"init/")
        sys.exit(1)
    request = b"GET %sinvocation/next HTTP/1.1\r\nHost: %s\r\n\r\n" % (API, host)
    answer = None
    while True:
        status, headers, body = answer or call(request)
        answer = None
        if status != 200:
            raise SystemExit("The Runtime API answered %d to `next`" % status)
        request_id = headers[b"lambda-runtime-aws-request-id"]
        aws_request_id = native(request_id)
        tenant_id = native(headers.get(b"lambda-runtime-aws-tenant-id"))
        set_trace_id(headers.get(b"lambda-runtime-trace-id"))
        answer = handle_event_request(request_handler, headers, body)
        del body
