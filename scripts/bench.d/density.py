"""A thousand sandboxes that idle, and ten thousand functions stored: a row of scripts/bench.

One server has them all: that many functions are made, and so many of them invoked once, each in a sandbox of its own
that stays. Another server has one function and one sandbox. The warm invocations of one function on each are compared,
as in the row `warm`. The memory is that of the first server while nothing runs: the proportional set size (PSS) of each
process, in which a page that several share counts in parts.
"""

import json
import re
import statistics
import time
from pathlib import Path

import serve
from serve import Target

IDLE, STORED = 1000, 10_000
# With --quick.
FEW_IDLE, FEW_STORED = 200, 1000
MEMORY_MB = 128
# What an idle sandbox is taken to need at most, in MiB, before so many are asked of the host.
ROOM_MIB = 8
GOAL_MIB = 4
SECONDS = 200

bench = None  # scripts/bench, as a module


def pss_kib(pid):
    """The process's own part of memory; 0 once it is gone."""
    try:
        found = re.search(r"^Pss:\s+(\d+) kB$", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found.group(1)) if found else 0


def available_mib():
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return int(found.group(1)) / 1024


def group_kib(pid):
    """Memory charged to a process's control group, all of it and the kernel's part; `None` where it cannot be read."""
    try:
        lines = [line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
        for _, controllers, path in lines:
            if "memory" in controllers.split(","):
                group = Path(f"/sys/fs/cgroup/memory{path}")
                return [int((group / name).read_text()) / 1024
                        for name in ("memory.usage_in_bytes", "memory.kmem.usage_in_bytes")]
        group = Path(f"/sys/fs/cgroup{lines[-1][2]}")
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return [int((group / "memory.current").read_text()) / 1024, int(stat["kernel"]) / 1024]
    except (OSError, KeyError, ValueError):
        return None


def processes(peer):
    """The server, the launcher, and each sandbox's init with what runs beneath it."""
    below = bench.children_of(peer.process.pid)
    launcher = next((pid for pid in below if serve.comm(pid) == "kennel-launcher"), None)
    sandboxes = []
    for init in bench.children_of(launcher) if launcher else []:
        programs = bench.children_of(init)
        if programs:
            sandboxes.append((init, programs))
    return peer.process.pid, launcher, sandboxes


def memory(peer, idle, before, notes):
    """The memory of an idle sandbox in MiB, and a note on where it is."""
    server, launcher, sandboxes = processes(peer)
    inits = [pss_kib(init) for init, _ in sandboxes]
    programs = [sum(map(pss_kib, below)) for _, below in sandboxes]
    whole = statistics.mean(i + p for i, p in zip(inits, programs)) / 1024
    notes.append(f"Memory with {len(sandboxes)} sandboxes ({idle} idle, the others made ahead), PSS in MiB: "
                 f"{whole:.2f} each, of which init {statistics.mean(inits) / 1024:.2f} and the program "
                 f"{statistics.mean(programs) / 1024:.2f}; server {pss_kib(server) / 1024:.1f}, launcher "
                 f"{pss_kib(launcher) / 1024:.1f}. The host has {(before - available_mib()) / len(sandboxes):.2f} MiB "
                 "less to give for each, with all that the kernel keeps for it.")
    groups = [g for g in (group_kib(init) for init, _ in sandboxes) if g]
    if groups:
        charged, kernel = (statistics.mean(column) / 1024 for column in zip(*groups))
        notes.append(f"Charged to a sandbox's control group: {charged:.2f} MiB, of which the kernel's {kernel:.2f}.")
    return whole


def invoke_each(host, peer, count):
    """Invokes `count` of the functions once: what the load client says of it."""
    return serve.run_load([
        *serve.load_client(host), "--url",
        f"http://127.0.0.1:{peer.port}/2015-03-31/functions/stored-{{n}}/invocations", "--body",
        json.dumps(serve.EVENT), "--expect", serve.EXPECTED, "--clients", 4, "--requests", count, "--seconds", 300])


def row_density(host, notes, stack, count, budget_end):
    idle, stored = (IDLE, STORED) if count > 6 else (FEW_IDLE, FEW_STORED)
    before = available_mib()
    room = int(before * 0.7 / ROOM_MIB)
    if room < idle:
        notes.append(f"{room} sandboxes in place of {idle}: the host has {before:.0f} MiB to give.")
        idle = room
    functions = {"runtime": host.python()["runtime"], "package": serve.python_package(host)}
    one = serve.start_kennel(host)
    stack.callback(one.end)
    many = serve.start_kennel(host)
    stack.callback(many.end)
    for peer in (many, one):
        serve.create(peer.port, "hello", **functions, memory_mb=MEMORY_MB)
        serve.greet(peer.port, "hello")
    made = serve.create_many(host, many, stored - 1, memory_mb=MEMORY_MB, **functions)
    before = available_mib()
    first = invoke_each(host, many, idle - 1)
    notes.append(f"{stored} functions were created in {made['seconds']:.1f} s; the first invocations of {idle - 1} of "
                 f"them, by four clients, took {first['seconds']:.1f} s, p50 {first['p50_ms']:.1f} ms, p99 "
                 f"{first['p99_ms']:.1f} ms.")
    time.sleep(2)  # frozen by then, and the sandboxes made ahead are there
    whole = memory(many, idle, before, notes)
    sides = [Target(many, f"{idle} idle"), Target(one, "one of each", goal=1.1),
             Target(many, f"any of {idle - 1}", function="stored-{n}", pair="any",
                    more=["--cycle", idle - 1, "--scatter"])]
    cpus, others = serve.halves()
    for side in sides:
        side.peer.pin(others)
    serve.rounds(sides, serve.load_client(host), 1, count, 0.4, budget_end, cpus)
    notes.append(f"One client, as in the row `warm`, invokes one function of a server with {stored} functions and "
                 f"{idle} idle sandboxes, and of one with one of each. any: one of the idle sandboxes after the other, "
                 "in no order; each has been frozen for long.")
    return sides, {"mib": whole, "goal_mib": GOAL_MIB, "mib_of": " PSS for each idle sandbox"}


ROWS = {
    # name: title, rounds, rounds with --quick, sides
    "density": ("many idle sandboxes and many functions, and one of each", 10, 4, row_density),
}


def measure_row(name, host, runs, quick, budget_end):
    return serve.measure_row(name, host, runs, quick, budget_end, ROWS)
