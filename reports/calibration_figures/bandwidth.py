"""Read bandwidth that decode attention reaches: against context, a line per batch.

    rate = keys that are read * token_bytes / time of one layer

Marks are points, lines the fit at every doubling; the kernel is the model's own on one GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from ...calibration.profile.loads import token_bytes
from .. import words
from ..calibration_data import Calibration
from ..calibration_fitted import decode_s, off_pct
from ..calibration_points import Point
from ..calibration_words import kernel, origin
from ..picture import Picture
from ..sheet import Sheet
from ..style import legend, new_figure, quiet
from .series import COLOURS, MARKS, TERA, draw_bandwidths, key, spread, tera, token_axis


def bandwidth(calibration: Calibration) -> Picture | None:
    """Uniform batches of the main kernel."""
    points = _points(calibration)
    if not points:
        return None
    batches = spread(sorted({p.batch for p in points}))
    figure = new_figure(4.2)
    axes = figure.subplots()
    quiet(axes, grid="both")
    contexts = [p.context_tokens for p in points]
    handles = [
        _draw_batch(axes, calibration, [p for p in points if p.batch == batch], number)
        for number, batch in enumerate(batches)
    ]
    handles += draw_bandwidths(axes, calibration)
    token_axis(axes, contexts)
    axes.set_xlim(min(contexts) / 1.25, max(contexts) * 1.25)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("context, tokens of each sequence")
    axes.set_ylabel("TB/s")
    legend(figure, list(handles), columns=2)
    every = len({p.batch for p in points})
    left_out = "" if len(batches) == every else f" {len(batches)} of {every} batches are drawn."
    return Picture(
        name="decode-bandwidth",
        title="Read bandwidth of decode attention",
        caption=f"One layer of {kernel(points[0].key)}: bytes of the keys and values over the "
        f"time. Marks are {origin(calibration.profile).adjective}, lines the fit; short contexts "
        f"and small batches are bound by launches, not by memory.{left_out}",
        alt="Bandwidth at the longest context of each batch: "
        + "; ".join(f"batch {batch} {tera(_last(points, batch))} TB/s" for batch in batches)
        + ".",
        figure=figure,
        sheet=_sheet(calibration, points),
    )


def _points(calibration: Calibration) -> list[Point]:
    """Even batches of the main kernel, by batch and context."""
    main = calibration.main_key
    found = [p for p in calibration.of("decode") if p.is_even and p.key == main]
    return sorted(found, key=lambda p: (p.batch, p.context_tokens))


def _last(points: Sequence[Point], batch: int) -> float:
    return [p.bytes_per_s for p in points if p.batch == batch][-1]


def _draw_batch(
    axes: Axes, calibration: Calibration, points: Sequence[Point], number: int
) -> Line2D:
    colour, mark, batch = COLOURS[number], MARKS[number], points[0].batch
    style: dict[str, Any] = {"color": colour, "marker": mark, "markersize": 5.0}
    contexts, rates = zip(*((p.context_tokens, p.bytes_per_s / TERA) for p in points), strict=True)
    axes.plot(contexts, rates, linestyle="none", clip_on=False, zorder=3, **style)
    axes.plot(*_curve(calibration, points), color=colour, linewidth=1.6, zorder=2)
    return key(f"batch {words.count(batch)}", **{**style, "linestyle": "-", "linewidth": 1.6})


def _curve(calibration: Calibration, points: Sequence[Point]) -> tuple[list[float], list[float]]:
    """The fit from the batch's shortest to its longest context; nothing where there is no fit.

    At every doubling: between them, waves of work items make it a saw-tooth.
    """
    first, last = round(points[0].context_tokens), round(points[-1].context_tokens)
    doubled = [first << i for i in range(64) if first << i < last]
    one, contexts, rates = points[0], [], []
    for context in (*doubled, last):
        seconds = decode_s(calibration.profile, one.key, ((context, one.batch),))
        if seconds is not None:
            contexts.append(float(context))
            rates.append(one.batch * context * token_bytes(one.key) / seconds / TERA)
    return contexts, rates


def _sheet(calibration: Calibration, points: Sequence[Point]) -> Sheet:
    adjective = origin(calibration.profile).adjective
    return Sheet(
        title=f"Decode attention, {kernel(points[0].key)}",
        columns=(
            "batch",
            "context",
            f"time, {adjective}",
            "TB/s",
            "of read",
            "fit off by",
        ),
        rows=tuple(_row(calibration, p) for p in points),
        text_columns=(),
    )


def _row(calibration: Calibration, point: Point) -> tuple[str, ...]:
    read = calibration.read_bytes_per_s
    return (
        words.count(point.batch),
        words.count(point.context_tokens),
        words.seconds(point.seconds),
        tera(point.bytes_per_s),
        words.share(point.bytes_per_s / read) if read else words.NONE,
        off_pct(calibration.profile, point),
    )
