"""The highest request rate at which an objective holds.

1. Under backlog: the rate that the server can sustain at all. No rate above it is tried.
2. On a short part of the trace: a few rates over the whole range, then closing in.
3. On a long run (the whole trace, or several turns of it): the rate found, and one a little higher;
   where the long run disagrees, up or down from there. Only a rate that a long run has held is
   given as the answer. A long run ends once its objective is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ...traces import Trace
from ..backlog import Backlog
from ..job import Report
from ..parallel import jobs_for, run_each
from ..saturated import saturate
from ..server import Server
from ..slo import SLO
from .binding import bindings
from .bracket import Ask, between, close_in, crossing
from .extent import Extent, long_extent, most_running, short_extent
from .probe import Probe, probe_extent
from .rate_search import RateSearch as RateSearch

TOLERANCE = 0.02
"""Relative distance of the rate that holds and the one that does not, both in the long run."""
SHORT_TOLERANCE = 0.06
"""The same for the short part, whose answer is refined by the long run anyway."""
GRID = (0.25, 0.5, 0.75, 1.0)
"""Shares of the sustained rate that are tried first."""
UNLOADED = 0.02
"""Share of the sustained rate that stands for a server with nothing to do."""
FIRST_PAIR = 1.05
"""Between the first two long runs: far enough apart to draw a line through them."""
MOST_ROUNDS = 6
ABOUT_PROBES = 12
"""What progress is measured by."""


def search_rate(
    server: Server,
    trace: Trace,
    slo: SLO,
    *,
    title: str = "",
    report: Report | None = None,
    guess_per_s: float | None = None,
    jobs: int | None = None,
) -> RateSearch:
    """Look for the rate on a short part of the trace, confirm it on a long run.

    Args:
        server: what serves.
        trace: with arrival times, whose pattern is kept.
        slo: the objective.
        title: what to tell ``report``.
        report: told about progress.
        guess_per_s: a rate to begin around, such as that of a server much like it.
        jobs: processes; by default one per core.

    Raises:
        ValueError: the server can run no request of the trace, or the trace has no rate.
    """
    _, backlog = saturate(server, trace, title=f"{title}: backlog", report=report)
    running, top = most_running(backlog, trace, slo), backlog.requests_per_s
    full = long_extent(trace, running=running)
    asked: list[float] = []
    allowed = 1 - slo.quantile

    def asking(extent: Extent, *, confirms: bool) -> Ask:
        before = len(asked)

        def ask(rates: Sequence[float]) -> Sequence[Probe]:
            one = partial(
                probe_extent,
                server,
                extent,
                slo=slo,
                confirms=confirms,
                stop_early=confirms and len(asked) > before,  # the first tell how far to go
            )
            tasks = [(f"rate {rate:.3g}/s", partial(one, rate)) for rate in rates]
            if report is not None:
                shown = " and ".join(f"{rate:.3g}" for rate in rates)
                what = "confirming" if confirms else "trying"
                about = max(ABOUT_PROBES, len(asked) + len(rates))
                report(f"{title}: {what} {shown} requests/s", len(asked), about)
            asked.extend(rates)
            share = jobs_for(2 * len(full.trace)) if jobs is None else jobs  # also the short part's
            return run_each(tasks, title=title, jobs=share)

        return ask

    short: dict[float, Probe] = {}
    guess = guess_per_s
    if guess is None:
        short = close_in(
            asking(short_extent(trace, running=running), confirms=False),
            [share * top for share in GRID],
            allowed=allowed,
            top=top,
            bottom=UNLOADED * top,
            tolerance=SHORT_TOLERANCE,
            most_rounds=MOST_ROUNDS,
            stride=2.0,
        )
        guess = between(short)[0] and (crossing(short, allowed) or between(short)[0])
    long: dict[float, Probe] = {}
    if guess is not None:
        long = close_in(
            asking(full, confirms=True),
            (min(guess, top) / FIRST_PAIR, guess),
            allowed=allowed,
            top=top,
            bottom=UNLOADED * top,
            tolerance=TOLERANCE,
            most_rounds=MOST_ROUNDS,
            stride=FIRST_PAIR,
        )
    return _made(slo, short, long, backlog, server)


def _made(
    slo: SLO,
    short: dict[float, Probe],
    long: dict[float, Probe],
    backlog: Backlog,
    server: Server,
) -> RateSearch:
    low, _ = between(long)
    probes = sorted((*short.values(), *long.values()), key=lambda p: (p.rate_per_s, p.confirms))
    best = None if low is None else long[low]
    rate = 0.0 if best is None else best.rate_per_s
    above = next((one for one in probes if not one.holds and one.rate_per_s > rate), None)
    found = bindings(above or probes[-1], server, slo)
    return RateSearch(
        slo=slo,
        probes=tuple(probes),
        saturated_per_s=backlog.requests_per_s,
        best=best,
        bound_by=found[0].kind,
        bindings=found,
    )


def search_rates(
    servers: Sequence[tuple[str, Server]],
    trace: Trace,
    slo: SLO,
    *,
    title: str = "rate at the objective",
    report: Report | None = None,
    jobs: int | None = None,
) -> list[RateSearch]:
    """The same for several servers, spread over the cores.

    Of those on the same GPUs the first is looked at before the others, which begin around its rate.

    Args:
        servers: with the names that ``report`` is told.
        trace: what each serves.
        slo: the objective.
        title: of all of it, for ``report``.
        report: told about progress.
        jobs: processes; by default one per core.
    """
    leaders: dict[Kin, int] = {}
    for place, (_, server) in enumerate(servers):
        leaders.setdefault(_kin(server), place)
    first = [place for place in range(len(servers)) if place in leaders.values()]
    rest = [place for place in range(len(servers)) if place not in leaders.values()]
    found: dict[int, RateSearch] = {}
    for places in (first, rest):
        guesses = [found[leaders[_kin(servers[place][1])]] if found else None for place in places]
        searches = _several(
            [servers[place] for place in places], guesses, trace, slo, title, report, jobs
        )
        found.update(zip(places, searches, strict=True))
    return [found[place] for place in range(len(servers))]


Kin = tuple[str, int, int]


def _kin(server: Server) -> Kin:
    """Servers on the same GPUs: their rates are near each other."""
    flags = server.deployment
    return server.gpu.name, flags.tensor_parallel_size, flags.pipeline_parallel_size


def _several(
    servers: Sequence[tuple[str, Server]],
    kin: Sequence[RateSearch | None],
    trace: Trace,
    slo: SLO,
    title: str,
    report: Report | None,
    jobs: int | None,
) -> list[RateSearch]:
    """Each with the rate of its kin to begin around, where it has one."""
    guesses = [one.rate_per_s or None if one is not None else None for one in kin]
    if len(servers) == 1:
        (name, server), *_ = servers
        only = search_rate(
            server, trace, slo, title=name, report=report, guess_per_s=guesses[0], jobs=jobs
        )
        return [only]
    tasks = [
        (name, partial(search_rate, server, trace, slo, title=name, guess_per_s=guess))
        for (name, server), guess in zip(servers, guesses, strict=True)
    ]
    return run_each(tasks, title=title, jobs=jobs, report=report)
