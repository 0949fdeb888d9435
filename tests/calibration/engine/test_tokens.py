"""The proof: paged, shared, copied, swapped and computed again, every token is the right one."""

from __future__ import annotations

import numpy as np

from kvsim.traces import Trace
from support.toy_engine import run_toy


def test_plain() -> None:
    trace = Trace(
        name="plain",
        prompt_tokens=np.array([9, 5]),
        output_tokens=np.array([3, 2]),
        arrival_s=np.array([0.0, 0.01]),
    )
    toy = run_toy(trace, num_gpu_blocks=20, max_num_seqs=4, max_num_batched_tokens=8)
    assert toy.outputs() == toy.expected(trace)
