"""``NxL`` as it is typed."""

from __future__ import annotations

import pytest

from kvsim.calibration.demand import Demand, read_demand, read_demands


@pytest.mark.parametrize(
    ("text", "requests", "tokens"),
    [("64x8192", 64, 8192), ("64x8k", 64, 8192), ("1X1K", 1, 1024), (" 3x5 ", 3, 5)],
)
def test_forms(text: str, requests: int, tokens: int) -> None:
    assert read_demand(text) == Demand(num_requests=requests, tokens=tokens)


def test_lists_keep_their_order_and_each_once() -> None:
    found = read_demands(["64x8k,1x2", "64x8192", "1x3"])
    assert [str(demand) for demand in found] == ["64x8192", "1x2", "1x3"]


@pytest.mark.parametrize(
    "text", ["64", "x", "64x", "axb", "-1x5", "1.5x8", "64x8m", "64*8", "", "²x3"]
)
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be NxL, N requests of L tokens"):
        read_demand(text)


@pytest.mark.parametrize("text", ["0x10", "10x0", "1x9999999999999"])
def test_counts_out_of_range(text: str) -> None:
    with pytest.raises(ValueError, match=r"for\(='.*'\) must have N and L > 0, and at most"):
        read_demand(text)
