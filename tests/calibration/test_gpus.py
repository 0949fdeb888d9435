"""GPUs: names, the traps of units and of sparse figures, prices, files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kvsim.calibration.gpus import GIB, known_gpus, load_gpu

REQUIRED = [
    "a100",
    "a100-pcie",
    "a100-40gb",
    "h100-sxm",
    "h100-pcie",
    "h200",
    "b200",
    "l4",
    "l40s",
    "a10g",
    "rtx-4090",
    "rtx-5090",
    "rtx-pro-6000",
    "mi300x",
]


@pytest.mark.parametrize("name", REQUIRED)
def test_known(name: str) -> None:
    gpu = load_gpu(name)
    assert gpu.name == name
    assert {field for field, _ in gpu.sources} >= {"total_memory_bytes", "flops_per_s"}


@pytest.mark.parametrize("spelling", ["A100", "a100-sxm", "A100_SXM_80GB", "a100 80gb"])
def test_spellings(spelling: str) -> None:
    assert load_gpu(spelling).name == "a100"


def test_unknown_lists_near_matches() -> None:
    with pytest.raises(ValueError, match=r"gpu\(='h100'\) is unknown; near: .*h100-sxm") as error:
        load_gpu("h100")
    assert "\n" not in str(error.value)


def test_dense_flops_only() -> None:
    """The sparse figures, twice as large, are in public tools by mistake."""
    assert load_gpu("l40s").flops_of("fp8") == 733e12  # not 1466
    assert load_gpu("h100-sxm").flops_of("bf16") == 989e12  # not 1979
    assert load_gpu("a100").flops_of("bf16") == 312e12  # not 624
    assert load_gpu("h100-sxm").memory_bandwidth_bytes_per_s == 3350e9  # not 3072
    assert load_gpu("a100").flops_of("fp8") is None
    for gpu in known_gpus():
        fp8 = gpu.flops_of("fp8")
        assert fp8 is None or fp8 / (gpu.flops_of("bf16") or 1) == pytest.approx(2, rel=0.03)


def test_memory_is_what_the_framework_sees() -> None:
    """Below the label even in GiB: 80 GB cards show 79.1 GiB, a 4090 23.5 and not 24."""
    assert load_gpu("a100").total_memory_bytes == pytest.approx(79.2 * GIB, rel=0.001)
    assert load_gpu("rtx-4090").total_memory_bytes == 25_250_627_584
    assert load_gpu("rtx-pro-6000").total_memory_bytes < 97_887 << 20
    assert load_gpu("h200").total_memory_bytes < 143_771 << 20


def test_prices_have_a_date_and_a_source() -> None:
    for gpu in known_gpus():
        known = gpu.price_usd_per_hour is not None
        assert (gpu.price_date is not None) == (gpu.price_source is not None) == known, gpu.name
    given = load_gpu("l4", price_usd_per_hour=0.5)
    assert (given.price_usd_per_hour, given.price_source) == (0.5, "given by the user")
    with pytest.raises(ValueError, match=r"price_usd_per_hour\(=-1\) must be >= 0."):
        load_gpu("l4", price_usd_per_hour=-1)


def write(folder: Path, values: object) -> str:
    file = folder / "card.json"
    file.write_text(json.dumps(values))
    return str(file)


FULL = {
    "generation": "hopper",
    "total_memory_bytes": 90e9,
    "memory_bandwidth_bytes_per_s": 4e12,
    "flops_per_s": {"bf16": 1e15},
    "pcie_bytes_per_s": 64e9,
}


def test_file(tmp_path: Path) -> None:
    gpu = load_gpu(write(tmp_path, FULL))
    assert gpu.name == "card"
    assert gpu.total_memory_bytes == 90_000_000_000
    assert dict(gpu.sources)["generation"] == "read in card.json"


def test_file_like_another(tmp_path: Path) -> None:
    gpu = load_gpu(write(tmp_path, {"like": "H100 SXM", "total_memory_bytes": 94 * GIB}))
    assert gpu.total_memory_bytes == 94 * GIB
    assert gpu.flops_of("bf16") == 989e12
    assert dict(gpu.sources)["flops_per_s"].startswith("aiconfigurator")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"total_memory_bytes": 0}, r"total_memory_bytes\(=0\) must be > 0."),
        ({"total_memory_bytes": "80GB"}, r"total_memory_bytes\(='80GB'\) must be a number."),
        ({"flops_per_s": {"fp8": 1e15}}, "must have a bf16 figure"),
        ({"flops_per_s": {"bf16": "fast"}}, "must be an object of numbers"),
        ({"flops_per_s": 3}, "must be an object of numbers"),
        ({"memory": 3}, "memory is no field of a GPU."),
        ({"like": "h100"}, "like.*is unknown; near"),
        ({"price_usd_per_hour": True}, "must be a number"),
    ],
)
def test_bad_file_is_one_sentence(tmp_path: Path, change: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as error:
        load_gpu(write(tmp_path, {**FULL, **change}))
    assert "\n" not in str(error.value)


def test_missing_field(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no flops_per_s"):
        load_gpu(write(tmp_path, {k: v for k, v in FULL.items() if k != "flops_per_s"}))
