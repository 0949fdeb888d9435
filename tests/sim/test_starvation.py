"""On a bounded load everybody is served: all schedulers and policies, groups and swaps included."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvsim.sim.deployment import Deployment
from kvsim.sim.result import FINISHED, REJECTED
from kvsim.sim.schedulers.policies import POLICIES
from kvsim.sim.simulation import simulate
from support.workloads import ALLOCATORS, COSTS, FORKING, ORDERS, Columns, FakeMoves, workloads

LAW = settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize(("policy", "scheduler"), ORDERS)
@LAW
@given(data=st.data())
def test_everybody_ends(scheduler: str, policy: str, data: st.DataObject) -> None:
    """Requests that fit an empty pool finish, however short memory is and whoever gives way."""
    kind = data.draw(st.sampled_from([ALLOCATORS[0], ALLOCATORS[0], *ALLOCATORS]))
    work = data.draw(workloads(allocator=kind, scheduler=scheduler))
    work = replace(
        work,
        trace=replace(work.trace, cancel_s=None),
        deployment=replace(work.deployment, scheduling_policy=policy),
    )
    result = work.run(exact_steps=False)
    assert set(result.status.tolist()) <= {FINISHED, REJECTED}


@pytest.mark.parametrize("mode", ["recompute", "swap", "auto"])
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("scheduler", FORKING)
def test_wide_groups_get_their_turn(scheduler: str, policy: str, mode: str) -> None:
    """Short requests keep coming while two need most of the seats and most of the blocks."""
    n = 40
    wide = np.isin(np.arange(n), (3, 11))
    trace = Columns(
        arrival_s=np.arange(n) * 0.02,
        prompt_tokens=np.where(wide, 40, 6),
        output_tokens=np.where(wide, 30, 12),
        priority=np.where(wide, 2, np.arange(n) % 3),
        tenant=np.arange(n) % 4,
        num_samples=np.where(wide, 5, 1 + np.arange(n) % 2),
        beam_width=np.where(np.arange(n) % 7 == 5, 3, 0),
    )
    result = simulate(
        trace,
        deployment=Deployment(
            max_model_len=128,
            max_num_seqs=6,
            max_num_batched_tokens=80,
            block_size=4,
            scheduler=scheduler,
            scheduling_policy=policy,
            preemption_mode=mode,
        ),
        cost=COSTS["affine"],
        num_gpu_blocks=1 + 10 + 5 * 8,
        check=True,
        moves=FakeMoves(),
        num_host_blocks=30,
    )
    assert result.status.tolist() == [FINISHED] * n
    assert result.requests["generated_tokens"][3] == 5 * 30
