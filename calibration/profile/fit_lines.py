"""Everything that is a straight line: small kernels, copies, links, launches, the host's own work.

    t = t0 + unit * units + bytes / rate

| family      | name                                   | units    |
|-------------|----------------------------------------|----------|
| elementwise | the op                                 |          |
| pcie        | ``pcie DIRECTION MEMORY [HOW]``        | segments |
| block_copy  | ``block_copy``                         | pairs    |
| host        | ``host WHAT``                          | requests |
| graph       | ``graph WHAT MODE``                    | nodes    |
| all_reduce  | ``all_reduce GPUS MODE``               |          |

A unit or a rate that the points do not vary is left out of the line. Blocks of one size moved one
by one cannot tell a segment's own time from its bytes': there the rate is the link's in one piece.
The layers of a model, captured or not, are no line in anything; what capturing takes is constant.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import inf
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from . import forms
from .robust import Coefficient, Point, calm, solve
from .validation import errors_pct, residual
from .values import LineFit, Residual

FAMILIES = ("elementwise", "graph", "host", "block_copy", "pcie", "all_reduce")
UNITS = {
    "pcie": "segments",
    "block_copy": "pairs",
    "host": "requests",
    "graph": "nodes",
}
IN_ONE_PIECE = "copy"
NO_LINE = "decode_layers"
ALIKE = 1e-6
"""Relative spread of bytes per unit under which both are one quantity."""


class _Axes(NamedTuple):
    """A line's points as arrays."""

    units: np.ndarray
    bytes: np.ndarray
    t_s: np.ndarray


def fit_lines(
    points: Iterable[Point],
) -> tuple[tuple[LineFit, ...], tuple[Residual, ...], tuple[str, ...]]:
    """The lines, how far they are from their points, and what has too few."""
    groups: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        if point.family in FAMILIES and point.x.get("what") != NO_LINE:
            groups.setdefault((point.family, name_of(point)), []).append(point)
    lines: dict[str, LineFit] = {}
    errors: dict[tuple[str, str], list[float]] = {}
    missing = []
    for (family, name), own in sorted(groups.items(), key=_in_one_piece_first):
        link = lines.get(_link_of(own[0].x)) if family == "pcie" else None
        line = _fit_line(name, family, own, link)
        if line is None:
            missing.append(f"{name}: too few points for a line")
            continue
        lines[name] = line
        for role in ("fit", "heldout"):
            kept = [point for point in own if point.role == role]
            errors.setdefault((family, role), []).extend(
                errors_pct((line_of(line, point) for point in kept), (p.t_s for p in kept))
            )
    found = [entry for key, values in sorted(errors.items()) for entry in residual(*key, values)]
    return tuple(lines[name] for name in sorted(lines)), tuple(found), tuple(missing)


def name_of(point: Point) -> str:
    """The line that a point lies on."""
    x = point.x
    if point.family == "elementwise":
        return str(x["op"])
    if point.family == "pcie":
        return _link_of(x) + ("" if x["how"] == IN_ONE_PIECE else f" {x['how']}")
    if point.family == "host":
        return f"host {x['what']}"
    if point.family == "graph":
        return f"graph {x['what']} {x['mode']}"
    if point.family == "all_reduce":
        return f"all_reduce {x['gpus']} {x['mode']}"
    return point.family


def line_of(line: LineFit, point: Point) -> float:
    """What a line says of a point."""
    return forms.line_s(line, units=_units(point), moved_bytes=point.x.get("bytes", 0))


def _link_of(x: Mapping[str, Any]) -> str:
    return f"pcie {x['direction']} {x['memory']}"


def _in_one_piece_first(entry: tuple[tuple[str, str], list[Point]]) -> tuple[bool, tuple[str, str]]:
    name, points = entry
    return points[0].x.get("how", IN_ONE_PIECE) != IN_ONE_PIECE, name


def _units(point: Point) -> float:
    return float(point.x.get(UNITS.get(point.family, ""), 0))


def _fit_line(
    name: str, family: str, points: Sequence[Point], link: LineFit | None
) -> LineFit | None:
    """None where there are fewer points than coefficients."""
    to_fit = [point for point in calm(points) if point.role == "fit"]
    axes = _Axes(
        np.array([_units(point) for point in to_fit]),
        np.array([float(point.x.get("bytes", 0)) for point in to_fit]),
        np.array([point.t_s for point in to_fit]),
    )
    unknowns, rate = _unknowns(axes, link)
    if len(to_fit) < len(unknowns):
        return None
    names = [one.name for one in unknowns]

    def law(load: _Axes, *values: Any) -> Any:
        known = dict(zip(names, values, strict=True))
        moved = load.bytes / known.get("bytes_per_s", rate)
        return known["t0_s"] + known.get("unit_s", 0.0) * load.units + moved

    solution = solve(law, axes, axes.t_s.tolist(), unknowns)
    per_token = [p.x["bytes"] / p.x["tokens"] for p in to_fit if "tokens" in p.x]
    return LineFit(
        name=name,
        **{"unit_s": 0.0, "bytes_per_s": rate, **solution.values},
        bytes_per_token=float(median(per_token)) if per_token else 0.0,
        uncertainty=dict(solution.uncertainty),
    )


def _unknowns(axes: _Axes, link: LineFit | None) -> tuple[list[Coefficient], float]:
    """What the points can tell apart, and the rate where it is none of it."""
    found = [Coefficient("t0_s", (0.8 * float(axes.t_s.min()),), (1e-9, 1e2))]
    varied = [float(np.ptp(axis)) > 0 for axis in (axes.units, axes.bytes)]
    per_unit = axes.bytes / np.maximum(axes.units, 1)
    alike = all(varied) and float(np.ptp(per_unit)) <= ALIKE * float(per_unit.max())
    if varied[0]:
        start = float(axes.t_s.max() / axes.units.max())
        found.append(Coefficient("unit_s", (start / 2,), (start / 1e6, start * 2)))
    if alike:
        return found, link.bytes_per_s if link else inf
    if varied[1]:
        start = float((axes.bytes / axes.t_s).max())
        found.append(Coefficient("bytes_per_s", (start,), (start / 4, start * 1e3)))
    return found, inf
