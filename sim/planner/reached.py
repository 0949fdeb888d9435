"""Which of a server's predictions rest on no measured shape, at the rate that it holds.

A server's own note judges its limits (``max_num_seqs`` requests of the longest context). Here the
shapes are those that a run at the rate really reaches.
"""

from __future__ import annotations

from ...traces import Trace
from ..job import simulate_server
from ..server import Server
from .option import Option
from .probe import at_rate
from .shapes import Shapes, shapes_of


def beyond_profile(option: Option, trace: Trace) -> tuple[str, ...]:
    """What is extrapolated at the rate that an option holds, a sentence each."""
    best = option.search.best
    if best is None:
        return ()
    if best.shapes is not None:
        return beyond(option.server, best.shapes)
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
