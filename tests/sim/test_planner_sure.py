"""How sure a plan is: by hand where steps are all alike, flips in cases made for it."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from math import inf

import numpy as np
import pytest

from kvsim.sim.job import simulate_server
from kvsim.sim.planner.confidence import Confidence, confidence
from kvsim.sim.planner.interval import Interval
from kvsim.sim.planner.judged import Judged, needed
from kvsim.sim.planner.nearby import Held, rate_near
from kvsim.sim.planner.reached import beyond_profile, shapes_of
from kvsim.sim.planner.scenarios import Runs, traces_of
from kvsim.sim.planner.spread import Spread, paired, rate, spread_of
from kvsim.sim.saturated import saturate
from kvsim.sim.sensitivity import BAND
from kvsim.sim.slo import SLO
from support.steady import alike
from support.sure import LOOSE, SURE, drawn, option_of, server_of

EVEN = alike(200, prompt=32, output=10, every_s=1.0)


def sure_of(trace: object, *, runs: int = 0, **inputs: object) -> Confidence:
    option = option_of(trace, **inputs)  # type: ignore[arg-type]
    return confidence(option, None, trace, LOOSE, runs=runs, jobs=1)  # type: ignore[arg-type]


def test_a_clock_times_f_holds_the_rate_by_f() -> None:
    """Bound by its steps, which are within 0.8 and 1.25 of what is said; the pool is given."""
    found = sure_of(EVEN)
    value = found.winner.rate_per_s.value
    assert found.winner.rate_per_s.low == pytest.approx(value / 1.25, rel=1e-6)
    assert found.winner.rate_per_s.high == pytest.approx(value / 0.8, rel=1e-6)
    assert found.winner.rate_by_traffic_per_s.width == 0
    cost = found.winner.usd_per_million_output_tokens
    assert cost is not None
    assert (cost.low, cost.high) == pytest.approx((0.8 * cost.value, 1.25 * cost.value), rel=1e-6)


def test_a_pool_times_f_holds_f_times_the_requests() -> None:
    """A request takes two blocks: 20 usable ones hold ten, half of them five, twice twenty."""
    trace = alike(300, prompt=32, output=1, every_s=1.0)
    found = sure_of(trace, blocks=21, few=11, many=41, banded=False, max_num_seqs=100)
    ends = found.winner.rate_per_s
    assert ends.low == pytest.approx(0.5 * ends.value, rel=0.02)
    assert ends.high == pytest.approx(2.0 * ends.value, rel=0.02)


def test_traffic_all_alike_has_an_interval_of_no_width() -> None:
    found = sure_of(EVEN, runs=4)
    assert found.winner.rate_by_traffic_per_s.width == 0


def test_more_variance_is_a_wider_interval() -> None:
    widths = []
    for spread in (0.1, 1.0):
        trace = drawn(120, spread=spread)
        found = sure_of(trace, runs=6, banded=False)
        ends = found.winner.rate_by_traffic_per_s
        widths.append(ends.width / ends.value)
    assert 0 < widths[0] < 0.5 * widths[1]


def test_replicas_and_dollars_follow_the_rate() -> None:
    option = option_of(EVEN, price=2.0)
    held = option.search.rate_per_s
    found = confidence(
        option, None, EVEN, LOOSE, runs=0, jobs=1, target_rate_per_s=3.9 * held
    ).winner
    assert found.num_replicas == Interval(low=4, value=4, high=5), "3.12, 3.9 and 4.875 of one"
    assert found.usd_per_hour == Interval(low=8.0, value=8.0, high=10.0)


def test_the_same_bytes_for_any_number_of_processes() -> None:
    trace = drawn(60)
    options = [option_of(trace, title=name, step_s=s) for name, s in (("a", 0.02), ("b", 0.021))]
    found = [
        json.dumps(confidence(*options, trace, LOOSE, runs=2, jobs=jobs).to_json())
        for jobs in (1, 2)
    ]
    assert found[0] == found[1]
    other = confidence(*options, trace, LOOSE, runs=2, jobs=1, seed=1)
    assert json.dumps(other.to_json()) != found[0]


# does the choice stand?


def choice(gpu: str, *, step_s: float, trace: object = EVEN, runs: int = 2) -> Confidence:
    """Between servers at one price, the second one's steps so long."""
    winner = option_of(trace, title="first", price=1.0)  # type: ignore[arg-type]
    other = option_of(trace, title="second", price=1.0, gpu=gpu, step_s=step_s)  # type: ignore[arg-type]
    return confidence(winner, other, trace, LOOSE, runs=runs, jobs=1)  # type: ignore[arg-type]


def test_a_common_error_hits_both_and_flips_nothing() -> None:
    found = choice("a100", step_s=0.022)
    assert found.common_mode
    assert not found.flips
    assert found.first_line == (
        "The choice is certain as far as is known: first is better than second in all of 2 runs "
        "and at every end of the bands."
    )


def test_errors_of_their_own_flip_what_is_close() -> None:
    """10 % slower on another GPU: nothing says that both are off by the same factor."""
    found = choice("h100-sxm", step_s=0.022)
    assert not found.common_mode
    assert found.flips
    assert found.num_lost == 0
    assert found.first_line == (
        "The choice is not certain: second is better than first with its own bands at their "
        "better end and the other's at their worse."
    )
    assert not choice("h100-sxm", step_s=0.04).flips, "twice as slow is outside the bands"


def spread(value: float, draws: tuple[float, ...] = ()) -> Spread:
    return Spread(value=value, worse=value, better=value, draws=draws)


def judged(
    rates: Spread, *, price: float | None = 1.0, target: float | None = None, num_gpus: int = 1
) -> Judged:
    return Judged(
        rates=rates,
        tokens=rates,
        num_gpus=num_gpus,
        price_usd_per_hour=price,
        target_rate_per_s=target,
    )


def test_runs_are_compared_one_by_one() -> None:
    """Both swing by half; the second is ahead in one of three, though its interval is as wide."""
    first, second = spread(10, (5, 10, 15)), spread(9, (5.5, 9, 14))
    lost = [
        judged(second).is_better(judged(first), lambda one, i=i: one.draws[i])  # type: ignore[misc]
        for i in range(3)
    ]
    assert lost == [True, False, False]


@pytest.mark.parametrize(
    ("mine", "its", "target", "better"),
    [
        (10.0, 10.1, None, False),
        (10.3, 10.0, None, True),
        (10.1, 10.0, None, False),
        (10.3, 10.0, 20.0, False),
        (10.3, 9.9, 20.0, True),
        (0.0, 1.0, None, False),
        (1.0, 0.0, 5.0, True),
    ],
    ids=[
        "less",
        "more",
        "too near",
        "as many replicas",
        "a replica less",
        "nothing",
        "nothing else",
    ],
)
def test_better_is_cheaper(mine: float, its: float, target: float | None, better: bool) -> None:
    one, other = (judged(spread(held), target=target) for held in (mine, its))
    assert one.is_better(other, lambda found: found.value) == better


def test_without_prices_gpus_are_counted() -> None:
    one, other = judged(spread(30), price=None, num_gpus=2), judged(spread(10), price=9.0)
    assert one.is_better(other, lambda found: found.value)
    assert not one.is_better(judged(spread(16), price=9.0), lambda found: found.value)


def test_replicas_that_a_rate_asks_for() -> None:
    assert [needed(10, held) for held in (10, 5, 3, 100, 0)] == [1, 2, 4, 1, inf]
    option = option_of(EVEN)
    runs = Runs(base=Held(rate_per_s=1), worse=Held(), better=Held(rate_per_s=1), draws=())
    given = replace(option, num_replicas=5)
    held = option.search.rate_per_s
    found = Judged.of(given, runs, shrink=1.0, target_rate_per_s=3 * held)
    assert found.replicas == Interval(low=5, value=5, high=inf), "two more than the rate asks for"


# intervals


def test_spreads_are_scaled_and_centred() -> None:
    """Draws of 8, 10 and 12.5 around a base of 9: on four times as many requests the root of it."""
    held = [Held(rate_per_s=x) for x in (9.0, 4.5, 18.0, 8.0, 10.0, 12.5)]
    runs = Runs(base=held[0], worse=held[1], better=held[2], draws=tuple(held[3:]))
    found = spread_of(100.0, runs, rate, shrink=0.5)
    assert (found.worse, found.better) == (50.0, 200.0)
    assert found.draws == pytest.approx((100 * 0.8**0.5, 100, 100 * 1.25**0.5))
    low, high = np.quantile(found.draws, (0.05, 0.95))
    assert found.by_traffic == Interval(low=low, value=100.0, high=high)
    assert (found.interval.low, found.interval.high) == pytest.approx((0.5 * low, 2.0 * high))


def test_pairs_are_narrower_than_their_parts() -> None:
    """Both move together but for 1 %: their ratio is known to that."""
    draws = (80.0, 100.0, 120.0)
    one = Spread(value=100, worse=80, better=125, draws=draws)
    other = Spread(value=110, worse=88.5, better=137, draws=(88.5, 110, 131))
    ratio = paired(other, one, common=True)
    assert ratio.value == pytest.approx(1.1)
    assert ratio.width < 0.03
    assert paired(one, one, common=True) == Interval(low=1.0, value=1.0, high=1.0)
    apart = paired(other, one, common=False)
    assert apart.low <= 88.5 / 125 + 1e-12
    assert apart.high >= 137 / 80 - 1e-12


def test_intervals_enclose() -> None:
    with pytest.raises(ValueError, match=r"interval\(=\[2, 3\]\) must enclose 1\."):
        Interval(low=2, value=1, high=3)


# the search about a rate


@pytest.mark.parametrize("near", [0.2, 1.0, 5.0], ids=["from below", "from it", "from above"])
def test_a_single_seat_serves_one_after_the_other(near: float) -> None:
    """Prompt and ten tokens take ten steps of 20 ms: five a second, whatever is believed."""
    _, server = server_of(EVEN, max_num_seqs=1)
    found = rate_near(server, EVEN, SLO(ttft_s=0.1), near_per_s=5.0 * near, saturated_per_s=5.0)
    assert found.rate_per_s == pytest.approx(5.0, rel=0.02)
    assert found.output_tokens_per_s == pytest.approx(10 * found.rate_per_s, rel=1e-6)


def test_no_rate_holds_what_takes_longer_alone() -> None:
    _, server = server_of(EVEN)
    found = rate_near(server, EVEN, SLO(ttft_s=0.01), near_per_s=5.0, saturated_per_s=50.0)
    assert found == Held()


def test_the_draws_are_the_same_for_all_and_differ_by_seed() -> None:
    trace = drawn(100)
    one, same, other = (traces_of(trace, seed=s, runs=3, most_requests=60) for s in (0, 0, 1))
    digests = [[draw.digest for draw in found.draws] for found in (one, same, other)]
    assert digests[0] == digests[1]
    assert len(set(digests[0] + digests[2])) == 6
    assert len(one.base) == 60
    assert one.shrink == pytest.approx(0.6**0.5)
    more = traces_of(trace, seed=0, runs=5, most_requests=60)
    assert [draw.digest for draw in more.draws][:3] == digests[0], "more runs keep the first ones"


# what is beyond the profile


def test_shapes_are_those_of_the_run() -> None:
    """Four requests at once, 40 tokens of prompt each in one step; at most 40 + 9 tokens long."""
    trace = alike(4, prompt=40, output=9).with_arrivals(np.zeros(4))
    _, server = server_of(trace)
    result, _ = simulate_server(server, trace=trace)
    shapes = shapes_of(result, server)
    assert shapes.num_seqs == 4
    assert 160 <= shapes.num_tokens <= 164
    assert shapes.longest_context == 49
    assert 160 <= shapes.context_tokens <= 4 * 49
    tight = replace(server, deployment=replace(server.deployment, max_num_batched_tokens=50))
    result, _ = simulate_server(tight, trace=trace)
    assert shapes_of(result, tight).num_tokens == 50


def test_extrapolation_is_said_where_it_is_reached() -> None:
    option = option_of(EVEN)

    class Narrow(type(option.server.cost)):  # type: ignore[misc]
        most = 4

        def outside(self, *, num_seqs: int, **shapes: int) -> tuple[str, ...]:
            return ("attention",) if num_seqs > self.most else ()

    cost = Narrow(base_s=0.02)
    narrow = replace(option, server=replace(option.server, cost=cost))
    said = beyond_profile(narrow, EVEN)
    assert len(said) == 1
    assert said[0].startswith("Step times of attention are extrapolated at the rate that holds: ")
    Narrow.most = 1000
    assert beyond_profile(narrow, EVEN) == (), "the limits are wider, but are not reached"


# the tornado


def test_what_the_answer_hangs_on() -> None:
    trace = drawn(150)
    found = sure_of(trace, blocks=2000, few=1500, many=2500).leverage
    by_name = {one.name: one for one in found.factors}
    assert list(by_name) == [
        "step_times",
        "kv_blocks",
        "output_lengths",
        "prompt_lengths",
        "slo_limits",
        "burstiness",
    ]
    base = found.base.rate_per_s
    steps = by_name["step_times"]
    assert steps.kind == BAND
    assert (steps.low.rate_per_s, steps.high.rate_per_s) == pytest.approx(
        (base / 0.8, base / 1.25), rel=1e-6
    )
    outputs = by_name["output_lengths"]
    assert outputs.low.rate_per_s > 1.1 * base > 0.9 * base > outputs.high.rate_per_s
    assert by_name["slo_limits"].low.rate_per_s == base, "far from any limit"
    assert [one.name for one in found.bands] == ["step_times", "kv_blocks"]
    assert found.low.rate_per_s == pytest.approx(base / 1.25, rel=1e-6)


def test_alike_arrivals_have_no_burstiness_and_a_prefix_cache_is_switched_off() -> None:
    trace = replace(
        alike(150, prompt=320, output=4, every_s=1.0),
        prefix_row=np.array([-1] + [0] * 149),
        prefix_tokens=np.array([0] + [304] * 149),
    )
    option = option_of(
        trace, enable_prefix_caching=True, step_cost="affine:0.001,0.0005,0", banded=False
    )
    found = confidence(option, None, trace, LOOSE, runs=0, jobs=1).leverage
    by_name = {one.name: one for one in found.factors}
    assert "burstiness" not in by_name
    cache = by_name["prefix_cache"]
    assert cache.high == found.base
    assert cache.low.rate_per_s < 0.5 * found.base.rate_per_s, "19 of 20 tokens were cached"
    assert by_name["step_times"].is_given


def test_wrong_input() -> None:
    option = option_of(EVEN)
    none = replace(option, search=replace(option.search, best=None))
    with pytest.raises(ValueError, match=r"winner\(='it'\) must hold the objective at some rate\."):
        confidence(none, None, EVEN, LOOSE)
    with pytest.raises(ValueError, match=r"runs\(=-1\) must be >= 0\."):
        confidence(option, None, EVEN, LOOSE, runs=-1)
    with pytest.raises(ValueError, match=r"most_requests\(=1\) must be > 1\."):
        confidence(option, None, EVEN, LOOSE, most_requests=1)


def test_first_lines() -> None:
    assert SURE.flips
    assert SURE.first_line == (
        "The choice is not certain: h100-sxm is better than a100 in 7 of 20 runs, and at the "
        "bands' worse end."
    )
    alone = replace(SURE, runner_up=None, num_lost=0, ends_lost=())
    assert alone.first_line == "There is nothing to choose: only a100 holds the objective."
    assert pickle.loads(pickle.dumps(SURE)) == SURE


def test_a_short_backlog_is_no_backlog_of_nothing() -> None:
    """Where one turnover is all that a short queue holds, the whole queue is run."""
    trace = drawn(120, spread=0.2)
    _, server = server_of(trace, max_num_seqs=200, blocks=4000)
    strict = SLO(e2e_s=1e6)
    found = rate_near(server, trace, strict, near_per_s=1000.0, saturated_per_s=1000.0)
    whole = saturate(server, trace)[1].requests_per_s
    assert found.rate_per_s == pytest.approx(whole, rel=0.1)
