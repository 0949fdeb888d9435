"""What paging costs: our paged kernel against our contiguous one, alike but for the block table.

price = paged time / contiguous time - 1        on the same batch in the same run
"""

from __future__ import annotations

from collections.abc import Sequence

from .. import words
from ..calibration_data import Calibration
from ..calibration_goals import PAGING_GOAL, paging_pairs
from ..calibration_points import Point
from ..calibration_words import origin
from ..picture import Picture
from ..sheet import Sheet
from ..style import CATEGORY_COLOURS, QUIET, new_figure, quiet, row_titles
from .series import DASHED, beside_bar


def paging(calibration: Calibration) -> Picture | None:
    """Time of the paged kernel over that of the contiguous one, less 1."""
    pairs = paging_pairs(calibration)
    if not pairs:
        return None
    prices = [100 * (paged.seconds / flat.seconds - 1) for _, paged, flat in pairs]
    figure = new_figure(1.0 + 0.44 * len(pairs))
    axes = figure.subplots()
    goal = 100 * PAGING_GOAL
    for row, price in enumerate(prices):
        axes.barh(row, price, 0.34, color=CATEGORY_COLOURS["token_states"])
        beside_bar(axes, price, row, f"{price:+.1f} %")
    quiet(axes)
    row_titles(axes, [case for case, _, _ in pairs], above=0.2)
    axes.axvline(goal, color=QUIET, linewidth=1.1, linestyle=DASHED, zorder=1.5)
    axes.set_xlim(min(0.0, *prices) * 1.6, max(goal, *prices) * 1.3)
    axes.set_ylim(len(pairs) - 0.5, -0.6)
    axes.set_xlabel("time that blocks add, %")
    return Picture(
        name="price-of-paging",
        title="What paging costs",
        caption="Our paged kernel against our contiguous one, alike but for the block table, "
        f"{origin(calibration.profile).adjective}. Dashed: the goal of "
        f"{goal:.0f} %. The PagedAttention paper reports 20 to 26 % for its kernel.",
        alt="Price of paging: "
        + "; ".join(
            f"{case} {price:+.1f} %" for (case, _, _), price in zip(pairs, prices, strict=True)
        )
        + ".",
        figure=figure,
        sheet=_sheet(calibration, pairs),
    )


def _sheet(calibration: Calibration, pairs: Sequence[tuple[str, Point, Point]]) -> Sheet:
    return Sheet(
        title="Paged against contiguous",
        columns=(
            "case",
            f"paged, {origin(calibration.profile).adjective}",
            "contiguous",
            "blocks add",
        ),
        rows=tuple(
            (
                case,
                words.seconds(paged.seconds),
                words.seconds(flat.seconds),
                f"{(paged.seconds / flat.seconds - 1) * 100:+.1f} %",
            )
            for case, paged, flat in pairs
        ),
    )
