"""Large trace files read piece by piece: CSV tables, JSON lines and Parquet.

A piece is some tens of thousands of rows, parsed as `load_trace` parses a whole file. What needs
the whole file does not work on pieces: rows must be in order of time, and sessions are refused.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TextIO, cast

import numpy as np

from .chunks import CHUNK, Chunk, Stream, stream_of
from .columns import NS_PER_S, Ints, take_chains
from .formats import CsvColumns, jsonl, tables
from .formats.detect import detect_format
from .formats.jsonl import read_records
from .formats.records import parse_records
from .formats.rows import NO_TIME_NS, Rows
from .formats.source import GZIP_MAGIC
from .formats.tables import TableLayout, generic_layout, parse_table, read_table

_HEAD = 65_536  # characters by which a format is told
_PARQUET_MAGIC = b"PAR1"
_PARQUET_COLUMNS = ("arrival_s", "prompt_tokens", "output_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """How to read a file; None = as the file or its format says."""

    path: Path
    trace_format: str = "auto"
    columns: CsvColumns | None = None
    hash_block_size: int | None = None
    size: int = CHUNK


def in_pieces(pieces: Pieces) -> Stream | None:
    """The file as a stream; None where its format cannot be read piece by piece.

    Raises ValueError for a file that cannot be read, or whose rows cannot be streamed.
    """
    name = _format(pieces)
    if name == "parquet":
        return stream_of(pieces.path.name, partial(_parquet, pieces))
    if name in tables.LAYOUTS or name == "csv":
        return stream_of(pieces.path.name, partial(_tables, pieces, name))
    if name in jsonl.LAYOUTS:
        return stream_of(pieces.path.name, partial(_records, pieces, name))
    return None


def _format(pieces: Pieces) -> str:
    if pieces.columns is not None:
        return "csv"
    if pieces.trace_format != "auto":
        return pieces.trace_format
    try:
        with pieces.path.open("rb") as file:
            if file.read(4) == _PARQUET_MAGIC:
                return "parquet"
    except OSError as error:
        raise ValueError(
            f"trace file {str(pieces.path)!r} cannot be read: {error.strerror}."
        ) from error
    with _opened(pieces.path) as text:
        head = text.read(_HEAD)
    whole_lines = head.rpartition("\n")[0] if len(head) == _HEAD else head
    if not whole_lines.strip():
        raise ValueError(f"{pieces.path.name} holds no requests.")
    return detect_format(whole_lines, pieces.path.name)


def _opened(path: Path) -> TextIO:
    """The file as text, gzip undone; the caller closes it."""
    with path.open("rb") as file:
        zipped = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
    opened = partial(gzip.open, path, "rt") if zipped else path.open
    return cast(TextIO, opened(encoding="utf-8-sig", newline=""))


def _tables(pieces: Pieces, name: str) -> Iterator[Chunk]:
    file = pieces.path.name
    with _opened(pieces.path) as text:
        reader = csv.reader(text)
        header = next((row for row in reader if any(map(str.strip, row))), None)
        if header is None:
            return
        state = _Joined(file)
        while True:
            line = reader.line_num
            try:
                rows = list(islice(reader, pieces.size))
            except csv.Error as error:
                raise ValueError(f"{file} row {reader.line_num} is not CSV: {error}.") from error
            if not rows:
                return
            buffer = io.StringIO(newline="")
            csv.writer(buffer).writerows([header, *rows])
            table = parse_table(buffer.getvalue(), file)
            layout = generic_layout(pieces.columns, table) if pieces.columns else _layout(name)
            yield from state.chunk(read_table(table, layout), line - 1)


def _layout(name: str) -> TableLayout:
    return tables.LAYOUTS[name]


def _records(pieces: Pieces, name: str) -> Iterator[Chunk]:
    with _opened(pieces.path) as text:
        state, line = _Joined(pieces.path.name), 0
        while lines := list(islice(text, pieces.size)):
            records = parse_records("".join(lines), pieces.path.name)
            rows = read_records(records, jsonl.LAYOUTS[name], pieces.hash_block_size)
            yield from state.chunk(rows, line)
            line += len(lines)


def _parquet(pieces: Pieces) -> Iterator[Chunk]:
    import pyarrow  # 0.2 s that only this function needs
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(pieces.path)
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).split("\n")[0].rstrip(".")
        raise ValueError(f"{pieces.path.name} cannot be read as Parquet: {reason}.") from None
    with file:
        missing = sorted({*_PARQUET_COLUMNS} - {*file.schema_arrow.names})
        if missing:
            raise ValueError(f"{pieces.path.name} lacks {', '.join(missing)}.")
        at = 0
        for batch in file.iter_batches(batch_size=pieces.size, columns=list(_PARQUET_COLUMNS)):
            columns = {name: batch.column(name).to_numpy(False) for name in _PARQUET_COLUMNS}
            lengths = ("prompt_tokens", "output_tokens")
            for name in lengths:
                columns[name] = columns[name].astype(np.int64)
                if len(columns[name]) and columns[name].min() < 1:
                    raise ValueError(f"{pieces.path.name} has {name} below 1.")
            yield Chunk(first_row=at, **columns)
            at += batch.num_rows


class _Joined:
    """Rows of one file become chunks of one stream: times from its first row, in order."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._num_rows = 0
        self._start_ns: int | None = None
        self._hash_block_size: int | None = None
        self._tenants: dict[Any, int] = {}

    def chunk(self, rows: Rows, lines_before: int) -> Iterator[Chunk]:
        """A chunk of these rows; none where none could be read."""
        self._check(rows)
        skipped = tuple(
            type(skip)(file=skip.file, row=skip.row + lines_before, reason=skip.reason)
            for skip in rows.skipped
        )
        if not len(rows):
            return
        time_ns = rows.time_ns
        order = np.arange(len(rows)) if time_ns is None else np.argsort(time_ns, kind="stable")
        columns: dict[str, Any] = {
            name: column[order]
            for name in ("prompt_tokens", "output_tokens", "cancel_s", "priority")
            if (column := getattr(rows, name)) is not None
        }
        if rows.tenant is not None:
            columns["tenant"] = self._numbers(rows, order)
        if rows.hash_ids is not None and rows.hash_offsets is not None:
            chains = take_chains(rows.hash_ids, rows.hash_offsets, order)
            columns["hash_ids"], columns["hash_offsets"] = chains
            columns["hash_block_size"] = rows.hash_block_size
        yield Chunk(
            first_row=self._num_rows,
            arrival_s=None if time_ns is None else self._seconds(time_ns[order], rows.rebase),
            skipped=skipped,
            **columns,
        )
        self._num_rows += len(rows)

    def _check(self, rows: Rows) -> None:
        untimed = rows.time_ns is not None and bool((rows.time_ns == NO_TIME_NS).any())
        delayed = rows.delay_s is not None and not np.isnan(rows.delay_s).all()
        linked = rows.session is not None and any(name is not None for name in rows.session)
        if untimed or delayed or linked or rows.parent_key is not None:
            raise ValueError(
                f"{self._file} has sessions, which are read whole: simulate it without --stream."
            )
        for name, flag, one in (("num_samples", "n", 1), ("beam_width", "beam_width", 0)):
            column = getattr(rows, name)
            if column is not None and column.max(initial=one) > 1:
                raise ValueError(
                    f"{flag}(={int(column.max())}) must be 1 for a request to be streamed."
                )
        if rows.hash_block_size is not None:
            known = self._hash_block_size or rows.hash_block_size
            if known != rows.hash_block_size:
                raise ValueError(f"{self._file} has prefix ids of {known} and other tokens.")
            self._hash_block_size = known

    def _seconds(self, time_ns: Ints, rebase: bool) -> Any:
        if self._start_ns is None:
            self._start_ns = int(time_ns[0]) if rebase else 0
        return (time_ns - self._start_ns) / NS_PER_S

    def _numbers(self, rows: Rows, order: Ints) -> Ints:
        assert rows.tenant is not None, "the caller has looked"
        names = (rows.tenant[row] for row in order.tolist())
        numbers = [self._tenants.setdefault(name, len(self._tenants)) for name in names]
        return np.array(numbers, dtype=np.int64)
