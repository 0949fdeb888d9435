"""Attention points: the grid's rule by hand, roles, bytes, a stream for each draw."""

from __future__ import annotations

from collections import Counter

from kvsim.calibration.measure.attention_points import (
    block_size_points,
    decode_points,
    kv_dtype_points,
    kv_memory_bytes,
    mixed_points,
    prefill_points,
    ragged_points,
    token_bytes,
)
from kvsim.calibration.model_spec import ModelSpec
from kvsim.calibration.models import load_model


def test_a_quarter_of_the_grid_below_a_million_tokens(llama: ModelSpec) -> None:
    points = list(decode_points(llama, 0))
    # 71 of 81 pairs of batch and context are within 2^20 tokens; 5 head layouts, 2 block sizes
    assert abs(len(points) - 71 * 5 * 2 / 4) <= 10
    shapes = [
        (p.x["heads"], p.x["kv_heads"], p.x["block_size"], *p.x["seq_lens"][0]) for p in points
    ]
    assert all(context * batch <= 1 << 20 for *_, context, batch in shapes)
    for column, distinct in enumerate((4, 5, 2, 9, 9)):
        assert len({shape[column] for shape in shapes}) == distinct
    assert (32, 8, 16, 128, 1) in shapes  # the corner: 0 + 0 + 0 + 0 is a multiple of 4
    assert (32, 8, 16, 512, 1) not in shapes


def test_windows_are_measured_inside_and_beyond() -> None:
    points = [p for p in decode_points(load_model("gemma-3-27b"), 0) if p.x["sliding_window"]]
    assert {p.x["seq_lens"][0][0] for p in points} == {512, 2048, 8192}
    assert {p.x["sliding_window"] for p in points} == {1024}


def test_forty_of_a_hundred_ragged_batches_are_held_out(llama: ModelSpec) -> None:
    points = list(ragged_points(llama, 0))
    assert Counter(p.role for p in points) == {"fit": 60, "heldout": 40}
    assert {p.x["shape"] for p in points} == {"lognormal", "bimodal", "one_long"}
    assert {p.x["kv_heads"] for p in points} == {8, 4, 2, 1, 32}
    assert Counter(p.x["kv_heads"] for p in points)[8] >= 75
    assert [p.x for p in points] == [p.x for p in ragged_points(llama, 0)]
    assert [p.x for p in points] != [p.x for p in ragged_points(llama, 1)]


def test_quantised_caches_and_block_sizes_have_held_out_batches(llama: ModelSpec) -> None:
    dtypes = Counter((p.x["kv_dtype"], p.role) for p in kv_dtype_points(llama, 0))
    assert dtypes["fp8_e4m3", "fit"] == 13
    assert dtypes["int8", "heldout"] == 2
    sizes = Counter((p.x["block_size"], p.role) for p in block_size_points(llama, 0))
    assert sizes == {
        (b, r): n for b in (1, 8, 32, 128, 256) for r, n in (("fit", 9), ("heldout", 1))
    }


def test_chunks_after_any_past_for_two_head_layouts(llama: ModelSpec) -> None:
    points = list(prefill_points(llama, 0))
    own = [p for p in points if p.x["kv_dtype"] == "bf16"]
    single = [p for p in own if len(p.x["chunks"]) == 1]
    assert len(single) == 7 * 5 * 2
    quantised = Counter(p.x["kv_dtype"] for p in points if p.x["kv_dtype"] != "bf16")
    assert quantised == {"fp8_e4m3": 7, "fp8_e5m2": 7, "int8": 7}
    assert {p.x["heads"] for p in single} == {32, 8}
    batches = [p for p in points if len(p.x["chunks"]) > 1]
    assert Counter(p.role for p in batches) == {"fit": 16, "heldout": 16}


def test_mixed_steps_have_both_parts(llama: ModelSpec) -> None:
    points = list(mixed_points(llama, 0))
    assert Counter(p.role for p in points) == {"fit": 20, "heldout": 20}
    assert all(p.x["seq_lens"] and p.x["chunks"] for p in points)


def test_a_latent_cache_has_no_prefill_kernel() -> None:
    model = load_model("deepseek-v3")
    assert not list(prefill_points(model, 0))
    assert not list(mixed_points(model, 0))
    assert token_bytes(next(decode_points(model, 0)).x) == 576 * 2


def test_bytes_of_a_pool_by_hand(llama: ModelSpec) -> None:
    x = next(decode_points(llama, 0)).x | {"seq_lens": [[65_536, 16]], "block_size": 16}
    assert token_bytes(x) == 2 * 8 * 128 * 2
    # a million tokens and 16 blocks that are not full; 16 queries read and written
    assert kv_memory_bytes(x) == (65_536 * 16 + 16 * 16) * 4096 + 2 * 16 * 32 * 128 * 2
    small = x | {"seq_lens": [[1, 1]]}
    assert kv_memory_bytes(small) == (512 << 20) + 2 * 32 * 128 * 2
