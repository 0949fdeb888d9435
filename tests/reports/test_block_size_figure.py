"""The block-size figure: three panels over the same sizes; nothing where nothing is known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kvsim.calibration.profile.by_block_size import Slowdowns
from kvsim.reports.block_size_sheets import NOT_MEASURED, NOT_SHARED
from kvsim.reports.figures.block_sizes import block_sizes
from kvsim.reports.picture import Picture
from kvsim.sim.block_sizes import BlockSize, BlockSizes
from kvsim.sim.plan import Plan
from support.more_of_a_plan import with_more

TAILS, KERNEL, PREFIXES = range(3)


def row(size: int, slow: float | None, hits: float | None) -> BlockSize:
    return BlockSize(
        block_size=size,
        tail_share=size / 1000,
        never_filled_share=size / 2000,
        tail_pool_share=size / 4000,
        decode_slowdown=slow,
        prefix_hit_ratio=hits,
    )


FULL = BlockSizes(
    chosen=16,
    sizes=(row(8, 1.3, 0.6), row(16, 1.0, 0.6), row(32, 0.95, 0.5), row(64, None, 0.4)),
    kernel=Slowdowns(batch=64, context_tokens=1200, times={8: 1.3, 16: 1.0, 32: 0.95}, source="p1"),
    prefix_resolution_tokens=16,
    caching="hash",
)
BARE = BlockSizes(
    chosen=16,
    sizes=(row(8, None, None), row(16, None, None), row(32, None, None)),
    kernel=None,
    prefix_resolution_tokens=None,
    caching="off",
)


def drawn(plan: Plan, found: BlockSizes) -> Picture:
    picture = block_sizes(with_more(plan, block_sizes=found))
    assert picture is not None
    return picture


def line(picture: Picture, panel: int) -> dict[float, float]:
    """The line through all sizes; the chosen one is marked by an upright."""
    upright, through, *_ = picture.figure.axes[panel].lines
    assert set(upright.get_xdata()) == {16}
    return dict(zip(through.get_xdata(), through.get_ydata(), strict=True))  # type: ignore[arg-type]


def said(picture: Picture, panel: int) -> list[str]:
    return [text.get_text() for text in picture.figure.axes[panel].texts]


def test_three_lines_over_the_sizes(plan: Plan) -> None:
    picture = drawn(plan, FULL)
    assert line(picture, TAILS) == pytest.approx({8: 0.008, 16: 0.016, 32: 0.032, 64: 0.064})
    assert line(picture, KERNEL) == {8: 1.3, 16: 1.0, 32: 0.95}
    assert line(picture, PREFIXES) == {8: 0.6, 16: 0.6, 32: 0.5, 64: 0.4}
    assert said(picture, TAILS) == ["1.6 %", "6.4 %"]
    assert said(picture, KERNEL) == ["1.00x", "0.95x"]
    axis = picture.figure.axes[PREFIXES].yaxis
    assert axis.get_major_formatter().format_ticks([0.0, 0.5]) == ["0", "50"]


def test_only_the_chosen_mark_is_filled(plan: Plan) -> None:
    marks = drawn(plan, FULL).figure.axes[TAILS].lines[2:]
    filled = {
        float(mark.get_xdata()[0])  # type: ignore[index]
        for mark in marks
        if mark.get_markerfacecolor() != "none"
    }
    assert filled == {16.0}


def test_what_is_not_known_is_not_drawn(plan: Plan) -> None:
    picture = drawn(plan, BARE)
    for panel, words in ((KERNEL, NOT_MEASURED), (PREFIXES, NOT_SHARED)):
        assert not picture.figure.axes[panel].lines
        assert said(picture, panel) == [words]
    assert "not measured on this card, so nothing is shown" in picture.caption
    assert "says of no prompts that they do" in picture.caption
    assert NOT_MEASURED in picture.alt
    full = drawn(plan, FULL)
    assert NOT_MEASURED not in full.alt
    assert "p1; 64 sequences of 1,200 tokens" in full.caption


def test_sizes_finer_than_the_ids_lie_on_grey_ground(plan: Plan) -> None:
    picture = drawn(plan, FULL)
    (ground,) = picture.figure.axes[PREFIXES].patches
    assert ground.get_x() + ground.get_width() == 16  # type: ignore[attr-defined]
    assert "blocks of 16 tokens" in picture.caption
    coarse = drawn(plan, replace(FULL, prefix_resolution_tokens=512))
    (ground,) = coarse.figure.axes[PREFIXES].patches
    assert ground.get_x() + ground.get_width() > 64  # type: ignore[attr-defined]
    exact = drawn(plan, replace(FULL, prefix_resolution_tokens=1))
    assert not exact.figure.axes[PREFIXES].patches
    assert "ids name blocks" not in exact.caption
    assert "radix" in drawn(plan, replace(FULL, caching="radix")).caption


def test_sizes_that_crowd_are_named_once(plan: Plan) -> None:
    near = replace(FULL, chosen=18, sizes=(*FULL.sizes[:2], row(18, 1.0, 0.6), *FULL.sizes[2:]))
    picture = block_sizes(with_more(plan, block_sizes=near))
    assert picture is not None
    axes = picture.figure.axes[PREFIXES]
    assert [round(tick) for tick in axes.get_xticks()] == [8, 18, 32, 64]


def test_the_table(plan: Plan) -> None:
    rows = drawn(plan, FULL).sheet.rows
    assert rows[1] == ("16 (chosen)", "1.6 %", "0.8 %", "0.4 %", "1.00x", "60.0 %")
    assert rows[3] == ("64", "6.4 %", "3.2 %", "1.6 %", "-", "40.0 %")
    assert block_sizes(with_more(plan, block_sizes=None)) is None
