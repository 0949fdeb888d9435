"""The KV: blocks on the device, layer after layer, and blocks in host memory.

A block has the keys and the values of its tokens in every layer. On the device these are apart, as
the attention kernels want them, so one that moves is ``2 layers`` pieces; one launch moves the
pieces of all blocks of a call. In host memory a block is in one piece, and one transfer takes as
many as lie side by side.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from ...kernels.block_move import copy_blocks, gather_blocks, scatter_blocks
from .moving import spans, together
from .shape import LlamaShape
from .steps import Move
from .weights import torch_dtype


class Pools:
    """Blocks of ``block_size`` tokens; block 0 belongs to nobody and is never read.

    Args:
        shape: layers, KV heads, dtype.
        num_gpu_blocks: on the device, block 0 included.
        num_host_blocks: in (pinned) host memory.
        block_size: tokens of a block.
        device: where the kernels run.
        fill: what slots hold that nobody has written.
    """

    def __init__(
        self,
        shape: LlamaShape,
        *,
        num_gpu_blocks: int,
        num_host_blocks: int,
        block_size: int,
        device: torch.device,
        fill: float = 0.0,
    ) -> None:
        pieces, block = 2 * shape.num_layers, (block_size, shape.num_kv_heads, shape.head_dim)
        dtype = torch_dtype(shape)
        self.num_gpu_blocks = num_gpu_blocks
        self.kv = torch.full((pieces, num_gpu_blocks, *block), fill, dtype=dtype, device=device)
        self._pieces = self.kv.view(pieces * num_gpu_blocks, *block)
        self._first = torch.arange(pieces, device=device) * num_gpu_blocks
        pinned = device.type == "cuda" and num_host_blocks > 0
        shape_of_host = (num_host_blocks, pieces, *block)
        self.host = torch.full(shape_of_host, fill, dtype=dtype, pin_memory=pinned)

    def keys(self, layer: int) -> torch.Tensor:
        """``[num_blocks, block_size, kv_heads, head_dim]``."""
        return self.kv[2 * layer]

    def values(self, layer: int) -> torch.Tensor:
        """As :meth:`keys`."""
        return self.kv[2 * layer + 1]

    def move(self, moves: Iterable[Move]) -> None:
        """Do what the ledger has decided, in its order; returns when all is queued."""
        for run in together(moves):
            sources, targets = [move.source for move in run], [move.target for move in run]
            if run[0].kind == "copy":
                pairs = torch.stack([self._of(sources), self._of(targets)], dim=1)
                copy_blocks(self._pieces, pairs)
            elif run[0].kind == "out":
                self._out(sources, targets)
            else:
                self._in(sources, targets)

    def _of(self, blocks: list[int]) -> torch.Tensor:
        """The pieces of these blocks, block by block."""
        ids = torch.tensor(blocks, dtype=torch.int64).to(self._first.device, non_blocking=True)
        return (ids[:, None] + self._first[None, :]).flatten()

    def _out(self, blocks: list[int], host_blocks: list[int]) -> None:
        staging = gather_blocks(self._pieces, self._of(blocks))
        staging = staging.view(len(blocks), *self.host.shape[1:])
        for place, first, count in spans(host_blocks):
            target = self.host[first : first + count]
            target.copy_(staging[place : place + count], non_blocking=True)

    def _in(self, host_blocks: list[int], blocks: list[int]) -> None:
        staging = self.kv.new_empty((len(blocks), *self.host.shape[1:]))
        for place, first, count in spans(host_blocks):
            source = self.host[first : first + count]
            staging[place : place + count].copy_(source, non_blocking=True)
        scatter_blocks(staging.flatten(0, 1), self._pieces, self._of(blocks))
