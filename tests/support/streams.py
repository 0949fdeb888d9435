"""Streams for tests, and what must hold between a streamed run and a whole one."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from kvsim.calibration.step_cost import StepCost
from kvsim.sim.deployment import Deployment
from kvsim.sim.result import Columns as ResultColumns
from kvsim.sim.simulation import simulate
from kvsim.sim.streaming import simulate_stream
from kvsim.sim.streaming.totals import summarise_stream
from kvsim.sim.summary import QUANTILES, Summary, summarise
from kvsim.traces import Trace
from kvsim.traces.chunks import Stream, in_chunks

SKETCHED = ("ttft_s", "tpot_s", "itl_s", "e2e_s")
ACCURACY = 1e-3


def trace_of(columns: Any) -> Trace:
    """The columns of a drawn workload as a trace, without prefixes shared to the token."""
    names = {field.name for field in fields(columns)} - {"prefix_row", "prefix_tokens"}
    return Trace(name="drawn", **{name: getattr(columns, name) for name in names})


def horizon(trace: Trace) -> int:
    """The fewest rows of a chunk that a trace's sessions allow."""
    if trace.parent is None:
        return 1
    rows = np.arange(len(trace))
    return int(np.where(trace.parent >= 0, rows - trace.parent, 1).max())


def assert_streams_alike(
    trace: Trace,
    *,
    size: int,
    deployment: Deployment,
    cost: StepCost,
    num_gpu_blocks: int,
    stream: Stream | None = None,
    **more: Any,
) -> Summary:
    """The same requests, every column of them, and the same summary but for sketched times."""
    setting = {"deployment": deployment, "cost": cost, "num_gpu_blocks": num_gpu_blocks, **more}
    whole = simulate(trace, **setting)
    groups: list[ResultColumns] = []
    streamed = simulate_stream(
        in_chunks(trace, size=size) if stream is None else stream, sink=groups.append, **setting
    )
    order = np.argsort(np.concatenate([group["index"] for group in groups]))
    for name, column in whole.requests.items():
        rows = np.concatenate([group[name] for group in groups])[order]
        np.testing.assert_array_equal(rows, column, err_msg=name)
    summary = summarise_stream(streamed)
    assert_summaries_alike(summary, summarise(whole))
    return summary


def assert_summaries_alike(streamed: Summary, whole: Summary) -> None:
    """Counts exactly, sums to rounding, percentiles within what is stated."""
    for field in fields(Summary):
        ours, theirs = getattr(streamed, field.name), getattr(whole, field.name)
        if field.name in SKETCHED:
            assert ours.mean == pytest.approx(theirs.mean, rel=1e-9, nan_ok=True), field.name
            for point in QUANTILES:
                expected = pytest.approx(
                    getattr(theirs, point), rel=ACCURACY, abs=1e-9, nan_ok=True
                )
                assert getattr(ours, point) == expected, f"{field.name} {point}"
        elif field.name == "pool_share":
            for share in theirs.__slots__:
                expected = pytest.approx(getattr(theirs, share), rel=1e-9, abs=1e-9)
                assert getattr(ours, share) == expected, share
        elif isinstance(theirs, float):
            assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-12), field.name
        else:
            assert ours == theirs, field.name


def texts(
    rng: np.random.Generator, num: int, *, size: int, ceil: bool, across: bool = True
) -> Trace:
    """Requests whose tokens are known, and so their ids: an id names all tokens up to its end.

    Prompts begin as an earlier prompt does, or repeat an earlier one and its answer as a later
    turn does. With ``ceil`` a last, partial block has an id; ``across``: a session may begin as
    a later turn of another one, answers and all.
    """
    said: list[list[int]] = []
    prompts: list[list[int]] = []
    parent, fresh = [], iter(range(1 << 40))
    for row in range(num):
        new = [next(fresh) for _ in range(int(rng.integers(1, 4 * size)))]
        before = int(rng.integers(max(0, row - 6), row)) if row else -1
        if row and rng.random() < 0.4:
            parent.append(before)
            prompts.append(said[before] + new)
        else:
            while not across and before >= 0 and parent[before] >= 0:
                before = parent[before]
            parent.append(-1)
            cut = int(rng.integers(0, len(prompts[before]) + 1)) if row else 0
            prompts.append((prompts[before][:cut] if row else []) + new)
        answer = [next(fresh) for _ in range(int(rng.integers(1, 3 * size)))]
        said.append(prompts[row] + answer)
    names: dict[tuple[int, ...], int] = {}
    chains = []
    for prompt in prompts:
        stop = -(-len(prompt) // size) if ceil else len(prompt) // size
        heads = (tuple(prompt[: (place + 1) * size]) for place in range(stop))
        chains.append([names.setdefault(head, len(names)) for head in heads])
    return Trace(
        name="texts",
        prompt_tokens=np.array([len(prompt) for prompt in prompts]),
        output_tokens=np.array([len(a) - len(p) for a, p in zip(said, prompts, strict=True)]),
        arrival_s=np.cumsum(rng.exponential(0.05, num)),
        parent=np.array(parent),
        hash_ids=np.array([name for chain in chains for name in chain], dtype=np.uint64),
        hash_offsets=np.cumsum([0, *map(len, chains)]),
        hash_block_size=size,
    )
