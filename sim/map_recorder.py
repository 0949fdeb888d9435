"""Looks at a pool while a server runs, for a :class:`~kvsim.sim.memory_map.MemoryMap`.

Looks are even in time, as far as the beginnings of macro-steps allow. Where the requests do not
arrive over time (backlog, clients), how long the run will go on is guessed from how long it took to
come this far; there are never more than twice ``num_looks``: then every second is dropped.
"""

from __future__ import annotations

import numpy as np

from ..calibration.step_cost import NS_PER_S
from .allocators import Allocator, TokensOf
from .map_marking import Marker, areas_in_view
from .memory_map import Ints, MemoryMap

NUM_LOOKS = 100
NUM_ROWS = 256


class MapRecorder:
    """Give it to ``simulate``, then ask it for the map.

    Args:
        view_share: part of the pool that is looked at.
        begin: share of the requests that are done when the looks begin.
        end: share at which they end.
        num_looks: how many looks there should be; there may be up to twice as many.
        num_rows: rows of the view.

    Raises:
        ValueError: a share outside its range, or a number below 1.
    """

    def __init__(
        self,
        *,
        view_share: float = 1.0,
        begin: float = 0.0,
        end: float = 1.0,
        num_looks: int = NUM_LOOKS,
        num_rows: int = NUM_ROWS,
    ) -> None:
        if not 0 < view_share <= 1:
            raise ValueError(f"view_share(={view_share}) must be in (0, 1].")
        if not 0 <= begin < 1:
            raise ValueError(f"begin(={begin}) must be in [0, 1).")
        if not begin < end <= 1:
            raise ValueError(f"end(={end}) must be in ({begin}, 1].")
        for name, value in (("num_looks", num_looks), ("num_rows", num_rows)):
            if value < 1:
                raise ValueError(f"{name}(={value}) must be > 0.")
        self._view_share, self._begin, self._end = view_share, begin, end
        self._num_looks, self._num_rows = num_looks, num_rows
        self._times_ns: list[float] = []
        self._columns: list[Ints] = []
        self._next_ns = self._gap_ns = 0.0
        self._over_ns: float | None = None

    def start(self, allocator: Allocator, *, num_requests: int, span_ns: float) -> None:
        """A run begins; its requests arrive over ``span_ns``, 0 where nobody knows."""
        self._allocator, self._num_requests, self._span_ns = allocator, num_requests, span_ns
        view = max(1, round(self._view_share * allocator.pool_slots))
        row = -(-view // self._num_rows)
        edges = np.arange(-(-view // row) + 1, dtype=np.int64) * row
        self._edges_slots = np.minimum(edges, allocator.pool_slots)
        self._marker = Marker(allocator, self._edges_slots)

    def look(
        self, since_ns: float, now_ns: float, num_done: int, tokens_of: TokensOf, *, blocked: bool
    ) -> None:
        """The pool has been since some time as it is now: take a look if one is due."""
        share = num_done / self._num_requests
        if self._over_ns is not None or share < self._begin:
            return
        if self._times_ns and share >= self._end:
            self._over_ns = since_ns
            return
        if now_ns < self._next_ns:
            return
        if not self._times_ns:
            self._gap_ns = self._guess_ns(now_ns, share) / self._num_looks
        self._take(max(since_ns, self._next_ns), tokens_of, blocked)

    def finish(self, now_ns: float) -> None:
        """The run is over."""
        if self._over_ns is None:
            self._over_ns = now_ns

    def memory_map(self) -> MemoryMap | None:
        """What was seen; None where nothing ran, or nothing in the pool has an address."""
        if not self._times_ns or self._over_ns is None:
            return None
        rows = np.stack(self._columns, axis=2)
        return MemoryMap(
            edges_s=np.array([*self._times_ns, self._over_ns]) / NS_PER_S,
            edges_slots=self._edges_slots,
            pool_slots=self._allocator.pool_slots,
            cells=rows.argmax(axis=0).astype(np.uint8),
            slots=rows.sum(axis=1),
            marked=self._marker.marked(),
        )

    def _guess_ns(self, now_ns: float, share: float) -> float:
        """Time until the looks end; 0 where nothing can be said yet."""
        if self._begin == 0:
            return self._end * self._span_ns
        return (self._end - share) / share * now_ns

    def _take(self, at_ns: float, tokens_of: TokensOf, blocked: bool) -> None:
        view_slots = int(self._edges_slots[-1])
        layout = self._allocator.layout(tokens_of, blocked=blocked, view_slots=view_slots)
        if layout is None:
            self._over_ns = at_ns
            return
        if len(self._times_ns) == 2 * self._num_looks:
            self._thin_out()
        self._next_ns = at_ns + self._gap_ns
        self._times_ns.append(at_ns)
        self._columns.append(layout.in_rows(self._edges_slots))
        self._marker.see(areas_in_view(layout, view_slots), tokens_of)

    def _thin_out(self) -> None:
        """Every second look goes, and the next ones are twice as far apart."""
        self._gap_ns = (self._times_ns[-1] - self._times_ns[0]) / self._num_looks
        del self._times_ns[1::2], self._columns[1::2]
        self._marker.thin_out()
