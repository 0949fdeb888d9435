"""Replicas that join and leave: at known times, or as an autoscaler finds that they should.

A pool's autoscaler looks every ``interval_s`` and wants

    wanted = ceil(sum of the metric over the replicas that serve / target)

within its bounds, and what there is as long as the mean is within ``tolerance`` of the target
(Kubernetes' HorizontalPodAutoscaler). Requests that wait at the router count as outstanding, as in
Ray Serve. More replicas are asked for at once and serve after ``scale_out_delay_s``; fewer only
when nothing was changed for ``cooldown_s``. The youngest leaves first, one that is still starting
before all others; the last one of a pool stays.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from functools import partial
from math import ceil, inf
from typing import NamedTuple

from simpy import Environment, Event

from ...calibration.step_cost import NS_PER_S
from ..clock import Arrival
from .autoscaling import Autoscaling
from .member import Member
from .spec import Change, Pool


class Moment(NamedTuple):
    """Something that happened to the number of replicas."""

    at_ns: float
    what: str
    """launched, joined, draining, withdrawn (before it had joined)."""
    replica: int
    pool: str


class Scaler:
    """Launches and drains the replicas of all pools.

    Args:
        env: the clock, in nanoseconds.
        pools: what they are replicas of.
        launch: makes a replica that is starting.
        join: it is loaded.
        drain: it takes no more requests.
        held: requests that wait at the router of a pool.
        busy: whether clients still wait for anything.
    """

    def __init__(
        self,
        env: Environment,
        pools: Sequence[Pool],
        *,
        launch: Callable[[Pool], Member],
        join: Callable[[Member], None],
        drain: Callable[[Member], None],
        held: Callable[[Pool], int],
        busy: Callable[[], bool],
    ) -> None:
        self.env = env
        self.moments: list[Moment] = []
        self._pools = {pool.name: pool for pool in pools}
        self._members: dict[str, list[Member]] = {pool.name: [] for pool in pools}
        self._changed_ns = dict.fromkeys(self._pools, -inf)
        self._launch = launch
        self._join = join
        self._drain = drain
        self._held = held
        self._busy = busy

    def start(self, changes: Iterable[Change]) -> None:
        """The replicas of the beginning are there; the others are to come."""
        for pool in self._pools.values():
            for _ in range(pool.num_replicas):
                self._begin(pool, 0.0)
        for change in changes:
            event = Arrival(self.env, round(change.at_s * NS_PER_S))
            assert event.callbacks is not None, "an event that has not occurred has callbacks"
            event.callbacks.append(partial(self._apply, change))
        scaled = [pool for pool in self._pools.values() if pool.autoscaling is not None]
        if scaled:
            self.env.process(self._watch(scaled))

    def _apply(self, change: Change, _: Event) -> None:
        pool = self._pools[change.pool]
        self._change(pool, change.replicas, delay_s=0.0)

    def _change(self, pool: Pool, replicas: int, *, delay_s: float) -> None:
        for _ in range(replicas):
            self._begin(pool, delay_s)
        for _ in range(-replicas):
            self._end_one(pool)
        self._changed_ns[pool.name] = self.env.now

    def _begin(self, pool: Pool, delay_s: float) -> None:
        member = self._launch(pool)
        self._members[pool.name].append(member)
        self._note("launched", member)
        if not delay_s:
            self._joined(member)
            return
        event = Arrival(self.env, round(delay_s * NS_PER_S))
        assert event.callbacks is not None, "an event that has not occurred has callbacks"
        event.callbacks.append(lambda _: self._joined(member))

    def _joined(self, member: Member) -> None:
        if member.draining:  # not wanted any more
            return
        self._note("joined", member)
        self._join(member)

    def _end_one(self, pool: Pool) -> None:
        staying = self._staying(pool)
        starting = [one for one in staying if not one.joined]
        if starting:
            member = starting[-1]
            member.draining, member.left_ns = True, self.env.now
            self._note("withdrawn", member)
        elif len(staying) > 1:
            self._note("draining", staying[-1])
            self._drain(staying[-1])

    def _staying(self, pool: Pool) -> list[Member]:
        return [one for one in self._members[pool.name] if not one.draining]

    def _watch(self, pools: list[Pool]) -> Generator[Event, None, None]:
        due = {pool.name: _scaling(pool).interval_s for pool in pools}
        while self._busy():
            pool = min(pools, key=lambda pool: due[pool.name])
            yield Arrival(self.env, float(round(due[pool.name] * NS_PER_S)) - self.env.now)
            due[pool.name] += _scaling(pool).interval_s
            if self._busy() and not self._adjust(pool) and self.env.peek() == inf:
                return  # whoever waits now waits for ever

    def _adjust(self, pool: Pool) -> bool:
        scaling = _scaling(pool)
        more = self._wanted(pool, scaling) - len(self._staying(pool))
        cool = self.env.now - self._changed_ns[pool.name] >= scaling.cooldown_s * NS_PER_S
        if not more or (more < 0 and not cool):
            return False
        self._change(pool, more, delay_s=scaling.scale_out_delay_s)
        return True

    def _wanted(self, pool: Pool, scaling: Autoscaling) -> int:
        staying = self._staying(pool)
        ready = [one for one in staying if one.joined]
        metric = sum(_metric(one, scaling.metric) for one in ready)
        if scaling.metric == "outstanding":
            metric += self._held(pool)
        ratio = metric / scaling.target
        wanted = len(staying) if abs(ratio / len(ready) - 1) <= scaling.tolerance else ceil(ratio)
        return min(max(wanted, scaling.min_replicas), scaling.max_replicas)

    def _note(self, what: str, member: Member) -> None:
        self.moments.append(Moment(self.env.now, what, member.number, member.pool.name))


def _scaling(pool: Pool) -> Autoscaling:
    assert pool.autoscaling is not None, "the pool is scaled"
    return pool.autoscaling


def _metric(member: Member, metric: str) -> float:
    if metric == "outstanding":
        return member.num_outstanding
    return member.kv_tokens / member.kv_slots
