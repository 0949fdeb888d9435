"""A step on the roofline: its terms under the GPU's roofs, and beside one another by their time.

    x = FLOPs / bytes,    y = FLOPs / seconds,    roof(x) = min(x * bandwidth, FLOP/s of a dtype)

A mark's area is its term's share of the step, its colour and shape what binds it. Terms that move
bytes and compute nothing have no place there; the bar below holds all.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log10, sqrt
from textwrap import wrap
from typing import TYPE_CHECKING, Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from . import words
from .cost_bar import BOUNDS, LABEL_PT, ROW_PT, bar_labels, draw_bar, text_width
from .cost_report import banded, batch_words, bound_words, server_words, terms_sheet
from .label_places import Box, Line, anchor, places
from .picture import Picture
from .style import INK, PAPER, QUIET, legend, new_figure, quiet

if TYPE_CHECKING:
    from ..calibration.costed_step import CostedStep
    from ..calibration.gpus import GPUSpec
    from ..calibration.terms import Term

FRAME_PT = (298.0, 232.0)
"""Of the roofline's axes, as laid out: where labels are placed."""
LARGEST_AREA, SMALLEST_AREA = 420.0, 16.0
ROOFS = ("bf16", "fp8")
LEAST_DECADES = 3.5
TITLE_LETTERS = 42
_HALO = (withStroke(linewidth=2.5, foreground=PAPER),)


class _Scale(NamedTuple):
    """Limits of the axes and where a value lies between them, in points."""

    x: tuple[float, float]
    y: tuple[float, float]

    def at(self, x: float, y: float) -> tuple[float, float]:
        return _along(x, self.x) * FRAME_PT[0], _along(y, self.y) * FRAME_PT[1]


def cost_picture(step: CostedStep) -> Picture:
    """The roofline above, the bar of the step's time below."""
    marks = bar_labels(step, FRAME_PT[0])
    rows = 1 + max((row for _, _, row in marks), default=-1)
    bar_in = 0.62 + rows * ROW_PT / 72
    figure = new_figure(4.75 + bar_in)
    roof, bar = figure.subplots(2, 1, height_ratios=[3.9, bar_in])
    _draw_roofline(roof, step)
    draw_bar(bar, step, marks, FRAME_PT[0])
    _legend(figure, step)
    return Picture(
        name="step-cost",
        title=_title(step),
        caption="The terms of one step under the GPU's roofs, and by their time.",
        alt=f"One step of {step.model.name} on {server_words(step)} takes {banded(step)}. "
        f"Bound by {bound_words(step)}.",
        figure=figure,
        sheet=terms_sheet(step),
    )


def _title(step: CostedStep) -> str:
    """A line each of server, batch and time where they are long."""
    size = f", TP {step.tensor_parallel_size}" if step.tensor_parallel_size > 1 else ""
    batch, time = batch_words(step.batch), banded(step).replace(" ", "\N{NO-BREAK SPACE}")
    parts = [f"{step.model.name} on {step.gpu.name}{size}", f"{batch}: {time}"]
    return "\n".join(line for part in parts for line in wrap(part, TITLE_LETTERS))


def _draw_roofline(axes: Axes, step: CostedStep) -> None:
    shown = [term for term in step.terms if term.bytes > 0 and term.flops > 0]
    scale = _scale(step.gpu, shown)
    quiet(axes, grid="both")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(*scale.x)
    axes.set_ylim(*scale.y)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(base=10))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.set_xlabel("FLOPs per byte moved")
    axes.set_ylabel("TFLOP/s")
    lines = _draw_roofs(axes, step.gpu, scale)
    taken = _name_roofs(axes, step.gpu, scale)
    _draw_terms(axes, step, shown, scale, lines, taken)


def _intensity(term: Term) -> float:
    return term.flops / term.bytes


def _rate(term: Term) -> float:
    """TFLOP/s."""
    return term.flops / term.ns / 1e3


def _roofs(gpu: GPUSpec) -> dict[str, float]:
    """TFLOP/s by dtype, one name where two are equal."""
    rates = {name: gpu.flops_of(name) for name in ROOFS}
    return {name: rate / 1e12 for name, rate in rates.items() if rate}


def _bandwidth(gpu: GPUSpec) -> float:
    """TB/s: TFLOP/s of one FLOP a byte."""
    return gpu.memory_bandwidth_bytes_per_s / 1e12


def _scale(gpu: GPUSpec, shown: Sequence[Term]) -> _Scale:
    """Holds all marks and the ridges, with room for words."""
    roofs = _roofs(gpu).values()
    ridges = [rate / _bandwidth(gpu) for rate in roofs]
    xs = [*map(_intensity, shown), *ridges]
    ys = [*map(_rate, shown), *roofs]
    x, y = (min(xs) / 6, max(xs) * 6), (min(ys) / 5, max(ys) * 2.6)
    return _Scale(_widened(x), _widened(y))


def _widened(limits: tuple[float, float]) -> tuple[float, float]:
    low, high = limits
    return min(low, high / 10**LEAST_DECADES), high


def _along(value: float, limits: tuple[float, float]) -> float:
    low, high = map(log10, limits)
    return (log10(value) - low) / (high - low)


def _draw_roofs(axes: Axes, gpu: GPUSpec, scale: _Scale) -> list[Line]:
    """The slope up to the highest roof, and each roof from its ridge on; in points, too."""
    slope, lines = _bandwidth(gpu), []
    top = max(_roofs(gpu).values())
    start = max(scale.x[0], scale.y[0] / slope)
    segments = [((start, start * slope), (top / slope, top))]
    segments += [((rate / slope, rate), (scale.x[1], rate)) for rate in _roofs(gpu).values()]
    for (x0, y0), (x1, y1) in segments:
        axes.plot([x0, x1], [y0, y1], color=INK, linewidth=1.4, zorder=2)
        lines.append((scale.at(x0, y0), scale.at(x1, y1)))
    return lines


def _name_roofs(axes: Axes, gpu: GPUSpec, scale: _Scale) -> list[Box]:
    """Names at the right above each roof, and at the left above the slope."""
    boxes = []
    for name, rate in _roofs(gpu).items():
        _, y = scale.at(scale.x[1], rate)
        text = f"{name} {words.number(rate)}"
        width = text_width(text)
        boxes.append(Box(FRAME_PT[0] - width, y + 1.5, FRAME_PT[0], y + 1.5 + LABEL_PT * 1.2))
        _write(axes, text, boxes[-1], color=QUIET)
    text = f"memory {words.number(_bandwidth(gpu))} TB/s"
    start = max(scale.x[0], scale.y[0] / _bandwidth(gpu))
    x, y = scale.at(start, start * _bandwidth(gpu))
    x1, y1 = scale.at(start * 10, start * 10 * _bandwidth(gpu))
    width = text_width(text)
    left = x + 2
    bottom = y + (y1 - y) / (x1 - x) * (width + 2) + 3
    boxes.append(Box(left, bottom, left + width, bottom + LABEL_PT * 1.2))
    _write(axes, text, boxes[-1], color=QUIET)
    return boxes


def _draw_terms(
    axes: Axes,
    step: CostedStep,
    shown: Sequence[Term],
    scale: _Scale,
    lines: Sequence[Line],
    taken: Sequence[Box],
) -> None:
    areas = [_area(term.ns / 1e9 / step.step_s) for term in shown]
    for number, (term, area) in enumerate(zip(shown, areas, strict=True)):
        colour, mark = BOUNDS[term.bound]
        axes.scatter(
            _intensity(term),
            _rate(term),
            s=area,
            color=colour,
            marker=mark,
            edgecolor=PAPER,
            linewidth=0.8,
            zorder=4 + number / 100,
        )
    centres = [scale.at(_intensity(term), _rate(term)) for term in shown]
    points = [(at, sqrt(area) / 2) for at, area in zip(centres, areas, strict=True)]
    sizes = [(text_width(term.name), LABEL_PT * 1.25) for term in shown]
    boxes = places(points, sizes, frame=FRAME_PT, taken=taken, lines=lines)
    for term, (centre, _), box in zip(shown, points, boxes, strict=True):
        end = anchor(box, centre)
        xs, ys = zip(_fraction(centre), _fraction(end), strict=True)
        axes.plot(xs, ys, color=QUIET, linewidth=0.6, transform=axes.transAxes, zorder=3)
        _write(axes, term.name, box, color=INK)


def _area(share: float) -> float:
    """Square points."""
    return max(SMALLEST_AREA, LARGEST_AREA * share)


def _fraction(point: tuple[float, float]) -> tuple[float, float]:
    return point[0] / FRAME_PT[0], point[1] / FRAME_PT[1]


def _write(axes: Axes, text: str, box: Box, **style: Any) -> None:
    middle = ((box.left + box.right) / 2, (box.bottom + box.top) / 2)
    axes.annotate(
        text,
        _fraction(middle),
        xycoords="axes fraction",
        ha="center",
        va="center",
        size=LABEL_PT,
        zorder=6,
        path_effects=_HALO,
        **style,
    )


def _legend(figure: Figure, step: CostedStep) -> None:
    handles = [
        Line2D(
            [],
            [],
            label=f"{name} {words.share(seconds / step.step_s)}",
            linestyle="none",
            color=BOUNDS[name][0],
            marker=BOUNDS[name][1],
            markersize=7,
        )
        for name, seconds in step.bound_s.items()
    ]
    legend(figure, list(handles), columns=3)
