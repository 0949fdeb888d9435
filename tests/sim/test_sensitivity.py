"""The interval: by hand where every step takes as long, against plain runs elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kvsim.sim import saturated, variant_runs
from kvsim.sim.backlog import Backlog
from kvsim.sim.job import simulate_server
from kvsim.sim.parallel import run_each
from kvsim.sim.result import Result
from kvsim.sim.saturated import queue_length, saturate
from kvsim.sim.sensitivity import BAND, Factor, Sensitivity, clock_band, sensitivity
from kvsim.sim.server import Server
from kvsim.sim.summary import Summary
from kvsim.sim.variant_runs import Outcome, Runs, Setting
from kvsim.sim.variants import with_blocks, with_clock, with_outputs
from kvsim.traces import Trace
from kvsim.traces.intake import Intake, take_in
from support.steady import STEP_S, alike, steady_server

CHAT = take_in(Intake(workload="sharegpt", num_requests=100, rate_per_s=9.0)).trace
GROUPS = take_in(
    Intake(
        workload="sharegpt", num_requests=100, rate_per_s=9.0, prefix_groups=5, prefix_tokens=512
    )
).trace
TIGHT = {"blocks": 700, "few": 500, "many": 900}


@pytest.fixture(scope="module", autouse=True)
def short_backlogs() -> Iterator[None]:
    """A few hundred requests saturate these pools."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saturated, "MIN_BACKLOG", 300)
        yield


def base_of(
    server: Server, trace: Trace, concurrency: int | None = None
) -> tuple[Result, Summary, Backlog]:
    result, summary = simulate_server(server, trace=trace, concurrency=concurrency)
    return result, summary, saturate(server, trace)[1]


def found_for(server: Server, trace: Trace, concurrency: int | None = None) -> Sensitivity:
    result, summary, backlog = base_of(server, trace, concurrency)
    return sensitivity(
        server, trace, result=result, summary=summary, backlog=backlog, concurrency=concurrency
    )


def the(found: Sensitivity, name: str) -> Factor:
    factor = found.factor(name)
    assert factor is not None
    return factor


@pytest.fixture(scope="module")
def tight() -> Sensitivity:
    return found_for(steady_server(CHAT, **TIGHT), CHAT)


def measured(server: Server, trace: Trace, queue: int) -> Outcome:
    """The same by plain runs: no law, no memory."""
    _, summary = simulate_server(server, trace=trace)
    _, backlog = saturate(server, trace, num_requests=queue)
    return Outcome(
        mean_running=backlog.mean_running,
        output_tokens_per_s=backlog.output_tokens_per_s,
        ttft_p95_s=summary.ttft_s.p95,
        tpot_p95_s=summary.tpot_s.p95,
    )


def same(one: Outcome, other: Outcome) -> bool:
    """To rounding; a request that ends with the window may count on either side of its end."""
    within = {"mean_running": 1e-9, "output_tokens_per_s": 2e-3, "ttft_p95_s": 1e-9}
    within["tpot_p95_s"] = 1e-9
    return all(
        getattr(one, name) == pytest.approx(getattr(other, name), rel=rel)
        for name, rel in within.items()
    )


def test_steady_steps_by_hand() -> None:
    """8 seats of 100 tokens/s; alone, a request waits a step for its first token.

    Its band is 0.8 to 1.25 of 10 ms, so that every figure is divided or multiplied by that.
    """
    trace = alike(40, prompt=16, output=5, every_s=1.0)
    found = found_for(steady_server(trace, blocks=500, max_num_seqs=8), trace)
    assert found.base.output_tokens_per_s is not None
    assert found.base.output_tokens_per_s == pytest.approx(8 / STEP_S, rel=0.01)
    assert found.base.ttft_p95_s == pytest.approx(STEP_S)
    for outcome, factor in ((found.high, 0.8), (found.low, 1.25)):
        assert outcome.output_tokens_per_s == pytest.approx(
            found.base.output_tokens_per_s / factor, rel=1e-12
        )
        assert outcome.mean_running == found.base.mean_running
        assert outcome.ttft_p95_s == pytest.approx(factor * STEP_S, rel=1e-9)
        assert outcome.tpot_p95_s == pytest.approx(factor * STEP_S, rel=1e-9)
    steps = the(found, "step_times")
    assert (steps.low, steps.high) == (found.high, found.low), "the pool is given: only the clock"
    assert the(found, "kv_blocks").is_given
    assert found.bands == (steps,)


def test_twice_the_blocks_run_twice_as_many_by_hand() -> None:
    """A request of 16 + 16 tokens takes two blocks: 20 usable blocks hold ten, 40 hold twenty.

    It is admitted with what it has, one block, and may be preempted; so outputs are 1 here and a
    prompt of 32 takes its two blocks at once.
    """
    trace = alike(60, prompt=32, output=1, every_s=1.0)
    found = found_for(steady_server(trace, blocks=21, few=11, many=41), trace)
    blocks = the(found, "kv_blocks")
    assert (blocks.low_input, blocks.base_input, blocks.high_input) == (11, 21, 41)
    running = [one.mean_running for one in (blocks.low, found.base, blocks.high)]
    assert running == pytest.approx([5, 10, 20])
    assert found.base.output_tokens_per_s is not None
    for end, times in ((blocks.low, 0.5), (blocks.high, 2.0)):
        assert end.output_tokens_per_s == pytest.approx(times * 10 / STEP_S, rel=0.01)
    assert found.low.output_tokens_per_s == pytest.approx(0.5 * 10 / STEP_S / 1.25, rel=0.01)
    assert found.high.output_tokens_per_s == pytest.approx(2.0 * 10 / STEP_S / 0.8, rel=0.01)


@pytest.mark.parametrize("trace", [CHAT, GROUPS], ids=["alone", "shared"])
@pytest.mark.parametrize("roomy", [False, True], ids=["tight", "roomy"])
@pytest.mark.parametrize("asynchronous", [False, True], ids=["lock-step", "ahead"])
def test_every_outcome_is_that_of_plain_runs(trace: Trace, roomy: bool, asynchronous: bool) -> None:
    """What is concluded from another run instead of being run is the same as if it were."""
    size = 8 if roomy else 1
    blocks, few, many = (size * TIGHT[name] for name in ("blocks", "few", "many"))
    server = steady_server(
        trace,
        blocks=blocks,
        async_scheduling=asynchronous,
        enable_prefix_caching=True,
        max_num_seqs=48,
    )
    result, summary, backlog = base_of(server, trace)
    runs = Runs(server, trace)
    runs.know(result, summary, backlog)
    queue = queue_length(server, trace)
    for setting in (
        Setting(blocks=few, clock=1.25),
        Setting(blocks=few),
        Setting(blocks=blocks, clock=1.25),
        Setting(blocks=many, clock=0.75),
        Setting(blocks=many),
        Setting(blocks=blocks, outputs=1.2),
    ):
        changed = with_clock(with_blocks(server, setting.blocks), setting.clock)
        lengths = with_outputs(
            trace, setting.outputs, max_model_len=server.deployment.max_model_len
        )
        assert same(runs.outcome(setting), measured(changed, lengths, queue)), setting
    saved = 12 - runs.num_runs
    if roomy and trace is CHAT:
        assert saved == 8, "all but three clocks over the trace and the longer outputs' backlog"
    if trace is GROUPS:
        assert saved == 3, "backlogs of another clock; but more blocks may find more"


def check_pools(server: Server, trace: Trace, pools: Sequence[int]) -> dict[int, int]:
    """From the base down, each as if it were run; the runs that it took, by blocks."""
    runs = Runs(server, trace)
    runs.know(*base_of(server, trace))
    queue, num_runs = queue_length(server, trace), {}
    for blocks in pools:
        before = runs.num_runs
        found = runs.outcome(Setting(blocks=blocks))
        num_runs[blocks] = runs.num_runs - before
        assert same(found, measured(with_blocks(server, blocks), trace, queue)), blocks
    return num_runs


@pytest.mark.parametrize("asynchronous", [False, True], ids=["lock-step", "ahead"])
def test_a_pool_is_enough_only_where_it_is(asynchronous: bool) -> None:
    """20 requests of at most 2,048 tokens fit 2,000 blocks by far, and 400 not at all."""
    server = steady_server(CHAT, blocks=2500, async_scheduling=asynchronous, max_num_seqs=20)
    num_runs = check_pools(server, CHAT, (2000, 1150, 700, 400))
    assert num_runs[2000] == 0
    assert num_runs[400] == 2


def test_a_watermark_keeps_more_free() -> None:
    server = steady_server(CHAT, blocks=2500, watermark=0.6, max_num_seqs=20)
    check_pools(server, CHAT, (1150,))


def test_the_whole_prompt_is_asked_for_before_it_is_held() -> None:
    """While the second prompt of 20 blocks is prefilled in chunks, the first one's 10 are freed.

    So no more than 23 are ever held together, but 30 are needed to admit the second at once.
    """
    trace = Trace(
        name="two",
        prompt_tokens=np.array([160, 320]),
        output_tokens=np.array([2, 2]),
        arrival_s=np.zeros(2),
    )
    server = steady_server(trace, blocks=60, max_num_batched_tokens=176, max_num_seqs=4)
    check_pools(server, trace, (55, 26))


def test_long_runs_of_steps_hold_more_in_the_end_than_on_average() -> None:
    """Eight requests grow from one block to 101 without an event between: 808 in the end."""
    trace = alike(8, prompt=16, output=1600).with_arrivals(np.zeros(8))
    server = steady_server(trace, blocks=1700, max_num_seqs=8)
    check_pools(server, trace, (600,))


def test_what_few_blocks_reject_more_may_hold() -> None:
    trace = alike(6, prompt=64, output=4, every_s=1.0)
    trace = replace(trace, prompt_tokens=np.array([64, 64, 64, 64, 64, 900]))
    server = steady_server(trace, blocks=100)
    runs = Runs(server, trace)
    for blocks in (30, 100):
        _, summary = simulate_server(with_blocks(server, blocks), trace=trace)
        found = runs.outcome(Setting(blocks=blocks))
        assert found.ttft_p95_s == summary.ttft_s.p95
        assert summary.num_rejected == (blocks == 30)
    assert runs.num_runs == 4


def test_rates_speed_the_trace_up() -> None:
    server = steady_server(CHAT, **TIGHT)
    runs = Runs(server, CHAT)
    runs.know(*base_of(server, CHAT))
    _, summary = simulate_server(server, trace=CHAT.speedup(1.2))
    found = runs.outcome(Setting(blocks=700, rate=1.2))
    assert found.ttft_p95_s == summary.ttft_s.p95
    assert found.tpot_p95_s == summary.tpot_s.p95
    assert runs.num_runs == 1, "the backlog has no rate"


def test_preparing_runs_what_is_asked_for_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Together as one by one, the fewest blocks first; nothing is run when it is then asked for."""
    server = steady_server(CHAT, blocks=2500, max_num_seqs=20)
    settings = [
        Setting(blocks=blocks, clock=clock) for blocks in (2500, 700, 2000) for clock in (1.0, 1.25)
    ]
    together, one_by_one = Runs(server, CHAT), Runs(server, CHAT)
    rounds: list[int] = []

    def counted(tasks: Sequence[Any], **given: Any) -> list[Any]:
        rounds.append(len(tasks))
        return run_each(tasks, **given)

    monkeypatch.setattr(variant_runs, "run_each", counted)
    together.prepare(settings)
    prepared = together.num_runs
    assert rounds == [3, 3], "700 blocks: two clocks, one backlog; then 2,000, which do for 2,500"
    found = [together.outcome(setting) for setting in settings]
    assert together.num_runs == prepared == 6
    assert all(
        same(one, one_by_one.outcome(setting))
        for setting, one in sorted(zip(settings, found, strict=True), key=lambda pair: pair[0])
    )


def test_what_is_worse_is_never_better(tight: Sensitivity) -> None:
    for slow, fast in (
        (the(tight, "step_times").high, the(tight, "step_times").low),
        (the(tight, "kv_blocks").low, the(tight, "kv_blocks").high),
        (tight.low, tight.base),
        (tight.base, tight.high),
    ):
        assert slow.output_tokens_per_s is not None
        assert fast.output_tokens_per_s is not None
        assert slow.ttft_p95_s is not None
        assert fast.ttft_p95_s is not None
        assert slow.output_tokens_per_s <= fast.output_tokens_per_s
        assert slow.ttft_p95_s >= fast.ttft_p95_s
    blocks, lengths = the(tight, "kv_blocks"), the(tight, "output_lengths")
    for fewer, more in ((blocks.low, blocks.high), (lengths.high, lengths.low)):
        assert fewer.mean_running is not None
        assert more.mean_running is not None
        assert fewer.mean_running < 0.95 * more.mean_running
    rate = the(tight, "request_rate")
    assert rate.low.ttft_p95_s is not None
    assert rate.high.ttft_p95_s is not None
    assert rate.low.ttft_p95_s < rate.high.ttft_p95_s
    assert rate.low.output_tokens_per_s == tight.base.output_tokens_per_s, "a backlog has no rate"


def test_bands_and_what_ifs_are_told_apart(tight: Sensitivity) -> None:
    kinds = {one.name: (one.kind, one.low_input, one.high_input) for one in tight.factors}
    assert kinds == {
        "step_times": (BAND, 0.8, 1.25),
        "kv_blocks": (BAND, 500, 900),
        "output_lengths": ("what if", 0.8, 1.2),
        "request_rate": ("what if", 0.8, 1.2),
    }
    assert the(tight, "step_times").source == "by hand"
    assert [one.name for one in tight.bands] == ["step_times", "kv_blocks"]
    assert tight.factor("weather") is None


def test_the_base_is_what_the_plan_already_has(tight: Sensitivity) -> None:
    server = steady_server(CHAT, **TIGHT)
    _, summary, backlog = base_of(server, CHAT)
    assert tight.base == Outcome(
        mean_running=backlog.mean_running,
        output_tokens_per_s=backlog.output_tokens_per_s,
        ttft_p95_s=summary.ttft_s.p95,
        tpot_p95_s=summary.tpot_s.p95,
    )


def test_a_closed_loop_and_a_burst_have_no_rate() -> None:
    server = steady_server(CHAT, **TIGHT)
    loop = found_for(server, CHAT, concurrency=20)
    assert loop.factor("request_rate") is None
    _, slow = simulate_server(with_clock(server, 1.25), trace=CHAT, concurrency=20)
    assert the(loop, "step_times").high.ttft_p95_s == slow.ttft_s.p95
    burst = CHAT.backlog().head(40)
    assert found_for(server, burst).factor("request_rate") is None


@pytest.mark.parametrize("on_impossible", ["reject", "stall"])
def test_a_pool_too_small_for_any_request_has_no_outcome(on_impossible: str) -> None:
    trace = alike(20, prompt=100, output=10, every_s=1.0)
    server = steady_server(trace, blocks=40, few=2, on_impossible=on_impossible)
    found = found_for(server, trace)
    nothing = Outcome(mean_running=None, output_tokens_per_s=None, ttft_p95_s=None, tpot_p95_s=None)
    assert the(found, "kv_blocks").low == nothing
    assert found.low == nothing
    assert found.to_json()["low"] == dict.fromkeys(
        ("mean_running", "output_tokens_per_s", "ttft_p95_s", "tpot_p95_s")
    )


def test_the_band_is_that_of_the_backlog_s_mean_batch() -> None:
    """Mean context of 30 + 20 / 2; twice as many tokens count twice as long: (40 * 20 + 110 * 40) /
    60."""
    trace = alike(2, prompt=30, output=20, every_s=1.0)
    trace = replace(trace, prompt_tokens=trace.prompt_tokens * [1, 3])
    trace = replace(trace, output_tokens=trace.output_tokens * [1, 2])
    server = steady_server(trace, blocks=60)
    asked = []

    class Asked(type(server.cost)):  # type: ignore[misc]
        def band_of(self, batch: object) -> object:
            asked.append(batch)
            return super().band_of(batch)

    _, _, backlog = base_of(server, trace)
    clock_band(replace(server, cost=Asked()), trace, replace(backlog, mean_running=11.6))
    assert [(one.num_decodes, one.decode_context_tokens) for one in asked] == [
        (12, round(12 * (40 * 20 + 110 * 40) / 60))
    ]


def test_progress_names_what_is_changed() -> None:
    told: list[str] = []
    runs = Runs(
        steady_server(CHAT, **TIGHT), CHAT, report=lambda title, done, of: told.append(title)
    )
    runs.outcome(Setting(blocks=1500, clock=1.25, outputs=1.2))
    assert set(told) == {
        "interval",
        "interval: trace, 1,500 blocks, steps x 1.25, outputs x 1.2",
        "interval: backlog, 1,500 blocks, outputs x 1.2",
    }


def test_the_same_bytes_twice() -> None:
    server = steady_server(CHAT, **TIGHT)
    first, second = (json.dumps(found_for(server, CHAT).to_json()) for _ in range(2))
    assert first == second


def test_ends_enclose_the_base(tight: Sensitivity) -> None:
    with pytest.raises(ValueError, match=r"step_times\(=\[1\.1, 1\.25\]\) must enclose 1\."):
        replace(the(tight, "step_times"), low_input=1.1)
