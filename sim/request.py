"""One request on its way through a replica: mutable, owned by the replica that serves it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .content import Path

if TYPE_CHECKING:
    from .allocators.tiers import Load
    from .group import Group

NEVER = float("nan")


class Request:
    """A request's lengths, its progress and the times at which things happened to it.

    *Known* tokens are the prompt and the outputs received so far. *Computed* tokens have their KV
    in the cache. While a request decodes, each step computes its last known token and adds one;
    nobody touches it: known is ``base + batch.step`` and its end is known from the start (see
    :class:`~kvsim.sim.batch.RunningBatch`). At any other time ``known`` and ``computed`` hold.
    """

    __slots__ = (
        "arrival_ns",
        "base",
        "blocks",
        "cached_tokens",
        "cancelled",
        "computed",
        "decoding",
        "end",
        "extent",
        "final_blocks",
        "finish_ns",
        "first_token_ns",
        "group",
        "index",
        "known",
        "kv_tokens",
        "load",
        "loads_ns",
        "lost_tokens",
        "num_preemptions",
        "path",
        "pauses_ns",
        "priority",
        "prompt_tokens",
        "queued_ns",
        "reject_reason",
        "reserved_tokens",
        "row",
        "run_blocks",
        "runs",
        "sample",
        "scheduled_ns",
        "sequence",
        "shared_blocks",
        "silent_since_ns",
        "swapped_tokens",
        "tenant",
        "tie_rank",
        "tier_tokens",
        "total_tokens",
        "waited_ns",
        "wasted_tokens",
        "written_tokens",
    )

    def __init__(
        self,
        *,
        index: int,
        prompt_tokens: int,
        output_tokens: int,
        arrival_ns: float = 0.0,
        priority: int = 0,
        tenant: int = 0,
    ) -> None:
        self.index = index
        """Row in the trace."""
        self.priority = priority
        """Smaller is more urgent."""
        self.tenant = tenant
        """On whose behalf it runs."""
        self.tie_rank = index
        """Order among requests of one priority and arrival time: that of their ids."""
        self.row = self
        """Of the sequences of a group the first, which keeps the times and counts of all."""
        self.sample = 0
        """Which of the request's sequences it is."""
        self.group: Group | None = None
        """The sequences that share its prompt's blocks, itself among them; None if it is alone."""
        self.prompt_tokens = prompt_tokens
        self.total_tokens = prompt_tokens + output_tokens
        """Prompt and outputs at the end."""
        self.kv_tokens = self.total_tokens - 1
        """Slots filled in the end: the last token sampled is never computed."""
        self.arrival_ns = arrival_ns
        self.known = prompt_tokens
        self.computed = 0

        self.decoding = False
        self.base = 0
        self.end = 0
        self.sequence = 0
        """Order of admission into the running batch."""

        self.blocks: list[int] = []
        """Paged: the block table, with a prefix cache the part of it behind ``runs``."""
        self.final_blocks = 0
        """Length of ``blocks`` in the end."""
        self.path: Path = ()
        """Prefix cache: where its tokens lie in the tree of all contents."""
        self.runs: list[Any] = []
        """Prefix cache: the leading blocks of the table, those that others may find."""
        self.run_blocks = 0
        """Blocks in ``runs``."""
        self.shared_blocks = 0
        """Leading blocks up to the last one that somebody else's path shares."""
        self.written_tokens = 0
        """Known tokens for which room was made before it decoded."""
        self.cached_tokens = -1
        """Prompt tokens found in the prefix cache at the first admission; -1 = not yet."""
        self.tier_tokens: tuple[int, ...] = ()
        """Part of them that came from each tier below the GPU."""
        self.load: Load | None = None
        """What it waits for before it computes, or has waited for."""
        self.loads_ns: list[float] = []
        """Of each load two times: admitted, loaded."""
        self.extent = -1
        """Contiguous: address of the first slot."""
        self.reserved_tokens = 0

        self.queued_ns = arrival_ns
        self.waited_ns = 0.0
        self.scheduled_ns = NEVER
        self.first_token_ns = NEVER
        self.finish_ns = NEVER
        self.silent_since_ns = -1.0
        """Time of the last token before a pause (preempted or left out); -1 = no pause."""
        self.num_preemptions = 0
        self.pauses_ns: list[float] = []
        """Of each preemption whether its KV was swapped out, and three times: preempted, admitted
        again, decoding again."""
        self.lost_tokens = 0
        """Computed tokens at the last preemption."""
        self.wasted_tokens = 0
        """Tokens computed again after preemptions; what the prefix cache kept is not."""
        self.swapped_tokens = 0
        """Computed tokens whose KV lies in host memory: swapped out."""
        self.cancelled = False
        self.reject_reason = ""

    def known_at(self, step: int) -> int:
        """Known tokens before the step of this number."""
        return self.base + step if self.decoding else self.known

    def __repr__(self) -> str:
        return f"Request({self.index}, prompt={self.prompt_tokens}, total={self.total_tokens})"
