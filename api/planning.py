"""What to deploy for a trace: candidates, report, the server's command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..sim.plan import Plan, make_plan, with_default_arrivals
from ..traces.intake import Taken
from ..traces.trace import Trace
from .deployment import Deployment

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Planned:
    """A plan with its tables and figures."""

    plan: Plan

    @property
    def candidates(self) -> DataFrame:
        """A row per allocator, paged first: requests at once, rates, latencies, shares, cost."""
        import pandas

        rows = []
        for one in self.plan.candidates:
            backlog, summary = one.backlog, one.summary
            rows.append(
                {
                    "candidate": one.title,
                    "running_under_backlog": backlog and backlog.mean_running,
                    "requests_per_s_under_backlog": backlog and backlog.requests_per_s,
                    "output_tokens_per_s_under_backlog": backlog and backlog.output_tokens_per_s,
                    "bound_by": one.bound_by,
                    "ttft_p95_s": summary.ttft_s.p95,
                    "tpot_p95_s": summary.tpot_s.p95,
                    "effective_kv_utilisation": summary.effective_kv_utilisation,
                    "usd_per_million_output_tokens": one.usd_per_million_output_tokens,
                }
            )
        return pandas.DataFrame(rows).set_index("candidate")

    @property
    def serve_command(self) -> str:
        """The ``vllm serve`` line to paste."""
        return self.plan.serve_command

    def figures(self) -> dict[str, Figure]:
        """Every figure of the report, by name, in the order of the page."""
        from ..reports.figures import plan_pictures
        from ..reports.style import fresh

        with fresh():
            return {picture.name: picture.figure for picture in plan_pictures(self.plan)}

    def to_json(self) -> dict[str, object]:
        """What ``plan.json`` holds."""
        return self.plan.to_json()

    def save(self, directory: str | Path, *, force: bool = False) -> list[Path]:
        """Write the capacity report; returns the paths, ``report.html`` first.

        Raises:
            ValueError: the folder cannot be written to, or holds files that kvsim did not write.
        """
        from ..reports.write import write_plan

        return write_plan(self.plan, directory, force=force)


def plan(
    trace: Trace,
    deployment: Deployment | None = None,
    *,
    concurrency: int | None = None,
    seed: int = 0,
) -> Planned:
    """Plan a server for a trace.

    Args:
        trace: of :func:`read_trace`; where it has lengths only, arrivals are drawn.
        deployment: the server; by default Llama-3.1-8B on an A100 as vLLM would run it.
        concurrency: closed loop: so many clients, the trace's times are not used.
        seed: of arrivals that are drawn.

    Raises:
        ValueError: as :func:`simulate`.
    """
    server = (deployment or Deployment()).spec.server(trace)
    given = "" if trace.arrival_s is None else "the trace's own times"
    words = given if concurrency is None else f"closed loop, {concurrency} clients"
    taken = Taken(trace=trace, origin=trace.name, arrivals=words)
    if not words:
        taken = with_default_arrivals(server, taken, seed=seed)
    return Planned(plan=make_plan(server, taken=taken, concurrency=concurrency))
