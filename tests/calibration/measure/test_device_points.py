"""Points of the card itself: counts, bytes and FLOPs by hand."""

from __future__ import annotations

from collections import Counter

from kvsim.calibration.measure.device_points import (
    GEMM_M,
    all_reduce_points,
    block_copy_points,
    ceiling_points,
    elementwise_points,
    gemm_points,
    graph_points,
    host_points,
    memory_points,
    pcie_points,
)
from kvsim.calibration.model_spec import ModelSpec
from kvsim.calibration.models import load_model

KIB, GIB = 1 << 10, 1 << 30


def test_a_copy_counts_what_is_read_and_written(llama: ModelSpec) -> None:
    points = {(p.x["what"], p.x["bytes"]): p for p in ceiling_points(llama, 0)}
    assert ("copy", 2 * GIB) in points
    assert ("read", GIB) in points
    assert points["matmul", 0].x["flops"] == 2 * 8192**3
    assert points["matmul", 0].memory_bytes == 3 * 8192 * 8192 * 2
    assert points["matmul_sustained", 0].seconds > 10


def test_products_of_every_layer_and_token_count(llama: ModelSpec) -> None:
    points = list(gemm_points(llama, 0))
    fit = [p for p in points if p.role == "fit"]
    assert len(fit) == 4 * (4 * 33 + 20)  # four shards; logits of at most 1,024 rows
    by_layer = Counter(p.x["layer"] for p in fit)
    assert by_layer["lm_head"] == 4 * 20
    assert max(p.x["m"] for p in points if p.x["layer"] == "lm_head") == 1024
    assert max(p.x["m"] for p in points) == 8192


def test_products_held_out_are_of_other_token_counts(llama: ModelSpec) -> None:
    points = list(gemm_points(llama, 0))
    held_out = [p for p in points if p.role == "heldout"]
    assert len(held_out) == 4 * 5 * 4
    assert not {p.x["m"] for p in held_out} & set(GEMM_M)
    assert max(p.x["m"] for p in held_out if p.x["layer"] == "lm_head") < 1024


def test_bytes_of_a_token_by_hand(llama: ModelSpec) -> None:
    points = list(elementwise_points(llama, 0))
    assert len(points) == 7 * 12
    one = {p.x["op"]: p.x["bytes"] for p in points if p.x["tokens"] == 1}
    assert one == {
        "rms_norm": 2 * 4096 * 2,
        "residual": 3 * 4096 * 2,
        "embed": 2 * 4096 * 2,
        "silu_mul": 3 * 14336 * 2,
        "rope_write": 2 * (32 + 2 * 8) * 128 * 2,
        "argmax": 128_256 * 2,
        "sample": 128_256 * 4,
    }
    assert max(p.x["tokens"] for p in points if p.x["op"] == "sample") == 1024


def test_layers_are_captured_at_nine_batches_and_launched_as_well(llama: ModelSpec) -> None:
    points = list(graph_points(llama, 0))
    counts = Counter((p.x["what"], p.x["mode"]) for p in points)
    assert counts["decode_layers", "graph"] == counts["decode_layers", "eager"] == 9
    assert counts["empty_nodes", "graph"] == 4
    assert next(p for p in points if p.x["what"] == "capture").x["layers"] == 32


def test_experts_have_no_layers_to_capture() -> None:
    found = {p.x["what"] for p in graph_points(load_model("qwen3-30b-a3b"), 0)}
    assert found == {"empty_nodes"}


def test_a_block_of_16_tokens_is_64_kib_of_a_layer(llama: ModelSpec) -> None:
    blockwise = [p.x for p in pcie_points(llama, 0) if p.x["how"] == "blockwise"]
    assert {x["bytes"] // x["segments"] for x in blockwise} == {64 * KIB}
    assert {x["segments"] for x in blockwise} == {1, 8, 64, 512, 4096}
    whole = [p.x for p in pcie_points(llama, 0) if p.x["how"] == "copy"]
    assert Counter((x["direction"], x["memory"]) for x in whole) == {
        ("h2d", "pinned"): 5,
        ("d2h", "pinned"): 5,
        ("both", "pinned"): 5,
        ("h2d", "pageable"): 5,
        ("d2h", "pageable"): 5,
    }


def test_copied_blocks_count_both_ways(llama: ModelSpec) -> None:
    point = next(block_copy_points(llama, 0))
    assert point.x == {"pairs": 1, "block_bytes": 16 * 2048, "bytes": 2 * 16 * 2048}


def test_the_rest(llama: ModelSpec) -> None:
    assert len(list(host_points(llama, 0))) == 12
    assert [p.x["what"] for p in memory_points(llama, 0)][:2] == ["total", "free_after_context"]
    assert not list(all_reduce_points(llama, 0, gpus=1))
    reduced = list(all_reduce_points(llama, 0, gpus=4))
    assert len(reduced) == 12
    assert {p.x["gpus"] for p in reduced} == {4}
