"""Step times fitted to an engine's own logs: what a host and its kernels make of a step's shape.

    eager    max(floor, base + decode * decodes + context * decode contexts
                       + chunk * chunks + token * their new tokens + pair * (query, key) pairs)
    graph    base + row * rows of the graph's bucket + context * decode contexts
    moves    call + block * blocks, of swaps out, swaps in and copies, in the step that makes them

A step without chunks runs a captured graph where there are some: filled up to the next bucket. The
floor is what the host needs to launch kernels one by one, however little they do. No term is
negative. Least squares on relative errors (each step weighs the same), so that short steps count.
A step's time is its period (see ``periods``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from ..step_cost import NS_PER_S, UNBOUNDED, Band, Batch, Line, StepCost, highest
from .graph_buckets import BUCKETS, bucket_of
from .log_reader import Log
from .periods import periods_s
from .records import StepRecord
from .shape import LlamaShape

LEAST_STEPS = 20
EAGER = ("base", "decode", "context", "chunk", "token", "pair")
GRAPH = ("base", "row", "context")
MOVES = ("out_call", "out_block", "in_call", "in_block", "copy_call", "copy_block")
_FLOORS = np.linspace(0.0, 0.6, 13)
"""Quantiles of the eager steps' times that are tried as their floor."""
_WORTH = 0.9
"""A floor must leave so much of the squared error, or less."""
_BAND_QUANTILES = (0.05, 0.95)

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedCost(StepCost):
    """Nanoseconds per unit of each term; not whole numbers."""

    eager_ns: tuple[float, ...]
    """In the order of ``EAGER``."""
    graph_ns: tuple[float, ...] = ()
    """In the order of ``GRAPH``; empty where no step ran in a graph."""
    floor_ns: float = 0.0
    num_steps: int
    band: Band
    source: str = field(default="fitted", init=False)

    def step_ns(self, batch: Batch) -> float:
        """Nanoseconds of one engine step of this shape."""
        batch = _plain(batch)
        bucket = self._bucket(batch)
        if bucket:
            return float(np.dot(self.graph_ns, _graph_units(batch, bucket)))
        return max(self.floor_ns, float(np.dot(self.eager_ns, _eager_units(batch))))

    def decode_line(self, batch: Batch) -> Line:
        """Each decode's context grows by one a step; the floor bends it."""
        bucket = self._bucket(batch)
        terms, names = (self.graph_ns, GRAPH) if bucket else (self.eager_ns, EAGER)
        units = _graph_units(batch, bucket) if bucket else _eager_units(batch)
        slope_ns = terms[names.index("context")] * batch.num_decodes
        line = Line(float(np.dot(terms, units)), slope_ns, UNBOUNDED)
        floor_ns = 0.0 if bucket else self.floor_ns
        return highest((line, Line(floor_ns, 0.0, UNBOUNDED))) if floor_ns else line

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


def fit_logs(logs: Sequence[Log]) -> tuple[FittedCost, FittedMoves]:
    """Fit step times and moves to the steps of runs of one shape on one host.

    Steps in which kernels were compiled are left out.

    Raises:
        ValueError: too few steps.
    """
    pairs = [
        (step, period)
        for log in logs
        for step, period in zip(log.steps, periods_s(log.steps), strict=True)
        if step.rows and not step.compiled
    ]
    if len(pairs) < LEAST_STEPS:
        raise ValueError(f"fit(={len(pairs)} steps) must have >= {LEAST_STEPS} steps.")
    steps = [step for step, _ in pairs]
    times_ns = np.array([period for _, period in pairs]) * NS_PER_S
    moves = np.array([_move_units(step) for step in steps])
    graphs = np.array([bool(step.bucket) for step in steps])
    eager = ~graphs
    graph_ns: tuple[float, ...] = ()
    moved_ns = np.zeros(len(MOVES))
    predicted = np.zeros(len(steps))
    eager_ns, floor_ns = np.zeros(len(EAGER)), 0.0
    if eager.any():
        units = np.array([_eager_units(batch_of(step)) for step in steps])[eager]
        found = _least(np.hstack([units, moves[eager]]), times_ns[eager])
        eager_ns, moved_ns = found[: len(EAGER)], found[len(EAGER) :]
        rest = times_ns[eager] - moves[eager] @ moved_ns
        eager_ns, floor_ns = _with_floor(units, np.maximum(rest, 1.0), eager_ns)
        predicted[eager] = np.maximum(units @ eager_ns, floor_ns) + moves[eager] @ moved_ns
    if graphs.any():
        units = np.array([_graph_units(batch_of(step), step.bucket) for step in steps])[graphs]
        rest = times_ns[graphs] - moves[graphs] @ moved_ns
        found = _least(units, np.maximum(rest, 1.0))
        graph_ns = tuple(found.tolist())
        predicted[graphs] = units @ found + moves[graphs] @ moved_ns
    low, high = np.quantile(times_ns / predicted, _BAND_QUANTILES)
    shape = LlamaShape(**logs[0].header.model)
    cost = FittedCost(
        eager_ns=tuple(eager_ns.tolist()),
        graph_ns=graph_ns,
        floor_ns=floor_ns,
        num_steps=len(steps),
        band=Band(
            low=min(float(low), 1.0), high=max(float(high), 1.0), source="residuals of the fit"
        ),
    )
    block_bytes = shape.kv_bytes_per_token * int(logs[0].header.flags["block_size"])
    return cost, FittedMoves(terms_ns=tuple(moved_ns.tolist()), block_bytes=block_bytes)


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
    return batch._replace(
        num_decodes=batch.num_decodes + len(ones),
        decode_context_tokens=batch.decode_context_tokens + sum(ones),
        chunks=tuple(chunk for chunk in batch.chunks if chunk[0] > 1),
    )


def _eager_units(batch: Batch) -> tuple[float, ...]:
    return (
        1.0,
        batch.num_decodes,
        batch.decode_context_tokens,
        len(batch.chunks),
        sum(new for new, _ in batch.chunks),
        sum(new * (past + (new + 1) / 2) for new, past in batch.chunks),
    )


def _graph_units(batch: Batch, bucket: int) -> tuple[float, ...]:
    return 1.0, bucket, batch.decode_context_tokens


def _move_units(step: StepRecord) -> tuple[float, ...]:
    counts = (step.swapped_out_blocks, step.swapped_in_blocks, step.copied_blocks)
    return tuple(value for count in counts for value in (float(count > 0), float(count)))


def _least(units: Floats, times_ns: Floats) -> Floats:
    """Terms >= 0 with the least squared relative errors."""
    scale = units.max(axis=0)
    scale[scale == 0] = 1.0
    found, _ = nnls(units / scale / times_ns[:, None], np.ones(len(times_ns)))
    terms: Floats = found / scale
    return terms


def _with_floor(units: Floats, times_ns: Floats, terms: Floats) -> tuple[Floats, float]:
    """A floor where it explains more than the terms alone, with the terms of what lies above."""
    best, floor_ns = _WORTH * _error(units @ terms, times_ns), 0.0
    for candidate in np.quantile(times_ns, _FLOORS):
        above = times_ns > candidate
        if above.sum() < LEAST_STEPS:
            break
        tried = _least(units[above], times_ns[above])
        error = _error(np.maximum(units @ tried, candidate), times_ns)
        if error < best:
            best, floor_ns, terms = error, float(candidate), tried
    return terms, floor_ns


def _error(predicted: Floats, times_ns: Floats) -> float:
    return float(np.square(predicted / times_ns - 1).sum())
