"""Makes a profile of what was measured: the fit, what is missing and why, the run.

What is missing is one entry a family, ``family: reason; reason``, so that a later fit of the same
samples, which knows of no budget, keeps it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from ..profile.fit import fit_profile
from ..profile.values import FAMILIES, Profile, Sample
from .card import Identity
from .partial import Partial
from .point import Point
from .points import Plan

INTERESTING = ("name", "case", "op", "what", "layer", "kv_dtype", "how", "mode")


def assemble(identity: Identity, plan: Plan, partial: Partial, ended: str) -> Profile:
    """The profile of all samples so far.

    Raises:
        ValueError: there is nothing to make one of.
    """
    samples = ordered(plan, partial)
    if not samples:
        raise ValueError(f"nothing was measured: {ended or next(iter(partial.failures.values()))}.")
    fitted = fit_profile(samples, hardware=identity.hardware)
    return Profile(
        id=_profile_id(identity, partial, samples),
        provenance="measured",
        hardware=identity.hardware,
        software=identity.software,
        run=_run(plan, partial, samples, fitted.drift_pct),
        model=plan.model,
        ceilings=fitted.ceilings,
        decode=fitted.decode,
        prefill=fitted.prefill,
        gemm_tables=fitted.gemm_tables,
        gemm=fitted.gemm,
        lines=fitted.lines,
        residuals=fitted.residuals,
        missing=missing(plan, partial, ended, fitted.missing),
    )


def missing(
    plan: Plan, partial: Partial, ended: str, of_the_fit: Sequence[str] = ()
) -> tuple[str, ...]:
    """One entry a family; what the session knows replaces what the fit sees."""
    found: dict[str, list[str]] = {}
    for entry in (*plan.missing, *_unmeasured(plan, partial, ended), *_failed(plan, partial)):
        family, _, reason = entry.partition(": ")
        found.setdefault(family, []).append(reason)
    entries = {entry.partition(":")[0]: entry for entry in of_the_fit}
    entries |= {family: f"{family}: {'; '.join(reasons)}" for family, reasons in found.items()}
    return tuple(entries.values())


def ordered(plan: Plan, partial: Partial) -> list[Sample]:
    """Samples in the order of families and points, whatever the order of measuring was."""
    rank = {name: i for i, name in enumerate(FAMILIES)}
    known = sorted(plan.points, key=lambda point: (rank[point.family], point.key))
    return [partial.samples[p.key] for p in known if p.key in partial.samples]


def _run(
    plan: Plan, partial: Partial, samples: Sequence[Sample], drift_pct: float | None
) -> dict[str, Any]:
    """When and how; several sessions of one run one after another."""
    runs = partial.runs
    return {
        "started_utc": runs[0]["started_utc"],
        "seconds": round(sum(run["seconds"] for run in runs), 1),
        "sessions": len(runs),
        "cards": len({run["uuid_hash"] for run in runs}),
        "seed": plan.seed,
        "budget_s": plan.budget_s,
        "num_samples": len(samples),
        "num_noisy": sum("noisy" in sample.flags for sample in samples),
        **({} if drift_pct is None else {"drift_pct": drift_pct}),
        "clocks_source": runs[-1]["clocks_source"],
        "clocks_columns": runs[-1]["clocks_columns"],
        "clocks_log": [row for run in runs for row in run["clocks_log"]],
    }


def _unmeasured(plan: Plan, partial: Partial, ended: str) -> list[str]:
    """Families of which points are left over, and why."""
    why = f"budget of {plan.budget_s:g} s" if ended == "budget" else ended
    total = Counter(point.family for point in plan.points)
    left = Counter(point.family for point in plan.points if point.key not in partial)
    return [
        f"{name}: {why}: {total[name] - left[name]} of {total[name]} points measured"
        for name in FAMILIES
        if left[name]
    ]


def _failed(plan: Plan, partial: Partial) -> list[str]:
    """Families of which points cannot run; each reason once, with how many."""
    found: dict[tuple[str, str], list[Point]] = defaultdict(list)
    for point in plan.points:
        if point.key in partial.failures:
            found[point.family, partial.failures[point.key]].append(point)
    return [
        f"{family}: {_brief(points)} failed: {reason}" for (family, reason), points in found.items()
    ]


def _brief(points: Sequence[Point]) -> str:
    first = " ".join(str(points[0].x[name]) for name in INTERESTING if name in points[0].x)
    return first if len(points) == 1 else f"{first} and {len(points) - 1} more"


def _profile_id(identity: Identity, partial: Partial, samples: Sequence[Sample]) -> str:
    """``h200.2026-11-22.a1b2``: card, day and four digits of what was measured."""
    times: list[Mapping[str, Any]] = [{"x": dict(s.x), "t": list(s.t)} for s in samples]
    digest = hashlib.sha256(json.dumps(times, sort_keys=True).encode()).hexdigest()
    return f"{identity.hardware.gpu}.{partial.runs[0]['started_utc'][:10]}.{digest[:4]}"
