"""The links between the GPU and the tiers below it, which serve one load after the other.

    end = max(now, link free) + latency + blocks * block bytes / bandwidth

Each tier has a link of its own; a request that loads from two tiers waits for the later one. Blocks
that come from the second tier pass through host memory on their way; as the first link is the
faster one, that is taken to hide behind the second. What sinks goes the other way, by direct memory
access beside the computing, and delays nobody: vLLM has copied a block by the time it is evicted.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..calibration.step_cost import NS_PER_S
from .allocators.tiers import Load, TierSpec


class Links:
    """One link up per tier."""

    def __init__(self, tiers: Sequence[TierSpec]) -> None:
        self._block_ns = [NS_PER_S * tier.block_bytes / tier.bytes_per_s for tier in tiers]
        self._latency_ns = [NS_PER_S * tier.latency_s for tier in tiers]
        self._free_ns = [0.0 for _ in tiers]
        self.busy_ns = [0.0 for _ in tiers]

    def send(self, load: Load, now_ns: float) -> float:
        """The links take a load; when it is done, in whole nanoseconds."""
        end = max([now_ns, *(other.end_ns for other in load.after)])
        for place, count in enumerate(load.blocks):
            if count:
                took = float(round(self._latency_ns[place] + count * self._block_ns[place]))
                self.busy_ns[place] += took
                self._free_ns[place] = max(now_ns, self._free_ns[place]) + took
                end = max(end, self._free_ns[place])
        load.end_ns = end
        return end
