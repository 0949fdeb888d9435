"""What a trace asks for that this version does not simulate: said, not swallowed."""

from __future__ import annotations

import numpy as np

from ..traces import Trace
from .deployment import Deployment


def ignored(
    trace: Trace, deployment: Deployment, *, concurrency: int | None = None
) -> tuple[str, ...]:
    """One sentence for each thing that is left out."""
    notes = []
    several = 0 if trace.num_samples is None else int((trace.num_samples > 1).sum())
    beams = 0 if trace.beam_width is None else int((trace.beam_width > 0).sum())
    if several or beams:
        notes.append(
            f"{max(several, beams)} requests ask for several samples or beams; each is simulated "
            "as one sample."
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
