"""A trace again and again: as a backlog that is there at time 0, or in time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from .columns import Ids, Ints, offsets_of, whole_ns
from .trace import Trace

_PLAIN = ("prompt_tokens", "output_tokens", "num_samples", "beam_width", "priority", "tenant")


def repeated(trace: Trace, rows: Ints, num_requests: int) -> Trace:
    """So many requests like these rows, all arriving at time 0.

    More than there are rows: the rows in turn, each time with contents of its own, so that prompts
    begin alike within one turn only. Fewer: rows spread evenly, since lengths may change over time.
    """
    n = len(rows)
    if num_requests < n:
        rows = rows[np.arange(num_requests) * n // num_requests]
    once = trace.take(rows)
    turns = -(-num_requests // len(once))
    columns: dict[str, Any] = {
        name: np.tile(column, turns)[:num_requests]
        for name in _PLAIN
        if (column := getattr(once, name)) is not None
    }
    for name in ("parent", "prefix_row"):
        links = getattr(once, name)
        if links is not None:
            columns[name] = _shifted(links, turns)[:num_requests]
    if once.prefix_tokens is not None:
        columns["prefix_tokens"] = np.tile(once.prefix_tokens, turns)[:num_requests]
    if once.hash_ids is not None and once.hash_offsets is not None:
        ids, offsets = _own_ids(once.hash_ids, once.hash_offsets, turns)
        offsets = offsets[: num_requests + 1]
        columns |= {"hash_ids": ids[: offsets[-1]], "hash_offsets": offsets}
    arrival_s = np.zeros(num_requests)
    return replace(once, arrival_s=arrival_s, delay_s=None, cancel_s=None, **columns)


def _shifted(links: Ints, turns: int) -> Ints:
    """Row links, each turn's to its own rows."""
    shift = np.repeat(np.arange(turns) * len(links), len(links))
    tiled = np.tile(links, turns)
    return np.where(tiled >= 0, tiled + shift, -1)


def _own_ids(ids: Ids, offsets: Ints, turns: int) -> tuple[Ids, Ints]:
    """Prefix ids of all turns, no id in two of them."""
    distinct, numbers = np.unique(ids, return_inverse=True)
    all_ids = [numbers + turn * len(distinct) for turn in range(turns)]
    return np.concatenate(all_ids).astype(np.uint64), offsets_of(np.tile(np.diff(offsets), turns))


def repeated_in_time(trace: Trace, turns: int) -> Trace:
    """The whole trace so many times in a row, at its own rate and each time with its own contents.

    A turn begins one mean gap between arrivals after the last arrival of the turn before.
    """
    times = trace.arrival_s
    if turns <= 1 or times is None:
        return trace
    total = len(trace)
    longer = repeated(trace, np.arange(total, dtype=np.int64), turns * total)
    timed = int((~np.isnan(times)).sum())
    span_s = float(np.nanmax(times) - np.nanmin(times))
    period_s = span_s + span_s / max(timed - 1, 1)
    shift_s = np.repeat(np.arange(turns) * period_s, total)
    delay_s, cancel_s = (
        None if column is None else np.tile(column, turns)
        for column in (trace.delay_s, trace.cancel_s)
    )
    arrival_s = whole_ns(np.tile(times, turns) + shift_s)
    return replace(longer, arrival_s=arrival_s, delay_s=delay_s, cancel_s=cancel_s)
