"""SIGKILL at random points under load: nothing that was acknowledged is lost, and nothing is left behind.

Four threads send asynchronous events, change functions of their own, and make and delete others. Each notes what
the server has acknowledged; a call that failed may or may not have been carried out. The server is killed after a
random while, sometimes before it is up, sometimes with its launcher first, and started again on the same data. After
each start the last acknowledged state of each thread must be there; after the last, each acknowledged event must have
been handled. A call answered by anything but a success, a 503 or a hang-up fails the test: load is no excuse.
"""

import os
import random
import sys
import threading
import time

from botocore.exceptions import BotoCoreError, ClientError

from server import Server, children_of, create, handled, package, runtime, traces, work_folder, ROLE

SIZES = (10, 200)
THREADS = 4
# How long one server lives at most.
LIFE_SECONDS = 1.5
# So that the queue is drained in a reasonable while: events a thread sends to one server.
EVENTS = 40
# The delay before a lost function's event is tried again must fit in, and so must the queue.
DRAIN_WITHOUT_PROGRESS_SECONDS = 120
FUNCTIONS = ("sink-0", "sink-1")


class Worker:
    """One thread's share of the load, and its books."""

    def __init__(self, number, kennel):
        self.number = number
        self.random = random.Random(number)
        self.runtime = runtime(kennel)
        self.function = f"updated-{number}"
        self.sent = 0
        self.events = set()  # acknowledged
        self.maybe = set()  # sent, and no answer
        # Of each thing: what was acknowledged last, and what was tried after that.
        self.last = {"description": "0", "code": None, "alias": "1"}
        self.tried = {key: [] for key in self.last}
        self.exists = {}  # name -> True, False or None for unknown
        self.refused = []

    def step(self, client):
        """One call. False once the server is gone."""
        draw = self.random.random()
        try:
            if draw < 0.6:
                self.event(client)
            elif draw < 0.75:
                self.describe(client)
            elif draw < 0.85:
                self.code(client)
            elif draw < 0.92:
                self.alias(client)
            else:
                self.make_or_delete(client)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 503:
                return False  # it drains, or is not up
            self.refused.append(str(error))
        except BotoCoreError:
            return False
        return True

    def event(self, client):
        if self.sent >= EVENTS:
            time.sleep(0.002)
            return
        self.sent += 1
        name = f"{self.number}-{len(self.events) + len(self.maybe)}"
        self.maybe.add(name)
        client.invoke(FunctionName=self.random.choice(FUNCTIONS), InvocationType="Event", Payload=f'{{"id": "{name}"}}')
        self.maybe.remove(name)
        self.events.add(name)

    def change(self, key, value, call):
        self.tried[key].append(value)
        call()
        self.last[key] = value
        self.tried[key].clear()

    def describe(self, client):
        value = str(self.random.getrandbits(60))
        self.change("description", value, lambda: client.update_function_configuration(
            FunctionName=self.function, Description=value))

    def code(self, client):
        release = self.random.getrandbits(60)
        code = package(release)
        self.change("code", sha256(code), lambda: client.update_function_code(FunctionName=self.function, ZipFile=code))

    def alias(self, client):
        value = self.random.choice(["1", "$LATEST"])
        self.change("alias", value, lambda: client.update_alias(
            FunctionName=self.function, Name="live", FunctionVersion=value))

    def make_or_delete(self, client):
        there = [name for name, exists in self.exists.items() if exists]
        if there and self.random.random() < 0.5:
            name = there[0]
            self.exists[name] = None
            client.delete_function(FunctionName=name)
            self.exists[name] = False
        else:
            name = f"made-{self.number}-{len(self.exists)}"
            self.exists[name] = None
            client.create_function(FunctionName=name, Runtime=self.runtime, Role=ROLE, Handler="app.handler",
                                   Code={"ZipFile": package(name)})
            self.exists[name] = True

    def check(self, client):
        """What of the acknowledged is not there."""
        wrong = []
        try:
            got = client.get_function_configuration(FunctionName=self.function)
            alias = client.get_alias(FunctionName=self.function, Name="live")["FunctionVersion"]
        except client.exceptions.ResourceNotFoundException as error:
            return [str(error)]
        seen = {"description": got["Description"], "code": got["CodeSha256"], "alias": alias}
        for key, value in seen.items():
            if value not in [self.last[key], *self.tried[key]]:
                wrong.append(f"{self.function} {key}: {value}, acknowledged {self.last[key]}")
            # From here on it is what it is.
            self.last[key] = value
            self.tried[key].clear()
        for name, exists in self.exists.items():
            try:
                client.get_function_configuration(FunctionName=name)
                found = True
            except client.exceptions.ResourceNotFoundException:
                found = False
            if exists is not None and found != exists:
                wrong.append(f"{name}: {'there' if found else 'not there'}, acknowledged otherwise")
            self.exists[name] = found
        # Those that are gone for good have been looked for.
        gone = [name for name, exists in self.exists.items() if exists is False]
        for name in gone[:-5]:
            self.exists[name] = False
        return wrong


def sha256(code):
    import base64
    import hashlib
    return base64.b64encode(hashlib.sha256(code).digest()).decode()


def load(workers, client, stop):
    def go(worker):
        worker.sent = 0
        while not stop.is_set() and worker.step(client):
            pass
    threads = [threading.Thread(target=go, args=(w,)) for w in workers]
    for thread in threads:
        thread.start()
    return threads


def main(kennel, size):
    seed = int(os.environ.get("KENNEL_CRASH_SEED") or random.getrandbits(32))
    chance = random.Random(seed)
    print(f"crash: KENNEL_CRASH_SEED={seed} repeats its draws", flush=True)
    with work_folder("crash") as folder:
        before = traces()
        server = Server(kennel, folder)
        workers = [Worker(n, kennel) for n in range(THREADS)]
        try:
            server.start()
            client = server.client()
            for name in FUNCTIONS:
                create(client, kennel, name)
            for worker in workers:
                made = create(client, kennel, worker.function, Description="0")
                worker.last["code"] = made["CodeSha256"]
                client.publish_version(FunctionName=worker.function)
                client.create_alias(FunctionName=worker.function, Name="live", FunctionVersion="1")
            lost, starts, kills = [], [], {"serving": 0, "starting": 0, "launcher": 0}
            for number in range(size):
                stop = threading.Event()
                threads = load(workers, client, stop)
                time.sleep(chance.uniform(0, LIFE_SECONDS))
                if chance.random() < 0.1 and (launcher := children_of(server.process.pid)):
                    # Without its launcher a server cannot go on; it may take a moment to see that.
                    kills["launcher"] += 1
                    os.kill(launcher[0], 9)
                    time.sleep(chance.uniform(0, 0.2))
                kills["serving"] += 1
                server.kill()
                stop.set()
                for thread in threads:
                    thread.join(60)
                if chance.random() < 0.2:
                    kills["starting"] += 1
                    server.spawn()
                    time.sleep(chance.uniform(0, 0.4))
                    server.kill()
                began = time.monotonic()
                server.start()
                starts.append(time.monotonic() - began)
                client = server.client()
                for worker in workers:
                    lost += [f"after crash {number + 1}: {wrong}" for wrong in worker.check(client)]
                if number % 10 == 9:
                    print(f"crash: {number + 1} of {size}, {sum(len(w.events) for w in workers)} events", flush=True)
                if len(lost) > 20:
                    break
            events = set().union(*(w.events for w in workers))
            maybe = set().union(*(w.maybe for w in workers))
            refused = [r for w in workers for r in w.refused]
            print(f"crash: {kills}, {len(events)} events acknowledged, {len(maybe)} unknown; restarts took "
                  f"{sorted(starts)[len(starts) // 2]:.2f} s, at most {max(starts):.2f} s", flush=True)
            yield f"the store opened after each of {sum(kills.values())} kills", None
            yield "every acknowledged change is there", "; ".join(lost[:5]) or None
            yield "no call was refused", f"{len(refused)}: {'; '.join(refused[:3])}" if refused else None
            yield "there was a load", None if len(events) >= size * 5 else f"{len(events)} events alone"
            yield "every acknowledged event was handled", drained(server, events)
            status = server.stop()
            yield "a clean stop", None if status == 0 else f"exit status {status}: {server.last_words()}"
            yield "nothing left", server.nothing_left(before)
        finally:
            server.end()
            if sys.exc_info()[0]:
                print(server.last_words(), flush=True)


def drained(server, events):
    missing, since = events, time.monotonic()
    while missing:
        now = events - handled(server, FUNCTIONS)
        if len(now) < len(missing):
            since = time.monotonic()
        missing = now
        if time.monotonic() - since > DRAIN_WITHOUT_PROGRESS_SECONDS:
            return f"{len(missing)} of {len(events)} not handled, such as {sorted(missing)[:5]}"
        if missing:
            time.sleep(1)
    return None
