"""Schedulers: one file and one line here each."""

from __future__ import annotations

from .base import Scheduler, SchedulerLimits, Step
from .orca import OrcaScheduler
from .static import StaticScheduler
from .vllm import VllmScheduler

SCHEDULERS: dict[str, type[Scheduler]] = {
    "orca": OrcaScheduler,
    "static": StaticScheduler,
    "vllm": VllmScheduler,
}

__all__ = ["SCHEDULERS", "Scheduler", "SchedulerLimits", "Step"]
