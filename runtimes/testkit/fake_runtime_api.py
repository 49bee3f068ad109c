"""A recording fake of Kennel's side of the Lambda Runtime API, for the bootstraps' own tests.

It listens on a Unix socket and on loopback, starts one bootstrap process, hands it the events given,
and keeps everything that the bootstrap said: answers, errors, init errors, headers, log bytes, exit status.
Python 3.8 or newer, standard library alone.

    with FakeRuntime(["python3.11", "bootstrap.py"], task_root, handler="app.handler") as rt:
        answer = rt.invoke({"name": "Ada"})
        assert answer.json() == {"hello": "Ada"}

With `preboot=True` the process starts without handler, code and function environment, as Kennel starts one ahead of
time; it gets them from `claim()`, or at once with `preboot="claimed"`.
"""

import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

API = "/2018-06-01/runtime/"


class Answer:
    """What the bootstrap posted for one invocation: kind is "response", "error", "init/error" or "exit"."""

    def __init__(self, kind, body=b"", headers=None, trailers=None, request_id=None, chunks=None):
        self.kind, self.body, self.request_id = kind, body, request_id
        self.headers = {k.lower(): v for k, v in (headers or {}).items()}
        self.trailers = {k.lower(): v for k, v in (trailers or {}).items()}
        self.chunks = chunks or []

    def json(self):
        return json.loads(self.body.decode("utf-8"))

    def __repr__(self):
        return "Answer(%s, %r, %r)" % (self.kind, self.body[:400], self.headers)


class _Server(ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        """A bootstrap that is killed, as each one here is in the end, breaks its connection: nothing to report."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _UnixServer(_Server):
    address_family = socket.AF_UNIX

    def server_bind(self):
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = "runtime", 0


class FakeRuntime:
    def __init__(self, argv, task_root, handler, env=None, memory=512, timeout=10.0, name="fn",
                 runtime_dir=None, response_limit=6291556, preboot=False):
        self.argv, self.task_root, self.handler = list(argv), str(task_root), handler
        self.timeout, self.memory, self.name, self.response_limit = timeout, memory, name, response_limit
        self.extra_env, self.runtime_dir = dict(env or {}), runtime_dir
        self.pending = queue.Queue()  # (request_id, headers, payload)
        self.answers = queue.Queue()
        self.requests = []  # every (method, path) seen, in order
        self.next_waiting = threading.Event()
        self.current = None
        self.preboot = preboot
        self.claim_waiting, self.claimed = threading.Event(), threading.Event()
        self.claim_answer = None  # or (status, bytes, headers…) in place of the environment

    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="fake-runtime-")
        self.socket_path = os.path.join(self.dir, "runtime.sock")
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def address_string(self):
                return "sandbox"

            def _reply(self, status, body=b'{"status":"OK"}\n', headers=()):
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                for key, value in headers:
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def _read(self):
                chunks, trailers = [], {}
                if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
                    while True:
                        size = int(self.rfile.readline().split(b";")[0], 16)
                        if size == 0:
                            break
                        chunks.append(self.rfile.read(size))
                        self.rfile.readline()
                    while True:
                        line = self.rfile.readline().strip()
                        if not line:
                            break
                        key, _, value = line.decode("latin-1").partition(":")
                        trailers[key] = value.strip()
                    return b"".join(chunks), chunks, trailers
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                return body, [body], trailers

            def do_GET(self):
                fake.requests.append(("GET", self.path))
                if self.path == "/kennel/claim" and fake.preboot:
                    fake.claim_waiting.set()
                    fake.claimed.wait()
                    return self._reply(*(fake.claim_answer or (200, json.dumps({"env": fake.env}).encode())))
                if self.path != API + "invocation/next":
                    return self._reply(404, b"{}")
                fake.next_waiting.set()
                item = fake.pending.get()
                fake.next_waiting.clear()
                if item is None:
                    self.close_connection = True
                    return None
                request_id, headers, payload = item
                fake.current = request_id
                return self._reply(200, payload, headers)

            def do_POST(self):
                fake.requests.append(("POST", self.path))
                body, chunks, trailers = self._read()
                part = self.path[len(API):].split("/")
                if part == ["init", "error"]:
                    fake.answers.put(Answer("init/error", body, dict(self.headers), trailers))
                    return self._reply(202)
                if len(part) != 3 or part[0] != "invocation" or part[2] not in ("response", "error"):
                    return self._reply(404, b"{}")
                if part[1] != fake.current:
                    return self._reply(400, b'{"errorType":"InvalidRequestID","errorMessage":"Invalid request ID"}')
                if part[2] == "response" and len(body) > fake.response_limit and \
                        self.headers.get("Lambda-Runtime-Function-Response-Mode") != "streaming":
                    fake.answers.put(Answer("too-large", b"", dict(self.headers), trailers, part[1]))
                    fake.current = None
                    return self._reply(413, b'{"errorType":"RequestEntityTooLarge","errorMessage":"too large"}')
                fake.current = None
                fake.answers.put(Answer(part[2], body, dict(self.headers), trailers, part[1], chunks))
                return self._reply(202)

        self.servers = [_UnixServer(self.socket_path, Handler), _Server(("127.0.0.1", 0), Handler)]
        for server in self.servers:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        env = {
            "PATH": "/usr/local/bin:/usr/bin:/bin:/opt/bin", "LANG": "en_US.UTF-8", "TZ": ":UTC",
            "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:%d" % self.servers[1].server_address[1],
            "KENNEL_RUNTIME_API_SOCKET": self.socket_path,
            "_HANDLER": self.handler, "LAMBDA_TASK_ROOT": self.task_root,
            "LAMBDA_RUNTIME_DIR": str(self.runtime_dir or os.path.dirname(os.path.abspath(self.argv[-1]))),
            "AWS_LAMBDA_FUNCTION_NAME": self.name, "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(self.memory),
            "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/" + self.name,
            "AWS_LAMBDA_LOG_STREAM_NAME": "2026/01/01/[$LATEST]0123456789abcdef0123456789abcdef",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1",
        }
        env.update(self.extra_env)
        self.env = env
        cwd = self.task_root
        if self.preboot:
            env = {name: env[name] for name in ("PATH", "LANG", "TZ", "AWS_LAMBDA_RUNTIME_API", "LAMBDA_RUNTIME_DIR",
                                                "KENNEL_RUNTIME_API_SOCKET")}
            env.update(KENNEL_PREBOOT="1", BOOT_ONLY="1")  # the second must be gone after the claim
            self.env.pop("KENNEL_RUNTIME_API_SOCKET")
            cwd = "/"
        if self.preboot == "claimed":
            self.claimed.set()
        self.log_file = open(os.path.join(self.dir, "log"), "wb")
        self.process = subprocess.Popen(self.argv, env=env, cwd=cwd, stdin=subprocess.DEVNULL,
                                        stdout=self.log_file, stderr=self.log_file, start_new_session=True)
        return self

    def __exit__(self, *_):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except OSError:
            pass
        self.process.wait()
        self.claimed.set()
        for _ in range(4):
            self.pending.put(None)
        for server in self.servers:
            server.shutdown()
            server.server_close()
        self.log_file.close()
        shutil.rmtree(self.dir, ignore_errors=True)

    def claim(self, env=None):
        """Gives the waiting process its function; `env` is added to the function's environment."""
        if not self.claim_waiting.wait(self.timeout):
            raise TimeoutError("no claim from %s; log:\n%s" % (self.argv, self.log()))
        self.env.update(env or {})
        self.claimed.set()

    def post(self, event, raw=None, deadline_ms=None, client_context=None, identity=None, trace=None, tenant=None):
        """Queues one event; returns its request id. `raw` are payload bytes sent as they are."""
        request_id = str(uuid.uuid4())
        payload = raw if raw is not None else json.dumps(event).encode()
        headers = [
            ("Lambda-Runtime-Aws-Request-Id", request_id),
            ("Lambda-Runtime-Deadline-Ms", str(deadline_ms or int((time.time() + 30) * 1000))),
            ("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-1:000000000000:function:" + self.name),
        ]
        if trace is not False:  # False: an invocation that is not traced
            headers.append(("Lambda-Runtime-Trace-Id", trace or
                            "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=0"))
        if client_context is not None:
            headers.append(("Lambda-Runtime-Client-Context", json.dumps(client_context)))
        if identity is not None:
            headers.append(("Lambda-Runtime-Cognito-Identity", json.dumps(identity)))
        if tenant is not None:
            headers.append(("Lambda-Runtime-Aws-Tenant-Id", tenant))
        self.pending.put((request_id, headers, payload))
        return request_id

    def take(self):
        """The bootstrap's next answer; kind "exit" if the process ends first (its status is in `returncode`)."""
        end = time.monotonic() + self.timeout
        while True:
            try:
                return self.answers.get(timeout=0.02)
            except queue.Empty:
                pass
            if self.process.poll() is not None and self.answers.empty():
                return Answer("exit")
            if time.monotonic() > end:
                raise TimeoutError("no answer from %s; log:\n%s" % (self.argv, self.log()))

    def invoke(self, event=None, **kwargs):
        self.post(event, **kwargs)
        return self.take()

    def wait_exit(self):
        return self.process.wait(timeout=self.timeout)

    @property
    def returncode(self):
        return self.process.poll()

    def log(self):
        """Everything written to stdout and stderr so far, in order."""
        self.log_file.flush()
        with open(os.path.join(self.dir, "log"), "rb") as f:
            return f.read().decode("utf-8", "replace")
