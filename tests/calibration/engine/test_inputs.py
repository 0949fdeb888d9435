"""A step's tensors, from its rows."""

from __future__ import annotations

import torch

from kvsim.calibration.engine.history import History
from kvsim.calibration.engine.inputs import Inputs, Tables
from kvsim.calibration.engine.steps import Row


class Lengths:
    """Prompts of ten tokens; the third one's twelve begin as the first sequence does."""

    num_sequences = 3

    def prompt_tokens(self, sequence: int) -> int:
        return 12 if sequence == 2 else 10

    def prompt_of(self, sequence: int) -> int:
        return sequence

    def beginning(self, prompt: int) -> tuple[int, int]:
        return (0, 12) if prompt == 2 else (-1, 0)


def history() -> History:
    return History(Lengths(), vocab_size=1000, seed=0)


def row(sequence: int, past: int, new: int, table: list[int], *, fresh: bool = False) -> Row:
    return Row(sequence, past, new, table, fresh, ((sequence, 0),))


def test_rows_become_tensors() -> None:
    inputs = Inputs(
        max_tokens=16, max_seqs=4, max_blocks=8, block_size=4, device=torch.device("cpu")
    )
    tokens = history()
    rows = [row(0, 5, 1, [7, 2]), row(1, 2, 5, [3, 9])]
    batch = inputs.send(rows, tokens)
    assert batch.num_decodes == 1
    assert batch.ids.tolist() == tokens.tokens(0, 5, 6) + tokens.tokens(1, 2, 7)
    assert batch.positions.tolist() == [5, 2, 3, 4, 5, 6]
    assert batch.slots.tolist() == [2 * 4 + 1, 3 * 4 + 2, 3 * 4 + 3, 9 * 4, 9 * 4 + 1, 9 * 4 + 2]
    assert batch.seq_lens.tolist() == [6, 7]
    assert batch.chunk_starts.tolist() == [0, 5]
    assert batch.last_rows is not None
    assert batch.last_rows.tolist() == [0, 5]
    assert batch.tables[:, :2].tolist() == [[7, 2], [3, 9]]


def test_rows_that_fill_up_a_graph_write_and_read_nothing() -> None:
    inputs = Inputs(
        max_tokens=16, max_seqs=8, max_blocks=8, block_size=4, device=torch.device("cpu")
    )
    inputs.send([row(0, 2, 6, [7, 2]), row(1, 3, 1, [3])], history())  # leaves something behind
    batch = inputs.send([row(0, 8, 1, [7, 2, 5]), row(1, 4, 1, [3, 6])], history(), pad_to=4)
    assert batch.num_decodes == 4
    assert batch.slots.tolist() == [20, 24, -1, -1]
    assert batch.seq_lens.tolist() == [9, 5, 0, 0]
    assert batch.ids.tolist()[2:] == [0, 0]
    assert batch.last_rows is None
    assert batch.tables.data_ptr() == inputs.decodes(4).tables.data_ptr(), "where the graph reads"


def test_a_table_is_rewritten_where_it_changed() -> None:
    tables = Tables(2, 8)

    def shown(*rows: Row) -> list[list[int]]:
        return [
            tables.ids[seat, : len(row.table)].tolist()
            for seat, row in zip(tables.show(rows), rows, strict=True)
        ]

    assert shown(row(0, 0, 1, [5, 6])) == [[5, 6]]
    assert shown(row(0, 0, 1, [5, 6, 7])) == [[5, 6, 7]]
    assert shown(row(0, 0, 1, [5, 6, 4])) == [[5, 6, 4]], "the last one was copied"
    assert shown(row(0, 0, 1, [5, 6, 9, 8])) == [[5, 6, 9, 8]], "copied, and one more"
    assert shown(row(0, 0, 1, [1, 2, 9, 8], fresh=True)) == [[1, 2, 9, 8]]
    for sequence in range(1, 9):  # more than there are rows: who does not run is forgotten
        assert shown(row(sequence, 0, 1, [sequence]), row(0, 0, 1, [1, 2, 9, 8])) == [
            [sequence],
            [1, 2, 9, 8],
        ]


def test_an_answer_that_is_read_before_it_is_given_is_given() -> None:
    tokens = history()
    tokens.take(0, 10, 77)
    third = tokens.tokens(2, 0, 12)
    assert third[:11] == [*tokens.tokens(0, 0, 10), 77]
    tokens.take(0, 11, 1001)  # no draw gives that
    assert tokens.outputs(0) == [77, third[11]]
    assert tokens.num_forced == 1
    tokens.take(0, 12, 78)
    assert tokens.outputs(0) == [77, third[11], 78]


def test_what_was_sampled_once_stays() -> None:
    tokens = history()
    tokens.take(0, 10, 77)
    tokens.take(0, 10, 78)  # computed again after a preemption
    assert tokens.outputs(0) == [77]
    assert tokens.num_forced == 0
