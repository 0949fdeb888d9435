"""Prefix chains of a JSONL file: read from `hash_ids`, or made from token ids.

A chain made from token ids has one 64-bit id per full block of `block_size` tokens:
id[i] = BLAKE2b-64(id[i-1], tokens of block i), so that equal ids mean equal prefixes.
"""

import hashlib
from collections import Counter
from itertools import chain
from typing import Any

import numpy as np

from ..columns import Ids, Ints
from .numbers import BadValueError, count_of
from .records import Record, RecordLayout, first_of

MAX_ID = 2**64
_MAX_RANGE_TOKENS = 2**24  # no prompt is longer, and memory is not endless
_OWN_BLOCK_SIZE_KEYS = ("block_size", "trace_block_size")


class ChainBuilder:
    """Collects one chain per row, and what did not fit."""

    def __init__(self, hash_block_size: int | None, layout: RecordLayout) -> None:
        self.layout = layout
        self.fixed_block_size = hash_block_size
        self.block_size = hash_block_size or layout.hash_block_size
        self.counts: list[int] = []
        self._ids: list[list[int]] = []
        self._odd: Counter[str] = Counter()
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

    def add(self, record: Record, prompt_tokens: int, block_size: int) -> None:
        """Append the row's chain, cut to its prompt."""
        self._own = self.block_size = block_size
        ids = self._chain_of(record, prompt_tokens, block_size)
        self._ids.append(ids)
        self.counts.append(len(ids))

    def hash_ids(self) -> Ids:
        return np.fromiter(chain.from_iterable(self._ids), np.uint64, sum(self.counts))

    def notes(self) -> tuple[str, ...]:
        """One sentence for each way in which rows' ids did not cover their prompts."""
        if not self.any_ids:
            return ()
        return tuple(f"{text} (rows: {count})" for text, count in self._odd.items())

    def _chain_of(self, record: Record, prompt_tokens: int, block_size: int) -> list[int]:
        ids = record.get("hash_ids")
        if ids is None:
            tokens = _token_ids(record, self.layout.tokens)
            if tokens is not None:
                return chain_hashes(tokens[:prompt_tokens], block_size)
            ids = []
        if not isinstance(ids, list):
            self._odd["hash_ids that are no list were dropped"] += 1
            return []
        if not ids:
            self._odd["hash_ids missing or empty, the prefix counts as unknown"] += 1
            return []
        most = -(-prompt_tokens // block_size)
        if len(ids) > most:
            self._odd["surplus hash_ids were dropped"] += 1
            ids = ids[:most]
        good = _leading_good(ids)
        if good < len(ids):
            self._odd["hash_ids outside [0, 2^64) were dropped with those behind them"] += 1
        elif len(ids) < most:
            self._odd["hash_ids end before the prompt does, the rest counts as unknown"] += 1
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
