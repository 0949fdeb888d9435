"""Attention of prefills and of mixed batches: the tiles that the kernel visits.

A launch is a set of tiles, each ``R`` query rows of one head (of one KV head's group, where the
kernel packs them) against the keys those rows see:

    tile   = a + b * visible keys                                  on one multiprocessor
    work   = sum of the tiles / multiprocessors
    launch = floor + max(longest tile, work + longest tile / 2)    more tiles than multiprocessors

(half a tile is what the last wave of unequal tiles leaves idle on average). A chunk of ``q`` new
tokens after ``p`` cached ones has ``ceil(q / rows)`` tiles a head, the i-th of which sees
``p + min((i + 1) rows, q)`` keys. In a mixed batch of the fa2 family each decode is such a tile
too, of one row, in every query head: it costs what a full one does, which is why decodes are dearer
beside a prefill. Query heads that share keys then read them one after another, from memory again
where the batch's keys of one KV head pass the L2 cache.

``a`` and ``b`` come from the card's table of uniform prefills (many short ones; the longest one);
the difference of table and law at these chunks without cached tokens, read off a grid of
(sequences, tokens), is added. The table has no cached tokens before a chunk: there the law stands
alone.

A tile without work, of a sequence shorter than the longest in the launch, still costs its start.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

import numpy as np

from ..estimate import Estimate
from ..gpus import GPUSpec
from ..operators import Chunks, Mix
from ..step_cost import NS_PER_S
from .grid import Found, LogGrid
from .heads import Heads, differs, measured, nearest
from .monotone import undisturbed
from .systems import SYSTEMS, System
from .tables import source_of

OPERATOR = ("attention", "context_attention")
EMPTY_TILE_NS = 300.0
"""A block that finds nothing to do and exits (assumed: launch and a few loads)."""
SHORT_TOKENS = 16
"""Prompts that fill one tile and see few keys: they give ``a``."""


class PrefillLaw:
    """Attention of one layer in steps that prefill, on one card."""

    def __init__(self, gpu: GPUSpec, heads: Heads) -> None:
        self.heads = heads
        system = SYSTEMS[gpu.name]
        self._sms, self._l2_bytes = system.num_sms, gpu.l2_bytes
        self._flops_per_s = gpu.flops_of("bf16") or 0.0
        entry = nearest(gpu.name, OPERATOR, heads)
        found = measured(gpu.name, OPERATOR, entry, ("batch_size", "isl", "kernel_source"))
        self.derived = differs(heads, entry) or entry.window != heads.window
        self.source = f"{source_of(system.folder, *OPERATOR)}, {found['kernel_source'][0]}"
        self._shape = _Shape(system, heads)
        self._corrections: dict[int, float] = {}
        self._fit(system, entry, found)

    @property
    def tile_ns_per_key(self) -> float:
        """Of one tile, per key: how fast a sequence that is not split can be read."""
        return self._key_ns

    def __call__(self, mix: Mix, cold_decode_ns: float = 0.0) -> Estimate:
        """One launch over chunks and the decodes that it takes in.

        Decodes are counted as tiles: only kernels of the fa2 family do that.
        ``cold_decode_ns`` is what reading their keys once takes.
        """
        found = self._found(mix.chunks)
        flops, moved = self._work(mix.chunks, mix.decodes, mix.context_tokens)
        cached = any(past for _, past in mix.chunks)
        outside = found.outside or self.derived or self._beyond(mix.chunks)
        distance = max(found.distance, 1.0) if cached or mix.decodes else found.distance
        return Estimate(self.ns(mix, cold_decode_ns), moved, flops, distance, outside)

    def ns(self, mix: Mix, cold_decode_ns: float = 0.0) -> float:
        """The time alone, for the same arguments."""
        chunks, decodes, context, uneven = mix
        window, shape = self.heads.window, self._shape
        tiles, keys, longest, most_tiles = 0.0, 0.0, 0.0, 0
        for new, past in chunks:
            own = shape.tiles(new)
            tiles += own
            most_tiles = max(most_tiles, own)
            keys += shape.keys(new, past, window)
            longest = max(longest, shape.longest(new, past, window))
        extra, beside = 0.0, self._correction_ns(chunks)
        if decodes:
            seen = max(uneven, context / decodes)
            if window:
                context, seen = min(context, float(window * decodes)), min(seen, window)
            query = self.heads.query
            tiles, keys = tiles + decodes * query, keys + context * query
            longest = max(longest, seen)
            work = query * (decodes * self._start_ns + context * self._key_ns) / self._sms
            extra = self._reading_ns(decodes, context, work, cold_decode_ns) - work
            beside += decodes * most_tiles * EMPTY_TILE_NS / self._sms
        law = self._law_ns(_Load(tiles, keys, longest), extra)
        return self.floor_ns + max(law + beside, 0.0)

    def _beyond(self, chunks: Chunks) -> bool:
        """Whether a tile sees more keys than any that was measured."""
        return any(past + new > self._longest_measured for new, past in chunks)

    def _found(self, chunks: Chunks) -> Found:
        """The ratio of table to law at these chunks, without cached tokens."""
        return self._ratio(len(chunks), sum(new for new, _ in chunks) / len(chunks))

    def _correction_ns(self, chunks: Chunks) -> float:
        """What the table says beyond the law; remembered for each single chunk."""
        alone = chunks[0][0] if len(chunks) == 1 else 0
        known = self._corrections.get(alone) if alone else None
        if known is None:
            shape, window = self._shape, self.heads.window
            tiles = sum(shape.tiles(new) for new, _ in chunks)
            keys = sum(shape.keys(new, 0, window) for new, _ in chunks)
            longest = max(shape.longest(new, 0, window) for new, _ in chunks)
            law = self._law_ns(_Load(tiles, keys, longest))
            known = law * (self._found(chunks).value - 1.0)
            if alone:
                self._corrections[alone] = known
        return known

    def _fit(self, system: System, entry: Heads, found: dict[str, np.ndarray]) -> None:
        """``a``, ``b``, floor and ratio from the table of one kernel."""
        batch, length = found["batch_size"], found["isl"]
        ns = _undisturbed(batch, length, found["ns"])
        shape, sms = _Shape(system, entry), system.num_sms
        tiles = np.array([shape.tiles(int(q)) for q in length], dtype=float) * batch
        keys = np.array([shape.keys(int(q), 0, entry.window) for q in length]) * batch
        self.floor_ns = float(ns[(batch == 1) & (length <= SHORT_TOKENS)].min())
        above = np.maximum(ns - self.floor_ns, 1.0)
        long, many = np.argmax(keys), np.argmax(np.where(length == SHORT_TOKENS, tiles, 0))
        self._key_ns = float(above[long] * sms / keys[long])
        start = float(above[many] * sms / tiles[many]) - self._key_ns * float(length[many])
        self._start_ns = max(start, 0.0)
        longest = [shape.longest(int(q), 0, entry.window) for q in length]
        loads = zip(tiles.tolist(), keys.tolist(), longest, strict=True)
        law = np.array([self._law_ns(_Load(*load)) for load in loads])
        self._longest_measured = int(length.max())
        wider = self.heads.dim / entry.dim  # of a kernel that was not measured at this dimension
        at_peak = NS_PER_S * 4.0 * self.heads.dim * shape.rows * sms / self._flops_per_s
        self._key_ns = max(self._key_ns * wider, at_peak)
        kept = length >= SHORT_TOKENS
        self._ratio = LogGrid((batch[kept], length[kept]), above[kept] / law[kept])

    def _law_ns(self, load: _Load, more_ns: float = 0.0) -> float:
        """``more_ns`` of work that is no tile's: reading keys."""
        work = (load.tiles * self._start_ns + load.keys * self._key_ns) / self._sms + more_ns
        longest = self._start_ns + self._key_ns * load.longest
        return max(longest, work + (longest / 2 if load.tiles > self._sms else 0.0))

    def _reading_ns(self, decodes: int, context: float, work_ns: float, cold_ns: float) -> float:
        """Decode tiles that also have to read their keys, pass by pass of the query heads.

        The heads that run at the same time read once between them; the first pass of a KV head
        comes from memory, the later ones from the L2 cache as far as its keys of all sequences
        are still there.
        """
        passes = min(self.heads.group, max(1.0, self.heads.group * decodes / self._sms))
        stream = context * self.heads.bytes_per_token / self.heads.kv
        missed = 1.0
        if self._l2_bytes:
            missed = min(1.0, max(0.0, (stream / self._l2_bytes - 0.5) / 0.75))
        from_cache, from_memory = work_ns / passes, max(work_ns / passes, cold_ns)
        later = missed * from_memory + (1.0 - missed) * from_cache
        return from_memory + (passes - 1.0) * later

    def _work(
        self, chunks: Chunks, decodes: int, decode_context_tokens: float
    ) -> tuple[float, float]:
        """``(FLOPs, bytes)`` of what is visible."""
        window = self.heads.window
        context = min(decode_context_tokens, window * decodes) if window else decode_context_tokens
        pairs = keys = context
        for new, past in chunks:
            pairs += _pairs(new, past, window)
            keys += min(past, window) + new if window else past + new
        return 4.0 * pairs * self.heads.query * self.heads.dim, keys * self.heads.bytes_per_token


def _pairs(new: int, past: int, window: int) -> float:
    """Of a query and a key that it sees, itself included."""
    if not window:
        return new * (past + (new + 1) / 2)
    growing = max(0, min(new, window - past))
    return growing * (past + (growing + 1) / 2) + (new - growing) * window


class _Shape:
    """Tiles of a chunk."""

    def __init__(self, system: System, heads: Heads) -> None:
        packed = system.packs_query_heads
        self._heads = heads.kv if packed else heads.query
        self.rows = system.tile_rows
        self._tokens = max(1.0, self.rows / (heads.group if packed else 1.0))

    def tiles(self, new: int) -> int:
        """Of all heads."""
        return ceil(new / self._tokens) * self._heads

    def keys(self, new: int, past: int, window: int) -> float:
        """That the tiles of all heads visit together."""
        tiles = ceil(new / self._tokens)
        keys = past * tiles + (tiles - 1) * tiles / 2 * self._tokens + new
        if window:
            keys = min(keys, tiles * (window + self._tokens))
        return keys * self._heads

    def longest(self, new: int, past: int, window: int) -> float:
        """Keys that one tile visits at most."""
        seen = float(past + new)
        return min(seen, window + self._tokens) if window else seen


class _Load(NamedTuple):
    """The tiles of one launch."""

    tiles: float = 0.0
    keys: float = 0.0
    longest: float = 0.0
    """Keys that one tile visits at most."""


def _undisturbed(batch: np.ndarray, length: np.ndarray, ns: np.ndarray) -> np.ndarray:
    """The same rows, without the times that a larger shape refutes."""
    batches, row = np.unique(batch, return_inverse=True)
    lengths, column = np.unique(length, return_inverse=True)
    grid = np.full((len(batches), len(lengths)), np.nan)
    grid[row, column] = ns
    return np.asarray(undisturbed(grid)[row, column])
