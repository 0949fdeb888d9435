"""What an attention launch has to do, counted from its shape: the arguments of the forms.

Programs are started in order, each where a slot is free first. The **busiest** slot's work is the
least that the launch can take, however fast the memory is:

    busiest = max over slots of the sum of its programs' work             (list scheduling)

Programs that are nearly alike run in waves: every slot takes one program of each wave, the freest
slot the next one. That is the same schedule for the tiles of one chunk, from the longest on, and
for an even batch but a few of very short contexts, and it needs no look at each program.

    token_bytes   2 * kv_heads * head_dim * value bytes;  latent: head_dim * value bytes
    head_groups   kv_heads * ceil(heads / kv_heads / 64): programs of each item; latent: 32 for 64
    partials      items of split sequences * heads * head_dim * 4 * 2: written, then read
    rounds        ceil(most items of a sequence / MERGED_AT_ONCE), 0 where none is split
    keys          of a tile of queries: what its last query sees, in whole tiles of keys
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from typing import Any, NamedTuple

import numpy as np

from ...kernels.launch import MAX_DECODE_ROWS, MAX_LATENT_ROWS
from ...kernels.split import MERGED_AT_ONCE, first_key, split
from .values import AttentionKey, DecodeFit

DTYPE_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "fp8_e4m3": 1, "fp8_e5m2": 1, "int8": 1}
PARTIAL_BYTES = 4
MAX_ROWS = {"latent": MAX_LATENT_ROWS}
"""Query heads of a program, at most, by kind; else MAX_DECODE_ROWS."""

Number = Any
"""A float, or an array of one value for each point of a fit."""


class Cut(NamedTuple):
    """How a decode kernel cuts its batches: constants of one kernel on one card."""

    slots: int
    tile_tokens: int
    min_chunk_tokens: int
    target_items: int


class DecodeLoad(NamedTuple):
    """One launch over a batch of decodes, and its merge."""

    bytes: Number
    busiest_bytes: Number
    programs: Number
    rounds: Number


class PrefillLoad(NamedTuple):
    """One launch over chunks."""

    flops: Number
    busiest_flops: Number
    bytes: Number
    waves: Number
    """Programs of a slot, one after another."""


def dtype_bytes(dtype: str) -> int:
    """Of one value.

    Raises:
        ValueError: a dtype that the kernels do not know.
    """
    if dtype not in DTYPE_BYTES:
        raise ValueError(f"dtype(={dtype!r}) is unknown; known: {', '.join(DTYPE_BYTES)}.")
    return DTYPE_BYTES[dtype]


def token_bytes(key: AttentionKey) -> int:
    """KV of one token in one layer."""
    values = key.head_dim if key.kind == "latent" else 2 * key.kv_heads * key.head_dim
    return values * dtype_bytes(key.kv_dtype)


def head_groups(key: AttentionKey) -> int:
    """Programs of each work item."""
    return key.kv_heads * -(-key.heads // (key.kv_heads * MAX_ROWS.get(key.kind, MAX_DECODE_ROWS)))


def cut_of(fit: DecodeFit) -> Cut:
    """The constants of a fitted kernel."""
    return Cut(fit.slots, fit.tile_tokens, fit.min_chunk_tokens, fit.target_items)


def busiest(programs: Iterable[tuple[int, int]], slots: int) -> int:
    """Work of the busiest slot, from ``(work, how many)`` in the order in which they start."""
    free = [(0, slots)]
    last = 0
    for work, count in programs:
        left = count
        while left:
            when, idle = heappop(free)
            taken = min(left, idle)
            if idle > taken:
                heappush(free, (when, idle - taken))
            heappush(free, (when + work, taken))
            last, left = max(last, when + work), left - taken
    return last


def busiest_in_waves(work: np.ndarray, slots: int) -> int:
    """The same where every slot takes one program a wave; ``work`` in the order of starting."""
    load = np.zeros(slots, dtype=work.dtype)
    for first in range(0, len(work), slots):
        wave = work[first : first + slots]
        load.sort()
        load[: len(wave)] += wave
    return int(load.max())


def decode_load(
    key: AttentionKey, cut: Cut, seq_lens: Sequence[int], sliding_window: int = 0
) -> DecodeLoad:
    """Of any batch; ``seq_lens`` are the keys of each sequence."""
    if seq_lens and min(seq_lens) == max(seq_lens):
        return even_load(key, cut, len(seq_lens), seq_lens[0], sliding_window)
    done = split(
        seq_lens,
        target=cut.target_items,
        tile_tokens=cut.tile_tokens,
        min_chunk_tokens=cut.min_chunk_tokens,
        sliding_window=sliding_window,
    )
    seen = [n - first_key(n, sliding_window, cut.tile_tokens) for n in seq_lens]
    groups = head_groups(key)
    programs = []
    for tokens, items, tiles in zip(seen, done.items, done.tiles_per_item, strict=True):
        if items:
            whole = tiles * cut.tile_tokens
            programs += [(whole, (items - 1) * groups), (tokens - (items - 1) * whole, groups)]
    return _load(
        key,
        tokens=sum(seen),
        busiest_tokens=busiest(programs, cut.slots),
        items=done.num_items,
        split_items=sum(n for n in done.items if n > 1),
        most_items=max(done.items, default=0),
    )


def even_load(
    key: AttentionKey, cut: Cut, batch: int, context: int, sliding_window: int = 0
) -> DecodeLoad:
    """Of ``batch`` sequences of ``context`` keys each."""
    tile = cut.tile_tokens
    seen = context - first_key(context, sliding_window, tile)
    tiles = -(-seen // tile)
    if not batch or not tiles:
        return DecodeLoad(0, 0, 0, 0)
    chunk = max(-(-batch * tiles // cut.target_items), -(-cut.min_chunk_tokens // tile), 1)
    per_item = -(-tiles // -(-tiles // chunk))
    each = -(-tiles // per_item)
    whole, groups = per_item * tile, head_groups(key)
    last = seen - (each - 1) * whole
    return _load(
        key,
        tokens=batch * seen,
        busiest_tokens=_busiest_even(batch, (each - 1) * groups, whole, groups, last, cut.slots),
        items=batch * each,
        split_items=batch * each if each > 1 else 0,
        most_items=each,
    )


def _busiest_even(
    batch: int, num_whole: int, whole: int, num_last: int, last: int, slots: int
) -> int:
    """Each sequence starts so many programs of ``whole`` tokens, then so many of ``last``."""
    waves = -(-batch * (num_whole + num_last) // slots)
    if not num_whole or last == whole:
        return waves * last
    if waves == 1:
        return whole
    one = np.full(num_whole + num_last, whole)
    one[num_whole:] = last
    return busiest_in_waves(np.tile(one, batch), slots)


def _load(
    key: AttentionKey,
    *,
    tokens: int,
    busiest_tokens: int,
    items: int,
    split_items: int,
    most_items: int,
) -> DecodeLoad:
    each = token_bytes(key)
    partials = split_items * key.heads * key.head_dim * PARTIAL_BYTES * 2
    return DecodeLoad(
        bytes=tokens * each + partials,
        busiest_bytes=busiest_tokens * each / key.kv_heads,
        programs=items * head_groups(key),
        rounds=-(-most_items // MERGED_AT_ONCE) if split_items else 0,
    )


def prefill_load(
    key: AttentionKey,
    chunks: Sequence[tuple[int, int]],
    *,
    query_tokens: int,
    tile_tokens: int,
    slots: int,
    sliding_window: int = 0,
) -> PrefillLoad:
    """Of chunks ``(new tokens, cached tokens)``; one program is a tile of queries and a KV head."""
    tiles = [_keys(new, past, query_tokens, tile_tokens, sliding_window) for new, past in chunks]
    keys = np.concatenate(tiles) if tiles else np.zeros(0, dtype=int)
    seen = sum(
        new + (min(past, sliding_window) if sliding_window else past) for new, past in chunks
    )
    new = sum(new for new, _ in chunks)
    tile_flops = 4 * key.heads * key.head_dim * query_tokens
    return PrefillLoad(
        flops=tile_flops * int(keys.sum()),
        busiest_flops=tile_flops / key.kv_heads * _busiest_keys(tiles, key.kv_heads, slots),
        bytes=seen * token_bytes(key) + 2 * new * key.heads * key.head_dim * dtype_bytes(key.dtype),
        waves=-(-len(keys) * key.kv_heads // slots),
    )


def _busiest_keys(tiles: Sequence[np.ndarray], programs: int, slots: int) -> int:
    """Keys of the busiest slot; each tile of queries is so many programs, the last ones first."""
    if len(tiles) == 1:
        return busiest_in_waves(np.repeat(tiles[0][::-1], programs), slots)
    backwards = [keys for tile in reversed(tiles) for keys in tile[::-1].tolist()]
    return busiest(((keys, programs) for keys in backwards), slots)


def _keys(
    new: int, past: int, query_tokens: int, tile_tokens: int, sliding_window: int
) -> np.ndarray:
    """Keys that each tile of queries walks over, in whole tiles of keys."""
    first = past + np.arange(0, new, query_tokens)
    last = np.minimum(first + query_tokens, past + new)
    found: np.ndarray = -(-last // tile_tokens) * tile_tokens
    if sliding_window:
        found -= np.maximum(first + 1 - sliding_window, 0) // tile_tokens * tile_tokens
    return found
