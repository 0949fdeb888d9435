"""The page and the tables of a validation: errors, what was not recorded, both sides drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kvsim.reports.openmetrics import metrics_text
from kvsim.reports.validate_figures import bucket_curve
from kvsim.reports.validate_report import validation_files, write_validation
from kvsim.reports.validate_sheets import (
    error_sheet,
    measured_words,
    notes_of,
    outcome,
    request_sheet,
    verdict,
)
from kvsim.sim.folder import read_folder
from kvsim.sim.store import write_result
from kvsim.sim.stored import read_result
from kvsim.sim.validation.errors import Validation, validate
from kvsim.sim.validation.measured import Estimate, Histogram, Measured, Series
from kvsim.sim.validation.read import read_measured
from support.page_reader import Reader
from support.stored_runs import small_run

EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, beside the metrics of another one with half the seats."""
    at = tmp_path_factory.mktemp("run")
    write_result(*small_run(), at / "run")
    result, summary = small_run(max_num_seqs=8)
    write_result(result, summary, at / "slow")
    (at / "metrics.txt").write_text(metrics_text(result, summary))
    return at


@pytest.fixture(scope="module")
def validation(folder: Path) -> Validation:
    measured = read_measured([folder / "slow" / "requests.parquet"])
    return validate(measured, read_result(folder / "run"))


def row(validation: Validation, title: str) -> tuple[str, ...]:
    return next(cells for cells in error_sheet(validation).rows if cells[0] == title)


def test_errors_are_signed_and_what_is_missing_is_said(validation: Validation) -> None:
    assert row(validation, "running, peak") == ("running, peak", "8", "16", "+100.0 %", "-")
    assert row(validation, "TTFT p95")[3].startswith("-")
    assert row(validation, "TTFT p95")[4] == "no"
    assert row(validation, "KV pool in use, mean")[1] == "not recorded"
    assert row(validation, "KV pool in use, mean")[3] == "-"


def test_the_first_sentence_names_the_errors(validation: Validation) -> None:
    assert verdict(validation).startswith("Predicted against measured: output tokens/s +")
    assert outcome(validation, None) == ""
    assert "TTFT p95 (-" in outcome(validation, 0.1)
    assert outcome(validation, 1e9) == ("Every figure is within 1e+11 % of what was measured.")


def test_requests_have_errors_of_their_own(validation: Validation) -> None:
    sheet = request_sheet(validation)
    assert sheet is not None
    assert [cells[0] for cells in sheet.rows] == ["TTFT", "TPOT", "E2E"]
    assert sheet.rows[0][4].startswith("-")
    assert any(
        "Requests paired by the trace's rows: 120 of 120." in n for n in notes_of(validation)
    )


def test_bounds_are_shown_where_they_are_apart() -> None:
    assert measured_words(None, "seconds") == "not recorded"
    exact = Estimate(value=2.0, low=2.0, high=2.0)
    assert measured_words(exact, "seconds") == "2.00 s"
    assert measured_words(replace(exact, high=4.0), "seconds") == "2.00 s (2.00 s to 4.00 s)"
    assert measured_words(replace(exact, high=float("inf")), "seconds") == "over 2.00 s"


def test_the_page_draws_both_sides(validation: Validation) -> None:
    files = validation_files(validation, 0.1)
    page = Reader(files["report.html"].decode())
    assert {one.get("id") for one in page.attributes("figure")} == {"latency-cdf", "over-time"}
    for words in ("1  measured", "2  predicted", "Off by more than 10 %", "not recorded"):
        assert words in page.text, words
    assert set(files) == {
        *("report.html", "validation.json"),
        *(f"{name}.{kind}" for name in ("latency-cdf", "over-time") for kind in ("png", "svg")),
    }
    assert validation_files(validation, 0.1) == files


def test_histograms_and_series_are_drawn(folder: Path) -> None:
    measured = read_measured([folder / "metrics.txt"])
    found = validate(measured, read_result(folder / "run"))
    files = validation_files(found)
    page = Reader(files["report.html"].decode())
    assert "KV pool in use" in page.text
    assert "interpolated straight between them" in page.text
    assert "known at the edges of their buckets only" in page.text
    assert " to " in row(found, "TTFT p95")[1]
    assert request_sheet(found) is None


def test_a_series_alone_has_no_distribution(folder: Path) -> None:
    series = Series(time_s=np.arange(3.0), running=np.array([1.0, 2.0, 1.0]))
    found = validate(Measured(sources=("x.csv",), series=series), read_result(folder / "run"))
    assert "over-time.svg" in validation_files(found)
    assert "latency-cdf.svg" not in validation_files(found)


def test_names_are_text_and_no_path_is_shown(folder: Path) -> None:
    measured = replace(
        read_measured([folder / "slow" / "requests.parquet"]), sources=(EVIL,), notes=(EVIL,)
    )
    found = validate(measured, replace(read_result(folder / "run"), name=EVIL))
    page = validation_files(found)["report.html"].decode()
    assert EVIL not in page
    assert EVIL in Reader(page).text
    assert str(folder) not in page


def test_the_folder_is_kvsims_own(validation: Validation, tmp_path: Path) -> None:
    validation = replace(validation, result=replace(validation.result, files={}))
    write_validation(validation, tmp_path / "out", tolerance=0.1)
    assert "validation.json" in read_folder(tmp_path / "out", "validation")


def test_a_histograms_curve_is_exact_at_its_edges() -> None:
    edges = np.array([1.0, 2.0, 4.0, 8.0])
    found = bucket_curve(Histogram(edges=edges, counts=np.array([0.0, 3, 1, 0, 0]), total=9.0))
    assert found is not None
    assert found.x.tolist() == [1.0, 2.0, 4.0]
    assert found.y.tolist() == [0.0, 0.75, 1.0]
    beyond = bucket_curve(Histogram(edges=edges, counts=np.array([2.0, 0, 0, 0, 2]), total=9.0))
    assert beyond is not None
    assert (beyond.x[0], beyond.y[-1]) == (0.0, 0.5)
