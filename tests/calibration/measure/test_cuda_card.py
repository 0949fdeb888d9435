"""The real card's class, on a pretended device: what it says of itself, how it works and waits."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from kvsim.calibration.measure import cuda_card as module
from kvsim.calibration.measure import timer
from kvsim.calibration.measure.bench import Bench
from kvsim.calibration.measure.card import Card, Clocks
from kvsim.calibration.measure.cuda_card import CudaCard
from kvsim.calibration.measure.point import Point
from kvsim.calibration.measure.session import measured_once
from kvsim.calibration.measure.timer import Timer
from kvsim.kernels.version import kernel_hash

PROPERTIES = SimpleNamespace(
    name="NVIDIA H200",
    L2_cache_size=62_914_560,
    multi_processor_count=132,
    major=9,
    minor=0,
    uuid="8f2c",
)


class Log:
    """A clock log that was closed or not."""

    closed = False

    def __init__(self, uuid: str | None) -> None:
        assert uuid == "GPU-8f2c"

    def rows(self) -> Clocks:
        return Clocks(source="pretended")

    def close(self) -> None:
        Log.closed = True


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    """A card whose operands are on the CPU."""

    def bench(device: torch.device, *, l2_bytes: int, seed: int) -> Bench:
        assert (device.type, l2_bytes) == ("cuda", 62_914_560)
        made = Bench(torch.device("cpu"), l2_bytes=64, seed=seed)
        monkeypatch.setattr(made, "memory_bytes", lambda: (100, 120))
        return made

    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: PROPERTIES)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(module, "Bench", bench)
    monkeypatch.setattr(module, "BUSY_SIZE", 8)
    monkeypatch.setattr(timer, "WARM_S", 0.01)
    monkeypatch.setattr(module, "ClockLog", Log)
    facts = {"driver": "580.1", "power_limit_w": 700.0}
    monkeypatch.setattr(module, "nvml_facts", lambda uuid: dict(facts))
    return CudaCard("h200", seed=1)


def test_it_says_what_it_is(card: Card) -> None:
    identity = card.identity
    hardware = identity.hardware
    assert (hardware.gpu, hardware.name, hardware.count) == ("h200", "NVIDIA H200", 2)
    assert (hardware.compute_capability, identity.compute_capability) == ("9.0", (9, 0))
    assert (identity.free_memory_bytes, hardware.total_memory_bytes) == (100, 120)
    assert hardware.more["power_limit_w"] == 700.0
    assert "driver" not in hardware.more
    assert "8f2c" not in str(hardware.more), "of the card's own number only a hash"
    assert identity.software["driver"] == "580.1"
    assert identity.software["kernel_hash"] == kernel_hash()
    assert identity.software["torch"] == torch.__version__


def test_it_prepares_a_point_and_times_it(card: Card) -> None:
    x = {"layer": "o", "m": 2, "n": 4, "k": 4, "dtype": "fp32"}
    work = card.prepare(Point(family="gemm", x=x))
    run = card.captured(work.call, 2)
    assert all(t > 0 for t in card.device_times_s(run, 3))
    assert len(card.host_times_s(work.call, 4)) == 4
    card.release()


def test_it_keeps_busy_for_as_long_as_it_is_told(card: Card) -> None:
    begin_s = card.now_s()
    card.keep_busy(0.05)
    assert 0.05 <= card.now_s() - begin_s < 1.0


def test_dead_graphs_give_their_memory_back(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    emptied: list[int] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(1))
    for reserved, times in ((3 << 30, 0), (5 << 30, 1)):
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda size=reserved: size)
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 2 << 30)
        card.release()
        assert len(emptied) == times


def test_it_stops_logging(card: Card) -> None:
    assert card.clocks().source == "pretended"
    card.close()
    assert Log.closed


@pytest.mark.parametrize(
    ("family", "x"),
    [
        ("gemm", {"layer": "o", "m": 2, "n": 4, "k": 4, "dtype": "fp32"}),
        ("ceilings", {"what": "copy", "dtype": "fp32", "bytes": 64, "flops": 0}),
        ("elementwise", {"op": "residual", "tokens": 2, "dtype": "fp32", "width": 4}),
        ("graph", {"what": "empty_nodes", "mode": "graph", "nodes": 2, "batch": 0}),
        ("host", {"what": "prepare", "requests": 2}),
        ("memory", {"what": "total"}),
    ],
)
def test_a_point_becomes_a_sample(card: Card, family: str, x: dict[str, object]) -> None:
    sample = measured_once(card, Timer(card), Point(family=family, x=x))
    assert (sample.family, sample.role) == (family, "fit")
    assert dict(sample.x).items() >= x.items()
    assert all(t > 0 for t in sample.t)
    assert (len(sample.t) >= 20) == (family != "memory")
