"""Which way each metric of a summary is good: one table for comparisons and for the gate.

A key is the path of a number in ``Summary.to_json()``, its parts joined by dots. *lower* and
*higher* say which way is better. *neutral* metrics say how a server works, not how well: at one
load a faster server runs fewer requests at once, so that more of them is neither good nor bad.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Literal

Direction = Literal["lower", "higher", "neutral"]
Unit = Literal["seconds", "count", "mean", "rate", "share", "usd"]
"""How a value is printed: seconds, a whole number, a mean of counts, one per second, a share of 1,
US dollars."""
Change = Literal["same", "better", "worse", "different"]

DIRECTIONS: tuple[Direction, ...] = ("lower", "higher", "neutral")


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One number of a summary.

    Raises:
        ValueError: a direction that is none.
    """

    title: str
    unit: Unit
    direction: Direction

    def __post_init__(self) -> None:
        if self.direction not in DIRECTIONS:
            raise ValueError(f"direction(={self.direction!r}) must be lower, higher or neutral.")

    def change(self, before: float, after: float) -> Change:
        """What became of it; *different* where neither way is better."""
        if after == before:
            return "same"
        if self.direction == "neutral":
            return "different"
        return "better" if (after < before) == (self.direction == "lower") else "worse"


def _of(title: str, unit: Unit, direction: Direction) -> Metric:
    return Metric(title=title, unit=unit, direction=direction)


_TIMES = {"ttft_s": "TTFT", "tpot_s": "TPOT", "itl_s": "ITL", "e2e_s": "E2E"}
_POINTS = ("mean", "p50", "p90", "p95", "p99")

METRICS: dict[str, Metric] = {
    "num_requests": _of("requests", "count", "neutral"),
    "num_finished": _of("finished", "count", "higher"),
    "num_rejected": _of("rejected", "count", "lower"),
    "num_unfinished": _of("unfinished", "count", "lower"),
    "num_cancelled": _of("cancelled", "count", "lower"),
    "num_length_capped": _of("outputs cut at max_model_len", "count", "lower"),
    "makespan_s": _of("makespan", "seconds", "lower"),
    "requests_per_s": _of("requests/s", "rate", "higher"),
    "output_tokens_per_s": _of("output tokens/s", "rate", "higher"),
    "total_tokens_per_s": _of("total tokens/s", "rate", "higher"),
    **{
        f"{name}.{point}": _of(f"{title} {point}", "seconds", "lower")
        for name, title in _TIMES.items()
        for point in _POINTS
    },
    "num_steps": _of("engine steps", "count", "neutral"),
    "num_preemptions": _of("preemptions", "count", "lower"),
    "wasted_tokens": _of("tokens computed again", "count", "lower"),
    "mean_running": _of("running, mean", "mean", "neutral"),
    "peak_running": _of("running, peak", "count", "neutral"),
    "mean_waiting": _of("waiting, mean", "mean", "lower"),
    "peak_waiting": _of("waiting, peak", "count", "lower"),
    "effective_kv_utilisation": _of("effective KV utilisation", "share", "neutral"),
    "pool_share.token_states": _of("pool: token states", "share", "neutral"),
    "pool_share.reserved": _of("pool: reserved", "share", "lower"),
    "pool_share.internal": _of("pool: internal waste", "share", "lower"),
    "pool_share.external": _of("pool: external waste", "share", "lower"),
    "pool_share.cached": _of("pool: cached", "share", "neutral"),
    "pool_share.free": _of("pool: free", "share", "neutral"),
    "pool_slots": _of("KV pool, tokens", "count", "higher"),
    "prefix_hit_tokens": _of("prefix-cache hits, tokens", "count", "higher"),
    "prefix_hit_ratio": _of("prefix-cache hits, of prompt tokens", "share", "higher"),
    "shared_saved": _of("saved by sharing, of the pool", "share", "neutral"),
    "sharing_saved": _of("saved by sharing, of blocks without", "share", "neutral"),
    "num_copied_blocks": _of("blocks copied on write", "count", "neutral"),
    "copied_bytes": _of("bytes copied on the GPU", "count", "lower"),
    "num_swaps": _of("swaps", "count", "lower"),
    "swapped_out_bytes": _of("bytes swapped out", "count", "lower"),
    "swapped_in_bytes": _of("bytes swapped in", "count", "lower"),
    "moving_s": _of("time of copies and swaps", "seconds", "lower"),
    "host_hit_tokens": _of("hits in host memory, tokens", "count", "neutral"),
    "secondary_hit_tokens": _of("hits in the second tier, tokens", "count", "neutral"),
    "host_in_bytes": _of("evicted to host memory, bytes", "count", "neutral"),
    "host_out_bytes": _of("loaded from host memory, bytes", "count", "neutral"),
    "host_peak_bytes": _of("in host memory at most, bytes", "count", "neutral"),
    "secondary_in_bytes": _of("sunk to the second tier, bytes", "count", "neutral"),
    "secondary_out_bytes": _of("loaded from the second tier, bytes", "count", "neutral"),
    "secondary_peak_bytes": _of("in the second tier at most, bytes", "count", "neutral"),
    "loading_s": _of("requests' time loading", "seconds", "lower"),
}
"""In the order of a summary."""

PLAN_METRICS: dict[str, Metric] = {
    "backlog.mean_running": _of("running under backlog", "mean", "higher"),
    "backlog.output_tokens_per_s": _of("output tokens/s under backlog", "rate", "higher"),
    "memory_backlog.mean_running": _of("running by memory alone", "mean", "higher"),
    "usd_per_million_output_tokens": _of("USD per million output tokens", "usd", "lower"),
    **{f"summary.{path}": metric for path, metric in METRICS.items()},
}
"""Of one candidate of ``plan.json``."""


def value_at(values: Mapping[str, object], path: str) -> float | None:
    """The number at a path; None where there is none (nothing finished, nothing was measured)."""
    found: object = values
    for part in path.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    return found if isfinite(found) else None
