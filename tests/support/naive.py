"""Schedulers over paged memory, token by token, in lists: shares no code with the package.

vLLM's V1 scheduler is RULES.md 3-5; the others are told in the modules that they check.

Slow and simple on purpose: the law macro == exact cannot see an error in what both modes share.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kvsim.calibration.step_cost import Batch, StepCost
from kvsim.sim.deployment import Deployment
from support.workloads import Columns


@dataclass(eq=False)
class Row:
    """A request."""

    index: int
    arrival_ns: float
    prompt: int
    total: int
    known: int
    computed: int = 0
    blocks: int = 0
    queued_ns: float = 0.0
    times_ns: list[float] = field(default_factory=list)
    scheduled_ns: float = float("nan")
    waited_ns: float = 0.0
    num_preemptions: int = 0
    wasted_tokens: int = 0
    decodes: bool = False
    """Has had a token since it was last admitted."""


def naive(
    trace: Columns, deployment: Deployment, cost: StepCost, num_gpu_blocks: int
) -> tuple[list[Row], NDArray[np.float64], float, float]:
    """Rows, step times with the tokens emitted, and slot-nanoseconds (tokens, held)."""
    d, bs = deployment, deployment.block_size
    rows = [
        Row(i, round(a * 1e9), int(p), int(p + o), int(p))
        for i, (a, p, o) in enumerate(
            zip(trace.arrival_s, trace.prompt_tokens, trace.output_tokens, strict=True)
        )
    ]
    for row in rows:
        row.total = max(row.prompt, min(row.total, d.max_model_len))
        row.queued_ns = row.arrival_ns
    usable = num_gpu_blocks - 1
    first = d.scheduler == "vllm_v0"
    whole = first or (d.scheduler == "vllm" and not d.enable_chunked_prefill)
    mark = int(d.watermark * num_gpu_blocks) if first else 0
    fits = [
        r
        for r in rows
        if r.prompt < d.max_model_len
        and -(-(r.total - 1) // bs) <= usable
        and (not whole or r.total - 1 <= d.max_num_batched_tokens)
        and r.prompt <= bs * (usable - mark)
    ]
    coming, waiting, running = list(fits), [], []
    free, now, since, backlog, decodes_next = usable, 0.0, 0, False, False
    token_slot_ns = held_slot_ns = 0.0
    interval, seats = d.prefill_schedule_interval, d.limits.seats
    most = d.max_num_batched_tokens

    def cdiv(n: int) -> int:
        return -(-n // bs)

    def preempt(row: Row) -> None:
        nonlocal free
        free += row.blocks
        row.num_preemptions += 1
        row.wasted_tokens += row.computed
        row.blocks = row.computed = 0
        row.queued_ns = now
        running.remove(row)
        waiting.insert(0, row)

    def grow(row: Row, n: int) -> bool:
        """Room for n more tokens, preempting the last until there is; False: it was the last."""
        nonlocal free
        while (need := cdiv(row.computed + n) - row.blocks) > free:
            victim = running[-1]
            preempt(victim)
            if victim is row:
                return False
        free -= max(need, 0)
        row.blocks += max(need, 0)
        return True

    def admit(n: int) -> bool:
        """Let the head of the queue in with room for n tokens, if it is there."""
        nonlocal free
        row = waiting[0]
        mark = int(d.watermark * num_gpu_blocks) if running else 0
        if cdiv(row.known if d.scheduler_reserve_full_isl else n) + mark > free:
            return False
        waiting.pop(0)
        running.append(row)
        row.decodes = False
        row.blocks = cdiv(n)
        free -= row.blocks
        row.waited_ns += now - row.queued_ns
        if row.scheduled_ns != row.scheduled_ns:
            row.scheduled_ns = now
        return True

    def vllm() -> dict[Row, int]:
        nonlocal since, backlog
        queued = len(running) + len(waiting)
        budget, given, before = most, {}, len(running)
        cap = d.long_prefill_token_threshold if queued > 1 else 0
        decoding = any(r.decodes for r in running)
        held = interval > 1 and since < interval - 1 and decoding and not backlog
        for row in list(running):
            if row not in running or budget == 0:
                continue
            if held and not row.decodes:
                continue
            n = row.known - row.computed
            n = min(n, cap or n, budget)
            if grow(row, n):
                given[row] = n
                budget -= n
        if len(running) == before:  # nobody was preempted
            while waiting and budget > 0 and len(running) < seats:
                row = waiting[0]
                n = min(row.known, cap or row.known)
                if (held and row.known > 1) or (n > budget and not d.enable_chunked_prefill):
                    break
                n = min(n, budget)
                if not admit(n):
                    break
                given[row] = n
                budget -= n
            if not held:
                backlog = bool(waiting)
        if given:
            since = since + 1 if all(r.decodes for r in given) else 0
        return given

    def decode() -> dict[Row, int]:
        given = {}
        for row in [r for r in running if r.decodes]:
            if row in running and grow(row, 1):
                given[row] = 1
        return given

    def vllm_v0() -> dict[Row, int]:
        given, budget = {}, most
        while waiting and len(running) < seats:
            row = waiting[0]
            if row.known > budget or not admit(row.known):
                break
            given[row] = row.known
            budget -= row.known
        return given or decode()

    def prompts(budget: int, *, preempted: bool) -> dict[Row, int]:
        given = {}
        for row in running:
            if not row.decodes and (n := min(row.known - row.computed, budget)) > 0:
                given[row] = n
                budget -= n
        while waiting and not preempted and len(running) < seats:
            row = waiting[0]
            n = min(row.known, budget) if d.enable_chunked_prefill else row.known
            alone = not d.enable_chunked_prefill and not given
            if n <= 0 or (n > budget and not alone) or not admit(row.known):
                break
            given[row] = n
            budget -= n
        return given

    def sarathi() -> dict[Row, int]:
        nonlocal decodes_next
        if d.mixed_batches:
            before = len(running)
            given = decode()
            return given | prompts(most - len(given), preempted=len(running) < before)
        turn = decodes_next and any(r.decodes for r in running)
        given = {} if turn else prompts(most, preempted=False)
        decodes_next = bool(given)
        return given or decode()

    decide = {"vllm": vllm, "vllm_v0": vllm_v0, "sarathi": sarathi}[d.scheduler]
    while coming or waiting or running:
        while coming and coming[0].arrival_ns <= now:
            waiting.append(coming.pop(0))
        if not waiting and not running:
            now = coming[0].arrival_ns
            continue
        given = decide()
        if not given:
            continue
        chunks, contexts = [], []
        for row, n in given.items():
            if n == 1 and row.known > row.prompt and row.known - row.computed == 1:
                contexts.append(row.known)
            else:
                chunks.append((n, row.computed))
            row.computed += n
        longest = max(contexts, default=0)
        step_ns = cost.step_ns(Batch(len(contexts), sum(contexts), tuple(chunks), 0, longest))
        token_slot_ns += step_ns * sum(r.computed for r in running)
        held_slot_ns += step_ns * bs * (usable - free)
        now += step_ns
        for row in list(given):
            if row.computed == row.known:
                row.known += 1
                row.times_ns.append(now)
                row.decodes = True
                if row.known == row.total:
                    running.remove(row)
                    free += row.blocks
    gaps = np.sort(np.concatenate([np.diff(r.times_ns) for r in fits] or [np.empty(0)]))
    return fits, gaps, token_slot_ns, held_slot_ns
