"""Compiles the kernels before anything is timed, in several processes.

A kernel is compiled for its head counts, block size, dtypes and the like, some seconds each, on one
core; the card would idle and cool down meanwhile. So each variant is run once, on its smallest
point, in one of up to eight processes; they leave the compiled kernels in Triton's cache on disk.
What fails here fails again where it is measured, and is told there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import get_context

from .point import Point

MAX_PROCESSES = 8
WORTH_IT = 16
"""Variants: a process takes some seconds to start."""
MOST_S = 180.0
ATTENTION_KEYS = (
    "kind",
    "heads",
    "kv_heads",
    "head_dim",
    "dtype",
    "kv_dtype",
    "block_size",
    "sliding_window",
)


def compile_ahead(points: Sequence[Point], report: Callable[[int, int], None]) -> int:
    """Run each variant once; returns how many ran."""
    chosen = variants(points)
    if len(chosen) < WORTH_IT:
        return 0
    processes = min(MAX_PROCESSES, os.cpu_count() or 1)
    done = 0
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(run_once, point) for point in chosen]
        with suppress(TimeoutError, BrokenProcessPool):
            for future in as_completed(futures, timeout=MOST_S):
                done += future.result()
                report(done, len(chosen))
        pool.shutdown(wait=True, cancel_futures=True)
    return done


def variants(points: Sequence[Point]) -> list[Point]:
    """The smallest point of each compiled kernel, in a fixed order."""
    smallest: dict[Hashable, Point] = {}
    for point in sorted(points, key=lambda p: (p.memory_bytes, p.seconds, p.key)):
        key = variant(point)
        if key is not None:
            smallest.setdefault(key, point)
    return list(smallest.values())


def variant(point: Point) -> Hashable:
    """What a point's kernels are compiled for; None where nothing of ours is compiled."""
    x = point.x
    if "seq_lens" in x or "chunks" in x:
        if x.get("name", "kvsim") not in ("kvsim", "contiguous"):
            return None
        num_seqs = sum(count for _, count in x.get("seq_lens", ()))
        parts = (num_seqs.bit_length(), num_seqs % 16 == 0, len(x.get("chunks", ())))
        return (*(x.get(name) for name in ATTENTION_KEYS), x.get("name"), *parts)
    if point.family == "elementwise":
        return ("elementwise", x["op"]) if x["op"] in ("rope_write", "silu_mul") else None
    return ("block_copy", x["block_bytes"]) if point.family == "block_copy" else None


def run_once(point: Point) -> bool:
    """In a process of its own: one call of a point, with one set of operands."""
    import torch

    from .bench import Bench
    from .families import PREPARE

    try:
        bench = Bench(torch.device("cuda", 0), l2_bytes=0)
        PREPARE[point.family](point.x, bench).call()
        bench.synchronize()
    except Exception:  # it is measured later, and says so then
        return False
    return True
