"""The rows of a stream as they are due: read one chunk ahead of the arrivals.

A later turn of a session waits for its parent. As a chunk is read before the arrivals of the chunk
before it begin, a turn is known before its parent can end, as long as that one stands in the same
chunk or in the one before.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ...calibration.step_cost import NS_PER_S
from ...traces.chunks import Chunk

NEVER = float("nan")


class Row(NamedTuple):
    """One request to be."""

    number: int
    """In the stream, from 0."""
    prompt_tokens: int
    output_tokens: int
    priority: int
    tenant: int
    cancel_s: float
    parent: int
    chain: tuple[int, ...]
    """Its known prefix ids."""


class Feed:
    """Rows in order of arrival, and turns by the row that they follow."""

    def __init__(self, chunks: Iterator[Chunk], *, with_chains: bool) -> None:
        self._chunks = chunks
        self._with_chains = with_chains
        self._num_read = 0
        self._last_ns = -np.inf
        self.turns: dict[int, list[tuple[Row, float]]] = {}
        """By their parent: what follows it, and after how many ns."""
        self.hash_block_size: int | None = None
        self.followers: dict[int, int] = {}
        """How many rows read so far name a row as their parent; used up by who looks at it."""
        self._first_rows = (0, 0)
        """Of the chunk before the one read last, and of that one."""

    def due(self) -> Iterator[tuple[float, Row]]:
        """Time (ns) and row of all that do not follow another; the next chunk is always read."""
        current = self._read()
        while current is not None:
            following = self._read()
            yield from current
            current = following

    def _read(self) -> Iterator[tuple[float, Row]] | None:
        chunk = next(self._chunks, None)
        if chunk is None:
            return None
        assert chunk.first_row == self._num_read, "chunks follow one another"
        self._num_read += len(chunk)
        self._first_rows = (self._first_rows[1], chunk.first_row)
        if chunk.hash_block_size is not None:  # the same in all that have ids
            self.hash_block_size = chunk.hash_block_size
        rows = self._rows(chunk)
        times_ns = self._times_ns(chunk)
        if chunk.parent is not None:
            self._check_parents(chunk)
        follows = chunk.follows_parent
        if chunk.delay_s is None or not follows.any():
            return zip(times_ns, rows, strict=True)
        delays_ns = np.where(follows, np.round(chunk.delay_s * NS_PER_S), 0.0).tolist()
        timed = []
        for row, time_ns, waits, delay_ns in zip(
            rows, times_ns, follows.tolist(), delays_ns, strict=True
        ):
            if waits:
                self.turns.setdefault(row.parent, []).append((row, delay_ns))
            else:
                timed.append((time_ns, row))
        return iter(timed)

    def _rows(self, chunk: Chunk) -> Iterator[Row]:
        num = len(chunk)
        zeros = [0] * num
        columns = (
            range(chunk.first_row, chunk.first_row + num),
            chunk.prompt_tokens.tolist(),
            chunk.output_tokens.tolist(),
            zeros if chunk.priority is None else chunk.priority.tolist(),
            zeros if chunk.tenant is None else chunk.tenant.tolist(),
            [NEVER] * num if chunk.cancel_s is None else chunk.cancel_s.tolist(),
            [-1] * num if chunk.parent is None else chunk.parent.tolist(),
            self._chains(chunk),
        )
        return map(Row._make, zip(*columns, strict=True))

    def _chains(self, chunk: Chunk) -> list[tuple[int, ...]]:
        ids, offsets = chunk.hash_ids, chunk.hash_offsets
        if ids is None or offsets is None or not self._with_chains:
            return [()] * len(chunk)
        flat, bounds = ids.tolist(), offsets.tolist()
        return [tuple(flat[a:b]) for a, b in pairwise(bounds)]

    def _times_ns(self, chunk: Chunk) -> list[float]:
        if chunk.arrival_s is None:
            return [0.0] * len(chunk)
        times_ns = np.round(chunk.arrival_s * NS_PER_S)
        given = times_ns[~np.isnan(times_ns)]
        if len(given):
            falls = np.diff(given, prepend=self._last_ns) < 0
            if falls.any():
                raise ValueError(
                    f"arrival_s(={given[falls][0] / NS_PER_S:g}) must not be before that of the "
                    "rows above it: a stream is read in order."
                )
            self._last_ns = float(given[-1])
        return times_ns.tolist()  # type: ignore[no-any-return]

    def _check_parents(self, chunk: Chunk) -> None:
        assert chunk.parent is not None, "the caller has looked"
        first = self._first_rows[0]
        far = (chunk.parent >= 0) & (chunk.parent < first)
        if far.any():
            row = chunk.first_row + int(far.argmax())
            raise ValueError(
                f"parent(={int(chunk.parent[far][0])}) of row {row} must be >= {first} to be "
                "streamed: in the same chunk, or in the one before."
            )
        if self._with_chains:
            for parent in chunk.parent[chunk.parent >= 0].tolist():
                self.followers[parent] = self.followers.get(parent, 0) + 1
