"""Multi-head latent attention, from the tables of whole modules (projections included).

    module(B, S)     decode of B sequences of S tokens, corrected in ``cold``
    module(q)        prefill of one chunk of q tokens

The tables are of DeepSeek-V3's module: hidden size 7168, latent 512 + 64, any number of heads. For
another model of the family the attention itself is taken from there,

    attention(B, S) = module(B, S) - module(B, 2),      prefill(q) = module(q) - module(1)

and its projections are costed as matrix products by ``layers``.
"""

from __future__ import annotations

from math import log2

import numpy as np

from ..estimate import NOTHING, Estimate
from ..gpus import GPUSpec
from ..operators import Mix
from .cold import ColdGrid
from .grid import LogGrid
from .systems import SYSTEMS
from .tables import rows, source_of

GENERATION = ("mla", "mla_generation_module")
CONTEXT = ("mla", "mla_context_module")
HIDDEN_SIZE = 7168
LATENT = 512 + 64
WIDE_BITS = 12
FLOOR_SHARE = 0.3
"""Of the module at two tokens, what is attention and not projections (assumed: its own kernels)."""


class Latent:
    """MLA of one layer on one GPU.

    Args:
        gpu: the card.
        num_heads: query heads on this GPU.
        kv_dtype: ``bfloat16`` or ``fp8``.
        projection_parameters: of one layer on this GPU.
        projection_bits: of each of them.
        whole: the model's projections are the table's, so its whole module is meant.
    """

    def __init__(
        self,
        gpu: GPUSpec,
        *,
        num_heads: int,
        kv_dtype: str,
        projection_parameters: float,
        projection_bits: float,
        whole: bool,
    ) -> None:
        self.whole = whole
        self._parameters = projection_parameters if whole else 0.0
        self._weight_bytes = self._parameters * projection_bits / 8
        self._heads = num_heads
        self.token_bytes = LATENT * (1 if kv_dtype == "fp8" else 2)
        folder = SYSTEMS[gpu.name].folder
        self.source = source_of(folder, *GENERATION)
        where = _where(folder, num_heads, kv_dtype, projection_bits < WIDE_BITS)
        self.derived = where["num_heads"] != num_heads or where["kv_cache_dtype"] != kv_dtype
        found = rows(folder, *GENERATION, ("batch_size", "step"), where)
        self._grid = ColdGrid(
            gpu,
            batch=found["batch_size"],
            context=found["step"],
            ns=found["ns"],
            bytes_per_token=self.token_bytes,
        )
        self.contexts = self._grid.contexts
        prefill = rows(folder, *CONTEXT, ("batch_size", "isl"), where)
        one = (prefill["batch_size"] == 1) & (prefill["isl"] > 0)
        self._prefill = LogGrid((prefill["isl"][one],), prefill["ns"][one])
        self._one_ns = self._prefill(1).value
        self._per_pair_ns = _per_pair_ns(prefill["isl"][one], prefill["ns"][one])

    def means(self, batch: int, contexts: list[float]) -> tuple[list[float], float]:
        """``(ns at each mean context, ns per token of one sequence beyond the last knot)``."""
        ns = self._curve(batch)
        slope = batch * self.token_bytes * self._grid.cold_ns_per_byte
        found = np.interp(contexts, self.contexts, ns)
        last = self.contexts[-1]
        return [
            float(y) + slope * max(0.0, x - last) for x, y in zip(contexts, found, strict=True)
        ], slope

    def floor_ns(self, batch: int) -> float:
        """The launch with next to nothing to read."""
        return self._curve(batch)[0]

    def _curve(self, batch: int) -> list[float]:
        ns = self._grid.at(batch).ns
        return ns if self.whole else [x - (1 - FLOOR_SHARE) * ns[0] for x in ns]

    def longest_ns(self, batch: int) -> tuple[float, float]:
        """Sequences are split and balanced: the longest one adds nothing."""
        return 0.0, 0.0

    def __call__(self, batch: int, context_tokens: float) -> Estimate:
        """``batch`` sequences that attend to so many tokens in all."""
        if batch <= 0:
            return NOTHING
        mean = context_tokens / batch
        value = self.means(batch, [mean])[0][0]
        at = self._grid.at(batch)
        outside = self.derived or at.beyond or mean > at.measured_context
        flops = 2.0 * context_tokens * self._heads * (LATENT + LATENT - 64)
        flops += 2.0 * batch * self._parameters
        moved = context_tokens * self.token_bytes + self._weight_bytes
        return Estimate(value, moved, flops, at.distance, outside)

    def chunk(self, new: int, past: int) -> Estimate:
        """Prefill of ``new`` tokens after ``past`` cached ones."""
        found = self._prefill(new)
        ns = found.value if self.whole else found.value - (1 - FLOOR_SHARE) * self._one_ns
        ns += new * past * self._per_pair_ns
        pairs = new * (past + (new + 1) / 2)
        flops = 2.0 * pairs * self._heads * (192 + 128) + 2.0 * new * self._parameters
        moved = (new + past) * self.token_bytes + self._weight_bytes
        distance = max(found.distance, 1.0) if past else found.distance
        return Estimate(ns, float(moved), flops, distance, found.outside or self.derived)


class LatentMixed:
    """Prefills and decodes of one MLA layer, launched apart."""

    def __init__(self, latent: Latent) -> None:
        self._latent = latent

    def __call__(self, mix: Mix) -> Estimate:
        """One layer's launches."""
        made = self._latent(mix.decodes, mix.context_tokens)
        for new, past in mix.chunks:
            made = made.plus(self._latent.chunk(new, past))
        return made

    def ns(self, mix: Mix) -> float:
        """The time alone."""
        return self(mix).ns


MODEL = "deepseek-ai/DeepSeek-V3"


def _where(folder: str, num_heads: int, kv_dtype: str, fp8_weights: bool) -> dict[str, object]:
    """The nearest measured variant."""
    names = ("num_heads", "kv_cache_dtype", "gemm_type")
    found = rows(folder, *GENERATION, names, {"model": MODEL})
    known = set(zip(*(found[name].tolist() for name in names), strict=True))
    gemm = "fp8_block" if fp8_weights else "bfloat16"
    best = min(
        known,
        key=lambda k: (k[1] != kv_dtype, k[2] != gemm, abs(log2(k[0] / num_heads)), k),
    )
    return {"model": MODEL, **dict(zip(names, best, strict=True))}


def _per_pair_ns(length: np.ndarray, ns: np.ndarray) -> float:
    """Nanoseconds per pair of query and key, from the two longest prompts."""
    first, second = np.argsort(length)[-2:]
    pairs = (float(length[second]) ** 2 - float(length[first]) ** 2) / 2
    return float(ns[second] - ns[first]) / pairs
