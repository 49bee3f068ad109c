"""AWS's SDKs and command lines against a server: tests/sdks."""

import os
import re
import subprocess

from server import ROOT, Server, runtime, traces, work_folder
from tools import credentials

SIZES = (0, 0)


def main(kennel, _size):
    with work_folder("sdks") as folder:
        before = traces()
        server = Server(kennel, folder)
        try:
            server.start()
            done = subprocess.run(
                [ROOT / "tests/sdks/run", server.url, credentials(folder)], stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True, env={**os.environ, "SDK_RUNTIME": runtime(kennel)})
            outcomes = re.findall(
                r"^(\w+): (passed|failed|skipped): (.*?)(?=^\w+: (?:passed|failed|skipped|without)|^\d+ passed|\Z)",
                done.stdout, re.M | re.S)
            for name, outcome, reason in outcomes:
                words = reason.strip()
                yield f"{name} ({words})" if outcome == "passed" else name, \
                    None if outcome == "passed" else f"skipped: {words}" if outcome == "skipped" else words
            yield "each was tried", None if outcomes else done.stdout[-2000:]
            status = server.stop()
            yield "a clean stop", None if status == 0 else f"exit status {status}: {server.last_words()}"
            yield "nothing left", server.nothing_left(before)
        finally:
            server.end()
