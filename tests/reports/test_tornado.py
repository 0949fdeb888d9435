"""The tornado: bars from the base to either end, the strongest at the top."""

from __future__ import annotations

from dataclasses import replace

import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from kvsim.reports.figures.tornado import HIGH, LOW, tornado
from kvsim.reports.picture import Picture
from kvsim.reports.sensitivity_sheets import sensitivity_sheet
from kvsim.sim.plan import Plan
from kvsim.sim.sensitivity import Sensitivity
from support.more_of_a_plan import BY_HAND, GIVEN, NOTHING, RATE, outcome, with_more

TOKENS, RUNNING, TTFT = range(3)


def drawn(plan: Plan, found: Sensitivity = BY_HAND) -> Picture:
    picture = tornado(with_more(plan, sensitivity=found))
    assert picture is not None
    return picture


def labels(axes: Axes) -> list[str]:
    return [label.get_text().split("\n")[0] for label in axes.get_yticklabels()]


def bars(axes: Axes, name: str) -> list[tuple[float, float, str, bool]]:
    """``(from, to, colour, filled)`` of a row, the longer one first."""
    row = labels(axes).index(name)
    return [
        (bar.get_x(), bar.get_x() + bar.get_width(), to_hex(bar.get_edgecolor()), bar.get_fill())
        for bar in axes.patches
        if isinstance(bar, Rectangle) and bar.get_y() == pytest.approx(row - 0.25)
    ]


def test_rows_stand_by_effect(plan: Plan) -> None:
    panels = drawn(plan).figure.axes
    assert labels(panels[TOKENS]) == ["step times", "output lengths", "KV blocks"]
    assert labels(panels[RUNNING]) == ["output lengths", "KV blocks", "step times"]
    assert labels(panels[TTFT]) == ["output lengths", "step times", "request rate", "KV blocks"]


def test_bars_go_from_the_base_to_the_ends(plan: Plan) -> None:
    axes = drawn(plan).figure.axes[TOKENS]
    low, high = to_hex(LOW), to_hex(HIGH)
    assert [bar[:3] for bar in bars(axes, "step times")] == [
        (4000, 5000, low),
        (4000, 3200, high),
    ]
    assert [bar[:3] for bar in bars(axes, "KV blocks")] == [(4000, 3800, low), (4000, 4200, high)]


def test_bands_are_filled_and_what_ifs_hollow(plan: Plan) -> None:
    axes = drawn(plan).figure.axes[TOKENS]
    faces = {
        name: [
            to_hex(bar.get_facecolor(), keep_alpha=True)[-2:]
            for bar in axes.patches
            if isinstance(bar, Rectangle) and bar.get_y() == pytest.approx(row - 0.25)
        ]
        for row, name in enumerate(labels(axes))
    }
    assert faces == {
        "step times": ["ff", "ff"],
        "output lengths": ["00", "00"],
        "KV blocks": ["ff", "ff"],
    }


def test_the_interval_is_the_ground(plan: Plan) -> None:
    for axes, ends in zip(
        drawn(plan).figure.axes, ((3040, 5250), (90, 110), (0.08, 0.13)), strict=True
    ):
        ground = axes.patches[0]
        assert isinstance(ground, Rectangle)
        assert (ground.get_x(), ground.get_x() + ground.get_width()) == pytest.approx(ends)


def test_what_has_no_effect_says_so(plan: Plan) -> None:
    axes = drawn(plan).figure.axes
    said = [[text.get_text() for text in one.texts] for one in axes]
    assert said[RUNNING].count("no effect") == 1
    assert bars(axes[RUNNING], "step times") == []
    assert said[TOKENS] == ["3,200", "5,000", "3,700", "4,300", "3,800", "4,200"]
    assert [text.get_ha() for text in axes[TOKENS].texts] == ["right", "left"] * 3, "outside"
    given = drawn(plan, GIVEN).figure.axes[TOKENS]
    assert [text.get_text() for text in given.texts].count("given, no band") == 2
    assert not any(patch.get_zorder() == 0 for patch in given.patches), "no interval, no ground"


def test_times_far_apart_are_logarithmic(plan: Plan) -> None:
    assert drawn(plan).figure.axes[TTFT].get_xscale() == "log"
    near = replace(BY_HAND, factors=(RATE,))
    assert drawn(plan, near).figure.axes[TTFT].get_xscale() == "linear"


def test_rates_far_apart_stay_linear(plan: Plan) -> None:
    slow = replace(BY_HAND.factors[0], high=outcome(100, 10, 0.1))
    axes = drawn(plan, replace(BY_HAND, factors=(slow,))).figure.axes[TOKENS]
    assert axes.get_xscale() == "linear"


def test_one_sided_bars_are_named_once(plan: Plan) -> None:
    """Both ends above the base: the farther one is named."""
    up = replace(RATE, low=replace(RATE.low, ttft_p95_s=0.105))
    axes = drawn(plan, replace(BY_HAND, factors=(up,))).figure.axes[TTFT]
    assert [text.get_text() for text in axes.texts] == ["110 ms"]


def test_ends_that_hold_no_request(plan: Plan) -> None:
    blocks = replace(BY_HAND.factors[1], low=NOTHING)
    found = replace(BY_HAND, low=NOTHING, factors=(blocks,))
    picture = drawn(plan, found)
    assert [text.get_text() for text in picture.figure.axes[TOKENS].texts] == ["4,200"]
    nothing = drawn(plan, replace(found, factors=(replace(blocks, high=NOTHING),)))
    assert nothing.figure.axes[TOKENS].texts[0].get_text() == "no request fits"
    assert picture.sheet.rows[1][3:] == ("-", "-", "-", "-")


def test_words(plan: Plan) -> None:
    picture = drawn(plan)
    assert "step times 5,000 to 3,200" in picture.alt
    assert "requests at once under backlog 100: output lengths 120 to 80.0" in picture.alt
    assert [text.get_text() for text in picture.figure.legends[0].get_texts()] == [
        "input at its low end",
        "at its high end",
        "hollow: what if",
        "interval: all bands",
    ]
    assert tornado(with_more(plan, sensitivity=None)) is None
    assert tornado(with_more(plan, sensitivity=replace(BY_HAND, base=NOTHING))) is None


def test_the_table_has_every_end() -> None:
    sheet = sensitivity_sheet(BY_HAND)
    assert sheet.rows[:5] == (
        ("as planned", "", "", "4,000", "100", "100 ms", "20.0 ms"),
        ("both bands", "worse ends", "interval", "3,040", "90.0", "130 ms", "26.0 ms"),
        ("both bands", "better ends", "interval", "5,250", "110", "80.0 ms", "16.0 ms"),
        ("step times", "x 0.80", "band", "5,000", "100", "80.0 ms", "16.0 ms"),
        ("step times", "x 1.25", "band", "3,200", "100", "125 ms", "25.0 ms"),
    )
    assert [row[:3] for row in sheet.rows[5:]] == [
        ("KV blocks", "900", "band"),
        ("KV blocks", "1,100", "band"),
        ("output lengths", "x 0.80", "what if"),
        ("output lengths", "x 1.20", "what if"),
        ("request rate", "x 0.80", "what if"),
        ("request rate", "x 1.20", "what if"),
    ]
    assert sensitivity_sheet(GIVEN).rows[3][:3] == ("step times", "given", "no band")
