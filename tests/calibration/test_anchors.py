"""Published KV layouts, cell by cell: block bytes, page tokens, layer kinds of hybrid models."""

from __future__ import annotations

import pytest

from kvsim.calibration.kv_blocks import bytes_per_block, group_layers
from kvsim.calibration.kv_groups import layer_caches
from kvsim.calibration.models import ModelSpec, load_model

KIB, MIB = 1 << 10, 1 << 20
# The offloading article: fragment of one layer (K or V), block over all layers; both on one GPU.
BLOCKS = [  # model, tensor-parallel size, block size, fragment KiB, block MiB
    ("llama-3.1-8b", 1, 16, 32, 2.0),
    ("llama-3.1-70b", 4, 16, 8, 1.25),
    ("llama-3.2-1b", 1, 16, 16, 0.5),
    ("mistral-7b-v0.2", 1, 16, 32, 2.0),
    ("mistral-small-24b", 1, 16, 32, 2.5),
    ("qwen2.5-1.5b", 1, 16, 8, 0.4375),
    ("qwen2.5-3b", 1, 16, 8, 0.5625),
    ("qwen2.5-7b", 1, 16, 16, 0.875),
    ("qwen3-0.6b", 1, 16, 32, 1.75),
    ("qwen3-1.7b", 1, 16, 32, 1.75),
    ("qwen3-4b", 1, 16, 32, 2.25),
    ("qwen3-32b", 2, 16, 16, 2.0),
    ("DeepSeek-R1-Distill-Qwen-32B", 2, 16, 16, 2.0),
    ("deepseek-v2-lite", 1, 64, 72, 27 * 576 * 2 * 64 / MIB),
    ("qwen2-7b", 1, 16, 16, 0.875),  # Alibaba's trace paper
]
# Layer kinds, and what one token takes in each kind (16 bit, all layers of the kind).
KINDS: dict[str, dict[str, tuple[int, int | None, int]]] = {
    "llama-4-scout": {"full": (12, None, 49_152), "chunked_local": (36, 8192, 147_456)},
    "llama-4-maverick": {"full": (12, None, 49_152), "chunked_local": (36, 8192, 147_456)},
    "mistral-7b-v0.1": {"sliding_window": (32, 4096, 131_072)},
    "mistral-7b-v0.2": {"full": (32, None, 131_072)},
    "qwen3.5-27b": {"full": (16, None, 65_536), "recurrent": (48, None, 0)},
    "qwen3.5-35b-a3b": {"full": (10, None, 20_480), "recurrent": (30, None, 0)},
    "qwen3.5-122b": {"full": (12, None, 24_576), "recurrent": (36, None, 0)},
    "qwen3.5-397b": {"full": (15, None, 30_720), "recurrent": (45, None, 0)},
    "gemma-2-9b": {"full": (21, None, 172_032), "sliding_window": (21, 4096, 172_032)},
    "gemma-2-27b": {"full": (23, None, 188_416), "sliding_window": (23, 4096, 188_416)},
    "gemma-3-4b": {"full": (5, None, 20_480), "sliding_window": (29, 1024, 118_784)},
    "gemma-3-12b": {"full": (8, None, 65_536), "sliding_window": (40, 1024, 327_680)},
    "gemma-3-27b": {"full": (10, None, 81_920), "sliding_window": (52, 1024, 425_984)},
    "gemma-4-26b-a4b": {"full": (5, None, 20_480), "sliding_window": (25, 1024, 204_800)},
    "deepseek-v3": {"mla": (61, None, 70_272)},
    "kimi-k2.5": {"mla": (61, None, 70_272)},
    "glm-5": {"mla": (78, None, 89_856)},
    "gpt-oss-20b": {"full": (12, None, 24_576), "sliding_window": (12, 128, 24_576)},
    "gpt-oss-120b": {"full": (18, None, 36_864), "sliding_window": (18, 128, 36_864)},
}


@pytest.mark.parametrize(("name", "size", "block", "fragment_kib", "block_mib"), BLOCKS)
def test_physical_blocks(
    name: str, size: int, block: int, fragment_kib: int, block_mib: float
) -> None:
    model = load_model(name)
    (layers,) = model.layers
    sides = 1 if layers.kind == "mla" else 2
    token = layers.state_bytes_per_token("bfloat16", size)
    assert token * block == sides * fragment_kib * KIB
    caches = layer_caches(model.layers, block_size=block, tensor_parallel_size=size)
    assert bytes_per_block(group_layers(caches)) == block_mib * MIB


@pytest.mark.parametrize(
    ("name", "size", "page_kib", "tokens"),
    [
        ("yi-6b", 1, 64, 64),
        ("yi-6b", 1, 2048, 2048),
        ("llama-3-8b", 2, 64, 64),
        ("llama-3-8b", 2, 2048, 2048),
    ],
)
def test_tokens_of_a_virtual_memory_page(name: str, size: int, page_kib: int, tokens: int) -> None:
    """vAttention: one page holds K or V of one layer on one worker."""
    (layers,) = load_model(name).layers
    side = layers.heads_per_gpu(size) * layers.head_dim * 2
    assert page_kib * KIB // side == tokens


@pytest.mark.parametrize("name", KINDS)
def test_layer_kinds(name: str) -> None:
    assert kinds_of(load_model(name)) == KINDS[name]


def kinds_of(model: ModelSpec) -> dict[str, tuple[int, int | None, int]]:
    return {
        group.kind: (
            group.num_layers,
            group.window_tokens,
            group.num_layers * group.state_bytes_per_token("bfloat16"),
        )
        for group in model.layers
    }


@pytest.mark.parametrize("name", ["deepseek-v3.2", "glm-5"])
def test_fp8_of_sparse_latents_is_the_kernels_own_layout(name: str) -> None:
    """512 FP8 values, 16 bytes of scales, 64 rope values in 16 bits: 656 bytes a layer."""
    model = load_model(name)
    assert model.kv_bytes_per_token("fp8") == model.num_layers * 656
    assert load_model("deepseek-v3").kv_bytes_per_token("fp8") == 61 * 576
