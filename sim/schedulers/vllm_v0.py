"""The first vLLM engine's scheduler, the default of vLLM 0.2 to 0.5: prompts first.

A step is one of two kinds. While the head of the queue can be admitted, a step computes whole
prompts and nothing else: as many as fit ``max_num_batched_tokens``, the seats and the pool; who
decodes waits. Else everybody decodes one token. Where a decode finds no block the latest arrival is
preempted; it goes to the front of the queue and computes its KV again. Who was swapped out (a group
of several sequences, unless told otherwise) comes back into a step of decodes in which nobody was
preempted, and no prompt is let in before it.

A prompt is let in if ``watermark`` of the blocks stay free, and refused at arrival if it would take
more than that leaves of an empty pool. The sum that was asked of a decode is that of the second
block manager: blocks that it needs; the first one (the default up to 0.5) wanted a free block for
each, needed or not.
"""

from __future__ import annotations

from ..request import Request
from .base import Scheduler
from .step import Event, Step


class VllmV0Scheduler(Scheduler):
    """Whole prompts in steps of their own, before anybody decodes."""

    def why_never(self, request: Request) -> str:
        budget = self.limits.max_num_batched_tokens
        if request.kv_tokens > budget:  # preempted, it may have so many to compute at once
            return f"needs more in one step than max_num_batched_tokens(={budget})"
        left = self.allocator.pool_slots - self.allocator.watermark_slots
        if self.allocator.slots_per_token == 1 and request.prompt_tokens > left:
            return f"the prompt needs more than the {left} slots that the watermark leaves"
        return ""

    def schedule(self, now_ns: float) -> Step:
        step = self._new_step()
        if self._head_is_swapped():
            self._run_running(step, now_ns)
            if not step.preempted:
                self._admit(step, now_ns, swapped=True)
            return step
        self._admit(step, now_ns, swapped=False)
        if step.chunks:
            for request in self.batch.requests:
                if request.decoding:
                    self._hold_back(request, step)
        else:
            self._run_running(step, now_ns)
        return step

    def could_admit(self) -> bool:
        self.blocked = False
        return self._may_admit(self.limits.max_num_batched_tokens) and self._ask_head()

    def _head_is_swapped(self) -> bool:
        return bool(self.waiting) and self.waiting.head().swapped_tokens > 0

    def _may_admit(self, budget: int) -> bool:
        """Whether nothing but memory can keep the head of the queue waiting."""
        if not self.waiting or not self._has_seats(self.waiting.head()):
            return False
        head = self.waiting.head()
        if head.swapped_tokens:
            return True  # its next step is a decode: these know no budget
        return head.known - self._found(head) <= budget or self._recovers_alone(budget)

    def _recovers_alone(self, budget: int) -> bool:
        """A group computes again what all of its sequences had, which may be more than a step."""
        group = self.waiting.head().group
        whole = budget == self.limits.max_num_batched_tokens
        return group is not None and group.recovering and whole

    def _ask_head(self) -> bool:
        head = self.waiting.head()
        return self._ask(head, head.known)

    def _admit(self, step: Step, now_ns: float, *, swapped: bool) -> None:
        """Admit from the head of the queue those who were swapped out, or those who were not."""
        self.blocked = False
        budget = self.limits.max_num_batched_tokens
        while self._may_admit(budget) and self._head_is_swapped() == swapped:
            head = self.waiting.head()
            found = self._found(head)
            if not self._ask_head():
                if step.events is not None:
                    step.events.append(Event("f", head, head.known - found))
                return
            budget -= self._take_head(head.known - found, step, now_ns, cached=found)

    def _run_running(self, step: Step, now_ns: float) -> None:
        requests, number = self.batch.requests, self.batch.step
        for request in self._order(self._in_bulk()):
            if request not in requests:
                continue  # preempted in this walk
            if self._make_room(request, request.known_at(number), step, now_ns):
                self._give_decode(request, step)
