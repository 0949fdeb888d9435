"""Figures with the interval they lie in."""

from __future__ import annotations

from dataclasses import dataclass

from ..summary import plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A figure and the ends between which the truth is expected.

    Raises:
        ValueError: ends that do not enclose the figure.
    """

    low: float
    value: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.value <= self.high:
            raise ValueError(
                f"interval(=[{self.low:g}, {self.high:g}]) must enclose {self.value:g}."
            )

    @property
    def width(self) -> float:
        """From end to end."""
        return self.high - self.low

    def times(self, factor: float) -> Interval:
        """All three times a number of 0 or more."""
        return Interval(low=factor * self.low, value=factor * self.value, high=factor * self.high)

    def plus(self, more: float) -> Interval:
        """All three and so much more."""
        return Interval(low=self.low + more, value=self.value + more, high=self.high + more)

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {name: plain(getattr(self, name)) for name in ("low", "value", "high")}
