"""Whatever sequences share, each reads its own tokens: all schedulers against the oracle."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from random import Random
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvsim.sim import sequences
from kvsim.sim.request import Request
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


class Wild:
    """Beams that go on from any other, in any order."""

    def __init__(self, *, width: int, seed: int, index: int) -> None:
        self.width, self.random = width, Random(seed * 1000 + index)

    def parents(self) -> list[int]:
        if self.random.random() < 0.3:
            return list(range(self.width))
        return self.random.choices(range(self.width), k=self.width)


def _uneven(seed: int, request: Request, count: int) -> list[Request]:
    """Samples that end at different times, the first of them not always last."""
    several, random = _copies(request, count), Random(seed * 100 + request.index)
    output = request.total_tokens - request.prompt_tokens
    for one in several:
        one.total_tokens -= random.randrange(output) if output > 1 else 0
        one.kv_tokens = one.total_tokens - 1
    return several


_copies = sequences.copies


def _check(scheduler: str, data: st.DataObject) -> None:
    work = data.draw(workloads(allocator=ALLOCATORS[0], scheduler=scheduler))
    plain = replace(
        work.deployment, enable_prefix_caching=False, async_scheduling=False, kv_groups=()
    )
    work = replace(work, deployment=plain)
    seed = data.draw(st.integers(0, 9))
    uneven = work.trace.beam_width is None and data.draw(st.booleans())
    lengths = partial(_uneven, seed) if uneven else _copies
    with (
        shadowed() as made,
        mock.patch.object(sequences, "BeamSurvival", Wild),
        mock.patch.object(sequences, "copies", lengths),
    ):
        work.run(exact_steps=data.draw(st.booleans()))
    (allocator,) = made
    assert not allocator.contents.history, "all have left"
    pins = allocator.contents.num_pinned_blocks
    assert sorted(allocator.free) == list(range(pins + 1, allocator.num_gpu_blocks))
