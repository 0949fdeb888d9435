"""The beam survival model: its laws, its one parameter, and what it predicts (Fig. 15)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsim.sim.beams import FORGETTING, BeamSurvival
from support.sharing import (
    FIG_15,
    SHAREGPT,
    beam_blocks,
    beam_saving,
    fitted,
    table_blocks,
    width_2_saving,
)

NUM_REQUESTS = 4_000
GOLDEN = [[0, 1, 2, 2], [0, 1, 1, 1], [0, 1, 1, 1], [0, 1, 1, 1], [0, 1, 2, 3]]


@given(width=st.integers(1, 9), seed=st.integers(0, 2**40), index=st.integers(0, 2**40))
def test_kept_beams_stay_where_they_are(width: int, seed: int, index: int) -> None:
    survival = BeamSurvival(width=width, seed=seed, index=index)
    for _ in range(30):
        parents = survival.parents()
        assert len(parents) == width
        assert parents[0] == 0
        assert parents == sorted(parents)
        assert all(parents[old] == old for old in parents)


def test_draws_belong_to_a_request() -> None:
    def draws(seed: int, index: int) -> list[list[int]]:
        survival = BeamSurvival(width=6, seed=seed, index=index)
        return [survival.parents() for _ in range(40)]

    assert draws(3, 5) == draws(3, 5)
    assert draws(3, 5) != draws(5, 3)
    assert draws(3, 5) != draws(3, 6)


def test_the_same_on_every_platform() -> None:
    survival = BeamSurvival(width=4, seed=1, index=2)
    steps = [survival.parents() for _ in range(14)]
    assert steps[-5:] == GOLDEN


@given(
    prompt=st.integers(1, 70),
    output=st.integers(1, 90),
    width=st.integers(1, 6),
    index=st.integers(0, 1000),
)
def test_blocks_of_tables(prompt: int, output: int, width: int, index: int) -> None:
    """The quick replay counts what whole block tables hold."""

    beams = [BeamSurvival(width=width, seed=0, index=index).parents for _ in range(2)]
    quick = beam_blocks(prompt, output, width, beams[0])
    assert quick == table_blocks(prompt, output, width, beams[1])


def test_the_parameter_is_that_of_width_two() -> None:
    """Nothing but Alpaca at width 2 goes into it; 1,000 requests more or less move it by 0.1."""
    assert fitted(num_requests=20_000) == pytest.approx(FORGETTING, abs=0.05)


def test_width_two_has_the_exact_expectation() -> None:
    drawn = beam_saving("alpaca", 2, num_requests=NUM_REQUESTS)
    exact = width_2_saving(FORGETTING, "alpaca", num_requests=NUM_REQUESTS)
    assert drawn == pytest.approx(exact, abs=0.003)


@pytest.mark.parametrize("width", [4, 6])
def test_wider_searches_are_predicted(width: int) -> None:
    saved = 100 * beam_saving("alpaca", width, num_requests=NUM_REQUESTS)
    assert saved == pytest.approx(FIG_15["beam"][width], abs=5.0)


@pytest.mark.parametrize("width", [2, 4, 6])
def test_longer_texts_are_predicted(width: int) -> None:
    low, high = SHAREGPT["beam"]
    assert low < 100 * beam_saving("sharegpt", width, num_requests=400) < high
