"""Moves of blocks: which may go in one call, and that a call gives what one after another does."""

from __future__ import annotations

import random

import pytest
import torch

from kvsim.calibration.engine.moving import spans, together
from kvsim.calibration.engine.pools import Pools
from kvsim.calibration.engine.shape import TOY
from kvsim.calibration.engine.steps import Move

KINDS = ("copy", "out", "in")


def moves(*of: str) -> list[Move]:
    """``copy 1 2`` and the like."""
    found = []
    for one in of:
        kind, source, target = one.split()
        found.append(Move(kind, int(source), int(target)))  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize(
    ("given", "calls"),
    [
        (["copy 1 2", "copy 1 3", "copy 4 5"], 1),
        (["copy 1 2", "copy 2 3"], 2),
        (["copy 1 2", "copy 3 1"], 2),
        (["copy 1 2", "copy 3 2"], 2),
        (["out 1 1", "out 2 2", "in 1 2"], 2),
        (["out 1 2", "out 2 1"], 1),
        (["out 1 2", "out 3 2"], 2),
        (["copy 1 2", "out 2 0", "copy 1 2"], 3),
        ([], 0),
    ],
)
def test_who_goes_together(given: list[str], calls: int) -> None:
    runs = list(together(moves(*given)))
    assert len(runs) == calls
    assert [move for run in runs for move in run] == moves(*given)


def test_stretches_of_ids() -> None:
    assert list(spans([3, 4, 5, 9, 8, 10])) == [(0, 3, 3), (3, 9, 1), (4, 8, 1), (5, 10, 1)]
    assert list(spans([])) == []


def test_all_layers_move_as_one_block_after_another() -> None:
    draw = random.Random(5)
    drawn = [Move(draw.choice(KINDS), draw.randrange(1, 5), draw.randrange(1, 5)) for _ in range(9)]
    cpu = torch.device("cpu")
    pools = Pools(TOY, num_gpu_blocks=6, num_host_blocks=5, block_size=4, device=cpu)
    pools.kv.copy_(torch.randn(pools.kv.shape))
    pools.host.copy_(torch.randn(pools.host.shape))
    kv, host = pools.kv.clone(), pools.host.clone()
    pools.move(drawn)
    for kind, source, target in drawn:
        if kind == "copy":
            kv[:, target] = kv[:, source].clone()
        elif kind == "out":
            host[target] = kv[:, source]
        else:
            kv[:, target] = host[source]
    assert torch.equal(pools.kv, kv)
    assert torch.equal(pools.host, host)
