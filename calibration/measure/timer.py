"""How a time is measured: warm, in samples long enough for the clock, again where it is unsteady.

    warm      0.5 s of work where the card has been idle (an idle SM clock is a fifth of the full
              one), and the call itself once, which compiles it
    sample    one replay of a CUDA graph of R calls: launches from Python take longer than many
              kernels, and an event tells 0.5 us. R is a multiple of the operand sets that makes a
              sample 1 ms, but no sample of several calls is above 5 ms
    samples   N = 20, or as many as make 30 ms, whichever is more; all are kept
    noise     IQR / median above 5 %: measured once more; flagged ``noisy`` where that is no better

Operands rotate from call to call over at least four times the L2, and hold random values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from statistics import quantiles

from .card import Call, Timed, Work
from .point import NUM_SAMPLES, SAMPLE_S

WARM_S = 0.5
IDLE_S = 0.25
"""After so long without work the card is warmed again."""
LONG_ENOUGH_S = 1e-3
TOO_LONG_S = 5e-3
MAX_CALLS = 1024
"""Of one graph."""
MAX_NOISE = 0.05
TRIAL_RUNS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The samples of one point."""

    t: tuple[float, ...]
    flags: tuple[str, ...] = ()


class Timer:
    """Measures work on one card; remembers when the card last had something to do."""

    def __init__(self, card: Timed) -> None:
        self._card = card
        self._idle_since_s = float("-inf")

    def measure(self, work: Work) -> Timing:
        """The samples of a point, in seconds (or in the unit of a reading)."""
        if work.how == "reading":
            timing = Timing(t=_samples(work.call()))
        elif work.how == "host":
            timing = self._on_the_host(work.call)
        else:
            timing = self._on_the_device(work)
        self._idle_since_s = self._card.now_s()
        return timing

    def _on_the_host(self, call: Call) -> Timing:
        trial_s = min(self._card.host_times_s(call, TRIAL_RUNS))
        count = num_samples(trial_s)
        return _steady(lambda: self._card.host_times_s(call, count))

    def _on_the_device(self, work: Work) -> Timing:
        self._card.device_times_s(work.call, 1)  # compiles, while the card idles
        self._warm()
        run, calls = work.call, 1
        if work.how == "graph":
            run = self._card.captured(work.call, 1)
            calls = calls_of_a_sample(self._trial_s(run), work.num_sets)
            run = self._card.captured(work.call, calls) if calls > 1 else run
        count = num_samples(self._trial_s(run))
        return _steady(lambda: [t / calls for t in self._card.device_times_s(run, count)])

    def _trial_s(self, run: Call) -> float:
        return min(self._card.device_times_s(run, TRIAL_RUNS))

    def _warm(self) -> None:
        if self._card.now_s() - self._idle_since_s > IDLE_S:
            self._card.keep_busy(WARM_S)


def num_samples(sample_s: float) -> int:
    """Twenty, or as many as take 30 ms."""
    return max(NUM_SAMPLES, ceil(SAMPLE_S / sample_s)) if sample_s > 0 else NUM_SAMPLES


def calls_of_a_sample(call_s: float, num_sets: int) -> int:
    """A multiple of the operand sets that takes long enough, within what a graph should hold."""
    if call_s <= 0:
        return MAX_CALLS
    rounds = ceil(LONG_ENOUGH_S / call_s / num_sets)
    return max(1, min(rounds * num_sets, int(TOO_LONG_S / call_s), MAX_CALLS))


def noise(t: Sequence[float]) -> float:
    """Interquartile range over median."""
    if len(t) < 2:
        return 0.0
    low, middle, high = quantiles(t, n=4, method="inclusive")
    return (high - low) / middle if middle > 0 else 0.0


def _steady(take: Call) -> Timing:
    """Samples; taken again where they are unsteady."""
    first = _samples(take())
    if noise(first) <= MAX_NOISE:
        return Timing(t=first)
    second = _samples(take())
    if noise(second) <= MAX_NOISE:
        return Timing(t=second)
    return Timing(t=min(first, second, key=noise), flags=("noisy",))


def _samples(values: object) -> tuple[float, ...]:
    if not isinstance(values, Sequence) or not values:
        raise RuntimeError("nothing was measured")
    return tuple(float(value) for value in values)
