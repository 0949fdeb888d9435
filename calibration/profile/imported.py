"""Kernel times of another tool as a profile: the CSV files that LLMServingSim's profiler writes.

    dense         layer, tokens, time_us             projections, norms, rotary, activation
    per_sequence  layer, sequences, time_us          LM head, sampler
    attention     prefill_chunk, kv_prefill, n_decode, kv_decode, time_us

``NAME.csv`` or ``NAME.csv.gz``, microseconds of one layer; other columns are left out. The profile
holds each file's columns in ``tables``, as they were measured: nothing is fitted, for the kernels
are not kvsim's. ``kernel_profile`` reads them back.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from hashlib import sha256
from pathlib import Path

from ..gpus import GPUSpec, load_gpu
from ..models import load_model
from ..silicon.systems import SYSTEMS
from .store import nine_digits
from .values import Hardware, Profile

TABLES = {
    "dense": ("layer", "tokens", "time_us"),
    "per_sequence": ("layer", "sequences", "time_us"),
    "attention": ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode", "time_us"),
}
TEXT = "layer"
TIME = "time_us"
Tables = dict[str, dict[str, list[str] | list[int] | list[float]]]


def import_folder(
    folder: str | Path, *, gpu: str, model: str, tensor_parallel_size: int = 1
) -> Profile:
    """A profile of another tool's times.

    Args:
        folder: with the three files.
        gpu: the card they were measured on, a name of the catalogue or a GPU file.
        model: whose shapes they are.
        tensor_parallel_size: GPUs that its layers were divided over.

    Raises:
        ValueError: a file or column is missing, a cell is no number or below 0, or the GPU or model
            is unknown.
    """
    spec, name = load_gpu(gpu), load_model(model).name
    tables = read_folder(folder, name=f"from(={str(folder)!r})")
    digest = sha256(json.dumps(tables, sort_keys=True).encode()).hexdigest()
    return Profile(
        id=f"{spec.name}.{name}.imported.{digest[:8]}",
        provenance="imported",
        hardware=_hardware(spec),
        software={},
        run={"tensor_parallel_size": tensor_parallel_size},
        model=name,
        ceilings={},
        tables=tables,
    )


def read_folder(folder: str | Path, *, name: str) -> Tables:
    """The columns of the three files, by file and column.

    Args:
        folder: with the three files.
        name: of the folder in error sentences, with the option that named it.

    Raises:
        ValueError: a file or column is missing, or a cell is no number or below 0.
    """
    return {table: _read(Path(folder), table, name) for table in TABLES}


def _hardware(gpu: GPUSpec) -> Hardware:
    """As far as the catalogue tells it: no driver was asked."""
    system = SYSTEMS.get(gpu.name)
    return Hardware(
        gpu=gpu.name,
        name=gpu.title,
        compute_capability="",
        num_sms=system.num_sms if system else 0,
        l2_bytes=gpu.l2_bytes or 0,
        total_memory_bytes=gpu.total_memory_bytes,
    )


def _read(folder: Path, table: str, name: str) -> dict[str, list[str] | list[int] | list[float]]:
    paths = [folder / f"{table}.csv", folder / f"{table}.csv.gz"]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise ValueError(f"{name} has no {table}.csv or {table}.csv.gz.")
    rows = list(csv.DictReader(io.StringIO(_text(path), newline="")))
    if not rows:
        raise ValueError(f"{path} has no rows.")
    missing = [column for column in TABLES[table] if column not in rows[0]]
    if missing:
        raise ValueError(f"{path} has no column {missing[0]}.")
    return {column: _column(rows, column, path) for column in TABLES[table]}


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no whole text or gzip file"
        raise ValueError(f"{path} cannot be read: {reason}.") from None


def _column(
    rows: list[dict[str, str]], column: str, path: Path
) -> list[str] | list[int] | list[float]:
    if column == TEXT:
        return [row[column] for row in rows]
    try:
        numbers = [nine_digits(float(row[column])) for row in rows]
    except (TypeError, ValueError):
        raise ValueError(f"{path}: column {column} holds a cell that is no number.") from None
    least = min(numbers)
    if not least >= 0 or (column == TIME and least == 0):
        raise ValueError(f"{path}: column {column} holds {least:g}: times are > 0, counts >= 0.")
    if column == TIME:
        return numbers
    return [int(number) for number in numbers]
