"""What a simulation gives back: columns of requests, segments of occupancy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..calibration.step_cost import NS_PER_S
from .allocators.tiers import TIERS
from .moved import Moved
from .phases import phase_columns
from .recorder import OPENING, Recorder, Segment
from .request import Request
from .tier_use import TierUse

Columns = Mapping[str, NDArray[Any]]
Floats = NDArray[np.float64]

FINISHED, REJECTED, UNFINISHED = "finished", "rejected", "unfinished"
CANCELLED = "cancelled"
CATEGORIES = ("token_states", "reserved", "internal", "external", "cached", "free")
"""What a slot of the pool may be."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Result:
    """One simulated server.

    ``requests`` has a row per request of the trace: ``index``, ``arrival_s``, ``scheduled_s``,
    ``first_token_s``, ``finish_s`` (NaN where it did not happen), ``waited_s`` in the queue
    (samples that are requests of their own: all of them together), ``prompt_tokens``,
    ``output_tokens`` (of its first sequence), ``num_sequences`` (samples or beams),
    ``generated_tokens`` (of all of them), ``cached_tokens`` (of the prompt, found in the prefix
    cache when first admitted, by all samples that fan out), ``num_preemptions``, ``wasted_tokens``
    (computed again after preemptions), ``host_hit_tokens`` and ``secondary_hit_tokens`` (part of
    ``cached_tokens``, from memory below the GPU), ``loaded_s`` (waited for what came from there),
    ``status``, ``reject_reason``. Of a cancelled request ``finish_s`` is when it left and
    ``output_tokens`` what it had by then.

    ``segments`` has a row per run of steps: ``start_s``, ``duration_s``, ``first_step_s`` and
    ``step_slope_s`` (step j of it lasts first + j * slope), ``num_steps``, ``num_decodes``,
    ``num_running``, ``num_waiting`` (at its start), ``blocked`` (the head of the queue waits for
    memory), and the mean slots of each kind over it: ``token_states``, ``reserved``, ``internal``,
    ``external``, ``cached`` (nobody's, but still of use to a later request), ``free``; beside them
    ``saved``, the slots that sharing saves. A row of no steps is a pause in which KV stays cached,
    or in which all who run load. With memory below the GPU there are also ``host_bytes`` and
    ``secondary_bytes``, what is there as the row ends.

    ``openings`` has a row per run of more than one step: its ``segment``, and the slots that held
    KV (``tokens``), were granted (``held``), of these never filled (``internal``) and ``cached`` as
    it began.

    ``pauses`` has a row per preemption, in order of ``index``: ``preempted_s``, ``admitted_s``
    (again) and ``resumed_s``, when the first token after it arrives (NaN where it did not happen);
    ``swapped``: its KV was in host memory meanwhile.
    """

    requests: Columns
    segments: Columns
    openings: Columns
    pauses: Columns
    gaps_s: NDArray[np.float64]
    """Inter-token times across preemptions and steps that left a request out."""
    gap_ends_s: NDArray[np.float64]
    """When they ended."""
    pool_slots: int
    """Tokens that the KV pool holds."""
    num_steps: int
    peak_waiting: int
    num_length_capped: int
    """Requests whose output was cut at max_model_len."""
    looked_up_tokens: int
    """Prompt tokens of all that was admitted: samples that fan out each look their prompt up."""
    moved: Moved
    """Blocks copied and swapped."""
    loads: Columns
    """A row per load: ``index``, ``start_s`` (admitted), ``end_s`` (all of it on the GPU)."""
    tiers: tuple[TierUse, ...] = ()
    """Memory below the GPU, from the GPU down."""

    @property
    def status(self) -> NDArray[np.str_]:
        """Per request: finished, rejected, cancelled or unfinished."""
        return np.asarray(self.requests["status"], dtype=np.str_)

    @property
    def starts(self) -> Columns:
        """The slots of each kind as each segment begins; nothing changes within a single step."""
        starts = {name: self.segments[name].copy() for name in CATEGORIES}
        at = self.openings["segment"].astype(np.int64)
        tokens, held, internal, cached = (self.openings[name] for name in OPENING[1:])
        external = self.segments["external"][at]
        opened = _categories(tokens, held, internal, external, cached, self.pool_slots)
        for name, column in opened.items():
            starts[name][at] = column
        return starts

    @property
    def phases(self) -> Columns:
        """What each request went through: ``index``, ``phase``, ``start_s``, ``end_s``."""
        arrived = self.status != REJECTED
        requests = {name: column[arrived] for name, column in self.requests.items()}
        return phase_columns(requests, self.pauses, self.loads)


def collect(
    requests: Sequence[Request],
    recorder: Recorder,
    *,
    pool_slots: int,
    peak_waiting: int,
    num_length_capped: int,
    families: Mapping[int, Sequence[Request]],
    moved: Moved,
    tiers: tuple[TierUse, ...] = (),
) -> Result:
    """Turn the mutable state of a finished simulation into a :class:`Result`."""
    openings = np.array(recorder.openings).reshape(-1, len(OPENING)).T
    return Result(
        requests=request_columns(requests, families),
        segments={
            **segment_columns(recorder.segments, pool_slots),
            **_level_columns(recorder, tiers),
        },
        openings=dict(zip(OPENING, openings, strict=True)),
        pauses=_pause_columns(requests),
        gaps_s=np.array(recorder.gaps_ns, dtype=np.float64) / NS_PER_S,
        gap_ends_s=np.array(recorder.gap_ends_ns, dtype=np.float64) / NS_PER_S,
        pool_slots=pool_slots,
        num_steps=recorder.num_steps,
        peak_waiting=peak_waiting,
        num_length_capped=num_length_capped,
        looked_up_tokens=_looked_up_tokens(requests, families),
        moved=moved,
        loads=_load_columns(requests),
        tiers=tiers,
    )


def _looked_up_tokens(
    requests: Sequence[Request], families: Mapping[int, Sequence[Request]]
) -> int:
    sequences = (one for row in requests for one in families.get(row.index, (row,)))
    return sum(one.prompt_tokens for one in sequences if one.scheduled_ns == one.scheduled_ns)


def request_columns(
    requests: Sequence[Request], families: Mapping[int, Sequence[Request]]
) -> Columns:
    def seconds(name: str) -> NDArray[np.float64]:
        return np.array([getattr(r, name) for r in requests], dtype=np.float64) / NS_PER_S

    def whole(name: str) -> NDArray[np.int64]:
        return np.array([getattr(r, name) for r in requests], dtype=np.int64)

    reasons = [r.reject_reason for r in requests]
    finish_s = seconds("finish_ns")
    status = np.where(np.isnan(finish_s), UNFINISHED, FINISHED).astype("<U10")
    status[[bool(reason) for reason in reasons]] = REJECTED
    status[[r.cancelled for r in requests]] = CANCELLED
    prompt, total = whole("prompt_tokens"), whole("total_tokens")
    num_sequences = np.ones(len(requests), dtype=np.int64)
    generated = total - prompt
    for place, row in enumerate(requests if families else ()):
        several = families.get(row.index, (row,))
        num_sequences[place] = len(several)
        generated[place] = sum(one.total_tokens - one.prompt_tokens for one in several)
    from_tiers = np.array([(*r.tier_tokens, 0, 0)[: len(TIERS)] for r in requests], dtype=np.int64)
    from_tiers = from_tiers.reshape(-1, len(TIERS))  # of no request, too
    loaded_ns = [sum(r.loads_ns[1::2]) - sum(r.loads_ns[::2]) for r in requests]
    return {
        "index": whole("index"),
        "arrival_s": seconds("arrival_ns"),
        "scheduled_s": seconds("scheduled_ns"),
        "first_token_s": seconds("first_token_ns"),
        "finish_s": finish_s,
        "waited_s": seconds("waited_ns"),
        "prompt_tokens": prompt,
        "output_tokens": total - prompt,
        "num_sequences": num_sequences,
        "generated_tokens": generated,
        "cached_tokens": np.maximum(whole("cached_tokens"), 0),
        "num_preemptions": whole("num_preemptions"),
        "wasted_tokens": whole("wasted_tokens"),
        **{f"{name}_hit_tokens": from_tiers[:, place] for place, name in enumerate(TIERS)},
        "loaded_s": np.array(loaded_ns, dtype=np.float64) / NS_PER_S,
        "status": status,
        "reject_reason": np.array(reasons, dtype=np.str_),
    }


def segment_columns(segments: Sequence[Segment], pool_slots: int) -> Columns:
    width = len(Segment._fields)
    flat = np.fromiter(chain.from_iterable(segments), np.float64, len(segments) * width)
    table = flat.reshape(-1, width)
    raw = dict(zip(Segment._fields, table.T, strict=True))
    duration = raw["duration_ns"]
    per_ns = np.divide(1.0, duration, out=np.zeros_like(duration), where=duration > 0)
    tokens, held, internal, external, cached, shared = (
        raw[f"{name}_slot_ns"] * per_ns
        for name in ("token", "held", "internal", "external", "cached", "shared")
    )
    return {
        "start_s": raw["start_ns"] / NS_PER_S,
        "duration_s": duration / NS_PER_S,
        "first_step_s": raw["first_ns"] / NS_PER_S,
        "step_slope_s": raw["slope_ns"] / NS_PER_S,
        **{
            name: raw[name].astype(np.int64)
            for name in ("num_steps", "num_decodes", "num_running", "num_waiting")
        },
        "blocked": raw["blocked"].astype(np.bool_),
        **_categories(tokens, held, internal, external, cached, pool_slots),
        "saved": shared,
    }


def _categories(
    tokens: Floats, held: Floats, internal: Floats, external: Floats, cached: Floats, pool: int
) -> dict[str, Floats]:
    """The pool's slots by kind, in the order of :data:`CATEGORIES`."""
    reserved = np.maximum(held - internal - tokens, 0.0)
    free = np.maximum(pool - held - external - cached, 0.0)
    columns = (tokens, reserved, internal, external, cached, free)
    return dict(zip(CATEGORIES, columns, strict=True))


def _level_columns(recorder: Recorder, tiers: Sequence[TierUse]) -> Columns:
    """Bytes in each tier as each segment ends."""
    if not tiers:
        return {}
    levels = np.array(recorder.levels, dtype=np.int64).reshape(-1, len(tiers)).T
    return {
        f"{tier.name}_bytes": blocks * tier.block_bytes
        for tier, blocks in zip(tiers, levels, strict=True)
    }


def _load_columns(requests: Sequence[Request]) -> Columns:
    waited = [request for request in requests if request.loads_ns]
    times_ns = np.array([time for r in waited for time in r.loads_ns], dtype=np.float64)
    start, end = (times_ns / NS_PER_S).reshape(-1, 2).T
    index = np.repeat([r.index for r in waited], [len(r.loads_ns) // 2 for r in waited])
    return {"index": index.astype(np.int64), "start_s": start, "end_s": end}


def _pause_columns(requests: Sequence[Request]) -> Columns:
    paused = [request for request in requests if request.pauses_ns]
    times_ns = np.array([time for r in paused for time in r.pauses_ns], dtype=np.float64)
    swapped, *times = times_ns.reshape(-1, 4).T
    preempted, admitted, resumed = (column / NS_PER_S for column in times)
    index = np.repeat([r.index for r in paused], [len(r.pauses_ns) // 4 for r in paused])
    return {
        "index": index.astype(np.int64),
        "preempted_s": preempted,
        "admitted_s": admitted,
        "resumed_s": resumed,
        "swapped": swapped > 0,
    }
