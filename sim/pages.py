"""Pages of the virtual-contiguous allocator: their sizes, and the tokens that one holds.

vAttention (Prabhu et al., ASPLOS 2025) keeps the keys, and the values, of a layer in one tensor
each, contiguous in virtual memory, and maps physical pages behind it on demand. In each tensor a
token fills

    kv_row_bytes = num_kv_heads / tensor_parallel_size * head_dim * dtype

so a page holds ``page_bytes // kv_row_bytes`` tokens: 64 with pages of 64 KiB for Yi-6B on one GPU
and Llama-3-8B on two, 2048 with pages of 2 MiB. Where a token would lie across two pages, the rest
of the page is counted as external waste, though virtual memory would use it: less than one token of
every page.
"""

from __future__ import annotations

import re

from ..calibration.model_spec import KVLayers, ModelSpec

KIB, MIB = 1 << 10, 1 << 20
PAGE_SIZES = {"64KiB": 64 * KIB, "128KiB": 128 * KIB, "256KiB": 256 * KIB, "2MiB": 2 * MIB}
"""2 MiB is CUDA's own; vAttention's driver adds the others."""
DEFAULT_PAGE_BYTES = PAGE_SIZES["64KiB"]


def page_bytes_of(text: str) -> int:
    """Bytes of a size in words: ``64KiB``, ``2 MiB``, ``2MB``.

    Raises:
        ValueError: none of :data:`PAGE_SIZES`.
    """
    plain = re.sub(r"[\s_]|i?b$", "", text.strip().casefold())
    for name, size in PAGE_SIZES.items():
        if plain in (name[:-2].casefold(), str(size)):
            return size
    raise ValueError(f"page_size(={text!r}) must be one of {', '.join(PAGE_SIZES)}.")


def page_sizes_of(text: str) -> tuple[int, ...]:
    """Several sizes, with commas between them, each once; none of an empty text.

    Raises:
        ValueError: as :func:`page_bytes_of`.
    """
    return tuple(dict.fromkeys(page_bytes_of(one) for one in text.split(",") if text))


def page_name(page_bytes: int) -> str:
    """``64KiB``."""
    return next((name for name, size in PAGE_SIZES.items() if size == page_bytes), str(page_bytes))


def kv_row_bytes(model: ModelSpec, kv_cache_dtype: str, tensor_parallel_size: int) -> int:
    """Bytes of one token's keys (or of its values, or of its latent) in one layer on one GPU.

    Raises:
        ValueError: layers differ in what they keep, or keep something else than tokens.
    """
    dtype = model.resolve_kv_dtype(kv_cache_dtype)
    rows = {
        layers.state_bytes_per_token(dtype, tensor_parallel_size) // _num_tensors(layers)
        for layers in model.layers
    }
    uneven = any(
        layers.head_dim_v != layers.head_dim or layers.tokens_per_state > 1
        for layers in model.layers
        if _num_tensors(layers) == 2
    )
    if len(rows) != 1 or uneven or 0 in rows:
        raise ValueError(
            f"allocator(=virtual) needs layers that keep equal keys and values of every token, "
            f"which those of model(={model.name}) do not."
        )
    return rows.pop()


def _num_tensors(layers: KVLayers) -> int:
    """Keys and values, unless one stored vector is both."""
    return 1 if layers.kind == "mla" or layers.shared_kv else 2
