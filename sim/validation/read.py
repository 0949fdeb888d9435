"""Files that recorded a real run, each recognised by its content, put together as one run."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...traces.formats.source import GZIP_MAGIC
from ..stored import read_parquet
from .exposition import Scrape, read_scrapes
from .measured import Measured
from .request_files import BENCH, form_of, from_bench, from_columns, from_lines
from .server_metrics import before_and_after, from_scrapes
from .time_series import from_csv, is_series, without_dead_kv

PARQUET_MAGIC = b"PAR1"
KNOWN = (
    "per-request times (JSON lines, requests.parquet, vllm bench serve --save-detailed), vLLM's "
    "metrics, or a CSV with t, running, waiting"
)
BENCH_KEYS = {*BENCH, "input_lens", "request_throughput"}
DEAD_KV = "KV usage is 0 in every sample while requests run: it was not recorded."


def read_measured(paths: Sequence[str | Path]) -> Measured:
    """One run from all files that recorded it.

    Two pages of vLLM's metrics are one before the run and one after it.

    Raises:
        ValueError: a file that cannot be read or is in no known format, or two that say the same.
    """
    if not paths:
        raise ValueError("measured(=0 files) must be one or more.")
    parts: list[Measured] = []
    pages: dict[str, list[Scrape]] = {}
    for path in (Path(path) for path in paths):
        found = _read(path)
        if isinstance(found, Measured):
            parts.append(found)
        else:
            pages[_unlike(path.name, pages)] = found
    if pages:
        parts.append(_of_pages(pages))
    return _together(parts)


def _read(path: Path) -> Measured | list[Scrape]:
    """What a file holds; pages of metrics are left to be put together."""
    name = path.name
    data = _bytes(path)
    if data.startswith(PARQUET_MAGIC):
        return from_columns(read_parquet(path), name)
    text = _text(data, name)
    if not text.strip():
        raise ValueError(f"measured(={str(path)!r}) is empty.")
    first = text.lstrip()[0]
    if first == "{":
        values = _object(text)
        if values is None or form_of(values) is not None:
            return from_lines(text, name)
        if BENCH_KEYS & values.keys():
            return from_bench(values, name)
    elif "vllm:" in text:
        return read_scrapes(text, name)
    elif is_series(text.splitlines()[0]):
        return from_csv(text, name)
    raise ValueError(f"measured(={str(path)!r}) is in no format known here: {KNOWN}.")


def _bytes(path: Path) -> bytes:
    if path.is_dir():
        raise ValueError(
            f"measured(={str(path)!r}) is a folder: name a file of it, such as requests.parquet."
        )
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"measured(={str(path)!r}) cannot be read: {error.strerror}.") from None
    if not data.startswith(GZIP_MAGIC):
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
        raise ValueError(f"measured(={str(path)!r}) is a damaged gzip file.") from None


def _text(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not UTF-8 text: byte {error.start} is bad.") from None


def _object(text: str) -> dict[str, Any] | None:
    """A single object; None where the text is lines of them, or broken."""
    try:
        values: dict[str, Any] = json.loads(text)
    except ValueError:
        return None
    return values


def _of_pages(pages: dict[str, list[Scrape]]) -> Measured:
    names = " and ".join(pages)
    several = list(pages.values())
    if len(several) == 1:
        return from_scrapes(several[0], names)
    if len(several) > 2 or any(len(scrapes) > 1 for scrapes in several):
        raise ValueError(
            f"{names} hold vLLM's metrics: give one before and one after, or a series."
        )
    return from_scrapes(before_and_after(several[0][0], several[1][0], names), names)


def _unlike(name: str, taken: dict[str, list[Scrape]]) -> str:
    return name if name not in taken else f"{name} ({len(taken) + 1})"


def _together(parts: Sequence[Measured]) -> Measured:
    """One run; a series of the log goes before that of the metrics only by being the only one."""
    for part in ("requests", "series"):
        held = [one for one in parts if getattr(one, part) is not None]
        if len(held) > 1:
            what = "per-request times" if part == "requests" else "samples over time"
            names = " and ".join(one.sources[0].split(":")[0] for one in held)
            raise ValueError(f"{names} both hold {what}: give one of them.")
    joined = Measured(
        sources=tuple(source for one in parts for source in one.sources),
        notes=tuple(note for one in parts for note in one.notes),
        requests=next((one.requests for one in parts if one.requests is not None), None),
        series=next((one.series for one in parts if one.series is not None), None),
        histograms={name: value for one in parts for name, value in one.histograms.items()},
        totals={name: value for one in parts for name, value in one.totals.items()},
    )
    if joined.series is None:
        return joined
    alive = without_dead_kv(joined.series)
    notes = joined.notes if alive is joined.series else (*joined.notes, DEAD_KV)
    return replace(joined, series=alive, notes=notes)
