"""What a plan rests on, and what its reader should know of some candidates."""

from __future__ import annotations

from collections.abc import Sequence

from ..traces import Trace
from .candidate import Candidate
from .sequences import sharing_of
from .server import Server
from .startable import why_not_started


def _beams(chosen: Candidate, trace: Trace) -> list[str]:
    """What sharing is worth to a search, as no paged server searches without it."""
    if sharing_of(trace) != "beams":
        return []
    return [
        "Contiguous allocation holds every beam whole and copies what beams have in common: what "
        f"sharing is worth is the distance to it; {chosen.title} saves "
        f"{100 * chosen.summary.sharing_saved:.1f} % of the slots over the trace."
    ]


def caveats(trace: Trace, *candidates: Candidate) -> list[str]:
    """What only one could share, what was never served, which backlog was too short."""
    notes = _beams(candidates[0], trace)
    notes += [
        f"{one.title} finds {100 * one.summary.prefix_hit_ratio:.1f} % of the prompt tokens in its "
        "prefix cache; contiguous allocation cannot share, so part of the difference is that."
        for one in candidates
        if one.summary.prefix_hit_tokens
    ]
    notes += [
        f"{one.title}: {one.summary.num_unfinished} requests of the trace were never served."
        for one in candidates
        if one.summary.num_unfinished
    ]
    return notes + [
        f"Memory alone, {one.title}: at least {one.memory_backlog.mean_running:.0f} at once; the "
        "backlog ran dry before it filled the pool."
        for one in candidates
        if one.memory_backlog is not None and not one.memory_backlog.saturated
    ]


def of_pages(servers: Sequence[Server]) -> tuple[str, ...]:
    """What the virtual-contiguous candidates rest on."""
    return tuple(
        f"{flags.title} maps {flags.page_bytes >> 10} KiB for the keys and the values of each "
        f"layer at once, {flags.page_bytes // flags.kv_row_bytes} tokens; mapping is taken to be "
        "hidden behind the steps."
        for flags in (server.deployment for server in servers)
        if flags.allocator == "virtual"
    )


def assumptions(server: Server) -> tuple[str, ...]:
    """What all candidates rest on."""
    flags, band = server.deployment, server.cost.band
    refused = why_not_started(server)
    return (
        *((f"vLLM would not start this server: {refused}.",) if refused else ()),
        f"Step times: {server.cost.origin}, expected within {band.low:.2f}-{band.high:.2f} of the "
        f"figure ({band.source}).",
        "Lengths are those of the trace: a request generates exactly its output tokens.",
        f"All candidates run the {flags.scheduler} scheduler with the same flags and KV bytes; "
        "only the allocator differs.",
        f"Contiguous max reserves max_model_len (= {flags.max_model_len} tokens) for each request; "
        "pow2 the prompt and the output rounded up to a power of two; oracle what is needed.",
        "Only the paged candidate shares prefixes: contiguous allocation has no blocks to share.",
        "Contiguous and paged attention are given the same step time.",
    )
