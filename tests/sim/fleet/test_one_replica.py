"""One replica behind any router is the server itself, to the last bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvsim.sim.fleet.routers import ROUTERS
from kvsim.sim.fleet.run import simulate_fleet
from kvsim.sim.simulation import simulate
from support.fleets import SmallServer, assert_same_bits, fleet_of
from support.workloads import ALLOCATORS, SCHEDULERS, Workload, workloads


@pytest.mark.parametrize("router", ROUTERS)
@given(data=st.data())
@settings(max_examples=12, deadline=None)
def test_any_workload(router: str, data: st.DataObject) -> None:
    """Sessions, cancellations, samples, beams, swaps, prefixes, closed loops, single steps."""
    allocator = data.draw(st.sampled_from([("paged", "max", "buddy"), *ALLOCATORS]))
    scheduler = data.draw(st.sampled_from(["vllm", "vllm", *SCHEDULERS]))
    work: Workload = data.draw(workloads(allocator=allocator, scheduler=scheduler))
    exact_steps = data.draw(st.booleans())
    server = SmallServer(
        deployment=replace(work.deployment, swap_space=work.num_host_blocks * 1000 / (1 << 30)),
        cost=work.cost,
        num_gpu_blocks=work.num_gpu_blocks,
        moves=work.moves,
    )
    alone = simulate(
        work.trace,
        deployment=server.deployment,
        cost=server.cost,
        num_gpu_blocks=server.num_gpu_blocks,
        moves=server.moves,
        concurrency=work.concurrency,
        exact_steps=exact_steps,
    )
    behind = simulate_fleet(
        fleet_of(server, router=router),
        work.trace,
        concurrency=work.concurrency,
        exact_steps=exact_steps,
        check=True,
    )
    assert_same_bits(behind.result, alone)
    (only,) = behind.replicas
    np.testing.assert_array_equal(only.result.segments["start_s"], alone.segments["start_s"])
