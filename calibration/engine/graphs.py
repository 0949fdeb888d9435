"""Decodes as captured CUDA graphs, one for each bucket of batch sizes.

A step of decodes runs the graph of the next larger bucket; the rows that fill it up read and write
nothing. The lengths are read on the device (``kernels.work_list``), so one graph serves all.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .forward import Model, best
from .inputs import Inputs

BUCKETS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""Batch sizes that are captured."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Captured:
    graph: Any
    values: torch.Tensor
    tokens: torch.Tensor


def buckets_up_to(max_num_seqs: int) -> tuple[int, ...]:
    """The sizes that a server of so many seats needs."""
    return BUCKETS[: bisect_left(BUCKETS, max_num_seqs) + 1]


def bucket_of(num_rows: int, buckets: Sequence[int]) -> int:
    """The smallest that holds so many rows; 0 where none does."""
    place = bisect_left(buckets, num_rows)
    return buckets[place] if num_rows and place < len(buckets) else 0


class Graphs:
    """All buckets of one model, captured from the largest down, in one pool of memory."""

    def __init__(self, model: Model, inputs: Inputs, buckets: Sequence[int]) -> None:
        self.buckets = tuple(buckets)
        self._captured: dict[int, _Captured] = {}
        pool = torch.cuda.graph_pool_handle()
        for bucket in reversed(self.buckets):
            self._captured[bucket] = _capture(model, inputs, bucket, pool)

    def replay(self, bucket: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and tokens of the step that lies in the input buffers."""
        found = self._captured[bucket]
        found.graph.replay()
        return found.values, found.tokens


def _capture(model: Model, inputs: Inputs, bucket: int, pool: Any) -> _Captured:
    batch = inputs.decodes(bucket)
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):  # compiles, and takes what libraries want for themselves
            best(model.logits(batch))
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        values, tokens = best(model.logits(batch))
    return _Captured(graph=graph, values=values, tokens=tokens)
