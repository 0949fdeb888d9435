"""Copy-on-write: whole blocks copied inside a cache, in one launch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ....kernels.block_move import copy_blocks
from ..bench import Bench, rotating
from ..card import Work


def prepare(x: Mapping[str, Any], bench: Bench) -> Work:
    """Pairs of different blocks of a shuffled pool, in as many sets as go past the L2."""
    pairs, block_bytes = x["pairs"], x["block_bytes"]
    num_sets = bench.num_sets(2 * pairs * block_bytes)
    num_blocks = 2 * pairs * num_sets
    cache = bench.pool(num_blocks * block_bytes, "int8").view(num_blocks, block_bytes)
    sets = bench.permutation(num_blocks).view(num_sets, pairs, 2)
    call = rotating(lambda chosen: copy_blocks(cache.view(torch.uint8), chosen), list(sets))
    return Work(call=call, x=x, num_sets=num_sets)
