"""The page and the tables of published results: what stands in them, and that they load nothing."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from kvsim.reports.reproduce_figures import caption, claim_picture
from kvsim.reports.reproduce_report import (
    KIND,
    reproduction_files,
    reproduction_tables,
    write_reproduction,
)
from kvsim.reports.reproduce_sheets import (
    all_checks_sheet,
    check_row,
    check_sheet,
    claims_sheet,
    closing_lines,
    value_words,
    verdict_words,
)
from kvsim.sim.folder import read_folder
from kvsim.sim.reproduce.claim import Chart, Check, Claim, Series, near, within
from kvsim.sim.reproduce.run import Reproduction
from support.page_reader import Reader
from support.self_contained import check_self_contained

EVIL = '"><script>alert(1)</script>'
BARS = Chart(
    title="Bars",
    y_title="requests",
    labels=("a", "b"),
    series=(
        Series(name="ours", y=(1.0, math.nan)),
        Series(name="paper", y=(1.5, 2.0), paper=True),
    ),
)
STACKED = Chart(
    title="Stacked",
    y_title="share",
    labels=("a", "paper"),
    series=(Series(name="used", y=(0.4, 0.5)), Series(name="free", y=(0.6, 0.5))),
    stacked=True,
    shares=True,
)
LINES = Chart(
    title="Lines",
    x_title="rate",
    y_title="latency",
    series=(
        Series(name="one", x=(1.0, 2.0), y=(0.1, 0.9)),
        Series(name="paper", x=(1.5,), y=(0.5,), paper=True),
    ),
    log_x=True,
    y_max=1.0,
    level=0.5,
)


def claim(name: str, *checks: Check, charts: tuple[Chart, ...] = (), skipped: str = "") -> Claim:
    return Claim(
        name=name,
        paper="A",
        source="A et al., Fig. 1",
        says="So it is.",
        how="Like this.",
        checks=checks,
        charts=charts,
        skipped=skipped,
    )


@pytest.fixture(scope="module")
def found() -> Reproduction:
    return Reproduction(
        claims=(
            claim("a-held", near("batch", 7.0, 7.1, rel=0.1), charts=(BARS, LINES)),
            claim("a-shape", within("step", 1.0, math.inf, 2.0, unit="x", shape=True)),
            claim(
                "a-known",
                near("share", 0.5, 0.9, abs=0.1, unit="share", known="The paper's GPU is older."),
                charts=(STACKED,),
            ),
            claim("a-skipped", skipped="No file."),
        ),
        constants={"seed": "1"},
        full=False,
    )


@pytest.fixture(scope="module")
def files(found: Reproduction) -> dict[str, bytes]:
    return reproduction_files(found)


def test_rows_are_paper_ours_tolerance_verdict(found: Reproduction) -> None:
    held, shape, known = (one.checks[0] for one in found.claims[:3])
    assert check_row(held) == ("batch", "7", "7.100", "6.300 to 7.700", "holds")
    assert check_row(shape)[2:] == ("2.00x", "at least 1.00x", "holds")
    assert check_row(known) == ("share", "50 %", "90 %", "40 to 60 %", "does not hold (known)")
    surprise = near("tokens", 100, 250, unit="tokens")
    assert check_row(surprise) == ("tokens", "100", "250", "exact", "does not hold")
    assert check_row(within("x", -math.inf, 1.2, 1.0, unit="x"))[3] == "at most 1.20x"


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (math.nan, "x", "-"),
        (1234.0, "", "1,234"),
        (0.0953, "share", "9.53 %"),
        (0.203, "share", "20.3 %"),
        (1.0, "x", "1.00x"),
        (123.4, "x", "123x"),
    ],
)
def test_values_in_words(value: float, unit: str, words: str) -> None:
    assert value_words(value, unit) == words


def test_verdicts_in_words(found: Reproduction) -> None:
    words = [verdict_words(one) for one in found.claims]
    assert words == ["held", "shape holds", "not held (known)", "skipped"]
    sheet = claims_sheet(found)
    assert [row[2] for row in sheet.rows] == ["1 of 1", "1 of 1", "0 of 1", "-"]
    assert len(all_checks_sheet(found).rows) == 7
    assert len(reproduction_tables(found)) == 1


def test_the_end_says_what_does_not_hold_and_why(found: Reproduction) -> None:
    assert closing_lines(found) == [
        "2 of 4 published results hold, 1 skipped; 2 of 3 of their figures lie within tolerance.",
        "Not held: a-known: The paper's GPU is older.",
        "Skipped: a-skipped: No file.",
    ]
    assert not found.failed


def test_the_page_is_self_contained(files: dict[str, bytes]) -> None:
    html = files["report.html"].decode()
    check_self_contained(html)
    text = " ".join(Reader(html).text.split())
    assert "2 of 4 published results hold" in text
    assert "The paper's GPU is older." in text
    assert "not run: No file." in text
    assert "does not hold that is expected to" not in text
    for name in ("a-held", "a-shape", "a-known", "a-skipped"):
        assert f'id="result-{name}"' in html


def test_a_surprise_is_said_at_the_top() -> None:
    wrong = Reproduction(claims=(claim("a", near("x", 1.0, 2.0)),), constants={}, full=True)
    html = reproduction_files(wrong)["report.html"].decode()
    assert "Something does not hold that is expected to." in html
    assert wrong.failed


def test_text_is_text() -> None:
    evil = Reproduction(
        claims=(claim("a", near(EVIL, 1.0, 1.0)),), constants={EVIL: EVIL}, full=True
    )
    check_self_contained(reproduction_files(evil)["report.html"].decode())


def test_every_claim_with_charts_has_its_figure(
    found: Reproduction, files: dict[str, bytes]
) -> None:
    drawn = {"a-held", "a-known"}
    assert {name for name in files if name.endswith(".png")} == {f"{one}.png" for one in drawn}
    assert claim_picture(found.claims[1]) is None
    html = files["report.html"].decode()
    assert html.count("<figure") == 2
    assert files == reproduction_files(found), "the same reproduction gives the same bytes"


def test_captions_say_how_to_read() -> None:
    assert "hollow" in caption((BARS,))
    assert "Below each" in caption((STACKED,))
    assert "level" in caption((LINES,))
    assert "prints no values" in caption((Chart(title="", y_title="", series=()),))


def test_the_folder(found: Reproduction, tmp_path: Path) -> None:
    paths = write_reproduction(found, tmp_path / "out")
    assert paths[0].name == "report.html"
    inside = read_folder(tmp_path / "out", KIND)
    values = json.loads(inside["reproduction.json"].read_text(encoding="utf-8"))
    assert values["schema"] == "kvsim-reproduction/1"
    assert values["verdict"] == "passed"
    assert [one["verdict"] for one in values["claims"]][:2] == ["held", "shape holds"]
    assert values["claims"][1]["checks"][0]["high"] is None, "an open end"


def test_sheets_name_their_claim(found: Reproduction) -> None:
    assert check_sheet(found.claims[0]).title == "a-held: paper and ours"
