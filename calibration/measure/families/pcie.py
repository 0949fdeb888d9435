"""The link between host and card: one piece, block by block, gathered.

    copy       one transfer of all bytes; ``both`` runs one each way at once, bytes each
    blockwise  one transfer for each block of a pool, from its place to a slot of host memory
    gathered   a kernel gathers the blocks into one buffer, which is sent; or sent, and scattered

Asynchronous transfers are timed by events; what makes the host wait (pageable memory) or runs on
two streams, by the host's clock until the device is done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from ....kernels.block_move import gather_blocks, scatter_blocks
from ..bench import Bench
from ..card import Work

POOL_TIMES = 2
"""Blocks of the pool for each that is moved: they lie scattered."""


def prepare(x: Mapping[str, Any], bench: Bench) -> Work:
    """Both ends of one transfer."""
    if x["how"] != "copy":
        call = (_blockwise if x["how"] == "blockwise" else _gathered)(x, bench)
        return Work(call=call, x=x, how="eager")
    host = _host_memory(x["bytes"], bench, pinned=x["memory"] == "pinned")
    card = bench.pool(x["bytes"], "int8").view(torch.uint8)
    if x["direction"] == "both":
        return Work(call=_both_ways(host, card, x, bench), x=x, how="host")
    source, target = (host, card) if x["direction"] == "h2d" else (card, host)
    if x["memory"] == "pinned":
        return Work(call=lambda: target.copy_(source, non_blocking=True), x=x, how="eager")

    def wait() -> None:
        target.copy_(source)
        bench.synchronize()

    return Work(call=wait, x=x, how="host")


def _host_memory(size: int, bench: Bench, *, pinned: bool = True) -> torch.Tensor:
    """Random, since other points share the pool that it is sent to."""
    host = torch.empty(size, dtype=torch.uint8, pin_memory=pinned and bench.is_cuda)
    return host.copy_(bench.pool(size, "int8").view(torch.uint8))


def _both_ways(
    host: torch.Tensor, card: torch.Tensor, x: Mapping[str, Any], bench: Bench
) -> Callable[[], object]:
    other_host, other_card = _host_memory(x["bytes"], bench), torch.empty_like(card)
    streams = [bench.new_stream() for _ in "ab"]

    def call() -> None:
        for stream, target, source in (
            (streams[0], card, host),
            (streams[1], other_host, other_card),
        ):
            with torch.cuda.stream(stream):
                target.copy_(source, non_blocking=True)
        bench.synchronize()

    return call


def _pool(x: Mapping[str, Any], bench: Bench) -> tuple[torch.Tensor, torch.Tensor]:
    """Twice as many blocks as are moved, and which are."""
    block_bytes = x["bytes"] // x["segments"]
    num_blocks = POOL_TIMES * x["segments"]
    pool = bench.pool(num_blocks * block_bytes, "int8").view(num_blocks, block_bytes)
    return pool.view(torch.uint8), bench.permutation(num_blocks)[: x["segments"]]


def _blockwise(x: Mapping[str, Any], bench: Bench) -> Callable[[], object]:
    pool, ids = _pool(x, bench)
    host = _host_memory(x["bytes"], bench).view(x["segments"], -1)
    ends = list(zip(host, [pool[i] for i in ids.tolist()], strict=True))
    pairs = [(b, a) if x["direction"] == "h2d" else (a, b) for a, b in ends]

    def call() -> None:
        for target, source in pairs:
            target.copy_(source, non_blocking=True)

    return call


def _gathered(x: Mapping[str, Any], bench: Bench) -> Callable[[], object]:
    pool, ids = _pool(x, bench)
    host = _host_memory(x["bytes"], bench).view(x["segments"], -1)
    staging = torch.empty_like(pool[: x["segments"]])
    if x["direction"] == "d2h":

        def send() -> None:
            gather_blocks(pool, ids, out=staging)
            host.copy_(staging, non_blocking=True)

        return send

    def fetch() -> None:
        staging.copy_(host, non_blocking=True)
        scatter_blocks(staging, pool, ids)

    return fetch
