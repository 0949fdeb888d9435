"""Clocks of a CPU: nobody waits, and with the steady one the processor's drift cancels."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from kvsim.calibration.engine.clock import ProcessorClock, clock_named
from kvsim.calibration.engine.steady import LAUNCH_NS, NUM_LAUNCHES, SteadyClock
from kvsim.calibration.engine.steps import Work

WORK = Work(moves=[], rows=[], waiting=0, running=0, used_blocks=0, preempted=0, goes_on=False)


@dataclass
class Processor:
    """Needs ``slowness`` times as long for everything."""

    slowness: float = 1.0
    ns: float = 0.0

    def compute(self, ns: float) -> None:
        self.ns += self.slowness * ns

    def launch(self) -> None:
        self.compute(LAUNCH_NS)

    def read(self) -> int:
        return round(self.ns)


def test_a_processor_that_becomes_slower_does_not_change_the_time() -> None:
    processor = Processor()
    clock = SteadyClock(processor.launch, processor.read)
    times = []
    for slowness in (1.0, 1.0, 2.0, 2.0, 0.5, 0.5):
        processor.slowness = slowness
        begin = clock.now_ns()
        processor.compute(1e8)
        times.append(clock.after(WORK) - begin)
    assert times[:2] == pytest.approx([1e8] * 2)
    assert times[3] == pytest.approx(1e8, rel=1e-6)
    assert times[5] == pytest.approx(1e8, rel=1e-6)
    assert times[2] == pytest.approx(2e8 * 2 / 3), "twice as slow all of a sudden: the mean speed"
    assert clock.scale == pytest.approx(2.0)


def test_launches_of_the_clock_are_not_counted() -> None:
    processor = Processor()
    clock = SteadyClock(processor.launch, processor.read)
    assert processor.ns == pytest.approx((1 + NUM_LAUNCHES) * LAUNCH_NS)
    assert clock.now_ns() == pytest.approx(0)
    stamp = clock.stamp_ns()
    processor.compute(5e6)
    clock.after(WORK)
    processor.compute(1e6)
    assert clock.now_ns() == pytest.approx(6e6)
    assert clock.stamp_ns() - stamp == pytest.approx(6e6)


def test_a_slow_launch_now_and_then_does_not_matter() -> None:
    processor = Processor()
    launches = iter(range(10_000))

    def launch() -> None:
        processor.compute(LAUNCH_NS * (9 if next(launches) % 4 == 0 else 1))

    clock = SteadyClock(launch, processor.read)
    processor.compute(1e8)
    assert clock.after(WORK) == pytest.approx(1e8)


@pytest.mark.parametrize("name", ["processor", "steady"])
def test_nobody_waits(name: str) -> None:
    clock = clock_named(name)
    clock.wait_until(3.6e12)
    assert 3.6e12 <= clock.now_ns() < 3.7e12
    clock.wait_until(1.0)
    assert clock.now_ns() >= 3.6e12, "it never goes back"


def test_the_processors_clock_does_not_count_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ProcessorClock, "_read", staticmethod(iter([100, 350, 350]).__next__))
    clock = ProcessorClock()
    assert clock.now_ns() == 250
    assert clock.stamp_ns() == 250
