"""Length distributions: whole tokens, at least 1 and at most `max_tokens`.

With mean m and coefficient of variation c (standard deviation / mean) of the continuous variable:
- gamma: shape 1/c^2, scale m c^2
- lognormal: sigma^2 = ln(1 + c^2), mu = ln m - sigma^2/2
- uniform: low..high, both included
- fixed: m
- empirical: drawn with replacement from observed lengths
- quantile: inverse of a piecewise linear distribution function through given (probability, tokens)
Rounding to whole tokens, the floor of 1 and the cap move the mean a little; presets allow for it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .columns import Ints
from .trace import Trace

Draws = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """One distribution of token counts.

    `kind` is a key of `KINDS`. `mean_tokens` and `cv` serve gamma, lognormal and fixed;
    `low_tokens` and `high_tokens` uniform; `points` ((probability, tokens), ...) quantile;
    `observed` empirical. Raises ValueError for a missing or impossible parameter.
    """

    kind: str
    mean_tokens: float | None = None
    cv: float = 1.0
    low_tokens: int | None = None
    high_tokens: int | None = None
    points: tuple[tuple[float, float], ...] = ()
    observed: tuple[int, ...] = ()
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(
                f"length distribution(={self.kind}) must be one of {', '.join(KINDS)}."
            )
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"max_tokens(={self.max_tokens}) must be > 0.")
        _CHECKS[self.kind](self)

    def sample(self, n: int, rng: np.random.Generator) -> Ints:
        """(n,) whole token counts."""
        drawn = np.rint(KINDS[self.kind](self, n, rng))
        most = math.inf if self.max_tokens is None else self.max_tokens
        return np.asarray(np.clip(drawn, 1, most), dtype=np.int64)


def fixed(tokens: int) -> Lengths:
    """Always `tokens`."""
    return Lengths(kind="fixed", mean_tokens=tokens)


def empirical(trace: Trace, column: str) -> Lengths:
    """The observed lengths of a trace; `column` is prompt_tokens or output_tokens."""
    if column not in ("prompt_tokens", "output_tokens"):
        raise ValueError(f"column(={column}) must be prompt_tokens or output_tokens.")
    return Lengths(kind="empirical", observed=tuple(getattr(trace, column).tolist()))


def _gamma(lengths: Lengths, n: int, rng: np.random.Generator) -> Draws:
    shape = lengths.cv**-2
    return rng.gamma(shape, (lengths.mean_tokens or 0) / shape, n)


def _lognormal(lengths: Lengths, n: int, rng: np.random.Generator) -> Draws:
    variance = math.log1p(lengths.cv**2)
    return rng.lognormal(math.log(lengths.mean_tokens or 1) - variance / 2, math.sqrt(variance), n)


def _uniform(lengths: Lengths, n: int, rng: np.random.Generator) -> Draws:
    return rng.integers(lengths.low_tokens or 1, lengths.high_tokens or 1, n, endpoint=True)


def _fixed(lengths: Lengths, n: int, rng: np.random.Generator) -> Draws:
    return np.full(n, lengths.mean_tokens)


def _empirical(lengths: Lengths, n: int, rng: np.random.Generator) -> Draws:
    return rng.choice(np.array(lengths.observed, dtype=np.int64), n)


def _quantile(lengths: Lengths, n: int, rng: np.random.Generator) -> Draws:
    probabilities, tokens = zip(*lengths.points, strict=True)
    return np.asarray(np.interp(rng.random(n), probabilities, tokens))


KINDS: dict[str, Callable[[Lengths, int, np.random.Generator], Draws]] = {
    "lognormal": _lognormal,
    "gamma": _gamma,
    "uniform": _uniform,
    "fixed": _fixed,
    "empirical": _empirical,
    "quantile": _quantile,
}


def _check_mean(lengths: Lengths) -> None:
    mean, cv = lengths.mean_tokens, lengths.cv
    if mean is None or not (mean >= 1 and math.isfinite(mean)):
        raise ValueError(f"mean_tokens(={mean}) must be >= 1.")
    if not (cv > 0 and math.isfinite(cv)):
        raise ValueError(f"cv(={cv}) must be > 0.")


def _check_range(lengths: Lengths) -> None:
    low, high = lengths.low_tokens, lengths.high_tokens
    if low is None or low < 1:
        raise ValueError(f"low_tokens(={low}) must be >= 1.")
    if high is None or high < low:
        raise ValueError(f"high_tokens(={high}) must be >= low_tokens(={low}).")


def _check_points(lengths: Lengths) -> None:
    steps = [
        (b[0] - a[0], b[1] - a[1]) for a, b in zip(lengths.points, lengths.points[1:], strict=False)
    ]
    spans = len(steps) > 0 and lengths.points[0][0] == 0 and lengths.points[-1][0] == 1
    if not spans or any(p <= 0 or tokens < 0 for p, tokens in steps):
        raise ValueError(f"points(={lengths.points}) must rise from probability 0 to 1.")


def _check_observed(lengths: Lengths) -> None:
    if not lengths.observed or min(lengths.observed) < 1:
        raise ValueError("observed must hold lengths >= 1.")


_CHECKS: dict[str, Callable[[Lengths], None]] = {
    "lognormal": _check_mean,
    "gamma": _check_mean,
    "fixed": _check_mean,
    "uniform": _check_range,
    "empirical": _check_observed,
    "quantile": _check_points,
}
