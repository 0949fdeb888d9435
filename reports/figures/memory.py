"""The memory of one GPU as one stacked bar: what the KV pool is what is left of."""

from __future__ import annotations

from matplotlib.axes import Axes

from ...calibration.memory import MemoryBudget, MemoryLine
from ...sim.plan import Plan
from .. import words
from ..memory_sheets import LINE_TITLES, budget_sheet
from ..picture import Picture
from ..style import CATEGORY_COLOURS, FONT_PT, INK, QUIET, new_figure, quiet

COLOURS = {
    "weights": "#8c96a3",
    "kv_cache": CATEGORY_COLOURS["token_states"],
    "outside": "none",
}
_OTHER = "#c3cad3"


def memory(plan: Plan) -> Picture:
    """One horizontal bar per line, each starting where the one above it ends."""
    budget = plan.budget
    lines = [line for line in budget.lines if line.bytes > 0]
    figure = new_figure(0.75 + 0.36 * len(lines))
    axes = figure.subplots()
    left = 0.0
    for row, line in enumerate(lines):
        _bar(axes, row, line, left, budget)
        left += line.bytes / words.GIB
    quiet(axes)
    total = budget.total_bytes / words.GIB
    axes.set_yticks(range(len(lines)), [LINE_TITLES.get(one.name, one.name) for one in lines])
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, max(total, left))
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.set_xlabel("memory of one GPU, GiB")
    return Picture(
        name="memory-budget",
        title="What the GPU's memory is used for",
        caption="Each bar starts where the one above it ends; together they are the memory that "
        "the framework sees. The KV pool is what the other lines leave of gpu_memory_utilization "
        f"({budget.gpu_memory_utilization:g}).",
        alt="Memory of one GPU: "
        + ", ".join(f"{LINE_TITLES.get(x.name, x.name)} {words.gib(x.bytes)}" for x in lines)
        + f"; total {words.gib(budget.total_bytes)}.",
        figure=figure,
        sheet=budget_sheet(budget),
    )


def _bar(axes: Axes, row: int, line: MemoryLine, left: float, budget: MemoryBudget) -> None:
    size, total = line.bytes / words.GIB, budget.total_bytes / words.GIB
    colour = COLOURS.get(line.name, _OTHER)
    edge = QUIET if colour == "none" else colour
    axes.barh(row, size, 0.62, left=left, color=colour, edgecolor=edge, linewidth=1.0)
    right = left + size < 0.8 * total
    x = left + size + 0.012 * total if right else left - 0.012 * total
    axes.annotate(
        words.gib(line.bytes),
        (x, row),
        ha="left" if right else "right",
        va="center",
        color=INK,
        size=FONT_PT - 1,
    )
