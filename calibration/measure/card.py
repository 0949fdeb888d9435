"""What a session asks of a card: operands, times, what it is. ``cuda_card`` is the real one.

A session and its timer know only these two protocols, so that tests drive them with a card whose
clock is invented.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..profile.values import Hardware
from .point import Point

Call = Callable[[], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A point whose operands are on the card.

    ``how`` says what its time is:

        graph    device time of a call, captured many times into one graph where it is short
        eager    device time of a call launched from Python
        host     time on the host's clock; the call waits for the device itself
        reading  the call returns the samples
    """

    call: Call
    """Each call takes the next of ``num_sets`` sets of operands."""
    x: Mapping[str, Any]
    """The point's, and what it was launched with."""
    how: str = "graph"
    num_sets: int = 1
    unit: str = "s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """Clocks logged while a session ran; columns are named in ``columns``."""

    rows: tuple[tuple[float, ...], ...] = ()
    columns: tuple[str, ...] = ("t_s", "sm_mhz", "memory_mhz", "temperature_c", "power_w")
    source: str = ""
    """``pynvml``, ``nvidia-smi``, or why there are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Which card and software this is."""

    hardware: Hardware
    software: Mapping[str, str]
    compute_capability: tuple[int, int]
    free_memory_bytes: int


class Timed(Protocol):
    """The clocks of a card."""

    def now_s(self) -> float:
        """The host's clock."""

    def device_times_s(self, run: Call, count: int) -> Sequence[float]:
        """Device seconds of each of ``count`` runs, one after another."""

    def host_times_s(self, run: Call, count: int) -> Sequence[float]:
        """The host's seconds of each of ``count`` runs."""

    def captured(self, call: Call, count: int) -> Call:
        """One graph of ``count`` calls."""

    def keep_busy(self, seconds: float) -> None:
        """Work hard for so long, so that the clocks rise."""


class Card(Timed, Protocol):
    """A card that points are measured on."""

    @property
    def identity(self) -> Identity:
        """Which it is."""

    def prepare(self, point: Point) -> Work:
        """The point's operands and its call.

        Raises:
            Exception: whatever the kernel or library says that cannot run it.
        """

    def release(self) -> None:
        """Forget the last point's operands; raises where the card no longer answers."""

    def compile_ahead(self, points: Sequence[Point], report: Callable[[int, int], None]) -> None:
        """Compile the kernels of these points, so that no compiler runs between measurements."""

    def clocks(self) -> Clocks:
        """Logged since the last call."""

    def close(self) -> None:
        """Stop logging."""
