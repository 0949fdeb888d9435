"""A Llama forward pass by the book: plain torch in float64, all tokens at once, nothing paged."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from kvsim.calibration.engine.shape import LlamaShape
from kvsim.calibration.engine.weights import Weights

EPSILON = 1e-5


def logits(shape: LlamaShape, weights: Weights, tokens: Sequence[int]) -> torch.Tensor:
    """``[tokens, vocab]``: what follows each token."""
    x = weights.embedding[torch.tensor(tokens)].double()
    hidden = torch.triu(torch.full((len(tokens), len(tokens)), float("-inf")), 1).double()
    for layer in weights.layers:
        qkv = _norm(x, layer.attention_norm) @ layer.qkv.double().T
        heads = qkv.view(len(tokens), -1, shape.head_dim).transpose(0, 1)
        q, k, v = heads.split((shape.num_heads, shape.num_kv_heads, shape.num_kv_heads))
        group = shape.num_heads // shape.num_kv_heads
        k, v = (one.repeat_interleave(group, dim=0) for one in (_turned(k, shape), v))
        scores = _turned(q, shape) @ k.transpose(1, 2) / shape.head_dim**0.5 + hidden
        seen = torch.softmax(scores, dim=-1) @ v
        x = x + seen.transpose(0, 1).reshape(len(tokens), -1) @ layer.o.double().T
        gate, up = (_norm(x, layer.mlp_norm) @ layer.gate_up.double().T).chunk(2, dim=-1)
        x = x + (gate * torch.sigmoid(gate) * up) @ layer.down.double().T
    return _norm(x, weights.norm) @ weights.head.double().T


def answer(
    shape: LlamaShape, weights: Weights, prompt: Sequence[int], count: int, *, sample: int = 0
) -> list[int]:
    """So many tokens after a prompt, the best each time; the first is the ``sample``-th best."""
    tokens = list(prompt)
    for place in range(count):
        last = logits(shape, weights, tokens)[-1]
        tokens.append(int(last.argsort(descending=True)[sample if place == 0 else 0]))
    return tokens[len(prompt) :]


def _norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x / (x.pow(2).mean(-1, keepdim=True) + EPSILON).sqrt() * weight.double()


def _turned(x: torch.Tensor, shape: LlamaShape) -> torch.Tensor:
    """Each pair of lanes, i and i + d/2, as a complex number turned by its position."""
    half = shape.head_dim // 2
    angle = shape.rope_theta ** (-torch.arange(half).double() / half)
    turn = torch.polar(
        torch.ones(x.shape[1], half).double(),
        torch.arange(x.shape[1]).double()[:, None] * angle[None, :],
    )
    turned = torch.complex(x[..., :half], x[..., half:]) * turn
    return torch.cat([turned.real, turned.imag], dim=-1)
