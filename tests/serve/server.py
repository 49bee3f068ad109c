"""A `kennel serve` under test: started, asked, killed, and looked at from outside."""

import contextlib
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections import Counter
from pathlib import Path

import boto3
from botocore.config import Config

ROOT = Path(__file__).resolve().parent.parent.parent
ROLE = "arn:aws:iam::000000000000:role/r"
# Not below /tmp, which every sandbox covers with its own.
WORK_PARENT = "/var/tmp"
READY_SECONDS = 60
KEYS = {"KENNEL_ROOT_ACCESS_KEY_ID": "AKIAKENNELTESTS00000",
        "KENNEL_ROOT_SECRET_ACCESS_KEY": "kennel/tests/secret/0000000000000000000"}

HANDLER = """import time


def handler(event, context):
    if "id" in event:
        print("handled", event["id"])
    if "sleep" in event:
        time.sleep(event["sleep"])
    return {"version": context.function_version, "echo": event.get("echo"), "release": RELEASE}
"""


def package(release=1):
    """The zip of the test function; other bytes for another release."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        info = zipfile.ZipInfo("app.py", (2020, 1, 1, 0, 0, 0))
        info.external_attr = 0o644 << 16
        archive.writestr(info, HANDLER.replace("RELEASE", repr(release)))
    return buffer.getvalue()


@contextlib.contextmanager
def work_folder(name):
    folder = Path(tempfile.mkdtemp(prefix=f"kennel-serve-{name}-", dir=WORK_PARENT))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(what, done, seconds=30.0, every=0.05):
    """Waits until `done()` gives something true; its value."""
    end = time.monotonic() + seconds
    while True:
        value = done()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds:.0f} s")
        time.sleep(every)


class Server:
    """One data directory, and the servers that follow one another on it."""

    def __init__(self, kennel, folder, *flags, data=None):
        self.kennel = kennel
        self.folder = folder
        self.data = data or folder / "data"
        self.temporary = folder / "tmp"
        self.temporary.mkdir(exist_ok=True)
        self.flags = flags
        self.port = free_port()
        self.process = None
        self.launchers = set()
        self.log = folder / "server.log"

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def spawn(self):
        """Starts a server and does not wait for it."""
        environment = {
            "PATH": os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin"),
            "HOME": os.environ.get("HOME", "/"),
            "TMPDIR": str(self.temporary),
            "KENNEL_RUNTIMES": os.environ.get("KENNEL_RUNTIMES", str(ROOT / "runtimes")),
            **KEYS,
        }
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [self.kennel, "serve", "--listen", f"127.0.0.1:{self.port}", "--data", self.data,
                 "--retry-delays", "1,2", *self.flags],
                env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        return self

    def start(self, seconds=READY_SECONDS):
        self.spawn()
        self.wait_ready(seconds)
        return self

    def wait_ready(self, seconds=READY_SECONDS):
        def ready():
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended with status {self.process.returncode}: {self.last_words()}")
            return self.health() == 200
        wait_until("the server is ready", ready, seconds, 0.02)
        # The one thread without a runtime; its pid is in the names of its groups.
        self.launchers |= set(children_of(self.process.pid))

    def refusal(self, seconds=30):
        """The exit status of a server that shall not come up; None where it does."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.end()
            return None

    def health(self):
        try:
            return urllib.request.urlopen(f"{self.url}/_kennel/health", timeout=5).status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return None

    def metrics(self):
        text = urllib.request.urlopen(f"{self.url}/_kennel/metrics", timeout=10).read().decode()
        values = {}
        for line in text.splitlines():
            found = re.match(r"([a-z_A-Z0-9:]+(?:\{[^}]*\})?) (\S+)", line)
            if found and not line.startswith("#"):
                values[found[1]] = float(found[2])
        return values

    def last_words(self, characters=2000):
        with contextlib.suppress(OSError):
            return self.log.read_text(errors="replace")[-characters:]
        return ""

    def client(self, service="lambda", connections=64, seconds=60):
        """Without retries: what a call says is what happened to it."""
        return boto3.client(
            service, endpoint_url=self.url, region_name="us-east-1",
            aws_access_key_id=KEYS["KENNEL_ROOT_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["KENNEL_ROOT_SECRET_ACCESS_KEY"],
            config=Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=seconds,
                          max_pool_connections=connections, proxies={}))

    def kill(self, pid=None):
        """SIGKILL to the server, or to another process of its own; returns when the server has ended."""
        # The launcher may have come up while nobody waited for the server to be ready.
        self.launchers |= set(children_of(self.process.pid))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid or self.process.pid, signal.SIGKILL)
        self.process.wait(30)

    def stop(self, seconds=30):
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def end(self):
        """At the end of a test, whatever happened in it."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()

    # --- what is left of it --------------------------------------------------------------------------------------

    def groups(self):
        """Control groups of sandboxes that a server of this test has made."""
        prefixes = tuple(f"kennel-{pid}-" for pid in self.launchers)
        return [str(path) for path in groups() if prefixes and path.name.startswith(prefixes)]

    def processes(self):
        """Everything that runs in a session or a group of this test, sandboxes included."""
        found = []
        for pid in pids():
            session, groups_of = session_of(pid), groups_of_process(pid)
            if session is None:
                continue  # it has ended
            mine = any(f"kennel-{launcher}-" in groups_of for launcher in self.launchers)
            if mine or pid in self.launchers or (self.process and session == self.process.pid):
                found.append(f"{pid} {name_of(pid)}")
        return found

    def loops(self):
        """Loop devices, without those of others."""
        others = loops_of_others({int(p.split()[0]) for p in self.processes()})
        return sum(entry.split()[0] not in others for entry in loops())

    def left(self, before):
        """What is there beyond `before`, a `traces()` taken ahead of the first start."""
        left = [f"process {p}" for p in self.processes()] + [f"cgroup {g}" for g in self.groups()]
        now = traces()
        others = loops_of_others({int(p.split()[0]) for p in self.processes()}) if now != before else set()
        for kind in now:
            more = sorted(now[kind] - before[kind])
            left += [f"{kind} {entry}" for entry in more if entry.split()[0] not in others]
        left += [f"file {path}" for path in sorted(self.temporary.iterdir())]
        return left

    def nothing_left(self, before, seconds=20):
        """None, or what is left; the kernel's cleaning has a while."""
        end = time.monotonic() + seconds
        while True:
            left = self.left(before)
            if not left:
                return None
            if time.monotonic() > end:
                return f"{len(left)} left: {'; '.join(left[:12])}"
            time.sleep(0.2)


# --- the host, by /proc and /sys ------------------------------------------------------------------------------------


def pids():
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def read(path):
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def name_of(pid):
    return read(f"/proc/{pid}/comm").strip()


def session_of(pid):
    """None for a process that has ended, reaped or not."""
    fields = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return int(fields[3]) if len(fields) > 3 and fields[0] not in "ZX" else None


def groups_of_process(pid):
    return read(f"/proc/{pid}/cgroup")


def children_of(pid):
    return [int(p) for p in read(f"/proc/{pid}/task/{pid}/children").split()]


def groups():
    """Every control group that Kennel makes for a sandbox."""
    found = []
    for path, folders, _ in os.walk("/sys/fs/cgroup"):
        found += [Path(path) / name for name in folders if re.fullmatch(r"kennel-\d+-\d+", name)]
    return found


def loops():
    found = set()
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        found.add(f"{path.parts[3]} {read(path).strip()}")
    return found


def loops_of_others(ours):
    """Loop devices that a process of somebody else's has mounted: other sandboxes may run on the host."""
    found = set()
    for pid in set(pids()) - ours:
        for number in re.findall(r"^\d+ \d+ 7:(\d+) ", read(f"/proc/{pid}/mountinfo"), re.M):
            found.add(f"loop{number}")
    return found


def mounts():
    """Of this namespace. The identity of a mount, which a later one may have again, is left out."""
    return {line.split(" ", 2)[2] for line in read("/proc/self/mountinfo").splitlines()}


def traces():
    return {"mount": mounts(), "loop device": loops()}


def resident_kib(pid):
    found = re.search(r"^VmRSS:\s+(\d+) kB", read(f"/proc/{pid}/status"), re.M)
    return int(found[1]) if found else 0


def descriptors(pid):
    """How many of each kind."""
    kinds = Counter()
    folder = f"/proc/{pid}/fd"
    for fd in os.listdir(folder):
        with contextlib.suppress(OSError):
            target = os.readlink(f"{folder}/{fd}")
            kind = re.match(r"(socket|pipe|/dev/null|/sys/fs/cgroup|/proc|.*(/logs/|/code/|/kennel\.db))", target)
            kinds[target if target.startswith("anon_inode") else kind[2] or kind[1] if kind else "file"] += 1
    return kinds


# --- functions ------------------------------------------------------------------------------------------------------


def runtime(kennel):
    """The newest Python that this host has."""
    done = subprocess.run([kennel, "runtimes", "--json"], capture_output=True, text=True, check=True, env={
        **os.environ, "KENNEL_RUNTIMES": os.environ.get("KENNEL_RUNTIMES", str(ROOT / "runtimes"))})
    rows = json.loads(done.stdout)
    for status in ("yes", "newer"):
        names = [r["runtime"] for r in rows if r["runtime"].startswith("python3") and r["status"] == status]
        if names:
            return names[-1]
    raise AssertionError("no Python: `kennel runtimes` tells what is missing")


def create(client, kennel, name, code=None, **more):
    answer = client.create_function(
        FunctionName=name, Runtime=runtime(kennel), Role=ROLE, Handler="app.handler",
        Code={"ZipFile": code or package()}, **{"Timeout": 30, "MemorySize": 128, **more})
    client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 30})
    return answer


def invoke(client, name, event, **more):
    """The result; an error of the function is one here."""
    answer = client.invoke(FunctionName=name, Payload=json.dumps(event), **more)
    payload = answer["Payload"].read()
    if answer.get("FunctionError"):
        raise AssertionError(f"{name} failed: {payload.decode(errors='replace')}")
    return answer, json.loads(payload or "null")


def handled(server, functions):
    """Ids of the events that any of the functions has logged."""
    logs = server.client("logs")
    seen = set()
    for function in functions:
        pages = logs.get_paginator("filter_log_events").paginate(
            logGroupName=f"/aws/lambda/{function}", filterPattern='"handled"')
        try:
            for page in pages:
                seen.update(re.findall(r"^handled (\S+)", "\n".join(e["message"] for e in page["events"]), re.M))
        except logs.exceptions.ResourceNotFoundException:
            pass  # it has not run yet
    return seen
