"""Where step times come from, and which logs are refused: one sentence each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kvsim.sim.groundtruth.truth import compare_logs
from support import virtual_engine as virtual


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
