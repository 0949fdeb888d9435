"""Which request waits for which, once the rows of all files are in order.

A row's parent is named by its row in the file, by its key, or it is the latest row of its session.
A skipped row hands its followers on to the row that it would have followed itself.

Replay of sessions:
- closed: a row with a parent and a recorded delay starts that long after the parent has *ended* in
  the simulation, however long that takes there;
- open: every row starts at its recorded time, whatever became of the rows before it.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .columns import Floats, Ints
from .formats.flaws import counted
from .formats.numbers import shown
from .formats.rows import NO_TIME_NS, Rows
from .trace import SkippedRow

Names = list[Hashable | None]
REPLAYS = ("auto", "closed", "open")


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """Parent rows (n,) and the delays of those that follow them; None = no row has any.

    `flaws` are links to rows that are missing or come later, by number of the file.
    """

    parent: Ints | None
    delay_s: Floats | None
    flaws: list[tuple[int, SkippedRow]]
    notes: list[str]


def check_replay(replay: str) -> None:
    """Raise ValueError for an unknown way to replay sessions."""
    if replay not in REPLAYS:
        raise ValueError(f"session_replay(={replay}) must be one of {', '.join(REPLAYS)}.")


def check_times(parts: Sequence[Rows], time_ns: Ints | None, replay: str) -> None:
    """Raise ValueError where open replay lacks a recorded time."""
    if replay != "open":
        return
    start = 0
    for part in parts:
        without = range(len(part)) if time_ns is None else _without_time(time_ns, start, part)
        if len(without):
            raise ValueError(
                f"session_replay(=open) needs a recorded time in every row, and "
                f"{part.file} row {part.lines[without[0]]} has none."
            )
        start += len(part)


def scoped(parts: Sequence[Rows], field: str, kind: str) -> Names | None:
    """Names of all files, distinct between files and kinds; None where no file has any."""
    if all(getattr(part, field) is None for part in parts):
        return None
    names: Names = []
    for index, part in enumerate(parts):
        column = getattr(part, field) or [None] * len(part)
        names += [None if name is None else (index, kind, name) for name in column]
    return names


def link_rows(
    parts: Sequence[Rows], order: Ints, time_ns: Ints | None, given_s: Floats, replay: str
) -> Links:
    """Links of the rows `order` (old row numbers); `given_s` (n,) their recorded delays.

    Raises ValueError where closed replay is asked for and no row has a parent and a delay.
    """
    finder = _Finder(parts)
    parent = finder.parents(order)
    if (parent < 0).all():
        _refuse_closed(parts, replay)
        return Links(parent=None, delay_s=None, flaws=finder.flaws, notes=finder.notes())
    closed = np.repeat([part.closed for part in parts], [len(part) for part in parts])[order]
    untimed = np.ones(len(order), np.bool_) if time_ns is None else time_ns[order] == NO_TIME_NS
    if replay != "auto":
        closed[:] = replay == "closed"
    follows = (parent >= 0) & (untimed | (closed & ~np.isnan(given_s)))
    if not follows.any():
        _refuse_closed(parts, replay)
    delay_s = np.where(follows, np.where(np.isnan(given_s), 0.0, given_s), np.nan)
    return Links(
        parent=parent,
        delay_s=delay_s if follows.any() else None,
        flaws=finder.flaws,
        notes=finder.notes(),
    )


def _without_time(time_ns: Ints, start: int, part: Rows) -> Sequence[int]:
    own = time_ns[start : start + len(part)]
    rows: Sequence[int] = np.flatnonzero(own == NO_TIME_NS).tolist()
    return rows


def _refuse_closed(parts: Sequence[Rows], replay: str) -> None:
    if replay == "closed":
        raise ValueError(
            f"session_replay(=closed) needs delays between turns, and {parts[0].file} has none."
        )


class _Finder:
    """Looks up parents, and remembers the links that lead nowhere."""

    def __init__(self, parts: Sequence[Rows]) -> None:
        self.parts = parts
        self.flaws: list[tuple[int, SkippedRow]] = []
        self._sessions = scoped(parts, "session", "session")
        self._keys = scoped(parts, "key", "key")
        self._parent_keys = scoped(parts, "parent_key", "key")
        self._parent_of: Mapping[Hashable, Hashable | None] | None = None  # made when asked for
        self._lost: dict[Hashable, Hashable] = {}
        for index, part in enumerate(parts):
            for key, link in part.lost_keys.items():
                self._lost[index, "key", key] = (index, "key", link)

    def parents(self, order: Ints) -> Ints:
        """(n,) parent of each row, as places in `order`; -1 = none."""
        parent = np.full(len(order), -1, dtype=np.int64)
        if self._sessions or self._parent_keys:
            self._by_name(order, parent)
        if any(part.parent_row is not None for part in self.parts):
            self._by_row(order, parent)
        return parent

    def notes(self) -> list[str]:
        """One sentence per file with links that lead nowhere."""
        notes = []
        for index, part in enumerate(self.parts):
            lines = [flaw.row for where, flaw in self.flaws if where == index]
            if lines:
                kind = f"{part.parent_field} that names no earlier row counts as none"
                notes.append(f"{part.file}: {counted(kind, lines)}.")
        return notes

    def _by_name(self, order: Ints, parent: Ints) -> None:
        latest: dict[Hashable, int] = {}
        for new, old in enumerate(order.tolist()):
            session = self._sessions[old] if self._sessions else None
            link = self._parent_keys[old] if self._parent_keys else None
            found = None if link is None else self._resolve(link, latest)
            if link is not None and found is None and link not in self._lost:
                self._flaw(old, link)
            parent[new] = latest.get(session, -1) if found is None else found
            for name in (session, self._keys[old] if self._keys else None):
                if name is not None:
                    latest[name] = new

    def _by_row(self, order: Ints, parent: Ints) -> None:
        """Links that a reader has made itself: rows of its own file."""
        columns, start = [], 0
        for part in self.parts:
            rows = np.full(len(part), -1) if part.parent_row is None else part.parent_row
            columns.append(np.where(rows < 0, -1, rows + start))
            start += len(part)
        place = np.full(start + 1, -1, dtype=np.int64)  # the last entry answers -1
        place[order] = np.arange(len(order))
        linked = place[np.concatenate(columns)[order]]
        known = (linked >= 0) & (linked < np.arange(len(order)))
        parent[known] = linked[known]

    def _resolve(self, link: Hashable, latest: Mapping[Hashable, int]) -> int | None:
        """The row that a link means, past skipped rows."""
        for _ in range(len(self._lost) + 1):
            if link in latest or link not in self._lost:
                break
            link = self._lost[link]
        return latest.get(link)

    def _flaw(self, old: int, link: Hashable) -> None:
        index, line = self._origin(old)
        part = self.parts[index]
        assert isinstance(link, tuple), "scoped() has made it"
        reason = f"{part.parent_field}(={shown(link[2])}) {self._why(old, link)}"
        self.flaws.append((index, SkippedRow(file=part.file, row=line, reason=reason)))

    def _why(self, old: int, link: Hashable) -> str:
        """Whether a link that no earlier row answers is missing, later, or part of a cycle."""
        if self._parent_of is None:
            pairs = zip(self._keys or [], self._parent_keys or [], strict=False)
            self._parent_of = {key: parent for key, parent in pairs if key is not None}
        if link not in self._parent_of:
            return "names no row of the file"
        own, above, seen = (self._keys or [])[old], link, set()
        while above is not None and above not in seen:
            if above == own:
                return "leads back to the row itself: a cycle of parents"
            seen.add(above)
            above = self._parent_of.get(above)
        return "names a row that comes later"

    def _origin(self, old: int) -> tuple[int, int]:
        """File number and line of a row."""
        for index, part in enumerate(self.parts):
            if old < len(part):
                return index, part.lines[old]
            old -= len(part)
        raise AssertionError("the row is one of the parts'")


def origins(parts: Sequence[Rows]) -> list[tuple[int, str, int]]:
    """File number, file and line of every row."""
    return [(index, part.file, line) for index, part in enumerate(parts) for line in part.lines]


def gathered(parts: Sequence[Rows], field: str, fill: Any) -> Any:
    """One column over all files, `fill` where a file has none."""
    dtype = np.float64 if fill != fill else np.int64
    return np.concatenate(
        [
            np.full(len(part), fill, dtype=dtype)
            if getattr(part, field) is None
            else getattr(part, field)
            for part in parts
        ]
    )
