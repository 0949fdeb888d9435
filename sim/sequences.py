"""The requests of a trace as sequences: one each, or several that share a prompt.

``fork``: the sequences are a group inside the engine, which computes the prompt once and shares its
blocks. ``fan_out``: each is a request of its own, as in vLLM's V1 engine; what they have in common
is the prefix cache's affair.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from operator import itemgetter
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .beams import BeamSurvival
from .deployment import Deployment
from .group import Group
from .request import NEVER, Request


class Sampled(Protocol):
    """The columns of a trace that say how long requests are and how many sequences they have."""

    @property
    def prompt_tokens(self) -> NDArray[np.int64]: ...
    @property
    def output_tokens(self) -> NDArray[np.int64]: ...
    @property
    def priority(self) -> NDArray[np.int64] | None: ...


def widths(trace: object) -> tuple[list[int], list[int]] | None:
    """Sequences of each request and, of those that search, beams (else 0); None: all have one."""
    samples: NDArray[np.int64] | None = getattr(trace, "num_samples", None)
    beams: NDArray[np.int64] | None = getattr(trace, "beam_width", None)
    if samples is None and beams is None:
        return None
    num = len(samples if samples is not None else beams)  # type: ignore[arg-type]
    searched = np.zeros(num, dtype=np.int64) if beams is None else np.where(beams > 1, beams, 0)
    sampled = np.ones(num, dtype=np.int64) if samples is None else samples
    width = np.where(searched > 0, searched, sampled)
    return None if (width == 1).all() else (width.tolist(), searched.tolist())


def mean_width(trace: object) -> float:
    """Sequences of a request, on average."""
    found = widths(trace)
    return 1.0 if found is None else sum(found[0]) / len(found[0])


def check_widths(trace: object, deployment: Deployment) -> None:
    """Refuse what the engine cannot run.

    Raises:
        ValueError: more sequences than seats or than tokens in a step, or groups beside what does
            not know them.
    """
    found = widths(trace)
    if found is None:
        return
    seats = deployment.limits.seats
    for name, values in zip(("n", "beam_width"), found, strict=True):
        if name == "n" and max(found[1]) == max(values):
            continue
        if max(values) > seats:
            raise ValueError(f"{name}(={max(values)}) must be <= max_num_seqs(={seats}).")
    if max(found[1]) and deployment.parallel_sampling == "fan_out":
        raise ValueError(
            f"beam_width(={max(found[1])}) needs parallel_sampling fork: the engine fans out "
            "samples only."
        )
    if deployment.parallel_sampling == "fan_out":
        return
    budget = deployment.limits.max_num_batched_tokens
    if max(found[0]) > budget:  # they go on together, a token each
        name = "beam_width" if max(found[1]) == max(found[0]) else "n"
        raise ValueError(f"{name}(={max(found[0])}) must be <= max_num_batched_tokens(={budget}).")
    name = "beam_width" if max(found[1]) else "n"
    for flag in ("enable_prefix_caching", "async_scheduling"):
        if getattr(deployment, flag):
            raise ValueError(
                f"{name}(={max(found[0])}) with parallel_sampling fork needs {flag} off."
            )
    if deployment.kv_groups and deployment.allocator == "paged":
        raise ValueError(
            f"{name}(={max(found[0])}) with parallel_sampling fork needs layers that all keep "
            "every token: switch the hybrid KV-cache manager off "
            "(--disable-hybrid-kv-cache-manager)."
        )


def sharing_of(trace: object) -> str:
    """``beams``, ``n`` where requests have samples only, empty where they have one sequence."""
    found = widths(trace)
    if found is None:
        return ""
    return "beams" if max(found[1]) else "n"


def shares(trace: object, deployment: Deployment) -> bool:
    """Whether requests are groups whose sequences share blocks."""
    return deployment.parallel_sampling == "fork" and widths(trace) is not None


def moves_blocks(trace: object, deployment: Deployment) -> bool:
    """Whether sequences may have to copy what they share."""
    return shares(trace, deployment) or deployment.pinned_prefix_tokens > 0


def make_requests(trace: Sampled, deployment: Deployment) -> list[Request]:
    """The requests of a trace, each with its group where its sequences share blocks.

    Outputs end where the engine stops, at ``max_model_len``.
    """
    longest = deployment.max_model_len
    prompts, outputs = trace.prompt_tokens.tolist(), trace.output_tokens.tolist()
    urgency = [0] * len(prompts) if trace.priority is None else trace.priority.tolist()
    tenant: NDArray[np.int64] | None = getattr(trace, "tenant", None)
    tenants = [0] * len(prompts) if tenant is None else tenant.tolist()
    rows = zip(prompts, outputs, urgency, tenants, strict=True)
    requests = [
        Request(
            index=index,
            prompt_tokens=prompt,
            output_tokens=min(output, longest - prompt) if prompt < longest else output,
            priority=priority,
            tenant=tenant,
        )
        for index, (prompt, output, priority, tenant) in enumerate(rows)
    ]
    found = widths(trace)
    if found is not None and deployment.parallel_sampling == "fork":
        for request, width, beams in zip(requests, *found, strict=True):
            if width > 1:
                survival = BeamSurvival(width=beams, seed=deployment.beam_seed, index=request.index)
                members = copies(request, width)
                for one in members:
                    one.row = request
                Group(members, survival if beams else None)
    return requests


def copies(request: Request, count: int) -> list[Request]:
    """The request and so many less one like it, as sequences of one row."""
    sequences = [request]
    for sample in range(1, count):
        one = Request(
            index=request.index,
            prompt_tokens=request.prompt_tokens,
            output_tokens=request.total_tokens - request.prompt_tokens,
            arrival_ns=request.arrival_ns,
            priority=request.priority,
            tenant=request.tenant,
        )
        one.sample, one.tie_rank = sample, request.tie_rank
        sequences.append(one)
    return sequences


def families_of(trace: object, requests: Sequence[Request]) -> dict[int, Family]:
    """The rows of a trace that have several sequences."""
    found = widths(trace)
    if found is None:
        return {}
    families = {}
    for request, width in zip(requests, found[0], strict=True):
        if width > 1:
            group = request.group
            several = copies(request, width) if group is None else list(group.members)
            families[request.index] = Family(several)
    return families


class Family:
    """The sequences of one row as the client sees them: answered when the last one is."""

    __slots__ = ("left", "sequences")

    def __init__(self, sequences: list[Request]) -> None:
        self.sequences = sequences
        self.left = len(sequences)

    def ends(self) -> bool:
        """One sequence has left; whether it was the last."""
        self.left -= 1
        if self.left:
            return False
        self.add_up()
        return True

    def add_up(self) -> None:
        """The first sequence's times and counts become those of all."""
        row, several = self.sequences[0], self.sequences
        row.finish_ns = NEVER if self.left else max(one.finish_ns for one in several)
        for name in ("scheduled_ns", "first_token_ns"):
            times = [getattr(one, name) for one in several]
            setattr(row, name, min((time for time in times if time == time), default=NEVER))
        row.cancelled = any(one.cancelled for one in several)
        row.cached_tokens = sum(max(0, one.cached_tokens) for one in several)
        for name in ("num_preemptions", "waited_ns", "wasted_tokens"):
            setattr(row, name, sum(getattr(one, name) for one in several))
        pauses = (zip(*[iter(one.pauses_ns)] * 4, strict=True) for one in several)
        in_order = sorted(chain.from_iterable(pauses), key=itemgetter(1))
        row.pauses_ns = list(chain.from_iterable(in_order))
