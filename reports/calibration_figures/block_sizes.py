"""Read bandwidth against the block size: what small blocks cost; and what a smaller KV dtype gains.

Lines join the same batch in blocks of different sizes; only shapes that were run in several sizes
are shown. A gain is the time in the model's own KV dtype over the time in the smaller one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from matplotlib.lines import Line2D

from ...calibration.measure.cases import OURS
from .. import words
from ..calibration_data import Calibration
from ..calibration_goals import FP8_GOAL
from ..calibration_points import Point
from ..calibration_words import batch_words, kernel, origin
from ..picture import Picture
from ..sheet import Sheet
from ..style import QUIET, legend, new_figure, quiet
from .series import COLOURS, DASHED, MARKS, TERA, draw_bandwidths, key, spread, tera, token_axis

FAMILIES = ("decode", "block_sizes", "kv_dtypes")
Groups = dict[Hashable, dict[Any, Point]]


def block_sizes(calibration: Calibration) -> Picture | None:
    """A line per batch and KV dtype."""
    groups = _drawn(_groups(calibration, lambda p: p.key.block_size, least=2))
    if not groups:
        return None
    figure = new_figure(3.6 + 0.1 * len(groups))
    axes = figure.subplots()
    quiet(axes, grid="both")
    handles: list[Line2D] = []
    for number, points in enumerate(groups):
        style: dict[str, Any] = {
            "color": COLOURS[number],
            "marker": MARKS[number],
            "markersize": 5.5,
            "linewidth": 1.5,
            "linestyle": "-",
        }
        axes.plot(list(points), [p.bytes_per_s / TERA for p in points.values()], **style)
        handles.append(key(_label(next(iter(points.values()))), **style))
    handles += draw_bandwidths(axes, calibration)
    token_axis(axes, [size for points in groups for size in points])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("block size, tokens")
    axes.set_ylabel("TB/s")
    legend(figure, list(handles), columns=2)
    return Picture(
        name="block-sizes",
        title="Read bandwidth by block size",
        caption=f"Decode attention, {_heads(calibration)}, "
        f"{origin(calibration.profile).adjective}. A level line means that small blocks cost "
        "nothing; each line is one batch.",
        alt="Bandwidth in the smallest and the largest blocks: "
        + "; ".join(_ends(points) for points in groups)
        + ".",
        figure=figure,
        sheet=_blocks_sheet(calibration, groups),
    )


def kv_dtypes(calibration: Calibration) -> Picture | None:
    """How much faster the same batch is in a smaller KV dtype."""
    main = calibration.main_key
    if main is None:
        return None
    own = main.kv_dtype
    groups = [
        points
        for points in _groups(calibration, lambda p: p.key.kv_dtype, least=2).values()
        if own in points
    ]
    others = sorted({name for points in groups for name in points} - {own})
    if not others:
        return None
    figure = new_figure(3.9)
    axes = figure.subplots()
    quiet(axes, grid="both")
    handles = []
    for number, name in enumerate(others):
        pairs = [(points[own], points[name]) for points in groups if name in points]
        style: dict[str, Any] = {"color": COLOURS[number + 1], "marker": MARKS[number]}
        style["markersize"] = 5.5
        tokens = [base.batch * base.context_tokens for base, _ in pairs]
        gains = [base.seconds / other.seconds for base, other in pairs]
        axes.plot(tokens, gains, linestyle="none", **style)
        handles.append(key(name, **style))
    levels: dict[str, tuple[float, dict[str, Any]]] = {
        f"as fast as {own}": (1.0, {"color": QUIET, "linewidth": 1.1, "linestyle": "-"}),
        f"goal {FP8_GOAL:g}x": (FP8_GOAL, {"color": QUIET, "linewidth": 1.1, "linestyle": DASHED}),
    }
    for label, (level, line) in levels.items():
        axes.axhline(level, zorder=1.5, **line)
        handles.append(key(label, **line))
    token_axis(axes, [p[own].batch * p[own].context_tokens for p in groups])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("tokens of context, whole batch")
    axes.set_ylabel(f"times as fast as {own}")
    legend(figure, list(handles), columns=2)
    sheet = _dtypes_sheet(calibration, groups, own)
    return Picture(
        name="kv-dtypes",
        title="What a smaller KV dtype gains",
        caption=f"Decode attention, {_heads(calibration)}, the same batch with its cache in {own} "
        f"and in another dtype, {origin(calibration.profile).adjective}. Half the bytes would be "
        "twice as fast where memory alone binds.",
        alt="Gain over "
        + own
        + ": "
        + "; ".join(_gain(groups, own, name) for name in others)
        + ".",
        figure=figure,
        sheet=sheet,
    )


def _groups(calibration: Calibration, varied: Callable[[Point], Any], *, least: int) -> Groups:
    """Even batches of the model's own heads that differ in one thing, by that thing."""
    main, found = calibration.main_key, defaultdict[Hashable, dict[Any, Point]](dict)
    beside = calibration.of("baselines", roles=("baseline",))
    ours = [p for p in beside if p.x["name"] == OURS]
    for point in (*calibration.of(*FAMILIES), *ours):
        if main is None or not point.is_even:
            continue
        one = point.key
        if replace(one, block_size=main.block_size, kv_dtype=main.kv_dtype) != main:
            continue
        rest = {one.block_size, one.kv_dtype} - {varied(point)}
        found[point.lengths, frozenset(rest)].setdefault(varied(point), point)
    enough = [(name, points) for name, points in found.items() if len(points) >= least]
    enough.sort(key=lambda group: _tokens(group[1]))
    return {name: dict(sorted(points.items())) for name, points in enough}


def _drawn(groups: Groups) -> list[dict[int, Point]]:
    """Those in most sizes, at most a line per colour."""
    most = max((len(points) for points in groups.values()), default=0)
    full = [points for points in groups.values() if len(points) > most // 2]
    return [full[i] for i in spread(range(len(full)))]


def _tokens(points: Mapping[Any, Point]) -> tuple[float, int]:
    first = next(iter(points.values()))
    return first.batch * first.context_tokens, first.batch


def _label(point: Point) -> str:
    """The batch, and its KV dtype where that is not the kernel's own."""
    own = point.key.kv_dtype == point.key.dtype
    return batch_words(point) + ("" if own else f", {point.key.kv_dtype}")


def _heads(calibration: Calibration) -> str:
    main = calibration.main_key
    assert main is not None, "its points are drawn"
    return kernel(main, blocks=False)


def _ends(points: Mapping[int, Point]) -> str:
    (low, first), *_, (high, last) = points.items()
    rates = f"{tera(first.bytes_per_s)} TB/s in blocks of {low}, {tera(last.bytes_per_s)} of {high}"
    return f"{_label(first)}: {rates}"


def _gain(groups: Sequence[Mapping[str, Point]], own: str, name: str) -> str:
    gains = [points[own].seconds / points[name].seconds for points in groups if name in points]
    return f"{name} {words.times(min(gains))} to {words.times(max(gains))}"


def _blocks_sheet(calibration: Calibration, groups: Sequence[Mapping[int, Point]]) -> Sheet:
    rows = []
    for points in groups:
        largest = points[max(points)]
        rows += [
            (
                _label(point),
                words.count(size),
                words.seconds(point.seconds),
                tera(point.bytes_per_s),
                words.times(point.seconds / largest.seconds),
            )
            for size, point in points.items()
        ]
    return Sheet(
        title="Decode attention by block size",
        columns=(
            "batch",
            "block size",
            f"time, {origin(calibration.profile).adjective}",
            "TB/s",
            "time over that of the largest",
        ),
        rows=tuple(rows),
    )


def _dtypes_sheet(
    calibration: Calibration, groups: Sequence[Mapping[str, Point]], own: str
) -> Sheet:
    rows = [
        (
            batch_words(point),
            words.count(point.key.block_size),
            name,
            words.seconds(point.seconds),
            tera(point.bytes_per_s),
            words.times(points[own].seconds / point.seconds),
        )
        for points in groups
        for name, point in points.items()
    ]
    return Sheet(
        title="Decode attention by KV dtype",
        columns=(
            "batch",
            "block size",
            "KV dtype",
            f"time, {origin(calibration.profile).adjective}",
            "TB/s",
            f"as fast as {own}",
        ),
        rows=tuple(rows),
        text_columns=(0, 2),
    )
