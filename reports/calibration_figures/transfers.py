"""The link to the host: bandwidth against the size of a copy, and of as much in blocks.

``blockwise`` copies block after block, ``gathered`` packs them on the card and copies once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from .. import words
from ..calibration_data import Calibration
from ..calibration_points import Point
from ..calibration_words import origin
from ..picture import Picture
from ..sheet import Sheet
from ..style import CATEGORY_COLOURS, FONT_PT, INK, QUIET, legend, new_figure, quiet
from .series import GIGA, SHEET, key, open_mark, token_axis

DIRECTIONS = {"h2d": "to the card", "d2h": "to the host", "both": "both ways, each"}
DIRECTION_COLOURS = dict(
    zip(
        DIRECTIONS.values(),
        (
            CATEGORY_COLOURS["token_states"],
            CATEGORY_COLOURS["internal"],
            CATEGORY_COLOURS["cached"],
        ),
        strict=True,
    )
)
MANNERS = {"pinned": "o", "pageable": "s", "gathered": "D", "blockwise": "v"}
OPEN = ("pageable", "blockwise")
KINDS = ("copy", "blockwise", "gathered")
Name = tuple[str, str]
"""Direction and manner."""
KIB, MIB = 1024, 1 << 20


def transfers(calibration: Calibration) -> Picture | None:
    """Whole copies above, copies of many blocks below."""
    points = calibration.of("pcie")
    panels = {
        "one copy": _series([p for p in points if p.x["how"] == "copy"]),
        "many blocks": _series([p for p in points if p.x["how"] != "copy"]),
    }
    panels = {title: found for title, found in panels.items() if found}
    if not panels:
        return None
    figure = new_figure(1.7 + 2.1 * len(panels))
    column = list(figure.subplots(len(panels), 1, squeeze=False)[:, 0])
    for axes, (title, found) in zip(column, panels.items(), strict=True):
        _panel(axes, title, found)
    handles = _keys(points) + _roof(column, calibration)
    legend(figure, list(handles), columns=2)
    return Picture(
        name="transfers",
        title="Between host and card",
        caption="Bytes over time, against the bytes of the whole transfer, "
        f"{origin(calibration.profile).adjective}. Blockwise copies one block after another; "
        "gathered packs the blocks on the card and copies once.",
        alt="Best rate: "
        + "; ".join(
            f"{', '.join(name)} {words.number(max(p.bytes_per_s for p in series) / GIGA)} GB/s"
            for found in panels.values()
            for name, series in found.items()
        )
        + ".",
        figure=figure,
        sheet=_sheet(calibration, points),
    )


def _series(points: Sequence[Point]) -> dict[Name, list[Point]]:
    """By direction and manner; the transfers of each by size."""
    found: dict[Name, dict[int, Point]] = {}
    for point in sorted(points, key=lambda p: (*_name(p), p.x["bytes"], p.x["segments"])):
        found.setdefault(_name(point), {})[point.x["bytes"]] = point
    return {name: list(by_size.values()) for name, by_size in found.items()}


def _name(point: Point) -> Name:
    x = point.x
    manner = x["memory"] if x["how"] == "copy" else x["how"]
    return DIRECTIONS[x["direction"]], manner


def _style(name: Name) -> dict[str, Any]:
    """Colour by direction, mark by manner."""
    direction, manner = name
    colour = DIRECTION_COLOURS[direction]
    style = {"color": colour, "marker": MANNERS[manner], "markersize": 5.0, "linewidth": 1.5}
    return style | (open_mark(colour) if manner in OPEN else {})


def _keys(points: Sequence[Point]) -> list[Line2D]:
    names = {_name(p) for p in points}
    handles = [
        key(direction, color=colour, linestyle="-", linewidth=2)
        for direction, colour in DIRECTION_COLOURS.items()
        if direction in {name[0] for name in names}
    ]
    marks = [manner for manner in MANNERS if manner in {name[1] for name in names}]
    return handles + [
        key(manner, **({**_style(("to the card", manner)), "linestyle": "none"} | _quiet(manner)))
        for manner in marks
    ]


def _quiet(manner: str) -> dict[str, Any]:
    """A legend's mark has no direction, and so no colour."""
    return {"color": QUIET} | (open_mark(QUIET) if manner in OPEN else {})


def _panel(axes: Axes, title: str, found: dict[Name, list[Point]]) -> None:
    quiet(axes, grid="both")
    for name, series in found.items():
        sizes = [p.x["bytes"] / KIB for p in series]
        axes.plot(sizes, [p.bytes_per_s / GIGA for p in series], clip_on=False, **_style(name))
    token_axis(axes, [p.x["bytes"] / KIB for series in found.values() for p in series])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda kib, _: _size(kib * KIB)))
    axes.set_ylim(bottom=0)
    axes.set_ylabel("GB/s")
    axes.set_title(title, loc="left", size=FONT_PT, color=INK, weight="bold", pad=6)


def _size(size_bytes: float) -> str:
    """``4 KiB``, ``256 MiB``: powers of two have no decimals."""
    if size_bytes >= MIB:
        return f"{size_bytes / MIB:.3g} MiB"
    return f"{size_bytes / KIB:.3g} KiB"


def _roof(column: Sequence[Axes], calibration: Calibration) -> list[Line2D]:
    if calibration.gpu is None:
        return []
    rate = calibration.gpu.pcie_bytes_per_s
    for axes in column:
        axes.axhline(rate / GIGA, zorder=1.5, **SHEET)
    return [key(f"{words.number(rate / GIGA)} GB/s one way, datasheet", **SHEET)]


def _sheet(calibration: Calibration, points: Sequence[Point]) -> Sheet:
    order = {name: place for place, name in enumerate(KINDS)}
    ordered = sorted(
        points,
        key=lambda p: (order[p.x["how"]], *_name(p), p.x["bytes"], p.x["segments"]),
    )
    return Sheet(
        title="Transfers between host and card",
        columns=(
            "direction",
            "memory",
            "how",
            "bytes",
            "pieces",
            f"time, {origin(calibration.profile).adjective}",
            "GB/s",
        ),
        rows=tuple(
            (
                DIRECTIONS[p.x["direction"]],
                p.x["memory"],
                p.x["how"],
                _size(p.x["bytes"]),
                words.count(p.x["segments"]),
                words.seconds(p.seconds),
                words.number(p.bytes_per_s / GIGA),
            )
            for p in ordered
        ),
        text_columns=(0, 1, 2),
    )
