"""Which requests of a trace a server can run: the rest is rejected at arrival, with a reason."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .allocators import Allocator
from .batch import RunningBatch
from .content import Contents
from .deployment import Deployment
from .engine import make_allocator, make_scheduler
from .request import Request
from .schedulers import Scheduler
from .sequences import check_widths, make_requests, shares


class Arrivals(Contents, Protocol):
    """The columns of a trace that a simulation reads (see ``kvsim.traces.Trace``)."""

    @property
    def arrival_s(self) -> NDArray[np.float64] | None: ...
    @property
    def cancel_s(self) -> NDArray[np.float64] | None: ...
    @property
    def delay_s(self) -> NDArray[np.float64] | None: ...
    @property
    def priority(self) -> NDArray[np.int64] | None: ...
    @property
    def tenant(self) -> NDArray[np.int64] | None: ...


def rejections(trace: Arrivals, deployment: Deployment, num_gpu_blocks: int) -> list[str]:
    """For each request the reason why it would be rejected at arrival; empty where it would not."""
    check_widths(trace, deployment)
    allocator = make_allocator(deployment, num_gpu_blocks, sharing=shares(trace, deployment))
    scheduler = make_scheduler(deployment, allocator, RunningBatch())
    return [
        why_rejected(request, deployment, scheduler, allocator)
        for request in make_requests(trace, deployment)
    ]


def servable_rows(
    trace: Arrivals, deployment: Deployment, num_gpu_blocks: int
) -> NDArray[np.int64]:
    """Rows of the requests that would not be rejected."""
    reasons = rejections(trace, deployment, num_gpu_blocks)
    return np.array([row for row, reason in enumerate(reasons) if not reason], dtype=np.int64)


def why_rejected(
    request: Request, deployment: Deployment, scheduler: Scheduler, allocator: Allocator
) -> str:
    """The reason to reject a request at arrival, empty if there is none."""
    longest = deployment.max_model_len
    if request.prompt_tokens >= longest:
        return f"the prompt leaves no room in max_model_len(={longest})"
    if deployment.on_impossible == "stall":
        return ""
    return scheduler.why_never(request) or allocator.why_never(request)
