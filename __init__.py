"""kvsim: simulate LLM KV-cache memory and plan serving capacity."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .api.deployment import Deployment as Deployment
    from .api.planning import Planned as Planned
    from .api.planning import plan as plan
    from .api.reading import read_trace as read_trace
    from .api.simulating import Simulation as Simulation
    from .api.simulating import simulate as simulate
    from .sim.slo import SLO as SLO
    from .traces.trace import Trace as Trace

__version__ = "0.1.0"
_HOMES = {
    "Deployment": "api.deployment",
    "Planned": "api.planning",
    "SLO": "sim.slo",
    "Simulation": "api.simulating",
    "Trace": "traces.trace",
    "plan": "api.planning",
    "read_trace": "api.reading",
    "simulate": "api.simulating",
}
"""Imported when they are asked for: ``kvsim --help`` needs none of them."""


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'kvsim' has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
