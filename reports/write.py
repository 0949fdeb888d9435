"""A plan on disk: ``report.html``, ``plan.json`` and a PNG of every figure; whole or not at all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from ..sim.plan import Plan
from ..sim.store import json_bytes, write_files
from .figures import plan_pictures
from .page import plan_page
from .render import png
from .style import fresh


def write_plan(plan: Plan, directory: str | Path) -> list[Path]:
    """Build everything, then write it; returns the paths, ``report.html`` first.

    Raises:
        ValueError: the folder cannot be written to.
    """
    return write_files(directory, plan_files(plan))


def plan_files(plan: Plan) -> dict[str, bytes]:
    """The report's files by name; the same plan gives the same bytes."""
    with fresh():
        pictures = plan_pictures(plan)
        return {
            "report.html": plan_page(plan, pictures).encode(),
            "plan.json": json_bytes(finite(plan.to_json())),
            **{f"{picture.name}.png": png(picture) for picture in pictures},
        }


def finite(value: object) -> object:
    """JSON knows no infinity: a ratio to a baseline that runs nothing becomes None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: finite(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return value
