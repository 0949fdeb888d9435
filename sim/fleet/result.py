"""What a fleet's simulation gives back: one result of all requests, and one per replica."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from ...calibration.step_cost import NS_PER_S
from ..moved import Moved
from ..recorder import Recorder
from ..result import Columns, Result, collect
from ..summary import time_span_s
from ..tier_use import TierUse
from .disaggregation import Transfer
from .member import Member
from .scaling import Moment
from .spec import Fleet


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReplicaResult:
    """One replica; times are seconds of the trace."""

    number: int
    pool: str
    role: str
    launched_s: float
    ready_s: float
    """NaN where it never served."""
    left_s: float
    """The end of the simulation where it stayed."""
    result: Result
    """A row per request that it served: in a prefill pool with an output of one token."""
    sent_bytes: int
    received_bytes: int

    @property
    def paid_s(self) -> float:
        """From when it was asked for until it left: what the cloud counts."""
        return self.left_s - self.launched_s


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FleetResult:
    """A simulated fleet.

    ``result`` is the whole fleet as clients see it: a row per request of the trace, the segments of
    all replicas in order of time, ``pool_slots`` of all replicas together. ``transfers`` has a row
    per prompt whose KV crossed a link: ``index``, ``sender``, ``receiver``, ``asked_s``,
    ``start_s``, ``end_s``, ``num_bytes``. ``changes`` has a row per replica that was launched,
    joined, began to drain or was withdrawn: ``at_s``, ``what``, ``replica``, ``pool``.
    ``routed`` has a row per choice: ``index`` and ``replica``.
    """

    fleet: Fleet
    result: Result
    replicas: tuple[ReplicaResult, ...]
    transfers: Columns
    changes: Columns
    routed: Columns
    num_rerouted: int
    """Requests that left a replica's queue with it and went to another one."""

    @property
    def replica_s(self) -> float:
        """Seconds of all replicas that are paid for."""
        return sum(one.paid_s for one in self.replicas)

    @property
    def sent_bytes(self) -> int:
        """KV that prefill replicas sent."""
        return sum(one.sent_bytes for one in self.replicas)

    @property
    def received_bytes(self) -> int:
        """KV that decode replicas received."""
        return sum(one.received_bytes for one in self.replicas)


def fleet_result(
    fleet: Fleet,
    whole: Result,
    members: Sequence[Member],
    *,
    moments: Sequence[Moment],
    transfers: Sequence[Transfer],
    choices: Sequence[tuple[int, int]],
    num_rerouted: int,
) -> FleetResult:
    """From the mutable state of a finished simulation.

    Args:
        fleet: what was simulated.
        whole: the requests as clients see them, with no segments yet.
        members: all replicas that were ever asked for.
        moments: replicas that came and went.
        transfers: KV that was sent.
        choices: ``(row, replica)`` of each choice.
        num_rerouted: requests that went elsewhere when their replica left.
    """
    own = [_result_of(member) for member in members]
    result = _with_replicas(whole, [one for m, one in zip(members, own, strict=True) if m.joined])
    end_s = time_span_s(result)[1]
    replicas = tuple(
        ReplicaResult(
            number=member.number,
            pool=member.pool.name,
            role=member.pool.role,
            launched_s=member.launched_ns / NS_PER_S,
            ready_s=member.ready_ns / NS_PER_S,
            left_s=_left_s(member, end_s),
            result=found,
            sent_bytes=member.sent_bytes,
            received_bytes=member.received_bytes,
        )
        for member, found in zip(members, own, strict=True)
    )
    return FleetResult(
        fleet=fleet,
        result=result,
        replicas=replicas,
        transfers=_transfer_columns(transfers),
        changes={
            "at_s": np.array([one.at_ns for one in moments], dtype=np.float64) / NS_PER_S,
            "what": np.array([one.what for one in moments], dtype=np.str_),
            "replica": np.array([one.replica for one in moments], dtype=np.int64),
            "pool": np.array([one.pool for one in moments], dtype=np.str_),
        },
        routed={
            "index": np.array([row for row, _ in choices], dtype=np.int64),
            "replica": np.array([number for _, number in choices], dtype=np.int64),
        },
        num_rerouted=num_rerouted,
    )


def _left_s(member: Member, end_s: float) -> float:
    """When it left; one that is asked for and never needed is paid for until the end."""
    left_s = member.left_ns / NS_PER_S
    return max(end_s, member.launched_ns / NS_PER_S) if np.isnan(left_s) else left_s


def _result_of(member: Member) -> Result:
    engine = member.engine if member.joined else None
    return collect(
        list(member.served),
        Recorder() if engine is None else engine.recorder,
        pool_slots=0 if engine is None else engine.allocator.pool_slots,
        peak_waiting=0 if engine is None else engine.peak_waiting,
        num_length_capped=0,
        families={one.index: several for one, several in member.served.items() if several[1:]},
        moved=Moved() if engine is None else engine.moved(),
        tiers=() if engine is None else engine.tier_uses(),
    )


def _with_replicas(whole: Result, own: Sequence[Result]) -> Result:
    """What the replicas did, put together; of a single one exactly what it did."""
    names = list(dict.fromkeys(name for one in own for name in one.segments))
    segments = {name: np.concatenate([_column(one, name) for one in own]) for name in names}
    order = np.argsort(segments["start_s"], kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    begins = np.cumsum([0, *(len(one.segments["start_s"]) for one in own)])
    openings = {
        name: np.concatenate([one.openings[name] for one in own]) for name in whole.openings
    }
    at = np.concatenate(
        [one.openings["segment"] + begin for one, begin in zip(own, begins, strict=False)]
    )
    openings["segment"] = place[at.astype(np.int64)].astype(np.float64)
    by_segment = np.argsort(openings["segment"], kind="stable")
    return replace(
        whole,
        segments={name: column[order] for name, column in segments.items()},
        openings={name: column[by_segment] for name, column in openings.items()},
        gaps_s=np.concatenate([one.gaps_s for one in own]),
        gap_ends_s=np.concatenate([one.gap_ends_s for one in own]),
        pool_slots=sum(one.pool_slots for one in own),
        num_steps=sum(one.num_steps for one in own),
        peak_waiting=max(one.peak_waiting for one in own),
        moved=_total([one.moved for one in own]),
        tiers=tuple(_tiers(own)),
    )


def _column(result: Result, name: str) -> np.ndarray:
    """Of its segments; without memory below the GPU there is nothing in it."""
    found = result.segments.get(name)
    return np.zeros(len(result.segments["start_s"]), dtype=np.int64) if found is None else found


def _total(moved: Sequence[Moved]) -> Moved:
    names = [field.name for field in fields(Moved)]
    return Moved(**{name: sum(getattr(one, name) for one in moved) for name in names})


def _tiers(own: Sequence[Result]) -> list[TierUse]:
    """By name: bytes add up, over replicas whose blocks may weigh differently."""
    totals: dict[str, TierUse] = {}
    for tier in (tier for one in own for tier in one.tiers):
        before = totals.get(tier.name)
        if before is None:
            totals[tier.name] = tier
            continue
        sums = {
            field.name: getattr(before, field.name) + getattr(tier, field.name)
            for field in fields(TierUse)
            if field.name.endswith("_bytes") and field.name != "block_bytes"
        }
        totals[tier.name] = replace(before, **sums)
    return list(totals.values())


def _transfer_columns(transfers: Sequence[Transfer]) -> Columns:
    rows = sorted(transfers, key=lambda one: (one.start_ns, one.row))
    whole = ("sender", "receiver", "num_bytes")
    times = ("asked", "start", "end")
    return {
        "index": np.array([r.row for r in rows], dtype=np.int64),
        **{name: np.array([getattr(r, name) for r in rows], dtype=np.int64) for name in whole},
        **{
            f"{name}_s": np.array([getattr(r, f"{name}_ns") for r in rows], dtype=np.float64)
            / NS_PER_S
            for name in times
        },
    }
