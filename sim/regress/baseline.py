"""Baselines: what a case gave when somebody last looked at it; a small text file for each.

    {"schema": "kvsim-baseline/1", "case": ..., "server": {...}, "digests": {...}, "metrics": {...}}

One value in a line, keys sorted, so that a version-control difference reads as a list of changes.
``server`` holds what the case resolved to: the names of its parts and every flag that is not the
default. A baseline is compared only with a run of the same trace on the same server.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...traces.write import replace_bytes
from ..files import json_bytes, unwritable
from ..metric_directions import METRICS
from .metrics import Metrics

SCHEMA = "kvsim-baseline/1"
_FAMILY = "kvsim-baseline/"
_LONGEST_STEM = 100
_UNSAFE = re.compile(r"[^A-Za-z0-9._=+-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """One case's numbers and what they were made from."""

    case: str
    server: Mapping[str, object]
    digests: Mapping[str, str]
    """``trace`` decides whether a run may be compared; ``cost`` and ``budget`` explain changes."""
    metrics: Metrics

    def to_bytes(self) -> bytes:
        """The file's text."""
        return json_bytes(
            {
                "schema": SCHEMA,
                "case": self.case,
                "server": dict(sorted(self.server.items())),
                "digests": dict(sorted(self.digests.items())),
                "metrics": dict(sorted(self.metrics.items())),
            }
        )

    def why_not_comparable(self, now: Baseline) -> str | None:
        """What tells its case from another run's, in words; None where it is the same."""
        if self.case != now.case:
            return f"it is the baseline of case {self.case!r}"
        if self.digests.get("trace") != now.digests["trace"]:
            then = str(self.digests.get("trace"))[:12]
            return f"its trace was another one (digest {then}, now {now.digests['trace'][:12]})"
        for key in sorted({*self.server, *now.server}):
            old, new = self.server.get(key), now.server.get(key)
            if old != new:
                return f"its {key} was {_shown(old)} and is {_shown(new)} now"
        return None


def baseline_path(directory: Path, case: str) -> Path:
    """``<case>.json``; a name with other signs or of great length ends in its own digest."""
    stem = _UNSAFE.sub("-", case).strip("-.")
    if stem != case or len(stem) > _LONGEST_STEM:
        mark = hashlib.sha256(case.encode()).hexdigest()[:8]
        stem = f"{stem[:_LONGEST_STEM]}-{mark}".lstrip("-")
    return directory / f"{stem}.json"


def read_baseline(path: Path) -> Baseline:
    """One file.

    Raises:
        ValueError: no baseline, one of another version of kvsim, or one that is damaged.
    """
    shown = f"baseline(={str(path)!r})"
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{shown} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise ValueError(f"{shown} is not valid JSON: {error}.") from None
    schema = found.get("schema") if isinstance(found, dict) else None
    if not str(schema).startswith(_FAMILY):
        raise ValueError(f"{shown} is no baseline of kvsim.")
    if schema != SCHEMA:
        raise ValueError(
            f"{shown} has schema {schema!r}, this version of kvsim reads {SCHEMA!r}: make it anew "
            "with kvsim regress update."
        )
    tables = [found.get(name) for name in ("server", "digests", "metrics")]
    if not isinstance(found.get("case"), str) or not all(isinstance(t, dict) for t in tables):
        raise ValueError(f"{shown} is damaged: it needs case, server, digests and metrics.")
    server, digests, metrics = tables
    for name, value in metrics.items():
        if not (value is None or (isinstance(value, int | float) and not isinstance(value, bool))):
            raise ValueError(f"{shown} is damaged: {name}(={value!r}) is no number.")
    return Baseline(case=found["case"], server=server, digests=digests, metrics=metrics)


def write_baseline(path: Path, baseline: Baseline) -> None:
    """Write one file, whole or not at all.

    Raises:
        ValueError: the folder cannot be written to.
    """
    try:
        replace_bytes(path, baseline.to_bytes())
    except OSError as error:
        raise unwritable(path.parent, error) from error


def stale_baselines(directory: Path, cases: Iterable[str]) -> list[Path]:
    """Baselines of cases that there are no more; other files in the folder are not looked at."""
    wanted = {baseline_path(directory, case).name for case in cases}
    found = sorted(directory.glob("*.json")) if directory.is_dir() else []
    return [path for path in found if path.name not in wanted and is_baseline(path)]


def is_baseline(path: Path) -> bool:
    """Whether kvsim wrote the file as a baseline, of whatever version, damaged since or not."""
    try:
        return f'"schema": "{_FAMILY}'.encode() in path.read_bytes()
    except OSError:
        return False


def known_metrics(metrics: Mapping[str, Any]) -> list[str]:
    """Names in the order of a summary; those that this version does not know come last."""
    return [*(name for name in METRICS if name in metrics), *sorted(metrics.keys() - METRICS)]


def _shown(value: object) -> str:
    return "the default" if value is None else json.dumps(value)
