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

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, inf

from ...traces import Trace
from ..job import Report
from ..slo import SLO
from .interval import Interval
from .option import Option
from .reached import beyond_profile
from .scenarios import MOST_REQUESTS, Runs, Subject, run_scenarios, traces_of
from .spread import Spread, rate, spread_of, tokens
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
    most_requests: int = MOST_REQUESTS,
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
        most_requests: of each.
        jobs: processes; the result is the same for any number.
        report: told about progress.

    Raises:
        ValueError: the winner holds no rate, fewer runs than none, or fewer than two requests.
    """
    _check(winner, runs, most_requests)
    traces = traces_of(trace, seed=seed, runs=runs, most_requests=most_requests)
    options = [winner] if runner_up is None else [winner, runner_up]
    subjects = [subject_of(option) for option in options]
    found = run_scenarios(subjects, traces, slo, jobs=jobs, report=report)
    judged = [
        _Judged(option, one, traces.shrink, target_rate_per_s)
        for option, one in zip(options, found, strict=True)
    ]
    common = runner_up is None or errors_are_common(winner, runner_up)
    num_lost, ends_lost = _losses(judged, common=common) if runner_up else (0, ())
    return Confidence(
        winner=judged[0].certainty(),
        runner_up=judged[1].certainty() if runner_up else None,
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


def errors_are_common(one: Option, other: Option) -> bool:
    """Whether both rest on the same measurements: the kind of GPU and the source of step times."""
    servers = one.server, other.server
    gpus = {server.gpu.name for server in servers}
    return len(gpus) == 1 and len({server.cost.source for server in servers}) == 1


def _check(winner: Option, runs: int, most_requests: int) -> None:
    if winner.search.best is None:
        raise ValueError(f"winner(={winner.title!r}) must hold the objective at some rate.")
    if runs < 0:
        raise ValueError(f"runs(={runs}) must be >= 0.")
    if most_requests < 2:
        raise ValueError(f"most_requests(={most_requests}) must be > 1.")


class _Judged:
    """An option with its runs, and what it costs where they stand."""

    def __init__(self, option: Option, runs: Runs, shrink: float, target: float | None) -> None:
        best = option.search.best
        self._option, self._target = option, target
        self.rates = spread_of(option.search.rate_per_s, runs, rate, shrink=shrink)
        produced = 0.0 if best is None else best.output_tokens_per_s
        self.tokens = spread_of(produced, runs, tokens, shrink=shrink)

    @property
    def _usd_per_hour(self) -> float | None:
        """Of one replica."""
        price = self._option.server.gpu.price_usd_per_hour
        return None if price is None else price * self._option.server.deployment.num_gpus

    def certainty(self) -> Certainty:
        rates, price = self.rates.interval, self._usd_per_hour
        replicas = None if self._target is None else _falling(rates, self._replicas)
        return Certainty(
            title=self._option.title,
            rate_per_s=rates,
            rate_by_traffic_per_s=self.rates.by_traffic,
            usd_per_million_output_tokens=(
                None if price is None else _falling(self.tokens.interval, self._per_million)
            ),
            num_replicas=replicas,
            usd_per_hour=None if replicas is None or price is None else replicas.times(price),
        )

    def key(self, scenario: Callable[[Spread], float]) -> tuple[float, float, float]:
        """The smaller the better: money an hour for the target, money a token, less rate a GPU."""
        held, price = scenario(self.rates), self._usd_per_hour
        num_gpus = self._option.server.deployment.num_gpus
        each = num_gpus if price is None else price
        an_hour = 0.0 if self._target is None else each * self._replicas(held)
        a_token = 0.0 if price is None else self._per_million(scenario(self.tokens))
        return an_hour, a_token, -held / num_gpus

    def _replicas(self, rate_per_s: float) -> float:
        assert self._target is not None, "asked for with a target only"
        return ceil(self._target / rate_per_s - 1e-9) if rate_per_s > 0 else inf

    def _per_million(self, tokens_per_s: float) -> float:
        price = self._usd_per_hour or 0.0
        return price / (tokens_per_s * 3600) * 1e6 if tokens_per_s > 0 else inf


def _worse(spread: Spread) -> float:
    return spread.worse


def _better(spread: Spread) -> float:
    return spread.better


_ENDS = {
    "at the bands' worse end": (_worse, _worse),
    "at the bands' better end": (_better, _better),
}
"""Where the first one's bands stand, where the second one's."""
_OPPOSED = {
    "with its own bands at their better end and the other's at their worse": (_worse, _better),
    "with its own bands at their worse end and the other's at their better": (_better, _worse),
}


def _drawn(number: int) -> Callable[[Spread], float]:
    return lambda spread: spread.draws[number]


def _falling(good: Interval, cost: Callable[[float], float]) -> Interval:
    """A cost that falls as something good rises, at its three figures."""
    return Interval(low=cost(good.high), value=cost(good.value), high=cost(good.low))


def _losses(judged: list[_Judged], *, common: bool) -> tuple[int, tuple[str, ...]]:
    """In how many draws, and at which ends, the second is better than the first."""
    winner, other = judged
    num_lost = sum(
        other.key(_drawn(number)) < winner.key(_drawn(number))
        for number in range(len(winner.rates.draws))
    )
    ends = _ENDS if common else {**_ENDS, **_OPPOSED}
    lost = tuple(name for name, (mine, its) in ends.items() if other.key(its) < winner.key(mine))
    return num_lost, lost
