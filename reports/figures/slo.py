"""What share of the requests keeps the objective, and how many a second, from rate to rate."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from ...sim.planner.search import RateSearch
from ..picture import Picture
from ..slo_sheets import rate, slo_sheet
from ..style import CATEGORY_COLOURS, FONT_PT, INK, QUIET, legend, new_figure, quiet

Searches = Sequence[tuple[str, RateSearch]]

COLOURS = tuple(
    CATEGORY_COLOURS[name]
    for name in ("token_states", "internal", "cached", "external", "reserved")
)
MOST_LINES = len(COLOURS)
"""Candidates that are drawn: those that hold the highest rates."""
SUSTAINED, BEST = (0, (1, 2)), (0, (4, 3))


def slo_pictures(searches: Searches) -> list[Picture]:
    """Attainment and goodput over the rate, a line per candidate; none without a candidate."""
    return [slo_picture(searches)] if searches else []


def slo_picture(searches: Searches) -> Picture:
    """Two panels over the same rates."""
    drawn = _drawn(searches)
    figure = new_figure(5.0 + 0.22 * len(drawn))
    kept, good = figure.subplots(2, 1, sharex=True)
    slo = searches[0][1].slo
    _title(kept, "share of the requests that keep every limit, %")
    _title(good, "goodput: requests/s that keep every limit")
    for colour, (_, search) in zip(COLOURS, drawn, strict=False):
        curve = search.curve
        rates = [one.rate_per_s for one in curve]
        _line(kept, rates, [one.attainment for one in curve], colour)
        _line(good, rates, [one.goodput_per_s for one in curve], colour)
        _marks(kept, good, search, colour)
    if len(drawn) == 1:
        _uprights((kept, good), drawn[0][1])
    kept.axhline(slo.quantile, color=QUIET, lw=1.0, zorder=1)
    kept.yaxis.set_major_formatter(PercentFormatter(xmax=1.0, symbol=""))
    kept.set_ylim(0, 1.04)
    top = max(one.rate_per_s for _, search in drawn for one in search.probes)
    good.plot([0, top], [0, top], color=QUIET, lw=0.8, zorder=1)
    good.set_xlim(0, top * 1.04)
    good.set_ylim(0, None)
    good.set_xlabel("requests offered per second")
    legend(figure, list(_handles(drawn)), columns=1, handle_length=2.0)
    return Picture(
        name="slo",
        title="The objective from rate to rate",
        caption=_caption(searches, drawn),
        alt=" ".join(f"{title}: {_found(search)}." for title, search in searches),
        figure=figure,
        sheet=slo_sheet(searches),
    )


def _drawn(searches: Searches) -> Searches:
    if len(searches) <= MOST_LINES:
        return searches
    ordered = sorted(searches, key=lambda named: -named[1].rate_per_s)
    return ordered[:MOST_LINES]


def _title(axes: Axes, text: str) -> None:
    quiet(axes, grid="both")
    axes.set_title(text, loc="left", size=FONT_PT, color=INK, weight="bold", pad=6)


def _line(axes: Axes, rates: list[float], values: list[float], colour: str) -> None:
    axes.plot(rates, values, color=colour, lw=1.6, zorder=3)
    axes.plot(rates, values, ".", color=colour, markersize=5, zorder=3)


def _marks(kept: Axes, good: Axes, search: RateSearch, colour: str) -> None:
    """The rate that a long run confirmed, filled; where preemptions begin; the knee."""
    best, knee, onset = search.best, search.knee, search.preemption_onset_per_s
    if best is not None:
        kept.plot([best.rate_per_s], [best.attainment], "o", color=colour, ms=7, zorder=5)
        good.plot([best.rate_per_s], [best.goodput_per_s], "o", color=colour, ms=7, zorder=5)
    if knee is not None:
        at = ([knee.rate_per_s], [knee.goodput_per_s])
        good.plot(*at, "s", color=colour, mfc="none", ms=9, zorder=4)
    if onset is not None:
        first = next(one for one in search.probes if one.rate_per_s == onset)
        kept.plot([onset], [first.attainment], "v", color=colour, mfc="none", ms=9, zorder=4)


def _uprights(panels: Sequence[Axes], search: RateSearch) -> None:
    for axes in panels:
        axes.axvline(search.saturated_per_s, color=QUIET, lw=1.2, linestyle=SUSTAINED, zorder=1)
        if search.best is not None:
            axes.axvline(search.rate_per_s, color=QUIET, lw=1.0, linestyle=BEST, zorder=1)


def _handles(drawn: Searches) -> list[Line2D]:
    lines = [
        Line2D([], [], color=colour, marker=".", lw=1.6, label=f"{title}: {_short(search)}")
        for colour, (title, search) in zip(COLOURS, drawn, strict=False)
    ]
    several = [search for _, search in drawn]
    if any(search.best is not None for search in several):
        label = "highest rate that holds, confirmed by a longer run"
        lines.append(Line2D([], [], color=QUIET, marker="o", lw=0, label=label))
    label = "knee: the highest goodput"
    lines.append(Line2D([], [], color=QUIET, marker="s", mfc="none", lw=0, label=label))
    if any(search.preemption_onset_per_s is not None for search in several):
        label = "preemptions begin"
        lines.append(Line2D([], [], color=QUIET, marker="v", mfc="none", lw=0, label=label))
    if len(drawn) == 1:
        label = "finished per second under backlog"
        lines.append(Line2D([], [], color=QUIET, lw=1.2, linestyle=SUSTAINED, label=label))
    return lines


def _short(search: RateSearch) -> str:
    return "no rate holds" if search.best is None else f"{rate(search.rate_per_s)} requests/s"


def _found(search: RateSearch) -> str:
    if search.best is None:
        return f"no rate holds; {search.nearest_miss}"
    text = f"holds {rate(search.rate_per_s)} requests/s, bound by {search.bound_by}"
    knee, onset = search.knee, search.preemption_onset_per_s
    if knee is not None:
        text += f"; knee at {rate(knee.rate_per_s)}"
    text += "; nothing is preempted" if onset is None else f"; preemptions from {rate(onset)}"
    return f"{text}; {rate(search.saturated_per_s)} under backlog"


def _caption(searches: Searches, drawn: Searches) -> str:
    slo = searches[0][1].slo
    text = (
        f"Above, the share of the requests that keep {slo}; the line is that share. "
        "Below, how many a second do: on the diagonal, all that are offered. Small marks are runs "
        "over a short part of the trace at that rate, filled ones the longer run that confirmed "
        "the answer. "
    )
    if len(drawn) < len(searches):
        text += f"The {len(drawn)} candidates with the highest rates of {len(searches)} are drawn. "
    evidence = [
        f"{title}, bound by {search.bindings[0].kind}: {search.bindings[0].evidence}"
        for title, search in drawn
        if search.bindings
    ]
    return text + " ".join(evidence)
