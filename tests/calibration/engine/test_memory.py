"""The profile of an engine's memory, with a meter whose readings are known."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from kvsim.calibration.engine.graphs import Replay
from kvsim.calibration.engine.memory import MeasuredMemory, measure_memory
from kvsim.calibration.engine.runner import EngineSize
from kvsim.calibration.engine.shape import TOY

GB = 10**9


@dataclass
class FakeMeter:
    """A card of 80 GB: 1 GB of context, 16 of weights, a peak of 2 more, 0.5 for libraries."""

    stage: str = "empty"

    def total(self) -> int:
        return 80 * GB

    def allocated(self) -> int:
        found = 0 if self.stage == "empty" else 16 * GB
        self.stage = "weights" if self.stage == "empty" else self.stage
        return found

    def begin_peak(self) -> None:
        assert self.stage == "weights"
        self.stage = "step"

    def peak(self) -> int:
        return 18 * GB

    def give_back(self) -> None:
        self.stage = "profiled" if self.stage == "step" else self.stage

    def reserved(self) -> int:
        assert self.stage == "profiled", "what the step held is given back before"
        return 16 * GB

    def taken(self) -> int:
        return 17 * GB + GB // 2 + (GB // 4 if self.stage == "captured" else 0)


def test_each_line_is_read_when_it_is_there() -> None:
    meter = FakeMeter()
    captured = []

    def capture(step: Replay) -> Replay:
        captured.append(step)
        meter.stage = "captured"
        return step

    size = EngineSize(
        num_gpu_blocks=10_000, max_model_len=16, max_num_seqs=2, max_num_batched_tokens=5
    )
    found = measure_memory(TOY, size, device=torch.device("cpu"), meter=meter, capture=capture)
    assert found == MeasuredMemory(
        total_bytes=80 * GB,
        weight_bytes=16 * GB,
        activation_bytes=2 * GB,
        runtime_bytes=GB + GB // 2,
        graph_bytes=GB // 4,
    )
    assert len(captured) == 2, "for one row and for two"


def test_the_rest_is_the_pool() -> None:
    measured = MeasuredMemory(
        total_bytes=100, weight_bytes=40, activation_bytes=5, runtime_bytes=4, graph_bytes=1
    )
    assert measured.kv_cache_bytes(0.9) == 40
    assert measured.kv_cache_bytes(0.901) == 41, "what is requested is rounded up"
    assert measured.num_gpu_blocks(0.9, 9) == 4
    assert measured.num_gpu_blocks(0.4, 9) == 0
