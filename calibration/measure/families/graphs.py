"""What a launch costs: empty kernels and the model's decode layers, captured and one by one.

``empty_nodes`` gives the cost of a node (captured) and of a launch (eager) as a slope;
``decode_layers`` is a whole step's layers, to compare with the sum of its parts; ``capture`` is the
host's time to record and instantiate such a graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

import torch

from ..bench import Bench
from ..card import Work
from .layers import DecodeLayers

CAPTURES = 5


def prepare(x: Mapping[str, Any], bench: Bench) -> Work:
    """The operands of one graph."""
    if x["what"] == "empty_nodes":
        return _replayed(_empty(x["nodes"], bench), dict(x), bench)
    layers = DecodeLayers(x, bench)
    found = {**x, "nodes": layers.nodes}
    if x["what"] == "capture":
        return Work(call=lambda: _captures_s(layers, bench), x=found, how="reading")
    return _replayed(layers, found, bench)


def _replayed(call: Callable[[], object], x: Mapping[str, Any], bench: Bench) -> Work:
    """One replay is one sample, its own launch included."""
    if x["mode"] == "graph":
        call()  # compiles
        call = bench.captured(call, 1)
    return Work(call=call, x=x, how="eager")


def _empty(nodes: int, bench: Bench) -> Callable[[], object]:
    value = torch.ones(1, device=bench.device)

    def call() -> None:
        for _ in range(nodes):
            value.neg_()

    return call


def _captures_s(layers: DecodeLayers, bench: Bench) -> list[float]:
    layers()
    bench.synchronize()
    times = []
    for _ in range(CAPTURES):
        begin_s = perf_counter()
        bench.captured(layers, 1, warm=False)
        bench.synchronize()
        times.append(perf_counter() - begin_s)
    return times
