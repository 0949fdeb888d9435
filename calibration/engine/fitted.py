"""Step times fitted to an engine's own logs: what a host and its kernels make of a step's shape.

    eager    max(floor, base
                        + decoding + decode * decodes + tile * tiles of their keys
                                   + context * decode contexts       where somebody decodes
                        + prefilling + chunk * chunks + token * their new tokens
                                     + pair * (query, key) pairs     where somebody prefills)
    graph    base + row * rows of the graph's bucket + context * decode contexts
    moves    call + block * blocks, of swaps out, swaps in and copies, in the step that makes them

The decode kernel reads keys a tile at a time: a context of one token more than a tile costs a
second one. A batch is known by its longest context and the sum of all; the others are taken to be
of equal length. A step without chunks runs a captured graph where there are some, filled up to the
next bucket. The floor is what the host needs to launch kernels one by one, however little they do.
``fitting`` finds the terms.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from math import ceil

import numpy as np

from ..step_cost import UNBOUNDED, Band, Batch, Line, StepCost, highest
from .graph_buckets import BUCKETS, bucket_of
from .records import StepRecord

EAGER = (
    "base",
    "decoding",
    "decode",
    "tile",
    "context",
    "prefilling",
    "chunk",
    "token",
    "pair",
)
GRAPH = ("base", "row", "context")
MOVES = ("out_call", "out_block", "in_call", "in_block", "copy_call", "copy_block")


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedCost(StepCost):
    """Nanoseconds per unit of each term; not whole numbers."""

    eager_ns: tuple[float, ...]
    """In the order of ``EAGER``."""
    tile_tokens: int
    """Keys that the decode kernel reads at once."""
    graph_ns: tuple[float, ...] = ()
    """In the order of ``GRAPH``; empty where no step ran in a graph."""
    floor_ns: float = 0.0
    num_steps: int
    band: Band
    source: str = field(default="fitted", init=False)
    uses_longest: bool = field(default=True, init=False)

    def step_ns(self, batch: Batch) -> float:
        """Nanoseconds of one engine step of this shape."""
        batch = _plain(batch)
        bucket = self._bucket(batch)
        if bucket:
            return float(np.dot(self.graph_ns, graph_units(batch, bucket)))
        return max(self.floor_ns, float(np.dot(self.eager_ns, self._units(batch))))

    def decode_line(self, batch: Batch) -> Line:
        """Each decode's context grows by one a step; the floor bends it, and the next tile."""
        bucket = self._bucket(batch)
        terms, names = (self.graph_ns, GRAPH) if bucket else (self.eager_ns, EAGER)
        units = graph_units(batch, bucket) if bucket else self._units(batch)
        slope_ns = terms[names.index("context")] * batch.num_decodes
        steps = UNBOUNDED if bucket else self._steps_in_tiles(batch)
        line = Line(float(np.dot(terms, units)), slope_ns, steps)
        floor_ns = 0.0 if bucket else self.floor_ns
        return highest((line, Line(floor_ns, 0.0, UNBOUNDED))) if floor_ns else line

    def _units(self, batch: Batch) -> tuple[float, ...]:
        return eager_units(batch, self.tile_tokens)

    def _steps_in_tiles(self, batch: Batch) -> int:
        """For how many steps nobody begins another tile."""
        if not self.eager_ns[EAGER.index("tile")]:
            return UNBOUNDED
        lengths = _lengths(batch)
        return min(int(-length % self.tile_tokens) + 1 for length in lengths) if lengths else 1

    def _bucket(self, batch: Batch) -> int:
        if batch.chunks or not self.graph_ns:
            return 0
        return bucket_of(batch.num_decodes, BUCKETS)

    @property
    def origin(self) -> str:
        """For people."""
        return f"fitted to {self.num_steps} logged steps"

    def describe(self) -> dict[str, object]:
        """The terms in nanoseconds per unit."""
        found: dict[str, object] = {"source": self.source, "num_steps": self.num_steps}
        found["eager_ns"] = dict(zip(EAGER, self.eager_ns, strict=True))
        if self.graph_ns:
            found["graph_ns"] = dict(zip(GRAPH, self.graph_ns, strict=True))
        return found | {"floor_ns": self.floor_ns}


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedMoves:
    """What moving blocks adds to a step (``sim.moved.Moves``), nanoseconds in the order of
    ``MOVES``."""

    terms_ns: tuple[float, ...] = (0.0,) * len(MOVES)
    block_bytes: int

    def swap_ns(self, num_blocks: int, *, inward: bool = False) -> float:
        """So many blocks to host memory, or back."""
        call_ns, block_ns = self.terms_ns[2:4] if inward else self.terms_ns[:2]
        return call_ns + num_blocks * block_ns if num_blocks else 0.0

    def copy_ns(self, num_blocks: int) -> float:
        """So many blocks within the GPU."""
        call_ns, block_ns = self.terms_ns[4:]
        return call_ns + num_blocks * block_ns if num_blocks else 0.0

    def copy_bytes_ns(self, num_bytes: int) -> float:
        """The same for bytes."""
        return self.copy_ns(-(-num_bytes // self.block_bytes))

    def describe(self) -> dict[str, object]:
        """Plain values."""
        return asdict(self)


def batch_of(step: StepRecord) -> Batch:
    """The shape of a logged step; a row of one new token decodes."""
    decodes = [row for row in step.rows if row.new_tokens == 1]
    contexts = [row.past_tokens + 1 for row in decodes]
    return Batch(
        num_decodes=len(decodes),
        decode_context_tokens=sum(contexts),
        chunks=tuple((row.new_tokens, row.past_tokens) for row in step.rows if row.new_tokens > 1),
        longest_context_tokens=max(contexts, default=0),
    )


def _plain(batch: Batch) -> Batch:
    """Chunks of one token are decodes: the engine runs them so."""
    ones = [past + 1 for new, past in batch.chunks if new == 1]
    if not ones:
        return batch
    longest = batch.longest_context_tokens
    known = bool(longest) or not batch.num_decodes
    return batch._replace(
        num_decodes=batch.num_decodes + len(ones),
        decode_context_tokens=batch.decode_context_tokens + sum(ones),
        longest_context_tokens=max(longest, *ones) if known else 0,
        chunks=tuple(chunk for chunk in batch.chunks if chunk[0] > 1),
    )


def _lengths(batch: Batch) -> tuple[float, ...]:
    """Contexts of the longest decode and of each of the others, as far as they are known."""
    count, total = batch.num_decodes, batch.decode_context_tokens
    if not count:
        return ()
    longest = batch.longest_context_tokens or total / count
    return (longest,) if count == 1 else (longest, (total - longest) / (count - 1))


def _tiles(batch: Batch, tile_tokens: int) -> int:
    lengths = _lengths(batch)
    counts = (1, batch.num_decodes - 1)
    return sum(
        count * max(1, ceil(length / tile_tokens))
        for count, length in zip(counts, lengths, strict=False)
    )


def eager_units(batch: Batch, tile_tokens: int) -> tuple[float, ...]:
    """How much of each term of ``EAGER`` a batch has."""
    return (
        1.0,
        float(batch.num_decodes > 0),
        batch.num_decodes,
        _tiles(batch, tile_tokens),
        batch.decode_context_tokens,
        float(bool(batch.chunks)),
        len(batch.chunks),
        sum(new for new, _ in batch.chunks),
        sum(new * (past + (new + 1) / 2) for new, past in batch.chunks),
    )


def graph_units(batch: Batch, bucket: int) -> tuple[float, ...]:
    """The same of ``GRAPH``, in a graph of so many rows."""
    return 1.0, bucket, batch.decode_context_tokens
