"""A trace as a stream of chunks, so that no more than a few of them are in memory at once.

A *chunk* is some tens of thousands of rows in order of arrival; ``parent`` counts rows of the whole
stream. A :class:`Stream` can be read as often as one likes and gives the same rows each time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .columns import Floats, Ids, Ints, whole_ns
from .trace import SkippedRow, Trace

CHUNK = 65_536
"""Rows of a chunk."""
_MOST_SKIPPED_LISTED = 100


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
    skipped: tuple[SkippedRow, ...] = ()  # between its rows in the file

    def __len__(self) -> int:
        return len(self.prompt_tokens)

    def head(self, num_rows: int) -> Chunk:
        """The first rows."""
        columns: dict[str, Any] = {
            name: None if (column := getattr(self, name)) is None else column[:num_rows]
            for name in (*_PLAIN, "parent", "delay_s")
        }
        if self.hash_ids is not None and self.hash_offsets is not None:
            columns["hash_offsets"] = self.hash_offsets[: num_rows + 1]
            columns["hash_ids"] = self.hash_ids[: columns["hash_offsets"][-1]]
        return replace(self, **columns)

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
    """Its first rows, to tell what columns it has."""
    notes: tuple[str, ...] = ()
    whole: Trace | None = None
    """All its rows, where they are in memory."""


def stream_of(
    name: str, chunks: Callable[[], Iterator[Chunk]], notes: tuple[str, ...] = ()
) -> Stream:
    """A stream of these chunks; the first one is read.

    Raises:
        ValueError: it has no rows.
    """
    first = next(chunks(), None)
    if first is None:
        raise ValueError(f"trace {name!r} holds no requests.")
    columns = {field: getattr(first, field) for field in _SAMPLED}
    sample = Trace(name=name, notes=notes, **columns)
    return Stream(name=name, chunks=chunks, sample=sample, notes=notes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What one pass over a stream tells."""

    num_requests: int
    longest: tuple[int, int]
    """Prompt and output tokens of the longest request."""
    span_s: float | None
    """From the first to the last arrival; None = lengths only."""
    digest: str
    """SHA-256 (hex) of the columns: a `Trace`'s where the rows are in memory or in one chunk, else
    ``columns:`` and that of the columns one by one, which does not depend on the chunks."""
    num_skipped: int
    skipped: tuple[SkippedRow, ...]
    """Rows that could not be read, the first of them."""


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
_SAMPLED = (*_COLUMNS, "hash_offsets", "hash_block_size")


def survey(stream: Stream) -> Survey:
    """Read a stream once.

    Raises:
        ValueError: no requests, or what its chunks raise.
    """
    shas = {name: hashlib.sha256() for name in (*_COLUMNS, "hash_counts")}
    num, longest, first_s, last_s = 0, (0, 0), np.inf, -np.inf
    num_skipped, skipped = 0, tuple[SkippedRow, ...]()
    for chunk in stream.chunks():
        num += len(chunk)
        num_skipped += len(chunk.skipped)
        skipped = (*skipped, *chunk.skipped)[:_MOST_SKIPPED_LISTED]
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
    one_by_one = hashlib.sha256("".join(sha.hexdigest() for sha in shas.values()).encode())
    whole = stream.sample if num == len(stream.sample) else stream.whole
    return Survey(
        num_requests=num,
        longest=longest,
        span_s=last_s - first_s if last_s >= first_s else None,
        digest=f"columns:{one_by_one.hexdigest()}" if whole is None else whole.digest,
        num_skipped=num_skipped,
        skipped=skipped,
    )


def in_chunks(trace: Trace, *, size: int = CHUNK) -> Stream:
    """A trace in memory as a stream.

    Raises ValueError for what does not stream: prefixes shared to the token, requests of several
    sequences, or a size that is not > 0.
    """
    if size < 1:
        raise ValueError(f"chunk_size(={size}) must be > 0.")
    _check_streams(trace)

    def chunks() -> Iterator[Chunk]:
        for at in range(0, len(trace), size):
            yield _slice(trace, at, min(at + size, len(trace)))

    return replace(stream_of(trace.name, chunks, trace.notes), whole=trace)


def over_and_over(stream: Stream, times: int) -> Stream:
    """A stream played so many times, one after another.

    Each time has contents of its own, and begins a mean gap after the last arrival of the time
    before. Raises ValueError for a number that is not > 0.
    """
    if times < 1:
        raise ValueError(f"repeat(={times}) must be > 0.")
    if times == 1:
        return stream
    return stream_of(stream.name, lambda: _played(stream, times), stream.notes)


def _check_streams(trace: Trace) -> None:
    if trace.prefix_tokens is not None and trace.prefix_tokens.any():
        raise ValueError(
            f"trace {trace.name!r} shares prefixes to the token (prefix_row), which a stream "
            "cannot bound: simulate it whole."
        )
    for name, flag in (("num_samples", "n"), ("beam_width", "beam_width")):
        column = getattr(trace, name)
        if column is not None and column.max() > 1:
            raise ValueError(
                f"{flag}(={int(column.max())}) must be 1 for a request to be streamed."
            )


def _slice(trace: Trace, at: int, stop: int) -> Chunk:
    columns: dict[str, Any] = {
        name: None if (column := getattr(trace, name)) is None else column[at:stop]
        for name in (*_PLAIN, "parent", "delay_s")
    }
    if trace.hash_ids is not None and trace.hash_offsets is not None:
        offsets = trace.hash_offsets[at : stop + 1]
        columns["hash_ids"] = trace.hash_ids[offsets[0] : offsets[-1]]
        columns["hash_offsets"] = offsets - offsets[0]
    skipped = trace.skipped if at == 0 else ()
    return Chunk(first_row=at, hash_block_size=trace.hash_block_size, skipped=skipped, **columns)


def _played(stream: Stream, times: int) -> Iterator[Chunk]:
    num_rows = num_roots = num_ids = 0
    first_s, last_s = np.inf, -np.inf
    for chunk in stream.chunks():
        num_rows += len(chunk)
        if chunk.arrival_s is not None:
            given = chunk.arrival_s[~np.isnan(chunk.arrival_s)]
            num_roots += len(given)
            first_s, last_s = min([first_s, *given[:1]]), max([last_s, *given[-1:]])
        if chunk.hash_ids is not None:
            num_ids = max(num_ids, int(chunk.hash_ids.max(initial=0)) + 1)
        yield chunk
    span_s = last_s - first_s if num_roots else 0.0
    period_s = span_s + span_s / max(num_roots - 1, 1)
    for turn in range(1, times):
        for chunk in stream.chunks():
            yield _shifted(chunk, turn * num_rows, turn * period_s, turn * num_ids)


def _shifted(chunk: Chunk, rows: int, seconds: float, ids: int) -> Chunk:
    columns: dict[str, Any] = {}
    if chunk.arrival_s is not None:
        columns["arrival_s"] = whole_ns(chunk.arrival_s + seconds)
    if chunk.parent is not None:
        columns["parent"] = np.where(chunk.parent >= 0, chunk.parent + rows, -1)
    if chunk.hash_ids is not None:
        columns["hash_ids"] = chunk.hash_ids + np.uint64(ids % 2**64)
    return replace(chunk, first_row=chunk.first_row + rows, skipped=(), **columns)
