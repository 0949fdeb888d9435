"""A case of a suite with lists: one case for each combination of their values, in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import PurePosixPath
from typing import Any

from .keys import check_value

_SOURCES = ("trace", "workload", "prompt_tokens", "output_tokens")
_ARRIVALS = ("concurrency", "rate", "arrival_process")
_POOLS = ("num_gpu_blocks_override", "kv_cache_memory_bytes")
_CLOCKS = ("step_cost", "profile")
_EXCLUSIVE = (_SOURCES, _ARRIVALS, _POOLS, _CLOCKS)
"""Where a case names one of these, the defaults' others do not hold for it."""


def with_defaults(options: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """A case's options over the suite's."""
    kept = dict(defaults)
    for group in _EXCLUSIVE:
        if any(key in options for key in group):
            kept = {key: value for key, value in kept.items() if key not in group}
    return {**kept, **options}


def expanded(name: str, options: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names and options; the values of lists are appended to the name.

    Raises:
        ValueError: an empty list, or a value of the wrong kind.
    """
    choices = {key: _choices(key, value) for key, value in options.items()}
    listed = [key for key, value in options.items() if isinstance(value, list)]
    for values in product(*choices.values()):
        one = dict(zip(choices, values, strict=True))
        words = [_word(key, one[key]) for key in listed]
        yield "-".join([name, *words]), one


def _choices(key: str, value: object) -> list[Any]:
    values = value if isinstance(value, list) else [value]
    if not values:
        raise ValueError(f"{key}(=[]) must hold a value.")
    if key == "trace":
        return [_paths(entry) for entry in values]
    for entry in values:
        check_value(key, entry)
    return values


def _paths(value: object) -> tuple[str, ...]:
    """Files of one trace: a path, or a list of them within the list of traces."""
    paths = value if isinstance(value, list) else [value]
    if not paths or not all(isinstance(path, str) and path for path in paths):
        raise ValueError(f"trace(={value!r}) must be a path.")
    return tuple(paths)


def _word(key: str, value: Any) -> str:
    if key == "trace":
        return "+".join(PurePosixPath(path).name.partition(".")[0] for path in value)
    if isinstance(value, bool):
        return key if value else f"no-{key}"
    return str(value)
