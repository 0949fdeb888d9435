"""What happened, folded as it happens: sums, counts and sketches instead of rows.

Requests are folded some thousand at a time as they leave, segments as they pile up, from the same
columns that a whole :class:`~kvsim.sim.result.Result` has.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from ...calibration.step_cost import NS_PER_S
from ..allocators.tiers import TIERS
from ..recorder import Recorder
from ..result import CANCELLED, CATEGORIES, FINISHED, REJECTED, UNFINISHED, Columns, segment_columns
from ..summary import QUANTILES, Quantiles
from .sketch import Sketch

STATED_ACCURACY = 0.001
"""Relative, of every quantile of a streamed run: a bucket's, and half a part of a run of steps."""
_PART = 0.0008
"""Steps of a run whose times differ by no more, relatively, are counted together."""

_SUMMED = ("num_preemptions", "wasted_tokens", "waited_s", "cached_tokens", "loaded_s")
_SLOTS = tuple(name for name in CATEGORIES if name != "free")


class RequestFold:
    """Sums over requests that have left."""

    def __init__(self) -> None:
        self.status: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.sums = dict.fromkeys((*_SUMMED, *(f"{name}_hit_tokens" for name in TIERS)), 0.0)
        self.output_tokens = self.prompt_tokens = self.looked_up_tokens = 0
        self.begin_s = float("inf")
        self.ttft, self.tpot, self.e2e = Sketch(), Sketch(), Sketch()

    def add(self, columns: Columns) -> None:
        """Fold the columns of some requests (see ``Result.requests``)."""
        status, reasons = columns["status"], columns["reject_reason"]
        self.status.update(status.tolist())
        self.reasons.update(reasons[reasons != ""].tolist())
        for name in self.sums:
            self.sums[name] += columns[name].sum().item()
        self.begin_s = min(self.begin_s, float(columns["arrival_s"].min()))
        admitted = ~np.isnan(columns["scheduled_s"])
        self.looked_up_tokens += int(columns["prompt_tokens"][admitted].sum())
        done = status == FINISHED
        self.output_tokens += int(columns["generated_tokens"][done].sum())
        self.prompt_tokens += int(columns["prompt_tokens"][done].sum())
        arrival, first, finish = (
            columns[name][done] for name in ("arrival_s", "first_token_s", "finish_s")
        )
        later = columns["output_tokens"][done] - 1
        several = later > 0
        self.ttft.add(first - arrival)
        self.e2e.add(finish - arrival)
        self.tpot.add((finish - first)[several] / later[several])

    def count(self, status: str) -> int:
        """Requests that ended so."""
        assert status in (FINISHED, REJECTED, UNFINISHED, CANCELLED), status
        return self.status[status]


class SegmentFold:
    """Sums over time."""

    def __init__(self, pool_slots: int) -> None:
        self._pool_slots = pool_slots
        self.slot_s = dict.fromkeys((*_SLOTS, "saved"), 0.0)
        self.running_s = self.busy_s = self.end_s = 0.0
        self.peak_running = self.peak_waiting = 0
        self.itl = Sketch()

    def add(self, recorder: Recorder) -> None:
        """Fold what a recorder has, and make it forget that."""
        gaps_s = np.array(recorder.gaps_ns, dtype=np.float64) / NS_PER_S
        self.itl.add(gaps_s)
        if recorder.segments:
            self._add(segment_columns(recorder.segments, self._pool_slots))
        for kept in (recorder.segments, recorder.gaps_ns, recorder.gap_ends_ns):
            kept.clear()
        del recorder.openings[:], recorder.levels[:]

    def _add(self, segments: Columns) -> None:
        duration_s, running = segments["duration_s"], segments["num_running"]
        for name in self.slot_s:
            self.slot_s[name] += float(segments[name] @ duration_s)
        self.running_s += float(running @ duration_s)
        busy = (segments["num_steps"] > 0) | (running > 0)
        self.busy_s += float(duration_s[busy].sum())
        self.end_s = max(self.end_s, float((segments["start_s"] + duration_s).max()))
        self.peak_running = max(self.peak_running, int(running.max()))
        self.peak_waiting = max(self.peak_waiting, int(segments["num_waiting"].max()))
        times, weights = _step_times(segments)
        self.itl.add(times, weights)

    def share(self, name: str, over_s: float) -> float:
        """Of the pool's slots over a time."""
        return self.slot_s[name] / (self._pool_slots * over_s) if over_s > 0 else 0.0


def quantiles(sketch: Sketch, *, linear: bool = True) -> Quantiles:
    """Mean and percentiles as a summary has them."""
    points = {name: sketch.quantile(q, linear=linear) for name, q in QUANTILES.items()}
    return Quantiles(mean=sketch.mean(), **points)


def _step_times(segments: Columns) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Times between tokens and how many there were of each.

    A run of steps is counted in parts, within which the times hardly differ; the sum is exact.
    """
    first, slope, steps = (segments[name] for name in ("first_step_s", "step_slope_s", "num_steps"))
    spread = np.abs(slope) * np.maximum(steps - 1, 0)
    lowest = np.minimum(first, first + slope * np.maximum(steps - 1, 0))
    wanted = np.divide(spread, _PART * lowest, out=np.zeros_like(spread), where=lowest > 0)
    parts = np.minimum(steps, np.ceil(wanted).astype(np.int64) + 1)
    run = np.repeat(np.arange(len(parts)), parts)
    part = np.arange(len(run)) - np.repeat(np.cumsum(parts) - parts, parts)
    begin, end = part * steps[run] // parts[run], (part + 1) * steps[run] // parts[run]
    times = first[run] + slope[run] * ((begin + end - 1) / 2)
    return times, segments["num_decodes"][run] * (end - begin)
