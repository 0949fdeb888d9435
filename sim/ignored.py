"""What a trace asks for that this version does not simulate: said, not swallowed."""

from __future__ import annotations

import numpy as np

from ..traces import Trace
from .deployment import Deployment
from .sequences import sharing_of


def ignored(
    trace: Trace, deployment: Deployment, *, concurrency: int | None = None
) -> tuple[str, ...]:
    """One sentence for each thing that is left out."""
    notes = []
    sharing = sharing_of(trace)
    if sharing == "beams" and deployment.scheduler == "vllm":
        notes.append(
            "vLLM's V1 engine searches beams outside, a request for each token; here they fork "
            "inside the engine, as in the PagedAttention paper."
        )
    if sharing == "n" and deployment.parallel_sampling == "fan_out":
        notes.append(
            "Each sample is a request of its own in the engine, as in vLLM's V1: the prefix cache "
            "shares full blocks of the prompt."
        )
    knows = trace.prefix_row is not None or (trace.hash_ids is not None and len(trace.hash_ids))
    if knows and not deployment.enable_prefix_caching:
        notes.append("What the trace says of equal prefixes is not used: prefix caching is off.")
    policy = deployment.scheduling_policy
    for name, column, used_by in (
        ("priorities", trace.priority, "priority"),
        ("tenants", trace.tenant, "fair"),
    ):
        tells = column is not None and np.ptp(column) > 0
        if tells and policy != used_by:
            notes.append(f"The trace's {name} are not used: scheduling_policy is {policy}.")
        if policy == used_by == "fair" and not tells:
            notes.append("The trace names no tenants: fair shares are first come, first served.")
    if deployment.scheduler == "static":
        notes.append(
            "Static batching: TTFT is when the first token is computed; the answer returns with "
            "its batch."
        )
    if concurrency is not None and trace.follows_parent.any():
        notes.append("In a closed loop each client plays one session after another.")
    return tuple(notes)
