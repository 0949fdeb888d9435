"""The drawn memory map holds what was recorded, and its outline is the outlined request."""

from __future__ import annotations

import base64
import re
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba

from kvsim.reports.figures.memory_map import memory_map, memory_map_sheet, outline
from kvsim.reports.picture import Picture
from kvsim.reports.render import MAX_SVG_BYTES, inline, png, svg
from kvsim.reports.style import CATEGORY_COLOURS, FREE, INK
from kvsim.sim.candidate import Candidate
from kvsim.sim.memory_map import Marked, MemoryMap
from kvsim.sim.plan import Plan

NUM_ROWS, NUM_LOOKS = 8, 6
CODES = {name: code for code, name in enumerate(CATEGORY_COLOURS)}


def seen(*names: str, duration_s: float = 60.0, marked: bool = True) -> MemoryMap:
    """Rows of one category each, from the lowest address up; half of the pool."""
    cells = np.array([[CODES[name]] * NUM_LOOKS for name in names], dtype=np.uint8)
    slots = np.array([[10 * names.count(name)] * NUM_LOOKS for name in CODES])
    where = np.zeros_like(cells, dtype=np.bool_)
    where[2:4, 1:5] = True
    request = Marked(index=3, cells=where, tokens=1234, slots=1240, num_areas=5)
    return MemoryMap(
        edges_s=np.linspace(100.0, 100.0 + duration_s, NUM_LOOKS + 1),
        edges_slots=np.arange(NUM_ROWS + 1) * 10,
        pool_slots=20 * NUM_ROWS,
        cells=cells,
        slots=slots,
        marked=request if marked else None,
    )


PAGED = ("token_states",) * 7 + ("free",)
MAX = ("token_states", "token_states", "reserved", "internal") * 2


def with_maps(plan: Plan, *maps: MemoryMap | None) -> Plan:
    chosen, *others = (
        replace(one, memory_map=one_map) for one, one_map in zip(plan.candidates, maps, strict=True)
    )
    return replace(plan, chosen=chosen, baselines=tuple(others))


@pytest.fixture(scope="module")
def mapped(plan: Plan) -> Plan:
    """Two maps, of which the second is longer, one with nothing marked, and none."""
    return with_maps(
        plan, seen(*PAGED), seen(*MAX, duration_s=80.0), seen(*MAX, marked=False), None
    )


@pytest.fixture(scope="module")
def picture(mapped: Plan) -> Picture:
    drawn = memory_map(mapped)
    assert drawn is not None
    return drawn


def test_cells_have_the_colours_of_their_categories(picture: Picture) -> None:
    for axes, names in zip(picture.figure.axes, (PAGED, MAX), strict=False):
        pixels = np.asarray(axes.images[0].get_array())
        for row, name in zip(pixels, names, strict=True):
            if name == "free":
                assert (row[:, 3] == 0).all(), "free cells let the page's colour through"
            else:
                assert np.allclose(row, to_rgba(CATEGORY_COLOURS[name]))
        assert axes.get_facecolor() == to_rgba(FREE)
        assert axes.images[0].origin == "lower", "addresses go up"


def test_panels_share_their_axes(plan: Plan, picture: Picture) -> None:
    """Of the longer map the middle is shown; a pixel is the same bytes and seconds everywhere."""
    panels = picture.figure.axes
    assert len(panels) == len(plan.candidates)
    assert {axes.get_xlim() for axes in panels} == {(0.0, 60.0)}
    assert len({axes.get_ylim() for axes in panels}) == 1
    half_mib = plan.budget.kv_cache_bytes / 2 / (1 << 20)
    assert panels[0].get_ylim() == pytest.approx((0.0, half_mib))
    assert tuple(panels[1].images[0].get_extent()) == pytest.approx((0.0, 60.0, 0.0, half_mib))


def test_the_middle_of_a_longer_map_is_drawn(mapped: Plan) -> None:
    """Ten seconds are cut at either end: 3/4 of the first and of the last column."""
    long = seen(*MAX, duration_s=80.0)
    cells = long.cells.copy()
    cells[:, 0] = CODES["external"]
    cells[:, -1] = CODES["cached"]
    first, _, *rest = (one.memory_map for one in mapped.candidates)
    drawn = memory_map(with_maps(mapped, first, replace(long, cells=cells), *rest))
    assert drawn is not None
    row = np.asarray(drawn.figure.axes[1].images[0].get_array())[0]
    left = np.isclose(row, to_rgba(CATEGORY_COLOURS["external"])).all(axis=1)
    right = np.isclose(row, to_rgba(CATEGORY_COLOURS["cached"])).all(axis=1)
    wanted = round(len(row) * (80 / 6 - 10) / 60)
    assert left.sum() == pytest.approx(wanted, abs=1)
    assert right.sum() == pytest.approx(wanted, abs=1)
    assert left[: left.sum()].all()
    assert right[-right.sum() :].all()


def _lines(axes: Axes) -> LineCollection | None:
    return next((one for one in axes.collections if isinstance(one, LineCollection)), None)


def test_the_outline_is_drawn_in_ink_around_the_marked_cells(plan: Plan, picture: Picture) -> None:
    lines = _lines(picture.figure.axes[0])
    assert lines is not None
    assert tuple(lines.get_color()[0]) == to_rgba(INK)
    ends = np.concatenate(lines.get_segments())
    mib = plan.budget.kv_cache_bytes / 2 / (1 << 20)
    assert ends.min(axis=0) == pytest.approx((10.0, mib * 2 / NUM_ROWS))
    assert ends.max(axis=0) == pytest.approx((50.0, mib * 4 / NUM_ROWS))
    assert len(lines.get_segments()) == 4
    assert _lines(picture.figure.axes[2]) is None


def test_an_outline_goes_round_every_marked_cell() -> None:
    cells = np.zeros((4, 5), dtype=np.bool_)
    cells[0, 0] = cells[2, 1:4] = cells[3, 4] = True
    lines = {tuple(map(tuple, line)) for line in outline(cells).tolist()}
    assert lines == {
        ((0, 0), (1, 0)),
        ((0, 1), (1, 1)),
        ((0, 0), (0, 1)),
        ((1, 0), (1, 1)),
        ((1, 2), (4, 2)),
        ((1, 3), (5, 3)),
        ((4, 4), (5, 4)),
        ((1, 2), (1, 3)),
        ((4, 2), (4, 4)),
        ((5, 3), (5, 4)),
    }
    assert len(outline(np.zeros((3, 3), dtype=np.bool_))) == 0


def test_the_table_has_shares_and_how_the_request_lies(mapped: Plan) -> None:
    paged, longest, unmarked, missing = memory_map_sheet(mapped).rows
    assert paged[1:7] == ("87.5 %", "0.0 %", "0.0 %", "0.0 %", "0.0 %", "12.5 %")
    assert paged[7:] == ("1,234", "1,240", "5")
    assert longest[1:4] == ("50.0 %", "25.0 %", "25.0 %")
    assert unmarked[7:] == ("-", "-", "-")
    assert set(missing[1:]) == {"-"}
    assert [row[0] for row in (paged, longest)] == [one.title for one in mapped.candidates[:2]]


def test_words_say_what_is_drawn(mapped: Plan, picture: Picture) -> None:
    assert "60.0 s" in picture.caption
    assert "paged 1,234 tokens in 5 pieces" in picture.caption
    assert "token states 87.5 %" in picture.alt
    assert f"{mapped.candidates[3].title} has no map" in picture.alt
    titles = [axes.get_title(loc="left") for axes in picture.figure.axes]
    assert titles[0] == "paged\n87.5 % token states"
    labels = {text.get_text() for text in picture.figure.legends[0].get_texts()}
    assert labels == {"token states", "reserved", "internal waste", "free", "one request"}


@pytest.mark.parametrize(
    ("fits", "words"), [(True, "slots have no addresses"), (False, "no request fits")]
)
def test_a_panel_without_a_map_says_why(mapped: Plan, fits: bool, words: str) -> None:
    last = mapped.baselines[-1]
    changed: Candidate = last if fits else replace(last, backlog=None, memory_backlog=None)
    drawn = memory_map(replace(mapped, baselines=(*mapped.baselines[:-1], changed)))
    assert drawn is not None
    assert [text.get_text() for text in drawn.figure.axes[3].texts] == [words]


def test_no_map_no_picture(plan: Plan) -> None:
    assert memory_map(with_maps(plan, *[None] * len(plan.candidates))) is None


@pytest.mark.parametrize("count", [1, 2, 3])
def test_fewer_candidates_fewer_panels(mapped: Plan, count: int) -> None:
    drawn = memory_map(replace(mapped, baselines=mapped.baselines[: count - 1]))
    assert drawn is not None
    shown = [axes for axes in drawn.figure.axes if axes.axison]
    assert len(shown) == count
    assert any(axes.get_xlabel() for axes in shown)


def test_the_page_gets_a_drawing_that_follows_its_colours(picture: Picture) -> None:
    drawing = svg(picture)
    assert drawing.count("<image") == 3
    assert "var(--ink)" in drawing
    assert "var(--free)" in drawing
    assert INK not in drawing
    assert FREE not in drawing
    assert len(drawing) < MAX_SVG_BYTES
    assert inline(picture) == drawing, "no fallback to pixels"
    for image in re.findall(r'data:image/png;base64,([^"]+)"', drawing):
        assert base64.b64decode(image).startswith(b"\x89PNG")


def test_the_map_of_a_real_plan(plan: Plan) -> None:
    """What the small plan records is drawn, small enough for a page, the same every time."""
    drawn, again = memory_map(plan), memory_map(plan)
    assert drawn is not None
    assert again is not None
    assert len(png(drawn)) < 250_000
    assert svg(drawn) == svg(again)
    for one in plan.candidates:
        assert one.memory_map is not None
        assert sum(one.memory_map.shares().values()) == pytest.approx(1.0)
        assert one.memory_map.marked is not None
    pieces = [row[-1] for row in drawn.sheet.rows]
    assert pieces[1:] == ["1"] * len(plan.baselines)
    assert int(pieces[0]) > 1
