"""The CUDA branches of a bench, on a pretended ``torch.cuda``: the order of what is called."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from gc import collect
from weakref import ref

import pytest
import torch

from kvsim.calibration.measure import bench as module
from kvsim.calibration.measure.bench import Bench

Told = list[str]


@pytest.fixture
def told() -> Told:
    return []


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, told: Told) -> Bench:
    """A bench that believes to be on a GPU; what it asks of CUDA is written down."""

    class Stream:
        def __init__(self, device: object = None) -> None: ...

        def wait_stream(self, other: object) -> None:
            told.append("wait")

    class Graph:
        def capture_begin(self, capture_error_mode: str) -> None:
            told.append(f"begin {capture_error_mode}")

        def capture_end(self) -> None:
            told.append("end")
            if "call failed" in told:
                raise RuntimeError("capture was invalidated")

        def replay(self) -> None:
            told.append("replay")

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            told.append("record")

        def elapsed_time(self, other: object) -> float:
            return 1500.0  # ms

    @contextmanager
    def stream(which: object) -> Iterator[None]:
        told.append("side")
        yield
        told.append("back")

    for name, fake in (
        ("Stream", Stream),
        ("CUDAGraph", Graph),
        ("Event", Event),
        ("stream", stream),
        ("current_stream", Stream),
        ("synchronize", lambda device: told.append("synchronize")),
    ):
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr(module, "_STREAMS", {})
    made = object.__new__(Bench)
    made.device, made._broken = torch.device("cuda", 0), ""
    return made


def test_a_call_runs_once_on_the_side_stream_before_it_is_captured(
    bench: Bench, told: Told
) -> None:
    run = bench.captured(lambda: told.append("call"), 2)
    run()
    captured = ["begin thread_local", "call", "call", "end"]
    assert told == ["wait", "side", "call", *captured, "back", "wait", "replay"]


def test_what_fails_inside_a_capture_is_told_and_the_capture_ended(
    bench: Bench, told: Told
) -> None:
    def fail() -> None:
        if "begin thread_local" in told:
            told.append("call failed")
            raise ValueError("no such kernel")

    with pytest.raises(ValueError, match="no such kernel"):
        bench.captured(fail, 2)
    assert "end" in told
    with pytest.raises(RuntimeError, match="could not be ended: capture was invalidated"):
        bench.synchronize()  # the allocator frees nothing any more: the session has to end


def test_a_graph_keeps_the_memory_that_it_works_on(bench: Bench) -> None:
    class Layers:
        def __call__(self) -> None: ...

    layers = Layers()
    alive = ref(layers)
    run = bench.captured(layers, 1)
    del layers
    collect()
    assert alive() is not None
    run()


def test_all_streams_of_captures_are_one(bench: Bench) -> None:
    bench.captured(lambda: None, 1)
    bench.captured(lambda: None, 1)
    assert len(module._STREAMS) == 1


def test_events_stand_around_each_run_and_the_host_waits_once(bench: Bench, told: Told) -> None:
    times = bench.device_times_s(lambda: told.append("run"), 2)
    assert times == [1.5, 1.5]
    assert told == [*["record", "run", "record"] * 2, "synchronize"]
