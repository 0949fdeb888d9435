"""Under backlog: what an allocator can do when requests never run out.

Below saturation every allocator runs the same requests; what tells them apart is how many run at
once while others wait. So all requests arrive at time 0, and the figures are taken over the
*saturated window*: from one turnover (as many requests finished as ever ran at once, so that their
ages are mixed) until the queue is empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from .result import FINISHED, Result
from .summary import CATEGORIES, PoolShare


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """Means over the saturated window."""

    mean_running: float
    peak_running: int
    requests_per_s: float
    output_tokens_per_s: float
    pool_share: PoolShare
    num_preemptions: int
    """Over the whole run."""
    window_s: float
    num_finished: int
    """Requests that finished inside the window."""
    memory_bound: float
    """Share of the window in which who waited, waited for memory."""
    seat_bound: float
    """Share of the window in which every seat was taken."""
    saturated: bool
    """False: the queue was empty before one turnover, the figures are over the whole run."""
    most_held_slots: int
    """Upper bound of the slots that requests held at once, over the whole run."""


def measure(result: Result, *, seats: int) -> Backlog:
    """Take the figures of a run whose requests all arrived at time 0.

    Args:
        result: the run.
        seats: requests that may run at once.

    Raises:
        ValueError: nothing finished.
    """
    begin_s, end_s, saturated = window(result)
    finish_s = _finish_times(result)
    output = result.requests["generated_tokens"][result.status == FINISHED]
    inside = (finish_s > begin_s) & (finish_s <= end_s)
    segments = result.segments
    starts, durations = segments["start_s"], segments["duration_s"]
    ends = starts + durations
    weight = np.clip(np.minimum(ends, end_s) - np.maximum(starts, begin_s), 0.0, None)
    length_s = end_s - begin_s
    per_slot = 1.0 / (result.pool_slots * length_s)
    shares = {name: float(segments[name] @ weight) * per_slot for name in CATEGORIES}
    return Backlog(
        mean_running=float(segments["num_running"] @ weight) / length_s,
        peak_running=int(segments["num_running"].max()),
        requests_per_s=int(inside.sum()) / length_s,
        output_tokens_per_s=int(output[inside].sum()) / length_s,
        pool_share=PoolShare(**shares),
        num_preemptions=int(np.sum(result.requests["num_preemptions"])),
        window_s=length_s,
        num_finished=int(inside.sum()),
        memory_bound=float(segments["blocked"] @ weight) / length_s,
        seat_bound=float((segments["num_running"] >= seats) @ weight) / length_s,
        saturated=saturated,
        most_held_slots=most_held_slots(result),
    )


def most_held_slots(result: Result) -> int:
    """At most so many slots were granted at once, but for the last block of each running request.

    A segment's mean is no less than what was held as it began, and each of its steps fills at most
    one more slot for each running request.
    """
    segments = result.segments
    held = segments["token_states"] + segments["reserved"] + segments["internal"]
    grown = segments["num_running"] * segments["num_steps"]
    return ceil(float((held + grown).max(initial=0.0)))


def window(result: Result) -> tuple[float, float, bool]:
    """Begin and end of the saturated window in seconds, and whether there is one.

    Raises:
        ValueError: nothing finished.
    """
    finish_s = np.sort(_finish_times(result))
    if not len(finish_s):
        raise ValueError(f"num_finished(=0) of {len(result.status)} requests must be > 0.")
    segments = result.segments
    peak = int(segments["num_running"].max())
    starts = segments["start_s"]
    waiting = segments["num_waiting"] > 0
    queue_empty_s = float((starts + segments["duration_s"])[waiting].max(initial=0.0))
    if peak <= len(finish_s) and finish_s[peak - 1] < queue_empty_s:
        return float(finish_s[peak - 1]), queue_empty_s, True
    return float(starts[0]), float(finish_s[-1]), False


def _finish_times(result: Result) -> NDArray[np.float64]:
    finished: NDArray[np.float64] = result.requests["finish_s"][result.status == FINISHED]
    return finished
