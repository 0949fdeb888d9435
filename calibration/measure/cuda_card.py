"""A CUDA card as a session sees it: operands of the families, times by events, clocks logged."""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import triton

from ... import __version__
from ...kernels.version import kernel_hash
from ..profile.values import Hardware
from .bench import Bench
from .card import Call, Clocks, Identity, Work
from .clocks import ClockLog, nvml_facts
from .compile_ahead import compile_ahead
from .families import PREPARE
from .point import Point

BUSY_SIZE = 4096
"""Of the square products that raise the clocks."""
BUSY_CALLS = 20
SPARE_BYTES = 2 << 30


class CudaCard:
    """The first CUDA device."""

    def __init__(self, gpu: str, *, seed: int) -> None:
        device = torch.device("cuda", 0)
        torch.cuda.init()  # type: ignore[no-untyped-call]
        properties = torch.cuda.get_device_properties(device)
        self._bench = Bench(device, l2_bytes=properties.L2_cache_size, seed=seed)
        uuid = getattr(properties, "uuid", None)
        self._uuid = f"GPU-{uuid}" if uuid else None
        self._facts = nvml_facts(self._uuid)
        self._log = ClockLog(self._uuid)
        self._identity = self._identify(gpu, properties)

    @property
    def identity(self) -> Identity:
        """Hardware, software, and what is free."""
        return self._identity

    def now_s(self) -> float:
        """The host's clock."""
        return time.monotonic()

    def device_times_s(self, run: Call, count: int) -> Sequence[float]:
        """By events."""
        return self._bench.device_times_s(run, count)

    def host_times_s(self, run: Call, count: int) -> Sequence[float]:
        """By the host's clock."""
        return self._bench.host_times_s(run, count)

    def captured(self, call: Call, count: int) -> Call:
        """As one graph."""
        return self._bench.captured(call, count)

    def keep_busy(self, seconds: float) -> None:
        """Products, until the time is over."""
        left = self._bench.normal(BUSY_SIZE, BUSY_SIZE)
        end_s = self.now_s() + seconds
        while self.now_s() < end_s:
            for _ in range(BUSY_CALLS):
                torch.mm(left, left)
            self._bench.synchronize()

    def prepare(self, point: Point) -> Work:
        """The family's operands."""
        return PREPARE[point.family](point.x, self._bench)

    def release(self) -> None:
        """Wait: an illegal access of the last point shows here; dead graphs give memory back."""
        self._bench.synchronize()
        if torch.cuda.memory_reserved() - torch.cuda.memory_allocated() > SPARE_BYTES:
            torch.cuda.empty_cache()

    def compile_ahead(self, points: Sequence[Point], report: Callable[[int, int], None]) -> None:
        """In processes of their own."""
        compile_ahead(points, report)

    def clocks(self) -> Clocks:
        """Logged so far."""
        return self._log.rows()

    def close(self) -> None:
        """Stop logging."""
        self._log.close()

    def _identify(self, gpu: str, properties: Any) -> Identity:
        free, total = self._bench.memory_bytes()
        capability = (properties.major, properties.minor)
        facts = {name: value for name, value in self._facts.items() if name != "driver"}
        if self._uuid:
            facts["uuid_hash"] = hashlib.sha256(self._uuid.encode()).hexdigest()[:16]
        return Identity(
            hardware=Hardware(
                gpu=gpu,
                name=properties.name,
                compute_capability=f"{properties.major}.{properties.minor}",
                num_sms=properties.multi_processor_count,
                l2_bytes=properties.L2_cache_size,
                total_memory_bytes=total,
                count=torch.cuda.device_count(),
                more=facts,
            ),
            software={
                "driver": str(self._facts.get("driver", "unknown")),
                "cuda": str(torch.version.cuda),
                "torch": torch.__version__,
                "triton": triton.__version__,
                "python": platform.python_version(),
                "kvsim": __version__,
                "kernel_hash": kernel_hash(),
            },
            compute_capability=capability,
            free_memory_bytes=free,
        )
