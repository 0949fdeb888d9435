"""The one-pass curve against replays, published figures and the counts of the golden file."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsim.traces import Trace, load_trace
from kvsim.traces.cache_curve import cache_curve, fifo_hit_blocks
from kvsim.traces.prefix_stats import prefix_stats

# Block-hit ratios of the Mooncake conversation trace, 512-token blocks.
LRU = {1000: 0.0445, 3000: 0.0650, 10_000: 0.2112, 30_000: 0.3257, 50_000: 0.3546, 100_000: 0.3637}
FIFO = {1000: 0.0434, 10_000: 0.1815, 30_000: 0.2944, 50_000: 0.3335, 100_000: 0.3563}


def chained(parents: list[list[int]], block_tokens: int = 4) -> Trace:
    """Prompts that walk down a tree: child numbers at each level; ids are those of the path."""
    names: dict[tuple[int, ...], int] = {}
    chains = []
    for path in parents:
        prefixes = [tuple(path[: depth + 1]) for depth in range(len(path))]
        chains.append([names.setdefault(prefix, len(names)) for prefix in prefixes])
    lengths = np.array([len(chain) * block_tokens for chain in chains])
    return Trace(
        name="tree",
        prompt_tokens=np.maximum(lengths - 1, 1),
        output_tokens=np.ones(len(chains), dtype=np.int64),
        arrival_s=np.arange(len(chains), dtype=np.float64),
        hash_ids=np.array([block for chain in chains for block in chain], dtype=np.uint64),
        hash_offsets=np.concatenate([[0], np.cumsum([len(chain) for chain in chains])]),
        hash_block_size=block_tokens,
    )


@given(
    paths=st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), min_size=1, max_size=40),
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=5),
)
def test_one_pass_equals_a_replay_per_size(paths: list[list[int]], sizes: list[int]) -> None:
    trace = chained(paths)
    curve, stats = cache_curve(trace), prefix_stats(trace, sizes)
    assert curve.convention == "ceil"
    for size in sizes:
        blocks, tokens = replayed(trace, size)
        assert round(curve.block_ratio(size) * curve.block_refs) == blocks
        assert round(curve.token_ratio(size) * curve.input_tokens) == tokens
        assert stats["lru"][str(size)]["hit_blocks"] == blocks
        assert stats["lru"][str(size)]["hit_tokens"] == tokens
    blocks, tokens = replayed(trace, 10**9)
    assert round(curve.token_ratio(None) * curve.input_tokens) == tokens
    assert stats["infinite"]["hit_blocks"] == blocks


def replayed(trace: Trace, capacity: int) -> tuple[int, int]:
    """Blocks and tokens that an LRU cache hits, written from the definition."""
    cache: OrderedDict[int, None] = OrderedDict()
    blocks = tokens = 0
    for row, prompt in enumerate(trace.prompt_tokens.tolist()):
        ids = trace.hash_chain(row).tolist()
        hit = next((depth for depth, block in enumerate(ids) if block not in cache), len(ids))
        blocks += hit
        tokens += min(hit * 4, prompt)
        for block in reversed(ids):
            cache[block] = None
            cache.move_to_end(block)
        for _ in range(len(cache) - capacity):
            cache.popitem(last=False)
    return blocks, tokens


def test_first_in_first_out_by_hand() -> None:
    """a, b, a, c, a with room for two: the hit on a does not keep it."""
    trace = chained([[0], [1], [0], [2], [0]])
    assert fifo_hit_blocks(trace, 2) == 1
    assert fifo_hit_blocks(trace, 3) == 2
    assert round(cache_curve(trace).block_ratio(2) * 5) == 2


def test_mooncake(shared_file: Callable[[str], Path]) -> None:
    trace = load_trace(shared_file("traces/mooncake/conversation_trace.jsonl.gz"))
    curve = cache_curve(trace)
    golden = json.loads(shared_file("traces/GOLDEN.json").read_text(encoding="utf-8"))
    prefix = golden["mooncake/conversation_trace.jsonl"]["prefix"]
    for size, counts in prefix["lru"].items():
        assert round(curve.token_ratio(int(size)) * curve.input_tokens) == counts["hit_tokens"]
        assert round(curve.block_ratio(int(size)) * curve.block_refs) == counts["hit_blocks"]
    assert round(curve.token_ratio(None), 6) == prefix["infinite"]["token_ratio"]
    for size, ratio in LRU.items():
        assert curve.block_ratio(size) == pytest.approx(ratio, abs=0.001)
    for size, ratio in FIFO.items():
        hits = fifo_hit_blocks(trace, size)
        assert hits / curve.block_refs == pytest.approx(ratio, abs=0.001)


def test_a_trace_without_ids(tmp_path: Path) -> None:
    trace = Trace(
        name="plain",
        prompt_tokens=np.array([3]),
        output_tokens=np.array([1]),
        arrival_s=np.array([0.0]),
    )
    with pytest.raises(ValueError, match="trace 'plain' has no hash_ids"):
        cache_curve(trace)
