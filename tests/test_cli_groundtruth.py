"""``kvsim groundtruth`` as a user types it: a run, a report, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from kvsim.calibration.engine.log_reader import read_log
from kvsim.sim.folder import read_folder
from kvsim.sim.groundtruth import serve
from support import virtual_engine as virtual
from support.command import run

TOY = ("groundtruth", "run", "--model", "toy", "--device", "cpu", "--prompt-tokens", "6")
REQUESTS = ("--output-tokens", "3", "-n", "3", "--rate", "20")


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two runs of one trace, and beside it what step times are fitted to."""
    folder = tmp_path_factory.mktemp("logs")
    for name, seed in (("runs/load-1", 1), ("runs/load-2", 1), ("fit/crowd", 2)):
        path = folder / f"{name}.jsonl.gz"
        path.parent.mkdir(exist_ok=True)
        virtual.serve(path, virtual.chat(seed, 30))
    return folder


def refused(*arguments: str) -> str:
    """The one sentence on standard error."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    assert line.endswith(".")
    return line.removeprefix("Error: ")


def test_a_run_writes_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    flags = ("--block-size", "4", "--max-num-seqs", "2", "--num-gpu-blocks-override", "9")
    result = run(*TOY, *REQUESTS, *flags, "--clock", "steady", "--out", "gt", "--name", "load")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("Wrote gt/load.jsonl.gz: 3 requests, ")
    log = read_log(Path("gt/load.jsonl.gz"))
    assert log.is_whole
    asked = {"block_size": 4, "max_num_seqs": 2, "num_gpu_blocks": 9, "max_model_len": 128}
    assert asked.items() <= dict(log.header.flags).items()
    assert log.header.hardware["clock"] == "steady"
    assert max(step.running for step in log.steps) == 2
    for step in log.steps:
        parts = step.schedule_s + step.prepare_s + step.launch_s + step.sync_s + step.update_s
        assert parts == pytest.approx(step.wall_s, abs=1e-6)
        assert min(step.prepare_s, step.launch_s, step.sync_s) >= 0
    again = refused(*TOY, *REQUESTS, "--out", "gt", "--name", "load")
    assert again == (
        "out(='gt') holds load.jsonl.gz: give another name, or add --force to replace it."
    )


def test_several_runs_have_numbered_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def served(trace: Any, run: Any, path: Path, report: Any) -> None:
        asked.append((run, path.name))
        virtual.serve(path, virtual.chat(1, 5))

    monkeypatch.setattr(serve, "serve_trace", served)
    swaps = ("--preemption", "swap", "--swap-space", "0.001", "--enforce-eager")
    command = (*TOY, *REQUESTS, *swaps, "--runs", "2", "--minutes", "1.5", "--out", str(tmp_path))
    result = run(*command, "--json")
    assert result.exit_code == 0, result.output
    assert [name for _, name in asked] == ["run-1.jsonl.gz", "run-2.jsonl.gz"]
    one = asked[0][0]
    assert (one.minutes, one.deployment.enforce_eager) == (1.5, True)
    assert one.num_host_blocks == int(0.001 * 2**30) // (one.shape.kv_bytes_per_token * 16)
    assert [entry["requests"] for entry in json.loads(result.stdout)["logs"]] == [5, 5]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--prompt-tokens", "200"), "trace has 203 tokens in row 0, which must be <= "),
        (
            ("--max-model-len", "8", "--block-size", "4"),
            "trace has 9 tokens in row 0, which must be <= max_model_len",
        ),
        (("--clock", "sun"), "clock(='sun') is unknown; known: "),
        (("--device", "tpu"), "device(='tpu') is unknown"),
        (("--device", "cuda", "--clock", "processor"), "clock(=processor) must be wall with"),
        (("--minutes", "0"), "minutes(=0) must be > 0."),
        (("--runs", "0"), "runs(=0) must be > 0."),
        (("--name", "a/b"), "name(='a/b') must be a file's name without a folder."),
        (("--model", "llama-9"), "model(='llama-9') is unknown; near: llama-3-8b"),
        (("--num-gpu-blocks-override", "1"), "num_gpu_blocks(=1) must be >= 2: "),
        (("--scheduler", "static"), "scheduler(=static) must be another one: "),
        (("--preemption", "swap", "--swap-space", "0"), "swap_space(=0) must be > 0 with "),
    ],
)
def test_what_the_engine_does_not_run(
    arguments: tuple[str, ...], sentence: str, tmp_path: Path
) -> None:
    out = str(tmp_path / "gt")
    assert refused(*TOY, *REQUESTS, *arguments, "--out", out).startswith(sentence)


def test_a_closed_loop_is_refused(tmp_path: Path) -> None:
    trace = ("--concurrency", "4", "--output-tokens", "3", "-n", "3")
    assert refused(*TOY, *trace).startswith("concurrency(=4) must be left out: ")


def test_no_gpu_and_one_with_too_little_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    command = ("groundtruth", "run", *REQUESTS, "--prompt-tokens", "6", "--out", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert refused(*command) == "device(=cuda) must be an NVIDIA GPU, and there is none."
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (20 << 30, 16 << 30))
    said = "gpu_memory(=16.0 GiB) must be >= 20.0 GiB for llama-3-8b and 16384 tokens of KV: "
    assert refused(*command) == f"{said}llama-3.2-3b fits."
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (2 << 30, 2 << 30))
    assert refused(*command).endswith("no shape fits, not even llama-3.2-1b.")
    assert not list(tmp_path.iterdir())


def test_a_report_of_a_folder(logs: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "report")
    command = ("groundtruth", "report", str(logs / "runs"), "--fit", str(logs / "fit"))
    result = run(*command, "--out", out)
    assert result.exit_code == 0, result.output
    assert "20 of 20 goals held over 2 runs." in result.stdout
    files = read_folder(out, "groundtruth")
    drawn = {"step-times", "latency-load-1", "over-time-load-1", "latency-load-2"}
    assert {f"{name}.{kind}" for name in drawn for kind in ("png", "svg")} <= set(files)
    values = json.loads(files["groundtruth.json"].read_text())
    assert values["schema"] == "kvsim-groundtruth-report/1"
    assert [one["repeat"] for one in values["logs"]] == ["load-2", "load-1"]
    foreign = tmp_path / "mine"
    foreign.mkdir()
    (foreign / "notes.txt").touch()
    assert "holds files that kvsim did not write" in refused(*command, "--out", str(foreign))


def test_a_missed_goal_is_exit_code_1(logs: Path, tmp_path: Path) -> None:
    slow = virtual.serve(tmp_path / "slow.jsonl", virtual.chat(1, 30), law=virtual.slower(1.5))
    out = tmp_path / "report"
    result = run(
        *("groundtruth", "report", str(slow), "--fit", str(logs / "fit")),
        *("--out", str(out), "--json"),
    )
    assert result.exit_code == 1
    values = json.loads(result.stdout)
    assert values == json.loads((out / "groundtruth.json").read_text())
    assert values["met"] is False
    assert "e2e_p95_s" in values["logs"][0]["misses"]
    page = (out / "report.html").read_text()
    assert "no repeat of slow is here" in page


def test_a_log_that_was_cut_off_is_used_and_named(logs: Path, tmp_path: Path) -> None:
    whole = (logs / "runs" / "load-1.jsonl.gz").read_bytes()
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[: len(whole) * 3 // 4])
    out = tmp_path / "report"
    result = run(
        *("groundtruth", "report", str(tmp_path / "cut.jsonl.gz")),
        *("--fit", str(logs / "fit"), "--out", str(out)),
    )
    assert "Note: cut.jsonl.gz is cut off: " in result.stdout
    assert "cut.jsonl.gz is cut off: " in (out / "report.html").read_text()


def test_reports_without_logs_are_refused(logs: Path, tmp_path: Path) -> None:
    folder = str(tmp_path)
    (tmp_path / "text.jsonl").write_text("{}\n")
    fit = ("--fit", str(logs / "fit"), "--out", str(tmp_path / "out"))
    assert refused("groundtruth", "report", f"{folder}/none", *fit).endswith("none is there.")
    assert "must be kvsim-groundtruth/1" in refused("groundtruth", "report", folder, *fit)
    (tmp_path / "text.jsonl").unlink()
    said = f"logs(={folder!r}) must hold logs, files that end in .jsonl.gz."
    assert refused("groundtruth", "report", folder, *fit) == said
