"""How sure the plan is: its figures as intervals, and whether the choice stands inside them.

Two inputs of the simulation are in doubt and have bands, the step times and the KV blocks; and the
trace is one of many that might have come. The winner and the runner-up are searched again at the
ends of the bands and on other traces of the same kind (``scenarios``), the same ones for both.

*The choice flips* where the runner-up is the better one at some end or in some draw. Of two servers
on one kind of GPU with one source of step times, an error of that source makes both slow or both
fast: they are compared end by end. On different GPUs, or with different sources, the measurements
behind the two are different ones and nothing ties their errors together: one may also be at its
worse end while the other is at its better one.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...traces import Trace
from ..job import Report
from ..slo import SLO
from .interval import Interval
from .judged import Judged, errors_are_common
from .option import Option
from .reached import beyond_profile
from .scenarios import enough_requests, run_scenarios, subject_of, traces_of
from .spread import Spread
from .tornado import Leverage, leverage

RUNS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Certainty:
    """One option's answer as intervals; None without a price, or without a target rate."""

    title: str
    rate_per_s: Interval
    """That one replica holds."""
    rate_by_traffic_per_s: Interval
    """The same, from other traffic alone: the bands at their base."""
    usd_per_million_output_tokens: Interval | None
    num_replicas: Interval | None
    usd_per_hour: Interval | None

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        intervals = {name: getattr(self, name) for name in _INTERVALS}
        return {
            "title": self.title,
            **{name: one and one.to_json() for name, one in intervals.items()},
        }


_INTERVALS = (
    "rate_per_s",
    "rate_by_traffic_per_s",
    "usd_per_million_output_tokens",
    "num_replicas",
    "usd_per_hour",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Confidence:
    """The winner's answer, the runner-up's, and how the choice between them stands."""

    winner: Certainty
    runner_up: Certainty | None
    num_runs: int
    num_lost: int
    """Runs in which the runner-up is the better one."""
    ends_lost: tuple[str, ...]
    """Ends of the bands at which it is."""
    common_mode: bool
    """An error of the step times hits both alike."""
    beyond: tuple[str, ...]
    """What of the winner's step times no measured shape surrounds, a sentence each."""
    leverage: Leverage
    """What the winner's answer hangs on."""
    seed: int
    num_requests: int
    """Of each run."""
    num_of: int
    """Of the trace."""

    @property
    def flips(self) -> bool:
        """Whether the runner-up is the better one somewhere inside what is not known."""
        return bool(self.num_lost or self.ends_lost)

    @property
    def first_line(self) -> str:
        """Of the report: how sure the choice is."""
        if self.runner_up is None:
            return f"There is nothing to choose: only {self.winner.title} holds the objective."
        if not self.flips:
            return (
                f"The choice is certain as far as is known: {self.winner.title} is better than "
                f"{self.runner_up.title} in all of {self.num_runs} runs and at every end of the "
                "bands."
            )
        where = []
        if self.num_lost:
            where.append(f"in {self.num_lost} of {self.num_runs} runs")
        if self.ends_lost:
            where.append(" and ".join(self.ends_lost))
        return (
            f"The choice is not certain: {self.runner_up.title} is better than {self.winner.title} "
            f"{', and '.join(where)}."
        )

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            "first_line": self.first_line,
            "flips": self.flips,
            "num_lost": self.num_lost,
            "num_runs": self.num_runs,
            "ends_lost": list(self.ends_lost),
            "common_mode": self.common_mode,
            "winner": self.winner.to_json(),
            "runner_up": None if self.runner_up is None else self.runner_up.to_json(),
            "beyond": list(self.beyond),
            "tornado": self.leverage.to_json(),
            "seed": self.seed,
            "num_requests": self.num_requests,
            "num_of": self.num_of,
        }


def confidence(
    winner: Option,
    runner_up: Option | None,
    trace: Trace,
    slo: SLO,
    *,
    target_rate_per_s: float | None = None,
    seed: int = 0,
    runs: int = RUNS,
    most_requests: int | None = None,
    jobs: int | None = None,
    report: Report | None = None,
) -> Confidence:
    """Run the winner and the runner-up where their inputs may stand in truth.

    Args:
        winner: what the plan has chosen; it holds a rate.
        runner_up: the next best; None where nothing else holds the objective.
        trace: with arrival times.
        slo: the objective.
        target_rate_per_s: of all replicas; without it one replica is judged by its price per token.
        seed: of the traces that might have come.
        runs: how many of them.
        most_requests: of each; by default as many as bring the servers into their stride.
        jobs: processes; the result is the same for any number.
        report: told about progress.

    Raises:
        ValueError: the winner holds no rate, fewer runs than none, or fewer than two requests.
    """
    options = [winner] if runner_up is None else [winner, runner_up]
    most = enough_requests(options) if most_requests is None else most_requests
    _check(winner, runs, most)
    traces = traces_of(trace, seed=seed, runs=runs, most_requests=most)
    subjects = [subject_of(option) for option in options]
    found = run_scenarios(subjects, traces, slo, title="how sure", jobs=jobs, report=report)
    judged = [
        Judged.of(option, one, shrink=traces.shrink, target_rate_per_s=target_rate_per_s)
        for option, one in zip(options, found, strict=True)
    ]
    common = runner_up is None or errors_are_common(winner.server, runner_up.server)
    num_lost, ends_lost = _losses(judged, common=common) if runner_up else (0, ())
    return Confidence(
        winner=_certainty(winner, judged[0]),
        runner_up=None if runner_up is None else _certainty(runner_up, judged[1]),
        num_runs=runs,
        num_lost=num_lost,
        ends_lost=ends_lost,
        common_mode=common,
        beyond=beyond_profile(winner, trace),
        leverage=leverage(
            winner, subjects[0], found[0], traces.base, slo, jobs=jobs, report=report
        ),
        seed=seed,
        num_requests=len(traces.base),
        num_of=len(trace),
    )


def _check(winner: Option, runs: int, most_requests: int) -> None:
    if winner.search.best is None:
        raise ValueError(f"winner(={winner.title!r}) must hold the objective at some rate.")
    if runs < 0:
        raise ValueError(f"runs(={runs}) must be >= 0.")
    if most_requests < 2:
        raise ValueError(f"most_requests(={most_requests}) must be > 1.")


def _certainty(option: Option, judged: Judged) -> Certainty:
    return Certainty(
        title=option.title,
        rate_per_s=judged.rates.interval,
        rate_by_traffic_per_s=judged.rates.by_traffic,
        usd_per_million_output_tokens=judged.usd_per_million,
        num_replicas=judged.replicas,
        usd_per_hour=judged.usd_per_hour,
    )


def _worse(spread: Spread) -> float:
    return spread.worse


def _better(spread: Spread) -> float:
    return spread.better


_ENDS = {
    "at the bands' worse end": (_worse, _worse),
    "at the bands' better end": (_better, _better),
}
"""Where the winner's bands stand, where the other one's."""
_OPPOSED = {
    "with its own bands at their better end and the other's at their worse": (_worse, _better),
    "with its own bands at their worse end and the other's at their better": (_better, _worse),
}


def _losses(judged: list[Judged], *, common: bool) -> tuple[int, tuple[str, ...]]:
    """In how many draws, and at which ends, the second is better than the first."""
    winner, other = judged
    num_lost = sum(
        other.is_better(winner, lambda spread, i=i: spread.draws[i])  # type: ignore[misc]
        for i in range(len(winner.rates.draws))
    )
    ends = _ENDS if common else {**_ENDS, **_OPPOSED}
    lost = [name for name, (mine, its) in ends.items() if other.is_better(winner, its, mine)]
    return num_lost, tuple(lost)
