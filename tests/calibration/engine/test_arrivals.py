"""Who arrives when, and what the engine's clocks say."""

from __future__ import annotations

from kvsim.calibration.engine.arrivals import Arrivals
from kvsim.calibration.engine.clock import RealClock, StepClock
from kvsim.calibration.engine.steps import Work

MS = 1e6


def test_arrivals_in_order_of_their_times() -> None:
    arrivals = Arrivals({0: 5.0, 1: 2.0, 2: 2.0, 3: 9.0})
    assert arrivals.due(1.0) == []
    assert arrivals.due(5.0) == [(2.0, 1), (2.0, 2), (5.0, 0)]
    assert arrivals.next_ns(somebody_waits=True) == 9.0
    assert arrivals.close() == 1
    assert arrivals.next_ns(somebody_waits=True) is None


def test_turns_come_after_the_answer_before() -> None:
    arrivals = Arrivals({0: 0.0}, turns={0: [(1, 10.0)], 1: [(2, 0.0)]})
    arrivals.due(0.0)
    assert arrivals.next_ns(somebody_waits=False) is None
    arrivals.answered(0, 7.0)
    assert arrivals.due(17.0) == [(17.0, 1)]
    arrivals.close()
    arrivals.answered(1, 20.0)
    assert arrivals.due(99.0) == [], "closed: no further turn"


def test_clients_give_up_so_long_after_they_came() -> None:
    arrivals = Arrivals({0: 3.0}, patience_ns={0: 4.0})
    assert arrivals.gone(99.0) == []
    arrivals.due(3.0)
    assert arrivals.next_ns(somebody_waits=True) == 7.0
    assert arrivals.next_ns(somebody_waits=False) is None, "nobody has to be waited for"
    assert arrivals.gone(6.9) == []
    assert arrivals.gone(7.0) == [0]


def test_clocks() -> None:
    clock = RealClock()
    clock.wait_until(2 * MS)
    assert clock.now_ns() >= 2 * MS
    steps = StepClock(lambda work: 3.0 * work.running)
    steps.wait_until(5.0)
    steps.wait_until(4.0)
    assert steps.after(Work([], [], 0, 2, 0, 0, False)) == 11.0 == steps.now_ns()
