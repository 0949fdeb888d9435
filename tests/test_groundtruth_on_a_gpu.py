"""The script for the ground truth on a GPU: its steps, what is done again, its budget."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest

from kvsim.traces.intake import Intake, take_in
from support import virtual_engine as virtual

FOLDER = Path(__file__).parent / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location("gt", FOLDER / "groundtruth_on_a_gpu.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gt", module)  # where dataclasses look for its names
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def commands(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the steps run, as text; instead of a run a log is made by a law."""
    seen: list[str] = []

    def python(session: object, step: str, arguments: Sequence[str]) -> int:
        words = list(arguments)
        seen.append(f"{step}: {' '.join(words[2:] if words[0] == '-c' else words)}")
        if "run" in words:
            out, name = (words[words.index(flag) + 1] for flag in ("--out", "--name"))
            Path(out).mkdir(parents=True, exist_ok=True)
            virtual.serve(Path(out) / f"{name}.jsonl.gz", virtual.chat(1, 30))
        return int(step == "recompute")

    monkeypatch.setattr(script.Session, "python", python)
    return seen


def test_every_step_in_its_order(
    script: ModuleType, commands: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script.main(["--out", str(tmp_path)]) == 1, "one step failed"
    steps = [text.split(":")[0] for text in commands]
    assert [*dict.fromkeys(steps)] == list(script.DO)
    assert "groundtruth memory --model llama-3-8b" in commands[0]
    assert "--steps calibrate --budget 240s" in commands[1]
    text = "\n".join(commands)
    assert "--preemption swap" in text
    seeds = {
        ("/fit " in line, line.split("--seed ")[1].split()[0])
        for line in commands
        if " run " in line
    }
    fitted = {seed for is_fit, seed in seeds if is_fit}
    assert not fitted & {seed for is_fit, seed in seeds if not is_fit}, "held out of the fit"
    rates = [
        float(line.split("--rate ")[1].split()[0])
        for step in ("load-50", "load-75", "again", "load-90")
        for line in commands
        if line.startswith(f"{step}:")
    ]
    assert rates == pytest.approx([rates[0] * part for part in (1, 1.5, 1.5, 1.8)], rel=1e-4)
    assert "recompute: FAILED" in capsys.readouterr().out


def test_no_request_is_longer_than_the_engine(script: ModuleType) -> None:
    setting = script.SETTINGS["llama-3-8b"]
    longest = int(setting.flags[setting.flags.index("--max-model-len") + 1])
    for (_, workload), seeds in ((setting.chat, (1, 101, 102)), (setting.other, (2, 3, 103))):
        for seed in seeds:
            asked = Intake(workload=workload, num_requests=2000, seed=seed)
            trace = take_in(asked).trace
            assert (trace.prompt_tokens + trace.output_tokens).max() <= longest


def test_what_is_done_is_not_done_again(
    script: ModuleType, commands: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script.main(["--out", str(tmp_path)])
    commands.clear()
    script.main(["--out", str(tmp_path)])
    assert {text.split(":")[0] for text in commands} == {"recompute", "report"}
    assert "load-75: done before" in capsys.readouterr().out
    commands.clear()
    assert script.main(["--out", str(tmp_path), "--steps", "again"]) == 0
    assert [text.split(":")[0] for text in commands] == ["again"]
    state = json.loads((tmp_path / "steps.json").read_text())
    assert (state["recompute"]["rc"], state["burst"]["rc"]) == (1, 0)


def test_a_budget_stops_before_a_step_that_may_not_end(
    script: ModuleType,
    commands: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """At every look it is 50 s later, and a step may take 240: two do not end in 400."""
    clock = iter(range(0, 100_000, 50))
    monkeypatch.setattr(script.time, "monotonic", lambda: float(next(clock)))
    asked = ["--out", str(tmp_path), "--budget", "400s"]
    assert script.main(asked) == script.LEFT
    first = {text.split(":")[0] for text in commands}
    assert first == {"memory"}
    assert "left for the next call: calibrate, fit, " in capsys.readouterr().out
    commands.clear()
    assert script.main(asked) == script.LEFT
    assert {text.split(":")[0] for text in commands} == {"calibrate"}


def test_wrong_words(script: ModuleType, tmp_path: Path) -> None:
    for wrong in (("--steps", "bursts"), ("--budget", "soon"), ("--shape", "gpt")):
        with pytest.raises(SystemExit):
            script.main(["--out", str(tmp_path), *wrong])


@pytest.mark.slow
def test_the_toy_goes_through_the_same_steps(script: ModuleType, tmp_path: Path) -> None:
    steps = "memory,fit,load-75,swap,report"
    code = script.main(["--out", str(tmp_path), "--shape", "toy", "--steps", steps])
    state = json.loads((tmp_path / "steps.json").read_text())
    assert {step for step, one in state.items() if one["rc"]} <= {"report"}, "goals may be missed"
    assert code in (0, 1)
    values = json.loads((tmp_path / "report-fit" / "groundtruth.json").read_text())
    assert [one["log"] for one in values["logs"]] == ["load-75", "swap"]
