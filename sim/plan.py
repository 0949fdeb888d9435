"""The plan: paged against contiguous allocators on the same trace, memory and clock.

Each candidate runs three times: the trace as it arrives; the trace's lengths under backlog, with
the flags as given; and under backlog with no limit on ``max_num_seqs`` and
``max_num_batched_tokens``, which tells what memory alone allows. The same scheduler serves all, so
that what differs is the allocator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial

from ..calibration.gpus import GPUSpec
from ..calibration.memory import MemoryBudget
from ..calibration.models import ModelSpec
from ..traces import Trace
from ..traces.cache_curve import CacheCurve, cache_curve
from ..traces.intake import Taken, with_poisson
from .backlog import Backlog
from .block_sizes import BlockSizes, block_sizes
from .candidate import Advantage, Candidate, advantage
from .crossover import Crossover
from .ignored import ignored
from .job import Report, simulate_server
from .map_recorder import MapRecorder
from .memory_map import MemoryMap
from .parallel import jobs_for, num_cores, run_each
from .plan_notes import assumptions, caveats, of_pages
from .planner.decision import Decision
from .saturated import saturate
from .sensitivity import Sensitivity, sensitivity
from .sequences import sharing_of
from .servable import rejections, servable_rows
from .serve_command import serve_command
from .server import Server
from .summary import plain
from .swap_cost import crossover_under

SCHEMA = "kvsim-plan/1"
BASELINES: tuple[tuple[str, str], ...] = (("max", "buddy"), ("pow2", "buddy"), ("oracle", "buddy"))
"""Contiguous (reservation, placement): Orca's three in the PagedAttention paper."""
DEFAULT_LOAD = 0.8
"""Share of the backlogged request rate of the paged server, where no trace is given."""
NOTHING_SHARED = {
    "parallel_sampling": "fan_out",
    "enable_prefix_caching": False,
    "prefix_cache": "hash",
}
"""Flags with which the samples of a request have nothing in common: what sharing them is worth."""
_NO_LIMIT = 1 << 30
_MAPPED_PIECES = 8
"""Pieces of ``max_model_len`` that the memory map shows: few enough to be told apart."""
_MAPPED_REQUESTS = (0.5, 0.7)
"""The map begins and ends when these shares of the backlog are done: the pool is in its stride."""
_MEMORY_ALONE = 0.95
"""Share of the time in which memory must have been what was waited for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The paged candidate, the baselines beside it, and what they rest on."""

    model: ModelSpec
    gpu: GPUSpec
    budget: MemoryBudget
    trace: Trace
    origin: str
    """What the trace is, in words."""
    arrivals: str
    """Where the arrivals come from, in words."""
    chosen: Candidate
    baselines: tuple[Candidate, ...]
    assumptions: tuple[str, ...]
    notes: tuple[str, ...]
    sensitivity: Sensitivity | None = None
    """The answer under backlog as an interval; None where nothing was served, or where the decision
    says how sure it is."""
    block_sizes: BlockSizes | None = None
    """None where layers keep different tokens."""
    cache_curve: CacheCurve | None = None
    """None where the trace has no prefix ids."""
    crossover: Crossover | None = None
    """Preemption by swap against recompute; None where layers keep different tokens."""
    decision: Decision | None = None
    """Why this server; None where nothing was to be decided."""

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """The paged one first."""
        return (self.chosen, *self.baselines)

    @property
    def advantages(self) -> tuple[Advantage, ...]:
        """One for each baseline."""
        return tuple(advantage(self.chosen, baseline) for baseline in self.baselines)

    @property
    def met(self) -> bool:
        """Whether the objective is kept, where one was asked for."""
        return self.decision is None or self.decision.met

    @property
    def serve_command(self) -> str:
        """The command line that starts the server as planned."""
        return serve_command(self.chosen.server)

    def to_json(self) -> dict[str, object]:
        """Everything but the columns."""
        return {
            "schema": SCHEMA,
            "model": self.model.name,
            "gpu": self.gpu.name,
            "trace": {
                "name": self.trace.name,
                "origin": self.origin,
                "digest": self.trace.digest,
                "num_requests": len(self.trace),
                "num_skipped_rows": len(self.trace.skipped),
                "arrivals": self.arrivals,
            },
            "serve_command": self.serve_command,
            "price": {
                "usd_per_gpu_hour": self.gpu.price_usd_per_hour,
                "date": self.gpu.price_date,
                "source": self.gpu.price_source,
            },
            "memory": self.budget.to_json(),
            "candidates": [candidate.to_json() for candidate in self.candidates],
            "advantages": [plain(asdict(advantage)) for advantage in self.advantages],
            "sensitivity": None if self.sensitivity is None else self.sensitivity.to_json(),
            "block_sizes": None if self.block_sizes is None else self.block_sizes.to_json(),
            "crossover": None if self.crossover is None else self.crossover.to_json(),
            "decision": None if self.decision is None else self.decision.to_json(),
            "assumptions": list(self.assumptions),
            "notes": list(self.notes),
        }


def make_plan(
    server: Server,
    *,
    taken: Taken,
    concurrency: int | None = None,
    baselines: Sequence[tuple[str, str]] = BASELINES,
    page_sizes: Sequence[int] = (),
    decision: Decision | None = None,
    report: Report | None = None,
) -> Plan:
    """Simulate the paged server and the contiguous baselines on a trace.

    Args:
        server: the paged server.
        taken: the trace, with arrival times unless ``concurrency`` is given.
        concurrency: clients of a closed loop.
        baselines: (reservation, placement) of the contiguous allocators.
        page_sizes: bytes per page of the virtual-contiguous allocators to compare with, too.
        decision: why this server.
        report: told about progress.

    Raises:
        ValueError: the trace has no arrival times or no request that fits.
    """
    servers = [server.with_flags(allocator="paged")]
    for reservation, placement in baselines:
        flags = {"reservation": reservation, "placement": placement}
        servers.append(server.with_flags(allocator="contiguous", **flags))
    servers += [server.with_flags(allocator="virtual", page_bytes=size) for size in page_sizes]
    trace = taken.trace
    if sharing_of(trace) == "n" and not servers[0].deployment.shares_nothing:
        servers.append(servers[0].with_flags(**NOTHING_SHARED))
    left_out = ignored(trace, server.deployment, concurrency=concurrency)
    _check_servable(servers[0], trace)
    chosen, *others = _candidates(servers, trace, concurrency, report)
    # the decision's own intervals, of the rate that holds, stand in the sensitivity's place
    asked_how_sure = decision is not None and decision.confidence is not None
    return Plan(
        model=server.model,
        gpu=server.gpu,
        budget=server.budget,
        trace=trace,
        origin=taken.origin,
        arrivals=taken.arrivals,
        chosen=chosen,
        baselines=tuple(others),
        assumptions=(*assumptions(server), *of_pages(servers)),
        notes=(*server.notes, *trace.notes, *left_out, *caveats(trace, chosen, *others)),
        sensitivity=None if asked_how_sure else _sensitivity(chosen, trace, concurrency, report),
        block_sizes=_block_sizes(chosen, trace),
        cache_curve=None if trace.hash_ids is None else cache_curve(trace),
        crossover=_crossover(chosen, trace),
        decision=decision,
    )


def with_default_arrivals(
    server: Server, taken: Taken, *, seed: int, report: Report | None = None
) -> Taken:
    """Poisson arrivals at 0.8 of what the paged server finishes under backlog."""
    paged = server.with_flags(allocator="paged")
    _check_servable(paged, taken.trace)
    _, backlog = saturate(paged, taken.trace, title="finding the backlogged rate", report=report)
    backlogged = backlog.requests_per_s
    why = f"{DEFAULT_LOAD:g} of the {backlogged:.4g}/s that the paged server finishes under backlog"
    return with_poisson(taken, rate_per_s=DEFAULT_LOAD * backlogged, seed=seed, why=why)


def _check_servable(server: Server, trace: Trace) -> None:
    if not len(servable_rows(trace, server.deployment, server.num_gpu_blocks)):
        reason = rejections(trace, server.deployment, server.num_gpu_blocks)[0]
        raise ValueError(
            f"trace(={trace.name!r}) has no request that the server can run; the first: {reason}."
        )


def _candidates(
    servers: Sequence[Server], trace: Trace, concurrency: int | None, report: Report | None
) -> list[Candidate]:
    """Each told about its progress where they run one after the other, else as they end."""
    jobs = jobs_for(len(servers) * len(trace))
    if jobs == 1 or num_cores() == 1:
        return [_candidate(one, trace, concurrency, report) for one in servers]
    tasks = [
        (one.deployment.title, partial(_candidate, one, trace, concurrency, None))
        for one in servers
    ]
    return run_each(tasks, title="candidates", jobs=jobs, report=report)


def _candidate(
    server: Server, trace: Trace, concurrency: int | None, report: Report | None
) -> Candidate:
    title = server.deployment.title
    result, summary = simulate_server(
        server, trace=trace, title=f"{title}: the trace", concurrency=concurrency, report=report
    )
    if not summary.num_finished:
        return Candidate(
            server=server, summary=summary, result=result, backlog=None, memory_backlog=None
        )
    backlog, seen = _backlog(server, trace, f"{title}: backlog", report)
    memory_backlog = backlog
    if backlog.memory_bound < _MEMORY_ALONE:
        lifted = server.with_flags(
            max_num_seqs=_NO_LIMIT, max_num_active_seqs=None, max_num_batched_tokens=_NO_LIMIT
        )
        alone, seen_alone = _backlog(lifted, trace, f"{title}: backlog, memory alone", report)
        if alone.mean_running > backlog.mean_running:  # else the limits cost nothing
            memory_backlog, seen = alone, seen_alone
    return Candidate(
        server=server,
        summary=summary,
        result=result,
        backlog=backlog,
        memory_backlog=memory_backlog,
        memory_map=seen,
    )


def _backlog(
    server: Server, trace: Trace, title: str, report: Report | None
) -> tuple[Backlog, MemoryMap | None]:
    """A backlog run and what its pool looked like."""
    tokens = server.num_gpu_blocks * server.deployment.block_size
    share = _MAPPED_PIECES * server.deployment.max_model_len / tokens
    begin, end = _MAPPED_REQUESTS
    recorder = MapRecorder(view_share=min(1.0, share), begin=begin, end=end)
    _, backlog = saturate(server, trace, title=title, memory_map=recorder, report=report)
    return backlog, recorder.memory_map()


def _sensitivity(
    chosen: Candidate, trace: Trace, concurrency: int | None, report: Report | None
) -> Sensitivity | None:
    if chosen.backlog is None:
        return None
    return sensitivity(
        chosen.server,
        trace,
        result=chosen.result,
        summary=chosen.summary,
        backlog=chosen.backlog,
        concurrency=concurrency,
        report=report,
    )


def _block_sizes(chosen: Candidate, trace: Trace) -> BlockSizes | None:
    if chosen.backlog is None:
        return None
    return block_sizes(chosen.server, trace, backlog=chosen.backlog)


def _crossover(chosen: Candidate, trace: Trace) -> Crossover | None:
    if chosen.backlog is None:
        return None
    return crossover_under(chosen.server, trace, backlog=chosen.backlog)
