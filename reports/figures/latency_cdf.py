"""Latencies as distributions: TTFT, TPOT and E2E of each candidate's finished requests.

A curve is drawn through at most 200 quantiles. Candidates whose times are all the same, as below
saturation, share a line and its label.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from ...sim.candidate import Candidate
from ...sim.plan import Plan
from .. import words
from ..latencies import Floats, alike, quantile_sheet, sorted_times
from ..picture import Picture
from ..style import CATEGORY_COLOURS, FONT_PT, INK, QUIET, legend, new_figure, quiet
from ..verdict import short_name

PANELS = {"ttft": "time to first token", "tpot": "time per output token", "e2e": "end to end"}
MOST_POINTS = 200
_LOG_FROM = 10.0
"""Spread from which an axis is logarithmic."""
_LONG_LABEL = 20
"""Characters from which a label takes a row of its own."""
_FASTEST = 0.002
"""Share at the fast end that may lie left of a logarithmic axis."""
STYLES: tuple[dict[str, Any], ...] = (
    {"color": CATEGORY_COLOURS["token_states"], "linestyle": "-", "linewidth": 2.6},
    {"color": CATEGORY_COLOURS["internal"], "linestyle": (0, (6, 2)), "linewidth": 2.0},
    {"color": CATEGORY_COLOURS["cached"], "linestyle": (0, (1.4, 1.4)), "linewidth": 2.0},
    {"color": CATEGORY_COLOURS["external"], "linestyle": (0, (7, 2, 1.4, 2)), "linewidth": 2.0},
)
"""Dashes tell the lines apart where colours do not."""
NUMBERS = {2: "both allocators", 3: "all three allocators", 4: "all four allocators"}


def latency_cdf(plan: Plan) -> Picture | None:
    """A panel per time, a line per group of candidates; None where nothing finished."""
    groups = alike(plan.candidates)
    if not groups:
        return None
    figure = new_figure(6.4)
    panels = figure.subplots(len(PANELS), 1, squeeze=False)[:, 0]
    times = [sorted_times(members[0].result) for members in groups]
    for axes, (name, title) in zip(panels, PANELS.items(), strict=True):
        _panel(axes, [one[name] for one in times])
        axes.set_title(title, loc="left", size=FONT_PT, color=INK, weight="bold", pad=6)
    panels[-1].set_xlabel("took at most")
    labels = [_label(plan, members) for members in groups]
    styles = [STYLES[place % len(STYLES)] for place in range(len(groups))]
    handles = [
        Line2D([], [], label=label, **style) for label, style in zip(labels, styles, strict=True)
    ]
    columns = 1 if max(map(len, labels)) > _LONG_LABEL else 2
    legend(figure, list(handles), columns=columns, handle_length=3.0)
    return Picture(
        name="latency-cdf",
        title="How the latencies are distributed over the trace",
        caption="Each line says what share of the finished requests took at most so long; further "
        "left is better, and where it levels off below 100 % a slow few wait. Allocators whose "
        "requests all took the same share one line. The axis is logarithmic where the times span "
        "more than a factor of 10.",
        alt="Share of requests by latency. " + _alt(labels, times),
        figure=figure,
        sheet=quantile_sheet(plan.candidates),
    )


def curve(values: Floats) -> tuple[Floats, Floats]:
    """``(seconds, share of requests that took at most so long)``, at most 200 points.

    Args:
        values: ascending, at least one.
    """
    shares = np.arange(1, len(values) + 1) / len(values)
    if len(values) <= MOST_POINTS:
        return values, shares
    picked = np.unique(np.round(np.linspace(0, len(values) - 1, MOST_POINTS)).astype(int))
    return values[picked], shares[picked]


def _panel(axes: Axes, lines: Sequence[Floats]) -> None:
    drawn = [values for values in lines if len(values)]
    for place, values in enumerate(lines):
        if len(values):
            seconds, shares = curve(values)
            style = STYLES[place % len(STYLES)]
            axes.plot(seconds, 100 * shares, drawstyle="steps-post", zorder=3, **style)
    quiet(axes, grid="both")
    axes.set_ylim(0, 102)
    axes.set_yticks([0, 50, 95])
    axes.set_ylabel("requests, %")
    if drawn:
        _scale(axes, drawn)


def _scale(axes: Axes, lines: Sequence[Floats]) -> None:
    """Logarithmic over decades, else around the values; ticks in ms, s."""
    least = min(float(np.quantile(values, _FASTEST)) for values in lines)
    most = max(float(values[-1]) for values in lines)
    if least > 0 and most > _LOG_FROM * least:
        axes.set_xscale("log")
        axes.set_xlim(least / 1.15, most * 1.15)
        subs = (1.0,) if most > 60 * least else (1.0, 2.0, 5.0)
        axes.xaxis.set_major_locator(LogLocator(base=10, subs=subs))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(which="minor", color=QUIET)
    else:
        room = 0.04 * (most - least) or 0.04 * most
        axes.set_xlim(max(0.0, least - room), most + room)
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: words.tick_s(x)))


def _label(plan: Plan, members: Sequence[Candidate]) -> str:
    if len(members) == len(plan.candidates) and len(members) > 1:
        return NUMBERS.get(len(members), f"all {len(members)} allocators")
    return ", ".join(short_name(plan, one.title) for one in members)


def _alt(labels: Sequence[str], times: Sequence[dict[str, Floats]]) -> str:
    def ends(values: Floats) -> str:
        if not len(values):
            return "none"
        p50, p95 = np.quantile(values, (0.5, 0.95))
        return f"{words.seconds(float(p50))}, {words.seconds(float(p95))}"

    return (
        "; ".join(
            f"{label}: "
            + ", ".join(f"{title} half within {ends(one[name])}" for name, title in PANELS.items())
            for label, one in zip(labels, times, strict=True)
        )
        + " (the second figure: 95 %)."
    )
