"""One rate tried: the trace's arrivals so many times as dense, warm-up left out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import nan

import numpy as np

from ...traces import Trace
from ..job import Report, simulate_server
from ..result import CANCELLED, Result
from ..server import Server
from ..slo import SLO, latencies_of
from ..summary import plain

WARM_UP = 0.1
"""Share of the requests, the first ones, that are served and not counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What a server did at one request rate; latencies are at the objective's quantile."""

    rate_per_s: float
    """Requests offered a second."""
    attainment: float
    """Share of the counted requests that keep every limit."""
    goodput_per_s: float
    """Requests a second that keep every limit: the rate times the attainment."""
    holds: bool
    ttft_s: float
    tpot_s: float
    e2e_s: float
    output_tokens_per_s: float
    """At this rate: the rate times the mean output of what finishes."""
    mean_running: float
    num_preemptions: int
    memory_bound: float
    """Share of the time in which who waited, waited for memory."""
    seat_bound: float
    """Share of the time in which every seat was taken."""
    num_counted: int
    """Requests after the warm-up."""

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {name: plain(value) for name, value in asdict(self).items()}


def rate_of(trace: Trace) -> float:
    """Requests a second of a trace's own arrivals, over the time from its first to its last.

    Raises:
        ValueError: no arrival times, or all at one time.
    """
    times = trace.arrival_s
    if times is None:
        raise ValueError("trace has lengths only: give rate.")
    span_s = float(np.nanmax(times) - np.nanmin(times))
    if not span_s > 0:
        raise ValueError(f"trace(={trace.name!r}) arrives all at once and has no rate.")
    return (int((~np.isnan(times)).sum()) - 1) / span_s * len(trace) / int((~np.isnan(times)).sum())


def at_rate(trace: Trace, rate_per_s: float) -> Trace:
    """The same requests in the same pattern, so many a second."""
    return trace.speedup(rate_per_s / rate_of(trace))


def probe(
    server: Server,
    trace: Trace,
    rate_per_s: float,
    slo: SLO,
    *,
    title: str = "",
    report: Report | None = None,
) -> Probe:
    """Serve the trace at a rate.

    Args:
        server: what serves.
        trace: whose requests and pattern of arrivals are kept.
        rate_per_s: requests a second.
        slo: the objective.
        title: what to tell ``report``.
        report: told about progress.
    """
    result, _ = simulate_server(
        server, trace=at_rate(trace, rate_per_s), title=title, report=report
    )
    return judge(result, rate_per_s, slo, seats=server.deployment.limits.seats)


def judge(result: Result, rate_per_s: float, slo: SLO, *, seats: int) -> Probe:
    """The figures of a run at a rate."""
    count = len(result.status)
    counted = (np.arange(count) >= WARM_UP * count) & (result.status != CANCELLED)
    attained = slo.attained(result)[counted]
    attainment = float(attained.mean()) if attained.size else 0.0
    tails = {
        name: _quantile(values[counted], slo.quantile)
        for name, values in latencies_of(result).items()
    }
    segments = result.segments
    weight = segments["duration_s"] / max(float(segments["duration_s"].sum()), 1e-12)
    output = result.requests["generated_tokens"][counted]
    return Probe(
        rate_per_s=rate_per_s,
        attainment=attainment,
        goodput_per_s=rate_per_s * attainment,
        holds=attainment >= slo.quantile,
        **tails,
        output_tokens_per_s=rate_per_s * float(output.mean()) if output.size else 0.0,
        mean_running=float(segments["num_running"] @ weight),
        num_preemptions=int(result.requests["num_preemptions"].sum()),
        memory_bound=float(segments["blocked"] @ weight),
        seat_bound=float((segments["num_running"] >= seats) @ weight),
        num_counted=int(counted.sum()),
    )


def _quantile(values: np.ndarray, quantile: float) -> float:
    there = values[~np.isnan(values)]
    return float(np.quantile(there, quantile)) if there.size else nan
