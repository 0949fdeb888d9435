"""How many sequences a row asks for: `n`, `best_of`, `use_beam_search`, `output_lengths`.

OpenAI's and vLLM's meaning: without beam search max(n, best_of) sequences are generated; with it
the beam is best_of (else n) wide and n are returned. A row with one length per sample counts as
long as its longest sample, which is when it ends.
"""

from typing import Any, NamedTuple

from .numbers import BadValueError, count_of, shown
from .records import Record, first_of


class Sampling(NamedTuple):
    """Output length (tokens) and sequence counts of one row; beam_width 0 = no beam search."""

    output_tokens: int
    num_samples: int = 1
    beam_width: int = 0
    longest_of_several: bool = False


def sampling_of(record: Record, output_keys: tuple[str, ...]) -> Sampling:
    """Raises BadValueError with the reason."""
    output, several = _output_tokens(record, output_keys)
    if "n" not in record and "best_of" not in record and "use_beam_search" not in record:
        return Sampling(output, longest_of_several=several)
    num_samples = _count(record, "n", 1)
    best_of = _count(record, "best_of", num_samples)
    beam = record.get("use_beam_search", False)
    if not isinstance(beam, bool):
        raise BadValueError(f"use_beam_search(={shown(beam)}) must be true or false")
    if beam:
        return Sampling(output, num_samples, max(best_of, num_samples), several)
    return Sampling(output, max(best_of, num_samples), 0, several)


def _output_tokens(record: Record, keys: tuple[str, ...]) -> tuple[int, bool]:
    key, value = first_of(record, keys)
    lengths = record.get("output_lengths")
    if value is not None or not isinstance(lengths, list) or not lengths:
        return count_of(value, key), False
    return max(count_of(length, "output_lengths") for length in lengths), True


def _count(record: Record, key: str, default: int) -> int:
    value: Any = record.get(key)
    return default if value is None else count_of(value, key)
