"""The memory map: time across, addresses of the pool up, a panel per candidate on common axes.

Cells are drawn as a small raster in the colours of the categories; free space is left transparent,
so that it takes the colour of the axes behind it, which follows the page's.
"""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from matplotlib.patches import Patch
from numpy.typing import NDArray

from ...sim.candidate import Candidate
from ...sim.memory_map import MemoryMap
from ...sim.plan import Plan
from ...sim.result import CATEGORIES
from .. import words
from ..picture import Picture
from ..sheet import Sheet
from ..sheets import CATEGORY_TITLES
from ..style import CATEGORY_COLOURS, FONT_PT, FREE, INK, legend, new_figure, quiet
from .clock import Unit, time_axis
from .patches import VISIBLE_SHARE, category_patches

_PANELS_PER_ROW = 2
_NUM_COLUMNS = 240
"""Columns of a drawing, even in time; looks are uneven by some steps."""
_OUTLINE_PT = 1.1
"""Wide enough for a single row of cells to be seen."""
_MIB = 1 << 20
_COLOURS = np.array([to_rgba(CATEGORY_COLOURS[name], float(name != "free")) for name in CATEGORIES])


def memory_map(plan: Plan) -> Picture | None:
    """Paged at the top left, contiguous beside and below; None where no pool was looked at."""
    maps = [seen for one in plan.candidates if (seen := one.memory_map) is not None]
    if not maps:
        return None
    span_s = min(seen.duration_s for seen in maps)
    height_bytes = min(_view_bytes(plan, seen) for seen in maps)
    unit = time_axis([span_s])
    per_row = min(len(plan.candidates), _PANELS_PER_ROW)
    rows = math.ceil(len(plan.candidates) / per_row)
    figure = new_figure(0.9 + 2.2 * rows)
    grid = figure.subplots(rows, per_row, sharex=True, sharey=True, squeeze=False)
    for axes, one in zip(grid.flat, plan.candidates, strict=False):
        _panel(axes, one, plan, span_s / unit.seconds, unit)
    for axes in grid.flat[len(plan.candidates) :]:
        axes.set_axis_off()
    grid[0, 0].set_xlim(0, span_s / unit.seconds)
    grid[0, 0].set_ylim(0, height_bytes / _MIB)
    figure.supylabel("address in the KV pool, MiB", size=FONT_PT, color=INK)
    for axes in grid[-1]:
        axes.set_xlabel(f"time, {unit.name}")
    legend(figure, [*category_patches(_present(maps)), _marked_patch()])
    view = f"{words.size(height_bytes)} of the KV pool"
    return Picture(
        name="memory-map",
        title="The memory map: what lies where in the KV pool",
        caption=f"The same {view} under each allocator for {words.seconds(span_s)} from the middle "
        "of a backlog, with the limits lifted: time to the right, addresses up, coloured by what "
        "each place holds. A contiguous allocator gives every request one band: the blue edge "
        "climbs with its tokens, and what is above it waits for later tokens or is never used. "
        "Paged allocation hands out small blocks as tokens come, so that nearly every place holds "
        f"one. The outline is one request: {_outlined(plan.candidates)}.",
        alt=f"{view[0].upper()}{view[1:]} over {words.seconds(span_s)}: "
        + "; ".join(_words(one) for one in plan.candidates)
        + ".",
        figure=figure,
        sheet=memory_map_sheet(plan),
    )


def memory_map_sheet(plan: Plan) -> Sheet:
    """A row per candidate: shares of what is drawn, and how the outlined request lies."""
    return Sheet(
        title="The drawn part of the pool, and the outlined request",
        columns=(
            "allocator",
            *CATEGORY_TITLES.values(),
            "outlined: tokens",
            "slots held",
            "separate pieces",
        ),
        rows=tuple(_row(one) for one in plan.candidates),
    )


def outline(cells: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Lines between cells that are marked and cells that are not, as long as they are straight.

    Args:
        cells: (num_rows, num_columns).

    Returns:
        (num_lines, 2, 2) ends of each line as (column, row).
    """
    padded = np.pad(cells, 1).astype(np.int8)
    row, begin, end = _stretches(np.diff(padded, axis=0)[:, 1:-1] != 0)
    level = np.stack([begin, row, end, row], axis=1)
    column, begin, end = _stretches(np.diff(padded, axis=1)[1:-1].T != 0)
    upright = np.stack([column, begin, column, end], axis=1)
    return np.concatenate([level, upright]).reshape(-1, 2, 2)


def _stretches(marks: NDArray[np.bool_]) -> tuple[NDArray[np.int64], ...]:
    """Line, first place and one behind the last of each stretch of marks within a line."""
    steps = np.diff(np.pad(marks, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    line, begin = np.nonzero(steps == 1)
    return line, begin, np.nonzero(steps == -1)[1]


def _panel(axes: Axes, one: Candidate, plan: Plan, width: float, unit: Unit) -> None:
    quiet(axes)
    axes.grid(visible=False)
    axes.set_facecolor(FREE)
    title = one.title
    seen = one.memory_map
    if seen is None:
        why = "no request fits" if one.backlog is None else "slots have no addresses"
        axes.annotate(
            why, (0.5, 0.5), xycoords="axes fraction", ha="center", color=INK, size=FONT_PT - 1
        )
    else:
        title += f"\n{words.share(seen.shares()['token_states'])} token states"
        _cells(axes, seen, _view_bytes(plan, seen) / _MIB, width, unit)
    axes.set_title(title, loc="left", size=FONT_PT - 1, color=INK, pad=3)


def _cells(axes: Axes, seen: MemoryMap, height: float, width: float, unit: Unit) -> None:
    """The middle of the map, on even columns, and the outline of the marked request."""
    begin_s = (seen.edges_s[0] + seen.edges_s[-1] - width * unit.seconds) / 2
    middles = begin_s + width * unit.seconds * (np.arange(_NUM_COLUMNS) + 0.5) / _NUM_COLUMNS
    looks = np.searchsorted(seen.edges_s, middles, side="right") - 1
    axes.imshow(
        _COLOURS[seen.cells[:, looks]],
        extent=(0, width, 0, height),
        origin="lower",
        aspect="auto",
        interpolation="none",
    )
    if seen.marked is not None:
        scale = width / _NUM_COLUMNS, height / len(seen.cells)
        lines = list(outline(seen.marked.cells[:, looks]) * scale)
        collection = LineCollection(lines, colors=INK, linewidths=_OUTLINE_PT)
        axes.add_collection(collection)


def _view_bytes(plan: Plan, seen: MemoryMap) -> float:
    return seen.view_share * plan.budget.kv_cache_bytes


def _present(maps: list[MemoryMap]) -> list[str]:
    shares = [seen.shares() for seen in maps]
    return [name for name in CATEGORIES if any(one[name] >= VISIBLE_SHARE for one in shares)]


def _marked_patch() -> Patch:
    return Patch(facecolor="none", edgecolor=INK, linewidth=_OUTLINE_PT, label="one request")


def _outlined(candidates: tuple[Candidate, ...]) -> str:
    parts = []
    for one in candidates:
        marked = None if one.memory_map is None else one.memory_map.marked
        if marked is not None:
            pieces = "piece" if marked.num_areas == 1 else "pieces"
            held = f"{words.count(marked.num_areas)} {pieces} of the pool"
            parts.append(f"{one.title} {words.tokens(marked.tokens)} in {held}")
    return "; ".join(parts) if parts else "none was seen"


def _words(one: Candidate) -> str:
    if one.memory_map is None:
        return f"{one.title} has no map"
    shares = one.memory_map.shares().items()
    named = (f"{CATEGORY_TITLES[name]} {words.share(x)}" for name, x in shares if x >= 0.0005)
    return f"{one.title}: {', '.join(named)}"


def _row(one: Candidate) -> tuple[str, ...]:
    if one.memory_map is None:
        return (one.title, *[words.NONE] * (len(CATEGORIES) + 3))
    shares, marked = one.memory_map.shares(), one.memory_map.marked
    outlined = (None,) * 3 if marked is None else (marked.tokens, marked.slots, marked.num_areas)
    return (
        one.title,
        *(words.share(shares[name]) for name in CATEGORY_TITLES),
        *(words.NONE if value is None else words.count(value) for value in outlined),
    )
