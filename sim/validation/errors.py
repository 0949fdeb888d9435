"""How far a prediction is from what was measured, and whether its band holds.

    error = (predicted - measured) / measured

The band of the step times, low to high, is about the figure p that kvsim gives: a time is expected
within ``p * low .. p * high``, a rate within ``p / high .. p / low``. Counts have none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..metric_directions import Metric
from ..stored import Stored
from ..summary import plain
from .figures import ALWAYS, FIGURES, measured_figures, predicted_figures
from .match import Pairs, pair
from .measured import Estimate, Measured
from .request_errors import RequestErrors, request_errors

_FEW_PAIRED = 0.9
_ROUNDING = 1e-8
"""A summary has nine significant digits; a band may have no width at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """What a step's time may be, as factors of the figure."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure of both; None where it was not recorded, or not predicted."""

    path: str
    metric: Metric
    measured: Estimate | None
    predicted: float | None
    band: Band | None

    @property
    def both(self) -> bool:
        """Whether there is something to compare."""
        return self.measured is not None and self.predicted is not None

    @property
    def error(self) -> float | None:
        """Relative to what was measured; None where that is 0 or missing."""
        if self.measured is None or self.predicted is None or not self.measured.value:
            return None
        return (self.predicted - self.measured.value) / self.measured.value

    @property
    def in_band(self) -> bool | None:
        """Whether the measured figure lies in the band; None for counts, or without one."""
        if self.measured is None or self.predicted is None or self.band is None:
            return None
        low, high = self.band.low, self.band.high
        if self.metric.unit == "rate":
            low, high = 1 / high, 1 / low
        elif self.metric.unit != "seconds":
            return None
        low, high = low * (1 - _ROUNDING), high * (1 + _ROUNDING)
        return self.measured.high >= self.predicted * low and (
            self.measured.low <= self.predicted * high
        )

    def misses(self, tolerance: float) -> bool:
        """Whether it is off by more; beside a measured 0 by anything."""
        if self.measured is None or self.predicted is None:
            return False
        if self.error is None:
            return self.predicted != self.measured.value
        return abs(self.error) > tolerance


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Validation:
    """A result beside a real run."""

    result: Stored
    measured: Measured
    figures: tuple[Figure, ...]
    pairs: Pairs | None
    per_request: tuple[RequestErrors, ...]
    notes: tuple[str, ...]

    @property
    def band(self) -> Band | None:
        """Of the result's step times."""
        return band_of(self.result.values)

    def misses(self, tolerance: float) -> tuple[Figure, ...]:
        """Figures that are off by more than this share of what was measured."""
        return tuple(one for one in self.figures if one.misses(tolerance))

    def to_json(self, tolerance: float | None = None) -> dict[str, object]:
        """Everything but the columns."""
        return {
            "result": self.result.name,
            "measured": list(self.measured.sources),
            "timing_band": None
            if self.band is None
            else {"low": self.band.low, "high": self.band.high},
            "figures": [_figure_json(one) for one in self.figures],
            "per_request": None if self.pairs is None else self._per_request_json(self.pairs),
            "tolerance": tolerance,
            "misses": None if tolerance is None else [one.path for one in self.misses(tolerance)],
            "notes": list(self.notes),
        }

    def _per_request_json(self, pairs: Pairs) -> dict[str, object]:
        requests = self.measured.requests
        return {
            "paired": pairs.how,
            "num_paired": len(pairs.measured),
            "num_measured": 0 if requests is None else len(requests),
            "errors": {
                one.name: {
                    "median_s": plain(one.median_s),
                    "p95_s": plain(one.p95_s),
                    "median_relative": plain(one.median_relative),
                    "bias": plain(one.bias),
                }
                for one in self.per_request
            },
        }


def validate(measured: Measured, result: Stored) -> Validation:
    """Hold a stored result against what was recorded.

    Raises:
        ValueError: no figure that both have.
    """
    segments, requests = result.columns("occupancy"), result.columns("requests")
    taken, said = measured_figures(measured), predicted_figures(result.values, segments)
    figures = tuple(
        Figure(
            path=path,
            metric=metric,
            measured=taken.get(path),
            predicted=said.get(path),
            band=band_of(result.values),
        )
        for path, metric in FIGURES.items()
        if path in ALWAYS or path in taken
    )
    if not any(one.both for one in figures):
        names = ", ".join(measured.sources)
        raise ValueError(f"measured ({names}) and result {result.name!r} have no figure in common.")
    pairs = None
    if measured.requests is not None and requests is not None:
        pairs = pair(measured.requests, requests)
    return Validation(
        result=result,
        measured=measured,
        figures=figures,
        pairs=pairs,
        per_request=request_errors(measured.requests, requests, pairs),
        notes=(*measured.notes, *_notes(measured, result, pairs)),
    )


def read_tolerance(text: str | None) -> float | None:
    """``10%`` or ``0.1`` as a share; None for none.

    Raises:
        ValueError: no number, or below 0.
    """
    if text is None:
        return None
    number, percent, rest = text.partition("%")
    try:
        value = float(number) / (100 if percent else 1)
    except ValueError:
        value = float("nan")
    if rest.strip() or not 0 <= value < float("inf"):
        raise ValueError(f"tolerance(={text!r}) must be a share >= 0, such as 10% or 0.1.")
    return value


def band_of(summary: Mapping[str, Any]) -> Band | None:
    """The band of a summary's step times, where it has one."""
    band = summary.get("sources", {}).get("timing_band") or {}
    if "low" not in band or "high" not in band:
        return None
    return Band(low=band["low"], high=band["high"])


def _notes(measured: Measured, result: Stored, pairs: Pairs | None) -> list[str]:
    notes = []
    if measured.requests is not None and pairs is not None:
        num, paired = len(measured.requests), len(pairs.measured)
        if paired < _FEW_PAIRED * num:
            notes.append(
                f"Only {paired} of the {num} measured requests have a simulated one of their "
                "lengths: the result is of another trace."
            )
    finished, said = measured.totals.get("num_finished"), result.values.get("num_finished")
    if finished is not None and said is not None and finished != said:
        notes.append(f"The server finished {finished:.0f} requests, the simulation {said}.")
    if measured.series is not None and measured.series.running is not None:
        notes.append(
            "Running, waiting and KV usage were sampled; the prediction knows every step, so that "
            "its peaks are those of any moment."
        )
    return notes


def _figure_json(one: Figure) -> dict[str, object]:
    value = one.measured
    return {
        "path": one.path,
        "title": one.metric.title,
        "unit": one.metric.unit,
        "measured": None if value is None else plain(value.value),
        "between": None if value is None or value.low == value.high else plain(_bounds(value)),
        "predicted": plain(one.predicted),
        "error": plain(one.error),
        "in_band": one.in_band,
    }


def _bounds(value: Estimate) -> list[float]:
    return [value.low, value.high]
