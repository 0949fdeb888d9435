"""Operators of one card as another card would run them, by the ratio of what the cards can do.

A kernel is a launch, whose time a card's rates do not change, and work under a roof:

    roof(n)  = max(bytes / B, FLOPs / F)
    t'(n)    = floor + (t(n') - floor) * roof'(n) / roof(n')        n' = n * (F / B) / (F' / B')

``t``, ``B``, ``F`` are the measured card's, ``t'``, ``B'``, ``F'`` the other one's. What is carried
over is the kernel's efficiency *at the same place on the roofline*: ``n'`` rows read and compute in
the proportion on the one card that ``n`` have on the other. Attention is carried over at its own
shape. B and F, and the doubt that every estimate carries, are in ``move``.

Kept as they are: floors (2 us a matrix product, attention with next to nothing to read) and the
time per key of a sequence that one multiprocessor reads alone, which are multiprocessors' own. An
all-reduce keeps its shortest message and scales the rest by the links' bandwidth; where one card
has NVLink and the other has not, the datasheet's all-reduce stands for it. Kernels whose time is a
formula of the datasheet are asked for the other card.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..estimate import NOTHING, Estimate
from ..gpus import GPUSpec
from ..model_spec import ModelSpec
from ..operators import (
    ALL_REDUCE,
    Attention,
    DecodeAttention,
    Mix,
    MixedAttention,
    Operator,
    Operators,
    RecurrentLayers,
)
from ..pipeline import link_bytes_per_s
from ..roofline import Roofline
from .move import Move, Scale, units_of

LAUNCH_NS = 2e3
"""Of a matrix product in a graph: start, first loads, drain (assumed)."""
SOURCE = "scaled"


def scaled_operators(operators: Operators, move: Move) -> Operators:
    """Everything that a step launches, on the other card."""
    return Operators(
        by_tokens=tuple(_operator(operator, move) for operator in operators.by_tokens),
        by_rows=tuple(_operator(operator, move) for operator in operators.by_rows),
        attention=tuple(_attention(kind, move) for kind in operators.attention),
        recurrent=tuple(_recurrent(layers, move) for layers in operators.recurrent),
        uses_longest=operators.uses_longest,
    )


def _operator(operator: Operator, move: Move) -> Operator:
    if operator.on is not None:
        return operator.on(move.other)
    if operator.label == ALL_REDUCE:
        return _all_reduce(operator, move)
    scale, floor = move.scale("linear", operator.flops_per_s), operator.launches * LAUNCH_NS
    if not operator.padded:
        experts = move.doubts.experts
        scale = replace(scale, doubts=replace(scale.doubts, read=experts, compute=experts))
    rows = scale.measured.ridge / scale.other.ridge

    def ns(count: int) -> Estimate:
        if count <= 0:
            return NOTHING
        there = operator.ns(max(1, round(count * rows)))
        return scale.scaled(operator.ns(count), there, floor)

    units, times = units_of(move.measured, operator.flops_per_s)
    peak = times * (move.other.flops_of(units) or move.other.flops_of("bf16") or 0.0)
    return replace(
        operator,
        source=f"{SOURCE}: {operator.source}",
        ns=ns,
        time=None,
        derived=True,
        flops_per_s=peak,
    )


def _all_reduce(operator: Operator, move: Move) -> Operator:
    if (move.measured.nvlink_bytes_per_s is None) != (move.other.nvlink_bytes_per_s is None):
        return datasheet_all_reduce(
            move.model, move.other, move.tensor_parallel_size, move.kv_cache_dtype
        )
    faster = link_bytes_per_s(move.measured) / link_bytes_per_s(move.other)
    shortest, doubts = operator.ns(1).ns, move.doubts

    def ns(tokens: int) -> Estimate:
        if tokens <= 0:
            return NOTHING
        found = operator.ns(tokens)
        floor = min(shortest, found.ns)
        work = (found.ns - floor) * faster
        doubted = floor * doubts.launch + work * doubts.link
        return found._replace(ns=floor + work, doubt=doubted / (floor + work))

    return replace(operator, source=f"{SOURCE}: {operator.source}", ns=ns, derived=True)


def datasheet_all_reduce(
    model: ModelSpec, gpu: GPUSpec, tensor_parallel_size: int, kv_cache_dtype: str
) -> Operator:
    """Two a layer, by latency and bandwidth of the link."""
    roofline = Roofline(
        model=model,
        gpu=gpu,
        kv_cache_dtype=kv_cache_dtype,
        tensor_parallel_size=tensor_parallel_size,
    )
    ring = 2 * (tensor_parallel_size - 1) / tensor_parallel_size

    def ns(tokens: int) -> Estimate:
        moved = 2 * model.num_layers * ring * 2.0 * model.hidden_size * tokens
        return Estimate(roofline.all_reduce_ns(tokens), moved, 0.0, 0.0, True)

    return Operator(label=ALL_REDUCE, source="datasheet link", ns=ns, derived=True)


def _attention(kind: Attention, move: Move) -> Attention:
    return replace(
        kind,
        decode=ScaledDecode(kind.decode, move.scale("decode")),
        mixed=ScaledMixed(kind.mixed, move.scale("prefill")),
        decode_source=f"{SOURCE}: {kind.decode_source}",
        mixed_source=f"{SOURCE}: {kind.mixed_source}",
        derived=True,
    )


def _recurrent(layers: RecurrentLayers, move: Move) -> RecurrentLayers:
    scale = move.scale("decode")

    def moved(one: Callable[[int], Estimate]) -> Callable[[int], Estimate]:
        def ns(count: int) -> Estimate:
            found = one(count)
            return scale.scaled(found, found, LAUNCH_NS) if found.ns else found

        return ns

    return replace(
        layers,
        decode=moved(layers.decode),
        chunk=moved(layers.chunk),
        source=f"{SOURCE}: {layers.source}",
        derived=True,
    )


class ScaledDecode:
    """Decode attention of one layer; bytes and FLOPs both grow with the context: one ratio."""

    def __init__(self, measured: DecodeAttention, scale: Scale) -> None:
        self._measured = measured
        self.contexts = measured.contexts
        longest = measured(1, self.contexts[-1])
        self._ratio = scale.work(longest, longest)
        at_roof = scale.scaled(longest, longest, 0.0)
        self._doubt, self._launch_doubt = at_roof.doubt, scale.doubts.launch

    def means(self, batch: int, contexts: list[float]) -> tuple[list[float], float]:
        """``(ns at each mean context, ns per token of one sequence beyond the last)``."""
        found, slope = self._measured.means(batch, contexts)
        floor = self.floor_ns(batch)
        return [self._scaled(ns, floor) for ns in found], slope * self._ratio

    def floor_ns(self, batch: int) -> float:
        """The launch with next to nothing to read, kept."""
        return self._measured.floor_ns(batch)

    def longest_ns(self, batch: int) -> tuple[float, float]:
        """``(floor, ns per token of the longest sequence)``, kept: one multiprocessor's."""
        return self._measured.longest_ns(batch)

    def __call__(self, batch: int, context_tokens: float) -> Estimate:
        """So many sequences that attend to so many tokens in all, evenly."""
        found = self._measured(batch, context_tokens)
        if not found.ns:
            return found
        floor = min(self.floor_ns(batch), found.ns)
        ns = self._scaled(found.ns, floor)
        doubted = floor * self._launch_doubt + (ns - floor) * self._doubt
        return found._replace(ns=ns, doubt=doubted / ns)

    def _scaled(self, ns: float, floor: float) -> float:
        return floor + (ns - floor) * self._ratio if ns > floor else ns


class ScaledMixed:
    """Attention of one layer in a step with chunks."""

    def __init__(self, measured: MixedAttention, scale: Scale) -> None:
        self._measured, self._scale = measured, scale
        self._floor = measured.ns(Mix(((1, 0),)))

    def __call__(self, mix: Mix) -> Estimate:
        """One layer's launches."""
        found = self._measured(mix)
        return self._scale.scaled(found, found, self._floor)

    def ns(self, mix: Mix) -> float:
        """The time alone."""
        return self(mix).ns
