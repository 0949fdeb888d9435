"""Matrix products fitted: a table for each measured (n, k), and one roofline for all others.

A table holds medians as they were measured; layers of one shape share it. The roofline is fitted to
all tables of a dtype at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

import numpy as np

from . import forms
from .robust import ENOUGH, Coefficient, Point, Solution, calm, solve
from .store import nine_digits
from .validation import errors_pct, residual
from .values import GemmFit, GemmTable, Residual

LEAST_ROWS = 2


def gemm_tables(points: Iterable[Point]) -> tuple[GemmTable, ...]:
    """One table for each shape with two m or more, from the points to fit."""
    by_shape: dict[tuple[int, int, str], list[Point]] = {}
    for point in points:
        if point.role == "fit":
            x = point.x
            by_shape.setdefault((x["n"], x["k"], x["dtype"]), []).append(point)
    made = (_table(*shape, calm(own)) for shape, own in sorted(by_shape.items()))
    return tuple(table for table in made if len(table.m) >= LEAST_ROWS)


def gemm_rooflines(
    tables: Sequence[GemmTable],
) -> tuple[tuple[GemmFit, ...], tuple[Residual, ...]]:
    """One fit for each dtype, and how far it is from its tables and from tables left out."""
    fits: list[GemmFit] = []
    seen: list[float] = []
    left_out: list[float] = []
    for dtype in sorted({table.dtype for table in tables}):
        own = [table for table in tables if table.dtype == dtype]
        if sum(len(table.m) for table in own) < ENOUGH:
            continue
        fits.append(_roofline(dtype, own))
        for table in own:
            seen += _errors(fits[-1], table)
            others = [one for one in own if one is not table]
            if sum(len(one.m) for one in others) >= ENOUGH:
                left_out += _errors(_roofline(dtype, others), table)
    return tuple(fits), (
        *residual("gemm_roofline", "fit", seen),
        *residual("gemm_roofline", "leave_layer_out", left_out),
    )


def _table(n: int, k: int, dtype: str, points: Sequence[Point]) -> GemmTable:
    rows: dict[int, list[float]] = {}
    for point in points:
        rows.setdefault(point.x["m"], []).append(point.t_s)
    times = tuple(nine_digits(median(rows[m])) for m in sorted(rows))
    return GemmTable(n=n, k=k, dtype=dtype, m=tuple(sorted(rows)), t_s=times)


def _roofline(dtype: str, tables: Sequence[GemmTable]) -> GemmFit:
    shapes = [(m, table.n, table.k) for table in tables for m in table.m]
    times = [t for table in tables for t in table.t_s]
    loads = [forms.gemm_load(dtype, *shape) for shape in shapes]
    flops, moved = (np.array(c) for c in zip(*loads, strict=True))
    most_flops, most_bytes = float(np.max(flops / times)), float(np.max(moved / times))

    def law(load: Any, *values: Any) -> Any:
        return forms.gemm_law(*load, *values)

    solution: Solution = solve(
        law,
        (flops, moved),
        times,
        (
            Coefficient("t0_s", (4e-6,), (1e-8, 1e-3)),
            Coefficient("flops_per_s", (most_flops,), (most_flops / 4, most_flops * 4)),
            Coefficient("read_bytes_per_s", (most_bytes,), (most_bytes / 4, most_bytes * 4)),
            Coefficient("p", (1.5, 4.0), (1.0, 16.0)),
        ),
    )
    return GemmFit(dtype=dtype, **solution.values, uncertainty=dict(solution.uncertainty))


def _errors(fit: GemmFit, table: GemmTable) -> list[float]:
    fitted = [forms.gemm_s(fit, m, table.n, table.k) for m in table.m]
    return errors_pct(fitted, table.t_s)
