"""Columns as pandas DataFrames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pandas import DataFrame


def frame(columns: Mapping[str, Any], *, index: str | None = None) -> DataFrame:
    """A copy of the columns, by the one named ``index``."""
    import pandas  # 0.5 s that only tables need

    table = pandas.DataFrame({name: column.copy() for name, column in columns.items()})
    return table if index is None else table.set_index(index)
