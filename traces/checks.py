"""What must hold for the columns of a `Trace`: a failure is a sentence with field and value."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .trace import Trace

DTYPES = {
    "prompt_tokens": np.int64,
    "output_tokens": np.int64,
    "arrival_s": np.float64,
    "hash_ids": np.uint64,
    "hash_offsets": np.int64,
    "parent": np.int64,
    "delay_s": np.float64,
    "num_samples": np.int64,
    "beam_width": np.int64,
    "priority": np.int64,
    "tenant": np.int64,
    "cancel_s": np.float64,
    "prefix_row": np.int64,
    "prefix_tokens": np.int64,
}
RAGGED = ("hash_ids", "hash_offsets")


def check_trace(trace: "Trace") -> None:
    """Raise ValueError where a column of `trace` breaks a rule."""
    _check_shapes(trace)
    _check_least(trace.prompt_tokens, "prompt_tokens", 1)
    _check_least(trace.output_tokens, "output_tokens", 1)
    if trace.num_samples is not None:
        _check_least(trace.num_samples, "num_samples", 1)
    if trace.beam_width is not None:
        _check_least(trace.beam_width, "beam_width", 0)
        _check_beams(trace)
    if trace.tenant is not None:
        _check_least(trace.tenant, "tenant", 0)
    _check_links(trace)
    _check_arrivals(trace)
    _check_cancels(trace)
    _check_hashes(trace)
    _check_prefixes(trace)


def _check_shapes(trace: "Trace") -> None:
    num_requests = len(trace.prompt_tokens)
    if num_requests == 0:
        raise ValueError(f"trace {trace.name!r} holds no requests.")
    for name, dtype in DTYPES.items():
        column = getattr(trace, name)
        if column is None:
            continue
        if column.dtype != dtype:
            raise ValueError(f"{name}.dtype(={column.dtype}) must be {np.dtype(dtype)}.")
        if name not in RAGGED and column.shape != (num_requests,):
            raise ValueError(f"{name}.shape(={column.shape}) must be ({num_requests},).")


def _check_least(column: NDArray[np.int64], name: str, least: int) -> None:
    row = int(column.argmin())
    if column[row] < least:
        raise ValueError(f"{name}[{row}](={column[row]}) must be >= {least}.")


def _check_beams(trace: "Trace") -> None:
    if trace.beam_width is None or trace.num_samples is None:
        return
    wrong = (trace.beam_width > 0) & (trace.beam_width < trace.num_samples)
    if (bad := _first(wrong)) is not None:
        raise ValueError(f"beam_width[{bad}](={trace.beam_width[bad]}) must be >= num_samples.")


def _check_links(trace: "Trace") -> None:
    if trace.parent is None:
        if trace.delay_s is not None and not np.isnan(trace.delay_s).all():
            raise ValueError("delay_s needs parent.")
        return
    later = trace.parent >= np.arange(len(trace))
    if (bad := _first(later | (trace.parent < -1))) is not None:
        raise ValueError(f"parent[{bad}](={trace.parent[bad]}) must be in [-1, {bad}).")
    if trace.delay_s is None:
        return
    if (bad := _first(trace.delay_s < 0)) is not None:
        raise ValueError(f"delay_s[{bad}](={trace.delay_s[bad]}) must be >= 0.")
    if (bad := _first(np.isinf(trace.delay_s))) is not None:
        raise ValueError(f"delay_s[{bad}](={trace.delay_s[bad]}) must be finite.")
    if (bad := _first(~np.isnan(trace.delay_s) & (trace.parent < 0))) is not None:
        raise ValueError(f"delay_s[{bad}](={trace.delay_s[bad]}) needs a parent.")


def _check_arrivals(trace: "Trace") -> None:
    if trace.arrival_s is None:
        return
    if (bad := _first(np.isinf(trace.arrival_s) | (trace.arrival_s < 0))) is not None:
        raise ValueError(f"arrival_s[{bad}](={trace.arrival_s[bad]}) must be finite and >= 0.")
    follows = trace.follows_parent
    if (bad := _first(np.isnan(trace.arrival_s) & ~follows)) is not None:
        raise ValueError(f"arrival_s[{bad}](=nan) must be a time, or the row needs delay_s.")
    if (bad := _first(~np.isnan(trace.arrival_s) & follows)) is not None:
        raise ValueError(f"arrival_s[{bad}](={trace.arrival_s[bad]}) must be NaN beside delay_s.")
    times = trace.arrival_s[~np.isnan(trace.arrival_s)]
    if (bad := _first(np.diff(times) < 0)) is not None:
        raise ValueError(f"arrival_s must be sorted: {times[bad + 1]} comes after {times[bad]}.")


def _check_cancels(trace: "Trace") -> None:
    if trace.cancel_s is None:
        return
    if (bad := _first((trace.cancel_s <= 0) | np.isinf(trace.cancel_s))) is not None:
        raise ValueError(f"cancel_s[{bad}](={trace.cancel_s[bad]}) must be > 0 and finite.")


def _check_hashes(trace: "Trace") -> None:
    given = [x is not None for x in (trace.hash_ids, trace.hash_offsets, trace.hash_block_size)]
    if not any(given):
        return
    if trace.hash_ids is None or trace.hash_offsets is None or trace.hash_block_size is None:
        raise ValueError("hash_ids, hash_offsets and hash_block_size must be given together.")
    if trace.hash_block_size < 1:
        raise ValueError(f"hash_block_size(={trace.hash_block_size}) must be > 0.")
    offsets = trace.hash_offsets
    if offsets.shape != (len(trace) + 1,):
        raise ValueError(f"hash_offsets.shape(={offsets.shape}) must be ({len(trace) + 1},).")
    if offsets[0] != 0 or offsets[-1] != len(trace.hash_ids) or (np.diff(offsets) < 0).any():
        raise ValueError("hash_offsets must rise from 0 to the number of hash_ids.")
    most = -(-trace.prompt_tokens // trace.hash_block_size)
    if (bad := _first(np.diff(offsets) > most)) is not None:
        count = offsets[bad + 1] - offsets[bad]
        raise ValueError(f"hash_ids of row {bad} (={count} ids) must be at most {most[bad]}.")


def _check_prefixes(trace: "Trace") -> None:
    if trace.prefix_row is None and trace.prefix_tokens is None:
        return
    if trace.prefix_row is None or trace.prefix_tokens is None:
        raise ValueError("prefix_row and prefix_tokens must be given together.")
    row, tokens = trace.prefix_row, trace.prefix_tokens
    if (bad := _first((row < -1) | (row >= np.arange(len(trace))))) is not None:
        raise ValueError(f"prefix_row[{bad}](={row[bad]}) must be in [-1, {bad}).")
    # row -1 reads the last entry, and is then given 0
    sequence = trace.prompt_tokens[row] + trace.output_tokens[row]
    most = np.where(row < 0, 0, np.minimum(trace.prompt_tokens, sequence))
    if (bad := _first((tokens < 0) | (tokens > most))) is not None:
        raise ValueError(f"prefix_tokens[{bad}](={tokens[bad]}) must be in [0, {most[bad]}].")


def _first(mask: NDArray[Any]) -> int | None:
    """Index of the first true entry, None where there is none."""
    if not mask.any():
        return None
    return int(mask.argmax())
