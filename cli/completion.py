"""What the shell offers for the values of an option; loaded only when it asks."""

from __future__ import annotations

from collections.abc import Iterable


def gpu_names(incomplete: str) -> list[str]:
    """GPUs known by name."""
    from ..calibration.gpus import known_gpus

    return _beginning((gpu.name for gpu in known_gpus()), incomplete)


def model_names(incomplete: str) -> list[str]:
    """Models known by name."""
    from ..calibration.models import known_models

    return _beginning((model.name for model in known_models()), incomplete)


def format_names(incomplete: str) -> list[str]:
    """Trace formats."""
    from ..traces import FORMATS

    return _beginning(("auto", *FORMATS), incomplete)


def scheduler_names(incomplete: str) -> list[str]:
    """Schedulers."""
    from ..sim.schedulers import SCHEDULERS

    return _beginning(SCHEDULERS, incomplete)


def router_names(incomplete: str) -> list[str]:
    """Routers of a fleet."""
    from ..sim.fleet.routers import ROUTERS

    return _beginning(ROUTERS, incomplete)


def allocator_names(incomplete: str) -> list[str]:
    """Allocators."""
    from ..sim.allocators import ALLOCATORS

    return _beginning(ALLOCATORS, incomplete)


def reproducible_names(incomplete: str) -> list[str]:
    """Published results."""
    from ..sim.reproduce import ROWS

    return _beginning(ROWS, incomplete)


def page_sizes(incomplete: str) -> list[str]:
    """Sizes of a page of virtual-contiguous memory."""
    from ..sim.pages import PAGE_SIZES

    return _beginning(PAGE_SIZES, incomplete)


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    """Of names those that go on from what was typed, behind its last comma."""
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in names if name.startswith(last)]
