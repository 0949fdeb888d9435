"""Latencies as distributions: what a curve says, who shares a line."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kvsim.reports.figures.latency_cdf import MOST_POINTS, curve, latency_cdf
from kvsim.reports.latencies import alike, sorted_times
from kvsim.reports.picture import Picture
from kvsim.sim.candidate import Candidate
from kvsim.sim.plan import Plan

TTFT, TPOT, E2E = range(3)


def scaled(one: Candidate, factor: float) -> Candidate:
    """The same requests, each that many times as long."""
    requests = dict(one.result.requests)
    for name in ("first_token_s", "finish_s"):
        requests[name] = requests["arrival_s"] + factor * (requests[name] - requests["arrival_s"])
    return replace(one, result=replace(one.result, requests=requests))


def unserved(one: Candidate) -> Candidate:
    status = np.full_like(one.result.requests["status"], "rejected")
    return replace(
        one, result=replace(one.result, requests={**one.result.requests, "status": status})
    )


def drawn(plan: Plan) -> Picture:
    picture = latency_cdf(plan)
    assert picture is not None
    return picture


def test_a_curve_says_what_share_took_at_most_so_long() -> None:
    seconds, shares = curve(np.array([1.0, 2.0, 2.0, 5.0]))
    assert seconds.tolist() == [1, 2, 2, 5]
    assert shares.tolist() == [0.25, 0.5, 0.75, 1]


@pytest.mark.parametrize("number", [199, 200, 201, 100_000])
def test_long_curves_are_thinned_and_keep_their_ends(number: int) -> None:
    values = np.sort(np.random.default_rng(0).random(number))
    seconds, shares = curve(values)
    assert len(seconds) == min(number, MOST_POINTS)
    assert (seconds[0], seconds[-1], shares[-1]) == (values[0], values[-1], 1.0)
    assert shares == pytest.approx(np.searchsorted(values, seconds, side="right") / number)


def test_times_are_those_of_the_summary(plan: Plan) -> None:
    times = sorted_times(plan.chosen.result)
    for name, quantiles in (
        ("ttft", plan.chosen.summary.ttft_s),
        ("tpot", plan.chosen.summary.tpot_s),
        ("e2e", plan.chosen.summary.e2e_s),
    ):
        assert np.quantile(times[name], 0.95) == pytest.approx(quantiles.p95)
        assert times[name].mean() == pytest.approx(quantiles.mean)


def test_lines_are_the_candidates_own(plan: Plan) -> None:
    picture = drawn(replace(plan, baselines=(scaled(plan.chosen, 3.0),)))
    times = sorted_times(plan.chosen.result)["e2e"]
    first, second = picture.figure.axes[E2E].lines
    assert first.get_xdata() == pytest.approx(times)
    assert second.get_xdata() == pytest.approx(3 * times)
    assert first.get_linestyle() != second.get_linestyle()
    assert first.get_color() != second.get_color()
    assert max(np.asarray(first.get_ydata())) == 100


def test_those_alike_share_a_line(plan: Plan) -> None:
    same = replace(plan, baselines=(plan.chosen, plan.chosen, plan.chosen))
    picture = drawn(same)
    assert all(len(axes.lines) == 1 for axes in picture.figure.axes)
    (label,) = picture.figure.legends[0].get_texts()
    assert label.get_text() == "all four allocators"
    assert picture.alt.startswith("Share of requests by latency. all four allocators: ")
    near = replace(plan, baselines=(scaled(plan.chosen, 1.0002),))
    assert len(drawn(near).figure.axes[E2E].lines) == 1
    apart = replace(plan, baselines=(scaled(plan.chosen, 1.01),))
    assert len(drawn(apart).figure.axes[E2E].lines) == 2


def test_two_of_three_share_a_label(plan: Plan) -> None:
    first, *_ = plan.baselines
    three = replace(plan, baselines=(first, replace(first, server=plan.chosen.server)))
    groups = alike(three.candidates)
    assert [len(members) for members in groups] == [1, 2]
    labels = [text.get_text() for text in drawn(three).figure.legends[0].get_texts()]
    assert labels == ["paged", "contiguous-max, paged"]


def test_who_finishes_nothing_has_no_line(plan: Plan) -> None:
    one = replace(plan, baselines=(unserved(plan.chosen),))
    assert len(drawn(one).figure.axes[TTFT].lines) == 1
    assert [text.get_text() for text in drawn(one).figure.legends[0].get_texts()] == ["paged"]
    nobody = replace(one, chosen=unserved(plan.chosen))
    assert latency_cdf(nobody) is None


def test_outputs_of_one_token_have_no_time_per_token(plan: Plan) -> None:
    requests = dict(plan.chosen.result.requests)
    requests["output_tokens"] = np.ones_like(requests["output_tokens"])
    chosen = replace(plan.chosen, result=replace(plan.chosen.result, requests=requests))
    picture = drawn(replace(plan, chosen=chosen, baselines=()))
    assert not picture.figure.axes[TPOT].lines
    assert picture.sheet.rows[1][2:] == ("-",) * 9


def test_spread_times_are_logarithmic(plan: Plan) -> None:
    far = replace(plan, baselines=(scaled(plan.chosen, 1000.0),))
    assert drawn(far).figure.axes[TPOT].get_xscale() == "log"
    alone = replace(plan, baselines=())
    assert drawn(alone).figure.axes[TPOT].get_xscale() == "linear"


def test_the_table_has_a_row_per_candidate_and_time(plan: Plan) -> None:
    sheet = drawn(plan).sheet
    assert len(sheet.rows) == 3 * len(plan.candidates)
    assert sheet.columns[2:] == ("p5", "p10", "p25", "p50", "p75", "p90", "p95", "p99", "most")
    assert sheet.rows[0][:2] == ("paged", "TTFT")
