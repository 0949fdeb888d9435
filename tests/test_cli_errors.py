"""Wrong input: one sentence that names field and value, exit code 2, nothing half-written."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.command import SMALL, run

WRONG = {
    "unknown gpu": (["plan", "--gpu", "h100"], "gpu(='h100') is unknown; near: h100"),
    "unknown model": (["memory", "--model", "llama-3.1-9b"], "near:"),
    "heads do not divide": (
        ["memory", "--tensor-parallel-size", "3"],
        "tensor_parallel_size(=3) must divide the 32 attention heads of llama-3.1-8b",
    ),
    "KV heads do not divide": (
        ["plan", "--model", "phi-3-medium", "--tensor-parallel-size", "4"],
        "tensor_parallel_size(=4) must divide the 10 KV heads of phi-3-medium",
    ),
    "no stages": (
        ["memory", "--pipeline-parallel-size", "0"],
        "pipeline_parallel_size(=0) must be > 0",
    ),
    "more stages than layers": (
        ["simulate", *SMALL, "--pipeline-parallel-size", "33"],
        "pipeline_parallel_size(=33) must be <= the 32 layers of llama-3.1-8b",
    ),
    "a drafter on stages": (
        [
            *("memory", "--pipeline-parallel-size", "2", "--speculative-config"),
            '{"method": "ngram", "num_speculative_tokens": 3}',
        ],
        "pipeline_parallel_size(=2) with a speculative_config is not planned",
    ),
    "unknown weight format": (
        ["simulate", *SMALL, "--quantization", "fp9"],
        "quantization(='fp9') is unknown; near: fp8",
    ),
    "weights in another format already": (
        ["plan", "--model", "gpt-oss-20b", "--quantization", "fp8"],
        "quantization(='fp8') must match the checkpoint",
    ),
    "a draft head is no model": (
        ["memory", "--model", "eagle3-qwen3-8b"],
        "model(='eagle3-qwen3-8b') is a draft head (eagle3)",
    ),
    "a drafter of another vocabulary": (
        [
            *("memory", "--speculative-config"),
            '{"model": "qwen3-0.6b", "num_speculative_tokens": 3}',
        ],
        "must have the vocabulary of llama-3.1-8b",
    ),
    "a drafter that is no JSON": (
        ["memory", "--speculative-config", "eagle3"],
        "speculative_config is not valid JSON",
    ),
    "a model's name longer than any file's": (["memory", "--model", "x" * 400], "is unknown"),
    "block size 0": (["plan", "--block-size", "0"], "block_size(=0) must be > 0"),
    "block size above the length": (
        ["simulate", *SMALL, "--block-size", "64", "--max-model-len", "32"],
        "block_size(=64) must be <= max_model_len(=32)",
    ),
    "utilisation 0": (
        ["memory", "--gpu-memory-utilization", "0"],
        "gpu_memory_utilization(=0.0) must be in (0, 1]",
    ),
    "utilisation above 1": (
        ["simulate", *SMALL, "--gpu-memory-utilization", "1.5"],
        "gpu_memory_utilization(=1.5) must be in (0, 1]",
    ),
    "unknown engine": (
        ["memory", "--engine", "vllm==0.20"],
        "engine(='vllm==0.20') is unknown; known: vllm==0.11, vllm==0.19",
    ),
    "unknown engine of a simulation": (
        ["simulate", *SMALL, "--engine", "sglang"],
        "engine(='sglang') is unknown; known: vllm==0.11",
    ),
    "overhead below nothing": (
        ["plan", "--non-kv-memory", "-1"],
        "non_kv_memory(=-1.0) must be >= 0 GiB",
    ),
    "overhead that is no number": (["memory", "--non-kv-memory", "nan"], "non_kv_memory(=nan)"),
    "overhead beyond the card": (
        ["memory", "--non-kv-memory", "500"],
        "500.0 GiB of non-KV memory as given do not fit",
    ),
    "a null block alone": (
        ["memory", "--num-gpu-blocks-override", "1"],
        "num_gpu_blocks_override(=1) leaves 0 blocks beside the null block, one token needs 1.",
    ),
    "a model near nothing": (
        ["memory", "--model", "zzzzzz"],
        "are known, which `kvsim models` lists.",
    ),
    "a demand of a log": (
        ["memory", "--from-log", "nowhere.log", "--for", "64x8192"],
        "for(='64x8192') says nothing beside from_log",
    ),
    "no such log": (["memory", "--from-log", "nowhere.log"], "nowhere.log cannot be read"),
    "weights do not fit": (["plan", "--gpu", "l4", "--model", "llama-3.1-70b"], "do not fit"),
    "no such trace": (["simulate", "--trace", "nowhere.csv"], "nowhere.csv"),
    "unknown scheduler": (["simulate", *SMALL, "--scheduler", "lifo"], "scheduler(='lifo')"),
    "unknown clock": (["simulate", *SMALL, "--step-cost", "guess"], "step_cost(='guess')"),
    "bad clock": (["simulate", *SMALL, "--step-cost", "affine:1,2"], "affine:BASE_S"),
    "lengths only": (["simulate", "--workload", "sharegpt"], "rate"),
    "rate 0": (["simulate", "--workload", "sharegpt", "--rate", "0"], "rate(=0) must be > 0"),
    "two workloads": (
        ["simulate", "--workload", "alpaca", "--prompt-tokens", "3", "--output-tokens", "3"],
        "exclude each other",
    ),
    "half a workload": (["simulate", "--prompt-tokens", "3"], "go together"),
    "closed loop of 0": (["simulate", "--concurrency", "0"], "concurrency(=0) must be > 0"),
    "prefix caching": (
        ["simulate", *SMALL, "--allocator", "contiguous", "--enable-prefix-caching"],
        "enable_prefix_caching(=True) needs allocator paged",
    ),
    "no sample": (["simulate", *SMALL, "--n", "0"], "n(=0) must be > 0"),
    "no beam": (["simulate", *SMALL, "--beam-width", "0"], "beam_width(=0) must be > 0"),
    "more samples than seats": (
        ["simulate", *SMALL, "--n", "300"],
        "n(=300) must be <= max_num_seqs(=256).",
    ),
    "more beams than seats": (
        ["simulate", *SMALL, "--beam-width", "300"],
        "beam_width(=300) must be <= max_num_seqs(=256).",
    ),
    "no room for swaps": (
        ["simulate", *SMALL, "--preemption", "swap", "--swap-space", "0"],
        "swap_space(=0) must be > 0 with preemption_mode swap.",
    ),
    "swaps beyond the machine": (
        ["simulate", *SMALL, "--preemption", "swap", "--swap-space", "100", "--host-memory", "64"],
        "swap_space(=100) must be <= host_memory(=64), GiB.",
    ),
    "tiers beyond the machine": (
        ["simulate", *SMALL, "--kv-offloading-size", "100", "--host-memory", "64"],
        "kv_offloading_size(=100) must be <= host_memory(=64), GiB.",
    ),
    "a tier without a link": (
        ["simulate", *SMALL, "--kv-offloading-size", "9", "--kv-offloading-bandwidth", "0"],
        "kv_offloading_bandwidth(=0) must be > 0 GB/s.",
    ),
    "swap space of nothing": (
        ["simulate", *SMALL, "--swap-space", "8"],
        "swap_space(=8) needs preemption_mode swap",
    ),
    "overlap of nothing": (
        ["simulate", *SMALL, "--swap-overlap"],
        "swap_overlap(=True) needs preemption_mode swap",
    ),
    "seed of nothing": (
        ["simulate", *SMALL, "--beam-seed", "3"],
        "beam_seed(=3) needs requests that search",
    ),
    "pages of nothing": (
        ["simulate", *SMALL, "--page-size", "2MiB"],
        "page_size(=2MiB) needs allocator virtual.",
    ),
    "a link to nothing": (
        ["simulate", *SMALL, "--kv-offloading-bandwidth", "9"],
        "kv_offloading_bandwidth(=9) needs kv_offloading_size.",
    ),
    "swaps of reservations": (
        ["simulate", *SMALL, "--allocator", "contiguous", "--preemption", "swap"],
        "preemption_mode(=swap) needs allocator paged, not contiguous.",
    ),
    "page size": (
        ["simulate", *SMALL, "--allocator", "virtual", "--page-size", "4KiB"],
        "page_size(='4KiB') must be one of 64KiB, 128KiB, 256KiB, 2MiB",
    ),
    "page size of a plan": (
        ["plan", *SMALL, "--page-size", "64KiB,3MiB"],
        "page_size(='3MiB') must be one of",
    ),
    "pages without a prefix cache": (
        ["simulate", *SMALL, "--allocator", "virtual", "--enable-prefix-caching"],
        "enable_prefix_caching(=True) needs allocator paged",
    ),
    "running ahead": (
        ["simulate", *SMALL, "--scheduler", "orca", "--async-scheduling"],
        "async_scheduling(=True) needs scheduler vllm, not orca",
    ),
    "chunks and decodes in turns": (
        ["simulate", *SMALL, "--scheduler", "orca", "--no-mixed-batches"],
        "mixed_batches(=False) needs scheduler sarathi, not orca",
    ),
    "windows under sarathi": (
        ["simulate", *SMALL, "--scheduler", "sarathi", "--model", "gpt-oss-20b"],
        "scheduler(=sarathi) needs layers that all keep every token",
    ),
    "windows under transformers": (
        ["simulate", *SMALL, "--scheduler", "transformers", "--model", "gpt-oss-20b"],
        "scheduler(=transformers) needs layers that all keep every token",
    ),
    "whole prompts under transformers": (
        ["simulate", *SMALL, "--scheduler", "transformers", "--no-enable-chunked-prefill"],
        "scheduler(=transformers) needs enable_chunked_prefill",
    ),
    "another order under transformers": (
        ["simulate", *SMALL, "--scheduler", "transformers", "--scheduling-policy", "sjf"],
        "scheduler(=transformers) needs scheduling_policy fcfs",
    ),
    "a tree under transformers": (
        ["simulate", *SMALL, "--scheduler", "transformers", "--prefix-cache", "radix"],
        "scheduler(=transformers) needs prefix_cache hash",
    ),
    "a pinned prefix under transformers": (
        ["simulate", *SMALL, "--scheduler", "transformers", "--pinned-prefix-tokens", "64"],
        "scheduler(=transformers) needs pinned_prefix_tokens 0",
    ),
    "a tier under transformers": (
        ["simulate", *SMALL, "--scheduler", "transformers", "--kv-offloading-size", "4"],
        "scheduler(=transformers) needs kv_offloading_size 0",
    ),
    "beams under transformers": (
        ["simulate", *SMALL, "--scheduler", "transformers", "--beam-width", "2"],
        "beam_width(=2) with scheduler transformers needs",
    ),
    "prompts first, prompts beyond the budget": (
        [
            *("simulate", *SMALL, "--scheduler", "vllm_v0", "--max-model-len", "4096"),
            *("--max-num-batched-tokens", "2048"),
        ],
        "max_num_batched_tokens(=2048) must be >= max_model_len(=4096)",
    ),
    "unknown policy": (
        ["simulate", *SMALL, "--scheduling-policy", "lifo"],
        "scheduling_policy(='lifo') is unknown; known: fair, fcfs, priority, sjf",
    ),
    "no tenant": (["simulate", *SMALL, "--tenants", "0"], "tenants(=0) must be > 0"),
    "tenants of a file": (
        ["simulate", "--trace", "nowhere.csv", "--tenants", "2"],
        "are for synthetic workloads",
    ),
    "prefix cache": (
        ["simulate", *SMALL, "--prefix-cache", "lru"],
        "prefix_cache(='lru') is unknown; known: hash, radix",
    ),
    "budget below seats": (
        ["simulate", *SMALL, "--max-num-seqs", "256", "--max-num-batched-tokens", "64"],
        "max_num_batched_tokens(=64) must be >= max_num_seqs(=256)",
    ),
    "whole prompts beyond the budget": (
        [
            *("simulate", *SMALL, "--no-enable-chunked-prefill"),
            *("--max-model-len", "4096", "--max-num-batched-tokens", "1024"),
        ],
        "max_num_batched_tokens(=1024) must be >= max_model_len(=4096)",
    ),
    "backlog with a rate": (
        ["simulate", *SMALL, "--arrival-process", "backlog"],
        "rate(=4.0) has no place in a backlog",
    ),
    "think time without turns": (["simulate", *SMALL, "--think-time", "3"], "needs turns"),
    "not a number": (["memory", "--block-size", "abc"], "--block-size(='abc')"),
    "not a whole number": (["memory", "--block-size=1.5"], "--block-size(='1.5')"),
    "unknown option": (["plan", "--bogus"], "--bogus"),
    "unknown command": (["planet"], "planet"),
    "missing option": (["trace", "generate"], "--out"),
    "missing argument": (["trace", "stats"], "files"),
    "no folder": (["simulate", *SMALL, "--out", ""], "out(='') must name a folder"),
    "endless step": (["simulate", *SMALL, "--step-cost", "affine:1e300,0,0"], "3600 seconds"),
    "endless pool": (
        ["simulate", *SMALL, "--num-gpu-blocks-override", "99999999999999999999"],
        "num_gpu_blocks(=99999999999999999999) must be <=",
    ),
    "endless sessions": (
        ["simulate", *SMALL, "--turns", "99999999999999999999"],
        "turns(=99999999999999999999)",
    ),
    "window": (["simulate", *SMALL, "--window", "5"], "window(='5') must be START:END"),
    "unknown trace name": (["trace", "fetch", "azure"], "azure"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_sentence(case: str) -> None:
    arguments, sentence = WRONG[case]
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert sentence in result.stderr
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1, "one line"


def test_a_log_without_memory_lines(tmp_path: Path) -> None:
    path = tmp_path / "vllm.log"
    path.write_text("INFO: Application startup complete.\n", encoding="utf-8")
    result = run("memory", "--from-log", str(path))
    assert result.exit_code == 2
    assert "vllm.log has no memory lines of a vLLM start-up" in result.stderr
    assert result.stderr.count("\n") == 1


def test_empty_trace(tmp_path: Path) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_text("", encoding="utf-8")
    result = run("plan", "--trace", str(path))
    assert result.exit_code == 2
    assert "empty.jsonl holds no requests" in result.stderr


def test_corrupt_config(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"model_type": "llama", "hidden_size":', encoding="utf-8")
    result = run("memory", "--model", str(path))
    assert result.exit_code == 2
    assert "config.json" in result.stderr


@pytest.mark.parametrize("command", ["plan", "simulate"])
def test_unwritable_folder_is_found_before_the_work(command: str, tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("not a folder", encoding="utf-8")
    result = run(command, *SMALL, "--out", str(blocker / "report"))
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr
    assert blocker.read_text(encoding="utf-8") == "not a folder"
