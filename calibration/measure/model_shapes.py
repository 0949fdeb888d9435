"""The shapes that a model's kernels have on one GPU, for every tensor-parallel size measured.

Attention of a shard: ``heads / t`` query heads and ``max(1, kv_heads / t)`` KV heads. Linear layers
are ``out[m, n] = x[m, k] @ w[n, k].T``, with hidden size h, head dimension d, MLP width I,
vocabulary V and t shards:

    qkv      n = (heads / t + 2 kv_heads_of_a_shard) d    k = h
    o        n = h                                        k = heads / t d
    gate_up  n = 2 I / t  (I / t without a gate)          k = h
    down     n = h                                        k = I / t
    lm_head  n = ceil(V / t)                              k = h
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..model_spec import KVLayers, ModelSpec
from ..silicon.shapes import dense_layers

SHARDS = (1, 2, 4, 8)
"""Tensor-parallel sizes that are measured, on one GPU: a shard is a shape."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionShape:
    """Attention of one layer of one shard."""

    kind: str
    """``paged`` or ``latent``."""
    heads: int
    kv_heads: int
    head_dim: int

    @property
    def values_per_token(self) -> int:
        """Stored for a token: K and V of every KV head, or one latent row."""
        if self.kind == "latent":
            return self.head_dim
        return 2 * self.kv_heads * self.head_dim

    def keys(self) -> dict[str, Any]:
        """As a sample's ``x`` names them."""
        return {
            "kind": self.kind,
            "heads": self.heads,
            "kv_heads": self.kv_heads,
            "head_dim": self.head_dim,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """One linear layer of one shard."""

    layer: str
    tensor_parallel_size: int
    n: int
    k: int


def dtype_of(model: ModelSpec) -> str:
    """Of activations; 16-bit models are measured in bf16."""
    return "fp32" if model.dtype_bytes == 4 else "bf16"


def shards_of(model: ModelSpec) -> tuple[int, ...]:
    """The tensor-parallel sizes that divide the model's heads."""
    return tuple(size for size in SHARDS if _divides(model, size))


def attention_shapes(model: ModelSpec) -> tuple[AttentionShape, ...]:
    """Of every shard, the whole model's first; and full heads (one query head each), to fit by.

    Raises:
        ValueError: no layer has attention that the kernels know.
    """
    groups = [group for group in model.layers if _is_known(group)]
    if not groups:
        raise ValueError(f"model(={model.name!r}) has no attention layer that can be measured.")
    shapes = [_shape(model, group, size) for group in groups for size in shards_of(model)]
    first = shapes[0]
    if first.kind == "paged":
        full = {"heads": first.heads, "kv_heads": first.heads, "head_dim": first.head_dim}
        shapes.append(AttentionShape(kind="paged", **full))
    return tuple(dict.fromkeys(shapes))


def windows(model: ModelSpec) -> tuple[tuple[AttentionShape, int], ...]:
    """Sliding windows, tokens, each with the shape of the unsharded layer that has it."""
    groups = [g for g in model.layers if _is_known(g) and g.kind == "sliding_window"]
    found = {(_shape(model, group, 1), group.window_tokens or 0): None for group in groups}
    return tuple(found)


def linears(model: ModelSpec) -> tuple[Linear, ...]:
    """The dense linear layers of every shard, each shape once."""
    found: dict[tuple[int, int], Linear] = {}
    for size in shards_of(model):
        for linear in _linears_of_shard(model, size):
            found.setdefault((linear.n, linear.k), linear)
    return tuple(found.values())


def not_measured(model: ModelSpec) -> tuple[str, ...]:
    """Parts of the model that no family covers, as ``family: reason``."""
    notes = []
    if any(group.kind == "recurrent" for group in model.layers):
        notes.append("decode: recurrent layers have no kernel")
    if any(group.kind != "recurrent" and not _is_known(group) for group in model.layers):
        notes.append("decode: layers whose keys and values differ in size, or are one vector")
    if any(group.kind == "mla" for group in model.layers):
        notes.append("gemm: projections of latent attention")
    if model.num_experts:
        notes.append("gemm: expert layers")
    if any(g.bits_per_parameter < 16 for g in model.weights):
        notes.append("gemm: quantised weights (measured in 16 bits)")
    return tuple(notes)


def _divides(model: ModelSpec, size: int) -> bool:
    try:
        model.check_tensor_parallel(size)
    except ValueError:
        return False
    return True


def _is_known(group: KVLayers) -> bool:
    """Whether a kernel computes this layer's attention."""
    if group.kind in ("mla", "recurrent"):
        return group.kind == "mla"
    return group.head_dim == group.head_dim_v and not group.shared_kv


def _shape(model: ModelSpec, group: KVLayers, size: int) -> AttentionShape:
    heads = model.num_heads // size
    if group.kind == "mla":
        whole_dim = group.kv_lora_rank + group.rope_dim
        return AttentionShape(kind="latent", heads=heads, kv_heads=1, head_dim=whole_dim)
    return AttentionShape(
        kind="paged",
        heads=heads,
        kv_heads=group.heads_per_gpu(size),
        head_dim=group.head_dim,
    )


def _linears_of_shard(model: ModelSpec, size: int) -> list[Linear]:
    hidden, width = model.hidden_size, model.intermediate_size // size
    shapes = []
    for group in model.layers:
        if group.kind in ("mla", "recurrent"):
            continue
        queries = model.num_heads // size * group.head_dim
        shapes.append(("qkv", queries + 2 * group.heads_per_gpu(size) * group.head_dim, hidden))
        shapes.append(("o", hidden, queries))
    if width:
        gates = 2 if dense_layers(model)[1] else 1
        shapes += [("gate_up", gates * width, hidden), ("down", hidden, width)]
    shapes.append(("lm_head", -(-model.vocab_size // size), hidden))
    return [Linear(layer=name, tensor_parallel_size=size, n=n, k=k) for name, n, k in shapes]
