"""The process in which cells run: it may crash, run out of memory or be killed, alone.

It is sent pickled ``(function, argument)`` and answers ``(kind, value)``. Its standard input is a
pipe that only its parent holds: when that ends, the parent is gone, and so is the child.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from contextlib import suppress
from importlib import import_module
from multiprocessing.connection import Connection

from .supervise import DONE, FAILED, NO_MEMORY, REFUSED


def serve(descriptor: int) -> None:
    """Answer calls until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the first process's matter
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # where memory runs out, the kernel takes the cell and not its parent
    with suppress(EOFError, OSError), Connection(descriptor) as asking:
        import_module(f"{__name__.rpartition('.')[0]}.cell")  # not on the first call's time
        asking.send("ready")
        while True:
            asking.send(answer(asking.recv_bytes()))


def answer(call: bytes) -> tuple[str, object]:
    """Run one call; what it raises is an answer, too."""
    try:
        function, argument = pickle.loads(call)
        return DONE, function(argument)
    except MemoryError:
        return NO_MEMORY, "the run asked for more memory than there is."
    except ValueError as error:
        return REFUSED, str(error)
    except Exception as error:
        return FAILED, f"{type(error).__name__}: {' '.join(str(error).split())}"


def _end_with_the_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)
