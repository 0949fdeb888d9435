"""The KV groups of a step log's header.

``full``; ``swa:W`` a window; ``hybrid:F,S,W`` F full groups, then S windows of W tokens;
``local:C`` and ``hybrid_local:F,S,C`` the same with chunked-local attention. A recorder beside a
server writes the name of each group's spec in vLLM and its window or chunk instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..calibration.kv_groups import KVGroup

_KINDS = ("full", "swa", "hybrid", "local", "hybrid_local")
_SPECS = {
    "FullAttentionSpec": "full",
    "MLAAttentionSpec": "full",
    "SlidingWindowSpec": "swa",
    "SlidingWindowMLASpec": "swa",
    "ChunkedLocalAttentionSpec": "local",
}
_OTHER = "other"


def is_known(spec: str) -> bool:
    """Whether kvsim simulates such groups."""
    return spec.partition(":")[0] in _KINDS


def kv_spec(groups: Sequence[Sequence[Any]]) -> str:
    """Of vLLM's ``[name of the spec, window or chunk in tokens]`` per group; or ``other``."""
    kinds = [(_SPECS.get(name, _OTHER), span) for name, span in groups]
    num_full = sum(kind == "full" for kind, _ in kinds)
    others = set(kinds[num_full:])
    if len(kinds) == num_full == 1:
        return "full"
    if len(others) != 1 or any(kind != "full" for kind, _ in kinds[:num_full]):
        return _OTHER
    kind, span = others.pop()
    if kind not in ("swa", "local"):
        return _OTHER
    if len(kinds) == 1:
        return f"{kind}:{span}"
    prefix = "hybrid" if kind == "swa" else "hybrid_local"
    return f"{prefix}:{num_full},{len(kinds) - num_full},{span}"


def kv_groups(spec: str, block_size: int) -> tuple[KVGroup, ...]:
    """The groups of a known spec; none stands for one of full attention."""
    kind, _, rest = spec.partition(":")
    if kind == "full":
        return ()
    numbers = [int(number) for number in rest.split(",")]
    num_full, num_others, span = numbers if kind.startswith("hybrid") else (0, 1, numbers[0])
    full = KVGroup(kind="full", num_layers=1, block_size=block_size, page_bytes=1)
    other = "chunked_local" if kind.endswith("local") else "sliding_window"
    return (full,) * num_full + (replace(full, kind=other, window_tokens=span),) * num_others
