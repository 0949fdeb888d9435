"""The proof: paged, shared, copied, swapped and computed again, every token is the right one.

The toy model runs our kernels under the interpreter on the ledger's blocks, with NaN in every slot
that nobody has written; what it answers is what a plain forward pass over the whole sequence does.
"""

from __future__ import annotations

import pytest

from support.engine_cases import FORKED, SHARED, SWAPPED, Case
from support.toy_engine import Toy, run_toy


def served(case: Case, *, graphs: bool = False) -> Toy:
    """The toy's run, whose every answer is compared."""
    toy = run_toy(case.trace, graphs=graphs, **case.flags)
    assert toy.served.why == "done"
    assert [one.status for one in toy.run.requests] == ["finished"] * len(case.trace)
    assert any(row.past_tokens and row.new_tokens > 1 for row in toy.rows()), "chunks of prompts"
    assert max(len(step.rows) for step in toy.run.steps) > 1, "batches"
    assert toy.outputs() == toy.expected(case.trace)
    return toy


def preempted(toy: Toy) -> list[int]:
    """Rows of the trace that were preempted."""
    return sorted(one.request for one in toy.run.requests if one.preemptions)


def test_prefixes_in_common_and_preemption_by_recompute() -> None:
    toy = served(SHARED)
    assert sum(one.cached_tokens for one in toy.run.requests) == 16
    assert toy.blocks_in_common, "two sequences of one step read the same block"
    assert len(preempted(toy)) >= 1


def test_samples_copy_on_write_and_preemption_by_swap() -> None:
    toy = served(SWAPPED, graphs=True)
    decodes = [step for step in toy.run.steps if all(row.new_tokens == 1 for row in step.rows)]
    assert {(len(step.rows), step.bucket) for step in decodes} == {(1, 1), (3, 4), (4, 4)}
    assert all(step.bucket == 0 for step in toy.run.steps if step not in decodes)
    assert preempted(toy) == [1, 2], "a request of one sequence, and one of three"
    assert sum(step.copied_blocks for step in toy.run.steps) == 4
    assert sum(step.swapped_out_blocks for step in toy.run.steps) == 7
    assert sum(step.swapped_in_blocks for step in toy.run.steps) == 7
    assert len({tuple(one) for one in toy.outputs()[:3]}) == 3, "samples differ"


def test_samples_that_are_computed_again() -> None:
    toy = served(FORKED)
    assert sum(step.copied_blocks for step in toy.run.steps) == 3
    assert any(toy.num_sequences[row] > 1 for row in preempted(toy))
    assert not sum(step.swapped_out_blocks for step in toy.run.steps)


@pytest.mark.slow
def test_a_block_of_one_token_and_one_that_no_tile_divides() -> None:
    for block_size, blocks in ((1, 24), (3, 9)):
        flags = FORKED.flags | {"block_size": block_size, "num_gpu_blocks": blocks}
        served(Case(trace=FORKED.trace, flags=flags))
