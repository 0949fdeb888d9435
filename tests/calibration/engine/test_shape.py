"""Shapes: what they weigh, and which one a card takes."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from kvsim.calibration.engine.shape import (
    GIB,
    SHAPES,
    TOY,
    check_fits,
    shape_named,
    shape_that_fits,
)
from kvsim.calibration.models import load_model

LARGE = SHAPES["llama-3-8b"]


def test_llama_3_8b_weighs_what_its_card_says() -> None:
    assert LARGE.num_weights == 8_030_261_248
    assert LARGE.kv_bytes_per_token == 128 << 10


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_is_that_of_the_catalogue(name: str) -> None:
    shape, model = SHAPES[name], load_model(name)
    assert shape.num_weights == model.num_parameters
    assert shape.kv_bytes_per_token == model.kv_bytes_per_token()
    assert shape.num_layers == model.num_layers
    assert shape.num_heads == model.num_heads


@pytest.mark.parametrize(
    ("total_gib", "name"),
    [(80, "llama-3-8b"), (24, "llama-3-8b"), (16, "llama-3.2-3b"), (8, "llama-3.2-1b")],
)
def test_the_largest_that_fits(total_gib: int, name: str) -> None:
    found = shape_that_fits(total_gib * GIB)
    assert found is not None
    assert found.name == name


def test_none_fits_a_small_card() -> None:
    assert shape_that_fits(4 * GIB) is None


def test_too_little_memory_names_what_fits() -> None:
    check_fits(LARGE, 80 * GIB, kv_tokens=60_000)
    sentence = (
        "gpu_memory(=16.0 GiB) must be >= 25.3 GiB for llama-3-8b and 60000 tokens of KV: "
        "llama-3.2-3b fits."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        check_fits(LARGE, 16 * GIB, kv_tokens=60_000)
    with pytest.raises(ValueError, match=r"no shape fits, not even llama-3\.2-1b\.$"):
        check_fits(LARGE, 4 * GIB, kv_tokens=60_000)
    left = (24 * GIB - LARGE.weight_bytes - 3 * GIB) // LARGE.kv_bytes_per_token
    with pytest.raises(ValueError, match=f": {left} tokens fit\\.$"):
        check_fits(LARGE, 24 * GIB, kv_tokens=100_000)
    check_fits(LARGE, 24 * GIB, kv_tokens=left)


def test_wrong_shapes() -> None:
    with pytest.raises(ValueError, match=r"num_heads\(=3\) must be a multiple of num_kv_heads"):
        replace(TOY, num_heads=3, num_kv_heads=2)
    with pytest.raises(ValueError, match=r"num_layers\(=0\) must be > 0"):
        replace(TOY, num_layers=0)
    with pytest.raises(ValueError, match=r"head_dim\(=15\) must be even"):
        replace(TOY, head_dim=15)
    with pytest.raises(ValueError, match="llama-3-8b"):
        shape_named("llama-3-9b")
    assert shape_named("toy") is TOY
