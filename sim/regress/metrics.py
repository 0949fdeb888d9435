"""A summary's numbers, flat and rounded so that they are the same on every machine.

Times are whole nanoseconds and every summary prints nine significant digits. Shares and means are
sums, whose last bits depend on the order in which a processor adds; a share that should be 0 can be
1e-17. So a number is kept to nine significant digits and no finer than 1e-9.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..metric_directions import METRICS, value_at

_FINEST_DECIMALS = 9

Metrics = Mapping[str, float | None]
"""By name; None where there is nothing to measure."""


def flat_metrics(summary: Mapping[str, object]) -> dict[str, float | None]:
    """The metrics of a summary's JSON, in the order of a summary."""
    return {name: _kept(value_at(summary, name)) for name in METRICS}


def _kept(value: float | None) -> float | None:
    if value is None or isinstance(value, int):
        return value
    kept = float(f"{round(value, _FINEST_DECIMALS):.9g}")
    return kept if kept else 0.0
