"""Legend entries of the pool's categories."""

from __future__ import annotations

from collections.abc import Iterable

from matplotlib.patches import Patch

from ..sheets import CATEGORY_TITLES
from ..style import CATEGORY_COLOURS

VISIBLE_SHARE = 0.001
"""Share of the pool below which an area cannot be seen and is left out of the legend."""


def category_patches(names: Iterable[str]) -> list[object]:
    """A patch per category, in the order in which they are stacked."""
    return [Patch(color=CATEGORY_COLOURS[name], label=CATEGORY_TITLES[name]) for name in names]
