"""Fitting a law's coefficients to measured times, without being led astray by a few of them.

    minimise over ln c   sum_i rho(ln(law(load_i, c) / t_i) / F)      rho(z) = 2 (sqrt(1 + z^2) - 1)

Coefficients are fitted as logarithms, so they are positive; errors are relative; beyond F = 3 % an
error counts in proportion and no longer squared (soft L1). Every start is fixed and the best end is
taken, so equal points give equal coefficients. Their uncertainty is one standard deviation from the
curvature of the sum at its end, beside a prior that knows each coefficient to a factor of e:
one that the points say nothing of has 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import least_squares

from .loads import Number
from .store import nine_digits
from .values import Sample

TOLERANCE = 1e-12
SOFT = 0.03
"""Relative error from which on an error counts as itself, not as its square."""
NOISY = "noisy"
ENOUGH = 8
"""Points from which a kernel is fitted, and beside which noisy ones are not needed."""

Law = Callable[..., Number]
Bounds = tuple[float, float]


class Point(NamedTuple):
    """A sample as the fits see it."""

    x: Mapping[str, Any]
    t_s: float
    """Median of its repetitions."""
    family: str
    role: str = "fit"
    noisy: bool = False


class Coefficient(NamedTuple):
    """One unknown of a law."""

    name: str
    starts: tuple[float, ...]
    bounds: Bounds


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """A law's coefficients, in its order."""

    values: Mapping[str, float]
    uncertainty: Mapping[str, float]
    cost: float


def points_of(samples: Iterable[Sample]) -> tuple[Point, ...]:
    """Every sample that has times, as a point."""
    return tuple(
        Point(
            x=sample.x,
            t_s=nine_digits(float(np.median(times_of(sample)))),
            family=sample.family,
            role=sample.role,
            noisy=NOISY in sample.flags,
        )
        for sample in samples
        if sample.t and sample.unit == "s"
    )


def times_of(sample: Sample) -> list[float]:
    """As they are stored, so that a fit from stored samples is the same."""
    return [nine_digits(t) for t in sample.t]


def calm(points: Sequence[Point]) -> tuple[Point, ...]:
    """Without noisy points to fit, where enough others are left."""
    kept = tuple(point for point in points if point.role != "fit" or not point.noisy)
    return kept if sum(point.role == "fit" for point in kept) >= ENOUGH else tuple(points)


def stacked(loads: Sequence[Any]) -> Any:
    """Loads (of one kind of named tuple) of many points as one load of arrays."""
    columns = (np.array(column, dtype=float) for column in zip(*loads, strict=True))
    return type(loads[0])(*columns)


def solve(law: Law, load: Any, t_s: Sequence[float], unknowns: Sequence[Coefficient]) -> Solution:
    """The coefficients under which the law misses the times least."""
    times = np.array(t_s)
    low, high = (np.log([unknown.bounds[side] for unknown in unknowns]) for side in (0, 1))

    def misses(logs: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.log(law(load, *np.exp(logs)) / times)
        return found

    best = None
    for start in _starts(unknowns):
        end = least_squares(
            misses,
            np.clip(np.log(start), low + 1e-6, high - 1e-6),
            bounds=(low, high),
            loss="soft_l1",
            f_scale=SOFT,
            xtol=TOLERANCE,
            ftol=TOLERANCE,
            gtol=TOLERANCE,
        )
        if best is None or end.cost < best.cost * (1 - 1e-9):
            best = end
    assert best is not None
    names = [unknown.name for unknown in unknowns]
    sigmas = _sigmas(best.jac, best.cost)
    return Solution(
        values={n: nine_digits(float(v)) for n, v in zip(names, np.exp(best.x), strict=True)},
        uncertainty={n: nine_digits(float(s)) for n, s in zip(names, sigmas, strict=True)},
        cost=float(best.cost),
    )


def _starts(unknowns: Sequence[Coefficient]) -> list[list[float]]:
    """Every combination of the coefficients' starts."""
    found: list[list[float]] = [[]]
    for unknown in unknowns:
        found = [[*before, start] for before in found for start in unknown.starts]
    return found


def _sigmas(jacobian: np.ndarray, cost: float) -> np.ndarray:
    rows, columns = jacobian.shape
    variance = max(2 * cost / max(1, rows - columns), 1e-12)
    information = jacobian.T @ jacobian / variance + np.eye(columns)
    found: np.ndarray = np.sqrt(np.diag(np.linalg.inv(information)))
    return found
