"""What the search for a rate found: the rates tried, the best, the knee, what binds."""

from __future__ import annotations

from dataclasses import dataclass

from ..slo import SLO
from .binding import Binding
from .probe import Probe


@dataclass(frozen=True, slots=True, kw_only=True)
class RateSearch:
    """What a server does from rate to rate, and the highest rate that holds."""

    slo: SLO
    probes: tuple[Probe, ...]
    """By rate; those of the long run say so."""
    saturated_per_s: float
    """Requests a second under backlog: no rate above it can last."""
    best: Probe | None
    """The highest rate that holds in the long run; None where none does."""
    bound_by: str
    """What binds just above it."""
    bindings: tuple[Binding, ...] = ()
    """What binds there, with the evidence; the strongest first."""

    @property
    def rate_per_s(self) -> float:
        """The highest rate that holds; 0 where none does."""
        return 0.0 if self.best is None else self.best.rate_per_s

    @property
    def curve(self) -> tuple[Probe, ...]:
        """Whole runs of one extent, whose attainments compare: of the short part, if there are."""
        short = tuple(one for one in self.probes if not one.confirms)
        return short or tuple(one for one in self.probes if not one.stopped)

    @property
    def knee(self) -> Probe | None:
        """The rate of the highest goodput: beyond it, more requests are served later, not more."""
        return max(self.curve, key=lambda one: one.goodput_per_s, default=None)

    @property
    def preemption_onset_per_s(self) -> float | None:
        """The lowest rate tried at which anything was preempted; None where nothing ever was."""
        return min((one.rate_per_s for one in self.probes if one.num_preemptions), default=None)

    @property
    def fails(self) -> Probe | None:
        """The lowest rate that fails; None where the server holds all that it can sustain."""
        found = [one for one in self.probes if not one.holds and one.rate_per_s > self.rate_per_s]
        return min(found, key=lambda one: one.rate_per_s, default=None)

    @property
    def nearest_miss(self) -> str:
        """Why nothing holds, of the lowest rate tried: a sentence without its end."""
        if self.best is not None or not self.probes:
            return ""
        lowest = self.probes[0]
        missed = lowest.missed(self.slo)
        at = f"at {lowest.rate_per_s:.3g} requests/s"
        if missed is None:
            return f"{at} {lowest.attainment:.1%} of the requests keep every limit"
        name, value, limit = missed
        return (
            f"{at} {name[:-2].upper()} is {value:.3g} s at the {100 * self.slo.quantile:g} % "
            f"quantile, {value / limit:.3g} times its limit of {limit:g} s"
        )

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        knee = self.knee
        return {
            "rate_per_s": self.rate_per_s,
            "saturated_per_s": self.saturated_per_s,
            "knee_per_s": None if knee is None else knee.rate_per_s,
            "preemption_onset_per_s": self.preemption_onset_per_s,
            "bound_by": self.bound_by,
            "bindings": [one.to_json() for one in self.bindings],
            "nearest_miss": self.nearest_miss or None,
            "probes": [one.to_json() for one in self.probes],
        }
