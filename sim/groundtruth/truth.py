"""Prediction against measurement: three levels, the goals, and whether they are met.

A goal is met where the prediction's error is within its limit, or within what the engine itself
differs by from one run of the trace to the next (the noise floor), whichever is more: nothing
predicts a run better than the run predicts itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...calibration.engine.log_reader import Log, read_log
from ...traces.embedded import trace_from_json
from ..summary import plain
from .asked import name_of
from .clocks import Clock, check_alike, clock_of
from .closed_loop import let_in, resimulate
from .forced import Forced, forced
from .run_figures import RunFigures, of_log, of_result

Report = Callable[[str, int, int], None]
"""Told what is done: a title, how much of it, of how much."""
SCHEMA = "kvsim-groundtruth-report/1"
GOALS: Mapping[str, float] = {
    "requests_per_s": 0.02,
    "output_tokens_per_s": 0.02,
    **{f"{name}_p{percent}_s": 0.05 for name in ("ttft", "tpot", "e2e") for percent in (50, 95)},
    "kv_use": 0.02,
    "num_preemptions": 0.02,
}
"""Largest relative error; figures without one are shown only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One figure, measured and predicted."""

    name: str
    measured: float
    predicted: float
    goal: float | None
    noise: float | None
    """Relative difference between two runs of the trace; None where it was run once."""

    @property
    def error(self) -> float:
        """Relative to what was measured; infinite beside a measured 0, 0 where both are."""
        return _relative(self.predicted, self.measured)

    @property
    def limit(self) -> float | None:
        """The goal, or the noise floor where that is more."""
        return None if self.goal is None else max(self.goal, self.noise or 0.0)

    @property
    def met(self) -> bool | None:
        """None where there is no goal, or nothing to compare (no output of two tokens)."""
        if self.limit is None or np.isnan(self.error):
            return None
        return abs(self.error) <= self.limit

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        names = ("name", "measured", "predicted", "error", "goal", "noise", "limit", "met")
        return {name: plain(getattr(self, name)) for name in names}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Truth:
    """One log beside its prediction."""

    name: str
    log: Log
    origin: str
    """Of the step times."""
    forced: Forced
    measured: RunFigures
    predicted: RunFigures
    compared: tuple[Compared, ...]
    repeat: str | None
    """The log that the noise floor comes from."""

    @property
    def misses(self) -> tuple[Compared, ...]:
        """Goals that are not met."""
        return tuple(one for one in self.compared if one.met is False)

    def to_json(self) -> dict[str, object]:
        """Everything but the columns."""
        header = self.log.header
        return {
            "log": self.name,
            "engine": header.engine,
            "hardware": dict(header.hardware),
            "trace": {name: header.trace.get(name) for name in ("name", "digest", "requests")},
            "flags": dict(header.flags),
            "whole": self.log.is_whole,
            "notes": list(self.log.notes),
            "step_times": self.origin,
            "repeat": self.repeat,
            "num_steps": len(self.log.steps),
            "num_compiled": self.forced.num_compiled,
            "steps": [one.to_json() for one in self.forced.errors],
            "figures": [one.to_json() for one in self.compared],
            "misses": [one.name for one in self.misses],
        }


def compare_logs(
    paths: Sequence[Path],
    *,
    fit: Sequence[Path] = (),
    profile: str | None = None,
    report: Report | None = None,
) -> tuple[Truth, ...]:
    """Hold the simulator against each log.

    Logs of one trace with the same flags on the same hardware are repeats: each is the other's
    noise floor, and each is compared.

    Args:
        paths: logs to predict.
        fit: logs that the step times are fitted to; none of them may be among ``paths``.
        profile: of the card, where its step times are used instead.
        report: told about progress.

    Raises:
        ValueError: no logs, step times from nowhere, a log that is fitted to and predicted, logs of
            several shapes or hosts.
    """
    if not paths:
        raise ValueError("logs must name at least one file.")
    logs = [(path, read_log(path)) for path in paths]
    check_alike(logs)
    clock = clock_of(logs, fit=fit, profile=profile)
    figures = [of_log(log) for _, log in logs]
    truths = []
    for i, (path, log) in enumerate(logs):
        if report is not None:
            report("predict", i, len(logs))
        twins = [j for j in range(len(logs)) if j != i and _same_run(logs[j][1], log)]
        predicted = _predicted(log, clock)
        truths.append(
            Truth(
                name=name_of(path),
                log=log,
                origin=clock.cost.origin,
                forced=forced(log.steps, clock.cost, clock.moves),
                measured=figures[i],
                predicted=predicted,
                compared=_compared(figures[i], predicted, [figures[j] for j in twins]),
                repeat=", ".join(name_of(logs[j][0]) for j in twins) or None,
            )
        )
    return tuple(truths)


def truths_json(truths: Sequence[Truth]) -> dict[str, object]:
    """All of a comparison as plain values."""
    return {
        "schema": SCHEMA,
        "step_times": truths[0].origin,
        "logs": [one.to_json() for one in truths],
        "met": not any(one.misses for one in truths),
    }


def _predicted(log: Log, clock: Clock) -> RunFigures:
    result = resimulate(log, clock.cost, clock.moves)
    if log.is_whole:
        return of_result(result)
    rows = let_in(log, trace_from_json(log.header.trace))
    answered = [one.request for one in log.requests]
    last = log.steps[-1]
    return of_result(result, shown=np.isin(rows, answered), until_s=last.start_s + last.wall_s)


def _same_run(one: Log, other: Log) -> bool:
    """The same trace through the same server on the same hardware."""
    mine, its = one.header, other.header
    return (
        mine.trace.get("digest") == its.trace.get("digest")
        and mine.flags == its.flags
        and mine.model == its.model
        and mine.hardware.get("name") == its.hardware.get("name")
        and one.is_whole == other.is_whole
    )


def _compared(
    measured: RunFigures, predicted: RunFigures, twins: Sequence[RunFigures]
) -> tuple[Compared, ...]:
    found = []
    for name, value in measured.scalars.items():
        noise = max((abs(_relative(one.scalars[name], value)) for one in twins), default=None)
        found.append(
            Compared(
                name=name,
                measured=value,
                predicted=predicted.scalars[name],
                goal=GOALS.get(name),
                noise=noise,
            )
        )
    return tuple(found)


def _relative(value: float, base: float) -> float:
    if base:
        return value / base - 1
    return 0.0 if value == base else float("inf")
