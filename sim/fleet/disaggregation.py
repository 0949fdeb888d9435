"""Prefill and decode in different pools: DistServe, Splitwise, Mooncake; vLLM's disaggregation.

A request is first served by a prefill replica as one of a single output token (``max_tokens=1``,
as vLLM's proxies ask for it). Then a decode replica is chosen and the KV of the prompt crosses the
link:

    end = max(now, link of the sender free, link of the receiver free)
        + latency + blocks * block bytes / bandwidth

with the bytes of all GPUs of the receiver, each of which takes its own part. There the request is
queued; when it is admitted its prompt is found computed but for the last token, which gives the
first token of the answer (vLLM's ``KVConnector``: ``num_new_matched_tokens``). A request that is
preempted there has lost what came, and its prompt is computed again on the spot.

The sender's blocks are free once the prefill is done, and what has come waits outside the
receiver's pool until it is admitted: both ends stage it in host memory, as Mooncake does. A client
that gives up while the KV is on its way does not stop it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from simpy import Environment

from ...calibration.step_cost import NS_PER_S
from ..clients import Clients
from ..clock import Arrival
from ..request import Request
from ..swap import Swap
from .member import Member
from .spec import KVTransfer
from .stage import Stage


class Transfer(NamedTuple):
    """The KV of one prompt."""

    row: int
    sender: int
    receiver: int
    asked_ns: float
    """The prefill was done; until it starts, the links serve others."""
    start_ns: float
    end_ns: float
    num_bytes: int


class Received(Swap):
    """KV that came from elsewhere waits outside the pool, as what was swapped out does."""

    def __init__(self) -> None:
        super().__init__(0)

    def takes(self, num_blocks: int, num_tokens: int, *, num_sequences: int = 1) -> bool:
        return False

    def bring(self, request: Request) -> None:
        """It goes into the pool; the link has taken its time for it."""

    def drop(self, request: Request) -> None:
        """Nobody needs it any more."""


class Handover:
    """The front of a fleet that prefills here and decodes there.

    Args:
        env: the clock, in nanoseconds.
        link: bandwidth and latency of each replica's link.
    """

    def __init__(self, env: Environment, link: KVTransfer) -> None:
        self.env = env
        self.transfers: list[Transfer] = []
        self.clients: Clients
        self.prefill: Stage
        self.decode: Stage
        self._link = link
        self._copy_of: dict[Request, Request] = {}
        """Requests as their prefill replicas know them."""
        self._request_of: dict[Request, Request] = {}
        self._sender_of: dict[Request, Member] = {}
        """Of those that wait for a decode replica, or for the link."""
        self._coming: dict[Request, Member] = {}
        self._gone: set[Request] = set()

    @property
    def copies(self) -> dict[Request, Request]:
        """Each request with what its prefill replica knew of it."""
        return self._copy_of

    def copy_of(self, request: Request) -> Request:
        """The request of a single output token that is prefilled for it."""
        if request not in self._copy_of:
            copy = Request(
                index=request.index,
                prompt_tokens=request.prompt_tokens,
                output_tokens=1,
                arrival_ns=request.arrival_ns,
                priority=request.priority,
                tenant=request.tenant,
            )
            copy.tie_rank = request.tie_rank
            self._copy_of[request], self._request_of[copy] = copy, request
        return self._copy_of[request]

    def why_rejected(self, request: Request) -> str:
        """The reason to reject a request at arrival, empty if there is none."""
        copy = self.copy_of(request)
        return self.prefill.why_rejected(copy) or self.decode.why_rejected(request)

    def submit(self, sequences: Sequence[Request]) -> None:
        """A request arrives: its prompt first."""
        (request,) = sequences
        copy = self.copy_of(request)
        copy.arrival_ns = copy.queued_ns = self.env.now
        self.prefill.submit([copy])

    def cancel(self, request: Request) -> None:
        """Its client gives up, wherever it is."""
        if request.finish_ns == request.finish_ns:  # it has its answer
            return
        self._gone.add(request)
        copy = self._copy_of[request]
        if copy.finish_ns != copy.finish_ns:
            self.prefill.cancel(copy)
        elif request in self._coming:
            self.decode.end_early(request)
        else:
            self.decode.cancel(request)

    def prefilled(self, copy: Request, member: Member | None) -> None:
        """The prompt is computed, or its client has gone."""
        request = self._request_of[copy]
        request.scheduled_ns = copy.scheduled_ns
        request.waited_ns = copy.waited_ns
        request.cached_tokens = max(copy.cached_tokens, 0)
        if request in self._gone:
            self.decode.end_early(request)
            return
        assert member is not None, "it was served"
        self._sender_of[request] = member
        request.queued_ns = self.env.now
        self.decode.submit([request])

    def send(self, receiver: Member, sequences: Sequence[Request]) -> None:
        """The KV of a prompt sets out for the replica that was chosen."""
        (request,) = sequences
        sender, now, link = self._sender_of.pop(request), self.env.now, self._link
        request.waited_ns += now - request.queued_ns  # on its way it does not wait in a queue
        server = receiver.pool.server
        flags = server.deployment
        blocks = -(-request.prompt_tokens // flags.block_size)
        num_bytes = blocks * server.moves.block_bytes * flags.num_gpus
        start = max(now, sender.link_free_ns, receiver.link_free_ns)
        took = float(round(NS_PER_S * (link.latency_s + num_bytes / link.bytes_per_s)))
        sender.link_free_ns = receiver.link_free_ns = end = start + took
        sender.sent_bytes += num_bytes
        self._coming[request] = receiver
        found = Transfer(request.index, sender.number, receiver.number, now, start, end, num_bytes)
        event = Arrival(self.env, end - now)
        assert event.callbacks is not None, "an event that has not occurred has callbacks"
        event.callbacks.append(lambda _: self._received(request, receiver, found))

    def decoded(self, request: Request, _: Member | None) -> None:
        """It has left, answered or not."""
        self._sender_of.pop(request, None)
        self.clients.done(request)

    def add_up(self) -> None:
        """At the end: preemptions at both ends are the request's."""
        for request, copy in self._copy_of.items():
            request.num_preemptions += copy.num_preemptions
            request.wasted_tokens += copy.wasted_tokens
            request.pauses_ns = copy.pauses_ns + request.pauses_ns
            if copy.finish_ns != copy.finish_ns:  # it never got further
                request.waited_ns, request.scheduled_ns = copy.waited_ns, copy.scheduled_ns

    def _received(self, request: Request, receiver: Member, transfer: Transfer) -> None:
        receiver.received_bytes += transfer.num_bytes
        self.transfers.append(transfer)
        del self._coming[request]
        if request in self._gone:
            self.decode.dismiss(receiver, request)
            return
        request.swapped_tokens = request.prompt_tokens - 1
        request.queued_ns = self.env.now
        self.decode.arrived(receiver, [request])
