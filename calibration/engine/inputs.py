"""From the rows of a step to tensors: filled on the host, in place, and sent in a few copies."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray

from .forward import Batch
from .history import History
from .steps import Row


class Inputs:
    """Buffers for steps of up to so many tokens and sequences; captured graphs read them in place.

    Args:
        max_tokens: of a step.
        max_seqs: of a step.
        max_blocks: of a table.
        block_size: tokens of a block.
        device: where the kernels run.
    """

    def __init__(
        self,
        *,
        max_tokens: int,
        max_seqs: int,
        max_blocks: int,
        block_size: int,
        device: torch.device,
    ) -> None:
        self._block_size = block_size
        self._tables = Tables(max_seqs, max_blocks)
        long, short = torch.int64, torch.int32
        shapes: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
            "ids": ((max_tokens,), long),
            "positions": ((max_tokens,), long),
            "slots": ((max_tokens,), long),
            "tables": ((max_seqs, max_blocks), short),
            "seq_lens": ((max_seqs,), short),
            "chunk_starts": ((max_seqs + 1,), short),
            "last_rows": ((max_seqs,), long),
        }
        pinned = device.type == "cuda"
        self._host = {
            name: torch.zeros(size, dtype=dtype, pin_memory=pinned)
            for name, (size, dtype) in shapes.items()
        }
        self._arrays = {name: tensor.numpy() for name, tensor in self._host.items()}
        self._device = {
            name: torch.zeros_like(tensor, device=device) for name, tensor in self._host.items()
        }

    def decodes(self, count: int) -> Batch:
        """The device's buffers as a step of so many decodes: what a graph is captured on."""
        found = self._device
        return Batch(
            ids=found["ids"][:count],
            positions=found["positions"][:count],
            slots=found["slots"][:count],
            tables=found["tables"][:count],
            seq_lens=found["seq_lens"][:count],
            chunk_starts=found["chunk_starts"][:1],
            last_rows=None,
            num_decodes=count,
        )

    def blank(self, num_decodes: int, chunks: Sequence[int]) -> Batch:
        """Some decodes and chunks that write nothing and read block 0: to compile and to warm."""
        num_tokens, num_rows = num_decodes + sum(chunks), num_decodes + len(chunks)
        found = {name: torch.zeros_like(tensor) for name, tensor in self._device.items()}
        found["slots"].fill_(-1)
        starts = torch.tensor([0, *accumulate(chunks)], dtype=torch.int32)
        found["chunk_starts"][: len(starts)] = starts
        lens = torch.tensor([1] * num_decodes + list(chunks), dtype=torch.int32)
        found["seq_lens"][:num_rows] = lens
        return Batch(
            ids=found["ids"][:num_tokens],
            positions=found["positions"][:num_tokens],
            slots=found["slots"][:num_tokens],
            tables=found["tables"][:num_rows],
            seq_lens=found["seq_lens"][:num_rows],
            chunk_starts=found["chunk_starts"][: len(chunks) + 1],
            last_rows=found["last_rows"][:num_rows],
            num_decodes=num_decodes,
        )

    def send(self, rows: Sequence[Row], history: History, *, pad_to: int = 0) -> Batch:
        """A step's tensors, queued to the device.

        Args:
            rows: those of one new token first.
            history: tokens.
            pad_to: rows of the graph that will run; the rest are empty.
        """
        num_decodes = sum(row.new_tokens == 1 for row in rows)
        num_tokens = self._fill(rows, history)
        num_rows = len(rows)
        if pad_to > num_rows:
            self._pad(num_rows, pad_to)
            num_tokens = num_rows = num_decodes = pad_to
        samples = self._last_rows(rows)
        chunks = num_rows - num_decodes
        sizes = {
            "ids": num_tokens,
            "positions": num_tokens,
            "slots": num_tokens,
            "tables": num_rows,
            "seq_lens": num_rows,
            "chunk_starts": chunks + 1,
            "last_rows": samples,
        }
        sent = {}
        for name, size in sizes.items():
            sent[name] = self._device[name][:size]
            sent[name].copy_(self._host[name][:size], non_blocking=True)
        if pad_to or samples == num_rows == num_decodes:
            return self.decodes(num_rows)
        return Batch(num_decodes=num_decodes, **sent)

    def _fill(self, rows: Sequence[Row], history: History) -> int:
        """Tokens, positions, slots, lengths and tables; how many tokens there are."""
        arrays, size = self._arrays, self._block_size
        seats = self._tables.show(rows)
        np.take(self._tables.ids, seats, axis=0, out=arrays["tables"][: len(rows)], mode="clip")
        past = np.fromiter((row.past_tokens for row in rows), np.int64, len(rows))
        new = np.fromiter((row.new_tokens for row in rows), np.int64, len(rows))
        total = int(new.sum())
        arrays["seq_lens"][: len(rows)] = past + new
        at = 0
        for row in rows:
            stop = row.past_tokens + row.new_tokens
            ids = history.tokens(row.sequence, row.past_tokens, stop)
            arrays["ids"][at : at + row.new_tokens] = ids
            at += row.new_tokens
        owner = np.repeat(np.arange(len(rows)), new)
        first = np.cumsum(new) - new
        positions = past[owner] + np.arange(total) - first[owner]
        arrays["positions"][:total] = positions
        block = arrays["tables"][owner, positions // size].astype(np.int64)
        arrays["slots"][:total] = block * size + positions % size
        chunks = new[new > 1]
        arrays["chunk_starts"][0] = 0
        arrays["chunk_starts"][1 : len(chunks) + 1] = np.cumsum(chunks)
        return total

    def _pad(self, first: int, stop: int) -> None:
        """Rows that read and write nothing."""
        for name in ("ids", "positions", "seq_lens", "tables"):
            self._arrays[name][first:stop] = 0
        self._arrays["slots"][first:stop] = -1

    def _last_rows(self, rows: Sequence[Row]) -> int:
        """Where the tokens lie from which somebody samples; how many."""
        at = count = 0
        for row in rows:
            at += row.new_tokens
            if row.takers:
                self._arrays["last_rows"][count] = at - 1
                count += 1
        return count


class Tables:
    """Block tables of sequences as rows of one array; what has grown is written, nothing else."""

    def __init__(self, max_seqs: int, max_blocks: int) -> None:
        self.ids: NDArray[np.int32] = np.zeros((2 * max_seqs, max_blocks), dtype=np.int32)
        self._seat: dict[int, int] = {}
        self._filled = [0] * len(self.ids)
        self._free = list(range(len(self.ids)))

    def show(self, rows: Sequence[Row]) -> list[int]:
        """The array's rows of these tables."""
        if len(self._free) < len(rows):
            self._forget_all_but({row.sequence for row in rows})
        seats = []
        for row in rows:
            seat = self._seat.get(row.sequence)
            if seat is None:
                seat = self._seat[row.sequence] = self._free.pop()
                self._filled[seat] = 0
            elif row.fresh:
                self._filled[seat] = 0
            table, filled = row.table, self._filled[seat]
            if len(table) != filled or table[-1] != self.ids[seat, filled - 1]:
                kept = max(0, min(filled, len(table)) - 1)  # the last one may have been copied
                self.ids[seat, kept : len(table)] = table[kept:]
                self._filled[seat] = len(table)
            seats.append(seat)
        return seats

    def _forget_all_but(self, sequences: set[int]) -> None:
        for sequence in [one for one in self._seat if one not in sequences]:
            self._free.append(self._seat.pop(sequence))
