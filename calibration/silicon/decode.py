"""Decode attention of one kind of layer, from the table of uniform batches.

The table gives the time of ``B`` sequences of ``S`` tokens each, corrected in ``cold``. A server's
batch is described by ``B`` and the sum of its contexts ``T``, read at ``S = T / B``: linear between
measured contexts, and beyond the last one at the cold rate of reading. What imbalance adds:

    t = max(t(B, T) + c (longest - S) / 2, floor(B) + c longest)                    (fa2 family)

``c`` is the time per token of a sequence that one multiprocessor reads alone: what a prefill's tile
takes per key, and no more than the table's own at the smallest batch that gives each multiprocessor
one (sequence, KV head) pair; less in proportion where the batch leaves some idle, for then it is
split. Half of what the longest sequence has more than the mean is idle time at the end, on average.
Families that split long sequences whatever the batch have no such terms.

A layer with more KV heads than the table has is read as so many more sequences with as many heads
fewer: the kernel works on (sequence, KV head) pairs either way.
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np

from ..estimate import NOTHING, Estimate
from ..gpus import GPUSpec
from .cold import ColdGrid
from .heads import Heads, differs, measured, nearest
from .systems import SYSTEMS
from .tables import source_of

OPERATOR = ("attention", "generation_attention")


class DecodeTable:
    """Cold decode times of one attention layer on one card, any batch and context.

    Args:
        gpu: the card.
        heads: the layer's heads on this GPU.
        tile_ns_per_key: of a prefill's tile (``PrefillLaw.tile_ns_per_key``).
    """

    def __init__(self, gpu: GPUSpec, heads: Heads, *, tile_ns_per_key: float) -> None:
        self.heads = heads
        system = SYSTEMS[gpu.name]
        entry = nearest(gpu.name, OPERATOR, heads)
        found = measured(gpu.name, OPERATOR, entry, ("batch_size", "step", "kernel_source"))
        self.source = f"{source_of(system.folder, *OPERATOR)}, {found['kernel_source'][0]}"
        self.derived = differs(heads, entry) or entry.window != heads.window
        self._grid = ColdGrid(
            gpu,
            batch=found["batch_size"],
            context=found["step"] + 1,
            ns=found["ns"],
            bytes_per_token=entry.bytes_per_token,
            window=entry.window,
        )
        self.contexts = self._grid.contexts
        """Knots, tokens."""
        self._window = heads.window if entry.window != heads.window else 0
        """A window that the table does not have: contexts are cut to it."""
        self._pairs = heads.kv / entry.kv
        self._ratio = heads.bytes_per_token / (entry.bytes_per_token * self._pairs)
        self._ns_per_byte = self._grid.cold_ns_per_byte
        self._sms = system.num_sms
        self._known: dict[int, tuple[list[float], float]] = {}
        self._alone_ns = 0.0
        if not system.balances_sequences:
            self._alone_ns = min(self._shared_ns(), tile_ns_per_key)

    def means(self, batch: int, contexts: list[float]) -> tuple[list[float], float]:
        """``(ns at each mean context, ns per token of one sequence beyond the last knot)``."""
        ns, slope = self._curve(batch)
        if self._window:
            contexts = [min(x, self._window) for x in contexts]
        found = np.interp(contexts, self.contexts, ns)
        last = self.contexts[-1]
        return [
            float(y) + slope * max(0.0, x - last) for x, y in zip(contexts, found, strict=True)
        ], slope

    def ns(self, batch: int, context_tokens: float) -> float:
        """The time alone of a call."""
        ns, slope = self._curve(batch)
        knots, mean = self.contexts, context_tokens / batch
        if self._window and mean > self._window:
            mean = self._window
        if mean >= knots[-1]:
            return ns[-1] + slope * (mean - knots[-1])
        index = bisect_right(knots, mean) - 1
        if index < 0:
            return ns[0]
        share = (mean - knots[index]) / (knots[index + 1] - knots[index])
        return ns[index] + share * (ns[index + 1] - ns[index])

    def floor_ns(self, batch: int) -> float:
        """The launch with next to nothing to read."""
        return self._curve(batch)[0][0]

    def longest_ns(self, batch: int) -> tuple[float, float]:
        """``(floor, ns per token of the longest sequence)``: what the launch takes at least."""
        busy = min(1.0, batch * self.heads.kv / self._sms)
        return self.floor_ns(batch), self._alone_ns * busy

    def __call__(self, batch: int, context_tokens: float) -> Estimate:
        """``batch`` sequences that attend to so many tokens in all, evenly."""
        if batch <= 0:
            return NOTHING
        mean = context_tokens / batch
        seen = min(mean, self.heads.window) if self.heads.window else mean
        value = self.ns(batch, context_tokens)
        at = self._grid.at(batch * self._pairs)
        moved = batch * seen * self.heads.bytes_per_token
        flops = 4.0 * batch * seen * self.heads.query * self.heads.dim
        outside = self.derived or at.beyond or seen > at.measured_context
        return Estimate(value, moved, flops, at.distance, outside)

    def _curve(self, batch: int) -> tuple[list[float], float]:
        """``(ns at each knot, ns per context token of one sequence beyond the last)``."""
        known = self._known.get(batch)
        if known is None:
            ns = self._grid.at(batch * self._pairs).ns
            if self._ratio != 1:
                ns = [ns[0] + (x - ns[0]) * self._ratio for x in ns]
            slope = batch * self.heads.bytes_per_token * self._ns_per_byte
            known = self._known[batch] = ns, 0.0 if self.heads.window else slope
        return known

    def _shared_ns(self) -> float:
        """Nanoseconds per token where each multiprocessor reads one pair's keys, all at once."""
        batch = self._sms / self.heads.kv
        at = self._grid.at(max(1.0, batch * self._pairs))
        return (at.ns[-1] - at.ns[0]) * self._ratio / self.contexts[-1]
