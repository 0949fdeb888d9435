"""How far a metric may move before the gate fails.

A change passes where it is within ``absolute``, or within ``relative`` of the baseline's value.
Beyond that it fails where it is for the worse, or where the metric has no better direction; with
``both`` a change for the better fails too. The default is 0, 0, false.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from math import isfinite
from typing import Any

from ...calibration.names import unknown_name
from ..metric_directions import METRICS

GROUPS = tuple(dict.fromkeys(name.partition(".")[0] for name in METRICS if "." in name))
"""``ttft_s`` stands for all of its percentiles, ``pool_share`` for all of its categories."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """The allowance of one metric.

    Raises:
        ValueError: a negative or infinite allowance.
    """

    relative: float = 0.0
    absolute: float = 0.0
    both: bool = False

    def __post_init__(self) -> None:
        for name in ("relative", "absolute"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not _good(value):
                raise ValueError(f"{name}(={value!r}) must be a number >= 0.")
        if not isinstance(self.both, bool):
            raise ValueError(f"both(={self.both!r}) must be true or false.")

    def allows(self, old: float, new: float) -> bool:
        """Whether the change is small enough; in decimal, so that 0.100 to 0.102 is 2 %."""
        before, after = Decimal(repr(old)), Decimal(repr(new))
        allowed = max(Decimal(repr(self.absolute)), Decimal(repr(self.relative)) * abs(before))
        return abs(after - before) <= allowed

    def __str__(self) -> str:
        parts = [f"{self.relative * 100:g} %"] if self.relative else []
        parts += [f"{self.absolute:g}"] if self.absolute else []
        return " or ".join(parts) or "0"


_FIELDS = tuple(field.name for field in fields(Tolerance))


def _good(value: float) -> bool:
    return isfinite(value) and value >= 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerances:
    """A default, and what single metrics and groups of them set otherwise."""

    default: Mapping[str, Any]
    named: Mapping[str, Mapping[str, Any]]

    def of(self, metric: str) -> Tolerance:
        """A metric's own tolerance over its group's over the default, field by field."""
        group = self.named.get(metric.partition(".")[0], {})
        return Tolerance(**{**self.default, **group, **self.named.get(metric, {})})

    def over(self, other: Tolerances) -> Tolerances:
        """These tolerances, and those of ``other`` where these say nothing."""
        names = dict.fromkeys((*other.named, *self.named))
        named = {n: {**other.named.get(n, {}), **self.named.get(n, {})} for n in names}
        return replace(self, default={**other.default, **self.default}, named=named)


NONE = Tolerances(default={}, named={})


def read_tolerances(table: object) -> Tolerances:
    """A ``tolerance`` table of a suite.

    Raises:
        ValueError: an unknown metric, a value out of range; the sentence names it.
    """
    if not isinstance(table, Mapping):
        raise ValueError(f"tolerance(={table!r}) must be a table.")
    default = {name: value for name, value in table.items() if name in _FIELDS}
    Tolerance(**default)
    named: dict[str, Mapping[str, Any]] = {}
    for name, value in table.items():
        if name not in _FIELDS:
            named |= _entries(name, value)
    return Tolerances(default=default, named=named)


def _entries(name: str, value: object) -> dict[str, Mapping[str, Any]]:
    """One metric or group; ``ttft_s.p95 = {...}`` without quotes is a table within a table."""
    if name not in METRICS and name not in GROUPS:
        raise unknown_name(name, (*METRICS, *GROUPS, *_FIELDS), field="tolerance")
    if not isinstance(value, Mapping):
        raise ValueError(f"tolerance of {name}(={value!r}) must be a table: {{relative = 0.02}}.")
    own = {key: entry for key, entry in value.items() if key in _FIELDS}
    try:
        Tolerance(**own)
    except ValueError as error:
        raise ValueError(f"tolerance of {name}: {error}") from None
    inner = {f"{name}.{key}": entry for key, entry in value.items() if key not in _FIELDS}
    found: dict[str, Mapping[str, Any]] = {name: own} if own or not inner else {}
    for key, entry in inner.items():
        found |= _entries(key, entry)
    return found
