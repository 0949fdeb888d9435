"""Timeline and metrics on disk: both, one or none, whole or not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from kvsim.calibration.affine import AffineCost
from kvsim.reports.exports import write_exports
from kvsim.reports.openmetrics import Scraping
from kvsim.sim.deployment import Deployment
from kvsim.sim.result import Result
from kvsim.sim.simulation import simulate
from kvsim.sim.summary import Summary, summarise
from support.workloads import Columns

SMALL = Deployment(max_model_len=64, max_num_seqs=2, max_num_batched_tokens=64)


@pytest.fixture(name="run")
def small_run() -> tuple[Result, Summary]:
    """One request of three tokens, a second each."""
    trace = Columns(
        arrival_s=np.array([0.0]), prompt_tokens=np.array([4]), output_tokens=np.array([3])
    )
    cost = AffineCost(base_s=1.0, per_scheduled_token_s=0.0, per_context_token_s=0.0)
    result = simulate(trace, deployment=SMALL, cost=cost, num_gpu_blocks=41)
    summary = summarise(
        result,
        settings={"deployment": SMALL.to_json()},
        sources={"gpu": "a100", "timing_band": {"high": float("inf")}},
        digests={"trace": "abc"},
    )
    return result, summary


def test_both_are_written(tmp_path: Path, run: tuple[Result, Summary]) -> None:
    paths = [tmp_path / "run.json", tmp_path / "run.txt"]
    scraping = Scraping(interval_s=0.5, model_name="mine")
    written = write_exports(*run, timeline=str(paths[0]), metrics=str(paths[1]), scraping=scraping)
    assert written == paths
    read = json.loads(paths[0].read_text("ascii"), parse_constant=pytest.fail)
    assert read["otherData"]["digests"] == {"trace": "abc"}
    assert read["otherData"]["sources"] == {"gpu": "a100", "timing_band": {"high": None}}
    text = paths[1].read_text("utf-8")
    assert 'vllm:generation_tokens_total{engine="0",model_name="mine"} 3 3.000\n' in text
    assert text.count("vllm:num_requests_running{") == 7
    assert sorted(tmp_path.iterdir()) == paths


def test_only_what_is_asked_for(tmp_path: Path, run: tuple[Result, Summary]) -> None:
    assert write_exports(*run) == []
    metrics = tmp_path / "m.txt"
    assert write_exports(*run, metrics=str(metrics)) == [metrics]
    assert metrics.read_text("utf-8").count("\nvllm:num_requests_running{") == 4


def test_nothing_is_written_where_one_is_wrong(
    tmp_path: Path, run: tuple[Result, Summary], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvsim.reports.scrapes.MOST_SCRAPES", 1000)
    good = str(tmp_path / "run.json")
    with pytest.raises(ValueError, match=r"^timeline\(='x\.txt'\) must end in \.json or"):
        write_exports(*run, timeline="x.txt", metrics=str(tmp_path / "m.txt"))
    with pytest.raises(ValueError, match=r"^metrics_interval\(=0\.001\) gives"):
        write_exports(*run, timeline=good, metrics="m", scraping=Scraping(interval_s=1e-3))
    assert not list(tmp_path.iterdir())
