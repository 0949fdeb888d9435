"""When requests arrive: stamped before the run, polled by the loop that serves them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from heapq import heapify, heappop, heappush


class Arrivals:
    """Requests in order of their times; later turns of sessions come when the last one is over.

    Args:
        times_ns: of the requests that come at a time of their own.
        patience_ns: after which a client gives up, of those who do.
        turns: of a request those that follow it, and how much later.
    """

    def __init__(
        self,
        times_ns: Mapping[int, float],
        *,
        patience_ns: Mapping[int, float] | None = None,
        turns: Mapping[int, Iterable[tuple[int, float]]] | None = None,
    ) -> None:
        self._heap = [(time, request) for request, time in times_ns.items()]
        heapify(self._heap)
        self._patience = dict(patience_ns or {})
        self._turns = dict(turns or {})
        self._leaving: list[tuple[float, int]] = []

    def due(self, now_ns: float) -> list[tuple[float, int]]:
        """Those that have arrived by now, with their times."""
        found = []
        while self._heap and self._heap[0][0] <= now_ns:
            time, request = heappop(self._heap)
            found.append((time, request))
            if request in self._patience:
                heappush(self._leaving, (time + self._patience[request], request))
        return found

    def gone(self, now_ns: float) -> list[int]:
        """Those whose client has given up by now, whether they were answered or not."""
        found = []
        while self._leaving and self._leaving[0][0] <= now_ns:
            found.append(heappop(self._leaving)[1])
        return found

    def answered(self, request: int, now_ns: float) -> None:
        """A request is over: whoever waits for that comes later."""
        for turn, delay_ns in self._turns.pop(request, ()):
            heappush(self._heap, (now_ns + delay_ns, turn))

    def close(self) -> int:
        """Nobody arrives any more; how many had a time and did not."""
        left = len(self._heap)
        self._heap.clear()
        self._turns.clear()
        return left

    def next_ns(self, *, somebody_waits: bool) -> float | None:
        """When somebody arrives, or who waits may give up; None where nothing happens by itself."""
        queues = (self._heap, self._leaving if somebody_waits else [])
        return min((queue[0][0] for queue in queues if queue), default=None)
