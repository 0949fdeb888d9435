"""A trace as plain values inside another file, such as the log of a run that served it."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .checks import DTYPES
from .trace import Trace


def trace_json(trace: Trace) -> dict[str, Any]:
    """Name, digest, number of requests, and every column there is; NaN is None."""
    columns = {
        name: [_plain(value) for value in getattr(trace, name).tolist()]
        for name in DTYPES
        if getattr(trace, name) is not None
    }
    found = {"name": trace.name, "digest": trace.digest, "requests": len(trace)}
    return {**found, "hash_block_size": trace.hash_block_size, "columns": columns}


def trace_from_json(values: Mapping[str, Any]) -> Trace:
    """The trace again.

    Raises ValueError where the columns are not those that the digest was made of.
    """
    columns: dict[str, Any] = {
        name: np.array([math.nan if one is None else one for one in values["columns"][name]], dtype)
        for name, dtype in DTYPES.items()
        if name in values["columns"]
    }
    trace = Trace(
        name=str(values["name"]), hash_block_size=values.get("hash_block_size"), **columns
    )
    if trace.digest != values["digest"]:
        raise ValueError(
            f"trace(={trace.name!r}) must have the digest {values['digest'][:12]}, not "
            f"{trace.digest[:12]}: the file was changed."
        )
    return trace


def _plain(value: float | int) -> float | int | None:
    return None if value != value else value
