"""The samples that a calibration of the invented GPU would bring home, with noise from a seed.

Every repetition carries 1.5 % of lognormal noise, every point 0.5 % that its repetitions share.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from kvsim.calibration.profile.values import Sample
from kvsim.kernels.split import MIN_CHUNK_TOKENS, target_items
from support.synthetic_card import HEAD_DIM, QUERY_TOKENS, TILE_TOKENS, Card

REPETITION_NOISE = 0.015
POINT_NOISE = 0.005
REPETITIONS = 20
BLOCK_SIZE = 16
HEADS = (32, 8)
"""Query and KV heads of Llama-3.1-8B."""
SHARD = (8, 2)
MAX_TOKENS = 1 << 20
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CONTEXTS = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
RAGGED = ("lognormal", "bimodal", "one_long")
NEW_TOKENS = (16, 64, 256, 512, 1024, 2048, 4096, 8192)
PAST_TOKENS = (0, 1024, 4096, 16384, 32768)
LAYERS = {"qkv": (6144, 4096), "o": (4096, 4096), "gate_up": (28672, 4096), "down": (4096, 14336)}
GEMM_M = (1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256, *range(384, 2049, 128))
"""Every output tile of 128 rows: between them, nothing tells where the next wave begins."""


def card_samples(card: Card, *, seed: int = 0) -> tuple[Sample, ...]:
    """Everything that a calibration measures, with noise; the same for the same seed."""
    shapes = [
        *_decode_points(card, seed),
        *_prefill_points(card, seed),
        *_mixed_points(card, seed),
        *_gemm_points(card, seed),
        *_small_points(),
        *_ceiling_points(card),
    ]
    return tuple(_measured(sample, seed, i) for i, sample in enumerate(shapes))


def _measured(sample: Sample, seed: int, number: int) -> Sample:
    """Noisy repetitions of a point, given its noiseless time."""
    if sample.unit != "s":
        return sample
    draw = np.random.default_rng([seed, number])
    noise = draw.normal(0, POINT_NOISE) + draw.normal(0, REPETITION_NOISE, REPETITIONS)
    return replace(sample, t=tuple((sample.t[0] * np.exp(noise)).tolist()))


def attention_x(heads: tuple[int, int], kv_dtype: str = "bf16") -> dict[str, Any]:
    """What every attention sample says of its kernel."""
    return {
        "kind": "paged",
        "dtype": "bf16",
        "kv_dtype": kv_dtype,
        "heads": heads[0],
        "kv_heads": heads[1],
        "head_dim": HEAD_DIM,
        "block_size": BLOCK_SIZE,
    }


def decode_x(
    card: Card, heads: tuple[int, int], seq_lens: Sequence[int], *, kv_dtype: str = "bf16"
) -> dict[str, Any]:
    """A batch of decodes as a sample names it."""
    return {
        **attention_x(heads, kv_dtype),
        "seq_lens": [[length, 1] for length in seq_lens],
        "shape": "uniform" if len(set(seq_lens)) == 1 else "ragged",
        "slots": card.decode_slots,
        "tile_tokens": TILE_TOKENS,
        "min_chunk_tokens": MIN_CHUNK_TOKENS,
        "target_items": target_items(card.decode_slots, heads[1]),
        "sliding_window": 0,
    }


def ragged_lengths(draw: np.random.Generator, kind: str) -> list[int]:
    """An uneven batch."""
    batch = int(draw.choice((2, 4, 8, 16, 32, 64, 128, 256)))
    mean = float(np.exp(draw.uniform(np.log(200), np.log(min(16384, MAX_TOKENS / batch)))))
    if kind == "lognormal":
        lengths = draw.lognormal(np.log(mean) - 0.5, 1, batch)
    elif kind == "bimodal":
        lengths = np.where(draw.random(batch) < 0.2, 3.5 * mean, 0.4 * mean)
    else:
        lengths = np.full(batch, 0.3 * mean)
        lengths[draw.integers(batch)] = mean * min(batch, 20)
    return [int(min(max(length, 1), 1 << 17)) for length in lengths]


def _decode_points(card: Card, seed: int) -> Iterator[Sample]:
    grid = [pair for pair in product(BATCHES, CONTEXTS) if pair[0] * pair[1] <= MAX_TOKENS]
    thinned = grid[::3]
    for heads, pairs in ((HEADS, grid), (SHARD, thinned)):
        for batch, context in pairs:
            yield _decoded(card, "decode", heads, [context] * batch)
    for i in range(80):
        draw = np.random.default_rng([seed, 1, i])
        role = "heldout" if i % 2 else "fit"
        yield _decoded(card, "ragged", HEADS, ragged_lengths(draw, RAGGED[i // 2 % 3]), role)
    for batch, context in grid[::7]:
        yield _decoded(card, "kv_dtypes", HEADS, [context] * batch, kv_dtype="fp8_e4m3")


def _decoded(
    card: Card,
    family: str,
    heads: tuple[int, int],
    seq_lens: Sequence[int],
    role: str = "fit",
    kv_dtype: str = "bf16",
) -> Sample:
    x = decode_x(card, heads, seq_lens, kv_dtype=kv_dtype)
    t = card.decode_s(heads, seq_lens, kv_bytes=2 if kv_dtype == "bf16" else 1)
    return Sample(family=family, x=x, t=(t,), role=role)


def _prefill_points(card: Card, seed: int) -> Iterator[Sample]:
    grid = list(product(NEW_TOKENS, PAST_TOKENS))
    for heads, pairs in ((HEADS, grid), (SHARD, grid[::3])):
        for chunk in pairs:
            yield _prefilled(card, heads, [chunk])
    for i in range(30):
        draw = np.random.default_rng([seed, 2, i])
        chunks = [_chunk(draw) for _ in range(draw.choice((1, 1, 2, 4)))]
        yield _prefilled(card, HEADS, chunks, "heldout" if i % 3 else "fit")


def _chunk(draw: np.random.Generator) -> tuple[int, int]:
    new = int(2 ** draw.uniform(4, 13))
    return new, int(draw.choice((0, 2 ** draw.uniform(6, 15))))


def _prefilled(
    card: Card, heads: tuple[int, int], chunks: Sequence[tuple[int, int]], role: str = "fit"
) -> Sample:
    x = {**attention_x(heads), "chunks": [list(chunk) for chunk in chunks], **_tiles(card)}
    return Sample(family="prefill", x=x, t=(card.prefill_s(heads, chunks),), role=role)


def _tiles(card: Card) -> dict[str, int]:
    return {"query_tokens": QUERY_TOKENS, "tile_tokens": TILE_TOKENS, "slots": card.num_sms}


def _mixed_points(card: Card, seed: int) -> Iterator[Sample]:
    for i in range(40):
        draw = np.random.default_rng([seed, 3, i])
        lengths, chunks = ragged_lengths(draw, RAGGED[i % 3]), [_chunk(draw)]
        both = card.decode_s(HEADS, lengths), card.prefill_s(HEADS, chunks)
        x = decode_x(card, HEADS, lengths) | {"chunks": [list(chunk) for chunk in chunks]}
        x |= {f"prefill_{name}": value for name, value in _tiles(card).items()}
        t = sum(both) - card.overlap * min(both)
        yield Sample(family="mixed", x=x, t=(t,), role="heldout" if i % 2 else "fit")


def _gemm_points(card: Card, seed: int) -> Iterator[Sample]:
    draw = np.random.default_rng([seed, 4])
    for (layer, (n, k)), size in product(LAYERS.items(), (1, 2, 4)):
        shard = (n // size, k) if layer in ("qkv", "gate_up") else (n, k // size)
        others = sorted({int(m) for m in 2 ** draw.uniform(0, 11, 24)} - set(GEMM_M))
        for role, rows in (("fit", GEMM_M), ("heldout", others)):
            for m in rows:
                x = {"layer": layer, "tensor_parallel_size": size, "m": m, "dtype": "bf16"}
                x |= {"n": shard[0], "k": shard[1]}
                yield Sample(family="gemm", x=x, t=(card.matmul_s(m, *shard),), role=role)


def _small_points() -> Iterator[Sample]:
    """Straight lines, all of one card: launch, then bytes at a rate."""
    for op, (row_bytes, rate) in {"rms_norm": (16384, 3e12), "sample": (513024, 2e12)}.items():
        for tokens in (1, 4, 16, 64, 256, 1024, 4096):
            x = {"op": op, "tokens": tokens, "bytes": tokens * row_bytes, "dtype": "bf16"}
            yield Sample(family="elementwise", x=x, t=(2.5e-6 + x["bytes"] / rate,))
    for moved in (1 << 12, 1 << 16, 1 << 20, 1 << 24, 1 << 28):
        x = _link("copy", moved, 1)
        yield Sample(family="pcie", x=x, t=(9e-6 + moved / 5.2e10,))
    for segments, how in product((1, 8, 64, 512, 4096), ("blockwise", "gathered")):
        x = _link(how, segments << 16, segments)
        each = 1.5e-6 if how == "blockwise" else 2e-8
        yield Sample(family="pcie", x=x, t=(1.2e-5 + segments * each + x["bytes"] / 5.2e10,))
    for pairs, block_bytes in product((1, 16, 256), (1 << 15, 1 << 17)):
        moved = 2 * pairs * block_bytes
        x = {"pairs": pairs, "block_bytes": block_bytes, "bytes": moved}
        yield Sample(family="block_copy", x=x, t=(3e-6 + pairs * 1e-8 + moved / 3e12,))
    for what, requests in product(("prepare", "upload", "download"), (1, 16, 64, 256)):
        x = {"what": what, "requests": requests}
        yield Sample(family="host", x=x, t=(2e-4 + 3e-6 * requests,))
    for nodes, mode in product((32, 128, 512, 2048), ("graph", "eager")):
        x = {"what": "empty_nodes", "mode": mode, "nodes": nodes, "batch": 0}
        yield Sample(family="graph", x=x, t=(8e-6 + nodes * (1e-6 if mode == "graph" else 4e-6),))
    for what, value in {"total": 140 << 30, "context": 500 << 20}.items():
        yield Sample(family="memory", x={"what": what}, t=(float(value),), unit="bytes")


def _link(how: str, moved: int, segments: int) -> dict[str, Any]:
    names = {"direction": "h2d", "memory": "pinned", "how": how}
    return {**names, "bytes": moved, "segments": segments}


def _ceiling_points(card: Card) -> Iterator[Sample]:
    work: Mapping[str, tuple[int, int, float]] = {
        "copy": (2 << 30, 0, card.copy_bytes_per_s),
        "read": (1 << 30, 0, card.read_bytes_per_s),
        "matmul": (0, 2 * 8192**3, card.matmul_flops_per_s),
    }
    for what, (moved, flops, rate) in work.items():
        x = {"what": what, "dtype": "bf16", "bytes": moved, "flops": flops}
        yield Sample(family="ceilings", x=x, t=((moved or flops) / rate,))
