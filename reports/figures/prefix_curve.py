"""The trace's prefix-cache curve with the pool on it: what a larger cache would find.

The curve is that of a cache of nothing but prompt blocks, without timing; the simulated server's
pool also holds outputs and what its running requests need, finds blocks of its own size and never
a prompt's last token. So its mark mostly lies below the curve; above it where answers are asked
again.
"""

from __future__ import annotations

from matplotlib.axes import Axes

from ...sim.plan import Plan
from ...traces.cache_curve import CacheCurve
from .. import words
from ..cache_curve import CONVENTIONS, SIZES, curve_sheet, draw_curve
from ..picture import Picture
from ..style import CATEGORY_COLOURS, FONT_PT, INK, QUIET, new_figure

_SIMULATED = CATEGORY_COLOURS["internal"]


def prefix_curve(plan: Plan) -> Picture | None:
    """Hit ratio against cache size; None where the trace has no prefix ids."""
    curve: CacheCurve | None = getattr(plan, "cache_curve", None)
    if curve is None or not len(curve.size_blocks):
        return None
    pool = max(1, plan.chosen.result.pool_slots // curve.block_tokens)
    figure = new_figure(3.3)
    axes = figure.subplots()
    draw_curve(axes, curve, last_blocks=2 * pool)
    _mark_pool(axes, pool, plan)
    caching = plan.chosen.server.deployment.enable_prefix_caching
    simulated = plan.chosen.summary.prefix_hit_ratio
    if caching:
        _mark_simulated(axes, pool, simulated, above=simulated > curve.token_ratio(pool))
    axes.set_ylim(0, max(100 * curve.token_ratio(None), 100 * simulated, 1.0) * 1.22)
    at_pool = curve.token_ratio(pool)
    whole = curve.token_ratio(None)
    sizes = sorted({*(size for size in SIZES if size < curve.unique_blocks), pool})
    return Picture(
        name="prefix-curve",
        title="What a prefix cache finds, by its size",
        caption="Blue: share of the prompt tokens that an LRU cache of so many blocks finds, "
        "prompts alone, one after another. Dashed: the KV pool, if it held nothing else. "
        + _simulated_words(caching=caching)
        + "Left of the knee the cache is too small for what comes again; where the line is level, "
        f"more memory finds nothing more. {CONVENTIONS[curve.convention]}",
        alt=f"Hit ratio against cache size: {words.share(at_pool)} at the pool's "
        f"{words.count(pool)} blocks of {curve.block_tokens} tokens, {words.share(whole)} without "
        "limit" + (f"; {words.share(simulated)} in the simulation." if caching else "."),
        figure=figure,
        sheet=curve_sheet(curve, sizes),
    )


def _mark_pool(axes: Axes, pool: int, plan: Plan) -> None:
    axes.axvline(pool, color=QUIET, lw=1.2, linestyle=(0, (4, 3)))
    axes.annotate(
        f"KV pool {plan.budget.kv_cache_bytes / words.GIB:.1f} GiB",
        (pool, 0.99),
        xycoords=("data", "axes fraction"),
        xytext=(-5, 0),
        textcoords="offset points",
        ha="right",
        va="top",
        color=INK,
        size=FONT_PT - 1,
    )


def _mark_simulated(axes: Axes, pool: int, ratio: float, *, above: bool) -> None:
    """Named on the side where the curve is not."""
    axes.plot([pool], [100 * ratio], marker="D", markersize=8, color=_SIMULATED, zorder=4)
    axes.annotate(
        f"simulated {words.share(ratio)}",
        (pool, 100 * ratio),
        xytext=(-8, 3 if above else -5),
        textcoords="offset points",
        ha="right",
        va="bottom" if above else "top",
        color=INK,
        size=FONT_PT - 1,
    )


def _simulated_words(*, caching: bool) -> str:
    if not caching:
        return "Prefix caching is off, so the simulated server found nothing. "
    return (
        "Diamond: what the simulated server found; its pool also holds the requests that run, and "
        "their answers, which later turns may repeat. "
    )
