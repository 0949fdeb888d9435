"""The measuring method, on a clock that is invented."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from kvsim.calibration.measure.card import Work
from kvsim.calibration.measure.timer import Timer, calls_of_a_sample, noise, num_samples
from support.fake_card import FakeCall, FakeCard


def measured(
    call_s: float, *, how: str = "graph", num_sets: int = 1, factors: Sequence[float] = (1.0,)
) -> tuple[FakeCard, tuple[float, ...], tuple[str, ...]]:
    """A card that has measured one call of so many seconds, its samples and flags."""
    card = FakeCard()
    work = Work(call=FakeCall(call_s, factors), x={}, how=how, num_sets=num_sets)
    timing = Timer(card).measure(work)
    return card, timing.t, timing.flags


@pytest.mark.parametrize(
    ("sample_s", "count"),
    [(0.5, 20), (1.5e-3, 20), (1e-3, 30), (3e-4, 100), (0.0, 20)],
)
def test_twenty_samples_or_30_ms(sample_s: float, count: int) -> None:
    assert num_samples(sample_s) == count


@pytest.mark.parametrize(
    ("call_s", "num_sets", "calls"),
    [
        (1e-3, 1, 1),  # long enough alone
        (50e-6, 1, 20),  # 1 ms
        (50e-6, 3, 21),  # whole turns through the operands
        (5e-6, 150, 300),
        (1e-3, 8, 5),  # a turn would take 8 ms
        (1e-9, 1, 1024),
        (0.0, 7, 1024),
    ],
)
def test_calls_of_a_sample(call_s: float, num_sets: int, calls: int) -> None:
    assert calls_of_a_sample(call_s, num_sets) == calls


def test_short_calls_are_captured_and_their_time_is_one_call() -> None:
    card, t, flags = measured(10e-6)
    assert card.captures == [1, 100]
    assert len(t) == 30  # of 1 ms each: 30 ms
    assert t == pytest.approx((10e-6,) * 30)
    assert flags == ()


def test_a_long_call_is_captured_once() -> None:
    card, t, _ = measured(2e-3)
    assert card.captures == [1]
    assert t == pytest.approx((2e-3,) * 20)


def test_what_is_launched_from_the_host_is_not_captured() -> None:
    card, t, _ = measured(10e-6, how="eager")
    assert card.captures == []
    assert len(t) == 3000
    card, t, _ = measured(10e-6, how="host")
    assert card.captures == []
    assert card.busy_s == [], "the host's clock needs no warm card"


def test_a_reading_is_taken_as_it_is() -> None:
    card, t, _ = measured(7.0, how="reading")
    assert t == (7.0, 7.0, 7.0)
    assert card.clock_s == 0.0


def test_an_idle_card_is_warmed_and_a_busy_one_is_not() -> None:
    card = FakeCard()
    timer = Timer(card)
    for pause_s, busy in ((0.0, [0.5]), (0.2, [0.5]), (0.3, [0.5, 0.5])):
        card.clock_s += pause_s
        timer.measure(Work(call=FakeCall(1e-3), x={}))
        assert card.busy_s == busy


def test_noise_is_the_middle_half_over_the_median() -> None:
    assert noise([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(2 / 3)
    assert noise([1.0]) == 0.0
    assert noise([1.0] * 9 + [100.0]) == 0.0, "one outlier is no noise"


def test_an_unsteady_point_is_measured_again() -> None:
    unsteady = [1.0, 1.2] * 12  # 24 runs: one to compile, three and three to try, twenty samples
    _, t, flags = measured(2e-3, how="eager", factors=[*unsteady, *[1.0] * 100])
    assert t == pytest.approx((2e-3,) * 20)
    assert flags == ()


def test_a_point_that_stays_unsteady_is_flagged_and_the_better_half_kept() -> None:
    worse, better = [1.0, 1.5] * 12, [1.0, 1.2] * 50
    _, t, flags = measured(2e-3, how="eager", factors=[*worse, *better])
    assert flags == ("noisy",)
    assert max(t) == pytest.approx(2.4e-3)


def test_nothing_measured_is_no_time() -> None:
    empty = Work(call=lambda: [], x={}, how="reading")
    with pytest.raises(RuntimeError, match="nothing was measured"):
        Timer(FakeCard()).measure(empty)
