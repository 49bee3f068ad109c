"""What a package's size costs: rows of scripts/bench, measured as those of serve.py, whose helpers they use.

A package of 34,000 small files in 3,400 directories beside one of one file, through the API of `kennel serve`: its
first publish (checked, unpacked, on the disk), the publish of the same bytes under another name (found there), and the
first invoke of each function so made (its tree is attached, which is one mount).
"""

import struct
import time
import zipfile

import serve

FILES = 34_000
SECONDS = 60

bench = None  # scripts/bench, as a module


def packages(host):
    """Zips, by their number of files."""
    def make():
        made = {}
        for files in (1, FILES):
            path = host.work / f"package-{files}.zip"
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("app.py", bench.PYTHON_HANDLER)
                for n in range(files - 1):
                    archive.writestr(f"lib/p{n // 10}/m{n % 10}.py", f"VALUE = {n}\n" * (n % 40))
            made[files] = path.read_bytes()
        return made
    return host.once("packages", make)


def with_comment(package, text):
    """The same entries in other bytes: the comment is the end of a zip, and its length the two bytes before."""
    comment = text.encode()
    return package[:-2] + struct.pack("<H", len(comment)) + comment


def publish(port, name, runtime, package):
    wanted = serve.function(name, runtime, package)
    serve.expect(201, serve.api(port, "POST", "/2015-03-31/functions", wanted), "CreateFunction")


def row_package(host, notes, stack, count, budget_end):
    made = packages(host)
    runtime = host.runtime("python3")["runtime"]
    peer = serve.start_kennel(host)
    stack.callback(peer.end)
    targets = {}
    for files in made:
        for what in ("first", "again", "invoke"):
            targets[files, what] = serve.Target(peer, f"{files} file{'s' * (files > 1)}, {what}")
            targets[files, what].whole_cpu = False
    for number in range(-1, count):
        if number > 1 and time.monotonic() > budget_end:
            break
        for files, package in made.items():
            package = with_comment(package, f"round {number}")
            for what in ("first", "again"):
                name = f"package-{files}-{what}-{number + 1}"
                began = time.perf_counter()
                publish(peer.port, name, runtime, package)
                published = time.perf_counter()
                serve.greet(peer.port, name)
                invoked = time.perf_counter()
                if number >= 0:
                    targets[files, what].add((published - began) * 1000, 0)
                    if what == "first":
                        targets[files, "invoke"].add((invoked - published) * 1000, 0)
    sizes = " and ".join(f"{len(package) / bench.MIB:.1f} MiB" for package in made.values())
    notes.append(f"Zips of {sizes}. `first`: CreateFunction with bytes that are new, until its answer, the client's "
                 "encoding and signing with it; `again`: the same bytes for another function; `invoke`: the first "
                 "Invoke of the first. Connections are made for each request.")
    return list(targets.values())


ROWS = {
    # name: title, rounds, rounds with --quick, sides
    "package": ("publish and first invoke of 34,000 files and of one", 8, 3, row_package),
}


def measure_row(name, host, runs, quick, budget_end):
    return serve.measure_row(name, host, runs, quick, budget_end, ROWS)
