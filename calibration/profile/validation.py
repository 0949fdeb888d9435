"""How far the fits are from points that made them, held-out points, and ranges left out.

    fit                 the points that the coefficients come from
    heldout             points that were measured beside them and kept apart
    leave_context_out   each decade of the mean context (cached and new tokens of a chunk) predicted
                        from the other decades
    leave_batch_out     each number of sequences from the others
    leave_chunk_out     each number of new tokens from the others
    leave_heads_out     a head layout from the coefficients of the nearest other one
    leave_m_out         each inner m of a table of products from its two neighbours, which no longer
                        know on which step of the staircase m stands
    leave_layer_out     each shape of product from the roofline of the others

Errors are ``|fitted / measured - 1|`` in per cent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from math import floor, log10
from typing import Any

import numpy as np

from . import forms
from .fit_attention import chunks_of, lengths_of
from .fit_kernel import Kernel, Solved, apart, leans, solve_kernel
from .robust import ENOUGH, Point, Solution
from .store import nine_digits
from .values import AttentionKey, GemmTable, Residual

Errors = Sequence[float]
Label = Callable[[Mapping[str, Any]], float]


def errors_pct(fitted: Iterable[float], measured: Iterable[float]) -> list[float]:
    """Absolute and relative."""
    return [abs(f / t - 1) * 100 for f, t in zip(fitted, measured, strict=True)]


def residual(family: str, split: str, errors: Errors) -> tuple[Residual, ...]:
    """One line of the table; none without errors."""
    if not len(errors):
        return ()
    median, p95, worst = (nine_digits(float(np.percentile(errors, q))) for q in (50, 95, 100))
    return (
        Residual(
            family=family,
            split=split,
            num_points=len(errors),
            median_pct=median,
            p95_pct=p95,
            worst_pct=worst,
        ),
    )


# ---------------------------------------------------------------------- attention


def attention_residuals(
    solved: Sequence[Solved], *, families: Sequence[str], labels: Mapping[str, Label]
) -> tuple[Residual, ...]:
    """Of decode or prefill kernels: by family, and by what was left out under the first's name."""
    found: list[Residual] = []
    for family in families:
        for role in ("fit", "heldout"):
            found += residual(family, role, _all(_seen(one, family, role) for one in solved))
    for split, label in labels.items():
        found += residual(families[0], split, _all(left_out_errors(one, label) for one in solved))
    return (*found, *residual(families[0], "leave_heads_out", heads_out_errors(solved)))


def left_out_errors(solved: Solved, label: Label) -> list[float]:
    """Every value of the label predicted from points of the other values.

    Of kernels with points enough for all coefficients; others lean on one that has seen the value.
    """
    kernel = solved.kernel
    points = kernel.of("fit")
    least = max(ENOUGH, 2 * len(solved.solution.values))
    found: list[float] = []
    if leans(len(points), solved.solution):
        return found
    for value in sorted({label(point.x) for point in points}):
        others = [point for point in points if label(point.x) != value]
        if len(others) >= least:
            left = [point for point in points if label(point.x) == value]
            found += _errors(kernel, solve_kernel(kernel, others, start=solved.solution), left)
    return found


def heads_out_errors(solved: Sequence[Solved]) -> list[float]:
    """Every head layout predicted from the nearest other one of the same dtypes and block size.

    The other one's coefficients are its points' alone: it leans on no kernel.
    """
    found: list[float] = []
    alone: dict[AttentionKey, Solution] = {}
    for one in solved:
        key = one.kernel.key
        others = [
            other.kernel
            for other in solved
            if _without_heads(other.kernel.key) == _without_heads(key) and other is not one
        ]
        if others:
            near = min(others, key=lambda other: apart(other.key, key))
            if near.key not in alone:
                alone[near.key] = solve_kernel(near, near.of("fit"))
            found += _errors(one.kernel, alone[near.key], one.kernel.of("fit"))
    return found


def _without_heads(key: AttentionKey) -> AttentionKey:
    return replace(key, heads=1, kv_heads=1, head_dim=1)


def _seen(solved: Solved, family: str, role: str) -> list[float]:
    points = [point for point in solved.kernel.of(role) if point.family == family]
    return _errors(solved.kernel, solved.solution, points)


def _errors(kernel: Kernel, solution: Solution, points: Sequence[Point]) -> list[float]:
    if not points:
        return []
    return errors_pct(kernel.predicted_s(solution, points), [point.t_s for point in points])


def _all(lists: Iterable[list[float]]) -> list[float]:
    return [error for errors in lists for error in errors]


def _decade(tokens: float) -> float:
    return floor(log10(max(tokens, 1)))


def _mean_context(x: Mapping[str, Any]) -> float:
    lengths = lengths_of(x)
    return sum(lengths) / len(lengths)


DECODE_LABELS: Mapping[str, Label] = {
    "leave_context_out": lambda x: _decade(_mean_context(x)),
    "leave_batch_out": lambda x: len(lengths_of(x)),
}
PREFILL_LABELS: Mapping[str, Label] = {
    "leave_context_out": lambda x: _decade(max(new + past for new, past in chunks_of(x))),
    "leave_chunk_out": lambda x: max(new for new, _ in chunks_of(x)),
}


# ---------------------------------------------------------------------- matrix products


def gemm_residuals(tables: Sequence[GemmTable], points: Sequence[Point]) -> tuple[Residual, ...]:
    """Of tables: held-out m, and each inner m from its neighbours."""
    by_shape = {(table.n, table.k, table.dtype): table for table in tables}
    held_out = [
        (forms.table_s(table, point.x["m"]), point.t_s)
        for point in points
        if point.role == "heldout"
        and (table := by_shape.get((point.x["n"], point.x["k"], point.x["dtype"]))) is not None
    ]
    return (
        *residual("gemm", "heldout", errors_pct(*zip(*held_out, strict=True)) if held_out else []),
        *residual("gemm", "leave_m_out", [e for table in tables for e in m_out_errors(table)]),
    )


def m_out_errors(table: GemmTable) -> list[float]:
    """Every inner m from the table without it."""
    found = []
    for i in range(1, len(table.m) - 1):
        without = replace(
            table, m=table.m[:i] + table.m[i + 1 :], t_s=table.t_s[:i] + table.t_s[i + 1 :]
        )
        found += errors_pct([forms.table_s(without, table.m[i])], [table.t_s[i]])
    return found
