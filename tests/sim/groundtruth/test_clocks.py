"""Where step times come from, and which logs are refused: one sentence each."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from kvsim.calibration.engine.fitted import batch_of
from kvsim.calibration.engine.host_fit import host_of
from kvsim.calibration.engine.log import Header, LogWriter
from kvsim.calibration.engine.log_reader import read_log
from kvsim.calibration.engine.shape import SHAPES
from kvsim.calibration.operator_cost import OperatorCost
from kvsim.calibration.profile.store import write_profile
from kvsim.calibration.step_cost import Batch
from kvsim.sim.deployment import Deployment
from kvsim.sim.groundtruth.clocks import clock_of
from kvsim.sim.groundtruth.truth import compare_logs
from kvsim.traces.embedded import trace_json
from support import virtual_engine as virtual
from support.logged import step
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
    assert isinstance(cost, OperatorCost)
    assert cost.capture_sizes == (1, 2, 4), "the engine's graphs, not vLLM's"


def test_beside_a_profile_logs_say_what_the_host_does(tmp_path: Path) -> None:
    """1.5 ms and 20 us a row in a graph; 0.2 ms for the launches of each of 32 layers."""
    header = Header(
        engine="mini",
        hardware={"name": "NVIDIA H200", "clock": "wall"},
        software={},
        model=asdict(SHAPES["llama-3-8b"]),
        flags=asdict(Deployment(max_model_len=8192)) | {"num_gpu_blocks": 99},
        trace=trace_json(virtual.chat(1)),
    )
    path = tmp_path / "fit.jsonl"
    with LogWriter(path, header) as log:
        for n in range(30):
            rows = [(row, 1, 40) for row in range(1 + n % 4)]
            host_s = 1.5e-3 + 20e-6 * len(rows)
            log.step(step(n, *rows, wall_s=0.009 + host_s, gpu_s=0.009, bucket=4))
            chunk = {"wall_s": 0.02, "gpu_s": 0.015, "launch_s": 32 * 0.2e-3}
            log.step(step(n + 0.5, (99, 16, 0), **chunk))
        log.end({"why": "done"})
    host = host_of([read_log(path)])
    assert host.step_s == pytest.approx(1.5e-3, rel=1e-3)
    assert host.per_request_s == pytest.approx(20e-6, rel=1e-2)
    assert host.eager_layer_s == host.piecewise_layer_s == pytest.approx(0.2e-3)
    profile = str(write_profile(make_profile(), (), tmp_path / "h200.json")[0])
    head = {"model": header.model, "hardware": header.hardware}
    served = virtual.serve(tmp_path / "run.jsonl", virtual.chat(3), block_size=16, header=head)
    run = [(served, read_log(served))]
    batch = Batch(num_decodes=4, decode_context_tokens=400, longest_context_tokens=100)
    alone, _ = clock_of(run, profile=profile)
    both, _ = clock_of(run, fit=[path], profile=profile)
    assert isinstance(alone, OperatorCost)
    more = host.ns(4) - alone.host.ns(4)
    assert both.step_ns(batch) - alone.step_ns(batch) == pytest.approx(more, rel=1e-6)
    with pytest.raises(ValueError, match=r"^fit\(=0 steps with a graph on a GPU\) must have >= 20"):
        host_of([read_log(served)])


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
