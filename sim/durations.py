"""Durations as people write them: ``2s``, ``50ms``, ``0.05`` (seconds)."""

from __future__ import annotations

import re

UNITS_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "": 1.0, "min": 60.0}
_DURATION = re.compile(r"\s*([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*([a-z]*)\s*", re.IGNORECASE)


def seconds_of(name: str, text: str) -> float:
    """The seconds that a text says.

    Args:
        name: of the option, for the sentence.
        text: a number with ``us``, ``ms``, ``s`` or ``min``; seconds without a unit.

    Raises:
        ValueError: no such text, or not above 0.
    """
    match = _DURATION.fullmatch(text)
    if match is None or match[2].lower() not in UNITS_S:
        raise ValueError(f"{name}(={text!r}) must be a time such as 2s, 50ms or 0.05.")
    # whole nanoseconds: 50ms and 0.05 are one limit
    value_s = round(float(match[1]) * UNITS_S[match[2].lower()], 9)
    if not 0 < value_s < float("inf"):
        raise ValueError(f"{name}(={text!r}) must be > 0 s.")
    return value_s
