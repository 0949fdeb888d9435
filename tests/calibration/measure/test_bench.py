"""Operands on a CPU: random, rotating past the cache, shared."""

from __future__ import annotations

import pytest
import torch

from kvsim.calibration.measure.bench import DTYPES, Bench, rotating


@pytest.fixture
def bench() -> Bench:
    return Bench(torch.device("cpu"), l2_bytes=1000)


@pytest.mark.parametrize(
    ("set_bytes", "sets"), [(4000, 1), (3999, 2), (1000, 4), (1, 512), (0, 512)]
)
def test_sets_are_four_times_the_cache_or_512(bench: Bench, set_bytes: int, sets: int) -> None:
    assert bench.num_sets(set_bytes) == sets


@pytest.mark.parametrize("dtype", DTYPES)
def test_values_are_random_and_finite(bench: Bench, dtype: str) -> None:
    values = bench.normal(1000, dtype=dtype)
    assert values.dtype == DTYPES[dtype]
    wide = values.float()
    assert wide.isfinite().all()
    assert wide.unique().numel() > 50
    assert wide.std() > 0.9


def test_the_pool_is_filled_once_and_again_where_it_must(bench: Bench) -> None:
    first = bench.pool(100, "fp32")
    assert bench.pool(50, "fp32").data_ptr() == first.data_ptr()
    assert torch.equal(bench.pool(100, "fp32"), first)
    assert bench.pool(200, "fp32").numel() == 200
    assert bench.pool(10, "int8").dtype == torch.int8
    assert bench.pool(100, "fp32").dtype == torch.float32
    bench.drop_pool()
    assert bench.pool(0, "fp32").numel() == 0


def test_equal_seeds_give_equal_operands() -> None:
    one, same, other = (
        Bench(torch.device("cpu"), l2_bytes=1, seed=seed).permutation(100) for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(one.sort().values, torch.arange(100))


def test_operands_take_turns() -> None:
    taken: list[str] = []
    call = rotating(taken.append, ["a", "b", "c"])
    for _ in range(4):
        call()
    assert taken == ["a", "b", "c", "a"]


def test_on_a_cpu_a_graph_is_a_loop(bench: Bench) -> None:
    calls: list[int] = []
    bench.captured(lambda: calls.append(1), 3)()
    assert len(calls) == 3
    assert len(bench.device_times_s(lambda: None, 5)) == 5
    assert bench.memory_bytes() == (0, 0)
