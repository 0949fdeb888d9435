"""A result on disk: a folder with ``summary.json`` and Parquet files of its columns."""

from __future__ import annotations

import io
from pathlib import Path

from .files import json_bytes
from .folder import write_folder
from .result import Columns, Result
from .summary import Summary

KIND = "result"
SUMMARY = "summary.json"
REQUESTS = "requests.parquet"
OCCUPANCY = "occupancy.parquet"
PHASES = "phases.parquet"


def write_result(
    result: Result, summary: Summary, directory: str | Path, *, force: bool = False
) -> list[Path]:
    """Write one simulation; returns the paths.

    Args:
        result: its columns.
        summary: its scalars.
        directory: made where missing.
        force: write beside files that are not kvsim's.

    Raises:
        ValueError: the folder cannot be written to, or holds files that kvsim did not write.
    """
    files = {
        SUMMARY: json_bytes(summary.to_json()),
        REQUESTS: parquet_bytes(result.requests),
        OCCUPANCY: parquet_bytes(result.segments),
        PHASES: parquet_bytes(result.phases),
    }
    return write_folder(directory, KIND, files, force=force)


def parquet_bytes(columns: Columns) -> bytes:
    """A Parquet file of these columns."""
    import pyarrow  # 0.2 s that only this function needs
    import pyarrow.parquet

    table = pyarrow.table({name: pyarrow.array(column) for name, column in columns.items()})
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
