"""Vision towers beside the decoder, against published parameter counts."""

from __future__ import annotations

from typing import Any

import pytest

from kvsim.calibration.gpus import load_gpu
from kvsim.calibration.huggingface.towers import tower_parameters
from kvsim.calibration.memory import plan_memory
from kvsim.calibration.models import load_model

SIGLIP = {"num_hidden_layers": 27, "hidden_size": 1152, "intermediate_size": 4304}
PIXTRAL = {
    "num_hidden_layers": 24,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "hidden_act": "silu",
}
QWEN2_VL = {"depth": 32, "embed_dim": 1280, "hidden_size": 3584, "mlp_ratio": 4}


@pytest.mark.parametrize(
    ("vision", "hidden", "millions"),
    [(SIGLIP, 2560, 420), (PIXTRAL, 5120, 439), (QWEN2_VL, 3584, 675)],
)
def test_published_counts(vision: dict[str, Any], hidden: int, millions: float) -> None:
    found = tower_parameters({"vision_config": vision}, hidden)
    assert found / 1e6 == pytest.approx(millions, rel=0.1)


@pytest.mark.parametrize("vision", [None, "siglip", {}, {"hidden_size": 1152}, {"depth": True}])
def test_no_shape_no_tower(vision: object) -> None:
    assert tower_parameters({"vision_config": vision}, 2560) == 0


@pytest.mark.parametrize(
    ("name", "published"), [("llama-4-scout", 108_641_793_536), ("gemma-3-4b", 4_300_079_472)]
)
def test_decoder_and_tower_are_the_published_total(name: str, published: int) -> None:
    model = load_model(name)
    assert model.num_parameters + model.tower_parameters == pytest.approx(published, rel=1e-4)


def test_a_tower_takes_memory_and_no_step() -> None:
    model = load_model("gemma-3-4b")
    weights = plan_memory(model=model, gpu=load_gpu("l4")).lines[0].bytes
    assert weights >= model.weight_bytes + 2 * model.tower_parameters > model.weight_bytes
    assert model.num_parameters < 3.9e9
