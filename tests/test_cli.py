"""Every command, as a user types it; wrong input is in test_cli_errors.py."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet
import pytest

from kvsim.traces import load_trace
from support.command import SMALL, loaded, run

COMMANDS = [
    [],
    ["plan"],
    ["simulate"],
    ["compare"],
    ["validate"],
    ["regress"],
    ["regress", "run"],
    ["regress", "update"],
    ["sweep"],
    ["sweep", "run"],
    ["sweep", "show"],
    ["memory"],
    ["gpus"],
    ["models"],
    ["conform"],
    ["trace"],
    ["trace", "stats"],
    ["trace", "cache-curve"],
    ["trace", "generate"],
    ["trace", "fetch"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help(command: list[str]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert "Usage" in result.output


@pytest.mark.parametrize("command", COMMANDS[1:], ids=" ".join)
def test_every_command_is_in_the_readme(command: list[str]) -> None:
    readme = Path(__file__).resolve().parents[1] / "README.md"
    assert f"kvsim {' '.join(command)}" in readme.read_text(encoding="utf-8")


def test_simulate_json_has_the_promised_keys() -> None:
    summary = loaded("simulate", *SMALL)
    for name in ("ttft_s", "tpot_s", "itl_s", "e2e_s"):
        assert list(summary[name]) == ["mean", "p50", "p90", "p95", "p99"]
    assert list(summary["pool_share"]) == [
        *("token_states", "reserved", "internal", "external", "cached", "free")
    ]
    promised = {
        *("num_requests", "num_rejected", "makespan_s", "output_tokens_per_s", "requests_per_s"),
        *("num_preemptions", "mean_running", "peak_running", "prefix_hit_tokens"),
        *("sources", "digests"),
    }
    assert promised <= summary.keys()
    assert summary["num_requests"] == 60
    assert sum(summary["pool_share"].values()) == pytest.approx(1.0)
    assert set(summary["digests"]) == {"trace", "deployment", "cost", "budget"}


def test_simulate_writes_a_result(tmp_path: Path) -> None:
    result = run("simulate", *SMALL, "--out", str(tmp_path / "run"))
    assert result.exit_code == 0, result.output
    assert "TTFT" in result.stdout
    names = {path.name for path in (tmp_path / "run").iterdir()}
    tables = {f"{name}.parquet" for name in ("requests", "occupancy", "phases")}
    assert names == {"kvsim.json", "summary.json", *tables}
    requests = pyarrow.parquet.read_table(tmp_path / "run" / "requests.parquet")
    assert requests.num_rows == 60
    assert "first_token_s" in requests.column_names


def test_exports_for_other_tools(tmp_path: Path) -> None:
    timeline, metrics = tmp_path / "new" / "t.json.gz", tmp_path / "m.txt"
    options = ["--timeline", str(timeline), "--metrics", str(metrics)]
    result = run("simulate", *SMALL, *options, "--metrics-interval", "5")
    assert result.exit_code == 0, result.output
    assert f"Wrote {timeline}" in result.stdout
    events = json.loads(gzip.decompress(timeline.read_bytes()))["traceEvents"]
    assert {"prefill", "decode"} <= {event["name"].split()[0] for event in events}
    text = metrics.read_text()
    assert text.endswith("# EOF\n")
    assert 'vllm:num_requests_running{engine="0",model_name="llama-3.1-8b"} ' in text
    assert " 5.000\n" in text


def test_a_folder_with_other_files_is_kept(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for command in ("plan", "simulate"):
        result = run(command, *SMALL, "--out", str(tmp_path))
        assert result.exit_code == 2
        assert "holds files that kvsim did not write (notes.txt)" in result.stderr
        assert result.stderr.count("\n") == 1
    assert run("simulate", *SMALL, "--out", str(tmp_path), "--force").exit_code == 0
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert run("simulate", *SMALL, "--out", str(tmp_path / name)).exit_code == 0
    first, second = ((tmp_path / n / "summary.json").read_bytes() for n in ("one", "two"))
    assert first == second
    assert loaded("simulate", *SMALL, "--seed", "1") != json.loads(first)


def test_exact_steps_give_the_same_summary() -> None:
    assert loaded("simulate", *SMALL) == loaded("simulate", *SMALL, "--exact-steps")


@pytest.mark.parametrize("reservation", ["max", "pow2", "oracle"])
@pytest.mark.parametrize("scheduler", ["vllm", "vllm_v0", "sarathi", "orca", "static"])
def test_contiguous_simulations(reservation: str, scheduler: str) -> None:
    arguments = ["--allocator", "contiguous", "--reservation", reservation]
    summary = loaded("simulate", *SMALL, *arguments, "--scheduler", scheduler)
    assert summary["num_rejected"] == 0
    assert summary["pool_share"]["cached"] == 0


@pytest.mark.parametrize("page_size", ["64KiB", "2MiB"])
def test_virtual_simulations(page_size: str) -> None:
    arguments = ["--allocator", "virtual", "--page-size", page_size]
    summary = loaded("simulate", *SMALL, *arguments)
    assert summary == loaded("simulate", *SMALL, *arguments, "--exact-steps")
    assert summary["num_rejected"] == 0
    assert summary["pool_share"]["cached"] == 0


def test_closed_loop() -> None:
    arguments = ["--prompt-tokens", "1000", "--output-tokens", "200", "--concurrency", "64"]
    summary = loaded("simulate", *arguments, "-n", "300")
    assert summary["peak_running"] == 64
    assert summary["num_requests"] == 300


def test_affine_clock() -> None:
    arguments = ["--prompt-tokens", "10", "--output-tokens", "5", "-n", "1"]
    summary = loaded(
        "simulate", *arguments, "--concurrency", "1", "--step-cost", "affine:0.005,2e-5,1e-8"
    )
    assert summary["ttft_s"]["mean"] == pytest.approx(0.005 + 10 * 2e-5)
    assert summary["sources"]["timing"] == "affine"


def test_plan_writes_a_report(tmp_path: Path) -> None:
    out = tmp_path / "report"
    result = run("plan", "--gpu", "a100", "--block-size", "16", "-n", "200", "--out", str(out))
    assert result.exit_code == 0, result.output
    for word in ("llama-3.1-8b", "0.92", "max_model_len", "silicon", "Under backlog"):
        assert word in result.stdout
    plan = json.loads((out / "plan.json").read_text(encoding="utf-8"))
    titles = [candidate["title"] for candidate in plan["candidates"]]
    assert titles[0] == "paged"
    assert len(titles) == 4
    assert "--block-size 16" in plan["serve_command"]
    assert len(list(out.glob("*.png"))) >= 4


def test_memory_json_has_the_promised_keys() -> None:
    memory = loaded("memory", "--gpu", "a100", "--model", "llama-3.1-8b")
    assert memory["kv_bytes_per_token"] == 131_072
    assert memory["block_bytes"] == 2 * 1024 * 1024
    assert memory["kv_cache_tokens"] == 16 * memory["num_gpu_blocks"]
    assert memory["kv_cache_bytes"] // memory["block_bytes"] == memory["num_gpu_blocks"]
    assert sum(memory["budget"].values()) == memory["total_bytes"]


def test_memory_of_other_weights_and_a_drafter() -> None:
    plain = loaded("memory", "--gpu", "a100", "--model", "meta-llama/Llama-3.1-8B-Instruct")
    fp8 = loaded("memory", "--gpu", "a100", "--model", "llama-3.1-8b", "--quantization", "fp8")
    assert fp8["budget"]["weights"] == 16_060_522_496 - 6_979_321_856
    assert fp8["kv_cache_bytes"] - plain["kv_cache_bytes"] == 6_979_321_856
    config = '{"method": "eagle3", "model": "eagle3-llama-3.1-8b", "num_speculative_tokens": 3}'
    drafted = loaded("memory", "--gpu", "a100", "--speculative-config", config)
    assert drafted["kv_bytes_per_token"] == 33 * 4096
    assert drafted["speculative_slots"] == 6
    assert "draft_weights" in drafted["budget"]


def test_other_weights_are_in_the_serve_command(tmp_path: Path) -> None:
    plan = loaded(
        *("plan", "--prompt-tokens", "1500", "--output-tokens", "50", "-n", "40"),
        *("--quantization", "fp8", "--max-model-len", "2048", "--out", str(tmp_path)),
    )
    assert "--quantization fp8" in plan["serve_command"]


def test_the_engine_sets_its_defaults() -> None:
    arguments = ["memory", "--gpu", "h100-sxm"]
    new, old = loaded(*arguments), loaded(*arguments, "--engine", "vllm==0.19")
    assert new == loaded(*arguments, "--engine", "0.33")
    assert (new["gpu_memory_utilization"], old["gpu_memory_utilization"]) == (0.92, 0.9)
    assert loaded(*arguments, "--gpu-memory-utilization", "0.5")["gpu_memory_utilization"] == 0.5


def test_the_engine_reaches_the_simulation() -> None:
    new, old = (
        loaded("simulate", *SMALL, "--engine", engine) for engine in ("vllm==0.33", "vllm==0.19")
    )
    assert new["sources"]["num_gpu_blocks"] != old["sources"]["num_gpu_blocks"]
    assert old["settings"]["engine"] == "vllm==0.19"
    assert new["settings"]["deployment"]["gpu_memory_utilization"] == 0.92
    assert old["settings"]["deployment"]["gpu_memory_utilization"] == 0.9


def test_overhead_given_by_the_user() -> None:
    found = loaded("memory", "--gpu", "a100", "--non-kv-memory", "2.5")
    assert set(found["budget"]) == {"weights", "non_kv", "kv_cache", "outside"}
    assert found["budget"]["non_kv"] == 2.5 * 2**30
    assert found["kv_cache_bytes"] == (
        found["requested_bytes"] - found["budget"]["weights"] - found["budget"]["non_kv"]
    )
    pinned = loaded("simulate", *SMALL, "--non-kv-memory", "2.5")
    assert pinned["sources"]["num_gpu_blocks"] == found["num_gpu_blocks"]
    assert "given by the user" in run("memory", "--non-kv-memory", "2.5").stdout


LOG = Path(__file__).parent / "calibration" / "logs" / "vllm-0.19-h100.log"


def test_a_log_is_compared() -> None:
    shown = run("memory", "--from-log", str(LOG))
    assert shown.exit_code == 0
    assert "476,256    476,016" in shown.stdout
    assert "Learned: --non-kv-memory 2.162" in shown.stdout
    learned = loaded("memory", "--from-log", str(LOG))
    assert learned["gpu"] == "h100-sxm"
    given = loaded("memory", "--from-log", str(LOG), "--gpu", "h800", "--max-num-seqs", "256")
    assert given["gpu"] == "h800"
    assert given["flags"]["max_num_seqs"] == 256
    assert given["flags"]["gpu_memory_utilization"] == 0.95


def test_known_names() -> None:
    assert {gpu["name"] for gpu in loaded("gpus")} >= {"a100", "h100-sxm", "mi300x"}
    assert {model["name"] for model in loaded("models")} >= {"opt-13b", "llama-2-7b"}
    assert "azure-conv-2023" in loaded("trace", "fetch", "list")


def test_generate_and_stats(tmp_path: Path) -> None:
    path = tmp_path / "made.jsonl.gz"
    made = loaded(
        "trace", "generate", "--workload", "alpaca", "-n", "50", "--rate", "2", "--out", str(path)
    )
    assert made["digest"] == load_trace(path).digest
    stats = loaded("trace", "stats", str(path))
    assert stats["requests"] == 50
    assert set(stats) >= {"input", "output", "sum_in", "sum_out", "max_in_plus_out", "arrivals"}


def test_skipped_rows_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(
        "arrived_at,num_prefill_tokens,num_decode_tokens\n0,10,5\n1,0,5\n2,10,5\n", encoding="utf-8"
    )
    shown = run("simulate", "--trace", str(path))
    assert shown.exit_code == 0
    assert "rows.csv row 3" in shown.output
    strict = run("simulate", "--trace", str(path), "--strict")
    assert strict.exit_code == 2
    assert "rows.csv row 3" in strict.output


def test_rejections_are_counted_and_shown() -> None:
    arguments = ["--prompt-tokens", "900", "--output-tokens", "10", "-n", "5", "--rate", "1"]
    summary = loaded("simulate", *arguments, "--max-model-len", "512")
    assert summary["num_rejected"] == 5
    assert list(summary["reject_reasons"].values()) == [5]


def test_the_same_trace_in_two_formats_is_the_same_simulation(
    shared_file: Callable[[str], Path], tmp_path: Path
) -> None:
    files = ["azure/AzureLLMInferenceTrace_conv.csv", "vidur/splitwise_conv.csv"]
    summaries = [
        loaded("simulate", "--trace", str(shared_file(f"traces/{name}")), "--max-requests", "2000")
        for name in files
    ]
    assert summaries[0] == summaries[1]


def test_version() -> None:
    assert run("--version").stdout.startswith("kvsim 0.")


GOLDEN = Path(__file__).resolve().parent / "golden" / "steps"


def test_conform() -> None:
    same = run("conform", str(GOLDEN / "01_tiny.jsonl.gz"))
    assert (same.exit_code, same.stdout) == (0, "01_tiny: all 186 steps match\n")
    cached = run("conform", str(GOLDEN / "01_tiny_pc.jsonl.gz"), str(GOLDEN / "09_swa_pc.jsonl.gz"))
    assert cached.exit_code == 0


def test_conform_says_what_it_does_not_know(tmp_path: Path) -> None:
    text = gzip.decompress((GOLDEN / "01_tiny.jsonl.gz").read_bytes()).decode()
    log = tmp_path / "state.jsonl"
    log.write_text(text.replace('"kv_spec":"full"', '"kv_spec":"mamba"'), encoding="utf-8")
    result = run("conform", str(log), "--traces", str(GOLDEN.parent / "traces"))
    assert result.exit_code == 1
    assert "state.jsonl: not compared" in result.stdout


def test_conform_shows_the_first_step_that_differs(tmp_path: Path) -> None:
    text = gzip.decompress((GOLDEN / "02_tight.jsonl.gz").read_bytes()).decode()
    log = tmp_path / "changed.jsonl"
    log.write_text(text.replace('"num_blocks":150', '"num_blocks":149'), encoding="utf-8")
    result = run("conform", str(log), "--traces", str(GOLDEN.parent / "traces"))
    assert result.exit_code == 1
    assert "changed.jsonl: step 0 differs in free" in result.stdout
    assert "recorded  132\n  simulated 131" in result.stdout


def test_conform_without_its_trace(tmp_path: Path) -> None:
    log = tmp_path / "lonely.jsonl.gz"
    log.write_bytes((GOLDEN / "01_tiny.jsonl.gz").read_bytes())
    result = run("conform", str(log))
    assert result.exit_code == 2
    assert "trace(='tiny.jsonl') of lonely.jsonl.gz is not beside it" in result.stderr


def test_the_serve_command_says_all_that_was_planned(tmp_path: Path) -> None:
    flags = ["--enforce-eager", "--num-gpu-blocks-override", "3000", "--kv-cache-dtype", "fp8"]
    flags += ["--long-prefill-token-threshold", "512", "--scheduling-policy", "priority"]
    plan = loaded("plan", "-n", "60", "--out", str(tmp_path), *flags)
    for flag in ("--enforce-eager", "--num-gpu-blocks-override 3000", "--kv-cache-dtype fp8"):
        assert flag in plan["serve_command"]
    assert "--long-prefill-token-threshold 512" in plan["serve_command"]
    assert "--scheduling-policy priority" in plan["serve_command"]
    assert plan["serve_command"].startswith("vllm serve meta-llama/Llama-3.1-8B ")


def test_the_token_budget_binds_where_it_does(tmp_path: Path) -> None:
    """Long prompts and short answers: requests leave as fast as the budget lets them in."""
    arguments = ["--prompt-tokens", "2000", "--output-tokens", "2", "-n", "300"]
    plan = loaded("plan", *arguments, "--out", str(tmp_path))
    paged = plan["candidates"][0]
    assert paged["bound_by"] == "max_num_batched_tokens(=2048)"
    assert paged["memory_backlog"]["mean_running"] > 5 * paged["backlog"]["mean_running"]
    share = paged["backlog"]["pool_share"]
    assert share["free"] + share["cached"] > 0.9


def test_a_trace_that_nobody_can_serve(tmp_path: Path) -> None:
    arguments = ["--prompt-tokens", "900", "--output-tokens", "10", "-n", "5", "--rate", "1"]
    result = run("plan", *arguments, "--max-model-len", "512", "--out", str(tmp_path))
    assert result.exit_code == 2
    assert "the prompt leaves no room in max_model_len(=512)" in result.stderr


def test_a_burstiness_makes_gaps_gamma() -> None:
    steady, bursty = (
        loaded("simulate", *SMALL, "--burstiness", value)["digests"]["trace"] for value in "14"
    )
    assert steady != bursty


def test_skipped_rows_are_in_the_json(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(
        "arrived_at,num_prefill_tokens,num_decode_tokens\n0,10,5\n1,0,5\n", encoding="utf-8"
    )
    settings = loaded("simulate", "--trace", str(path))["settings"]
    assert settings["num_skipped_rows"] == 1
    assert "rows.csv row 3" in settings["skipped_rows"][0]
    assert settings["deployment"]["block_size"] == 16


def test_one_token_in_one_token_out() -> None:
    summary = loaded("simulate", "--prompt-tokens", "1", "--output-tokens", "1", "--rate", "10")
    assert summary["num_finished"] == 2000


@pytest.mark.parametrize("words", [[], ["trace"]])
def test_no_words_show_the_help(words: list[str]) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert "Usage" in result.output
    assert "Traceback" not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)


def test_cache_curve(tmp_path: Path) -> None:
    path = tmp_path / "made.jsonl"
    arguments = ["--workload", "sharegpt", "-n", "300", "--turns", "3", "--rate", "2"]
    assert run("trace", "generate", *arguments, "--out", str(path)).exit_code == 0
    curve = loaded(
        "trace",
        "cache-curve",
        str(path),
        "--size",
        "50",
        "--size",
        "5000",
        "--out",
        str(tmp_path / "new" / "curve.png"),
    )
    ratios = [curve["lru"][size]["token_ratio"] for size in ("50", "5000")]
    assert ratios[0] < ratios[1] <= curve["infinite"]["token_ratio"]
    assert (tmp_path / "new" / "curve.png").read_bytes().startswith(b"\x89PNG")
    shown = run("trace", "cache-curve", str(path), "--size", "0")
    assert shown.exit_code == 2
    assert "num_blocks(=0) must be > 0" in shown.stderr
