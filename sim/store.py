"""Results on disk: ``summary.json``, ``requests.parquet``, ``occupancy.parquet``; whole or not."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path

from ..traces.write import replace_bytes
from .result import Columns, Result
from .summary import Summary


def prepare_directory(directory: str | Path) -> Path:
    """Make an output folder, or find out that it cannot be, before the work begins.

    Raises:
        ValueError: the folder cannot be made or written to.
    """
    if not str(directory):
        raise ValueError("out(='') must name a folder.")
    path = Path(directory)
    probe = path / ".kvsim-probe"
    try:
        path.mkdir(parents=True, exist_ok=True)
        replace_bytes(probe, b"")
        probe.unlink()
    except OSError as error:
        raise _unwritable(directory, error) from error
    return path


def write_files(directory: str | Path, files: Mapping[str, bytes]) -> list[Path]:
    """Write files by name, each under a temporary name first.

    Raises:
        ValueError: the folder cannot be written to.
    """
    path = prepare_directory(directory)
    try:
        for name, data in files.items():
            replace_bytes(path / name, data)
    except OSError as error:
        raise _unwritable(directory, error) from error
    return [path / name for name in files]


def write_result(result: Result, summary: Summary, directory: str | Path) -> list[Path]:
    """Write one simulation; returns the paths.

    Raises:
        ValueError: the folder cannot be written to.
    """
    files = {
        "summary.json": json_bytes(summary.to_json()),
        "requests.parquet": parquet_bytes(result.requests),
        "occupancy.parquet": parquet_bytes(result.segments),
    }
    return write_files(directory, files)


def json_bytes(value: object) -> bytes:
    """Indented JSON with a final newline; keys keep their order."""
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


def parquet_bytes(columns: Columns) -> bytes:
    """A Parquet file of these columns."""
    import pyarrow  # 0.2 s that only this function needs
    import pyarrow.parquet

    table = pyarrow.table({name: pyarrow.array(column) for name, column in columns.items()})
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _unwritable(directory: str | Path, error: OSError) -> ValueError:
    return ValueError(f"out(={str(directory)!r}) cannot be written: {error.strerror}.")
