"""The PagedAttention paper without a timing model (Kwon et al., SOSP 2023, Fig. 2 and 13).

Lengths are the presets', fitted to the means of Fig. 11 and to one figure of Fig. 2, not to what is
asserted here.
"""

from __future__ import annotations

import pytest

from support.paper import FIG_2, FIG_13, POOL_SLOTS, orca, paged


def test_orca_max_is_exact() -> None:
    found = orca("sharegpt", "max")
    assert found.saturated
    assert found.mean_running == pytest.approx(7.0, abs=1e-9)
    assert found.pool_share.external == pytest.approx(1 - 7 * 2048 / POOL_SLOTS, abs=1e-9)
    assert found.pool_share.external == pytest.approx(0.0885, abs=5e-5)


@pytest.mark.parametrize("reservation", FIG_2)
def test_where_the_bytes_go(reservation: str) -> None:
    share = orca("sharegpt", reservation).pool_share
    *inside, external = FIG_2[reservation]
    assert (share.token_states, share.reserved, share.internal) == pytest.approx(inside, abs=0.025)
    assert share.external == pytest.approx(external, abs=0.04)
    assert share.free == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(("preset", "reservation"), FIG_13)
def test_batched_requests(preset: str, reservation: str) -> None:
    printed = FIG_13[preset, reservation]
    assert orca(preset, reservation).mean_running == pytest.approx(printed, rel=0.12)


def test_paged_waste_is_under_four_per_cent() -> None:
    """All that holds no KV is waste."""
    found = paged("sharegpt")
    assert found.saturated
    share = found.pool_share
    assert 1 - share.token_states < 0.04
    assert share.external == 0.0


def test_paged_runs_two_to_five_times_as_many() -> None:
    """The paper: 4.3 times Orca (Max), 2.2 times Orca (Oracle), at 2 requests a second."""
    running = paged("sharegpt").mean_running
    assert 4.0 < running / orca("sharegpt", "max").mean_running < 5.5
    assert 2.0 < running / orca("sharegpt", "oracle").mean_running < 3.0
