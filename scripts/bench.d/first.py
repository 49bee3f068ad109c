"""The first invoke of a new function through `kennel serve`, a row for each language: rows of scripts/bench.

A round of a row makes a function whose package no other has, waits, sends it one signed event over a connection that is
open already, and deletes it; then the bare program starts, beside it and with no sandbox: posix_spawn to wait4. Between
any two of these the machine is left alone for the row's pause, so that sandboxes that Kennel makes ahead are there
again, and disturb nobody. Every few rounds comes a burst: as many functions made, the same pause, and then one event
for each with no pause between.

The clock of an invoke runs from the first byte written to the last byte read. Signing comes before.
"""

import io
import json
import os
import shutil
import socket
import subprocess
import time
import zipfile
from pathlib import Path

import serve
from serve import Target

ROOT = Path(__file__).resolve().parent.parent.parent
# A round with a burst in every so many.
BURST_EVERY = 4
# Above the bare start of the same binary.
NATIVE_MORE_MS = 3.0
TAIL = 3.0
SECONDS = 60

bench = None  # scripts/bench, as a module

JAVA_HELLO = """public class Hello {
  public static void main(String[] args) {
    System.out.println("hello");
  }
}
"""
JAVA_EMPTY = """public class Empty {
  public static void main(String[] args) {}
}
"""
DOTNET_HELLO = """public class Hello {
  public static void Main() {
    System.Console.WriteLine("hello");
  }
}
"""
DOTNET_EMPTY = """public class Empty {
  public static void Main() {}
}
"""

# AWS's client, and the bare side in one: a program cannot be beside itself more closely.
GO_FIRST = """package main

import (
	"os"

	"github.com/aws/aws-lambda-go/lambda"
)

func main() {
	if os.Getenv("AWS_LAMBDA_RUNTIME_API") == "" {
		return // started bare: here it would ask for its first event
	}
	lambda.Start(handle)
}
"""

# A custom runtime in as few calls as there can be: HTTP by hand over the Runtime API's TCP door.
PROVIDED_C = r"""
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static char buffer[1 << 16];

/* Sends a request and reads its whole answer; its body, ended by a zero byte. */
static char *ask(int fd, const char *request) {
  size_t left = strlen(request), have = 0;
  while (left > 0) {
    ssize_t sent = write(fd, request, left);
    if (sent <= 0) exit(2);
    request += sent;
    left -= (size_t)sent;
  }
  for (;;) {
    ssize_t got = read(fd, buffer + have, sizeof buffer - 1 - have);
    if (got <= 0) exit(3);
    have += (size_t)got;
    buffer[have] = 0;
    char *body = strstr(buffer, "\r\n\r\n");
    char *length = strcasestr(buffer, "\r\ncontent-length:");
    if (body && length && length < body) {
      body += 4;
      if (have - (size_t)(body - buffer) >= strtoul(length + 17, NULL, 10)) return body;
    }
  }
}

int main(void) {
  const char *api = getenv("AWS_LAMBDA_RUNTIME_API");
  if (!api) return 0; /* started bare: here it would ask for its first event */
  struct sockaddr_in to = {.sin_family = AF_INET};
  char host[64], id[64], answer[256], request[1024];
  unsigned port;
  if (sscanf(api, "%63[^:]:%u", host, &port) != 2 || inet_pton(AF_INET, host, &to.sin_addr) != 1) return 4;
  to.sin_port = htons((unsigned short)port);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0) return 5;
  for (;;) {
    snprintf(request, sizeof request, "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: %s\r\n\r\n", api);
    char *event = ask(fd, request);
    char *name = strstr(event, "\"name\""), *header = strcasestr(buffer, "\r\nlambda-runtime-aws-request-id:");
    char value[128] = "";
    if (!header || sscanf(header + 32, " %63[0-9a-fA-F-]", id) != 1) return 6;
    if (name) sscanf(name + 6, " : \"%127[^\"]", value);
    int length = snprintf(answer, sizeof answer, "{\"hello\":\"%s\"}", value);
    snprintf(request, sizeof request,
             "POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s",
             id, api, length, answer);
    ask(fd, request);
  }
}
"""


# --- one client, one connection -------------------------------------------------------------------------------------


class Connection:
    """A keep-alive connection that events are sent over, one after another."""

    def __init__(self, port):
        self.port = port
        self.socket = socket.create_connection(("127.0.0.1", port), 60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # The server has accepted it once something was answered.
        self.request("GET", "/2015-03-31/functions/none", b"")

    def request(self, method, path, text):
        """Milliseconds, status and body of one signed request."""
        headers = serve.signed(self.port, method, path, text)
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()),
                 f"Content-Length: {len(text)}", "", ""]
        whole = "\r\n".join(lines).encode() + text
        began = time.perf_counter_ns()
        self.socket.sendall(whole)
        got = b""
        while True:
            more = self.socket.recv(1 << 16)
            if not more:
                raise bench.Unavailable("the server hung up")
            got += more
            head, end, body = got.partition(b"\r\n\r\n")
            if end and len(body) >= length_of(head):
                break
        took = time.perf_counter_ns() - began
        return took / 1e6, int(head.split(b" ", 2)[1]), body

    def invoke(self, name, event, expected):
        """Milliseconds of one invocation, whose result is looked at."""
        took, status, body = self.request("POST", f"/2015-03-31/functions/{name}/invocations",
                                          json.dumps(event).encode())
        if status != 200 or json.loads(body) != expected:
            raise bench.Unavailable(f"{name} answered {status}: {body[:200]!r}")
        return took

    def close(self):
        self.socket.close()


def length_of(head):
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise bench.Unavailable("an answer without a length")


# --- one row --------------------------------------------------------------------------------------------------------


class Language:
    """What a row invokes, and what starts bare beside it."""

    def __init__(self, runtime, handler, package, bare, pause, burst, event=None, expected=None, goal=None,
                 goal_kind="ratio"):
        self.runtime = runtime  # as `kennel runtimes` names it
        self.handler = handler
        self.package = Path(package).read_bytes()
        self.bare = bare  # names and commands; the goal is the first one's
        self.pause = pause  # in seconds
        self.burst = burst  # functions in one
        self.event = serve.EVENT if event is None else event
        self.expected = bench.HELLO if expected is None else expected
        self.goal = goal
        self.goal_kind = goal_kind

    def numbered(self, number):
        """The package with a file in it that no other one has."""
        whole = io.BytesIO(self.package)
        with zipfile.ZipFile(whole, "a") as archive:
            archive.writestr(zipfile.ZipInfo(f"number-{number}.txt", (2020, 1, 1, 0, 0, 0)), f"{number}\n")
        return whole.getvalue()


def start_bare(host, argv, null):
    """Milliseconds from posix_spawn to wait4, or why there are none."""
    argv = [str(a) for a in argv]
    actions = [(os.POSIX_SPAWN_DUP2, null, fd) for fd in (0, 1, 2)]
    began = time.perf_counter_ns()
    pid = os.posix_spawn(argv[0], argv, host.environment, file_actions=actions)
    _, status, _ = os.wait4(pid, 0)
    took = time.perf_counter_ns() - began
    if status != 0:
        raise bench.Unavailable(f"exit status {os.waitstatus_to_exitcode(status)}")
    return took / 1e6


def make(peer, language, number):
    name = f"first-{number}"
    serve.create(peer.port, name, language.runtime, language.numbered(number), language.handler)
    return name


def delete(peer, name):
    serve.expect(204, serve.api(peer.port, "DELETE", f"/2015-03-31/functions/{name}"), "DeleteFunction")


def measure(host, notes, stack, count, budget_end, language):
    peer = serve.start_kennel(host)
    stack.callback(peer.end)
    connection = Connection(peer.port)
    stack.callback(connection.close)
    null = os.open("/dev/null", os.O_RDWR)
    stack.callback(os.close, null)
    ours = Target(peer, "first", goal=TAIL, goal_kind="tail")
    burst = Target(peer, "burst", goal_kind="tail", pair="burst")
    bare = [(Target(None, name, asked=[str(a) for a in argv], goal_kind=language.goal_kind,
                    goal=None if number else language.goal), argv)
            for number, (name, argv) in enumerate(language.bare)]
    for target in (ours, burst, *(t for t, _ in bare)):
        target.whole_cpu = False
    numbers = iter(range(1 << 30))

    def rest():
        time.sleep(language.pause)

    def invoke_one():
        name = make(peer, language, next(numbers))
        rest()
        took = connection.invoke(name, language.event, language.expected)
        delete(peer, name)
        rest()
        return took

    def invoke_many():
        names = [make(peer, language, next(numbers)) for _ in range(language.burst)]
        rest()
        took = [connection.invoke(name, language.event, language.expected) for name in names]
        for name in names:
            delete(peer, name)
        rest()
        return took

    # One function stays, so that the runtime is in use all the time.
    connection.invoke(make(peer, language, next(numbers)), language.event, language.expected)
    for number in range(-2, count):  # two rounds to warm up
        if number > 2 and time.monotonic() > budget_end:
            break
        for target, argv in bare if number % 2 else reversed(bare):
            if target.error is None:
                try:
                    took = start_bare(host, argv, null)
                except (OSError, bench.Unavailable) as error:
                    target.error = str(error)
                    continue
                if number >= 0:
                    target.add(took, 0)
        took = invoke_one()
        if number >= 0:
            ours.add(took, 0)
        if number % BURST_EVERY == 0:
            took = invoke_many()
            for each in took:
                burst.add(each, 0)
    notes.append(f"On {language.runtime} ({language.bare[0][1][0]}), with {language.pause:.1f} s between all that is "
                 f"measured. first: a new function each time. burst: {language.burst} of them made ahead and invoked "
                 "one after another, without pauses."
                 + (" The last is for information." if len(bare) > 1 else ""))
    return [ours, burst, *(target for target, _ in bare)]


def first_python(host, *row):
    runtime = host.python()
    python = runtime["by"]
    return measure(host, *row, Language(
        runtime["runtime"], "app.handler", serve.python_package(host), pause=0.2, burst=8, goal=0.5,
        bare=[("python3 -c pass", [python, "-c", "pass"]), ("python3 -I -S", [python, "-I", "-S", "-c", "pass"])]))


def first_node(host, *row):
    preferred = shutil.which("node")
    runtime = host.runtime("nodejs", preferred and os.path.realpath(preferred))
    folder = host.folder("first-node", {"index.js": bench.NODE_HANDLER})
    return measure(host, *row, Language(
        runtime["runtime"], "index.handler", host.zip("first-node", {"index.js": folder / "index.js"}), pause=0.2,
        burst=8, goal=0.3, bare=[("node -e 0", [runtime["by"], "-e", "0"])]))


def first_java(host, *row):
    runtime = host.runtime("java")
    javac = host.program("javac", "default-jdk-headless")
    folder = host.folder("first-java", {
        "App.java": bench.JAVA_HANDLER, "Hello.java": JAVA_HELLO, "Empty.java": JAVA_EMPTY})
    host.command([javac, "--release", "8", "-Xlint:-options", "App.java", "Hello.java", "Empty.java"], cwd=folder)
    java = [runtime["by"], "-cp", folder]
    return measure(host, *row, Language(
        runtime["runtime"], "App::handle", host.zip("first-java", {"App.class": folder / "App.class"}), pause=0.5,
        burst=4, goal=0.4, bare=[("java Hello", [*java, "Hello"]), ("java, empty main", [*java, "Empty"])]))


def first_dotnet(host, *row):
    runtime = host.runtime("dotnet")
    package = ROOT / "tests" / "fixtures" / "dotnet" / "class-handlers.zip"
    if not package.exists():
        raise bench.Unavailable("tests/fixtures/dotnet/class-handlers.zip is not there")
    # As .NET's own templates have it: without the fixture's settings, which the runtime wants to know as it starts.
    files = {}
    with zipfile.ZipFile(package) as archive:
        for name in archive.namelist():
            files[name] = archive.read(name)
            if name.endswith(".runtimeconfig.json"):
                config = json.loads(files[name])
                config["runtimeOptions"].pop("configProperties", None)
                files[name] = json.dumps(config)
    package = host.work / "first-dotnet.zip"
    with zipfile.ZipFile(package, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    hello, empty = dotnet_programs(host, runtime)
    return measure(host, *row, Language(
        runtime["runtime"], "ClassHandlers::ClassHandlers.StaticFunction::Hello", package, pause=0.5, burst=4,
        event="world", expected="hello world", goal=0.5,
        bare=[("dotnet hello.dll", [runtime["by"], hello]), ("dotnet, empty Main", [runtime["by"], empty])]))


def dotnet_programs(host, runtime):
    """Programs that print a word and that do nothing, compiled as Kennel's bootstrap is."""
    version = ".".join(runtime["version"].split(".")[:2])
    framework = {"name": "Microsoft.NETCore.App", "version": f"{version}.0"}
    config = json.dumps({"runtimeOptions": {"framework": framework}})
    folder = host.folder("first-dotnet", {"hello.cs": DOTNET_HELLO, "hello.runtimeconfig.json": config,
                                          "empty.cs": DOTNET_EMPTY, "empty.runtimeconfig.json": config})
    script = """. runtimes/dotnet/toolchain.sh && dotnet_want_compiler
        for name in hello empty; do dotnet_compile exe "$1/$name.dll" "$1/$name.cs" || exit; done"""
    done = subprocess.run(["bash", "-c", script, "bash", folder], cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise bench.Unavailable(f"no C# compiler: {(done.stdout + done.stderr).strip()[-200:]}")
    return folder / "hello.dll", folder / "empty.dll"


def first_go(host, *row):
    go = host.program("go", "golang-go")
    client = ROOT / "tests" / "clients" / "go-aws-lambda-go"
    folder = host.folder("first-go", {"handler.go": bench.GO_HANDLER, "main.go": GO_FIRST})
    for file in ("go.mod", "go.sum"):
        shutil.copyfile(client / file, folder / file)
    program = folder / "bootstrap"
    host.command([go, "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", program, "."], cwd=folder,
                 environment={"CGO_ENABLED": "0", "GOFLAGS": "-mod=mod"})
    return native(host, row, host.zip("first-go", {"bootstrap": program}), program)


def first_provided(host, *row):
    program = host.static_program("provided", PROVIDED_C)
    return native(host, row, host.zip("first-provided", {"bootstrap": program}), program)


def native(host, row, package, program):
    return measure(host, *row, Language(
        "provided.al2023", "bootstrap", package, pause=0.2, burst=8, goal=NATIVE_MORE_MS, goal_kind="more_ms",
        bare=[("the binary, bare", [program])]))


ROWS = {
    # name: title, rounds, rounds with --quick, sides
    "first-python": ("first invoke of a new function, Python", 40, 8, first_python),
    "first-node": ("first invoke of a new function, Node.js", 40, 8, first_node),
    "first-java": ("first invoke of a new function, Java", 16, 4, first_java),
    "first-dotnet": ("first invoke of a new function, .NET", 16, 4, first_dotnet),
    "first-go": ("first invoke of a new function, Go", 24, 8, first_go),
    "first-provided": ("first invoke of a new function, a custom runtime in C", 24, 8, first_provided),
}


def measure_row(name, host, runs, quick, budget_end):
    return serve.measure_row(name, host, runs, quick, budget_end, ROWS)
