"""SIGTERM with invocations running: all are answered, and the exit status is 0 within ten seconds."""

import threading
import time

from server import Server, create, handled, invoke, traces, wait_until, work_folder

SIZES = (20, 20)
SLEEP_SECONDS = 4
LIMIT_SECONDS = 10


def main(kennel, size):
    with work_folder("drain") as folder:
        before = traces()
        server = Server(kennel, folder)
        try:
            server.start()
            client = server.client(connections=size + 8)
            create(client, kennel, "slow")
            create(client, kennel, "queued")
            # Warm ones first, so that all of them run within a moment.
            results, errors = [None] * size, []

            def call(number, seconds):
                try:
                    event = {"echo": number, "id": f"{seconds}-{number}", "sleep": seconds}
                    results[number] = invoke(client, "slow", event)[1]
                except Exception as error:  # an answer that is missing is what is looked for
                    errors.append(f"{number}: {error}")

            def all_at_once(seconds):
                threads = [threading.Thread(target=call, args=(n, seconds)) for n in range(size)]
                for thread in threads:
                    thread.start()
                return threads

            for thread in all_at_once(1):
                thread.join(60)
            yield f"{size} at once", None if not errors else "; ".join(errors[:5])
            results = [None] * size
            threads = all_at_once(SLEEP_SECONDS)
            time.sleep(1.5)
            # Accepted, so not to be lost by the end of the server either.
            for number in range(5):
                client.invoke(FunctionName="queued", InvocationType="Event", Payload=f'{{"id": "queued-{number}"}}')
            began = time.monotonic()
            try:
                status = server.stop(60)
            except Exception as error:
                status = str(error)
            took = time.monotonic() - began
            for thread in threads:
                thread.join(30)
            answered = [n for n, r in enumerate(results) if r and r["echo"] == n]
            lost = f"{len(answered)} of {size}; {'; '.join(errors[:5])}"
            yield "all answered", None if len(answered) == size and not errors else lost
            yield "exit status 0", None if status == 0 else f"{status}: {server.last_words()}"
            yield f"within {LIMIT_SECONDS} s", None if took <= LIMIT_SECONDS else f"{took:.1f} s"
            yield "nothing left", server.nothing_left(before)
            server.start()
            wanted = {f"queued-{n}" for n in range(5)}
            wait_until("events of before are handled", lambda: handled(server, ["queued"]) >= wanted, 60, 0.5)
            yield "queued events are handled after the restart at the latest", None
        finally:
            server.end()
