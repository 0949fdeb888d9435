"""The sensitivity tornado: what each input does to the answer, the strongest at the top."""

from __future__ import annotations

from ...sim.plan import Plan
from ...sim.sensitivity import Sensitivity
from .. import words
from ..picture import Picture
from ..sensitivity_sheets import sensitivity_sheet
from .factor_bars import HIGH, HOW_TO_READ, LOW, Panel, alt_of, factor_bars, shown_panels

__all__ = ["HIGH", "LOW", "tornado"]

_NO_RATE = ("request_rate",)
"""A backlog has none."""
PANELS = (
    Panel("output_tokens_per_s", "output tokens/s under backlog", words.count, leaves_out=_NO_RATE),
    Panel("mean_running", "requests at once under backlog", words.mean, leaves_out=_NO_RATE),
    Panel("ttft_p95_s", "TTFT p95 over the trace", words.seconds, is_time=True),
)


def tornado(plan: Plan) -> Picture | None:
    """Rows sorted by effect in each panel; None where nothing was varied."""
    found: Sensitivity | None = getattr(plan, "sensitivity", None)
    panels = [] if found is None else shown_panels(found, PANELS)
    if found is None or not panels:
        return None
    return Picture(
        name="tornado",
        title="What the answer depends on",
        caption=HOW_TO_READ,
        alt=alt_of(found, panels),
        figure=factor_bars(found, panels),
        sheet=sensitivity_sheet(found),
    )
