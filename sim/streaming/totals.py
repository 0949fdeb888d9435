"""The summary of a streamed run: what ``summarise`` makes of a whole result, from the folds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...calibration.step_cost import NS_PER_S
from ..allocators.tiers import TIERS
from ..result import CANCELLED, FINISHED, REJECTED, UNFINISHED
from ..summary import PoolShare, Summary
from .fold import SegmentFold, quantiles
from .run import Streamed


def summarise_stream(
    run: Streamed,
    *,
    settings: Mapping[str, object] | None = None,
    sources: Mapping[str, object] | None = None,
    digests: Mapping[str, str] | None = None,
) -> Summary:
    """The scalars of a streamed run: exact, but for percentiles, which are within 0.1 %."""
    requests, segments, moved = run.requests, run.segments, run.moved
    makespan_s = max(segments.end_s - requests.begin_s, 0.0)
    per_s = 1.0 / makespan_s if makespan_s > 0 else 0.0
    sums = requests.sums
    hits, asked = int(sums["cached_tokens"]), requests.looked_up_tokens
    tiers: dict[str, Any] = {**_tier_totals(run)}
    return Summary(
        num_requests=sum(requests.status.values()),
        num_finished=requests.count(FINISHED),
        num_rejected=requests.count(REJECTED),
        num_unfinished=requests.count(UNFINISHED),
        num_cancelled=requests.count(CANCELLED),
        num_length_capped=run.num_length_capped,
        reject_reasons=dict(sorted(requests.reasons.items())),
        makespan_s=makespan_s,
        requests_per_s=requests.count(FINISHED) * per_s,
        output_tokens_per_s=requests.output_tokens * per_s,
        total_tokens_per_s=(requests.output_tokens + requests.prompt_tokens) * per_s,
        ttft_s=quantiles(requests.ttft),
        tpot_s=quantiles(requests.tpot),
        itl_s=quantiles(segments.itl, linear=False),
        e2e_s=quantiles(requests.e2e),
        num_steps=run.num_steps,
        num_preemptions=int(sums["num_preemptions"]),
        wasted_tokens=int(sums["wasted_tokens"]),
        mean_running=segments.running_s * per_s,
        peak_running=segments.peak_running,
        mean_waiting=sums["waited_s"] * per_s,
        peak_waiting=run.peak_waiting,
        effective_kv_utilisation=segments.share("token_states", segments.busy_s),
        pool_share=_pool_share(segments, makespan_s),
        pool_slots=run.pool_slots,
        prefix_hit_tokens=hits,
        prefix_hit_ratio=hits / asked if asked else 0.0,
        shared_saved=segments.share("saved", segments.busy_s),
        sharing_saved=_sharing_saved(segments),
        num_copied_blocks=moved.num_copied_blocks,
        copied_bytes=moved.copied_bytes,
        num_swaps=moved.num_swaps,
        swapped_out_bytes=moved.swapped_out_bytes,
        swapped_in_bytes=moved.swapped_in_bytes,
        moving_s=moved.moving_ns / NS_PER_S,
        loading_s=sums["loaded_s"],
        **tiers,
        settings=dict(settings or {}),
        sources=dict(sources or {}),
        digests=dict(digests or {}),
    )


def _pool_share(segments: SegmentFold, over_s: float) -> PoolShare:
    shares = {name: segments.share(name, over_s) for name in segments.slot_s if name != "saved"}
    return PoolShare(**shares, free=1.0 - sum(shares.values()))


def _sharing_saved(segments: SegmentFold) -> float:
    slot_s = segments.slot_s
    without = sum(slot_s[name] for name in ("token_states", "reserved", "internal", "saved"))
    return slot_s["saved"] / without if without > 0 else 0.0


def _tier_totals(run: Streamed) -> dict[str, int]:
    uses = {tier.name: tier for tier in run.tiers}
    hits = {f"{name}_hit_tokens": int(run.requests.sums[f"{name}_hit_tokens"]) for name in TIERS}
    moved = {
        f"{name}_{kind}_bytes": getattr(uses[name], f"{kind}_bytes") if name in uses else 0
        for name in TIERS
        for kind in ("in", "out", "peak")
    }
    return {**hits, **moved}
