"""The `provided` example alone, against the recording fake: both doors, errors, one connection."""

import json
import os
import subprocess
import sys
import tempfile
import zipfile

REPOSITORY = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))
sys.path.insert(0, os.path.join(REPOSITORY, "runtimes", "testkit"))
from fake_runtime_api import FakeRuntime  # noqa: E402

ROWS = [{"city": "Rome", "people": 2.8}, {"city": "Oslo", "people": None}]


def query(sql, rows=ROWS):
    return {"rows": rows, "sql": sql}


def answers_over_the_unix_socket(start):
    with start() as runtime:
        for _ in range(3):
            answer = runtime.invoke(query("select value->>'city' as city, value->>'people' as people from rows"))
            assert answer.kind == "response", answer
            assert answer.json() == ROWS, answer
        assert runtime.requests[0] == ("GET", "/2018-06-01/runtime/invocation/next"), runtime.requests


def answers_over_loopback(start):
    with start(env={"KENNEL_RUNTIME_API_SOCKET": ""}) as runtime:
        for _ in range(3):
            answer = runtime.invoke(query("select count(*) as n from rows"))
            assert answer.kind == "response" and answer.json() == [{"n": 2}], answer


def errors_are_posted_and_the_process_stays(start):
    with start() as runtime:
        for event, message in [
            (query("select absent from nowhere"), "no such table: nowhere"),
            (query("delete from event"), "the sql is not a query"),
            (query("select x'00' as blob"), "JSON cannot hold BLOB values"),
            ({"rows": []}, "the event has no sql"),
        ]:
            answer = runtime.invoke(event)
            assert answer.kind == "error", answer
            assert answer.json() == {"errorMessage": message, "errorType": "SqlError"}, answer
        answer = runtime.invoke(raw=b"no json")
        assert answer.kind == "error" and "JSON" in answer.json()["errorMessage"], answer
        assert runtime.invoke(query("select 1 as one")).json() == [{"one": 1}]


def large_events_and_results_pass(start):
    with start() as runtime:
        rows = [{"text": "ä\n\"" * 100000}, {"text": ""}]
        answer = runtime.invoke(query("select value->>'text' as text from rows", rows))
        assert answer.json() == rows
        answer = runtime.invoke(query("select printf('%07000000d', 1) as long"))
        assert answer.kind == "too-large", answer
        # The error that follows is taken or refused with 400; the program goes on after either.
        assert runtime.invoke(query("select 1 as one")).json() == [{"one": 1}]
        posts = [path.rsplit("/", 1)[1] for method, path in runtime.requests if method == "POST"]
        assert posts == ["response", "response", "error", "response"], posts


def the_example_does_what_it_says(start):
    import tomllib
    with open(os.path.join(REPOSITORY, "examples", "provided", "example.toml"), "rb") as file:
        example = tomllib.load(file)
    with start() as runtime:
        body = runtime.invoke(json.loads(example["event"])).body.decode()
        assert example["expect"] in body, body


def main():
    tests = [answers_over_the_unix_socket, answers_over_loopback, errors_are_posted_and_the_process_stays,
             large_events_and_results_pass, the_example_does_what_it_says]
    passed = failed = skipped = 0
    with tempfile.TemporaryDirectory(prefix="kennel-provided-") as work:
        build = subprocess.run([os.path.join(REPOSITORY, "examples", "provided", "build"), work],
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
        if build.returncode:
            print("skipped: " + build.stdout.strip() if "needs " in build.stdout else build.stdout)
            skipped, failed = (len(tests), 0) if "needs " in build.stdout else (0, len(tests))
            tests = []
        else:
            with zipfile.ZipFile(os.path.join(work, "provided.zip")) as archive:
                bootstrap = archive.extract("bootstrap", os.path.join(work, "task"))
            os.chmod(bootstrap, 0o755)
        for test in tests:
            try:
                test(lambda **more: FakeRuntime([bootstrap], os.path.dirname(bootstrap), "bootstrap", **more))
                passed += 1
                print("ok: " + test.__name__)
            except Exception as error:  # a failed test must not end the others
                failed += 1
                print("FAILED: %s: %r" % (test.__name__, error))
    print("%d passed, %d failed, %d skipped" % (passed, failed, skipped))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
