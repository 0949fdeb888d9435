"""Logs beside predictions: every line, what is learned, who wins, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kvsim.calibration.gpus import GIB, load_gpu
from kvsim.calibration.log_comparison import LogComparison, compare_log
from kvsim.calibration.memory import plan_memory
from kvsim.calibration.models import load_model
from kvsim.calibration.startup_log import read_startup_log

LOGS = Path(__file__).parent / "logs"


def compare(name: str, **given: Any) -> LogComparison:
    return compare_log(read_startup_log(LOGS / name), **given)


def written(tmp_path: Path, text: str, **given: Any) -> LogComparison:
    path = tmp_path / "vllm.log"
    path.write_text(text, encoding="utf-8")
    return compare_log(read_startup_log(path), **given)


@pytest.mark.parametrize(
    ("name", "gpu", "found"),
    [
        ("vllm-0.4-blocks.log", "a100", "a100"),
        ("vllm-0.7-v0.log", "a100", "a100"),
        ("vllm-0.11-h100-tp2.log", None, "h100-sxm"),
        ("vllm-0.19-h100.log", None, "h100-sxm"),
        ("vllm-0.31-a100.log", None, "a100"),
    ],
)
def test_the_pool_of_every_sample(name: str, gpu: str | None, found: str) -> None:
    compared = compare(name, gpu=gpu)
    lines = {line.name: line for line in compared.lines}
    assert compared.gpu == found
    assert abs(lines["kv_cache"].difference or 1) < 0.02
    assert abs(lines["weights"].difference or 1) < 0.005
    assert all(line.difference is None for line in compared.lines if line.logged is None)


@pytest.mark.parametrize("name", ["vllm-0.19-h100.log", "vllm-0.31-a100.log"])
def test_what_is_learned_gives_the_log_back(name: str) -> None:
    compared = compare(name)
    log = read_startup_log(LOGS / name)
    budget = plan_memory(
        model=load_model(compared.model),
        gpu=load_gpu(compared.gpu),
        non_kv_memory_bytes=compared.non_kv_memory_bytes,
        **compared.flags,
    )
    assert budget.kv_cache_bytes == pytest.approx(log.amounts["kv_cache"], abs=0.02 * GIB)
    assert compared.learned_flags == f"--non-kv-memory {compared.non_kv_memory_bytes / GIB:.3f}"
    assert budget.kv_cache_tokens == pytest.approx(log.kv_tokens, rel=5e-4)


def test_what_the_user_gives_wins() -> None:
    compared = compare(
        "vllm-0.19-h100.log",
        gpu="h200",
        model="qwen3-8b",
        flags={"engine": "vllm==0.33", "max_num_seqs": 64},
    )
    assert (compared.gpu, compared.model, compared.engine) == ("h200", "qwen3-8b", "vllm==0.33")
    assert compared.flags["max_num_seqs"] == 64
    assert compared.flags["gpu_memory_utilization"] == 0.95
    assert "the log's figure is taken" in " ".join(compared.notes)


def test_the_json_is_plain() -> None:
    plain = compare("vllm-0.19-h100.log").to_json()
    assert plain["lines"]["kv_tokens"]["logged"] == 476_016
    assert abs(plain["lines"]["kv_cache"]["difference"]) < 0.001
    assert plain["non_kv_memory_bytes"] / GIB == pytest.approx(2.16, abs=0.01)


CONFIG = "(v0.31.0) engine LLM engine (v0.31.0) with config: model='Qwen/Qwen3-8B', "
POOL = "\nAvailable KV cache memory: 10.00 GiB\n"


def test_quantised_by_a_flag(tmp_path: Path) -> None:
    compared = written(tmp_path, f"{CONFIG}quantization=fp8,{POOL}", gpu="l4")
    assert "quantization=fp8" in " ".join(compared.notes)
    stored = written(tmp_path, f"{CONFIG}quantization=fp8,{POOL}", gpu="l4", quantization="fp8")
    assert "quantization=fp8" not in " ".join(stored.notes)
    weights = [
        next(line.predicted for line in found.lines if line.name == "weights")
        for found in (stored, compared)
    ]
    assert weights[0] < 0.65 * weights[1]


def test_a_log_without_a_version(tmp_path: Path) -> None:
    text = f"engine with config: model='Qwen/Qwen3-8B', {POOL}"
    assert "does not say its version" in " ".join(written(tmp_path, text, gpu="a100").notes)
    given = written(tmp_path, text, gpu="a100", flags={"engine": "vllm==0.19"})
    assert given.engine == "vllm==0.19"
    assert "version" not in " ".join(given.notes)


def test_a_pinned_pool_teaches_nothing(tmp_path: Path) -> None:
    compared = written(tmp_path, f"--num-gpu-blocks-override 512 {CONFIG}{POOL}", gpu="l40s")
    assert compared.non_kv_memory_bytes is None
    assert compared.learned_flags is None
    assert "pinned" in " ".join(compared.notes)


def test_a_length_that_the_prediction_does_not_hold_is_left_out(tmp_path: Path) -> None:
    text = f"{CONFIG}max_seq_len=40960, gpu_memory_utilization=0.84,{POOL}"
    compared = written(tmp_path, text, gpu="l4")
    assert compared.flags["max_model_len"] == 40960


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (POOL, "names no model: give --model."),
        (CONFIG + POOL, "names no GPU that kvsim knows: give --gpu."),
        (
            f"{CONFIG}{POOL}Free memory on device (23.1/23.51 GiB) on startup.",
            r"names no GPU that kvsim knows \(memory fits a30, rtx-4090\): give --gpu\.",
        ),
        (
            CONFIG.replace("Qwen/Qwen3-8B", "acme/novel-9b") + POOL,
            "serves 'acme/novel-9b', which the catalogue does not hold: give --model",
        ),
    ],
)
def test_what_is_not_known_is_asked_for(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        written(tmp_path, text)


@pytest.mark.parametrize(
    ("size", "sentence"),
    [
        ("-3.2", r"a KV pool of -3\.20 GiB, which must be > 0: that start-up failed"),
        ("0.0", "which must be > 0"),
        ("900.0", r"a KV pool of 900\.00 GiB, which must be <= the 79\.\d+ GiB of a100"),
    ],
)
def test_a_pool_that_no_start_up_had(tmp_path: Path, size: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        written(tmp_path, CONFIG + POOL.replace("10.00", size), gpu="a100")


def test_what_is_given_against_the_log_is_named() -> None:
    given = {"gpu_memory_utilization": 0.5, "max_num_seqs": 64, "engine": "vllm==0.33"}
    notes = compare("vllm-0.19-h100.log", gpu="h200", model="qwen3-8b", flags=given).notes
    said = " ".join(notes)
    for sentence in (
        "model(='qwen3-8b') is given, the log says 'llama-3.1-8b'",
        "gpu_memory_utilization(=0.5) is given, the log says 0.95",
        "engine(='vllm==0.33') is given, the log says 'vllm==0.19'",
    ):
        assert sentence in said
    same = {"gpu_memory_utilization": 0.95, "engine": "vllm==0.19.1"}
    agreed = compare("vllm-0.19-h100.log", gpu="h100-sxm", model="llama-3.1-8b", flags=same)
    assert "is given" not in " ".join(agreed.notes)


def test_another_card_than_the_log_names(tmp_path: Path) -> None:
    text = f"{CONFIG}{POOL}device_name=NVIDIA_H100_80GB_HBM3"
    said = written(tmp_path, text).gpu
    compared = written(tmp_path, text, gpu="a100")
    assert f"gpu(='a100') is given, the log says '{said}'" in " ".join(compared.notes)


def test_no_overhead_left_teaches_nothing(tmp_path: Path) -> None:
    text = f"{CONFIG}gpu_memory_utilization=0.5,{POOL.replace('10.00', '30.00')}"
    compared = written(tmp_path, text, gpu="a100")
    assert compared.non_kv_memory_bytes is None
    assert compared.learned_flags is None
    assert "Nothing is learned: the" in compared.notes[-1]


@pytest.mark.parametrize(
    ("release", "note"),
    [
        ("0.8.5", "The log is of vLLM 0.8.5, for which kvsim has no defaults: vllm==0.11 stands"),
        ("0.33.1", ""),
        ("nightly", "The log's version nightly is no release number; vllm==0.33 is taken."),
    ],
)
def test_a_release_that_another_stands_for(tmp_path: Path, release: str, note: str) -> None:
    compared = written(tmp_path, (CONFIG + POOL).replace("0.31.0", release), gpu="a100")
    assert note in " ".join(compared.notes)
    assert note or "version" not in " ".join(compared.notes)


def test_the_overhead_that_the_log_implies(tmp_path: Path) -> None:
    text = CONFIG + POOL.replace("10.00", "50.00")
    compared = written(tmp_path, text, gpu="a100")
    lines = {line.name: line for line in compared.lines}
    assert lines["weights"].logged is None
    assert lines["non_kv"].logged == compared.non_kv_memory_bytes
    pinned = written(tmp_path, f"--num-gpu-blocks-override 512 {text}", gpu="a100")
    assert {line.name: line.logged for line in pinned.lines}["non_kv"] is None
