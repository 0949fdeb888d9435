"""kvsim's scheduler and ledger as an engine asks them (``calibration.engine.steps.Steps``)."""

from __future__ import annotations

from itertools import chain

from ...calibration.engine.steps import Ended, Row, Work
from ..deployment import Deployment
from ..request import Request
from ..schedulers import Step
from ..sequences import Family
from ..servable import why_rejected
from .content import TraceContent
from .driven import DrivenReplica
from .recorded import Journal
from .recovery import pieces


class Stepper:
    """One server's requests, step by step.

    Args:
        rows: the sequences of each row of the trace.
        content: their numbers.
        deployment: the server's flags.
        journal: where allocator and host pool note what moves.
    """

    def __init__(
        self,
        rows: list[list[Request]],
        *,
        content: TraceContent,
        deployment: Deployment,
        journal: Journal,
    ) -> None:
        self._rows = rows
        self._families = {row[0].index: Family(row) for row in rows if len(row) > 1}
        self._number_of = content.number_of
        self._deployment = deployment
        self._journal = journal
        self._replica: DrivenReplica
        self._step: Step | None = None
        self._ended: list[Ended] = []
        self._shown: dict[Request, int] = {}
        """Of each request that the engine has seen run its order of admission then."""

    def drive(self, replica: DrivenReplica) -> None:
        """The replica to ask, whose ``on_finish`` is :meth:`left`."""
        self._replica = replica

    def submit(self, request: int, now_ns: float) -> Ended | None:
        """A request of the trace arrives."""
        replica, sequences = self._replica, self._rows[request]
        first = sequences[0]
        for one in sequences:
            one.arrival_ns = one.queued_ns = now_ns
        first.reject_reason = why_rejected(
            first, self._deployment, replica.scheduler, replica.allocator
        )
        if first.reject_reason:
            self._families.pop(request, None)
            return _ended(first, sequences, first.reject_reason)
        for one in sequences if first.group is None else sequences[:1]:
            replica.submit(one)
        return None

    def cancel(self, request: int, now_ns: float) -> None:
        """Its client has gone."""
        self._replica.clock.set(now_ns)
        for one in self._rows[request]:
            self._replica.cancel(one)

    def schedule(self, now_ns: float) -> Work | None:
        """The next step."""
        replica = self._replica
        step = self._step = replica.begin(now_ns)
        if step is None:
            return None
        usage = replica.allocator.usage(blocked=replica.scheduler.blocked)
        assert step.order is not None, "a driven replica keeps a log"
        rows = [row for entry in step.order for row in self._of(*entry)]
        return Work(
            moves=self._journal.read(),
            rows=rows,
            waiting=len(replica.scheduler.waiting),
            running=replica.batch.num_requests,
            used_blocks=usage.held // self._deployment.block_size,
            preempted=len(step.preempted),
            goes_on=bool(step.preempted or self._ended),
        )

    def finish(self, now_ns: float) -> list[Ended]:
        """The step's tokens are there."""
        assert self._step is not None, "a step was scheduled"
        self._replica.end(self._step, now_ns)
        return self.ended()

    def ended(self) -> list[Ended]:
        """Who has left since this was last asked."""
        ended, self._ended = self._ended, []
        return ended

    def left(self, request: Request) -> None:
        """A sequence has left; its row has when the last one does."""
        family = self._families.get(request.index)
        if family is not None and not family.ends():
            return
        sequences = self._rows[request.index]
        status = "cancelled" if sequences[0].cancelled else "finished"
        self._ended.append(_ended(sequences[0], sequences, status))

    def _of(self, request: Request, tokens: int, past: int) -> list[Row]:
        """The rows of one entry of a schedule."""
        group = request.group
        if group is None or not group.recovering:
            return [self._row(request, past, tokens, self._takers(request, past + tokens))]
        size = self._deployment.block_size
        return [
            self._row(
                member,
                first,
                stop - first,
                self._takers(member, stop) if stop == group.known_of(member) else (),
            )
            for member, first, stop in pieces(group, size, past, past + tokens)
        ]

    def _row(
        self, request: Request, past: int, tokens: int, takers: tuple[tuple[int, int], ...]
    ) -> Row:
        fresh = self._shown.get(request) != request.sequence
        self._shown[request] = request.sequence
        return Row(self._number_of[request], past, tokens, table_of(request), fresh, takers)

    def _takers(self, request: Request, computed: int) -> tuple[tuple[int, int], ...]:
        """Who goes on from the last of a request's computed tokens."""
        group = request.group
        if group is not None and group.recovering:
            return ((self._number_of[request], 0),)
        if computed < request.known_at(self._replica.batch.step):
            return ()
        if group is not None and not group.forked:
            return tuple((self._number_of[one], one.sample) for one in group.members)
        first = computed == request.prompt_tokens
        return ((self._number_of[request], request.sample if first else 0),)


def table_of(request: Request) -> list[int]:
    """Its block ids, in the order of its tokens."""
    if not request.runs:
        return request.blocks
    return [*chain.from_iterable(run.ids for run in request.runs), *request.blocks]


def _ended(first: Request, sequences: list[Request], status: str) -> Ended:
    answered = 0 if first.reject_reason else sum(_outputs(one) for one in sequences)
    return Ended(
        request=first.index,
        status=status,
        scheduled_ns=first.scheduled_ns,
        first_token_ns=first.first_token_ns,
        num_preemptions=first.num_preemptions,
        cached_tokens=max(0, first.cached_tokens),
        output_tokens=answered,
    )


def _outputs(request: Request) -> int:
    return max(0, request.total_tokens - request.prompt_tokens)
