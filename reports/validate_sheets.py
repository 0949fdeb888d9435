"""A validation as tables and sentences: figures with their errors, requests one by one."""

from __future__ import annotations

from collections.abc import Iterator

from ..sim.metric_directions import Unit
from ..sim.validation.errors import Figure, Validation
from ..sim.validation.measured import Estimate
from ..sim.validation.request_errors import RequestErrors
from . import words
from .compare_sheets import percent, value_words
from .sheet import Sheet
from .sheets import TIMES

NOT_RECORDED = "not recorded"
FIRST_WORDS = ("output_tokens_per_s", "ttft_s.p95", "tpot_s.p95", "e2e_s.p95")


def verdict(validation: Validation) -> str:
    """The errors that matter most, in one sentence."""
    parts = [
        f"{one.metric.title} {percent(one.error)}"
        for one in validation.figures
        if one.path in FIRST_WORDS and one.error is not None
    ]
    shown = parts or [
        f"{one.metric.title} {percent(one.error)}"
        for one in validation.figures
        if one.error is not None
    ]
    return f"Predicted against measured: {', '.join(shown)}." if shown else "Nothing is off."


def outcome(validation: Validation, tolerance: float | None) -> str:
    """Whether the tolerance is kept; empty where none was asked for."""
    if tolerance is None:
        return ""
    missed = validation.misses(tolerance)
    if not missed:
        return f"Every figure is within {tolerance * 100:g} % of what was measured."
    names = [f"{one.metric.title} ({_error(one)})" for one in missed]
    return f"Off by more than {tolerance * 100:g} %: {words.listing(names)}."


def error_sheet(validation: Validation) -> Sheet:
    """A row per figure: what was measured, what was predicted, how far off, inside the band?"""
    return Sheet(
        title=f"{validation.result.name}: predicted against measured",
        columns=("figure", "measured", "predicted", "error", "measured is in the band"),
        rows=tuple(
            (
                one.metric.title,
                measured_words(one.measured, one.metric.unit),
                value_words(one.predicted, one.metric.unit),
                _error(one),
                {True: "yes", False: "no", None: words.NONE}[one.in_band],
            )
            for one in validation.figures
        ),
        text_columns=(0, 4),
    )


def request_sheet(validation: Validation) -> Sheet | None:
    """Errors of requests one by one; None where they cannot be told apart."""
    if not validation.per_request:
        return None
    return Sheet(
        title="Errors request by request",
        columns=("time", "median error", "p95 error", "median error, relative", "median bias"),
        rows=tuple(_request_row(one) for one in validation.per_request),
    )


def band_words(validation: Validation) -> str:
    """What the band is."""
    band = validation.band
    if band is None:
        return "The result states no band for its step times."
    return (
        f"Band: the result's step times are expected within {band.low:.2f}-{band.high:.2f} of "
        "the figure; counts have none, and times in the queue may leave it."
    )


def notes_of(validation: Validation) -> Iterator[str]:
    """What there is to know about the figures."""
    yield band_words(validation)
    if validation.pairs is not None and validation.measured.requests is not None:
        pairs, requests = validation.pairs, validation.measured.requests
        num = f"{words.count(len(pairs.measured))} of {words.count(len(requests))}"
        yield f"Requests paired {pairs.how}: {num}."
    yield from validation.notes


def measured_words(value: Estimate | None, unit: Unit) -> str:
    """A value, with the bounds between which it is known to lie where they are apart."""
    if value is None:
        return NOT_RECORDED
    if value.low == value.high:
        return value_words(value.value, unit)
    if value.high == float("inf"):
        return f"over {value_words(value.low, unit)}"
    low, high = value_words(value.low, unit), value_words(value.high, unit)
    return f"{value_words(value.value, unit)} ({low} to {high})"


def _error(one: Figure) -> str:
    if one.error is not None:
        return percent(one.error)
    if one.measured is None or one.predicted is None:
        return words.NONE
    return "same" if one.predicted == one.measured.value else "not 0"


def _request_row(one: RequestErrors) -> tuple[str, ...]:
    return (
        TIMES[one.name],
        words.seconds(one.median_s),
        words.seconds(one.p95_s),
        words.share(one.median_relative),
        percent(one.bias),
    )
