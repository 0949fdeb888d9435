"""Memory beside weights and pool: each term against figures worked out by hand, and its limits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kvsim.calibration import footprint
from kvsim.calibration.engines import load_engine
from kvsim.calibration.gpus import GIB, load_gpu
from kvsim.calibration.models import load_model
from kvsim.calibration.overhead import overhead_lines
from kvsim.calibration.server_flags import ServerFlags

MIB = 1 << 20


def server(
    model: str = "llama-3.1-8b", gpu: str = "h100-sxm", engine: str = "0.19", **flags: Any
) -> ServerFlags:
    defaults: dict[str, Any] = {
        "block_size": 16,
        "gpu_memory_utilization": 0.9,
        "kv_cache_dtype": "bfloat16",
        "tensor_parallel_size": 1,
        "max_num_seqs": 1024,
        "max_num_batched_tokens": 8192,
        "max_model_len": 8192,
        "num_gpu_blocks_override": None,
        "kv_cache_memory_bytes": None,
        "non_kv_memory_bytes": None,
        "enforce_eager": False,
        "hybrid_kv_cache": True,
        "async_scheduling": True,
    }
    return ServerFlags(
        model=load_model(model),
        gpu=load_gpu(gpu),
        engine=load_engine(engine),
        **{**defaults, **flags},
    )


def test_the_sampler_of_every_seat() -> None:
    """1024 rows of 128,256 logits at 14 bytes, 132 rows of fp32, hidden states."""
    found = footprint.sampler_bytes(server())
    assert found == 1024 * 128_256 * 14 + 132 * 128_256 * 4 + (8192 + 2048) * 4096 * 2


def test_seats_beyond_the_batch_are_not_sampled() -> None:
    fewer = server(max_num_batched_tokens=256)
    assert footprint.sampler_bytes(fewer) < footprint.sampler_bytes(server()) / 3


def test_the_widest_layer() -> None:
    """Gate, up and their product beside four rows of the hidden size."""
    model = load_model("llama-2-7b")
    assert footprint.forward_bytes(model, 8192) == 8192 * 2 * (4 * 4096 + 3 * 11_008)
    assert footprint.forward_bytes(model, 8192, 2) == 8192 * 2 * (4 * 4096 + 3 * 11_008 // 2)


def test_the_compiler_copies_the_embedding_on_one_gpu_only() -> None:
    small = {"max_num_seqs": 256, "max_num_batched_tokens": 2048}
    table = 128_256 * 4096 * 2
    assert footprint.embedding_copy_bytes(server(**small)) == table
    assert footprint.compile_bytes(server(**small)) == table + 2 * 2048 * 4096 * 2
    assert footprint.compile_bytes(server(enforce_eager=True)) == 0
    assert footprint.compile_bytes(server(tensor_parallel_size=2)) == 0
    assert footprint.compile_bytes(server("gemma-3-4b")) == 0
    assert footprint.compile_bytes(server(engine="0.11")) == 0


def test_expert_buffers() -> None:
    """8192 tokens, 8 experts each, 2048 out and 2048 between: as the log of 0.19 says."""
    found = footprint.expert_workspace_bytes(server("qwen3-30b-a3b"))
    assert found == 8192 * 8 * (2048 + 2048) * 2
    assert footprint.expert_workspace_bytes(server("gpt-oss-20b")) == 0
    assert footprint.expert_workspace_bytes(server("llama-3.1-8b")) == 0
    assert footprint.expert_workspace_bytes(server("mixtral-8x7b", engine="0.11")) == 0


def test_runner_v2_keeps_counters() -> None:
    assert footprint.sampler_state_bytes(server(engine="0.33")) == 1024 * 128_256 * 4.25
    assert footprint.sampler_state_bytes(server()) == 0


def test_graphs_grow_with_captured_sizes() -> None:
    full = footprint.graph_bytes(server(engine="0.33"))
    assert full == 51 * 32 * footprint.V2_GRAPH_BYTES_PER_LAYER[True]
    assert footprint.graph_bytes(server(engine="0.33", max_num_seqs=8)) < full / 6
    assert footprint.graph_bytes(server(engine="0.33", enforce_eager=True)) == 0
    assert footprint.graph_bytes(server("llama-3.1-8b", "b200", "0.33")) > 1.5 * full


def test_a_latent_layer_has_twice_the_graph() -> None:
    """27 layers of DeepSeek-V2-Lite in 51 graphs of whole steps."""
    latent = server("deepseek-v2-lite", engine="0.33")
    per_layer = footprint.V2_GRAPH_BYTES_PER_LAYER[True]
    assert footprint.graph_bytes(latent) == 51 * 2 * 27 * per_layer


def test_shards_of_logits_are_gathered() -> None:
    """2 GPUs: 5 bytes a logit for 2 (half a shard, gathered, made contiguous)."""
    one, two = (server(engine="0.29", tensor_parallel_size=size) for size in (1, 2))
    more = footprint.sampler_bytes(two) - footprint.sampler_bytes(one)
    assert more == 1024 * 128_256 * (5 - 2)


def test_images_wait_in_the_encoders_cache() -> None:
    """Two hidden states a batched token."""
    text = server("gemma-3-27b")
    assert text.model.multimodal
    blind = replace(text, model=replace(text.model, multimodal=False))
    found = footprint.steady_peak_bytes(text) - footprint.steady_peak_bytes(blind)
    assert found == 2 * 8192 * text.model.hidden_size * 2


@pytest.mark.parametrize(
    ("gpu", "engine", "size", "gib"),
    [
        ("h100-sxm", "0.19", 1, 0.0),
        ("h100-sxm", "0.19", 2, 1.82),
        ("h100-sxm", "0.19", 8, 1.92),
        ("a100", "0.19", 4, 0.0),
        ("rtx-pro-6000", "0.33", 4, 0.0),
        ("h100-sxm", "0.11", 2, 342 / 1024),
    ],
)
def test_collectives(gpu: str, engine: str, size: int, gib: float) -> None:
    found = footprint.collective_bytes(server(gpu=gpu, engine=engine, tensor_parallel_size=size))
    assert found == pytest.approx(gib * GIB, abs=MIB)


@pytest.mark.parametrize("engine", ["0.11", "0.19", "0.24", "0.29", "0.33"])
@pytest.mark.parametrize("model", ["llama-3.1-8b", "deepseek-v2-lite", "gemma-3-27b", "opt-13b"])
def test_lines_lie_in_their_ranges(model: str, engine: str) -> None:
    lines = overhead_lines(server(model, engine=engine))
    assert [line.name for line in lines] == ["activation_peak", "runtime", "nccl", "cuda_graphs"]
    for line in lines:
        assert 0 <= line.low_bytes <= line.bytes <= line.high_bytes
        assert line.source.startswith(f"vllm=={engine}: ")


def test_a_segment_may_be_held_by_some_versions() -> None:
    one = overhead_lines(server(engine="0.29"))[1]
    other = overhead_lines(replace(server(engine="0.29"), engine=load_engine("0.33")))[1]
    assert one.high_bytes - other.high_bytes == 128_256 * 4096 * 2
