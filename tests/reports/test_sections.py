"""Each figure has one place; unknown ones come last, empty sections not at all."""

from __future__ import annotations

from collections import Counter

from kvsim.reports.figures import FIGURES
from kvsim.reports.sections import FIRST_FIGURE, OTHERS, SECTIONS, anchor, sections


def test_no_figure_has_two_places() -> None:
    places = Counter([FIRST_FIGURE, *(name for names in SECTIONS.values() for name in names)])
    assert set(places.values()) == {1}


def test_every_known_figure_has_a_place() -> None:
    placed = {FIRST_FIGURE, *(name for names in SECTIONS.values() for name in names)}
    assert set(FIGURES) <= placed


def test_absent_figures_leave_no_gap() -> None:
    found = sections({"latency": 1, "strange": 2, FIRST_FIGURE: 3, "memory-budget": 4, "odd": 5})
    assert [(one.title, one.figures) for one in found] == [
        ("Memory budget", (4,)),
        ("Latency", (1,)),
        (OTHERS, (2, 5)),
    ]
    assert sections({}) == []


def test_anchors_are_no_figure_names() -> None:
    assert anchor("Time, space & more") == "section-time-space-more"
    assert not {anchor(title) for title in SECTIONS} & set(FIGURES)
