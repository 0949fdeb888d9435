"""A run beside its baseline: what changed, which way, and whether that fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ..metric_directions import METRICS, Metric
from .baseline import Baseline, known_metrics
from .tolerance import Tolerance, Tolerances

Verdict = Literal["same", "within", "improved", "worse", "changed", "new", "gone"]
"""*within*: other, but tolerated. *changed*: neither way is better, or there is a value where there
was none. *new*: the baseline does not know the metric. *gone*: this version of kvsim does not."""

_UNKNOWN = Metric(title="", unit="mean", direction="neutral")
_EXPLAINED = {"cost": "the step times are", "budget": "the memory budget is"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One metric, then and now; None where there is nothing to measure."""

    metric: str
    old: float | None
    new: float | None
    tolerance: Tolerance
    verdict: Verdict

    @property
    def fails(self) -> bool:
        """Whether the gate closes on it."""
        beyond = self.verdict == "improved" and self.tolerance.both
        return beyond or self.verdict in ("worse", "changed", "gone")

    @property
    def title(self) -> str:
        """In words."""
        return METRICS[self.metric].title if self.metric in METRICS else self.metric

    @property
    def relative(self) -> float | None:
        """Of the old value; None where there is no such ratio."""
        if self.old is None or self.new is None or not self.old:
            return None
        return (self.new - self.old) / abs(self.old)

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        relative = self.relative
        return {
            "metric": self.metric,
            "old": self.old,
            "new": self.new,
            "relative_change": None if relative is None else float(f"{relative:.9g}"),
            "tolerance": {"relative": self.tolerance.relative, "absolute": self.tolerance.absolute},
            "verdict": self.verdict,
            "fails": self.fails,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All metrics of a case beside its baseline's."""

    case: str
    line: int | None
    """Of the case in its suite."""
    changes: tuple[Change, ...]
    """Those that are not the same."""
    num_metrics: int
    notes: tuple[str, ...]
    """What else is other than it was, which may explain the changes."""

    @property
    def verdict(self) -> str:
        """``regressed``, ``improved``, ``within`` (tolerance) or ``same``."""
        if self.failures:
            return "regressed"
        verdicts = {change.verdict for change in self.changes}
        return "improved" if "improved" in verdicts else "within" if verdicts else "same"

    @property
    def failures(self) -> tuple[Change, ...]:
        """The changes that the gate closes on."""
        return tuple(change for change in self.changes if change.fails)

    def to_json(self) -> dict[str, object]:
        """Plain values; metrics that are the same are only counted."""
        return {
            "name": self.case,
            "verdict": self.verdict,
            "num_metrics": self.num_metrics,
            "changes": [change.to_json() for change in self.changes],
            "notes": list(self.notes),
        }


def compare(
    baseline: Baseline, now: Baseline, tolerances: Tolerances, *, line: int | None = None
) -> Comparison:
    """What is other now; the two must be of the same case."""
    names = known_metrics({**baseline.metrics, **now.metrics})
    changes = [_change(name, baseline.metrics, now.metrics, tolerances) for name in names]
    notes = [
        f"{words} not the baseline's"
        for name, words in _EXPLAINED.items()
        if baseline.digests.get(name) != now.digests.get(name)
    ]
    return Comparison(
        case=now.case,
        line=line,
        changes=tuple(change for change in changes if change.verdict != "same"),
        num_metrics=len(names),
        notes=tuple(notes),
    )


def _change(
    name: str,
    before: Mapping[str, float | None],
    after: Mapping[str, float | None],
    tolerances: Tolerances,
) -> Change:
    old, new, tolerance = before.get(name), after.get(name), tolerances.of(name)
    verdict: Verdict
    if name not in after:
        verdict = "gone"
    elif name not in before:
        verdict = "new"
    else:
        verdict = _verdict(name, old, new, tolerance)
    return Change(metric=name, old=old, new=new, tolerance=tolerance, verdict=verdict)


def _verdict(name: str, old: float | None, new: float | None, tolerance: Tolerance) -> Verdict:
    if old == new:
        return "same"
    if old is None or new is None:
        return "changed"
    if tolerance.allows(old, new):
        return "within"
    change = METRICS.get(name, _UNKNOWN).change(old, new)
    return {"better": "improved", "worse": "worse"}.get(change, "changed")  # type: ignore[return-value]
