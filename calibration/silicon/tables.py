"""The one reader of ``aiconfigurator-core``'s files: Parquet tables of measured operators.

A table is found at ``systems/data/<card>/<family>/<backend>/<version>/<operator>_perf.parquet``;
latencies are milliseconds, message sizes are elements. The newest released version of the backend
(vLLM) is taken. A table whose columns are not as expected is refused: the package's layout is not
an interface, so its minor version is pinned and every surprise is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from .systems import PACKAGE

BACKEND = "vllm"
READS = "0.12"
NS_PER_MS = 1e6
LABELS = ("framework", "version", "device", "backend", "beam_width", "power")
"""Columns that say the same in every row or nothing to us: they are not read."""
RELEASE = re.compile(r"\d+(\.\d+)*")


class TableMissing(ValueError):
    """The card has no table of this operator."""


def package_version() -> str:
    """The installed version of the tables, ``none`` without."""
    try:
        return version("aiconfigurator-core")
    except PackageNotFoundError:
        return "none"


def rows(
    system: str,
    family: str,
    operator: str,
    columns: tuple[str, ...],
    where: Mapping[str, Any] | None = None,
    backend: str = BACKEND,
) -> dict[str, np.ndarray]:
    """Columns of one operator's table, and ``ns``; only rows where the named columns are equal.

    Raises:
        TableMissing: the card has no such table.
        ValueError: the table is not laid out as kvsim reads it.
    """
    table, path = _table(system, family, operator, backend)
    return select(table, path, columns, where or {})


def source_of(system: str, family: str, operator: str, backend: str = BACKEND) -> str:
    """Package, backend version and card of a table, for people."""
    _, path = _table(system, family, operator, backend)
    return f"aiconfigurator-core {package_version()}, {backend} {path.parent.name} on {system}"


def select(
    table: Any, path: Path, columns: tuple[str, ...], where: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """The rows of an Arrow table as arrays."""
    import pyarrow.compute as pc

    needed = {*columns, *where, "latency"}
    missing = sorted(needed - set(table.column_names))
    if missing:
        raise ValueError(
            f"{path.name} of aiconfigurator-core {package_version()} has no column {missing[0]}: "
            f"its layout has changed (kvsim reads {READS}); take --step-cost datasheet."
        )
    keep = None
    for name, value in where.items():
        same = pc.equal(table[name], value)
        keep = same if keep is None else pc.and_(keep, same)
    chosen = table if keep is None else table.filter(keep)
    found = {name: chosen[name].to_numpy() for name in columns}
    found["ns"] = chosen["latency"].to_numpy() * NS_PER_MS
    if not np.all(np.isfinite(found["ns"]) & (found["ns"] > 0)):
        raise ValueError(f"{path.name} of aiconfigurator-core holds a latency that is not > 0.")
    return found


def distinct(system: str, family: str, operator: str, column: str) -> tuple[Any, ...]:
    """The different values of one column, sorted."""
    table, _ = _table(system, family, operator, BACKEND)
    if column not in table.column_names:
        return ()
    return tuple(sorted(table[column].unique().to_pylist()))


@lru_cache(maxsize=64)
def _table(system: str, family: str, operator: str, backend: str) -> tuple[Any, Path]:
    import pyarrow.parquet as pq

    path = _path(system, family, operator, backend)
    try:
        names = [name for name in pq.read_schema(path).names if name not in LABELS]
        return pq.read_table(path, columns=names), path
    except (OSError, ValueError) as error:
        raise ValueError(f"{path.name} of aiconfigurator-core cannot be read: {error}.") from None


def _path(system: str, family: str, operator: str, backend: str) -> Path:
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise TableMissing("aiconfigurator-core, which ships the measured tables, is missing.")
    folder = Path(spec.origin).parent / "systems" / "data" / system / family
    folder = folder / backend if backend else folder / operator  # NCCL belongs to no engine
    found = sorted(
        (path for path in folder.glob(f"*/{operator}_perf.parquet") if _released(path)),
        key=lambda path: tuple(int(part) for part in path.parent.name.split(".")),
    )
    if not found:
        raise TableMissing(f"aiconfigurator-core has no {operator} table of {system}.")
    return found[-1]


def _released(path: Path) -> bool:
    return RELEASE.fullmatch(path.parent.name) is not None
