"""What has been measured so far, on disk at once, a JSON line each: a run can go on later.

    {"header": {...}}                              what all lines were measured with
    {"point": key, "sample": {family, x, t, ...}}  a measured point
    {"point": key, "failed": "reason"}             a point that this card or software cannot run
    {"run": {...}}                                 when, how long, clocks: one line a session

A last line that was cut off is dropped; any other that cannot be read is an error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..profile.values import Sample
from .point import Point

ENDING = ".partial.jsonl"


def partial_path(profile: Path) -> Path:
    """``profile.json`` -> ``profile.partial.jsonl``, beside it."""
    return profile.with_name(profile.name.removesuffix(".json") + ENDING)


class Partial:
    """An open file of points; what it holds, and adding to it.

    Raises:
        ValueError: it cannot be read or written, or was measured with something else.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path = path
        self.samples: dict[str, Sample] = {}
        self.failures: dict[str, str] = {}
        self.runs: list[dict[str, Any]] = []
        try:
            lines, size = _complete_lines(path)
            for number, line in enumerate(lines, start=1):
                self._read(number, line, header)
            self._file = path.open("a", encoding="utf-8")
            self._file.truncate(size)
        except OSError as error:
            raise ValueError(f"{path} cannot be written: {error.strerror}.") from error
        if not lines:
            self._write({"header": dict(header)})

    def __contains__(self, key: object) -> bool:
        return key in self.samples or key in self.failures

    def add_sample(self, point: Point, sample: Sample) -> None:
        """A point is measured."""
        self.samples[point.key] = sample
        self._write({"point": point.key, "sample": asdict(sample)})

    def add_failure(self, point: Point, reason: str) -> None:
        """A point cannot be measured here."""
        self.failures[point.key] = reason
        self._write({"point": point.key, "failed": reason})

    def add_run(self, run: Mapping[str, Any]) -> None:
        """A session ends."""
        self.runs.append(dict(run))
        self._write({"run": dict(run)})

    def close(self) -> None:
        """Leave the file."""
        self._file.close()

    def delete(self) -> None:
        """Everything is in the profile."""
        self.close()
        self.path.unlink(missing_ok=True)

    def _write(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def _read(self, number: int, line: str, header: Mapping[str, Any]) -> None:
        try:
            read = json.loads(line)
            if number == 1:
                _check_header(self.path, read["header"], header)
            elif "run" in read:
                self.runs.append(read["run"])
            elif "failed" in read:
                self.failures[read["point"]] = read["failed"]
            else:
                self.samples[read["point"]] = _sample(read["sample"])
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{self.path} line {number} is damaged: {error!r}.") from None


def _complete_lines(path: Path) -> tuple[list[str], int]:
    """Whole lines, and their bytes."""
    data = path.read_bytes() if path.exists() else b""
    whole = data[: data.rfind(b"\n") + 1]
    return whole.decode("utf-8", errors="replace").splitlines(), len(whole)


def _check_header(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for name, value in wanted.items():
        if found.get(name) != value:
            raise ValueError(
                f"{path} was measured with {name}(={found.get(name)!r}), not {value!r}: move it "
                "away, or write to another --out."
            )


def _sample(fields: Mapping[str, Any]) -> Sample:
    return Sample(**{**fields, "t": tuple(fields["t"]), "flags": tuple(fields["flags"])})
