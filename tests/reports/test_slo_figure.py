"""The search for a rate as figure and tables."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kvsim.reports.figures.slo import MOST_LINES, slo_picture, slo_pictures
from kvsim.reports.picture import Picture
from kvsim.reports.render import png, svg
from kvsim.reports.slo_sheets import binding_sheet, probe_sheet, slo_sheet
from kvsim.sim.planner.binding import Binding
from kvsim.sim.planner.probe import Probe
from kvsim.sim.planner.search import RateSearch
from kvsim.sim.slo import SLO

OBJECTIVE = SLO(ttft_s=2.0, tpot_s=0.05)
BANDWIDTH = Binding(kind="bandwidth", share=0.6, evidence="at 4.5 requests/s most is reading.")


def probe(rate: float, kept: float, *, preempted: int = 0, **other: bool) -> Probe:
    return Probe(
        rate_per_s=rate,
        attainment=kept,
        goodput_per_s=rate * kept,
        holds=kept >= 0.95,
        ttft_s=0.5,
        tpot_s=0.04 * rate / 4,
        e2e_s=9.0,
        output_tokens_per_s=200 * rate,
        mean_running=5 * rate,
        num_preemptions=preempted,
        memory_bound=0.0,
        seat_bound=0.0,
        num_counted=900,
        num_requests=1_000,
        **other,
    )


def searched(scale: float = 1.0) -> RateSearch:
    best = probe(4.0 * scale, 0.96, confirms=True)
    return RateSearch(
        slo=OBJECTIVE,
        probes=(
            probe(2.0 * scale, 1.0),
            best,
            probe(4.2 * scale, 0.95 - 1e-4, confirms=True, stopped=True),
            probe(5.0 * scale, 0.9, preempted=3),
            probe(6.0 * scale, 0.5, preempted=40, keeps_up=False),
        ),
        saturated_per_s=6.0 * scale,
        best=best,
        bound_by="bandwidth",
        bindings=(BANDWIDTH, Binding(kind="KV memory", share=0.0, evidence="at 4.5 nobody waits.")),
    )


NONE_HOLDS = RateSearch(
    slo=OBJECTIVE,
    probes=(replace(probe(0.1, 0.2), tpot_s=0.06, holds=False),),
    saturated_per_s=5.0,
    best=None,
    bound_by="bandwidth",
    bindings=(BANDWIDTH,),
)


def marks(picture: Picture, panel: int, marker: str) -> list[tuple[float, float]]:
    lines = [one for one in picture.figure.axes[panel].lines if one.get_marker() == marker]
    return [(float(one.get_xdata()[0]), float(one.get_ydata()[0])) for one in lines]  # type: ignore[index]


def test_the_curve_is_that_of_the_short_runs() -> None:
    """Rates of 2, 5 and 6; the long runs are the filled mark, those ended early are not drawn."""
    picture = slo_picture([("a100", searched())])
    kept, good = (panel.lines[0] for panel in picture.figure.axes)
    assert list(kept.get_xdata()) == [2.0, 5.0, 6.0]
    assert list(kept.get_ydata()) == [1.0, 0.9, 0.5]
    assert list(good.get_ydata()) == [2.0, 4.5, 3.0]
    assert marks(picture, 0, "o") == [(4.0, 0.96)]
    assert marks(picture, 1, "o") == [(4.0, pytest.approx(3.84))]
    assert marks(picture, 1, "s") == [(5.0, 4.5)], "the knee"
    assert marks(picture, 0, "v") == [(5.0, 0.9)], "preemptions begin"


def test_words_say_what_is_drawn() -> None:
    picture = slo_picture([("a100", searched())])
    assert picture.alt == (
        "a100: holds 4.00 requests/s, bound by bandwidth; knee at 5.00; preemptions from 5.00; "
        "6.00 under backlog."
    )
    assert "TTFT <= 2 s and TPOT <= 0.05 s for 95 % of the requests" in picture.caption
    assert picture.caption.endswith("bound by bandwidth: at 4.5 requests/s most is reading.")
    assert svg(picture)
    assert png(picture)[:4] == b"\x89PNG"


def test_a_line_for_each_candidate_up_to_what_can_be_told_apart() -> None:
    several = [(f"option {number}", searched(1 + number)) for number in range(MOST_LINES + 2)]
    picture = slo_picture(several)
    assert len(marks(picture, 0, "o")) == MOST_LINES
    assert (4.0 * (MOST_LINES + 2), 0.96) in marks(picture, 0, "o"), "the highest is drawn"
    assert (4.0, 0.96) not in marks(picture, 0, "o"), "the lowest is not"
    assert f"The {MOST_LINES} candidates with the highest rates of {MOST_LINES + 2} are drawn." in (
        picture.caption
    )
    assert len(picture.sheet.rows) == MOST_LINES + 2
    assert slo_pictures([]) == []
    assert [one.name for one in slo_pictures(several)] == ["slo"]


def test_the_table_has_a_row_per_candidate() -> None:
    sheet = slo_sheet([("a100", searched()), ("small", NONE_HOLDS)])
    assert sheet.rows == (
        ("a100", "4.00", "3.84", "800", "5.00", "5.00", "6.00", "bandwidth"),
        ("small", "none", "-", "-", "0.100", "none", "5.00", "bandwidth"),
    )


def test_what_nobody_holds_is_said_with_its_miss() -> None:
    picture = slo_picture([("small", NONE_HOLDS)])
    assert picture.alt == (
        "small: no rate holds; at 0.1 requests/s TPOT is 0.06 s at the 95 % quantile, 1.2 times "
        "its limit of 0.05 s."
    )


def test_evidence_is_listed_where_there_is_any() -> None:
    sheet = binding_sheet([("a100", searched())])
    assert sheet.rows == (("a100", "bandwidth", "60.0 %", BANDWIDTH.evidence),)


def test_every_rate_tried_is_listed_with_its_verdict() -> None:
    rows = probe_sheet(searched()).rows
    assert [(row[0], row[1], row[3], row[-1]) for row in rows] == [
        ("2.00", "short", "100.0 %", "yes"),
        ("4.00", "long", "96.0 %", "yes"),
        ("4.20", "long", "<= 95.0 %", "no; ended when it was lost"),
        ("5.00", "short", "90.0 %", "no"),
        ("6.00", "short", "50.0 %", "no: the queue grows"),
    ]
