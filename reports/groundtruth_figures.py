"""The figures of a comparison with real runs: predicted over measured."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from ..sim.groundtruth.run_figures import RunFigures
from ..sim.groundtruth.truth import Truth
from . import groundtruth_words as said
from . import words
from .compare_figures import NUM_BINS, stairs
from .figures.latency import PANELS
from .groundtruth_sheets import figures_sheet, steps_sheet
from .overlay import COLOURS, Curve, distribution, named, panels
from .picture import Picture
from .resample import bin_means
from .style import QUIET, new_figure, quiet

NAMES = ("measured", "predicted")
RUNNING, POOL = "Requests running", "KV pool in use"
_MARKS = "os^Dvp"


def groundtruth_pictures(truths: Sequence[Truth]) -> list[Picture]:
    """Step times of all runs in one, then latencies and courses of each run."""
    found = [step_times(truths)]
    for truth in truths:
        found += [latency_cdf(truth), over_time(truth)]
    return found


def step_times(truths: Sequence[Truth]) -> Picture:
    """A mark per step: on the diagonal where the prediction is right."""
    figure = new_figure(4.6)
    axes = figure.subplots()
    handles = []
    for place, truth in enumerate(truths):
        style: dict[str, Any] = {
            "color": COLOURS[place % len(COLOURS)],
            "marker": _MARKS[place % len(_MARKS)],
            "markersize": 3.5,
        }
        forced = truth.forced
        times = forced.measured_s, forced.predicted_s
        axes.plot(*times, linestyle="", alpha=0.55, rasterized=True, **style)
        handles.append(Line2D([], [], linestyle="", **style))
    every = np.concatenate([[*one.forced.measured_s, *one.forced.predicted_s] for one in truths])
    ends = float(every.min()) / 1.2, float(every.max()) * 1.2
    axes.plot(ends, ends, color=QUIET, linewidth=1.0)
    quiet(axes, grid="both")
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda x, _: words.tick_s(x)))
        axis.set_minor_formatter(NullFormatter())
    axes.set(xlim=ends, ylim=ends, xlabel="measured", ylabel="predicted")
    named(figure, handles, [truth.name for truth in truths])
    errors = [truth.forced.errors[0] for truth in truths]
    return Picture(
        name="step-times",
        title="Step time, predicted from what was in the step",
        caption="A mark is a step of a real run, predicted from its logged composition. On the "
        "line the prediction is right; below it, too fast.",
        alt="Median errors: "
        + "; ".join(
            f"{truth.name} {words.share(one.median)}"
            for truth, one in zip(truths, errors, strict=True)
        )
        + ".",
        figure=figure,
        sheet=steps_sheet(truths),
    )


def latency_cdf(truth: Truth) -> Picture:
    """TTFT, TPOT and E2E of the run and of its prediction."""
    both = (truth.measured, truth.predicted)
    rows = [
        (label, [distribution(one.latencies_s[f"{name.removesuffix('_s')}_s"]) for one in both])
        for name, label in PANELS.items()
    ]
    return Picture(
        name=f"latency-{_slug(truth.name)}",
        title=f"{truth.name}: latency",
        caption="How many of the requests were served within a time. Where the lines lie on each "
        "other, the prediction is right; the predicted one further left is too fast.",
        alt=_alt(truth, ("ttft_p95_s", "tpot_p95_s", "e2e_p95_s")),
        figure=panels(rows, NAMES, over_time=False),
        sheet=figures_sheet(truth),
    )


def over_time(truth: Truth) -> Picture:
    """Requests that run, and the pool, of the run and of its prediction."""
    both = (truth.measured, truth.predicted)
    rows = [
        (RUNNING, [_course(one, running=True) for one in both]),
        (POOL, [_course(one, running=False) for one in both]),
    ]
    return Picture(
        name=f"over-time-{_slug(truth.name)}",
        title=f"{truth.name}: running and the KV pool",
        caption=f"Means over 1/{NUM_BINS} of each run's time, which begins with the first arrival.",
        alt=_alt(truth, ("mean_running", "kv_use", "num_preemptions")),
        figure=panels(rows, NAMES, over_time=True, shares=(POOL,)),
        sheet=figures_sheet(truth),
    )


def _course(run: RunFigures, *, running: bool) -> Curve:
    values = run.running if running else run.used_share
    end_s = float(run.times_s[-1] + run.durations_s[-1])
    edges = np.linspace(0.0, end_s, NUM_BINS + 1)
    return stairs(edges, bin_means(run.times_s, run.durations_s, values, edges))


def _alt(truth: Truth, names: Sequence[str]) -> str:
    shown = {one.name: one for one in truth.compared}
    return (
        "Measured and predicted: "
        + "; ".join(
            f"{said.title(name)} {said.value(name, shown[name].measured)} and "
            f"{said.value(name, shown[name].predicted)}"
            for name in names
        )
        + "."
    )


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "run"
