"""A run as a file: what it ran on, every step, every request, and how it ended.

Lines of JSON, gzipped where the name ends in ``.gz``; times in microseconds on the engine's clock.

    {"schema": "kvsim-groundtruth/1", "engine": ..., "hardware": {}, "software": {}, "model": {},
     "flags": {}, "trace": {}}
    {"step": [start, schedule, prepare, launch, sync, update, wall, gpu], "graph": rows of the
     graph, "queue": [running, waiting, used blocks], "rows": [[sequence, new, past], ...],
     "gone": [sequence, ...], "moved": [preempted, copied, out, in, compiled]}
    {"request": [row, arrival, scheduled, first token, last token, prompt tokens, output tokens,
     preemptions, cached tokens], "status": ...}
    {"end": {...}}

A step repeats nothing: who is neither in ``rows`` nor ``gone`` decodes one token behind what it had
in the step before. What is empty, zero, or ``finished`` is left out. The end line tells a whole log
from one that was cut off.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal

from .records import RequestRecord, StepRecord

SCHEMA = "kvsim-groundtruth/1"
BUFFERED_LINES = 2048
"""Written together, as writing takes time that a step should not have."""
TIMES = (
    "start_s",
    "schedule_s",
    "prepare_s",
    "launch_s",
    "sync_s",
    "update_s",
    "wall_s",
    "gpu_s",
)
QUEUE = ("running", "waiting", "used_blocks")
MOVED = (
    "preempted",
    "copied_blocks",
    "swapped_out_blocks",
    "swapped_in_blocks",
    "compiled",
)
STAMPS = ("arrival_s", "scheduled_s", "first_token_s", "last_token_s")
COUNTS = ("prompt_tokens", "output_tokens", "preemptions", "cached_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a run was run on; values of JSON."""

    engine: str
    """``mini``, or another one's name and version."""
    hardware: Mapping[str, Any]
    software: Mapping[str, Any]
    model: Mapping[str, Any]
    flags: Mapping[str, Any]
    """The server's, and the blocks of its pools."""
    trace: Mapping[str, Any]
    """Name, digest, number of requests."""


class LogWriter:
    """Takes a run's records; as a context it closes the file, with an end only if told one."""

    def __init__(self, path: Path, header: Header) -> None:
        self._file = opened(path, "wt")
        self._lines: list[str] = []
        self._past: dict[int, int] = {}
        names = ("engine", "hardware", "software", "model", "flags", "trace")
        self._put({"schema": SCHEMA} | {name: getattr(header, name) for name in names})
        self.flush()

    def step(self, record: StepRecord) -> None:
        """One step."""
        line: dict[str, Any] = {"step": [_us(getattr(record, name)) for name in TIMES]}
        if record.bucket:
            line["graph"] = record.bucket
        line["queue"] = [getattr(record, name) for name in QUEUE]
        expected, self._past = self._past, {}
        changed = []
        for row in record.rows:
            if row.new_tokens != 1 or expected.pop(row.sequence, -1) != row.past_tokens:
                expected.pop(row.sequence, None)
                changed.append(list(row))
            self._past[row.sequence] = row.past_tokens + row.new_tokens
        moved = [getattr(record, name) for name in MOVED]
        extra = {"rows": changed, "gone": list(expected), "moved": moved if any(moved) else []}
        self._put(line | {name: value for name, value in extra.items() if value})

    def request(self, record: RequestRecord) -> None:
        """One request that has left."""
        stamps = [_us(getattr(record, name)) for name in STAMPS]
        counts = [getattr(record, name) for name in COUNTS]
        line: dict[str, Any] = {"request": [record.request, *stamps, *counts]}
        if record.status != "finished":
            line["status"] = record.status
        self._put(line)

    def end(self, facts: Mapping[str, Any]) -> None:
        """The run is over."""
        self._put({"end": dict(facts)})

    def flush(self) -> None:
        """Write what has come together."""
        self._file.write("".join(self._lines))
        self._file.flush()
        self._lines = []

    def close(self) -> None:
        """Write the rest and close the file."""
        self.flush()
        self._file.close()

    def _put(self, line: Mapping[str, Any]) -> None:
        self._lines.append(json.dumps(line, separators=(",", ":"), allow_nan=False) + "\n")
        if len(self._lines) >= BUFFERED_LINES:
            self.flush()

    def __enter__(self) -> LogWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def opened(path: Path, mode: Literal["rt", "wt"]) -> IO[str]:
    """As text, gzipped where its name says so."""
    if path.name.endswith(".gz"):
        return gzip.open(path, mode, encoding="utf-8")
    return path.open(mode, encoding="utf-8")


def _us(seconds: float) -> float | None:
    return None if math.isnan(seconds) else round(seconds * 1e6, 1)
