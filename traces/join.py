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

from .columns import NS_PER_S, Floats, Ids, Ints, offsets_of, take_chains
from .formats.flaws import counted
from .formats.rows import NO_TIME_NS, Rows
from .id_tree import contradictions, cut, numbered
from .links import Names, check_times, gathered, link_rows, origins, scoped
from .tenants import tenant_numbers
from .trace import SkippedRow, Trace

Flawed = list[tuple[int, SkippedRow]]  # by number of the file
_CONTRADICTION = "hash_ids that contradict rows above were dropped with those behind them"
_OWN_CLOCKS = "sessions have no common clock: all begin at 0 unless arrivals are given."


def join_rows(
    parts: Sequence[Rows], *, name: str, replay: str = "auto", strict: bool = False
) -> Trace:
    """One trace of all files' rows, in order of arrival; `replay` as in `links`.

    Raises ValueError where some files have times and others none, block sizes differ, the replay
    lacks times or delays, or, with `strict`, a row is not as it should be.
    """
    timed = _all_timed(parts)
    time_ns = _times(parts) if timed else None
    place_ns, orphan = _places(time_ns, scoped(parts, "session", "session"), sum(map(len, parts)))
    orphans = _orphan_rows(parts, orphan)
    skipped = [skip for part in parts for skip in part.skipped] + [skip for _, skip in orphans]
    rows = np.flatnonzero(~orphan)
    order = rows[np.argsort(place_ns[rows], kind="stable")]
    if len(order) == 0:
        raise ValueError(f"{name} holds no requests{_why(skipped)}.")
    check_times(parts, time_ns, replay)
    hashes, contradicting = _hashes(parts, order)
    given_s = gathered(parts, "delay_s", np.nan)[order]
    links = link_rows(parts, order, time_ns, given_s, replay)
    if strict:
        _refuse_flaws(parts, [*orphans, *contradicting, *links.flaws])
    num_out_of_order = _count_falls(parts, time_ns)
    prefix_row, prefix_tokens = _prefixes(parts, order)
    tenant, named = _tenants(parts, order)
    return Trace(
        name=name,
        prompt_tokens=gathered(parts, "prompt_tokens", 0)[order],
        output_tokens=gathered(parts, "output_tokens", 0)[order],
        arrival_s=None if time_ns is None else _arrivals(time_ns[order], links.delay_s),
        parent=links.parent,
        delay_s=links.delay_s,
        num_samples=_optional(parts, "num_samples", 1, order),
        beam_width=_optional(parts, "beam_width", 0, order),
        priority=_optional(parts, "priority", 0, order),
        tenant=tenant,
        cancel_s=_optional(parts, "cancel_s", np.nan, order),
        prefix_row=prefix_row,
        prefix_tokens=prefix_tokens,
        skipped=tuple(skipped),
        notes=(*_notes(parts, contradicting, num_out_of_order), *links.notes, *named),
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


def _count_falls(parts: Sequence[Rows], time_ns: Ints | None) -> int:
    """Rows whose time is before that of the last timed row above them, on one clock."""
    if time_ns is None:
        return 0
    one_clock = np.repeat([not part.own_clock for part in parts], [len(part) for part in parts])
    return int((np.diff(time_ns[one_clock & (time_ns != NO_TIME_NS)]) < 0).sum())


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


def _orphan_rows(parts: Sequence[Rows], orphan: Any) -> Flawed:
    reason = "has no time, and no earlier turn of its session to follow"
    where = origins(parts) if orphan.any() else []
    return [
        (where[row][0], SkippedRow(file=where[row][1], row=where[row][2], reason=reason))
        for row in np.flatnonzero(orphan).tolist()
    ]


def _refuse_flaws(parts: Sequence[Rows], found: Flawed) -> None:
    """Raise ValueError for the first row that was skipped or repaired."""
    flaws = [*found, *((i, x) for i, part in enumerate(parts) for x in part.skipped)]
    flaws += [(i, x) for i, part in enumerate(parts) for x in part.flaws]
    if flaws:
        _, first = min(flaws, key=lambda flaw: (flaw[0], flaw[1].row))
        raise ValueError(f"{first}.")


def _hashes(parts: Sequence[Rows], order: Ints) -> tuple[dict[str, Any], Flawed]:
    sizes = {part.hash_block_size for part in parts if part.hash_block_size is not None}
    if not sizes:
        return {}, []
    if len(sizes) > 1:
        known = ", ".join(map(str, sorted(sizes)))
        raise ValueError(f"the files' hash_ids have different block sizes ({known} tokens).")
    counts = [
        np.zeros(len(part), dtype=np.int64)
        if part.hash_offsets is None
        else np.diff(part.hash_offsets)
        for part in parts
    ]
    flat, offsets = _one_id_space(parts), offsets_of(np.concatenate(counts))
    found = contradictions(flat, offsets)
    flaws: Flawed = []
    if found:
        flat, offsets = cut(flat, offsets, found)
        where = origins(parts)
        for one in found:
            (index, file, line), (_, other, earlier) = where[one.row], where[one.earlier]
            reason = one.reason(f"row {earlier}" if other == file else f"{other} row {earlier}")
            flaws.append((index, SkippedRow(file=file, row=line, reason=reason)))
    hash_ids, hash_offsets = take_chains(flat, offsets, order)
    size = sizes.pop()
    return {"hash_ids": hash_ids, "hash_offsets": hash_offsets, "hash_block_size": size}, flaws


def _one_id_space(parts: Sequence[Rows]) -> Ids:
    """The ids of all files; those that mean something in their file only are renumbered."""
    columns = [part.hash_ids for part in parts if not part.local_ids and part.hash_ids is not None]
    shared = np.concatenate(columns) if columns else np.empty(0, dtype=np.uint64)
    if not any(part.local_ids for part in parts):
        return shared
    numbers, next_id = numbered(shared)
    flat: list[Ints] = []
    done = 0
    for part in parts:
        if part.hash_ids is None:
            continue
        if part.local_ids:
            own, count = numbered(part.hash_ids)
            flat.append(own + next_id)
            next_id += count
        else:
            flat.append(numbers[done : done + len(part.hash_ids)])
            done += len(part.hash_ids)
    return np.concatenate(flat).astype(np.uint64)


def _prefixes(parts: Sequence[Rows], order: Ints) -> tuple[Ints | None, Ints | None]:
    """Prefix links in the new order; those of rows that now come first go elsewhere."""
    if all(part.prefix_row is None for part in parts):
        return None, None
    starts = offsets_of([len(part) for part in parts])
    rows = np.concatenate(
        [
            np.full(len(part), -1)
            if part.prefix_row is None
            else np.where(part.prefix_row < 0, -1, part.prefix_row + start)
            for part, start in zip(parts, starts[:-1].tolist(), strict=True)
        ]
    )
    tokens = gathered(parts, "prefix_tokens", 0)
    place = np.full(len(rows) + 1, -1, dtype=np.int64)  # the last entry answers -1
    place[order] = np.arange(len(order))
    links, shared = place[rows[order]], tokens[order]
    forward = links >= np.arange(len(order))
    links[forward | (shared == 0)] = -1
    shared[links < 0] = 0
    return links, shared


def _tenants(parts: Sequence[Rows], order: Ints) -> tuple[Ints | None, tuple[str, ...]]:
    """The tenants' numbers, and a note where names were numbered."""
    if all(part.tenant is None for part in parts):
        return None, ()
    names = [name for part in parts for name in part.tenant or [None] * len(part)]
    numbers, given_out = tenant_numbers([names[row] for row in order.tolist()])
    if not given_out:
        return numbers, ()
    return numbers, (f"tenants are numbered as they appear: {int(numbers.max()) + 1}.",)


def _optional(parts: Sequence[Rows], field: str, default: float, order: Ints) -> Any:
    if all(getattr(part, field) is None for part in parts):
        return None
    return gathered(parts, field, default)[order]


def _arrivals(time_ns: Ints, delay_s: Floats | None) -> Floats:
    """Seconds; NaN for rows that follow others."""
    follows = time_ns == NO_TIME_NS
    if delay_s is not None:
        follows = follows | ~np.isnan(delay_s)
    return np.where(follows, np.nan, time_ns / NS_PER_S)


def _notes(parts: Sequence[Rows], contradicting: Flawed, num_out_of_order: int) -> tuple[str, ...]:
    notes = []
    for index, part in enumerate(parts):
        notes += [f"{part.file}: {note}." for note in part.notes]
        lines = [flaw.row for where, flaw in contradicting if where == index]
        if lines:
            notes.append(f"{part.file}: {counted(_CONTRADICTION, lines)}.")
    if any(part.own_clock for part in parts) and len(parts) > 1:
        notes.append(_OWN_CLOCKS)
    if sum(part.hash_block_size is not None and not part.local_ids for part in parts) > 1:
        notes.append("hash_ids of several files are taken as one id space.")
    if num_out_of_order:
        notes.append(f"rows earlier than the row before, sorted by time: {num_out_of_order}.")
    return tuple(notes)


def _why(skipped: Sequence[SkippedRow]) -> str:
    if not skipped:
        return ""
    return f" (rows skipped: {len(skipped)}; row {skipped[0].row}: {skipped[0].reason})"
