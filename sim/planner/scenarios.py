"""The same search for the same server where its inputs stand otherwise.

A *subject* is a server with the rate at which to begin. It is searched

- on the trace as it came (``base``), with both bands at their worse ends (slow clock, few blocks)
  and at their better ends,
- on ``runs`` traces that might have come instead (``traces.bootstrap``).

All subjects are searched on the same traces (common random numbers), so that what differs between
two of them is the servers. Long traces are thinned to keep this short; a spread seen over ``m`` of
``n`` requests is scaled by ``sqrt(m / n)``, as for a mean of weakly dependent requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import sqrt

import numpy as np

from ...traces import Trace
from ...traces.bootstrap import resampled, thinned, with_burstiness
from ..job import Report
from ..parallel import Task, run_each
from ..sensitivity import block_band, clock_band_at
from ..server import Server
from ..slo import SLO
from ..variants import with_blocks, with_clock, with_outputs, with_prompts
from .nearby import Held, rate_near

MOST_REQUESTS = 1_000
"""Of each trace that is drawn."""
WORSE, BETTER = "worse", "better"


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """How the trace is changed before it is served; relative."""

    outputs: float = 1.0
    prompts: float = 1.0
    burstiness: float = 1.0
    """Exponent of the gaps."""

    def of(self, trace: Trace, *, max_model_len: int) -> Trace:
        """The trace so changed."""
        trace = with_outputs(trace, self.outputs, max_model_len=max_model_len)
        trace = with_prompts(trace, self.prompts, max_model_len=max_model_len)
        return trace if self.burstiness == 1.0 else with_burstiness(trace, self.burstiness)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A server to be searched, from what is known of it or of one like it."""

    title: str
    server: Server
    near_per_s: float
    """The rate that it holds, or about that."""
    saturated_per_s: float
    """Under backlog, or about that."""
    mean_running: float
    """At the rate that it holds: the batch whose band is taken."""
    traffic: Traffic = Traffic()


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """The trace, thinned, and others that might have come instead."""

    base: Trace
    draws: tuple[Trace, ...]
    shrink: float
    """What a spread over the draws is raised to, on a logarithmic scale: ``sqrt(m / n)``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """What a subject holds in each scenario."""

    base: Held
    worse: Held
    better: Held
    draws: tuple[Held, ...]


def traces_of(trace: Trace, *, seed: int, runs: int, most_requests: int = MOST_REQUESTS) -> Traces:
    """The traces of all scenarios: a stream for lengths and one for arrivals in each run."""
    purposes = np.random.SeedSequence(seed).spawn(2)
    streams = zip(*(purpose.spawn(runs) for purpose in purposes), strict=True)
    base = thinned(trace, most_requests)
    draws = tuple(
        resampled(
            trace,
            lengths=np.random.default_rng(lengths),
            arrivals=np.random.default_rng(arrivals),
            num_requests=len(base),
        )
        for lengths, arrivals in streams
    )
    return Traces(base=base, draws=draws, shrink=sqrt(len(base) / len(trace)))


def run_scenarios(
    subjects: Sequence[Subject],
    traces: Traces,
    slo: SLO,
    *,
    jobs: int | None = None,
    report: Report | None = None,
) -> list[Runs]:
    """Search every subject in every scenario, over the cores.

    Args:
        subjects: to be compared with each other.
        traces: the same for all.
        slo: the objective.
        jobs: processes.
        report: told about progress.
    """
    tasks: list[Task[Held]] = []
    for subject in subjects:
        here = partial(held_by, subject, slo)
        tasks.append((f"{subject.title}, as it came", partial(here, subject.server, traces.base)))
        for end, server in ends_of(subject, traces.base).items():
            tasks.append((f"{subject.title}, {end} end", partial(here, server, traces.base)))
        for number, draw in enumerate(traces.draws, 1):
            tasks.append((f"{subject.title}, draw {number}", partial(here, subject.server, draw)))
    found = iter(run_each(tasks, title="how sure", jobs=jobs, report=report))
    return [
        Runs(
            base=next(found),
            worse=next(found),
            better=next(found),
            draws=tuple(next(found) for _ in traces.draws),
        )
        for _ in subjects
    ]


def ends_of(subject: Subject, trace: Trace) -> dict[str, Server]:
    """The server with both bands at their worse ends, and at their better ends."""
    server = subject.server
    band = clock_band_at(server, trace, subject.mean_running)
    few, many = block_band(server)
    return {
        WORSE: with_clock(with_blocks(server, few), band.high),
        BETTER: with_clock(with_blocks(server, many), band.low),
    }


def held_by(
    subject: Subject,
    slo: SLO,
    server: Server,
    trace: Trace,
    traffic: Traffic | None = None,
) -> Held:
    """What the server holds of the trace, searched from what is known of the subject."""
    changed = subject.traffic if traffic is None else traffic
    return rate_near(
        server,
        changed.of(trace, max_model_len=server.deployment.max_model_len),
        slo,
        near_per_s=subject.near_per_s,
        saturated_per_s=subject.saturated_per_s,
    )
