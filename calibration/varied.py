"""Step times a constant times those of another source: an end of its band, a what-if.

step = factor * the source's step
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import inf

from .step_cost import Band, Batch, Line, StepCost
from .terms import Term


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaledCost(StepCost):
    """Every step of ``cost``, ``factor`` times as long.

    Raises:
        ValueError: a factor that is not positive and finite.
    """

    cost: StepCost
    factor: float
    source: str = field(init=False)
    band: Band = field(init=False)
    uses_longest: bool = field(init=False)

    def __post_init__(self) -> None:
        if not 0 < self.factor < inf:
            raise ValueError(f"factor(={self.factor}) must be > 0 and finite.")
        band = Band(low=1.0, high=1.0, source=f"supposed: {self.factor:g} times the source's time")
        object.__setattr__(self, "source", self.cost.source)
        object.__setattr__(self, "band", band)
        object.__setattr__(self, "uses_longest", self.cost.uses_longest)

    @property
    def origin(self) -> str:
        """The source, and how many times its time is taken."""
        return f"{self.factor:g} times {self.cost.origin}"

    def step_ns(self, batch: Batch) -> float:
        """Nanoseconds of one engine step of this shape."""
        return self.factor * self.cost.step_ns(batch)

    def decode_line(self, batch: Batch) -> Line:
        """The source's line, steeper and higher; it bends where the source's does."""
        first_ns, slope_ns, num_steps = self.cost.decode_line(batch)
        return Line(self.factor * first_ns, self.factor * slope_ns, num_steps)

    def terms(self, batch: Batch) -> tuple[Term, ...]:
        """The source's terms, each as many times as long."""
        return tuple(replace(term, ns=self.factor * term.ns) for term in self.cost.terms(batch))

    def describe(self) -> dict[str, object]:
        """The source's, with the factor."""
        return {**self.cost.describe(), "times": self.factor}
