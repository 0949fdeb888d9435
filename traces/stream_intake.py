"""From what a user asks for to a stream: `take_in` for traces of any length.

Synthetic workloads are drawn chunk by chunk; large files of formats that allow it are read piece by
piece. Everything else is read whole, and only its requests are streamed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .chunks import Chunk, Stream, in_chunks, over_and_over, stream_of
from .drawn import drawn_in_chunks, with_process
from .formats import CsvColumns, resolve_format
from .intake import DEFAULT_NUM_REQUESTS, Intake, arrival_stream, take_in, workload_of
from .pieces import Pieces, in_pieces

LARGE_BYTES = 64 << 20
"""Files from here on are read piece by piece, where their format allows it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenStream:
    """A stream, and in words what it is and where its arrivals come from."""

    stream: Stream
    origin: str
    arrivals: str


def take_stream(intake: Intake, *, repeat: int = 1, large_bytes: int = LARGE_BYTES) -> TakenStream:
    """Load or draw a stream.

    Args:
        intake: what to load or draw, and when it arrives.
        repeat: play it so many times, one after another.
        large_bytes: from which size on a file is read piece by piece.

    Raises:
        ValueError: as `take_in`, or what does not stream.
    """
    for name in ("n", "beam_width"):
        value = getattr(intake, name)
        if value is not None and value > 1:
            raise ValueError(f"{name}(={value}) must be 1 for a request to be streamed.")
    taken = _drawn(intake) if not intake.trace else _pieces(intake, large_bytes)
    if taken is None:
        whole = take_in(replace(intake, n=None, beam_width=None))
        stream = in_chunks(whole.trace)
        taken = TakenStream(stream=stream, origin=whole.origin, arrivals=whole.arrivals)
    if repeat == 1:
        return taken
    stream = over_and_over(taken.stream, repeat)
    return replace(taken, stream=stream, origin=f"{taken.origin}, {repeat} times")


def _drawn(intake: Intake) -> TakenStream:
    if intake.window is not None:
        raise ValueError(f"window(={intake.window!r}) needs a trace file to be streamed.")
    num_requests = DEFAULT_NUM_REQUESTS if intake.num_requests is None else intake.num_requests
    num_requests = min(num_requests, intake.max_requests or num_requests)
    workload = workload_of(intake)
    stream = drawn_in_chunks(workload, num_requests=num_requests, seed=intake.seed)
    origin = f"synthetic {workload.name}, seed {intake.seed}"
    return _with_arrivals(intake, stream, origin, "the workload's own arrivals")


def _pieces(intake: Intake, large_bytes: int) -> TakenStream | None:
    """The trace read piece by piece; None where it is small, or needs to be whole."""
    path = Path(intake.trace[0])
    whole = intake.window is not None or intake.strict or intake.session_replay != "auto"
    if len(intake.trace) > 1 or whole or intake.scale_rate is not None or not path.is_file():
        return None
    if path.stat().st_size < large_bytes and path.suffix != ".parquet":
        return None
    columns = None
    if intake.prompt_tokens_column is not None and intake.output_tokens_column is not None:
        columns = CsvColumns(
            timestamp_column=intake.timestamp_column,
            prompt_tokens_column=intake.prompt_tokens_column,
            output_tokens_column=intake.output_tokens_column,
            timestamp_unit=intake.timestamp_unit,
        )
    stream = in_pieces(
        Pieces(
            path=path,
            trace_format=resolve_format(intake.trace_format),
            columns=columns,
            hash_block_size=intake.trace_block_size,
        )
    )
    if stream is None:
        return None
    if intake.max_requests is not None:
        stream = _head(stream, intake.max_requests)
    return _with_arrivals(intake, stream, stream.name, "the trace's own times")


def _with_arrivals(intake: Intake, stream: Stream, origin: str, own: str) -> TakenStream:
    process, rate_per_s = intake.arrival_process, intake.rate_per_s
    if intake.concurrency is not None:
        words = f"closed loop, {intake.concurrency} clients"
        return TakenStream(stream=stream, origin=origin, arrivals=words)
    words = own if stream.sample.arrival_s is not None else ""
    if process is not None or rate_per_s is not None:
        process = process or "poisson"
        if intake.burstiness != 1:
            process = "gamma"  # as vLLM: a rate with a burstiness
        stream = with_process(
            stream,
            process=process,
            rate_per_s=rate_per_s,
            burstiness=intake.burstiness,
            rng=lambda: arrival_stream(intake.seed),
        )
        at = "" if rate_per_s is None else f" at {rate_per_s:.4g}/s"
        words = f"{process}{at}, seed {intake.seed}"
    if (ratio := intake.arrival_speedup_ratio) is not None:
        stream = _faster(stream, ratio)
        words += f", sped up {ratio:g} times"
    return TakenStream(stream=stream, origin=origin, arrivals=words)


def _head(stream: Stream, max_requests: int) -> Stream:
    if max_requests < 1:
        raise ValueError(f"max_requests(={max_requests}) must be > 0.")

    def chunks() -> Iterator[Chunk]:
        left = max_requests
        for chunk in stream.chunks():
            yield chunk if len(chunk) <= left else chunk.head(left)
            left -= len(chunk)
            if left <= 0:
                return

    return stream_of(stream.name, chunks, stream.notes)


def _faster(stream: Stream, ratio: float) -> Stream:
    stream.sample.speedup(ratio)  # refuses what it refuses

    def faster(chunk: Chunk) -> Chunk:
        assert chunk.arrival_s is not None, "the sample has times"
        return replace(chunk, arrival_s=np.rint(chunk.arrival_s / ratio * 1e9) / 1e9)

    return stream_of(stream.name, lambda: map(faster, stream.chunks()), stream.notes)
