"""What this engine's host does in a step, from logs of a card: for step times of a profile.

    period = GPU + step + per request * rows             steps in a captured graph
    launch per layer = launch / layers                   steps without one, in the median

The GPU's own part is left to the profile, which was measured apart from any run.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import nnls

from ..host import HostTimes
from .log_reader import Log
from .periods import periods_s

LEAST_STEPS = 20


def host_of(logs: Sequence[Log]) -> HostTimes:
    """The host's times of the engine that wrote these logs.

    Raises:
        ValueError: logs of a CPU, or with too few steps of either kind.
    """
    graphs, launches = [], []
    for log in logs:
        num_layers = int(log.header.model["num_layers"])
        for step, period_s in zip(log.steps, periods_s(log.steps), strict=True):
            if step.compiled or np.isnan(step.gpu_s) or not step.rows:
                continue
            if step.bucket:
                graphs.append((len(step.rows), period_s - step.gpu_s))
            elif any(row.new_tokens > 1 for row in step.rows):
                launches.append(step.launch_s / num_layers)
    for name, found in (("with a graph", graphs), ("with a chunk", launches)):
        if len(found) < LEAST_STEPS:
            raise ValueError(
                f"fit(={len(found)} steps {name} on a GPU) must have >= {LEAST_STEPS}: the host's "
                "times beside a profile come from such steps."
            )
    rows, rest_s = np.array(graphs).T
    (step_s, per_request_s), _ = nnls(np.column_stack([np.ones(len(rows)), rows]), rest_s)
    per_layer_s = float(np.median(launches))
    return HostTimes(
        step_s=float(step_s),
        per_request_s=float(per_request_s),
        gap_s=0.0,
        eager_layer_s=per_layer_s,
        piecewise_layer_s=per_layer_s,
        source=f"fitted to {len(graphs) + len(launches)} logged steps",
    )
