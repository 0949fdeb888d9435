"""Levels two and three: whole runs of an engine whose law is known, against the simulator."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvsim.calibration.engine.log_reader import read_log
from kvsim.sim.groundtruth.truth import Compared, Truth, compare_logs, truths_json
from kvsim.traces import Trace
from support import virtual_engine as virtual

SMALL = {"num_gpu_blocks": 20, "num_host_blocks": 64, "preemption_mode": "swap"}


@pytest.fixture(scope="module")
def fit(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Logs of other traces than those that are predicted."""
    folder = tmp_path_factory.mktemp("fit")
    return [
        virtual.serve(folder / "crowd.jsonl", virtual.chat(101, 50)),
        virtual.serve(folder / "swaps.jsonl", virtual.chat(102, 50, rate_per_s=0), **SMALL),
    ]


def figures(truth: Truth) -> dict[str, Compared]:
    return {one.name: one for one in truth.compared}


@pytest.mark.parametrize(
    ("trace", "flags"),
    [
        (virtual.chat(1), {}),
        (virtual.chat(2, rate_per_s=6.0), {}),
        (virtual.chat(3, rate_per_s=0), {}),
        (virtual.chat(4, rate_per_s=0), {"num_gpu_blocks": 20}),
        (virtual.chat(5), SMALL),
        (virtual.chat(6), {"scheduler": "vllm_v0", "watermark": 0.01}),
    ],
    ids=["busy", "idle", "burst", "recompute", "swap", "v0"],
)
def test_an_engine_that_keeps_to_the_law_is_predicted(
    fit: list[Path], tmp_path: Path, trace: Trace, flags: dict[str, Any]
) -> None:
    path = virtual.serve(tmp_path / "run.jsonl", trace, **flags)
    (truth,) = compare_logs([path], fit=fit)
    assert truth.misses == ()
    for one in truth.compared:
        if not np.isnan(one.measured):
            assert one.predicted == pytest.approx(one.measured, rel=2e-3), one.name
    assert truth.forced.errors[0].p95 < 1e-3
    preempts = "num_gpu_blocks" in flags
    assert (figures(truth)["num_preemptions"].measured > 0) == preempts


def test_an_engine_that_is_slower_than_the_fit_is_told(fit: list[Path], tmp_path: Path) -> None:
    burst = virtual.chat(7, rate_per_s=0)
    path = virtual.serve(tmp_path / "run.jsonl", burst, law=virtual.slower(1.25))
    (truth,) = compare_logs([path], fit=fit)
    found = figures(truth)
    assert found["requests_per_s"].error == pytest.approx(0.25, rel=0.01)
    assert found["e2e_p95_s"].error == pytest.approx(-0.2, rel=0.01)
    assert found["tpot_p50_s"].error == pytest.approx(-0.2, rel=0.02)
    assert truth.forced.errors[0].bias == pytest.approx(-0.2, rel=0.01)
    missed = {one.name for one in truth.misses}
    assert {"requests_per_s", "output_tokens_per_s", "ttft_p50_s", "e2e_p95_s"} <= missed
    assert "kv_use" not in missed, "all at once: the same steps, however long"
    assert truths_json([truth])["met"] is False


def test_the_noise_floor_is_what_a_repeat_differs_by(fit: list[Path], tmp_path: Path) -> None:
    burst = virtual.chat(8, rate_per_s=0)
    paths = [
        virtual.serve(tmp_path / "first.jsonl", burst),
        virtual.serve(tmp_path / "second.jsonl", burst, law=virtual.slower(1.25)),
        virtual.serve(tmp_path / "other.jsonl", virtual.chat(9, rate_per_s=0)),
    ]
    first, second, other = compare_logs(paths, fit=fit)
    assert (first.repeat, second.repeat, other.repeat) == ("second", "first", None)
    assert figures(first)["e2e_p95_s"].noise == pytest.approx(0.25, rel=0.01)
    assert figures(second)["e2e_p95_s"].noise == pytest.approx(0.2, rel=0.01)
    assert figures(other)["e2e_p95_s"].noise is None
    assert not second.misses, "as far off as the engine is from itself"


def test_other_flags_are_no_repeat(fit: list[Path], tmp_path: Path) -> None:
    trace = virtual.chat(8)
    paths = [
        virtual.serve(tmp_path / "few.jsonl", trace, max_num_seqs=3),
        virtual.serve(tmp_path / "more.jsonl", trace),
    ]
    assert [one.repeat for one in compare_logs(paths, fit=fit)] == [None, None]


def test_prompts_that_begin_alike_are_predicted(fit: list[Path], tmp_path: Path) -> None:
    plain = virtual.chat(10, 30)
    trace = Trace(
        name="alike",
        prompt_tokens=plain.prompt_tokens + 16,
        output_tokens=plain.output_tokens,
        arrival_s=plain.arrival_s,
        hash_ids=(1 + 4 * (np.arange(30) % 3)[:, None] + np.arange(4)).ravel().astype(np.uint64),
        hash_offsets=np.arange(31) * 4,
        hash_block_size=4,
    )
    path = virtual.serve(
        tmp_path / "run.jsonl", trace, enable_prefix_caching=True, max_model_len=80
    )
    assert sum(one.cached_tokens for one in read_log(path).requests) > 20 * 16
    (truth,) = compare_logs([path], fit=fit)
    assert truth.misses == ()


def test_of_a_log_that_was_cut_off_what_is_whole_is_compared(
    fit: list[Path], tmp_path: Path
) -> None:
    whole = virtual.serve(tmp_path / "whole.jsonl", virtual.chat(11, 60))
    lines = whole.read_text().splitlines(keepends=True)
    cut = tmp_path / "cut.jsonl.gz"
    with gzip.open(cut, "wt") as file:
        file.write("".join(lines[: len(lines) * 2 // 3]) + lines[-2][:20])
    (truth,) = compare_logs([cut], fit=fit)
    log = truth.log
    assert 20 < len(log.requests) < 60
    assert log.notes[0].startswith(f"cut.jsonl.gz is cut off: {len(log.steps)} steps and")
    found = figures(truth)
    for name in ("ttft_p50_s", "tpot_p95_s", "e2e_p95_s", "kv_use", "mean_running"):
        assert found[name].predicted == pytest.approx(found[name].measured, rel=0.02), name
    assert truth.to_json()["whole"] is False


def test_requests_that_were_not_let_in_are_not_expected(fit: list[Path], tmp_path: Path) -> None:
    path = virtual.serve(tmp_path / "run.jsonl", virtual.chat(12, 60), stop_s=2.0)
    log = read_log(path)
    assert log.end["num_left_out"] > 10
    (truth,) = compare_logs([path], fit=fit)
    assert truth.misses == ()


@pytest.mark.parametrize(
    ("error", "noise", "met"),
    [(0.049, None, True), (-0.051, None, False), (0.08, 0.1, True), (0.11, 0.1, False)],
)
def test_a_goal_is_its_limit_or_the_noise_floor(
    error: float, noise: float | None, met: bool
) -> None:
    one = Compared(
        name="ttft_p50_s", measured=2.0, predicted=2 * (1 + error), goal=0.05, noise=noise
    )
    assert one.met is met


def test_nothing_measured_and_nothing_predicted_is_right() -> None:
    none = Compared(name="num_preemptions", measured=0.0, predicted=0.0, goal=0.02, noise=None)
    some = Compared(name="num_preemptions", measured=0.0, predicted=1.0, goal=0.02, noise=None)
    assert (none.met, some.met) == (True, False)
    assert json.dumps(some.to_json())


def test_the_same_logs_give_the_same_values(fit: list[Path], tmp_path: Path) -> None:
    path = virtual.serve(tmp_path / "run.jsonl", virtual.chat(13))
    first, again = (json.dumps(truths_json(compare_logs([path], fit=fit))) for _ in range(2))
    assert first == again


def test_the_formats_page_names_every_key(fit: list[Path], tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "formats.md").read_text(encoding="utf-8")
    path = virtual.serve(tmp_path / "run.jsonl", virtual.chat(14))
    values: Any = truths_json(compare_logs([path], fit=fit))
    log = values["logs"][0]
    header = json.loads(path.read_text().splitlines()[0])
    keys = [*values, *log, *log["steps"][0], *log["figures"][0], *header, *header["trace"]]
    shown = {"log", "num_compiled", "whole"}  # plain words
    for name in set(keys) - shown:
        assert f"`{name}`" in page, name
