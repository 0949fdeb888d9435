"""One allocator of a plan: what it did with the trace and under backlog, and against another."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from .backlog import Backlog
from .memory_map import MemoryMap
from .result import Result
from .server import Server
from .summary import Summary, plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One allocator on the trace and under backlog."""

    server: Server
    summary: Summary
    result: Result
    backlog: Backlog | None
    """With the flags as given; None where the allocator can hold no request of the trace."""
    memory_backlog: Backlog | None
    """With ``max_num_seqs`` and ``max_num_batched_tokens`` lifted: what memory alone allows."""
    memory_map: MemoryMap | None = None
    """The first part of the pool in that run; None where nothing has an address."""

    @property
    def title(self) -> str:
        """The allocator, with reservation and placement."""
        return self.server.deployment.title

    @property
    def usd_per_million_output_tokens(self) -> float | None:
        """GPU price over the output of the saturated server; None without price or output."""
        price, flags = self.server.gpu.price_usd_per_hour, self.server.deployment
        if price is None or self.backlog is None or not self.backlog.output_tokens_per_s:
            return None
        tokens_per_hour = self.backlog.output_tokens_per_s * 3600
        return price * flags.num_gpus / tokens_per_hour * 1e6

    @property
    def bound_by(self) -> str:
        """What limits the requests that run at once under backlog."""
        if self.backlog is None:
            return "no request fits"
        if not self.backlog.saturated:
            return "the number of requests"
        flags, memory, seats = self.server.deployment, *self._binding
        if memory >= max(seats, 1 - memory - seats):
            return "KV memory"
        if seats >= 1 - memory - seats:
            return f"max_num_seqs(={flags.limits.seats})"
        if flags.scheduler == "vllm":
            return f"max_num_batched_tokens(={flags.max_num_batched_tokens})"
        return f"the {flags.scheduler} scheduler"

    @property
    def _binding(self) -> tuple[float, float]:
        """Shares of the time in which memory and seats were what was waited for."""
        assert self.backlog is not None, "the caller has asked"
        return self.backlog.memory_bound, self.backlog.seat_bound

    def to_json(self) -> dict[str, object]:
        """Everything but the columns."""

        def backlog(value: Backlog | None) -> object:
            return None if value is None else plain(asdict(value))

        return {
            "title": self.title,
            "deployment": self.server.deployment.to_json(),
            "bound_by": self.bound_by,
            "usd_per_million_output_tokens": plain(self.usd_per_million_output_tokens),
            "summary": self.summary.to_json(),
            "backlog": backlog(self.backlog),
            "memory_backlog": backlog(self.memory_backlog),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Advantage:
    """How many times more requests the paged server runs at once than a baseline."""

    baseline: str
    under_backlog: float
    memory_alone: float
    over_the_trace: float


def advantage(chosen: Candidate, baseline: Candidate) -> Advantage:
    """Requests at once of one candidate over those of another."""

    def ratio(ours: float, theirs: float) -> float:
        return ours / theirs if theirs > 0 else float("inf")

    def running(backlog: Backlog | None) -> float:
        return 0.0 if backlog is None else backlog.mean_running

    return Advantage(
        baseline=baseline.title,
        under_backlog=ratio(running(chosen.backlog), running(baseline.backlog)),
        memory_alone=ratio(running(chosen.memory_backlog), running(baseline.memory_backlog)),
        over_the_trace=ratio(chosen.summary.mean_running, baseline.summary.mean_running),
    )
