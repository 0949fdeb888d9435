"""Random weights, made on the device: what they say does not matter, what they weigh does."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .shape import LlamaShape


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layer:
    """One layer's; products are ``[out, in]``."""

    attention_norm: torch.Tensor
    qkv: torch.Tensor
    """Queries, then keys, then values."""
    o: torch.Tensor
    mlp_norm: torch.Tensor
    gate_up: torch.Tensor
    """Gate, then up."""
    down: torch.Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Weights:
    """A model's."""

    embedding: torch.Tensor
    layers: tuple[Layer, ...]
    norm: torch.Tensor
    head: torch.Tensor


def random_weights(shape: LlamaShape, device: torch.device, *, seed: int) -> Weights:
    """Normal ones of ``shape.weight_std``, norms of one; one device draws the same each time."""
    draw = torch.Generator(device).manual_seed(seed)
    dtype = torch_dtype(shape)

    def normal(*size: int) -> torch.Tensor:
        made = torch.empty(size, dtype=dtype, device=device)
        return made.normal_(0.0, shape.weight_std, generator=draw)

    def ones() -> torch.Tensor:
        return torch.ones(shape.hidden_size, dtype=dtype, device=device)

    def layer() -> Layer:
        return Layer(
            attention_norm=ones(),
            qkv=normal(shape.qkv_size, shape.hidden_size),
            o=normal(shape.hidden_size, shape.num_heads * shape.head_dim),
            mlp_norm=ones(),
            gate_up=normal(2 * shape.intermediate_size, shape.hidden_size),
            down=normal(shape.hidden_size, shape.intermediate_size),
        )

    embedding = normal(shape.vocab_size, shape.hidden_size)
    return Weights(
        embedding=embedding,
        layers=tuple(layer() for _ in range(shape.num_layers)),
        norm=ones(),
        head=embedding if shape.tied else normal(shape.vocab_size, shape.hidden_size),
    )


def torch_dtype(shape: LlamaShape) -> torch.dtype:
    """Of weights, activations and KV."""
    found: torch.dtype = getattr(torch, shape.dtype)
    return found


def rope_tables(
    shape: LlamaShape, max_positions: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines ``[max_positions, head_dim / 2]``, fp32.

    At position p lane i turns by ``p theta^(-2i / head_dim)``.
    """
    lane = torch.arange(shape.head_dim // 2, dtype=torch.float64)
    angle = shape.rope_theta ** (-2 * lane / shape.head_dim)
    turned = torch.arange(max_positions, dtype=torch.float64)[:, None] * angle[None, :]
    return turned.cos().float().to(device), turned.sin().float().to(device)
