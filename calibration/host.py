"""What the engine's own process does in a step: schedule, prepare inputs, launch, read tokens.

Under asynchronous scheduling it works on the next step while the GPU runs this one, so that only a
short gap shows, unless the GPU is the faster of the two. In lock step the GPU waits.

    host = 0.8 ms + 8 us * scheduled requests

Assumed, for a server-class CPU: published profiles of the V1 engine show 1 to 3 ms of host work at
some hundred requests, and single-stream decoding loses some 0.8 ms where scheduling is not ahead.
A real server's log replaces them in the calibration.
"""

from __future__ import annotations

from .step_cost import NS_PER_S

HOST_S = 0.8e-3
HOST_PER_REQUEST_S = 8e-6
GAP_S = 0.1e-3
"""Between two steps that were scheduled ahead: tokens to the next step's inputs, launch."""
EAGER_LAUNCH_S = 0.15e-3
"""Per layer without CUDA graphs: some fifteen launches of 10 us."""
PIECEWISE_LAUNCH_S = 0.06e-3
"""Per layer where graphs are cut around attention: two graph launches and the attention calls."""
HOST_SOURCE = "assumed: 0.8 ms and 8 us a request, overlapped where scheduling runs ahead"


def host_ns(num_requests: int) -> float:
    """Nanoseconds of host work for a step with so many requests."""
    return NS_PER_S * (HOST_S + HOST_PER_REQUEST_S * num_requests)
