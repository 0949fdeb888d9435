"""What a trace asks for that this version does not simulate: said, not swallowed."""

from __future__ import annotations

import numpy as np

from ..traces import Trace
from .deployment import Deployment
from .sequences import sharing_of


def _what_goes_alone(deployment: Deployment, sharing: str) -> str:
    """What vLLM's V1 engine does not do, so that its prefix cache is not beside it."""
    if deployment.preemption_mode != "recompute":
        return f"Preemption by {deployment.preemption_mode}"
    if deployment.pinned_prefix_tokens:
        return "A pinned prefix"
    forks = sharing and deployment.parallel_sampling == "fork"
    return "Forking inside the engine" if forks else ""


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
            "shares full blocks of the prompt. What runs and waits is counted in samples."
        )
    if sharing and deployment.parallel_sampling == "fork":
        notes.append("The sequences of a request are counted as one where requests are counted.")
    alone = _what_goes_alone(deployment, sharing)
    if alone and deployment.scheduler == "vllm" and deployment.allocator == "paged":
        notes.append(
            f"{alone} goes without the prefix cache and asynchronous scheduling, which are off; "
            "compare with a run that has --no-enable-prefix-caching --no-async-scheduling."
        )
    if deployment.pinned_prefix_tokens:
        with_it = float((trace.prompt_tokens > deployment.pinned_prefix_tokens).mean())
        notes.append(
            f"{100 * with_it:.1f} % of the prompts are longer than the pinned prefix of "
            f"{deployment.pinned_prefix_tokens} tokens and are taken to begin with it."
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
