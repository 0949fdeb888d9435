"""A runner without a model: a slot holds a number that depends on all tokens before its own.

It reads through the block tables and moves blocks as the engine does, so that a slot which holds
somebody else's number, or none, changes every token after it. Thousands of steps take a second.
"""

from __future__ import annotations

from collections.abc import Sequence

from kvsim.calibration.engine.history import History
from kvsim.calibration.engine.steps import Move, Row, Sampled

VOCAB = 50_000
PRIME = (1 << 61) - 1


def mixed(token: int, before: int) -> int:
    """What a slot holds: its token, and the sum of all slots before it."""
    return (token * 1_000_003 + before * 998_244_353 + 12_345) % PRIME


def sampled(value: int, rank: int) -> int:
    """What follows a slot."""
    return (value // 7 + 31 * rank) % VOCAB


def answer(prompt: Sequence[int], count: int, sample: int) -> list[int]:
    """So many tokens after a prompt, by the definition."""
    tokens, before = list(prompt), 0
    for place, token in enumerate(tokens):
        value = mixed(token, before)
        before = (before + value) % PRIME
        if place >= len(prompt) - 1 and len(tokens) < len(prompt) + count:
            tokens.append(sampled(value, sample if place == len(prompt) - 1 else 0))
    return tokens[len(prompt) :]


class SumsRunner:
    """Stands for ``Runner``."""

    def __init__(self, *, num_gpu_blocks: int, num_host_blocks: int, block_size: int) -> None:
        self._size = block_size
        self._gpu: list[list[int | None]] = [[None] * block_size for _ in range(num_gpu_blocks)]
        self._host: list[list[int | None]] = [[None] * block_size for _ in range(num_host_blocks)]
        self._rows: list[tuple[Row, list[int]]] = []
        self._sampled: list[list[int]] = []
        self.num_moves = {"copy": 0, "out": 0, "in": 0}

    def prepare(self, rows: Sequence[Row], history: History) -> int:
        """Rows with their tokens."""
        self._rows = [
            (row, history.tokens(row.sequence, row.past_tokens, row.past_tokens + row.new_tokens))
            for row in rows
        ]
        return 0

    def launch(self, moves: Sequence[Move]) -> None:
        """One move after another, then each row whose past is there."""
        pools = {
            "copy": (self._gpu, self._gpu),
            "out": (self._gpu, self._host),
            "in": (self._host, self._gpu),
        }
        for move in moves:
            source, target = pools[move.kind]
            target[move.target] = list(source[move.source])
            self.num_moves[move.kind] += 1
        rows, self._rows = self._rows, []
        values = self._compute(rows)
        self._sampled = [
            [sampled(values[row.sequence], rank) for rank in range(8)]
            for row, _ in rows
            if row.takers
        ]

    def wait(self, num_samples: int) -> Sampled:
        """The tokens."""
        assert len(self._sampled) == num_samples
        found, self._sampled = self._sampled, []
        return Sampled(tokens=found, best_logits=[0.0] * num_samples)

    def gpu_s(self) -> float:
        """There is none."""
        return float("nan")

    def _compute(self, rows: list[tuple[Row, list[int]]]) -> dict[int, int]:
        """The last value of each row; one waits for another that writes what it reads."""
        pending = {
            self._slot(row, row.past_tokens + i) for row, ids in rows for i in range(len(ids))
        }
        assert len(pending) == sum(len(ids) for _, ids in rows), "two rows write one slot"
        values: dict[int, int] = {}
        while rows:
            left = []
            for row, ids in rows:
                past = [self._slot(row, place) for place in range(row.past_tokens)]
                if pending.intersection(past):
                    left.append((row, ids))
                    continue
                before = sum(self._read(*slot) for slot in past) % PRIME
                for place, token in enumerate(ids, row.past_tokens):
                    value = values[row.sequence] = mixed(token, before)
                    before = (before + value) % PRIME
                    block, offset = self._slot(row, place)
                    assert block > 0, "the null block is written"
                    self._gpu[block][offset] = value
                    pending.discard((block, offset))
            assert len(left) < len(rows), "rows wait for each other"
            rows = left
        return values

    def _slot(self, row: Row, place: int) -> tuple[int, int]:
        return row.table[place // self._size], place % self._size

    def _read(self, block: int, offset: int) -> int:
        value = self._gpu[block][offset]
        assert value is not None, f"slot {offset} of block {block} is read and was never written"
        return value
