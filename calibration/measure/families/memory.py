"""Memory of the card, as a process that has just started sees it; readings in bytes.

total               what the driver reports
free_after_context  left when the framework has made its context
context             total - free: the context, and whatever else runs on the card
after_matmul        taken by the matrix library's first product, its operands aside
graphs              taken by a captured graph of ``GRAPH_NODES`` kernels
largest_allocation  the largest single tensor that can be had, to 16 MiB
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ..bench import Bench
from ..card import Work

GRAPH_NODES = 1000
MATMUL_SIZE = 256
RESOLUTION_BYTES = 16 << 20


def prepare(x: Mapping[str, Any], bench: Bench) -> Work:
    """One reading."""
    return Work(call=lambda: [READ[x["what"]](bench)], x=x, how="reading", unit="bytes")


def _total(bench: Bench) -> int:
    return bench.memory_bytes()[1]


def _free(bench: Bench) -> int:
    return _free_now(bench)


def _context(bench: Bench) -> int:
    free, total = bench.memory_bytes()
    return total - free


def _after_matmul(bench: Bench) -> int:
    left = bench.normal(MATMUL_SIZE, MATMUL_SIZE)
    before = _free_now(bench)
    torch.mm(left, left)
    return before - _free_now(bench)


def _graphs(bench: Bench) -> int:
    value = torch.ones(1, device=bench.device)
    before = _free_now(bench)
    graph = bench.captured(value.neg_, GRAPH_NODES)
    graph()
    return before - _free_now(bench)


def _largest(bench: Bench) -> int:
    bench.drop_pool()
    low, high = 0, _free_now(bench)
    while high - low > RESOLUTION_BYTES:
        middle = (low + high) // 2
        low, high = (middle, high) if _fits(middle, bench) else (low, middle)
    return low


def _fits(size: int, bench: Bench) -> bool:
    try:
        torch.empty(size, dtype=torch.uint8, device=bench.device)
    except torch.OutOfMemoryError:
        return False
    finally:
        bench.drop_pool()
    return True


def _free_now(bench: Bench) -> int:
    bench.synchronize()
    return bench.memory_bytes()[0]


READ = {
    "total": _total,
    "free_after_context": _free,
    "context": _context,
    "after_matmul": _after_matmul,
    "graphs": _graphs,
    "largest_allocation": _largest,
}
