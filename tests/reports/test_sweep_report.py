"""The page and the figure of a sweep; how long is left."""

from __future__ import annotations

import io
import re
import sys

import pytest
from matplotlib.collections import PathCollection

from kvsim.reports import progress
from kvsim.reports.progress import ProgressBar
from kvsim.reports.style import fresh
from kvsim.reports.sweep_figure import front_picture
from kvsim.reports.sweep_report import run_lines, sweep_files, sweep_lines
from kvsim.reports.sweep_sheets import failure_sheet, sweep_sheet
from kvsim.sim.sweep.run import Failure, Swept
from support.self_contained import check_self_contained
from support.sweeps import row

LATENCY = "ttft_s.p95"


ROWS = (
    row("<b>a</b>", 1.3, 1000, 0.05, on_front=True),
    row("b [red]", 3.0, 2000, 0.02, on_front=True),
    row("c", 3.0, 1500, 4.0),
    row("d", 3.0, 0, 0, status="timed out", reason="it took longer.", metrics={}),
    row("e", 2.0, 700, 0.03, trace="code", on_front=True),
)


def test_the_sheet_marks_the_front_and_leaves_failures_to_their_own() -> None:
    sheet = sweep_sheet(ROWS, latency=LATENCY)
    assert [line[:2] for line in sheet.rows] == [
        *(("<b>a</b>", "*"), ("b [red]", "*"), ("c", ""), ("e", "*"))
    ]
    assert sheet.columns[2:6] == ("requests/s", "output tok/s", "TTFT p95", "TPOT p95")
    # 1.3 $/h at 3.6 million tokens an hour
    assert sheet.rows[0][2:] == ("4.00", "1,000", "50.0 ms", "20.0 ms", "1.30", "0.36")
    assert len(sweep_sheet(ROWS, latency=LATENCY, front=True).rows) == 3
    failed = failure_sheet(ROWS)
    assert failed is not None
    assert failed.rows == (("d", "timed out", "it took longer."),)
    assert failure_sheet(ROWS[:3]) is None


def test_an_unpriced_cell_is_named() -> None:
    (_, line) = sweep_lines([*ROWS, row("f", None, 1, 1)], latency=LATENCY)
    assert line == "Not weighed, for want of a price: f."


def test_the_figure_has_every_cell_and_rings_the_front() -> None:
    with fresh():
        picture = front_picture(ROWS, latency=LATENCY)
        assert picture is not None
        chat, code, *_ = picture.figure.axes
        points = [one for one in chat.collections if isinstance(one, PathCollection)]
        places = [tuple(one.get_offsets()[0]) for one in points]
        assert places == [(0.05, 1000), (0.02, 2000), (4.0, 1500)]
        rings = [one.get_linewidth()[0] > 1 for one in points]
        assert rings == [True, True, False]
        assert chat.get_xscale() == "log", "from 20 ms to 4 s"
        assert code.get_xscale() == "linear"
        assert [axes.get_title(loc="left") for axes in (chat, code)] == ["chat", "code"]
        assert front_picture(ROWS[2:4], latency=LATENCY) is None
    assert "3 of 5 cells are on the Pareto front" in picture.alt


def test_the_page_is_whole_and_escapes_names() -> None:
    files = sweep_files(ROWS, latency=LATENCY)
    assert files == sweep_files(ROWS, latency=LATENCY), "the same bytes"
    page = files["report.html"].decode()
    check_self_contained(page)
    assert "&lt;b&gt;a&lt;/b&gt;" in page
    assert "<b>a</b>" not in page
    assert "4 of 5 cells have a result." in page
    assert "it took longer." in page


def test_what_a_sweep_did() -> None:
    failures = (Failure(name="d", kind="timed out", reason="it took longer."),)
    done = Swept(num_cells=6, num_stored=2, failures=failures)
    assert run_lines(done, "out") == [
        "d timed out: it took longer.",
        "6 cells: 3 new, 2 stored before, 1 without a result. Look: kvsim sweep show out",
    ]


def test_the_bar_tells_how_long_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the runs take longer than rich remembers by itself."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    clock = [0.0]
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with ProgressBar() as bar:
        for done in range(4):
            clock[0] += 100
            bar.report("sweep", done, 10)
            assert bar._progress is not None
            bar._progress.get_time = lambda: clock[0]
        task = bar._progress.tasks[0]
        assert (task.completed, task.total) == (3, 10)
        assert task.time_remaining == pytest.approx(700, rel=0.35)
    assert re.search(r"sweep.*3/10", shown.getvalue().replace("\n", " "))
