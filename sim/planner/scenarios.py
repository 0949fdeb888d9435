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
from dataclasses import dataclass, replace
from functools import partial
from math import ceil, sqrt

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
from .option import Option

LEAST_REQUESTS, TURNOVERS = 500, 6
"""Of each trace that is drawn, at least: alone, and in requests that run at once."""
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


AS_IT_CAME = Traffic()


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
    traffic: Traffic = AS_IT_CAME

    def at(self, *, clock: float = 1.0, blocks: int | None = None) -> Subject:
        """With steps so many times as long, and another pool."""
        server = self.server if blocks is None else with_blocks(self.server, blocks)
        return replace(
            self,
            server=with_clock(server, clock),
            near_per_s=self.near_per_s / clock,
            saturated_per_s=self.saturated_per_s / clock,
        )


def subject_of(option: Option) -> Subject:
    """An option as the scenarios take it."""
    best = option.search.best
    return Subject(
        title=option.title,
        server=option.server,
        near_per_s=option.search.rate_per_s or option.search.saturated_per_s,
        saturated_per_s=option.search.saturated_per_s,
        mean_running=1.0 if best is None else best.mean_running,
    )


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


def enough_requests(options: Sequence[Option]) -> int:
    """Requests of a run that bring every option into its stride."""
    running = [0.0 if one.search.best is None else one.search.best.mean_running for one in options]
    return max(LEAST_REQUESTS, ceil(TURNOVERS * max(running, default=0.0)))


def traces_of(trace: Trace, *, seed: int, runs: int, most_requests: int) -> Traces:
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
    title: str,
    jobs: int | None = None,
    report: Report | None = None,
) -> list[Runs]:
    """Search every subject in every scenario, over the cores.

    Args:
        subjects: to be compared with each other.
        traces: the same for all.
        slo: the objective.
        title: of all of it, for ``report``.
        jobs: processes.
        report: told about progress.
    """
    tasks: list[Task[Held]] = []
    for subject in subjects:
        ends = ends_of(subject, traces.base)
        here = [
            ("as it came", subject, traces.base),
            *((f"{end} end", at_end, traces.base) for end, at_end in ends.items()),
            *((f"draw {i}", subject, draw) for i, draw in enumerate(traces.draws, 1)),
        ]
        for name, one, trace in here:
            tasks.append((f"{subject.title}, {name}", partial(held_by, one, slo, trace)))
    found = iter(run_each(tasks, title=title, jobs=jobs, report=report))
    return [
        Runs(
            base=next(found),
            worse=next(found),
            better=next(found),
            draws=tuple(next(found) for _ in traces.draws),
        )
        for _ in subjects
    ]


def ends_of(subject: Subject, trace: Trace) -> dict[str, Subject]:
    """With both bands at their worse ends, and at their better ends."""
    band = clock_band_at(subject.server, trace, subject.mean_running)
    few, many = block_band(subject.server)
    return {
        WORSE: subject.at(clock=band.high, blocks=few),
        BETTER: subject.at(clock=band.low, blocks=many),
    }


def held_by(subject: Subject, slo: SLO, trace: Trace) -> Held:
    """What a subject holds of the trace, searched from what is known of it."""
    server = subject.server
    return rate_near(
        server,
        subject.traffic.of(trace, max_model_len=server.deployment.max_model_len),
        slo,
        near_per_s=subject.near_per_s,
        saturated_per_s=subject.saturated_per_s,
    )
