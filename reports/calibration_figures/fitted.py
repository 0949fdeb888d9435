"""What the fit says against what was timed: every attention point, both axes logarithmic.

A point on the diagonal is met. Filled marks are those that the fit was made from, open ones those
that it has not seen.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .. import words
from ..calibration_data import Calibration
from ..calibration_fitted import fitted_s
from ..calibration_points import ATTENTION, Point
from ..calibration_words import FAMILY_TITLES, origin
from ..picture import Picture
from ..sheet import Sheet
from ..style import QUIET, legend, new_figure, quiet
from .series import FAMILY_STYLES, key, log_axis, open_mark

STYLE_OF = {name: name if name in FAMILY_STYLES else "decode" for name in ATTENTION}
SHOWN = {"decode": "decode", "prefill": "prefill", "mixed": "mixed"}
ROOM = 1.6
US = 1e6


class Pair(NamedTuple):
    """A point and what the fit gives for it."""

    point: Point
    fitted_s: float

    @property
    def error(self) -> float:
        """Relative, of the fit."""
        return self.fitted_s / self.point.seconds - 1


def attention_pairs(calibration: Calibration, *families: str) -> list[Pair]:
    """Points of these families for whose kernel there is a fit."""
    found = ((p, fitted_s(calibration.profile, p)) for p in calibration.of(*families))
    return [Pair(point, seconds) for point, seconds in found if seconds is not None]


def fitted(calibration: Calibration) -> Picture | None:
    """Points by family, the diagonal."""
    pairs = attention_pairs(calibration, *ATTENTION)
    if not pairs:
        return None
    figure = new_figure(4.9)
    axes = figure.subplots()
    quiet(axes, grid="both")
    for family, (colour, mark) in FAMILY_STYLES.items():
        for role in ("fit", "heldout"):
            chosen = [
                pair
                for pair in pairs
                if STYLE_OF[pair.point.sample.family] == family and pair.point.sample.role == role
            ]
            style: dict[str, Any] = {"marker": mark, "color": colour, "markersize": 4.0}
            style |= open_mark(colour) if role == "heldout" else {"markeredgewidth": 0}
            axes.plot(
                [pair.point.seconds * US for pair in chosen],
                [pair.fitted_s * US for pair in chosen],
                linestyle="none",
                zorder=3,
                **style,
            )
    times = [US * t for pair in pairs for t in (pair.point.seconds, pair.fitted_s)]
    limits = (min(times) / ROOM, max(times) * ROOM)
    axes.plot(limits, limits, color=QUIET, linewidth=1.1, zorder=2)
    for which in "xy":
        log_axis(axes, which)
    axes.set_xlim(*limits)
    axes.set_ylim(*limits)
    adjective = origin(calibration.profile).adjective
    axes.set_xlabel(f"{adjective}, us per layer")
    axes.set_ylabel("fitted, us per layer")
    drawn = dict.fromkeys(STYLE_OF[pair.point.sample.family] for pair in pairs)
    handles = [
        key(SHOWN[name], color=FAMILY_STYLES[name][0], marker=FAMILY_STYLES[name][1])
        for name in drawn
    ]
    handles.append(key("open: held out", marker="o", color=QUIET, **open_mark(QUIET)))
    legend(figure, list(handles), columns=2)
    sheet = _sheet(pairs)
    return Picture(
        name="fitted",
        title=f"Attention: {adjective} against fitted",
        caption="Every attention point, one layer. On the diagonal the fit is right; filled marks "
        "made the fit, open ones were kept from it.",
        alt="Errors of the fit: "
        + "; ".join(
            f"{family}, {split}: median {median}, 95 % within {p95}"
            for family, split, _, median, p95, *_ in sheet.rows
        )
        + ".",
        figure=figure,
        sheet=sheet,
    )


def _sheet(pairs: list[Pair]) -> Sheet:
    groups: dict[tuple[str, str], list[float]] = {}
    for pair in sorted(pairs, key=lambda pair: ATTENTION.index(pair.point.sample.family)):
        sample = pair.point.sample
        groups.setdefault((sample.family, sample.role), []).append(pair.error)
    return Sheet(
        title="Errors of the fit",
        columns=("points", "role", "number", "median", "P95", "worst", "bias"),
        rows=tuple(_row(*name, errors) for name, errors in groups.items()),
        text_columns=(0, 1),
    )


def _row(family: str, role: str, errors: list[float]) -> tuple[str, ...]:
    sizes = np.abs(errors)
    return (
        FAMILY_TITLES[family],
        "held out" if role == "heldout" else role,
        words.count(len(errors)),
        percent(float(np.median(sizes))),
        percent(float(np.percentile(sizes, 95))),
        percent(float(sizes.max())),
        f"{float(np.median(errors)) * 100:+.1f} %",
    )


def percent(error: float) -> str:
    """``1.3 %``, two digits below ten."""
    return f"{error * 100:.2f} %" if error < 0.1 else f"{error * 100:.1f} %"
