"""Where the bytes of the pool go: one stacked bar per allocator, in the paper's categories."""

from __future__ import annotations

from dataclasses import asdict

from matplotlib.axes import Axes

from ...sim.backlog import Backlog
from ...sim.plan import Plan
from .. import words
from ..picture import Picture
from ..sheets import CATEGORY_TITLES, pool_share_sheet
from ..style import (
    BLACK,
    CATEGORY_COLOURS,
    FONT_PT,
    INK,
    ON_DARK,
    WHITE,
    legend,
    new_figure,
    quiet,
    row_titles,
)
from .patches import VISIBLE_SHARE, category_patches

_BAR = 0.42
_WIDE_ENOUGH = 0.07
"""Share from which a bar has room for its percentage."""


def pool_shares(plan: Plan) -> Picture:
    """Time-weighted shares under backlog; with the limits lifted too where one binds."""
    panels = {"flags as given": [_shares(one.backlog) for one in plan.candidates]}
    if any(one.backlog != one.memory_backlog for one in plan.candidates):
        alone = [_shares(one.memory_backlog) for one in plan.candidates]
        panels["memory alone (limits lifted)"] = alone
    titles = [one.title for one in plan.candidates]
    figure = new_figure(0.7 + (0.45 + 0.62 * len(titles)) * len(panels))
    column = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (heading, shares) in zip(column, panels.items(), strict=True):
        _panel(axes, titles, shares)
        if len(panels) > 1:
            axes.set_title(heading, loc="left", size=FONT_PT, color=INK, weight="bold", pad=6)
    column[-1].set_xlabel("share of the KV pool under backlog, %")
    legend(figure, category_patches(_present([x for one in panels.values() for x in one])))
    return Picture(
        name="where-the-bytes-go",
        title="Where the bytes of the KV pool go",
        caption="Time-weighted shares of the KV pool while requests never run out. Token states "
        "are slots that hold KV now; reserved slots will be filled later by the same request; "
        "internal waste is allocated and never filled; external waste is unallocated but unusable "
        "(holes, power-of-two rounding); cached is held by nobody, kept for prompts that begin "
        "alike; free space is left where seats or tokens bind. More of the first is better.",
        alt="Shares of the KV pool: "
        + "; ".join(
            f"{heading}, {_words(title, parts)}"
            for heading, shares in panels.items()
            for title, parts in zip(titles, shares, strict=True)
        )
        + ".",
        figure=figure,
        sheet=pool_share_sheet(plan),
    )


def _panel(axes: Axes, titles: list[str], shares: list[dict[str, float]]) -> None:
    for row, parts in enumerate(shares):
        _stack(axes, row, parts)
    quiet(axes)
    row_titles(axes, titles, above=0.24)
    axes.set_xlim(0, 100)
    axes.set_ylim(len(shares) - 0.68, -0.55)


def _shares(backlog: Backlog | None) -> dict[str, float]:
    return {} if backlog is None else asdict(backlog.pool_share)


def _present(shares: list[dict[str, float]]) -> list[str]:
    """Categories that can be seen: an always empty one needs no legend."""
    return [
        name
        for name in CATEGORY_TITLES
        if any(parts.get(name, 0) >= VISIBLE_SHARE for parts in shares)
    ]


def _stack(axes: Axes, row: int, parts: dict[str, float]) -> None:
    if not parts:
        axes.annotate("no request fits", (0.5, row), va="center", color=INK, size=FONT_PT - 1)
    left = 0.0
    for name, value in parts.items():
        axes.barh(row, value * 100, _BAR, left=left * 100, color=CATEGORY_COLOURS[name])
        if value >= _WIDE_ENOUGH:
            colour = INK if name == "free" else WHITE if name in ON_DARK else BLACK
            where = ((left + value / 2) * 100, row)
            text = f"{value * 100:.0f} %" if value < 0.1 else f"{value * 100:.1f} %"
            axes.annotate(text, where, ha="center", va="center", color=colour, size=FONT_PT - 1)
        left += value


def _words(title: str, parts: dict[str, float]) -> str:
    if not parts:
        return f"{title} can hold no request"
    named = (f"{CATEGORY_TITLES[n]} {words.share(v)}" for n, v in parts.items() if v >= 0.0005)
    return f"{title}: {', '.join(named)}"
