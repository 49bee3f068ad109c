#!/usr/bin/env python3
"""`kennel serve` beside other servers: rows of scripts/bench, which also runs alone.

    scripts/bench.d/serve.py --kennel PATH [--quick] [--only NAME] [--json]

The files beside it hold more rows of the server (first.py, churn.py, density.py), which use what starts, asks and
compares servers here.

Every side is a server that answers the same request: a POST of Lambda's Invoke, signed, with the event in it, answered
by the greeting as JSON. One client (load/, built for release) drives them all, with the same bytes; the sides run one
after another in rounds, each round beginning with another one. What a round gives for a side is one sample: the median
time of an answer, or, with eight clients, the time of the round divided by the answers.

The other servers: a bare HTTP hello on asyncio's protocols, which knows nothing but Content-Length; `workerd` (npm)
with a hello of its own, an isolate in its own process; MiniStack (PyPI) with its local executor, a Lambda API that
needs no Docker. Everything listens on loopback alone. CPU is that of the server and of all below it, for each answer.
"""

import argparse
import base64
import contextlib
import hashlib
import hmac
import http.client
import importlib.machinery
import importlib.util
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
MINISTACK = "1.5.33"
WORKERD = "1.20261117.1"
KEY_ID, SECRET = "AKIAKENNELBENCH00000", "kennel/bench/secret/0000000000000000000"
ROLE = "arn:aws:iam::000000000000:role/r"
EVENT = {"name": "world"}
EXPECTED = '"world"'
READY_SECONDS = 60

BARE_PY = """import asyncio
import json
import sys


class Hello(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        self.received = b""

    def data_received(self, data):
        self.received += data
        while True:
            head, end, rest = self.received.partition(b"\\r\\n\\r\\n")
            if not end:
                return
            length = 0
            for line in head.split(b"\\r\\n")[1:]:
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            if len(rest) < length:
                return
            event, self.received = json.loads(rest[:length]), rest[length:]
            body = json.dumps({"hello": event["name"]}).encode()
            self.transport.write(b"HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\n"
                                 b"Content-Length: %d\\r\\n\\r\\n%s" % (len(body), body))


async def main():
    server = await asyncio.get_running_loop().create_server(Hello, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()


asyncio.run(main())
"""

WORKERD_JS = """export default {
  async fetch(request) {
    const { name } = await request.json();
    return Response.json({ hello: name });
  },
};
"""
WORKERD_CAPNP = """using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "hello", worker = .hello)],
  sockets = [(name = "http", address = "127.0.0.1:PORT", http = (), service = "hello")],
);
const hello :Workerd.Worker = (
  modules = [(name = "hello.js", esModule = embed "hello.js")],
  compatibilityDate = "2026-01-01",
);
"""

bench = None  # scripts/bench, as a module


# --- servers --------------------------------------------------------------------------------------------------------


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Peer:
    """A server of a row, from its start to its end."""

    def __init__(self, host, name, argv, port, environment=None, cwd="/"):
        self.name = name
        self.port = port
        self.log = host.work / f"{name.split()[0]}-{port}.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [str(a) for a in argv], cwd=cwd, env=environment or host.environment, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True)

    def wait(self, answers):
        end = time.monotonic() + READY_SECONDS
        while not answers():
            if self.process.poll() is not None or time.monotonic() > end:
                words = " ".join(self.log.read_text(errors="replace").split())[-300:]
                self.end()
                raise bench.Unavailable(f"{self.name} does not come up: {words}")
            time.sleep(0.05)
        return self

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                pass
        # What it started is in its session, and so in its group.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def tree(self):
        """The server and everything below it."""
        found = [self.process.pid]
        for pid in found:
            found += bench.children_of(pid)
        return found

    def cpu_ms(self):
        """What its threads that live have used."""
        total = 0
        for pid in self.tree():
            for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
                with contextlib.suppress(OSError, ValueError):
                    total += int(path.read_text().split()[0])
        return total / 1e6

    def pin(self, cpus):
        for pid in self.tree():
            for thread in Path(f"/proc/{pid}/task").glob("*"):
                with contextlib.suppress(OSError, ProcessLookupError):
                    os.sched_setaffinity(int(thread.name), cpus)


def comm(pid):
    """The name of a process, or `None` once it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return None


def listening(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def signed(port, method, path, text, service="lambda"):
    """The headers of one signed request with the body `text`."""
    now = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    host = f"127.0.0.1:{port}"
    names = "host;x-amz-date"
    encoded = path.replace("%", "%25")
    request = f"{method}\n{encoded}\n\nhost:{host}\nx-amz-date:{now}\n\n{names}\n{hashlib.sha256(text).hexdigest()}"
    scope = f"{now[:8]}/us-east-1/{service}/aws4_request"
    to_sign = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = f"AWS4{SECRET}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    return {"Host": host, "X-Amz-Date": now, "Content-Type": "application/json",
            "Authorization": f"AWS4-HMAC-SHA256 Credential={KEY_ID}/{scope}, SignedHeaders={names}, "
                             f"Signature={signature}"}


def api(port, method, path, body=None, service="lambda"):
    """One signed request on a connection of its own: status and JSON."""
    text = json.dumps(body).encode() if body is not None else b""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, text, signed(port, method, path, text, service))
        answer = connection.getresponse()
        payload = answer.read()
    finally:
        connection.close()
    try:
        return answer.status, json.loads(payload or b"null")
    except ValueError:
        return answer.status, payload


def function(name, runtime, package, handler="app.handler", memory_mb=512):
    """CreateFunction's members; `package` is the zip's path, or its bytes."""
    package = package if isinstance(package, bytes) else Path(package).read_bytes()
    return {"FunctionName": name, "Runtime": runtime, "Role": ROLE, "Handler": handler, "Timeout": 30,
            "MemorySize": memory_mb, "Code": {"ZipFile": base64.b64encode(package).decode()}}


def expect(wanted, answer, what):
    if answer[0] != wanted:
        raise bench.Unavailable(f"{what}: status {answer[0]}: {str(answer[1])[:200]}")
    return answer[1]


def create(port, name, runtime, package, handler="app.handler", memory_mb=512):
    """Makes a function, and waits until it is active."""
    wanted = function(name, runtime, package, handler, memory_mb)
    expect(201, api(port, "POST", "/2015-03-31/functions", wanted), "CreateFunction")
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end:
        state = expect(200, api(port, "GET", f"/2015-03-31/functions/{name}"), "GetFunction")["Configuration"]
        if state.get("State", "Active") == "Active":
            return
        time.sleep(0.002)
    raise bench.Unavailable(f"{name} is not active: {state}")


def greet(port, name):
    answer = expect(200, api(port, "POST", f"/2015-03-31/functions/{name}/invocations", EVENT), "Invoke")
    if answer != {"hello": "world"}:
        raise bench.Unavailable(f"the function answered {str(answer)[:200]}")


def python_package(host):
    folder = host.folder("serve-python", {"app.py": bench.PYTHON_HANDLER})
    return host.zip("serve-python", {"app.py": folder / "app.py"})


def start_kennel(host, name="kennel serve", flags=()):
    if os.geteuid() != 0:
        raise bench.Unavailable("`kennel serve` is only measured as root")
    port = free_port()
    data = host.work / f"data-{port}"  # its owner will be the one that the server becomes
    keys = {"KENNEL_ROOT_ACCESS_KEY_ID": KEY_ID, "KENNEL_ROOT_SECRET_ACCESS_KEY": SECRET}
    peer = Peer(host, name, [host.kennel, "serve", "--listen", f"127.0.0.1:{port}", "--data", data, *flags], port,
                {**host.environment, **keys})

    def healthy():
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/_kennel/health")
            return connection.getresponse().status == 200
        except OSError:
            return False

    return peer.wait(healthy)


def start_bare(host):
    port = free_port()
    python = host.runtime("python3")["by"]
    folder = host.folder("serve-bare", {"hello.py": BARE_PY})
    return Peer(host, "bare asyncio", [python, folder / "hello.py", port], port).wait(lambda: listening(port))


def cache(name):
    base = os.environ.get("KENNEL_TEST_CACHE") or Path(
        os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "kennel-tests")
    folder = Path(base) / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def start_workerd(host):
    folder = cache(f"workerd-{WORKERD}")
    program = folder / "node_modules/.bin/workerd"
    if not program.exists():
        npm = host.program("npm", "npm")
        host.command([npm, "install", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts",
                      "--prefix", folder, f"workerd@{WORKERD}"])
    # The package's program is a script that starts the binary of the machine's kind.
    binaries = sorted(folder.glob("node_modules/@cloudflare/workerd-linux-*/bin/workerd"))
    if not binaries:
        raise bench.Unavailable("workerd has no binary for this machine")
    port = free_port()
    config = host.work / f"workerd-{port}"
    config.mkdir()
    (config / "hello.js").write_text(WORKERD_JS)
    (config / "config.capnp").write_text(WORKERD_CAPNP.replace("PORT", str(port)))
    return Peer(host, "workerd", [binaries[0], "serve", config / "config.capnp"], port).wait(lambda: listening(port))


def start_ministack(host):
    folder = cache(f"ministack-{MINISTACK}")
    program = folder / "bin/ministack"
    if not program.exists():
        python = host.program("python3", "python3")
        host.command([python, "-m", "venv", folder])
        host.command([folder / "bin/pip", "install", "-q", "--disable-pip-version-check", f"ministack=={MINISTACK}"])
    port = free_port()
    home = host.work / f"ministack-{port}"
    home.mkdir()
    # Without the two switches it opens a port on every address of the machine as well.
    environment = {"PATH": host.environment["PATH"], "HOME": str(home), "TMPDIR": str(home), "GATEWAY_PORT": str(port),
                   "BIND_HOST": "127.0.0.1", "LAMBDA_EXECUTOR": "local", "IOT_MTLS_ENABLED": "0", "SFTP_ENABLED": "0"}
    return Peer(host, "MiniStack", [program], port, environment).wait(lambda: listening(port))


# --- measuring ------------------------------------------------------------------------------------------------------


def load_client(host):
    def make():
        cargo = host.program("cargo", "cargo")
        target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target") / "load"
        host.command([cargo, "build", "--release", "--locked", "--quiet"], cwd=HERE / "load",
                     environment={"CARGO_TARGET_DIR": str(target)})
        credentials = host.work / "load-credentials"
        credentials.write_text(f"[default]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\n")
        return [target / "release/load", "--credentials", credentials]
    return host.once("load", make)


class Target:
    """A side of a row: a server, the function that is asked for there, and the samples.

    `goal` is of the kind that scripts/bench's `verdict` knows. Sides of one `pair` are compared. A side that is no
    server has no peer, and its `asked` says what it is.
    """

    def __init__(self, peer, name=None, function="hello", goal=None, goal_kind="ratio", pair="", asked=None,
                 more=()):
        self.peer = peer
        self.name = name or peer.name
        self.ours = peer is not None and peer.name.startswith("kennel")
        self.pair = pair
        self.path = f"/2015-03-31/functions/{function}/invocations"
        self.asked = asked or ["POST", self.path]
        self.more = more  # for the load client
        self.goal = goal
        self.goal_kind = goal_kind
        self.wall_ms = []
        self.cpu_ms = []
        self.rest_ms = []
        self.whole_cpu = True
        self.per_second = []
        self.error = None

    def add(self, wall_ms, cpu_ms, per_second=None):
        self.wall_ms.append(wall_ms)
        self.cpu_ms.append(cpu_ms)
        self.rest_ms.append(0.0)
        if per_second:
            self.per_second.append(per_second)

    def command(self, client, *more):
        return [*client, "--url", f"http://127.0.0.1:{self.peer.port}{self.path}", "--body", json.dumps(EVENT),
                "--expect", EXPECTED, *self.more, *more]


def run_load(argv, cpus=None):
    """What the load client says of one run of it."""
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True,
                          preexec_fn=(lambda: os.sched_setaffinity(0, cpus)) if cpus else None)
    if done.returncode != 0:
        raise bench.Unavailable(done.stderr.strip()[-300:])
    return json.loads(done.stdout)


def load(target, client, clients, seconds, requests, cpus):
    command = target.command(client, "--clients", clients, "--seconds", seconds, "--requests", requests)
    return run_load(command, cpus)


def create_many(host, peer, count, clients=4, **members):
    """Makes the functions `stored-0` to `stored-COUNT-1`; what the load client says of it."""
    body = host.work / "create.json"
    body.write_text(json.dumps(function("stored-{n}", **members)))
    return run_load([*load_client(host), "--url", f"http://127.0.0.1:{peer.port}/2015-03-31/functions", "--body-file",
                     body, "--status", 201, "--clients", clients, "--requests", count, "--seconds", 600])


def rounds(targets, client, clients, count, seconds, budget_end, cpus=None, throughput=False, requests=20_000):
    """Interleaved, as scripts/bench does with commands; a first round warms up and is not kept."""
    live = list(targets)
    for number in range(-1, count):
        if number > 1 and time.monotonic() > budget_end:
            return
        first = number % len(live) if live else 0
        for target in live[first:] + live[:first]:
            try:
                cpu = target.peer.cpu_ms()
                got = load(target, client, clients, seconds, requests, cpus)
                cpu = target.peer.cpu_ms() - cpu
            except bench.Unavailable as error:
                target.error = str(error)
                continue
            if number >= 0:
                wall = 1000 / got["per_second"] if throughput else got["p50_ms"]
                target.add(wall, max(cpu, 0) / got["n"], got["per_second"])
        live = [target for target in live if target.error is None]


def peers(host, stack, notes, starters):
    """The servers that come up; why the others do not is noted."""
    found = []
    for start in starters:
        try:
            peer = start(host)
        except bench.Unavailable as error:
            notes.append(str(error))
            continue
        stack.callback(peer.end)
        found.append(peer)
    return found


def hello_targets(host, stack, notes, goals, starters):
    """Kennel first where it is there, then the peers, each with its function made and tried."""
    package = python_package(host)
    runtime = host.runtime("python3")["runtime"]
    targets = []
    for peer in peers(host, stack, notes, starters):
        try:
            if peer.name in ("kennel serve", "MiniStack"):
                create(peer.port, "hello", runtime, package)
                greet(peer.port, "hello")
        except bench.Unavailable as error:
            notes.append(f"{peer.name}: {error}")
            continue
        targets.append(Target(peer, goal=goals.get(peer.name)))
    return targets


ALL = (start_kennel, start_bare, start_workerd, start_ministack)


def halves():
    """The client's core, and the servers'."""
    cpus = sorted(os.sched_getaffinity(0))
    return ({cpus[-1]}, set(cpus[:-1])) if len(cpus) > 1 else (None, set(cpus))


def row_warm(host, notes, stack, count, budget_end):
    targets = hello_targets(host, stack, notes, {"bare asyncio": 2.0, "workerd": 1.0}, ALL)
    cpus, others = halves()
    for target in targets:
        target.peer.pin(others)
    rounds(targets, load_client(host), 1, count, 0.4, budget_end, cpus)
    notes.append("One client, on a core of its own; the servers and what they start have the others. Samples are the "
                 "medians of rounds of 0.4 s.")
    return targets


def row_warm_free(host, notes, stack, count, budget_end):
    targets = hello_targets(host, stack, notes, {}, ALL[:3])
    rounds(targets, load_client(host), 1, count, 0.4, budget_end)
    notes.append("For information: the same with nothing bound to a core. Where the kernel puts client and server on "
                 "one core, nobody waits for an idle core to wake; where not, that wait is most of the time.")
    return targets


def row_throughput(host, notes, stack, count, budget_end):
    # An answer's time: two thirds of workerd's are one and a half times its answers a second.
    targets = hello_targets(host, stack, notes, {"workerd": 1 / 1.5}, ALL)
    rounds(targets, load_client(host), 8, count, 1.0, budget_end, throughput=True, requests=1_000_000)
    rates = ", ".join(f"{t.name} {statistics.median(t.per_second):.0f}" for t in targets if t.per_second)
    notes.append(f"Eight clients; a sample is a round of 1 s divided by its answers. Answers a second: {rates}. "
                 "Client and servers share all cores.")
    return targets


def row_new(host, notes, stack, count, budget_end):
    """Create to first result, and the first invoke alone."""
    package = python_package(host)
    runtime = host.runtime("python3")["runtime"]
    both = []
    for peer in peers(host, stack, notes, (start_kennel, start_ministack)):
        whole = Target(peer, f"{peer.name.split()[0]}, created", pair="created")
        first = Target(peer, f"{peer.name.split()[0]}, invoked", pair="invoked")
        whole.whole_cpu = first.whole_cpu = False  # what has ended by then is in nobody's
        both.append((peer, whole, first))
    for number in range(-1, count):
        if number > 1 and time.monotonic() > budget_end:
            break
        for peer, whole, first in both[number % len(both):] + both[:number % len(both)] if both else ():
            if whole.error:
                continue
            name = f"new-{number + 1}"
            try:
                began = time.perf_counter()
                create(peer.port, name, runtime, package)
                active = time.perf_counter()
                greet(peer.port, name)
                end = time.perf_counter()
            except bench.Unavailable as error:
                whole.error = first.error = str(error)
                continue
            if number >= 0:
                whole.add((end - began) * 1000, 0)
                first.add((end - active) * 1000, 0)
    notes.append("A hello zip of a new function each time: from CreateFunction until the first result, GetFunction "
                 "asked until it is active; and the first Invoke of it alone. Connections are made for each request.")
    return [whole for _, whole, _ in both] + [first for _, _, first in both]


def row_stored(host, notes, stack, count, budget_end):
    many = 10_000 if count > 6 else 1_000
    package = python_package(host)
    runtime = host.runtime("python3")["runtime"]
    sides = []
    client = load_client(host)
    for stored in (many, 1):
        peer = start_kennel(host)
        stack.callback(peer.end)
        create(peer.port, "hello", runtime, package)
        greet(peer.port, "hello")
        if stored > 1:
            made = create_many(host, peer, stored - 1, runtime=runtime, package=package)
            notes.append(f"{made['n']} functions created with four clients in {made['seconds']:.1f} s, "
                         f"p50 {made['p50_ms']:.2f} ms.")
        sides.append(Target(peer, f"{stored} stored", goal=1.1 if stored == 1 else None))
    cpus, others = halves()
    for side in sides:
        side.peer.pin(others)
    rounds(sides, client, 1, count, 0.4, budget_end, cpus)
    return sides


# For each row.
SECONDS = 60
ROWS = {
    # name: title, rounds, rounds with --quick, sides
    "warm": ("warm Python invoke through the API, one client", 15, 4, row_warm),
    "free": ("the same, on any core", 15, 4, row_warm_free),
    "throughput": ("warm Python invoke through the API, eight clients", 10, 3, row_throughput),
    "new": ("a new function's first result", 15, 4, row_new),
    "stored": ("warm invoke with many functions stored and with one", 15, 4, row_stored),
}
SIZES = {
    # name: title, goal in MiB
    "rest": ("memory of the server at rest", 48),
}


def measure_row(name, host, runs, quick, budget_end, rows=None):
    """As scripts/bench's own rows; `rows` has the names of another file."""
    title, usual, few, make = (rows or ROWS)[name]
    row = {"name": name, "title": title, "sides": [], "notes": []}
    with contextlib.ExitStack() as stack:
        try:
            targets = make(host, row["notes"], stack, runs or (few if quick else usual), budget_end)
            if isinstance(targets, tuple):  # with more for the row
                targets, more = targets
                row.update(more)
        except bench.Unavailable as error:
            row["notes"].append(f"not measured: {error}")
            return row
    bench.reap_rest(time.monotonic() + 5)  # sandboxes' processes may have become our children
    for target in targets:
        ours = next((t for t in targets if t.ours and t.pair == target.pair), None)
        entry = {"name": target.name, "command": target.asked, "error": target.error, "figures": bench.figures(target),
                 "wall_ms": target.wall_ms, "cpu_ms": target.cpu_ms, "per_second": target.per_second}
        if ours and target is not ours and target.wall_ms and ours.wall_ms:
            entry["ratio"] = bench.compare(ours, target)
        if "ratio" in entry or target.goal_kind in bench.OWN_GOALS:
            entry.update(goal=target.goal, goal_kind=target.goal_kind)
        if target.error:
            row["notes"].append(f"{target.name} failed: {target.error}")
        row["sides"].append(entry)
    return row


def measure_size(name, host):
    title, goal = SIZES[name]
    row = {"name": name, "title": title, "goal_mib": goal, "notes": []}
    try:
        peer = start_kennel(host)
        try:
            time.sleep(2)
            seen = [(Path(f"/proc/{pid}/comm").read_text().strip(), resident_kib(pid)) for pid in peer.tree()]
        finally:
            peer.end()
    except bench.Unavailable as error:
        row["notes"].append(f"not measured: {error}")
        return row
    row["processes_mib"] = [(process, kib / 1024) for process, kib in seen]
    row["mib"] = sum(kib for _, kib in seen) / 1024
    parts = ", ".join(f"{process} {kib / 1024:.1f}" for process, kib in seen)
    row["notes"].append(f"Resident sets of its processes, two seconds after the start, in MiB: {parts}. Pages that "
                        "fork shares are counted once for each.")
    return row


def resident_kib(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def scripts_bench():
    loader = importlib.machinery.SourceFileLoader("bench", str(ROOT / "scripts/bench"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("bench", loader))
    loader.exec_module(module)
    return module


def main():
    global bench
    sys.dont_write_bytecode = True
    bench = scripts_bench()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kennel", metavar="PATH", help="measure this binary, and build nothing")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--runs", type=int, metavar="N", help="rounds")
    parser.add_argument("--only", action="append", metavar="NAME", help="only rows whose name begins so")
    parser.add_argument("--json", action="store_true", help="print one JSON object with every sample")
    args = parser.parse_args()
    names = [n for n in [*ROWS, *SIZES] if not args.only or any(n.startswith(o) for o in args.only)]
    work = Path(tempfile.mkdtemp(prefix="kennel-bench-", dir=bench.WORK_PARENT))
    work.chmod(0o755)
    rows = []
    try:
        host = bench.Host(work, bench.build(args.kennel), False)
        if not args.json:
            print(bench.line(bench.HEADINGS))
        for name in names:
            end = time.monotonic() + bench.BUDGET_SECONDS
            rows.append(measure_row(name, host, args.runs, args.quick, end) if name in ROWS
                        else measure_size(name, host))
            if not args.json:
                bench.print_row(rows[-1])
                sys.stdout.flush()
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if args.json:
        print(json.dumps({"machine": bench.machine(), "rows": rows}))


if __name__ == "__main__":
    main()
