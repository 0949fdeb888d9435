"""Transfers move the bytes that they say, block by block or gathered."""

from __future__ import annotations

import pytest
import torch

from kvsim.calibration.measure.bench import Bench
from kvsim.calibration.measure.families import pcie


@pytest.mark.parametrize("how", ["blockwise", "gathered"])
def test_blocks_go_out_and_come_back(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(torch.device("cpu"), l2_bytes=1)
    chosen = torch.tensor([4, 1, 3, 0, 2, 5])
    monkeypatch.setattr(bench, "permutation", lambda size: chosen)
    host = torch.zeros(192, dtype=torch.uint8)
    monkeypatch.setattr(pcie, "_host_memory", lambda size, bench, pinned=True: host)
    x = {"memory": "pinned", "how": how, "bytes": 192, "segments": 3}
    pool = bench.pool(6 * 64, "int8").view(6, 64)
    before = pool.clone()
    pcie.prepare({**x, "direction": "d2h"}, bench).call()
    assert torch.equal(host.view(3, 64).view(torch.int8), before[[4, 1, 3]])
    host.fill_(9)
    pcie.prepare({**x, "direction": "h2d"}, bench).call()
    assert (pool[[4, 1, 3]] == 9).all()
    assert torch.equal(pool[[0, 2, 5]], before[[0, 2, 5]])
