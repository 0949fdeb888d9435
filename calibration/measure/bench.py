"""Operands on a device: random values, pools that points share, how many sets rotate past the L2.

What an engine reads from memory must not be found in the cache, so a call takes the next of
several sets of operands, which together are at least ``L2_TIMES`` the L2. Sets are views of one
pool, filled once, so that a point of 17 GB costs no more to prepare than a small one. Works on a
CPU as well, where the tests run it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import cycle
from time import perf_counter
from typing import Any

import torch

S_PER_MS = 1e-3
L2_TIMES = 4
MAX_SETS = 512
FILLED_AT_ONCE = 1 << 28
"""Elements: random numbers in 32 bits stand beside the pool while it is filled."""
DTYPES = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp8_e4m3": torch.float8_e4m3fn,
    "fp8_e5m2": torch.float8_e5m2,
    "int8": torch.int8,
}


class Bench:
    """One device and the operands on it."""

    def __init__(self, device: torch.device, *, l2_bytes: int, seed: int = 0) -> None:
        self.device = device
        self.l2_bytes = l2_bytes
        self._random = torch.Generator(device=device)
        self._random.manual_seed(seed)
        self._pool = torch.empty(0, device=device)
        self._broken = ""

    @property
    def is_cuda(self) -> bool:
        """Whether anything is timed here."""
        return self.device.type == "cuda"

    def num_sets(self, set_bytes: int) -> int:
        """So many sets of operands go past the L2; not more than ``MAX_SETS``."""
        return max(1, min(MAX_SETS, -(-L2_TIMES * self.l2_bytes // max(1, set_bytes))))

    def normal(self, *shape: int, dtype: str = "bf16") -> torch.Tensor:
        """A new tensor of N(0, 1)."""
        values = torch.empty(shape, dtype=DTYPES[dtype], device=self.device)
        return self._fill(values)

    def pool(self, numel: int, dtype: str) -> torch.Tensor:
        """``numel`` random values, the same memory for every point that asks."""
        wanted = DTYPES[dtype]
        if self._pool.dtype != wanted or self._pool.numel() < numel:
            self.drop_pool()
            self._pool = self._fill(torch.empty(numel, dtype=wanted, device=self.device))
        return self._pool[:numel]

    def drop_pool(self) -> None:
        """Give the pool's memory back."""
        self._pool = torch.empty(0, device=self.device)
        if self.is_cuda:
            torch.cuda.empty_cache()

    def permutation(self, size: int) -> torch.Tensor:
        """The numbers below ``size``, shuffled."""
        return torch.randperm(size, generator=self._random, device=self.device)

    def integers(self, high: int, size: int) -> torch.Tensor:
        """``size`` numbers below ``high``."""
        return torch.randint(high, (size,), generator=self._random, device=self.device)

    def ints(self, values: Sequence[int]) -> torch.Tensor:
        """Lengths and offsets, int32."""
        return torch.tensor(values, dtype=torch.int32, device=self.device)

    def synchronize(self) -> None:
        """Wait for the device; raises what it has to complain of."""
        if self._broken:
            raise RuntimeError(self._broken)
        if self.is_cuda:
            torch.cuda.synchronize(self.device)

    def device_times_s(self, run: Callable[[], object], count: int) -> list[float]:
        """Seconds of each of ``count`` runs, by events; the host waits only at the end."""
        if not self.is_cuda:
            return self.host_times_s(run, count)
        pairs = [(_event(), _event()) for _ in range(count)]
        for begin, end in pairs:
            begin.record()
            run()
            end.record()
        self.synchronize()
        return [begin.elapsed_time(end) * S_PER_MS for begin, end in pairs]

    def host_times_s(self, run: Callable[[], object], count: int) -> list[float]:
        """Seconds of each of ``count`` runs on the host's clock; a run waits for the device."""
        times = []
        for _ in range(count):
            begin_s = perf_counter()
            run()
            times.append(perf_counter() - begin_s)
        return times

    def memory_bytes(self) -> tuple[int, int]:
        """Free and total memory of the card; nothing on a CPU."""
        return torch.cuda.mem_get_info(self.device) if self.is_cuda else (0, 0)

    def new_stream(self) -> torch.cuda.Stream | None:
        """Beside the current one; None on a CPU, which ``torch.cuda.stream`` passes over."""
        return torch.cuda.Stream(self.device) if self.is_cuda else None  # type: ignore[no-untyped-call]

    def captured(
        self, call: Callable[[], object], count: int, *, warm: bool = True
    ) -> Callable[[], object]:
        """``count`` calls as one CUDA graph; a loop on a CPU.

        ``torch.cuda.graph`` would empty the allocator's cache each time, a thousand times a run.

        Args:
            call: what is captured; the graph keeps it, and with it the memory that it works on.
            count: how often.
            warm: call it once before, so that libraries take their workspace outside the graph.
        """
        if not self.is_cuda:
            return lambda: [call() for _ in range(count)]
        graph, stream = torch.cuda.CUDAGraph(), _capture_stream(self.device)
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            if warm:
                call()
            graph.capture_begin(capture_error_mode="thread_local")
            try:
                for _ in range(count):
                    call()
            except BaseException:
                with suppress(RuntimeError):  # it would hide what went wrong
                    self._end(graph)
                raise
            self._end(graph)
        torch.cuda.current_stream().wait_stream(stream)

        def replay(_kept: object = call) -> None:
            graph.replay()

        return replay

    def _end(self, graph: torch.cuda.CUDAGraph) -> None:
        try:
            graph.capture_end()
        except RuntimeError as error:  # the allocator stays in its capture, and frees nothing more
            self._broken = f"a capture could not be ended: {error}"
            raise

    def _fill(self, values: torch.Tensor) -> torch.Tensor:
        flat = values.view(-1)
        for begin in range(0, flat.numel(), FILLED_AT_ONCE):
            part = flat[begin : begin + FILLED_AT_ONCE]
            if values.dtype == torch.int8:
                part.random_(-127, 128, generator=self._random)
            elif values.dtype.itemsize == 1:
                part.copy_(
                    torch.empty_like(part, dtype=torch.float16).normal_(generator=self._random)
                )
            else:
                part.normal_(generator=self._random)
        return values


def rotating(function: Callable[[Any], object], operands: Sequence[Any]) -> Callable[[], object]:
    """A call that takes the next operands each time."""
    turn = cycle(operands)
    return lambda: function(next(turn))


def _event() -> Any:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


_STREAMS: dict[torch.device, torch.cuda.Stream] = {}


def _capture_stream(device: torch.device) -> torch.cuda.Stream:
    """One side stream for all captures: libraries keep a workspace for each."""
    if device not in _STREAMS:
        _STREAMS[device] = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    return _STREAMS[device]
