"""What is run before anybody waits."""

from __future__ import annotations

import pytest
import torch

from kvsim.calibration.engine.inputs import Inputs
from kvsim.calibration.engine.warming import warm_steps


@pytest.mark.parametrize(("seats", "budget"), [(256, 2048), (64, 8192), (4, 16), (1, 1), (300, 40)])
def test_warm_steps_keep_the_limits_and_leave_no_size_out(seats: int, budget: int) -> None:
    steps = list(warm_steps(max_num_seqs=seats, max_num_batched_tokens=budget, max_model_len=4096))
    for decodes, chunks in steps:
        assert 0 < decodes + len(chunks) <= seats
        assert decodes + sum(chunks) <= budget
        assert all(1 < length <= 4096 for length in chunks)

    def compiled_for(count: int) -> tuple[int, bool]:
        return (count - 1).bit_length(), count % 16 == 0

    warm = {compiled_for(decodes) for decodes, chunks in steps if not chunks}
    assert warm >= {compiled_for(count) for count in range(1, min(seats, budget, 256) + 1)}
    alone = {compiled_for(len(chunks)) for decodes, chunks in steps if chunks}
    most = min(seats, 9, budget // 2)
    assert alone >= {compiled_for(count) for count in range(1, most + 1)}


def test_a_blank_step_writes_nothing_and_reads_the_null_block() -> None:
    inputs = Inputs(
        max_tokens=16, max_seqs=4, max_blocks=8, block_size=4, device=torch.device("cpu")
    )
    batch = inputs.blank(2, [5, 3])
    assert batch.slots.tolist() == [-1] * 10
    assert batch.seq_lens.tolist() == [1, 1, 5, 3]
    assert batch.chunk_starts.tolist() == [0, 5, 8]
    assert batch.tables.shape == (4, 8)
    assert not batch.tables.any()
    assert len(batch.ids) == len(batch.positions) == 10
