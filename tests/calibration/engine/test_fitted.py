"""Step times fitted to logs: the law that the steps followed is found again."""

from __future__ import annotations

from dataclasses import asdict, replace
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest

from kvsim.calibration.engine.fitted import EAGER, FittedCost, FittedMoves, batch_of
from kvsim.calibration.engine.fitting import fit_logs
from kvsim.calibration.engine.log import Header
from kvsim.calibration.engine.log_reader import Log, read_log
from kvsim.calibration.engine.records import StepRecord
from kvsim.calibration.engine.shape import TOY
from kvsim.calibration.step_cost import Band, Batch
from support import virtual_engine as virtual
from support.logged import step

HEADER = Header(
    engine="mini",
    hardware={},
    software={},
    model=asdict(TOY),
    flags={"block_size": 4},
    trace={},
)
BAND = Band(low=0.9, high=1.1, source="a test")


def log_of(steps: list[StepRecord]) -> Log:
    """Steps one behind the other."""
    starts = accumulate((one.wall_s for one in steps), initial=0.0)
    placed = [replace(one, start_s=at) for one, at in zip(steps, starts, strict=False)]
    return Log(header=HEADER, steps=tuple(placed), requests=(), end={"why": "done"})


def decodes(count: int, context: int, *, wall_s: float, bucket: int = 0) -> StepRecord:
    """A step of so many decodes, each of so long a context."""
    rows = [(number, 1, context - 1) for number in range(count)]
    return step(0.0, *rows, wall_s=wall_s, bucket=bucket)


def test_the_law_of_the_steps_is_found(tmp_path: Path) -> None:
    path = virtual.serve(tmp_path / "log.jsonl", virtual.chat(1, 60))
    cost, moves = fit_logs([read_log(path)])
    found = dict(zip(EAGER, cost.eager_ns, strict=True))
    assert found["base"] + found["decoding"] == pytest.approx(virtual.BASE_NS, rel=0.01)
    assert found["decode"] == pytest.approx(virtual.DECODE_NS, rel=0.01)
    assert found["context"] == pytest.approx(virtual.CONTEXT_NS, rel=0.01)
    prompts = found["base"] + found["prefilling"] + found["chunk"]
    assert prompts == pytest.approx(virtual.BASE_NS + virtual.CHUNK_NS, rel=0.01)
    assert found["token"] == pytest.approx(virtual.TOKEN_NS, rel=0.01)
    assert cost.band.low == pytest.approx(1, abs=1e-3)
    assert cost.band.high == pytest.approx(1, abs=1e-3)
    assert moves.swap_ns(3) == moves.copy_ns(3) == 0
    assert "logged steps" in cost.origin


def test_swaps_are_found_beside_the_steps(tmp_path: Path) -> None:
    path = virtual.serve(
        tmp_path / "log.jsonl",
        virtual.chat(2, 60, rate_per_s=0),
        num_gpu_blocks=20,
        num_host_blocks=64,
        preemption_mode="swap",
    )
    log = read_log(path)
    assert sum(one.swapped_out_blocks for one in log.steps) > 20
    _, moves = fit_logs([log])
    assert moves.swap_ns(5) == pytest.approx(5 * virtual.OUT_NS, rel=0.02)
    assert moves.swap_ns(5, inward=True) == pytest.approx(5 * virtual.BACK_NS, rel=0.02)
    assert moves.swap_ns(0) == 0


def test_a_graph_costs_what_its_bucket_does() -> None:
    """5 ms, 0.1 ms a row of the bucket, 1 us a token of context; eager 20 ms more."""
    steps = []
    for count, bucket in ((1, 1), (3, 4), (5, 8), (8, 8), (13, 16)):
        for context in (10, 200, 400):
            graph_s = 5e-3 + 1e-4 * bucket + 1e-6 * count * context
            steps.append(decodes(count, context, wall_s=graph_s, bucket=bucket))
            chunk = step(0.0, (99, 16 + context, 0), wall_s=25e-3 + 1e-5 * (16 + context))
            steps.append(chunk)
    cost, _ = fit_logs([log_of(steps)])
    batch = Batch(num_decodes=9, decode_context_tokens=900)
    assert cost.step_ns(batch) == pytest.approx(5e6 + 16e5 + 900e3, rel=1e-3), "9 run as 16"
    line = cost.decode_line(batch)
    assert line.slope_ns == pytest.approx(9e3, rel=1e-2)
    mixed = batch._replace(chunks=((116, 0),))
    assert cost.step_ns(mixed) > 25e6, "beside a chunk nothing runs in a graph"


def test_a_floor_is_found_where_short_steps_last_as_long() -> None:
    """Launching takes 10 ms; 16 tokens compute for 1.6 ms, 400 for 40 ms."""
    sizes = [16, 24, 32, 40, 48, 64, 80, 96, *range(104, 500, 6)]
    steps = [step(0.0, (7, size, 0), wall_s=max(10e-3, 1e-4 * size)) for size in sizes]
    cost, _ = fit_logs([log_of(steps)])
    for size in (20, 90, 120, 300):
        expected_ns = max(10e6, 1e5 * size)
        assert cost.step_ns(Batch(chunks=((size, 0),))) == pytest.approx(expected_ns, rel=0.03)


def test_a_run_of_decodes_is_a_line_with_a_floor() -> None:
    terms = (1e6, 0, 1e6, 0, 1e4, 0, 0, 0, 0)
    cost = FittedCost(eager_ns=terms, tile_tokens=64, floor_ns=5e6, num_steps=20, band=BAND)
    batch = Batch(num_decodes=2, decode_context_tokens=100)  # 4 ms, and 0.02 ms more each step
    spans = [cost.span_s(batch, k) for k in (10, 50, 60, 100)]
    steps = [max(5e-3, 4e-3 + 2e-5 * j) for j in range(100)]
    assert spans == pytest.approx([sum(steps[:k]) for k in (10, 50, 60, 100)])


def test_a_context_beyond_a_tile_costs_a_second_one() -> None:
    """5 ms, 1 ms a decode, 3 ms a tile of 64 keys."""
    cost = FittedCost(
        eager_ns=(5e6, 0, 1e6, 3e6, 0, 0, 0, 0, 0), tile_tokens=64, num_steps=20, band=BAND
    )

    def step_ns(*contexts: int) -> float:
        total, longest = sum(contexts), max(contexts)
        return cost.step_ns(
            Batch(
                num_decodes=len(contexts),
                decode_context_tokens=total,
                longest_context_tokens=longest,
            )
        )

    assert step_ns(64) == 5e6 + 4e6
    assert step_ns(65) == 5e6 + 7e6
    assert step_ns(10, 65) == 5e6 + 2e6 + 3 * 3e6
    assert step_ns(130, 65, 60, 20) == 5e6 + 4e6 + 6 * 3e6, "the others: 48 each"
    batch = Batch(num_decodes=2, decode_context_tokens=160, longest_context_tokens=120)
    line = cost.decode_line(batch)  # 120 and 40
    assert (line.first_ns, line.slope_ns, line.num_steps) == (5e6 + 2e6 + 9e6, 0, 9)
    singles, now = 0.0, batch
    for _ in range(60):
        singles += cost.step_s(now)
        now = now._replace(
            decode_context_tokens=now.decode_context_tokens + 2,
            longest_context_tokens=now.longest_context_tokens + 1,
        )
    assert cost.span_s(batch, 60) == pytest.approx(singles)


def test_tiles_are_found_in_a_log() -> None:
    steps = [
        decodes(count, context, wall_s=0.005 + count * (0.001 + 0.003 * -(-context // 64)))
        for count in (1, 2, 3, 5)
        for context in (10, 50, 64, 65, 100, 129)
    ]
    cost, _ = fit_logs([log_of(steps)])
    assert cost.tile_tokens == 64
    found = dict(zip(EAGER, cost.eager_ns, strict=True))
    assert found["tile"] == pytest.approx(3e6, rel=1e-3)
    assert found["decode"] == pytest.approx(1e6, rel=1e-2)


def test_a_chunk_of_one_token_is_a_decode() -> None:
    terms = (1e6, 0, 2e6, 0, 1e4, 5e7, 5e7, 5e7, 5e7)
    cost = FittedCost(eager_ns=terms, tile_tokens=64, num_steps=20, band=BAND)
    assert cost.step_ns(Batch(chunks=((1, 9),))) == pytest.approx(1e6 + 2e6 + 1e5)
    assert batch_of(step(0.0, (0, 1, 9), (1, 4, 0))) == Batch(
        num_decodes=1, decode_context_tokens=10, chunks=((4, 0),), longest_context_tokens=10
    )


def test_steps_that_compiled_are_left_out() -> None:
    good = [decodes(1 + n % 4, 10 + n, wall_s=1e-3 * (1 + n % 4)) for n in range(24)]
    slow = [replace(decodes(1, 10, wall_s=9.0), compiled=2)] * 3
    with_slow, _ = fit_logs([log_of([*good, *slow])])
    alone, _ = fit_logs([log_of(good)])
    assert with_slow.num_steps == alone.num_steps == 24
    assert with_slow.eager_ns == pytest.approx(alone.eager_ns)
    with pytest.raises(ValueError, match=r"^fit\(=19 steps\) must have >= 20 steps.$"):
        fit_logs([log_of([*good[:19], *slow])])


def test_moves_are_zero_where_nothing_moves() -> None:
    moves = FittedMoves(terms_ns=(10.0, 1.0, 20.0, 2.0, 30.0, 3.0), block_bytes=100)
    assert (moves.swap_ns(2), moves.swap_ns(2, inward=True), moves.copy_ns(2)) == (12, 24, 36)
    assert (moves.swap_ns(0), moves.copy_ns(0), moves.copy_bytes_ns(150)) == (0, 0, 36)
    assert np.isfinite(list(moves.terms_ns)).all()
    assert moves.describe()["block_bytes"] == 100


def test_noise_makes_no_bias() -> None:
    """Steps of 10 ms that scatter by 15 %: their mean is found, not what weighs the fast ones."""
    draw = np.random.default_rng(1)
    times = 10e-3 * (1 + 0.15 * draw.standard_normal(4000)).clip(0.4)
    cost, _ = fit_logs([log_of([decodes(2, 30, wall_s=float(time)) for time in times])])
    batch = Batch(num_decodes=2, decode_context_tokens=60, longest_context_tokens=30)
    assert cost.step_ns(batch) / 1e9 == pytest.approx(times.mean(), rel=0.003)


def test_kernels_of_decodes_are_launched_only_where_somebody_decodes() -> None:
    """10 ms; 6 ms where somebody decodes, 4 ms where somebody prefills; 1 ms a row, 2 a chunk."""
    steps = []
    for rows in (0, 1, 2, 4):
        for chunks in (0, 1, 2):
            for size in (8, 24, 48) if rows or chunks else ():
                wall_s = 10e-3 + 6e-3 * (rows > 0) + 4e-3 * (chunks > 0) + 1e-3 * rows
                wall_s += 2e-3 * chunks + 1e-4 * chunks * size
                taken = [(row, 1, 30) for row in range(rows)]
                taken += [(9 + chunk, size, 0) for chunk in range(chunks)]
                steps.append(step(0.0, *taken, wall_s=wall_s))
    cost, _ = fit_logs([log_of(steps)])
    alone = Batch(num_decodes=3, decode_context_tokens=93, longest_context_tokens=31)
    assert cost.step_ns(alone) == pytest.approx(19e6, rel=1e-3)
    assert cost.step_ns(Batch(chunks=((16, 0),))) == pytest.approx(17.6e6, rel=1e-3)
    assert cost.step_ns(alone._replace(chunks=((16, 0),))) == pytest.approx(26.6e6, rel=1e-3)
