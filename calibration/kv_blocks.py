"""From bytes to blocks, as the engine plans it.

Layers are put into groups; groups overlay the same bytes, a block id is one group's at a time:

    bytes_per_block = max over groups of the sum of the pages of the group's layers
    num_blocks      = available // bytes_per_block          (the null block is one of them)

Grouping: all layers alike, one group; same kind and window but other sizes, one group with its own
page per layer; else pages are made equal (a smaller page gets a longer block where that divides, is
padded where not) and each kind is cut in groups of the smallest kind's size (of the largest's, if
that is less than 1.5 times the smallest's). A recurrent layer holds one state per sequence in one
page. Source: vLLM ``v1/core/kv_cache_planning.py``, checked against its own results.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from .kv_groups import KVGroup, LayerCache, group_layers
from .stages import Stage

__all__ = ["BlockPlan", "KVGroup", "LayerCache", "group_layers", "plan_blocks"]

AUTO = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockPlan:
    """The pool in blocks."""

    groups: tuple[KVGroup, ...]
    block_bytes: int
    num_blocks: int
    """As the engine counts: with the null block."""
    max_model_len: int
    max_in_flight_tokens: int

    @property
    def usable_blocks(self) -> int:
        """Blocks that requests can hold."""
        return self.num_blocks - 1

    @property
    def scheduler_block_size(self) -> int:
        """Tokens: least common multiple of the groups' block sizes."""
        return math.lcm(*self._block_sizes())

    @property
    def hash_block_size(self) -> int:
        """Tokens: greatest common divisor of the groups' block sizes."""
        return math.gcd(*self._block_sizes())

    @property
    def max_concurrency(self) -> float:
        """Requests of ``max_model_len`` in the pool, as the engine prints it."""
        return self.num_blocks / self.blocks_of(self.max_model_len)

    @property
    def capacity_tokens(self) -> int:
        """Tokens of the pool, as the engine prints it."""
        return int(self.max_concurrency * self.max_model_len)

    def blocks_of(self, tokens: int) -> int:
        """Blocks of one request of so many tokens, over all groups, at its largest."""
        return blocks_of(self.groups, tokens, self.max_in_flight_tokens)

    def _block_sizes(self) -> list[int]:
        sizes = [group.block_size for group in self.groups if group.kind != "recurrent"]
        return sizes or [group.block_size for group in self.groups]


def blocks_of(groups: Iterable[KVGroup], tokens: int, max_in_flight_tokens: int) -> int:
    """Blocks that one request of ``tokens`` takes at most: the groups' blocks add up."""
    return sum(group.blocks_of(tokens, max_in_flight_tokens) for group in groups)


def bytes_per_block(groups: Iterable[KVGroup]) -> int:
    """Groups overlay: the largest decides."""
    return max(group.page_bytes for group in groups)


def plan_blocks(
    layers: Sequence[LayerCache],
    *,
    available_bytes: int | Sequence[int],
    max_model_len: int,
    max_in_flight_tokens: int,
    hybrid_kv_cache: bool = True,
    num_gpu_blocks_override: int | None = None,
    stage: Stage | None = None,
) -> BlockPlan:
    """Blocks of a pool of so many bytes (of the smallest pool, where every rank has its own).

    ``max_model_len`` of -1 searches the largest that fits. ``layers`` are the whole model's: groups
    are made over all stages of a pipeline, a ``stage`` then holds its part of each.

    Raises:
        ValueError: the pool does not hold one request of ``max_model_len`` beside the null block.
    """
    groups = group_layers(layers, hybrid_kv_cache=hybrid_kv_cache)
    if stage is not None:
        groups = tuple(group.on_stage(stage) for group in groups)
    block = bytes_per_block(groups)
    ranks = [available_bytes] if isinstance(available_bytes, int) else list(available_bytes)
    num_blocks = min(ranks) // block
    if num_gpu_blocks_override is not None:
        num_blocks = num_gpu_blocks_override
    plan = BlockPlan(
        groups=groups,
        block_bytes=block,
        num_blocks=num_blocks,
        max_model_len=max_model_len,
        max_in_flight_tokens=max_in_flight_tokens,
    )
    fitted = largest_model_len(plan, upper=max_model_len if max_model_len > 0 else None)
    if max_model_len == AUTO and fitted > 0:
        return replace(plan, max_model_len=fitted)
    if fitted < max_model_len or fitted <= 0:
        overridden = num_gpu_blocks_override is not None
        raise ValueError(_too_small(plan, min(ranks), fitted, overridden=overridden))
    return plan


def largest_model_len(plan: BlockPlan, upper: int | None = None) -> int:
    """The longest request that the usable blocks hold, 0 where none does."""
    low = 0
    high = upper or max(1, plan.usable_blocks) * max(g.block_size for g in plan.groups)
    while low < high:
        middle = (low + high + 1) // 2
        if plan.blocks_of(middle) <= plan.usable_blocks:
            low = middle
        else:
            high = middle - 1
    return low


def _too_small(plan: BlockPlan, available_bytes: int, fitted: int, *, overridden: bool) -> str:
    length = plan.max_model_len
    if length == AUTO and overridden:
        return (
            f"num_gpu_blocks_override(={plan.num_blocks}) leaves {max(plan.usable_blocks, 0)} "
            f"blocks beside the null block, one token needs {plan.blocks_of(1)}."
        )
    if length == AUTO:
        return (
            f"The KV pool of {available_bytes:,} bytes does not hold one token beside the null "
            "block."
        )
    need = plan.blocks_of(length) + 1
    advice = (
        f"max_model_len <= {fitted} would fit"
        if fitted
        else f"one block takes {plan.block_bytes:,} bytes"
    )
    return (
        f"max_model_len(={length}) needs {need} KV blocks (one is the null block), the pool has "
        f"{max(plan.num_blocks, 0)}; {advice}."
    )
