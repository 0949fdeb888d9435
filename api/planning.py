"""What to deploy for a trace: candidates, report, the server's command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..calibration.names import unknown_name
from ..sim.plan import Plan
from ..sim.planner.decision import Decision, usd_per_million
from ..sim.planner.grid import Grid, grid_of
from ..sim.planner.planned import make_planned
from ..sim.planner.question import question_of
from ..sim.slo import SLO
from ..traces.intake import Taken
from ..traces.trace import Trace
from .deployment import Deployment

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

LIMIT_NAMES = ("ttft", "tpot", "e2e")


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
    def decision(self) -> Decision | None:
        """Which server and why; None where nothing was to be decided."""
        return self.plan.decision

    @property
    def options(self) -> DataFrame:
        """A row per server that was tried: rate held, replicas, GPUs, cost, why it was not taken.

        Raises:
            ValueError: nothing was to be decided.
        """
        import pandas

        found = self.plan.decision
        if found is None:
            raise ValueError("options needs slo, choices, target_rate_per_s or what_if.")
        reasons = {one.title: one.reason for one in found.losers}
        rows = [
            {
                "option": one.title,
                "rate_per_s": one.search.rate_per_s,
                "num_replicas": one.num_replicas,
                "num_gpus": one.num_gpus,
                "usd_per_hour": one.usd_per_hour,
                "usd_per_million_output_tokens": usd_per_million(one, found.target_rate_per_s),
                "why_not": reasons.get(one.title, ""),
            }
            for one in found.options
        ]
        return pandas.DataFrame(rows).set_index("option")

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
    slo: SLO | None = None,
    choices: Mapping[str, Sequence[Any]] | None = None,
    target_rate_per_s: float | None = None,
    max_gpus: int | None = None,
    tune: bool = False,
    what_if: Sequence[str] = (),
    confidence_runs: int | None = None,
    concurrency: int | None = None,
    seed: int = 0,
) -> Planned:
    """Plan a server for a trace; with an objective, a target or choices also decide which.

    Args:
        trace: of :func:`read_trace`; where it has lengths only, arrivals are drawn.
        deployment: the server; by default Llama-3.1-8B on an A100 as vLLM would run it.
        slo: the objective; where something else asks for a decision, TTFT 2 s and TPOT 50 ms for
            95 % of the requests are assumed.
        choices: fields of the deployment with several values each, every combination of which is
            tried: ``{"gpu": ["a100", "h200"], "block_size": [16, 32]}``.
        target_rate_per_s: requests a second to be carried; by default the trace's own.
        max_gpus: most GPUs of all replicas together.
        tune: search the flags of the best server one after another.
        what_if: changes to weigh, as ``kvsim plan --what-if``: ``"kv_cache_dtype=fp8"``.
        confidence_runs: traces that might have come instead (20); 0: none.
        concurrency: closed loop: so many clients, the trace's times are not used.
        seed: of arrivals that are drawn, and of other traces.

    Raises:
        ValueError: as :func:`simulate`; an unknown choice, or what excludes each other.
    """
    grid = _grid(deployment or Deployment(), choices or {})
    given = "" if trace.arrival_s is None else "the trace's own times"
    words = given if concurrency is None else f"closed loop, {concurrency} clients"
    taken = Taken(trace=trace, origin=trace.name, arrivals=words)
    asked = {
        **({} if slo is None else {f"slo_{name}": _words(slo, name) for name in LIMIT_NAMES}),
        "quantile": slo and slo.quantile,
        "target_rate": target_rate_per_s,
        "max_gpus": max_gpus,
        "tune": tune,
        "what_if": tuple(what_if),
        "confidence_runs": confidence_runs,
    }
    question = question_of(
        asked,
        grid,
        taken,
        concurrency=concurrency,
    )
    return Planned(plan=make_planned(grid, taken, question, seed=seed, concurrency=concurrency))


def _words(slo: SLO, name: str) -> str | None:
    """A limit as the command line takes it."""
    limit_s = getattr(slo, f"{name}_s")
    return None if limit_s is None else f"{limit_s:.9f}"


def _grid(deployment: Deployment, choices: Mapping[str, Sequence[Any]]) -> Grid:
    spec = deployment.spec
    for name, values in choices.items():
        if name not in {**spec.hardware, **spec.flags} or name == "price":
            raise unknown_name(name, [*spec.hardware, *spec.flags], field="choice")
        if isinstance(values, str) or not len(values):
            raise ValueError(f"choices[{name!r}](={values!r}) must be a list of values.")
    several = {name: tuple(values) for name, values in choices.items()}
    hardware = {n: several.get(n, value) for n, value in spec.hardware.items()}
    return grid_of(hardware, {n: several.get(n, value) for n, value in spec.flags.items()})
