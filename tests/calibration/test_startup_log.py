"""Start-up logs in the wording of several versions.

The samples in ``logs`` were written for these tests; their figures of memory are those of rows of
``startups.json`` and of the anchors, what stands around them (times, process numbers, the second
rank) is made up.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kvsim.calibration.device_names import device_of, devices_of_size
from kvsim.calibration.gpu_catalogue import GPUS
from kvsim.calibration.gpus import GIB
from kvsim.calibration.startup_log import StartupLog, read_startup_log

LOGS = Path(__file__).parent / "logs"


def read(name: str) -> StartupLog:
    return read_startup_log(LOGS / name)


def gib(log: StartupLog) -> dict[str, float]:
    return {name: round(value / GIB, 2) for name, value in log.amounts.items()}


SAMPLES: list[tuple[str, str, str, dict[str, float]]] = [
    (
        "vllm-0.4-blocks.log",
        "0.4.1",
        "meta-llama/Meta-Llama-3-8B",
        {"weights": 14.96},
    ),
    (
        "vllm-0.7-v0.log",
        "0.7.1",
        "NousResearch/Meta-Llama-3.1-8B",
        {
            "weights": 14.99,
            "activation_peak": 1.19,
            "non_torch": 0.12,
            "kv_cache": 54.93,
            "requested": 71.22,
            "total": 79.14,
        },
    ),
    (
        "vllm-0.11-h100-tp2.log",
        "0.11.0",
        "Qwen/Qwen3-32B",
        {
            "weights": 30.59,
            "activation_peak": 5.64,
            "non_torch": 0.54,
            "graphs": -0.33,
            "kv_cache": 34.49,
            "requested": 71.26,
            "total": 79.18,
        },
    ),
    (
        "vllm-0.19-h100.log",
        "0.19.0",
        "meta-llama/Llama-3.1-8B-Instruct",
        {
            "weights": 14.99,
            "activation_peak": 1.89,
            "non_torch": 0.25,
            "graphs_estimated": 0.84,
            "graphs": 0.91,
            "kv_cache": 58.11,
            "requested": 75.23,
            "total": 79.19,
        },
    ),
    (
        "vllm-0.31-a100.log",
        "0.31.0",
        "meta-llama/Llama-3.1-8B",
        {
            "weights": 15.0,
            "activation_peak": 1.01,
            "consumed": 15.26,
            "graphs_estimated": 0.43,
            "graphs": 0.23,
            "kv_cache": 56.21,
            "requested": 72.91,
            "total": 79.25,
        },
    ),
]


@pytest.mark.parametrize(("name", "release", "model", "amounts"), SAMPLES)
def test_amounts(name: str, release: str, model: str, amounts: dict[str, float]) -> None:
    log = read(name)
    assert (log.release, log.model) == (release, model)
    assert gib(log) == amounts


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        (
            "vllm-0.19-h100.log",
            {
                "tensor_parallel_size": 1,
                "gpu_memory_utilization": 0.95,
                "max_model_len": 8192,
                "kv_cache_dtype": "auto",
                "max_num_seqs": 1024,
                "max_num_batched_tokens": 8192,
            },
        ),
        (
            "vllm-0.11-h100-tp2.log",
            {
                "tensor_parallel_size": 2,
                "block_size": 128,
                "gpu_memory_utilization": 0.9,
                "max_model_len": 16000,
                "kv_cache_dtype": "auto",
            },
        ),
        (
            "vllm-0.4-blocks.log",
            {"tensor_parallel_size": 1, "max_model_len": 8192, "kv_cache_dtype": "auto"},
        ),
    ],
)
def test_flags(name: str, flags: dict[str, Any]) -> None:
    assert read(name).flags == flags


def test_counts_have_thousands_separators() -> None:
    assert read("vllm-0.19-h100.log").kv_tokens == 476_016
    assert read("vllm-0.31-a100.log").kv_tokens == 460_496
    assert read("vllm-0.4-blocks.log").num_gpu_blocks == 27_793


def test_runtime_is_logged_or_left_by_the_weights() -> None:
    logged, left = read("vllm-0.19-h100.log"), read("vllm-0.31-a100.log")
    assert logged.runtime_bytes == round(0.25 * GIB)
    assert left.runtime_bytes == pytest.approx(0.26 * GIB, abs=2)
    assert read("vllm-0.4-blocks.log").runtime_bytes is None


def test_graphs_measured_below_nothing_are_no_measure() -> None:
    assert read("vllm-0.11-h100-tp2.log").graph_bytes is None
    assert read("vllm-0.19-h100.log").graph_bytes == round(0.84 * GIB)


@pytest.mark.parametrize(
    "text", ["", "INFO: Application startup complete.\n", "GPU KV cache usage: 0.0%\n" * 50]
)
def test_a_log_without_memory_lines(tmp_path: Path, text: str) -> None:
    path = tmp_path / "vllm.log"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"vllm\.log has no memory lines of a vLLM start-up \("):
        read_startup_log(path)


def test_a_log_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.log cannot be read: no such file"):
        read_startup_log(tmp_path / "none.log")


def test_flags_of_a_command_line_and_colours(tmp_path: Path) -> None:
    path = tmp_path / "vllm.log"
    path.write_bytes(
        b"$ vllm serve Qwen/Qwen3-8B --max-num-seqs 64 --gpu-memory-utilization=0.85 "
        b"--num-gpu-blocks-override 512\n\xff\n"
        b"\x1b[36m(EngineCore pid=7)\x1b[0m INFO engine with config: model='Qwen/Qwen3-8B', "
        b"quantization=fp8, enforce_eager=True, kv_cache_dtype=fp8_e4m3\n"
        b"\x1b[36m(EngineCore pid=7)\x1b[0m INFO Available KV cache memory: 5.00 GiB\n"
    )
    log = read_startup_log(path)
    assert log.flags == {
        "max_num_seqs": 64,
        "num_gpu_blocks_override": 512,
        "gpu_memory_utilization": 0.85,
        "kv_cache_dtype": "fp8_e4m3",
        "enforce_eager": True,
    }
    assert (log.quantization, log.release) == ("fp8", None)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("config file not found at E=64,device_name=NVIDIA_H100_80GB_HBM3.json", "h100-sxm"),
        ("| 0  NVIDIA A100-SXM4-80GB    On |", "a100"),
        ("GPU: NVIDIA A100 80GB PCIe", "a100-pcie"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("NVIDIA L40S, NVIDIA L4", "l40s"),
        ("device_name=NVIDIA_RTX_PRO_6000_Blackwell_Server_Edition", "rtx-pro-6000"),
        ("NVIDIA H200", "h200"),
        ("AMD Instinct MI300X OAM", "mi300x"),
        ("an A100 of nobody", None),
        ("NVIDIA T400", None),
    ],
)
def test_cards_by_name(line: str, name: str | None) -> None:
    assert device_of(f"first line\n{line}\nlast") == name


def test_cards_by_size() -> None:
    assert devices_of_size(round(139.8 * GIB)) == ("h200",)
    assert devices_of_size(round(79.18 * GIB))[0] == "h100-sxm"
    assert devices_of_size(round(60 * GIB)) == ()
    assert all(name in devices_of_size(gpu.total_memory_bytes) for name, gpu in GPUS.items())
