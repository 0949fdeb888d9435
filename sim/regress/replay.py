"""One case replayed: its trace through its server, to numbers that a baseline keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields
from functools import lru_cache
from typing import Any

from ...calibration.costs import DEFAULT as DEFAULT_COST
from ...traces.intake import Intake, Taken, take_in
from ..deployment import Deployment
from ..job import simulate_server
from ..load import load_server
from ..provenance import digest
from ..server import Server
from ..summary import plain
from .baseline import Baseline
from .keys import Asked, asked
from .metrics import flat_metrics
from .suite import Case, Suite

_ALSO = (
    *("quantization", "profile", "num_gpu_blocks_override", "kv_cache_memory_bytes"),
    *("non_kv_memory", "hybrid_kv_cache", "concurrency"),
)
"""Options that decide the server or the load, and are no fields of a deployment."""
_DIGESTS = ("trace", "cost", "budget")


def replayed(case: Case, suite: Suite) -> Baseline:
    """Simulate a case.

    Raises:
        ValueError: a trace that cannot be read, a flag out of range; the sentence names the case.
    """
    try:
        return _replayed(case, asked(case.options, suite.folder))
    except ValueError as error:
        where = "" if case.line is None else f", line {case.line}"
        raise ValueError(f"{suite.path}{where}, case {case.name!r}: {error}") from None


def _replayed(case: Case, wanted: Asked) -> Baseline:
    taken, concurrency = _taken(wanted.intake), wanted.intake.concurrency
    server = load_server(taken.trace, hardware=wanted.hardware, flags=wanted.flags)
    if not taken.arrivals:
        raise ValueError("the trace has no times: set rate, arrival_process or concurrency.")
    _, summary = simulate_server(server, trace=taken.trace, concurrency=concurrency)
    return Baseline(
        case=case.name,
        server=server_facts(server, case.options),
        digests={name: summary.digests[name] for name in _DIGESTS},
        metrics=flat_metrics(summary.to_json()),
    )


@lru_cache(maxsize=4)
def _taken(intake: Intake) -> Taken:
    """Cases of one suite share their traces."""
    return take_in(intake)


def forget_traces() -> None:
    """Before a suite is run: files may have changed since they were read."""
    _taken.cache_clear()


def server_facts(server: Server, options: Mapping[str, Any]) -> dict[str, object]:
    """The names of a server's parts, and every flag that is not the default."""
    facts = {
        "model": server.model.name,
        "gpu": server.gpu.name,
        "engine": server.engine,
        "step_cost": options.get("step_cost", DEFAULT_COST),
        **{name: options[name] for name in _ALSO if name in options},
    }
    flags = asdict(server.deployment)
    for field in fields(Deployment):
        value = getattr(server.deployment, field.name)
        if field.default is MISSING or value != field.default:
            mark = field.name == "kv_groups"
            facts[field.name] = _mark(server) if mark else plain(flags[field.name])
    return facts


def _mark(server: Server) -> str:
    """Many lines in one word."""
    return digest(server.deployment.to_json()["kv_groups"])[:16]
