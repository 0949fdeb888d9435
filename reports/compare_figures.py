"""The figures of a comparison: of results their distributions and courses over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..sim.comparison import Comparison
from ..sim.metric_directions import Unit, value_at
from ..sim.result import Columns
from ..sim.stored import Stored
from ..sim.validation.figures import kv_share
from ..sim.validation.request_errors import predicted_times
from . import words
from .compare_bars import plan_bars
from .compare_sheets import value_words
from .figures.latency import PANELS
from .overlay import Curve, Floats, distribution, panels
from .picture import Picture
from .resample import bin_means
from .sheet import Sheet
from .sheets import TIMES

NUM_BINS = 300
COURSES = {"running": "requests running", "waiting": "requests waiting", "pool": "KV pool in use"}
COUNTS: dict[str, Unit] = {
    "mean_running": "mean",
    "peak_running": "count",
    "mean_waiting": "mean",
    "peak_waiting": "count",
}
SHARES = (5, 25, 50, 75, 95, 99)


def compare_pictures(comparison: Comparison) -> list[Picture]:
    """All figures that what is stored allows, in the order of the page."""
    if comparison.kind == "plan":
        return [plan_bars(comparison)]
    found = [draw(comparison.runs) for draw in (latency_cdf, over_time)]
    return [picture for picture in found if picture is not None]


def latency_cdf(runs: Sequence[Stored]) -> Picture | None:
    """Share of requests up to each latency; None where no run has its requests beside it."""
    columns = [run.columns("requests") for run in runs]
    if not any(columns):
        return None
    times = [None if one is None else predicted_times(one) for one in columns]
    rows = [
        (PANELS[name], [None if one is None else distribution(one[name]) for one in times])
        for name in PANELS
    ]
    names = [run.name for run in runs]
    return Picture(
        name="latency-cdf",
        title="Latency of the finished requests",
        caption="How many of the requests are served within a time: a line further left is better. "
        "Each line is one run, each panel one time; an axis is logarithmic where times are spread "
        "wide.",
        alt="Medians: "
        + "; ".join(
            f"{name} "
            + ", ".join(
                f"{TIMES[one]} {value_words(value_at(run.values, f'{one}.p50'), 'seconds')}"
                for one in PANELS
            )
            for name, run in zip(names, runs, strict=True)
        )
        + ".",
        figure=panels(rows, names, over_time=False),
        sheet=cdf_sheet(names, times),
    )


def cdf_sheet(names: Sequence[str], times: Sequence[Mapping[str, Floats] | None]) -> Sheet:
    """Percentiles of each run and time."""
    rows = []
    for one in PANELS:
        for name, columns in zip(names, times, strict=True):
            known = np.empty(0) if columns is None else columns[one][~np.isnan(columns[one])]
            cells = (
                [words.seconds(float(np.percentile(known, share))) for share in SHARES]
                if len(known)
                else [words.NONE] * len(SHARES)
            )
            rows.append((name, TIMES[one], *cells))
    return Sheet(
        title="Percentiles of the latencies",
        columns=("run", "time", *(f"p{share}" for share in SHARES)),
        rows=tuple(rows),
        text_columns=(0, 1),
    )


def over_time(runs: Sequence[Stored]) -> Picture | None:
    """Running, waiting and use of the pool; None where no run has its occupancy beside it."""
    segments = [_with_rows(run.columns("occupancy")) for run in runs]
    if not any(one is not None for one in segments):
        return None
    courses = [
        None if one is None else courses_of(one, value_at(run.values, "pool_slots") or 0.0)
        for run, one in zip(runs, segments, strict=True)
    ]
    rows = [
        (title, [None if one is None else one[name] for one in courses])
        for name, title in COURSES.items()
    ]
    names = [run.name for run in runs]
    return Picture(
        name="over-time",
        title="Running, waiting and the KV pool over time",
        caption=f"Means over 1/{NUM_BINS} of each run's time. The pool's share is what requests "
        "hold; cached blocks that nobody holds are not in it. A line that goes on longer took "
        "longer to finish.",
        alt="Mean and peak of requests running, mean waiting: "
        + "; ".join(f"{run.name} {_running_words(run)}" for run in runs)
        + ".",
        figure=panels(rows, names, over_time=True, shares=(COURSES["pool"],)),
        sheet=_course_sheet(runs, courses),
    )


def courses_of(segments: Columns, pool_slots: float) -> dict[str, Curve | None]:
    """Running, waiting and share of the pool in bins, from the first step on."""
    starts = np.asarray(segments["start_s"], dtype=np.float64)
    durations = np.asarray(segments["duration_s"], dtype=np.float64)
    edges = np.linspace(starts[0], starts[-1] + durations[-1], NUM_BINS + 1)
    values: dict[str, Floats | None] = {
        "running": np.asarray(segments["num_running"], dtype=np.float64),
        "waiting": np.asarray(segments["num_waiting"], dtype=np.float64),
        "pool": kv_share(segments, pool_slots) if pool_slots else None,
    }
    return {
        name: None
        if one is None
        else stairs(edges - edges[0], bin_means(starts, durations, one, edges))
        for name, one in values.items()
    }


def stairs(edges: Floats, values: Floats) -> Curve:
    """A value for each bin between the edges."""
    return Curve(x=edges, y=np.append(values, values[-1]), steps=True)


def _with_rows(columns: Columns | None) -> Columns | None:
    return columns if columns is not None and len(columns["start_s"]) else None


def _running_words(run: Stored) -> str:
    return ", ".join(_counts(run)[position] for position in (0, 1, 2))


def _counts(run: Stored) -> list[str]:
    return [value_words(value_at(run.values, path), unit) for path, unit in COUNTS.items()]


def _course_sheet(
    runs: Sequence[Stored], courses: Sequence[Mapping[str, Curve | None] | None]
) -> Sheet:
    return Sheet(
        title="Running, waiting and the KV pool",
        columns=(
            *("run", "mean running", "peak running", "mean waiting", "peak waiting"),
            *("KV pool in use, mean", "highest"),
        ),
        rows=tuple(
            (run.name, *_counts(run), *_pool_words(one))
            for run, one in zip(runs, courses, strict=True)
        ),
    )


def _pool_words(courses: Mapping[str, Curve | None] | None) -> tuple[str, str]:
    curve = None if courses is None else courses["pool"]
    if curve is None:
        return words.NONE, words.NONE
    return words.share(float(curve.y[:-1].mean())), words.share(float(curve.y.max()))
