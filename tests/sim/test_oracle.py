"""kvsim against an independent block-by-block model of the rules, on random workloads.

The recorded runs of the real scheduler check both; this check reaches what they do not hold:
cancelled requests, chunked-local layers, and every combination of flags on tiny pools.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvsim.sim.conformance import Case, first_difference, read_case_trace, replay
from kvsim.sim.recorded_tokens import FIRST_OUTPUT_ID, OUTPUT_IDS_APART
from kvsim.sim.result import FINISHED
from support.reference import ReferenceConfig, ReferenceRequest, run

Ranges = list[tuple[int, int]]
ANY = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
MS = 1_000_000


@st.composite
def requests(draw: st.DrawFn) -> list[ReferenceRequest]:
    """Prompts of their own, prompts that begin alike, and prompts that repeat an answer."""
    found: list[ReferenceRequest] = []
    now = 0
    for number in range(draw(st.integers(1, 14))):
        now += draw(st.sampled_from([0, 0, 3 * MS, 7_654_321, 60 * MS]))
        prompt: Ranges = []
        if found and draw(st.booleans()):
            before = found[draw(st.integers(0, number - 1))]
            whole = [*before.prompt, (before.output_first_id, before.output_tokens)]
            prompt = _cut(whole, draw(st.integers(1, sum(count for _, count in whole))))
        own = draw(st.integers(0 if prompt else 1, 40))
        if own:
            prompt.append(((1 << 50) + number * OUTPUT_IDS_APART, own))
        patience = draw(st.sampled_from([None, None, None, 1 * MS, 20 * MS, 200 * MS]))
        found.append(
            ReferenceRequest(
                id=f"r{number:02}",
                arrival_ns=now,
                prompt=tuple(prompt),
                output_tokens=draw(st.integers(1, 40)),
                output_first_id=FIRST_OUTPUT_ID + number * OUTPUT_IDS_APART,
                priority=draw(st.integers(0, 2)),
                cancel_ns=None if patience is None else now + patience,
            )
        )
    return found


@st.composite
def configs(draw: st.DrawFn) -> ReferenceConfig:
    """Small pools with every flag."""
    block_size = draw(st.sampled_from([1, 4, 8]))
    span = block_size * draw(st.integers(1, 4))
    window = max(2, span + draw(st.sampled_from([0, 0, -1, 1])))
    specs = [
        *("full", "full", "full", f"swa:{window}", f"local:{span}"),
        *(f"hybrid:1,2,{window}", f"hybrid:2,1,{window}", f"hybrid_local:1,3,{span}"),
    ]
    kv_spec = draw(st.sampled_from(specs))
    num_groups = 1 if kv_spec[0] in "fsl" else sum(map(int, kv_spec.split(":")[1].split(",")[:2]))
    tokens = draw(st.sampled_from([130, 200, 400]))
    return ReferenceConfig(
        num_blocks=num_groups * (tokens // block_size + 1) + 1,
        block_size=block_size,
        max_num_seqs=draw(st.sampled_from([2, 5, 64])),
        max_num_batched_tokens=draw(st.sampled_from([16, 48, 512])),
        max_model_len=draw(st.sampled_from([64, 128])),
        prefix_caching=draw(st.booleans()),
        async_scheduling=draw(st.booleans()),
        policy=draw(st.sampled_from(["fcfs", "fcfs", "priority"])),
        chunked_prefill=draw(st.sampled_from([True, True, False])),
        long_prefill_token_threshold=draw(st.sampled_from([0, 0, 12])),
        prefill_schedule_interval=draw(st.sampled_from([1, 1, 3])),
        watermark=draw(st.sampled_from([0.0, 0.0, 0.1])),
        reserve_full_isl=draw(st.sampled_from([True, True, False])),
        kv_spec=kv_spec,
    )


@ANY
@given(workload=requests(), config=configs())
def test_every_step_is_the_oracle_s(
    workload: list[ReferenceRequest], config: ReferenceConfig
) -> None:
    _compare(workload, config)


@pytest.mark.slow
@settings(ANY, max_examples=6_000, derandomize=False)
@given(workload=requests(), config=configs())
def test_every_step_is_the_oracle_s_at_length(
    workload: list[ReferenceRequest], config: ReferenceConfig
) -> None:
    _compare(workload, config)


def _compare(workload: list[ReferenceRequest], config: ReferenceConfig) -> None:
    expected = run(workload, config, most_steps=2_000)
    if expected.status == "cut":
        return  # starts over for ever; kvsim ends such a run
    case = _case(workload, config)
    case = replace(case, steps=expected.lines)
    difference = first_difference(case)
    assert difference is None, str(difference)
    for exact_steps in (False, True):
        result = replay(case, exact_steps=exact_steps, check=True)
        finish_ns = np.round(result.requests["finish_s"] * 1e9)
        for row, request in enumerate(workload):
            theirs = expected.requests[request.id]
            if theirs.finish_ns is None:
                assert result.status[row] != FINISHED
            else:
                assert finish_ns[row] == theirs.finish_ns
            assert result.requests["num_preemptions"][row] == theirs.preemptions


def _case(workload: list[ReferenceRequest], config: ReferenceConfig) -> Case:
    rows = [
        {
            "id": request.id,
            "arrival_s": request.arrival_ns / 1e9,
            "prompt_ranges": request.prompt,
            "output_tokens": request.output_tokens,
            "priority": request.priority,
        }
        for request in workload
    ]
    patience = [
        np.nan if request.cancel_ns is None else (request.cancel_ns - request.arrival_ns) / 1e9
        for request in workload
    ]
    names = ("num_blocks", "block_size", "max_num_seqs", "max_num_active_seqs")
    names += ("max_num_batched_tokens", "max_model_len", "prefix_caching", "async_scheduling")
    names += ("policy", "chunked_prefill", "long_prefill_token_threshold", "watermark")
    names += ("prefill_schedule_interval", "reserve_full_isl", "kv_spec", "step_time_ns")
    trace = replace(read_case_trace(rows), cancel_s=np.array(patience))
    header = {name: getattr(config, name) for name in names}
    return Case(name="random", header=header, steps=[], summary={}, trace=trace)


def _cut(ranges: Ranges, length: int) -> Ranges:
    cut: Ranges = []
    for first, count in ranges:
        if length > 0:
            cut.append((first, min(count, length)))
        length -= count
    return cut
