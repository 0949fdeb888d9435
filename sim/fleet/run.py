"""A trace through a fleet: one clock, one front, as many engines as there are replicas."""

from __future__ import annotations

from collections.abc import Callable

from simpy import Environment

from ..clients import Clients, Progress
from ..content import roots
from ..moved import Moved
from ..recorder import Recorder
from ..request import Request
from ..result import Result, collect
from ..sequences import check_widths, families_of, make_requests, widths
from ..servable import Arrivals
from ..serving import ServingEngine
from ..simulation import count_capped, engine_requests_of, rare_garbage_collection
from .contents import Trees
from .disaggregation import Handover, Received
from .member import Member
from .result import FleetResult, fleet_result
from .routers import ROUTERS
from .scaling import Scaler
from .spec import Fleet, Pool
from .stage import Stage


def simulate_fleet(
    fleet: Fleet,
    trace: Arrivals,
    *,
    concurrency: int | None = None,
    exact_steps: bool = False,
    check: bool = False,
    progress: Progress | None = None,
) -> FleetResult:
    """Replay a trace through a fleet.

    One replica behind any router does exactly what :func:`~kvsim.sim.simulation.simulate` does.

    Args:
        fleet: pools behind a router.
        trace: what arrives; lengths alone are enough with ``concurrency``.
        concurrency: closed loop with so many clients in all.
        exact_steps: one engine step at a time: slower, same result.
        check: verify every allocator's ledger at every event.
        progress: told how many requests are done.

    Raises:
        ValueError: as ``simulate``; several sequences per request between prefill and decode.
    """
    if not len(trace.prompt_tokens):
        raise ValueError("trace holds no requests.")
    if concurrency is not None and concurrency < 1:
        raise ValueError(f"concurrency(={concurrency}) must be > 0.")
    if concurrency is None and trace.arrival_s is None:
        raise ValueError(
            "trace has lengths only: give rate, concurrency or arrival_process backlog."
        )
    for pool in fleet.pools:
        check_widths(trace, pool.server.deployment)
    found = widths(trace)
    if fleet.disaggregated and found is not None:
        raise ValueError(f"n(={max(found[0])}) must be 1 between prefill and decode pools.")
    run = _Run(fleet, trace, exact_steps=exact_steps, check=check, progress=progress)
    return run.run(concurrency)


class _Run:
    """One simulation: its clock, its clients, its front, its replicas."""

    def __init__(
        self,
        fleet: Fleet,
        trace: Arrivals,
        *,
        exact_steps: bool,
        check: bool,
        progress: Progress | None,
    ) -> None:
        self.env = Environment()
        self.fleet = fleet
        self.trace = trace
        self.members: list[Member] = []
        self.choices: list[tuple[int, int]] = []
        self._exact, self._check = exact_steps, check
        self.requests = make_requests(trace, fleet.pools[0].server.deployment)
        self.families = families_of(trace, self.requests)
        self.handover = Handover(self.env, fleet.kv_transfer) if fleet.disaggregated else None
        self._trees = self._make_trees()
        self.stages = self._make_stages()
        front = self.handover or self.stages["unified"]
        self.clients = Clients(
            self.env, trace, self.requests, self.families, front, progress=progress
        )
        if self.handover is not None:
            self.handover.clients = self.clients
        self.scaler = Scaler(
            self.env,
            fleet.pools,
            launch=self._launch,
            join=self._join,
            drain=lambda member: self.stages[member.pool.role].drain(member),
            held=lambda pool: len(self.stages[pool.role].held),
            busy=lambda: self.clients.num_done < len(self.requests),
        )
        self.scaler.start(fleet.changes)

    def run(self, concurrency: int | None) -> FleetResult:
        """Until nothing happens any more."""
        if concurrency is None:
            self.clients.start_open_loop()
        else:
            self.clients.start_closed_loop(concurrency)
        with rare_garbage_collection():
            self.env.run()
        for family in self.families.values():
            if family.left:
                family.add_up()
        if self.handover is not None:
            self.handover.add_up()
        return fleet_result(
            self.fleet,
            self._whole(),
            self.members,
            moments=self.scaler.moments,
            transfers=[] if self.handover is None else self.handover.transfers,
            choices=self.choices,
            num_rerouted=sum(stage.num_rerouted for stage in self.stages.values()),
        )

    def _whole(self) -> Result:
        return collect(
            self.requests,
            Recorder(),
            pool_slots=0,
            peak_waiting=0,
            num_length_capped=count_capped(self.trace, self.requests),
            families={index: family.sequences for index, family in self.families.items()},
            moved=Moved(),
        )

    def _make_trees(self) -> Trees:
        sequences, copies = engine_requests_of(self.requests, self.families)
        twins = {}
        if self.handover is not None:
            twins = {self.handover.copy_of(request): request for request in sequences}
        return Trees(self.trace, sequences, copies, twins)

    def _make_stages(self) -> dict[str, Stage]:
        roots_of = roots(self.trace.parent, len(self.requests))

        def stage(role: str, on_done: Callable[[Request, Member | None], None]) -> Stage:
            return Stage(
                self.env,
                router=ROUTERS[self.fleet.router](),
                session_of=roots_of,
                on_done=on_done,
                max_ongoing=self.fleet.max_ongoing_requests,
                on_choice=lambda row, member: self.choices.append((row, member.number)),
                send=self.handover.send if self.handover and role == "decode" else None,
                takes_back=role != "decode",
            )

        if self.handover is None:
            return {"unified": stage("unified", lambda request, _: self.clients.done(request))}
        self.handover.prefill = stage("prefill", self.handover.prefilled)
        self.handover.decode = stage("decode", self.handover.decoded)
        return {"prefill": self.handover.prefill, "decode": self.handover.decode}

    def _launch(self, pool: Pool) -> Member:
        tree = self._trees.own(pool.server.deployment)
        member = Member(self.env, number=len(self.members), pool=pool, tree=tree)
        self.members.append(member)
        return member

    def _join(self, member: Member) -> None:
        stage = self.stages[member.pool.role]
        member.join(self._engine, stage.finished)
        stage.joined(member)

    def _engine(self, pool: Pool, on_finish: Callable[[Request], None]) -> ServingEngine:
        server = pool.server
        return ServingEngine(
            self.env,
            self.trace,
            deployment=server.deployment,
            cost=server.cost,
            num_gpu_blocks=server.num_gpu_blocks,
            on_finish=on_finish,
            exact_steps=self._exact,
            check=self._check,
            moves=server.moves,
            swap=Received() if pool.role == "decode" else None,
        )
