"""One attention kernel and its points, of any law: grouping, and coefficients for each.

A kernel with fewer than four points to a coefficient (another block size, another KV dtype, a
shard's heads) fits only what is its own, its rates and its merge, and takes the rest, launch, items
and exponent, from the kernel of its kind that has most points.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import log2
from typing import Any

import numpy as np

from .robust import ENOUGH, Coefficient, Law, Point, Solution, calm, solve, stacked
from .values import AttentionKey

POINTS_PER_COEFFICIENT = 4

Constants = tuple[int, ...]
"""What a kernel was launched with."""
Group = tuple[AttentionKey, Constants, tuple[Point, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One kernel with its points, of every role."""

    key: AttentionKey
    constants: Constants
    points: tuple[Point, ...]
    law: Law
    load_of: Callable[[Mapping[str, Any]], tuple[Any, ...]]
    unknowns: Callable[[Any, Sequence[float]], tuple[Coefficient, ...]]
    own: tuple[str, ...]
    """Coefficients that every kernel fits for itself."""

    def of(self, role: str) -> tuple[Point, ...]:
        """Points of a role."""
        return tuple(point for point in self.points if point.role == role)

    def loads(self, points: Iterable[Point]) -> Any:
        """What these points have to do, as arrays."""
        return stacked([self.load_of(point.x) for point in points])

    def predicted_s(self, solution: Solution, points: Sequence[Point]) -> np.ndarray:
        """What these coefficients say of these points."""
        return np.array(self.law(self.loads(points), *solution.values.values()), dtype=float)


@dataclass(frozen=True, slots=True, kw_only=True)
class Solved:
    """A kernel with its coefficients."""

    kernel: Kernel
    solution: Solution


def grouped(
    points: Iterable[Point], constants: Callable[[Mapping[str, Any]], Constants]
) -> tuple[list[Group], list[str]]:
    """``(key, launch constants, points)`` of each kernel that can be fitted, and what cannot.

    Points of a kernel that was launched in several ways count where they are of the commonest one.
    """
    by_key: dict[AttentionKey, list[Point]] = {}
    for point in points:
        by_key.setdefault(key_of(point.x), []).append(point)
    found: list[Group] = []
    missing = []
    for key, own in by_key.items():
        ways = Counter(constants(point.x) for point in own if point.role == "fit").most_common(1)
        way, to_fit = ways[0] if ways else ((), 0)
        if to_fit < ENOUGH:
            missing.append(f"{name_of(key)}: {to_fit} points, a fit needs {ENOUGH}")
            continue
        kept = [point for point in own if constants(point.x) == way]
        if len(kept) < len(own):
            others = len(own) - len(kept)
            missing.append(f"{name_of(key)}: {others} points of another launch are not in the fit")
        found.append((key, way, calm(kept)))
    return found, missing


def solve_kernels(kernels: Sequence[Kernel]) -> list[Solved]:
    """Each kernel with its coefficients; the one with most points first, for others to lean on."""
    bases: dict[str, Solution] = {}
    found: dict[AttentionKey, Solution] = {}
    for kernel in sorted(kernels, key=lambda one: -len(one.of("fit"))):
        points = kernel.of("fit")
        base = bases.get(kernel.key.kind)
        if base and not leans(len(points), base):
            base = None
        found[kernel.key] = solve_kernel(kernel, points, base=base)
        bases.setdefault(kernel.key.kind, found[kernel.key])
    return [Solved(kernel=kernel, solution=found[kernel.key]) for kernel in kernels]


def leans(num_points: int, solution: Solution) -> bool:
    """Whether so many points are too few for all coefficients."""
    return num_points < POINTS_PER_COEFFICIENT * len(solution.values)


def solve_kernel(
    kernel: Kernel,
    points: Sequence[Point],
    *,
    base: Solution | None = None,
    start: Solution | None = None,
) -> Solution:
    """The coefficients of a kernel from these of its points.

    Args:
        kernel: whose law is fitted.
        points: to fit.
        base: has what this kernel has too few points for.
        start: near the end, where it is known.
    """
    loads, times = kernel.loads(points), [point.t_s for point in points]
    unknowns = kernel.unknowns(loads, times)
    if start:
        unknowns = tuple(one._replace(starts=(start.values[one.name],)) for one in unknowns)
    if base is None:
        return solve(kernel.law, loads, times, unknowns)
    names = [one.name for one in unknowns]

    def law(load: Any, *own: Any) -> Any:
        values = {**base.values, **dict(zip(kernel.own, own, strict=True))}
        return kernel.law(load, *(values[name] for name in names))

    by_name = {one.name: one for one in unknowns}
    found = solve(law, loads, times, [by_name[name] for name in kernel.own])
    return replace(
        found,
        values={**base.values, **found.values},
        uncertainty={**base.uncertainty, **found.uncertainty},
    )


def key_of(x: Mapping[str, Any]) -> AttentionKey:
    """The kernel that a sample ran."""
    return AttentionKey(
        kind=x["kind"],
        dtype=x["dtype"],
        kv_dtype=x["kv_dtype"],
        heads=x["heads"],
        kv_heads=x["kv_heads"],
        head_dim=x["head_dim"],
        block_size=x["block_size"],
    )


def name_of(key: AttentionKey) -> str:
    """``paged 32/8 heads of 128, bf16 KV bf16, block 16``."""
    return (
        f"{key.kind} {key.heads}/{key.kv_heads} heads of {key.head_dim}, "
        f"{key.dtype} KV {key.kv_dtype}, block {key.block_size}"
    )


def apart(a: AttentionKey, b: AttentionKey) -> float:
    """Octaves between two head layouts."""
    return (
        abs(log2(a.kv_heads / b.kv_heads))
        + abs(log2(a.heads / a.kv_heads * b.kv_heads / b.heads))
        + abs(log2(a.head_dim / b.head_dim))
    )
