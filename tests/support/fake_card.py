"""A card whose clock is invented: it drives calibration sessions without a GPU.

Every call takes what a roofline of 3 TB/s and 500 TFLOP/s says of its point; nothing is computed.
Host work between calls takes no time but ``PREPARE_S``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kvsim.calibration.measure.attention_points import token_bytes
from kvsim.calibration.measure.card import Clocks, Identity, Work
from kvsim.calibration.measure.point import Point
from kvsim.calibration.profile.values import Hardware
from kvsim.kernels.version import kernel_hash

PREPARE_S = 0.01
BYTES_PER_S, FLOPS_PER_S, LAUNCH_S = 3e12, 5e14, 4e-6
LAUNCHED = {
    "slots": 528,
    "tile_tokens": 64,
    "min_chunk_tokens": 64,
    "target_items": 132,
}
CHUNKS_LAUNCHED = {"query_tokens": 32, "tile_tokens": 64, "slots": 132}


def seconds_of(point: Point) -> float:
    """What one call of a point takes."""
    x = point.x
    moved, flops = float(x.get("bytes", 0)), float(x.get("flops", 0))
    if "seq_lens" in x:
        moved += sum(length * count for length, count in x["seq_lens"]) * token_bytes(x)
    for new, past in x.get("chunks", ()):
        flops += 4 * x["heads"] * x["head_dim"] * new * (past + new / 2)
    if point.family == "gemm":
        moved = 2.0 * (x["m"] * x["k"] + x["n"] * x["k"] + x["m"] * x["n"])
        flops = 2.0 * x["m"] * x["n"] * x["k"]
    units = x.get("segments", 0) + x.get("requests", 0) + x.get("nodes", 0)
    return LAUNCH_S + 1e-6 * units + max(moved / BYTES_PER_S, flops / FLOPS_PER_S)


@dataclass
class FakeCall:
    """A call that would take so long."""

    seconds: float
    factors: Sequence[float] = (1.0,)
    """Of the runs, over and over."""
    runs: int = 0

    def __call__(self) -> list[float]:
        """Samples, where it is asked for a reading."""
        return [self.seconds] * 3

    def time_s(self) -> float:
        """Of the next run."""
        self.runs += 1
        return self.seconds * self.factors[(self.runs - 1) % len(self.factors)]


@dataclass
class FakeCard:
    """Counts its time in ``clock_s``; ``on_prepare`` may raise for a point."""

    law: Callable[[Point], float] = seconds_of
    on_prepare: Callable[[Point], None] = lambda point: None
    on_release: Callable[[], None] = lambda: None
    factors: Sequence[float] = (1.0, 1.001, 0.999)
    free_memory_bytes: int = 140 << 30
    capability: tuple[int, int] = (9, 0)
    clock_s: float = 0.0
    prepared: list[Point] = field(default_factory=list)
    compiled: list[int] = field(default_factory=list)
    captures: list[int] = field(default_factory=list)
    busy_s: list[float] = field(default_factory=list)
    closed: bool = False

    @property
    def identity(self) -> Identity:
        """An H200 of its own kind."""
        major, minor = self.capability
        return Identity(
            hardware=Hardware(
                gpu="h200",
                name="NVIDIA H200",
                compute_capability=f"{major}.{minor}",
                num_sms=132,
                l2_bytes=60 << 20,
                total_memory_bytes=150_754_820_096,
                more={"uuid_hash": "ab"},
            ),
            software={"torch": "2.11", "triton": "3.6", "kernel_hash": kernel_hash()},
            compute_capability=self.capability,
            free_memory_bytes=self.free_memory_bytes,
        )

    def now_s(self) -> float:
        """Invented."""
        return self.clock_s

    def device_times_s(self, run: Any, count: int) -> list[float]:
        """Each run moves the clock."""
        times = [run.time_s() for _ in range(count)]
        self.clock_s += sum(times)
        return times

    host_times_s = device_times_s

    def captured(self, call: Any, count: int) -> FakeCall:
        """One run of so many calls."""
        self.captures.append(count)
        return FakeCall(count * call.seconds, call.factors)

    def keep_busy(self, seconds: float) -> None:
        """Moves the clock."""
        self.busy_s.append(seconds)
        self.clock_s += seconds

    def prepare(self, point: Point) -> Work:
        """No operands."""
        self.clock_s += PREPARE_S
        self.on_prepare(point)
        self.prepared.append(point)
        how = {"memory": "reading", "host": "host"}.get(point.family, "graph")
        return Work(
            call=FakeCall(self.law(point), self.factors),
            x={**point.x, **_launched(point.x)},
            how=how,
            unit="bytes" if point.family == "memory" else "s",
        )

    def release(self) -> None:
        """May raise."""
        self.on_release()

    def compile_ahead(self, points: Sequence[Point], report: Callable[[int, int], None]) -> None:
        """Only counts."""
        self.compiled.append(len(points))

    def clocks(self) -> Clocks:
        """Two rows."""
        return Clocks(rows=((0.2, 1980.0, 3201.0, 40.0, 300.0),), source="invented")

    def close(self) -> None:
        """Remembered."""
        self.closed = True


def _launched(x: Any) -> dict[str, int]:
    if "seq_lens" in x:
        chunks = CHUNKS_LAUNCHED if "chunks" in x else {}
        return {**LAUNCHED, **{f"prefill_{name}": value for name, value in chunks.items()}}
    return CHUNKS_LAUNCHED if "chunks" in x else {}
