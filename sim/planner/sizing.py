"""How many replicas of which server: what each holds, what it costs, which is cheapest.

A target of ``r`` requests a second takes ``R = ceil(r / s)`` replicas of a server that holds ``s``
within the objective: an even split. The cheapest per hour wins; at one price the fewest GPUs, then
a KV cache stored in the model's own bits, then the highest rate, and of rates that the search
cannot tell apart the one that changes the fewest flags. Without a target the cheapest output token
wins, each server at the rate it holds. Where no GPU has a price, GPUs are counted instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil, inf

from ...calibration.engine_defaults import BLOCK_SIZE, batch_defaults
from ...calibration.engines import load_engine
from ...calibration.kv_dtypes import kv_dtype
from ...traces import Trace
from ..job import Report
from ..parallel import run_each
from ..server import Server
from ..slo import SLO
from .option import Option
from .search import TOLERANCE, search_rate
from .spec import ServerSpec

_ROUNDING = 1e-9
"""Relative: a target that is a multiple of the rate held takes no further replica."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A server that cannot be set up, and why."""

    title: str
    spec: ServerSpec
    reason: str


Tried = Option | Refused


def try_each(
    specs: Sequence[tuple[str, ServerSpec]],
    trace: Trace,
    slo: SLO,
    *,
    title: str,
    guess_per_s: float | None = None,
    report: Report | None = None,
) -> list[Tried]:
    """The rate that each server holds, on every core; those that do not fit say why.

    Servers on the same GPUs are much alike: the first of each kind says where to look for the
    others' rates.

    Args:
        specs: titles and servers.
        trace: with arrival times, whose pattern is kept.
        slo: the objective.
        title: of all of them together, for ``report``.
        guess_per_s: where to look for all of them, where that is known.
        report: told about progress.
    """
    kinds = [_kind(spec) for _, spec in specs]
    first = {kind: specs[kinds.index(kind)] for kind in dict.fromkeys(kinds)}
    run = partial(_try_all, trace=trace, slo=slo, report=report)
    found = dict(
        zip(first, run(list(first.values()), [guess_per_s] * len(first), title=title), strict=True)
    )
    others = [(k, spec) for k, spec in zip(kinds, specs, strict=True) if spec is not first[k]]
    near = [_rate(found[kind]) or guess_per_s for kind, _ in others]
    rest = run([spec for _, spec in others], near, title=f"{title}, other flags")
    left = iter(rest)
    return [
        found[kind] if spec is first[kind] else next(left)
        for kind, spec in zip(kinds, specs, strict=True)
    ]


def _kind(spec: ServerSpec) -> tuple[object, ...]:
    """Servers of one kind hold rates near each other."""
    sizes = ("tensor_parallel_size", "pipeline_parallel_size")
    return (*spec.hardware.values(), *(spec.flags.get(name) for name in sizes))


def _rate(tried: Tried) -> float | None:
    return tried.search.rate_per_s or None if isinstance(tried, Option) else None


def _try_all(
    specs: Sequence[tuple[str, ServerSpec]],
    guesses: Sequence[float | None],
    *,
    trace: Trace,
    slo: SLO,
    title: str,
    report: Report | None,
) -> list[Tried]:
    told = report if len(specs) == 1 else None  # of a single one its own progress is shown
    tasks: list[tuple[str, Callable[[], Tried]]] = [
        (name, partial(_try, name, spec, trace, slo, guess_per_s=guess, report=told))
        for (name, spec), guess in zip(specs, guesses, strict=True)
    ]
    return run_each(tasks, title=title, report=None if told else report)


def _try(
    title: str,
    spec: ServerSpec,
    trace: Trace,
    slo: SLO,
    *,
    guess_per_s: float | None,
    report: Report | None,
) -> Tried:
    try:
        server = spec.server(trace)
        search = search_rate(
            server, trace, slo, title=title, guess_per_s=guess_per_s, report=report
        )
    except ValueError as error:
        return Refused(title=title, spec=spec, reason=str(error))
    return Option(title=title, spec=spec, server=server, search=search)


def replicas_for(target_per_s: float, rate_per_s: float) -> int:
    """Replicas that share a target evenly, each within the rate that it holds.

    Raises:
        ValueError: a replica that holds nothing.
    """
    if not rate_per_s > 0:
        raise ValueError(f"rate_per_s(={rate_per_s}) must be > 0.")
    return max(1, ceil(target_per_s / rate_per_s * (1 - _ROUNDING)))


def sized(option: Option, target_per_s: float | None) -> Option:
    """With as many replicas as the target needs; one without a target or a rate."""
    if target_per_s is None or option.search.best is None:
        return option
    return replace(option, num_replicas=replicas_for(target_per_s, option.search.rate_per_s))


def cost_of(option: Option, target_per_s: float | None, *, priced: bool) -> float:
    """What is made small: USD per hour, or per output token without a target; GPUs without prices.

    Infinite where the GPU alone has no price.
    """
    if priced:
        usd = option.usd_per_hour
        if target_per_s is None:
            usd = option.usd_per_million_output_tokens
        return inf if usd is None else usd
    if target_per_s is not None:
        return float(option.num_gpus)
    return option.num_gpus / option.search.rate_per_s


def ranked(
    options: Sequence[Option], target_per_s: float | None, flags: Sequence[str]
) -> list[Option]:
    """Best first, of options that hold a rate.

    Args:
        options: sized for the target.
        target_per_s: requests a second, or None.
        flags: those that the options differ in.
    """
    priced = any(one.usd_per_hour is not None for one in options)
    left, order = list(options), []
    while left:
        order.append(_first(left, target_per_s, tuple(flags), priced=priced))
        left.remove(order[-1])
    return order


def _first(
    options: Sequence[Option], target_per_s: float | None, flags: tuple[str, ...], *, priced: bool
) -> Option:
    """The cheapest; among equals fewest GPUs, then fewest flags of those that hold the most."""
    cost = {id(one): cost_of(one, target_per_s, priced=priced) for one in options}
    cheapest = min(cost.values())
    slack = TOLERANCE if target_per_s is None else _ROUNDING
    near = [one for one in options if cost[id(one)] <= cheapest * (1 + slack)]
    fewest = min(one.num_gpus for one in near)
    near = [one for one in near if one.num_gpus == fewest]
    near = [one for one in near if not is_lossy(one)] or near
    most = max(one.search.rate_per_s for one in near)
    near = [one for one in near if one.search.rate_per_s >= most * (1 - TOLERANCE)]
    return min(near, key=lambda one: (num_changed(one, flags), -one.search.rate_per_s))


def is_lossy(option: Option) -> bool:
    """Whether the KV cache is stored in fewer bits than the model's own: answers may change."""
    dtype = option.server.deployment.kv_cache_dtype
    return kv_dtype(dtype).bits < kv_dtype("auto").bits


def own_flags(server: Server) -> dict[str, object]:
    """The engine's own values of the flags that a grid may vary, for this card."""
    engine = load_engine(server.engine)
    tokens, seqs = batch_defaults(server.gpu, engine=engine)
    return {
        "block_size": BLOCK_SIZE,
        "gpu_memory_utilization": engine.gpu_memory_utilization,
        "max_num_seqs": seqs,
        "max_num_batched_tokens": tokens,
        "kv_cache_dtype": "auto",
        "enable_prefix_caching": True,
    }


def num_changed(option: Option, flags: Sequence[str]) -> int:
    """How many of these flags differ from the engine's own."""
    own = own_flags(option.server)
    return sum(option.spec.flags.get(name) not in (None, own.get(name)) for name in flags)


def with_defaults(spec: ServerSpec, flags: Sequence[str]) -> ServerSpec:
    """The same GPUs with the engine's own values of these flags."""
    own = {"block_size": BLOCK_SIZE, "kv_cache_dtype": "auto"}
    return spec.changed(**{name: own.get(name) for name in flags})
