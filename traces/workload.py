"""Synthetic workloads: `synthesize` turns a `Workload` and a seed into a `Trace`.

One random stream per purpose, `SeedSequence(seed).spawn`: lengths do not change when the arrivals
do. Draws are whole tokens and whole nanoseconds.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .arrivals import arrival_times, check_process
from .columns import Floats, Ids, Ints
from .lengths import Lengths, fixed
from .prefixes import PrefixGroups, prefix_chains
from .sessions import Sessions, grown_prompts, parents_of, split_sessions
from .trace import Trace

DEFAULT_HASH_BLOCK_SIZE = 16  # tokens; the engine's own block size
_MAX_ROUNDS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """An arrival process; see `arrivals`. Raises ValueError for a bad parameter."""

    process: str = "poisson"
    rate_per_s: float | None = None  # requests; with sessions, sessions
    burstiness: float = 1.0

    def __post_init__(self) -> None:
        check_process(self.process, self.rate_per_s, self.burstiness)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What to draw. `arrivals` None = lengths only (closed loop, or arrivals supplied later).

    A request whose prompt + output pass `max_total_tokens` is drawn again. Prefix tokens come on
    top of the drawn prompt; with `sessions`, the drawn prompt is what a turn adds, and a turn that
    would pass the limit starts a new session. Each session is one of `tenants` tenants', equally
    likely.
    """

    name: str
    prompt: Lengths
    output: Lengths
    arrivals: Arrivals | None = None
    max_total_tokens: int | None = None
    prefix_groups: PrefixGroups | None = None
    sessions: Sessions | None = None
    tenants: int = 1
    hash_block_size: int = DEFAULT_HASH_BLOCK_SIZE
    source: str = ""

    def __post_init__(self) -> None:
        if self.hash_block_size < 1:
            raise ValueError(f"hash_block_size(={self.hash_block_size}) must be > 0.")
        if self.tenants < 1:
            raise ValueError(f"tenants(={self.tenants}) must be > 0.")
        if self.max_total_tokens is not None and self.max_total_tokens < 2 + self.prefix_tokens:
            raise ValueError(
                f"max_total_tokens(={self.max_total_tokens}) must be >= {2 + self.prefix_tokens}."
            )

    @property
    def prefix_tokens(self) -> int:
        return 0 if self.prefix_groups is None else self.prefix_groups.prefix_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class _Streams:
    """One generator per purpose. New ones go to the end: the others must not change."""

    prompt: np.random.Generator
    output: np.random.Generator
    arrivals: np.random.Generator
    groups: np.random.Generator
    turns: np.random.Generator
    think: np.random.Generator
    tenants: np.random.Generator


def fixed_workload(
    *, prompt_tokens: int, output_tokens: int, arrivals: Arrivals | None = None
) -> Workload:
    """Every request alike."""
    name = f"fixed-{prompt_tokens}-{output_tokens}"
    for field, tokens in (("prompt_tokens", prompt_tokens), ("output_tokens", output_tokens)):
        if tokens < 1:
            raise ValueError(f"{field}(={tokens}) must be > 0.")
    return Workload(
        name=name, prompt=fixed(prompt_tokens), output=fixed(output_tokens), arrivals=arrivals
    )


def synthesize(*, workload: Workload, num_requests: int, seed: int) -> Trace:
    """`num_requests` requests of `workload`; the same arguments give the same trace.

    Raises ValueError where a number is out of range or the lengths never fit `max_total_tokens`.
    """
    if num_requests < 1:
        raise ValueError(f"num_requests(={num_requests}) must be > 0.")
    if seed < 0:
        raise ValueError(f"seed(={seed}) must be >= 0.")
    streams = _streams(seed)
    session = _session_numbers(workload, num_requests, streams)
    prompt, output, session = _lengths(workload, session, streams)
    parent = parents_of(session) if workload.sessions is not None else None
    hash_ids, hash_offsets = _chains(workload, prompt, session, streams)
    trace = Trace(
        name=workload.name,
        prompt_tokens=prompt,
        output_tokens=output,
        arrival_s=None,
        hash_ids=hash_ids,
        hash_offsets=hash_offsets,
        hash_block_size=None if hash_ids is None else workload.hash_block_size,
        parent=parent,
        tenant=_tenants(workload, session, streams),
        delay_s=None if parent is None else _delays(workload, parent, streams),
    )
    return _arriving(trace, workload.arrivals, streams.arrivals)


def own_arrival_stream(seed: int) -> np.random.Generator:
    """The stream of a workload's own arrivals."""
    return _streams(seed).arrivals


def _streams(seed: int) -> _Streams:
    names = ("prompt", "output", "arrivals", "groups", "turns", "think", "tenants")
    children = np.random.SeedSequence(seed).spawn(len(names))
    return _Streams(**{n: np.random.default_rng(c) for n, c in zip(names, children, strict=True)})


def _session_numbers(workload: Workload, num_requests: int, streams: _Streams) -> Ints:
    if workload.sessions is None:
        return np.arange(num_requests, dtype=np.int64)
    return workload.sessions.number(num_requests, streams.turns)


def _lengths(workload: Workload, session: Ints, streams: _Streams) -> tuple[Ints, Ints, Ints]:
    """Prompt and output tokens and session (n,), all within the limit.

    A first turn that passes it is drawn again; a later one starts a session of its own.
    """
    prompt = workload.prompt.sample(len(session), streams.prompt)
    output = workload.output.sample(len(session), streams.output)
    limit = workload.max_total_tokens
    for _ in _rounds(workload):
        whole = grown_prompts(prompt, output, session) + workload.prefix_tokens
        too_long = whole + output > limit if limit is not None else np.zeros(len(whole), np.bool_)
        if not too_long.any():
            break
        session, again = split_sessions(session, too_long)
        prompt[again] = workload.prompt.sample(len(again), streams.prompt)
        output[again] = workload.output.sample(len(again), streams.output)
    return whole, output, session


def _rounds(workload: Workload) -> Iterator[int]:
    yield from range(_MAX_ROUNDS)
    raise ValueError(
        f"max_total_tokens(={workload.max_total_tokens}) is too small for workload "
        f"{workload.name!r}: requests still pass it after {_MAX_ROUNDS} draws."
    )


def _chains(
    workload: Workload, prompt: Ints, session: Ints, streams: _Streams
) -> tuple[Ids | None, Ints | None]:
    if workload.prefix_groups is None and workload.sessions is None:
        return None, None
    group = np.zeros(len(session), dtype=np.int64)
    if workload.prefix_groups is not None:
        group = workload.prefix_groups.choose(len(session), streams.groups)[session]
    return prefix_chains(
        prompt,
        session,
        group,
        prefix_tokens=workload.prefix_tokens,
        block_size=workload.hash_block_size,
    )


def _tenants(workload: Workload, session: Ints, streams: _Streams) -> Ints | None:
    if workload.tenants == 1:
        return None
    return streams.tenants.integers(workload.tenants, size=len(session))[session]


def _delays(workload: Workload, parent: Ints, streams: _Streams) -> Floats:
    assert workload.sessions is not None
    think_s = workload.sessions.think_s(len(parent), streams.think)
    return np.where(parent >= 0, think_s, np.nan)


def _arriving(trace: Trace, arrivals: Arrivals | None, rng: np.random.Generator) -> Trace:
    if arrivals is None:
        return trace
    return trace.with_arrivals(
        arrival_times(
            trace.num_roots,
            process=arrivals.process,
            rate_per_s=arrivals.rate_per_s,
            burstiness=arrivals.burstiness,
            rng=rng,
        )
    )
