"""The running batch of a replica, with its decoding members in closed form.

``requests`` holds all members in running order (= order of admission). A member either *prefills*
(its ``known`` and ``computed`` are explicit), *decodes*, or waits with a seat: parked, or following
the first of its group until that has computed their prompt. The decoding ones gain one token in
every step, so nothing of them is touched: with ``step`` the number of steps done,

    known   = base + step            base fixed when decoding began
    finish  = the step ``end`` at which known reaches total, kept in a heap
    context = base_sum + num_decodes * step
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush

from .group import Group
from .request import Request

FAR = 1 << 62


class RunningBatch:
    """Members of a replica's batch; the replica advances ``step``."""

    __slots__ = (
        "_admissions",
        "_base_sum",
        "_ends",
        "_longest_base",
        "beams",
        "followers",
        "loading",
        "num_decodes",
        "num_mates",
        "parked",
        "parked_tokens",
        "prefill_tokens",
        "prefills",
        "requests",
        "step",
    )

    def __init__(self) -> None:
        self.requests: dict[Request, None] = {}
        self.prefills: dict[Request, None] = {}
        self.parked: dict[Request, None] = {}
        """Members whose last token is on its way: they hold memory and a seat, and get nothing."""
        self.parked_tokens = 0
        self.followers: dict[Request, None] = {}
        """Members of groups that have not forked: they hold a seat, no memory, and get nothing."""
        self.beams: dict[Group, None] = {}
        """Beam searches that decode."""
        self.num_mates = 0
        """Members beside the first of each group: there are so many fewer requests."""
        self.loading: dict[Request, None] = {}
        """Members whose cached beginning is on its way up: they hold a seat, and get nothing."""
        self.step = 0
        self.num_decodes = 0
        self.prefill_tokens = 0
        """Computed tokens of the members that prefill, and what the loading ones found."""
        self._base_sum = 0
        self._longest_base: int | None = None
        """Of the decodes; None where it has to be looked for."""
        self._ends: list[tuple[int, int, Request]] = []
        self._admissions = 0

    @property
    def num_requests(self) -> int:
        """Members, those of a group counted as one."""
        return len(self.requests) - self.num_mates

    @property
    def context_tokens(self) -> int:
        """Tokens that the next step's decodes attend to, their new tokens included."""
        return self._base_sum + self.num_decodes * self.step

    @property
    def longest_context_tokens(self) -> int:
        """Tokens that the next step's longest decode attends to; 0 where nobody decodes."""
        if not self.num_decodes:
            return 0
        if self._longest_base is None:
            self._longest_base = max(r.base for r in self.requests if r.decoding)
        return self._longest_base + self.step

    def admit(self, request: Request) -> None:
        """Append to the running order; the request prefills."""
        self._seat(request)
        self.prefills[request] = None

    def admit_follower(self, request: Request) -> None:
        """Append to the running order; the request waits for the first of its group."""
        self._seat(request)
        self.followers[request] = None

    def _seat(self, request: Request) -> None:
        self._admissions += 1
        request.sequence = self._admissions
        self.requests[request] = None
        if request.group is not None:
            self.num_mates += request.group.num_in_batch > 0
            request.group.num_in_batch += 1

    def start_loading(self, request: Request) -> None:
        """The member waits for its load."""
        del self.prefills[request]
        self.loading[request] = None

    def end_loading(self, request: Request) -> None:
        """The member prefills; those that do are kept in running order."""
        del self.loading[request]
        members = sorted([*self.prefills, request], key=lambda member: member.sequence)
        self.prefills = dict.fromkeys(members)

    def start_decoding(self, request: Request) -> None:
        """From the next step on the request decodes; ``known`` is up to date."""
        if request in self.followers:
            del self.followers[request]
        else:
            del self.prefills[request]
            self.prefill_tokens -= request.computed
        request.base = base = request.known - self.step
        request.decoding = True
        self.num_decodes += 1
        self._base_sum += base
        if request.group is not None and request.group.survival is not None:
            self.beams[request.group] = None
        if self.num_decodes == 1 or (self._longest_base is not None and base > self._longest_base):
            self._longest_base = base
        request.end = end = request.total_tokens - base
        heappush(self._ends, (end, request.sequence, request))

    def hold_back(self, request: Request) -> None:
        """A decoding request that the coming step leaves out: it ends one step later."""
        if request.base == self._longest_base:
            self._longest_base = None
        request.base -= 1
        self._base_sum -= 1
        request.end += 1
        heappush(self._ends, (request.end, request.sequence, request))

    def park(self, request: Request) -> None:
        """The member's last token is on its way; it stays among ``requests``."""
        self._stop(request)
        self.parked[request] = None
        self.parked_tokens += request.computed

    def remove(self, request: Request) -> None:
        """Take a member out (finished or preempted), writing back its known tokens."""
        del self.requests[request]
        group = request.group
        if group is not None:
            group.num_in_batch -= 1
            self.num_mates -= group.num_in_batch > 0
            self.beams.pop(group, None)
        if request in self.followers:
            del self.followers[request]
        elif request in self.parked:
            del self.parked[request]
            self.parked_tokens -= request.computed
        else:
            self._stop(request)

    def _stop(self, request: Request) -> None:
        if request.decoding:
            request.known = request.base + self.step
            request.computed = request.known - 1
            request.decoding = False
            self.num_decodes -= 1
            self._base_sum -= request.base
            if request.base == self._longest_base:
                self._longest_base = None
        else:
            del self.prefills[request]
            self.prefill_tokens -= request.computed

    def next_end(self) -> int:
        """Number of steps done when the next decoding request ends; ``FAR`` if none decodes."""
        ends = self._ends
        while ends:
            end, sequence, request = ends[0]
            if request.decoding and request.end == end and request.sequence == sequence:
                return end
            heappop(ends)  # preempted or held back since
        return FAR

    def ended(self) -> list[Request]:
        """Decoding requests that have just received their last token, in running order."""
        done = []
        while self.next_end() == self.step:
            done.append(heappop(self._ends)[2])
        return done

    def last(self) -> Request:
        """The most recently admitted member that may be preempted."""
        if not self.loading:
            return next(reversed(self.requests))
        return next(one for one in reversed(self.requests) if one not in self.loading)

    def preemptible(self) -> Iterable[Request]:
        """Members, in running order, whose blocks are not being written from a tier."""
        if not self.loading:
            return self.requests
        return [one for one in self.requests if one not in self.loading]
