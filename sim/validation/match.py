"""Each measured request beside the one that was simulated for it.

By row where the file names rows; else by order, where the lengths of all agree; else the k-th
measured request of some prompt and output length is the k-th simulated one of those lengths, in
the order of their files.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass

import numpy as np

from ..result import FINISHED, Columns
from .measured import Ints, Requests


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pairs:
    """Positions of requests that belong together, (num_pairs,) each."""

    measured: Ints
    """Rows of the measured columns."""
    predicted: Ints
    """Rows of the result's columns."""
    how: str
    """In words: by row, by order, by lengths."""


def pair(measured: Requests, predicted: Columns) -> Pairs:
    """Pair finished requests.

    Args:
        measured: what was recorded.
        predicted: the columns of ``requests.parquet``.
    """
    done = np.flatnonzero(predicted["status"] == FINISHED)
    if measured.rows is not None:
        row_of = dict(zip(predicted["index"][done].tolist(), done.tolist(), strict=True))
        both = [(at, row_of[int(row)]) for at, row in enumerate(measured.rows) if row in row_of]
        return _pairs(both, "by the trace's rows")
    theirs = list(zip(measured.prompt_tokens, measured.output_tokens, strict=True))
    ours = list(
        zip(predicted["prompt_tokens"][done], predicted["output_tokens"][done], strict=True)
    )
    if theirs == ours:
        return _pairs(list(zip(range(len(theirs)), done.tolist(), strict=True)), "by order")
    return _pairs(_by_lengths(theirs, ours, done), "by prompt and output length")


def _by_lengths(
    theirs: list[tuple[int, int]], ours: list[tuple[int, int]], done: Ints
) -> list[tuple[int, int]]:
    waiting: defaultdict[tuple[int, int], deque[int]] = defaultdict(deque)
    for lengths, at in zip(ours, done.tolist(), strict=True):
        waiting[lengths].append(at)
    return [
        (at, waiting[lengths].popleft()) for at, lengths in enumerate(theirs) if waiting[lengths]
    ]


def _pairs(both: list[tuple[int, int]], how: str) -> Pairs:
    table = np.array(both, dtype=np.int64).reshape(-1, 2)
    return Pairs(measured=table[:, 0], predicted=table[:, 1], how=how)
