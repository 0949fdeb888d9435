"""The prefix cache by tiers of memory: what each held, found and moved, as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import words
from .sheet import Sheet

if TYPE_CHECKING:
    from ..sim.plan import Plan
    from ..sim.summary import Summary

TITLES = {"gpu": "GPU", "host": "host memory", "secondary": "second tier"}
SIZES_GIB = (64, 256, 1024, 4096, 16384)
"""Host memory at which the curve is read, too."""
_TWO, _THREE = (words.NONE,) * 2, (words.NONE,) * 3


def bytes_per_token(plan: Plan) -> float:
    """Of the KV of one token, over all GPUs of the server."""
    server = plan.chosen.server
    block_bytes = server.budget.block_bytes * server.deployment.num_gpus
    return block_bytes / server.deployment.block_size


def hit_tokens(summary: Summary) -> dict[str, int]:
    """Prompt tokens found, by where they lay."""
    below = {"host": summary.host_hit_tokens, "secondary": summary.secondary_hit_tokens}
    return {"gpu": summary.prefix_hit_tokens - sum(below.values()), **below}


def tier_facts(summary: Summary) -> dict[str, str]:
    """Lines for the terminal; none where there is no tier below the GPU."""
    if not summary.host_peak_bytes + summary.secondary_peak_bytes:
        return {}
    ratios = _ratios(summary)
    shown = ("host", "secondary") if summary.secondary_peak_bytes else ("host",)
    facts = {
        f"hits in {TITLES[name]}, of prompt tokens": words.share(ratios[name]) for name in shown
    }
    facts["loaded from below the GPU"] = words.size(
        summary.host_out_bytes + summary.secondary_out_bytes
    )
    facts["waited for loads, all requests"] = words.seconds(summary.loading_s)
    return facts


def tier_sheet(plan: Plan) -> Sheet:
    """A row per memory, the GPU first; then what other sizes of host memory could find at best."""
    summary, result = plan.chosen.summary, plan.chosen.result
    ratios, hits = _ratios(summary), hit_tokens(summary)
    total = result.pool_slots * bytes_per_token(plan)
    first = ("GPU", words.size(total), words.count(hits["gpu"]), words.share(ratios["gpu"]))
    rows = [(*first, bound(plan, total), words.NONE, words.NONE, words.NONE)]
    for tier in result.tiers:
        total += tier.size_bytes
        rows.append(
            (
                f"+ {TITLES[tier.name]}",
                words.size(tier.size_bytes),
                words.count(hits[tier.name]),
                words.share(ratios[tier.name]),
                bound(plan, total),
                words.size(tier.in_bytes),
                words.size(tier.out_bytes),
                words.size(tier.peak_bytes),
            )
        )
    return Sheet(
        title="The prefix cache by tiers, and the LRU bound with more or less below the GPU",
        columns=(
            "memory",
            "size",
            "hit tokens",
            "of prompts",
            "bound so far",
            "moved in",
            "loaded",
            "peak",
        ),
        rows=(*rows, *_other_sizes(plan)),
    )


def bound(plan: Plan, size_bytes: float) -> str:
    """What an LRU cache of so many bytes in all finds of the prompts."""
    curve = plan.cache_curve
    if curve is None:
        return words.NONE
    blocks = int(size_bytes / bytes_per_token(plan)) // curve.block_tokens
    return words.share(curve.token_ratio(max(1, blocks)))


def _other_sizes(plan: Plan) -> list[tuple[str, ...]]:
    if plan.cache_curve is None:
        return []
    pool = plan.chosen.result.pool_slots * bytes_per_token(plan)
    sizes = [gib * words.GIB for gib in SIZES_GIB]
    return [
        (f"GPU + {words.size(size)}", words.size(size), *_TWO, bound(plan, pool + size), *_THREE)
        for size in sizes
    ]


def _ratios(summary: Summary) -> dict[str, float]:
    """Of the prompt tokens of all requests admitted."""
    if not summary.prefix_hit_tokens:
        return dict.fromkeys(TITLES, 0.0)
    per_token = summary.prefix_hit_ratio / summary.prefix_hit_tokens
    return {name: count * per_token for name, count in hit_tokens(summary).items()}
