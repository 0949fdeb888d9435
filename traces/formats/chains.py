"""Prefix chains of a JSONL file: read from `hash_ids`, or made from token ids.

A chain made from token ids has one 64-bit id per full block of `block_size` tokens:
id[i] = BLAKE2b-64(id[i-1], tokens of block i), so that equal ids mean equal prefixes.
"""

import hashlib
from itertools import chain
from typing import Any

import numpy as np

from ..columns import Ids, Ints
from .flaws import Flaws
from .numbers import BadValueError, count_of, shown
from .records import Record, RecordLayout, first_of

MAX_ID = 2**64
_MAX_RANGE_TOKENS = 2**24  # no prompt is longer, and memory is not endless
_OWN_BLOCK_SIZE_KEYS = ("block_size", "trace_block_size")


_MISSING = "hash_ids missing or empty, the prefix counts as unknown"
_NO_LIST = "hash_ids that are no list were dropped"
_SURPLUS = "surplus hash_ids were dropped"
_BAD = "hash_ids outside [0, 2^64) were dropped with those behind them"
_SHORT = "hash_ids end before the prompt does, the rest counts as unknown"


class ChainBuilder:
    """Collects one chain per row, and what did not fit.

    A file whose rows all lack the id of a last, partial block has ids of full blocks only, whatever
    is usual for its format: its rows are not short.
    """

    def __init__(self, hash_block_size: int | None, layout: RecordLayout, flaws: Flaws) -> None:
        self.layout = layout
        self.flaws = flaws
        self.fixed_block_size = hash_block_size
        self.block_size = hash_block_size or layout.hash_block_size
        self.counts: list[int] = []
        self._ids: list[list[int]] = []
        self._full_only: list[tuple[int, str]] = []  # lines, and what is wrong if others differ
        self._any_partial = False
        self._own: int | None = None

    @property
    def any_ids(self) -> bool:
        return any(self.counts)

    def block_size_of(self, record: Record) -> int:
        """The row's block size; a file that states several raises BadValueError."""
        if self.fixed_block_size is not None:
            return self.fixed_block_size
        key, value = first_of(record, _OWN_BLOCK_SIZE_KEYS)
        own = self.layout.hash_block_size if value is None else count_of(value, key)
        if self._own is not None and own != self._own:
            raise BadValueError(f"{key}(={own}) must be {self._own} as in the rows before")
        return own

    def prompt_tokens_of(self, record: Record, block_size: int) -> int:
        """The prompt's length, written out or told by its token ids or blocks."""
        key, value = first_of(record, self.layout.prompt)
        if value is not None:
            return count_of(value, key)
        if self.layout.tokens:
            if (tokens := _token_ids(record, self.layout.tokens)) is not None:
                return count_of(len(tokens), key)
            if isinstance(ids := record.get("hash_ids"), list) and ids:
                return count_of(len(ids) * block_size, key)
        return count_of(value, key)

    def add(self, line: int, record: Record, prompt_tokens: int, block_size: int) -> None:
        """Append the row's chain, cut to its prompt."""
        self._own = self.block_size = block_size
        ids = self._chain_of(line, record, prompt_tokens, block_size)
        self._ids.append(ids)
        self.counts.append(len(ids))

    def hash_ids(self) -> Ids:
        return np.fromiter(chain.from_iterable(self._ids), np.uint64, sum(self.counts))

    def finish(self) -> None:
        """Judge the rows without an id for their partial block, now that all rows are seen."""
        if self._any_partial or self.layout.full_blocks_only:
            for line, reason in self._full_only:
                self.flaws.add(line, _SHORT, reason)
        if not self.any_ids:
            self.flaws.forget((_MISSING,))

    def _chain_of(
        self, line: int, record: Record, prompt_tokens: int, block_size: int
    ) -> list[int]:
        ids = record.get("hash_ids")
        if ids is None:
            tokens = _token_ids(record, self.layout.tokens)
            if tokens is not None:
                return chain_hashes(tokens[:prompt_tokens], block_size)
            ids = []
        if not isinstance(ids, list):
            self.flaws.add(line, _NO_LIST, f"hash_ids(={shown(ids)}) must be a list")
            return []
        if not ids:
            self.flaws.remark(line, _MISSING)
            return []
        num_full, partial = divmod(prompt_tokens, block_size)
        most = num_full + (partial > 0 and not self.layout.full_blocks_only)
        reason = f"hash_ids (={len(ids)} ids) must be {most} for a prompt of {prompt_tokens} tokens"
        if len(ids) > most:
            self.flaws.add(line, _SURPLUS, reason)
            ids = ids[:most]
        good = _leading_good(ids)
        if good < len(ids):
            bad = f"hash_ids[{good}](={shown(ids[good])}) must be a whole number in [0, 2^64)"
            self.flaws.add(line, _BAD, bad)
        elif len(ids) < num_full:
            self.flaws.add(line, _SHORT, reason)
        elif len(ids) < most:
            self._full_only.append((line, reason))
        elif partial:
            self._any_partial = True
        return ids[:good]


def chain_hashes(tokens: Ints, block_size: int) -> list[int]:
    """Chained ids of the full blocks of a token sequence; deterministic on every platform."""
    ids = []
    parent = b""
    data = np.ascontiguousarray(tokens, dtype="<i8")
    for start in range(0, len(data) - block_size + 1, block_size):
        block = data[start : start + block_size].tobytes()
        parent = hashlib.blake2b(parent + block, digest_size=8).digest()
        ids.append(int.from_bytes(parent, "little"))
    return ids


def _leading_good(ids: list[Any]) -> int:
    """How many leading entries are whole numbers in [0, 2^64)."""
    if set(map(type, ids)) <= {int} and (not ids or (min(ids) >= 0 and max(ids) < MAX_ID)):
        return len(ids)
    bad = (i for i, x in enumerate(ids) if type(x) is not int or not 0 <= x < MAX_ID)
    return next(bad, len(ids))


def _token_ids(record: Record, keys: tuple[str, ...]) -> Ints | None:
    """Prompt token ids from a list of ids, or of [first id, count] ranges; None without."""
    if not keys:
        return None
    key, value = first_of(record, keys)
    if value is None:
        return None
    if not isinstance(value, list):
        raise BadValueError(f"{key} must be a list")
    try:
        ids = _spread(value) if value and isinstance(value[0], list) else np.array(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadValueError(f"{key} must be a list of whole numbers") from error
    if ids.ndim != 1 or (len(ids) and ids.dtype != np.int64):
        raise BadValueError(f"{key} must be a list of whole numbers")
    return ids.astype(np.int64)


def _spread(ranges: list[list[int]]) -> Ints:
    """The ids of [first, count] ranges. Raises ValueError where one is no such pair."""
    if sum(abs(count) for _, count in ranges) > _MAX_RANGE_TOKENS:
        raise ValueError("ranges are too long")
    spread = [np.arange(first, first + count, dtype=np.int64) for first, count in ranges]
    return np.concatenate(spread)
