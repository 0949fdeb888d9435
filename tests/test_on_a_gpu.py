"""The script for a machine with a GPU: its steps, what is done again, what it tells."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest

from kvsim.calibration.measure.calibrate import calibrate
from support.fake_card import FakeCard, seconds_of

SCRIPT = Path(__file__).parent / "benchmarks" / "on_a_gpu.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("on_a_gpu", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def commands(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the steps run, as text; nothing is run."""
    seen: list[str] = []

    def python(session: object, step: str, arguments: Sequence[str]) -> int:
        seen.append(f"{step}: {' '.join(arguments)}")
        return int(step == "baselines")

    monkeypatch.setattr(script.Session, "python", python)
    return seen


def test_a_step_that_ended_well_is_not_done_again(
    script: ModuleType, commands: list[str], tmp_path: Path
) -> None:
    steps = "correctness,baselines"
    assert script.main(["--out", str(tmp_path), "--steps", steps]) == 1
    assert [text.split(":")[0] for text in commands] == ["correctness", "baselines"]
    assert "pytest" in commands[0]
    assert "--families ceilings,baselines" in commands[1]
    commands.clear()
    session = script.Session(tmp_path, "480s")
    assert session.run(("correctness", "baselines"), again=False) == 1
    assert [text.split(":")[0] for text in commands] == ["baselines"]
    assert json.loads((tmp_path / "steps.json").read_text())["correctness"]["rc"] == 0


def test_an_unknown_step_is_told(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        script.main(["--out", str(tmp_path), "--steps", "correct"])
    assert set(script.DO) == {*script.STEPS, *script.LONG_STEPS}


def test_the_sweep_is_done_only_where_it_is_named(
    script: ModuleType, commands: list[str], tmp_path: Path
) -> None:
    assert script.main(["--out", str(tmp_path), "--steps", "sweep,correctness"]) == 0
    assert [text.split(":")[0] for text in commands] == ["correctness", "sweep"]
    assert " -m slow" in commands[1]
    assert "sweep" not in script.STEPS


def test_a_calibration_that_the_budget_ended_goes_on_the_next_time(
    script: ModuleType, commands: list[str], tmp_path: Path
) -> None:
    session = script.Session(tmp_path, "60s")
    assert script.calibrate(session) == 0
    assert "--budget 60s" in commands[0]
    (tmp_path / "profile.partial.jsonl").touch()
    assert script.calibrate(session) == 1


def test_the_summary_names_goals_met_and_missed(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slow_prefill = FakeCard(law=lambda p: seconds_of(p) * (3 if "chunks" in p.x else 1))
    calibrate(
        str(tmp_path / "baselines.json"),
        families=("ceilings", "baselines"),
        report=lambda *step: None,
        card=slow_prefill,
    )
    assert script.main(["--out", str(tmp_path), "--steps", "summary"]) == 1
    text = (tmp_path / "summary.txt").read_text()
    assert "A block 16: copy_share 0.99" in text
    assert "prefill 8192: flops_per_s" in text
    assert text.count("MISSED") == 1
    assert "profile: not measured" in text
    assert "correctness: not done" in text
    assert text.strip() in capsys.readouterr().out


def test_a_command_runs_without_kvsim_installed_and_its_output_is_kept(
    script: ModuleType, tmp_path: Path
) -> None:
    session = script.Session(tmp_path, "480s")
    assert session.python("refit", ("-c", "import kvsim; print(kvsim.__file__)")) == 0
    assert session.python("refit", ("-c", "raise SystemExit(3)")) == 3
    log = (tmp_path / "log.txt").read_text()
    assert ".dev/kvsim/__init__.py" in log
    assert "===== refit: exit code 3" in log


def test_a_step_that_hangs_is_stopped(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(script.MOST_S, "correctness", 0.5)
    session = script.Session(tmp_path, "480s")
    assert session.python("correctness", ("-c", "import time; time.sleep(30)")) == 124
    assert "stopped after 0.5 s" in (tmp_path / "log.txt").read_text()
