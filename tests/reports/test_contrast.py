"""WCAG AA in both themes: text 4.5 to 1, edges of controls 3 to 1, as the style sheet says."""

from __future__ import annotations

import re
from itertools import product

import pytest
from matplotlib.colors import to_rgb

from kvsim.reports.dark import ON_DARK_PAGE
from kvsim.reports.style import (
    BLACK,
    CATEGORY_COLOURS,
    FREE,
    GRID,
    INK,
    ON_DARK,
    PAPER,
    QUIET,
    WHITE,
)
from kvsim.reports.template import TEMPLATES

STYLE = (TEMPLATES / "report.css").read_text(encoding="utf-8")
CALIBRATION = (TEMPLATES / "calibration.html.j2").read_text(encoding="utf-8")
Theme = dict[str, str]


def themes() -> dict[str, Theme]:
    """The variables of the style sheet: light, dark, print, in this order."""
    blocks = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    values = [dict(re.findall(r"(--\w+): (#[0-9a-f]{6})", block)) for block in blocks]
    return dict(zip(("light", "dark", "print"), values, strict=True))


def contrast(first: str, second: str) -> float:
    """The ratio of WCAG 2, 1 to 21."""
    lighter, darker = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_ratio_itself() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", ["light", "dark", "print"])
def test_text_on_the_page_and_on_cards(theme: str) -> None:
    colours = themes()[theme]
    for text, ground in product(("--ink", "--quiet", "--accent"), ("--paper", "--card")):
        assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for ground in ("--paper", "--card"):
        assert contrast(colours["--field"], colours[ground]) >= 3, ground
    assert contrast(colours["--ink"], colours["--free"]) >= 4.5, "text on free space"


def test_a_theme_sets_every_colour() -> None:
    light, dark, printed = themes().values()
    assert light.keys() == dark.keys() == printed.keys()
    assert all(dark[name] != colour for name, colour in light.items())


def test_figures_name_the_colours_of_the_style_sheet() -> None:
    light, dark, _ = themes().values()
    named = {INK: "--ink", QUIET: "--quiet", GRID: "--grid", FREE: "--free", PAPER: "--paper"}
    assert {colour: light[variable] for colour, variable in named.items()} == {c: c for c in named}
    assert {dark[named[colour]]: colour for colour in ON_DARK_PAGE} == {
        shown: colour for colour, shown in ON_DARK_PAGE.items()
    }


@pytest.mark.parametrize("name", [name for name in CATEGORY_COLOURS if name != "free"])
def test_text_on_a_category(name: str) -> None:
    text = WHITE if name in ON_DARK else BLACK
    assert contrast(text, CATEGORY_COLOURS[name]) >= 4.5


def test_the_banner_of_what_was_not_measured() -> None:
    banner = re.search(r"\.banner \{.*?background: (#\w+); color: (#\w+)", CALIBRATION)
    assert banner is not None
    assert contrast(*banner.groups()) >= 4.5
