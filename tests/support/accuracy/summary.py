"""Every claim of accuracy in one table: the figure, what it is held against, what makes it again.

Claims that rest on a recording beside the repository are in ``measured_rows``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch

from kvsim.calibration.datasheet import DATASHEET_BAND
from kvsim.calibration.silicon.source import BAND
from kvsim.sim.planner.search import TOLERANCE
from kvsim.sim.streaming.fold import STATED_ACCURACY
from support.accuracy.exact import GOLDEN, conformed, sketch_error
from support.accuracy.laws import SEEDS, rate_error, waits
from support.accuracy.memory import met
from support.accuracy.papers import count
from support.accuracy.times import derived, published, run_errors
from support.accuracy.toy import worst
from support.paged import TOLERANCE as TOLERANCES

HEAD = ("| claim | figure | held against | unseen? | made again by |", "|---|---|---|---|---|")
SEEN, NONE = "no fit, but the band was set around it", "nothing is fitted"
DTYPES = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32"}


class Claim(NamedTuple):
    """One line."""

    what: str
    figure: str
    against: str
    unseen: str
    command: str

    def __str__(self) -> str:
        return f"| {self.what} | {self.figure} | {self.against} | {self.unseen} | {self.command} |"


def block() -> str:
    """All that the repository alone can make."""
    return _table([*exact_rows(), *law_rows(), *data_rows()])


def served_block() -> str:
    """What needs the recording of a served run."""
    return _table(measured_rows())


def exact_rows() -> Iterable[Claim]:
    """Equal or not."""
    yield Claim(
        "vLLM's scheduler and block ledger, step by step",
        f"{conformed(GOLDEN / 'steps')}: no difference",
        "step logs of vLLM 0.33.0 itself",
        "rules from its source; logs as tests",
        "`kvsim conform tests/golden/steps/*.jsonl.gz --traces tests/golden/traces`",
    )
    yield Claim(
        "transformers' continuous batching, step by step",
        "no difference ([below](#schedulers))",
        "transformers 5.23 itself, on a CPU",
        "random workloads",
        "`pytest tests/sim/test_transformers.py`",
    )
    yield Claim(
        "the ledger with real data in its blocks",
        "the same tokens",
        "a plain forward pass without blocks",
        NONE,
        "`pytest tests/calibration/engine/test_tokens.py`",
    )
    yield Claim(
        "kvsim's own kernels, relative error",
        "at most " + ", ".join(f"{most:g} ({DTYPES[kind]})" for kind, most in TOLERANCES.items()),
        "definitions in float64, under Triton's interpreter",
        NONE,
        "`pytest tests/kernels`",
    )
    yield Claim(
        "many steps at once = one by one",
        "the same result",
        "`--exact-steps`",
        NONE,
        "`pytest tests/sim/test_invariants.py`",
    )
    yield Claim(
        "percentiles of a streamed run",
        f"{100 * sketch_error():.3f} % (stated: {100 * STATED_ACCURACY:g} %)",
        "numpy's, of the same times",
        NONE,
        "`pytest tests/sim/test_sketch.py`",
    )


def law_rows() -> Iterable[Claim]:
    """Against theory."""
    errors = [abs(one.error) for one in waits().values()]
    beyond = sum(abs(one.error) > 2 * one.doubt for one in waits().values())
    yield Claim(
        "mean waits of servers and fleets",
        f"{len(errors)} queues within {100 * max(errors):.1f} %, {beyond} beyond two standard "
        "errors",
        "M/D/1, M/M/c, M/D/c",
        NONE,
        "`pytest tests/sim/test_queueing.py tests/sim/fleet/test_queueing.py`",
    )
    yield Claim(
        "the rate that an objective allows",
        f"{100 * rate_error():+.1f} % for one trace ([of {len(SEEDS)}](#laws)); bracket "
        f"{100 * TOLERANCE:g} %",
        "M/M/1",
        NONE,
        "`pytest tests/sim/test_planner_search.py`",
    )
    yield Claim(
        "the interval of a plan's rate, where steps bind",
        "ends as computed by hand",
        "a band of 0.8 to 1.25, to 1e-6",
        NONE,
        "`pytest tests/sim/test_planner_sure.py`",
    )


def data_rows() -> Iterable[Claim]:
    """Against what was measured or printed."""
    yield Claim(
        "whole runs of a real engine: a toy, on a CPU",
        f"output tokens/s within {100 * worst('output_tokens_per_s'):.1f} %, P95 of E2E "
        f"{100 * worst('e2e_p95_s'):.1f} %, of TTFT {100 * worst('ttft_p95_s'):.1f} %, of TPOT "
        f"{100 * worst('tpot_p95_s'):.1f} % ([repeats](#ground-truth-predicted-then-measured))",
        "12 recorded runs, each trace twice",
        "step times fitted to other logs",
        "`pytest tests/sim/groundtruth/test_recorded_toy.py`",
    )
    pool, card = met(), derived()
    steps = {name: ours / said - 1 for name, (said, ours) in published().items()}
    law = [100 * error for name, error in steps.items() if "early" not in name]
    early = [100 * error for name, error in steps.items() if "early" in name]
    yield Claim(
        "KV pool at start-up",
        f"median {100 * pool.median:.1f} %, worst {100 * pool.worst:.1f} % of "
        f"{len(pool.errors)}; {pool.num_segments} more missed by up to "
        f"{100 * pool.worst_segment:.1f} % of the memory",
        "start-up logs of vLLM servers",
        "held out of every constant",
        "`pytest -s tests/calibration/test_startups.py`",
    )
    yield Claim(
        "what papers printed",
        count(),
        "PagedAttention, Mooncake, Jenga, vAttention, Sarathi-Serve",
        "partly ([choices](reproduce.md#how-to-read-it))",
        "`kvsim reproduce --full`",
    )
    yield Claim(
        f"step times, `silicon` (band {BAND.low:.2f} to {BAND.high:.2f})",
        f"{min(law):+.1f} to {max(law):+.1f} %",
        "an H100's published decode law and load",
        SEEN,
        "`pytest tests/calibration/test_anchored_steps.py`",
    )
    yield Claim(
        "the same, prompts",
        f"{min(early):+.1f} to {max(early):+.1f} %",
        "DGX servers of Splitwise, an early stack",
        "yes; the software differs",
        "the same",
    )
    yield Claim(
        "step times, `derived`",
        f"median {100 * card.near:.1f} %, of another generation {100 * card.far:.1f} %; "
        f"{100 * card.in_band[0]:.0f} % and {100 * card.in_band[1]:.0f} % in the band",
        "tables of cards that were left out, not runs",
        "each card in turn",
        "`pytest tests/calibration/profile/test_derived.py`",
    )
    yield Claim(
        f"step times, `datasheet` (band {DATASHEET_BAND.low:.2f} to {DATASHEET_BAND.high:.2f})",
        f"median {100 * card.sheet[0]:.1f} to {100 * card.sheet[1]:.1f} %",
        "the same tables",
        "partly: its decode efficiencies come from such tables, its GEMM from prompts of Splitwise",
        "the same",
    )


def measured_rows() -> Iterable[Claim]:
    """One served run; kernels of that card, timed by others."""
    from support.accuracy.times import SOURCES

    seen = ("yes", SEEN, "the card's kernels are given, the run is not")
    for source, unseen in zip(SOURCES, seen, strict=True):
        errors = {name: 100 * error for name, error in run_errors(source).items()}
        spans = []
        for kind in ("output_tokens_per_s", "ttft_s", "tpot_s", "e2e_s"):
            of_kind = [error for name, error in errors.items() if name.startswith(kind)]
            label = "tokens/s" if kind.startswith("output") else kind.removesuffix("_s").upper()
            spans.append(f"{label} " + "/".join(f"{error:+.1f}" for error in of_kind))
        yield Claim(
            f"a whole run, `{source.partition(':')[0]}`",
            ", ".join(spans) + " %",
            "vLLM 0.19 on an RTX PRO 6000",
            unseen,
            "`pytest tests/sim/test_measured_run.py`",
        )


def _table(claims: Iterable[Claim]) -> str:
    return "\n".join([*HEAD, *map(str, claims)])
