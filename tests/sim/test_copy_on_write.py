"""Whatever sequences share, each reads its own tokens: all schedulers against the oracle."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.contents import shadowed
from support.workloads import ALLOCATORS, SCHEDULERS, workloads

LAW = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
SWEEP = settings(LAW, max_examples=1500, derandomize=False)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@LAW
@given(data=st.data())
def test_everybody_reads_what_it_wrote(scheduler: str, data: st.DataObject) -> None:
    _check(scheduler, data)


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", SCHEDULERS)
@SWEEP
@given(data=st.data())
def test_everybody_reads_what_it_wrote_at_length(scheduler: str, data: st.DataObject) -> None:
    _check(scheduler, data)


def _check(scheduler: str, data: st.DataObject) -> None:
    work = data.draw(workloads(allocator=ALLOCATORS[0], scheduler=scheduler))
    plain = replace(
        work.deployment, enable_prefix_caching=False, async_scheduling=False, kv_groups=()
    )
    work = replace(work, deployment=plain)
    with shadowed() as made:
        work.run(exact_steps=data.draw(st.booleans()))
    (allocator,) = made
    assert not allocator.contents.history, "all have left"
    pins = allocator.contents.num_pinned_blocks
    assert sorted(allocator.free) == list(range(pins + 1, allocator.num_gpu_blocks))
