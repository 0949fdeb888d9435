"""ShareGPT conversations: text, so lengths need a tokenizer. Lengths only, no arrivals.

As vLLM's benchmark reads the file: a conversation with at least two turns gives one request, the
first turn as the prompt and the second as the output; special tokens are counted as the tokenizer
adds them. Its caps on lengths (prompt <= 1024, total <= 2048) are left to the caller.
"""

import json
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..trace import SkippedRow
from .records import parse_records
from .rows import Rows

ADVICE = "needs --tokenizer tokenizer.json (pip install 'kvsim[sharegpt]')"


def read_sharegpt(text: str, file: str, tokenizer: str | Path | None) -> Rows:
    """Rows of a ShareGPT file: a JSON list (rows count conversations from 1) or JSON lines.

    Raises ValueError where the tokenizer is missing or cannot be read.
    """
    if tokenizer is None:
        raise ValueError(f"{file} is ShareGPT text: it {ADVICE}.")
    kept: list[tuple[int, tuple[str, str]]] = []
    skipped: list[SkippedRow] = []
    for row, entry in _entries(text, file, skipped):
        pair = _first_pair(entry)
        if isinstance(pair, str):
            skipped.append(SkippedRow(file=file, row=row, reason=pair))
        else:
            kept.append((row, pair))
    lengths = _token_counts([text for _, pair in kept for text in pair], tokenizer, file)
    pairs = lengths.reshape(-1, 2)
    empty: NDArray[np.bool_] = np.any(pairs < 1, axis=1)
    for index in np.flatnonzero(empty).tolist():
        reason = "has a turn of 0 tokens"
        skipped.append(SkippedRow(file=file, row=kept[index][0], reason=reason))
    return Rows(
        file=file,
        lines=[row for (row, _), bad in zip(kept, empty.tolist(), strict=True) if not bad],
        prompt_tokens=pairs[~empty, 0],
        output_tokens=pairs[~empty, 1],
        time_ns=None,
        skipped=tuple(sorted(skipped, key=lambda skip: skip.row)),
    )


def _entries(text: str, file: str, skipped: list[SkippedRow]) -> Iterable[tuple[int, Any]]:
    if not text.lstrip().startswith("["):
        records = parse_records(text, file)
        skipped.extend(records.skipped)
        return records.rows
    try:
        return list(enumerate(json.loads(text), start=1))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not valid JSON: {error}.") from error


def _first_pair(entry: Any) -> tuple[str, str] | str:
    """The first two turns' texts, or the reason why there are none."""
    turns = (
        entry.get("conversations", entry.get("conversation")) if isinstance(entry, dict) else None
    )
    if not isinstance(turns, list):
        return "has no conversations"
    if len(turns) < 2:
        return f"has {len(turns)} turns, at least 2 are needed"
    texts = [turn.get("value") if isinstance(turn, dict) else None for turn in turns[:2]]
    if not all(isinstance(text, str) for text in texts):
        return "has a turn without a text value"
    return str(texts[0]), str(texts[1])


def _token_counts(texts: list[str], tokenizer: str | Path, file: str) -> NDArray[np.int64]:
    try:
        tokenizers = import_module("tokenizers")  # an optional extra, and slow to import
    except ImportError as error:
        raise ValueError(f"{file} is ShareGPT text: it {ADVICE}.") from error
    if not Path(tokenizer).is_file():
        raise ValueError(f"tokenizer(={tokenizer}) must be a tokenizer.json file.")
    try:
        encoder = tokenizers.Tokenizer.from_file(str(tokenizer))
    except Exception as error:  # the library raises plain Exception for every bad file
        raise ValueError(f"tokenizer(={tokenizer}) cannot be read: {error}.") from error
    counts = [len(encoding.ids) for encoding in encoder.encode_batch(texts)]
    return np.array(counts, dtype=np.int64)
