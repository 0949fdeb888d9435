"""Bytes of one token's key or value in one head, by KV cache dtype.

``bytes = head_dim * bits / 8 + scale_bytes`` for each of K and V. FP8 has one scale per tensor or
per head of a layer, a weight and not in the page. The per-token-head formats (int8, fp8,
int4) store one fp32 scale a head, token and side in the page; NVFP4 stores one byte of scale for 16
elements. ``fp8_ds_mla`` is 512 FP8 values, four fp32 scales and 64 rope values in 16 bits (656).
``auto`` is what the checkpoint asks for, else its own 16-bit dtype; ``int8`` is vLLM's only int8.
Source: vLLM's ``AttentionSpec`` and ``MLAAttentionSpec`` page rules (``v1/kv_cache_interface.py``)
and its page on quantised KV caches.
"""

from __future__ import annotations

from dataclasses import dataclass

from .names import unknown_name


@dataclass(frozen=True, slots=True, kw_only=True)
class KVDtype:
    """How KV elements are stored; ``latent_token_bytes`` replaces the rule for an MLA latent."""

    bits: int
    scale_bytes: int = 0
    elements_per_scale_byte: int = 0
    latent_token_bytes: int | None = None

    def vector_bytes(self, elements: int) -> int:
        """Bytes of one vector (one side of one head of one token), scales included."""
        scales = self.scale_bytes
        if self.elements_per_scale_byte:
            scales += elements // self.elements_per_scale_byte
        return elements * self.bits // 8 + scales


KV_DTYPES = {
    "bfloat16": KVDtype(bits=16),
    "float16": KVDtype(bits=16),
    "float32": KVDtype(bits=32),
    "fp8": KVDtype(bits=8),
    "fp8_e4m3": KVDtype(bits=8),
    "fp8_e5m2": KVDtype(bits=8),
    "fp8_per_token_head": KVDtype(bits=8, scale_bytes=4),
    "int8_per_token_head": KVDtype(bits=8, scale_bytes=4),
    "int4_per_token_head": KVDtype(bits=4, scale_bytes=4),
    "nvfp4": KVDtype(bits=4, elements_per_scale_byte=16),
    "fp8_ds_mla": KVDtype(bits=8, latent_token_bytes=656),
    "nvfp4_ds_mla": KVDtype(bits=4, latent_token_bytes=352),
}
ALIASES = {"bf16": "bfloat16", "fp16": "float16", "half": "float16", "int8": "int8_per_token_head"}


def kv_dtype(name: str, *, checkpoint: str = "bfloat16") -> KVDtype:
    """The storage of a ``kv_cache_dtype``; ``auto`` means the checkpoint's.

    Raises:
        ValueError: unknown dtype.
    """
    resolved = checkpoint if name == "auto" else ALIASES.get(name, name)
    if resolved not in KV_DTYPES:
        raise unknown_name(name, ["auto", *KV_DTYPES], field="kv_cache_dtype")
    return KV_DTYPES[resolved]
