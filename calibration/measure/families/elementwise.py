"""The kernels between the products, each as engines launch it: fused where they fuse.

Rows rotate past the L2 as far as ``MAX_SETS`` sets go. ``sample`` is top-k and top-p sampling by
sorting, the framework's own way, several launches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from ....kernels.kv_write import Rope, write_kv
from ...profile.loads import DTYPE_BYTES
from ..bench import Bench, rotating
from ..card import Work
from .probes import silu_mul

NORM_EPSILON = 1e-5
TOP_K, TOP_P = 50, 0.9
ROPE_POSITIONS = 8192
COPIES = {"silu_mul": 3, "residual": 3, "argmax": 1, "sample": 1}
"""Rows of ``width`` that a set holds, 2 where nothing is said."""


def prepare(x: Mapping[str, Any], bench: Bench) -> Work:
    """The operands of one kernel."""
    if x["op"] == "rope_write":
        return _rope_write(x, bench)
    if x["op"] == "embed":
        return _embed(x, bench)
    tokens, width, op = x["tokens"], x["width"], x["op"]
    copies = COPIES.get(op, 2)
    num_sets = bench.num_sets(copies * tokens * width * DTYPE_BYTES[x["dtype"]])
    sets = bench.pool(num_sets * copies * tokens * width, x["dtype"])
    function = OPS[op](x, bench)
    operands = list(sets.view(num_sets, copies, tokens, width))
    return Work(call=rotating(function, operands), x=x, num_sets=num_sets)


def _rms_norm(x: Mapping[str, Any], bench: Bench) -> Callable[[torch.Tensor], object]:
    weight = bench.normal(x["width"], dtype=x["dtype"])
    return lambda rows: torch.nn.functional.rms_norm(rows[0], (x["width"],), weight, NORM_EPSILON)


def _residual(x: Mapping[str, Any], bench: Bench) -> Callable[[torch.Tensor], object]:
    return lambda rows: torch.add(rows[0], rows[1], out=rows[2])


def _silu_mul(x: Mapping[str, Any], bench: Bench) -> Callable[[torch.Tensor], object]:
    shape = (x["tokens"], 2 * x["width"])
    return lambda rows: silu_mul(rows[:2].view(shape), rows[2])


def _argmax(x: Mapping[str, Any], bench: Bench) -> Callable[[torch.Tensor], object]:
    return lambda rows: torch.argmax(rows[0], dim=-1)


def _sample(x: Mapping[str, Any], bench: Bench) -> Callable[[torch.Tensor], object]:
    return lambda rows: sampled(rows[0])


def sampled(logits: torch.Tensor) -> torch.Tensor:
    """One token of each row, from its top k and top p, without waiting for the device."""
    ordered, tokens = torch.sort(logits.float(), dim=-1, descending=True)
    ordered[:, TOP_K:] = float("-inf")
    probabilities = torch.softmax(ordered, dim=-1)
    before = torch.cumsum(probabilities, dim=-1) - probabilities
    probabilities = probabilities.masked_fill(before > TOP_P, 0.0)
    noise = torch.empty_like(probabilities).exponential_()
    chosen = torch.argmax(probabilities / noise, dim=-1, keepdim=True)
    return tokens.gather(-1, chosen)


OPS: dict[str, Callable[[Mapping[str, Any], Bench], Callable[[torch.Tensor], object]]] = {
    "rms_norm": _rms_norm,
    "residual": _residual,
    "silu_mul": _silu_mul,
    "argmax": _argmax,
    "sample": _sample,
}


def _embed(x: Mapping[str, Any], bench: Bench) -> Work:
    """Random rows of a table that is larger than any L2."""
    rows = x["rows"]
    table = bench.pool(rows * x["width"], x["dtype"]).view(rows, x["width"])
    num_sets = bench.num_sets(x["bytes"])
    ids = list(bench.integers(rows, num_sets * x["tokens"]).view(num_sets, x["tokens"]))
    call = rotating(lambda chosen: torch.nn.functional.embedding(chosen, table), ids)
    return Work(call=call, x=x, num_sets=num_sets)


def _rope_write(x: Mapping[str, Any], bench: Bench) -> Work:
    """Scattered slots of a pool of blocks; one pool, as slots go past the L2 by themselves."""
    tokens, kv_heads, head_dim = x["tokens"], x["kv_heads"], x["head_dim"]
    slot_bytes = 2 * kv_heads * head_dim * DTYPE_BYTES[x["dtype"]]
    num_sets = bench.num_sets(tokens * slot_bytes)
    num_blocks = -(-num_sets * tokens // x["block_size"])
    numel = num_blocks * x["block_size"] * kv_heads * head_dim
    shape = (2, num_blocks, x["block_size"], kv_heads, head_dim)
    caches = bench.pool(2 * numel, x["dtype"]).view(shape)
    slots = bench.permutation(num_sets * tokens).view(num_sets, tokens)
    key, value = (bench.normal(tokens, kv_heads, head_dim, dtype=x["dtype"]) for _ in "kv")
    query, rope = bench.normal(tokens, x["heads"], head_dim, dtype=x["dtype"]), rope_of(x, bench)
    one = torch.ones(kv_heads, device=bench.device)

    def call(mapping: torch.Tensor) -> None:
        write_kv(
            key, value, caches[0], caches[1], mapping,
            rope=rope, query=query, k_scale=one, v_scale=one,
        )  # fmt: skip

    return Work(call=rotating(call, list(slots)), x=x, num_sets=num_sets)


def rope_of(x: Mapping[str, Any], bench: Bench, tokens: int = 0) -> Rope:
    """A rotary embedding of the whole head, at random positions."""
    angles = bench.normal(ROPE_POSITIONS, x["head_dim"] // 2, dtype="fp32")
    positions = bench.integers(ROPE_POSITIONS, tokens or x["tokens"])
    return Rope(positions=positions, cos=angles.cos(), sin=angles.sin())
