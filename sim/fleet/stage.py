"""Replicas that a request may go to, the router that chooses, and who waits for a choice."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from simpy import Environment

from ..request import Request
from .member import Member
from .routers import Router

Send = Callable[[Member, Sequence[Request]], None]
"""Gets the sequences of a request to the replica that was chosen."""


class Stage:
    """Members of one role.

    Args:
        env: the clock, in nanoseconds.
        router: chooses among the members that are ready.
        session_of: the first row of each row's session.
        on_done: told of each sequence that leaves, with the member that served it, if any did.
        max_ongoing: requests that a member is given at once; None = no limit.
        on_choice: told of each choice: the row and the member.
        send: how requests get there; by default they are there at once.
        takes_back: whether what a leaving member has not begun goes to others.
    """

    def __init__(
        self,
        env: Environment,
        *,
        router: Router,
        session_of: Sequence[int],
        on_done: Callable[[Request, Member | None], None],
        max_ongoing: int | None = None,
        on_choice: Callable[[int, Member], None] | None = None,
        send: Send | None = None,
        takes_back: bool = True,
    ) -> None:
        self.env = env
        self.members: list[Member] = []
        """All that were ever ready, in order."""
        self.held: deque[list[Request]] = deque()
        """Requests for which no member has room yet, in order of arrival."""
        self.num_rerouted = 0
        self._router = router
        self._session_of = session_of
        self._on_done = on_done
        self._max_ongoing = max_ongoing
        self._on_choice = on_choice
        self._send = send
        self._takes_back = takes_back
        self._at: dict[Request, Member] = {}
        self._turns = 0

    @property
    def ready(self) -> list[Member]:
        """Members that take requests."""
        return [one for one in self.members if one.ready]

    def joined(self, member: Member) -> None:
        """A member is ready: it may take who is held."""
        self.members.append(member)
        self._place_held()

    def drain(self, member: Member) -> None:
        """A member takes no more; what it has not begun goes to the others."""
        member.draining = True
        assert self.ready, "the last one stays"
        waiting = member.withdraw_waiting() if self._takes_back else []
        self.num_rerouted += len(waiting)
        for sequences in reversed(waiting):
            for one in sequences:
                del self._at[one]
            self.held.appendleft(sequences)
        self._place_held()
        self._leave_if_idle(member)

    def why_rejected(self, request: Request) -> str:
        """The reason of the first pool, if no pool could serve the request."""
        reasons = [one.engine.why_rejected(request) for one in self._one_per_pool()]
        return "" if "" in reasons else reasons[0]

    def submit(self, sequences: Sequence[Request]) -> None:
        """The sequences of a request arrive."""
        self.held.append(list(sequences))
        self._place_held()

    def cancel(self, request: Request) -> None:
        """Its client gives up, wherever it is."""
        member = self._at.get(request)
        if member is not None:
            member.cancel(request)
            return
        for sequences in self.held:
            if request in sequences:
                sequences.remove(request)
                if not sequences:
                    self.held.remove(sequences)
                self.end_early(request)
                return

    def end_early(self, request: Request) -> None:
        """It leaves before any member has it."""
        request.cancelled = True
        request.finish_ns = self.env.now
        request.total_tokens = request.known
        self._on_done(request, None)

    def finished(self, member: Member, request: Request) -> None:
        """A member is done with a sequence: there is room for who is held.

        It learns that after the member's next schedule, as a client does (see ``sim.clock``).
        """
        del self._at[request]
        self._on_done(request, member)
        if self.held:
            told = self.env.event()
            told.callbacks.append(lambda _: self._place_held())
            told.succeed()
        self._leave_if_idle(member)

    def arrived(self, member: Member, sequences: Sequence[Request]) -> None:
        """They are where they were sent."""
        for one in sequences:
            self._at[one] = member
        member.submit(sequences)

    def dismiss(self, member: Member, request: Request) -> None:
        """What was on its way to a member does not come."""
        member.dismiss(request)
        self._place_held()
        self._leave_if_idle(member)

    def _place_held(self) -> None:
        while self.held:
            sequences = self.held[0]
            able = self._able(sequences[0])
            if not able:
                return
            self.held.popleft()
            session = self._session_of[sequences[0].index]
            member = self._router.choose(sequences[0], session, able)
            member.turn = self._turns
            self._turns += 1
            if self._on_choice is not None:
                self._on_choice(sequences[0].index, member)
            if self._send is None:
                self.arrived(member, sequences)
            else:
                member.expect(sequences)
                self._send(member, sequences)

    def _able(self, request: Request) -> list[Member]:
        """Ready members that could serve the request and have room for it."""
        most = self._max_ongoing
        ready = [one for one in self.ready if most is None or one.num_outstanding < most]
        if len({id(one.pool) for one in ready}) > 1:
            ready = [one for one in ready if not one.engine.why_rejected(request)]
        return ready

    def _one_per_pool(self) -> list[Member]:
        return list({id(one.pool): one for one in self.ready}.values())

    def _leave_if_idle(self, member: Member) -> None:
        if member.draining and not member.outstanding and member.left_ns != member.left_ns:
            member.left_ns = max(self.env.now, member.link_free_ns)
