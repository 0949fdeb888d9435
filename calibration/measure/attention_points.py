"""Which attention shapes are measured: decode grids, ragged batches, prefill chunks, mixed steps.

Decode, uniform: every shard's heads x block size x batch x context, at most ``MAX_TOKENS`` in all,
thinned to a quarter by diagonals, so that every value of each axis stays. A roofline fitted to even
batches alone misses uneven ones by a fifth, so many are drawn (``batches``), and some held out.

Each point draws from a stream of its own, named by the seed and its number, so that a family can be
left out without changing another.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from random import Random
from typing import Any

from ..model_spec import ModelSpec
from ..profile.loads import DTYPE_BYTES
from .batches import MAX_TOKENS, RAGGED_SHAPES, Runs, ragged
from .model_shapes import AttentionShape, attention_shapes, dtype_of, windows
from .point import Point, expected_s

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CONTEXTS = (128, 512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536)
BLOCK_SIZES = (16, 64)
OTHER_BLOCK_SIZES = (1, 8, 32, 128, 256)
KV_DTYPES = ("fp8_e4m3", "fp8_e5m2", "int8")
THINNING = 4
BLOCK_SIZE = 16
"""Where only one is measured."""
FEW = ((1, 512), (1, 4096), (1, 32_768), (8, 512), (8, 4096), (8, 32_768), (64, 512), (64, 4096))
MORE = ((64, 16_384), (256, 512), (256, 2048), (256, 4096))
NUM_RAGGED = 100
HELD_OUT_OF_5 = (1, 3)
RAGGED_BATCHES = (4, 8, 16, 32, 64, 128, 256)
MEANS = (512, 1024, 2048, 4096, 8192)
NEW_TOKENS = (16, 64, 256, 1024, 2048, 4096, 8192)
PAST_TOKENS = (0, 1024, 4096, 16_384, 32_768)
FEW_CHUNKS = ((256, 0), (256, 8192), (1024, 0), (2048, 0), (2048, 8192), (2048, 32_768), (8192, 0))
NUM_CHUNK_BATCHES = 32
NUM_MIXED = 40
ROTATED_BYTES = 512 << 20
"""At least so much distinct KV or weights: four times the L2 of any card."""


def decode_points(model: ModelSpec, seed: int) -> Iterator[Point]:
    """Batches of equal contexts; and, beside them, contexts around a sliding window."""
    for s, shape in enumerate(attention_shapes(model)):
        for b, block_size in enumerate(BLOCK_SIZES):
            for i, batch in enumerate(BATCHES):
                for j, context in enumerate(CONTEXTS):
                    if batch * context > MAX_TOKENS or (s + 2 * b + i + j) % THINNING:
                        continue
                    x = decode_x(shape, dtype_of(model), [[context, batch]], block_size=block_size)
                    yield decode_point("decode", x)
    for shape, window in windows(model):
        for batch in (1, 16, 64):
            for context in (window // 2, 2 * window, 8 * window):
                x = decode_x(shape, dtype_of(model), [[context, batch]], sliding_window=window)
                yield decode_point("decode", x)


def ragged_points(model: ModelSpec, seed: int) -> Iterator[Point]:
    """Uneven batches: three of four with the unsharded heads, the others with one shard's."""
    shapes = attention_shapes(model)
    for i in range(NUM_RAGGED):
        draw = Random(f"{seed}/ragged/{i}")
        kind = RAGGED_SHAPES[i % 3]
        seq_lens = ragged(kind, draw.choice(RAGGED_BATCHES), draw.choice(MEANS), draw)
        shape = shapes[0] if i % 4 else shapes[i // 4 % len(shapes)]
        x = decode_x(shape, dtype_of(model), seq_lens, name=kind)
        yield decode_point("ragged", x, "heldout" if i % 5 in HELD_OUT_OF_5 else "fit")


def kv_dtype_points(model: ModelSpec, seed: int) -> Iterator[Point]:
    """Quantised caches, and the model's own dtype beside them on the same even batches.

    Of three ragged batches each two are held out.
    """
    shape = attention_shapes(model)[0]
    for kv_dtype in (dtype_of(model), *KV_DTYPES):
        for batch, context in (*FEW, *MORE):
            x = decode_x(shape, dtype_of(model), [[context, batch]], kv_dtype=kv_dtype)
            yield decode_point("kv_dtypes", x)
        if kv_dtype == dtype_of(model):
            continue
        for i, kind in enumerate(RAGGED_SHAPES):
            lens = ragged(kind, 64, 2048, Random(f"{seed}/kv_dtypes/{kv_dtype}/{i}"))
            x = decode_x(shape, dtype_of(model), lens, kv_dtype=kv_dtype, name=kind)
            yield decode_point("kv_dtypes", x, "heldout" if i else "fit")


def block_size_points(model: ModelSpec, seed: int) -> Iterator[Point]:
    """Other block sizes; a ragged batch of each is held out."""
    shape = attention_shapes(model)[0]
    for block_size in OTHER_BLOCK_SIZES:
        for batch, context in FEW:
            x = decode_x(shape, dtype_of(model), [[context, batch]], block_size=block_size)
            yield decode_point("block_sizes", x)
        for role in ("fit", "heldout"):
            lens = ragged("lognormal", 64, 2048, Random(f"{seed}/block_sizes/{block_size}/{role}"))
            x = decode_x(shape, dtype_of(model), lens, block_size=block_size, name="lognormal")
            yield decode_point("block_sizes", x, role)


def prefill_points(model: ModelSpec, seed: int) -> Iterator[Point]:
    """One chunk after any number of cached tokens; batches of chunks, half of them held out.

    Over quantised caches a few: what differs there is the rate at which keys are made ready.
    """
    shapes = [shape for shape in attention_shapes(model) if shape.kind == "paged"]
    if not shapes:
        return
    for shape in dict.fromkeys((shapes[0], shapes[min(2, len(shapes) - 1)])):
        for new in NEW_TOKENS:
            for past in PAST_TOKENS:
                yield prefill_point(prefill_x(shape, dtype_of(model), [[new, past]]))
    for kv_dtype, chunk in product(KV_DTYPES, FEW_CHUNKS):
        x = prefill_x(shapes[0], dtype_of(model), [[*chunk]], kv_dtype=kv_dtype)
        yield prefill_point(x)
    for i in range(NUM_CHUNK_BATCHES):
        draw = Random(f"{seed}/prefill/{i}")
        chunks = [_chunk(draw) for _ in range(draw.choice((2, 4, 8)))]
        x = prefill_x(shapes[0], dtype_of(model), chunks)
        yield prefill_point(x, "heldout" if i % 2 else "fit")


def mixed_points(model: ModelSpec, seed: int) -> Iterator[Point]:
    """Decodes and one or two chunks in one step; every second one is held out."""
    shape = attention_shapes(model)[0]
    if shape.kind != "paged":
        return
    for i in range(NUM_MIXED):
        draw = Random(f"{seed}/mixed/{i}")
        lens = ragged(draw.choice(RAGGED_SHAPES), draw.choice((8, 32, 64, 128)), 2048, draw)
        chunks = [_chunk(draw) for _ in range(draw.choice((1, 1, 2)))]
        x = decode_x(shape, dtype_of(model), lens) | {"chunks": chunks}
        seconds = decode_point("mixed", x).seconds + prefill_point(x).seconds
        yield Point(
            family="mixed",
            x=x,
            role="heldout" if i % 2 else "fit",
            seconds=seconds,
            memory_bytes=kv_memory_bytes(x),
        )


def decode_x(
    shape: AttentionShape,
    dtype: str,
    seq_lens: Runs,
    *,
    kv_dtype: str | None = None,
    block_size: int = BLOCK_SIZE,
    sliding_window: int = 0,
    name: str = "uniform",
) -> dict[str, Any]:
    """``x`` of a batch of decodes, as far as it is known before the launch."""
    return {
        **shape.keys(),
        "dtype": dtype,
        "kv_dtype": kv_dtype or dtype,
        "block_size": block_size,
        "seq_lens": seq_lens,
        "shape": name,
        "sliding_window": sliding_window,
    }


def prefill_x(
    shape: AttentionShape,
    dtype: str,
    chunks: Runs,
    *,
    block_size: int = BLOCK_SIZE,
    kv_dtype: str | None = None,
) -> dict[str, Any]:
    """``x`` of a batch of chunks, ``[new, past]`` each; KV in the model's dtype by default."""
    return {
        **shape.keys(),
        "dtype": dtype,
        "kv_dtype": kv_dtype or dtype,
        "block_size": block_size,
        "chunks": chunks,
    }


def decode_point(family: str, x: dict[str, Any], role: str = "fit") -> Point:
    """A point whose call reads the KV of its batch once."""
    moved = _tokens(x) * token_bytes(x)
    return Point(
        family=family,
        x=x,
        role=role,
        seconds=expected_s(moved_bytes=moved),
        memory_bytes=kv_memory_bytes(x),
    )


def prefill_point(x: dict[str, Any], role: str = "fit", family: str = "prefill") -> Point:
    """A point whose call computes 4 FLOPs for each head, dimension, query and visible key."""
    pairs = sum(new * (past + new / 2) for new, past in x["chunks"])
    return Point(
        family=family,
        x=x,
        role=role,
        seconds=expected_s(flops=2 * 4 * x["heads"] * x["head_dim"] * pairs),
        memory_bytes=kv_memory_bytes(x),
    )


def token_bytes(x: dict[str, Any]) -> int:
    """KV bytes of one token in one layer."""
    values = x["head_dim"] if x["kind"] == "latent" else 2 * x["kv_heads"] * x["head_dim"]
    return int(values * DTYPE_BYTES[x["kv_dtype"]])


def kv_memory_bytes(x: dict[str, Any]) -> int:
    """Of the pool and the queries; an engine's last blocks are not full."""
    sequences = sum(count for _, count in x.get("seq_lens", ())) + len(x.get("chunks", ()))
    tokens = _tokens(x) + sum(new + past for new, past in x.get("chunks", ()))
    queries = sequences + sum(new for new, _ in x.get("chunks", ()))
    pool = (tokens + sequences * x["block_size"]) * token_bytes(x)
    query_bytes = 2 * queries * x["heads"] * x["head_dim"] * DTYPE_BYTES[x["dtype"]]
    return int(max(pool, ROTATED_BYTES) + query_bytes)


def _tokens(x: dict[str, Any]) -> int:
    return sum(length * count for length, count in x.get("seq_lens", ()))


def _chunk(draw: Random) -> list[int]:
    return [draw.choice((64, 128, 256, 512, 1024)), draw.choice((0, 512, 2048, 8192))]
