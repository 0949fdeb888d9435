"""What if: the chosen plan with something otherwise, each change with what it is worth.

The chosen server and every changed one are searched on the same traces and at the same ends of the
bands (``scenarios``), and compared run by run: what makes both faster or slower falls out, so that
the interval of a difference is narrower than the difference of two intervals. A change that changes
nothing is worth exactly nothing, with an interval of no width. Other GPUs, and other sources of
step times, have errors of their own: there the ends are also compared crosswise.

The figures of a changed server are the chosen's own, so many times. They rest on as many requests
as the scenarios have: plan with a change before it is bought.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...traces import Trace
from ..job import Report
from ..server import Server
from ..slo import SLO
from ..summary import plain
from .changes import Change
from .interval import Interval
from .judged import errors_are_common, falling, needed, per_million
from .option import Option
from .scenarios import Runs, Subject, Traces, enough_requests, run_scenarios, subject_of, traces_of
from .search import TOLERANCE
from .spread import Good, paired, rate, ratio, running, spread_of, tokens

RUNS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """A figure with the change, and how far that is from without."""

    value: float
    delta: Interval

    @property
    def interval(self) -> Interval:
        """The figure itself, as the difference has it."""
        before = self.value - self.delta.value
        return Interval(
            low=before + self.delta.low, value=self.value, high=before + self.delta.high
        )

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {"value": plain(self.value), "delta": self.delta.to_json()}


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """One change with what comes of it; without figures where it cannot be."""

    change: Change
    asked: bool = True
    """By the user; else because of what binds."""
    refused: str = ""
    """Why it cannot be set up."""
    rate_per_s: Delta | None = None
    """That one replica holds."""
    mean_running: Delta | None = None
    """Requests at once, at that rate."""
    num_replicas: Delta | None = None
    """None without a target."""
    usd_per_hour: Delta | None = None
    """Of all replicas, or of one without a target; None without a price."""
    usd_per_million_output_tokens: Delta | None = None

    @property
    def title(self) -> str:
        """The change as it was asked for."""
        return self.change.text

    @property
    def lifts(self) -> bool:
        """Whether a replica holds more, by more than the search can tell apart and inside all of
        the interval.
        """
        found = self.rate_per_s
        if found is None:
            return False
        before = found.value - found.delta.value
        return found.delta.low > 0 and found.delta.value > TOLERANCE * before

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            "change": self.title,
            "asked": self.asked,
            "refused": self.refused or None,
            "lifts": self.lifts,
            **{
                name: None if (one := getattr(self, name)) is None else one.to_json()
                for name in FIGURES
            },
        }


FIGURES = (
    "rate_per_s",
    "mean_running",
    "num_replicas",
    "usd_per_hour",
    "usd_per_million_output_tokens",
)


def what_if(
    chosen: Option,
    changes: Sequence[Change],
    trace: Trace,
    slo: SLO,
    *,
    suggested: Sequence[Change] = (),
    target_rate_per_s: float | None = None,
    seed: int = 0,
    runs: int = RUNS,
    most_requests: int | None = None,
    jobs: int | None = None,
    report: Report | None = None,
) -> tuple[WhatIf, ...]:
    """What each change is worth.

    Args:
        chosen: the plan; it holds a rate.
        changes: asked for.
        trace: with arrival times.
        slo: the objective.
        suggested: further changes, tried only where none that was asked for lifts the rate.
        target_rate_per_s: of all replicas.
        seed: of the traces that might have come.
        runs: how many of them.
        most_requests: of each; by default as many as bring the servers into their stride.
        jobs: processes; the result is the same for any number.
        report: told about progress.

    Raises:
        ValueError: the chosen holds no rate.
    """
    if chosen.search.best is None:
        raise ValueError(f"chosen(={chosen.title!r}) must hold the objective at some rate.")
    most = enough_requests([chosen]) if most_requests is None else most_requests
    traces = traces_of(trace, seed=seed, runs=runs, most_requests=most)
    bench = _Bench(chosen, trace, traces, slo, target_rate_per_s, jobs, report)
    found = bench.tried(changes, asked=True)
    if not any(one.lifts for one in found):
        known = {change.text for change in changes}
        found += bench.tried([one for one in suggested if one.text not in known], asked=False)
    return tuple(found)


class _Bench:
    """Tries changes beside the chosen, which is run once."""

    def __init__(
        self,
        chosen: Option,
        trace: Trace,
        traces: Traces,
        slo: SLO,
        target_rate_per_s: float | None,
        jobs: int | None,
        report: Report | None,
    ) -> None:
        self._chosen, self._trace, self._traces, self._slo = chosen, trace, traces, slo
        self._target, self._jobs, self._report = target_rate_per_s, jobs, report
        self._subject = subject_of(chosen)
        self._runs: Runs | None = None

    def tried(self, changes: Sequence[Change], *, asked: bool) -> list[WhatIf]:
        """In their order; those that cannot be set up say why."""
        subjects: dict[str, Subject] = {}
        refused: dict[str, str] = {}
        for change in changes:
            try:
                subjects[change.text] = self._changed(change)
            except ValueError as error:
                refused[change.text] = str(error)
        found = dict(zip(subjects, self._run(list(subjects.values())), strict=True))
        return [
            WhatIf(change=change, asked=asked, refused=refused[change.text])
            if change.text in refused
            else self._what_if(change, subjects[change.text], found[change.text], asked=asked)
            for change in changes
        ]

    def _changed(self, change: Change) -> Subject:
        server = change.server(self._chosen.spec, self._trace)
        return replace(self._subject, title=change.text, server=server, traffic=change.traffic)

    def _run(self, subjects: list[Subject]) -> list[Runs]:
        """Of these; with the first of them the chosen itself is run."""
        if not subjects:
            return []
        first = [] if self._runs is not None else [self._subject]
        found = run_scenarios(
            [*first, *subjects],
            self._traces,
            self._slo,
            title="what if",
            jobs=self._jobs,
            report=self._report,
        )
        if first:
            self._runs, *found = found
        return found

    def _what_if(self, change: Change, subject: Subject, runs: Runs, *, asked: bool) -> WhatIf:
        assert self._runs is not None, "run with the first subjects"
        common = errors_are_common(self._chosen.server, subject.server)
        best = self._chosen.search.best
        assert best is not None, "what_if has looked"
        shrink = self._traces.shrink

        def delta(good: Good, value: float) -> Delta:
            assert self._runs is not None, "run with the first subjects"
            more = ratio(good(runs.base), good(self._runs.base))
            pair = paired(
                spread_of(value * more, runs, good, shrink=shrink),
                spread_of(value, self._runs, good, shrink=shrink),
                common=common,
            )
            return Delta(value=value * pair.value, delta=pair.plus(-1.0).times(value))

        rates = delta(rate, best.rate_per_s)
        produced = delta(tokens, best.output_tokens_per_s)
        before, after = _price(self._chosen.server), _price(subject.server)
        replicas = self._replicas(change, rates)
        an_hour = None
        if before is not None and after is not None:
            then = _ONE if replicas is None else replicas
            an_hour = _delta(self._num_now * before, then.times(after))
        return WhatIf(
            change=change,
            asked=asked,
            rate_per_s=rates,
            mean_running=delta(running, best.mean_running),
            num_replicas=(None if replicas is None else _delta(self._num_now, replicas)),
            usd_per_hour=an_hour,
            usd_per_million_output_tokens=_a_token(before, after, produced),
        )

    def _replicas(self, change: Change, rates: Delta) -> Interval | None:
        """With the change; None without a target."""
        if self._target is None:
            return None
        held = self._chosen.search.rate_per_s
        extra = self._num_now - needed(self._target, held)
        wanted = change.rate * self._target
        return falling(rates.interval, lambda each: needed(wanted, each) + extra)

    @property
    def _num_now(self) -> float:
        """Replicas of the chosen; more than the rate asks for where it has been given more."""
        if self._target is None:
            return 1.0
        rate_per_s = self._chosen.search.rate_per_s
        return max(needed(self._target, rate_per_s), self._chosen.num_replicas)


_ONE = Interval(low=1.0, value=1.0, high=1.0)


def _price(server: Server) -> float | None:
    """USD per hour of one replica."""
    price = server.gpu.price_usd_per_hour
    return None if price is None else price * server.deployment.num_gpus


def _a_token(before: float | None, after: float | None, produced: Delta) -> Delta | None:
    """USD per million output tokens."""
    now = produced.value - produced.delta.value
    if before is None or after is None or not now > 0:
        return None
    then = falling(produced.interval, lambda held: per_million(after, held))
    return _delta(per_million(before, now), then)


def _delta(before: float, after: Interval) -> Delta:
    return Delta(value=after.value, delta=after.plus(-before))
