"""The replica's clock: what an instant's order is, where an arrival cuts a run, what is counted."""

from __future__ import annotations

import numpy as np
import pytest

from kvsim.calibration.affine import AffineCost
from kvsim.calibration.step_cost import Line
from kvsim.sim.allocators import Growth, Usage
from kvsim.sim.deployment import Deployment
from kvsim.sim.recorder import Moment, Recorder
from kvsim.sim.replica import steps_until
from kvsim.sim.result import Result
from kvsim.sim.simulation import simulate
from kvsim.sim.summary import summarise
from support.workloads import Columns


def serve(
    arrival_s: list[float] | None,
    prompts: list[int],
    outputs: list[int],
    *,
    cost: AffineCost | None = None,
    blocks: int = 1000,
    concurrency: int | None = None,
    exact_steps: bool = False,
    parent: list[int] | None = None,
    delay_s: list[float] | None = None,
    **flags: object,
) -> Result:
    """Steps of 10 ms unless told otherwise."""
    trace = Columns(
        arrival_s=None if arrival_s is None else np.array(arrival_s),
        prompt_tokens=np.array(prompts),
        output_tokens=np.array(outputs),
        parent=None if parent is None else np.array(parent),
        delay_s=None if delay_s is None else np.array(delay_s),
    )
    return simulate(
        trace,
        deployment=Deployment(**({"max_model_len": 1024} | flags)),  # type: ignore[arg-type]
        cost=cost or AffineCost(base_s=0.01),
        num_gpu_blocks=blocks,
        concurrency=concurrency,
        exact_steps=exact_steps,
        check=True,
    )


MODES = pytest.mark.parametrize("exact_steps", [False, True], ids=["macro", "exact"])


@MODES
@pytest.mark.parametrize(
    ("arrival_s", "scheduled_s"), [(0.03, 0.03), (0.030000001, 0.04), (0.0299, 0.03), (0.001, 0.01)]
)
def test_an_arrival_joins_at_the_end_of_its_step(
    arrival_s: float, scheduled_s: float, exact_steps: bool
) -> None:
    """At equal times the arrival comes before the schedule."""
    result = serve([0.0, arrival_s], [1, 1], [10, 1], exact_steps=exact_steps)
    assert result.requests["scheduled_s"].tolist() == pytest.approx([0.0, scheduled_s], abs=1e-12)


@MODES
def test_a_reply_comes_after_the_schedule_of_its_instant(exact_steps: bool) -> None:
    """Closed loop: a client's next request misses the step that starts as its last one ends."""
    result = serve(None, [1, 1, 1], [1, 10, 1], concurrency=2, exact_steps=exact_steps)
    assert result.requests["arrival_s"][2] == pytest.approx(0.01)
    assert result.requests["scheduled_s"][2] == pytest.approx(0.02)


def test_a_session_turn_arrives_its_delay_after_its_parent_ended() -> None:
    result = serve(
        [0.0, np.nan, 0.5, np.nan],
        [1, 1, 5000, 1],  # the third is rejected: its child comes all the same
        [3, 1, 1, 1],
        parent=[-1, 0, -1, 2],
        delay_s=[np.nan, 0.25, np.nan, 0.25],
    )
    assert result.requests["arrival_s"].tolist() == pytest.approx([0.0, 0.28, 0.5, 0.75])


def test_a_closed_loop_keeps_so_many_under_way_and_survives_rejections() -> None:
    """4 steps each; a reply misses the step that starts at its instant: 0, 1; 5, 6 .. 10."""
    result = serve(None, [1, 5000, 1, 1, 1], [4] * 5, concurrency=2)
    summary = summarise(result)
    assert (summary.num_finished, summary.num_rejected, summary.peak_running) == (4, 1, 2)
    assert summary.makespan_s == pytest.approx(0.10)


def test_steps_until() -> None:
    line = Line(10.0, 2.0, 100)  # ends 10, 22, 36, 52
    cases = {0.0: 1, 1.0: 1, 10.0: 1, 10.5: 2, 22.0: 2, 22.5: 3, 36.0: 3}
    found = {elapsed: steps_until(line, 100.0, 100.0 + elapsed, 3) for elapsed in cases}
    assert found == cases


def test_a_run_is_recorded_as_its_steps_would_be() -> None:
    """Steps of 10, 12, 14 ns; 2 requests hold 5 slots in the first; 4 slots come at step 1."""
    recorder = Recorder()
    recorder.record(
        start_ns=0.0,
        line=Line(10.0, 2.0, 9),
        num_steps=3,
        num_decodes=2,
        moment=Moment(2, 0, False, 5, Usage(8, 1, 3)),
        growths=[Growth(1, 4, 2)],
    )
    segment = recorder.segments[0]
    assert segment.duration_ns == 36
    assert segment.token_slot_ns == 5 * 10 + 7 * 12 + 9 * 14
    assert segment.held_slot_ns == 8 * 10 + 12 * 26
    assert segment.internal_slot_ns == 1 * 10 + 3 * 26
    assert segment.external_slot_ns == 3 * 36


@MODES
def test_waiting_in_a_segment_is_that_at_its_start(exact_steps: bool) -> None:
    """One seat: what arrives during a run does not wait in the steps before it came."""
    result = serve([0.0, 0.505], [1, 1], [100, 1], max_num_seqs=1, exact_steps=exact_steps)
    segments = result.segments
    early = segments["start_s"] < 0.5
    assert (segments["num_waiting"][early] == 0).all()


@MODES
def test_peak_waiting_counts_the_preempted(exact_steps: bool) -> None:
    result = serve(
        [0, 0.011, 0.021, 0.031], [16] * 4, [200] * 4, blocks=21, exact_steps=exact_steps
    )
    assert result.segments["num_waiting"].max() == 3
    assert result.peak_waiting == 3


@MODES
def test_static_batch_pays_for_finished_rows_and_keeps_their_memory(exact_steps: bool) -> None:
    """Two rows of 1 and 3 outputs; 1 ms a row: the finished row is computed until the end."""
    cost = AffineCost(base_s=0.0, per_scheduled_token_s=1e-3)
    result = serve(
        [0.0, 0.0, 0.0],
        [4, 4, 4],
        [1, 3, 1],
        cost=cost,
        scheduler="static",
        max_num_seqs=2,
        exact_steps=exact_steps,
    )
    # 8 prompt tokens, then twice one decode and one padding row; then the third prompt alone
    assert result.requests["finish_s"].tolist() == pytest.approx([0.012, 0.012, 0.016])
    segments = result.segments
    slots = segments["token_states"] @ segments["duration_s"]
    # 8 filled; then 4 of the finished and 5, 6 of the other; then 4
    assert slots == pytest.approx(8 * 0.008 + 9 * 0.002 + 10 * 0.002 + 4 * 0.004)


@MODES
def test_orca_lets_a_prompt_longer_than_the_budget_in_alone(exact_steps: bool) -> None:
    result = serve(
        [0.0] * 4,
        [5, 20, 5, 5],
        [1] * 4,
        scheduler="orca",
        max_num_batched_tokens=10,
        exact_steps=exact_steps,
    )
    assert result.requests["scheduled_s"].tolist() == pytest.approx([0.0, 0.01, 0.02, 0.02])


@MODES
def test_figures_by_hand(exact_steps: bool) -> None:
    """One request of 16 + 3 tokens from 1 s on, blocks of 16, pool of 10 blocks, steps of 10 ms."""
    result = serve([1.0, 2.0], [16, 16], [3, 1], blocks=11, exact_steps=exact_steps)
    found = summarise(result)
    assert found.makespan_s == pytest.approx(1.01)
    assert found.requests_per_s == pytest.approx(2 / 1.01)
    assert found.output_tokens_per_s == pytest.approx(4 / 1.01)
    assert found.total_tokens_per_s == pytest.approx(36 / 1.01)
    assert found.ttft_s.mean == pytest.approx(0.01)
    assert found.tpot_s.mean == pytest.approx(0.01)
    assert found.mean_running == pytest.approx(0.04 / 1.01)
    slots = 16 + 17 + 18 + 16
    assert found.pool_share.token_states == pytest.approx(slots * 0.01 / (160 * 1.01))
    assert found.effective_kv_utilisation == pytest.approx(slots / 160 / 4)
    held = 16 + 32 + 32 + 16
    assert found.pool_share.internal == pytest.approx(2 * 14 * 0.01 / (160 * 1.01))
    assert found.pool_share.free == pytest.approx(1 - held * 0.01 / (160 * 1.01))


def test_an_arrival_told_during_the_step_still_comes_before_its_end() -> None:
    """The third is put on the clock at 25 ms, after the end of the step 20-30 ms was."""
    result = serve([0.0, 0.025, 0.03], [1] * 3, [10, 1, 1], exact_steps=True)
    assert result.requests["scheduled_s"].tolist() == pytest.approx([0.0, 0.03, 0.03])


def test_the_makespan_begins_with_the_first_arrival_even_if_it_is_rejected() -> None:
    assert summarise(serve([0.0, 1.0], [5000, 16], [1, 1])).makespan_s == pytest.approx(1.01)


def test_inter_token_times_grow_along_a_run() -> None:
    """10 ms and 1 ms per token of context: 11, 12, 13 tokens."""
    cost = AffineCost(base_s=0.01, per_context_token_s=1e-3)
    found = summarise(serve([0.0], [10], [4], cost=cost)).itl_s
    assert (found.mean, found.p50, found.p99) == pytest.approx((0.022, 0.022, 0.023))


@MODES
def test_a_finished_row_of_a_static_batch_keeps_its_seat(exact_steps: bool) -> None:
    """Prompts enter one a step; the second is done when the third comes; the fourth must wait."""
    result = serve(
        [0.0] * 4,
        [4] * 4,
        [9, 1, 9, 1],
        scheduler="static",
        max_num_seqs=3,
        max_num_batched_tokens=4,
        exact_steps=exact_steps,
    )
    assert result.requests["scheduled_s"].tolist() == pytest.approx([0.0, 0.01, 0.02, 0.11])


@MODES
def test_peak_waiting_leaves_out_who_is_served_at_once(exact_steps: bool) -> None:
    for arrivals, peak in (([0.0], 0), ([0.0] * 5, 4), ([0.0, 0.005], 1)):
        n = len(arrivals)
        result = serve(arrivals, [1] * n, [2] * n, max_num_seqs=1, exact_steps=exact_steps)
        assert result.peak_waiting == peak


def test_the_engine_that_would_start_over_for_ever_ends() -> None:
    """RULES 5c: no whole-sequence test, a request larger than the pool: livelock."""
    result = serve(
        [0.0, 1.0],
        [700, 10],
        [10, 1],
        blocks=40,
        max_num_batched_tokens=256,
        scheduler_reserve_full_isl=False,
        on_impossible="stall",
    )
    assert result.status.tolist() == ["unfinished"] * 2


def test_without_chunks_a_request_that_could_not_be_resumed_is_rejected() -> None:
    result = serve([0.0], [10], [10], enable_chunked_prefill=False, max_num_batched_tokens=18)
    assert "max_num_batched_tokens(=18)" in result.requests["reject_reason"][0]


@MODES
def test_orca_counts_a_resumed_requests_outputs_in_the_iteration(exact_steps: bool) -> None:
    """The second and third are preempted; together their known tokens pass the limit of 8."""
    result = serve(
        [0.0] * 3,
        [5, 1, 3],
        [10, 12, 8],
        blocks=17,
        block_size=1,
        scheduler="orca",
        max_model_len=64,
        max_num_batched_tokens=8,
        exact_steps=exact_steps,
    )
    assert result.requests["num_preemptions"].tolist() == [0, 1, 2]
    assert result.requests["finish_s"].tolist() == pytest.approx([0.10, 0.16, 0.20])


def test_max_model_len_cuts_outputs_and_refuses_prompts() -> None:
    result = serve([0.0] * 3, [60, 60, 64], [4, 5, 1], max_model_len=64)
    assert result.requests["output_tokens"].tolist()[:2] == [4, 4]
    assert result.num_length_capped == 1
    assert result.status.tolist() == ["finished", "finished", "rejected"]


def test_contiguous_gets_the_memory_of_all_blocks() -> None:
    assert serve([0.0], [1], [1], blocks=100, allocator="contiguous").pool_slots == 1600
    assert serve([0.0], [1], [1], blocks=100).pool_slots == 1584
