"""A result in scalars: latencies, rates, concurrency, where the bytes of the pool went.

Times are seconds; percentiles of requests are numpy's linear ones. Inter-token times are weighted
by the tokens they belong to and their percentiles are values that occurred (inverted CDF). Shares
of the pool are weighted by time: over the makespan in ``pool_share``, over the time in which
anything waits or runs in ``effective_kv_utilisation``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..calibration.step_cost import NS_PER_S
from .allocators.tiers import TIERS
from .result import CANCELLED, FINISHED, REJECTED, UNFINISHED, Result
from .result import CATEGORIES as CATEGORIES

SCHEMA = "kvsim-result/1"
QUANTILES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}
_SIGNIFICANT_DIGITS = 9
_MOST_STEPS_LISTED = 4_000_000

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantiles:
    """Mean and percentiles of a time, seconds; NaN where there is nothing to measure."""

    mean: float
    p50: float
    p90: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolShare:
    """Time-weighted shares of the KV pool's slots; they sum to 1."""

    token_states: float
    reserved: float
    internal: float
    external: float
    cached: float
    free: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What scripts hold on to; keys keep their order and meaning."""

    num_requests: int
    num_finished: int
    num_rejected: int
    num_unfinished: int
    num_cancelled: int
    """Requests whose client gave up first; not among the finished or unfinished."""
    num_length_capped: int
    reject_reasons: Mapping[str, int]
    makespan_s: float
    requests_per_s: float
    output_tokens_per_s: float
    total_tokens_per_s: float
    ttft_s: Quantiles
    tpot_s: Quantiles
    itl_s: Quantiles
    e2e_s: Quantiles
    num_steps: int
    num_preemptions: int
    wasted_tokens: int
    mean_running: float
    peak_running: int
    mean_waiting: float
    peak_waiting: int
    effective_kv_utilisation: float
    pool_share: PoolShare
    pool_slots: int
    prefix_hit_tokens: int
    """Prompt tokens found in the prefix cache when their request was first admitted."""
    prefix_hit_ratio: float
    """Of the prompt tokens of all requests admitted."""
    shared_saved: float
    """Time-weighted share of the pool that sharing saves: held once instead of several times."""
    sharing_saved: float
    """Of the slots that requests would hold without sharing the part that it saves."""
    num_copied_blocks: int
    """Copied because another sequence held them, too, when one was to write (copy-on-write)."""
    copied_bytes: int
    """Of these blocks and of contiguous copies, on each GPU."""
    num_swaps: int
    """Preemptions whose KV went to host memory."""
    swapped_out_bytes: int
    """To host memory, from each GPU."""
    swapped_in_bytes: int
    moving_s: float
    """Time of all copies and swaps, hidden behind compute or not."""
    host_hit_tokens: int
    """Part of ``prefix_hit_tokens`` that came from host memory, below the GPU."""
    secondary_hit_tokens: int
    """Part of ``prefix_hit_tokens`` that came from the tier below the host memory."""
    host_in_bytes: int
    """Evicted from the GPU to host memory."""
    host_out_bytes: int
    """Hits: from host memory up to the GPU."""
    host_peak_bytes: int
    secondary_in_bytes: int
    secondary_out_bytes: int
    secondary_peak_bytes: int
    loading_s: float
    """Sum over requests of the time between admission and having what lay below the GPU."""
    settings: Mapping[str, object]
    """The flags, skipped rows and other notes, as far as they were given."""
    sources: Mapping[str, object]
    digests: Mapping[str, str]

    def to_json(self) -> dict[str, object]:
        """Plain values in a stable order, floats at nine significant digits, NaN as None."""
        values = {field.name: plain(_dump(getattr(self, field.name))) for field in fields(self)}
        return {"schema": SCHEMA, **values}


def summarise(
    result: Result,
    *,
    settings: Mapping[str, object] | None = None,
    sources: Mapping[str, object] | None = None,
    digests: Mapping[str, str] | None = None,
) -> Summary:
    """Reduce a result to its summary; settings, sources and digests are passed through."""
    requests, segments = result.requests, result.segments
    status = result.status
    done = status == FINISHED
    output = requests["generated_tokens"][done]
    prompt = requests["prompt_tokens"][done]
    begin_s, end_s = time_span_s(result)
    makespan_s = end_s - begin_s
    per_s = 1.0 / makespan_s if makespan_s > 0 else 0.0
    busy = (segments["num_steps"] > 0) | (segments["num_running"] > 0)  # or something loads
    busy_s = float(np.sum(segments["duration_s"][busy]))
    running = segments["num_running"]
    hits = int(requests["cached_tokens"].sum())
    asked = result.looked_up_tokens
    totals: dict[str, Any] = {**latencies(result), **tier_totals(result)}
    return Summary(
        num_requests=len(status),
        num_finished=int(done.sum()),
        num_rejected=int((status == REJECTED).sum()),
        num_unfinished=int((status == UNFINISHED).sum()),
        num_cancelled=int((status == CANCELLED).sum()),
        num_length_capped=result.num_length_capped,
        reject_reasons=reject_reasons(result),
        makespan_s=makespan_s,
        requests_per_s=int(done.sum()) * per_s,
        output_tokens_per_s=int(output.sum()) * per_s,
        total_tokens_per_s=int(output.sum() + prompt.sum()) * per_s,
        **totals,
        itl_s=inter_token_times(result),
        num_steps=result.num_steps,
        num_preemptions=int(np.sum(requests["num_preemptions"])),
        wasted_tokens=int(np.sum(requests["wasted_tokens"])),
        mean_running=float(running @ segments["duration_s"]) * per_s,
        peak_running=int(running.max(initial=0)),
        mean_waiting=float(np.sum(requests["waited_s"])) * per_s,
        peak_waiting=result.peak_waiting,
        effective_kv_utilisation=_slot_share(result, "token_states", busy_s),
        pool_share=pool_share(result, makespan_s),
        pool_slots=result.pool_slots,
        prefix_hit_tokens=hits,
        prefix_hit_ratio=hits / asked if asked else 0.0,
        shared_saved=_slot_share(result, "saved", busy_s),
        sharing_saved=sharing_saved(result),
        num_copied_blocks=result.moved.num_copied_blocks,
        copied_bytes=result.moved.copied_bytes,
        num_swaps=result.moved.num_swaps,
        swapped_out_bytes=result.moved.swapped_out_bytes,
        swapped_in_bytes=result.moved.swapped_in_bytes,
        moving_s=result.moved.moving_ns / NS_PER_S,
        loading_s=float(np.sum(requests["loaded_s"])),
        settings=dict(settings or {}),
        sources=dict(sources or {}),
        digests=dict(digests or {}),
    )


def tier_totals(result: Result) -> dict[str, Any]:
    """Hits and bytes of each tier below the GPU; 0 where there is none."""
    uses = {tier.name: tier for tier in result.tiers}
    hits = {
        f"{name}_hit_tokens": int(result.requests[f"{name}_hit_tokens"].sum()) for name in TIERS
    }
    moved = {
        f"{name}_{kind}_bytes": getattr(uses[name], f"{kind}_bytes") if name in uses else 0
        for name in TIERS
        for kind in ("in", "out", "peak")
    }
    return {**hits, **moved}


def time_span_s(result: Result) -> tuple[float, float]:
    """From the first arrival to the last step's end, seconds."""
    segments = result.segments
    begin_s = float(np.nanmin(result.requests["arrival_s"]))
    ends = segments["start_s"] + segments["duration_s"]
    return begin_s, max(float(ends.max(initial=begin_s)), begin_s)


def latencies(result: Result) -> dict[str, Quantiles]:
    """TTFT, TPOT (of outputs of two tokens and more) and E2E of the finished requests."""
    requests = result.requests
    done = result.status == FINISHED
    arrival, first, finish = (
        requests[name][done] for name in ("arrival_s", "first_token_s", "finish_s")
    )
    later_tokens = requests["output_tokens"][done] - 1
    several = later_tokens > 0
    return {
        "ttft_s": quantiles(first - arrival),
        "tpot_s": quantiles((finish - first)[several] / later_tokens[several]),
        "e2e_s": quantiles(finish - arrival),
    }


def quantiles(values: Floats) -> Quantiles:
    """Mean and linear percentiles."""
    if not len(values):
        return Quantiles(**dict.fromkeys(("mean", *QUANTILES), float("nan")))
    points = np.quantile(values, list(QUANTILES.values()))
    return Quantiles(
        mean=float(values.mean()), **dict(zip(QUANTILES, points.tolist(), strict=True))
    )


def inter_token_times(result: Result) -> Quantiles:
    """Times between a request's tokens, over all tokens of all requests.

    Every step counts by itself, up to so many steps that this would fill the memory: from there on
    each run of steps is taken in 16 parts, whose mean times stand for their steps.
    """
    segments = result.segments
    steps = segments["num_steps"]
    parts = steps if steps.sum() <= _MOST_STEPS_LISTED else np.minimum(steps, 16)
    run = np.repeat(np.arange(len(parts)), parts)
    part = np.arange(len(run)) - np.repeat(np.cumsum(parts) - parts, parts)
    begin, end = part * steps[run] // parts[run], (part + 1) * steps[run] // parts[run]
    middle = (begin + end - 1) / 2
    times = segments["first_step_s"][run] + segments["step_slope_s"][run] * middle
    weights = segments["num_decodes"][run] * (end - begin)
    times = np.concatenate([times, result.gaps_s])
    weights = np.concatenate([weights, np.ones(len(result.gaps_s), dtype=np.int64)])
    return weighted_quantiles(times, weights)


def weighted_quantiles(values: Floats, weights: NDArray[np.int64]) -> Quantiles:
    """Mean and inverted-CDF percentiles of values that occur ``weights`` times."""
    total = int(weights.sum())
    if total == 0:
        return quantiles(np.empty(0))
    order = np.argsort(values, kind="stable")
    values, cumulative = values[order], np.cumsum(weights[order])
    ranks = [max(1, int(np.ceil(q * total))) for q in QUANTILES.values()]
    points = values[np.searchsorted(cumulative, ranks)]
    mean = float(values @ weights[order]) / total
    return Quantiles(mean=mean, **dict(zip(QUANTILES, points.tolist(), strict=True)))


def pool_share(result: Result, over_s: float) -> PoolShare:
    """Shares of the pool over a time that encloses all segments; the rest of it is idle: free."""
    shares = {name: _slot_share(result, name, over_s) for name in CATEGORIES if name != "free"}
    return PoolShare(**shares, free=1.0 - sum(shares.values()))


def sharing_saved(result: Result) -> float:
    """Slots saved by sharing over the slots that requests would hold without, weighted by time.

    The PagedAttention paper, Fig. 15: blocks saved / blocks without sharing.
    """
    segments, duration_s = result.segments, result.segments["duration_s"]
    held = sum(segments[name] for name in ("token_states", "reserved", "internal"))
    saved_slot_s = float(segments["saved"] @ duration_s)
    without = float(held @ duration_s) + saved_slot_s
    return saved_slot_s / without if without > 0 else 0.0


def reject_reasons(result: Result) -> dict[str, int]:
    """How many requests were rejected, by reason."""
    reasons = result.requests["reject_reason"]
    return dict(sorted(Counter(reasons[reasons != ""].tolist()).items()))


def plain(value: object) -> object:
    """JSON values only: nine significant digits, NaN and infinity as None."""
    if isinstance(value, bool | str | int) or value is None:
        return value
    if isinstance(value, float):
        return float(f"{value:.{_SIGNIFICANT_DIGITS}g}") if isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    raise TypeError(f"{type(value).__name__} has no place in a summary")


def _dump(value: object) -> object:
    return asdict(value) if isinstance(value, Quantiles | PoolShare) else value


def _slot_share(result: Result, name: str, over_s: float) -> float:
    if over_s <= 0:
        return 0.0
    slot_s = float(result.segments[name] @ result.segments["duration_s"])
    return slot_s / (result.pool_slots * over_s)
