"""The stop at which an image is taken of this process, and what the copies that go on from it put right.

`KENNEL_IMAGE=1` asks for it. The process has nothing open but 0, 1 and 2, one thread, and knows no function. Every copy
starts with the same memory, so whatever must differ between two processes is made anew here.
"""
import sys

from _kennel import posix

try:
    import _signal as signal
except ImportError:  # Python 2
    import signal


def stop():
    ssl = sys.modules.get("_ssl")
    if ssl:
        ssl.RAND_status()  # sets OpenSSL's generator up, which takes a millisecond; its seed comes later
    posix.closerange(3, 256)  # Python 2 keeps /dev/urandom open, and opens it again where that is closed
    posix.kill(posix.getpid(), signal.SIGSTOP)  # from here on this is a copy, in another sandbox
    put_back_signals()
    draw_anew()


def put_back_signals():
    """Does what CPython does to signals as it starts: a new program has none of that."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def draw_anew():
    """Gives each source of random numbers that has a state by now one of its own."""
    random = sys.modules.get("random")
    if random:
        random.seed()  # from the kernel
    ssl = sys.modules.get("_ssl")
    if ssl:
        ssl.RAND_add(posix.urandom(48), 48.0)
