"""``kvsim cost`` as it is typed: a step's terms, their sources, what binds it."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.command import loaded, run

H100 = ("cost", "--gpu", "h100-sxm")
WRONG = {
    "no context": (["--batch", "64"], "batch(='64') must be NxC, N decodes of C tokens"),
    "no decodes": (["--batch", "0x1"], "batch(='0x1') must have N from 1 to"),
    "no tokens": (["--batch", "1x0"], "and C from 1 to"),
    "an empty group": (["--batch", "1x1,"], "batch(='') must be NxC"),
    "too many": (["--batch", "1x9999999999k"], "and C from 1 to 1,000,000,000."),
    "an empty chunk": (["--chunk", "0"], "chunk(='0') must have NEW from 1 to"),
    "a negative chunk": (["--chunk", "-5"], "chunk(='-5') must be NEW or NEW+PAST tokens"),
    "half a chunk": (["--chunk", "512+"], "chunk(='512+') must be NEW or NEW+PAST tokens"),
    "nothing": ([], "batch(=None) or chunk(=None) must be given"),
    "unknown gpu": (["--batch", "1x1", "--gpu", "h100"], "gpu(='h100') is unknown; near: h100"),
    "two gpus": (["--batch", "1x1", "--gpu", "a100,l4"], "gpu(='a100,l4') is unknown"),
    "unknown dtype": (
        ["--batch", "1x1", "--kv-cache-dtype", "int3"],
        "kv_cache_dtype(='int3') is unknown",
    ),
    "no tables": (
        ["--batch", "1x1", "--step-cost", "silicon", "--gpu", "l4"],
        "step_cost(='silicon') cannot be had: there are no measured tables of l4.",
    ),
    "unknown source": (["--batch", "1x1", "--step-cost", "x"], "step_cost(='x') is unknown"),
    "TP 0": (
        ["--batch", "1x1", "--tensor-parallel-size", "0"],
        "tensor_parallel_size(=0) must be > 0",
    ),
    "no stages": (
        ["--batch", "1x1", "--pipeline-parallel-size", "0"],
        "pipeline_parallel_size(=0) must be > 0",
    ),
    "no tokens per batch": (
        ["--batch", "1x1", "--max-num-batched-tokens", "0"],
        "max_num_batched_tokens(=0) must be > 0",
    ),
    "no seats": (["--batch", "1x1", "--max-num-seqs", "0"], "max_num_seqs(=0) must be > 0"),
    "no request": (["--swap", "0"], "swap(=0) must be > 0."),
    "longer than the model": (
        ["--swap", "131073"],
        "tokens(=131073) must be from 1 to the 131072 of llama-3.1-8b.",
    ),
    "a chunk beside a swap": (
        ["--swap", "512", "--chunk", "64"],
        "chunk(='64') says nothing beside swap: leave one out.",
    ),
    "a full batch": (
        ["--swap", "512", "--batch", "64x8", "--max-num-batched-tokens", "64"],
        "max_num_batched_tokens(=64) leaves no token to prefill beside 64 decodes.",
    ),
    "no block": (["--batch", "1x1", "--block-size", "0"], "block_size(=0) must be > 0."),
    "no block to swap": (["--swap", "8", "--block-size", "0"], "block_size(=0) must be > 0."),
    "no png": (["--batch", "1x1", "--out", "step.pdf"], "out(='step.pdf') must name a .png file"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_sentence(case: str) -> None:
    arguments, sentence = WRONG[case]
    result = run("cost", *arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert sentence in result.stderr
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1, "one line"


def test_one_step_in_full() -> None:
    result = run(*H100, "--model", "llama-3.1-8b", "--batch", "64x4096")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "Model llama-3.1-8b on NVIDIA H100 SXM 80 GB."
    assert lines[1] == "One step: 64 decodes of 4,096 tokens."
    assert lines[2].startswith("Source: silicon (aiconfigurator-core")
    assert lines[3].startswith("Step ")
    assert lines[3].endswith("output tokens/s.")
    for words in ("attention", "gate and up projection", "host, exposed", "[1] aiconfigurator"):
        assert words in result.stdout
    assert "Bound by bandwidth: bandwidth " in result.stdout
    assert max(map(len, (line for line in lines if "─" in line))) <= 120


def test_json() -> None:
    step = loaded(*H100, "--batch", "64x4k", "--chunk", "512+4096")
    assert step["source"] == "silicon"
    assert step["origin"].startswith("silicon (")
    assert step["batch"] == {
        "num_decodes": 64,
        "decode_context_tokens": 262_144,
        "longest_context_tokens": 4096,
        "chunks": [{"new_tokens": 512, "past_tokens": 4096}],
    }
    assert sum(term["s"] for term in step["terms"]) == pytest.approx(step["step_s"], rel=1e-12)
    assert sum(step["bound_s"].values()) == pytest.approx(step["step_s"], rel=1e-12)
    assert step["band"]["low"] < 1 < step["band"]["high"]
    assert step["band"]["source"]
    assert step["output_tokens_per_s"] is None, "it prefills"
    assert {"bandwidth", "host"} <= {term["bound"] for term in step["terms"]}


def test_groups_add_up() -> None:
    both = loaded(*H100, "--batch", "8x100,2x4000", "--batch", "1x20")
    assert both["batch"]["num_decodes"] == 11
    assert both["batch"]["decode_context_tokens"] == 8820
    assert both["batch"]["longest_context_tokens"] == 4000
    assert both["output_tokens_per_s"] == pytest.approx(11 / both["step_s"])


def test_a_card_without_tables_says_so() -> None:
    result = run("cost", "--gpu", "l4", "--batch", "64x4096")
    assert result.exit_code == 0
    (source,) = (line for line in result.stdout.splitlines() if line.startswith("Source: "))
    assert source.startswith("Source: derived (scaled from l40s by datasheet figures: bandwidth x0")
    assert source.endswith(", l40s), because there are no measured tables of l4.")
    assert "Note: Step times of l4 are derived: l40s's, scaled by datasheet ratios" in result.stdout
    assert loaded("cost", "--gpu", "l4", "--batch", "1x1")["why"]
    asked = run("cost", "--gpu", "l4", "--batch", "1x1", "--step-cost", "datasheet")
    assert "Source: datasheet.\n" in asked.stdout


def test_the_flags_reach_the_source() -> None:
    plain = loaded(*H100, "--batch", "33x1k")["step_s"]
    assert loaded(*H100, "--batch", "33x1k", "--no-async-scheduling")["step_s"] > plain
    assert loaded(*H100, "--batch", "33x1k", "--kv-cache-dtype", "fp8")["step_s"] < plain
    assert loaded(*H100, "--batch", "33x1k", "--quantization", "fp8")["step_s"] < plain
    halved = loaded(*H100, "--batch", "33x1k", "--tensor-parallel-size", "2")
    assert halved["step_s"] < plain
    assert "all-reduce" in [term["name"] for term in halved["terms"]]
    sheet = ("cost", "--gpu", "l4", "--batch", "1x1", "--step-cost", "datasheet")
    assert loaded(*sheet, "--enforce-eager")["step_s"] > loaded(*sheet)["step_s"]


def test_the_affine_clock_has_one_term() -> None:
    result = run("cost", "--step-cost", "affine:0.005,2e-5,1e-7", "--batch", "10x100")
    assert "Step 5.30 ms (5.30-5.30)" in result.stdout
    assert "What binds it: not known, affine gives the whole only." in result.stdout


def test_what_no_server_runs_is_noted() -> None:
    notes = loaded("cost", "--batch", "300x200000")["notes"]
    assert notes == [
        "300 requests pass max_num_seqs(=256) of this server.",
        "200000 tokens pass the model's own length of 131072.",
        "This batch's KV takes 7324.22 GiB per GPU beside 14.96 GiB of weights, a100 has 79.25 "
        "GiB: it does not fit.",
    ]


def test_what_does_not_lie_on_the_gpu_is_noted() -> None:
    large = ("cost", "--model", "llama-3.1-70b", "--batch", "8x4k")
    (note,) = loaded(*large)["notes"]
    assert note == "The weights take 131.42 GiB per GPU, a100 has 79.25 GiB: they do not fit."
    assert loaded(*large, "--pipeline-parallel-size", "2")["notes"] == []
    assert loaded(*large, "--tensor-parallel-size", "2")["notes"] == []
    windows = loaded("cost", "--model", "mistral-7b-v0.1", "--batch", "64x32k")["notes"]
    assert windows == [], "64 windows of 4,096 tokens are 32 GiB"


def test_stages() -> None:
    large = ("cost", "--model", "llama-3.1-70b", "--batch", "8x4k")
    step = loaded(*large, "--pipeline-parallel-size", "2")
    assert step["pipeline_parallel_size"] == 2
    assert "pipeline bubble" in [term["name"] for term in step["terms"]]
    assert "pipeline_parallel_size 2" in run(*large, "--pipeline-parallel-size", "2").stdout
    chunk = ("cost", "--chunk", "4096", "--pipeline-parallel-size", "2")
    halved = loaded(*chunk, "--max-num-batched-tokens", "2048")["step_s"]
    assert halved < loaded(*chunk, "--max-num-batched-tokens", "8192")["step_s"]


def test_what_is_extrapolated_is_named() -> None:
    said = run("cost", "--batch", "256x8k").stdout
    assert "attention: extrapolated: no measured shape" in " ".join(said.split())


def test_figure(tmp_path: Path) -> None:
    path = tmp_path / "new" / "step.png"
    result = run("cost", "--batch", "8x1k", "--out", str(path))
    assert result.exit_code == 0
    assert f"Wrote {path}" in result.stdout
    assert path.read_bytes().startswith(b"\x89PNG")


def test_swap_against_recompute(tmp_path: Path) -> None:
    out = tmp_path / "swap.png"
    asked = ("--gpu", "a100-40gb", "--model", "opt-13b", "--swap", "512", "--batch", "32x512")
    result = run("cost", *asked, "--step-cost", "datasheet", "--out", str(out))
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[1].startswith("Preempting a request of 512 tokens, recomputed beside 32 decodes")
    assert "16 (chosen)" in result.stdout
    assert "Swap: datasheet, because step times are datasheet; 80 transfers" in result.stdout
    assert lines[-1] == f"Wrote {out}"
    assert out.read_bytes().startswith(b"\x89PNG")


def test_swap_as_json() -> None:
    asked = ("cost", "--gpu", "h100-sxm", "--swap", "512", "--block-size", "32")
    found = loaded(*asked)
    assert (found["block_size"], found["tokens"]) == (32, 512)
    assert [one["block_size"] for one in found["by_block_size"]][-1] == 256
    assert found["swap"]["segment_band"]["source"]
    assert found["swap"]["block_bytes"] == 32 * 131_072
    halved = loaded(*asked, "--tensor-parallel-size", "2")
    assert halved["swap"]["block_bytes"] == 16 * 131_072
