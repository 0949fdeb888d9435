"""Bytes of one token in one layer of eight heads of 128, by KV dtype; of a latent of 512 + 64."""

from __future__ import annotations

import pytest

from kvsim.calibration.kv_dtypes import KV_DTYPES, kv_dtype
from kvsim.calibration.model_spec import KVLayers

PLAIN = KVLayers(kind="full", num_layers=1, num_kv_heads=8, head_dim=128, head_dim_v=128)
LATENT = KVLayers(kind="mla", num_layers=1, kv_lora_rank=512, rope_dim=64)
BYTES = {  # plain, latent
    "bfloat16": (4096, 1152),
    "float16": (4096, 1152),
    "float32": (8192, 2304),
    "fp8": (2048, 576),  # one scale per tensor or head: none in the page
    "fp8_e4m3": (2048, 576),
    "fp8_e5m2": (2048, 576),
    "fp8_per_token_head": (8 * 2 * (128 + 4), 576 + 4),
    "int8_per_token_head": (8 * 2 * (128 + 4), 576 + 4),
    "int4_per_token_head": (8 * 2 * (64 + 4), 288 + 4),
    "nvfp4": (8 * 2 * (64 + 8), 288 + 36),
    "fp8_ds_mla": (2048, 656),
    "nvfp4_ds_mla": (1024, 352),
}


@pytest.mark.parametrize("name", BYTES)
def test_bytes(name: str) -> None:
    found = PLAIN.state_bytes_per_token(name), LATENT.state_bytes_per_token(name)
    assert found == BYTES[name]


def test_every_dtype_is_listed() -> None:
    assert set(BYTES) == set(KV_DTYPES)


def test_names_for_short() -> None:
    assert kv_dtype("int8") == KV_DTYPES["int8_per_token_head"]
    assert kv_dtype("bf16") == kv_dtype("auto") == KV_DTYPES["bfloat16"]
    assert kv_dtype("auto", checkpoint="fp8") == KV_DTYPES["fp8"]


@pytest.mark.parametrize(("size", "heads"), [(1, 8), (2, 4), (8, 1), (16, 1)])
def test_heads_divide_then_are_replicated(size: int, heads: int) -> None:
    assert PLAIN.state_bytes_per_token("int8", size) == heads * 2 * (128 + 4)
    assert LATENT.state_bytes_per_token("bfloat16", size) == 1152
