"""Figures hold what the plan holds; their drawings are well formed."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import asdict
from itertools import pairwise

import pytest

from kvsim.reports.figures import FIGURES, plan_pictures
from kvsim.reports.picture import Picture
from kvsim.reports.render import MAX_SVG_BYTES, png, svg
from kvsim.reports.style import CATEGORY_COLOURS, INK
from kvsim.sim.plan import Plan


@pytest.fixture(scope="module")
def pictures(plan: Plan) -> dict[str, Picture]:
    return {picture.name: picture for picture in plan_pictures(plan)}


def test_every_figure_has_its_words(pictures: dict[str, Picture]) -> None:
    assert list(pictures) == [name for name in FIGURES if name in pictures]
    for picture in pictures.values():
        assert picture.title
        assert len(picture.caption) > 60
        assert len(picture.alt) > 40
        assert picture.sheet.rows
        labels = [axes.get_xlabel() for axes in picture.figure.axes]
        assert any(labels) or picture.name == "latency"  # its ticks carry the unit


def test_bars_of_the_pool_are_its_shares(plan: Plan, pictures: dict[str, Picture]) -> None:
    assert plan.chosen.backlog is not None
    first = pictures["where-the-bytes-go"].figure.axes[0].patches[: len(CATEGORY_COLOURS)]
    shares = asdict(plan.chosen.backlog.pool_share)
    widths = [bar.get_width() / 100 for bar in first]  # type: ignore[attr-defined]
    assert widths == pytest.approx(list(shares.values()))
    assert sum(widths) == pytest.approx(1.0)


def test_memory_bars_add_up_to_the_gpu(plan: Plan, pictures: dict[str, Picture]) -> None:
    bars = pictures["memory-budget"].figure.axes[0].patches
    ends = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in bars]  # type: ignore[attr-defined]
    assert all(end == pytest.approx(start) for (_, end), (start, _) in pairwise(ends))
    assert ends[-1][1] * (1 << 30) == pytest.approx(plan.budget.total_bytes)


def test_svg_is_well_formed_and_its_ids_are_its_own(pictures: dict[str, Picture]) -> None:
    seen: set[str] = set()
    for name, picture in pictures.items():
        drawing = svg(picture)
        ElementTree.fromstring(drawing)
        ids = re.findall(r'\bid="([^"]+)"', drawing)
        assert ids
        assert all(one.startswith(f"{name}-") for one in ids)
        assert not seen & set(ids)
        seen |= set(ids)
        used = re.findall(r'(?:url\(|href=")#([^)"]+)', drawing)
        assert set(used) <= set(ids)


def test_svg_keeps_text_and_leaves_ink_to_the_page(pictures: dict[str, Picture]) -> None:
    for picture in pictures.values():
        drawing = svg(picture)
        assert "<text" in drawing
        assert "var(--ink)" in drawing
        assert INK not in drawing
        assert "http" not in drawing
        assert "DejaVu" not in drawing
        assert len(drawing) < MAX_SVG_BYTES


def test_shortened_paths_draw_the_same(pictures: dict[str, Picture]) -> None:
    """Coordinates of every path stay inside the drawing, and none is lost for a closing letter."""
    drawing = svg(pictures["kv-occupancy"])
    width, height = (float(x) for x in re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', drawing)[0])
    for path in re.findall(r'<path d="([^"]+)" clip-path', drawing):
        assert not re.search(r"[^MLHVCQz\d. -]", path)
        assert all(-1 <= float(x) <= width + 1 for x in re.findall(r"H([-\d.]+)", path))
        assert all(-1 <= float(y) <= height + 1 for y in re.findall(r"V([-\d.]+)", path))


def test_png_of_every_figure(pictures: dict[str, Picture]) -> None:
    for picture in pictures.values():
        before = picture.figure.get_suptitle()
        assert png(picture).startswith(b"\x89PNG")
        assert picture.figure.get_suptitle() == before == ""


def test_a_baseline_that_runs_nothing_leaves_a_row(lopsided_plan: Plan) -> None:
    drawings = "".join(svg(picture) for picture in plan_pictures(lopsided_plan))
    assert "no request fits" in drawings
    assert "nothing finished" in drawings
    assert "nan" not in drawings
