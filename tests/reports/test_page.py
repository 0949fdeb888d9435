"""The page: escaped, self-contained, whole, with its headings in order."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise

import pytest

from kvsim.reports.figures import plan_pictures
from kvsim.reports.page import KEY_SETTINGS, plan_page, plan_values
from kvsim.reports.picture import Picture
from kvsim.reports.sections import SECTIONS
from kvsim.reports.sheets import candidate_sheet
from kvsim.sim.plan import Plan
from support.page_reader import Reader
from support.self_contained import check_self_contained


@pytest.fixture(scope="module")
def html(files: dict[str, bytes]) -> str:
    return files["report.html"].decode()


@pytest.fixture(scope="module")
def pictures(plan: Plan) -> list[Picture]:
    return plan_pictures(plan)


def names(pictures: list[Picture]) -> list[str]:
    return [picture.name for picture in pictures]


def test_the_page_parses_and_has_every_figure_with_its_alt(
    html: str, pictures: list[Picture]
) -> None:
    reader = Reader(html)
    figures = [attrs["id"] for attrs in reader.attributes("figure")]
    assert sorted(figures) == sorted(names(pictures))
    drawings = reader.attributes("svg") + reader.attributes("img")
    assert len(drawings) == len(figures)
    assert all(len(one.get("aria-label", one.get("alt", ""))) > 40 for one in drawings)
    assert len(reader.attributes("figcaption")) == len(figures)
    assert len(reader.attributes("details")) == len(figures) + 1, "the folded settings"


def test_figures_stand_in_their_sections_and_the_contents_name_these(
    plan: Plan, pictures: list[Picture]
) -> None:
    unknown = replace(pictures[-1], name="new-figure", title="Something new")
    reader = Reader(plan_page(plan, [unknown, *pictures]))
    order = [attrs["id"] for attrs in reader.attributes("figure")]
    known = ["requests-at-once", *(name for held in SECTIONS.values() for name in held)]
    assert order == [*(name for name in known if name in order), "new-figure"]
    anchors = [a["href"][1:] for a in reader.attributes("a") if "class" not in a]
    assert anchors[0] == "answer"
    assert anchors[1:] == [attrs["id"] for attrs in reader.attributes("section") if attrs]
    assert "section-more" in anchors
    assert "section-sensitivity" not in anchors or "tornado" in order


def test_a_page_without_figures(plan: Plan) -> None:
    reader = Reader(plan_page(plan, []))
    assert not reader.attributes("figure")
    assert plan.serve_command in " ".join(reader.text.split())


def test_the_interval_stands_before_the_command(plan: Plan) -> None:
    lines = ["Between 1 and 2 <tokens>.", "Because of the clock."]
    text = Reader(plan_page(plan, [], lines)).text
    places = [text.index(line) for line in (*lines, plan.serve_command[:20])]
    assert places == sorted(places)
    assert "How sure" not in Reader(plan_page(plan, [])).text


def test_every_setting_is_on_the_page_once(plan: Plan) -> None:
    values = plan_values(plan, [])
    first, folded = values["key_settings"], values["other_settings"]
    assert isinstance(first, dict)
    assert isinstance(folded, dict)
    assert tuple(first) == KEY_SETTINGS
    assert not set(first) & set(folded)
    assert len(first) + len(folded) == 18


def test_ids_are_unique(html: str) -> None:
    ids = re.findall(r'\sid="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_language_headings_and_viewport(html: str) -> None:
    reader = Reader(html)
    assert reader.attributes("html") == [{"lang": "en"}]
    levels = [int(tag[1]) for tag, _ in reader.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert any(one.get("name") == "viewport" for one in reader.attributes("meta"))


def test_nothing_is_loaded(html: str) -> None:
    check_self_contained(html)
    assert len(html) < 1_500_000


def test_no_path_of_this_machine(html: str) -> None:
    assert not re.search(r"/(home|root|work|tmp|usr|opt|Users)/", html)


def test_a_script_stays_text(evil_html: str) -> None:
    check_self_contained(evil_html)
    assert evil_html.count("<script") == 1
    assert "<img src=x" not in evil_html
    assert evil_html.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 20
    assert "&amp; more" in evil_html


def test_skipped_rows_first_twenty_and_the_count(evil_html: str) -> None:
    text = Reader(evil_html).text
    assert "25 rows of the trace could not be read; the first 20 are shown." in text
    assert text.count("is no number") == 20


def test_the_first_screen_answers(plan: Plan, html: str) -> None:
    text = " ".join(Reader(html[html.index("<main") : html.index("</main>") + 7]).text.split())
    first = text[: text.index("What happens")]
    assert plan.serve_command in first
    assert "requests at once" in first
    assert "max_model_len" in first
    assert plan.chosen.server.cost.source in text
    for value in plan.chosen.summary.digests.values():
        assert value in text
    for line in plan.assumptions:
        assert line in text


def test_a_baseline_that_runs_nothing(lopsided_plan: Plan) -> None:
    text = Reader(plan_page(lopsided_plan, plan_pictures(lopsided_plan))).text
    assert "runs none" in text
    assert not re.search(r"\b(nan|inf)\b", text)


def test_light_dark_phone_and_print_have_their_styles(html: str) -> None:
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html
    assert "overflow-x: auto" in html


def test_the_candidates_fit_the_page(plan: Plan) -> None:
    """13 columns are what 1,200 px hold; the times are one cell that breaks in its middle only."""
    sheet = candidate_sheet(plan)
    assert len(sheet.columns) <= 13
    times = [row[sheet.columns.index("TTFT p50 / p95")] for row in sheet.rows]
    gap = "\N{NO-BREAK SPACE}"
    assert all(re.fullmatch(rf"\S+{gap}[mu]?s{gap}/ \S+{gap}[mu]?s", cell) for cell in times)


def test_numbers_carry_what_they_sort_by(plan: Plan, html: str) -> None:
    sheet = candidate_sheet(plan)
    body = html[html.index(sheet.title) :]
    keys = [
        float(key) for key in re.findall(r'data-sort="([^"]*)"', body[: body.index("</tr>", 3_000)])
    ]
    summary = plan.chosen.summary
    column = sheet.columns.index("TTFT p50 / p95") - 1
    assert keys[column] == pytest.approx(summary.ttft_s.p50, rel=0.01)
    assert 'scope="row" data-sort' not in body, "names are words"
