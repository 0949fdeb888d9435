"""Synthetic workloads drawn chunk by chunk, and arrivals for any stream.

The first chunk is what `synthesize` draws of as many requests; each later one has a seed of its
own, made of the seed and the chunk's number. No session lies in two chunks. Arrivals are one
process over all of them: the same times as drawn at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from .arrivals import PROCESSES, check_process
from .chunks import CHUNK, Chunk, Stream, in_chunks, stream_of
from .columns import Floats, whole_ns
from .workload import Workload, own_arrival_stream, synthesize

Streams = Callable[[], np.random.Generator]
"""A random stream, from its beginning at every call."""


def drawn_in_chunks(
    workload: Workload, *, num_requests: int, seed: int, size: int = CHUNK
) -> Stream:
    """So many requests of a workload, as a stream.

    Raises ValueError as `synthesize`, or for a size that is not > 0.
    """
    if num_requests < 1:
        raise ValueError(f"num_requests(={num_requests}) must be > 0.")
    if size < 1:
        raise ValueError(f"chunk_size(={size}) must be > 0.")
    lengths = replace(workload, arrivals=None)
    stream = stream_of(workload.name, lambda: _drawn(lengths, num_requests, seed, size))
    own = workload.arrivals
    if own is None:
        return stream
    return with_process(
        stream,
        process=own.process,
        rate_per_s=own.rate_per_s,
        burstiness=own.burstiness,
        rng=lambda: own_arrival_stream(seed),
    )


def with_process(
    stream: Stream,
    *,
    process: str,
    rate_per_s: float | None,
    burstiness: float = 1.0,
    rng: Streams,
) -> Stream:
    """The same requests arriving by a process (see `arrivals`); later turns keep their parents.

    Raises ValueError as `arrival_times`.
    """
    check_process(process, rate_per_s, burstiness)

    def chunks() -> Iterator[Chunk]:
        gaps_of, random = PROCESSES[process], rng()
        last: float | None = None
        for chunk in stream.chunks():
            roots = ~chunk.follows_parent
            arrival_s = np.full(len(chunk), np.nan)
            if num := int(roots.sum()):
                gaps = gaps_of(num - (last is None), burstiness, random)
                sums = np.cumsum(np.concatenate(([last or 0.0], gaps)))
                arrival_s[roots] = _at_rate(sums if last is None else sums[1:], rate_per_s)
                last = float(sums[-1])
            yield replace(chunk, arrival_s=arrival_s)

    return stream_of(stream.name, chunks, stream.notes)


def _at_rate(sums: Floats, rate_per_s: float | None) -> Floats:
    return sums if rate_per_s is None else whole_ns(sums / rate_per_s)


def _drawn(workload: Workload, num_requests: int, seed: int, size: int) -> Iterator[Chunk]:
    groups = workload.prefix_groups
    num_shared = workload.prefix_tokens // workload.hash_block_size
    next_id = 0 if groups is None else groups.num_groups * num_shared
    for number, at in enumerate(range(0, num_requests, size)):
        own_seed = seed if number == 0 else _seed_of(seed, number)
        trace = synthesize(
            workload=workload, num_requests=min(size, num_requests - at), seed=own_seed
        )
        (chunk,) = in_chunks(trace, size=len(trace)).chunks()
        columns: dict[str, Any] = {}
        if chunk.parent is not None:
            columns["parent"] = np.where(chunk.parent >= 0, chunk.parent + at, -1)
        if chunk.hash_ids is not None and chunk.hash_offsets is not None:
            counts = np.diff(chunk.hash_offsets)
            place = np.arange(len(chunk.hash_ids)) - np.repeat(chunk.hash_offsets[:-1], counts)
            own = place >= num_shared  # before them lies the prefix of a group
            columns["hash_ids"] = chunk.hash_ids + np.where(own, next_id, 0).astype(np.uint64)
            next_id += int(chunk.hash_ids.max(initial=0)) + 1
        yield replace(chunk, first_row=at, **columns)


def _seed_of(seed: int, number: int) -> int:
    return int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0])
