"""A published result beside the simulated one: what was printed, what came out, whether it holds.

A claim is one table or figure of a paper; its checks are the figures in it. Every check is a number
and the interval in which it must lie, also where the paper shows a shape and no number ("the three
variants coincide": the spread of the three, in [1, 1.02]). Verdicts follow from them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from math import inf

from ..summary import plain

HELD, SHAPE, NOT_HELD, SKIPPED = "held", "shape holds", "not held", "skipped"
UNITS = ("", "x", "share", "points", "s", "ms", "tokens", "per_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One figure of a claim.

    Raises:
        ValueError: an empty interval, or an unknown unit.
    """

    what: str
    paper: str
    """As printed."""
    ours: float
    low: float = -inf
    high: float = inf
    """It holds where ``low <= ours <= high``."""
    unit: str = ""
    """``""`` for counts, ``x`` for ratios, ``share`` for parts of 1, ``s`` ..."""
    shape: bool = False
    """The paper shows an ordering or a form here and prints no number."""
    known: str = ""
    """Why it does not hold, where that is known; a check without it is expected to hold."""

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"low(={self.low}) must be <= high(={self.high}).")
        if self.unit not in UNITS:
            raise ValueError(f"unit(={self.unit!r}) must be one of {UNITS}.")

    @property
    def held(self) -> bool:
        """Whether ours lies within the tolerance; NaN does not."""
        return self.low <= self.ours <= self.high

    @property
    def surprises(self) -> bool:
        """It does not hold and nobody said that it would not."""
        return not self.held and not self.known

    def to_json(self) -> dict[str, object]:
        """Plain values with the verdict; an open end of the interval is None."""
        return {**{name: plain(value) for name, value in asdict(self).items()}, "held": self.held}


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One line, or one colour of bars."""

    name: str
    x: tuple[float, ...] = ()
    """Of a line; bars stand at the chart's labels."""
    y: tuple[float, ...]
    """NaN where there is none."""
    paper: bool = False
    """As printed, not simulated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """The claim as a drawing, without any library's words."""

    title: str
    y_title: str
    series: tuple[Series, ...]
    x_title: str = ""
    labels: tuple[str, ...] = ()
    """Of groups of bars; empty for lines."""
    stacked: bool = False
    log_x: bool = False
    y_max: float | None = None
    shares: bool = False
    """Values are parts of 1 and shown in per cent."""
    level: float | None = None
    """A line across."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One table or figure of a paper."""

    name: str
    paper: str
    source: str
    """Paper, section, figure."""
    says: str
    """What it says, a sentence."""
    how: str
    """How it was run here, a sentence or two."""
    checks: tuple[Check, ...] = ()
    charts: tuple[Chart, ...] = ()
    skipped: str = ""
    """Why it was not run."""
    seconds: float = field(default=0.0, compare=False)
    """Wall time that it took."""

    @property
    def verdict(self) -> str:
        """``held``, ``shape holds`` (no number is printed), ``not held``, ``skipped``."""
        if self.skipped or not self.checks:
            return SKIPPED
        if not all(check.held for check in self.checks):
            return NOT_HELD
        return SHAPE if all(check.shape for check in self.checks) else HELD

    @property
    def num_held(self) -> int:
        """Checks that hold."""
        return sum(check.held for check in self.checks)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why those that do not hold do not, each once."""
        missed = [check for check in self.checks if not check.held]
        return tuple(dict.fromkeys(check.known or UNKNOWN for check in missed))

    @property
    def surprises(self) -> bool:
        """Something does not hold of which it was not known."""
        return any(check.surprises for check in self.checks)

    def to_json(self) -> dict[str, object]:
        """Plain values; the same claim gives the same text, its wall time aside."""
        return {
            "name": self.name,
            "paper": self.paper,
            "source": self.source,
            "says": self.says,
            "how": self.how,
            "verdict": self.verdict,
            "expected": not self.surprises,
            "checks": [check.to_json() for check in self.checks],
            "reasons": list(self.reasons),
            "skipped": self.skipped or None,
        }


UNKNOWN = "Not expected: this held when it was last looked at."


def near(
    what: str,
    paper: float,
    ours: float,
    *,
    rel: float = 0.0,
    abs: float = 0.0,
    unit: str = "",
    printed: str = "",
    known: str = "",
) -> Check:
    """A printed number and how far from it ours may lie, relative or absolute, the larger."""
    room = max(rel * paper, abs)
    return Check(
        what=what,
        paper=printed or _printed(paper, unit),
        ours=ours,
        low=paper - room,
        high=paper + room,
        unit=unit,
        known=known,
    )


def within(
    what: str,
    low: float,
    high: float,
    ours: float,
    *,
    unit: str = "",
    printed: str = "",
    known: str = "",
    shape: bool = False,
) -> Check:
    """A printed interval."""
    words = printed or f"{_printed(low, unit)} to {_printed(high, unit)}"
    return Check(
        what=what,
        paper=words,
        ours=ours,
        low=low,
        high=high,
        unit=unit,
        known=known,
        shape=shape,
    )


def _printed(value: float, unit: str) -> str:
    if unit == "share":
        return f"{100 * value:.4g} %"
    return f"{value:.4g}x" if unit == "x" else f"{value:,.6g}"
