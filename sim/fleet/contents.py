"""The tree of all contents, once for each replica.

An allocator notes in the tree's segments what it has cached of them (see ``sim.content``), so
replicas cannot share one. A replica's tree is copied segment by segment, when a request that goes
there, or might, passes through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..content import Path, Segment, content_paths
from ..deployment import Deployment
from ..engine import hash_block_size
from ..request import Request
from ..servable import Arrivals

Paths = Mapping[Request, Path]


class Trees:
    """The trees that the pools of a fleet tell apart: one per size of a hashed block."""

    def __init__(
        self,
        trace: Arrivals,
        requests: Sequence[Request],
        copies: Sequence[int] | None,
        twins: Mapping[Request, Request],
    ) -> None:
        """``copies``: sequences of each row. ``twins``: others with the contents of a request."""
        self._trace = trace
        self._requests = requests
        self._copies = copies
        self._twins = twins
        self._of: dict[int, Paths] = {}

    def own(self, deployment: Deployment) -> OwnTree | None:
        """A fresh tree for a replica; None where it caches nothing."""
        if not deployment.enable_prefix_caching:
            return None
        size = hash_block_size(deployment)
        if size not in self._of:
            paths = content_paths(self._trace, size, self._copies)
            found = dict(zip(self._requests, paths, strict=True))
            found |= {twin: found[request] for twin, request in self._twins.items()}
            self._of[size] = found
        return OwnTree(self._of[size])


class OwnTree:
    """One replica's copy of a tree, as far as it has been looked at."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._own: dict[Segment, Segment] = {}

    def path(self, request: Request) -> Path:
        """Where the request's tokens lie in it."""
        own = self._own
        path = []
        for segment in self._paths[request]:
            mine = own.get(segment)
            if mine is None:
                first, stop, number = segment.first, segment.stop, segment.number
                mine = own[segment] = Segment(first, stop, shared=segment.shared, number=number)
            path.append(mine)
        return tuple(path)
