"""The batches that kvsim's kernels and other libraries' are compared on, and the goals for ours.

One layer of Llama-3.1-8B: 32 query heads on 8 KV heads of 128 dimensions, bf16. ``A`` is 64
sequences of 4,096 tokens: 64 * 4096 * 8 * 128 * 2 * 2 bytes = 1.07 GB of keys and values. Goals are
shares of what the card itself can do, so they hold on any card, but for two absolute ones
(15 us, 350 TFLOP/s) that were set for an H200.

    copy_share   bytes of KV / time / measured copy rate      at least
    seconds      time of one call                             at most
    flops_per_s  FLOPs / time, causal pairs only              at least
    times_faster time of ``beside`` / time                    at least
    over         time / time of ``beside`` - 1                at most
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from statistics import median
from typing import Any

from ..profile.values import Sample
from .attention_points import decode_point, decode_x, prefill_point, prefill_x, token_bytes
from .batches import Runs, ragged
from .model_shapes import AttentionShape
from .point import Point

OURS = "kvsim"
SHAPE = AttentionShape(kind="paged", heads=32, kv_heads=8, head_dim=128)
SHARD = AttentionShape(kind="paged", heads=4, kv_heads=1, head_dim=128)
A: Runs = [[4096, 64]]
RAGGED_SEED = 0
"""The uneven case is the same in every run."""
PREFILL_TOKENS = 8192
COMPILE_S = 25.0
"""Of a baseline that is compiled from Python."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One batch, and who is measured on it."""

    name: str
    x: Mapping[str, Any]
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What our kernel should reach on a case."""

    case: str
    quantity: str
    """As in the module's docstring."""
    bound: float
    beside: tuple[str, str] | None = None
    """``(case, name)`` of the time that it is compared with."""

    @property
    def is_at_most(self) -> bool:
        """Whether less is better."""
        return self.quantity in ("seconds", "over")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A goal beside what was measured."""

    goal: Goal
    value: float | None
    """None where a time that it needs was not measured."""

    @property
    def met(self) -> bool | None:
        """None where it cannot be said."""
        if self.value is None:
            return None
        bound = self.goal.bound
        return self.value <= bound if self.goal.is_at_most else self.value >= bound


def _even(runs: Runs, *, block_size: int = 16, shape: AttentionShape = SHAPE, **more: Any) -> Any:
    return decode_x(shape, "bf16", runs, block_size=block_size, **more)


_UNEVEN = ragged("lognormal", 64, 4096, Random(f"{RAGGED_SEED}/baselines"))
_PAGED = (OURS, "xformers_splitk")
_EVEN = (OURS, "contiguous", "sdpa", "xformers_splitk")
_ALL = (OURS, "contiguous", "sdpa", "sdpa_cudnn", "flex_paged", "xformers_splitk")
CASES = (
    Case(name="A block 16", x=_even(A), names=_ALL),
    Case(name="A block 64", x=_even(A, block_size=64), names=_PAGED),
    Case(name="A block 128", x=_even(A, block_size=128), names=(OURS, "flex_paged")),
    Case(name="B 8 x 32k", x=_even([[32_768, 8]]), names=_EVEN),
    Case(name="ragged", x=_even(_UNEVEN, name="lognormal"), names=_PAGED),
    Case(name="B 1 x 32k", x=_even([[32_768, 1]]), names=_EVEN),
    Case(name="B 1 x 4k", x=_even([[4096, 1]]), names=_EVEN),
    Case(name="A fp8 KV", x=_even(A, kv_dtype="fp8_e4m3"), names=(OURS,)),
    Case(name="TP 8 shard", x=_even(A, shape=SHARD), names=(OURS, "contiguous", "sdpa")),
    Case(
        name="prefill 8192",
        x=prefill_x(SHAPE, "bf16", [[PREFILL_TOKENS, 0]]),
        names=(OURS, "sdpa", "sdpa_cudnn"),
    ),
)
GOALS = (
    Goal(case="A block 16", quantity="copy_share", bound=0.90),
    Goal(case="A block 16", quantity="over", bound=0.03, beside=("A block 64", OURS)),
    Goal(case="A block 16", quantity="over", bound=0.03, beside=("A block 16", "contiguous")),
    Goal(case="A block 64", quantity="copy_share", bound=0.92),
    Goal(case="A block 128", quantity="copy_share", bound=0.92),
    Goal(case="B 8 x 32k", quantity="copy_share", bound=0.85),
    Goal(case="ragged", quantity="copy_share", bound=0.85),
    Goal(case="B 1 x 32k", quantity="copy_share", bound=0.60),
    Goal(case="B 1 x 4k", quantity="seconds", bound=15e-6),
    Goal(case="A fp8 KV", quantity="times_faster", bound=1.3, beside=("A block 16", OURS)),
    Goal(case="TP 8 shard", quantity="copy_share", bound=0.70),
    Goal(case="prefill 8192", quantity="flops_per_s", bound=350e12),
)


def baseline_points() -> Iterator[Point]:
    """Every case by everybody who is measured on it."""
    for case in CASES:
        for name in case.names:
            x = {**case.x, "name": name, "case": case.name}
            made = prefill_point(x) if "chunks" in x else decode_point("baselines", x)
            compiled_s = COMPILE_S if name == "flex_paged" else 0.0
            yield replace(
                made,
                family="baselines",
                role="baseline",
                seconds=made.seconds + compiled_s,
                memory_bytes=2 * made.memory_bytes,
            )


def judge(samples: Sequence[Sample]) -> tuple[Verdict, ...]:
    """Every goal beside the samples of a run that holds ceilings and baselines."""
    found = {
        (str(s.x["case"]), str(s.x["name"])): (median(s.t), s.x)
        for s in samples
        if s.family == "baselines" and s.t
    }
    copy_per_s = copy_rate(samples)
    return tuple(Verdict(goal=goal, value=_value(goal, found, copy_per_s)) for goal in GOALS)


def copy_rate(samples: Sequence[Sample]) -> float | None:
    """Bytes per second of the fastest copy, read and written ones together."""
    rates = [
        s.x["bytes"] / median(s.t)
        for s in samples
        if s.family == "ceilings" and s.x["what"] == "copy" and s.t
    ]
    return max(rates, default=None)


def verdict_line(verdict: Verdict) -> str:
    """``A block 16: copy_share 0.912, goal >= 0.9: met``."""
    goal = verdict.goal
    beside = f" {' of '.join(reversed(goal.beside))}" if goal.beside else ""
    sign = "<=" if goal.is_at_most else ">="
    if verdict.value is None:
        return f"{goal.case}: {goal.quantity}{beside} not measured, goal {sign} {goal.bound:g}"
    word = "met" if verdict.met else "MISSED"
    return (
        f"{goal.case}: {goal.quantity}{beside} {verdict.value:.4g}, "
        f"goal {sign} {goal.bound:g}: {word}"
    )


def _value(
    goal: Goal,
    found: Mapping[tuple[str, str], tuple[float, Mapping[str, Any]]],
    copy_per_s: float | None,
) -> float | None:
    ours = found.get((goal.case, OURS))
    beside = found.get(goal.beside) if goal.beside else None
    if ours is None or (goal.beside and beside is None):
        return None
    time_s, x = ours
    if goal.quantity == "copy_share":
        return None if copy_per_s is None else kv_bytes(x) / time_s / copy_per_s
    if goal.quantity == "flops_per_s":
        return causal_flops(x) / time_s
    if beside is None:
        return time_s
    return beside[0] / time_s if goal.quantity == "times_faster" else time_s / beside[0] - 1


def kv_bytes(x: Mapping[str, Any]) -> int:
    """Keys and values that a batch of decodes reads."""
    tokens: int = sum(length * count for length, count in x["seq_lens"])
    return tokens * token_bytes(dict(x))


def causal_flops(x: Mapping[str, Any]) -> float:
    """Two products over the visible pairs of chunks: 4 heads d (new past + new^2 / 2)."""
    pairs = sum(new * (past + new / 2) for new, past in x["chunks"])
    return float(4 * x["heads"] * x["head_dim"] * pairs)
