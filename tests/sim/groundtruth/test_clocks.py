"""Where step times come from, and which logs are refused: one sentence each."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from kvsim.calibration.engine.fitted import batch_of
from kvsim.calibration.engine.log_reader import read_log
from kvsim.calibration.engine.shape import SHAPES
from kvsim.calibration.profile.store import write_profile
from kvsim.calibration.step_cost import Batch
from kvsim.sim.groundtruth.clocks import clock_of
from kvsim.sim.groundtruth.truth import compare_logs
from support import virtual_engine as virtual
from support.profiles import make_profile


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One to fit to, one to predict."""
    folder = tmp_path_factory.mktemp("logs")
    return (
        virtual.serve(folder / "fit.jsonl", virtual.chat(1)),
        virtual.serve(folder / "run.jsonl", virtual.chat(2)),
    )


def with_header(log: Path, folder: Path, **changed: Any) -> Path:
    """A copy with another head."""
    first, *rest = log.read_text().splitlines(keepends=True)
    path = folder / "other.jsonl"
    path.write_text(json.dumps(json.loads(first) | changed) + "\n" + "".join(rest))
    return path


def test_step_times_must_come_from_somewhere(logs: tuple[Path, Path]) -> None:
    fit, run = logs
    with pytest.raises(ValueError, match=r"--fit LOG, or --profile PROFILE\.json\.$"):
        compare_logs([run])
    with pytest.raises(ValueError, match="exclude each other"):
        compare_logs([run], fit=[fit], profile="h100.json")
    with pytest.raises(ValueError, match=r"^logs must name at least one file\.$"):
        compare_logs([], fit=[fit])


def test_a_profile_of_the_card_takes_the_place_of_a_fit(tmp_path: Path) -> None:
    """Its step times, and its links for the moves; a profile is of one shape."""
    path = tmp_path / "h200.json"
    write_profile(make_profile(), (), path)
    served = virtual.serve(
        tmp_path / "run.jsonl",
        virtual.chat(3),
        block_size=16,
        header={"model": asdict(SHAPES["llama-3-8b"]), "hardware": {"name": "NVIDIA H200"}},
    )
    log = read_log(served)
    cost, moves = clock_of([(served, log)], profile=str(path))
    assert cost.source == "measured"
    batch = Batch(num_decodes=4, decode_context_tokens=400)
    layers_ns = 32 * 1e3 * (100 + 50 + 300 + 200 + 10)
    assert cost.step_ns(batch) > layers_ns + 400e3, "linear layers, attention, the head"
    assert moves is not None
    assert moves.swap_ns(10) > moves.swap_ns(1) > 0
    (truth,) = compare_logs([served], profile=str(path))
    predicted = [cost.step_ns(batch_of(step)) / 1e9 for step in log.steps]
    assert truth.forced.predicted_s == pytest.approx(predicted)
    assert truth.origin == cost.origin


def test_what_is_fitted_to_is_not_predicted(logs: tuple[Path, Path]) -> None:
    with pytest.raises(
        ValueError, match=r"^fit\(='run.jsonl'\) must not be among the logs that it predicts.$"
    ):
        compare_logs([logs[1]], fit=logs)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"hardware": {"name": "cpu", "clock": "wall"}},
            r"hardware\(=cpu\) of other.jsonl must be law, as in run.jsonl",
        ),
        (
            {"hardware": {"name": "law", "clock": "processor"}},
            r"clock\(=processor\) of other.jsonl must be wall",
        ),
        ({"engine": "transformers"}, r"engine\(=transformers\) of other.jsonl must be mini"),
    ],
    ids=["hardware", "clock", "engine"],
)
def test_mixed_logs_are_refused(
    logs: tuple[Path, Path], tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    fit, run = logs
    other = with_header(run, tmp_path, **changed)
    with pytest.raises(ValueError, match=message):
        compare_logs([run, other], fit=[fit])
    with pytest.raises(ValueError, match=message):
        compare_logs([run], fit=[other])


def test_another_shape_is_refused(logs: tuple[Path, Path], tmp_path: Path) -> None:
    fit, run = logs
    model = json.loads(run.read_text().splitlines()[0])["model"]
    other = with_header(run, tmp_path, model=model | {"name": "llama-3-8b"})
    with pytest.raises(ValueError, match=r"^model\(=llama-3-8b\) of other.jsonl must be toy, as"):
        compare_logs([run, other], fit=[fit])


def test_another_version_is_refused(logs: tuple[Path, Path], tmp_path: Path) -> None:
    fit, run = logs
    other = with_header(run, tmp_path, schema="kvsim-groundtruth/2")
    with pytest.raises(ValueError, match=r"^schema\(=kvsim-groundtruth/2\) must be"):
        compare_logs([other], fit=[fit])


def test_a_trace_that_was_changed_is_refused(logs: tuple[Path, Path], tmp_path: Path) -> None:
    fit, run = logs
    trace = json.loads(run.read_text().splitlines()[0])["trace"]
    trace["columns"]["prompt_tokens"][0] += 1
    other = with_header(run, tmp_path, trace=trace)
    with pytest.raises(ValueError, match=r"^trace\(='chat-2'\) must have the digest"):
        compare_logs([other], fit=[fit])
