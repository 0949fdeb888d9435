"""What a printed cell sorts by: the value behind ``56.5 ms``, ``3,497``, ``<0.1 %``, ``55.1 GiB``.

The page's tables are sorted in the browser, and a browser should not guess units: each number
carries the key that this module gives it. A cell with several numbers sorts by its first one:
``56.5 ms / 1.2 s`` by its p50, ``54.9-57.5`` by its lower end.
"""

from __future__ import annotations

import re
import unicodedata

_KIB = 1 << 10
FACTORS = {
    "us": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "min": 60.0,
    "h": 3600.0,
    "B": 1.0,
    "KiB": float(_KIB),
    "MiB": float(_KIB**2),
    "GiB": float(_KIB**3),
    "TiB": float(_KIB**4),
    "kB": 1e3,
    "KB": 1e3,
    "MB": 1e6,
    "GB": 1e9,
    "TB": 1e12,
    "B/s": 1.0,
    "kB/s": 1e3,
    "MB/s": 1e6,
    "GB/s": 1e9,
    "TB/s": 1e12,
    "GFLOP/s": 1e9,
    "TFLOP/s": 1e12,
    "%": 0.01,
}
"""What one of these units is in seconds, bytes, operations or parts of one; others count as 1."""
WORDS = {"runs none": "Infinity"}
"""Cells that are worth a number without being one: a ratio to a baseline that runs nothing."""

_NUMBER = re.compile(
    r"(?P<bound>[<>]?)\s*"
    r"(?P<number>[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?)"
    r"\s*(?P<unit>%|[A-Za-z]+(?:/s)?)?"
)


def sort_key(cell: str) -> str:
    """A number as text that JavaScript and Python read alike; empty where the cell holds none."""
    text = _plain(cell)
    if text in WORDS:
        return WORDS[text]
    match = _NUMBER.match(text)
    if match is None:
        return ""
    value = float(match["number"].replace(",", "")) * FACTORS.get(match["unit"] or "", 1.0)
    return f"{_within(match['bound'], value):.12g}"


def _within(bound: str, value: float) -> float:
    """``<0.1 %`` lies between nothing and 0.1 %, ``>1 h`` above 1 h."""
    return {"<": 0.5, ">": 1.5}.get(bound, 1.0) * value


def _plain(cell: str) -> str:
    """Minus signs and blanks of all kinds as those of a keyboard."""
    text = unicodedata.normalize("NFKC", cell).strip()
    return re.sub(r"[\N{MINUS SIGN}\N{HYPHEN}\N{NON-BREAKING HYPHEN}]", "-", text)
