"""The recorded toy engine against the simulator: errors, and what a repeat differs by."""

from __future__ import annotations

from functools import cache
from typing import Any

from support.pages import ROOT

LOGS = ROOT / "tests" / "fixtures" / "groundtruth"
SHOWN = {
    "output_tokens_per_s": "output tokens/s",
    "ttft_p95_s": "TTFT P95",
    "tpot_p95_s": "TPOT P95",
    "e2e_p95_s": "E2E P95",
    "kv_use": "KV in use",
    "num_preemptions": "preemptions",
}


@cache
def compared() -> list[dict[str, Any]]:
    """The logs that were not fitted to, each beside its prediction."""
    from kvsim.sim.groundtruth.truth import compare_logs, truths_json

    fit = sorted((LOGS / "fit").glob("*.jsonl.gz"))
    found = truths_json(compare_logs(sorted(LOGS.glob("*.jsonl.gz")), fit=fit))
    return list(found["logs"])


def worst(name: str) -> float:
    """The largest error of a figure over the logs."""
    figures = (one for log in compared() for one in log["figures"])
    return max(abs(one["error"] or 0.0) for one in figures if one["name"] == name)


def groundtruth_block() -> str:
    """A line for each log that was not fitted to."""
    lines = [f"| run | {' | '.join(SHOWN.values())} |", "|---" * (1 + len(SHOWN)) + "|"]
    for log in compared():
        figures = {one["name"]: one for one in log["figures"]}
        cells = [_cell(**figures[name]) for name in SHOWN]
        lines.append(f"| {log['log']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(error: float | None, noise: float | None, **_: object) -> str:
    said = "-" if error is None else f"{100 * error:+.1f} %"
    return said if noise is None else f"{said} ({100 * noise:.1f})"
