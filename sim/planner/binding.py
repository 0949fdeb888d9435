"""What binds a server at a rate, with the evidence.

Where requests wait for a good part of the time, it is what they wait for: KV memory, a seat, the
token budget. Where they do not, it is what the steps last: compute or memory bandwidth.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from ..server import Server
from ..slo import SLO
from ..summary import plain
from .probe import Probe

MUCH_WAITING = 0.2
"""Share of the time with somebody waiting from which on the queue binds, not the step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """One thing that binds, and what says so."""

    kind: str
    """``KV memory``, ``max_num_seqs``, ``max_num_batched_tokens``, ``compute`` or ``bandwidth``."""
    share: float
    """Of the time."""
    evidence: str
    """One sentence."""

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {name: plain(value) for name, value in asdict(self).items()}


def bindings(probe: Probe, server: Server, slo: SLO) -> tuple[Binding, ...]:
    """All of them at a probe's rate, the strongest first."""
    spent, flags = probe.spending, server.deployment
    if spent is None:
        return ()
    at = f"at {probe.rate_per_s:.3g} requests/s"
    memory = spent.waits_memory
    queue = [
        Binding(
            kind="KV memory",
            share=memory,
            evidence=f"{at} the next request waits for blocks {memory:.0%} of the time, "
            f"{probe.num_preemptions} preemptions among {probe.num_requests} requests.",
        ),
        Binding(
            kind="max_num_seqs",
            share=spent.waits_seat,
            evidence=f"{at} requests wait while all {flags.limits.seats} seats are taken "
            f"{spent.waits_seat:.0%} of the time.",
        ),
        Binding(
            kind="max_num_batched_tokens",
            share=spent.waits_budget,
            evidence=f"{at} requests wait with blocks and seats free {spent.waits_budget:.0%} of "
            f"the time: the step's budget of {flags.max_num_batched_tokens} tokens is full.",
        ),
    ]
    steps = [
        Binding(
            kind="compute",
            share=spent.compute,
            evidence=f"{at} {spent.compute:.0%} of the step time is bound by FLOP/s; steps that "
            f"prefill take {spent.prefill:.0%} of the time.",
        ),
        Binding(
            kind="bandwidth",
            share=spent.bandwidth,
            evidence=f"{at} {spent.bandwidth:.0%} of the step time is bound by memory bandwidth; "
            f"{spent.mean_decodes:.3g} requests decode at once on average.",
        ),
    ]
    queue.sort(key=lambda one: -one.share)
    steps.sort(key=lambda one: -one.share)
    found = (*queue, *steps) if spent.waiting >= MUCH_WAITING else (*steps, *queue)
    return tuple(found)
