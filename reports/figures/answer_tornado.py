"""The tornado of the answer: the rate that holds and its price, with one input at either end."""

from __future__ import annotations

from ...sim.planner.confidence import Confidence
from ..confidence_sheets import leverage_sheet, per_s, usd
from ..picture import Picture
from .factor_bars import HOW_TO_READ, Panel, alt_of, factor_bars, shown_panels

PANELS = (
    Panel("rate_per_s", "requests/s that hold, a replica", per_s),
    Panel("usd_per_million_output_tokens", "USD per million output tokens", usd),
)


def answer_tornado(found: Confidence) -> Picture | None:
    """Rows sorted by effect in each panel; None where nothing is held."""
    panels = shown_panels(found.leverage, PANELS)
    if not found.leverage.base.rate_per_s:
        return None
    return Picture(
        name="answer-tornado",
        title="What the rate and its price hang on",
        caption=f"{HOW_TO_READ} Burstiness is an exponent of the gaps between arrivals; the "
        "objective's limits are all changed together.",
        alt=alt_of(found.leverage, panels),
        figure=factor_bars(found.leverage, panels),
        sheet=leverage_sheet(found.leverage),
    )
