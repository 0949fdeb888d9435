"""Numbers as people read them: GiB, milliseconds, shares, times; sensible digits, ``-`` for none.

Units are turned here and nowhere else: everything before this module is bytes, tokens and seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

GIB = 1 << 30
NONE = "-"


def count(value: float) -> str:
    """A whole number with thousands separators."""
    return f"{value:,.0f}" if math.isfinite(value) else NONE


def tokens(number: int) -> str:
    """``1 token``, ``8,192 tokens``."""
    return f"{count(number)} token{'' if number == 1 else 's'}"


def mean(value: float) -> str:
    """A mean of counts: one decimal below a hundred."""
    return number(value, digits=3, least_decimals=1 if abs(value) < 100 else 0)


def number(value: float, *, digits: int = 3, least_decimals: int = 0) -> str:
    """So many significant digits, never an exponent, thousands separated."""
    if not math.isfinite(value):
        return NONE
    value = float(f"{value:.{digits}g}") if abs(value) < 10**digits else value
    if value == 0:
        return f"{0:.{least_decimals}f}"
    decimals = max(least_decimals, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}"


def gib(size_bytes: float) -> str:
    """``55.12 GiB``: always GiB, so that a column can be compared."""
    return f"{size_bytes / GIB:,.2f} GiB"


def size(size_bytes: float) -> str:
    """``128 KiB``, ``12.5 MiB``, ``55.1 GiB``."""
    if abs(size_bytes) < 1 << 20:
        return f"{number(size_bytes / 1024)} KiB"
    if abs(size_bytes) < GIB:
        return f"{number(size_bytes / (1 << 20))} MiB"
    return f"{number(size_bytes / GIB)} GiB"


def seconds(value_s: float) -> str:
    """``850 us``, ``12.3 ms``, ``4.56 s``, ``12.3 min``."""
    if not math.isfinite(value_s):
        return NONE
    if value_s and abs(value_s) < 0.9995e-3:
        return f"{number(value_s * 1e6)} us"
    if abs(value_s) < 0.9995:
        return f"{number(value_s * 1e3)} ms" if value_s else "0 s"
    return f"{number(value_s)} s" if value_s < 999.5 else f"{number(value_s / 60)} min"


def share(value: float) -> str:
    """``34.1 %``; a share that is not nothing is never printed as 0."""
    if not math.isfinite(value):
        return NONE
    if 0 < value < 0.0005:
        return "<0.1 %"
    return f"{value * 100:.1f} %"


def times(ratio: float) -> str:
    """``4.4x``; two decimals where one would hide a difference from 1, ``-`` where no ratio is."""
    if not math.isfinite(ratio):
        return NONE
    if ratio >= 99.5:
        return f"{ratio:,.0f}x"
    return f"{ratio:.2f}x" if 0.9 < ratio < 1.1 else f"{ratio:.1f}x"


def listing(items: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    *before, last = items
    return f"{', '.join(before)} and {last}" if before else last


def tick_s(value_s: float) -> str:
    """A time as a tick label, no trailing zeros: ``100 ms``, ``2.5 s``, ``1,000 s``."""
    if value_s <= 0:
        return "0"
    for unit, scale in (("us", 1e6), ("ms", 1e3)):
        if value_s * scale < 999.5:
            return f"{value_s * scale:.3g} {unit}"
    return f"{value_s:,.4g} s" if value_s < 9999 else f"{value_s:,.0f} s"
