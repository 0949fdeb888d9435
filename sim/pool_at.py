"""What the pool's slots hold at any moment of a run.

A result keeps, of every run of steps, the slots of each kind as it begins (``a``) and their mean
over its time (``m``). Step ``j`` lasts ``first + j * slope``, so a kind that grows by ``d`` in
every step has

    m - a = d * sum over j of j * (time of step j) / (time of the run)

which gives ``d``, and ``a + j * d`` in step ``j``. That is exact in single steps, in the first step
of every run, and for tokens, of which every decoding request adds one a step. Blocks are taken one
at a time by many requests: their staircase is replaced by the straight line with the same start
and the same mean.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .result import CATEGORIES, Result

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def pool_at(result: Result, times_s: Floats) -> dict[str, Floats]:
    """Slots by category at moments in seconds; they sum to the pool.

    A moment at which one run of steps ends and another begins belongs to the later one. Outside of
    all segments everything is free.
    """
    segments = result.segments
    row = np.searchsorted(segments["start_s"], times_s, side="right") - 1
    inside = row >= 0
    row = np.maximum(row, 0)
    if not len(segments["start_s"]):
        return {**dict.fromkeys(CATEGORIES, np.zeros(len(times_s))), "free": _all(result, times_s)}
    since_s = times_s - segments["start_s"][row]
    inside &= since_s < segments["duration_s"][row]
    first, slope = segments["first_step_s"][row], segments["step_slope_s"][row]
    num_steps = np.maximum(segments["num_steps"][row], 1)
    step = step_at(since_s, first, slope, num_steps)
    weight = step * _per_step(first, slope, num_steps)
    starts, at = result.starts, {}
    for name in CATEGORIES:
        start, mean = starts[name][row], segments[name][row]
        at[name] = np.where(inside, np.maximum(start + weight * (mean - start), 0.0), 0.0)
    held = sum(at[name] for name in CATEGORIES if name != "free")
    return {**at, "free": np.maximum(_all(result, times_s) - held, 0.0)}


def step_at(since_s: Floats, first_s: Floats, slope_s: Floats, num_steps: Ints) -> Ints:
    """Steps of a run that have ended so long after its start, the last one never."""
    half = first_s - slope_s / 2  # k steps take k * half + slope / 2 * k ** 2
    root = np.sqrt(np.maximum(half**2 + 2 * slope_s * since_s, 0.0))
    below = half + root
    guess = np.divide(2 * since_s, below, out=np.zeros_like(since_s), where=below > 0)
    done = np.floor(guess)
    for candidate in (np.floor(guess) - 1, np.floor(guess), np.floor(guess) + 1):
        fits = candidate * half + slope_s / 2 * candidate**2 <= since_s
        done = np.where(fits, candidate, done)
    return np.clip(done, 0, num_steps - 1).astype(np.int64)


def _per_step(first_s: Floats, slope_s: Floats, num_steps: Ints) -> Floats:
    """Growth in a step, as a share of the distance from start to mean; 0 for single steps."""
    pairs = num_steps * (num_steps - 1) / 2
    span = num_steps * first_s + slope_s * pairs
    spread = first_s * pairs + slope_s * pairs * (2 * num_steps - 1) / 3
    return np.divide(span, spread, out=np.zeros_like(span), where=spread > 0)


def _all(result: Result, times_s: Floats) -> Floats:
    return np.full(len(times_s), float(result.pool_slots))
