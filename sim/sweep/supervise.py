"""A call in a process of its own, which may end in any way without harm to who asked.

joblib's backends cannot stop one task, and a worker of theirs that dies takes others' work with it.
So a worker of any backend only supervises: each of its threads keeps a child (``child``) in which
the calls run one after the other, and replaces it after a crash, a timeout or a lack of memory.
Nothing heavy is imported here, and calls pass through unread.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection

START_LIMIT_S = 300.0
"""For a child to start and import what it needs, on a machine that has other work."""
_CODE = "import sys; sys.path[:] = {path!r}; from {module} import serve; serve({descriptor})"
_CHILD = f"{__name__.rpartition('.')[0]}.child"

DONE, REFUSED, FAILED, NO_MEMORY = "done", "refused", "failed", "out of memory"
CRASHED, TIMED_OUT, LOST = "crashed", "timed out", "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a call ended."""

    kind: str
    """``done``, ``refused`` (a ValueError), ``failed`` (another exception), ``out of memory``,
    ``crashed``, ``timed out``, or ``lost`` with its worker."""
    value: object = None
    """Of a call that is done; else None."""
    reason: str = ""
    """Of one that is not: a sentence."""


def supervised(call: bytes, timeout_s: float | None = None) -> Outcome:
    """Run a pickled ``(function, argument)`` in this thread's child.

    Args:
        call: the function is found by its module and name, and its value is pickled.
        timeout_s: of wall clock, after which the child is killed.
    """
    child = getattr(_local, "child", None)
    if child is None or not child.alive:
        _local.child = child = _Child()
    outcome: Outcome = child.run(call, timeout_s)
    return outcome


def release() -> None:
    """End this thread's child, where there is one."""
    child = getattr(_local, "child", None)
    if child is not None and child.alive:
        child.end()


_local = threading.local()


class _Child:
    """One process, and the socket on which it is asked."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (as long as the process)
        descriptor = theirs.fileno()
        path = [entry or os.getcwd() for entry in sys.path]
        code = _CODE.format(path=path, module=_CHILD, descriptor=descriptor)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                pass_fds=[descriptor],
            )
        self._asking = Connection(ours.detach())
        self._started = False

    @property
    def alive(self) -> bool:
        """Whether it can be asked again."""
        return not self._asking.closed

    def run(self, call: bytes, timeout_s: float | None) -> Outcome:
        """Ask, and wait for the answer or the end."""
        try:
            if not self._started:
                if not self._asking.poll(START_LIMIT_S):
                    return self._ended(CRASHED, f"no process started in {START_LIMIT_S:g} s.")
                self._asking.recv()
                self._started = True
            self._asking.send_bytes(call)
            if not self._asking.poll(timeout_s):
                return self._ended(TIMED_OUT, f"it took longer than timeout(={timeout_s:g}) s.")
            kind, value = self._asking.recv()
        except (EOFError, OSError):
            return self._ended(CRASHED, "")
        if kind == DONE:
            return Outcome(kind=kind, value=value)
        if kind == NO_MEMORY:
            self._ended(kind, value)  # what it still holds may not be enough for the next one
        return Outcome(kind=kind, reason=str(value))

    def __del__(self) -> None:
        """With its thread: a worker of a backend that ends."""
        with suppress(Exception):
            if self.alive:
                self.end()

    def end(self) -> None:
        """It is not needed any more."""
        self._ended(DONE, "")

    def _ended(self, kind: str, reason: str) -> Outcome:
        """Take it away."""
        self._asking.close()
        if reason or kind != CRASHED:
            self._process.kill()
        assert self._process.stdin is not None
        self._process.stdin.close()
        code = self._process.wait()
        with self._errors:
            why = reason or self._last_words(code)
        return Outcome(kind=kind, reason=why)

    def _last_words(self, code: int) -> str:
        if code < 0:
            name = signal.Signals(-code).name
            memory = ", as the kernel does where memory runs out" if -code == signal.SIGKILL else ""
            return f"its process was ended by {name}{memory}."
        if self._started:
            return f"its process left with exit status {code}."
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines() or [""]
        return f"its process did not start: {lines[-1]}"
