"""Numbers as people read them."""

from __future__ import annotations

import math

import pytest

from kvsim.reports import words


@pytest.mark.parametrize(
    ("value_s", "printed"),
    [
        (0.0, "0 s"),
        (0.00085, "850 us"),
        (0.01234, "12.3 ms"),
        (0.9996, "1.00 s"),
        (4.56, "4.56 s"),
        (999.4, "999 s"),
        (1200, "20.0 min"),
        (math.nan, "-"),
    ],
)
def test_seconds(value_s: float, printed: str) -> None:
    assert words.seconds(value_s) == printed


@pytest.mark.parametrize(
    ("ratio", "printed"),
    [(4.44, "4.4x"), (1.004, "1.00x"), (0.96, "0.96x"), (1234.5, "1,234x"), (math.inf, "-")],
)
def test_times(ratio: float, printed: str) -> None:
    assert words.times(ratio) == printed


@pytest.mark.parametrize(
    ("value", "printed"), [(0.0, "0.0 %"), (1e-5, "<0.1 %"), (0.341, "34.1 %"), (1.0, "100.0 %")]
)
def test_share(value: float, printed: str) -> None:
    assert words.share(value) == printed


@pytest.mark.parametrize(
    ("value", "printed"),
    [(0.99996, "1.00"), (9.996, "10.0"), (12.34, "12.3"), (19366, "19,366"), (0.0123, "0.0123")],
)
def test_number(value: float, printed: str) -> None:
    assert words.number(value) == printed


def test_sizes() -> None:
    assert words.gib(59 << 30) == "59.00 GiB"
    assert [words.size(x) for x in (131072, 2 << 20, 40 << 30)] == [
        "128 KiB",
        "2.00 MiB",
        "40.0 GiB",
    ]


def test_ticks_have_no_trailing_zeros() -> None:
    assert [words.tick_s(x) for x in (0, 0.0005, 0.1, 2.5, 1000)] == [
        "0",
        "500 us",
        "100 ms",
        "2.5 s",
        "1,000 s",
    ]


@pytest.mark.parametrize(
    ("number", "said"), [(1, "1 token"), (0, "0 tokens"), (8192, "8,192 tokens")]
)
def test_tokens(number: int, said: str) -> None:
    assert words.tokens(number) == said
