"""Why there is no card to measure, in one sentence; which card it is."""

from __future__ import annotations

import sys

import pytest
import torch

from kvsim.calibration.measure.opening import gpu_name, open_card

H200_BYTES, A100_BYTES = 150_754_820_096, 85_094_825_984


@pytest.mark.parametrize(
    ("device", "total_bytes", "name"),
    [
        ("NVIDIA H200", H200_BYTES, "h200"),
        ("NVIDIA A100-SXM4-80GB", A100_BYTES, "a100"),
        ("NVIDIA H100 80GB HBM3", 85_030_000_000, "h100-sxm"),
        ("NVIDIA L4", 23_659_151_360, "l4"),
    ],
)
def test_a_card_is_recognised_by_name_and_memory(device: str, total_bytes: int, name: str) -> None:
    assert gpu_name(device, total_bytes, None) == name
    assert gpu_name(device, total_bytes, name) == name


def test_a_slice_of_a_card_is_not_the_card() -> None:
    with pytest.raises(ValueError, match=r"gpu\(='NVIDIA H200 MIG 1g.18gb', 16\.0 GiB\) is not"):
        gpu_name("NVIDIA H200 MIG 1g.18gb", 16 << 30, None)


def test_an_unknown_card_takes_the_name_that_is_given() -> None:
    with pytest.raises(ValueError, match=r"is not known: name it with --gpu"):
        gpu_name("NVIDIA X999", 1 << 34, None)
    assert gpu_name("NVIDIA X999", 1 << 34, "l4") == "l4"
    with pytest.raises(ValueError, match=r"gpu\(='x999'\) is unknown"):
        gpu_name("NVIDIA X999", 1 << 34, "x999")


def test_a_card_is_not_called_by_another_ones_name() -> None:
    with pytest.raises(ValueError, match=r"gpu\(='a100'\) is not this card: it is NVIDIA H200"):
        gpu_name("NVIDIA H200", H200_BYTES, "a100")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_what_to_do_instead() -> None:
    sentence = r"^no NVIDIA GPU here: run this on the card, or use --from, --refit, or --step-cost"
    with pytest.raises(ValueError, match=sentence):
        open_card(None, seed=0)


@pytest.mark.parametrize("module", ["torch", "triton"])
def test_a_missing_library_names_the_extra(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setitem(sys.modules, module, None)
    sentence = rf"^{module} is not installed, and measuring needs it: pip install 'kvsim\[gpu\]'\.$"
    with pytest.raises(ValueError, match=sentence):
        open_card(None, seed=0)
