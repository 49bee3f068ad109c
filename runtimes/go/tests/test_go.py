"""Go programs as `go1.x` functions, by both of their doors: the Runtime API and net/rpc.

The peer for net/rpc is Go's own client (the folder `rpcclient`), so that this shows what Kennel has to
speak, independently of Kennel.
"""

import json
import os
import subprocess
import sys
import tempfile
import zipfile

HERE = os.path.dirname(os.path.realpath(__file__))
REPOSITORY = os.path.realpath(os.path.join(HERE, "..", "..", ".."))
sys.path.insert(0, os.path.join(REPOSITORY, "runtimes", "testkit"))
from fake_runtime_api import FakeRuntime  # noqa: E402

EXAMPLE = {"markdown": "# Kennel\n\nRuns *handlers*."}
HEADINGS = [{"level": 1, "text": "Kennel", "id": "kennel"}]


def build(folder, work):
    """Runs a package's `build` and returns the program in it."""
    subprocess.run([os.path.join(REPOSITORY, folder, "build"), work], check=True)
    name = os.path.basename(folder)
    with zipfile.ZipFile(os.path.join(work, name + ".zip")) as archive:
        program = archive.extract("main", os.path.join(work, name))
    os.chmod(program, 0o755)
    return program


def call(client, program, *payloads):
    """Starts the program with the net/rpc door, sends each payload, returns what it answered."""
    run = subprocess.run([client, program] + list(payloads), stdout=subprocess.PIPE, timeout=60, check=True)
    return [json.loads(line) for line in run.stdout.decode().splitlines()]


def the_example_answers_over_the_runtime_api(programs):
    program = programs["example"]
    with FakeRuntime([program], os.path.dirname(program), "main") as runtime:
        answer = runtime.invoke(EXAMPLE)
        assert answer.kind == "response" and answer.json()["headings"] == HEADINGS, answer
        assert "<em>handlers</em>" in answer.json()["html"], answer
        answer = runtime.invoke({})
        assert answer.kind == "error", answer
        assert answer.json() == {"errorMessage": "the event has no markdown", "errorType": "errorString"}, answer


def the_example_answers_over_rpc(programs):
    good, bad = call(programs["client"], programs["example"], json.dumps(EXAMPLE), "{}")
    assert good["Error"] is None and good["Payload"]["headings"] == HEADINGS, good
    assert bad["Error"]["Message"] == "the event has no markdown", bad
    assert not bad["Error"]["ShouldExit"], bad


def an_old_program_answers_over_rpc(programs):
    good, bad, panicked = call(programs["client"], programs["old"],
                               '{"name":"Ada"}', '{"fail":"refused"}', '{"panic":"overboard"}')
    payload = good["Payload"]
    assert (payload["hello"], payload["client"]) == ("Ada", "go-rpc"), good
    assert payload["request_id"] == "8476a536-e9f4-11e8-9739-2dfe598c3fcd", good
    assert payload["deadline_ms"] == 4000000000250, good
    assert (bad["Error"]["Message"], bad["Error"]["Type"]) == ("refused", "errorString"), bad
    assert panicked["Error"]["ShouldExit"] and panicked["Error"]["Message"] == "overboard", panicked
    assert any(frame["path"].endswith("main.go") for frame in panicked["Error"]["StackTrace"]), panicked


def main():
    tests = [the_example_answers_over_the_runtime_api, the_example_answers_over_rpc, an_old_program_answers_over_rpc]
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="kennel-go-") as work:
        client = os.path.join(work, "rpcclient")
        subprocess.run(["go", "build", "-buildvcs=false", "-o", client, "."], cwd=os.path.join(HERE, "rpcclient"),
                       env=dict(os.environ, CGO_ENABLED="0"), check=True)
        programs = {"client": client, "example": build("examples/go", work), "old": build("tests/clients/go-rpc", work)}
        for test in tests:
            try:
                test(programs)
                passed += 1
                print("ok: " + test.__name__)
            except Exception as error:  # a failed test must not end the others
                failed += 1
                print("FAILED: %s: %r" % (test.__name__, error))
    print("%d passed, %d failed, 0 skipped" % (passed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
