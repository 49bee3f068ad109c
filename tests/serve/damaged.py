"""A damaged store: the server refuses to start, says what and where, and touches nothing."""

import hashlib
import os
import random
import shutil

from server import Server, create, invoke, work_folder

SIZES = (0, 0)


def overwrite(path, start, length):
    with open(path, "r+b") as file:
        file.seek(start)
        file.write(random.Random(1).randbytes(length))


def header(path):
    overwrite(path, 0, 100)


def pages(path):
    """All after the first page, where the tables are."""
    overwrite(path, 4096, path.stat().st_size - 4096)


def half(path):
    os.truncate(path, path.stat().st_size // 2 // 4096 * 4096)


def other(path):
    path.write_bytes(b"this is no store\n" * 1000)


DAMAGES = {"its header": header, "its pages": pages, "its second half missing": half, "another file": other}


def digest(folder):
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in sorted(folder.glob("kennel.db*"))}


def put_back(whole, data):
    """The store as it was, its owner's as the directory is."""
    for file in data.glob("kennel.db*"):
        file.unlink()
    for file in whole.glob("kennel.db*"):
        shutil.copy2(file, data / file.name)
        os.chown(data / file.name, data.stat().st_uid, data.stat().st_gid)


def main(kennel, _size):
    with work_folder("damaged") as folder:
        server = Server(kennel, folder)
        try:
            server.start()
            client = server.client()
            for number in range(20):
                create(client, kennel, f"kept-{number}", Description="x" * 200)
            status = server.stop()
            yield "a clean stop", None if status == 0 else f"exit status {status}: {server.last_words()}"
            whole = folder / "whole"
            shutil.copytree(server.data, whole, symlinks=True)
            for name, damage in DAMAGES.items():
                put_back(whole, server.data)
                damage(server.data / "kennel.db")
                before = digest(server.data)
                server.log = folder / f"{damage.__name__}.log"
                server.spawn()
                status = server.refusal()
                words = server.last_words()
                yield f"{name}: refused", None if status else f"exit status {status}: {words}"
                path = str(server.data / "kennel.db")
                yield f"{name}: names the file", None if path in words else f"it said: {words}"
                after = digest(server.data)
                yield f"{name}: untouched", None if after == before else f"{before} became {after}"
            put_back(whole, server.data)
            server.start()
            _, result = invoke(server.client(), "kept-7", {"echo": 7})
            yield "the whole one serves again", None if result["echo"] == 7 else str(result)
        finally:
            server.end()
