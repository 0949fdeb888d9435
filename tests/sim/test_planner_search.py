"""The search for the highest rate that holds: against queueing theory, and its own laws."""

from __future__ import annotations

from dataclasses import replace
from math import exp
from typing import Any

import numpy as np
import pytest

from kvsim.sim.planner import bracket, extent
from kvsim.sim.planner import search as searching
from kvsim.sim.planner.probe import Probe, probe
from kvsim.sim.planner.search import RateSearch, search_rate
from kvsim.sim.server import Server
from kvsim.sim.slo import SLO
from kvsim.traces import Trace
from support.queues import SEAT_SERVICE_S as SERVICE_S
from support.queues import arriving, exponential_seat, rate_found, rate_of_theory
from support.steady import STEP_S, alike, steady_server


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Extents that are long enough for what needs no figures."""
    monkeypatch.setattr(extent, "MIN_SHORT", 300)
    monkeypatch.setattr(extent, "MIN_LONG", 600)


@pytest.fixture(scope="module")
def m_m_1() -> tuple[Server, Trace]:
    return exponential_seat()


@pytest.fixture(scope="module")
def found() -> RateSearch:
    return rate_found()


def test_an_m_m_1_queue_holds_the_rate_of_theory(found: RateSearch) -> None:
    assert found.rate_per_s == pytest.approx(rate_of_theory(), rel=0.05)
    assert found.saturated_per_s == pytest.approx(1 / SERVICE_S, rel=0.05)


def test_attainment_along_the_curve_is_that_of_theory(found: RateSearch) -> None:
    for one in found.probes:
        if one.rate_per_s * SERVICE_S < 0.65 and not one.stopped:
            expected = 1 - exp(-(1 / SERVICE_S - one.rate_per_s) * 12.0)
            assert one.attainment == pytest.approx(expected, abs=0.03)
            assert one.goodput_per_s == pytest.approx(one.rate_per_s * one.attainment)


def test_the_answer_was_confirmed_and_the_next_rate_fails(found: RateSearch) -> None:
    best, fails = found.best, found.fails
    assert best is not None
    assert fails is not None
    assert best.confirms
    assert best.holds
    assert best.num_requests == 8_000, "the whole trace"
    assert fails.rate_per_s <= best.rate_per_s * (1 + searching.TOLERANCE) * 1.001
    assert not any(
        one.holds for one in found.probes if one.confirms and one.rate_per_s > best.rate_per_s
    )
    assert [one.rate_per_s for one in found.probes] == sorted(
        one.rate_per_s for one in found.probes
    )
    assert found.bound_by == "max_num_seqs"


def test_the_long_run_has_the_last_word(
    m_m_1: tuple[Server, Trace], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Short runs that find everything fine lead to the same answer."""
    server, trace = m_m_1
    trace = trace.head(3_500)
    monkeypatch.setattr(extent, "MIN_SHORT", 300)
    slo = SLO(e2e_s=12.0, quantile=0.9)
    real = searching.probe_extent

    def rosy(server: Server, part: Any, rate: float, **given: Any) -> Probe:
        one = real(server, part, rate, **given)
        return one if given["confirms"] else replace(one, holds=True, attainment=1.0)

    monkeypatch.setattr(searching, "probe_extent", rosy)
    monkeypatch.setattr(searching, "partial", lambda call, *a, **k: lambda *b: call(*a, *b, **k))
    misled = search_rate(server, trace, slo, jobs=1)
    assert misled.rate_per_s == pytest.approx(rate_of_theory(), rel=0.08)


def test_no_rate_above_what_lasts_holds() -> None:
    """TPOT is 10 ms at any rate: the queue alone says that a rate cannot last."""
    outputs = np.full(3_000, 20)
    trace = arriving(3_000, rate_per_s=1.0, outputs=outputs)
    server = steady_server(trace, blocks=1_000, max_num_seqs=4)
    slo = SLO(tpot_s=0.05)
    lasting = 4 / (20 * STEP_S)
    beyond = probe(server, trace, 1.3 * lasting, slo)
    assert beyond.attainment == 1.0
    assert beyond.behind == pytest.approx(0.3, rel=0.1), (
        "1.3 times the work takes 1.3 times as long"
    )
    assert not beyond.keeps_up
    assert not beyond.holds
    below = probe(server, trace, 0.8 * lasting, slo)
    assert below.holds
    assert below.behind < 0.01
    found = search_rate(server, trace, slo, jobs=1)
    assert found.saturated_per_s == pytest.approx(lasting, rel=0.02)
    assert 0.93 * lasting < found.rate_per_s <= found.saturated_per_s


@pytest.mark.usefixtures("small")
def test_what_no_rate_can_hold_has_a_nearest_miss() -> None:
    trace = alike(500, prompt=10, output=20, every_s=1.0)
    server = steady_server(trace, blocks=1_000, max_num_seqs=4)
    found = search_rate(server, trace, SLO(ttft_s=1.0, tpot_s=0.008), jobs=1)
    assert found.best is None
    assert found.rate_per_s == 0.0
    assert found.probes[0].rate_per_s == pytest.approx(searching.UNLOADED * found.saturated_per_s)
    assert found.probes[0].missed(found.slo) == ("tpot_s", pytest.approx(0.01), 0.008)
    assert found.nearest_miss == (
        "at 0.4 requests/s TPOT is 0.01 s at the 95 % quantile, 1.25 times its limit of 0.008 s"
    )
    assert found.to_json()["nearest_miss"] == found.nearest_miss


@pytest.mark.usefixtures("small")
def test_a_server_that_holds_all_it_can_sustain_says_so() -> None:
    """Evenly spaced, one of a kind, no waiting: up to the backlog's own rate."""
    trace = alike(400, prompt=10, output=20, every_s=1.0)
    server = steady_server(trace, blocks=1_000, max_num_seqs=64)
    found = search_rate(server, trace, SLO(e2e_s=30.0), jobs=1)
    assert found.rate_per_s == found.saturated_per_s
    assert found.fails is None


@pytest.mark.usefixtures("small")
def test_a_guess_takes_the_place_of_the_short_part(m_m_1: tuple[Server, Trace]) -> None:
    server, trace = m_m_1
    slo = SLO(e2e_s=12.0, quantile=0.9)
    short = trace.head(700)
    first, alone = (search_rate(one, short, slo, jobs=1) for one in (server, _other(server)))
    near = search_rate(_other(server), short, slo, guess_per_s=first.rate_per_s, jobs=1)
    assert near.rate_per_s == pytest.approx(alone.rate_per_s, rel=0.03)
    assert len(near.probes) < len(alone.probes)
    assert all(one.confirms for one in near.probes)
    assert near.curve, "the figure has a line"


def _other(server: Server) -> Server:
    return replace(server, budget=replace(server.budget, num_gpu_blocks=900))


@pytest.mark.slow
def test_the_answer_does_not_hang_on_the_cores(m_m_1: tuple[Server, Trace]) -> None:
    server, trace = m_m_1
    slo = SLO(e2e_s=12.0, quantile=0.9)
    one, two = (search_rate(server, trace, slo, jobs=jobs).to_json() for jobs in (1, 2))
    assert one == two


def fake(rate: float, *, attainment: float, quantile: float = 0.95, stopped: bool = False) -> Probe:
    return Probe(
        rate_per_s=rate,
        attainment=attainment,
        goodput_per_s=rate * attainment,
        holds=attainment >= quantile,
        ttft_s=1.0,
        tpot_s=1.0,
        e2e_s=1.0,
        output_tokens_per_s=1.0,
        mean_running=1.0,
        num_preemptions=0,
        memory_bound=0.0,
        seat_bound=0.0,
        num_counted=10_000,
        stopped=stopped,
    )


@pytest.mark.parametrize("stopped", [False, True])
@pytest.mark.parametrize("power", [0.5, 4.0, 30.0])
@pytest.mark.parametrize("best", [0.03, 0.4, 0.97])
def test_closing_in_ends_next_to_where_it_is_lost(best: float, power: float, stopped: bool) -> None:
    """Misses grow as a power of the rate, from 5 % at ``best``."""
    asked: list[float] = []

    def ask(rates: Any) -> list[Probe]:
        asked.extend(rates)
        kept = [max(0.0, 1 - 0.05 * (rate / best) ** power) for rate in rates]
        return [
            fake(rate, attainment=one, stopped=stopped and one < 0.95)
            for rate, one in zip(rates, kept, strict=True)
        ]

    probes = bracket.close_in(
        ask,
        (0.25, 0.5, 0.75, 1.0),
        allowed=0.05,
        top=1.0,
        bottom=0.01,
        tolerance=0.02,
        most_rounds=12,
        stride=2.0,
    )
    low, high = bracket.between(probes)
    assert low is not None
    assert high is not None
    assert low <= best * 1.001
    assert high >= best * 0.999
    assert high <= low * 1.0201
    assert len(asked) == len(set(asked)), "nothing is asked twice"
    assert len(asked) <= 16


def test_what_fails_among_rates_that_hold_is_not_passed_over() -> None:
    probes = {
        rate: fake(rate, attainment=kept)
        for rate, kept in ((1.0, 0.99), (2.0, 0.97), (3.0, 0.94), (4.0, 0.96), (5.0, 0.9))
    }
    assert bracket.between(probes) == (2.0, 3.0)


def test_a_line_through_the_misses_says_where_to_look() -> None:
    """1 % at 1/s and 9 % at 3/s: 5 % at the rate of a straight line of logarithms, 5 ** 0.5."""
    probes = {1.0: fake(1.0, attainment=0.99), 3.0: fake(3.0, attainment=0.91)}
    assert bracket.crossing(probes, 0.05) == pytest.approx(5**0.5)
    assert bracket.crossing({1.0: probes[1.0]}, 0.05) is None


def test_the_knee_and_the_first_preemption(found: RateSearch) -> None:
    knee = found.knee
    assert knee is not None
    assert knee.goodput_per_s == max(one.goodput_per_s for one in found.curve)
    assert found.preemption_onset_per_s is None
    probes = tuple(
        replace(one, num_preemptions=int(one.rate_per_s > found.rate_per_s)) for one in found.probes
    )
    fails = found.fails
    assert fails is not None
    assert replace(found, probes=probes).preemption_onset_per_s == fails.rate_per_s


@pytest.mark.usefixtures("small")
def test_progress_names_server_and_rates(m_m_1: tuple[Server, Trace]) -> None:
    server, trace = m_m_1
    told: list[tuple[str, int, int]] = []
    search_rate(
        server,
        trace.head(700),
        SLO(e2e_s=12.0, quantile=0.9),
        title="a100",
        report=lambda *what: told.append(what),
        jobs=1,
    )
    titles = [title for title, _, _ in told]
    assert titles[0] == "a100: backlog"
    assert any(title.startswith("a100: trying 0.1") for title in titles)
    assert any(title.startswith("a100: confirming ") for title in titles)
    assert all(done <= of for _, done, of in told)
