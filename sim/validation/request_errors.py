"""Errors request by request: of those that are paired, how far each one's times are off.

Medians of absolute errors do not cancel as those of percentiles do: two distributions may lie on
each other while every request is off. The bias is the median of the signed errors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..result import FINISHED, Columns
from .match import Pairs
from .measured import Floats, Requests


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestErrors:
    """One time, request by request."""

    name: str
    median_s: float
    """Of the absolute errors."""
    p95_s: float
    median_relative: float
    """Of the absolute errors over what was measured."""
    bias: float
    """Median of the signed errors over what was measured."""


def request_errors(
    measured: Requests | None, predicted: Columns | None, pairs: Pairs | None
) -> tuple[RequestErrors, ...]:
    """One for each time that both have; none where requests cannot be paired."""
    if measured is None or predicted is None or pairs is None or not len(pairs.measured):
        return ()
    ours, theirs = predicted_times(predicted), measured_times(measured)
    found = (
        _errors(name, theirs[name][pairs.measured], ours[name][pairs.predicted]) for name in ours
    )
    return tuple(one for one in found if one is not None)


def predicted_times(requests: Columns) -> dict[str, Floats]:
    """TTFT, TPOT and E2E of every request of a result; NaN where it did not finish."""
    arrival, first, finish = (
        np.asarray(requests[name], dtype=np.float64)
        for name in ("arrival_s", "first_token_s", "finish_s")
    )
    later = np.asarray(requests["output_tokens"], dtype=np.float64) - 1
    later[later <= 0] = np.nan
    out = np.where(requests["status"] == FINISHED, 1.0, np.nan)
    return {
        "ttft_s": (first - arrival) * out,
        "tpot_s": (finish - first) / later * out,
        "e2e_s": (finish - arrival) * out,
    }


def measured_times(requests: Requests) -> dict[str, Floats]:
    """The same of what was measured."""
    return {"ttft_s": requests.ttft_s, "tpot_s": requests.tpot_s, "e2e_s": requests.e2e_s}


def _errors(name: str, measured: Floats, predicted: Floats) -> RequestErrors | None:
    known = ~(np.isnan(measured) | np.isnan(predicted))
    if not known.any():
        return None
    off = predicted[known] - measured[known]
    over = measured[known] > 0
    relative = off[over] / measured[known][over]
    return RequestErrors(
        name=name,
        median_s=float(np.median(np.abs(off))),
        p95_s=float(np.quantile(np.abs(off), 0.95)),
        median_relative=float(np.median(np.abs(relative))) if over.any() else float("nan"),
        bias=float(np.median(relative)) if over.any() else float("nan"),
    )
