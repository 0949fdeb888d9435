"""Schedulers: one file and one line here each."""

from __future__ import annotations

from .base import Scheduler
from .orca import OrcaScheduler
from .sarathi import SarathiScheduler
from .static import StaticScheduler
from .step import SchedulerLimits, Step
from .transformers import PrefillFirstScheduler, TransformersScheduler
from .vllm import VllmScheduler
from .vllm_v0 import VllmV0Scheduler

SCHEDULERS: dict[str, type[Scheduler]] = {
    "orca": OrcaScheduler,
    "sarathi": SarathiScheduler,
    "static": StaticScheduler,
    "transformers": TransformersScheduler,
    "transformers_prefill_first": PrefillFirstScheduler,
    "vllm": VllmScheduler,
    "vllm_v0": VllmV0Scheduler,
}
TRANSFORMERS = ("transformers", "transformers_prefill_first")
"""Those of transformers' continuous batching."""

__all__ = ["SCHEDULERS", "TRANSFORMERS", "Scheduler", "SchedulerLimits", "Step"]
