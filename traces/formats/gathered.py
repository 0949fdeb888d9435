"""Requests of a server's own records, gathered one by one: the rows, and what was left out."""

from collections.abc import Callable

import numpy as np

from ..trace import SkippedRow
from .flaws import Flaws
from .numbers import BadValueError
from .rows import NO_TIME_NS, Rows

_NO_TIME = "has no time, and other rows have one"


class Gathered:
    """Growing columns of one file; times count from a wall clock's epoch, or from a boot."""

    def __init__(self, file: str, skipped: tuple[SkippedRow, ...] = ()) -> None:
        self.file = file
        self.flaws = Flaws(file)
        self.skipped = list(skipped)
        self.lines: list[int] = []
        self.prompt: list[int] = []
        self.output: list[int] = []
        self.time_ns: list[int] = []

    def __len__(self) -> int:
        return len(self.lines)

    def attempt(self, line: int, read: Callable[[], tuple[int, int, int]]) -> bool:
        """Take in what `read` returns: prompt, output (tokens) and start (ns) or NO_TIME_NS.

        A BadValueError of it skips the row; whether the row is there.
        """
        try:
            prompt, output, time_ns = read()
        except BadValueError as error:
            self.skip(line, str(error))
            return False
        self.lines.append(line)
        self.prompt.append(prompt)
        self.output.append(output)
        self.time_ns.append(time_ns)
        return True

    def skip(self, line: int, reason: str) -> None:
        """Leave a row out."""
        self.skipped.append(SkippedRow(file=self.file, row=line, reason=reason))

    def rows(self, notes: tuple[str, ...] = ()) -> Rows:
        """What was found: lengths only without any time, else the rows that have one."""
        times = np.array(self.time_ns, dtype=np.int64)
        timed = times != NO_TIME_NS
        kept = timed if timed.any() else np.ones(len(times), dtype=np.bool_)
        for row in np.flatnonzero(~kept).tolist():
            self.skip(self.lines[row], _NO_TIME)
        return Rows(
            file=self.file,
            lines=[self.lines[row] for row in np.flatnonzero(kept).tolist()],
            prompt_tokens=np.array(self.prompt, dtype=np.int64)[kept],
            output_tokens=np.array(self.output, dtype=np.int64)[kept],
            time_ns=times[kept] if timed.any() else None,
            rebase=True,
            skipped=tuple(sorted(self.skipped, key=lambda skip: skip.row)),
            flaws=tuple(self.flaws.found),
            notes=(*self.flaws.notes(), *notes),
        )
