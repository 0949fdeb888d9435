"""A trace from files, from a table, or drawn."""

from __future__ import annotations

import os
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from ..calibration.names import unknown_name
from ..traces.intake import Intake, take_in
from ..traces.trace import Trace

if TYPE_CHECKING:
    from pandas import DataFrame

_HOW = {field.name for field in fields(Intake)} - {"trace", "concurrency"}
_COLUMNS = ("arrival_s", "prompt_tokens", "output_tokens")
_ALSO = ("priority", "tenant", "num_samples", "beam_width")


def read_trace(*source: str | os.PathLike[str] | DataFrame, **how: Any) -> Trace:
    """Read request traces, or draw one.

    Args:
        source: files (every format of ``kvsim trace formats``), or one pandas DataFrame with
            ``prompt_tokens``, ``output_tokens`` and, where they are known, ``arrival_s`` (seconds),
            ``priority``, ``tenant``, ``num_samples`` and ``beam_width``; none = a workload is
            drawn.
        how: fields of :class:`~kvsim.traces.intake.Intake`, which are the options of the command
            line: ``workload="sharegpt"``, ``num_requests=500``, ``rate_per_s=4.0``, ``seed=1``,
            ``max_requests=1000``, ``window="0:600"``, ``trace_format="azure"``, ...

    Raises:
        ValueError: unreadable files, unknown names, numbers out of range; TypeError where a table
            stands beside files.
    """
    for name in how:
        if name not in _HOW:
            raise unknown_name(name, sorted(_HOW), field="argument of read_trace")
    if len(source) == 1 and not isinstance(source[0], str | os.PathLike):
        if how:
            raise ValueError(f"{next(iter(how))} is for files and workloads, not for a table.")
        return _of_table(source[0])
    paths = tuple(os.fspath(one) for one in source)
    return take_in(Intake(trace=paths, **how)).trace


def _of_table(table: DataFrame) -> Trace:
    missing = [name for name in _COLUMNS[1:] if name not in table]
    if missing:
        raise ValueError(f"table has no column {' and no column '.join(missing)}.")
    timed = "arrival_s" in table
    rows = table.sort_values("arrival_s", kind="stable") if timed else table
    arrival_s = rows["arrival_s"].to_numpy(dtype=np.float64) if timed else None
    columns = {name: _whole(rows, name) for name in (*_COLUMNS[1:], *_ALSO) if name in rows}
    return Trace(name="table", arrival_s=arrival_s, **columns)  # type: ignore[arg-type]


def _whole(rows: DataFrame, name: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    values = rows[name].to_numpy(dtype=np.float64)
    if not (np.isfinite(values) & (values == np.round(values))).all():
        raise ValueError(f"column {name} must hold whole numbers.")
    return np.asarray(values, dtype=np.int64)
