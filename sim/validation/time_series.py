"""A CSV of a server's state over time, as its log prints it every second.

Columns by name: ``t`` (seconds), ``running``, ``waiting``, ``kv_cache_pct`` (0 to 100) or
``kv_cache_usage_perc`` (0 to 1), ``gen_throughput`` (output tokens/s). An empty column was not
recorded.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from math import isfinite

import numpy as np

from .measured import Floats, Measured, Series

COLUMNS: dict[str, tuple[str, ...]] = {
    "time_s": ("t", "time_s", "time", "timestamp"),
    "running": ("running", "num_running", "num_requests_running"),
    "waiting": ("waiting", "num_waiting", "num_requests_waiting"),
    "kv_share": ("kv_cache_pct", "kv_cache_usage_perc"),
    "output_tokens_per_s": ("gen_throughput", "generation_throughput", "output_tokens_per_s"),
}
_PERCENT = "kv_cache_pct"
_EPOCH_S = 1e8
"""A first time beyond this is a wall clock's: the series then begins at 0."""


def is_series(header: str) -> bool:
    """Whether a first line names a time and something over it."""
    names = _names(header)
    found = {part for part, known in COLUMNS.items() if any(name in names for name in known)}
    return "time_s" in found and len(found) > 1


def from_csv(text: str, name: str) -> Measured:
    """The series of a file.

    Raises:
        ValueError: a line that lacks a cell or holds no number, named by its number; no samples.
    """
    lines = text.splitlines()
    names = _names(lines[0])
    rows = [
        (number, row)
        for number, row in enumerate(csv.reader(lines[1:]), start=2)
        if any(cell.strip() for cell in row)
    ]
    if not rows:
        raise ValueError(f"{name} holds no samples.")
    for number, row in rows:
        if len(row) != len(names):
            raise ValueError(f"{name} line {number} has {len(row)} cells, its header {len(names)}.")
    columns = {
        part: _column([(number, row[names.index(known)]) for number, row in rows], known, name)
        for part, alike in COLUMNS.items()
        for known in [next((one for one in alike if one in names), None)]
        if known is not None
    }
    time_s = columns.pop("time_s", None)
    if time_s is None:
        raise ValueError(f"{name} must hold times in every line.")
    if (np.diff(time_s) < 0).any():
        at = rows[int(np.flatnonzero(np.diff(time_s) < 0)[0]) + 1][0]
        raise ValueError(f"{name} line {at}: its time must not go back.")
    kv_share = columns.pop("kv_share", None)
    if kv_share is not None and _PERCENT in names:
        kv_share = kv_share / 100
    start_s = time_s[0] if time_s[0] > _EPOCH_S else 0.0
    series = Series(time_s=time_s - start_s, kv_share=kv_share, **columns)
    return Measured(sources=(f"{name}: {len(rows)} samples over time",), series=series)


def without_dead_kv(series: Series) -> Series:
    """A KV usage of 0 in every sample while requests run was not recorded."""
    kv, running = series.kv_share, series.running
    if kv is None or running is None or kv.any() or not running.any():
        return series
    return replace(series, kv_share=None)


def _names(header: str) -> list[str]:
    return [cell.strip().lower() for cell in next(csv.reader([header]), [])]


def _column(cells: list[tuple[int, str]], column: str, name: str) -> Floats | None:
    if not any(cell.strip() for _, cell in cells):
        return None
    return np.array([_number(cell, f"{name} line {number}", column) for number, cell in cells])


def _number(cell: str, where: str, column: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        raise ValueError(f"{where}: {column}(={cell!r}) must be a number.") from None
    if not isfinite(value) or value < 0:
        raise ValueError(f"{where}: {column}(={cell!r}) must be >= 0.")
    return value
