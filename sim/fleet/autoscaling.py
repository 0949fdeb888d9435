"""What an autoscaler is told; ``scaling`` acts on it."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from ...calibration.names import unknown_name

METRICS = {"outstanding": "target_ongoing_requests", "kv_usage": "target_kv_usage"}
"""What an autoscaler looks at, and the option that sets its target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Autoscaling:
    """How many replicas a pool has, from what they have to do.

    Every ``interval_s`` the wanted number is ``ceil(number * metric / target)``, unless the metric
    is within ``tolerance`` of its target (Kubernetes' HorizontalPodAutoscaler). A replica serves
    ``scale_out_delay_s`` after it was asked for: node, image, weights, CUDA graphs. After any
    change nothing is taken away for ``cooldown_s``.

    Raises:
        ValueError: an unknown metric, or a number out of range.
    """

    target: float
    """Of the metric, per replica."""
    metric: str = "outstanding"
    """Requests that wait or run (Ray Serve's ``target_ongoing_requests``), or the share of the KV
    pool that they fill: ``kv_usage``."""
    min_replicas: int = 1
    max_replicas: int = 8
    interval_s: float = 10.0
    scale_out_delay_s: float = 60.0
    cooldown_s: float = 300.0
    tolerance: float = 0.1

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise unknown_name(self.metric, METRICS, field="metric")
        if not 0 < self.target < inf:
            raise ValueError(f"{METRICS[self.metric]}(={self.target:g}) must be > 0.")
        if self.metric == "kv_usage" and self.target > 1:
            raise ValueError(f"target_kv_usage(={self.target:g}) must be in (0, 1].")
        if self.min_replicas < 1:
            raise ValueError(f"min_replicas(={self.min_replicas}) must be > 0.")
        if self.max_replicas < self.min_replicas:
            raise ValueError(
                f"max_replicas(={self.max_replicas}) must be >= min_replicas(={self.min_replicas})."
            )
        if not 0 < self.interval_s < inf:
            raise ValueError(f"interval(={self.interval_s:g}) must be > 0 s.")
        for name in ("scale_out_delay_s", "cooldown_s", "tolerance"):
            value = getattr(self, name)
            if not 0 <= value < inf:
                raise ValueError(f"{name.removesuffix('_s')}(={value:g}) must be >= 0.")
