"""What rounding costs: worked examples from logs."""

from __future__ import annotations

import pytest

from kvsim.calibration.allocation import lost_bytes
from kvsim.calibration.models import load_model

MIB = 1 << 20


@pytest.mark.parametrize(
    ("model", "size", "lost_mib"),
    [
        ("llama-3.1-8b", 1, 0),
        ("qwen2.5-72b", 2, 80),  # 231 MiB down
        ("qwen2.5-72b", 4, 120),  # 231 and 115.5 MiB
        ("qwen3-32b", 2, 64),  # 125 MiB down
        ("phi-4", 1, 80),  # 75 MiB q, k, v and 175 MiB down
        ("qwen2.5-7b", 1, 56),  # 31.5, 129.5 and 259 MiB; 24.5 MiB leaves 1.5 to others
    ],
)
def test_large_tensors_are_rounded(model: str, size: int, lost_mib: int) -> None:
    assert lost_bytes(load_model(model), size) == lost_mib * MIB


@pytest.mark.parametrize("model", ["deepseek-v3", "qwen3.5-27b", "gpt-oss-20b", "opt-125m"])
def test_other_shapes_are_read(model: str) -> None:
    assert 0 <= lost_bytes(load_model(model)) < 2**30
