"""A figure for a dark page: its named colours changed, and back again.

Drawings follow the page by themselves, their ink is a variable of it. A picture made of pixels
cannot, so it is drawn twice, and the page shows the one that suits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb, to_rgba_array
from matplotlib.figure import Figure

from .style import FREE, GRID, INK, QUIET

ON_DARK_PAGE = {INK: "#e8ebef", QUIET: "#a3adb9", GRID: "#3a424d", FREE: "#343b45"}
"""Named colours and what the style sheet makes of them where the reader prefers a dark page."""

_COLOURED = ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor")
_PAIRS = [(to_rgb(light), to_rgb(dark)) for light, dark in ON_DARK_PAGE.items()]


@contextmanager
def darkened(figure: Figure) -> Iterator[None]:
    """Within it, the figure's named colours are those of a dark page."""
    undo = [put_back for artist in figure.findobj() for put_back in _recoloured(artist)]
    try:
        yield
    finally:
        for put_back in undo:
            put_back()


def _recoloured(artist: Any) -> list[Callable[[], object]]:
    """Change one artist's colours; returns what changes them back."""
    undo: list[Callable[[], object]] = []
    for name in _COLOURED:
        get, put = getattr(artist, f"get_{name}", None), getattr(artist, f"set_{name}", None)
        if get is None or put is None:
            continue
        before = get()
        after = _swapped(before)
        if after is not None:
            put(after)
            undo.append(partial(put, before))
    return undo


def _swapped(colour: Any) -> object | None:
    """One colour or rows of them for a dark page, opacity kept; None where nothing changes."""
    rows = to_rgba_array(colour)
    swapped = rows.copy()
    for light, dark in _PAIRS:
        named = np.isclose(rows[:, :3], light, atol=1e-6).all(axis=1)
        swapped[named, :3] = dark
    if np.array_equal(rows, swapped):
        return None
    return swapped if np.ndim(colour) > 1 else tuple(swapped[0])
