"""Layers on the stages of a pipeline, and the memory of the stage that decides, by hand."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from kvsim.calibration.combinations import load_combinations
from kvsim.calibration.gpus import load_gpu
from kvsim.calibration.memory import MemoryBudget, plan_memory
from kvsim.calibration.models import load_model
from kvsim.calibration.speculative import read_speculation
from kvsim.calibration.stages import stage_weight_bytes, stages_of

LLAMA_70B = load_model("llama-3.1-70b")
H, INTERMEDIATE, VOCABULARY, KV = 8192, 28_672, 128_256, 8 * 128
LAYER = 2 * H * H + 2 * H * KV + 3 * H * INTERMEDIATE
"""Parameters of one layer's matrices."""


def budget(model: str, gpu: str = "a100", **flags: Any) -> MemoryBudget:
    return plan_memory(model=load_model(model), gpu=load_gpu(gpu), **flags)


def lines(found: MemoryBudget) -> dict[str, int]:
    return {line.name: line.bytes for line in found.lines}


@pytest.mark.parametrize(
    ("size", "layers"),
    [
        (1, [80]),
        (2, [40, 40]),
        (3, [27, 27, 26]),
        (7, [11, 11, 11, 12, 12, 12, 11]),
        (6, [13, 13, 13, 14, 14, 13]),
        (79, [*[1] * 77, 2, 1]),
        (80, [1] * 80),
    ],
)
def test_layers_of_each_stage(size: int, layers: list[int]) -> None:
    """What is left over goes to the stages before the last, as the engine logs its partition."""
    assert [stage.num_layers for stage in stages_of(LLAMA_70B, size)] == layers


@pytest.mark.parametrize("size", [0, -1, 81])
def test_a_size_that_no_model_has(size: int) -> None:
    with pytest.raises(ValueError, match=rf"pipeline_parallel_size\(={size}\) must be"):
        budget("llama-3.1-70b", pipeline_parallel_size=size)


@pytest.mark.parametrize("stages", [2, 4])
def test_weights_of_a_stage_by_hand(stages: int) -> None:
    """The last stage of Llama 3.1 70B: its layers and the LM head, two bytes a parameter."""
    held = 80 // stages
    norms = -(-(2 * 80 + 1) * H * held // 80)
    expected = 2 * (held * LAYER + norms + VOCABULARY * H)
    last = stages_of(LLAMA_70B, stages)[-1]
    assert stage_weight_bytes(LLAMA_70B, last) == pytest.approx(expected, rel=1e-6)
    found = lines(budget("llama-3.1-70b", pipeline_parallel_size=stages))
    assert found["weights"] == stage_weight_bytes(LLAMA_70B, last)


def test_stages_hold_the_whole_model() -> None:
    """Once each; a tied embedding twice."""
    tied = load_model("qwen3-0.6b")
    for model, copies in ((LLAMA_70B, 0), (tied, 1)):
        total = sum(stage_weight_bytes(model, stage) for stage in stages_of(model, 4))
        expected = model.weight_bytes + copies * model.bytes_of("embedding")
        assert expected <= total <= expected + 4
    assert tied.tied_embeddings


@pytest.mark.parametrize(("stages", "layers"), [(2, 40), (4, 20)])
def test_pool_of_a_stage_by_hand(stages: int, layers: int) -> None:
    """KV of the stage's layers only; half the layers take more than twice the blocks."""
    found = budget("llama-3.1-70b", pipeline_parallel_size=stages)
    assert found.kv_bytes_per_token == layers * 2 * KV * 2
    assert found.block_bytes == 16 * found.kv_bytes_per_token
    assert found.num_gpu_blocks == found.kv_cache_bytes // found.block_bytes
    assert sum(lines(found).values()) == found.total_bytes
    head = f"stage {stages} of {stages} ({layers} of 80 layers and the LM head)"
    assert found.notes[0] == f"The pool is that of {head}, which holds the fewest blocks."


def test_tensor_and_pipeline_parallel() -> None:
    """2 x 2 GPUs hold what 4 do; a stage records the graphs of its own layers only."""
    both = budget("llama-3.1-70b", tensor_parallel_size=2, pipeline_parallel_size=2)
    tensor = budget("llama-3.1-70b", tensor_parallel_size=4)
    assert both.kv_bytes_per_token == tensor.kv_bytes_per_token == 80 * 2 * 2 * 128 * 2
    assert lines(both)["nccl"] == lines(tensor)["nccl"]
    assert 2 * lines(both)["cuda_graphs"] == lines(tensor)["cuda_graphs"]
    assert both.num_gpu_blocks == pytest.approx(tensor.num_gpu_blocks, rel=0.03)


@pytest.mark.parametrize(
    ("model", "least"),
    [("llama-3.1-8b", 2), ("qwen3.5-27b", 2), ("gemma-3-27b", 1.1), ("gpt-oss-20b", 1.4)],
)
def test_more_stages_hold_more(model: str, least: float) -> None:
    """Twice as many hold twice the blocks, or less where one of few layers is one too many."""
    sizes = (1, 2, 4, 8)
    found = [budget(model, pipeline_parallel_size=size).num_gpu_blocks for size in sizes]
    assert all(least * a < b for a, b in pairwise(found))


def test_the_fullest_stage_decides() -> None:
    """Of 27, 27 and 26 layers the last has the LM head and still more blocks than the first."""
    found = budget("llama-3.1-70b", pipeline_parallel_size=3)
    assert "stage 1 of 3 (27 of 80 layers and the embedding)" in found.notes[0]
    last = budget("llama-3.1-70b", pipeline_parallel_size=2)
    assert lines(found)["activation_peak"] < lines(last)["activation_peak"]  # it does not sample


def test_groups_are_made_over_all_stages() -> None:
    """Gemma 3: seven tables with and without a pipeline, a stage holds a share of each."""
    whole, half = (budget("gemma-3-27b", "h200", pipeline_parallel_size=p) for p in (1, 2))
    assert [group.kind for group in whole.kv_groups] == [group.kind for group in half.kv_groups]
    assert [group.num_layers for group in whole.kv_groups] == [9, 9, 9, 9, 8, 8, 10]
    assert [group.num_layers for group in half.kv_groups] == [5, 5, 5, 5, 4, 4, 5]
    assert 2 * half.block_bytes == whole.block_bytes
    assert half.max_in_flight_tokens * 2 == whole.max_in_flight_tokens * 3


def test_weights_that_do_not_fit_say_whose() -> None:
    with pytest.raises(ValueError, match=r"^Weights of stage 1 of 2 \(40 of 80 layers and the emb"):
        budget("llama-3.1-70b", "l4", pipeline_parallel_size=2)


def test_a_drafter_is_not_planned() -> None:
    drafter = read_speculation('{"method": "ngram", "num_speculative_tokens": 3}', LLAMA_70B)
    with pytest.raises(ValueError, match=r"pipeline_parallel_size\(=2\) with a speculative_config"):
        budget("llama-3.1-70b", pipeline_parallel_size=2, speculation=drafter)


def test_gpus_of_a_combination() -> None:
    hardware = {"gpu": ("a100",), "model": ("llama-3.1-70b",), "price": None}
    flags = {
        "kv_cache_dtype": ("auto",),
        "tensor_parallel_size": (2,),
        "pipeline_parallel_size": 4,
    }
    (found,) = load_combinations(hardware, flags)
    assert found.budget is not None
    assert (found.num_gpus, found.weight_bytes) == (8, lines(found.budget)["weights"])
