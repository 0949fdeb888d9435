"""The page: escaped, self-contained, whole, with its headings in order."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from kvsim.reports.figures import FIGURES, plan_pictures
from kvsim.reports.page import plan_page
from kvsim.reports.sheets import candidate_sheet
from kvsim.sim.plan import Plan
from support.page_reader import Reader


@pytest.fixture(scope="module")
def html(files: dict[str, bytes]) -> str:
    return files["report.html"].decode()


@pytest.fixture(scope="module")
def evil_html(evil_plan: Plan) -> str:
    return plan_page(evil_plan, plan_pictures(evil_plan))


def test_the_page_parses_and_has_every_figure_with_its_alt(html: str) -> None:
    reader = Reader(html)
    figures = [attrs["id"] for attrs in reader.attributes("figure")]
    assert sorted(figures) == sorted(FIGURES)
    drawings = reader.attributes("svg") + reader.attributes("img")
    assert len(drawings) == len(FIGURES)
    assert all(len(one.get("aria-label", one.get("alt", ""))) > 40 for one in drawings)
    assert len(reader.attributes("figcaption")) == len(FIGURES)
    assert len(reader.attributes("details")) == len(FIGURES)


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
    reader = Reader(html)
    for tag, attrs in reader.tags:
        assert tag not in {"script", "link", "iframe", "object", "embed", "base"}
        for name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            assert attrs.get(name, "#").startswith(("#", "data:")), (tag, attrs)
        assert not any(name.startswith("on") for name in attrs)
    assert "@import" not in html
    assert not re.search(r"url\((?!#|data:)", html)
    assert "default-src 'none'" in html
    assert len(html) < 1_500_000


def test_no_path_of_this_machine(html: str) -> None:
    assert not re.search(r"/(home|root|work|tmp|usr|opt|Users)/", html)


def test_a_script_stays_text(evil_html: str) -> None:
    assert not Reader(evil_html).attributes("script")
    assert "<script" not in evil_html
    assert evil_html.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 20
    assert "&amp; more" in evil_html


def test_skipped_rows_first_twenty_and_the_count(evil_html: str) -> None:
    text = Reader(evil_html).text
    assert "25 rows of the trace could not be read; the first 20 are shown." in text
    assert text.count("is no number") == 20


def test_the_first_screen_answers(plan: Plan, html: str) -> None:
    text = " ".join(Reader(html).text.split())
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
