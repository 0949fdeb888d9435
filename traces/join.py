"""From the rows of one or more files to one `Trace`: rebase, sort by time, link sessions.

Times that count from a trace's start (Mooncake, Bailian, Vidur, splitwise-sim, LLMServingSim) stay
as they are; wall clocks and clocks of unknown origin (Azure, BurstGPT, generic CSV) are rebased to
the earliest arrival of all such files. All times are whole nanoseconds.

Rows are sorted stably; a row without a time of its own stays behind both the row above it and the
previous turn of its session. So sorted files keep their order, and parents come before their
children.
"""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from .columns import NS_PER_S, Floats, Ints, offsets_of, take_chains
from .formats.rows import NO_TIME_NS, Rows
from .trace import SkippedRow, Trace

Names = list[Hashable | None]


def join_rows(parts: Sequence[Rows], *, name: str) -> Trace:
    """One trace of all files' rows, in order of arrival.

    Raises ValueError where some files have times and others none, or block sizes differ.
    """
    skipped = [skip for part in parts for skip in part.skipped]
    timed = _all_timed(parts)
    time_ns = _times(parts) if timed else None
    sessions = _scoped(parts, "session", "session")
    place_ns, orphan = _places(time_ns, sessions, sum(map(len, parts)))
    skipped += _orphan_rows(parts, orphan)
    rows = np.flatnonzero(~orphan)
    order = rows[np.argsort(place_ns[rows], kind="stable")]
    if len(order) == 0:
        raise ValueError(f"{name} holds no requests{_why(skipped)}.")
    num_out_of_order = _count_falls(time_ns)
    hashes = _hashes(parts, order)
    parent, delay_s = _links(parts, order, time_ns, sessions)
    return Trace(
        name=name,
        prompt_tokens=_column(parts, "prompt_tokens", 0)[order],
        output_tokens=_column(parts, "output_tokens", 0)[order],
        arrival_s=None if time_ns is None else _seconds(time_ns[order]),
        parent=parent,
        delay_s=delay_s,
        num_samples=_optional(parts, "num_samples", 1, order),
        beam_width=_optional(parts, "beam_width", 0, order),
        priority=_optional(parts, "priority", 0, order),
        skipped=tuple(skipped),
        notes=_notes(parts, num_out_of_order),
        num_out_of_order=num_out_of_order,
        **hashes,
    )


def _all_timed(parts: Sequence[Rows]) -> bool:
    timed = [part.time_ns is not None for part in parts if len(part)]
    if any(timed) and not all(timed):
        without = next(part.file for part in parts if len(part) and part.time_ns is None)
        raise ValueError(f"{without} has lengths only and cannot be joined with timed files.")
    return any(timed)


def _times(parts: Sequence[Rows]) -> Ints:
    """Nanoseconds from the start for all rows; NO_TIME_NS stays."""
    clocks = [part.time_ns for part in parts if part.rebase and part.time_ns is not None]
    start_ns = min((int(clock.min()) for clock in clocks if len(clock)), default=0)
    columns = []
    for part in parts:
        time_ns = part.time_ns if part.time_ns is not None else np.empty(0, dtype=np.int64)
        columns.append(time_ns - start_ns if part.rebase else time_ns)
    return np.concatenate(columns)


def _count_falls(time_ns: Ints | None) -> int:
    """Rows whose time is before that of the last timed row above them."""
    if time_ns is None:
        return 0
    return int((np.diff(time_ns[time_ns != NO_TIME_NS]) < 0).sum())


def _scoped(parts: Sequence[Rows], field: str, kind: str) -> Names | None:
    """Names of all files, distinct between files and kinds; None where no file has any."""
    if all(getattr(part, field) is None for part in parts):
        return None
    names: Names = []
    for index, part in enumerate(parts):
        column = getattr(part, field) or [None] * len(part)
        names += [None if name is None else (index, kind, name) for name in column]
    return names


def _places(time_ns: Ints | None, sessions: Names | None, num_rows: int) -> tuple[Ints, Any]:
    """The time by which each row is sorted, and a mask of rows whose start nothing tells."""
    orphan = np.zeros(num_rows, dtype=np.bool_)
    if time_ns is None:
        return np.zeros(num_rows, dtype=np.int64), orphan
    place_ns = time_ns.copy()
    without = set(np.flatnonzero(time_ns == NO_TIME_NS).tolist())
    if not without:
        return place_ns, orphan
    latest: dict[Hashable, int] = {}
    above_ns = 0
    for row, session in enumerate(sessions or [None] * num_rows):
        if row in without:
            if session not in latest:
                orphan[row] = True
                continue
            place_ns[row] = max(latest[session], above_ns)
        above_ns = int(place_ns[row])
        if session is not None:
            latest[session] = above_ns
    return place_ns, orphan


def _orphan_rows(parts: Sequence[Rows], orphan: Any) -> list[SkippedRow]:
    reason = "has no time, and no earlier turn of its session to follow"
    lines = [(part.file, line) for part in parts for line in part.lines]
    return [
        SkippedRow(file=lines[row][0], row=lines[row][1], reason=reason)
        for row in np.flatnonzero(orphan).tolist()
    ]


def _links(
    parts: Sequence[Rows], order: Ints, time_ns: Ints | None, sessions: Names | None
) -> tuple[Ints | None, Floats | None]:
    """Parent rows in the new order, and delays of the rows that have no time of their own."""
    keys, parent_keys = _scoped(parts, "key", "key"), _scoped(parts, "parent_key", "key")
    parent = np.full(len(order), -1, dtype=np.int64)
    latest: dict[Hashable, int] = {}
    for new, old in enumerate(order.tolist()) if sessions or parent_keys else ():
        session = sessions[old] if sessions else None
        link = parent_keys[old] if parent_keys else None
        parent[new] = latest.get(link if link is not None else session, -1)
        for name in (session, keys[old] if keys else None):
            if name is not None:
                latest[name] = new
    if (parent < 0).all():
        return None, None
    given_s = _column(parts, "delay_s", np.nan)[order]
    waits = parent >= 0
    if time_ns is not None:
        waits &= time_ns[order] == NO_TIME_NS
    delay_s = np.where(waits, np.where(np.isnan(given_s), 0.0, given_s), np.nan)
    return parent, delay_s if waits.any() else None


def _hashes(parts: Sequence[Rows], order: Ints) -> dict[str, Any]:
    sizes = {part.hash_block_size for part in parts if part.hash_block_size is not None}
    if not sizes:
        return {}
    if len(sizes) > 1:
        known = ", ".join(map(str, sorted(sizes)))
        raise ValueError(f"the files' hash_ids have different block sizes ({known} tokens).")
    counts = [
        np.zeros(len(part), dtype=np.int64)
        if part.hash_offsets is None
        else np.diff(part.hash_offsets)
        for part in parts
    ]
    flat = np.concatenate([part.hash_ids for part in parts if part.hash_ids is not None])
    hash_ids, hash_offsets = take_chains(flat, offsets_of(np.concatenate(counts)), order)
    return {"hash_ids": hash_ids, "hash_offsets": hash_offsets, "hash_block_size": sizes.pop()}


def _column(parts: Sequence[Rows], field: str, default: float) -> Any:
    """One column over all files, `default` where a file has none."""
    dtype = np.float64 if np.isnan(default) else np.int64
    columns = [getattr(part, field) for part in parts]
    return np.concatenate(
        [
            np.full(len(part), default, dtype=dtype) if column is None else column
            for part, column in zip(parts, columns, strict=True)
        ]
    )


def _optional(parts: Sequence[Rows], field: str, default: int, order: Ints) -> Ints | None:
    if all(getattr(part, field) is None for part in parts):
        return None
    column: Ints = _column(parts, field, default)[order]
    return column


def _seconds(time_ns: Ints) -> Floats:
    return np.where(time_ns == NO_TIME_NS, np.nan, time_ns / NS_PER_S)


def _notes(parts: Sequence[Rows], num_out_of_order: int) -> tuple[str, ...]:
    notes = [f"{part.file}: {note}." for part in parts for note in part.notes]
    if sum(part.hash_block_size is not None for part in parts) > 1:
        notes.append("hash_ids of several files are taken as one id space.")
    if num_out_of_order:
        notes.append(f"rows earlier than the row before, sorted by time: {num_out_of_order}.")
    return tuple(notes)


def _why(skipped: Sequence[SkippedRow]) -> str:
    if not skipped:
        return ""
    return f" (rows skipped: {len(skipped)}; row {skipped[0].row}: {skipped[0].reason})"
