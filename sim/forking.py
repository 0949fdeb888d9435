"""What happens to a group when a step ends: it forks, goes on after a pause, or searches on."""

from __future__ import annotations

from .allocators import Allocator
from .batch import RunningBatch
from .group import Group
from .request import Request


def decoders_of(request: Request, batch: RunningBatch, allocator: Allocator) -> list[Request]:
    """Who has computed all it knows, now that this request, perhaps one of a group, has."""
    group = request.group
    if group is None:
        return [request]
    if not group.forked:
        group.forked = True
        allocator.fork(group)
        for one in group.members[1:]:
            one.computed = one.prompt_tokens
        return list(group.members)
    if not group.recovering:
        return [request]
    group.recovering = False
    allocator.recovered(group)
    batch.prefill_tokens -= request.computed
    group.restore()
    for one in group.members:
        one.computed = one.known
    batch.prefill_tokens += request.computed
    return list(group.members)


def search(group: Group, batch: RunningBatch, allocator: Allocator) -> None:
    """Which beams go on after a step; none are needed where it was the last."""
    assert group.survival is not None, "the group searches"
    first = group.members[0]
    if first.end > batch.step:
        allocator.reorder(group, group.survival.parents(), first.known_at(batch.step) - 1)
