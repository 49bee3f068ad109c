"""Sandboxes made, used once and destroyed, as many a second as the machine can: a row of scripts/bench.

Through `kennel serve --idle-seconds 0`: each invocation takes a new sandbox, which is destroyed after it. Nothing is
created, changed or deleted while the clock runs. What counts is the server's own count of sandboxes started, so an
invocation that found one after all would not.

The sides run in windows of some seconds, one after another in rounds, each round beginning with another side. A sample
is the time of a window, until all that was started in it has ended, divided by what was done in it. CPU is what all
cores did meanwhile, for each: sandboxes are made and removed by the kernel's own threads as well, which count in no
process. So it counts whatever else the machine did, too.
"""

import json
import os
import re
import threading
import time
import urllib.request
from pathlib import Path

import serve
from serve import Target

ROOT = Path(__file__).resolve().parent.parent.parent
WINDOW_SECONDS = 4
# One core, for the function and for the container alike.
MEMORY_MB = 1769
# Functions that take turns.
FUNCTIONS = 4
PER_SECOND = 300
OF_RUNC = 0.1
# Bundles that a worker takes in turn: the group of the last container may still be on its way out.
BUNDLES = 8
# After a window of the server: it makes sandboxes ahead for as long as it thinks that it is in demand.
PAUSE_SECONDS = 1.5
SECONDS = 90

bench = None  # scripts/bench, as a module


def busy_ms():
    """What all cores have worked, in milliseconds."""
    user, nice, system, _, _, interrupt, soft = map(int, Path("/proc/stat").read_text().split(maxsplit=8)[1:8])
    return (user + nice + system + interrupt + soft) * 1000 / os.sysconf("SC_CLK_TCK")


def cold_starts(peer):
    """Sandboxes that the server has started for invocations."""
    with urllib.request.urlopen(f"http://127.0.0.1:{peer.port}/_kennel/metrics", timeout=60) as answer:
        text = answer.read().decode()
    return sum(float(value) for value in re.findall(r"^kennel_cold_starts_total\{[^}]*\} (\S+)", text, re.MULTILINE))


def serve_window(host, peer, workers):
    """A function that makes sandboxes through the server for a while: how many, and in how many seconds."""
    command = [*serve.load_client(host),
               "--url", f"http://127.0.0.1:{peer.port}/2015-03-31/functions/stored-{{n}}/invocations",
               "--body", json.dumps(serve.EVENT), "--expect", serve.EXPECTED, "--clients", workers,
               "--seconds", WINDOW_SECONDS, "--cycle", FUNCTIONS]

    def window():
        before = cold_starts(peer)
        got = serve.run_load(command)
        return cold_starts(peer) - before, got["seconds"]
    return window


def commands_window(host, workers, command_of):
    """A function that runs commands for a while, `workers` at once: how many, and in how many seconds.

    `command_of(worker, number)` is the command, which leaves nothing once it has returned but what becomes a child of
    this process.
    """
    def work(worker, null, end, counts, errors):
        actions = [(os.POSIX_SPAWN_DUP2, null, fd) for fd in (0, 1, 2)]
        while time.monotonic() < end and not errors:
            argv = [str(a) for a in command_of(worker, counts[worker])]
            pid = os.posix_spawn(argv[0], argv, host.environment, file_actions=actions)
            _, status = os.waitpid(pid, 0)
            if status != 0:
                errors.append(f"exit status {os.waitstatus_to_exitcode(status)} of {' '.join(argv[:3])}")
            counts[worker] += 1

    def window():
        counts, errors = [0] * workers, []
        null = os.open("/dev/null", os.O_RDWR)
        began = time.monotonic()
        threads = [threading.Thread(target=work, args=(worker, null, began + WINDOW_SECONDS, counts, errors))
                   for worker in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_for_rest()
        took = time.monotonic() - began
        os.close(null)
        if errors:
            raise bench.Unavailable(errors[0])
        return sum(counts), took
    return window


def wait_for_rest():
    """Waits for what commands left behind to work on: children of this process that it did not start."""
    me = os.getpid()
    end = time.monotonic() + 5
    while time.monotonic() < end:
        rest = [pid for pid in bench.children_of(me) if serve.comm(pid) == "kennel-reaper"]
        if not rest:
            return
        for pid in rest:
            os.waitpid(pid, 0)


def python_bundles(host, workers):
    """OCI bundles in which the hello handler runs once on the same interpreter, and the command for one of them."""
    base = host.runc()
    python = host.python()["by"]
    folder = host.folder("churn-python", {"app.py": bench.PYTHON_HANDLER, "run.py": bench.PYTHON_PLAIN})
    config = json.loads((host.work / "bundle" / "config.json").read_text())
    policy = (ROOT / "src" / "sandbox" / "seccomp" / "policy.toml").read_text()
    allowed = {name for name in re.findall(r'^  \{ syscall = "(\w+)"', policy.partition("refuse = [")[0], re.MULTILINE)}
    names = set(config["linux"]["seccomp"]["syscalls"][0]["names"]) | allowed
    config["linux"]["seccomp"]["syscalls"][0]["names"] = sorted(names)
    resources = config["linux"]["resources"]
    resources["memory"] = {"limit": MEMORY_MB << 20, "swap": MEMORY_MB << 20}
    resources["cpu"] = {"quota": bench.CPU_PERIOD_US, "period": bench.CPU_PERIOD_US}
    config["process"].update(args=[python, "-S", "-u", "/task/run.py"], env=["PATH=/usr/bin:/bin", "LANG=C.UTF-8"])
    root = host.work / "churn-rootfs"
    for name in ("proc", "dev", "tmp", "sys", "task"):
        (root / name).mkdir(parents=True)
    config["root"]["path"] = str(root)
    prefix = host.command([python, "-c", "import sys; print(sys.base_prefix)"]).strip()
    binds = {"/task": folder, "/usr": "/usr", **({} if prefix == "/usr" else {prefix: prefix})}
    for name in ("bin", "lib", "lib64", "sbin"):
        if Path("/", name).is_symlink():
            (root / name).symlink_to(os.readlink(f"/{name}"))
        elif Path("/", name).exists():
            binds[f"/{name}"] = f"/{name}"
    for inside in binds:  # runc's own user could not make them
        (root / inside.lstrip("/")).mkdir(parents=True, exist_ok=True)
    config["mounts"] += [{"destination": inside, "type": "bind", "source": str(outside),
                          "options": ["bind", "ro", "nosuid", "nodev"]} for inside, outside in binds.items()]
    for worker in range(workers):
        for place in range(BUNDLES):
            bundle = host.work / f"churn-{worker}-{place}"
            bundle.mkdir()
            config["linux"]["cgroupsPath"] = f"/kennel-bench-{os.getpid()}-python-{worker}-{place}"
            (bundle / "config.json").write_text(json.dumps(config))
    # The command ends in the bundle of the other row.
    return lambda worker, number: [*base[:-1], host.work / f"churn-{worker}-{number % BUNDLES}",
                                   f"churn-{os.getpid()}-{worker}-{number}"]


def true_bundles(host, workers):
    """The same with a static program that only returns, in the bundle of the row `exec`."""
    base = host.runc()
    config = json.loads((host.work / "bundle" / "config.json").read_text())
    config["root"]["path"] = str(host.work / "bundle" / "rootfs")
    for worker in range(workers):
        for place in range(BUNDLES):
            bundle = host.work / f"true-{worker}-{place}"
            bundle.mkdir()
            config["linux"]["cgroupsPath"] = f"/kennel-bench-{os.getpid()}-true-{worker}-{place}"
            (bundle / "config.json").write_text(json.dumps(config))
    return lambda worker, number: [*base[:-1], host.work / f"true-{worker}-{number % BUNDLES}",
                                   f"true-{os.getpid()}-{worker}-{number}"]


def row_churn(host, notes, stack, count, budget_end):
    workers = os.cpu_count()
    runtime = host.python()["runtime"]
    sides = []
    peer = serve.start_kennel(host, flags=["--idle-seconds", 0])
    stack.callback(peer.end)
    serve.create_many(host, peer, FUNCTIONS, runtime=runtime, package=serve.python_package(host), memory_mb=MEMORY_MB)
    serve.greet(peer.port, "stored-0")
    sides.append((Target(peer, "kennel serve", goal=PER_SECOND, goal_kind="per_second"),
                  serve_window(host, peer, workers)))
    true = host.static_program("true", bench.TRUE_C)
    run_true = [host.kennel, "exec", "--ro", true.parent, "--", true]
    alone = Target(None, "kennel exec true", goal_kind="per_second", pair="true", asked=[str(a) for a in run_true])
    alone.ours = True
    sides.append((alone, commands_window(host, workers, lambda *_: run_true)))
    for name, make, goal, pair in (("runc run python", python_bundles, OF_RUNC, ""),
                                   ("runc run true", true_bundles, None, "true")):
        try:
            command_of = make(host, workers)
        except bench.Unavailable as error:
            notes.append(f"{name} is not measured: {error}")
            continue
        target = Target(None, name, goal=goal, pair=pair, asked=[str(a) for a in command_of(0, 0)])
        sides.append((target, commands_window(host, workers, command_of)))
    for number in range(-1, count):  # one round to warm up
        if number > 1 and time.monotonic() > budget_end:
            break
        first = number % len(sides)
        for target, window in sides[first:] + sides[:first]:
            if target.error:
                continue
            busy = busy_ms()
            try:
                done, took = window()
            except bench.Unavailable as error:
                target.error = str(error)
                continue
            busy = busy_ms() - busy
            if target.peer:
                time.sleep(PAUSE_SECONDS)
            if number >= 0 and done:
                target.add(1000 * took / done, busy / done, done / took)
    notes.append(f"Milliseconds for each; windows of {WINDOW_SECONDS} s, {workers} at once. kennel serve: {FUNCTIONS} "
                 f"Python functions ({runtime}, {MEMORY_MB} MB: one core) invoked in turn, each time in a sandbox "
                 "that is made for it and destroyed after it. runc run python: the same interpreter, with the "
                 "same share, runs the handler once and prints its result (-S -u). The other two: a static program "
                 "that only returns, as in the row `exec`.")
    return [target for target, _ in sides]


ROWS = {
    # name: title, rounds, rounds with --quick, sides
    "churn": ("sandboxes made, used once and destroyed", 3, 1, row_churn),
}


def measure_row(name, host, runs, quick, budget_end):
    return serve.measure_row(name, host, runs, quick, budget_end, ROWS)
