"""Latencies of a run's finished requests, one value each, and who has the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from . import words
from .sheet import Sheet

if TYPE_CHECKING:
    from ..sim.candidate import Candidate
    from ..sim.result import Result

Floats = NDArray[np.float64]
TITLES = {"ttft": "TTFT", "tpot": "TPOT", "e2e": "E2E"}
PERCENTILES = (5, 10, 25, 50, 75, 90, 95, 99, 100)
_FINISHED = "finished"
_ALIKE = 1e-3
"""Relative difference of all quantiles up to which two distributions are one line."""


def sorted_times(result: Result) -> dict[str, Floats]:
    """TTFT, TPOT (of outputs of two tokens and more) and E2E in seconds, ascending."""
    requests = result.requests
    done = requests["status"] == _FINISHED
    arrival, first, finish = (
        requests[name][done] for name in ("arrival_s", "first_token_s", "finish_s")
    )
    later_tokens = requests["output_tokens"][done] - 1
    several = later_tokens > 0
    times = {
        "ttft": first - arrival,
        "tpot": (finish - first)[several] / later_tokens[several],
        "e2e": finish - arrival,
    }
    return {name: np.sort(values) for name, values in times.items()}


def alike(candidates: Sequence[Candidate]) -> list[list[Candidate]]:
    """Candidates in groups whose latencies are the same; those that finish nothing are in none."""
    groups: list[tuple[dict[str, Floats], list[Candidate]]] = []
    for one in candidates:
        times = sorted_times(one.result)
        if not len(times["e2e"]):
            continue
        for known, members in groups:
            if _same(known, times):
                members.append(one)
                break
        else:
            groups.append((times, [one]))
    return [members for _, members in groups]


def _same(one: dict[str, Floats], other: dict[str, Floats]) -> bool:
    return all(
        len(one[name]) == len(other[name])
        and bool(np.allclose(one[name], other[name], rtol=_ALIKE, atol=0.0))
        for name in one
    )


def quantile_sheet(candidates: Sequence[Candidate]) -> Sheet:
    """Percentiles of each time, a row per candidate."""
    rows = []
    by_title = {one.title: sorted_times(one.result) for one in candidates}
    for name, title in TITLES.items():
        for candidate, times in by_title.items():
            rows.append((candidate, title, *_percentiles(times[name])))
    return Sheet(
        title="Distribution of the latencies over the trace",
        columns=("allocator", "time", *(f"p{p}" for p in PERCENTILES[:-1]), "most"),
        rows=tuple(rows),
        text_columns=(0, 1),
    )


def _percentiles(values: Floats) -> list[str]:
    if not len(values):
        return [words.NONE] * len(PERCENTILES)
    shown = np.quantile(values, np.array(PERCENTILES) / 100)
    return [words.seconds(float(value)) for value in shown]
