"""Printed cells sort by the value behind them."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsim.reports import words
from kvsim.reports.sort_keys import sort_key


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("56.5 ms", 0.0565),
        ("850 us", 850e-6),
        ("1.2 s", 1.2),
        ("2.5 min", 150.0),
        ("3,497", 3497.0),
        ("1,234,567.5", 1234567.5),
        ("6.5 %", 0.065),
        ("-3.2 %", -0.032),
        ("\N{MINUS SIGN}3.2 %", -0.032),
        ("+3.2 %", 0.032),
        ("<0.1 %", 0.0005),
        ("55.1 GiB", 55.1 * 2**30),
        ("128 KiB", 128 * 2**10),
        ("131,072 B and 12 B of indexer keys", 131072.0),
        ("4.5x", 4.5),
        ("16 tokens", 16.0),
        ("56.5\N{NO-BREAK SPACE}ms\N{NO-BREAK SPACE}/ 1.2\N{NO-BREAK SPACE}s", 0.0565),
        ("54.90-57.50", 54.9),
        ("1.5e-07", 1.5e-7),
        ("1,555 GB/s", 1.555e12),
        ("0", 0.0),
        ("runs none", math.inf),
    ],
)
def test_the_value_behind_a_cell(cell: str, value: float) -> None:
    assert float(sort_key(cell)) == pytest.approx(value)


@pytest.mark.parametrize("cell", ["-", "", "none", "no request fits", "auto", "n/a"])
def test_cells_without_a_number(cell: str) -> None:
    assert sort_key(cell) == ""


SMALL = st.floats(min_value=0, max_value=1e7, allow_nan=False)


@pytest.mark.parametrize("shown", [words.seconds, words.size, words.count, words.number])
@given(values=st.lists(SMALL, min_size=2, max_size=8))
def test_what_is_printed_sorts_as_what_it_prints(shown: object, values: list[float]) -> None:
    """Rounding may make two values equal, it never turns them round."""
    assert callable(shown)
    keys = [float(sort_key(shown(value))) for value in sorted(values)]
    assert all(first <= second * (1 + 1e-9) for first, second in pairwise(keys))


@given(values=st.lists(st.floats(min_value=0, max_value=1), min_size=2, max_size=8))
def test_shares_sort_as_what_they_print(values: list[float]) -> None:
    keys = [float(sort_key(words.share(value))) for value in sorted(values)]
    assert all(first <= second * (1 + 1e-9) for first, second in pairwise(keys))
