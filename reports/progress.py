"""A progress bar on standard error: only on a terminal, and only for what takes its time."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_PATIENCE_S = 0.7
_MEMORY_S = 3600.0
"""Over which the time that is left is guessed: parts may take minutes each."""


class ProgressBar:
    """Shows ``report(title, done, total)``; a context manager."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._on = sys.stderr.isatty() and not quiet
        self._begin_s = time.monotonic()
        self._tasks: dict[str, object] = {}
        self._progress: Progress | None = None

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Take it away, and draw nothing until something else is reported."""
        if self._progress is not None:
            self._progress.stop()
        self._progress, self._tasks = None, {}

    def report(self, title: str, done: int, total: int) -> None:
        """So much of what the title names is done."""
        if not self._on or time.monotonic() - self._begin_s < _PATIENCE_S:
            return
        if self._progress is None:
            self._progress = _start()
        if title not in self._tasks:
            self._tasks[title] = self._progress.add_task(title, total=total)
        self._progress.update(self._tasks[title], completed=done)  # type: ignore[arg-type]


def _start() -> Progress:
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        speed_estimate_period=_MEMORY_S,
    )
    progress.start()
    return progress
