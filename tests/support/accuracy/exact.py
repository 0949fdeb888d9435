"""What must be equal: the scheduler's steps, of vLLM and of transformers; and percentiles."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kvsim.sim.conformance import first_difference, load_case
from kvsim.sim.streaming.sketch import Sketch
from support.marks import SHARED
from support.pages import ROOT
from support.paper import FIG_2, FIG_13, orca, paged

GOLDEN = ROOT / "tests" / "golden"
LARGE = SHARED / "golden" / "steps"


class Conformed(NamedTuple):
    """Of recorded runs: those that match in every step, all, and the steps of the former."""

    num_same: int
    num_runs: int
    num_steps: int

    def __str__(self) -> str:
        return f"{self.num_same} of {self.num_runs} runs, {self.num_steps:,} steps"


@cache
def conformed(folder: Path, pattern: str = "*.jsonl.gz") -> Conformed:
    """Replay every log of a folder."""
    cases = [load_case(path) for path in sorted(folder.glob(pattern))]
    same = [case for case in cases if first_difference(case) is None]
    return Conformed(len(same), len(cases), sum(len(case.steps) for case in same))


def conformance_block() -> str:
    """How many recorded runs of the real scheduler are reproduced."""
    found = conformed(GOLDEN / "steps")
    return (
        f"{found.num_same} of {found.num_runs} recorded runs in `tests/golden` match in every one "
        f"of their {found.num_steps:,} steps."
    )


def large_block() -> str:
    """Those that are too large for the repository."""
    return f"Six more are too large for this repository: {conformed(LARGE, '07_*')} match."


def transformers_block() -> str:
    """Random requests that the library itself served."""
    from support.random_transformers import SEEDS, compare_random

    found = compare_random(SEEDS)
    return (
        f"{found.num_cases} of {len(SEEDS)} random workloads are the same in every one of their "
        f"{found.num_steps:,} steps."
    )


@cache
def sketch_error() -> float:
    """The largest of a streamed run's percentiles, over lognormal times, as a share."""
    times = np.random.default_rng(0).lognormal(-1.0, 1.5, 200_000)
    sketch = Sketch()
    sketch.add(times)
    shares = (0.5, 0.9, 0.95, 0.99)
    errors = [sketch.quantile(q, linear=True) / np.quantile(times, q) - 1 for q in shares]
    return float(np.abs(errors).max())


def paper_block() -> str:
    """The paper's figures beside the simulated ones."""
    lines = [
        "| OPT-13B, ShareGPT lengths | requests at once | token states | reserved | internal "
        "| external |",
        "|---|---|---|---|---|---|",
    ]
    for reservation, shares in FIG_2.items():
        found = orca("sharegpt", reservation)
        share = found.pool_share
        ours = (share.token_states, share.reserved, share.internal, share.external)
        pairs = [f"{100 * x:.1f} % ({100 * y:.1f})" for x, y in zip(ours, shares, strict=True)]
        printed = FIG_13["sharegpt", reservation]
        running = f"{found.mean_running:.2f} ({printed:.2f})"
        lines.append(f"| Orca ({reservation}) | {running} | {' | '.join(pairs)} |")
    found = paged("sharegpt")
    states = f"{100 * found.pool_share.token_states:.1f} % (96.3)"
    lines.append(f"| paged, blocks of 16 | {found.mean_running:.1f} | {states} | | | 0 |")
    return "\n".join(lines)
