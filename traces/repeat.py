"""A backlog of a trace's requests: some of its rows, or all of them over and over."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from .columns import Ids, Ints, offsets_of
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
