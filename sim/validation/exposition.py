"""Prometheus' text format and OpenMetrics: vLLM's samples of a file, a scrape per time.

A line is ``name{label="value",...} value [time]``. Times are seconds in OpenMetrics, which ends
with ``# EOF``, and milliseconds in Prometheus' own format; a page that a server gave has none.
Engines of one server are summed; only of the KV usage, a share, the mean is taken.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite, nan

from ..vllm_metrics import KV_USAGE, find_series

_LINE = re.compile(
    r'([a-zA-Z_:][\w:]*)(?:\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\})?[ \t]+(\S+)(?:[ \t]+([^\s#]\S*))?'
    r"(?:[ \t]+#.*)?[ \t]*"
)
_LABEL = re.compile(r'\s*(\w+)\s*=\s*"((?:[^"\\]|\\.)*)"\s*,?')
_MEANT = ("le", "finished_reason")
"""Labels that tell samples of one engine apart."""

Key = tuple[str, str]
"""Name of the sample as written, and its ``le`` or ``finished_reason``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scrape:
    """All of vLLM's samples at one time."""

    time_s: float | None
    """None: the page has no times."""
    values: Mapping[Key, float]

    def counter(self, name: str) -> dict[str, float]:
        """Its samples by label."""
        return {label: value for (one, label), value in self.values.items() if one == name}

    def gauge(self, name: str) -> float:
        """NaN where there is none."""
        return self.values.get((name, ""), nan)


def read_scrapes(text: str, name: str) -> list[Scrape]:
    """The scrapes of a file in order of time.

    Args:
        text: exposition format.
        name: of the file, for errors.

    Raises:
        ValueError: a line that is no sample, named by its number; no sample of vLLM; two models.
    """
    unit_s = 1.0 if re.search(r"^# EOF\s*\Z", text, re.MULTILINE) else 1e-3
    found: dict[float | None, dict[Key, list[float]]] = defaultdict(lambda: defaultdict(list))
    models: set[str] = set()
    for sample, labels, value, time in _samples(text, name):
        models.add(labels.get("model_name", ""))
        label = next((labels[one] for one in _MEANT if one in labels), "")
        at = None if time is None else time * unit_s
        found[at][_key(sample, label)].append(value)
    if not found:
        raise ValueError(f"{name} holds no metric of vLLM.")
    if len(models - {""}) > 1:
        served = ", ".join(sorted(models - {""}))
        raise ValueError(f"{name} holds metrics of several models ({served}): keep one.")
    if None in found and len(found) > 1:
        raise ValueError(f"{name} holds samples with and without times.")
    times = sorted(found, key=lambda time: time or 0.0)
    return [Scrape(time_s=time, values=_joined(found[time])) for time in times]


def _samples(text: str, name: str) -> Iterator[tuple[str, dict[str, str], float, float | None]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"{name} line {number} is no sample of Prometheus' text format.")
        sample, labels, value, time = match.groups()
        try:
            read = float(value), None if time is None else float(time)
        except ValueError:
            raise ValueError(f"{name} line {number} holds no number: {line!r}.") from None
        if find_series(sample) is None:
            continue
        if not isfinite(read[0]) or read[0] < 0:
            raise ValueError(f"{name} line {number}: {sample}(={value}) must be >= 0.")
        yield sample, dict(_LABEL.findall(labels or "")), *read


def _key(sample: str, label: str) -> Key:
    """Edges are compared as numbers: ``1``, ``1.0`` and ``1e0`` are one."""
    if sample.endswith("_bucket"):
        return sample, repr(float(label.replace("+Inf", "inf")))
    return sample, label


def _joined(values: Mapping[Key, list[float]]) -> dict[Key, float]:
    shares = (KV_USAGE.name, *KV_USAGE.older_names)
    return {
        key: sum(several) / (len(several) if key[0] in shares else 1)
        for key, several in values.items()
    }
