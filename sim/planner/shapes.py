"""The largest batches that a run reaches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..result import Result
from ..server import Server


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
