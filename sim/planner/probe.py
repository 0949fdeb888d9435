"""One rate tried: the trace's arrivals so many times as dense, warm-up left out.

A rate *holds* when at least ``quantile`` of the counted requests keep every limit, and the server
keeps up: it admits its last request soon after the last arrival. Where it falls behind all the
time, the queue grows as long as the trace goes on, and what was kept would not last.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import ceil, nan

import numpy as np
from numpy.typing import NDArray

from ...traces import Trace
from ..job import Report
from ..result import CANCELLED, Result
from ..sequences import widths
from ..server import Server
from ..simulation import simulate
from ..slo import LIMITS, SLO, latencies_of
from ..summary import plain
from .early import Misses
from .extent import Extent, rate_of, whole
from .shapes import Shapes, shapes_of
from .spending import Spending, spending

WARM_UP = 0.1
"""Share of the requests, the first ones, that are not counted where nothing else is said."""
MOST_BEHIND = 0.05
"""Share of the run by which a server may be behind its arrivals at their end and keep up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What a server did at one request rate; latencies are at the objective's quantile."""

    rate_per_s: float
    """Requests offered a second."""
    attainment: float
    """Share of the counted requests that keep every limit; at most so many where stopped."""
    goodput_per_s: float
    """Requests a second that keep every limit: the rate times the attainment."""
    holds: bool
    ttft_s: float
    tpot_s: float
    e2e_s: float
    output_tokens_per_s: float
    """At this rate: the rate times the mean output of what finishes."""
    mean_running: float
    """While anything runs."""
    num_preemptions: int
    memory_bound: float
    """Share of the time in which who waited, waited for memory."""
    seat_bound: float
    """Share of the time in which every seat was taken."""
    num_counted: int
    """Requests after the warm-up, and before the batch drains."""
    num_left_out: int = 0
    """Requests before and after."""
    num_requests: int = 0
    """Served in all."""
    behind: float = 0.0
    """By how much admissions lagged at the last arrival, of the arrivals' time."""
    keeps_up: bool = True
    """Not behind by more than :data:`MOST_BEHIND`."""
    confirms: bool = False
    """Of the longer run."""
    stopped: bool = False
    """Ended once the objective was lost; the figures are of what had been served by then."""
    spending: Spending | None = None
    """What the time went into."""
    shapes: Shapes | None = None
    """The largest batches, whole runs only."""

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        left_out = ("shapes", "spending")
        shown = {name: plain(value) for name, value in asdict(self).items() if name not in left_out}
        return shown | {"spending": self.spending and self.spending.to_json()}

    def missed(self, slo: SLO) -> tuple[str, float, float] | None:
        """The limit that is exceeded by most: its name, the latency and the limit, seconds."""
        over = [
            (value / limit, name, value, limit)
            for name in LIMITS
            if (limit := getattr(slo, name)) is not None
            and (value := getattr(self, name)) == value
            and value > limit
        ]
        return max(over)[1:] if over else None


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
    """Serve the whole trace at a rate.

    Args:
        server: what serves.
        trace: whose requests and pattern of arrivals are kept.
        rate_per_s: requests a second.
        slo: the objective.
        title: what to tell ``report``.
        report: told about progress.
    """
    every = whole(trace, warm_up=ceil(WARM_UP * len(trace)))
    return probe_extent(server, every, rate_per_s, slo=slo, title=title, report=report)


def probe_extent(
    server: Server,
    extent: Extent,
    rate_per_s: float,
    *,
    slo: SLO,
    confirms: bool = False,
    stop_early: bool = False,
    title: str = "",
    report: Report | None = None,
) -> Probe:
    """Serve a part of a trace, or several turns of it, at a rate.

    Args:
        server: what serves.
        extent: which requests, and which of them count.
        rate_per_s: requests a second.
        slo: the objective.
        confirms: whether it is the longer run.
        stop_early: end the run once the objective is lost.
        title: what to tell ``report``.
        report: told about progress.
    """
    trace, total = extent.at_rate(rate_per_s), len(extent.trace)
    misses = None
    if stop_early and widths(trace) is None:
        misses = Misses(slo=slo, counted=extent.counted.tolist())
    result = simulate(
        trace,
        deployment=server.deployment,
        cost=server.cost,
        num_gpu_blocks=server.num_gpu_blocks,
        progress=None if report is None else lambda done: report(title, done, total),
        on_done=misses,
        moves=server.moves,
    )
    lost = misses is not None and misses.count > misses.most
    found = judge(
        result,
        rate_per_s,
        slo,
        server=server,
        extent=extent,
        confirms=confirms,
        most=misses.count if lost and misses is not None else None,
    )
    return found


def judge(
    result: Result,
    rate_per_s: float,
    slo: SLO,
    *,
    server: Server,
    extent: Extent,
    confirms: bool = False,
    most: int | None = None,
) -> Probe:
    """The figures of a run at a rate; ``most``: it was stopped after so many misses."""
    counted = extent.counted & (result.status != CANCELLED)
    num_counted = int(counted.sum())
    kept = int(slo.attained(result)[counted].sum()) if most is None else num_counted - most
    attainment = kept / num_counted if num_counted else 0.0
    tails = {
        name: _quantile(values[counted], slo.quantile)
        for name, values in latencies_of(result).items()
    }
    segments = result.segments
    there = np.where(segments["num_running"] > 0, segments["duration_s"], 0.0)
    weight = there / max(float(there.sum()), 1e-12)
    done = counted & ~np.isnan(result.requests["finish_s"])
    output = result.requests["generated_tokens"][counted if most is None else done]
    lag = _behind(result, extent.piece)
    keeps_up = lag <= MOST_BEHIND
    return Probe(
        rate_per_s=rate_per_s,
        attainment=attainment,
        goodput_per_s=rate_per_s * attainment,
        holds=most is None and attainment >= slo.quantile and keeps_up,
        **tails,
        output_tokens_per_s=rate_per_s * float(output.mean()) if output.size else 0.0,
        mean_running=float(segments["num_running"] @ weight),
        num_preemptions=int(result.requests["num_preemptions"].sum()),
        memory_bound=float(segments["blocked"] @ weight),
        seat_bound=float((segments["num_running"] >= server.deployment.limits.seats) @ weight),
        num_counted=num_counted,
        num_left_out=int((~extent.counted).sum()),
        num_requests=len(counted),
        behind=lag,
        keeps_up=keeps_up,
        confirms=confirms,
        stopped=most is not None,
        spending=spending(result, server),
        shapes=shapes_of(result, server) if most is None else None,
    )


def _behind(result: Result, piece: NDArray[np.int64]) -> float:
    """How long after the last arrival the last request is admitted, over the arrivals' time."""
    requests = result.requests
    arrival_s, scheduled_s = requests["arrival_s"], requests["scheduled_s"]
    there = ~np.isnan(arrival_s) & ~np.isnan(scheduled_s)
    lag_s = span_s = 0.0
    for number in np.unique(piece[there]):
        rows = there & (piece == number)
        last_s = float(arrival_s[rows].max())
        span_s += last_s - float(arrival_s[rows].min())
        lag_s += float(scheduled_s[rows].max()) - last_s
    return lag_s / span_s if span_s > 0 else 0.0


def _quantile(values: np.ndarray, quantile: float) -> float:
    there = values[~np.isnan(values)]
    return float(np.quantile(there, quantile)) if there.size else nan
