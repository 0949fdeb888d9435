"""Linear layers against the tokens of a batch: what they compute, and how near to the roof.

    roof(m) = max(2 m n k / matmul FLOP/s, (m k + n k + m n) * size / read bytes/s)

Few tokens only read the weights, so that the first panel rises with them; the second shows what
share of the nearer roof is reached.
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
from .series import COLOURS, MARKS, READ, TERA, key, log_axis, tera, token_axis

LAYERS = ("qkv", "o", "gate_up", "down", "lm_head")


def gemm(calibration: Calibration) -> Picture | None:
    """A line per layer, undivided where that was timed."""
    points = calibration.of("gemm")
    if not points:
        return None
    size = min(p.x["tensor_parallel_size"] for p in points)
    layers = {name: _layer(points, name, size) for name in _names(points)}
    layers = {name: found for name, found in layers.items() if found}
    shares = calibration.read_bytes_per_s is not None and calibration.matmul_flops_per_s is not None
    figure = new_figure(5.4 if shares else 3.6)
    column = figure.subplots(1 + shares, 1, sharex=True, squeeze=False)[:, 0]
    styles = {
        name: {"color": COLOURS[i % 6], "marker": MARKS[i % 6], "markersize": 4.5, "linewidth": 1.5}
        for i, name in enumerate(layers)
    }
    handles = [key(name, linestyle="-", **style) for name, style in styles.items()]
    handles += _rates(column[0], calibration, layers, styles)
    if shares:
        _shares(column[1], calibration, layers, styles)
    token_axis(column[-1], [p.x["m"] for found in layers.values() for p in found])
    column[-1].set_xlabel("tokens")
    legend(figure, list(handles), columns=3)
    return Picture(
        name="linear-layers",
        title="Linear layers by tokens",
        caption=f"Each line is one layer of {calibration.profile.model}, tensor-parallel size "
        f"{size}, {origin(calibration.profile).adjective}. Above, FLOP/s; below, the share of the "
        "nearer roof: the matmul rate, or the time to read weights and activations once.",
        alt="Best rate of each layer: "
        + "; ".join(
            f"{name} {tera(max(p.flops_per_s for p in found))} TFLOP/s"
            for name, found in layers.items()
        )
        + ".",
        figure=figure,
        sheet=_sheet(calibration, points),
    )


def _names(points: Sequence[Point]) -> list[str]:
    """Known layers in the model's order, then others."""
    seen = dict.fromkeys(p.x["layer"] for p in points)
    return [*(x for x in LAYERS if x in seen), *(x for x in seen if x not in LAYERS)]


def _layer(points: Sequence[Point], name: str, size: int) -> list[Point]:
    found = [p for p in points if p.x["layer"] == name and p.x["tensor_parallel_size"] == size]
    return sorted(found, key=lambda p: p.x["m"])


def _rates(
    axes: Axes,
    calibration: Calibration,
    layers: dict[str, list[Point]],
    styles: dict[str, dict[str, Any]],
) -> list[Line2D]:
    quiet(axes, grid="both")
    log_axis(axes, "y")
    for name, found in layers.items():
        axes.plot([p.x["m"] for p in found], [p.flops_per_s / TERA for p in found], **styles[name])
    axes.set_ylabel("TFLOP/s")
    rate = calibration.matmul_flops_per_s
    if not rate:
        return []
    axes.axhline(rate / TERA, zorder=1.5, **READ)
    return [key(f"matmul {tera(rate)}", **READ)]


def _shares(
    axes: Axes,
    calibration: Calibration,
    layers: dict[str, list[Point]],
    styles: dict[str, dict[str, Any]],
) -> None:
    quiet(axes, grid="both")
    for name, found in layers.items():
        shares = [100 * (roof_share(calibration, p) or 0.0) for p in found]
        axes.plot([p.x["m"] for p in found], shares, **styles[name])
    axes.axhline(100, zorder=1.5, **READ)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("of the nearer roof, %")


def roof_share(calibration: Calibration, point: Point) -> float | None:
    """The time that the measured ceilings allow over the time taken."""
    read, matmul = calibration.read_bytes_per_s, calibration.matmul_flops_per_s
    if read is None or matmul is None:
        return None
    return max(point.flops / matmul, point.moved_bytes / read) / point.seconds


def _sheet(calibration: Calibration, points: Sequence[Point]) -> Sheet:
    order = {name: place for place, name in enumerate(_names(points))}
    ordered = sorted(
        points, key=lambda p: (p.x["tensor_parallel_size"], order[p.x["layer"]], p.x["m"])
    )
    return Sheet(
        title="Linear layers",
        columns=(
            "layer",
            "n x k",
            "TP",
            "tokens",
            f"time, {origin(calibration.profile).adjective}",
            "TFLOP/s",
            "TB/s",
            "of the roof",
        ),
        rows=tuple(_row(calibration, p) for p in ordered),
    )


def _row(calibration: Calibration, point: Point) -> tuple[str, ...]:
    x, share = point.x, roof_share(calibration, point)
    return (
        x["layer"],
        f"{x['n']:,} x {x['k']:,}",
        str(x["tensor_parallel_size"]),
        words.count(x["m"]),
        words.seconds(point.seconds),
        tera(point.flops_per_s),
        tera(point.bytes_per_s),
        words.NONE if share is None else words.share(share),
    )
