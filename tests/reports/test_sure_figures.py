"""How sure and what-ifs, drawn and in tables, from values by hand."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest
from matplotlib.axes import Axes

from kvsim.reports.confidence_sheets import (
    confidence_lines,
    confidence_sheet,
    leverage_sheet,
    per_s,
    spanned,
    usd,
)
from kvsim.reports.figures.answer_tornado import answer_tornado
from kvsim.reports.figures.confidence import NARROW, WIDE, confidence_picture
from kvsim.reports.figures.what_if import GAIN, LOSS, what_if_picture
from kvsim.reports.picture import Picture
from kvsim.reports.render import png, svg
from kvsim.reports.what_if_sheets import difference, what_if_sheet
from kvsim.sim.planner.changes import change_of
from kvsim.sim.planner.what_if import WhatIf
from support.sure import LEVERAGE, SURE, WHAT_IFS, delta, span


def pictures() -> list[Picture]:
    found = [answer_tornado(SURE), confidence_picture(SURE), what_if_picture(WHAT_IFS, "Do it.")]
    return [one for one in found if one is not None]


def test_every_figure_has_its_words_and_is_drawn() -> None:
    names = [picture.name for picture in pictures()]
    assert names == ["answer-tornado", "how-sure", "what-if"]
    for picture, again in zip(pictures(), pictures(), strict=True):
        assert len(picture.caption) > 60
        assert len(picture.alt) > 40
        assert picture.sheet.rows
        assert any(axes.get_xlabel() for axes in picture.figure.axes)
        assert png(picture) == png(again)
        assert svg(picture).startswith("<svg")


def labels(axes: Axes) -> list[str]:
    return [label.get_text() for label in axes.get_yticklabels()]


def test_the_tornado_of_the_answer() -> None:
    picture = answer_tornado(SURE)
    assert picture is not None
    rates, costs = picture.figure.axes
    assert labels(rates) == [
        "prefix cache\noff",
        "output lengths\nx 0.80 to 1.20",
        "step times\nx 0.80 to 1.25",
        "KV blocks\n900 to 1,100",
        "SLO limits\nx 0.80 to 1.20",
    ]
    assert rates.texts[0].get_text() == "6.00"
    assert costs.texts[0].get_text() == "$0.833"
    assert "output lengths 13.0 to 7.90" in picture.alt
    free = replace(SURE, leverage=without_prices())
    picture = answer_tornado(free)
    assert picture is not None
    assert len(picture.figure.axes) == 1
    nothing = replace(LEVERAGE, base=replace(LEVERAGE.base, rate_per_s=0.0))
    assert answer_tornado(replace(SURE, leverage=nothing)) is None


def without_prices() -> object:
    def bare(one: object) -> object:
        return replace(one, usd_per_million_output_tokens=None)  # type: ignore[type-var]

    factors = tuple(replace(f, low=bare(f.low), high=bare(f.high)) for f in LEVERAGE.factors)
    ends = {name: bare(getattr(LEVERAGE, name)) for name in ("base", "low", "high")}
    return replace(LEVERAGE, factors=factors, **ends)


def lines(axes: Axes, colour: str) -> list[tuple[float, float]]:
    return [
        (float(line.get_xdata()[0]), float(line.get_xdata()[1]))  # type: ignore[index]
        for line in axes.lines
        if line.get_color() == colour
    ]


def test_intervals_reach_from_end_to_end() -> None:
    rates, an_hour, a_token = confidence_picture(SURE).figure.axes
    assert lines(rates, WIDE) == [(8.0, 12.5), (16.0, 24.0)]
    assert lines(rates, NARROW) == [(9.5, 10.5), (19.0, 21.0)]
    assert lines(an_hour, WIDE) == [(2.6, 5.2), (5.0, 10.0)]
    assert lines(a_token, NARROW) == []
    assert SURE.first_line in confidence_picture(SURE).caption


def test_what_has_no_end_is_not_drawn() -> None:
    endless = replace(SURE.winner, usd_per_hour=span(2.0, 3.0, inf))
    found = replace(SURE, winner=endless, runner_up=None)
    assert len(confidence_picture(found).figure.axes) == 2
    assert confidence_sheet(found).rows[0][5] == "$3.00 ($2.00 or more)"


def test_bars_of_changes() -> None:
    slower = WhatIf(change=change_of("block_size=128"), rate_per_s=delta(9.0, -1.5, -1.0, -0.5))
    picture = what_if_picture([*WHAT_IFS, slower])
    assert picture is not None
    axes = picture.figure.axes[0]
    widths = [bar.get_width() for bar in axes.patches]  # type: ignore[attr-defined]
    assert widths == [15.0, 2.0, 1.0, 0.0, -1.0], "the best first"
    colours = [bar.get_facecolor() for bar in axes.patches]
    assert colours[0] == pytest.approx(_rgba(GAIN))
    assert colours[-1] == pytest.approx(_rgba(LOSS))
    drawn = [tuple(float(x) for x in line.get_xdata()) for line in axes.lines]  # type: ignore[union-attr]
    assert drawn[0] == (10.0, 20.0)
    assert [text.get_text() for text in axes.texts][-1] == (
        "block_size=128: -1.00 (-1.50 to -0.500)"
    )
    assert what_if_picture([WHAT_IFS[-1]]) is None


def _rgba(colour: str) -> tuple[float, ...]:
    from matplotlib.colors import to_rgba

    return to_rgba(colour)


def test_the_table_of_changes() -> None:
    sheet = what_if_sheet(WHAT_IFS)
    assert sheet.columns == (
        "change",
        "requests/s",
        "at once",
        "$ an hour",
        "$/M output tokens",
        "note",
    )
    assert sheet.rows[0] == (
        "kv_cache_dtype=fp8",
        "12.0, +2.00 (+1.50 to +2.60)",
        "60.0, +10.0 (+5.00 to +14.0)",
        "$1.30, no change",
        "$0.420, -$0.0800 (-$0.100 to -$0.0600)",
        "the answers change",
    )
    assert [row[-1] for row in sheet.rows[1:]] == [
        "tried because of what binds",
        "its price is not known",
        "",
        "3 must divide 32.",
    ]
    assert sheet.rows[-1][1:5] == ("-",) * 4


def test_the_table_of_intervals() -> None:
    assert confidence_sheet(SURE).rows[0] == (
        "chosen",
        "a100",
        "10.0 (8.00-12.5)",
        "10.0 (9.50-10.5)",
        "3 (2-4)",
        "$3.90 ($2.60-$5.20)",
        "$0.500 ($0.400-$0.625)",
    )
    assert len(confidence_sheet(replace(SURE, runner_up=None)).rows) == 1
    assert leverage_sheet(LEVERAGE).rows[-1] == (
        "prefix cache",
        "off",
        "what if",
        "6.00",
        "$0.833",
    )
    said = confidence_lines(SURE)
    assert said[0] == SURE.first_line
    assert said[2].startswith("Each run serves 500 of the trace's 2,000 requests;")
    assert said[-1] == SURE.beyond[0]
    assert len(confidence_lines(replace(SURE, num_of=500, beyond=()))) == 2


def test_figures_in_words() -> None:
    assert usd(0.0458) == "$0.0458"
    assert usd(12.3) == "$12.30"
    assert spanned(span(1.0, 1.0, 1.0), per_s) == "1.00"
    assert difference(delta(1.0, 0.0, 0.0, 0.0), per_s) == "no change"
    assert difference(delta(1.0, 0.5, 0.5, 0.5), per_s) == "+0.500"
