"""The rows of a sweep for other tools: CSV and Parquet, a line per cell and a column per value."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..files import write_files
from .show import TEXTS, Row


def csv_bytes(rows: Sequence[Row]) -> bytes:
    """Nothing between the commas where there is no value."""
    text = io.StringIO()
    flat = [row.flat() for row in rows]
    writer = csv.DictWriter(text, list(flat[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue().encode()


def parquet_bytes(rows: Sequence[Row]) -> bytes:
    """Null where there is no value."""
    import pyarrow  # 0.2 s that only this function needs
    import pyarrow.parquet

    kinds = dict.fromkeys(TEXTS, pyarrow.string())
    kinds |= {"on_front": pyarrow.bool_(), "num_gpus": pyarrow.int64()}
    flat = [row.flat() for row in rows]
    columns: dict[str, Any] = {
        name: pyarrow.array([one[name] for one in flat], kinds.get(name, pyarrow.float64()))
        for name in flat[0]
    }
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), buffer, compression="zstd")
    return buffer.getvalue()


def write_rows(
    rows: Sequence[Row], *, csv: str | None = None, parquet: str | None = None
) -> list[Path]:
    """Write the files that are named, whole or not at all; their folders are made.

    Raises:
        ValueError: one cannot be written.
    """
    written = []
    for name, out, data_of in (("csv", csv, csv_bytes), ("parquet", parquet, parquet_bytes)):
        if out is None:
            continue
        path = Path(out)
        if not out or path.is_dir():
            raise ValueError(f"{name}(={out!r}) must name a file.")
        written += write_files(path.parent, {path.name: data_of(rows)})
    return written
