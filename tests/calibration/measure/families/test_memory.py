"""Readings of memory, on a card of 64 MiB free that gives out at most so much."""

from __future__ import annotations

import pytest
import torch

from kvsim.calibration.measure.bench import Bench
from kvsim.calibration.measure.families import memory

MIB = 1 << 20


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench(torch.device("cpu"), l2_bytes=1)
    monkeypatch.setattr(made, "memory_bytes", lambda: (64 * MIB, 96 * MIB))
    return made


def read(what: str, bench: Bench) -> object:
    work = memory.prepare({"what": what}, bench)
    assert (work.how, work.unit) == ("reading", "bytes")
    return work.call()


@pytest.mark.parametrize(
    ("what", "mib"),
    [
        ("total", 96),
        ("free_after_context", 64),
        ("context", 32),
        ("after_matmul", 0),
        ("graphs", 0),
    ],
)
def test_readings(what: str, mib: int, bench: Bench) -> None:
    assert read(what, bench) == [mib * MIB]


def test_the_largest_allocation_is_found_by_halving(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def empty(size: int, **more: object) -> None:
        if size > 41 * MIB:
            raise torch.OutOfMemoryError

    monkeypatch.setattr(memory.torch, "empty", empty)
    monkeypatch.setattr(bench, "drop_pool", lambda: None)
    (found,) = read("largest_allocation", bench)  # type: ignore[misc]
    assert 41 * MIB - (16 * MIB) <= found <= 41 * MIB
