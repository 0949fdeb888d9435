"""Statistics of a trace, with the keys and rounding that scripts hold on to (`trace stats --json`).

Lengths: mean to 2 digits; percentiles by linear interpolation. Arrivals, over the requests that
have a time of their own: rate = n / span; bins of 1 s and 60 s start at time 0; `cv_interarrival`
is the population standard deviation over the mean of the gaps (1 for Poisson); `disp_1s` the
variance over the mean of the numbers of arrivals in 1-second bins (1 for Poisson). Ratios without
a denominator are null.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .columns import Floats, Ints
from .prefix_links import link_stats
from .prefix_stats import DEFAULT_CAPACITIES, prefix_stats
from .trace import Trace


def trace_stats(trace: Trace, *, capacities: Sequence[int] = DEFAULT_CAPACITIES) -> dict[str, Any]:
    """Counts, lengths, arrivals (where timed) and prefix hits (where ids or links tell them).

    `capacities` are the LRU cache sizes, in prefix blocks, that prefix hits are counted for.
    """
    stats: dict[str, Any] = {
        "requests": len(trace),
        "input": length_stats(trace.prompt_tokens),
        "output": length_stats(trace.output_tokens),
        "sum_in": int(trace.prompt_tokens.sum()),
        "sum_out": int(trace.output_tokens.sum()),
        "max_in_plus_out": int((trace.prompt_tokens + trace.output_tokens).max()),
    }
    if trace.arrival_s is not None:
        times_s = trace.arrival_s[~np.isnan(trace.arrival_s)]
        stats["arrivals"] = arrival_stats(times_s, trace.num_out_of_order)
    if trace.hash_ids is not None:
        stats["prefix"] = prefix_stats(trace, capacities)
    if trace.prefix_tokens is not None:
        stats["prefix_links"] = link_stats(trace.prompt_tokens, trace.prefix_tokens)
    return stats


def length_stats(tokens: Ints) -> dict[str, float]:
    """mean, min, p50, p90, p99, max of a column of token counts."""
    p50, p90, p99 = np.percentile(tokens, (50, 90, 99)).tolist()
    return {
        "mean": round(float(tokens.mean()), 2),
        "min": float(tokens.min()),
        "p50": p50,
        "p90": p90,
        "p99": p99,
        "max": float(tokens.max()),
    }


def arrival_stats(times_s: Floats, num_out_of_order: int = 0) -> dict[str, Any]:
    """Span, rate, peaks and burstiness of ascending arrival times (s), at least one."""
    span_s = float(times_s[-1] - times_s[0])
    gaps_s = np.diff(times_s)
    num_distinct = len(np.unique(times_s))
    per_second = _bins(times_s, 1.0)
    return {
        "span_s": round(span_s, 3),
        "rate_mean": _ratio(len(times_s), span_s, 4),
        "peak_1s": int(per_second.max()),
        "peak_60s_avg": round(float(_bins(times_s, 60.0).max()) / 60, 3),
        "cv_interarrival": _ratio(_std(gaps_s), _mean(gaps_s), 3),
        "disp_1s": _ratio(float(per_second.var()), float(per_second.mean()), 3),
        "out_of_order": num_out_of_order,
        "equal_ts": len(times_s) - num_distinct,
        "distinct_ts": num_distinct,
        "max_gap_s": round(float(gaps_s.max()), 3) if len(gaps_s) else None,
    }


def _bins(times_s: Floats, width_s: float) -> Ints:
    """Arrivals in each bin from the first arrival's to the last one's."""
    numbers = np.floor(times_s / width_s).astype(np.int64)
    return np.bincount(numbers - numbers[0])


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else 0.0


def _std(values: Floats) -> float:
    return float(values.std()) if len(values) else 0.0


def _ratio(over: float, under: float, digits: int) -> float | None:
    return round(over / under, digits) if under else None
