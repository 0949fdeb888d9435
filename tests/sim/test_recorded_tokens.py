"""Which tokens of a recorded trace are equal, from the ids of its full blocks."""

from __future__ import annotations

from typing import Any

from kvsim.sim.conformance import read_case_trace


def row(number: int, prompt: int, output: int, *ids: int) -> dict[str, Any]:
    """Blocks of 4 tokens; the ids of the prompt's full ones, then those that the output fills."""
    full = prompt // 4
    return {
        "id": f"r{number}",
        "arrival_s": float(number),
        "prompt_tokens": prompt,
        "output_tokens": output,
        "block_size": 4,
        "hash_ids": list(ids[:full]),
        "output_hash_ids": list(ids[full:]),
    }


def shared(*rows: dict[str, Any]) -> list[tuple[int, int]]:
    trace = read_case_trace(rows)
    return list(zip(trace.prefix_row.tolist(), trace.prefix_tokens.tolist(), strict=True))


def test_prompts_share_their_equal_blocks() -> None:
    rows = [row(0, 10, 3, 1, 2, 3), row(1, 12, 1, 1, 2, 9), row(2, 9, 1, 1, 7), row(3, 5, 1, 8)]
    assert shared(*rows) == [(-1, 0), (0, 8), (0, 4), (-1, 0)]


def test_a_later_turn_repeats_the_answer() -> None:
    """10 + 8 tokens make 4 full blocks, the third of prompt and answer."""
    assert shared(row(0, 10, 8, 1, 2, 3, 4), row(1, 23, 2, 1, 2, 3, 4, 5, 6)) == [(-1, 0), (0, 16)]


def test_what_fills_no_block_is_shared_with_nobody() -> None:
    assert shared(row(0, 3, 9, 1, 2, 3), row(1, 3, 9, 1, 2, 3)) == [(-1, 0), (-1, 0)]
    assert shared(row(0, 7, 1, 1), row(1, 7, 1, 1)) == [(-1, 0), (0, 4)]


def test_links_go_through_rows_that_share_more() -> None:
    rows = [row(0, 8, 1, 1, 2), row(1, 12, 1, 1, 2, 3), row(2, 13, 1, 1, 2, 3)]
    assert shared(*rows) == [(-1, 0), (0, 8), (1, 12)]
