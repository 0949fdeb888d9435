"""A plan on disk: ``report.html``, ``plan.json``, each figure as PNG and SVG; whole or not.

With a decision also ``recommended.toml``, what was chosen as a suite of one case.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from ..sim.files import json_bytes
from ..sim.folder import write_folder
from ..sim.parallel import jobs_for
from ..sim.plan import Plan
from ..sim.planner.toml import recommendation
from .figures import plan_pictures
from .interval import interval_lines
from .page import plan_page
from .render import drawn
from .style import fresh

KIND = "plan"


def write_plan(plan: Plan, directory: str | Path, *, force: bool = False) -> list[Path]:
    """Build everything, then write it; returns the paths, ``report.html`` first.

    Args:
        plan: what to show.
        directory: made where missing.
        force: write beside files that are not kvsim's.

    Raises:
        ValueError: the folder cannot be written to, or holds files that kvsim did not write.
    """
    return write_folder(directory, KIND, plan_files(plan, directory), force=force)


def plan_files(plan: Plan, directory: str | Path = ".") -> dict[str, bytes]:
    """The report's files by name; the same plan gives the same bytes.

    Args:
        plan: what to show.
        directory: where they will stand: paths in the recommendation are seen from there.
    """
    with fresh():
        pictures = plan_pictures(plan)
        busy = plan.decision is not None  # then the other processes are there already
        forms = drawn(pictures, jobs=None if busy else jobs_for(len(plan.trace)))
        elements = {name: form.element for name, form in forms.items()}
        return {
            "report.html": plan_page(
                plan, pictures, interval_lines(plan), elements, directory=directory
            ).encode(),
            "plan.json": json_bytes(finite(plan.to_json())),
            **_recommended(plan, directory),
            **{f"{name}.png": form.png for name, form in forms.items()},
            **{f"{name}.svg": form.svg for name, form in forms.items()},
        }


def _recommended(plan: Plan, directory: str | Path) -> dict[str, bytes]:
    if plan.decision is None or plan.decision.chosen is None:
        return {}
    return {"recommended.toml": recommendation(plan.decision, directory).encode()}


def finite(value: object) -> object:
    """JSON knows no infinity: a ratio to a baseline that runs nothing becomes None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: finite(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return value
