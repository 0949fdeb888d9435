"""Engine versions: names, defaults, what each takes from the requested memory."""

from __future__ import annotations

import pytest

from kvsim.calibration.engine_defaults import batch_defaults
from kvsim.calibration.engines import ENGINES, LATEST, engine_of_release, load_engine
from kvsim.calibration.gpus import load_gpu
from kvsim.calibration.memory import MemoryBudget, plan_memory
from kvsim.calibration.models import load_model


def budget(engine: str, gpu: str = "h100-sxm", **flags: int) -> MemoryBudget:
    return plan_memory(model=load_model("llama-3.1-8b"), gpu=load_gpu(gpu), engine=engine, **flags)


@pytest.mark.parametrize("name", ["vllm==0.19", "0.19", "v0.19.0", " VLLM==0.19.2 "])
def test_a_patch_number_is_forgiven(name: str) -> None:
    assert load_engine(name).name == "vllm==0.19"


@pytest.mark.parametrize("name", ["vllm==0.20", "sglang==0.5", "", "vllm", "vllm==0.19.x"])
def test_unknown_versions_list_the_known_ones(name: str) -> None:
    with pytest.raises(ValueError, match=r"engine\(=.*\) is unknown; known: .*vllm==0\.33\.$"):
        load_engine(name)


@pytest.mark.parametrize(
    ("release", "name"),
    [
        ("0.6.3", "0.11"),
        ("0.11.0", "0.11"),
        ("0.17.0", "0.19"),
        ("0.19.0", "0.19"),
        ("0.21.0", "0.24"),
        ("0.28.1rc1.dev50+gabc", "0.24"),
        ("0.31.0", "0.29"),
        ("0.33.0", "0.33"),
        ("v0.40.1", "0.33"),
        ("1.0.0", "0.33"),
        ("0.1.dev17424+g8f1c5b2", "0.33"),
    ],
)
def test_releases_between_take_the_value_that_stands_for_them(release: str, name: str) -> None:
    assert engine_of_release(release) is ENGINES[f"vllm=={name}"]


def test_a_release_needs_a_number() -> None:
    with pytest.raises(ValueError, match=r"version\(='dev'\) is no release number of vLLM\."):
        engine_of_release("dev")


def test_the_two_conventions_of_utilisation() -> None:
    assert budget("vllm==0.19").gpu_memory_utilization == 0.90
    assert budget("vllm==0.33").gpu_memory_utilization == 0.92
    assert budget(LATEST) == plan_memory(model=load_model("llama-3.1-8b"), gpu=load_gpu("h100-sxm"))


@pytest.mark.parametrize("engine", ["vllm==0.19", "vllm==0.33"])
def test_graphs_are_taken_from_the_pool_since_0_21(engine: str) -> None:
    found = budget(engine)
    lines = {line.name: line.bytes for line in found.lines}
    inside = sum(v for k, v in lines.items() if k not in ("cuda_graphs", "outside"))
    counted = lines["cuda_graphs"] if engine == "vllm==0.33" else 0
    assert inside + counted == found.requested_bytes


def test_batch_limits_of_large_cards_came_later() -> None:
    gpu = load_gpu("b200")
    assert batch_defaults(gpu, engine=load_engine("vllm==0.19")) == (8192, 1024)
    assert batch_defaults(gpu, engine=load_engine("vllm==0.33")) == (16_384, 1024)
