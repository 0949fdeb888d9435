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
    by_priority = deployment.scheduling_policy == "priority"
    if not by_priority and trace.priority is not None and np.ptp(trace.priority) > 0:
        notes.append("The trace's priorities are not used: scheduling_policy is fcfs.")
    if deployment.scheduler == "static":
        notes.append(
            "Static batching: TTFT is when the first token is computed; the answer returns with "
            "its batch."
        )
    if concurrency is not None and trace.follows_parent.any():
        notes.append("In a closed loop each client plays one session after another.")
    return tuple(notes)
