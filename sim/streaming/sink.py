"""The requests of a streamed run on disk: a Parquet file that grows by row groups.

Rows are in the order in which requests left. The file lies in a temporary folder until it is whole.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from ..result import Columns


class ParquetSink:
    """Takes columns of requests; a context manager that leaves nothing behind.

    Args:
        beside: the file is made beside this folder, so that it can be moved there at once.
        name: of the file.
    """

    def __init__(self, beside: Path, name: str) -> None:
        self._name = name
        try:
            self._folder = Path(tempfile.mkdtemp(prefix=f".{beside.name}-", dir=beside.parent))
        except OSError:  # not ours to write to
            self._folder = Path(tempfile.mkdtemp())
        self._writer: Any = None

    @property
    def path(self) -> Path:
        """Where the file is; whole after :meth:`close`."""
        return self._folder / self._name

    def __enter__(self) -> ParquetSink:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __call__(self, columns: Columns) -> None:
        """Write a row group."""
        import pyarrow  # 0.2 s that only this function needs
        import pyarrow.parquet

        table = pyarrow.table({name: pyarrow.array(column) for name, column in columns.items()})
        if self._writer is None:
            self._writer = pyarrow.parquet.ParquetWriter(
                self.path, table.schema, compression="zstd"
            )
        self._writer.write_table(table)

    def close(self) -> None:
        """No more rows come."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
