"""One server, one trace: what happened, as tables and figures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..sim.candidate import Candidate
from ..sim.ignored import ignored
from ..sim.job import simulate_server
from ..sim.plan import Plan
from ..sim.result import Result
from ..sim.server import Server
from ..sim.slo import SLO, latencies_of
from ..sim.store import write_result
from ..sim.summary import Summary
from ..traces.trace import Trace
from .deployment import Deployment
from .frames import frame

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

FIGURES = ("concurrency", "kv-occupancy", "latency", "latency-cdf", "memory-budget")
"""Of :meth:`Simulation.figure`."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Simulation:
    """One simulated server."""

    deployment: Deployment
    server: Server
    """What the engine makes of it: pool, limits, clock."""
    trace: Trace
    result: Result
    summary: Summary
    notes: tuple[str, ...]
    """What a reader should know of the server and the run."""

    @property
    def requests(self) -> DataFrame:
        """A row per request, by ``index``: times in seconds, tokens, status, and its latencies
        ``ttft_s``, ``tpot_s`` (NaN for outputs of one token) and ``e2e_s``."""
        columns = {**self.result.requests, **latencies_of(self.result)}
        return frame(columns, index="index")

    @property
    def occupancy(self) -> DataFrame:
        """A row per run of steps: where the slots of the pool went, who ran, who waited."""
        return frame(self.result.segments)

    @property
    def phases(self) -> DataFrame:
        """What each request went through: ``index``, ``phase``, ``start_s``, ``end_s``."""
        return frame(self.result.phases)

    def attainment(self, slo: SLO) -> float:
        """Share of the requests that keep every limit."""
        return float(slo.attained(self.result).mean())

    def figure(self, name: str = "kv-occupancy") -> Figure:
        """A matplotlib figure: one of :data:`FIGURES`.

        Raises:
            ValueError: an unknown name, or a run with nothing to draw.
        """
        from ..calibration.names import unknown_name
        from ..reports.figures import FIGURES as BUILDERS
        from ..reports.style import fresh

        if name not in FIGURES:
            raise unknown_name(name, FIGURES, field="figure")
        with fresh():
            picture = BUILDERS[name](self._alone)
        if picture is None:
            raise ValueError(f"figure(={name!r}) needs a request that finished.")
        return picture.figure

    def save(self, directory: str | Path, *, force: bool = False) -> list[Path]:
        """Write what ``kvsim simulate --out`` writes, for ``kvsim compare``; returns the paths.

        Raises:
            ValueError: the folder cannot be written to, or holds files that kvsim did not write.
        """
        return write_result(self.result, self.summary, directory, force=force)

    @property
    def _alone(self) -> Plan:
        """A plan of this server only, which is what figures are drawn of."""
        server = self.server
        only = Candidate(
            server=server,
            summary=self.summary,
            result=self.result,
            backlog=None,
            memory_backlog=None,
        )
        return Plan(
            model=server.model,
            gpu=server.gpu,
            budget=server.budget,
            trace=self.trace,
            origin=self.trace.name,
            arrivals="",
            chosen=only,
            baselines=(),
            assumptions=(),
            notes=self.notes,
        )


def simulate(
    trace: Trace, deployment: Deployment | None = None, *, concurrency: int | None = None
) -> Simulation:
    """Replay a trace through one server.

    Args:
        trace: of :func:`read_trace`; lengths alone are enough with ``concurrency``.
        deployment: the server; by default Llama-3.1-8B on an A100 as vLLM would run it.
        concurrency: closed loop: so many clients, the trace's times are not used.

    Raises:
        ValueError: a flag out of range, a model that does not fit, no arrival times; the sentence
            says which.
    """
    deployment = deployment or Deployment()
    server = deployment.spec.server(trace)
    result, summary = simulate_server(server, trace=trace, concurrency=concurrency)
    left_out = ignored(trace, server.deployment, concurrency=concurrency)
    return Simulation(
        deployment=deployment,
        server=server,
        trace=trace,
        result=result,
        summary=summary,
        notes=(*server.notes, *trace.notes, *left_out),
    )
