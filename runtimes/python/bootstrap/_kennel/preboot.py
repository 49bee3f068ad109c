"""The start ahead of time: all that a start can do before there is a function, then the wait for one.

`KENNEL_PREBOOT=1` asks for it. The process asks the Runtime API for `claim` once; the answer, whenever it comes, holds
the environment of the function whose process this one is from then on, and the start goes on as any other.
"""
import gc
import sys

import _kennel
from _kennel import TEXT_ENVIRONMENT, posix, unmarshal

# What AWS's own runtime client has imported before it looks at the handler: a package cannot bring its own there either.
ALWAYS = """abc codecs collections contextlib copyreg decimal enum functools importlib io json linecache logging math
    numbers operator os re reprlib stat string textwrap threading time tokenize traceback types warnings
    weakref""".split()
# What many handlers import. A package may bring its own (`typing`, `dataclasses`): then all of these are let go again.
OFTEN = """base64 copy dataclasses datetime hashlib http.client random socket ssl typing urllib.parse urllib.request
    uuid""".split()


def claim():
    """Waits for a function and makes this process its own: environment, time zone, working directory."""
    _kennel.read_settings()
    from _kennel import logs, seldom  # noqa: F401, they are what may be needed later
    preload(ALWAYS)
    often = [] if _kennel.JYTHON else preload(OFTEN)
    gc.collect()
    if hasattr(gc, "freeze"):
        gc.freeze()  # no later collection looks at what is here by now
    if _kennel.variable("KENNEL_IMAGE") == "1":
        from _kennel import snapshot
        snapshot.stop()
    status, _, body = _kennel.call(b"GET /kennel/claim HTTP/1.1\r\nHost: %s\r\n\r\n" % _kennel.host)
    if status != 200:
        raise SystemExit("The Runtime API answered %d to `claim`" % status)
    variables = unmarshal(body)["env"]
    if _kennel.api_socket:
        variables.setdefault("KENNEL_RUNTIME_API_SOCKET", _kennel.api_socket)
    if _kennel.variable("LC_CTYPE"):  # CPython's own doing, where the host lacks the locale of LANG
        variables.setdefault("LC_CTYPE", _kennel.variable("LC_CTYPE"))
    replace_environment(variables)
    task_root = _kennel.variable("LAMBDA_TASK_ROOT", "/var/task")
    sys.modules["os"].chdir(task_root)  # by its path: what this process stands in may lie below the function's mount
    if often:
        _kennel.read_settings()  # the layers' names hold the function's version
        let_go(often, [task_root] + _kennel.variable("PYTHONPATH", "").split(":") + _kennel.layer_folders())


def preload(names):
    """Imports what there is of `names`; gives the names of all modules that came with it."""
    before = set(sys.modules)
    for name in names:
        try:
            __import__(name)
        except ImportError:  # not in this version, or built without a library
            pass
    return [name for name in sys.modules if name not in before]


def let_go(names, folders):
    """Forgets preloaded modules if one of them is in `folders` too, where the handler would have found it first."""
    tops = set(name.partition(".")[0] for name in names)
    for folder in folders:
        try:
            found = posix.listdir(folder) if folder else []
        except OSError:
            continue
        if not tops.isdisjoint(name.partition(".")[0] for name in found):
            for name in names:
                file = getattr(sys.modules[name], "__file__", None) or ""
                if file.endswith((".py", ".pyc")):  # modules in C may bear no second start
                    del sys.modules[name]
            return


def replace_environment(variables):
    """Makes `variables` the whole environment: of os.environ, of child processes and of C code."""
    import os
    import time
    wanted = dict((name.encode("utf-8"), value.encode("utf-8")) for name, value in variables.items())
    environ = os.environ if TEXT_ENVIRONMENT else os.environb
    environ.clear()
    environ.update(wanted)
    if posix is not os and posix.environ != wanted:  # Python 2's os.environ is a copy
        posix.environ.clear()
        posix.environ.update(wanted)
    if hasattr(time, "tzset"):
        time.tzset()
    elif _kennel.JYTHON:
        from java.util import TimeZone
        zone = TimeZone.getTimeZone(variables.get("TZ", "UTC").lstrip(":"))
        TimeZone.setDefault(zone)
        # What the module worked out as it was loaded.
        time.timezone = -zone.getRawOffset() // 1000
        time.altzone = time.timezone - zone.getDSTSavings() // 1000
        time.daylight = int(zone.useDaylightTime())
        time.tzname = tuple(str(zone.getDisplayName(summer, TimeZone.SHORT)) for summer in (False, True))
