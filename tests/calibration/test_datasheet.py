"""The roofline: spans equal sums of steps, laws of growth, and measured servers beside it."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvsim.calibration import Batch, DatasheetCost, load_gpu, load_model
from kvsim.calibration.affine import AffineCost
from kvsim.calibration.costs import step_cost

MODELS = ("llama-3.1-8b", "gemma-3-27b", "llama-4-scout", "qwen3.5-27b", "deepseek-v3")


def cost(model: str, gpu: str, **flags: Any) -> DatasheetCost:
    return DatasheetCost.of(model=load_model(model), gpu=load_gpu(gpu), **flags)


def decodes(num: int, mean_context: float) -> Batch:
    return Batch(num_decodes=num, decode_context_tokens=round(num * mean_context))


COSTS = {name: cost(name, "h100-sxm", max_num_seqs=256) for name in MODELS}


@given(
    name=st.sampled_from(MODELS),
    num=st.integers(0, 700),
    mean=st.one_of(st.floats(0, 30_000), st.floats(1000, 1030), st.floats(8180, 8200)),
    padding=st.integers(0, 20),
    k=st.integers(0, 200),
)
@settings(max_examples=150, deadline=None)
def test_span_is_the_sum_of_its_steps(
    name: str, num: int, mean: float, padding: int, k: int
) -> None:
    source = COSTS[name]
    batch = decodes(num, mean)._replace(num_padding_rows=padding)
    steps = [
        source.step_ns(batch._replace(decode_context_tokens=batch.decode_context_tokens + j * num))
        for j in range(k)
    ]
    assert source.span_s(batch, k) == pytest.approx(math.fsum(steps) / 1e9, rel=1e-12)


def test_lines_bend_only_at_windows() -> None:
    assert COSTS["llama-3.1-8b"].decode_line(decodes(4, 10)).num_steps > 10**9
    line = COSTS["gemma-3-27b"].decode_line(decodes(4, 1000))
    assert line.num_steps == 25  # contexts 1000 ... 1024
    assert COSTS["gemma-3-27b"].decode_line(decodes(4, 1025)).num_steps > 10**9


@given(name=st.sampled_from(MODELS), num=st.integers(1, 500), mean=st.integers(1, 7000))
@settings(max_examples=100, deadline=None)
def test_more_work_takes_no_less_time(name: str, num: int, mean: int) -> None:
    source = COSTS[name]
    now = source.step_ns(decodes(num, mean))
    assert 0 < now <= source.step_ns(decodes(num, mean + 1))
    assert now <= source.step_ns(decodes(num + 1, mean))
    assert now < source.step_ns(decodes(num, mean)._replace(chunks=((64, 0),)))


def test_decode_law_of_a_measured_h100() -> None:
    """Llama-3.1-8B bf16, concurrency 1: ITL = 6.44 ms + 4.37e-5 ms per context token."""
    source = cost("llama-3.1-8b", "h100-sxm")
    near, far = source.step_s(decodes(1, 256)), source.step_s(decodes(1, 125_000))
    slope_ms = 1e3 * (far - near) / (125_000 - 256)
    assert slope_ms == pytest.approx(4.37e-5, rel=0.02)
    assert 1e3 * near - 256 * slope_ms == pytest.approx(6.44, rel=0.08)


def test_loaded_h100() -> None:
    """Concurrency 8 at some 21k tokens each: 15.18 ms measured, which includes prefill chunks."""
    decode_ms = 1e3 * cost("llama-3.1-8b", "h100-sxm").step_s(decodes(8, 21_000))
    assert 0.85 * 15.18 < decode_ms < 15.18


def test_fp8_kv_is_not_half_the_time_on_hopper() -> None:
    """The published ratio of the slopes is 54 %."""
    wide = cost("llama-3.1-8b", "h100-sxm")
    narrow = cost("llama-3.1-8b", "h100-sxm", kv_cache_dtype="fp8")
    slopes = [s.decode_line(decodes(1, 100)).slope_ns for s in (wide, narrow)]
    assert slopes[1] / slopes[0] == pytest.approx(0.54, abs=0.02)


def test_sarathi_iteration_on_a100() -> None:
    """Mistral-7B, batch 32 at 4k: some 20 ms (their SLO is 25 and 5 such iterations)."""
    assert 1e3 * cost("mistral-7b", "a100").step_s(decodes(32, 4096)) == pytest.approx(20, rel=0.1)


@pytest.mark.parametrize(
    ("gpu", "measured_ms", "tolerance"),
    [
        ("a100", {512: 197, 1024: 377, 2048: 688, 4096: 1485, 8192: 2990}, 0.10),
        ("h100-sxm", {512: 84, 1024: 158, 2048: 310, 4096: 643, 8192: 1340}, 0.25),
    ],
)
def test_prompts_of_llama_70b_on_two_gpus(
    gpu: str, measured_ms: dict[int, float], tolerance: float
) -> None:
    """Splitwise's medians: an early engine, so the H100 is expected to be faster here."""
    source = cost("llama-2-70b", gpu, tensor_parallel_size=2)
    for tokens, expected in measured_ms.items():
        found = 1e3 * source.step_s(Batch(chunks=((tokens, 0),)))
        assert found == pytest.approx(expected, rel=tolerance), tokens


def test_weights_are_read_once_a_step() -> None:
    source = cost("llama-3.1-8b", "h100-sxm")
    assert source.step_s(decodes(8, 100)) < 1.1 * source.step_s(decodes(1, 100))


def test_batches_are_padded_to_captured_sizes() -> None:
    source = cost("llama-3.1-8b", "h100-sxm", max_num_seqs=256)
    base = {n: source.step_ns(decodes(n, 0)) for n in (33, 40, 41)}
    head = source.roofline.head_ns
    assert base[33] - head(33) == pytest.approx(base[40] - head(40), rel=1e-12)
    assert base[41] > base[40]
    eager = cost("llama-3.1-8b", "h100-sxm", enforce_eager=True)
    assert eager.capture_sizes == ()
    assert eager.step_ns(decodes(1, 1)) > source.step_ns(decodes(1, 1))


def test_experts_are_read_as_tokens_touch_them() -> None:
    source = cost("mixtral-8x7b", "h200", enforce_eager=True)
    one, many = (source.roofline.linear_ns(n) for n in (1, 64))
    model = load_model("mixtral-8x7b")
    share = model.bytes_of("experts") / model.weight_bytes
    assert one < (1 - share + 0.30 * share) * many  # 2 of 8 experts
    dense_many = source.roofline.linear_ns(128)
    assert dense_many < 1.1 * many


def test_window_layers_stop_growing() -> None:
    source = COSTS["gemma-3-27b"]
    below = source.decode_line(decodes(1, 500)).slope_ns
    above = source.decode_line(decodes(1, 5000)).slope_ns
    assert above / below == pytest.approx(10 / 62, rel=1e-6)


def test_tensor_parallelism_helps_less_than_its_size() -> None:
    one, four = (
        cost("qwen3-32b", "h100-sxm", tensor_parallel_size=n).step_s(decodes(16, 2000))
        for n in (1, 4)
    )
    assert one / 4 < four < one / 2
    slow = cost("qwen3-32b", "l40s", tensor_parallel_size=4).roofline
    fast = cost("qwen3-32b", "h100-sxm", tensor_parallel_size=4).roofline
    assert slow.all_reduce_ns(1000) > fast.all_reduce_ns(1000)


def test_a_ring_all_reduce_by_hand() -> None:
    """Two per layer of 64: 8 us, then 2 * 3 / 4 of 1000 rows of 5120 16-bit values over the link.

    NVLink's 900 GB/s are both directions, of which a large message uses 0.7.
    """
    roofline = cost("qwen3-32b", "h100-sxm", tensor_parallel_size=4).roofline
    one_s = 8e-6 + 1.5 * 1000 * 5120 * 2 / (450e9 * 0.7)
    assert roofline.all_reduce_ns(1000) == pytest.approx(2 * 64 * one_s * 1e9)
    assert cost("qwen3-32b", "h100-sxm").roofline.all_reduce_ns(1000) == 0


def test_prefill_attention_grows_with_the_past() -> None:
    source = cost("llama-3.1-8b", "h100-sxm")
    fresh, deep = (source.step_s(Batch(chunks=((2048, p),))) for p in (0, 100_000))
    assert deep > 2 * fresh


def test_description_is_json_with_sources() -> None:
    values = json.loads(json.dumps(COSTS["gemma-3-27b"].describe()))
    assert values["source"] == "datasheet"
    assert values["efficiency"]["kv_read"] == 0.90
    assert values["windows"][0]["window_tokens"] == 1024
    assert values["band"]["low"] < 1 < values["band"]["high"]


def test_spans_do_not_depend_on_what_was_asked_before() -> None:
    fresh = cost("llama-3.1-8b", "h100-sxm", max_num_seqs=256)
    batch = Batch(num_decodes=5, decode_context_tokens=900, chunks=((33, 7),))
    assert fresh.step_ns(batch) == COSTS["llama-3.1-8b"].step_ns(batch)
    assert fresh == COSTS["llama-3.1-8b"]


def test_sources_by_name() -> None:
    model, gpu = load_model("llama-3.1-8b"), load_gpu("a100")
    assert isinstance(step_cost("datasheet", model=model, gpu=gpu), DatasheetCost)
    affine = step_cost("affine:0.005,2e-5,1e-7", model=model, gpu=gpu)
    assert isinstance(affine, AffineCost)
    with pytest.raises(ValueError, match=r"step_cost\(='roof'\) is unknown; .*datasheet"):
        step_cost("roof", model=model, gpu=gpu)
    with pytest.raises(ValueError, match="takes no arguments"):
        step_cost("datasheet:1", model=model, gpu=gpu)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"tensor_parallel_size": 0}, r"tensor_parallel_size\(=0\) must be > 0."),
        ({"max_num_seqs": 0}, r"max_num_seqs\(=0\) must be > 0."),
        ({"kv_cache_dtype": "x"}, r"kv_cache_dtype\(='x'\) is unknown"),
    ],
)
def test_wrong_flags(flags: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        cost("llama-3.1-8b", "a100", **flags)
