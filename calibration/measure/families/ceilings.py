"""What the card can do at best: copy, read, multiply.

copy              bytes = 2 n: read once, written once
read              bytes = n: sums of 8,192 values, next to nothing is written
matmul            flops = 2 s^3, a square product
matmul_sustained  the same for ten seconds: what is left when the card is hot
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any

import torch

from ...profile.loads import DTYPE_BYTES
from ..bench import Bench
from ..card import Call, Work
from .probes import READ_VALUES, read_sums

SUSTAINED_CALLS = 100
"""Of one sample."""


def prepare(x: Mapping[str, Any], bench: Bench) -> Work:
    """The operands of one ceiling."""
    what = x["what"]
    if what == "copy":
        return Work(call=_copy(x, bench), x=x)
    if what == "read":
        return Work(call=_read(x, bench), x=x)
    call = _matmul(x, bench)
    if what == "matmul":
        return Work(call=call, x=x)
    return Work(call=lambda: _sustained_s(call, x["seconds"], bench), x=x, how="reading")


def _copy(x: Mapping[str, Any], bench: Bench) -> Call:
    size = x["bytes"] // 2 // DTYPE_BYTES[x["dtype"]]
    source, target = bench.pool(2 * size, x["dtype"]).view(2, size)
    return lambda: target.copy_(source)


def _read(x: Mapping[str, Any], bench: Bench) -> Call:
    values = bench.pool(x["bytes"] // DTYPE_BYTES[x["dtype"]], x["dtype"])
    sums = torch.empty(values.numel() // READ_VALUES, dtype=torch.float32, device=bench.device)
    return lambda: read_sums(values, sums)


def _matmul(x: Mapping[str, Any], bench: Bench) -> Call:
    size = round((x["flops"] / 2) ** (1 / 3))
    left, right = bench.pool(2 * size**2, x["dtype"]).view(2, size, size)
    out = torch.empty_like(left)
    return lambda: torch.mm(left, right, out=out)


def _sustained_s(call: Call, seconds: float, bench: Bench) -> list[float]:
    run = bench.captured(call, SUSTAINED_CALLS)
    (first_s,) = bench.device_times_s(run, 1)
    times = bench.device_times_s(run, max(1, ceil(seconds / first_s)))
    return [time_s / SUSTAINED_CALLS for time_s in times]
