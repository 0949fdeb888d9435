"""What a server's time went into: who waited for what, and what bound the steps.

Waiting: requests wait for memory (the head of the queue was refused blocks), for a seat (as many
run as ``max_num_seqs`` allows), or for the token budget (neither, so the step was full).

Steps: a run's steps are told apart into those that prefill and those that only decode; the terms
of the step cost at the mean batch of each say what binds it: compute, memory bandwidth, or neither
(links, the host, latency).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from ...calibration.step_cost import Batch
from ..result import Result
from ..server import Server
from ..summary import plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """Shares of the time in which steps ran."""

    waiting: float
    """Somebody waited."""
    waits_memory: float
    waits_seat: float
    waits_budget: float
    """Beside the other two: what the step had no room for."""
    prefill: float
    """Steps that prefill."""
    compute: float
    """Of the steps' time, in terms bound by FLOP/s."""
    bandwidth: float
    """Of the steps' time, in terms bound by memory bandwidth."""
    mean_decodes: float
    """Requests that decode, over the time of steps that only decode."""
    mean_chunk_tokens: float
    """Prompt tokens of a step that prefills."""

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {name: plain(value) for name, value in asdict(self).items()}


def spending(result: Result, server: Server) -> Spending:
    """Of a run, or of its part before it was stopped."""
    segments = result.segments
    steps, time_s = segments["num_steps"], segments["duration_s"]
    busy = steps > 0
    total_s = max(float(time_s[busy].sum()), 1e-12)
    weight = np.where(busy, time_s, 0.0) / total_s
    running, decoding = segments["num_running"], segments["num_decodes"]
    waiting, blocked = segments["num_waiting"] > 0, segments["blocked"]
    seated = running >= server.deployment.limits.seats
    prefills = busy & (running > decoding)
    decodes = busy & ~prefills
    prefill_s, decode_s = float(time_s[prefills].sum()), float(time_s[decodes].sum())
    mean_decodes = _mean(decoding, time_s * decodes)
    mean_tokens = _mean(segments["token_states"], time_s * decodes)
    chunk = _prompt_tokens(result) / max(int(steps[prefills].sum()), 1)
    beside = _mean(decoding, time_s * prefills)
    shapes = (
        (decode_s, Batch(round(mean_decodes), round(mean_tokens))),
        (
            prefill_s,
            Batch(
                round(beside),
                round(beside * mean_tokens / max(mean_decodes, 1.0)),
                ((max(round(chunk), 1), 0),),
            ),
        ),
    )
    bound = {"compute": 0.0, "bandwidth": 0.0}
    for spent_s, shape in shapes:
        if spent_s > 0 and shape.num_tokens:
            terms = server.cost.terms(shape)
            whole_ns = sum(term.ns for term in terms)
            for term in terms:
                if term.bound in bound:
                    bound[term.bound] += spent_s / total_s * term.ns / whole_ns
    return Spending(
        waiting=float(weight @ waiting),
        waits_memory=float(weight @ (waiting & blocked)),
        waits_seat=float(weight @ (waiting & ~blocked & seated)),
        waits_budget=float(weight @ (waiting & ~blocked & ~seated)),
        prefill=prefill_s / total_s,
        **bound,
        mean_decodes=mean_decodes,
        mean_chunk_tokens=chunk if prefill_s else 0.0,
    )


def _mean(values: np.ndarray, weight: np.ndarray) -> float:
    total = float(weight.sum())
    return float(values @ weight) / total if total > 0 else 0.0


def _prompt_tokens(result: Result) -> int:
    """Computed: not found in the cache, and again after preemptions."""
    requests = result.requests
    begun = ~np.isnan(requests["scheduled_s"])
    own = requests["prompt_tokens"] - requests["cached_tokens"] + requests["wasted_tokens"]
    return int(own[begun].sum())
