"""What rows run: saturated replays without a clock, runs at a rate, the search for a rate.

Normalised latency is the PagedAttention paper's: the mean over requests of end-to-end latency over
output tokens (section 6.1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from ...calibration.affine import AffineCost
from ...traces import Trace
from ...traces.workload import Workload
from ..backlog import Backlog, measure
from ..job import simulate_server
from ..result import FINISHED, Result
from ..saturated import saturate
from ..server import Server
from ..simulation import simulate
from ..summary import Summary
from .setup import (
    LATENCY_LEVEL_S,
    NO_LIMIT,
    OPT_13B,
    RATE_STEP,
    Machine,
    Setting,
    lengths,
    poisson_trace,
    server_of,
)

_STEP_S = 0.02
_MOST_ROUNDS = 24


@cache
def saturated(workload: str | Workload, system: str, *, num_requests: int = 4_000) -> Backlog:
    """OPT-13B with a queue that never empties, every step of one length: no timing model.

    What is compared is the allocator.
    """
    server = server_of(OPT_13B, system)
    result = simulate(
        lengths(workload, num_requests).backlog(),
        deployment=server.deployment,
        cost=AffineCost(base_s=_STEP_S),
        num_gpu_blocks=server.num_gpu_blocks,
    )
    return measure(result, seats=NO_LIMIT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run at a rate."""

    rate_per_s: float
    normalised_latency_s: float
    mean_running: float
    """While requests arrive."""
    summary: Summary


def run_at(server: Server, trace: Trace, rate_per_s: float) -> Run:
    """Replay a trace that arrives at this rate."""
    result, summary = simulate_server(server, trace=trace)
    return Run(
        rate_per_s=rate_per_s,
        normalised_latency_s=normalised_latency_s(result),
        mean_running=running_while_arriving(result),
        summary=summary,
    )


def normalised_latency_s(result: Result) -> float:
    """Mean of end-to-end latency over output tokens, of the finished requests."""
    requests, done = result.requests, result.status == FINISHED
    e2e = requests["finish_s"][done] - requests["arrival_s"][done]
    return float(np.mean(e2e / requests["output_tokens"][done]))


def running_while_arriving(result: Result) -> float:
    """Mean number of running requests from the first arrival to the last."""
    arrival = result.requests["arrival_s"]
    begin, end = float(np.nanmin(arrival)), float(np.nanmax(arrival))
    segments = result.segments
    starts = segments["start_s"]
    ends = starts + segments["duration_s"]
    weight = np.clip(np.minimum(ends, end) - np.maximum(starts, begin), 0.0, None)
    return float(segments["num_running"] @ weight) / (end - begin)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sustained:
    """The highest rate below the level, and the runs that the search made."""

    rate_per_s: float
    runs: tuple[Run, ...]
    """By rate."""


def sustained(
    server: Server,
    workload: str | Workload,
    *,
    machine: Machine,
    setting: Setting,
    dressed: Callable[[Trace], Trace] | None = None,
) -> Sustained:
    """Bisect the rate at which the normalised latency crosses the level.

    Args:
        server: one system.
        workload: lengths of the requests.
        machine: whose traces are that long.
        setting: quick or full.
        dressed: adds what lengths do not say, samples or beams.
    """
    runs: dict[float, Run] = {}

    def late(rate: float) -> bool:
        trace = poisson_trace(workload, rate, machine, setting)
        run = runs[rate] = run_at(server, trace if dressed is None else dressed(trace), rate)
        return run.normalised_latency_s > LATENCY_LEVEL_S

    few = lengths(workload, 1_000)
    _, backlog = saturate(server, few if dressed is None else dressed(few), num_requests=2_000)
    low = high = backlog.requests_per_s
    if late(low):
        while late(low := low / 1.15):
            high = low
    else:
        while not late(high := high * 1.15):
            low = high
    for _ in range(_MOST_ROUNDS):
        if high / low <= RATE_STEP:
            break
        middle = (low * high) ** 0.5
        low, high = (low, middle) if late(middle) else (middle, high)
    return Sustained(
        rate_per_s=(low * high) ** 0.5, runs=tuple(runs[rate] for rate in sorted(runs))
    )
