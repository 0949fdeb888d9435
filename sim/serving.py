"""One serving engine with all that is its own: pool, queue, batch, recorder, replica.

A simulation makes one of it, a fleet as many as it has replicas, all on the same clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from simpy import Environment

from ..calibration.step_cost import StepCost
from .async_replica import AsyncReplica
from .batch import RunningBatch
from .deployment import Deployment
from .engine import make_allocator, make_scheduler, make_swap
from .links import Links
from .moved import Moved, Mover, Moves
from .recorder import Recorder
from .replica import Replica, StepLog, Watch
from .request import Request
from .sequences import moves_blocks, shares
from .servable import why_rejected
from .swap import Swap
from .tier_use import TierUse, tier_uses


class ServingEngine:
    """A replica and what it serves with.

    Args:
        env: the clock, in nanoseconds.
        trace: what may arrive: whether sequences share blocks and copy them.
        deployment: the server's flags.
        cost: step times.
        num_gpu_blocks: blocks of the KV pool, the null block included.
        on_finish: called with each sequence that leaves, at the time it leaves.
        exact_steps: one engine step at a time.
        check: verify the allocator's ledger at every event.
        log_step: called after each step.
        watch: shown the pool now and then.
        moves: what copies and swaps cost; None = no time.
        num_host_blocks: blocks of host memory for swaps; by default what ``swap_space`` holds.
        swap: where KV waits outside the pool, instead of what the deployment names.
    """

    def __init__(
        self,
        env: Environment,
        trace: object,
        *,
        deployment: Deployment,
        cost: StepCost,
        num_gpu_blocks: int,
        on_finish: Callable[[Request], None],
        exact_steps: bool = False,
        check: bool = False,
        log_step: StepLog | None = None,
        watch: Watch | None = None,
        moves: Moves | None = None,
        num_host_blocks: int | None = None,
        swap: Swap | None = None,
    ) -> None:
        self.deployment = deployment
        self.allocator = make_allocator(
            deployment, num_gpu_blocks, sharing=shares(trace, deployment)
        )
        self.recorder = Recorder()
        self.recorder.tiers = self.allocator.tiers
        self.batch = RunningBatch()
        own = make_swap(
            deployment, cost=cost, moves=moves, batch=self.batch, num_host_blocks=num_host_blocks
        )
        self.scheduler = make_scheduler(
            deployment,
            self.allocator,
            self.batch,
            exact_steps=exact_steps,
            keep_log=log_step is not None,
            swap=own if swap is None else swap,
        )
        self._mover = Mover(
            self.allocator,
            own,
            moves,
            slots_per_block=deployment.block_size,
            overlap=deployment.swap_overlap,
        )
        kind = AsyncReplica if deployment.async_scheduling else Replica
        self.replica = kind(
            env,
            allocator=self.allocator,
            batch=self.batch,
            scheduler=self.scheduler,
            cost=cost,
            recorder=self.recorder,
            on_finish=on_finish,
            exact_steps=exact_steps,
            check=check,
            log_step=log_step,
            watch=watch,
            mover=self._mover if own is not None or moves_blocks(trace, deployment) else None,
            links=Links(deployment.tiers) if deployment.tiers else None,
        )
        self._most_waiting = 0

    def why_rejected(self, request: Request) -> str:
        """The reason to reject a request at arrival, empty if there is none."""
        return why_rejected(request, self.deployment, self.scheduler, self.allocator)

    def submit(self, sequences: Sequence[Request]) -> None:
        """The sequences of a request arrive now; a group is one entry of the queue."""
        alone = sequences[0].group is None
        for one in sequences if alone else sequences[:1]:
            self.replica.submit(one)
        if self.replica.in_step:
            self._most_waiting = max(self._most_waiting, len(self.scheduler.waiting))

    def cancel(self, request: Request) -> None:
        """The client of a request gives up now."""
        self.replica.cancel(request)

    @property
    def peak_waiting(self) -> int:
        """Most requests in the queue at once, seen as they arrive and as segments begin."""
        at_starts = (segment.num_waiting for segment in self.recorder.segments)
        return max(self._most_waiting, max(at_starts, default=0))

    def moved(self) -> Moved:
        """Blocks copied and swapped so far."""
        return self._mover.moved()

    def tier_uses(self) -> tuple[TierUse, ...]:
        """What became of the memory below the GPU."""
        return tier_uses(self.deployment.tiers, self.allocator.tiers)
