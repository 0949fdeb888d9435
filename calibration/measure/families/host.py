"""What the host does for each step, on its own clock: metadata, its upload, the tokens' download.

``prepare`` fills the arrays of a step of decodes as an engine does, in place: positions, lengths,
slots, input tokens and the rows of the block table that grew. ``upload`` sends them from pinned
memory and waits; ``download`` fetches the sampled tokens, waits and makes a list of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from ..bench import Bench
from ..card import Work

TABLE_BLOCKS = 512
"""A row of the table: 8k tokens in blocks of 16."""
BLOCK_SIZE = 16


def prepare(x: Mapping[str, Any], bench: Bench) -> Work:
    """One of the three."""
    step = Step(x["requests"], bench)
    calls: dict[str, Callable[[], object]] = {
        "prepare": step.prepare,
        "upload": step.upload,
        "download": step.download,
    }
    return Work(call=calls[x["what"]], x=x, how="host")


class Step:
    """The arrays of a step, on the host and on the device."""

    def __init__(self, requests: int, bench: Bench) -> None:
        self._bench = bench
        self._computed = np.random.default_rng(0).integers(0, 8000, requests)
        shapes = {name: (requests,) for name in ("positions", "seq_lens", "slots", "tokens")}
        self._host = {
            name: torch.zeros(shape, dtype=torch.int32, pin_memory=bench.is_cuda)
            for name, shape in {**shapes, "table": (requests, TABLE_BLOCKS)}.items()
        }
        self._arrays = {name: tensor.numpy() for name, tensor in self._host.items()}
        self._device = {
            name: torch.zeros_like(tensor, device=bench.device)
            for name, tensor in self._host.items()
        }
        self._rows = np.arange(requests)
        self._next_block = 0

    def prepare(self) -> None:
        """One more token for each request."""
        self._computed += 1
        self._computed %= TABLE_BLOCKS * BLOCK_SIZE
        block, offset = np.divmod(self._computed, BLOCK_SIZE)
        for row in np.flatnonzero(offset == 0):
            self._next_block += 1
            self._arrays["table"][row, block[row]] = self._next_block % (1 << 20)
        self._arrays["positions"][:] = self._computed
        self._arrays["seq_lens"][:] = self._computed + 1
        blocks = self._arrays["table"][self._rows, block]
        np.add(blocks * BLOCK_SIZE, offset, out=self._arrays["slots"], casting="unsafe")

    def upload(self) -> None:
        """All arrays to the device."""
        for name, tensor in self._host.items():
            self._device[name].copy_(tensor, non_blocking=True)
        self._bench.synchronize()

    def download(self) -> list[int]:
        """The sampled tokens."""
        self._host["tokens"].copy_(self._device["tokens"], non_blocking=True)
        self._bench.synchronize()
        return [int(token) for token in self._host["tokens"].tolist()]
