"""Empty kernels and layers: how many, captured or not, how long capturing takes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from kvsim.calibration.measure.bench import Bench
from kvsim.calibration.measure.families import graphs
from kvsim.calibration.measure.families.layers import DecodeLayers

LAYERS = {
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 16,
    "block_size": 4,
    "context_tokens": 6,
    "layers": 3,
    "hidden_size": 32,
    "intermediate_size": 48,
    "dtype": "fp32",
    "batch": 2,
}


class Counting(Bench):
    """Counts what is captured."""

    captures = 0

    def captured(
        self, call: Callable[[], object], count: int, *, warm: bool = True
    ) -> Callable[[], object]:
        self.captures += 1
        return super().captured(call, count, warm=warm)


@pytest.fixture
def bench() -> Counting:
    return Counting(torch.device("cpu"), l2_bytes=1 << 11)


@pytest.mark.parametrize(("mode", "captures"), [("graph", 1), ("eager", 0)])
def test_a_replay_is_one_sample(mode: str, captures: int, bench: Counting) -> None:
    x = {"what": "empty_nodes", "mode": mode, "nodes": 5, "batch": 0}
    work = graphs.prepare(x, bench)
    work.call()
    assert (work.how, bench.captures) == ("eager", captures)


def test_as_many_kernels_as_it_says(monkeypatch: pytest.MonkeyPatch, bench: Counting) -> None:
    ran: list[int] = []
    monkeypatch.setattr(torch.Tensor, "neg_", lambda self: ran.append(1))
    x = {"what": "empty_nodes", "mode": "eager", "nodes": 5, "batch": 0}
    graphs.prepare(x, bench).call()
    assert len(ran) == 5


def test_capturing_is_timed_several_times(bench: Counting) -> None:
    work = graphs.prepare({"what": "capture", "mode": "graph", **LAYERS}, bench)
    times = work.call()
    assert isinstance(times, list)
    assert len(times) == bench.captures == graphs.CAPTURES
    assert work.how == "reading"


def test_layers_write_the_last_token_where_they_read_it(bench: Counting) -> None:
    layers = DecodeLayers(LAYERS, bench)
    table, slots = layers._kv.tables[0], layers._slots[0]
    # of 6 tokens in blocks of 4 the last is the second of the second block
    assert slots.tolist() == [int(block) * 4 + 1 for block in table[:, 1]]
    before = layers._kv.keys.clone()
    out = layers()
    assert out.shape == (2, 32)
    assert out.isfinite().all()
    written = (layers._kv.keys != before).flatten(2).any(-1).flatten().nonzero().flatten()
    used = {int(slot) for turn in layers._slots[:3] for slot in turn}
    assert set(written.tolist()) == used
