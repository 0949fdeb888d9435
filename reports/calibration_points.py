"""Samples as a report needs them: their median time, bytes to be moved, FLOPs to be done.

Only useful work counts, so that whatever a kernel does beside it lowers its rate:

    decode   bytes = sum of seen * token_bytes      flops = sum of seen * token_flops
    prefill  bytes = (past + new) * token_bytes + 2 * new * heads * head_dim * size
             flops = new * (past + new / 2) * token_flops
    GEMM     bytes = (m k + n k + m n) * size       flops = 2 m n k

``seen`` are the keys that a decode attends to, ``token_bytes`` a token's K and V in one layer,
``token_flops = 4 * heads * head_dim``; a latent is read once and its values are its first 512
elements. Element-wise kernels move the bytes that the sample states; their FLOPs are a count by
hand, per element moved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import groupby
from statistics import median
from typing import Any

from ..calibration.measure.cases import causal_flops
from ..calibration.profile.loads import dtype_bytes, token_bytes
from ..calibration.profile.values import AttentionKey, Sample

LATENT_VALUES = 512
FLOPS_PER_ELEMENT_MOVED = {
    "rms_norm": 4 / 2,
    "rope_write": 3 / 2,
    "silu_mul": 5 / 3,
    "residual": 1 / 3,
}
"""FLOPs of an element over the times it is read or written; other kernels compute nothing."""
ATTENTION = ("decode", "ragged", "kv_dtypes", "block_sizes", "prefill", "mixed")

Work = tuple[float, float]
"""Bytes and FLOPs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One sample with its work."""

    sample: Sample
    seconds: float
    """Median of the repetitions."""
    moved_bytes: float
    """0 where the family moves nothing that is counted."""
    flops: float

    @property
    def x(self) -> Mapping[str, Any]:
        """The shape."""
        return self.sample.x

    @property
    def bytes_per_s(self) -> float:
        """Useful bytes over the time."""
        return self.moved_bytes / self.seconds

    @property
    def flops_per_s(self) -> float:
        """Useful FLOPs over the time."""
        return self.flops / self.seconds

    @property
    def lengths(self) -> tuple[tuple[int, int], ...]:
        """``(length, how many)`` of the decodes, equal neighbours together."""
        runs = groupby(self.x.get("seq_lens", ()), key=lambda run: int(run[0]))
        return tuple((length, sum(int(count) for _, count in run)) for length, run in runs)

    @property
    def is_even(self) -> bool:
        """Whether only decodes of one length run, each of which sees all of its keys."""
        window = self.x.get("sliding_window", 0)
        return len(self.lengths) == 1 and "chunks" not in self.x and not window

    @property
    def batch(self) -> int:
        """Sequences that decode."""
        return sum(count for _, count in self.lengths)

    @property
    def context_tokens(self) -> float:
        """Mean length of the decodes."""
        return sum(n * count for n, count in self.lengths) / max(1, self.batch)

    @property
    def key(self) -> AttentionKey:
        """Which attention kernel ran."""
        return _key(self.x)


def points_of(samples: tuple[Sample, ...]) -> tuple[Point, ...]:
    """Every timed sample, in order."""
    timed = [one for one in samples if one.unit == "s" and one.t]
    return tuple(_point(one) for one in timed)


def _point(sample: Sample) -> Point:
    moved, flops = _work(sample)
    return Point(sample=sample, seconds=median(sample.t), moved_bytes=moved, flops=flops)


def _key(x: Mapping[str, Any]) -> AttentionKey:
    names = ("kind", "dtype", "kv_dtype", "heads", "kv_heads", "head_dim", "block_size")
    return AttentionKey(**{name: x[name] for name in names})


def _work(sample: Sample) -> Work:
    x = sample.x
    if sample.family in (*ATTENTION, "baselines"):
        decode, prefill = _decode_work(x), _prefill_work(x)
        return decode[0] + prefill[0], decode[1] + prefill[1]
    work = _WORK.get(sample.family)
    return work(x) if work else (float(x.get("bytes", 0)), float(x.get("flops", 0)))


def _decode_work(x: Mapping[str, Any]) -> Work:
    window = x.get("sliding_window") or float("inf")
    seen = sum(min(n, window) * count for n, count in x.get("seq_lens", ()))
    return seen * token_bytes(_key(x)), seen * _token_flops(x)


def _prefill_work(x: Mapping[str, Any]) -> Work:
    if "chunks" not in x:
        return 0.0, 0.0
    row_bytes = x["heads"] * x["head_dim"] * dtype_bytes(x["dtype"])
    moved = [(past + new) * token_bytes(_key(x)) + 2 * new * row_bytes for new, past in x["chunks"]]
    return sum(moved), causal_flops(x)


def _token_flops(x: Mapping[str, Any]) -> float:
    values = LATENT_VALUES if x.get("kind") == "latent" else x["head_dim"]
    return float(2 * x["heads"] * (x["head_dim"] + values))


def _gemm_work(x: Mapping[str, Any]) -> Work:
    m, n, k = x["m"], x["n"], x["k"]
    return float((m * k + n * k + m * n) * dtype_bytes(x["dtype"])), float(2 * m * n * k)


def _elementwise_work(x: Mapping[str, Any]) -> Work:
    elements = x["bytes"] / dtype_bytes(x["dtype"])
    return float(x["bytes"]), elements * FLOPS_PER_ELEMENT_MOVED.get(x["op"], 0.0)


_WORK: dict[str, Callable[[Mapping[str, Any]], Work]] = {
    "gemm": _gemm_work,
    "elementwise": _elementwise_work,
}
