"""Every family's operands run on a CPU, with tiny shapes, under Triton's interpreter.

Nothing is timed: what is shown is that a first run on a GPU does not fail in Python, that operands
rotate, and that kernels get what their point says.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kvsim.calibration.measure.bench import Bench
from kvsim.calibration.measure.card import Work
from kvsim.calibration.measure.families import PREPARE
from kvsim.calibration.profile.values import FAMILIES

HEADS = {"heads": 4, "kv_heads": 2, "head_dim": 16}
KERNEL = {"kind": "paged", "dtype": "fp32", "kv_dtype": "fp32", **HEADS, "block_size": 4}
DECODE = {**KERNEL, "seq_lens": [[9, 2], [3, 1]], "shape": "uniform", "sliding_window": 0}
PREFILL = {**KERNEL, "chunks": [[5, 3], [2, 0]]}
LAYERS = {
    **HEADS,
    "block_size": 4,
    "context_tokens": 6,
    "layers": 2,
    "hidden_size": 32,
    "intermediate_size": 48,
    "dtype": "fp32",
    "batch": 2,
}
EVEN = {**DECODE, "seq_lens": [[8, 2]], "case": "tiny"}
POINTS: dict[str, tuple[str, dict[str, Any]]] = {
    "copy": ("ceilings", {"what": "copy", "dtype": "bf16", "bytes": 4096, "flops": 0}),
    "read": ("ceilings", {"what": "read", "dtype": "bf16", "bytes": 32_768, "flops": 0}),
    "matmul": ("ceilings", {"what": "matmul", "dtype": "fp32", "bytes": 0, "flops": 2 * 8**3}),
    "decode": ("decode", DECODE),
    "decode in a window": ("decode", {**DECODE, "sliding_window": 4}),
    "latent": ("decode", {**DECODE, "kind": "latent", "kv_heads": 1, "head_dim": 576}),
    "ragged bf16": ("ragged", {**DECODE, "dtype": "bf16", "kv_dtype": "bf16"}),
    "fp8": ("kv_dtypes", {**DECODE, "dtype": "bf16", "kv_dtype": "fp8_e4m3"}),
    "int8": ("kv_dtypes", {**DECODE, "dtype": "bf16", "kv_dtype": "int8"}),
    "blocks of one": ("block_sizes", {**DECODE, "block_size": 1}),
    "prefill": ("prefill", PREFILL),
    "mixed": ("mixed", {**DECODE, **PREFILL}),
    "gemm": ("gemm", {"layer": "o", "m": 3, "n": 16, "k": 8, "dtype": "fp32"}),
    "norm": ("elementwise", {"op": "rms_norm", "tokens": 3, "dtype": "fp32", "width": 32}),
    "residual": ("elementwise", {"op": "residual", "tokens": 3, "dtype": "fp32", "width": 32}),
    "activation": ("elementwise", {"op": "silu_mul", "tokens": 3, "dtype": "bf16", "width": 32}),
    "embed": (
        "elementwise",
        {"op": "embed", "tokens": 3, "bytes": 768, "dtype": "fp32", "width": 32, "rows": 7},
    ),
    "argmax": ("elementwise", {"op": "argmax", "tokens": 3, "dtype": "fp32", "width": 100}),
    "sample": ("elementwise", {"op": "sample", "tokens": 3, "dtype": "fp32", "width": 100}),
    "rope and write": (
        "elementwise",
        {"op": "rope_write", "tokens": 3, "dtype": "fp32", **HEADS, "block_size": 4},
    ),
    "empty kernels": ("graph", {"what": "empty_nodes", "mode": "graph", "nodes": 3, "batch": 0}),
    "layers": ("graph", {"what": "decode_layers", "mode": "graph", **LAYERS}),
    "prepare": ("host", {"what": "prepare", "requests": 3}),
    "upload": ("host", {"what": "upload", "requests": 3}),
    "download": ("host", {"what": "download", "requests": 3}),
    "copied blocks": ("block_copy", {"pairs": 3, "block_bytes": 64, "bytes": 384}),
    "both ways": (
        "pcie",
        {"direction": "both", "memory": "pinned", "how": "copy", "bytes": 64, "segments": 1},
    ),
    **{
        f"{direction} {memory}": (
            "pcie",
            {"direction": direction, "memory": memory, "how": "copy", "bytes": 64, "segments": 1},
        )
        for direction in ("h2d", "d2h")
        for memory in ("pinned", "pageable")
    },
    **{
        f"{direction} {how}": (
            "pcie",
            {"direction": direction, "memory": "pinned", "how": how, "bytes": 192, "segments": 3},
        )
        for direction in ("h2d", "d2h")
        for how in ("blockwise", "gathered")
    },
    "ours": ("baselines", {**EVEN, "name": "kvsim"}),
    "contiguous": ("baselines", {**EVEN, "name": "contiguous"}),
    "sdpa": ("baselines", {**EVEN, "name": "sdpa"}),
    "sdpa of a chunk": ("baselines", {**PREFILL, "chunks": [[5, 0]], "name": "sdpa", "case": "t"}),
}
READINGS = ("memory", "all_reduce")
"""Families that return their samples; they have tests of their own."""


@pytest.fixture
def bench() -> Bench:
    """So small a cache that a few sets go past it."""
    return Bench(torch.device("cpu"), l2_bytes=1 << 11)


@pytest.mark.parametrize("name", POINTS)
def test_operands_are_built_and_calls_run(name: str, bench: Bench) -> None:
    family, x = POINTS[name]
    work = PREPARE[family](x, bench)
    for _ in range(2):
        work.call()
    assert dict(work.x).items() >= x.items(), "what was asked for stays"
    assert work.how in ("graph", "eager", "host")


def test_every_family_has_operands_and_a_point_here() -> None:
    assert set(PREPARE) == set(FAMILIES)
    assert {family for family, _ in POINTS.values()} | set(READINGS) == set(FAMILIES)


def launched(name: str, bench: Bench) -> Work:
    family, x = POINTS[name]
    return PREPARE[family](x, bench)


def test_the_launch_joins_the_shape(bench: Bench) -> None:
    assert {"slots", "tile_tokens", "min_chunk_tokens", "target_items"} <= set(
        launched("decode", bench).x
    )
    assert {"slots", "tile_tokens", "query_tokens"} <= set(launched("prefill", bench).x)
    mixed = set(launched("mixed", bench).x)
    assert {"target_items", "prefill_query_tokens", "prefill_tile_tokens", "prefill_slots"} <= mixed
    assert launched("layers", bench).x["nodes"] == 2 * 12


def test_small_points_rotate_and_large_ones_do_not(bench: Bench) -> None:
    # 3 sequences of 3, 3 and 1 blocks of 4 tokens, 256 bytes a token: 7168 bytes, of 8192
    assert launched("decode", bench).num_sets == 2
    assert launched("gemm", bench).num_sets == 16
    assert PREPARE["gemm"]({**POINTS["gemm"][1], "n": 256}, bench).num_sets == 1
