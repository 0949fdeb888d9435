"""What the engine's own process does in a step: schedule, prepare inputs, launch, read tokens.

Under asynchronous scheduling it works on the next step while the GPU runs this one, so that only a
short gap shows, unless the GPU is the faster of the two. In lock step the GPU waits.

    host = step + per request * scheduled requests        0.8 ms + 8 us where nothing is known

Assumed, for a server-class CPU: published profiles of the V1 engine show 1 to 3 ms of host work at
some hundred requests, and single-stream decoding loses some 0.8 ms where scheduling is not ahead.
A calibration profile brings its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from .step_cost import NS_PER_S

HOST_SOURCE = "assumed: 0.8 ms and 8 us a request, overlapped where scheduling runs ahead"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostTimes:
    """The host's share of a step."""

    step_s: float = 0.8e-3
    per_request_s: float = 8e-6
    gap_s: float = 0.1e-3
    """Between two steps that were scheduled ahead: tokens to the next step's inputs, launch."""
    eager_layer_s: float = 0.15e-3
    """Per layer without CUDA graphs: some fifteen launches of 10 us."""
    piecewise_layer_s: float = 0.06e-3
    """Per layer where graphs are cut around attention: two graph launches, the attention calls."""
    source: str = HOST_SOURCE

    def ns(self, num_requests: int) -> float:
        """Nanoseconds of host work for a step with so many requests."""
        return NS_PER_S * (self.step_s + self.per_request_s * num_requests)


ASSUMED = HostTimes()
