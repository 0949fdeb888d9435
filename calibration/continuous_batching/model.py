"""transformers' Llama of a shape, with random weights made on the device."""

from __future__ import annotations

from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ..engine.shape import LlamaShape
from ..engine.weights import torch_dtype


def random_llama(
    shape: LlamaShape, device: torch.device, *, seed: int, max_model_len: int
) -> LlamaForCausalLM:
    """Normal weights of ``shape.weight_std``; one device draws the same each time."""
    config = LlamaConfig(
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_kv_heads,
        head_dim=shape.head_dim,
        vocab_size=shape.vocab_size,
        max_position_embeddings=max_model_len,
        initializer_range=shape.weight_std,
        tie_word_embeddings=shape.tied,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
        attn_implementation="sdpa",
    )
    torch.manual_seed(seed)
    with torch.device(device):
        model: Any = LlamaForCausalLM._from_config(config, dtype=torch_dtype(shape))
    return model.eval()
