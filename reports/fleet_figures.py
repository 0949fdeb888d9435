"""The figures of a fleet: load and replicas over time, the load of each, shares, latencies."""

from __future__ import annotations

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from ..sim.fleet.figures import FleetFigures
from ..sim.fleet.result import FleetResult, ReplicaResult
from ..sim.result import FINISHED
from ..sim.slo import latencies_of
from . import words
from .figures.clock import time_axis
from .figures.latency_cdf import STYLES, curve
from .fleet_sheets import load_sheet, percentile_sheet, replica_sheet, running_sheet
from .picture import Picture
from .resample import bin_means
from .style import FONT_PT, INK, MEASURE, QUIET, legend, new_figure, quiet, row_titles

Floats = NDArray[np.float64]
NUM_BINS = 300
MOST_ROWS = 16
"""Replicas with a row of their own: with more the figure would be longer than a page."""
TIMES = {"ttft": "time to first token", "tpot": "time per output token", "e2e": "end to end"}


def fleet_pictures(found: FleetResult, figures: FleetFigures) -> list[Picture]:
    """All figures for which the run holds something."""
    pictures = (over_time(found), per_replica(found), shares(figures), latency(found))
    return [picture for picture in pictures if picture is not None]


def over_time(found: FleetResult) -> Picture | None:
    """Requests that wait or run, and replicas that serve."""
    edges = _edges(found)
    if edges is None:
        return None
    requests = found.result.requests
    there = ~np.isnan(requests["finish_s"])
    arrival, finish = requests["arrival_s"][there], requests["finish_s"][there]
    outstanding = _number_of(arrival, finish, edges)
    begin = np.array([one.ready_s for one in found.replicas])
    end = np.array([one.left_s for one in found.replicas])
    served = ~np.isnan(begin)
    ready = _number_of(begin[served], end[served], edges)
    figure = new_figure(3.6)
    top, bottom = figure.subplots(2, 1, sharex=True)
    unit = time_axis([edges[-1]])
    for axes, values, title in (
        (top, outstanding, "requests that wait or run"),
        (bottom, ready, "replicas that serve"),
    ):
        quiet(axes, grid="y")
        colour = MEASURE if axes is top else QUIET
        axes.stairs(values, edges / unit.seconds, fill=True, color=colour)
        axes.set_title(title, loc="left", size=FONT_PT, color=INK, weight="bold", pad=6)
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.set_ylim(bottom=0)
    bottom.set_xlabel(f"time, {unit.name}")
    bottom.set_xlim(0)
    return Picture(
        name="fleet-over-time",
        title="Requests and replicas over time",
        caption="Means over 1/300 of the time each. Requests count from their arrival at the "
        "router to their last token; a replica from when it is loaded until it has left.",
        alt="; ".join(
            f"{what}: mean {words.mean(float(values.mean()))}, peak {words.mean(values.max())}"
            for what, values in (("requests", outstanding), ("replicas", ready))
        )
        + ".",
        figure=figure,
        sheet=load_sheet(outstanding, ready),
    )


def per_replica(found: FleetResult) -> Picture | None:
    """What each replica has to do, on one scale."""
    edges = _edges(found)
    if edges is None:
        return None
    loads = [_load(one, edges) for one in found.replicas]
    shown = found.replicas[:MOST_ROWS]
    figure = new_figure(0.9 + 0.75 * len(shown))
    rows = figure.subplots(len(shown), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    unit = time_axis([edges[-1]])
    for axes, one, load in zip(rows, shown, loads, strict=False):
        quiet(axes, grid="y")
        axes.stairs(load, edges / unit.seconds, fill=True, color=MEASURE)
        title = f"{one.number}: {one.pool}"
        axes.set_title(title, loc="left", size=FONT_PT - 1, color=INK, pad=3)
        axes.yaxis.set_major_locator(MaxNLocator(2, integer=True))
        axes.set_ylim(bottom=0)
    rows[-1].set_xlabel(f"time, {unit.name}")
    rows[-1].set_xlim(0)
    left_out = len(found.replicas) - len(shown)
    more = f" {left_out} further replicas are in the table only." if left_out else ""
    return Picture(
        name="fleet-replicas",
        title="Requests that wait or run at each replica",
        caption="Means over 1/300 of the time each, all rows on one scale. Rows that look alike "
        f"share the load evenly.{more}",
        alt="Mean of each: "
        + ", ".join(
            f"{one.number} {words.mean(float(load.mean()))}"
            for one, load in zip(found.replicas, loads, strict=True)
        )
        + ".",
        figure=figure,
        sheet=running_sheet(found, edges, loads),
    )


def shares(figures: FleetFigures) -> Picture:
    """Requests of each replica, of all in its role."""
    shown = figures.replicas[:MOST_ROWS]
    figure = new_figure(0.9 + 0.5 * len(shown))
    axes = figure.subplots()
    values = [one.request_share for one in shown]
    axes.barh([row + 0.12 for row in range(len(shown))], values, height=0.34, color=MEASURE)
    for row, one in enumerate(shown):
        axes.annotate(
            f" {words.share(one.request_share)}",
            (one.request_share, row + 0.12),
            va="center",
            color=INK,
            size=FONT_PT - 1,
        )
    row_titles(axes, [f"{one.replica}: {one.pool}" for one in shown], above=0.08)
    quiet(axes)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:.0f} %"))
    axes.set_xlim(0, max([*values, 1e-9]) * 1.18)
    axes.set_ylim(len(shown) - 0.55, -0.55)
    axes.set_xlabel("share of the requests")
    return Picture(
        name="fleet-shares",
        title="Who serves how many",
        caption="Requests of each replica, of all that were served in its role.",
        alt=", ".join(f"replica {r.replica} {words.share(r.request_share)}" for r in shown) + ".",
        figure=figure,
        sheet=replica_sheet(figures),
    )


def latency(found: FleetResult) -> Picture | None:
    """Latencies of all requests, and of each pool's where pools serve requests whole."""
    groups = {"all requests": _times(found, None)}
    pools = {one.pool: one.role for one in found.replicas}
    if len(pools) > 1 and set(pools.values()) == {"unified"}:
        groups |= {pool: _times(found, pool) for pool in pools}
    if not len(groups["all requests"]["e2e"]):
        return None
    figure = new_figure(6.0)
    panels = figure.subplots(len(TIMES), 1)
    for axes, (name, title) in zip(panels, TIMES.items(), strict=True):
        quiet(axes)
        for place, times in enumerate(groups.values()):
            if len(times[name]):
                axes.plot(*curve(times[name]), **STYLES[place % len(STYLES)])
        axes.set_title(title, loc="left", size=FONT_PT, color=INK, weight="bold", pad=6)
        axes.set_ylim(0, 1)
        axes.set_xlim(left=0)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:.0f} %"))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: words.tick_s(x)))
        axes.xaxis.set_major_locator(MaxNLocator(5))
    panels[-1].set_xlabel("took at most")
    if len(groups) > 1:
        handles = [
            panels[0].plot([], [], label=group, **STYLES[place % len(STYLES)])[0]
            for place, group in enumerate(groups)
        ]
        legend(figure, list(handles), columns=2, handle_length=3.0)
    sheet = percentile_sheet(groups)
    return Picture(
        name="fleet-latency",
        title="How the latencies are distributed",
        caption="Each line says what share of the finished requests took at most so long; further "
        "left is better.",
        alt="; ".join(f"{row[0]} {row[1]} p50 {row[2]}, p99 {row[-1]}" for row in sheet.rows) + ".",
        figure=figure,
        sheet=sheet,
    )


def _times(found: FleetResult, pool: str | None) -> dict[str, Floats]:
    result = found.result
    kept = result.status == FINISHED
    if pool is not None:
        mine = [one.result.requests["index"] for one in found.replicas if one.pool == pool]
        kept = kept & np.isin(result.requests["index"], np.concatenate(mine))
    columns = {
        name.removesuffix("_s"): values[kept] for name, values in latencies_of(result).items()
    }
    return {name: np.sort(columns[name][~np.isnan(columns[name])]) for name in TIMES}


def _edges(found: FleetResult) -> Floats | None:
    segments = found.result.segments
    if not len(segments["start_s"]):
        return None
    end_s = float((segments["start_s"] + segments["duration_s"]).max())
    return np.linspace(0.0, end_s, NUM_BINS + 1)


def _load(one: ReplicaResult, edges: Floats) -> Floats:
    segments = one.result.segments
    if not len(segments["start_s"]):
        return np.zeros(len(edges) - 1)
    there = (segments["num_running"] + segments["num_waiting"]).astype(np.float64)
    return bin_means(segments["start_s"], segments["duration_s"], there, edges)


def _number_of(begin_s: Floats, end_s: Floats, edges_s: Floats) -> Floats:
    """Mean number of intervals that cover each bin."""

    def before(times: Floats) -> Floats:
        """Integral over time of how many of these times have passed."""
        ordered = np.sort(times)
        sums = np.concatenate([[0.0], np.cumsum(ordered)])
        passed = np.searchsorted(ordered, edges_s, side="right")
        return np.asarray(passed * edges_s - sums[passed], dtype=np.float64)

    widths = np.diff(edges_s)
    covered = np.diff(before(begin_s) - before(end_s))
    return np.divide(covered, widths, out=np.zeros_like(widths), where=widths > 0)
