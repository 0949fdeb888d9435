"""The toy engine as it was recorded on a CPU, against the simulator; no engine runs here.

``tests/benchmarks/record_toy.py`` records the logs. Step times are fitted to those in ``fit/``, the
others are predicted. Each was recorded twice. Throughput and preemptions are held to their limits
in both; P95 latencies and KV in use against the mean of the two, with what they differ by, the
noise floor, on top.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kvsim.calibration.engine.log_reader import read_log
from kvsim.sim.groundtruth.truth import Compared, Truth, compare_logs

FOLDER = Path(__file__).parents[2] / "fixtures" / "groundtruth"
NAMES = ("burst", "load-50", "load-75", "prefix", "recompute", "swap")
LIMITS = {
    "requests_per_s": 0.10,
    "output_tokens_per_s": 0.10,
    "ttft_p95_s": 0.15,
    "tpot_p95_s": 0.15,
    "e2e_p95_s": 0.15,
    "kv_use": 0.02,
    "num_preemptions": 0.0,
}
ALONE = ("requests_per_s", "output_tokens_per_s", "num_preemptions")
"""Held to their limits whatever a repeat differs by."""
MOST_BYTES = 1_500_000


@pytest.fixture(scope="module")
def truths() -> dict[str, Truth]:
    predicted = sorted(FOLDER.glob("*.jsonl.gz"))
    made = compare_logs(predicted, fit=sorted((FOLDER / "fit").glob("*.jsonl.gz")))
    return {truth.name: truth for truth in made}


def figures(truth: Truth) -> dict[str, Compared]:
    return {one.name: one for one in truth.compared}


@pytest.mark.parametrize("name", NAMES)
def test_a_run_that_was_not_fitted_to_is_predicted(truths: dict[str, Truth], name: str) -> None:
    first, again = truths[name], truths[f"{name}-again"]
    assert (first.repeat, again.repeat) == (f"{name}-again", name)
    one, other = figures(first), figures(again)
    for figure, limit in LIMITS.items():
        runs = one[figure].measured, other[figure].measured
        mean, predicted = sum(runs) / 2, one[figure].predicted
        noise = 0.0 if figure in ALONE else abs(runs[0] - runs[1]) / mean
        for measured in runs if figure in ALONE else (mean,):
            error = abs(predicted / measured - 1) if measured else predicted
            assert error <= limit + noise, f"{figure}: {error:.4f} beside {noise:.4f}"


def test_the_steps_are_predicted(truths: dict[str, Truth]) -> None:
    """Over all runs, as the host is not equally fast in each."""
    measured = sum(truth.forced.measured_s.sum() for truth in truths.values())
    predicted = sum(truth.forced.predicted_s.sum() for truth in truths.values())
    assert predicted == pytest.approx(measured, rel=0.10)


def test_what_happens_is_in_the_logs(truths: dict[str, Truth]) -> None:
    assert set(truths) == {name + repeat for name in NAMES for repeat in ("", "-again")}
    steps = {name: truth.log.steps for name, truth in truths.items()}
    assert figures(truths["recompute"])["num_preemptions"].measured > 1
    assert sum(step.swapped_in_blocks for step in steps["swap"]) > 4
    assert sum(one.cached_tokens for one in truths["prefix"].log.requests) > 500
    assert any(len(step.rows) > 1 and step.num_tokens > 8 for step in steps["load-75"]), "mixed"
    for truth in truths.values():
        assert truth.log.is_whole


def test_no_trace_is_fitted_to_and_predicted(truths: dict[str, Truth]) -> None:
    fitted = {read_log(path).header.trace["digest"] for path in (FOLDER / "fit").glob("*.jsonl.gz")}
    assert len(fitted) > 3
    assert not fitted & {truth.log.header.trace["digest"] for truth in truths.values()}


def test_the_logs_are_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.rglob("*.gz")) < MOST_BYTES
