"""The figures of a validation: measured and predicted in one drawing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..sim.metric_directions import value_at
from ..sim.validation.errors import Validation
from ..sim.validation.figures import counts_over_time
from ..sim.validation.measured import Histogram, Measured
from ..sim.validation.request_errors import measured_times, predicted_times
from . import words
from .compare_figures import COURSES, NUM_BINS, courses_of, stairs
from .compare_sheets import value_words
from .figures.latency import PANELS
from .overlay import Curve, Floats, distribution, panels
from .picture import Picture
from .resample import bin_means
from .sheet import Sheet
from .sheets import TIMES
from .validate_sheets import error_sheet, measured_words

NAMES = ("measured", "predicted")
SHARES = (5, 25, 50, 75, 95, 99)


def validation_pictures(validation: Validation) -> list[Picture]:
    """Those for which both sides are there."""
    found = [draw(validation) for draw in (latency_cdf, over_time)]
    return [picture for picture in found if picture is not None]


def latency_cdf(validation: Validation) -> Picture | None:
    """TTFT, TPOT and E2E of both; None where either has no distribution."""
    ours = validation.result.columns("requests")
    if ours is None:
        return None
    predicted = predicted_times(ours)
    measured = _distributions(validation.measured)
    names = [name for name in PANELS if measured[name] is not None]
    if not names:
        return None
    rows = [(PANELS[name], (measured[name], distribution(predicted[name]))) for name in names]
    return Picture(
        name="latency-cdf",
        title="Latency, measured and predicted",
        caption="How many of the requests were served within a time. Where the lines lie on each "
        "other, the prediction is right; the predicted one further left is too fast."
        + (
            " Measured histograms are known at the edges of their buckets only: between them the "
            "line is straight."
            if validation.measured.requests is None
            else ""
        ),
        alt=_alt(validation, [f"{name}.{point}" for name in names for point in ("p50", "p95")]),
        figure=panels(rows, NAMES, over_time=False),
        sheet=_cdf_sheet(validation, predicted, names),
    )


def over_time(validation: Validation) -> Picture | None:
    """Running, waiting and the pool of both; None where either was not recorded."""
    segments = validation.result.columns("occupancy")
    if segments is None or not len(segments["start_s"]):
        return None
    slots = value_at(validation.result.values, "pool_slots") or 0.0
    predicted, measured = courses_of(segments, slots), _courses(validation.measured)
    rows = [
        (title, (measured[name], predicted[name]))
        for name, title in COURSES.items()
        if measured[name] is not None
    ]
    if not rows:
        return None
    paths = ("mean_running", "peak_running", "mean_waiting", "peak_waiting")
    return Picture(
        name="over-time",
        title="Running and waiting, measured and predicted",
        caption=f"Predicted: means over 1/{NUM_BINS} of the time. Measured: "
        + (
            "samples as they were taken."
            if validation.measured.series is not None
            else "from the requests' own times, means likewise."
        )
        + " Both begin with the first request.",
        alt="Measured and predicted: "
        + "; ".join(_words(validation, path) for path in paths)
        + ".",
        figure=panels(rows, NAMES, over_time=True, shares=(COURSES["pool"],)),
        sheet=error_sheet(validation),
    )


def bucket_curve(histogram: Histogram) -> Curve | None:
    """A histogram's CDF: exact at the edges, straight between them; what is above all is left."""
    if not histogram.count or not len(histogram.edges):
        return None
    below = np.cumsum(histogram.counts[:-1]) / histogram.count
    held = max(int(np.searchsorted(below, below[-1])) + 1, 1)
    first = int(np.flatnonzero(below > 0)[0]) if below.any() else 0
    edges = np.append(0.0, histogram.edges)[first : held + 1]
    return Curve(x=edges, y=np.append(0.0, below)[first : held + 1])


def _distributions(measured: Measured) -> dict[str, Curve | None]:
    if measured.requests is not None:
        times = measured_times(measured.requests)
        return {name: distribution(times[name]) for name in PANELS}
    return {
        name: bucket_curve(measured.histograms[name]) if name in measured.histograms else None
        for name in PANELS
    }


def _courses(measured: Measured) -> dict[str, Curve | None]:
    found: dict[str, Curve | None] = dict.fromkeys(COURSES)
    if measured.requests is not None and (counts := counts_over_time(measured.requests)):
        times, running, waiting = counts
        edges = np.linspace(0.0, times[-1], NUM_BINS + 1)
        spans = np.append(np.diff(times), 0.0)
        for name, counted in (("running", running), ("waiting", waiting)):
            found[name] = stairs(edges, bin_means(times, spans, counted, edges))
    series = measured.series
    if series is not None:
        parts = {"running": series.running, "waiting": series.waiting, "pool": series.kv_share}
        for name, values in parts.items():
            if values is not None:
                found[name] = Curve(x=series.time_s, y=values)
    return found


def _alt(validation: Validation, paths: Sequence[str]) -> str:
    return f"Measured and predicted: {'; '.join(_words(validation, path) for path in paths)}."


def _words(validation: Validation, path: str) -> str:
    one = next(figure for figure in validation.figures if figure.path == path)
    unit = one.metric.unit
    return (
        f"{one.metric.title} {measured_words(one.measured, unit)} and "
        f"{value_words(one.predicted, unit)}"
    )


def _cdf_sheet(validation: Validation, predicted: Mapping[str, Floats], names: list[str]) -> Sheet:
    """Percentiles of both, a row each."""
    requests, histograms = validation.measured.requests, validation.measured.histograms
    rows = []
    for name in names:
        if requests is not None:
            rows.append((TIMES[name], NAMES[0], *_percentiles(measured_times(requests)[name])))
        else:
            points = (histograms[name].quantile(share / 100).value for share in SHARES)
            rows.append((TIMES[name], NAMES[0], *(words.seconds(one) for one in points)))
        rows.append((TIMES[name], NAMES[1], *_percentiles(predicted[name])))
    return Sheet(
        title="Percentiles of the latencies",
        columns=("time", "run", *(f"p{share}" for share in SHARES)),
        rows=tuple(rows),
        text_columns=(0, 1),
    )


def _percentiles(values: Floats) -> list[str]:
    known = values[~np.isnan(values)]
    if not len(known):
        return [words.NONE] * len(SHARES)
    return [words.seconds(float(np.percentile(known, share))) for share in SHARES]
