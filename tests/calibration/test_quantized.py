"""``--quantization``: linear weights in another format, the rest as it is."""

from __future__ import annotations

import pytest

from kvsim.calibration.models import load_model
from kvsim.calibration.quantized import quantized
from kvsim.calibration.weight_formats import WEIGHT_FORMATS, grouped_bits


@pytest.mark.parametrize(
    ("method", "bits"),
    [
        ("fp8", 8),
        ("int8", 8),
        ("awq", 4 + 20 / 128),
        ("gptq", 4 + 20 / 128),
        ("mxfp4", 4.25),
        ("nvfp4", 4.5),
    ],
)
def test_bytes_of_a_dense_model(method: str, bits: float) -> None:
    model = load_model("llama-3.1-8b")
    linear = model.parameters_of("attention", "mlp")
    found = quantized(model, method)
    assert found.weight_bytes == pytest.approx(
        2 * (model.num_parameters - linear) + linear * bits / 8, abs=8
    )
    assert found.num_parameters == model.num_parameters
    assert found.layers == model.layers
    assert method in found.source


def test_equals_the_published_checkpoint() -> None:
    base = load_model("llama-3.1-8b")
    assert quantized(base, "awq").weights == load_model("llama-3.1-8b-awq").weights
    assert quantized(base, "INT8").weights == load_model("llama-3.1-8b-w8a8").weights
    assert quantized(base, "nvfp4").weights == load_model("llama-3.1-8b-nvfp4").weights


def test_mxfp4_of_a_mixture_is_for_its_experts() -> None:
    found = quantized(load_model("mixtral-8x7b"), "mxfp4")
    assert {g.role for g in found.weights if g.bits_per_parameter < 16} == {"experts"}


def test_a_checkpoint_keeps_its_own_format() -> None:
    model = load_model("deepseek-v3")
    assert quantized(model, "fp8") is model
    assert quantized(model, None) is model
    with pytest.raises(ValueError, match=r"quantization\(='awq'\) must match the checkpoint"):
        quantized(model, "awq")


def test_unknown_format() -> None:
    with pytest.raises(ValueError, match=r"quantization\(='fp9'\) is unknown; near: fp8"):
        quantized(load_model("llama-3.1-8b"), "fp9")


def test_groups() -> None:
    assert grouped_bits(4, 32, zero_points=False) == 4.5
    assert grouped_bits(8, -1) == 8
    assert set(WEIGHT_FORMATS) == {"fp8", "int8", "awq", "gptq", "mxfp4", "nvfp4"}
