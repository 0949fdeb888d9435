"""The table and the roofline of ``kvsim cost``; where labels go."""

from __future__ import annotations

from io import StringIO
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.transforms import Bbox
from rich.console import Console

from kvsim.calibration.costed_step import CostedStep, cost_a_step
from kvsim.calibration.gpus import load_gpu
from kvsim.calibration.models import load_model
from kvsim.calibration.step_cost import Batch
from kvsim.calibration.step_shape import read_batch
from kvsim.reports.cost_bar import BOUNDS
from kvsim.reports.cost_figure import cost_picture
from kvsim.reports.cost_report import batch_words, cost_report, heading, terms_sheet, write_cost_png
from kvsim.reports.label_places import Box, anchor, places
from kvsim.reports.render import png
from kvsim.reports.style import fresh

WIDTH = 120
STEPS: dict[str, tuple[str, str, int, str, str]] = {
    "decode": ("llama-3.1-8b", "h100-sxm", 1, "64x4096", ""),
    "prefill": ("llama-3.1-8b", "a100", 1, "", "2048"),
    "experts": ("mixtral-8x7b", "h100-sxm", 2, "64x2048", ""),
    "latent": ("deepseek-v3", "h100-sxm", 8, "64x4096", "512+2048"),
    "datasheet": ("gpt-oss-20b", "l4", 1, "16x4096", ""),
    "recurrent": ("qwen3.5-27b", "rtx-pro-6000", 1, "8x100,1x60000", ""),
}


def step_of(
    model: str, gpu: str, size: int, batch: str, chunk: str, source: str = "auto"
) -> CostedStep:
    flags: dict[str, Any] = {
        "kv_cache_dtype": "auto",
        "tensor_parallel_size": size,
        "max_num_seqs": None,
        "enforce_eager": False,
        "async_scheduling": True,
        "step_cost": source,
    }
    shape = read_batch([batch] if batch else [], [chunk] if chunk else [])
    return cost_a_step(load_model(model), load_gpu(gpu), shape, flags)


@pytest.fixture(scope="module", params=STEPS)
def step(request: pytest.FixtureRequest) -> CostedStep:
    return step_of(*STEPS[request.param])


@pytest.fixture(scope="module")
def decode() -> CostedStep:
    return step_of(*STEPS["decode"])


def test_the_table_is_whole_at_120_columns(step: CostedStep) -> None:
    out = StringIO()
    Console(file=out, width=WIDTH, force_terminal=False).print(cost_report(step).table)
    assert max(len(line) for line in out.getvalue().splitlines()) <= WIDTH
    assert "…" not in out.getvalue()


def test_a_row_for_each_term_and_the_whole(step: CostedStep) -> None:
    sheet = terms_sheet(step)
    *rows, total = sheet.rows
    assert [row[0] for row in rows] == [term.name for term in step.terms]
    assert total[:3] == ("step", f"{step.step_s * 1e3:,.3f}", "100.0 %")
    shown = sum(float(row[1].replace(",", "")) for row in rows)
    assert shown == pytest.approx(step.step_s * 1e3, abs=0.0005 * len(rows))
    marks = {row[0] for row in rows if row[7] == "yes"}
    assert marks == {term.name for term in step.terms if term.extrapolated}


def test_sources_are_notes_by_number(decode: CostedStep) -> None:
    report = cost_report(decode)
    for term, row in zip(decode.terms, terms_sheet(decode).rows, strict=False):
        assert f"[{row[-1]}] {term.source}" in report.notes


def test_the_link_is_not_memory() -> None:
    step = step_of(*STEPS["experts"])
    (link,) = (term for term in step.terms if term.bound == "link")
    moved = sum(term.bytes for term in step.terms) - link.bytes
    assert terms_sheet(step).rows[-1][4] == f"{moved / 1e9:.1f}"
    assert any("what passes the link is not in the sum" in note for note in cost_report(step).notes)


def test_heading(decode: CostedStep) -> None:
    assert heading(decode)[1] == "One step: 64 decodes of 4,096 tokens."
    assert "TP" not in heading(decode)[0]
    assert "tensor_parallel_size 2" in heading(step_of(*STEPS["experts"]))[0]


@pytest.mark.parametrize(
    ("batch", "text"),
    [
        (Batch(1, 7, (), 0, 7), "1 decode of 7 tokens"),
        (Batch(4, 20, (), 0, 8), "4 decodes of 5 tokens on average, 8 at most"),
        (Batch(0, 0, ((512, 0),)), "a chunk of 512"),
        (
            Batch(2, 8, ((512, 0), (9, 4096)), 0, 4),
            "2 decodes of 4 tokens, a chunk of 512 and a chunk of 9 after 4,096 cached",
        ),
        (Batch(0, 0, ((1, 0), (2, 3), (4, 5))), "3 chunks of 7 new tokens in all"),
    ],
)
def test_batch_words(batch: Batch, text: str) -> None:
    assert batch_words(batch) == text


def test_a_mark_for_each_term_that_computes(step: CostedStep) -> None:
    with fresh():
        picture = cost_picture(step)
    roof, bar = picture.figure.axes
    marks = [c for c in roof.collections if isinstance(c, PathCollection)]
    shown = [term for term in step.terms if term.bytes and term.flops]
    assert len(marks) == len(shown) >= 4
    for mark, term in zip(marks, shown, strict=True):
        ((x, y),) = mark.get_offsets().tolist()
        assert (x, y) == pytest.approx((term.flops / term.bytes, term.flops / term.ns / 1e3))
        assert to_hex(mark.get_facecolor()[0]) == BOUNDS[term.bound][0]
    widths = [patch.get_width() for patch in bar.patches]
    assert widths == pytest.approx([term.ns / 1e6 for term in step.terms])
    entries = [text.get_text().rsplit(" ", 2)[0] for text in picture.figure.legends[0].get_texts()]
    assert entries == [name if " " not in name else name.split()[0] for name in step.bound_s]


def test_no_words_cover_others_and_none_leave_the_picture(step: CostedStep) -> None:
    with fresh():
        picture = cost_picture(step)
        png(picture)
        figure = picture.figure
        figure.suptitle(picture.title).set_in_layout(True)
        renderer = FigureCanvasAgg(figure).get_renderer()
        figure.draw_without_rendering()
        for axes in figure.axes:
            boxes = [text.get_window_extent(renderer) for text in axes.texts]
            for one, other in combinations(boxes, 2):
                assert not _overlap(one, other)
            for box in boxes:
                assert box.x0 >= 0
                assert box.x1 <= figure.bbox.x1


def _overlap(one: Bbox, other: Bbox) -> bool:
    """By more than what is between letters and their box, a pixel or two."""
    both = Bbox.intersection(one, other)
    return both is not None and both.width > 1.5 and both.height > 2.5


def test_the_same_input_gives_the_same_bytes(decode: CostedStep, tmp_path: Path) -> None:
    paths = [write_cost_png(decode, str(tmp_path / name)) for name in ("a.png", "b.png")]
    first, second = (path.read_bytes() for path in paths)
    assert first == second
    assert first.startswith(b"\x89PNG")


def test_a_source_without_terms_is_drawn(tmp_path: Path) -> None:
    step = step_of("llama-3.1-8b", "a100", 1, "1x1", "", "affine:1,0,0")
    assert write_cost_png(step, str(tmp_path / "affine.png")).exists()


@pytest.mark.parametrize("name", ["", "figure.svg", "folder/"])
def test_only_png(name: str, decode: CostedStep) -> None:
    with pytest.raises(ValueError, match=r"out\(=.*\) must name a .png file"):
        write_cost_png(decode, name)


# ---------------------------------------------------------------------- where labels go

FRAME = (300.0, 230.0)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.floats(20, 280), st.floats(20, 210)), min_size=1, max_size=8),
    st.integers(30, 90),
)
def test_labels_do_not_meet(at: list[tuple[float, float]], width: int) -> None:
    points = [(point, 5.0) for point in at]
    boxes = places(points, [(float(width), 11.0)] * len(at), frame=FRAME)
    assert all(box.within(*FRAME) for box in boxes)
    for one, other in combinations(boxes, 2):
        assert not one.meets(other)


def test_a_lone_label_is_near() -> None:
    ((point, radius), *_) = [((150.0, 100.0), 5.0)]
    (box,) = places([(point, radius)], [(50.0, 10.0)], frame=FRAME)
    end = anchor(box, point)
    assert ((end[0] - 150) ** 2 + (end[1] - 100) ** 2) ** 0.5 < 20


def test_points_on_one_spot_fan_out() -> None:
    boxes = places([((150.0, 100.0), 5.0)] * 6, [(80.0, 11.0)] * 6, frame=FRAME)
    assert len(set(boxes)) == 6
    assert all(not one.meets(other) for one, other in pairwise(boxes))


def test_what_is_there_is_kept_clear() -> None:
    there = Box(100, 60, 300, 160)
    (box,) = places([((150.0, 100.0), 5.0)], [(40.0, 10.0)], frame=FRAME, taken=[there])
    assert not box.meets(there)
