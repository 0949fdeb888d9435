"""The page in a real browser: quiet, alone, readable at two widths, dark, printed, by keyboard.

Two pages: the small plan's own, and one with what a plan may hold at worst, a drawing so large that
it is shown as pixels and a table with cells in all units.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from matplotlib.image import imread

from kvsim.reports.figures.at_once import at_once
from kvsim.reports.page import plan_page
from kvsim.reports.picture import Picture
from kvsim.reports.sheet import Sheet
from kvsim.reports.style import CATEGORY_COLOURS, fresh, new_figure, quiet
from kvsim.sim.plan import Plan
from support.browser import WIDTHS, Visit, artefacts, browser, visit

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

TIMES = ("56.5 ms", "1.2 s", "850 us", "-", "2.0 min", "3.1 s", "500 ms", "0 s", "12.0 s")
SHARES = ("6.5 %", "<0.1 %", "0.0 %", "-", "100.0 %", "0.1 %", "34.1 %", "9.9 %", "10.0 %")
UNITS = Sheet(
    title="Cells in all units",
    columns=("name", "time", "share", "kind"),
    rows=(
        *((f"row {i}", TIMES[i], SHARES[i], f"kind {i % 3 * 9}") for i in range(9)),
        ("total", "3.2 min", "100.0 %", ""),
    ),
    text_columns=(0, 3),
    total_row=True,
)


def dense_picture() -> Picture:
    """6,000 points: too many for a drawing."""
    figure = new_figure(2.5)
    axes = figure.subplots()
    x = np.random.default_rng(0).random((2, 6_000))
    axes.plot(x[0], x[1], ".", color=CATEGORY_COLOURS["token_states"])
    quiet(axes)
    axes.set_xlabel("time, s")
    return Picture(
        name="dense",
        title="A large drawing",
        caption="Every point is a point.",
        alt="Six thousand points that are spread evenly over a square.",
        figure=figure,
        sheet=UNITS,
    )


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def report(files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small plan's own page."""
    return written(tmp_path_factory, files["report.html"].decode())


@pytest.fixture(scope="module")
def hard_report(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page with a large drawing and a table of all units."""
    with fresh():
        return written(tmp_path_factory, plan_page(plan, [at_once(plan), dense_picture()]))


@pytest.fixture(scope="module")
def evil_report(evil_html: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory, evil_html)


def written(tmp_path_factory: pytest.TempPathFactory, html: str) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(html, encoding="utf-8")
    return path


@pytest.fixture
def hard(chromium: Browser, hard_report: Path) -> Iterator[Visit]:
    with visit(chromium, hard_report) as seen:
        yield seen


@pytest.fixture
def desk(chromium: Browser, report: Path) -> Iterator[Visit]:
    with visit(chromium, report) as seen:
        yield seen


def box(locator: Locator) -> dict[str, float]:
    found = locator.bounding_box()
    assert found is not None, f"{locator} is not shown"
    return {**found, "right": found["x"] + found["width"], "bottom": found["y"] + found["height"]}


def luminance(colour: str) -> float:
    """Relative luminance of ``rgb(...)``, WCAG 2."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def style(locator: Locator, name: str) -> str:
    return str(locator.evaluate(f"element => getComputedStyle(element).{name}"))


def cells(page: Page, column: int) -> list[str]:
    """Column ``column`` of the table of all units, as it is shown."""
    rows = page.locator("#dense table.data tbody tr:visible")
    return [row.locator("th, td").nth(column).inner_text() for row in rows.all()]


def unfold(page: Page) -> None:
    page.locator("#dense summary").click()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("which", ["report", "hard_report"])
def test_quiet_alone_and_within_the_width(
    chromium: Browser, request: pytest.FixtureRequest, which: str, width: int
) -> None:
    with visit(chromium, request.getfixturevalue(which), width=width) as seen:
        page = seen.page
        page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"the page is {wide} px wide"
        drawings = page.locator("figure svg, figure img")
        assert drawings.count() == page.locator("figure").count() >= 2
        for drawing in drawings.all():
            place = box(drawing)
            assert place["width"] > 250
            assert place["height"] > 80
            assert place["x"] >= 0
            assert place["right"] <= width
        assert (seen.requests, seen.messages) == ([], [])


def test_the_first_screen_of_a_desk(desk: Visit) -> None:
    for what in ("h1", ".verdict", ".interval", "pre.copy", ".compact", "#requests-at-once svg"):
        place = box(desk.page.locator(what))
        assert place["bottom"] <= WIDTHS[1440], f"{what} ends at {place['bottom']:.0f}"


def test_the_first_screen_of_a_phone(chromium: Browser, report: Path) -> None:
    with visit(chromium, report, width=375) as seen:
        page = seen.page
        ends = [box(page.locator(what)) for what in ("h1", ".verdict", ".interval", "pre.copy")]
        assert [place["y"] for place in ends] == sorted(place["y"] for place in ends)
        assert ends[2]["bottom"] <= WIDTHS[375], "the interval is below the first screen"
        assert ends[3]["y"] <= WIDTHS[375] - 60, "the command starts below the first screen"
        assert box(page.locator("#requests-at-once"))["y"] > ends[3]["bottom"]


def test_a_column_of_times_sorts_by_their_length_and_back(hard: Visit) -> None:
    unfold(hard.page)
    header = hard.page.locator("#dense th", has_text="time")
    ascending = ["0 s", "850 us", "56.5 ms", "500 ms", "1.2 s", "3.1 s", "12.0 s", "2.0 min"]
    header.locator("button").click()
    assert cells(hard.page, 1) == [*ascending, "-", "3.2 min"]
    assert header.get_attribute("aria-sort") == "ascending"
    header.locator("button").click()
    assert cells(hard.page, 1) == [*reversed(ascending), "-", "3.2 min"]
    assert header.get_attribute("aria-sort") == "descending"
    header.locator("button").click()
    assert cells(hard.page, 1) == [*TIMES, "3.2 min"]
    assert header.get_attribute("aria-sort") is None


def test_sorting_by_keyboard_and_by_words(hard: Visit) -> None:
    page = hard.page
    unfold(page)
    page.locator("#dense th button", has_text="share").focus()
    page.keyboard.press("Enter")
    assert cells(page, 2)[:4] == ["0.0 %", "<0.1 %", "0.1 %", "6.5 %"]
    page.locator("#dense th button", has_text="name").focus()
    page.keyboard.press("Space")
    page.keyboard.press("Space")
    assert cells(page, 0) == [*(f"row {i}" for i in reversed(range(9))), "total"]
    assert page.locator("#dense [aria-sort]").count() == 1


def test_equal_cells_keep_their_order(hard: Visit) -> None:
    unfold(hard.page)
    hard.page.locator("#dense th button", has_text="kind").click()
    order = [f"row {i}" for i in (0, 3, 6, 1, 4, 7, 2, 5, 8)]
    assert cells(hard.page, 0) == [*order, "total"]


def test_the_filter_hides_rows_and_says_how_many_are_left(hard: Visit) -> None:
    page = hard.page
    unfold(page)
    field, count = page.locator("#dense input[type=search]"), page.locator("#dense output")
    assert count.inner_text() == "9 rows"
    assert count.get_attribute("aria-live") == "polite"
    field.fill("KIND ms")
    assert cells(page, 0) == ["row 0", "row 6", "total"]
    assert count.inner_text() == "2 of 9 rows"
    field.fill(" kind   min ")
    assert cells(page, 0) == ["row 4", "total"]
    field.fill("kind 7 8")
    assert cells(page, 0) == ["total"]
    assert count.inner_text() == "0 of 9 rows"
    field.fill("")
    assert cells(page, 0) == [*(f"row {i}" for i in range(9)), "total"]
    assert count.inner_text() == "9 rows"


def test_every_table_can_be_sorted_and_the_long_ones_filtered(desk: Visit) -> None:
    for table in desk.page.locator("table.data").all():
        rows = table.locator("tbody tr:not(.total)").count()
        headers = table.locator("thead th")
        assert table.locator("thead th button").count() == (headers.count() if rows > 1 else 0)
    long = [
        table
        for table in desk.page.locator("table.data").all()
        if table.locator("tbody tr:not(.total)").count() >= 8
    ]
    assert len(long) == desk.page.locator("input[type=search]").count() >= 2


def test_dark(chromium: Browser, hard_report: Path) -> None:
    with visit(chromium, hard_report, color_scheme="dark") as seen:
        page = seen.page
        assert luminance(style(page.locator("body"), "backgroundColor")) < 0.02
        assert luminance(style(page.locator("body"), "color")) > 0.7
        ink = page.locator("#requests-at-once svg text").first
        assert luminance(style(ink, "fill")) > 0.7
        pixels = page.locator("#dense img")
        sources = page.locator("#dense source")
        assert pixels.evaluate("image => image.currentSrc") == sources.get_attribute("srcset")
        corner, lightest = corner_and_lightest(pixels)
        assert corner < 0.02, "the image brings a ground of its own"
        assert lightest > 0.5, "its ink is dark"


def test_light(hard: Visit) -> None:
    assert luminance(style(hard.page.locator("body"), "backgroundColor")) > 0.9
    pixels = hard.page.locator("#dense img")
    assert pixels.evaluate("image => image.currentSrc") == pixels.get_attribute("src")
    assert corner_and_lightest(pixels)[0] > 0.9


def corner_and_lightest(pixels: Locator) -> tuple[float, float]:
    """Luminance of what the browser shows of an image: near its corner, and at most."""
    shown = imread(BytesIO(pixels.screenshot()), format="png")[..., :3]
    linear = np.where(shown <= 0.04045, shown / 12.92, ((shown + 0.055) / 1.055) ** 2.4)
    values = linear @ np.array([0.2126, 0.7152, 0.0722])
    return float(values[4, 4]), float(values.max())


def test_print(chromium: Browser, hard_report: Path) -> None:
    with visit(chromium, hard_report, color_scheme="dark") as seen:
        page = seen.page
        page.locator("#dense summary").click()
        page.locator("#dense input[type=search]").fill("row 1")
        pdf = page.pdf(format="A4", margin={"top": "15mm", "bottom": "15mm"})
        assert len(re.findall(rb"/Type\s*/Page\b", pdf)) > 2
        page.emulate_media(media="print")
        assert luminance(style(page.locator("body"), "backgroundColor")) > 0.9
        assert page.locator("#dense img").evaluate("image => image.currentSrc") == page.locator(
            "#dense img"
        ).get_attribute("src")
        for drawing in page.locator("figure svg, figure img").all():
            assert box(drawing)["height"] > 80
        for table in page.locator("table.data").all():
            assert box(table)["height"] > 40, "a folded table is not printed"
        assert len(cells(page, 0)) == 10, "rows that a filter hides are not printed"
        assert not page.locator(".contents").is_visible()
        assert not page.locator("input, button.copy").first.is_visible()


def test_without_scripts(chromium: Browser, hard_report: Path) -> None:
    with visit(chromium, hard_report, java_script_enabled=False) as seen:
        page = seen.page
        assert page.locator("button, input").count() == 0
        assert page.locator("pre.copy").inner_text().startswith("vllm serve ")
        unfold(page)
        assert cells(page, 1) == [*TIMES, "3.2 min"]
        assert (seen.requests, seen.messages) == ([], [])


def test_the_command_is_copied_whole(chromium: Browser, report: Path, plan: Plan) -> None:
    granted = ["clipboard-read", "clipboard-write"]
    with visit(chromium, report, permissions=granted) as seen:
        page = seen.page
        page.set_default_timeout(5_000)
        page.get_by_role("button", name="Copy").click()
        page.locator("[role=status]", has_text="Copied").wait_for()
        assert page.evaluate("navigator.clipboard.readText()") == plan.serve_command


def test_a_command_that_cannot_be_copied_is_marked(desk: Visit, plan: Plan) -> None:
    page = desk.page
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(); }")
    page.get_by_role("button", name="Copy").click()
    page.locator("[role=status]", has_text="Ctrl+C").wait_for()
    assert page.evaluate("getSelection().toString()") == plan.serve_command
    assert desk.messages == []


def test_the_keyboard_reaches_the_controls_in_their_order(desk: Visit) -> None:
    page, reached = desk.page, []
    wanted = ("skip", "#answer", "#section-latency", "Copy", "<pre", "All settings", "sort")
    while not reached or wanted[-1] not in reached[-1]:
        page.keyboard.press("Tab")
        element = "document.activeElement"
        assert page.evaluate(f"{element} !== document.body"), f"{reached} and no further"
        assert page.evaluate(f"getComputedStyle({element}).outlineStyle") != "none"
        reached.append(page.evaluate(f"{element}.outerHTML.slice(0, 200)"))
    places = [next(i for i, one in enumerate(reached) if what in one) for what in wanted]
    assert places == sorted(places)
    assert places[0] == 0


def test_skip_link_and_contents_lead_to_where_they_say(chromium: Browser, report: Path) -> None:
    with visit(chromium, report, reduced_motion="reduce") as seen:
        page = seen.page
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        bar = box(page.locator(".contents"))["height"]
        for link in page.locator(".contents a").all():
            link.click()
            target = page.locator(link.get_attribute("href") or "")
            at_end = "scrollY + innerHeight >= document.documentElement.scrollHeight - 2"
            assert box(target)["y"] >= bar
            assert box(target)["y"] < 120 or page.evaluate(at_end)
            assert link.inner_text() in ("Answer", target.locator("h1, h2").first.inner_text())


def test_names_for_those_who_cannot_see(desk: Visit) -> None:
    page = desk.page
    images = page.get_by_role("img")
    assert images.count() == page.locator("figure").count()
    names = [one.get_attribute("aria-label") or one.get_attribute("alt") for one in images.all()]
    assert all(name and len(name) > 40 for name in names)
    for control in page.get_by_role("searchbox").all():
        assert control.get_attribute("aria-label")
    assert page.get_by_role("main").count() == 1
    assert page.get_by_role("navigation", name="On this page").count() == 1
    for table in page.locator("table").all():
        assert table.locator("caption").text_content()
        assert table.locator("th:not([scope])").count() == 0


def test_an_evil_trace_is_text(chromium: Browser, evil_report: Path, evil_plan: Plan) -> None:
    with visit(chromium, evil_report) as seen:
        page = seen.page
        assert page.locator("script").count() == 1
        assert page.locator("[onerror], [onload]").count() == 0
        assert page.locator(".compact dd", has_text=evil_plan.origin).is_visible()
        assert (seen.requests, seen.messages) == ([], [])


def test_a_script_that_came_in_would_not_run(desk: Visit) -> None:
    """The second line of defence: escaping is the first."""
    page = desk.page
    page.evaluate(
        """document.body.insertAdjacentHTML("beforeend", '<img src="data:," onerror="hit = 1">');
        const script = document.createElement("script");
        script.textContent = "hit = 2";
        document.body.append(script);"""
    )
    page.wait_for_function("document.images[document.images.length - 1].complete")
    assert page.evaluate("typeof hit") == "undefined"
    assert len([one for one in desk.messages if "Content Security Policy" in one]) == 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_screenshots_are_kept(chromium: Browser, report: Path, scheme: str, width: int) -> None:
    with visit(chromium, report, width=width, color_scheme=scheme) as seen:
        path = artefacts() / f"report-{scheme}-{width}.png"
        data = seen.page.screenshot(path=path, full_page=True)
        assert path.stat().st_size == len(data) > 50_000


def test_a_figure_file_opens_alone(
    chromium: Browser, files: dict[str, bytes], tmp_path: Path
) -> None:
    path = tmp_path / "figure.svg"
    path.write_bytes(files["requests-at-once.svg"])
    with visit(chromium, path) as seen:
        page = seen.page
        size = json.loads(
            page.evaluate("JSON.stringify(document.documentElement.getBoundingClientRect())")
        )
        assert size["width"] > 300
        assert page.evaluate("document.title") == "Requests at once under backlog"
        assert page.evaluate("[...document.querySelectorAll('text')].length") > 8
        assert (seen.requests, seen.messages) == ([], [])
