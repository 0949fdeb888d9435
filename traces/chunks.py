"""A trace as a stream of chunks, so that no more than a few of them are in memory at once.

A *chunk* is some tens of thousands of rows in order of arrival; ``parent`` counts rows of the whole
stream. A :class:`Stream` can be read as often as one likes and gives the same rows each time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .columns import Floats, Ids, Ints, offsets_of
from .trace import SkippedRow, Trace

CHUNK = 65_536
"""Rows of a chunk."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chunk:
    """Rows ``first_row`` and following of a stream; the columns are those of a `Trace`."""

    first_row: int
    prompt_tokens: Ints
    output_tokens: Ints
    arrival_s: Floats | None
    cancel_s: Floats | None = None
    priority: Ints | None = None
    tenant: Ints | None = None
    parent: Ints | None = None  # row of the stream
    delay_s: Floats | None = None
    hash_ids: Ids | None = None
    hash_offsets: Ints | None = None
    hash_block_size: int | None = None

    def __len__(self) -> int:
        return len(self.prompt_tokens)

    @property
    def follows_parent(self) -> NDArray[np.bool_]:
        """(n,) True where a row starts `delay_s` after its parent has ended."""
        if self.delay_s is None:
            return np.zeros(len(self), dtype=np.bool_)
        return ~np.isnan(self.delay_s)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stream:
    """A trace that is read chunk by chunk; ``chunks()`` begins anew at every call."""

    name: str
    chunks: Callable[[], Iterator[Chunk]]
    sample: Trace
    """Some of its rows, to tell what columns it has."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What one pass over a stream tells."""

    num_requests: int
    longest: tuple[int, int]
    """Prompt and output tokens of the longest request."""
    span_s: float | None
    """From the first to the last arrival; None = lengths only."""
    digest: str
    """SHA-256 (hex) of the columns, whatever the chunks' size."""


_COLUMNS = (
    "prompt_tokens",
    "output_tokens",
    "arrival_s",
    "cancel_s",
    "priority",
    "tenant",
    "parent",
    "delay_s",
    "hash_ids",
)
_PLAIN = _COLUMNS[:6]


def survey(stream: Stream) -> Survey:
    """Read a stream once.

    Raises:
        ValueError: no requests, or what its chunks raise.
    """
    shas = {name: hashlib.sha256() for name in (*_COLUMNS, "hash_counts")}
    num, longest, first_s, last_s = 0, (0, 0), np.inf, -np.inf
    for chunk in stream.chunks():
        num += len(chunk)
        total = chunk.prompt_tokens + chunk.output_tokens
        row = int(total.argmax())
        longest = max(
            longest, (int(chunk.prompt_tokens[row]), int(chunk.output_tokens[row])), key=sum
        )
        if chunk.arrival_s is not None and not np.isnan(chunk.arrival_s).all():
            first_s = min(first_s, float(np.nanmin(chunk.arrival_s)))
            last_s = max(last_s, float(np.nanmax(chunk.arrival_s)))
        for name in _COLUMNS:
            column = getattr(chunk, name)
            if column is not None:
                shas[name].update(np.ascontiguousarray(column).tobytes())
        if chunk.hash_offsets is not None:
            shas["hash_counts"].update(np.diff(chunk.hash_offsets).tobytes())
    if not num:
        raise ValueError(f"trace {stream.name!r} holds no requests.")
    whole = hashlib.sha256("".join(sha.hexdigest() for sha in shas.values()).encode())
    return Survey(
        num_requests=num,
        longest=longest,
        span_s=last_s - first_s if last_s >= first_s else None,
        digest=f"columns:{whole.hexdigest()}",
    )


def in_chunks(trace: Trace, *, size: int = CHUNK, repeat: int = 1) -> Stream:
    """A trace in memory as a stream, played ``repeat`` times, one after another.

    Each time has contents of its own, and begins a mean gap after the last arrival of the time
    before.

    Raises ValueError for what does not stream: prefixes shared to the token, requests of several
    sequences, or a number that is not > 0.
    """
    for name, value in (("chunk_size", size), ("repeat", repeat)):
        if value < 1:
            raise ValueError(f"{name}(={value}) must be > 0.")
    _check_streams(trace)
    once = replace(trace, prefix_row=None, prefix_tokens=None)
    return Stream(
        name=trace.name,
        chunks=lambda: _played(once, size, repeat),
        sample=once,
        notes=trace.notes,
    )


def _check_streams(trace: Trace) -> None:
    if trace.prefix_tokens is not None and trace.prefix_tokens.any():
        raise ValueError(
            f"trace {trace.name!r} shares prefixes to the token (prefix_row), which a stream cannot "
            "bound: simulate it whole."
        )
    for name, plain in (("num_samples", 1), ("beam_width", 0)):
        column = getattr(trace, name)
        if column is not None and column.max() > max(plain, 1):
            flag = "n" if name == "num_samples" else name
            raise ValueError(f"{flag}(={int(column.max())}) must be 1 for a request to be streamed.")


def _played(trace: Trace, size: int, repeat: int) -> Iterator[Chunk]:
    num, period_s = len(trace), _period_s(trace)
    own = None if trace.hash_ids is None else int(trace.hash_ids.max(initial=0)) + 1
    for turn in range(repeat):
        for at in range(0, num, size):
            yield _slice(trace, at, min(at + size, num), turn, period_s, own or 0)


def _period_s(trace: Trace) -> float:
    """Arrivals of the trace last so long, with one more gap; whole nanoseconds."""
    if trace.arrival_s is None or np.isnan(trace.arrival_s).all():
        return 0.0
    span_s = float(np.nanmax(trace.arrival_s))
    gap_s = (span_s - float(np.nanmin(trace.arrival_s))) / max(trace.num_roots - 1, 1)
    return round((span_s + gap_s) * 1e9) / 1e9


def _slice(trace: Trace, at: int, stop: int, turn: int, period_s: float, own: int) -> Chunk:
    shift = turn * len(trace)
    columns = {
        name: None if (column := getattr(trace, name)) is None else column[at:stop]
        for name in _PLAIN
    }
    if columns["arrival_s"] is not None and turn:
        columns["arrival_s"] = np.rint((columns["arrival_s"] + turn * period_s) * 1e9) / 1e9
    if trace.parent is not None:
        parent = trace.parent[at:stop]
        columns["parent"] = np.where(parent >= 0, parent + shift, -1)
    if trace.delay_s is not None:
        columns["delay_s"] = trace.delay_s[at:stop]
    if trace.hash_ids is not None and trace.hash_offsets is not None:
        offsets = trace.hash_offsets[at : stop + 1]
        columns["hash_ids"] = trace.hash_ids[offsets[0] : offsets[-1]] + np.uint64(turn * own)
        columns["hash_offsets"] = offsets - offsets[0]
    return Chunk(first_row=shift + at, hash_block_size=trace.hash_block_size, **columns)  # type: ignore[arg-type]
