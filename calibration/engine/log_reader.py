"""Reads the log of a run (``log`` says what is in it); of one that was cut off what is whole."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .log import COUNTS, MOVED, QUEUE, SCHEMA, STAMPS, TIMES, Header, opened
from .records import RequestRecord, Scheduled, StepRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """A log that was read."""

    header: Header
    steps: tuple[StepRecord, ...]
    """Rows in order of their sequences."""
    requests: tuple[RequestRecord, ...]
    end: Mapping[str, Any]
    """Empty where the log was cut off."""
    notes: tuple[str, ...] = ()
    """What is missing, in sentences."""

    @property
    def is_whole(self) -> bool:
        """Whether it was written to its end."""
        return bool(self.end)


def read_log(path: Path) -> Log:
    """Read a run; of one that was cut off what is whole, with a note.

    Raises:
        ValueError: the file is no log, or one of another version.
    """
    lines = _lines(path)
    header = _header(next(lines, {}), path)
    steps: list[StepRecord] = []
    requests: list[RequestRecord] = []
    end: Mapping[str, Any] = {}
    past: dict[int, int] = {}
    try:
        for line in lines:
            if "step" in line:
                steps.append(_step(line, past))
            elif "request" in line:
                requests.append(_request(line))
            elif "end" in line:
                end = line["end"]
    except (KeyError, TypeError, ValueError):  # a line that is whole JSON and not of a log
        end = {}
    notes = () if end else (_cut(path, header, steps, requests),)
    return Log(header=header, steps=tuple(steps), requests=tuple(requests), end=end, notes=notes)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Whole lines up to the first that is not."""
    with opened(path, "rt") as file:
        try:
            for text in file:
                line = json.loads(text)
                if not isinstance(line, dict) or not text.endswith("\n"):
                    return
                yield line
        except (EOFError, OSError, zlib.error, ValueError):  # cut off, or not JSON
            return


def _header(line: Mapping[str, Any], path: Path) -> Header:
    schema = line.get("schema")
    if schema != SCHEMA:
        found = f"schema(={schema})" if schema else f"the first line of {path.name}"
        raise ValueError(f"{found} must be {SCHEMA}: {path.name} is no log of this version.")
    names = ("engine", "hardware", "software", "model", "flags", "trace")
    missing = [name for name in names if name not in line]
    if missing:
        raise ValueError(f"the header of {path.name} must have {missing[0]}.")
    return Header(**{name: line[name] for name in names})


def _step(line: Mapping[str, Any], past: dict[int, int]) -> StepRecord:
    for sequence in line.get("gone", ()):
        del past[sequence]
    changed = [Scheduled(*row) for row in line.get("rows", ())]
    rows = {sequence: Scheduled(sequence, 1, tokens) for sequence, tokens in past.items()}
    rows |= {row.sequence: row for row in changed}
    past.update({one.sequence: one.past_tokens + one.new_tokens for one in rows.values()})
    values: dict[str, Any] = dict(zip(TIMES, map(_seconds, line["step"]), strict=True))
    values |= zip(QUEUE, line["queue"], strict=True)
    values |= zip(MOVED, line.get("moved", [0] * len(MOVED)), strict=True)
    in_order = tuple(sorted(rows.values()))
    return StepRecord(rows=in_order, bucket=line.get("graph", 0), **values)


def _request(line: Mapping[str, Any]) -> RequestRecord:
    row, *values = line["request"]
    times, counts = values[: len(STAMPS)], values[len(STAMPS) :]
    columns: dict[str, Any] = dict(zip(STAMPS, map(_seconds, times), strict=True))
    columns |= zip(COUNTS, counts, strict=True)
    return RequestRecord(request=row, status=line.get("status", "finished"), **columns)


def _cut(path: Path, header: Header, steps: list[StepRecord], requests: list[RequestRecord]) -> str:
    of = header.trace.get("requests")
    return (
        f"{path.name} is cut off: {len(steps)} steps and {len(requests)}"
        f"{'' if of is None else f' of {of}'} requests are whole and used, the rest is missing."
    )


def _seconds(us: float | None) -> float:
    return math.nan if us is None else us / 1e6
