"""The page and the tables of a comparison: directions in words, names as text, figures per run."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from kvsim.reports import words
from kvsim.reports.compare_bars import BARS, plan_bars
from kvsim.reports.compare_figures import courses_of
from kvsim.reports.compare_report import (
    comparison_files,
    comparison_tables,
    terminal_table,
    write_comparison,
)
from kvsim.reports.compare_sheets import (
    change_words,
    difference_sheet,
    headlines,
    metric_sheet,
    percent,
    verdicts,
)
from kvsim.reports.overlay import COLOURS, MOST_POINTS, distribution, drawn_name, style
from kvsim.reports.sheet import Sheet
from kvsim.reports.write import finite
from kvsim.sim.comparison import Comparison, Row, compare
from kvsim.sim.files import json_bytes
from kvsim.sim.folder import read_folder, write_folder
from kvsim.sim.metric_directions import METRICS
from kvsim.sim.plan import Plan
from kvsim.sim.stored import Stored, read_all
from support.page_reader import Reader
from support.stored_runs import stored_run

EVIL = '"><script>alert(1)</script>'


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Stored, ...]:
    at = tmp_path_factory.mktemp("runs")
    stored_run(at / "base")
    return read_all([at / "base", stored_run(at / "narrow", max_num_seqs=8)])


@pytest.fixture(scope="module")
def comparison(runs: tuple[Stored, ...]) -> Comparison:
    return compare(runs)


@pytest.fixture(scope="module")
def files(comparison: Comparison) -> dict[str, bytes]:
    return comparison_files(comparison)


def printed(comparison: Comparison, **settings: Any) -> str:
    console = Console(width=120, file=io.StringIO(), no_color=True)
    for table in comparison_tables(comparison, **settings):
        console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def cells(comparison: Comparison, title: str) -> tuple[str, ...]:
    sheet = metric_sheet(comparison, whole=True)
    return next(row for row in sheet.rows if row[0] == title)


def test_a_change_is_said_in_words(comparison: Comparison) -> None:
    assert cells(comparison, "TTFT p95")[3].endswith("% worse")
    assert cells(comparison, "TPOT p50")[3].endswith("% better")
    assert cells(comparison, "running, peak") == ("running, peak", "16", "8", "-50.0 %")
    assert cells(comparison, "requests")[3] == "same"


@pytest.mark.parametrize(
    ("path", "before", "after", "words"),
    [
        ("ttft_s.p50", 1.0, 1.042, "+4.2 % worse"),
        ("ttft_s.p50", 1.0, 0.5, "-50.0 % better"),
        ("output_tokens_per_s", 100.0, 100.001, "+0.0010 % better"),
        ("num_preemptions", 0, 3, "+3 worse"),
        ("prefix_hit_ratio", 0.5, 0.485, "-1.5 points worse"),
        ("mean_running", 10.0, 11.0, "+10.0 %"),
        ("makespan_s", 1.0, 21.0, "+2,000 % worse"),
        ("makespan_s", 1.0, 1.0, "same"),
    ],
)
def test_words_of_a_change(path: str, before: float, after: float, words: str) -> None:
    row = Row(path=path, metric=METRICS[path], values=(before, after, None))
    assert change_words(row, 1) == words
    assert change_words(row, 2) == "-"


def test_a_difference_is_never_printed_as_none() -> None:
    assert percent(0.0) == "0.0 %"
    assert percent(-1e-6) == "-0.00010 %"


def test_the_first_sentence_names_what_matters(comparison: Comparison) -> None:
    (line,) = verdicts(comparison)
    assert line.startswith("narrow against base: output tokens/s -")
    assert "TTFT p95 +" in line
    assert line.count("worse") >= 2


def test_the_terminal_shows_headlines_or_all(comparison: Comparison) -> None:
    few, all_of_them = printed(comparison), printed(comparison, whole=True)
    assert "max_num_seqs 16 8" in [" ".join(line.split()) for line in few.splitlines()]
    assert "TTFT p99" not in few
    assert "TTFT p99" in all_of_them
    assert "rejected" not in few
    assert len(headlines(comparison)) < len(comparison.rows)
    assert all(len(line.rstrip()) <= 100 for line in few.splitlines())


def test_what_is_the_same_is_not_listed(runs: tuple[Stored, ...]) -> None:
    twice = compare([replace(runs[0], files={}, name=name) for name in ("base", "again")])
    assert difference_sheet(twice).rows == ()
    assert "Set up differently" not in printed(twice)
    assert b"Nothing: flags, trace" in comparison_files(twice)["report.html"]


def test_the_page_is_whole(files: dict[str, bytes], comparison: Comparison) -> None:
    page = Reader(files["report.html"].decode())
    titles = {attrs.get("id") for attrs in page.attributes("figure")}
    assert titles == {"latency-cdf", "over-time"}
    assert {attrs["id"] for attrs in page.attributes("section")} == {
        *("what-differs", "metrics", "figures", "digests")
    }
    assert comparison.runs[0].summary["digests"]["trace"] in page.text
    assert set(files) == {
        *("report.html", "comparison.json"),
        *(f"{name}.{kind}" for name in ("latency-cdf", "over-time") for kind in ("png", "svg")),
    }


def test_the_same_comparison_gives_the_same_bytes(
    files: dict[str, bytes], comparison: Comparison
) -> None:
    assert comparison_files(comparison) == files


def test_the_folder_is_kvsims_own(runs: tuple[Stored, ...], tmp_path: Path) -> None:
    comparison = compare([replace(run, files={}) for run in runs])
    paths = write_comparison(comparison, tmp_path / "out")
    assert paths[0].name == "report.html"
    write_comparison(comparison, tmp_path / "out")
    assert "comparison.json" in read_folder(tmp_path / "out", "comparison")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match="holds files that kvsim did not write"):
        write_comparison(comparison, tmp_path / "mine")


def test_names_are_text_everywhere(runs: tuple[Stored, ...]) -> None:
    names = (EVIL, "_hidden", "$x^2$", "[red]x[/]", "\N{PILE OF POO}\x07", "a" * 99)
    found = compare([runs[0], *(replace(runs[1], name=name) for name in names)])
    page = comparison_files(found)["report.html"].decode()
    assert "<script>alert" not in page
    read = Reader(page).text
    for position, name in enumerate(names, start=2):
        assert name in read, name
        assert f"{position}  {drawn_name(name)}" in read, name
    assert drawn_name(names[-2]) == "??"
    assert len(drawn_name(names[-1])) <= 28
    assert "[red]" in printed(found)


def test_a_lone_summary_is_compared_without_figures(runs: tuple[Stored, ...]) -> None:
    lone = tuple(replace(run, files={}) for run in runs)
    files = comparison_files(compare(lone))
    assert set(files) == {"report.html", "comparison.json"}
    assert 'id="figures"' not in files["report.html"].decode()
    half = comparison_files(compare([runs[0], lone[1]]))
    assert "latency-cdf.svg" in half


def test_plans_are_drawn_as_bars(plan: Plan, tmp_path: Path) -> None:
    files = {"plan.json": json_bytes(finite(plan.to_json()))}
    for name in ("a", "b"):
        write_folder(tmp_path / name, "plan", files)
    found = compare(read_all([tmp_path / "a", tmp_path / "b"]))
    made = comparison_files(found)
    page = Reader(made["report.html"].decode())
    assert "under-backlog.png" in made
    for title in (*BARS.values(), *(one.title for one in plan.candidates)):
        assert title in page.text, title
    assert {row.change(1) for row in found.rows} <= {"same", None}
    assert verdicts(found)[0].count("running under backlog") == 1
    rows = {cells[:2]: cells[2] for cells in plan_bars(found).sheet.rows}
    for one in plan.candidates:
        assert one.backlog is not None
        said = words.mean(one.backlog.mean_running)
        assert rows["a", one.title] == rows["b", one.title] == said


def test_square_brackets_in_cells_are_text() -> None:
    sheet = Sheet(title="x", columns=("a", "b"), rows=(("[bold]", "[red]1 % worse"),))
    console = Console(width=80, file=io.StringIO(), no_color=True)
    console.print(terminal_table(sheet))
    assert isinstance(console.file, io.StringIO)
    assert "[bold]" in console.file.getvalue()
    assert "[red]1 % worse" in console.file.getvalue()


def test_a_course_begins_at_its_first_step() -> None:
    segments = {
        "start_s": np.array([5.0, 6.0]),
        "duration_s": np.array([1.0, 2.0]),
        "num_running": np.array([2, 4]),
        "num_waiting": np.array([0, 3]),
        "token_states": np.array([10.0, 20.0]),
        "reserved": np.array([5.0, 5.0]),
        "internal": np.array([5.0, 5.0]),
    }
    courses = courses_of(segments, 100.0)
    running, pool = courses["running"], courses["pool"]
    assert running is not None
    assert pool is not None
    assert (running.x[0], running.x[-1]) == (0.0, 3.0)
    assert (running.y[0], running.y[-1]) == (2.0, 4.0)
    assert (pool.y[0], pool.y[-1]) == pytest.approx((0.2, 0.3))
    assert courses_of(segments, 0.0)["pool"] is None


def test_runs_are_told_by_colour_and_dashes() -> None:
    styles = [style(position) for position in range(8)]
    seen = {(one["color"], str(one["linestyle"])) for one in styles}
    assert len(seen) == 8
    assert len({str(one["linestyle"]) for one in styles[:4]}) == 4
    assert len({one["color"] for one in styles[:6]}) == len(COLOURS)


def test_a_distribution_ends_at_the_largest_value() -> None:
    few = distribution(np.array([3.0, np.nan, 1.0, 2.0]))
    assert few is not None
    assert few.x.tolist() == [1.0, 1.0, 2.0, 3.0]
    assert few.y == pytest.approx([0.0, 1 / 3, 2 / 3, 1.0])
    many = distribution(np.arange(10_000.0))
    assert many is not None
    assert len(many.x) == MOST_POINTS + 1
    assert (many.x[-1], many.y[-1]) == (9_999.0, 1.0)
    assert distribution(np.array([np.nan])) is None
