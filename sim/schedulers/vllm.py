"""vLLM's V1 scheduler (``golden/RULES.md`` parts 3 and 5).

There is no prefill or decode phase: the running requests, in order of admission, get tokens until
computed catches up with known, out of one budget of ``max_num_batched_tokens``; then waiting
requests are admitted while budget, seats and memory last. Where memory is short the most recently
admitted request is preempted, and nothing is admitted in that step.
"""

from __future__ import annotations

from ..batch import FAR
from ..group import Group
from ..request import Request
from .base import Scheduler
from .step import Event, Step


class VllmScheduler(Scheduler):
    """One token budget, chunked prefill, recompute preemption."""

    _steps_since_prefill = 0
    _backlog = False

    def why_never(self, request: Request) -> str:
        budget = self.limits.max_num_batched_tokens
        if self.limits.enable_chunked_prefill or request.kv_tokens <= budget:
            return ""
        return f"needs more in one step than max_num_batched_tokens(={budget})"

    def add(self, request: Request) -> bool:
        matters = super().add(request)
        return matters or (self.limits.prefill_schedule_interval > 1 and len(self.waiting) == 1)

    def only_decodes(self) -> bool:
        if self.limits.prefill_schedule_interval > 1 and self.waiting:
            return False  # whether a step is held depends on what the steps before it did
        if self.batch.num_decodes > self.limits.max_num_batched_tokens:
            return False
        return super().only_decodes()

    def _may_change(self, head: Request) -> bool:
        # whole prompts: what is cached decides whether the rest fits the budget, and may be evicted
        whole = not self.limits.enable_chunked_prefill and self.allocator.cached_tokens(head) > 0
        return whole or super()._may_change(head)

    def after_run(self, steps: int) -> None:
        self._backlog = False  # nothing waits in such a run where it matters
        self._steps_since_prefill += steps

    def schedule(self, now_ns: float) -> Step:
        step = self._new_step()
        cap = self._cap(len(self.batch.requests) + len(self.waiting))
        held = self._is_held()
        budget = self._run_running(step, now_ns, cap=cap, held=held)
        if not step.preempted:
            self._admit(step, budget, now_ns, cap=cap, held=held)
            if not held:
                self._backlog = bool(self.waiting)
        if step.chunks:
            self._steps_since_prefill = 0
        elif self.batch.num_decodes:
            self._steps_since_prefill += 1
        return step

    def could_admit(self) -> bool:
        if not self.waiting:
            self.blocked = False
            return False
        budget = self.limits.max_num_batched_tokens - self.batch.num_decodes
        cap = self._cap(len(self.batch.requests) + len(self.waiting))
        tokens, cached = self._head_tokens(budget, cap)
        self.blocked = False
        if not tokens:
            return False
        head = self.waiting.head()
        return self._ask(head, cached + (0 if self.allocator.must_load(head) else tokens))

    def _cap(self, queued: int) -> int:
        """Most tokens a prefill gets in one step; a lone request is not capped."""
        threshold = self.limits.long_prefill_token_threshold
        return threshold if threshold and queued > 1 else FAR

    def _is_held(self) -> bool:
        """Whether prefills must wait so that the running requests decode undisturbed."""
        interval = self.limits.prefill_schedule_interval
        return (
            interval > 1
            and self._steps_since_prefill < interval - 1
            and bool(self.batch.num_decodes or self.batch.parked)
            and not self._backlog
        )

    def _run_running(self, step: Step, now_ns: float, *, cap: int, held: bool) -> int:
        """Give the running requests their tokens; returns what is left of the budget."""
        batch, requests = self.batch, self.batch.requests
        budget = self.limits.max_num_batched_tokens
        in_bulk = step.in_bulk = budget >= batch.num_decodes and self._in_bulk()
        decode_tokens = 0 if in_bulk else 1
        if in_bulk:
            budget -= batch.num_decodes
        short: set[Group] = set()
        for request in self._order(in_bulk):
            if request not in requests:
                continue  # preempted in this walk
            if request.decoding:
                if not in_bulk and (budget == 0 or self._is_short(request, budget, short)):
                    self._hold_back(request, step)
                elif self._make_room(request, request.known_at(batch.step), step, now_ns):
                    budget -= decode_tokens
                    self._give_decode(request, step)
                budget += step.take_returned()
            elif not held and budget > 0 and request in batch.prefills:
                tokens = min(request.known - request.computed, cap, budget)
                if self._make_room(request, request.computed + tokens, step, now_ns):
                    budget -= tokens
                    self._give(request, tokens, step)
                budget += step.take_returned()
        return budget

    def _is_short(self, request: Request, budget: int, short: set[Group]) -> bool:
        """Whether a beam is left out because not all beams of its search would get a token."""
        group = request.group
        if group is None or group.survival is None:
            return False
        if request is group.members[0] and group.width > budget:
            short.add(group)
        return group in short

    def _admit(self, step: Step, budget: int, now_ns: float, *, cap: int, held: bool) -> None:
        self.blocked = False
        while self.waiting and budget > 0:
            tokens, cached = self._head_tokens(budget, cap)
            if not tokens:
                return
            head = self.waiting.head()
            if held and head.known - cached > 1:
                return
            if self.allocator.must_load(head):
                tokens = 0  # it computes when its load is done
            if not self._ask(head, cached + tokens):
                if step.events is not None:
                    step.events.append(Event("f", head, tokens))
                return
            budget -= self._take_head(tokens, step, now_ns, cached=cached)

    def _head_tokens(self, budget: int, cap: int) -> tuple[int, int]:
        """Tokens that the head of the queue would get and those that it would find cached.

        None to get where no seat or budget is left for it.
        """
        if not self.waiting or budget <= 0 or not self._has_seats(self.waiting.head()):
            return 0, 0
        head = self.waiting.head()
        cached = self._found(head)
        if head.swapped_tokens and head.group is not None and head.group.width > budget:
            return 0, cached  # its sequences go on together
        tokens = min(head.known - cached, cap)
        recovering = head.group is not None and head.group.recovering  # one member after another
        if tokens > budget and not self.limits.enable_chunked_prefill and not recovering:
            return 0, cached
        return min(tokens, budget), cached
