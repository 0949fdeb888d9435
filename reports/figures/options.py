"""The servers of a decision as bars: what each costs, and what rate each holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...sim.plan import Plan
from ...sim.planner.decision import Decision, usd_per_million
from ...sim.planner.option import Option
from .. import words
from ..decision_sheets import option_sheet, searches_of
from ..picture import Picture
from ..style import CATEGORY_COLOURS, FONT_PT, FREE, INK, QUIET, new_figure, quiet, row_titles
from .slo import slo_picture

MOST_ROWS = 12
"""Servers that are drawn; the table has them all."""
_BAR = 0.36
_CHOSEN = CATEGORY_COLOURS["token_states"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bar:
    title: str
    value: float
    text: str
    chosen: bool


def options_cost(plan: Plan) -> Picture | None:
    """USD per hour at the target, else per million output tokens; None without a price."""
    decision = plan.decision
    if decision is None:
        return None
    rows = [(one, _cost(one, decision)) for one in _drawn(decision)]
    priced = [(one, value) for one, value in rows if value is not None]
    if not priced:
        return None
    at_target = decision.target_rate_per_s is not None
    bars = [
        _Bar(
            title=one.title,
            value=value,
            text=_cost_text(one, value, at_target=at_target),
            chosen=one is decision.chosen,
        )
        for one, value in priced
    ]
    unit = "USD per hour, all replicas" if at_target else "USD per million output tokens"
    return _picture(
        decision,
        bars,
        name="options-cost",
        title="What each server costs" + (" at the target" if at_target else ""),
        axis=unit,
        caption=f"{unit}, by the list prices in the table; filled: the chosen one. Each server "
        "runs at a rate within the objective; those that hold none, do not fit or have no price "
        "are in the table only.",
    )


def options_rate(plan: Plan) -> Picture | None:
    """Requests a second that one replica holds."""
    decision = plan.decision
    if decision is None or not any(one.search.best for one in decision.options):
        return None
    bars = [
        _Bar(
            title=one.title,
            value=one.search.rate_per_s,
            text=f"{words.number(one.search.rate_per_s)}"
            + (f", {one.num_replicas} replicas" if one.num_replicas > 1 else ""),
            chosen=one is decision.chosen,
        )
        for one in _drawn(decision)
    ]
    return _picture(
        decision,
        bars,
        name="options-rate",
        title="The rate that one replica holds",
        axis="requests per second within the objective, one replica",
        caption=f"The highest request rate at which {decision.slo} are served so; filled: the "
        "chosen server. The replicas are those that the target takes.",
    )


def objective(plan: Plan) -> Picture | None:
    """Attainment and goodput of the servers from rate to rate, the chosen one first."""
    if plan.decision is None:
        return None
    return slo_picture(searches_of(plan.decision))


def _drawn(decision: Decision) -> list[Option]:
    """The chosen one, then the losers that hold a rate, in their order."""
    losers = [one.option for one in decision.losers if one.option is not None]
    found = ([] if decision.chosen is None else [decision.chosen]) + losers
    return [one for one in found if one.search.best is not None][:MOST_ROWS]


def _cost(option: Option, decision: Decision) -> float | None:
    if decision.target_rate_per_s is None:
        return usd_per_million(option, None)
    return option.usd_per_hour


def _cost_text(option: Option, value: float, *, at_target: bool) -> str:
    if not at_target:
        return words.number(value)
    return f"{value:.2f}: {option.num_gpus} GPU{'s' * (option.num_gpus > 1)}"


def _picture(
    decision: Decision,
    bars: Sequence[_Bar],
    *,
    name: str,
    title: str,
    axis: str,
    caption: str,
) -> Picture:
    figure = new_figure(0.9 + 0.62 * len(bars))
    axes = figure.subplots()
    most = max(*(bar.value for bar in bars), 1e-12)
    for row, bar in enumerate(bars):
        colour = _CHOSEN if bar.chosen else FREE
        axes.barh(row, bar.value, _BAR, color=colour, edgecolor=QUIET, linewidth=0.8)
        where = (bar.value + 0.012 * most, row)
        axes.annotate(bar.text, where, va="center", color=INK, size=FONT_PT - 1)
    quiet(axes)
    row_titles(axes, [bar.title for bar in bars], above=0.22)
    axes.set_xlim(0, most * 1.3)
    axes.set_ylim(len(bars) - 0.5, -0.6)
    axes.set_xlabel(axis)
    left = len(decision.options) - len(bars)
    more = f" {left} more in the table." if left > 0 else ""
    return Picture(
        name=name,
        title=title,
        caption=caption + more,
        alt=f"Bars, {axis}: "
        + "; ".join(f"{bar.title} {bar.text}{' (chosen)' * bar.chosen}" for bar in bars)
        + ".",
        figure=figure,
        sheet=option_sheet(decision),
    )
