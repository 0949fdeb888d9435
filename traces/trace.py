"""`Trace`: what arrives at the server, as columns.

A row is one request. Its start is known in one of three ways:
- `arrival_s` finite: at that time;
- `arrival_s` NaN: `delay_s` after the request `parent` has ended (a later turn of a session);
- `arrival_s` None for the whole trace: lengths only, somebody else supplies the arrivals.

Prefix chains: `hash_ids` of row i name its prompt's blocks of `hash_block_size` tokens in order,
each id standing for that block and everything before it. A chain may be shorter than the prompt:
it is then the part that is known. A last, partial block may have an id (ceil) or none (floor).

Prefix links say the same to the token, for formats without ids of one block size: the first
`prefix_tokens` tokens of a row's prompt are the first tokens of row `prefix_row`'s sequence, which
is its prompt and then its output.
"""

import hashlib
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .checks import DTYPES, check_trace
from .columns import (
    Floats,
    Ids,
    Ints,
    inherited_start_s,
    read_only,
    relink,
    session_numbers,
    take_chains,
    whole_ns,
)
from .prefix_links import relink_prefixes

# columns that say nothing when every entry has this value; they then leave the digest alone
_NEUTRAL = {
    "parent": -1,
    "num_samples": 1,
    "beam_width": 0,
    "priority": 0,
    "tenant": 0,
    "prefix_tokens": 0,
}
_RELINKED = ("hash_ids", "hash_offsets", "parent", "prefix_row", "prefix_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedRow:
    """A row that could not be read: `file` base name, `row` line number from 1, `reason`."""

    file: str
    row: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file} row {self.row}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trace:
    """Requests in order of arrival, as read-only columns of length n.

    Raises ValueError, naming the field, for a wrong shape or dtype, a length < 1, times out of
    order, a parent or prefix row that does not come before its row, a chain or shared prefix longer
    than its prompt, or a cancellation that is not after the arrival.
    """

    name: str
    prompt_tokens: Ints
    output_tokens: Ints
    arrival_s: Floats | None
    hash_ids: Ids | None = None  # flat
    hash_offsets: Ints | None = None  # (n+1,)
    hash_block_size: int | None = None  # tokens
    parent: Ints | None = None  # row of the previous turn, -1 = none
    delay_s: Floats | None = None  # pause after the parent's end, NaN = starts at arrival_s
    num_samples: Ints | None = None
    beam_width: Ints | None = None  # 0 = no beam search
    priority: Ints | None = None  # smaller = more urgent
    tenant: Ints | None = None  # on whose behalf, from 0
    cancel_s: Floats | None = None  # the client gives up so long after arrival, NaN = never
    prefix_row: Ints | None = None  # earlier row whose sequence the prompt begins with, -1 = none
    prefix_tokens: Ints | None = None  # how many tokens of it
    skipped: tuple[SkippedRow, ...] = ()
    notes: tuple[str, ...] = ()
    num_out_of_order: int = 0  # rows that were earlier than the row before them in the file

    def __post_init__(self) -> None:
        for name in DTYPES:
            column = getattr(self, name)
            if column is not None:
                object.__setattr__(self, name, read_only(np.asarray(column)))
        check_trace(self)

    def __len__(self) -> int:
        return len(self.prompt_tokens)

    @property
    def num_requests(self) -> int:
        return len(self.prompt_tokens)

    @property
    def follows_parent(self) -> NDArray[np.bool_]:
        """(n,) True where a row starts `delay_s` after its parent has ended."""
        if self.delay_s is None:
            return np.zeros(len(self), dtype=np.bool_)
        return ~np.isnan(self.delay_s)

    @property
    def num_roots(self) -> int:
        """Rows that need an arrival time of their own: all but those that follow a parent."""
        return int(len(self) - self.follows_parent.sum())

    @property
    def num_sessions(self) -> int:
        """Rows without a parent: each begins a session, if only of itself."""
        return len(self) if self.parent is None else int((self.parent < 0).sum())

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the columns; name, notes and skipped rows do not enter."""
        sha = hashlib.sha256()
        for name in DTYPES:
            column = getattr(self, name)
            if column is None or _says_nothing(name, column, self):
                continue
            little = np.ascontiguousarray(column, dtype=column.dtype.newbyteorder("<"))
            sha.update(f"{name}:{len(column)};".encode())
            sha.update(little.tobytes())
        if self.hash_ids is not None and len(self.hash_ids):
            sha.update(f"hash_block_size:{self.hash_block_size}".encode())
        return sha.hexdigest()

    def hash_chain(self, row: int) -> Ids:
        """The known prefix-block ids of one request, empty where the trace has none."""
        if self.hash_ids is None or self.hash_offsets is None:
            return np.empty(0, dtype=np.uint64)
        return self.hash_ids[self.hash_offsets[row] : self.hash_offsets[row + 1]]

    def with_name(self, name: str) -> "Trace":
        return replace(self, name=name)

    def head(self, max_requests: int) -> "Trace":
        """The first `max_requests` rows (all, where there are fewer)."""
        if max_requests < 1:
            raise ValueError(f"max_requests(={max_requests}) must be > 0.")
        return self.take(np.arange(min(max_requests, len(self)), dtype=np.int64))

    def window(self, start_s: float = 0.0, end_s: float = math.inf) -> "Trace":
        """Requests with start_s <= arrival < end_s; `start_s` becomes time 0.

        A row that follows a parent goes with it; a timed row whose parent falls out is a root.
        Raises ValueError where nothing is left or the trace has no times.
        """
        if self.arrival_s is None:
            raise ValueError(f"trace {self.name!r} has no arrival times: window needs them.")
        if not start_s < end_s:
            raise ValueError(f"window end_s(={end_s}) must be > start_s(={start_s}).")
        starts_s = inherited_start_s(self.arrival_s, self.parent)
        rows = np.flatnonzero((starts_s >= start_s) & (starts_s < end_s)).astype(np.int64)
        if len(rows) == 0:
            span = f"start_s(={start_s}), end_s(={end_s})"
            raise ValueError(f"window {span} of trace {self.name!r} holds no requests.")
        return self.take(rows)._with_times(whole_ns(self.arrival_s[rows] - start_s))

    def speedup(self, ratio: float) -> "Trace":
        """Arrivals `ratio` times as dense (2.0 = twice as soon); delays within sessions stay."""
        if not (ratio > 0 and math.isfinite(ratio)):
            raise ValueError(f"arrival_speedup_ratio(={ratio}) must be > 0.")
        if self.arrival_s is None:
            raise ValueError(f"trace {self.name!r} has no arrival times: speedup needs them.")
        return self._with_times(whole_ns(self.arrival_s / ratio))

    def with_arrivals(self, arrival_s: ArrayLike) -> "Trace":
        """The same requests at these times (s, ascending): one per row, or one per root.

        Rows that follow a parent keep doing so; a time given for one of them is ignored.
        """
        times = np.asarray(arrival_s, dtype=np.float64)
        follows = self.follows_parent
        if times.shape not in ((len(self),), (self.num_roots,)):
            raise ValueError(f"arrival_s.shape(={times.shape}) must be ({self.num_roots},).")
        column = np.full(len(self), np.nan)
        column[~follows] = times if len(times) == self.num_roots else times[~follows]
        return self._with_times(column)

    def with_session_starts(self, start_s: ArrayLike) -> "Trace":
        """The same sessions begun at these times (s), in the order of their first rows.

        Each session's other rows keep their distance to its first; rows are sorted by time, then
        session. Raises ValueError for a wrong number of times, a trace without times, or prefix
        links that would then point forwards.
        """
        starts = np.asarray(start_s, dtype=np.float64)
        if starts.shape != (self.num_sessions,):
            raise ValueError(f"start_s.shape(={starts.shape}) must be ({self.num_sessions},).")
        if self.arrival_s is None:
            raise ValueError(f"trace {self.name!r} has no arrival times: sessions need them.")
        session = session_numbers(self.parent, len(self))
        first_s = self.arrival_s[np.unique(session, return_index=True)[1]]
        shift_s = (starts - first_s)[session]
        place_s = inherited_start_s(self.arrival_s, self.parent) + shift_s
        order = np.lexsort((np.arange(len(self)), session, whole_ns(place_s)))
        return self._reordered(order.astype(np.int64))._with_times(
            whole_ns((self.arrival_s + shift_s)[order])
        )

    def backlog(self) -> "Trace":
        """Everything is there at time 0; later turns still wait for their parents."""
        return self.with_arrivals(np.zeros(self.num_roots))

    def _with_times(self, arrival_s: Floats) -> "Trace":
        return replace(self, arrival_s=arrival_s)

    def take(self, rows: Ints) -> "Trace":
        """The given rows (ascending); a row whose parent is not among them becomes a root.

        Rows that began like a dropped row still begin like one another.
        """
        columns = self._columns_of(rows)
        if self.parent is not None:
            columns["parent"] = relink(self.parent, rows)
        if self.prefix_row is not None and self.prefix_tokens is not None:
            links = relink_prefixes(self.prefix_row, self.prefix_tokens, rows)
            columns["prefix_row"], columns["prefix_tokens"] = links
        return replace(self, **columns)

    def _reordered(self, order: Ints) -> "Trace":
        """All rows in another order, without times."""
        columns = self._columns_of(order)
        for name in ("parent", "prefix_row"):
            if (column := getattr(self, name)) is not None:
                columns[name] = relink(column, order)
        if self.prefix_row is not None and (columns["prefix_row"] >= np.arange(len(self))).any():
            raise ValueError(
                f"trace {self.name!r} shares prefixes between sessions: they keep their order."
            )
        columns["prefix_tokens"] = None if self.prefix_tokens is None else self.prefix_tokens[order]
        return replace(self, **{**columns, "arrival_s": None})

    def _columns_of(self, rows: Ints) -> dict[str, Any]:
        """The columns of these rows, but for those that name other rows."""
        columns: dict[str, Any] = {
            name: getattr(self, name)[rows]
            for name in DTYPES
            if name not in _RELINKED and getattr(self, name) is not None
        }
        if self.hash_ids is not None and self.hash_offsets is not None:
            chains = take_chains(self.hash_ids, self.hash_offsets, rows)
            columns["hash_ids"], columns["hash_offsets"] = chains
        return columns


def _says_nothing(name: str, column: NDArray[Any], trace: Trace) -> bool:
    if name in ("hash_ids", "hash_offsets"):
        return trace.hash_ids is None or len(trace.hash_ids) == 0
    if name in ("delay_s", "cancel_s"):
        return bool(np.isnan(column).all())
    if name == "prefix_row":  # a row that nothing is shared with
        return trace.prefix_tokens is None or not trace.prefix_tokens.any()
    return name in _NEUTRAL and bool((column == _NEUTRAL[name]).all())
