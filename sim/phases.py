"""What each request goes through, from its times.

A request's life is cut into *spells*: one begins when it is queued and one at every preemption.

    spell     waits from ``begin``, is admitted at ``admitted``, gets a token at ``decoding``, and
              lasts until ``end``: the next preemption, or when it leaves
    queued    begin .. admitted of the first spell        preempted    the same of a later one,
                                                          swapped      with its KV in host memory
    loading   admitted .. loaded, where its cached beginning comes from below the GPU
    prefill   admitted or loaded .. decoding              decode       decoding .. end

After a preemption *prefill* computes again what was lost. A time that comes after the end of its
spell did not happen in it: asynchronously, a request may be preempted while its token is on its
way. So the phases of a request follow one another without a gap from its arrival until it leaves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

QUEUED, PREFILL, DECODE, PREEMPTED, SWAPPED = "queued", "prefill", "decode", "preempted", "swapped"
LOADING = "loading"
PHASES = (QUEUED, LOADING, PREFILL, DECODE, PREEMPTED, SWAPPED)
"""All that a phase may be."""
SEATED = (LOADING, PREFILL, DECODE)
"""Those of a running request."""

Columns = Mapping[str, NDArray[Any]]


def phase_columns(requests: Columns, pauses: Columns, loads: Columns) -> Columns:
    """The phases of requests, in order of request and time.

    Args:
        requests: ``index``, ``arrival_s``, ``scheduled_s``, ``first_token_s``, ``finish_s``, a row
            per request that was not rejected; NaN where it did not happen.
        pauses: ``index``, ``preempted_s``, ``admitted_s``, ``resumed_s``, ``swapped``, a row per
            preemption.
        loads: ``index``, ``start_s``, ``end_s``, a row per load; it starts as its request is
            admitted.

    Returns:
        ``index``, ``phase``, ``start_s`` and ``end_s`` (NaN where the phase has not ended). A phase
        that took no time is left out, except for ``preempted`` and ``swapped``.
    """
    spells = _spells(requests, pauses)
    index, begin, admitted, decoding, end, swapped = spells.values()
    paused = np.where(swapped, SWAPPED, PREEMPTED)
    waits = np.where(np.diff(index, prepend=-1) == 0, paused, QUEUED)
    admitted, decoding = _within(admitted, end), _within(decoding, end)
    loaded = _loaded(index, admitted, loads)
    starts = np.column_stack([begin, admitted, loaded, decoding])
    ends = np.column_stack(
        [np.fmin(admitted, end), np.fmin(loaded, end), np.fmin(decoding, end), end]
    )
    others = [np.full(len(index), name) for name in (LOADING, PREFILL, DECODE)]
    names = np.column_stack([waits, *others])
    happened = ~np.isnan(starts) & ((starts != ends) | np.isin(names, (PREEMPTED, SWAPPED)))
    return {
        "index": np.repeat(index, 4)[happened.ravel()],
        "phase": names[happened],
        "start_s": starts[happened],
        "end_s": ends[happened],
    }


def _spells(requests: Columns, pauses: Columns) -> dict[str, NDArray[Any]]:
    """Index, times and whether it is swapped out, of every spell, in order of request and time."""
    came = ~np.isnan(requests["arrival_s"])
    index = np.concatenate([requests["index"][came], pauses["index"]])
    order = np.argsort(index, kind="stable")
    index = index[order]
    firsts = (requests[name][came] for name in ("arrival_s", "scheduled_s", "first_token_s"))
    laters = (pauses[name] for name in ("preempted_s", "admitted_s", "resumed_s"))
    begin, admitted, decoding = (
        np.concatenate(columns)[order] for columns in zip(firsts, laters, strict=True)
    )
    leaves = np.concatenate([requests["finish_s"][came], np.full(len(pauses["index"]), np.nan)])
    first = np.unique(index, return_index=True)[1]
    end = np.repeat(leaves[order][first], np.diff(np.append(first, len(index))))
    end[:-1] = np.where(index[1:] == index[:-1], begin[1:], end[:-1])
    none = np.zeros(int(came.sum()), dtype=np.bool_)
    return {
        "index": index,
        "begin": begin,
        "admitted": admitted,
        "decoding": decoding,
        "end": end,
        "swapped": np.concatenate([none, pauses["swapped"]])[order],
    }


def _loaded(
    index: NDArray[np.int64], admitted: NDArray[np.float64], loads: Columns
) -> NDArray[np.float64]:
    """When each spell's load ended; its admission where there was none."""
    if not len(loads["index"]):
        return admitted
    starts = zip(loads["index"].tolist(), loads["start_s"].tolist(), strict=True)
    ends = dict(zip(starts, loads["end_s"].tolist(), strict=True))
    spells = zip(index.tolist(), admitted.tolist(), strict=True)
    return np.array([ends.get(spell, spell[1]) for spell in spells])


def _within(times: NDArray[np.float64], ends: NDArray[np.float64]) -> NDArray[np.float64]:
    """Times of what happened before its spell's end, NaN elsewhere."""
    return np.where(times >= ends, np.nan, times)
