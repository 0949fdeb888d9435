"""The model on a batch of new tokens, whose KV is written on the way.

    x   = embedding[ids]
    x  += o . attention(rope(qkv . norm(x)))         for every layer
    x  += down . silu_mul(gate_up . norm(x))
    out = argmax(head . norm(x[last tokens]))

The kernels are ours where the data is paged (rotation and write, decode, chunks) and for the gated
activation; products, norms and argmax are the framework's: what ``calibrate`` has measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import embedding, linear, rms_norm

from ...kernels.kv_write import Rope, write_kv
from ...kernels.paged_decode import plan_decode_for
from ...kernels.paged_mixed import paged_attention
from ...kernels.paged_prefill import plan_prefill_for
from ..measure.families.probes import silu_mul
from .pools import Pools
from .shape import LlamaShape
from .weights import Layer, Weights

NORM_EPSILON = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """New tokens, those of the sequences that bring one first; tensors on the device."""

    ids: torch.Tensor
    """``[num_tokens]`` int64."""
    positions: torch.Tensor
    """``[num_tokens]`` int64."""
    slots: torch.Tensor
    """``[num_tokens]`` int64; -1 = a row that fills up a captured graph: it writes nothing."""
    tables: torch.Tensor
    """``[num_seqs, max_blocks]`` int32."""
    seq_lens: torch.Tensor
    """``[num_seqs]`` int32, the new tokens included; 0 = such a row: it reads nothing."""
    chunk_starts: torch.Tensor
    """``[num_chunks + 1]`` int32, counted from the first chunk's."""
    last_rows: torch.Tensor | None
    """``[num_samples]`` int64: tokens that a sequence goes on from; None = all."""
    num_decodes: int


class Model:
    """Weights, with the pool that they read and write."""

    def __init__(
        self,
        shape: LlamaShape,
        weights: Weights,
        pools: Pools,
        rope: tuple[torch.Tensor, torch.Tensor],
    ) -> None:
        self._shape = shape
        self._weights = weights
        self._pools = pools
        self._cos, self._sin = rope

    def logits(self, batch: Batch) -> torch.Tensor:
        """``[num_samples, vocab]``; the KV of all new tokens is written."""
        shape, weights = self._shape, self._weights
        hidden = embedding(batch.ids, weights.embedding)
        rope = Rope(positions=batch.positions, cos=self._cos, sin=self._sin)
        query = hidden.new_empty(len(hidden), shape.num_heads, shape.head_dim)
        keys, decodes = self._pools.keys(0), batch.num_decodes
        chunked = decodes < len(batch.seq_lens)
        plans = (
            plan_decode_for(query[:decodes], keys, batch.seq_lens[:decodes]) if decodes else None,
            plan_prefill_for(query[decodes:], keys, batch.chunk_starts) if chunked else None,
        )
        for number, layer in enumerate(weights.layers):
            normed = rms_norm(hidden, hidden.shape[1:], layer.attention_norm, NORM_EPSILON)
            query = self._written(linear(normed, layer.qkv), number, batch, rope)
            out = paged_attention(
                query,
                self._pools.keys(number),
                self._pools.values(number),
                batch.tables,
                batch.chunk_starts,
                batch.seq_lens,
                num_decodes=decodes,
                decode_work=plans[0],
                prefill_work=plans[1],
            )
            hidden = hidden + linear(out.reshape(len(hidden), -1), layer.o)
            hidden = hidden + self._mlp(hidden, layer)
        if batch.last_rows is not None:
            if not len(batch.last_rows):  # chunks in the middle of their prompts
                return hidden.new_empty(0, shape.vocab_size)
            hidden = hidden[batch.last_rows]
        return linear(rms_norm(hidden, hidden.shape[1:], weights.norm, NORM_EPSILON), weights.head)

    def _written(self, qkv: torch.Tensor, number: int, batch: Batch, rope: Rope) -> torch.Tensor:
        """The rotated queries; keys and values are in their slots."""
        heads, kv_heads = self._shape.num_heads, self._shape.num_kv_heads
        of_head = qkv.view(len(qkv), heads + 2 * kv_heads, self._shape.head_dim)
        query, key, value = torch.split(of_head, [heads, kv_heads, kv_heads], dim=1)
        keys, values = self._pools.keys(number), self._pools.values(number)
        write_kv(key, value, keys, values, batch.slots, rope=rope, query=query)
        return query

    def _mlp(self, hidden: torch.Tensor, layer: Layer) -> torch.Tensor:
        normed = rms_norm(hidden, hidden.shape[1:], layer.mlp_norm, NORM_EPSILON)
        gated = hidden.new_empty(len(hidden), self._shape.intermediate_size)
        silu_mul(linear(normed, layer.gate_up), gated)
        return linear(gated, layer.down)


def best(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest logit of each row and its token."""
    value, token = logits.max(dim=-1)
    return value, token
