"""Every measured kernel under the card's roofs, measured and of the datasheet.

    x = FLOPs / byte,    y = FLOPs / second,    roof(x) = min(x * bandwidth, FLOP/s)

Work is what must be done (``calibration_points``): a kernel that does more than that stands lower.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from .. import words
from ..calibration_data import Calibration
from ..calibration_points import Point
from ..calibration_words import origin
from ..picture import Picture
from ..sheet import Sheet
from ..style import legend, new_figure, quiet
from .series import FAMILY_STYLES, READ, SHEET, TERA, bandwidths, key, log_axis, tera

GROUPS = {
    "decode attention": ("decode", ("decode", "ragged", "kv_dtypes", "block_sizes")),
    "prefill attention": ("prefill", ("prefill",)),
    "mixed batches": ("mixed", ("mixed",)),
    "linear layers": ("gemm", ("gemm",)),
    "element-wise": ("elementwise", ("elementwise",)),
}
ROOM = 1.8
"""How far the axes reach beyond the outermost point."""


def roofline(calibration: Calibration) -> Picture | None:
    """Points by family; lines for the ceilings."""
    groups = _groups(calibration)
    if not groups:
        return None
    figure = new_figure(4.9)
    axes = figure.subplots()
    quiet(axes, grid="both")
    for which in "xy":
        log_axis(axes, which)
    for title, points in groups.items():
        colour, mark = FAMILY_STYLES[GROUPS[title][0]]
        axes.plot(
            [p.flops / p.moved_bytes for p in points],
            [p.flops_per_s / TERA for p in points],
            linestyle="none",
            marker=mark,
            markersize=3.2,
            markeredgewidth=0,
            color=colour,
            zorder=3,
        )
    roofs = _draw_roofs(axes, calibration, [p for points in groups.values() for p in points])
    axes.set_xlabel("FLOPs per byte moved")
    axes.set_ylabel("TFLOP/s")
    handles = [_family_key(title) for title in groups]
    legend(figure, [*handles, *roofs], columns=2)
    sheet = _sheet(calibration, groups)
    return Picture(
        name="roofline",
        title="Every kernel under the roofs",
        caption="Each mark is one point: useful FLOPs over useful bytes, and over the time. The "
        "slopes are bandwidths, the level lines matrix products; solid and dashed lines are "
        f"{origin(calibration.profile).adjective}, dotted ones the datasheet's. FLOPs of "
        "element-wise kernels are counted by hand; kernels that only move bytes have no place.",
        alt="Kernels under the roofline: "
        + "; ".join(f"{row[0]} up to {row[3]} TB/s and {row[5]} TFLOP/s" for row in sheet.rows)
        + ".",
        figure=figure,
        sheet=sheet,
    )


def _groups(calibration: Calibration) -> dict[str, list[Point]]:
    found = {
        title: [p for p in calibration.of(*families) if p.flops > 0 and p.moved_bytes > 0]
        for title, (_, families) in GROUPS.items()
    }
    return {title: points for title, points in found.items() if points}


def _family_key(title: str) -> Line2D:
    colour, mark = FAMILY_STYLES[GROUPS[title][0]]
    return key(title, color=colour, marker=mark, markeredgewidth=0)


def _draw_roofs(axes: Axes, calibration: Calibration, points: Sequence[Point]) -> list[Line2D]:
    """Slopes up to their ridge, levels from it on."""
    slopes, levels = bandwidths(calibration), _levels(calibration)
    intensities = [p.flops / p.moved_bytes for p in points]
    rates = [p.flops_per_s for p in points]
    ridges = [level / slope for _, slope, _ in slopes for _, level, _ in levels]
    x = min(intensities) / ROOM, max([*intensities, *ridges]) * ROOM
    y = min(rates) / TERA / ROOM, max([*rates, *(level for _, level, _ in levels)]) / TERA * ROOM
    top = max((level for _, level, _ in levels), default=max(rates))
    bottom = max((slope for _, slope, _ in slopes), default=0.0)
    for _, slope, style in slopes:
        end = top / slope
        axes.plot([x[0], end], [x[0] * slope / TERA, top / TERA], zorder=2, **style)
    for _, level, style in levels:
        start = level / bottom if bottom else x[0]
        axes.plot([start, x[1]], [level / TERA] * 2, zorder=2, **style)
    axes.set_xlim(*x)
    axes.set_ylim(*y)
    return [key(label, **style) for label, _, style in (*slopes, *levels)]


def _levels(calibration: Calibration) -> list[tuple[str, float, dict[str, Any]]]:
    """Words, FLOP/s and style of each roof of the matrix units that is known."""
    adjective, found = origin(calibration.profile).adjective, []
    rate = calibration.matmul_flops_per_s
    if rate:
        found.append((f"matmul {tera(rate)} TFLOP/s, {adjective}", rate, READ))
    peak = calibration.gpu.flops_of("bf16") if calibration.gpu else None
    if peak:
        found.append((f"bf16 {tera(peak)} TFLOP/s, datasheet", peak, SHEET))
    return found


def _sheet(calibration: Calibration, groups: dict[str, list[Point]]) -> Sheet:
    return Sheet(
        title="Kernels under the roofs",
        columns=(
            "kernels",
            "points",
            "FLOPs/byte",
            "best TB/s",
            "of read",
            "best TFLOP/s",
            "of matmul",
        ),
        rows=tuple(_row(calibration, title, points) for title, points in groups.items()),
    )


def _row(calibration: Calibration, title: str, points: list[Point]) -> tuple[str, ...]:
    intensities = [p.flops / p.moved_bytes for p in points]
    moved, flops = max(p.bytes_per_s for p in points), max(p.flops_per_s for p in points)
    read, matmul = calibration.read_bytes_per_s, calibration.matmul_flops_per_s
    return (
        title,
        words.count(len(points)),
        f"{words.number(min(intensities))} to {words.number(max(intensities))}",
        tera(moved),
        words.share(moved / read) if read else words.NONE,
        tera(flops),
        words.share(flops / matmul) if matmul else words.NONE,
    )
