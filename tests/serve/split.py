"""The weights of an alias hold within three sigma."""

import json
import subprocess
from collections import Counter

from server import Server, create, package, work_folder
from tools import credentials, load_client

SIZES = (2_000, 10_000)
WEIGHT = 0.2


def main(kennel, size):
    load = load_client()
    with work_folder("split") as folder:
        server = Server(kennel, folder)
        try:
            server.start()
            client = server.client()
            create(client, kennel, "split")
            client.publish_version(FunctionName="split")
            client.update_function_code(FunctionName="split", ZipFile=package(2))
            client.get_waiter("function_updated_v2").wait(FunctionName="split", WaiterConfig={"Delay": 1})
            client.publish_version(FunctionName="split")
            client.create_alias(FunctionName="split", Name="live", FunctionVersion="1",
                                RoutingConfig={"AdditionalVersionWeights": {"2": WEIGHT}})
            url = f"{server.url}/2015-03-31/functions/split%3Alive/invocations"

            def count():
                done = subprocess.run(
                    [load, "--url", url, "--credentials", credentials(folder), "--clients", "4", "--requests",
                     str(size), "--seconds", "600", "--body", "{}", "--bodies"], capture_output=True, text=True)
                if done.returncode:
                    raise AssertionError(done.stderr[-500:])
                return Counter(json.loads(line)["version"] for line in done.stderr.splitlines())

            def beyond(counts):
                sigma = (size * WEIGHT * (1 - WEIGHT)) ** 0.5
                away = abs(counts["2"] - size * WEIGHT) / sigma
                return None if away <= 3 else f"{counts['2']} of {size} to version 2, {away:.1f} sigma away"

            counts = count()
            yield "every answer came from a version of the alias", \
                None if set(counts) == {"1", "2"} and sum(counts.values()) == size else str(counts)
            # A fair coin is beyond three sigma once in 370 times; twice in a row it is not fair.
            why = beyond(counts)
            yield f"{WEIGHT:.0%} within three sigma ({counts['2']} of {size})", why and beyond(count())
            client.update_alias(FunctionName="split", Name="live", FunctionVersion="1",
                                RoutingConfig={"AdditionalVersionWeights": {}})
            again = count() if size <= SIZES[0] else Counter({"1": size})
            yield "one update takes it back", None if set(again) == {"1"} else str(again)
        finally:
            server.end()
