"""A second server on the same data directory refuses to start."""

from server import Server, create, invoke, work_folder

SIZES = (0, 0)


def main(kennel, _size):
    with work_folder("second") as folder:
        first = Server(kennel, folder)
        second = Server(kennel, folder)
        second.log = folder / "second.log"
        try:
            first.start()
            client = first.client()
            create(client, kennel, "held")
            second.spawn()
            status = second.refusal()
            words = second.last_words()
            yield "it ends with an error", None if status else f"exit status {status}: {words}"
            yield "it names the data directory", None if str(first.data) in words else f"it said: {words}"
            yield "it says that another one has it", None if "another" in words or "in use" in words else words
            _, result = invoke(client, "held", {"echo": 1})
            yield "the first goes on", None if result["echo"] == 1 else str(result)
            status = first.stop()
            yield "the first ends well", None if status == 0 else f"exit status {status}: {first.last_words()}"
            first.start()
            _, result = invoke(first.client(), "held", {"echo": 2})
            yield "the directory is free again", None if result["echo"] == 2 else str(result)
        finally:
            second.end()
            first.end()
