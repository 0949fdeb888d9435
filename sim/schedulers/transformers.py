"""transformers' continuous batching (5.23, ``generation/continuous_batching/scheduler.py``).

Every step looks at the candidates in order: who decodes, whose prompt has begun, who waits; those
swapped out and fresh ones take turns. Each gets the tokens that are left of
``max_num_batched_tokens``, at most ``max_num_seqs`` of them get any, and one that finds no blocks
is passed over: a later one that fits may be served. While less than ``watermark`` of the blocks is
free (the library's ``safety_margin``), nobody but those who decode gets tokens, except the first
candidate of a step.

A running request that found no blocks is *starved*. After the step, or before it where nobody could
run, the latest of the starved give way until the others fit (``offloading_manager.py``): to host
memory while there is room, else to be computed again; they go to the back of the queue, and nobody
is let in until a request ends.

Where blocks are shared, a prompt that begins like a cached one runs from then on, blocks for the
rest or not; and who does more than decode reads at most as many tokens as the pool holds
(``cache_budget``): a prefix that many share counts for each.

Not as in the library: asynchronous batches, forked samples and sliding windows; a pool of sectors
that hold several blocks; a request that no pool could hold is refused at arrival; when the last
running request is cancelled, who waits is let in, where the library waits for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import zip_longest

from ..batch import FAR
from ..request import Request
from .base import Scheduler
from .step import Event, Step
from .walk import Walk


class TransformersScheduler(Scheduler):
    """``scheduler_type="fifo"``: who decodes comes first."""

    prefills_first = False
    fast_path_tokens = FAR
    """A request of fewer tokens may decode through a block table: ``max_blocks_per_request``, taken
    to cover ``max_model_len``; 0 where the attention kernel has none."""
    _closed = False
    """Requests were offloaded and none has ended since."""

    def why_never(self, request: Request) -> str:
        return ""

    def has_room_for_more(self) -> bool:
        """Whether a step in which everybody decodes gets as far as the queue."""
        limits = self.limits
        return self.batch.num_decodes < min(limits.seats, limits.max_num_batched_tokens)

    def add(self, request: Request) -> bool:
        self.waiting.add(request)
        return self.has_room_for_more()

    def only_decodes(self) -> bool:
        batch, limits = self.batch, self.limits
        if batch.prefills or not batch.num_decodes or self._held_back:
            return False
        if batch.num_decodes > min(limits.seats, limits.max_num_batched_tokens):
            return False
        return self._reads_freely() and not self.could_admit()

    def could_admit(self) -> bool:
        """Whether anybody who waits would be admitted beside those who decode."""
        self.blocked = bool(self.waiting) and self.has_room_for_more()
        if not self.blocked or self._closed:
            return False
        if self.allocator.free_share < self.limits.safety_margin:
            return False
        tokens = self.limits.max_num_batched_tokens - self.batch.num_decodes
        most = self._most_known(tokens)
        return any(
            self._would_enter(one) for one in self._in_turn() if not self._is_too_long(one, most)
        )

    def _would_enter(self, request: Request) -> bool:
        num_decodes = self.batch.num_decodes
        found = self._found(request)
        if found and not request.swapped_tokens:
            return True
        tokens = min(request.known - found, self.limits.max_num_batched_tokens - num_decodes)
        reads = self.allocator.pool_slots - (self.batch.context_tokens - num_decodes)
        if not self._is_fast(tokens, found) and reads < found:
            return False
        return self._fits(request, found + tokens)

    def retire(self, finished: Iterable[Request]) -> list[Request]:
        leaving = super().retire(finished)
        if leaving:
            self._closed = False
        return leaving

    def cancel(self, request: Request) -> bool:
        gone = super().cancel(request)
        if not self.batch.requests:
            self._closed = False
        return gone

    def schedule(self, now_ns: float) -> Step:
        step = self._new_step()
        self.allocator.catch_up(self.batch.step)
        walk = self._walk(step, now_ns)
        while not walk.served and walk.refused:
            if not self._offload(walk.starved, step, now_ns):
                break  # here the library gives up
            walk = self._walk(step, now_ns)
        if walk.served and walk.starved:
            self._offload(walk.starved, step, now_ns)
        self._restore(walk.restored)
        self.blocked = bool(self.waiting) and not walk.spent
        if walk.decoded is not None:
            for request in self.batch.requests:
                if request.decoding and request not in walk.decoded:
                    self._hold_back(request, step)
        return step

    def _restore(self, requests: Iterable[Request]) -> None:
        """They come back from host memory, whose room was not there for who gave way to them."""
        for request in requests:
            assert self.swap is not None, "it was swapped out"
            self.swap.bring(request)
            request.swapped_tokens = 0

    def _in_turn(self) -> Iterable[Request]:
        """Those who wait: in host memory and others in turns."""
        queue: Iterable[Request] = self.waiting  # type: ignore[assignment]
        if self.swap is None or not self.swap.num_used:
            return queue
        everybody = list(queue)
        swapped = [request for request in everybody if request.swapped_tokens]
        fresh = [request for request in everybody if not request.swapped_tokens]
        turns = zip_longest(swapped, fresh)
        return [request for turn in turns for request in turn if request is not None]

    def _is_too_long(self, request: Request, most: int) -> bool:
        return request.known > most and not self.allocator.cached_tokens(request)

    def _most_known(self, tokens: int) -> int:
        """Who knows more tokens and shares none finds no blocks: a look spared in a long queue."""
        most = self.allocator.most_new_tokens
        return FAR if self._exact or tokens <= most else most

    def _walk(self, step: Step, now_ns: float) -> Walk:
        """Give tokens to the candidates, in order."""
        limits = self.limits
        walk = Walk(
            tokens=limits.max_num_batched_tokens,
            rows=limits.seats,
            reads=self.allocator.pool_slots,
            fast_path_tokens=self.fast_path_tokens,
            fast=self.fast_path_tokens > 0,
            roomy=self._meets_margin(),
        )
        decodes = self._all_decode if self._in_one_go() else self._decode
        first, second = (
            (self._prefill, decodes) if self.prefills_first else (decodes, self._prefill)
        )
        phases: list[Callable[[Walk, Step, float], bool]] = [first, second, self._admit]
        all(phase(walk, step, now_ns) for phase in phases)
        for request in walk.admitted:
            self.waiting.remove(request)
        return walk

    def _meets_margin(self) -> bool:
        """Whether the safety margin is free, if need be without what is cached."""
        margin, allocator = self.limits.safety_margin, self.allocator
        if allocator.free_share >= margin:
            return True
        return allocator.evict_cached() and allocator.free_share >= margin

    def _reads_freely(self) -> bool:
        return self.fast_path_tokens == FAR or not self.allocator.shares_blocks

    def _is_fast(self, tokens: int, position: int) -> bool:
        return tokens == 1 and position < self.fast_path_tokens

    def _in_one_go(self) -> bool:
        """Whether all who decode will get their token, seen before the walk."""
        rows = min(self.limits.seats, self.limits.max_num_batched_tokens)
        if self._exact or self._held_back or self.batch.num_decodes > rows:
            return False
        if self.prefills_first and self.batch.prefills:
            return False
        return self._reads_freely() and self.allocator.decode_steps(self.batch.step, 1) > 0

    def _all_decode(self, walk: Walk, step: Step, now_ns: float) -> bool:
        num_decodes = self.batch.num_decodes
        if not num_decodes:
            return True
        self.allocator.decode(self.batch.step, 1)
        walk.count_decodes(num_decodes, self.batch.context_tokens)
        return not walk.spent

    def _decode(self, walk: Walk, step: Step, now_ns: float) -> bool:
        assert walk.decoded is not None, "nobody was given a token before"
        number = self.batch.step
        for request in [one for one in self.batch.requests if one.decoding]:
            if self._grants(request, 1, request.known_at(number) - 1, walk):
                self._give_decode(request, step)
                walk.decoded[request] = None
                if walk.spent:
                    return False
        return True

    def _prefill(self, walk: Walk, step: Step, now_ns: float) -> bool:
        for request in list(self.batch.prefills):
            if not walk.roomy and walk.served:
                return False
            if not self._give_chunk(request, walk, step):
                return False
        return True

    def _admit(self, walk: Walk, step: Step, now_ns: float) -> bool:
        """Those who wait; whether the budget lasted to the last of them."""
        if self._closed:
            return True
        most = self._most_known(walk.tokens)
        for request in self._in_turn():
            if self._is_too_long(request, most):
                walk.refused = True
                continue
            if not walk.roomy and walk.served:
                return True
            found = self._found(request)
            if found and not request.swapped_tokens:
                self._seat(request, 0, step, now_ns, cached=found)
                walk.admitted.append(request)
                if not self._give_chunk(request, walk, step):
                    return False
            elif not self._let_in(request, found, walk, step, now_ns):
                return False
            most = self._most_known(walk.tokens)
        return True

    def _let_in(self, request: Request, found: int, walk: Walk, step: Step, now_ns: float) -> bool:
        tokens = min(request.known - found, walk.tokens)
        if not walk.may_read(tokens, found):
            return True
        if not self._fits(request, found + tokens):
            walk.refused = True
            if step.events is not None:
                step.events.append(Event("f", request, tokens))
            return True
        self._seat(request, tokens, step, now_ns, cached=found)
        walk.admitted.append(request)
        self._give(request, tokens, step)
        if request.swapped_tokens:
            walk.restored.append(request)
        walk.count(tokens, found)
        return not walk.spent

    def _give_chunk(self, request: Request, walk: Walk, step: Step) -> bool:
        """The next part of a prompt that has begun; whether anything is left for others."""
        tokens = min(request.known - request.computed, walk.tokens)
        if self._grants(request, tokens, request.computed, walk):
            self._give(request, tokens, step)
            return not walk.spent
        return True

    def _grants(self, request: Request, tokens: int, position: int, walk: Walk) -> bool:
        """Room for a running request's next tokens, taken from what is left if it is there."""
        if not walk.may_read(tokens, position):
            return False
        if not self.allocator.extend(request, position + tokens):
            walk.refused = True
            walk.starved.append((request, position + tokens))
            return False
        walk.count(tokens, position)
        return True

    def _fits(self, request: Request, tokens: int) -> bool:
        return self.allocator.can_admit(request, tokens, others_run=bool(self.batch.requests))

    def _offload(self, starved: list[tuple[Request, int]], step: Step, now_ns: float) -> bool:
        """The latest of the starved give way until the others fit; whether anything was freed."""
        allocator = self.allocator
        freed = allocator.evict_cached()
        num_running, num_moved = len(self.batch.requests), 0
        while starved and num_running - num_moved > 1 and not allocator.holds_all(starved):
            request, _ = starved.pop()
            if step.events is not None:
                step.events.append(Event("p", request))
            allocator.unlist(request)
            self._preempt(request, now_ns)
            step.preempted.append(request)
            num_moved += 1
        if not num_moved:
            return freed
        for _ in range(num_moved):  # the oldest was put in front last: to the back in order
            self.waiting.add(self.waiting.take())
        self._closed = True
        return True


class PrefillFirstScheduler(TransformersScheduler):
    """``scheduler_type="prefill_first"``: prompts that have begun come first."""

    prefills_first = True
