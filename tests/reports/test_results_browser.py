"""Pages of comparisons and validations in a real browser: quiet, alone, as wide as the window."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kvsim.reports.compare_report import comparison_files
from kvsim.reports.validate_report import validation_files
from kvsim.sim.comparison import compare
from kvsim.sim.stored import read_all, read_result
from kvsim.sim.validation.errors import validate
from kvsim.sim.validation.read import read_measured
from support.browser import WIDTHS, artefacts, browser, visit
from support.stored_runs import stored_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PAGES = ("compare", "validate")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    at = tmp_path_factory.mktemp("pages")
    a, b = stored_run(at / "a"), stored_run(at / "b", max_num_seqs=8)
    measured = read_measured([b / "requests.parquet"])
    made = {
        "compare": comparison_files(compare(read_all([a, b]))),
        "validate": validation_files(validate(measured, read_result(a))),
    }
    for name in PAGES:
        (at / f"{name}.html").write_bytes(made[name]["report.html"])
    return at


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_quiet_alone_and_fits(
    chromium: Browser, pages: Path, name: str, width: int
) -> None:
    with visit(chromium, pages / f"{name}.html", width=width) as seen:
        page = seen.page
        page.screenshot(path=str(artefacts() / f"{name}-{width}.png"), full_page=True)
        assert seen.requests == []
        assert seen.messages == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for figure in page.locator("figure svg").all():
            box = figure.bounding_box()
            assert box is not None
            assert box["width"] > 250
            assert box["height"] > 100
            assert box["x"] + box["width"] <= width
