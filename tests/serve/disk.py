"""A full disk: writes get a clear 5xx, nothing acknowledged is lost, and it goes on when there is room again."""

import subprocess

from botocore.exceptions import BotoCoreError, ClientError

from server import Server, create, handled, invoke, package, traces, wait_until, work_folder

SIZES = (0, 0)
SIZE_MB = 64


def fill(path):
    """Takes all the room there is."""
    with open(path, "wb", buffering=0) as file:
        for block in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(b"\0" * block)
            except OSError:
                pass


class Writes:
    """One of each kind of write, over and over; what was acknowledged, and what the others were told."""

    def __init__(self, client):
        self.client = client
        self.number = 0
        self.description = None
        self.events = set()
        self.told = {}  # kind -> answers that were no success
        self.silent = []

    def all(self):
        """One round; the kinds that were acknowledged."""
        done = set()
        for kind in ("event", "configuration", "code", "function", "alias", "tags"):
            self.number += 1
            try:
                getattr(self, kind)(self.number)
                done.add(kind)
            except ClientError as error:
                self.told.setdefault(kind, []).append(error.response)
            except BotoCoreError as error:
                self.silent.append(f"{kind}: {error}")
        return done

    def event(self, number):
        # Below the size of a page nothing fills up soon.
        self.client.invoke(FunctionName="full", InvocationType="Event",
                           Payload=f'{{"id": "e{number}", "echo": "{"x" * 60_000}"}}')
        self.events.add(f"e{number}")

    def configuration(self, number):
        description = str(number)
        self.client.update_function_configuration(FunctionName="full", Description=description)
        self.description = description

    def code(self, number):
        self.client.update_function_code(FunctionName="other", ZipFile=package("x" * 50_000 + str(number)))

    def function(self, number):
        config = self.client.get_function_configuration(FunctionName="full")
        self.client.create_function(FunctionName=f"new-{number}", Runtime=config["Runtime"], Role=config["Role"],
                                    Handler="app.handler", Code={"ZipFile": package("y" * 50_000 + str(number))})

    def alias(self, number):
        self.client.create_alias(FunctionName="full", Name=f"alias-{number}", FunctionVersion="$LATEST",
                                 Description="w" * 200)

    def tags(self, number):
        arn = "arn:aws:lambda:us-east-1:000000000000:function:full"
        self.client.tag_resource(Resource=arn, Tags={"number": f"{number} {'z' * 200}"})


def main(kennel, _size):
    with work_folder("disk") as folder:
        before = traces()
        data = folder / "data"
        data.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m,mode=755", "kennel-test", data], check=True)
        server = Server(kennel, folder, data=data)
        try:
            server.start()
            client = server.client()
            create(client, kennel, "full")
            create(client, kennel, "other")
            writes = Writes(client)
            done = writes.all()
            told = f"only {done}: {writes.told} {writes.silent}"
            yield "all writes go with room", None if len(done) == 6 else told
            writes.told.clear()

            filler = data / "filler"
            fill(filler)
            pid = server.process.pid
            # Logs and what SQLite has kept free give the first writes room still.
            for _ in range(30):
                done = writes.all()
                fill(filler)
                if not done:
                    break
            kinds = set(writes.told)
            told = f"only {kinds}; silent: {writes.silent}"
            yield "each kind of write was refused", None if len(kinds) == 6 else told
            answers = [(kind, a) for kind, all_of in writes.told.items() for a in all_of]
            vague = {f"{kind}: {a['ResponseMetadata']['HTTPStatusCode']} {a['Error']}" for kind, a in answers
                     if a["ResponseMetadata"]["HTTPStatusCode"] not in range(500, 600)
                     or "space" not in a["Error"]["Message"]}
            yield "with a 5xx that says why", "; ".join(sorted(vague)[:4]) or None
            yield "no call was cut off", "; ".join(writes.silent[:4]) or None
            yield "the server is up", None if server.process.poll() is None and server.health() else server.last_words()
            got = client.get_function_configuration(FunctionName="full")["Description"]
            yield "reads go on", None if got == writes.description else f"{got}, not {writes.description}"

            filler.unlink()
            done = wait_until("writes go again", lambda: (d := writes.all()) and len(d) == 6 and d, 30, 0.2)
            yield "writes go again with room", None if len(done) == 6 else str(done)
            _, result = invoke(client, "full", {"echo": 1})
            yield "invokes as well", None if result["echo"] == 1 else str(result)
            yield "it is the same process", None if server.process.poll() is None and pid == server.process.pid \
                else server.last_words()
            wanted = set(writes.events)
            missing = set(wanted)

            def all_handled():
                missing.clear()
                missing.update(wanted - handled(server, ["full"]))
                return not missing

            try:
                wait_until("events", all_handled, 90, 1)
            except AssertionError:
                pass
            yield "every acknowledged event was handled", \
                f"{len(missing)} of {len(wanted)}: {sorted(missing)[:5]}" if missing else None

            fill(filler)
            status = server.stop()
            yield "it ends with a full disk", None if status in (0, 1) else f"exit status {status}"
            filler.unlink()
            server.start()
            got = server.client().get_function_configuration(FunctionName="full")["Description"]
            told = f"{got}, not {writes.description}"
            yield "and starts again with all of it", None if got == writes.description else told
            status = server.stop()
            yield "a clean stop", None if status == 0 else f"exit status {status}: {server.last_words()}"
        finally:
            server.end()
            subprocess.run(["umount", "-l", data], check=False)
        yield "nothing left", server.nothing_left(before)
