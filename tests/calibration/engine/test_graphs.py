"""Buckets, and what is asked of CUDA, which here only writes it down."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from kvsim.calibration.engine.graph_buckets import BUCKETS, bucket_of, buckets_up_to
from kvsim.calibration.engine.graphs import CudaCapture
from kvsim.calibration.engine.runner import _Events


@pytest.mark.parametrize(
    ("num_rows", "bucket"), [(0, 0), (1, 1), (3, 4), (17, 24), (33, 48), (256, 256), (257, 0)]
)
def test_the_next_larger_bucket(num_rows: int, bucket: int) -> None:
    assert bucket_of(num_rows, BUCKETS) == bucket


def test_buckets_hold_all_seats() -> None:
    assert buckets_up_to(1) == (1,)
    assert buckets_up_to(5) == (1, 2, 4, 8)
    assert buckets_up_to(64)[-1] == 64
    assert buckets_up_to(1000) == BUCKETS


class FakeCuda:
    """Notes who calls what."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        fake = self

        class Stream:
            def wait_stream(self, other: object) -> None:
                fake.calls.append("wait")

        class Graph:
            def replay(self) -> None:
                fake.calls.append("replay")

        class Event:
            def __init__(self, *, enable_timing: bool) -> None:
                assert enable_timing

            def record(self) -> None:
                fake.calls.append("record")

            def elapsed_time(self, end: object) -> float:
                return 12.5

        made: dict[str, Any] = {
            "Stream": Stream,
            "current_stream": Stream,
            "stream": lambda stream: self.within("side"),
            "graph": lambda graph, pool: self.within(f"capture in {pool}"),
            "CUDAGraph": Graph,
            "Event": Event,
            "synchronize": lambda: self.calls.append("synchronize"),
            "graph_pool_handle": lambda: "one pool",
        }
        for name, value in made.items():
            monkeypatch.setattr(torch.cuda, name, value)

    @contextmanager
    def within(self, what: str) -> Iterator[None]:
        """A context."""
        self.calls.append(what)
        yield
        self.calls.append(f"end of {what}")


def test_a_step_is_captured_once_it_is_warm(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeCuda(monkeypatch)
    outs = [(torch.zeros(1), torch.full((1,), number)) for number in range(3)]
    left = list(outs)

    def step() -> tuple[torch.Tensor, torch.Tensor]:
        fake.calls.append("step")
        return left.pop(0)

    replay = CudaCapture()(step)
    assert fake.calls == [
        "wait",
        "side",
        "step",
        "step",
        "end of side",
        "wait",
        "synchronize",
        "capture in one pool",
        "step",
        "end of capture in one pool",
    ]
    fake.calls.clear()
    assert replay() is outs[2], "the buffers that the captured step writes"
    assert replay() is outs[2]
    assert fake.calls == ["replay", "replay"]


def test_events_give_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeCuda(monkeypatch)
    events = _Events()
    events.begin()
    events.end()
    assert fake.calls == ["record", "record"]
    assert events.seconds() == 0.0125
