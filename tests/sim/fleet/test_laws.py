"""What holds of every fleet: nobody is lost or served twice, bytes arrive, steps may be skipped."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvsim.sim.fleet.autoscaling import METRICS, Autoscaling
from kvsim.sim.fleet.result import FleetResult
from kvsim.sim.fleet.routers import ROUTERS
from kvsim.sim.fleet.run import simulate_fleet
from kvsim.sim.fleet.spec import Change, Fleet, KVTransfer, Pool
from kvsim.sim.result import CANCELLED, FINISHED, REJECTED
from support.fleets import SmallServer
from support.laws import assert_equal
from support.workloads import SCHEDULERS, Columns, Workload, workloads

PAGED = ("paged", "max", "buddy")
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
LAW = settings(max_examples=25, deadline=None, suppress_health_check=SLOW)
SWEEP = settings(LAW, max_examples=400, derandomize=False)


@st.composite
def autoscalings(draw: st.DrawFn, replicas: int) -> Autoscaling:
    """Eager ones, that change their mind often."""
    metric = draw(st.sampled_from(list(METRICS)))
    return Autoscaling(
        metric=metric,
        target=draw(st.sampled_from([0.05, 0.5] if metric == "kv_usage" else [0.5, 2.0])),
        max_replicas=replicas + draw(st.integers(0, 3)),
        interval_s=draw(st.sampled_from([0.01, 0.2])),
        scale_out_delay_s=draw(st.sampled_from([0.0, 0.05, 2.0])),
        cooldown_s=draw(st.sampled_from([0.0, 0.3])),
        tolerance=draw(st.sampled_from([0.0, 0.1])),
    )


@st.composite
def pools(draw: st.DrawFn, server: SmallServer, name: str, role: str) -> Pool:
    replicas = draw(st.integers(1, 3))
    return Pool(
        name=name,
        server=server,
        num_replicas=replicas,
        role=role,
        autoscaling=draw(st.none() | autoscalings(replicas)),
    )


@st.composite
def fleets(draw: st.DrawFn, work: Workload, *, roles: tuple[str, ...]) -> Fleet:
    server = SmallServer(
        deployment=work.deployment,
        cost=work.cost,
        num_gpu_blocks=work.num_gpu_blocks,
        moves=work.moves,
    )
    made = []
    for place, role in enumerate(roles):
        more = draw(st.sampled_from([0, 0, 7])) if role == "unified" else 0
        other = replace(server, num_gpu_blocks=server.num_gpu_blocks + more)
        made.append(draw(pools(other, f"{role}-{place}", role)))
    times = st.sampled_from([0.0, 0.004, 0.03, 0.04, 0.3, 1.0, 2.5])
    changes = st.builds(
        Change,
        at_s=times,
        pool=st.sampled_from([pool.name for pool in made]),
        replicas=st.sampled_from([-3, -2, -1, -1, 1, 2]),
    )
    return Fleet(
        pools=tuple(made),
        router=draw(st.sampled_from(list(ROUTERS))),
        max_ongoing_requests=draw(st.sampled_from([None, None, 1, 3])),
        changes=tuple(draw(st.lists(changes, max_size=5))),
        kv_transfer=KVTransfer(
            bytes_per_s=draw(st.sampled_from([1e5, 1e9])),
            latency_s=draw(st.sampled_from([0.0, 1e-3])),
        ),
    )


def assert_served_once(found: FleetResult, trace: Columns) -> None:
    """Everybody ends; who finished was finished by one replica; replicas end empty-handed."""
    result = found.result
    ended = np.isin(result.status, [FINISHED, REJECTED, CANCELLED])
    assert ended.all(), result.status
    np.testing.assert_array_equal(result.requests["index"], np.arange(len(trace.prompt_tokens)))
    roles = {one.role for one in found.replicas}
    for role in roles:
        counts = np.zeros(len(trace.prompt_tokens), dtype=np.int64)
        for one in found.replicas:
            if one.role != role:
                continue
            rows = one.result.requests["index"]
            assert (one.result.status != "unfinished").all(), one.number
            np.add.at(counts, rows[one.result.status == FINISHED], 1)
            began = one.result.requests["first_token_s" if role == "decode" else "scheduled_s"]
            there = ~np.isnan(began)
            assert (began[there] >= one.ready_s).all(), "nobody is served before the replica joins"
            ends = one.result.requests["finish_s"][there]
            assert (ends <= one.left_s + 1e-9).all(), "a replica leaves when it is done"
        done = result.status == FINISHED
        assert (counts[done] == 1).all(), "nobody is lost"
        assert (counts <= 1).all(), "nobody is served twice"


def serve_everybody_once(data: st.DataObject) -> None:
    """Whatever joins, leaves and is given up meanwhile, in one pool or in two."""
    work = data.draw(
        workloads(allocator=PAGED, scheduler=data.draw(st.sampled_from(SCHEDULERS)), most=20)
    )
    roles = data.draw(st.sampled_from([("unified",), ("unified", "unified")]))
    fleet = data.draw(fleets(work, roles=roles))
    found = simulate_fleet(fleet, work.trace, concurrency=work.concurrency, check=True)
    assert_served_once(found, work.trace)


@given(data=st.data())
@LAW
def test_nobody_is_lost_or_served_twice(data: st.DataObject) -> None:
    serve_everybody_once(data)


@pytest.mark.slow
@given(data=st.data())
@SWEEP
def test_nobody_is_lost_or_served_twice_sweep(data: st.DataObject) -> None:
    serve_everybody_once(data)


def handed_over(work: Workload) -> Workload:
    """A workload that prefill and decode pools can have: one sequence, recompute, whole layers."""
    flags = replace(
        work.deployment,
        preemption_mode="recompute",
        pinned_prefix_tokens=0,
        swap_overlap=False,
        kv_groups=(),
    )
    trace = replace(work.trace, num_samples=None, beam_width=None)
    return replace(work, trace=trace, deployment=flags)


def send_what_is_received(data: st.DataObject) -> None:
    """Of the prompts that were prefilled, each once, whatever is preempted or given up."""
    work = handed_over(data.draw(workloads(allocator=PAGED, scheduler="vllm", most=20)))
    fleet = data.draw(fleets(work, roles=("prefill", "decode")))
    found = simulate_fleet(fleet, work.trace, concurrency=work.concurrency, check=True)
    assert_served_once(found, work.trace)
    assert found.sent_bytes == found.received_bytes == found.transfers["num_bytes"].sum()
    sent = found.transfers["index"]
    assert len(set(sent.tolist())) == len(sent), "a prompt crosses once"
    blocks = -(-work.trace.prompt_tokens[sent] // work.deployment.block_size)
    np.testing.assert_array_equal(found.transfers["num_bytes"], 1000 * blocks)
    finished = np.flatnonzero(found.result.status == FINISHED)
    assert set(finished.tolist()) <= set(sent.tolist())
    for one in found.replicas:
        mine = found.transfers["sender"] == one.number
        assert one.sent_bytes == found.transfers["num_bytes"][mine].sum()
        mine = found.transfers["receiver"] == one.number
        assert one.received_bytes == found.transfers["num_bytes"][mine].sum()


@given(data=st.data())
@LAW
def test_bytes_sent_are_bytes_received(data: st.DataObject) -> None:
    send_what_is_received(data)


@pytest.mark.slow
@given(data=st.data())
@SWEEP
def test_bytes_sent_are_bytes_received_sweep(data: st.DataObject) -> None:
    send_what_is_received(data)


def skip_steps(roles: tuple[str, ...], data: st.DataObject) -> None:
    """Many steps at once and one by one come to the same, whatever the router looks at."""
    work = data.draw(workloads(allocator=PAGED, scheduler="vllm", most=20))
    work = handed_over(work) if len(roles) > 1 else work
    fleet = data.draw(fleets(work, roles=roles))
    macro, exact = (
        simulate_fleet(fleet, work.trace, concurrency=work.concurrency, exact_steps=exact_steps)
        for exact_steps in (False, True)
    )
    np.testing.assert_array_equal(macro.routed["replica"], exact.routed["replica"])
    assert_equal(macro.result, exact.result)


ROLES = [("unified",), ("prefill", "decode")]


@pytest.mark.parametrize("roles", ROLES)
@given(data=st.data())
@LAW
def test_steps_may_be_skipped(roles: tuple[str, ...], data: st.DataObject) -> None:
    skip_steps(roles, data)


@pytest.mark.slow
@pytest.mark.parametrize("roles", ROLES)
@given(data=st.data())
@SWEEP
def test_steps_may_be_skipped_sweep(roles: tuple[str, ...], data: st.DataObject) -> None:
    skip_steps(roles, data)
