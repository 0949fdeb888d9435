"""Which points tell of the card rather than of attention: ceilings, products, small kernels, links.

Counts are those of a model of one kind of layer: matrix products by token count and shard, the
kernels between them at twelve token counts, graphs against launches, the host's own work, PCIe in
one piece and block by block, block copies, memory, and the all-reduce of several GPUs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from math import log2
from random import Random
from typing import Any

from ..model_spec import ModelSpec
from ..profile.loads import DTYPE_BYTES
from .attention_points import BLOCK_SIZE, ROTATED_BYTES
from .model_shapes import AttentionShape, attention_shapes, dtype_of, linears
from .point import FIXED_S, Point, expected_s

GIB = 1 << 30
COPY_BYTES = (GIB, 4 * GIB)
READ_BYTES = (GIB, 4 * GIB)
MATMUL_SIZE = 8192
SUSTAINED_S = 10.0
GEMM_M = (1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256, 320, 384, 448,
          *range(512, 2049, 128), 2560, 3072, 4096, 6144, 8192)  # fmt: skip
"""Products take a step every 128 rows, which no interpolation tells from afar."""
NUM_HELD_OUT_M = 4
MAX_LOGIT_ROWS = 1024
TOKENS = (1, 4, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 768, 1024)
EMPTY_NODES = (32, 128, 512, 2048)
LAYER_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
LAYER_CONTEXT_TOKENS = 1024
CAPTURED_BATCHES = (1, 64, 256)
REQUESTS = (1, 16, 64, 256)
LINK_BYTES = (1 << 12, 1 << 16, 1 << 20, 1 << 24, 1 << 28)
SEGMENTS = (1, 8, 64, 512, 4096)
PAIRS = (1, 4, 16, 64, 256, 1024)
COPIED_BLOCK_SIZES = (16, 64, 256)
MEMORY = ("total", "free_after_context", "context", "after_matmul", "graphs", "largest_allocation")
REDUCED_BYTES = (1 << 13, 1 << 16, 1 << 19, 1 << 22, 1 << 24, 1 << 26)


def ceiling_points(model: ModelSpec, seed: int) -> Iterator[Point]:
    """What the card can do at best: a copy, a read, a large product, and one for ten seconds."""
    dtype = dtype_of(model)
    for moved in COPY_BYTES:
        yield _ceiling("copy", dtype, moved_bytes=2 * moved, memory_bytes=2 * moved)
    for moved in READ_BYTES:
        yield _ceiling("read", dtype, moved_bytes=moved, memory_bytes=moved)
    size = 3 * MATMUL_SIZE**2 * DTYPE_BYTES[dtype]
    flops = 2 * MATMUL_SIZE**3
    yield _ceiling("matmul", dtype, flops=flops, memory_bytes=size)
    sustained = _ceiling("matmul_sustained", dtype, flops=flops, memory_bytes=size)
    x = {**sustained.x, "seconds": SUSTAINED_S}
    yield replace(sustained, x=x, seconds=sustained.seconds + SUSTAINED_S)


def gemm_points(model: ModelSpec, seed: int) -> Iterator[Point]:
    """Every linear layer of every shard, by token count."""
    dtype = dtype_of(model)
    size = DTYPE_BYTES[dtype]
    for linear in linears(model):
        n, k = linear.n, linear.k
        most = MAX_LOGIT_ROWS if linear.layer == "lm_head" else max(GEMM_M)
        draw = Random(f"{seed}/gemm/{n}/{k}")
        asked = [(m, "fit") for m in GEMM_M if m <= most]
        asked += [(_between(most, draw), "heldout") for _ in range(NUM_HELD_OUT_M)]
        for m, role in asked:
            x = {
                "layer": linear.layer,
                "tensor_parallel_size": linear.tensor_parallel_size,
                "m": m,
                "n": n,
                "k": k,
                "dtype": dtype,
            }
            moved = (m * k + n * k + m * n) * size
            seconds = expected_s(moved_bytes=moved, flops=2 * m * n * k)
            memory_bytes = moved + ROTATED_BYTES
            yield Point(family="gemm", x=x, role=role, seconds=seconds, memory_bytes=memory_bytes)


def _between(most: int, draw: Random) -> int:
    """A token count that the tables do not have, as likely of every size."""
    while True:
        m = round(2 ** draw.uniform(0, log2(most)))
        if m not in GEMM_M:
            return m


def elementwise_points(model: ModelSpec, seed: int) -> Iterator[Point]:
    """The kernels between the products; ``width`` is one row's elements."""
    dtype, hidden = dtype_of(model), model.hidden_size
    size = DTYPE_BYTES[dtype]
    moved: dict[str, tuple[int, int]] = {
        "rms_norm": (hidden, 2 * hidden * size),
        "residual": (hidden, 3 * hidden * size),
        "embed": (hidden, 2 * hidden * size),
        "argmax": (model.vocab_size, model.vocab_size * size),
        "sample": (model.vocab_size, model.vocab_size * 4),
    }
    if model.intermediate_size:
        moved["silu_mul"] = (model.intermediate_size, 3 * model.intermediate_size * size)
    shape = _paged_shape(model)
    if shape is not None:
        values = (shape.heads + 2 * shape.kv_heads) * shape.head_dim
        moved["rope_write"] = (values, 2 * values * size)
    for op, (width, row_bytes) in moved.items():
        more: dict[str, Any] = {"rows": model.vocab_size} if op == "embed" else {}
        if shape is not None and op == "rope_write":
            more = shape.keys() | {"block_size": BLOCK_SIZE}
        for tokens in ROWS if op in ("argmax", "sample") else TOKENS:
            total = tokens * row_bytes
            x = {"op": op, "tokens": tokens, "bytes": total, "dtype": dtype, "width": width, **more}
            table = model.vocab_size * hidden * size if op == "embed" else 0
            yield Point(
                family="elementwise",
                x=x,
                seconds=expected_s(moved_bytes=3 * total),
                memory_bytes=8 * total + table + ROTATED_BYTES,
            )


def graph_points(model: ModelSpec, seed: int) -> Iterator[Point]:
    """Empty kernels and the model's decode layers, captured and launched one by one."""
    for nodes, mode in product(EMPTY_NODES, ("graph", "eager")):
        x = {"what": "empty_nodes", "mode": mode, "nodes": nodes, "batch": 0}
        yield Point(family="graph", x=x, seconds=expected_s(flops=0) + 40 * nodes * 5e-6)
    shape = _paged_shape(model)
    if shape is None or not model.intermediate_size:
        return
    layers = {
        **shape.keys(),
        "block_size": BLOCK_SIZE,
        "context_tokens": LAYER_CONTEXT_TOKENS,
        "layers": model.num_layers,
        "hidden_size": model.hidden_size,
        "intermediate_size": model.intermediate_size,
        "dtype": dtype_of(model),
    }
    asked = [
        ("decode_layers", mode, batch) for mode in ("graph", "eager") for batch in LAYER_BATCHES
    ]
    asked += [("capture", "graph", batch) for batch in CAPTURED_BATCHES]
    for what, mode, batch in asked:
        yield Point(
            family="graph",
            x={"what": what, "mode": mode, "batch": batch, **layers},
            seconds=FIXED_S + 40 * model.num_layers * 5e-4,
            memory_bytes=_layer_bytes(model, shape, batch),
        )


def host_points(model: ModelSpec, seed: int) -> Iterator[Point]:
    """What the host does for each step."""
    for what, requests in product(("prepare", "upload", "download"), REQUESTS):
        yield Point(family="host", x={"what": what, "requests": requests}, seconds=2 * FIXED_S)


def pcie_points(model: ModelSpec, seed: int) -> Iterator[Point]:
    """The link in one piece, and a swap of blocks: one copy each, or gathered into one copy."""
    for moved, direction in product(LINK_BYTES, ("h2d", "d2h", "both")):
        yield _link(direction, "pinned", "copy", moved, 1)
        if direction != "both":
            yield _link(direction, "pageable", "copy", moved, 1)
    shape = attention_shapes(model)[0]
    block_bytes = BLOCK_SIZE * shape.values_per_token * DTYPE_BYTES[dtype_of(model)]
    for segments, direction, how in product(SEGMENTS, ("h2d", "d2h"), ("blockwise", "gathered")):
        yield _link(direction, "pinned", how, segments * block_bytes, segments)


def block_copy_points(model: ModelSpec, seed: int) -> Iterator[Point]:
    """Copy-on-write of a layer's keys, by pairs and block size."""
    shape = attention_shapes(model)[0]
    slot_bytes = shape.values_per_token // 2 * DTYPE_BYTES[dtype_of(model)]
    for pairs, block_size in product(PAIRS, COPIED_BLOCK_SIZES):
        block_bytes = block_size * slot_bytes
        moved = 2 * pairs * block_bytes
        yield Point(
            family="block_copy",
            x={"pairs": pairs, "block_bytes": block_bytes, "bytes": moved},
            seconds=expected_s(moved_bytes=moved),
            memory_bytes=max(moved, ROTATED_BYTES),
        )


def memory_points(model: ModelSpec, seed: int) -> Iterator[Point]:
    """Of the card, as far as a process sees it; measured first, in this order."""
    for what in MEMORY:
        yield Point(family="memory", x={"what": what}, seconds=0.5)


def all_reduce_points(model: ModelSpec, seed: int, *, gpus: int) -> Iterator[Point]:
    """The sum of a tensor over all GPUs; none where there is one."""
    if gpus < 2:
        return
    for moved, mode in product(REDUCED_BYTES, ("graph", "eager")):
        x = {"bytes": moved, "gpus": gpus, "mode": mode}
        yield Point(family="all_reduce", x=x, seconds=0.5, memory_bytes=moved)


def _ceiling(
    what: str,
    dtype: str,
    *,
    memory_bytes: int,
    moved_bytes: int = 0,
    flops: int = 0,
) -> Point:
    return Point(
        family="ceilings",
        x={"what": what, "dtype": dtype, "bytes": moved_bytes, "flops": flops},
        seconds=expected_s(moved_bytes=moved_bytes, flops=flops),
        memory_bytes=memory_bytes,
    )


def _link(direction: str, memory: str, how: str, moved: int, segments: int) -> Point:
    x: dict[str, Any] = {"direction": direction, "memory": memory, "how": how, "bytes": moved}
    call_s = moved / 2e10 + segments * (1e-5 if how == "blockwise" else 0)
    return Point(
        family="pcie",
        x=x | {"segments": segments},
        seconds=3 * FIXED_S + 24 * call_s,
        memory_bytes=4 * moved,
    )


def _paged_shape(model: ModelSpec) -> AttentionShape | None:
    return next((shape for shape in attention_shapes(model) if shape.kind == "paged"), None)


def _layer_bytes(model: ModelSpec, shape: AttentionShape, batch: int) -> int:
    """One layer's weights, used by all, and the KV of ``batch`` sequences."""
    size, hidden = DTYPE_BYTES[dtype_of(model)], model.hidden_size
    queries = shape.heads * shape.head_dim
    weights = hidden * (2 * queries + shape.values_per_token + 3 * model.intermediate_size)
    cached = batch * LAYER_CONTEXT_TOKENS * shape.values_per_token
    return (weights + cached) * size + 2 * ROTATED_BYTES
