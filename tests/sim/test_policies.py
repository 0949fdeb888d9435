"""Who is served first: shortest job first, fair shares between tenants, and what holds for all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvsim.sim.batch import RunningBatch
from kvsim.sim.deployment import Deployment
from kvsim.sim.ignored import ignored
from kvsim.sim.replica import StepRecord
from kvsim.sim.request import Request
from kvsim.sim.result import Result
from kvsim.sim.schedulers.fair import INPUT_WEIGHT, OUTPUT_WEIGHT, FairQueue
from kvsim.sim.schedulers.policies import POLICIES
from kvsim.sim.schedulers.sjf import ShortestJobQueue
from kvsim.sim.serve_command import serve_command
from kvsim.sim.simulation import simulate
from kvsim.sim.summary import summarise
from kvsim.traces import synthesize, workload_preset
from support.steady import steady_server
from support.workloads import COSTS, FORKING, Columns

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]


def deployment(policy: str, scheduler: str = "vllm", **flags: Any) -> Deployment:
    return Deployment(
        max_model_len=4096,
        scheduler=scheduler,
        scheduling_policy=policy,
        **{"max_num_batched_tokens": 4096, **flags},
    )


def loaded(policy: str, scheduler: str, *, num_gpu_blocks: int, **flags: Any) -> Result:
    """300 ShareGPT requests of four tenants and three priorities, all there at once."""
    workload = replace(workload_preset("sharegpt"), tenants=4)
    drawn = synthesize(workload=workload, num_requests=300, seed=1).backlog()
    trace = replace(drawn, priority=np.random.default_rng(0).integers(0, 3, 300))
    return simulate(
        trace,
        deployment=deployment(policy, scheduler, **flags),
        cost=COSTS["silicon"],
        num_gpu_blocks=num_gpu_blocks,
    )


@pytest.mark.parametrize("scheduler", FORKING)
def test_shortest_job_first_has_the_lowest_mean_e2e(scheduler: str) -> None:
    """On the same bounded load, with a pool so small that requests are preempted."""
    mean_s = {}
    for policy in POLICIES:
        result = loaded(policy, scheduler, num_gpu_blocks=700)
        assert (result.status == "finished").all(), "nobody starves"
        assert result.requests["num_preemptions"].sum() > 100
        mean_s[policy] = summarise(result).e2e_s.mean
    others = [mean_s[policy] for policy in POLICIES if policy != "sjf"]
    assert mean_s["sjf"] < 0.7 * min(others)


def test_schedulers_agree_where_no_budget_binds() -> None:
    """Whole prompts beside decodes, the latest preempted: Orca, Sarathi and vLLM are then one."""
    results = [
        loaded("fcfs", name, num_gpu_blocks=700, max_num_batched_tokens=1 << 20)
        for name in ("orca", "sarathi", "vllm")
    ]
    for other in results[1:]:
        for name in ("scheduled_s", "first_token_s", "finish_s", "num_preemptions"):
            np.testing.assert_allclose(other.requests[name], results[0].requests[name], rtol=1e-9)


@dataclass
class Service:
    """What two tenants had, step by step, while both had requests waiting."""

    gap: list[int]
    longest_prompt: int
    batch_tokens: int

    @property
    def bound(self) -> int:
        """Twice the larger of a prompt's and a batch's service."""
        prompt, batch = INPUT_WEIGHT * self.longest_prompt, OUTPUT_WEIGHT * self.batch_tokens
        return 2 * max(prompt, batch)

    @property
    def largest(self) -> int:
        """Largest difference of service over any interval."""
        return max(self.gap, default=0) - min(self.gap, default=0)


def service(trace: Columns, flags: Deployment, num_gpu_blocks: int) -> Service:
    """Counted from the steps' own log: a prompt as its request starts, an output as it comes."""
    assert trace.tenant is not None
    steps: list[StepRecord] = []
    simulate(
        trace,
        deployment=flags,
        cost=COSTS["affine"],
        num_gpu_blocks=num_gpu_blocks,
        log_step=steps.append,
        check=True,
    )
    arrival_ns = np.asarray(trace.arrival_s) * 1e9
    known: dict[int, int] = {}
    had, gap, most = [0, 0], [], 0
    running: dict[int, Request] = {}
    for step in steps:
        assert step.step.order is not None
        for request in step.step.preempted:
            running.pop(request.index, None)
        for request, tokens, before in step.step.order:
            row = request.index
            if row not in known:
                known[row] = request.prompt_tokens
                had[request.tenant] += INPUT_WEIGHT * request.prompt_tokens
            running[row] = request
            if before + tokens == known[row]:
                known[row] += 1
                had[request.tenant] += OUTPUT_WEIGHT
        most = max(most, sum(request.total_tokens for request in running.values()))
        for request in step.left:
            running.pop(request.index, None)
        there = arrival_ns <= step.scheduled_ns
        new = [row for row in np.flatnonzero(there) if row not in known]
        if {int(trace.tenant[row]) for row in new} == {0, 1}:
            gap.append(had[0] - had[1])
    return Service(gap, int(trace.prompt_tokens.max()), most)


def two_tenants(sizes: list[list[tuple[int, int]]], late_s: float = 0.0) -> Columns:
    """The first tenant's requests (prompt, output) at 0, the second's behind them or later."""
    rows = [(tenant, *size) for tenant, own in enumerate(sizes) for size in own]
    tenant, prompt, output = (np.array(column) for column in zip(*rows, strict=True))
    return Columns(
        arrival_s=np.where(tenant == 1, late_s, 0.0),
        prompt_tokens=prompt,
        output_tokens=output,
        tenant=tenant,
    )


@pytest.mark.parametrize("scheduler", FORKING)
@settings(max_examples=20, deadline=None, suppress_health_check=SLOW)
@given(data=st.data())
def test_the_gap_between_two_backlogged_tenants(scheduler: str, data: st.DataObject) -> None:
    longest = [data.draw(st.sampled_from([3, 30, 90])) for _ in range(4)]
    sizes = [
        data.draw(
            st.lists(
                st.tuples(st.integers(1, prompt), st.integers(1, output)), min_size=10, max_size=60
            )
        )
        for prompt, output in (longest[:2], longest[2:])
    ]
    trace = two_tenants(sizes, late_s=data.draw(st.sampled_from([0.0, 0.3, 2.0])))
    flags = deployment(
        "fair",
        scheduler,
        block_size=4,
        max_num_seqs=data.draw(st.sampled_from([2, 5])),
        max_num_batched_tokens=data.draw(st.sampled_from([200, 1000])),
    )
    found = service(trace, flags, num_gpu_blocks=data.draw(st.sampled_from([60, 300])))
    assert found.largest <= found.bound


def test_the_bound_tells_fair_shares_from_others() -> None:
    trace = two_tenants([[(30, 30)] * 80, [(5, 60)] * 80])
    flags = deployment("fair", max_num_seqs=4)
    fair = service(trace, flags, 300)
    assert len(fair.gap) > 1000
    assert fair.largest <= fair.bound
    fcfs = service(trace, replace(flags, scheduling_policy="fcfs"), 300)
    assert fcfs.largest > 3 * fcfs.bound


def test_who_asked_for_nothing_has_no_credit() -> None:
    """The second tenant comes when the first has been served alone for a while."""
    trace = two_tenants([[(30, 30)] * 120, [(30, 30)] * 40], late_s=2.0)
    found = service(trace, deployment("fair", max_num_seqs=4), 300)
    assert found.gap[0] > 3 * found.bound, "that was before"
    assert found.largest <= found.bound


def running(*requests: Request) -> RunningBatch:
    batch = RunningBatch()
    for request in requests:
        batch.admit(request)
    return batch


def request(index: int, *, prompt: int, output: int = 1, tenant: int = 0) -> Request:
    return Request(
        index=index,
        prompt_tokens=prompt,
        output_tokens=output,
        arrival_ns=float(index),
        tenant=tenant,
    )


def test_shortest_job_first_counts_prompt_and_output() -> None:
    long, short, middle = (
        request(0, prompt=1, output=50),
        request(1, prompt=20),
        request(2, prompt=10, output=20),
    )
    batch = running(short, long, middle)
    queue = ShortestJobQueue(batch)
    assert queue.victim(batch) is long
    for one in (long, middle):
        queue.add(one)
    queue.put_back(short)
    assert [queue.take() for _ in range(3)] == [short, middle, long]


def test_a_preempted_request_is_its_tenants_next() -> None:
    first, second, third = (request(i, prompt=10, tenant=0) for i in range(3))
    other = request(3, prompt=10, tenant=1)
    batch = RunningBatch()
    queue = FairQueue(batch)
    for one in (first, second, third, other):
        queue.add(one)
    queue.step_ended()
    assert queue.counters == {0: 0, 1: 0}
    for expected in (first, other, second):
        assert queue.take() is expected
        batch.admit(expected)
    assert queue.counters == {0: 20, 1: 10}
    assert queue.victim(batch) is second, "the latest of the tenant that had most"
    batch.remove(second)
    second.num_preemptions = 1
    queue.put_back(second)
    assert [queue.take() for _ in range(2)] == [second, third]
    assert queue.counters == {0: 30, 1: 10}, "computed again is not charged again"


def test_a_new_tenant_begins_where_the_least_served_is() -> None:
    batch = RunningBatch()
    queue = FairQueue(batch)
    for index in range(3):
        queue.add(request(index, prompt=100, tenant=0))
    queue.step_ended()
    queue.take()
    queue.add(request(3, prompt=1, tenant=1))
    assert len(queue) == 3
    queue.step_ended()
    assert queue.counters == {0: 100, 1: 100}
    while queue:
        queue.take()
    assert queue.counters == {0: 300, 1: 101}
    queue.add(request(4, prompt=1, tenant=2))
    queue.step_ended()
    assert queue.counters[2] == 300, "the one whose last request left the queue: it was the last"


def test_outputs_are_charged_when_their_step_has_ended() -> None:
    one = request(0, prompt=10, output=9)
    batch = RunningBatch()
    queue = FairQueue(batch)
    queue.add(one)
    queue.step_ended()
    batch.admit(queue.take())
    one.computed, one.known = 10, 11
    batch.start_decoding(one)
    batch.step += 3
    queue.step_ended()
    assert queue.counters == {0: 10 + 2 * 4}
    batch.step += 2
    batch.remove(one)
    queue.step_ended()
    assert queue.counters == {0: 10 + 2 * 6}


def test_what_of_a_trace_a_policy_does_not_use() -> None:
    trace = synthesize(
        workload=replace(workload_preset("alpaca"), tenants=3), num_requests=50, seed=0
    )
    says = "The trace's tenants are not used: scheduling_policy is sjf."
    assert says in ignored(trace, deployment("sjf"))
    assert ignored(trace, deployment("fair")) == ()
    alone = replace(trace, tenant=None)
    assert ignored(alone, deployment("sjf")) == ()
    assert ignored(alone, deployment("fair"))[0].startswith("The trace names no tenants")


@pytest.mark.parametrize("policy", POLICIES)
def test_only_what_vllm_has_is_a_command(policy: str) -> None:
    trace = synthesize(workload=workload_preset("alpaca"), num_requests=5, seed=0)
    line = serve_command(steady_server(trace, blocks=100, scheduling_policy=policy))
    assert line.startswith("vllm serve") == (policy in ("fcfs", "priority"))
