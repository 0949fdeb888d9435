"""Errors of the fits, sorted: a panel per family, its goals as crosses.

A curve goes through (share of the points, error that they stay within). It meets a goal where it
passes below its cross: half of the points within the first, 95 % within the second. A linear
layer's error is that of its table at token counts that were held out; where none were, of each time
read off its neighbours, as if it had not been taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from .. import words
from ..calibration_data import Calibration
from ..calibration_fitted import left_out_errors, table_error
from ..calibration_goals import ERROR_GOALS_PCT
from ..calibration_words import batch_words, kernel, origin
from ..picture import Picture
from ..sheet import Sheet
from ..style import FONT_PT, INK, QUIET, legend, new_figure, quiet
from .fitted import Pair, attention_pairs
from .series import FAMILY_STYLES, key, log_axis

PANELS = {
    "decode": ("decode attention", ("decode", "ragged", "kv_dtypes", "block_sizes")),
    "prefill": ("prefill attention", ("prefill",)),
    "gemm": ("linear layers", ()),
}
SHARES = (50, 95)
"""Of the points, in per cent, that a family's two goals are for."""
LEAST_PCT = 0.05
"""Smaller errors are drawn here: the axis is logarithmic."""
MOST_NAMED = 12
FIT: dict[str, Any] = {"color": QUIET, "linewidth": 1.2, "linestyle": (0, (1, 1.2))}
GOAL: dict[str, Any] = {"marker": "P", "markersize": 8, "color": INK, "markeredgecolor": "none"}


def residuals(calibration: Calibration) -> Picture | None:
    """Sorted absolute errors of what was held out, thick; of what made the fit, dotted."""
    panels = {name: _errors(calibration, name) for name in PANELS}
    panels = {name: roles for name, roles in panels.items() if any(roles.values())}
    if not panels:
        return None
    figure = new_figure(0.9 + 1.75 * len(panels))
    column = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, roles) in zip(column, panels.items(), strict=True):
        _panel(axes, name, roles)
    column[-1].set_xlabel("share of the points, %")
    handles = [
        key("held out", color=QUIET, linestyle="-", linewidth=2.2),
        key("made the fit", **FIT),
        key("goal", **GOAL),
    ]
    legend(figure, list(handles), columns=3)
    return Picture(
        name="residuals",
        title="Errors of the fits, sorted",
        caption="The error that so many of the points stay within; a curve that passes below a "
        "cross meets that goal. Held out are points that the fit has not seen; of linear layers "
        "without such points, each time of the table, read off its neighbours.",
        alt="Held-out errors: "
        + "; ".join(
            f"{PANELS[name][0]} {_said(roles['heldout'])}" for name, roles in panels.items()
        )
        + ".",
        figure=figure,
        sheet=_sheet(calibration),
    )


def _errors(calibration: Calibration, panel: str) -> dict[str, list[float]]:
    """Absolute, in per cent, by role."""
    if panel == "gemm":
        return {"fit": [], "heldout": [abs(error) * 100 for error in _table_errors(calibration)]}
    pairs = attention_pairs(calibration, *PANELS[panel][1])
    return {
        role: [abs(pair.error) * 100 for pair in pairs if pair.point.sample.role == role]
        for role in ("fit", "heldout")
    }


def _table_errors(calibration: Calibration) -> list[float]:
    """Of token counts that were held out, or of each inner one of a table where none were."""
    profile = calibration.profile
    if not calibration.of("gemm"):
        return []
    held_out = (table_error(profile, p) for p in calibration.of("gemm", roles=("heldout",)))
    found = [error for error in held_out if error is not None]
    return found or [e for table in profile.gemm_tables for _, e in left_out_errors(table)]


def _panel(axes: Axes, name: str, roles: dict[str, list[float]]) -> None:
    quiet(axes, grid="both")
    colour, _ = FAMILY_STYLES[name]
    for role, style in (("fit", FIT), ("heldout", {"color": colour, "linewidth": 2.2})):
        if roles[role]:
            axes.plot(*_sorted(roles[role]), **style)
    axes.plot(SHARES, ERROR_GOALS_PCT[name], linestyle="none", zorder=4, clip_on=False, **GOAL)
    for share, goal in zip(SHARES, ERROR_GOALS_PCT[name], strict=True):
        seen = roles["heldout"] or roles["fit"]
        side = 1 if np.percentile(seen, share) < goal else -1  # away from the curve
        axes.annotate(
            f"{goal:g} %",
            (share, goal),
            xytext=(0, 6 * side),
            textcoords="offset points",
            ha="center",
            va="bottom" if side > 0 else "top",
            color=INK,
            size=FONT_PT - 2,
        )
    log_axis(axes, "y")
    axes.set_xlim(0, 100)
    highest = max(*(x for errors in roles.values() for x in errors), *ERROR_GOALS_PCT[name])
    axes.set_ylim(LEAST_PCT, highest * 2.2)
    axes.set_ylabel("error, %")
    axes.set_title(PANELS[name][0], loc="left", size=FONT_PT, color=INK, weight="bold", pad=6)


def _sorted(errors: Sequence[float]) -> tuple[list[float], list[float]]:
    ordered = sorted(max(error, LEAST_PCT) for error in errors)
    return [100 * (i + 1) / len(ordered) for i in range(len(ordered))], ordered


def _said(errors: Sequence[float]) -> str:
    if not errors:
        return "none"
    median, p95 = np.percentile(errors, SHARES)
    return f"median {median:.1f} %, 95 % within {p95:.1f} %"


def _sheet(calibration: Calibration) -> Sheet:
    """The attention points that the fits miss most."""
    names = [family for _, families in PANELS.values() for family in families]
    pairs = attention_pairs(calibration, *names, "mixed")
    worst = sorted(pairs, key=lambda pair: -abs(pair.error))[:MOST_NAMED]
    return Sheet(
        title="The attention points that the fits miss most",
        columns=("batch", "kernel", "role", origin(calibration.profile).adjective, "fitted", "off"),
        rows=tuple(_row(pair) for pair in worst),
        text_columns=(0, 1, 2),
    )


def _row(pair: Pair) -> tuple[str, ...]:
    point = pair.point
    return (
        batch_words(point),
        kernel(point.key),
        "held out" if point.sample.role == "heldout" else point.sample.role,
        words.seconds(point.seconds),
        words.seconds(pair.fitted_s),
        f"{pair.error * 100:+.1f} %",
    )
