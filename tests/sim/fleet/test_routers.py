"""What each router does with the same requests."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest

from kvsim.calibration.affine import AffineCost
from kvsim.sim.fleet.asked import fleet_of as asked_of
from kvsim.sim.fleet.figures import fleet_figures
from kvsim.sim.fleet.job import run_fleet
from kvsim.sim.fleet.routers import ROUTERS, SessionAffinity
from kvsim.sim.fleet.run import simulate_fleet
from kvsim.sim.fleet.spec import Change, Fleet
from kvsim.sim.request import Request
from kvsim.traces.intake import Intake, take_in
from support.fleets import fleet_of, lengths, pool_of, server_of
from support.workloads import Columns

A_SECOND = AffineCost(base_s=1.0)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A replica as a router sees it."""

    number: int
    turn: int = -1
    num_outstanding: int = 0
    kv_tokens: int = 0
    kv_slots: int = 1000
    prefill_tokens: int = 0
    cached: int = 0

    def cached_tokens(self, request: Request) -> int:
        return self.cached


def chosen(router: str, *replicas: Seen, prompt: int = 100, session: int = 0) -> int:
    request = Request(index=0, prompt_tokens=prompt, output_tokens=5)
    return ROUTERS[router]().choose(request, session, replicas).number


def test_each_by_hand() -> None:
    one, other = Seen(number=0, turn=7), Seen(number=1, turn=3)
    assert chosen("round_robin", one, other) == 1, "the one that was chosen longest ago"
    one, other = Seen(number=0, num_outstanding=4), Seen(number=1, num_outstanding=3)
    assert chosen("least_outstanding", one, other) == 1
    one, other = Seen(number=0, kv_tokens=300), Seen(number=1, kv_tokens=400, kv_slots=2000)
    assert chosen("least_kv", one, other) == 1, "the smaller share, not the fewer tokens"


@pytest.mark.parametrize(
    ("cached", "backlog", "held", "expected"),
    [(0, 0, 0, 0), (16, 0, 0, 1), (96, 95, 0, 1), (96, 97, 0, 0), (96, 0, 97, 0), (96, 50, 47, 0)],
)
def test_a_prefix_is_worth_the_tokens_that_it_saves(
    cached: int, backlog: int, held: int, expected: int
) -> None:
    """Replica 1 has the prefix, and a backlog and a batch that weigh against it."""
    plain = Seen(number=0)
    other = Seen(number=1, cached=cached, prefill_tokens=backlog, kv_tokens=held)
    assert chosen("prefix_aware", plain, other) == expected


def test_ties_go_to_the_longest_idle_then_the_first() -> None:
    for router in ("round_robin", "least_outstanding", "least_kv", "prefix_aware"):
        assert chosen(router, Seen(number=0, turn=2), Seen(number=1, turn=1)) == 1
        assert chosen(router, Seen(number=0), Seen(number=1)) == 0


def test_sessions_spread_evenly_and_stay() -> None:
    """A fifth of them move when a fifth replica joins, and only to it."""
    request = Request(index=0, prompt_tokens=1, output_tokens=1)
    four, five = ([Seen(number=n) for n in range(count)] for count in (4, 5))
    before, after = (
        [SessionAffinity().choose(request, session, some).number for session in range(20_000)]
        for some in (four, five)
    )
    assert all(abs(count - 5000) < 250 for count in Counter(before).values())
    moved = [new for old, new in zip(before, after, strict=True) if old != new]
    assert set(moved) == {4}
    assert len(moved) == pytest.approx(4000, rel=0.06)


def routed(fleet: Fleet, trace: Columns) -> list[int]:
    found = simulate_fleet(fleet, trace, check=True)
    assert found.routed["index"].tolist() == list(range(len(trace.prompt_tokens)))
    return [int(number) for number in found.routed["replica"]]


def test_round_robin_takes_turns_and_takes_in_who_joins() -> None:
    server = server_of(A_SECOND)
    arrivals = np.arange(9.0)
    trace = lengths(9, output=2, arrival_s=arrivals)
    assert routed(fleet_of(server, 3), trace) == [0, 1, 2] * 3
    joins = (Change(at_s=3.5, pool="gpu", replicas=1),)
    assert routed(fleet_of(server, 2, changes=joins), trace) == [0, 1, 0, 1, 2, 0, 1, 2, 0]


def test_turns_of_a_session_meet_their_cache() -> None:
    """Each turn repeats all before it: at one replica all of that is found again."""
    turns, sessions = 4, 12
    n = turns * sessions
    parent = np.array([row - 1 if row % turns else -1 for row in range(n)])
    prompts = np.array([64 * (1 + row % turns) for row in range(n)])
    trace = lengths(
        n,
        prompt_tokens=prompts,
        output=4,
        arrival_s=np.where(parent < 0, np.arange(n) / 10, np.nan),
        parent=parent,
        delay_s=np.where(parent < 0, np.nan, 0.3),
        prefix_row=parent,
        prefix_tokens=np.where(parent < 0, 0, prompts - 64),
    )
    server = server_of(AffineCost(base_s=1e-3), enable_prefix_caching=True)
    hits = {}
    for router in ("session_affinity", "prefix_aware", "round_robin"):
        found = simulate_fleet(fleet_of(server, 5, router=router), trace)
        hits[router] = int(found.result.requests["cached_tokens"].sum())
    everything = int((prompts - 64).sum())
    assert hits["session_affinity"] == hits["prefix_aware"] == everything
    assert hits["round_robin"] < 0.6 * everything


def test_a_pool_that_cannot_serve_is_passed_over() -> None:
    """Five blocks hold no prompt of 100 tokens; the other pool gets it, whoever's turn it is."""
    small, large = server_of(num_gpu_blocks=6), server_of()
    fleet = Fleet(pools=(pool_of(small, name="small"), pool_of(large, name="large")))
    trace = lengths(4, prompt_tokens=np.array([100, 10, 100, 10]), output=2)
    found = simulate_fleet(fleet, trace, check=True)
    assert (found.result.status == "finished").all()
    assert found.routed["replica"].tolist() == [1, 0, 1, 0]
    neither = lengths(1, prompt=1 << 15, output=2)
    assert simulate_fleet(fleet, neither).result.status.tolist() == ["rejected"]


def test_prefix_aware_beats_round_robin_on_mooncake(shared_file: object) -> None:
    """The first requests of the conversation trace over eight H100s."""
    path = shared_file("traces/mooncake/conversation_trace.jsonl.gz")  # type: ignore[operator]
    taken = take_in(Intake(trace=(str(path),), max_requests=1000))
    hits = {}
    for router in ("round_robin", "prefix_aware"):
        fleet = asked_of(
            taken.trace,
            hardware={"gpu": "h100-sxm", "model": "llama-3.1-8b"},
            flags={},
            shape={"replicas": 8, "router": router},
            scaling={},
        )
        _, summary = run_fleet(fleet, trace=taken.trace)
        hits[router] = summary.prefix_hit_tokens
    assert hits["prefix_aware"] > 1.5 * hits["round_robin"]


def test_the_faster_gpu_gets_more() -> None:
    """Least outstanding feels how fast a replica is; taking turns does not."""
    taken = take_in(Intake(workload="sharegpt", num_requests=400, rate_per_s=30.0))
    shares = {}
    for router in ("least_outstanding", "round_robin"):
        fleet = asked_of(
            taken.trace,
            hardware={"gpu": "a100", "model": "llama-3.1-8b"},
            flags={},
            shape={"pools": "a100:2,h100-sxm:1", "router": router},
            scaling={},
        )
        found, _ = run_fleet(fleet, trace=taken.trace)
        shares[router] = [one.request_share for one in fleet_figures(found).replicas]
    assert shares["round_robin"] == pytest.approx([1 / 3] * 3, abs=0.01)
    slow, slower, fast = shares["least_outstanding"]
    assert fast > 1.4 * max(slow, slower)


@pytest.mark.parametrize("policy", ["fcfs", "priority", "sjf", "fair"])
def test_a_place_is_given_when_the_replica_has_scheduled(policy: str) -> None:
    """Who gives up makes room in the middle of the engine's turn; the next one comes after it.

    That is at 3 s, when a batch that was scheduled ahead is about to run.
    """
    server = server_of(A_SECOND, async_scheduling=True, scheduling_policy=policy)
    trace = lengths(3, output=10, cancel_s=np.array([2.5, np.nan, np.nan]))
    found = simulate_fleet(fleet_of(server, max_ongoing_requests=1), trace, check=True)
    assert found.result.status.tolist() == ["cancelled", "finished", "finished"]
    assert found.result.requests["scheduled_s"].tolist() == [0.0, 4.0, 14.0]
