"""The page and the tables of a ground truth: figures beside goals, both sides drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kvsim.reports import groundtruth_words as said
from kvsim.reports.groundtruth_figures import groundtruth_pictures, over_time
from kvsim.reports.groundtruth_report import groundtruth_page
from kvsim.reports.groundtruth_sheets import figures_sheet, runs_sheet, steps_sheet
from kvsim.reports.style import fresh
from kvsim.sim.groundtruth.truth import Truth, compare_logs
from support import virtual_engine as virtual
from support.page_reader import Reader

EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def truths(tmp_path_factory: pytest.TempPathFactory) -> tuple[Truth, ...]:
    """Two runs of a burst, the second one slower by a quarter, and one that keeps to the law."""
    folder = tmp_path_factory.mktemp("logs")
    burst = virtual.chat(1, rate_per_s=0)
    fit = virtual.serve(folder / "fit.jsonl", virtual.chat(2))
    paths = [
        virtual.serve(folder / "first.jsonl", burst, num_gpu_blocks=20),
        virtual.serve(folder / "second.jsonl", burst, num_gpu_blocks=20, law=virtual.slower(1.25)),
        virtual.serve(folder / "Slow one.jsonl", virtual.chat(3), law=virtual.slower(1.25)),
    ]
    return compare_logs(paths, fit=[fit])


def row(truth: Truth, title: str) -> tuple[str, ...]:
    return next(cells for cells in figures_sheet(truth).rows if cells[0] == title)


def test_a_figure_has_its_error_floor_goal_and_verdict(truths: tuple[Truth, ...]) -> None:
    first, second, slow = truths
    assert row(first, "TPOT P95")[3:] == ("0.0 %", "25.0 %", "5 %", "held")
    assert row(second, "E2E P50")[3:] == ("-20.0 %", "20.0 %", "5 %", "held")
    assert row(slow, "TPOT P50")[4:] == ("-", "5 %", "missed")
    assert row(slow, "TTFT P99")[5:] == ("-", "-"), "shown, and no goal"
    preemptions = row(first, "preemptions")
    assert preemptions[1] == preemptions[2] != "0"
    assert row(first, "KV pool in use, mean")[1].endswith(" %")
    assert row(first, "TTFT P50")[1].endswith(" s")


def test_steps_and_runs(truths: tuple[Truth, ...]) -> None:
    steps = {(cells[0], cells[1]): cells for cells in steps_sheet(truths).rows}
    assert steps["first", "all"][4] in ("0.0 %", "<0.1 %")
    assert steps["second", "decode"][3].endswith("20.0 %")
    runs = {cells[0]: cells for cells in runs_sheet(truths).rows}
    assert runs["first"][3:] == ("10 of 10", "-", "second")
    assert "E2E P95" in runs["Slow one"][4]


def test_the_sentences(truths: tuple[Truth, ...]) -> None:
    lines = said.lines(truths)
    assert lines[0].startswith(said.verdict(truths))
    assert "goals held over 3 runs, " in lines[0]
    assert "within the noise floor only." in lines[0]
    assert lines[1].startswith("Slow one misses throughput, requests/s (+")
    assert "Note: no repeat of Slow one is here: their goals stand without a noise floor." in lines


def test_both_sides_are_drawn(truths: tuple[Truth, ...]) -> None:
    with fresh():
        pictures = {one.name: one for one in groundtruth_pictures(truths)}
        assert list(pictures)[:3] == ["step-times", "latency-first", "over-time-first"]
        assert "over-time-slow-one" in pictures
        for axes in pictures["latency-second"].figure.axes:
            measured, predicted = axes.lines
            assert measured.get_xdata().max() > predicted.get_xdata().max(), "a quarter slower"
        running, pool = over_time(truths[0]).figure.axes
        measured, predicted = (line.get_ydata() for line in running.lines)
        assert measured == pytest.approx(predicted, abs=0.01)
        assert measured.max() > 2, "requests, not a share"
        measured, predicted = (line.get_ydata().mean() for line in pool.lines)
        assert measured == pytest.approx(predicted, rel=0.01), "a run of steps is drawn as its mean"
        (scatter, *_) = pictures["step-times"].figure.axes
        assert len(scatter.lines) == 4, "three runs and the diagonal"
        assert len(scatter.lines[0].get_xdata()) == len(truths[0].log.steps)


def test_names_are_text(truths: tuple[Truth, ...]) -> None:
    page = groundtruth_page([replace(truths[0], name=EVIL)], [])
    assert EVIL not in page
    assert "&lt;script&gt;" in page
    text = Reader(page)
    assert text is not None
    assert str(Path.cwd()) not in page
