"""Files that stand alone, pixels for both pages, and figures that come back unchanged."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from kvsim.reports.dark import ON_DARK_PAGE, darkened
from kvsim.reports.picture import Picture
from kvsim.reports.render import MAX_SVG_BYTES, inline, png, svg, svg_file
from kvsim.reports.sheet import Sheet
from kvsim.reports.style import FREE, GRID, INK, QUIET, fresh, legend, new_figure, quiet
from support.page_reader import Reader

EVIL = "\"'><script>alert(1)</script>&"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def defaults() -> Iterator[None]:
    with fresh():
        yield


def picture(figure: Figure, *, title: str = "A title", alt: str = "What it shows.") -> Picture:
    sheet = Sheet(title="t", columns=("a",), rows=(("1",),))
    return Picture(name="one", title=title, caption="", alt=alt, figure=figure, sheet=sheet)


def dots(number: int) -> Figure:
    figure = new_figure(2.0)
    axes = figure.subplots()
    x = np.linspace(0, 1, number)
    axes.plot(x, np.sin(99 * x), ".", color=INK)
    axes.bar(0.5, 0.5, 0.1, color=FREE, edgecolor=QUIET)
    axes.add_collection(LineCollection([[(0, 0), (1, 1)]], colors=[GRID]))
    quiet(axes)
    axes.set_xlabel("time, s")
    legend(figure, [Patch(color=FREE, label="free")])
    return figure


def pixels(number: int) -> Figure:
    """An image of noise within a figure: many bytes, few marks."""
    figure = new_figure(2.0)
    noise = np.random.default_rng(0).integers(0, 255, (number, number, 3), dtype=np.uint8)
    axes = figure.subplots()
    axes.imshow(noise, aspect="auto")
    quiet(axes)
    axes.set_xlabel("time, s")
    return figure


def test_an_svg_file_is_whole_xml_with_its_title_on_white() -> None:
    data = svg_file(picture(dots(20)))
    root = ElementTree.fromstring(data)
    assert root.tag == f"{SVG}svg"
    assert [root.findtext(f"{SVG}{name}") for name in ("title", "desc")] == [
        "A title",
        "What it shows.",
    ]
    text = data.decode()
    assert "A title" in [one.text for one in root.iter(f"{SVG}text")]
    assert "fill: #ffffff" in text
    assert "var(--" not in text
    assert INK in text
    assert not re.search(r"\d{4}-\d\d-\d\d|matplotlib", text.lower()), "no date, no maker"


def test_the_same_figure_gives_the_same_files() -> None:
    first, second = picture(dots(20)), picture(dots(20))
    assert (png(first), svg_file(first)) == (png(second), svg_file(second))


def test_the_title_is_gone_after_a_file() -> None:
    one = picture(dots(20))
    png(one)
    svg_file(one)
    assert "A title" not in svg(one)
    assert one.figure.get_suptitle() == ""


def test_names_in_titles_and_texts_stay_text() -> None:
    evil = picture(dots(20), title=EVIL, alt=f"{EVIL}\x07")
    evil.figure.axes[0].set_xlabel(EVIL)
    for drawing in (svg_file(evil).decode(), svg(evil), inline(evil)):
        root = ElementTree.fromstring(drawing.encode())
        assert not [one for one in root.iter() if one.tag.endswith("script")]
        assert "<script" not in drawing
        assert "&lt;script&gt;" in drawing
    large = inline(picture(dots(4_000), alt=EVIL))
    assert [one["alt"] for one in Reader(large).attributes("img")] == [EVIL]
    assert "<script" not in large


def test_an_image_in_a_drawing_does_not_make_it_large() -> None:
    """Its ink still follows the page, which it could not as pixels."""
    drawing = inline(picture(pixels(400)))
    assert drawing.startswith("<svg ")
    assert len(drawing) > MAX_SVG_BYTES
    assert "var(--ink)" in drawing


def test_a_large_drawing_is_pixels_for_a_light_and_a_dark_page() -> None:
    large = picture(dots(4_000))
    text = inline(large)
    assert text.startswith('<picture><source media="screen and (prefers-color-scheme: dark)"')
    found = re.findall(r'data:image/png;base64,([^"]+)"', text)
    assert len(found) == 2
    assert found[0] != found[1]
    assert 'alt="What it shows."' in text
    assert inline(large) == text, "the figure is light again"


def test_dark_changes_every_named_colour_and_only_these() -> None:
    figure = dots(20)
    axes = figure.axes[0]
    figure.draw_without_rendering()

    def shown() -> dict[str, str]:
        line, bar = axes.lines[0], axes.patches[0]
        collection = axes.collections[0]
        return {
            "line": to_hex(line.get_color()),  # type: ignore[arg-type]
            "bar": to_hex(bar.get_facecolor()),
            "edge": to_hex(bar.get_edgecolor()),
            "collection": to_hex(collection.get_edgecolor()[0]),  # type: ignore[index]
            "label": to_hex(axes.xaxis.label.get_color()),
            "tick": to_hex(axes.get_xticklabels()[0].get_color()),
            "grid": to_hex(axes.get_xgridlines()[0].get_color()),  # type: ignore[arg-type]
            "spine": to_hex(axes.spines["bottom"].get_edgecolor()),
            "legend": to_hex(figure.legends[0].get_patches()[0].get_facecolor()),
            "words": to_hex(figure.legends[0].get_texts()[0].get_color()),
        }

    light = shown()
    assert set(light.values()) == {INK, FREE, QUIET, GRID}
    with darkened(figure):
        assert shown() == {name: ON_DARK_PAGE[colour] for name, colour in light.items()}
    assert shown() == light


def test_dark_keeps_opacity_and_other_colours() -> None:
    figure = new_figure(1.0)
    axes = figure.subplots()
    half = axes.bar([0], [1], color=(*[int(INK[i : i + 2], 16) / 255 for i in (1, 3, 5)], 0.5))[0]
    own = axes.bar([1], [1], color="#0072b2")[0]
    hollow = axes.bar([2], [1], color="none", edgecolor=QUIET)[0]
    with darkened(figure):
        assert to_hex(half.get_facecolor(), keep_alpha=True) == ON_DARK_PAGE[INK] + "80"
        assert to_hex(own.get_facecolor()) == "#0072b2"
        assert hollow.get_facecolor()[3] == 0
        assert to_hex(hollow.get_edgecolor()) == ON_DARK_PAGE[QUIET]


def test_the_figure_is_light_again_after_a_failure() -> None:
    figure = dots(20)
    with pytest.raises(RuntimeError), darkened(figure):
        raise RuntimeError("no paper")
    assert to_hex(figure.axes[0].lines[0].get_color()) == INK  # type: ignore[arg-type]
