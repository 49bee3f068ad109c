"""Many functions, many at once, for a while: no leak of memory, descriptors, control groups or mounts.

The size is the seconds. The time is cut into rounds; after each the load rests for a moment and everything is counted.
The first round warms up: instances, caches and pools come to their size. From then on nothing may climb from round to
round. At the end all functions are deleted, and control groups and mounts must be back where they began.
"""

import subprocess
import sys
import time

from server import (ROLE, Server, descriptors, mounts, package, resident_kib, runtime, traces, wait_until,
                    work_folder)
from tools import credentials, load_client

SIZES = (40, 600)
ROUNDS = 6
MEMORY_MB = 128
# What a Python instance uses, roughly.
IDLE_MB = 3
# What is noise: a round of another mix of instances.
SLACK = {"server MiB": 6, "launcher MiB": 4, "descriptors": 60, "launcher's": 40, "groups": 20, "mounts": 4,
         "loops": 20, "processes": 40}
# As the store says (OPEN_FILES).
LOG_FILES = 256
COLUMNS = ("server MiB", "launcher MiB", "descriptors", "launcher's", "sandboxes", "groups", "mounts", "loops",
           "processes")


def sizes(seconds):
    """Functions, and how many at once: the issue's by hand, fewer for CI."""
    return (1000, 50) if seconds >= 300 else (100, 8)


def count(server):
    pid = server.process.pid
    kinds = descriptors(pid)
    launcher = next(iter(server.launchers))
    groups = server.groups()
    return {
        "server MiB": resident_kib(pid) / 1024,
        "launcher MiB": resident_kib(launcher) / 1024,
        "descriptors": sum(kinds.values()),
        "launcher's": sum(descriptors(launcher).values()),
        "sandboxes": len({g.rsplit("/", 1)[1] for g in groups}),
        "groups": len(groups),
        "mounts": len(mounts()),
        "loops": server.loops(),
        "processes": len(server.processes()),
        "kinds": kinds,
    }


def table(rows):
    print("soak: " + "round".ljust(12) + "".join(c.rjust(14) for c in COLUMNS))
    for name, row in rows:
        cells = [f"{row[c]:.1f}" if isinstance(row[c], float) else str(row[c]) for c in COLUMNS]
        print("soak: " + name.ljust(12) + "".join(c.rjust(14) for c in cells), flush=True)


def kinds_table(rows):
    """Descriptors by what they are."""
    kinds = sorted({k for _, row in rows for k in row["kinds"]})
    for kind in kinds:
        print("soak:   " + kind.ljust(36) + "".join(str(row["kinds"][kind]).rjust(8) for _, row in rows), flush=True)


def slope(values):
    """Least squares: how much from one round to the next."""
    n = len(values)
    mean_x, mean_y = (n - 1) / 2, sum(values) / n
    return sum((x - mean_x) * (y - mean_y) for x, y in enumerate(values)) / sum((x - mean_x) ** 2 for x in range(n))


def trend(rows, column):
    """What climbs, from the second round on."""
    values = [row[column] for _, row in rows[1:]]
    climbed = slope(values) * (len(values) - 1)
    slack = max(SLACK[column], 0.1 * max(values))
    rises = sum(b > a for a, b in zip(values, values[1:]))
    if climbed <= slack or rises < len(values) - 2:
        return None
    return f"it climbs: {', '.join(f'{v:.1f}' for v in values)}"


def main(kennel, seconds):
    functions, at_once = sizes(seconds)
    load = load_client()
    with work_folder("soak") as folder:
        before = traces()
        # Room for those that run, with their limits, and about half of the rest, idle, with what they use: instances
        # have to go for others to come.
        room = at_once * MEMORY_MB + functions * IDLE_MB // 2
        # The index of streams has a bound of its own: reached in the first round, it is no climb of the later ones.
        server = Server(kennel, folder, "--memory-mb", str(room), "--log-streams", str(functions))
        try:
            server.start()
            client = server.client()
            rest = count(server)
            name, code = runtime(kennel), package()
            for number in range(functions):
                client.create_function(FunctionName=f"soak-{number}", Runtime=name, Role=ROLE, Handler="app.handler",
                                       Code={"ZipFile": code}, MemorySize=MEMORY_MB, Timeout=30)
            rows, calls, errors = [], 0, []
            per_round = seconds / ROUNDS
            began = time.monotonic()
            for number in range(ROUNDS):
                done = subprocess.run(
                    [load, "--url", f"{server.url}/2015-03-31/functions/soak-{{n}}/invocations", "--credentials",
                     credentials(folder), "--clients", str(at_once), "--seconds", str(per_round), "--cycle",
                     str(functions), "--scatter", "--body", '{"echo": {n}, "id": "{n}"}', "--expect",
                     '"echo": {n}'], capture_output=True, text=True)
                if done.returncode:
                    errors.append(done.stderr.strip()[-300:])
                said = done.stdout.strip()
                print(f"soak: round {number + 1}: {said}", flush=True)
                calls += int(said.partition('"n":')[2].partition(",")[0] or 0)
                time.sleep(2)
                if server.process.poll() is not None:
                    raise AssertionError(f"the server ended: {server.last_words()}")
                rows.append((f"{number + 1}", count(server)))
            took = time.monotonic() - began
            print(f"soak: {functions} functions, {at_once} at once, {calls} invokes in {took:.0f} s", flush=True)
            yield "no invoke failed", "; ".join(errors[:3]) or None
            yield "there was a load", None if calls >= seconds * 5 else f"{calls} invokes alone"
            everything = [("at rest", rest), *rows]
            table(everything)
            kinds_table(everything)
            for column in SLACK:
                yield f"{column}: no trend", trend(rows, column)
            for number in range(functions):
                client.delete_function(FunctionName=f"soak-{number}")
            wait_until("instances of deleted functions end", lambda: not server.groups(), 60, 0.5)
            after = count(server)
            table([("at rest", rest), ("deleted", after)])
            kinds_table([("at rest", rest), ("deleted", after)])
            # Files of logs stay open for a while, up to a number.
            logs = after["kinds"]["/logs/"]
            yield "open files of logs are bounded", None if logs <= LOG_FILES else f"{logs}"
            after["descriptors"] -= logs
            for column, more in (("groups", 0), ("mounts", 0), ("loops", 0), ("descriptors", 10),
                                 ("launcher's", 2)):
                why = f"{rest[column]} at rest, {after[column]} after all"
                yield f"{column}: back to where it began", None if after[column] <= rest[column] + more else why
            status = server.stop()
            yield "a clean stop", None if status == 0 else f"exit status {status}: {server.last_words()}"
            yield "nothing left", server.nothing_left(before)
        finally:
            server.end()
            if sys.exc_info()[0]:
                print(server.last_words(), flush=True)
