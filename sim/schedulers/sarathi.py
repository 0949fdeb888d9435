"""Sarathi: stall-free batching (Agrawal et al., Sarathi-Serve, OSDI 2024, Algorithm 3).

Of one budget of ``max_num_batched_tokens`` every decode gets its token first, whatever it leaves;
then prompts that have begun get the next chunk, then new ones are admitted, first come first
served. A prompt takes memory for all of its tokens when it is admitted, so that a chunk never lacks
it; where a decode lacks a block the latest request is preempted, and nobody is admitted.

Its two techniques can be switched off one by one, as in Table 4 of the paper:

- ``enable_chunked_prefill=False``, hybrid batches only: whole prompts beside the decodes, as many
  as fit the budget; one that is longer is the only prompt of its step.
- ``mixed_batches=False``, chunks only: a step has either chunks or decodes, in turns while there
  are both.
"""

from __future__ import annotations

from ..request import Request
from .base import Scheduler
from .step import Event, Step


class SarathiScheduler(Scheduler):
    """Decodes first, then chunks of prompts."""

    _decodes_next = False
    """Without mixed batches: the step before had chunks, so that it is the decodes' turn."""

    def why_never(self, request: Request) -> str:
        return ""

    def schedule(self, now_ns: float) -> Step:
        step = self._new_step()
        if self.limits.mixed_batches:
            self._run_decodes(step, now_ns)
            decodes = self.batch.num_decodes - len(step.held_back)
            self._prefill(step, now_ns, self.limits.max_num_batched_tokens - decodes)
        else:
            self._take_turns(step, now_ns)
        return step

    def could_admit(self) -> bool:
        self.blocked = False
        decodes = self.batch.num_decodes if self.limits.mixed_batches else 0
        tokens = self._head_tokens(self.limits.max_num_batched_tokens - decodes, alone=True)
        return tokens > 0 and self._ask_head()

    def after_run(self, steps: int) -> None:
        self._decodes_next = False

    def _take_turns(self, step: Step, now_ns: float) -> None:
        """A step of chunks or one of decodes; after a step of chunks it is the decodes' turn."""
        if self._decodes_next and self.batch.num_decodes:
            self.could_admit()  # says whether the head of the queue waits for memory
        else:
            decoding = [request for request in self.batch.requests if request.decoding]
            self._prefill(step, now_ns, self.limits.max_num_batched_tokens)
            if step.chunks:
                for request in decoding:
                    self._hold_back(request, step)
        self._decodes_next = bool(step.chunks)
        if not step.chunks:
            self._run_decodes(step, now_ns)

    def _run_decodes(self, step: Step, now_ns: float) -> None:
        requests, number = self.batch.requests, self.batch.step
        in_bulk = step.in_bulk = not (self._exact or self._held_back)
        for request in self._order(in_bulk):
            if (
                request.decoding
                and request in requests  # not preempted in this walk
                and self._make_room(request, request.known_at(number), step, now_ns)
            ):
                self._give_decode(request, step)

    def _prefill(self, step: Step, now_ns: float, budget: int) -> None:
        """Chunks of the prompts that have begun, then of new ones."""
        for request in self.batch.prefills:
            tokens = min(request.known - request.computed, budget)
            if tokens > 0:
                fits = self.allocator.extend(request, request.computed + tokens)
                assert fits, "a prompt has all of its memory when it is admitted"
                self._give(request, tokens, step)
                budget -= tokens
        if not step.preempted:
            self._admit(step, now_ns, budget)

    def _admit(self, step: Step, now_ns: float, budget: int) -> None:
        self.blocked = False
        while tokens := self._head_tokens(budget, alone=not step.chunks):
            head = self.waiting.head()
            if not self._ask_head():
                if step.events is not None:
                    step.events.append(Event("f", head, tokens))
                return
            found = self._found(head)
            budget -= self._take_head(tokens, step, now_ns, cached=found)
            self.allocator.extend(head, head.known)

    def _ask_head(self) -> bool:
        head = self.waiting.head()
        return self._ask(head, head.known)

    def _head_tokens(self, budget: int, *, alone: bool) -> int:
        """Tokens that the head of the queue would get; none where no seat or budget is left."""
        if not self.waiting or not self._has_seats(self.waiting.head()):
            return 0
        head = self.waiting.head()
        if head.swapped_tokens and head.group is not None and head.group.width > budget:
            return 0  # its sequences go on together
        wanted = head.known - self._found(head)
        if self.limits.enable_chunked_prefill:
            return max(0, min(wanted, budget))
        return wanted if alone or wanted <= budget else 0
