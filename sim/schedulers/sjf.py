"""Shortest job first: the request with the fewest tokens still to pass through the model.

These are its known tokens, which are computed (after a preemption again), and the outputs to come:
prompt + output, whatever it had before. The output's length is the trace's, which no server knows:
an oracle, the bound of what a length predictor could bring. Who runs goes on when a shorter job
arrives; where memory is short the longest job is preempted, the one that would stand last in the
queue, and goes back to its place. Long jobs wait for as long as shorter ones keep coming.
"""

from __future__ import annotations

from ..group import sequences
from ..request import Request
from .queue import Key, PriorityQueue


class ShortestJobQueue(PriorityQueue):
    """The shortest job first; of equals the first to arrive."""

    def key(self, request: Request) -> Key:
        tokens = sum(one.total_tokens for one in sequences(request))
        return tokens, request.arrival_ns, request.tie_rank, request.sample
