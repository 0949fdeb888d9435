"""What N requests of L tokens need, by hand; what is said to fit does, one step less does not."""

from __future__ import annotations

from typing import Any

import pytest

from kvsim.calibration.demand import read_demand
from kvsim.calibration.gpus import GIB, known_gpus, load_gpu
from kvsim.calibration.memory import MemoryBudget, plan_memory
from kvsim.calibration.models import load_model
from kvsim.calibration.need import Need, holders, need_of, smallest_holder
from support.command import loaded

MIB = 1 << 20


def budget(model: str = "llama-3.1-8b", gpu: str = "a100", **flags: Any) -> MemoryBudget:
    return plan_memory(model=load_model(model), gpu=load_gpu(gpu), **flags)


def need(text: str, model: str = "llama-3.1-8b", gpu: str = "a100", **flags: Any) -> Need:
    length = flags.get("max_model_len") or load_model(model).max_position_embeddings
    return need_of(budget(model, gpu, **flags), read_demand(text), max_model_len=length)


def test_full_attention() -> None:
    """8,192 tokens are 512 blocks of 16; a block of 32 layers, 8 heads of 128 in bf16 is 2 MiB."""
    found = need("64x8192")
    assert found.request_blocks == found.admission_blocks == 512
    assert found.kv_cache_bytes == 64 * 512 * 2 * MIB == 64 * GIB
    assert found.memory_bytes == found.fixed_bytes + 64 * GIB + 2 * MIB
    assert (found.fits, found.bound_by) == (False, ("KV pool",))
    assert found.gpu_memory_utilization is None
    assert found.num_held == 28_775 // 512 == 56
    assert found.replicas == 2


def test_a_length_is_rounded_up_to_blocks() -> None:
    assert need("3x17").blocks == need("3x32").blocks == 6
    assert need("3x33").blocks == 9


def test_fp8_halves_it() -> None:
    assert need("64x8192", kv_cache_dtype="fp8").kv_cache_bytes == 32 * GIB
    assert need("64x8192", kv_cache_dtype="fp8").fits


def test_latents_are_on_every_gpu() -> None:
    """61 layers with 512 + 64 elements of 2 bytes; 1,000 tokens are 63 blocks, whatever the TP."""
    block = 61 * (512 + 64) * 2 * 16
    for size in (8, 16):
        found = need("10x1000", "deepseek-v3", "h200", tensor_parallel_size=size)
        assert found.kv_cache_bytes == 10 * 63 * block


def test_kv_heads_are_divided_then_replicated() -> None:
    """8 KV heads: on 8 GPUs one each, on 16 GPUs each of them twice."""
    sizes = {tp: need("64x8192", tensor_parallel_size=tp).kv_cache_bytes for tp in (1, 2, 8, 16)}
    assert sizes == {1: 64 * GIB, 2: 32 * GIB, 8: 8 * GIB, 16: 8 * GIB}


def test_windows_are_counted_in_turn() -> None:
    """12 full and 12 window layers of 128: 512 + 8 + 1 blocks of 384 KiB; while it is admitted
    128 - 1 and two batches of 2,048 in flight beside the 512: 264 + 1."""
    found = need("64x8192", "gpt-oss-20b", "l4")
    assert found.request_blocks == 512 + 9
    assert found.admission_blocks == 512 + 265
    assert found.kv_cache_bytes == (63 * 521 + 777) * 384 * 1024
    usable = budget("gpt-oss-20b", "l4").usable_blocks
    assert found.num_held == 1 + (usable - 777) // 521


def test_chunks_and_short_requests() -> None:
    """A chunk of 8,192 and a block; what is shorter than a window takes what it has."""
    scout = budget("llama-4-scout", "h200", tensor_parallel_size=4, hybrid_kv_cache=True)
    window = [group for group in scout.kv_groups if group.kind == "chunked_local"]
    assert {group.steady_blocks_of(100_000) for group in window} == {8192 // 16 + 1}
    assert {group.steady_blocks_of(100) for group in window} == {7}


def test_recurrent_states_are_one_block_each() -> None:
    qwen = budget("qwen3.5-27b", "h100-sxm")
    kinds = [group.kind for group in qwen.kv_groups]
    assert sorted(kinds) == ["full", "recurrent", "recurrent", "recurrent"]
    assert qwen.steady_blocks_of(1) == qwen.blocks_of(1) == 4
    assert not qwen.windowed


@pytest.mark.parametrize("model", ["llama-3.1-8b", "gpt-oss-20b", "gemma-3-27b", "qwen3.5-27b"])
@pytest.mark.parametrize("tokens", [1, 16, 17, 1000, 1025, 16_000])
def test_counts_agree_with_blocks(model: str, tokens: int) -> None:
    found = budget(model, "a100")
    count = found.steady_requests_of(tokens)
    assert found.blocks_for(count, tokens) <= found.usable_blocks
    assert found.blocks_for(count + 1, tokens) > found.usable_blocks
    assert count >= found.requests_of(tokens)
    assert found.windowed or count == found.requests_of(tokens)


@pytest.mark.parametrize("model", ["llama-3.1-8b", "gpt-oss-20b", "qwen3.5-27b"])
@pytest.mark.parametrize("text", ["1x1000", "7x4000", "20x3333"])
def test_the_utilisation_that_would_do_does(model: str, text: str) -> None:
    share = need(text, model).gpu_memory_utilization
    assert share is not None
    length = read_demand(text).tokens
    assert need(text, model, gpu_memory_utilization=share, max_model_len=length).fits
    try:
        less = need(text, model, gpu_memory_utilization=round(share - 0.001, 3))
    except ValueError:  # not even a block is left
        return
    assert less.bound_by == ("KV pool",)


def test_the_context_is_left_free() -> None:
    """16.6 GiB and n times 128 MiB of 79.25 GiB, of which half a GiB is the context's."""
    shares = [need(f"{n}x1024").gpu_memory_utilization for n in (400, 495, 499, 600)]
    assert shares[:2] == pytest.approx([0.841, 0.991], abs=0.002)
    assert shares[2:] == [None, None]


def test_max_num_seqs_and_length_are_limits_too() -> None:
    many = need("300x1000")
    assert many.bound_by == ("max_num_seqs",)
    assert (many.num_held, many.replicas) == (budget().requests_of(1000), 2)
    assert "max_num_seqs(=256) lets no more than 256 of the 300" in many.notes[0]
    assert need("300x1000", max_num_seqs=300).fits
    long = need("1x8192", "llama-2-7b")
    assert (long.bound_by, long.replicas) == (("max_model_len",), None)
    assert "pass the max_model_len(=4096)" in long.notes[0]
    assert need("1x8192", "llama-2-7b", max_model_len=8192).fits
    assert need("1x8192", "qwen3-32b", "a100", max_model_len=4096).bound_by == ("max_model_len",)


def test_a_pool_for_short_requests_needs_a_shorter_length() -> None:
    assert "also give --max-model-len 1000." in need("10x1000").notes[0]
    assert need("10x1000", max_model_len=1000).notes == ()


def test_near_the_edge_it_is_in_doubt() -> None:
    """A request is 1 GiB: in doubt between the pool's low and its high estimate."""
    found = budget()
    low, high = found.kv_cache_low_bytes / GIB, found.kv_cache_high_bytes / GIB
    doubts = {n: need(f"{n}x8192").in_doubt for n in range(40, 70)}
    assert doubts == {n: low < n + 1 / 512 <= high for n in doubts}
    assert any(doubts.values())
    edge = next(n for n, doubt in doubts.items() if doubt)
    assert "within the error of the estimate" in need(f"{edge}x8192").notes[-1]
    assert not need("55x8192", kv_cache_memory_bytes=60 * GIB).in_doubt


def test_no_server_where_one_request_does_not_fit() -> None:
    found = need("2x40000", "qwen3-32b", "h100-sxm")
    assert (found.num_held, found.replicas) == (0, None)


def test_a_pool_larger_than_the_gpu_holds_nothing() -> None:
    found = need("64x8192", kv_cache_memory_bytes=70 * GIB)
    assert (found.bound_by, found.replicas) == (("GPU memory",), None)


@pytest.mark.parametrize("text", ["64x8192", "16x32768", "1000x2000"])
@pytest.mark.parametrize("model", ["llama-3.1-8b", "qwen3-32b", "gpt-oss-120b"])
def test_the_smallest_holder_holds_and_half_of_it_does_not(model: str, text: str) -> None:
    demand, spec, gpu = read_demand(text), load_model(model), load_gpu("a100")
    found = smallest_holder(spec, gpu, demand, {})
    assert found is not None
    size = found.tensor_parallel_size
    seats = max(256, demand.num_requests)
    kept = need(text, model, tensor_parallel_size=size, max_num_seqs=seats)
    assert kept.fits
    assert kept.memory_bytes == found.memory_bytes
    try:
        less = need(text, model, tensor_parallel_size=size // 2, max_num_seqs=seats)
    except ValueError:  # half a GPU, or the weights do not fit
        return
    assert "KV pool" in less.bound_by


def test_holders_are_of_one_machine_and_the_smallest_first() -> None:
    demand = read_demand("64x8192")
    found = holders(load_model("llama-3.1-8b"), known_gpus(), demand, {})
    sizes = [holder.tensor_parallel_size for holder in found]
    assert sizes == sorted(sizes)
    assert set(sizes) == {1, 2, 4, 8}
    assert {h.gpu.name for h in found if h.tensor_parallel_size == 2} >= {"a100", "h100-sxm"}
    assert found[0].gpu.total_memory_bytes < 100 * GIB
    assert not holders(load_model("kimi-k2"), [load_gpu("l4")], demand, {})


def test_given_pools_are_left_out_of_the_search() -> None:
    flags = {"num_gpu_blocks_override": 10_000_000}
    found = smallest_holder(
        load_model("llama-3.1-8b"), load_gpu("a100"), read_demand("64x8192"), flags
    )
    assert found is not None
    assert found.tensor_parallel_size == 2


@pytest.mark.parametrize(
    ("model", "gpu", "prompt", "output", "count"),
    [("gpt-oss-20b", "l4", 7000, 1192, 29), ("gemma-3-27b", "a100", 3300, 700, 23)],
)
def test_the_simulated_server_holds_them(
    model: str, gpu: str, prompt: int, output: int, count: int
) -> None:
    """As many as are said to fit run at once and none is preempted; with four more (they do not
    reach their full length together) one waits or is."""
    assert budget(model, gpu).steady_requests_of(prompt + output) == count
    lengths = ["--prompt-tokens", str(prompt), "--output-tokens", str(output)]
    fits, more = (
        loaded(
            *("simulate", "--model", model, "--gpu", gpu, *lengths),
            *("-n", str(number), "--arrival-process", "backlog"),
        )
        for number in (count, count + 4)
    )
    assert (fits["peak_running"], fits["num_preemptions"]) == (count, 0)
    assert more["peak_running"] < count + 4 or more["num_preemptions"] > 0
