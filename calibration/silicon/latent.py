"""Multi-head latent attention, from the tables of whole modules.

The tables hold DeepSeek-V3's module (hidden size 7168, latent 512 + 64, some number of heads) with
its projections in 16 bits. What the projections take is subtracted as matrix products of the same
card, P(tokens); what is left is the attention with its small kernels:

    decode(B, S) = module(B, S) - P(B)                     corrected in ``cold``
    prefill(q)   = a(q) + e * 2 pairs heads (192 + 128) / F
        e        from the longest prompt, at least 1
        a(q)     module(q) - P(q) less the pairs' part: launches, writes, small kernels

``pairs`` are those of a query and a key it sees, cached ones included; ``F`` is the card's peak. A
model's own projections are costed by ``layers`` from its own parameters.
"""

from __future__ import annotations

from math import log2

import numpy as np

from ..estimate import NOTHING, Estimate
from ..gpus import GPUSpec
from ..operators import Mix
from ..step_cost import NS_PER_S
from .cold import ColdGrid
from .gemm import Gemm, Product
from .monotone import Rising
from .systems import SYSTEMS
from .tables import rows, source_of

GENERATION = ("mla", "mla_generation_module")
CONTEXT = ("mla", "mla_context_module")
MODEL = {"model": "deepseek-ai/DeepSeek-V3", "mla_dtype": "bfloat16"}
HIDDEN, QUERY_RANK, LATENT, ROTARY = 7168, 1536, 512, 64
KEY_DIM, VALUE_DIM = 128 + ROTARY, 128
LEAST_NS = 10e3
"""Of the attention's own kernels (assumed: the floor of every attention kernel in the tables)."""
WIDE = 16.0


class Latent:
    """MLA of one layer on one GPU.

    Args:
        gpu: the card.
        num_heads: query heads on this GPU.
        kv_dtype: ``bfloat16`` or ``fp8``.
    """

    def __init__(self, gpu: GPUSpec, *, num_heads: int, kv_dtype: str) -> None:
        self._heads = num_heads
        self._flops_per_s = gpu.flops_of("bf16") or 0.0
        self.token_bytes = (LATENT + ROTARY) * (1 if kv_dtype == "fp8" else 2)
        folder = SYSTEMS[gpu.name].folder
        self.source = source_of(folder, *GENERATION)
        where = _where(folder, num_heads, kv_dtype)
        heads = int(where["num_heads"])
        same = where["kv_cache_dtype"] == kv_dtype and where["gemm_type"] == "bfloat16"
        self.derived = heads != num_heads or not same
        self._more_heads = max(1.0, num_heads / heads)
        gemm = Gemm(gpu, WIDE)
        found = rows(folder, *GENERATION, ("batch_size", "step"), where)
        self._grid = ColdGrid(
            gpu,
            batch=found["batch_size"],
            context=found["step"],
            ns=_beside(found["ns"], found["batch_size"], _decode_projections(gemm, heads)),
            bytes_per_token=self.token_bytes,
        )
        self.contexts = self._grid.contexts
        prefill = rows(folder, *CONTEXT, ("batch_size", "isl"), where)
        one = prefill["batch_size"] == 1
        length = prefill["isl"][one]
        ns = _beside(prefill["ns"][one], length, _prefill_projections(gemm, heads))
        peak = np.array([self._pairs_ns(heads, int(q), 0) for q in length])
        longest = int(np.argmax(length))
        self._slower = max(1.0, float(ns[longest] / peak[longest]))
        rest = np.maximum(ns - self._slower * peak, LEAST_NS)
        order = np.argsort(length)
        self._beside = Rising(length[order].tolist(), rest[order].tolist())
        self._longest = int(length[longest])

    def means(self, batch: int, contexts: list[float]) -> tuple[list[float], float]:
        """``(ns at each mean context, ns per token of one sequence beyond the last knot)``."""
        ns = [x * self._more_heads for x in self._grid.at(batch).ns]
        slope = batch * self.token_bytes * self._grid.cold_ns_per_byte * self._more_heads
        found = np.interp(contexts, self.contexts, ns)
        last = self.contexts[-1]
        return [
            float(y) + slope * max(0.0, x - last) for x, y in zip(contexts, found, strict=True)
        ], slope

    def floor_ns(self, batch: int) -> float:
        """The launch with next to nothing to read."""
        return self._grid.at(batch).ns[0] * self._more_heads

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
        flops = 2.0 * context_tokens * self._heads * (LATENT + ROTARY + LATENT)
        return Estimate(value, context_tokens * self.token_bytes, flops, at.distance, outside)

    def chunk(self, new: int, past: int) -> Estimate:
        """Prefill of ``new`` tokens after ``past`` cached ones, which the table does not have."""
        ns = self._beside(min(new, self._longest))
        ns += self._slower * self._pairs_ns(self._heads, new, past)
        moved = float((new + past) * self.token_bytes)
        outside = self.derived or past > 0 or new > self._longest
        distance = min(abs(log2(new / x)) for x in self._beside.points)
        return Estimate(ns, moved, self._flops(self._heads, new, past), distance, outside)

    def _pairs_ns(self, heads: int, new: int, past: int) -> float:
        return NS_PER_S * self._flops(heads, new, past) / self._flops_per_s

    @staticmethod
    def _flops(heads: int, new: int, past: int) -> float:
        return 2.0 * new * (past + (new + 1) / 2) * heads * (KEY_DIM + VALUE_DIM)


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


def _decode_projections(gemm: Gemm, heads: int) -> list[Product]:
    """Latents down and up, the heads' keys and values absorbed, output."""
    absorbed = [gemm.of(heads * LATENT, 128), gemm.of(heads * VALUE_DIM, LATENT)]
    return [*_projections(gemm, heads), *absorbed]


def _prefill_projections(gemm: Gemm, heads: int) -> list[Product]:
    """The same, with keys and values of all heads projected from the latent."""
    return [*_projections(gemm, heads), gemm.of(heads * 2 * VALUE_DIM, LATENT)]


def _projections(gemm: Gemm, heads: int) -> list[Product]:
    shapes = (
        (QUERY_RANK, HIDDEN),
        (LATENT + ROTARY, HIDDEN),
        (heads * KEY_DIM, QUERY_RANK),
        (HIDDEN, heads * VALUE_DIM),
    )
    return [gemm.of(n, k) for n, k in shapes]


def _beside(ns: np.ndarray, tokens: np.ndarray, products: list[Product]) -> np.ndarray:
    """Module times less the projections of so many tokens."""
    own = {m: sum(product.ns(m) for product in products) for m in set(tokens.tolist())}
    return np.asarray(np.maximum(ns - np.array([own[m] for m in tokens.tolist()]), LEAST_NS))


def _where(folder: str, num_heads: int, kv_dtype: str) -> dict[str, str | int]:
    """The nearest measured variant: the heads count most, then the cache, then the weights."""
    names = ("num_heads", "kv_cache_dtype", "gemm_type")
    found = rows(folder, *GENERATION, names, MODEL)
    known = set(zip(*(found[name].tolist() for name in names), strict=True))
    best = min(
        known,
        key=lambda k: (abs(log2(k[0] / num_heads)), k[1] != kv_dtype, k[2] != "bfloat16", k),
    )
    return {**MODEL, **dict(zip(names, best, strict=True))}
