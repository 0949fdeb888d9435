"""Which of a server's predictions rest on no measured shape, at the rate that it holds.

A server's own note judges its limits (``max_num_seqs`` requests of the longest context). Here the
shapes are those that a run at the rate really reaches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...traces import Trace
from ..job import simulate_server
from ..result import Result
from ..server import Server
from .option import Option
from .probe import at_rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Shapes:
    """The largest that a run reaches, each on its own."""

    num_seqs: int
    """Requests at once."""
    num_tokens: int
    """Of one step, at most: what is admitted together and a token of everyone else."""
    context_tokens: int
    """Held by all requests together."""
    longest_context: int
    """Of one request."""


def beyond_profile(option: Option, trace: Trace) -> tuple[str, ...]:
    """What is extrapolated at the rate that an option holds, a sentence each."""
    best = option.search.best
    if best is None:
        return ()
    result, _ = simulate_server(option.server, trace=at_rate(trace, best.rate_per_s))
    return beyond(option.server, shapes_of(result, option.server))


def beyond(server: Server, shapes: Shapes) -> tuple[str, ...]:
    """What of the step times no measured shape surrounds at these shapes."""
    names = server.cost.outside(
        num_seqs=shapes.num_seqs,
        num_tokens=shapes.num_tokens,
        context_tokens=shapes.context_tokens,
        longest_context=shapes.longest_context,
    )
    if not names:
        return ()
    return (
        f"Step times of {', '.join(names)} are extrapolated at the rate that holds: up to "
        f"{shapes.num_seqs} requests at once, {shapes.num_tokens:,} tokens in a step, "
        f"{shapes.context_tokens:,} tokens of context together and {shapes.longest_context:,} of "
        "one request lie beyond what was measured.",
    )


def shapes_of(result: Result, server: Server) -> Shapes:
    """The largest shapes of a run."""
    requests, segments = result.requests, result.segments
    began = ~np.isnan(requests["scheduled_s"])
    together: dict[float, int] = {}
    asked = requests["prompt_tokens"] - requests["cached_tokens"]
    for at_s, tokens in zip(requests["scheduled_s"][began], asked[began], strict=True):
        together[float(at_s)] = together.get(float(at_s), 0) + int(tokens)
    most_running = int(segments["num_running"].max(initial=0))
    budget = server.deployment.limits.max_num_batched_tokens
    lengths = (requests["prompt_tokens"] + requests["output_tokens"])[began]
    return Shapes(
        num_seqs=most_running,
        num_tokens=min(budget, max(together.values(), default=0) + most_running),
        context_tokens=round(float(segments["token_states"].max(initial=0.0))),
        longest_context=int(lengths.max(initial=0)),
    )
