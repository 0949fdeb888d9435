"""What schedulers share: the queue, the walk over the running requests, preemption, admission.

A scheduler decides whom to admit, how many tokens each request gets in a step and whom to preempt.
:meth:`Scheduler.schedule` decides one step. It treats the decoding requests in bulk, looking only
at those that need memory, where that gives the same decisions as walking over all of them;
``exact_steps`` always walks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

from ...calibration.step_cost import Batch
from ..allocators import Allocator
from ..batch import RunningBatch
from ..group import Group, sequences
from ..request import NEVER, Request
from ..swap import Swap
from .policies import POLICIES
from .queue import WaitingQueue
from .step import Event, SchedulerLimits, Step


class Scheduler(ABC):
    """Queue and decisions of one replica.

    Args:
        allocator: the pool, asked before anything is granted.
        batch: the running batch, in order of admission.
        limits: the engine's limits.
        exact_steps: decide request by request in every step.
        keep_log: fill ``Step.order`` and ``Step.events``.
        swap: host memory for preempted requests; None = they are computed again.
    """

    def __init__(
        self,
        *,
        allocator: Allocator,
        batch: RunningBatch,
        limits: SchedulerLimits,
        exact_steps: bool = False,
        keep_log: bool = False,
        swap: Swap | None = None,
    ) -> None:
        self.allocator = allocator
        self.batch = batch
        self.limits = limits
        self.swap = swap
        self.waiting: WaitingQueue = POLICIES[limits.scheduling_policy](batch)
        self.blocked = False
        """Who waits, waits for memory: the head was refused, or others were preempted for it."""
        self.held_tokens = 0
        """KV of requests that have ended but still hold their memory (static batching)."""
        self.padding_rows = 0
        self.notes_longest = False
        """Whether shapes carry the longest context, for a cost that asks for it."""
        self.last_token_ns = 0.0
        """When the tokens of the last step arrive; asynchronously, after ``schedule``."""
        self._exact = exact_steps
        self._keep_log = keep_log
        self._held_back: dict[Request, None] = {}

    @abstractmethod
    def why_never(self, request: Request) -> str:
        """The reason why this scheduler could never run the request; empty if it could."""

    @abstractmethod
    def schedule(self, now_ns: float) -> Step:
        """Decide one step, taking memory and moving requests as decided."""

    @abstractmethod
    def could_admit(self) -> bool:
        """Whether the head of the queue would be admitted now; updates ``blocked``."""

    def has_work(self) -> bool:
        """Whether anything waits or runs."""
        return bool(self.waiting) or bool(self.batch.requests)

    def add(self, request: Request) -> bool:
        """Queue an arrival; True if the coming steps may change because of it."""
        waiting = self.waiting
        waiting.add(request)
        if waiting.restless:
            return True
        return waiting.head() is request and (self._has_seats(request) or self.blocked)

    def only_decodes(self) -> bool:
        """Whether the next step, and those after it until something happens, only decode."""
        batch = self.batch
        if batch.prefills or not batch.num_decodes or self._held_back or self.could_admit():
            return False
        if batch.beams or self.allocator.will_copy:
            return False
        if not self.waiting or len(batch.requests) >= self.limits.seats:
            return True
        head = self.waiting.head()
        if self.waiting.may_change():  # to one that needs fewer seats
            return False
        return not (self._has_seats(head) and self._may_change(head))

    def _has_seats(self, head: Request) -> bool:
        """Whether a waiting request, with all of its sequences, finds seats."""
        seats = 1 if head.group is None else head.group.width
        return len(self.batch.requests) + seats <= self.limits.seats

    def _found(self, head: Request) -> int:
        """Tokens of a waiting request that need not be computed: cached, or swapped out."""
        return head.swapped_tokens or self.allocator.cached_tokens(head)

    def _may_change(self, head: Request) -> bool:
        """Whether what keeps the head waiting may change while others merely decode."""
        return self.waiting.may_change() or self.allocator.may_admit_soon(head)

    def after_run(self, steps: int) -> None:  # noqa: B027  most schedulers keep no count
        """So many steps were run in which everybody decoded."""

    def retire(self, finished: Iterable[Request]) -> list[Request]:
        """Requests that leave now that these have their last token; frees their memory."""
        leaving = list(finished)
        for request in leaving:
            if request in self.batch.requests:
                self._end(request)
            else:  # preempted with its last token on its way
                self.waiting.remove(request)
        return leaving

    def cancel(self, request: Request) -> bool:
        """The client has gone: take the request out and free its memory; False if it has ended."""
        if request in self.batch.requests:
            self._end(request)
            return True
        group = request.group
        if group is None or request is group.members[0]:
            self.waiting.remove(request)
            self._forget_swapped(request)
        if group is not None:
            self._leave_group(request, group)
        return True

    def shape(self, step: Step) -> Batch:
        """The batch shape of a scheduled step."""
        batch = self.batch
        decodes, context = batch.num_decodes, batch.context_tokens
        if step.held_back:
            decodes -= len(step.held_back)
            context -= sum(r.known_at(batch.step) for r in step.held_back)
        chunks = []
        for request, tokens in step.chunks:
            if tokens == 1 and request.computed == request.known > request.prompt_tokens:
                decodes += 1  # its last known token, an output: a decode like any other
                context += request.known
            else:
                chunks.append((tokens, request.computed - tokens))
        longest = self._longest_context(step) if self.notes_longest and decodes else 0
        return Batch(decodes, context, tuple(chunks), self.padding_rows, longest)

    def _longest_context(self, step: Step) -> int:
        """Of the decodes that get a token, those that resume included."""
        batch = self.batch
        if not step.chunks and not step.held_back:
            return batch.longest_context_tokens
        known = [
            request.known
            for request, tokens in step.chunks
            if tokens == 1 and request.computed == request.known > request.prompt_tokens
        ]
        if step.held_back:
            left_out = set(step.held_back)
            known += [
                request.known_at(batch.step)
                for request in batch.requests
                if request.decoding and request not in left_out
            ]
            return max(known, default=0)
        return max([*known, batch.longest_context_tokens])

    def _in_bulk(self) -> bool:
        """Whether the decoding requests all come before the others and all get their token."""
        prefills = self.batch.prefills
        if self._exact or self._held_back:
            return False
        left = len(prefills)
        for request in reversed(self.batch.requests):
            if not left:
                return True
            if request in prefills:
                left -= 1
            elif request.decoding:
                return False
        return True

    def _order(self, in_bulk: bool) -> list[Request]:
        """Requests to walk over: all of them, or in bulk those that may not get what they need."""
        batch, allocator = self.batch, self.allocator
        if not in_bulk:
            return list(batch.requests)
        if not batch.num_decodes:
            return list(batch.prefills)
        if allocator.decode_steps(batch.step, 1):
            allocator.decode(batch.step, 1)
            return list(batch.prefills) if batch.prefills else []
        return [*allocator.needers(batch.step), *batch.prefills]

    def _make_room(self, request: Request, tokens: int, step: Step, now_ns: float) -> bool:
        """Room for so many tokens in all, preempting others, at last itself, while there is none.

        Whom is for the policy to say (``golden/RULES.md`` 3.5).
        """
        new = 1 if request.decoding else tokens - request.computed
        while not self.allocator.extend(request, tokens):
            victim = self.waiting.victim(self.batch)
            if step.events is not None:
                step.events += [Event("f", request, new), Event("p", victim)]
            for one in sequences(victim):
                walked = one.sequence < request.sequence
                if walked and one.decoding:
                    self.allocator.unwalked(one, self.batch.step)
                if walked or (step.in_bulk and one.decoding):
                    self._undo(one, step)
            self._preempt(victim, now_ns)
            self.blocked = True
            step.preempted.append(victim)
            if request not in self.batch.requests:
                return False
        if step.events is not None and self.allocator.taken:
            step.events.append(Event("a", request, new, 0, tuple(self.allocator.taken)))
        return True

    def _undo(self, victim: Request, step: Step) -> None:
        """A request that already has its tokens of this step loses them."""
        given = sum(tokens for request, tokens in step.chunks if request is victim)
        step.returned_tokens += given if not victim.decoding else 1
        if given:
            victim.computed -= given
            self.batch.prefill_tokens -= given
        step.chunks = [chunk for chunk in step.chunks if chunk[0] is not victim]
        step.resumed = [request for request in step.resumed if request is not victim]
        if step.order is not None:
            step.order = [entry for entry in step.order if entry[0] is not victim]

    def _preempt(self, request: Request, now_ns: float) -> None:
        """Free everything at once; outputs are kept; to the front of the queue.

        What was computed is swapped out, or computed again. All sequences of a group go together.
        """
        group, row = request.group, request.row
        members = sequences(request)
        for one in members:
            self._leave(one)
            if one.known > one.prompt_tokens and one.silent_since_ns < 0:
                one.silent_since_ns = self.last_token_ns
        head = members[0]
        if group is not None and group.forked:
            self._preempt_forked(group)
        else:
            blocks = self.allocator.blocks_to_swap(head)
            if self.swap is not None and self.swap.takes(blocks, self._lost(head, head.computed)):
                head.swapped_tokens = head.computed
                self.swap.take(head, blocks)
            for one in members:
                self.allocator.release(one)
            head.lost_tokens = head.computed
            head.computed = 0
        row.num_preemptions += 1
        row.pauses_ns += (float(head.swapped_tokens > 0), now_ns, NEVER, NEVER)
        row.queued_ns = now_ns
        self.waiting.put_back(head)

    def _lost(self, victim: Request, tokens: int) -> int:
        """Of so many computed tokens those to compute again if they are not swapped."""
        return tokens - self.allocator.cached_tokens(victim)

    def _preempt_forked(self, group: Group) -> None:
        """All tables at once; the first member stands for what the others had."""
        head = group.members[0]
        lost = head.computed
        if not group.recovering:
            group.kept = [one.known for one in group.members]
        self.allocator.fold(group)
        folded = group.folded
        assert folded is not None, "fold() has set it"
        if not group.recovering:
            lost = folded.num_tokens
            width = len(group.members)
            if self.swap is not None and self.swap.takes(
                folded.num_blocks, self._lost(head, lost), num_sequences=width
            ):
                head.known = group.kept[0]
                head.swapped_tokens = head.known - 1
                self.swap.take(head, folded.num_blocks)
                head.computed = 0
                return
        group.recovering = True
        head.known = group.num_lost
        head.lost_tokens, head.computed = lost, 0

    def _end(self, request: Request) -> None:
        self._leave(request)
        self.allocator.learn(request, request.computed)
        self.allocator.release(request)
        if request.group is not None:
            self._leave_group(request, request.group)

    def _leave_group(self, request: Request, group: Group) -> None:
        """One sequence less; if the group waits, the next one stands for it."""
        place = group.members.index(request)
        group.members.remove(request)
        if group.kept:
            del group.kept[place]
        if not group.members or group.num_in_batch or place:
            return
        self.waiting.put_back(group.members[0])

    def _forget_swapped(self, request: Request) -> None:
        if request.swapped_tokens and self.swap is not None:
            self.swap.drop(request)
            request.swapped_tokens = 0

    def _leave(self, request: Request) -> None:
        self._held_back.pop(request, None)
        if request.decoding:
            self.allocator.stop_decoding(request)
        self.batch.remove(request)

    def _give(self, request: Request, tokens: int, step: Step) -> None:
        """A request that does not simply decode gets tokens in this step."""
        if step.order is not None:
            step.order.append((request, tokens, request.computed))
        request.computed += tokens
        self.batch.prefill_tokens += tokens
        step.chunks.append((request, tokens))

    def _give_decode(self, request: Request, step: Step) -> None:
        if request in self._held_back:
            del self._held_back[request]
            step.resumed.append(request)
        if step.order is not None:
            step.order.append((request, 1, request.known_at(self.batch.step) - 1))

    def _hold_back(self, request: Request, step: Step) -> None:
        """A decoding request gets no token in this step."""
        self._held_back[request] = None
        step.held_back.append(request)
        if request.silent_since_ns < 0:
            request.silent_since_ns = self.last_token_ns

    def _ask(self, request: Request, tokens: int) -> bool:
        """Ask for memory for a waiting request's first tokens; remembers a refusal."""
        fits = self.allocator.can_admit(request, tokens, others_run=bool(self.batch.requests))
        self.blocked = not fits
        return fits

    def _take_head(self, tokens: int, step: Step, now_ns: float, *, cached: int = 0) -> int:
        """Admit the head of the queue with so many tokens beside the cached ones.

        :meth:`_ask` said that all of them would fit. Returns the tokens that its sequences got.
        """
        request = self.waiting.take()
        self._seat(request, tokens, step, now_ns, cached=cached)
        if request.load is not None:
            self.batch.start_loading(request)
            step.loads.append(request)
            return 0
        self._give(request, tokens, step)
        given = tokens
        if request.group is not None:
            given += self._take_mates(request.group, step)
        if request.swapped_tokens:
            assert self.swap is not None, "it was swapped out"
            self.swap.bring(request)
            request.swapped_tokens = 0
        return given

    def _seat(
        self, request: Request, tokens: int, step: Step, now_ns: float, *, cached: int
    ) -> None:
        """A request that has left the queue joins the batch, with room for so many tokens."""
        row = request.row
        self.allocator.admit(request, cached + tokens)
        if step.events is not None:
            blocks = tuple(self.allocator.taken)
            step.events.append(Event("a", request, tokens, cached, blocks))
        if row.cached_tokens < 0:
            row.cached_tokens = cached
            if request.load is not None:
                request.tier_tokens = self.allocator.tier_tokens(request)
        if not request.swapped_tokens:
            row.wasted_tokens += max(0, request.lost_tokens - cached)
        if cached:
            step.hits[request] = cached
        row.waited_ns += now_ns - row.queued_ns
        if row.scheduled_ns != row.scheduled_ns:  # NaN: never scheduled before
            row.scheduled_ns = now_ns
        if row.num_preemptions:
            row.pauses_ns[-2] = now_ns
        self.batch.admit(request)
        request.computed = cached
        self.batch.prefill_tokens += cached

    def _take_mates(self, group: Group, step: Step) -> int:
        """Admit the rest of a group; returns the tokens they got: those swapped out go on."""
        head, *mates = group.members
        if not head.swapped_tokens or not group.forked:
            for one in mates:
                self.batch.admit_follower(one)
            return 0
        group.restore()
        for one in mates:
            self.batch.admit(one)
            one.computed = one.known - 1
            self.batch.prefill_tokens += one.computed
            self._give(one, 1, step)
        return len(mates)

    def end_load(self, request: Request) -> None:
        """What the request found is on the GPU: from the next step on it computes the rest."""
        assert request.load is not None, "it waits for a load"
        request.load.done = True
        request.load = None
        self.batch.end_loading(request)

    def _new_step(self) -> Step:
        return Step(order=[], events=[]) if self._keep_log else Step()
