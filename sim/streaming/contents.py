"""Which requests' KV is equal, without the whole trace: the tree of ``content``, as it grows.

Who will share a block is not known yet, so a path is cut wherever a later prompt may branch off:
at the end of each prefix id. Segments are found by id; an id whose segments hold nothing, and that
no request in the server passes through, is forgotten: a later request with it finds nothing, as it
would if the id were remembered. So the memory is bounded by the pool and by who is in the server.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

from ...traces import Trace
from ..content import Path, Segment
from ..request import Request
from .feed import Feed, Row


class _Known(NamedTuple):
    """What an id stands for, behind the id before it."""

    segments: Path
    end_tokens: int
    """Tokens up to its end, of the prompt that it was last read from."""


class _Turn(NamedTuple):
    """A request that a later turn may repeat, answer and all."""

    chain: tuple[int, ...]
    num_full: int
    total_tokens: int
    path: Path


_SWEEP_AT_LEAST = 4_096


class Contents:
    """Paths of requests as they arrive.

    Args:
        block_size: tokens per block that the cache tells apart.
        sample: some rows of the stream.
    """

    def __init__(self, block_size: int, sample: Trace) -> None:
        self._block_size = block_size
        self._known: dict[int, _Known] = {}
        self._sweep_at = _SWEEP_AT_LEAST
        self._with_turns = sample.parent is not None

    def path(self, row: Row, feed: Feed, live: Mapping[int, Request]) -> Path:
        """The way of a request through the tree, from its first block to its last full one."""
        stop = (row.prompt_tokens + row.output_tokens) // self._block_size
        if not row.chain:
            return (Segment(0, stop, shared=False),) if stop else ()
        raise NotImplementedError
