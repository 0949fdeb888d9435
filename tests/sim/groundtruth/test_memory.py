"""A card's memory as measured, beside the budget; the card is invented."""

from __future__ import annotations

import json

import pytest
import torch

from kvsim.calibration.engine import facts, memory
from kvsim.calibration.engine.memory import MeasuredMemory
from kvsim.calibration.engine.shape import SHAPES
from kvsim.calibration.gpus import load_gpu
from kvsim.reports.groundtruth_memory import memory_sheet
from kvsim.sim.deployment import Deployment
from kvsim.sim.groundtruth.memory import compare_memory
from kvsim.sim.groundtruth.serve import EngineRun
from support.command import run

GPU = load_gpu("h100-sxm")
RUN = EngineRun(
    shape=SHAPES["llama-3-8b"], deployment=Deployment(max_model_len=8192), num_gpu_blocks=2
)
MEASURED = MeasuredMemory(
    total_bytes=GPU.total_memory_bytes,
    weight_bytes=RUN.shape.weight_bytes,
    activation_bytes=1 << 30,
    runtime_bytes=1 << 29,
    graph_bytes=1 << 28,
)


def test_the_weights_of_the_shape_are_those_of_the_catalogue() -> None:
    for shape in SHAPES.values():
        run = EngineRun(shape=shape, deployment=RUN.deployment, num_gpu_blocks=2)
        weights = compare_memory(MEASURED, run, GPU).lines[0]
        assert weights.predicted_bytes == shape.weight_bytes, shape.name


def test_the_pool_decides() -> None:
    found = compare_memory(MEASURED, RUN, GPU)
    assert found.lines[0].error == 0
    pool = found.lines[-1]
    assert pool.measured_bytes == MEASURED.kv_cache_bytes(0.92)
    assert found.met
    assert memory_sheet(found).rows[-1][0] == "KV pool"
    more = MeasuredMemory(
        total_bytes=GPU.total_memory_bytes,
        weight_bytes=RUN.shape.weight_bytes,
        activation_bytes=5 << 30,
        runtime_bytes=1 << 29,
        graph_bytes=1 << 28,
    )
    assert not compare_memory(more, RUN, GPU).met, "4 GiB of about 56 are more than 2 %"


def test_the_command_measures_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (1, GPU.total_memory_bytes))
    monkeypatch.setattr(facts, "hardware", lambda device: {"name": "NVIDIA H100 80GB HBM3"})
    monkeypatch.setattr(memory, "measure_memory", lambda *_, **__: MEASURED)
    done = run("groundtruth", "memory", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == compare_memory(MEASURED, RUN, GPU).to_json()
    assert "goal 2 %: held." in run("groundtruth", "memory").stdout
    monkeypatch.setattr(facts, "hardware", lambda device: {"name": "Voodoo 2"})
    refused = run("groundtruth", "memory")
    assert refused.exit_code == 2
    assert refused.stderr == "Error: gpu(='Voodoo 2') is not recognised: name it by --gpu.\n"


def test_without_a_card_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refused = run("groundtruth", "memory")
    assert refused.exit_code == 2
    assert refused.stderr == "Error: device(=cuda) must be an NVIDIA GPU, and there is none.\n"
