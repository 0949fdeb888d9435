"""Predictions beside what was measured: exact against themselves, known against a published run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvsim.reports.openmetrics import metrics_text
from kvsim.sim.metric_directions import METRICS
from kvsim.sim.store import write_result
from kvsim.sim.stored import Stored, read_result
from kvsim.sim.validation.errors import Band, Figure, Validation, read_tolerance, validate
from kvsim.sim.validation.figures import counts_over_time, measured_figures
from kvsim.sim.validation.match import pair
from kvsim.sim.validation.measured import Estimate, Measured, Requests, Series
from kvsim.sim.validation.read import read_measured
from kvsim.sim.validation.request_errors import predicted_times, request_errors
from support.measured import FOLDER, MEASURED, TRACE, simulated
from support.stored_runs import small_run, stored_run

PUBLISHED = {  # the README's table: predicted over measured, less 1
    "makespan_s": -0.039,
    "output_tokens_per_s": 0.040,
    "ttft_s.p50": -0.140,
    "ttft_s.p95": -0.081,
    "tpot_s.p50": -0.025,
    "tpot_s.p95": -0.020,
    "e2e_s.p50": -0.044,
    "e2e_s.p95": -0.043,
    "peak_running": 0.0,
    "peak_waiting": -0.058,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stored_run(tmp_path_factory.mktemp("run") / "run")


def by_path(validation: Validation) -> dict[str, Figure]:
    return {one.path: one for one in validation.figures}


def test_a_run_predicts_itself(folder: Path) -> None:
    found = validate(read_measured([folder / "requests.parquet"]), read_result(folder))
    figures = by_path(found)
    assert len(figures) == 16
    for path, one in figures.items():
        if not path.startswith("kv_use"):
            assert one.error == pytest.approx(0, abs=1e-8), path
    assert {one.in_band for one in figures.values()} == {True, None}
    assert found.pairs is not None
    assert len(found.pairs.measured) == 120
    assert all(one.median_s < 1e-12 and one.p95_s < 1e-12 for one in found.per_request)
    assert found.misses(1e-8) == ()


def test_the_published_run_has_the_errors_of_the_readme(
    shared_file: Callable[[str], Path], tmp_path: Path
) -> None:
    write_result(*simulated(shared_file(TRACE))[1:], tmp_path / "run")
    names = ("requests.jsonl.gz", "timeseries.csv")
    measured = read_measured([shared_file(f"{FOLDER}/{name}") for name in names])
    found = validate(measured, read_result(tmp_path / "run"))
    figures = by_path(found)
    for path, error in PUBLISHED.items():
        one = figures[path]
        assert one.error == pytest.approx(error, abs=0.001), path
        assert one.measured is not None
        said = MEASURED[path.replace(".", " ")]
        assert one.measured.value == pytest.approx(said, rel=0.002), path
    inside = {path for path, one in figures.items() if one.in_band}
    assert {path for path, one in figures.items() if one.in_band is False} == {"ttft_s.p50"}
    assert {"makespan_s", "output_tokens_per_s", "e2e_s.p95"} <= inside
    assert figures["kv_use.mean"].measured is None
    assert figures["kv_use.mean"].error is None
    waiting = figures["mean_waiting"]
    assert waiting.error == pytest.approx(-0.063, abs=0.002)
    assert found.pairs is not None
    assert (len(found.pairs.measured), found.pairs.how) == (300, "by order")
    assert [one.path for one in found.misses(0.1)] == ["ttft_s.p50"]
    assert found.misses(0.15) == ()


def test_waiting_is_what_the_log_sampled_where_there_is_one(
    shared_file: Callable[[str], Path],
) -> None:
    paths = [shared_file(f"{FOLDER}/{name}") for name in ("requests.jsonl.gz", "timeseries.csv")]
    alone, both = (measured_figures(read_measured(some)) for some in (paths[:1], paths))
    assert both["peak_waiting"].value == 104
    assert alone["peak_waiting"].value == pytest.approx(104, abs=4)
    assert both["ttft_s.p50"] == alone["ttft_s.p50"]


def test_own_metrics_predict_the_run_they_are_of(tmp_path: Path) -> None:
    result, summary = small_run()
    write_result(result, summary, tmp_path / "run")
    (tmp_path / "m.txt").write_text(metrics_text(result, summary))
    found = validate(read_measured([tmp_path / "m.txt"]), read_result(tmp_path / "run"))
    figures = by_path(found)
    for path in ("num_finished", "num_preemptions"):
        assert figures[path].error in (0, None), path
    for path in ("ttft_s.p50", "ttft_s.p95", "tpot_s.p50", "e2e_s.p50", "e2e_s.p95"):
        measured = figures[path].measured
        assert measured is not None
        assert measured.low <= (figures[path].predicted or 0.0) <= measured.high, path
    for path in ("mean_running", "mean_waiting", "kv_use.mean", "output_tokens_per_s"):
        assert figures[path].error == pytest.approx(0, abs=0.06), path


def requests(**columns: Any) -> Requests:
    num = len(columns["arrival_s"])
    filled = {"waited_s": np.zeros(num), "prompt_tokens": np.full(num, 8), **columns}
    return Requests(output_tokens=np.full(num, 3), **filled)


def test_counts_over_time_meet_at_their_ends() -> None:
    one = requests(
        arrival_s=np.array([0.0, 1.0]),
        ttft_s=np.array([1.0, 2.5]),
        e2e_s=np.array([2.0, 3.0]),
        waited_s=np.array([0.0, 1.0]),
    )
    counts = counts_over_time(one)
    assert counts is not None
    times, running, waiting = counts
    assert times.tolist() == [0.0, 1.0, 2.0, 4.0]
    assert running.tolist() == [1, 1, 1, 0]
    assert waiting.tolist() == [0, 1, 0, 0]
    figures = measured_figures(Measured(sources=(), requests=one))
    assert figures["mean_running"].value == 1.0
    assert figures["mean_waiting"].value == 0.25
    assert figures["peak_running"].value == 1.0


def test_a_client_knows_nothing_of_the_queue() -> None:
    one = requests(
        arrival_s=np.array([0.0]),
        ttft_s=np.array([1.0]),
        e2e_s=np.array([2.0]),
        waited_s=np.array([np.nan]),
    )
    assert counts_over_time(one) is None
    figures = measured_figures(Measured(sources=(), requests=one))
    assert not {"mean_waiting", "peak_running"} & set(figures)
    assert figures["tpot_s.p50"].value == 0.5


def test_idle_samples_at_either_end_are_not_in_the_means() -> None:
    series = Series(
        time_s=np.arange(6.0),
        running=np.array([0.0, 2, 4, 2, 0, 0]),
        waiting=np.array([0.0, 0, 1, 0, 0, 0]),
    )
    figures = measured_figures(Measured(sources=(), series=series))
    assert figures["mean_running"].value == 3.0
    assert figures["mean_waiting"].value == 0.5


def test_rates_of_a_log_stand_where_requests_tell_none() -> None:
    series = Series(time_s=np.arange(3.0), output_tokens_per_s=np.array([2.0, 4.0, 2.0]))
    one = requests(arrival_s=np.zeros(1), ttft_s=np.ones(1), e2e_s=np.array([2.0]))
    alone = measured_figures(Measured(sources=(), series=series))
    both = measured_figures(Measured(sources=(), series=series, requests=one))
    assert alone["output_tokens_per_s"].value == 3.0
    assert both["output_tokens_per_s"].value == 1.5


def test_errors_of_requests_are_medians_and_a_tail() -> None:
    one = measured_of([(5, 2)] * 20)
    predicted = columns([(5, 2)] * 21, ["finished"] * 20 + ["cancelled"])
    late = np.linspace(0.0, 0.19, 20)
    predicted |= {
        "arrival_s": np.zeros(21),
        "first_token_s": np.append(1 - late, 9.0),
        "finish_s": np.append(2 - late, 99.0),
    }
    found = {error.name: error for error in request_errors(one, predicted, pair(one, predicted))}
    ttft = found["ttft_s"]
    assert ttft.median_s == pytest.approx(0.095)
    assert ttft.p95_s == pytest.approx(0.1805)
    assert ttft.bias == pytest.approx(-0.095)
    assert ttft.median_relative == pytest.approx(0.095)
    assert found["tpot_s"].median_s == pytest.approx(0)
    assert found["e2e_s"].bias == pytest.approx(-0.0475)
    assert np.isnan(predicted_times(predicted)["e2e_s"][20])


def figure(path: str, measured: float | Estimate, predicted: float) -> Figure:
    value = (
        measured
        if isinstance(measured, Estimate)
        else Estimate(value=measured, low=measured, high=measured)
    )
    band = Band(low=0.8, high=1.25)
    return Figure(path=path, metric=METRICS[path], measured=value, predicted=predicted, band=band)


def test_the_band_is_about_the_prediction() -> None:
    assert figure("makespan_s", 8.0, 10.0).in_band is True
    assert figure("makespan_s", 7.9, 10.0).in_band is False
    assert figure("makespan_s", 12.5, 10.0).in_band is True
    assert figure("makespan_s", 12.6, 10.0).in_band is False
    assert figure("requests_per_s", 12.5, 10.0).in_band is True
    assert figure("requests_per_s", 12.6, 10.0).in_band is False
    assert figure("peak_running", 10.0, 10.0).in_band is None
    bucket = Estimate(value=15.0, low=12.0, high=20.0)
    assert figure("makespan_s", bucket, 10.0).in_band is True
    assert figure("makespan_s", bucket, 9.0).in_band is False
    assert figure("makespan_s", bucket, 20.0).in_band is True
    assert figure("makespan_s", bucket, 25.1).in_band is False
    uneven = replace(figure("makespan_s", 9.0, 10.0), band=Band(low=0.95, high=1.5))
    assert uneven.in_band is False
    rate = replace(uneven, metric=METRICS["requests_per_s"])
    assert rate.in_band is True


def test_a_miss_is_an_error_beyond_the_tolerance_either_way() -> None:
    assert figure("makespan_s", 10.0, 11.0).error == pytest.approx(0.1)
    assert not figure("makespan_s", 8.0, 10.0).misses(0.25)
    assert figure("makespan_s", 8.0, 10.1).misses(0.25)
    assert figure("makespan_s", 8.0, 5.9).misses(0.25)
    assert figure("num_preemptions", 0.0, 3.0).misses(10)
    assert not figure("num_preemptions", 0.0, 0.0).misses(0)


def columns(lengths: list[tuple[int, int]], status: list[str]) -> dict[str, Any]:
    prompt, output = zip(*lengths, strict=True)
    return {
        "index": np.arange(len(lengths)),
        "prompt_tokens": np.array(prompt),
        "output_tokens": np.array(output),
        "status": np.array(status),
    }


def measured_of(lengths: list[tuple[int, int]], rows: list[int] | None = None) -> Requests:
    prompt, output = zip(*lengths, strict=True)
    num = len(lengths)
    return Requests(
        arrival_s=np.arange(float(num)),
        ttft_s=np.ones(num),
        e2e_s=np.full(num, 2.0),
        waited_s=np.zeros(num),
        prompt_tokens=np.array(prompt),
        output_tokens=np.array(output),
        rows=None if rows is None else np.array(rows),
    )


def test_requests_are_paired_by_row_by_order_or_by_lengths() -> None:
    lengths = [(5, 2), (7, 3), (5, 2), (9, 4)]
    predicted = columns(lengths, ["finished", "finished", "finished", "rejected"])
    by_order = pair(measured_of(lengths[:3]), predicted)
    assert (by_order.how, by_order.predicted.tolist()) == ("by order", [0, 1, 2])
    turned = pair(measured_of([(7, 3), (5, 2), (8, 8), (5, 2)]), predicted)
    assert turned.how == "by prompt and output length"
    assert turned.measured.tolist() == [0, 1, 3]
    assert turned.predicted.tolist() == [1, 0, 2]
    by_row = pair(measured_of(lengths[:3], rows=[2, 3, 0]), predicted)
    assert (by_row.how, by_row.measured.tolist()) == ("by the trace's rows", [0, 2])
    assert by_row.predicted.tolist() == [2, 0]


def test_another_trace_is_noticed(folder: Path) -> None:
    found = validate(
        Measured(sources=("x",), requests=measured_of([(1, 1), (2, 2)])), read_result(folder)
    )
    assert any("of another trace" in note for note in found.notes)
    assert found.per_request == ()


def test_a_summary_alone_has_figures_but_no_pairs(folder: Path) -> None:
    measured = read_measured([folder / "requests.parquet"])
    alone = Stored(name="s", kind="result", values=read_result(folder).values)
    found = validate(measured, alone)
    assert found.pairs is None
    assert by_path(found)["kv_use.mean"].predicted is None
    assert by_path(found)["e2e_s.p95"].error == pytest.approx(0, abs=1e-8)


def test_nothing_in_common_is_one_sentence() -> None:
    series = Series(time_s=np.arange(2.0), kv_share=np.ones(2))
    with pytest.raises(ValueError, match="'s' have no figure in common"):
        validate(
            Measured(sources=("x.csv",), series=series), Stored(name="s", kind="result", values={})
        )


@pytest.mark.parametrize(("text", "value"), [("10%", 0.1), ("0.1", 0.1), ("5 %", 0.05), ("0", 0.0)])
def test_tolerances_are_shares(text: str, value: float) -> None:
    assert read_tolerance(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "x", "-1%", "10%x", "nan", "inf"])
def test_other_tolerances_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a share >= 0"):
        read_tolerance(text)


def test_no_tolerance_is_none() -> None:
    assert read_tolerance(None) is None
